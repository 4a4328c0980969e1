//! A bounded cache of what was found out, for a time.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Values by the hash of what was asked; the oldest goes first.
#[derive(Debug)]
pub(super) struct Cache<T> {
    max: usize,
    values: HashMap<[u8; 32], (T, Instant)>,
    /// In the order in which they came, each as often as it was put in.
    order: VecDeque<[u8; 32]>,
}

impl<T: Clone> Cache<T> {
    /// Of so many values at most.
    pub(super) fn new(max: usize) -> Self {
        Self { max, values: HashMap::new(), order: VecDeque::new() }
    }

    /// The value, if it still counts.
    pub(super) fn find(&self, key: &[u8; 32], now: Instant) -> Option<T> {
        let (value, end) = self.values.get(key)?;
        (now < *end).then(|| value.clone())
    }

    /// Keeps a value for a time.
    pub(super) fn keep(&mut self, key: [u8; 32], value: T, now: Instant, time: Duration) {
        if time.is_zero() {
            return;
        }
        if self.values.insert(key, (value, now + time)).is_none() {
            self.order.push_back(key);
        }
        while self.values.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_count_for_their_time_and_the_oldest_makes_room() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut cache = Cache::new(2);
        for number in [1_u8, 2, 2, 3] {
            cache.keep([number; 32], number, now, second);
        }
        let find = |number: u8, at| cache.find(&[number; 32], at);
        assert_eq!([1, 2, 3].map(|number| find(number, now)), [None, Some(2), Some(3)]);
        assert_eq!(find(3, now + second), None);
        assert_eq!((cache.values.len(), cache.order.len()), (2, 2));
        cache.keep([9; 32], 9, now, Duration::ZERO);
        assert_eq!(cache.find(&[9; 32], now), None);
    }
}

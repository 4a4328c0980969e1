//! A rate that many streams share.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Bytes per second that all who [`Self::take`] have together; by default any number. Whoever comes
/// first is served first, so that streams which take pieces of the same size have the same share.
#[derive(Debug)]
pub struct RateLimit {
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    rate: Option<u64>,
    /// When all that was taken has passed at this rate.
    paid: Instant,
}

impl RateLimit {
    /// `None`: no limit.
    #[must_use]
    pub fn new(rate: Option<u64>) -> Self {
        Self { bucket: Mutex::new(Bucket { rate: positive(rate), paid: Instant::now() }) }
    }

    /// Changes the rate for what is taken from now on.
    pub fn set(&self, rate: Option<u64>) {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.rate = positive(rate);
        // What was taken at a lower rate does not hold up others.
        bucket.paid = bucket.paid.min(Instant::now() + BURST);
    }

    /// Bytes per second; `None`: no limit.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner).rate
    }

    /// Waits until `bytes` may pass.
    pub async fn take(&self, bytes: u64) {
        let due = {
            let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take(bytes, Instant::now())
        };
        if let Some(due) = due {
            tokio::time::sleep_until(due).await;
        }
    }
}

impl Bucket {
    /// When `bytes` may pass; `None`: now.
    fn take(&mut self, bytes: u64, now: Instant) -> Option<Instant> {
        let rate = self.rate?;
        let start = self.paid.max(now.checked_sub(BURST).unwrap_or(now));
        let wait_ns = u128::from(bytes) * 1_000_000_000 / u128::from(rate);
        self.paid = start + Duration::from_nanos(u64::try_from(wait_ns).unwrap_or(u64::MAX / 2));
        (self.paid > now).then_some(self.paid)
    }
}

/// A rate of nothing would hold up its streams for ever: it counts as one byte a second.
fn positive(rate: Option<u64>) -> Option<u64> {
    rate.map(|rate| rate.max(1))
}

/// Time for which bytes may be saved up.
const BURST: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_lets_pass_its_rate_and_one_burst() {
        let now = Instant::now();
        let mut bucket = Bucket { rate: Some(1_000_000), paid: now };
        let later = now + Duration::from_secs(10);
        let mut passed = 0_u64;
        // 50 ms are saved up, however long nobody took.
        while bucket.take(10_000, later).is_none() {
            passed += 10_000;
        }
        assert_eq!(passed, 50_000);
        let due = (0..99).filter_map(|_| bucket.take(10_000, later)).last().unwrap();
        assert_eq!(due - later, Duration::from_secs(1));
    }

    #[test]
    fn no_rate_lets_all_pass_and_a_rate_of_nothing_is_one_byte() {
        let now = Instant::now();
        let mut bucket = Bucket { rate: None, paid: now };
        assert_eq!(bucket.take(u64::MAX, now), None);
        let limit = RateLimit::new(Some(0));
        assert_eq!(limit.rate(), Some(1));
        limit.set(Some(5));
        assert_eq!(limit.rate(), Some(5));
        limit.set(None);
        assert_eq!(limit.rate(), None);
    }
}

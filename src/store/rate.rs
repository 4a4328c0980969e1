//! A rate that many streams share.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::dist::uplink::Bucket;

/// Bytes per second that all who [`Self::take`] have together; by default any number. Whoever comes
/// first is served first, so that streams which take pieces of the same size have the same share.
#[derive(Debug)]
pub struct RateLimit {
    bucket: Mutex<Bucket>,
    /// Time zero of the bucket.
    started: Instant,
}

impl RateLimit {
    /// `None`: no limit.
    #[must_use]
    pub fn new(rate: Option<u64>) -> Self {
        Self { bucket: Mutex::new(Bucket::new(rate)), started: Instant::now() }
    }

    /// Changes the rate for what is taken from now on.
    pub fn set(&self, rate: Option<u64>) {
        let now_ns = self.now_ns();
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner).set_rate(rate, now_ns);
    }

    /// Bytes per second; `None`: no limit.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner).rate()
    }

    /// Waits until `bytes` have passed.
    pub async fn take(&self, bytes: u64) {
        let now_ns = self.now_ns();
        let passed_ns = {
            let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take(bytes, now_ns);
            bucket.free_ns()
        };
        if passed_ns > now_ns {
            tokio::time::sleep_until(self.started + Duration::from_nanos(passed_ns)).await;
        }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn takers_together_keep_to_the_rate_behind_one_burst() {
        let limit = RateLimit::new(Some(1_000_000));
        let began = Instant::now();
        for _ in 0..20 {
            limit.take(10_000).await;
        }
        // 50 ms are saved up at most.
        assert!(began.elapsed() >= Duration::from_millis(149), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn no_rate_lets_all_pass_and_a_rate_of_nothing_is_one_byte() {
        let limit = RateLimit::new(None);
        limit.take(u64::MAX).await;
        let limit = RateLimit::new(Some(0));
        assert_eq!(limit.rate(), Some(1));
        limit.set(Some(5));
        assert_eq!(limit.rate(), Some(5));
        limit.set(None);
        assert_eq!(limit.rate(), None);
    }
}

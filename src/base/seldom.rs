//! Says what strangers cause once in a while, with how often it happened since.

use std::time::Duration;

use super::time::Mono;

/// One kind of thing that is said.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seldom {
    said: Option<Mono>,
    unsaid: u64,
}

impl Seldom {
    /// It has happened. `Some` when it is to be said: how often it happened since the last time
    /// that it was.
    pub fn happened(&mut self, now: Mono) -> Option<u64> {
        self.unsaid += 1;
        if self.said.is_some_and(|said| now.since(said) < INTERVAL) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// An operator who watches sees that it goes on; a log that is kept does not fill.
const INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_is_said_at_once_and_those_behind_it_together() {
        let mut seldom = Seldom::default();
        let mut at = |s: u64| seldom.happened(Mono(s * 1_000_000_000));
        assert_eq!((at(1), at(1), at(10)), (Some(1), None, None));
        assert_eq!((at(11), at(12)), (Some(3), None));
    }
}

//! Random numbers of sessions: ids, SSRCs, first sequence numbers, times of reports.
//!
//! They come from the generator of the thread, which nobody can foresee (RFC 3550 s5.1, RFC 2326
//! s3.4). A simulation gives its thread numbers that follow from a seed, so that a run can be
//! repeated; the program never does.

use std::cell::RefCell;
use std::convert::Infallible;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _, TryRng};

thread_local! {
    static FORESEEN: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// The random numbers of this thread.
#[derive(Debug, Clone, Copy)]
pub struct Random;

/// The random numbers of this thread.
#[must_use]
pub fn rng() -> Random {
    Random
}

/// From now on the random numbers of this thread follow from `seed`; `None` ends that.
#[doc(hidden)]
pub fn foresee(seed: Option<u64>) {
    FORESEEN.set(seed.map(StdRng::seed_from_u64));
}

fn with<T>(foreseen: impl FnOnce(&mut StdRng) -> T, unforeseen: impl FnOnce() -> T) -> T {
    FORESEEN.with_borrow_mut(|rng| rng.as_mut().map_or_else(unforeseen, foreseen))
}

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(with(|rng| rng.next_u32(), || rand::rng().next_u32()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(with(|rng| rng.next_u64(), || rand::rng().next_u64()))
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        // Not in the closures: both would borrow `to`.
        let is_foreseen = FORESEEN.with_borrow(Option::is_some);
        if is_foreseen {
            FORESEEN.with_borrow_mut(|rng| rng.as_mut().map(|rng| rng.fill_bytes(to)));
        } else {
            rand::rng().fill_bytes(to);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_from_a_seed_only_where_one_was_given() {
        let three = || [rng().next_u64(), rng().next_u64(), u64::from(rng().next_u32())];
        foresee(Some(7));
        let first = three();
        foresee(Some(7));
        assert_eq!(three(), first);
        foresee(Some(8));
        assert_ne!(three(), first);
        foresee(None);
        assert_ne!(three(), three());
    }
}

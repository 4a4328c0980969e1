//! What a thread is to do, gathered while it is busy.
//!
//! ```text
//! task --change--> T (one, behind a lock) --take: all of it--> thread
//!            '------------ a bell --------------^
//! ```
//! A queue of single things would grow while a disk stands still. Here what is to be done is one
//! value, in which the newer takes the place of what it makes void; how large it can be is said by
//! its type. Invariants: nothing that was put in is lost, the last of it too when the feeder has
//! gone; whoever changes it never waits for the thread.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// The side that puts in.
#[derive(Debug)]
pub(super) struct Feeder<T> {
    shared: Arc<Mutex<T>>,
    bell: SyncSender<()>,
}

/// The side of the thread.
#[derive(Debug)]
pub(super) struct Taker<T> {
    shared: Arc<Mutex<T>>,
    bell: Receiver<()>,
    is_over: bool,
}

/// Both sides.
pub(super) fn feed<T: Default>() -> (Feeder<T>, Taker<T>) {
    let shared = Arc::<Mutex<T>>::default();
    let (bell, heard) = sync_channel(1);
    let taker = Taker { shared: Arc::clone(&shared), bell: heard, is_over: false };
    (Feeder { shared, bell }, taker)
}

impl<T> Feeder<T> {
    /// Changes what is to be done.
    pub(super) fn change(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner));
        // Full: the thread has not heard the last one yet. Closed: it has ended with the agent.
        let _rung_already = self.bell.try_send(());
    }

    /// Looks at what is to be done.
    pub(super) fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T: Default> Taker<T> {
    /// All that is to be done, waited for. `None` when the feeder has gone and all was taken.
    pub(super) fn take(&mut self) -> Option<T> {
        if self.is_over {
            return None;
        }
        self.is_over = self.bell.recv().is_err();
        Some(std::mem::take(&mut *self.shared.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_taken_together_and_the_last_when_the_feeder_has_gone() {
        let (feeder, mut taker) = feed::<Vec<u32>>();
        for number in 1..=1_000 {
            feeder.change(|all| all.push(number));
        }
        assert_eq!(feeder.look(Vec::len), 1_000);
        assert_eq!(taker.take().unwrap().len(), 1_000);
        let reader = std::thread::spawn(move || {
            let taken = std::iter::from_fn(|| taker.take()).flatten();
            taken.collect::<Vec<_>>()
        });
        feeder.change(|all| all.push(1));
        feeder.change(|all| all.push(2));
        drop(feeder);
        assert_eq!(reader.join().unwrap(), [1, 2]);
    }
}

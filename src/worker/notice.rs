//! Wakes the main task of a worker from the other tasks of its executor.
//!
//! Invariant: a notice given before the wait ends the wait at once. Never leaves its thread.

use std::cell::{Cell, RefCell};
use std::task::{Poll, Waker};

/// A signal to the main task of a worker, kept until the task takes it.
#[derive(Debug, Default)]
pub(super) struct Notice {
    is_given: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Notice {
    pub(super) fn give(&self) {
        self.is_given.set(true);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Returns at once when there was a notice since the last wait.
    pub(super) async fn wait(&self) {
        std::future::poll_fn(|context| {
            if self.is_given.replace(false) {
                return Poll::Ready(());
            }
            self.waiting.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

//! What other nodes say to this one: orders that they hand on, questions for the base.
//!
//! ```text
//! http::peer --> Door --event--> driver: dist::agent --> answer
//! ```
//! Invariant: the agent decides, one thing after the other. Bounds: whoever speaks waits for
//! `ANSWER_MAX` at most; `SPEAK_MAX` do at once, because what they bring is in memory meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::Event;
use crate::dist::relay::{Answer, RelayError};
use crate::dist::wire::relay::{RelayBody, SignedAnswer};

/// The way to the agent of this node. Clones are the same.
#[derive(Debug, Clone)]
pub struct Door {
    events: mpsc::Sender<Event>,
    places: Arc<Semaphore>,
}

impl Door {
    pub(super) fn new(events: mpsc::Sender<Event>) -> Self {
        Self { events, places: Arc::new(Semaphore::new(SPEAK_MAX)) }
    }

    /// Another node hands orders on.
    ///
    /// # Errors
    /// See [`RelayError`].
    pub async fn relay(&self, body: RelayBody) -> Result<Answer, RelayError> {
        self.say(|reply| Event::Relayed { body, reply }).await
    }

    /// Another node asks for the base how this one is.
    ///
    /// # Errors
    /// See [`RelayError`].
    pub async fn question(&self, envelope: String) -> Result<SignedAnswer, RelayError> {
        self.say(|reply| Event::Asked { envelope, reply }).await
    }

    async fn say<T>(
        &self,
        event: impl FnOnce(oneshot::Sender<Result<T, RelayError>>) -> Event,
    ) -> Result<T, RelayError> {
        let _place = self.places.try_acquire().map_err(|_| RelayError::Full)?;
        let (reply, answer) = oneshot::channel();
        let said = async {
            self.events.send(event(reply)).await.ok()?;
            answer.await.ok()
        };
        timeout(ANSWER_MAX, said).await.ok().flatten().unwrap_or(Err(RelayError::Full))
    }
}

/// Bodies of a megabyte at most.
const SPEAK_MAX: usize = 64;
/// Shorter than the other node waits.
const ANSWER_MAX: Duration = Duration::from_millis(1_500);

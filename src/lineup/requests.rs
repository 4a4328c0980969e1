//! Who waits for the outcomes of events: RTSP commands and questions of the API.
//!
//! ```text
//!  one request --> its events, in order --> outcomes --all there--> one answer
//!  the same idempotency key again       --> joins the request, or gets its answer
//! ```
//! Invariant: a request is answered once, when the last of its events is consumed.
//! Bounds: the events of the remote control; `REPEATS_MAX` answers for repeats, the oldest
//! forgotten first, `JOINED_MAX` who wait for one request.

use std::collections::VecDeque;
use std::fmt;

use crate::lineup::event::{Input, Outcome};
use crate::rtsp::response::Response;
use crate::session::command::Command;

/// An event of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRef {
    /// Number of the request.
    pub(crate) request: u32,
    /// Place of the event in the request.
    pub(crate) place: usize,
}

/// Events that an operator sends to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsRequest {
    /// The events, in order.
    pub inputs: Vec<Input>,
    /// A repeat of this key gets the answer of the first request.
    pub key: Option<String>,
}

/// What became of an operator's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsDone {
    /// The events with their outcomes, in order.
    pub outcomes: Vec<(Input, Outcome)>,
    /// The channel that plays now.
    pub channel: u16,
}

/// Why an operator's events were not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventsError {
    /// No session has the id.
    #[error("no session has this id; GET /v1/sessions lists them")]
    NoSession,
    /// The session is not that of a line-up.
    #[error("the session is not that of a line-up: it has no channels")]
    NoLineup,
    /// The line-up has no such number.
    #[error("no channel {0}")]
    NoChannel(u16),
    /// As many events wait as may.
    #[error("too many events wait for this session; try again")]
    Full,
    /// The key has come with other events before.
    #[error("this Idempotency-Key came with other events before")]
    OtherEvents,
}

/// An answer to an operator.
pub type EventsAnswer = Result<EventsDone, EventsError>;

/// Takes an answer; called once.
pub type EventsReply = Box<dyn FnOnce(EventsAnswer) + Send>;

/// A request that is not answered yet.
pub(crate) struct Pending {
    pub(crate) asker: Asker,
    pub(crate) inputs: Vec<Input>,
    /// Of the first events.
    pub(crate) outcomes: Vec<Outcome>,
    /// What has executed a command of the client, has answered.
    pub(crate) response: Option<Response>,
}

/// Who waits.
pub(crate) enum Asker {
    /// A client, for the answer to its command.
    Command(Box<Command>),
    /// Operators, more than one when a request was repeated.
    Api { replies: Vec<EventsReply>, key: Option<String> },
}

/// Requests with idempotency keys, the newest last.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    known: VecDeque<Known>,
}

#[derive(Debug)]
struct Known {
    key: String,
    inputs: Vec<Input>,
    state: KnownState,
}

#[derive(Debug)]
enum KnownState {
    /// Number of the request.
    Waits(u32),
    Answered(EventsDone),
}

/// What is known of a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    New,
    /// Of a request that waits, by its number.
    Waits(u32),
    Answered(EventsAnswer),
}

impl Pending {
    pub(crate) fn new(asker: Asker, inputs: Vec<Input>) -> Self {
        Self { asker, inputs, outcomes: Vec::new(), response: None }
    }

    /// The events with their outcomes.
    pub(crate) fn done(&self) -> Vec<(Input, Outcome)> {
        self.inputs.iter().copied().zip(self.outcomes.iter().cloned()).collect()
    }
}

impl Repeats {
    pub(crate) fn find(&self, key: &str, inputs: &[Input]) -> Repeat {
        match self.known.iter().find(|known| known.key == key) {
            None => Repeat::New,
            Some(known) if known.inputs != inputs => {
                Repeat::Answered(Err(EventsError::OtherEvents))
            }
            Some(Known { state: KnownState::Waits(request), .. }) => Repeat::Waits(*request),
            Some(Known { state: KnownState::Answered(done), .. }) => {
                Repeat::Answered(Ok(done.clone()))
            }
        }
    }

    /// A request with a new key waits.
    pub(crate) fn enter(&mut self, key: &str, inputs: &[Input], request: u32) {
        if self.known.len() >= REPEATS_MAX {
            let is_answered = |known: &Known| matches!(known.state, KnownState::Answered(_));
            if let Some(oldest) = self.known.iter().position(is_answered) {
                self.known.remove(oldest);
            }
        }
        let (key, inputs) = (key.to_owned(), inputs.to_vec());
        self.known.push_back(Known { key, inputs, state: KnownState::Waits(request) });
    }

    pub(crate) fn answer(&mut self, key: &str, done: &EventsDone) {
        if let Some(known) = self.known.iter_mut().find(|known| known.key == key) {
            known.state = KnownState::Answered(done.clone());
        }
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asker = match &self.asker {
            Asker::Command(command) => format!("{} {:?}", command.request.method, command.reply_to),
            Asker::Api { replies, key } => format!("api {} {key:?}", replies.len()),
        };
        let (inputs, outcomes) = (&self.inputs, &self.outcomes);
        f.debug_struct("Pending")
            .field("asker", &asker)
            .field("inputs", inputs)
            .field("outcomes", outcomes)
            .finish_non_exhaustive()
    }
}

/// Answers kept for repeats. More requests wait only where the remote control has room for them.
const REPEATS_MAX: usize = 64;
/// Operators who wait for one request.
pub(crate) const JOINED_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeat_joins_or_gets_the_first_answer_and_other_events_are_told() {
        let mut repeats = Repeats::default();
        let (up, down) = ([Input::Up], [Input::Down]);
        assert_eq!(repeats.find("a", &up), Repeat::New);
        repeats.enter("a", &up, 7);
        assert_eq!(repeats.find("a", &up), Repeat::Waits(7));
        let other = Repeat::Answered(Err(EventsError::OtherEvents));
        assert_eq!(repeats.find("a", &down), other);
        let done = EventsDone { outcomes: vec![(Input::Up, Outcome::Tuned(1))], channel: 1 };
        repeats.answer("a", &done);
        assert_eq!(repeats.find("a", &up), Repeat::Answered(Ok(done.clone())));
        for n in 0..REPEATS_MAX {
            let key = n.to_string();
            repeats.enter(&key, &down, 8);
            repeats.answer(&key, &done);
            assert!(repeats.known.len() <= REPEATS_MAX);
        }
        assert_eq!(repeats.find("a", &up), Repeat::New, "the oldest is forgotten");
        assert!(matches!(repeats.find("0", &down), Repeat::Answered(Ok(_))));
    }
}

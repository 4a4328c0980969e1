//! Sessions of readers that the server has ended by BYE: their clients may still send commands.
//!
//! GStreamer answers the end of a stream by PAUSE and TEARDOWN, and shows an error if the session
//! does not exist. Bound: `RECENTLY_CLOSED_MAX` sessions, the oldest is forgotten first.

use std::collections::{HashSet, VecDeque};

use crate::base::ids::SessionId;
use crate::rtsp::reader::Method;
use crate::rtsp::response::Status;
use crate::session::command::{Command, Executed};
use crate::session::cx::Cx;

/// Recently ended sessions: see the module.
#[derive(Debug, Default)]
pub(crate) struct RecentlyClosed {
    ended: VecDeque<SessionId>,
    /// The same ids, for a quick search among thousands.
    known: HashSet<SessionId>,
}

impl RecentlyClosed {
    /// Adds a session that the server has ended.
    pub(crate) fn add(&mut self, id: SessionId) {
        if !self.known.insert(id) {
            return;
        }
        if self.ended.len() >= RECENTLY_CLOSED_MAX
            && let Some(oldest) = self.ended.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.ended.push_back(id);
    }

    /// Whether the server has ended the session recently.
    pub(crate) fn has(&self, id: SessionId) -> bool {
        self.known.contains(&id)
    }
}

/// Answers a command for such a session: its end has been carried out already.
pub(crate) fn answer_closed(cx: &Cx, command: &Command) -> Executed {
    match command.request.method {
        Method::Pause | Method::Teardown | Method::GetParameter => {
            Executed::Reply(cx.answer(command))
        }
        Method::Options
        | Method::Describe
        | Method::Setup
        | Method::Play
        | Method::SetParameter
        | Method::Announce
        | Method::Record
        | Method::Redirect
        | Method::Unknown(_) => command.refuse(Status::SessionNotFound),
    }
}

/// All readers of a shard: after the end of a large path their clients ask within moments.
/// GStreamer asks at once.
const RECENTLY_CLOSED_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ShardId;

    #[test]
    fn recently_closed_sessions_are_known_up_to_a_bound() {
        let id = |number: usize| SessionId::new(ShardId(0), (number as u64) << 8);
        let mut recently_closed = RecentlyClosed::default();
        for number in 0..=RECENTLY_CLOSED_MAX {
            recently_closed.add(id(number));
        }
        assert!(
            !recently_closed.has(id(0))
                && recently_closed.has(id(1))
                && recently_closed.has(id(RECENTLY_CLOSED_MAX))
        );
        assert_eq!(recently_closed.ended.len(), RECENTLY_CLOSED_MAX);
        assert_eq!(recently_closed.known.len(), RECENTLY_CLOSED_MAX);
    }
}

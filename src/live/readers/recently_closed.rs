//! Sessions of readers that we have ended by BYE: their clients may still say goodbye.
//!
//! GStreamer answers the end of a stream by PAUSE and TEARDOWN, and shows an error when it is told
//! that there is no such session. Bound: `FAREWELLS_MAX` sessions, the oldest is forgotten first.

use std::collections::{HashSet, VecDeque};

use crate::base::ids::SessionId;
use crate::rtsp::reader::Method;
use crate::rtsp::response::Status;
use crate::session::command::{Command, Executed};
use crate::session::cx::Cx;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Farewells {
    ended: VecDeque<SessionId>,
    /// The same, to be found among thousands.
    known: HashSet<SessionId>,
}

impl Farewells {
    /// A session has been ended.
    pub(crate) fn add(&mut self, id: SessionId) {
        if !self.known.insert(id) {
            return;
        }
        if self.ended.len() >= FAREWELLS_MAX
            && let Some(oldest) = self.ended.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.ended.push_back(id);
    }

    /// Whether it was ended by us, not long ago.
    pub(crate) fn has(&self, id: SessionId) -> bool {
        self.known.contains(&id)
    }
}

/// A command for such a session: what ends it has been done already.
pub(crate) fn say_farewell(cx: &Cx, command: &Command) -> Executed {
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

/// All readers of a shard, who ask within moments of the end of a large path: GStreamer does at
/// once.
const FAREWELLS_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ShardId;

    #[test]
    fn newest_farewells_are_known_and_their_number_is_bounded() {
        let id = |number: usize| SessionId::new(ShardId(0), (number as u64) << 8);
        let mut farewells = Farewells::default();
        for number in 0..=FAREWELLS_MAX {
            farewells.add(id(number));
        }
        assert!(!farewells.has(id(0)) && farewells.has(id(1)) && farewells.has(id(FAREWELLS_MAX)));
        assert_eq!(farewells.ended.len(), FAREWELLS_MAX);
        assert_eq!(farewells.known.len(), FAREWELLS_MAX);
    }
}

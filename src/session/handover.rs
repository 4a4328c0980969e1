//! Sessions that move from one shard to another: what each shard concerned does, step by step.
//!
//! ```text
//!  old shard   Preparing --ready--> Freezing --at rest--> Holding --held--> Held --> packed
//!                 `------- refused, late, gone: thawed, the session goes on where it is --'
//!  home        At(old) --hold--> Held [events, in order] --settled--> At(new): the events follow
//!  new shard   prepared ...................... parcel --> unpacked; the home is told: settled
//! ```
//! What moves is a connection with the sessions that were made on it, or a session without one. The
//! home of a session is the shard in its id: commands by other connections, operators and datagrams
//! reach a session by way of its home, wherever the session is. In the words of reference 003 the
//! home is the event router, the shards are the event consumers, the request to hold is the
//! deactivate event, and its answer is Reset: whatever the home sent before is consumed before it.
//!
//! Invariants: an event reaches a session once, in the order in which the home took it; nothing is
//! sent from the old shard after the session is packed, nor from the new one before it is unpacked.
//! A move that is not done leaves the session where it was. Bounds: `HELD_MAX` events of a session,
//! one more is handed back; `MOVES_MAX` moves of a shard at once; `MOVE_TIME_MAX` from the
//! first question to the parcel, frozen for `FREEZE_TIME_MAX` of it. A parcel waits for
//! `MOVE_TIME_MAX` at most on each of two shards.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::base::ids::{SessionId, ShardId};
use crate::base::time::Mono;

/// Why a session does not move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoveRefusal {
    /// The session has ended.
    #[error("no session has this id; GET /v1/sessions lists them")]
    NoSession,
    /// There is no such shard.
    #[error("there is no such shard")]
    NoShard,
    /// The session is on that shard.
    #[error("the session is on that shard already")]
    SameShard,
    /// TLS stays on its shard.
    #[error("a connection with TLS cannot be moved yet")]
    Tls,
    /// Tunnels stay on their shard.
    #[error("a tunnel over HTTP cannot be moved yet")]
    Tunnel,
    /// SRTP stays on its shard.
    #[error("a session with SRTP cannot be moved yet")]
    Srtp,
    /// Publishers stay on their shard.
    #[error("a publisher cannot be moved yet")]
    Publisher,
    /// Sessions of line-ups stay on their shard.
    #[error("a session of a line-up cannot be moved yet")]
    Lineup,
    /// Viewers by WebRTC are on no shard.
    #[error("a viewer by WebRTC is on no shard")]
    Viewer,
    /// The other program does not open its title.
    #[error("the other program does not open the title of the session")]
    Title,
    /// Members of groups stay on their shard.
    #[error("a member of a multicast group cannot be moved yet")]
    Multicast,
    /// What moves has addresses and ids of more than one shard.
    #[error("the connection has sessions or ports of several shards, so it cannot be moved again")]
    SeveralHomes,
    /// Something was under way for too long.
    #[error("the session did not come to rest in time; try again")]
    Busy,
    /// A limit of the new shard is reached.
    #[error("the shard has no room")]
    Full,
    /// The reader's packets are not on the new shard.
    #[error("the reader is too far behind its path; try again")]
    Behind,
    /// The new shard does not have the path.
    #[error("the path cannot be had on that shard")]
    NoPath,
    /// The server stops.
    #[error("the server stops")]
    Stopping,
    /// The shard moves as many as it may at once.
    #[error("too many sessions are being moved; try again")]
    TooMany,
}

/// A move, as the old shard sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure {
    step: DepartureStep,
    /// Whether the home is this shard.
    is_home: bool,
    deadline: Mono,
}

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DepartureStep {
    /// The new shard makes ready.
    Preparing,
    /// Nothing new begins; what is under way ends.
    Freezing,
    /// The home was asked to hold events.
    Holding,
    /// The home holds events.
    Held,
}

/// What happens to a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DepartureInput {
    /// The new shard is ready.
    Ready,
    /// The new shard, or the session, refuses.
    Refused(MoveRefusal),
    /// The home holds events, and all before were consumed.
    Held,
    /// A look at the session: whether nothing is under way.
    Look {
        /// Nothing is under way.
        is_at_rest: bool,
    },
}

/// What is to be done for a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DepartureOutput {
    /// Nothing yet.
    Wait,
    /// Nothing new begins from now on.
    Freeze,
    /// The home is asked to hold events.
    Hold,
    /// The session is packed and sent: the move has left the shard.
    Pack,
    /// The move does not take place.
    Abandon {
        /// Why.
        why: MoveRefusal,
        /// The home holds events, or will: they come here again.
        releases: bool,
    },
}

impl Departure {
    /// A move that begins at `now`, with a question to the new shard.
    #[must_use]
    pub fn new(is_home: bool, now: Mono) -> Self {
        Self { step: DepartureStep::Preparing, is_home, deadline: now + MOVE_TIME_MAX }
    }

    /// How far the move is.
    #[must_use]
    pub fn step(&self) -> DepartureStep {
        self.step
    }

    /// When the move is abandoned.
    #[must_use]
    pub fn deadline(&self) -> Mono {
        self.deadline
    }

    /// Whether the session is frozen.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.step != DepartureStep::Preparing
    }

    /// Takes the next input.
    pub fn handle(&mut self, input: DepartureInput, now: Mono) -> DepartureOutput {
        use DepartureInput::{Held, Look, Ready, Refused};
        use DepartureStep as Step;
        let releases = matches!(self.step, Step::Holding | Step::Held);
        match (self.step, input) {
            (_, Refused(why)) => DepartureOutput::Abandon { why, releases },
            (_, Look { .. }) if now >= self.deadline => {
                DepartureOutput::Abandon { why: MoveRefusal::Busy, releases }
            }
            (Step::Preparing, Ready) => {
                // A client that takes nothing keeps its send under way for as long as it likes.
                self.deadline = self.deadline.min(now + FREEZE_TIME_MAX);
                self.go(Step::Freezing, DepartureOutput::Freeze)
            }
            (Step::Freezing, Look { is_at_rest: true }) if self.is_home => DepartureOutput::Pack,
            (Step::Freezing, Look { is_at_rest: true }) => {
                self.go(Step::Holding, DepartureOutput::Hold)
            }
            (Step::Holding, Held) => self.go(Step::Held, DepartureOutput::Wait),
            // A command that came before may have begun something.
            (Step::Held, Look { is_at_rest: true }) => DepartureOutput::Pack,
            (
                Step::Preparing | Step::Freezing | Step::Holding | Step::Held,
                Ready | Held | Look { .. },
            ) => DepartureOutput::Wait,
        }
    }

    fn go(&mut self, step: DepartureStep, output: DepartureOutput) -> DepartureOutput {
        self.step = step;
        output
    }
}

/// Where the sessions are whose home is this shard, and events of those that are under way.
#[derive(Debug)]
pub struct Routes<E> {
    routes: HashMap<SessionId, Route<E>>,
}

#[derive(Debug)]
enum Route<E> {
    At(ShardId),
    /// Events wait until it is settled where the session is.
    Held(VecDeque<E>),
}

/// What becomes of an event.
#[derive(Debug, PartialEq, Eq)]
pub enum Routed<E> {
    /// The session is here, or nowhere: the event is this shard's own.
    Here(E),
    /// The event goes to this shard.
    To(ShardId, E),
    /// The event waits.
    Held,
    /// Too many events wait: the event is handed back.
    Full(E),
}

impl<E> Default for Routes<E> {
    fn default() -> Self {
        Self { routes: HashMap::new() }
    }
}

impl<E> Routes<E> {
    /// Number of sessions that are not here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether all sessions are here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Whether events of a session are held.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.routes.values().any(|route| matches!(route, Route::Held(_)))
    }

    /// Where a session is, if it is settled on another shard.
    #[must_use]
    pub fn at(&self, id: SessionId) -> Option<ShardId> {
        match self.routes.get(&id)? {
            Route::At(shard) => Some(*shard),
            Route::Held(_) => None,
        }
    }

    /// Routes an event for a session.
    pub fn route(&mut self, id: SessionId, event: E) -> Routed<E> {
        match self.routes.get_mut(&id) {
            None => Routed::Here(event),
            Some(Route::At(shard)) => Routed::To(*shard, event),
            Some(Route::Held(events)) if events.len() >= HELD_MAX => Routed::Full(event),
            Some(Route::Held(events)) => {
                events.push_back(event);
                Routed::Held
            }
        }
    }

    /// Events of a session are held from now on. A session whose events are held stays so.
    pub fn hold(&mut self, id: SessionId) {
        let route = self.routes.entry(id).or_insert_with(|| Route::Held(VecDeque::new()));
        if matches!(route, Route::At(_)) {
            *route = Route::Held(VecDeque::new());
        }
    }

    /// It is settled that a session is on shard `at`; `own` is this shard. Returns the events that
    /// were held, in order: they follow there before any other.
    pub fn settle(&mut self, id: SessionId, at: ShardId, own: ShardId) -> VecDeque<E> {
        let before = match at == own {
            true => self.routes.remove(&id),
            false => self.routes.insert(id, Route::At(at)),
        };
        match before {
            Some(Route::Held(events)) => events,
            Some(Route::At(_)) | None => VecDeque::new(),
        }
    }

    /// A session has ended. Returns the events that were held: they are for nobody.
    pub fn forget(&mut self, id: SessionId) -> VecDeque<E> {
        match self.routes.remove(&id) {
            Some(Route::Held(events)) => events,
            Some(Route::At(_)) | None => VecDeque::new(),
        }
    }
}

/// Moves of a shard at once: each may keep a connection at rest for some turns.
pub const MOVES_MAX: usize = 64;
/// Time for a move, from the first question to the parcel.
pub const MOVE_TIME_MAX: Duration = Duration::from_secs(1);
/// Time for a session to come to rest and for its home to hold events, while nothing is heard from
/// its client and nothing new is sent.
const FREEZE_TIME_MAX: Duration = Duration::from_millis(250);
/// Events of a session that wait: commands of a few connections, and reports of a few seconds.
const HELD_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::DepartureInput::{Held, Look, Ready, Refused};
    use super::DepartureOutput::{Abandon, Freeze, Hold, Pack, Wait};
    use super::*;
    use proptest::prelude::*;

    const START: Mono = Mono(1_000_000_000);
    const REST: DepartureInput = Look { is_at_rest: true };
    const UNREST: DepartureInput = Look { is_at_rest: false };

    fn id(number: u64) -> SessionId {
        SessionId::new(ShardId(0), number << 8)
    }

    fn run(is_home: bool, inputs: &[DepartureInput]) -> Vec<DepartureOutput> {
        let mut departure = Departure::new(is_home, START);
        inputs.iter().map(|input| departure.handle(*input, START)).collect()
    }

    #[test]
    fn session_is_packed_when_it_is_at_rest_and_its_home_holds_events() {
        assert_eq!(
            run(true, &[REST, Ready, UNREST, REST]),
            [Wait, Freeze, Wait, Pack],
            "at home no other shard is asked"
        );
        assert_eq!(
            run(false, &[Ready, UNREST, REST, REST, Held, UNREST, REST]),
            [Freeze, Wait, Hold, Wait, Wait, Wait, Pack]
        );
    }

    #[test]
    fn move_that_is_refused_or_late_is_abandoned_and_events_that_are_held_come_back() {
        for (inputs, releases) in [
            (&[][..], false),
            (&[Ready][..], false),
            (&[Ready, REST][..], true),
            (&[Ready, REST, Held][..], true),
        ] {
            for late in [true, false] {
                let mut departure = Departure::new(false, START);
                for input in inputs {
                    departure.handle(*input, START);
                }
                let output = match late {
                    true => departure.handle(REST, START + MOVE_TIME_MAX),
                    false => departure.handle(Refused(MoveRefusal::Full), START),
                };
                let why = if late { MoveRefusal::Busy } else { MoveRefusal::Full };
                assert_eq!(output, Abandon { why, releases }, "{inputs:?}");
            }
        }
    }

    #[test]
    fn client_that_takes_nothing_is_frozen_for_a_part_of_the_time_of_a_move() {
        let mut departure = Departure::new(true, START);
        let ready = START + MOVE_TIME_MAX / 2;
        assert_eq!(departure.handle(Ready, ready), Freeze);
        let end = ready + FREEZE_TIME_MAX;
        assert_eq!(departure.handle(UNREST, Mono(end.0 - 1)), Wait);
        let busy = Abandon { why: MoveRefusal::Busy, releases: false };
        assert_eq!(departure.handle(UNREST, end), busy);
    }

    #[test]
    fn events_are_held_while_a_session_moves_and_follow_it_in_order() {
        let mut routes = Routes::default();
        assert_eq!(routes.route(id(1), 1), Routed::Here(1));
        routes.hold(id(1));
        for event in 2..4 {
            assert_eq!(routes.route(id(1), event), Routed::Held);
        }
        assert_eq!(routes.settle(id(1), ShardId(2), ShardId(0)), [2, 3]);
        assert_eq!(routes.route(id(1), 4), Routed::To(ShardId(2), 4));
        routes.hold(id(1));
        for event in 0..i32::try_from(HELD_MAX).unwrap() {
            assert_eq!(routes.route(id(1), event), Routed::Held);
        }
        assert_eq!(routes.route(id(1), 99), Routed::Full(99));
        assert_eq!(routes.settle(id(1), ShardId(0), ShardId(0)).len(), HELD_MAX);
        assert_eq!(routes.route(id(1), 5), Routed::Here(5), "it is at home again");
        routes.hold(id(1));
        routes.route(id(1), 6);
        assert_eq!((routes.forget(id(1)), routes.is_empty()), (VecDeque::from([6]), true));
    }

    proptest! {
        /// Three shards; the home is shard 0. Each shard is a queue, as its inbox is.
        #[test]
        fn every_event_is_consumed_once_and_in_order_whatever_moves_between(
            steps in prop::collection::vec(0_u8..6, 1..400),
        ) {
            let (mut routes, session) = (Routes::default(), id(7));
            let mut inboxes: Vec<VecDeque<Option<u32>>> = vec![VecDeque::new(); 3];
            let (mut place, mut next, mut is_holding) = (0_u8, 0_u32, false);
            let mut seen = Vec::new();
            for step in steps {
                match step {
                    // An event comes to the home.
                    0..=2 => match routes.route(session, next) {
                        Routed::Here(event) => { inboxes[0].push_back(Some(event)); next += 1; }
                        Routed::To(shard, event) => {
                            inboxes[usize::from(shard.0)].push_back(Some(event));
                            next += 1;
                        }
                        Routed::Held => next += 1,
                        Routed::Full(_) => {}
                    },
                    // The shard of the session asks for a hold; Reset is behind what was sent.
                    3 if !is_holding => {
                        routes.hold(session);
                        inboxes[usize::from(place)].push_back(None);
                        is_holding = true;
                    }
                    // The shard of the session reads its inbox.
                    _ => {
                        match inboxes[usize::from(place)].pop_front() {
                            Some(Some(event)) => seen.push(event),
                            Some(None) => {
                                prop_assert!(inboxes[usize::from(place)].is_empty());
                                place = (place + 1 + step % 2) % 3;
                                let held = routes.settle(session, ShardId(place), ShardId(0));
                                inboxes[usize::from(place)].extend(held.into_iter().map(Some));
                                is_holding = false;
                            }
                            None => {}
                        }
                    }
                }
            }
            prop_assert!(seen.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seen:?}");
            prop_assert!(seen.first().is_none_or(|first| *first == 0));
        }
    }
}

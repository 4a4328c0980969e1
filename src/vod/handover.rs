//! Players of titles that move to another shard.
//!
//! ```text
//!  Players::pack --> PackedTitle: client, title, epoch, streams with their places --> Vod::unpack
//! ```
//! Windows are shared by all shards and go with the cursors. What was asked for and has not come is
//! asked for again; timers are set anew from the times that they stood for.
//! Invariant: the next packet has the next number, and the time that it would have had. Bound: the
//! streams of one session.

use std::collections::VecDeque;
use std::sync::Arc;

use rand::Rng;

use crate::base::ids::SessionId;
use crate::base::random;
use crate::base::time::{Mono, Npt};
use crate::library::title::Title;
use crate::poll::poll_table::EntryKey;
use crate::session::action::TimerKey;
use crate::session::client::Client;
use crate::session::cx::Cx;
use crate::session::directory::{SessionKey, SessionRef, StreamRef};
use crate::session::handover::MoveRefusal;
use crate::session::transport::Transport;
use crate::vod::epoch::Epoch;
use crate::vod::playback::{Session, SessionTimers, State};
use crate::vod::service::Vod;
use crate::vod::stream::{PackedStream, Phase};
use crate::vod::table::Players;

/// A player of a title on its way, without descriptors and keys of tables.
#[derive(Debug)]
pub struct PackedTitle {
    pub(super) client: Client,
    pub(super) title: Arc<Title>,
    pub(super) described: Arc<Title>,
    pub(super) state: State,
    pub(super) streams: Vec<PackedStream>,
    pub(super) liveness_due: Mono,
    pub(super) epoch: Option<Epoch>,
    pub(super) end: Option<Npt>,
    pub(super) pause_point: Option<Npt>,
    pub(super) report_due: Mono,
    /// When each stream says BYE that has sent all. Time from now would never be over for a session
    /// that moves more often.
    pub(super) byes_due: Vec<Option<Mono>>,
    pub(super) play_received: Option<Mono>,
}

impl PackedTitle {
    /// Id of the session.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.client.id
    }

    /// Transports of the streams; a pair is named by its place at home.
    #[must_use]
    pub fn transports(&self) -> Vec<Transport> {
        self.streams.iter().map(PackedStream::transport).collect()
    }
}

impl Players {
    /// Whether a session can ever move.
    ///
    /// # Errors
    /// Why not.
    pub fn check_move(&self, cx: &Cx, key: SessionKey) -> Result<(), MoveRefusal> {
        let session = self.session(key).ok_or(MoveRefusal::NoSession)?;
        if session.client.told.is_some() {
            return Err(MoveRefusal::Lineup);
        }
        session
            .streams
            .iter()
            .try_for_each(|stream| cx.check_move(session.client.id, &stream.outgoing))
    }

    /// Whether nothing of a session is under way: neither a PLAY nor a stream waits for windows.
    /// One that moved meanwhile would ask for its window anew, and as often as it moved before that
    /// came, it would get nowhere.
    #[must_use]
    pub fn is_at_rest(&self, key: SessionKey) -> bool {
        let waits = |session: &Session| {
            matches!(session.state, State::Priming(_))
                || session.streams.iter().any(|stream| stream.phase == Phase::WaitsForWindow)
        };
        self.session(key).is_some_and(|session| !waits(session) && session.held.is_empty())
    }

    /// Takes a session that is at rest from this shard. Its client's addresses stay in use.
    pub fn pack(&mut self, cx: &mut Cx, key: SessionKey) -> Option<PackedTitle> {
        let session = self.slab.try_remove(key.0 as usize)?;
        let id = session.client.id;
        cx.directory.depart(id, session.client.connection, SessionRef::Title(key));
        cx.uncount_player(session.state.shown());
        let SessionTimers { report, pause, liveness } = session.timers;
        // One that has come up and waits for its share of the turn is due now.
        let report_due = cx.wheel.due(report).unwrap_or(cx.now);
        for timer in [report, pause, liveness] {
            cx.wheel.cancel(timer);
        }
        let mut byes_due = Vec::with_capacity(session.streams.len());
        let streams = session.streams.into_iter().map(|stream| {
            let says_bye = stream.phase == Phase::Finishing;
            let due = || cx.wheel.due(stream.timer).unwrap_or(cx.now);
            byes_due.push(says_bye.then(due));
            cx.wheel.cancel(stream.timer);
            if stream.quality.is_some() {
                cx.cells.quality_levels[stream.level() as usize].sub(1);
            }
            let transport = cx.depart_transport(id, stream.outgoing.transport);
            stream.pack(transport)
        });
        let streams = streams.collect();
        Some(PackedTitle {
            streams,
            byes_due,
            client: session.client,
            title: session.title,
            described: session.described,
            state: session.state,
            liveness_due: session.liveness_due,
            epoch: session.epoch,
            end: session.end,
            pause_point: session.pause_point,
            report_due,
            play_received: session.play_received,
        })
    }
}

impl Vod {
    /// Takes a session in, whose connection has this entry here.
    pub fn unpack(
        &mut self,
        cx: &mut Cx,
        packed: PackedTitle,
        connection: Option<EntryKey>,
    ) -> SessionKey {
        let now = cx.now;
        let id = packed.id();
        let mut streams: Vec<_> = packed.streams.into_iter().map(PackedStream::unpack).collect();
        for stream in &mut streams {
            if stream.quality.is_some() {
                cx.cells.quality_levels[stream.level() as usize].add(1);
            }
            stream.outgoing.transport = cx.arrive_transport(id, stream.outgoing.transport);
        }
        let transports: Vec<Transport> =
            streams.iter().map(|stream| stream.outgoing.transport).collect();
        let mut client = packed.client;
        client.connection = connection;
        let session = Session {
            client,
            title: packed.title,
            described: packed.described,
            state: packed.state,
            streams,
            liveness_due: packed.liveness_due,
            // Never the epoch number of an earlier session in the same place.
            epoch_count: random::rng().next_u32(),
            epoch: packed.epoch,
            end: packed.end,
            pause_point: packed.pause_point,
            timers: SessionTimers::default(),
            held: VecDeque::new(),
            play_received: packed.play_received,
        };
        let key = self.players.insert(cx, session);
        cx.enter_transports(id, connection, SessionRef::Title(key), &transports);
        self.players.watch(cx, key, packed.liveness_due.max(now));
        if self.players.session(key).is_some_and(|s| matches!(s.state, State::Playing)) {
            self.set_timers(cx, key, packed.report_due, &packed.byes_due);
        }
        key
    }

    /// Sets the timers of a session that plays.
    fn set_timers(
        &mut self,
        cx: &mut Cx,
        key: SessionKey,
        report_due: Mono,
        byes_due: &[Option<Mono>],
    ) {
        let now = cx.now;
        self.players.wait_for_report(cx, key, report_due);
        let Some(session) = self.players.session_mut(key) else { return };
        let epoch_count = session.epoch_count;
        if let Some((point, epoch)) = session.pause_point.zip(session.epoch) {
            let timer = TimerKey::Pause { session: key, epoch_count };
            cx.wheel.replace(&mut session.timers.pause, epoch.wall_of_npt(point), timer);
        }
        let phases: Vec<Phase> = session.streams.iter().map(|stream| stream.phase).collect();
        for ((stream_index, phase), bye_due) in (0_u8..).zip(phases).zip(byes_due) {
            let stream = StreamRef { session: key, stream_index, epoch_count };
            match phase {
                Phase::Idle | Phase::Ended => {}
                Phase::Finishing => {
                    self.players.wait_for_bye(cx, stream, bye_due.unwrap_or(now));
                }
                // The pump finds out what comes next, and when.
                Phase::Scheduled | Phase::WaitsForWindow | Phase::WaitsForConnection => {
                    self.players.schedule(cx, stream, now);
                }
            }
        }
    }
}

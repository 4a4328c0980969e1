//! One RTSP session: its title, its streams, where it is in the presentation.
//!
//! ```text
//!            SETUP        PLAY          windows here
//!  (nothing) ----> Ready ----> Priming ------------> Playing --end of range--> Ended
//!                    ^            ^  \                  | |                      |
//!                    |            |   `--windows fail--> session ends            |
//!                    |            +-------- PLAY -------+ +--PAUSE--> Paused     |
//!                    |            +-------- PLAY ----------------------'         |
//!                    |            +-------- PLAY --------------------------------'
//! ```
//! A reader of a live path has another state (`live::readers::reader::ReaderState`): a title has an
//! end and a place to pause at, and its Priming may go back to the state before.
//!
//! Invariant: nothing of an epoch is sent after the answer to the command that ended it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::addresses::AddressPlace;
use crate::base::ids::SessionId;
use crate::base::time::{Mono, Npt};
use crate::base::wheel::{Timer, Wheel};
use crate::library::title::Title;
use crate::media::asset::Track;
use crate::media::window::WindowKind;
use crate::poll::poll_table::EntryKey;
use crate::rtsp::range::RangeHeader;
use crate::session::action::TimerKey;
use crate::session::command::{Command, Waiter};
use crate::session::shown::ShownState;
use crate::session::transport::Transport;
use crate::vod::epoch::{Epoch, Rate};
use crate::vod::position::window_kind;
use crate::vod::stream::{Phase, Stream};

/// See the module.
#[derive(Debug)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// What it plays.
    pub title: Arc<Title>,
    /// What the client was told of: its URL and its SDP. The same, unless the feed was exchanged.
    pub described: Arc<Title>,
    /// URL of the presentation without a trailing slash, as the client spells it.
    pub base_url: String,
    /// Where it stands.
    pub state: State,
    /// Its RTP streams, in the order of their SETUPs.
    pub streams: Vec<Stream>,
    /// The RTSP connection that it was made on, while that lives.
    pub connection: Option<EntryKey>,
    /// The client.
    pub peer: SocketAddr,
    /// Its place among the sessions of the client's address.
    pub(crate) _admitted: AddressPlace,
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// When it was made.
    pub created: Mono,
    /// When the client was last heard of.
    pub alive: Mono,
    /// When to see next whether it still lives; keys of the wheel for other times mean nothing.
    pub liveness_due: Mono,
    /// Counts epochs: what was meant for an earlier one is out of date.
    pub epoch_count: u32,
    /// The present epoch, or the last one.
    pub epoch: Option<Epoch>,
    /// Where the present range ends, when that is before the end of the title.
    pub end: Option<Npt>,
    /// Where the present epoch is to be paused (RFC 2326 s10.6): one point, the newest.
    pub pause_point: Option<Npt>,
    /// Its keys of the wheel: one of each kind, whatever the client commands.
    pub timers: SessionTimers,
    /// Name in RTCP: the same for all streams of the session, so that a player may synchronise
    /// them (RFC 3550 s6.5.1).
    pub cname: String,
    /// Commands from other connections that wait for the end of Priming.
    pub held: VecDeque<Command>,
    /// When the PLAY that is being answered came: PLAY to first packet.
    pub play_received: Option<Mono>,
}

/// Keys of the wheel that a session waits for, beside those of its streams.
#[derive(Debug, Clone, Copy, Default)]
pub struct SessionTimers {
    /// The next sender report.
    pub report: Timer,
    /// The pause point.
    pub pause: Timer,
    /// The next look at whether the client lives.
    pub liveness: Timer,
}

/// See the module's picture.
#[derive(Debug)]
pub enum State {
    /// Set up, nothing played yet.
    Ready,
    /// A PLAY waits for the first windows of its streams.
    Priming(Box<Priming>),
    /// Streams are being sent.
    Playing,
    /// Stopped by PAUSE at this time.
    Paused {
        /// When.
        at: Mono,
    },
    /// The range is played to its end and BYE is sent.
    Ended,
}

/// A PLAY on its way to being answered.
#[derive(Debug)]
pub struct Priming {
    /// Who waits.
    pub waiter: Waiter,
    /// CSeq of the PLAY.
    pub cseq: Option<u32>,
    /// The Range header as asked, whose unit the answer repeats.
    pub asked: Option<RangeHeader>,
    /// Begin here.
    pub npt: Npt,
    /// End here.
    pub end: Option<Npt>,
    /// Chosen scale.
    pub scale: f64,
    /// Chosen speed.
    pub speed: f64,
    /// Whether the answer carries Scale and Speed.
    pub echo: Echo,
    /// RTP ticks of `npt`, per stream.
    pub anchors: Vec<i64>,
    /// What the session returns to when the PLAY is refused.
    pub before: State,
}

/// Which headers the PLAY had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Echo {
    /// `Scale`.
    pub scale: bool,
    /// `Speed`.
    pub speed: bool,
}

impl State {
    /// What it is outside.
    #[must_use]
    pub fn shown(&self) -> ShownState {
        match self {
            Self::Ready => ShownState::Ready,
            Self::Priming(_) | Self::Playing => ShownState::Playing,
            Self::Paused { .. } | Self::Ended => ShownState::Paused,
        }
    }
}

impl Session {
    /// The track that a stream plays.
    #[must_use]
    pub fn track(&self, stream: &Stream) -> Option<&Track> {
        self.title.asset.tracks.get(usize::from(stream.feed.track_index))
    }

    /// The track that the client set up, in the title that its SDP described.
    #[must_use]
    pub fn described_track(&self, stream: &Stream) -> Option<&Track> {
        self.described.asset.tracks.get(usize::from(stream.track_index))
    }

    /// The tracks of its streams.
    pub fn tracks(&self) -> impl Iterator<Item = &Track> {
        self.streams.iter().filter_map(|stream| self.track(stream))
    }

    /// Over TCP: interleaved with its RTSP connection.
    #[must_use]
    pub fn is_interleaved(&self) -> bool {
        self.streams.iter().any(|stream| matches!(stream.outgoing.transport, Transport::Tcp { .. }))
    }

    /// How far the stream furthest behind is behind the clock at `at`, in nanoseconds of media:
    /// zero for a player that is sent everything in time.
    pub fn lag_ns(&mut self, at: Mono) -> i64 {
        let Some(epoch) = self.epoch else { return 0 };
        let lags = self.streams.iter_mut().filter_map(|stream| stream.media_lag_ns(&epoch, at));
        lags.max().unwrap_or(0).max(0)
    }

    /// Latest playout time given out to any stream, from the start of the session.
    #[must_use]
    pub fn playout_sent_ns(&self) -> i64 {
        let Some(epoch) = &self.epoch else { return 0 };
        let sent = self.streams.iter().map(|stream| stream.playout_sent_ns(epoch));
        sent.max().unwrap_or(epoch.playout_ns)
    }

    /// The epoch in which all streams go on from where they stand; `None` before the first one.
    /// The present epoch stopped at `at`. RTP time goes back on no stream, whatever the rates are.
    pub fn continued_epoch(&mut self, at: Mono, rate: Rate) -> Option<Epoch> {
        let old = self.epoch?;
        let lag_ns = self.lag_ns(at);
        let mut epoch = old.continued(at, lag_ns, rate);
        let sent = self.streams.iter().filter(|stream| stream.feed.cursor.is_some());
        let floors = sent
            .map(|stream| old.playout_floor(stream.playout_sent_ns(&old), at, lag_ns, rate.scale));
        epoch.playout_ns = floors.fold(epoch.playout_ns, i64::max);
        epoch.npt = epoch.npt.clamp(Npt::ZERO, self.title.asset.duration);
        if window_kind(epoch.scale) == WindowKind::Sync {
            epoch.due_zero = epoch.npt;
        }
        Some(epoch)
    }

    /// Where playing goes on without a Range: [`Session::npt_at`], or the next frame of the stream
    /// that is behind it.
    pub fn next_npt(&mut self, now: Mono) -> Npt {
        let npt = self.npt_at(now);
        let at = match self.state {
            State::Paused { at } => at,
            State::Playing => now,
            State::Ready | State::Priming(_) | State::Ended => return npt,
        };
        let Some(epoch) = self.epoch else { return npt };
        let lag_ns = self.lag_ns(at);
        let back = if epoch.scale < 0.0 { -lag_ns } else { lag_ns };
        let from = epoch.npt_at(at).0.saturating_sub(back);
        Npt(from).clamp(Npt::ZERO, self.title.asset.duration)
    }

    /// Position in the presentation.
    #[must_use]
    pub fn npt_at(&self, now: Mono) -> Npt {
        if let State::Priming(priming) = &self.state {
            return priming.npt;
        }
        let Some(epoch) = &self.epoch else { return Npt::ZERO };
        let at = match self.state {
            State::Paused { at } => at,
            State::Ready | State::Priming(_) | State::Playing => now,
            State::Ended => return self.end.unwrap_or(self.title.asset.duration),
        };
        epoch.npt_at(at).clamp(Npt::ZERO, self.title.asset.duration)
    }

    /// Ends the present epoch: keys on the wheel and windows under way lose their meaning. A stream
    /// that has said BYE stays silent until it is moved to another place.
    pub fn end_epoch(&mut self, wheel: &mut Wheel<TimerKey>) {
        self.epoch_count = self.epoch_count.wrapping_add(1);
        self.pause_point = None;
        wheel.cancel(self.timers.report);
        wheel.cancel(self.timers.pause);
        for stream in &mut self.streams {
            wheel.cancel(stream.timer);
            if stream.phase != Phase::Ended {
                stream.phase = Phase::Idle;
            }
            if let Some(cursor) = &mut stream.feed.cursor {
                cursor.forget_asked();
            }
            if let Some(resender) = &mut stream.resender {
                resender.forget();
            }
        }
    }
}

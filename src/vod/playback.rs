//! One RTSP session of a title: its streams and its position in the presentation.
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
//! Readers of live paths have states of their own (`live::readers::reader::ReaderState`): only a
//! title has an end and a pause point, and only its Priming may return to the state before.
//!
//! Invariant: nothing of an epoch is sent after the answer to the command that ended it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::time::{Mono, Npt};
use crate::base::wheel::{Timer, Wheel};
use crate::library::title::Title;
use crate::media::asset::Track;
use crate::media::window::WindowKind;
use crate::rtsp::range::RangeHeader;
use crate::session::action::TimerKey;
use crate::session::client::Client;
use crate::session::command::{Command, ReplyTo};
use crate::session::shown::ShownState;
use crate::session::transport::Transport;
use crate::vod::epoch::{Epoch, Rate};
use crate::vod::position::window_kind;
use crate::vod::stream::{Phase, Stream};

/// A player's session with one title.
#[derive(Debug)]
pub struct Session {
    /// The client of the session.
    pub client: Client,
    /// Title that feeds the streams.
    pub title: Arc<Title>,
    /// Title of the URL and the SDP. It differs from `title` after an exchange of the feed.
    pub described: Arc<Title>,
    /// State of the picture above.
    pub state: State,
    /// RTP streams in the order of their SETUPs.
    pub streams: Vec<Stream>,
    /// Time of the next liveness check; a timer for another time is ignored.
    pub liveness_due: Mono,
    /// Number of the present epoch. Timers and windows that carry an older number are ignored.
    pub epoch_count: u32,
    /// Present epoch, or the last one while nothing plays.
    pub epoch: Option<Epoch>,
    /// End of the range; `None`: the end of the title.
    pub end: Option<Npt>,
    /// Pause point of the present epoch (RFC 2326 s10.6); a newer one replaces it.
    pub pause_point: Option<Npt>,
    /// Timers of the session, one of each kind.
    pub timers: SessionTimers,
    /// Commands from other connections that wait for the end of Priming.
    pub held: VecDeque<Command>,
    /// Arrival of the last PLAY; `None` when its first packet is sent.
    pub play_received: Option<Mono>,
}

/// Timers of a session, beside those of its streams.
#[derive(Debug, Clone, Copy, Default)]
pub struct SessionTimers {
    /// Next sender report.
    pub report: Timer,
    /// Pause point of a PAUSE with a Range.
    pub pause: Timer,
    /// Next liveness check of the client.
    pub liveness: Timer,
}

/// State of a session; the module has the transitions.
#[derive(Debug)]
pub enum State {
    /// SETUP is done, and no PLAY has come.
    Ready,
    /// A PLAY waits for the first window of each stream.
    Priming(Box<Priming>),
    /// Streams are being sent.
    Playing,
    /// PAUSE or a pause point has stopped the streams.
    Paused {
        /// Time at which the streams stopped.
        at: Mono,
    },
    /// The range was played to its end, and BYE was sent.
    Ended,
}

/// A PLAY that is not answered yet.
#[derive(Debug)]
pub struct Priming {
    /// Connection that gets the answer.
    pub reply_to: ReplyTo,
    /// CSeq that the answer repeats.
    pub cseq: Option<u32>,
    /// Range header of the request; the answer has its unit.
    pub asked: Option<RangeHeader>,
    /// Start of the range.
    pub npt: Npt,
    /// End of the range; `None`: the end of the title.
    pub end: Option<Npt>,
    /// Scale that is served, the nearest to the requested one.
    pub scale: f64,
    /// Speed that is served, the nearest to the requested one.
    pub speed: f64,
    /// Whether the answer carries Scale and Speed.
    pub echo: Echo,
    /// `npt` in RTP ticks, for each stream.
    pub anchors: Vec<i64>,
    /// State to which the session returns when the PLAY is refused.
    pub before: State,
}

/// Headers of the PLAY that the answer repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Echo {
    /// The request has a Scale header.
    pub scale: bool,
    /// The request has a Speed header.
    pub speed: bool,
}

impl State {
    /// State as the API and the metrics show it.
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
    /// Track that feeds a stream.
    #[must_use]
    pub fn track(&self, stream: &Stream) -> Option<&Track> {
        self.title.asset.tracks.get(usize::from(stream.feed.track_index))
    }

    /// Track of a stream in the title that the SDP described.
    #[must_use]
    pub fn described_track(&self, stream: &Stream) -> Option<&Track> {
        self.described.asset.tracks.get(usize::from(stream.track_index))
    }

    /// Tracks that feed the streams.
    pub fn tracks(&self) -> impl Iterator<Item = &Track> {
        self.streams.iter().filter_map(|stream| self.track(stream))
    }

    /// Whether the streams are interleaved with the RTSP connection.
    #[must_use]
    pub fn is_interleaved(&self) -> bool {
        self.streams.iter().any(|stream| matches!(stream.outgoing.transport, Transport::Tcp { .. }))
    }

    /// Largest lag of a stream behind the clock at `at`, in nanoseconds of media; 0 when all frames
    /// are sent in time.
    pub fn lag_ns(&mut self, at: Mono) -> i64 {
        let Some(epoch) = self.epoch else { return 0 };
        let lags = self.streams.iter_mut().filter_map(|stream| stream.media_lag_ns(&epoch, at));
        lags.max().unwrap_or(0).max(0)
    }

    /// Latest playout time sent on any stream, since the start of the session.
    #[must_use]
    pub fn playout_sent_ns(&self) -> i64 {
        let Some(epoch) = &self.epoch else { return 0 };
        let sent = self.streams.iter().map(|stream| stream.playout_sent_ns(epoch));
        sent.max().unwrap_or(epoch.playout_ns)
    }

    /// Makes an epoch in which all streams go on from their places; `None` before the first epoch.
    /// The present epoch stopped at `at`. RTP time goes back on no stream, at any rate.
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

    /// Position at which a PLAY without Range goes on: [`Session::npt_at`], or the next frame of
    /// the stream that lags most.
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

    /// Position in the presentation at `now`.
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

    /// Ends the present epoch: its timers and requested windows are ignored from now on. A stream
    /// that has said BYE stays silent until a PLAY with a Range moves it.
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

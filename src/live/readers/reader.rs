//! One who reads a live path: a session whose places and pace are the path's business.
//!
//! ```text
//!  SETUP --> Ready --PLAY--> Priming --first packets known--> Playing --PAUSE--> Paused
//! ```
//! Beside this state of its session it has one in its path (`live::core::reader::FeedState`):
//! whether packets are looked for and sent. A member of a group plays here and is never fed there.
//! One that is about to be ended is fed no more there, while its session waits for its turn here.
//!
//! Invariant: its streams stand in the order of those of its `LivePath` reader.
//! Bound: a stream each track of the path.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::addresses::AddressPlace;
use crate::base::ids::{SessionId, Ssrc};
use crate::base::time::Mono;
use crate::base::wheel::Timer;
use crate::live::core::path::ReaderKey;
use crate::live::hub::Hub;
use crate::live::log::SkipsTold;
use crate::live::multicast::member::Cast;
use crate::live::readers::Readers;
use crate::poll::poll_table::EntryKey;
use crate::rtcp::ReportBlock;
use crate::rtp::RtxStream;
use crate::session::command::Waiter;
use crate::session::cx::Cx;
use crate::session::info::{SessionInfo, StreamInfo};
use crate::session::shown::ShownState;
use crate::session::transport::Transport;

/// See the module.
#[derive(Debug)]
pub struct LiveReader {
    /// Its session.
    pub id: SessionId,
    /// What it reads.
    pub path: Arc<str>,
    /// Its place there.
    pub key: ReaderKey,
    /// Its streams, in the order of their SETUPs.
    pub streams: Vec<LiveStream>,
    /// The RTSP connection that it was made on, while that lives.
    pub connection: Option<EntryKey>,
    /// Whether its packets are its own, or a group's.
    pub cast: Cast,
    pub(crate) state: ReaderState,
    pub(crate) peer: SocketAddr,
    /// Its place among the sessions of its address; the sender of a group is no session.
    pub(crate) _admitted: Option<AddressPlace>,
    pub(crate) user_agent: Option<String>,
    pub(crate) created: Mono,
    /// When the client was last heard of.
    pub(crate) alive: Mono,
    /// Tells its keys of the wheel from those of one that was in its place before.
    pub(crate) serial: u32,
    /// When the wheel wakes it next.
    pub(crate) wakes: Option<Mono>,
    /// Its key of the wheel.
    pub(crate) timer: Timer,
    pub(crate) report_due: Mono,
    pub(crate) cname: String,
    pub(crate) skips_told: SkipsTold,
}

/// One stream of a reader.
#[derive(Debug)]
pub struct LiveStream {
    /// Track of the path.
    pub track: u8,
    /// How its packets travel.
    pub path: Transport,
    /// What its packets are sent under, once one was.
    pub ssrc: Option<Ssrc>,
    /// Packets sent again, where the reader asked for feedback.
    pub rtx: Option<LiveRtx>,
    pub(crate) clock_rate_hz: u32,
    /// As the client spelled it: RTP-Info repeats it (client rule C6).
    pub(crate) control_url: Box<str>,
    /// Newest report on it, and the round-trip time by it.
    pub(crate) report: Option<Box<(ReportBlock, Option<u64>)>>,
}

/// How a stream's packets are sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveRtx {
    /// The stream of retransmissions.
    pub stream: RtxStream,
    /// The payload type that they are for.
    pub original: u8,
}

/// See the module's picture.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ReaderState {
    Ready,
    Priming { waiter: Waiter, cseq: Option<u32>, since: Mono },
    Playing,
    Paused,
}

impl ReaderState {
    /// What it is outside.
    pub(crate) fn shown(self) -> ShownState {
        match self {
            Self::Ready => ShownState::Ready,
            Self::Priming { .. } | Self::Playing => ShownState::Playing,
            Self::Paused => ShownState::Paused,
        }
    }
}

impl LiveReader {
    /// Tells it from one that was in its place before.
    #[must_use]
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Over TCP: interleaved with its RTSP connection.
    #[must_use]
    pub fn is_interleaved(&self) -> bool {
        self.streams.iter().any(|stream| matches!(stream.path, Transport::Tcp { .. }))
    }

    /// Somebody's, not what a group is sent by.
    #[must_use]
    pub fn is_session(&self) -> bool {
        self.cast != Cast::Group
    }

    fn transport(&self) -> &'static str {
        match self.cast {
            Cast::Own if self.is_interleaved() => "tcp",
            Cast::Own => "udp",
            Cast::Member | Cast::Group => "multicast",
        }
    }
}

impl Readers {
    /// Changes a reader's state, and the gauge with it.
    pub(crate) fn set_reader_state(&mut self, cx: &Cx, index: u32, state: ReaderState) {
        let Some(reader) = self.table.get_mut(index as usize) else { return };
        cx.recount_player(reader.state.shown(), state.shown());
        reader.state = state;
    }
}

/// What the outside is shown of a reader.
pub(crate) fn reader_info(cx: &Cx, hub: &Hub, reader: &LiveReader) -> SessionInfo {
    let path = hub.paths.path(&reader.path);
    let counts = path.and_then(|path| path.reader(reader.key));
    let streams = reader.streams.iter().enumerate().map(|(place, stream)| {
        let sent = counts.and_then(|counts| counts.streams.get(place));
        let report = stream.report.as_deref();
        let clock_rate_hz = f64::from(stream.clock_rate_hz.max(1));
        StreamInfo {
            track: stream.track,
            encoding: String::new(),
            ssrc: stream.ssrc.map(|ssrc| format!("{:08X}", ssrc.0)).unwrap_or_default(),
            packets_sent: sent.map_or(0, |sent| sent.packets_sent),
            payload_bytes_sent: sent.map_or(0, |sent| sent.payload_bytes_sent),
            fraction_lost: report.map(|(block, _)| f64::from(block.fraction_lost) / 256.0),
            packets_lost: report.map(|(block, _)| i64::from(block.cumulative_lost)),
            jitter_s: report.map(|(block, _)| f64::from(block.jitter) / clock_rate_hz),
            round_trip_s: report
                .and_then(|(_, round_trip_ns)| *round_trip_ns)
                .map(|ns| Duration::from_nanos(ns).as_secs_f64()),
            quality: None,
        }
    });
    SessionInfo {
        id: reader.id.to_string(),
        shard: cx.shard.0,
        role: "reader",
        path: reader.path.to_string(),
        peer: reader.peer.to_string(),
        user_agent: reader.user_agent.clone(),
        state: reader.state.shown().as_str(),
        transport: reader.transport(),
        npt_s: 0.0,
        scale: 1.0,
        speed: 1.0,
        age_s: cx.now.since(reader.created).as_secs_f64(),
        streams: streams.collect(),
        reader: path.and_then(|path| path.reader_info(reader.key)),
        source: None,
    }
}

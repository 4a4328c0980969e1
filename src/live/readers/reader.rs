//! A reader of a live path: a session. The path's `Reader` has its position and pace.
//!
//! ```text
//!  SETUP --> Ready --PLAY--> Priming --first packets known--> Playing --PAUSE--> Paused
//! ```
//! A reader has two states: that of its session here, and that of its feed in its path
//! (`live::core::reader::FeedState`), which says whether packets are looked for and sent. A member
//! of a group plays here and is never fed there. A reader that is about to be ended is fed no more
//! there, while its session waits for its turn here.
//!
//! Invariant: the session's streams have the order of the streams of its `LivePath` reader.
//! Bound: one stream for each track of the path.

use std::sync::Arc;
use std::time::Duration;

use crate::base::carrier::Carrier;
use crate::base::time::Mono;
use crate::base::wheel::Timer;
use crate::live::core::description::LiveTrack;
use crate::live::core::path::ReaderKey;
use crate::live::core::reader::To;
use crate::live::hub::Hub;
use crate::live::multicast::member::Delivery;
use crate::live::readers::log::SkipsTold;
use crate::session::client::Client;
use crate::session::command::ReplyTo;
use crate::session::cx::Cx;
use crate::session::info::{SessionInfo, StreamInfo};
use crate::session::outgoing::Outgoing;
use crate::session::shown::ShownState;
use crate::session::transport::Transport;

/// A session that reads a live path: see the module.
#[derive(Debug)]
pub struct LiveReader {
    /// Client of the session; `Client::nobody` for a multicast sender.
    pub client: Client,
    /// Name of the path.
    pub path: Arc<str>,
    /// Key of the reader in its path.
    pub key: ReaderKey,
    /// Streams in the order of their SETUP requests.
    pub streams: Vec<LiveStream>,
    /// Whether the reader has packets of its own, or those of a group.
    pub delivery: Delivery,
    pub(crate) state: ReaderState,
    /// Tells the reader's timers from those of an earlier reader in this place.
    pub(crate) serial: u32,
    /// When the wheel wakes the reader.
    pub(crate) wakes: Option<Mono>,
    /// Key of the wheel.
    pub(crate) timer: Timer,
    pub(crate) report_due: Mono,
    pub(crate) skips_told: SkipsTold,
}

/// One stream of a reader.
#[derive(Debug)]
pub struct LiveStream {
    /// Index of the path's track.
    pub track: u8,
    /// Wire identity of the stream. Its numbers, and counts of what was sent, are in the path.
    pub outgoing: Outgoing,
}

/// State of a reader: see the picture of the module.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ReaderState {
    Ready,
    Priming { reply_to: ReplyTo, cseq: Option<u32>, since: Mono },
    Playing,
    Paused,
}

impl ReaderState {
    /// The state as API and metrics show it.
    pub(crate) fn shown(self) -> ShownState {
        match self {
            Self::Ready => ShownState::Ready,
            Self::Priming { .. } | Self::Playing => ShownState::Playing,
            Self::Paused => ShownState::Paused,
        }
    }
}

/// Destination of packets with this transport.
pub(crate) fn destination(transport: Transport) -> To {
    match transport {
        Transport::Udp { pair, rtp, .. } => To::Datagrams { pair, client: rtp },
        Transport::Tcp { channel, .. } => To::Channel(channel),
        Transport::Group { .. } => To::Nowhere,
    }
}

/// Payload type and clock rate of a track: the first type that its description names, which is
/// the one that is sent again.
pub(crate) fn payload(track: &LiveTrack) -> (u8, u32) {
    (track.payload_types.first().copied().unwrap_or(0), track.clock_rate_hz)
}

impl LiveReader {
    /// Serial that tells the reader from an earlier one in this place.
    #[must_use]
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Whether the packets are interleaved with the RTSP connection.
    #[must_use]
    pub fn is_interleaved(&self) -> bool {
        self.streams.iter().any(|stream| matches!(stream.outgoing.transport, Transport::Tcp { .. }))
    }

    /// Whether the reader is a session, not a multicast sender.
    #[must_use]
    pub fn is_session(&self) -> bool {
        self.delivery != Delivery::MulticastSender
    }

    fn carrier(&self) -> Carrier {
        match self.delivery {
            Delivery::Unicast if self.is_interleaved() => Carrier::Tcp,
            Delivery::Unicast => Carrier::Udp,
            Delivery::MulticastMember | Delivery::MulticastSender => Carrier::Multicast,
        }
    }
}

/// Figures of a reader.
pub(crate) fn reader_info(cx: &Cx, hub: &Hub, reader: &LiveReader) -> SessionInfo {
    let path = hub.paths.path(&reader.path);
    let counts = path.and_then(|path| path.reader(reader.key));
    let streams = reader.streams.iter().enumerate().map(|(place, stream)| {
        let sent = counts.and_then(|counts| counts.streams.get(place));
        let report = stream.outgoing.report.as_deref();
        let clock_rate_hz = f64::from(stream.outgoing.clock_rate_hz.max(1));
        StreamInfo {
            track: stream.track,
            encoding: String::new(),
            ssrc: stream.outgoing.ssrc().map(|ssrc| format!("{:08X}", ssrc.0)).unwrap_or_default(),
            packets_sent: sent.map_or(0, |sent| sent.sent_before.0 + sent.packets_sent),
            payload_bytes_sent: sent.map_or(0, |sent| sent.sent_before.1 + sent.payload_bytes_sent),
            fraction_lost: report.map(|report| f64::from(report.block.fraction_lost) / 256.0),
            packets_lost: report.map(|report| i64::from(report.block.cumulative_lost)),
            jitter_s: report.map(|report| f64::from(report.block.jitter) / clock_rate_hz),
            round_trip_s: report
                .and_then(|report| report.round_trip_ns)
                .map(|ns| Duration::from_nanos(ns).as_secs_f64()),
            quality: None,
        }
    });
    SessionInfo {
        id: reader.client.id.to_string(),
        shard: Some(cx.shard.0),
        role: "reader",
        path: reader.path.to_string(),
        peer: reader.client.peer.to_string(),
        user_agent: reader.client.user_agent.clone(),
        user: reader.client.user.as_deref().map(str::to_owned),
        state: reader.state.shown().as_str(),
        transport: reader.carrier().label(),
        npt_s: 0.0,
        scale: 1.0,
        speed: 1.0,
        age_s: cx.now.since(reader.client.created).as_secs_f64(),
        streams: streams.collect(),
        channel: None,
        reader: path.and_then(|path| path.reader_info(reader.key)),
        source: None,
    }
}

//! Figures of sources and publishers, for operators.

use std::time::Duration;

use jiff::Timestamp;

use crate::config::source::SourceAddress;
use crate::live::core::info::{SourceInfo, SourceTrackInfo, drops, source_totals};
use crate::live::core::source::SourceTrack;
use crate::live::sources::publisher::Publisher;
use crate::live::sources::publishers::Publishers;
use crate::metrics::paths::PathTotals;
use crate::session::cx::Cx;
use crate::session::info::SessionInfo;

impl Publishers {
    pub(crate) fn session_info(&self, cx: &Cx, number: u32) -> Option<SessionInfo> {
        let publisher = self.get(&number)?;
        let source = self.source_info(cx, number)?;
        Some(SessionInfo {
            id: publisher.id()?.to_string(),
            shard: Some(cx.shard.0),
            role: "publisher",
            path: publisher.source.path().to_string(),
            peer: source.peer.clone(),
            user_agent: source.user_agent.clone(),
            user: publisher.user().map(str::to_owned),
            state: source.state,
            transport: source.transport.unwrap_or("none"),
            npt_s: 0.0,
            scale: 1.0,
            speed: 1.0,
            age_s: source.age_s,
            streams: Vec::new(),
            channel: None,
            reader: None,
            source: Some(source),
        })
    }

    pub(crate) fn source_info(&self, cx: &Cx, number: u32) -> Option<SourceInfo> {
        let publisher = self.get(&number)?;
        let (source, config) = (&publisher.source, cx.path_config(publisher.source.path()));
        let counts = source.counts();
        let age = source.began().map(|began| cx.now.since(began));
        let tracks: Vec<SourceTrackInfo> = (0..)
            .zip(&publisher.tracks)
            .map(|(track, _)| track_info(cx, publisher, track))
            .collect();
        let gop = source.description().sync_track().and_then(|track| {
            let ticks = source.track(track)?.meter().gop_ticks?;
            let clock_rate_hz = source.description().tracks.get(usize::from(track))?.clock_rate_hz;
            Some(f64::from(ticks) / f64::from(clock_rate_hz.max(1)))
        });
        Some(SourceInfo {
            kind: kind(&config.source, publisher),
            state: if publisher.is_recording() { "recording" } else { "announced" },
            url: match publisher.relayed_from() {
                Some(from) => Some(from.to_string()),
                None => publisher.id().is_none().then(|| config.source.to_string()),
            },
            peer: match (publisher.relayed_from(), publisher.plays()) {
                (Some(name), _) | (None, Some((name, _))) => name.to_string(),
                (None, None) => publisher.peer.to_string(),
            },
            title: publisher.plays().map(|(title, _)| title.to_string()),
            position_s: publisher.plays().map(|(_, zero)| cx.now.since(zero).as_secs_f64()),
            transport: publisher
                .tracks
                .iter()
                .find_map(|track| track.transport)
                .map(|transport| transport.carrier().label()),
            user_agent: publisher.user_agent().map(str::to_owned),
            session: publisher.id().map(|id| id.to_string()),
            shard: cx.shard.0,
            since: age.and_then(|age| utc_before(cx, age)),
            age_s: age.unwrap_or_default().as_secs_f64(),
            packets: counts.packets,
            bytes: counts.bytes,
            bits_per_s: source.bits_per_s(),
            packets_lost: source.packets_lost(),
            packets_dropped: drops(&counts),
            sync_samples: counts.sync_samples,
            gop_s: gop,
            tracks,
        })
    }
}

/// The time so long ago, in UTC (RFC 3339).
pub(crate) fn utc_before(cx: &Cx, age: Duration) -> Option<String> {
    let ns = i128::from(cx.utc_ns) - i128::try_from(age.as_nanos()).unwrap_or_default();
    Timestamp::from_nanosecond(ns).ok().map(|at| format!("{at:.0}"))
}

/// Counters that a publisher adds to those of its path. What a relay takes was received, and lost,
/// on the path of its source.
pub(crate) fn totals_of(publisher: &Publisher) -> PathTotals {
    let totals = source_totals(&publisher.source.counts(), publisher.source.packets_lost());
    match publisher.relayed_from() {
        None => totals,
        Some(_) => PathTotals {
            packets_relayed: totals.packets_received,
            packets_received: 0,
            bytes_received: 0,
            packets_lost: 0,
            ..totals
        },
    }
}

fn kind(configured: &SourceAddress, publisher: &Publisher) -> &'static str {
    match configured {
        _ if publisher.id().is_some() => "publish",
        _ if publisher.relayed_from().is_some() => "fallback",
        _ if publisher.plays().is_some() => "title",
        SourceAddress::Publish => "publish",
        SourceAddress::Rtsp(_) => "rtsp",
        SourceAddress::Udp(_) => "udp",
        SourceAddress::Sdp(_) => "file",
        SourceAddress::Title(_) => "title",
    }
}

fn track_info(cx: &Cx, publisher: &Publisher, index: u8) -> SourceTrackInfo {
    let media = publisher.sdp.medias().get(usize::from(index));
    let spec = publisher.source.description().tracks.get(usize::from(index));
    let track = publisher.source.track(index);
    let meter = track.map(|track| *track.meter()).unwrap_or_default();
    let first = spec.and_then(|spec| spec.payload_types.first().copied());
    let payload_type = meter.payload_type.or(first);
    let clock_rate_hz = spec.map_or(0, |spec| spec.clock_rate_hz);
    let encoding = media.zip(payload_type).and_then(|(media, number)| media.encoding(number));
    let jitter = track.and_then(SourceTrack::reception).map(|seen| seen.jitter_ticks());
    SourceTrackInfo {
        track: index,
        media: media.map(|media| media.kind.clone()).unwrap_or_default(),
        encoding: encoding.map(|encoding| encoding.name).unwrap_or_default(),
        clock_rate_hz,
        payload_type,
        ssrc: track.and_then(SourceTrack::ssrc).map(|ssrc| format!("{:08X}", ssrc.0)),
        packets: meter.packets,
        bytes: meter.bytes,
        packets_lost: track.map_or(0, SourceTrack::packets_lost),
        jitter_s: jitter.map(|ticks| f64::from(ticks) / f64::from(clock_rate_hz.max(1))),
        last_packet_age_s: meter.newest.map(|came| cx.now.since(came).as_secs_f64()),
    }
}

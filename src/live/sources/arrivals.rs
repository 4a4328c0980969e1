//! Packets from publishers: RTP to their sources, sender reports to their clocks.
//!
//! ```text
//!  datagram --pair, address--> track of a publisher --checked, peeked--> Source
//!  $ frame  --connection, channel-----^
//! ```
//! A datagram from an unknown address is counted. The source counts packets that it drops, by
//! cause. DESIGN section 5.7.

use std::net::SocketAddr;

use crate::base::ids::{RtpTs, Ssrc};
use crate::live::core::demux::{Fit, SocketName, Target};
use crate::live::core::source::{ArrivalTime, SourceTrack};
use crate::live::sources::Sources;
use crate::live::sources::announced::PublisherTrack;
use crate::live::sources::publisher::fields;
use crate::live::sources::publishers::Publishers;
use crate::poll::poll_table::EntryKey;
use crate::rtcp::{self, Packet};
use crate::rtp::srtp::SrtpStream;
use crate::rtp::{RtpView, is_rtcp};
use crate::rtsp::reader::Channels;
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;
use crate::session::srtp::{count_refused, open_rtcp};
use crate::session::transport::Transport;

impl Sources {
    /// Takes a datagram at the RTP port of a pair. Datagrams of players, which open their NAT by
    /// sending there (client rule C21), belong to no source.
    pub fn handle_rtp_datagram(&mut self, cx: &mut Cx, pair: u16, from: SocketAddr, bytes: &[u8]) {
        let (demux, publishers) = (&mut cx.demux, &self.publishers);
        let fit = |target: Target| match publishers.get(&target.source) {
            Some(publisher) if publisher.fits(target.track, bytes) => Fit::Sure,
            Some(_) | None => Fit::No,
        };
        match demux.find(SocketName { pair, is_rtcp: false }, from, fit) {
            Some(target) => self.publishers.handle_packet(cx, target, Some(from), bytes),
            None => cx.cells.datagrams_unmatched.add(1),
        }
    }

    /// Takes a datagram at the RTCP port of a pair. False when the sender is no publisher.
    pub(crate) fn handle_publisher_datagram(
        &mut self,
        cx: &mut Cx,
        pair: u16,
        from: SocketAddr,
        bytes: &[u8],
    ) -> bool {
        if self.publishers.is_empty() {
            return false;
        }
        let now = cx.now;
        let (demux, publishers) = (&mut cx.demux, &self.publishers);
        let report = sender_of_report(bytes);
        let fit = |target: Target| {
            let source = publishers.get(&target.source).map(|publisher| &publisher.source);
            let Some((source, (ssrc, ts))) = source.zip(report) else { return Fit::No };
            match source.track(target.track).and_then(SourceTrack::ssrc) {
                None => Fit::Unknown,
                Some(its) if its == ssrc => Fit::Sure,
                // The RTP times of several tracks may begin at the same number.
                Some(_) if source.is_report_of(target.track, ssrc, ts, now) => Fit::Likely,
                Some(_) => Fit::No,
            }
        };
        let found = demux.find(SocketName { pair, is_rtcp: true }, from, fit);
        if let Some(target) = found {
            self.publishers.handle_report(cx, target, Some(from), bytes);
        }
        found.is_some()
    }

    /// Takes an interleaved packet. False when the channel is no publisher's.
    pub(crate) fn handle_publisher_interleaved(
        &mut self,
        cx: &Cx,
        entry: EntryKey,
        channel: u8,
        bytes: &[u8],
    ) -> bool {
        let owner = cx.directory.of_channel(entry, channel);
        let Some(SessionRef::Publisher(source)) = owner else { return false };
        self.publishers.handle_frame(cx, source, channel, bytes)
    }

    /// The interleaved channels of publishers on a connection.
    #[must_use]
    pub fn media_channels_on(&self, cx: &Cx, entry: EntryKey) -> Channels {
        let mut channels = Channels::default();
        if self.publishers.is_empty() {
            return channels;
        }
        for session in cx.directory.of_connection(entry) {
            if let SessionRef::Publisher(source) = *session {
                self.publishers.add_channels(source, &mut channels);
            }
        }
        channels
    }

    /// The interleaved channels of a pulled source.
    #[must_use]
    pub fn media_channels_of(&self, source: u32) -> Channels {
        let mut channels = Channels::default();
        self.publishers.add_channels(source, &mut channels);
        channels
    }
}

impl Publishers {
    fn add_channels(&self, source: u32, channels: &mut Channels) {
        let tracks = self.get(&source).map(|publisher| &publisher.tracks);
        for track in tracks.into_iter().flatten() {
            if let Some(Transport::Tcp { channel, rtcp_channel }) = track.transport {
                channels.insert(channel);
                channels.insert(rtcp_channel);
            }
        }
    }

    /// Takes an interleaved packet. False when the channel is none of the publisher's.
    pub(crate) fn handle_frame(&mut self, cx: &Cx, source: u32, channel: u8, bytes: &[u8]) -> bool {
        let tracks = self.get(&source).map(|publisher| &publisher.tracks);
        let found = tracks.and_then(|tracks| track_of_channel(tracks, channel));
        let Some((track, is_report)) = found else { return false };
        let target = Target { source, track };
        if is_report {
            self.handle_report(cx, target, None, bytes);
        } else {
            self.handle_packet(cx, target, None, bytes);
        }
        true
    }

    pub(crate) fn handle_packet(
        &mut self,
        cx: &Cx,
        target: Target,
        from: Option<SocketAddr>,
        bytes: &[u8],
    ) {
        if is_rtcp(bytes) {
            // RTP and RTCP share one port (RFC 5761).
            self.handle_report(cx, target, from, bytes);
            return;
        }
        let Some(publisher) = self.get(&target.source) else { return };
        if let Some(track) = publisher.tracks.get(usize::from(target.track))
            && let Some(srtp) = &track.srtp
        {
            let srtp = srtp.clone();
            return self.open_packet(cx, target, from, bytes, &srtp);
        }
        self.take_packet(cx, target, from, bytes);
    }

    /// Decrypts a packet, and takes it. One that is not what SRTP says is counted.
    fn open_packet(
        &mut self,
        cx: &Cx,
        target: Target,
        from: Option<SocketAddr>,
        bytes: &[u8],
        srtp: &SrtpStream,
    ) {
        let mut opened = std::mem::take(&mut self.opened);
        opened.clear();
        opened.extend_from_slice(bytes);
        match srtp.unprotect_rtp(&mut opened) {
            Ok(end) => self.take_packet(cx, target, from, opened.get(..end).unwrap_or_default()),
            Err(error) => count_refused(&cx.cells, error),
        }
        self.opened = opened;
    }

    fn take_packet(&mut self, cx: &Cx, target: Target, from: Option<SocketAddr>, bytes: &[u8]) {
        let at = ArrivalTime { now: cx.now, utc_ns: cx.utc_ns };
        let Some(publisher) = self.get_mut(&target.source) else { return };
        let view = match RtpView::parse(bytes) {
            Ok(view) => view,
            Err(error) => {
                let path = publisher.source.path();
                tracing::trace!(%path, track = target.track, %error, "not RTP");
                publisher.source.refuse_malformed();
                return;
            }
        };
        let Some(track) = publisher.tracks.get_mut(usize::from(target.track)) else { return };
        let entry = track.entry(&view);
        let (fields, is_sync) = (fields(&view), entry.is_sync());
        let taken = publisher.source.handle_rtp(target.track, from, &fields, is_sync, bytes, at);
        if taken.is_ok() {
            track.learn(&view);
            publisher.source.note_entry(target.track, entry);
            if publisher.source.has_news_of_left_out() {
                let (path, track) = (publisher.source.path(), target.track);
                tracing::warn!(
                    code = "HE-W305", %path, track, bytes = bytes.len(),
                    "packets too long for a datagram, in a payload format that is not cut: only \
                     readers over TCP get them"
                );
            }
        }
        match taken {
            Ok(()) => {
                if publisher.relayed_from().is_none() {
                    cx.cells.source_packets_received.add(1);
                    cx.cells.source_bytes_received.add(bytes.len() as u64);
                }
                if !std::mem::replace(&mut publisher.is_unfed, true) {
                    self.note_unfed(target.source);
                }
            }
            Err(error) => {
                cx.cells.source_packets_dropped.add(1);
                let path = publisher.source.path();
                tracing::trace!(%path, track = target.track, %error, "packet not taken");
            }
        }
    }

    pub(crate) fn handle_report(
        &mut self,
        cx: &Cx,
        target: Target,
        from: Option<SocketAddr>,
        bytes: &[u8],
    ) {
        let at = ArrivalTime { now: cx.now, utc_ns: cx.utc_ns };
        let track = self.get(&target.source).map(|publisher| &publisher.tracks);
        let track = track.and_then(|tracks| tracks.get(usize::from(target.track)));
        let srtp = track.and_then(|track| track.srtp.clone());
        let mut opened = Vec::new();
        let bytes = match srtp {
            None => bytes,
            Some(srtp) => match open_rtcp(&cx.cells, &srtp, bytes, &mut opened) {
                Some(bytes) => bytes,
                None => return,
            },
        };
        let Some(publisher) = self.get_mut(&target.source) else { return };
        let is_pulled = publisher.is_pulled();
        for packet in rtcp::packets(bytes) {
            match packet {
                Ok(Packet::SenderReport { ssrc, info, .. }) => {
                    let line = (info.ntp, info.rtp_ts);
                    // The source counts a report that is not its own.
                    let _foreign =
                        publisher.source.handle_sender_report(target.track, from, ssrc, line, at);
                }
                Ok(Packet::Bye(bye)) if is_pulled => {
                    for by in bye.sources() {
                        publisher.handle_bye(target.track, by, at.now);
                    }
                }
                Ok(_) => {}
                Err(_) => cx.cells.rtcp_malformed.add(1),
            }
        }
    }
}

/// The track of a channel, and whether the channel carries RTCP.
fn track_of_channel(tracks: &[PublisherTrack], wanted: u8) -> Option<(u8, bool)> {
    (0..).zip(tracks).find_map(|(track, entry)| match entry.transport {
        Some(Transport::Tcp { channel, .. }) if channel == wanted => Some((track, false)),
        Some(Transport::Tcp { rtcp_channel, .. }) if rtcp_channel == wanted => Some((track, true)),
        Some(Transport::Tcp { .. } | Transport::Udp { .. } | Transport::Group { .. }) | None => {
            None
        }
    })
}

/// SSRC and RTP time of a compound packet that begins with a sender report.
fn sender_of_report(bytes: &[u8]) -> Option<(Ssrc, RtpTs)> {
    let Ok(Packet::SenderReport { ssrc, info, .. }) = rtcp::packets(bytes).next()? else {
        return None;
    };
    Some((ssrc, info.rtp_ts))
}

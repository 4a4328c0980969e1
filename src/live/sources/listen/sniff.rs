//! Recognises the stream at an address without a description: MPEG-TS, RTP, or neither.
//!
//! ```text
//!  datagram --0x47 every 188 or 204 bytes, 5 times--> MPEG-TS
//!     |------RTP, twice in a row of one stream---------> 33, or TS inside: MPEG-TS in RTP
//!     |                                                  a static type: as RFC 3551 defines it
//!     |                                                  a dynamic type: refused
//!     `------neither, 64 times-------------------------> refused
//! ```
//! Two packets in a row are RTP's own test of a source (RFC 3550 A.1). Examined datagrams are kept,
//! so that the beginning of the stream is not lost.
//! Bound: `KEPT_MAX` datagrams.
#![deny(clippy::indexing_slicing)]

use std::net::SocketAddr;

use crate::base::ids::{SeqNo, Ssrc};
use crate::live::sources::listen::ts::{MP2T, TS_BYTES, TsShape};
use crate::rtp::RtpView;
use crate::sdp::read::read_session;
use crate::sdp::session::SessionSdp;

/// The stream that was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// MPEG-TS without RTP.
    Ts {
        /// Bytes from one packet to the next.
        stride: usize,
    },
    /// RTP that needs no description, or has a fixed one.
    Rtp {
        /// Payload type of the stream.
        payload_type: u8,
    },
}

/// Why the stream cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SniffError {
    /// The RTP payload type is dynamic: only a description explains it.
    #[error(
        "RTP of payload type {payload_type}, which only a description explains: save the SDP of \
         the sender and use source = \"file:NAME.sdp\""
    )]
    NeedsDescription {
        /// Payload type of the stream.
        payload_type: u8,
    },
    /// The datagrams are neither RTP nor MPEG-TS.
    #[error("datagrams are neither RTP nor MPEG-TS")]
    Unknown,
}

/// The recogniser of one input: see the module.
#[derive(Debug, Default)]
pub struct Sniffer {
    kept: Vec<(SocketAddr, Box<[u8]>)>,
    /// SSRC, payload type and sequence number of the newest RTP packet.
    rtp: Option<(Ssrc, u8, SeqNo)>,
    /// Sender of MPEG-TS, stride, and number of packets that began.
    ts: Option<(SocketAddr, usize, usize)>,
    seen_count: usize,
}

impl Sniffer {
    /// Examines a datagram; `None` while more datagrams are needed.
    pub fn handle_datagram(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Option<Result<Found, SniffError>> {
        if self.kept.len() == KEPT_MAX {
            self.kept.remove(0);
        }
        self.kept.push((from, datagram.into()));
        self.seen_count += 1;
        let shape = TsShape::find(datagram);
        let rtp = RtpView::parse(datagram).ok().filter(|view| !view.payload().is_empty());
        let is_inside = rtp.is_some_and(|view| holds_ts(&view));
        if let Some(verdict) = rtp.and_then(|view| self.handle_rtp(&view, is_inside)) {
            return Some(verdict);
        }
        if let Some(TsShape { stride, count, .. }) = shape.filter(|_| !is_inside) {
            let before = match self.ts {
                Some((known, same, before)) if (known, same) == (from, stride) => before,
                _ => 0,
            };
            self.ts = Some((from, stride, before + count));
            if before + count >= SYNC_BYTES_MIN {
                return Some(Ok(Found::Ts { stride }));
            }
        }
        (self.seen_count >= SEEN_MAX).then_some(Err(SniffError::Unknown))
    }

    /// All examined datagrams of one sender.
    pub fn into_kept(self, from: SocketAddr) -> impl Iterator<Item = Box<[u8]>> {
        self.kept.into_iter().filter(move |(sender, _)| *sender == from).map(|(_, bytes)| bytes)
    }

    /// Examines an RTP packet: the second packet in a row of one stream decides.
    fn handle_rtp(
        &mut self,
        view: &RtpView<'_>,
        has_ts: bool,
    ) -> Option<Result<Found, SniffError>> {
        let (ssrc, payload_type, seq) = (view.ssrc(), view.payload_type(), view.seq());
        let before = self.rtp.replace((ssrc, payload_type, seq));
        let is_next = before.is_some_and(|(known, same, last)| {
            let step = seq.0.wrapping_sub(last.0);
            (known, same) == (ssrc, payload_type) && (1..=STEP_MAX).contains(&step)
        });
        if !is_next {
            return None;
        }
        // Some senders of MPEG-TS use a dynamic payload type.
        let is_known = payload_type == MP2T || has_ts || is_static(payload_type);
        let needs = SniffError::NeedsDescription { payload_type };
        Some(if is_known { Ok(Found::Rtp { payload_type }) } else { Err(needs) })
    }
}

/// Whether the payload is whole packets of MPEG-TS.
fn holds_ts(view: &RtpView<'_>) -> bool {
    let payload = view.payload();
    payload.len().is_multiple_of(TS_BYTES)
        && TsShape::find(payload).is_some_and(|shape| shape.offset == 0)
}

impl Found {
    /// The description of the stream, as its sender would have written it.
    pub fn description(self) -> Option<SessionSdp> {
        let payload_type = match self {
            Self::Ts { .. } => MP2T,
            Self::Rtp { payload_type } => payload_type,
        };
        let media = |kind: &str, map: &str| {
            let text = format!("v=0\nm={kind} 0 RTP/AVP {payload_type}\n{map}");
            read_session(text.as_bytes()).ok()
        };
        let is_ts = payload_type == MP2T || !is_static(payload_type);
        if is_ts {
            return media("video", &format!("a=rtpmap:{payload_type} MP2T/90000\n"));
        }
        // RFC 3551 s6: payload types below 24 are sound.
        let kind = if payload_type < 24 { "audio" } else { "video" };
        let plain = media(kind, "")?;
        let encoding = plain.medias().first()?.encoding(payload_type)?;
        let (name, hz) = (encoding.name, encoding.clock_rate_hz);
        let channels = encoding.channels.filter(|channels| *channels > 1);
        let channels = channels.map(|channels| format!("/{channels}")).unwrap_or_default();
        media(kind, &format!("a=rtpmap:{payload_type} {name}/{hz}{channels}\n"))
    }
}

/// Whether RFC 3551 defines a payload type.
fn is_static(payload_type: u8) -> bool {
    let text = format!("v=0\nm=video 0 RTP/AVP {payload_type}\n");
    let read = read_session(text.as_bytes()).ok();
    read.and_then(|sdp| sdp.medias().first()?.encoding(payload_type)).is_some()
}

/// Packets of MPEG-TS that must begin with a sync byte.
const SYNC_BYTES_MIN: usize = 5;
/// Sequence numbers that may be missing between two packets in a row: a burst that was lost.
const STEP_MAX: u16 = 100;
/// Datagrams that may be neither: an address receives other traffic, too.
const SEEN_MAX: usize = 64;
/// Examined datagrams that are kept.
const KEPT_MAX: usize = 16;

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may fail where it is wrong")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn from(host: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, host], 5_000))
    }

    fn rtp(payload_type: u8, seq: u16, ssrc: u8, payload: &[u8]) -> Vec<u8> {
        let [high, low] = seq.to_be_bytes();
        let header = [0x80, payload_type, high, low, 0, 0, 0, low, 0, 0, 0, ssrc];
        [&header[..], payload].concat()
    }

    fn ts(count: usize) -> Vec<u8> {
        let mut bytes = vec![0x80; count * 188];
        bytes.iter_mut().step_by(188).for_each(|byte| *byte = 0x47);
        bytes
    }

    /// Result of the last of some datagrams of one sender; the others have no result.
    fn last(datagrams: &[Vec<u8>]) -> Option<Result<Found, SniffError>> {
        let mut sniffer = Sniffer::default();
        let (last, first) = datagrams.split_last().unwrap();
        for datagram in first {
            assert_eq!(sniffer.handle_datagram(from(1), datagram), None);
        }
        sniffer.handle_datagram(from(1), last)
    }

    #[test]
    fn transport_stream_is_found_aligned_cut_and_a_packet_at_a_time() {
        assert_eq!(last(&[ts(7)]), Some(Ok(Found::Ts { stride: 188 })));
        assert_eq!(last(&[ts(8)[100..].to_vec()]), Some(Ok(Found::Ts { stride: 188 })));
        assert_eq!(last(&vec![ts(1); 5]), Some(Ok(Found::Ts { stride: 188 })));
    }

    #[test]
    fn rtp_is_found_with_its_second_packet_in_a_row() {
        let of = |pt| last(&[rtp(pt, 65_535, 1, b"x"), rtp(pt, 0, 1, b"x")]);
        for payload_type in [0, 8, 14, 26, 32, 33] {
            assert_eq!(of(payload_type), Some(Ok(Found::Rtp { payload_type })));
        }
        assert_eq!(of(96), Some(Err(SniffError::NeedsDescription { payload_type: 96 })));
        let same = rtp(0, 5, 1, b"x");
        assert_eq!(last(&[same.clone(), same, rtp(0, 6, 2, b"x"), rtp(0, 4, 1, b"x")]), None);
    }

    #[test]
    fn transport_stream_inside_of_rtp_is_rtp_of_whatever_type() {
        for payload_type in [33, 100] {
            let packets = [rtp(payload_type, 1, 1, &ts(7)), rtp(payload_type, 2, 1, &ts(7))];
            assert_eq!(last(&packets), Some(Ok(Found::Rtp { payload_type })));
            let sdp = Found::Rtp { payload_type }.description().unwrap();
            let encoding = sdp.medias()[0].encoding(payload_type).unwrap();
            assert_eq!((encoding.name.as_str(), encoding.clock_rate_hz), ("MP2T", 90_000));
        }
    }

    #[test]
    fn input_that_is_neither_rtp_nor_mpeg_ts_is_refused_after_a_time_and_other_senders_passed_over()
    {
        let mut sniffer = Sniffer::default();
        for _ in 1..SEEN_MAX {
            assert_eq!(sniffer.handle_datagram(from(2), b"knock"), None);
        }
        assert_eq!(sniffer.handle_datagram(from(2), b"x"), Some(Err(SniffError::Unknown)));
        assert!(sniffer.kept.len() <= KEPT_MAX);
        let mut sniffer = Sniffer::default();
        sniffer.handle_datagram(from(2), b"knock");
        sniffer.handle_datagram(from(1), &rtp(0, 1, 1, b"a"));
        assert!(sniffer.handle_datagram(from(1), &rtp(0, 2, 1, b"b")).is_some());
        assert_eq!(sniffer.into_kept(from(1)).count(), 2);
    }

    #[test]
    fn description_of_a_static_type_is_that_of_the_table() {
        let shown = |payload_type| {
            let sdp = Found::Rtp { payload_type }.description().unwrap();
            let media = &sdp.medias()[0];
            let map = media.attribute("rtpmap").unwrap().to_owned();
            format!("{} {map}", media.kind)
        };
        assert_eq!(shown(0), "audio 0 PCMU/8000");
        assert_eq!(shown(10), "audio 10 L16/44100/2");
        assert_eq!(shown(14), "audio 14 MPA/90000");
        assert_eq!(shown(26), "video 26 JPEG/90000");
        assert_eq!(shown(32), "video 32 MPV/90000");
        let ts = Found::Ts { stride: 188 }.description().unwrap();
        assert_eq!(ts.medias()[0].attribute("rtpmap"), Some("33 MP2T/90000"));
    }

    proptest! {
        #[test]
        fn any_datagrams_are_judged_without_panic(
            datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..80),
        ) {
            let mut sniffer = Sniffer::default();
            for datagram in &datagrams {
                if let Some(Ok(found)) = sniffer.handle_datagram(from(1), datagram) {
                    prop_assert!(found.description().is_some());
                }
                prop_assert!(sniffer.kept.len() <= KEPT_MAX);
            }
        }
    }
}

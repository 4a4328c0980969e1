//! Pictures and sound as RTP packets.
//!
//! ```text
//! picture  [nalu header][ 1386 ][ 1386 ][ .. ][ rest ] --> FU-A, or one packet if it fits
//! ```
//! RFC 6184 s5.6 and s5.8, RFC 3550 s5.1, RFC 3551 s4.5.14. Every packet but the last of a picture
//! is of one size. Invariant: packets have a place for a stamp, but a picture's last one if short.
//! Bound: [`PACKET_BYTES`] a packet.

use super::film::Picture;
use super::stamp;

/// Bytes of an RTP packet at most, header included: an Ethernet frame with room to spare.
pub const PACKET_BYTES: usize = 1_400;
const HEADER_BYTES: usize = 12;
const FU_BYTES: usize = 2;
const FU_A: u8 = 28;
const NRI_MASK: u8 = 0x60;
const TYPE_MASK: u8 = 0x1f;
const START: u8 = 0x80;
const END: u8 = 0x40;
/// Samples, and bytes, of 20 ms of G.711.
const SOUND_BYTES: usize = 160;
/// Silence, but for its lowest bit: it is no row of the same byte for who looks.
const SILENCE: [u8; 2] = [0xff, 0x7f];

/// One RTP stream as it is sent.
#[derive(Debug, Clone)]
pub struct Track {
    /// As in the description.
    pub payload_type: u8,
    /// Ticks per second.
    pub clock_rate_hz: u32,
    /// Its source.
    pub ssrc: u32,
    /// Packets so far.
    pub packets: u64,
    /// Payload bytes so far.
    pub octets: u64,
    first_ts: u32,
    seq: u16,
}

impl Track {
    /// A stream that begins with this number and time.
    #[must_use]
    pub const fn new(
        payload_type: u8,
        clock_rate_hz: u32,
        ssrc: u32,
        seq: u16,
        first_ts: u32,
    ) -> Self {
        Self { payload_type, clock_rate_hz, ssrc, packets: 0, octets: 0, first_ts, seq }
    }

    /// RTP time `ticks` after the start.
    #[must_use]
    pub const fn ts(&self, ticks: u64) -> u32 {
        // Modulo 2^32 is what the field means.
        #[expect(clippy::cast_possible_truncation, reason = "see above")]
        self.first_ts.wrapping_add(ticks as u32)
    }

    /// The packets of a picture, each with the bytes that are to be behind its stamp.
    pub fn split(
        &mut self,
        picture: &Picture,
        ts: u32,
        packet: &mut Vec<u8>,
        mut send: impl FnMut(&mut Vec<u8>, usize),
    ) {
        let nalu = &picture.nalu;
        if nalu.len() + HEADER_BYTES <= PACKET_BYTES {
            self.begin(true, ts, packet);
            packet.extend_from_slice(nalu);
            self.count(packet);
            send(packet, behind(picture, nalu.len()));
            return;
        }
        let Some((&header, rest)) = nalu.split_first() else { return };
        let fragment_bytes = PACKET_BYTES - HEADER_BYTES - FU_BYTES;
        let mut to = 1;
        for fragment in rest.chunks(fragment_bytes) {
            let start = if to == 1 { START } else { 0 };
            to += fragment.len();
            let end = if to == nalu.len() { END } else { 0 };
            self.begin(end != 0, ts, packet);
            packet.push((header & NRI_MASK) | FU_A);
            packet.push((header & TYPE_MASK) | start | end);
            packet.extend_from_slice(fragment);
            self.count(packet);
            send(packet, behind(picture, to));
        }
    }

    /// A packet of sound.
    pub fn sound(&mut self, ts: u32, packet: &mut Vec<u8>) {
        self.begin(false, ts, packet);
        packet.extend(SILENCE.iter().cycle().take(SOUND_BYTES));
        self.count(packet);
    }

    fn begin(&mut self, marker: bool, ts: u32, packet: &mut Vec<u8>) {
        packet.clear();
        packet.push(0x80);
        packet.push(self.payload_type | if marker { 0x80 } else { 0 });
        packet.extend_from_slice(&self.seq.to_be_bytes());
        packet.extend_from_slice(&ts.to_be_bytes());
        packet.extend_from_slice(&self.ssrc.to_be_bytes());
        self.seq = self.seq.wrapping_add(1);
    }

    fn count(&mut self, packet: &[u8]) {
        self.packets += 1;
        self.octets += u64::try_from(packet.len().saturating_sub(HEADER_BYTES)).unwrap_or(0);
    }
}

/// What is to be behind the stamp of a packet that ends where `to` bytes of the picture do: never
/// is a header of a macroblock written over.
fn behind(picture: &Picture, to: usize) -> usize {
    let is_raw = |behind: &usize| {
        let first = to.checked_sub(behind + stamp::STAMP_BYTES);
        first.is_some_and(|first| picture.is_raw(first, stamp::STAMP_BYTES))
    };
    // Longer than any packet: then it gets no stamp.
    stamp::BEHIND.into_iter().find(is_raw).unwrap_or(PACKET_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::film::Film;
    use crate::time::Mono;
    use proptest::prelude::*;
    use rtp_types::RtpPacket;

    #[test]
    fn picture_is_whole_again_and_all_its_packets_but_a_short_last_one_carry_the_time() {
        let film = Film::new(3_000_000, 25, 50, 8);
        let (mut picture, mut packet) = (Picture::default(), Vec::new());
        for number in [0, 1, 49, 50] {
            film.make(number, &mut picture);
            let mut track = Track::new(96, 90_000, 7, 65_535, 5);
            let (mut seen, mut stamped, mut rest) = (0, 0, Vec::new());
            track.split(&picture, 77, &mut packet, |bytes, behind| {
                let before = bytes.clone();
                stamp::write(bytes, behind, Mono::from_ns(9));
                stamped += usize::from(stamp::sent_at(bytes) == Some(Mono::from_ns(9)));
                let header_bytes = HEADER_BYTES + FU_BYTES;
                rest.extend_from_slice(&before[header_bytes..]);
                let parsed = RtpPacket::parse(bytes).unwrap();
                let is_last = rest.len() + 1 == picture.nalu.len();
                assert_eq!((parsed.ssrc(), parsed.timestamp()), (7, 77));
                assert_eq!(parsed.marker_bit(), is_last);
                assert_eq!(parsed.payload()[1] & START != 0, seen == 0);
                assert_eq!(parsed.payload()[1] & END != 0, is_last);
                seen += 1;
            });
            assert_eq!(rest, picture.nalu[1..]);
            assert!(stamped + 1 >= seen && seen > 5, "{stamped} of {seen}");
        }
    }

    proptest! {
        #[test]
        fn stamp_never_hits_a_header(rate in 16_000_u32..20_000_000, number in 0_u64..60) {
            let film = Film::new(rate, 25, 50, 8);
            let (mut picture, mut packet) = (Picture::default(), Vec::new());
            film.make(number, &mut picture);
            let mut track = Track::new(96, 90_000, 7, 0, 0);
            let mut to = 1;
            track.split(&picture, 0, &mut packet, |bytes, behind| {
                let header_bytes = bytes.len().min(PACKET_BYTES);
                to = (to + header_bytes - HEADER_BYTES - FU_BYTES).min(picture.nalu.len());
                let mut stamped = bytes.clone();
                stamp::write(&mut stamped, behind, Mono::from_ns(1));
                let changed = bytes.iter().zip(&stamped).enumerate().filter(|(_, (a, b))| a != b);
                for (at, _) in changed {
                    let is_whole = picture.nalu.len() + HEADER_BYTES <= PACKET_BYTES;
                    let end = if is_whole { picture.nalu.len() } else { to };
                    assert!(picture.is_raw(end - (bytes.len() - at), 1));
                }
            });
        }
    }
}

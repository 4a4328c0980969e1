//! AAC in RTP: RFC 3640, mode AAC-hbr.
//!
//! ```text
//! [AU-headers-length 16 bits][AU-header: size 13, index 3]..[AU]..     several whole AUs, M = 1
//! [16][size of the whole AU, index 0][part of the AU]                  M = 1 on the last part
//! ```
//! Bound: AUs of at most 8,191 bytes, what 13 bits of AU-size express.

use super::bundle::{Bundle, Held, whole};
use super::fragment::fragment;
use super::{Input, Packetizer, SampleFault};
use crate::base::limits::RTP_PAYLOAD_BYTES_MAX;
use crate::media::aac_config::ConfigBits;
use crate::media::window::WindowBuilder;

const AU_HEADERS_LENGTH_BYTES: usize = 2;
const AU_HEADER_BYTES: usize = 2;
const INDEX_BITS: u32 = 3;
const AU_BYTES_MAX: usize = (1 << 13) - 1;

/// Packetizer of AAC.
#[derive(Debug)]
pub(super) struct AacPacketizer {
    bundle: Bundle,
}

impl AacPacketizer {
    pub(super) fn new(timescale: u32) -> Self {
        let bytes_max = RTP_PAYLOAD_BYTES_MAX - AU_HEADERS_LENGTH_BYTES;
        Self { bundle: Bundle::new(timescale, bytes_max, AU_HEADER_BYTES) }
    }
}

impl Packetizer for AacPacketizer {
    fn handle_sample(
        &mut self,
        input: &Input<'_>,
        out: &mut WindowBuilder,
    ) -> Result<(), SampleFault> {
        let bytes = input.bytes.len();
        if bytes > AU_BYTES_MAX {
            return Err(SampleFault::AuTooLarge { bytes, limit_bytes: AU_BYTES_MAX });
        }
        let header_bytes = AU_HEADERS_LENGTH_BYTES + AU_HEADER_BYTES;
        let is_large = bytes > RTP_PAYLOAD_BYTES_MAX - header_bytes;
        if is_large || !self.bundle.has_room_for(input) {
            self.handle_end(out);
        }
        if !is_large {
            self.bundle.push(input);
            return Ok(());
        }
        //= RFC 3640 s3.2.3 a fragment's AU-header has the size of the whole AU
        fragment(&whole(input), header_bytes, out, |_, out| push_au_headers([bytes], out));
        out.mark_last_packet();
        out.end_frame(input.frame);
        Ok(())
    }

    fn handle_end(&mut self, out: &mut WindowBuilder) {
        self.bundle.flush(true, out, |held, out| {
            push_au_headers(held.iter().map(|Held { bytes, .. }| *bytes), out);
        });
    }
}

/// Writes the AU header section. Index and index-delta are 0: no interleaving.
fn push_au_headers(
    sizes: impl IntoIterator<Item = usize, IntoIter: Clone>,
    out: &mut WindowBuilder,
) {
    let sizes = sizes.into_iter();
    let bits = u16::try_from(sizes.clone().count() * AU_HEADER_BYTES * 8).unwrap_or(u16::MAX);
    out.push_inline(&bits.to_be_bytes());
    for size in sizes {
        let size = u16::try_from(size << INDEX_BITS).unwrap_or(u16::MAX);
        out.push_inline(&size.to_be_bytes());
    }
}

/// Ticks of the RTP clock in one AU, from an AudioSpecificConfig (ISO 14496-3 s1.6.2.1): the
/// decoder puts out 1,024 or 960 samples at the core's rate, twice as many with SBR. `None` when
/// the configuration does not say, or the RTP clock is not a whole multiple of the core's rate.
pub(crate) fn au_duration_ticks(config: &[u8], clock_rate_hz: u32) -> Option<u32> {
    let mut bits = ConfigBits::new(config);
    let mut object_type = bits.object_type()?;
    let core_rate_hz = bits.sample_rate_hz()?;
    bits.take(4)?; // channelConfiguration
    if matches!(object_type, 5 | 29) {
        bits.sample_rate_hz()?;
        object_type = bits.object_type()?;
    }
    // Only the object types whose GASpecificConfig starts with frameLengthFlag and that frame by
    // 1,024: Main, LC, SSR, LTP.
    let is_general = matches!(object_type, 1..=4);
    let frame_samples = if bits.take(1)? == 1 { 960 } else { 1_024 };
    let is_multiple = core_rate_hz > 0 && clock_rate_hz.is_multiple_of(core_rate_hz);
    (is_general && is_multiple)
        .then(|| frame_samples * (clock_rate_hz / core_rate_hz))
        .filter(|ticks| *ticks > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::codec::Codec;
    use crate::media::packetize::testing::{Sent, Title, check_packets, pattern, title, title_of};

    fn aac(aus: &[Vec<u8>]) -> Title {
        let codec = Codec::Aac { config: vec![0x11, 0x90], sample_rate_hz: 48_000, channels: 2 };
        title(codec, 48_000, 1_024, 1, aus)
    }

    /// AUs back from packets, written from RFC 3640 alone.
    fn depacketize(packets: &[Sent]) -> Vec<Vec<u8>> {
        let mut aus = Vec::new();
        let mut open = Vec::new();
        for Sent { payload, marker } in packets {
            let header_bits = usize::from(payload[0]) << 8 | usize::from(payload[1]);
            let (headers, mut rest) = payload[2..].split_at(header_bits / 8);
            for header in headers.chunks(2) {
                assert_eq!(header[1] & 7, 0, "no interleaving");
                let size = (usize::from(header[0]) << 8 | usize::from(header[1])) >> 3;
                let part = size.min(rest.len());
                open.extend_from_slice(&rest[..part]);
                rest = &rest[part..];
                assert_eq!(open.len() == size, *marker);
                if *marker {
                    aus.push(std::mem::take(&mut open));
                }
            }
            assert!(rest.is_empty());
        }
        assert!(open.is_empty());
        aus
    }

    #[test]
    fn small_aus_share_a_packet_up_to_four() {
        let aus: Vec<Vec<u8>> = (0..5).map(|i| vec![i; 3]).collect();
        let frames = aac(&aus).sent().unwrap();
        let first = [&[0, 64][..], &[0, 24, 0, 24, 0, 24, 0, 24], &aus[..4].concat()].concat();
        assert_eq!(frames[0].1, [Sent { payload: first, marker: true }]);
        let second = vec![0, 16, 0, 24, 4, 4, 4];
        assert_eq!(frames[1].1, [Sent { payload: second, marker: true }]);
        assert_eq!((frames[1].0.sample_index, frames[1].0.rtp_ticks), (4, 4_096));
    }

    #[test]
    fn large_au_is_fragmented_with_its_whole_size_in_each_part() {
        let au = pattern(1, 3_000);
        let packets = aac(std::slice::from_ref(&au)).packets();
        let heads: Vec<(usize, &[u8], bool)> = packets
            .iter()
            .map(|packet| (packet.payload.len(), &packet.payload[..4], packet.marker))
            .collect();
        let head = &[0, 16, 0x5d, 0xc0][..];
        assert_eq!(heads, [(1_400, head, false), (1_400, head, false), (212, head, true)]);
        assert_eq!(depacketize(&packets), [au]);
    }

    #[test]
    fn gap_in_time_or_a_hundred_milliseconds_close_the_packet() {
        let codec = Codec::Aac { config: vec![], sample_rate_hz: 8_000, channels: 1 };
        let aus = vec![vec![1; 10]; 4];
        // 128 ms each: alone. 40 ms each: two fit into 100 ms.
        for (ticks, counts) in [(1_024, vec![1, 1, 1, 1]), (320, vec![2, 2])] {
            let frames = title(codec.clone(), 8_000, ticks, 1, &aus).sent().unwrap();
            let sizes: Vec<u8> = frames.iter().map(|(_, p)| p[0].payload[1] / 16).collect();
            assert_eq!(sizes, counts);
        }
        let title = title(codec.clone(), 8_000, 80, 1, &aus);
        let mut samples: Vec<_> = title.asset.tracks[0].index.iter(0, 9).collect();
        samples[1].duration += 500;
        let frames = title_of(codec, 8_000, title.file, samples).sent().unwrap();
        let firsts: Vec<u32> = frames.iter().map(|(frame, _)| frame.sample_index).collect();
        assert_eq!(firsts, [0, 1, 2], "what follows the longer sample would be timed wrongly");
    }

    #[test]
    fn au_too_long_for_its_size_field_is_corrupt() {
        let error = aac(&[vec![0; 8_192]]).sent().unwrap_err();
        assert_eq!(
            error.to_string(),
            "sample 0: access unit has 8192 bytes, its format allows 8191"
        );
    }

    #[test]
    fn au_duration_follows_the_configuration() {
        // AAC-LC 48 kHz; 960-sample frames; SBR with a 24 kHz core and 48 kHz output; too short.
        assert_eq!(au_duration_ticks(&[0x11, 0x90], 48_000), Some(1_024));
        assert_eq!(au_duration_ticks(&[0x11, 0x94], 48_000), Some(960));
        assert_eq!(au_duration_ticks(&[0x2b, 0x11, 0x88, 0x00], 48_000), Some(2_048));
        assert_eq!(au_duration_ticks(&[0x11, 0x90], 44_100), None);
        assert_eq!(au_duration_ticks(&[0x11], 48_000), None);
    }

    proptest! {
        #[test]
        fn aus_come_back_from_packets(sizes in prop::collection::vec(
            prop_oneof![1usize..400, 1_380usize..1_410, 1usize..8_191], 1..20)) {
            let aus: Vec<Vec<u8>> =
                sizes.iter().enumerate().map(|(i, size)| pattern(i, *size)).collect();
            let title = aac(&aus);
            check_packets(&title.sent().unwrap());
            prop_assert_eq!(depacketize(&title.packets()), aus);
        }

        #[test]
        fn any_configuration_is_read_or_refused(
            config in prop::collection::vec(any::<u8>(), 0..12), rate_hz: u32,
        ) {
            let _ = au_duration_ticks(&config, rate_hz);
        }
    }
}

//! G.711 in RTP: RFC 3551 s4.5.14, bare samples.
//!
//! Containers cut such tracks anywhere: into samples of one byte, or of a second. So samples are
//! taken as one run of bytes and cut anew into packets of [`PACKET_MS`].
//!
//! Invariant: a packet holds whole sampling instants of all channels, without a gap in time.

use super::bundle::whole;
use super::{FrameClock, Input, Packetizer, SampleFault};
use crate::base::limits::RTP_PAYLOAD_BYTES_MAX;
use crate::base::time::rescale;
use crate::media::index::Sample;
use crate::media::window::{Frame, WindowBuilder};

/// Play time of one packet: half of the packets that telephones send, little enough that a loss
/// is a click.
const PACKET_MS: u32 = 40;

/// See the module.
#[derive(Debug)]
pub(super) struct G711Packetizer {
    clock: FrameClock,
    rate_hz: u32,
    channels: usize,
    packet_bytes: usize,
    /// Frame of the open packet, and its decode time in ticks.
    open: Option<(Frame, i64)>,
}

impl G711Packetizer {
    /// `None` without channels, or with more than one packet's worth of them.
    pub(super) fn new(clock: FrameClock, rate_hz: u32, channels: u16) -> Option<Self> {
        let channels = usize::from(channels);
        let instants = (rate_hz / (1_000 / PACKET_MS)).max(1) as usize;
        let instants_max = RTP_PAYLOAD_BYTES_MAX.checked_div(channels)?;
        let packet_bytes = instants.min(instants_max) * channels;
        (packet_bytes > 0).then_some(Self { clock, rate_hz, channels, packet_bytes, open: None })
    }

    /// Opens a packet `start` bytes into the sample.
    fn open_at(&self, input: &Input<'_>, start: usize) -> (Frame, i64) {
        let delay = self.ticks_in(start);
        let dts = input.sample.dts.saturating_add(delay);
        let pts = input.sample.pts.saturating_add(delay);
        let sample = Sample { dts, pts, ..input.sample };
        (self.clock.frame(&sample, input.frame.sample_index), dts)
    }

    /// Play time of `bytes`, in ticks of the track.
    fn ticks_in(&self, bytes: usize) -> i64 {
        let instants = i64::try_from(bytes / self.channels).unwrap_or(i64::MAX);
        rescale(instants, self.rate_hz, self.clock.timescale)
    }

    /// Whether the sample starts where the open packet ends, give or take a millisecond: the
    /// track's timescale may be coarser than its sampling rate.
    fn is_continued_by(&self, input: &Input<'_>, open_bytes: usize) -> bool {
        let tolerance = u64::from(self.clock.timescale / 1_000).max(1);
        self.open.is_none_or(|(_, dts)| {
            let end = dts.saturating_add(self.ticks_in(open_bytes));
            end.abs_diff(input.sample.dts) <= tolerance
        })
    }
}

impl Packetizer for G711Packetizer {
    fn handle_sample(
        &mut self,
        input: &Input<'_>,
        out: &mut WindowBuilder,
    ) -> Result<(), SampleFault> {
        if !self.is_continued_by(input, out.open_bytes()) {
            self.handle_end(out);
        }
        let unit = whole(input);
        let mut start = 0;
        while start < input.bytes.len() {
            if self.open.is_none() {
                self.open = Some(self.open_at(input, start));
            }
            let room = self.packet_bytes.saturating_sub(out.open_bytes()).max(1);
            let end = (start + room).min(input.bytes.len());
            unit.push_range(start..end, out);
            if out.open_bytes() >= self.packet_bytes {
                self.handle_end(out);
            }
            start = end;
        }
        Ok(())
    }

    fn handle_end(&mut self, out: &mut WindowBuilder) {
        if let Some((frame, _)) = self.open.take() {
            out.end_packet(false);
            out.end_frame(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::media::codec::Codec;
    use crate::media::packetize::testing::{Title, check_packets, pattern, title};

    fn mu_law(channels: u16, samples: &[Vec<u8>]) -> Title {
        let ticks = samples.first().map_or(1, |sample| sample.len() / usize::from(channels));
        let codec = Codec::Pcmu { sample_rate_hz: 8_000, channels };
        title(codec, 8_000, u32::try_from(ticks).unwrap(), 1, samples)
    }

    fn shape(title: &Title) -> Vec<(i64, usize)> {
        let frames = title.sent().unwrap();
        frames.iter().map(|(frame, p)| (frame.rtp_ticks, p[0].payload.len())).collect()
    }

    #[test]
    fn one_byte_samples_are_collected_into_packets_of_40_ms() {
        let samples: Vec<Vec<u8>> = pattern(0, 700).chunks(1).map(<[u8]>::to_vec).collect();
        let title = mu_law(1, &samples);
        assert_eq!(shape(&title), [(0, 320), (320, 320), (640, 60)]);
        assert_eq!(title.sent().unwrap()[1].0.sample_index, 320);
    }

    #[test]
    fn long_samples_are_cut_into_packets_of_40_ms() {
        let title = mu_law(2, &[pattern(0, 2_000), pattern(1, 2_000)]);
        let expected = [(0, 640), (320, 640), (640, 640), (960, 640), (1_280, 640), (1_600, 640)];
        assert_eq!(shape(&title), [&expected[..], &[(1_920, 160)]].concat());
    }

    #[test]
    fn gap_in_time_closes_the_packet() {
        let title = title(
            Codec::Pcma { sample_rate_hz: 8_000, channels: 1 },
            8_000,
            100,
            1,
            &[vec![1; 50], vec![2; 50]],
        );
        assert_eq!(shape(&title), [(0, 50), (100, 50)], "100 ticks apart, but 50 long");
    }

    proptest! {
        #[test]
        fn bytes_come_back_in_order(
            lens in prop::collection::vec(1usize..3_000, 1..20), channels in 1u16..9,
        ) {
            let samples: Vec<Vec<u8>> =
                lens.iter().enumerate().map(|(i, len)| pattern(i, *len)).collect();
            let title = mu_law(channels, &samples);
            check_packets(&title.sent().unwrap());
            let bytes: Vec<u8> = title.packets().into_iter().flat_map(|p| p.payload).collect();
            prop_assert_eq!(bytes, samples.concat());
        }
    }
}

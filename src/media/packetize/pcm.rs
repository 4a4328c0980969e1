//! PCM in RTP: RFC 3551 s4.5.14 (G.711), s4.5.11 (L16), RFC 3190 s4 (L24): bare samples.
//!
//! ```text
//! samples of the file   [..........][....][..............]    one instant, a chunk or a second
//! packets               [....][....][..  ..][....][....]..    20 ms (40 ms of G.711)
//! ```
//! Values that the file stores otherwise than RTP sends them (byte order, length, offset binary,
//! floating point) are converted here, by the worker: they become inline bytes of the window, while
//! others are sent from the file. A window of converted sound is kept small, see
//! [`window_samples`].
//!
//! Invariant: a packet holds whole sampling instants of all channels, without a gap in time.

use super::bundle::whole;
use super::{FrameClock, Input, Packetizer, SampleFault};
use crate::base::limits::{CONVERTED_WINDOW_BYTES_MAX, RTP_PAYLOAD_BYTES_MAX};
use crate::base::time::rescale;
use crate::media::codec::Codec;
use crate::media::index::Sample;
use crate::media::pcm::PcmLayout;
use crate::media::window::{Frame, WindowBuilder};

/// Play time of one packet of G.711: half of the packets that telephones send, little enough that a
/// loss is a click.
const G711_PACKET_MS: u32 = 40;

/// Play time of one packet at most otherwise: RFC 3551 s4.2.
const PACKET_MS: u32 = 20;

/// Packetizer of PCM.
#[derive(Debug)]
pub(super) struct PcmPacketizer {
    clock: FrameClock,
    rate_hz: u32,
    /// Bytes of a sampling instant of all channels in the file, and in a packet.
    stored_bytes: usize,
    sent_bytes: usize,
    packet_bytes: usize,
    /// Linear samples; G.711 otherwise.
    linear: Option<PcmLayout>,
    /// Frame of the open packet, and its decode time in ticks.
    open: Option<(Frame, i64)>,
    converted: Vec<u8>,
}

impl PcmPacketizer {
    /// `None` without channels, or with more than one packet's worth of them.
    pub(super) fn g711(clock: FrameClock, rate_hz: u32, channels: u16) -> Option<Self> {
        Self::new(clock, rate_hz, channels, None)
    }

    /// Likewise.
    pub(super) fn linear(
        clock: FrameClock,
        rate_hz: u32,
        channels: u16,
        layout: PcmLayout,
    ) -> Option<Self> {
        Self::new(clock, rate_hz, channels, Some(layout))
    }

    fn new(
        clock: FrameClock,
        rate_hz: u32,
        channels: u16,
        linear: Option<PcmLayout>,
    ) -> Option<Self> {
        let channels = usize::from(channels);
        let stored_bytes = channels * linear.map_or(1, PcmLayout::stored_bytes);
        let sent_bytes = channels * linear.map_or(1, PcmLayout::sent_bytes);
        let packet_ms = if linear.is_some() { PACKET_MS } else { G711_PACKET_MS };
        let instants = (rate_hz / (1_000 / packet_ms)).max(1) as usize;
        let instants_max = RTP_PAYLOAD_BYTES_MAX.checked_div(sent_bytes)?;
        let packet_bytes = instants.min(instants_max) * sent_bytes;
        let converted = Vec::new();
        let (open, linear) = (None, linear);
        (packet_bytes > 0).then_some(Self {
            clock,
            rate_hz,
            stored_bytes,
            sent_bytes,
            packet_bytes,
            linear,
            open,
            converted,
        })
    }

    /// Opens a packet `start` bytes into the sample.
    fn open_at(&self, input: &Input<'_>, start: usize) -> (Frame, i64) {
        let delay = self.ticks_in(start / self.stored_bytes);
        let dts = input.sample.dts.saturating_add(delay);
        let pts = input.sample.pts.saturating_add(delay);
        let sample = Sample { dts, pts, ..input.sample };
        (self.clock.frame(&sample, input.frame.sample_index), dts)
    }

    /// Play time of sampling instants, in ticks of the track.
    fn ticks_in(&self, instants: usize) -> i64 {
        let instants = i64::try_from(instants).unwrap_or(i64::MAX);
        rescale(instants, self.rate_hz, self.clock.timescale)
    }

    /// Whether the sample starts where the open packet ends, give or take a millisecond: the
    /// track's timescale may be coarser than its sampling rate.
    fn is_continued_by(&self, input: &Input<'_>, open_bytes: usize) -> bool {
        let tolerance = u64::from(self.clock.timescale / 1_000).max(1);
        self.open.is_none_or(|(_, dts)| {
            let end = dts.saturating_add(self.ticks_in(open_bytes / self.sent_bytes));
            end.abs_diff(input.sample.dts) <= tolerance
        })
    }

    /// Bytes of the file that still go into the open packet.
    fn room(&self, open_bytes: usize) -> usize {
        let left = self.packet_bytes.saturating_sub(open_bytes);
        let room = match self.linear {
            Some(_) => left / self.sent_bytes * self.stored_bytes,
            None => left,
        };
        room.max(1)
    }
}

/// Samples of the index in one window at most, so that its converted bytes stay within
/// `limits::CONVERTED_WINDOW_BYTES_MAX`. `None`: nothing is converted.
pub fn window_samples(codec: &Codec, sample_bytes_max: u32) -> Option<u32> {
    let Codec::Pcm { layout, .. } = codec else { return None };
    let values = sample_bytes_max as usize / layout.stored_bytes();
    let converted = (values * layout.sent_bytes()).max(1);
    let samples = u32::try_from(CONVERTED_WINDOW_BYTES_MAX / converted).unwrap_or(u32::MAX);
    (!layout.is_sent_as_stored()).then_some(samples.max(1))
}

impl Packetizer for PcmPacketizer {
    fn handle_sample(
        &mut self,
        input: &Input<'_>,
        out: &mut WindowBuilder,
    ) -> Result<(), SampleFault> {
        if !self.is_continued_by(input, out.open_bytes()) {
            self.handle_end(out);
        }
        let unit = whole(input);
        // Part of a sampling instant of several bytes would swap all that follows.
        let all = input.bytes.len();
        let end_of_all = if self.linear.is_some() { all - all % self.stored_bytes } else { all };
        let mut start = 0;
        while start < end_of_all {
            if self.open.is_none() {
                self.open = Some(self.open_at(input, start));
            }
            let end = (start + self.room(out.open_bytes())).min(end_of_all);
            match self.linear.filter(|layout| !layout.is_sent_as_stored()) {
                Some(layout) => {
                    self.converted.clear();
                    let stored = input.bytes.get(start..end).unwrap_or_default();
                    layout.convert(stored, &mut self.converted);
                    out.push_inline(&self.converted);
                }
                None => unit.push_range(start..end, out),
            }
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

    use super::*;
    use crate::media::packetize::testing::{Title, check_packets, pattern, title, title_of};
    use crate::media::window::{Piece, WindowKind};

    fn layouts() -> Vec<PcmLayout> {
        let integer = |bits, is_little| PcmLayout::integer(bits, true, is_little).unwrap();
        let unsigned = PcmLayout::integer(8, false, false).unwrap();
        let mut layouts = vec![unsigned, PcmLayout::float(32, true).unwrap()];
        layouts
            .extend([16, 24, 32].into_iter().flat_map(|b| [integer(b, false), integer(b, true)]));
        layouts
    }

    /// Samples one behind the other without a gap in time, at a timescale of the rate.
    fn linear(layout: PcmLayout, rate_hz: u32, channels: u16, samples: &[Vec<u8>]) -> Title {
        let codec = Codec::Pcm { sample_rate_hz: rate_hz, channels, layout };
        let mut dts = 0;
        let mut list = Vec::new();
        let mut file = vec![0xee; 100];
        for bytes in samples {
            let instants = bytes.len() / usize::from(channels) / layout.stored_bytes();
            let duration = u32::try_from(instants).unwrap();
            list.push(Sample {
                offset: file.len() as u64,
                bytes: u32::try_from(bytes.len()).unwrap(),
                dts,
                pts: dts,
                duration,
                is_sync: true,
                is_disposable: false,
            });
            dts += i64::from(duration);
            file.extend_from_slice(bytes);
            file.push(0xee);
        }
        title_of(codec, rate_hz, file, list)
    }

    #[test]
    fn little_endian_values_are_swapped_into_the_window_and_big_endian_ones_sent_from_the_file() {
        let sample = pattern(0, 4_000);
        let mut swapped = sample.clone();
        swapped.chunks_exact_mut(2).for_each(|value| value.reverse());
        for (is_little, expected) in [(true, &swapped), (false, &sample)] {
            let layout = PcmLayout::integer(16, true, is_little).unwrap();
            let title = linear(layout, 48_000, 2, std::slice::from_ref(&sample));
            assert_eq!(shape(&title), [(0, 1_400), (350, 1_400), (700, 1_200)]);
            let payload: Vec<u8> = title.packets().into_iter().flat_map(|p| p.payload).collect();
            assert_eq!(&payload, expected);
            let window = title.window(WindowKind::All, 0).unwrap();
            let is_inline = |frame| {
                let pieces = window.pieces(&window.packets(frame)[0]);
                matches!(pieces, [Piece::Inline { .. }])
            };
            assert!(window.frames().iter().all(|frame| is_inline(frame) == is_little));
            assert_eq!(window.memory_bytes() > sample.len(), is_little, "counted by the cache");
        }
    }

    #[test]
    fn packets_of_slow_sound_last_20_ms() {
        let layout = PcmLayout::integer(16, true, true).unwrap();
        let title = linear(layout, 8_000, 1, &[pattern(0, 700)]);
        assert_eq!(shape(&title), [(0, 320), (160, 320), (320, 60)]);
        // A part of a value at the end of a sample is left out.
        assert_eq!(shape(&linear(layout, 8_000, 1, &[pattern(0, 321)])), [(0, 320)]);
    }

    #[test]
    fn window_of_converted_sound_is_bounded() {
        let codec = |is_little| Codec::Pcm {
            sample_rate_hz: 192_000,
            channels: 64,
            layout: PcmLayout::integer(24, true, is_little).unwrap(),
        };
        let run = 64 << 10;
        let samples = window_samples(&codec(true), run).unwrap();
        assert!(samples as usize * run as usize <= CONVERTED_WINDOW_BYTES_MAX);
        assert_eq!(window_samples(&codec(true), u32::MAX), Some(1));
        assert_eq!(window_samples(&codec(false), run), None);
        assert_eq!(window_samples(&Codec::Vp8, run), None);
    }

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

        #[test]
        fn linear_values_come_back_in_order_and_in_time(
            lens in prop::collection::vec(1usize..3_000, 1..20),
            channels in 1u16..9,
            layout in prop::sample::select(layouts()),
        ) {
            let instant = usize::from(channels) * layout.stored_bytes();
            let samples: Vec<Vec<u8>> =
                lens.iter().enumerate().map(|(i, len)| pattern(i, len * instant)).collect();
            let title = linear(layout, 48_000, channels, &samples);
            let frames = title.sent().unwrap();
            check_packets(&frames);
            let sent_instant = usize::from(channels) * layout.sent_bytes();
            let mut instants = 0;
            for (frame, packets) in &frames {
                prop_assert_eq!(packets.len(), 1);
                prop_assert_eq!(frame.rtp_ticks, i64::try_from(instants).unwrap());
                prop_assert_eq!(packets[0].payload.len() % sent_instant, 0);
                prop_assert!(packets[0].payload.len() / sent_instant <= 960, "20 ms");
                instants += packets[0].payload.len() / sent_instant;
            }
            let mut expected = Vec::new();
            layout.convert(&samples.concat(), &mut expected);
            let sent: Vec<u8> = title.packets().into_iter().flat_map(|p| p.payload).collect();
            prop_assert_eq!(sent, expected);
        }
    }
}

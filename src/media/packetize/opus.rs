//! Opus in RTP: RFC 7587, one Opus packet in one RTP packet, no payload header.
//!
//! An Opus packet may hold up to 48 frames (RFC 6716 s3) and outgrow an RTP packet, which has no
//! fragments in this format. Such a packet is taken apart: each frame, at most 1,275 bytes, goes
//! out as an Opus packet of its own at its own time.
//!
//! The marker stays 0: it would announce the first packet of a talkspurt.

use super::bundle::whole;
use super::{FrameClock, Input, Packetizer, SampleFault};
use crate::base::limits::RTP_PAYLOAD_BYTES_MAX;
use crate::base::time::rescale;
use crate::media::index::Sample;
use crate::media::window::WindowBuilder;

const FRAME_BYTES_MAX: usize = 1_275;
const FRAMES_MAX: u8 = 48;
const CLOCK_RATE_HZ: u32 = 48_000;

/// Packetizer of Opus.
#[derive(Debug)]
pub(super) struct OpusPacketizer {
    clock: FrameClock,
}

impl OpusPacketizer {
    pub(super) fn new(clock: FrameClock) -> Self {
        Self { clock }
    }
}

impl Packetizer for OpusPacketizer {
    fn handle_sample(
        &mut self,
        input: &Input<'_>,
        out: &mut WindowBuilder,
    ) -> Result<(), SampleFault> {
        let packet = whole(input);
        if input.bytes.len() <= RTP_PAYLOAD_BYTES_MAX {
            packet.push(out);
            out.end_packet(false);
            out.end_frame(input.frame);
            return Ok(());
        }
        let (toc, frames) = take_apart(input.bytes).ok_or(SampleFault::OpusFrames)?;
        let mut ticks = 0;
        for (start, bytes) in frames {
            //= RFC 6716 s3.1 the low bits of the TOC byte are 0: one frame
            out.push_inline(&[toc & !3]);
            packet.push_range(start..start + bytes, out);
            out.end_packet(false);
            let delay = rescale(ticks, CLOCK_RATE_HZ, self.clock.timescale);
            let dts = input.sample.dts.saturating_add(delay);
            let pts = input.sample.pts.saturating_add(delay);
            let sample = Sample { dts, pts, ..input.sample };
            out.end_frame(self.clock.frame(&sample, input.frame.sample_index));
            ticks += i64::from(frame_ticks(toc));
        }
        Ok(())
    }
}

/// The TOC byte and where each frame is (RFC 6716 s3.2); `None` when the packet is malformed or
/// is code 3 with frames that do not fit it.
fn take_apart(packet: &[u8]) -> Option<(u8, Vec<(usize, usize)>)> {
    let toc = *packet.first()?;
    let mut at = 1;
    let mut end = packet.len();
    let mut sizes = Vec::new();
    match toc & 3 {
        0 => sizes.push(end - at),
        1 => sizes.extend([(end - at) / 2; 2]),
        2 => {
            let first = frame_size(packet, &mut at)?;
            sizes.extend([first, end.checked_sub(at)?.checked_sub(first)?]);
        }
        _ => {
            let shape = *packet.get(at)?;
            at += 1;
            let count = shape & 0x3f;
            if count == 0 || count > FRAMES_MAX {
                return None;
            }
            if shape & 0x40 != 0 {
                end = end.checked_sub(padding(packet, &mut at)?).filter(|end| *end >= at)?;
            }
            if shape & 0x80 != 0 {
                for _ in 1..count {
                    sizes.push(frame_size(packet, &mut at)?);
                }
                let before: usize = sizes.iter().sum();
                sizes.push(end.checked_sub(at)?.checked_sub(before)?);
            } else {
                sizes.extend(vec![(end.checked_sub(at)?) / usize::from(count); count.into()]);
            }
        }
    }
    let mut frames = Vec::with_capacity(sizes.len());
    for bytes in sizes {
        frames.push((at, bytes));
        at = at.checked_add(bytes)?;
    }
    let fits = at == end && frames.iter().all(|(_, bytes)| *bytes <= FRAME_BYTES_MAX);
    fits.then_some((toc, frames))
}

/// Reads a frame length of one or two bytes (RFC 6716 s3.2.1).
fn frame_size(packet: &[u8], at: &mut usize) -> Option<usize> {
    let first = usize::from(*packet.get(*at)?);
    *at += 1;
    if first < 252 {
        return Some(first);
    }
    let second = usize::from(*packet.get(*at)?);
    *at += 1;
    Some(second * 4 + first)
}

/// Reads the padding length of a code 3 packet: each byte of 255 means 254 and another byte.
fn padding(packet: &[u8], at: &mut usize) -> Option<usize> {
    let mut sum = 0;
    loop {
        let byte = usize::from(*packet.get(*at)?);
        *at += 1;
        if byte < 255 {
            return Some(sum + byte);
        }
        sum += 254;
    }
}

/// Length of one frame in ticks of 48 kHz, from the TOC's configuration (RFC 6716 table 2).
fn frame_ticks(toc: u8) -> u32 {
    let config = toc >> 3;
    match config {
        0..=11 => [480, 960, 1_920, 2_880][usize::from(config & 3)],
        12..=15 => [480, 960][usize::from(config & 1)],
        _ => [120, 240, 480, 960][usize::from(config & 3)],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::codec::Codec;
    use crate::media::packetize::testing::{Sent, Title, check_packets, pattern, title};

    fn opus(packets: &[Vec<u8>]) -> Title {
        title(Codec::Opus { channels: 2 }, 48_000, 2_880, 1, packets)
    }

    /// A code 3 packet with variable sizes and padding, as RFC 6716 s3.2.5 draws it.
    fn code_3(toc: u8, frames: &[Vec<u8>], padding: u8) -> Vec<u8> {
        let mut packet = vec![toc | 3, 0xc0 | u8::try_from(frames.len()).unwrap(), padding];
        for frame in &frames[..frames.len() - 1] {
            let size = frame.len();
            if size < 252 {
                packet.push(u8::try_from(size).unwrap());
            } else {
                let low = 252 + size % 4;
                let high = (size - low) / 4;
                packet.extend([low, high].map(|byte| u8::try_from(byte).unwrap()));
            }
        }
        [packet, frames.concat(), vec![0; padding.into()]].concat()
    }

    #[test]
    fn opus_packet_is_the_payload() {
        let packets = opus(&[pattern(3, 300)]).packets();
        assert_eq!(packets, [Sent { payload: pattern(3, 300), marker: false }]);
    }

    #[test]
    fn too_long_opus_packet_is_sent_frame_by_frame() {
        let frames = [pattern(1, 700), pattern(2, 251), pattern(3, 600)];
        let sent = opus(&[code_3(0xf8 | 4, &frames, 9)]).sent().unwrap();
        let ticks: Vec<i64> = sent.iter().map(|(frame, _)| frame.rtp_ticks).collect();
        assert_eq!(ticks, [0, 960, 1_920]);
        for ((_, packets), frame) in sent.iter().zip(&frames) {
            assert_eq!(packets[0].payload, [&[0xfc][..], frame].concat());
        }
    }

    #[test]
    fn too_long_packet_of_no_frames_is_corrupt() {
        let error = opus(&[vec![0xfb; 1_500]]).sent().unwrap_err();
        assert_eq!(error.to_string(), "sample 0: Opus packet is too long and not made of frames");
    }

    proptest! {
        #[test]
        fn frames_of_long_packets_come_back(
            sizes in prop::collection::vec(0usize..1_275, 2..8), padding in 0u8..255, toc: u8,
        ) {
            let frames: Vec<Vec<u8>> =
                sizes.iter().enumerate().map(|(i, size)| pattern(i, *size)).collect();
            let packet = code_3(toc & !3, &frames, padding);
            prop_assume!(packet.len() > RTP_PAYLOAD_BYTES_MAX);
            let packets = opus(&[packet]).packets();
            prop_assert_eq!(packets.len(), frames.len());
            for (packet, frame) in packets.iter().zip(&frames) {
                prop_assert_eq!(packet.payload[0], toc & !3);
                prop_assert_eq!(&packet.payload[1..], frame);
            }
        }

        #[test]
        fn any_bytes_give_packets_or_a_fault(
            head in prop::collection::vec(any::<u8>(), 8), len in 1usize..4_000,
        ) {
            let mut bytes = pattern(5, len);
            bytes.splice(..len.min(8), head);
            bytes.truncate(len);
            if let Ok(frames) = opus(&[bytes]).sent() {
                check_packets(&frames);
            }
        }
    }
}

//! Motion JPEG in RTP: RFC 2435, types 0 (4:2:2) and 1 (4:2:0), tables in band.
//!
//! ```text
//! [0][fragment offset 24][type][Q 255][width/8][height/8]
//! [restart interval 16][F L count 16]                         when the image has one: type + 64
//! [0][precision 0][length 16 = 128][luma 64][chroma 64]       first packet only
//! [part of the entropy-coded data]
//! ```
//! Sizes that are not whole eights are rounded up: the receiver shows the padding of the last
//! blocks, which is what every sender of this format does.

use super::bundle::whole;
use super::jpeg::{Jpeg, parse};
use super::{Input, Packetizer, SampleFault};
use crate::base::limits::RTP_PAYLOAD_BYTES_MAX;
use crate::media::window::WindowBuilder;

/// Q from 128 up says that tables are in band, 255 that they may differ in each image.
const Q_IN_BAND: u8 = 255;
const TABLES_BYTES: u16 = 128;
const TYPE_420: u8 = 1;
const TYPE_WITH_RESTARTS: u8 = 64;
/// F and L set, count all ones: packets are not cut at restart markers (RFC 2435 s3.1.7).
const RESTART_COUNT_UNALIGNED: [u8; 2] = [0xff, 0xff];

/// Packetizer of Motion JPEG.
#[derive(Debug)]
pub(super) struct MjpegPacketizer;

impl Packetizer for MjpegPacketizer {
    fn handle_sample(
        &mut self,
        input: &Input<'_>,
        out: &mut WindowBuilder,
    ) -> Result<(), SampleFault> {
        let jpeg = parse(input.bytes).map_err(SampleFault::Jpeg)?;
        let scan = jpeg.scan.clone();
        let unit = whole(input);
        let mut start = scan.start;
        while start < scan.end {
            push_headers(&jpeg, start - scan.start, out);
            let room = RTP_PAYLOAD_BYTES_MAX.saturating_sub(out.open_bytes()).max(1);
            let end = (start + room).min(scan.end);
            unit.push_range(start..end, out);
            out.end_packet(end == scan.end);
            start = end;
        }
        out.end_frame(input.frame);
        Ok(())
    }
}

fn push_headers(jpeg: &Jpeg<'_>, offset: usize, out: &mut WindowBuilder) {
    let offset = u32::try_from(offset).unwrap_or(u32::MAX).to_be_bytes();
    let restarts = if jpeg.restart_interval > 0 { TYPE_WITH_RESTARTS } else { 0 };
    let kind = restarts | if jpeg.is_420 { TYPE_420 } else { 0 };
    let eights = |pixels: u16| u8::try_from(pixels.div_ceil(8)).unwrap_or(0);
    // The fragment offset has 24 bits; `parse` refuses longer scans. The byte in front of it is
    // "type-specific", 0 for a progressively scanned image.
    let [_, offset_high, offset_mid, offset_low] = offset;
    out.push_inline(&[0, offset_high, offset_mid, offset_low, kind, Q_IN_BAND]);
    out.push_inline(&[eights(jpeg.width_pixels), eights(jpeg.height_pixels)]);
    if restarts != 0 {
        out.push_inline(&jpeg.restart_interval.to_be_bytes());
        out.push_inline(&RESTART_COUNT_UNALIGNED);
    }
    if offset == [0; 4] {
        let [length_high, length_low] = TABLES_BYTES.to_be_bytes();
        out.push_inline(&[0, 0, length_high, length_low]);
        for table in jpeg.quantization {
            out.push_inline(table);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::codec::Codec;
    use crate::media::packetize::check_sample;
    use crate::media::packetize::jpeg::JpegFault;
    use crate::media::packetize::testing::{
        Sent, Title, check_marker_is_last_only, check_packets, pattern, title,
    };

    fn segment(marker: u8, content: &[u8]) -> Vec<u8> {
        let count = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
        [&[0xff, marker][..], &count, content].concat()
    }

    /// SOF0 of an image with the given luma sampling.
    fn sof0(width: u16, height: u16, luma: u8) -> Vec<u8> {
        let components = [1, luma, 0, 2, 0x11, 1, 3, 0x11, 1];
        let sizes = [height.to_be_bytes(), width.to_be_bytes()].concat();
        segment(0xc0, &[&[8][..], &sizes, &[3], &components].concat())
    }

    fn tables() -> Vec<u8> {
        segment(0xdb, &[&[0][..], &[11; 64], &[1], &[22; 64]].concat())
    }

    fn sos() -> Vec<u8> {
        segment(0xda, &[3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0])
    }

    /// Entropy-coded data: no byte is 0xff.
    fn scan(len: usize) -> Vec<u8> {
        pattern(1, len).into_iter().map(|byte| byte.min(0xfe)).collect()
    }

    fn image(headers: &[Vec<u8>], scan: &[u8]) -> Vec<u8> {
        [&[0xff, 0xd8][..], &headers.concat(), &sos(), scan, &[0xff, 0xd9]].concat()
    }

    fn mjpeg(images: &[Vec<u8>]) -> Title {
        title(Codec::Mjpeg, 25, 1, 1, images)
    }

    fn fault(image: Vec<u8>) -> JpegFault {
        match mjpeg(&[image]).sent() {
            Err(crate::media::packetize::WindowError::Corrupt {
                fault: SampleFault::Jpeg(fault),
                ..
            }) => fault,
            other => panic!("no JPEG fault: {other:?}"),
        }
    }

    #[test]
    fn first_packet_has_the_tables_and_each_its_offset() {
        let data = scan(2_000);
        let image = image(&[tables(), sof0(322, 240, 0x22)], &data);
        let packets = mjpeg(&[image]).packets();
        let head = [0, 0, 0, 0, 1, 255, 41, 30, 0, 0, 0, 128];
        let first = [&head[..], &[11; 64], &[22; 64], &data[..1_260]].concat();
        assert_eq!(packets[0], Sent { payload: first, marker: false });
        let second = [&[0, 0, 0x04, 0xec, 1, 255, 41, 30][..], &data[1_260..]].concat();
        assert_eq!(packets[1..], [Sent { payload: second, marker: true }]);
    }

    #[test]
    fn restart_interval_goes_into_every_packet() {
        let mut data = scan(3_000);
        data[500..502].copy_from_slice(&[0xff, 0xd0]);
        data[900..902].copy_from_slice(&[0xff, 0]);
        let dri = segment(0xdd, &[0, 40]);
        let image = image(&[dri, tables(), sof0(320, 240, 0x21)], &data);
        for packet in mjpeg(&[image]).packets() {
            assert_eq!(packet.payload[4], 64);
            assert_eq!(packet.payload[8..12], [0, 40, 0xff, 0xff]);
        }
    }

    #[test]
    fn images_that_the_format_cannot_express_are_refused_with_the_reason() {
        let good = [tables(), sof0(320, 240, 0x22)];
        let with = |extra: Vec<u8>| image(&[tables(), extra, sof0(320, 240, 0x22)], &[1, 2, 3]);
        let progressive = segment(0xc2, &[8; 15]);
        assert_eq!(fault(with(progressive)), JpegFault::NotBaseline { marker: 0xc2 });
        let huffman = segment(0xc4, &[&[0x00, 1][..], &[0; 15], &[7]].concat());
        let checked = check_sample(&Codec::Mjpeg, &with(huffman.clone()));
        assert_eq!(checked, Err(SampleFault::Jpeg(JpegFault::HuffmanTables)));
        assert_eq!(check_sample(&Codec::Mjpeg, &image(&good, &[1, 2, 3])), Ok(()));
        assert_eq!(fault(with(huffman)), JpegFault::HuffmanTables);
        let sampling = JpegFault::Sampling { luma: 0x11, cb: 0x11, cr: 0x11 };
        assert_eq!(fault(image(&[tables(), sof0(320, 240, 0x11)], &[1])), sampling);
        let size = JpegFault::Size { width: 2_041, height: 240 };
        assert_eq!(fault(image(&[tables(), sof0(2_041, 240, 0x22)], &[1])), size);
        assert_eq!(fault(image(&good[1..], &[1])), JpegFault::QuantizationTables);
        let two_fields = [image(&good, &[1, 2]), image(&good, &[3, 4])].concat();
        assert_eq!(fault(two_fields), JpegFault::SeveralScans);
        assert_eq!(fault(vec![0xff, 0xd9, 0, 0]), JpegFault::Malformed { offset: 0 });
        let text = SampleFault::Jpeg(JpegFault::HuffmanTables).to_string();
        assert_eq!(text, "JPEG image: Huffman tables are not the standard ones");
    }

    proptest! {
        #[test]
        fn scan_comes_back_from_packets(len in 1usize..6_000, restarts: bool) {
            let data = scan(len);
            let dri = if restarts { segment(0xdd, &[0, 4]) } else { vec![] };
            let frames = mjpeg(&[image(&[dri, tables(), sof0(64, 64, 0x21)], &data)]);
            let frames = frames.sent().unwrap();
            check_packets(&frames);
            check_marker_is_last_only(&frames);
            let mut back = Vec::new();
            for Sent { payload, .. } in &frames[0].1 {
                let offset = u32::from_be_bytes([0, payload[1], payload[2], payload[3]]);
                prop_assert_eq!(offset as usize, back.len());
                let header = 8 + if restarts { 4 } else { 0 } + if offset == 0 { 132 } else { 0 };
                back.extend_from_slice(&payload[header..]);
            }
            prop_assert_eq!(back, data);
        }

        #[test]
        fn damaged_images_give_packets_or_a_fault(
            place in 0usize..300, byte: u8, cut in 0usize..400,
        ) {
            let mut image = image(&[tables(), sof0(64, 64, 0x22)], &scan(100));
            if let Some(target) = image.get_mut(place) {
                *target = byte;
            }
            image.truncate(image.len().saturating_sub(cut));
            if let Ok(frames) = mjpeg(&[image]).sent() {
                check_packets(&frames);
            }
        }
    }
}

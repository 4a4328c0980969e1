//! Reads the headers of a JPEG image (ITU-T T.81) as far as RFC 2435 needs them.
//!
//! ```text
//! SOI [APPn] DQT DHT DRI SOF0 SOS | entropy-coded data | EOI
//! ```
//! A receiver makes the headers up again from a few numbers, so only images whose headers it can
//! make up are accepted: baseline, three components, 4:2:2 or 4:2:0 with one MCU shape each, the
//! Huffman tables of annex K. Anything else is refused with the reason in a [`JpegFault`].

use std::ops::Range;

/// Pixels in one direction at most: RFC 2435 s3.1.5 counts them by eight, in one byte.
pub(super) const SIZE_PIXELS_MAX: u16 = 2_040;

/// Marker segments before the scan at most; cameras write about ten.
const SEGMENTS_MAX: usize = 64;

const SOF0: u8 = 0xc0;
const DHT: u8 = 0xc4;
const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DQT: u8 = 0xdb;
const DRI: u8 = 0xdd;

/// Why an image cannot be sent by RFC 2435.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JpegFault {
    /// Markers do not follow each other as they must.
    #[error("no JPEG marker at byte {offset}")]
    Malformed {
        /// From the start of the sample.
        offset: usize,
    },
    /// Progressive, lossless, arithmetic or hierarchical.
    #[error("not a baseline image (marker {marker:#04x})")]
    NotBaseline {
        /// The frame marker found.
        marker: u8,
    },
    /// Not 8 bits a sample, or quantization tables of 16 bits.
    #[error("{bits} bits of precision, the payload format has 8")]
    Precision {
        /// Bits.
        bits: u8,
    },
    /// Not luma and two chroma components.
    #[error("{count} components, the payload format has 3")]
    Components {
        /// Components.
        count: u8,
    },
    /// Not 4:2:2 with 2x1 luma blocks or 4:2:0 with 2x2.
    #[error("sampling factors {luma:#04x} {cb:#04x} {cr:#04x} have no payload type")]
    Sampling {
        /// Luma, horizontal in the high four bits.
        luma: u8,
        /// First chroma component.
        cb: u8,
        /// Second chroma component.
        cr: u8,
    },
    /// Empty, or larger than a byte of eights.
    #[error("{width}x{height} pixels, the payload format has 8 to 2040")]
    Size {
        /// Pixels.
        width: u16,
        /// Pixels.
        height: u16,
    },
    /// A quantization table is not there, or chroma components differ in theirs.
    #[error("quantization tables do not fit the components")]
    QuantizationTables,
    /// Other than those of annex K.
    #[error("Huffman tables are not the standard ones")]
    HuffmanTables,
    /// Components in scans of their own, or two fields in one sample.
    #[error("more than one scan")]
    SeveralScans,
    /// Longer than 24 bits of fragment offset.
    #[error("{bytes} bytes of image, the payload format has 2^24")]
    TooLong {
        /// Of entropy-coded data.
        bytes: usize,
    },
}

/// What RFC 2435 says of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Jpeg<'a> {
    /// Type 0 is 4:2:2, type 1 is 4:2:0 (RFC 2435 s4.1).
    pub(super) is_420: bool,
    pub(super) width_pixels: u16,
    pub(super) height_pixels: u16,
    /// MCUs between restart markers, 0 for none.
    pub(super) restart_interval: u16,
    /// For luma and for chroma, in zigzag order.
    pub(super) quantization: [&'a [u8; 64]; 2],
    /// The entropy-coded data in the sample, without EOI.
    pub(super) scan: Range<usize>,
}

/// Reads one image.
pub(super) fn parse(bytes: &[u8]) -> Result<Jpeg<'_>, JpegFault> {
    if !bytes.starts_with(&[0xff, SOI]) {
        return Err(JpegFault::Malformed { offset: 0 });
    }
    let mut headers = Headers::default();
    let mut at = 2;
    for _ in 0..SEGMENTS_MAX {
        let (marker, body) = segment(bytes, at).ok_or(JpegFault::Malformed { offset: at })?;
        let content = bytes.get(body.clone()).unwrap_or_default();
        headers.handle_segment(marker, content)?;
        at = body.end;
        if marker == SOS {
            return headers.finish(content, scan_range(bytes, at)?);
        }
    }
    Err(JpegFault::Malformed { offset: at })
}

/// The marker at `at` (fill bytes skipped) and the content of its segment.
fn segment(bytes: &[u8], at: usize) -> Option<(u8, Range<usize>)> {
    let rest = bytes.get(at..)?;
    let fill = rest.iter().take_while(|byte| **byte == 0xff).count();
    let (marker, rest) = rest.get(fill..)?.split_first().filter(|_| fill > 0)?;
    let [high, low, ..] = *rest else { return None };
    let count = usize::from(u16::from_be_bytes([high, low]));
    let start = at + fill + 3;
    let end = start + count.checked_sub(2)?;
    (end <= bytes.len()).then_some((*marker, start..end))
}

/// Entropy-coded data from `start` to EOI or the end of the sample. Restart markers and stuffed
/// zeros belong to it; any other marker starts another scan.
fn scan_range(bytes: &[u8], start: usize) -> Result<Range<usize>, JpegFault> {
    let data = bytes.get(start..).unwrap_or_default();
    let mut pairs = data.iter().zip(data.iter().skip(1));
    let marker = pairs.position(|(byte, next)| *byte == 0xff && !is_data(*next));
    let end = marker.unwrap_or(data.len());
    let behind = data.get(end..).unwrap_or_default();
    match behind {
        [] => {}
        [0xff, EOI, trailer @ ..] if !trailer.windows(2).take(64).any(|two| two == [0xff, SOI]) => {
        }
        _ => return Err(JpegFault::SeveralScans),
    }
    match end {
        0 => Err(JpegFault::Malformed { offset: start }),
        1..0x0100_0000 => Ok(start..start + end),
        bytes => Err(JpegFault::TooLong { bytes }),
    }
}

/// What may follow 0xff inside entropy-coded data: a stuffed zero, RST0-7, a fill byte.
fn is_data(next: u8) -> bool {
    matches!(next, 0 | 0xd0..=0xd7 | 0xff)
}

/// Tables and frame header met so far.
#[derive(Debug, Default)]
struct Headers<'a> {
    quantization: [Option<&'a [u8; 64]>; 4],
    /// DC tables 0-3, then AC tables 0-3: counts and values.
    huffman: [Option<&'a [u8]>; 8],
    restart_interval: u16,
    frame: Option<FrameHeader>,
}

#[derive(Debug, Clone, Copy)]
struct FrameHeader {
    is_420: bool,
    width_pixels: u16,
    height_pixels: u16,
    /// Identifier and quantization table of each component.
    components: [(u8, u8); 3],
}

impl<'a> Headers<'a> {
    fn handle_segment(&mut self, marker: u8, content: &'a [u8]) -> Result<(), JpegFault> {
        match marker {
            DQT => self.handle_dqt(content),
            DHT => self.handle_dht(content).ok_or(JpegFault::HuffmanTables),
            SOF0 => {
                self.frame = Some(frame_header(content)?);
                Ok(())
            }
            0xc1..=0xc3 | 0xc5..=0xcf => Err(JpegFault::NotBaseline { marker }),
            DRI => {
                if let [high, low, ..] = *content {
                    self.restart_interval = u16::from_be_bytes([high, low]);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn handle_dqt(&mut self, mut rest: &'a [u8]) -> Result<(), JpegFault> {
        while let Some((head, behind)) = rest.split_first() {
            if head >> 4 != 0 {
                return Err(JpegFault::Precision { bits: 16 });
            }
            let (table, behind) =
                behind.split_first_chunk::<64>().ok_or(JpegFault::QuantizationTables)?;
            let slot = self.quantization.get_mut(usize::from(head & 0x0f));
            *slot.ok_or(JpegFault::QuantizationTables)? = Some(table);
            rest = behind;
        }
        Ok(())
    }

    fn handle_dht(&mut self, mut rest: &'a [u8]) -> Option<()> {
        while let Some((head, behind)) = rest.split_first() {
            let counts = behind.get(..16)?;
            let values: usize = counts.iter().map(|count| usize::from(*count)).sum();
            let (table, behind) = behind.split_at_checked(16 + values)?;
            let (class, id) = (usize::from(head >> 4), usize::from(head & 0x0f));
            let is_valid = class < 2 && id < 4;
            *self.huffman.get_mut(class * 4 + id).filter(|_| is_valid)? = Some(table);
            rest = behind;
        }
        Some(())
    }

    /// Everything together at the start of the scan, whose header is `sos`.
    fn finish(self, sos: &[u8], scan: Range<usize>) -> Result<Jpeg<'a>, JpegFault> {
        let frame = self.frame.ok_or(JpegFault::Malformed { offset: scan.start })?;
        let [3, id_0, tables_0, id_1, tables_1, id_2, tables_2, ..] = *sos else {
            return Err(JpegFault::SeveralScans);
        };
        if [id_0, id_1, id_2] != frame.components.map(|(id, _)| id) {
            return Err(JpegFault::SeveralScans);
        }
        let is_standard = self.has_tables(tables_0, &DC_LUMA, &AC_LUMA)
            && self.has_tables(tables_1, &DC_CHROMA, &AC_CHROMA)
            && self.has_tables(tables_2, &DC_CHROMA, &AC_CHROMA);
        if !is_standard {
            return Err(JpegFault::HuffmanTables);
        }
        let [luma, cb, cr] = frame.components.map(|(_, table)| self.table(table));
        let (Some(luma), Some(cb), true) = (luma, cb, cb == cr) else {
            return Err(JpegFault::QuantizationTables);
        };
        Ok(Jpeg {
            is_420: frame.is_420,
            width_pixels: frame.width_pixels,
            height_pixels: frame.height_pixels,
            restart_interval: self.restart_interval,
            quantization: [luma, cb],
            scan,
        })
    }

    fn table(&self, id: u8) -> Option<&'a [u8; 64]> {
        self.quantization.get(usize::from(id)).copied().flatten()
    }

    /// The scan's tables `ids` (DC in the high four bits) are the given ones. A table that was not
    /// sent is the standard one of its number: motion JPEG leaves them all out.
    fn has_tables(&self, ids: u8, dc: &[u8], ac: &[u8]) -> bool {
        let (dc_id, ac_id) = (usize::from(ids >> 4), usize::from(ids & 0x0f));
        let table = |class: usize, id: usize, defaults: [&'a [u8]; 2]| {
            let sent = self.huffman.get(class * 4 + id).filter(|_| id < 4).copied().flatten();
            sent.or_else(|| defaults.get(id).copied())
        };
        table(0, dc_id, [&DC_LUMA, &DC_CHROMA]) == Some(dc)
            && table(1, ac_id, [&AC_LUMA, &AC_CHROMA]) == Some(ac)
    }
}

/// Reads SOF0 (T.81 s B.2.2).
fn frame_header(content: &[u8]) -> Result<FrameHeader, JpegFault> {
    let [bits, height_high, height_low, width_high, width_low, count, ref components @ ..] =
        *content
    else {
        return Err(JpegFault::Components { count: 0 });
    };
    if bits != 8 {
        return Err(JpegFault::Precision { bits });
    }
    let [id_0, luma, table_0, id_1, cb, table_1, id_2, cr, table_2] = *components else {
        return Err(JpegFault::Components { count });
    };
    if count != 3 {
        return Err(JpegFault::Components { count });
    }
    let is_420 = match (luma, cb, cr) {
        (0x21, 0x11, 0x11) => false,
        (0x22, 0x11, 0x11) => true,
        _ => return Err(JpegFault::Sampling { luma, cb, cr }),
    };
    let width = u16::from_be_bytes([width_high, width_low]);
    let height = u16::from_be_bytes([height_high, height_low]);
    if ![width, height].iter().all(|size| (1..=SIZE_PIXELS_MAX).contains(size)) {
        return Err(JpegFault::Size { width, height });
    }
    let components = [(id_0, table_0), (id_1, table_1), (id_2, table_2)];
    Ok(FrameHeader { is_420, width_pixels: width, height_pixels: height, components })
}

/// T.81 table K.3: 16 counts of codes by length, then the values in order of their codes.
const DC_LUMA: [u8; 28] = [
    0x00, 0x01, 0x05, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b,
];

/// T.81 table K.4.
const DC_CHROMA: [u8; 28] = [
    0x00, 0x03, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b,
];

/// T.81 table K.5.
const AC_LUMA: [u8; 178] = [
    0x00, 0x02, 0x01, 0x03, 0x03, 0x02, 0x04, 0x03, 0x05, 0x05, 0x04, 0x04, 0x00, 0x00, 0x01, 0x7d,
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07,
    0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0,
    0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28,
    0x29, 0x2a, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49,
    0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69,
    0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89,
    0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
    0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5,
    0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2,
    0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8,
    0xf9, 0xfa,
];

/// T.81 table K.6.
const AC_CHROMA: [u8; 178] = [
    0x00, 0x02, 0x01, 0x02, 0x04, 0x04, 0x03, 0x04, 0x07, 0x05, 0x04, 0x04, 0x00, 0x01, 0x02, 0x77,
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71,
    0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0,
    0x15, 0x62, 0x72, 0xd1, 0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26,
    0x27, 0x28, 0x29, 0x2a, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48,
    0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68,
    0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87,
    0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5,
    0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
    0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda,
    0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8,
    0xf9, 0xfa,
];

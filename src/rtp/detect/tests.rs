//! Behaviours of `KeyFrameDetector`: literal packets of each format, and any bytes. Packets of real
//! encoders are in `tests/players/peek.rs`.

use proptest::prelude::*;

use super::*;

const NOTHING: PayloadContent =
    PayloadContent { picture: false, sync: false, sets: false, tables: false };
const SETS: PayloadContent =
    PayloadContent { picture: false, sync: false, sets: true, tables: false };
const SLICE: PayloadContent =
    PayloadContent { picture: true, sync: false, sets: false, tables: false };
const SYNC: PayloadContent =
    PayloadContent { picture: true, sync: true, sets: false, tables: false };
const ALL: PayloadContent = PayloadContent { picture: true, sync: true, sets: true, tables: false };

fn detect(format: DetectorFormat, payload: &[u8]) -> PayloadContent {
    KeyFrameDetector::new(format).detect(payload)
}

#[track_caller]
fn check(format: DetectorFormat, cases: &[(&[u8], PayloadContent)]) {
    for (payload, expected) in cases {
        assert_eq!(detect(format, payload), *expected, "{payload:02x?}");
    }
}

#[test]
fn h264_units_are_found_alone_aggregated_and_fragmented() {
    check(
        DetectorFormat::H264,
        &[
            (&[0x65, 1], SYNC),
            (&[0x41, 1], SLICE),
            (&[0x67, 1], SETS),
            (&[0x68, 1], NOTHING),
            (&[0x09, 0xf0], NOTHING),
            (&[0x06, 5], NOTHING),
            (&[0x06, 1, 1, 0x20, 6, 1, 0x84, 0x80], SETS), // recovery point
            (&[0x7c, 0x86, 6, 1, 0x84, 0x80], SETS),       // the same, in FU-A
            (
                &[0x78, 0, 5, 6, 6, 1, 0x84, 0x80, 0, 2, 0x41, 1],
                PayloadContent { picture: true, ..SETS },
            ),
            (&[0, 0, 0, 1, 0x65, 1], SYNC), // Annex B inside of RTP
            (&[0x78, 0, 2, 0x67, 1, 0, 2, 0x68, 1, 0, 2, 0x65, 1], ALL), // STAP-A
            (&[0x78, 0, 2, 0x67, 1, 0, 9, 0x65], SETS), // cut
            (&[0x79, 0, 7, 0, 2, 0x65, 1], SYNC), // STAP-B
            (&[0x7c, 0x85, 1], SYNC),       // FU-A, start
            (&[0x7c, 0x05, 1], SLICE),      // middle
            (&[0x7c, 0x45, 1], SLICE),      // end
            (&[0x7c, 0x81, 1], SLICE),
            (&[0x7c], NOTHING),
            (&[0x1e, 1], NOTHING), // reserved
        ],
    );
}

#[test]
fn h265_units_are_found_alone_aggregated_and_fragmented() {
    let header = |kind: u8| kind << 1;
    let ap = [header(48), 1, 0, 3, header(33), 1, 0, 0, 3, header(19), 1, 0];
    check(
        DetectorFormat::H265,
        &[
            (&[header(19), 1, 0], SYNC),                         // IDR
            (&[header(21), 1, 0], SYNC),                         // CRA
            (&[header(39), 1, 6, 2, 0x50, 0x80, 0x80], SETS),    // recovery point
            (&[header(40), 1, 6, 2, 0x50, 0x80, 0x80], NOTHING), // behind the picture
            (&[header(16), 1, 0], SYNC),                         // BLA
            (&[header(1), 1, 0], SLICE),
            (&[header(9), 1, 0], SLICE), // RASL
            (&[header(32), 1, 0], SETS),
            (&[header(33), 1, 0], SETS),
            (&[header(34), 1, 0], NOTHING),
            (&[header(35), 1, 0], NOTHING), // AUD
            (&ap, ALL),
            (&[header(49), 1, 0x80 | 19, 0], SYNC),
            (&[header(49), 1, 19, 0], SLICE),
            (&[header(49), 1], NOTHING),
            (&[header(50), 1, 0], NOTHING), // PACI
            (&[header(19)], NOTHING),
        ],
    );
}

#[test]
fn av1_begins_where_the_aggregation_header_says_so() {
    check(
        DetectorFormat::Av1,
        &[
            (&[0x08, 2, 0x08, 0, 1, 0x30], ALL),
            (&[0x10, 0x30, 0], SLICE),
            (&[0x10, 0x08, 0], PayloadContent { sets: true, ..SLICE }), // W = 1, sequence header
            (&[0x90, 0x08, 0], SLICE),                                  // the end of an OBU
            (&[0x00, 0x81, 0x00, 0x08], PayloadContent { sets: true, ..SLICE }), // two bytes of length
            (&[0x08], ALL),
        ],
    );
}

#[test]
fn vp8_and_vp9_key_frames_are_found_behind_their_descriptors() {
    check(
        DetectorFormat::Vp8,
        &[
            (&[0x10, 0x00], SYNC),
            (&[0x10, 0x01], SLICE),
            (&[0x00, 0x00], SLICE), // not the start
            (&[0x11, 0x00], SLICE), // another partition
            (&[0x90, 0x80, 0x05, 0x00], SYNC),
            (&[0x90, 0x80, 0x85, 0x01, 0x00], SYNC), // picture id of two bytes
            (&[0x90, 0xf0, 0x85, 0x01, 0, 0, 0x01], SLICE),
            (&[0x90, 0xf0, 0x85, 0x01, 0, 0, 0x00], SYNC),
            (&[0x10], SLICE),
        ],
    );
    check(
        DetectorFormat::Vp9,
        &[
            (&[0x08, 1], SYNC),
            (&[0x0c, 1], SYNC),
            (&[0x48, 1], SLICE), // predicted
            (&[0x04, 1], SLICE), // the end
            (&[0x88, 0x81, 0x02, 1], SYNC),
            (&[0xa8, 0x01, 0x00, 0, 1], SYNC),
            (&[0xa8, 0x01, 0x02, 0, 1], SLICE), // an upper spatial layer
            (&[0xa8], SLICE),
        ],
    );
}

#[test]
fn mpeg4_and_jpeg_pictures_are_found() {
    check(
        DetectorFormat::Mpeg4Visual,
        &[
            (&[0, 0, 1, 0xb6, 0x10, 0], SYNC),
            (&[0, 0, 1, 0xb6, 0x50, 0], SLICE),
            (&[0, 0, 1, 0xb0, 1, 0, 0, 1, 0x20, 0, 0, 0, 1, 0xb6, 0, 0], ALL),
            (&[0, 0, 1, 0xb0, 1, 0, 0, 1, 0x20, 0], SETS),
            (&[1, 2, 3, 4, 5, 6], SLICE),
            (&[0, 0, 1, 0xb3, 0, 0, 0, 0, 1, 0xb6, 0x10], SYNC), // a group in front
        ],
    );
    check(
        DetectorFormat::Jpeg,
        &[(&[0, 0, 0, 0, 1, 255, 20, 15], SYNC), (&[0, 0, 5, 0, 1, 255, 20, 15], SLICE)],
    );
}

/// One packet of 188 bytes.
fn ts(pid: u16, is_random_access: bool, payload: &[u8]) -> Vec<u8> {
    let [high, low] = pid.to_be_bytes();
    let stuffing = 188 - 4 - 2 - payload.len();
    let flags = if is_random_access { 0x40 } else { 0 };
    let mut packet = vec![0x47, 0x40 | high, low, 0x30, u8::try_from(stuffing + 1).unwrap(), flags];
    packet.resize(6 + stuffing, 0xff);
    packet.extend_from_slice(payload);
    packet
}

#[test]
fn ts_begins_where_the_picture_says_so_and_not_where_sound_does() {
    // PAT: programme 1 has its PMT at 0x1000. PMT: AAC at 0x101, H.264 at 0x100.
    let pat = [0, 0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xf0, 0x00, 1, 2, 3, 4];
    let pmt = [
        0, 2, 0xb0, 23, 0, 1, 0xc1, 0, 0, 0xe1, 0x00, 0xf0, 0, 0x0f, 0xe1, 0x01, 0xf0, 0, 0x1b,
        0xe1, 0x00, 0xf0, 0, 1, 2, 3, 4,
    ];
    let mut detector = KeyFrameDetector::new(DetectorFormat::MpegTs);
    assert_eq!(detector.detect(&ts(0x100, true, b"early")), NOTHING, "not known yet");
    let tables = [ts(0, false, &pat), ts(0x1000, false, &pmt)].concat();
    assert_eq!(detector.detect(&tables), PayloadContent { tables: true, ..NOTHING });
    assert_eq!(detector.detect(&ts(0x101, true, b"sound")), NOTHING);
    assert_eq!(detector.detect(&ts(0x100, false, b"picture")), SLICE);
    let all = [ts(0, false, &pat), ts(0x101, false, b""), ts(0x100, true, b"")].concat();
    assert_eq!(detector.detect(&all), PayloadContent { tables: true, ..SYNC });
    // A radio programme may be entered anywhere.
    let mut radio = pmt;
    radio[18] = 0x0f;
    detector.detect(&ts(0x1000, false, &radio));
    assert!(detector.detect(&ts(0x101, false, b"sound")).sync);
}

#[test]
fn format_is_known_by_its_encoding_name() {
    assert_eq!(DetectorFormat::from_encoding_name("h265"), DetectorFormat::H265);
    assert_eq!(DetectorFormat::from_encoding_name("MPEG4-GENERIC"), DetectorFormat::Any);
    assert_eq!(detect(DetectorFormat::Any, &[]), PayloadContent::ANYWHERE);
}

const FORMATS: [DetectorFormat; 9] = [
    DetectorFormat::H264,
    DetectorFormat::H265,
    DetectorFormat::Av1,
    DetectorFormat::Vp8,
    DetectorFormat::Vp9,
    DetectorFormat::Mpeg4Visual,
    DetectorFormat::Jpeg,
    DetectorFormat::MpegTs,
    DetectorFormat::Any,
];

proptest! {
    #[test]
    fn arbitrary_payloads_never_panic(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..8),
    ) {
        for format in FORMATS {
            let mut detector = KeyFrameDetector::new(format);
            for payload in &payloads {
                let content = detector.detect(payload);
                prop_assert!(content.picture || !content.sync);
            }
        }
    }

    #[test]
    fn arbitrary_tables_never_panic(
        packets in prop::collection::vec(
            (prop::sample::select(vec![0u16, 0x100, 0x1000]), any::<bool>(),
             prop::collection::vec(any::<u8>(), 0..180)), 0..20,
        ),
    ) {
        let mut detector = KeyFrameDetector::new(DetectorFormat::MpegTs);
        for (pid, access, payload) in packets {
            detector.detect(&ts(pid, access, &payload));
        }
    }
}

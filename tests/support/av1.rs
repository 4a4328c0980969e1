//! AV1 put together again from RTP (AOM "RTP Payload Format For AV1" s4).
//!
//! Neither FFmpeg before 7 nor GStreamer's C plug-ins can receive AV1, so this client does, and
//! hands the result to a decoder.
//!
//! ```text
//! payload  [Z Y WW N ---] [size | OBU element]..    Z: first element goes on from the last packet
//! ```

use super::rtp::Rtp;

const OBU_TEMPORAL_DELIMITER: u8 = 2;

/// The temporal units of `packets` as a low-overhead bitstream with a delimiter in front of each
/// and a size in each OBU: what a decoder reads from a `.obu` file.
pub(crate) fn temporal_units(packets: &[Rtp]) -> Vec<Vec<u8>> {
    super::rtp::frames(packets).into_iter().map(temporal_unit).collect()
}

fn temporal_unit(packets: &[Rtp]) -> Vec<u8> {
    assert!(packets.last().unwrap().marker, "the last packet of a temporal unit has the marker");
    let mut obus: Vec<Vec<u8>> = Vec::new();
    let mut is_open = false;
    for packet in packets {
        let header = packet.payload[0];
        assert_eq!(header & 0x80 != 0, is_open, "Z must repeat the Y of the packet before");
        let mut elements = elements(&packet.payload);
        if is_open {
            obus.last_mut().unwrap().extend(elements.remove(0));
        }
        obus.extend(elements);
        is_open = header & 0x40 != 0;
    }
    assert!(!is_open, "the temporal unit ends inside an OBU");
    let mut out = vec![OBU_TEMPORAL_DELIMITER << 3 | 2, 0];
    for obu in &obus {
        let kind = obu[0] >> 3 & 0x0f;
        assert_ne!(kind, OBU_TEMPORAL_DELIMITER, "delimiters are not sent (s5)");
        out.extend(with_size(obu));
    }
    out
}

/// The OBU elements of one payload.
fn elements(payload: &[u8]) -> Vec<Vec<u8>> {
    let count = payload[0] >> 4 & 0x03;
    let mut rest = &payload[1..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let is_last = count != 0 && found.len() + 1 == usize::from(count);
        let bytes = if is_last { rest.len() } else { take_leb128(&mut rest) };
        found.push(rest[..bytes].to_vec());
        rest = &rest[bytes..];
    }
    assert!(count == 0 || found.len() == usize::from(count), "W says {count} elements");
    found
}

/// `obu` with its size field, which the payload format leaves out.
fn with_size(obu: &[u8]) -> Vec<u8> {
    if obu[0] & 0x02 != 0 {
        return obu.to_vec();
    }
    let header_bytes = if obu[0] & 0x04 == 0 { 1 } else { 2 };
    let mut out = obu[..header_bytes].to_vec();
    out[0] |= 0x02;
    let mut size = obu.len() - header_bytes;
    loop {
        let low = u8::try_from(size & 0x7f).unwrap();
        size >>= 7;
        out.push(if size == 0 { low } else { low | 0x80 });
        if size == 0 {
            break;
        }
    }
    out.extend(&obu[header_bytes..]);
    out
}

fn take_leb128(bytes: &mut &[u8]) -> usize {
    let mut value = 0;
    for shift in 0..8 {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= usize::from(byte & 0x7f) << (7 * shift);
        if byte & 0x80 == 0 {
            return value;
        }
    }
    panic!("a size that does not end");
}

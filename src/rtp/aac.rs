//! AAC in RTP (RFC 3640): how long a packet lasts.
//!
//! A packet begins with the length of its AU headers in bits, two bytes; a header of an AAC frame
//! has 16 bits in the modes that encoders use (s3.3.6). A frame has 1,024 samples.

/// Name of the payload format in SDP.
pub const AAC_ENCODING: &str = "mpeg4-generic";

/// Ticks of the RTP clock that a packet's frames last. `None` for bytes that are no such packet.
#[must_use]
pub fn aac_ticks(payload: &[u8]) -> Option<i64> {
    let header_bits = u16::from_be_bytes(*payload.first_chunk()?);
    Some(i64::from(header_bits / HEADER_BITS) * FRAME_SAMPLES)
}

const HEADER_BITS: u16 = 16;
const FRAME_SAMPLES: i64 = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_lasts_as_long_as_its_frames() {
        assert_eq!(aac_ticks(&[0, 16, 1, 2, 3]), Some(1_024));
        assert_eq!(aac_ticks(&[0, 64, 1]), Some(4_096));
        assert_eq!((aac_ticks(&[0, 0]), aac_ticks(&[7])), (Some(0), None));
    }
}

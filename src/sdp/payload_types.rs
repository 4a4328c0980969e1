//! What the lines of a media say of each payload type, found in one pass over them.
//!
//! ```text
//! a=rtpmap:96 H264/90000  --+
//! a=fmtp:96 packetization.. +--> 96: H264, 90,000 Hz, parameters in line 2
//! ```
//! The first line of a kind counts. Bound: an entry for each of 256 numbers at most.
#![deny(clippy::indexing_slicing)]

use std::collections::BTreeMap;

use sdp_types::RtpMap;

use super::session::{Encoding, Line, fmtp_of, look, squeezed};

/// Attributes of the payload types of one media description.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct PayloadTypes {
    by_number: BTreeMap<u8, Known>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Known {
    encoding: Option<Encoding>,
    /// Place of the line.
    fmtp: Option<usize>,
}

impl PayloadTypes {
    pub(super) fn of(lines: &[Line]) -> Self {
        let mut by_number: BTreeMap<u8, Known> = BTreeMap::new();
        for (place, line) in lines.iter().enumerate().filter(|(_, line)| line.key == 'a') {
            look();
            let Some((name, value)) = line.value.split_once(':') else { continue };
            if name.trim().eq_ignore_ascii_case("rtpmap") {
                if let Some((number, encoding)) = encoding_of(value) {
                    by_number.entry(number).or_default().encoding.get_or_insert(encoding);
                }
            } else if name.trim().eq_ignore_ascii_case("fmtp")
                && let Some((number, _)) = fmtp_of(value)
            {
                by_number.entry(number).or_default().fmtp.get_or_insert(place);
            }
        }
        Self { by_number }
    }

    /// By `a=rtpmap`.
    pub(super) fn encoding(&self, payload_type: u8) -> Option<&Encoding> {
        self.by_number.get(&payload_type)?.encoding.as_ref()
    }

    /// Place of the line with `a=fmtp`.
    pub(super) fn fmtp_line(&self, payload_type: u8) -> Option<usize> {
        self.by_number.get(&payload_type)?.fmtp
    }
}

fn encoding_of(value: &str) -> Option<(u8, Encoding)> {
    let map: RtpMap = squeezed(value).parse().ok()?;
    let encoding = Encoding {
        name: map.encoding_name,
        clock_rate_hz: map.clock_rate,
        channels: map.encoding_params.and_then(|channels| channels.trim().parse().ok()),
    };
    (encoding.clock_rate_hz > 0).then_some((map.payload_type, encoding))
}

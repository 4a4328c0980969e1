//! Temporal units of AV1 ("RTP Payload Format For AV1", s4): OBU elements, put together where they
//! were cut, each with its size.

use super::{Assemble, FRAME_BYTES_MAX, Frame, Packet};
use crate::base::ids::RtpTs;
use crate::base::leb128;

/// The temporal unit under way.
#[derive(Debug, Default)]
pub(super) struct Av1 {
    ts: Option<RtpTs>,
    bytes: Vec<u8>,
    /// The OBU that goes on in the next packet.
    open: Vec<u8>,
    is_sync: bool,
    is_damaged: bool,
    lost: u64,
}

impl Av1 {
    fn end(&mut self, out: &mut Vec<Frame>) {
        let bytes = std::mem::take(&mut self.bytes);
        let (is_sync, is_damaged) =
            (std::mem::take(&mut self.is_sync), std::mem::take(&mut self.is_damaged));
        let is_open = !self.open.is_empty();
        self.open.clear();
        let Some(ts) = self.ts.take() else { return };
        if is_damaged || is_open {
            self.lost += 1;
        } else if !bytes.is_empty() {
            out.push(Frame { ts, bytes, is_sync });
        }
    }

    fn push_payload(&mut self, payload: &[u8]) {
        let Some((&aggregation, mut rest)) = payload.split_first() else { return };
        let (continues, goes_on) = (aggregation & 0x80 != 0, aggregation & 0x40 != 0);
        let count = usize::from(aggregation >> 4 & 3);
        if continues == self.open.is_empty() {
            self.is_damaged = true;
            self.open.clear();
            return;
        }
        let mut place = 0;
        while !rest.is_empty() {
            place += 1;
            let is_last = count != 0 && place == count;
            let (element, behind) = if is_last {
                (rest, &[][..])
            } else {
                let split =
                    leb128::read(rest).and_then(|(bytes, behind)| behind.split_at_checked(bytes));
                let Some(split) = split else {
                    self.is_damaged = true;
                    return;
                };
                split
            };
            rest = behind;
            if self.bytes.len() + self.open.len() + element.len() > FRAME_BYTES_MAX {
                self.is_damaged = true;
                return;
            }
            self.open.extend_from_slice(element);
            if !(rest.is_empty() && goes_on) {
                self.close_obu();
            }
        }
    }

    /// Writes the OBU that is complete, with its size (AV1 s5.3).
    fn close_obu(&mut self) {
        let obu = std::mem::take(&mut self.open);
        let Some((&header, rest)) = obu.split_first() else { return };
        let kind = header >> 3 & 0xf;
        let extension_bytes = usize::from(header >> 2 & 1);
        let Some((extension, rest)) = rest.split_at_checked(extension_bytes) else {
            self.is_damaged = true;
            return;
        };
        let payload = if header & HAS_SIZE == 0 {
            Some(rest)
        } else {
            leb128::read(rest).and_then(|(bytes, behind)| behind.get(..bytes))
        };
        let Some(payload) = payload else {
            self.is_damaged = true;
            return;
        };
        if [TEMPORAL_DELIMITER, TILE_LIST, PADDING].contains(&kind) {
            return;
        }
        self.bytes.push(header | HAS_SIZE);
        self.bytes.extend_from_slice(extension);
        let mut space = [0; leb128::BYTES_MAX];
        self.bytes.extend_from_slice(leb128::write(payload.len(), &mut space));
        self.bytes.extend_from_slice(payload);
    }
}

impl Assemble for Av1 {
    fn push(&mut self, packet: &Packet<'_>, out: &mut Vec<Frame>) {
        if self.ts.is_some_and(|ts| ts != packet.ts) {
            self.end(out);
        }
        self.ts = Some(packet.ts);
        self.is_sync |= packet.is_sync;
        self.push_payload(packet.payload);
        if packet.marker {
            self.end(out);
        }
    }

    fn break_off(&mut self) {
        if self.ts.is_some() {
            self.is_damaged = true;
        }
        self.open.clear();
    }

    fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}

/// `obu_has_size_field`.
const HAS_SIZE: u8 = 2;
const TEMPORAL_DELIMITER: u8 = 2;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;

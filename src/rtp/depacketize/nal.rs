//! Access units of H.264 (RFC 6184 s5) and H.265 (RFC 7798 s4), non-interleaved.
//!
//! Parameter sets are left out, because they are in the sample entry; delimiters, because MP4 needs
//! none. An access unit ends with the marker, or where another RTP time begins.

use super::{Assemble, FRAME_BYTES_MAX, Frame, Packet};
use crate::base::ids::RtpTs;

/// Which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    H264,
    H265,
}

/// The access unit under way.
#[derive(Debug)]
pub(super) struct Nal {
    kind: Kind,
    ts: Option<RtpTs>,
    bytes: Vec<u8>,
    is_sync: bool,
    is_damaged: bool,
    /// Where the length of the fragmented unit stands; `None` between units.
    fragment: Option<usize>,
    lost: u64,
}

impl Nal {
    pub(super) fn h264() -> Self {
        Self::new(Kind::H264)
    }

    pub(super) fn h265() -> Self {
        Self::new(Kind::H265)
    }

    fn new(kind: Kind) -> Self {
        Self {
            kind,
            ts: None,
            bytes: Vec::new(),
            is_sync: false,
            is_damaged: false,
            fragment: None,
            lost: 0,
        }
    }

    fn end(&mut self, out: &mut Vec<Frame>) {
        let bytes = std::mem::take(&mut self.bytes);
        let (is_sync, is_damaged) =
            (std::mem::take(&mut self.is_sync), std::mem::take(&mut self.is_damaged));
        let is_open = self.fragment.take().is_some();
        let Some(ts) = self.ts.take() else { return };
        if is_damaged || is_open {
            self.lost += 1;
        } else if !bytes.is_empty() {
            out.push(Frame { ts, bytes, is_sync });
        }
    }

    fn type_of(&self, header: u8) -> u8 {
        match self.kind {
            Kind::H264 => header & 0x1f,
            Kind::H265 => header >> 1 & 0x3f,
        }
    }

    /// Whether a unit belongs into the sample.
    fn is_kept(&self, header: u8) -> bool {
        let kind = self.type_of(header);
        match self.kind {
            // SPS, PPS, access unit delimiter, filler.
            Kind::H264 => !matches!(kind, 7..=9 | 12),
            // VPS, SPS, PPS, access unit delimiter, filler.
            Kind::H265 => !matches!(kind, 32..=35 | 38),
        }
    }

    fn push_unit(&mut self, unit: &[u8]) {
        let Some(&header) = unit.first() else { return };
        let Ok(length) = u32::try_from(unit.len()) else { return };
        if !self.is_kept(header) {
            return;
        }
        if self.bytes.len() + unit.len() > FRAME_BYTES_MAX {
            self.is_damaged = true;
            return;
        }
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(unit);
    }

    /// Units behind lengths of two bytes.
    fn push_aggregate(&mut self, units: &[u8]) {
        let mut rest = units;
        while let Some((length, behind)) = rest.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length));
            let Some((unit, behind)) = behind.split_at_checked(length) else {
                self.is_damaged = true;
                return;
            };
            self.push_unit(unit);
            rest = behind;
        }
    }

    /// A piece of a unit: its header as a whole unit has it, whether it begins or ends the unit.
    fn push_fragment(&mut self, header: &[u8], (begins, ends): (bool, bool), piece: &[u8]) {
        if begins {
            if self.fragment.is_some() {
                self.is_damaged = true;
            }
            self.fragment = Some(self.bytes.len());
            self.bytes.extend_from_slice(&[0; 4]);
            self.bytes.extend_from_slice(header);
        }
        let Some(at) = self.fragment else {
            // Its beginning is missing.
            self.is_damaged = true;
            return;
        };
        if self.bytes.len() + piece.len() > FRAME_BYTES_MAX {
            self.is_damaged = true;
            return;
        }
        self.bytes.extend_from_slice(piece);
        if !ends {
            return;
        }
        self.fragment = None;
        let first = self.bytes.get(at + 4).copied().unwrap_or(0);
        if !self.is_kept(first) {
            self.bytes.truncate(at);
            return;
        }
        let length = u32::try_from(self.bytes.len() - at - 4).unwrap_or(0);
        if let Some(place) = self.bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }

    fn push_h264(&mut self, payload: &[u8]) {
        let Some((&indicator, behind)) = payload.split_first() else { return };
        match indicator & 0x1f {
            STAP_A => self.push_aggregate(behind),
            FU_A => {
                let Some((&fu, piece)) = behind.split_first() else {
                    self.is_damaged = true;
                    return;
                };
                let header = indicator & 0xe0 | fu & 0x1f;
                self.push_fragment(&[header], (fu & 0x80 != 0, fu & 0x40 != 0), piece);
            }
            // Interleaved modes are not negotiated.
            25..=27 | 29 => self.is_damaged = true,
            _ => self.push_unit(payload),
        }
    }

    fn push_h265(&mut self, payload: &[u8]) {
        let Some((&[first, second], behind)) = payload.split_first_chunk::<2>() else { return };
        match first >> 1 & 0x3f {
            AP => self.push_aggregate(behind),
            FU => {
                let Some((&fu, piece)) = behind.split_first() else {
                    self.is_damaged = true;
                    return;
                };
                let header = [first & 0x81 | (fu & 0x3f) << 1, second];
                self.push_fragment(&header, (fu & 0x80 != 0, fu & 0x40 != 0), piece);
            }
            _ => self.push_unit(payload),
        }
    }
}

impl Assemble for Nal {
    fn push(&mut self, packet: &Packet<'_>, out: &mut Vec<Frame>) {
        if self.ts.is_some_and(|ts| ts != packet.ts) {
            self.end(out);
        }
        self.ts = Some(packet.ts);
        self.is_sync |= packet.is_sync;
        match self.kind {
            Kind::H264 => self.push_h264(packet.payload),
            Kind::H265 => self.push_h265(packet.payload),
        }
        if packet.marker {
            self.end(out);
        }
    }

    fn break_off(&mut self) {
        // Without a frame under way it is not known whether the lost packet began the next one:
        // what is then left of it is a fragment without its beginning, or a frame without slices.
        if self.ts.is_some() {
            self.is_damaged = true;
            self.fragment = None;
        }
    }

    fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}

const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const AP: u8 = 48;
const FU: u8 = 49;

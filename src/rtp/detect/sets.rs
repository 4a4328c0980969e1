//! The parameter sets that are in force, from those in band: to keep an SDP current.
//!
//! A set replaces the one of the same kind and number; a new SPS does not remove others, as the
//! numbers tell them apart. (Of H.265 only picture sets have their number in a place that can be
//! read cheaply; there is one VPS and one SPS in every real stream.)
//! Bounds: [`SETS_MAX`] sets of a kind, [`SET_BYTES_MAX`] each; what is beyond is passed over.
#![deny(clippy::indexing_slicing)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::DetectorFormat;
use super::nal::{SetKind, for_each_set_h264, for_each_set_h265};

/// Sets of one kind at most.
pub const SETS_MAX: usize = 8;

/// Bytes of one set at most: those of real encoders have a few dozen.
pub const SET_BYTES_MAX: usize = 1_024;

/// The parameter sets in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterSets {
    format: DetectorFormat,
    /// In order of kind and number.
    sets: Vec<(SetKind, u32, Vec<u8>)>,
}

impl ParameterSets {
    /// None yet. Formats other than H.264 and H.265 never have any.
    #[must_use]
    pub fn new(format: DetectorFormat) -> Self {
        Self { format, sets: Vec::new() }
    }

    /// Takes the payload of a packet that has sets or may have some; `true` when one of them is
    /// new. Sets that are known, as they are in most groups, cost a comparison.
    pub fn handle_payload(&mut self, payload: &[u8]) -> bool {
        let mut is_changed = false;
        match self.format {
            DetectorFormat::H264 => for_each_set_h264(payload, |kind, set| {
                is_changed |= self.insert(kind, set);
            }),
            DetectorFormat::H265 => for_each_set_h265(payload, |kind, set| {
                is_changed |= self.insert(kind, set);
            }),
            _ => {}
        }
        is_changed
    }

    /// Takes the value of `sprop-parameter-sets` and its like; what is no base64 is passed over.
    pub fn handle_sprop(&mut self, value: &str) {
        for set in value.split(',').filter_map(|set| STANDARD.decode(set.trim()).ok()) {
            self.handle_payload(&set);
        }
    }

    /// The sets of a kind.
    pub fn of_kind(&self, kind: SetKind) -> impl Iterator<Item = &[u8]> {
        let mine = self.sets.iter().filter(move |(known, ..)| *known == kind);
        mine.map(|(_, _, set)| set.as_slice())
    }

    /// Whether there is one of each kind that a decoder needs.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let has = |kind| self.of_kind(kind).next().is_some();
        let has_video_set = self.format != DetectorFormat::H265 || has(SetKind::Vps);
        has_video_set && has(SetKind::Sps) && has(SetKind::Pps)
    }

    /// Parameters for `a=fmtp` (RFC 6184 s8.1, RFC 7798 s7.1); none until the sets are complete.
    #[must_use]
    pub fn fmtp(&self) -> Vec<(&'static str, String)> {
        let [vps, sps, pps] = [SetKind::Vps, SetKind::Sps, SetKind::Pps]
            .map(|kind| self.of_kind(kind).map(|set| STANDARD.encode(set)).collect::<Vec<_>>());
        if !self.is_complete() {
            return Vec::new();
        }
        match self.format {
            DetectorFormat::H264 => {
                let sets = [sps, pps].concat().join(",");
                let profile = self.of_kind(SetKind::Sps).find_map(|sps| match *sps {
                    [_, profile, constraints, level, ..] => {
                        Some(format!("{profile:02X}{constraints:02X}{level:02X}"))
                    }
                    _ => None,
                });
                let profile = profile.map(|profile| ("profile-level-id", profile));
                profile.into_iter().chain([("sprop-parameter-sets", sets)]).collect()
            }
            DetectorFormat::H265 => vec![
                ("sprop-vps", vps.join(",")),
                ("sprop-sps", sps.join(",")),
                ("sprop-pps", pps.join(",")),
            ],
            _ => Vec::new(),
        }
    }

    fn insert(&mut self, kind: SetKind, set: &[u8]) -> bool {
        if set.len() > SET_BYTES_MAX {
            return false;
        }
        let Some(number) = self.number(kind, set) else { return false };
        let place = self.sets.binary_search_by_key(&(kind, number), |(k, n, _)| (*k, *n));
        match place {
            Ok(at) => match self.sets.get_mut(at) {
                Some((_, _, known)) if known != set => {
                    *known = set.to_vec();
                    true
                }
                _ => false,
            },
            Err(_) if self.of_kind(kind).count() >= SETS_MAX => false,
            Err(at) => {
                self.sets.insert(at, (kind, number, set.to_vec()));
                true
            }
        }
    }

    /// What tells sets of a kind apart; `None` for one that is cut off.
    fn number(&self, kind: SetKind, set: &[u8]) -> Option<u32> {
        match (self.format, kind) {
            (DetectorFormat::H264, SetKind::Sps) => exp_golomb(set.get(4..)?),
            (DetectorFormat::H264, _) => exp_golomb(set.get(1..)?),
            (_, SetKind::Pps) => exp_golomb(set.get(2..)?),
            (_, _) => (set.len() > 2).then_some(0),
        }
    }
}

/// The number that bytes begin with, `ue(v)` (H.264 s9.1), when it has at most 15 bits.
fn exp_golomb(bytes: &[u8]) -> Option<u32> {
    let mut word = [0; 4];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    let word = u32::from_be_bytes(word);
    let zeros = word.leading_zeros();
    let bits = 2 * zeros + 1;
    (zeros < 16 && bits <= u32::try_from(bytes.len() * 8).unwrap_or(u32::MAX))
        .then(|| (word >> (32 - bits)) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1e, 0xd9];
    const PPS: &[u8] = &[0x68, 0xcb, 0x83];

    #[test]
    fn sets_of_h264_make_an_fmtp_once_they_are_complete() {
        let mut sets = ParameterSets::new(DetectorFormat::H264);
        assert!(sets.handle_payload(SPS) && sets.fmtp().is_empty());
        // STAP-A with both.
        let stap = [&[0x78, 0, 5], SPS, &[0, 3], PPS].concat();
        assert!(sets.handle_payload(&stap) && !sets.handle_payload(&stap));
        let expected = [
            ("profile-level-id", "42C01E".to_owned()),
            ("sprop-parameter-sets", "Z0LAHtk=,aMuD".to_owned()),
        ];
        assert_eq!(sets.fmtp(), expected);
    }

    #[test]
    fn sets_of_an_sdp_are_known_when_they_come_in_band() {
        let mut sets = ParameterSets::new(DetectorFormat::H264);
        sets.handle_sprop(" Z0LAHtk=,aMuD,?,Z0");
        assert!(!sets.handle_payload(SPS) && !sets.handle_payload(PPS));
        assert_eq!(sets.fmtp().len(), 2);
    }

    #[test]
    fn set_with_a_known_number_replaces_and_another_number_adds() {
        let mut sets = ParameterSets::new(DetectorFormat::H264);
        sets.handle_payload(&[0x68, 0x80, 1]);
        assert!(sets.handle_payload(&[0x68, 0x80, 2]), "number 0 again");
        assert!(sets.handle_payload(&[0x68, 0x40, 3]), "number 1");
        let all: Vec<_> = sets.of_kind(SetKind::Pps).collect();
        assert_eq!(all, [[0x68, 0x80, 2], [0x68, 0x40, 3]]);
    }

    #[test]
    fn sets_of_h265_are_named_each() {
        let mut sets = ParameterSets::new(DetectorFormat::H265);
        for set in [[0x40, 1, 0x0c], [0x42, 1, 1], [0x44, 1, 0xc1]] {
            assert!(sets.handle_payload(&set));
        }
        let names: Vec<_> = sets.fmtp().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["sprop-vps", "sprop-sps", "sprop-pps"]);
    }

    #[test]
    fn strange_sets_are_passed_over_and_bounded() {
        let mut sets = ParameterSets::new(DetectorFormat::H264);
        assert!(!sets.handle_payload(&[0x67]) && !sets.handle_payload(&[0x68]));
        assert!(!sets.handle_payload(&[0x68, 0, 0, 0, 0]), "a number without end");
        let mut long = vec![0x68, 0x80];
        long.resize(SET_BYTES_MAX + 1, 1);
        assert!(!sets.handle_payload(&long));
        for number in 0u16..100 {
            let [high, low] = ((number + 1) | 1 << 8).to_be_bytes();
            sets.handle_payload(&[0x68, high >> 1, high << 7 | low >> 1, low << 7]);
        }
        assert!(sets.of_kind(SetKind::Pps).count() <= SETS_MAX);
    }

    #[test]
    fn numbers_are_exp_golomb() {
        let read = |bytes: &[u8]| exp_golomb(bytes);
        assert_eq!((read(&[0x80]), read(&[0x40]), read(&[0x60])), (Some(0), Some(1), Some(2)));
        assert_eq!((read(&[0x20]), read(&[0x01]), read(&[])), (Some(3), None, None));
        assert_eq!(read(&[0x01, 0x00]), Some(127));
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
            h265: bool,
        ) {
            let format = if h265 { DetectorFormat::H265 } else { DetectorFormat::H264 };
            let mut sets = ParameterSets::new(format);
            for payload in payloads {
                sets.handle_payload(&payload);
                let _ = sets.fmtp();
                prop_assert!(!sets.handle_payload(&payload) || payload.len() > 3);
            }
        }
    }
}

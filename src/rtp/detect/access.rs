//! Where a reader may begin: the first packet of the newest picture that needs no other.
//!
//! ```text
//! ts 1: |AUD|SEI|SPS|PPS|IDR.........|   ts 2: |AUD|slice....|
//!        ^ the access point begins here, known when the IDR comes
//! ```
//! A picture behind an SPS or a recovery point (SEI) counts too: encoders without IDR (open
//! groups, intra refresh) have them where one may begin. Parameter sets with a timestamp of their
//! own belong to the picture behind them. Tables (MPEG-TS) come at any time: the newest before the
//! picture are taken along, and decoders pass over what stands between.
//! Bound: five numbers.

use super::PayloadContent;
use crate::base::ids::RtpTs;
use crate::rtp::ExtSeq;

/// The newest packet of a stream that a reader may begin at.
#[derive(Debug, Default)]
pub struct AccessPoints {
    /// Timestamp and first packet of the picture that is coming in.
    unit: Option<(RtpTs, ExtSeq)>,
    /// First packet of the unit whose parameter sets no picture has used yet.
    sets: Option<ExtSeq>,
    /// The newest packet with tables since the last access point.
    tables: Option<ExtSeq>,
    /// Timestamp of the last access point: it is told once.
    told: Option<RtpTs>,
}

impl AccessPoints {
    /// Takes the next packet in order; gives the packet where an access point begins once that is
    /// certain.
    pub fn handle_packet(
        &mut self,
        seq: ExtSeq,
        ts: RtpTs,
        content: PayloadContent,
    ) -> Option<ExtSeq> {
        let unit_start = match self.unit {
            Some((known, start)) if known == ts => start,
            _ => seq,
        };
        self.unit = Some((ts, unit_start));
        if content.sets && self.told != Some(ts) {
            self.sets.get_or_insert(unit_start);
        }
        if content.tables {
            self.tables = Some(seq);
        }
        if !content.picture {
            return None;
        }
        let sets = self.sets.take();
        if !content.sync && sets.is_none() || self.told == Some(ts) {
            return None;
        }
        self.told = Some(ts);
        let start = sets.unwrap_or(unit_start);
        Some(self.tables.take().map_or(start, |tables| tables.min(start)))
    }

    /// Packets were lost, or the source has begun anew: what came before does not count.
    pub fn handle_gap(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETS: PayloadContent =
        PayloadContent { picture: false, sync: false, sets: true, tables: false };
    const OTHER: PayloadContent =
        PayloadContent { picture: false, sync: false, sets: false, tables: false };
    const SLICE: PayloadContent =
        PayloadContent { picture: true, sync: false, sets: false, tables: false };
    const IDR: PayloadContent =
        PayloadContent { picture: true, sync: true, sets: false, tables: false };

    /// Access points of packets given as (timestamp, content), by their places.
    fn points(packets: &[(u32, PayloadContent)]) -> Vec<(u64, u64)> {
        let mut access = AccessPoints::default();
        let found = (0..).zip(packets).filter_map(|(place, (ts, content))| {
            let start = access.handle_packet(ExtSeq(place), RtpTs(*ts), *content)?;
            Some((place, start.0))
        });
        found.collect()
    }

    #[test]
    fn point_begins_with_the_first_packet_of_its_timestamp() {
        let packets = [
            (1, SLICE),
            (2, OTHER),
            (2, SETS),
            (2, IDR),
            (2, SLICE),
            (2, IDR),
            (3, SLICE),
            (4, IDR),
        ];
        assert_eq!(points(&packets), [(3, 1), (7, 7)]);
    }

    #[test]
    fn parameter_sets_with_a_timestamp_of_their_own_belong_to_the_next_picture() {
        assert_eq!(points(&[(1, SLICE), (2, SETS), (3, IDR), (3, SLICE)]), [(2, 1)]);
        assert_eq!(points(&[(1, SETS), (1, OTHER), (2, SETS), (3, OTHER), (3, IDR)]), [(4, 0)]);
    }

    #[test]
    fn picture_behind_an_sps_counts_without_idr_but_only_that_one() {
        assert_eq!(points(&[(1, SETS), (1, SLICE), (1, SLICE), (2, SLICE)]), [(1, 0)]);
    }

    #[test]
    fn sets_and_picture_in_one_packet_are_one_point() {
        let all = PayloadContent { picture: true, sync: true, sets: true, tables: false };
        assert_eq!(points(&[(1, all), (1, SLICE), (2, all)]), [(0, 0), (2, 2)]);
    }

    #[test]
    fn every_audio_packet_is_a_point() {
        let packets = [(1, PayloadContent::ANYWHERE), (2, PayloadContent::ANYWHERE)];
        assert_eq!(points(&packets), [(0, 0), (1, 1)]);
    }

    #[test]
    fn newest_tables_before_a_point_are_taken_along() {
        let tables = PayloadContent { tables: true, ..OTHER };
        let packets =
            [(1, tables), (2, SLICE), (3, tables), (4, SLICE), (5, IDR), (6, SLICE), (7, IDR)];
        assert_eq!(points(&packets), [(4, 2), (6, 6)]);
    }

    #[test]
    fn sets_before_a_gap_are_forgotten() {
        let mut access = AccessPoints::default();
        assert_eq!(access.handle_packet(ExtSeq(1), RtpTs(1), SETS), None);
        access.handle_gap();
        assert_eq!(access.handle_packet(ExtSeq(5), RtpTs(1), SLICE), None);
        assert_eq!(access.handle_packet(ExtSeq(6), RtpTs(1), IDR), Some(ExtSeq(5)));
    }
}

//! Ranges of a file, and the whole pages that they lie in.
//!
//! ```text
//! pieces   [..][....]  [.]      [...]          as packets name them
//! pages    |-----------|        |-----|        rounded out, touching ones joined
//! ```
//! Memory comes in pages: whoever read one byte of a page has all of it. So a window is a few runs
//! of pages, however many pieces its packets are cut into and whatever lies between them.
//!
//! Invariant: runs are sorted, do not touch, and end at the file's end at the latest.

use std::ops::Range;

use crate::media::window::{PacketWindow, Piece};

/// The runs of pages that hold a window's payload.
pub(super) fn page_runs(window: &PacketWindow, file_bytes: u64) -> Vec<Range<u64>> {
    let packets = window.frames().iter().flat_map(|frame| window.packets(frame));
    let pieces = packets.flat_map(|packet| window.pieces(packet));
    let ranges = pieces.filter_map(|piece| match *piece {
        Piece::File { offset, bytes } => Some(offset..offset.saturating_add(u64::from(bytes))),
        Piece::Inline { .. } => None,
    });
    to_pages(ranges, page_bytes(), file_bytes)
}

/// Rounds ranges out to whole pages.
pub(super) fn to_pages(
    ranges: impl Iterator<Item = Range<u64>>,
    page_bytes: u64,
    file_bytes: u64,
) -> Vec<Range<u64>> {
    let rounded = ranges.filter(|range| range.start < range.end).map(|range| {
        let end = range.end.checked_next_multiple_of(page_bytes).unwrap_or(u64::MAX);
        // What lies behind the end is left as it is: to read there is the error that it should be.
        let end = end.min(file_bytes.max(range.end));
        range.start / page_bytes * page_bytes..end
    });
    coalesce(rounded.collect(), 0)
}

/// Sorts ranges and joins those that overlap or lie at most `gap` bytes apart.
pub(super) fn coalesce(mut ranges: Vec<Range<u64>>, gap: u64) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(gap) => {
                last.end = last.end.max(range.end);
            }
            _ => joined.push(range),
        }
    }
    joined
}

/// True when one of `coalesced` holds all of `range`.
pub(super) fn is_covered(coalesced: &[Range<u64>], range: &Range<u64>) -> bool {
    let past = coalesced.partition_point(|known| known.start <= range.start);
    past.checked_sub(1)
        .and_then(|place| coalesced.get(place))
        .is_some_and(|known| known.end >= range.end)
}

/// What the kernel counts memory in.
pub(super) fn page_bytes() -> u64 {
    // Never zero; a file system may have larger blocks, which does no harm here.
    u64::try_from(rustix::param::page_size()).unwrap_or(4_096).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_that_touch_or_nearly_touch_are_joined() {
        let ranges = vec![30..40, 0..10, 10..12, 5..8, 44..50];
        assert_eq!(coalesce(ranges.clone(), 0), [0..12, 30..40, 44..50]);
        assert_eq!(coalesce(ranges, 4), [0..12, 30..50]);
        let ends = vec![u64::MAX - 1..u64::MAX, 0..1];
        assert_eq!(coalesce(ends, u64::MAX).first(), Some(&(0..u64::MAX)));
    }

    #[test]
    fn pieces_of_neighbouring_pages_are_one_run_that_ends_with_the_file() {
        let ranges = [4..10, 14..100, 110..150, 300..301, 390..395];
        assert_eq!(to_pages(ranges.into_iter(), 100, 395), [0..200, 300..395]);
        // The file has become shorter: reading it will say so.
        assert_eq!(to_pages([390..395, 0..1].into_iter(), 100, 200), [0..100, 300..395]);
        assert_eq!(to_pages([7..7, 9..9].into_iter(), 100, 395), []);
        let end = u64::MAX - 1..u64::MAX;
        assert_eq!(to_pages([end].into_iter(), 100, 0).len(), 1);
    }

    proptest! {
        #[test]
        fn joined_ranges_hold_the_same_bytes(
            parts in prop::collection::vec((0_u64..100, 1_u64..20), 0..20),
            probe in (0_u64..100, 1_u64..20),
        ) {
            let ranges: Vec<_> = parts.iter().map(|(start, bytes)| *start..start + bytes).collect();
            let joined = coalesce(ranges.clone(), 0);
            let has = |ranges: &[Range<u64>], at| ranges.iter().any(|range| range.contains(&at));
            for at in 0..130 {
                prop_assert_eq!(has(&joined, at), has(&ranges, at));
            }
            prop_assert!(joined.windows(2).all(|pair| pair[0].end < pair[1].start));
            let probe = probe.0..probe.0 + probe.1;
            let expected = probe.clone().all(|at| has(&ranges, at));
            prop_assert_eq!(is_covered(&joined, &probe), expected);
        }

        #[test]
        fn runs_hold_the_pages_of_all_bytes_and_no_others(
            parts in prop::collection::vec((0_u64..100, 1_u64..20), 0..20),
        ) {
            let ranges: Vec<_> = parts.iter().map(|(start, bytes)| *start..start + bytes).collect();
            let runs = to_pages(ranges.iter().cloned(), 8, 120);
            let is_touched = |page: u64| {
                ranges.iter().any(|range| range.start / 8 <= page && (range.end - 1) / 8 >= page)
            };
            for at in 0..120 {
                prop_assert_eq!(runs.iter().any(|run| run.contains(&at)), is_touched(at / 8));
            }
        }
    }
}

//! `Range` of one part (RFC 9110 s14.1.2).

use std::ops::Range;

/// No byte of the content is asked for (RFC 9110 s15.5.17).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsatisfiable;

/// The bytes that are asked for of `size`; `None` for all of them: without the header, and where it
/// has another unit, several parts or no meaning, as a server may ignore it.
///
/// # Errors
/// No byte is asked for.
pub fn parse(value: Option<&str>, size: u64) -> Result<Option<Range<u64>>, Unsatisfiable> {
    let parts = value.and_then(|value| value.trim().strip_prefix("bytes="));
    let Some((first, last)) = parts.and_then(|parts| parts.trim().split_once('-')) else {
        return Ok(None);
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let range = match (first.trim(), last.trim()) {
        ("", last) => match number(last) {
            Some(0) => return Err(Unsatisfiable),
            Some(count) => size.saturating_sub(count)..size,
            None => return Ok(None),
        },
        (first, "") => match number(first) {
            Some(first) => first..size,
            None => return Ok(None),
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => first..size.min(last.saturating_add(1)),
            _ => return Ok(None),
        },
    };
    if range.is_empty() { Err(Unsatisfiable) } else { Ok(Some(range)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_one_part_are_cut_to_the_content() {
        let table = [
            (None, Ok(None)),
            (Some("bytes=0-0"), Ok(Some(0..1))),
            (Some("bytes=2-"), Ok(Some(2..10))),
            (Some("bytes=-3"), Ok(Some(7..10))),
            (Some("bytes=-30"), Ok(Some(0..10))),
            (Some("bytes=9-100"), Ok(Some(9..10))),
            (Some("bytes=10-"), Err(Unsatisfiable)),
            (Some("bytes=-0"), Err(Unsatisfiable)),
            (Some("bytes=5-4"), Ok(None)),
            (Some("bytes=0-1,3-4"), Ok(None)),
            (Some("lines=0-1"), Ok(None)),
            (Some("bytes=a-b"), Ok(None)),
            (Some("bytes=18446744073709551615-18446744073709551615"), Err(Unsatisfiable)),
        ];
        for (value, expected) in table {
            assert_eq!(parse(value, 10), expected, "{value:?}");
        }
        assert_eq!(parse(Some("bytes=0-"), 0), Err(Unsatisfiable));
    }
}

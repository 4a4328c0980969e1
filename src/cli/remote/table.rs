//! Tables for people, and numbers as they read them.

use std::io::{self, Write};

use serde_json::Value;

use super::super::printable;

/// Writes rows under their heads; each column is as wide as its widest cell, the last one open.
pub(in crate::cli) fn write(
    heads: &[&str],
    rows: &[Vec<String>],
    out: &mut impl Write,
) -> io::Result<()> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widths = cells.map(|cell| cell.chars().count());
        widths.chain([heads[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    for row in [&heads].into_iter().chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line += cell;
            let gap = (width + 2).saturating_sub(cell.chars().count());
            line.extend(std::iter::repeat_n(' ', gap));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A string of the answer, made safe for a terminal; `-` when there is none.
pub(in crate::cli) fn text(value: &Value) -> String {
    value.as_str().filter(|text| !text.is_empty()).map_or_else(|| "-".to_owned(), printable)
}

/// A count of the answer.
pub(in crate::cli) fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// `3.8 Mb/s`.
pub(in crate::cli) fn bit_rate(bits_per_s: u64) -> String {
    scaled(bits_per_s, 1_000, &["b/s", "kb/s", "Mb/s", "Gb/s"])
}

/// `1.5 MiB`.
pub(in crate::cli) fn bytes(bytes: u64) -> String {
    scaled(bytes, 1_024, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// `12s`, `5m02s`, `3h05m`, `2d03h`.
pub(in crate::cli) fn age(value: &Value) -> String {
    let Some(seconds) = value.as_f64() else { return "-".to_owned() };
    let seconds = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// Seconds of the answer with two digits behind the point; `-` when there are none.
pub(in crate::cli) fn seconds(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.2}s"))
}

/// What is not zero of a map of counts: `3 tcp_window, 1 evicted`; `none` when all is.
pub(in crate::cli) fn counts(value: &Value) -> String {
    let counts = value.as_object().into_iter().flatten();
    let counts = counts.filter(|(_, value)| count(value) > 0);
    let shown: Vec<String> =
        counts.map(|(name, value)| format!("{} {}", count(value), printable(name))).collect();
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}

/// One digit behind the point above the first unit.
fn scaled(value: u64, step: u64, units: &[&str]) -> String {
    let (mut tenths, mut unit) = (u128::from(value) * 10, 0);
    while tenths >= u128::from(step) * 10 && unit + 1 < units.len() {
        tenths /= u128::from(step);
        unit += 1;
    }
    match unit {
        0 => format!("{value} {}", units[0]),
        _ => format!("{}.{} {}", tenths / 10, tenths % 10, units[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["live/cam1", "live", "x"]), row(["a", "idle", ""])];
        let mut out = Vec::new();
        write(&["PATH", "STATE", "SOURCE"], &rows, &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r"
        PATH       STATE  SOURCE
        live/cam1  live   x
        a          idle
        ");
    }

    #[test]
    fn numbers_are_short_and_have_their_unit() {
        let rates = [0, 999, 1_000, 3_849_000, 25_000_000_000].map(bit_rate);
        assert_eq!(rates, ["0 b/s", "999 b/s", "1.0 kb/s", "3.8 Mb/s", "25.0 Gb/s"]);
        assert_eq!([1_023, 1_536, u64::MAX].map(bytes), ["1023 B", "1.5 KiB", "16777215.9 TiB"]);
        let ages = [3.9, 62.0, 7_500.0, 200_000.0].map(|seconds| age(&json!(seconds)));
        assert_eq!(ages, ["3s", "1m02s", "2h05m", "2d07h"]);
        assert_eq!((age(&json!(null)), age(&json!(-1.0))), ("-".to_owned(), "0s".to_owned()));
        assert_eq!((seconds(&json!(1.0)), seconds(&json!(null))), ("1.00s".into(), "-".into()));
    }

    #[test]
    fn only_what_was_counted_is_shown_and_control_characters_never() {
        assert_eq!(counts(&json!({ "a": 0, "b": 2 })), "2 b");
        assert_eq!(counts(&json!({ "a": 0 })), "none");
        assert_eq!(text(&json!("cam\u{1b}[2J")), "cam?[2J");
    }
}

//! Numbers that are read at a glance: three digits, with k, M or G.
//!
//! `plots.js` of the page writes them the same way. The load generator, which needs nothing else of
//! this crate, compiles this file too.

/// `0.25`, `12.5k`, `3M`.
#[must_use]
pub fn short(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, "G"),
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match scaled.abs() {
        v if v >= 100.0 || v == 0.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{scaled:.digits$}");
    let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn three_digits_are_enough_for_any_number() {
        let cases = [0.0, 0.25, 2.0, 9.876, 99.94, 1_500.5, 12_500.0, 3e6, -4.2e9];
        let told = ["0", "0.25", "2", "9.88", "99.9", "1500", "12.5k", "3M", "-4.2G"];
        assert_eq!(cases.map(short), told);
    }
}

//! The small headers: Scale (RFC 2326 s12.34), Speed (s12.35), Session (s12.37), RTP-Info
//! (s12.33), lists of tokens (Require, s12.32) and Accept (s12.1).
#![deny(clippy::indexing_slicing)]

use std::fmt::Write as _;

/// Why `Scale` or `Speed` is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RateError {
    /// Not `[-]digits[.digits]`.
    #[error("rate is not a decimal number")]
    Malformed,
    /// Zero, or negative where it must not be: nothing would ever be sent.
    #[error("rate has the wrong sign or is zero")]
    Sign,
}

/// One stream of an `RTP-Info` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtpInfo {
    /// Control URL of the stream, exactly as the client makes it from the SDP (client rule C6).
    pub url: String,
    /// Sequence number of the first packet.
    pub seq: u16,
    /// RTP timestamp that corresponds to the start of the range.
    pub rtptime: u32,
}

/// Reads `Scale`: any decimal number but zero.
///
/// # Errors
/// See [`RateError`].
pub fn parse_scale(text: &str) -> Result<f64, RateError> {
    let scale = parse_decimal(text)?;
    if scale == 0.0 { Err(RateError::Sign) } else { Ok(scale) }
}

/// Reads `Speed`: a decimal number above zero.
///
/// # Errors
/// See [`RateError`].
pub fn parse_speed(text: &str) -> Result<f64, RateError> {
    let speed = parse_decimal(text)?;
    if speed > 0.0 { Ok(speed) } else { Err(RateError::Sign) }
}

/// Writes a rate, Scale or Speed: with three decimals, and with more where they do not say it all.
#[must_use]
pub fn write_rate(rate: f64) -> String {
    let text = format!("{rate:.3}");
    if text.parse() == Ok(rate) { text } else { rate.to_string() }
}

/// The id in a `Session` value: what stands before `;timeout=`. `None` when that is empty.
#[must_use]
pub fn parse_session_id(text: &str) -> Option<&str> {
    let id = text.split_once(';').map_or(text, |(id, _)| id).trim();
    (!id.is_empty()).then_some(id)
}

/// Writes `RTP-Info`, without spaces: some clients read it into a short buffer (client rule C12).
#[must_use]
pub fn write_rtp_info(entries: &[RtpInfo]) -> String {
    let mut text = String::new();
    for RtpInfo { url, seq, rtptime } in entries {
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}url={url};seq={seq};rtptime={rtptime}");
    }
    text
}

/// The elements of a comma-separated header (`Require`, `Proxy-Require`), without empty ones.
pub fn list_tokens(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|token| !token.is_empty())
}

/// Whether an `Accept` value lets a body of type `media_type` through. An empty one does: a
/// client that names nothing excludes nothing.
#[must_use]
pub fn is_accepted(accept: &str, media_type: &str) -> bool {
    let kind = media_type.split_once('/').map_or(media_type, |(kind, _)| kind);
    let is_match = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        // RFC 2068 s14.1: a quality of zero means "not acceptable".
        let is_refused = parts.any(|p| {
            let quality = p.strip_prefix("q=").map(str::trim);
            quality.is_some_and(|q| parse_decimal(q) == Ok(0.0))
        });
        let is_kind = name
            .split_once('/')
            .is_some_and(|(k, sub)| sub == "*" && (k == "*" || k.eq_ignore_ascii_case(kind)));
        !is_refused && (name == "*" || is_kind || name.eq_ignore_ascii_case(media_type))
    };
    let mut ranges = list_tokens(accept).peekable();
    ranges.peek().is_none() || ranges.any(is_match)
}

/// `[-]digits[.digits]`: `str::parse` alone would let `inf`, `nan` and exponents pass.
fn parse_decimal(text: &str) -> Result<f64, RateError> {
    let text = text.trim();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_decimal = digits.len() <= DECIMAL_BYTES_MAX
        && digits.bytes().any(|b| b.is_ascii_digit())
        && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let value = is_decimal.then(|| text.parse().ok()).flatten();
    value.ok_or(RateError::Malformed)
}

/// Keeps every decimal that is read finite, and far above what `%f` prints for a rate.
const DECIMAL_BYTES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn scale_is_a_signed_decimal_and_not_zero() {
        for (text, scale) in [("1", 1.0), (" 2.000000 ", 2.0), ("-1.5", -1.5), (".5", 0.5)] {
            assert_eq!(parse_scale(text), Ok(scale), "{text}");
        }
        for text in ["", "-", ".", "1e3", "inf", "nan", "1,5", "2x", "1.2.3", "--1"] {
            assert_eq!(parse_scale(text), Err(RateError::Malformed), "{text}");
        }
        for text in ["0", "-0.0", "0.000"] {
            assert_eq!(parse_scale(text), Err(RateError::Sign), "{text}");
        }
    }

    #[test]
    fn speed_is_above_zero() {
        assert_eq!(parse_speed("2.5"), Ok(2.5));
        assert_eq!(parse_speed("-1"), Err(RateError::Sign));
        assert_eq!(parse_speed("0"), Err(RateError::Sign));
    }

    #[test]
    fn session_id_ends_at_the_semicolon() {
        assert_eq!(parse_session_id(" 0A1B ;timeout=60"), Some("0A1B"));
        assert_eq!(parse_session_id("0A1B"), Some("0A1B"));
        assert_eq!(parse_session_id(" ;timeout=60"), None);
    }

    #[test]
    fn rtp_info_lists_streams_without_spaces() {
        let entry = |url: &str, seq, rtptime| RtpInfo { url: url.to_owned(), seq, rtptime };
        let entries = [entry("rtsp://h/a/trackID=0", 1, 2), entry("rtsp://h/a/trackID=1", 3, 4)];
        assert_eq!(
            write_rtp_info(&entries),
            "url=rtsp://h/a/trackID=0;seq=1;rtptime=2,url=rtsp://h/a/trackID=1;seq=3;rtptime=4"
        );
        assert_eq!(write_rtp_info(&[]), "");
    }

    #[test]
    fn accept_knows_wildcards_and_quality_zero() {
        let sdp = "application/sdp";
        for accept in [
            "",
            "application/sdp",
            "Application/SDP;q=0.5",
            "*/*",
            "application/*",
            "text/html, */*",
        ] {
            assert!(is_accepted(accept, sdp), "{accept}");
        }
        for accept in ["text/html", "application/rtsl, text/*", "application/sdp;q=0", "sdp"] {
            assert!(!is_accepted(accept, sdp), "{accept}");
        }
    }

    #[test]
    fn rate_is_written_with_three_decimals_or_as_many_as_it_needs() {
        for (rate, text) in [(1.0, "1.000"), (-2.5, "-2.500"), (0.0625, "0.0625"), (0.1, "0.100")] {
            assert_eq!(write_rate(rate), text);
        }
    }

    proptest! {
        #[test]
        fn rate_reads_back_exactly(rate in prop_oneof![-16.0..-0.0625, 0.0625..16.0]) {
            prop_assert_eq!(parse_scale(&write_rate(rate)), Ok(rate));
        }

        #[test]
        fn arbitrary_text_never_panics_and_rates_are_finite(text in "\\PC{0,40}") {
            let _ = (parse_session_id(&text), is_accepted(&text, "a/b"));
            let _ = list_tokens(&text).count();
            for rate in [parse_scale(&text), parse_speed(&text)].into_iter().flatten() {
                prop_assert!(rate.is_finite() && rate != 0.0);
            }
        }
    }
}

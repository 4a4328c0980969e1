//! `a=crypto` of SDP (RFC 4568): a master key as text.
//!
//! ```text
//!  1 AES_CM_128_HMAC_SHA1_80 inline:BASE64(key, salt)[|lifetime]
//! ```
//! A lifetime is not kept count of: it is never shorter than what one session sends. MKIs, several
//! keys in a line and session parameters that change the packets are refused.
#![deny(clippy::indexing_slicing)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{KeyError, MasterKey, Suite};

/// Why a line gives no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SdesError {
    /// Not a tag, a suite and a key.
    #[error("a=crypto is not `TAG SUITE inline:KEY`")]
    Syntax,
    /// A suite that is not served.
    #[error("the suite of a=crypto is not known")]
    Suite,
    /// The key is no Base64, or of the wrong length.
    #[error("the key of a=crypto: {0}")]
    Key(#[from] KeyError),
    /// A master key identifier, several keys, or a session parameter.
    #[error("a=crypto has {what}, which is not carried")]
    NotCarried {
        /// What it is.
        what: &'static str,
    },
}

/// The value of `a=crypto` for a key.
#[must_use]
pub fn write(tag: u8, key: &MasterKey) -> String {
    format!("{tag} {} inline:{}", key.suite().name(), STANDARD.encode(key.expose()))
}

/// Reads the value of `a=crypto`.
///
/// # Errors
/// See [`SdesError`].
pub fn parse(value: &str) -> Result<MasterKey, SdesError> {
    let mut words = value.split_ascii_whitespace();
    let tag = words.next().ok_or(SdesError::Syntax)?;
    if tag.is_empty() || tag.len() > TAG_DIGITS_MAX || !tag.bytes().all(|b| b.is_ascii_digit()) {
        return Err(SdesError::Syntax);
    }
    let suite = words.next().ok_or(SdesError::Syntax)?;
    let suite = Suite::of_name(suite).ok_or(SdesError::Suite)?;
    let inline = words.next().and_then(|word| word.split_once(':')).ok_or(SdesError::Syntax)?;
    let (method, info) = inline;
    if !method.eq_ignore_ascii_case("inline") {
        return Err(SdesError::Syntax);
    }
    if info.contains(';') {
        return Err(SdesError::NotCarried { what: "several keys" });
    }
    let mut parts = info.split('|');
    let key = parts.next().unwrap_or_default();
    if parts.any(|part| part.contains(':')) {
        return Err(SdesError::NotCarried { what: "a master key identifier" });
    }
    // A hint for the size of replay windows; it may be left out.
    let is_hint = |word: &str| word.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("WSH="));
    if words.any(|word| !is_hint(word)) {
        return Err(SdesError::NotCarried { what: "a session parameter" });
    }
    let bytes = STANDARD.decode(key).map_err(|_| SdesError::Syntax)?;
    Ok(MasterKey::from_bytes(suite, &bytes)?)
}

/// RFC 4568 s9.1.
const TAG_DIGITS_MAX: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

    #[test]
    fn lines_of_the_rfc_are_read() {
        for line in [
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20"),
            format!("901 aes_cm_128_hmac_sha1_80  INLINE:{KEY}|1066 WSH=128"),
        ] {
            let key = parse(&line).unwrap();
            assert_eq!(key.suite(), Suite::AesCm128Sha1Tag80);
            assert_eq!(write(1, &key), format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"));
            assert!(!format!("{key:?}").contains("WVN"), "a key is not printed");
        }
    }

    #[test]
    fn other_lines_are_refused_by_name() {
        let what = |what| Err(SdesError::NotCarried { what });
        let length = |have_bytes, want_bytes| {
            Err(SdesError::Key(KeyError::Length { have_bytes, want_bytes }))
        };
        for (line, error) in [
            (String::new(), Err(SdesError::Syntax)),
            ("x AES_CM_128_HMAC_SHA1_80 inline:AAAA".into(), Err(SdesError::Syntax)),
            ("1 AES_CM_128_HMAC_SHA1_80".into(), Err(SdesError::Syntax)),
            ("1 AES_CM_128_HMAC_SHA1_80 uri:AAAA".into(), Err(SdesError::Syntax)),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:A?AA".into(), Err(SdesError::Syntax)),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:AAAA".into(), length(3, 30)),
            (format!("1 AEAD_AES_128_GCM inline:{KEY}"), length(30, 28)),
            (format!("1 F8_128_HMAC_SHA1_80 inline:{KEY}"), Err(SdesError::Suite)),
            (
                format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:4"),
                what("a master key identifier"),
            ),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY};inline:{KEY}"), what("several keys")),
            (
                format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTP"),
                what("a session parameter"),
            ),
        ] {
            assert_eq!(parse(&line), error, "{line}");
        }
    }
}

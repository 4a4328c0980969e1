//! `KeyMgmt` header (RFC 4567 s3.2, RFC 7826 s18.29): a MIKEY message in SETUP and its answer.
//!
//! ```text
//!  KeyMgmt: prot=mikey;uri="rtsps://host/demo/trackID=0";data="AQAFAP1td.."
//! ```
//! Leniency: GStreamer and MediaMTX write `prot=mikey`, the RFC's example `prot=mikey` with blanks
//! and without quotes around the data; all are read. The URI is not looked at: it is the request's.
//! Bound: that of a header line.
#![deny(clippy::indexing_slicing)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::transport::split_unquoted;

/// Why a header gives no MIKEY message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyMgmtError {
    /// No specification is MIKEY's.
    #[error("KeyMgmt has no `prot=mikey`")]
    Protocol,
    /// Its data is no Base64, or there is none.
    #[error("the data of KeyMgmt is not Base64")]
    Data,
}

/// The MIKEY message of a header's first specification of that protocol.
///
/// # Errors
/// See [`KeyMgmtError`].
pub fn parse_key_mgmt(text: &str) -> Result<Vec<u8>, KeyMgmtError> {
    let value_of = |spec: &str, wanted: &str| {
        let mut pairs = split_unquoted(spec, ';').filter_map(|part| part.split_once('='));
        let found = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.trim().trim_matches('"').trim().to_owned())
    };
    let is_mikey = |spec: &&str| {
        value_of(spec, "prot").is_some_and(|protocol| protocol.eq_ignore_ascii_case("mikey"))
    };
    let spec = split_unquoted(text, ',').find(is_mikey).ok_or(KeyMgmtError::Protocol)?;
    let data = value_of(spec, "data").ok_or(KeyMgmtError::Data)?;
    STANDARD.decode(data).map_err(|_| KeyMgmtError::Data)
}

/// The value of `a=key-mgmt` (RFC 4567 s3.1), or of the data of the header: a message as text.
///
/// # Errors
/// See [`KeyMgmtError`].
pub fn parse_key_mgmt_attribute(text: &str) -> Result<Vec<u8>, KeyMgmtError> {
    let (protocol, data) = text.trim().split_once(' ').ok_or(KeyMgmtError::Data)?;
    if !protocol.eq_ignore_ascii_case("mikey") {
        return Err(KeyMgmtError::Protocol);
    }
    STANDARD.decode(data.trim()).map_err(|_| KeyMgmtError::Data)
}

/// The value of `a=key-mgmt`.
#[must_use]
pub fn write_key_mgmt_attribute(message: &[u8]) -> String {
    format!("mikey {}", STANDARD.encode(message))
}

/// The value of a header.
#[must_use]
pub fn write_key_mgmt(uri: &str, message: &[u8]) -> String {
    // A quote would end the URI early; none is part of one (RFC 3986 s2).
    let uri = uri.replace('"', "%22");
    format!("prot=mikey;uri=\"{uri}\";data=\"{}\"", STANDARD.encode(message))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_of_clients_are_read() {
        for text in [
            // GStreamer 1.22.
            "prot=mikey;uri=\"rtsps://h:8322/demo/trackID=0\";data=\"AQAF\"",
            "prot=mikey; uri=\"rtsp://h/a;b,c\"; data=\"AQAF\"",
            "PROT=MIKEY;data=AQAF",
            "prot=other;data=\"//8=\", prot=mikey;data=\"AQAF\"",
        ] {
            assert_eq!(parse_key_mgmt(text), Ok(vec![1, 0, 5]), "{text}");
        }
        for (text, error) in [
            ("", KeyMgmtError::Protocol),
            ("prot=sdes;data=\"AQAF\"", KeyMgmtError::Protocol),
            ("prot=mikey", KeyMgmtError::Data),
            ("prot=mikey;data=\"A?AF\"", KeyMgmtError::Data),
        ] {
            assert_eq!(parse_key_mgmt(text), Err(error), "{text}");
        }
        assert_eq!(parse_key_mgmt_attribute("mikey AQAF"), Ok(vec![1, 0, 5]));
        assert_eq!(parse_key_mgmt_attribute("mikey"), Err(KeyMgmtError::Data));
        assert_eq!(parse_key_mgmt_attribute("dh AQAF"), Err(KeyMgmtError::Protocol));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            uri in "\\PC{0,40}", message in prop::collection::vec(any::<u8>(), 1..60)
        ) {
            prop_assert_eq!(parse_key_mgmt(&write_key_mgmt(&uri, &message)), Ok(message.clone()));
            let attribute = write_key_mgmt_attribute(&message);
            prop_assert_eq!(parse_key_mgmt_attribute(&attribute), Ok(message));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,80}") {
            let _ = (parse_key_mgmt(&text), parse_key_mgmt_attribute(&text));
        }
    }
}

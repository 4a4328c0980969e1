//! The secret of a webhook (Standard Webhooks, symmetric signatures).
//!
//! Invariant: it goes out where [`Secret::reveal`] is written, and nowhere else: it has no
//! `Display` and no `Serialize`, and `Debug` hides it.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use ring::hmac;
use serde::{Deserialize, Serializer};

/// A key of 24 to 64 bytes; as text `whsec_` and its base64.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Secret(String);

/// Text is no secret. It does not say which text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the secret is not `whsec_` and base64 of {BYTES_MIN} to {BYTES_MAX} bytes")]
pub struct SecretError;

impl Secret {
    /// The secret itself, for the ledger and for the request of a client.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// HMAC-SHA256 of a text, base64.
    #[must_use]
    pub fn sign(&self, text: &[u8]) -> String {
        // It was decoded when it was made.
        let key = key_of(&self.0).unwrap_or_default();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), text);
        BASE64.encode(tag.as_ref())
    }

    /// For a field of a request that a client writes.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn write<S: Serializer>(secret: &Option<Self>, to: S) -> Result<S::Ok, S::Error> {
        match secret {
            Some(secret) => to.serialize_some(secret.reveal()),
            None => to.serialize_none(),
        }
    }
}

impl FromStr for Secret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        key_of(text).map(|_| Self(text.to_owned()))
    }
}

impl TryFrom<String> for Secret {
    type Error = SecretError;

    fn try_from(text: String) -> Result<Self, SecretError> {
        text.parse()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

fn key_of(text: &str) -> Result<Vec<u8>, SecretError> {
    let key = text.strip_prefix(PREFIX).and_then(|key| BASE64.decode(key).ok());
    key.filter(|key| (BYTES_MIN..=BYTES_MAX).contains(&key.len())).ok_or(SecretError)
}

const BASE64: GeneralPurpose = STANDARD;
const PREFIX: &str = "whsec_";
/// 192 to 512 bits, as the specification recommends.
const BYTES_MIN: usize = 24;
const BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn secret_is_read_and_not_shown() {
        let secret: Secret = TEXT.parse().unwrap();
        assert_eq!(secret.reveal(), TEXT);
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret(..) Some(Secret(..))");
    }

    #[test]
    fn other_texts_are_refused_and_not_repeated() {
        let short = format!("whsec_{}", STANDARD.encode([1; 23]));
        let long = format!("whsec_{}", STANDARD.encode([1; 65]));
        for bad in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_%", &short, &long] {
            assert_eq!(bad.parse::<Secret>(), Err(SecretError), "{bad}");
            let error = serde_json::from_value::<Secret>(bad.into()).unwrap_err().to_string();
            assert!(bad.len() < 7 || !error.contains(bad), "{error}");
        }
    }
}

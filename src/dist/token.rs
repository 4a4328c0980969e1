//! Tokens: secrets by which clients and nodes show who they are.
//!
//! ```text
//! hdp_ + 43 of base64url   provider: a client      hdj_   a node that joins      hdn_   a node
//! hda_                       an operator of an appliance
//! ```
//! A token has 256 random bits. What is kept of it is its BLAKE3 where it is only compared. A token
//! that a base prints goes on with `~` and the fingerprint of its CA's certificate: whoever has the
//! token knows the base by it at the first contact. The fingerprint is no part of the secret.
//! Invariant: a token is shown in full by [`Token::as_str`] only; comparing tells nothing of where
//! two of them differ.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::Rng;
use subtle::ConstantTimeEq as _;

use crate::dist::ids::Digest;

/// SHA-256 of the certificate of a base's CA (DER). As text base64url.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// Text is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a fingerprint: 43 characters of base64url are expected")]
pub struct FingerprintError;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// A client of the base.
    Provider,
    /// A node that joins.
    Join,
    /// A node that has joined.
    Node,
    /// An operator of an appliance.
    Operator,
}

/// A token. Any text may be one, so that operators can bring their own.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A new one from the random numbers of the system.
    #[must_use]
    pub fn random(kind: TokenKind) -> Self {
        Self::from_rng(kind, &mut rand::rng())
    }

    /// A new one from these random numbers.
    #[must_use]
    pub fn from_rng(kind: TokenKind, rng: &mut impl Rng) -> Self {
        let mut secret = [0; 32];
        rng.fill_bytes(&mut secret);
        let mut text = kind.prefix().to_owned();
        URL_SAFE_NO_PAD.encode_string(secret, &mut text);
        Self(text)
    }

    /// The token that a file has, without a fingerprint.
    ///
    /// # Errors
    /// `TokenError` when it is shorter than 16 or longer than 512 visible ASCII characters.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let (text, _) = split_token(text);
        let is_token = (BYTES_MIN..=BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_graphic());
        if is_token { Ok(Self(text.to_owned())) } else { Err(TokenError) }
    }

    /// The secret.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// BLAKE3 of the secret.
    #[must_use]
    pub fn hash(&self) -> Digest {
        token_hash(&self.0)
    }
}

/// Text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a token: 16 to 512 visible ASCII characters are expected")]
pub struct TokenError;

impl TokenKind {
    /// How tokens of the kind begin.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Provider => "hdp_",
            Self::Join => "hdj_",
            Self::Node => "hdn_",
            Self::Operator => "hda_",
        }
    }
}

/// The secret of a token as it is printed, and the fingerprint behind it.
#[must_use]
pub fn split_token(text: &str) -> (&str, Option<Fingerprint>) {
    let parts = text.rsplit_once(MARK);
    let found = parts.and_then(|(secret, end)| Some((secret, end.parse().ok()?)));
    found.map_or((text, None), |(secret, fingerprint)| (secret, Some(fingerprint)))
}

/// The secret with the fingerprint behind it.
#[must_use]
pub fn with_fingerprint(secret: &str, fingerprint: &Fingerprint) -> String {
    format!("{secret}{MARK}{fingerprint}")
}

/// BLAKE3 of a token that somebody showed.
#[must_use]
pub fn token_hash(token: &str) -> Digest {
    Digest(*blake3::hash(token.as_bytes()).as_bytes())
}

/// Whether `shown` is the token with this hash, in time that does not depend on where they differ.
#[must_use]
pub fn is_token(shown: &str, hash: &Digest) -> bool {
    token_hash(shown).0.ct_eq(&hash.0).into()
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| FingerprintError)?;
        bytes.try_into().map(Self).map_err(|_| FingerprintError)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}...)", self.0.get(..4).unwrap_or_default())
    }
}

/// Between a secret and a fingerprint. Base64url has no such character, and no shell minds it.
const MARK: char = '~';
const BYTES_MIN: usize = 16;
const BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_say_what_they_are_for() {
        let kinds = [TokenKind::Provider, TokenKind::Join, TokenKind::Node];
        for kind in kinds {
            let (one, other) = (Token::random(kind), Token::random(kind));
            assert_ne!(one, other);
            assert_eq!(one.as_str().len(), 4 + 43);
            assert!(one.as_str().starts_with(kind.prefix()));
            assert_eq!(Token::parse(one.as_str()), Ok(one.clone()));
            assert!(!format!("{one:?}").contains(&one.as_str()[5..]));
        }
    }

    #[test]
    fn token_is_found_by_its_hash() {
        let token = Token::random(TokenKind::Join);
        assert!(is_token(token.as_str(), &token.hash()));
        assert!(!is_token("hdj_else", &token.hash()));
        assert!(!is_token("", &token.hash()));
    }

    #[test]
    fn fingerprint_goes_along_with_a_token_and_is_no_part_of_it() {
        let token = Token::random(TokenKind::Join);
        let fingerprint = Fingerprint([0xa5; 32]);
        let printed = with_fingerprint(token.as_str(), &fingerprint);
        assert_eq!(split_token(&printed), (token.as_str(), Some(fingerprint)));
        assert_eq!(Token::parse(&printed), Ok(token));
        for whole in ["hdp_0123456789abcdef", "a~b", "~", "", "a.b.~AAAA", "x~=~"] {
            assert_eq!(split_token(whole), (whole, None));
        }
    }

    #[test]
    fn short_long_and_invisible_texts_are_no_tokens() {
        for bad in ["", "short", "with a space in it", "sixteen\nsixteen\n", &"a".repeat(513)] {
            assert_eq!(Token::parse(bad), Err(TokenError), "{bad:.20}");
        }
    }
}

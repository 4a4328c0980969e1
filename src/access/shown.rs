//! What a request shows of who sends it: `Authorization` (RFC 7617, RFC 7616, RFC 6750), and a
//! token in its query.
//!
//! ```text
//! Authorization: Basic .. | Digest .. | Bearer ..        rtsp://host/live/a?token=..  (?jwt=..)
//! ```
//! Nothing is checked here. Bound: `HEADER_BYTES_MAX`. A capability of a job is a token that begins
//! with [`CAPABILITY_PREFIX`]: it is told from other tokens by that, and no webhook gets it.
#![deny(clippy::indexing_slicing)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_auth::{ChallengeParser, ChallengeRef};

use super::digest::DigestAlgorithm;
use super::guard::Refused;
use crate::base::secret::Secret;

/// Credentials of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// None.
    Nothing,
    /// Name and password.
    Basic {
        /// Name.
        user: String,
        /// Password, or a token in its place.
        password: Secret,
    },
    /// An answer to a challenge.
    Digest(Box<DigestAnswer>),
    /// A token.
    Bearer(Secret),
}

/// An answer to a challenge of Digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestAnswer {
    /// Its hash.
    pub algorithm: DigestAlgorithm,
    /// Name.
    pub user: String,
    /// Nonce of the challenge.
    pub nonce: String,
    /// URL that it is for.
    pub uri: String,
    /// The answer itself.
    pub response: String,
    /// `nc` and `cnonce`, where it has `qop=auth`; without it is RFC 2069's.
    pub auth: Option<(String, String)>,
}

impl Shown {
    /// Reads the value of the header.
    ///
    /// # Errors
    /// [`Refused::Malformed`] for what cannot be read.
    pub fn read(authorization: Option<&str>) -> Result<Self, Refused> {
        let text = authorization.map(str::trim).filter(|text| !text.is_empty());
        let Some(text) = text else { return Ok(Self::Nothing) };
        if text.len() > HEADER_BYTES_MAX {
            return Err(Refused::Malformed);
        }
        if let Some(token) = strip_scheme(text, "Basic") {
            return read_basic(token.trim());
        }
        if let Some(token) = strip_scheme(text, "Bearer").map(str::trim) {
            let is_token = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
            return if is_token {
                Ok(Self::Bearer(Secret::new(token)))
            } else {
                Err(Refused::Malformed)
            };
        }
        strip_scheme(text, "Digest").ok_or(Refused::Malformed)?;
        let read = ChallengeParser::new(text).next();
        let header = read.and_then(Result::ok).ok_or(Refused::Malformed)?;
        DigestAnswer::read(&header).map(Box::new).map(Self::Digest)
    }

    /// Whether it is a capability of a job, right or not.
    #[must_use]
    pub fn is_capability(&self) -> bool {
        matches!(self, Self::Bearer(token) if token.expose().starts_with(CAPABILITY_PREFIX))
    }

    /// The token that stands in the query of a URL.
    #[must_use]
    pub fn token_in(query: Option<&str>) -> Option<Secret> {
        let pairs = query?.split(['&', ';']).filter_map(|pair| pair.split_once('='));
        let mut tokens = pairs.filter(|(name, _)| ["token", "jwt"].contains(name));
        let (_, value) = tokens.find(|(_, value)| !value.is_empty())?;
        let decoded = percent_encoding::percent_decode_str(value).decode_utf8().ok()?;
        Some(Secret::new(decoded.into_owned()))
    }
}

impl DigestAnswer {
    fn read(header: &ChallengeRef<'_>) -> Result<Self, Refused> {
        let optional = |name| parameter(header, name);
        let required = |name| optional(name).ok_or(Refused::Malformed);
        let algorithm = match optional("algorithm") {
            Some(token) => DigestAlgorithm::from_token(&token).ok_or(Refused::Malformed)?,
            None => DigestAlgorithm::Md5,
        };
        let user = match optional("username*") {
            Some(value) => extended(&value).ok_or(Refused::Malformed)?,
            None => required("username")?,
        };
        let nonce = required("nonce")?;
        let (uri, response) = (required("uri")?, required("response")?);
        let auth = match optional("qop") {
            Some(qop) if qop.eq_ignore_ascii_case("auth") => {
                Some((required("nc")?, required("cnonce")?))
            }
            Some(_) => return Err(Refused::Malformed),
            None => None,
        };
        Ok(Self { algorithm, user, nonce, uri, response, auth })
    }
}

/// RFC 7616 s3.4: a name that is not ASCII, as RFC 5987 s3.2 writes it: `UTF-8''J%C3%A4s`.
fn extended(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_language, name) = rest.split_once('\'')?;
    let decoded = percent_encoding::percent_decode_str(name).decode_utf8().ok()?;
    charset.eq_ignore_ascii_case("UTF-8").then(|| decoded.into_owned())
}

/// RFC 7617 s2: the first colon ends the name.
fn read_basic(token: &str) -> Result<Shown, Refused> {
    let bytes = STANDARD.decode(token).map_err(|_| Refused::Malformed)?;
    let text = String::from_utf8(bytes).map_err(|_| Refused::Malformed)?;
    let (user, password) = text.split_once(':').ok_or(Refused::Malformed)?;
    Ok(Shown::Basic { user: user.to_owned(), password: Secret::new(password) })
}

fn parameter(header: &ChallengeRef<'_>, name: &str) -> Option<String> {
    let found = header.params.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.to_unescaped())
}

fn strip_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let (name, rest) = text.split_once([' ', '\t'])?;
    name.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// How a capability begins by which a node of a job reads a live path from another one.
pub const CAPABILITY_PREFIX: &str = "hdl_";
/// A token as the password of Basic may have a few kilobytes.
const HEADER_BYTES_MAX: usize = 8_192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_read_in_any_case_and_nothing_else_is() {
        let basic = |user: &str, password: &str| Shown::Basic {
            user: user.to_owned(),
            password: Secret::new(password),
        };
        for (text, expected) in [
            (None, Ok(Shown::Nothing)),
            (Some(" "), Ok(Shown::Nothing)),
            (Some("basic YW5uOmE6Yg=="), Ok(basic("ann", "a:b"))),
            (Some("BEARER abc.def"), Ok(Shown::Bearer(Secret::new("abc.def")))),
            (Some("Bearer a b"), Err(Refused::Malformed)),
            (Some("Negotiate abc"), Err(Refused::Malformed)),
            (Some("Basic"), Err(Refused::Malformed)),
            (Some("Basic YW5u"), Err(Refused::Malformed)),
        ] {
            assert_eq!(Shown::read(text), expected, "{text:?}");
        }
        let is_capability = |text: &str| Shown::read(Some(text)).unwrap().is_capability();
        assert!(is_capability("Bearer hdl_abc.def"));
        assert!(!is_capability("Bearer abc.hdl_") && !is_capability("Basic aGRsXzphYmM="));
        let long = format!("Bearer {}", "x".repeat(8_192));
        assert_eq!(Shown::read(Some(&long)), Err(Refused::Malformed));
    }

    #[test]
    fn name_that_is_not_ascii_is_read_in_its_extended_form() {
        let user = |name: &str| {
            let header =
                format!("Digest {name}, realm=\"r\", nonce=\"n\", uri=\"u\", response=\"x\"");
            match Shown::read(Some(&header)) {
                Ok(Shown::Digest(answer)) => Some(answer.user),
                _ => None,
            }
        };
        assert_eq!(user("username*=UTF-8''J%C3%A4s").as_deref(), Some("J\u{e4}s"));
        for wrong in ["username*=J%C3%A4s", "username*=latin1''J%E4s", "username*=UTF-8''%E4"] {
            assert_eq!(user(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn token_of_a_query_is_found_and_not_printed() {
        let token = |query: &str| Shown::token_in(Some(query)).map(|t| t.expose().to_owned());
        for (query, expected) in [
            ("token=abc", Some("abc")),
            ("a=b&jwt=a%2Bb", Some("a+b")),
            ("token=&jwt=x", Some("x")),
            ("tokens=abc", None),
            ("", None),
        ] {
            assert_eq!(token(query).as_deref(), expected, "{query}");
        }
        assert!(!format!("{:?}", Shown::token_in(Some("token=abc"))).contains("abc"));
        assert_eq!(Shown::token_in(None), None);
    }
}

//! Checks the credentials of clients.
//!
//! ```text
//! request without Authorization -> Missing -> 401 + challenges
//! Digest with the connection's nonce, right answer -> Granted
//!        with another nonce,          right answer -> Stale -> 401 + challenges, stale=true
//! ```
//! A guard belongs to one connection and has a random nonce of its own. So an answer that was
//! overheard is of no use on another connection, and nothing has to be remembered or expired.
//! Digest URIs are compared loosely: players sign the base URL, one without its slash, or the path
//! alone (client rules C17, C27).
//! Invariant: passwords and answers are compared in constant time, and an unknown user takes the
//! time of a known one.
#![deny(clippy::indexing_slicing)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_auth::{ChallengeParser, ChallengeRef};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use super::digest::{DigestAlgorithm, DigestInput, hex, response};
use crate::rtsp::uri::parse_target;

/// What is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardConfig {
    /// Shown to people.
    pub realm: &'static str,
    /// In this order; MD5 first, or players end (client rule C11).
    pub digests: &'static [DigestAlgorithm],
    /// Basic too: the password is readable on the wire without TLS.
    pub basic: bool,
}

/// The guard of a server's credentials.
#[derive(Debug, Clone)]
pub struct Guard {
    config: GuardConfig,
    nonce: String,
}

/// Why a request is not let through. All are answered with 401 and the challenges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// No `Authorization`: the usual first request.
    #[error("no credentials")]
    Missing,
    /// A scheme or an algorithm that is not offered, or a header that cannot be read.
    #[error("credentials cannot be read or are not of an offered kind")]
    Malformed,
    /// The right answer to the nonce of another connection: a new one helps.
    #[error("nonce is not of this connection")]
    Stale,
    /// For another URL than that of the request.
    #[error("credentials are for another URL")]
    OtherUrl,
    /// User or password.
    #[error("user name or password is wrong")]
    Wrong,
}

impl Guard {
    /// `random` must come from a generator that cannot be predicted from outside.
    #[must_use]
    pub fn new(config: GuardConfig, random: u128) -> Self {
        Self { config, nonce: hex(&random.to_be_bytes()) }
    }

    /// One `WWW-Authenticate` value each; `refused` says whether the nonce was stale.
    #[must_use]
    pub fn challenges(&self, refused: Refused) -> Vec<String> {
        let GuardConfig { realm, digests, basic } = self.config;
        let stale = if refused == Refused::Stale { ", stale=true" } else { "" };
        let digest = |algorithm: &DigestAlgorithm| {
            let (nonce, name) = (&self.nonce, algorithm.as_str());
            // RFC 2617 lets MD5 and a missing qop unsaid, and old players want it so; RFC 7616 has
            // qop always, and without it clients do not name the algorithm.
            let algorithm = match algorithm {
                DigestAlgorithm::Md5 => String::new(),
                DigestAlgorithm::Sha256 => format!(", qop=\"auth\", algorithm={name}"),
            };
            format!("Digest realm=\"{realm}\", nonce=\"{nonce}\"{algorithm}{stale}")
        };
        let basic = basic.then(|| format!("Basic realm=\"{realm}\""));
        digests.iter().map(digest).chain(basic).collect()
    }

    /// Checks a request: `authorization` is the value of its header, `password_of` knows the users.
    /// Gives the name of the user.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn check<'p>(
        &self,
        authorization: Option<&str>,
        method: &str,
        uri: &str,
        password_of: impl FnOnce(&str) -> Option<&'p str>,
    ) -> Result<String, Refused> {
        let text = authorization.map(str::trim).filter(|text| !text.is_empty());
        let text = text.ok_or(Refused::Missing)?;
        if let Some(token) = strip_scheme(text, "Basic").filter(|_| self.config.basic) {
            return check_basic(token.trim(), password_of);
        }
        strip_scheme(text, "Digest").ok_or(Refused::Malformed)?;
        let read = ChallengeParser::new(text).next();
        let header = read.and_then(Result::ok).ok_or(Refused::Malformed)?;
        self.check_digest(&header, method, uri, password_of)
    }

    fn check_digest<'p>(
        &self,
        header: &ChallengeRef<'_>,
        method: &str,
        request_uri: &str,
        password_of: impl FnOnce(&str) -> Option<&'p str>,
    ) -> Result<String, Refused> {
        let optional = |name| parameter(header, name);
        let required = |name| optional(name).ok_or(Refused::Malformed);
        let algorithm = match optional("algorithm") {
            Some(token) => DigestAlgorithm::from_token(&token).ok_or(Refused::Malformed)?,
            None => DigestAlgorithm::Md5,
        };
        if !self.config.digests.contains(&algorithm) {
            return Err(Refused::Malformed);
        }
        let (user, nonce) = (required("username")?, required("nonce")?);
        let (uri, answer) = (required("uri")?, required("response")?);
        let auth = match optional("qop") {
            Some(qop) if qop.eq_ignore_ascii_case("auth") => {
                Some((required("nc")?, required("cnonce")?))
            }
            Some(_) => return Err(Refused::Malformed),
            None => None,
        };
        let input = DigestInput {
            algorithm,
            realm: self.config.realm,
            nonce: &nonce,
            method,
            uri: &uri,
            auth: auth.as_ref().map(|(nc, cnonce)| (nc.as_str(), cnonce.as_str())),
        };
        let password = password_of(&user);
        // Computed for unknown users too.
        let expected = response(&input, &user, password.unwrap_or_default());
        let answer = answer.to_ascii_lowercase();
        let is_right = bool::from(expected.as_bytes().ct_eq(answer.as_bytes()));
        if !is_right || password.is_none() {
            return Err(Refused::Wrong);
        }
        if !is_same_target(&uri, request_uri) {
            return Err(Refused::OtherUrl);
        }
        if bool::from(nonce.as_bytes().ct_eq(self.nonce.as_bytes())) {
            Ok(user)
        } else {
            Err(Refused::Stale)
        }
    }
}

/// RFC 7617 s2: the first colon ends the name.
fn check_basic<'p>(
    token: &str,
    password_of: impl FnOnce(&str) -> Option<&'p str>,
) -> Result<String, Refused> {
    if token.len() > BASIC_BYTES_MAX {
        return Err(Refused::Malformed);
    }
    let bytes = STANDARD.decode(token).map_err(|_| Refused::Malformed)?;
    let text = String::from_utf8(bytes).map_err(|_| Refused::Malformed)?;
    let (user, given) = text.split_once(':').ok_or(Refused::Malformed)?;
    let password = password_of(user);
    // Hashes have one length, so not even that of the password is told.
    let hash = |text: &str| Sha256::digest(text);
    let is_same = bool::from(hash(password.unwrap_or_default()).ct_eq(&hash(given)));
    if is_same && password.is_some() { Ok(user.to_owned()) } else { Err(Refused::Wrong) }
}

/// Whether both name the same path, whatever host, track and slash they have.
fn is_same_target(a: &str, b: &str) -> bool {
    match (parse_target(a), parse_target(b)) {
        (Ok(a), Ok(b)) => a.path == b.path,
        _ => a == b,
    }
}

fn parameter(header: &ChallengeRef<'_>, name: &str) -> Option<String> {
    let found = header.params.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.to_unescaped())
}

fn strip_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let (name, rest) = text.split_once([' ', '\t'])?;
    name.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// Encoded name and password: longer than any of a person.
const BASIC_BYTES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use http_auth::{PasswordClient, PasswordParams};
    use proptest::prelude::*;

    use super::*;
    use crate::rtsp::auth::ClientAuth;
    use crate::rtsp::source_url::Credentials;

    const CONFIG: GuardConfig =
        GuardConfig { realm: "headend", digests: &[DigestAlgorithm::Md5], basic: true };
    const URI: &str = "rtsp://h:8554/live/cam1";

    fn password_of(user: &str) -> Option<&'static str> {
        (user == "ann").then_some("secret")
    }

    fn check(guard: &Guard, authorization: &str) -> Result<String, Refused> {
        guard.check(Some(authorization), "ANNOUNCE", URI, password_of)
    }

    fn answer(challenge: &str, user: &str, password: &str, uri: &str) -> String {
        let mut client = PasswordClient::try_from(challenge).unwrap();
        let body = None;
        let params = PasswordParams { username: user, password, uri, method: "ANNOUNCE", body };
        client.respond(&params).unwrap()
    }

    #[test]
    fn challenges_put_md5_first_and_basic_last() {
        let digests = &[DigestAlgorithm::Md5, DigestAlgorithm::Sha256];
        let guard = Guard::new(GuardConfig { digests, ..CONFIG }, 1);
        let expected = [
            "Digest realm=\"headend\", nonce=\"00000000000000000000000000000001\"",
            "Digest realm=\"headend\", nonce=\"00000000000000000000000000000001\", \
             qop=\"auth\", algorithm=SHA-256",
            "Basic realm=\"headend\"",
        ];
        assert_eq!(guard.challenges(Refused::Missing), expected);
        let stale = guard.challenges(Refused::Stale);
        assert!(stale.first().unwrap().ends_with(", stale=true"), "{stale:?}");
    }

    #[test]
    fn right_answers_are_let_in_by_every_kind() {
        let digests = &[DigestAlgorithm::Md5, DigestAlgorithm::Sha256];
        let guard = Guard::new(GuardConfig { digests, ..CONFIG }, 2);
        for challenge in guard.challenges(Refused::Missing) {
            let right = answer(&challenge, "ann", "secret", URI);
            assert_eq!(check(&guard, &right), Ok("ann".to_owned()), "{right}");
            let wrong = answer(&challenge, "ann", "Secret", URI);
            assert_eq!(check(&guard, &wrong), Err(Refused::Wrong), "{wrong}");
            let unknown = answer(&challenge, "bob", "", URI);
            assert_eq!(check(&guard, &unknown), Err(Refused::Wrong), "{unknown}");
        }
        // RFC 2617 with qop, as clients answer that choose it by themselves.
        let challenge = "Digest realm=\"headend\", qop=\"auth\", \
            nonce=\"00000000000000000000000000000002\"";
        assert!(check(&guard, &answer(challenge, "ann", "secret", URI)).is_ok());
    }

    #[test]
    fn answer_to_another_connection_is_stale_and_a_new_nonce_helps() {
        let (first, second) = (Guard::new(CONFIG, 3), Guard::new(CONFIG, 4));
        let challenge = first.challenges(Refused::Missing).swap_remove(0);
        let overheard = answer(&challenge, "ann", "secret", URI);
        assert_eq!(check(&second, &overheard), Err(Refused::Stale));
        let (user, password) = ("ann".to_owned(), "secret".to_owned());
        let mut client = ClientAuth::new(Credentials { user, password });
        client.handle_challenges(&first.challenges(Refused::Missing).join(", ")).unwrap();
        client.handle_success();
        client.handle_challenges(&second.challenges(Refused::Stale).join(", ")).unwrap();
        let renewed = client.authorize("ANNOUNCE", URI).unwrap();
        assert_eq!(check(&second, &renewed), Ok("ann".to_owned()));
    }

    #[test]
    fn digest_uri_may_differ_as_players_make_it_differ_but_not_name_another_path() {
        let guard = Guard::new(CONFIG, 5);
        let challenge = guard.challenges(Refused::Missing).swap_remove(0);
        let uris = ["rtsp://h:8554/live/cam1/", "/live/cam1", "rtsp://h/live/cam1/trackID=0"];
        for uri in uris {
            assert!(check(&guard, &answer(&challenge, "ann", "secret", uri)).is_ok(), "{uri}");
        }
        let other = answer(&challenge, "ann", "secret", "rtsp://h:8554/live/cam2");
        assert_eq!(check(&guard, &other), Err(Refused::OtherUrl));
    }

    #[test]
    fn what_is_not_offered_or_readable_is_malformed() {
        let guard = Guard::new(GuardConfig { basic: false, ..CONFIG }, 6);
        let none = guard.check(None, "ANNOUNCE", URI, password_of);
        assert_eq!(none, Err(Refused::Missing));
        assert_eq!(check(&guard, " "), Err(Refused::Missing));
        for text in [
            "Basic YW5uOnNlY3JldA==",
            "Digest",
            "Digest x",
            "Bearer abc",
            "Digest username=\"\u{e9}\u{e9}",
            "Digest username=\"a\", nonce=\"b\", uri=\"c\"",
            "Digest username=\"a\", nonce=\"b\", uri=\"c\", response=\"d\", qop=auth-int",
            "Digest username=\"a\", nonce=\"b\", uri=\"c\", response=\"d\", algorithm=SHA-256",
        ] {
            assert_eq!(check(&guard, text), Err(Refused::Malformed), "{text}");
        }
        let guard = Guard::new(CONFIG, 7);
        for text in ["Basic !", "Basic YW5u", "Basic /////w=="] {
            assert_eq!(check(&guard, text), Err(Refused::Malformed), "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_headers_never_panic_and_are_never_let_in(
            text in "(Digest |Basic )?((username|nonce|uri|response|qop|nc)=\"?|,|\\PC){0,40}",
        ) {
            prop_assert!(check(&Guard::new(CONFIG, 8), &text).is_err());
        }

        #[test]
        fn any_name_and_password_are_understood_as_http_auth_sends_them(
            user in "[ -!#-~]{1,20}", password in "\\PC{0,20}", nonce: u128,
        ) {
            prop_assume!(!user.contains(['\\', ':']));
            let guard = Guard::new(CONFIG, nonce);
            for challenge in guard.challenges(Refused::Missing) {
                let sent = answer(&challenge, &user, &password, URI);
                let known = |name: &str| (name == user).then_some(password.as_str());
                let checked = guard.check(Some(&sent), "ANNOUNCE", URI, known);
                prop_assert_eq!(checked, Ok(user.clone()), "{}", sent);
            }
        }
    }
}

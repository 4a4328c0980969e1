//! Challenges, and checks of the answers to them.
//!
//! ```text
//! request without Authorization -> Missing -> 401 + challenges
//! Digest with the connection's nonce, right answer -> fine
//!        with another nonce,          right answer -> Stale -> 401 + challenges, stale=true
//! ```
//! A guard belongs to one connection and has a random nonce of its own. So an answer that was
//! overheard is of no use on another connection, and nothing has to be remembered or expired: a
//! nonce lives as long as its connection.
//! Digest URIs are compared loosely: players sign the base URL, one without its slash, or the path
//! alone (client rules C17, C27).
//! Invariant: passwords and answers are compared in constant time, and an unknown user takes the
//! time of a known one.
#![deny(clippy::indexing_slicing)]

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use super::digest::{DigestAlgorithm, DigestInput, hex, response};
use super::shown::{DigestAnswer, Shown};
use crate::rtsp::uri::parse_target;

/// What is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardConfig {
    /// Shown to people.
    pub realm: &'static str,
    /// In this order; MD5 last, or FFmpeg gives up (client rule C11).
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

    /// A guard that goes on with a nonce that its client was told.
    #[must_use]
    pub fn with_nonce(config: GuardConfig, nonce: String) -> Self {
        Self { config, nonce }
    }

    /// The nonce that its client was told, or will be.
    #[must_use]
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Offers something else from now on, with the same nonce.
    pub fn offer(&mut self, config: GuardConfig) {
        self.config = config;
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

    /// Checks a request of whoever has a password that is known: `password_of` knows the users.
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
        let realm = self.config.realm;
        match Shown::read(authorization)? {
            Shown::Nothing => Err(Refused::Missing),
            Shown::Basic { user, password } if self.config.basic => {
                let known = password_of(&user);
                // Hashes have one length, so not even that of the password is told.
                let hash = |text: &str| Sha256::digest(text);
                let given = hash(password.expose());
                let is_same = bool::from(hash(known.unwrap_or_default()).ct_eq(&given));
                if is_same && known.is_some() { Ok(user) } else { Err(Refused::Wrong) }
            }
            Shown::Digest(answer) => {
                let ha1 = |user: &str, algorithm: DigestAlgorithm| {
                    Some(algorithm.ha1(user, realm, password_of(user)?))
                };
                self.check_digest(&answer, method, uri, ha1)?;
                Ok(answer.user)
            }
            Shown::Basic { .. } | Shown::Bearer(_) => Err(Refused::Malformed),
        }
    }

    /// Checks an answer to a challenge of Digest: `ha1_of` knows the users.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn check_digest(
        &self,
        answer: &DigestAnswer,
        method: &str,
        request_uri: &str,
        ha1_of: impl FnOnce(&str, DigestAlgorithm) -> Option<String>,
    ) -> Result<(), Refused> {
        let DigestAnswer { algorithm, user, nonce, uri, response: given, auth } = answer;
        if !self.config.digests.contains(algorithm) {
            return Err(Refused::Malformed);
        }
        let input = DigestInput {
            algorithm: *algorithm,
            nonce,
            method,
            uri,
            auth: auth.as_ref().map(|(nc, cnonce)| (nc.as_str(), cnonce.as_str())),
        };
        let ha1 = ha1_of(user, *algorithm);
        // Computed for unknown users too.
        let expected = response(&input, ha1.as_deref().unwrap_or_default());
        let given = given.to_ascii_lowercase();
        let is_right = bool::from(expected.as_bytes().ct_eq(given.as_bytes()));
        if !is_right || ha1.is_none() {
            return Err(Refused::Wrong);
        }
        if !is_same_target(uri, request_uri) {
            return Err(Refused::OtherUrl);
        }
        if bool::from(nonce.as_bytes().ct_eq(self.nonce.as_bytes())) {
            Ok(())
        } else {
            Err(Refused::Stale)
        }
    }
}

/// Whether both name the same path, whatever host, track and slash they have.
fn is_same_target(a: &str, b: &str) -> bool {
    match (parse_target(a), parse_target(b)) {
        (Ok(a), Ok(b)) => a.path == b.path,
        _ => a == b,
    }
}

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

//! Answers the challenges of servers that we pull from: Basic (RFC 7617) and Digest (RFC 7616).
//!
//! ```text
//! 401 -> ClientAuth::handle_challenges -> authorize -> Authorization
//! ```
//! The arithmetic and the grammar are the `http-auth` crate's. The other side, ours as a server, is
//! `access::guard`.
//! Invariant: `Debug` shows no password.
//!
//! A challenge is kept for the connection: Digest goes on with the same nonce, Basic with the same
//! words. A 401 to an answer means wrong credentials, unless the server calls the nonce stale or
//! gives another one.
#![deny(clippy::indexing_slicing)]

use std::fmt;

use http_auth::{PasswordClient, PasswordParams};

use crate::rtsp::source_url::Credentials;

/// Credentials of a client, with the newest challenge.
pub struct ClientAuth {
    credentials: Credentials,
    client: Option<PasswordClient>,
    /// Answers refused in a row.
    refused_count: u8,
}

/// Why a challenge cannot be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientAuthError {
    /// 401 without a challenge that we can answer.
    #[error("no challenge by Basic or Digest")]
    Unsupported,
    /// The server has refused our answer.
    #[error("user name or password is wrong")]
    WrongCredentials,
}

impl ClientAuth {
    /// Before the first request, which goes without `Authorization`.
    #[must_use]
    pub fn new(credentials: Credentials) -> Self {
        Self { credentials, client: None, refused_count: 0 }
    }

    /// Takes the `WWW-Authenticate` of a 401 (several are joined by commas); the request is to be
    /// sent again when it is `Ok`. Digest is preferred, by the first algorithm that we know.
    ///
    /// # Errors
    /// See [`ClientAuthError`].
    pub fn handle_challenges(&mut self, challenges: &str) -> Result<(), ClientAuthError> {
        let client =
            PasswordClient::try_from(challenges).map_err(|_| ClientAuthError::Unsupported)?;
        let is_final = match (&self.client, &client) {
            (None, _) => false,
            // Nonces of one request are known: they get a few tries, not an endless circle.
            (Some(PasswordClient::Digest(old)), PasswordClient::Digest(new)) => {
                !new.stale() && (old.nonce() == new.nonce() || self.refused_count > 0)
                    || self.refused_count >= REFUSED_MAX
            }
            (Some(_), _) => true,
        };
        if is_final {
            return Err(ClientAuthError::WrongCredentials);
        }
        if self.client.is_some() {
            self.refused_count += 1;
        }
        self.client = Some(client);
        Ok(())
    }

    /// A request went through: the next 401 is about a nonce that is too old.
    pub fn handle_success(&mut self) {
        self.refused_count = 0;
    }

    /// `Authorization` for the next request; `None` before a challenge.
    pub fn authorize(&mut self, method: &str, url: &str) -> Option<String> {
        let parameters = PasswordParams {
            username: &self.credentials.user,
            password: &self.credentials.password,
            uri: url,
            method,
            // RFC 2069 and `auth` do without; no camera asks for `auth-int` alone.
            body: None,
        };
        self.client.as_mut()?.respond(&parameters).ok()
    }
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAuth").field("user", &self.credentials.user).finish_non_exhaustive()
    }
}

/// Nonces that are refused as stale in a row, at most.
const REFUSED_MAX: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn auth() -> ClientAuth {
        let (user, password) = ("admin".to_owned(), "secret".to_owned());
        ClientAuth::new(Credentials { user, password })
    }

    #[test]
    fn basic_is_answered_and_a_second_challenge_means_wrong() {
        let mut auth = auth();
        assert_eq!(auth.authorize("DESCRIBE", "rtsp://h/a"), None);
        auth.handle_challenges("Basic realm=\"cam\"").unwrap();
        let answer = auth.authorize("DESCRIBE", "rtsp://h/a");
        assert_eq!(answer.as_deref(), Some("Basic YWRtaW46c2VjcmV0"));
        let error = auth.handle_challenges("Basic realm=\"cam\"").unwrap_err();
        assert_eq!(error, ClientAuthError::WrongCredentials);
    }

    //= test RFC 2617 s3.2.2.1: without qop the answer is that of RFC 2069
    #[test]
    fn digest_of_a_camera_without_qop_is_answered() {
        let mut auth = auth();
        auth.handle_challenges("Basic realm=\"b\", Digest realm=\"cam\", nonce=\"abc\"").unwrap();
        let answer = auth.authorize("DESCRIBE", "rtsp://h/a").unwrap();
        // MD5(MD5(admin:cam:secret):abc:MD5(DESCRIBE:rtsp://h/a))
        assert!(answer.contains("response=\"f7fb0b1facf231db4ef5b1401cc5b75b\""), "{answer}");
        assert!(!answer.contains("cnonce") && !answer.contains("qop"), "{answer}");
    }

    #[test]
    fn stale_nonce_is_replaced_but_not_without_end() {
        let mut auth = auth();
        auth.handle_challenges("Digest realm=\"c\", nonce=\"1\"").unwrap();
        auth.handle_success();
        auth.handle_challenges("Digest realm=\"c\", nonce=\"2\"").unwrap();
        let again = auth.handle_challenges("Digest realm=\"c\", nonce=\"3\"");
        assert_eq!(again, Err(ClientAuthError::WrongCredentials), "a new nonce did not help");
        auth.handle_success();
        let stale = "Digest realm=\"c\", nonce=\"4\", stale=TRUE";
        let tries = (0..10).take_while(|_| auth.handle_challenges(stale).is_ok()).count();
        assert_eq!(tries, usize::from(REFUSED_MAX));
    }

    #[test]
    fn unknown_schemes_are_refused_and_nothing_shows_the_password() {
        let mut auth = auth();
        for challenges in ["", "Negotiate", "Digest realm=\"a\"", "Digest \u{e9}=1"] {
            let error = auth.handle_challenges(challenges).unwrap_err();
            assert_eq!(error, ClientAuthError::Unsupported, "{challenges}");
        }
        assert!(!format!("{auth:?}").contains("secret"));
    }
}

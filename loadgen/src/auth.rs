//! Answers to 401: Basic and Digest with the user and password of the URL.
//!
//! ```text
//! rtsp://user:password@host/path --> Login, and rtsp://host/path on the wire
//! 401 + WWW-Authenticate --handle_challenge--> authorization(method, uri) on every request
//! ```
//! RFC 2326 D.1.2, RFC 7616, RFC 7617; the schemes are `http_auth`'s business. Without a challenge
//! nothing is told to the server.
//! Invariant: the password is in no log, report or error.
//! Bound: [`CHALLENGES_MAX`] refusals in a row; a wrong password is not tried for ever.

use http_auth::{PasswordClient, PasswordParams};
use rtsp_types::Url;
use std::fmt;

/// Challenges answered without a success between them: the first, and one of a stale nonce.
pub const CHALLENGES_MAX: u8 = 2;

/// User, password, and what the server wants to see of them.
pub struct Login {
    user: String,
    password: String,
    client: Option<PasswordClient>,
    refusals: u8,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Login {
    /// Takes user and password out of `url`; `None` when it has none.
    pub fn take_from(url: &mut Url) -> Option<Self> {
        let decoded = |text: &str| {
            percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
        };
        let user = decoded(url.username());
        let password = url.password().map(decoded);
        if user.is_empty() && password.is_none() {
            return None;
        }
        // Only URLs without a host refuse, and those are no rtsp:// URLs with a user.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        Some(Self { user, password: password.unwrap_or_default(), client: None, refusals: 0 })
    }

    /// The reverse of [`Login::take_from`].
    pub fn give_to(&self, url: &mut Url) {
        let _ = url.set_username(&self.user).and_then(|()| url.set_password(Some(&self.password)));
    }

    /// The server has refused a request with these `WWW-Authenticate` values. False: it makes no
    /// sense to ask again.
    pub fn handle_challenge(&mut self, challenges: &str) -> bool {
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals > CHALLENGES_MAX {
            return false;
        }
        self.client = PasswordClient::builder().challenges(challenges).build().ok();
        self.client.is_some()
    }

    /// A request was accepted.
    pub const fn handle_accepted(&mut self) {
        self.refusals = 0;
    }

    /// The `Authorization` of a request, once the server has asked for one.
    pub fn authorization(&mut self, method: &str, uri: &str) -> Option<String> {
        let (username, password) = (self.user.as_str(), self.password.as_str());
        let parameters = PasswordParams { username, password, uri, method, body: Some(&[]) };
        self.client.as_mut()?.respond(&parameters).ok()
    }
}

/// `text` with the user and password of every URL in it taken out, for reports.
#[must_use]
pub fn redacted(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let host_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(host_end);
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}{path}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> (Login, Url) {
        let mut url = Url::parse("rtsp://us%40er:pa%3Ass@h:8554/a?b=1").expect("url");
        (Login::take_from(&mut url).expect("login"), url)
    }

    #[test]
    fn user_and_password_leave_the_url() {
        let (login, url) = login();
        assert_eq!(url.as_str(), "rtsp://h:8554/a?b=1");
        assert_eq!((login.user.as_str(), login.password.as_str()), ("us@er", "pa:ss"));
        let mut again = url;
        login.give_to(&mut again);
        assert_eq!(again.as_str(), "rtsp://us%40er:pa%3Ass@h:8554/a?b=1");
        let mut plain = Url::parse("rtsp://h/a").expect("url");
        assert!(Login::take_from(&mut plain).is_none());
        assert_eq!(redacted("rtsp://u:p@h/a@b"), "rtsp://***@h/a@b");
        assert_eq!(redacted("rtsp://h/a@b=3"), "rtsp://h/a@b=3");
        assert_eq!(redacted("--json"), "--json");
    }

    #[test]
    fn nothing_is_told_before_the_server_asks() {
        assert_eq!(login().0.authorization("OPTIONS", "rtsp://h/a"), None);
    }

    #[test]
    fn basic_challenge_is_answered_with_user_and_password() {
        let mut login = login().0;
        assert!(login.handle_challenge("Basic realm=\"x\""));
        let sent = login.authorization("DESCRIBE", "rtsp://h/a");
        assert_eq!(sent.as_deref(), Some("Basic dXNAZXI6cGE6c3M="));
    }

    #[test]
    fn digest_is_preferred_and_covers_method_and_uri() {
        // RFC 2617 s3.5 by hand: MD5(MD5(us@er:x:pa:ss):n:MD5(DESCRIBE:rtsp://h/a)).
        let mut login = login().0;
        assert!(login.handle_challenge("Basic realm=\"x\", Digest realm=\"x\", nonce=\"n\""));
        let sent = login.authorization("DESCRIBE", "rtsp://h/a").expect("answer");
        assert!(sent.starts_with("Digest "), "{sent}");
        assert!(sent.contains("uri=\"rtsp://h/a\""), "{sent}");
        assert_ne!(Some(sent), login.authorization("SETUP", "rtsp://h/a"));
    }

    #[test]
    fn wrong_password_is_given_up() {
        let mut login = login().0;
        assert!(login.handle_challenge("Basic realm=\"x\""));
        login.handle_accepted();
        assert!(login.handle_challenge("Basic realm=\"x\""));
        assert!(login.handle_challenge("Basic realm=\"x\""));
        assert!(!login.handle_challenge("Basic realm=\"x\""));
        assert!(!self::login().0.handle_challenge("Kerberos"));
    }
}

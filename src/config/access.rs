//! What can be checked of who a client is: users, tokens, a webhook.
//!
//! ```text
//!  [user."ann"]            [auth]
//!  password = "$argon2.."  jwks = "/etc/headend/keys.json"     on_read = "http://127.0.0.1:9000/r"
//! ```
//! Which of them a path asks for is said by its lists (`access_list`). All of it is taken over when
//! the file is read again.
//! Invariant: no secret is shown: [`User`] has them as [`Secret`], and `config show` leaves them
//! out. Bounds: `USERS_MAX`; the cost of a password hash, see [`User::check_hash`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use regex::RegexBuilder;

use super::access_list::Known;
use super::section::PATTERN;
use super::value_error::ValueError;
use crate::base::secret::Secret;

/// What a client wants to do with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// To be described and sent it.
    Read,
    /// To feed it.
    Publish,
    /// To steer a session of it: pause, seek, change the rate or the channel.
    Control,
}

/// All that can be checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessConfig {
    /// Users by name.
    pub users: BTreeMap<Arc<str>, User>,
    /// Tokens and webhook.
    pub auth: AuthConfig,
}

/// `[auth]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthConfig {
    /// Which challenges are sent where users are asked for.
    pub methods: Methods,
    /// File or URL of the keys that tokens are signed with.
    pub jwks: Option<JwksSource>,
    /// Claim with the permissions.
    pub jwt_claim: String,
    /// `iss` that a token must have.
    pub jwt_issuer: Option<String>,
    /// `aud` that a token must have.
    pub jwt_audience: Option<String>,
    /// URL that is asked before a client reads.
    pub on_read: Option<HookUrl>,
    /// URL that is asked before a client publishes.
    pub on_publish: Option<HookUrl>,
    /// How long an answer is waited for.
    pub webhook_timeout: Duration,
    /// How long an answer counts for the same question.
    pub webhook_cache: Duration,
    /// What is done when none comes.
    pub webhook_failure: OnFailure,
}

/// Challenges of a 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Methods {
    /// Digest where every user can answer it, and Basic.
    Auto,
    /// Basic alone.
    Basic,
    /// Digest alone.
    Digest,
}

/// What is done with a client when the webhook does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// It is refused with 503.
    Deny,
    /// It is let in.
    Allow,
}

/// A user of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// Argon2 hash in PHC form: what a password of Basic is compared with.
    pub password: Option<Secret>,
    /// MD5 of `name:headend:password`, in lower-case hexadecimal digits: what Digest needs.
    pub digest_md5: Option<Secret>,
    /// The same by SHA-256.
    pub digest_sha256: Option<Secret>,
}

/// Where keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksSource {
    /// A file of this host.
    File(String),
    /// Fetched by HTTP.
    Url(HookUrl),
}

/// An http or https URL. User, password and query are not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookUrl(Secret);

impl Action {
    /// As tokens and webhooks spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Publish => "publish",
            Self::Control => "control",
        }
    }
}

impl AccessConfig {
    /// What can be checked for an action.
    #[must_use]
    pub fn known(&self, action: Action) -> Known {
        Known {
            users: !self.users.is_empty(),
            jwt: self.auth.jwks.is_some(),
            webhook: self.auth.hook(action).is_some(),
        }
    }

    /// Whether every user can answer Digest. A player that sees it answers with it, so it is no
    /// use to offer it where one of them cannot.
    #[must_use]
    pub fn has_digest(&self) -> bool {
        let can = |user: &User| user.digest_md5.is_some() && user.digest_sha256.is_some();
        !self.users.is_empty() && self.users.values().all(can)
    }

    /// Users that can answer Digest while others cannot.
    #[must_use]
    pub fn is_mixed(&self) -> bool {
        !self.has_digest() && self.users.values().any(|user| user.digest_md5.is_some())
    }
}

impl AuthConfig {
    /// The webhook for an action. Who may control is decided by the path's list alone.
    #[must_use]
    pub fn hook(&self, action: Action) -> Option<&HookUrl> {
        match action {
            Action::Read => self.on_read.as_ref(),
            Action::Publish => self.on_publish.as_ref(),
            Action::Control => None,
        }
    }
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            methods: Methods::Auto,
            jwks: None,
            jwt_claim: "headend_permissions".to_owned(),
            jwt_issuer: None,
            jwt_audience: None,
            on_read: None,
            on_publish: None,
            webhook_timeout: Duration::from_secs(5),
            webhook_cache: Duration::from_secs(10),
            webhook_failure: OnFailure::Deny,
        }
    }
}

impl User {
    /// Checks that a text is an Argon2 hash whose making costs no more than 256 MiB and 16 passes:
    /// a mistake in the file must not cost the server its memory.
    ///
    /// # Errors
    /// It is none, or one that costs more.
    pub fn check_hash(text: &str) -> Result<(), ValueError> {
        let mut parts = text.split('$');
        let is_begin = parts.next() == Some("");
        let is_kind = parts.next().is_some_and(|kind| KINDS.contains(&kind));
        let is_version = parts.next() == Some("v=19");
        let costs = parts.next().and_then(costs);
        let rest: Vec<&str> = parts.collect();
        let is_whole = rest.len() == 2 && rest.iter().all(|part| (4..=128).contains(&part.len()));
        match costs {
            Some(costs) if is_begin && is_kind && is_version && is_whole => {
                let most = (MEMORY_KIB_MAX, PASSES_MAX, LANES_MAX);
                let is_cheap = costs.0 <= most.0 && costs.1 <= most.1 && costs.2 <= most.2;
                if is_cheap { Ok(()) } else { Err(ValueError::PasswordCost) }
            }
            _ => Err(ValueError::PasswordHash),
        }
    }

    /// Checks the digits of a hash of Digest.
    ///
    /// # Errors
    /// They are not as many as `bytes` have, or not all of them are lower-case digits.
    pub fn check_digest(text: &str, bytes: usize) -> Result<(), ValueError> {
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let is_whole = text.len() == bytes * 2 && text.bytes().all(is_digit);
        if is_whole { Ok(()) } else { Err(ValueError::DigestHash { digits: bytes * 2 }) }
    }
}

/// Memory in KiB, passes, lanes of `m=19456,t=2,p=1`.
fn costs(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.split(',');
    let mut next = |name: &str| parts.next()?.strip_prefix(name)?.parse::<u32>().ok();
    let found = (next("m=")?, next("t=")?, next("p=")?);
    parts.next().is_none().then_some(found)
}

/// Whether a user may have this name: it stands in headers, in lists and in logs.
#[must_use]
pub fn is_user_name(name: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_graphic() && !b":,\"\\@".contains(&b);
    (1..=USER_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_part)
}

/// Whether a token's path is this one: all for an empty one, a regular expression behind `~`, or
/// its name.
#[must_use]
pub fn is_path_of(pattern: &str, path: &str) -> bool {
    match pattern.strip_prefix(PATTERN) {
        Some(text) => {
            let built = RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
            built.is_ok_and(|regex| regex.is_match(path))
        }
        None => pattern.is_empty() || pattern == path,
    }
}

impl HookUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// It is not an http or https URL with a host.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let is_url = rest.is_some_and(|rest| {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            !host.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic())
        });
        if !is_url || text.len() > URL_BYTES_MAX {
            return Err(ValueError::HookUrl { text: crate::base::secrets::shown_url(text) });
        }
        Ok(Self(Secret::new(text)))
    }

    /// The whole URL, for whoever connects.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// Without user, password and secret values.
impl std::fmt::Display for HookUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::base::secrets::shown_url(self.expose()))
    }
}

impl JwksSource {
    /// Reads a URL, or the name of a file.
    ///
    /// # Errors
    /// A URL that is none.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        if text.contains("://") {
            HookUrl::parse(text).map(Self::Url)
        } else {
            Ok(Self::File(text.to_owned()))
        }
    }
}

impl std::fmt::Display for JwksSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(file) => f.write_str(file),
            Self::Url(url) => write!(f, "{url}"),
        }
    }
}

/// What Digest hashes are made for, and what players show to people. It is part of the hashes, so
/// it is the same everywhere and for ever.
pub const REALM: &str = "headend";

/// Users at most: each is a section of the file.
pub(super) const USERS_MAX: usize = 10_000;
const USER_NAME_BYTES_MAX: usize = 64;
const URL_BYTES_MAX: usize = 2_048;
/// Memory of a token's pattern.
const PATTERN_BYTES_MAX: usize = 1 << 16;
const KINDS: [&str; 3] = ["argon2id", "argon2i", "argon2d"];
const MEMORY_KIB_MAX: u32 = 256 << 10;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_argon2_and_costs_what_a_server_can_pay() {
        let hash = |costs: &str| format!("$argon2id$v=19${costs}$c29tZXNhbHQ$aGFzaGhhc2g");
        assert_eq!(User::check_hash(&hash("m=19456,t=2,p=1")), Ok(()));
        for costly in ["m=4194304,t=2,p=1", "m=8,t=17,p=1", "m=8,t=1,p=17"] {
            assert_eq!(User::check_hash(&hash(costly)), Err(ValueError::PasswordCost), "{costly}");
        }
        let whole = hash("m=19456,t=2,p=1");
        for end in 0..whole.len() {
            let cut = &whole[..end];
            let is_short_hash = cut.matches('$').count() == 5 && !cut.ends_with('$');
            assert!(is_short_hash || User::check_hash(cut).is_err(), "{cut}");
        }
        for none in ["hunter2", "$2y$10$abcdefghijk", "$argon2id$v=16$m=8,t=1,p=1$c29t$aGFz", ""] {
            assert_eq!(User::check_hash(none), Err(ValueError::PasswordHash), "{none}");
        }
    }

    #[test]
    fn names_of_users_fit_into_headers_and_lists() {
        for good in ["ann", "cam-1", "a.b_c", &"x".repeat(64)] {
            assert!(is_user_name(good), "{good}");
        }
        for bad in ["", "a b", "a:b", "a,b", "a@b", "a\"b", "a\\b", "\u{e9}", &"x".repeat(65)] {
            assert!(!is_user_name(bad), "{bad}");
        }
    }

    #[test]
    fn urls_are_http_and_show_no_secrets() {
        let url = HookUrl::parse("https://me:s3cret@host/a?token=s3cret&b=1").unwrap();
        assert_eq!(url.to_string(), "https://host/a?token=...&b=1");
        assert!(!format!("{url:?}").contains("s3cret"));
        for bad in ["ftp://h/", "http://", "host", "http://h/ b", "https:///x"] {
            assert!(HookUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn path_of_a_token_is_a_name_a_pattern_or_any() {
        for (pattern, path, expected) in [
            ("", "live/a", true),
            ("live/a", "live/a", true),
            ("live/a", "live/ab", false),
            ("~^live/", "live/a", true),
            ("~^live/$", "live/a", false),
            ("~(a{1000}){1000}", "a", false),
        ] {
            assert_eq!(is_path_of(pattern, path), expected, "{pattern}");
        }
    }

    #[test]
    fn digest_is_offered_where_every_user_can_answer() {
        let user = |has_digest: bool| User {
            digest_md5: has_digest.then(|| Secret::new("a")),
            digest_sha256: has_digest.then(|| Secret::new("b")),
            ..User::default()
        };
        let config = |users: &[bool]| {
            let users = users.iter().zip('a'..).map(|(has, name)| {
                let name: Arc<str> = name.to_string().into();
                (name, user(*has))
            });
            AccessConfig { users: users.collect(), ..AccessConfig::default() }
        };
        for (users, has, mixed) in [
            (&[][..], false, false),
            (&[true], true, false),
            (&[true, true], true, false),
            (&[true, false], false, true),
            (&[false], false, false),
        ] {
            let config = config(users);
            assert_eq!((config.has_digest(), config.is_mixed()), (has, mixed), "{users:?}");
        }
    }
}

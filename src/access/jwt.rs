//! Tokens (JWT, RFC 7519) that say what their bearer may do, signed by keys of a set (RFC 7517).
//!
//! ```text
//! {"sub": "ann", "exp": 1798758000, "headend_permissions": [
//!     {"action": "read", "path": "live/cam1"},      one path
//!     {"action": "read", "path": "~^vod/"},         a regular expression
//!     {"action": "publish"}                         any path
//! ]}
//! ```
//! The claim has the form of MediaMTX's `mediamtx_permissions`; `auth.jwt_claim` names it. A token
//! without `exp` does not count: it could never be taken back. `exp` and `nbf` are compared with a
//! clock that may be `LEEWAY_S` wrong.
//! Invariants: the algorithm is one of the key's own kind, whatever the token says; `none` is no
//! algorithm. Bounds: `TOKEN_BYTES_MAX`, `KEYS_MAX`, `PERMISSIONS_MAX`.
#![deny(clippy::indexing_slicing)]

use std::fmt;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::question::{Allowed, NODE_PREFIX};
use crate::config::access::{Action, AuthConfig, is_path_of};

/// Keys that tokens may be signed with.
#[derive(Clone)]
pub struct Keys(Vec<Key>);

#[derive(Clone)]
struct Key {
    id: Option<String>,
    algorithms: &'static [Algorithm],
    key: DecodingKey,
}

/// Why there are no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// Not a set of keys.
    #[error("it is no set of keys (JWKS): {why}")]
    NotASet {
        /// What the parser says.
        why: String,
    },
    /// More than can be of use.
    #[error("it has {found} keys, more than {KEYS_MAX}")]
    TooMany {
        /// How many there are.
        found: usize,
    },
    /// None that can check a signature.
    #[error("it has no key that a token could be signed with")]
    Empty,
}

/// Why a token does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Not a token, or one without what it must have.
    #[error("it is no token that can be read")]
    Malformed,
    /// Its key is not in the set: there may be a newer one.
    #[error("its key is not known")]
    UnknownKey,
    /// None of the keys has signed it.
    #[error("its signature is wrong")]
    Signature,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Its time has not come.
    #[error("it is not valid yet")]
    NotYet,
    /// It is for others, or of others.
    #[error("its issuer or audience is another one")]
    OtherParty,
    /// Its subject would be shown as a node of a job.
    #[error("its subject begins with {NODE_PREFIX:?}, as names of nodes do")]
    Subject,
    /// It is right, and does not allow this.
    #[error("it does not allow this")]
    NotAllowed,
}

#[derive(Debug, Deserialize)]
struct Permission {
    action: String,
    #[serde(default)]
    path: String,
}

impl Keys {
    /// Reads a set. Keys that are of no use here, such as those for encryption, are left out.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn read(json: &[u8]) -> Result<Self, KeysError> {
        // One by one: a key of an unknown kind must not take the others with it.
        let not_a_set = |why: serde_json::Error| KeysError::NotASet { why: why.to_string() };
        let set: Value = serde_json::from_slice(json).map_err(not_a_set)?;
        let Some(all) = set.get("keys").and_then(Value::as_array) else {
            return Err(KeysError::NotASet { why: "`keys` is no list".to_owned() });
        };
        if all.len() > KEYS_MAX {
            return Err(KeysError::TooMany { found: all.len() });
        }
        let keys =
            all.iter().filter_map(|key| Key::read(serde_json::from_value(key.clone()).ok()?));
        let keys: Vec<Key> = keys.collect();
        if keys.is_empty() { Err(KeysError::Empty) } else { Ok(Self(keys)) }
    }

    /// Checks a token, and whether it allows an action.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn check(
        &self,
        token: &str,
        auth: &AuthConfig,
        (action, path): (Action, &str),
        now_s: i64,
    ) -> Result<Allowed, TokenError> {
        let claims = self.verified(token)?;
        let number = |name: &str| claims.get(name).map(|value| value.as_f64());
        let end_s = number("exp").flatten().ok_or(TokenError::Malformed)?;
        let start_s = number("nbf").map(|value| value.ok_or(TokenError::Malformed)).transpose()?;
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are exact in f64")]
        let now = now_s as f64;
        if end_s + LEEWAY_S <= now {
            return Err(TokenError::Expired);
        }
        if start_s.is_some_and(|start_s| now + LEEWAY_S < start_s) {
            return Err(TokenError::NotYet);
        }
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let is_issuer = |issuer: &String| text("iss") == Some(issuer);
        let is_audience = |audience: &String| match claims.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(audience)),
            _ => false,
        };
        if !auth.jwt_issuer.as_ref().is_none_or(is_issuer)
            || !auth.jwt_audience.as_ref().is_none_or(is_audience)
        {
            return Err(TokenError::OtherParty);
        }
        let permissions = permissions(claims.get(&auth.jwt_claim))?;
        let allows = |permission: &Permission| {
            permission.action == action.as_str() && is_path_of(&permission.path, path)
        };
        if !permissions.iter().take(PERMISSIONS_MAX).any(allows) {
            return Err(TokenError::NotAllowed);
        }
        #[expect(clippy::cast_possible_truncation, reason = "`as` saturates")]
        let until_s = Some((end_s + LEEWAY_S) as i64);
        let user = text("sub").filter(|sub| !sub.is_empty());
        if user.is_some_and(|user| user.starts_with(NODE_PREFIX)) {
            return Err(TokenError::Subject);
        }
        let user = user.map(Into::into);
        Ok(Allowed { user, until_s, ..Allowed::default() })
    }

    /// The claims of a token that one of the keys has signed.
    fn verified(&self, token: &str) -> Result<Map<String, Value>, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let header = decode_header(token).map_err(|_| TokenError::Malformed)?;
        let is_named =
            |key: &&Key| header.kid.is_none() || key.id.is_none() || key.id == header.kid;
        let mut named = self.0.iter().filter(is_named).peekable();
        if named.peek().is_none() {
            return Err(TokenError::UnknownKey);
        }
        for key in named.filter(|key| key.algorithms.contains(&header.alg)) {
            let mut validation = Validation::new(header.alg);
            // Times, issuer and audience are compared by `check`, with a clock that is given.
            validation.validate_exp = false;
            validation.validate_nbf = false;
            validation.validate_aud = false;
            validation.required_spec_claims.clear();
            if let Ok(token) = decode::<Map<String, Value>>(token, &key.key, &validation) {
                return Ok(token.claims);
            }
        }
        Err(TokenError::Signature)
    }
}

impl Key {
    fn read(jwk: Jwk) -> Option<Self> {
        use Algorithm::{
            ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512,
        };
        let algorithms: &[Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => &[RS256, RS384, RS512, PS256, PS384, PS512],
            AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
                EllipticCurve::P256 => &[ES256],
                EllipticCurve::P384 => &[ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(_) => &[EdDSA],
            AlgorithmParameters::OctetKey(_) => &[HS256, HS384, HS512],
            _ => return None,
        };
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { id: jwk.common.key_id, algorithms, key })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.id)).finish()
    }
}

/// Whether a password looks like a token: three parts of base64url.
#[must_use]
pub fn is_token_like(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    text.split('.').count() == 3 && text.split('.').all(is_part)
}

/// The permissions of a claim: a list, or the text of one, as some issuers can only say it.
fn permissions(claim: Option<&Value>) -> Result<Vec<Permission>, TokenError> {
    let wrong = |_: serde_json::Error| TokenError::Malformed;
    match claim {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => serde_json::from_str(text).map_err(wrong),
        Some(list) => serde_json::from_value(list.clone()).map_err(wrong),
    }
}

/// What clocks of issuers and servers may differ by.
const LEEWAY_S: f64 = 5.0;
/// Some hundred permissions.
const TOKEN_BYTES_MAX: usize = 8_192;
/// A key for each year that an issuer is there.
const KEYS_MAX: usize = 64;
const PERMISSIONS_MAX: usize = 256;

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test that indexes wrongly has failed")]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;
    const SECRET: &[u8] = b"a secret of thirty-two bytes ...";

    fn keys() -> Keys {
        let secret = URL_SAFE_NO_PAD.encode(SECRET);
        let set = json!({ "keys": [
            { "kty": "oct", "kid": "one", "alg": "HS256", "k": secret },
            { "kty": "of another time", "kid": "two" },
        ] });
        Keys::read(set.to_string().as_bytes()).unwrap()
    }

    fn signed(kid: Option<&str>, claims: &Value) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::HS256) };
        encode(&header, claims, &EncodingKey::from_secret(SECRET).unwrap()).unwrap()
    }

    fn check(claims: &Value) -> Result<Allowed, TokenError> {
        let token = signed(Some("one"), claims);
        keys().check(&token, &AuthConfig::default(), (Action::Read, "live/a"), NOW)
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = json!({
            "sub": "ann", "exp": NOW + 60, "headend_permissions": [{ "action": "read" }],
        });
        claims[name] = value;
        claims
    }

    #[test]
    fn token_counts_for_its_time() {
        let allowed = check(&with("x", json!(1))).unwrap();
        assert_eq!((allowed.user.as_deref(), allowed.until_s), (Some("ann"), Some(NOW + 65)));
        for (name, value, expected) in [
            ("exp", json!(NOW - 4), Ok(())),
            ("exp", json!(NOW - 5), Err(TokenError::Expired)),
            ("exp", json!(0), Err(TokenError::Expired)),
            ("exp", json!(-1), Err(TokenError::Expired)),
            ("exp", json!(1e300), Ok(())),
            ("exp", json!("soon"), Err(TokenError::Malformed)),
            ("exp", Value::Null, Err(TokenError::Malformed)),
            ("nbf", json!(NOW + 5), Ok(())),
            ("nbf", json!(NOW + 6), Err(TokenError::NotYet)),
            ("nbf", json!("now"), Err(TokenError::Malformed)),
        ] {
            assert_eq!(check(&with(name, value.clone())).map(|_| ()), expected, "{name} {value}");
        }
    }

    #[test]
    fn permissions_name_actions_and_paths() {
        for (claim, expected) in [
            (json!([{ "action": "read", "path": "live/a" }]), Ok(())),
            (json!([{ "action": "publish" }, { "action": "read", "path": "~^live/" }]), Ok(())),
            (json!("[{\"action\": \"read\"}]"), Ok(())),
            (json!([{ "action": "read", "path": "live/ab" }]), Err(TokenError::NotAllowed)),
            (json!([{ "action": "read", "path": "~(" }]), Err(TokenError::NotAllowed)),
            (json!([{ "action": "publish" }]), Err(TokenError::NotAllowed)),
            (json!([]), Err(TokenError::NotAllowed)),
            (json!({ "read": true }), Err(TokenError::Malformed)),
        ] {
            let checked = check(&with("headend_permissions", claim.clone())).map(|_| ());
            assert_eq!(checked, expected, "{claim}");
        }
        let none = json!({ "exp": NOW + 1 });
        assert_eq!(check(&none), Err(TokenError::NotAllowed));
    }

    #[test]
    fn subject_that_looks_like_a_node_of_a_job_is_refused() {
        assert_eq!(check(&with("sub", json!("node:n2"))), Err(TokenError::Subject));
        assert!(check(&with("sub", json!("node"))).is_ok());
    }

    #[test]
    fn issuer_and_audience_are_compared_where_they_are_configured() {
        let auth = AuthConfig {
            jwt_issuer: Some("issuer".to_owned()),
            jwt_audience: Some("headend".to_owned()),
            ..AuthConfig::default()
        };
        for (issuer, audience, expected) in [
            (json!("issuer"), json!("headend"), Ok(())),
            (json!("issuer"), json!(["x", "headend"]), Ok(())),
            (json!("other"), json!("headend"), Err(TokenError::OtherParty)),
            (json!("issuer"), json!(["x"]), Err(TokenError::OtherParty)),
            (json!("issuer"), Value::Null, Err(TokenError::OtherParty)),
        ] {
            let mut claims = with("iss", issuer);
            claims["aud"] = audience;
            let token = signed(None, &claims);
            let checked = keys().check(&token, &auth, (Action::Read, "live/a"), NOW);
            assert_eq!(checked.map(|_| ()), expected, "{claims}");
        }
    }

    #[test]
    fn what_no_key_has_signed_is_refused_whatever_it_says_of_itself() {
        let claims = with("x", json!(1));
        let check = |token: &str| {
            keys().check(token, &AuthConfig::default(), (Action::Read, "live/a"), NOW)
        };
        let right = signed(Some("one"), &claims);
        assert!(check(&right).is_ok());
        let (front, signature) = right.rsplit_once('.').unwrap();
        let body = URL_SAFE_NO_PAD.encode(claims.to_string());
        let none = URL_SAFE_NO_PAD.encode("{\"alg\":\"none\"}");
        for (token, expected) in [
            (format!("{front}."), TokenError::Signature),
            (format!("{front}.{}x", &signature[..signature.len() - 2]), TokenError::Signature),
            (format!("{none}.{body}."), TokenError::Malformed),
            (signed(Some("three"), &claims), TokenError::UnknownKey),
            ("a.b.c".to_owned(), TokenError::Malformed),
            (String::new(), TokenError::Malformed),
            ("x".repeat(10_000), TokenError::Malformed),
        ] {
            assert_eq!(check(&token), Err(expected), "{token}");
        }
        // RFC 8725 s2.1: a public key must not become the secret of HMAC.
        let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::HS512) };
        let other = encode(&header, &claims, &EncodingKey::from_secret(&[7; 64]).unwrap()).unwrap();
        assert_eq!(check(&other), Err(TokenError::Signature));
    }

    #[test]
    fn set_without_keys_is_refused() {
        let many = json!({ "keys": vec![json!({ "kty": "oct", "k": "YQ" }); 65] }).to_string();
        for (json, expected) in [
            ("{\"keys\": []}", "no key"),
            ("{\"keys\": [{\"kty\": \"x\"}]}", "no key"),
            ("{}", "no list"),
            ("[", "no set of keys"),
            (&many, "65 keys"),
        ] {
            let error = Keys::read(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(!format!("{:?}", keys()).contains("secret"));
    }

    #[test]
    fn passwords_are_distinguished_from_tokens() {
        assert!(is_token_like(&signed(None, &json!({}))));
        for text in ["", "a.b", "a..b", "hunter2", "a.b.c.d", "a b.c.d"] {
            assert!(!is_token_like(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_without_panic(
            text in "\\PC{0,40}|[a-zA-Z0-9_-]{0,20}[.][a-zA-Z0-9_-]{0,20}[.][a-zA-Z0-9_-]{0,20}",
        ) {
            let auth = AuthConfig::default();
            prop_assert!(keys().check(&text, &auth, (Action::Read, "a"), NOW).is_err());
            let _ = Keys::read(text.as_bytes());
        }
    }
}

//! Who a client is: `Authorization`, challenges, and tokens.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headend::access::jwt::{Keys, is_token_like};
use headend::access::shown::Shown;
use headend::access::{DigestAlgorithm, Guard, GuardConfig, Refused};
use headend::config::access::{Action, AuthConfig};
use headend::rtsp::auth::ClientAuth;
use headend::rtsp::source_url::Credentials;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};

use crate::input::{Input, field, text};

const CONFIG: GuardConfig = GuardConfig {
    realm: "headend",
    digests: &[DigestAlgorithm::Md5, DigestAlgorithm::Sha256],
    basic: true,
};

/// `Authorization` of a stranger: what is read of Basic reads back, and nothing lets in a
/// stranger who does not know the password.
pub fn authorization(data: &[u8]) {
    let header = text(data);
    let token = Shown::token_in(Some(&header));
    assert!(token.is_none_or(|token| !token.expose().is_empty()));
    let shown = Shown::read(Some(&header));
    match &shown {
        Ok(Shown::Basic { user, password }) => {
            assert!(!user.contains(':'), "{user}");
            let plain = format!("{user}:{}", password.expose());
            let again = format!("Basic {}", STANDARD.encode(plain));
            assert_eq!(Shown::read(Some(&again)), shown);
        }
        Ok(Shown::Digest(answer)) => assert!(format!("{answer:?}").len() < 16 * data.len() + 400),
        Ok(Shown::Bearer(token)) => {
            assert!(token.expose().bytes().all(|b| b.is_ascii_graphic()));
            assert!(!is_token_like(token.expose()) || token.expose().contains('.'));
        }
        Ok(Shown::Nothing) => assert!(header.trim().is_empty()),
        Err(refused) => assert_eq!(*refused, Refused::Malformed),
    }
    // Nobody guesses 32 bytes: whoever is let in has found another way.
    let password = |_: &str| Some("a password of thirty-two bytes..");
    let checked = Guard::new(CONFIG, 7).check(Some(&header), "PLAY", "rtsp://h/a", password);
    assert!(checked.is_err(), "{header} was let in");
}

/// Challenges of any server are answered or refused; and to a challenge of ours, a client of ours
/// with any name and password gives an answer that lets it in, which another password does not.
pub fn login(data: &[u8]) {
    let mut input = Input::new(data);
    let number = u128::from(input.u64());
    let (user, password) = (field(input.short(), 64), field(input.short(), 64));
    let url = format!("rtsp://h/{}", field(input.short(), 64));
    let challenges = text(input.rest());
    let mut stranger =
        ClientAuth::new(Credentials { user: user.clone(), password: password.clone() });
    let mut tries = 0;
    while stranger.handle_challenges(&challenges).is_ok() {
        tries += 1;
        assert!(tries < 8, "a challenge is answered again and again: {challenges}");
        let Some(answer) = stranger.authorize("DESCRIBE", &url) else { continue };
        let scheme = answer.split_once(' ').map(|(scheme, _)| scheme);
        assert!(matches!(scheme, Some("Basic" | "Digest")), "{answer}");
    }
    let guard = Guard::new(CONFIG, number);
    for challenge in guard.challenges(Refused::Missing) {
        let mut client =
            ClientAuth::new(Credentials { user: user.clone(), password: password.clone() });
        client.handle_challenges(&challenge).expect("a challenge of ours");
        // Of what Basic says the first colon ends the name (RFC 7617 s2): it has no such names.
        if challenge.starts_with("Basic") && user.contains(':') {
            continue;
        }
        let Some(answer) = client.authorize("DESCRIBE", &url) else { continue };
        let check = |known: &str| {
            guard.check(Some(&answer), "DESCRIBE", &url, |name| (name == user).then_some(known))
        };
        assert_eq!(check(&password), Ok(user.clone()), "{answer}");
        let other = format!("{password}.");
        assert_eq!(check(&other), Err(Refused::Wrong), "{answer}");
        let elsewhere = guard.check(Some(&answer), "SETUP", &url, |_| Some(password.as_str()));
        assert!(elsewhere.is_err() || answer.starts_with("Basic"), "{answer}");
    }
}

/// Key sets, tokens as they come, and claims that a key has signed: only what is signed counts,
/// and only while it does.
pub fn jwt(data: &[u8]) {
    let mut input = Input::new(data);
    let (what, now_s) = (input.u8(), i64::from(input.u32()));
    let rest = input.rest();
    let auth = AuthConfig::default();
    let check = |token: &str| KEYS.check(token, &auth, (Action::Read, "live/a"), now_s);
    match what & 3 {
        0 => {
            let _ = Keys::read(rest);
        }
        1 => assert!(check(&text(rest)).is_err(), "{} is not signed", text(rest)),
        _ => {
            let Ok(claims) = serde_json::from_slice::<serde_json::Value>(rest) else { return };
            let Ok(token) = encode(&Header::new(Algorithm::HS256), &claims, &SIGNER) else {
                return;
            };
            assert!(is_token_like(&token));
            if let Ok(allowed) = check(&token) {
                let end_s = claims.get("exp").and_then(serde_json::Value::as_f64);
                let end_s = end_s.expect("a token without an end counts");
                #[expect(clippy::cast_precision_loss, reason = "32 bits are exact in f64")]
                let is_over = end_s + 5.0 <= now_s as f64;
                assert!(!is_over, "{claims} is over at {now_s}");
                assert!(allowed.until_s.is_some_and(|until_s| until_s > now_s));
                assert!(claims.get(&auth.jwt_claim).is_some(), "{claims} allows nothing");
            }
            // A bit of the signature, and it is nobody's.
            let (front, signature) = token.rsplit_once('.').expect("three parts");
            let flipped = if signature.starts_with('A') { 'B' } else { 'A' };
            assert!(check(&format!("{front}.{flipped}{}", &signature[1..])).is_err());
        }
    }
}

const SECRET: &[u8] = b"a secret of thirty-two bytes ...";

static SIGNER: LazyLock<EncodingKey> =
    LazyLock::new(|| EncodingKey::from_secret(SECRET).expect("a secret"));

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(SECRET);
    let set = serde_json::json!({ "keys": [{ "kty": "oct", "alg": "HS256", "k": secret }] });
    Keys::read(set.to_string().as_bytes()).expect("a set of one key")
});

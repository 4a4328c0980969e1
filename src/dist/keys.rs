//! Ed25519 keys of the base and of nodes, and what they sign.
//!
//! ```text
//! BaseKeys --sign--> frames of contents (units), capabilities, envelopes --its VerifyKey--> nodes
//! NodeKeys --sign--> receipts, answers --VerifyKey of the node--> base, clients
//! ```
//! A capability is a token: base64url of its JSON, a dot, base64url of the signature of the JSON;
//! one for a live path begins with `hdl_`, and a mark is signed with it. A receipt travels as the
//! JSON that was signed, so that no second writer has to give the same bytes.
//!
//! Invariants: secret halves are never shown, not by `Debug` either; signatures are checked
//! strictly (no weak keys, one signature for a message and key); what is signed as one thing does
//! not count as another. Bounds: `CAPABILITY_BYTES_MAX`, `LIVE_BYTES_MAX`, and `BODY_BYTES_MAX` an
//! envelope.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::access::question::NotCapable;
use crate::access::shown::CAPABILITY_PREFIX;
use crate::base::secret::Secret;
use crate::dist::ids::{CommandKey, ContentId};
use crate::dist::wire::agent::{Receipt, SignedReceipt};
use crate::dist::wire::peer::{Capability, LiveCapability};
use crate::dist::wire::relay::{Alive, BODY_BYTES_MAX, Envelope, SignedAnswer};

/// The keys of the base.
#[derive(Clone)]
pub struct BaseKeys {
    signing: SigningKey,
}

/// The keys of a node.
#[derive(Clone)]
pub struct NodeKeys {
    signing: SigningKey,
}

/// The public half of a base's or a node's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyKey(VerifyingKey);

/// Why a key or a signed thing is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Text is no public key.
    #[error("not a public key: base64 of 32 bytes of Ed25519 is expected")]
    NotAKey,
    /// The signature is not one of these bytes by this key.
    #[error("the signature does not match")]
    BadSignature,
    /// Signed, but not of the expected form.
    #[error("the signed text is not of the expected form")]
    BadForm,
}

/// Why a capability gives no right to a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// Not made by this base.
    #[error("the capability is not one of this base")]
    Strange,
    /// Of another content.
    #[error("the capability is for another content")]
    OtherContent,
    /// Its time is over, also by a clock that is some minutes off.
    #[error("the capability has expired")]
    Expired,
}

impl BaseKeys {
    /// From 32 secret bytes.
    #[must_use]
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        Self { signing: SigningKey::from_bytes(secret) }
    }

    /// The public half.
    #[must_use]
    pub fn verify_key(&self) -> VerifyKey {
        VerifyKey(self.signing.verifying_key())
    }

    /// Signature of a message: `dist::units` signs its frames by this.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }

    /// The capability as a token.
    #[must_use]
    pub fn seal_capability(&self, capability: &Capability) -> String {
        let json = json_of(capability);
        let signature = self.sign(json.as_bytes());
        let mut token = URL_SAFE_NO_PAD.encode(json);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }

    /// The capability for a live path as a token.
    #[must_use]
    pub fn seal_live(&self, capability: &LiveCapability) -> Secret {
        let json = json_of(capability);
        let signature = self.sign(&marked(LIVE_MARK, json.as_bytes()));
        let mut token = CAPABILITY_PREFIX.to_owned();
        URL_SAFE_NO_PAD.encode_string(json, &mut token);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Secret::new(token)
    }

    /// The envelope as a token.
    #[must_use]
    pub fn seal_envelope(&self, envelope: &Envelope) -> String {
        let json = json_of(envelope);
        let signature = self.sign(&marked(ENVELOPE_MARK, json.as_bytes()));
        let mut token = URL_SAFE_NO_PAD.encode(json);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }
}

impl NodeKeys {
    /// From 32 secret bytes.
    #[must_use]
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        Self { signing: SigningKey::from_bytes(secret) }
    }

    /// The public half.
    #[must_use]
    pub fn verify_key(&self) -> VerifyKey {
        VerifyKey(self.signing.verifying_key())
    }

    /// The private key in PKCS #8 (RFC 8410 s7), for the node's certificate.
    #[must_use]
    pub fn to_pkcs8(&self) -> Vec<u8> {
        [&PKCS8_ED25519[..], self.signing.as_bytes()].concat()
    }
}

impl VerifyKey {
    /// The 32 bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Whether `signature` is one of `message` by this key.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }

    /// The capability of a token, if it lets its node fetch this content at `utc_s`.
    ///
    /// # Errors
    /// `NotAdmitted` of the first rule that it breaks.
    pub fn admit(
        &self,
        token: &str,
        content: ContentId,
        utc_s: i64,
    ) -> Result<Capability, NotAdmitted> {
        let capability = self.open_capability(token).ok_or(NotAdmitted::Strange)?;
        if capability.content != content {
            return Err(NotAdmitted::OtherContent);
        }
        if utc_s > capability.expires_s.saturating_add(EXPIRY_LEEWAY_S) {
            return Err(NotAdmitted::Expired);
        }
        Ok(capability)
    }

    /// The capability of a token that the base of this key made. Who checks also looks at node,
    /// content and expiry.
    #[must_use]
    pub fn open_capability(&self, token: &str) -> Option<Capability> {
        if token.len() > CAPABILITY_BYTES_MAX {
            return None;
        }
        let (json, signature) = token.split_once('.')?;
        let json = URL_SAFE_NO_PAD.decode(json).ok()?;
        let signature: [u8; 64] = URL_SAFE_NO_PAD.decode(signature).ok()?.try_into().ok()?;
        self.verify(&json, &signature).then(|| serde_json::from_slice(&json).ok())?
    }

    /// The capability of a token, if it lets its node read this path of this command at `utc_s`.
    ///
    /// # Errors
    /// `NotCapable` of the first rule that it breaks.
    pub fn admit_live(
        &self,
        token: &str,
        (key, path): (CommandKey, &str),
        utc_s: i64,
    ) -> Result<LiveCapability, NotCapable> {
        let capability = self.open_live(token).ok_or(NotCapable::Forged)?;
        if (capability.key, capability.path.as_str()) != (key, path) {
            return Err(NotCapable::Other);
        }
        if utc_s > capability.expires_s.saturating_add(EXPIRY_LEEWAY_S) {
            return Err(NotCapable::Expired);
        }
        // By a base whose clock was ahead: it must not count until that time has come.
        if capability.expires_s > utc_s.saturating_add(LIFE_MAX_S).saturating_add(EXPIRY_LEEWAY_S) {
            return Err(NotCapable::Early);
        }
        Ok(capability)
    }

    fn open_live(&self, token: &str) -> Option<LiveCapability> {
        if token.len() > LIVE_BYTES_MAX {
            return None;
        }
        let (json, signature) = token.strip_prefix(CAPABILITY_PREFIX)?.split_once('.')?;
        let json = URL_SAFE_NO_PAD.decode(json).ok()?;
        let signature: [u8; 64] = URL_SAFE_NO_PAD.decode(signature).ok()?.try_into().ok()?;
        let is_signed = self.verify(&marked(LIVE_MARK, &json), &signature);
        is_signed.then(|| serde_json::from_slice(&json).ok())?
    }

    /// A key from its 32 bytes.
    ///
    /// # Errors
    /// `KeyError::NotAKey`, for weak ones too.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotAKey)?;
        if key.is_weak() { Err(KeyError::NotAKey) } else { Ok(Self(key)) }
    }

    /// The envelope of a token that the base of this key made.
    #[must_use]
    pub fn open_envelope(&self, token: &str) -> Option<Envelope> {
        if token.len() > BODY_BYTES_MAX {
            return None;
        }
        let (json, signature) = token.split_once('.')?;
        let json = URL_SAFE_NO_PAD.decode(json).ok()?;
        let signature: [u8; 64] = URL_SAFE_NO_PAD.decode(signature).ok()?.try_into().ok()?;
        let is_signed = self.verify(&marked(ENVELOPE_MARK, &json), &signature);
        is_signed.then(|| serde_json::from_slice(&json).ok())?
    }
}

/// The answer to a question of the base that another node brought, with the node's signature.
#[must_use]
pub fn sign_answer(keys: &NodeKeys, alive: &Alive) -> SignedAnswer {
    let answer = json_of(alive);
    let signature = keys.signing.sign(&marked(ANSWER_MARK, answer.as_bytes())).to_bytes();
    SignedAnswer { answer, signature: STANDARD.encode(signature) }
}

/// The answer that the node of this key signed.
#[must_use]
pub fn verify_answer(key: &VerifyKey, signed: &SignedAnswer) -> Option<Alive> {
    let signature: [u8; 64] = STANDARD.decode(&signed.signature).ok()?.try_into().ok()?;
    let is_signed = key.verify(&marked(ANSWER_MARK, signed.answer.as_bytes()), &signature);
    is_signed.then(|| serde_json::from_str(&signed.answer).ok())?
}

/// What is signed of a thing that is not to be taken for another.
fn marked(mark: &[u8], json: &[u8]) -> Vec<u8> {
    [mark, json].concat()
}

/// The receipt with the node's signature.
#[must_use]
pub fn sign_receipt(keys: &NodeKeys, receipt: &Receipt) -> SignedReceipt {
    let receipt = json_of(receipt);
    let signature = STANDARD.encode(keys.signing.sign(receipt.as_bytes()).to_bytes());
    SignedReceipt { receipt, signature }
}

/// The receipt that the node of this key signed.
///
/// # Errors
/// `KeyError::BadSignature`, and `KeyError::BadForm` for signed text that is no receipt.
pub fn verify_receipt(key: &VerifyKey, signed: &SignedReceipt) -> Result<Receipt, KeyError> {
    let signature = STANDARD.decode(&signed.signature).map_err(|_| KeyError::BadSignature)?;
    let signature: [u8; 64] = signature.try_into().map_err(|_| KeyError::BadSignature)?;
    if !key.verify(signed.receipt.as_bytes(), &signature) {
        return Err(KeyError::BadSignature);
    }
    serde_json::from_str(&signed.receipt).map_err(|_| KeyError::BadForm)
}

impl FromStr for VerifyKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = STANDARD.decode(text).map_err(|_| KeyError::NotAKey)?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| KeyError::NotAKey)?;
        Self::from_bytes(&bytes)
    }
}

impl fmt::Display for VerifyKey {
    /// Base64, as [`FromStr`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0.to_bytes()))
    }
}

impl fmt::Debug for BaseKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BaseKeys").field(&self.verify_key().to_string()).finish()
    }
}

impl fmt::Debug for NodeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NodeKeys").field(&self.verify_key().to_string()).finish()
    }
}

/// JSON of one of our own shapes: they have text keys only, so that writing them cannot fail.
fn json_of<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// What stands before the 32 secret bytes: version 0, id-Ed25519, two octet strings.
const PKCS8_ED25519: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// A content id, a name of 63 bytes, a time and a signature have fewer.
const CAPABILITY_BYTES_MAX: usize = 1_024;
/// A name of a path in JSON has twice its 255 bytes at most, and with the rest a third more.
const LIVE_BYTES_MAX: usize = 2_048;
/// Seconds for which a capability counts behind its expiry, because clocks of nodes differ.
pub const EXPIRY_LEEWAY_S: i64 = 5 * 60;
/// Seconds for which a base makes a capability at most: a day.
pub const LIFE_MAX_S: i64 = 24 * 3_600;

/// Before the JSON of an envelope, where it is signed.
const ENVELOPE_MARK: &[u8] = b"headend envelope\n";
/// Before the JSON of a capability for a live path, where it is signed.
const LIVE_MARK: &[u8] = b"headend live capability\n";
/// Before the JSON of an answer, where it is signed.
const ANSWER_MARK: &[u8] = b"headend answer\n";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use uuid::Uuid;

    use super::*;
    use crate::dist::ids::{BaseEpoch, CommandId, CommandKey, ContentId, Digest, JobId, NodeName};
    use crate::dist::wire::agent::NodeOrder;

    fn capability() -> Capability {
        let (content, node) = (ContentId(Uuid::from_u128(7)), NodeName::new("edge-1").unwrap());
        Capability { content, node, expires_s: 1_900_000_000, job: None }
    }

    fn receipt() -> Receipt {
        Receipt {
            node: NodeName::new("edge-1").unwrap(),
            key: CommandKey { job: JobId(Uuid::from_u128(1)), command: CommandId(2) },
            path: "a/b.mp4".to_owned(),
            size: 3,
            blake3: None,
            attrs: None,
            finished_at_ns: 4,
            via: BTreeMap::from([("base".to_owned(), 3)]),
            live: None,
        }
    }

    #[test]
    fn capability_admits_to_its_content_until_five_minutes_behind_its_time() {
        let keys = BaseKeys::from_bytes(&[1; 32]);
        let token = keys.seal_capability(&capability());
        let Capability { content, expires_s, .. } = capability();
        let admit = |token: &str, content, utc_s| keys.verify_key().admit(token, content, utc_s);
        assert_eq!(admit(&token, content, expires_s + 300), Ok(capability()));
        assert_eq!(admit(&token, content, expires_s + 301), Err(NotAdmitted::Expired));
        let other = ContentId(Uuid::from_u128(8));
        assert_eq!(admit(&token, other, expires_s), Err(NotAdmitted::OtherContent));
        assert_eq!(admit("no.token", content, expires_s), Err(NotAdmitted::Strange));
    }

    #[test]
    fn capability_opens_under_the_key_that_sealed_it_and_no_other() {
        let (keys, other) = (BaseKeys::from_bytes(&[1; 32]), BaseKeys::from_bytes(&[2; 32]));
        let token = keys.seal_capability(&capability());
        assert_eq!(keys.verify_key().open_capability(&token), Some(capability()));
        assert_eq!(other.verify_key().open_capability(&token), None);
    }

    #[test]
    fn live_capability_admits_to_its_path_of_its_command_until_five_minutes_behind_its_time() {
        let (keys, strange) = (BaseKeys::from_bytes(&[1; 32]), BaseKeys::from_bytes(&[2; 32]));
        let key = CommandKey { job: JobId(Uuid::from_u128(1)), command: CommandId(2) };
        let (node, expires_s) = (NodeName::new("edge-1").unwrap(), 1_900_000_000);
        let capability = LiveCapability { key, path: "live/x".to_owned(), node, expires_s };
        let now_s = expires_s - 3_600;
        let token = keys.seal_live(&capability);
        let admit = |token: &Secret, key, path, utc_s| {
            keys.verify_key().admit_live(token.expose(), (key, path), utc_s)
        };
        assert_eq!(admit(&token, key, "live/x", expires_s + 300), Ok(capability.clone()));
        assert_eq!(admit(&token, key, "live/x", expires_s + 301), Err(NotCapable::Expired));
        // The base's clock was ahead: a capability is for a day at most.
        let day_s = expires_s - LIFE_MAX_S;
        assert!(admit(&token, key, "live/x", day_s - 300).is_ok());
        assert_eq!(admit(&token, key, "live/x", day_s - 301), Err(NotCapable::Early));
        for path in ["live/x~0", "live", "live/x/", ""] {
            assert_eq!(admit(&token, key, path, now_s), Err(NotCapable::Other), "{path}");
        }
        let other = CommandKey { command: CommandId(3), ..key };
        assert_eq!(admit(&token, other, "live/x", now_s), Err(NotCapable::Other));
        let foreign = strange.seal_live(&capability);
        assert_eq!(admit(&foreign, key, "live/x", now_s), Err(NotCapable::Forged));
        // What is signed as one thing is not taken for the other.
        let file = Secret::new(format!("hdl_{}", keys.seal_capability(&self::capability())));
        assert_eq!(admit(&file, key, "live/x", now_s), Err(NotCapable::Forged));
        let bare = token.expose().strip_prefix("hdl_").unwrap();
        assert_eq!(keys.verify_key().open_capability(bare), None);
        for at in 0..token.expose().len() {
            let mut bytes = token.expose().as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = Secret::new(String::from_utf8(bytes).unwrap());
            let refused = admit(&changed, key, "live/x", now_s);
            assert_eq!(refused, Err(NotCapable::Forged), "byte {at}");
        }
        // The longest name of a path fits.
        let path = "\"".repeat(crate::base::names::PATH_NAME_BYTES_MAX);
        let long = keys.seal_live(&LiveCapability { path: path.clone(), ..capability });
        assert!(admit(&long, key, &path, now_s).is_ok(), "{} bytes", long.expose().len());
    }

    #[test]
    fn changed_capability_does_not_open() {
        let keys = BaseKeys::from_bytes(&[1; 32]);
        let token = keys.seal_capability(&capability());
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(keys.verify_key().open_capability(&changed), None, "byte {at}");
        }
        for bad in ["", ".", "a.b", "....", &"a".repeat(5_000)] {
            assert_eq!(keys.verify_key().open_capability(bad), None, "{bad:.8}");
        }
    }

    #[test]
    fn envelope_and_answer_open_under_their_own_key_and_as_nothing_else() {
        let (keys, other) = (BaseKeys::from_bytes(&[1; 32]), BaseKeys::from_bytes(&[2; 32]));
        let envelope = Envelope {
            node: NodeName::new("a").unwrap(),
            addr: "192.0.2.1:9".to_owned(),
            base: BaseEpoch(3),
            number: 4,
            at_ns: 5,
            common: Digest([6; 32]),
            orders: vec![NodeOrder::Idle],
        };
        let token = keys.seal_envelope(&envelope);
        assert_eq!(keys.verify_key().open_envelope(&token), Some(envelope));
        assert_eq!(other.verify_key().open_envelope(&token), None);
        assert_eq!(keys.verify_key().open_capability(&token), None);
        assert_eq!(keys.verify_key().open_envelope(&keys.seal_capability(&capability())), None);
        let mut changed = token.into_bytes();
        changed[9] = if changed[9] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert_eq!(keys.verify_key().open_envelope(&changed), None);

        let (keys, other) = (NodeKeys::from_bytes(&[1; 32]), NodeKeys::from_bytes(&[2; 32]));
        let node = NodeName::new("a").unwrap();
        let alive = Alive { node, query: 7, open: 2, is_online: false };
        let signed = sign_answer(&keys, &alive);
        assert_eq!(verify_answer(&keys.verify_key(), &signed), Some(alive));
        assert_eq!(verify_answer(&other.verify_key(), &signed), None);
    }

    #[test]
    fn receipt_is_verified_by_the_key_of_its_node() {
        let (keys, other) = (NodeKeys::from_bytes(&[1; 32]), NodeKeys::from_bytes(&[2; 32]));
        let signed = sign_receipt(&keys, &receipt());
        assert_eq!(verify_receipt(&keys.verify_key(), &signed), Ok(receipt()));
        assert_eq!(verify_receipt(&other.verify_key(), &signed), Err(KeyError::BadSignature));
        let mut changed = signed;
        changed.receipt = changed.receipt.replace("\"size\":3", "\"size\":4");
        assert_eq!(verify_receipt(&keys.verify_key(), &changed), Err(KeyError::BadSignature));
        changed.signature = "%".to_owned();
        assert_eq!(verify_receipt(&keys.verify_key(), &changed), Err(KeyError::BadSignature));
    }

    #[test]
    fn public_key_reads_what_it_writes_and_secrets_are_not_shown() {
        let keys = NodeKeys::from_bytes(&[9; 32]);
        assert_eq!(keys.verify_key().to_string().parse(), Ok(keys.verify_key()));
        for bad in ["", "AAAA", "%", &STANDARD.encode([0; 32]), &STANDARD.encode([1; 33])] {
            assert_eq!(bad.parse::<VerifyKey>(), Err(KeyError::NotAKey), "{bad}");
        }
        assert_eq!(format!("{keys:?}"), format!("NodeKeys(\"{}\")", keys.verify_key()));
    }
}

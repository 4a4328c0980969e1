//! MIKEY messages (RFC 3830) that carry a key of SRTP: `a=key-mgmt` of SDP (RFC 4567) and the
//! `KeyMgmt` header of RTSP (RFC 7826 s18.29).
//!
//! ```text
//!  HDR [policy, SSRC, ROC]..  T  RAND  SP: ciphers and lengths  KEMAC: key, in the clear
//! ```
//! The message is one of a pre-shared key whose encryption is null: TLS of the RTSP connection
//! protects it, as GStreamer, live555 and MediaMTX have it. Of a key encryption or a public key
//! nothing is understood.
//!
//! Leniency: GStreamer writes the length of the tag as the length of the authentication key; both
//! places are read. Messages without a security policy mean the defaults (s6.10.1).
//! Invariant: what is written reads back. Bound: `MESSAGE_BYTES_MAX`, `SESSIONS_MAX`.
#![deny(clippy::indexing_slicing)]

use super::{KeyError, MasterKey, Suite};
use crate::base::ids::Ssrc;

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mikey {
    /// The key of the streams.
    pub key: MasterKey,
    /// SSRCs that were named, with their rollover counters.
    pub sources: Vec<(Ssrc, u32)>,
}

/// Numbers of a message that do not repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uniques {
    /// Number of the crypto session bundle.
    pub bundle: u32,
    /// NTP time (RFC 5905), against replay.
    pub ntp: u64,
    /// Random bytes of the bundle.
    pub random: [u8; 16],
}

/// Why bytes give no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MikeyError {
    /// The message ends within a payload, or is longer than `MESSAGE_BYTES_MAX`.
    #[error("the MIKEY message is cut or too long")]
    Length,
    /// Not version 1.
    #[error("MIKEY version {0}")]
    Version(u8),
    /// Something that is not carried.
    #[error("the MIKEY message has {what}, which is not carried")]
    NotCarried {
        /// What it is.
        what: &'static str,
    },
    /// No key in it.
    #[error("the MIKEY message has no key")]
    NoKey,
    /// The key does not fit its policy.
    #[error("the key of the MIKEY message: {0}")]
    Key(#[from] KeyError),
}

/// Security policy of SRTP (s6.10.1).
#[derive(Debug, Clone, Copy)]
struct Policy {
    cipher: u8,
    key_bytes: u8,
    auth: u8,
    auth_key_bytes: u8,
    tag_bytes: Option<u8>,
}

/// Bytes that are still to be read.
struct Rest<'a>(&'a [u8]);

/// Reads a message.
///
/// # Errors
/// See [`MikeyError`].
pub fn parse(bytes: &[u8]) -> Result<Mikey, MikeyError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(MikeyError::Length);
    }
    let mut rest = Rest(bytes);
    let [version, kind, mut next, _verify_and_prf] = rest.take()?;
    if version != VERSION {
        return Err(MikeyError::Version(version));
    }
    if kind != KIND_PRE_SHARED {
        return Err(MikeyError::NotCarried { what: "another kind of key exchange" });
    }
    let [_, _, _, _, count, map] = rest.take()?;
    if map != MAP_SRTP || usize::from(count) > SESSIONS_MAX {
        return Err(MikeyError::NotCarried { what: "other crypto sessions" });
    }
    let mut sources = Vec::with_capacity(count.into());
    for _ in 0..count {
        let [_policy, a, b, c, d, roc @ ..]: [u8; 9] = rest.take()?;
        sources.push((Ssrc(u32::from_be_bytes([a, b, c, d])), u32::from_be_bytes(roc)));
    }
    let (mut policy, mut key) = (None, None);
    // Bounded: every payload has a byte at least.
    while next != LAST {
        let payload = next;
        let [following] = rest.take()?;
        next = following;
        match payload {
            TIME => match rest.take()? {
                [TIME_COUNTER] => rest.skip(4)?,
                [_ntp] => rest.skip(8)?,
            },
            RANDOM => {
                let [bytes] = rest.take()?;
                rest.skip(bytes.into())?;
            }
            // Which of several a stream has would be said in the map of crypto sessions.
            POLICY if policy.is_some() => {
                return Err(MikeyError::NotCarried { what: "several policies" });
            }
            POLICY => policy = Some(rest.policy()?),
            KEY_TRANSPORT => key = Some(rest.key()?),
            IDENTITY | EXTENSION => {
                let [_kind] = rest.take()?;
                rest.counted()?;
            }
            VERIFICATION => {
                let [mac] = rest.take()?;
                rest.skip(mac_bytes(mac)?)?;
            }
            _ => return Err(MikeyError::NotCarried { what: "a payload of public keys" }),
        }
    }
    let (secret, salt) = key.ok_or(MikeyError::NoKey)?;
    let policy = policy.unwrap_or(Policy::DEFAULT);
    let key = MasterKey::from_bytes(policy.suite()?, &[secret, salt].concat())?;
    Ok(Mikey { key, sources })
}

/// A message with a key. `sources` are SSRCs with their rollover counters.
#[must_use]
pub fn write(key: &MasterKey, sources: &[(Ssrc, u32)], uniques: &Uniques) -> Vec<u8> {
    let sources = sources.get(..SESSIONS_MAX).unwrap_or(sources);
    let mut out = vec![VERSION, KIND_PRE_SHARED, TIME, 0];
    out.extend(uniques.bundle.to_be_bytes());
    out.extend([u8::try_from(sources.len()).unwrap_or(u8::MAX), MAP_SRTP]);
    for (ssrc, roc) in sources {
        out.push(0);
        out.extend(ssrc.0.to_be_bytes());
        out.extend(roc.to_be_bytes());
    }
    out.extend([RANDOM, TIME_NTP_UTC]);
    out.extend(uniques.ntp.to_be_bytes());
    out.extend([POLICY, 16]);
    out.extend(uniques.random);
    let policy = policy_of(key.suite());
    out.extend([KEY_TRANSPORT, 0, PROTOCOL_SRTP]);
    push_counted(&mut out, &policy);
    let mut data = vec![LAST, KEY_TEK << 4];
    push_counted(&mut data, key.expose());
    out.extend([LAST, ENCRYPTION_NULL]);
    push_counted(&mut out, &data);
    out.push(MAC_NULL);
    out
}

fn push_counted(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Parameters of a suite, each with its type and length.
fn policy_of(suite: Suite) -> Vec<u8> {
    let (cipher, auth, auth_key, tag, tag_kind) = match suite {
        // GStreamer knows the suite by this length and takes 20 for one that it does not know.
        Suite::AesCm128Sha1Tag80 => (CIPHER_AES_CM, MAC_HMAC_SHA1, 10, 10, TAG_BYTES),
        Suite::AesCm128Sha1Tag32 => (CIPHER_AES_CM, MAC_HMAC_SHA1, 4, 4, TAG_BYTES),
        Suite::Aes128Gcm => (CIPHER_AES_GCM, MAC_NULL, 0, 16, AEAD_TAG_BYTES),
    };
    let parameters = [
        (CIPHER, cipher),
        (CIPHER_KEY_BYTES, 16),
        (AUTH, auth),
        (AUTH_KEY_BYTES, auth_key),
        (RTP_ENCRYPTED, 1),
        (RTCP_ENCRYPTED, 1),
        (RTP_AUTHENTICATED, 1),
        (tag_kind, tag),
    ];
    parameters.into_iter().flat_map(|(kind, value)| [kind, 1, value]).collect()
}

impl Policy {
    const DEFAULT: Self = Self {
        cipher: CIPHER_AES_CM,
        key_bytes: 16,
        auth: MAC_HMAC_SHA1,
        auth_key_bytes: 20,
        tag_bytes: None,
    };

    fn suite(self) -> Result<Suite, MikeyError> {
        let Self { cipher, key_bytes, auth, auth_key_bytes, tag_bytes } = self;
        let tag_bytes = match (tag_bytes, auth_key_bytes) {
            (Some(bytes), _) => bytes,
            (None, 4) => 4,
            (None, _) => 10,
        };
        match (cipher, key_bytes, auth, tag_bytes) {
            (CIPHER_AES_CM, 16, MAC_HMAC_SHA1, 10) => Ok(Suite::AesCm128Sha1Tag80),
            (CIPHER_AES_CM, 16, MAC_HMAC_SHA1, 4) => Ok(Suite::AesCm128Sha1Tag32),
            (CIPHER_AES_GCM, 16, _, _) => Ok(Suite::Aes128Gcm),
            _ => Err(MikeyError::NotCarried { what: "another suite" }),
        }
    }
}

impl<'a> Rest<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], MikeyError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(MikeyError::Length)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], MikeyError> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(MikeyError::Length)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn skip(&mut self, count: usize) -> Result<(), MikeyError> {
        self.bytes(count).map(|_| ())
    }

    /// Bytes behind their length of two bytes.
    fn counted(&mut self) -> Result<&'a [u8], MikeyError> {
        let count = u16::from_be_bytes(self.take()?);
        self.bytes(count.into())
    }

    /// s6.10, behind the next payload.
    fn policy(&mut self) -> Result<Policy, MikeyError> {
        let mut policy = Policy::DEFAULT;
        let [_number, protocol] = self.take()?;
        let mut parameters = Rest(self.counted()?);
        if protocol != PROTOCOL_SRTP {
            return Err(MikeyError::NotCarried { what: "a policy of another protocol" });
        }
        while !parameters.0.is_empty() {
            let [kind, bytes] = parameters.take()?;
            let value = parameters.bytes(bytes.into())?;
            // All that are known have one byte, but for the rate of key derivation.
            let last = value.last().copied().unwrap_or(0);
            match kind {
                CIPHER => policy.cipher = last,
                CIPHER_KEY_BYTES => policy.key_bytes = last,
                AUTH => policy.auth = last,
                AUTH_KEY_BYTES => policy.auth_key_bytes = last,
                TAG_BYTES | AEAD_TAG_BYTES => policy.tag_bytes = Some(last),
                DERIVATION_RATE if value.iter().any(|byte| *byte != 0) => {
                    return Err(MikeyError::NotCarried { what: "a rate of key derivation" });
                }
                RTP_ENCRYPTED | RTCP_ENCRYPTED | RTP_AUTHENTICATED if last == 0 => {
                    return Err(MikeyError::NotCarried { what: "packets that are not protected" });
                }
                _ => {}
            }
        }
        if policy.cipher == CIPHER_AES_GCM && policy.tag_bytes.is_some_and(|bytes| bytes != 16) {
            return Err(MikeyError::NotCarried { what: "another suite" });
        }
        Ok(policy)
    }

    /// s6.2 and s6.13, behind the next payload: the first key and its salt.
    fn key(&mut self) -> Result<(&'a [u8], &'a [u8]), MikeyError> {
        let [encryption] = self.take()?;
        let mut data = Rest(self.counted()?);
        let [mac] = self.take()?;
        self.skip(mac_bytes(mac)?)?;
        if encryption != ENCRYPTION_NULL || mac != MAC_NULL {
            return Err(MikeyError::NotCarried { what: "an encrypted key" });
        }
        let [next, kind_and_validity] = data.take()?;
        let (kind, validity) = (kind_and_validity >> 4, kind_and_validity & 0x0f);
        let key = data.counted()?;
        let salt = match kind {
            KEY_TEK => &[][..],
            KEY_TEK_AND_SALT => data.counted()?,
            _ => return Err(MikeyError::NotCarried { what: "a key that others are made of" }),
        };
        // Packets would name the key by its identifier.
        if validity != 0 || next != LAST {
            return Err(MikeyError::NotCarried { what: "several keys" });
        }
        Ok((key, salt))
    }
}

fn mac_bytes(mac: u8) -> Result<usize, MikeyError> {
    match mac {
        MAC_NULL => Ok(0),
        MAC_HMAC_SHA1 => Ok(20),
        _ => Err(MikeyError::NotCarried { what: "another MAC" }),
    }
}

/// More than a message with certificates.
const MESSAGE_BYTES_MAX: usize = 8 << 10;
/// Streams of one bundle: a stream, its retransmissions, and those of other sides.
const SESSIONS_MAX: usize = 16;
const VERSION: u8 = 1;
const KIND_PRE_SHARED: u8 = 0;
const MAP_SRTP: u8 = 0;
const PROTOCOL_SRTP: u8 = 0;
// Payloads (s6.1).
const LAST: u8 = 0;
const KEY_TRANSPORT: u8 = 1;
const TIME: u8 = 5;
const IDENTITY: u8 = 6;
const VERIFICATION: u8 = 9;
const POLICY: u8 = 10;
const RANDOM: u8 = 11;
const EXTENSION: u8 = 21;
// Timestamps (s6.6).
const TIME_NTP_UTC: u8 = 0;
const TIME_COUNTER: u8 = 2;
// Parameters of a policy (s6.10.1; RFC 7714 s14.3).
const CIPHER: u8 = 0;
const CIPHER_KEY_BYTES: u8 = 1;
const AUTH: u8 = 2;
const AUTH_KEY_BYTES: u8 = 3;
const DERIVATION_RATE: u8 = 6;
const RTP_ENCRYPTED: u8 = 7;
const RTCP_ENCRYPTED: u8 = 8;
const RTP_AUTHENTICATED: u8 = 10;
const TAG_BYTES: u8 = 11;
const AEAD_TAG_BYTES: u8 = 20;
const CIPHER_AES_CM: u8 = 1;
const CIPHER_AES_GCM: u8 = 6;
// Of KEMAC and key data (s6.2, s6.13).
const ENCRYPTION_NULL: u8 = 0;
const MAC_NULL: u8 = 0;
const MAC_HMAC_SHA1: u8 = 1;
const KEY_TEK: u8 = 2;
const KEY_TEK_AND_SALT: u8 = 3;

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test knows where its message has what")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UNIQUES: Uniques = Uniques { bundle: 0x0102_0304, ntp: 5, random: [7; 16] };

    fn key(suite: Suite) -> MasterKey {
        MasterKey::random(suite, &mut crate::base::random::rng())
    }

    #[test]
    fn message_has_the_layout_of_the_rfc() {
        let key = MasterKey::from_bytes(Suite::AesCm128Sha1Tag80, &[9; 30]).unwrap();
        let message = write(&key, &[(Ssrc(0x0a0b_0c0d), 3)], &UNIQUES);
        let head = [1, 0, 5, 0, 1, 2, 3, 4, 1, 0, 0, 0x0a, 0x0b, 0x0c, 0x0d, 0, 0, 0, 3];
        assert_eq!(message[..19], head);
        assert_eq!(message[19..29], [11, 0, 0, 0, 0, 0, 0, 0, 0, 5]);
        assert_eq!(message[29..31], [10, 16]);
        assert_eq!(message[47..52], [1, 0, 0, 0, 24]);
        assert_eq!(message[76..84], [0, 0, 0, 34, 0, 0x20, 0, 30]);
        assert_eq!(message.len(), 84 + 30 + 1);
    }

    #[test]
    fn lengths_of_gstreamer_and_of_the_rfc_name_the_same_suites() {
        let message = write(&key(Suite::AesCm128Sha1Tag32), &[], &UNIQUES);
        let at = message.windows(3).position(|p| p == [AUTH_KEY_BYTES, 1, 4]).unwrap();
        let mut by_rfc = message.clone();
        by_rfc[at + 2] = 20;
        assert_eq!(parse(&by_rfc).unwrap().key.suite(), Suite::AesCm128Sha1Tag32);
        // GStreamer: no length of the tag.
        let at = message.windows(3).position(|p| p == [TAG_BYTES, 1, 4]).unwrap();
        let mut by_gstreamer = message;
        by_gstreamer[at] = 9;
        assert_eq!(parse(&by_gstreamer).unwrap().key.suite(), Suite::AesCm128Sha1Tag32);
    }

    #[test]
    fn what_is_not_carried_is_named() {
        let message = write(&key(Suite::AesCm128Sha1Tag80), &[(Ssrc(1), 0)], &UNIQUES);
        let with = |at: usize, byte| {
            let mut changed = message.clone();
            changed[at] = byte;
            parse(&changed)
        };
        let what = |what| Err(MikeyError::NotCarried { what });
        assert_eq!(with(0, 2), Err(MikeyError::Version(2)));
        assert_eq!(with(1, 2), what("another kind of key exchange"));
        assert_eq!(with(9, 1), what("other crypto sessions"));
        assert_eq!(with(2, 0), Err(MikeyError::NoKey));
        assert_eq!(with(2, 7), what("a payload of public keys"));
        assert_eq!(with(54, 3), what("another suite"));
        assert_eq!(with(77, 1), what("an encrypted key"));
        assert_eq!(with(81, 0), what("a key that others are made of"));
        assert_eq!(with(81, 0x21), what("several keys"));
        // The policy stands at 47, behind the name of the payload that follows it.
        let twice = [&message[..47], &[POLICY], &message[48..76], &message[47..]].concat();
        assert_eq!(parse(&twice), what("several policies"));
        let long = [message.as_slice(), &[0; MESSAGE_BYTES_MAX]].concat();
        assert_eq!(parse(&long), Err(MikeyError::Length));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            suite in prop::sample::select(&Suite::ALL[..]), seed: [u8; 30], bundle: u32, ntp: u64,
            random: [u8; 16], sources in prop::collection::vec(any::<(u32, u32)>(), 0..16),
        ) {
            let key = MasterKey::from_bytes(suite, &seed[..suite.master_bytes()]).unwrap();
            let sources: Vec<_> = sources.into_iter().map(|(s, roc)| (Ssrc(s), roc)).collect();
            let message = write(&key, &sources, &Uniques { bundle, ntp, random });
            prop_assert_eq!(parse(&message), Ok(Mikey { key, sources }));
            for end in 0..message.len() {
                prop_assert!(parse(&message[..end]).is_err(), "cut at {}", end);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}

//! Keys: the master key of a stream, and those that are derived from it (RFC 3711 s4.3).
//!
//! ```text
//!  master key, salt --AES-CM, label 0..5--> RTP: key, auth key, salt    RTCP: the same
//!  Cipher::seal   payload in place, tag behind it        Cipher::open   the other way
//! ```
//! A nonce is made of salt, SSRC and index; callers see to it that no index is used twice.

use std::fmt;
use std::ops::Range;

use aes::Aes128Enc;
use aes::cipher::{InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper};
use ctr::CtrCore;
use ctr::flavors::Ctr128BE;
use hmac::{Hmac, Mac};
use rand::Rng;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use sha1::Sha1;
use subtle::ConstantTimeEq;

use super::{KEY_BYTES, Suite};
use crate::base::secret::SecretBytes;

/// A master key with its salt, for one suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterKey {
    suite: Suite,
    /// Key and salt.
    bytes: SecretBytes,
}

/// Why bytes are not a master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Key and salt together have another length.
    #[error("key and salt have {have_bytes} bytes instead of {want_bytes}")]
    Length {
        /// Bytes that are there.
        have_bytes: usize,
        /// Bytes that the suite wants.
        want_bytes: usize,
    },
}

impl MasterKey {
    /// A key that nobody has had before.
    #[must_use]
    pub fn random(suite: Suite, rng: &mut impl Rng) -> Self {
        let mut bytes = vec![0; suite.master_bytes()];
        rng.fill_bytes(&mut bytes);
        Self { suite, bytes: SecretBytes::new(bytes) }
    }

    /// A key as it was received: key, then salt.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn from_bytes(suite: Suite, bytes: &[u8]) -> Result<Self, KeyError> {
        let (have_bytes, want_bytes) = (bytes.len(), suite.master_bytes());
        if have_bytes != want_bytes {
            return Err(KeyError::Length { have_bytes, want_bytes });
        }
        Ok(Self { suite, bytes: SecretBytes::new(bytes) })
    }

    /// Whether it has the same key as another one, whatever their suites and salts are.
    #[must_use]
    pub fn has_key_of(&self, other: &Self) -> bool {
        self.expose().get(..KEY_BYTES) == other.expose().get(..KEY_BYTES)
    }

    /// The suite that the key is for.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Key and salt, to be sent to the other side.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.bytes.expose()
    }

    /// The keys of RTP.
    pub(super) fn rtp_cipher(&self) -> Cipher {
        self.cipher([0, 1, 2], self.suite.rtp_tag_bytes())
    }

    /// The keys of RTCP.
    pub(super) fn rtcp_cipher(&self) -> Cipher {
        self.cipher([3, 4, 5], self.suite.rtcp_tag_bytes())
    }

    /// `labels` are those of key, authentication key and salt (s4.3.1, s4.3.2).
    fn cipher(&self, labels: [u8; 3], tag_bytes: usize) -> Cipher {
        let [key_label, auth_label, salt_label] = labels;
        let mut key = [0; KEY_BYTES];
        self.derive(key_label, &mut key);
        match self.suite {
            Suite::AesCm128Sha1Tag80 | Suite::AesCm128Sha1Tag32 => {
                let (mut auth, mut salt) = ([0; AUTH_KEY_BYTES], [0; 14]);
                self.derive(auth_label, &mut auth);
                self.derive(salt_label, &mut salt);
                let hmac = <Hmac<Sha1> as KeyInit>::new_from_slice(&auth);
                #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
                let hmac = hmac.expect("HMAC takes this key");
                Cipher::Cm { aes: Box::new(Aes128Enc::new(&key.into())), hmac, salt, tag_bytes }
            }
            Suite::Aes128Gcm => {
                let mut salt = [0; 12];
                self.derive(salt_label, &mut salt);
                let key = UnboundKey::new(&AES_128_GCM, &key);
                #[expect(clippy::expect_used, reason = "AES-128 takes every key of 16 bytes")]
                let key = key.expect("AES-128-GCM takes this key");
                Cipher::Gcm { key: Box::new(LessSafeKey::new(key)), salt }
            }
        }
    }

    /// s4.3.1 with a derivation rate of 0, and s4.3.3; RFC 7714 s11 pads the shorter salt.
    pub(super) fn derive(&self, label: u8, out: &mut [u8]) {
        let (key, salt) = self.bytes.expose().split_at(KEY_BYTES);
        let mut key_bytes = [0; KEY_BYTES];
        key_bytes.copy_from_slice(key);
        let mut iv = [0; 16];
        iv[..salt.len()].copy_from_slice(salt);
        iv[7] ^= label;
        out.fill(0);
        apply_keystream(&Aes128Enc::new(&key_bytes.into()), &iv, out);
    }
}

/// Keys of RTP or of RTCP.
pub(super) enum Cipher {
    /// AES-CM with HMAC-SHA1 (RFC 3711 s4.1.1, s4.2.1).
    Cm { aes: Box<Aes128Enc>, hmac: Hmac<Sha1>, salt: [u8; 14], tag_bytes: usize },
    /// AES-GCM (RFC 7714).
    Gcm { key: Box<LessSafeKey>, salt: [u8; 12] },
}

/// What a packet is encrypted by, beside the keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct PacketId {
    pub(super) ssrc: u32,
    /// 48 bits for RTP, 31 bits for RTCP.
    pub(super) index: u64,
}

impl Cipher {
    /// Bytes of a tag.
    pub(super) fn tag_bytes(&self) -> usize {
        match self {
            Self::Cm { tag_bytes, .. } => *tag_bytes,
            Self::Gcm { .. } => 16,
        }
    }

    /// Encrypts `clear..` of a packet in place. `trailer` is authenticated with it: the rollover
    /// counter of RTP, the index word of RTCP. Returns the tag; its first `tag_bytes` count.
    pub(super) fn seal(
        &self,
        packet: &mut [u8],
        clear: usize,
        id: PacketId,
        trailer: [u8; 4],
        is_rtcp: bool,
    ) -> Option<[u8; 20]> {
        let mut tag = [0; 20];
        match self {
            Self::Cm { aes, hmac, salt, .. } => {
                apply_keystream(aes, &cm_iv(salt, id), packet.get_mut(clear..)?);
                tag = cm_tag(hmac, packet, trailer);
            }
            Self::Gcm { key, salt } => {
                let (header, payload) = packet.split_at_mut_checked(clear)?;
                let nonce = Nonce::assume_unique_for_key(gcm_iv(salt, id));
                let sealed = match is_rtcp {
                    false => key.seal_in_place_separate_tag(nonce, Aad::from(&*header), payload),
                    true => {
                        let aad = rtcp_aad(header, trailer)?;
                        key.seal_in_place_separate_tag(nonce, Aad::from(aad), payload)
                    }
                };
                tag[..16].copy_from_slice(sealed.ok()?.as_ref());
            }
        }
        Some(tag)
    }

    /// Checks the tag of a packet, and decrypts `body` of it in place. `packet` ends with the tag
    /// for GCM; `tag` is its place. False: the tag is wrong, and what is in `body` means nothing.
    pub(super) fn open(
        &self,
        packet: &mut [u8],
        body: Range<usize>,
        id: PacketId,
        trailer: [u8; 4],
        is_rtcp: bool,
    ) -> bool {
        let tag = body.end..body.end + self.tag_bytes();
        match self {
            Self::Cm { aes, hmac, salt, .. } => {
                // The index word of SRTCP stands in front of the tag.
                let tag = if is_rtcp { tag.start + 4..tag.end + 4 } else { tag };
                let (Some(signed), Some(tag)) = (packet.get(..body.end), packet.get(tag)) else {
                    return false;
                };
                let expected = cm_tag(hmac, signed, trailer);
                let expected = expected.get(..tag.len()).unwrap_or_default();
                if !bool::from(expected.ct_eq(tag)) {
                    return false;
                }
                let Some(body) = packet.get_mut(body) else { return false };
                apply_keystream(aes, &cm_iv(salt, id), body);
                true
            }
            Self::Gcm { key, salt } => {
                let Some(sealed) = packet.get_mut(..tag.end) else { return false };
                let Some((header, sealed)) = sealed.split_at_mut_checked(body.start) else {
                    return false;
                };
                let nonce = Nonce::assume_unique_for_key(gcm_iv(salt, id));
                let opened = match is_rtcp {
                    false => key.open_in_place(nonce, Aad::from(&*header), sealed),
                    true => match rtcp_aad(header, trailer) {
                        Some(aad) => key.open_in_place(nonce, Aad::from(aad), sealed),
                        None => return false,
                    },
                };
                opened.is_ok()
            }
        }
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(..)")
    }
}

pub(super) fn apply_keystream(aes: &Aes128Enc, iv: &[u8; 16], bytes: &mut [u8]) {
    let core = CtrCore::<_, Ctr128BE>::inner_iv_init(aes, iv.into());
    StreamCipherCoreWrapper::from_core(core).apply_keystream(bytes);
}

/// RFC 3711 s4.1.1.
pub(super) fn cm_iv(salt: &[u8; 14], id: PacketId) -> [u8; 16] {
    let mut iv = [0; 16];
    iv[..14].copy_from_slice(salt);
    xor(&mut iv[4..8], &id.ssrc.to_be_bytes());
    let [_, _, index @ ..] = id.index.to_be_bytes();
    xor(&mut iv[8..14], &index);
    iv
}

/// RFC 7714 s8.1 and s9.1: the same places serve RTP and RTCP.
fn gcm_iv(salt: &[u8; 12], id: PacketId) -> [u8; 12] {
    let mut iv = *salt;
    xor(&mut iv[2..6], &id.ssrc.to_be_bytes());
    let [_, _, index @ ..] = id.index.to_be_bytes();
    xor(&mut iv[6..12], &index);
    iv
}

fn xor(place: &mut [u8], with: &[u8]) {
    place.iter_mut().zip(with).for_each(|(byte, with)| *byte ^= with);
}

fn cm_tag(hmac: &Hmac<Sha1>, packet: &[u8], trailer: [u8; 4]) -> [u8; 20] {
    let mut mac = hmac.clone();
    mac.update(packet);
    mac.update(&trailer);
    mac.finalize().into_bytes().into()
}

/// RFC 7714 s9.2: the clear bytes, then the index word.
fn rtcp_aad(header: &[u8], index_word: [u8; 4]) -> Option<[u8; 12]> {
    let mut aad = [0; 12];
    aad[..8].copy_from_slice(header.get(..8).filter(|_| header.len() == 8)?);
    aad[8..].copy_from_slice(&index_word);
    Some(aad)
}

/// Bytes of a key of HMAC-SHA1 (s5.2).
const AUTH_KEY_BYTES: usize = 20;

/// A cipher of session keys, for test vectors.
#[cfg(test)]
pub(super) fn gcm(key: &[u8], salt: &str) -> Cipher {
    let key = UnboundKey::new(&AES_128_GCM, key).unwrap();
    let salt = salt.as_bytes().try_into().unwrap();
    Cipher::Gcm { key: Box::new(LessSafeKey::new(key)), salt }
}

//! Keys of a connection in the form that the kernel takes (Linux, `include/uapi/linux/tls.h`).
//!
//! ```text
//! version u16 | cipher u16 | iv | key | salt | number of the next record, big-endian u64
//! AES-GCM            iv 8    key 16 or 32    salt 4: the first bytes of the nonce
//! ChaCha20-Poly1305  iv 12   key 32          no salt
//! ```
//! Invariant: bytes of keys are shown by nothing here and are overwritten when they are dropped.

use std::fmt;

use rustls::{ConnectionTrafficSecrets, ExtractedSecrets, ProtocolVersion};

/// Keys of both directions.
#[derive(Debug)]
pub struct KernelKeys {
    /// For `TLS_TX`.
    pub send: CryptoInfo,
    /// For `TLS_RX`.
    pub receive: CryptoInfo,
}

/// One structure for the kernel.
pub struct CryptoInfo(Vec<u8>);

impl KernelKeys {
    /// `None`: a cipher that the kernel does not know.
    pub(super) fn new(secrets: &ExtractedSecrets, version: ProtocolVersion) -> Option<Self> {
        let info = |(number, secrets): &(u64, ConnectionTrafficSecrets)| {
            CryptoInfo::new(*number, secrets, version)
        };
        Some(Self { send: info(&secrets.tx)?, receive: info(&secrets.rx)? })
    }

    /// Of no connection, to see whether the kernel takes such: one of each cipher.
    #[must_use]
    pub fn for_probes() -> [Self; 3] {
        let of_cipher = |cipher, bytes: &[u8]| {
            let info = || CryptoInfo::of_parts(ProtocolVersion::TLSv1_3, cipher, &[bytes]);
            Self { send: info(), receive: info() }
        };
        [
            of_cipher(AES_GCM_128, &[0; 36]),
            of_cipher(AES_GCM_256, &[0; 52]),
            of_cipher(CHACHA20_POLY1305, &[0; 52]),
        ]
    }
}

impl CryptoInfo {
    /// The bytes of the structure.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn new(
        number: u64,
        secrets: &ConnectionTrafficSecrets,
        version: ProtocolVersion,
    ) -> Option<Self> {
        let (cipher, key, iv, salt_bytes) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (AES_GCM_128, key, iv, SALT_BYTES),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (AES_GCM_256, key, iv, SALT_BYTES),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (CHACHA20_POLY1305, key, iv, 0)
            }
            _ => return None,
        };
        let (salt, iv) = iv.as_ref().split_at_checked(salt_bytes)?;
        let parts = [iv, key.as_ref(), salt, &number.to_be_bytes()];
        Some(Self::of_parts(version, cipher, &parts))
    }

    fn of_parts(version: ProtocolVersion, cipher: u16, parts: &[&[u8]]) -> Self {
        let mut bytes = Vec::with_capacity(BYTES_MAX);
        bytes.extend_from_slice(&u16::from(version).to_ne_bytes());
        bytes.extend_from_slice(&cipher.to_ne_bytes());
        for part in parts {
            bytes.extend_from_slice(part);
        }
        Self(bytes)
    }
}

impl Drop for CryptoInfo {
    fn drop(&mut self) {
        self.0.fill(0);
        // The compiler may not leave that out: the bytes are looked at.
        std::hint::black_box(&self.0);
    }
}

impl fmt::Debug for CryptoInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CryptoInfo({} bytes)", self.0.len())
    }
}

/// `TLS_CIPHER_AES_GCM_128` and its neighbours.
const AES_GCM_128: u16 = 51;
const AES_GCM_256: u16 = 52;
const CHACHA20_POLY1305: u16 = 54;
/// Bytes of the nonce that the kernel calls salt.
const SALT_BYTES: usize = 4;
/// Of the longest structure.
const BYTES_MAX: usize = 56;

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;
    use rustls::crypto::cipher::{AeadKey, Iv};

    fn iv() -> Iv {
        Iv::new([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
    }

    fn info(secrets: &ConnectionTrafficSecrets) -> Vec<u8> {
        let info = CryptoInfo::new(0x0102_0304_0506_0708, secrets, ProtocolVersion::TLSv1_3);
        info.unwrap().as_bytes().to_vec()
    }

    #[test]
    fn structures_for_probes_are_those_of_the_kernel() {
        let bytes = KernelKeys::for_probes().map(|keys| keys.send.as_bytes().len());
        assert_eq!(bytes[0], size_of::<libc::tls12_crypto_info_aes_gcm_128>());
        assert_eq!(bytes[1], size_of::<libc::tls12_crypto_info_aes_gcm_256>());
        assert_eq!(bytes[2], offset_of!(libc::tls12_crypto_info_chacha20_poly1305, rec_seq) + 8);
    }

    const NUMBER: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

    #[test]
    fn structure_of_aes_128_is_that_of_the_kernel() {
        type Known = libc::tls12_crypto_info_aes_gcm_128;
        // rustls makes keys of 32 bytes only from outside: this one is as long as the cipher's.
        let key = AeadKey::from([7; 32]);
        let bytes = info(&ConnectionTrafficSecrets::Aes256Gcm { key, iv: iv() });
        type Long = libc::tls12_crypto_info_aes_gcm_256;
        assert_eq!(bytes.len(), size_of::<Long>());
        assert_eq!(bytes[..2], 0x0304_u16.to_ne_bytes());
        assert_eq!(bytes[2..4], libc::TLS_CIPHER_AES_GCM_256.to_ne_bytes());
        let at = |offset: usize, length: usize| &bytes[offset..offset + length];
        assert_eq!(at(offset_of!(Long, iv), 8), [5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(at(offset_of!(Long, key), 32), [7; 32]);
        assert_eq!(at(offset_of!(Long, salt), 4), [1, 2, 3, 4]);
        assert_eq!(at(offset_of!(Long, rec_seq), 8), NUMBER);
        assert_eq!(AES_GCM_128, libc::TLS_CIPHER_AES_GCM_128);
        assert_eq!(size_of::<Known>(), 4 + 8 + 16 + 4 + 8, "the same with a shorter key");
    }

    #[test]
    fn structure_of_chacha_is_that_of_the_kernel() {
        type Known = libc::tls12_crypto_info_chacha20_poly1305;
        let key = AeadKey::from([9; 32]);
        let bytes = info(&ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv: iv() });
        assert_eq!(bytes[2..4], libc::TLS_CIPHER_CHACHA20_POLY1305.to_ne_bytes());
        assert_eq!(&bytes[4..16], iv().as_ref());
        assert_eq!(bytes[16..48], [9; 32]);
        assert_eq!(bytes[offset_of!(Known, rec_seq)..], NUMBER);
        assert_eq!(bytes.len(), offset_of!(Known, rec_seq) + 8);
    }
}

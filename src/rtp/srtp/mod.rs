//! SRTP and SRTCP (RFC 3711, RFC 7714): packets that only who has the key can read or make.
//!
//! ```text
//!  MasterKey --derive--> SessionKeys --.--> Sender    RTP, RTCP --> encrypted, with a tag
//!   ^  ^                               `--> Receiver  the other way; forged and replayed ones are
//!   |  `-- sdes   a=crypto (RFC 4568)                 refused
//!   `----- mikey  a=key-mgmt, KeyMgmt (RFC 3830, RFC 4567)
//! ```
//! The packet format is ours; ciphers and hashes are those of `aes`, `ctr`, `hmac` and `ring`.
//! Key derivation rate 0, no MKI, no encryption without a tag.
//!
//! Invariants: a [`Sender`] never encrypts two packets of one SSRC under the same index; an index
//! is used again after [`Sender::rewind`], for the same packet, which is refused once others were
//! announced ([`Sender::close`]), and after [`Sender::restore`], when nobody was handed it. What a
//! [`Receiver`] hands out has the right tag and was not handed out before.
//! Bound: `SOURCES_MAX` SSRCs for each.

mod keys;
pub mod mikey;
mod receiver;
pub mod sdes;
mod sender;
mod stream;
mod window;

pub use keys::{KeyError, MasterKey};
pub use receiver::{Receiver, UnprotectError};
pub use sender::{Marks, ProtectError, Sender, numbers};
pub use stream::SrtpStream;

/// A cipher with its tags (RFC 4568 s6.2, RFC 7714 s14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// AES-128 in counter mode, tags of 80 bits.
    AesCm128Sha1Tag80,
    /// The same with tags of 32 bits on RTP; those on RTCP have 80 bits (RFC 4568 s6.2.2).
    AesCm128Sha1Tag32,
    /// AES-128 in Galois/counter mode, tags of 128 bits.
    Aes128Gcm,
}

impl Suite {
    /// All suites, the preferred one first.
    pub const ALL: [Self; 3] = [Self::AesCm128Sha1Tag80, Self::AesCm128Sha1Tag32, Self::Aes128Gcm];

    /// Name in `a=crypto`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AesCm128Sha1Tag80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128Sha1Tag32 => "AES_CM_128_HMAC_SHA1_32",
            Self::Aes128Gcm => "AEAD_AES_128_GCM",
        }
    }

    /// The suite with a name, as clients write it.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name().eq_ignore_ascii_case(name))
    }

    /// Bytes of a master key with its salt.
    #[must_use]
    pub fn master_bytes(self) -> usize {
        KEY_BYTES + self.salt_bytes()
    }

    /// Bytes of a salt.
    pub(in crate::rtp::srtp) fn salt_bytes(self) -> usize {
        match self {
            Self::AesCm128Sha1Tag80 | Self::AesCm128Sha1Tag32 => 14,
            Self::Aes128Gcm => 12,
        }
    }

    /// Bytes that an RTP packet grows by.
    #[must_use]
    pub fn rtp_tag_bytes(self) -> usize {
        match self {
            Self::AesCm128Sha1Tag80 => 10,
            Self::AesCm128Sha1Tag32 => 4,
            Self::Aes128Gcm => 16,
        }
    }

    /// Bytes of the tag of an RTCP packet, which grows by its index, too.
    #[must_use]
    pub fn rtcp_tag_bytes(self) -> usize {
        match self {
            Self::AesCm128Sha1Tag80 | Self::AesCm128Sha1Tag32 => 10,
            Self::Aes128Gcm => 16,
        }
    }
}

/// Most SSRCs of one context: a stream and its retransmissions, with a few changes of either.
pub const SOURCES_MAX: usize = 8;

/// Bytes of an AES-128 key.
const KEY_BYTES: usize = 16;
/// Bytes of the index behind an RTCP packet, with the flag that it is encrypted.
const RTCP_INDEX_BYTES: usize = 4;
/// Bytes of an RTCP packet that are sent in the clear: the first header and the SSRC.
const RTCP_CLEAR_BYTES: usize = 8;

#[cfg(test)]
mod tests;

//! Hashes that WebDAV clients know: checked while an upload comes in, told again by `oc:checksums`.
//!
//! Of an upload with a SHA-1, MD5 is made too: rclone sends the one and asks for the other, as with
//! ownCloud. Bound: hashes are made beside BLAKE3 only when the client names one.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha1::{Digest as _, Sha1};
use sha2::{Digest as _, Sha256};

/// Kind of a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `MD5` of `OC-Checksum`.
    Md5,
    /// `SHA1` of `OC-Checksum`.
    Sha1,
    /// `SHA256` of `OC-Checksum`, `sha-256` of `Repr-Digest`.
    Sha256,
}

/// A hash of a whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checksum {
    kind: Kind,
    bytes: Vec<u8>,
}

/// A hash in the making.
#[derive(Debug, Clone)]
pub(super) enum Hasher {
    /// MD5.
    Md5(Md5),
    /// SHA-1.
    Sha1(Sha1),
    /// SHA-256.
    Sha256(Sha256),
}

impl Kind {
    /// By its name in `OC-Checksum`; `None` for kinds that are not known.
    pub(super) fn of_owncloud(name: &str) -> Option<Self> {
        match name.to_ascii_uppercase().as_str() {
            "MD5" => Some(Self::Md5),
            "SHA1" => Some(Self::Sha1),
            "SHA256" => Some(Self::Sha256),
            _ => None,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// Starts what an upload with such a hash needs; the first is of this kind.
    pub(super) fn hashers(self) -> Vec<Hasher> {
        match self {
            Self::Md5 | Self::Sha256 => vec![self.hasher()],
            Self::Sha1 => vec![self.hasher(), Self::Md5.hasher()],
        }
    }

    fn hasher(self) -> Hasher {
        match self {
            Self::Md5 => Hasher::Md5(Md5::new()),
            Self::Sha1 => Hasher::Sha1(Sha1::new()),
            Self::Sha256 => Hasher::Sha256(Sha256::new()),
        }
    }
}

impl Checksum {
    /// `None` when the text is no hash of this kind.
    pub(super) fn of_hex(kind: Kind, hex: &str) -> Option<Self> {
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pairs = hex.as_bytes().chunks(2);
        let byte = |pair: &[u8]| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        };
        let bytes: Vec<u8> = pairs.map(byte).collect::<Option<_>>()?;
        (bytes.len() == kind.bytes()).then_some(Self { kind, bytes })
    }

    /// `None` when the text is no hash of this kind.
    pub(super) fn of_base64(kind: Kind, text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        (bytes.len() == kind.bytes()).then_some(Self { kind, bytes })
    }

    /// Its kind.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }
}

/// As ownCloud writes it: `SHA1:0a..`.
impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.kind.name())?;
        self.bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Hasher {
    /// The next bytes of the file.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(hash) => hash.update(bytes),
            Self::Sha1(hash) => hash.update(bytes),
            Self::Sha256(hash) => hash.update(bytes),
        }
    }

    /// The hash of all bytes.
    pub(super) fn finish(self) -> Checksum {
        match self {
            Self::Md5(hash) => Checksum { kind: Kind::Md5, bytes: hash.finalize().to_vec() },
            Self::Sha1(hash) => Checksum { kind: Kind::Sha1, bytes: hash.finalize().to_vec() },
            Self::Sha256(hash) => Checksum { kind: Kind::Sha256, bytes: hash.finalize().to_vec() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_of_abc_is_the_one_of_its_standard() {
        let hashes = [Kind::Md5, Kind::Sha1, Kind::Sha256].map(|kind| {
            let mut hasher = kind.hasher();
            hasher.update(b"a");
            hasher.update(b"bc");
            hasher.finish().to_string()
        });
        assert_eq!(
            hashes,
            [
                "MD5:900150983cd24fb0d6963f7d28e17f72",
                "SHA1:a9993e364706816aba3e25717850c26c9cd0d89d",
                "SHA256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ]
        );
    }

    #[test]
    fn text_of_another_length_or_form_is_no_hash() {
        let hex = "900150983CD24fb0d6963f7d28e17f72";
        let hash = Checksum::of_hex(Kind::Md5, hex).unwrap();
        assert_eq!(hash.to_string(), format!("MD5:{}", hex.to_lowercase()));
        for bad in ["", "9", "90015098", &hex[1..], &hex.replace('9', "x")] {
            assert_eq!(Checksum::of_hex(Kind::Md5, bad), None, "{bad}");
        }
        assert_eq!(Checksum::of_base64(Kind::Sha256, "AA=="), None);
    }
}

//! The arithmetic of Digest (RFC 7616 s3.4; RFC 2617 s3.2.2; RFC 2069 s2.1.2).

use std::fmt::Write as _;

use md5::{Digest as _, Md5};
use sha2::Sha256;

/// Hash of a Digest challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DigestAlgorithm {
    /// What every player knows.
    Md5,
    /// FFmpeg cannot, and takes the last challenge (client rule C11): offer MD5 behind it.
    Sha256,
}

impl DigestAlgorithm {
    /// As in `algorithm=`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    /// From `algorithm=`; the `-sess` variants are not offered and so not known.
    pub(super) fn from_token(token: &str) -> Option<Self> {
        [Self::Md5, Self::Sha256]
            .into_iter()
            .find(|known| token.eq_ignore_ascii_case(known.as_str()))
    }

    /// Hash of name, realm and password: all that Digest needs to know of a password.
    #[must_use]
    pub fn ha1(self, user: &str, realm: &str, password: &str) -> String {
        self.hash(&[user, realm, password])
    }

    /// Hash of parts joined by colons, in lower-case hexadecimal digits.
    pub(super) fn hash(self, parts: &[&str]) -> String {
        let text = parts.join(":");
        match self {
            Self::Md5 => hex(&Md5::digest(text)),
            Self::Sha256 => hex(&Sha256::digest(text)),
        }
    }
}

/// What a client's answer is made from, apart from name and password.
#[derive(Debug, Clone, Copy)]
pub(super) struct DigestInput<'a> {
    pub(super) algorithm: DigestAlgorithm,
    pub(super) nonce: &'a str,
    pub(super) method: &'a str,
    pub(super) uri: &'a str,
    /// `nc` and `cnonce`, where the answer has `qop=auth`; without it is RFC 2069's.
    pub(super) auth: Option<(&'a str, &'a str)>,
}

/// `response=` as it has to be; `ha1` is that of the user.
pub(super) fn response(input: &DigestInput<'_>, ha1: &str) -> String {
    let DigestInput { algorithm, nonce, method, uri, auth } = *input;
    let a2 = algorithm.hash(&[method, uri]);
    match auth {
        Some((nc, cnonce)) => algorithm.hash(&[ha1, nonce, nc, cnonce, "auth", &a2]),
        None => algorithm.hash(&[ha1, nonce, &a2]),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616 s3.9.1.
    #[test]
    fn examples_of_the_rfc_come_out() {
        let input = |algorithm| DigestInput {
            algorithm,
            nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
            method: "GET",
            uri: "/dir/index.html",
            auth: Some(("00000001", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ")),
        };
        let answer = |algorithm: DigestAlgorithm| {
            let ha1 = algorithm.ha1("Mufasa", "http-auth@example.org", "Circle of Life");
            response(&input(algorithm), &ha1)
        };
        assert_eq!(answer(DigestAlgorithm::Md5), "8ca523f5e9506fed4657c9700eebdbec");
        assert_eq!(
            answer(DigestAlgorithm::Sha256),
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
        );
    }
}

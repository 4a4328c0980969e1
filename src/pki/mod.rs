//! Certificates: the CA of a base, what it signs, and who trusts it.
//!
//! ```text
//! Authority (base) --signs--> certificate of the base     names: its addresses and host names
//!                  '--------> certificates of nodes       for the key that signs their receipts
//! token~fingerprint --Trust::Pin--> the base, at the first contact of a node or a client
//! ```
//! - [`authority`]: the CA and requests to it. [`certificate`]: what a certificate says.
//! - [`credentials`]: a certificate with its key, which may be changed while connections are made.
//! - [`trust`]: which servers a client believes. [`tls`]: settings of servers and clients.
//! - [`fault`]: what a failed handshake means, for people.
//! - [`serving`]: the certificate of the RTSPS port. [`camera`]: whom to believe among cameras.
//! - [`stream`]: TLS of one RTSP connection, as plain code. [`kernel`]: its keys for the kernel.
//!
//! A node has one name for TLS, [`host_of`]: its address does not matter to who checks it. The key
//! of its certificate is its Ed25519 key, so a request for a certificate proves that whoever says
//! hello is the node that signs under this key.
//! Invariants: private keys are shown by nothing here but [`authority::Authority::to_secret_pem`];
//! a certificate of a node is never one of the base, and a CA of one base is none of another.
//! The provider of ciphers is ring.

pub mod authority;
pub mod camera;
pub mod certificate;
pub mod credentials;
pub mod fault;
pub mod kernel;
pub mod serving;
pub mod stream;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod trust;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};

use crate::dist::ids::NodeName;
use crate::dist::token::Fingerprint;

/// A certificate or a key is not what is needed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PkiError {
    /// Text has no certificate.
    #[error("no certificate (PEM) is in it")]
    NoCertificate,
    /// Text has no private key.
    #[error("no private key (PEM) is in it")]
    NoKey,
    /// The key is not that of the certificate.
    #[error("the key is not that of the certificate")]
    OtherKey,
    /// Text is no request for a certificate that its own key has signed.
    #[error("not a certificate request that is signed by its key")]
    BadRequest,
    /// A name cannot stand in a certificate.
    #[error("`{0}` is neither a host name nor an address")]
    BadName(String),
    /// It cannot be made.
    #[error("no certificate can be made: {0}")]
    Unmade(String),
    /// It cannot be used.
    #[error("a certificate cannot be used: {0}")]
    Unusable(String),
}

/// The name that the certificate of a node has, as that of a host. Names of nodes may have
/// characters that hosts may not, so it is made of their BLAKE3.
#[must_use]
pub fn host_of(node: &NodeName) -> String {
    let hash = blake3::hash(node.as_str().as_bytes()).to_hex();
    format!("{}{NODE_DOMAIN}", &hash[..HASH_DIGITS])
}

/// SHA-256 of a certificate.
#[must_use]
pub fn fingerprint_of(certificate: &CertificateDer<'_>) -> Fingerprint {
    Fingerprint(Sha256::digest(certificate.as_ref()).into())
}

/// Ciphers, by ring.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A domain that is nobody's: `internal` is kept for private use (ICANN, 2024).
const NODE_DOMAIN: &str = ".node.headend.internal";
/// 128 bits.
const HASH_DIGITS: usize = 32;

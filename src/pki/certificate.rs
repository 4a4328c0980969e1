//! What a certificate says: whose it is, and until when it counts.

use rustls::pki_types::CertificateDer;
use x509_parser::parse_x509_certificate;

use crate::dist::ids::NodeName;

/// A certificate of a node, signed by the CA that the connection was checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCertificate {
    /// The node.
    pub node: NodeName,
    /// UTC seconds; from then on it does not count.
    pub not_after_s: i64,
}

impl NodeCertificate {
    /// Reads a certificate whose signature was checked. `None` when it is not that of a node.
    #[must_use]
    pub fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = parse_x509_certificate(certificate).ok()?;
        let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
        let node = NodeName::new(name).ok()?;
        Some(Self { node, not_after_s: parsed.validity().not_after.timestamp() })
    }

    /// Whether it still counts.
    #[must_use]
    pub fn counts_at(&self, now_s: i64) -> bool {
        now_s <= self.not_after_s
    }
}

/// Bytes of the public key of a certificate.
pub(super) fn key_of(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    Some(parsed.public_key().subject_public_key.data.to_vec())
}

//! A certificate with its key, as it is now: connections that are made later show a newer one.

use std::sync::{Arc, PoisonError, RwLock};

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{PkiError, provider};
use crate::dist::keys::NodeKeys;

/// What is shown to the other side of a connection; nothing yet, or a certificate.
#[derive(Debug, Default)]
pub struct Credentials(RwLock<Option<Arc<CertifiedKey>>>);

impl Credentials {
    /// Shown from the next connection on.
    pub fn replace(&self, key: CertifiedKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(key));
    }

    fn current(&self) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Credentials {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current()
    }
}

impl ResolvesClientCert for Credentials {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.current()
    }

    fn has_certs(&self) -> bool {
        self.current().is_some()
    }
}

/// A certificate for connections whose other side knows its fingerprint (DTLS of WebRTC), and its
/// key: ECDSA on P-256, both DER.
///
/// # Errors
/// `Unmade`.
pub fn peer_certificate() -> Result<(Vec<u8>, Vec<u8>), PkiError> {
    let unmade = |error: rcgen::Error| PkiError::Unmade(error.to_string());
    let key = KeyPair::generate().map_err(unmade)?;
    let made = CertificateParams::default().self_signed(&key).map_err(unmade)?;
    Ok((made.der().to_vec(), key.serialize_der()))
}

/// The request of a node for a certificate, as PEM.
///
/// # Errors
/// `Unmade`.
pub fn node_request(keys: &NodeKeys) -> Result<String, PkiError> {
    let unmade = |error: rcgen::Error| PkiError::Unmade(error.to_string());
    let der = PrivatePkcs8KeyDer::from(keys.to_pkcs8());
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519).map_err(unmade)?;
    let request = CertificateParams::default().serialize_request(&key).map_err(unmade)?;
    request.pem().map_err(unmade)
}

/// The certificate that a node was given, with its key.
///
/// # Errors
/// Text has no certificate; the certificate is for another key.
pub fn node_credentials(keys: &NodeKeys, certificate: &str) -> Result<CertifiedKey, PkiError> {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes());
    let certificate = certificate.map_err(|_| PkiError::NoCertificate)?;
    let key = PrivatePkcs8KeyDer::from(keys.to_pkcs8());
    CertifiedKey::from_der(vec![certificate], key.into(), &provider()).map_err(
        |error| match error {
            rustls::Error::InconsistentKeys(_) => PkiError::OtherKey,
            other => PkiError::Unusable(other.to_string()),
        },
    )
}

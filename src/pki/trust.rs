//! Which servers a client believes: those of a CA that it has, or of the one with a fingerprint.
//!
//! Invariant: a server is believed only when its certificate is signed by the CA, counts now, and
//! has the name that was asked for. A fingerprint says only which certificate the CA's is.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::{PkiError, fingerprint_of, provider};
use crate::dist::token::Fingerprint;

/// What a client goes by.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Certificates of CAs.
    Roots(Vec<CertificateDer<'static>>),
    /// The fingerprint of one, whose certificate the server shows along with its own.
    Pin(Pin),
}

/// A fingerprint, and the certificate that turned out to have it.
#[derive(Debug, Clone)]
pub struct Pin {
    fingerprint: Fingerprint,
    found: Arc<OnceLock<CertificateDer<'static>>>,
}

/// The server is one of another CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its CA is not the one with the fingerprint {wanted}")]
pub struct OtherAuthority {
    /// The fingerprint that was expected.
    pub wanted: Fingerprint,
}

impl Trust {
    /// The CA with this fingerprint.
    #[must_use]
    pub fn pin(fingerprint: Fingerprint) -> Self {
        Self::Pin(Pin { fingerprint, found: Arc::default() })
    }

    /// The CAs of a file (PEM).
    ///
    /// # Errors
    /// `NoCertificate`; `Unusable` for one that is damaged.
    pub fn from_pem(text: &str) -> Result<Self, PkiError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        let found = found.map_err(|error| PkiError::Unusable(error.to_string()))?;
        if found.is_empty() {
            return Err(PkiError::NoCertificate);
        }
        let trust = Self::Roots(found);
        trust.roots()?;
        Ok(trust)
    }

    /// Those of these certificates that can be used: a machine has some that cannot.
    #[must_use]
    pub fn usable(found: Vec<CertificateDer<'static>>) -> Self {
        let is_usable =
            |one: &CertificateDer<'static>| RootCertStore::empty().add(one.clone()).is_ok();
        Self::Roots(found.into_iter().filter(is_usable).collect())
    }

    /// Certificates of CAs that are known by now.
    #[must_use]
    pub fn authorities(&self) -> &[CertificateDer<'static>] {
        match self {
            Self::Roots(roots) => roots,
            Self::Pin(pin) => pin.found.get().map_or(&[], std::slice::from_ref),
        }
    }

    /// Whether this CA is believed.
    #[must_use]
    pub fn includes(&self, authority: &CertificateDer<'_>) -> bool {
        match self {
            Self::Roots(roots) => roots.contains(authority),
            Self::Pin(pin) => fingerprint_of(authority) == pin.fingerprint,
        }
    }

    pub(super) fn roots(&self) -> Result<RootCertStore, PkiError> {
        let mut roots = RootCertStore::empty();
        for authority in self.authorities() {
            let added = roots.add(authority.clone());
            added.map_err(|error| PkiError::Unusable(error.to_string()))?;
        }
        Ok(roots)
    }
}

impl Pin {
    /// The CA among what the server shows.
    fn find<'c>(&self, shown: &'c [CertificateDer<'_>]) -> Result<&'c CertificateDer<'c>, Error> {
        let wanted = self.fingerprint;
        let found = shown.iter().find(|one| fingerprint_of(one) == wanted);
        found.ok_or_else(|| {
            let error = OtherError(Arc::new(OtherAuthority { wanted }));
            Error::InvalidCertificate(CertificateError::Other(error))
        })
    }
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = self.find(intermediates)?.clone().into_owned();
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone())?;
        let shown = ParsedCertificate::try_from(end_entity)?;
        let ciphers = algorithms().all;
        verify_server_cert_signed_by_trust_anchor(&shown, &roots, intermediates, now, ciphers)?;
        verify_server_name(&shown, server_name)?;
        let _known = self.found.set(authority);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

pub(super) fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

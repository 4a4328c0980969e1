//! TLS to cameras: whom to believe, and what is wrong with a camera that is not believed.
//!
//! ```text
//! source_tls = "verify"        its certificate is one of a CA of this machine, with the URL's host
//!              "sha256:AB.."   its certificate has this fingerprint; names and times do not matter
//!              "off"           anyone is believed: the connection is only secret
//! ```
//! Cameras have certificates that they signed themselves, as a rule. So what is said of one that is
//! not believed has its fingerprint, which can be compared with what the camera shows and pinned.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use super::serving::hex;
use super::trust::algorithms;
use super::{PkiError, fingerprint_of, provider};
use crate::config::source::SourceTls;

/// Settings of TLS for connections to cameras.
#[derive(Clone)]
pub struct CameraTls(Arc<ClientConfig>);

/// CAs of this machine, by which cameras are verified.
#[derive(Debug, Clone)]
pub struct CameraRoots(Arc<RootCertStore>);

/// A camera is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CameraTrustError {
    /// No CA of this machine, or another name, or out of time.
    #[error(
        "its certificate is not believed ({why}); if it is the camera's own, pin it: \
         source_tls = \"sha256:{fingerprint}\""
    )]
    Unverified {
        /// What is wrong.
        why: String,
        /// Of the certificate that it showed.
        fingerprint: String,
    },
    /// Another certificate than the pinned one.
    #[error("its certificate has the fingerprint sha256:{fingerprint}, not that of source_tls")]
    OtherPin {
        /// Of the certificate that it showed.
        fingerprint: String,
    },
}

impl CameraTrustError {
    /// The one behind an error of rustls.
    pub(super) fn find(why: &CertificateError) -> Option<&Self> {
        let CertificateError::Other(other) = why else { return None };
        other.0.downcast_ref()
    }
}

impl Default for CameraRoots {
    fn default() -> Self {
        Self(Arc::new(RootCertStore::empty()))
    }
}

impl CameraRoots {
    /// Those of `found` that can be used: a machine has some that cannot.
    #[must_use]
    pub fn new(found: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found);
        Self(Arc::new(roots))
    }
}

impl CameraTls {
    /// Settings for a camera that is believed by `trust`.
    ///
    /// # Errors
    /// `Unusable`: this machine has no CA to verify by.
    pub fn new(trust: SourceTls, roots: &CameraRoots) -> Result<Self, PkiError> {
        let unusable = |error: &dyn fmt::Display| PkiError::Unusable(error.to_string());
        let verifier = match trust {
            SourceTls::Verify => {
                let built =
                    WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots.0), provider());
                let built = built.build();
                Verifier::Roots(built.map_err(|error| unusable(&error))?)
            }
            SourceTls::Pinned(pin) => Verifier::Pin(pin),
            SourceTls::Off => Verifier::Nobody,
        };
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| unusable(&error))?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = builder.with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }

    pub(super) fn config(&self) -> &Arc<ClientConfig> {
        &self.0
    }
}

impl fmt::Debug for CameraTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CameraTls").finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Verifier {
    Roots(Arc<WebPkiServerVerifier>),
    Pin([u8; 32]),
    Nobody,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = fingerprint_of(end_entity).0;
        let refused = |why: CameraTrustError| {
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
        };
        match self {
            Self::Roots(roots) => roots
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map_err(|error| {
                    let why = match &error {
                        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                            "no CA of this machine has signed it".to_owned()
                        }
                        Error::InvalidCertificate(why) => why.to_string(),
                        other => other.to_string(),
                    };
                    refused(CameraTrustError::Unverified { why, fingerprint: hex(&shown) })
                }),
            Self::Pin(pin) if *pin == shown => Ok(ServerCertVerified::assertion()),
            Self::Pin(_) => Err(refused(CameraTrustError::OtherPin { fingerprint: hex(&shown) })),
            Self::Nobody => Ok(ServerCertVerified::assertion()),
        }
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

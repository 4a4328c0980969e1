//! Settings of TLS for servers and clients. HTTP over it is HTTP/1.1.
//!
//! A base asks for a certificate and takes clients without one: they have tokens. A node's port for
//! peers takes nodes of its base only.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::credentials::Credentials;
use super::trust::Trust;
use super::{PkiError, provider};

/// Who may connect to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// Anyone; a certificate that is shown is one of the CA.
    Anyone,
    /// Whoever shows a certificate of the CA.
    Certified,
}

/// Settings of a server whose callers have certificates of `authority`.
///
/// # Errors
/// `Unusable`.
pub fn server(
    credentials: Arc<Credentials>,
    authority: &CertificateDer<'static>,
    callers: Callers,
) -> Result<Arc<ServerConfig>, PkiError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).map_err(unusable)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let verifier = match callers {
        Callers::Anyone => verifier.allow_unauthenticated(),
        Callers::Certified => verifier,
    };
    let builder = ServerConfig::builder_with_provider(provider());
    let mut config = builder
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_client_cert_verifier(verifier.build().map_err(unusable)?)
        .with_cert_resolver(credentials);
    config.alpn_protocols = vec![HTTP.to_vec()];
    Ok(Arc::new(config))
}

/// Settings of a client that believes the servers of `trust`, and shows what it has.
///
/// # Errors
/// `Unusable`.
pub fn client(
    trust: &Trust,
    credentials: Option<Arc<Credentials>>,
) -> Result<ClientConfig, PkiError> {
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?;
    let builder = match trust {
        Trust::Roots(_) => builder.with_root_certificates(trust.roots()?),
        Trust::Pin(pin) => {
            let verifier = Arc::new(pin.clone());
            builder.dangerous().with_custom_certificate_verifier(verifier)
        }
    };
    let mut config = match credentials {
        Some(credentials) => builder.with_client_cert_resolver(credentials),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![HTTP.to_vec()];
    Ok(config)
}

fn unusable(error: impl std::fmt::Display) -> PkiError {
    PkiError::Unusable(error.to_string())
}

const HTTP: &[u8] = b"http/1.1";

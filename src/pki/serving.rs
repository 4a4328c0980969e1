//! The certificate of the RTSPS port: read from files, or made here.
//!
//! ```text
//! certificate.pem, key.pem --read--> ServerIdentity: settings of TLS, until when it counts
//! names, now --self_signed--> both texts
//! ```
//! Sessions of TLS are not resumed: a table or a key of tickets would be shared by all shards, and
//! players make one connection. AES-128-GCM comes first: it costs least, and more wins nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::cipher_suite;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, SupportedCipherSuite};
use x509_parser::parse_x509_certificate;

use super::authority::self_signed_server;
use super::{PkiError, fingerprint_of, provider};

/// Settings of TLS for connections that are accepted.
#[derive(Clone)]
pub struct ServerTls(Arc<ServerConfig>);

/// A certificate with its key, ready to be shown.
#[derive(Debug, Clone)]
pub struct ServerIdentity {
    /// Settings with them.
    pub tls: ServerTls,
    /// UTC seconds; before, the certificate does not count.
    pub not_before_s: i64,
    /// UTC seconds; from then on it does not count.
    pub not_after_s: i64,
    /// SHA-256 of the certificate, in hexadecimal: what a client may pin.
    pub fingerprint: String,
}

/// A certificate that was made here, as texts (PEM).
pub struct SelfSigned {
    /// For everyone.
    pub certificate: String,
    /// For the server alone.
    pub key: String,
    /// SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
}

impl ServerIdentity {
    /// Reads a chain of certificates, that of the server first, and the key of that one.
    ///
    /// # Errors
    /// `NoCertificate`, `NoKey`, `OtherKey`, `Unusable`.
    pub fn read(certificate: &str, key: &str) -> Result<Self, PkiError> {
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
        let chain = chain.map_err(|error| PkiError::Unusable(error.to_string()))?;
        let Some(own) = chain.first().cloned() else { return Err(PkiError::NoCertificate) };
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| PkiError::NoKey)?;
        let (_, parsed) =
            parse_x509_certificate(&own).map_err(|error| PkiError::Unusable(error.to_string()))?;
        let validity = parsed.validity();
        let times = (validity.not_before.timestamp(), validity.not_after.timestamp());
        let certified = CertifiedKey::from_der(chain, key, &provider());
        let certified = certified.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => PkiError::OtherKey,
            other => PkiError::Unusable(other.to_string()),
        })?;
        let tls = ServerTls::new(certified)?;
        let fingerprint = hex(&fingerprint_of(&own).0);
        Ok(Self { tls, not_before_s: times.0, not_after_s: times.1, fingerprint })
    }

    /// What is to be known of when the certificate counts: a sentence, and nothing while all is
    /// well.
    #[must_use]
    pub fn complaint(&self, now_s: i64) -> Option<String> {
        let days = |seconds: i64| seconds.div_euclid(24 * 3_600);
        if now_s < self.not_before_s {
            let in_days = days(self.not_before_s - now_s);
            return Some(format!("counts only in {in_days} days; is the clock right?"));
        }
        match self.not_after_s - now_s {
            left if left < 0 => Some(format!("has expired {} days ago", days(-left))),
            left if left < SOON_S => Some(format!("expires in {} days", days(left))),
            _ => None,
        }
    }
}

impl ServerTls {
    fn new(key: CertifiedKey) -> Result<Self, PkiError> {
        let builder = ServerConfig::builder_with_provider(Arc::new(CryptoProvider {
            cipher_suites: CIPHERS.to_vec(),
            ..rustls::crypto::ring::default_provider()
        }));
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| PkiError::Unusable(error.to_string()))?;
        let resolver = Arc::new(SingleCertAndKey::from(key));
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.ignore_client_order = true;
        // For a kernel that encrypts.
        config.enable_secret_extraction = true;
        Ok(Self(Arc::new(config)))
    }

    pub(super) fn config(&self) -> &Arc<ServerConfig> {
        &self.0
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

impl SelfSigned {
    /// A certificate for these host names and addresses, which counts for `life` from now on.
    ///
    /// # Errors
    /// `BadName`; `Unmade` when the system has no random numbers.
    pub fn make(
        names: impl IntoIterator<Item = impl AsRef<str>>,
        now_s: i64,
        life: Duration,
    ) -> Result<Self, PkiError> {
        let (certificate, key) = self_signed_server(names, now_s, life)?;
        let der = CertificateDer::from_pem_slice(certificate.as_bytes());
        let der = der.map_err(|_| PkiError::NoCertificate)?;
        Ok(Self { certificate, key, fingerprint: hex(&fingerprint_of(&der).0) })
    }
}

impl fmt::Debug for SelfSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SelfSigned").field(&self.fingerprint).finish()
    }
}

/// Digits in lower case, two a byte.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(nibble.into(), 16));
        }
        text
    })
}

/// Best first.
const CIPHERS: [SupportedCipherSuite; 9] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];
/// Two weeks before its end somebody should know.
const SOON_S: i64 = 14 * 24 * 3_600;

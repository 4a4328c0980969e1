//! Why a handshake failed, as a sentence that says what to do.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

use super::trust::OtherAuthority;

/// Why the two sides of a connection do not believe each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    /// The other side shows a certificate of another CA.
    #[error(
        "its certificate is not one of the CA that the token or the CA file names: this is another \
         base, or the base has a new CA"
    )]
    OtherAuthority,
    /// The certificate has other names.
    #[error(
        "its certificate does not name {expected}: start the base with --host-name {expected}, or \
         reach it at one of: {presented}"
    )]
    OtherName {
        /// What was asked for.
        expected: String,
        /// What the certificate names.
        presented: String,
    },
    /// The certificate does not count any more.
    #[error("its certificate has expired; is the clock of this machine right?")]
    Expired,
    /// It does not count yet.
    #[error("its certificate is not valid yet; is the clock of this machine right?")]
    NotYet,
    /// The other side takes no part in TLS.
    #[error("it does not speak TLS: what runs with --insecure is asked by http://")]
    NoTls,
    /// The other side refuses what this one shows.
    #[error("it refuses the certificate of this side: {0}")]
    Refused(&'static str),
    /// Anything else.
    #[error("no TLS connection: {0}")]
    Other(String),
}

impl TlsFault {
    /// The fault among the causes of an error.
    #[must_use]
    pub fn find(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut cause = Some(error);
        // A chain of causes is short; this ends a circle.
        for _ in 0..CAUSES_MAX {
            let error = cause?;
            if let Some(found) = error.downcast_ref::<rustls::Error>() {
                return Some(Self::of(found));
            }
            // An error of I/O does not name its inner one as its cause.
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            if let Some(found) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                return Some(Self::of(found));
            }
            cause = match inner {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        None
    }

    /// What an error of TLS means.
    #[must_use]
    pub fn of(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(why) => Self::of_certificate(why, error),
            rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
                Self::NoTls
            }
            rustls::Error::AlertReceived(alert) => match alert {
                AlertDescription::CertificateRequired => Self::Refused("it wants one"),
                AlertDescription::CertificateExpired => Self::Refused("it has expired"),
                AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                    Self::Refused("it is not one of its CA")
                }
                AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
                    Self::Refused("it is not for this")
                }
                other => Self::Other(format!("the other side ends it ({other:?})")),
            },
            other => Self::Other(other.to_string()),
        }
    }

    fn of_certificate(why: &CertificateError, error: &rustls::Error) -> Self {
        match why {
            CertificateError::Other(other)
                if other.0.downcast_ref::<OtherAuthority>().is_some() =>
            {
                Self::OtherAuthority
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Self::OtherAuthority
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYet
            }
            CertificateError::NotValidForNameContext { expected, presented } => Self::OtherName {
                expected: expected.to_str().into_owned(),
                presented: presented.iter().map(|name| plain(name)).collect::<Vec<_>>().join(", "),
            },
            _ => Self::Other(error.to_string()),
        }
    }
}

/// `DnsName("a.example")` and `IpAddress(192.0.2.1)` as people write them.
fn plain(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

/// Layers of HTTP, TLS and I/O are fewer.
const CAUSES_MAX: usize = 16;

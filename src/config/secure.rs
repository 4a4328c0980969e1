//! RTSP over TLS and over HTTP: on which ports, with which certificate.
//!
//! ```text
//!  rtsp.tls.certificate = "/etc/headend/cert.pem"   without one there is no TLS
//!  rtsp.tls.key         = "/etc/headend/key.pem"    else it is in the certificate's file
//!  rtsp.tls.listen      = ["[::]:8322"]             as MediaMTX has it
//!  rtsp.http.listen     = []                        ports beside those of RTSP, which take tunnels
//!  rtsp.srtp            = "optional"                media is encrypted for clients that ask for it
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// RTSP over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Addresses of listeners, when there is a certificate.
    pub listen: Vec<SocketAddr>,
    /// File of the certificate and those that lead to its CA (PEM).
    pub certificate: Option<PathBuf>,
    /// File of its private key (PEM).
    pub key: Option<PathBuf>,
    /// Clients may ask for media by UDP, which nobody encrypts.
    pub plain_media: bool,
    /// The kernel encrypts, where it can.
    pub by_kernel: bool,
}

/// Whether media is encrypted (SRTP, RFC 3711). Keys are told over RTSPS alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SrtpMode {
    /// RTP/SAVP is refused.
    Off,
    /// Clients may ask for it.
    Optional,
    /// Nothing else is served or taken, and nothing over RTSP without TLS.
    Required,
}

impl SrtpMode {
    /// As in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }
}

/// RTSP over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Addresses of further listeners.
    pub listen: Vec<SocketAddr>,
    /// Tunnels at once on each shard; 0: none.
    pub tunnels_max: usize,
}

impl Default for TlsConfig {
    fn default() -> Self {
        let listen = vec![SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 8_322))];
        Self { listen, certificate: None, key: None, plain_media: false, by_kernel: false }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: Vec::new(), tunnels_max: 1_024 }
    }
}

impl TlsConfig {
    /// Files of certificate and key; `None`: there is no TLS.
    #[must_use]
    pub fn files(&self) -> Option<(&Path, &Path)> {
        let certificate = self.certificate.as_deref()?;
        Some((certificate, self.key.as_deref().unwrap_or(certificate)))
    }

    /// A sentence about what can have no effect.
    pub(super) fn warning(&self) -> Option<String> {
        (self.key.is_some() && self.certificate.is_none()).then(|| {
            "rtsp.tls.key is set and rtsp.tls.certificate is not: there is no RTSPS; \
             `headend cert self-signed` makes both files (HE-W115)"
                .to_owned()
        })
    }
}

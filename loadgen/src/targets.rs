//! Where URLs lead, before a run begins: what is played, and what is published.
//!
//! RFC 2326 s3.2: 554 is the port that is not named.

use crate::auth::redacted;
use crate::cli::{Options, SharedPorts};
use crate::net::publisher::Publishing;
use crate::run::RunError;
use rtsp_types::Url;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

const RTSP_PORT: u16 = 554;
/// IANA's for `rtsps`.
const RTSPS_PORT: u16 = 322;
/// Scheme of URLs whose connections have TLS.
pub const SECURE: &str = "rtsps";

/// A server and what is asked of it.
#[derive(Debug, Clone)]
pub struct Target {
    /// What is asked for.
    pub url: Url,
    /// Where that is.
    pub server: SocketAddr,
    /// Its clients are loopback addresses on shared ports.
    pub is_shared: bool,
}

impl Target {
    /// Name or address of the server, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default().trim_matches(['[', ']'])
    }
}

/// Publishes, if that is asked for, before anybody reads.
pub fn publish(options: &Options) -> Result<Option<Publishing>, RunError> {
    let Some(url) = &options.film.publish else { return Ok(None) };
    let server = target_from(url, SharedPorts::Off)?.server;
    let publishing = Publishing::start(&options.film, url, server, options.seed);
    let wrong = |failure| RunError::Publish { url: redacted(url.as_str()), failure };
    publishing.map(Some).map_err(wrong)
}

/// Where `url` leads, and how clients of that server are told apart.
pub fn target_from(url: &Url, shared: SharedPorts) -> Result<Target, RunError> {
    let unreachable = |reason| RunError::Unreachable { server: url.to_string(), reason };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let usual = if url.scheme() == SECURE { RTSPS_PORT } else { RTSP_PORT };
    let port = url.port().unwrap_or(usual);
    let mut found = (host, port).to_socket_addrs().map_err(|error| unreachable(error.kind()))?;
    let server = found.next().ok_or_else(|| unreachable(io::ErrorKind::NotFound))?;
    let is_loopback = server.is_ipv4() && server.ip().is_loopback();
    if shared == SharedPorts::On && !is_loopback {
        return Err(RunError::SharedPorts { server });
    }
    let is_shared = is_loopback && shared != SharedPorts::Off;
    Ok(Target { url: url.clone(), server, is_shared })
}

//! By what a client knows the base: a CA file, or the fingerprint that its token has.
//!
//! With a fingerprint the base is asked for the certificate of its CA first, in a handshake of its
//! own: the library that asks the API takes certificates only. Bound: `PATIENCE` for it.

use std::io::{self, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::super::node::ca_file;
use super::super::{Exit, Failure};
use crate::dist::token::Fingerprint;
use crate::pki::fault::TlsFault;
use crate::pki::trust::Trust;
use crate::pki::{provider, tls};

/// Settings of TLS for bases of one CA, by their URLs.
pub(super) fn tls_config(
    roots: &[String],
    fingerprint: Option<Fingerprint>,
    ca: Option<&Path>,
) -> Result<TlsConfig, Failure> {
    let mut secure = roots.iter().filter(|root| root.starts_with("https:")).peekable();
    let trust = match (secure.peek(), ca, fingerprint) {
        (None, ..) => Trust::Roots(Vec::new()),
        (Some(_), Some(file), _) => ca_file(file)?,
        (Some(_), None, Some(fingerprint)) => learn(secure, fingerprint)?,
        (Some(_), None, None) => return Err(Failure::usage(UNKNOWN)),
    };
    let roots: Vec<_> = trust.authorities().iter().map(|one| Certificate::from_der(one)).collect();
    let roots: Vec<_> = roots.into_iter().map(|one| one.to_owned()).collect();
    Ok(TlsConfig::builder()
        .unversioned_rustls_crypto_provider(provider())
        .root_certs(RootCerts::new_with_certs(&roots))
        .build())
}

/// The CA with this fingerprint, as the first base shows it that answers.
fn learn<'r>(
    roots: impl Iterator<Item = &'r String>,
    fingerprint: Fingerprint,
) -> Result<Trust, Failure> {
    let trust = Trust::pin(fingerprint);
    let mut refused = Failure::usage(UNKNOWN);
    for root in roots {
        let Err(error) = handshake(root, &trust) else { return Ok(trust) };
        refused = match TlsFault::find(&error) {
            Some(fault) => {
                let message = format!("the base at {root} is not trusted: {fault}");
                Failure { exit: Exit::Runtime, message }
            }
            None => {
                let message = format!("no answer from the base at {root}: {error}");
                Failure { exit: Exit::Unreachable, message }
            }
        };
    }
    Err(refused)
}

fn handshake(root: &str, trust: &Trust) -> io::Result<()> {
    let root: Uri = root.parse().map_err(io::Error::other)?;
    let host = root.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = root.port_u16().unwrap_or(HTTPS);
    let mut refused = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for addr in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&addr, PATIENCE) {
            Ok(stream) => return shake(stream, host, trust),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn shake(stream: TcpStream, host: &str, trust: &Trust) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let config = Arc::new(tls::client(trust, None).map_err(io::Error::other)?);
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    stream.conn.send_close_notify();
    stream.flush()
}

const UNKNOWN: &str = "nothing tells the right base: a token with the fingerprint of its CA is \
                       needed (TOKEN~FINGERPRINT, as the base prints it), or --ca FILE";
const HTTPS: u16 = 443;
const PATIENCE: Duration = Duration::from_secs(5);

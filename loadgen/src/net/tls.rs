//! TLS around a session's connection, where its URL is `rtsps://`.
//!
//! Who the server is does not matter to who measures it: any certificate will do.
//! Bound: what rustls holds of one record in each direction.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
use socket2::Socket;
use std::io::{self, Read, Write};
use std::sync::{Arc, OnceLock};

/// TLS of one connection.
#[derive(Debug)]
pub struct Tls(ClientConnection);

impl Tls {
    /// The client's side of a connection to `host`.
    pub fn new(host: &str) -> io::Result<Self> {
        static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        let config = Arc::clone(CONFIG.get_or_init(|| Arc::new(config())));
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        connection.set_buffer_limit(None);
        Ok(Self(connection))
    }

    /// Reads what the socket has, and hands over what it says. False: the server has closed.
    pub fn read(
        &mut self,
        mut socket: &Socket,
        buffer: &mut [u8],
        mut on: impl FnMut(&[u8]),
    ) -> io::Result<bool> {
        let length = socket.read(buffer)?;
        let mut bytes = buffer.get(..length).unwrap_or_default();
        while !bytes.is_empty() {
            self.0.read_tls(&mut bytes)?;
            let state = self.0.process_new_packets().map_err(io::Error::other)?;
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            self.0.reader().read_exact(&mut plain)?;
            on(&plain);
        }
        Ok(length > 0)
    }

    /// Writes `out`, once there are keys, as far as the socket takes it. True: more waits.
    pub fn write(&mut self, mut socket: &Socket, out: &mut Vec<u8>) -> io::Result<bool> {
        if !self.0.is_handshaking() {
            self.0.writer().write_all(out)?;
            out.clear();
        }
        while self.0.wants_write() {
            match self.0.write_tls(&mut socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

fn config() -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    // ring has all versions that rustls has.
    let builder = builder.with_safe_default_protocol_versions();
    #[expect(clippy::expect_used, reason = "a choice of the program, not of its input")]
    let builder = builder.expect("ring has the versions");
    builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone)).with_no_client_auth()
}

#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

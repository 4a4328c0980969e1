//! TLS of a shard's connections: settings, and handshakes that begin.
//!
//! Settings come with the start and by message, when a certificate is read again; connections that
//! were made before keep theirs. A handshake is handled as any received bytes are, within the
//! visits' share of a turn (`arrivals`), so a crowd of them keeps no pump from running. Bound:
//! `TLS_HANDSHAKES_MAX` of them under way; a connection beyond is closed and counted.

use std::net::SocketAddr;

use super::ring::kernel::Kernel;
use super::state::Shard;
use crate::base::limits::TLS_HANDSHAKES_MAX;
use crate::consumers::tls::Secured;
use crate::pki::camera::{CameraRoots, CameraTls};
use crate::pki::serving::ServerTls;
use crate::pki::stream::{FAILED_BY_LIMIT, TlsStream};
use crate::session::action::CameraSecurity;

/// What a shard needs of TLS.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// Of connections that are accepted; `None`: no port is for them.
    pub server: Option<ServerTls>,
    /// By which cameras are verified.
    pub roots: CameraRoots,
}

impl<K: Kernel> Shard<K> {
    /// Begins the handshake of a connection. `None`: there are too many, or no certificate.
    pub(super) fn begin_tls(&mut self, peer: SocketAddr) -> Option<Secured> {
        if self.cells.tls_handshakes_open.value() >= TLS_HANDSHAKES_MAX {
            self.cells.tls_handshakes_failed[FAILED_BY_LIMIT].add(1);
            let what = "a connection is closed: too many handshakes of TLS are under way";
            self.net.warnings.once("HE-W612", what, &peer);
            return None;
        }
        let stream = TlsStream::server(self.tls.server.as_ref()?);
        match stream {
            Ok(stream) => Some(Secured::new(stream, &self.cells)),
            Err(failure) => {
                self.net.warnings.once("HE-W613", "no TLS can be offered", &failure);
                None
            }
        }
    }

    /// Begins the handshake of a connection to a camera.
    pub(super) fn begin_camera_tls(&self, security: &CameraSecurity) -> Result<TlsStream, String> {
        let tls = CameraTls::new(security.trust, &self.tls.roots);
        let tls = tls.map_err(|error| {
            format!("this machine has no CA to verify it by ({error}): set source_tls")
        })?;
        TlsStream::client(&tls, &security.host).map_err(|failure| failure.to_string())
    }
}

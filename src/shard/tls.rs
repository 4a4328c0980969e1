//! TLS of a shard's connections: settings, and handshakes that begin.
//!
//! Settings come with the start and by message, when a certificate is read again; connections that
//! were made before keep theirs. A handshake is handled as any received bytes are, within the
//! visits' share of a turn (`arrivals`), so a crowd of them keeps no pump from running. Bound:
//! `limits.tls_handshakes_max` of them under way; one more ends the oldest (`places`).

use super::ring::kernel::Kernel;
use super::state::Shard;
use crate::base::addresses::AddressPlace;
use crate::consumers::tls::Secured;
use crate::pki::camera::{CameraRoots, CameraTls};
use crate::pki::serving::ServerTls;
use crate::pki::stream::TlsStream;
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
    /// Begins the handshake of a connection. `None`: there is no certificate.
    pub(super) fn begin_tls(&mut self, place: AddressPlace) -> Option<Secured> {
        let stream = TlsStream::server(self.tls.server.as_ref()?);
        match stream {
            Ok(stream) => Some(Secured::new(stream, place, &self.cells)),
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

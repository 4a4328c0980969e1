//! TLS of a shard's connections: settings, and handshakes that begin.
//!
//! Settings come with the start and by message, when a certificate is read again; connections that
//! were made before keep theirs. A handshake is handled as any received bytes are, within the
//! visits' share of a turn (`arrivals`), so a crowd of them keeps no pump from running. Bound:
//! `limits.tls_handshakes_max` of them under way; one more ends the oldest (`places`).

use std::io;

use super::ktls;
use super::ring::kernel::Kernel;
use super::state::Shard;
use crate::base::addresses::AddressPlace;
use crate::consumers::rtsp_connection::RtspConnection;
use crate::consumers::tls::Secured;
use crate::pki::camera::{CameraRoots, CameraTls};
use crate::pki::serving::ServerTls;
use crate::pki::stream::TlsStream;
use crate::poll::poll_table::EntryKey;
use crate::session::action::CameraSecurity;
use crate::session::directory::SessionRef;

/// What a shard needs of TLS.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// Of connections that are accepted; `None`: no port is for them.
    pub server: Option<ServerTls>,
    /// By which cameras are verified.
    pub roots: CameraRoots,
    /// Connections are handed to the kernel, which has TLS.
    pub by_kernel: bool,
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

    /// Hands the connection of a player to the kernel, where that is wanted and can be done: no
    /// receive and no send is under way, and no record is cut. A publisher's stays here, because
    /// its client may renew its keys, which the kernel does not take; one with SRTP too, because
    /// its packets are not sent as they are.
    pub(super) fn offer_to_kernel(&mut self, key: EntryKey) {
        let Some(connection) = self.net.entries.connection_mut(key) else { return };
        if connection.has_srtp() || !connection.tls_mut().is_some_and(|tls| tls.is_at_rest()) {
            return;
        }
        let sessions = self.sessions.cx.directory.of_connection(key);
        let plays = |session: &SessionRef| !matches!(session, SessionRef::Publisher(_));
        if sessions.is_empty() || !sessions.iter().all(plays) {
            return;
        }
        let Some(link) = self.net.entries.link(key) else { return };
        if link.is_sending || self.net.ring.is_receiving(link.slot) {
            return;
        }
        let Some(tls) = self.net.entries.connection_mut(key).and_then(RtspConnection::tls_mut)
        else {
            return;
        };
        let socket = self.net.ring.fd(link.slot);
        if let Err(error) = ktls::set_protocol(socket) {
            if error.raw_os_error() == Some(libc::ENOTCONN) {
                // The client has closed its side: that says nothing of the kernel.
                return;
            }
            // The kernel may have lost the module, or the process its leave to load it.
            self.tls.by_kernel = false;
            return self.net.warnings.once("HE-W618", KERNEL_REFUSES, &error);
        }
        let keys = tls.hand_over(&self.cells);
        let set = keys.ok_or_else(|| io::Error::other("its keys cannot be had"));
        if let Err(error) = set.and_then(|keys| ktls::set_keys(socket, &keys)) {
            self.tls.by_kernel = false;
            self.net.warnings.once("HE-W618", KERNEL_REFUSES, &error);
            return self.close(key);
        }
        self.net.ring.set_kernel_tls(link.slot);
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

const KERNEL_REFUSES: &str = "the kernel takes no TLS: connections are encrypted by the shard";

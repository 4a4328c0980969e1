//! TLS around an RTSP connection, with what is counted of it.
//!
//! ```text
//!  accepted --> Handshake --> Open (here) --keys--> Open (kernel) --> Over
//!                  `-- failed, timeout, closed ----^
//! ```
//! The bytes themselves are `pki::stream`'s. Invariant: a handshake and a connection are counted in
//! once and out once, however they end.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::addresses::AddressPlace;
use crate::metrics::cells::{ShardCells, TLS_WAYS};
use crate::pki::kernel::KernelKeys;
use crate::pki::stream::{FAILED_BY_CLOSE, Progress, TlsFailure, TlsStream};

/// TLS of a connection that was accepted.
#[derive(Debug)]
pub struct Secured {
    /// `None`: the kernel encrypts.
    stream: Option<TlsStream>,
    /// What came decrypted; kept for its storage.
    plain: Vec<u8>,
    phase: Phase,
    /// Among the handshakes of its address, as long as it is one.
    place: Option<AddressPlace>,
    cells: Arc<ShardCells>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Handshake,
    /// By the way at this place of `TLS_WAYS`.
    Open(usize),
    Over,
}

impl Secured {
    /// A handshake that begins.
    #[must_use]
    pub fn new(stream: TlsStream, place: AddressPlace, cells: &Arc<ShardCells>) -> Self {
        cells.tls_handshakes_open.add(1);
        let (stream, place, cells) = (Some(stream), Some(place), Arc::clone(cells));
        Self { stream, plain: Vec::new(), phase: Phase::Handshake, place, cells }
    }

    /// The handshake is under way.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.phase == Phase::Handshake
    }

    /// Bytes may be sealed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let is_here = |stream: &TlsStream| !stream.has_failed();
        matches!(self.phase, Phase::Open(_)) && self.stream.as_ref().is_some_and(is_here)
    }

    /// The client can be told something.
    #[must_use]
    pub fn can_send(&self) -> bool {
        self.is_open() || !self.is_here()
    }

    /// Bytes are encrypted here, not by the kernel.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.stream.is_some()
    }

    /// Records in and out; `None`: the kernel makes them.
    pub fn stream_mut(&mut self) -> Option<&mut TlsStream> {
        self.stream.as_mut()
    }

    /// Whether the kernel could go on from here.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.is_open() && self.stream.as_ref().is_some_and(TlsStream::is_at_rest)
    }

    /// The keys for the kernel, which encrypts from now on. `None`: the connection is of no use.
    pub fn hand_over(&mut self, cells: &ShardCells) -> Option<KernelKeys> {
        let keys = self.stream.take()?.into_keys();
        self.leave(cells);
        if keys.is_some() {
            self.phase = Phase::Open(KERNEL);
            cells.tls_connections[KERNEL].add(1);
        }
        keys
    }

    /// Takes bytes of the socket. What they say is in `plain` until the next call. `None`: there is
    /// no TLS any more, which is counted and logged.
    pub(super) fn handle_bytes(
        &mut self,
        bytes: &[u8],
        peer: SocketAddr,
        cells: &ShardCells,
    ) -> Option<Progress> {
        self.plain.clear();
        self.plain.shrink_to(PLAIN_KEPT_BYTES);
        let Some(stream) = &mut self.stream else { return None };
        match stream.handle_bytes(bytes, &mut self.plain) {
            Ok(progress) => {
                if progress.is_shaken {
                    self.leave(cells);
                    self.phase = Phase::Open(USER);
                    cells.tls_handshakes.add(1);
                    cells.tls_connections[USER].add(1);
                }
                Some(progress)
            }
            Err(failure) => {
                self.note_failure(&failure, peer, cells);
                None
            }
        }
    }

    /// What the last bytes said.
    pub(super) fn plain(&self) -> &[u8] {
        &self.plain
    }

    fn note_failure(&mut self, failure: &TlsFailure, peer: SocketAddr, cells: &ShardCells) {
        if self.is_handshaking() {
            cells.tls_handshakes_failed[failure.index()].add(1);
            tracing::info!(code = "HE-I605", %peer, reason = %failure, "no TLS with a client");
        } else {
            tracing::debug!(%peer, reason = %failure, "TLS with a client has ended");
        }
        self.leave(cells);
    }

    /// The handshake has failed for the reason at this place of `TLS_FAILURES`.
    pub fn fail(&mut self, reason: usize, cells: &ShardCells) {
        if self.is_handshaking() {
            cells.tls_handshakes_failed[reason].add(1);
            self.leave(cells);
        }
    }

    fn leave(&mut self, cells: &ShardCells) {
        self.place = None;
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Handshake => cells.tls_handshakes_open.sub(1),
            Phase::Open(way) => cells.tls_connections[way].sub(1),
            Phase::Over => {}
        }
    }
}

/// Whatever drops it, a panic too, it is counted out.
impl Drop for Secured {
    fn drop(&mut self) {
        let cells = Arc::clone(&self.cells);
        self.fail(FAILED_BY_CLOSE, &cells);
        self.leave(&cells);
    }
}

/// Place in `TLS_WAYS`.
const USER: usize = 0;
const KERNEL: usize = 1;
const _: () = assert!(TLS_WAYS.len() == 2);
/// Requests are shorter; a publisher's records of 16 KiB are worth the allocation.
const PLAIN_KEPT_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::addresses::Addresses;
    use crate::config::source::SourceTls;
    use crate::pki::camera::{CameraRoots, CameraTls};

    #[test]
    fn handshake_that_a_panic_ends_is_counted_out() {
        let cells = Arc::<ShardCells>::default();
        let addresses = Addresses::sharing(4);
        let trust = CameraTls::new(SourceTls::Off, &CameraRoots::default()).unwrap();
        let stream = TlsStream::client(&trust, "localhost").unwrap();
        let place = addresses.enter([192, 0, 2, 1].into()).unwrap();
        let secured = Secured::new(stream, place, &cells);
        assert_eq!((cells.tls_handshakes_open.value(), addresses.counted()), (1, 1));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _taken_out = secured;
            panic!("while a request of it is handled");
        }));
        assert!(panicked.is_err());
        assert_eq!((cells.tls_handshakes_open.value(), addresses.counted()), (0, 0));
        assert_eq!(cells.tls_handshakes_failed[FAILED_BY_CLOSE].value(), 1);
    }
}

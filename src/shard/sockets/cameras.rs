//! Connections to cameras, from which sources are pulled.
//!
//! ```text
//!  Connect --> socket, file, row, connect --Connected--> consumer --Write--> one send at a time
//! ```
//! Invariants: each `Connect` ends in a row of the table or in a refusal to the source. As in
//! `send::tcp`, at most one send is in flight on a connection.

use std::io;
use std::net::SocketAddr;

use super::open::unmapped;
use crate::base::ids::CameraName;
use crate::consumers::Consumer;
use crate::consumers::camera::Camera;
use crate::consumers::sessions::Sessions;
use crate::pki::stream::TlsStream;
use crate::poll::consumer::Event;
use crate::poll::poll_table::EntryKey;
use crate::session::action::CameraSecurity;
use crate::shard::entries::Link;
use crate::shard::network::Network;
use crate::shard::ring::kernel::Kernel;
use crate::shard::send::sink::NO_RUN;
use crate::shard::state::Shard;

impl<K: Kernel> Shard<K> {
    /// Begins to connect to a camera.
    pub(in crate::shard) fn connect_camera(
        &mut self,
        camera: CameraName,
        to: SocketAddr,
        security: Option<CameraSecurity>,
    ) {
        let to = unmapped(to);
        let tls = security.map(|security| self.begin_camera_tls(&security)).transpose();
        let refused = match tls.and_then(|tls| self.net.enter_camera(camera, to, tls)) {
            Ok(key) if self.sessions.live.sources.handle_camera_opened(camera, key) => {
                let Some(link) = self.net.entries.link(key) else { return };
                self.cells.connections.add(1);
                if self.net.ring.start_connect(link.slot, to, key.index) {
                    return;
                }
                self.close(key);
                "its socket is gone".to_owned()
            }
            Ok(key) => {
                // The source has ended meanwhile.
                self.cells.connections.add(1);
                self.close(key);
                return;
            }
            Err(why) => why,
        };
        self.sessions.live.sources.handle_camera_connected(
            &mut self.sessions.cx,
            &mut self.sessions.live.hub,
            camera,
            Err(&refused),
        );
    }

    /// Tells the consumer of a connection that its connect has ended.
    pub(in crate::shard) fn handle_connected(&mut self, token: u32, result: io::Result<()>) {
        let Some(key) = self.net.entries.table.key_at(token) else { return };
        let Some(link) = self.net.entries.link(key) else { return };
        let ring = &self.net.ring;
        let local = result.and_then(|()| ring.kernel().local_addr(ring.fd(link.slot)));
        self.dispatch(key, Event::Connected(local.map(|local| local.ip())));
    }

    /// Sends from the output of a camera.
    pub(in crate::shard) fn flush_camera(&mut self, key: EntryKey) {
        let Some(link) = self.net.entries.link(key) else { return };
        let Some(camera) = self.net.entries.camera_mut(key) else { return };
        if camera.has_nothing_to_send() {
            if camera.is_closing() {
                self.close(key);
            }
            return;
        }
        if !camera.is_connected() {
            return;
        }
        if camera.has_tls() {
            return self.flush_secure_camera(key, link);
        }
        let Some(mut send) = self.net.ring.start_stream_send(link.slot, key.index) else { return };
        let chunk = camera.output().len().min(OUTPUT_CHUNK_BYTES);
        let taken = camera.output().get(..chunk).filter(|bytes| send.push_bytes(bytes));
        let taken = taken.map_or(0, <[u8]>::len);
        send.submit();
        camera.consume_output(taken);
        let has_more = camera.is_closing() || !camera.output().is_empty();
        if let Some(link) = self.net.entries.link_mut(key) {
            (link.is_sending, link.has_more) = (taken > 0, has_more);
        }
    }
}

impl<K: Kernel> Shard<K> {
    /// As `flush_camera`, on a connection with TLS.
    fn flush_secure_camera(&mut self, key: EntryKey, link: Link) {
        let Network { ring, entries, .. } = &mut self.net;
        let Some(camera) = entries.camera_mut(key) else { return };
        let Some(mut send) = ring.start_stream_send(link.slot, key.index) else { return };
        self.cells.tls_bytes_encrypted.add(camera.seal(OUTPUT_CHUNK_BYTES) as u64);
        let Some(stream) = camera.tls_mut() else { return };
        let mut taken = 0;
        for chunk in stream.output().chunks(OUTPUT_CHUNK_BYTES) {
            if !send.push_bytes(chunk) {
                break;
            }
            taken += chunk.len();
        }
        stream.consume_output(taken);
        let is_sending = !send.is_empty();
        send.submit();
        let has_more = camera.is_closing() || !camera.has_nothing_to_send();
        if let Some(link) = self.net.entries.link_mut(key) {
            (link.is_sending, link.has_more) = (is_sending, has_more);
        }
    }
}

impl<K: Kernel> Network<K> {
    fn enter_camera(
        &mut self,
        camera: CameraName,
        to: SocketAddr,
        tls: Option<TlsStream>,
    ) -> Result<EntryKey, String> {
        let socket = self.ring.kernel().stream_to(to).map_err(|error| error.to_string())?;
        let consumer = Consumer::Camera(Box::new(Camera::new(camera, tls)));
        let entered = self.entries.install(&mut self.ring, consumer, socket);
        entered.map(|(key, _)| key).map_err(|(_, error)| error.to_string())
    }

    /// Appends to the output of a camera.
    pub(in crate::shard) fn write_to_camera(&mut self, key: EntryKey, bytes: &[u8]) {
        if let Some(camera) = self.entries.camera_mut(key) {
            camera.push(bytes);
            self.entries.mark_dirty(key);
        }
    }

    /// Opens another pair for a source that is pulled.
    pub(in crate::shard) fn open_pair_for(
        &mut self,
        sessions: &mut Sessions,
        source: u32,
        track: u8,
    ) {
        // The source looks for a free pair either way, and goes on without one.
        let own = self.id;
        self.add_free_pair(sessions, own);
        sessions.live.sources.handle_pull_pair(
            &mut sessions.cx,
            &mut sessions.live.hub,
            source,
            track,
        );
    }

    /// Sends an empty packet to each address from which packets will come, so that NATs and
    /// firewalls in between let those packets through (RFC 4961).
    pub(in crate::shard) fn punch_nat(&mut self, pair: u16, rtp: SocketAddr, rtcp: SocketAddr) {
        let Some(sockets) = self.pairs.get(pair) else { return };
        let packets = [(sockets.rtp, rtp, EMPTY_RTP), (sockets.rtcp, rtcp, EMPTY_RTCP)];
        for (socket, to, bytes) in packets {
            // Best effort: without a NAT or firewall, packets come all the same.
            if to.port() != 0 {
                let to = sockets.address_of(to);
                let _sent = self.ring.send_datagram(socket, to, bytes, NO_RUN);
            }
        }
    }
}

/// An RTP header without payload.
const EMPTY_RTP: &[u8] = &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// A receiver report without blocks.
const EMPTY_RTCP: &[u8] = &[0x80, 201, 0, 1, 0, 0, 0, 0];
/// Bytes that one send copies at most.
const OUTPUT_CHUNK_BYTES: usize = 16 << 10;

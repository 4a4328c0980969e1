//! How a connection begins, and how each of its requests does: what strangers can draw out.
//!
//! ```text
//!  accepted --first byte .. first whole request--> open
//!     |  half open: counted, and ended when it takes too long, or as the oldest of too many
//!     `--a request that has begun--> due within `limits.request_timeout`, without a session
//! ```
//! A session bounds its connection by the session timeout instead: a publisher whose network stalls
//! in the middle of a frame is no stranger.
//!
//! Invariants: a connection is counted as half open until its first request, or until it is known
//! to be half of a tunnel that is open; its unfinished bytes are counted until it is dropped.
//! Bounds: `limits.half_open_max`, which the shard sees to; `limits.requests_held`, and the share
//! of an address in it, seen to here.

use std::sync::Arc;
use std::time::Duration;

use super::{Disposition, RtspConnection};
use crate::base::addresses::AddressPlace;
use crate::base::time::Mono;
use crate::consumers::tunnel::Carries;
use crate::metrics::cells::{ShardCells, Share};
use crate::rtsp::reader::Input;
use crate::rtsp::response::{Response, Status};
use crate::session::cx::Cx;
use crate::session::shares::HELD_PIECE_BYTES;

/// What is known of a connection's beginning, and of that of its next request.
#[derive(Debug)]
pub(super) struct Beginning {
    accepted: Mono,
    half_open: Option<HalfOpen>,
    /// Bytes of messages that are not whole; `None` between two shards.
    held: Option<Share>,
    /// Whole pieces of these, among those of its address.
    pieces: Option<AddressPlace>,
    /// When the first of these bytes came.
    since: Option<Mono>,
}

/// A connection that has made no request yet, counted.
#[derive(Debug)]
struct HalfOpen {
    _of_shard: Share,
    _of_address: AddressPlace,
}

impl Beginning {
    pub(super) fn new(cells: &Arc<ShardCells>, of_address: AddressPlace, now: Mono) -> Self {
        let of_shard = Share::new(cells, |cells| &cells.half_open, 1);
        Self {
            accepted: now,
            half_open: Some(HalfOpen { _of_shard: of_shard, _of_address: of_address }),
            held: Some(held_share(cells, 0)),
            pieces: None,
            since: None,
        }
    }

    /// Leaves a shard: nothing is counted there any more.
    pub(super) fn depart(&mut self) {
        (self.half_open, self.held, self.pieces) = (None, None, None);
    }

    /// Has come to a shard, with so many bytes of messages that are not whole.
    pub(super) fn arrive(&mut self, cells: &Arc<ShardCells>, held: u64) {
        self.held = Some(held_share(cells, held));
    }

    /// When it was accepted, whether it has made a request, and when the next one has begun.
    pub(super) fn so_far(&self) -> (Mono, bool, Option<Mono>) {
        (self.accepted, self.half_open.is_none(), self.since)
    }

    /// Goes on where another process has left off.
    pub(super) fn resume(&mut self, (accepted, has_asked, since): (Mono, bool, Option<Mono>)) {
        (self.accepted, self.since) = (accepted, since);
        if has_asked {
            self.half_open = None;
        }
    }

    fn held_amount(&self) -> u64 {
        self.held.as_ref().map_or(0, Share::amount)
    }

    /// A whole message has come.
    pub(super) fn note_message(&mut self, input: &Input, cx: &Cx) {
        let since = self.since.take();
        if matches!(input, Input::Request(_)) {
            let first = self.half_open.take().map(|_counted| self.accepted);
            if let Some(since) = first.or(since) {
                let taken = u64::try_from(cx.now.since(since).as_millis()).unwrap_or(u64::MAX);
                cx.cells.request_ms_seen.raise_to(taken);
            }
        }
    }

    /// No whole message is there; so many bytes of one are.
    pub(super) fn note_rest(&mut self, bytes: usize, now: Mono) {
        self.since = if bytes == 0 { None } else { self.since.or(Some(now)) };
    }

    /// The head of a half of a tunnel is whole.
    pub(super) fn note_head(&mut self) {
        self.since = None;
    }

    /// It is a half of a tunnel that is open: requests come at the other half.
    pub(super) fn note_tunnel(&mut self) {
        (self.half_open, self.since) = (None, None);
    }
}

impl RtspConnection {
    /// It has made no request yet.
    #[must_use]
    pub fn is_beginning(&self) -> bool {
        self.beginning.half_open.is_some()
    }

    /// When the first request, or the one that has begun, should have been there. `None` on a
    /// connection that closes: it waits for no request.
    #[must_use]
    pub fn due(&self, patience: Duration) -> Option<Mono> {
        if self.is_closing {
            return None;
        }
        let first = self.is_beginning().then_some(self.beginning.accepted);
        let since = match (first, self.beginning.since) {
            (Some(first), Some(since)) => first.min(since),
            (first, since) => first.or(since)?,
        };
        Some(since + patience)
    }

    /// Tells the client that its request did not come in time; the connection is closed behind it.
    pub fn end_slow(&mut self, cx: &Cx) {
        cx.cells.requests_timed_out.add(1);
        self.refuse(Status::RequestTimeout, cx);
    }

    /// Tells the client that others need its place; the connection is closed behind it.
    pub fn end_oldest(&mut self, cx: &Cx) {
        cx.cells.half_open_dropped.add(1);
        self.refuse(Status::ServiceUnavailable, cx);
    }

    fn refuse(&mut self, status: Status, cx: &Cx) {
        self.is_closing = true;
        (self.beginning.half_open, self.beginning.since) = (None, None);
        // Whoever has said something else than RTSP, or nothing that can be read yet, does not
        // read it either.
        if !matches!(self.carries, Carries::Unknown(_) | Carries::Rtsp) {
            return;
        }
        let response = Response::new(status, None).header("Connection", "close");
        let response = match status {
            Status::ServiceUnavailable => response.header("Retry-After", RETRY_AFTER_S),
            _ => response,
        };
        response.write_to(cx.utc_ns.div_euclid(1_000_000_000), &mut self.output);
    }

    /// Counts what is held of messages that are not whole. When that would be too much in all, or
    /// of its address, a connection without a session ends here, and lets go of it at once.
    pub(super) fn count_held(&mut self, disposition: Disposition, cx: &Cx) -> Disposition {
        if let Carries::Unknown(first) = &self.carries
            && !first.is_empty()
        {
            self.beginning.note_rest(first.len(), cx.now);
        }
        let (head, body) = self.reader.longest();
        cx.cells.head_bytes_seen.raise_to(head as u64);
        cx.cells.body_bytes_seen.raise_to(body as u64);
        let held = self.held_bytes();
        let others = cx.cells.request_bytes_held.value() - self.beginning.held_amount();
        let is_over = others + held > cx.config.limits.held_bytes_max as u64;
        let has_share = self.hold_pieces(held, cx);
        let may_end = held > 0 && !self.is_closing && !self.is_waiting();
        let must_end = is_over || !has_share;
        if !(must_end && may_end && cx.directory.of_connection(self.key).is_empty()) {
            self.note_held(held);
            return disposition;
        }
        cx.cells.requests_not_held.add(1);
        self.refuse(Status::ServiceUnavailable, cx);
        self.reader.stop();
        let held = self.held_bytes();
        self.hold_pieces(held, cx);
        self.note_held(held);
        Disposition::Close
    }

    /// Counts what is held for the address of a client without a session. False: the address has
    /// its share already.
    fn hold_pieces(&mut self, held: u64, cx: &Cx) -> bool {
        let pieces = held / HELD_PIECE_BYTES as u64;
        let counted = &mut self.beginning.pieces;
        if pieces == counted.as_ref().map_or(0, AddressPlace::amount) {
            return true;
        }
        *counted = None;
        if pieces == 0 || !cx.directory.of_connection(self.key).is_empty() {
            return true;
        }
        let pieces = u32::try_from(pieces).unwrap_or(u32::MAX);
        *counted = cx.config.shares.held.enter_many(self.peer.ip(), pieces).ok();
        counted.is_some()
    }

    /// Bytes of messages that are not whole.
    fn held_bytes(&self) -> u64 {
        let first = match &self.carries {
            Carries::Unknown(first) => first.len(),
            Carries::Up(up) => up.early.len(),
            _ => 0,
        };
        (self.reader.buffered_bytes() + first) as u64
    }

    fn note_held(&mut self, held: u64) {
        if let Some(share) = &mut self.beginning.held
            && held != share.amount()
        {
            share.set(held);
        }
    }
}

fn held_share(cells: &Arc<ShardCells>, bytes: u64) -> Share {
    Share::new(cells, |cells| &cells.request_bytes_held, bytes)
}

/// When room may be there again, in seconds.
const RETRY_AFTER_S: &str = "5";

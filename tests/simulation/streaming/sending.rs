//! What shards send, in the simulation: bytes of connections, and datagrams.
//!
//! ```text
//!  send on a connection --> looked at --> tx, as far as there is room; the rest waits
//!  datagrams ------------> taken, refused for good, or not now
//! ```
//! Invariants: one send at a time on a connection, whichever process it is of; bytes that were
//! looked at and not taken come again before all others, as they were.

use std::net::SocketAddr;

use super::abi::{self, Message, Op, Sqe};
use super::kernel::Sending;
use super::network::{ConnId, Event, Mutation, Net, Socket};

/// A datagram that is sent, or as many as were refused at once.
pub(super) struct Sent {
    pub(super) port: u16,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
    pub(super) refused: usize,
}

impl Net {
    pub(super) fn tell_of_packets(&mut self, packets: &mut Vec<Sent>) {
        let now = self.now;
        for Sent { port, to, bytes, refused } in packets.drain(..) {
            if refused > 0 {
                self.watch.refused(port, to, refused);
                continue;
            }
            self.watch.datagram(now, port, to, &bytes);
            if self.mutation == Some(Mutation::SentWhilePaused) && to.port() % 2 == 0 {
                self.last_packet = Some((port, to, bytes.clone()));
            }
            self.note("packet", u64::from(port), bytes.len() as u64);
            for delay in self.ways() {
                self.after(delay, Event::ToClient { port, to, bytes: bytes.clone() });
            }
        }
    }

    pub(super) fn send_stream(
        &mut self,
        (shard, file): (usize, u32),
        id: ConnId,
        user_data: u64,
        message: Message,
    ) {
        self.note("send", id as u64, message.bytes.len() as u64);
        let other = self.waits(&self.conns[id].holders, |waiting| waiting.send.is_some());
        assert_eq!(other, None, "two sends on one connection");
        let conn = &mut self.conns[id];
        if conn.is_reset {
            return self.machines[shard].complete(user_data, -libc::EPIPE, 0);
        }
        self.tell_of_stream(id, &message.bytes);
        if self.mutation == Some(Mutation::AnsweredTwice) && message.bytes.starts_with(b"RTSP") {
            self.watch.stream(self.now, id, &message.bytes);
        }
        let total = message.bytes.len();
        let sending = Sending { user_data, total, rest: message.bytes.into() };
        let waiting = self.machines[shard].waiting.entry(file).or_default();
        waiting.send = Some(sending);
        self.go_on_sending(id);
    }

    /// What is to be told of datagrams that the socket did not take. Reports are given up. Packets
    /// are sent again, unless their stream was told to go on elsewhere while they were queued.
    pub(super) fn not_taken(&mut self, port: u16, message: &Message) -> Option<Sent> {
        let to = message.to.expect("datagrams have an address");
        let segment = message.segment.unwrap_or(message.bytes.len()).max(1);
        let refused = message.bytes.len().div_ceil(segment);
        self.note("not taken", u64::from(port), refused as u64);
        if port % 2 == 1 {
            self.watch.count("report.refused");
        }
        let may_be_lost = port % 2 == 1 || self.weather.edges.refused > 0;
        may_be_lost.then(|| Sent { port, to, bytes: Vec::new(), refused })
    }

    /// As `not_taken`, of a run that is linked to one that was not taken.
    pub(super) fn follower_not_taken(&mut self, shard: usize, sqe: Sqe) -> Option<Sent> {
        let file = u32::try_from(sqe.file).expect("a file");
        match (sqe.op, self.machines[shard].files.get(&file)) {
            (Op::Send { message }, Some(&Socket::Datagrams(port))) => {
                self.not_taken(port, &abi::gather(message))
            }
            _ => None,
        }
    }

    /// Tells of a send that the kernel did not take: the shard repeats it, and goes on meanwhile as
    /// if it were in the socket.
    pub(super) fn tell_of_send(&mut self, id: ConnId, bytes: Vec<u8>) {
        self.tell_of_stream(id, &bytes);
        self.conns[id].untaken.splice(0..0, bytes);
    }

    /// Tells of bytes that are sent. Those that were not taken before come again, as they were.
    pub(super) fn tell_of_stream(&mut self, id: ConnId, bytes: &[u8]) {
        let untaken = &mut self.conns[id].untaken;
        let (again, new) = bytes.split_at(untaken.len().min(bytes.len()));
        let before: Vec<u8> = untaken.drain(..again.len()).collect();
        assert!(before == again, "bytes of a send are lost, or it is repeated with others");
        if !new.is_empty() {
            self.watch.stream(self.now, id, new);
        }
    }

    /// Takes bytes of the send that waits, as far as there is room.
    pub(super) fn go_on_sending(&mut self, id: ConnId) {
        let sends = self.waits(&self.conns[id].holders, |waiting| waiting.send.is_some());
        let Some((shard, file)) = sends else { return };
        let (conn, machine) = (&mut self.conns[id], &mut self.machines[shard]);
        let Some(waiting) = machine.waiting.get_mut(&file) else { return };
        let Some(sending) = &mut waiting.send else { return };
        // A client that has gone takes all and answers nothing, until its host says so.
        let room = conn.tx_max.saturating_sub(conn.tx.len()).min(sending.rest.len());
        conn.tx.extend(sending.rest.drain(..room));
        if sending.rest.is_empty() {
            let (user_data, total) = (sending.user_data, sending.total);
            waiting.send = None;
            let is_last = self.watch.counts.contains_key("torn down");
            if self.mutation != Some(Mutation::CompletionLost) || !is_last {
                machine.complete(user_data, i32::try_from(total).expect("a send"), 0);
            }
        }
        self.begin_delivery(id);
    }

    pub(super) fn end_stream_send(&mut self, id: ConnId, result: i32) {
        let sends = self.waits(&self.conns[id].holders, |waiting| waiting.send.is_some());
        let Some((shard, file)) = sends else { return };
        let machine = &mut self.machines[shard];
        let waiting = machine.waiting.get_mut(&file);
        if let Some(sending) = waiting.and_then(|waiting| waiting.send.take()) {
            machine.complete(sending.user_data, result, 0);
        }
    }

    pub(super) fn send_datagrams(
        &mut self,
        (shard, port): (usize, u16),
        user_data: u64,
        message: Message,
        packets: &mut Vec<Sent>,
    ) -> bool {
        if self.dice.chance(self.weather.again) {
            self.machines[shard].complete(user_data, -libc::EAGAIN, 0);
            packets.extend(self.not_taken(port, &message));
            return false;
        }
        let Message { bytes, to, segment } = message;
        let to = to.expect("datagrams have an address");
        let total = i32::try_from(bytes.len()).expect("a datagram");
        let parts = bytes.chunks(segment.unwrap_or(bytes.len()).max(1));
        if self.dice.chance(self.weather.unreachable) {
            let errno = self.dice.pick(&ERRNOS);
            packets.push(Sent { port, to, bytes: Vec::new(), refused: parts.len() });
            self.machines[shard].complete(user_data, -errno, 0);
            return false;
        }
        let first = packets.len();
        packets.extend(parts.map(|part| Sent { port, to, bytes: part.to_vec(), refused: 0 }));
        if self.mutation == Some(Mutation::Swapped) && packets.len() > first + 1 {
            packets.swap(first, first + 1);
        }
        self.machines[shard].complete(user_data, total, 0);
        true
    }
}

/// How sends of datagrams fail for good, or are to be tried in another way; the last one is that of
/// a file that was truncated.
const ERRNOS: [i32; 7] = [
    libc::ECONNREFUSED,
    libc::ENETUNREACH,
    libc::EPERM,
    libc::EMSGSIZE,
    libc::EINVAL,
    libc::ENOBUFS,
    libc::EFAULT,
];

//! The kernel of a shard in the simulation: io_uring and sockets, as far as a shard asks for them.
//!
//! ```text
//!  Shard --queue--> operations --enter--> done at once, or waiting on a socket --> completions
//!                                                          ^-- Net: bytes, datagrams, time
//! ```
//! `enter` does not wait: the shard's turn is over, and the world takes the next one when the wait
//! would have ended (`Machine::wakes`).
//!
//! Invariant: an operation is completed once, and a cancelled one before its cancel.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd as _, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use headend::base::host::Host;
use headend::base::time::Mono;
use headend::consumers::taking::PeerState;
use headend::shard::ring::RingError;
use headend::shard::ring::kernel::{EnterCounts, Features, Kernel, Wait};
use headend::shard::sockets::{Family, UdpPair};
use io_uring::{cqueue, squeue};

use super::abi::{self, BUFFER, Buffers, Cqe, MORE, Op, Sqe};
use super::network::{ConnId, Mutation, Net, SERVER, START_NS, Socket};
use super::sending::Sent;

/// What a kernel knows of the ring of one shard.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(super) queue: VecDeque<(Sqe, bool)>,
    in_kernel: u32,
    queued_count: u64,
    pub(super) counts: EnterCounts,
    pub(super) is_refusing: bool,
    pub(super) files: BTreeMap<u32, Socket>,
    groups: BTreeMap<u16, Buffers>,
    pub(super) waiting: BTreeMap<u32, Waiting>,
    cqes: VecDeque<Cqe>,
    /// Room of the completion queue.
    cqes_max: usize,
    /// Completions for which it had no room.
    kept_back: VecDeque<Cqe>,
    wake: Option<OwnedFd>,
    /// Connections that were accepted and not registered yet.
    pub(crate) accepted: Vec<ConnId>,
    /// The shard sleeps: completions that it waits for, and until when.
    pub(crate) sleeps: Option<(usize, Option<u64>)>,
    /// Number of the turn that is to come.
    pub(crate) turn: u64,
    pub(crate) turns: u64,
}

/// Operations that wait on a file.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    accept: Option<u64>,
    receive: Option<(u64, u16)>,
    datagrams: Option<(u64, u16)>,
    count: Option<(u64, u64)>,
    pub(super) send: Option<Sending>,
}

/// A send on a connection that has found no room for all of its bytes.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) user_data: u64,
    pub(super) total: usize,
    pub(super) rest: VecDeque<u8>,
}

/// The kernel of one shard.
pub(crate) struct SimKernel {
    pub(crate) shard: usize,
    pub(crate) net: Rc<RefCell<Net>>,
}

impl SimKernel {
    fn with<T>(&self, read: impl FnOnce(&mut Machine) -> T) -> T {
        read(&mut self.net.borrow_mut().machines[self.shard])
    }

    fn socket_of(&self, fd: impl AsFd) -> io::Result<Socket> {
        self.net.borrow().socket_of(fd).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Closes a registered file.
    fn let_go(&self, index: u32) -> io::Result<()> {
        let net = &mut *self.net.borrow_mut();
        let machine = &mut net.machines[self.shard];
        let Some(socket) = machine.files.remove(&index) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let waiting = machine.waiting.remove(&index).unwrap_or_default();
        assert!(waiting.is_empty(), "file {index} is closed under {waiting:?}");
        let holder = (self.shard, index);
        match socket {
            Socket::Conn(conn) => {
                net.conns[conn].holders.retain(|other| *other != holder);
                if net.conns[conn].holders.is_empty() {
                    net.closed_by_server(conn);
                }
            }
            Socket::Datagrams(port) => {
                let datagrams = net.datagrams.get_mut(&port).expect("a bound socket");
                datagrams.holders.retain(|other| *other != holder);
                if datagrams.holders.is_empty() {
                    net.datagrams.remove(&port);
                }
            }
            Socket::Wake | Socket::Listener(_) => {}
        }
        Ok(())
    }

    fn conn_of(&self, fd: impl AsFd) -> io::Result<ConnId> {
        match self.socket_of(fd)? {
            Socket::Conn(conn) => Ok(conn),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

#[allow(unsafe_code, reason = "duties of callers, which the ring has")]
impl Kernel for SimKernel {
    // SAFETY: the duties are the caller's, as the trait says: `abi` relies on them.
    unsafe fn queue(&mut self, entry: squeue::Entry) {
        self.with(|machine| {
            machine.queued_count += 1;
            machine.queue.push_back((Sqe::read(&entry, machine.turns), false));
        });
    }

    fn link_last(&mut self) {
        self.with(|machine| {
            if let Some((_, links_next)) = machine.queue.back_mut() {
                *links_next = true;
            }
        });
    }

    fn drop_queued(&mut self) {
        self.with(|machine| machine.queue.clear());
    }

    fn in_kernel(&self) -> u32 {
        self.with(|machine| machine.in_kernel)
    }

    fn queued_count(&self) -> u64 {
        self.with(|machine| machine.queued_count)
    }

    fn is_refusing(&self) -> bool {
        self.with(|machine| machine.is_refusing)
    }

    fn counts(&self) -> EnterCounts {
        self.with(|machine| machine.counts)
    }

    fn sq_entries(&self) -> u32 {
        1_024
    }

    fn features(&self) -> Features {
        Features { absolute_waits: true, no_iowait: true, ..Features::default() }
    }

    fn enter(&mut self, want: u32, wait: Wait) -> Result<(), RingError> {
        let net = &mut *self.net.borrow_mut();
        net.machines[self.shard].make_room(net.mutation);
        net.submit(self.shard);
        net.machines[self.shard].make_room(net.mutation);
        net.look_after_refused(self.shard);
        let is_refusing = net.machines[self.shard].is_refusing;
        let deadline = match wait {
            _ if is_refusing => Some(net.now + REFUSED_NS),
            Wait::For(None) => None,
            Wait::For(Some(ns)) => Some(net.now + ns),
            // As the shard's clock shows it.
            Wait::Until(Mono(at)) if net.mutation == Some(Mutation::Early) => {
                Some((at * EARLY + START_NS) / (EARLY + 1))
            }
            Wait::Until(Mono(at)) => Some(at),
        };
        let is_over = wait == Wait::For(Some(0)) || net.mutation == Some(Mutation::Spins);
        let machine = &mut net.machines[self.shard];
        machine.counts.enters += 1;
        let is_kept_back = !machine.kept_back.is_empty();
        machine.counts.overflows += u64::from(is_kept_back);
        let want = if is_refusing { want.min(1) } else { want };
        let want = (want as usize).min(machine.cqes_max);
        machine.sleeps = (!is_over).then_some((want, deadline));
        if is_kept_back {
            net.watch.count("edge.overflow");
        }
        Ok(())
    }

    fn has_cqe(&mut self) -> bool {
        self.with(|machine| !machine.cqes.is_empty())
    }

    fn next_cqe(&mut self) -> Option<cqueue::Entry> {
        self.with(|machine| {
            let cqe = machine.cqes.pop_front()?;
            if cqe.flags & MORE == 0 {
                machine.in_kernel -= 1;
            }
            Some(cqe.entry())
        })
    }

    fn register(&self, index: u32, fd: BorrowedFd<'_>) -> io::Result<()> {
        let net = &mut *self.net.borrow_mut();
        let socket = net.socket_of(fd).unwrap_or(Socket::Wake);
        let holder = (self.shard, index);
        if matches!(socket, Socket::Conn(_)) && net.has_no_memory() {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        match socket {
            Socket::Conn(conn) => {
                net.conns[conn].holders.push(holder);
                if net.mutation == Some(Mutation::DescriptorKept) {
                    net.kept.push(fd.try_clone_to_owned()?);
                }
            }
            Socket::Datagrams(port) => {
                // The other process may have closed it meanwhile, which does not end a duplicate.
                net.datagrams.entry(port).or_default().holders.push(holder);
            }
            Socket::Wake => net.machines[self.shard].wake = Some(fd.try_clone_to_owned()?),
            Socket::Listener(_) => {}
        }
        let before = net.machines[self.shard].files.insert(index, socket);
        assert_eq!(before, None, "file {index} was registered twice");
        Ok(())
    }

    fn unregister(&self, index: u32) -> io::Result<()> {
        if self.net.borrow_mut().has_no_memory() {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        self.let_go(index)
    }

    fn unregister_files(&self) -> io::Result<()> {
        let indices: Vec<u32> = self.with(|machine| machine.files.keys().copied().collect());
        indices.into_iter().try_for_each(|index| self.let_go(index))
    }

    // SAFETY: as for `queue`.
    unsafe fn register_buffers(&self, address: u64, count: u16, group: u16) -> io::Result<()> {
        self.with(|machine| machine.groups.insert(group, Buffers::new(address, count)));
        Ok(())
    }

    fn unregister_buffers(&self, group: u16) -> io::Result<()> {
        let known = self.with(|machine| machine.groups.remove(&group));
        known.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn now(&self) -> Mono {
        let net = self.net.borrow();
        let ahead = if net.mutation == Some(Mutation::Early) {
            // The shard's clock runs too fast.
            (net.now - START_NS) / EARLY
        } else {
            0
        };
        Mono(net.now + ahead)
    }

    fn utc_ns(&self) -> i64 {
        let net = self.net.borrow();
        let since = i64::try_from(net.now - START_NS).expect("a short run");
        let jump = if net.weather.jumps && since > JUMP_AT_NS { DAY_NS } else { 0 };
        crate::world::EPOCH_NS + since + jump
    }

    fn udp_pair(&self, _host: Host) -> io::Result<UdpPair> {
        let (rtp, rtcp, rtp_port) = self.net.borrow_mut().bind_pair();
        Ok(UdpPair { rtp, rtcp, rtp_port })
    }

    fn stream_to(&self, _to: SocketAddr) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::NetworkUnreachable.into())
    }

    fn peer_addr(&self, fd: impl AsFd) -> io::Result<SocketAddr> {
        let conn = self.conn_of(fd)?;
        let net = self.net.borrow();
        let conn = &net.conns[conn];
        if conn.is_reset { Err(io::ErrorKind::NotConnected.into()) } else { Ok(conn.from) }
    }

    fn local_addr(&self, fd: impl AsFd) -> io::Result<SocketAddr> {
        self.conn_of(fd).map(|_| SERVER)
    }

    fn set_stream_options(&self, _fd: impl AsFd) -> io::Result<()> {
        Ok(())
    }

    fn set_fragmentation(&self, _: impl AsFd, _: Family, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn peer_state(&self, fd: impl AsFd) -> io::Result<PeerState> {
        let id = self.conn_of(fd)?;
        let net = self.net.borrow();
        let conn = &net.conns[id];
        // A client that is there answers the probes of a closed window.
        let last_ack = if conn.is_half_open { conn.last_ack } else { net.now };
        Ok(PeerState {
            acked_bytes: conn.acked_bytes,
            data_segments: conn.segments,
            is_outstanding: !conn.tx.is_empty(),
            is_unanswered: conn.is_half_open && !conn.tx.is_empty(),
            last_ack: Duration::from_nanos(net.now - last_ack),
        })
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.accept.is_none()
            && self.receive.is_none()
            && self.datagrams.is_none()
            && self.count.is_none()
            && self.send.is_none()
    }
}

impl Machine {
    pub(crate) fn new(cqes_max: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            in_kernel: 0,
            queued_count: 0,
            counts: EnterCounts::default(),
            is_refusing: false,
            files: BTreeMap::new(),
            groups: BTreeMap::new(),
            waiting: BTreeMap::new(),
            cqes: VecDeque::new(),
            cqes_max,
            kept_back: VecDeque::new(),
            wake: None,
            accepted: Vec::new(),
            sleeps: None,
            turn: 0,
            turns: 0,
        }
    }

    pub(crate) fn complete(&mut self, user_data: u64, result: i32, flags: u32) {
        let cqe = Cqe { user_data, result, flags };
        if self.has_room() { self.cqes.push_back(cqe) } else { self.kept_back.push_back(cqe) }
    }

    pub(super) fn has_room(&self) -> bool {
        self.kept_back.is_empty() && self.cqes.len() < self.cqes_max
    }

    /// Moves completions that were kept back to the completion queue, as far as there is room.
    fn make_room(&mut self, mutation: Option<Mutation>) {
        let room = self.cqes_max.saturating_sub(self.cqes.len()).min(self.kept_back.len());
        let kept_back = self.kept_back.drain(..room);
        if mutation != Some(Mutation::OverflowLost) {
            self.cqes.extend(kept_back);
        }
    }

    /// When the shard's wait ends: `None` for not yet known.
    pub(crate) fn wakes(&self, now: u64) -> Option<u64> {
        match self.sleeps {
            None => Some(now),
            Some((want, _)) if self.cqes.len() >= want => Some(now),
            Some((_, deadline)) => deadline,
        }
    }

    /// Whether completions wait that the shard wants to be woken for.
    pub(crate) fn is_woken(&self) -> bool {
        self.sleeps.is_some_and(|(want, _)| self.cqes.len() >= want)
    }

    /// Operations and completions that the ring of a shard that is gone has left behind.
    pub(crate) fn left_behind(&self) -> (u32, usize, usize) {
        (self.in_kernel, self.files.len(), self.groups.len())
    }

    fn at(&mut self, file: i32) -> &mut Waiting {
        self.waiting.entry(u32::try_from(file).expect("a file")).or_default()
    }
}

impl Net {
    /// Starts the operations that a shard has queued.
    fn submit(&mut self, shard: usize) {
        let mut packets = Vec::new();
        let mut is_chain_broken = false;
        let count = self.taken_count(shard);
        let mut turn = 0;
        for _ in 0..count {
            let next = self.machines[shard].queue.pop_front();
            let (sqe, links_next) = next.expect("as many as were counted");
            self.machines[shard].in_kernel += 1;
            // Answers of a turn leave beside its packets: they are looked at first.
            if std::mem::replace(&mut turn, sqe.turn) != sqe.turn {
                self.tell_of_packets(&mut packets);
            }
            if std::mem::take(&mut is_chain_broken) {
                is_chain_broken = links_next;
                self.machines[shard].complete(sqe.user_data, -libc::ECANCELED, 0);
                packets.extend(self.follower_not_taken(shard, sqe));
                continue;
            }
            let is_sent = self.start(shard, sqe, &mut packets);
            is_chain_broken = !is_sent && links_next;
        }
        self.tell_of_packets(&mut packets);
    }

    /// Starts an operation. False: a send has failed.
    fn start(&mut self, shard: usize, sqe: Sqe, packets: &mut Vec<Sent>) -> bool {
        let Sqe { op, file, user_data, .. } = sqe;
        let index = u32::try_from(file).unwrap_or(u32::MAX);
        let socket = self.machines[shard].files.get(&index).copied();
        if self.is_cancelled(op) {
            self.machines[shard].complete(user_data, -libc::ECANCELED, 0);
            let Op::Send { message } = op else { return true };
            let message = abi::gather(message);
            match socket {
                Some(Socket::Datagrams(port)) => packets.extend(self.not_taken(port, &message)),
                Some(Socket::Conn(conn)) => self.tell_of_send(conn, message.bytes),
                _ => {}
            }
            return false;
        }
        match (op, socket) {
            (Op::CancelAll, _) => {
                let files: Vec<u32> = self.machines[shard].waiting.keys().copied().collect();
                files.into_iter().for_each(|file| self.cancel(shard, file));
                self.machines[shard].complete(user_data, 0, 0);
            }
            (Op::CancelFile | Op::CancelOne { .. }, _) if self.has_no_memory() => {
                self.machines[shard].complete(user_data, -libc::ENOMEM, 0);
            }
            (Op::CancelFile, _) => {
                self.cancel(shard, index);
                self.machines[shard].complete(user_data, 0, 0);
            }
            (Op::CancelOne { user_data: which }, _) => {
                self.cancel_one(shard, which);
                self.machines[shard].complete(user_data, 0, 0);
            }
            (Op::Accept, Some(Socket::Listener(listener))) => {
                self.machines[shard].at(file).accept = Some(user_data);
                self.try_accept(listener);
            }
            (Op::Receive { group }, Some(Socket::Conn(conn))) => {
                self.machines[shard].at(file).receive = Some((user_data, group));
                self.try_receive(conn);
            }
            (Op::ReceiveDatagrams { group }, Some(Socket::Datagrams(port))) => {
                self.machines[shard].at(file).datagrams = Some((user_data, group));
                self.try_receive_datagrams(port);
            }
            (Op::ReadCount { into }, Some(Socket::Wake)) => {
                self.machines[shard].at(file).count = Some((user_data, into));
                self.try_wake(shard);
            }
            (Op::Send { message }, Some(Socket::Conn(conn))) => {
                self.send_stream((shard, index), conn, user_data, abi::gather(message));
            }
            (Op::Send { message }, Some(Socket::Datagrams(port))) => {
                return self.send_datagrams(
                    (shard, port),
                    user_data,
                    abi::gather(message),
                    packets,
                );
            }
            (op, socket) => panic!("{op:?} on {socket:?}"),
        }
        true
    }

    /// Sends one more packet of a stream that is paused: a fault that is switched on.
    pub(crate) fn send_while_paused(&mut self) {
        if self.watch.counts.contains_key("paused")
            && let Some((port, to, mut bytes)) = self.last_packet.take()
        {
            let seq = u16::from_be_bytes([bytes[2], bytes[3]]).wrapping_add(1);
            bytes[2..4].copy_from_slice(&seq.to_be_bytes());
            self.watch.datagram(self.now, port, to, &bytes);
        }
    }

    fn cancel(&mut self, shard: usize, file: u32) {
        let machine = &mut self.machines[shard];
        let waiting = machine.waiting.remove(&file).unwrap_or_default();
        let of_arms = [
            waiting.accept,
            waiting.receive.map(|(user_data, _)| user_data),
            waiting.datagrams.map(|(user_data, _)| user_data),
            waiting.count.map(|(user_data, _)| user_data),
            waiting.send.map(|sending| sending.user_data),
        ];
        for user_data in of_arms.into_iter().flatten() {
            machine.complete(user_data, -libc::ECANCELED, 0);
        }
    }

    /// Ends the operation that was queued with `which`, if it waits.
    fn cancel_one(&mut self, shard: usize, which: u64) {
        let machine = &mut self.machines[shard];
        let is_it = |armed: Option<u64>| armed == Some(which);
        for (file, waiting) in &mut machine.waiting {
            let mut result = -libc::ECANCELED;
            if is_it(waiting.accept) {
                waiting.accept = None;
            } else if is_it(waiting.receive.map(|(user_data, _)| user_data)) {
                waiting.receive = None;
            } else if is_it(waiting.datagrams.map(|(user_data, _)| user_data)) {
                waiting.datagrams = None;
            } else if let Some(sending) = waiting.send.take_if(|send| send.user_data == which) {
                let Some(Socket::Conn(conn)) = machine.files.get(file) else { return };
                let taken = sending.total - sending.rest.len();
                if taken > 0 {
                    result = i32::try_from(taken).expect("a send");
                }
                let untaken = &mut self.conns[*conn].untaken;
                untaken.splice(0..0, sending.rest);
                self.watch.count("send.cut");
            } else {
                continue;
            }
            return machine.complete(which, result, 0);
        }
    }

    /// A shard that has a socket and waits for something on it.
    pub(super) fn waits(
        &self,
        holders: &[(usize, u32)],
        is_it: impl Fn(&Waiting) -> bool,
    ) -> Option<(usize, u32)> {
        let waits = |(machine, file): &&(usize, u32)| {
            self.machines[*machine].waiting.get(file).is_some_and(&is_it)
        };
        holders.iter().find(waits).copied()
    }

    fn closed_by_server(&mut self, id: ConnId) {
        let conn = &mut self.conns[id];
        conn.server_closed = true;
        self.note("closed", id as u64, 0);
        self.watch.closed_by_server(id, self.now);
        self.begin_delivery(id);
    }

    pub(crate) fn try_accept(&mut self, listener: usize) {
        let armed = self.machines.iter().enumerate().find_map(|(shard, machine)| {
            let mut of = machine.files.iter().filter(|(_, at)| **at == Socket::Listener(listener));
            of.find_map(|(file, _)| Some((shard, *file, machine.waiting.get(file)?.accept?)))
        });
        let Some((shard, file, user_data)) = armed else { return };
        while let Some(id) = self.backlogs[listener].pop_front() {
            if self.dice.chance(self.weather.no_descriptor) {
                self.backlogs[listener].push_front(id);
                let machine = &mut self.machines[shard];
                machine.complete(user_data, -libc::EMFILE, 0);
                machine.waiting.entry(file).or_default().accept = None;
                return;
            }
            let fd = self.descriptor(Socket::Conn(id));
            let is_last = self.is_ended(shard);
            let is_said = self.mutation != Some(Mutation::EndUnsaid);
            let machine = &mut self.machines[shard];
            machine.accepted.push(id);
            let flags = if is_last && is_said { 0 } else { MORE };
            machine.complete(user_data, fd.into_raw_fd(), flags);
            if is_last {
                machine.waiting.entry(file).or_default().accept = None;
                return;
            }
        }
    }

    pub(crate) fn try_receive(&mut self, id: ConnId) {
        let is_short = self.dice.chance(self.weather.edges.no_buffer);
        let armed = self.waits(&self.conns[id].holders, |waiting| waiting.receive.is_some());
        let Some((shard, file)) = armed else { return };
        let (conn, machine) = (&mut self.conns[id], &mut self.machines[shard]);
        let Some(waiting) = machine.waiting.get_mut(&file) else { return };
        let Some((user_data, group)) = waiting.receive else { return };
        if conn.is_reset {
            waiting.receive = None;
            return machine.complete(user_data, -libc::ECONNRESET, 0);
        }
        if conn.rx.is_empty() {
            if conn.rx_ended {
                waiting.receive = None;
                machine.complete(user_data, 0, 0);
            }
            return;
        }
        waiting.receive = None;
        let count = conn.rx.len().min(BUFFER_BYTES);
        let bytes: Vec<u8> = conn.rx.iter().take(count).copied().collect();
        let buffers = machine.groups.get_mut(&group).expect("a group of buffers");
        let filled = if is_short { None } else { buffers.fill(&bytes) };
        match filled {
            Some(number) => {
                conn.rx.drain(..count);
                let result = i32::try_from(count).expect("a buffer");
                machine.complete(user_data, result, BUFFER | u32::from(number) << 16);
            }
            None => {
                machine.complete(user_data, -libc::ENOBUFS, 0);
                self.watch.count(if is_short { "edge.no buffer" } else { "buffers.short" });
            }
        }
    }

    pub(crate) fn try_receive_datagrams(&mut self, port: u16) {
        loop {
            let is_short = self.dice.chance(self.weather.edges.no_buffer);
            let Some(socket) = self.datagrams.get(&port) else { return };
            let armed = self.waits(&socket.holders, |waiting| waiting.datagrams.is_some());
            let Some((shard, file)) = armed else { return };
            let Some(socket) = self.datagrams.get_mut(&port) else { return };
            let machine = &mut self.machines[shard];
            let waiting = machine.waiting.get(&file);
            let Some((user_data, group)) = waiting.and_then(|waiting| waiting.datagrams) else {
                return;
            };
            let Some((from, bytes)) = socket.rx.pop_front() else { return };
            let laid_out = abi::datagram(from, &bytes);
            let buffers = machine.groups.get_mut(&group).expect("a group of buffers");
            let filled = if is_short { None } else { buffers.fill(&laid_out) };
            let (result, flags) = match filled {
                Some(number) => {
                    let result = i32::try_from(laid_out.len()).expect("a buffer");
                    (result, BUFFER | u32::from(number) << 16)
                }
                None => {
                    socket.rx.push_front((from, bytes));
                    self.watch.count(if is_short { "edge.no buffer" } else { "buffers.short" });
                    (-libc::ENOBUFS, 0)
                }
            };
            let is_last = result < 0 || self.is_ended(shard);
            let machine = &mut self.machines[shard];
            machine.complete(user_data, result, if is_last { flags } else { flags | MORE });
            if is_last {
                machine.waiting.entry(file).or_default().datagrams = None;
            }
        }
    }

    /// Completes the read of a shard's eventfd when it was written to.
    pub(crate) fn try_wake(&mut self, shard: usize) {
        let is_lost = self.mutation == Some(Mutation::WakeLost);
        let machine = &mut self.machines[shard];
        let Some(wake) = &machine.wake else { return };
        let mut armed = machine.waiting.values_mut().filter(|waiting| waiting.count.is_some());
        let Some(waiting) = armed.next() else { return };
        let mut count = [0; 8];
        if rustix::io::read(wake, &mut count).is_ok()
            && !is_lost
            && let Some((user_data, into)) = waiting.count.take()
        {
            abi::write_count(into, u64::from_ne_bytes(count));
            machine.complete(user_data, 8, 0);
        }
    }
}

/// One nanosecond in so many.
const EARLY: u64 = 20;
/// How long the ring waits for a kernel that takes no operation.
const REFUSED_NS: u64 = 1_000_000;
const JUMP_AT_NS: i64 = 2_000_000_000;
const DAY_NS: i64 = 86_400_000_000_000;
/// Bytes of a receive buffer of connections.
const BUFFER_BYTES: usize = 4_096;

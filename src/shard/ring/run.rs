//! Runs of datagrams: several RTP packets to one client as one send.
//!
//! ```text
//! start_run -> Run: try_packet .. try_packet -> submit --enter--> kernel --> RunSent, slot free
//! slot: [gather][sockaddr][cmsg UDP_SEGMENT][msghdr]     one block of slots, made at start
//! ```
//! The packets of a run have the size of the first one, except for one shorter tail, so that the
//! kernel can cut them apart again (`UDP_SEGMENT`). Sends never wait in the kernel
//! (`MSG_DONTWAIT`), because the next send would overtake one that waits. A send that finds no room
//! fails with `SendFailure::Again`.
//!
//! Invariants: a slot is off the free list from `start_run` until its last completion. Titles,
//! blocks of windows, images, batches and encrypted packets that its iovecs point to are held as
//! long. Bounds: `RUN_PACKETS_MAX` packets, or those in one piece of an image, and the bytes of one
//! datagram a run; `run_slots` runs.
//! DESIGN section 6.3, 6.4, 6.9.
#![allow(unsafe_code, reason = "messages for the kernel; a room with unsafe code")]

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

use io_uring::{cqueue, opcode, types};

use super::Ring;
use super::completion::{Completion, SendFailure};
use super::config::RangeOutside;
use super::files::FileSlot;
use super::gather::{Gather, GatherLimits};
use super::kernel::Kernel;
use super::key::{Op, OpKey};
use super::message::{Name, SegmentControl, empty_message};
use super::uring::Uring;
use super::zerocopy::{Outlet, REPORT_USAGE, Shape, fragments};
use crate::base::limits::UDP_SEND_BYTES_MAX;
use crate::library::title::Title;
use crate::live::core::batch::{LivePacket, LiveRun, PacketBatch};
use crate::media::image::{ImageRun, PacketImage};
use crate::media::window::{Packet, PacketWindow};
use crate::rtp::RtxPieces;

/// Most packets in one run; more gain nothing from segmentation (DESIGN section 6).
pub const RUN_PACKETS_MAX: u16 = 16;

/// Most bytes of a datagram of `send_datagram`; no compound RTCP packet is larger.
pub const DATAGRAM_BYTES_MAX: usize = LIMITS.arena_bytes;

/// Memory of all runs in flight or under construction.
pub(super) struct RunSlots {
    slots: Box<[RunSlot]>,
    /// Free slots; the slot freed last is used first, while it is warm in the cache.
    free: Vec<u32>,
    /// Buffers of encrypted runs that are not in use.
    pub(super) spare: Vec<Vec<u8>>,
}

struct RunSlot {
    gather: Gather,
    address: Name,
    control: SegmentControl,
    message: libc::msghdr,
    file: FileSlot,
    to: SocketAddr,
    token: u32,
    packets: u16,
    is_datagram: bool,
    is_zerocopy: bool,
}

/// The run queued last, if the next run to the same client is to be linked to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OpenChain {
    file: FileSlot,
    to: SocketAddr,
    runs: u32,
    /// Number of operations queued so far when the run was queued.
    queued_count: u64,
}

/// A run that takes packets. Dropped without `submit`, it sends nothing.
pub struct Run<'a, K: Kernel = Uring> {
    ring: &'a mut Ring<K>,
    index: u32,
    gso: bool,
    segment_bytes: usize,
    has_tail: bool,
    is_submitted: bool,
    /// Encrypted packets, if the run has such: see `sealed`.
    pub(super) sealed: Vec<u8>,
}

impl<K: Kernel> Ring<K> {
    /// Starts a run to one client. `to` must be of the socket's family: see
    /// `sockets::to_socket_address`. `None`: no slot is free, the chain of linked runs has its
    /// largest length, or the kernel takes no operations; the caller tries again in the next turn.
    /// Of what waits for the kernel nothing is known yet: a run behind it would be sent even when
    /// those before fail, and their packets would come after its own.
    pub fn start_run(&mut self, slot: FileSlot, to: SocketAddr, token: u32) -> Option<Run<'_, K>> {
        let chain_is_full = self.chain.is_some_and(|chain| {
            chain.file == slot && chain.to == to && chain.runs >= self.chain_runs_max()
        });
        if chain_is_full || self.uring.is_refusing() || !self.files.is_open(slot) {
            return None;
        }
        let index = self.memory.runs.take(slot, to, token)?;
        let gso = self.gso.is_allowed(slot.index(), to.ip());
        let (segment_bytes, has_tail, is_submitted) = (0, false, false);
        let sealed = Vec::new();
        Some(Run { ring: self, index, gso, segment_bytes, has_tail, is_submitted, sealed })
    }

    /// Whether a slot is free, and the kernel takes operations.
    #[must_use]
    pub fn has_free_run(&self) -> bool {
        !self.memory.runs.free.is_empty() && !self.uring.is_refusing()
    }

    /// Number of free slots.
    #[must_use]
    pub fn free_run_count(&self) -> usize {
        self.memory.runs.free.len()
    }

    /// Sends a copy of one RTCP datagram. False: no slot is free, or the datagram is longer than
    /// `DATAGRAM_BYTES_MAX`. Only a failure is reported, as `RunSent` with 0 packets.
    pub fn send_datagram(
        &mut self,
        slot: FileSlot,
        to: SocketAddr,
        bytes: &[u8],
        token: u32,
    ) -> bool {
        debug_assert!(bytes.len() <= DATAGRAM_BYTES_MAX, "{} bytes", bytes.len());
        if !self.files.is_open(slot) || bytes.len() > DATAGRAM_BYTES_MAX {
            return false;
        }
        let Some(index) = self.memory.runs.take(slot, to, token) else { return false };
        let run = self.memory.runs.slot(index);
        run.is_datagram = true;
        run.packets = 1;
        run.gather.push_bytes(bytes);
        self.queue_run(index, 0);
        true
    }

    fn chain_runs_max(&self) -> u32 {
        CHAIN_RUNS_MAX.min(self.uring.sq_entries())
    }

    fn link_and_queue_run(&mut self, index: u32, segment_bytes: usize, linked: bool) {
        let run = self.memory.runs.slot(index);
        let (file, to) = (run.file, run.to);
        let queued_count = self.uring.queued_count();
        let before = self.chain.take().filter(|chain| {
            chain.file == file && chain.to == to && chain.queued_count == queued_count
        });
        if before.is_some() {
            self.uring.link_last();
        }
        self.queue_run(index, segment_bytes);
        self.chain = linked.then(|| OpenChain {
            file,
            to,
            runs: before.map_or(1, |chain| chain.runs + 1),
            queued_count: queued_count + 1,
        });
    }

    fn queue_run(&mut self, index: u32, segment_bytes: usize) {
        let run = self.memory.runs.slot(index);
        run.prepare(segment_bytes);
        let file = types::Fixed(run.file.index());
        let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL).cast_unsigned();
        let (outlet, gather) = (Outlet::Datagrams(run.to.ip()), &mut run.gather);
        let bytes = gather.bytes();
        run.is_zerocopy = self.zerocopy.is_wanted(run.file.index(), outlet, bytes, || Shape {
            bytes,
            fragments: fragments(gather.iovecs_mut()),
        });
        let message = &raw const run.message;
        let entry = if run.is_zerocopy {
            self.zerocopy.start();
            self.notices_queued += 1;
            opcode::SendMsgZc::new(file, message).ioprio(REPORT_USAGE).flags(flags).build()
        } else {
            opcode::SendMsg::new(file, message).flags(flags).build()
        };
        let entry = entry.user_data(OpKey::new(Op::Run, index).as_user_data());
        self.files.start_op(run.file.index());
        self.sends_unreaped += 1;
        // SAFETY: `queue` requires valid pointers until the operation's last completion is taken.
        // - Message, address, control and the gather's vectors lie in slot `index` or are owned by
        //   it. Slots are one boxed slice that never moves; `Ring` frees it only when nothing is in
        //   the kernel, otherwise never.
        // - The slot is off the free list until `run_completed` has seen the last completion, which
        //   is the notice of a send without a copy, so nobody changes it before.
        // - File ranges lie in the maps of titles that the slot holds until then; the kernel reads
        //   them, and answers EFAULT where the file has become shorter. Others lie in windows'
        //   blocks, images or batches, never changed once built, which the slot holds as long.
        // Tests: `map_is_held_until_the_run_has_completed`, `truncated_file_fails_the_run_only`,
        // `batch_is_held_until_the_run_has_completed`,
        // `drop_with_operations_in_flight_frees_everything`.
        unsafe { self.uring.queue(entry) };
    }

    /// Handles a completion of a run: its result, or the notice that follows when its bytes were
    /// not copied.
    pub(super) fn run_completed(&mut self, index: u32, cqe: &cqueue::Entry) -> Option<Completion> {
        let run = self.memory.runs.slot(index);
        let (file, to, is_zerocopy) = (run.file, run.to, run.is_zerocopy);
        let outlet = Outlet::Datagrams(to.ip());
        if cqueue::notif(cqe.flags()) {
            let file_index = self.files.is_open(file).then(|| file.index());
            self.zerocopy.end(file_index, outlet, cqe.result());
            self.memory.runs.give_back(index);
            return None;
        }
        self.sends_unreaped -= 1;
        let (packets, is_datagram, token) = (run.packets, run.is_datagram, run.token);
        let result = cqe.result();
        debug_assert!(result < 0 || usize::try_from(result) == Ok(run.gather.bytes()));
        if !cqueue::more(cqe.flags()) {
            if is_zerocopy {
                self.zerocopy.end_unnoticed();
            }
            self.memory.runs.give_back(index);
        }
        let is_closing = self.files.is_closing(file.index());
        self.end_op(file.index());
        if is_datagram && (is_closing || result >= 0) {
            return None;
        }
        let errno = result.checked_neg().unwrap_or(libc::EIO);
        let result = if result >= 0 {
            Ok(())
        } else if is_closing {
            // The file's index may be vacant: nothing is learnt of its routes.
            Err(SendFailure::Closed)
        } else if is_zerocopy && self.zerocopy.handle_failure(file.index(), outlet, errno) {
            Err(SendFailure::Again)
        } else if packets > 1 && self.gso.handle_failure(file.index(), to.ip(), errno) {
            self.stats.gso_refusals += 1;
            Err(SendFailure::Again)
        } else {
            Err(SendFailure::from_errno(errno))
        };
        let packets = if is_datagram { 0 } else { packets };
        Some(Completion::RunSent { token, packets, result })
    }
}

impl<K: Kernel> Run<'_, K> {
    /// Adds a packet. False: the run is full (too many packets, out of room), or the packet does
    /// not fit (larger than the first, behind a shorter one, no segmentation on this route). The
    /// caller submits the run and starts another.
    ///
    /// # Errors
    /// The packet can never be sent; the run is as before.
    pub fn try_packet<const N: usize>(
        &mut self,
        header: &[u8; N],
        window: &PacketWindow,
        packet: &Packet,
        title: &Arc<Title>,
    ) -> Result<bool, RangeOutside> {
        let bytes = header.len() + usize::from(packet.payload_bytes);
        if !self.has_room_for(bytes) {
            return Ok(false);
        }
        let run = self.ring.memory.runs.slot(self.index);
        if !run.gather.push_packet(header, window, packet, title)? {
            return Ok(false);
        }
        self.count_packet(bytes);
        Ok(true)
    }

    /// Adds a packet of a batch, with `header` instead of its first bytes. False: as for
    /// `try_packet`.
    pub fn try_live_packet(
        &mut self,
        header: &[u8; 12],
        batch: &Arc<PacketBatch>,
        packet: &LivePacket,
    ) -> bool {
        if !self.has_room_for(usize::from(packet.bytes)) {
            return false;
        }
        let run = self.ring.memory.runs.slot(self.index);
        if !run.gather.push_range(header, batch, packet.range_behind(header.len())) {
            return false;
        }
        self.count_packet(usize::from(packet.bytes));
        true
    }

    /// Makes this the whole run: packets of a batch as they stand there, one range of bytes. False:
    /// the run is not empty, or the route takes no segmentation; add its packets one by one.
    pub fn set_range(&mut self, batch: &Arc<PacketBatch>, range: &LiveRun) -> bool {
        let run = self.ring.memory.runs.slot(self.index);
        if run.packets > 0 || (range.packet_count > 1 && !self.gso) {
            return false;
        }
        let first = range.offset as usize;
        if !run.gather.push_range(&[], batch, first..first + range.bytes as usize) {
            return false;
        }
        run.packets = range.packet_count;
        self.segment_bytes = usize::from(range.segment_bytes);
        // Nothing may follow it.
        self.has_tail = true;
        true
    }

    /// Makes this the whole run: packets as they stand in an image, one range of bytes. False: the
    /// run is not empty, or the route takes no segmentation; add the packets one by one.
    pub fn set_image(&mut self, image: &Arc<PacketImage>, part: &ImageRun) -> bool {
        let run = self.ring.memory.runs.slot(self.index);
        if run.packets > 0 || (part.packets > 1 && !self.gso) || !run.gather.push_image(image, part)
        {
            return false;
        }
        run.packets = part.packets;
        self.segment_bytes = usize::from(part.segment_bytes);
        // Nothing may follow it.
        self.has_tail = true;
        true
    }

    /// Makes this the whole run: `packet` of a batch sent again as `pieces` (RFC 4588). False: the
    /// run is not empty.
    pub fn set_retransmission(
        &mut self,
        pieces: &RtxPieces,
        batch: &Arc<PacketBatch>,
        packet: &LivePacket,
    ) -> bool {
        let run = self.ring.memory.runs.slot(self.index);
        let first = packet.offset as usize;
        let part = |range: &Range<usize>| first + range.start..first + range.end;
        let fits = run.packets == 0
            && run.gather.push_range(&pieces.fixed, batch, part(&pieces.optional))
            && run.gather.push_range(&pieces.original, batch, part(&pieces.payload));
        if fits {
            let bytes = run.gather.bytes();
            self.count_packet(bytes);
        }
        fits
    }

    #[inline]
    fn has_room_for(&mut self, bytes: usize) -> bool {
        let run = self.ring.memory.runs.slot(self.index);
        let have = run.gather.bytes();
        self.has_room_for_more(have, bytes)
    }

    /// Whether a packet fits behind packets of `have` bytes.
    #[inline]
    pub(super) fn has_room_for_more(&mut self, have: usize, bytes: usize) -> bool {
        let run = self.ring.memory.runs.slot(self.index);
        if run.packets == 0 {
            return true;
        }
        let fits_segment = self.gso && !self.has_tail && bytes <= self.segment_bytes;
        fits_segment && run.packets < RUN_PACKETS_MAX && have + bytes <= RUN_BYTES_MAX
    }

    /// An empty buffer for encrypted packets.
    pub(super) fn take_spare(&mut self) -> Vec<u8> {
        self.ring.memory.runs.take_spare()
    }

    #[inline]
    pub(super) fn count_packet(&mut self, bytes: usize) {
        let run = self.ring.memory.runs.slot(self.index);
        if run.packets == 0 {
            self.segment_bytes = bytes;
        }
        self.has_tail = bytes < self.segment_bytes;
        run.packets += 1;
        debug_assert!(
            run.gather.bytes() <= self.segment_bytes * usize::from(run.packets),
            "pieces of a packet must add up to its payload"
        );
    }

    /// Number of packets in the run.
    #[must_use]
    pub fn packet_count(&self) -> u16 {
        self.ring.memory.runs.slots[self.index as usize].packets
    }

    /// Queues the run for the next `enter`; an empty run is dropped. `linked`: the next run to the
    /// same client must not be sent when this one fails. That run must be the next operation; any
    /// other operation in between removes the link.
    pub fn submit(mut self, linked: bool) {
        if self.packet_count() > 0 {
            self.is_submitted = true;
            if !self.sealed.is_empty() {
                let sealed = std::mem::take(&mut self.sealed);
                self.ring.memory.runs.slot(self.index).gather.push_sealed(sealed);
            }
            self.ring.link_and_queue_run(self.index, self.segment_bytes, linked);
        }
    }
}

impl<K: Kernel> Drop for Run<'_, K> {
    fn drop(&mut self) {
        if !self.is_submitted {
            let sealed = std::mem::take(&mut self.sealed);
            self.ring.memory.runs.give_spare(sealed);
            self.ring.memory.runs.give_back(self.index);
        }
    }
}

impl<K: Kernel> fmt::Debug for Run<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Run({} packets of {} bytes)", self.packet_count(), self.segment_bytes)
    }
}

impl RunSlots {
    pub(super) fn new(count: u16) -> Self {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let slots = (0..count).map(|_| RunSlot {
            gather: Gather::with_all_memory(LIMITS),
            address: Name::new(),
            control: SegmentControl::new(),
            message: empty_message(),
            file: FileSlot::default(),
            to: nowhere,
            token: 0,
            packets: 0,
            is_datagram: false,
            is_zerocopy: false,
        });
        let free = (0..u32::from(count)).rev().collect();
        Self { slots: slots.collect(), free, spare: Vec::new() }
    }

    fn take(&mut self, file: FileSlot, to: SocketAddr, token: u32) -> Option<u32> {
        let index = self.free.pop()?;
        let run = self.slot(index);
        (run.file, run.to, run.token) = (file, to, token);
        (run.packets, run.is_datagram, run.is_zerocopy) = (0, false, false);
        Some(index)
    }

    fn give_back(&mut self, index: u32) {
        if let Some(sealed) = self.slot(index).gather.take_sealed() {
            self.give_spare(sealed);
        }
        self.slot(index).gather.clear(LIMITS.arena_bytes);
        self.free.push(index);
    }

    fn slot(&mut self, index: u32) -> &mut RunSlot {
        &mut self.slots[index as usize]
    }
}

impl RunSlot {
    /// Fills in the message, whose pointers all lie in this slot.
    fn prepare(&mut self, segment_bytes: usize) {
        self.address.set(self.to);
        let iovecs = self.gather.iovecs_mut();
        self.message.msg_iov = iovecs.as_mut_ptr();
        self.message.msg_iovlen = iovecs.len();
        let name = self.address.as_bytes();
        self.message.msg_namelen = u32::try_from(name.len()).unwrap_or(0);
        self.message.msg_name = name.as_ptr().cast_mut().cast();
        if self.packets > 1 {
            // A run's total fits a datagram, so its segments do.
            self.control.set_segment_bytes(u16::try_from(segment_bytes).unwrap_or(u16::MAX));
            self.message.msg_control = (&raw mut self.control).cast();
            self.message.msg_controllen = size_of::<SegmentControl>();
        } else {
            self.message.msg_control = std::ptr::null_mut();
            self.message.msg_controllen = 0;
        }
    }
}

/// 16 headers with 240 inline bytes each, or an RTCP packet; on average six pieces a packet.
const LIMITS: GatherLimits = GatherLimits { iovecs: 96, arena_bytes: 4_096, held: 4 };

const RUN_BYTES_MAX: usize = UDP_SEND_BYTES_MAX as usize;

/// Most runs in one chain: twice as many as a turn sends to one client without segmentation.
const CHAIN_RUNS_MAX: u32 = 64;

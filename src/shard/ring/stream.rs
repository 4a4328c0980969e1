//! Sends on TCP connections: RTSP replies and interleaved frames, whole, in order.
//!
//! ```text
//! start_stream_send -> StreamSend: push_bytes, push_packet .. -> submit --enter--> kernel
//!                                                 StreamSent, slot free, next send may start
//! [ "RTSP/1.0 200 OK.." ][ $ ch len | rtp | payload ][ $ ch len | rtp | payload ] ..
//! ```
//! Invariants: at most one send is in flight on a connection, because two would interleave. The
//! kernel finishes a send or fails it (`MSG_WAITALL`, which its TLS does not know: there the rest
//! of a send that ended early is sent behind it). No send has a part of a packet. A send of which
//! the kernel took no byte, for want of memory or because it cancelled it, is queued again.
//! Bounds: `LIMITS` for a send; one slot for each send that is in flight or waits for its notice.
//! Memory of slots is used again. RFC 2326 s10.12, DESIGN section 6.7.
#![allow(unsafe_code, reason = "messages for the kernel; a room with unsafe code")]

use std::fmt;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use io_uring::{cqueue, opcode, types};
use rustix::fs::{MemfdFlags, memfd_create};

use super::Ring;
use super::completion::{Completion, stream_result};
use super::config::RangeOutside;
use super::files::FileSlot;
use super::gather::{Gather, GatherLimits};
use super::kernel::Kernel;
use super::key::{Op, OpKey};
use super::message::empty_message;
use super::retries::Again;
use super::uring::Uring;
use super::zerocopy::{Outlet, REPORT_USAGE, Shape, fragments};
use crate::library::title::Title;
use crate::live::core::batch::{LivePacket, PacketBatch};
use crate::media::window::{Packet, PacketWindow};

/// Memory of all stream sends.
#[derive(Default)]
pub(super) struct StreamSlots {
    /// Boxed: a slot must not move while the kernel has its address, also when the vector grows.
    #[expect(clippy::vec_box, reason = "addresses must not change")]
    slots: Vec<Box<StreamSlot>>,
    /// Free slots; the slot freed last is used first.
    free: Vec<u32>,
}

struct StreamSlot {
    gather: Gather,
    message: libc::msghdr,
    file: FileSlot,
    token: u32,
    is_zerocopy: bool,
    /// The kernel took nothing: the send is queued again after the notice.
    is_untaken: bool,
    /// Bytes of it that the kernel took in operations that ended early.
    taken_bytes: usize,
    /// It is to end, whether all is taken or not.
    is_cut: bool,
}

/// A send that takes bytes and packets. Dropped without `submit`, it sends nothing.
pub struct StreamSend<'a, K: Kernel = Uring> {
    ring: &'a mut Ring<K>,
    index: u32,
    is_submitted: bool,
}

impl<K: Kernel> Ring<K> {
    /// Starts a send on a connection. `None`: one is in flight, or the slot is not open.
    pub fn start_stream_send(&mut self, slot: FileSlot, token: u32) -> Option<StreamSend<'_, K>> {
        if !self.files.start_stream(slot) {
            return None;
        }
        let index = self.memory.streams.take(slot, token);
        self.files.note_stream(slot.index(), index);
        Some(StreamSend { ring: self, index, is_submitted: false })
    }

    /// Handles a completion of a stream send: its result, or the notice that follows when its bytes
    /// were not copied. Between the two the next send takes another slot.
    pub(super) fn stream_completed(
        &mut self,
        index: u32,
        cqe: &cqueue::Entry,
    ) -> Option<Completion> {
        let send = self.memory.streams.slot(index);
        let (file, token, left) = (send.file, send.token, send.gather.bytes());
        let (is_zerocopy, is_untaken, before) =
            (send.is_zerocopy, send.is_untaken, send.taken_bytes);
        if cqueue::notif(cqe.flags()) {
            let file_index = self.files.is_open(file).then(|| file.index());
            self.zerocopy.end(file_index, Outlet::Stream, cqe.result());
            match file_index {
                Some(file) if is_untaken => self.pause(file, Again::Send(index)),
                _ => self.memory.streams.give_back(index),
            }
            return None;
        }
        let has_notice = cqueue::more(cqe.flags());
        if is_zerocopy && !has_notice {
            self.zerocopy.end_unnoticed();
        }
        let is_closing = self.files.is_closing(file.index());
        if !is_closing && self.memory.streams.slot(index).is_cut {
            return self.stream_cut(index, cqe.result(), has_notice);
        }
        if !is_closing && self.is_untaken(file, is_zerocopy, cqe.result()) {
            self.memory.streams.slot(index).is_untaken = has_notice;
            if !has_notice {
                self.pause(file.index(), Again::Send(index));
            }
            self.end_op(file.index());
            return None;
        }
        let taken = usize::try_from(cqe.result()).unwrap_or(0);
        if !is_closing && self.files.has_kernel_tls(file.index()) && 0 < taken && taken < left {
            let send = self.memory.streams.slot(index);
            send.gather.skip(taken);
            send.taken_bytes += taken;
            self.queue_stream(index);
            self.end_op(file.index());
            return None;
        }
        if !has_notice {
            self.memory.streams.give_back(index);
        }
        self.files.end_stream(file.index());
        self.end_op(file.index());
        if is_closing {
            return None;
        }
        // Of a gather, whose bytes fit in 32 bits.
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        let result = stream_result(cqe.result(), left).map(|sent| sent.saturating_add(before));
        Some(Completion::StreamSent { token, result })
    }

    /// Ends the send of a connection, if one is under way. It completes soon: as a whole, or with
    /// `StreamCut`. What is to end already is not ended twice.
    pub fn end_send(&mut self, slot: FileSlot) {
        let Some(index) = self.files.stream(slot) else { return };
        if !std::mem::replace(&mut self.memory.streams.slot(index).is_cut, true) {
            self.cancel_send(slot, index);
        }
    }

    /// Ends the send of a connection that is to end and has not.
    pub(super) fn end_send_again(&mut self, slot: FileSlot) {
        let Some(index) = self.files.stream(slot) else { return };
        if self.memory.streams.slot(index).is_cut {
            self.cancel_send(slot, index);
        }
    }

    fn cancel_send(&mut self, slot: FileSlot, index: u32) {
        let sent = OpKey::new(Op::Stream, index).as_user_data();
        let entry = opcode::AsyncCancel2::new(types::CancelBuilder::user_data(sent)).build();
        self.queue_file_op(entry, OpKey::new(Op::Cancel, slot.index()));
    }

    /// Handles the result of a send that was to end.
    fn stream_cut(&mut self, index: u32, result: i32, has_notice: bool) -> Option<Completion> {
        let errno = result.saturating_neg();
        self.stats.cancelled += u64::from(errno == libc::ECANCELED);
        let is_taken_none = matches!(
            errno,
            libc::ECANCELED | libc::ENOMEM | libc::ENOBUFS | libc::EAGAIN | libc::EINTR
        );
        let send = self.memory.streams.slot(index);
        let (file, token, left) = (send.file, send.token, send.gather.bytes());
        let taken = usize::try_from(result).unwrap_or(0);
        let completion = if is_taken_none || (result >= 0 && taken < left) {
            send.gather.skip(taken);
            let rest = rest_of(send.gather.iovecs_mut());
            Completion::StreamCut { token, rest }
        } else {
            let before = u32::try_from(send.taken_bytes).unwrap_or(u32::MAX);
            let result = stream_result(result, left).map(|sent| sent.saturating_add(before));
            Completion::StreamSent { token, result }
        };
        if !has_notice {
            self.memory.streams.give_back(index);
        }
        self.files.end_stream(file.index());
        self.end_op(file.index());
        Some(completion)
    }

    /// Whether the kernel took no byte of a send for a reason of its own: it has no memory, has
    /// cancelled the operation, or sends nothing without a copy here. After a part of the bytes it
    /// reports their number, and no error.
    fn is_untaken(&mut self, file: FileSlot, is_zerocopy: bool, result: i32) -> bool {
        let errno = result.saturating_neg();
        self.stats.cancelled += u64::from(errno == libc::ECANCELED);
        is_zerocopy && self.zerocopy.handle_failure(file.index(), Outlet::Stream, errno)
            || matches!(
                errno,
                libc::ECANCELED | libc::ENOMEM | libc::ENOBUFS | libc::EAGAIN | libc::EINTR
            )
    }

    /// Queues a send again whose pause is over, or frees its slot if the connection was closed.
    pub(super) fn send_again(&mut self, index: u32) {
        let file = self.memory.streams.slot(index).file;
        if self.files.is_open(file) {
            self.queue_stream(index);
            if self.memory.streams.slot(index).is_cut {
                self.cancel_send(file, index);
            }
        } else {
            self.memory.streams.give_back(index);
        }
    }

    /// What is sent on a slot is encrypted by the kernel from now on.
    pub fn set_kernel_tls(&mut self, slot: FileSlot) {
        self.files.set_kernel_tls(slot);
    }

    /// Whether what is sent on a slot is encrypted by the kernel.
    #[must_use]
    pub fn has_kernel_tls(&self, slot: FileSlot) -> bool {
        self.files.is_open(slot) && self.files.has_kernel_tls(slot.index())
    }

    fn queue_stream(&mut self, index: u32) {
        let has_kernel_tls = {
            let file = self.memory.streams.slot(index).file;
            self.files.has_kernel_tls(file.index())
        };
        let send = self.memory.streams.slot(index);
        send.is_untaken = false;
        let iovecs = send.gather.iovecs_mut();
        send.message.msg_iov = iovecs.as_mut_ptr();
        send.message.msg_iovlen = iovecs.len();
        let file = types::Fixed(send.file.index());
        let whole = if has_kernel_tls { 0 } else { libc::MSG_WAITALL };
        let flags = (whole | libc::MSG_NOSIGNAL).cast_unsigned();
        let bytes = send.gather.bytes();
        send.is_zerocopy = !has_kernel_tls
            && self.zerocopy.is_wanted(send.file.index(), Outlet::Stream, bytes, || Shape {
                bytes,
                fragments: fragments(send.gather.iovecs_mut()),
            });
        let message = &raw const send.message;
        let entry = if send.is_zerocopy {
            self.zerocopy.start();
            opcode::SendMsgZc::new(file, message).ioprio(REPORT_USAGE).flags(flags).build()
        } else {
            opcode::SendMsg::new(file, message).flags(flags).build()
        };
        let entry = entry.user_data(OpKey::new(Op::Stream, index).as_user_data());
        self.files.start_op(send.file.index());
        // SAFETY: `queue` requires valid pointers until the operation's last completion is taken.
        // - Message and the gather's vectors are owned by a boxed slot, which stays where it is
        //   while the vector of slots grows, and is freed only when nothing is in the kernel.
        // - The slot is off the free list until `stream_completed` has seen the last completion,
        //   which is the notice of a send without a copy, so nobody changes it before; no arena
        //   grows once the send is submitted.
        // - Other ranges lie in maps of titles, blocks of windows or batches, which the slot holds
        //   until then.
        // Tests: `frames_arrive_whole_and_in_order_at_a_slow_reader`,
        // `memory_of_a_send_without_a_copy_is_not_used_again_before_its_notice`,
        // `drop_with_operations_in_flight_frees_everything`.
        unsafe { self.uring.queue(entry) };
    }
}

impl<K: Kernel> StreamSend<'_, K> {
    /// Appends a copy of bytes (RTSP replies, interleaved RTCP). False: there is no room, and
    /// nothing was added; the caller submits, and goes on when the send has ended.
    pub fn push_bytes(&mut self, bytes: &[u8]) -> bool {
        self.gather().push_bytes(bytes)
    }

    /// Appends an interleaved RTP packet. False: as for `push_bytes`.
    ///
    /// # Errors
    /// The packet can never be sent; the send is as before.
    pub fn push_packet(
        &mut self,
        channel: u8,
        header: &[u8; 12],
        window: &PacketWindow,
        packet: &Packet,
        title: &Arc<Title>,
    ) -> Result<bool, RangeOutside> {
        let Packet { piece_count, payload_bytes, .. } = *packet;
        let Some(bytes) = payload_bytes.checked_add(RTP_HEADER_BYTES) else {
            return Err(RangeOutside::TooLarge { piece_count, payload_bytes });
        };
        let [high, low] = bytes.to_be_bytes();
        let mut head = [0; FRAMED_HEADER_BYTES];
        head[..4].copy_from_slice(&[b'$', channel, high, low]);
        head[4..].copy_from_slice(header);
        self.gather().push_packet(&head, window, packet, title)
    }

    /// Appends a packet of a batch, interleaved: with `header` instead of its first bytes. False:
    /// as for `push_bytes`.
    pub fn push_live_packet(
        &mut self,
        channel: u8,
        header: &[u8; 12],
        batch: &Arc<PacketBatch>,
        packet: &LivePacket,
    ) -> bool {
        let [high, low] = packet.bytes.to_be_bytes();
        let mut head = [0; FRAMED_HEADER_BYTES];
        head[..4].copy_from_slice(&[b'$', channel, high, low]);
        head[4..].copy_from_slice(header);
        self.gather().push_range(&head, batch, packet.range_behind(header.len()))
    }

    /// Whether nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.memory.streams.slots[self.index as usize].gather.is_empty()
    }

    /// Number of bytes pushed.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.ring.memory.streams.slots[self.index as usize].gather.bytes()
    }

    /// Queues the send for the next `enter`; an empty send is dropped.
    pub fn submit(mut self) {
        if !self.is_empty() {
            self.is_submitted = true;
            self.ring.queue_stream(self.index);
        }
    }

    fn gather(&mut self) -> &mut Gather {
        &mut self.ring.memory.streams.slot(self.index).gather
    }
}

impl<K: Kernel> Drop for StreamSend<'_, K> {
    fn drop(&mut self) {
        if !self.is_submitted {
            let file = self.ring.memory.streams.slot(self.index).file;
            self.ring.memory.streams.give_back(self.index);
            self.ring.files.end_stream(file.index());
        }
    }
}

impl<K: Kernel> fmt::Debug for StreamSend<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamSend({} bytes)", self.bytes())
    }
}

impl StreamSlots {
    /// Number of slots in use.
    pub(super) fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn take(&mut self, file: FileSlot, token: u32) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| self.grow());
        let send = self.slot(index);
        (send.file, send.token, send.is_untaken, send.taken_bytes) = (file, token, false, 0);
        send.is_cut = false;
        index
    }

    fn grow(&mut self) -> u32 {
        self.slots.push(Box::new(StreamSlot {
            gather: Gather::with_memory(USUAL, LIMITS),
            message: empty_message(),
            file: FileSlot::default(),
            token: 0,
            is_zerocopy: false,
            is_untaken: false,
            taken_bytes: 0,
            is_cut: false,
        }));
        // One slot a connection at most, and connections are counted in 32 bits.
        u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
    }

    fn give_back(&mut self, index: u32) {
        let send = self.slot(index);
        send.gather.clear(ARENA_KEPT_BYTES);
        send.file = FileSlot::default();
        self.free.push(index);
    }

    fn slot(&mut self, index: u32) -> &mut StreamSlot {
        &mut self.slots[index as usize]
    }
}

/// Copies what a send has not sent. The kernel reads the ranges, for those of a file that has
/// become shorter cannot be read otherwise.
fn rest_of(ranges: &mut [libc::iovec]) -> io::Result<Vec<u8>> {
    let file = std::fs::File::from(memfd_create("rest", MemfdFlags::CLOEXEC)?);
    let bytes: usize = ranges.iter().map(|range| range.iov_len).sum();
    // No more than `LIMITS`.
    let count = libc::c_int::try_from(ranges.len()).unwrap_or(libc::c_int::MAX);
    // SAFETY: `writev` requires valid iovecs; what they point to may be anything.
    // - They are borrowed for the call, and `count` is their number.
    // - Bytes of a map that the file does not have any more make the call fail or end early.
    // Test: `send_that_is_ended_gives_back_what_the_kernel_has_not_taken`.
    let written = unsafe { libc::writev(file.as_raw_fd(), ranges.as_ptr(), count) };
    if usize::try_from(written) != Ok(bytes) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut rest = vec![0; bytes];
    file.read_exact_at(&mut rest, 0)?;
    Ok(rest)
}

/// The kernel takes 1,024 iovecs; a frame of 450 packets fits. Replies with a long SDP are copied.
const LIMITS: GatherLimits = GatherLimits { iovecs: 900, arena_bytes: 256 << 10, held: 64 };

/// Room for a frame of sixty packets with replies and reports; more is rare.
const USUAL: GatherLimits = GatherLimits { iovecs: 128, arena_bytes: 4_096, held: 64 };

/// Arena that a free slot keeps; the memory of a rare long reply is freed.
const ARENA_KEPT_BYTES: usize = 16 << 10;

/// Bytes of an RTP header without CSRCs (RFC 3550 s5.1).
const RTP_HEADER_BYTES: u16 = 12;

/// Bytes of that header with the interleaved prefix (RFC 2326 s10.12).
const FRAMED_HEADER_BYTES: usize = 4 + RTP_HEADER_BYTES as usize;

//! Receives connections, bytes of connections, datagrams and wake-ups.
//!
//! ```text
//! arm_accept, arm_datagrams   many completions; armed again by the ring when the kernel stops
//! arm_wake                    one completion; armed again by the ring
//! arm_receive                 one completion; polling stays off until the consumer arms again
//! ```
//! Srikantan et al.: polling of a connection is off from an event until its consumer enables it.
//!
//! Invariants: a provided buffer goes back to the kernel while its completion is handled. A way
//! that failed for lack of descriptors or memory is armed again after a pause (`retries`): the
//! shard never spins, and no connection ends for it.
#![allow(unsafe_code, reason = "operations with pointers; a room with unsafe code")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use io_uring::types::{CancelBuilder, Fixed, RecvMsgOut};
use io_uring::{cqueue, opcode, squeue};

use super::bytes::Received;
use super::completion::Completion;
use super::files::FileSlot;
use super::kernel::Kernel;
use super::key::{Arm, Op, OpKey};
use super::message::{ADDRESS_BYTES, empty_message, parse_address};
use super::retries::Again;
use super::{Memory, Ring};

/// Memory that all operations of a kind share; boxed, so that it never moves.
pub(super) struct Shared {
    /// Target of eventfd reads; its value is not used.
    wake_count: [u8; 8],
    /// Tells the kernel the room for the sender's address in a datagram buffer.
    datagram_message: libc::msghdr,
}

impl Shared {
    pub(super) fn new() -> Box<Self> {
        let mut datagram_message = empty_message();
        datagram_message.msg_namelen = ADDRESS_BYTES;
        Box::new(Self { wake_count: [0; 8], datagram_message })
    }
}

impl<K: Kernel> Ring<K> {
    /// Accepts connections until the slot is removed.
    pub fn arm_accept(&mut self, slot: FileSlot, token: u32) {
        self.arm_file(slot, Arm::Accept, token);
    }

    /// Receives bytes of a connection once; the next receive needs another call.
    pub fn arm_receive(&mut self, slot: FileSlot, token: u32) {
        self.arm_file(slot, Arm::Receive, token);
    }

    /// Ends the receive of a connection, which completes soon: with bytes that came before, or with
    /// nothing, which nobody is told.
    pub fn end_receive(&mut self, slot: FileSlot) {
        self.end_arm(slot, Arm::Receive);
    }

    /// Takes `end_receive` back: a receive that ends for it is armed again.
    pub fn keep_receiving(&mut self, slot: FileSlot) {
        self.files.keep_arm(slot, Arm::Receive);
    }

    /// Whether a receive of a connection is under way.
    #[must_use]
    pub fn is_receiving(&self, slot: FileSlot) -> bool {
        self.files.is_armed(slot, Arm::Receive)
    }

    /// Ends accepting, or receiving datagrams, until the slot is armed again. What has come before
    /// is still reported.
    pub fn end_arrivals(&mut self, slot: FileSlot) {
        self.end_arm(slot, Arm::Accept);
        self.end_arm(slot, Arm::Datagrams);
    }

    /// Takes `end_arrivals` back, as `keep_receiving` does.
    pub fn keep_arrivals(&mut self, slot: FileSlot) {
        self.files.keep_arm(slot, Arm::Accept);
        self.files.keep_arm(slot, Arm::Datagrams);
    }

    /// Whether connections or datagrams are waited for on a slot.
    #[must_use]
    pub fn has_arrivals(&self, slot: FileSlot) -> bool {
        self.files.is_armed(slot, Arm::Accept) || self.files.is_armed(slot, Arm::Datagrams)
    }

    /// Bytes as if they had been received.
    #[must_use]
    pub fn copy_of(&self, bytes: &[u8]) -> Received {
        self.pool.copy(bytes)
    }

    fn end_arm(&mut self, slot: FileSlot, arm: Arm) {
        if self.files.begin_end(slot, arm) {
            self.cancel_arm(slot, arm);
        }
    }

    /// Ends what is to end on a file and has not, because the kernel has refused to cancel it.
    pub(super) fn end_again(&mut self, slot: FileSlot) {
        for arm in Arm::ALL {
            if self.files.is_ending(slot.index(), arm) {
                self.cancel_arm(slot, arm);
            }
        }
        self.end_send_again(slot);
    }

    fn cancel_arm(&mut self, slot: FileSlot, arm: Arm) {
        let armed = OpKey::new(Op::Arm(arm), slot.index()).as_user_data();
        let entry = opcode::AsyncCancel2::new(CancelBuilder::user_data(armed)).build();
        self.queue_file_op(entry, OpKey::new(Op::Cancel, slot.index()));
    }

    /// Receives datagrams until the slot is removed. Datagrams of more than 2 KiB are dropped; no
    /// RTCP packet is as long.
    pub fn arm_datagrams(&mut self, slot: FileSlot, token: u32) {
        self.arm_file(slot, Arm::Datagrams, token);
    }

    /// Reports writes to an eventfd until the slot is removed.
    pub fn arm_wake(&mut self, slot: FileSlot, token: u32) {
        self.arm_file(slot, Arm::Wake, token);
    }

    fn arm_file(&mut self, slot: FileSlot, arm: Arm, token: u32) {
        if self.files.start_arm(slot, arm, token) {
            self.queue_arm(slot.index(), arm);
        }
    }

    pub(super) fn queue_arm(&mut self, index: u32, arm: Arm) {
        let (file, memory) = (Fixed(index), &mut self.memory);
        let entry = match arm {
            Arm::Accept => opcode::AcceptMulti::new(file).flags(libc::SOCK_CLOEXEC).build(),
            Arm::Receive => {
                let buffers = &memory.stream_buffers;
                opcode::Recv::new(file, std::ptr::null_mut(), buffers.buffer_bytes())
                    .buf_group(buffers.group())
                    .build()
                    .flags(squeue::Flags::BUFFER_SELECT)
            }
            Arm::Datagrams => {
                let message = &raw const memory.shared.datagram_message;
                opcode::RecvMsgMulti::new(file, message, memory.datagram_buffers.group()).build()
            }
            Arm::Wake => {
                let count = memory.shared.wake_count.as_mut_ptr();
                opcode::Read::new(file, count, WAKE_COUNT_BYTES).build()
            }
        };
        self.queue_file_op(entry, OpKey::new(Op::Arm(arm), index));
    }

    /// Ends all operations on the file, which then complete one by one.
    pub(super) fn queue_cancel(&mut self, index: u32) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::fd(Fixed(index)).all()).build();
        self.queue_file_op(entry, OpKey::new(Op::Cancel, index));
    }

    pub(super) fn queue_file_op(&mut self, entry: squeue::Entry, key: OpKey) {
        self.files.start_op(key.index);
        // SAFETY: `queue` requires valid pointers until the operation's last completion is taken.
        // - Receives have none of their own: the kernel takes a published buffer of a `BufferRing`,
        //   which lives until nothing is in the kernel and the ring is closed.
        // - The message and the wake count lie in `Shared`, a box that lives as long.
        //   The kernel writes only to the wake count, which nobody reads, and, for datagrams, to
        //   the buffer, not to the message.
        // - Accepts and cancels have no pointers.
        // Tests: `request_arrives_and_polling_stays_off_until_armed_again`,
        // `wake_from_another_thread_is_reported_each_time`,
        // `drop_with_operations_in_flight_frees_everything`.
        unsafe { self.uring.queue(entry.user_data(key.as_user_data())) };
    }

    /// Handles a completion of `arm`.
    pub(super) fn armed_completed(
        &mut self,
        index: u32,
        arm: Arm,
        cqe: &cqueue::Entry,
    ) -> Option<Completion> {
        let has_ended = !cqueue::more(cqe.flags());
        let is_closing = self.files.is_closing(index);
        let is_ending = self.files.is_ending(index, arm);
        let is_ours = has_ended && self.files.take_cancelled(index, arm);
        let token = self.files.token(index, arm);
        let result = match u32::try_from(cqe.result()) {
            Ok(value) => Ok(value),
            Err(_) => Err(cqe.result().checked_neg().unwrap_or(libc::EIO)),
        };
        let completion = match arm {
            // No client is concerned, and none is told.
            _ if result == Err(libc::ECANCELED) => {
                self.stats.cancelled += u64::from(!is_closing && !is_ours);
                None
            }
            Arm::Accept => Some(Completion::Accepted { token, result: accepted(cqe.result()) }),
            Arm::Receive => self.received(token, result, cqe.flags()),
            Arm::Datagrams => self.datagram(token, result, cqe.flags()),
            Arm::Wake => result.is_ok().then_some(Completion::Woken { token }),
        };
        if has_ended {
            // Polling of a connection is up to its consumer, unless that was told nothing yet.
            let is_done = arm == Arm::Receive && completion.is_some();
            if is_closing || is_ending || is_done {
                self.files.end_arm(index, arm);
            } else if is_ours && result == Err(libc::ECANCELED) {
                self.queue_arm(index, arm);
            } else {
                self.arm_again(index, arm, result);
            }
            self.end_op(index);
        }
        completion.filter(|_| !is_closing)
    }

    /// Arms a way again that the kernel has ended, at once or after a pause.
    fn arm_again(&mut self, index: u32, arm: Arm, result: Result<u32, i32>) {
        match result {
            Ok(_) | Err(libc::ENOBUFS | libc::EINTR | libc::ECONNABORTED) => {
                self.queue_arm(index, arm);
            }
            // Other threads may wait for the shard to hear them.
            Err(libc::ECANCELED) if arm == Arm::Wake => self.queue_arm(index, arm),
            Err(_) => self.pause(index, Again::Arm(arm)),
        }
    }

    fn received(&mut self, token: u32, result: Result<u32, i32>, flags: u32) -> Option<Completion> {
        let buffers = &mut self.memory.stream_buffers;
        let taken = cqueue::buffer_select(flags);
        let bytes = match (result, taken) {
            (Ok(len), Some(buffer)) => buffers.taken(buffer, len as usize).unwrap_or_default(),
            _ => &[],
        };
        let bytes = self.pool.copy(bytes);
        if let Some(buffer) = taken {
            buffers.publish(buffer);
        }
        let result = match result {
            Ok(_) => Ok(bytes),
            Err(libc::ENOBUFS) => {
                self.stats.buffer_shortages += 1;
                return None;
            }
            // The kernel's need, not the connection's end.
            Err(libc::EAGAIN | libc::EINTR | libc::ENOMEM) => return None,
            Err(errno) => Err(io::Error::from_raw_os_error(errno)),
        };
        Some(Completion::Received { token, result })
    }

    fn datagram(&mut self, token: u32, result: Result<u32, i32>, flags: u32) -> Option<Completion> {
        if result == Err(libc::ENOBUFS) {
            self.stats.buffer_shortages += 1;
        }
        let buffer = cqueue::buffer_select(flags)?;
        let Memory { datagram_buffers: buffers, shared, .. } = &mut *self.memory;
        let whole = result.ok().and_then(|len| buffers.taken(buffer, len as usize));
        let parsed =
            whole.and_then(|whole| RecvMsgOut::parse(whole, &shared.datagram_message).ok());
        let completion = parsed.filter(|out| !out.is_payload_truncated()).and_then(|out| {
            let from = parse_address(out.name_data())?;
            let bytes = self.pool.copy(out.payload_data());
            Some(Completion::Datagram { token, from, bytes })
        });
        buffers.publish(buffer);
        if completion.is_none() {
            self.stats.datagrams_dropped += 1;
        }
        completion
    }
}

/// The descriptor in the result of an accept; dropping it closes the connection.
pub(super) fn accepted(result: i32) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::from_raw_os_error(result.checked_neg().unwrap_or(libc::EIO)));
    }
    // SAFETY: `from_raw_fd` requires an open descriptor that nobody else owns: the kernel has just
    // made it, and this completion is the only place that names it; a completion is taken once.
    // Test: `hundred_connections_are_accepted_by_one_arm`.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}

/// Bytes of a TCP receive buffer: an RTSP request with its headers is below 2 KiB as a rule.
pub(super) const STREAM_BUFFER_BYTES: u32 = 4 << 10;

/// Bytes of a datagram buffer: what the kernel says about it (16), the sender, the payload.
pub(super) const DATAGRAM_BUFFER_BYTES: u32 = 16 + ADDRESS_BYTES + 4 + (2 << 10);

const WAKE_COUNT_BYTES: u32 = 8;

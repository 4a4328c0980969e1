//! Outgoing connections to cameras and other servers.
//!
//! ```text
//! install(socket) -> start_connect -> enter -> kernel: SYN .. -> Connected, slot free
//! ```
//! The kernel waits for the other side. A connect has no time limit: a caller that gives up removes
//! the file, which ends the operation.
//!
//! Invariant: an address is not changed or freed while an operation may read it.
//! Bound: one slot for each connect in flight; slots are used again.
#![allow(unsafe_code, reason = "addresses for the kernel; a room with unsafe code")]

use std::io;
use std::net::SocketAddr;

use io_uring::{cqueue, opcode, types};

use super::Ring;
use super::completion::Completion;
use super::files::FileSlot;
use super::kernel::Kernel;
use super::key::{Op, OpKey};
use super::message::Name;

/// Memory of all connects in flight.
#[derive(Default)]
pub(super) struct ConnectSlots {
    /// Boxed: a slot must not move while the kernel has its address, also when the vector grows.
    #[expect(clippy::vec_box, reason = "addresses must not change")]
    slots: Vec<Box<ConnectSlot>>,
    free: Vec<u32>,
}

struct ConnectSlot {
    address: Name,
    file: FileSlot,
    token: u32,
}

impl<K: Kernel> Ring<K> {
    /// Connects a socket to `to`, an address of its family. False: the slot is not open.
    pub fn start_connect(&mut self, slot: FileSlot, to: SocketAddr, token: u32) -> bool {
        if !self.files.is_open(slot) {
            return false;
        }
        let index = self.memory.connects.take(slot, to, token);
        let address = self.memory.connects.slot(index).address.as_bytes();
        // `Name` has room for `ADDRESS_BYTES`.
        let bytes = u32::try_from(address.len()).unwrap_or(0);
        let file = types::Fixed(slot.index());
        let entry = opcode::Connect::new(file, address.as_ptr().cast(), bytes).build();
        let entry = entry.user_data(OpKey::new(Op::Connect, index).as_user_data());
        self.files.start_op(slot.index());
        // SAFETY: `queue` requires valid pointers until the operation's last completion is taken.
        // - The address is a whole `sockaddr_in` or `sockaddr_in6` of `bytes` bytes in a boxed
        //   slot, which stays where it is while the vector grows, and is freed only when nothing
        //   is in the kernel.
        // - The slot is off the free list until `connect_completed`, so nobody changes it before.
        // Tests: `connection_is_made_and_carries_bytes_both_ways`,
        // `drop_with_operations_in_flight_frees_everything`.
        unsafe { self.uring.queue(entry) };
        true
    }

    /// Handles the completion of a connect.
    pub(super) fn connect_completed(
        &mut self,
        index: u32,
        cqe: &cqueue::Entry,
    ) -> Option<Completion> {
        let &mut ConnectSlot { file, token, .. } = self.memory.connects.slot(index);
        self.memory.connects.free.push(index);
        let is_closing = self.files.is_closing(file.index());
        let is_cancelled = cqe.result() == -libc::ECANCELED && !is_closing;
        self.stats.cancelled += u64::from(is_cancelled);
        self.end_op(file.index());
        let result = match cqe.result() {
            code if code < 0 => Err(io::Error::from_raw_os_error(code.saturating_neg())),
            _ => Ok(()),
        };
        (!is_closing).then_some(Completion::Connected { token, result })
    }
}

impl ConnectSlots {
    fn take(&mut self, file: FileSlot, to: SocketAddr, token: u32) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            let slot = ConnectSlot { address: Name::new(), file, token };
            self.slots.push(Box::new(slot));
            // One slot a file at most, and files are counted in 32 bits.
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let slot = self.slot(index);
        (slot.file, slot.token) = (file, token);
        slot.address.set(to);
        index
    }

    fn slot(&mut self, index: u32) -> &mut ConnectSlot {
        &mut self.slots[index as usize]
    }
}

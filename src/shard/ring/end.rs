//! Ends a ring without freeing memory that the kernel may still touch.
//!
//! ```text
//! cancel everything -> wait for the last completion -> let go of files and buffers -> free memory
//!                            `- does not come -> let go of files, leak memory, close the ring
//! ```
//! Bound: `ROUNDS_MAX` waits of `ROUND_NS` in which nothing ends.
#![allow(unsafe_code, reason = "frees memory shared with the kernel; a room with unsafe code")]

use std::mem::ManuallyDrop;

use io_uring::opcode;
use io_uring::types::CancelBuilder;

use super::Ring;
use super::kernel::{Kernel, Wait};
use super::key::{Arm, Op, OpKey};
use super::receive::accepted;

impl<K: Kernel> Drop for Ring<K> {
    fn drop(&mut self) {
        let is_over = self.end_all_operations();
        if !is_over {
            let operations = self.uring.in_kernel();
            tracing::warn!(
                code = "HE-W614",
                operations,
                "the kernel does not give operations back: their memory stays as it is"
            );
        }
        // The kernel takes a closed ring apart later, on a thread of its own. Until then it would
        // hold the registered files, and a server that is started at once would find its own port
        // taken. It fails only where nothing is registered.
        let _ = self.uring.unregister_files();
        if is_over && self.unregister_buffers() {
            // SAFETY: `drop` requires that the value is not used again: this is the end of `Ring`,
            // and its other fields do not refer to it. All that the kernel knew of it is over: no
            // operation is in flight, no buffer ring is registered.
            // Test: `drop_with_operations_in_flight_frees_everything`.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}

impl<K: Kernel> Ring<K> {
    /// Cancels all operations and waits for them. True: none is in flight any more.
    fn end_all_operations(&mut self) -> bool {
        self.uring.drop_queued();
        let mut idle_rounds = 0;
        let mut is_cancelled = false;
        while self.uring.in_kernel() > 0 && idle_rounds < ROUNDS_MAX {
            if !std::mem::replace(&mut is_cancelled, true) {
                let key = OpKey::new(Op::Cancel, u32::MAX);
                let cancel = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
                // SAFETY: `queue` requires valid pointers; a cancel has none. Test: as above.
                unsafe { self.uring.queue(cancel.user_data(key.as_user_data())) };
            }
            let everything = self.uring.in_kernel().saturating_add(1);
            if self.uring.enter(everything, Wait::For(Some(ROUND_NS))).is_err() {
                return false;
            }
            if !self.uring.has_cqe() {
                (idle_rounds, is_cancelled) = (idle_rounds + 1, false);
            }
            while let Some(cqe) = self.uring.next_cqe() {
                let key = OpKey::from_user_data(cqe.user_data());
                if key.is_some_and(|key| key.op == Op::Arm(Arm::Accept)) {
                    drop(accepted(cqe.result()));
                }
            }
        }
        self.uring.in_kernel() == 0
    }

    fn unregister_buffers(&self) -> bool {
        let groups = [self.memory.stream_buffers.group(), self.memory.datagram_buffers.group()];
        groups.into_iter().all(|group| self.uring.unregister_buffers(group).is_ok())
    }
}

/// Two seconds in all without an end. Cancelled operations end at once, as a rule.
const ROUNDS_MAX: u32 = 40;
const ROUND_NS: u64 = 50_000_000;

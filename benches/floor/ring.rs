//! A ring that submits a turn's sends by one system call and waits for all of them.
//!
//! A send without a copy has a notice behind its result. `enter` does not wait for notices: what
//! they are about is memory that is never written to.
//! Invariant: what `push` was given is not touched until `enter` has returned.
//! Bound: [`SLOTS`] sends in the kernel at once.
#![allow(unsafe_code, reason = "messages for the kernel")]

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::types::{Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};

/// See the module.
pub(crate) struct Batch {
    ring: IoUring,
    /// Sends queued or in the kernel.
    taken: usize,
    /// Of them, those without a copy.
    taken_zc: usize,
    /// Notices: not copied, copied.
    pub(crate) notices: [u64; 2],
}

impl Batch {
    /// A ring like a shard's, with these sockets registered.
    pub(crate) fn new(sockets: &[RawFd]) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .build(u32::try_from(SLOTS).unwrap_or(u32::MAX))?;
        ring.submitter().register_files(sockets)?;
        Ok(Self { ring, taken: 0, taken_zc: 0, notices: [0, 0] })
    }

    /// Sends queued since the last `enter`: the index of the next one.
    pub(crate) const fn taken(&self) -> usize {
        self.taken
    }

    /// Queues a send on the socket with that index; its number comes back with its result.
    ///
    /// # Safety
    /// `message` and all that it points to must stay as they are until `enter` has returned; with
    /// `zerocopy`, the bytes to send for ever.
    pub(crate) unsafe fn push(
        &mut self,
        socket: u32,
        message: *const libc::msghdr,
        flags: libc::c_int,
        zerocopy: bool,
    ) -> io::Result<()> {
        let (file, flags) = (Fixed(socket), flags.cast_unsigned());
        let entry = if zerocopy {
            opcode::SendMsgZc::new(file, message).ioprio(REPORT_USAGE).flags(flags).build()
        } else {
            opcode::SendMsg::new(file, message).flags(flags).build()
        };
        let entry = entry.user_data(self.taken as u64);
        // SAFETY: `push` requires the entry's pointers to be valid until its completion is taken:
        // the caller's duty, since `enter` returns after the completions of all that is taken.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.map_err(io::Error::other)?;
        self.taken += 1;
        self.taken_zc += usize::from(zerocopy);
        Ok(())
    }

    /// One system call that submits; `wait` makes it wait for that time as well. Calls `done` with
    /// the number and the result of each send.
    pub(crate) fn enter(
        &mut self,
        wait: Option<Duration>,
        mut done: impl FnMut(usize, i32),
    ) -> io::Result<()> {
        let (mut reaped, mut noticed) = (0, 0);
        let time = wait.map(Timespec::from);
        // One more completion than there will be: it waits for the time.
        let more = usize::from(time.is_some());
        let mut is_first = true;
        // Bounded: UDP sends do not wait (MSG_DONTWAIT), TCP ones end with the receiver.
        while is_first || reaped < self.taken {
            let args = SubmitArgs::new();
            let args = time.as_ref().map_or(args, |time| args.timespec(time));
            match self.ring.submitter().submit_with_args(self.left(reaped, noticed) + more, &args) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ETIME) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            for completion in self.ring.completion() {
                if cqueue::notif(completion.flags()) {
                    let was_copied = completion.result().cast_unsigned() & COPIED != 0;
                    self.notices[usize::from(was_copied)] += 1;
                    noticed += 1;
                    continue;
                }
                let number = usize::try_from(completion.user_data()).unwrap_or(usize::MAX);
                done(number, completion.result());
                reaped += 1;
            }
            is_first = false;
        }
        (self.taken, self.taken_zc) = (0, 0);
        Ok(())
    }

    /// Completions to come. A device that frees packets at once gives its notices at once.
    fn left(&self, reaped: usize, noticed: usize) -> usize {
        (self.taken - reaped) + self.taken_zc.saturating_sub(noticed)
    }
}

/// `IORING_SEND_ZC_REPORT_USAGE` and `IORING_NOTIF_USAGE_ZC_COPIED`.
const REPORT_USAGE: u16 = 8;
const COPIED: u32 = 1 << 31;

/// Two thousand sessions in a turn of 2 ms.
pub(crate) const SLOTS: usize = 512;

//! How sends reach the kernel, over UDP or TCP, and what that costs this process.
#![allow(unsafe_code, reason = "getrusage")]

use std::io;
use std::time::Duration;

use headend::base::time::Mono;

use crate::pace::clock;
use crate::tcp::TcpSender;
use crate::udp::UdpSender;

/// How sends reach the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Way {
    /// A system call for each send.
    Sendmsg,
    /// A system call for each turn.
    Uring,
    /// The same with packets that stand in memory as on the wire, headers included: one piece of
    /// memory a send of up to 64 KiB.
    Image,
    /// The same without a copy.
    ImageZc,
}

/// What carries the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Transport {
    /// Runs of datagrams.
    Udp,
    /// Frames on a connection for each client.
    Tcp,
}

impl Way {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sendmsg => "sendmsg",
            Self::Uring => "io_uring",
            Self::Image => "image",
            Self::ImageZc => "image zc",
        }
    }

    /// Whether packets stand in memory as on the wire.
    pub(crate) const fn is_image(self) -> bool {
        match self {
            Self::Sendmsg | Self::Uring => false,
            Self::Image | Self::ImageZc => true,
        }
    }
}

impl Transport {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// A sender of either kind.
pub(crate) enum Sender {
    Udp(UdpSender),
    Tcp(TcpSender),
}

impl Sender {
    /// Ends a turn: submits what is queued and waits until `until`.
    pub(crate) fn finish_turn(&mut self, until: Mono) -> io::Result<()> {
        let wait = until.since(clock());
        match self {
            Self::Udp(sender) if sender.has_ring() => return sender.enter(Some(wait)),
            Self::Tcp(sender) if sender.has_ring() => return sender.enter(Some(wait)),
            Self::Udp(_) | Self::Tcp(_) => {}
        }
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
        Ok(())
    }

    /// Sends that the kernel refused.
    pub(crate) const fn refused(&self) -> u64 {
        match self {
            Self::Udp(sender) => sender.refused,
            Self::Tcp(sender) => sender.refused,
        }
    }

    /// Notices of sends without a copy: those that were, and those that the kernel copied.
    pub(crate) fn notices(&self) -> [u64; 2] {
        match self {
            Self::Udp(sender) => sender.notices(),
            Self::Tcp(_) => [0, 0],
        }
    }

    /// Sends that had to wait for the receiver.
    pub(crate) const fn waits(&self) -> u64 {
        match self {
            Self::Udp(_) => 0,
            Self::Tcp(sender) => sender.waits,
        }
    }
}

/// User and system time of this process, without its children.
pub(crate) fn cpu_used() -> [Duration; 2] {
    // SAFETY: `zeroed` requires a type for which all bytes zero are a value: rusage is integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `getrusage` writes one rusage to the pointer, which is to a live local.
    let result = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    debug_assert_eq!(result, 0, "the arguments are constants");
    let time = |time: libc::timeval| {
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Duration::from_secs(seconds)
            + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
    };
    [time(usage.ru_utime), time(usage.ru_stime)]
}

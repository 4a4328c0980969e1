//! A cable that takes time: two TAP devices, and a thread that carries each frame from one to the
//! other after a fixed delay. It stands where a veth pair would, on kernels without netem.
//!
//! Frames keep their segmentation offload (a header of virtio before each), so a bundle of 64 KiB
//! is one read and one write. Order is kept. A frame that finds the queue full, or the other end
//! down, is lost, as on a wire.
//! Bound: `FRAMES_MAX` frames in each direction.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Carries frames until it is dropped; both devices go with it.
#[derive(Debug)]
pub(crate) struct DelayedCable {
    is_ended: Arc<AtomicBool>,
    carrier: Option<JoinHandle<()>>,
}

impl DelayedCable {
    /// Makes the devices `names` in the network of the calling thread, with `delay` between them
    /// in each direction. A device may be moved to another network and renamed afterwards.
    pub(crate) fn connect(names: [&str; 2], delay: Duration) -> Self {
        let ends = names.map(tap);
        let is_ended = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&is_ended);
        let carrier = std::thread::spawn(move || carry(ends, delay, &ended));
        Self { is_ended, carrier: Some(carrier) }
    }
}

impl Drop for DelayedCable {
    fn drop(&mut self) {
        self.is_ended.store(true, Ordering::Relaxed);
        if let Some(carrier) = self.carrier.take() {
            let _panicked = carrier.join();
        }
    }
}

/// A frame on its way, and when it arrives.
struct Frame {
    due: Instant,
    bytes: Vec<u8>,
}

fn carry(mut ends: [File; 2], delay: Duration, is_ended: &AtomicBool) {
    let mut queues: [VecDeque<Frame>; 2] = [VecDeque::new(), VecDeque::new()];
    let mut spare = Vec::new();
    while !is_ended.load(Ordering::Relaxed) {
        let next = queues.iter().filter_map(|queue| queue.front()).map(|frame| frame.due).min();
        let wait = next.map_or(LOOK_EVERY, |due| due.saturating_duration_since(Instant::now()));
        wait_for_frames(ends.each_ref().map(File::as_fd), wait.min(LOOK_EVERY));
        for (from, queue) in queues.iter_mut().enumerate() {
            take_in(&mut ends[from], queue, delay, &mut spare);
            let now = Instant::now();
            while queue.front().is_some_and(|frame| frame.due <= now) {
                let Some(frame) = queue.pop_front() else { break };
                // The other end is down or full: the frame is lost.
                let _lost = ends[1 - from].write(&frame.bytes);
                spare.push(frame.bytes);
            }
        }
        spare.truncate(FRAMES_MAX);
    }
}

fn wait_for_frames(ends: [BorrowedFd<'_>; 2], longest: Duration) {
    let mut ends = ends.map(|end| PollFd::from_borrowed_fd(end, PollFlags::IN));
    let longest = Timespec::try_from(longest).unwrap();
    // An interrupted wait is a short one.
    let _interrupted = poll(&mut ends, Some(&longest));
}

/// Reads what one end has sent, at most `BURST` frames.
fn take_in(end: &mut File, queue: &mut VecDeque<Frame>, delay: Duration, spare: &mut Vec<Vec<u8>>) {
    for _ in 0..BURST {
        let mut bytes = spare.pop().unwrap_or_default();
        bytes.resize(FRAME_BYTES_MAX, 0);
        match end.read(&mut bytes) {
            Ok(length) if queue.len() < FRAMES_MAX => {
                bytes.truncate(length);
                queue.push_back(Frame { due: Instant::now() + delay, bytes });
            }
            // The queue is full: the frame is lost.
            Ok(_) => spare.push(bytes),
            Err(error) => {
                let is_expected = matches!(error.kind(), ErrorKind::WouldBlock)
                    // The device is not up yet, or gone with its network.
                    || matches!(error.raw_os_error(), Some(libc::EIO | libc::EBADFD));
                assert!(is_expected, "reading a TAP device: {error}");
                spare.push(bytes);
                return;
            }
        }
    }
}

/// A new TAP device, with a header of virtio before each frame.
fn tap(name: &str) -> File {
    let mut options = File::options();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
    let device = options.open("/dev/net/tun").unwrap();
    // SAFETY: all zeroes is a valid `ifreq`: it holds numbers, characters and a null pointer.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    assert!(name.len() < request.ifr_name.len(), "{name} is too long for a device");
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::try_from(from).unwrap();
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).unwrap();
    // SAFETY: the descriptor is open, and TUNSETIFF reads one `ifreq`, which outlives the call.
    let made = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    assert_eq!(made, 0, "TUNSETIFF {name}: {}", std::io::Error::last_os_error());
    let offloads = libc::TUN_F_CSUM | libc::TUN_F_TSO4;
    // SAFETY: the descriptor is open, and TUNSETOFFLOAD takes a number.
    let set = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETOFFLOAD as _, offloads) };
    assert_eq!(set, 0, "TUNSETOFFLOAD {name}: {}", std::io::Error::last_os_error());
    device
}

const FRAMES_MAX: usize = 4_096;
/// The largest bundle of segmentation offload, with both headers.
const FRAME_BYTES_MAX: usize = 66 << 10;
const BURST: usize = 32;
/// How late an end is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

//! A real kernel that refuses: filters of system calls answer for it, on a thread of their own.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Instant;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use super::runs::{send_chain, sender};
use super::*;
use crate::shard::sockets;

/// An argument of a system call, and what it is compared with.
type Argument = (u8, SeccompCmpOp, u64);

/// Has a system call of this thread fail from now on, when an argument is as said.
fn refuse(number: libc::c_long, errno: i32, (index, is, value): Argument) {
    let is_met = SeccompCondition::new(index, SeccompCmpArgLen::Dword, is, value).unwrap();
    let rule = SeccompRule::new(vec![is_met]).unwrap();
    let fails = SeccompAction::Errno(errno.cast_unsigned());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter =
        SeccompFilter::new([(number, vec![rule])].into(), SeccompAction::Allow, fails, arch);
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    apply_filter(&program).unwrap();
}

/// The sentence with which a ring is refused, when this fails.
fn refusal(number: libc::c_long, errno: i32, argument: Argument) -> Option<String> {
    ring()?;
    let on_its_own = move || {
        refuse(number, errno, argument);
        let config = RingConfig { sq_entries: 64, files_max: 64, ..RingConfig::default() };
        Ring::new(&config).unwrap_err().to_string()
    };
    Some(thread::spawn(on_its_own).join().unwrap())
}

#[test]
fn ring_that_cannot_be_made_is_refused_with_a_sentence_that_says_why() {
    let of_setup = |errno| refusal(libc::SYS_io_uring_setup, errno, (0, SeccompCmpOp::Ge, 0));
    let of_register =
        |code, errno| refusal(libc::SYS_io_uring_register, errno, (1, SeccompCmpOp::Eq, code));
    let cases = [
        (of_setup(libc::ENOMEM), "no memory for its queues"),
        (of_setup(libc::EINVAL), "lacks deferred task work, which Linux 6.1 has"),
        (of_setup(libc::EPERM), "io_uring is not available"),
        (of_register(PROBE, libc::EPERM), "io_uring is not available"),
        (of_register(FILES, libc::ENOMEM), "no memory for its registered files"),
        (of_register(FILES, libc::EMFILE), "raise the limit on open files"),
        (of_register(BUFFERS, libc::ENOMEM), "no memory for its receive buffers"),
        (of_register(BUFFERS, libc::EINVAL), "cannot register 256 receive buffers"),
    ];
    for (text, expected) in cases {
        let Some(text) = text else { return };
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn descriptor_that_is_not_registered_is_open_and_handed_back() {
    if ring().is_none() {
        return;
    }
    thread::spawn(|| {
        let mut ring = ring().unwrap();
        refuse(libc::SYS_io_uring_register, libc::ENOMEM, (1, SeccompCmpOp::Eq, UPDATE));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (fd, error) = ring.install(socket.into()).unwrap_err();
        assert!(error.to_string().contains("cannot register a descriptor"), "{error}");
        assert!(sockets::local_addr(&fd).is_ok());
    })
    .join()
    .unwrap();
}

#[test]
fn kernel_that_takes_no_operation_keeps_them_queued_and_is_waited_for_shortly() {
    if ring().is_none() {
        return;
    }
    for errno in [libc::EAGAIN, libc::EBUSY, libc::EINTR, libc::ENOMEM] {
        let on_its_own = move || {
            let mut ring = ring().unwrap();
            let client = receiver("127.0.0.1:0");
            let from = sender(&mut ring, "127.0.0.1:0");
            refuse(libc::SYS_io_uring_enter, errno, (1, SeccompCmpOp::Gt, 0));
            let (title, window) = (title(&pattern(900)), window(&[100; 3]));
            send_chain(&mut ring, from, client.local_addr().unwrap(), 0, &window, &title);
            let before = Instant::now();
            for _ in 0..3 {
                // Three seconds each, if it were not for the refusal.
                ring.enter(Some(3_000_000_000)).unwrap();
                assert!(ring.next_completion().is_none());
            }
            assert!(before.elapsed() >= Duration::from_millis(3), "it does not spin");
            assert!(ring.uring.is_refusing() && !ring.has_unsent_runs());
            assert_eq!((ring.stats().refusals, ring.stats().enters), (3, 6), "errno {errno}");
            assert!(has_nothing_more(&client));
        };
        thread::spawn(on_its_own).join().unwrap();
    }
}

#[test]
fn error_that_is_for_good_ends_the_ring() {
    if ring().is_none() {
        return;
    }
    thread::spawn(|| {
        let mut ring = ring().unwrap();
        refuse(libc::SYS_io_uring_enter, libc::EINVAL, (1, SeccompCmpOp::Ge, 0));
        let error = ring.enter(Some(0)).unwrap_err();
        assert!(error.to_string().starts_with("io_uring_enter failed"), "{error}");
    })
    .join()
    .unwrap();
}

#[test]
fn more_completions_than_the_queue_holds_all_come_and_are_counted() {
    // A completion queue of 32.
    let Some(mut ring) = ring_with(|config| config.sq_entries = 8) else { return };
    let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listener = ring.install(sockets::listen_tcp(address).unwrap()).unwrap();
    let address = sockets::local_addr(ring.fd(listener)).unwrap();
    ring.arm_accept(listener, 9);
    ring.enter(Some(0)).unwrap();
    let clients: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    let accepted = reap(&mut ring, 100);
    assert_eq!(accepted.len(), clients.len());
    assert!(ring.stats().overflows > 0, "{:?}", ring.stats());
    let client = TcpStream::connect(address).unwrap();
    assert_eq!(reap(&mut ring, 1).len(), 1, "it goes on accepting");
    drop(client);
}

#[test]
fn kernel_has_what_it_says() {
    let Some(ring) = ring() else { return };
    Uring::check().unwrap();
    let features = ring.uring.features();
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    let version: (u32, u32) = (numbers.next().unwrap(), numbers.next().unwrap());
    assert_eq!(features.zerocopy, version >= (6, 2), "{version:?}");
    assert_eq!(features.absolute_waits, version >= (6, 12), "{version:?}");
    assert_eq!(features.no_iowait, version >= (6, 15), "{version:?}");
    let substitutes = features.substitutes().count();
    assert_eq!(
        ring.features().iter().filter(|name| name.contains("Linux 6.")).count(),
        substitutes
    );
}

// Operations of io_uring_register(2).
const PROBE: u64 = 8;
const UPDATE: u64 = 6;
const FILES: u64 = 13;
const BUFFERS: u64 = 22;

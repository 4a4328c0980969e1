//! A shard that plays allocates nothing for a packet or a frame: the whole of it, from the wheel to
//! the ring, with its reports (DESIGN section 10).
//!
//! The server runs inside the test, so that its allocator can count what the shard's thread asks
//! for: while it plays over UDP and TCP, across windows and with its reports; one client may ask
//! for lost packets, whose places are kept.
#![allow(unsafe_code, reason = "a counting allocator")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use headend::config::Config;
use headend::config::cpus::CpuList;

use support::session::{Lower, Session};

struct Counting;

static OF_SHARD: AtomicU64 = AtomicU64::new(0);

/// Counts an allocation of the calling thread, if that is the shard's.
fn count() {
    let mut name = [0_u8; 16];
    // SAFETY: PR_GET_NAME writes 16 bytes to where it is told.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    if name.starts_with(b"shard-") {
        OF_SHARD.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: everything is handed on to the system's allocator with the arguments as they came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the ones that `System` asks for.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, bytes) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn playing_shard_allocates_nothing_for_frames_packets_and_reports() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let config = Config {
        listen: vec![free],
        admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        rtp_port: 0,
        shards: CpuList::Count(1),
        workers: CpuList::Count(1),
        ..Config::default()
    };
    let server =
        std::thread::spawn(|| headend::appliance::run(config, None).map_err(|e| e.to_string()));
    support::wait::until("the server answers", || std::net::TcpStream::connect(free).is_ok());
    let url = format!("rtsp://{free}/demo");
    let mut sessions: Vec<Session> = [Lower::Udp, Lower::Tcp, Lower::UdpFeedback, Lower::Tcp]
        .into_iter()
        .map(|lower| Session::open(free, &url, lower))
        .collect();
    for session in &mut sessions {
        session.play(&[]);
    }
    let mut receive = |packets| {
        for session in &mut sessions {
            let all_have = session.receive_until(Duration::from_secs(20), |streams| {
                streams.iter().all(|stream| stream.packets.len() >= packets)
            });
            assert!(all_have, "fewer than {packets} packets");
        }
    };
    // Until all that is kept for use has its size: through the first windows and a sync sample.
    receive(80);
    let before = OF_SHARD.load(Ordering::Relaxed);
    receive(200);
    let allocations = OF_SHARD.load(Ordering::Relaxed) - before;
    drop(sessions);
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)
        .unwrap();
    server.join().unwrap().unwrap();
    assert_eq!(allocations, 0);
}

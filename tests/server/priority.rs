//! Which threads of the server are `SCHED_FIFO`: shards that were told to be, and no others.
//!
//! What only a privileged user can have is skipped, with a line that says so, for any other.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::Command;

use headend::shard::priority::{set_fifo, try_fifo};
use io_uring::{IoUring, opcode, squeue, types};

use crate::support::server::{Options, Server};
use crate::support::session::{Lower, Session};
use crate::support::wait::{PATIENCE, until};

/// A thread as the kernel shows it.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) name: String,
    /// 0 is `SCHED_OTHER`, 1 `SCHED_FIFO`.
    pub(crate) policy: u32,
    pub(crate) priority: u32,
}

/// Threads of process `pid`. One that ends meanwhile is left out.
pub(crate) fn threads(pid: u32) -> Vec<Thread> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let stats =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let thread = |stat: String| {
        let (head, tail) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = tail.split_whitespace().collect();
        Thread {
            name: head.split_once('(').unwrap().1.to_owned(),
            // Fields 40 and 41 of the line; `tail` begins with field 3.
            priority: fields[37].parse().unwrap(),
            policy: fields[38].parse().unwrap(),
        }
    };
    stats.map(thread).collect()
}

fn fifo_server() -> Server {
    let config = Some("[server]\nshard_priority = \"fifo:20\"\n");
    Server::start(&Options { config, ..Options::default() })
}

fn play_a_little(server: &Server) {
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    session.play(&[]);
    session.receive_packets(5, PATIENCE);
}

#[test]
fn shards_are_fifo_and_every_other_thread_is_normal() {
    if let Err(error) = try_fifo(20) {
        println!("skipped: {error}");
        return;
    }
    let server = fifo_server();
    play_a_little(&server);
    let threads = threads(server.pid());
    let (shards, others): (Vec<_>, Vec<_>) =
        threads.iter().partition(|thread| thread.name.starts_with("shard-"));
    assert_eq!(shards.len(), 1, "{threads:?}");
    assert!(shards.iter().all(|t| (t.policy, t.priority) == (1, 20)), "{threads:?}");
    assert!(others.len() >= 3, "main, worker and control at least: {threads:?}");
    assert!(others.iter().all(|t| (t.policy, t.priority) == (0, 0)), "{threads:?}");
    assert!(!server.banner.contains("HE-W104"), "{}", server.banner);
}

#[test]
fn shards_are_normal_unless_told_otherwise() {
    let server = Server::with_demo();
    let threads = threads(server.pid());
    assert!(threads.iter().all(|thread| thread.policy == 0), "{threads:?}");
}

#[test]
fn fifo_without_permission_is_a_warning_with_its_fix_and_the_server_serves() {
    // Root has the permission and has to lay it down first; any other user just lacks it.
    let is_root = rustix::process::geteuid().is_root();
    if is_root && Command::new("setpriv").arg("--version").output().is_err() {
        println!("skipped: no setpriv to lay CAP_SYS_NICE down with");
        return;
    }
    let config = Some("[server]\nshard_priority = \"fifo:20\"\n");
    let server =
        Server::start(&Options { config, without_realtime: is_root, ..Options::default() });
    if !is_root && try_fifo(20).is_ok() {
        println!("skipped: this user may run real-time threads");
        return;
    }
    assert!(server.banner.contains("HE-W104"), "{}", server.banner);
    assert!(server.banner.contains("LimitRTPRIO=20"), "{}", server.banner);
    assert!(server.banner.contains("setcap cap_sys_nice"), "{}", server.banner);
    assert!(threads(server.pid()).iter().all(|thread| thread.policy == 0));
    play_a_little(&server);
}

#[test]
fn kernel_workers_of_a_fifo_threads_ring_are_normal() {
    let worker = std::thread::spawn(|| {
        if let Err(error) = set_fifo(20) {
            println!("skipped: {error}");
            return None;
        }
        let mut ring = match IoUring::new(4) {
            Ok(ring) => ring,
            Err(error) => {
                println!("skipped, no ring: {error}");
                return None;
            }
        };
        // A read that a kernel worker has to wait in: nothing is in the pipe yet.
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut buffer = [0u8; 1];
        let read = opcode::Read::new(types::Fd(reader.as_raw_fd()), buffer.as_mut_ptr(), 1);
        let read = read.build().flags(squeue::Flags::ASYNC);
        // SAFETY: `push` requires that descriptor and buffer stay valid until the read is done.
        // Both live to the end of this closure, which waits for the only completion before.
        unsafe { ring.submission().push(&read) }.unwrap();
        ring.submit().unwrap();
        // Sleeps between two looks: on a single CPU the worker would not come to run otherwise.
        let mut found = None;
        until("a kernel worker takes the read", || {
            let mut threads = threads(std::process::id()).into_iter();
            found = threads.find(|thread| thread.name.starts_with("iou-wrk"));
            found.is_some()
        });
        writer.write_all(b"x").unwrap();
        ring.submit_and_wait(1).unwrap();
        found
    });
    if let Some(worker) = worker.join().unwrap() {
        assert_eq!((worker.policy, worker.priority), (0, 0), "{worker:?}");
    }
}

//! A cold file delays its own sessions and nobody else: no shard ever reads from a disk.
//!
//! ```text
//! file out of memory --> sessions start on it        --> major faults of the shard's thread: 0
//! playing --> PAUSE --> file out of memory --> PLAY  --> major faults of the shard's thread: 0
//! ```
//! What is judged is the kernel's count of major faults, no time. A file that nobody has mapped is
//! put out of memory by `posix_fadvise`; the pages that a server has mapped leave only when the
//! kernel takes them back, which `process_madvise(MADV_PAGEOUT)` has it do. Where one or the other
//! cannot be done (a file system in memory, no right to advise another process) a test says so and
//! passes.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "mincore and process_madvise have no safe names; a test that cannot go on has failed, and says where"
)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{Advice, fadvise};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::support::process::run;
use crate::support::rtp::Rtp;
use crate::support::server::Server;
use crate::support::session::{Lower, Session};
use crate::support::wait::{Deadline, PATIENCE, until};
use crate::support::{http, scratch};

/// Twelve seconds of H.264 and AAC, three megabytes: more than the kernel reads ahead at once.
fn film() -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let film = scratch().join("pages-12s.mp4");
    if !film.exists() {
        let part = scratch().join("pages-12s.part.mp4");
        let args = "-hide_banner -loglevel error -nostdin -y \
            -f lavfi -i testsrc2=size=640x360:rate=25:duration=12,noise=alls=20:allf=t \
            -f lavfi -i sine=frequency=440:duration=12 -map 0:v -map 1:a \
            -c:v libx264 -preset ultrafast -pix_fmt yuv420p -b:v 2M -maxrate 2M -bufsize 2M \
            -g 50 -c:a aac -b:a 96k -movflags +faststart";
        let mut args: Vec<&str> = args.split_whitespace().collect();
        args.push(part.to_str().unwrap());
        run("ffmpeg", &args);
        std::fs::rename(&part, &film).unwrap();
    }
    film
}

/// A folder with copies of the film that share no page with each other.
fn folder_of_copies(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    for name in names {
        let to = folder.path().join(name);
        std::fs::copy(film(), &to).unwrap();
        File::open(&to).unwrap().sync_all().unwrap();
    }
    folder
}

/// Pages of a file that are in memory. Told to a file's owner only; to look starts no read.
fn pages_in_memory(path: &Path) -> usize {
    let map = memmap2::MmapOptions::new().map_raw_read_only(&File::open(path).unwrap()).unwrap();
    let mut pages = vec![0_u8; map.len().div_ceil(rustix::param::page_size())];
    // SAFETY: `mincore` requires the start and length of a map, and a byte to write for each of its
    // pages: `map` lives until the end, and `pages` has been made as long.
    let told = unsafe { libc::mincore(map.as_mut_ptr().cast(), map.len(), pages.as_mut_ptr()) };
    assert_eq!(told, 0, "{}", std::io::Error::last_os_error());
    pages.iter().filter(|page| **page & 1 == 1).count()
}

/// Puts a file out of memory; false, with the reason printed, where that cannot be done.
fn evict(path: &Path, mapped_by: Option<&Server>) -> bool {
    if pages_in_memory(path) == 0 {
        println!("skipped: nothing of the file is in memory, as it seems");
        return false;
    }
    let file = File::open(path).unwrap();
    let deadline = Deadline::after(EVICTION_PATIENCE);
    // Now and then a page is held by something that passes: writeback, a batch of the kernel's.
    loop {
        if let Some(server) = mapped_by
            && let Err(error) = page_out(server, path)
        {
            println!("skipped: the pages of another process cannot be taken back ({error})");
            return false;
        }
        file.sync_all().unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        let left = pages_in_memory(path);
        if left == 0 {
            return true;
        }
        if deadline.has_passed() {
            println!("skipped: {left} pages of the file stay in memory whatever is advised");
            return false;
        }
    }
}

/// Has the kernel take back the pages of a file that the server has mapped.
fn page_out(server: &Server, path: &Path) -> std::io::Result<()> {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", server.pid())).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    for line in maps.lines().filter(|line| line.ends_with(name)) {
        let (start, end) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
        let [start, end] = [start, end].map(|hex| usize::from_str_radix(hex, 16).unwrap());
        let range =
            libc::iovec { iov_base: std::ptr::without_provenance_mut(start), iov_len: end - start };
        let (fd, one) = (process.as_raw_fd(), 1_usize);
        // SAFETY: `process_madvise` requires an open pidfd, `one` readable iovecs and no flags. The
        // addresses in `range` are the other process' own and are not looked at in this one; the
        // advice drops clean pages of a file and changes no content.
        let advised = unsafe {
            libc::syscall(
                libc::SYS_process_madvise,
                fd,
                &raw const range,
                one,
                libc::MADV_PAGEOUT,
                0,
            )
        };
        if advised < 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// How long the pages of a file may stay before the test is skipped.
const EVICTION_PATIENCE: Duration = Duration::from_secs(10);

/// The sum of a metric's samples.
fn metric(server: &Server, name: &str) -> f64 {
    let (status, text) = http::get(server.admin, "/metrics");
    assert_eq!(status, 200);
    let samples = text.lines().filter(|line| line.split([' ', '{']).next() == Some(name));
    samples.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

/// Major page faults of the shard's thread, field 12 of its `stat` (proc(5)).
fn major_faults(server: &Server) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let stats = threads.map(|thread| {
        std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default()
    });
    let shards = stats.filter(|stat| stat.contains("(shard-"));
    let faults = shards.map(|stat| {
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        fields.split(' ').nth(12 - 3).unwrap().parse::<u64>().unwrap()
    });
    faults.reduce(|sum, faults| sum + faults).expect("a thread of a shard")
}

fn assert_nothing_lost(packets: &[Rtp]) {
    let follows = |pair: &[Rtp]| pair[1].seq == pair[0].seq.wrapping_add(1);
    assert!(packets.windows(2).all(follows), "a gap in the sequence numbers");
}

#[test]
fn sessions_that_start_on_evicted_files_fault_nothing_in_on_the_shard() {
    let names = ["a.mp4", "b.mp4", "c.mp4"];
    let folder = folder_of_copies(&names);
    let server = Server::with_folder(folder.path());
    let before = major_faults(&server);
    if !names.iter().all(|name| evict(&folder.path().join(name), None)) {
        return;
    }
    let cases = [("a.mp4", Lower::Udp), ("b.mp4", Lower::Tcp), ("c.mp4", Lower::Udp)];
    let mut sessions: Vec<_> = cases
        .map(|(name, lower)| Session::open(server.rtsp, &server.vod_url(name), lower))
        .into_iter()
        .collect();
    for session in &mut sessions {
        session.play(&[("Range", "npt=4-")]);
    }
    for session in &mut sessions {
        session.receive_packets(20, PATIENCE);
        for stream in &session.streams {
            assert_nothing_lost(&stream.packets);
        }
    }
    assert!(metric(&server, "headend_media_cold_reads_total") >= 3.0, "hardly anything was cold");
    assert_eq!(major_faults(&server), before);
    until("no task waits for a disk", || metric(&server, "headend_tasks_waiting_for_disk") < 0.5);
}

#[test]
fn sessions_that_resume_on_evicted_files_fault_nothing_in_on_the_shard() {
    let cases = [("a.mp4", Lower::Udp), ("b.mp4", Lower::Tcp)];
    let folder = folder_of_copies(&cases.map(|(name, _)| name));
    let server = Server::with_folder(folder.path());
    let mut sessions =
        cases.map(|(name, lower)| Session::open(server.rtsp, &server.vod_url(name), lower));
    for session in &mut sessions {
        session.play(&[]);
        session.receive_packets(40, PATIENCE);
        session.request("PAUSE", &[]).expect(200);
        session.drain();
    }
    // Long enough for what they hold to count as cold.
    let mut other = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    other.play(&[("Range", "npt=0-10")]);
    other.receive_until_bye(PATIENCE);
    let cold = metric(&server, "headend_media_cold_reads_total");
    let faults = major_faults(&server);
    if !cases.iter().all(|(name, _)| evict(&folder.path().join(name), Some(&server))) {
        return;
    }
    for session in &mut sessions {
        session.play(&[]);
        session.receive_packets(50, PATIENCE);
        for stream in &session.streams {
            assert_nothing_lost(&stream.packets);
        }
    }
    assert_eq!(major_faults(&server), faults);
    assert!(metric(&server, "headend_media_cold_reads_total") > cold, "nothing was cold");
}

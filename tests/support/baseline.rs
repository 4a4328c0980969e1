//! What a server had before strangers came, and whether it has come back to that.
//!
//! What is compared: descriptors, rows of the PollTable, connections and sessions, which must be
//! what they were; and memory of its own (not of mapped files), which may have grown by
//! [`MEMORY_MARGIN_KIB`]: the allocator keeps pages of what was freed.

use super::http::{metric, sessions};
use super::server::Server;
use super::session::{Lower, Session};
use super::wait::{PATIENCE, until};

/// Numbers of a server that nobody uses.
#[derive(Debug)]
pub(crate) struct Baseline {
    descriptors: usize,
    rows: f64,
    memory_kib: u64,
}

/// Growth that is not a leak: pages that the allocator keeps, and tables that are as long as the
/// crowd was.
pub(crate) const MEMORY_MARGIN_KIB: u64 = 48 << 10;

impl Baseline {
    /// Of a server that has served once, so that what it keeps is there.
    pub(crate) fn of(server: &Server) -> Self {
        for lower in [Lower::Tcp, Lower::Udp] {
            serve_fresh_client(server, lower);
        }
        until("nobody is there", || nobody_is_there(server));
        Self {
            descriptors: server.open_descriptors(),
            rows: metric(server.admin, "headend_poll_table_entries").unwrap(),
            memory_kib: own_memory_kib(server),
        }
    }

    /// Asserts that a fresh client is served now, and that everything is back soon.
    pub(crate) fn assert_back(&self, server: &mut Server, after: &str) {
        for lower in [Lower::Tcp, Lower::Udp] {
            serve_fresh_client(server, lower);
        }
        until(&format!("{after}: nobody is there"), || nobody_is_there(server));
        let mut now = 0;
        until(&format!("{after}: {} descriptors", self.descriptors), || {
            now = server.open_descriptors();
            now <= self.descriptors
        });
        until(&format!("{after}: {} rows", self.rows), || {
            metric(server.admin, "headend_poll_table_entries").unwrap() <= self.rows
        });
        let memory_kib = own_memory_kib(server);
        assert!(
            memory_kib <= self.memory_kib + MEMORY_MARGIN_KIB,
            "{after}: {} KiB before, {memory_kib} KiB now",
            self.memory_kib
        );
        server.assert_alive();
        let panics = metric(server.admin, "headend_panics_total");
        assert_eq!(panics, Some(0.0), "{after}");
        let log = server.log();
        assert!(!log.contains("HE-E801"), "{after}: {log}");
    }
}

/// Plays a little of the built-in clip.
pub(crate) fn serve_fresh_client(server: &Server, lower: Lower) {
    let mut session = Session::open(server.rtsp, &server.demo_url(), lower);
    session.play(&[]);
    session.receive_packets(3, PATIENCE);
    session.request("TEARDOWN", &[]).expect(200);
}

fn nobody_is_there(server: &Server) -> bool {
    sessions(server.admin).is_empty()
        && metric(server.admin, "headend_rtsp_connections") == Some(0.0)
}

/// Memory that is the server's alone.
fn own_memory_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

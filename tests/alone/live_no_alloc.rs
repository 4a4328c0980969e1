//! What a shard does for each reader of a live path allocates nothing: however many there are, a
//! picture costs it the few blocks that its batch is made of (DESIGN sections 5.2 and 10).
//!
//! The server runs inside the test, so that its allocator can count what the shard's thread asks
//! for, while the load generator publishes to it and reads over UDP and TCP.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use headend::appliance::{EarlyHangup, GivesWay};
use headend::config::Config;
use headend::config::confinement::ConfinementConfig;
use headend::config::cpus::CpuList;
use headend::config::hls::HlsConfig;
use headend_loadgen::cli::Options;
use headend_loadgen::run::run_until;

use crate::allocations::of_shards;
use crate::support::http;
use crate::support::session::{Lower, Session};
use crate::support::wait::{PATIENCE, until};

/// What has been counted at some time.
#[derive(Debug, Clone, Copy)]
struct Seen {
    allocations: u64,
    /// Sends over UDP and over TCP.
    sends: [f64; 2],
}

impl Seen {
    fn now(admin: SocketAddr) -> Self {
        let (_, text) = http::get(admin, "/metrics");
        let sends = ["udp", "tcp"].map(|transport| {
            let of = |line: &&str| {
                line.starts_with("headend_send_calls_total{") && line.contains(transport)
            };
            let values = text.lines().filter(of).filter_map(|line| line.rsplit(' ').next());
            values.filter_map(|value| value.parse::<f64>().ok()).sum()
        });
        Self { allocations: of_shards(), sends }
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

#[test]
fn shard_allocates_nothing_for_readers_of_a_live_path() {
    let _machine = crate::to_itself();
    let (listen, admin) = (free_address(), free_address());
    let config = Config {
        listen: vec![listen],
        admin,
        rtp_port: 0,
        shards: CpuList::Count(1),
        workers: CpuList::Count(1),
        // The test goes on beside it.
        confinement: ConfinementConfig::none(),
        // Nobody looks at it in a browser.
        hls: HlsConfig { listen: Vec::new(), ..HlsConfig::default() },
        ..Config::default()
    };
    let server = std::thread::spawn(|| {
        headend::appliance::run(config, GivesWay::default(), None, EarlyHangup::default(), None)
            .map_err(|e| e.to_string())
    });
    until("the server answers", || http::is_up(admin));
    let url = format!("rtsp://{listen}/live/film");
    let line = ["x", "--publish", &url, "--bit-rate", "300k", "--gop", "25", "--sound"];
    let crowd = ["-n", "120", "--transport", "udp=1,tcp=1", "--duration", "1h", &url];
    let options = Options::try_parse_from([&line[..], &crowd].concat()).unwrap();
    let is_enough = AtomicBool::new(false);
    let (before, after) = std::thread::scope(|scope| {
        let crowd = scope.spawn(|| run_until(&options, &is_enough));
        let playing = || http::sessions(admin).iter().filter(|s| s["state"] == "playing").count();
        until("all play", || playing() == 120);
        // One more, by whose packets it is known what has been sent: nobody asks meanwhile.
        let mut one = Session::open(listen, &url, Lower::Udp);
        one.play(&[]);
        // Until all that is kept for use has its size: through a key picture and a report.
        one.receive_packets(150, PATIENCE);
        let before = Seen::now(admin);
        one.receive_packets(150, PATIENCE);
        let after = Seen::now(admin);
        is_enough.store(true, Ordering::Relaxed);
        let report = crowd.join().unwrap().unwrap();
        assert_eq!(report.total.lost, 0, "{report}");
        (before, after)
    });
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)
        .unwrap();
    server.join().unwrap().unwrap();
    let allocations = after.allocations - before.allocations;
    let sends = [0, 1].map(|way| after.sends[way] - before.sends[way]);
    // Sixty readers each way have a send each for the same batch, which is some ten blocks. Reports
    // that come in are kept, and timers look around.
    let fewest = sends[0].min(sends[1]);
    assert!(allocations as f64 * 2.0 < fewest, "{allocations} allocations for {sends:?} sends");
}

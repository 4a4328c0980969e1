//! A shard that plays allocates nothing for a packet or a frame: the whole of it, from the wheel to
//! the ring, with its reports (DESIGN section 10).
//!
//! The server runs inside the test, so that its allocator can count what the shard's thread asks
//! for: while it plays over UDP and TCP, across windows and with its reports; one client may ask
//! for lost packets, whose places are kept.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use headend::appliance::{EarlyHangup, GivesWay};
use headend::config::Config;
use headend::config::confinement::ConfinementConfig;
use headend::config::cpus::CpuList;
use headend::config::hls::HlsConfig;

use crate::allocations::of_shards;
use crate::support;
use crate::support::session::{Lower, Session};

#[test]
fn playing_shard_allocates_nothing_for_frames_packets_and_reports() {
    let _machine = crate::to_itself();
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let config = Config {
        listen: vec![free],
        admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
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
    assert!(of_shards() > 0, "shards that start allocate: they are counted");
    // What is kept for use grows once more when as many sends as never before are under way at
    // once. Each round has windows, sync samples and reports.
    let mut rounds = Vec::new();
    for packets in [130, 180, 225] {
        let before = of_shards();
        receive(packets);
        rounds.push(of_shards() - before);
        if rounds.ends_with(&[0]) {
            break;
        }
    }
    drop(sessions);
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)
        .unwrap();
    server.join().unwrap().unwrap();
    assert!(rounds.ends_with(&[0]), "allocations of each round: {rounds:?}");
}

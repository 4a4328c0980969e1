//! Hosts at the two ends of a cable that have nothing but link-local addresses for each other
//! (RFC 4007): cameras that are pulled, publishers, players, listeners and groups of the link.
//!
//! ```text
//!  here: fe80::77:1%cable  <---- cable (veth) ---->  fe80::77:2%cable: the other host
//! ```
//! A test runs itself again in a network namespace of its own. Where the host allows none, or has
//! no IPv6, it says so and is skipped.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and says where"
)]

use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use crate::support::http::{get_json, list, sessions};
use crate::support::network::{OtherHost, in_own_network};
use crate::support::publish::{Publisher, SOUND, Track, rtp};
use crate::support::server::{Options, Server};
use crate::support::session::{Lower, Session};
use crate::support::wait::{Deadline, PATIENCE, readable, until};
use serde_json::Value;

const EVERYWHERE: &str = "[::]:0";

#[test]
fn camera_at_a_link_local_address_is_pulled_over_udp_and_tcp() {
    on_a_cable("camera_at_a_link_local_address_is_pulled_over_udp_and_tcp", |other| {
        let options = Options { listen: EVERYWHERE, ..Options::default() };
        let origin = other.run(|| Server::start(&options));
        let (camera, port) = (OtherHost::THERE_ON_LINK, origin.rtsp.port());
        let number = scope_id(OtherHost::HERE_ON_LINK);
        let mut config = String::new();
        for (name, zone, transport) in [
            ("udp", "%25cable".to_owned(), "udp"),
            ("tcp", "%25cable".to_owned(), "tcp"),
            ("typed", "%cable".to_owned(), "udp"),
            ("number", format!("%25{number}"), "udp"),
            ("loose", "%25nosuch0".to_owned(), "udp"),
            ("lost", "%254000".to_owned(), "tcp"),
        ] {
            config += &format!(
                "[path.\"live/{name}\"]\nsource = \"rtsp://[{camera}{zone}]:{port}/demo\"\n\
                 source_transport = \"{transport}\"\n"
            );
        }
        let edge = Server::start(&Options {
            listen: EVERYWHERE,
            shards: "2",
            config: Some(&config),
            ..Options::default()
        });
        for name in ["udp", "tcp", "typed", "number"] {
            until(&format!("packets of {name} come"), || {
                path(&edge, name)["batches"].as_u64() > Some(5)
            });
            assert_eq!(path(&edge, name)["state"], "live");
        }
        for (name, interface) in [("loose", "nosuch0"), ("lost", "4000")] {
            until(&format!("{name} has failed"), || path(&edge, name)["reason"].is_string());
            let why = format!(
                "this host has no network interface {interface}, which the URL of the source names"
            );
            assert_eq!(path(&edge, name)["reason"], why.as_str());
        }
        // A reader gets what one of them brings.
        let mut reader =
            Session::open_kinds(edge.rtsp, &edge.url("live/udp"), Lower::Udp, &["video"]);
        reader.play(&[]);
        let came = reader.receive_until(PATIENCE, |s| s[0].packets.len() > 50);
        assert!(came, "{} packets", reader.streams[0].packets.len());
    });
}

#[test]
fn players_and_publishers_at_link_local_addresses_are_served() {
    on_a_cable("players_and_publishers_at_link_local_addresses_are_served", |other| {
        let config = Some("[path.\"*\"]\npublish = [\"private\"]\n");
        let options = Options { listen: EVERYWHERE, shards: "2", config, ..Options::default() };
        let server = Server::start(&options);
        // As people there type it.
        let url = |path: &str| {
            format!("rtsp://[{}]:{}/{path}", OtherHost::HERE_ON_LINK, server.rtsp.port())
        };
        let at = other.run(|| on_link(OtherHost::HERE_ON_LINK, server.rtsp.port()));
        for lower in [Lower::Udp, Lower::Tcp] {
            let mut publisher = other.run(|| Publisher::start_at(at, &url("live/a"), SOUND, lower));
            publisher.rtp(0, &rtp(0, 1, 0, 7, &[0; 160]));
            for player in [Lower::Udp, Lower::Tcp] {
                plays(other, at, &url("demo"), player, &mut || {});
                let mut seq = 1;
                plays(other, at, &url("live/a"), player, &mut || {
                    seq += 1;
                    publisher.rtp(0, &rtp(0, seq, u32::from(seq) * 160, 7, &[0; 160]));
                });
            }
            let peers: Vec<_> = sessions(server.admin).iter().map(|s| s.to_string()).collect();
            let number = scope_id(OtherHost::HERE_ON_LINK);
            let shown = format!("[{}%{number}]:", OtherHost::THERE_ON_LINK);
            assert!(peers.iter().any(|peer| peer.contains(&shown)), "{shown} in {peers:?}");
            if let Track::Udp(pair, _) = &publisher.tracks[0] {
                let reported = readable(&[pair.rtcp.as_fd()], Deadline::after(PATIENCE))[0];
                assert!(reported, "the publisher gets a report");
            }
            publisher.request("TEARDOWN").expect(200);
            until("the path is free", || path(&server, "a")["state"] != "live");
        }
    });
}

#[test]
fn server_listens_at_a_link_local_address_of_its_own() {
    on_a_cable("server_listens_at_a_link_local_address_of_its_own", |other| {
        let number = scope_id(OtherHost::HERE_ON_LINK);
        let listen = format!("[{}%{number}]:0", OtherHost::HERE_ON_LINK);
        let server = Server::start(&Options { listen: &listen, shards: "2", ..Options::default() });
        let url = server.demo_url();
        let at = other.run(|| on_link(OtherHost::HERE_ON_LINK, server.rtsp.port()));
        for player in [Lower::Udp, Lower::Tcp] {
            plays(other, at, &url, player, &mut || {});
        }
    });
}

#[test]
fn source_listens_to_a_group_of_one_link_and_at_an_address_of_it() {
    on_a_cable("source_listens_to_a_group_of_one_link_and_at_an_address_of_it", |other| {
        let config = format!(
            "[path.\"live/group\"]\nsource = \"udp://[ff02::7701]:45004?interface=cable\"\n\
             [path.\"live/own\"]\nsource = \"udp://[{}]:45006?interface=cable\"\n",
            OtherHost::HERE_ON_LINK
        );
        let server = Server::start(&Options { config: Some(&config), ..Options::default() });
        for (name, to, port) in
            [("group", "ff02::7701", 45_004), ("own", OtherHost::HERE_ON_LINK, 45_006)]
        {
            let (socket, to) = other.run(|| {
                let from = on_link(OtherHost::THERE_ON_LINK, 0);
                (UdpSocket::bind(from).unwrap(), on_link(to, port))
            });
            let mut seq = 0;
            until(&format!("{name} is received"), || {
                seq += 1;
                let packet = rtp(0, seq, u32::from(seq) * 160, 7, &[0; 160]);
                socket.send_to(&packet, to).unwrap();
                path(&server, name)["state"] == "live"
            });
        }
    });
}

/// A player there gets packets on every track.
fn plays(other: &OtherHost, at: SocketAddr, url: &str, lower: Lower, feed: &mut dyn FnMut()) {
    let mut player = other.run(|| Session::open(at, url, lower));
    player.play(&[]);
    let is_enough = |session: &Session| session.streams.iter().all(|s| s.packets.len() >= 3);
    until(&format!("{url} plays over {lower:?}"), || {
        feed();
        player.receive_until(Duration::from_millis(20), |_| false);
        is_enough(&player)
    });
    player.request("TEARDOWN", &[]).expect(200);
}

/// Runs a test on one end of the cable.
fn on_a_cable(name: &str, test: impl FnOnce(&OtherHost)) {
    if !Path::new("/proc/net/if_inet6").exists() {
        println!("skipped: no IPv6 here");
        return;
    }
    // Fails where namespaces have no IPv6, or no cables.
    let probe = "ip -6 addr show dev lo | grep -q ::1 \
                 && ip link add probe type veth peer name eborp && ip link del probe";
    in_own_network(module_path!(), name, probe, || test(&OtherHost::connect()));
}

/// A link-local address by this end of the cable, which belongs to the host that asks.
fn on_link(ip: &str, port: u16) -> SocketAddr {
    let found = (format!("{ip}%{}", OtherHost::INTERFACE).as_str(), port).to_socket_addrs();
    found.unwrap().next().unwrap()
}

fn scope_id(ip: &str) -> u32 {
    match on_link(ip, 0) {
        SocketAddr::V6(v6) => v6.scope_id(),
        SocketAddr::V4(v4) => panic!("{v4}"),
    }
}

/// A live path as the API shows it; null when it is not there.
fn path(server: &Server, name: &str) -> Value {
    let paths = list(get_json(server.admin, "/v1/paths"));
    let name = format!("live/{name}");
    paths.into_iter().find(|path| path["path"] == name.as_str()).unwrap_or_default()
}

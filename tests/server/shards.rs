//! Several shards: a session lives on one of them, its commands come over connections of any.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use crate::support::http::get;
use crate::support::rtsp::Client;
use crate::support::server::{Options, Server};
use crate::support::session::{Lower, Session};
use crate::support::wait::PATIENCE;

/// Two shards, which may share a CPU. The kernel spreads connections over their listeners.
fn two_shards() -> Server {
    Server::start(&Options { shards: "0,1", ..Options::default() })
}

/// Connections until each shard has one (its table has more rows than listener, pipe and pair).
fn connections_of_both(server: &Server) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..64 {
        clients.push(Client::connect(server.rtsp));
        clients.last_mut().unwrap().request("OPTIONS", "*", &[]).expect(200);
        let rows = rows_per_shard(server);
        assert_eq!(rows.len(), 2, "two shards are shown");
        if rows.iter().all(|rows| *rows > 4) {
            return clients;
        }
    }
    panic!("64 connections and all on one shard: {:?}", rows_per_shard(server));
}

fn rows_per_shard(server: &Server) -> Vec<u32> {
    let (_, text) = get(server.admin, "/metrics");
    let of_table = |line: &&str| line.starts_with("headend_poll_table_entries{");
    let value = |line: &str| line.rsplit(' ').next().unwrap().parse().unwrap();
    text.lines().filter(of_table).map(value).collect()
}

#[test]
fn session_is_commanded_from_connections_of_every_shard_in_order() {
    let server = two_shards();
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    session.play(&[]);
    session.receive_packets(5, PATIENCE);
    let (url, id) = (server.demo_url(), session.id.clone());
    let header = [("Session", id.as_str())];
    let mut others = connections_of_both(&server);
    for client in &mut others {
        client.request("PAUSE", &url, &header).expect(200);
        client.request("GET_PARAMETER", &url, &header).expect(200);
        client.request("PLAY", &url, &header).expect(200);
        // Pipelined: each waits for the owner's answer, and none overtakes another.
        let text: String =
            (0..20).map(|_| client.format("GET_PARAMETER", &url, &header, "")).collect();
        client.send_raw(text);
        let numbers: Vec<u32> = (0..20)
            .map(|_| client.response().expect(200).header("CSeq").unwrap().parse().unwrap())
            .collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    }
    session.receive_packets(5, PATIENCE);
    let last = others.last_mut().unwrap();
    last.request("TEARDOWN", &url, &header).expect(200);
    for client in &mut others {
        client.request("PLAY", &url, &header).expect(454);
        // A keep-alive is answered whatever became of the session (client rule C2).
        client.request("OPTIONS", &url, &header).expect(200);
    }
}

#[test]
fn id_that_names_a_shard_which_does_not_exist_is_refused() {
    let server = two_shards();
    let mut client = Client::connect(server.rtsp);
    for id in ["FF00000000000001", "0100000000000001", "0000000000000001"] {
        client.request("PLAY", &server.demo_url(), &[("Session", id)]).expect(454);
    }
}

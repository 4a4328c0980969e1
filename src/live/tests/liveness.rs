//! Signs of life that keep a publisher's path, and silence that ends it.

use super::*;
use crate::session::command::ReplyTo;
use crate::session::holder::Sender;

impl Bench {
    /// Publishes on the connection of the publisher.
    pub(crate) fn publish_over_tcp(&mut self) -> SessionId {
        let from = (PUBLISHER, host(1, 40_000));
        assert_eq!(self.announce(PUBLISHER, from.1), 200);
        let transport = [("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record")];
        let uri = "rtsp://h/live/a/streamid=0";
        let answer = self.request(from, Method::Setup, uri, None, (&transport, "")).unwrap();
        let id = session_id(&answer);
        self.request(from, Method::Record, URL, Some(id), (&[], "")).unwrap();
        id
    }

    fn is_published(&self) -> bool {
        !self.sessions.live.sources.publishers.is_empty()
    }
}

#[test]
fn open_connection_keeps_a_publisher_over_tcp_alive() {
    let mut bench = Bench::new();
    bench.publish_over_tcp();
    bench.sessions.handle_report_interleaved(entry(PUBLISHER), 0, &rtp(1));
    bench.pass(Duration::from_secs(600));
    assert!(bench.is_published());
    bench.sessions.handle_report_interleaved(entry(PUBLISHER), 0, &rtp(2));
    let publisher = bench.sessions.live.sources.publishers.values().next().unwrap();
    assert_eq!(publisher.source.counts().packets, 2);
    bench.sessions.handle_connection_closed(entry(PUBLISHER));
    assert!(!bench.is_published());
}

#[test]
fn requests_on_any_connection_keep_a_publisher_over_udp_alive() {
    // By its session, by its connection alone, and by its session from elsewhere.
    for (connection, names_session) in [(PUBLISHER, true), (PUBLISHER, false), (9, true)] {
        for method in [Method::GetParameter, Method::Options, Method::SetParameter] {
            let mut bench = Bench::new();
            let id = Some(bench.publish()).filter(|_| names_session);
            bench.packet(host(1, 5_000), 1);
            for _ in 0..10 {
                bench.pass(Duration::from_secs(9));
                assert!(bench.is_published(), "{method:?} on {connection}");
                bench.sessions.note_request(&sender(connection), id);
                let (from, url) = ((connection, host(1, 40_000)), URL);
                bench.request(from, method.clone(), url, id, (&[], ""));
            }
            bench.pass(Duration::from_secs(9));
            assert!(bench.is_published());
            bench.pass(Duration::from_secs(2));
            assert!(!bench.is_published(), "nothing keeps it for ever");
        }
    }
}

#[test]
fn requests_of_other_connections_do_not_keep_a_publisher_alive() {
    let mut bench = Bench::new();
    bench.publish();
    for _ in 0..4 {
        bench.sessions.note_request(&sender(9), None);
        bench.pass(Duration::from_secs(3));
    }
    assert!(!bench.is_published());
}

#[test]
fn reload_changes_the_source_timeout_of_a_path() {
    let text = |timeout: &str| format!("[path.\"live/a\"]\nsource_timeout = \"{timeout}\"\n");
    let mut bench = Bench::configured(&text("40s"));
    bench.publish();
    bench.packet(host(1, 5_000), 1);
    bench.pass(Duration::from_secs(39));
    assert!(bench.is_published());
    bench.packet(host(1, 5_000), 2);
    bench.configure(&text("5s"));
    bench.pass(Duration::from_secs(4));
    assert!(bench.is_published());
    bench.pass(Duration::from_secs(2));
    assert!(!bench.is_published());
}

/// A client of the publisher's address.
fn sender(connection: u32) -> Sender<'static> {
    let connection = ReplyTo { shard: ShardId(0), entry: entry(connection) };
    Sender { connection, peer: host(1, 1).ip(), user: None }
}

//! SETUP of readers and publishers: the transport that each gets, and readers that are replaced.

use super::*;
use crate::live::sources::publisher::Publisher;

const TRACK: &str = "rtsp://h/live/a/trackID=0";
const MEDIA: &str = "rtsp://h/live/a/streamid=0";
const TCP: &str = "RTP/AVP/TCP;unicast";

/// SETUP from the reader's address, on a connection.
fn setup(
    bench: &mut Bench,
    connection: u32,
    uri: &str,
    id: Option<SessionId>,
    transport: &str,
) -> Response {
    let from = (connection, host(3, 40_001));
    let headers = [("Transport", transport)];
    bench.request(from, Method::Setup, uri, id, (&headers, "")).unwrap()
}

#[test]
fn transport_decides_the_status_of_a_readers_setup() {
    for (transport, status) in [
        ("RTP/AVP;unicast;client_port=6000-6001", 200),
        ("RTP/AVP;unicast;client_port=6000-6001;destination=127.0.0.3", 200),
        ("RTP/AVP;unicast;client_port=6000-6001;destination=127.0.0.4", 461),
        ("RTP/AVP;unicast;client_port=6000-6001;mode=record", 461),
        ("RTP/AVP;unicast;client_port=6000-6000", 461),
        ("RTP/AVP;unicast;client_port=0-1", 400),
        ("RTP/AVP;unicast", 461),
        ("RTP/SAVP;unicast;client_port=6000-6001", 461),
        ("RTP/AVP;multicast", 461),
        ("RTP/SAVP,RTP/AVP;multicast,RTP/AVP/TCP", 200),
        ("", 400),
    ] {
        let mut bench = Bench::new();
        bench.publish();
        let answer = setup(&mut bench, READER, TRACK, None, transport);
        assert_eq!(answer.status().code(), status, "{transport}");
        let readers = usize::from(status == 200);
        assert_eq!(bench.sessions.live.readers.table.len(), readers, "{transport}");
    }
}

#[test]
fn transport_decides_the_status_of_a_publishers_setup() {
    for (transport, status) in [
        ("RTP/AVP;unicast;client_port=5000-5001;mode=record", 200),
        ("RTP/AVP;unicast;client_port=5000-5001;mode=receive", 200),
        // Publishers that leave the mode out, or name a receiver: nothing is sent there.
        ("RTP/AVP;unicast;client_port=5000-5001", 200),
        ("RTP/AVP;unicast;client_port=5000-5001;destination=127.0.0.4", 200),
        ("RTP/AVP;unicast;client_port=5000-5000", 200),
        ("RTP/AVP/TCP;unicast;mode=record", 200),
        ("RTP/AVP;unicast;client_port=5000-5001;mode=fly", 461),
        ("RTP/AVP;unicast", 461),
        ("RTP/SAVP;unicast;client_port=5000-5001", 461),
        ("RTP/AVP;multicast", 461),
        ("", 400),
    ] {
        let mut bench = Bench::new();
        assert_eq!(bench.announce(PUBLISHER, host(1, 40_000)), 200);
        let from = (PUBLISHER, host(1, 40_000));
        let headers = [("Transport", transport)];
        let answer = bench.request(from, Method::Setup, MEDIA, None, (&headers, "")).unwrap();
        assert_eq!(answer.status().code(), status, "{transport}");
    }
}

#[test]
fn publisher_is_interleaved_with_its_own_connection_only() {
    let mut bench = Bench::new();
    assert_eq!(bench.announce(PUBLISHER, host(1, 40_000)), 200);
    let id = bench.sessions.live.sources.publishers.values().find_map(Publisher::id);
    let status = |bench: &mut Bench, shard, connection| {
        let from = Client { shard: ShardId(shard), connection, peer: host(1, 40_000) };
        let headers: (&[_], _) = (&[("Transport", TCP)], "");
        bench.send(from, Method::Setup, MEDIA, id, headers).unwrap().status().code()
    };
    assert_eq!(status(&mut bench, 0, PUBLISHER + 1), 461);
    // A connection of another shard has the same entry there.
    assert_eq!(status(&mut bench, 1, PUBLISHER), 461);
    assert_eq!(status(&mut bench, 0, PUBLISHER), 200);
}

#[test]
fn further_stream_of_a_reader_has_the_first_ones_transport_and_connection() {
    let mut bench = Bench::new();
    bench.publish_two();
    let second = "rtsp://h/live/a/trackID=1";
    let id = Some(session_id(&setup(&mut bench, READER, TRACK, None, TCP)));
    let udp = "RTP/AVP;unicast;client_port=6000-6001";
    assert_eq!(setup(&mut bench, READER, second, id, udp).status().code(), 461);
    assert_eq!(setup(&mut bench, 7, second, id, TCP).status().code(), 454, "elsewhere");
    let answer = setup(&mut bench, READER, second, id, TCP);
    assert_eq!(answer.header_value("Transport"), Some("RTP/AVP/TCP;unicast;interleaved=2-3"));
}

#[test]
fn client_address_that_is_in_use_leaves_no_second_reader_behind() {
    let mut bench = Bench::new();
    bench.publish();
    let udp = "RTP/AVP;unicast;client_port=6000-6001";
    assert_eq!(setup(&mut bench, READER, TRACK, None, udp).status().code(), 200);
    // The bench opens no further pair.
    assert_eq!(setup(&mut bench, 7, TRACK, None, udp).status().code(), 453);
    assert_eq!(bench.sessions.live.readers.table.len(), 1);
    assert_eq!(bench.sessions.cx.sockets.tuple_count(), 1);
}

#[test]
fn paused_reader_is_replaced_by_a_setup_without_teardown() {
    // Rule C7: FFmpeg falls back to TCP like that.
    let mut bench = Bench::new();
    bench.publish();
    let old = session_id(&bench.reader(Method::Setup, TRACK, None).unwrap());
    assert!(bench.reader(Method::Play, URL, Some(old)).is_none());
    bench.packet(host(1, 5_000), 7);
    assert_eq!(bench.answer(READER).unwrap().status().code(), 200);
    // A playing one is not left behind.
    let other = session_id(&setup(&mut bench, READER, TRACK, None, TCP));
    assert!(bench.sessions.cx.directory.find(old).is_some());
    let from = (READER, host(3, 40_001));
    bench.request(from, Method::Teardown, URL, Some(other), (&[], "")).unwrap();
    bench.reader(Method::Pause, URL, Some(old)).unwrap();
    let new = session_id(&setup(&mut bench, READER, TRACK, None, TCP));
    assert_eq!(bench.sessions.cx.directory.find(old), None);
    assert_ne!(old, new);
    assert_eq!(bench.sessions.live.readers.table.len(), 1);
    assert_eq!(bench.sessions.cx.sockets.tuple_count(), 0);
}

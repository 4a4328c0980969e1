//! Arbitrary events in any order: commands, packets and reports of publishers and readers,
//! connections that close, time that passes. Nothing panics, all tables agree, and after all
//! clients have left every table is empty.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::metrics::paths::PathTotals;
use crate::session::directory::SessionRef;

/// An event. Small numbers choose among a few clients and paths, so that events interact.
#[derive(Debug, Clone)]
enum Act {
    Request {
        who: u32,
        method: u8,
        uri: u8,
        session: u8,
        transport: u8,
        sdp: u8,
    },
    /// ANNOUNCE, SETUP and RECORD, until a request is refused.
    Publish {
        who: u32,
        way: u8,
    },
    /// DESCRIBE, SETUP and PLAY, until a request is refused.
    Read {
        who: u32,
        way: u8,
    },
    Rtp {
        from: u8,
        bytes: Vec<u8>,
    },
    Rtcp {
        from: u8,
        bytes: Vec<u8>,
    },
    Frame {
        who: u32,
        channel: u8,
        bytes: Vec<u8>,
    },
    Pump {
        is_taken: bool,
    },
    Pass(u64),
    Close(u32),
}

const METHODS: [Method; 8] = [
    Method::Announce,
    Method::Setup,
    Method::Record,
    Method::Describe,
    Method::Play,
    Method::Pause,
    Method::Teardown,
    Method::GetParameter,
];
const URIS: [&str; 6] = [
    URL,
    "rtsp://h/live/a/streamid=0",
    "rtsp://h/live/a/streamid=1",
    "rtsp://h/live/a/trackID=0",
    "rtsp://h/live/a/trackID=1",
    "rtsp://h/live/b",
];
const TRANSPORTS: [&str; 7] = [
    "RTP/AVP/UDP;unicast;client_port=5000-5001;mode=record",
    "RTP/AVP/UDP;unicast;client_port=5002-5003;mode=record",
    "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record",
    "RTP/AVP/TCP;unicast;interleaved=2-3;mode=record",
    "RTP/AVP;unicast;client_port=6000-6001",
    "RTP/AVP/TCP;unicast;interleaved=0-1",
    "RTP/AVP/TCP;unicast;interleaved=4-4",
];
const PICTURES: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:streamid=0\r\n\
    m=audio 0 RTP/AVP 0\r\na=control:streamid=1\r\n";
const PORTS: [u16; 6] = [5_000, 5_001, 5_002, 5_003, 6_001, 7_000];
const CONNECTIONS: u32 = 4;

/// Packets that are nearly right: an RTP or RTCP header, one byte of it wrong, cut anywhere.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let rtp = (0..4_u8, any::<u16>(), any::<u32>(), 0..3_u32, any::<bool>()).prop_map(
        |(kind, seq, ts, ssrc, marker)| {
            let payload_type = [0, 96, 97, 72][usize::from(kind)] | u8::from(marker) << 7;
            let seq = seq.to_be_bytes();
            let head = [0x80, payload_type, seq[0], seq[1]];
            let payload: &[u8] = &[0x65, 0x88, 0x84, 7, 7, 7, 7, 7, 7, 7];
            [&head[..], &ts.to_be_bytes(), &ssrc.to_be_bytes(), payload].concat()
        },
    );
    let rtcp = (0..3_u32, any::<u64>(), any::<u32>(), 200..208_u8).prop_map(
        |(ssrc, ntp, ts, packet_type)| {
            let head = [0x80, packet_type, 0, 6];
            let (ssrc, ts) = (ssrc.to_be_bytes(), ts.to_be_bytes());
            [&head[..], &ssrc, &ntp.to_be_bytes(), &ts, &[0; 8]].concat()
        },
    );
    let spoilt = (prop_oneof![3 => rtp, 2 => rtcp], any::<(bool, u8, u8)>(), 0..64_usize);
    let nearly = spoilt.prop_map(|(mut bytes, (is_spoilt, at, value), cut)| {
        let at = usize::from(at) % bytes.len();
        if is_spoilt {
            bytes[at] = value;
        }
        bytes.truncate(if cut < 16 { cut } else { bytes.len() });
        bytes
    });
    let long = (any::<u8>(), 1_900..3_000_usize).prop_map(|(byte, len)| vec![byte & 0xbf; len]);
    prop_oneof![8 => nearly, 1 => prop::collection::vec(any::<u8>(), 0..80), 1 => long]
}

fn acts() -> impl Strategy<Value = Act> {
    let who = 0..CONNECTIONS;
    let place_in = |count: usize| 0..u8::try_from(count).unwrap();
    let (methods, uris) = (place_in(METHODS.len()), place_in(URIS.len()));
    let (transports, ports) = (place_in(TRANSPORTS.len()), place_in(PORTS.len()));
    let request = (who.clone(), methods, uris, 0..5_u8, transports, 0..3_u8).prop_map(
        |(who, method, uri, session, transport, sdp)| Act::Request {
            who,
            method,
            uri,
            session,
            transport,
            sdp,
        },
    );
    prop_oneof![
        8 => request,
        3 => (who.clone(), 0..2_u8).prop_map(|(who, way)| Act::Publish { who, way }),
        3 => (who.clone(), 0..2_u8).prop_map(|(who, way)| Act::Read { who, way }),
        8 => (ports.clone(), packets()).prop_map(|(from, bytes)| Act::Rtp { from, bytes }),
        4 => (ports, packets()).prop_map(|(from, bytes)| Act::Rtcp { from, bytes }),
        8 => (who.clone(), 0..6_u8, packets())
            .prop_map(|(who, channel, bytes)| Act::Frame { who, channel, bytes }),
        4 => any::<bool>().prop_map(|is_taken| Act::Pump { is_taken }),
        2 => (1..30_u64).prop_map(|tenths| Act::Pass(tenths * 100)),
        1 => who.prop_map(Act::Close),
    ]
}

/// A shard, and the knowledge of its clients.
struct Crowd {
    bench: Bench,
    /// Connections by their place; a new number for each that is opened.
    connections: Vec<u32>,
    ids: Vec<SessionId>,
    /// Sums of each path at the last look.
    sums: HashMap<Arc<str>, Vec<u64>>,
}

impl Crowd {
    fn act(&mut self, act: Act) {
        match act {
            Act::Request { who, method, uri, session, transport, sdp } => {
                let id = self.ids.iter().rev().nth(usize::from(session)).copied();
                let method = METHODS[usize::from(method)].clone();
                let body = match (&method, sdp) {
                    (Method::Announce, 0) => SDP,
                    (Method::Announce, _) => PICTURES,
                    _ => "",
                };
                let more = (TRANSPORTS[usize::from(transport)], body);
                self.request(who, method, URIS[usize::from(uri)], id, more);
            }
            Act::Publish { who, way } => {
                self.request(who, Method::Announce, URL, None, ("", PICTURES));
                let mut id = None;
                for (track, uri) in URIS[1..3].iter().enumerate() {
                    let transport = TRANSPORTS[usize::from(way) * 2 + track];
                    let answered = self.request(who, Method::Setup, uri, id, (transport, ""));
                    id = id.or(answered);
                }
                self.request(who, Method::Record, URL, id, ("", ""));
            }
            Act::Read { who, way } => {
                let transport = TRANSPORTS[4 + usize::from(way)];
                let id = self.request(who, Method::Setup, URIS[3], None, (transport, ""));
                self.request(who, Method::Play, URL, id, ("", ""));
            }
            Act::Rtp { from, bytes } => {
                let from = host(1, PORTS[usize::from(from)]);
                self.bench.sessions.live.sources.handle_rtp_datagram(
                    &mut self.bench.sessions.cx,
                    0,
                    from,
                    &bytes,
                );
                self.bench.sessions.live.feed_live(&mut self.bench.sessions.cx);
            }
            Act::Rtcp { from, bytes } => {
                let from = host(1, PORTS[usize::from(from)]);
                self.bench.sessions.handle_report_datagram(0, from, &bytes);
            }
            Act::Frame { who, channel, bytes } => {
                let entry = entry(self.connections[who as usize]);
                self.bench.sessions.handle_report_interleaved(entry, channel, &bytes);
                self.bench.sessions.live.feed_live(&mut self.bench.sessions.cx);
            }
            Act::Pump { is_taken } => self.pump(is_taken),
            Act::Pass(ms) => self.bench.pass(Duration::from_millis(ms)),
            Act::Close(who) => self.close(who as usize),
        }
        self.bench.settle();
        self.bench.answers.clear();
        self.bench.datagrams.clear();
        for index in std::mem::take(&mut self.bench.hung_up) {
            let who = self.connections.iter().position(|number| *number == index);
            if let Some(who) = who {
                self.close(who);
            }
        }
        self.check();
        self.check_sums();
    }

    /// The session in the answer, which other clients may name from now on.
    fn request(
        &mut self,
        who: u32,
        method: Method,
        uri: &str,
        id: Option<SessionId>,
        (transport, body): (&str, &str),
    ) -> Option<SessionId> {
        let from = (self.connections[who as usize], host(1, 40_000));
        let headers = [("Transport", transport)];
        let answer = self.bench.request(from, method, uri, id, (&headers, body))?;
        answer.header_value("Session")?;
        let id = session_id(&answer);
        if !self.ids.contains(&id) {
            self.ids.push(id);
        }
        Some(id)
    }

    fn close(&mut self, who: usize) {
        let next = self.connections.iter().max().map_or(0, |number| number + 1);
        let gone = std::mem::replace(&mut self.connections[who], next);
        self.bench.sessions.handle_connection_closed(entry(gone));
        self.bench.settle();
    }

    /// Sends as the shard does, with sockets and connections that take all or nothing.
    fn pump(&mut self, is_taken: bool) {
        let runs = self.bench.pump(if is_taken { usize::MAX } else { 0 });
        assert!(runs.iter().all(|run| !run.packets.is_empty()));
        if !is_taken {
            self.bench.refuse(&runs);
        }
    }

    /// Sums of readers never decrease, whichever readers have left.
    fn check_sums(&mut self) {
        let table = self.bench.sessions.live.path_table(&self.bench.sessions.cx);
        for (path, numbers) in table.named() {
            let totals = &numbers.totals;
            let now = [&totals.packets_sent[..], &totals.payload_bytes_sent, &totals.skips];
            let now = [now.concat(), vec![totals.packets_skipped, totals.source_starts]].concat();
            let before = self.sums.insert(Arc::clone(path), now.clone());
            let is_less = |before: Vec<u64>| before.iter().zip(&now).any(|(a, b)| b < a);
            assert!(!before.is_some_and(is_less), "{path}: a sum goes back");
        }
    }

    /// All tables agree with each other.
    fn check(&mut self) {
        let of_paths =
            self.bench.sessions.live.hub.paths.iter_mut().map(|path| path.reader_count());
        let of_paths: usize = of_paths.sum();
        let live = &self.bench.sessions.live;
        let directory = &self.bench.sessions.cx.directory;
        assert_eq!(directory.len(), live.sources.publishers.len() + live.readers.table.len());
        let is_there = |session: &SessionRef| match *session {
            SessionRef::Publisher(number) => live.sources.publishers.get(&number).is_some(),
            SessionRef::Reader(index) => live.readers.table.contains(index as usize),
            SessionRef::Title(_) => false,
        };
        let (mut all, on_connections) = directory.entries();
        assert!(all.all(|session| is_there(&session)));
        for (entry, sessions) in on_connections {
            assert!(!sessions.is_empty() && sessions.iter().all(is_there), "{entry:?}");
            assert!(self.connections.contains(&entry.index), "its connection has ended");
        }
        assert_eq!(of_paths, live.readers.table.len());
        for path in live.hub.paths.iter() {
            let (mut totals, mut carriers) = (PathTotals::default(), [0; 3]);
            for (_, reader) in path.readers() {
                totals.add(&reader_totals(reader));
                carriers[reader.carrier as usize] += 1;
            }
            assert_eq!((path.totals(), path.readers_by_carrier()), (&totals, carriers));
        }
        for (_, reader) in &live.readers.table {
            let streams =
                live.hub.paths.path(&reader.path).and_then(|path| path.reader(reader.key));
            assert_eq!(streams.map(|its| its.streams.len()), Some(reader.streams.len()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_requests_and_packets_keep_tables_consistent_and_leave_nothing_behind(
        acts in prop::collection::vec(acts(), 1..120),
    ) {
        let connections = (0..CONNECTIONS).collect();
        let (bench, ids, sums) = (Bench::new(), Vec::new(), HashMap::new());
        let mut crowd = Crowd { bench, connections, ids, sums };
        for act in acts {
            crowd.act(act);
        }
        for who in 0..CONNECTIONS as usize {
            crowd.close(who);
        }
        crowd.bench.pass(Duration::from_secs(90));
        let sessions = &mut crowd.bench.sessions;
        let path_count = sessions.live.hub.paths.iter_mut().count();
        let live = &sessions.live;
        prop_assert!(live.sources.publishers.is_empty() && live.readers.table.is_empty());
        let (all, on_connections) = sessions.cx.directory.entries();
        prop_assert_eq!((all.count(), on_connections.count()), (0, 0));
        prop_assert_eq!((live.hub.registry.count(), path_count), (0, 0));
        prop_assert!(!sessions.cx.demux.uses_pair(0));
        prop_assert_eq!(sessions.cx.sockets.tuple_count(), 0);
    }
}

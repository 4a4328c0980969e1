//! Publishers and readers of live paths without sockets: commands and packets in, answers and runs
//! out. Two connections of one shard, which is the owner of every path.

mod arbitrary;
mod configured;
mod crowd;
mod failover;
mod failover_sim;
mod fallback;
mod feedback;
mod group;
mod group_answers;
mod liveness;
mod lost;
mod pages;
mod parameter_sets;
mod relays;
mod setup;
mod states;
mod switch;
mod takeover;
mod titles;
mod waiting;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{SessionId, ShardId, Ssrc};
use crate::base::sink::Gathered;
use crate::base::sink::testing::{FrameRecorder, SentRun, SinkRecorder};
use crate::config::paths::PathTable;
use crate::consumers::sessions::Sessions;
use crate::consumers::testing::{Client, Rig, Room, command, config, entry, session_id};
use crate::live::core::info::{PathInfo, merge, reader_totals};
use crate::live::core::pump::{self, Fed, Left, LivePump, LiveRunMark};
use crate::live::front::Live;
use crate::metrics::paths::PathNumbers;
use crate::poll::poll_table::EntryKey;
use crate::poll::task::{Task, TaskOwner};
use crate::rtp::HEADER_BYTES;
use crate::rtsp::request::Method;
use crate::rtsp::response::{Response, Status};
use crate::session::action::Action;
use crate::session::command::{Command, Executed};
use crate::session::cx::SessionConfig;
use crate::session::directory::SessionRef;

/// A run to a reader, with the headers of its packets.
type LiveSentRun = SentRun<LiveRunMark, [u8; HEADER_BYTES]>;

/// A shard that is the owner of its paths, with one pair of sockets.
type Bench = Rig<Paths>;

/// The sockets of multicast groups.
struct Paths {
    /// Actions on them.
    groups: Vec<String>,
    /// Tasks for feeds of titles.
    title_tasks: Vec<Task>,
}

const URL: &str = "rtsp://h/live/a";
const SDP: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n\
    m=audio 0 RTP/AVP 0\r\na=control:streamid=0\r\n";
const PUBLISHER: u32 = 1;
const READER: u32 = 2;

fn client(connection: u32, peer: SocketAddr) -> Client {
    Client { shard: ShardId(0), connection, peer }
}

fn host(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], port))
}

fn rtp(seq: u16) -> Vec<u8> {
    let [high, low] = seq.to_be_bytes();
    [&[0x80, 0, high, low, 0, 0, low, 0, 0, 0, 0, 9][..], &[7; 160]].concat()
}

impl Room for Paths {
    fn act(bench: &mut Bench, action: Action) -> Option<Action> {
        match action {
            Action::Submit(task) if matches!(task.owner, TaskOwner::Titles { .. }) => {
                bench.title_tasks.push(task);
            }
            // Of sources that are pulled: nobody answers here.
            Action::Connect { .. } | Action::Submit(_) => {}
            Action::Group(action) => bench.act_for_group(&action),
            other => {
                if matches!(other, Action::ClosePair(_)) {
                    bench.groups.push("no pair".to_owned());
                }
                return Some(other);
            }
        }
        None
    }
}

impl Bench {
    fn new() -> Self {
        let config = SessionConfig { retransmits: true, ..config() };
        let mut bench = Self::around(Paths { groups: Vec::new(), title_tasks: Vec::new() }, config);
        bench.pairs_max = 1;
        bench
    }

    fn request(
        &mut self,
        (connection, peer): (u32, SocketAddr),
        method: Method,
        uri: &str,
        session: Option<SessionId>,
        content: (&[(&str, &str)], &str),
    ) -> Option<Response> {
        self.send(client(connection, peer), method, uri, session, content)
    }

    /// The first answer on a connection that was not looked at yet.
    fn answer(&mut self, connection: u32) -> Option<Response> {
        let place = self.answers.iter().position(|(to, _)| *to == connection)?;
        Some(self.answers.remove(place).1)
    }

    /// Sends what is due to readers, as the shard does. Connections take so many bytes each.
    fn pump(&mut self, credit: usize) -> Vec<LiveSentRun> {
        let Sessions { cx, live, .. } = &mut self.sessions;
        let Live { hub, readers, .. } = live;
        if std::mem::take(&mut hub.is_ready) {
            hub.paths.list_all();
        }
        let (mut sockets, mut left) = (SinkRecorder::default(), Left::default());
        LivePump::new(&mut sockets, &cx.cells, &mut left, cx.now).pump(&mut hub.paths);
        left.begun.into_iter().for_each(|begun| readers.note_begun(begun));
        for (owner, due) in left.wakes {
            readers.wake_reader(cx, u32::try_from(owner).unwrap(), due);
        }
        let connection =
            |owner: &u64| readers.table[usize::try_from(*owner).unwrap()].client.connection;
        let entries: Vec<_> = left.interleaved.iter().filter_map(connection).collect();
        for entry in entries {
            self.send_on(entry, credit);
        }
        sockets.runs
    }

    /// Sends what is due to the readers of a connection that takes so many bytes.
    fn send_on(&mut self, entry: EntryKey, credit: usize) {
        let Sessions { cx, live, .. } = &mut self.sessions;
        let Live { hub, readers, .. } = live;
        let (mut send, mut gathered) = (FrameRecorder::with_credit(credit), Gathered::default());
        let sessions: Vec<SessionRef> = cx.directory.of_connection(entry).to_vec();
        for session in sessions {
            let SessionRef::Reader(index) = session else { continue };
            let key = readers.table[index as usize].key;
            let at = (&*cx.cells, cx.now);
            let mut note = |begun| readers.note_begun(begun);
            let fed = pump::gather(&mut hub.paths, key, at, &mut send, &mut gathered, &mut note);
            if let Fed::Until(Some(due)) = fed {
                readers.wake_reader(cx, index, due);
            }
        }
        let packets: Vec<(u8, [u8; HEADER_BYTES])> = send.packets;
        assert_eq!(gathered.packets, packets.len() as u64);
    }

    /// A socket has refused these runs: their packets are put back.
    fn refuse(&mut self, runs: &[LiveSentRun]) {
        let Sessions { cx, live, .. } = &mut self.sessions;
        for run in runs {
            let Some(owner) = pump::deny(&mut live.hub.paths, &run.mark) else { continue };
            if let Some(due) = pump::put_back(&mut live.hub.paths, &run.mark, cx.now) {
                live.readers.wake_reader(cx, u32::try_from(owner).unwrap(), due);
            }
        }
    }

    fn announce(&mut self, connection: u32, peer: SocketAddr) -> u16 {
        self.announce_as((connection, peer), SDP)
    }

    fn announce_as(&mut self, from: (u32, SocketAddr), sdp: &str) -> u16 {
        let answer = self.request(from, Method::Announce, URL, None, (&[], sdp));
        answer.unwrap().status().code()
    }

    fn publish(&mut self) -> SessionId {
        self.publish_as(SDP)
    }

    /// ANNOUNCE and SETUP of the publisher without a session, and RECORD.
    fn publish_as(&mut self, sdp: &str) -> SessionId {
        let from = (PUBLISHER, host(1, 40_000));
        assert_eq!(self.announce_as(from, sdp), 200);
        let transport = [("Transport", "RTP/AVP/UDP;unicast;client_port=5000-5001;mode=record")];
        let uri = "rtsp://h/live/a/streamid=0";
        let answer = self.request(from, Method::Setup, uri, None, (&transport, "")).unwrap();
        let told = answer.header_value("Transport").unwrap();
        assert!(told.contains("server_port=8000-8001") && told.contains("mode=record"), "{told}");
        let id = session_id(&answer);
        let answer = self.request(from, Method::Record, URL, Some(id), (&[], "")).unwrap();
        assert_eq!(answer.status().code(), 200);
        id
    }

    /// Publishes two tracks, of payload types 0 and 8.
    fn publish_two(&mut self) {
        let from = (PUBLISHER, host(1, 40_000));
        let sdp = format!("{SDP}m=audio 0 RTP/AVP 8\r\na=control:streamid=1\r\n");
        assert_eq!(self.announce_as(from, &sdp), 200);
        let mut id = None;
        for (uri, ports) in [(0, "5000-5001"), (1, "5002-5003")]
            .map(|(track, ports)| (format!("{URL}/streamid={track}"), ports))
        {
            let transport = format!("RTP/AVP/UDP;unicast;client_port={ports};mode=record");
            let headers = [("Transport", &*transport)];
            let answer = self.request(from, Method::Setup, &uri, id, (&headers, "")).unwrap();
            id = Some(session_id(&answer));
        }
        let answer = self.request(from, Method::Record, URL, id, (&[], "")).unwrap();
        assert_eq!(answer.status().code(), 200);
    }

    fn reader(&mut self, method: Method, uri: &str, id: Option<SessionId>) -> Option<Response> {
        let transport = [("Transport", "RTP/AVP;unicast;client_port=6000-6001")];
        self.request((READER, host(3, 40_001)), method, uri, id, (&transport, ""))
    }

    /// A packet of the publisher, and the end of its turn.
    fn packet(&mut self, from: SocketAddr, seq: u16) {
        self.sessions.live.sources.handle_rtp_datagram(&mut self.sessions.cx, 0, from, &rtp(seq));
        self.sessions.live.feed_live(&mut self.sessions.cx);
        self.settle();
    }

    /// Lets time pass in turns 100 ms apart.
    fn pass(&mut self, duration: Duration) {
        let end = self.sessions.cx.now + duration;
        while self.sessions.cx.now < end {
            self.turn(self.sessions.cx.now + Duration::from_millis(100));
        }
    }
}

#[test]
fn play_waits_for_the_first_packet_and_tells_its_number() {
    let mut bench = Bench::new();
    bench.publish();
    let described = bench.reader(Method::Describe, URL, None).unwrap();
    assert_eq!(described.status().code(), 200);
    let setup = bench.reader(Method::Setup, "rtsp://h/live/a/trackID=0", None).unwrap();
    let id = session_id(&setup);
    assert!(bench.reader(Method::Play, URL, Some(id)).is_none(), "nothing has come yet");
    bench.packet(host(1, 5_000), 77);
    let played = bench.answer(READER).unwrap();
    let info = played.header_value("RTP-Info").unwrap();
    assert!(info.contains("trackID=0;seq=77;rtptime="), "{info}");
    let infos = bench.sessions.infos();
    let mut shown: Vec<_> = infos.iter().map(|info| (info.role, info.state)).collect();
    shown.sort_unstable();
    assert_eq!(shown, [("publisher", "recording"), ("reader", "playing")]);
    assert_eq!(infos[0].path, "live/a");
}

#[test]
fn play_of_a_silent_path_is_answered_after_a_second_without_numbers() {
    let mut bench = Bench::new();
    bench.publish();
    let setup = bench.reader(Method::Setup, "rtsp://h/live/a/trackID=0", None).unwrap();
    assert!(bench.reader(Method::Play, URL, Some(session_id(&setup))).is_none());
    bench.pass(Duration::from_millis(900));
    assert!(bench.answer(READER).is_none());
    bench.pass(Duration::from_millis(300));
    let played = bench.answer(READER).unwrap();
    assert_eq!(played.header_value("RTP-Info"), Some("url=rtsp://h/live/a/trackID=0"));
}

#[test]
fn second_publisher_is_refused_and_packets_of_other_addresses_are_dropped() {
    let mut bench = Bench::new();
    bench.publish();
    assert_eq!(bench.announce(9, host(1, 40_009)), 403, "it has a publisher");
    bench.packet(host(9, 5_000), 1);
    let packets = |bench: &Bench| -> u64 {
        bench.sessions.live.sources.publishers.values().map(|p| p.source.counts().packets).sum()
    };
    assert_eq!(packets(&bench), 0);
    bench.packet(host(1, 5_000), 1);
    bench.packet(host(1, 5_004), 2);
    assert_eq!(packets(&bench), 1, "its port is known now");
}

#[test]
fn silent_publisher_ends_and_its_readers_after_the_hold_time() {
    let mut bench = Bench::new();
    bench.publish();
    let setup = bench.reader(Method::Setup, "rtsp://h/live/a/trackID=0", None).unwrap();
    bench.packet(host(1, 5_000), 1);
    bench.reader(Method::Play, URL, Some(session_id(&setup))).unwrap();
    bench.pass(Duration::from_secs(9));
    assert_eq!(bench.sessions.live.sources.publishers.len(), 1);
    assert!(!bench.datagrams.is_empty(), "receiver reports went to the publisher");
    bench.pass(Duration::from_secs(3));
    assert!(bench.sessions.live.sources.publishers.is_empty());
    assert_eq!(bench.sessions.live.readers.table.len(), 1, "it waits for another publisher");
    assert_eq!(bench.hung_up, [PUBLISHER]);
    bench.pass(Duration::from_secs(11));
    assert!(bench.sessions.live.readers.table.is_empty());
    assert_eq!(bench.hung_up, [PUBLISHER, READER]);
    assert_eq!(bench.sessions.cx.sockets.tuple_count(), 0);
    // It may say goodbye to what has ended, and nothing else.
    let id = session_id(&setup);
    let mut say = |method| bench.reader(method, URL, Some(id)).unwrap().status().code();
    let said = [Method::Pause, Method::Teardown, Method::Play, Method::Setup].map(&mut say);
    assert_eq!(said, [200, 200, 454, 454]);
    let described = bench.reader(Method::Describe, URL, None).unwrap();
    assert_eq!(described.status().code(), 404);
}

#[test]
fn silent_publisher_over_tcp_is_disconnected_after_the_source_timeout_of_its_path() {
    let mut bench = Bench::configured("[path.\"live/a\"]\nsource_timeout = \"10s\"\n");
    bench.publish_over_tcp();
    let entry = entry(PUBLISHER);
    bench.sessions.handle_report_interleaved(entry, 0, &rtp(1));
    bench.pass(Duration::from_secs(9));
    // Garbage and the channels of others are no signs of life.
    for (channel, bytes) in [(0, &rtp(2)[..7]), (1, &[0; 40]), (7, &rtp(3))] {
        bench.sessions.handle_report_interleaved(entry, channel, bytes);
    }
    bench.pass(Duration::from_secs(2));
    assert!(bench.sessions.live.sources.publishers.is_empty());
    assert_eq!(bench.hung_up, [PUBLISHER]);
}

#[test]
fn paused_publisher_keeps_its_path_and_continues_with_record() {
    let mut bench = Bench::new();
    let id = Some(bench.publish());
    let from = (PUBLISHER, host(1, 40_000));
    let packets = |bench: &Bench| -> u64 {
        bench.sessions.live.sources.publishers.values().map(|p| p.source.counts().packets).sum()
    };
    let say = |bench: &mut Bench, method| {
        bench.request(from, method, URL, id, (&[], "")).unwrap().status().code()
    };
    bench.packet(host(1, 5_000), 1);
    assert_eq!(say(&mut bench, Method::Pause), 200);
    assert_eq!(say(&mut bench, Method::Pause), 455);
    bench.packet(host(1, 5_000), 2);
    bench.pass(Duration::from_secs(20));
    assert_eq!(packets(&bench), 1, "what comes meanwhile is not taken");
    assert_eq!(bench.announce(9, host(1, 40_009)), 403, "the path is its own");
    assert_eq!(say(&mut bench, Method::Record), 200);
    bench.packet(host(1, 5_000), 3);
    assert_eq!(packets(&bench), 2);
    assert_eq!(say(&mut bench, Method::Teardown), 200);
}

#[test]
fn closed_connection_ends_a_publisher_and_keeps_a_reader_over_udp() {
    let mut bench = Bench::new();
    let id = bench.publish();
    bench.reader(Method::Setup, "rtsp://h/live/a/trackID=0", None).unwrap();
    for connection in [PUBLISHER, READER] {
        bench.sessions.handle_connection_closed(entry(connection));
    }
    bench.settle();
    assert!(bench.sessions.live.sources.publishers.is_empty());
    assert!(!bench.sessions.end_session(id, "test"));
    assert_eq!(bench.sessions.live.readers.table.len(), 1);
    assert_eq!(bench.announce(PUBLISHER, host(1, 40_000)), 200, "the path is free again");
}

/// Merged parts, and the metrics' sums, of `live/a`.
fn shown(bench: &Bench) -> (Option<PathInfo>, PathNumbers) {
    let info = merge(bench.sessions.live.path_parts(&bench.sessions.cx, Some("live/a"))).pop();
    let mut table = bench.sessions.live.path_table(&bench.sessions.cx);
    (info, *table.numbers_mut("live/a"))
}

#[test]
fn path_is_shown_with_source_and_readers_and_keeps_its_totals_after_they_end() {
    let mut bench = Bench::new();
    let publisher = bench.publish();
    let setup = bench.reader(Method::Setup, "rtsp://h/live/a/trackID=0", None).unwrap();
    bench.packet(host(1, 5_000), 1);
    bench.packet(host(1, 5_000), 4);
    bench.packet(host(1, 5_009), 5);
    bench.reader(Method::Play, URL, Some(session_id(&setup))).unwrap();
    bench.pass(Duration::from_secs(2));
    let (info, numbers) = shown(&bench);
    let info = info.unwrap();
    let source = info.source.as_ref().unwrap();
    assert_eq!((info.owner.state, source.kind, source.state), ("live", "publish", "recording"));
    assert_eq!((source.peer.as_str(), source.transport), ("127.0.0.1:40000", Some("udp")));
    assert_eq!(source.session, Some(publisher.to_string()));
    assert_eq!((source.packets, source.bytes, source.packets_lost), (2, 344, 2));
    assert!(source.age_s >= 2.0 && source.since.is_some() && source.url.is_none());
    let track = &source.tracks[0];
    assert_eq!((track.media.as_str(), track.encoding.as_str()), ("audio", "PCMU"));
    assert_eq!((track.clock_rate_hz, track.payload_type), (8_000, Some(0)));
    assert_eq!(track.ssrc.as_deref(), Some("00000009"));
    assert!(track.last_packet_age_s.is_some_and(|age| age >= 2.0));
    assert_eq!((info.readers.udp, info.readers.tcp), (1, 0));
    assert_eq!((numbers.readers, numbers.sources), ([1, 0, 0], 1));
    assert_eq!((numbers.totals.source_starts, numbers.totals.packets_received), (1, 2));
    assert!(bench.sessions.live.path_parts(&bench.sessions.cx, Some("live/b")).is_empty());

    assert!(bench.sessions.end_session(publisher, "test"));
    bench.settle();
    let (info, after) = shown(&bench);
    assert_eq!(info.map(|info| (info.owner.state, info.source)), Some(("held", None)));
    assert_eq!((after.totals, after.sources), (numbers.totals, 0));
    bench.pass(Duration::from_secs(11));
    let (info, after) = shown(&bench);
    assert!(info.is_none(), "nobody is left");
    assert_eq!((after.totals, after.readers), (numbers.totals, [0; 3]));
}

#[test]
fn kick_ends_publisher_and_readers_and_is_refused_for_an_unknown_path() {
    let mut bench = Bench::new();
    bench.publish();
    bench.reader(Method::Setup, "rtsp://h/live/a/trackID=0", None).unwrap();
    assert!(!bench.sessions.live.kick_path(&mut bench.sessions.cx, "live/b"));
    assert!(bench.sessions.live.kick_path(&mut bench.sessions.cx, "live/a"));
    bench.settle();
    assert!(
        bench.sessions.live.sources.publishers.is_empty()
            && bench.sessions.live.readers.table.is_empty()
    );
    assert_eq!(bench.hung_up, [PUBLISHER, READER]);
    assert!(shown(&bench).0.is_none());
    assert_eq!(bench.announce(PUBLISHER, host(1, 40_000)), 200, "the path is free again");
}

#[test]
fn configured_path_is_shown_without_source_and_readers() {
    let mut bench = Bench::new();
    let mut configs = PathTable::default();
    configs.named.insert("live/a".to_owned(), Arc::default());
    bench.sessions.cx.configs = Arc::new(configs);
    assert_eq!(shown(&bench).0.map(|info| info.owner.state), Some("idle"));
    assert!(
        bench.sessions.live.kick_path(&mut bench.sessions.cx, "live/a"),
        "there is nothing to end, and the path is known"
    );
    bench.publish();
    assert_eq!(
        bench.sessions.live.path_table(&bench.sessions.cx).owners,
        [1, 0, 0, 0, 0],
        "shown once"
    );
}

#[test]
fn skips_of_a_reader_are_counted_and_logged_and_kept_after_its_end() {
    let mut bench = Bench::new();
    bench.publish();
    let setup = bench.reader(Method::Setup, "rtsp://h/live/a/trackID=0", None).unwrap();
    bench.packet(host(1, 5_000), 1);
    let id = session_id(&setup);
    bench.reader(Method::Play, URL, Some(id)).unwrap();
    bench.pass(Duration::from_secs(3));
    bench.packet(host(1, 5_000), 2);
    assert_eq!(bench.pump(0).len(), 1, "the newer packet alone");
    bench.pass(Duration::from_secs(2));
    let info = bench.sessions.session_info(id).unwrap();
    let reader = info.reader.unwrap();
    assert_eq!((reader.skips_lag_budget, reader.packets_skipped, reader.carrier), (1, 1, "udp"));
    assert!(
        bench.sessions.live.readers.table.iter().all(|(_, reader)| reader.skips_told.is_told())
    );
    assert_eq!(shown(&bench).0.unwrap().skips["lag_budget"], 1);
    assert!(bench.sessions.end_session(id, "test"));
    let (info, numbers) = shown(&bench);
    assert_eq!((numbers.totals.skips, numbers.totals.packets_skipped), ([0, 1, 0], 1));
    assert_eq!(info.unwrap().skips["lag_budget"], 1);
}

/// A camera over UDP that takes another SSRC with each group of pictures: the address decides.
#[test]
fn packets_of_the_latched_address_are_accepted_under_any_ssrc_and_those_of_other_addresses_dropped()
{
    let mut bench = Bench::new();
    bench.publish();
    let mut send = |port, seq: u16, ssrc: u32| {
        let mut packet = rtp(seq);
        packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
        bench.sessions.live.sources.handle_rtp_datagram(
            &mut bench.sessions.cx,
            0,
            host(1, port),
            &packet,
        );
        bench.sessions.cx.now = bench.sessions.cx.now + Duration::from_millis(20);
    };
    send(6_000, 0, 9);
    for seq in 1..50 {
        send(6_000, seq, 9 + u32::from(seq / 10));
        send(5_000, seq + 1, 9);
        send(6_001, seq, 77);
    }
    let source = &bench.sessions.live.sources.publishers.values().next().unwrap().source;
    assert_eq!(source.counts().packets, 50);
    assert_eq!(source.counts().dropped, [0; 9]);
    assert_eq!(source.track(0).and_then(|track| track.ssrc()), Some(Ssrc(13)));
}

/// RTP times of both tracks begin at 0, and a NAT changes the ports that SETUP named.
#[test]
fn report_from_an_unannounced_port_is_matched_to_a_track_by_its_ssrc() {
    let mut bench = Bench::new();
    bench.publish_two();
    let packet = |bench: &mut Bench, port, payload_type, ssrc| {
        let bytes =
            [&[0x80, payload_type, 0, 1, 0, 0, 0, 0, 0, 0, 0, ssrc][..], &[7; 160]].concat();
        let (live, cx) = (&mut bench.sessions.live, &mut bench.sessions.cx);
        live.sources.handle_rtp_datagram(cx, 0, host(1, port), &bytes);
    };
    let report = |ssrc| {
        let ntp = [0xE0, 0, 0, 1, 0, 0, 0, 0];
        [&[0x80, 200, 0, 6, 0, 0, 0, ssrc][..], &ntp, &[0; 12]].concat()
    };
    let send = |bench: &mut Bench, port, bytes: &[u8]| {
        let (live, cx) = (&mut bench.sessions.live, &mut bench.sessions.cx);
        live.sources.handle_publisher_datagram(cx, 0, host(1, port), bytes)
    };
    packet(&mut bench, 7_000, 0, 1);
    assert!(!send(&mut bench, 7_009, &report(3)), "it may be of the track that is not heard yet");
    packet(&mut bench, 7_002, 8, 2);
    assert!(!send(&mut bench, 7_009, &report(3)), "it may be of either");
    assert!(send(&mut bench, 7_003, &report(2)));
    let now = bench.sessions.cx.now + Duration::from_secs(5);
    let publisher = bench.sessions.live.sources.publishers.values_mut().next().unwrap();
    let blocks = publisher.source.poll_reports(now);
    let heard: Vec<_> = blocks.iter().map(|(track, block)| (*track, block.lsr != 0)).collect();
    assert_eq!(heard, [(0, false), (1, true)]);
    assert!(send(&mut bench, 7_001, &report(3)), "one track is left whose time is near");
}

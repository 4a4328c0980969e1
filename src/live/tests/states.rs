//! The tables of methods and states of `readers` and `publisher`, cell by cell.
//!
//! A cell is the answer's status, or `held` while there is none; then the state behind it, where
//! that is another one. Tables in the modules' headers are those below, word for word.

use super::*;
use crate::live::core::groups::MulticastSettings;
use crate::live::core::message::owner_of;
use crate::live::readers::reader::ReaderState;
use crate::live::sources::publisher::PublisherState;

/// A path's readers over UDP and over TCP.
const READERS: &str = "\
| method | Ready | Priming | Playing | Paused |
|---|---|---|---|---|
| SETUP | 200 | 455 | 455 | 200 |
| PLAY | held Priming | 455 | 200 | held Priming |
| PAUSE | 455 | 455 | 200 Paused | 200 |
| TEARDOWN | 200 ends | 200 ends | 200 ends | 200 ends |
| GET_PARAMETER | 200 | 200 | 200 | 200 |
| SET_PARAMETER | 200 | 200 | 200 | 200 |
| OPTIONS | 200 | 200 | 200 | 200 |
| ANNOUNCE | 455 | 455 | 455 | 455 |
| RECORD | 455 | 455 | 455 | 455 |
| DESCRIBE | 455 | 455 | 455 | 455 |
| REDIRECT | 455 | 455 | 455 | 455 |
| another | 455 | 455 | 455 | 455 |
";

/// Members of a path's group: the packets are sent already, so that nobody waits for them.
const MEMBERS: &str = "\
| method | Ready | Playing | Paused |
|---|---|---|---|
| SETUP | 200 | 455 | 200 |
| PLAY | 200 Playing | 200 | 200 Playing |
| PAUSE | 455 | 200 Paused | 200 |
| TEARDOWN | 200 ends | 200 ends | 200 ends |
| GET_PARAMETER | 200 | 200 | 200 |
| SET_PARAMETER | 200 | 200 | 200 |
| OPTIONS | 200 | 200 | 200 |
| ANNOUNCE | 455 | 455 | 455 |
| RECORD | 455 | 455 | 455 |
| DESCRIBE | 455 | 455 | 455 |
| REDIRECT | 455 | 455 | 455 |
| another | 455 | 455 | 455 |
";

/// Publishers, over UDP and over TCP. Set up: Announced, with a track at least.
const PUBLISHERS: &str = "\
| method | Claiming | Announced | Set up | Recording |
|---|---|---|---|---|
| SETUP | 455 | 200 Set up | 200 | 455 |
| RECORD | 455 | 455 | 200 Recording | 200 |
| PAUSE | 455 | 455 | 455 | 200 Set up |
| TEARDOWN | 200 ends | 200 ends | 200 ends | 200 ends |
| GET_PARAMETER | 200 | 200 | 200 | 200 |
| SET_PARAMETER | 200 | 200 | 200 | 200 |
| OPTIONS | 200 | 200 | 200 | 200 |
| ANNOUNCE | 455 | 455 | 455 | 455 |
| PLAY | 455 | 455 | 455 | 455 |
| DESCRIBE | 455 | 455 | 455 | 455 |
| REDIRECT | 455 | 455 | 455 | 455 |
| another | 455 | 455 | 455 | 455 |
";

const TWO_TRACKS: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n\
    m=audio 0 RTP/AVP 0\r\na=control:streamid=0\r\nm=audio 0 RTP/AVP 8\r\na=control:streamid=1\r\n";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Udp,
    Tcp,
    Group,
}

impl Way {
    /// What a SETUP of a track offers. Publishers send from ports of their own.
    fn transport(self, track: u16, is_publisher: bool) -> String {
        let port = if is_publisher { 5_000 } else { 6_000 } + 2 * track;
        let (channel, mode) = (2 * track, if is_publisher { ";mode=record" } else { "" });
        match self {
            Self::Udp => format!("RTP/AVP;unicast;client_port={port}-{}{mode}", port + 1),
            Self::Tcp => {
                format!("RTP/AVP/TCP;unicast;interleaved={channel}-{}{mode}", channel + 1)
            }
            Self::Group => "RTP/AVP;multicast".to_owned(),
        }
    }
}

/// One of a table's columns: a session that was brought to a state, and how to ask it.
struct Column {
    bench: Bench,
    id: SessionId,
    from: (u32, SocketAddr),
    url: String,
    way: Way,
    is_publisher: bool,
}

impl Column {
    /// The answer. SETUP is of track 1: track 0 is set up, as far as the state has tracks.
    fn ask(&mut self, method: &Method) -> Option<u16> {
        let uri = match (method, self.is_publisher) {
            (Method::Setup, true) => format!("{}/streamid=1", self.url),
            (Method::Setup, false) => format!("{}/trackID=1", self.url),
            _ => self.url.clone(),
        };
        let transport = self.way.transport(1, self.is_publisher);
        let headers = [("Transport", &*transport)];
        let headers = if *method == Method::Setup { &headers[..] } else { &[] };
        let answer =
            self.bench.request(self.from, method.clone(), &uri, Some(self.id), (headers, ""));
        answer.map(|answer| answer.status().code())
    }

    fn setup_first(&mut self, id: Option<SessionId>) -> SessionId {
        let name = if self.is_publisher { "streamid" } else { "trackID" };
        let (uri, transport) =
            (format!("{}/{name}=0", self.url), self.way.transport(0, self.is_publisher));
        let headers = [("Transport", &*transport)];
        let answer = self.bench.request(self.from, Method::Setup, &uri, id, (&headers, ""));
        let answer = answer.unwrap();
        assert_eq!(answer.status(), Status::Ok);
        session_id(&answer)
    }

    /// `None`: the session has ended.
    fn state(&self) -> Option<&'static str> {
        let live = &self.bench.sessions.live;
        match self.bench.sessions.cx.directory.find(self.id)? {
            SessionRef::Reader(index) => Some(match live.readers.table[index as usize].state {
                ReaderState::Ready => "Ready",
                ReaderState::Priming { .. } => "Priming",
                ReaderState::Playing => "Playing",
                ReaderState::Paused => "Paused",
            }),
            SessionRef::Publisher(number) => {
                let publisher = live.sources.publishers.get(&number).unwrap();
                let is_set_up = publisher.tracks.iter().any(|track| track.transport.is_some());
                Some(match publisher.state {
                    PublisherState::Claiming(_) => "Claiming",
                    PublisherState::Announced(_) if is_set_up => "Set up",
                    PublisherState::Announced(_) => "Announced",
                    PublisherState::Recording(_) => "Recording",
                })
            }
            SessionRef::Title(_) => None,
        }
    }
}

/// A reader of a path with two tracks of sound, track 0 set up, brought to a state.
fn reader_at(way: Way, state: &str) -> Column {
    let mut bench = Bench::new();
    let range = (Ipv4Addr::new(239, 255, 0, 0), 30);
    let settings = MulticastSettings { range, ..MulticastSettings::default() };
    bench.sessions.live.offer_groups(settings, ShardId(0)).unwrap();
    bench.publish_two();
    let (id, from) = (SessionId::new(ShardId(0), 0), (READER, host(3, 40_001)));
    let mut column = Column { bench, id, from, url: URL.to_owned(), way, is_publisher: false };
    column.id = column.setup_first(None);
    let has_played = matches!(state, "Playing" | "Paused");
    if state != "Ready" {
        let answer = column.ask(&Method::Play);
        assert_eq!(answer, (way == Way::Group).then_some(200));
    }
    if has_played && way != Way::Group {
        // Nothing is known of its first packet; a second is waited for it.
        column.bench.pass(Duration::from_millis(1_200));
        assert_eq!(column.bench.answer(READER).unwrap().status(), Status::Ok);
    }
    if state == "Paused" {
        assert_eq!(column.ask(&Method::Pause), Some(200));
    }
    assert_eq!(column.state(), Some(state));
    if state == "Priming" && way != Way::Tcp {
        // The connection of the PLAY says nothing before its answer. An interleaved session takes
        // commands of no other.
        column.from = (9, host(3, 40_002));
    }
    column
}

/// A publisher of two tracks, brought to a state.
fn publisher_at(way: Way, state: &str) -> Column {
    let mut bench = Bench::new();
    let from = (PUBLISHER, host(1, 40_000));
    let mut url = URL.to_owned();
    if state == "Claiming" {
        // The path's owner is another shard, which does not answer.
        bench.sessions.live.hub.shard_count = 2;
        let mut names = (0..).map(|n| format!("live/{n}"));
        let name = names.find(|name| owner_of(name, 2) == ShardId(1)).unwrap();
        url = format!("rtsp://h/{name}");
    }
    let answer = bench.request(from, Method::Announce, &url, None, (&[], TWO_TRACKS));
    assert_eq!(answer.is_none(), state == "Claiming");
    let id = bench.sessions.live.sources.publishers.values().next().unwrap().id().unwrap();
    let mut column = Column { bench, id, from, url, way, is_publisher: true };
    if matches!(state, "Set up" | "Recording") {
        column.setup_first(Some(id));
    }
    if state == "Recording" {
        assert_eq!(column.ask(&Method::Record), Some(200));
    }
    assert_eq!(column.state(), Some(state));
    column
}

/// The table of the methods and states that `wanted` names, as it is found.
fn found(wanted: &str, bring_to: impl Fn(&str) -> Column) -> String {
    let mut lines = wanted.lines();
    let head = lines.next().unwrap();
    let states: Vec<&str> = words(head).skip(1).collect();
    let mut table = format!("{head}\n{}\n", lines.next().unwrap());
    for line in lines {
        let name = words(line).next().unwrap();
        table += &format!("| {name} |");
        for before in &states {
            let mut column = bring_to(before);
            let answer = column.ask(&Method::from_token(name));
            let mut cell = answer.map_or_else(|| "held".to_owned(), |status| status.to_string());
            let after = column.state().unwrap_or("ends");
            if after != *before {
                cell += &format!(" {after}");
            }
            table += &format!(" {cell} |");
        }
        table += "\n";
    }
    table
}

/// What stands between the bars of a line.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.trim_matches('|').split('|').map(str::trim)
}

/// Every method that there is has a line.
fn assert_whole(table: &str) {
    let mut methods: Vec<&str> = table.lines().skip(2).filter_map(|l| words(l).next()).collect();
    methods.sort_unstable();
    let mut all = [
        "SETUP",
        "PLAY",
        "PAUSE",
        "TEARDOWN",
        "GET_PARAMETER",
        "SET_PARAMETER",
        "OPTIONS",
        "ANNOUNCE",
        "RECORD",
        "DESCRIBE",
        "REDIRECT",
        "another",
    ];
    all.sort_unstable();
    assert_eq!(methods, all);
}

/// The header of a module has this table.
fn assert_stands_in(header: &str, table: &str) {
    let written: String = header
        .lines()
        .filter_map(|line| line.strip_prefix("//! "))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(written.contains(table), "not in the module's header:\n{table}");
}

#[test]
fn reader_over_udp_or_tcp_goes_from_state_to_state_as_its_table_says() {
    assert_whole(READERS);
    assert_stands_in(include_str!("../readers/mod.rs"), READERS);
    for way in [Way::Udp, Way::Tcp] {
        assert_eq!(found(READERS, |state| reader_at(way, state)), READERS, "{way:?}");
    }
}

#[test]
fn member_of_a_group_goes_from_state_to_state_as_its_table_says() {
    assert_whole(MEMBERS);
    assert_stands_in(include_str!("../multicast/member.rs"), MEMBERS);
    assert_eq!(found(MEMBERS, |state| reader_at(Way::Group, state)), MEMBERS);
}

#[test]
fn publisher_goes_from_state_to_state_as_its_table_says() {
    assert_whole(PUBLISHERS);
    assert_stands_in(include_str!("../sources/publisher.rs"), PUBLISHERS);
    for way in [Way::Udp, Way::Tcp] {
        assert_eq!(found(PUBLISHERS, |state| publisher_at(way, state)), PUBLISHERS, "{way:?}");
    }
}

#[test]
fn play_that_waits_is_answered_with_454_when_its_session_ends() {
    let mut column = reader_at(Way::Udp, "Priming");
    assert_eq!(column.ask(&Method::Teardown), Some(200));
    assert_eq!(column.bench.answer(READER).unwrap().status(), Status::SessionNotFound);
}

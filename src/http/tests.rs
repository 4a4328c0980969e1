//! The HTTP API over a real loopback listener, against an appliance made of constants.

mod playlists;

mod acts;
mod dashboard;
mod drain;
mod moves;
mod operators;

use std::any::Any;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;

use serde_json::Value;
use tokio::sync::oneshot;

use super::*;
use crate::base::carrier::Carrier;
use crate::base::ids::{SessionId, ShardId};
use crate::config;
use crate::config::paths::PathChanges;
use crate::config::paths::PathTable;
use crate::lineup::event::{Input, Outcome, Refusal};
use crate::lineup::requests::{EventsAnswer, EventsDone, EventsError, EventsRequest};
use crate::live::core::failover::{SwitchError, SwitchReport, SwitchRequest, SwitchResult};
use crate::live::core::info::{OwnerInfo, PathPart, PathsPage, PathsPlace};
use crate::live::sources::titles::playlists::{PlaylistAnswer, PlaylistRefusal, PlaylistRequest};
use crate::live::sources::titles::schedule::Schedule;
use crate::metrics::cells::{ShardCells, WorkerCells};
use crate::metrics::limits::{Limit, Used};
use crate::metrics::paths::PathTallies;
use crate::poll::poller::GUEST;
use crate::session::handover::MoveRefusal;
use crate::session::info::{SessionInfo, SessionsPage};

/// How the fake's second shard behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shard {
    Answers,
    Gone,
    Silent,
}

#[derive(Debug)]
struct Fake {
    cells: Vec<Arc<ShardCells>>,
    second: Shard,
    ready: bool,
    ended: Mutex<Vec<String>>,
    drained: Mutex<Option<DrainRequest>>,
    /// The playlist of `live/c:d e`.
    schedule: Mutex<Schedule>,
    table: Arc<PathTable>,
    /// Playlists that were kept, by their length.
    kept: Mutex<Vec<String>>,
    /// Which shards were asked about sessions.
    asked: Mutex<Vec<u8>>,
    /// Senders of a silent shard: kept, never used.
    unanswered: Mutex<Vec<Box<dyn Any + Send>>>,
    /// The thread of HLS does not answer.
    is_guest_silent: bool,
}

impl Fake {
    fn new(second: Shard, ready: bool) -> Arc<Self> {
        let cells = vec![Arc::default(), Arc::default()];
        let text = "[path.\"live/c:d e\"]\nplaylist = [\"a\", { title = \"b\", at = \"20:15\" }]\n";
        let table = config::load(Some(("f", text)), [], &[]).unwrap().config.paths;
        Arc::new(Self {
            cells,
            second,
            ready,
            ended: Mutex::default(),
            drained: Mutex::default(),
            schedule: Mutex::new(Schedule::of_path(&table, PLAYLIST)),
            table,
            kept: Mutex::default(),
            asked: Mutex::default(),
            unanswered: Mutex::default(),
            is_guest_silent: false,
        })
    }
}

impl Fake {
    /// An answer that does not come.
    fn never<T: Send + 'static>(&self) -> oneshot::Receiver<T> {
        let (sender, answer) = oneshot::channel();
        self.unanswered.lock().unwrap().push(Box::new(sender));
        answer
    }
}

/// Tokens of operators.
const TOKENS: &str = "grafana read hda_readreadreadread\ndesk control hda_controlcontrol\n";
/// The path with a playlist.
const PLAYLIST: &str = "live/c:d e";

/// `1A` is a session of shard 1.
fn id(short: &str) -> String {
    let (shard, digit) = short.split_at(1);
    format!("0{shard}{}", digit.repeat(14))
}

fn session(short: &str, path: &str, state: &'static str) -> SessionInfo {
    let id = id(short);
    SessionInfo {
        shard: Some(SessionId::parse(&id).unwrap().shard().0),
        id,
        role: if state == "recording" { "publisher" } else { "reader" },
        path: path.into(),
        peer: "192.0.2.7:5000".into(),
        user_agent: None,
        user: None,
        state,
        transport: "udp",
        npt_s: 1.5,
        scale: 1.0,
        speed: 1.0,
        age_s: 3.0,
        streams: Vec::new(),
        channel: None,
        reader: None,
        source: None,
    }
}

fn sessions_of(shard: ShardId) -> Option<Vec<SessionInfo>> {
    match shard {
        ShardId(0) => Some(vec![
            session("0A", "demo", "playing"),
            session("0B", "vod/b.mp4", "paused"),
            session("0C", "live/b", "recording"),
        ]),
        ShardId(1) => Some(vec![session("1A", "/demo", "playing")]),
        _ => None,
    }
}

impl ApplianceView for Fake {
    fn shard_cells(&self) -> Vec<Arc<ShardCells>> {
        self.cells.clone()
    }

    fn worker_cells(&self) -> Arc<WorkerCells> {
        Arc::default()
    }

    fn hls_addrs(&self) -> Vec<SocketAddr> {
        vec!["[::]:8888".parse().unwrap()]
    }

    fn limits(&self) -> Arc<[Limit]> {
        let used = Used::Shard(|cells| cells.half_open.value());
        Arc::from([Limit { what: "half_open", key: "limits.half_open_max", max: 9, used }])
    }

    /// An owner a page, and none is on two of them; readers on the last one.
    fn request_paths(
        &self,
        shard: ShardId,
        path: Option<&str>,
        from: PathsPlace,
    ) -> Option<oneshot::Receiver<PathsPage>> {
        if shard == GUEST && self.is_guest_silent {
            return Some(self.never());
        }
        let (sender, answer) = oneshot::channel();
        let part = |name: &str| PathPart::new(name.into());
        let is_wanted = |part: &PathPart| path.is_none_or(|path| path == &*part.path);
        let mut page = match (shard, &from) {
            (ShardId(0), PathsPlace::Owners(after)) => {
                let asked = path.filter(|path| *path == "live/playlist");
                let names =
                    asked.map_or_else(|| vec!["live/a", "live/b", PLAYLIST], |name| vec![name]);
                let is_next = |name: &&str| after.as_ref().is_none_or(|after| **after < **name);
                let mut parts = Vec::new();
                let next = names.into_iter().find(is_next).map(|name| {
                    let owner = Some(OwnerInfo { state: "live", ..OwnerInfo::idle(name) });
                    parts.push(PathPart { owner, ..part(name) });
                    PathsPlace::Owners(Some(name.into()))
                });
                PathsPage { parts, next: next.or(Some(PathsPlace::Totals)) }
            }
            (ShardId(0), _) => PathsPage::default(),
            (ShardId(1), _) => {
                let mut readers = part("live/b");
                readers.readers.add_reader(Carrier::Tcp, 0.5);
                PathsPage { parts: vec![readers], next: None }
            }
            _ => return None,
        };
        page.parts.retain(is_wanted);
        sender.send(page).unwrap();
        Some(answer)
    }

    fn request_path_tables(&self) -> Vec<oneshot::Receiver<PathTallies>> {
        let (first, first_answer) = oneshot::channel();
        let (second, second_answer) = oneshot::channel();
        let mut table = PathTallies::default();
        table.enter(&"live/b".into());
        table.numbers_mut("live/b").totals.packets_received = 12;
        first.send(table).unwrap();
        drop(second);
        vec![first_answer, second_answer]
    }

    fn kick_path(&self, path: &str) -> Option<oneshot::Receiver<bool>> {
        let (answer, receiver) = oneshot::channel();
        // One is forgotten between the two questions.
        answer.send(path != "live/a").unwrap();
        self.ended.lock().unwrap().push(path.to_owned());
        Some(receiver)
    }

    fn ask_playlist(
        &self,
        path: &str,
        request: PlaylistRequest,
    ) -> Option<oneshot::Receiver<Result<PlaylistAnswer, PlaylistRefusal>>> {
        let (answer, receiver) = oneshot::channel();
        let mut schedule = self.schedule.lock().unwrap();
        let config = self.table.find(PLAYLIST);
        let item = match (path, request) {
            (PLAYLIST, PlaylistRequest::Show) => Ok(None),
            (PLAYLIST, PlaylistRequest::Edit(edit)) => {
                schedule.edit(&edit, 0).map(Some).map_err(Into::into)
            }
            ("live/a" | "live/b", _) => Err(PlaylistRefusal::NoPlaylist),
            _ => Err(PlaylistRefusal::UnknownPath),
        };
        let (info, configured) = (schedule.info(config), Arc::clone(&config.playlist));
        answer.send(item.map(|item| PlaylistAnswer { item, info, configured })).unwrap();
        Some(receiver)
    }

    fn keep_playlist(&self, path: &str, answer: &PlaylistAnswer) -> Result<bool, String> {
        assert_eq!(path, PLAYLIST);
        let items = &answer.info.items;
        if items.iter().any(|item| &*item.title == "full") {
            return Err("disk full".to_owned());
        }
        self.kept.lock().unwrap().push(format!("{} items", items.len()));
        Ok(true)
    }

    fn find_title(&self, name: &str) -> Result<(), String> {
        if name == "missing" { Err("no such file".to_owned()) } else { Ok(()) }
    }

    /// By the name of the path, whatever is asked of it.
    fn switch_path(
        &self,
        path: &str,
        request: SwitchRequest,
    ) -> Option<oneshot::Receiver<SwitchResult>> {
        let (answer, receiver) = oneshot::channel();
        let source = || "live/a~1".to_owned();
        let report = SwitchReport {
            path: path.to_owned(),
            from: Some("live/a~0".to_owned()),
            to: Some(source()),
            switched: true,
            gap_ms: Some(12),
            pinned: true,
            pinned_until: Some("another switch"),
        };
        self.ended.lock().unwrap().push(format!("{path} {request:?}"));
        let result = match path {
            "ok" => Ok(report),
            "plain" => Err(SwitchError::NoFallbacks),
            "source" => Err(SwitchError::NoSource { known: "publish (live/a~0)".to_owned() }),
            "idle" => Err(SwitchError::Idle),
            "down" => Err(SwitchError::Down { path: source(), reason: "401".to_owned() }),
            "soon" => Err(SwitchError::TooSoon { wait: Duration::from_millis(1_200) }),
            "late" => Err(SwitchError::NoKeyFrame { path: source() }),
            "twice" => Err(SwitchError::Superseded),
            "ended" => Err(SwitchError::Ended),
            "never" => return None,
            _ => Err(SwitchError::NoPath),
        };
        answer.send(result).unwrap();
        Some(receiver)
    }

    /// A session a page.
    fn request_sessions(
        &self,
        shard: ShardId,
        after: Option<SessionId>,
    ) -> Option<oneshot::Receiver<SessionsPage>> {
        if shard == GUEST && self.is_guest_silent {
            return Some(self.never());
        }
        let sessions = sessions_of(shard)?;
        self.asked.lock().unwrap().push(shard.0);
        let (sender, answer) = oneshot::channel();
        match (shard, self.second) {
            (ShardId(1), Shard::Gone) => drop(sender),
            (ShardId(1), Shard::Silent) => self.unanswered.lock().unwrap().push(Box::new(sender)),
            _ => {
                let id = |session: &SessionInfo| SessionId::parse(&session.id);
                let mut behind = sessions.into_iter().filter(|session| id(session) > after);
                let sessions: Vec<SessionInfo> = behind.next().into_iter().collect();
                let next = behind.next().and_then(|_| sessions.last().and_then(id));
                sender.send(SessionsPage { sessions, away: Vec::new(), next }).unwrap();
            }
        }
        Some(answer)
    }

    fn request_session(&self, id: SessionId) -> Option<oneshot::Receiver<Option<SessionInfo>>> {
        let sessions = sessions_of(id.shard())?;
        self.asked.lock().unwrap().push(id.shard().0);
        let (sender, answer) = oneshot::channel();
        match self.second {
            Shard::Gone if id.shard() == ShardId(1) => drop(sender),
            _ => {
                let id = id.to_string();
                sender.send(sessions.into_iter().find(|session| session.id == id)).unwrap();
            }
        }
        Some(answer)
    }

    fn end_session(&self, id: &str) -> Option<oneshot::Receiver<bool>> {
        let (sender, receiver) = oneshot::channel();
        let short = [id.get(1..2)?, id.get(2..3)?].concat();
        match short.as_str() {
            "0A" => sender.send(true).unwrap(),
            "0C" => sender.send(false).unwrap(),
            "1F" => drop(sender),
            _ => return None,
        }
        self.ended.lock().unwrap().push(short);
        Some(receiver)
    }

    fn send_events(
        &self,
        id: &str,
        request: EventsRequest,
    ) -> Option<oneshot::Receiver<EventsAnswer>> {
        let (sender, receiver) = oneshot::channel();
        let answer = match (id.get(1..3)?, request.key.as_deref()) {
            ("0B", _) => Err(EventsError::NoLineup),
            ("0A", Some("full")) => Err(EventsError::Full),
            ("0A", Some("other")) => Err(EventsError::OtherEvents),
            ("0A", _) => {
                let outcome = |input: Input| match input {
                    Input::Channel(number) => Outcome::Tuned(number),
                    Input::Last => Outcome::Refused(Refusal::NoLast),
                    Input::Seek(_) => Outcome::Refused(Refusal::OfTitles),
                    _ => Outcome::Paused,
                };
                let inputs = request.inputs.into_iter();
                let outcomes = inputs.map(|input| (input, outcome(input))).collect();
                Ok(EventsDone { outcomes, channel: 7 })
            }
            _ => return None,
        };
        sender.send(answer).unwrap();
        Some(receiver)
    }

    fn titles(&self, after: Option<&str>, limit: usize) -> io::Result<Vec<TitleEntry>> {
        if after == Some("gone") {
            return Err(io::ErrorKind::NotFound.into());
        }
        let names = ["a b.mp4", "c.mov", "d/e.mp4"];
        let behind = names.iter().filter(|name| after.is_none_or(|after| **name > after));
        let entry = |name: &&str| TitleEntry {
            name: (*name).to_owned(),
            bytes: 10,
            modified_utc_s: 0,
            url_path: format!("/vod/{}", name.replace(' ', "%20")),
            problem: (*name == "c.mov").then(|| "no moov box".into()),
        };
        Ok(behind.take(limit).map(entry).collect())
    }

    fn reload(&self) -> Result<Reload, ReloadError> {
        let (done, is_done) = oneshot::channel();
        match self.second {
            Shard::Answers => done.send(()).unwrap(),
            Shard::Gone => return Err(ReloadError::Refused("f:1:2: wrong".to_owned())),
            Shard::Silent => return Err(ReloadError::NoFile),
        }
        let added = vec!["live/a".to_owned()];
        let paths = PathChanges { added, ..PathChanges::default() };
        let needs_restart = vec!["rtsp.listen"];
        let report = ReloadReport { paths, needs_restart, warnings: Vec::new() };
        Ok(Reload { report, applied: vec![is_done] })
    }

    fn move_session(
        &self,
        id: SessionId,
        to: ShardId,
    ) -> Option<oneshot::Receiver<Result<ShardId, MoveRefusal>>> {
        self.order_move(id, to)
    }

    fn drain(&self, request: DrainRequest) -> Option<Vec<oneshot::Receiver<()>>> {
        self.order(Some(request))
    }

    fn undrain(&self) -> Option<Vec<oneshot::Receiver<()>>> {
        self.order(None)
    }

    fn drain_state(&self) -> DrainState {
        self.drain_ordered()
    }

    fn info(&self) -> Value {
        serde_json::json!({ "backend": "uring", "shards": 2 })
    }

    fn checks(&self) -> Value {
        serde_json::json!({ "checks": [{ "name": "kernel", "level": "ok", "found": "6.12" }] })
    }

    fn log_lines(&self) -> Vec<LogLine> {
        let line = |at_ms, text: &str| LogLine {
            at_ms,
            level: "warn",
            code: "HE-W401".to_owned(),
            text: text.to_owned(),
        };
        vec![line(1, "older"), line(2, "newer")]
    }

    fn is_ready(&self) -> bool {
        self.ready
    }
}

/// A server on a free port; ends with the value.
struct Running {
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(fake: &Arc<Fake>) -> Self {
        // No shard is worth waiting for when the test wants to see it silent.
        let patience = if fake.second == Shard::Silent || fake.is_guest_silent {
            Duration::ZERO
        } else {
            Duration::from_secs(60)
        };
        Self::start_with(fake, patience)
    }

    fn start_patient(fake: &Arc<Fake>) -> Self {
        Self::start_with(fake, Duration::from_secs(60))
    }

    fn start_with(fake: &Arc<Fake>, patience: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let api = Api::new(fake.clone(), patience).unwrap();
        let operators = Operators::new(super::operators::read_tokens(TOKENS).unwrap());
        let intake = Intake::of_admin(&LimitsConfig::default());
        let beside = std::future::ready(());
        let thread = spawn_api(listener, (api, operators), intake, stopped, beside).unwrap();
        Self { addr, stop, thread: Some(thread) }
    }

    /// A POST with a body.
    fn post(&self, target: &str, body: &str) -> Answer {
        let length = body.len();
        let line = format!("POST {target}\nContent-Length: {length}");
        self.request_with("test", &line, body)
    }

    fn request(&self, line: &str) -> Answer {
        self.request_as("test", line)
    }

    /// The server is called `host`.
    fn request_as(&self, host: &str, line: &str) -> Answer {
        self.request_with(host, line, "")
    }

    fn request_with(&self, host: &str, line: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        let (method, target) = line.split_once(' ').unwrap();
        // What stands behind a line of its own goes into the head.
        let (target, headers) = target.split_once('\n').unwrap_or((target, "Accept: */*"));
        write!(stream, "{method} {target} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n").unwrap();
        write!(stream, "Connection: close\r\n\r\n{body}").unwrap();
        Answer::read(&mut stream)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn read(stream: &mut TcpStream) -> Self {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn names(&self, list: &str, key: &str) -> Vec<String> {
        let json = self.json();
        let list = json[list].as_array().unwrap();
        list.iter().map(|entry| entry[key].as_str().unwrap().to_owned()).collect()
    }

    /// As short as `id` takes them.
    fn ids(&self) -> Vec<String> {
        self.names("sessions", "id").iter().map(|id| id[1..3].to_owned()).collect()
    }

    fn is_problem(&self, status: u16) -> bool {
        let json = self.json();
        self.status == status
            && self.head.contains("content-type: application/problem+json")
            && json["status"] == status
            && json["title"].is_string()
            && json["detail"].is_string()
    }
}

#[test]
fn health_is_about_the_process_and_readiness_about_players() {
    let ready = Running::start(&Fake::new(Shard::Answers, true));
    assert_eq!(ready.request("GET /healthz").status, 200);
    assert_eq!(ready.request("GET /readyz").status, 200);
    let stopping = Running::start(&Fake::new(Shard::Answers, false));
    assert_eq!(stopping.request("GET /healthz").status, 200);
    assert!(stopping.request("GET /readyz").is_problem(503));
}

#[test]
fn metrics_show_the_cells_as_they_are_now() {
    let fake = Fake::new(Shard::Answers, true);
    let server = Running::start(&fake);
    fake.cells[1].turns.add(41);
    let answer = server.request("GET /metrics");
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"));
    assert!(answer.body.contains("headend_shard_turns_total{shard=\"1\"} 41\n"));
    assert!(answer.body.contains("headend_ready 1\n"));
    let received = "headend_rtp_packets_received_total{path=\"live/b\"} 12\n";
    assert!(answer.body.contains(received), "a shard that is gone does not matter");
}

#[test]
fn sessions_of_all_shards_are_listed_by_id() {
    let server = Running::start(&Fake::new(Shard::Answers, true));
    let answer = server.request("GET /v1/sessions");
    assert_eq!(answer.ids(), ["0A", "0B", "0C", "1A"]);
    assert_eq!(answer.json()["next_cursor"], Value::Null);
    assert_eq!(answer.json()["sessions"][0]["npt_s"], 1.5);
}

#[test]
fn sessions_are_filtered_and_paged() {
    let server = Running::start(&Fake::new(Shard::Answers, true));
    let (first, lower) = (id("0A"), id("0B").to_ascii_lowercase());
    let cases: [(&str, &[&str]); 11] = [
        ("?path=demo", &["0A", "1A"]),
        ("?path=%2Fvod%2Fb.mp4", &["0B"]),
        ("?state=paused", &["0B"]),
        ("?state=playing&path=none", &[]),
        (&format!("?cursor={first}"), &["0B", "0C", "1A"]),
        (&format!("?cursor={lower}"), &["0C", "1A"]),
        ("?cursor=00B", &["0B", "0C", "1A"]),
        (&format!("?cursor={}", id("1A")), &[]),
        ("?role=publisher", &["0C"]),
        ("?state=recording&path=live/b", &["0C"]),
        ("?role=reader", &["0A", "0B", "1A"]),
    ];
    for (query, ids) in cases {
        let answer = server.request(&format!("GET /v1/sessions{query}"));
        assert_eq!(answer.ids(), ids, "{query}");
    }
    let page = server.request("GET /v1/sessions?limit=2");
    assert_eq!(page.ids(), ["0A", "0B"]);
    assert_eq!(page.json()["next_cursor"], id("0B"));
}

#[test]
fn only_shards_that_own_what_is_asked_for_are_asked() {
    let fake = Fake::new(Shard::Silent, true);
    let asked = || std::mem::take(&mut *fake.asked.lock().unwrap());
    let server = Running::start_patient(&fake);
    let get = |target: String| server.request(&format!("GET /v1/sessions{target}"));
    assert_eq!(get(format!("/{}", id("0B"))).status, 200);
    assert_eq!(asked(), [0]);
    assert_eq!(get("?limit=2".to_owned()).ids(), ["0A", "0B"]);
    assert_eq!(asked(), [0, 0, 0], "the page is full before the second shard");
    let fake = Fake::new(Shard::Answers, true);
    let server = Running::start(&fake);
    let target = format!("GET /v1/sessions?cursor={}", id("10"));
    assert_eq!(server.request(&target).ids(), ["1A"]);
    assert_eq!(*fake.asked.lock().unwrap(), [1]);
}

#[test]
fn wrong_queries_are_refused_with_400() {
    let server = Running::start(&Fake::new(Shard::Answers, true));
    for target in [
        "/v1/sessions?state=sleeping",
        "/v1/sessions?role=boss",
        "/v1/paths?limit=0",
        "/v1/sessions?limit=0",
        "/v1/sessions?limit=10001",
        "/v1/sessions?limit=-1",
        "/v1/sessions?sort=age",
        "/v1/vod?limit=1001",
        "/v1/vod?page=2",
    ] {
        assert!(server.request(&format!("GET {target}")).is_problem(400), "{target}");
    }
}

#[test]
fn one_session_is_found_by_its_id_in_any_case() {
    let server = Running::start(&Fake::new(Shard::Answers, true));
    let get = |id: &str| server.request(&format!("GET /v1/sessions/{id}"));
    assert_eq!(get(&id("1A").to_ascii_lowercase()).json()["path"], "/demo");
    for unknown in ["FF", &id("1B"), &id("7A"), "zz"] {
        assert!(get(unknown).is_problem(404), "{unknown}");
    }
    let server = Running::start(&Fake::new(Shard::Gone, true));
    assert!(server.request(&format!("GET /v1/sessions/{}", id("1A"))).is_problem(503));
}

#[test]
fn shard_that_is_gone_has_no_sessions_and_the_others_are_shown() {
    let server = Running::start(&Fake::new(Shard::Gone, true));
    assert_eq!(server.request("GET /v1/sessions").ids(), ["0A", "0B", "0C"]);
}

#[test]
fn shard_that_does_not_answer_is_a_503() {
    let server = Running::start(&Fake::new(Shard::Silent, true));
    let answer = server.request("GET /v1/sessions");
    assert!(answer.is_problem(503));
    assert!(answer.head.contains("retry-after: 1"));
}

/// Operators saw no list at all when the thread of HLS hung.
#[test]
fn lists_have_what_shards_know_when_the_thread_of_browsers_is_silent() {
    let fake = Arc::into_inner(Fake::new(Shard::Answers, true)).unwrap();
    let server = Running::start(&Arc::new(Fake { is_guest_silent: true, ..fake }));
    assert_eq!(server.request("GET /v1/sessions").ids(), ["0A", "0B", "0C", "1A"]);
    let paths = server.request("GET /v1/paths");
    assert_eq!((paths.status, paths.json()["paths"].as_array().unwrap().len()), (200, 3));
    assert_eq!(server.request("GET /v1/paths/live/b").status, 200);
}

#[test]
fn delete_ends_the_session_and_says_so() {
    let fake = Fake::new(Shard::Answers, true);
    let server = Running::start(&fake);
    let delete = |id: &str| server.request(&format!("DELETE /v1/sessions/{id}"));
    let answer = delete(&id("0A"));
    assert_eq!((answer.status, answer.json()["ended"].clone()), (200, Value::Bool(true)));
    assert!(delete(&id("0C")).is_problem(404), "unknown to its shard");
    assert!(delete("zz").is_problem(404), "not an id");
    assert!(delete(&id("1F")).is_problem(503), "its shard is gone");
    assert_eq!(*fake.ended.lock().unwrap(), ["0A", "0C", "1F"]);
}

#[test]
fn live_paths_are_paged_by_name() {
    let server = Running::start(&Fake::new(Shard::Answers, true));
    let first = server.request("GET /v1/paths?limit=1");
    assert_eq!(first.names("paths", "path"), ["live/a"]);
    assert_eq!(first.json()["next_cursor"], "live/a");
    let last = server.request("GET /v1/paths?limit=2&cursor=live/a");
    assert_eq!(last.names("paths", "path"), ["live/b", "live/c:d e"]);
    assert_eq!(last.json()["next_cursor"], Value::Null);
    assert_eq!(last.json()["paths"][0]["readers"]["tcp"], 1, "readers of another shard");
}

#[test]
fn live_path_is_found_by_its_name_however_its_slashes_are_written() {
    let server = Running::start(&Fake::new(Shard::Answers, true));
    for target in ["/v1/paths/live/b", "/v1/paths/live%2Fb", "/v1/paths/live//b/"] {
        let answer = server.request(&format!("GET {target}"));
        assert_eq!((answer.status, &answer.json()["path"]), (200, &"live/b".into()), "{target}");
        assert_eq!(answer.json()["readers"]["lag_s_max"], 0.5);
    }
    let answer = server.request("GET /v1/paths/live/c:d%20e");
    assert_eq!(answer.json()["path"], "live/c:d e");
    let missing = server.request("GET /v1/paths/live/none");
    assert!(missing.is_problem(404) && missing.body.contains("no path `live/none`"));
}

#[test]
fn kick_ends_the_path_and_shows_what_it_was() {
    let fake = Fake::new(Shard::Answers, true);
    let server = Running::start(&fake);
    let answer = server.request("POST /v1/paths/live/b:kick");
    let json = answer.json();
    assert_eq!((answer.status, &json["kicked"]), (200, &Value::Bool(true)));
    assert_eq!((&json["path"], &json["state"]), (&"live/b".into(), &"live".into()));
    let answer = server.request("POST /v1/paths/live%2Fc:d%20e:kick");
    assert_eq!(answer.json()["path"], "live/c:d e");
    assert!(server.request("POST /v1/paths/live/a:kick").is_problem(404), "forgotten meanwhile");
    assert!(server.request("POST /v1/paths/live/none:kick").is_problem(404));
    assert!(server.request("POST /v1/paths/live/b:stop").is_problem(404), "no such verb");
    assert!(server.request("POST /v1/paths/live/b").is_problem(404), "no verb");
    assert!(server.request("PUT /v1/paths/live/b").is_problem(405));
    assert_eq!(*fake.ended.lock().unwrap(), ["live/b", "live/c:d e", "live/a"]);
}

#[test]
fn reload_tells_what_changed_or_why_nothing_did() {
    let server = Running::start(&Fake::new(Shard::Answers, true));
    let answer = server.request("POST /v1/config:reload");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["added"][0], "live/a");
    assert_eq!(answer.json()["needs_restart"][0], "rtsp.listen");
    assert!(server.request("GET /v1/config:reload").is_problem(405));
    let refuses = Running::start(&Fake::new(Shard::Gone, true));
    let answer = refuses.request("POST /v1/config:reload");
    assert!(answer.is_problem(422) && answer.json()["detail"] == "f:1:2: wrong");
    let without = Running::start(&Fake::new(Shard::Silent, true));
    assert!(without.request("POST /v1/config:reload").is_problem(409));
}

#[test]
fn library_is_paged_by_name() {
    let server = Running::start(&Fake::new(Shard::Answers, true));
    let first = server.request("GET /v1/vod?limit=2");
    assert_eq!(first.names("titles", "url_path"), ["/vod/a%20b.mp4", "/vod/c.mov"]);
    assert_eq!(first.json()["titles"][1]["problem"], "no moov box");
    assert_eq!(first.json()["next_cursor"], "c.mov");
    let last = server.request("GET /v1/vod?limit=2&cursor=c.mov");
    assert_eq!(last.names("titles", "name"), ["d/e.mp4"]);
    assert_eq!(last.json()["next_cursor"], Value::Null);
    assert!(server.request("GET /v1/vod?cursor=gone").is_problem(503));
}

#[test]
fn unknown_resource_is_404_and_wrong_method_405_with_allow() {
    let server = Running::start(&Fake::new(Shard::Answers, true));
    assert!(server.request("GET /v2/sessions").is_problem(404));
    let answer = server.request("POST /v1/sessions/0A");
    assert!(answer.is_problem(405));
    assert!(answer.head.contains("allow: get,head,delete"), "{}", answer.head);
    assert_eq!(server.request("HEAD /v1/sessions").status, 200);
}

//! Sessions of line-ups without sockets: events in, answers out, whatever plays and however the
//! session ends.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use crate::base::ids::{SessionId, ShardId};
use crate::consumers::testing::{Client, Rig, Room, command, config, session_id};
use crate::library::testing;
use crate::library::title::Title;
use crate::lineup::event::{Input, Outcome as Became, Refusal};
use crate::lineup::requests::{EventsAnswer, EventsDone, EventsError, EventsRequest};
use crate::poll::task::{OpenFailure, Outcome, Task, TaskOwner, Work};
use crate::rtsp::request::Method;
use crate::rtsp::response::Response;
use crate::session::action::Action;
use crate::session::command::{Command, Led};

/// A shard that plays titles; windows are made at once, or kept back.
type Bench = Rig<Workers>;

struct Workers {
    keeps_tasks: bool,
}

impl Room for Workers {
    fn act(bench: &mut Bench, action: Action) -> Option<Action> {
        match action {
            Action::Submit(task) if !bench.keeps_tasks => bench.finish_task(&task),
            other => return Some(other),
        }
        None
    }
}

const TV: &str = "rtsp://host/tv";
const CONFIG: &str = "[path.tv]\nlineup = { 20 = \"live/b\", 101 = \"live/news\", \
    201 = \"vod/film.mp4\", 202 = \"vod/b.mp4\", 203 = \"vod/none.mp4\" }\nlineup_digit_timeout = \"1500ms\"\n";

impl Bench {
    fn new() -> Self {
        let mut bench = Self::around(Workers { keeps_tasks: false }, config());
        let loaded = crate::config::load(Some(("f", CONFIG)), [], &[]).unwrap();
        bench.sessions.live.configure_paths(&mut bench.sessions.cx, loaded.config.paths);
        bench
    }

    fn finish_task(&mut self, task: &Task) {
        let outcome = match &task.work {
            Work::Window { title, key } => {
                let window = testing::window(title, *key);
                window.mark_pages_seen(self.sessions.cx.now);
                Outcome::Window(Ok(window))
            }
            Work::Open { name } => Outcome::Opened(match name.as_deref() {
                Some("none.mp4") => Err(OpenFailure::NotFound),
                _ => Ok(testing::title(20)),
            }),
            other => panic!("{other:?}"),
        };
        match (task.owner, outcome) {
            (TaskOwner::Window(request), Outcome::Window(window)) => {
                self.sessions.vod.handle_window(&mut self.sessions.cx, request, window);
            }
            (TaskOwner::Tuning { number, stream }, outcome) => {
                self.sessions.handle_tuning_outcome((number, stream), outcome);
            }
            (owner, outcome) => panic!("{owner:?} {outcome:?}"),
        }
    }

    fn finish_tasks(&mut self) {
        for task in std::mem::take(&mut self.tasks) {
            self.finish_task(&task);
        }
        self.settle();
    }

    /// A request over a connection; the answer, when it has come.
    fn ask(
        &mut self,
        connection: u32,
        (method, uri): (Method, &str),
        session: Option<SessionId>,
        content: (&[(&str, &str)], &str),
    ) -> Option<Response> {
        self.send(client(connection), method, uri, session, content)
    }

    /// A session that begins with channel 201, the title, with both of its tracks.
    fn opened(&mut self, title: &Arc<Title>) -> SessionId {
        let headers = [("Transport", "RTP/AVP;unicast;client_port=5000-5001")];
        let uri = format!("{TV}/trackID=0");
        let setup = command(client(1), Method::Setup, &uri, None, (&headers, ""));
        let led = Led::ToChannel { lineup: "tv".into(), number: 201 };
        self.execute(Command { title: Some(Arc::clone(title)), led, ..setup });
        self.settle();
        let id = session_id(&self.answers.pop().unwrap().1);
        let headers = [("Transport", "RTP/AVP;unicast;client_port=5002-5003")];
        let uri = format!("{TV}/trackID=1");
        let second = self.ask(1, (Method::Setup, &uri), Some(id), (&headers, "")).unwrap();
        assert_eq!(second.status().code(), 200);
        id
    }

    fn playing(&mut self) -> SessionId {
        let title = testing::title(20);
        let id = self.opened(&title);
        let played = self.ask(1, (Method::Play, TV), Some(id), (&[], "")).unwrap();
        assert_eq!(played.status().code(), 200);
        let info = played.header_value("RTP-Info").unwrap();
        assert!(info.starts_with("url=rtsp://host/tv/trackID=0;"), "{info}");
        id
    }

    /// SET_PARAMETER; the answer as status and body.
    fn set(&mut self, id: SessionId, body: &str) -> Option<String> {
        self.ask(1, (Method::SetParameter, TV), Some(id), (&[], body)).map(|answer| shown(&answer))
    }

    fn get(&mut self, id: SessionId, body: &str) -> String {
        shown(&self.ask(1, (Method::GetParameter, TV), Some(id), (&[], body)).unwrap())
    }

    /// An operator's events; the answer comes by the receiver.
    fn post(
        &mut self,
        id: SessionId,
        inputs: &[Input],
        key: Option<&str>,
    ) -> mpsc::Receiver<EventsAnswer> {
        let (sender, receiver) = mpsc::channel();
        let request = EventsRequest { inputs: inputs.to_vec(), key: key.map(str::to_owned) };
        let reply = Box::new(move |answer| sender.send(answer).unwrap());
        self.sessions.handle_events(id, request, reply);
        self.settle();
        receiver
    }

    /// Nothing of a session that has ended is left.
    fn assert_empty(&mut self) {
        self.settle();
        assert!(self.sessions.cx.directory.is_empty());
        assert!(self.sessions.lineups.is_empty(), "{:?}", self.sessions.lineups);
        assert_eq!(self.sessions.cx.wheel.count(), 0);
    }
}

fn client(connection: u32) -> Client {
    let peer = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 40_000));
    Client { shard: ShardId(0), connection, peer }
}

fn shown(answer: &Response) -> String {
    let mut bytes = Vec::new();
    answer.write_to(i64::MAX, &mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    let body = text.split_once("\r\n\r\n").unwrap().1.replace("\r\n", "|");
    format!("{} {body}", answer.status().code())
}

fn outcomes(done: &EventsDone) -> Vec<String> {
    done.outcomes.iter().map(|(_, outcome)| outcome.to_string()).collect()
}

#[test]
fn keys_of_a_title_act_on_it_and_are_answered_when_they_have() {
    let mut bench = Bench::new();
    let id = bench.playing();
    assert_eq!(
        bench.get(id, "channel\r\ntitle\r\nstate\r\nscale"),
        "200 channel: 201|title: vod/film.mp4|state: playing|scale: 1.000|"
    );
    assert_eq!(bench.set(id, "key: pause").unwrap(), "200 outcome: paused|");
    assert_eq!(bench.get(id, "state"), "200 state: paused|");
    assert_eq!(
        bench.set(id, "key: play\r\nkey: forward").unwrap(),
        "200 outcome: playing|outcome: playing at 4x|"
    );
    assert_eq!(bench.get(id, "state\r\nscale"), "200 state: playing|scale: 4.000|");
    assert_eq!(bench.set(id, "seek: 5").unwrap(), "200 outcome: playing from 5.000|");
    let position = bench.get(id, "position");
    assert!(
        position.starts_with("200 position: 4.") || position.starts_with("200 position: 5."),
        "at the sync sample: {position}"
    );
    assert_eq!(bench.get(id, "volume\r\nchannel"), "451 volume|");
    let paused = bench.ask(1, (Method::Pause, TV), Some(id), (&[], "")).unwrap();
    assert!(paused.header_value("Range").is_some(), "{paused:?}");
}

#[test]
fn key_waits_for_the_one_before_it_and_the_answer_for_the_key() {
    let mut bench = Bench::new();
    let id = bench.playing();
    bench.keeps_tasks = true;
    assert_eq!(bench.set(id, "seek: 12"), None, "its windows are not here");
    let paused = bench.post(id, &[Input::Pause, Input::Digit(2)], None);
    assert!(paused.try_recv().is_err());
    bench.finish_tasks();
    assert_eq!(bench.answers.pop().map(|(_, answer)| answer.status().code()), Some(200));
    let done = paused.try_recv().unwrap().unwrap();
    assert_eq!((outcomes(&done), done.channel), (vec!["paused".into(), "digits 2".into()], 201));
}

#[test]
fn digits_are_forgotten_after_the_timeout_of_the_configuration() {
    let mut bench = Bench::new();
    let id = bench.playing();
    assert_eq!(bench.set(id, "key: 9").unwrap(), "200 outcome: digits 9|");
    bench.run_for(Duration::from_millis(1_400));
    assert_eq!(bench.set(id, "key: 9").unwrap(), "200 outcome: digits 99|");
    bench.run_for(Duration::from_millis(1_600));
    assert_eq!(bench.set(id, "key: 2").unwrap(), "200 outcome: digits 2|", "there is no 99");
    assert_eq!(bench.set(id, "key: 0").unwrap(), "200 outcome: digits 20|");
    assert_eq!(bench.set(id, "key: 1").unwrap(), "200 outcome: tuned to 201|", "it plays already");
}

#[test]
fn bad_parameters_are_named_and_nothing_is_done() {
    let mut bench = Bench::new();
    let id = bench.playing();
    for (body, answer) in [
        (
            "volume: 3\r\nkey: pause",
            "451 volume: 3|reason: no such parameter; there are key, channel and seek|",
        ),
        ("channel: 999", "404 channel: 999|reason: no channel 999|"),
        ("channel: one", "400 channel: one|reason: no channel number: 1 to 999|"),
        ("key: last", "404 key: last|reason: there was no other channel before|"),
        ("", "200 "),
    ] {
        assert_eq!(bench.set(id, body).unwrap(), answer);
    }
    assert!(bench.set(id, "key: menu").unwrap().starts_with("400 key: menu|reason: no such key"));
    assert_eq!(bench.get(id, "state"), "200 state: playing|");
    let elsewhere = bench.ask(
        1,
        (Method::SetParameter, "rtsp://host/vod/film.mp4"),
        Some(id),
        (&[], "key: up"),
    );
    assert_eq!(elsewhere.unwrap().status().code(), 404, "one session is one presentation");
}

#[test]
fn events_beyond_the_bound_are_refused_and_those_before_are_not_lost() {
    let mut bench = Bench::new();
    let id = bench.playing();
    bench.keeps_tasks = true;
    assert_eq!(bench.set(id, "seek: 12"), None);
    let keys = [Input::Pause; 31];
    let taken = bench.post(id, &keys, None);
    assert_eq!(bench.post(id, &[Input::Up], None).try_recv(), Ok(Err(EventsError::Full)));
    let full = bench.ask(2, (Method::SetParameter, TV), Some(id), (&[], "key: up")).unwrap();
    assert_eq!((full.status().code(), full.header_value("Retry-After")), (453, Some("1")));
    bench.finish_tasks();
    assert_eq!(taken.try_recv().unwrap().unwrap().outcomes.len(), 31);
    assert!(bench.post(id, &[Input::Play], None).try_recv().unwrap().is_ok());
}

#[test]
fn repeat_of_an_idempotency_key_gets_the_first_answer_and_does_nothing() {
    let mut bench = Bench::new();
    let id = bench.playing();
    let forward = [Input::Forward];
    let first = bench.post(id, &forward, Some("a")).try_recv().unwrap().unwrap();
    assert_eq!(bench.post(id, &forward, Some("a")).try_recv(), Ok(Ok(first)));
    assert_eq!(bench.get(id, "scale"), "200 scale: 4.000|", "once");
    let other = bench.post(id, &[Input::Rewind], Some("a")).try_recv();
    assert_eq!(other, Ok(Err(EventsError::OtherEvents)));
    bench.keeps_tasks = true;
    let seek = [Input::Seek(crate::base::time::Npt(12_000_000_000))];
    let (begun, joined) = (bench.post(id, &seek, Some("b")), bench.post(id, &seek, Some("b")));
    assert!(begun.try_recv().is_err() && joined.try_recv().is_err());
    bench.finish_tasks();
    assert_eq!(begun.try_recv().unwrap(), joined.try_recv().unwrap());
}

#[test]
fn operators_are_told_of_sessions_and_channels_that_are_none() {
    let mut bench = Bench::new();
    let id = bench.playing();
    let unknown = bench.post(id, &[Input::Pause, Input::Channel(7)], None).try_recv();
    assert_eq!(unknown, Ok(Err(EventsError::NoChannel(7))));
    let nobody = bench.post(SessionId::new(ShardId(0), 9 << 8), &[Input::Up], None).try_recv();
    assert_eq!(nobody, Ok(Err(EventsError::NoSession)));
    let headers = [("Transport", "RTP/AVP;unicast;client_port=5004-5005")];
    let uri = "rtsp://host/vod/film.mp4/trackID=0";
    let setup = command(client(3), Method::Setup, uri, None, (&headers, ""));
    bench.execute(Command { title: Some(testing::title(20)), ..setup });
    let plain = session_id(&bench.answers.pop().unwrap().1);
    let plain = bench.post(plain, &[Input::Up], None).try_recv();
    assert_eq!(plain, Ok(Err(EventsError::NoLineup)));
    let info = bench.sessions.session_info(id).unwrap();
    let channel = info.channel.unwrap();
    assert_eq!((&*info.path, channel.number), ("tv", 201));
    assert_eq!(channel.source.as_deref(), Some("vod/film.mp4"));
}

#[test]
fn session_that_ends_in_any_way_leaves_nothing_and_answers_everyone() {
    let ends: [fn(&mut Bench, SessionId); 3] = [
        |bench, id| assert!(bench.sessions.end_session(id, "test")),
        |bench, id| {
            let torn = bench.ask(1, (Method::Teardown, TV), Some(id), (&[], ""));
            assert!(torn.is_none(), "held behind the seek");
            bench.finish_tasks();
        },
        |bench, _| bench.run_for(Duration::from_secs(70)),
    ];
    for end in ends {
        let mut bench = Bench::new();
        let id = bench.playing();
        bench.keeps_tasks = true;
        assert_eq!(bench.set(id, "seek: 12"), None);
        let waits = bench.post(id, &[Input::Digit(2), Input::Digit(0)], Some("a"));
        end(&mut bench, id);
        bench.settle();
        let done = waits.try_recv().unwrap().unwrap();
        let ended = Became::Refused(Refusal::Ended);
        let is_told = done.outcomes.iter().all(|(_, outcome)| *outcome == ended)
            || outcomes(&done) == ["digits 2", "digits 20"];
        assert!(is_told, "{done:?}");
        let answers = bench.answers.iter().filter(|(connection, _)| *connection == 1).count();
        assert!(answers >= 1, "the seek is answered");
        bench.assert_empty();
    }
}

#[test]
fn setup_of_another_path_in_the_session_and_describe_are_refused_as_in_any_session() {
    let mut bench = Bench::new();
    let id = bench.playing();
    let headers = [("Transport", "RTP/AVP;unicast;client_port=5004-5005")];
    for (uri, status) in
        [("rtsp://host/vod/film.mp4/trackID=0", 459), ("rtsp://host/tv/trackID=0", 455)]
    {
        let answer = bench.ask(1, (Method::Setup, uri), Some(id), (&headers, "")).unwrap();
        assert_eq!(answer.status().code(), status, "{uri}");
    }
    let track = format!("{TV}/trackID=0");
    let one = bench.ask(1, (Method::Play, &track), Some(id), (&[], "")).unwrap();
    assert_eq!(one.status().code(), 460, "only the whole is played");
    let star = bench.ask(1, (Method::Pause, "*"), Some(id), (&[], "")).unwrap();
    assert_eq!(star.status().code(), 200);
}

#[test]
fn digits_tune_to_another_title_and_back_to_where_the_first_was_left() {
    let mut bench = Bench::new();
    let id = bench.playing();
    assert_eq!(bench.set(id, "seek: 5").unwrap(), "200 outcome: playing from 5.000|");
    assert_eq!(
        bench.set(id, "key: 2\r\nkey: 0\r\nkey: 2").unwrap(),
        "200 outcome: digits 2|outcome: digits 20|outcome: tuned to 202|"
    );
    assert_eq!(
        bench.get(id, "channel\r\ntitle\r\nstate"),
        "200 channel: 202|title: vod/b.mp4|state: playing|"
    );
    assert_eq!(bench.set(id, "key: last").unwrap(), "200 outcome: tuned to 201|");
    let position = bench.get(id, "position");
    assert!(
        ["4.", "5."].iter().any(|at| position.contains(&format!("position: {at}"))),
        "{position}"
    );
    let paused = bench.ask(1, (Method::Pause, TV), Some(id), (&[], "")).unwrap();
    assert_eq!(paused.status().code(), 200);
    let played = bench.ask(1, (Method::Play, TV), Some(id), (&[], "")).unwrap();
    let info = played.header_value("RTP-Info").unwrap();
    assert!(info.starts_with("url=rtsp://host/tv/trackID=0;"), "as the client spells it: {info}");
    let mut page = Default::default();
    bench.sessions.lineups.show_viewers(&bench.sessions.cx, None, &mut page);
    assert_eq!(page.parts[0].channels, [(201, 1)].into());
}

#[test]
fn keys_pressed_while_a_channel_is_tuned_to_act_behind_it() {
    let mut bench = Bench::new();
    let id = bench.playing();
    bench.keeps_tasks = true;
    let tuned = bench.post(id, &[Input::Channel(202)], None);
    let paused = bench.post(id, &[Input::Pause], None);
    assert_eq!(bench.get(id, "channel\r\nstate"), "200 channel: 201|state: tuning|");
    assert!(tuned.try_recv().is_err() && paused.try_recv().is_err());
    for _ in 0..3 {
        bench.finish_tasks();
    }
    let tuned = tuned.try_recv().unwrap().unwrap();
    assert_eq!((outcomes(&tuned), tuned.channel), (vec!["tuned to 202".into()], 202));
    assert_eq!(outcomes(&paused.try_recv().unwrap().unwrap()), ["paused"]);
    assert_eq!(bench.get(id, "channel\r\nstate"), "200 channel: 202|state: paused|");
}

#[test]
fn channel_that_cannot_be_had_is_refused_with_the_reason_and_the_old_one_plays_on() {
    let mut bench = Bench::new();
    let id = bench.playing();
    let refused = bench.set(id, "channel: 203").unwrap();
    assert!(
        refused.starts_with("404 channel: 203|reason: channel 203 is not there: "),
        "{refused}"
    );
    assert_eq!(bench.get(id, "channel\r\nstate"), "200 channel: 201|state: playing|");
    assert_eq!(bench.set(id, "key: down"), None, "the owner of the path is asked");
    bench.run_for(Duration::from_secs(12));
    let refused = shown(&bench.answers.pop().unwrap().1);
    let gone = "404 key: down|reason: channel 101 is not there: ";
    let late = "504 key: down|reason: channel 101 did not start in time|";
    assert!(refused.starts_with(gone) || refused == late, "{refused}");
    assert_eq!(bench.set(id, "key: up").unwrap(), "200 outcome: tuned to 202|");
}

#[test]
fn session_that_ends_while_it_is_tuned_answers_everyone() {
    let mut bench = Bench::new();
    let id = bench.playing();
    bench.keeps_tasks = true;
    let tuned = bench.post(id, &[Input::Channel(202), Input::Up], None);
    assert!(bench.sessions.end_session(id, "test"));
    bench.settle();
    let done = tuned.try_recv().unwrap().unwrap();
    assert!(done.outcomes.iter().all(|(_, of)| *of == Became::Refused(Refusal::Ended)));
    bench.run_for(Duration::from_secs(1));
    bench.assert_empty();
}

#[test]
fn interleaved_session_whose_connection_closes_while_it_seeks_leaves_nothing() {
    let mut bench = Bench::new();
    let headers = [("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1")];
    let setup = command(client(1), Method::Setup, &format!("{TV}/trackID=0"), None, (&headers, ""));
    let led = Led::ToChannel { lineup: "tv".into(), number: 201 };
    bench.execute(Command { title: Some(testing::title(20)), led, ..setup });
    let id = session_id(&bench.answers.pop().unwrap().1);
    bench.keeps_tasks = true;
    assert!(bench.ask(1, (Method::Play, TV), Some(id), (&[], "")).is_none());
    let waits = bench.post(id, &[Input::Pause], None);
    bench.sessions.handle_connection_closed(crate::consumers::testing::entry(1));
    bench.settle();
    assert!(waits.try_recv().unwrap().is_ok_and(|done| outcomes(&done)[0].contains("ended")));
    bench.finish_tasks();
    bench.assert_empty();
}

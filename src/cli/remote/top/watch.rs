//! Threads that ask the server: one reads the feed, one asks for lists, one has things done.
//!
//! A server that does not know the token is not asked again: that would only slow the address down.
//! Bounds: `NEWS_MAX` answers wait, and one list, beside the one that is asked for. `ACTS_MAX`
//! actions wait, and one more is refused aloud. A line of the feed has `LINE_BYTES_MAX`; a feed
//! that is silent for `SILENCE` is dead.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::super::urls::encode_path;
use super::super::super::{Exit, Failure, printable};
use super::super::client::{Answer, Client};
use super::super::{path, session, table};

/// What the screen wants of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// Sessions, with a word.
    Sessions(String),
    /// Live paths, with a word.
    Paths(String),
    /// Warnings of the log.
    Warnings,
    /// A session's end.
    KickSession(String),
    /// The end of a path's source and readers.
    KickPath(String),
    /// Another source of a path.
    Switch {
        /// Name of the path.
        path: String,
        /// Path of the source, or `auto`.
        to: String,
        /// `keyframe` or `now`.
        at: &'static str,
    },
    /// Another channel for a session.
    Tune {
        /// Id of the session.
        session: String,
        /// Number of the channel.
        channel: u16,
    },
    /// The configuration, read again.
    Reload,
}

/// What the server says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum News {
    /// Samples of the last minutes, oldest first.
    History(Vec<Value>),
    /// The newest sample.
    Sample(Value),
    /// The feed broke off, and why.
    Lost(String),
    /// Rows of a list, and whether there are more.
    Rows(Ask, Vec<Value>, bool),
    /// What became of an action, or why a list cannot be had.
    Told(String),
    /// The server does not know the token, or wants one.
    Denied(String),
}

/// The threads. They end with the process, which waits for actions by `finish`.
#[derive(Debug)]
pub(super) struct Watch {
    news: Receiver<News>,
    lists: SyncSender<Ask>,
    acts: SyncSender<Ask>,
    /// Closed by the thread of actions when it ends.
    acts_end: Receiver<()>,
}

impl Watch {
    pub(super) fn start(client: Arc<Client>) -> Result<Self, Failure> {
        let (tell, news) = sync_channel(NEWS_MAX);
        let (lists, lists_asked) = sync_channel(1);
        let (acts, acts_asked) = sync_channel(ACTS_MAX);
        let (is_there, acts_end) = sync_channel(1);
        for (name, asked, is_there) in
            [("lists", lists_asked, None), ("acts", acts_asked, Some(is_there))]
        {
            let (client, tell) = (Arc::clone(&client), tell.clone());
            Builder::new().name(name.into()).spawn(move || {
                serve(&client, asked, &tell);
                drop(is_there);
            })?;
        }
        Builder::new().name("feed".into()).spawn(move || follow(&client, &tell))?;
        Ok(Self { news, lists, acts, acts_end })
    }

    pub(super) fn next(&self) -> Option<News> {
        self.news.try_recv().ok()
    }

    /// Asks for a list, unless one is waited for.
    pub(super) fn list(&self, ask: Ask) {
        let _one_is_under_way = self.lists.try_send(ask);
    }

    /// Has something done. False: it is not, because too much is under way.
    pub(super) fn act(&self, ask: Ask) -> bool {
        self.acts.try_send(ask).is_ok()
    }

    /// Waits until the server has answered all actions. False: it has not in time.
    pub(super) fn finish(self) -> bool {
        let Self { news, acts, acts_end, .. } = self;
        drop(acts);
        let until = Instant::now() + FINISH_MAX;
        while Instant::now() < until {
            match acts_end.recv_timeout(FINISH_STEP) {
                Err(RecvTimeoutError::Disconnected) | Ok(()) => return true,
                // Who tells what became of it must not wait for a reader.
                Err(RecvTimeoutError::Timeout) => while news.try_recv().is_ok() {},
            }
        }
        false
    }
}

/// What runs there.
pub(super) fn info(client: &Client) -> Result<Value, Failure> {
    match client.get("/v1/info")? {
        Answer::Found(info) => Ok(info),
        Answer::Missing(why) => Err(Failure::runtime(why)),
    }
}

/// Asks what it is told to, one after the other.
fn serve(client: &Client, asked: Receiver<Ask>, tell: &SyncSender<News>) {
    for ask in asked {
        let news = match answer(client, ask) {
            News::Told(why) if client.is_denied() => News::Denied(why),
            news => news,
        };
        let is_denied = matches!(news, News::Denied(_));
        if tell.send(news).is_err() || is_denied {
            return;
        }
    }
}

/// Reads the feed, again and again.
fn follow(client: &Client, tell: &SyncSender<News>) {
    loop {
        let why = match read_feed(client, SILENCE, &mut |news| tell.send(news).is_ok()) {
            Ok(()) => "the server ended the feed".to_owned(),
            Err(failure) => failure.message,
        };
        if client.is_denied() {
            let _nobody_looks = tell.send(News::Denied(why));
            return;
        }
        if tell.send(News::Lost(why)).is_err() {
            return;
        }
        thread::park_timeout(AGAIN);
    }
}

/// Reads one feed to its end, or until `tell` has enough.
///
/// # Errors
/// The server cannot be reached, or refuses, or says nothing for `silence`.
pub(super) fn read_feed(
    client: &Client,
    silence: Duration,
    tell: &mut dyn FnMut(News) -> bool,
) -> Result<(), Failure> {
    let lost = |error: std::io::Error| Failure {
        exit: Exit::Unreachable,
        message: format!("the feed broke off: {error}"),
    };
    let mut lines = BufReader::new(client.stream("/v1/feed", silence)?);
    let mut kind = String::new();
    loop {
        let mut line = Vec::new();
        let bytes =
            lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(lost)?;
        if bytes == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        if let Some(name) = line.strip_prefix("event: ") {
            name.clone_into(&mut kind);
        }
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let Ok(data) = serde_json::from_str::<Value>(data) else { continue };
        let news = match (kind.as_str(), data) {
            ("history", Value::Array(samples)) => News::History(samples),
            ("sample", sample) => News::Sample(sample),
            _ => continue,
        };
        if !tell(news) {
            return Ok(());
        }
    }
}

fn answer(client: &Client, ask: Ask) -> News {
    let (url, key) = match &ask {
        Ask::Sessions(word) => (list("/v1/sessions", word), "sessions"),
        Ask::Paths(word) => (list("/v1/paths", word) + "&max_age_s=2", "paths"),
        Ask::Warnings => ("/v1/log".to_owned(), "lines"),
        Ask::KickSession(id) => {
            return told(client.delete(&session::url(id)), |_| format!("session {id} is ended"));
        }
        Ask::KickPath(name) => {
            let done = client.post(&format!("{}:kick", path::url(name)));
            return told(done, |_| format!("path {name} is ended"));
        }
        Ask::Switch { path: name, to, at } => {
            let url = format!("{}:switch", path::url(name));
            let done = client.post_json(&url, &[], &json!({ "to": to, "at": at }));
            return told(done, |done| match done["to"].as_str() {
                Some(to) => format!("path {name} is fed from {}", printable(to)),
                None => format!("path {name}: none of its sources sends"),
            });
        }
        Ask::Tune { session, channel } => {
            let url = format!("{}/events", session::url(session));
            let done = client.post_json(&url, &[], &json!({ "channel": channel }));
            return told(done, |done| {
                format!("session {session} plays channel {}", table::count(&done["channel"]))
            });
        }
        Ask::Reload => {
            return told(client.post("/v1/config:reload"), |_| {
                "the configuration was read again".to_owned()
            });
        }
    };
    match client.get(&url) {
        Ok(Answer::Found(mut page)) => {
            let has_more = page["next_cursor"].is_string();
            let rows = match page[key].take() {
                Value::Array(rows) => rows,
                _ => Vec::new(),
            };
            News::Rows(ask, rows, has_more)
        }
        Ok(Answer::Missing(why)) => News::Told(why),
        Err(failure) => News::Told(failure.message),
    }
}

fn list(url: &str, word: &str) -> String {
    format!("{url}?limit={}&q={}", super::screen::ROWS_MAX, encode_path(word))
}

fn told(done: Result<Answer, Failure>, what: impl FnOnce(&Value) -> String) -> News {
    News::Told(match done {
        Ok(Answer::Found(done)) => what(&done),
        Ok(Answer::Missing(why)) => why,
        Err(failure) => failure.message,
    })
}

/// Some minutes of samples, for a terminal that hangs.
const NEWS_MAX: usize = 256;
/// Each is confirmed by a key, and takes milliseconds unless something hangs.
const ACTS_MAX: usize = 16;
/// One action takes milliseconds, or the patience of a request.
const FINISH_MAX: Duration = Duration::from_secs(30);
const FINISH_STEP: Duration = Duration::from_millis(20);
/// Samples come once a second.
pub(super) const SILENCE: Duration = Duration::from_secs(5);
/// Until a feed that broke off is read again.
const AGAIN: Duration = Duration::from_secs(2);
/// The history of a server with a hundred shards is 400 kB.
const LINE_BYTES_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    use crate::agent::testing::{Scripted, serve as serve_script};

    #[test]
    fn feed_is_read_event_by_event_until_its_end_or_until_it_is_enough() {
        let text = "event: history\ndata: [{\"at_ms\":1}]\n\n: a comment\nevent: other\ndata: 1\n\n\
                    event: sample\ndata: no JSON\n\nevent: sample\ndata: {\"at_ms\":2}\n\n";
        let (addr, thread) =
            serve_script(vec![Scripted::new("200 OK", text), Scripted::new("200 OK", text)]);
        let client = Client::new(addr, None).unwrap();
        let mut heard = Vec::new();
        read_feed(&client, SILENCE, &mut |news| {
            heard.push(news);
            true
        })
        .unwrap();
        let sample = |at_ms: i64| serde_json::json!({ "at_ms": at_ms });
        assert_eq!(heard, [News::History(vec![sample(1)]), News::Sample(sample(2))]);
        let mut count = 0;
        read_feed(&client, SILENCE, &mut |_| {
            count += 1;
            false
        })
        .unwrap();
        assert_eq!(count, 1);
        assert!(thread.join().unwrap()[0].starts_with("GET /v1/feed "));
    }

    /// It was shown as live for as long as its connection stood.
    #[test]
    fn feed_that_is_silent_is_dead_though_its_connection_stands() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::new(listener.local_addr().unwrap(), None).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
            write!(stream, "{head}event: history\ndata: []\n\n").unwrap();
            stream
        });
        let mut heard = Vec::new();
        let lost = read_feed(&client, Duration::from_millis(200), &mut |news| {
            heard.push(news);
            true
        });
        assert_eq!(heard, [News::History(Vec::new())]);
        let lost = lost.unwrap_err();
        assert!(lost.message.contains("broke off"), "{lost}");
        assert_eq!(lost.exit, Exit::Unreachable);
        drop(server.join().unwrap());
    }

    #[test]
    fn server_that_does_not_know_the_token_is_not_asked_again() {
        let denied =
            || Scripted::new("401 Unauthorized", r#"{"detail":"this token is not known"}"#);
        let (addr, asked) = serve_script(vec![denied()]);
        let client = Client::new(addr, None).unwrap();
        let (tell, news) = sync_channel(4);
        follow(&client, &tell);
        drop(tell);
        let told: Vec<News> = news.iter().collect();
        let [News::Denied(why)] = &told[..] else { panic!("{told:?}") };
        assert!(why.contains("not known"), "{why}");
        assert_eq!(asked.join().unwrap().len(), 1);

        let (addr, asked) = serve_script(vec![denied()]);
        let client = Client::new(addr, None).unwrap();
        let ((ask, to_ask), (tell, news)) = (sync_channel(4), sync_channel(4));
        (0..3).for_each(|_| ask.send(Ask::Warnings).unwrap());
        serve(&client, to_ask, &tell);
        assert!(matches!(news.try_recv(), Ok(News::Denied(_))));
        assert_eq!(asked.join().unwrap().len(), 1);
    }

    #[test]
    fn source_is_switched_and_session_tuned_as_the_page_does_it() {
        let (addr, thread) = serve_script(vec![
            Scripted::new("200 OK", r#"{"to":"live/b"}"#),
            Scripted::new("200 OK", r#"{"channel":7}"#),
        ]);
        let client = Client::new(addr, None).unwrap();
        let switch =
            Ask::Switch { path: "live/a".to_owned(), to: "auto".to_owned(), at: "keyframe" };
        let told = answer(&client, switch);
        assert_eq!(told, News::Told("path live/a is fed from live/b".to_owned()));
        let told = answer(&client, Ask::Tune { session: "A".to_owned(), channel: 7 });
        assert_eq!(told, News::Told("session A plays channel 7".to_owned()));
        let asked = thread.join().unwrap();
        assert!(asked[0].starts_with("POST /v1/paths/live/a:switch "), "{asked:?}");
        assert!(asked[1].starts_with("POST /v1/sessions/A/events "), "{asked:?}");
    }

    #[test]
    fn list_is_asked_for_by_its_word_and_a_refusal_is_told() {
        let (addr, thread) = serve_script(vec![
            Scripted::new("200 OK", r#"{"sessions":[{"id":"A"}],"next_cursor":"A"}"#),
            Scripted::new("403 Forbidden", r#"{"detail":"this token may only read"}"#),
        ]);
        let client = Client::new(addr, None).unwrap();
        let ask = Ask::Sessions("a b&c".to_owned());
        let News::Rows(of, rows, has_more) = answer(&client, ask.clone()) else { panic!("rows") };
        assert_eq!((of, rows.len(), has_more), (ask, 1, true));
        let News::Told(why) = answer(&client, Ask::KickSession("A".to_owned())) else {
            panic!("told")
        };
        assert!(why.contains("may only read"), "{why}");
        let asked = thread.join().unwrap();
        assert!(asked[0].contains("q=a%20b%26c"), "{asked:?}");
        assert!(asked[1].starts_with("DELETE /v1/sessions/A "), "{asked:?}");
    }
}

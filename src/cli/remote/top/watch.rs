//! Threads that ask the server: one reads the feed, one asks for lists and has things done.
//!
//! Bounds: `NEWS_MAX` answers and `ASKS_MAX` questions wait; a question that finds no place is not
//! asked, because the one before is not answered yet. A line of the feed has `LINE_BYTES_MAX`.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Builder};
use std::time::Duration;

use serde_json::Value;

use super::super::super::urls::encode_path;
use super::super::super::{Exit, Failure};
use super::super::client::{Answer, Client};
use super::super::{path, session};

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
}

/// The threads. They end with the process.
#[derive(Debug)]
pub(super) struct Watch {
    news: Receiver<News>,
    asks: SyncSender<Ask>,
}

impl Watch {
    pub(super) fn start(client: Arc<Client>) -> Result<Self, Failure> {
        let (tell, news) = sync_channel(NEWS_MAX);
        let (asks, asked) = sync_channel(ASKS_MAX);
        let (of_feed, of_lists) = (Arc::clone(&client), tell.clone());
        Builder::new().name("feed".into()).spawn(move || follow(&of_feed, &tell))?;
        Builder::new().name("lists".into()).spawn(move || {
            for ask in asked {
                if of_lists.send(answer(&client, ask)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { news, asks })
    }

    pub(super) fn next(&self) -> Option<News> {
        self.news.try_recv().ok()
    }

    pub(super) fn ask(&self, ask: Ask) {
        let _one_is_under_way = self.asks.try_send(ask);
    }
}

/// What runs there.
pub(super) fn info(client: &Client) -> Result<Value, Failure> {
    match client.get("/v1/info")? {
        Answer::Found(info) => Ok(info),
        Answer::Missing(why) => Err(Failure::runtime(why)),
    }
}

/// Reads the feed, again and again.
fn follow(client: &Client, tell: &SyncSender<News>) {
    loop {
        let why = match read_feed(client, &mut |news| tell.send(news).is_ok()) {
            Ok(()) => "the server ended the feed".to_owned(),
            Err(failure) => failure.message,
        };
        if tell.send(News::Lost(why)).is_err() {
            return;
        }
        thread::park_timeout(AGAIN);
    }
}

/// Reads one feed to its end, or until `tell` has enough.
///
/// # Errors
/// The server cannot be reached, or refuses.
pub(super) fn read_feed(
    client: &Client,
    tell: &mut dyn FnMut(News) -> bool,
) -> Result<(), Failure> {
    let lost = |error: std::io::Error| Failure {
        exit: Exit::Unreachable,
        message: format!("the feed broke off: {error}"),
    };
    let mut lines = BufReader::new(client.stream("/v1/feed")?);
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
            return told(client.delete(&session::url(id)), &format!("session {id} is ended"));
        }
        Ask::KickPath(name) => {
            let done = client.post(&format!("{}:kick", path::url(name)));
            return told(done, &format!("path {name} is ended"));
        }
        Ask::Reload => {
            return told(client.post("/v1/config:reload"), "the configuration was read again");
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

fn told(done: Result<Answer, Failure>, what: &str) -> News {
    News::Told(match done {
        Ok(Answer::Found(_)) => what.to_owned(),
        Ok(Answer::Missing(why)) => why,
        Err(failure) => failure.message,
    })
}

/// Some minutes of samples, for a terminal that hangs.
const NEWS_MAX: usize = 256;
/// The list that is shown, and an action.
const ASKS_MAX: usize = 4;
/// Until a feed that broke off is read again.
const AGAIN: Duration = Duration::from_secs(2);
/// The history of a server with a hundred shards is 400 kB.
const LINE_BYTES_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::{Scripted, serve};

    #[test]
    fn feed_is_read_event_by_event_until_its_end_or_until_it_is_enough() {
        let text = "event: history\ndata: [{\"at_ms\":1}]\n\n: a comment\nevent: other\ndata: 1\n\n\
                    event: sample\ndata: no JSON\n\nevent: sample\ndata: {\"at_ms\":2}\n\n";
        let (addr, thread) =
            serve(vec![Scripted::new("200 OK", text), Scripted::new("200 OK", text)]);
        let client = Client::new(addr, None).unwrap();
        let mut heard = Vec::new();
        read_feed(&client, &mut |news| {
            heard.push(news);
            true
        })
        .unwrap();
        let sample = |at_ms: i64| serde_json::json!({ "at_ms": at_ms });
        assert_eq!(heard, [News::History(vec![sample(1)]), News::Sample(sample(2))]);
        let mut count = 0;
        read_feed(&client, &mut |_| {
            count += 1;
            false
        })
        .unwrap();
        assert_eq!(count, 1);
        assert!(thread.join().unwrap()[0].starts_with("GET /v1/feed "));
    }

    #[test]
    fn list_is_asked_for_by_its_word_and_a_refusal_is_told() {
        let (addr, thread) = serve(vec![
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

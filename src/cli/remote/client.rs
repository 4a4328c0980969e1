//! The HTTP API of a running server, as verbs ask it.
//!
//! Bounds: `ANSWER_BYTES_MAX` of an answer, `PAGES_MAX` pages of a list, `PATIENCE` for each; of an
//! answer that goes on, the silence that the caller bears.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body, RequestBuilder};

use super::super::urls::{encode_path, inward};
use super::super::{Exit, Failure, printable};
use crate::base::secret::Secret;

/// A client of a running server's HTTP API.
#[derive(Debug)]
pub(super) struct Client {
    server: SocketAddr,
    agent: Agent,
    /// What a server on another machine wants to see.
    token: Option<Secret>,
    /// The server has answered with 401.
    is_denied: AtomicBool,
}

/// What the server says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// It was done, or found.
    Found(Value),
    /// There is no such thing (404); the server's sentence.
    Missing(String),
}

impl Client {
    /// Asks nothing yet.
    pub(super) fn new(listener: SocketAddr, token: Option<Secret>) -> Result<Self, Failure> {
        let server = inward(listener);
        if server.port() == 0 {
            return Err(Failure::usage(
                "the configuration leaves the API's port open; say where it is: --admin IP:PORT",
            ));
        }
        let config = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .max_redirects(0)
            // The server is near: a proxy of the environment is for other things.
            .proxy(None)
            .build();
        let is_token = |token: &Secret| token.expose().bytes().all(|b| b.is_ascii_graphic());
        if !token.as_ref().is_none_or(is_token) {
            return Err(Failure::usage("the token has characters that no token has"));
        }
        let is_denied = AtomicBool::new(false);
        Ok(Self { server, agent: config.into(), token, is_denied })
    }

    /// `path` begins with a slash and is encoded.
    pub(super) fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.read(self.shown(self.agent.get(self.url(path))).call())
    }

    /// Whether the server does not know the token, or wants one: to ask again is of no use, and
    /// slows down the address.
    pub(super) fn is_denied(&self) -> bool {
        self.is_denied.load(Ordering::Relaxed)
    }

    /// A GET whose answer goes on for as long as it is read. Reads fail when nothing has come for
    /// `silence`: a server that hangs closes no connection.
    pub(super) fn stream(
        &self,
        path: &str,
        silence: Duration,
    ) -> Result<impl std::io::Read + use<>, Failure> {
        let request = self.shown(self.agent.get(self.url(path)));
        let request = request.config().timeout_global(None).timeout_connect(Some(PATIENCE));
        let request = request.timeout_per_read(Some(silence)).build();
        let answer = request.call().map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() {
            return Ok(answer.into_body().into_reader());
        }
        match self.read(Ok(answer))? {
            Answer::Missing(why) => Err(Failure::runtime(why)),
            Answer::Found(_) => Err(Failure::runtime("the server has no feed")),
        }
    }

    /// A POST without a body.
    pub(super) fn post(&self, path: &str) -> Result<Answer, Failure> {
        self.read(self.shown(self.agent.post(self.url(path))).send_empty())
    }

    /// A POST of JSON, with headers.
    pub(super) fn post_json(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Answer, Failure> {
        let request = self.shown(self.agent.post(self.url(path))).content_type("application/json");
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.read(request.send(body.to_string()))
    }

    /// A DELETE.
    pub(super) fn delete(&self, path: &str) -> Result<Answer, Failure> {
        self.read(self.shown(self.agent.delete(self.url(path))).call())
    }

    /// All pages of a list. `query` is empty or ends with `&`.
    pub(super) fn list(&self, path: &str, query: &str, key: &str) -> Result<Vec<Value>, Failure> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        for _ in 0..PAGES_MAX {
            let page = match self.get(&format!("{path}?{query}{cursor}"))? {
                Answer::Found(page) => page,
                Answer::Missing(why) => return Err(Failure::runtime(why)),
            };
            all.extend(page[key].as_array().into_iter().flatten().cloned());
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("cursor={}", encode_path(next));
        }
        Ok(all)
    }

    /// A request with the token, if there is one.
    fn shown<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {}", token.expose())),
            None => request,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server)
    }

    fn read(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Answer, Failure> {
        let mut answer = answer.map_err(|error| self.unreachable(&error))?;
        let status = answer.status().as_u16();
        if status == 401 {
            self.is_denied.store(true, Ordering::Relaxed);
        }
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let body = body.map_err(|error| self.unreachable(&error))?;
        let value: Value = serde_json::from_str(&body).map_err(|_| {
            let server = self.server;
            Failure::runtime(format!("{server} does not answer as headend does (HTTP {status})"))
        })?;
        let detail = || printable(value["detail"].as_str().unwrap_or("it does not say why"));
        match status {
            200..300 => Ok(Answer::Found(value)),
            404 => Ok(Answer::Missing(detail())),
            _ => Err(Failure::runtime(format!("the server refuses: {}", detail()))),
        }
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let server = self.server;
        let message = format!(
            "no answer from the API at {server}: {error}; is headend running, and is this its \
             admin address (--admin IP:PORT)?"
        );
        Failure { exit: Exit::Unreachable, message }
    }
}

/// A shard that is stuck is a 503 after a second, and events that wait for a source after twenty.
const PATIENCE: Duration = Duration::from_secs(25);
/// A page of ten thousand sessions is about 10 MB.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// More than shards times what each can hold.
const PAGES_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;
    use crate::agent::testing::{Scripted, serve};

    /// A server that gives these answers, a connection each, and returns the first lines of the
    /// questions.
    fn server(answers: &[(&'static str, &'static str)]) -> (Client, JoinHandle<Vec<String>>) {
        let answers = answers.iter().map(|(status, body)| Scripted::new(status, body));
        let (addr, thread) = serve(answers.collect());
        (Client::new(addr, None).unwrap(), thread)
    }

    #[test]
    fn pages_are_put_together_and_cursors_are_encoded() {
        let (client, thread) = server(&[
            ("200 OK", r#"{"paths":[1,2],"next_cursor":"live/a b&c"}"#),
            ("200 OK", r#"{"paths":[3],"next_cursor":null}"#),
        ]);
        assert_eq!(
            client.list("/v1/paths", "x=1&", "paths"),
            Ok(vec![1.into(), 2.into(), 3.into()])
        );
        let asked = thread.join().unwrap();
        assert_eq!(asked[0], "GET /v1/paths?x=1& HTTP/1.1");
        assert_eq!(asked[1], "GET /v1/paths?x=1&cursor=live/a%20b%26c HTTP/1.1");
    }

    #[test]
    fn missing_is_told_from_refused_and_both_from_what_is_no_api() {
        let (client, thread) = server(&[
            ("404 Not Found", r#"{"detail":"no path"}"#),
            ("503 Service Unavailable", r#"{"detail":"later\u0007"}"#),
            ("200 OK", "<html>"),
        ]);
        assert_eq!(client.post("/x"), Ok(Answer::Missing("no path".to_owned())));
        let refused = client.delete("/x").unwrap_err();
        assert_eq!(
            (refused.exit, refused.message.as_str()),
            (Exit::Runtime, "the server refuses: later?")
        );
        assert!(client.get("/x").unwrap_err().message.contains("does not answer as headend does"));
        thread.join().unwrap();
    }

    #[test]
    fn server_that_is_not_there_is_unreachable_and_one_without_a_port_is_a_usage_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::new(listener.local_addr().unwrap(), None).unwrap();
        drop(listener);
        let failure = client.get("/v1/paths").unwrap_err();
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.message.contains("--admin"), "{failure}");
        let failure = Client::new("127.0.0.1:0".parse().unwrap(), None).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        let wildcard = Client::new("[::]:9997".parse().unwrap(), None).unwrap();
        assert_eq!(wildcard.url("/"), "http://127.0.0.1:9997/");
    }
}

//! A base of distribution as a child, a client of its API, and a node that follows a script.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use headend::dist::ids::{CommandKey, Incarnation, NodeName};
use headend::dist::keys::{NodeKeys, sign_receipt};
use headend::dist::wire::agent::{
    GivenCertificate, Hello, HelloBody, NodeOrder, Receipt, Report, Reports, ReportsTaken,
    WelcomeBody,
};
use headend::pki::credentials::{Credentials, node_credentials, node_request};
use headend::pki::tls;
use headend::pki::trust::Trust;
use reqwest::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::process::{Kept, wait_for};
use super::wait::{Deadline, PATIENCE};

/// A running base.
#[derive(Debug)]
pub(crate) struct Base {
    child: Kept,
    /// Where it answers.
    pub(crate) addr: SocketAddr,
    /// What it printed until it was ready.
    pub(crate) banner: String,
    data: PathBuf,
    is_secure: bool,
}

impl Base {
    /// Starts on a free port, without TLS, and waits until it is ready.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// The same with more words.
    pub(crate) fn start_with(data: &Path, words: &[&str]) -> Self {
        Self::run(data, &[words, &["--insecure", "--listen", "127.0.0.1:0"]].concat())
    }

    /// With TLS.
    pub(crate) fn start_secure(data: &Path, words: &[&str]) -> Self {
        Self::run(data, &[words, &["--listen", "127.0.0.1:0"]].concat())
    }

    /// With TLS, at this address.
    pub(crate) fn start_secure_at(data: &Path, addr: SocketAddr, words: &[&str]) -> Self {
        Self::run(data, &[words, &["--listen", &addr.to_string()]].concat())
    }

    fn run(data: &Path, words: &[&str]) -> Self {
        let log = File::options().create(true).append(true).open(data.with_extension("log"));
        let mut command = Command::new(super::server::binary());
        command.args(["base", "--data"]).arg(data).args(words);
        command.stdout(Stdio::piped()).stderr(log.unwrap());
        let mut child = Kept::start(&mut command);
        let mut banner = String::new();
        let mut lines = BufReader::new(child.0.stdout.take().unwrap());
        // Ends with the process.
        while !banner.ends_with("ready\n") {
            let read = lines.read_line(&mut banner).unwrap();
            let log = || std::fs::read_to_string(data.with_extension("log"));
            assert!(read > 0, "the base has ended:\n{banner}{}", log().unwrap());
        }
        let line = banner.lines().find(|line| line.starts_with("base ")).unwrap();
        let is_secure = line.contains("https://");
        let addr = line.split("://").nth(1).unwrap().trim_end_matches('/').parse().unwrap();
        Self { child, addr, banner, data: data.to_owned(), is_secure }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        self.child.kill();
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(&mut self) -> Option<ExitStatus> {
        kill_process(Pid::from_child(&self.child.0), Signal::TERM).unwrap();
        wait_for(&mut self.child.0, PATIENCE)
    }

    /// Stops it where it is, as a machine that hangs.
    pub(crate) fn pause(&self) {
        kill_process(Pid::from_child(&self.child.0), Signal::STOP).unwrap();
    }

    /// Has it go on.
    pub(crate) fn wake(&self) {
        kill_process(Pid::from_child(&self.child.0), Signal::CONT).unwrap();
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.data.with_extension("log")).unwrap()
    }

    /// The token by which nodes join.
    pub(crate) fn join_token(&self) -> String {
        self.token("join.token")
    }

    /// A client with the provider's token.
    pub(crate) fn client(&self) -> Client {
        self.client_with(&self.token("provider.token"))
    }

    /// A client with the token by which nodes join.
    pub(crate) fn joining(&self) -> Client {
        self.client_with(&self.join_token())
    }

    /// A client with this token.
    pub(crate) fn client_with(&self, token: &str) -> Client {
        let ca = self.data.join("ca.pem");
        Client::new(self.addr, token.to_owned(), self.is_secure.then_some(&ca))
    }

    /// A token as the base has made it, with the fingerprint of its CA where there is TLS.
    pub(crate) fn token(&self, name: &str) -> String {
        std::fs::read_to_string(self.data.join(name)).unwrap().trim().to_owned()
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Where it answers.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", if self.is_secure { "https" } else { "http" }, self.addr)
    }
}

/// Connections of plain HTTP. reqwest wants settings of TLS all the same.
pub(crate) fn plain_http() -> reqwest::Client {
    let nobody = tls::client(&Trust::Roots(Vec::new()), None).unwrap();
    let http = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(nobody);
    http.build().unwrap()
}

/// Someone who shows a token.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    trust: Trust,
    url: String,
    token: String,
}

impl Client {
    /// With the certificate of a CA: with TLS.
    pub(crate) fn new(addr: SocketAddr, token: String, ca: Option<&PathBuf>) -> Self {
        let pem = ca.map(|file| std::fs::read_to_string(file).unwrap());
        let trust = pem.map_or(Trust::Roots(Vec::new()), |pem| Trust::from_pem(&pem).unwrap());
        let config = tls::client(&trust, None).unwrap();
        let http = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(config);
        let scheme = if ca.is_some() { "https" } else { "http" };
        Self { http: http.build().unwrap(), trust, url: format!("{scheme}://{addr}"), token }
    }

    /// The token that is shown.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// GET of a URL by a connection of its own that believes the same CA; names of hosts with their
    /// addresses.
    pub(crate) async fn request_at(
        &self,
        url: &str,
        hosts: &[(String, SocketAddr)],
    ) -> Result<reqwest::Response, reqwest::Error> {
        let config = tls::client(&self.trust, None).unwrap();
        let http = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(config);
        let http = hosts.iter().fold(http, |http, (host, addr)| http.resolve(host, *addr));
        let http = http.build().unwrap();
        http.get(url).bearer_auth(&self.token).timeout(PATIENCE).send().await
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.url.starts_with("https:")
    }

    /// The same place by other connections.
    pub(crate) fn over(&self, http: reqwest::Client) -> Self {
        Self { http, ..self.clone() }
    }

    /// The same place with another token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// A request, not sent yet.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        request.bearer_auth(&self.token).timeout(PATIENCE)
    }

    /// A request that shows no token.
    pub(crate) fn bare(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.get(format!("{}{path}", self.url)).timeout(PATIENCE)
    }

    /// Status and JSON of a GET.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.try_get(path).await.unwrap()
    }

    /// The same of a base that may just be closing its connections.
    pub(crate) async fn try_get(&self, path: &str) -> Result<(u16, Value), reqwest::Error> {
        read(self.request(Method::GET, path)).await
    }

    /// JSON of a GET that succeeds.
    pub(crate) async fn found(&self, path: &str) -> Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }

    /// Status and JSON of a POST.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.try_post(path, body).await.unwrap()
    }

    /// The same; an error when the base is gone.
    pub(crate) async fn try_post(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<(u16, Value), reqwest::Error> {
        read(self.request(Method::POST, path).json(body)).await
    }

    /// The first event of a job that is wanted, waited for by long polls.
    pub(crate) async fn event(&self, job: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Deadline::after(PATIENCE);
        let (mut after, mut seen) = (0, Vec::new());
        while !deadline.has_passed() {
            let wait = deadline.left().as_secs().max(1);
            let path = format!("/v1/jobs/{job}/events?after={after}&wait={wait}");
            let page = self.found(&path).await;
            for event in page["events"].as_array().unwrap() {
                if wanted(event) {
                    return event.clone();
                }
                seen.push(format!("{} {} {}", event["kind"], event["node"], event["command"]));
            }
            after = page["next"].as_u64().unwrap();
        }
        panic!("the event did not come: {seen:#?}");
    }

    /// All entries of a list, page by page.
    pub(crate) async fn all(&self, path: &str, name: &str) -> Vec<Value> {
        let mut entries = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.found(&format!("{path}?limit=100{after}")).await;
            entries.extend(page[name].as_array().unwrap().iter().cloned());
            let Some(next) = page["next_cursor"].as_str() else { return entries };
            after = format!("&after={next}");
        }
    }
}

/// Status and JSON of a request.
pub(crate) async fn read(request: reqwest::RequestBuilder) -> Result<(u16, Value), reqwest::Error> {
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    let text = answer.text().await?;
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok((status, body))
}

/// A node without bytes: it takes every command and, unless it is lazy, reports it as done, with a
/// signed receipt.
#[derive(Debug)]
pub(crate) struct ScriptedNode {
    keys: NodeKeys,
    name: NodeName,
    /// Where it says that peers reach it.
    pub(crate) addr: String,
    /// Bytes per second that it says it can send.
    pub(crate) up_rate_cap: Option<u64>,
    /// It never does what it takes.
    pub(crate) is_lazy: bool,
    token: Option<String>,
    /// The certificate that the base gave, where there is TLS.
    pub(crate) given: Option<GivenCertificate>,
    /// Connections that show it.
    certified: Option<reqwest::Client>,
    incarnation: Incarnation,
    /// Reports that the base has not taken, and the number of the first.
    waiting: Vec<Report>,
    first: u64,
    receipts: BTreeMap<CommandKey, Receipt>,
    /// Commands whose receipts the base has taken.
    pub(crate) taken: Vec<CommandKey>,
}

impl ScriptedNode {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            keys: NodeKeys::from_bytes(blake3::hash(name.as_bytes()).as_bytes()),
            name: NodeName::new(name).unwrap(),
            addr: "0.0.0.0:9".to_owned(),
            up_rate_cap: None,
            is_lazy: false,
            token: None,
            given: None,
            certified: None,
            incarnation: Incarnation(1),
            waiting: Vec::new(),
            first: 1,
            receipts: BTreeMap::new(),
            taken: Vec::new(),
        }
    }

    /// What it says first.
    pub(crate) fn hello(&self) -> Hello {
        Hello {
            node: self.name.clone(),
            incarnation: self.incarnation,
            public_key: self.keys.verify_key().to_string(),
            addr: self.addr.clone(),
            labels: BTreeMap::new(),
            up_rate_cap: self.up_rate_cap,
            down_rate_cap: None,
            free_bytes: 1 << 40,
            utc_ns: 0,
            rtsp: None,
            takes_capability: true,
        }
    }

    /// Says hello; `joining` shows the join token.
    pub(crate) async fn join(&mut self, joining: &Client) -> Result<(), reqwest::Error> {
        let shown = match &self.token {
            Some(token) => joining.with_token(token),
            None => joining.clone(),
        };
        let request = joining.is_secure().then(|| node_request(&self.keys).unwrap());
        let hello = HelloBody { hello: self.hello(), certificate_request: request };
        let hello = serde_json::to_value(hello).unwrap();
        let (status, body) = shown.try_post("/agent/v1/hello", &hello).await?;
        assert_eq!(status, 200, "{body}");
        let WelcomeBody { welcome, certificate } = serde_json::from_value(body).unwrap();
        self.token = welcome.node_token.or_else(|| self.token.take());
        self.certified = certificate.as_ref().map(|given| self.certified(given, &[]));
        self.given = certificate;
        Ok(())
    }

    /// A request for a certificate.
    pub(crate) fn request(&self) -> String {
        node_request(&self.keys).unwrap()
    }

    /// New connections that show a certificate, and believe its CA; names of hosts with their
    /// addresses.
    pub(crate) fn certified(
        &self,
        given: &GivenCertificate,
        hosts: &[(String, SocketAddr)],
    ) -> reqwest::Client {
        let shown = Arc::<Credentials>::default();
        shown.replace(node_credentials(&self.keys, &given.certificate).unwrap());
        let trust = Trust::from_pem(&given.authority).unwrap();
        let config = tls::client(&trust, Some(shown)).unwrap();
        let client = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(config);
        let client = hosts.iter().fold(client, |client, (host, addr)| client.resolve(host, *addr));
        client.build().unwrap()
    }

    /// What the node asks its base by, once it has joined.
    pub(crate) fn own(&self, joining: &Client) -> Client {
        let client = joining.with_token(self.token.as_ref().unwrap());
        self.certified.clone().map_or_else(|| client.clone(), |http| client.over(http))
    }

    /// Waits for an order that says where a content is: its id, and the capability of its last
    /// source.
    pub(crate) async fn source(&mut self, joining: &Client) -> (String, String) {
        self.join(joining).await.unwrap();
        let client = self.own(joining);
        let mut orders = client.request(Method::GET, "/agent/v1/orders").send().await.unwrap();
        let mut text = String::new();
        // Ends with the time limit of the request.
        while let Some(bytes) = orders.chunk().await.unwrap() {
            text.push_str(std::str::from_utf8(&bytes).unwrap());
            let whole = text.lines().filter_map(|line| serde_json::from_str(line).ok());
            for order in whole {
                if let NodeOrder::Sources { content, sources, .. } = order {
                    let source = sources.last().unwrap();
                    return (content.to_string(), source.capability.clone());
                }
            }
        }
        panic!("no order names a source: {text}");
    }

    /// Takes orders and reports until the base is gone; `told` is called when reports were taken.
    pub(crate) async fn follow(
        &mut self,
        joining: &Client,
        mut told: impl FnMut(usize),
    ) -> Result<(), reqwest::Error> {
        self.join(joining).await?;
        let client = self.own(joining);
        self.report(&client, &mut told).await?;
        let orders = client.request(Method::GET, "/agent/v1/orders");
        let mut orders = orders.timeout(Duration::from_secs(3_600)).send().await?;
        assert_eq!(orders.status(), StatusCode::OK);
        let mut text = Vec::new();
        while let Some(bytes) = orders.chunk().await? {
            text.extend_from_slice(&bytes);
            let Some(end) = text.iter().rposition(|byte| *byte == b'\n') else { continue };
            for line in text.drain(..=end).collect::<Vec<_>>().split(|byte| *byte == b'\n') {
                if !line.is_empty() {
                    self.obey(serde_json::from_slice(line).unwrap());
                }
            }
            // Of an idle line it is a sign of life.
            self.report(&client, &mut told).await?;
        }
        Ok(())
    }

    fn obey(&mut self, order: NodeOrder) {
        if let NodeOrder::Query { query } = order {
            return self.waiting.push(Report::Answer { query, open: 0, commands: Vec::new() });
        }
        if let NodeOrder::Probe { number, .. } = order {
            return self.waiting.push(Report::Probed { number, fault: None });
        }
        let NodeOrder::Command { key, op, .. } = order else { return };
        let is_waiting = self
            .waiting
            .iter()
            .any(|report| matches!(report, Report::Received { key: known } if *known == key));
        if is_waiting {
            return;
        }
        if self.is_lazy {
            return self.waiting.push(Report::Received { key });
        }
        let receipt = self.receipts.entry(key).or_insert_with(|| Receipt {
            node: self.name.clone(),
            key,
            path: op.path().unwrap_or_default().to_owned(),
            size: 0,
            blake3: None,
            attrs: None,
            finished_at_ns: 1,
            via: BTreeMap::new(),
            live: None,
        });
        let receipt = sign_receipt(&self.keys, receipt);
        self.waiting.extend([Report::Received { key }, Report::Completed { receipt }]);
    }

    async fn report(
        &mut self,
        client: &Client,
        told: &mut impl FnMut(usize),
    ) -> Result<(), reqwest::Error> {
        let reports = Reports {
            node: self.name.clone(),
            incarnation: self.incarnation,
            first: self.first,
            reports: self.waiting.clone(),
            free_bytes: 1 << 40,
            up_rate_seen: 0,
            down_rate_seen: 0,
            relays: Default::default(),
        };
        let body = serde_json::to_value(&reports).unwrap();
        let (status, body) = client.try_post("/agent/v1/reports", &body).await?;
        assert_eq!(status, 200, "{body}");
        let ReportsTaken { taken, .. } = serde_json::from_value(body).unwrap();
        while self.first <= taken && !self.waiting.is_empty() {
            if let Report::Completed { receipt } = self.waiting.remove(0) {
                let receipt: Receipt = serde_json::from_str(&receipt.receipt).unwrap();
                self.taken.push(receipt.key);
            }
            self.first += 1;
        }
        told(self.taken.len());
        Ok(())
    }
}

//! A base calls back clients that have left: signed, in order, again after failures and crashes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::base::{chain, reason};
use crate::support::base::{Base, Client, ScriptedNode};
use crate::support::process::run_command;
use crate::support::scratch;
use crate::support::server::binary;
use crate::support::wait::PATIENCE;

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A receiver on loopback that answers as it is told.
pub(crate) struct Receiver {
    pub(crate) addr: SocketAddr,
    /// Answers to the next requests; 204 when there are no more.
    answers: Arc<Mutex<Vec<u16>>>,
    came: Arc<Mutex<Vec<Came>>>,
    count: watch::Receiver<usize>,
}

/// A notification, and its answer.
#[derive(Debug, Clone)]
pub(crate) struct Came {
    pub(crate) id: String,
    timestamp: String,
    signature: Option<String>,
    content_type: String,
    body: String,
    pub(crate) status: u16,
}

impl Came {
    pub(crate) fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn seq(&self) -> u64 {
        self.event()["data"]["seq"].as_u64().unwrap()
    }

    fn kind(&self) -> String {
        self.event()["type"].as_str().unwrap().to_owned()
    }
}

impl Receiver {
    pub(crate) async fn start(answers: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let answers = Arc::new(Mutex::new(answers.to_vec()));
        let came = Arc::<Mutex<Vec<Came>>>::default();
        let (told, count) = watch::channel(0);
        let (script, kept) = (Arc::clone(&answers), Arc::clone(&came));
        let told = Arc::new(told);
        let take = move |headers: HeaderMap, body: Bytes| {
            let text =
                |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            let mut script = script.lock().unwrap();
            let status = if script.is_empty() { 204 } else { script.remove(0) };
            let mut kept = kept.lock().unwrap();
            kept.push(Came {
                id: text("webhook-id").unwrap(),
                timestamp: text("webhook-timestamp").unwrap(),
                signature: text("webhook-signature"),
                content_type: text("content-type").unwrap(),
                body: String::from_utf8(body.to_vec()).unwrap(),
                status,
            });
            told.send_replace(kept.len());
            std::future::ready(StatusCode::from_u16(status).unwrap())
        };
        let router = Router::new().route("/in", post(take));
        // Ends with the runtime of the test.
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { addr, answers, came, count }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/in?token=hidden-word", self.addr)
    }

    /// Answers from now on.
    pub(crate) fn answer(&self, answers: &[u16]) {
        *self.answers.lock().unwrap() = answers.to_vec();
    }

    /// All that has come once it is enough.
    pub(crate) async fn until(&self, is_enough: impl Fn(&[Came]) -> bool) -> Vec<Came> {
        let mut count = self.count.clone();
        let enough = count.wait_for(|_| is_enough(&self.came.lock().unwrap()));
        let is_there = timeout(PATIENCE, enough).await.is_ok();
        let came = self.came.lock().unwrap().clone();
        assert!(is_there, "{came:#?}");
        came
    }

    /// All that has come once this kind was taken.
    pub(crate) async fn until_taken(&self, kind: &str) -> Vec<Came> {
        let kind = format!("headend.{kind}");
        self.until(|came| came.iter().any(|one| one.status == 204 && one.kind() == kind)).await
    }
}

/// HMAC-SHA256 as RFC 2104 has it, by another hand than that of the product.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let pad = |byte: u8| {
        let mut block = [byte; 64];
        block.iter_mut().zip(key).for_each(|(pad, key)| *pad ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

/// Signatures verify; an id has one body; first times come in the order of the events.
pub(crate) fn assert_sound(came: &[Came]) {
    let key = STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
    let (mut bodies, mut last) = (BTreeMap::new(), String::new());
    for one in came {
        let signed = format!("{}.{}.{}", one.id, one.timestamp, one.body);
        let expected = format!("v1,{}", STANDARD.encode(hmac(&key, signed.as_bytes())));
        assert_eq!(one.signature.as_ref(), Some(&expected), "{one:?}");
        assert_eq!(one.content_type, "application/cloudevents+json; charset=utf-8");
        let event = one.event();
        assert_eq!(event["specversion"], "1.0");
        let sequence = event["sequence"].as_str().unwrap().to_owned();
        let first = bodies.entry(one.id.clone()).or_insert_with(|| one.body.clone());
        assert_eq!(*first, one.body, "one id, two bodies");
        assert!(sequence >= last, "{sequence} came behind {last}");
        last = sequence;
    }
}

fn taken(came: &[Came]) -> BTreeSet<u64> {
    came.iter().filter(|one| one.status == 204).map(Came::seq).collect()
}

/// A base whose notifications may go to loopback, and are tried again at once.
fn start(data: &Path) -> Base {
    Base::start_with(data, &["--webhook-allow", "127.0.0.0/8", "--webhook-retry", "50ms"])
}

/// A job of which a receiver is told all.
pub(crate) async fn job(client: &Client, url: &str) -> String {
    let topics = ["receipt", "completion", "failure", "end"];
    let notify = json!([{"url": url, "secret": SECRET, "events": topics}]);
    let request = json!({"targets": "all", "client_ref": "news", "notify": notify});
    let (status, job) = client.post("/v1/jobs", &request).await;
    assert_eq!(status, 201, "{job}");
    job["job_id"].as_str().unwrap().to_owned()
}

/// Numbers of the events of a job that a receiver is to be told.
async fn wanted(client: &Client, job: &str) -> BTreeSet<u64> {
    const KINDS: [&str; 4] =
        ["delivery.received", "delivery.completed", "command.completed", "job.completed"];
    let page = client.found(&format!("/v1/jobs/{job}/events?limit=1000")).await;
    let events = page["events"].as_array().unwrap().iter();
    let wanted = events.filter(|event| KINDS.contains(&event["kind"].as_str().unwrap()));
    wanted.map(|event| event["seq"].as_u64().unwrap()).collect()
}

/// The only notification of a job.
async fn notification(client: &Client, job: &str) -> Value {
    client.found(&format!("/v1/jobs/{job}/notifications")).await["notifications"][0].clone()
}

#[tokio::test]
async fn notifications_are_signed_and_come_again_in_order_after_failures() {
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    let base = start(&dir.path().join("data"));
    let (client, joining) = (base.client(), base.joining());
    let receiver = Receiver::start(&[500, 302, 503]).await;
    let mut node = ScriptedNode::new("edge-1");
    node.join(&joining).await.unwrap();
    let job = job(&client, &receiver.url()).await;
    for _ in 0..2 {
        client.post(&format!("/v1/jobs/{job}/commands"), &json!({"op": "query"})).await;
    }
    let following = tokio::spawn(async move { node.follow(&joining, |_| ()).await });
    client.post(&format!("/v1/jobs/{job}/end"), &json!({})).await;
    let came = receiver.until_taken("job.completed").await;
    assert_sound(&came);
    assert_eq!(taken(&came), wanted(&client, &job).await);
    let statuses: Vec<u16> = came.iter().map(|one| one.status).take(4).collect();
    assert_eq!(statuses, [500, 302, 503, 204]);
    assert!(came[..4].iter().all(|one| one.id == came[0].id), "{came:#?}");
    let end = came.last().unwrap().event();
    assert_eq!((&end["data"]["client_ref"], &end["subject"]), (&json!("news"), &json!("job")));
    assert_eq!(end["data"]["detail"]["completed"], 2);

    client.event(&job, |event| event["kind"] == "webhook.delivered").await;
    let shown = notification(&client, &job).await;
    assert_eq!((&shown["pending"], &shown["attempts"]), (&json!(0), &json!(0)), "{shown}");
    assert_eq!(shown["delivered"], taken(&came).len(), "{shown}");
    // Neither the secret nor the token of the URL is anywhere that can be asked.
    let events = client.found(&format!("/v1/jobs/{job}/events?limit=1000")).await;
    let view = client.found(&format!("/v1/jobs/{job}")).await;
    for text in [shown.to_string(), events.to_string(), view.to_string(), base.log()] {
        assert!(!text.contains(&SECRET[6..]) && !text.contains("hidden-word"), "{text}");
    }
    let metrics = client.get("/metrics").await.1;
    let metrics = metrics.as_str().unwrap();
    let delivered = format!("ctp_webhooks_delivered_total {}\n", taken(&came).len());
    for line in [delivered.as_str(), "ctp_webhooks_failures_total 3\n", "ctp_webhooks_pending 0\n"]
    {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
    following.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_of_the_base_loses_no_notification_and_repeats_only_known_ones() {
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    let data = dir.path().join("data");
    let mut base = start(&data);
    let receiver = Receiver::start(&[]).await;
    let mut node = ScriptedNode::new("edge-1");
    node.join(&base.joining()).await.unwrap();
    let job = job(&base.client(), &receiver.url()).await;
    for round in 1..=4_usize {
        let (client, joining) = (base.client(), base.joining());
        let following = tokio::spawn(async move {
            let _gone = node.follow(&joining, |_| ()).await;
            node
        });
        for _ in 0..3 {
            let path = format!("/v1/jobs/{job}/commands");
            assert_eq!(client.post(&path, &json!({"op": "query"})).await.0, 201);
        }
        // In the middle of what it sends; in every second round while it is refused.
        receiver.answer(&vec![500; if round % 2 == 0 { 1_000 } else { 0 }]);
        receiver.until(|came| came.len() >= 2 * round).await;
        base.kill();
        node = timeout(PATIENCE, following).await.unwrap().unwrap();
        receiver.answer(&[]);
        base = start(&data);
    }
    let (client, joining) = (base.client(), base.joining());
    let following = tokio::spawn(async move { node.follow(&joining, |_| ()).await });
    client.post(&format!("/v1/jobs/{job}/end"), &json!({})).await;
    let came = receiver.until_taken("job.completed").await;
    assert_sound(&came);
    assert_eq!(taken(&came), wanted(&client, &job).await);
    following.abort();
}

#[tokio::test]
async fn receiver_that_is_gone_is_told_no_more_and_one_that_is_down_holds_up_nothing() {
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    let base = start(&dir.path().join("data"));
    let (client, joining) = (base.client(), base.joining());
    let receiver = Receiver::start(&[410]).await;
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_url = format!("http://{}/", silent.local_addr().unwrap());
    let mut node = ScriptedNode::new("edge-1");
    node.join(&joining).await.unwrap();
    let notify = json!([
        {"url": receiver.url(), "events": ["receipt", "end"]}, {"url": silent_url},
    ]);
    let (_, view) = client.post("/v1/jobs", &json!({"targets": "all", "notify": notify})).await;
    let job = view["job_id"].as_str().unwrap();
    for _ in 0..20 {
        client.post(&format!("/v1/jobs/{job}/commands"), &json!({"op": "query"})).await;
    }
    let following = tokio::spawn(async move { node.follow(&joining, |_| ()).await });
    client.post(&format!("/v1/jobs/{job}/end"), &json!({})).await;
    client.event(job, |event| event["kind"] == "job.completed").await;
    let event = client.event(job, |event| event["kind"] == "webhook.disabled").await;
    assert_eq!(event["detail"]["hook"], 1, "{event}");
    let _open = timeout(PATIENCE, silent.accept()).await.unwrap().unwrap();
    let hooks = client.found(&format!("/v1/jobs/{job}/notifications")).await;
    let hooks = &hooks["notifications"];
    assert_eq!((&hooks[0]["state"], &hooks[0]["pending"]), (&json!("disabled"), &json!(0)));
    assert_eq!((&hooks[1]["state"], &hooks[1]["pending"]), (&json!("active"), &json!(1)));
    let came = receiver.until(|came| !came.is_empty()).await;
    assert_eq!((came.len(), came[0].signature.as_ref()), (1, None));
    following.abort();
}

#[tokio::test]
async fn receivers_that_a_base_must_not_call_are_refused_with_a_reason() {
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    let base = Base::start(&dir.path().join("data"));
    let client = base.client();
    ScriptedNode::new("edge-1").join(&base.joining()).await.unwrap();
    for (notify, part) in [
        (json!([{"url": "http://127.0.0.1:9/"}]), "--webhook-allow"),
        (json!([{"url": "http://2130706433/"}]), "127.0.0.1"),
        (json!([{"url": "http://localhost/"}]), "--webhook-allow"),
        (json!([{"url": "http://[::ffff:169.254.169.254]/"}]), "169.254.169.254"),
        (json!([{"url": "ftp://hooks.example/"}]), "http or https"),
        (json!([{"url": "hooks.example"}]), "not a URL"),
        (json!([{"url": "https://hooks.example/", "events": []}]), "one event"),
        (json!(vec![json!({"url": "https://hooks.example/"}); 9]), "at most 8"),
    ] {
        let request = json!({"targets": "all", "notify": notify});
        let answer = client.post("/v1/jobs", &request).await;
        assert_eq!(reason(&answer), (422, "bad_notify"), "{notify}");
        assert!(answer.1["detail"].as_str().unwrap().contains(part), "{}", answer.1);
    }
    let wrong = json!([{"url": "https://hooks.example/", "secret": "whsec_short"}]);
    let answer = client.post("/v1/jobs", &json!({"targets": "all", "notify": wrong})).await;
    assert_eq!(reason(&answer), (400, "bad_body"));
    assert!(!answer.1.to_string().contains("whsec_short"), "{}", answer.1);
    assert_eq!(client.all("/v1/jobs", "jobs").await.len(), 0);
    assert!(chain(&client).await.len() >= 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn job_push_asks_for_a_notification_and_job_show_tells_how_far_it_is() {
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    let base = start(&dir.path().join("data"));
    let joining = base.joining();
    let receiver = Receiver::start(&[]).await;
    let (secret, folder) = (dir.path().join("secret"), dir.path().join("films"));
    std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
    std::fs::create_dir(&folder).unwrap();
    let mut node = ScriptedNode::new("edge-1");
    node.join(&joining).await.unwrap();
    let following = tokio::spawn(async move { node.follow(&joining, |_| ()).await });
    let run = |words: &[&str]| {
        let mut command = Command::new(binary());
        command.arg("job").args(words).args(["--base", &base.url()]);
        let token = base.token("provider.token");
        command.args(["--token", token.as_str()]).env_clear();
        tokio::task::block_in_place(|| run_command(&mut command, PATIENCE))
    };
    let (path, url) = (folder.to_str().unwrap(), receiver.url());
    let secret = secret.to_str().unwrap();
    let words = ["push", path, "--notify", &url, "--notify-secret-file", secret];
    let pushed = run(&[&words[..], &["--notify-events", "end,failure", "--json"]].concat());
    assert!(pushed.status.success(), "{}", pushed.stderr);
    let came = receiver.until_taken("job.completed").await;
    assert_sound(&came);
    let job: Value = serde_json::from_str(&pushed.stdout).unwrap();
    let job = job["job"]["job_id"].as_str().unwrap();
    base.client().event(job, |event| event["kind"] == "webhook.delivered").await;
    let shown = run(&["show", job]).stdout;
    let line = shown.lines().find(|line| line.starts_with("notifies")).unwrap();
    assert!(line.contains("1 taken") && !line.contains("hidden-word"), "{shown}");
    let wrong = run(&["push", path, "--notify", &url, "--notify-secret-file", path]);
    assert_eq!(wrong.status.code(), Some(2), "{}", wrong.stderr);
    following.abort();
}

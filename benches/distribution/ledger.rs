//! B11: the ledger of a base with thousands of nodes that report at once, in SQLite and PostgreSQL.
//!
//! ```text
//! for each job: received, fetching, applying, completed  <-- of every node, each a request
//!      clerk: book, group commit --> transitions a second, times of commits
//!      beside it each 20 ms: a question of a client      --> its times
//! ```
//! Receipts are signed between the rounds, which is the nodes' work, and checked within them.
//! Bound: `AT_ONCE` requests are under way: the queue of the clerk has room for more.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headend::dist::book::{Book, BookOptions, HelloBy};
use headend::dist::ids::{CommandId, CommandKey, Digest, Incarnation, JobId, NodeName};
use headend::dist::keys::{BaseKeys, NodeKeys, sign_receipt};
use headend::dist::wire::agent::{Hello, Receipt, Report, Reports, SwitchCause};
use headend::dist::wire::job::{CommandRequest, JobRequest, Op, Policy, Targets};
use headend::ledger::clerk::{self, Clerk};
use headend::ledger::lease::{Candidate, Lease, LeaseState};
use headend::ledger::{Database, Ledger};
use tokio::sync::{Semaphore, watch};

use super::support::postgres::{self, Server};

/// How much is simulated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) nodes: usize,
    pub(crate) jobs: usize,
}

/// Both ledgers, one after the other. `folder` is on the disk that is measured.
pub(crate) fn run(folder: &Path, size: Size) {
    let files = tempfile::tempdir_in(folder).unwrap();
    let (ledger, rows) = Ledger::open(&files.path().join("ledger.db")).unwrap();
    measure("SQLite", ledger, rows, size);
    let Some(bin) = postgres::programs() else {
        println!("B11  PostgreSQL is not installed: skipped");
        return;
    };
    let server = Server::start_in(folder, bin, &[]);
    let database = Database::new(&server.database(), None).unwrap();
    let candidate = Candidate { addr: "127.0.0.1:1".to_owned(), base_key: "key".to_owned() };
    let lease = Lease::start(database.clone(), candidate).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tenure = runtime.block_on(async {
        let mut state = lease.state();
        let held = state.wait_for(|state| matches!(state, LeaseState::Held(_))).await.unwrap();
        let LeaseState::Held(tenure) = &*held else { panic!("{held:?}") };
        tenure.clone()
    });
    let (ledger, rows) = Ledger::open_database(&database, &tenure).unwrap();
    measure("PostgreSQL", ledger, rows, size);
    assert!(!tenure.is_over(), "the lease was lost under load");
    lease.end();
}

fn measure(name: &str, ledger: Ledger, rows: headend::dist::rows::Rows, size: Size) {
    let mut options = BookOptions::new("127.0.0.1:1".to_owned(), Digest([0; 32]));
    options.limits.nodes = options.limits.nodes.max(size.nodes);
    options.limits.deliveries = options.limits.deliveries.max(size.nodes * size.jobs);
    let book = Book::new(rows, BaseKeys::from_bytes(&[1; 32]), options, clerk::now());
    let (clerk, thread) = Clerk::start(ledger, book).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let measured = runtime.block_on(rounds(&clerk, size));
    thread.end();
    let commits = clerk.cells().commits.read();
    let Measured { transitions, took, mut asked } = measured;
    asked.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = transitions as f64 / took.as_secs_f64();
    println!(
        "B11  {name}: {} nodes x {} jobs: {rate:.0} transitions/s; commit p99 <= {:.0} ms; status \
         query p50 {:.1} ms, p99 {:.1} ms",
        size.nodes,
        size.jobs,
        quantile_ms(&commits),
        at(&asked, 50).as_secs_f64() * 1e3,
        at(&asked, 99).as_secs_f64() * 1e3,
    );
}

struct Measured {
    transitions: usize,
    took: Duration,
    asked: Vec<Duration>,
}

async fn rounds(clerk: &Clerk, size: Size) -> Measured {
    let nodes: Vec<_> = (0..size.nodes).map(node).collect();
    let keys = NodeKeys::from_bytes(&[2; 32]);
    let room = Arc::new(Semaphore::new(AT_ONCE));
    for name in &nodes {
        let hello = hello(name, &keys);
        let joined = clerk.ask(move |book, at| book.hello(hello, HelloBy::Join, at)).await;
        joined.unwrap().unwrap();
    }
    let mut measured = Measured { transitions: 0, took: Duration::ZERO, asked: Vec::new() };
    let mut number = 0;
    for _ in 0..size.jobs {
        let job = clerk.ask(begin).await.unwrap();
        let key = CommandKey { job, command: CommandId(1) };
        let receipts: Vec<_> = nodes.iter().map(|name| completed(&keys, name, key)).collect();
        let steps = [
            vec![Report::Received { key }; nodes.len()],
            vec![
                Report::Fetching {
                    key,
                    offset: 0,
                    source: None,
                    cause: SwitchCause::First,
                    before: 0
                };
                nodes.len()
            ],
            vec![Report::Applying { key }; nodes.len()],
            receipts,
        ];
        let (stop, stopped) = watch::channel(false);
        let asking = tokio::spawn(ask_on(clerk.clone(), job, stopped));
        let begun = Instant::now();
        for step in steps {
            number += 1;
            let mut sending = tokio::task::JoinSet::new();
            for (name, report) in nodes.iter().zip(step) {
                let place = Arc::clone(&room).acquire_owned().await.unwrap();
                let (clerk, batch) = (clerk.clone(), batch(name, number, report));
                sending.spawn(async move {
                    let taken = clerk.ask(move |book, at| book.reports(batch, at)).await;
                    drop(place);
                    assert_eq!(taken.unwrap().unwrap().taken, number);
                });
            }
            measured.transitions += sending.join_all().await.len();
        }
        measured.took += begun.elapsed();
        stop.send_replace(true);
        measured.asked.extend(asking.await.unwrap());
        let view = clerk.ask(move |book, _| book.job_view("bench", job)).await.unwrap().unwrap();
        assert_eq!(usize::try_from(view.totals.completed).unwrap(), nodes.len());
    }
    measured
}

/// A job for all nodes with one command.
fn begin(book: &mut Book, at: headend::dist::ids::Stamp) -> JobId {
    let (policy, targets) = (Policy::default(), Targets::All);
    let request =
        JobRequest { client_ref: None, targets, policy, deadline_s: None, notify: Vec::new() };
    let job = book.request_job("bench", request, at).unwrap().job_id;
    let query = CommandRequest { op: Op::Query, size: None, blake3: None };
    book.command("bench", job, query, at).unwrap();
    job
}

/// Asks how the job stands, again and again.
async fn ask_on(clerk: Clerk, job: JobId, mut stop: watch::Receiver<bool>) -> Vec<Duration> {
    let mut times = Vec::new();
    loop {
        let begun = Instant::now();
        let view = clerk.look(move |book| book.job_view("bench", job)).await;
        view.unwrap().unwrap();
        times.push(begun.elapsed());
        let pause = tokio::time::timeout(ASK_EVERY, stop.wait_for(|stop| *stop));
        if pause.await.is_ok() {
            return times;
        }
    }
}

fn node(number: usize) -> NodeName {
    NodeName::new(&format!("n{number}")).unwrap()
}

fn hello(node: &NodeName, keys: &NodeKeys) -> Hello {
    Hello {
        node: node.clone(),
        incarnation: Incarnation(1),
        public_key: keys.verify_key().to_string(),
        addr: "127.0.0.1:2".to_owned(),
        labels: BTreeMap::new(),
        up_rate_cap: None,
        down_rate_cap: None,
        free_bytes: 1 << 40,
        utc_ns: clerk::now().utc_ns,
        rtsp: None,
        takes_capability: false,
    }
}

fn completed(keys: &NodeKeys, node: &NodeName, key: CommandKey) -> Report {
    let receipt = Receipt {
        node: node.clone(),
        key,
        path: String::new(),
        size: 0,
        blake3: None,
        attrs: None,
        finished_at_ns: 1,
        via: BTreeMap::new(),
        live: None,
    };
    Report::Completed { receipt: sign_receipt(keys, &receipt) }
}

fn batch(node: &NodeName, first: u64, report: Report) -> Reports {
    Reports {
        node: node.clone(),
        incarnation: Incarnation(1),
        first,
        reports: vec![report],
        free_bytes: 1 << 40,
        up_rate_seen: 0,
        down_rate_seen: 0,
        relays: Default::default(),
    }
}

fn at(sorted: &[Duration], percent: usize) -> Duration {
    let place = sorted.len() * percent / 100;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Upper bound of the bucket that has the 99th of a hundred.
fn quantile_ms(value: &headend::metrics::histogram::HistogramValue) -> f64 {
    let wanted = value.count() * 99 / 100;
    let mut so_far = 0;
    for (bound, count) in value.bounds.iter().zip(&value.counts) {
        so_far += count;
        if so_far >= wanted {
            #[expect(clippy::cast_precision_loss, reason = "a time for people")]
            return *bound as f64 / value.steps_per_unit as f64 * 1e3;
        }
    }
    f64::INFINITY
}

/// Requests under way.
const AT_ONCE: usize = 1_024;
/// Between two questions of a client.
const ASK_EVERY: Duration = Duration::from_millis(20);

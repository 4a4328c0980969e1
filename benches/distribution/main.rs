//! How near the cascade comes to what the links allow, beside what people use today.
//!
//! ```text
//! B1  8 nodes, equal links          last node / bound, bytes out of the base / size, CPU per GiB
//! B2  16 nodes                      the same
//! B4  8 nodes, 10 ms each cable     the same: 40 ms from a node to its source and back
//! B5  middle node killed, link cut  the others / bound
//! B6  a middle uplink gets slow     last node / bound: to a tenth, at a quarter of the time
//! B7  two slow uplinks of eight     the same: a quarter of the others' from the start; first
//!                                   without known rates, then with rates that nodes declare
//! B8  8 jobs at once, half the size   last of all / bound of the sum, how alike jobs fare (Jain)
//! B9  1,000 files of 64 KiB         files per second
//! B10 a command without data        until the last receipt, 16 nodes
//! B11 the ledger, 10,000 nodes      transitions a second, times of commits and questions
//! B12 curl, aria2, rsync, mbuffer   last node / bound in the same lab, CPU per GiB
//! B13 each node killed once         bytes that came twice / bytes delivered
//! storm kills and cuts at random       nothing: all bytes, receipts and events are checked
//! ```
//! The bound is the time that the size takes on one link, headers of packets included: with equal
//! links no way is faster. Bytes are counted at the switch, in bundles that have few headers. Runs
//! in a network of its own (`scripts/distribution.sh` makes it).
//! Bound: each push ends within its patience, or the bench fails.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed, and says where")]
#![expect(clippy::print_stdout, reason = "the results")]

#[path = "../../tests/support/mod.rs"]
mod support;

mod ledger;
mod rivals;
mod storm;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use clap::Parser;

use support::distribution::{Distribution, Setup};
use support::lab::GOODPUT;
use support::process::{Kept, wait_for};
use support::wait::until_within;

/// Measures distribution in a lab of hosts on one machine.
#[derive(Debug, Parser)]
#[command(name = "distribution")]
struct Options {
    /// The program; without it nothing is done
    #[arg(long, value_name = "FILE")]
    headend: Option<PathBuf>,
    /// Folder for files
    #[arg(long, default_value = "/tmp")]
    folder: PathBuf,
    /// Scenarios
    #[arg(long, value_delimiter = ',', default_value = "b1,b2,b4,b5,b6,b7,b8,b9,b10,b11,b12,b13")]
    only: Vec<String>,
    /// Size of a content, MiB
    #[arg(long, default_value_t = 64)]
    mib: u64,
    /// Nodes (B2 and B10 take twice as many)
    #[arg(long, default_value_t = 8)]
    nodes: usize,
    /// Without TLS
    #[arg(long)]
    insecure: bool,
    /// Limit of each link, Mbit/s
    #[arg(long, default_value_t = 200)]
    mbit: u64,
    /// Delay of each cable in each direction, ms; B4 has 10 at least
    #[arg(long, default_value_t = 0)]
    delay: u64,
    /// Folder of the ledgers of B11, on the disk that is measured
    #[arg(long, default_value = "/var/tmp")]
    disk: PathBuf,
    /// Nodes of B11
    #[arg(long, default_value_t = 10_000)]
    ledger_nodes: usize,
    /// Jobs of B11
    #[arg(long, default_value_t = 100)]
    ledger_jobs: usize,
    /// Length of a storm, seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Faults of a storm
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Prints what each job reports, after B6, B7 and B8
    #[arg(long)]
    events: bool,
    /// What cargo passes to benches; ignored
    #[arg(long, hide = true)]
    bench: bool,
}

/// What all scenarios share.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    headend: PathBuf,
    folder: PathBuf,
    nodes: usize,
    is_secure: bool,
    /// Bits per second.
    rate: u64,
    /// Of each cable, in each direction.
    delay: Duration,
    content: PathBuf,
    bytes: u64,
    prints_events: bool,
}

fn main() {
    let options = Options::parse();
    let Some(headend) = options.headend else { return };
    let bytes = options.mib << 20;
    let folder = tempfile::tempdir_in(&options.folder).unwrap();
    let content = folder.path().join("content.bin");
    write_random(&content, bytes);
    let setting = Setting {
        headend,
        folder: folder.path().to_owned(),
        nodes: options.nodes,
        is_secure: !options.insecure,
        rate: options.mbit * 1_000_000,
        delay: Duration::from_millis(options.delay),
        content,
        bytes,
        prints_events: options.events,
    };
    println!(
        "{} MiB, links of {} Mbit/s, {}; bound {:.2} s",
        options.mib,
        options.mbit,
        if options.insecure { "without TLS" } else { "TLS" },
        setting.bound().as_secs_f64()
    );
    for name in &options.only {
        match name.as_str() {
            "b1" => cascade("B1", &setting, setting.nodes),
            "b2" => cascade("B2", &setting, setting.nodes * 2),
            "b4" => {
                let delay = setting.delay.max(Duration::from_millis(10));
                cascade("B4", &Setting { delay, ..setting.clone() }, setting.nodes);
            }
            "b5" => lost_node(&setting),
            "b6" => slowed_node(&setting),
            "b7" => slow_nodes(&setting),
            "b8" => jobs_at_once(&setting),
            "b9" => small_files(&setting),
            "b10" => command(&setting),
            "b11" => {
                let (nodes, jobs) = (options.ledger_nodes, options.ledger_jobs);
                ledger::run(&options.disk, ledger::Size { nodes, jobs });
            }
            "b12" => rivals::run(&setting),
            "b13" => killed_nodes(&setting),
            "storm" => {
                let length = Duration::from_secs(options.seconds);
                storm::run(&setting, storm::Storm { length, seed: options.seed });
            }
            other => println!("{other}: no such scenario"),
        }
    }
}

impl Setting {
    fn start(&self, nodes: usize) -> Distribution {
        let (rate, delay, is_secure) = (self.rate, self.delay, self.is_secure);
        let setup = Setup { rate, delay, is_secure, flags: &[] };
        Distribution::start_with(&self.headend, &self.folder, nodes, &setup)
    }

    /// Prints the events of all jobs, if that is asked for.
    fn print_events(&self, lab: &Distribution) {
        if !self.prints_events {
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let api = lab.api();
        let jobs = runtime.block_on(api.found("/v1/jobs?limit=100"));
        for job in jobs["jobs"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let path = format!("/v1/jobs/{}/events?limit=1000", job["job_id"].as_str().unwrap());
            let events = runtime.block_on(api.found(&path));
            for event in events["events"].as_array().map(Vec::as_slice).unwrap_or_default() {
                println!("     {event}");
            }
        }
    }

    /// Time that the content takes on one link.
    fn bound(&self) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "a time for people")]
        let seconds = self.bytes as f64 * 8.0 / (self.rate as f64 * GOODPUT);
        Duration::from_secs_f64(seconds)
    }
}

fn cascade(name: &str, setting: &Setting, nodes: usize) {
    let lab = setting.start(nodes);
    let (sent, cpu) = (lab.lab.sent_bytes(0), lab.cpu());
    let took = lab.push(&[&setting.content]);
    lab.assert_delivered(&setting.content);
    let (sent, cpu) = (lab.lab.sent_bytes(0) - sent, lab.cpu() - cpu);
    #[expect(clippy::cast_precision_loss, reason = "ratios for people")]
    let (egress, gib) = (
        sent as f64 / setting.bytes as f64,
        setting.bytes as f64 * nodes as f64 / f64::from(1 << 30),
    );
    println!(
        "{name:4} {nodes} nodes: last {:.2} s = {:.2} x bound; base sent {egress:.3} x size; \
         {:.2} CPU s a GiB",
        took.as_secs_f64(),
        took.as_secs_f64() / setting.bound().as_secs_f64(),
        cpu.as_secs_f64() / gib,
    );
}

fn lost_node(setting: &Setting) {
    for is_killed in [true, false] {
        let mut lab = setting.start(setting.nodes);
        let middle = setting.nodes / 2;
        let before = lab.lab.received_bytes(middle);
        let began = Instant::now();
        let mut push =
            lab.client_command(&["job", "push", "--detach", setting.content.to_str().unwrap()]);
        let mut push = Kept::start(&mut push);
        until_within(PATIENCE, "half of it", || {
            lab.lab.received_bytes(middle) > before + setting.bytes / 2
        });
        if is_killed {
            lab.kill_node(middle);
        } else {
            lab.lab.set_connected(middle, false);
        }
        let name = setting.content.file_name().unwrap();
        let others: Vec<_> = (1..=setting.nodes).filter(|node| *node != middle).collect();
        until_within(PATIENCE, "the others have it", || {
            others.iter().all(|node| lab.media(*node).join(name).exists())
        });
        let took = began.elapsed();
        let _uploaded = wait_for(&mut push.0, PATIENCE);
        println!(
            "B5   middle node {}: others {:.2} s = {:.2} x bound",
            if is_killed { "killed" } else { "cut off" },
            took.as_secs_f64(),
            took.as_secs_f64() / setting.bound().as_secs_f64(),
        );
    }
}

fn slowed_node(setting: &Setting) {
    let lab = setting.start(setting.nodes);
    let middle = setting.nodes / 2;
    let before = lab.lab.received_bytes(middle);
    let began = Instant::now();
    let mut push = lab.client_command(&["job", "push", setting.content.to_str().unwrap()]);
    let mut push = Kept::start(&mut push);
    until_within(PATIENCE, "a quarter of it", || {
        lab.lab.received_bytes(middle) > before + setting.bytes / 4
    });
    lab.lab.set_rates(middle, setting.rate / 10, setting.rate);
    let ended = wait_for(&mut push.0, PATIENCE);
    let took = began.elapsed();
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    lab.assert_delivered(&setting.content);
    setting.print_events(&lab);
    print_times("B6", "middle uplink to a tenth", setting, took);
}

fn slow_nodes(setting: &Setting) {
    let slow = [setting.nodes / 3, setting.nodes * 2 / 3].map(|node| node.max(1));
    let lab = setting.start(setting.nodes);
    for node in slow {
        lab.lab.set_rates(node, setting.rate / 4, setting.rate);
    }
    let took = lab.push(&[&setting.content]);
    lab.assert_delivered(&setting.content);
    setting.print_events(&lab);
    print_times("B7", "two uplinks of a quarter, no rate known", setting, took);
    drop(lab);
    let (rate, is_secure) = (setting.rate, setting.is_secure);
    let setup = Setup { rate, delay: Duration::ZERO, is_secure, flags: &[] };
    let (headend, folder) = (&setting.headend, &setting.folder);
    let lab = Distribution::start_declared(headend, folder, setting.nodes, &setup, &slow);
    let took = lab.push(&[&setting.content]);
    lab.assert_delivered(&setting.content);
    setting.print_events(&lab);
    print_times("B7", "two uplinks of a quarter, declared", setting, took);
}

fn print_times(name: &str, what: &str, setting: &Setting, took: Duration) {
    println!(
        "{name:4} {what}: last {:.2} s = {:.2} x bound",
        took.as_secs_f64(),
        took.as_secs_f64() / setting.bound().as_secs_f64(),
    );
}

#[expect(clippy::cast_precision_loss, reason = "ratios for people")]
fn jobs_at_once(setting: &Setting) {
    let bytes = setting.bytes / 2;
    let files: Vec<_> = (0..JOBS).map(|n| setting.folder.join(format!("job{n}.bin"))).collect();
    files.iter().for_each(|file| write_random(file, bytes));
    let lab = setting.start(setting.nodes);
    let began = Instant::now();
    let start = |file: &PathBuf| {
        let mut push = lab.client_command(&["job", "push", file.to_str().unwrap()]);
        Some(Kept::start(push.stdout(Stdio::null())))
    };
    let mut pushes: Vec<_> = files.iter().map(start).collect();
    let mut took = vec![Duration::ZERO; pushes.len()];
    until_within(PATIENCE, "all jobs are done", || {
        for (push, took) in pushes.iter_mut().zip(&mut took) {
            let Some(ended) = push.as_mut().and_then(|push| push.0.try_wait().unwrap()) else {
                continue;
            };
            assert!(ended.success(), "{ended}");
            *took = began.elapsed();
            push.take();
        }
        pushes.iter().all(Option::is_none)
    });
    files.iter().for_each(|file| lab.assert_delivered(file));
    setting.print_events(&lab);
    let last = took.iter().max().unwrap().as_secs_f64();
    let bound = setting.bound().as_secs_f64() / 2.0 * took.len() as f64;
    // Jain, Chiu and Hawe 1984: 1 where all jobs are as fast, 1/n where one has everything.
    let rates: Vec<f64> = took.iter().map(|took| bytes as f64 / took.as_secs_f64()).collect();
    let (sum, squares) =
        (rates.iter().sum::<f64>(), rates.iter().map(|rate| rate * rate).sum::<f64>());
    println!(
        "B8   {JOBS} jobs of {} MiB to {} nodes at once: last {last:.2} s = {:.2} x bound of the sum; \
         Jain {:.3}",
        bytes >> 20,
        setting.nodes,
        last / bound,
        sum * sum / (rates.len() as f64 * squares),
    );
}

fn small_files(setting: &Setting) {
    let folder = setting.folder.join("small");
    std::fs::create_dir_all(&folder).unwrap();
    for file in 0..SMALL_FILES {
        write_random(&folder.join(format!("{file:04}")), 64 << 10);
    }
    let lab = setting.start(setting.nodes);
    let took = lab.push(&[&folder]);
    println!(
        "B9   {SMALL_FILES} files of 64 KiB to {} nodes: {:.2} s, {:.0} files/s",
        setting.nodes,
        took.as_secs_f64(),
        f64::from(SMALL_FILES) / took.as_secs_f64(),
    );
}

fn command(setting: &Setting) {
    let nodes = setting.nodes * 2;
    let lab = setting.start(nodes);
    let base = lab.api();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = |path: &str, body: serde_json::Value| {
        let (status, answer) = runtime.block_on(base.post(path, &body));
        assert_eq!(status, 201, "{answer}");
        answer
    };
    let job = ask("/v1/jobs", serde_json::json!({"targets": "all"}));
    let job = format!("/v1/jobs/{}", job["job_id"].as_str().unwrap());
    let mut took = Vec::new();
    for _ in 0..COMMANDS {
        let began = Instant::now();
        let command = ask(&format!("{job}/commands"), serde_json::json!({"op": "query"}));
        let shown = format!("{job}/commands/{}", command["command_id"]);
        until_within(PATIENCE, "all receipts", || {
            runtime.block_on(base.found(&shown))["state"] == "completed"
        });
        took.push(began.elapsed());
    }
    took.sort();
    println!(
        "B10  a query to {nodes} nodes until the last receipt: median {:.0} ms, at most {:.0} ms",
        took[took.len() / 2].as_secs_f64() * 1e3,
        took[took.len() - 1].as_secs_f64() * 1e3,
    );
}

fn killed_nodes(setting: &Setting) {
    let mut lab = setting.start(setting.nodes);
    let before: Vec<_> = (1..=setting.nodes).map(|node| lab.lab.received_bytes(node)).collect();
    let mut push = lab.client_command(&["job", "push", setting.content.to_str().unwrap()]);
    let began = Instant::now();
    let mut push = Kept::start(&mut push);
    for node in 1..=setting.nodes {
        let parts = u64::try_from(node).unwrap() * setting.bytes
            / u64::try_from(setting.nodes + 1).unwrap();
        until_within(PATIENCE, "its part", || {
            lab.lab.received_bytes(node) > before[node - 1] + parts
        });
        lab.kill_node(node);
        lab.start_node(node);
    }
    let ended = wait_for(&mut push.0, PATIENCE);
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    lab.assert_delivered(&setting.content);
    let received: u64 =
        (1..=setting.nodes).map(|node| lab.lab.received_bytes(node) - before[node - 1]).sum();
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    let again = received as f64 / (setting.bytes as f64 * setting.nodes as f64) - 1.0;
    println!(
        "B13  each node killed once: {:.2} s, {:.1} % came twice (headers and reports included)",
        began.elapsed().as_secs_f64(),
        again * 100.0
    );
}

pub(crate) fn write_random(path: &Path, bytes: u64) {
    let mut all = vec![0; usize::try_from(bytes).unwrap()];
    rand::fill(&mut all[..]);
    std::fs::write(path, all).unwrap();
}

/// How long a scenario may take.
const PATIENCE: Duration = Duration::from_secs(180);
const SMALL_FILES: u32 = 1_000;
const JOBS: usize = 8;
const COMMANDS: usize = 20;

//! Everything that can end does end, again and again; then every byte is looked at.
//!
//! ```text
//! for the given time, at random moments:
//!   jobs      a folder of files of random sizes, names, modes and times is pushed
//!   faults    nodes and the base are killed and started again; cables are taken out and put in
//! then all are well, and every job has to end:
//!   bytes and attributes of each file at each node, receipts, the chain of events, partial files
//! ```
//! The seed says which faults come when; what they meet is up to the machine.
//! Bounds: `JOBS_OPEN` pushes at once, half of the nodes out of order at most.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::support::distribution::Distribution;
use super::support::process::{Kept, run_command, wait_for};
use super::support::wait::until_within;
use super::{Setting, write_random};

/// How long, and in which order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Storm {
    pub(crate) length: Duration,
    pub(crate) seed: u64,
}

/// A job that was begun.
struct Job {
    name: String,
    folder: PathBuf,
    push: Kept,
}

/// What is out of order, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Killed,
    CutOff,
}

/// What happened.
#[derive(Debug, Default)]
struct Counts {
    nodes_killed: u32,
    base_killed: u32,
    cables_cut: u32,
}

/// Runs a storm, and asserts that nothing is lost in it.
pub(crate) fn run(setting: &Setting, storm: Storm) {
    let mut lab = setting.start(setting.nodes);
    let mut dice = StdRng::seed_from_u64(storm.seed);
    let mut jobs: Vec<Job> = Vec::new();
    let mut faults: BTreeMap<usize, (Fault, Instant)> = BTreeMap::new();
    let mut base_back: Option<Instant> = None;
    let mut counts = Counts::default();
    let end = Instant::now() + storm.length;
    let mut next_job = Instant::now();
    let mut next_fault = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        let now = Instant::now();
        heal(&mut lab, &mut faults, |until| until <= now);
        if base_back.is_some_and(|back| back <= now) {
            lab.start_base();
            base_back = None;
        }
        if now >= next_job && base_back.is_none() {
            next_job = now + Duration::from_millis(dice.random_range(500..5_000));
            let open = jobs.iter_mut().filter_map(|job| job.push.0.try_wait().ok());
            if open.filter(Option::is_none).count() < JOBS_OPEN {
                jobs.push(begin(&lab, setting, jobs.len(), &mut dice));
            }
        }
        if now >= next_fault {
            next_fault = now + Duration::from_millis(dice.random_range(500..4_000));
            let until = now + Duration::from_millis(dice.random_range(300..9_000));
            let node = dice.random_range(1..=setting.nodes);
            let is_free = !faults.contains_key(&node) && faults.len() < setting.nodes.div_ceil(2);
            match dice.random_range(0..10) {
                0 | 1 if base_back.is_none() => {
                    lab.kill_base();
                    base_back = Some(until.min(now + BASE_AWAY_MAX));
                    counts.base_killed += 1;
                }
                2..=5 if is_free => {
                    lab.kill_node(node);
                    faults.insert(node, (Fault::Killed, until));
                    counts.nodes_killed += 1;
                }
                6..=9 if is_free => {
                    lab.lab.set_connected(node, false);
                    faults.insert(node, (Fault::CutOff, until));
                    counts.cables_cut += 1;
                }
                _ => {}
            }
        }
        std::thread::sleep(TICK);
    }
    if base_back.is_some() {
        lab.start_base();
    }
    heal(&mut lab, &mut faults, |_| true);
    let calm = Instant::now();
    let bytes = check(&lab, setting, &mut jobs);
    println!(
        "storm seed {}, {:.0} s: {} jobs, {} MiB each to {} nodes; {} nodes killed, base killed {} \
         times, {} cables cut; all ended {:.0} s after it, every byte, attribute, receipt and event \
         is right",
        storm.seed,
        storm.length.as_secs_f64(),
        jobs.len(),
        bytes >> 20,
        setting.nodes,
        counts.nodes_killed,
        counts.base_killed,
        counts.cables_cut,
        calm.elapsed().as_secs_f64(),
    );
}

/// Ends faults whose time is over.
fn heal(
    lab: &mut Distribution,
    faults: &mut BTreeMap<usize, (Fault, Instant)>,
    is_over: impl Fn(Instant) -> bool,
) {
    faults.retain(|node, (fault, until)| {
        if !is_over(*until) {
            return true;
        }
        match fault {
            Fault::Killed => lab.start_node(*node),
            Fault::CutOff => lab.lab.set_connected(*node, true),
        }
        false
    });
}

/// Makes a folder of files, and begins to push it.
fn begin(lab: &Distribution, setting: &Setting, number: usize, dice: &mut StdRng) -> Job {
    let name = format!("job{number:04}");
    let folder = setting.folder.join(&name);
    std::fs::create_dir_all(folder.join("in a folder/\u{e4}")).unwrap();
    for file in 0..dice.random_range(1..=6) {
        let place = ["", "in a folder/", "in a folder/\u{e4}/"][dice.random_range(0..3)];
        let path = folder.join(format!("{place}{file} of {number}.bin"));
        // As many small ones as large ones: 0 bytes to 16 MiB.
        let bytes = (1_u64 << dice.random_range(0..=24)) - dice.random_range(0..=1);
        write_random(&path, bytes);
        let mode = [0o644, 0o600, 0o755][dice.random_range(0..3)];
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(dice.random_range(1..1 << 60));
        File::options().append(true).open(&path).unwrap().set_modified(at).unwrap();
    }
    let push = push(lab, &name, &folder);
    Job { name, folder, push }
}

/// Begins to push a folder; what the client says of it goes to a file beside the folder.
fn push(lab: &Distribution, name: &str, folder: &Path) -> Kept {
    let words = ["job", "push", "--detach", "--name", name, folder.to_str().unwrap()];
    let said = File::create(folder.with_extension("said")).unwrap();
    Kept::start(lab.client_command(&words).stdout(said))
}

/// Waits until all jobs have ended, and looks at everything. Returns the bytes of all jobs.
fn check(lab: &Distribution, setting: &Setting, jobs: &mut [Job]) -> u64 {
    for job in &mut *jobs {
        let mut ended = wait_for(&mut job.push.0, PATIENCE);
        let said = std::fs::read_to_string(job.folder.with_extension("said")).unwrap();
        if ended.and_then(|status| status.code()) == Some(UNREACHABLE) && said.is_empty() {
            // There was no base when the client asked it first: no job was begun.
            job.push = push(lab, &job.name, &job.folder);
            ended = wait_for(&mut job.push.0, PATIENCE);
        }
        assert!(ended.is_some_and(|status| status.success()), "{}: {ended:?} {said}", job.name);
    }
    let mut shown = serde_json::Value::Null;
    until_within(PATIENCE, "all jobs have ended", || {
        let asked = run_command(&mut lab.client_command(&["job", "ls", "--json"]), PATIENCE);
        shown = serde_json::from_str(&asked.stdout).unwrap_or_default();
        let all = shown["jobs"].as_array().map(Vec::as_slice).unwrap_or_default();
        all.len() == jobs.len() && all.iter().all(|job| !job["ended_at_ns"].is_null())
    });
    for job in shown["jobs"].as_array().unwrap() {
        assert_eq!(job["state"], "completed", "{job}");
        let id = job["job_id"].as_str().unwrap();
        let verified = lab.client(&["job", "verify", id]);
        assert!(verified.status.success(), "{}\n{}", verified.stdout, verified.stderr);
    }
    let mut bytes = 0;
    for job in jobs {
        for file in files(&job.folder) {
            let there = job.folder.file_name().unwrap();
            let there = Path::new(there).join(file.strip_prefix(&job.folder).unwrap());
            let wanted = (std::fs::read(&file).unwrap(), attributes(&file));
            bytes += wanted.0.len() as u64;
            for node in 1..=setting.nodes {
                let path = lab.media(node).join(&there);
                let got =
                    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                assert!(got == wanted.0, "{}: other bytes", path.display());
                assert_eq!(attributes(&path), wanted.1, "{}", path.display());
            }
        }
    }
    until_within(PATIENCE, "no partial file is left", || {
        (1..=setting.nodes).all(|node| files(&lab.media(node).join(".headend/contents")).is_empty())
    });
    bytes
}

/// Mode and time of last change.
fn attributes(path: &Path) -> (u32, i64, i64) {
    let meta = std::fs::metadata(path).unwrap();
    (meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec())
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path => found.push(path),
        }
    }
    found
}

/// How long all may take to end once everything is well.
const PATIENCE: Duration = Duration::from_secs(300);
/// Exit code of a client that has met no base.
const UNREACHABLE: i32 = 3;
const TICK: Duration = Duration::from_millis(50);
const JOBS_OPEN: usize = 3;
const BASE_AWAY_MAX: Duration = Duration::from_secs(5);

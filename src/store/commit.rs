//! Makes many contents durable with few commits of the file system.
//!
//! ```text
//! round: all jobs that wait, 128 at most
//!   sync every file -> do what follows it -> sync files and folders that this has changed
//! ```
//! Three files or more are synced by a sync of their file system, which costs one commit however
//! many they are; unless others write much there: then one by one, for a while.
//! Invariant: what follows a sync is done only when it succeeded, and a job is answered only when
//! what followed is durable too. Bound: `QUEUE_MAX` jobs wait; who submits another waits as well.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::thread::Builder;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::{disk, limits};

/// What follows a sync; gives files and folders that are to be synced then.
pub(super) type Then = Box<dyn FnOnce() -> io::Result<Vec<Arc<File>>> + Send>;

/// Where jobs wait for the thread, which ends with the queue.
#[derive(Debug)]
pub(super) struct CommitQueue {
    sender: mpsc::Sender<Job>,
}

struct Job {
    data: Arc<File>,
    then: Then,
    done: oneshot::Sender<io::Result<()>>,
}

impl CommitQueue {
    pub(super) fn start() -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        Builder::new().name("store-commit".into()).spawn(move || run(receiver))?;
        Ok(Self { sender })
    }

    /// Syncs `data`, does what follows and answers when that is durable too.
    pub(super) async fn commit(&self, data: Arc<File>, then: Then) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        let ended = || io::Error::other("the store has ended");
        self.sender.send(Job { data, then, done }).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

fn run(mut receiver: mpsc::Receiver<Job>) {
    let mut syncer = Syncer::default();
    while let Some(first) = receiver.blocking_recv() {
        let mut jobs = vec![first];
        while jobs.len() < limits::COMMIT_JOBS_MAX
            && let Ok(job) = receiver.try_recv()
        {
            jobs.push(job);
        }
        run_round(jobs, &mut syncer);
    }
}

fn run_round(jobs: Vec<Job>, syncer: &mut Syncer) {
    let synced = syncer.sync(jobs.iter().map(|job| &job.data));
    let mut answers = Vec::with_capacity(jobs.len());
    for (job, synced) in jobs.into_iter().zip(synced) {
        answers.push((synced.and_then(|()| (job.then)()), job.done));
    }
    // Folders and journals: many of them are the same.
    let mut second = BTreeMap::new();
    for file in answers.iter().filter_map(|(files, _)| files.as_ref().ok()).flatten() {
        second.insert(Arc::as_ptr(file).addr(), Arc::clone(file));
    }
    let synced = syncer.sync(second.values());
    let failed: BTreeMap<usize, io::ErrorKind> = second
        .keys()
        .zip(synced)
        .filter_map(|(file, synced)| Some((*file, synced.err()?.kind())))
        .collect();
    for (outcome, done) in answers {
        let outcome = outcome.and_then(|files| {
            let error = files.iter().find_map(|file| failed.get(&Arc::as_ptr(file).addr()));
            error.map_or(Ok(()), |kind| Err((*kind).into()))
        });
        // Whoever asked may have gone.
        let _ = done.send(outcome);
    }
}

/// Syncs files of one file system, one by one or all that is on it.
#[derive(Debug, Default)]
struct Syncer {
    /// The whole file system had much else to write: not before then.
    one_by_one_until: Option<Instant>,
}

impl Syncer {
    /// Outcomes in the order of `files`.
    fn sync<'a>(&mut self, files: impl Iterator<Item = &'a Arc<File>>) -> Vec<io::Result<()>> {
        let files: Vec<&Arc<File>> = files.collect();
        let now = Instant::now();
        let is_allowed = self.one_by_one_until.is_none_or(|until| now >= until);
        if let [first, _, _, ..] = files.as_slice()
            && is_allowed
            && disk::are_together(&files)
        {
            let synced = disk::sync_file_system(first);
            if now.elapsed() > SLOW_PER_FILE * u32::try_from(files.len()).unwrap_or(u32::MAX) {
                self.one_by_one_until = Some(Instant::now() + RESPITE);
            }
            if synced.is_ok() {
                return files.iter().map(|_| Ok(())).collect();
            }
        }
        files.iter().for_each(|file| disk::start_write_back(file, 0, 0));
        files.iter().map(|file| file.sync_all()).collect()
    }
}

/// More than a base and its clients have under way at once.
const QUEUE_MAX: usize = 1_024;
/// Others write so much that a sync of the whole file system takes longer than one by one.
const SLOW_PER_FILE: Duration = Duration::from_millis(20);
/// Time until that is tried again.
const RESPITE: Duration = Duration::from_secs(30);

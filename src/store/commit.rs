//! Makes many contents durable with few commits of the file system.
//!
//! ```text
//! round: all jobs that wait, 128 at most
//!   start write-back of every file -> sync each -> do what follows it -> sync files and folders
//! ```
//! A file system commits what all files of a round have changed when the first of them is synced,
//! so that the others find nothing to do: a round costs about two commits, whatever its length.
//! Invariant: what follows a sync is done only when it succeeded, and a job is answered only when
//! what followed is durable too. Bound: `QUEUE_MAX` jobs wait; who submits another waits as well.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::thread::Builder;

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
    while let Some(first) = receiver.blocking_recv() {
        let mut jobs = vec![first];
        while jobs.len() < limits::COMMIT_JOBS_MAX
            && let Ok(job) = receiver.try_recv()
        {
            jobs.push(job);
        }
        run_round(jobs);
    }
}

fn run_round(jobs: Vec<Job>) {
    if jobs.len() > 1 {
        jobs.iter().for_each(|job| disk::start_write_back(&job.data, 0, 0));
    }
    let synced: Vec<io::Result<()>> = jobs.iter().map(|job| job.data.sync_all()).collect();
    let mut answers = Vec::with_capacity(jobs.len());
    for (job, synced) in jobs.into_iter().zip(synced) {
        answers.push((synced.and_then(|()| (job.then)()), job.done));
    }
    let mut second: HashMap<(u64, u64), Result<(), io::ErrorKind>> = HashMap::new();
    for (outcome, done) in answers {
        let outcome = outcome.and_then(|files| {
            for file in files {
                let sync = || file.sync_all().map_err(|error| error.kind());
                let synced = *second.entry(disk::identity(&file)?).or_insert_with(sync);
                synced.map_err(io::Error::from)?;
            }
            Ok(())
        });
        // Whoever asked may have gone.
        let _ = done.send(outcome);
    }
}

/// More than a base and its clients have under way at once.
const QUEUE_MAX: usize = 1_024;

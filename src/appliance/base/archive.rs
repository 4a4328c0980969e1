//! Events that are old go from the ledger into files of the base.
//!
//! ```text
//! each hour: ledger --page of old events--> DIR/events/events-FIRST.jsonl, fsync --> clerk: trim
//! ```
//! A line is an event as the API shows it. A file has `FILE_EVENTS` of them and is not changed any
//! more once the next one is there, so that it can be moved away. `headend job verify --archive
//! DIR` checks the files; without them the base says behind which event its chain begins.
//! Invariants: an event is on the disk in a file before the ledger lets go of it; a kill between
//! the two makes no event come twice into a file. Bound: `STEP` events a transaction, with
//! `STEP_PAUSE` between two.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::dist::chain::ChainHead;
use crate::dist::retention::expired;
use crate::dist::wire::job::EventView;
use crate::ledger::clerk::{self, Clerk, ClerkError};

/// Moves events of a base.
#[derive(Debug)]
pub(super) struct Archive {
    clerk: Clerk,
    /// For how long an event stays in the ledger behind the end of its job.
    kept: Duration,
    files: Option<Files>,
    folder: PathBuf,
}

/// Why events stay where they are.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    #[error(transparent)]
    Clerk(#[from] ClerkError),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path}: the last event there is not the one of the ledger")]
    Other { path: PathBuf },
}

impl Archive {
    pub(super) fn new(clerk: Clerk, folder: PathBuf, kept: Duration) -> Self {
        Self { clerk, kept, files: None, folder }
    }

    /// Until `shutdown`, each `every`.
    pub(super) async fn run(mut self, every: Duration, mut shutdown: watch::Receiver<bool>) {
        let mut times = interval(every);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = times.tick() => {}
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
            let moving = async {
                let kept_ns = i64::try_from(self.kept.as_nanos()).unwrap_or(i64::MAX);
                self.move_until(clerk::now().utc_ns.saturating_sub(kept_ns)).await
            };
            let moved = tokio::select! {
                moved = moving => moved,
                _ = shutdown.wait_for(|stop| *stop) => return,
            };
            match moved {
                Ok(0) => {}
                Ok(count) => {
                    let folder = self.folder.display();
                    tracing::info!(code = "HE-I961", count, %folder, "old events are in files now");
                }
                Err(error) => {
                    self.files = None;
                    let fix = "the ledger keeps them, and it is tried again";
                    tracing::warn!(code = "HE-W961", %error, fix, "old events cannot be moved");
                }
            }
        }
    }

    /// Moves events of before `until_ns` (UTC) whose jobs had ended by then. Gives how many.
    pub(super) async fn move_until(&mut self, until_ns: i64) -> Result<u64, ArchiveError> {
        let mut kept = self.clerk.read_kept_jobs(until_ns).await?;
        let asked = self.clerk.ask(|book, _| (book.jobs_with_calls(), book.chain_start()));
        let (waiting, mut start) = asked.await?;
        kept.extend(waiting);
        let newest = self.clerk.ask(|book, _| book.chain_head()).await?.seq;
        let mut count = 0;
        loop {
            let mut events = self.clerk.read_events(None, start.seq, STEP).await?;
            events.truncate(expired(&events, until_ns, &kept, newest));
            let Some(last) = events.last().map(ChainHead::behind) else { return Ok(count) };
            count += u64::try_from(events.len()).unwrap_or(u64::MAX);
            let (files, folder) = (self.files.take(), self.folder.clone());
            let written = spawn_blocking(move || {
                let mut files = files.map_or_else(|| Files::open(&folder), Ok)?;
                files.append(&events)?;
                Ok::<_, ArchiveError>(files)
            });
            self.files = Some(written.await.map_err(|_runtime_ends| ClerkError::Ended)??);
            self.clerk.ask(move |book, _| book.trim_chain(last)).await?;
            start = last;
            sleep(STEP_PAUSE).await;
        }
    }
}

/// The files, open at their end.
#[derive(Debug)]
struct Files {
    folder: PathBuf,
    newest: Option<Newest>,
}

#[derive(Debug)]
struct Newest {
    path: PathBuf,
    file: File,
    first: u64,
    last: ChainHead,
}

impl Files {
    /// Finds the newest file. Half a line at its end, left by a loss of power, is cut off.
    fn open(folder: &Path) -> Result<Self, ArchiveError> {
        let failed = |source| ArchiveError::File { path: folder.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            names.extend(entry.map_err(failed)?.file_name().into_string().ok());
        }
        names.retain(|name| first_of(name).is_some());
        names.sort_unstable();
        let newest = names.last().map(|name| Newest::open(folder.join(name))).transpose()?;
        Ok(Self { folder: folder.to_owned(), newest: newest.flatten() })
    }

    /// Adds events, which are on the disk on return. Those that are there already are not added.
    fn append(&mut self, events: &[EventView]) -> Result<(), ArchiveError> {
        let mut rest = events;
        if let Some(newest) = &self.newest {
            let known = rest.iter().take_while(|event| event.seq <= newest.last.seq).count();
            let (there, new) = rest.split_at(known);
            let same = there.iter().rfind(|event| event.seq == newest.last.seq);
            if same.is_some_and(|event| ChainHead::behind(event) != newest.last) {
                return Err(ArchiveError::Other { path: newest.path.clone() });
            }
            rest = new;
        }
        let Some(first) = rest.first() else { return Ok(()) };
        let fits = |newest: &Newest| {
            newest.last.seq + 1 == first.seq && first.seq - newest.first < FILE_EVENTS
        };
        let newest = match self.newest.take().filter(fits) {
            Some(newest) => newest,
            None => Newest::create(&self.folder, first)?,
        };
        self.newest.insert(newest).append(rest)
    }
}

impl Newest {
    /// `None` for a file without a whole line.
    fn open(path: PathBuf) -> Result<Option<Self>, ArchiveError> {
        let failed = |source| ArchiveError::File { path: path.clone(), source };
        let file = OpenOptions::new().read(true).append(true).open(&path).map_err(failed)?;
        let mut lines = BufReader::new(&file);
        let (mut line, mut bytes, mut ends) = (Vec::new(), 0_u64, None);
        loop {
            line.clear();
            let read = lines.read_until(b'\n', &mut line).map_err(failed)?;
            let whole = line.ends_with(b"\n").then(|| serde_json::from_slice(&line));
            let Some(Ok(event)) = whole else { break };
            let event: EventView = event;
            bytes += u64::try_from(read).unwrap_or(0);
            let first = ends.map_or(event.seq, |(first, _)| first);
            ends = Some((first, ChainHead::behind(&event)));
        }
        file.set_len(bytes).map_err(failed)?;
        Ok(ends.map(|(first, last)| Self { path: path.clone(), file, first, last }))
    }

    fn create(folder: &Path, first: &EventView) -> Result<Self, ArchiveError> {
        let path = folder.join(format!("{PREFIX}{:020}{SUFFIX}", first.seq));
        let failed = |source| ArchiveError::File { path: path.clone(), source };
        // One that is there has no whole line.
        let mut options = OpenOptions::new();
        let options = options.append(true).create(true).mode(0o600);
        let file = options.open(&path).map_err(failed)?;
        file.set_len(0).map_err(failed)?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        let last = ChainHead { seq: first.seq - 1, ..ChainHead::START };
        Ok(Self { path, file, first: first.seq, last })
    }

    fn append(&mut self, events: &[EventView]) -> Result<(), ArchiveError> {
        let failed = |source| ArchiveError::File { path: self.path.clone(), source };
        let mut lines = Vec::new();
        for event in events {
            serde_json::to_writer(&mut lines, event)
                .map_err(|error| failed(io::Error::new(ErrorKind::InvalidData, error)))?;
            lines.push(b'\n');
        }
        self.file.write_all(&lines).map_err(failed)?;
        self.file.sync_data().map_err(failed)?;
        if let Some(last) = events.last() {
            self.last = ChainHead::behind(last);
        }
        Ok(())
    }
}

/// Number of the first event of a file of this name.
fn first_of(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()
}

const PREFIX: &str = "events-";
const SUFFIX: &str = ".jsonl";
/// Events that are moved at once.
const STEP: usize = 1_000;
const STEP_PAUSE: Duration = Duration::from_millis(20);
/// Events of a file: some 50 MB.
const FILE_EVENTS: u64 = 100_000;

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::dist::book::{Book, BookOptions};
    use crate::dist::chain::verify;
    use crate::dist::ids::{Digest, JobId};
    use crate::dist::keys::BaseKeys;
    use crate::dist::rows::{Change, JobRow};
    use crate::dist::wire::job::{JobState, Policy};
    use crate::ledger::Ledger;
    use crate::ledger::clerk::ClerkThread;

    fn job(number: u128) -> JobId {
        JobId(Uuid::from_u128(number))
    }

    fn job_row(number: u128, ended_at_ns: Option<i64>) -> Change {
        let state = ended_at_ns.map_or(JobState::Open, |_| JobState::Completed);
        Change::Job(JobRow {
            id: job(number),
            client: "c".to_owned(),
            client_ref: None,
            state,
            servers: Vec::new(),
            list_version: 1,
            policy: Policy::default(),
            created_at_ns: 0,
            deadline_ns: None,
            ended_at_ns,
            first_ended_at_ns: ended_at_ns,
            bound_ratio: None,
            base_egress_ratio: None,
        })
    }

    /// Events at the nanoseconds of their numbers, of two jobs in turn.
    fn events(count: u64) -> Vec<EventView> {
        let mut head = ChainHead::START;
        let event = |seq| EventView {
            seq: 0,
            at_ns: i64::try_from(seq).unwrap(),
            job: (seq % 3 > 0).then(|| job(u128::from(seq % 3))),
            command: None,
            node: None,
            kind: "delivery.received".to_owned(),
            detail: json!({"seq": seq}),
            hash: Digest([0; 32]),
        };
        let mut events: Vec<_> = (1..=count).map(event).collect();
        events.iter_mut().for_each(|event| head.append(event));
        events
    }

    fn clerk(path: &Path) -> (Clerk, ClerkThread) {
        let (ledger, rows) = Ledger::open(path).unwrap();
        let options = BookOptions::new("127.0.0.1:1".to_owned(), Digest([0; 32]));
        let book = Book::new(rows, BaseKeys::from_bytes(&[7; 32]), options, clerk::now());
        Clerk::start(ledger, book).unwrap()
    }

    fn in_files(folder: &Path) -> Vec<EventView> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        let texts = names.iter().map(|path| fs::read_to_string(path).unwrap());
        let lines = texts.flat_map(|text| {
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>()
        });
        lines.collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn old_events_go_into_files_and_the_chain_is_whole_across_both() {
        let folder = tempfile::tempdir().unwrap();
        let (ledger_path, kept) = (folder.path().join("ledger.db"), folder.path().join("events"));
        {
            let (mut ledger, _) = Ledger::open(&ledger_path).unwrap();
            let mut changes: Vec<_> = events(2_500).into_iter().map(Change::Event).collect();
            changes.extend([job_row(1, Some(2_000)), job_row(2, Some(2_400))]);
            ledger.commit(&changes).unwrap();
        }
        let (clerk, thread) = clerk(&ledger_path);
        let mut archive = Archive::new(clerk.clone(), kept.clone(), Duration::ZERO);
        // The second job has not ended by then.
        assert_eq!(archive.move_until(2_300).await.unwrap(), 1);
        assert_eq!(archive.move_until(2_401).await.unwrap(), 2_399);
        assert_eq!(archive.move_until(2_401).await.unwrap(), 0);
        let start = clerk.ask(|book, _| book.chain_start()).await.unwrap();
        assert_eq!(start.seq, 2_400);
        let rest = clerk.read_events(None, 0, 10_000).await.unwrap();
        let found = in_files(&kept);
        assert_eq!(verify(ChainHead::START, &found), Ok(start));
        assert!(verify(start, &rest).is_ok());
        // All but the last.
        let count = archive.move_until(i64::MAX).await.unwrap();
        assert_eq!(clerk.read_events(None, 0, 10).await.unwrap().len(), 1);
        assert_eq!(in_files(&kept).len() as u64, 2_400 + count);
        spawn_blocking(move || thread.end()).await.unwrap();
    }

    #[test]
    fn files_go_on_where_they_ended_and_take_nothing_twice() {
        let folder = tempfile::tempdir().unwrap();
        let all = events(10);
        let mut files = Files::open(folder.path()).unwrap();
        files.append(&all[..3]).unwrap();
        // The ledger had not let go of them when the base was killed; the disk lost half a line.
        let path = files.newest.as_ref().unwrap().path.clone();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"seq\":4").unwrap();
        let mut files = Files::open(folder.path()).unwrap();
        files.append(&all[..5]).unwrap();
        assert_eq!(in_files(folder.path()), all[..5]);
        // Another base of the ledger has some of them in its own folder.
        files.append(&all[7..9]).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        let mut changed = all[8].clone();
        changed.hash = Digest([1; 32]);
        let error = files.append(&[changed, all[9].clone()]).unwrap_err();
        assert!(matches!(error, ArchiveError::Other { .. }), "{error}");
        // A file without a whole line is begun anew.
        let empty = folder.path().join(format!("{PREFIX}{:020}{SUFFIX}", 10));
        fs::write(&empty, "{").unwrap();
        Files::open(folder.path()).unwrap().append(&all[9..]).unwrap();
        assert_eq!(in_files(folder.path())[7..], all[9..]);
    }
}

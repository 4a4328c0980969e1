//! The lease of a ledger that several bases stand by for: which of them is the base now.
//!
//! ```text
//!            free or run out: taken, epoch + n                  given back at the end
//! Standby ----------------------------------------> Held(epoch) ------------------> (free)
//!    ^      asked each second                         |  renewed each 3 s
//!    '------------------------------------------------'
//!        another base has it, or 10 s without a renewal
//! ```
//! It is a row of the database: epoch, holder, address, the time at which it runs out. A thread
//! keeps it, so that a base that is busy does not lose it.
//! Invariants: times are those of the database's clock; here only the time since a renewal was sent
//! counts, by a clock that goes on while the machine sleeps. So a base knows that its lease has run
//! out before the database gives it to another. What it writes later is refused (`postgres`).
//! Bounds: `LEASE` for a lease, `RENEW_EVERY`, `ASK_EVERY`, `ANSWER_MAX` for an answer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::LedgerError;
use super::postgres::{Database, is_refusal, prepare};
use crate::dist::ids::BaseEpoch;

/// The time for which a base has the ledger, from a takeover to its end. Clones are the same.
#[derive(Debug, Clone)]
pub struct Tenure(Arc<Term>);

#[derive(Debug)]
struct Term {
    epoch: BaseEpoch,
    holder: String,
    /// Until when no other base can have it, by [`now_ns`].
    valid_until_ns: AtomicU64,
    is_over: AtomicBool,
}

/// How it stands with the lease.
#[derive(Debug, Clone)]
pub enum LeaseState {
    /// The database has not answered yet, or does not answer now: what it said last.
    Unreachable(String),
    /// Another base has it.
    Standby {
        /// Address of the other base.
        active: String,
        /// Its epoch.
        epoch: BaseEpoch,
    },
    /// This base has it.
    Held(Tenure),
    /// The database cannot be used as it is.
    Refused(Arc<LedgerError>),
}

/// Keeps the lease of a database, or waits for it.
#[derive(Debug)]
pub struct Lease {
    wish: watch::Sender<Wish>,
    state: watch::Receiver<LeaseState>,
    /// Epoch up to which all that was done has ended.
    wound_up: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

/// Who wants the lease.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Where clients and nodes reach it.
    pub addr: String,
    /// Ed25519 key of the base, base64.
    pub base_key: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Have it.
    Take,
    /// Give it back.
    End,
}

impl Tenure {
    fn new(epoch: BaseEpoch, holder: String, valid_until_ns: u64) -> Self {
        let valid_until_ns = AtomicU64::new(valid_until_ns);
        Self(Arc::new(Term { epoch, holder, valid_until_ns, is_over: AtomicBool::new(false) }))
    }

    /// Its epoch.
    #[must_use]
    pub fn epoch(&self) -> BaseEpoch {
        self.0.epoch
    }

    /// Whether no other base can have the ledger now.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.is_over() && now_ns() < self.0.valid_until_ns.load(Ordering::Acquire)
    }

    /// Whether it has ended, for good.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_over.load(Ordering::Acquire)
    }

    /// Another base has the ledger, or may have it.
    pub(super) fn end(&self) {
        self.0.is_over.store(true, Ordering::Release);
    }

    /// Name of this base's connections to the database.
    pub(super) fn application(&self) -> String {
        application(&self.0.holder)
    }

    fn renew(&self, valid_until_ns: u64) {
        self.0.valid_until_ns.store(valid_until_ns, Ordering::Release);
    }
}

impl Lease {
    /// Starts the thread, which takes the lease as soon as it is free.
    ///
    /// # Errors
    /// The thread or its runtime does not start.
    pub fn start(database: Database, candidate: Candidate) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let waiting = LeaseState::Unreachable("no answer yet".to_owned());
        let (wish, wishes) = watch::channel(Wish::Take);
        let (states, state) = watch::channel(waiting);
        let holder = Uuid::now_v7().to_string();
        let wound_up = Arc::<AtomicU64>::default();
        let keeper = Keeper {
            database,
            candidate,
            holder,
            wishes,
            states,
            wound_up: Arc::clone(&wound_up),
            lost: BaseEpoch(0),
            client: None,
            tenure: None,
        };
        let thread = Builder::new().name("lease".to_owned()).spawn(move || {
            runtime.block_on(keeper.run());
            runtime.shutdown_background();
        })?;
        Ok(Self { wish, state, wound_up, thread })
    }

    /// How it stands, and changes of it.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<LeaseState> {
        self.state.clone()
    }

    /// What was done under the lease of this epoch, which is lost, has ended: the next one may be
    /// taken.
    pub fn wound_up(&self, epoch: BaseEpoch) {
        self.wound_up.fetch_max(epoch.0, Ordering::AcqRel);
    }

    /// Gives the lease back, and ends the thread. Blocks, for some seconds at most.
    pub fn end(self) {
        self.wish.send_replace(Wish::End);
        let _panicked = self.thread.join();
    }
}

/// The thread's side.
struct Keeper {
    database: Database,
    candidate: Candidate,
    /// Names this process.
    holder: String,
    wishes: watch::Receiver<Wish>,
    states: watch::Sender<LeaseState>,
    wound_up: Arc<AtomicU64>,
    /// Epoch of the lease that was lost last.
    lost: BaseEpoch,
    client: Option<Client>,
    tenure: Option<Tenure>,
}

impl Keeper {
    async fn run(mut self) {
        loop {
            let stepped = timeout(ANSWER_MAX, self.step()).await;
            let stepped = stepped.unwrap_or(Err(LedgerError::Late(ANSWER_MAX.as_secs())));
            let is_reached = stepped.is_ok();
            if let Err(error) = stepped {
                self.client = None;
                if self.failed(error) {
                    return;
                }
            }
            self.check();
            let pause = match self.tenure {
                Some(_) if is_reached => RENEW_EVERY,
                Some(_) => RETRY_EVERY,
                None => ASK_EVERY,
            };
            let mut wishes = self.wishes.clone();
            // Who holds the other end and is gone wishes it too.
            if timeout(pause, wishes.wait_for(|wish| *wish == Wish::End)).await.is_ok() {
                return self.give_back().await;
            }
        }
    }

    /// Asks the database once.
    async fn step(&mut self) -> Result<(), LedgerError> {
        let client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => {
                let client = self.database.connect(&application(&self.holder)).await?;
                prepare(&client, &self.database, &self.candidate.base_key).await?;
                client
            }
        };
        match self.tenure.clone() {
            Some(tenure) => self.renew(&client, &tenure).await?,
            None => self.stand_by(&client).await?,
        }
        self.client = Some(client);
        Ok(())
    }

    async fn renew(&mut self, client: &Client, tenure: &Tenure) -> Result<(), LedgerError> {
        let sent_ns = now_ns();
        let epoch = tenure.epoch().0.cast_signed();
        let renewed = client.execute(RENEW, &[&epoch, &LEASE_NS]).await?;
        if renewed == 0 {
            self.lose("another base has it");
        } else {
            tenure.renew(sent_ns + LEASE_NS.cast_unsigned());
        }
        Ok(())
    }

    /// Looks who has the lease, and takes it when it is free.
    async fn stand_by(&mut self, client: &Client) -> Result<(), LedgerError> {
        let row = client.query_one(LOOK, &[]).await?;
        let (epoch, addr, is_free): (i64, String, bool) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let holder: String = row.try_get(3)?;
        let has_wound_up = self.lost.0 <= self.wound_up.load(Ordering::Acquire);
        if is_free && has_wound_up {
            match self.take(client).await {
                Err(LedgerError::Postgres(error))
                    if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) =>
                {
                    // The base that had it was stopped within a commit.
                    client.batch_execute("ROLLBACK").await?;
                    let ended = client.query(END_SESSIONS, &[&application(&holder)]).await?.len();
                    tracing::warn!(
                        code = "HE-W946",
                        base = addr,
                        ended,
                        "transactions of the base that had the lease are ended"
                    );
                }
                taken => return taken,
            }
        }
        let epoch = BaseEpoch(epoch.cast_unsigned());
        self.say(LeaseState::Standby { active: addr, epoch });
        Ok(())
    }

    async fn take(&mut self, client: &Client) -> Result<(), LedgerError> {
        client.batch_execute(TAKE_BEGIN).await?;
        // Alone: a commit under way ends first.
        client.query_one("SELECT epoch FROM lease WHERE one = 1 FOR UPDATE", &[]).await?;
        let sent_ns = now_ns();
        let taken = client
            .query_opt(TAKE, &[&LEASE_NS, &self.holder, &self.candidate.addr])
            .await?
            .map(|row| row.try_get::<_, i64>(0))
            .transpose()?;
        client.batch_execute("COMMIT").await?;
        // Another standby base was faster: it is looked at again.
        let Some(epoch) = taken else { return Ok(()) };
        let valid_until_ns = sent_ns + LEASE_NS.cast_unsigned();
        let epoch = BaseEpoch(epoch.cast_unsigned());
        let tenure = Tenure::new(epoch, self.holder.clone(), valid_until_ns);
        self.tenure = Some(tenure.clone());
        self.say(LeaseState::Held(tenure));
        Ok(())
    }

    /// Ends a tenure that may be another's by now.
    fn check(&mut self) {
        let Some(tenure) = self.tenure.as_ref().filter(|tenure| !tenure.is_held()) else { return };
        let is_refused = tenure.is_over();
        self.lose(if is_refused { "a commit was refused" } else { "it was not renewed in time" });
    }

    fn lose(&mut self, why: &'static str) {
        let Some(tenure) = self.tenure.take() else { return };
        tenure.end();
        let epoch = tenure.epoch();
        self.lost = epoch;
        tracing::warn!(code = "HE-W945", epoch = epoch.0, why, "the lease of the ledger is lost");
        // Until what was done under it has ended: whoever does it says so.
        self.say(LeaseState::Unreachable(why.to_owned()));
    }

    /// Says why the database does not answer. True: there is no use in trying again.
    fn failed(&self, error: LedgerError) -> bool {
        let is_refused = match &error {
            LedgerError::Postgres(error) => is_refusal(error),
            other => other.is_usage(),
        };
        if is_refused && self.tenure.is_none() {
            self.say(LeaseState::Refused(Arc::new(error)));
            return true;
        }
        if self.tenure.is_none() {
            self.say(LeaseState::Unreachable(error.to_string()));
        }
        false
    }

    async fn give_back(&mut self) {
        let Some(tenure) = self.tenure.take() else { return };
        tenure.end();
        let epoch = tenure.epoch().0.cast_signed();
        let giving = async {
            let client = match self.client.take().filter(|client| !client.is_closed()) {
                Some(client) => client,
                None => self.database.connect(&application(&self.holder)).await?,
            };
            client.execute(GIVE_BACK, &[&epoch]).await.map_err(LedgerError::from)
        };
        let given = timeout(ANSWER_MAX, giving).await;
        let given = given.unwrap_or(Err(LedgerError::Late(ANSWER_MAX.as_secs())));
        if let Err(error) = given {
            tracing::warn!(code = "HE-W947", %error, "the lease is not given back: it runs out");
        }
    }

    /// Tells those who wait, where something has changed.
    fn say(&self, state: LeaseState) {
        self.states.send_if_modified(|known| {
            let is_same = match (&*known, &state) {
                (LeaseState::Unreachable(a), LeaseState::Unreachable(b)) => a == b,
                (
                    LeaseState::Standby { active: a, epoch: e },
                    LeaseState::Standby { active: b, epoch: f },
                ) => (a, e) == (b, f),
                _ => false,
            };
            if !is_same {
                *known = state;
            }
            !is_same
        });
    }
}

fn application(holder: &str) -> String {
    format!("headend {holder}")
}

/// Nanoseconds of a clock that goes on while the machine sleeps.
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// Nanoseconds of the database's clock.
macro_rules! db_now_ns {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000000)::BIGINT"
    };
}

const LOOK: &str = concat!(
    "SELECT epoch, addr, expires_at_ns <= ",
    db_now_ns!(),
    ", holder FROM lease WHERE one = 1"
);
const RENEW: &str = concat!(
    "UPDATE lease SET expires_at_ns = ",
    db_now_ns!(),
    " + $2 WHERE one = 1 AND epoch = $1"
);
const TAKE_BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '1s'";
/// The epoch is the time in seconds, or one more than before: greater also when an older copy of
/// the database has been put back.
const TAKE: &str = concat!(
    "UPDATE lease SET epoch = greatest(epoch + 1, ",
    db_now_ns!(),
    " / 1000000000), holder = $2, addr = $3, expires_at_ns = ",
    db_now_ns!(),
    " + $1 WHERE one = 1 AND expires_at_ns <= ",
    db_now_ns!(),
    " RETURNING epoch"
);
const GIVE_BACK: &str = "UPDATE lease SET expires_at_ns = 0 WHERE one = 1 AND epoch = $1";
const END_SESSIONS: &str = "
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = $1 AND pid <> pg_backend_pid()
";
const LEASE_NS: i64 = 10_000_000_000;
/// Three renewals fit into a lease.
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// Between tries to renew while the database does not answer.
const RETRY_EVERY: Duration = Duration::from_millis(500);
/// Of a base that stands by.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// For an answer of the database.
const ANSWER_MAX: Duration = Duration::from_millis(2_500);

//! Bases that stand by for each other: each waits for the lease of the ledger, and has a term when
//! it has it.
//!
//! ```text
//! standby (503, says who is the base) --lease--> reads the ledger --> term --lost--> standby
//!    '--signal--> end                                                   '--signal--> given back
//! ```
//! A base that has lost its lease ends its streams and stands by again; it needs no restart.
//! Invariant: what was done in one term has ended before the next lease is taken.
//! Bound: `FIRST_ANSWER_MAX` until a base that waits answers that it does.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::super::{RunError, system};
use super::term::{self, Ended, Office};
use super::{Site, unopened};
use crate::http::{self, jobs};
use crate::ledger::lease::{Candidate, Lease, LeaseState, Tenure};
use crate::ledger::{Database, Ledger};

/// Until a signal comes.
pub(super) async fn take(
    site: &Site,
    database: &Database,
    shutdown: watch::Receiver<bool>,
) -> Result<(), RunError> {
    let candidate = Candidate {
        addr: site.advertised.to_string(),
        base_key: site.keys.verify_key().to_string(),
    };
    let lease = Lease::start(database.clone(), candidate);
    let lease = lease.map_err(system("the thread of the lease does not start"))?;
    let result = terms(site, database, &lease, shutdown).await;
    let _panicked = spawn_blocking(move || lease.end()).await;
    result
}

async fn terms(
    site: &Site,
    database: &Database,
    lease: &Lease,
    shutdown: watch::Receiver<bool>,
) -> Result<(), RunError> {
    let mut is_announced = false;
    loop {
        let waited = wait(site, database, lease, shutdown.clone(), &mut is_announced);
        let Some((office, tenure)) = waited.await? else { return Ok(()) };
        let epoch = tenure.epoch();
        tracing::info!(code = "HE-I943", epoch = epoch.0, "this base has the ledger");
        let lost = lost(lease.state(), &tenure);
        let served = term::serve(site, office, &mut is_announced, shutdown.clone(), lost);
        match served.await {
            Ok(Ended::Stopped) => return Ok(()),
            Ok(Ended::Lost) => {}
            // Commits are refused then, and requests fail.
            Err(RunError::Ledger(_)) if tenure.is_over() => {}
            Err(error) => return Err(error),
        }
        lease.wound_up(epoch);
    }
}

/// Answers that this base stands by, until it has the lease and has read the ledger; `None` when a
/// signal comes first.
async fn wait(
    site: &Site,
    database: &Database,
    lease: &Lease,
    mut shutdown: watch::Receiver<bool>,
    is_announced: &mut bool,
) -> Result<Option<(Office, Tenure)>, RunError> {
    let mut state = lease.state();
    let mut first = state.clone();
    // A lease that is free is had at once.
    let answered = first.wait_for(|state| !matches!(state, LeaseState::Unreachable(_)));
    // What it gives keeps the lease's thread from saying more.
    drop(timeout(FIRST_ANSWER_MAX, answered).await);
    let opening = open(site, database, lease);
    let mut opening = std::pin::pin!(opening);
    if let Ok(opened) = timeout(FIRST_ANSWER_MAX, &mut opening).await {
        return opened.map(Some);
    }
    let said = say(&state.borrow_and_update());
    if !std::mem::replace(is_announced, true) {
        site.announce(Some(&said));
    }
    let (end, ended) = watch::channel(false);
    let base_key = site.keys.verify_key().to_string();
    let serving = http::serve_standby(
        site.listener()?,
        site.tls()?,
        jobs::standby::router(state.clone(), base_key),
        ended,
    );
    let mut serving = std::pin::pin!(serving);
    let opened = loop {
        tokio::select! {
            served = &mut serving => {
                served.map_err(system("the listener failed"))?;
                return Ok(None);
            }
            opened = &mut opening => break opened.map(Some),
            _ = shutdown.wait_for(|stop| *stop) => break Ok(None),
            Ok(()) = state.changed() => {
                say(&state.borrow_and_update());
            }
        }
    };
    end.send_replace(true);
    serving.await.map_err(system("the listener failed"))?;
    opened
}

/// Waits for the lease, then reads the ledger.
async fn open(
    site: &Site,
    database: &Database,
    lease: &Lease,
) -> Result<(Office, Tenure), RunError> {
    let mut state = lease.state();
    loop {
        let tenure = {
            let state = state.wait_for(|state| {
                matches!(state, LeaseState::Refused(_))
                    || matches!(state, LeaseState::Held(tenure) if !tenure.is_over())
            });
            match &*state.await.map_err(|error| RunError::Ledger(error.to_string()))? {
                LeaseState::Held(tenure) => tenure.clone(),
                LeaseState::Refused(error) => return Err(unopened(error)),
                LeaseState::Unreachable(_) | LeaseState::Standby { .. } => continue,
            }
        };
        let (database, held) = (database.clone(), tenure.clone());
        match term::open(site, move || Ledger::open_database(&database, &held)).await {
            Ok(office) => return Ok((office, tenure)),
            // Another base is faster than a ledger is read.
            Err(RunError::Ledger(_)) if !tenure.is_held() => lease.wound_up(tenure.epoch()),
            Err(error) => return Err(error),
        }
    }
}

/// The lease of this term is another's, or may be.
async fn lost(mut state: watch::Receiver<LeaseState>, tenure: &Tenure) {
    let is_lost = |state: &LeaseState| match state {
        LeaseState::Held(held) => held.epoch() != tenure.epoch(),
        _ => true,
    };
    let _thread_gone = state.wait_for(is_lost).await;
}

/// Tells the operator for whom this base stands by.
fn say(state: &LeaseState) -> String {
    match state {
        LeaseState::Standby { active, epoch } => {
            let epoch = epoch.0;
            tracing::info!(code = "HE-I944", active, epoch, "this base stands by");
            format!("the base at {active} has the ledger")
        }
        LeaseState::Unreachable(why) => {
            let fix = "this base waits for it";
            tracing::warn!(
                code = "HE-W949",
                why,
                fix,
                "the database of the ledger does not answer"
            );
            format!("the database does not answer: {why}")
        }
        LeaseState::Held(_) => "it has the lease, and reads the ledger".to_owned(),
        LeaseState::Refused(error) => error.to_string(),
    }
}

/// Longer than a database on the same network takes for the first answer.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(1);

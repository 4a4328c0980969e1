//! A term: what a base does while it has the ledger, from its first row to its last commit.
//!
//! Invariant: the clerk has ended before a term is over, so whoever has the ledger next reads all
//! that was acknowledged.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::super::{RunError, system};
use super::archive::Archive;
use super::callbacks::Sender;
use super::hooks::Hooks;
use super::tend::{self, Sent};
use super::{Site, unopened};
use crate::config::limits::LimitsConfig;
use crate::dist::book::Book;
use crate::dist::ids::{BaseEpoch, ContentId};
use crate::dist::rows::Rows;
use crate::dist::wire::job::{JobState, NodeState};
use crate::http::ctp::Ctp;
use crate::http::{self, Bearers, Intake, Retired, jobs, peer};
use crate::ledger::clerk::{self, Clerk, ClerkThread};
use crate::ledger::{Ledger, LedgerError};
use crate::metrics::distribution::DistributionCells;
use crate::store::{Store, StoreKey, Upload};

/// The clerk of a term, at work.
pub(super) struct Office {
    clerk: Clerk,
    thread: ClerkThread,
    epoch: BaseEpoch,
    /// Whole contents that open jobs need.
    needed: BTreeSet<ContentId>,
}

/// How a term ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// A signal came.
    Stopped,
    /// Another base has the ledger, or may have it.
    Lost,
}

/// Reads the ledger, and starts the clerk.
pub(super) async fn open(
    site: &Site,
    open: impl FnOnce() -> Result<(Ledger, Rows), LedgerError> + Send + 'static,
) -> Result<Office, RunError> {
    let (keys, mut options) = (site.keys.clone(), site.options());
    let opening = spawn_blocking(move || {
        let (ledger, rows) = open().map_err(|error| unopened(&error))?;
        let (epoch, needed) = (ledger.epoch(), needed(&rows));
        options.epoch = epoch;
        let book = Book::new(rows, keys, options, clerk::now());
        let started = Clerk::start(ledger, book);
        let (clerk, thread) = started.map_err(system("the clerk does not start"))?;
        Ok(Office { clerk, thread, epoch, needed })
    });
    opening.await.map_err(|error| RunError::Ledger(error.to_string()))?
}

/// Serves until `shutdown`, or until `lost` is there. Then the last commit is done. The start-up
/// text is written first, unless it was before.
pub(super) async fn serve(
    site: &Site,
    office: Office,
    is_announced: &mut bool,
    shutdown: watch::Receiver<bool>,
    lost: impl Future<Output = ()>,
) -> Result<Ended, RunError> {
    let Office { clerk, thread, epoch, needed } = office;
    let contents = open_contents(site, &clerk, needed).await;
    let served = match contents {
        Ok(store) => {
            if !std::mem::replace(is_announced, true) {
                site.announce(None);
            }
            serve_with(site, &clerk, epoch, store, shutdown, lost).await
        }
        Err(error) => Err(error),
    };
    let _panicked = spawn_blocking(move || thread.end()).await;
    served
}

/// Opens the folder of contents, and brings it in line with the ledger.
async fn open_contents(
    site: &Site,
    clerk: &Clerk,
    needed: BTreeSet<ContentId>,
) -> Result<Store, RunError> {
    let opened = Store::open(&site.data.contents(), StoreKey::Signs(site.keys.clone()));
    let (store, recovered) = opened.map_err(system("the folder of contents"))?;
    tend::say_missing(needed, &recovered);
    tend::reconcile(clerk, &store, recovered).await?;
    Ok(store)
}

async fn serve_with(
    site: &Site,
    clerk: &Clerk,
    epoch: BaseEpoch,
    store: Store,
    shutdown: watch::Receiver<bool>,
    lost: impl Future<Output = ()>,
) -> Result<Ended, RunError> {
    let base_key = site.keys.verify_key().to_string();
    let cells = Arc::new(DistributionCells::default());
    let sent = Arc::new(Sent::new(Arc::clone(&cells)));
    let bearers = bearers(site, clerk).await?;
    let access = jobs::auth::Access::new(site.tokens.providers.clone(), site.tokens.join);
    let state = jobs::JobsState {
        clerk: clerk.clone(),
        access: access.clone(),
        base_key,
        cells: Arc::clone(&cells),
        epoch,
        signer: site.certificates.as_ref().map(|certificates| certificates.signer()),
        bearers: bearers.clone(),
    };
    let noted = Arc::clone(&sent);
    let up_rate = site.config.up_rate.clone();
    let upload = Upload::new(up_rate.at(clerk::now().utc_ns));
    let shared = upload.clone();
    clerk.on_share(Box::new(move |job, share| shared.set_share(job, share)));
    let source = peer::PeerState::new(peer::PeerOptions {
        store: store.clone(),
        children_max: CHILDREN_MAX,
        fits_uplink: false,
        upload: upload.clone(),
        sent: Arc::new(move |content, bytes| noted.add(content, bytes)),
        bearers,
    });
    let uploads = Ctp::new(access, clerk.clone(), store.clone(), Arc::clone(&cells));
    let routers = [jobs::router(state), http::ctp::router(Arc::new(uploads)), peer::router(source)];
    let (end, ended) = watch::channel(false);
    let uplink = tend::Uplink { schedule: up_rate, upload };
    let hook = site.config.repair_hook.as_deref();
    let hooks = hook.map(|command| Hooks::new(command, clerk.clone()));
    let tended = tend::each_second(clerk.clone(), store, sent, (uplink, hooks), ended.clone());
    tokio::spawn(tended);
    let sender = Sender::new(clerk.clone(), site.config.webhook_allow.clone());
    tokio::spawn(sender.run(ended.clone()));
    let archive = Archive::new(clerk.clone(), site.data.events(), site.config.keep_events);
    tokio::spawn(archive.run(site.config.archive_every, ended.clone()));
    let intake = Intake::of_distribution(&LimitsConfig::default());
    let serving = http::serve_distribution(site.listener()?, site.tls()?, routers, intake, ended);
    let mut serving = std::pin::pin!(serving);
    let mut stopping = shutdown;
    let over = tokio::select! {
        served = &mut serving => {
            served.map_err(system("the listener failed"))?;
            return Ok(Ended::Stopped);
        }
        () = stopped(&mut stopping) => Ok(Ended::Stopped),
        () = lost => Ok(Ended::Lost),
        () = clerk_ended(clerk) => {
            Err(RunError::Ledger("the ledger cannot be written; the log says why".to_owned()))
        }
    };
    end.send_replace(true);
    serving.await.map_err(system("the listener failed"))?;
    over
}

/// Who may use what names a node: none that was retired.
async fn bearers(site: &Site, clerk: &Clerk) -> Result<Bearers, RunError> {
    if site.certificates.is_none() {
        return Ok(Bearers::Anyone);
    }
    let nodes = clerk.ask(|book, _| book.nodes()).await;
    let nodes = nodes.map_err(|error| RunError::Ledger(error.to_string()))?;
    let retired = Retired::default();
    for node in nodes.into_iter().filter(|node| node.state == NodeState::Retired) {
        retired.add(node.node);
    }
    Ok(Bearers::Certified(retired))
}

/// The clerk has ended by itself.
async fn clerk_ended(clerk: &Clerk) {
    let mut events = clerk.events();
    while events.changed().await.is_ok() {}
}

/// A sender that is gone asks to stop as well.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _sender_gone = shutdown.wait_for(|stop| *stop).await;
}

/// Whole contents of jobs that have not ended.
fn needed(rows: &Rows) -> BTreeSet<ContentId> {
    let is_open = |state| matches!(state, JobState::Open | JobState::Closing);
    let open: BTreeSet<_> =
        rows.jobs.iter().filter(|job| is_open(job.state)).map(|job| job.id).collect();
    let whole = rows.contents.iter().filter(|content| {
        content.blake3.is_some() && !content.is_abandoned && open.contains(&content.key.job)
    });
    whole.map(|content| content.id).collect()
}

/// Nodes that fetch from the base at once. The plan gives it fewer; it is everyone's last source.
const CHILDREN_MAX: usize = 64;

//! The control thread: HTTP for operators, signals, and what is looked at now and then.
//!
//! ```text
//!  SIGTERM --> shards: BYE, the end      SIGHUP --> configuration      (when it serves)
//! ```
//! A stop is heard from the start on: before the opening it ends a process that takes over. Behind
//! it such a process reads its configuration once more: the process before may have been told to
//! read a newer one since this one started.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::watch;

use super::end::End;
use super::opening::{Opening, Stop, opened};
use super::reload::push_patiently;
use super::signals::{self, EarlyHangup};
use super::view::View;
use super::{RunError, system};
use crate::cli;
use crate::http::operators::Operators;
use crate::http::{self, ApplianceView, Intake};
use crate::poll::poller::Poller;
use crate::shard::inbox::{Inbox, Message};

/// The control thread, with signals that stop the shards: the first asks, a second insists; and
/// with SIGHUP, which has the configuration file read again.
pub(super) fn start(
    (admin, operators, intake): (TcpListener, Operators, Intake),
    view: &Arc<View>,
    shutdown: watch::Receiver<bool>,
    poller: &Arc<Poller<Inbox>>,
    (end, early, opening): (End, EarlyHangup, Opening),
) -> Result<JoinHandle<()>, RunError> {
    let is_open = opening.watch();
    if !*is_open.borrow() && view.is_reloadable() {
        early.note();
    }
    let intake = intake.during(opening.watch());
    let drained = end_when_drained(Arc::clone(view), Arc::clone(poller), end.clone());
    let poller = Arc::clone(poller);
    let mut is_stopping = false;
    let on_stop = signals::on_stop(move |signal| {
        if std::mem::replace(&mut is_stopping, true) {
            cli::log::flush();
            std::process::exit(1);
        }
        let signal = signal.as_str();
        let on_closed = || {
            tracing::info!(code = "HE-I417", signal, "stopped before it has taken over");
            cli::log::flush();
            std::process::exit(0);
        };
        let stop = opening.stop(on_closed);
        tracing::info!(code = "HE-I401", signal, "stopping: BYE to all, then the end");
        if stop == Stop::Now {
            end.limit();
            stop_shards(&poller);
        }
    });
    let reloads = Arc::clone(view);
    let on_hangup = signals::on_hangup(early, move || {
        if reloads.is_reloadable() {
            // What it says is in the log.
            drop(reloads.reload());
        } else if reloads.reload_certificate() {
            // The same.
        } else {
            let fix = "start with -c FILE to have a configuration that can be read again";
            tracing::warn!(code = "HE-W403", fix, "SIGHUP: there is no configuration file to read");
        }
    });
    let watch = view.watch_certificate();
    let balance = view.balance();
    let owner = Arc::clone(view);
    let signals = async move {
        let when_open = async {
            if opened(is_open).await {
                // What it says is in the log.
                let _panicked = tokio::task::spawn_blocking(move || owner.own_files()).await;
                tokio::join!(on_hangup, watch, drained, balance);
            }
        };
        tokio::join!(on_stop, when_open);
    };
    let view: Arc<dyn ApplianceView> = Arc::clone(view) as _;
    let served = http::spawn(admin, (view, operators), intake, shutdown, signals);
    served.map_err(system("the control thread does not start"))
}

/// Stops the shards when the server is drained and its order says so.
async fn end_when_drained(view: Arc<View>, poller: Arc<Poller<Inbox>>, end: End) {
    view.until_exit().await;
    end.limit();
    stop_shards(&poller);
}

pub(super) fn stop_shards(poller: &Poller<Inbox>) {
    for inbox in poller.inboxes() {
        // A shard that does not read its inbox does not stop either.
        let _hangs = push_patiently(inbox, Message::Stop);
    }
}

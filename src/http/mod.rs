//! HTTP for operators, Prometheus and scripts, on one thread: the control thread.
//!
//! ```text
//! server (connections) -> operators (who may ask) -> admin (API, metrics) -> ApplianceView
//!                                  |                                          |   ^
//!                                  |          shards <------- inboxes --------+   | oneshot
//!                                  |              +-------------------------------+
//!                                  `-> dashboard (page, feed) -> cells of shards
//! ```
//! Each kind of client has a room of its own: `admin` for operators of an appliance, `dashboard`
//! for their browsers; `jobs` for clients and nodes of a base. They share `server`, which listens,
//! and `problem` for errors (RFC 9457); rooms of a base share `clerk`, which asks its book. A base
//! runs on a runtime of its own, see [`serve_distribution`].
//! Invariant: no request blocks the thread. An answer that does not come in time is a 503, and a
//! folder is listed on a thread of its own.
//! Bounds: connections in `server`, page sizes in `admin::paging`, one second for a
//! shard to answer. Only this room names axum.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use axum::Router;
use tokio::sync::watch;

mod admin;
mod caller;
mod clerk;
pub mod ctp;
mod dashboard;
pub mod hls;
pub mod jobs;
pub mod operators;
mod origin;
pub mod peer;
mod problem;
mod server;
mod slow;
pub mod view;
mod word;

pub use caller::{Bearers, Retired};
pub use dashboard::feeds_max;
pub use server::{Intake, Remote, Tls};
pub use view::{
    ApplianceView, DrainRequest, DrainState, LogLine, Reload, ReloadError, ReloadReport, TitleEntry,
};

use crate::config::limits::LimitsConfig;
use admin::Api;
use dashboard::Feed;
use operators::Operators;
use problem::Problem;

/// Starts the thread, which runs `beside` too: what waits for signals. It ends when `shutdown`
/// becomes true or its sender is gone; requests in progress then get one more second.
///
/// # Errors
/// When the runtime or the thread cannot be made.
pub fn spawn(
    listener: TcpListener,
    (view, operators): (Arc<dyn ApplianceView>, Operators),
    intake: Intake,
    shutdown: watch::Receiver<bool>,
    beside: impl Future<Output = ()> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let api = Api::new(view, SHARD_ANSWER_TIMEOUT).map_err(io::Error::other)?;
    spawn_api(listener, (api, operators), intake, shutdown, beside)
}

/// Serves the routes of a base, or of a source of contents, on the runtime that this is awaited on,
/// with TLS or, where `tls` is none, without. It ends when `shutdown` becomes true or its sender is
/// gone.
///
/// # Errors
/// The listener cannot be used.
pub async fn serve_distribution(
    listener: TcpListener,
    tls: Option<Tls>,
    routers: impl IntoIterator<Item = Router>,
    intake: Intake,
    shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let router = routers.into_iter().fold(Router::new(), Router::merge);
    let router = router
        .fallback(async || Problem::not_found("no such resource"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(axum::middleware::from_fn(jobs::check_origin));
    server::serve(listener, tls, router, intake, shutdown).await
}

/// Serves what a base answers while another one has the ledger, as [`serve_distribution`] does.
///
/// # Errors
/// The listener cannot be used.
pub async fn serve_standby(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let router = router.layer(axum::middleware::from_fn(jobs::check_origin));
    let intake = Intake::of_distribution(&LimitsConfig::default());
    server::serve(listener, tls, router, intake, shutdown).await
}

fn spawn_api(
    listener: TcpListener,
    (api, operators): (Api, Operators),
    intake: Intake,
    shutdown: watch::Receiver<bool>,
    beside: impl Future<Output = ()> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("control-io")
        .build()?;
    Builder::new().name("control".into()).spawn(move || {
        let served = runtime.block_on(async move {
            tokio::spawn(beside);
            let feed = Feed::new(shutdown.clone(), feeds_max(intake.connections_max()));
            tokio::spawn(feed.clone().sample(api.cells()));
            server::serve(listener, None, routes(api, feed, operators), intake, shutdown).await
        });
        if let Err(error) = served {
            tracing::error!(code = "HE-E401", %error, "the admin listener failed");
        }
        // A listing of a folder that hangs (a network file system) must not hold up the end.
        runtime.shutdown_background();
    })
}

/// Everything of the port. Who may ask is checked before any route.
fn routes(api: Api, feed: Feed, operators: Operators) -> Router {
    admin::routes(api)
        .merge(dashboard::routes(feed))
        .fallback(async || Problem::not_found("no such resource; GET / lists them"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(axum::middleware::from_fn(dashboard::answer_browsers))
        .layer(axum::middleware::from_fn_with_state(operators, operators::check))
}

/// A shard's turn takes milliseconds; one that has not answered after this is stuck.
const SHARD_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Threads that may list folders at once; more requests wait for them.
const BLOCKING_THREADS_MAX: usize = 2;

#[cfg(test)]
mod tests;

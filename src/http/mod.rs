//! The control thread: HTTP for operators, Prometheus and scripts.
//!
//! ```text
//! operator --HTTP/1.1--> control thread (tokio) --inboxes--> shards
//!                              <------ oneshot ------
//! ```
//! The only room that names axum. It asks the appliance through [`ApplianceView`] and
//! never blocks: an answer that does not come in time is a 503, a folder is listed on a thread of
//! its own. Bounds: `server::CONNECTIONS_MAX` connections, page sizes in `admin`, one second for a
//! shard to answer. Errors are RFC 9457 problem details.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;

mod admin;
mod origin;
mod problem;
mod server;
pub mod view;

pub use admin::reload::{Reload, ReloadError, ReloadReport};
pub use view::{ApplianceView, TitleEntry};

use admin::Api;

/// Starts the thread. It ends when `shutdown` becomes true or its sender is gone; requests in
/// progress then get one more second.
///
/// # Errors
/// When the runtime or the thread cannot be made.
pub fn spawn(
    listener: TcpListener,
    view: Arc<dyn ApplianceView>,
    shutdown: watch::Receiver<bool>,
) -> io::Result<JoinHandle<()>> {
    spawn_with(listener, view, shutdown, std::future::ready(()))
}

/// Like [`spawn`], and runs `beside` on the same thread: what waits for signals.
///
/// # Errors
/// When the runtime or the thread cannot be made.
pub fn spawn_with(
    listener: TcpListener,
    view: Arc<dyn ApplianceView>,
    shutdown: watch::Receiver<bool>,
    beside: impl Future<Output = ()> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let api = Api::new(view, SHARD_ANSWER_TIMEOUT).map_err(io::Error::other)?;
    spawn_api(listener, api, shutdown, beside)
}

fn spawn_api(
    listener: TcpListener,
    api: Api,
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
            server::serve(listener, admin::router(api), shutdown).await
        });
        if let Err(error) = served {
            tracing::error!(code = "HE-E401", %error, "the admin listener failed");
        }
        // A listing of a folder that hangs (a network file system) must not hold up the end.
        runtime.shutdown_background();
    })
}

/// A shard's turn takes milliseconds; one that has not answered after this is stuck.
const SHARD_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Threads that may list folders at once; more requests wait for them.
const BLOCKING_THREADS_MAX: usize = 2;

#[cfg(test)]
mod tests;

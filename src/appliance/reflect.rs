//! Live paths that the agent of a node adds to the server, and what the agent sees of them.
//!
//! ```text
//! agent --set, remove--> Reloader: table of the file + added paths --> every shard
//!       --look---------> shard of the path's owner --> who feeds it, how much has come
//! ```
//! Invariant: what is seen of a path is what its owner's shard, which has its relay, says at one
//! time. Bound: `PAGES_MAX` pages of an answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::view::View;
use crate::agent::live::{ServerPaths, SetPathError};
use crate::config::added_paths::GivenPath;
use crate::dist::reflect::Sight;
use crate::http::ApplianceView as _;
use crate::live::core::failover::{FailoverInfo, FailoverSource};
use crate::live::core::info::{PathInfo, PathsPlace, merge};

/// The server, as the agent of a node sees it.
#[derive(Debug, Clone)]
pub(super) struct Reflector {
    view: Arc<View>,
}

impl Reflector {
    pub(super) fn new(view: Arc<View>) -> Self {
        Self { view }
    }

    /// A path, as the shard of its owner knows it.
    async fn info(&self, path: &str) -> Option<PathInfo> {
        let shard = self.view.owner_of_path(path)?;
        let (mut parts, mut from) = (Vec::new(), PathsPlace::default());
        for _ in 0..PAGES_MAX {
            let page = self.view.request_paths(shard, Some(path), from)?.await.ok()?;
            parts.extend(page.parts);
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
        merge(parts).into_iter().find(|info| info.owner.path == path)
    }

    /// What of a path matters to the agent.
    async fn sight(&self, path: String) -> Option<Sight> {
        let info = self.info(&path).await?;
        let source = info.source.as_ref();
        let (packets, bytes) = source.map_or((0, 0), |source| (source.packets, source.bytes));
        let Some(FailoverInfo { active, last_switch, sources, .. }) = info.failover else {
            let reason = info.owner.reason;
            return Some(Sight { packets, bytes, reason, ..Sight::default() });
        };
        let reason = match &active {
            Some(_) => None,
            None => self.reason(&sources).await,
        };
        Some(Sight {
            active: active.and_then(|active| self.view.added_url(&path, &active)),
            is_better: last_switch.is_some_and(|last| last.cause == "better"),
            packets,
            bytes,
            reason: reason.or(info.owner.reason),
        })
    }

    /// Why none of the sources feeds a path, the first one first: what the path of each says.
    async fn reason(&self, sources: &[FailoverSource]) -> Option<String> {
        let mut reasons = Vec::new();
        for source in sources {
            let own = self.info(&source.path).await.and_then(|info| info.owner.reason);
            if let Some(reason) = own.or_else(|| source.reason.clone()) {
                reasons.push(format!("{}: {reason}", source.name));
            }
        }
        Some(reasons.join("; ")).filter(|reason| !reason.is_empty())
    }
}

impl ServerPaths for Reflector {
    fn set(&self, path: &str, given: &GivenPath) -> Result<(), SetPathError> {
        self.view.add_path(path, given)
    }

    fn remove(&self, path: &str) {
        self.view.remove_path(path);
    }

    fn look(&self, path: &str) -> Pin<Box<dyn Future<Output = Option<Sight>> + Send>> {
        let (server, path) = (self.clone(), path.to_owned());
        Box::pin(async move { server.sight(path).await })
    }

    fn is_published(&self, path: &str) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        let (server, path) = (self.clone(), path.to_owned());
        // The publisher itself may be on any shard.
        Box::pin(
            async move { server.info(&path).await.is_some_and(|info| info.owner.state == "live") },
        )
    }
}

/// A path with readers has some; all fit on a few.
const PAGES_MAX: usize = 1_000;

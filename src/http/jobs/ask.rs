//! Questions of clients: who asks, the book's answer, its refusal.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::Jobs;
use super::auth::ClientName;
use crate::dist::book::{Book, Refusal};
use crate::http::clerk;
use crate::http::problem::Problem;

/// A client with a token that counts; others are refused before a handler runs.
pub(super) struct Asker {
    pub(super) jobs: Arc<Jobs>,
    pub(super) client: ClientName,
}

impl FromRequestParts<Arc<Jobs>> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, jobs: &Arc<Jobs>) -> Result<Self, Problem> {
        let client = jobs.access.client(&parts.headers)?;
        Ok(Self { jobs: Arc::clone(jobs), client })
    }
}

impl Asker {
    /// Asks the book for what every client may see.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Book) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        clerk::ask(&self.jobs.clerk, move |book, _| f(book)).await
    }

    /// Looks in the book for what this client may see, or may not.
    pub(super) async fn own<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Book, &str) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Problem> {
        let client = self.client.clone();
        clerk::try_look(&self.jobs.clerk, move |book| f(book, client.as_str())).await
    }
}

//! Keys of tokens: read from a file, or fetched, and kept.
//!
//! ```text
//! file   looked at again `FILE_AGE` after it was read
//! URL    fetched again after `URL_AGE`, and when a token names a key that is not there: at most
//!        every `AGAIN`
//! ```
//! Keys that were there stay when newer ones cannot be had. One look at a time, and others wait for
//! it. Bounds: `BYTES_MAX`, `SOURCES_MAX`.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::hooks::Hooks;
use crate::access::jwt::{Keys, TokenError};
use crate::access::question::{Answer, Question};
use crate::base::secret::Secret;
use crate::config::access::JwksSource;
use crate::sandbox;

/// Keys by where they come from.
#[derive(Debug, Default)]
pub(super) struct KeyRing {
    sets: Mutex<Vec<Set>>,
}

#[derive(Debug)]
struct Set {
    source: JwksSource,
    keys: Option<Arc<Keys>>,
    looked: Instant,
}

impl KeyRing {
    /// What a token says of its bearer.
    pub(super) async fn check(
        &self,
        question: &Question,
        token: &Secret,
        hooks: &Hooks,
        now_s: i64,
    ) -> Answer {
        let auth = &question.access.auth;
        let Some(source) = &auth.jwks else { return Answer::Unknown };
        let wanted = (question.action, &*question.path);
        let mut max_age = None;
        loop {
            let Some(keys) = self.keys(source, max_age, auth.webhook_timeout, hooks).await else {
                return Answer::Unavailable;
            };
            let error = match keys.check(token.expose(), auth, wanted, now_s) {
                Ok(allowed) => return Answer::Allowed(allowed),
                Err(error) => error,
            };
            // Its issuer may have begun to use a new key.
            if error == TokenError::UnknownKey && max_age.is_none() {
                max_age = Some(AGAIN);
                continue;
            }
            tracing::debug!(%error, path = %question.path, "a token is refused");
            return match error {
                TokenError::NotAllowed => Answer::Forbidden,
                _ => Answer::Wrong,
            };
        }
    }

    /// The keys of a source, no older than that.
    async fn keys(
        &self,
        source: &JwksSource,
        max_age: Option<Duration>,
        timeout: Duration,
        hooks: &Hooks,
    ) -> Option<Arc<Keys>> {
        let mut sets = self.sets.lock().await;
        let usual = match source {
            JwksSource::File(_) => FILE_AGE,
            JwksSource::Url(_) => URL_AGE,
        };
        let found = sets.iter().position(|set| set.source == *source);
        if let Some(set) = found.and_then(|at| sets.get(at)) {
            // Without keys it is tried again soon.
            let usual = if set.keys.is_some() { usual } else { RETRY };
            if set.looked.elapsed() < max_age.unwrap_or(usual) {
                return set.keys.clone();
            }
        }
        let read = look(source, timeout, hooks).await;
        let fresh = read.map_err(|why| {
            tracing::warn!(
                code = "HE-W509", %source, why,
                "keys of tokens cannot be had; those that were there stay"
            );
        });
        let old = found.map(|at| sets.remove(at)).and_then(|set| set.keys);
        let keys = fresh.ok().map(Arc::new).or(old);
        if sets.len() >= SOURCES_MAX {
            sets.remove(0);
        }
        sets.push(Set { source: source.clone(), keys: keys.clone(), looked: Instant::now() });
        keys
    }
}

async fn look(source: &JwksSource, timeout: Duration, hooks: &Hooks) -> Result<Keys, String> {
    let bytes = match source {
        JwksSource::Url(url) => hooks.fetch(url, timeout, BYTES_MAX).await?,
        JwksSource::File(path) => {
            let path = path.clone();
            let read = spawn_blocking(move || {
                let mut bytes = Vec::new();
                let file =
                    File::open(&path).map_err(|error| sandbox::why(path.as_ref(), &error))?;
                let read = file.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
                read.map(|_| bytes).map_err(|error| error.to_string())
            });
            read.await.map_err(|error| error.to_string())??
        }
    };
    if bytes.len() > BYTES_MAX {
        return Err(format!("it has more than {BYTES_MAX} bytes"));
    }
    Keys::read(&bytes).map_err(|error| error.to_string())
}

const FILE_AGE: Duration = Duration::from_secs(5);
const URL_AGE: Duration = Duration::from_secs(600);
/// Strangers can name keys that are not there.
const AGAIN: Duration = Duration::from_secs(30);
/// While there are none.
const RETRY: Duration = Duration::from_secs(2);
/// Sixty-four keys with their certificates.
const BYTES_MAX: usize = 1 << 20;
/// The one of the configuration, and those before it.
const SOURCES_MAX: usize = 4;

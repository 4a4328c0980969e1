//! Asks webhooks: a POST each, with a deadline, and their answers kept for a time.
//!
//! Redirects are not followed. An answer to the same question counts for `auth.webhook_cache`; that
//! none came is not kept. Bound: `ANSWERS_MAX`.

use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::redirect::Policy;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use super::cache::Cache;
use crate::access::question::{Answer, Question};
use crate::access::webhook;
use crate::base::seldom::Seldom;
use crate::base::time::Mono;
use crate::config::access::HookUrl;
use crate::pki::tls;
use crate::pki::trust::Trust;

/// What asks.
#[derive(Debug)]
pub(super) struct Hooks {
    http: OnceCell<reqwest::Client>,
    answers: Mutex<Cache<Answer>>,
    since: Instant,
    failures: Mutex<Seldom>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            http: OnceCell::new(),
            answers: Mutex::new(Cache::new(ANSWERS_MAX)),
            since: Instant::now(),
            failures: Mutex::default(),
        }
    }
}

impl Hooks {
    /// What the webhook says of a client.
    pub(super) async fn ask(&self, question: &Question, url: &HookUrl, now_s: i64) -> Answer {
        let body = webhook::body(question).to_string();
        let mut hasher = blake3::Hasher::new();
        hasher.update(url.expose().as_bytes()).update(b"\0").update(body.as_bytes());
        let key = *hasher.finalize().as_bytes();
        if let Some(answer) = self.answers().find(&key, Instant::now()) {
            return answer;
        }
        let auth = &question.access.auth;
        let until_s = now_s.saturating_add(auth.webhook_cache.as_secs().try_into().unwrap_or(0));
        let asked = self.post(url, body, auth.webhook_timeout).await;
        let why = match asked {
            Ok(status) => match webhook::answer(status, question, until_s) {
                Some(answer) => {
                    self.answers().keep(key, answer.clone(), Instant::now(), auth.webhook_cache);
                    return answer;
                }
                None => format!("HTTP {status}"),
            },
            Err(why) => why,
        };
        self.note_failure(url, &why);
        webhook::without_answer(auth.webhook_failure, until_s)
    }

    async fn post(&self, url: &HookUrl, body: String, timeout: Duration) -> Result<u16, String> {
        let http = self.client().await?;
        let request = http
            .post(url.expose())
            .header("content-type", "application/json")
            .timeout(timeout)
            .body(body);
        let answer = request.send().await.map_err(|error| cause(error, timeout))?;
        Ok(answer.status().as_u16())
    }

    /// Fetches a document, of so many bytes at most.
    pub(super) async fn fetch(
        &self,
        url: &HookUrl,
        timeout: Duration,
        bytes_max: usize,
    ) -> Result<Vec<u8>, String> {
        let http = self.client().await?;
        let answer = http.get(url.expose()).timeout(timeout).send().await;
        let mut answer = answer.map_err(|error| cause(error, timeout))?;
        if !answer.status().is_success() {
            return Err(format!("HTTP {}", answer.status().as_u16()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| cause(error, timeout))? {
            if bytes.len() + chunk.len() > bytes_max {
                return Err(format!("it has more than {bytes_max} bytes"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    async fn client(&self) -> Result<&reqwest::Client, String> {
        self.http.get_or_try_init(connections).await
    }

    fn answers(&self) -> MutexGuard<'_, Cache<Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_failure(&self, url: &HookUrl, why: &str) {
        let now = Mono(u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = failures.happened(now) {
            tracing::warn!(
                code = "HE-W508", %url, why, count,
                fix = "mend the receiver; auth.webhook_failure says what is done meanwhile",
                "the webhook does not say whether a client may"
            );
        }
    }
}

/// Receivers are believed by the CAs of this machine.
async fn connections() -> Result<reqwest::Client, String> {
    let roots = spawn_blocking(|| rustls_native_certs::load_native_certs().certs);
    let roots = roots.await.map_err(|error| error.to_string())?;
    let config = tls::client(&Trust::usable(roots), None).map_err(|error| error.to_string())?;
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .redirect(Policy::none())
        // The receiver is near: a proxy of the environment is for other things.
        .no_proxy()
        .user_agent(concat!("headend/", env!("CARGO_PKG_VERSION")))
        .build();
    http.map_err(|error| error.to_string())
}

/// The innermost cause, without the URL: there may be a secret in it.
fn cause(error: reqwest::Error, timeout: Duration) -> String {
    if error.is_timeout() {
        return format!("no answer within {timeout:?}");
    }
    let error = error.without_url();
    let mut cause: &dyn Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Different clients within the time that an answer is kept.
const ANSWERS_MAX: usize = 4_096;

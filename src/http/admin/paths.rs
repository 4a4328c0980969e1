//! Live paths in the HTTP API.
//!
//! ```text
//! GET  /v1/paths?q=&limit=&cursor=   sorted by name, page by page; with max_age_s= as it was so
//!                                    long ago at most
//! GET  /v1/paths/live/cam1           one path
//! POST /v1/paths/live/cam1:kick      ends its source and its readers
//! POST /v1/paths/live/cam1:switch    feeds it from another of its sources
//!                                    400 it has one alone   404 no such source   409 it is down
//!                                    429 too soon           504 no key frame in time
//! ../playlist, ../playlist:VERB      see `playlists`
//! ```
//! A name stands in the URL as it is, slashes and all; what a URL cannot hold is percent-encoded,
//! and slashes may be. Of a POST the part behind the last colon is the verb, so that names may have
//! colons too.
//!
//! What an owner does not know is gathered from all shards: the source's numbers, readers
//! elsewhere.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout};

use super::paging::{self, SESSIONS_PAGE, bad_query};
use super::patience::{Patience, shard_silent};
use super::playlists::Verb;
use super::watch_pages::WatchPages;
use super::{Api, Shared, playlists};
use crate::base::ids::ShardId;
use crate::base::names::without_empty_segments;
use crate::http::problem::Problem;
use crate::http::word::Word;
use crate::live::core::failover::{
    SWITCH_WAIT, SwitchError, SwitchReport, SwitchRequest, SwitchTo, Timing,
};
use crate::live::core::info::{PathInfo, PathPart, PathsPlace, merge};
use crate::live::sources::titles::schedule::edits::PlaylistEdit;
use crate::poll::poller::GUEST;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PathsQuery {
    q: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
    /// Seconds.
    max_age_s: Option<u64>,
}

/// The newest list of all paths. Pages that are open ask for it again and again: shards are asked
/// once for all of them. Nobody waits for more than one answer.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Option<Arc<Gathering>>>);

/// A list of all paths, or the question for it.
#[derive(Debug)]
struct Gathering {
    begun: Instant,
    list: OnceCell<Result<Arc<[PathInfo]>, Problem>>,
}

impl Recent {
    /// The question that is under way, or was answered with a list `max_age` ago at most; else a
    /// new one.
    fn gathering(&self, max_age: Duration) -> Arc<Gathering> {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_of_use = |gathering: &&Arc<Gathering>| match gathering.list.get() {
            None => true,
            Some(Ok(_)) => gathering.begun.elapsed() <= max_age,
            Some(Err(_)) => false,
        };
        if let Some(gathering) = newest.as_ref().filter(is_of_use) {
            return Arc::clone(gathering);
        }
        let new = Arc::new(Gathering { begun: Instant::now(), list: OnceCell::new() });
        Arc::clone(newest.insert(new))
    }
}

/// Live paths of all shards, sorted by name.
pub(super) async fn list(
    State(api): Shared,
    headers: HeaderMap,
    query: Result<Query<PathsQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(bad_query)?;
    let limit = SESSIONS_PAGE.limit(query.limit)?;
    let word = Word::read(query.q.as_ref())?;
    let all = all(&api, Duration::from_secs(query.max_age_s.unwrap_or(0))).await?;
    let is_found = |info: &&PathInfo| {
        let is_behind = query.cursor.as_ref().is_none_or(|cursor| *cursor < info.owner.path);
        is_behind && word.as_ref().is_none_or(|word| has_word(info, word))
    };
    let mut paths: Vec<&PathInfo> = all.iter().filter(is_found).collect();
    let next_cursor = paging::cut(&mut paths, limit, |info| &info.owner.path);
    let mut answer = json!({ "paths": paths, "next_cursor": next_cursor });
    WatchPages::new(&api, &headers).add_to(&mut answer["paths"], "path");
    Ok(Json(answer))
}

fn has_word(info: &PathInfo, word: &Word) -> bool {
    let source = info.source.as_ref();
    let of_source = source.map(|source| source.peer.as_str());
    let of_source = of_source.into_iter().chain(source.and_then(|source| source.url.as_deref()));
    word.is_in([info.owner.path.as_str(), info.owner.state].into_iter().chain(of_source))
}

/// All paths, as they were `max_age` ago at most. Who asks while somebody else's question is under
/// way has that answer too, or that refusal.
async fn all(api: &Api, max_age: Duration) -> Result<Arc<[PathInfo]>, Problem> {
    if max_age.is_zero() {
        return Ok(merge(parts(api, None).await?).into());
    }
    let gathering = api.recent_paths.gathering(max_age);
    let gather = || async { Ok(merge(parts(api, None).await?).into()) };
    gathering.list.get_or_init(gather).await.clone()
}

/// One live path, or its playlist. A path whose own name ends so is shown where the path in front
/// has no playlist.
pub(super) async fn show(
    State(api): Shared,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let Some(path) = playlists::path_of(&name) else {
        return Ok(Json(find(&api, &name).await?).into_response());
    };
    match playlists::show(&api, path).await {
        Ok(list) => Ok(Json(list).into_response()),
        Err(problem) => match find(&api, &name).await {
            Ok(path) => Ok(Json(path).into_response()),
            Err(_no_such_path) => Err(problem),
        },
    }
}

/// A path that was ended.
#[derive(Debug, Serialize)]
pub(super) struct Kicked {
    kicked: bool,
    /// As it was before.
    #[serde(flatten)]
    path: PathInfo,
}

/// What a POST asks to be done with a path.
pub(super) async fn act(
    State(api): Shared,
    Path(target): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let (name, verb) = target.rsplit_once(':').unwrap_or((&target, ""));
    let body = body.map_err(|error| Problem::bad_request(error.body_text()));
    match verb {
        "kick" => return Ok(Json(kick(&api, name).await?).into_response()),
        "switch" => {
            let done = switch(&api, name, read_switch(&body?)?).await?;
            return Ok(Json(done).into_response());
        }
        _ => {}
    }
    if let (Some(path), Some(verb)) = (playlists::path_of(name), Verb::parse(verb)) {
        return Ok(Json(playlists::act(&api, path, verb, &body?).await?).into_response());
    }
    Err(Problem::not_found(
        "no such verb; POST /v1/paths/NAME:kick ends a path's source, :switch changes it",
    ))
}

/// A DELETE takes an item out of a playlist.
pub(super) async fn end(
    State(api): Shared,
    Path(target): Path<String>,
) -> Result<Json<Value>, Problem> {
    match playlists::item_of(&target) {
        Some((path, number)) => {
            let edit = PlaylistEdit::Remove { number };
            playlists::edit(&api, path, edit).await.map(Json)
        }
        None => Err(Problem::not_found(
            "nothing to delete; DELETE /v1/paths/NAME/playlist/ITEM takes an item out of a playlist",
        )),
    }
}

/// Body of `:switch`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SwitchBody {
    to: String,
    #[serde(default)]
    at: SwitchAt,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SwitchAt {
    #[default]
    KeyFrame,
    Now,
}

fn read_switch(body: &[u8]) -> Result<SwitchRequest, Problem> {
    let SwitchBody { to, at } = serde_json::from_slice(body).map_err(|error| {
        let form = r#"{"to": "SOURCE", "at": "keyframe"}, or "now""#;
        Problem::bad_request(format!("the body is not like {form}: {error}"))
    })?;
    let to = if to == "auto" { SwitchTo::Auto } else { SwitchTo::Source(to) };
    let timing = match at {
        SwitchAt::KeyFrame => Timing::NextKeyFrame,
        SwitchAt::Now => Timing::Now,
    };
    Ok(SwitchRequest { to, timing })
}

/// Answered when the path is fed from the source, or when it is known that it will not be.
async fn switch(api: &Api, name: &str, request: SwitchRequest) -> Result<SwitchReport, Problem> {
    let name = without_empty_segments(name);
    let answer = api.view.switch_path(&name, request).ok_or_else(|| no_path(&name))?;
    match timeout(SWITCH_WAIT + api.answer_timeout, answer).await {
        Ok(Ok(done)) => done.map_err(|error| refused(&name, &error)),
        Ok(Err(_gone)) => Err(Problem::unavailable("the shard of this path is gone")),
        Err(_late) => Err(shard_silent()),
    }
}

fn refused(name: &str, error: &SwitchError) -> Problem {
    let detail = error.to_string();
    match error {
        SwitchError::NoPath => no_path(name),
        SwitchError::NoFallbacks => Problem::bad_request(detail),
        SwitchError::NoSource { .. } => Problem::not_found(detail),
        SwitchError::TooSoon { wait } => Problem::too_many(detail, *wait),
        SwitchError::NoKeyFrame { .. } => Problem::timed_out(detail),
        SwitchError::Idle
        | SwitchError::Down { .. }
        | SwitchError::Superseded
        | SwitchError::Ended => Problem::conflict(detail),
    }
}

/// A publisher is told and its connection closed, readers get BYE. What is fetched is fetched
/// again: at once when it always is, otherwise for the next reader.
async fn kick(api: &Api, name: &str) -> Result<Kicked, Problem> {
    let path = find(api, name).await?;
    let answer = api.view.kick_path(&path.owner.path).ok_or_else(|| no_path(name))?;
    match timeout(api.answer_timeout, answer).await {
        Ok(Ok(true)) => Ok(Kicked { kicked: true, path }),
        Ok(Ok(false)) => Err(no_path(name)),
        Ok(Err(_gone)) => Err(Problem::unavailable("the shard of this path is gone")),
        Err(_late) => Err(shard_silent()),
    }
}

async fn find(api: &Api, name: &str) -> Result<PathInfo, Problem> {
    let name = without_empty_segments(name);
    let found = merge(parts(api, Some(&name)).await?);
    found.into_iter().find(|info| info.owner.path == name).ok_or_else(|| no_path(&name))
}

/// What all shards know of all paths or of one, page by page. A shard that is gone knows nothing.
async fn parts(api: &Api, path: Option<&str>) -> Result<Vec<PathPart>, Problem> {
    let patience = Patience::new(api);
    let mut parts = Vec::new();
    for shard in (0..=u8::MAX).map(ShardId) {
        if !ask_shard(api, &patience, (shard, path), &mut parts).await? {
            break;
        }
    }
    // Viewers by WebRTC and HLS. Their thread has a lower priority: without its answer the list has
    // what shards know.
    let _silent = ask_shard(api, &patience, (GUEST, path), &mut parts).await;
    Ok(parts)
}

/// What one shard knows. False: there is no such shard.
async fn ask_shard(
    api: &Api,
    patience: &Patience,
    (shard, path): (ShardId, Option<&str>),
    parts: &mut Vec<PathPart>,
) -> Result<bool, Problem> {
    let mut next = Some(PathsPlace::default());
    // Bounded by `patience`.
    while let Some(from) = next {
        let Some(asked) = api.view.request_paths(shard, path, from) else { return Ok(false) };
        let page = patience.answer(asked).await?.unwrap_or_default();
        parts.extend(page.parts);
        next = page.next;
    }
    Ok(true)
}

fn no_path(name: &str) -> Problem {
    Problem::not_found(format!("no path `{name}`; GET /v1/paths lists them"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::task::yield_now;

    use super::*;

    type List = Result<Arc<[PathInfo]>, Problem>;

    /// One asked behind the other once, each for as long as a shard may take.
    #[tokio::test]
    async fn those_who_wait_for_the_list_have_one_answer_or_one_refusal() {
        let (recent, asked) = (&Recent::default(), &AtomicUsize::new(0));
        let ask = async |max_age, answer: &List| {
            let gather = || async {
                asked.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
                answer.clone()
            };
            recent.gathering(max_age).list.get_or_init(gather).await.clone()
        };
        let (minute, silent): (_, List) = (Duration::from_secs(60), Err(shard_silent()));
        let all = join_all((0..8).map(|_| ask(minute, &silent))).await;
        assert!(all.iter().all(|answer| *answer == silent));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let list: List = Ok(Arc::from([]));
        assert_eq!(ask(minute, &list).await, list, "a refusal is not kept");
        assert_eq!(ask(minute, &silent).await, list, "a list is");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert_eq!(ask(Duration::ZERO, &silent).await, silent, "it is too old");
    }
}

//! Playlists of live paths in the HTTP API.
//!
//! ```text
//! GET    /v1/paths/linear/playlist            the list, and what becomes of each item
//! POST   /v1/paths/linear/playlist:insert     {"title":"c.mp4","after":3,"at":"20:15:00"}
//! POST   /v1/paths/linear/playlist:skip       the next title begins at once
//! POST   /v1/paths/linear/playlist:remove     {"item":3}
//! DELETE /v1/paths/linear/playlist/3          the same
//! ```
//! An edit is carried out by the shard of the path. Then the list is kept for the next start, where
//! a folder for that is configured, and then the edit is answered; one whose client has gone is
//! kept as well.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Api;
use super::patience::shard_silent;
use crate::base::names::without_empty_segments;
use crate::config::daily::DailyTime;
use crate::config::playlist::{PlaylistItem, parse_title};
use crate::http::problem::Problem;
use crate::live::sources::titles::playlists::{PlaylistAnswer, PlaylistRefusal, PlaylistRequest};
use crate::live::sources::titles::schedule::edits::{EditError, InsertPlace, PlaylistEdit};

/// What a POST does to a playlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Insert,
    Skip,
    Remove,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Insertion {
    title: String,
    at: Option<String>,
    before: Option<u64>,
    after: Option<u64>,
    place: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Removal {
    item: u64,
}

impl Verb {
    pub(super) fn parse(word: &str) -> Option<Self> {
        match word {
            "insert" => Some(Self::Insert),
            "skip" => Some(Self::Skip),
            "remove" => Some(Self::Remove),
            _ => None,
        }
    }
}

/// The path whose playlist a name means.
pub(super) fn path_of(name: &str) -> Option<&str> {
    name.strip_suffix("/playlist").filter(|path| !path.is_empty())
}

/// The path and the item that a name means.
pub(super) fn item_of(name: &str) -> Option<(&str, u64)> {
    let (list, item) = name.rsplit_once('/')?;
    Some((path_of(list)?, item.parse().ok()?))
}

/// The playlist of a path.
pub(super) async fn show(api: &Api, path: &str) -> Result<Value, Problem> {
    let path = without_empty_segments(path);
    let answer = ask(api, &path, PlaylistRequest::Show).await?;
    let mut shown =
        serde_json::to_value(&answer.info).map_err(|error| Problem::internal(error.to_string()))?;
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("path".to_owned(), json!(path));
    }
    Ok(shown)
}

/// Carries out a POST.
pub(super) async fn act(
    api: &Arc<Api>,
    path: &str,
    verb: Verb,
    body: &[u8],
) -> Result<Value, Problem> {
    let edit = match verb {
        Verb::Insert => insertion(api, read(body)?).await?,
        Verb::Skip => PlaylistEdit::Skip,
        Verb::Remove => PlaylistEdit::Remove { number: read::<Removal>(body)?.item },
    };
    self::edit(api, path, edit).await
}

/// Carries out an edit, keeps the list, and tells both.
pub(super) async fn edit(api: &Arc<Api>, path: &str, edit: PlaylistEdit) -> Result<Value, Problem> {
    let (api, path) = (Arc::clone(api), without_empty_segments(path));
    // A task of its own: it goes on when the client hangs up.
    let done = tokio::spawn(async move {
        let is_kept = edit != PlaylistEdit::Skip;
        let answer = ask(&api, &path, PlaylistRequest::Edit(edit)).await?;
        let item = answer.item;
        if !is_kept {
            return Ok(json!({ "item": item }));
        }
        let kept = tokio::task::spawn_blocking(move || api.view.keep_playlist(&path, &answer));
        let kept = kept.await.unwrap_or_else(|_| Err("keeping it failed".to_owned()));
        Ok(match kept {
            Ok(kept) => json!({ "item": item, "kept": kept }),
            Err(problem) => json!({ "item": item, "kept": false, "problem": problem }),
        })
    });
    done.await.unwrap_or_else(|_| Err(Problem::internal("the edit failed")))
}

async fn ask(api: &Api, path: &str, request: PlaylistRequest) -> Result<PlaylistAnswer, Problem> {
    let asked = api.view.ask_playlist(path, request);
    let asked = asked.ok_or_else(|| problem(path, &PlaylistRefusal::UnknownPath))?;
    match timeout(api.answer_timeout, asked).await {
        Ok(Ok(answer)) => answer.map_err(|refusal| problem(path, &refusal)),
        Ok(Err(_gone)) => Err(Problem::unavailable("the shard of this path is gone")),
        Err(_late) => Err(shard_silent()),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::bad_request(format!("body: {error}")))
}

async fn insertion(api: &Arc<Api>, asked: Insertion) -> Result<PlaylistEdit, Problem> {
    let Insertion { title, at, before, after, place } = asked;
    let place = match (before, after, place) {
        (None, None, None) => InsertPlace::Last,
        (Some(item), None, None) => InsertPlace::Before(item),
        (None, Some(item), None) => InsertPlace::After(item),
        (None, None, Some(place)) => InsertPlace::At(place),
        _ => return Err(Problem::bad_request("say one of before, after and place")),
    };
    let title = parse_title(&title).map_err(|error| Problem::unprocessable(error.to_string()))?;
    let at = at.map(|at| DailyTime::parse(&at)).transpose();
    let at = at.map_err(|error| Problem::unprocessable(error.to_string()))?;
    let (view, name) = (Arc::clone(&api.view), Arc::clone(&title));
    let found = tokio::task::spawn_blocking(move || view.find_title(&name));
    match timeout(super::patience::LISTING_TIMEOUT, found).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(reason))) => {
            return Err(Problem::unprocessable(format!("title {title}: {reason}")));
        }
        Ok(Err(_panicked)) => return Err(Problem::internal("looking for the title failed")),
        Err(_late) => return Err(Problem::unavailable("the media folder does not answer")),
    }
    Ok(PlaylistEdit::Insert { item: PlaylistItem { title, at }, place })
}

fn problem(path: &str, refusal: &PlaylistRefusal) -> Problem {
    match refusal {
        PlaylistRefusal::UnknownPath => {
            Problem::not_found(format!("no path `{path}`; GET /v1/paths lists them"))
        }
        PlaylistRefusal::Edit(EditError::NoItem { .. }) => Problem::not_found(refusal.to_string()),
        PlaylistRefusal::Edit(EditError::NoPlace { .. }) => {
            Problem::unprocessable(refusal.to_string())
        }
        _ => Problem::conflict(refusal.to_string()),
    }
}

//! Sessions in the HTTP API: who plays and who publishes.
//!
//! ```text
//! GET    /v1/sessions?path=&state=&role=&q=&limit=&cursor=  sorted by id, page by page; q is in
//!                                                           id, path, peer, user or client
//! GET    /v1/sessions/{id}     DELETE /v1/sessions/{id}     one session; its end
//! ```

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Shared;
use super::paging::{self, SESSION_LOOKS_MAX, SESSIONS_PAGE, bad_query};
use super::patience::{Patience, shard_silent};
use crate::base::ids::{SessionId, ShardId};
use crate::http::problem::Problem;
use crate::http::word::Word;
use crate::poll::poller::GUEST;
use crate::session::info::SessionInfo;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionsQuery {
    path: Option<String>,
    state: Option<SessionState>,
    role: Option<SessionRole>,
    q: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SessionState {
    Ready,
    Playing,
    Paused,
    Announced,
    Recording,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SessionRole {
    Reader,
    Publisher,
}

impl SessionsQuery {
    fn accepts(&self, session: &SessionInfo) -> bool {
        let state = self.state.map(|state| match state {
            SessionState::Ready => "ready",
            SessionState::Playing => "playing",
            SessionState::Paused => "paused",
            SessionState::Announced => "announced",
            SessionState::Recording => "recording",
        });
        let bare = |path: &str| path.trim_start_matches('/').to_owned();
        let is_path = self.path.as_ref().is_none_or(|path| bare(path) == bare(&session.path));
        let is_behind = self.cursor.as_ref().is_none_or(|cursor| *cursor < session.id);
        let role = self.role.map(|role| match role {
            SessionRole::Reader => "reader",
            SessionRole::Publisher => "publisher",
        });
        let is_role = role.is_none_or(|role| role == session.role);
        is_path && is_behind && is_role && state.is_none_or(|state| state == session.state)
    }
}

fn has_word(session: &SessionInfo, word: &Word) -> bool {
    let channel = session.channel.as_ref();
    let texts = [Some(&session.id), Some(&session.path), Some(&session.peer)].into_iter();
    let texts = texts.chain([session.user_agent.as_ref(), session.user.as_ref()]);
    let texts = texts.chain([channel.map(|c| &c.lineup), channel.and_then(|c| c.source.as_ref())]);
    word.is_in(texts.flatten().map(String::as_str))
}

/// Ids are in the order of their shards: one shard after the other is asked, from the cursor's on,
/// until the page is full; last of all the guest, whose are the viewers by WebRTC.
pub(super) async fn list(
    State(api): Shared,
    query: Result<Query<SessionsQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(mut query) = query.map_err(bad_query)?;
    if let Some(cursor) = &mut query.cursor {
        cursor.make_ascii_uppercase();
    }
    let limit = SESSIONS_PAGE.limit(query.limit)?;
    let word = Word::read(query.q.as_ref())?;
    let patience = Patience::new(&api);
    let cursor = query.cursor.as_deref().and_then(SessionId::parse);
    let (mut shard, mut after) = (cursor.map_or(ShardId(0), |id| api.view.home_of(id)), cursor);
    let mut sessions = Vec::new();
    let (mut looks, mut last) = (0, None);
    // Bounded by `patience`; one more than asked for tells whether there is another page.
    while sessions.len() <= limit {
        let Some(asked) = api.view.request_sessions(shard, after) else {
            if shard >= GUEST {
                break;
            }
            (shard, after) = (GUEST, None);
            continue;
        };
        let answered = patience.answer(asked).await;
        // Viewers of browsers are on a thread of a lower priority: without its answer the list has
        // the sessions of shards.
        let answered = if shard == GUEST { answered.or(Ok(None)) } else { answered };
        let page = answered?.unwrap_or_default();
        let from = sessions.len();
        let is_found = |session: &SessionInfo| {
            query.accepts(session) && word.as_ref().is_none_or(|word| has_word(session, word))
        };
        looks += page.sessions.len() + page.away.len();
        let here = page.sessions.iter().map(|session| session.id.clone());
        last = here.chain(page.away.iter().map(ToString::to_string)).max().or(last);
        for id in page.away {
            let Some(asked) = api.view.request_session(id) else { continue };
            let found = patience.answer(asked).await?.flatten();
            sessions.extend(found.filter(|session| is_found(session)));
        }
        sessions.extend(page.sessions.into_iter().filter(is_found));
        sessions[from..].sort_by(|a, b| a.id.cmp(&b.id));
        if word.is_some() && looks >= SESSION_LOOKS_MAX && sessions.len() <= limit {
            return Ok(Json(json!({ "sessions": sessions, "next_cursor": last })));
        }
        after = page.next;
        if after.is_none() {
            let Some(next) = shard.0.checked_add(1) else { break };
            shard = ShardId(next);
        }
    }
    let next_cursor = paging::cut(&mut sessions, limit, |session| &session.id);
    Ok(Json(json!({ "sessions": sessions, "next_cursor": next_cursor })))
}

/// Only the shard that owns the id is asked.
pub(super) async fn show(
    State(api): Shared,
    Path(id): Path<String>,
) -> Result<Json<SessionInfo>, Problem> {
    let id = SessionId::parse(&id).ok_or_else(no_session)?;
    let asked = api.view.request_session(id).ok_or_else(no_session)?;
    match Patience::new(&api).answer(asked).await? {
        Some(found) => found.map(Json).ok_or_else(no_session),
        None => Err(session_shard_gone()),
    }
}

/// Answers with the id once the session is ended: its players got BYE.
pub(super) async fn end(
    State(api): Shared,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let answer = api.view.end_session(&id).ok_or_else(no_session)?;
    match timeout(api.answer_timeout, answer).await {
        Ok(Ok(true)) => Ok(Json(json!({ "id": id, "ended": true }))),
        Ok(Ok(false)) => Err(no_session()),
        Ok(Err(_gone)) => Err(session_shard_gone()),
        Err(_late) => Err(shard_silent()),
    }
}

pub(super) fn session_shard_gone() -> Problem {
    Problem::unavailable("the shard of this session is gone")
}

pub(super) fn no_session() -> Problem {
    Problem::not_found("no session has this id; GET /v1/sessions lists them")
}

//! `GET /v1/vod`: titles of the media folder, in the order of their names, page by page; with `q=`
//! those whose names have it.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Shared;
use super::paging::{self, TITLE_LOOKS_MAX, TITLES_PAGE, bad_query};
use super::patience::LISTING_TIMEOUT;
use super::watch_pages::WatchPages;
use crate::http::problem::Problem;
use crate::http::word::Word;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TitlesQuery {
    q: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

pub(super) async fn list(
    State(api): Shared,
    headers: HeaderMap,
    query: Result<Query<TitlesQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(bad_query)?;
    let limit = TITLES_PAGE.limit(query.limit)?;
    let word = Word::read(query.q.as_ref())?;
    let view = api.view.clone();
    // One more than asked for tells whether there is another page.
    let looks = if word.is_some() { TITLE_LOOKS_MAX.max(limit) } else { limit } + 1;
    let listing = tokio::task::spawn_blocking(move || view.titles(query.cursor.as_deref(), looks));
    let listed = match timeout(LISTING_TIMEOUT, listing).await {
        Ok(Ok(listed)) => listed,
        Ok(Err(_panicked)) => return Err(Problem::internal("listing the library failed")),
        Err(_late) => return Err(Problem::unavailable("the media folder does not answer")),
    };
    let mut titles =
        listed.map_err(|error| Problem::unavailable(format!("the media folder: {error}")))?;
    // A search goes on behind the last title that it has looked at.
    let behind = paging::cut(&mut titles, looks - 1, |title| &title.name);
    if let Some(word) = &word {
        titles.retain(|title| word.is_in([title.name.as_str()]));
    }
    let next_cursor = paging::cut(&mut titles, limit, |title| &title.name).or(behind);
    let mut answer = json!({ "titles": titles, "next_cursor": next_cursor });
    WatchPages::new(&api, &headers).add_to(&mut answer["titles"], "url_path");
    Ok(Json(answer))
}

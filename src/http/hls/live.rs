//! Playlists, parts and segments of live paths, and the wait for those that are to come
//! (rfc8216bis s6.2.5.2).
//!
//! All who wait for a part wait for one snapshot, and get the same bytes. Bound: `WAIT_MAX`, or
//! three target durations for a reload.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::timeout;

use super::bytes::{Keep, PLAYLIST, SEGMENT, ranged, whole};
use super::leave::Leave;
use super::view::LiveRefusal;
use super::{Asked, Hls, Problem, page};
use crate::hls::live::Snapshot;
use crate::hls::resource::{Rendition, Resource, Revision};
use crate::live::core::message::RefusedError;
use crate::metrics::cells::HLS;

/// Answers a request for a live path.
pub(super) async fn answer(
    hls: &Hls,
    path: &str,
    asked: &Asked<'_>,
    leave: Leave,
) -> Result<Response, Problem> {
    if asked.resource == Resource::Page {
        // The page finds out itself what there is; a path that nobody has is said by its status.
        // It may play by WebRTC: nothing is made into segments before it asks for them.
        let known = timeout(PAGE_MAX, hls.view.find_live(path)).await;
        let refusal = known.ok().and_then(Result::ok).and_then(Result::err);
        let status = refusal.map(|refusal| problem(path, &refusal).status());
        return Ok(page::page(status.unwrap_or(StatusCode::OK)));
    }
    let mut live = watch(hls, path).await?;
    match asked.resource {
        Resource::Multivariant => {
            let is_there = |now: &Snapshot| now.multivariant().is_some() || now.is_ended();
            let now = wait(&mut live, WAIT_MAX, is_there).await?;
            let text = now.multivariant().map(|playlist| playlist.text(&asked.suffix));
            let Some(text) = text else { return Err(over(hls, path).await) };
            whole(asked, leave, (PLAYLIST, Keep::Seconds(1)), text.into())
        }
        Resource::Media(rendition) => {
            let wanted = Wanted::read(asked.query)?;
            let is_there = |now: &Snapshot| now.is_playable() || now.is_ended();
            let now = wait(&mut live, WAIT_MAX, is_there).await?;
            if !now.is_playable() {
                return Err(over(hls, path).await);
            }
            if !now.has_rendition(rendition) {
                return Err(no_such(asked));
            }
            playlist(&mut live, &now, (rendition, wanted), (asked, leave)).await
        }
        Resource::Init { rendition, revision, number } => {
            // A playlist names it when it is there: there is nothing to be waited for.
            let now = current(&live);
            check(&now, revision)?;
            let init = now.init(rendition, number).cloned().ok_or_else(gone)?;
            whole(asked, leave, (SEGMENT, Keep::ForEver), init)
        }
        Resource::Segment { rendition, revision, number } => {
            let now = current(&live);
            check(&now, revision)?;
            let segment = now.segment(number).filter(|segment| segment.is_complete);
            let segment = segment.filter(|_| now.has_rendition(rendition)).ok_or_else(gone)?;
            let size = segment.of(rendition).map(|part| part.len() as u64).sum();
            ranged(asked, leave, (SEGMENT, Keep::ForEver), size, |from, to| {
                HLS.sent_bytes.add(to - from);
                let parts = slices(segment.of(rendition), from, to);
                let parts = parts.into_iter().map(Ok::<_, Infallible>);
                Body::from_stream(futures_util::stream::iter(parts))
            })
        }
        Resource::Part { rendition, revision, segment, part } => {
            check(&current(&live), revision)?;
            // The part that is hinted at is waited for; one further on is not.
            let (next_segment, next_part) = current(&live).next_part();
            let is_next = (segment, part) == (next_segment, next_part)
                || (part == 0 && segment == next_segment + 1);
            let is_next = is_next && current(&live).has_rendition(rendition);
            if is_next {
                let is_there = |now: &Snapshot| now.has(segment, Some(part)) || now.is_ended();
                wait(&mut live, WAIT_MAX, is_there).await?;
            }
            let now = current(&live);
            let found = now.segment(segment).and_then(|of| of.parts.get(part as usize));
            let body = found.and_then(|part| part.of(rendition)).ok_or_else(gone)?.bytes.clone();
            whole(asked, leave, (SEGMENT, Keep::ForEver), body)
        }
        _ => Err(no_such(asked)),
    }
}

async fn watch(hls: &Hls, path: &str) -> Result<watch::Receiver<Arc<Snapshot>>, Problem> {
    let asked = timeout(START_MAX, hls.view.watch_live(path)).await;
    let late = || Problem::unavailable("the live path does not answer");
    let answered = asked.map_err(|_| late())?.map_err(|_| late())?;
    answered.map_err(|refusal| problem(path, &refusal))
}

fn problem(path: &str, refusal: &LiveRefusal) -> Problem {
    let detail = refusal.to_string();
    match refusal {
        LiveRefusal::Refused(RefusedError::NoSource) => {
            Problem::not_found(format!("nothing is at `{path}`: {detail}"))
        }
        LiveRefusal::Refused(_) | LiveRefusal::TooMany { .. } => Problem::unavailable(detail),
        LiveRefusal::NotShown(_) | LiveRefusal::Lineup => {
            Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
        }
    }
}

/// Why a path has ended before there was anything to play: what is wrong with it, where something
/// is.
async fn over(hls: &Hls, path: &str) -> Problem {
    watch(hls, path).await.err().unwrap_or_else(has_ended)
}

async fn playlist(
    live: &mut watch::Receiver<Arc<Snapshot>>,
    now: &Snapshot,
    (rendition, wanted): (Rendition, Wanted),
    (asked, leave): (&Asked<'_>, Leave),
) -> Result<Response, Problem> {
    let Some((segment, part)) = wanted.at else {
        // Half a part: who does not wait for parts may be told a little late.
        return whole(
            asked,
            leave,
            (PLAYLIST, Keep::Seconds(0)),
            now.playlist(rendition, &asked.suffix),
        );
    };
    let (next, _) = now.next_part();
    if segment > next + 1 {
        return Err(Problem::bad_request(format!(
            "_HLS_msn={segment} is too far ahead: {next} is next"
        )));
    }
    let patience = Duration::from_secs(u64::from(now.target_s()) * 3);
    let has = |now: &Snapshot| now.has(segment, part) || now.is_ended();
    let now = wait(live, patience, has).await?;
    // Its name says which state it is of, so it can be kept while anybody asks for that state.
    let keep = Keep::Seconds(now.target_s().max(1) * 6);
    whole(asked, leave, (PLAYLIST, keep), now.playlist(rendition, &asked.suffix))
}

/// What a blocking reload waits for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    at: Option<(u64, Option<u32>)>,
}

impl Wanted {
    /// Reads `_HLS_msn` and `_HLS_part`.
    fn read(query: Option<&str>) -> Result<Self, Problem> {
        let (mut segment, mut part) = (None, None);
        let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        for (name, value) in pairs {
            let wrong = |_| Problem::bad_request(format!("{name}={value} is no number"));
            match name {
                "_HLS_msn" => segment = Some(value.parse().map_err(wrong)?),
                "_HLS_part" => part = Some(value.parse().map_err(wrong)?),
                _ => {}
            }
        }
        match (segment, part) {
            (None, Some(_)) => Err(Problem::bad_request("_HLS_part needs _HLS_msn")),
            (None, None) => Ok(Self::default()),
            (Some(segment), part) => Ok(Self { at: Some((segment, part)) }),
        }
    }
}

fn current(live: &watch::Receiver<Arc<Snapshot>>) -> Arc<Snapshot> {
    Arc::clone(&live.borrow())
}

/// Waits for a snapshot.
async fn wait(
    live: &mut watch::Receiver<Arc<Snapshot>>,
    patience: Duration,
    is_it: impl Fn(&Snapshot) -> bool,
) -> Result<Arc<Snapshot>, Problem> {
    let found = timeout(patience, live.wait_for(|now| is_it(now))).await;
    match found {
        Ok(Ok(now)) => Ok(Arc::clone(&now)),
        Ok(Err(_ended)) => Err(has_ended()),
        Err(_late) => Err(nothing_yet()),
    }
}

fn check(now: &Snapshot, revision: Revision) -> Result<(), Problem> {
    if now.revision() == Some(revision) {
        return Ok(());
    }
    Err(Problem::not_found("the live path has begun anew; load its playlist again"))
}

/// The bytes of a segment between two places: those of its parts, which all viewers share.
fn slices<'a>(parts: impl Iterator<Item = &'a Bytes>, from: u64, to: u64) -> Vec<Bytes> {
    let mut begin = 0;
    let parts = parts.filter_map(|part| {
        let end = begin + part.len() as u64;
        let within = |at: u64| usize::try_from(at.clamp(begin, end) - begin).unwrap_or(0);
        let range = within(from)..within(to);
        begin = end;
        (!range.is_empty()).then(|| part.slice(range))
    });
    parts.collect()
}

fn no_such(asked: &Asked<'_>) -> Problem {
    Problem::not_found(format!("this live path has no `{}`", asked.resource))
}

fn has_ended() -> Problem {
    Problem::not_found("the live path has ended")
}

fn gone() -> Problem {
    Problem::not_found("this part of the live path is not there: it is too old, or not yet made")
}

fn nothing_yet() -> Problem {
    Problem::unavailable("nothing to begin with has come from the live path yet")
}

/// For the first segment of a path, or the next part: a source on demand takes a few seconds, and
/// its first key frame a few more.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// For what the status of a page depends on: a source on demand takes longer.
const PAGE_MAX: Duration = Duration::from_millis(500);
/// For the owner of a path: a source on demand has ten seconds to answer.
const START_MAX: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reload_that_waits_says_for_what() {
        let read = |query| Wanted::read(Some(query)).map(|wanted| wanted.at).map_err(|_| ());
        assert_eq!(read("_HLS_msn=7&_HLS_part=2&token=x"), Ok(Some((7, Some(2)))));
        assert_eq!(read("_HLS_msn=7"), Ok(Some((7, None))));
        assert_eq!(read("a=b"), Ok(None));
        assert_eq!(read("_HLS_part=2"), Err(()));
        assert_eq!(read("_HLS_msn=-1"), Err(()));
        assert!(Wanted::read(None).is_ok_and(|wanted| wanted.at.is_none()));
    }
}

//! Playlists and segments of titles.
//!
//! ```text
//! name --open--> Title --plan, once a file--> playlists, heads of segments
//!                   `--ranges, read piece by piece as the viewer takes them--> body
//! ```
//! A title is opened for each request, which finds it open, so that a file that was replaced is
//! seen. Requests for one title share one plan while it is made; when all of them are gone before
//! it is begun, it is not made. Bounds: `PLANS_MAX` plans and `PLANS_BYTES_MAX` of them are kept,
//! one is made for each title that a request waits for; `PIECE_BYTES` of a body in memory.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::OnceCell;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::bytes::{Keep, PLAYLIST, SEGMENT, ranged, whole};
use super::leave::Leave;
use super::{Asked, Hls, Problem, page};
use crate::hls::resource::{Rendition, Resource, Revision};
use crate::hls::title::{PlanError, SegmentPlan, TitlePlan};
use crate::library::title::{FileIdentity, Title};
use crate::metrics::cells::HLS;
use crate::poll::task::OpenFailure;

/// Plans of titles: those that were asked for last, and those that are being made.
#[derive(Debug, Default)]
pub(super) struct Titles {
    plans: Mutex<Plans>,
}

#[derive(Debug, Default)]
struct Plans {
    kept: VecDeque<(FileIdentity, Planned)>,
    /// Requests that wait for a plan hold it.
    running: HashMap<FileIdentity, Weak<OnceCell<Planned>>>,
}

type Planned = Result<Arc<TitlePlan>, PlanError>;

impl Titles {
    /// The plan of a file. `cut` makes it, on a thread where it holds up nobody.
    async fn plan(
        &self,
        identity: FileIdentity,
        cut: impl FnOnce() -> Planned + Send + 'static,
    ) -> Result<Planned, Problem> {
        let cell = match self.lock().find(identity) {
            Ok(planned) => return Ok(planned),
            Err(cell) => cell,
        };
        let made = cell.get_or_try_init(|| Job(spawn_blocking(cut)).done());
        let planned = made.await.cloned();
        if let Ok(planned) = &planned {
            self.lock().keep(identity, planned);
        }
        planned
    }

    fn lock(&self) -> MutexGuard<'_, Plans> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plans {
    /// A plan that is kept, or where one is made.
    fn find(&mut self, identity: FileIdentity) -> Result<Planned, Arc<OnceCell<Planned>>> {
        let at = self.kept.iter().position(|(known, _)| *known == identity);
        if let Some(found) = at.and_then(|at| self.kept.remove(at)) {
            let planned = found.1.clone();
            self.kept.push_back(found);
            return Ok(planned);
        }
        if let Some(cell) = self.running.get(&identity).and_then(Weak::upgrade) {
            return Err(cell);
        }
        self.running.retain(|_, cell| cell.strong_count() > 0);
        let cell = Arc::default();
        self.running.insert(identity, Arc::downgrade(&cell));
        Err(cell)
    }

    fn keep(&mut self, identity: FileIdentity, planned: &Planned) {
        if self.running.remove(&identity).is_none() {
            // Another request has seen to it.
            return;
        }
        self.kept.push_back((identity, planned.clone()));
        let bytes = |planned: &Planned| planned.as_ref().map_or(0, |plan| plan.memory_bytes());
        let mut sum: usize = self.kept.iter().map(|(_, planned)| bytes(planned)).sum();
        while self.kept.len() > PLANS_MAX || sum > PLANS_BYTES_MAX {
            let Some((_, oldest)) = self.kept.pop_front() else { break };
            sum -= bytes(&oldest);
        }
    }
}

/// Work on a thread for such; when nobody waits for it any more it is not begun.
struct Job<T>(JoinHandle<T>);

impl<T> Job<T> {
    async fn done(mut self) -> Result<T, Problem> {
        (&mut self.0).await.map_err(|_| Problem::internal("the title cannot be cut"))
    }
}

impl<T> Drop for Job<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Answers a request for a title; `None` is the built-in clip.
pub(super) async fn answer(
    hls: &Hls,
    name: Option<&str>,
    asked: &Asked<'_>,
    leave: Leave,
) -> Result<Response, Problem> {
    let opened = async {
        let title = open(hls, name).await?;
        let plan = plan(&hls.titles, &title).await?;
        Ok::<_, Problem>((title, plan))
    };
    let opened = opened.await;
    if asked.resource == Resource::Page {
        // The page says what is wrong, as it finds out itself.
        let status = opened.as_ref().err().map_or(StatusCode::OK, Problem::status);
        return Ok(page::page(status));
    }
    let (title, plan) = opened?;
    let suffix = &asked.suffix;
    let playlist =
        |text: String| whole(asked, leave, (PLAYLIST, Keep::Seconds(PLAYLIST_KEPT_S)), text.into());
    match asked.resource {
        Resource::Multivariant => playlist(plan.multivariant().text(suffix)),
        Resource::Media(rendition) => {
            let found = plan.playlist(rendition).ok_or_else(|| no_such(asked))?;
            playlist(found.text(suffix))
        }
        Resource::Init { rendition, revision, number: 0 } => {
            check(&plan, revision)?;
            let init = plan.init(rendition).ok_or_else(|| no_such(asked))?;
            let body = Bytes::copy_from_slice(init);
            whole(asked, leave, (SEGMENT, Keep::ForEver), body)
        }
        Resource::Segment { rendition, revision, number } => {
            check(&plan, revision)?;
            let segment = segment(&plan, &title, rendition, number).await?;
            let segment = segment.ok_or_else(|| no_such(asked))?;
            let size = segment.bytes();
            ranged(asked, leave, (SEGMENT, Keep::ForEver), size, |from, to| {
                Body::from_stream(body(segment, title, from, to))
            })
        }
        _ => Err(no_such(asked)),
    }
}

async fn open(hls: &Hls, name: Option<&str>) -> Result<Arc<Title>, Problem> {
    let opened = timeout(OPEN_MAX, hls.view.open_title(name)).await;
    let late = || Problem::unavailable("the media folder does not answer");
    let opened = opened.map_err(|_| late())?.map_err(|_| late())?;
    opened.map_err(|failure| match failure {
        OpenFailure::NotFound => Problem::not_found(failure.to_string()),
        OpenFailure::Unplayable(reason) => {
            Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("not playable: {reason}"))
        }
        OpenFailure::Unavailable(reason) => Problem::unavailable(reason),
    })
}

async fn plan(titles: &Titles, title: &Arc<Title>) -> Result<Arc<TitlePlan>, Problem> {
    let of = Arc::clone(title);
    let cut = move || TitlePlan::new(&of.asset, of.identity).map(Arc::new);
    let planned = titles.plan(title.identity, cut).await?;
    planned.map_err(|error| Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error.to_string()))
}

async fn segment(
    plan: &Arc<TitlePlan>,
    title: &Arc<Title>,
    rendition: Rendition,
    number: u64,
) -> Result<Option<SegmentPlan>, Problem> {
    let planned = if plan.samples_of(rendition, number) <= SAMPLES_AT_ONCE_MAX {
        plan.segment(&title.asset, rendition, number)
    } else {
        let (plan, title) = (Arc::clone(plan), Arc::clone(title));
        Job(spawn_blocking(move || plan.segment(&title.asset, rendition, number))).done().await?
    };
    planned.map_err(|error| Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error.to_string()))
}

fn check(plan: &TitlePlan, revision: Revision) -> Result<(), Problem> {
    if plan.revision() == revision {
        return Ok(());
    }
    Err(Problem::not_found("the file of this title has been replaced; load its playlist again"))
}

fn no_such(asked: &Asked<'_>) -> Problem {
    Problem::not_found(format!("this title has no `{}`", asked.resource))
}

/// The bytes of a segment between two places, read as the viewer takes them.
fn body(
    segment: SegmentPlan,
    title: Arc<Title>,
    from: u64,
    to: u64,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    let SegmentPlan { head, ranges } = segment;
    let head: Bytes = head.into();
    let head_bytes = head.len() as u64;
    let at = |place: u64| usize::try_from(place.min(head_bytes)).unwrap_or(head.len());
    let first = head.slice(at(from)..at(to));
    HLS.sent_bytes.add(first.len() as u64);
    let pieces = pieces(&ranges, from.saturating_sub(head_bytes), to.saturating_sub(head_bytes));
    let first = stream::iter((!first.is_empty()).then_some(Ok(first)));
    first.chain(stream::iter(pieces).then(move |piece| read(Arc::clone(&title), piece)))
}

/// Ranges of the file between two places of all ranges together, cut into pieces; neighbours of
/// different tracks are read together where they fit.
fn pieces(ranges: &[(u64, u64)], from: u64, to: u64) -> Vec<Vec<(u64, usize)>> {
    let mut pieces: Vec<Vec<(u64, usize)>> = Vec::new();
    let (mut place, mut room) = (0, 0);
    for (offset, bytes) in ranges {
        let (first, end) = (from.clamp(place, place + bytes), to.clamp(place, place + bytes));
        let mut at = first;
        while at < end {
            if room == 0 {
                pieces.push(Vec::new());
                room = PIECE_BYTES;
            }
            let length = (end - at).min(room);
            if let (Some(piece), Ok(bytes)) = (pieces.last_mut(), usize::try_from(length)) {
                piece.push((offset + (at - place), bytes));
            }
            at += length;
            room -= length;
        }
        place += bytes;
    }
    pieces
}

async fn read(title: Arc<Title>, piece: Vec<(u64, usize)>) -> std::io::Result<Bytes> {
    let read = move || read_piece(&title.file, &piece);
    let bytes = spawn_blocking(read).await.map_err(std::io::Error::other)??;
    HLS.sent_bytes.add(bytes.len() as u64);
    Ok(bytes)
}

fn read_piece(file: &File, piece: &[(u64, usize)]) -> std::io::Result<Bytes> {
    let mut bytes = vec![0; piece.iter().map(|(_, length)| length).sum()];
    let mut rest = bytes.as_mut_slice();
    for (offset, length) in piece {
        let (own, behind) = rest.split_at_mut(*length);
        // A file that has become shorter ends the answer: its length was stated.
        file.read_exact_at(own, *offset)?;
        rest = behind;
    }
    Ok(bytes.into())
}

/// A file that was replaced is seen so soon by who loads the playlist again.
const PLAYLIST_KEPT_S: u32 = 5;
/// A title that is not in memory, on a slow disk.
const OPEN_MAX: Duration = Duration::from_secs(20);
/// Bytes that are read at once for a viewer: a tenth of a second of 5 Mbit/s.
const PIECE_BYTES: u64 = 64 << 10;
/// Samples of a segment that the thread of all viewers looks at: a millisecond's work. A title with
/// one sync sample has all that it has in one segment.
const SAMPLES_AT_ONCE_MAX: u32 = 8_192;
/// Plans that are kept.
const PLANS_MAX: usize = 256;
/// Bytes of them: films of three hours take 30 KiB each.
const PLANS_BYTES_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    fn identity(inode: u64) -> FileIdentity {
        FileIdentity { device: 1, inode, bytes: 3, modified_ns: 4 }
    }

    /// One thread for work that blocks, which is taken until `free` is dropped.
    fn runtime_with_a_busy_thread() -> (tokio::runtime::Runtime, std::sync::mpsc::Sender<()>) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.max_blocking_threads(1).build().unwrap();
        let (free, is_free) = std::sync::mpsc::channel::<()>();
        runtime.spawn_blocking(move || is_free.recv());
        (runtime, free)
    }

    #[test]
    fn viewers_of_one_title_share_one_plan_while_it_is_made() {
        let (runtime, free) = runtime_with_a_busy_thread();
        let titles = Titles::default();
        let made = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let plan = |inode| {
            let made = Arc::clone(&made);
            titles.plan(identity(inode), move || {
                made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Err(PlanError::Nothing)
            })
        };
        let all = runtime.block_on(async {
            let crowd = futures_util::future::join_all((0..20).map(|n| plan(n % 2)));
            let free = async move { drop(free) };
            futures_util::future::join(crowd, free).await.0
        });
        assert!(all.iter().all(|planned| matches!(planned, Ok(Err(PlanError::Nothing)))));
        assert_eq!(made.load(std::sync::atomic::Ordering::Relaxed), 2, "one for each title");
        assert!(runtime.block_on(plan(0)).is_ok());
        assert_eq!(made.load(std::sync::atomic::Ordering::Relaxed), 2, "it is kept");
        assert!(titles.lock().running.is_empty());
    }

    #[test]
    fn plan_that_nobody_waits_for_any_more_is_not_begun() {
        let (runtime, free) = runtime_with_a_busy_thread();
        let titles = Titles::default();
        let made = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let count = Arc::clone(&made);
        let plan = titles.plan(identity(1), move || {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Err(PlanError::Nothing)
        });
        let asked_once = runtime.block_on(async { plan.now_or_never() });
        assert!(asked_once.is_none(), "its thread is busy, and the viewer leaves");
        drop(free);
        let other = titles.plan(identity(2), || Err(PlanError::TooLong));
        let planned = runtime.block_on(other).unwrap();
        assert_eq!(planned.unwrap_err(), PlanError::TooLong, "the thread is free again");
        assert_eq!(made.load(std::sync::atomic::Ordering::Relaxed), 0);
    }

    proptest! {
        #[test]
        fn pieces_have_each_byte_between_the_places_once_and_in_order(
            lengths in proptest::collection::vec(1_u64..200_000, 0..12),
            a in 0_u64..1_000_000, b in 0_u64..1_000_000,
        ) {
            let mut next = 7;
            let ranges: Vec<_> = lengths.iter().map(|length| {
                let range = (next, *length);
                next += length + 3;
                range
            }).collect();
            let all: u64 = lengths.iter().sum();
            let (from, to) = (a.min(b).min(all), a.max(b).min(all));
            let found = pieces(&ranges, from, to);
            let has_its_size = found.iter().all(|piece| {
                let sum: usize = piece.iter().map(|(_, bytes)| bytes).sum();
                sum > 0 && sum as u64 <= PIECE_BYTES
            });
            prop_assert!(has_its_size);
            let mut place = from;
            for (offset, bytes) in found.into_iter().flatten() {
                let mut before = 0;
                let expected = ranges.iter().find_map(|(offset, length)| {
                    let found = (before + length > place).then(|| offset + place - before);
                    before += length;
                    found
                });
                prop_assert_eq!(Some(offset), expected);
                place += bytes as u64;
            }
            prop_assert_eq!(place, to);
        }
    }
}

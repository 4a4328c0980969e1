//! Work::Window: from a window's key to packets whose pages are in memory.
//!
//! ```text
//! file still the same? --> in the cache? --> pages brought in lately? --> answer
//!                              | no                | no: page in, populate
//!                              v
//!                          packetize, by reads --> populate --> file still the same? --> cache
//! ```
//! A shard sends from the map right after the answer, so its pages must be in the page cache (the
//! reads see to that, waiting without blocking the executor) and in the page tables (`populate`,
//! quick once they are cached). A cached window may have lost its pages to memory pressure, and
//! nobody but the owner of a file may ask the kernel whether it did; so a hit pages it in again
//! when that was last done more than `warm_for_ms` ago. With many viewers that is one copy of two
//! seconds of media every four seconds a window, not one a viewer.
//!
//! Bound: `READS_MAX` reads a window.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use super::cache::Begin;
use super::engine::{Engine, Shelved};
use super::formats::WindowJob;
use super::read::{ReadError, Reader};
use super::reply::Reply;
use crate::library::title::{FileIdentity, Title};
use crate::mapped::MappedFile;
use crate::media::window::{PacketWindow, Piece, WindowKey};
use crate::poll::task::{Outcome, WindowFailure};

/// Builds a window, or finds it built, and answers.
pub(super) async fn window(engine: &Engine, title: &Title, key: WindowKey, reply: Reply) {
    if let Err(failure) = check_name(engine, title) {
        forget_changed(engine, title, &failure);
        return reply.send(Outcome::Window(Err(failure)));
    }
    match engine.windows.begin((title.identity, key), reply) {
        Begin::Hit(shelved, reply) => {
            engine.counts().windows_hit.add(1);
            let outcome = keep_warm(engine, title, &shelved).await;
            if let Err(failure) = &outcome {
                forget_changed(engine, title, failure);
            }
            reply.send(Outcome::Window(outcome.map(|()| Arc::clone(&shelved.window))));
        }
        Begin::Joined => {
            engine.counts().windows_hit.add(1);
        }
        Begin::Make(flight) => {
            let made = make_window(engine, title, key).await.map(Arc::new);
            match &made {
                Ok(_) => {
                    engine.counts().windows_built.add(1);
                }
                Err(failure) => forget_changed(engine, title, failure),
            }
            let shelved = made.as_ref().ok().map(|window| {
                let warm_ms = AtomicU64::new(now_ms(engine));
                let bytes = window.memory_bytes() + size_of::<Shelved>();
                (Arc::new(Shelved { window: Arc::clone(window), warm_ms }), bytes)
            });
            let replies = flight.land(shelved);
            engine.update_gauges();
            for reply in replies {
                reply.send(Outcome::Window(made.clone()));
            }
        }
    }
}

/// The title's name must still lead to the file that was opened, unchanged: a deleted or replaced
/// file ends its sessions even though its blocks could still be read.
fn check_name(engine: &Engine, title: &Title) -> Result<(), WindowFailure> {
    if engine.library.is_clip(title.identity) {
        return Ok(());
    }
    match engine.library.identity_of(&title.name) {
        Ok(identity) if identity == title.identity => Ok(()),
        Ok(_) => Err(WindowFailure::FileChanged),
        Err(err) if err.is_absent() => Err(WindowFailure::FileChanged),
        Err(err) => Err(WindowFailure::Unreadable(err.to_string())),
    }
}

fn forget_changed(engine: &Engine, title: &Title, failure: &WindowFailure) {
    if *failure == WindowFailure::FileChanged {
        engine.forget(title.identity);
    }
}

async fn make_window(
    engine: &Engine,
    title: &Title,
    key: WindowKey,
) -> Result<PacketWindow, WindowFailure> {
    let reader = Reader::new(&title.file, engine.counts()).map_err(|err| failure(err.into()))?;
    let job = engine.formats.window_job(&title.asset, key).map_err(WindowFailure::Corrupt);
    let made = match job {
        Ok(job) => build(job, title, &reader).await,
        Err(failure) => Err(failure),
    };
    reader.close().await;
    // Looked at before the outcome: what was built from two versions of a file, or failed because
    // of that, says nothing.
    match FileIdentity::of(&title.file) {
        Ok(identity) if identity == title.identity => made,
        Ok(_) => Err(WindowFailure::FileChanged),
        Err(err) => Err(failure(err.into())),
    }
}

async fn build(
    mut job: Box<dyn WindowJob + '_>,
    title: &Title,
    reader: &Reader<'_>,
) -> Result<PacketWindow, WindowFailure> {
    let read = drive_window(&mut *job, reader).await?;
    let window = job.finish();
    let ranges = coalesce(file_ranges(&window), 0);
    // As a rule nothing is left to page in: packetizers read the samples whole.
    for range in ranges.iter().filter(|range| !is_covered(&read, range)) {
        page_in(reader, range).await?;
    }
    populate(&title.map, &ranges).await?;
    Ok(window)
}

/// Reads what the packetizer asks for until it is done; returns what was read.
async fn drive_window(
    job: &mut dyn WindowJob,
    reader: &Reader<'_>,
) -> Result<Vec<Range<u64>>, WindowFailure> {
    let mut read = Vec::new();
    for _ in 0..READS_MAX {
        let Some(wanted) = job.wanted() else { return Ok(coalesce(read, 0)) };
        let bytes = reader.read(wanted.offset, wanted.bytes as usize).await.map_err(failure)?;
        job.handle_bytes(&bytes).map_err(WindowFailure::Corrupt)?;
        read.push(wanted.offset..wanted.offset.saturating_add(u64::from(wanted.bytes)));
    }
    Err(WindowFailure::Corrupt("one window is in more pieces than any real one".into()))
}

/// Brings a cached window's pages in again when they may be gone.
async fn keep_warm(engine: &Engine, title: &Title, shelved: &Shelved) -> Result<(), WindowFailure> {
    let warm_ms = shelved.warm_ms.load(Ordering::Relaxed);
    if now_ms(engine).saturating_sub(warm_ms) < engine.warm_for_ms {
        return Ok(());
    }
    let reader = Reader::new(&title.file, engine.counts()).map_err(|err| failure(err.into()))?;
    let ranges = coalesce(file_ranges(&shelved.window), GAP_BYTES);
    let mut outcome = Ok(());
    for range in &ranges {
        outcome = page_in(&reader, range).await;
        if outcome.is_err() {
            break;
        }
    }
    reader.close().await;
    outcome?;
    populate(&title.map, &ranges).await?;
    shelved.warm_ms.store(now_ms(engine), Ordering::Relaxed);
    Ok(())
}

async fn page_in(reader: &Reader<'_>, range: &Range<u64>) -> Result<(), WindowFailure> {
    let bytes = range.end.saturating_sub(range.start);
    reader.page_in(range.start, bytes).await.map_err(failure)
}

/// Maps cached pages, a little at a time so that other tasks of the executor get their turn.
async fn populate(map: &MappedFile, ranges: &[Range<u64>]) -> Result<(), WindowFailure> {
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            let bytes = (range.end - at).min(POPULATE_BYTES);
            map.populate(at, bytes).map_err(|err| match err.kind() {
                std::io::ErrorKind::UnexpectedEof => WindowFailure::FileChanged,
                _ => WindowFailure::Unreadable(err.to_string()),
            })?;
            at += bytes;
            if at < range.end {
                yield_once().await;
            }
        }
    }
    Ok(())
}

/// Lets the other tasks of this executor go first.
pub(super) async fn yield_once() {
    let mut has_yielded = false;
    std::future::poll_fn(|context| {
        if has_yielded {
            return Poll::Ready(());
        }
        has_yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Where in the file a window's payload lies, piece by piece.
fn file_ranges(window: &PacketWindow) -> Vec<Range<u64>> {
    let packets = window.frames().iter().flat_map(|frame| window.packets(frame));
    packets
        .flat_map(|packet| window.pieces(packet))
        .filter_map(|piece| match *piece {
            Piece::File { offset, bytes } => Some(offset..offset.saturating_add(u64::from(bytes))),
            Piece::Inline { .. } => None,
        })
        .collect()
}

/// Sorts ranges and joins those that overlap or lie at most `gap` bytes apart.
fn coalesce(mut ranges: Vec<Range<u64>>, gap: u64) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(gap) => {
                last.end = last.end.max(range.end);
            }
            _ => joined.push(range),
        }
    }
    joined
}

/// True when one of `coalesced` holds all of `range`.
fn is_covered(coalesced: &[Range<u64>], range: &Range<u64>) -> bool {
    let past = coalesced.partition_point(|known| known.start <= range.start);
    past.checked_sub(1)
        .and_then(|place| coalesced.get(place))
        .is_some_and(|known| known.end >= range.end)
}

fn failure(err: ReadError) -> WindowFailure {
    match err {
        ReadError::Short { .. } => WindowFailure::FileChanged,
        ReadError::Io(err) => WindowFailure::Unreadable(err.to_string()),
    }
}

fn now_ms(engine: &Engine) -> u64 {
    u64::try_from(engine.started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Bytes between two pieces that are read along: one operation costs more than 16 KiB of copying.
const GAP_BYTES: u64 = 16 << 10;

/// One `madvise`: 256 pages, some 10 us when they are cached.
const POPULATE_BYTES: u64 = 1 << 20;

/// Reads for one window at most: a read for each of two seconds of raw 192 kHz samples.
const READS_MAX: usize = 400_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_that_touch_or_nearly_touch_are_joined() {
        let ranges = vec![30..40, 0..10, 10..12, 5..8, 44..50];
        assert_eq!(coalesce(ranges.clone(), 0), [0..12, 30..40, 44..50]);
        assert_eq!(coalesce(ranges, 4), [0..12, 30..50]);
        let ends = vec![u64::MAX - 1..u64::MAX, 0..1];
        assert_eq!(coalesce(ends, u64::MAX).first(), Some(&(0..u64::MAX)));
    }

    proptest! {
        #[test]
        fn joined_ranges_hold_the_same_bytes(
            parts in prop::collection::vec((0_u64..100, 1_u64..20), 0..20),
            probe in (0_u64..100, 1_u64..20),
        ) {
            let ranges: Vec<_> = parts.iter().map(|(start, bytes)| *start..start + bytes).collect();
            let joined = coalesce(ranges.clone(), 0);
            let has = |ranges: &[Range<u64>], at| ranges.iter().any(|range| range.contains(&at));
            for at in 0..130 {
                prop_assert_eq!(has(&joined, at), has(&ranges, at));
            }
            prop_assert!(joined.windows(2).all(|pair| pair[0].end < pair[1].start));
            let probe = probe.0..probe.0 + probe.1;
            let expected = probe.clone().all(|at| has(&ranges, at));
            prop_assert_eq!(is_covered(&joined, &probe), expected);
        }
    }
}

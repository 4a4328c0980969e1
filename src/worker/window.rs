//! Work::Window: from a window's key to packets whose pages are in memory.
//!
//! ```text
//! file still the same? --> in the cache? --> pages seen lately? --> answer
//!                              | no               | no: page in, populate, mark
//!                              v
//!                          packetize, by reads --> populate, mark --> still the same? --> cache
//! ```
//! A shard sends from the map right after the answer, so its pages must be in the page cache (the
//! reads see to that, waiting without blocking the executor, see `read`) and in the page tables
//! (`populate`, which blocks, but finds all in the cache that was just read). What was done is
//! marked on the window with the time: the lease that shards go by, see `media::pages`.
//! A cached window may have lost its pages to memory pressure; so a hit pages it in again unless it
//! is fresh. With many viewers that is one copy of two seconds of media every two seconds a
//! window, not one a viewer; what is in memory is neither read from the disk nor waited for.
//!
//! Bound: `READS_MAX` reads a window.

use std::ops::Range;
use std::sync::Arc;

use super::cache::Begin;
use super::engine::Engine;
use super::executor::yield_once;
use super::formats::WindowJob;
use super::lanes::Lanes;
use super::ranges::{coalesce, is_covered, page_bytes, page_runs, to_pages};
use super::read::{ReadError, Reader};
use super::reply::Reply;
use crate::library::ResolveError;
use crate::library::title::{FileIdentity, Title};
use crate::mapped::MappedFile;
use crate::media::pages::Pages;
use crate::media::window::{PacketWindow, WindowKey};
use crate::metrics::descriptors::lacks_descriptor;
use crate::poll::task::{Outcome, WindowFailure};

/// Builds a window, or finds it built, and answers.
pub(super) async fn window(
    engine: &Engine,
    lanes: &Lanes,
    title: &Title,
    key: WindowKey,
    reply: Reply,
) {
    if let Err(failure) = check_name(engine, title) {
        forget_changed(engine, title, &failure);
        return reply.send(Outcome::Window(Err(failure)));
    }
    match engine.windows.begin((title.identity, key), reply) {
        Begin::Hit(window, reply) => {
            engine.counts().windows_hit.add(1);
            let outcome = keep_warm(engine, lanes, title, &window).await;
            if let Err(failure) = &outcome {
                forget_changed(engine, title, failure);
            }
            reply.send(Outcome::Window(outcome.map(|()| window)));
        }
        Begin::Joined => {
            engine.counts().windows_hit.add(1);
        }
        Begin::Make(flight) => {
            let made = make_window(engine, lanes, title, key).await.map(Arc::new);
            match &made {
                Ok(_) => {
                    engine.counts().windows_built.add(1);
                }
                Err(failure) => forget_changed(engine, title, failure),
            }
            let shelved = made.as_ref().ok().map(|window| {
                let bytes = window.memory_bytes();
                (Arc::clone(window), bytes)
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
pub(super) fn check_name(engine: &Engine, title: &Title) -> Result<(), WindowFailure> {
    if title.is_clip() {
        return Ok(());
    }
    match engine.library.identity_of(&title.name) {
        Ok(identity) if identity == title.identity => Ok(()),
        Ok(_) => Err(WindowFailure::FileChanged),
        Err(err) if err.is_absent() => Err(WindowFailure::FileChanged),
        // Nothing is known against it; that it is the same as before is asked of the open file too.
        Err(ResolveError::Io(err)) if lacks_descriptor(&err) => Ok(()),
        Err(err) => Err(WindowFailure::Unreadable(err.to_string())),
    }
}

pub(super) fn forget_changed(engine: &Engine, title: &Title, failure: &WindowFailure) {
    if *failure == WindowFailure::FileChanged {
        engine.forget(title.identity);
    }
}

async fn make_window(
    engine: &Engine,
    lanes: &Lanes,
    title: &Title,
    key: WindowKey,
) -> Result<PacketWindow, WindowFailure> {
    let reader = engine.reader(lanes, &title.file, title.identity);
    let job = engine.formats.window_job(&title.asset, key).map_err(WindowFailure::Corrupt);
    let made = match job {
        Ok(job) => build(engine, job, title, &reader).await,
        Err(failure) => Err(failure),
    };
    reader.close().await;
    unless_changed(title, made)
}

/// What was made, if the file is the same as before: what was built from two versions of a file, or
/// failed because of that, says nothing.
pub(super) fn unless_changed<T>(
    title: &Title,
    made: Result<T, WindowFailure>,
) -> Result<T, WindowFailure> {
    match FileIdentity::of(&title.file) {
        Ok(identity) if identity == title.identity => made,
        Ok(_) => Err(WindowFailure::FileChanged),
        Err(err) => Err(failure(err.into())),
    }
}

async fn build(
    engine: &Engine,
    mut job: Box<dyn WindowJob + '_>,
    title: &Title,
    reader: &Reader<'_>,
) -> Result<PacketWindow, WindowFailure> {
    let read = drive_window(&mut *job, reader).await?;
    let window = job.finish();
    let file_bytes = title.map.file_bytes();
    let read = to_pages(read.into_iter(), page_bytes(), file_bytes);
    let runs = page_runs(&window, file_bytes);
    // As a rule nothing is left to page in: packetizers read the samples whole.
    for run in runs.iter().filter(|run| !is_covered(&read, run)) {
        page_in(reader, run).await?;
    }
    populate(&title.map, &runs).await?;
    window.mark_pages_seen((engine.clock)());
    Ok(window)
}

/// Reads what the packetizer asks for until it is done; returns what was read.
pub(super) async fn drive_window(
    job: &mut dyn WindowJob,
    reader: &Reader<'_>,
) -> Result<Vec<Range<u64>>, WindowFailure> {
    let mut read = Vec::new();
    for _ in 0..READS_MAX {
        let Some(wanted) = job.wanted() else { return Ok(read) };
        let bytes = reader.read(wanted.offset, wanted.bytes as usize).await.map_err(failure)?;
        job.handle_bytes(&bytes).map_err(WindowFailure::Corrupt)?;
        read.push(wanted.offset..wanted.offset.saturating_add(u64::from(wanted.bytes)));
    }
    Err(WindowFailure::Corrupt("one window is in more pieces than any real one".into()))
}

/// Brings a cached window's pages in again when they may be gone.
async fn keep_warm(
    engine: &Engine,
    lanes: &Lanes,
    title: &Title,
    window: &PacketWindow,
) -> Result<(), WindowFailure> {
    if window.pages((engine.clock)()) == Pages::Fresh {
        return Ok(());
    }
    engine.counts().windows_renewed.add(1);
    let reader = engine.reader(lanes, &title.file, title.identity);
    let runs = coalesce(page_runs(window, title.map.file_bytes()), GAP_BYTES);
    let mut outcome = Ok(());
    for run in &runs {
        outcome = page_in(&reader, run).await;
        if outcome.is_err() {
            break;
        }
    }
    reader.close().await;
    outcome?;
    populate(&title.map, &runs).await?;
    window.mark_pages_seen((engine.clock)());
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

pub(super) fn failure(err: ReadError) -> WindowFailure {
    match err {
        ReadError::Short { .. } => WindowFailure::FileChanged,
        ReadError::Io(err) => WindowFailure::Unreadable(err.to_string()),
    }
}

/// Bytes between two runs that are read along: a call costs as much as copying that many.
const GAP_BYTES: u64 = 16 << 10;

/// One `madvise`: 256 pages, some 10 us when they are cached.
const POPULATE_BYTES: u64 = 1 << 20;

/// Reads for one window at most: a read for each of two seconds of raw 192 kHz samples.
const READS_MAX: usize = 400_000;

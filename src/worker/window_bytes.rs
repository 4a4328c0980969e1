//! Work::WindowBytes: from a window's key to packets with their bytes, by reads alone.
//!
//! ```text
//! file still the same? --> packetize, by reads --> read what packets refer to --> still the same?
//! ```
//! For shards that copy the packets: they never look into a mapped file, which may end under them.
//! Neither the window nor its bytes are kept here: one path asks for each window once.
//!
//! Bounds: `PAYLOAD_BYTES_MAX` of payload; `READ_BYTES_MAX` a read.

use super::engine::Engine;
use super::lanes::Lanes;
use super::read::Reader;
use super::reply::Reply;
use super::window::{check_name, drive_window, failure, forget_changed, unless_changed};
use crate::library::title::Title;
use crate::media::packetize::job::{READ_BYTES_MAX, READ_GAP_BYTES_MAX};
use crate::media::payload_window::{FilePart, PayloadJob, PayloadWindow};
use crate::media::window::WindowKey;
use crate::poll::task::{Outcome, WindowFailure};

/// Builds a window, reads its payload, and answers.
pub(super) async fn window_bytes(
    engine: &Engine,
    lanes: &Lanes,
    title: &Title,
    key: WindowKey,
    reply: Reply,
) {
    let made = make(engine, lanes, title, key).await;
    match &made {
        Ok(_) => {
            engine.counts().windows_built.add(1);
        }
        Err(failure) => forget_changed(engine, title, failure),
    }
    reply.send(Outcome::WindowBytes(made.map(Box::new)));
}

async fn make(
    engine: &Engine,
    lanes: &Lanes,
    title: &Title,
    key: WindowKey,
) -> Result<PayloadWindow, WindowFailure> {
    check_name(engine, title)?;
    let reader = engine.reader(lanes, &title.file, title.identity);
    let made = read(engine, title, key, &reader).await;
    reader.close().await;
    unless_changed(title, made)
}

async fn read(
    engine: &Engine,
    title: &Title,
    key: WindowKey,
    reader: &Reader<'_>,
) -> Result<PayloadWindow, WindowFailure> {
    let job = engine.formats.window_job(&title.asset, key);
    let mut job = job.map_err(WindowFailure::Corrupt)?;
    drive_window(&mut *job, reader).await?;
    let job = PayloadJob::new(job.finish());
    let mut job = job.map_err(|error| WindowFailure::Corrupt(error.to_string()))?;
    let parts = job.parts().to_vec();
    read_parts(reader, &parts, |part, bytes| job.fill(part, bytes)).await?;
    Ok(job.finish())
}

/// Reads parts of the file, which come in its order, and hands out each with bytes that begin with
/// it.
pub(super) async fn read_parts(
    reader: &Reader<'_>,
    parts: &[FilePart],
    mut fill: impl FnMut(FilePart, &[u8]),
) -> Result<(), WindowFailure> {
    let mut rest = parts;
    // Each round takes a part at least.
    while let Some(first) = rest.first() {
        let (run, left) = rest.split_at(joined(rest));
        let end = run.iter().map(FilePart::end).max().unwrap_or(first.offset);
        let count = usize::try_from(end.saturating_sub(first.offset)).unwrap_or(usize::MAX);
        let bytes = reader.read(first.offset, count).await.map_err(failure)?;
        for part in run {
            let skip = usize::try_from(part.offset - first.offset).unwrap_or(usize::MAX);
            fill(*part, bytes.get(skip..).unwrap_or_default());
        }
        rest = left;
    }
    Ok(())
}

/// How many of these parts one read takes; at least one.
fn joined(parts: &[FilePart]) -> usize {
    let Some(first) = parts.first() else { return 0 };
    let mut end = first.end();
    let near = parts.iter().take_while(|part| {
        let is_near = part.offset <= end.saturating_add(READ_GAP_BYTES_MAX);
        let is_short = part.end().saturating_sub(first.offset) <= READ_BYTES_MAX.into();
        end = end.max(part.end());
        is_near && is_short
    });
    near.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_lie_close_are_read_together_up_to_the_bound() {
        let part = |offset, bytes| FilePart { offset, bytes, to: 0 };
        let parts = [part(0, 100), part(100, 50), part(4_000, 10), part(9_000, 10)];
        assert_eq!(joined(&parts), 3);
        assert_eq!(joined(&parts[3..]), 1);
        let long: Vec<_> = (0..100).map(|n| part(n * 60_000, 60_000)).collect();
        assert_eq!(joined(&long), 17);
        assert_eq!(joined(&[part(u64::MAX, 9)]), 1);
        assert_eq!(joined(&[]), 0);
    }
}

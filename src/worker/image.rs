//! Work::Image: from a window to its packets in memory as they go on the wire.
//!
//! ```text
//! room? --> headers, inline bytes --> read the payload --> still the same file? --> window
//! ```
//! By reads alone, as `window_bytes`: a mapped file may end under who looks into it.
//!
//! Bounds: `IMAGE_BYTES_MAX`, and the budget of [`super::images`].

use std::sync::Arc;

use super::engine::Engine;
use super::lanes::Lanes;
use super::read::Reader;
use super::reply::Reply;
use super::window::unless_changed;
use super::window_bytes::read_parts;
use crate::library::title::Title;
use crate::media::image::{IMAGE_HEADER_BYTES, ImageJob, ImageNumbers, PacketImage};
use crate::media::window::PacketWindow;
use crate::poll::task::{ImageFailure, Outcome, WindowFailure};
use crate::rtp::{HEADER_BYTES, write_header};

/// Makes the image of a window, if there is room, and answers.
pub(super) async fn image(
    engine: &Engine,
    lanes: &Lanes,
    title: &Title,
    window: &Arc<PacketWindow>,
    numbers: ImageNumbers,
    reply: Reply,
) {
    let made = make(engine, lanes, title, window, numbers).await;
    let counts = engine.counts();
    let counter = if made.is_ok() { &counts.images_made } else { &counts.images_refused };
    counter.add(1);
    engine.update_gauges();
    reply.send(Outcome::Image(made));
}

async fn make(
    engine: &Engine,
    lanes: &Lanes,
    title: &Title,
    window: &Arc<PacketWindow>,
    numbers: ImageNumbers,
) -> Result<(), ImageFailure> {
    let now = (engine.clock)();
    let bytes = ImageJob::memory_bytes_of(window);
    let room = engine.images.reserve(bytes, now).ok_or(ImageFailure::NoRoom)?;
    let job = ImageJob::new(window, numbers, write_header, now)?;
    let reader = engine.reader(lanes, &title.file, title.identity);
    let read = read(job, &reader).await;
    reader.close().await;
    let image = unless_changed(title, read)?;
    let is_put = room.put(window, image, (engine.clock)());
    is_put.then_some(()).ok_or(ImageFailure::InUse)
}

async fn read(mut job: ImageJob, reader: &Reader<'_>) -> Result<PacketImage, WindowFailure> {
    let parts = job.parts().to_vec();
    read_parts(reader, &parts, |part, bytes| job.fill(part, bytes)).await?;
    Ok(job.finish())
}

const _: () = assert!(IMAGE_HEADER_BYTES == HEADER_BYTES);

//! Work::Open, Work::Adopt: from a name, or a file that another process has open, to a title.
//!
//! ```text
//! resolve --> same file in the cache? --> answer
//!                 | no
//!                 v
//!             container, by reads --> map --> still the same file? --> cache, answer all
//! ```
//! The container is parsed with ordinary reads, never through the map (DESIGN section 4.1).
//! Bounds: `STEPS_MAX` steps, `limits::MOOV_BYTES_MAX` a read, `OPEN_BYTES_MAX` in all containers
//! that are being opened at one moment.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::Rng as _;

use super::cache::Begin;
use super::engine::{Engine, TitleKey};
use super::formats::{OpenJob, OpenStep};
use super::lanes::Lanes;
use super::read::{ReadError, Reader};
use super::reply::Reply;
use crate::base::limits::MOOV_BYTES_MAX;
use crate::base::random;
use crate::library::title::{Adopted, FileIdentity, Title};
use crate::library::{CLIP_NAME, LIBRARY_PATH, ResolveError};
use crate::mapped::MappedFile;
use crate::media::asset::{Asset, LeftOut};
use crate::media::codec::Codec;
use crate::metrics::descriptors::{is_kept, lacks_descriptor};
use crate::poll::task::{OpenFailure, Outcome};
use crate::rtp::WireBase;

/// Opens the title `name` (`None`: the built-in clip), or finds it open, and answers.
pub(super) async fn open(engine: &Engine, lanes: &Lanes, name: Option<String>, reply: Reply) {
    let mut opened = open_file(engine, name.as_deref());
    if matches!(&opened, Err(ResolveError::Io(error)) if lacks_descriptor(error)) {
        // Titles that nobody plays have some.
        engine.titles.shrink(0);
        engine.update_gauges();
        opened = open_file(engine, name.as_deref());
    }
    let opened = opened.map_err(resolve_failure);
    let (file, identity) = match opened {
        Ok(opened) => opened,
        Err(failure) => {
            // A deleted file's blocks are not given back before its last descriptor is closed. Any
            // other failure (no descriptor is free) says nothing about the title that is open.
            if failure == OpenFailure::NotFound {
                engine.titles.remove_if(|key| key.name == name);
                engine.update_gauges();
            }
            return reply.send(Outcome::Opened(Err(failure)));
        }
    };
    open_as(engine, lanes, TitleKey { name, identity }, (file, None), reply).await;
}

/// Opens a title whose file another process has open, or finds it open, and answers.
pub(super) async fn adopt(engine: &Engine, lanes: &Lanes, adopted: &Adopted, reply: Reply) {
    let Adopted { name, file, wire } = adopted;
    let opened = FileIdentity::of(file).and_then(|identity| Ok((file.try_clone()?, identity)));
    match opened {
        Ok((file, identity)) => {
            let key = TitleKey { name: name.clone(), identity };
            open_as(engine, lanes, key, (file, Some(*wire)), reply).await;
        }
        Err(error) => reply.send(Outcome::Opened(Err(unavailable(error)))),
    }
}

async fn open_as(
    engine: &Engine,
    lanes: &Lanes,
    key: TitleKey,
    (file, wire): (File, Option<WireBase>),
    reply: Reply,
) {
    if let Some(failure) = engine.recent_failure(&key) {
        return reply.send(Outcome::Opened(Err(failure)));
    }
    match engine.titles.begin(key.clone(), reply) {
        Begin::Hit(title, reply) => reply.send(Outcome::Opened(Ok(title))),
        Begin::Joined => {}
        Begin::Make(flight) => {
            let made = if engine.has_room_for_title() && has_descriptors(engine, &file) {
                make_title(engine, lanes, &key, (file, wire)).await.map(Arc::new)
            } else {
                Err(OpenFailure::Unavailable(TOO_MANY_OPEN.into()))
            };
            if let Err(failure @ OpenFailure::Unplayable(_)) = &made {
                engine.note_failure(key.clone(), failure.clone());
            }
            // The file that had this name before.
            engine.titles.remove_if(|known| known.name == key.name && *known != key);
            let shelved = made.as_ref().ok().map(|title| {
                let bytes = index_bytes(&title.asset);
                (Arc::clone(title), bytes)
            });
            let replies = flight.land(shelved);
            engine.update_gauges();
            for reply in replies {
                reply.send(Outcome::Opened(made.clone()));
            }
        }
    }
}

/// Whether a further title leaves descriptors for those that play; titles that nobody plays make
/// room.
fn has_descriptors(engine: &Engine, file: &File) -> bool {
    if !is_kept(file) {
        return true;
    }
    engine.titles.shrink(0);
    engine.counts().titles_refused.add(1);
    false
}

fn open_file(engine: &Engine, name: Option<&str>) -> Result<(File, FileIdentity), ResolveError> {
    match name {
        Some(name) => engine.library.open_file(name),
        None => engine.library.open_clip().map_err(ResolveError::Io),
    }
}

async fn make_title(
    engine: &Engine,
    lanes: &Lanes,
    key: &TitleKey,
    (file, wire): (File, Option<WireBase>),
) -> Result<Title, OpenFailure> {
    let reader = engine.reader(lanes, &file, key.identity);
    let mut job = engine.formats.open_job(key.identity.bytes);
    let held = Held { sum: &engine.open_bytes, bytes: 0 };
    let asset = drive_open(&mut *job, &reader, held).await;
    reader.close().await;
    let map = MappedFile::new(&file).map_err(unavailable)?;
    // Looked at before the outcome of the parse: half a file is not a bad file.
    let is_same = FileIdentity::of(&file).map_err(unavailable)? == key.identity;
    if !is_same || map.file_bytes() != key.identity.bytes {
        return Err(OpenFailure::Unavailable(STILL_CHANGING.into()));
    }
    let asset = asset?;
    let name = key.name.clone().unwrap_or_else(|| CLIP_NAME.to_owned());
    let url_path = match &key.name {
        Some(name) => format!("{LIBRARY_PATH}{name}"),
        None => CLIP_NAME.to_owned(),
    };
    log_limits(&name, &asset);
    let wire = wire.unwrap_or_else(|| WireBase::new(random::rng().next_u64()));
    Ok(Title { name, url_path, asset, map, identity: key.identity, file, wire })
}

/// Says once for an opened title what of its file is not served as the file has it.
fn log_limits(name: &str, asset: &Asset) {
    for LeftOut { id, reason, .. } in &asset.left_out {
        tracing::info!(code = "HE-I204", title = name, track = id, %reason, "track not served");
    }
    for problem in &asset.problems {
        tracing::info!(code = "HE-I205", title = name, %problem, "title served with a limit");
    }
}

/// Reads what the container asks for until it is done.
async fn drive_open(
    job: &mut dyn OpenJob,
    reader: &Reader<'_>,
    mut held: Held<'_>,
) -> Result<Asset, OpenFailure> {
    for _ in 0..STEPS_MAX {
        match job.step().map_err(OpenFailure::Unplayable)? {
            OpenStep::Done(asset) => return Ok(*asset),
            OpenStep::Read { offset, bytes } => {
                if bytes as u64 > MOOV_BYTES_MAX {
                    return Err(OpenFailure::Unplayable(format!(
                        "its index takes {bytes} bytes, more than any real one"
                    )));
                }
                held.raise_to(bytes)?;
                let bytes = reader.read(offset, bytes).await.map_err(|err| match err {
                    ReadError::Short { .. } => OpenFailure::Unplayable(err.to_string()),
                    ReadError::Io(err) => unavailable(err),
                })?;
                job.handle_bytes(&bytes).map_err(OpenFailure::Unplayable)?;
            }
        }
    }
    Err(OpenFailure::Unplayable("its index is in more pieces than any real one".into()))
}

/// One container's share of `Engine::open_bytes`, given back on drop.
#[derive(Debug)]
struct Held<'a> {
    sum: &'a AtomicUsize,
    bytes: usize,
}

impl Held<'_> {
    /// Counts the largest read: the job keeps about that much.
    fn raise_to(&mut self, bytes: usize) -> Result<(), OpenFailure> {
        let more = bytes.saturating_sub(self.bytes);
        let before = self.sum.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
        if more > 0 && before.saturating_add(more) > OPEN_BYTES_MAX {
            return Err(OpenFailure::Unavailable(TOO_MANY.into()));
        }
        Ok(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.sum.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn resolve_failure(err: ResolveError) -> OpenFailure {
    if err.is_absent() { OpenFailure::NotFound } else { OpenFailure::Unavailable(err.to_string()) }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unavailable(err: io::Error) -> OpenFailure {
    OpenFailure::Unavailable(err.to_string())
}

/// What the title costs in memory, give or take a few hundred bytes a track.
fn index_bytes(asset: &Asset) -> usize {
    let of_track = |track: &crate::media::asset::Track| {
        let hint = track.hint.as_ref().map_or(0, |hint| hint.index.memory_bytes());
        let codecs = track.codec.iter().chain(&track.other_codecs);
        let codecs: usize = codecs.map(Codec::memory_bytes).sum();
        track.index.memory_bytes() + hint + codecs
    };
    asset.tracks.iter().map(of_track).sum::<usize>() + size_of::<Title>()
}

const TOO_MANY_OPEN: &str = "as many titles are played as descriptors allow; try again, or raise the \
     limit on open files (ulimit -n)";

const TOO_MANY: &str = "too many titles with very large indexes are being opened; try again";

/// Four of the largest indexes at once (a read is at most `MOOV_BYTES_MAX`, so one always fits),
/// or some hundred of three-hour films.
const OPEN_BYTES_MAX: usize = 1 << 30;

const STILL_CHANGING: &str = "the file changed while it was opened; try again when it is complete";

/// Two reads for each fragment of a second of a fragmented file of 48 hours, and as much again.
const STEPS_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn title_costs_the_bytes_of_its_decoder_configurations_too() {
        let mut title = Arc::into_inner(crate::library::testing::title(1)).unwrap();
        let before = index_bytes(&title.asset);
        let sets = |count| vec![vec![7; 1_000]; count];
        let codec = |pps| Codec::H264 { nal_length_bytes: 4, sps: sets(1), pps: sets(pps) };
        title.asset.tracks[0].other_codecs = vec![codec(2), codec(3)];
        assert!(index_bytes(&title.asset) >= before + 7_000);
    }

    #[test]
    fn containers_that_are_opened_at_once_share_a_budget_and_give_it_back() {
        let sum = AtomicUsize::new(0);
        let largest = usize::try_from(MOOV_BYTES_MAX).unwrap();
        let mut held: Vec<_> = (0..4).map(|_| Held { sum: &sum, bytes: 0 }).collect();
        for held in &mut held {
            held.raise_to(100).unwrap();
            held.raise_to(largest).unwrap();
            held.raise_to(5).unwrap();
        }
        let mut late = Held { sum: &sum, bytes: 0 };
        assert!(matches!(late.raise_to(4_096), Err(OpenFailure::Unavailable(_))));
        drop(late);
        held.pop();
        let mut late = Held { sum: &sum, bytes: 0 };
        late.raise_to(largest).unwrap();
        drop((late, held));
        assert_eq!(sum.load(Ordering::Relaxed), 0);
    }
}

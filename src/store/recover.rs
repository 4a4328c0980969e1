//! What a restart makes of the folder.
//!
//! ```text
//! journal ends with the end frame: whole, in the store or where its place file says
//! else: units up to the last sync are trusted, but for the last 8 MiB; from there on units count
//!       as long as their bytes have their hashes, 16 MiB at most; the rest is cut off
//! ```
//! Units ahead of a gap count when their bytes have their hashes.
//! So a kill costs what was not written, and a loss of power what was not synced. The journal is
//! written anew, without what was cut off: a base signs those units again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::content::{Found, FoundIntake, Published, Signing};
use super::depot::{Depot, FileKind};
use super::journal::{self, HashLog, Journal, Synced};
use super::{Content, StoreKey, disk, limits};
use crate::dist::ids::ContentId;
use crate::dist::units::{
    AHEAD_BYTES_MAX, EndFrame, Frame, HashFrame, Tree, UNIT_BYTES, UNIT_LEN, UnitFrame, UnitHash,
    UnitVerifier, units_of,
};

/// Units whose bytes agree with the journal.
struct Verified {
    /// Hashes of all units, the first ones trusted.
    hashes: Vec<UnitHash>,
    have: u64,
}

/// All contents of the folder. Files of others are deleted.
pub(super) fn contents(depot: &Arc<Depot>) -> io::Result<Vec<Arc<Content>>> {
    let mut ids = BTreeSet::new();
    for entry in std::fs::read_dir(depot.path())? {
        let name = entry?.file_name();
        let Some((id, rest)) = name.to_str().and_then(|name| name.split_once('.')) else {
            continue;
        };
        let Ok(id) = id.parse::<ContentId>() else { continue };
        if FileKind::ALL.iter().any(|kind| kind.extension() == rest) {
            ids.insert(id);
        } else if rest.ends_with(".new") {
            depot.delete(&format!("{id}.{rest}"))?;
        }
    }
    let mut contents = Vec::new();
    for id in ids {
        match find(depot, id) {
            Ok(Some(found)) => contents.push(Content::take_up(depot, id, found)),
            Ok(None) => delete(depot, id)?,
            Err(error) => {
                tracing::warn!(
                    code = "HE-W912", content = %id, %error,
                    "the files of a content cannot be taken up and are deleted"
                );
                delete(depot, id)?;
            }
        }
    }
    Ok(contents)
}

fn delete(depot: &Depot, id: ContentId) -> io::Result<()> {
    FileKind::ALL.into_iter().try_for_each(|kind| depot.delete(&kind.name(id)))
}

/// `None` for files that are left of nothing.
fn find(depot: &Depot, id: ContentId) -> io::Result<Option<Found>> {
    let journal = match depot.reopen(id, FileKind::Units) {
        Ok(journal) => journal,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let key = depot.key().verify_key();
    let verify = |message: &[u8], signature: &[u8; 64]| key.verify(message, signature);
    if let Some(end) = journal::read_end(&journal)?.filter(|end| end.is_signed(id, verify)) {
        return find_whole(depot, id, end);
    }
    let mut read = journal::read(&journal, id, |frame| match frame {
        Frame::Hashes(frame) => frame.is_signed(id, verify),
        Frame::End(frame) => frame.is_signed(id, verify),
        Frame::Unit(_) => false,
    })?;
    match &read.end {
        // A sync was noted behind the end.
        Some(end) => find_whole(depot, id, end.clone()),
        None => {
            read.join_ahead();
            find_growing(depot, id, &read).map(Some)
        }
    }
}

fn find_whole(depot: &Depot, id: ContentId, end: EndFrame) -> io::Result<Option<Found>> {
    let size = end.end().size;
    let published = match depot.reopen(id, FileKind::Data) {
        Ok(data) if data.metadata()?.len() >= size => None,
        Ok(_) => return Err(io::Error::other("its file is shorter than its end says")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(published) = find_published(depot, id)? else { return Ok(None) };
            Some(published)
        }
        Err(error) => return Err(error),
    };
    let intake = match depot.key() {
        StoreKey::Signs(_) => FoundIntake::Signs(Signing::default()),
        StoreKey::Verifies(_) => FoundIntake::Verifies(UnitVerifier::new(id)),
    };
    Ok(Some(Found {
        size: Some(size),
        have: size,
        accepted: size,
        log: None,
        end: Some(end),
        published,
        files: None,
        intake,
    }))
}

/// The place in the media folder, if the file there is still the content's.
fn find_published(depot: &Depot, id: ContentId) -> io::Result<Option<Published>> {
    let file = match depot.reopen(id, FileKind::Place) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let published: Published = serde_json::from_reader(file)?;
    // Deleted, moved or replaced since: no source any more, and no fault.
    Ok(published.open().is_ok().then_some(published))
}

fn find_growing(depot: &Depot, id: ContentId, read: &Journal) -> io::Result<Found> {
    let data = depot.reopen(id, FileKind::Data)?;
    let mut verified = verify_units(&data, read)?;
    if verified.have < read.synced.verified {
        tracing::warn!(
            code = "HE-W911", content = %id, synced = read.synced.verified, have = verified.have,
            "bytes of a content do not have the hashes of its journal: they are cut off"
        );
    }
    let mut tail = Vec::new();
    if let StoreKey::Signs(_) = depot.key() {
        tail = take_tail(&data, &mut verified, read.synced)?;
    }
    let accepted = verified.have + tail.len() as u64;
    let ahead = units_ahead(&data, read, verified.have)?;
    if ahead.is_empty() {
        data.set_len(accepted)?;
    }
    if let Some(size) = read.size {
        // What was reserved may be lost by the cut; the disk may also be full by now, and says so
        // when bytes come.
        let _ = disk::reserve(&data, size);
    }
    data.sync_data()?;
    let log = kept_log(depot.key(), id, &read.log, verified.have);
    let mut bytes = journal::header(id, read.size);
    for frame in log.frames() {
        bytes.extend_from_slice(frame.encoded());
    }
    let synced = Synced { verified: verified.have, accepted };
    bytes.extend_from_slice(&journal::synced_record(id, synced));
    let mut noted = BTreeSet::new();
    for (frame, _) in ahead.iter().filter(|(frame, _)| noted.insert(frame.first())) {
        bytes.extend_from_slice(&journal::ahead_record(frame));
    }
    let journal = depot.replace(id, FileKind::Units, &bytes)?;
    let mut intake = intake_of(depot.key(), id, &verified, &tail, &log);
    if let FoundIntake::Verifies(verifier) = &mut intake {
        for (frame, unit) in ahead {
            // Signatures were checked as they were read, hashes a moment ago.
            let _ = verifier.handle_part(Frame::Hashes(frame), |_, _| true);
            let _ = verifier.handle_part(Frame::Unit(unit), |_, _| true);
        }
    }
    let (size, have) = (read.size, verified.have);
    let files = Some((data, journal));
    Ok(Found { size, have, accepted, log: Some(log), end: None, published: None, files, intake })
}

fn verify_units(data: &File, journal: &Journal) -> io::Result<Verified> {
    let len = data.metadata()?.len();
    let trusted = journal.synced.verified.min(len).saturating_sub(limits::REHASH_BYTES_MAX / 2);
    let trusted = (trusted / UNIT_BYTES).min(journal.log.units());
    let mut hashes = Vec::new();
    for unit in 0..trusted {
        let hash = journal.log.hash_of(unit).map(UnitHash::known);
        hashes.push(hash.ok_or_else(|| io::Error::other("its journal has a gap"))?);
    }
    let mut have = trusted * UNIT_BYTES;
    let mut bytes = vec![0; UNIT_LEN];
    for unit in
        (trusted..).take(usize::try_from(limits::REHASH_BYTES_MAX / UNIT_BYTES).unwrap_or(0))
    {
        let Some(expected) = journal.log.hash_of(unit) else { break };
        let unit_len = usize::try_from(len.saturating_sub(have)).unwrap_or(UNIT_LEN).min(UNIT_LEN);
        let Some(bytes) = bytes.get_mut(..unit_len).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        data.read_exact_at(bytes, have)?;
        let hash = UnitHash::of(unit, bytes);
        if hash.value != expected {
            break;
        }
        hashes.push(hash);
        have += unit_len as u64;
        if unit_len < UNIT_LEN {
            break;
        }
    }
    Ok(Verified { hashes, have })
}

/// Units behind a gap whose bytes agree with their hashes. The first one that is missing is fetched
/// in any case: it says where the gap is.
fn units_ahead(
    data: &File,
    journal: &Journal,
    have: u64,
) -> io::Result<Vec<(HashFrame, UnitFrame)>> {
    let (len, next) = (data.metadata()?.len(), units_of(have));
    let limit = next + AHEAD_BYTES_MAX / UNIT_BYTES;
    let mut found = BTreeMap::new();
    for frame in &journal.ahead {
        for unit in frame.first().max(next + 1)..frame.end().min(limit) {
            let (start, hash) = (unit * UNIT_BYTES, frame.hash_of(unit));
            let unit_len = usize::try_from(len.saturating_sub(start).min(UNIT_BYTES)).unwrap_or(0);
            if unit_len == 0 || found.contains_key(&unit) {
                continue;
            }
            let read = UnitFrame::fill(unit, unit_len, |bytes| data.read_exact_at(bytes, start))?;
            if Some(UnitHash::of(unit, read.bytes()).value) == hash {
                found.insert(unit, (frame.clone(), read));
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Bytes of the client behind the last whole unit: what was synced of them.
fn take_tail(data: &File, verified: &mut Verified, synced: Synced) -> io::Result<Vec<u8>> {
    let whole = verified.have - verified.have % UNIT_BYTES;
    // A short last unit was signed as the last: whether it is depends on the client again.
    let end = if whole < verified.have {
        verified.hashes.pop();
        verified.have
    } else if synced.verified == whole && synced.accepted - whole < UNIT_BYTES {
        synced.accepted.min(data.metadata()?.len()).max(whole)
    } else {
        whole
    };
    verified.have = whole;
    let mut tail = vec![0; usize::try_from(end - whole).unwrap_or(0)];
    data.read_exact_at(&mut tail, whole)?;
    Ok(tail)
}

/// Frames of the units that are there. A base signs those of the last frame again when it reaches
/// further: the units behind may become others.
fn kept_log(key: &StoreKey, id: ContentId, log: &HashLog, have: u64) -> HashLog {
    let units = units_of(have);
    let mut kept = HashLog::default();
    for frame in log.frames().iter().take_while(|frame| frame.first() < units) {
        match key {
            StoreKey::Signs(keys) if frame.end() > units => {
                let hashes: Vec<[u8; 32]> =
                    (frame.first()..units).filter_map(|unit| frame.hash_of(unit)).collect();
                let sign = |message: &[u8]| keys.sign(message);
                kept.push(HashFrame::sign(id, frame.first(), &hashes, sign));
            }
            StoreKey::Signs(_) | StoreKey::Verifies(_) => kept.push(frame.clone()),
        }
    }
    kept
}

fn intake_of(
    key: &StoreKey,
    id: ContentId,
    verified: &Verified,
    tail: &[u8],
    log: &HashLog,
) -> FoundIntake {
    match key {
        StoreKey::Signs(_) => {
            let mut tree = Tree::default();
            verified.hashes.iter().for_each(|hash| tree.push(*hash));
            FoundIntake::Signs(Signing::resume(tree, tail))
        }
        StoreKey::Verifies(_) => {
            let mut verifier = UnitVerifier::new(id);
            let mut rest = verified.have;
            for hash in &verified.hashes {
                verifier.trust(*hash, rest.min(UNIT_BYTES));
                rest = rest.saturating_sub(UNIT_BYTES);
            }
            if let Some(last) = log.frames().last() {
                // Its signature was checked as it was read; hashes that are known have no effect.
                let _ = verifier.handle(&Frame::Hashes(last.clone()), |_, _| true);
            }
            FoundIntake::Verifies(verifier)
        }
    }
}

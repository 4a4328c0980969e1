//! What comes in: bytes of a client at the base, frames of a source at a node.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};

use super::{Appended, Content, Synced};
use crate::dist::ids::Digest;
use crate::dist::keys::BaseKeys;
use crate::dist::units::{
    Accepted, Caught, EndFrame, Frame, HASHES_PER_FRAME_MAX, HashFrame, Tree, UnitBuffer,
    UnitFrame, UnitHash, UnitVerifier,
};
use crate::dist::wire::peer::ContentEnd;
use crate::store::journal::synced_record;
use crate::store::{StoreError, StoreKey, disk, limits};

/// One of the two sides. Locked by whoever appends, so that bytes and frames have an order.
#[derive(Debug)]
pub(super) enum Intake {
    Signs(Signing),
    Verifies(UnitVerifier),
}

/// Hashes what a client sends, and signs hashes.
#[derive(Debug, Default)]
pub(in crate::store) struct Signing {
    /// The unit that is not complete.
    unit: UnitBuffer,
    tree: Tree,
    /// Units that have no signature yet, fewer than a frame has hashes.
    pending: Vec<(UnitHash, UnitFrame)>,
    signed_at: Option<Instant>,
    /// Pending units will be signed soon.
    is_due: bool,
    /// The last unit is shorter than others: nothing may follow.
    is_closed: bool,
}

impl Content {
    /// Takes the client's next bytes: those at [`Self::accepted`]. Waits while the disk is too far
    /// behind. When the future is dropped, what was taken stays.
    ///
    /// # Errors
    /// `TooLong`, `Ended`, `Removed`, `NoSpace` and `Io`: these of earlier bytes too, as they are
    /// written behind.
    pub async fn append(self: &Arc<Self>, bytes: Bytes) -> Result<(), StoreError> {
        self.append_from(None, bytes).await
    }

    /// The same for bytes that are at `offset`.
    ///
    /// # Errors
    /// `Offset` when other bytes are next; the others of [`Self::append`].
    pub async fn append_at(self: &Arc<Self>, offset: u64, bytes: Bytes) -> Result<(), StoreError> {
        self.append_from(Some(offset), bytes).await
    }

    async fn append_from(
        self: &Arc<Self>,
        offset: Option<u64>,
        mut bytes: Bytes,
    ) -> Result<(), StoreError> {
        let mut intake = self.intake.lock().await;
        let (Intake::Signs(signing), StoreKey::Signs(keys)) = (&mut *intake, self.depot.key())
        else {
            return Err(StoreError::OtherSide);
        };
        self.check_append(offset, bytes.len() as u64, signing)?;
        while bytes.has_remaining() {
            let before = bytes.remaining();
            signing.unit.fill(&mut bytes);
            let is_frame_full = signing.take_full_unit() == HASHES_PER_FRAME_MAX;
            self.lock().accepted += (before - bytes.remaining()) as u64;
            if is_frame_full {
                self.release(signing, keys);
                self.wait_for_disk().await?;
            }
        }
        let is_late = |at: Instant| at.elapsed() >= SIGN_WAIT;
        if !signing.pending.is_empty() {
            if signing.signed_at.is_none_or(is_late) {
                self.release(signing, keys);
            } else if !std::mem::replace(&mut signing.is_due, true) {
                tokio::spawn(release_later(Arc::downgrade(self)));
            }
        }
        drop(intake);
        self.wait_for_disk().await
    }

    /// Bytes of the client behind the last whole unit, with their offset: what [`Content::read`]
    /// does not have yet. All whole units are signed then. Nothing at a node.
    pub async fn tail(self: &Arc<Self>) -> (u64, Bytes) {
        let mut intake = self.intake.lock().await;
        let (Intake::Signs(signing), StoreKey::Signs(keys)) = (&mut *intake, self.depot.key())
        else {
            return (self.have(), Bytes::new());
        };
        self.release(signing, keys);
        (self.have(), Bytes::copy_from_slice(signing.unit.bytes()))
    }

    /// Makes all durable that was accepted, those of a unit that is not complete too.
    ///
    /// # Errors
    /// Those of the file system, and `Removed`.
    pub async fn sync(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut intake = self.intake.lock().await;
        let tail = match (&mut *intake, self.depot.key()) {
            (Intake::Signs(signing), StoreKey::Signs(keys)) => {
                self.release(signing, keys);
                Bytes::copy_from_slice(signing.unit.bytes())
            }
            _ => Bytes::new(),
        };
        self.flush().await?;
        let content = Arc::clone(self);
        blocking(move || {
            let (files, synced, is_whole) = {
                let state = content.lock();
                state.check()?;
                let accepted = state.have + tail.len() as u64;
                let synced = Synced { verified: state.have, accepted };
                (state.files.clone(), synced, state.end.is_some())
            };
            let Some(files) = files.filter(|_| !is_whole) else { return Ok(()) };
            disk::write_pieces(&files.data, &[&tail], synced.verified)?;
            files.data.sync_data()?;
            if let Some(journal) = &files.journal {
                disk::append(journal, &synced_record(content.id, synced))?;
                journal.sync_data()?;
            }
            content.lock().synced = synced;
            Ok(())
        })
        .await
    }

    /// Ends the content: [`Self::finish_as`] without an expectation.
    ///
    /// # Errors
    /// As there.
    pub async fn finish(self: &Arc<Self>) -> Result<ContentEnd, StoreError> {
        self.finish_as(None).await
    }

    /// Ends the content with what was accepted. Once this returns, all of it is durable, and only
    /// then streams see the end. Again for a content that has its end: the same answer.
    ///
    /// # Errors
    /// `TooShort` when the client announced more, `BadHash` when it announced another hash: then
    /// the content is spoilt, and no node sees its end. `Removed`, `NoSpace`, `Io`.
    pub async fn finish_as(
        self: &Arc<Self>,
        expected: Option<Digest>,
    ) -> Result<ContentEnd, StoreError> {
        let mut intake = self.intake.lock().await;
        let (Intake::Signs(signing), StoreKey::Signs(keys)) = (&mut *intake, self.depot.key())
        else {
            return Err(StoreError::OtherSide);
        };
        let is_other = |found: Digest| expected.filter(|expected| *expected != found);
        if let Some(end) = self.end() {
            return match is_other(end.blake3) {
                Some(expected) => Err(StoreError::BadHash { expected, found: end.blake3 }),
                None => Ok(end),
            };
        }
        let size = {
            let state = self.lock();
            state.check()?;
            let have = state.accepted;
            if let Some(size) = state.size.filter(|size| *size != have) {
                return Err(StoreError::TooShort { have, size });
            }
            have
        };
        signing.take_last_unit();
        let found = signing.tree.root().ok_or_else(|| StoreError::Io {
            kind: std::io::ErrorKind::InvalidData,
            text: "the hash of the first unit is not known".to_owned(),
        })?;
        if let Some(expected) = is_other(found) {
            let error = StoreError::BadHash { expected, found };
            self.lock().failure = Some(error.clone());
            return Err(error);
        }
        self.release(signing, keys);
        self.flush().await?;
        let end = ContentEnd { size, blake3: found };
        let frame = EndFrame::sign(self.id, &end, |message| keys.sign(message));
        self.commit_end(frame.clone()).await?;
        self.set_end(frame);
        Ok(end)
    }

    /// Takes a frame of a source: verifies it, lets streams have it and writes it behind. Frames of
    /// several sources may come at once.
    ///
    /// # Errors
    /// `BadUnit`, `BadSignature` and `Frames` for what is wrong with the source: nothing has
    /// changed. `Removed`, `NoSpace` and `Io` as for [`Self::append`].
    pub async fn append_frame(self: &Arc<Self>, frame: Frame) -> Result<Appended, StoreError> {
        self.take_frame(frame, false).await
    }

    /// The same for a frame of a part, which may be ahead of what is verified: then it is kept, in
    /// memory and in its place on the disk, and streams have it once what is in front of it has
    /// come.
    ///
    /// # Errors
    /// Those of [`Self::append_frame`]; `Frames` also when it is too far ahead.
    pub async fn append_part(self: &Arc<Self>, frame: Frame) -> Result<Appended, StoreError> {
        self.take_frame(frame, true).await
    }

    async fn take_frame(
        self: &Arc<Self>,
        frame: Frame,
        is_of_part: bool,
    ) -> Result<Appended, StoreError> {
        let appended = {
            let mut intake = self.intake.lock().await;
            let (Intake::Verifies(verifier), StoreKey::Verifies(key)) =
                (&mut *intake, self.depot.key())
            else {
                return Err(StoreError::OtherSide);
            };
            {
                let state = self.lock();
                state.check()?;
                if state.end.is_some() {
                    return Ok(Appended::Known);
                }
            }
            let is_signed = |message: &[u8], signature: &_| key.verify(message, signature);
            let accepted = if is_of_part {
                verifier.handle_part(frame.clone(), is_signed)?
            } else {
                verifier.handle(&frame, is_signed)?
            };
            self.keep(verifier, accepted, (frame, is_of_part))
        };
        if matches!(appended, Appended::Unit { .. } | Appended::Ahead) {
            self.wait_for_disk().await?;
        }
        Ok(appended)
    }

    /// Keeps what was accepted, and what follows it of what came before.
    fn keep(
        self: &Arc<Self>,
        verifier: &mut UnitVerifier,
        accepted: Accepted,
        (frame, is_of_part): (Frame, bool),
    ) -> Appended {
        let before = self.have();
        match (accepted, frame) {
            (Accepted::Hashes, Frame::Hashes(frame)) => {
                // Those of a part are kept with its units.
                if !is_of_part {
                    self.lock().push_hashes(frame);
                }
                return Appended::Hashes;
            }
            (Accepted::Unit, Frame::Unit(unit)) => self.lock().push_unit(unit, &self.depot),
            (Accepted::Ahead, Frame::Unit(unit)) => {
                if let Some(hashes) = verifier.frame_ahead(unit.number()) {
                    self.lock().ahead.push(hashes.clone(), unit);
                }
            }
            (Accepted::End(end), Frame::End(frame)) => {
                self.set_end(frame);
                return Appended::End(end);
            }
            _ => return Appended::Known,
        }
        while let Some(Caught { hashes, unit }) = verifier.catch_up() {
            let mut state = self.lock();
            hashes.into_iter().for_each(|frame| state.push_hashes(frame));
            state.push_unit(unit, &self.depot);
        }
        let have = {
            let mut state = self.lock();
            let have = state.have;
            state.ahead.pass(have);
            have
        };
        if have == before {
            self.write_ahead();
            return Appended::Ahead;
        }
        self.tell();
        self.kick(false);
        Appended::Unit { have }
    }

    /// Bytes that are ahead of what is verified, in pieces: what a restart found, or sources gave.
    #[must_use]
    pub fn ranges_ahead(&self) -> Vec<Range<u64>> {
        match self.intake.try_lock().as_deref() {
            Ok(Intake::Verifies(verifier)) => verifier.ranges_ahead(),
            // Whoever appends now knows it better.
            Ok(Intake::Signs(_)) | Err(_) => Vec::new(),
        }
    }

    fn check_append(
        &self,
        offset: Option<u64>,
        len: u64,
        signing: &Signing,
    ) -> Result<(), StoreError> {
        let state = self.lock();
        state.check()?;
        if state.end.is_some() || signing.is_closed {
            return Err(StoreError::Ended);
        }
        if offset.is_some_and(|offset| offset != state.accepted) {
            return Err(StoreError::Offset { have: state.accepted });
        }
        match state.size {
            Some(size) if state.accepted.saturating_add(len) > size => {
                Err(StoreError::TooLong { size })
            }
            _ => Ok(()),
        }
    }

    /// Signs what is pending and lets streams have it.
    fn release(self: &Arc<Self>, signing: &mut Signing, keys: &BaseKeys) {
        let Some((_, first)) = signing.pending.first() else { return };
        let hashes: Vec<[u8; 32]> = signing.pending.iter().map(|(hash, _)| hash.value).collect();
        let sign = |message: &[u8]| keys.sign(message);
        let frame = HashFrame::sign(self.id, first.number(), &hashes, sign);
        signing.signed_at = Some(Instant::now());
        {
            let mut state = self.lock();
            state.push_hashes(frame);
            for (_, unit) in signing.pending.drain(..) {
                state.push_unit(unit, &self.depot);
            }
        }
        self.tell();
        self.kick(false);
    }

    /// Notes the end, lets streams have it, and keeps the ring as long as there is memory.
    fn set_end(self: &Arc<Self>, frame: EndFrame) {
        let bytes = {
            let mut state = self.lock();
            state.end = Some(frame);
            state.stop_growing(&self.depot);
            state.ring.bytes()
        };
        self.tell();
        if bytes > 0 {
            self.depot.cache(self, bytes);
        }
    }

    /// Makes a whole content of the base durable, its end last.
    async fn commit_end(self: &Arc<Self>, frame: EndFrame) -> Result<(), StoreError> {
        let files = self.files().await?;
        let Some(journal) = files.journal else {
            return Ok(());
        };
        let folder = Arc::clone(self.depot.folder());
        let then = {
            let journal = Arc::clone(&journal);
            Box::new(move || {
                disk::append(&journal, frame.encoded())?;
                Ok(vec![journal, folder])
            })
        };
        self.depot.commits().commit(files.data, then).await?;
        let mut state = self.lock();
        let have = state.have;
        state.synced = Synced { verified: have, accepted: have };
        state.files = None;
        state.forget_log();
        Ok(())
    }
}

impl super::State {
    /// Leaves the hashes of a whole content on the disk when they are many.
    pub(super) fn forget_log(&mut self) {
        let frames = self.log.as_ref().map_or(0, |log| log.frames().len());
        if frames > limits::LOG_FRAMES_KEPT && frames == self.journaled {
            self.log = None;
        }
    }
}

impl Signing {
    /// Goes on behind units that were hashed before, with bytes of the next.
    pub(in crate::store) fn resume(tree: Tree, tail: &[u8]) -> Self {
        let mut unit = UnitBuffer::default();
        unit.fill(&mut &*tail);
        Self { unit, tree, ..Self::default() }
    }

    /// Hashes the unit if it is full; gives the number of units that are pending.
    fn take_full_unit(&mut self) -> usize {
        if self.unit.is_full() {
            self.take_unit();
        }
        self.pending.len()
    }

    fn take_last_unit(&mut self) {
        if !self.unit.bytes().is_empty() {
            self.take_unit();
            self.is_closed = true;
        }
    }

    fn take_unit(&mut self) {
        let number = self.tree.units();
        let hash = UnitHash::of(number, self.unit.bytes());
        self.tree.push(hash);
        self.pending.push((hash, self.unit.finish(number)));
    }
}

/// Signs what waits for other units when none came.
async fn release_later(content: std::sync::Weak<Content>) {
    tokio::time::sleep(SIGN_WAIT).await;
    let Some(content) = content.upgrade() else { return };
    let mut intake = content.intake.lock().await;
    if let (Intake::Signs(signing), StoreKey::Signs(keys)) = (&mut *intake, content.depot.key()) {
        signing.is_due = false;
        content.release(signing, keys);
    }
}

/// Runs file work where it may block.
pub(super) async fn blocking<T: Send + 'static, E: From<std::io::Error> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(std::io::Error::other(error).into()),
    }
}

const SIGN_WAIT: Duration = Duration::from_millis(limits::SIGN_WAIT_MS);

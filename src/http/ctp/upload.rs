//! Bytes of a client on their way into a content.
//!
//! ```text
//! write -> compare (bytes that are there already) -> pieces -> Content::append_at -> store
//!              '-- they differ --> another command, which begins with what was the same
//! finish -> size, hash -> Content::finish -> book.upload_ended        dropped -> parked
//! ```
//! A client that sends a file again from its start goes on where it was: what is there is compared,
//! not kept twice. If the file has changed, the put is withdrawn and another takes its place.
//! Invariants: bytes go in at one offset only, so of two requests for one file one fails. A piece
//! that was begun is taken whole, even if its request ends. Only a complete upload with the size
//! and hash that the client named gets an end.
//! Bound: `PIECE_BYTES` wait here.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use serde_json::json;

use super::checksum::{Checksum, Hasher};
use super::fs::Outcome;
use super::meta::Meta;
use super::tree::File;
use super::{Ctp, problem, to_the_end};
use crate::dist::ids::{ContentId, Digest, JobId};
use crate::dist::wire::peer::ContentEnd;
use crate::http::problem::Problem;
use crate::store::{Content, StoreError};

/// An upload.
pub(super) struct Upload {
    pub(super) ctp: Arc<Ctp>,
    pub(super) client: String,
    pub(super) job: JobId,
    /// Its path and put.
    pub(super) path: String,
    pub(super) file: File,
    pub(super) id: ContentId,
    pub(super) content: Arc<Content>,
    /// Size of the whole file, where it is known.
    pub(super) size: Option<u64>,
    /// BLAKE3 that the client expects.
    pub(super) blake3: Option<Digest>,
    /// The file ends with this request.
    pub(super) is_last: bool,
    /// Bytes below this offset are there: what the client sends again is compared with them.
    pub(super) known: u64,
    /// Offset of the next byte from the client.
    pub(super) at: u64,
    /// Bytes that are not in the content yet.
    pub(super) pieces: BytesMut,
    /// Another hash that the client named.
    pub(super) wanted: Option<(Checksum, Vec<Hasher>)>,
    /// When the book last heard how far it is.
    pub(super) told: Instant,
    pub(super) is_done: bool,
}

impl Upload {
    /// The next bytes of the client.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let end = self.at.saturating_add(length(bytes));
        if let Some(size) = self.size.filter(|size| end > *size) {
            let detail = format!("more than the {size} bytes that were announced");
            return Err(problem(StatusCode::BAD_REQUEST, "wrong_size", detail));
        }
        if let Some((_, hashers)) = &mut self.wanted {
            hashers.iter_mut().for_each(|hasher| hasher.update(bytes));
        }
        let fresh = self.compare(bytes).await?;
        self.at = end;
        self.pieces.extend_from_slice(fresh);
        while self.pieces.len() >= PIECE_BYTES {
            let piece = self.pieces.split_to(PIECE_BYTES).freeze();
            self.append(piece).await?;
        }
        Ok(())
    }

    /// All bytes of this request have come.
    pub(super) async fn finish(&mut self) -> Result<Outcome, Problem> {
        if self.at < self.known {
            if self.is_last && self.size.is_none_or(|size| size == self.at) {
                // It ends before what is there: it is another, shorter file.
                self.replace(self.at).await?;
            } else {
                return Ok(self.outcome(None));
            }
        }
        let rest = self.pieces.split().freeze();
        self.append(rest).await?;
        if !self.is_last {
            self.park();
            return Ok(self.outcome(None));
        }
        if let Some(size) = self.size.filter(|size| *size != self.at) {
            self.park();
            let detail = format!("{} bytes of the {size} that were announced", self.at);
            return Err(problem(StatusCode::BAD_REQUEST, "wrong_size", detail)
                .with("expected_offset", json!(self.at)));
        }
        self.check().await?;
        let end = self.end().await?;
        Ok(self.outcome(Some(end)))
    }

    /// What WebDAV shows of the file.
    pub(super) fn meta(&self) -> Meta {
        let len = self.content.end().map_or_else(|| self.content.have(), |end| end.size);
        Meta::of_file(&self.file, len)
    }

    fn outcome(&self, end: Option<ContentEnd>) -> Outcome {
        let offset = end.map_or_else(|| self.content.accepted(), |end| end.size);
        let size = end.map_or(self.size, |end| Some(end.size));
        Outcome { command: self.file.command, offset, size, end }
    }

    /// Passes over bytes that are there already. If they differ, the put is withdrawn and another
    /// one gets what was the same.
    async fn compare<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Problem> {
        let mut rest = bytes;
        let mut at = self.at;
        while at < self.known && !rest.is_empty() {
            let end = self.known.min(at.saturating_add(length(rest)));
            let held = read(&self.content, at..end).await?;
            let same = held.iter().zip(rest).take_while(|(a, b)| a == b).count();
            at += length(&rest[..same]);
            rest = &rest[same..];
            if same < held.len() {
                self.replace(at).await?;
                break;
            }
        }
        Ok(rest)
    }

    /// Withdraws the put and makes another, with the first `same` bytes of its content.
    async fn replace(&mut self, same: u64) -> Result<(), Problem> {
        let old = Arc::clone(&self.content);
        self.ctp.withdraw(&self.client, self.job, self.file.command).await?;
        self.is_done = true;
        let mut put = self
            .ctp
            .put(&self.client, self.job, &self.path, &self.file.attrs, self.size, self.blake3)
            .await?;
        put.pieces = std::mem::take(&mut self.pieces);
        (put.wanted, put.is_last) = (self.wanted.take(), self.is_last);
        let mut at = 0;
        while at < same {
            let bytes = read(&old, at..same.min(at + COPY_BYTES)).await?;
            at += length(&bytes);
            put.at = at;
            put.append(bytes).await?;
        }
        *self = put;
        Ok(())
    }

    /// Puts a piece into the content; it goes in whole, even if the request ends meanwhile.
    async fn append(&mut self, piece: Bytes) -> Result<(), Problem> {
        if piece.is_empty() {
            return Ok(());
        }
        // What waits and this piece end at `at`.
        let offset = self.at - length(&self.pieces) - length(&piece);
        let (content, bytes) = (Arc::clone(&self.content), length(&piece));
        let taken = to_the_end(async move { content.append_at(offset, piece).await }).await?;
        taken.map_err(|error| refused(&error))?;
        self.ctp.cells.bytes_from_clients.add(bytes);
        if self.told.elapsed() >= TELL_INTERVAL {
            self.tell();
        }
        Ok(())
    }

    /// Tells the book how far it is, without waiting for it.
    pub(super) fn tell(&mut self) {
        self.told = Instant::now();
        let (ctp, id, have) = (Arc::clone(&self.ctp), self.id, self.content.accepted());
        tokio::spawn(async move {
            // It is told again.
            let _busy = ctp.clerk.ask(move |book, at| book.upload_grew(id, have, at)).await;
        });
    }

    /// Compares with the hash that the client named. One that differs withdraws the put.
    async fn check(&mut self) -> Result<(), Problem> {
        let Some((wanted, hashers)) = self.wanted.take() else { return Ok(()) };
        let all: Vec<Checksum> = hashers.into_iter().map(Hasher::finish).collect();
        if all.first() == Some(&wanted) {
            self.ctp.keep_checksums(self.id, all);
            return Ok(());
        }
        let found = all.first().map_or_else(String::new, Checksum::to_string);
        self.is_done = true;
        self.ctp.withdraw(&self.client, self.job, self.file.command).await?;
        let detail = format!("the bytes have {found}, the client named {wanted}");
        Err(problem(StatusCode::UNPROCESSABLE_ENTITY, "bad_hash", detail))
    }

    /// Gives the content its end, and the book the news.
    async fn end(&mut self) -> Result<ContentEnd, Problem> {
        let (ctp, content, id) = (Arc::clone(&self.ctp), Arc::clone(&self.content), self.id);
        let expected = self.blake3;
        self.is_done = true;
        to_the_end(async move {
            let end = match content.finish_as(expected).await {
                Ok(end) => end,
                Err(StoreError::BadHash { expected, found }) => {
                    let end = ContentEnd { size: content.accepted(), blake3: found };
                    // The book refuses it, and tells the nodes.
                    let _refused = ctp.ask(move |book, at| book.upload_ended(id, end, at)).await;
                    return Err(refused(&StoreError::BadHash { expected, found }));
                }
                Err(error) => return Err(refused(&error)),
            };
            ctp.try_ask(move |book, at| book.upload_ended(id, end, at)).await?;
            Ok(end)
        })
        .await?
    }

    /// Leaves the upload at its offset, for as long as it is kept.
    fn park(&mut self) {
        if std::mem::replace(&mut self.is_done, true) {
            return;
        }
        let (ctp, content, id) = (Arc::clone(&self.ctp), Arc::clone(&self.content), self.id);
        let rest = std::mem::take(&mut self.pieces).freeze();
        let offset = self.at.max(self.known) - length(&rest);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let appended = match rest.is_empty() {
                true => Ok(()),
                false => content.append_at(offset, rest).await,
            };
            let synced = content.sync().await;
            if let Err(error) = appended.and(synced) {
                tracing::warn!(code = "HE-W941", content = %id, %error, "upload parked in part");
            }
            let have = content.accepted();
            let _busy = ctp.clerk.ask(move |book, at| book.upload_grew(id, have, at)).await;
        });
    }
}

/// A request that ends before its bytes leaves them at their offset.
impl Drop for Upload {
    fn drop(&mut self) {
        self.park();
    }
}

/// Bytes that the base has of an upload, from the range; the last unit of them may be incomplete.
pub(super) async fn read(content: &Arc<Content>, range: Range<u64>) -> Result<Bytes, Problem> {
    let whole = content.have();
    if range.start < whole {
        let bytes = content.read(range.start..range.end.min(whole)).await;
        return bytes.map_err(|error| Problem::internal(error.to_string()));
    }
    let (start, tail) = content.tail().await;
    let at = |offset: u64| usize::try_from(offset.saturating_sub(start)).unwrap_or(usize::MAX);
    let end = at(range.end).min(tail.len());
    let bytes = tail.slice(at(range.start).min(end)..end);
    match bytes.is_empty() && !range.is_empty() {
        true => {
            Err(problem(StatusCode::CONFLICT, "upload_moved", "another request goes on with it"))
        }
        false => Ok(bytes),
    }
}

/// An error of the store as a problem.
pub(super) fn refused(error: &StoreError) -> Problem {
    let text = error.to_string();
    match error {
        StoreError::NoSpace => problem(StatusCode::INSUFFICIENT_STORAGE, "no_space", text),
        StoreError::Offset { have } => problem(StatusCode::CONFLICT, "mismatching_offset", text)
            .with("expected_offset", json!(have)),
        StoreError::TooLong { .. } | StoreError::TooShort { .. } => {
            problem(StatusCode::BAD_REQUEST, "wrong_size", text)
        }
        StoreError::BadHash { .. } => problem(StatusCode::UNPROCESSABLE_ENTITY, "bad_hash", text),
        StoreError::Ended | StoreError::Removed => {
            problem(StatusCode::CONFLICT, "upload_ended", text)
        }
        StoreError::Io { .. }
        | StoreError::BadUnit { .. }
        | StoreError::BadSignature
        | StoreError::Frames(_)
        | StoreError::OtherSide => problem(StatusCode::INTERNAL_SERVER_ERROR, "io", text),
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Two units: what a slow client has sent is on its way to nodes before long.
pub(super) const PIECE_BYTES: usize = 128 << 10;
/// Bytes that are copied at once from a put that was withdrawn.
const COPY_BYTES: u64 = 1 << 20;
/// Nodes are told of a content at its first byte; how far it is does not matter to them.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

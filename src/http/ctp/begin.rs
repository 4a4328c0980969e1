//! What an upload begins with: a new put, one that was declared before, or one that broke off.
//!
//! ```text
//!                       nothing there     declared or broken off        complete
//! from the start        new put           goes on, bytes are compared   new put, replaces
//! from an offset        409               goes on at its offset         409
//! ```
//! Where an upload from the start says another size, other attributes or another hash than the one
//! that broke off, that one is withdrawn.

use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use bytes::BytesMut;
use serde_json::json;

use super::place::Place;
use super::said::Said;
use super::tree::{File, Node};
use super::upload::{Upload, read, refused};
use super::{Ctp, lock, problem};
use crate::dist::ids::{CommandId, CommandKey, ContentId, Digest, JobId};
use crate::dist::rows::ContentRow;
use crate::dist::wire::job::{Attributes, CommandRequest, Op};
use crate::http::problem::Problem;
use crate::store::Content;

/// A put whose bytes are not all there.
struct Unfinished {
    file: File,
    id: ContentId,
    row: ContentRow,
    /// `None`: no byte has come.
    content: Option<Arc<Content>>,
}

impl Upload {
    /// Begins or continues the upload of a file. `is_append`: there has to be one.
    pub(super) async fn begin(
        ctp: &Arc<Ctp>,
        client: &str,
        place: Place,
        said: &Said,
        is_append: bool,
    ) -> Result<Self, Problem> {
        let Place::Within(job, path) = place else { return Err(no_file()) };
        if path.is_empty() {
            return Err(no_file());
        }
        let unfinished = ctp.unfinished(client, job, &path).await?;
        let mut upload = match unfinished {
            Some(known) if said.offset.is_some() || is_append => {
                ctp.go_on(client, job, path, known, said).await?
            }
            None if said.offset.is_some() || is_append => {
                let detail = "no upload of this file has broken off";
                return Err(problem(StatusCode::CONFLICT, "no_upload", detail));
            }
            Some(known) if fits(&known, said) => {
                let accepted = known.content.as_ref().map_or(0, |content| content.accepted());
                let mut upload = ctp.take_up(client, job, path, known).await?;
                upload.known = accepted;
                upload
            }
            Some(known) => {
                ctp.withdraw(client, job, known.file.command).await?;
                ctp.put(client, job, &path, &said.attrs, said.size, said.blake3).await?
            }
            None => ctp.put(client, job, &path, &said.attrs, said.size, said.blake3).await?,
        };
        upload.is_last = said.is_last;
        if let Some(wanted) = &said.checksum {
            let mut hashers = wanted.kind().hashers();
            let mut at = 0;
            while at < upload.at {
                let range = at..upload.at.min(at + READ_BYTES);
                let bytes = read(&upload.content, range).await?;
                at += u64::try_from(bytes.len()).unwrap_or(READ_BYTES);
                hashers.iter_mut().for_each(|hasher| hasher.update(&bytes));
            }
            upload.wanted = Some((wanted.clone(), hashers));
        }
        Ok(upload)
    }
}

impl Ctp {
    /// Declares a put, and reserves its bytes.
    pub(super) async fn put(
        self: &Arc<Self>,
        client: &str,
        job: JobId,
        path: &str,
        attrs: &Attributes,
        size: Option<u64>,
        blake3: Option<Digest>,
    ) -> Result<Upload, Problem> {
        let op = Op::Put { path: path.to_owned(), attrs: attrs.clone() };
        let request = CommandRequest { op, size, blake3 };
        let name = client.to_owned();
        let asked = move |book: &mut crate::dist::book::Book, at: crate::dist::ids::Stamp| {
            let accepted = book.command(&name, job, request, at)?;
            let row = accepted.content.and_then(|id| book.content(id).cloned());
            Ok((accepted, row, at.utc_ns))
        };
        let (accepted, row, made_at_ns) = self.try_ask(asked).await?;
        let (Some(id), Some(row)) = (accepted.content, row) else {
            return Err(Problem::internal("the book gave a put no content"));
        };
        let (content, attrs) = (accepted.content, attrs.clone());
        let file = File { command: accepted.command_id, content, attrs, made_at_ns };
        let known = Unfinished { file, id, row, content: None };
        self.take_up(client, job, path.to_owned(), known).await
    }

    /// Withdraws a put.
    pub(super) async fn withdraw(
        &self,
        client: &str,
        job: JobId,
        command: CommandId,
    ) -> Result<(), Problem> {
        let (key, client) = (CommandKey { job, command }, client.to_owned());
        self.try_ask(move |book, at| book.cancel_command(&client, key, at)).await.map(drop)
    }

    /// The put of a path whose bytes are not all there.
    async fn unfinished(
        &self,
        client: &str,
        job: JobId,
        path: &str,
    ) -> Result<Option<Unfinished>, Problem> {
        let tree = self.tree(client, job).await?;
        let file = {
            let tree = lock(&tree);
            if tree.is_blocked(path) {
                let detail = "the path leads through a file";
                return Err(problem(StatusCode::CONFLICT, "path_conflict", detail));
            }
            match tree.find(path) {
                Some(Node::Folder(_)) => return Err(no_file()),
                Some(Node::File(file)) => file.clone(),
                None => return Ok(None),
            }
        };
        let Some(id) = file.content else { return Ok(None) };
        let (row, content) = self.content(id).await?;
        let row = row.filter(|row| row.ended_at_ns.is_none() && !row.is_abandoned);
        Ok(row.map(|row| Unfinished { file, id, row, content }))
    }

    /// Continues at the offset that the client names.
    async fn go_on(
        self: &Arc<Self>,
        client: &str,
        job: JobId,
        path: String,
        known: Unfinished,
        said: &Said,
    ) -> Result<Upload, Problem> {
        let have = known.content.as_ref().map_or(0, |content| content.accepted());
        let offset = said.offset.unwrap_or(0);
        if offset != have {
            let detail = format!("the next byte is that at {have}, not at {offset}");
            return Err(problem(StatusCode::CONFLICT, "mismatching_offset", detail)
                .with("expected_offset", json!(have))
                .with("provided_offset", json!(offset)));
        }
        if let (Some(size), Some(other)) = (known.row.size, said.size)
            && size != other
        {
            let detail = format!("the upload has {size} bytes, not {other}");
            return Err(problem(StatusCode::CONFLICT, "wrong_size", detail));
        }
        let mut upload = self.take_up(client, job, path, known).await?;
        (upload.at, upload.known) = (have, have);
        upload.size = upload.size.or(said.size);
        Ok(upload)
    }

    /// An upload from the start of a put.
    async fn take_up(
        self: &Arc<Self>,
        client: &str,
        job: JobId,
        path: String,
        known: Unfinished,
    ) -> Result<Upload, Problem> {
        let Unfinished { file, id, row, content } = known;
        let content = match content {
            Some(content) => content,
            None => self.reserve(client, job, &file, id, row.size).await?,
        };
        let mut upload = Upload {
            ctp: Arc::clone(self),
            client: client.to_owned(),
            job,
            path,
            file,
            id,
            content,
            size: row.size,
            blake3: row.expected,
            is_last: true,
            known: 0,
            at: 0,
            pieces: BytesMut::new(),
            wanted: None,
            told: Instant::now(),
            is_done: false,
        };
        // Nodes may fetch from now on.
        upload.tell();
        Ok(upload)
    }

    /// Makes the content. A disk that does not hold it withdraws the put.
    async fn reserve(
        &self,
        client: &str,
        job: JobId,
        file: &File,
        id: ContentId,
        size: Option<u64>,
    ) -> Result<Arc<Content>, Problem> {
        let store = self.store.clone();
        let made = tokio::task::spawn_blocking(move || store.create(id, size)).await;
        match made.map_err(|_ended| Problem::unavailable("the base ends"))? {
            Ok(content) => Ok(content),
            Err(error) => {
                self.withdraw(client, job, file.command).await?;
                Err(refused(&error))
            }
        }
    }
}

/// Whether an upload from the start may be the one that broke off.
fn fits(known: &Unfinished, said: &Said) -> bool {
    let has_size = |size| known.row.size.is_none_or(|known| known == size);
    said.size.is_none_or(has_size)
        && (said.attrs == Attributes::default() || said.attrs == known.file.attrs)
        && said.blake3.is_none_or(|hash| known.row.expected == Some(hash))
}

fn no_file() -> Problem {
    let detail = "there is a folder; a file needs another name";
    problem(StatusCode::METHOD_NOT_ALLOWED, "path_conflict", detail)
}

/// Bytes read back at once for the hash of a file that goes on.
const READ_BYTES: u64 = 1 << 20;

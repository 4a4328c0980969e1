//! The file system below `dav-server`: jobs of the client, and what they have.
//!
//! A folder is deleted or moved by one command, with all that is in it: while such a request runs,
//! folders look empty to `dav-server`, which would go through them otherwise.
//! Invariant: an error that is more than its status is kept with the request, and told instead.

use std::collections::HashMap;
use std::io::SeekFrom;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use bytes::{Buf, Bytes};
use dav_server::davpath::DavPath;
use dav_server::fs::{
    DavDirEntry, DavFile, DavMetaData, DavProp, FsError, FsFuture, FsResult, FsStream,
    GuardedFileSystem, OpenOptions, ReadDirMeta,
};

use super::meta::{Entry, Meta};
use super::place::Place;
use super::said::Said;
use super::tree::{File, Folder, Node, Tree};
use super::upload::Upload;
use super::{Ctp, lock, problem, props};
use crate::dist::ids::{CommandId, ContentId, JobId};
use crate::dist::wire::job::{Attributes, CommandRequest, JobView, Op};
use crate::dist::wire::peer::ContentEnd;
use crate::http::problem::Problem;
use crate::store::Content;

/// The file system; what it needs comes with each request.
#[derive(Debug, Clone)]
pub(super) struct JobFs;

/// A request, for as long as `dav-server` works on it.
#[derive(Clone)]
pub(super) struct Asked(Arc<Inner>);

struct Inner {
    ctp: Arc<Ctp>,
    client: String,
    method: Method,
    said: Said,
    /// A PROPFIND names the properties that it wants.
    is_naming: bool,
    problem: Mutex<Option<Problem>>,
    outcome: Mutex<Option<Outcome>>,
}

/// How far an upload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The put.
    pub(super) command: CommandId,
    /// Bytes that the base has of it.
    pub(super) offset: u64,
    /// Size, where it is known.
    pub(super) size: Option<u64>,
    /// Size and hash, when all bytes are there.
    pub(super) end: Option<ContentEnd>,
}

impl Outcome {
    /// Tells it by headers; `is_put`: it answers an upload.
    pub(super) fn tell<B>(&self, is_put: bool, response: &mut Response<B>) {
        let headers = response.headers_mut();
        headers.insert("upload-offset", HeaderValue::from(self.offset));
        let is_complete = if self.end.is_some() { "?1" } else { "?0" };
        headers.insert("upload-complete", HeaderValue::from_static(is_complete));
        if let Some(size) = self.size {
            headers.insert("upload-length", HeaderValue::from(size));
        }
        headers.insert("headend-command", HeaderValue::from(self.command.0));
        let hash = self.end.and_then(|end| HeaderValue::from_str(&end.blake3.to_string()).ok());
        hash.map(|hash| headers.insert("headend-blake3", hash));
        if is_put {
            headers.insert("x-oc-mtime", HeaderValue::from_static("accepted"));
        } else {
            // Offsets change; nothing between may keep them.
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
    }
}

impl Asked {
    pub(super) fn new(
        ctp: Arc<Ctp>,
        client: String,
        method: Method,
        said: Said,
        is_naming: bool,
    ) -> Self {
        let (problem, outcome) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { ctp, client, method, said, is_naming, problem, outcome }))
    }

    pub(super) fn take_problem(&self) -> Option<Problem> {
        lock(&self.0.problem).take()
    }

    pub(super) fn take_outcome(&self) -> Option<Outcome> {
        lock(&self.0.outcome).take()
    }

    /// Keeps the problem, and gives the error of `dav-server` that has its status or none better.
    fn fails(&self, problem: Problem) -> FsError {
        let error = match problem.status() {
            StatusCode::NOT_FOUND => FsError::NotFound,
            StatusCode::INSUFFICIENT_STORAGE => FsError::InsufficientStorage,
            StatusCode::INTERNAL_SERVER_ERROR | StatusCode::SERVICE_UNAVAILABLE => {
                FsError::GeneralFailure
            }
            _ => FsError::Forbidden,
        };
        *lock(&self.0.problem) = Some(problem);
        error
    }

    /// What a job has now.
    async fn tree(&self, job: JobId) -> FsResult<Arc<Mutex<Tree>>> {
        self.0.ctp.tree(&self.0.client, job).await.map_err(|error| self.fails(error))
    }

    /// What is at a place.
    async fn find(&self, path: &DavPath) -> FsResult<Found> {
        let place = Place::of(path).map_err(|_| FsError::NotFound)?;
        let Place::Within(job, path) = place else { return Ok(Found::Jobs) };
        let tree = self.tree(job).await?;
        let tree = lock(&tree);
        if path.is_empty() {
            return Ok(Found::Folder(tree.root().clone()));
        }
        match tree.find(&path) {
            Some(Node::Folder(folder)) => Ok(Found::Folder(folder.clone())),
            Some(Node::File(file)) => Ok(Found::File(file.clone())),
            None => Err(FsError::NotFound),
        }
    }

    async fn jobs(&self) -> FsResult<Vec<JobView>> {
        let client = self.0.client.clone();
        let jobs = self.0.ctp.ask(move |book, _| book.jobs(&client, None, None, JOBS_SHOWN)).await;
        jobs.map_err(|error| self.fails(error))
    }

    /// The file with the bytes that the base has of it.
    async fn opened(&self, file: &File) -> FsResult<(Meta, Option<Arc<Content>>)> {
        let content = file.content.and_then(|id| self.0.ctp.store.get(id));
        let lengths = self.lengths([file]).await?;
        let len = file.content.and_then(|id| lengths.get(&id).copied());
        Ok((Meta::of_file(file, len.unwrap_or(0)), content))
    }

    /// Bytes that there are, or were, of each file's content.
    async fn lengths<'a>(
        &self,
        files: impl IntoIterator<Item = &'a File>,
    ) -> FsResult<HashMap<ContentId, u64>> {
        let (mut lengths, mut gone) = (HashMap::new(), Vec::new());
        for id in files.into_iter().filter_map(|file| file.content) {
            match self.0.ctp.store.get(id) {
                Some(content) => {
                    let len = content.end().map_or_else(|| content.have(), |end| end.size);
                    lengths.insert(id, len);
                }
                // Its bytes are not kept any more, or have not begun to come.
                None => gone.push(id),
            }
        }
        if gone.is_empty() {
            return Ok(lengths);
        }
        let asked = self.0.ctp.ask(move |book, _| {
            let whole = |id: ContentId| {
                let row = book.content(id).filter(|row| row.blake3.is_some())?;
                Some((id, row.size?))
            };
            gone.into_iter().filter_map(whole).collect::<Vec<_>>()
        });
        lengths.extend(asked.await.map_err(|error| self.fails(error))?);
        Ok(lengths)
    }

    async fn meta(&self, path: &DavPath) -> FsResult<Meta> {
        match self.find(path).await? {
            Found::Jobs => Ok(Meta::of_job(0)),
            Found::Folder(folder) => Ok(Meta::of_folder(&folder)),
            Found::File(file) => Ok(self.opened(&file).await?.0),
        }
    }

    async fn entries(&self, path: &DavPath) -> FsResult<Vec<Entry>> {
        if [Method::DELETE.as_str(), "MOVE"].contains(&self.0.method.as_str()) {
            return Ok(Vec::new());
        }
        match self.find(path).await? {
            Found::Jobs => {
                let jobs = self.jobs().await?.into_iter();
                let entry = |job: JobView| {
                    let meta = Meta::of_job(job.created_at_ns);
                    Entry { name: job.job_id.to_string(), meta }
                };
                Ok(jobs.map(entry).collect())
            }
            Found::Folder(folder) => {
                let files = folder.entries.values().filter_map(|node| match node {
                    Node::File(file) => Some(file),
                    Node::Folder(_) => None,
                });
                let lengths = self.lengths(files.collect::<Vec<_>>()).await?;
                let entry = |(name, node): (String, Node)| {
                    let meta = match node {
                        Node::Folder(folder) => Meta::of_folder(&folder),
                        Node::File(file) => {
                            let len = file.content.and_then(|id| lengths.get(&id).copied());
                            Meta::of_file(&file, len.unwrap_or(0))
                        }
                    };
                    Entry { name, meta }
                };
                Ok(folder.entries.into_iter().map(entry).collect())
            }
            Found::File(_) => Err(FsError::Forbidden),
        }
    }

    async fn read(&self, path: &DavPath) -> FsResult<Box<dyn DavFile>> {
        let Found::File(file) = self.find(path).await? else { return Err(FsError::Forbidden) };
        let (meta, content) = self.opened(&file).await?;
        if content.is_none() && meta.len > 0 {
            let gone = "the base does not keep the bytes of this file any more";
            return Err(self.fails(problem(StatusCode::GONE, "content_gone", gone)));
        }
        if let Some(id) = file.content.filter(|_| self.0.method == Method::HEAD) {
            let row = self.0.ctp.content(id).await.map_err(|error| self.fails(error))?.0;
            let offset = content.as_ref().map_or(0, |content| content.accepted());
            let end = content.as_ref().and_then(|content| content.end());
            let size = row.and_then(|row| row.size);
            let outcome = Outcome { command: file.command, offset, size, end };
            *lock(&self.0.outcome) = Some(outcome);
        }
        Ok(Box::new(Open::Read { meta, content, at: 0 }))
    }

    async fn write(&self, path: &DavPath) -> FsResult<Box<dyn DavFile>> {
        if self.0.method.as_str() == "LOCK" {
            // A lock on nothing reserves the name; the file comes with its bytes.
            return Ok(Box::new(Open::Nothing));
        }
        let place = Place::of(path).map_err(|_| FsError::NotFound)?;
        let Inner { ctp, client, said, .. } = &*self.0;
        let upload = Upload::begin(ctp, client, place, said, false).await;
        let upload = upload.map_err(|error| self.fails(error))?;
        Ok(Box::new(Open::Write { upload: Box::new(upload), asked: self.clone() }))
    }

    /// Adds a command to a job.
    async fn command(&self, job: JobId, op: Op) -> FsResult<()> {
        let request = CommandRequest { op, size: None, blake3: None };
        let client = self.0.client.clone();
        let command = self.0.ctp.try_ask(move |book, at| book.command(&client, job, request, at));
        command.await.map(drop).map_err(|error| self.fails(error))
    }

    async fn create_dir(&self, path: &DavPath) -> FsResult<()> {
        let (job, path) = within(path)?;
        let tree = self.tree(job).await?;
        let above = path.rsplit_once('/').map_or("", |(above, _)| above);
        {
            let tree = lock(&tree);
            if path.is_empty() || tree.find(&path).is_some() {
                return Err(FsError::Exists);
            }
            // 409 (RFC 4918 s9.3.1): MKCOL makes no folders on the way.
            tree.folder(above).ok_or(FsError::NotFound)?;
        }
        self.command(job, Op::Mkdir { path, attrs: Attributes::default() }).await
    }

    async fn remove(&self, path: &DavPath) -> FsResult<()> {
        let found = self.find(path).await?;
        let (job, path) = within(path)?;
        let open = match &found {
            Found::File(file) => self.open_upload(file).await?,
            Found::Jobs | Found::Folder(_) => None,
        };
        if let Some(command) = open {
            // Nobody has it: there is nothing to delete, unless it was to replace another.
            let (ctp, client) = (&self.0.ctp, self.0.client.clone());
            let withdrawn = ctp.withdraw(&client, job, command).await;
            withdrawn.map_err(|error| self.fails(error))?;
            let tree = self.tree(job).await?;
            if lock(&tree).find(&path).is_none() {
                return Ok(());
            }
        }
        self.command(job, Op::Delete { path }).await
    }

    /// The put of a file whose bytes are not all there.
    async fn open_upload(&self, file: &File) -> FsResult<Option<CommandId>> {
        let Some(id) = file.content else { return Ok(None) };
        let row = self.0.ctp.content(id).await.map_err(|error| self.fails(error))?.0;
        Ok(row.is_some_and(|row| row.ended_at_ns.is_none()).then_some(file.command))
    }

    async fn rename(&self, from: &DavPath, to: &DavPath) -> FsResult<()> {
        let ((job, path), (to_job, to)) = (within(from)?, within(to)?);
        if job != to_job {
            return Err(FsError::IsRemote);
        }
        self.command(job, Op::Move { path, to }).await
    }

    async fn copy(&self, from: &DavPath, to: &DavPath) -> FsResult<()> {
        let Found::File(file) = self.find(from).await? else { return Err(FsError::Forbidden) };
        let (meta, content) = self.opened(&file).await?;
        let content = content.filter(|content| content.end().is_some());
        let Some(content) = content else {
            let part = "the file is not complete, or the base does not keep its bytes any more";
            return Err(self.fails(problem(StatusCode::CONFLICT, "content_incomplete", part)));
        };
        let place = Place::of(to).map_err(|_| FsError::NotFound)?;
        let Inner { ctp, client, .. } = &*self.0;
        let said = Said {
            size: Some(meta.len),
            is_last: true,
            attrs: file.attrs.clone(),
            ..Said::default()
        };
        let copied = async {
            let mut upload = Upload::begin(ctp, client, place, &said, false).await?;
            let mut at = 0;
            while at < meta.len {
                let end = meta.len.min(at + COPY_BYTES);
                let bytes = content.read(at..end).await;
                let bytes = bytes.map_err(|error| Problem::internal(error.to_string()))?;
                at += u64::try_from(bytes.len()).unwrap_or(COPY_BYTES);
                upload.write(&bytes).await?;
            }
            upload.finish().await
        };
        copied.await.map(drop).map_err(|error| self.fails(error))
    }
}

/// What a path leads to.
enum Found {
    Jobs,
    Folder(Folder),
    File(File),
}

/// A place within a job; the folder of jobs itself is not changed.
fn within(path: &DavPath) -> FsResult<(JobId, String)> {
    match Place::of(path).map_err(|_| FsError::NotFound)? {
        Place::Jobs => Err(FsError::Forbidden),
        Place::Within(job, path) => Ok((job, path)),
    }
}

/// A file that `dav-server` has open.
enum Open {
    Read {
        meta: Meta,
        content: Option<Arc<Content>>,
        at: u64,
    },
    Write {
        upload: Box<Upload>,
        asked: Asked,
    },
    /// Of a lock on a name that is free.
    Nothing,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Read { .. } => "Read",
            Self::Write { .. } => "Write",
            Self::Nothing => "Nothing",
        })
    }
}

impl Open {
    async fn write(&mut self, bytes: &[u8]) -> FsResult<()> {
        match self {
            Self::Write { upload, asked } => {
                upload.write(bytes).await.map_err(|error| asked.fails(error))
            }
            Self::Read { .. } | Self::Nothing => Err(FsError::Forbidden),
        }
    }
}

impl DavFile for Open {
    fn metadata(&'_ mut self) -> FsFuture<'_, Box<dyn DavMetaData>> {
        let meta = match self {
            Self::Read { meta, .. } => Ok(meta.clone()),
            Self::Write { upload, .. } => Ok(upload.meta()),
            Self::Nothing => Err(FsError::NotImplemented),
        };
        Box::pin(std::future::ready(meta.map(|meta| Box::new(meta) as Box<dyn DavMetaData>)))
    }

    fn write_buf(&'_ mut self, mut buf: Box<dyn Buf + Send>) -> FsFuture<'_, ()> {
        let bytes = buf.copy_to_bytes(buf.remaining());
        self.write_bytes(bytes)
    }

    fn write_bytes(&'_ mut self, buf: Bytes) -> FsFuture<'_, ()> {
        Box::pin(async move { self.write(&buf).await })
    }

    fn read_bytes(&'_ mut self, count: usize) -> FsFuture<'_, Bytes> {
        Box::pin(async move {
            let Self::Read { meta, content: Some(content), at } = self else {
                return Ok(Bytes::new());
            };
            let end = meta.len.min(at.saturating_add(u64::try_from(count).unwrap_or(u64::MAX)));
            if *at >= end {
                return Ok(Bytes::new());
            }
            let bytes = content.read(*at..end).await.map_err(|_| FsError::GeneralFailure)?;
            if bytes.is_empty() {
                // Nothing would be sent as zeros.
                return Err(FsError::GeneralFailure);
            }
            *at += u64::try_from(bytes.len()).unwrap_or(0);
            Ok(bytes)
        })
    }

    fn seek(&'_ mut self, pos: SeekFrom) -> FsFuture<'_, u64> {
        let found = match (self, pos) {
            (Self::Read { at, .. }, SeekFrom::Start(to)) => {
                *at = to;
                Ok(to)
            }
            // Where an upload goes on was settled when it was opened.
            (Self::Write { .. }, SeekFrom::Start(to)) => Ok(to),
            _ => Err(FsError::NotImplemented),
        };
        Box::pin(std::future::ready(found))
    }

    fn flush(&'_ mut self) -> FsFuture<'_, ()> {
        Box::pin(async move {
            let Self::Write { upload, asked } = self else { return Ok(()) };
            let outcome = upload.finish().await.map_err(|error| asked.fails(error))?;
            *lock(&asked.0.outcome) = Some(outcome);
            Ok(())
        })
    }
}

impl GuardedFileSystem<Asked> for JobFs {
    fn open<'a>(
        &'a self,
        path: &'a DavPath,
        options: OpenOptions,
        asked: &'a Asked,
    ) -> FsFuture<'a, Box<dyn DavFile>> {
        Box::pin(async move {
            if !options.write {
                return asked.read(path).await;
            }
            let found = asked.find(path).await;
            match found {
                Ok(_) if options.create_new => Err(FsError::Exists),
                Err(FsError::NotFound) if !options.create => Err(FsError::NotFound),
                Ok(_) | Err(FsError::NotFound) => asked.write(path).await,
                Err(error) => Err(error),
            }
        })
    }

    fn read_dir<'a>(
        &'a self,
        path: &'a DavPath,
        _meta: ReadDirMeta,
        asked: &'a Asked,
    ) -> FsFuture<'a, FsStream<Box<dyn DavDirEntry>>> {
        Box::pin(async move {
            let entries = asked.entries(path).await?.into_iter();
            let entries = entries.map(|entry| Ok(Box::new(entry) as Box<dyn DavDirEntry>));
            let entries: Vec<_> = entries.collect();
            Ok(Box::pin(futures_util::stream::iter(entries)) as FsStream<_>)
        })
    }

    fn metadata<'a>(
        &'a self,
        path: &'a DavPath,
        asked: &'a Asked,
    ) -> FsFuture<'a, Box<dyn DavMetaData>> {
        Box::pin(async move { Ok(Box::new(asked.meta(path).await?) as Box<dyn DavMetaData>) })
    }

    fn symlink_metadata<'a>(
        &'a self,
        path: &'a DavPath,
        asked: &'a Asked,
    ) -> FsFuture<'a, Box<dyn DavMetaData>> {
        self.metadata(path, asked)
    }

    fn create_dir<'a>(&'a self, path: &'a DavPath, asked: &'a Asked) -> FsFuture<'a, ()> {
        Box::pin(asked.create_dir(path))
    }

    fn remove_dir<'a>(&'a self, path: &'a DavPath, asked: &'a Asked) -> FsFuture<'a, ()> {
        Box::pin(asked.remove(path))
    }

    fn remove_file<'a>(&'a self, path: &'a DavPath, asked: &'a Asked) -> FsFuture<'a, ()> {
        Box::pin(asked.remove(path))
    }

    fn rename<'a>(
        &'a self,
        from: &'a DavPath,
        to: &'a DavPath,
        asked: &'a Asked,
    ) -> FsFuture<'a, ()> {
        Box::pin(asked.rename(from, to))
    }

    fn copy<'a>(
        &'a self,
        from: &'a DavPath,
        to: &'a DavPath,
        asked: &'a Asked,
    ) -> FsFuture<'a, ()> {
        Box::pin(asked.copy(from, to))
    }

    fn have_props<'a>(
        &'a self,
        _path: &'a DavPath,
        _asked: &'a Asked,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(std::future::ready(true))
    }

    fn get_props<'a>(
        &'a self,
        path: &'a DavPath,
        do_content: bool,
        asked: &'a Asked,
    ) -> FsFuture<'a, Vec<DavProp>> {
        Box::pin(async move {
            // Of a PROPFIND that names what it wants, each is asked by its name.
            if asked.0.is_naming {
                return Ok(Vec::new());
            }
            Ok(props::all(&asked.facts(path).await?, do_content))
        })
    }

    fn get_prop<'a>(
        &'a self,
        path: &'a DavPath,
        prop: DavProp,
        asked: &'a Asked,
    ) -> FsFuture<'a, Vec<u8>> {
        Box::pin(async move {
            let facts = asked.facts(path).await?;
            let found = props::one(&facts, prop.namespace.as_deref(), &prop.name);
            found.map(String::into_bytes).ok_or(FsError::NotFound)
        })
    }
}

impl Asked {
    /// What properties are made from.
    async fn facts(&self, path: &DavPath) -> FsResult<props::Facts> {
        let (attrs, content): (Attributes, Option<ContentId>) = match self.find(path).await? {
            Found::Jobs => (Attributes::default(), None),
            Found::Folder(folder) => (folder.attrs, None),
            Found::File(file) => (file.attrs, file.content),
        };
        let ctp = &self.0.ctp;
        let held = content.and_then(|id| ctp.store.get(id));
        Ok(props::Facts {
            attrs,
            content,
            end: held.and_then(|content| content.end()),
            checksums: content.map(|id| ctp.checksums(id)).unwrap_or_default(),
        })
    }
}

/// Jobs that the folder of jobs shows; each is found by its name, shown or not.
const JOBS_SHOWN: usize = 1_000;
/// Bytes read at once by COPY.
const COPY_BYTES: u64 = 1 << 20;

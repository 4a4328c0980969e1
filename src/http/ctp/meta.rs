//! What WebDAV shows of a file or folder.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dav_server::fs::{DavDirEntry, DavMetaData, FsFuture, FsResult};

use super::tree::{File, Folder};
use crate::dist::wire::job::Attributes;

/// Size, times and kind of a file or folder.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    pub(super) len: u64,
    pub(super) is_dir: bool,
    /// Changes with the bytes.
    pub(super) tag: Option<String>,
    modified_ns: i64,
    made_ns: i64,
    mode: Option<u32>,
}

/// An entry of a folder.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) meta: Meta,
}

impl Meta {
    /// Of a file; `len` is what the base has of it.
    pub(super) fn of_file(file: &File, len: u64) -> Self {
        let tag = file.content.map(|content| format!("{content}-{len}"));
        Self { len, is_dir: false, tag, ..Self::of(&file.attrs, file.made_at_ns) }
    }

    /// Of a folder.
    pub(super) fn of_folder(folder: &Folder) -> Self {
        Self::of(&folder.attrs, folder.made_at_ns)
    }

    /// Of a folder of which only its time is known.
    pub(super) fn of_job(made_ns: i64) -> Self {
        Self::of(&Attributes::default(), made_ns)
    }

    fn of(attrs: &Attributes, made_ns: i64) -> Self {
        let modified_ns = attrs.mtime_ns.unwrap_or(made_ns);
        Self { len: 0, is_dir: true, tag: None, modified_ns, made_ns, mode: attrs.mode }
    }
}

impl DavMetaData for Meta {
    fn len(&self) -> u64 {
        self.len
    }

    fn modified(&self) -> FsResult<SystemTime> {
        Ok(time(self.modified_ns))
    }

    fn is_dir(&self) -> bool {
        self.is_dir
    }

    fn is_symlink(&self) -> bool {
        false
    }

    fn etag(&self) -> Option<String> {
        self.tag.clone()
    }

    fn created(&self) -> FsResult<SystemTime> {
        Ok(time(self.made_ns))
    }

    fn executable(&self) -> FsResult<bool> {
        Ok(self.mode.is_some_and(|mode| mode & 0o111 != 0))
    }
}

impl DavDirEntry for Entry {
    fn name(&self) -> Vec<u8> {
        self.name.clone().into_bytes()
    }

    fn metadata(&'_ self) -> FsFuture<'_, Box<dyn DavMetaData>> {
        let meta: Box<dyn DavMetaData> = Box::new(self.meta.clone());
        Box::pin(std::future::ready(Ok(meta)))
    }
}

fn time(ns: i64) -> SystemTime {
    let distance = Duration::from_nanos(ns.unsigned_abs());
    let time =
        if ns < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    time.unwrap_or(UNIX_EPOCH)
}

//! Files and folders of the media folder, and nothing outside it.
//!
//! Invariant: the kernel resolves every path beneath the folder (`openat2`): neither `..` nor a
//! link leads out of it. A path is relative, of visible components, so that what begins with a dot
//! (the agent's own folder among it) is never touched.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use xattr::FileExt as _;

use super::PublishError;
use crate::dist::wire::job::Attributes;

/// The media folder, held by a descriptor.
#[derive(Debug, Clone)]
pub struct MediaFolder {
    root: Arc<File>,
}

/// A folder, the last component of a path in it, and folders that were made for it.
#[derive(Debug)]
pub struct Spot {
    /// Where the entry is or will be.
    pub folder: Arc<File>,
    /// Its name there.
    pub name: String,
    /// Folders that got an entry; they are to be synced.
    pub changed: Vec<Arc<File>>,
}

/// True for one or more visible components that lead downwards only.
#[must_use]
pub fn is_path(path: &str) -> bool {
    let is_name =
        |name: &str| !name.is_empty() && !name.starts_with('.') && name.len() <= NAME_BYTES_MAX;
    path.len() <= PATH_BYTES_MAX && !path.contains('\0') && path.split('/').all(is_name)
}

impl MediaFolder {
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: Arc::new(rustix::fs::open(path, flags, Mode::empty())?.into()) })
    }

    /// The folder of `path`; folders on the way are made where `makes` says so.
    ///
    /// # Errors
    /// `BadPath`, `Conflict` when a file is on the way, `Io`.
    pub fn spot(&self, path: &str, makes: bool) -> Result<Spot, PublishError> {
        if !is_path(path) {
            return Err(PublishError::BadPath { path: path.to_owned() });
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut changed = Vec::new();
        let folder = self.folder(parent, makes, &mut changed);
        let folder = folder.map_err(|errno| path_error(path, errno))?;
        Ok(Spot { folder, name: name.to_owned(), changed })
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// `BadPath`, `Conflict` when it is no regular file, `Io`.
    pub fn open_file(&self, path: &str) -> Result<File, PublishError> {
        if !is_path(path) {
            return Err(PublishError::BadPath { path: path.to_owned() });
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = self.open_at(path, flags).map_err(|errno| path_error(path, errno))?;
        let metadata = file.metadata();
        match metadata.map_err(|source| PublishError::Io { path: path.to_owned(), source })? {
            metadata if metadata.is_file() => Ok(file),
            _ => {
                let what = "not a regular file";
                Err(PublishError::Conflict { path: path.to_owned(), what })
            }
        }
    }

    fn folder(
        &self,
        path: &str,
        makes: bool,
        changed: &mut Vec<Arc<File>>,
    ) -> Result<Arc<File>, Errno> {
        if path.is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match self.open_at(path, flags) {
            Err(Errno::NOENT) if makes => {}
            found => return found.map(Arc::new),
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.folder(parent, makes, changed)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            // Another content made it at the same time.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        changed.push(parent);
        self.open_at(path, flags).map(Arc::new)
    }

    fn open_at(&self, path: &str, flags: OFlags) -> Result<File, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..TRIES_MAX {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other.map(File::from),
            }
        }
        Err(Errno::AGAIN)
    }
}

/// Sets the attributes of an open file or folder; those that are not said stay.
///
/// # Errors
/// `PublishError::Attribute` with the first that cannot be set; others may be set then.
pub fn set_attributes(file: &File, attrs: &Attributes) -> Result<(), PublishError> {
    let failed =
        |name: &str, source: io::Error| PublishError::Attribute { name: name.to_owned(), source };
    for (name, value) in &attrs.xattr {
        let invalid = |text: &str| failed(name, io::Error::new(io::ErrorKind::InvalidInput, text));
        if !name.starts_with("user.") {
            return Err(invalid("only those of the name space 'user.' are set"));
        }
        let done = match value {
            Some(value) => {
                let value = STANDARD.decode(value).map_err(|_| invalid("its value is not base64"));
                file.set_xattr(name, &value?)
            }
            None => file.remove_xattr(name).or_else(|error| {
                let is_gone = error.raw_os_error() == Some(Errno::NODATA.raw_os_error());
                if is_gone { Ok(()) } else { Err(error) }
            }),
        };
        done.map_err(|error| failed(name, error))?;
    }
    if let Some(mode) = attrs.mode {
        let set = rustix::fs::fchmod(file.as_fd(), Mode::from_raw_mode(mode & 0o7777));
        set.map_err(|errno| failed("mode", errno.into()))?;
    }
    if let Some(mtime_ns) = attrs.mtime_ns {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec {
                tv_sec: mtime_ns.div_euclid(1_000_000_000),
                tv_nsec: mtime_ns.rem_euclid(1_000_000_000),
            },
        };
        let set = rustix::fs::futimens(file.as_fd(), &times);
        set.map_err(|errno| failed("mtime", errno.into()))?;
    }
    Ok(())
}

pub(super) fn path_error(path: &str, errno: Errno) -> PublishError {
    let what = match errno {
        Errno::NOTDIR => "a file is where a folder is needed",
        Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY => "a folder of this name is there",
        Errno::XDEV => "a link leads out of the media folder",
        Errno::LOOP => "links lead in a circle",
        _ => return PublishError::Io { path: path.to_owned(), source: errno.into() },
    };
    PublishError::Conflict { path: path.to_owned(), what }
}

/// The same of an error that came through `std`.
pub(super) fn io_error(path: &str, source: io::Error) -> PublishError {
    match source.raw_os_error() {
        Some(errno) => path_error(path, Errno::from_raw_os_error(errno)),
        None => PublishError::Io { path: path.to_owned(), source },
    }
}

/// `openat2` asks to try again when a rename elsewhere in the tree crossed a `..` in a link.
const TRIES_MAX: usize = 16;
/// Names that Linux takes.
const NAME_BYTES_MAX: usize = 255;
/// Paths that Linux takes.
const PATH_BYTES_MAX: usize = 4_095;

//! The media library: a folder of plain files, seen as titles.
//!
//! ```text
//! name --resolve--> file beneath the root --worker--> Title
//! root --list-----> names, in order, page by page
//! ```
//! Invariant: no path outside the root is ever opened, and nothing but regular files is ever
//! opened for reading; the kernel checks the first (`openat2`), `fstat` the second.
//! Nothing is remembered about names: a file dropped into the folder is there at once.

mod clip;
mod list;
mod resolve;
#[cfg(test)]
pub(crate) mod testing;
pub mod title;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

pub use crate::base::names::{CLIP_NAME, LIBRARY_PATH};
pub use list::{Listed, Summary};
pub use resolve::ResolveError;
use title::FileIdentity;

/// The folder that is served, and the built-in clip.
#[derive(Debug)]
pub struct Library {
    root: Option<PathBuf>,
    root_fd: Option<OwnedFd>,
    clip: clip::Clip,
}

impl Library {
    /// Serves `root`, or only the built-in clip when there is none. The folder is held by a
    /// descriptor: when it is moved, the library moves with it.
    ///
    /// # Errors
    /// When `root` is not a folder that can be opened, or memory for the clip is refused.
    pub fn new(root: Option<PathBuf>) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root_fd =
            root.as_ref().map(|root| rustix::fs::open(root, flags, Mode::empty())).transpose()?;
        Ok(Self { root, root_fd, clip: clip::Clip::new()? })
    }

    /// The folder, as it was given.
    #[must_use]
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// Opens a title's file for reading. `name` is a percent-decoded path inside the root.
    ///
    /// # Errors
    /// See [`ResolveError`].
    pub fn open_file(&self, name: &str) -> Result<(File, FileIdentity), ResolveError> {
        let root = self.root_fd().ok_or(ResolveError::NotFound)?;
        resolve::open_file(root, name)
    }

    /// The file that `name` leads to now, without opening it for reading.
    ///
    /// # Errors
    /// See [`ResolveError`].
    pub fn identity_of(&self, name: &str) -> Result<FileIdentity, ResolveError> {
        let root = self.root_fd().ok_or(ResolveError::NotFound)?;
        resolve::open_path(root, name).map(|(_path, identity)| identity)
    }

    /// The built-in clip.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn open_clip(&self) -> io::Result<(File, FileIdentity)> {
        self.clip.open()
    }

    /// Up to `limit` titles behind `after`, by name in byte order. Folders are read only as far
    /// as the page needs them; no file is opened. Links to folders are not followed here, so no
    /// listing runs in circles; what lies behind them plays all the same.
    ///
    /// # Errors
    /// When the root cannot be read. Folders inside it that cannot be read are left out.
    pub fn list(&self, after: Option<&str>, limit: usize) -> io::Result<Vec<Listed>> {
        self.root_fd().map_or_else(|| Ok(Vec::new()), |root| list::list(root, after, limit))
    }

    /// Counts for the banner. Stops after `entries_max` folder entries; no file is opened.
    ///
    /// # Errors
    /// When the root cannot be read.
    pub fn summary(&self, entries_max: usize) -> io::Result<Summary> {
        self.root_fd().map_or_else(
            || Ok(Summary { is_complete: true, ..Summary::default() }),
            |root| list::summary(root, entries_max),
        )
    }

    fn root_fd(&self) -> Option<BorrowedFd<'_>> {
        self.root_fd.as_ref().map(AsFd::as_fd)
    }
}

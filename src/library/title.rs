//! An opened title: what is known of the file, and its bytes for the kernel.

use crate::base::names::CLIP_NAME;
use crate::mapped::MappedFile;
use crate::media::asset::Asset;
use crate::rtp::WireBase;

/// An opened title, shared by every session that plays it.
#[derive(Debug)]
pub struct Title {
    /// Path inside the library, percent-decoded, without a leading slash: `films/a b.mp4`.
    pub name: String,
    /// Path of its URLs, percent-decoded, without a leading slash: `vod/films/a b.mp4`.
    pub url_path: String,
    /// Tracks and indexes.
    pub asset: Asset,
    /// The bytes.
    pub map: MappedFile,
    /// The file that was opened; another one under the same name is another title.
    pub identity: FileIdentity,
    /// The file itself, for workers.
    pub file: std::fs::File,
    /// Numbers that its players begin with.
    pub wire: WireBase,
}

impl Title {
    /// Whether it is the built-in clip, whose file nobody can change. That of another process that
    /// was taken over has another identity than this one's.
    #[must_use]
    pub fn is_clip(&self) -> bool {
        self.url_path == CLIP_NAME
    }

    /// When the title was recorded, in nanoseconds since 1970: what the container says, else when
    /// the file was last changed. `Range: clock=` counts from there.
    #[must_use]
    pub fn recorded_utc_ns(&self) -> i64 {
        self.asset.created_utc_ns.unwrap_or(self.identity.modified_ns)
    }
}

/// A title that another process has open.
#[derive(Debug)]
pub struct Adopted {
    /// Path inside the library; `None`: the built-in clip. What it leads to by now may be another
    /// file.
    pub name: Option<String>,
    /// The file.
    pub file: std::fs::File,
    /// What the numbers of its players are made of.
    pub wire: WireBase,
}

/// Tells a file from the one that replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// `st_size`.
    pub bytes: u64,
    /// `st_mtim` in nanoseconds since 1970.
    pub modified_ns: i64,
}

impl FileIdentity {
    /// Of an open file, as it is now.
    ///
    /// # Errors
    /// What `fstat` reports.
    pub fn of(file: &std::fs::File) -> std::io::Result<Self> {
        Ok(super::resolve::identity(&rustix::fs::fstat(file)?))
    }
}

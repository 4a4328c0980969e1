//! Changes of the media folder: folders, names and attributes, and nothing outside it.
//!
//! Invariants: every path is resolved by the kernel beneath the media folder, whatever links are in
//! it; a change is durable when its function returns; each of them may be done twice.
//! Bounds: `DEPTH_MAX` levels are removed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::dist::agent::Failure;
use crate::dist::wire::job::{Attributes, Op, Reason};
use crate::store::beneath::set_attributes;

/// The media folder.
#[derive(Debug)]
pub(super) struct Folder {
    root: OwnedFd,
}

impl Folder {
    /// # Errors
    /// When `media` is no folder that can be opened.
    pub(super) fn open(media: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::open(media, flags, Mode::empty())? })
    }

    /// Bytes that may still be written.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Does what a command without a content asks for. `is_again`: it may be done already.
    ///
    /// # Errors
    /// With the reason as reports have it.
    pub(super) fn apply(&self, op: &Op, is_again: bool) -> Result<(), Failure> {
        match op {
            Op::Mkdir { path, attrs } => {
                let folder = self.make_folders(path).map_err(failure(path))?;
                change(path, folder, attrs)
            }
            Op::Delete { path } => self.delete(path).map_err(failure(path)),
            Op::Move { path, to } => self.rename(path, to, is_again).map_err(failure(path)),
            Op::SetAttributes { path, attrs } => {
                let file = self.open_to_change(path).map_err(failure(path))?;
                change(path, file, attrs)
            }
            Op::Query | Op::Live { .. } => Ok(()),
            Op::Put { path, .. } => {
                let detail = format!("{path}: a put without a content");
                Err(Failure { reason: Reason::Io, detail })
            }
        }
    }

    /// The folder `path`; it and those above it are made where they are missing.
    fn make_folders(&self, path: &str) -> Result<OwnedFd, Errno> {
        let mut folder = rustix::io::dup(&self.root)?;
        for part in path.split('/') {
            match rustix::fs::mkdirat(&folder, part, Mode::from_raw_mode(0o777)) {
                Ok(()) => rustix::fs::fsync(&folder)?,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            folder = open_beneath(folder.as_fd(), part, FOLDER)?;
        }
        Ok(folder)
    }

    /// Nothing there is as good as removed.
    fn delete(&self, path: &str) -> Result<(), Errno> {
        let (folder, name) = match self.parent(path) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(error) => return Err(error),
        };
        remove(folder.as_fd(), name, 0)?;
        rustix::fs::fsync(&folder)
    }

    fn rename(&self, path: &str, to: &str, is_again: bool) -> Result<(), Errno> {
        let above = to.rsplit_once('/').map(|(above, _)| above);
        let target = above.map_or_else(|| rustix::io::dup(&self.root), |a| self.make_folders(a))?;
        let target_name = to.rsplit('/').next().unwrap_or(to);
        let moved = self.parent(path).and_then(|(folder, name)| {
            rustix::fs::renameat(&folder, name, &target, target_name)?;
            rustix::fs::fsync(&folder)
        });
        match moved {
            Ok(()) => rustix::fs::fsync(&target),
            Err(Errno::NOENT) if is_again => {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::statat(&target, target_name, flags)?;
                rustix::fs::fsync(&target)
            }
            Err(error) => Err(error),
        }
    }

    /// The folder that `path` lies in, and its name there.
    fn parent<'a>(&self, path: &'a str) -> Result<(OwnedFd, &'a str), Errno> {
        match path.rsplit_once('/') {
            Some((above, name)) => Ok((open_beneath(self.root.as_fd(), above, FOLDER)?, name)),
            None => Ok((rustix::io::dup(&self.root)?, path)),
        }
    }

    /// A file or folder whose attributes are to be changed; nothing that opening could wake.
    fn open_to_change(&self, path: &str) -> Result<OwnedFd, Errno> {
        let seen = open_beneath(self.root.as_fd(), path, OFlags::PATH)?;
        match FileType::from_raw_mode(rustix::fs::fstat(&seen)?.st_mode) {
            FileType::RegularFile | FileType::Directory => {
                open_beneath(self.root.as_fd(), path, OFlags::RDONLY | OFlags::NONBLOCK)
            }
            _ => Err(Errno::NOTDIR),
        }
    }
}

/// Sets what is said of a file or folder; all else stays.
fn change(path: &str, file: OwnedFd, attrs: &Attributes) -> Result<(), Failure> {
    let file = File::from(file);
    set_attributes(&file, attrs)
        .map_err(|error| Failure { reason: error.reason(), detail: format!("{path}: {error}") })?;
    rustix::fs::fsync(&file).map_err(failure(path))
}

/// Removes a file, or a folder with all that is in it.
fn remove(folder: BorrowedFd<'_>, name: &str, depth: usize) -> Result<(), Errno> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        other => return other,
    }
    if depth >= DEPTH_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    let inner = open_beneath(folder, name, FOLDER | OFlags::NOFOLLOW)?;
    for entry in Dir::read_from(&inner)? {
        let entry = entry?;
        let Ok(inner_name) = entry.file_name().to_str() else { return Err(Errno::ILSEQ) };
        if inner_name != "." && inner_name != ".." {
            remove(inner.as_fd(), inner_name, depth + 1)?;
        }
    }
    match rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

fn open_beneath(at: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..TRIES_MAX {
        match rustix::fs::openat2(at, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // A rename elsewhere crossed a `..` of a link.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

fn failure(path: &str) -> impl Fn(Errno) -> Failure {
    move |errno| {
        let reason = match errno {
            Errno::NOSPC | Errno::DQUOT => Reason::NoSpace,
            Errno::ACCESS | Errno::PERM | Errno::ROFS => Reason::Permission,
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::ISDIR
            | Errno::EXIST
            | Errno::NOTEMPTY
            | Errno::XDEV
            | Errno::LOOP
            | Errno::NAMETOOLONG
            | Errno::ILSEQ
            | Errno::INVAL => Reason::PathConflict,
            _ => Reason::Io,
        };
        Failure { reason, detail: format!("{path}: {}", io::Error::from(errno)) }
    }
}

/// The time now, UTC nanoseconds.
pub(super) fn utc_ns() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(now.unwrap_or(Duration::ZERO).as_nanos()).unwrap_or(i64::MAX)
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);
/// One descriptor a level is held open.
const DEPTH_MAX: usize = 128;
/// As in the library.
const TRIES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    fn path(text: &str) -> String {
        text.to_owned()
    }

    fn reason(result: Result<(), Failure>) -> Option<Reason> {
        result.err().map(|failure| failure.reason)
    }

    #[test]
    fn folders_are_made_and_changed_and_removed_and_each_may_be_done_twice() {
        let base = tempfile::tempdir().unwrap();
        let folder = Folder::open(base.path()).unwrap();
        let at = |name: &str| base.path().join(name);
        let attrs = Attributes {
            mode: Some(0o750),
            mtime_ns: Some(1_000_000_007_000_000_009),
            xattr: BTreeMap::new(),
        };
        for _ in 0..2 {
            let op = Op::Mkdir { path: path("a/b/c"), attrs: attrs.clone() };
            assert_eq!(folder.apply(&op, false), Ok(()));
            let made = at("a/b/c").metadata().unwrap();
            assert_eq!(
                (made.mode() & 0o7777, made.mtime(), made.mtime_nsec()),
                (0o750, 1_000_000_007, 9)
            );
        }
        std::fs::write(at("a/b/c/x.mp4"), "x").unwrap();
        let op = Op::SetAttributes { path: path("a/b/c/x.mp4"), attrs };
        xattr::set(at("a/b/c/x.mp4"), "user.old", b"x").unwrap();
        let xattr = BTreeMap::from([(path("user.old"), None)]);
        let less = Attributes { xattr, ..Attributes::default() };
        for _ in 0..2 {
            let op = Op::SetAttributes { path: path("a/b/c/x.mp4"), attrs: less.clone() };
            assert_eq!(folder.apply(&op, false), Ok(()));
        }
        assert_eq!(xattr::get(at("a/b/c/x.mp4"), "user.old").unwrap(), None);
        assert_eq!(folder.apply(&op, false), Ok(()));
        assert_eq!(at("a/b/c/x.mp4").metadata().unwrap().mtime(), 1_000_000_007);
        let op = Op::Move { path: path("a/b"), to: path("d/e") };
        assert_eq!(folder.apply(&op, false), Ok(()));
        assert_eq!(folder.apply(&op, true), Ok(()), "it was done before");
        assert_eq!(reason(folder.apply(&op, false)), Some(Reason::PathConflict));
        assert_eq!(std::fs::read_to_string(at("d/e/c/x.mp4")).unwrap(), "x");
        for _ in 0..2 {
            assert_eq!(folder.apply(&Op::Delete { path: path("d") }, false), Ok(()));
            assert!(!at("d").exists());
        }
        assert_eq!(folder.apply(&Op::Query, false), Ok(()));
    }

    #[test]
    fn links_lead_out_of_nowhere() {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(base.path().join("media/in")).unwrap();
        std::fs::create_dir(base.path().join("outside")).unwrap();
        std::fs::write(base.path().join("outside/kept"), "kept").unwrap();
        symlink("../outside", base.path().join("media/out")).unwrap();
        let folder = Folder::open(&base.path().join("media")).unwrap();
        let ops = [
            Op::Mkdir { path: path("out/new"), attrs: Attributes::default() },
            Op::Move { path: path("in"), to: path("out/in") },
            Op::Move { path: path("out/kept"), to: path("kept") },
            Op::SetAttributes { path: path("out/kept"), attrs: Attributes::default() },
            Op::Delete { path: path("out/kept") },
        ];
        for op in ops {
            assert_eq!(reason(folder.apply(&op, false)), Some(Reason::PathConflict), "{op:?}");
        }
        // The link itself may go, and what it leads to stays.
        assert_eq!(folder.apply(&Op::Delete { path: path("out") }, false), Ok(()));
        assert!(base.path().join("outside/kept").exists());
    }

    #[test]
    fn what_is_in_the_way_is_a_conflict() {
        let base = tempfile::tempdir().unwrap();
        let folder = Folder::open(base.path()).unwrap();
        std::fs::write(base.path().join("file"), "x").unwrap();
        std::fs::create_dir_all(base.path().join("full/inner")).unwrap();
        std::fs::create_dir(base.path().join("other")).unwrap();
        let attrs = Attributes::default;
        let ops = [
            Op::Mkdir { path: path("file"), attrs: attrs() },
            Op::Mkdir { path: path("file/x"), attrs: attrs() },
            Op::Move { path: path("other"), to: path("full") },
            Op::Move { path: path("file"), to: path("other") },
            Op::SetAttributes { path: path("none"), attrs: attrs() },
        ];
        for op in ops {
            assert_eq!(reason(folder.apply(&op, false)), Some(Reason::PathConflict), "{op:?}");
        }
        let xattr = BTreeMap::from([(path("security.x"), None)]);
        let op = Op::SetAttributes {
            path: path("file"),
            attrs: Attributes { xattr, ..Attributes::default() },
        };
        assert!(folder.apply(&op, false).is_err(), "not an attribute of users");
    }
}

//! From a title's name to its file, and never out of the root.
//!
//! ```text
//! name --check--> openat2(root, BENEATH, O_PATH) --fstat: regular?--> reopen for reading
//! ```
//! Invariants: the kernel refuses every step out of the root, by `..` or by link; a FIFO, device
//! or socket is never opened for reading, because opening one can block, rewind a tape or wake a
//! writer. Links inside the root that stay inside are followed.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::title::FileIdentity;

/// Why a name does not lead to a readable file. All but `Denied` and `Io` are the same to a
/// stranger: there is no such title.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// Empty, hidden, `.` or `..` component, or a NUL byte.
    #[error("not a title's name")]
    BadName,
    /// Nothing there.
    #[error("no such file")]
    NotFound,
    /// A folder, FIFO, device or socket.
    #[error("not a regular file")]
    NotRegular,
    /// A link leads out of the media folder.
    #[error("outside the media folder")]
    Outside,
    /// The file is there, and this process must not read it.
    #[error("permission denied; let the user that headend runs as read the file and its folders")]
    Denied,
    /// Out of descriptors, disk trouble, ...
    #[error("{0}")]
    Io(io::Error),
}

impl ResolveError {
    /// True when the outside is told that there is no such title.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        !matches!(self, Self::Denied | Self::Io(_))
    }
}

impl From<Errno> for ResolveError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG => Self::NotFound,
            // Too many links in a row, or a link of the /proc kind.
            Errno::LOOP => Self::NotFound,
            Errno::XDEV => Self::Outside,
            Errno::NXIO | Errno::ISDIR => Self::NotRegular,
            Errno::ACCESS | Errno::PERM => Self::Denied,
            _ => Self::Io(errno.into()),
        }
    }
}

/// Opens the regular file that `name` leads to.
pub(super) fn open_file(
    root: BorrowedFd<'_>,
    name: &str,
) -> Result<(File, FileIdentity), ResolveError> {
    let (path, seen) = open_path(root, name)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    // The descriptor, not the name: what was looked at is what is opened.
    let own = format!("/proc/self/fd/{}", path.as_raw_fd());
    let opened = match rustix::fs::open(own, flags, Mode::empty()) {
        // No /proc in this container.
        Err(Errno::NOENT | Errno::NOTDIR) => open_beneath(root, name, flags)?,
        other => other?,
    };
    let stat = rustix::fs::fstat(&opened)?;
    let identity = identity(&stat);
    let is_same = identity.device == seen.device && identity.inode == seen.inode;
    if !is_same || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(ResolveError::NotFound);
    }
    Ok((File::from(opened), identity))
}

/// Looks at the regular file that `name` leads to without opening it for reading.
pub(super) fn open_path(
    root: BorrowedFd<'_>,
    name: &str,
) -> Result<(OwnedFd, FileIdentity), ResolveError> {
    if !is_name(name) {
        return Err(ResolveError::BadName);
    }
    let path = open_beneath(root, name, OFlags::PATH | OFlags::CLOEXEC)?;
    let stat = rustix::fs::fstat(&path)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok((path, identity(&stat))),
        _ => Err(ResolveError::NotRegular),
    }
}

pub(super) fn identity(stat: &Stat) -> FileIdentity {
    #[allow(
        clippy::unnecessary_fallible_conversions,
        clippy::useless_conversion,
        reason = "the types of struct stat differ between architectures"
    )]
    FileIdentity {
        device: stat.st_dev,
        inode: stat.st_ino,
        bytes: u64::try_from(stat.st_size).unwrap_or(0),
        modified_ns: i64::from(stat.st_mtime)
            .saturating_mul(1_000_000_000)
            .saturating_add(i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
    }
}

/// True for one or more visible components that lead downwards only.
fn is_name(name: &str) -> bool {
    !name.contains('\0') && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
}

fn open_beneath(root: BorrowedFd<'_>, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..TRIES_MAX {
        match rustix::fs::openat2(root, name, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// `openat2` asks to try again when a rename elsewhere in the tree crossed a `..` in a link.
const TRIES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use rustix::fs::{CWD, mknodat};

    use super::super::Library;
    use super::*;

    fn text(library: &Library, name: &str) -> String {
        match library.open_file(name) {
            Ok((file, _)) => io::read_to_string(file).unwrap(),
            Err(err) => format!("{err:?}"),
        }
    }

    fn folder(base: &Path) -> Library {
        let root = base.join("root");
        std::fs::create_dir_all(root.join("films/.trash")).unwrap();
        std::fs::create_dir_all(root.join("locked")).unwrap();
        std::fs::write(base.join("secret.mp4"), "secret").unwrap();
        std::fs::write(root.join("a b \u{e9}.mp4"), "plain").unwrap();
        std::fs::write(root.join("films/one.mp4"), "one").unwrap();
        std::fs::write(root.join("films/.hidden.mp4"), "hidden").unwrap();
        std::fs::write(root.join("films/.trash/x.mp4"), "trash").unwrap();
        symlink("films/one.mp4", root.join("in.mp4")).unwrap();
        symlink("../in.mp4", root.join("films/up-and-in.mp4")).unwrap();
        symlink("films", root.join("folder-link")).unwrap();
        symlink("../secret.mp4", root.join("out.mp4")).unwrap();
        symlink(base.join("secret.mp4"), root.join("absolute.mp4")).unwrap();
        symlink(root.join("films/one.mp4"), root.join("absolute-inside.mp4")).unwrap();
        symlink("..", root.join("parent")).unwrap();
        symlink("loop.mp4", root.join("loop.mp4")).unwrap();
        symlink("/proc/self/exe", root.join("magic.mp4")).unwrap();
        Library::new(Some(root)).unwrap()
    }

    #[test]
    fn names_inside_the_root_open_and_no_other_does() {
        let base = tempfile::tempdir().unwrap();
        let library = folder(base.path());
        let table = [
            ("a b \u{e9}.mp4", "plain"),
            ("films/one.mp4", "one"),
            ("in.mp4", "one"),
            ("films/up-and-in.mp4", "one"),
            ("folder-link/one.mp4", "one"),
            ("missing.mp4", "NotFound"),
            ("in.mp4/below-a-file.mp4", "NotFound"),
            ("films", "NotRegular"),
            ("out.mp4", "Outside"),
            ("absolute.mp4", "Outside"),
            ("absolute-inside.mp4", "Outside"),
            ("parent/secret.mp4", "Outside"),
            ("parent/root/in.mp4", "Outside"),
            ("loop.mp4", "NotFound"),
            ("magic.mp4", "Outside"),
            ("../secret.mp4", "BadName"),
            ("films/../../secret.mp4", "BadName"),
            ("films/../in.mp4", "BadName"),
            ("./in.mp4", "BadName"),
            ("/etc/passwd", "BadName"),
            ("films//one.mp4", "BadName"),
            ("films/", "BadName"),
            ("", "BadName"),
            (".", "BadName"),
            ("..", "BadName"),
            ("films/.hidden.mp4", "BadName"),
            ("films/.trash/x.mp4", "BadName"),
            ("in.mp4\0.jpg", "BadName"),
        ];
        for (name, expected) in table {
            assert_eq!(text(&library, name), expected, "{name:?}");
        }
        assert_eq!(text(&library, &"x".repeat(300)), "NotFound");
        assert_eq!(text(&library, &"x/".repeat(4_000)), "BadName");
        assert_eq!(text(&library, &format!("{}y", "x/".repeat(4_000))), "NotFound");
    }

    /// A FIFO without a writer would block an ordinary open for ever, so this test hangs when the
    /// rule is broken.
    #[test]
    fn fifo_device_and_socket_are_refused_without_being_opened() {
        let base = tempfile::tempdir().unwrap();
        let library = folder(base.path());
        let root = base.path().join("root");
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, root.join("fifo.mp4"), FileType::Fifo, mode, 0).unwrap();
        symlink("fifo.mp4", root.join("fifo-link.mp4")).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(root.join("socket.mp4")).unwrap();
        for name in ["fifo.mp4", "fifo-link.mp4", "socket.mp4"] {
            assert_eq!(text(&library, name), "NotRegular", "{name}");
        }
        drop(socket);
        // Devices need privileges to be made; without them there is nothing to refuse.
        let zero = rustix::fs::makedev(1, 5);
        if mknodat(CWD, root.join("zero.mp4"), FileType::CharacterDevice, mode, zero).is_ok() {
            assert_eq!(text(&library, "zero.mp4"), "NotRegular");
        }
    }

    #[test]
    fn identity_follows_the_name_to_the_file_that_replaced_it() {
        let base = tempfile::tempdir().unwrap();
        let library = folder(base.path());
        let root = base.path().join("root");
        let (_file, before) = library.open_file("films/one.mp4").unwrap();
        assert_eq!(library.identity_of("in.mp4").unwrap(), before);
        std::fs::write(root.join("new"), "another").unwrap();
        std::fs::rename(root.join("new"), root.join("films/one.mp4")).unwrap();
        let after = library.identity_of("in.mp4").unwrap();
        assert_ne!(after.inode, before.inode);
        assert_eq!(after.bytes, 7);
        std::fs::remove_file(root.join("films/one.mp4")).unwrap();
        assert!(library.identity_of("films/one.mp4").unwrap_err().is_absent());
    }

    #[test]
    fn library_without_a_folder_has_no_titles() {
        let library = Library::new(None).unwrap();
        assert_eq!(text(&library, "a.mp4"), "NotFound");
        assert_eq!(library.list(None, 10).unwrap(), []);
        assert!(library.summary(10).unwrap().is_complete);
        let (_file, identity) = library.open_clip().unwrap();
        assert_eq!(library.open_clip().unwrap().1, identity);
        assert!(Library::new(Some("/nonexistent/folder".into())).is_err());
    }
}

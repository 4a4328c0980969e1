//! The socket by which another program takes over: made with the server, removed with it.
//!
//! It lies in a folder that its user alone can enter. A socket that nobody listens to any more is
//! replaced, by one program at a time: the folder is locked meanwhile.
//! Invariant: a program removes the socket that it has made or was given, and never another one.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;

use super::wire::Wire;

/// The listening socket with its path.
#[derive(Debug)]
pub(in crate::appliance) struct Door {
    pub(super) listener: UnixListener,
    sign: Arc<Sign>,
}

/// The path of the socket: removed when the server ends, unless another process listens there.
#[derive(Debug)]
pub(in crate::appliance) struct Sign {
    path: PathBuf,
    /// Device and inode of the socket.
    file: Option<(u64, u64)>,
    is_own: AtomicBool,
}

/// Removes the path of the socket when it is dropped.
#[derive(Debug)]
pub(in crate::appliance) struct Closing(Arc<Sign>);

impl Door {
    /// Makes the socket, and its folder where that is missing.
    ///
    /// # Errors
    /// A sentence: who may enter the folder, who listens already, or what the system says.
    pub(in crate::appliance) fn open(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let folder = path.parent().ok_or_else(|| format!("{shown} has no folder"))?;
        check_folder(folder)?;
        let _locked = lock(folder)?;
        let listen = || UnixListener::bind(path);
        let listener = listen().or_else(|error| {
            let is_left = error.kind() == io::ErrorKind::AddrInUse && is_dead(path);
            if is_left { fs::remove_file(path).and_then(|()| listen()) } else { Err(error) }
        });
        let listener = listener.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "another server listens at {shown}; take over from it with --takeover, or set \
                 server.takeover to another path"
            ),
            _ => format!("{shown}: {error}"),
        })?;
        let for_its_user = fs::Permissions::from_mode(0o600);
        fs::set_permissions(path, for_its_user).map_err(|error| format!("{shown}: {error}"))?;
        Ok(Self { listener, sign: Arc::new(Sign::new(path.to_owned(), true)) })
    }

    /// The same socket, which is another process's so far.
    pub(super) fn inherited(path: PathBuf, listener: UnixListener) -> Self {
        Self { listener, sign: Arc::new(Sign::new(path, false)) }
    }

    /// Whether this process could make the socket again, and remove it.
    ///
    /// # Errors
    /// A sentence: the folder is another user's.
    pub(super) fn check(&self) -> Result<(), String> {
        self.sign.path.parent().map_or(Ok(()), check_owner)
    }

    /// What removes the path at the end of the server, whatever its thread does then.
    pub(super) fn closing(&self) -> Closing {
        Closing(Arc::clone(&self.sign))
    }

    /// The path stays: another process listens there now.
    pub(super) fn hand_over(&self) {
        self.sign.is_own.store(false, Ordering::Release);
    }

    /// Waits for a program that connects.
    pub(super) fn accept(&self) -> io::Result<Wire> {
        let (stream, _) = self.listener.accept()?;
        Ok(Wire::new(stream))
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.sign.remove();
    }
}

impl Closing {
    /// The path goes with this process from now on.
    pub(in crate::appliance) fn own(&self) {
        self.0.is_own.store(true, Ordering::Release);
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.remove();
    }
}

impl Sign {
    fn new(path: PathBuf, is_own: bool) -> Self {
        Self { file: file_at(&path), path, is_own: AtomicBool::new(is_own) }
    }

    fn remove(&self) {
        if self.is_own.swap(false, Ordering::AcqRel) && file_at(&self.path) == self.file {
            let _gone = fs::remove_file(&self.path);
        }
    }
}

/// Whether two paths lead to one socket.
pub(super) fn are_one(path: &Path, other: &Path) -> bool {
    let (file, of_other) = (file_at(path), file_at(other));
    path == other || (file.is_some() && file == of_other)
}

/// Device and inode of a file.
fn file_at(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Keeps other programs from looking at the socket, until it is dropped.
fn lock(folder: &Path) -> Result<File, String> {
    let shown = folder.display();
    let locked = File::open(folder).map_err(|error| format!("{shown}: {error}"))?;
    for _ in 0..LOCK_TRIES_MAX {
        match flock(&locked, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(locked),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(format!("{shown} cannot be locked: {error}")),
        }
        thread::sleep(LOCK_STEP);
    }
    Err(format!("another program keeps {shown} locked"))
}

/// Makes the folder, or checks that nobody else can enter it.
fn check_folder(folder: &Path) -> Result<(), String> {
    let shown = folder.display();
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(format!("{shown}: {error}")),
    }
    check_owner(folder)?;
    let found = fs::metadata(folder).map_err(|error| format!("{shown}: {error}"))?;
    if !found.is_dir() || found.mode() & 0o077 != 0 {
        return Err(format!("{shown} must be a folder that its user alone can enter: chmod 700"));
    }
    Ok(())
}

/// Checks that a folder is of the user of this process, or of root.
fn check_owner(folder: &Path) -> Result<(), String> {
    let shown = folder.display();
    let found = fs::metadata(folder).map_err(|error| format!("{shown}: {error}"))?;
    let (user, own) = (found.uid(), geteuid().as_raw());
    if user != own && user != 0 {
        return Err(format!(
            "{shown} belongs to user {user}, and this server is of user {own}: chown it to that \
             user, or remove it and start the server again"
        ));
    }
    Ok(())
}

/// Whether nobody listens at a socket any more.
fn is_dead(path: &Path) -> bool {
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    UnixStream::connect(path).err().is_some_and(refused)
}

/// Between two attempts to lock the folder, which is locked for some milliseconds.
const LOCK_STEP: Duration = Duration::from_millis(10);
const LOCK_TRIES_MAX: u32 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_that_was_left_is_replaced_and_one_that_is_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own").join("socket");
        let door = Door::open(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
        let refused = Door::open(&path).unwrap_err();
        assert!(refused.contains("another server listens"), "{refused}");
        door.hand_over();
        drop(door);
        assert!(path.exists(), "as after a crash");
        drop(Door::open(&path).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn folder_that_others_can_enter_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let refused = Door::open(&folder.path().join("socket")).unwrap_err();
        assert!(refused.contains("chmod 700"), "{refused}");
    }
    #[test]
    fn socket_of_another_program_at_the_same_path_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own").join("socket");
        let first = Door::open(&path).unwrap();
        // The first one keeps its inode, so that the second one has another.
        fs::rename(&path, path.with_extension("old")).unwrap();
        let second = Door::open(&path).unwrap();
        drop(first);
        assert!(path.exists(), "it is the second one's");
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn programs_that_start_at_once_replace_a_socket_that_was_left_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own").join("socket");
        for round in 0..200 {
            let left = Door::open(&path).unwrap();
            left.hand_over();
            drop(left);
            let start = std::sync::Barrier::new(3);
            let opened = thread::scope(|scope| {
                let open = || {
                    start.wait();
                    Door::open(&path)
                };
                let started = [scope.spawn(open), scope.spawn(open), scope.spawn(open)];
                started.map(|one| one.join().unwrap().ok())
            });
            assert_eq!(opened.iter().flatten().count(), 1, "round {round}");
            assert!(UnixStream::connect(&path).is_ok(), "round {round}");
        }
    }

    #[test]
    fn two_spellings_of_a_path_are_one_socket_and_two_sockets_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let (own, link) = (folder.path().join("own"), folder.path().join("link"));
        let door = Door::open(&own.join("socket")).unwrap();
        std::os::unix::fs::symlink(&own, &link).unwrap();
        assert!(are_one(&link.join("socket"), &own.join("socket")));
        let other = Door::open(&own.join("other")).unwrap();
        assert!(!are_one(&own.join("other"), &own.join("socket")));
        drop((door, other));
        assert!(!are_one(&link.join("socket"), &own.join("other")), "neither is there");
    }

    #[test]
    fn folder_of_another_user_is_told_with_both_users() {
        let user = geteuid();
        let folder = tempfile::tempdir().unwrap();
        if !user.is_root() {
            println!("skipped: only root can give a folder to somebody");
            return;
        }
        std::os::unix::fs::chown(folder.path(), Some(65_532), None).unwrap();
        let refused = check_owner(folder.path()).unwrap_err();
        assert!(refused.contains("user 65532") && refused.contains("user 0"), "{refused}");
    }
}

//! The socket by which another program takes over: made with the server, removed with it.
//!
//! It lies in a folder that its user alone can enter. A socket that nobody listens to any more is
//! replaced.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
        Self { path, is_own: AtomicBool::new(is_own) }
    }

    fn remove(&self) {
        if self.is_own.swap(false, Ordering::AcqRel) {
            let _gone = fs::remove_file(&self.path);
        }
    }
}

/// Makes the folder, or checks that nobody else can enter it.
fn check_folder(folder: &Path) -> Result<(), String> {
    let shown = folder.display();
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(format!("{shown}: {error}")),
    }
    let found = fs::metadata(folder).map_err(|error| format!("{shown}: {error}"))?;
    let is_own = found.uid() == geteuid().as_raw() || found.uid() == 0;
    if !found.is_dir() || !is_own || found.mode() & 0o077 != 0 {
        return Err(format!("{shown} must be a folder that its user alone can enter: chmod 700"));
    }
    Ok(())
}

/// Whether nobody listens at a socket any more.
fn is_dead(path: &Path) -> bool {
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    UnixStream::connect(path).err().is_some_and(refused)
}

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
}

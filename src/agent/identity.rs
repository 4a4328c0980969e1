//! Who this node is: its name, its keys, its token. They are kept in the media folder, so that a
//! folder that is moved to another machine stays the same node.
//!
//! ```text
//! MEDIA/.headend/  lock        held while a node runs here
//!                  node.key    32 secret bytes, base64
//!                  node.json   name, token, key of the base, number of the last start, certificate
//! ```
//! Invariants: files are readable by their owner only; a start has a greater number than the one
//! before, whatever the clock says.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::Rng as _;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::dist::agent::paths::OWN_FOLDER;
use crate::dist::ids::{BaseEpoch, Incarnation, NodeName};
use crate::dist::keys::NodeKeys;
use crate::dist::wire::agent::GivenCertificate;

/// Why a folder cannot be that of this node.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Another node has it.
    #[error("another node runs in {folder}; each node has a folder of its own")]
    InUse {
        /// The agent's folder.
        folder: String,
    },
    /// It was another node's before.
    #[error(
        "{folder} belongs to the node {kept}; leave --name out, or take another media folder for \
         {wanted}"
    )]
    OtherName {
        /// The agent's folder.
        folder: String,
        /// Name that is kept there.
        kept: NodeName,
        /// Name that was asked for.
        wanted: NodeName,
    },
    /// The name of the host is no node name.
    #[error("the name of this host, {host:?}, is no name of a node; choose one with --name")]
    NoName {
        /// As the system says it.
        host: String,
    },
    /// A file is damaged.
    #[error("{file} is damaged: {what}; restore it, or remove {folder} to join as a new node")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong.
        what: String,
        /// The agent's folder.
        folder: String,
    },
    /// The file system refuses something.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// Why.
        source: io::Error,
    },
}

/// Who this node is.
#[derive(Debug)]
pub struct Identity {
    folder: PathBuf,
    keys: NodeKeys,
    kept: Kept,
    /// Held until this is dropped.
    lock: File,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    node: NodeName,
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    base_key: Option<String>,
    #[serde(default)]
    incarnation: Incarnation,
    #[serde(default)]
    base_epoch: BaseEpoch,
    #[serde(default)]
    certificate: Option<KeptCertificate>,
}

/// A certificate that the base gave, for the key of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptCertificate {
    /// The certificate, PEM.
    pub certificate: String,
    /// That of the CA, PEM.
    pub authority: String,
    /// When it is to be renewed, UTC seconds by the clock of this machine: a third of its life is
    /// left then.
    pub renew_at_s: i64,
}

impl Identity {
    /// Opens the agent's folder within `media`, or makes it. Without a name, and where none is
    /// kept, it is that of the host.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn open(media: &Path, name: Option<NodeName>) -> Result<Self, IdentityError> {
        let folder = media.join(OWN_FOLDER);
        let shown = folder.display().to_string();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(io_error(&folder))?;
        let lock = lock(&folder.join("lock"))?
            .ok_or_else(|| IdentityError::InUse { folder: shown.clone() })?;
        let keys = keys(&folder)?;
        let file = folder.join("node.json");
        let kept = match read(&file)? {
            Some(text) => {
                let kept: Kept = serde_json::from_str(&text)
                    .map_err(|error| damaged(&file, &folder, error.to_string()))?;
                if let Some(wanted) = name.filter(|name| *name != kept.node) {
                    return Err(IdentityError::OtherName {
                        folder: shown,
                        kept: kept.node,
                        wanted,
                    });
                }
                kept
            }
            None => {
                let node = name.map_or_else(host_name, Ok)?;
                Kept {
                    node,
                    token: None,
                    base_key: None,
                    incarnation: Incarnation(0),
                    base_epoch: BaseEpoch(0),
                    certificate: None,
                }
            }
        };
        Ok(Self { folder, keys, kept, lock })
    }

    /// Name of the node.
    #[must_use]
    pub fn node(&self) -> &NodeName {
        &self.kept.node
    }

    /// Keys that sign receipts.
    #[must_use]
    pub fn keys(&self) -> &NodeKeys {
        &self.keys
    }

    /// Folder of the agent.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Token of the node, once it has joined.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.kept.token.as_deref()
    }

    /// Public key of the base, once the node has joined.
    #[must_use]
    pub fn base_key(&self) -> Option<&str> {
        self.kept.base_key.as_deref()
    }

    /// The certificate of the node, once it has one.
    #[must_use]
    pub fn certificate(&self) -> Option<&KeptCertificate> {
        self.kept.certificate.as_ref()
    }

    /// Keeps a certificate that was given at `now_s`.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn keep_certificate(
        &mut self,
        given: GivenCertificate,
        now_s: i64,
    ) -> Result<(), IdentityError> {
        let life_s = i64::try_from(given.life_s).unwrap_or(i64::MAX);
        let renew_at_s = now_s.saturating_add(life_s - life_s / 3);
        let GivenCertificate { certificate, authority, .. } = given;
        self.kept.certificate = Some(KeptCertificate { certificate, authority, renew_at_s });
        self.save()
    }

    /// The number of a new start: the time, or one more than before.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn next_start(&mut self, utc_ns: i64) -> Result<Incarnation, IdentityError> {
        let utc_ns = u64::try_from(utc_ns).unwrap_or(0);
        self.kept.incarnation = Incarnation(utc_ns.max(self.kept.incarnation.0.saturating_add(1)));
        self.save()?;
        Ok(self.kept.incarnation)
    }

    /// Keeps what the base gave.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn keep(&mut self, token: Option<String>, base_key: String) -> Result<(), IdentityError> {
        let is_same = token.is_none() && self.kept.base_key.as_ref() == Some(&base_key);
        if is_same {
            return Ok(());
        }
        if token.is_some() {
            self.kept.token = token;
        }
        self.kept.base_key = Some(base_key);
        self.save()
    }

    /// Greatest epoch of a base that the node has joined.
    #[must_use]
    pub fn base_epoch(&self) -> BaseEpoch {
        self.kept.base_epoch
    }

    /// Keeps the epoch of a base, so that one of before is not believed after a restart either.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn keep_epoch(&mut self, epoch: BaseEpoch) -> Result<(), IdentityError> {
        if epoch <= self.kept.base_epoch {
            return Ok(());
        }
        self.kept.base_epoch = epoch;
        self.save()
    }

    fn save(&self) -> Result<(), IdentityError> {
        let file = self.folder.join("node.json");
        let text = serde_json::to_string_pretty(&self.kept).unwrap_or_default();
        write(&self.folder, "node.json", text.as_bytes()).map_err(io_error(&file))
    }
}

fn keys(folder: &Path) -> Result<NodeKeys, IdentityError> {
    let file = folder.join("node.key");
    if let Some(text) = read(&file)? {
        let wrong = || damaged(&file, folder, "base64 of 32 bytes is expected".to_owned());
        let secret = STANDARD.decode(text.trim()).map_err(|_| wrong())?;
        let secret: [u8; 32] = secret.try_into().map_err(|_| wrong())?;
        return Ok(NodeKeys::from_bytes(&secret));
    }
    let mut secret = [0; 32];
    rand::rng().fill_bytes(&mut secret);
    let text = STANDARD.encode(secret);
    write(folder, "node.key", text.as_bytes()).map_err(io_error(&file))?;
    Ok(NodeKeys::from_bytes(&secret))
}

impl Drop for Identity {
    fn drop(&mut self) {
        // A child process that is being started shares the open file until it runs its program:
        // a lock that ended with the last descriptor would outlive the node.
        let _ends_with_the_file = self.lock.unlock();
    }
}

/// `None`: another process holds it.
fn lock(file: &Path) -> Result<Option<File>, IdentityError> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create(true).truncate(false).mode(0o600).open(file);
    let opened = opened.map_err(io_error(file))?;
    match rustix::fs::flock(&opened, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(opened)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(io_error(file)(error.into())),
    }
}

fn read(file: &Path) -> Result<Option<String>, IdentityError> {
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(file)(error)),
    };
    let mut text = String::new();
    opened.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(io_error(file))?;
    Ok(Some(text))
}

/// Writes a file as a whole: after a crash it is the old one or the new one.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = folder.join(format!("{name}.new"));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, folder.join(name))?;
    File::open(folder)?.sync_all()
}

/// The host's name as the name of a node.
fn host_name() -> Result<NodeName, IdentityError> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    NodeName::new(&host.to_ascii_lowercase()).map_err(|_| IdentityError::NoName { host })
}

fn damaged(file: &Path, folder: &Path, what: String) -> IdentityError {
    let (file, folder) = (file.display().to_string(), folder.display().to_string());
    IdentityError::Damaged { file, what, folder }
}

fn io_error(file: &Path) -> impl Fn(io::Error) -> IdentityError {
    let file = file.display().to_string();
    move |source| IdentityError::Io { file: file.clone(), source }
}

/// More than any file of the agent but its journal has.
const FILE_BYTES_MAX: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn name(text: &str) -> Option<NodeName> {
        Some(NodeName::new(text).unwrap())
    }

    #[test]
    fn node_is_the_same_after_a_restart_and_its_starts_count_up() {
        let media = tempfile::tempdir().unwrap();
        let mut identity = Identity::open(media.path(), name("edge-1")).unwrap();
        let key = identity.keys().verify_key();
        assert_eq!((identity.token(), identity.base_key()), (None, None));
        identity.keep(Some("hdn_x".to_owned()), "key".to_owned()).unwrap();
        identity.keep_epoch(BaseEpoch(7)).unwrap();
        identity.keep_epoch(BaseEpoch(6)).unwrap();
        assert_eq!(identity.next_start(1_000).unwrap(), Incarnation(1_000));
        assert_eq!(identity.next_start(5).unwrap(), Incarnation(1_001), "the clock went back");
        drop(identity);
        let mut again = Identity::open(media.path(), None).unwrap();
        assert_eq!(again.node().as_str(), "edge-1");
        assert_eq!(again.keys().verify_key(), key);
        assert_eq!((again.token(), again.base_key()), (Some("hdn_x"), Some("key")));
        assert_eq!(again.base_epoch(), BaseEpoch(7));
        assert_eq!(again.next_start(0).unwrap(), Incarnation(1_002));
        for file in ["node.json", "node.key", "lock"] {
            let file = again.folder().join(file);
            let mode = std::fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}", file.display());
        }
    }

    #[test]
    fn folder_of_another_node_or_of_a_running_one_is_refused() {
        let media = tempfile::tempdir().unwrap();
        let mut identity = Identity::open(media.path(), name("a")).unwrap();
        identity.next_start(1).unwrap();
        let error = Identity::open(media.path(), name("a")).unwrap_err();
        assert!(matches!(error, IdentityError::InUse { .. }), "{error}");
        drop(identity);
        let error = Identity::open(media.path(), name("b")).unwrap_err();
        assert!(matches!(error, IdentityError::OtherName { .. }), "{error}");
        std::fs::write(media.path().join(".headend/node.key"), "AAAA").unwrap();
        let error = Identity::open(media.path(), None).unwrap_err();
        assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
    }
}

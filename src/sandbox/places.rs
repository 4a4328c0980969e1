//! The files and folders that a process opens after its start, each with the reason.
//!
//! ```text
//! of every role   SYSTEM: names, time zones, CAs, /proc      read
//! serve, node     the media folder, files of a reload        read; a node's media folder: written
//! serve, node     server.state_dir                           written
//! serve           the folder of server.takeover, if it is a path: written
//! base            --data                                     written
//! ```
//! A rule holds for a folder with all that is below it. Files that others replace, instead of
//! writing them, are allowed by their folder: a rule for the file would hold for the old one.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::account::Account;
use super::{SandboxError, can, system};
use crate::config::Config;
use crate::config::access::JwksSource;
use crate::config::fallback::FallbackSource;
use crate::config::paths::PathConfig;
use crate::config::source::SourceAddress;
use crate::config::takeover::TakeoverConfig;

/// What every role reads of the system: (path, reason). What is not there is left out.
const SYSTEM: &[(&str, &str)] = &[
    (
        "/proc",
        "metrics read /proc/self and /proc/stat, warnings /proc/sys; titles are opened again",
    ),
    ("/sys/devices", "CPUs and memory nodes, when a worker's thread is placed; disks"),
    ("/sys/dev/block", "which disk a file lies on, when a worker reads it"),
    ("/sys/fs/cgroup", "how many CPUs there are, when a runtime starts threads"),
    ("/etc", "resolv.conf, hosts, nsswitch.conf, localtime, ssl: all of them are replaced"),
    ("/run/systemd/resolve", "resolv.conf is a link into it"),
    ("/run/resolvconf", "the same, of resolvconf"),
    ("/run/NetworkManager", "the same, of NetworkManager"),
    ("/dev/urandom", "random numbers, where a static program does not find getrandom"),
    ("/dev/random", "the same, until there are any"),
    ("/lib", "name services are libraries, loaded with the first name"),
    ("/lib64", "the same"),
    ("/usr/lib", "the same"),
    ("/usr/lib64", "the same"),
    ("/usr/share/zoneinfo", "local time in playlists and logs"),
    ("/usr/share/ca-certificates", "CAs for webhooks and pulls over TLS"),
    ("/usr/local/share/ca-certificates", "the same"),
    ("/var/lib/ca-certificates", "the same"),
];
/// Variables that name other places for CAs, as `rustls-native-certs` reads them.
const CA_VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// What a process opens beside `SYSTEM`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// Folders and files that are read.
    read: Vec<PathBuf>,
    /// Folders in which files are made, written and removed.
    written: Vec<(PathBuf, u32)>,
    /// Files that are read again while the server runs.
    again: Vec<PathBuf>,
}

impl Places {
    /// Of a server with this configuration.
    #[must_use]
    pub fn of_server(config: &Config) -> Self {
        let mut places = Self::default();
        // Titles.
        places.read.extend(config.media_root.clone());
        // A reload reads it.
        places.reads_again(config.file.as_deref());
        // A reload reads it.
        places.reads_again(config.admin_tokens.as_deref());
        // The keys of tokens are looked at every few seconds.
        if let Some(JwksSource::File(path)) = &config.auth.jwks {
            places.reads_again(Some(Path::new(path)));
        }
        // The certificate of RTSPS is read again when it changes.
        places.reads_again(config.tls.certificate.as_deref());
        places.reads_again(config.tls.key.as_deref());
        // Descriptions of RTP: `source = "file:NAME.sdp"`, when a path is fetched.
        for path in config.paths.named.values() {
            described(path).for_each(|file| places.reads_again(Some(file)));
        }
        // Edits of playlists, and the socket of takeovers.
        if let Some(folder) = &config.state_dir {
            places.written.push((folder.clone(), STATE_MODE));
        }
        if let TakeoverConfig::At(socket) = &config.takeover
            && let Some(folder) = socket.parent()
        {
            places.written.push((folder.to_owned(), TAKEOVER_MODE));
        }
        places
    }

    /// Of a base: its folder, and files of tokens that lie elsewhere.
    #[must_use]
    pub fn of_base(data: &Path, tokens: [Option<&Path>; 2]) -> Self {
        let mut places = Self { written: vec![(data.to_owned(), BASE_MODE)], ..Self::default() };
        tokens.into_iter().for_each(|file| places.reads_again(file));
        places
    }

    /// The same, and contents are delivered into this folder.
    #[must_use]
    pub fn and_delivered(mut self, media: &Path) -> Self {
        self.written.push((media.to_owned(), STATE_MODE));
        self
    }

    /// A file that is read while the server runs: the folder it is in, and the one it leads to.
    fn reads_again(&mut self, file: Option<&Path>) {
        let Some(file) = file else { return };
        self.again.push(file.to_owned());
        self.read.push(folder_of(file));
        self.read.extend(std::fs::canonicalize(file).ok().map(|target| folder_of(&target)));
    }

    /// Everything that is read.
    pub(super) fn to_read(&self) -> Vec<PathBuf> {
        let system = SYSTEM.iter().map(|(path, _why)| PathBuf::from(path));
        let cas = CA_VARIABLES.iter().filter_map(std::env::var_os).map(PathBuf::from);
        system.chain(cas).chain(self.read.iter().cloned()).collect()
    }

    /// Everything that is written.
    pub(super) fn to_write(&self) -> Vec<PathBuf> {
        self.written.iter().map(|(folder, _mode)| folder.clone()).collect()
    }

    /// As the kernel sees them.
    pub(super) fn canonical(&self) -> Vec<PathBuf> {
        let all = self.to_read().into_iter().chain(self.to_write());
        all.filter_map(|path| std::fs::canonicalize(path).ok()).collect()
    }

    /// Makes the folders that are written, where they are missing.
    pub(super) fn make(&self) {
        for (folder, mode) in &self.written {
            // Who opens it says why it is not there.
            let _cannot = DirBuilder::new().recursive(true).mode(*mode).create(folder);
        }
    }

    /// Gives new folders to the account, as root. One that is empty and root's is new: the command
    /// line makes some.
    pub(super) fn give(&self, account: &Account) -> Result<(), SandboxError> {
        let (uid, gid) = account.ids();
        for (folder, _mode) in &self.written {
            let found = std::fs::metadata(folder).map_err(|error| named(folder, &error))?;
            let mut entries = std::fs::read_dir(folder).map_err(|error| named(folder, &error))?;
            if found.uid() == 0 && entries.next().is_none() {
                let given = std::os::unix::fs::chown(folder, Some(uid), Some(gid));
                given.map_err(|error| named(folder, &error))?;
            }
        }
        Ok(())
    }

    /// Whether the account, which this process is now, can use its folders.
    pub(super) fn check(&self, account: &Account) -> Result<(), SandboxError> {
        let user = account.name();
        for (folder, _mode) in &self.written {
            if !can(folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
                let shown = folder.display().to_string();
                let fix = format!("sudo chown -R {user} {shown}");
                let (user, what) = (user.to_owned(), "write into");
                return Err(SandboxError::Folder { folder: shown, user, what, fix });
            }
        }
        for folder in self.read.iter().filter(|folder| !self.is_of_a_file(folder)) {
            if !can(folder, Access::READ_OK | Access::EXEC_OK) {
                let shown = folder.display().to_string();
                let fix = format!("sudo chmod -R o+rX {shown}, and let others pass above it");
                let (user, what) = (user.to_owned(), "read");
                return Err(SandboxError::Folder { folder: shown, user, what, fix });
            }
        }
        Ok(())
    }

    /// The folder is here because of a file: whether that can be read is another question.
    fn is_of_a_file(&self, folder: &Path) -> bool {
        self.again.iter().any(|file| {
            let target = std::fs::canonicalize(file).ok();
            folder == folder_of(file) || target.is_some_and(|target| folder == folder_of(&target))
        })
    }

    /// Sentences about files that the account cannot read, although a reload will.
    pub(super) fn unreadable(&self, account: &Account) -> Vec<String> {
        // Of one that is not there its reader says so.
        let is_denied = |file: &&PathBuf| {
            access(*file, Access::READ_OK).is_err_and(|error| error != Errno::NOENT)
        };
        let files = self.again.iter().filter(is_denied);
        let sentence = |file: &PathBuf| {
            let (file, user) = (file.display(), account.name());
            format!(
                "user `{user}` cannot read {file}, which the server reads again; let it read the \
                 file and pass the folders above it (HE-W122)"
            )
        };
        files.map(sentence).collect()
    }
}

/// Files with descriptions among the sources of a path.
fn described(path: &PathConfig) -> impl Iterator<Item = &Path> {
    let fallbacks = path.fallback.iter().filter_map(|source| match source {
        FallbackSource::Address(address) => Some(address),
        FallbackSource::Path(_) => None,
    });
    std::iter::once(&path.source).chain(fallbacks).filter_map(|source| match source {
        SourceAddress::Sdp(file) => Some(file.as_path()),
        _ => None,
    })
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder.as_os_str().is_empty() => PathBuf::from("."),
        Some(folder) => folder.to_owned(),
        None => file.to_owned(),
    }
}

fn named(folder: &Path, error: &std::io::Error) -> SandboxError {
    let source = std::io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
    system("a folder that the server writes into", source)
}

/// Of folders that are made for state and contents.
const STATE_MODE: u32 = 0o755;
/// Of the folder of the socket of takeovers.
const TAKEOVER_MODE: u32 = 0o700;
/// Of a base's folder, which has its keys.
const BASE_MODE: u32 = 0o700;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_of_a_reload_is_allowed_by_its_folder_and_by_that_of_its_target() {
        let (links, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = files.path().join("real.toml");
        std::fs::write(&target, "").unwrap();
        let link = links.path().join("headend.toml");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let config = Config {
            file: Some(link),
            admin_tokens: Some("tokens".into()),
            media_root: Some("media".into()),
            state_dir: Some("state".into()),
            ..Config::default()
        };
        let places = Places::of_server(&config);
        let real = std::fs::canonicalize(files.path()).unwrap();
        let folders = [Path::new("media"), links.path(), &real, Path::new(".")];
        assert_eq!(places.read, folders);
        assert_eq!(places.to_write(), [Path::new("state")]);
        let node = places.and_delivered(Path::new("media"));
        assert_eq!(node.to_write(), [Path::new("state"), Path::new("media")]);
        assert!(node.is_of_a_file(links.path()) && !node.is_of_a_file(Path::new("media")));
    }

    #[test]
    fn every_place_has_its_reason() {
        assert!(SYSTEM.iter().all(|(path, why)| path.starts_with('/') && why.len() > 5));
    }
}

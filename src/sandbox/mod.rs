//! What the process gives up when it has its ports: user, capabilities, files, system calls.
//!
//! ```text
//! prepare: user known? --ports are bound--> enter: folders, user, capabilities, landlock
//!                                             --threads start--> close: seccomp, on all threads
//! ```
//! `enter` comes before the first thread, because a thread hands landlock and capabilities on to
//! those that it starts and to no others. `close` comes when everything runs, because a server that
//! runs needs fewer calls than one that starts.
//! Which files and which calls, and why, stands in [`places`] and `syscalls` alone.
//! What io_uring does for its rings passes no seccomp filter; landlock holds there as well.

mod account;
mod capabilities;
mod files;
pub mod places;
pub mod profile;
mod seccomp;
mod syscalls;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{Access, access};
use rustix::process::geteuid;

use crate::base::mode::Mode;
use crate::config::confinement::{ConfinementConfig, SeccompMode};
pub use account::Account;
pub use files::{Landlock, available};
use places::Places;
pub use syscalls::Role;

/// Why the process cannot give up what it was told to give up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The user database has no such user.
    #[error("server.user: there is no user `{user}` on this machine")]
    NoUser {
        /// As configured.
        user: String,
    },
    /// The user database has no such group.
    #[error("server.user: there is no group `{group}` on this machine")]
    NoGroup {
        /// As configured.
        group: String,
    },
    /// A number without an entry in the user database.
    #[error(
        "server.user: the user database does not know {user}, nor a group for it; write \
         {user}:GROUP"
    )]
    GroupUnknown {
        /// As configured.
        user: String,
    },
    /// The user is root.
    #[error("server.user: `{user}` is root; name another user, or leave server.user out")]
    Root {
        /// As configured.
        user: String,
    },
    /// Another user cannot become one.
    #[error(
        "server.user: only root can become user `{user}`, and this process is user {uid}; start \
         it as root, or leave server.user (--user) out"
    )]
    NotRoot {
        /// As configured.
        user: String,
        /// Number of the user that the process has.
        uid: u32,
    },
    /// A folder that the user cannot use.
    #[error("{folder}: user `{user}` cannot {what} this folder; run: {fix}")]
    Folder {
        /// Which.
        folder: String,
        /// That the server becomes.
        user: String,
        /// What it must do there.
        what: &'static str,
        /// A command.
        fix: String,
    },
    /// Landlock is wanted in any case.
    #[error("server.landlock is on, and cannot be had: {reason}; set it to auto")]
    NoLandlock {
        /// Why.
        reason: String,
    },
    /// The operating system refuses something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
}

/// What is to be given up.
#[derive(Debug)]
pub struct Sandbox {
    account: Option<Account>,
    landlock: Mode,
    seccomp: SeccompMode,
    places: Places,
    role: Role,
    /// Commands of an operator are run, which may need anything.
    runs_commands: bool,
    /// Shards set a real-time priority after the start.
    needs_priority: bool,
}

impl Sandbox {
    /// Looks the user up; nothing is given up yet.
    ///
    /// # Errors
    /// The user is not known, or cannot be had.
    pub fn prepare(
        config: &ConfinementConfig,
        places: Places,
        role: Role,
    ) -> Result<Self, SandboxError> {
        let account = config.user.as_ref().map(Account::find).transpose()?;
        if let Some(account) = &account {
            account.check_reachable()?;
        }
        let (landlock, seccomp) = (config.landlock, config.seccomp);
        let (runs_commands, needs_priority) = (false, false);
        Ok(Self { account, landlock, seccomp, places, role, runs_commands, needs_priority })
    }

    /// The same for a process that runs commands of its operator: they may open any file and make
    /// any call, so only the user changes.
    #[must_use]
    pub fn that_runs_commands(self) -> Self {
        Self { runs_commands: true, ..self }
    }

    /// The same, and CAP_SYS_NICE is kept where it is the only way to a real-time priority.
    #[must_use]
    pub fn that_needs_priority(self, needs_priority: bool) -> Self {
        Self { needs_priority, ..self }
    }

    /// Whether capabilities that the process has stay: those of root who stays root.
    #[must_use]
    pub fn keeps_capabilities(&self) -> bool {
        self.account.is_none() && geteuid().is_root()
    }

    /// Whether the process is root and will not be.
    #[must_use]
    pub fn leaves_root(&self) -> bool {
        self.account.is_some() && geteuid().is_root()
    }

    /// Gives up the user, capabilities and files. From now on files are opened as the user that is
    /// left, in its folders. Called when the ports are bound, before the first thread.
    ///
    /// # Errors
    /// A folder that the user cannot use, or what the system refuses.
    pub fn enter(self) -> Result<Entered, SandboxError> {
        let mut warnings = Vec::new();
        let is_root = geteuid().is_root();
        // Now, because a rule names a folder that is there.
        self.places.make();
        if let Some(account) = self.account.as_ref().filter(|_| is_root) {
            self.places.give(account)?;
            capabilities::leave_bounding_set();
            account.become_it()?;
        }
        if !geteuid().is_root() {
            capabilities::drop_all(self.needs_priority)?;
        }
        if let Some(account) = &self.account {
            self.places.check(account)?;
            warnings.extend(self.places.unreadable(account));
        }
        let user = self.account.as_ref().map(|account| account.name().to_owned());
        let landlock = match self.landlock {
            _ if self.runs_commands => Landlock::Off("commands of --repair-hook are run"),
            Mode::Off => Landlock::Off("server.landlock"),
            Mode::Auto | Mode::On => {
                rustix::thread::set_no_new_privs(true)
                    .map_err(|error| system("no_new_privs", error))?;
                if has_threads() {
                    Landlock::Missing("threads run already, which it would not hold for".to_owned())
                } else {
                    files::enforce(&self.places)
                }
            }
        };
        if let (Mode::On, Landlock::Missing(reason)) = (self.landlock, &landlock) {
            return Err(SandboxError::NoLandlock { reason: reason.clone() });
        }
        let is_enforced = matches!(landlock, Landlock::Enforced { .. });
        let folders = is_enforced.then(|| self.places.canonical());
        // A second server in one process is a test's; it is asked about by nobody.
        let _first_counts = IN_FORCE.set(InForce { user: user.clone(), folders });
        let (seccomp, role, runs_commands) = (self.seccomp, self.role, self.runs_commands);
        Ok(Entered { user, landlock, seccomp, role, runs_commands, warnings })
    }
}

/// A process that has given up its user and files, and not yet its system calls.
#[derive(Debug)]
pub struct Entered {
    user: Option<String>,
    landlock: Landlock,
    seccomp: SeccompMode,
    role: Role,
    runs_commands: bool,
    warnings: Vec<String>,
}

impl Entered {
    /// Gives up system calls, on all threads, and says what is in force. Called when everything
    /// runs. What cannot be had is a warning: the server serves on.
    #[must_use]
    pub fn close(self) -> Report {
        let mut warnings = self.warnings;
        let seccomp = match self.seccomp {
            _ if self.runs_commands => "off (commands of --repair-hook are run)".to_owned(),
            SeccompMode::Off => "off (server.seccomp)".to_owned(),
            mode => match seccomp::enforce(mode, self.role) {
                Ok(calls) => format!("{} ({calls} calls)", mode.as_str()),
                Err(reason) => {
                    warnings.push(format!(
                        "any system call can be made: seccomp cannot be had: {reason}; to have no \
                         such line: server.seccomp = \"off\" (HE-W121)"
                    ));
                    "none".to_owned()
                }
            },
        };
        let user = match self.user {
            Some(user) => user,
            None if geteuid().is_root() => "root (--user NAME gives it up)".to_owned(),
            None => format!("{} (not root: nothing to give up)", geteuid().as_raw()),
        };
        Report {
            line: format!("user {user}   landlock {}   seccomp {seccomp}", self.landlock),
            warnings,
        }
    }
}

/// What is in force, for the start-up text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// One line.
    pub line: String,
    /// Whole sentences, each with its code and its fix.
    pub warnings: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

/// What counts from [`Sandbox::enter`] on.
#[derive(Debug)]
struct InForce {
    user: Option<String>,
    /// Folders that landlock lets the process open files in; `None`: any.
    folders: Option<Vec<PathBuf>>,
}

/// The words for a file that cannot be opened: those of the system, and what forbids it when that
/// is this sandbox.
#[must_use]
pub fn why(path: &Path, error: &io::Error) -> String {
    words(path, error, IN_FORCE.get())
}

fn words(path: &Path, error: &io::Error, in_force: Option<&InForce>) -> String {
    let Some(in_force) = in_force.filter(|_| error.kind() == io::ErrorKind::PermissionDenied)
    else {
        return error.to_string();
    };
    if let Some(folders) = &in_force.folders {
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if !folders.iter().any(|folder| path.starts_with(folder)) {
            let path = path.display();
            return format!(
                "{error}: {path} lies outside of the folders in which headend opens files since \
                 its start (server.landlock); restart headend, or move the file beside its \
                 configuration"
            );
        }
    }
    match &in_force.user {
        Some(user) => format!("{error}: user `{user}` must be able to read it"),
        None => error.to_string(),
    }
}

/// Whether this process has more threads than the one that asks.
fn has_threads() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1)
}

/// Whether this process may do that with a file or folder.
fn can(path: &Path, what: Access) -> bool {
    access(path, what).is_ok()
}

fn system(what: &'static str, source: impl Into<io::Error>) -> SandboxError {
    SandboxError::System { what, source: source.into() }
}

static IN_FORCE: OnceLock<InForce> = OnceLock::new();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_outside_and_file_of_others_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let inside = std::fs::canonicalize(folder.path()).unwrap();
        let in_force =
            |user: Option<&str>, folders| InForce { user: user.map(Into::into), folders };
        let denied = || io::Error::from_raw_os_error(libc::EACCES);
        let sandboxed = in_force(Some("nobody"), Some(vec![inside.clone()]));
        let said = |path: &Path, sandboxed| words(path, &denied(), sandboxed);
        let outside = said(Path::new("/etc/hostname"), Some(&sandboxed));
        assert!(outside.contains("/etc/hostname lies outside of the folders"), "{outside}");
        let unreadable = said(&inside.join("a"), Some(&sandboxed));
        assert!(unreadable.ends_with("user `nobody` must be able to read it"), "{unreadable}");
        let plain = denied().to_string();
        let free = in_force(None, None);
        assert_eq!(said(&inside.join("a"), Some(&free)), plain);
        assert_eq!(said(Path::new("/x"), None), plain);
        let missing = io::Error::from_raw_os_error(libc::ENOENT);
        assert_eq!(words(Path::new("/x"), &missing, Some(&sandboxed)), missing.to_string());
    }

    #[test]
    fn user_that_is_not_known_is_refused_before_anything_is_given_up() {
        let user = Some(crate::config::confinement::AccountName::parse("no-such-user").unwrap());
        let config = ConfinementConfig { user, ..ConfinementConfig::none() };
        let refused = Sandbox::prepare(&config, Places::default(), Role::Serve).unwrap_err();
        let sentence = "server.user: there is no user `no-such-user` on this machine";
        assert_eq!(refused.to_string(), sentence);
    }
}

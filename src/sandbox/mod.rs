//! What the process gives up when it has its ports: user, capabilities, files, system calls.
//!
//! ```text
//! prepare: user known? --ports are bound--> enter: folders, user, capabilities, landlock
//!                                             --threads start--> close: seccomp, on all threads
//! ```
//! `enter` comes before the first thread, because a thread hands landlock and capabilities on to
//! those that it starts and to no others. `close` comes when everything runs, because a server that
//! runs needs fewer calls than one that starts.
//! Which files and which calls, and why, stands in [`places`] and [`syscalls`] alone.
//! What io_uring does for its rings passes no seccomp filter; landlock holds there as well.

mod account;
mod capabilities;
mod seccomp;
mod syscalls;

use std::io;

pub use account::Account;
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

fn system(what: &'static str, source: impl Into<io::Error>) -> SandboxError {
    SandboxError::System { what, source: source.into() }
}

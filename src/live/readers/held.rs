//! Commands that wait for a path until its owner has answered.
//!
//! ```text
//!  DESCRIBE, SETUP --hold--> name --take--> executed again, or refused
//!                             `--connection closes--> dropped
//! ```
//! A source on demand that does not answer makes its clients wait for seconds. Those must not keep
//! clients of other paths from waiting: a path may have as many commands as room is left for other
//! paths, so one path gets half of all, a second one half of the rest.
//! Names are never used again: the name of a command that is gone finds nothing.
//! Bounds: `HELD_MAX` commands, one of each connection of this shard.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::base::ids::ShardId;
use crate::poll::poll_table::EntryKey;
use crate::rtsp::response::Status;
use crate::session::command::{Command, Executed};
use crate::session::cx::Cx;

/// The held commands of one shard: see the module.
#[derive(Debug, Default)]
pub(crate) struct HeldCommands {
    by_name: BTreeMap<u64, (Arc<str>, Command)>,
    /// Names by connection of this shard. A connection has one request at hand.
    by_connection: HashMap<EntryKey, u64>,
    /// Number of held commands by path.
    counts: HashMap<Arc<str>, usize>,
    serial: u64,
}

impl HeldCommands {
    /// Whether one more command may wait for a path.
    pub(crate) fn has_room(&self, path: &str) -> bool {
        let left = HELD_MAX.saturating_sub(self.by_name.len());
        self.counts.get(path).copied().unwrap_or(0) < left
    }

    /// The name that the next command will have.
    pub(crate) fn next_name(&self) -> u64 {
        self.serial
    }

    /// Holds a command. `shard` is this shard.
    pub(crate) fn hold(&mut self, path: &Arc<str>, mut command: Command, shard: ShardId) -> u64 {
        // Neither DESCRIBE nor SETUP uses a body.
        command.request.body = Vec::new();
        let name = self.serial;
        self.serial += 1;
        if command.reply_to.shard == shard {
            self.by_connection.insert(command.reply_to.entry, name);
        }
        *self.counts.entry(Arc::clone(path)).or_default() += 1;
        self.by_name.insert(name, (Arc::clone(path), command));
        name
    }

    /// Takes a held command out.
    pub(crate) fn take(&mut self, name: u64) -> Option<Command> {
        let (path, command) = self.by_name.remove(&name)?;
        if self.by_connection.get(&command.reply_to.entry) == Some(&name) {
            self.by_connection.remove(&command.reply_to.entry);
        }
        if let Some(count) = self.counts.get_mut(&path) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&path);
            }
        }
        Some(command)
    }

    /// Drops the command of a closed connection; returns the command's path and name.
    pub(crate) fn forget(&mut self, entry: EntryKey) -> Option<(Arc<str>, u64)> {
        let name = *self.by_connection.get(&entry)?;
        let path = self.by_name.get(&name).map(|(path, _)| Arc::clone(path));
        self.take(name);
        path.map(|path| (path, name))
    }

    /// The command of a connection of this shard.
    pub(crate) fn of(&self, entry: EntryKey) -> Option<&Command> {
        self.by_name.get(self.by_connection.get(&entry)?).map(|(_, command)| command)
    }

    /// Number of held commands.
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }
}

/// Held commands of a shard: clients that arrive at once for a camera that is being opened.
pub(crate) const HELD_MAX: usize = 4_096;

/// Answers 503 to a command that there is no room to hold.
pub(crate) fn refuse_to_hold(cx: &Cx, path: &str, command: &Command) -> Executed {
    cx.cells.commands_not_held.add(1);
    tracing::debug!(peer = %command.peer, path, "too many requests wait for live paths");
    let response = command.response(Status::ServiceUnavailable);
    Executed::Reply(response.header("Retry-After", "1"))
}

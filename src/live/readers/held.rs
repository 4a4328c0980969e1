//! Commands that wait for a path until its home has answered.
//!
//! ```text
//!  DESCRIBE, SETUP --hold--> name --take--> executed again, or refused
//!                             `--connection closes--> gone
//! ```
//! A source on demand that does not answer keeps whoever asks for it for seconds. It must not keep
//! those of other paths from waiting: a path has as many as room is left for others, so one has
//! half of all, a second one half of the rest.
//! Names are never used again: one whose command has gone finds nothing.
//! Bounds: `HELD_MAX` commands, one of each connection of this shard.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::base::ids::ShardId;
use crate::poll::poll_table::EntryKey;
use crate::rtsp::response::Status;
use crate::session::command::{Command, Executed};
use crate::session::cx::Cx;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct HeldCommands {
    by_name: BTreeMap<u64, (Arc<str>, Command)>,
    /// Of connections of this shard. A connection has one request at hand.
    by_connection: HashMap<EntryKey, u64>,
    /// How many wait for each path.
    counts: HashMap<Arc<str>, usize>,
    serial: u64,
}

impl HeldCommands {
    /// Whether one more may wait for a path.
    pub(crate) fn has_room(&self, path: &str) -> bool {
        let left = HELD_MAX.saturating_sub(self.by_name.len());
        self.counts.get(path).copied().unwrap_or(0) < left
    }

    /// The name that the next command will have.
    pub(crate) fn next_name(&self) -> u64 {
        self.serial
    }

    /// Keeps a command. `shard` is ours.
    pub(crate) fn hold(&mut self, path: &Arc<str>, mut command: Command, shard: ShardId) -> u64 {
        // Neither DESCRIBE nor SETUP has a use for one.
        command.request.body = Vec::new();
        let name = self.serial;
        self.serial += 1;
        if command.waiter.shard == shard {
            self.by_connection.insert(command.waiter.entry, name);
        }
        *self.counts.entry(Arc::clone(path)).or_default() += 1;
        self.by_name.insert(name, (Arc::clone(path), command));
        name
    }

    /// What has waited.
    pub(crate) fn take(&mut self, name: u64) -> Option<Command> {
        let (path, command) = self.by_name.remove(&name)?;
        if self.by_connection.get(&command.waiter.entry) == Some(&name) {
            self.by_connection.remove(&command.waiter.entry);
        }
        if let Some(count) = self.counts.get_mut(&path) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&path);
            }
        }
        Some(command)
    }

    /// The command of a connection that is closed goes: its path and its name.
    pub(crate) fn forget(&mut self, entry: EntryKey) -> Option<(Arc<str>, u64)> {
        let name = *self.by_connection.get(&entry)?;
        let path = self.by_name.get(&name).map(|(path, _)| Arc::clone(path));
        self.take(name);
        path.map(|path| (path, name))
    }

    /// Commands that wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }
}

/// Commands that wait on a shard: a crowd that comes at once for a camera that is being opened.
pub(crate) const HELD_MAX: usize = 4_096;

/// 503 for a command that there is no room to keep.
pub(crate) fn refuse_to_hold(cx: &Cx, path: &str, command: &Command) -> Executed {
    cx.cells.commands_not_held.add(1);
    tracing::debug!(peer = %command.peer, path, "too many requests wait for live paths");
    let response = command.response(Status::ServiceUnavailable);
    Executed::Reply(response.header("Retry-After", "1"))
}

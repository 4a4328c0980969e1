//! Which commands of a job wait for which others at a node.
//!
//! ```text
//! strict  every earlier command that is open
//! prefix  earlier open commands whose path is the same, or one within the other
//! none    nothing
//! ```
//! Invariant: a command is blocked by earlier ones only, so there is no circle. Bound: a look costs
//! as many steps as the path has folders, and for a folder as many as open paths lie in it.

use std::collections::{BTreeMap, BTreeSet};

use crate::dist::ids::{CommandId, CommandKey, JobId};
use crate::dist::wire::job::{Op, Order};

/// Open commands of all jobs.
#[derive(Debug, Default)]
pub(super) struct Turns {
    jobs: BTreeMap<JobId, Open>,
    /// Who waits for a command.
    waiters: BTreeMap<CommandKey, Vec<CommandKey>>,
}

#[derive(Debug, Default)]
struct Open {
    commands: BTreeSet<CommandId>,
    paths: BTreeMap<String, BTreeSet<CommandId>>,
}

impl Turns {
    /// A command is open.
    pub(super) fn insert(&mut self, key: CommandKey, op: &Op) {
        // A live path ends with its job: nobody waits for it, nor it for others.
        if op.is_live() {
            return;
        }
        let open = self.jobs.entry(key.job).or_default();
        open.commands.insert(key.command);
        for path in paths_of(op) {
            open.paths.entry(path.to_owned()).or_default().insert(key.command);
        }
    }

    /// A command has ended: those that waited for it are to be looked at again.
    pub(super) fn remove(&mut self, key: CommandKey, op: &Op) -> Vec<CommandKey> {
        if let Some(open) = self.jobs.get_mut(&key.job) {
            open.commands.remove(&key.command);
            for path in paths_of(op) {
                if let Some(commands) = open.paths.get_mut(path) {
                    commands.remove(&key.command);
                    if commands.is_empty() {
                        open.paths.remove(path);
                    }
                }
            }
            if open.commands.is_empty() {
                self.jobs.remove(&key.job);
            }
        }
        self.waiters.remove(&key).unwrap_or_default()
    }

    /// Whether `key` may change the media folder now. If not, it is noted as waiting.
    pub(super) fn is_free(&mut self, key: CommandKey, order: Order, op: &Op) -> bool {
        let Some(command) = self.blocker(key, order, op) else { return true };
        let waiters = self.waiters.entry(CommandKey { job: key.job, command }).or_default();
        if !waiters.contains(&key) {
            waiters.push(key);
        }
        false
    }

    /// The newest of the earlier commands that are in the way, so that each end frees few.
    fn blocker(&self, key: CommandKey, order: Order, op: &Op) -> Option<CommandId> {
        let open = self.jobs.get(&key.job).filter(|_| !op.is_live())?;
        let before =
            |commands: &BTreeSet<CommandId>| commands.range(..key.command).next_back().copied();
        match order {
            Order::None => None,
            Order::Strict => before(&open.commands),
            Order::Prefix => paths_of(op).filter_map(|path| open.in_the_way(path, before)).max(),
        }
    }
}

impl Open {
    fn in_the_way(
        &self,
        path: &str,
        before: impl Fn(&BTreeSet<CommandId>) -> Option<CommandId>,
    ) -> Option<CommandId> {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        let above = ends.filter_map(|end| self.paths.get(&path[..end])).filter_map(&before).max();
        // '0' is the character behind '/'.
        let (from, to) = (format!("{path}/"), format!("{path}0"));
        let within = self.paths.range(from..to).filter_map(|(_, commands)| before(commands)).max();
        above.max(within)
    }
}

/// Paths that a command reads or changes.
fn paths_of(op: &Op) -> impl Iterator<Item = &str> {
    let (path, to) = match op {
        Op::Put { path, .. }
        | Op::Mkdir { path, .. }
        | Op::Delete { path }
        | Op::SetAttributes { path, .. } => (Some(path), None),
        Op::Move { path, to } => (Some(path), Some(to)),
        Op::Query | Op::Live { .. } => (None, None),
    };
    [path, to].into_iter().flatten().map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::wire::job::Attributes;
    use uuid::Uuid;

    fn key(command: u32) -> CommandKey {
        CommandKey { job: JobId(Uuid::nil()), command: CommandId(command) }
    }

    fn put(path: &str) -> Op {
        Op::Put { path: path.to_owned(), attrs: Attributes::default() }
    }

    fn renaming(path: &str, to: &str) -> Op {
        Op::Move { path: path.to_owned(), to: to.to_owned() }
    }

    #[test]
    fn prefix_waits_for_the_same_path_and_those_above_and_below() {
        let cases = [
            (put("a"), put("a"), false),
            (put("a"), put("b"), true),
            (put("a/b"), put("a"), false),
            (put("a"), put("a/b/c"), false),
            (put("a/b"), put("a/c"), true),
            (put("ab"), put("a"), true),
            (put("a"), put("a.mp4"), true),
            (put("a"), renaming("x", "a/b"), false),
            (renaming("x", "y"), put("y/z"), false),
            (Op::Query, put("a"), true),
            (put("a"), Op::Query, true),
        ];
        for (first, second, is_free) in cases {
            let mut turns = Turns::default();
            turns.insert(key(1), &first);
            turns.insert(key(2), &second);
            assert!(turns.is_free(key(1), Order::Prefix, &first));
            assert_eq!(
                turns.is_free(key(2), Order::Prefix, &second),
                is_free,
                "{first:?} {second:?}"
            );
            assert!(turns.is_free(key(2), Order::None, &second));
            assert!(!turns.is_free(key(2), Order::Strict, &second));
        }
    }

    #[test]
    fn end_of_a_command_frees_the_next_one_only() {
        let mut turns = Turns::default();
        for command in 1..=4 {
            turns.insert(key(command), &put("a"));
        }
        for command in 2..=4 {
            assert!(!turns.is_free(key(command), Order::Prefix, &put("a")));
        }
        assert_eq!(turns.remove(key(1), &put("a")), [key(2)]);
        assert!(turns.is_free(key(2), Order::Prefix, &put("a")));
        assert_eq!(turns.remove(key(3), &put("a")), [key(4)]);
        assert!(!turns.is_free(key(4), Order::Prefix, &put("a")), "the second is still open");
        // The third has ended while it waited.
        assert_eq!(turns.remove(key(2), &put("a")), [key(3), key(4)]);
        assert!(turns.is_free(key(4), Order::Prefix, &put("a")));
        assert_eq!(turns.remove(key(4), &put("a")), []);
        assert!(turns.jobs.is_empty());
    }
}

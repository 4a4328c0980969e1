//! What a job has, as a tree of folders and files: its commands, folded in their order.
//!
//! ```text
//! put a/x, mkdir b, move a/x -> b/y, delete a   ->   b/, b/y
//! ```
//! The tree is what every target has once the job is done, if it had nothing before. A command
//! whose path is not in the tree (it is about what earlier jobs brought) changes nothing here.
//! Invariants: folding the same commands again gives the same tree; a withdrawn command is not in
//! it.
//! Bound: a node for each part of each path; the book limits commands and paths.

use std::collections::BTreeMap;

use crate::dist::ids::{CommandId, ContentId};
use crate::dist::rows::CommandRow;
use crate::dist::wire::job::{Attributes, Op};

/// The folders and files of a job.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Tree {
    root: Folder,
    /// The last command that is in it.
    last: Option<CommandId>,
}

/// A place in the tree.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// A folder.
    Folder(Folder),
    /// A file.
    File(File),
}

/// A folder.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Folder {
    /// What is in it, by name.
    pub(super) entries: BTreeMap<String, Node>,
    /// What was said about it.
    pub(super) attrs: Attributes,
    /// UTC nanoseconds of the command that made it.
    pub(super) made_at_ns: i64,
}

/// A file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct File {
    /// The put that made it.
    pub(super) command: CommandId,
    /// Its bytes.
    pub(super) content: Option<ContentId>,
    /// What was said about it.
    pub(super) attrs: Attributes,
    /// UTC nanoseconds of the put.
    pub(super) made_at_ns: i64,
}

impl Tree {
    /// The last command that was folded in.
    pub(super) fn last(&self) -> Option<CommandId> {
        self.last
    }

    /// Folds in the next command. `is_withdrawn`: it is passed over.
    pub(super) fn apply(&mut self, row: &CommandRow, is_withdrawn: bool) {
        self.last = Some(row.key.command);
        if is_withdrawn {
            return;
        }
        match &row.op {
            Op::Put { path, attrs } => {
                let file = File {
                    command: row.key.command,
                    content: row.content,
                    attrs: attrs.clone(),
                    made_at_ns: row.created_at_ns,
                };
                self.insert(path, Node::File(file), row.created_at_ns);
            }
            Op::Mkdir { path, attrs } => {
                if let Some(Node::Folder(known)) = self.find_mut(path) {
                    known.attrs = merged(&known.attrs, attrs);
                } else {
                    let (attrs, made_at_ns) = (attrs.clone(), row.created_at_ns);
                    let folder = Folder { entries: BTreeMap::new(), attrs, made_at_ns };
                    self.insert(path, Node::Folder(folder), row.created_at_ns);
                }
            }
            Op::Delete { path } => drop(self.remove(path)),
            Op::Move { path, to } => {
                // Into itself, or to where it is: nodes refuse the one and pass over the other.
                if to == path || to.starts_with(&format!("{path}/")) {
                    return;
                }
                if let Some(node) = self.remove(path) {
                    self.insert(to, node, row.created_at_ns);
                }
            }
            Op::SetAttributes { path, attrs } => match self.find_mut(path) {
                Some(Node::Folder(folder)) => folder.attrs = merged(&folder.attrs, attrs),
                Some(Node::File(file)) => file.attrs = merged(&file.attrs, attrs),
                None => {}
            },
            Op::Query | Op::Live { .. } => {}
        }
    }

    /// The root, which is always there.
    pub(super) fn root(&self) -> &Folder {
        &self.root
    }

    /// What is at a path; the empty path is the root and not found here.
    pub(super) fn find(&self, path: &str) -> Option<&Node> {
        let (folder, name) = match path.rsplit_once('/') {
            Some((folder, name)) => (self.folder(folder)?, name),
            None => (&self.root, path),
        };
        folder.entries.get(name)
    }

    /// The folder at a path; the empty path is the root.
    pub(super) fn folder(&self, path: &str) -> Option<&Folder> {
        let mut folder = &self.root;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            match folder.entries.get(name)? {
                Node::Folder(inner) => folder = inner,
                Node::File(_) => return None,
            }
        }
        Some(folder)
    }

    /// Whether a file stands where the path needs a folder.
    pub(super) fn is_blocked(&self, path: &str) -> bool {
        let mut folder = &self.root;
        let Some((above, _)) = path.rsplit_once('/') else { return false };
        for name in above.split('/') {
            match folder.entries.get(name) {
                Some(Node::Folder(inner)) => folder = inner,
                Some(Node::File(_)) => return true,
                None => return false,
            }
        }
        false
    }

    fn find_mut(&mut self, path: &str) -> Option<&mut Node> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut folder = &mut self.root;
        for name in above.split('/').filter(|name| !name.is_empty()) {
            match folder.entries.get_mut(name)? {
                Node::Folder(inner) => folder = inner,
                Node::File(_) => return None,
            }
        }
        folder.entries.get_mut(name)
    }

    fn remove(&mut self, path: &str) -> Option<Node> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut folder = &mut self.root;
        for name in above.split('/').filter(|name| !name.is_empty()) {
            match folder.entries.get_mut(name)? {
                Node::Folder(inner) => folder = inner,
                Node::File(_) => return None,
            }
        }
        folder.entries.remove(name)
    }

    /// Puts a node in its place and makes the folders above it. Nothing happens where the path
    /// leads through a file, or where a file would replace a folder: nodes refuse these too.
    fn insert(&mut self, path: &str, node: Node, at_ns: i64) {
        let is_file = matches!(node, Node::File(_));
        if self.is_blocked(path) || is_file && matches!(self.find(path), Some(Node::Folder(_))) {
            return;
        }
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut folder = &mut self.root;
        for part in above.split('/').filter(|part| !part.is_empty()) {
            let new = || Node::Folder(Folder { made_at_ns: at_ns, ..Folder::default() });
            let Node::Folder(inner) = folder.entries.entry(part.to_owned()).or_insert_with(new)
            else {
                return;
            };
            folder = inner;
        }
        folder.entries.insert(name.to_owned(), node);
    }
}

/// What holds when `new` is set upon `old`: what is not said stays.
fn merged(old: &Attributes, new: &Attributes) -> Attributes {
    let mut xattr = old.xattr.clone();
    xattr.extend(new.xattr.iter().map(|(name, value)| (name.clone(), value.clone())));
    xattr.retain(|_, value| value.is_some());
    Attributes { mode: new.mode.or(old.mode), mtime_ns: new.mtime_ns.or(old.mtime_ns), xattr }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dist::ids::{CommandKey, JobId};

    fn row(command: u32, op: Op) -> CommandRow {
        let job = JobId(uuid::Uuid::nil());
        let is_put = matches!(op, Op::Put { .. });
        CommandRow {
            key: CommandKey { job, command: CommandId(command) },
            content: is_put.then(|| ContentId(uuid::Uuid::from_u128(u128::from(command)))),
            op,
            created_at_ns: i64::from(command),
        }
    }

    fn folded(ops: impl IntoIterator<Item = Op>) -> Tree {
        let mut tree = Tree::default();
        for (number, op) in (1..).zip(ops) {
            tree.apply(&row(number, op), false);
        }
        tree
    }

    fn put(path: &str) -> Op {
        Op::Put { path: path.to_owned(), attrs: Attributes::default() }
    }

    fn mkdir(path: &str) -> Op {
        Op::Mkdir { path: path.to_owned(), attrs: Attributes::default() }
    }

    fn moved(path: &str, to: &str) -> Op {
        Op::Move { path: path.to_owned(), to: to.to_owned() }
    }

    fn delete(path: &str) -> Op {
        Op::Delete { path: path.to_owned() }
    }

    /// Every path of the tree, folders with a slash behind.
    fn paths(tree: &Tree) -> Vec<String> {
        fn walk(folder: &Folder, above: &str, out: &mut Vec<String>) {
            for (name, node) in &folder.entries {
                match node {
                    Node::File(_) => out.push(format!("{above}{name}")),
                    Node::Folder(inner) => {
                        let path = format!("{above}{name}/");
                        out.push(path.clone());
                        walk(inner, &path, out);
                    }
                }
            }
        }
        let mut out = Vec::new();
        walk(tree.root(), "", &mut out);
        out
    }

    #[test]
    fn commands_make_the_tree_in_their_order() {
        let tree = folded([put("a/x"), mkdir("b"), moved("a/x", "b/y"), delete("a")]);
        assert_eq!(paths(&tree), ["b/", "b/y"]);
        assert_eq!(tree.last(), Some(CommandId(4)));
        let Some(Node::File(file)) = tree.find("b/y") else { panic!("{tree:?}") };
        assert_eq!(file.command, CommandId(1));
        assert!(tree.folder("b").is_some() && tree.folder("b/y").is_none());
    }

    #[test]
    fn newest_put_of_a_path_counts_and_a_withdrawn_one_does_not() {
        let mut tree = folded([put("a"), put("a")]);
        tree.apply(&row(3, put("a")), true);
        let Some(Node::File(file)) = tree.find("a") else { panic!("{tree:?}") };
        assert_eq!((file.command, tree.last()), (CommandId(2), Some(CommandId(3))));
    }

    #[test]
    fn attributes_are_merged_and_what_is_not_there_is_passed_over() {
        let set = |path: &str, mode, mtime_ns| Op::SetAttributes {
            path: path.to_owned(),
            attrs: Attributes { mode, mtime_ns, xattr: BTreeMap::new() },
        };
        let tree = folded([
            put("a"),
            set("a", Some(0o600), None),
            set("a", None, Some(7)),
            set("earlier", Some(1), None),
            delete("earlier"),
            moved("earlier", "b"),
            Op::Query,
        ]);
        let Some(Node::File(file)) = tree.find("a") else { panic!("{tree:?}") };
        assert_eq!((file.attrs.mode, file.attrs.mtime_ns), (Some(0o600), Some(7)));
        assert_eq!(paths(&tree), ["a"]);
    }

    #[test]
    fn files_are_no_folders_and_folders_are_not_replaced_by_files() {
        let tree = folded([put("a"), put("a/b"), mkdir("c"), put("c"), moved("c", "c/d")]);
        assert_eq!(paths(&tree), ["a", "c/"]);
        assert!(tree.is_blocked("a/b") && !tree.is_blocked("c/b") && !tree.is_blocked("x/y/z"));
    }

    fn any_op() -> impl Strategy<Value = Op> {
        let path = prop::collection::vec("[ab]", 1..4).prop_map(|parts| parts.join("/"));
        (0..4_u8, path.clone(), path).prop_map(|(kind, path, to)| match kind {
            0 => put(&path),
            1 => mkdir(&path),
            2 => delete(&path),
            _ => moved(&path, &to),
        })
    }

    proptest! {
        #[test]
        fn folders_above_everything_are_there_after_any_commands(
            ops in prop::collection::vec(any_op(), 0..40),
        ) {
            let tree = folded(ops);
            for path in paths(&tree) {
                let path = path.trim_end_matches('/');
                prop_assert!(tree.find(path).is_some() && !tree.is_blocked(path));
                let above = path.rsplit_once('/').map_or("", |(above, _)| above);
                prop_assert!(tree.folder(above).is_some());
            }
        }
    }
}

//! A virtual media folder: names, files and folders, as a node's file system has them.
//!
//! Each change is done whole or not at all. The same functions say what a folder is to hold when
//! all commands of a job are done in their order.

use std::collections::BTreeMap;

use headend::dist::agent::Failure;
use headend::dist::ids::ContentId;
use headend::dist::wire::job::{Attributes, Op, Reason};

/// What has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    Dir,
    File(ContentId),
}

/// Entries by their path, each with its attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Folder {
    entries: BTreeMap<String, (Entry, Attributes)>,
}

impl Folder {
    /// Does a command; `is_again`: it may be done already.
    pub(crate) fn apply(
        &mut self,
        op: &Op,
        content: Option<ContentId>,
        is_again: bool,
    ) -> Result<(), Failure> {
        match op {
            Op::Put { path, attrs } => {
                self.make_dirs(above(path))?;
                if self.is_dir(path) {
                    return Err(conflict(path));
                }
                let content = content.ok_or_else(|| conflict(path))?;
                self.entries.insert(path.clone(), (Entry::File(content), attrs.clone()));
                Ok(())
            }
            Op::Mkdir { path, attrs } => {
                self.make_dirs(Some(path))?;
                self.set(path, attrs)
            }
            Op::Delete { path } => {
                self.entries.retain(|known, _| !is_within(known, path));
                Ok(())
            }
            Op::Move { path, to } => self.rename(path, to, is_again),
            Op::SetAttributes { path, attrs } => self.set(path, attrs),
            Op::Query | Op::Live { .. } => Ok(()),
        }
    }

    /// The content that a path has.
    pub(crate) fn file(&self, path: &str) -> Option<ContentId> {
        match self.entries.get(path) {
            Some((Entry::File(content), _)) => Some(*content),
            Some((Entry::Dir, _)) | None => None,
        }
    }

    /// All files.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, ContentId)> {
        self.entries.iter().filter_map(|(path, (entry, _))| match entry {
            Entry::File(content) => Some((path.as_str(), *content)),
            Entry::Dir => None,
        })
    }

    /// What lies within a folder.
    pub(crate) fn part(&self, path: &str) -> Self {
        let within = self.entries.iter().filter(|(known, _)| is_within(known, path));
        Self { entries: within.map(|(path, entry)| (path.clone(), entry.clone())).collect() }
    }

    fn is_dir(&self, path: &str) -> bool {
        matches!(self.entries.get(path), Some((Entry::Dir, _)))
    }

    fn make_dirs(&mut self, path: Option<&str>) -> Result<(), Failure> {
        let Some(path) = path else { return Ok(()) };
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for part in ends.map(|end| &path[..end]) {
            let entry = self.entries.entry(part.to_owned());
            if entry.or_insert_with(|| (Entry::Dir, Attributes::default())).0 != Entry::Dir {
                return Err(conflict(path));
            }
        }
        Ok(())
    }

    fn set(&mut self, path: &str, attrs: &Attributes) -> Result<(), Failure> {
        let (_, known) = self.entries.get_mut(path).ok_or_else(|| conflict(path))?;
        known.mode = attrs.mode.or(known.mode);
        known.mtime_ns = attrs.mtime_ns.or(known.mtime_ns);
        known.xattr.extend(attrs.xattr.clone());
        Ok(())
    }

    fn rename(&mut self, path: &str, to: &str, is_again: bool) -> Result<(), Failure> {
        let Some((entry, _)) = self.entries.get(path).cloned() else {
            let is_done = is_again && self.entries.contains_key(to);
            return if is_done { Ok(()) } else { Err(conflict(path)) };
        };
        self.make_dirs(above(to))?;
        match (&entry, self.entries.get(to)) {
            (Entry::File(_), Some((Entry::Dir, _))) | (Entry::Dir, Some((Entry::File(_), _))) => {
                return Err(conflict(to));
            }
            (Entry::Dir, Some(_)) if self.part(to).entries.len() > 1 => return Err(conflict(to)),
            _ => {}
        }
        let moved = self.part(path);
        self.entries.retain(|known, _| !is_within(known, path));
        for (known, entry) in moved.entries {
            self.entries.insert(format!("{to}{}", &known[path.len()..]), entry);
        }
        Ok(())
    }
}

fn above(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(above, _)| above)
}

fn is_within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn conflict(path: &str) -> Failure {
    Failure { reason: Reason::PathConflict, detail: format!("{path}: it is in the way") }
}

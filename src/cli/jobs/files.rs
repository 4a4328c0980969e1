//! What is to be pushed: files and folders of the command line, with the paths that they get.
//!
//! ```text
//! push film.mp4          -> film.mp4                push shows/        -> shows/, shows/a.mp4
//! push ../x/film.mp4     -> film.mp4                push shows/.       -> a.mp4
//! ```
//! Links that are named are followed; those within folders are not, and are told, as is whatever is
//! neither file nor folder.
//! Bounds: `ITEMS_MAX` items, `DEPTH_MAX` folders deep.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::{Failure, printable};
use crate::dist::wire::job::Attributes;

/// A file or folder that is pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// Where it is here.
    pub(super) file: PathBuf,
    /// Where it goes, within the nodes' media folders.
    pub(super) path: String,
    /// `None` for a folder.
    pub(super) size: Option<u64>,
    /// Mode, time of last change, extended attributes.
    pub(super) attrs: Attributes,
}

/// What is pushed, folders before what is in them, and what is not.
#[derive(Debug, Default)]
pub(super) struct Items {
    pub(super) items: Vec<Item>,
    /// Links and the like within folders.
    pub(super) left_out: Vec<PathBuf>,
    paths: BTreeSet<String>,
}

impl Items {
    /// Finds everything below the words of the command line.
    pub(super) fn find(words: &[PathBuf], into: Option<&str>) -> Result<Self, Failure> {
        let mut items = Self::default();
        let into = into.map_or("", |into| into.trim_matches('/'));
        for word in words {
            let metadata = std::fs::metadata(word).map_err(|error| unreadable(word, &error))?;
            let is_content =
                word.as_os_str().as_encoded_bytes().ends_with(b"/.") || word.as_os_str() == ".";
            let name = match (is_content, word.file_name()) {
                (true, _) => String::new(),
                (false, Some(name)) => text(word, name)?,
                (false, None) => {
                    let word = printable(&word.display().to_string());
                    return Err(Failure::usage(format!("{word}: the folder has no name")));
                }
            };
            let path = joined(into, &name);
            if metadata.is_dir() {
                items.add_folder(word, &path, &metadata, 0)?;
            } else if metadata.is_file() {
                items.add(word, path, Some(metadata.len()), &metadata)?;
            } else {
                let word = printable(&word.display().to_string());
                return Err(Failure::usage(format!("{word} is neither a file nor a folder")));
            }
        }
        Ok(items)
    }

    fn add_folder(
        &mut self,
        folder: &Path,
        path: &str,
        metadata: &Metadata,
        depth: usize,
    ) -> Result<(), Failure> {
        if depth > DEPTH_MAX {
            let folder = printable(&folder.display().to_string());
            return Err(Failure::usage(format!("{folder} is more than {DEPTH_MAX} folders deep")));
        }
        if !path.is_empty() && !self.paths.contains(path) {
            self.add(folder, path.to_owned(), None, metadata)?;
        }
        let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let mut entries = entries.map_err(|error| unreadable(folder, &error))?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let file = entry.path();
            let metadata = entry.metadata().map_err(|error| unreadable(&file, &error))?;
            let path = joined(path, &text(&file, &entry.file_name())?);
            if metadata.is_dir() {
                self.add_folder(&file, &path, &metadata, depth + 1)?;
            } else if metadata.is_file() {
                self.add(&file, path, Some(metadata.len()), &metadata)?;
            } else {
                self.left_out.push(file);
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        file: &Path,
        path: String,
        size: Option<u64>,
        metadata: &Metadata,
    ) -> Result<(), Failure> {
        if !self.paths.insert(path.clone()) {
            let path = printable(&path);
            return Err(Failure::usage(format!("two of the files would be {path} at the nodes")));
        }
        if self.items.len() >= ITEMS_MAX {
            return Err(Failure::usage(format!("more than {ITEMS_MAX} files and folders")));
        }
        let attrs = attributes(file, metadata).map_err(|error| unreadable(file, &error))?;
        self.items.push(Item { file: file.to_owned(), path, size, attrs });
        Ok(())
    }
}

/// What is preserved. The time of a folder is not: it changes with what is put into it.
fn attributes(file: &Path, metadata: &Metadata) -> std::io::Result<Attributes> {
    let mtime_ns = metadata
        .is_file()
        .then(|| metadata.mtime().checked_mul(1_000_000_000)?.checked_add(metadata.mtime_nsec()));
    let mut attrs = BTreeMap::new();
    for name in xattr::list(file).into_iter().flatten() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("user.")) else { continue };
        if let Some(value) = xattr::get(file, name)? {
            attrs.insert(name.to_owned(), Some(STANDARD.encode(value)));
        }
    }
    let mode = Some(metadata.mode() & 0o7777);
    Ok(Attributes { mode, mtime_ns: mtime_ns.flatten(), xattr: attrs })
}

fn joined(folder: &str, name: &str) -> String {
    match (folder.is_empty(), name.is_empty()) {
        (true, _) => name.to_owned(),
        (false, true) => folder.to_owned(),
        (false, false) => format!("{folder}/{name}"),
    }
}

fn text(file: &Path, name: &std::ffi::OsStr) -> Result<String, Failure> {
    name.to_str().map(str::to_owned).ok_or_else(|| {
        let file = printable(&file.display().to_string());
        Failure::usage(format!("{file}: the name is not UTF-8, so nodes cannot be given it"))
    })
}

fn unreadable(file: &Path, error: &std::io::Error) -> Failure {
    Failure::runtime(format!("{}: {error}", printable(&file.display().to_string())))
}

/// More than a job takes.
const ITEMS_MAX: usize = 1_000_000;
/// Deeper is a circle, or a mistake.
const DEPTH_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::Exit;

    fn paths(words: &[PathBuf], into: Option<&str>) -> Vec<String> {
        let items = Items::find(words, into).unwrap().items;
        let path = |item: Item| match item.size {
            Some(size) => format!("{} {size}", item.path),
            None => format!("{}/", item.path),
        };
        items.into_iter().map(path).collect()
    }

    #[test]
    fn folders_come_before_what_is_in_them_and_links_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let shows = folder.path().join("shows");
        fs::create_dir_all(shows.join("one")).unwrap();
        fs::write(shows.join("one/a.mp4"), "abc").unwrap();
        fs::write(shows.join("b.mp4"), "").unwrap();
        std::os::unix::fs::symlink("b.mp4", shows.join("link")).unwrap();
        let words = [shows.clone()];
        assert_eq!(
            paths(&words, Some("/in/")),
            ["in/shows/", "in/shows/b.mp4 0", "in/shows/one/", "in/shows/one/a.mp4 3"]
        );
        assert_eq!(paths(&[shows.join(".")], None), ["b.mp4 0", "one/", "one/a.mp4 3"]);
        assert_eq!(paths(&[shows.join("link")], None), ["link 0"]);
        assert_eq!(Items::find(&words, None).unwrap().left_out, [shows.join("link")]);
    }

    #[test]
    fn attributes_are_those_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        fs::write(&file, "x").unwrap();
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o640);
        fs::set_permissions(&file, permissions).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 5);
        fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        let item = Items::find(&[file], None).unwrap().items.remove(0);
        assert_eq!(item.attrs.mode, Some(0o640));
        assert_eq!(item.attrs.mtime_ns, Some(1_700_000_000_000_000_005));
    }

    #[test]
    fn what_cannot_be_pushed_is_told_before_anything_is() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["x", "y"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("same"), "").unwrap();
        }
        let same = ["x/same", "y/same"].map(|name| folder.path().join(name));
        let failure = Items::find(&same, None).unwrap_err();
        assert!(failure.exit == Exit::Usage && failure.message.contains("same"), "{failure}");
        let missing = Items::find(&[folder.path().join("z")], None).unwrap_err();
        assert!(missing.exit == Exit::Runtime && missing.message.contains("No such file"));
        assert_eq!(Items::find(&["/dev/null".into()], None).unwrap_err().exit, Exit::Usage);
    }
}

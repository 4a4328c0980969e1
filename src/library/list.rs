//! The titles of a folder, in order and page by page.
//!
//! The order is that of the names' bytes, as if all paths of the tree were sorted: a folder counts
//! as its name with a slash behind it. That makes a name a cursor: whole folders that lie before
//! it are skipped unread.
//!
//! Bounds: `DEPTH_MAX` levels, `FOLDER_ENTRIES_MAX` entries looked at in one folder and
//! `ENTRIES_MAX` in all. Links to folders are not followed, so there are no circles.

use std::ffi::CStr;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};

use super::resolve;
use super::title::FileIdentity;

/// A file that may be a title.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Path inside the library.
    pub name: String,
    /// Length.
    pub bytes: u64,
    /// Time of the last change in whole seconds since 1970.
    pub modified_utc_s: i64,
}

/// What the library holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files that may be titles.
    pub titles: usize,
    /// Folders, the root not counted.
    pub folders: usize,
    /// Left out: hidden files and folders.
    pub hidden: usize,
    /// Left out: other extensions, sockets, devices, and links that lead nowhere or out.
    pub other_files: usize,
    /// Left out: links to folders (their contents can still be played by name).
    pub folder_links: usize,
    /// Left out: names that are not UTF-8.
    pub not_utf8: usize,
    /// Left out: folders that could not be read or lie too deep.
    pub unreadable_folders: usize,
    /// False when the count stopped at a limit.
    pub is_complete: bool,
}

pub(super) fn list(
    root: BorrowedFd<'_>,
    after: Option<&str>,
    limit: usize,
) -> io::Result<Vec<Listed>> {
    let mut listed = Vec::new();
    if limit == 0 {
        return Ok(listed);
    }
    let mut walk = Walk::new(root, ENTRIES_MAX, after);
    let mut on_file = |name: &str, at: &Place<'_>| {
        if let Some(identity) = at.identity() {
            listed.push(Listed {
                name: name.to_owned(),
                bytes: identity.bytes,
                modified_utc_s: identity.modified_ns.div_euclid(1_000_000_000),
            });
        }
        if listed.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let mut path = String::new();
    let _ = walk.folder(open_folder(root, c".")?, &mut path, 0, &mut on_file);
    Ok(listed)
}

pub(super) fn summary(root: BorrowedFd<'_>, entries_max: usize) -> io::Result<Summary> {
    let mut walk = Walk::new(root, entries_max.min(ENTRIES_MAX), None);
    let mut on_file = |_: &str, _: &Place<'_>| ControlFlow::Continue(());
    let mut path = String::new();
    let end = walk.folder(open_folder(root, c".")?, &mut path, 0, &mut on_file);
    walk.counts.is_complete &= end.is_continue();
    Ok(walk.counts)
}

/// Where a file was found.
struct Place<'a> {
    root: BorrowedFd<'a>,
    folder: BorrowedFd<'a>,
    entry: &'a str,
    path: &'a str,
    is_link: bool,
}

impl Place<'_> {
    /// `None` when it is gone, leads out of the root or is no regular file.
    fn identity(&self) -> Option<FileIdentity> {
        if self.is_link {
            return resolve::open_path(self.root, self.path).ok().map(|(_path, identity)| identity);
        }
        let stat = rustix::fs::statat(self.folder, self.entry, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let is_regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        is_regular.then(|| resolve::identity(&stat))
    }
}

type OnFile<'a> = dyn FnMut(&str, &Place<'_>) -> ControlFlow<()> + 'a;

struct Walk<'a> {
    root: BorrowedFd<'a>,
    after: Option<&'a str>,
    entries_left: usize,
    counts: Summary,
}

/// One entry of a folder; a folder's key ends in a slash.
struct Entry {
    key: String,
    is_link: bool,
}

impl<'a> Walk<'a> {
    fn new(root: BorrowedFd<'a>, entries_max: usize, after: Option<&'a str>) -> Self {
        let counts = Summary { is_complete: true, ..Summary::default() };
        Self { root, after, entries_left: entries_max, counts }
    }

    /// `path` is that of the folder, with a slash behind it unless it is the root.
    fn folder(
        &mut self,
        folder: OwnedFd,
        path: &mut String,
        depth: usize,
        on_file: &mut OnFile<'_>,
    ) -> ControlFlow<()> {
        let Ok(mut dir) = Dir::read_from(&folder) else {
            self.counts.unreadable_folders += 1;
            return ControlFlow::Continue(());
        };
        let entries = self.entries(folder.as_fd(), &mut dir);
        drop(dir);
        let path_len = path.len();
        for entry in &entries {
            path.truncate(path_len);
            path.push_str(&entry.key);
            if let Some(name) = entry.key.strip_suffix('/') {
                if self.is_before_page(path) {
                    continue;
                }
                self.counts.folders += 1;
                match open_child(folder.as_fd(), name).filter(|_| depth < DEPTH_MAX) {
                    Some(child) => self.folder(child, path, depth + 1, on_file)?,
                    None => self.counts.unreadable_folders += 1,
                }
            } else if self.after.is_none_or(|after| path.as_str() > after) {
                let place = Place {
                    root: self.root,
                    folder: folder.as_fd(),
                    entry: &entry.key,
                    path,
                    is_link: entry.is_link,
                };
                if self.counts_as_title(&place) {
                    on_file(path, &place)?;
                }
            }
        }
        path.truncate(path_len);
        if self.entries_left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// The folders and possible titles in `dir`, sorted.
    fn entries(&mut self, folder: BorrowedFd<'_>, dir: &mut Dir) -> Vec<Entry> {
        let mut entries = Vec::new();
        for _ in 0..FOLDER_ENTRIES_MAX {
            if self.entries_left == 0 {
                self.counts.is_complete = false;
                break;
            }
            let Some(Ok(found)) = dir.read() else {
                entries.sort_unstable_by(|a: &Entry, b| a.key.cmp(&b.key));
                return entries;
            };
            let name = found.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            self.entries_left -= 1;
            if let Some(entry) = self.entry(folder, name, found.file_type()) {
                entries.push(entry);
            }
        }
        self.counts.is_complete = false;
        entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        entries
    }

    fn entry(&mut self, folder: BorrowedFd<'_>, name: &CStr, kind: FileType) -> Option<Entry> {
        if name.to_bytes().starts_with(b".") {
            self.counts.hidden += 1;
            return None;
        }
        let Ok(text) = name.to_str() else {
            self.counts.not_utf8 += 1;
            return None;
        };
        // Some file systems do not say in the folder what an entry is.
        let kind = match kind {
            FileType::Unknown => rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
            known => known,
        };
        match kind {
            FileType::Directory => Some(Entry { key: format!("{text}/"), is_link: false }),
            FileType::RegularFile if has_known_extension(text) => {
                Some(Entry { key: text.to_owned(), is_link: false })
            }
            FileType::Symlink => Some(Entry { key: text.to_owned(), is_link: true }),
            _ => {
                self.counts.other_files += 1;
                None
            }
        }
    }

    /// Regular files of a known extension are titles by their entry alone; a link has to be
    /// followed to know.
    fn counts_as_title(&mut self, place: &Place<'_>) -> bool {
        if !place.is_link {
            self.counts.titles += 1;
            return true;
        }
        match resolve::open_path(place.root, place.path) {
            Ok(_) if has_known_extension(place.entry) => {
                self.counts.titles += 1;
                return true;
            }
            Err(resolve::ResolveError::NotRegular) => self.counts.folder_links += 1,
            _ => self.counts.other_files += 1,
        }
        false
    }

    /// True when every name below the folder `path` sorts before the page.
    fn is_before_page(&self, path: &str) -> bool {
        self.after.is_some_and(|after| after >= path && !after.starts_with(path))
    }
}

fn open_child(folder: BorrowedFd<'_>, name: &str) -> Option<OwnedFd> {
    let name = std::ffi::CString::new(name).ok()?;
    open_folder(folder, &name).ok()
}

fn open_folder(at: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(at, name, flags, Mode::empty(), resolve)?)
}

fn has_known_extension(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, extension)| {
        EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
    })
}

/// ISO BMFF and QuickTime under the names that people give them.
const EXTENSIONS: [&str; 16] = [
    "mp4", "m4v", "m4a", "m4b", "mov", "qt", "3gp", "3gpp", "3g2", "f4v", "f4a", "ismv", "isma",
    "cmfv", "cmfa", "mj2",
];

/// Deeper folders are not read: one descriptor a level is held open.
const DEPTH_MAX: usize = 32;

/// Entries of one folder are sorted in memory: 4 MiB of names at 64 bytes each.
const FOLDER_ENTRIES_MAX: usize = 1 << 16;

/// Entries looked at for one page: a quarter of a second of a warm file system.
const ENTRIES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::super::Library;
    use super::*;

    fn names(library: &Library, after: Option<&str>, limit: usize) -> Vec<String> {
        library.list(after, limit).unwrap().into_iter().map(|listed| listed.name).collect()
    }

    #[test]
    fn listing_holds_possible_titles_in_byte_order_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        for folder in ["a", "a/deep", ".git", "a-z"] {
            std::fs::create_dir(at(folder)).unwrap();
        }
        for file in ["a.mp4", "a/2.MOV", "a/10.m4a", "a/deep/x.3gp", "a-z/b.mp4", "\u{e9}.mp4"] {
            std::fs::write(at(file), "12345").unwrap();
        }
        for file in [".hidden.mp4", "notes.txt", ".git/x.mp4", "mp4"] {
            std::fs::write(at(file), "x").unwrap();
        }
        std::fs::write(base.path().join(OsStr::from_bytes(b"\xff.mp4")), "x").unwrap();
        symlink("a.mp4", at("link.mp4")).unwrap();
        symlink("/etc/hostname", at("out.mp4")).unwrap();
        symlink(".", at("circle")).unwrap();
        symlink("nothing", at("dangling.mp4")).unwrap();
        let library = Library::new(Some(base.path().into())).unwrap();
        let all = names(&library, None, 100);
        let expected =
            ["a-z/b.mp4", "a.mp4", "a/10.m4a", "a/2.MOV", "a/deep/x.3gp", "link.mp4", "\u{e9}.mp4"];
        assert_eq!(all, expected);
        assert!(all.is_sorted());
        let first = &library.list(None, 1).unwrap()[0];
        assert_eq!(first.bytes, 5);
        assert!(first.modified_utc_s > 1_500_000_000);
        let summary = Summary {
            titles: 7,
            folders: 3,
            hidden: 2,
            other_files: 4,
            folder_links: 1,
            not_utf8: 1,
            unreadable_folders: 0,
            is_complete: true,
        };
        assert_eq!(library.summary(1_000).unwrap(), summary);
        assert!(!library.summary(3).unwrap().is_complete);
    }

    #[test]
    fn new_file_is_listed_without_a_restart() {
        let base = tempfile::tempdir().unwrap();
        let library = Library::new(Some(base.path().into())).unwrap();
        assert!(names(&library, None, 10).is_empty());
        std::fs::write(base.path().join("new.mp4"), "x").unwrap();
        assert_eq!(names(&library, None, 10), ["new.mp4"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn pages_put_together_are_the_sorted_tree(
            paths in prop::collection::btree_set("[ab](-[ab])?(/[ab] ?){0,3}", 0..20),
            page in 1_usize..5,
        ) {
            let base = tempfile::tempdir().unwrap();
            let mut expected = BTreeSet::new();
            for path in paths {
                let name = format!("{path}.mp4");
                let file = base.path().join(&name);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, "x").unwrap();
                expected.insert(name);
            }
            let library = Library::new(Some(base.path().into())).unwrap();
            let mut seen = Vec::new();
            for _ in 0..=expected.len() {
                let next = names(&library, seen.last().map(String::as_str), page);
                if next.is_empty() {
                    break;
                }
                seen.extend(next);
            }
            prop_assert_eq!(seen, expected.into_iter().collect::<Vec<_>>());
        }
    }
}

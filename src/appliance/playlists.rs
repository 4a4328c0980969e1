//! Playlists that operators have edited, kept for the next start: a file for each path.
//!
//! ```text
//!  edit --shard--> answer --keep--> state_dir/playlists/live%2Fa.json.PID.new --rename--> ..json
//!  start, reload: file --checks--> PathTable::edited_playlists --shards--> schedules
//! ```
//! A file says which list of the configuration was edited. When the configuration has another list
//! now, that one counts, and the file is removed as soon as the configuration is in force: a
//! process that is to take over only reads before.
//! Invariants: a file is whole, the old one or the new one; an older list never replaces a newer
//! one; nothing here runs on a shard. Bounds: `FILE_BYTES_MAX`, `PLAYLIST_ITEMS_MAX`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::base::limits::PLAYLIST_ITEMS_MAX;
use crate::config::daily::DailyTime;
use crate::config::paths::PathTable;
use crate::config::playlist::{EditedPlaylist, PlaylistItem, parse_title};
use crate::live::sources::titles::playlists::PlaylistAnswer;

/// The folder of kept playlists, if there is one.
#[derive(Debug, Default)]
pub(super) struct PlaylistStore {
    folder: Option<PathBuf>,
    /// The newest edit that was kept, by path; held while a file is read or written.
    kept: Mutex<BTreeMap<String, u64>>,
}

/// A file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    path: String,
    /// Of the list that was edited.
    configured: String,
    /// The highest number that an item has had.
    last_item: u64,
    items: Vec<KeptItem>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptItem {
    item: u64,
    title: String,
    at: Option<String>,
}

impl PlaylistStore {
    /// Makes the folder below `state_dir`, if it is not there.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn open(state_dir: Option<&Path>) -> io::Result<Self> {
        let folder = state_dir.map(|folder| folder.join("playlists"));
        if let Some(folder) = &folder {
            fs::create_dir_all(folder)?;
        }
        Ok(Self { folder, kept: Mutex::default() })
    }

    /// The table with the edits that were kept of its playlists. Changes no file.
    pub(super) fn restore(&self, paths: &Arc<PathTable>) -> Arc<PathTable> {
        let Some(folder) = &self.folder else { return Arc::clone(paths) };
        let _held = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = (**paths).clone();
        for (path, config) in paths.named.iter().filter(|(_, config)| config.is_playlist()) {
            let file = folder.join(file_name(path));
            match read(&file, path, &digest(&config.playlist)) {
                Ok(Some(edited)) => {
                    table.edited_playlists.insert(path.clone(), edited);
                }
                Ok(None) | Err(ReadError::OtherList) => {}
                Err(ReadError::Damaged(reason)) => tracing::warn!(
                    code = "HE-W311", path, file = %file.display(), reason,
                    "kept edits of the playlist of {path} cannot be used: {reason}"
                ),
            }
        }
        Arc::new(table)
    }

    /// Removes files with edits of other lists than those of this table, which is in force.
    pub(super) fn drop_others(&self, paths: &PathTable) {
        let Some(folder) = &self.folder else { return };
        let _held = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for (path, config) in paths.named.iter().filter(|(_, config)| config.is_playlist()) {
            let file = folder.join(file_name(path));
            if read(&file, path, &digest(&config.playlist)) == Err(ReadError::OtherList) {
                tracing::info!(
                    code = "HE-I317", path, file = %file.display(),
                    "the configured playlist of {path} has changed: earlier edits are dropped"
                );
                let _stays_and_is_dropped_again = fs::remove_file(&file);
            }
        }
    }

    /// Removes what other processes have not finished to write: they have ended, or have handed
    /// over to this one. The edit of one that still writes is told as lost.
    pub(super) fn drop_unfinished(&self) {
        let Some(folder) = &self.folder else { return };
        let _held = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().as_encoded_bytes().ends_with(b".new") {
                let _is_gone = fs::remove_file(entry.path());
            }
        }
    }

    /// Keeps a list that was edited; false without a folder. Blocks on the disk.
    ///
    /// # Errors
    /// The reason why it is not kept.
    pub(super) fn keep(&self, path: &str, answer: &PlaylistAnswer) -> Result<bool, String> {
        let Some(folder) = &self.folder else { return Ok(false) };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (newest, revision) = (kept.get(path).copied().unwrap_or(0), answer.info.revision);
        if revision < newest {
            return Ok(true);
        }
        let file = folder.join(file_name(path));
        write(&file, &Kept::of(path, answer)).map_err(|error| {
            let reason = format!("{}: {error}", file.display());
            tracing::warn!(
                code = "HE-W312",
                path,
                reason,
                "an edit of the playlist of {path} is lost with the end of the server: {reason}"
            );
            reason
        })?;
        kept.insert(path.to_owned(), revision);
        Ok(true)
    }
}

/// Why a file is not used.
#[derive(Debug, PartialEq, Eq)]
enum ReadError {
    /// The list that was edited is not that of the configuration.
    OtherList,
    Damaged(String),
}

impl Kept {
    fn of(path: &str, answer: &PlaylistAnswer) -> Self {
        let items = answer.info.items.iter().map(|item| KeptItem {
            item: item.item,
            title: item.title.to_string(),
            at: item.at.map(|at| at.to_string()),
        });
        Self {
            version: VERSION,
            path: path.to_owned(),
            configured: digest(&answer.configured),
            last_item: answer.info.last_number,
            items: items.collect(),
        }
    }

    /// Checks what a person may have written.
    fn check(self, path: &str, configured: &str) -> Result<EditedPlaylist, ReadError> {
        let damaged = |reason: String| Err(ReadError::Damaged(reason));
        if self.version != VERSION {
            return damaged(format!("it has version {}, not {VERSION}", self.version));
        }
        if self.path != path {
            return damaged(format!("it is of another path, {}", self.path));
        }
        if self.configured != configured {
            return Err(ReadError::OtherList);
        }
        if self.items.len() > PLAYLIST_ITEMS_MAX {
            return damaged(format!("it has {} items", self.items.len()));
        }
        let (mut numbers, mut times) = (BTreeSet::new(), BTreeSet::new());
        let mut items = Vec::with_capacity(self.items.len());
        for KeptItem { item: number, title, at } in self.items {
            let title = parse_title(&title).map_err(|e| ReadError::Damaged(e.to_string()))?;
            let at = at.map(|at| DailyTime::parse(&at)).transpose();
            let at = at.map_err(|error| ReadError::Damaged(error.to_string()))?;
            if number > self.last_item || !numbers.insert(number) {
                return damaged(format!("the number {number} of an item cannot be"));
            }
            if at.is_some_and(|at| !times.insert(at)) {
                return damaged(format!("item {number} begins at the time of another one"));
            }
            items.push((number, PlaylistItem { title, at }));
        }
        Ok(EditedPlaylist { items, last_number: self.last_item })
    }
}

fn read(file: &Path, path: &str, configured: &str) -> Result<Option<EditedPlaylist>, ReadError> {
    let damaged = |error: &dyn std::fmt::Display| ReadError::Damaged(error.to_string());
    let mut text = Vec::new();
    match File::open(file) {
        Ok(opened) => {
            opened.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(|error| damaged(&error))?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(damaged(&error)),
    };
    let kept: Kept = serde_json::from_slice(&text).map_err(|error| damaged(&error))?;
    kept.check(path, configured).map(Some)
}

/// Beside the file, then in its place: a crash leaves the old one or the new one. Two processes may
/// write at once while one takes over from the other.
fn write(file: &Path, kept: &Kept) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(kept).map_err(io::Error::other)?;
    let beside = file.with_extension(format!("json.{}.new", std::process::id()));
    let mut new = File::create(&beside)?;
    new.write_all(&text)?;
    new.sync_all()?;
    drop(new);
    fs::rename(&beside, file)?;
    // The name is of the folder: it is there after a crash when the folder is written, too.
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn digest(items: &[PlaylistItem]) -> String {
    let mut hash = Sha256::new();
    for item in items {
        let at = item.at.map_or_else(String::new, |at| at.to_string());
        // No title has a line break.
        hash.update(format!("{}\n{at}\n", item.title));
    }
    hex(&hash.finalize())
}

/// A path's name as that of a file: percent-encoded, and cut where it would be too long.
fn file_name(path: &str) -> String {
    let encoded = utf8_percent_encode(path, NON_ALPHANUMERIC).to_string();
    if encoded.len() <= NAME_BYTES_MAX {
        return format!("{encoded}.json");
    }
    format!("{}-{}.json", &encoded[..NAME_BYTES_MAX - 65], hex(&Sha256::digest(path)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Of the form of the file.
const VERSION: u32 = 1;
/// A list of a thousand titles with names of a kilobyte, each byte of them escaped.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// File systems take 255 bytes; `.json.PID.new` is added.
const NAME_BYTES_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::live::sources::titles::schedule::info::{ItemInfo, ItemState, PlaylistInfo};

    fn table(list: &str) -> Arc<PathTable> {
        let text = format!("[path.\"live/a b\"]\nplaylist = {list}\n");
        config::load(Some(("f", &text)), [], &[]).unwrap().config.paths
    }

    const PATH: &str = "live/a b";

    fn answer(table: &PathTable, revision: u64, titles: &[&str]) -> PlaylistAnswer {
        let items = (7_u64..).zip(titles).map(|(item, title)| ItemInfo {
            item,
            title: (*title).into(),
            at: (item == 8).then(|| DailyTime::parse("20:15").unwrap()),
            state: ItemState::Waiting,
            reason: None,
            begins_utc_ns: None,
        });
        let info = PlaylistInfo {
            loops: true,
            clock: "utc",
            slate: None,
            edited: true,
            revision,
            playing: None,
            items: items.collect(),
            last_number: 9,
        };
        PlaylistAnswer { item: None, info, configured: Arc::clone(&table.find(PATH).playlist) }
    }

    fn titles(table: &PathTable) -> Option<Vec<(u64, String)>> {
        let edited = table.edited_playlists.get(PATH)?;
        Some(edited.items.iter().map(|(number, item)| (*number, item.title.to_string())).collect())
    }

    #[test]
    fn edited_list_is_there_after_a_restart_and_the_newest_one_wins() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let store = PlaylistStore::open(Some(&state)).unwrap();
        let table = table("[\"a\", \"b\"]");
        assert_eq!(titles(&store.restore(&table)), None);
        assert_eq!(store.keep(PATH, &answer(&table, 2, &["a", "x"])), Ok(true));
        assert_eq!(store.keep(PATH, &answer(&table, 1, &["b"])), Ok(true), "it is older");
        let again = PlaylistStore::open(Some(&state)).unwrap();
        let restored = again.restore(&table);
        let expected = vec![(7, "a".to_owned()), (8, "x".to_owned())];
        assert_eq!(titles(&restored), Some(expected));
        let edited = &restored.edited_playlists[PATH];
        assert_eq!((edited.last_number, edited.items[1].1.at), (9, DailyTime::parse("20:15").ok()));
        let names: Vec<_> = fs::read_dir(state.join("playlists"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["live%2Fa%20b.json"], "nothing else is left behind");
    }

    #[test]
    fn changed_list_of_the_configuration_wins_and_the_file_goes_when_that_is_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let store = PlaylistStore::open(Some(folder.path())).unwrap();
        let (old, new) = (table("[\"a\"]"), table("[\"a\", { title = \"b\", at = \"20:15\" }]"));
        store.keep(PATH, &answer(&old, 1, &["x"])).unwrap();
        let kept = Some(vec![(7, "x".to_owned())]);
        assert_eq!(titles(&store.restore(&new)), None);
        // A process that takes over has read the new one, and does not go on: nothing has changed.
        store.drop_others(&old);
        assert_eq!(titles(&store.restore(&old)), kept);
        store.drop_others(&new);
        assert_eq!(titles(&store.restore(&old)), None, "the file is gone");
    }

    #[test]
    fn file_that_another_process_has_not_finished_goes_and_is_never_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let store = PlaylistStore::open(Some(folder.path())).unwrap();
        let (table, playlists) = (table("[\"a\"]"), folder.path().join("playlists"));
        let other = playlists.join(file_name(PATH)).with_extension("json.1.new");
        fs::write(&other, "half").unwrap();
        store.keep(PATH, &answer(&table, 1, &["x"])).unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"half");
        store.drop_unfinished();
        assert!(!other.exists());
        assert_eq!(titles(&store.restore(&table)), Some(vec![(7, "x".to_owned())]));
    }

    #[test]
    fn damaged_file_is_not_used_and_the_next_edit_replaces_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = PlaylistStore::open(Some(folder.path())).unwrap();
        let table = table("[\"a\"]");
        let configured = digest(&table.find(PATH).playlist);
        let file = folder.path().join("playlists").join(file_name(PATH));
        let whole = |items: &str| {
            format!(
                "{{\"version\":1,\"path\":\"{PATH}\",\"configured\":\"{configured}\",\
                 \"last_item\":3,\"items\":[{items}]}}"
            )
        };
        let item = |number: u64, title: &str, at: &str| {
            format!("{{\"item\":{number},\"title\":\"{title}\",\"at\":{at}}}")
        };
        let twice = [item(1, "a", "\"10:00\""), item(2, "a", "\"10:00:00\"")].join(",");
        for (text, reason) in [
            (String::new(), "EOF"),
            ("{\"version\":1".to_owned(), "EOF"),
            (whole("").replace("\"version\":1", "\"version\":2"), "version 2"),
            (whole("").replace(PATH, "b"), "another path"),
            (whole(&item(1, "../a", "null")), "no title's name"),
            (whole(&item(1, "a", "\"25:00\"")), "not a time of day"),
            (whole(&item(4, "a", "null")), "number 4"),
            (whole(&[item(1, "a", "null"), item(1, "b", "null")].join(",")), "number 1"),
            (whole(&twice), "time of another"),
        ] {
            fs::write(&file, &text).unwrap();
            let refused = read(&file, PATH, &configured).unwrap_err();
            assert!(
                matches!(&refused, ReadError::Damaged(why) if why.contains(reason)),
                "{refused:?}"
            );
            assert_eq!(titles(&store.restore(&table)), None, "{text}");
        }
        fs::write(&file, whole(&item(1, "a", "null"))).unwrap();
        assert_eq!(titles(&store.restore(&table)), Some(vec![(1, "a".to_owned())]));
        fs::write(&file, "{").unwrap();
        assert_eq!(store.keep(PATH, &answer(&table, 1, &["x"])), Ok(true));
        assert_eq!(titles(&store.restore(&table)), Some(vec![(7, "x".to_owned())]));
    }

    #[test]
    fn list_that_cannot_be_kept_is_told_with_the_reason() {
        let table = table("[\"a\"]");
        let edit = answer(&table, 1, &["x"]);
        assert_eq!(PlaylistStore::default().keep(PATH, &edit), Ok(false), "no folder");
        let folder = tempfile::tempdir().unwrap();
        let store = PlaylistStore::open(Some(folder.path())).unwrap();
        fs::remove_dir(folder.path().join("playlists")).unwrap();
        let reason = store.keep(PATH, &edit).unwrap_err();
        assert!(reason.contains("live%2Fa%20b.json: No such file"), "{reason}");
        let in_the_way = folder.path().join("file");
        fs::write(&in_the_way, "").unwrap();
        assert!(PlaylistStore::open(Some(&in_the_way)).is_err());
    }

    #[test]
    fn long_names_of_paths_are_names_of_files_and_differ() {
        let (long, other) = ("\u{1f600}/".repeat(50), format!("{}x", "\u{1f600}/".repeat(50)));
        let (name, other) = (file_name(&long), file_name(&other));
        assert!(name.len() <= 210 && name != other, "{name}");
        assert!(!name.contains('/'));
    }
}

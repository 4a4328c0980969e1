//! Playlists of paths, as the configuration says them: titles in order, some with a time of day.
//!
//! ```text
//!  playlist = ["a.mp4", { title = "news.mp4", at = "20:15:00" }]
//!              a title    a title that begins at that time of day, by `playlist_clock`
//! ```
//! A title is named as in the library, or as in URLs, with `vod/` in front; `demo` is the built-in
//! clip. Whether it exists is not asked here: files come and go.
//! Invariant: no two items begin at the same time. Bounds: `PLAYLIST_ITEMS_MAX`,
//! `TITLE_NAME_BYTES_MAX`.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::daily::{DailyTime, DailyTimeError};
use super::value::{ListEntry, Setting};
use super::value_error::ValueError;
use crate::base::limits::PLAYLIST_ITEMS_MAX;
use crate::base::names::LIBRARY_PATH;

/// An item of a playlist.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PlaylistItem {
    /// A title's name in the library, or `demo`.
    pub title: Arc<str>,
    /// When it begins, day after day; `None`: when the one before it ends.
    pub at: Option<DailyTime>,
}

/// A playlist that operators have changed, as it was kept at the end of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditedPlaylist {
    /// The items in order, each with its number.
    pub items: Vec<(u64, PlaylistItem)>,
    /// The highest number that an item has had.
    pub last_number: u64,
}

/// By which clock items begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlaylistClock {
    /// That of this host's time zone.
    #[default]
    Local,
    /// UTC.
    Utc,
}

/// The time zone of this host, as it was when the configuration was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostZone(pub TimeZone);

/// Why an item is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaylistError {
    /// No title can have this name.
    #[error(
        "`{text}` is no title's name: a path inside the folder of titles, such as \"films/a.mp4\""
    )]
    Title {
        /// What was found.
        text: String,
    },
    /// Not a time of day.
    #[error(transparent)]
    Time(#[from] DailyTimeError),
    /// The time of an item before it.
    #[error("`{title}` begins at {at} already")]
    SameTime {
        /// The title of that item.
        title: Arc<str>,
        /// The time.
        at: DailyTime,
    },
    /// A table without a title.
    #[error("names no title: write {{ title = \"a.mp4\", at = \"20:15:00\" }}")]
    Untitled,
    /// A word of a table that means nothing.
    #[error("`{word}` is neither title nor at: write {{ title = \"a.mp4\", at = \"20:15:00\" }}")]
    Word {
        /// What was found.
        word: String,
    },
    /// A value of a table that is no text.
    #[error("`{word}` cannot be of type {found}")]
    Kind {
        /// Whose value it is.
        word: String,
        /// TOML's name of what was found.
        found: &'static str,
    },
}

impl PlaylistItem {
    /// Reads an entry of the list.
    ///
    /// # Errors
    /// See [`PlaylistError`].
    pub(super) fn read(entry: &ListEntry) -> Result<Self, PlaylistError> {
        let words = match entry {
            ListEntry::Text(text) => return Ok(Self { title: parse_title(text)?, at: None }),
            ListEntry::Table(words) => words,
        };
        let (mut title, mut at) = (None, None);
        for (word, value) in words {
            let text = || {
                let wrong = |found| PlaylistError::Kind { word: word.clone(), found };
                value.as_ref().map_err(|found| wrong(found))
            };
            match word.as_str() {
                "title" => title = Some(parse_title(text()?)?),
                "at" => at = Some(DailyTime::parse(text()?)?),
                _ => return Err(PlaylistError::Word { word: word.clone() }),
            }
        }
        Ok(Self { title: title.ok_or(PlaylistError::Untitled)?, at })
    }

    /// As TOML.
    pub(super) fn shown(&self) -> String {
        let title = super::key::quoted(&self.title);
        match self.at {
            Some(at) => format!("{{ title = {title}, at = \"{at}\" }}"),
            None => title,
        }
    }
}

impl PlaylistClock {
    /// As the configuration spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Utc => "utc",
        }
    }
}

impl HostZone {
    /// The zone that the system says. Reads the zone's file: not for shards.
    #[must_use]
    pub fn of_system() -> Self {
        Self(TimeZone::system())
    }
}

impl Default for HostZone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

/// The name in the library of a title that may be named as in URLs.
///
/// # Errors
/// No title can have this name.
pub fn parse_title(text: &str) -> Result<Arc<str>, PlaylistError> {
    let name = text.strip_prefix(LIBRARY_PATH).unwrap_or(text);
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.');
    let is_name = name.len() <= TITLE_NAME_BYTES_MAX
        && name.split('/').all(is_part)
        && !name.chars().any(char::is_control);
    if is_name {
        Ok(name.into())
    } else {
        Err(PlaylistError::Title { text: super::source::without_secret(text) })
    }
}

/// Reads the list of `playlist`.
pub(super) fn parse_playlist(setting: &Setting) -> Result<Arc<[PlaylistItem]>, ValueError> {
    let entries = setting.entries()?;
    if entries.len() > PLAYLIST_ITEMS_MAX {
        return Err(ValueError::TooMany { found: entries.len(), max: PLAYLIST_ITEMS_MAX });
    }
    let mut timed: HashMap<DailyTime, Arc<str>> = HashMap::new();
    let mut items = Vec::with_capacity(entries.len());
    for (place, entry) in entries.iter().enumerate() {
        let refused = |problem| ValueError::Playlist { place, problem };
        let item = PlaylistItem::read(entry).map_err(refused)?;
        if let Some(at) = item.at
            && let Some(title) = timed.insert(at, Arc::clone(&item.title))
        {
            return Err(refused(PlaylistError::SameTime { title, at }));
        }
        items.push(item);
    }
    Ok(items.into())
}

/// Bytes of a title's name at most: a quarter of what a path of the system may have.
const TITLE_NAME_BYTES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::super::paths::{PathConfig, PathTable};
    use super::super::{ConfigError, load};
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Arc<PathTable>, ConfigError> {
        load(Some(("f", text)), [], &[]).map(|loaded| loaded.config.paths)
    }

    #[test]
    fn list_has_titles_and_tables_with_times_in_order() {
        let text = r#"
            [path."tv"]
            playlist = ["a.mp4", { title = "vod/news.mp4", at = "20:15:00" }, " b.mp4",
                { at = 22:00:00, title = "film.mp4" }, { title = "a.mp4" }]
            playlist_loop = false
            playlist_clock = "utc"
            slate = "vod/slate.mp4"
            on_demand = true
            [path."one"]
            playlist = "a, b.mp4"
        "#;
        let table = read(text).unwrap();
        let tv = table.find("tv");
        let shown: Vec<String> = tv.playlist.iter().map(PlaylistItem::shown).collect();
        assert_eq!(
            shown,
            [
                "\"a.mp4\"",
                "{ title = \"news.mp4\", at = \"20:15:00\" }",
                "\" b.mp4\"",
                "{ title = \"film.mp4\", at = \"22:00:00\" }",
                "\"a.mp4\"",
            ]
        );
        assert!(tv.is_fetched() && tv.is_playlist() && tv.on_demand && !tv.is_published());
        assert!(!tv.playlist_loops);
        assert_eq!(
            (tv.playlist_clock, tv.slate.as_deref()),
            (PlaylistClock::Utc, Some("slate.mp4"))
        );
        assert_eq!(&*table.find("one").playlist[0].title, "a, b.mp4");
        assert_eq!(table.zone, HostZone::of_system());
        let other = table.find("other");
        assert_eq!(**other, PathConfig::default());
        assert!(!other.is_playlist() && other.playlist_loops && other.slate.is_none());
    }

    #[test]
    fn refusals_say_where_and_what_instead() {
        let texts = [
            "[path.a]\nplaylist = []\n",
            "[path.a]\nplaylist = 1\n",
            "[path.a]\nplaylist = [\"a.mp4\", 1]\n",
            "[path.a]\nplaylist = [\n \"a.mp4\",\n \"../b.mp4\"]\n",
            "[path.a]\nplaylist = [\"a\", { title = \"b\", at = \"25:00\" }]\n",
            "[path.a]\nplaylist = [\"a\", { title = \"b\", at = 5 }]\n",
            "[path.a]\nplaylist = [\"a\", { title = \"b\", at = 2026-11-29T20:15:00Z }]\n",
            "[path.a]\nplaylist = [\"a\", { title = \"b\", on = \"20:15\" }]\n",
            "[path.a]\nplaylist = [\"a\", { at = \"20:15\" }]\n",
            "[path.a]\nplaylist = [{ title = \"a\", at = \"20:15\" }, { title = \"b\", at = 20:15:00 }]\n",
            "[path.a]\nplaylist = [\"a\"]\nsource = \"publish\"\n",
            "[path.a]\nsource = \"rtsp://cam/1\"\nplaylist = [\"a\"]\n",
            "[path.a]\nplaylist = [\"a\"]\nfallback = [\"b\"]\n",
            "[path.a]\nplaylist = [\"a\"]\npublish = [\"any\"]\n",
            "[path.a]\nplaylist = [\"a\"]\noverride = true\n",
            "[path.a]\nplaylist = [\"a\"]\nplaylist_clock = \"gmt\"\n",
            "[path.a]\nplaylist = [\"a\"]\nslate = \"/x\"\n",
            "[path.a]\nslate = \"x\"\n",
            "[path.a]\nplaylist_loop = true\n",
            "[path.\"*\"]\nplaylist = [\"a\"]\n",
            "[path.\"~x\"]\nplaylist = [\"a\"]\n",
            "[path.\"vod/a.mp4\"]\nplaylist = [\"a\"]\n",
            "[path.a]\nfallback = [{ title = \"b\" }]\n",
        ];
        let refuse = |text: &str| read(text).unwrap_err().to_string();
        let errors = texts.map(refuse).join("\n");
        insta::assert_snapshot!(errors, @r#"
        f:2:12: path."a".playlist: needs at least one value
        f:2:12: path."a".playlist: cannot be of type integer; `headend config default` shows how it is written
        f:2:12: path."a".playlist: cannot be of type integer; `headend config default` shows how it is written
        f:4:2: path."a".playlist: `../b.mp4` is no title's name: a path inside the folder of titles, such as "films/a.mp4"
        f:2:18: path."a".playlist: `25:00` is not a time of day like 20:15:00 or 20:15
        f:2:18: path."a".playlist: `at` cannot be of type integer
        f:2:18: path."a".playlist: `2026-11-29T20:15:00Z` is not a time of day like 20:15:00 or 20:15
        f:2:18: path."a".playlist: `on` is neither title nor at: write { title = "a.mp4", at = "20:15:00" }
        f:2:18: path."a".playlist: names no title: write { title = "a.mp4", at = "20:15:00" }
        f:2:44: path."a".playlist: `a` begins at 20:15:00 already
        f:3:10: path."a".source: a path with `playlist` has no `source`: leave one of them out
        f:2:10: path."a".source: a path with `playlist` has no `source`: leave one of them out
        f:2:12: path."a".playlist: a path with `playlist` has no `fallback`: `slate` is shown where no title can play
        f:3:11: path."a".publish: means nothing here: it is for paths that are published to
        f:3:12: path."a".override: means nothing here: it is for paths that are published to
        f:3:18: path."a".playlist_clock: `gmt` is not one of local, utc
        f:3:9: path."a".slate: `/x` is no title's name: a path inside the folder of titles, such as "films/a.mp4"
        f:2:9: path."a".slate: means nothing here: it is for paths with `playlist`
        f:2:17: path."a".playlist_loop: means nothing here: it is for paths with `playlist`
        f:2:12: path."*".playlist: names the titles of one path: set it where that path is named
        f:2:12: path."~x".playlist: names the titles of one path: set it where that path is named
        f:2:12: path."vod/a.mp4".playlist: is for live paths; of a title `quality`, `read` and `control` can be set
        f:2:12: path."a".fallback: cannot be of type array of tables; `headend config default` shows how it is written
        "#);
        let many = |count| format!("[path.a]\nplaylist = [{}]\n", "\"a\",".repeat(count));
        assert_eq!(read(&many(PLAYLIST_ITEMS_MAX)).unwrap().find("a").playlist.len(), 1_000);
        let error = refuse(&many(1_001));
        assert_eq!(
            error,
            "f:2:12: path.\"a\".playlist: 1001 values are more than the 1000 allowed"
        );
    }

    #[test]
    fn changed_list_changes_its_path_alone() {
        let text = |list: &str| read(&format!("[path.a]\nplaylist = {list}\n[path.b]\n")).unwrap();
        let old = text("[\"a\", \"b\"]");
        assert!(old.changes(&text("[\"a\", \"vod/b\"]")).is_empty());
        for list in ["[\"b\", \"a\"]", "[\"a\"]", "[\"a\", { title = \"b\", at = \"20:15\" }]"] {
            assert_eq!(old.changes(&text(list)).changed, ["a"], "{list}");
        }
    }

    #[test]
    fn titles_are_named_as_in_the_library_or_as_in_urls() {
        for (text, name) in [
            ("a.mp4", "a.mp4"),
            ("vod/a.mp4", "a.mp4"),
            ("vod/vod/a.mp4", "vod/a.mp4"),
            ("films/big film.mp4", "films/big film.mp4"),
            ("demo", "demo"),
        ] {
            assert_eq!(&*parse_title(text).unwrap(), name, "{text}");
        }
        let long = "x".repeat(1_025);
        for text in ["", "vod/", "/a", "a/", "a//b", "../a", "a/.b", "a\nb", "rtsp://cam/1", &long]
        {
            assert!(parse_title(text).is_err(), "{text}");
        }
        let error = parse_title("rtsp://me:s3cret@cam/1").unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_a_title_or_refused_without_panic(text in "(vod/)?\\PC{0,20}") {
            if let Ok(name) = parse_title(&text) {
                let url = format!("vod/{name}");
                prop_assert_eq!(parse_title(&url), Ok(name));
            }
        }
    }
}

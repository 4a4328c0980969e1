//! Paths that live channels of line-ups are read over: one for each.
//!
//! ```text
//!  [path."tv"]                            tv~101    on demand, out of live/news
//!  lineup = { 101 = "live/news",    -->
//!             201 = "vod/film.mp4" }      (titles are played by themselves)
//! ```
//! Each is a path with a configuration of its own in [`PathTable::named`] and with one source path,
//! so that a relay feeds it as it feeds a path with fallbacks. The relay gives it RTP of its own,
//! whatever publishes `live/news`, with parameter sets before each key frame.
//! Invariants: names with `~N` behind a line-up are its alone; a channel leads to a path that can
//! be fed, and never to a line-up or to what was made for another path.
//! Bound: `CHANNELS_MAX` of a line-up; `NAMED_MAX` with the paths that were made.

use std::sync::Arc;
use std::time::Duration;

use super::access_list::AccessList;
use super::fallback::FallbackSource;
use super::lineup::{ChannelSource, Lineup, LineupError, parse_channel};
use super::paths::{NAMED_MAX, PathConfig, PathTable};
use super::source::SourceAddress;
use super::value_error::ValueError;
use crate::base::names::is_path_name;

impl PathTable {
    /// The channels of a path; `None` for a path that is no line-up.
    #[must_use]
    pub fn lineup(&self, path: &str) -> Option<&Arc<PathConfig>> {
        self.named.get(path).filter(|config| !config.lineup.is_empty())
    }

    /// The line-up that a path with this name is made for, if it has such a live channel.
    #[must_use]
    pub fn lineup_over<'n>(&self, path: &'n str) -> Option<(&'n str, u16)> {
        let (lineup, number) = split(path)?;
        let source = self.lineup(lineup)?.lineup.get(number)?;
        (!source.is_title()).then_some((lineup, number))
    }

    /// Makes the paths of a line-up's live channels.
    ///
    /// # Errors
    /// A name that is too long, or more paths than there may be.
    pub(super) fn enter_channels(&mut self, path: &str) -> Result<(), ValueError> {
        let Some(config) = self.lineup(path).map(Arc::clone) else { return Ok(()) };
        for (number, source) in config.lineup.iter() {
            let ChannelSource::Live(live) = source else { continue };
            let name = channel_path(path, number);
            if !is_path_name(&name) {
                return Err(ValueError::PathName { text: name });
            }
            self.source_paths.insert(name.clone(), vec![live.as_str().into()]);
            self.named.insert(name, Arc::new(channel_config(&config, live)));
        }
        let found = self.named.len();
        if found > NAMED_MAX {
            return Err(ValueError::TooMany { found, max: NAMED_MAX });
        }
        Ok(())
    }

    /// The line-up whose channels have such names.
    pub(super) fn channel_of<'n>(&self, name: &'n str) -> Option<&'n str> {
        let (path, _number) = split(name)?;
        self.lineup(path).map(|_| path)
    }

    /// Checks where a line-up's channels lead, before any path is made.
    ///
    /// # Errors
    /// The first channel that leads nowhere or in a circle.
    pub(super) fn check_lineup(&self, path: &str) -> Result<(), ValueError> {
        let Some(config) = self.lineup(path) else { return Ok(()) };
        for (number, source) in config.lineup.iter() {
            let ChannelSource::Live(name) = source else { continue };
            if let Err(problem) = self.check_channel(path, name) {
                let problem = Box::new(problem);
                return Err(ValueError::Lineup { key: number.to_string(), problem });
            }
        }
        Ok(())
    }

    fn check_channel(&self, path: &str, name: &str) -> Result<(), LineupError> {
        let text = || name.to_owned();
        if name == path {
            return Err(LineupError::Itself { text: text() });
        }
        if self.lineup(name).is_some() {
            return Err(LineupError::Lineup { text: text() });
        }
        if let Some(path) = self.channel_of(name).or_else(|| self.reserved_for(name)) {
            return Err(LineupError::Made { text: text(), path: path.to_owned() });
        }
        let config = self.find(name);
        if !config.is_fetched() && config.publish.is_nobody() {
            return Err(LineupError::Nobody { text: text(), section: self.section_of(name) });
        }
        Ok(())
    }
}

impl Lineup {
    /// Checks what can be checked without other sections.
    ///
    /// # Errors
    /// `Empty`.
    pub(super) fn check(&self) -> Result<(), ValueError> {
        if self.is_empty() { Err(ValueError::Empty) } else { Ok(()) }
    }
}

/// The path that a live channel of a line-up is read over.
#[must_use]
pub fn channel_path(lineup: &str, number: u16) -> String {
    format!("{lineup}{CHANNEL_MARK}{number}")
}

/// What is said of a channel's path: as of the line-up, with one source, for readers that come from
/// other channels.
fn channel_config(lineup: &PathConfig, live: &str) -> PathConfig {
    let default = PathConfig::default();
    PathConfig {
        source: SourceAddress::Publish,
        fallback: vec![FallbackSource::Path(live.to_owned())],
        lineup: Lineup::default(),
        lineup_digit_timeout: default.lineup_digit_timeout,
        sets_before_key_frames: true,
        on_demand: true,
        idle_close: CHANNEL_IDLE_CLOSE,
        standby: false,
        return_after: default.return_after,
        switch_interval: default.switch_interval,
        publish: AccessList::nobody(),
        may_override: false,
        ..lineup.clone()
    }
}

/// The line-up and the number in the name of a channel's path.
fn split(name: &str) -> Option<(&str, u16)> {
    let (path, number) = name.rsplit_once(CHANNEL_MARK)?;
    Some((path, parse_channel(number)?))
}

/// Between the name of a line-up and the number of a channel.
const CHANNEL_MARK: char = '~';
/// A viewer who comes back to a channel finds it running for so long.
const CHANNEL_IDLE_CLOSE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::super::{ConfigError, load};
    use super::*;

    fn read(text: &str) -> Result<Arc<PathTable>, ConfigError> {
        load(Some(("f", text)), [], &[]).map(|loaded| loaded.config.paths)
    }

    const FILE: &str = r#"
        [path.tv]
        lineup = { 201 = "vod/film.mp4", 7 = "demo", 101 = "live/news", 102 = "live/a" }
        lineup_digit_timeout = "900ms"
        hold = "3s"
        readers_max = 9
        [path."live/a"]
        fallback = ["live/b"]
        publish = []
        [path.table.lineup]
        1 = "live/news"
    "#;

    #[test]
    fn live_channels_are_read_over_paths_of_their_own_and_titles_are_not() {
        let table = read(FILE).unwrap();
        let named: Vec<&str> = table.named.keys().map(String::as_str).collect();
        let expected = ["live/a", "live/a~0", "table", "table~1", "tv", "tv~101", "tv~102"];
        assert_eq!(named, expected);
        let news = table.find("tv~101");
        assert!(news.is_fetched() && news.on_demand && news.sets_before_key_frames);
        assert!(news.lineup.is_empty() && !news.publish.is_open());
        assert_eq!((news.hold.as_secs(), news.readers_max), (3, 9));
        assert_eq!(table.source_paths("tv~101"), [Arc::from("live/news")]);
        assert_eq!(table.source_paths("tv~102"), [Arc::from("live/a")]);
        let tv = table.lineup("tv").unwrap();
        assert_eq!(tv.lineup_digit_timeout, Duration::from_millis(900));
        assert!(!tv.is_fetched() && !tv.sets_before_key_frames && table.lineup("live/a").is_none());
        for (path, lineup) in [
            ("tv~101", Some(("tv", 101))),
            ("tv~201", None),
            ("tv~103", None),
            ("tv~0101", None),
            ("tv", None),
            ("live/a~0", None),
            ("table~1", Some(("table", 1))),
        ] {
            assert_eq!(table.lineup_over(path), lineup, "{path}");
        }
        assert_eq!(table.section_of("tv~101"), "tv");
        assert_eq!(table.open_sections(), [""; 0]);
    }

    #[test]
    fn lineups_that_cannot_be_are_refused_with_line_and_column() {
        let lineup = |channels: &str| format!("[path.tv]\nlineup = {channels}\n");
        let more = |channels: &str, more: &str| lineup(channels) + more;
        let nobody =
            "[path.\"*\"]\npublish = []\n[path.\"live/a\"]\nsource = \"udp://239.1.2.3:5\"\n";
        let texts = [
            lineup("{}"),
            lineup("\"live/a\""),
            lineup("[\"live/a\"]"),
            lineup("{ 1 = \"live/a\", 1000 = \"live/b\" }"),
            lineup("{ 1 = \"live/a\", 02 = \"live/b\" }"),
            lineup("{ 1 = \"live/a\", 2 = 3 }"),
            lineup("{ 1 = \"live/a\", 1 = \"live/b\" }"),
            lineup("{ 1 = \"live/a\", 2 = \"live/a\" }"),
            lineup("{ 1 = \"live/a\", 2 = \"rtsp://me:s3cret@cam/x\" }"),
            lineup("{ 1 = \"vod/\" }"),
            lineup("{ 1 = \"live/a\", 2 = \"tv\" }"),
            more("{ 1 = \"live/a\", 2 = \"b\" }", "[path.b]\nlineup = { 1 = \"tv\" }\n"),
            more("{ 1 = \"live/a\", 2 = \"b~0\" }", "[path.b]\nfallback = [\"c\"]\n"),
            more("{ 1 = \"live/a\" }", "[path.b]\nlineup = { 1 = \"live/a\", 2 = \"tv~1\" }\n"),
            more("{ 1 = \"live/a\" }", "[path.b]\nfallback = [\"c\", \"tv\"]\n"),
            more("{ 1 = \"live/a\" }", "[path.b]\nfallback = [\"tv~1\"]\n"),
            more("{ 1 = \"live/a\" }", "[path.\"tv~1\"]\nhold = \"1s\"\n"),
            more("{ 1 = \"live/a\", 2 = \"live/typo\" }", nobody),
            more("{ 1 = \"live/a\" }", "source = \"publish\"\n"),
            more("{ 1 = \"live/a\" }", "fallback = [\"b\"]\n"),
            more("{ 1 = \"live/a\" }", "publish = [\"any\"]\n"),
            more("{ 1 = \"live/a\" }", "on_demand = true\n"),
            more("{ 1 = \"live/a\" }", "lineup_digit_timeout = \"1ms\"\n"),
            "[path.tv]\nlineup_digit_timeout = \"1s\"\n".to_owned(),
            "[path.\"*\"]\nlineup = { 1 = \"live/a\" }\n".to_owned(),
            "[path.\"~tv\"]\nlineup = { 1 = \"live/a\" }\n".to_owned(),
            "[path.\"vod/a.mp4\"]\nlineup = { 1 = \"live/a\" }\n".to_owned(),
        ];
        let errors: Vec<_> = texts.iter().map(|text| read(text).unwrap_err().to_string()).collect();
        insta::assert_snapshot!(errors.join("\n"), @r#"
        f:2:10: path."tv".lineup: needs at least one value
        f:2:10: path."tv".lineup: cannot be of type string; `headend config default` shows how it is written
        f:2:10: path."tv".lineup: cannot be of type array; `headend config default` shows how it is written
        f:2:26: path."tv".lineup: channel 1000: `1000` is no channel number: 1 to 999 without zeros in front
        f:2:26: path."tv".lineup: channel 02: `02` is no channel number: 1 to 999 without zeros in front
        f:2:30: path."tv".lineup: channel 2: a channel is the name of a live path or title, not of type integer
        f:2:26: duplicate key
        f:2:30: path."tv".lineup: channel 2: `live/a` is channel 1 already
        f:2:30: path."tv".lineup: channel 2: `..` is neither a live path, such as "live/news", nor a title: demo, vod/..
        f:2:16: path."tv".lineup: channel 1: `vod/` is neither a live path, such as "live/news", nor a title: demo, vod/..
        f:2:30: path."tv".lineup: channel 2: `tv` is this path itself
        f:2:30: path."tv".lineup: channel 2: `b` is a line-up itself: name its channels
        f:2:30: path."tv".lineup: channel 2: `b~0` is made for `b`: name that path, or what feeds it
        f:4:30: path."b".lineup: channel 2: `tv~1` is made for `tv`: name that path, or what feeds it
        f:4:18: path."b".fallback: `tv` is of a line-up: name what feeds one of its channels
        f:4:13: path."b".fallback: `tv~1` is of a line-up: name what feeds one of its channels
        f:3:7: path."tv~1": is the name of a channel of `tv`, which has `lineup`: choose another name
        f:2:30: path."tv".lineup: channel 2: `live/typo` is fed by nobody: [path."*"] has no source and lets nobody publish
        f:3:10: path."tv".source: means nothing beside `lineup`: each channel has its own source
        f:3:12: path."tv".fallback: means nothing beside `lineup`: each channel has its own source
        f:3:11: path."tv".publish: means nothing here: it is for paths that are published to
        f:3:13: path."tv".on_demand: means nothing here: it is for paths whose source is fetched
        f:3:24: path."tv".lineup_digit_timeout: 1ms is not in 100ms to 10s
        f:2:24: path."tv".lineup_digit_timeout: means nothing here: it is for paths with `lineup`
        f:2:10: path."*".lineup: has the channels of one path: set it where that path is named
        f:2:10: path."~tv".lineup: has the channels of one path: set it where that path is named
        f:2:10: path."vod/a.mp4".lineup: is for live paths; of a title `quality`, `read` and `control` can be set
        "#);
    }

    #[test]
    fn long_name_and_too_many_channels_are_refused_at_the_lineup() {
        let long = format!("[path.\"{}\"]\nlineup = {{ 1 = \"b\" }}\n", "x".repeat(254));
        let error = read(&long).unwrap_err().to_string();
        assert!(error.starts_with("f:2:10: ") && error.contains("x~1` is no name"), "{error}");
        let channels = |count: u16| -> String {
            let entries: Vec<_> = (1..=count).map(|n| format!("{n} = \"live/{n}\"")).collect();
            format!("{{ {} }}", entries.join(", "))
        };
        let section = |name: usize| format!("[path.tv{name}]\nlineup = {}\n", channels(999));
        let four: String = (0..4).map(section).collect();
        assert_eq!(read(&four).unwrap().named.len(), 4_000);
        let error = read(&(four + &section(4))).unwrap_err().to_string();
        assert!(error.starts_with("f:10:10: path.\"tv4\".lineup: 5000 values"), "{error}");
    }

    #[test]
    fn changed_channel_changes_the_lineup_and_the_path_of_that_channel_alone() {
        let table = |channels: &str| {
            read(&format!("[path.tv]\nlineup = {{ 1 = \"a\", {channels} }}\n")).unwrap()
        };
        let old = table("2 = \"b\"");
        let changes = old.changes(&table("2 = \"c\", 3 = \"demo\""));
        assert_eq!((changes.added.len(), changes.removed.len()), (0, 0));
        assert_eq!(changes.changed, ["tv", "tv~2"]);
        let changes = old.changes(&table("4 = \"b\""));
        assert_eq!(
            (changes.added, changes.changed, changes.removed),
            (vec!["tv~4".to_owned()], vec!["tv".to_owned()], vec!["tv~2".to_owned()])
        );
    }
}

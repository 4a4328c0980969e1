//! Paths that feed a path with fallbacks: one for each of its sources.
//!
//! ```text
//!  [path."live/a"]                               live/a~0    what `source` says
//!  source = "publish"                  -->       live/a~1    rtsp://10.0.0.6/x, on demand
//!  fallback = ["rtsp://10.0.0.6/x", "live/b"]    live/b      itself
//! ```
//! Each is a path with a configuration of its own in [`PathTable::named`], so that a publisher, a
//! camera or a socket feeds it like any other. Nothing that writes the configuration back has
//! those that were made here.
//! Invariants: names with `~N` behind a path with fallbacks are its alone; no path feeds itself.
//! Bounds: `FALLBACKS_MAX` and one sources of a path; `NAMED_MAX` with the paths that were made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::fallback::{FALLBACKS_MAX, FallbackError, FallbackSource};
use super::paths::{NAMED_MAX, PathConfig, PathTable};
use super::source::SourceAddress;
use super::value_error::ValueError;
use crate::base::names::is_path_name;

impl PathTable {
    /// The paths that feed a path with fallbacks, in order of preference; none for others.
    #[must_use]
    pub fn source_paths(&self, path: &str) -> &[Arc<str>] {
        self.source_paths.get(path).map_or(&[], |paths| paths)
    }

    /// Sources of a path with fallbacks as the configuration names them, without passwords; none
    /// for other paths.
    #[must_use]
    pub fn source_names(&self, path: &str) -> Vec<String> {
        let config = self.find(path);
        match self.source_paths(path) {
            [] => Vec::new(),
            _ => {
                let own = config.source.to_string();
                std::iter::once(own).chain(config.fallback.iter().map(|s| s.to_string())).collect()
            }
        }
    }

    /// Place of the source that `text` names: as the configuration does, with or without the
    /// password, or by its path, or by its place.
    #[must_use]
    pub fn source_place(&self, path: &str, text: &str) -> Option<usize> {
        let (config, paths) = (self.find(path), self.source_paths(path));
        let own = (config.source.is_fetched(), SourceAddress::parse(text));
        let is_own = matches!(own, (true, Ok(address)) if address == config.source);
        let listed = || {
            let entry = FallbackSource::parse(text).ok()?;
            config.fallback.iter().position(|known| *known == entry).map(|place| place + 1)
        };
        let exact = if is_own { Some(0) } else { listed() };
        let names = || self.source_names(path).iter().position(|name| name == text);
        let by_path = || paths.iter().position(|path| **path == *text);
        let by_place = || text.parse().ok();
        let found = exact.or_else(names).or_else(by_path).or_else(by_place);
        found.filter(|place| *place < paths.len())
    }

    /// Where a publisher of a path goes: to its source path, or to the path itself.
    #[must_use]
    pub fn publish_path<'a>(&'a self, path: &'a str) -> &'a str {
        match self.source_paths(path).first() {
            Some(own) if !self.find(path).source.is_fetched() => own,
            _ => path,
        }
    }

    /// The path with fallbacks whose source path was made with this name.
    #[must_use]
    pub fn path_fed_by(&self, source_path: &str) -> Option<&str> {
        let (path, _number) = split(source_path)?;
        let (path, sources) = self.source_paths.get_key_value(path)?;
        sources.iter().any(|source| **source == *source_path).then_some(path)
    }

    /// Makes the source paths of a path, if it has fallbacks.
    ///
    /// # Errors
    /// A name that is too long, or more paths than there may be.
    pub(super) fn enter_sources(&mut self, path: &str) -> Result<(), ValueError> {
        let Some(config) = self.named.get(path).map(Arc::clone) else { return Ok(()) };
        if config.fallback.is_empty() {
            return Ok(());
        }
        let own = FallbackSource::Address(config.source.clone());
        let mut sources: Vec<Arc<str>> = Vec::with_capacity(1 + config.fallback.len());
        for (number, source) in std::iter::once(&own).chain(&config.fallback).enumerate() {
            let address = match source {
                FallbackSource::Path(name) => {
                    sources.push(name.as_str().into());
                    continue;
                }
                FallbackSource::Address(address) => address,
            };
            let name = format!("{path}{SOURCE_MARK}{number}");
            if !is_path_name(&name) {
                return Err(ValueError::PathName { text: name });
            }
            sources.push(name.as_str().into());
            self.named.insert(name, Arc::new(source_config(&config, address)));
        }
        self.source_paths.insert(path.to_owned(), sources);
        let found = self.named.len();
        if found > NAMED_MAX {
            return Err(ValueError::TooMany { found, max: NAMED_MAX });
        }
        Ok(())
    }

    /// Whether a section may have this name, before source paths are made.
    ///
    /// # Errors
    /// The name is for a source path.
    pub(super) fn check_name(&self, section: &str) -> Result<(), ValueError> {
        if let Some(path) = self.channel_of(section) {
            return Err(ValueError::ChannelPathName { path: path.to_owned() });
        }
        match self.reserved_for(section) {
            Some(path) => Err(ValueError::SourcePathName { path: path.to_owned() }),
            None => Ok(()),
        }
    }

    /// The path with fallbacks whose source paths have such names.
    pub(super) fn reserved_for<'n>(&self, name: &'n str) -> Option<&'n str> {
        let (path, _number) = split(name)?;
        (!self.fallbacks(path).is_empty()).then_some(path)
    }

    fn fallbacks(&self, path: &str) -> &[FallbackSource] {
        self.named.get(path).map_or(&[], |config| &config.fallback)
    }
}

/// A search over paths that feed paths, before source paths are made: each is looked at once.
pub(super) struct LoopSearch<'t> {
    paths: &'t PathTable,
    /// Whether all that feeds a path was looked at, or the search is below it.
    seen: BTreeMap<&'t str, bool>,
}

impl<'t> LoopSearch<'t> {
    pub(super) fn new(paths: &'t PathTable) -> Self {
        Self { paths, seen: BTreeMap::new() }
    }

    /// Looks at all that feeds a path.
    ///
    /// # Errors
    /// The section that has an entry that cannot be, and why: it closes a loop, or is a source
    /// path.
    pub(super) fn check(&mut self, path: &'t str) -> Result<(), (&'t str, ValueError)> {
        if self.seen.contains_key(path) {
            return Ok(());
        }
        let paths = self.paths;
        self.seen.insert(path, false);
        // Not by recursion: a chain may be as long as the table.
        let mut way = vec![(path, 0)];
        while let Some((path, next)) = way.last_mut() {
            let (path, place) = (*path, *next);
            *next += 1;
            let Some(entry) = paths.fallbacks(path).get(place) else {
                self.seen.insert(path, true);
                way.pop();
                continue;
            };
            let FallbackSource::Path(name) = entry else { continue };
            let refused = |problem| (path, ValueError::Fallback { place, problem });
            if paths.lineup(name).is_some() || paths.channel_of(name).is_some() {
                return Err(refused(FallbackError::Lineup { text: name.clone() }));
            }
            if let Some(path) = paths.reserved_for(name) {
                let (text, path) = (name.clone(), path.to_owned());
                return Err(refused(FallbackError::SourcePath { text, path }));
            }
            match self.seen.get(name.as_str()) {
                Some(true) => {}
                Some(false) => {
                    let start = way.iter().position(|(path, _)| path == name).unwrap_or(0);
                    let names = way[start..].iter().map(|(path, _)| (*path).to_owned());
                    let way = std::iter::once(path.to_owned()).chain(names).collect();
                    return Err(refused(FallbackError::Loop { way }));
                }
                None => {
                    self.seen.insert(name, false);
                    way.push((name, 0));
                }
            }
        }
        Ok(())
    }
}

/// Reads the list of `fallback`.
///
/// # Errors
/// An entry that is none or is there twice, or too many.
pub(super) fn parse_fallbacks(texts: &[&str]) -> Result<Vec<FallbackSource>, ValueError> {
    if texts.len() > FALLBACKS_MAX {
        return Err(ValueError::TooMany { found: texts.len(), max: FALLBACKS_MAX });
    }
    let mut list = Vec::with_capacity(texts.len());
    for (place, text) in texts.iter().enumerate() {
        let refused = |problem| ValueError::Fallback { place, problem };
        let entry = FallbackSource::parse(text).map_err(refused)?;
        if list.contains(&entry) {
            return Err(refused(FallbackError::Twice { text: entry.to_string() }));
        }
        list.push(entry);
    }
    Ok(list)
}

/// Checks that no fallback of a path is the path itself or its `source`.
///
/// # Errors
/// The first such entry.
pub(super) fn check_fallbacks(path: &str, config: &PathConfig) -> Result<(), ValueError> {
    for (place, entry) in config.fallback.iter().enumerate() {
        let text = entry.to_string();
        let problem = match entry {
            FallbackSource::Path(name) if name == path => FallbackError::Itself { text },
            FallbackSource::Address(address) if *address == config.source => {
                FallbackError::Own { text }
            }
            FallbackSource::Path(_) | FallbackSource::Address(_) => continue,
        };
        return Err(ValueError::Fallback { place, problem });
    }
    Ok(())
}

/// What is said of a source path: as of the path that it feeds, with a source of its own.
pub(super) fn source_config(fed: &PathConfig, source: &SourceAddress) -> PathConfig {
    // What is said of the switches concerns the path that is fed.
    let PathConfig { standby, return_after, switch_interval, .. } = PathConfig::default();
    let fed =
        PathConfig { fallback: Vec::new(), standby, return_after, switch_interval, ..fed.clone() };
    if source.is_fetched() {
        let source = source.clone();
        PathConfig { source, on_demand: true, idle_close: SOURCE_IDLE_CLOSE, ..fed }
    } else {
        PathConfig { source: source.clone(), on_demand: false, ..fed }
    }
}

/// The path and the number in the name of a source path.
fn split(name: &str) -> Option<(&str, usize)> {
    let (path, number) = name.rsplit_once(SOURCE_MARK)?;
    let number = number.parse().ok().filter(|_| number.len() == 1)?;
    (number <= FALLBACKS_MAX).then_some((path, number))
}

/// Between the name of a path and the number of its source.
pub(super) const SOURCE_MARK: char = '~';
/// A source that is not wanted any more is closed so soon: what it feeds has another one.
const SOURCE_IDLE_CLOSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::super::paths::SourceTransport;
    use super::super::{ConfigError, load};
    use super::*;

    fn read(text: &str) -> Result<Arc<PathTable>, ConfigError> {
        load(Some(("f", text)), [], &[]).map(|loaded| loaded.config.paths)
    }

    fn table(text: &str) -> Arc<PathTable> {
        read(text).unwrap()
    }

    const FILE: &str = r#"
        [path."live/a"]
        fallback = ["rtsp://10.0.0.6/x", "live/b", "udp://239.1.2.3:5004"]
        standby = true
        on_demand = true
        source_transport = "tcp"
        source_timeout = "500ms"
        publish = ["10.0.0.0/8"]
        override = true
        [path."live/c"]
        source = "rtsp://10.0.0.5/x"
        fallback = ["live/a"]
        [path."live/d"]
        source = "rtsp://10.0.0.5/x"
    "#;

    #[test]
    fn path_with_fallbacks_is_fed_by_its_source_paths_in_order_and_others_by_none() {
        let table = table(FILE);
        let names = |path: &str| -> Vec<String> {
            table.source_paths(path).iter().map(ToString::to_string).collect()
        };
        assert_eq!(names("live/a"), ["live/a~0", "live/a~1", "live/b", "live/a~3"]);
        assert_eq!(names("live/c"), ["live/c~0", "live/a"]);
        for other in ["live/d", "live/b", "live/a~0", "live/a~1", "x", ""] {
            assert!(table.source_paths(other).is_empty(), "{other}");
        }
        let named: Vec<&str> = table.named.keys().map(String::as_str).collect();
        let made = ["live/a~0", "live/a~1", "live/a~3"];
        assert_eq!(named, [&["live/a"], &made[..], &["live/c", "live/c~0", "live/d"]].concat());
    }

    #[test]
    fn publisher_goes_to_the_first_source_path_of_a_path_that_is_published_to() {
        let table = table(FILE);
        for (path, expected) in [
            ("live/a", "live/a~0"),
            ("live/a~0", "live/a~0"),
            ("live/c", "live/c"),
            ("live/d", "live/d"),
            ("live/b", "live/b"),
            ("x", "x"),
        ] {
            assert_eq!(table.publish_path(path), expected, "{path}");
        }
    }

    #[test]
    fn source_path_has_what_is_said_of_the_path_that_it_feeds_and_a_source_of_its_own() {
        let table = table(FILE);
        let fed = table.find("live/a");
        assert!(fed.is_fetched() && fed.on_demand && fed.standby && fed.has_rtsp_source());
        let own = table.find("live/a~0");
        assert!(!own.is_fetched() && own.may_override && !own.on_demand && !own.standby);
        assert_eq!((&own.source, &own.publish), (&SourceAddress::Publish, &fed.publish));
        for (name, source) in [
            ("live/a~1", "rtsp://10.0.0.6/x"),
            ("live/a~3", "udp://239.1.2.3:5004"),
            ("live/c~0", "rtsp://10.0.0.5/x"),
        ] {
            let config = table.find(name);
            assert_eq!(config.source.to_string(), source);
            assert!(config.is_fetched() && config.on_demand && config.fallback.is_empty());
            assert_eq!(config.idle_close, SOURCE_IDLE_CLOSE, "{name}");
        }
        let fetched = table.find("live/a~1");
        assert_eq!(fetched.source_transport, SourceTransport::Tcp);
        assert_eq!(fetched.source_timeout, Some(Duration::from_millis(500)));
        assert_eq!(table.find("live/a~2"), &table.others, "live/b is a path of its own");
    }

    #[test]
    fn operator_is_told_of_the_section_that_source_paths_come_from() {
        let table = table(FILE);
        for (path, fed, section) in [
            ("live/a~0", Some("live/a"), "live/a"),
            ("live/a~3", Some("live/a"), "live/a"),
            ("live/c~0", Some("live/c"), "live/c"),
            ("live/a~2", None, "*"),
            ("live/d~0", None, "*"),
            ("live/a", None, "live/a"),
            ("live/b", None, "*"),
        ] {
            assert_eq!((table.path_fed_by(path), &*table.section_of(path)), (fed, section));
        }
        let open = "[path.a]\npublish = [\"any\"]\nfallback = [\"b\"]\n";
        assert_eq!(self::table(open).open_sections(), ["a"]);
    }

    #[test]
    fn changed_list_changes_its_path_and_adds_and_removes_source_paths() {
        let text = |list: &str, more: &str| {
            table(&format!("[path.a]\nsource = \"rtsp://cam/1\"\nfallback = [{list}]\n{more}"))
        };
        let old = text(r#""rtsp://cam/2", "b""#, "");
        assert!(old.changes(&text(r#""rtsp://cam/2", "b""#, "")).is_empty());
        let cases = [
            (r#""rtsp://cam/3", "b""#, "", (&[][..], &["a", "a~1"][..], &[][..])),
            (r#""b", "rtsp://cam/2""#, "", (&["a~2"], &["a"], &["a~1"])),
            (r#""b""#, "", (&[], &["a"], &["a~1"])),
            ("", "", (&[], &["a"], &["a~0", "a~1"])),
            (r#""rtsp://cam/2", "b""#, "standby = true\n", (&[], &["a"], &[])),
            (r#""rtsp://cam/2", "b""#, "hold = \"3s\"\n", (&[], &["a", "a~0", "a~1"], &[])),
            (
                r#""rtsp://cam/2", "b""#,
                "source_transport = \"tcp\"\n",
                (&[], &["a", "a~0", "a~1"], &[]),
            ),
        ];
        for (list, more, (added, changed, removed)) in cases {
            let new = text(list, more);
            let changes = old.changes(&new);
            assert_eq!(changes.added, added, "{list} {more}");
            assert_eq!(changes.changed, changed, "{list} {more}");
            assert_eq!(changes.removed, removed, "{list} {more}");
        }
    }

    #[test]
    fn source_is_found_by_its_name_with_or_without_password_by_path_and_by_place() {
        let text = "[path.a]\nsource = \"rtsp://u:s3cret@cam/1\"\n\
            fallback = [\"rtsp://u:p@cam/2\", \"live/b\", \"2\"]\n";
        let table = table(text);
        let names = ["rtsp://cam/1", "rtsp://cam/2", "live/b", "2"];
        assert_eq!(table.source_names("a"), names);
        let cases = [
            ("rtsp://u:s3cret@cam/1", Some(0)),
            ("rtsp://cam/1", Some(0)),
            ("a~0", Some(0)),
            ("0", Some(0)),
            ("rtsp://u:p@cam/2", Some(1)),
            ("a~1", Some(1)),
            ("live/b", Some(2)),
            ("2", Some(3)),
            ("3", Some(3)),
            ("4", None),
            ("a~2", None),
            ("publish", None),
            ("", None),
            ("rtsp://other:p@cam/2", None),
        ];
        for (text, place) in cases {
            assert_eq!(table.source_place("a", text), place, "{text}");
        }
        assert_eq!((table.source_names("b"), table.source_place("b", "0")), (Vec::new(), None));
        let published = self::table("[path.a]\nfallback = [\"live/b\"]\n");
        assert_eq!(published.source_place("a", "publish"), Some(0));
    }

    #[test]
    fn paths_that_would_feed_themselves_are_refused_with_the_way() {
        let texts = [
            "[path.a]\nfallback = [\"a\"]\n",
            "[path.a]\nfallback = [\"x\", \"b\"]\n[path.b]\nfallback = [\n  \"y\",\n  \"a\",\n]\n",
            "[path.c]\nfallback = [\"a\"]\n[path.a]\nfallback = [\"b\"]\n[path.b]\nfallback = [\"a\"]\n",
            "[path.a]\nfallback = [\"b\"]\n[path.b]\nfallback = [\"c\"]\n[path.c]\nfallback = [\"a\"]\n",
        ];
        let errors: Vec<_> = texts.iter().map(|text| read(text).unwrap_err().to_string()).collect();
        insta::assert_snapshot!(errors.join("\n"), @r#"
        f:2:13: path."a".fallback: `a` is this path itself
        f:6:3: path."b".fallback: a path cannot feed itself: b <- a <- b
        f:6:13: path."b".fallback: a path cannot feed itself: b <- a <- b
        f:6:13: path."c".fallback: a path cannot feed itself: c <- a <- b <- c
        "#);
        let diamond = "[path.a]\nfallback = [\"b\", \"c\"]\n[path.b]\nfallback = [\"d\"]\n\
                       [path.c]\nfallback = [\"d\"]\n[path.d]\nfallback = [\"e\"]\n";
        assert_eq!(table(diamond).source_paths("a").len(), 3, "twice on two ways is no loop");
    }

    #[test]
    fn names_of_source_paths_are_refused_for_sections_and_entries() {
        let long = format!("[path.\"{}\"]\nfallback = [\"b\"]\n", "x".repeat(254));
        let texts = [
            "[path.\"a~0\"]\nhold = \"1s\"\n[path.a]\nfallback = [\"b\"]\n",
            "[path.a]\nfallback = [\"b\"]\n[path.\"a~8\"]\n",
            "[path.a]\nfallback = [\"b\"]\n[path.c]\nfallback = [\"b\", \"a~0\"]\n",
            "[path.a]\nfallback = [\"a~0\"]\n",
        ];
        let errors: Vec<_> = texts.iter().map(|text| read(text).unwrap_err().to_string()).collect();
        insta::assert_snapshot!(errors.join("\n"), @r#"
        f:1:7: path."a~0": is the name of a source of `a`, which has `fallback`: choose another name
        f:3:7: path."a~8": is the name of a source of `a`, which has `fallback`: choose another name
        f:4:18: path."c".fallback: `a~0` is a source of `a`: name that path, or the address
        f:2:13: path."a".fallback: `a~0` is a source of `a`: name that path, or the address
        "#);
        let error = read(&long).unwrap_err().to_string();
        assert!(error.starts_with("f:2:12: ") && error.contains("x~0` is no name"), "{error}");
        for free in ["a~9", "a~10", "a~", "b~0", "a~0/b"] {
            let text = format!("[path.a]\nfallback = [\"b\"]\n[path.\"{free}\"]\nhold = \"1s\"\n");
            assert_eq!(table(&text).section_of(free), free);
        }
        let pattern = "[path.a]\nfallback = [\"b\"]\n[path.\"~a~0\"]\n";
        assert_eq!(table(pattern).section_of("xa~0"), "~a~0");
    }

    #[test]
    fn chain_as_long_as_the_table_is_read_and_source_paths_count_in_its_bound() {
        let chain = |count: usize| -> String {
            let section = |n| format!("[path.a{n}]\nfallback = [\"a{}\"]\n", n + 1);
            (0..count).map(section).collect()
        };
        assert_eq!(table(&chain(NAMED_MAX / 2)).named.len(), NAMED_MAX);
        let error = read(&chain(NAMED_MAX / 2 + 1)).unwrap_err().to_string();
        assert!(error.starts_with("f:4096:12: path.\"a2047\".fallback: 4097 values"), "{error}");
        let closed = chain(NAMED_MAX / 2 - 1) + "[path.a2047]\nfallback = [\"a0\"]\n";
        let error = read(&closed).unwrap_err().to_string();
        let way = "a path cannot feed itself: a2047 <- a0 <- a1 <- a2 <- .. <- a2047";
        assert_eq!(error, format!("f:4096:13: path.\"a2047\".fallback: {way}"));
    }

    proptest::proptest! {
        #[test]
        fn any_lists_are_refused_or_end_at_paths_without_fallbacks(
            lists in proptest::collection::vec("[a-e]{0,3}", 5),
        ) {
            let section = |(name, list): (char, &String)| {
                let entries = list.chars().map(|entry| format!("\"{entry}\""));
                let entries = entries.collect::<Vec<_>>().join(", ");
                format!("[path.{name}]\nfallback = [{entries}]\n")
            };
            let text: String = ('a'..).zip(&lists).map(section).collect();
            let Ok(table) = read(&text) else { return Ok(()) };
            // Each step comes nearer to the end, or five paths would not be enough.
            let mut paths: Vec<Arc<str>> = ('a'..='e').map(|c| c.to_string().into()).collect();
            for _ in 0..5 {
                let fed = paths.iter().flat_map(|path| table.source_paths(path));
                paths = fed.map(Arc::clone).collect();
                paths.sort();
                paths.dedup();
            }
            proptest::prop_assert!(paths.is_empty(), "{text}");
        }
    }
}

//! Live paths that are added while the server runs, beside those of its file.
//!
//! ```text
//!  agent: live/show from rtsp://n1/.., rtsp://n2/..  --set-->  live/show~0, live/show~1  feed it
//!  the list changes: rtsp://n2/.., rtsp://n3/..      --set-->  live/show~1, live/show~2
//! ```
//! Such a path is fed like a path with `fallback`, in the order of its list. What the file says of
//! paths that it does not name (`"*"`, a pattern) counts for it, too. A source keeps the name of
//! its path for as long as it is in the list, so that a change of the list closes no connection
//! that is in the new list.
//! Nodes of a job read from each other by capabilities: what is asked of readers goes along with
//! the path itself, what is shown to a source with the source's path. The latter is a place that is
//! looked into when a connection is made, so that another capability is no other configuration.
//! Invariants: a path of the file is never replaced; what is added outlives a reload of the file;
//! the paths of sources take no capability.
//! Bounds: `SOURCES_MAX` sources of a path, `ADDED_MAX` paths.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::fallback::{FALLBACKS_MAX, FallbackSource};
use super::paths::{PathConfig, PathTable, SourceTransport};
use super::section::{PATTERN, REST};
use super::source::{SourceAddress, SourceAddressError};
use super::source_paths::{SOURCE_MARK, source_config};
use crate::base::names::{Name, PATH_NAME_BYTES_MAX};
use crate::base::secret::Secret;

/// Paths that were added.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddedPaths {
    paths: BTreeMap<String, AddedPath>,
}

/// The job that brings a path: its nodes may read it by capabilities that name all of this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobPath {
    /// Ed25519 key of the base that signs them.
    pub base_key: [u8; 32],
    /// Id of the job.
    pub job: u128,
    /// Its command.
    pub command: u32,
}

/// What is given of a path that is to be added.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GivenPath {
    /// In the order of preference.
    pub sources: Vec<GivenSource>,
    /// Whose it is; `None`: what the file says of readers is all that counts.
    pub job: Option<Arc<JobPath>>,
}

/// A source of a path that is to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenSource {
    /// `rtsp://` URL.
    pub url: String,
    /// What is shown to it.
    pub capability: Option<ShownCapability>,
}

/// What is shown to sources of a path, and may be another one at any time. Clones are one place,
/// and only those are equal.
#[derive(Clone, Default)]
pub struct ShownCapability(Arc<ArcSwapOption<Secret>>);

impl ShownCapability {
    /// Connections that are made from now on show this.
    pub fn set(&self, capability: Option<Secret>) {
        self.0.store(capability.map(Arc::new));
    }

    /// What a connection that is made now shows.
    #[must_use]
    pub fn now(&self) -> Option<Secret> {
        self.0.load().as_deref().cloned()
    }
}

impl PartialEq for ShownCapability {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ShownCapability {}

impl std::fmt::Debug for ShownCapability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ShownCapability(..)")
    }
}

/// A path that was added.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AddedPath {
    sources: Vec<AddedSource>,
    job: Option<Arc<JobPath>>,
}

/// A source of such a path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AddedSource {
    /// The digit in the name of its path.
    number: usize,
    address: SourceAddress,
    /// As it was given.
    url: String,
    capability: Option<ShownCapability>,
}

/// Why a name is none for a path that is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddedNameError {
    /// The root, a title, an empty part, `.`, `..` or a control character, or too long.
    #[error("it is no name of a live path")]
    Form,
    /// A word or a form that sections of a configuration have a meaning for.
    #[error("such a name has another meaning in configurations")]
    Section,
}

/// Why a path cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddPathError {
    /// Its name.
    #[error("the path {path}: {error}")]
    Name {
        /// The name.
        path: String,
        /// Why.
        error: AddedNameError,
    },
    /// The file has it, or makes it.
    #[error("the configuration of this server has a path {path} of its own")]
    Configured {
        /// The name.
        path: String,
    },
    /// No source, or more than a path has.
    #[error("a path has 1 to {SOURCES_MAX} sources")]
    Sources,
    /// A source that cannot be.
    #[error("a source of the path: {0}")]
    Source(#[from] SourceAddressError),
    /// Too many.
    #[error("{ADDED_MAX} paths were added already")]
    TooMany,
}

/// Checks the name of a path that is to be added.
///
/// # Errors
/// See [`AddedNameError`].
pub fn check_added_name(path: &str) -> Result<(), AddedNameError> {
    let is_name = matches!(Name::parse(path), Name::Live(name) if name == path);
    // Names of its sources' paths are longer.
    if !is_name || path.len() + 2 > PATH_NAME_BYTES_MAX {
        return Err(AddedNameError::Form);
    }
    let is_source = path.rsplit_once(SOURCE_MARK).is_some_and(|(_, behind)| {
        behind.len() == 1 && behind.bytes().all(|byte| byte.is_ascii_digit())
    });
    if path == REST || path == PUBLISH || path.starts_with(PATTERN) || is_source {
        return Err(AddedNameError::Section);
    }
    Ok(())
}

impl AddedPaths {
    /// Adds a path, or gives it other sources.
    ///
    /// # Errors
    /// See [`AddPathError`]; then nothing is changed.
    pub fn set(
        &mut self,
        file: &PathTable,
        path: &str,
        given: &GivenPath,
    ) -> Result<(), AddPathError> {
        let wrong = |error| AddPathError::Name { path: path.to_owned(), error };
        check_added_name(path).map_err(wrong)?;
        if is_of_file(file, path) {
            return Err(AddPathError::Configured { path: path.to_owned() });
        }
        if given.sources.is_empty() || given.sources.len() > SOURCES_MAX {
            return Err(AddPathError::Sources);
        }
        let known = self.paths.get(path);
        if known.is_none() && self.paths.len() >= ADDED_MAX {
            return Err(AddPathError::TooMany);
        }
        let mut addresses: Vec<(SourceAddress, &GivenSource)> = Vec::new();
        for source in &given.sources {
            let address = SourceAddress::parse(&source.url)?;
            // Servers of one distribution speak RTSP without TLS.
            if !matches!(&address, SourceAddress::Rtsp(url) if !url.is_secure) {
                return Err(SourceAddressError::Form { text: address.to_string() }.into());
            }
            if addresses.iter().all(|(known, _)| *known != address) {
                addresses.push((address, source));
            }
        }
        let sources = with_numbers(known.map_or(&[], |known| &known.sources), addresses);
        self.paths.insert(path.to_owned(), AddedPath { sources, job: given.job.clone() });
        Ok(())
    }

    /// Takes a path away. False when it was not added.
    pub fn remove(&mut self, path: &str) -> bool {
        self.paths.remove(path).is_some()
    }

    /// The URL, as it was given, of the source whose path has this name.
    #[must_use]
    pub fn url_of(&self, path: &str, source_path: &str) -> Option<&str> {
        let mut sources = self.paths.get(path)?.sources.iter();
        let found = sources.find(|source| source_name(path, source.number) == source_path)?;
        Some(&found.url)
    }

    /// The table of the file, with what was added. A path that the file has meanwhile is left out.
    #[must_use]
    pub fn table(&self, file: &Arc<PathTable>) -> Arc<PathTable> {
        if self.paths.is_empty() {
            return Arc::clone(file);
        }
        let mut table = (**file).clone();
        for (path, added) in self.paths.iter().filter(|(path, _)| !is_of_file(file, path)) {
            enter(&mut table, file.find(path), path, added);
        }
        Arc::new(table)
    }
}

/// Addresses keep the numbers that they have; others get those that are free.
fn with_numbers(
    known: &[AddedSource],
    given: Vec<(SourceAddress, &GivenSource)>,
) -> Vec<AddedSource> {
    let number_of = |address: &SourceAddress| {
        known.iter().find(|source| source.address == *address).map(|source| source.number)
    };
    let kept: Vec<usize> = given.iter().filter_map(|(address, _)| number_of(address)).collect();
    // First those that nobody had: the connection of a source that goes is closed apart.
    let was_had = |number: &usize| known.iter().any(|source| source.number == *number);
    let mut free: Vec<usize> = (0..SOURCES_MAX).filter(|number| !kept.contains(number)).collect();
    free.sort_by_key(|number| (was_had(number), *number));
    let mut free = free.into_iter();
    let numbered = given.into_iter().filter_map(|(address, source)| {
        let number = number_of(&address).or_else(|| free.next())?;
        let GivenSource { url, capability } = source.clone();
        Some(AddedSource { number, address, url, capability })
    });
    numbered.collect()
}

/// Makes a path and those of its sources.
fn enter(table: &mut PathTable, rest: &PathConfig, path: &str, added: &AddedPath) {
    let AddedPath { sources, job } = added;
    let Some((first, others)) = sources.split_first() else { return };
    let unsaid = PathConfig::default();
    let config = PathConfig {
        source: first.address.clone(),
        // Between servers nothing is to be lost.
        source_transport: SourceTransport::Tcp,
        on_demand: false,
        fallback: others.iter().map(|s| FallbackSource::Address(s.address.clone())).collect(),
        standby: false,
        return_after: RETURN_AFTER,
        playlist: unsaid.playlist,
        slate: None,
        lineup: unsaid.lineup,
        ..rest.clone()
    };
    let mut names = Vec::with_capacity(sources.len());
    for source in sources {
        let name = source_name(path, source.number);
        names.push(name.as_str().into());
        let source_capability = source.capability.clone();
        let own = source_config(&config, &source.address);
        table.named.insert(name, Arc::new(PathConfig { source_capability, ..own }));
    }
    table.named.insert(path.to_owned(), Arc::new(PathConfig { job: job.clone(), ..config }));
    table.source_paths.insert(path.to_owned(), names);
}

fn source_name(path: &str, number: usize) -> String {
    format!("{path}{SOURCE_MARK}{number}")
}

/// Whether the file names a path, or makes paths of such a name.
fn is_of_file(file: &PathTable, path: &str) -> bool {
    let mut names = (0..SOURCES_MAX).map(|number| source_name(path, number));
    file.named.contains_key(path)
        || file.path_fed_by(path).is_some()
        || file.channel_of(path).is_some()
        || names.any(|name| file.named.contains_key(&name))
}

/// Sources of one path.
pub const SOURCES_MAX: usize = FALLBACKS_MAX + 1;
/// Paths that are added. With nine sources each they are fewer than a shard may own.
pub const ADDED_MAX: usize = 256;
/// A better source takes over when it has been good for so long: who is better is planned.
const RETURN_AFTER: Duration = Duration::from_secs(1);
const PUBLISH: &str = "publish";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn file(text: &str) -> Arc<PathTable> {
        load(Some(("f", text)), [], &[]).unwrap().config.paths
    }

    /// These sources, without capabilities.
    fn given(urls: &[&str]) -> GivenPath {
        let source = |url: &&str| GivenSource { url: (*url).to_owned(), capability: None };
        GivenPath { sources: urls.iter().map(source).collect(), job: None }
    }

    fn names(table: &PathTable, path: &str) -> Vec<String> {
        table.source_paths(path).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn added_path_is_fed_by_its_list_and_has_what_is_said_of_all_others() {
        let file = file("[path.\"*\"]\nhold = \"7s\"\n[path.\"live/a\"]\nhold = \"1s\"\n");
        let mut added = AddedPaths::default();
        assert_eq!(added.table(&file), file);
        added.set(&file, "live/x", &given(&["rtsp://n1/live/x", "rtsp://n2/live/x"])).unwrap();
        let table = added.table(&file);
        assert_eq!(names(&table, "live/x"), ["live/x~0", "live/x~1"]);
        let config = table.find("live/x");
        assert_eq!((config.hold.as_secs(), config.on_demand), (7, false));
        assert!(config.is_fetched() && !config.is_published());
        assert_eq!(table.find("live/x~1").source.to_string(), "rtsp://n2/live/x");
        assert!(table.find("live/x~1").on_demand && table.find("live/x~1").fallback.is_empty());
        let url = added.url_of("live/x", "live/x~1");
        assert_eq!((url, added.url_of("live/x", "live/x~2")), (Some("rtsp://n2/live/x"), None));
        assert_eq!(table.source_names("live/x"), ["rtsp://n1/live/x", "rtsp://n2/live/x"]);
        assert_eq!(table.find("live/a"), file.find("live/a"));
        assert!(added.remove("live/x") && !added.remove("live/x"));
        assert_eq!(added.table(&file), file);
    }

    #[test]
    fn source_keeps_its_path_for_as_long_as_it_is_in_the_list() {
        let file = file("");
        let mut added = AddedPaths::default();
        let mut set = |urls: &[&str]| -> Vec<String> {
            added.set(&file, "x", &given(urls)).unwrap();
            let table = added.table(&file);
            let url = |name: &String| table.find(name).source.to_string();
            names(&table, "x").iter().map(|name| format!("{name} {}", url(name))).collect()
        };
        let mut lists = vec![set(&["rtsp://a/x", "rtsp://b/x"])];
        lists.push(set(&["rtsp://b/x", "rtsp://c/x"]));
        lists.push(set(&["rtsp://d/x", "rtsp://b/x"]));
        lists.push(set(&["rtsp://b/x"]));
        assert_eq!(
            lists,
            [
                &["x~0 rtsp://a/x", "x~1 rtsp://b/x"][..],
                &["x~1 rtsp://b/x", "x~2 rtsp://c/x"],
                &["x~0 rtsp://d/x", "x~1 rtsp://b/x"],
                &["x~1 rtsp://b/x"],
            ]
        );
    }

    #[test]
    fn capabilities_are_with_the_paths_of_their_sources_and_the_job_with_the_path_alone() {
        let file = file("[path.\"*\"]\nread = []\n");
        let mut added = AddedPaths::default();
        let mut given = given(&["rtsp://n1/x", "rtsp://o/x"]);
        let shown = ShownCapability::default();
        shown.set(Some(Secret::new("hdl_1")));
        given.sources[0].capability = Some(shown.clone());
        given.job = Some(Arc::new(JobPath { base_key: [7; 32], job: 1, command: 2 }));
        added.set(&file, "x", &given).unwrap();
        let table = added.table(&file);
        let capability =
            |path: &str| table.find(path).source_capability.as_ref().and_then(|shown| shown.now());
        assert_eq!(["x~0", "x~1", "x"].map(capability), [Some(Secret::new("hdl_1")), None, None]);
        let job = |path: &str| table.find(path).job.clone();
        assert_eq!(["x", "x~0", "y"].map(job), [given.job.clone(), None, None]);
        assert!(!format!("{table:?} {added:?} {given:?}").contains("hdl_1"));
        // Another one counts in the table that is there, which is the same as before.
        shown.set(Some(Secret::new("hdl_2")));
        assert_eq!(capability("x~0"), Some(Secret::new("hdl_2")));
        added.set(&file, "x", &given).unwrap();
        assert_eq!(added.table(&file), table);
    }

    #[test]
    fn path_of_the_file_stays_as_it_is_before_and_behind_a_reload() {
        let old = file("[path.\"live/a\"]\nfallback = [\"live/b\"]\n");
        let mut added = AddedPaths::default();
        for path in ["live/a", "live/a~0"] {
            assert!(added.set(&old, path, &given(&["rtsp://n/x"])).is_err(), "{path}");
        }
        added.set(&old, "live/x", &given(&["rtsp://n/x"])).unwrap();
        let new = file("[path.\"live/x\"]\nhold = \"3s\"\n");
        assert_eq!(added.table(&new), new, "the file has it now");
        assert_eq!(names(&added.table(&old), "live/x"), ["live/x~0"]);
    }

    #[test]
    fn names_and_sources_that_cannot_be_are_refused_and_change_nothing() {
        let file = file("");
        let mut added = AddedPaths::default();
        let bad = ["", "/x", "x/", "a//b", "a/../b", "..", "demo", "vod/x", "*", "~^x", "publish"];
        for path in bad.into_iter().chain(["x~0", "a\nb", &"x".repeat(254)]) {
            let refused = added.set(&file, path, &given(&["rtsp://n/x"]));
            assert!(matches!(refused, Err(AddPathError::Name { .. })), "{path:?} {refused:?}");
        }
        let mut refuse =
            |urls: &[&str]| added.set(&file, "x", &given(urls)).unwrap_err().to_string();
        assert_eq!(refuse(&[]), "a path has 1 to 9 sources");
        for url in ["publish", "udp://239.1.2.3:5004", "rtsps://a/x", "rtsp://", "live/b"] {
            assert!(refuse(&["rtsp://a/x", url]).starts_with("a source of the path: "), "{url}");
        }
        assert_eq!(added, AddedPaths::default());
        for n in 0..ADDED_MAX {
            added.set(&file, &format!("live/{n}"), &given(&["rtsp://n/x"])).unwrap();
        }
        assert_eq!(added.set(&file, "x", &given(&["rtsp://n/x"])), Err(AddPathError::TooMany));
        added.set(&file, "live/0", &given(&["rtsp://m/x"])).unwrap();
    }
}

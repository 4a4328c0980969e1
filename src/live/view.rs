//! Figures of a shard's live paths: sums for the metrics, and sessions. `pages` lists the paths.
//!
//! ```text
//!  reader or source ends --> tally                  its counters stay
//!  asked: tally + sums of present paths and sources --> PathTallies
//! ```
//! Invariant: a sum never decreases, whichever readers or sources end between two questions.
//! Bound: the paths and sources of a shard, once for each question.

use crate::live::core::info::OwnerInfo;
use crate::live::core::message::{OwnerRequest, ToOwner};
use crate::live::front::Live;
use crate::live::readers::reader::reader_info;
use crate::live::sources::info::totals_of;
use crate::metrics::paths::{PATH_STATES, PathTallies};
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;
use crate::session::info::SessionInfo;

impl Live {
    /// Sums of all paths, for the metrics. Bound: the paths and sources of the shard; readers are
    /// not visited.
    #[must_use]
    pub fn path_table(&self, cx: &Cx) -> PathTallies {
        let mut table = self.hub.tally.clone();
        for publisher in self.sources.publishers.values() {
            let numbers = table.numbers_mut(publisher.source.path());
            numbers.totals.add(&totals_of(publisher));
            numbers.sources += u64::from(publisher.is_recording());
        }
        for path in self.hub.paths.iter() {
            let numbers = table.numbers_mut(path.name());
            numbers.totals.add(path.totals());
            let carriers = path.readers_by_carrier();
            numbers.readers.iter_mut().zip(carriers).for_each(|(sum, more)| *sum += more);
        }
        let known = self.hub.registry.states();
        let unknown = cx
            .configs
            .named
            .keys()
            .filter(|path| !self.hub.registry.knows(path) && self.hub.is_owner_of(cx, path));
        for state in known.chain(unknown.map(|_| "idle")) {
            if let Some(place) = PATH_STATES.iter().position(|known| *known == state) {
                table.owners[place] += 1;
            }
        }
        table
    }

    /// Ends source and readers of a path with its owner here, for an operator. False when the path
    /// is unknown.
    pub fn kick_path(&mut self, cx: &mut Cx, path: &str) -> bool {
        let is_known = self.owner_info(cx, path).is_some();
        if is_known {
            tracing::info!(
                code = "HE-I303",
                event = "path.kicked",
                path,
                "path {path} ended by an operator"
            );
            let (path, request) = (path.into(), OwnerRequest::Kick);
            self.hub.registry.handle(ToOwner { path, request }, cx.now);
            self.settle_live(cx);
        }
        is_known
    }

    /// A path with its owner here; a configured path is known before a client wants the path.
    pub(crate) fn owner_info(&self, cx: &Cx, path: &str) -> Option<OwnerInfo> {
        let is_idle = || self.hub.is_owner_of(cx, path) && cx.configs.named.contains_key(path);
        let idle = || match cx.configs.lineup(path) {
            Some(_) => OwnerInfo { state: "lineup", ..OwnerInfo::idle(path) },
            None => OwnerInfo::idle(path),
        };
        self.hub.registry.info(path).or_else(|| is_idle().then(idle))
    }

    /// Figures of a session.
    pub(crate) fn session_info(&self, cx: &Cx, session: SessionRef) -> Option<SessionInfo> {
        match session {
            SessionRef::Reader(index) => self
                .readers
                .table
                .get(index as usize)
                .map(|reader| reader_info(cx, &self.hub, reader)),
            SessionRef::Publisher(number) => self.sources.publishers.session_info(cx, number),
            SessionRef::Title(_) => None,
        }
    }
}

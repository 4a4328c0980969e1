//! Live paths of a shard that another process takes over: see `live::core::takeover`.
//!
//! ```text
//!  old   flush_sources .. record_paths: owners here, paths with readers here
//!  new   take_path, for each path; then readers and publishers
//! ```
//! Bound: the paths of the shard; `GROUPS_BYTES_MAX`.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::time::Mono;
use crate::config::paths::PathTable;
use crate::live::config::{limits, rules};
use crate::live::core::batch::{Generation, PacketBatch};
use crate::live::core::description::Description;
use crate::live::core::takeover::{GROUPS_BYTES_MAX, TakenPath, block_id};
use crate::live::front::Live;
use crate::session::cx::Cx;
use crate::takeover::live::{OwnerRecord, PathRecord};

/// Batches whose bytes go beside the records, in this order without gaps.
#[derive(Debug, Default)]
pub struct RecordedBatches {
    /// The batches.
    pub batches: Vec<Arc<PacketBatch>>,
    bytes: u64,
}

impl Live {
    /// Feeds all packets that have come to their paths: no further ones come.
    pub fn flush_sources(&mut self, cx: &mut Cx) {
        self.sources.publishers.flush(&mut self.hub);
        self.settle_live(cx);
    }

    /// Name of the path that an input feeds.
    #[must_use]
    pub fn input_path(&self, number: u32) -> Option<&Arc<str>> {
        self.sources.inputs.path_of(number)
    }

    /// Records of the paths that have their owner or readers here.
    #[must_use]
    pub fn record_paths(&self, now: Mono) -> (Vec<PathRecord>, RecordedBatches) {
        let mut names: BTreeSet<&Arc<str>> = self.hub.registry.names().collect();
        let count = names.len().max(1);
        let with_readers = self.hub.paths.iter().filter(|path| !path.readers.is_empty());
        names.extend(with_readers.map(|path| path.name()));
        let mut kept = RecordedBatches::default();
        let records = names
            .into_iter()
            .filter_map(|name| self.record_path(name, GROUPS_BYTES_MAX / count, now, &mut kept));
        (records.collect(), kept)
    }

    fn record_path(
        &self,
        name: &Arc<str>,
        bytes_max: usize,
        now: Mono,
        kept: &mut RecordedBatches,
    ) -> Option<PathRecord> {
        let owned = self.hub.registry.owned(name);
        let here = self.hub.paths.path(name).filter(|path| !path.readers.is_empty());
        let needed = here.map(|path| path.ring().batches_from(path.needed_from()));
        let useful = owned
            .as_ref()
            .map(|owned| owned.ring.batches_from(owned.ring.useful_from(bytes_max, now)));
        // Both end with the newest batch: the longer one has the shorter one.
        let needed: Vec<_> = needed.into_iter().flatten().collect();
        let useful: Vec<_> = useful.into_iter().flatten().collect();
        let batches = if needed.len() >= useful.len() { needed } else { useful };
        let blocks = batches.into_iter().map(|batch| kept.add(batch)).collect();
        let record = |generation: Generation, description: &Description, owner| PathRecord {
            name: name.to_string(),
            generation: generation.0,
            description: description.record(),
            owner,
            blocks,
        };
        match (owned, here) {
            (Some(owned), _) => {
                Some(record(owned.generation, owned.description, Some(owned.record)))
            }
            (None, Some(path)) => {
                Some(record(path.generation, path.description(), None::<OwnerRecord>))
            }
            (None, None) => None,
        }
    }

    /// Takes a path in that another process has told, under the configuration that comes.
    pub fn take_path(&mut self, cx: &Cx, table: &PathTable, taken: &TakenPath) {
        let config = table.find(&taken.name);
        self.hub.registry.take_in(taken, Arc::new(rules(config)), cx.now);
        if taken.has_readers {
            self.hub.paths.take_in(taken, limits(config), cx.now);
        }
    }
}

impl RecordedBatches {
    fn add(&mut self, batch: &Arc<PacketBatch>) -> crate::takeover::live::BlockRecord {
        let record = batch.record(block_id(batch), self.bytes);
        self.bytes += batch.bytes().len() as u64;
        self.batches.push(Arc::clone(batch));
        record
    }
}

//! Live paths of a shard that another process takes over: see `live::core::takeover`.
//!
//! ```text
//!  old   keep_batches --written--> flush_sources .. halt .. record_paths: owners here, paths with
//!        readers here
//!  new   take_path, for each path; then readers and publishers
//! ```
//! Batches do not change, so most of them are written while streams go on; a record names those as
//! well, and what has come since.
//! Bound: the paths of the shard; its part of `PACKETS_BYTES_MAX`, twice: once before, and what is
//! to be added at the record.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::base::time::Mono;
use crate::config::paths::PathTable;
use crate::live::config::{limits, rules};
use crate::live::core::batch::{Generation, PacketBatch};
use crate::live::core::description::Description;
use crate::live::core::takeover::{PACKETS_BYTES_MAX, Tail, TakenPath, block_id, path_shares};
use crate::live::front::Live;
use crate::session::cx::Cx;
use crate::takeover::live::{BlockRecord, OwnerRecord, PathRecord};

/// Batches whose bytes go beside the records, in this order without gaps. They are held, so the
/// number of one is no other one's.
#[derive(Debug, Default)]
pub struct RecordedBatches {
    batches: Vec<Arc<PacketBatch>>,
    /// Where their bytes begin, by their numbers.
    offsets: HashMap<u64, u64>,
    bytes: u64,
    /// Number of those that were taken to be written.
    written: usize,
}

impl RecordedBatches {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Takes the next ones to be written: about `bytes_max`, `count_max` at most.
    pub fn next(&mut self, bytes_max: usize, count_max: usize) -> &[Arc<PacketBatch>] {
        let (from, mut bytes) = (self.written, 0);
        let left = self.batches.get(from..).unwrap_or_default();
        let mut count = 0;
        for batch in left.iter().take(count_max) {
            if bytes >= bytes_max {
                break;
            }
            bytes += batch.bytes().len();
            count += 1;
        }
        self.written += count;
        left.get(..count).unwrap_or_default()
    }

    /// Where the bytes of a batch begin, which is added if it is not here.
    fn add(&mut self, batch: &Arc<PacketBatch>) -> u64 {
        let Self { batches, offsets, bytes, .. } = self;
        *offsets.entry(block_id(batch)).or_insert_with(|| {
            let offset = *bytes;
            *bytes += batch.bytes().len() as u64;
            batches.push(Arc::clone(batch));
            offset
        })
    }

    fn record(&mut self, batch: &Arc<PacketBatch>) -> BlockRecord {
        let offset = self.add(batch);
        batch.record(block_id(batch), offset)
    }
}

impl Live {
    /// Takes the next sources off a list, and feeds all packets that have come of them.
    pub fn flush_sources(&mut self, cx: &mut Cx, numbers: &mut Vec<u32>, count_max: usize) {
        let publishers = &mut self.sources.publishers;
        self.sources.inputs.flush(cx, publishers);
        for _ in 0..count_max {
            let Some(number) = numbers.pop() else { break };
            publishers.flush(&mut self.hub, number, cx.now);
        }
        self.settle_live(cx);
    }

    /// Name of the path that an input feeds.
    #[must_use]
    pub fn input_path(&self, number: u32) -> Option<&Arc<str>> {
        self.sources.inputs.path_of(number)
    }

    /// Adds the batches that would be recorded now.
    pub fn keep_batches(&self, now: Mono, kept: &mut RecordedBatches) {
        for (_, batches) in self.lists(now) {
            for batch in batches {
                kept.add(batch);
            }
        }
    }

    /// Records of the paths that have their owner or readers here.
    #[must_use]
    pub fn record_paths(&self, now: Mono, kept: &mut RecordedBatches) -> Vec<PathRecord> {
        let lists = self.lists(now).into_iter();
        lists.filter_map(|(name, batches)| self.record_path(name, batches, kept)).collect()
    }

    /// The batches of each path that go along.
    fn lists(&self, now: Mono) -> Vec<(&Arc<str>, Vec<&Arc<PacketBatch>>)> {
        let mut names: BTreeSet<&Arc<str>> = self.hub.registry.names().collect();
        let with_readers = self.hub.paths.iter().filter(|path| !path.readers.is_empty());
        names.extend(with_readers.map(|path| path.name()));
        let budget = PACKETS_BYTES_MAX / usize::from(self.hub.shard_count.max(1));
        let bytes = |tails: [Option<Tail>; 2]| tails.map(|tail| tail.map_or(0, |tail| tail.bytes));
        let wanted = names.iter().map(|name| bytes(self.tails(name, budget, now)));
        let shares = path_shares(&wanted.collect::<Vec<_>>(), budget);
        let lists = names.into_iter().zip(shares);
        lists.map(|(name, share)| (name, self.list(name, share, now))).collect()
    }

    /// What the readers here need of a path, and what is of use to others if it is owned here.
    fn tails(&self, name: &str, bytes_max: usize, now: Mono) -> [Option<Tail>; 2] {
        let here = self.hub.paths.path(name).filter(|path| !path.readers.is_empty());
        let needed = here.map(|path| path.ring().tail(path.needed_from(), bytes_max));
        let owned = self.hub.registry.owned(name);
        [needed, owned.map(|owned| owned.ring.useful(bytes_max, now))]
    }

    /// Both end with the newest batch: the longer one has the shorter one.
    fn list(&self, name: &str, bytes_max: usize, now: Mono) -> Vec<&Arc<PacketBatch>> {
        let [needed, useful] = self.tails(name, bytes_max, now);
        let of = |tail: Option<Tail>| tail.map_or(0, |tail| tail.bytes);
        let here = self.hub.paths.path(name).map(|path| path.ring());
        let owned = self.hub.registry.owned(name).map(|owned| owned.ring);
        let (ring, tail) = if of(needed) >= of(useful) { (here, needed) } else { (owned, useful) };
        let list = ring.zip(tail).map(|(ring, tail)| ring.batches_from(tail.from).collect());
        list.unwrap_or_default()
    }

    fn record_path(
        &self,
        name: &Arc<str>,
        batches: Vec<&Arc<PacketBatch>>,
        kept: &mut RecordedBatches,
    ) -> Option<PathRecord> {
        let blocks = batches.into_iter().map(|batch| kept.record(batch)).collect();
        let record = |generation: Generation, description: &Description, owner| PathRecord {
            name: name.to_string(),
            generation: generation.0,
            description: description.record(),
            owner,
            blocks,
        };
        if let Some(owned) = self.hub.registry.owned(name) {
            return Some(record(owned.generation, owned.description, Some(owned.record)));
        }
        let path = self.hub.paths.path(name).filter(|path| !path.readers.is_empty())?;
        Some(record(path.generation, path.description(), None::<OwnerRecord>))
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

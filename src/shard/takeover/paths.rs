//! Which new shard gets what the shards of the old one have told of live paths.
//!
//! ```text
//!  records of all shards --add--> batches once, by number --share--> owner, source, readers
//! ```
//! A path goes to three kinds of shards, whose numbers may be others than before: its owner by its
//! name, that of its publisher and those of its readers by the homes of their sessions.
//! Bound: what a message may have; a batch as one of a publisher.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::Taken;
use super::shares::Files;
use crate::base::ids::ShardId;
use crate::base::time::Mono;
use crate::live::core::batch::{Generation, PacketBatch};
use crate::live::core::description::Description;
use crate::live::core::limits::BATCH_BYTES_MAX;
use crate::live::core::message::{SourceRef, owner_of};
use crate::live::core::takeover::{TakenOwner, TakenPath, joined};
use crate::takeover::live::{BlockRecord, DescriptionRecord, InputRecord, OwnerRecord, PathRecord};
use crate::takeover::v1::{SessionRecord, ShardRecord, UnitRecord};

/// The live paths that all shards of the other process have told.
#[derive(Debug, Default)]
pub struct Paths {
    by_name: BTreeMap<String, Told>,
    batches: HashMap<u64, Arc<PacketBatch>>,
    inputs: Vec<(InputRecord, OwnedFd)>,
    /// When packets ceased to come.
    halted: Option<Mono>,
}

/// What is known of one path.
#[derive(Debug)]
struct Told {
    generation: u32,
    description: DescriptionRecord,
    owner: Option<OwnerRecord>,
    /// Numbers of its batches.
    blocks: Vec<u64>,
    /// Source and arrival of the newest one.
    newest: Option<(u32, u64)>,
    /// Where its publisher goes.
    source: Option<ShardId>,
    /// Where its readers go.
    readers: Vec<ShardId>,
}

impl Paths {
    /// Adds what one shard has told.
    ///
    /// # Errors
    /// A sentence: the records cannot be.
    pub fn add(&mut self, of: &mut ShardRecord, files: &mut Files) -> Result<(), String> {
        let packets = of.packets.map(|packets| files.take(packets)).transpose()?;
        let packets = packets.map(File::from);
        self.halted = self.halted.into_iter().chain(of.halted_ns.map(Mono)).min();
        for input in std::mem::take(&mut of.inputs) {
            let socket = files.take(input.socket)?;
            self.inputs.push((input, socket));
        }
        for record in std::mem::take(&mut of.paths) {
            let PathRecord { name, generation, description, owner, blocks } = record;
            let ids: Vec<u64> = blocks.iter().map(|block| block.id).collect();
            let newest = blocks.last().map(|block| (block.generation, block.received_ns));
            for block in blocks {
                if let Entry::Vacant(place) = self.batches.entry(block.id) {
                    let batch = batch_of(&block, packets.as_ref())
                        .ok_or_else(|| format!("the packets of path {name} cannot be read"))?;
                    place.insert(Arc::new(batch));
                }
            }
            let (source, readers) = (None, Vec::new());
            let blocks = ids;
            let told = Told { generation, description, owner, blocks, newest, source, readers };
            match self.by_name.get_mut(&name) {
                None => drop(self.by_name.insert(name, told)),
                Some(known) => known.join(told),
            }
        }
        Ok(())
    }

    /// Whether the publishers of a unit hold their paths still. One that does not was not told in
    /// time that it has lost its path: it is hung up on, as it would have been, and comes back.
    fn has_no_stale(&self, unit: &UnitRecord) -> bool {
        unit.sessions.iter().all(|session| {
            let SessionRecord::Publisher(publisher) = session else { return true };
            let (path, id) = (&publisher.path, &publisher.id);
            let holds =
                self.by_name.get(path).is_some_and(|it| it.generation == publisher.generation);
            if !holds {
                tracing::warn!(
                    code = "HE-W419",
                    path,
                    id,
                    "a publisher has lost its path: it ends"
                );
            }
            holds
        })
    }

    /// A unit goes to this shard.
    fn note(&mut self, unit: &UnitRecord, shard: ShardId) {
        for session in &unit.sessions {
            match session {
                SessionRecord::Title(_) => {}
                SessionRecord::Reader(reader) => {
                    if let Some(told) = self.by_name.get_mut(&reader.path)
                        && !told.readers.contains(&shard)
                    {
                        told.readers.push(shard);
                    }
                }
                SessionRecord::Publisher(publisher) => {
                    if let Some(told) = self.by_name.get_mut(&publisher.path) {
                        told.source = Some(shard);
                    }
                }
            }
        }
    }

    /// Gives each shard the paths that concern it, beside what it has.
    ///
    /// # Errors
    /// A sentence: the records cannot be.
    pub fn share(mut self, mut shards: Vec<Taken>) -> Result<Vec<Taken>, String> {
        for (shard, taken) in (0_u8..).map(ShardId).zip(&mut shards) {
            taken.units.retain(|unit| self.has_no_stale(&unit.record));
            taken.units.iter().for_each(|unit| self.note(&unit.record, shard));
        }
        let Self { by_name, batches, inputs, halted } = self;
        shards.iter_mut().for_each(|taken| taken.halted = halted);
        let count = u8::try_from(shards.len()).unwrap_or(u8::MAX);
        for (input, socket) in inputs {
            let owner = usize::from(owner_of(&input.path, count).0);
            if let Some(taken) = shards.get_mut(owner) {
                taken.inputs.push((input, socket));
            }
        }
        for (number, (name, told)) in (1_u32..).zip(by_name) {
            let path = told.into_path(&name, (number, count), &batches)?;
            for (shard, taken) in (0_u8..).map(ShardId).zip(shards.iter_mut()) {
                if let Some(path) = path.of_shard(shard) {
                    taken.paths.push(path);
                }
            }
        }
        Ok(shards)
    }
}

impl Told {
    /// Adds what another shard has told of the path: the owner knows best what it is.
    fn join(&mut self, other: Self) {
        if other.owner.is_some() {
            (self.generation, self.description) = (other.generation, other.description);
            self.owner = other.owner;
        }
        let is_newer = other.newest > self.newest;
        self.blocks = joined(std::mem::take(&mut self.blocks), other.blocks, is_newer);
        self.newest = self.newest.max(other.newest);
    }

    fn into_path(
        self,
        name: &str,
        (number, count): (u32, u8),
        batches: &HashMap<u64, Arc<PacketBatch>>,
    ) -> Result<Shared, String> {
        let description = Description::of_record(self.description)
            .ok_or_else(|| format!("path {name} cannot be what is said of it"))?;
        let list: Option<Vec<Arc<PacketBatch>>> =
            self.blocks.iter().map(|id| batches.get(id).cloned()).collect();
        let list = list.ok_or_else(|| format!("packets of path {name} are missing"))?;
        let places = self.blocks.iter().copied().zip(0..).collect();
        let owner = self.owner.unwrap_or_default();
        let path = TakenPath {
            name: name.into(),
            generation: Generation(self.generation),
            description: Arc::new(description),
            batches: list.into(),
            places: Arc::new(places),
            source: self.source.map(|shard| SourceRef { shard, number }),
            owner: Some(TakenOwner {
                listeners: self.readers,
                sources_seen: owner.sources_seen,
                batches: owner.batches,
                hold_until: owner.hold_until_ns.map(Mono),
            }),
            has_readers: false,
        };
        Ok(Shared { owner: owner_of(name, count), path })
    }
}

/// A path, with all that is known.
struct Shared {
    owner: ShardId,
    path: TakenPath,
}

impl Shared {
    /// The path as a shard gets it, if it concerns that.
    fn of_shard(&self, shard: ShardId) -> Option<TakenPath> {
        let listens = self.path.owner.as_ref().is_some_and(|it| it.listeners.contains(&shard));
        let has_source = self.path.source.is_some_and(|source| source.shard == shard);
        let owns = self.owner == shard;
        (owns || listens || has_source).then(|| TakenPath {
            owner: self.path.owner.clone().filter(|_| owns),
            has_readers: listens,
            ..self.path.clone()
        })
    }
}

fn batch_of(block: &BlockRecord, packets: Option<&File>) -> Option<PacketBatch> {
    let count = block.bytes_count();
    if count > BATCH_BYTES_MAX {
        return None;
    }
    let mut bytes = vec![0; count];
    packets?.read_exact_at(&mut bytes, block.offset).ok()?;
    PacketBatch::of_record(block, bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::shard::takeover::TakenUnit;

    fn publisher(path: &str, id: &str, generation: u32) -> TakenUnit {
        let record = json!({ "publisher": {
            "id": id, "path": path, "generation": generation, "uri": "rtsp://host/live/a",
            "peer": "192.0.2.9:40000", "sdp": "", "local": "192.0.2.1", "sdp_session_id": 1,
            "sdp_version": 1, "alive_ns": 1, "cname": "a@b", "own_ssrc": 1, "tracks": [],
            "source": { "packet_ns": 1, "sign_ns": 1, "reported_ns": 1 },
        } });
        let sessions = vec![serde_json::from_value(record).unwrap()];
        let record = UnitRecord { connection: None, sessions };
        TakenUnit { record, socket: None, titles: Vec::new().into(), ports: Vec::new().into() }
    }

    /// It was taken for the path's source, and then neither of them fitted: nothing was taken.
    #[test]
    fn publisher_that_has_lost_its_path_ends_and_the_one_that_holds_it_goes_on() {
        let track = json!({ "clock_rate_hz": 8_000, "payload_types": [0], "identity": "a" });
        let mut record: ShardRecord = serde_json::from_value(json!({
            "shard": 0,
            "paths": [{
                "name": "live/a", "generation": 3,
                "description": { "sdp": "v=0", "tracks": [track] },
                "owner": { "sources_seen": 2 },
            }],
        }))
        .unwrap();
        let mut paths = Paths::default();
        paths.add(&mut record, &mut Files::new(Vec::new())).unwrap();
        let mut shares = vec![Taken::default(), Taken::default()];
        shares[0].units = vec![publisher("live/a", "0000000000000001", 3)];
        shares[1].units = vec![
            publisher("live/a", "0100000000000002", 2),
            // A path that nobody has any more.
            publisher("live/b", "0100000000000003", 1),
        ];
        let shares = paths.share(shares).unwrap();
        assert_eq!(shares.iter().map(|share| share.units.len()).collect::<Vec<_>>(), [1, 0]);
        let source = Some(SourceRef { shard: ShardId(0), number: 1 });
        let all: Vec<&TakenPath> = shares.iter().flat_map(|share| &share.paths).collect();
        assert!(!all.is_empty() && all.iter().all(|path| path.source == source), "{all:?}");
    }
}

//! Live paths between two processes: asked for on the old side, shared out to shards on the new
//! one.
//!
//! ```text
//!  old   Quiet --settle: Packets, Halt, Pass, Pass--> Freeze
//!  new   records of all shards --add--> batches once, by number --share--> owner, source, readers
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

use super::giver::ask_all;
use super::{QUIET_MAX, RECORD_MAX};
use crate::base::ids::ShardId;
use crate::base::time::Mono;
use crate::live::core::batch::{Generation, PacketBatch};
use crate::live::core::description::Description;
use crate::live::core::limits::BATCH_BYTES_MAX;
use crate::live::core::message::{SourceRef, owner_of};
use crate::live::core::takeover::{TakenOwner, TakenPath, joined};
use crate::poll::poller::Poller;
use crate::shard::inbox::Inbox;
use crate::shard::takeover::shares::Files;
use crate::shard::takeover::{Taken, TakeoverMessage};
use crate::takeover::live::{BlockRecord, DescriptionRecord, InputRecord, OwnerRecord, PathRecord};
use crate::takeover::v1::{SessionRecord, ShardRecord, UnitRecord};

/// Has all packets that have come reach all shards that have their paths; no further ones come.
///
/// # Errors
/// A sentence.
pub(super) fn settle(poller: &Poller<Inbox>) -> Result<(), String> {
    let written = ask_all(poller, RECORD_MAX, |answer| TakeoverMessage::Packets { answer })?;
    written.into_iter().collect::<Result<(), String>>()?;
    let halted = ask_all(poller, QUIET_MAX, |answer| TakeoverMessage::Halt { answer })?;
    halted.into_iter().collect::<Result<(), String>>()?;
    // From the shard of a source to the owner of the path, and on to those of readers.
    for _ in 0..2 {
        ask_all(poller, RECORD_MAX, |answer| TakeoverMessage::Pass { answer })?;
    }
    Ok(())
}

/// The live paths that all shards of the other process have told.
#[derive(Default)]
pub(super) struct Paths {
    by_name: BTreeMap<String, Told>,
    batches: HashMap<u64, Arc<PacketBatch>>,
    inputs: Vec<(InputRecord, OwnedFd)>,
    /// When packets ceased to come.
    halted: Option<Mono>,
}

/// What is known of one path.
struct Told {
    generation: u32,
    description: DescriptionRecord,
    owner: Option<OwnerRecord>,
    /// Numbers of its batches.
    blocks: Vec<u64>,
    /// Source and arrival of the newest one.
    newest: Option<(u32, u64)>,
    /// Where its publisher goes, and the number under which it holds the path.
    source: Option<(ShardId, u32)>,
    /// Where its readers go.
    readers: Vec<ShardId>,
}

impl Paths {
    /// Adds what one shard has told.
    ///
    /// # Errors
    /// A sentence: the records cannot be.
    pub(super) fn add(&mut self, of: &mut ShardRecord, files: &mut Files) -> Result<(), String> {
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
                        told.source = Some((shard, publisher.generation));
                    }
                }
            }
        }
    }

    /// Gives each shard the paths that concern it.
    ///
    /// # Errors
    /// A sentence: the records cannot be.
    pub(super) fn share(mut self, mut shards: Vec<Taken>) -> Result<Vec<Taken>, String> {
        for (shard, taken) in (0_u8..).map(ShardId).zip(&shards) {
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
        let feeds = self.source.filter(|(_, generation)| *generation == self.generation);
        let path = TakenPath {
            name: name.into(),
            generation: Generation(self.generation),
            description: Arc::new(description),
            batches: list.into(),
            places: Arc::new(places),
            source: feeds.map(|(shard, _)| SourceRef { shard, number }),
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

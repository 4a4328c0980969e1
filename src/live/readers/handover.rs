//! Readers of live paths that move to another shard.
//!
//! ```text
//!  old shard: Readers::pack --> PackedReader: client, streams, place in the path's ring
//!  new shard: prepare_path, the path is here .. fits? --> Readers::unpack
//! ```
//! The new shard listens to the path before the reader leaves the old one, so its ring has what
//! comes meanwhile. Invariant: the next packet is the one that the old shard would have sent next.
//! Bound: the streams of one session.

use std::sync::Arc;

use crate::base::ids::SessionId;
use crate::base::time::Mono;
use crate::base::wheel::Timer;
use crate::live::core::handover::{Fit, PackedFeed};
use crate::live::core::message::OwnerRequest;
use crate::live::core::paths::Wanted;
use crate::live::hub::Hub;
use crate::live::multicast::member::Delivery;
use crate::live::readers::Readers;
use crate::live::readers::log::SkipsTold;
use crate::live::readers::reader::{LiveReader, LiveStream, ReaderState, destination};
use crate::poll::poll_table::EntryKey;
use crate::session::client::Client;
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;
use crate::session::handover::MoveRefusal;
use crate::session::outgoing::PackedOutgoing;
use crate::session::transport::Transport;

/// A reader on its way, without descriptors and keys of tables.
#[derive(Debug)]
pub struct PackedReader {
    client: Client,
    path: Arc<str>,
    /// Track and wire identity of each stream.
    streams: Vec<(u8, PackedOutgoing)>,
    state: ReaderState,
    report_due: Mono,
    feed: PackedFeed,
}

impl PackedReader {
    /// Id of the session.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.client.id
    }

    /// Transports of the streams; a pair is named by its place at home.
    #[must_use]
    pub fn transports(&self) -> Vec<Transport> {
        self.streams.iter().map(|(_, outgoing)| outgoing.transport).collect()
    }

    /// Name of the path.
    #[must_use]
    pub fn path(&self) -> &Arc<str> {
        &self.path
    }
}

impl Readers {
    /// Whether a reader can ever move.
    ///
    /// # Errors
    /// Why not.
    pub fn check_move(&self, cx: &Cx, index: u32) -> Result<(), MoveRefusal> {
        let reader = self.table.get(index as usize).ok_or(MoveRefusal::NoSession)?;
        if reader.client.told.is_some() {
            return Err(MoveRefusal::Lineup);
        }
        // It has ended, and waits for its turn to be told so.
        if cx.directory.find(reader.client.id).is_none() {
            return Err(MoveRefusal::Busy);
        }
        if reader.delivery != Delivery::Unicast {
            return Err(MoveRefusal::Multicast);
        }
        let id = reader.client.id;
        reader.streams.iter().try_for_each(|stream| cx.check_move(id, &stream.outgoing))
    }

    /// Whether nothing of a reader is under way: no PLAY waits, and its place can be named.
    #[must_use]
    pub fn is_at_rest(&self, hub: &mut Hub, index: u32) -> bool {
        let Some(reader) = self.table.get(index as usize) else { return false };
        !matches!(reader.state, ReaderState::Priming { .. })
            && hub.paths.path_of(reader.key).is_some_and(|path| path.can_pack(reader.key))
    }

    /// Takes a reader that is at rest from this shard. Its client's addresses stay in use.
    pub fn pack(&mut self, cx: &mut Cx, hub: &mut Hub, index: u32) -> Option<PackedReader> {
        let key = self.table.get(index as usize)?.key;
        let (feed, left) = hub.paths.path_of(key)?.pack_reader(key)?;
        let reader = self.table.try_remove(index as usize)?;
        hub.count_reader_end(&reader.path, &left);
        cx.wheel.cancel(reader.timer);
        self.backlog.forget_start(&reader.path, index);
        let id = reader.client.id;
        cx.directory.depart(id, reader.client.connection, SessionRef::Reader(index));
        cx.uncount_player(reader.state.shown());
        let streams = reader.streams.into_iter().map(|stream| {
            let transport = cx.depart_transport(id, stream.outgoing.transport);
            (stream.track, stream.outgoing.pack(transport))
        });
        Some(PackedReader {
            streams: streams.collect(),
            client: reader.client,
            path: reader.path,
            state: reader.state,
            report_due: reader.report_due,
            feed,
        })
    }

    /// Has the shard listen to a path. `None`: the owner was asked, and has not answered.
    pub fn prepare_path(&mut self, cx: &Cx, hub: &mut Hub, path: &Arc<str>) -> Option<bool> {
        if hub.paths.path(path).is_some() {
            // It stays for a while without readers.
            hub.paths.want(path, cx.path_limits(path), 0, cx.now);
            return Some(true);
        }
        if hub.paths.is_asked(path) {
            return None;
        }
        // A waiter that is nobody: its answer executes no command.
        let waiter = self.held.next_name();
        match hub.paths.want(path, cx.path_limits(path), waiter, cx.now) {
            Wanted::Here => Some(true),
            Wanted::TooMany => Some(false),
            Wanted::Requested => None,
            Wanted::Request => {
                let rules = cx.path_rules(path);
                hub.request(path, OwnerRequest::Subscribe { shard: cx.shard, rules });
                None
            }
        }
    }

    /// Whether a reader finds its packets here.
    ///
    /// # Errors
    /// `NoPath`, when the path is not here.
    pub fn fit(hub: &Hub, packed: &PackedReader) -> Result<Fit, MoveRefusal> {
        let path = hub.paths.path(&packed.path).ok_or(MoveRefusal::NoPath)?;
        Ok(path.fit(&packed.feed))
    }

    /// Takes a reader in that fits, whose connection has this entry here. False: the path has as
    /// many as it may, or the reader does not fit any more; it has ended.
    pub fn unpack(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        packed: PackedReader,
        connection: Option<EntryKey>,
    ) -> bool {
        let now = cx.now;
        let id = packed.id();
        let place = self.table.vacant_key();
        let index = u32::try_from(place).unwrap_or(u32::MAX);
        let transports: Vec<Transport> = packed
            .streams
            .iter()
            .map(|(_, outgoing)| cx.arrive_transport(id, outgoing.transport))
            .collect();
        let to: Vec<_> = transports.iter().map(|transport| destination(*transport)).collect();
        let entered = hub.paths.path_mut(&packed.path).and_then(|path| {
            let Fit::By(by) = path.fit(&packed.feed) else { return None };
            path.unpack_reader(&packed.feed, by, place as u64, &to)
        });
        let Some(key) = entered else { return false };
        let streams = packed.streams.into_iter().zip(&transports);
        let streams = streams.map(|((track, outgoing), transport)| {
            let mut outgoing = outgoing.unpack();
            outgoing.transport = *transport;
            LiveStream { track, outgoing }
        });
        let mut client = packed.client;
        client.connection = connection;
        let reader = LiveReader {
            client,
            path: packed.path,
            key,
            streams: streams.collect(),
            delivery: Delivery::Unicast,
            state: packed.state,
            serial: hub.next_serial(),
            wakes: None,
            timer: Timer::NONE,
            report_due: packed.report_due,
            skips_told: SkipsTold::default(),
        };
        hub.tally.enter(&reader.path);
        cx.count_player(reader.state.shown());
        self.table.insert(reader);
        cx.directory.enter(id, connection, SessionRef::Reader(index));
        cx.enter_transports(id, connection, SessionRef::Reader(index), &transports);
        hub.paths.queue(key);
        hub.is_ready = true;
        self.wake_reader(cx, index, now);
        true
    }
}

//! Readers of live paths that another process takes over.
//!
//! ```text
//!  old process: record --> ReaderRecord --> take_in: new process, whose path is here
//!               abandon: it is another process's
//! ```
//! Invariant: a record changes nothing of its reader, so it can go on. Bound: the streams of one
//! session.

use std::sync::Arc;

use crate::base::time::Mono;
use crate::base::wheel::Timer;
use crate::live::core::takeover::TakenPath;
use crate::live::hub::Hub;
use crate::live::multicast::member::Delivery;
use crate::live::readers::Readers;
use crate::live::readers::log::SkipsTold;
use crate::live::readers::reader::{LiveReader, LiveStream, ReaderState, destination};
use crate::poll::poll_table::EntryKey;
use crate::session::client::Client;
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;
use crate::session::outgoing::PackedOutgoing;
use crate::session::transport::Transport;
use crate::takeover::live::{ReaderRecord, ReaderStateRecord};

impl Readers {
    /// Whether no command of a reader is under way.
    #[must_use]
    pub fn is_quiet(&self, index: u32) -> bool {
        let reader = self.table.get(index as usize);
        reader.is_none_or(|reader| !matches!(reader.state, ReaderState::Priming { .. }))
    }

    /// For another process; `None` for what is not handed over. `pair_of` finds the place of a pair
    /// in the record of the shard.
    #[must_use]
    pub fn record(
        &self,
        hub: &Hub,
        index: u32,
        pair_of: &dyn Fn(u16) -> Option<u32>,
    ) -> Option<ReaderRecord> {
        let reader = self.table.get(index as usize)?;
        let state = match reader.state {
            ReaderState::Ready => ReaderStateRecord::Ready,
            ReaderState::Playing => ReaderStateRecord::Playing,
            ReaderState::Paused => ReaderStateRecord::Paused,
            ReaderState::Priming { .. } => return None,
        };
        if reader.delivery != Delivery::Unicast {
            return None;
        }
        let rtp = reader.streams.iter().map(|stream| stream.outgoing.record(pair_of));
        let path = hub.paths.path(&reader.path)?;
        let feed = path.record_reader(reader.key, rtp.collect::<Option<_>>()?)?;
        Some(ReaderRecord {
            client: reader.client.record(),
            path: reader.path.to_string(),
            state,
            report_ns: reader.report_due.0,
            pace: feed.pace,
            delay_ns: feed.delay_ns,
            skips: feed.skips,
            skipped: feed.skipped,
            sent: feed.sent,
            streams: feed.streams,
        })
    }

    /// Takes in a reader that another process has recorded.
    ///
    /// # Errors
    /// What does not fit.
    pub fn take_in(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        (taken, record): (&TakenPath, ReaderRecord),
        connection: Option<EntryKey>,
        pair_of: &dyn Fn(u32) -> Option<u16>,
    ) -> Result<(), &'static str> {
        let client = Client::resumed(cx, record.client.clone());
        let mut client = client.ok_or("it has no id")?;
        client.connection = connection;
        let id = client.id;
        let outgoing: Option<Vec<_>> = record
            .streams
            .iter()
            .map(|stream| PackedOutgoing::of(stream.rtp.clone(), pair_of))
            .collect();
        let outgoing = outgoing.ok_or("its sockets are missing")?;
        let tracks = record.streams.iter().map(|stream| stream.track);
        let streams = tracks.zip(outgoing).map(|(track, outgoing)| {
            let mut outgoing = outgoing.unpack();
            outgoing.transport = cx.arrive_transport(id, outgoing.transport);
            LiveStream { track, outgoing }
        });
        let streams: Vec<LiveStream> = streams.collect();
        let transports: Vec<Transport> =
            streams.iter().map(|stream| stream.outgoing.transport).collect();
        let to: Vec<_> = transports.iter().map(|transport| destination(*transport)).collect();
        let place = self.table.vacant_key();
        let index = u32::try_from(place).unwrap_or(u32::MAX);
        let path = hub.paths.path_mut(&taken.name).ok_or("its path is not here")?;
        let key = path.take_reader(&record, taken, place as u64, &to, cx.now);
        let key = key.ok_or("its path has other tracks, or too many readers")?;
        let state = match record.state {
            ReaderStateRecord::Ready => ReaderState::Ready,
            ReaderStateRecord::Playing => ReaderState::Playing,
            ReaderStateRecord::Paused => ReaderState::Paused,
        };
        if matches!(state, ReaderState::Playing) {
            path.go_on_with(key);
        }
        let reader = LiveReader {
            client,
            path: Arc::clone(&taken.name),
            key,
            streams,
            delivery: Delivery::Unicast,
            state,
            serial: hub.next_serial(),
            wakes: None,
            timer: Timer::NONE,
            report_due: Mono(record.report_ns),
            skips_told: SkipsTold::default(),
        };
        hub.tally.enter(&reader.path);
        cx.count_player(reader.state.shown());
        self.table.insert(reader);
        cx.directory.enter(id, connection, SessionRef::Reader(index));
        cx.enter_transports(id, connection, SessionRef::Reader(index), &transports);
        hub.paths.queue(key);
        hub.is_ready = true;
        self.wake_reader(cx, index, cx.now);
        Ok(())
    }

    /// Forgets a reader that another process has: nobody is told.
    pub fn abandon(&mut self, cx: &mut Cx, hub: &mut Hub, index: u32) {
        let Some(reader) = self.table.try_remove(index as usize) else { return };
        if let Some(left) = hub.paths.path_of(reader.key).and_then(|p| p.remove_reader(reader.key))
        {
            hub.count_reader_end(&reader.path, &left);
        }
        cx.wheel.cancel(reader.timer);
        self.backlog.forget_start(&reader.path, index);
        let id = reader.client.id;
        cx.directory.depart(id, reader.client.connection, SessionRef::Reader(index));
        cx.uncount_player(reader.state.shown());
        for stream in &reader.streams {
            cx.depart_transport(id, stream.outgoing.transport);
        }
    }
}

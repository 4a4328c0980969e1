//! The place of a reader in its path, as a record, and rings out of recorded batches.

use std::sync::Arc;

use crate::base::carrier::Carrier;
use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::time::Mono;
use crate::live::core::batch::{Generation, PacketBatch};
use crate::live::core::path::{LivePath, PathLimits, ReaderKey};
use crate::live::core::reader::{
    Cursor, FeedState, Place, Reader, ReaderCounts, ReaderStream, SkipCounts, To,
};
use crate::live::core::rewrite::{HeaderRewrite, LastSent, Origin};
use crate::live::core::ring::{BatchRing, RingLimits};
use crate::live::core::start::Pace;
use crate::live::core::takeover::block::block_id;
use crate::live::core::takeover::{TakenPath, clock_of, clock_record};
use crate::takeover::live::{
    LastSentRecord, PaceRecord, ReaderRecord, ReaderStateRecord, ReaderStreamRecord, RewriteRecord,
};
use crate::takeover::v1::OutgoingRecord;

/// What a path knows of a reader, for another process.
#[derive(Debug)]
pub struct RecordedFeed {
    /// When its packets are due.
    pub pace: PaceRecord,
    /// How far it is behind its source.
    pub delay_ns: i64,
    /// Skips, by reason.
    pub skips: [u64; 3],
    /// Packets that it was not sent.
    pub skipped: u64,
    /// Packets and bytes of payload that it was sent.
    pub sent: (u64, u64),
    /// Its streams, in order.
    pub streams: Vec<ReaderStreamRecord>,
}

impl LivePath {
    /// What is known of a reader, whose streams have these identities. `None`: there is no such
    /// reader, or it looks for its first packets.
    #[must_use]
    pub fn record_reader(&self, key: ReaderKey, rtp: Vec<OutgoingRecord>) -> Option<RecordedFeed> {
        let reader = self.reader(key)?;
        if matches!(reader.state, FeedState::Primed(_)) || rtp.len() != reader.streams.len() {
            return None;
        }
        let ReaderCounts { skipped, sent } = reader.counts();
        let Pace { wall, received, delay_ns } = reader.pace;
        let streams = reader.streams.iter().zip(rtp);
        Some(RecordedFeed {
            pace: PaceRecord { wall_ns: wall.0, received_ns: received.0, delay_ns },
            delay_ns: reader.delay_ns,
            skips: skipped.skips,
            skipped: skipped.packets,
            sent,
            streams: streams.map(|(stream, rtp)| stream_record(stream, &self.ring, rtp)).collect(),
        })
    }

    /// Number of the oldest batch that a reader still needs; that of the next one without any.
    #[must_use]
    pub fn needed_from(&self) -> u64 {
        let plays = |reader: &&Reader| reader.state == FeedState::Playing;
        let readers = self.readers.iter().map(|(_, (_, reader))| reader).filter(plays);
        let places = readers.flat_map(|reader| &reader.streams).map(|s| s.cursor.place.no);
        places.fold(self.ring.end_no(), u64::min).max(self.ring.first_no())
    }

    /// A path that another process has told.
    #[must_use]
    pub fn of_taken(taken: &TakenPath, limits: PathLimits, now: Mono) -> Self {
        let source = (taken.generation, Arc::clone(&taken.description));
        let mut path = Self::new(Arc::clone(&taken.name), source, Vec::new(), limits, now);
        path.ring = ring_of(taken, limits.ring, now);
        path
    }

    /// Takes a reader in; `to` has the destination of each stream. One whose next packets have not
    /// come skips. `None`: the path has as many as it may.
    pub fn take_reader(
        &mut self,
        record: &ReaderRecord,
        taken: &TakenPath,
        owner: u64,
        to: &[To],
        now: Mono,
    ) -> Option<ReaderKey> {
        let is_tcp = to.iter().any(|to| matches!(to, To::Channel(_)));
        let key = self.add_reader(owner, if is_tcp { Carrier::Tcp } else { Carrier::Udp }).ok()?;
        let tracks = Arc::clone(&self.description);
        let streams: Option<Vec<(ReaderStream, bool)>> = record
            .streams
            .iter()
            .zip(to)
            .map(|(stream, to)| {
                let spec = tracks.tracks.get(usize::from(stream.track))?;
                let fresh = ReaderStream::new(stream.track, spec.clock_rate_hz, spec.needs_sync);
                Some(stream_of(stream, fresh, *to, (&self.ring, taken)))
            })
            .collect();
        let Some(streams) = streams else {
            self.remove_reader(key);
            return None;
        };
        let (streams, are_behind): (Vec<ReaderStream>, Vec<bool>) = streams.into_iter().unzip();
        let (_, reader) = self.readers.get_mut(key.index as usize)?;
        reader.streams = streams;
        let PaceRecord { wall_ns, received_ns, delay_ns } = record.pace;
        reader.pace = Pace { wall: Mono(wall_ns), received: Mono(received_ns), delay_ns };
        reader.delay_ns = record.delay_ns;
        let skipped = SkipCounts { skips: record.skips, packets: record.skipped };
        reader.elsewhere = ReaderCounts { skipped, sent: record.sent };
        if record.state == ReaderStateRecord::Playing && are_behind.contains(&true) {
            // The packets between are not here: as a reader that was too late.
            let reason = reader.late_reason();
            self.totals.packets_skipped += reader.skip(&self.ring, now, reason);
            self.totals.skips[reason as usize] += 1;
        }
        Some(key)
    }

    /// A reader that was taken in is sent packets.
    pub fn go_on_with(&mut self, key: ReaderKey) {
        if let Some(reader) = self.reader_mut(key) {
            reader.state = FeedState::Playing;
        }
    }
}

impl BatchRing {
    /// The batches from a number on, the oldest first.
    pub fn batches_from(&self, no: u64) -> impl Iterator<Item = &Arc<PacketBatch>> {
        (no.max(self.first_no())..self.end_no()).filter_map(|no| self.batch(no))
    }
}

/// The numbers of blocks that two shards have told of one path, as one list. Both are in order; one
/// may have begun earlier, and one may have ended later. `is_newer`: the second one, as far as
/// times can tell.
#[must_use]
pub fn joined(first: Vec<u64>, second: Vec<u64>, is_newer: bool) -> Vec<u64> {
    let has = |list: &[u64], id: Option<&u64>| id.is_some_and(|id| list.contains(id));
    let is_newer = match (has(&second, first.last()), has(&first, second.last())) {
        (true, false) => true,
        (false, true) => false,
        _ => is_newer,
    };
    let (older, newer) = if is_newer { (first, second) } else { (second, first) };
    let begins = newer.first().and_then(|id| older.iter().position(|of| of == id));
    match (begins, newer.is_empty()) {
        (_, true) => older,
        (Some(count), false) => older.into_iter().take(count).chain(newer).collect(),
        (None, false) => newer,
    }
}

/// A ring with the batches of a path: their numbers are their places.
pub(super) fn ring_of(taken: &TakenPath, limits: RingLimits, now: Mono) -> BatchRing {
    let mut ring = BatchRing::new(taken.description.sync_track(), limits);
    for batch in taken.batches.iter() {
        ring.push(Arc::clone(batch), now);
    }
    if ring.newest().is_some_and(|newest| newest.generation() != taken.generation) {
        ring.break_off();
    }
    ring
}

fn stream_record(
    stream: &ReaderStream,
    ring: &BatchRing,
    rtp: OutgoingRecord,
) -> ReaderStreamRecord {
    let id_of = |no: u64| ring.batch(no).map(block_id);
    let Cursor { place, rewrite, last_sent, rewrite_from, is_awaiting, awaiting_from, is_broken } =
        stream.cursor;
    // What has left the ring is named by a batch that is none.
    let is_behind = place.no < ring.first_no();
    ReaderStreamRecord {
        track: stream.track,
        rtp,
        sent: (
            stream.sent_before.0 + stream.packets_sent,
            stream.sent_before.1 + stream.payload_bytes_sent,
        ),
        is_datagram: stream.is_datagram,
        has_begun: stream.has_begun,
        block: if is_behind { Some(0) } else { id_of(place.no) },
        behind: place.no.checked_sub(1).filter(|_| place.no >= ring.end_no()).and_then(id_of),
        run: u32::try_from(place.run).unwrap_or(u32::MAX),
        packet: place.packet,
        rewrite: rewrite.as_ref().map(rewrite_record),
        rewrite_from: id_of(rewrite_from.0).map(|id| (id, rewrite_from.1)),
        last_sent: last_sent.as_ref().map(last_sent_record),
        is_awaiting,
        awaiting_from_ns: awaiting_from.map(|at| at.0),
        is_broken,
    }
}

/// A stream, and whether its next packets have not come.
fn stream_of(
    record: &ReaderStreamRecord,
    fresh: ReaderStream,
    to: To,
    (ring, taken): (&BatchRing, &TakenPath),
) -> (ReaderStream, bool) {
    let no_of = |id: u64| taken.places.get(&id).copied().filter(|no| *no >= ring.first_no());
    let mut made = fresh;
    made.sent_before = record.sent;
    made.is_datagram = record.is_datagram;
    made.has_begun = record.has_begun;
    made.to = to;
    let before = |no: u64| Place { no, run: 0, packet: 0 };
    let place = match record.block {
        None => match record.behind {
            // What another shard has told behind it is sent as well.
            Some(id) if ring.newest().is_some() => {
                let no = taken.places.get(&id).map(|no| no + 1);
                no.filter(|no| *no >= ring.first_no()).map(before)
            }
            Some(_) | None => Some(before(ring.end_no())),
        },
        Some(id) => no_of(id).and_then(|no| {
            let run = usize::try_from(record.run).ok()?;
            let runs = made.runs(ring.batch(no)?);
            let has_packet = runs.get(run).is_some_and(|of| record.packet < of.packet_count);
            (has_packet || record.packet == 0).then_some(Place { no, run, packet: record.packet })
        }),
    };
    made.cursor = Cursor {
        place: place.unwrap_or_else(|| before(ring.end_no())),
        rewrite: record.rewrite.map(rewrite_of),
        rewrite_from: record
            .rewrite_from
            .and_then(|(id, offset)| Some((no_of(id)?, offset)))
            .unwrap_or((0, 0)),
        last_sent: record.last_sent.map(last_sent_of),
        is_awaiting: record.is_awaiting,
        awaiting_from: record.awaiting_from_ns.map(Mono),
        is_broken: record.is_broken,
    };
    if place.is_none() {
        made.move_to(ring.first_no());
    }
    (made, place.is_none())
}

pub(super) fn rewrite_record(rewrite: &HeaderRewrite) -> RewriteRecord {
    let HeaderRewrite { origin, ssrc, seq_delta, ts_delta, payload_type } = *rewrite;
    RewriteRecord {
        generation: origin.generation.0,
        source_ssrc: origin.ssrc.0,
        ssrc: ssrc.0,
        seq_delta,
        ts_delta,
        payload_type,
    }
}

pub(super) fn rewrite_of(record: RewriteRecord) -> HeaderRewrite {
    let RewriteRecord { generation, source_ssrc, ssrc, seq_delta, ts_delta, payload_type } = record;
    let origin = Origin { generation: Generation(generation), ssrc: Ssrc(source_ssrc) };
    HeaderRewrite { origin, ssrc: Ssrc(ssrc), seq_delta, ts_delta, payload_type }
}

pub(super) fn last_sent_record(last: &LastSent) -> LastSentRecord {
    LastSentRecord {
        rewrite: rewrite_record(&last.rewrite),
        seq: last.seq.0,
        ts: last.ts.0,
        received_ns: last.received.0,
        clock: last.clock.map(clock_record),
    }
}

pub(super) fn last_sent_of(record: LastSentRecord) -> LastSent {
    LastSent {
        rewrite: rewrite_of(record.rewrite),
        seq: SeqNo(record.seq),
        ts: RtpTs(record.ts),
        received: Mono(record.received_ns),
        clock: record.clock.map(clock_of),
    }
}

//! A batch: packets of a source that arrived together, in one block, cut into runs.
//!
//! ```text
//! bytes    [rtp|payload][rtp|payload][rtp|pay]  [rtp|payload][rtp|p]  [rtp|sound]
//! packets   0            1            2          3            4        5
//! runs     [ track 0: 3 packets, 1412 bytes ]   [ track 0: 2       ]  [ track 1 ]
//! ```
//! Header and payload are stored as received; the packets of a track are adjacent, in order of
//! arrival. A run is packets of one size with at most one shorter packet at its end
//! (`UDP_SEGMENT`), so a run is one range of bytes and one send, however many readers there are.
//!
//! A track that has had packets longer than a datagram is stored twice in the batch: as received,
//! and in the form for readers over UDP (`datagrams`). Each form has bytes, packets and runs of its
//! own.
//!
//! Invariants: a batch is immutable once built; runs cover all packets, each once, in order; a
//! run's packets are of one track and one SSRC; the first packet of a key frame begins a run.
//! Bounds: `BATCH_PACKETS_MAX` packets, `BATCH_BYTES_MAX` bytes; `RUN_PACKETS_MAX` and
//! `RUN_BYTES_MAX` a run. DESIGN section 5.2.

use std::ops::Range;

use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::time::Mono;
use crate::live::core::clock::ClockPoint;
use crate::live::core::datagrams::DatagramForm;
use crate::live::core::held::Held;
use crate::live::core::limits::{
    BATCH_BYTES_MAX, BATCH_PACKETS_MAX, LIVE_TRACKS_MAX, PACKET_BYTES_MAX, RUN_BYTES_MAX,
    RUN_PACKETS_MAX,
};
use crate::rtp::HEADER_BYTES;

/// Number of a path's source: it grows with each source, so packets of an older one are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u32);

/// Whether a reader can start at a packet: see `BatchBuilder::note_entry`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Entry {
    /// No reader can start here.
    #[default]
    Nothing,
    /// A decoder can start with this packet.
    Start,
    /// Tables (MPEG-TS) that a decoder needs before the key frame that follows them. The key frame
    /// may follow at once, later, or after other tables.
    Tables,
    /// The key frame after the tables: readers start with the newest tables before it.
    Picture,
}

impl Entry {
    /// Whether a waiting reader may be sent this packet first.
    #[must_use]
    pub fn is_sync(self) -> bool {
        matches!(self, Self::Start | Self::Tables)
    }
}

/// A packet as a source hands it over, with its header parsed.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Index of the path's track.
    pub track: u8,
    /// SSRC to write into the header: the source's own, or the SSRC of the stream that it
    /// continues.
    pub ssrc: Ssrc,
    /// Sequence number in the header.
    pub seq: SeqNo,
    /// RTP time in the header.
    pub ts: RtpTs,
    /// Marker bit in the header.
    pub marker: bool,
    /// Bytes in front of the payload: fixed header, CSRCs, extension.
    pub header_bytes: u16,
    /// The packet begins a key frame: a decoder can start with it.
    pub is_sync: bool,
    /// The whole packet.
    pub bytes: &'a [u8],
}

/// One packet of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LivePacket {
    /// Offset from the start of the batch's bytes.
    pub offset: u32,
    /// Length, header included.
    pub bytes: u16,
    /// Bytes in front of the payload.
    pub header_bytes: u16,
    /// Sequence number as received.
    pub seq: SeqNo,
    /// RTP time as received.
    pub ts: RtpTs,
    /// Marker bit as received.
    pub marker: bool,
    /// The packet begins a key frame: a decoder can start with it.
    pub is_sync: bool,
}

impl LivePacket {
    /// Range of the packet in its batch's bytes, without the packet's first `bytes`.
    #[must_use]
    pub fn range_behind(&self, bytes: usize) -> Range<usize> {
        let first = self.offset as usize;
        first + bytes.min(usize::from(self.bytes))..first + usize::from(self.bytes)
    }
}

/// Packets that are sent with one send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveRun {
    /// Index of the first packet in the batch.
    pub first_packet: u16,
    /// Number of packets, at least 1.
    pub packet_count: u16,
    /// Bytes of each packet but the last, which may be shorter.
    pub segment_bytes: u16,
    /// Offset in the batch's bytes.
    pub offset: u32,
    /// Length of all packets together.
    pub bytes: u32,
    /// Length of all payloads together, without what precedes each payload.
    pub payload_bytes: u32,
    /// SSRC of all packets.
    pub ssrc: Ssrc,
    /// The first packet begins a key frame: a decoder can start with it.
    pub is_sync: bool,
}

/// Immutable packets of one source, cut into runs: see the module.
#[derive(Debug, PartialEq, Eq)]
pub struct PacketBatch {
    pub(super) generation: Generation,
    pub(super) received: Mono,
    pub(super) packets: Box<[LivePacket]>,
    pub(super) runs: Box<[LiveRun]>,
    pub(super) tracks: Box<[TrackSpan]>,
    pub(super) bytes: Box<[u8]>,
    pub(super) notes: EntryNotes,
    pub(super) held: Held,
}

/// One bit for each track: tables whose key frame is still missing, key frames of earlier tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct EntryNotes {
    pub(super) awaiting: u16,
    pub(super) completing: u16,
    /// Tracks that are stored twice in the batch.
    pub(super) with_datagrams: u16,
}

/// The part of a batch that belongs to one track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TrackSpan {
    pub(super) track: u8,
    pub(super) runs: Range<usize>,
    pub(super) clock: Option<ClockPoint>,
}

impl PacketBatch {
    /// Generation of the source that sent the batch.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Arrival of the first packet.
    #[must_use]
    pub fn received(&self) -> Mono {
        self.received
    }

    /// The runs of a track, in order.
    #[must_use]
    pub fn runs_of(&self, track: u8) -> &[LiveRun] {
        let span = self.tracks.iter().find(|span| span.track == track);
        span.and_then(|span| self.runs.get(span.runs.clone())).unwrap_or_default()
    }

    /// The runs of a track in the form for readers over UDP.
    #[must_use]
    pub fn datagram_runs_of(&self, track: u8) -> &[LiveRun] {
        let has_own = self.notes.with_datagrams & track_bit(track) != 0;
        self.runs_of(if has_own { track | DATAGRAMS } else { track })
    }

    /// The clock of a track as known when the batch was built; `None` for a track without packets
    /// in the batch.
    #[must_use]
    pub fn clock_of(&self, track: u8) -> Option<ClockPoint> {
        self.tracks.iter().find(|span| span.track == track)?.clock
    }

    /// The packets of a run of this batch.
    #[must_use]
    pub fn packets_of(&self, run: &LiveRun) -> &[LivePacket] {
        let first = usize::from(run.first_packet);
        self.packets.get(first..first + usize::from(run.packet_count)).unwrap_or_default()
    }

    /// A packet, header and payload, as received.
    #[must_use]
    pub fn packet_bytes(&self, packet: &LivePacket) -> &[u8] {
        let first = packet.offset as usize;
        self.bytes.get(first..first + usize::from(packet.bytes)).unwrap_or_default()
    }

    /// The bytes of a run.
    #[must_use]
    pub fn run_bytes(&self, run: &LiveRun) -> &[u8] {
        let first = run.offset as usize;
        self.bytes.get(first..first + run.bytes as usize).unwrap_or_default()
    }

    /// The bytes in a range that a packet or run gave. The address of these bytes does not change
    /// while the batch lives.
    #[must_use]
    pub fn bytes_in(&self, range: Range<usize>) -> Option<&[u8]> {
        self.bytes.get(range)
    }

    /// Number of packets.
    #[must_use]
    pub fn packet_count(&self) -> usize {
        self.packets.len()
    }

    /// Memory of the batch, bookkeeping included.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.bytes.len()
            + size_of_val(&*self.packets)
            + size_of_val(&*self.runs)
            + size_of_val(&*self.tracks)
    }

    /// Whether readers can start at a run of the track.
    #[must_use]
    pub fn has_sync(&self, track: u8) -> bool {
        self.runs_of(track).iter().any(|run| run.is_sync)
    }

    /// Whether the track has tables whose key frame is in a later batch.
    #[must_use]
    pub fn awaits_picture(&self, track: u8) -> bool {
        self.notes.awaiting & track_bit(track) != 0
    }

    /// Whether the batch has a key frame of the track whose tables are in an earlier batch.
    #[must_use]
    pub fn completes_start(&self, track: u8) -> bool {
        self.notes.completing & track_bit(track) != 0
    }
}

/// Offset of the SSRC in the RTP header.
const SSRC_AT: usize = 8;
const PADDING_BIT: u8 = 0x20;
pub(super) const MARKER_BIT: u8 = 0x80;

/// Bit that marks the packets of a track in the form for readers over UDP.
pub(super) const DATAGRAMS: u8 = 1 << 7;

fn track_bit(track: u8) -> u16 {
    1_u16.checked_shl(track.into()).unwrap_or(0)
}

const _: () = assert!(LIVE_TRACKS_MAX <= 16, "a bit each");

/// Why a packet is not taken into a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The caller builds the waiting batch and pushes again.
    #[error("the batch is full")]
    Full,
    /// The packet is longer than any batch can hold.
    #[error("a packet of {bytes} bytes is longer than {max}")]
    PacketTooLong {
        /// Length of the packet.
        bytes: usize,
        /// `PACKET_BYTES_MAX`.
        max: usize,
    },
    /// The header is longer than the packet, or shorter than an RTP header.
    #[error("{header_bytes} bytes of header in a packet of {bytes}")]
    HeaderLength {
        /// Length of the header.
        header_bytes: u16,
        /// Length of the packet.
        bytes: usize,
    },
}

/// Collects packets for the next batch. The memory is reused for the batch after that.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    waiting: Vec<Waiting>,
    /// Bytes of the packets in order of arrival.
    scratch: Vec<u8>,
    received: Option<Mono>,
    notes: EntryNotes,
    /// Tracks with a complete start in this batch.
    started: u16,
    arrival_no: u32,
}

/// A packet that waits; the offset is one into `scratch`.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    track: u8,
    /// Number of the received packet that this packet was made from.
    arrival_no: u32,
    ssrc: Ssrc,
    packet: LivePacket,
}

impl BatchBuilder {
    /// Takes a packet that arrived at `now`.
    ///
    /// # Errors
    /// `Full` when the batch has no room, otherwise the packet fits in no batch.
    pub fn push(&mut self, arrival: &Arrival<'_>, now: Mono) -> Result<(), BatchError> {
        self.push_with(arrival, None, now)
    }

    /// As `push`, with the form of the packet for readers over UDP, where that form differs.
    ///
    /// # Errors
    /// As for `push`.
    pub fn push_with(
        &mut self,
        arrival: &Arrival<'_>,
        form: Option<DatagramForm<'_>>,
        now: Mono,
    ) -> Result<(), BatchError> {
        // A stream that begins after a long packet of the stream before is stored twice as well:
        // readers over UDP read no other form of the track.
        let stands_twice = self.notes.with_datagrams & track_bit(arrival.track) != 0;
        let form = form.or_else(|| stands_twice.then_some(DatagramForm::Renumbered(arrival.seq)));
        let len = arrival.bytes.len();
        let (Ok(bytes), true) = (u16::try_from(len), len <= PACKET_BYTES_MAX) else {
            return Err(BatchError::PacketTooLong { bytes: len, max: PACKET_BYTES_MAX });
        };
        if arrival.header_bytes > bytes || usize::from(arrival.header_bytes) < HEADER_BYTES {
            let header_bytes = arrival.header_bytes;
            return Err(BatchError::HeaderLength { header_bytes, bytes: len });
        }
        let (more_packets, more_bytes) = match form {
            None | Some(DatagramForm::LeftOut) => (0, 0),
            Some(DatagramForm::Renumbered(_)) => (1, len),
            Some(DatagramForm::Cut(_, pieces)) => {
                let count = pieces.count();
                (count, pieces.bytes() + count * usize::from(arrival.header_bytes))
            }
        };
        let (earlier_packets, earlier_bytes) = match form {
            Some(_) => self.without_form(arrival.track),
            None => (0, 0),
        };
        let (more_packets, more_bytes) =
            (more_packets + earlier_packets, more_bytes + earlier_bytes);
        let has_room = self.waiting.len() + more_packets < BATCH_PACKETS_MAX
            && self.scratch.len() + len + more_bytes <= BATCH_BYTES_MAX;
        let (Ok(offset), true) = (u32::try_from(self.scratch.len()), has_room) else {
            return Err(BatchError::Full);
        };
        let &Arrival { track, ssrc, seq, ts, marker, header_bytes, is_sync, .. } = arrival;
        let packet = LivePacket { offset, bytes, header_bytes, seq, ts, marker, is_sync };
        let at = self.scratch.len() + SSRC_AT;
        self.scratch.extend_from_slice(arrival.bytes);
        if let Some(came) = self.scratch.get_mut(at..at + 4) {
            came.copy_from_slice(&ssrc.0.to_be_bytes());
        }
        self.arrival_no = self.arrival_no.wrapping_add(1);
        if form.is_some() {
            self.form_earlier(track);
        }
        self.waiting.push(Waiting { track, arrival_no: self.arrival_no, ssrc, packet });
        if let Some(form) = form {
            self.push_form(arrival, packet, form);
        }
        self.received.get_or_insert(now);
        Ok(())
    }

    /// Packets and bytes of a track that are stored only as received: all of them, until the first
    /// packet of the track with a form of its own for readers over UDP.
    fn without_form(&self, track: u8) -> (usize, usize) {
        if self.notes.with_datagrams & track_bit(track) != 0 {
            return (0, 0);
        }
        let its = self.waiting.iter().filter(|waiting| waiting.track == track);
        its.fold((0, 0), |(count, bytes), waiting| {
            (count + 1, bytes + usize::from(waiting.packet.bytes))
        })
    }

    /// Adds the second form of the track's packets that are in the batch already: as received.
    fn form_earlier(&mut self, track: u8) {
        if self.notes.with_datagrams & track_bit(track) != 0 {
            return;
        }
        for place in 0..self.waiting.len() {
            let Some(&waiting) = self.waiting.get(place) else { break };
            if waiting.track == track {
                self.waiting.push(Waiting { track: track | DATAGRAMS, ..waiting });
            }
        }
    }

    /// Adds the form for readers over UDP of the packet that was pushed last. Each piece gets the
    /// packet's header; the last piece keeps the marker, the first piece begins the key frame.
    fn push_form(&mut self, arrival: &Arrival<'_>, came: LivePacket, form: DatagramForm<'_>) {
        self.notes.with_datagrams |= track_bit(arrival.track);
        match form {
            DatagramForm::LeftOut => {}
            DatagramForm::Renumbered(seq) => {
                self.push_datagram(arrival, LivePacket { seq, ..came }, None)
            }
            DatagramForm::Cut(seq, pieces) => {
                let last = pieces.count().saturating_sub(1);
                for (place, piece) in pieces.iter().enumerate() {
                    // Bounded by `Pieces`.
                    let seq = seq.plus(u16::try_from(place).unwrap_or(u16::MAX));
                    let (is_sync, marker) =
                        (came.is_sync && place == 0, came.marker && place == last);
                    let packet = LivePacket { seq, is_sync, marker, ..came };
                    self.push_datagram(arrival, packet, Some(piece));
                }
            }
        }
    }

    /// `payload` is `None` for a packet that differs in its sequence number only.
    fn push_datagram(&mut self, arrival: &Arrival<'_>, packet: LivePacket, payload: Option<&[u8]>) {
        let offset = self.scratch.len();
        match payload {
            None => self.scratch.extend_from_slice(arrival.bytes),
            Some(payload) => {
                let header = arrival.bytes.get(..usize::from(packet.header_bytes));
                self.scratch.extend_from_slice(header.unwrap_or_default());
                self.scratch.extend_from_slice(payload);
            }
        }
        let bytes = u16::try_from(self.scratch.len() - offset).unwrap_or(u16::MAX);
        if let Some(header) = self.scratch.get_mut(offset..).and_then(<[u8]>::first_chunk_mut) {
            let header: &mut [u8; HEADER_BYTES] = header;
            if payload.is_some() {
                // The padding was at the end of the packet as received.
                header[0] &= !PADDING_BIT;
                header[1] = header[1] & !MARKER_BIT | if packet.marker { MARKER_BIT } else { 0 };
            }
            header[2..4].copy_from_slice(&packet.seq.0.to_be_bytes());
            header[SSRC_AT..].copy_from_slice(&arrival.ssrc.0.to_be_bytes());
        }
        let packet =
            LivePacket { offset: u32::try_from(offset).unwrap_or(u32::MAX), bytes, ..packet };
        let (track, arrival_no, ssrc) = (arrival.track | DATAGRAMS, self.arrival_no, arrival.ssrc);
        self.waiting.push(Waiting { track, arrival_no, ssrc, packet });
    }

    /// Records whether readers can start at the packet of `track` that was pushed last.
    pub fn note_entry(&mut self, track: u8, entry: Entry) {
        let bit = track_bit(track);
        if entry.is_sync() && self.notes.awaiting & bit != 0 {
            // No reader starts at the older tables of this batch, nor at packets after them.
            let is_of_track = |waiting: &&mut Waiting| waiting.track & !DATAGRAMS == track;
            let mut newest = None;
            for waiting in self.waiting.iter_mut().rev().filter(is_of_track) {
                if *newest.get_or_insert(waiting.arrival_no) != waiting.arrival_no {
                    waiting.packet.is_sync = false;
                }
            }
        }
        match entry {
            Entry::Nothing => {}
            Entry::Start => {
                self.started |= bit;
                self.notes.awaiting &= !bit;
            }
            Entry::Tables => self.notes.awaiting |= bit & !self.started,
            Entry::Picture if self.notes.awaiting & bit != 0 => {
                self.notes.awaiting &= !bit;
                self.started |= bit;
            }
            Entry::Picture => self.notes.completing |= bit & !self.started,
        }
    }

    /// Arrival of the first packet that waits.
    #[must_use]
    pub fn received(&self) -> Option<Mono> {
        self.received
    }

    /// Number of packets that wait.
    #[must_use]
    pub fn packet_count(&self) -> usize {
        self.waiting.len()
    }

    /// Builds a batch of the waiting packets; `None` without any. `clock_of` returns what is known
    /// of a track's clock.
    pub fn build(
        &mut self,
        generation: Generation,
        clock_of: impl Fn(u8) -> Option<ClockPoint>,
    ) -> Option<PacketBatch> {
        let received = self.received.take()?;
        // A stable sort: within a track packets stay in order of arrival.
        self.waiting.sort_by_key(|waiting| waiting.track);
        let mut bytes = Vec::with_capacity(self.scratch.len());
        let mut packets = Vec::with_capacity(self.waiting.len());
        let mut cut = Cut::default();
        for waiting in self.waiting.drain(..) {
            let from = waiting.packet.offset as usize;
            let copied = self.scratch.get(from..from + usize::from(waiting.packet.bytes));
            let offset = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(copied.unwrap_or_default());
            let packet = LivePacket { offset, ..waiting.packet };
            if cut.tracks.last().is_none_or(|span| span.track != waiting.track) {
                cut.begin_track(waiting.track, clock_of(waiting.track & !DATAGRAMS));
            }
            cut.take(packets.len(), &packet, waiting.ssrc);
            packets.push(packet);
        }
        self.scratch.clear();
        self.started = 0;
        let mut batch = PacketBatch {
            notes: std::mem::take(&mut self.notes),
            generation,
            received,
            packets: packets.into_boxed_slice(),
            runs: cut.runs.into_boxed_slice(),
            tracks: cut.tracks.into_boxed_slice(),
            bytes: bytes.into_boxed_slice(),
            held: Held::default(),
        };
        batch.held = Held::new(batch.memory_bytes());
        Some(batch)
    }
}

/// Cuts packets into runs.
#[derive(Debug, Default)]
pub(super) struct Cut {
    pub(super) runs: Vec<LiveRun>,
    pub(super) tracks: Vec<TrackSpan>,
}

impl Cut {
    pub(super) fn begin_track(&mut self, track: u8, clock: Option<ClockPoint>) {
        let runs = self.runs.len()..self.runs.len();
        self.tracks.push(TrackSpan { track, runs, clock });
    }

    pub(super) fn take(&mut self, index: usize, packet: &LivePacket, ssrc: Ssrc) {
        let Some(span) = self.tracks.last_mut() else { return };
        let payload_bytes = u32::from(packet.bytes.saturating_sub(packet.header_bytes));
        let last = self.runs.get_mut(span.runs.clone()).and_then(<[LiveRun]>::last_mut);
        if let Some(run) = last.filter(|run| run.has_room_for(packet, ssrc)) {
            run.packet_count += 1;
            run.bytes += u32::from(packet.bytes);
            run.payload_bytes += payload_bytes;
            return;
        }
        self.runs.push(LiveRun {
            // Bounded by `BATCH_PACKETS_MAX`.
            first_packet: u16::try_from(index).unwrap_or(u16::MAX),
            packet_count: 1,
            segment_bytes: packet.bytes,
            offset: packet.offset,
            bytes: u32::from(packet.bytes),
            payload_bytes,
            ssrc,
            is_sync: packet.is_sync,
        });
        span.runs.end = self.runs.len();
    }
}

impl LiveRun {
    fn has_room_for(&self, packet: &LivePacket, ssrc: Ssrc) -> bool {
        let is_full = u32::from(self.segment_bytes) * u32::from(self.packet_count);
        // A shorter packet ends its run.
        let has_tail = self.bytes < is_full;
        !has_tail
            && !packet.is_sync
            && self.ssrc == ssrc
            && packet.bytes <= self.segment_bytes
            && self.packet_count < RUN_PACKETS_MAX
            && self.bytes + u32::from(packet.bytes) <= RUN_BYTES_MAX
    }
}

#[cfg(test)]
pub(in crate::live::core) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A packet of `len` bytes whose bytes say which one it is.
    pub(in crate::live::core) fn packet(seq: u16, ts: u32, ssrc: u32, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len.max(12)];
        let mut header = [0; 12];
        crate::rtp::write_header(&mut header, false, 96, SeqNo(seq), RtpTs(ts), Ssrc(ssrc));
        bytes[..12].copy_from_slice(&header);
        for (at, byte) in bytes[12..].iter_mut().enumerate() {
            *byte = u8::try_from((at + usize::from(seq)) % 251).unwrap();
        }
        bytes
    }

    pub(in crate::live::core) fn arrival(bytes: &[u8], track: u8, is_sync: bool) -> Arrival<'_> {
        let be32 = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        Arrival {
            track,
            ssrc: Ssrc(be32(8)),
            seq: SeqNo(u16::from_be_bytes([bytes[2], bytes[3]])),
            ts: RtpTs(be32(4)),
            marker: false,
            header_bytes: 12,
            is_sync,
            bytes,
        }
    }

    fn built(sizes: &[(u8, usize, bool)]) -> PacketBatch {
        let mut builder = BatchBuilder::default();
        for (seq, (track, len, is_sync)) in (0_u16..).zip(sizes) {
            let bytes = packet(seq, 0, u32::from(*track), *len);
            builder.push(&arrival(&bytes, *track, *is_sync), Mono(7)).unwrap();
        }
        builder.build(Generation(1), |_| None).unwrap()
    }

    fn shapes(batch: &PacketBatch, track: u8) -> Vec<(u16, u16, u32)> {
        let runs = batch.runs_of(track).iter();
        runs.map(|run| (run.packet_count, run.segment_bytes, run.bytes)).collect()
    }

    #[test]
    fn frame_of_equal_packets_with_a_tail_is_one_run_whatever_comes_in_between() {
        let video = (0, 1_400, false);
        let batch = built(&[video, (1, 200, false), video, video, (1, 210, false), (0, 90, false)]);
        assert_eq!(shapes(&batch, 0), [(4, 1_400, 4_290)]);
        assert_eq!(shapes(&batch, 1), [(1, 200, 200), (1, 210, 210)]);
        assert_eq!(batch.runs_of(2), []);
        assert_eq!(batch.received(), Mono(7));
    }

    #[test]
    fn run_ends_behind_a_shorter_packet_before_a_longer_one_and_at_a_sync_sample() {
        let sizes = [40, 20, 1_400, 1_400, 300, 300, 1_400].map(|len| (0, len, false));
        assert_eq!(
            shapes(&built(&sizes), 0),
            [(2, 40, 60), (3, 1_400, 3_100), (1, 300, 300), (1, 1_400, 1_400)]
        );
        let batch = built(&[(0, 900, false), (0, 900, true), (0, 900, false)]);
        assert_eq!(shapes(&batch, 0), [(1, 900, 900), (2, 900, 1_800)]);
        assert!(batch.has_sync(0) && !batch.has_sync(1));
    }

    #[test]
    fn full_batch_returns_the_packet_and_accepts_it_after_build() {
        let mut builder = BatchBuilder::default();
        let bytes = packet(1, 2, 3, 100);
        for _ in 0..BATCH_PACKETS_MAX {
            builder.push(&arrival(&bytes, 0, false), Mono(1)).unwrap();
        }
        assert_eq!(builder.push(&arrival(&bytes, 0, false), Mono(2)), Err(BatchError::Full));
        assert_eq!(
            builder.build(Generation(0), |_| None).unwrap().packet_count(),
            BATCH_PACKETS_MAX
        );
        builder.push(&arrival(&bytes, 0, false), Mono(2)).unwrap();
        assert_eq!((builder.received(), builder.packet_count()), (Some(Mono(2)), 1));
        let long = vec![0; PACKET_BYTES_MAX + 1];
        let too_long = builder.push(&arrival(&long, 0, false), Mono(2));
        assert!(matches!(too_long, Err(BatchError::PacketTooLong { .. })));
        for header_bytes in [0, 11, 101] {
            let lying = Arrival { header_bytes, ..arrival(&bytes, 0, false) };
            let refused = builder.push(&lying, Mono(2));
            assert!(matches!(refused, Err(BatchError::HeaderLength { .. })));
        }
    }

    #[test]
    fn builder_without_packets_builds_nothing() {
        assert_eq!(BatchBuilder::default().build(Generation(0), |_| None), None);
    }

    proptest! {
        #[test]
        fn runs_cover_every_packet_once_in_order_and_can_be_cut_apart_again(
            sizes in prop::collection::vec(
                (0_u8..3, prop_oneof![Just(1_400_usize), 12_usize..2_048], prop::bool::weighted(0.1)),
                1..200,
            ),
        ) {
            let batch = built(&sizes);
            for track in 0..3 {
                let mut found = Vec::new();
                for run in batch.runs_of(track) {
                    prop_assert!(run.packet_count <= RUN_PACKETS_MAX && run.bytes <= RUN_BYTES_MAX);
                    // What the kernel does with UDP_SEGMENT.
                    let cut: Vec<_> =
                        batch.run_bytes(run).chunks(usize::from(run.segment_bytes)).collect();
                    let packets = batch.packets_of(run);
                    prop_assert_eq!(cut.len(), packets.len());
                    for (segment, packet) in cut.into_iter().zip(packets) {
                        prop_assert_eq!(segment, batch.packet_bytes(packet));
                        found.push(segment.to_vec());
                    }
                    prop_assert_eq!(run.is_sync, packets[0].is_sync);
                    prop_assert!(packets[1..].iter().all(|packet| !packet.is_sync));
                    let payload: u32 = packets.iter().map(|p| u32::from(p.bytes) - 12).sum();
                    prop_assert_eq!(run.payload_bytes, payload);
                }
                let sent: Vec<_> = (0_u16..).zip(&sizes).filter(|(_, size)| size.0 == track)
                    .map(|(seq, size)| packet(seq, 0, u32::from(track), size.1)).collect();
                prop_assert_eq!(found, sent);
            }
        }
    }
}

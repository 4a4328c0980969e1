//! What is sent: a film's packets in the server's own windows, cut into runs as the server does.
//!
//! ```text
//! frame   [due, ticks | runs 0..2]
//! run     [packets 0..16, 1412 bytes each]  [packets 16..18, a tail]
//! packet  [marker | parts: copied FU header, range of the map]
//! ```
//! All of it is worked out before the first send: a send only copies headers and addresses.
//! Invariant: a run's packets have one size, but for a shorter last one.
//! Bounds: those of a run, [`RUN_PACKETS_MAX`], [`COPIED_BYTES_MAX`], [`PARTS_MAX`].
//! DESIGN section 6.3.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use headend::mapped::MappedFile;
use headend::media::asset::{Asset, Track};
use headend::media::container::open_with;
use headend::media::packetize::{WindowJob, window_count};
use headend::media::window::{PacketWindow, Piece, WindowKey, WindowKind};
use headend::rtp::HEADER_BYTES;

use crate::Failure;

/// Packets in one run at most.
pub(crate) const RUN_PACKETS_MAX: usize = 16;
/// Packets to one stream in one turn at most.
pub(crate) const BURST_PACKETS_MAX: usize = 32;
/// Copied bytes of one run at most: headers, and what is not in the file.
pub(crate) const COPIED_BYTES_MAX: usize = 4_096;
/// Pieces of memory that one run is gathered from at most.
pub(crate) const PARTS_MAX: usize = 96;
/// What one UDP send carries over IPv4.
const RUN_BYTES_MAX: usize = 65_507;

/// A whole film.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) tracks: Vec<TrackShape>,
    /// Where parts point to.
    _map: MappedFile,
}

/// The packets of one track.
#[derive(Debug, Default)]
pub(crate) struct TrackShape {
    pub(crate) payload_type: u8,
    pub(crate) frames: Vec<FrameShape>,
    pub(crate) runs: Vec<RunShape>,
    pub(crate) packets: Vec<PacketShape>,
    pub(crate) parts: Vec<Part>,
    /// Bytes that are not in the file.
    pub(crate) inline: Vec<u8>,
}

/// Packets that are due together.
#[derive(Debug)]
pub(crate) struct FrameShape {
    /// From the first frame of the film.
    pub(crate) due_ns: u64,
    pub(crate) rtp_ticks: i64,
    pub(crate) runs: Range<usize>,
}

/// One send.
#[derive(Debug)]
pub(crate) struct RunShape {
    pub(crate) packets: Range<usize>,
    /// With the RTP header.
    pub(crate) segment_bytes: u16,
    /// Of all its packets.
    pub(crate) bytes: usize,
    /// It belongs to the next turn already: the one before has had its burst.
    pub(crate) begins_burst: bool,
}

/// One RTP packet without its header.
#[derive(Debug)]
pub(crate) struct PacketShape {
    pub(crate) marker: bool,
    /// With the RTP header.
    pub(crate) bytes: u16,
    pub(crate) parts: Range<usize>,
}

/// A piece of a payload.
#[derive(Debug)]
pub(crate) enum Part {
    /// Of `TrackShape::inline`.
    Copied(Range<usize>),
    /// Of the map, for the kernel alone.
    Mapped { address: *const u8, bytes: u16 },
}

/// What a packet takes of a send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs {
    /// With the RTP header.
    pub(crate) bytes: usize,
    /// Of them, those that are not in the file.
    pub(crate) copied_bytes: usize,
    /// Pieces of memory.
    pub(crate) parts: usize,
}

/// What a run has so far.
#[derive(Debug, Default)]
struct OpenRun {
    first: usize,
    count: usize,
    bytes: usize,
    segment_bytes: usize,
    has_tail: bool,
    copied_bytes: usize,
    parts: usize,
}

impl Shape {
    /// Reads the film and packetizes every track of it.
    pub(crate) fn of_film(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let map = MappedFile::new(&file)?;
        let asset = open_with(map.file_bytes(), |offset, out| {
            file.read_at(out, offset).map_err(|error| Failure::from(error.to_string()))
        })?;
        // No fault is taken while it is measured; workers see to that in the server.
        map.populate(0, map.file_bytes())?;
        let mut tracks = Vec::with_capacity(asset.tracks.len());
        for (index, track) in asset.tracks.iter().enumerate() {
            let windows = windows(&asset, u8::try_from(index)?, track, &file)?;
            tracks.push(TrackShape::new(index, &windows, &map)?);
        }
        let firsts = tracks.iter().filter_map(|track| Some(track.frames.first()?.due_ns));
        let first = firsts.min().ok_or("the film has no track that can be sent")?;
        for frame in tracks.iter_mut().flat_map(|track| &mut track.frames) {
            frame.due_ns -= first;
        }
        Ok(Self { tracks, _map: map })
    }

    /// How long its shortest track lasts.
    pub(crate) fn seconds(&self) -> u64 {
        let lasts = self.tracks.iter().filter_map(|track| Some(track.frames.last()?.due_ns));
        lasts.min().unwrap_or(0) / 1_000_000_000
    }
}

impl TrackShape {
    fn new(index: usize, windows: &[PacketWindow], map: &MappedFile) -> Result<Self, Failure> {
        let payload_type = 96 + u8::try_from(index)?;
        let mut shape = Self { payload_type, ..Self::default() };
        for window in windows {
            for frame in window.frames() {
                let first = shape.packets.len();
                for packet in window.packets(frame) {
                    let from = shape.parts.len();
                    for piece in window.pieces(packet) {
                        let part = shape.part(window, piece, map)?;
                        shape.parts.push(part);
                    }
                    let parts = from..shape.parts.len();
                    let bytes = u16::try_from(HEADER_BYTES)? + packet.payload_bytes;
                    shape.packets.push(PacketShape { marker: packet.marker, bytes, parts });
                }
                let runs = shape.cut(first)?;
                // Times before the film's start are only shifted ones: nothing is earlier.
                let due_ns = u64::try_from(frame.due.0.saturating_add(SHIFT_NS))?;
                shape.frames.push(FrameShape { due_ns, rtp_ticks: frame.rtp_ticks, runs });
            }
        }
        Ok(shape)
    }

    fn part(
        &mut self,
        window: &PacketWindow,
        piece: &Piece,
        map: &MappedFile,
    ) -> Result<Part, Failure> {
        match *piece {
            Piece::Inline { offset, bytes } => {
                let start = self.inline.len();
                self.inline.extend_from_slice(window.inline_bytes(offset, bytes));
                Ok(Part::Copied(start..self.inline.len()))
            }
            Piece::File { offset, bytes } => {
                let address = map.kernel_address(offset, bytes).ok_or("a range leaves the file")?;
                Ok(Part::Mapped { address, bytes })
            }
        }
    }

    /// Cuts a frame's packets, from `first` to the last one, into runs.
    fn cut(&mut self, first: usize) -> Result<Range<usize>, Failure> {
        let runs_first = self.runs.len();
        let mut open = OpenRun { first, ..OpenRun::default() };
        let mut begins_burst = false;
        for at in first..self.packets.len() {
            let needs = self.needs(at);
            let is_at_burst = at > first && (at - first).is_multiple_of(BURST_PACKETS_MAX);
            if is_at_burst || !open.takes(needs) {
                if open.count == 0 {
                    return Err("a packet does not fit a run".into());
                }
                self.runs.push(open.close(begins_burst)?);
                begins_burst = is_at_burst;
                open = OpenRun { first: at, ..OpenRun::default() };
                if !open.takes(needs) {
                    return Err("a packet does not fit a run".into());
                }
            }
            open.add(needs);
        }
        self.runs.push(open.close(begins_burst)?);
        Ok(runs_first..self.runs.len())
    }

    /// What a packet takes of a send.
    pub(crate) fn needs(&self, packet_index: usize) -> Needs {
        let packet = &self.packets[packet_index];
        let mut copied_bytes = HEADER_BYTES;
        for part in &self.parts[packet.parts.clone()] {
            match part {
                Part::Copied(range) => copied_bytes += range.len(),
                Part::Mapped { .. } => {}
            }
        }
        let (bytes, parts) = (usize::from(packet.bytes), 1 + packet.parts.len());
        Needs { bytes, copied_bytes, parts }
    }

    /// The packets of a frame.
    pub(crate) fn packets_of(&self, frame: &FrameShape) -> Range<usize> {
        let runs = &self.runs[frame.runs.clone()];
        let ends = runs.first().zip(runs.last());
        ends.map_or(0..0, |(first, last)| first.packets.start..last.packets.end)
    }
}

impl OpenRun {
    /// Whether a further packet fits: see `Run::try_packet` for the server's rule.
    fn takes(&self, Needs { bytes, copied_bytes, parts }: Needs) -> bool {
        let fits_segment = self.count == 0
            || (!self.has_tail && bytes <= self.segment_bytes && self.count < RUN_PACKETS_MAX);
        fits_segment
            && self.bytes + bytes <= RUN_BYTES_MAX
            && self.copied_bytes + copied_bytes <= COPIED_BYTES_MAX
            && self.parts + parts <= PARTS_MAX
    }

    fn add(&mut self, Needs { bytes, copied_bytes, parts }: Needs) {
        if self.count == 0 {
            self.segment_bytes = bytes;
        }
        self.has_tail = bytes < self.segment_bytes;
        self.count += 1;
        self.bytes += bytes;
        self.copied_bytes += copied_bytes;
        self.parts += parts;
    }

    fn close(&self, begins_burst: bool) -> Result<RunShape, Failure> {
        let packets = self.first..self.first + self.count;
        let segment_bytes = u16::try_from(self.segment_bytes)?;
        Ok(RunShape { packets, segment_bytes, bytes: self.bytes, begins_burst })
    }
}

/// Every window of a track, as a worker builds them.
fn windows(
    asset: &Asset,
    track_index: u8,
    track: &Track,
    file: &File,
) -> Result<Vec<PacketWindow>, Failure> {
    let mut buffer = Vec::new();
    let mut windows = Vec::new();
    for index in 0..window_count(track, WindowKind::All) {
        let mut job =
            WindowJob::new(asset, WindowKey { track_index, kind: WindowKind::All, index })?;
        while let Some(range) = job.wanted() {
            buffer.resize(range.bytes as usize, 0);
            file.read_exact_at(&mut buffer, range.offset)?;
            job.handle_bytes(&buffer)?;
        }
        windows.push(job.finish());
    }
    Ok(windows)
}

/// More than a film starts before its zero.
const SHIFT_NS: i64 = 3_600_000_000_000;

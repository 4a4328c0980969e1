//! What is sent: a film's packets in the server's own windows, cut into runs as the server does.
//!
//! ```text
//! frame   [due, ticks | runs 0..2]
//! run     [packets 0..16, 1412 bytes each]  [packets 16..18, a tail]
//! image   [header, payload][header, payload] ..    packets as on the wire, runs of up to 64 KiB
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

use headend::base::ids::{RtpTs, SeqNo, Ssrc};
use headend::mapped::MappedFile;
use headend::media::asset::{Asset, Track};
use headend::media::container::open_with;
use headend::media::packetize::{WindowJob, window_count};
use headend::media::window::{PacketWindow, Piece, WindowKey, WindowKind};
use headend::rtp::{self, HEADER_BYTES};

use crate::Failure;
use crate::image::{Image, ImageMemory};

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
    /// All packets as on the wire, for ways that send them from there.
    pub(crate) image: Option<Image>,
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
    /// Place of its first packet in the image.
    pub(crate) image_offset: usize,
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

/// Most of what one run has.
#[derive(Debug, Clone, Copy)]
struct RunLimits {
    packets: usize,
    copied_bytes: usize,
    parts: usize,
}

impl Shape {
    /// Reads the film and packetizes every track of it. `image`: the memory of the packets' images,
    /// for ways that send from there.
    pub(crate) fn of_film(path: &Path, image: Option<ImageMemory>) -> Result<Self, Failure> {
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
            let limits = if image.is_some() { IN_IMAGE } else { GATHERED };
            let mut shape = TrackShape::new(index, &windows, &map, limits)?;
            if let Some(memory) = image {
                shape.image = Some(shape.draw(&file, &windows, memory)?);
            }
            tracks.push(shape);
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
    fn new(
        index: usize,
        windows: &[PacketWindow],
        map: &MappedFile,
        limits: RunLimits,
    ) -> Result<Self, Failure> {
        let payload_type = 96 + u8::try_from(index)?;
        let mut shape = Self { payload_type, ..Self::default() };
        let mut image_offset = 0;
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
                let runs = shape.cut(first, limits, &mut image_offset)?;
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
    fn cut(
        &mut self,
        first: usize,
        limits: RunLimits,
        image_offset: &mut usize,
    ) -> Result<Range<usize>, Failure> {
        let runs_first = self.runs.len();
        let mut open = OpenRun { first, ..OpenRun::default() };
        let mut begins_burst = false;
        for at in first..self.packets.len() {
            let needs = self.needs(at);
            let is_at_burst = at > first && (at - first).is_multiple_of(BURST_PACKETS_MAX);
            if is_at_burst || !open.takes(needs, limits) {
                if open.count == 0 {
                    return Err("a packet does not fit a run".into());
                }
                self.runs.push(open.close(begins_burst, image_offset)?);
                begins_burst = is_at_burst;
                open = OpenRun { first: at, ..OpenRun::default() };
                if !open.takes(needs, limits) {
                    return Err("a packet does not fit a run".into());
                }
            }
            open.add(needs);
        }
        self.runs.push(open.close(begins_burst, image_offset)?);
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

    /// Lays the packets out as they go on the wire. A receiver that looked at more than their sizes
    /// would find the numbers of one client.
    fn draw(
        &self,
        file: &File,
        windows: &[PacketWindow],
        memory: ImageMemory,
    ) -> Result<Image, Failure> {
        let bytes = self.packets.iter().map(|packet| usize::from(packet.bytes)).sum();
        let mut image = Image::new(memory, bytes)?;
        let (mut at, mut seq) = (0, SeqNo(0));
        for window in windows {
            for frame in window.frames() {
                let ts = RtpTs(0).offset_ticks(frame.rtp_ticks);
                for packet in window.packets(frame) {
                    let mut header = [0; HEADER_BYTES];
                    let (marker, payload_type) = (packet.marker, self.payload_type);
                    rtp::write_header(&mut header, marker, payload_type, seq, ts, Ssrc(0));
                    seq = seq.plus(1);
                    at = image.put(at, &header);
                    for piece in window.pieces(packet) {
                        match *piece {
                            Piece::Inline { offset, bytes } => {
                                at = image.put(at, window.inline_bytes(offset, bytes));
                            }
                            Piece::File { offset, bytes } => {
                                let to = at..at + usize::from(bytes);
                                file.read_exact_at(&mut image.map[to.clone()], offset)?;
                                at = to.end;
                            }
                        }
                    }
                }
            }
        }
        Ok(image)
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
    fn takes(&self, Needs { bytes, copied_bytes, parts }: Needs, limits: RunLimits) -> bool {
        let fits_segment = self.count == 0
            || (!self.has_tail && bytes <= self.segment_bytes && self.count < limits.packets);
        fits_segment
            && self.bytes + bytes <= RUN_BYTES_MAX
            && self.copied_bytes + copied_bytes <= limits.copied_bytes
            && self.parts + parts <= limits.parts
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

    fn close(&self, begins_burst: bool, image_at: &mut usize) -> Result<RunShape, Failure> {
        let packets = self.first..self.first + self.count;
        let segment_bytes = u16::try_from(self.segment_bytes)?;
        let image_offset = *image_at;
        *image_at += self.bytes;
        Ok(RunShape { packets, segment_bytes, bytes: self.bytes, image_offset, begins_burst })
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

/// As the server gathers.
const GATHERED: RunLimits =
    RunLimits { packets: RUN_PACKETS_MAX, copied_bytes: COPIED_BYTES_MAX, parts: PARTS_MAX };
/// One piece a run: what every kernel cuts into (`UDP_MAX_SEGMENTS`), and the bytes of a datagram.
const IN_IMAGE: RunLimits = RunLimits { packets: 64, copied_bytes: usize::MAX, parts: usize::MAX };

/// More than a film starts before its zero.
const SHIFT_NS: i64 = 3_600_000_000_000;

//! What the packetizers' tests share: a title made of given samples, its window, the payloads.

use super::{WindowError, WindowJob, payload_format};
use crate::base::limits::RTP_PAYLOAD_BYTES_MAX;
use crate::base::time::Npt;
use crate::media::asset::{Asset, FileRange, Track};
use crate::media::codec::{Codec, MediaKind};
use crate::media::index::{Sample, SampleIndex};
use crate::media::window::{Frame, Packet, PacketWindow, Piece, WindowKey, WindowKind};

/// A file and the one track in it.
pub(super) struct Title {
    pub(super) file: Vec<u8>,
    pub(super) asset: Asset,
}

/// A packet with its payload put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) payload: Vec<u8>,
    pub(super) marker: bool,
}

/// Samples of `ticks` duration each, the first one a sync sample and every `sync_every`-th after.
pub(super) fn title(
    codec: Codec,
    timescale: u32,
    ticks: u32,
    sync_every: usize,
    samples: &[Vec<u8>],
) -> Title {
    let mut file = vec![0xee; 100];
    let mut list = Vec::new();
    for (number, bytes) in samples.iter().enumerate() {
        let at = i64::try_from(number).unwrap() * i64::from(ticks);
        list.push(Sample {
            offset: file.len() as u64,
            bytes: u32::try_from(bytes.len()).unwrap(),
            dts: at,
            pts: at,
            duration: ticks,
            is_sync: number % sync_every == 0,
            is_disposable: false,
        });
        file.extend_from_slice(bytes);
        file.extend_from_slice(&[0xee; 7]);
    }
    title_of(codec, timescale, file, list)
}

/// A title with one track of the given samples, all in one window.
pub(super) fn title_of(codec: Codec, timescale: u32, file: Vec<u8>, list: Vec<Sample>) -> Title {
    let track = Track {
        id: 1,
        kind: MediaKind::Video,
        payload: payload_format(&codec, 0).unwrap(),
        codec: Some(codec),
        other_codecs: Vec::new(),
        fourcc: *b"test",
        timescale,
        language: None,
        size_pixels: None,
        window_samples: u32::try_from(list.len()).unwrap().max(1),
        index: SampleIndex::from_samples(list),
        hint: None,
        end: Npt::ZERO,
    };
    let file_bytes = file.len() as u64;
    let asset = Asset {
        tracks: vec![track],
        left_out: Vec::new(),
        duration: Npt::ZERO,
        container: "mp4",
        file_bytes,
        created_utc_ns: None,
        problems: Vec::new(),
    };
    Title { file, asset }
}

impl Title {
    /// Runs a window job over the file.
    pub(super) fn window(&self, kind: WindowKind, index: u32) -> Result<PacketWindow, WindowError> {
        let mut job = WindowJob::new(&self.asset, WindowKey { track_index: 0, kind, index })?;
        for _ in 0..10_000 {
            let Some(FileRange { offset, bytes }) = job.wanted() else {
                return Ok(job.finish());
            };
            let start = usize::try_from(offset).unwrap().min(self.file.len());
            let end = (start + bytes as usize).min(self.file.len());
            job.handle_bytes(&self.file[start..end])?;
        }
        panic!("the job asks without end");
    }

    /// The frames of the first window with their packets.
    pub(super) fn sent(&self) -> Result<Vec<(Frame, Vec<Sent>)>, WindowError> {
        let window = self.window(WindowKind::All, 0)?;
        let frames = window.frames().iter();
        let resolve = |packet: &Packet| Sent {
            payload: self.payload(&window, packet),
            marker: packet.marker,
        };
        Ok(frames
            .map(|frame| (*frame, window.packets(frame).iter().map(resolve).collect()))
            .collect())
    }

    /// The packets of the first window, frames forgotten.
    pub(super) fn packets(&self) -> Vec<Sent> {
        self.sent().unwrap().into_iter().flat_map(|(_, packets)| packets).collect()
    }

    /// Puts a packet's payload together, as a gather-send does.
    pub(super) fn payload(&self, window: &PacketWindow, packet: &Packet) -> Vec<u8> {
        let mut payload = Vec::new();
        for piece in window.pieces(packet) {
            match *piece {
                Piece::Inline { offset, bytes } => {
                    payload.extend_from_slice(window.inline_bytes(offset, bytes));
                }
                Piece::File { offset, bytes } => {
                    let start = usize::try_from(offset).unwrap();
                    payload.extend_from_slice(&self.file[start..start + usize::from(bytes)]);
                }
            }
        }
        assert_eq!(payload.len(), usize::from(packet.payload_bytes));
        payload
    }
}

/// What must be true of every packet of every codec.
pub(super) fn check_packets(frames: &[(Frame, Vec<Sent>)]) {
    for (frame, packets) in frames {
        assert_eq!(frame.packet_count as usize, packets.len());
        for packet in packets {
            assert!(!packet.payload.is_empty());
            assert!(packet.payload.len() <= RTP_PAYLOAD_BYTES_MAX);
        }
    }
}

/// Only the last packet of each frame has the marker.
pub(super) fn check_marker_is_last_only(frames: &[(Frame, Vec<Sent>)]) {
    for (_, packets) in frames {
        let (last, before) = packets.split_last().unwrap();
        assert!(last.marker && before.iter().all(|packet| !packet.marker));
    }
}

/// Bytes that differ from place to place, so that a shift shows.
pub(super) fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i * 7 + seed * 31 + i / 251) % 256).unwrap()).collect()
}

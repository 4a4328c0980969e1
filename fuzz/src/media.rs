//! Files of media: containers as strangers make them, and hint samples.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use headend::base::limits::RTP_PAYLOAD_BYTES_MAX;
use headend::media::asset::{Asset, Track};
use headend::media::container::{OpenError, open_with};
use headend::media::hint::HINT_PACKET_BYTES_MAX;
use headend::media::packetize::{WindowJob, window_count};
use headend::media::window::{PacketWindow, Piece, WindowBuilder, WindowKey, WindowKind};
use headend::sdp::read::read_session;
use headend::sdp::{Description, describe};

/// A whole file: it is opened with reads inside of it, its samples lie inside of it and in the
/// order of their times, its windows have packets that can be sent, and its description reads
/// back.
pub fn open(data: &[u8]) {
    let Ok(asset) = asset_of(data) else { return };
    assert_eq!(asset.file_bytes, data.len() as u64);
    for (index, track) in (0_u8..).zip(&asset.tracks) {
        check_samples(track, data);
        for kind in [WindowKind::All, WindowKind::Sync] {
            let count = window_count(track, kind);
            for window in [0, count / 2, count.saturating_sub(1), count] {
                let key = WindowKey { track_index: index, kind, index: window };
                if let Some(built) = window_of(&asset, key, data) {
                    assert!(window < count, "a window behind the last");
                    let bytes_max = match track.hint {
                        Some(_) => HINT_PACKET_BYTES_MAX,
                        None => RTP_PAYLOAD_BYTES_MAX,
                    };
                    check_window(&built, data, bytes_max);
                }
            }
        }
    }
    let origin = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let text = describe(&Description {
        asset: &asset,
        name: "a",
        session_id: 1,
        version: 1,
        origin,
        rtx: None,
        calls_eac3_ac3: false,
    });
    if !asset.tracks.is_empty() && text.len() < 32 << 10 {
        let read = read_session(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(read.medias().len(), asset.tracks.len(), "{text}");
    }
}

/// Opens a file that lies in memory.
fn asset_of(file: &[u8]) -> Result<Asset, OpenError> {
    let (mut reads, mut read_bytes) = (0_usize, 0_usize);
    open_with(file.len() as u64, |offset, out: &mut [u8]| {
        reads += 1;
        read_bytes += out.len();
        // Every top-level box is looked at once, and pieces are read ahead of it.
        assert!(reads <= 4 * file.len() + 64, "{reads} reads of {} bytes", file.len());
        let start = usize::try_from(offset).expect("an offset in memory");
        let from = file.get(start..start + out.len()).expect("a read inside of the file");
        out.copy_from_slice(from);
        Ok::<usize, OpenError>(out.len())
    })
}

fn check_samples(track: &Track, file: &[u8]) {
    let index = &track.index;
    let mut due = i64::MIN;
    let looked_at = index.count().min(SAMPLES_LOOKED_AT);
    for (number, sample) in (0..).zip(index.iter(0, looked_at)) {
        assert!(sample.offset + u64::from(sample.bytes) <= file.len() as u64, "{sample:?}");
        assert!(sample.dts >= due, "{sample:?} behind {due}");
        assert!(sample.bytes <= index.bytes_max());
        assert_eq!(index.sample(number), Some(sample), "sample {number}");
        due = sample.dts;
    }
    assert_eq!(index.sample(index.count()), None);
    assert!(index.sync_count() <= index.count());
    let mut before = None;
    for number in 0..index.sync_count().min(SAMPLES_LOOKED_AT) {
        let sync = index.sync_sample(number).expect("a sync sample");
        assert!(before < Some(sync), "{before:?} {sync}");
        before = Some(sync);
    }
    for npt in [track.end, headend::base::time::Npt::ZERO] {
        for at in [
            index.sync_at_or_before(npt, track.timescale),
            index.entry_at_or_before(npt, track.timescale),
        ] {
            assert!(at.is_none_or(|at| at < index.count()));
        }
    }
}

/// The window, built from a file in memory as a worker builds it; none when it cannot be.
pub fn window_of(asset: &Asset, key: WindowKey, file: &[u8]) -> Option<PacketWindow> {
    let mut job = WindowJob::new(asset, key).ok()?;
    let mut reads = 0;
    while let Some(range) = job.wanted() {
        reads += 1;
        assert!(reads <= 10_000, "a window that is never built");
        let start = usize::try_from(range.offset).expect("an offset in memory");
        let bytes = file.get(start..)?.get(..range.bytes as usize)?;
        job.handle_bytes(bytes).ok()?;
    }
    Some(job.finish())
}

/// What holds for every window: packets that are neither empty nor too long, made of bytes that
/// are there, and frames whose packets follow each other.
pub fn check_window(window: &PacketWindow, file: &[u8], bytes_max: usize) {
    let mut next = 0;
    for frame in window.frames() {
        assert_eq!(frame.packet_index, next, "packets of frames follow each other");
        assert!(frame.packet_count > 0, "a frame without packets");
        next += frame.packet_count;
        assert_eq!(window.packets(frame).len(), frame.packet_count as usize);
        for packet in window.packets(frame) {
            let bytes = payload(window, packet, file).len();
            assert_eq!(bytes, usize::from(packet.payload_bytes));
            assert!((1..=bytes_max).contains(&bytes), "a packet of {bytes} bytes");
        }
    }
    assert_eq!(window.all_packets().len(), next as usize);
}

/// The payload of a packet, put together.
pub fn payload(
    window: &PacketWindow,
    packet: &headend::media::window::Packet,
    file: &[u8],
) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in window.pieces(packet) {
        match *piece {
            Piece::Inline { offset, bytes } => {
                let inline = window.inline_bytes(offset, bytes);
                assert_eq!(inline.len(), usize::from(bytes));
                out.extend_from_slice(inline);
            }
            Piece::File { offset, bytes } => {
                let start = usize::try_from(offset).expect("an offset in memory");
                let range = start..start + usize::from(bytes);
                out.extend_from_slice(file.get(range).expect("a piece inside of the file"));
            }
        }
    }
    out
}

/// A hint sample of any bytes, in a file that is well otherwise: packets that can be sent, or an
/// error that leaves the window as it was.
pub fn hint(data: &[u8]) {
    for track in &HINTED.tracks {
        let hint = track.hint.as_ref().expect("a track with hints");
        let mut sample = hint.index.sample(0).expect("a hint sample");
        sample.bytes = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let mut builder = WindowBuilder::new();
        let made = hint.packetize(track, &sample, 0, data, &mut builder);
        let window = builder.finish();
        match made {
            Ok(()) => check_window(&window, HINTED_FILE, HINT_PACKET_BYTES_MAX),
            Err(error) => {
                assert!(window.frames().is_empty() && window.all_packets().is_empty(), "{error}");
            }
        }
        // A packet and a constructor take at least twelve bytes each.
        assert!(window.all_packets().len() <= data.len() / 12);
    }
}

static HINTED: LazyLock<Asset> =
    LazyLock::new(|| asset_of(HINTED_FILE).expect("a file with hint tracks"));

/// A second of picture and sound with hint tracks, of FFmpeg (`-movflags rtphint`).
const HINTED_FILE: &[u8] = include_bytes!("../media/hinted.mov");

/// A table may name millions of samples in a few bytes.
const SAMPLES_LOOKED_AT: u32 = 2_000;

//! Films put together box by box, without their media: what benches open.
//!
//! The tables are shaped like those of a film that a muxer wrote: 25 pictures a second with
//! B-frames, one a chunk; sound in chunks of two units; a key frame every ten seconds.
//! ISO 14496-12.

use headend::media::asset::Asset;
use headend::media::container::{OpenError, open_with};

/// The boxes of a film, and how long its file would be with the media in it.
pub(crate) struct Film {
    header: Vec<u8>,
    file_bytes: u64,
}

impl Film {
    /// A film of that length.
    pub(crate) fn of_seconds(seconds: u32) -> Self {
        let traks = [video(seconds * 25), audio(seconds * 375 / 8)];
        let moov = boxed(b"moov", &[mvhd(), traks.concat()].concat());
        let media_bytes = u64::from(seconds * 25) * u64::from(CHUNK_STEP_BYTES) + (32 << 20);
        // `moov` first, as it is in a file made for streaming; the rest is one `mdat`.
        let mdat = [&1_u32.to_be_bytes()[..], b"mdat", &(media_bytes + 16).to_be_bytes()].concat();
        let header = [moov, mdat].concat();
        Self { file_bytes: header.len() as u64 + media_bytes, header }
    }

    /// Bytes of `moov`.
    pub(crate) fn header_bytes(&self) -> usize {
        self.header.len()
    }

    /// Opens it; the media reads as zeros.
    pub(crate) fn open(&self) -> Result<Asset, OpenError> {
        open_with(self.file_bytes, |offset, out| {
            let at = usize::try_from(offset).unwrap_or(usize::MAX);
            let rest = self.header.get(at..).unwrap_or(&[]);
            let count = rest.len().min(out.len());
            let (head, tail) = out.split_at_mut(count);
            head.copy_from_slice(&rest[..count]);
            tail.fill(0);
            Ok::<usize, OpenError>(out.len())
        })
    }
}

fn video(pictures: u32) -> Vec<u8> {
    let shifts = [1_024, 2_560, 1_024, 0, 512];
    let ctts = (0..pictures).flat_map(|i| [1, shifts[i as usize % shifts.len()]]);
    let sizes = (0..pictures).map(|i| i % 500 * 7 + 100);
    let sync = (0..pictures / 250).map(|i| i * 250 + 1);
    let tables = [
        table(b"stts", [1, pictures, 512]),
        table(b"ctts", [pictures].into_iter().chain(ctts)),
        table(b"stss", [pictures / 250].into_iter().chain(sync)),
        table(b"stsc", [1, 1, 1, 1]),
        table(b"stsz", [0, pictures].into_iter().chain(sizes)),
        table(b"stco", [pictures].into_iter().chain(chunks(pictures, 0))),
    ];
    let mut entry = vec![0; 78];
    entry[7] = 1;
    entry[24..28].copy_from_slice(&[7, 128, 4, 56]);
    trak(1, b"vide", 12_800, &boxed(b"vp08", &entry), &tables.concat())
}

fn audio(units: u32) -> Vec<u8> {
    let units = units / 2 * 2;
    let sizes = (0..units).map(|i| 300 + i % 90);
    let tables = [
        table(b"stts", [1, units, 1_024]),
        table(b"stsc", [1, 1, 2, 1]),
        table(b"stsz", [0, units].into_iter().chain(sizes)),
        table(b"stco", [units / 2].into_iter().chain(chunks(units / 2, VIDEO_BYTES))),
    ];
    let mut entry = vec![0; 28];
    entry[7] = 1;
    entry[17] = 2;
    entry[24..26].copy_from_slice(&48_000_u16.to_be_bytes());
    trak(2, b"soun", 48_000, &boxed(b"Opus", &entry), &tables.concat())
}

/// Where chunks lie; the media starts somewhere behind the largest `moov`.
fn chunks(count: u32, first: u32) -> impl Iterator<Item = u32> {
    (0..count).map(move |i| MEDIA_AT + first + i * CHUNK_STEP_BYTES)
}

fn trak(id: u32, handler: &[u8; 4], timescale: u32, entry: &[u8], tables: &[u8]) -> Vec<u8> {
    let mut tkhd = words([7, 0, 0, id]);
    tkhd.resize(84, 0);
    let mut mdhd = words([0, 0, 0, timescale, 0]);
    mdhd.extend_from_slice(&[0x15, 0xc7, 0, 0]);
    let mut hdlr = words([0, 0]);
    hdlr.extend_from_slice(handler);
    hdlr.resize(25, 0);
    let stsd = boxed(b"stsd", &[&words([0, 1]), entry].concat());
    let minf = boxed(b"minf", &boxed(b"stbl", &[&stsd, tables].concat()));
    let mdia = [boxed(b"mdhd", &mdhd), boxed(b"hdlr", &hdlr), minf].concat();
    boxed(b"trak", &[boxed(b"tkhd", &tkhd), boxed(b"mdia", &mdia)].concat())
}

fn mvhd() -> Vec<u8> {
    let mut body = words([0, 0, 0, 1_000, 0, 0x1_0000]);
    body.resize(100, 0);
    boxed(b"mvhd", &body)
}

/// A box of 32-bit words; version and flags are put first.
fn table(kind: &[u8; 4], values: impl IntoIterator<Item = u32>) -> Vec<u8> {
    boxed(kind, &words([0].into_iter().chain(values)))
}

fn words(values: impl IntoIterator<Item = u32>) -> Vec<u8> {
    values.into_iter().flat_map(u32::to_be_bytes).collect()
}

#[expect(clippy::expect_used, reason = "boxes of a bench are below 4 GiB")]
fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 8).expect("a small box");
    [&size.to_be_bytes()[..], kind, body].concat()
}

/// From one chunk to the next of the same track: room for a picture and two units of sound.
const CHUNK_STEP_BYTES: u32 = 5_000;
/// Room for a picture.
const VIDEO_BYTES: u32 = 4_000;
/// Three hours of tables take 11 MB.
const MEDIA_AT: u32 = 16 << 20;

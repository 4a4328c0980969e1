//! Movies put together box by box: what FFmpeg does not write.

use super::*;

pub(crate) fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(body.len() + 8).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(kind);
    out.extend_from_slice(body);
    out
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_be_bytes()).collect()
}

/// A box that is nothing but 32-bit words: version and flags first.
pub(crate) fn table(kind: &[u8; 4], values: &[u32]) -> Vec<u8> {
    boxed(kind, &words(values))
}

fn mvhd(timescale: u32, created: u32) -> Vec<u8> {
    let mut body = words(&[0, created, 0, timescale, 0, 0x1_0000]);
    body.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    body.resize(100, 0);
    boxed(b"mvhd", &body)
}

/// A track of a synthetic movie; tables as words behind version and flags.
pub(crate) struct Trak {
    pub(crate) id: u32,
    pub(crate) handler: [u8; 4],
    pub(crate) flags: u32,
    /// a, b, c, d of `tkhd`'s matrix.
    pub(crate) matrix: [i32; 4],
    pub(crate) timescale: u32,
    /// Sample entries, one behind the other.
    pub(crate) entry: Vec<u8>,
    pub(crate) elst: Vec<u32>,
    pub(crate) tables: Vec<Vec<u8>>,
    pub(crate) extra: Vec<u8>,
}

impl Trak {
    pub(crate) fn new(id: u32, handler: &[u8; 4], timescale: u32, entry: Vec<u8>) -> Self {
        let (elst, tables, extra) = (Vec::new(), Vec::new(), Vec::new());
        let (flags, matrix) = (7, [1, 0, 0, 1]);
        Self { id, handler: *handler, flags, matrix, timescale, entry, elst, tables, extra }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut tkhd = words(&[self.flags, 0, 0, self.id]);
        tkhd.resize(84, 0);
        for (place, value) in [0, 1, 3, 4].into_iter().zip(self.matrix) {
            let at = 40 + 4 * place;
            tkhd[at..at + 4].copy_from_slice(&(value << 16).to_be_bytes());
        }
        let mut mdhd = words(&[0, 0, 0, self.timescale, 0]);
        mdhd.extend_from_slice(&[0x15, 0xc7, 0, 0]);
        let mut hdlr = words(&[0, 0]);
        hdlr.extend_from_slice(&self.handler);
        hdlr.resize(25, 0);
        let entries = boxes::children(&self.entry).count();
        let stsd = [words(&[0, u32::try_from(entries).unwrap()]), self.entry.clone()].concat();
        let stbl = [boxed(b"stsd", &stsd), self.tables.concat()].concat();
        let minf = boxed(b"minf", &boxed(b"stbl", &stbl));
        let mdia = [boxed(b"mdhd", &mdhd), boxed(b"hdlr", &hdlr), minf].concat();
        let mut trak = boxed(b"tkhd", &tkhd);
        if !self.elst.is_empty() {
            trak.extend(boxed(b"edts", &table(b"elst", &self.elst)));
        }
        trak.extend(boxed(b"mdia", &mdia));
        trak.extend_from_slice(&self.extra);
        boxed(b"trak", &trak)
    }
}

pub(crate) fn visual(kind: &[u8; 4], boxes: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 78];
    body[7] = 1;
    body[24..28].copy_from_slice(&[1, 64, 0, 240]);
    body.extend_from_slice(boxes);
    boxed(kind, &body)
}

pub(crate) fn sound(kind: &[u8; 4], channels: u8, rate: u16) -> Vec<u8> {
    let mut body = vec![0; 28];
    body[7] = 1;
    body[17] = channels;
    body[24..26].copy_from_slice(&rate.to_be_bytes());
    boxed(kind, &body)
}

/// `mdat` of `media_bytes` first, at byte 8; then `moov`.
pub(crate) fn movie(media_bytes: usize, traks: &[Trak]) -> Vec<u8> {
    let mut moov = mvhd(1_000, 0xe000_0000);
    traks.iter().for_each(|t| moov.extend(t.bytes()));
    [boxed(b"mdat", &vec![0; media_bytes]), boxed(b"moov", &moov)].concat()
}

/// 100 JPEG pictures of 10 bytes, 25 a second, in chunks of 10.
pub(crate) fn pictures() -> Trak {
    let mut trak = Trak::new(1, b"vide", 25, visual(b"jpeg", &[]));
    let offsets: Vec<u32> = [0, 10].into_iter().chain((0..10).map(|i| 8 + i * 100)).collect();
    trak.tables = vec![
        table(b"stts", &[0, 1, 100, 1]),
        table(b"stsc", &[0, 1, 1, 10, 1]),
        table(b"stsz", &[0, 10, 100]),
        table(b"stco", &offsets),
    ];
    trak
}

#[test]
fn tables_become_samples_and_creation_time_is_utc() {
    let asset = open(&movie(1_000, &[pictures()])).unwrap();
    let track = &asset.tracks[0];
    assert_eq!((track.codec.clone(), track.size_pixels), (Some(Codec::Mjpeg), Some((320, 240))));
    assert_eq!(track.language.as_deref(), Some("eng"));
    assert_eq!((track.index.count(), track.window_samples), (100, 50));
    assert_eq!(asset.duration.as_secs_f64(), 4.0);
    assert_eq!(asset.created_utc_ns, Some((0xe000_0000 - 2_082_844_800) * 1_000_000_000));
    assert_eq!(asset.container, "mov");
    let last = track.index.sample(99).unwrap();
    assert_eq!((last.offset, last.bytes, last.dts), (998, 10, 99));
}

#[test]
fn audio_units_are_gathered_into_runs_that_end_with_their_chunk() {
    let mut trak = Trak::new(2, b"soun", 8_000, sound(b"ulaw", 2, 8_000));
    trak.tables = vec![
        table(b"stts", &[0, 1, 16_000, 1]),
        table(b"stsc", &[0, 1, 1, 4_000, 1]),
        table(b"stsz", &[0, 1, 16_000]),
        table(b"stco", &[0, 4, 8, 8_008, 16_008, 24_008]),
    ];
    let asset = open(&movie(32_000, &[trak])).unwrap();
    let track = &asset.tracks[0];
    assert_eq!(track.codec, Some(Codec::Pcmu { sample_rate_hz: 8_000, channels: 2 }));
    assert_eq!(asset.duration.as_secs_f64(), 2.0);
    let all: Vec<Sample> = track.index.iter(0, u32::MAX).collect();
    assert_eq!((all.len(), all[0].bytes, all[0].duration), (100, 320, 160));
    assert_eq!((all[25].offset, all[25].dts), (8_008, 4_000));
    assert_eq!(all.iter().map(|s| s.bytes).sum::<u32>(), 32_000);
}

/// A sound description of 16 bits.
fn linear_sound(kind: &[u8; 4], channels: u8) -> Vec<u8> {
    let mut entry = sound(kind, channels, 48_000);
    entry[8 + 19] = 16;
    entry
}

#[test]
fn chunks_of_linear_pcm_are_samples_and_long_ones_are_cut_into_equal_parts() {
    // QuickTime writes 1 for the size of a sampling instant, others the size of all channels.
    for size in [1, 2, 4] {
        let mut trak = Trak::new(2, b"soun", 48_000, linear_sound(b"sowt", 2));
        trak.tables = vec![
            table(b"stts", &[0, 1, 26_000, 1]),
            table(b"stsc", &[0, 2, 1, 1_000, 1, 3, 24_000, 1]),
            table(b"stsz", &[0, size, 26_000]),
            table(b"stco", &[0, 3, 8, 4_008, 8_008]),
        ];
        let asset = open(&movie(104_000, &[trak])).unwrap();
        let track = &asset.tracks[0];
        let all: Vec<_> = track.index.iter(0, 99).map(|s| (s.offset, s.bytes, s.dts)).collect();
        let starts = [(8, 4_000, 0), (4_008, 4_000, 1_000), (8_008, 19_200, 2_000)];
        assert_eq!((all.len(), &all[..3]), (7, &starts[..]), "{size}");
        assert_eq!(all[6], (8_008 + 4 * 19_200, 19_200, 21_200));
        assert!(asset.left_out.is_empty());
    }
}

#[test]
fn three_hours_of_linear_pcm_fit_the_memory_budget() {
    // 1,024 instants a chunk, as FFmpeg interleaves them with pictures.
    let chunks = 3 * 3_600 * 48_000 / 1_024u32;
    let mut trak = Trak::new(1, b"soun", 48_000, linear_sound(b"twos", 2));
    let offsets: Vec<u32> = [0, chunks].into_iter().chain((0..chunks).map(|i| 8 + i * 2)).collect();
    trak.tables = vec![
        table(b"stts", &[0, 1, chunks * 1_024, 1]),
        table(b"stsc", &[0, 1, 1, 1_024, 1]),
        table(b"stsz", &[0, 4, chunks * 1_024]),
        table(b"stco", &offsets),
    ];
    let asset = open(&movie(2 * chunks as usize + 4_096, &[trak])).unwrap();
    let track = &asset.tracks[0];
    assert_eq!(track.index.count(), chunks);
    assert!(track.index.memory_bytes() < 8 << 20, "{}", track.index.memory_bytes());
    assert_eq!(track.window_samples, 93, "two seconds");
}

#[test]
fn window_of_wide_swapped_pcm_is_shorter_than_two_seconds() {
    for (kind, window_max) in [(b"sowt", 4 << 20), (b"twos", 12 << 20)] {
        let mut trak = Trak::new(1, b"soun", 48_000, linear_sound(kind, 64));
        trak.tables = vec![
            table(b"stts", &[0, 1, 96_000, 1]),
            table(b"stsc", &[0, 1, 1, 96_000, 1]),
            table(b"stsz", &[0, 128, 96_000]),
            table(b"stco", &[0, 1, 8]),
        ];
        let asset = open(&movie(96_000 * 128, &[trak])).unwrap();
        let track = &asset.tracks[0];
        let window = track.window_samples * track.index.bytes_max();
        assert!((window_max / 10 * 9..=window_max).contains(&window), "{window}");
    }
}

#[test]
fn pcm_descriptions_of_another_width_are_left_out_and_others_bound_the_window() {
    let film = |entries: [Vec<u8>; 2], bytes: u32| {
        let mut trak = Trak::new(2, b"soun", 48_000, entries.concat());
        trak.tables = vec![
            table(b"stts", &[0, 1, 96_000, 1]),
            table(b"stsc", &[0, 2, 1, 48_000, 1, 2, 48_000, 2]),
            table(b"stsz", &[0, 1, 96_000]),
            table(b"stco", &[0, 2, 8, 8 + 48_000 * bytes]),
        ];
        let file = movie(96_000 * bytes as usize, &[trak]);
        descriptions::open_as_served(&file)
    };
    let mut narrow = sound(b"raw ", 2, 48_000);
    narrow[8 + 19] = 8;
    let asset = film([linear_sound(b"sowt", 2), narrow], 4);
    assert_eq!(asset.duration.as_secs_f64(), 1.0);
    assert_eq!(asset.problems.len(), 1, "{:?}", asset.problems);
    // Only the second is converted.
    let asset = film([linear_sound(b"twos", 64), linear_sound(b"sowt", 64)], 128);
    let track = &asset.tracks[0];
    assert_eq!((asset.duration.as_secs_f64(), track.other_codecs.len()), (2.0, 1));
    assert!(track.window_samples * track.index.bytes_max() <= 4 << 20);
}

#[test]
fn edit_lists_delay_cut_and_repeat() {
    let mut trak = pictures();
    // 1 s of nothing; pictures 50..75; a still picture for 1 s; pictures 0..25.
    let rate = 0x1_0000;
    trak.elst = vec![0, 4, 1_000, u32::MAX, rate, 1_000, 50, rate, 1_000, 0, 0, 1_000, 0, rate];
    let asset = open(&movie(1_000, &[trak])).unwrap();
    let track = &asset.tracks[0];
    let all: Vec<(i64, u64)> = track.index.iter(0, u32::MAX).map(|s| (s.pts, s.offset)).collect();
    assert_eq!((all[0], all[24]), ((25, 508), (49, 748)));
    assert!(all.contains(&(75, 8)));
    assert!(all.windows(2).all(|w| w[0].0 < w[1].0), "{all:?}");
    assert_eq!(asset.problems.len(), 1);
}

#[test]
fn unknown_and_text_tracks_are_left_out_and_the_rest_plays() {
    let unknown = Trak { id: 2, ..Trak::new(2, b"vide", 25, visual(b"XyZ!", &[])) };
    let text = Trak::new(3, b"text", 25, boxed(b"text", &[0; 60]));
    let bare = Trak::new(4, b"vide", 25, visual(b"avc1", &[]));
    let asset = open(&movie(1_000, &[unknown, pictures(), text, bare])).unwrap();
    assert_eq!(asset.tracks.len(), 1);
    let reasons: Vec<&str> = asset.left_out.iter().map(|l| l.reason.as_str()).collect();
    insta::assert_debug_snapshot!(reasons, @r#"
    [
        "codec XyZ! is not supported",
        "text is neither audio nor video",
        "no avcC",
    ]
    "#);
}

/// One JPEG picture of 10 bytes that lasts a 25th of a second.
fn picture(id: u32) -> Trak {
    let mut trak = Trak::new(id, b"vide", 25, visual(b"jpeg", &[]));
    trak.tables = vec![
        table(b"stts", &[0, 1, 1, 1]),
        table(b"stsc", &[0, 1, 1, 1, 1]),
        table(b"stsz", &[0, 10, 1]),
        table(b"stco", &[0, 1, 8]),
    ];
    trak
}

/// Four seconds of mu-law.
fn tone(id: u32, flags: u32) -> Trak {
    let mut trak = Trak::new(id, b"soun", 8_000, sound(b"ulaw", 1, 8_000));
    trak.flags = flags;
    trak.tables = vec![
        table(b"stts", &[0, 1, 32_000, 1]),
        table(b"stsc", &[0, 1, 1, 32_000, 1]),
        table(b"stsz", &[0, 1, 32_000]),
        table(b"stco", &[0, 1, 8]),
    ];
    trak
}

#[test]
fn covers_thumbnails_and_tracks_that_are_not_enabled_make_room_for_the_film() {
    let thumbnails = Trak { id: 5, extra: boxed(b"tref", &table(b"thmb", &[1])), ..pictures() };
    let angle = Trak { id: 6, flags: 6, ..pictures() };
    let traks = [picture(4), thumbnails, angle, tone(2, 2), pictures(), tone(3, 3)];
    let asset = open(&movie(40_000, &traks)).unwrap();
    let ids: Vec<u32> = asset.tracks.iter().map(|track| track.id).collect();
    assert_eq!(ids, [3, 1, 2], "the film, and the enabled sound in front of the other");
    let mut left_out: Vec<_> = asset.left_out.iter().map(|l| (l.id, &*l.reason)).collect();
    left_out.sort_unstable();
    insta::assert_debug_snapshot!(left_out, @r#"
    [
        (
            4,
            "a still picture (cover) and not a film",
        ),
        (
            5,
            "holds thumbnails of another track",
        ),
        (
            6,
            "not enabled (tkhd)",
        ),
    ]
    "#);
    assert!(asset.problems.is_empty(), "{:?}", asset.problems);
}

#[test]
fn film_with_nothing_but_disabled_tracks_plays_and_lasts_as_long_as_what_is_offered() {
    let asset = open(&movie(40_000, &[Trak { flags: 0, ..pictures() }, tone(2, 0)])).unwrap();
    assert_eq!(asset.tracks.len(), 2);
    let mut long = picture(3);
    long.tables[0] = table(b"stts", &[0, 1, 1, 25 * 60]);
    let asset = open(&movie(40_000, &[long, pictures()])).unwrap();
    assert_eq!((asset.tracks.len(), asset.duration.as_secs_f64()), (1, 4.0));
}

#[test]
fn picture_that_is_stored_turned_is_told_of() {
    let turned = Trak { matrix: [0, 1, -1, 0], ..pictures() };
    let asset = open(&movie(1_000, &[turned])).unwrap();
    insta::assert_debug_snapshot!(asset.problems, @r#"
    [
        "track 1: its picture is rotated by 90 degrees clockwise (tkhd), which RTP players are not told",
    ]
    "#);
}

#[test]
fn media_in_another_file_is_left_out() {
    let mut trak = pictures();
    let dref = boxed(b"dref", &[words(&[0, 1]), table(b"url ", &[0])].concat());
    let mut bytes = movie(1_000, &[pictures()]);
    trak.tables.clear();
    let at = bytes.windows(4).position(|w| w == b"minf").unwrap();
    let dinf = boxed(b"dinf", &dref);
    bytes.splice(at + 4..at + 4, dinf.iter().copied());
    for kind in [b"moov", b"trak", b"mdia", b"minf"] {
        let at = bytes.windows(4).position(|w| w == kind).unwrap() - 4;
        let size = u32_at(&bytes, at).unwrap() + u32::try_from(dinf.len()).unwrap();
        bytes[at..at + 4].copy_from_slice(&size.to_be_bytes());
    }
    let asset = open(&bytes).unwrap();
    assert_eq!(asset.left_out[0].reason, "its media is in another file");
}

#[test]
fn three_hour_film_fits_its_memory_budget() {
    // 25 pictures a second with B-frames, one a chunk; 48 kHz AAC, two access units a chunk.
    let (pictures, units) = (270_000u32, 506_250u32);
    let mut video = Trak::new(1, b"vide", 12_800, visual(b"vp08", &[]));
    let pairs = |f: fn(u32) -> u32| (0..pictures).flat_map(move |i| [1, f(i)]);
    let ctts =
        [0, pictures].into_iter().chain(pairs(|i| [1_024, 2_560, 1_024, 0, 512][i as usize % 5]));
    let sizes = [0, 0, pictures].into_iter().chain((0..pictures).map(|i| i % 500 * 150 + 100));
    let sync = [0, pictures / 250].into_iter().chain((0..pictures / 250).map(|i| i * 250 + 1));
    let spread = |count: u32, first: u32| (0..count).map(move |i| first + i * 3_900);
    video.tables = vec![
        table(b"stts", &[0, 1, pictures, 512]),
        table(b"ctts", &ctts.collect::<Vec<_>>()),
        table(b"stss", &sync.collect::<Vec<_>>()),
        table(b"stsc", &[0, 1, 1, 1, 1]),
        table(b"stsz", &sizes.collect::<Vec<_>>()),
        table(b"stco", &[0, pictures].into_iter().chain(spread(pictures, 8)).collect::<Vec<_>>()),
    ];
    let chunks = units / 2;
    let sizes = [0, 0, units].into_iter().chain((0..units).map(|i| 300 + i % 90));
    let mut audio = Trak::new(2, b"soun", 48_000, sound(b"Opus", 2, 48_000));
    audio.tables = vec![
        table(b"stts", &[0, 1, units, 1_024]),
        table(b"stsc", &[0, 1, 1, 2, 1]),
        table(b"stsz", &sizes.collect::<Vec<_>>()),
        table(b"stco", &[0, chunks].into_iter().chain(spread(chunks, 50_000)).collect::<Vec<_>>()),
    ];
    let file = movie(0, &[video, audio]);
    // The media itself is not there: only the header is kept, the rest reads as if it were.
    let media_bytes = 0x4010_0000_u64;
    let asset = drive(Opener::with_formats(media_bytes, any_format), |offset, out| {
        let rest = usize::try_from(offset).ok().and_then(|at| file.get(at..)).unwrap_or(&[]);
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        out[count..].fill(0);
        Ok::<usize, OpenError>(out.len())
    });
    let asset = asset.unwrap();
    let mut total = 0;
    for track in &asset.tracks {
        let (bytes, count) = (track.index.memory_bytes(), track.index.count() as usize);
        println!(
            "track {}: {count} samples, {}.{:02} bytes each",
            track.id,
            bytes / count,
            bytes * 100 / count % 100
        );
        total += bytes;
    }
    println!("{total} bytes in all");
    assert_eq!(asset.tracks.len(), 2);
    assert!((10_799.0..10_801.0).contains(&asset.duration.as_secs_f64()));
    assert!(total < 12 << 20, "{total}");
}

//! FFmpeg plays every title of the matrix over UDP and over TCP: every frame arrives, bit by bit
//! what the file holds, and the end of the title ends the player by itself (client rule C9).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::path::Path;

use crate::support;
use crate::support::boxes;
use crate::support::compare::{
    EVERY_SAMPLE, assert_same_bytes, assert_same_frames, coded_bytes, decoded_frames, hashes,
};
use crate::support::media::{Kind, TITLES, title};
use crate::support::process::run;
use crate::support::reference::Track;
use crate::support::server::Server;
use crate::support::{Served, demo_clip};

macro_rules! one_test_per_title {
    ($($name:ident)*) => {
        mod over_udp {
            $(#[test] fn $name() { super::plays_as_the_file_does(stringify!($name), "udp"); })*
        }
        mod over_tcp {
            $(#[test] fn $name() { super::plays_as_the_file_does(stringify!($name), "tcp"); })*
        }
        const PLAYED: &[&str] = &[$(stringify!($name)),*];
    };
}
crate::for_each_title!(one_test_per_title);

/// Titles of the matrix that other tests play, and why this player does not.
const PLAYED_ELSEWHERE: [&str; 9] = [
    "vp8_webm",                          // only the source of vp8_mov: WebM is not served
    "av1_mp4",                           // FFmpeg before 7 has no AV1 depacketizer: av1.rs
    "alac_alone_m4a",                    // nothing in it can be served: bad_input.rs
    "mjpeg_422_of_ffmpeg_mov",           // likewise
    "h264_aac_trimmed_by_edit_list_mp4", // its audio begins in the middle: see below
    "h264_aac_hinted_mov", // its hint track leaves out the end of the audio: see below
    "eac3_mov",            // GStreamer does not know it: see below
    "h264_created_2020_mp4", // trick_modes.rs
    "h264_aac_ten_seconds_mp4", // trick_modes.rs
];

#[test]
fn matrix_is_complete() {
    for title in TITLES {
        let played = PLAYED.contains(&title.name);
        let elsewhere = PLAYED_ELSEWHERE.contains(&title.name);
        assert!(played != elsewhere, "{} needs one test here or a reason", title.name);
    }
}

#[test]
fn title_trimmed_by_its_edit_list_plays_from_the_key_frame_and_the_cut() {
    // Pictures before the cut are sent, because those after it are decoded from them; sound before
    // the cut is of no use to anybody, but for the frame or two that a decoder warms up on. So
    // every picture arrives, and of the sound all from the cut on.
    for transport in ["udp", "tcp"] {
        let title = title("h264_aac_trimmed_by_edit_list_mp4");
        let Served { url, file, .. } = &Served::new(title);
        let kinds = [(0, Kind::H264), (1, Kind::Aac)];
        let played =
            play_as(&["-rtsp_transport", transport], url, &kinds, |kind| kind == Kind::H264);
        played[0].assert_same_as("video", file, 0);
        let Copy::Bytes(got) = &played[1] else { panic!("audio is kept as bytes") };
        let all = coded_bytes(file, 1);
        assert!(all.ends_with(got), "every access unit to the end, and nothing else");
        let audio = Track::read(file, 1);
        let after_cut = audio.samples.iter().filter(|sample| sample.pts >= 0);
        let wanted: usize = after_cut.map(|sample| sample.bytes).sum();
        assert!(got.len() >= wanted, "{} bytes of the {wanted} behind the cut", got.len());
    }
}

#[test]
fn hint_track_decides_which_samples_are_sent() {
    // FFmpeg's muxer forgets the last packet of the audio when it writes the hint track, so the
    // track carries a few access units less than the file has. Exactly these arrive: proof that
    // the packets come from the hint track and not from a packetizer of ours.
    let title = title("h264_aac_hinted_mov");
    let (video_hint, audio_hint) = (2, 3);
    for transport in ["udp", "tcp"] {
        let Served { url, file, .. } = &Served::new(title);
        let args = ["-rtsp_transport", transport];
        let played = play_as(&args, url, title.served, |kind| kind == Kind::H264);
        played[0].assert_same_as("video", file, 0);
        let Copy::Bytes(got) = &played[1] else { panic!("audio is kept as bytes") };
        let (all, hints) = (coded_bytes(file, 1), coded_bytes(file, audio_hint));
        let carried = hinted_media_bytes(&hints);
        assert!(carried < all.len(), "a muxer that forgets nothing needs no test of its own");
        assert_same_bytes("audio", got, &all[..carried]);
        assert!(hinted_media_bytes(&coded_bytes(file, video_hint)) > 0);
    }
}

/// Bytes of the media track that hint samples refer to: the sum of their sample constructors
/// (QuickTime File Format, "Packetization Hint Sample Data").
fn hinted_media_bytes(mut hints: &[u8]) -> usize {
    const CONSTRUCTOR_BYTES: usize = 16;
    const FROM_SAMPLE: u8 = 2;
    let u16_at =
        |bytes: &[u8], at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    let mut sum = 0;
    while !hints.is_empty() {
        let packets = u16_at(hints, 0);
        hints = &hints[4..];
        for _ in 0..packets {
            let (has_extra, entries) = (hints[9] & 4 != 0, u16_at(hints, 10));
            hints = &hints[12..];
            if has_extra {
                let bytes = u32::from_be_bytes(hints[..4].try_into().unwrap());
                hints = &hints[bytes as usize..];
            }
            for entry in hints[..entries * CONSTRUCTOR_BYTES].chunks_exact(CONSTRUCTOR_BYTES) {
                if entry[0] == FROM_SAMPLE && entry[1] == 0 {
                    sum += u16_at(entry, 2);
                }
            }
            hints = &hints[entries * CONSTRUCTOR_BYTES..];
        }
    }
    sum
}

#[test]
fn built_in_clip_plays_over_udp() {
    plays_the_clip("udp");
}

#[test]
fn built_in_clip_plays_over_tcp() {
    plays_the_clip("tcp");
}

#[test]
fn player_without_a_choice_of_transport_gets_udp() {
    // Client rule C1: FFmpeg asks for UDP first and takes the next only after a 461.
    let title = title("aac_m4a");
    let Served { url, file, .. } = &Served::new(title);
    play(&[], url, title.served)[0].assert_same_as("aac", file, 0);
}

#[test]
fn seek_of_the_player_lands_on_a_sync_sample_and_plays_to_the_end() {
    // Client rule C6: FFmpeg seeks by PAUSE and PLAY with a Range. `-ss` is such a seek, done
    // before the first frame; `-noaccurate_seek` keeps what comes before the wanted time.
    for transport in ["udp", "tcp"] {
        let Served { url, file, .. } = &Served::new(title("h264_aac_ten_seconds_mp4"));
        let played = run(
            "ffmpeg",
            &[
                &["-hide_banner", "-loglevel", "error", "-nostdin", "-rtsp_transport", transport],
                &["-noaccurate_seek", "-ss", "6.5", "-i", url.as_str()][..],
                &["-map", "0:0", "-fps_mode", "passthrough", "-f", "framemd5", "-"],
            ]
            .concat(),
        );
        let (got, all) = (hashes(&played.stdout), reference(file, 0));
        // A key frame each second: 6.5 s lies in the group that begins at 6 s.
        let tail = &all[6 * 25..];
        // FFmpeg opens the stream at its start to learn what is in it, then seeks: frames of the
        // first group may come first. From the seek on there is nothing but the tail.
        let from = got.iter().position(|hash| *hash == tail[0]).expect("the sync sample at 6 s");
        assert_same_frames("after the seek", &got[from..], tail);
    }
}

/// Makes two seconds of H.264 or H.265 in groups of ten pictures, 25 a second.
fn two_seconds(folder: &Path, name: &str, source: &str, how: &str) -> Vec<u8> {
    let file = folder.join(name);
    let args = format!(
        "-v error -nostdin -f lavfi -i {source}=s=320x240:r=25:d=2 -pix_fmt yuv420p -bf 0 -g 10 \
         -video_track_timescale 25000 {how} {}",
        file.display()
    );
    run("ffmpeg", &args.split_ascii_whitespace().collect::<Vec<_>>());
    std::fs::read(file).unwrap()
}

/// Plays a film of the folder's server from `seconds` on; hashes of the pictures.
fn played_from(server: &Server, name: &str, seconds: &str) -> Vec<String> {
    let (url, seek) = (server.vod_url(name), ["-noaccurate_seek", "-ss", seconds]);
    let mut input = vec!["-rtsp_transport", "tcp"];
    input.extend(seek.iter().filter(|_| seconds != "0"));
    input.extend(["-i", &url]);
    decoded_frames(&input, 0)
}

#[test]
fn film_with_two_sample_descriptions_is_decoded_across_the_change_and_after_seeks() {
    // The second description has other parameter sets under the same numbers: who decodes with
    // those of the first, from the SDP or from before the change, gets other pictures.
    let parts = tempfile::tempdir_in(support::scratch()).unwrap();
    let served = tempfile::tempdir_in(support::scratch()).unwrap();
    let high = two_seconds(parts.path(), "1.mp4", "testsrc2", "-c:v libx264 -profile:v high");
    let base = two_seconds(parts.path(), "2.mp4", "testsrc", "-c:v libx264 -profile:v baseline");
    let hevc =
        two_seconds(parts.path(), "3.mp4", "testsrc", "-c:v libx265 -x265-params log-level=1");
    std::fs::write(served.path().join("both.mp4"), boxes::joined(&high, &base)).unwrap();
    std::fs::write(served.path().join("other.mp4"), boxes::joined(&high, &hevc)).unwrap();
    let frames = |name: &str| {
        let file = parts.path().join(name).to_string_lossy().into_owned();
        decoded_frames(&["-i", &file], 0)
    };
    let first = frames("1.mp4");
    let all = [first.clone(), frames("2.mp4")].concat();
    let server = Server::with_folder(served.path());
    assert_same_frames("both descriptions", &played_from(&server, "both.mp4", "0"), &all);
    for (seconds, sync) in [("1.3", 30), ("2.1", 50), ("3.3", 80)] {
        let got = played_from(&server, "both.mp4", seconds);
        // FFmpeg may show pictures of the start, which it opened first.
        let from = got.iter().position(|hash| *hash == all[sync]).expect("the sync sample");
        assert_same_frames("after a seek", &got[from..], &all[sync..]);
    }
    // What the m= line cannot carry is not sent, and the log says so.
    assert_same_frames("the first half", &played_from(&server, "other.mp4", "0"), &first);
    server.assert_logs("50 samples are left out: sample description 2: H265/90000");
}

#[test]
fn film_with_parameter_sets_in_band_only_is_described_with_them_and_plays() {
    let folder = tempfile::tempdir_in(support::scratch()).unwrap();
    let films = [
        ("avc3.mp4", "-c:v libx264 -x264-params keyint=25", ["avc1", "avc3"], b"avcC", "h264"),
        (
            "hev1.mp4",
            "-c:v libx265 -x265-params open-gop=0:log-level=1",
            ["hev1"; 2],
            b"hvcC",
            "h265",
        ),
    ];
    for (name, how, [tag, entry], kind, extension) in films {
        let elementary = folder.path().join(name).with_extension(extension);
        let (elementary, file) = (elementary.to_string_lossy(), folder.path().join(name));
        let args = format!(
            "-v error -nostdin -f lavfi -i testsrc2=s=320x240:r=25:d=3 -pix_fmt yuv420p -g 25 \
             {how}:repeat-headers=1 {elementary}"
        );
        run("ffmpeg", &args.split_ascii_whitespace().collect::<Vec<_>>());
        let args = format!(
            "-v error -nostdin -r 25 -i {elementary} -c copy -tag:v {tag} {}",
            file.display()
        );
        run("ffmpeg", &args.split_ascii_whitespace().collect::<Vec<_>>());
        let entries = [tag, entry].map(|code| code.as_bytes().try_into().unwrap());
        let end: &[u8] = if kind == b"avcC" { &[0xe0, 0] } else { &[0] };
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, boxes::without_parameter_sets(&whole, entries, kind, end)).unwrap();
        let all = decoded_frames(&["-i", &elementary], 0);
        let server = Server::with_folder(folder.path());
        assert_same_frames(name, &played_from(&server, name, "0"), &all);
        let got = played_from(&server, name, "1.5");
        let from = got.iter().position(|hash| *hash == all[25]).expect("the sync sample at 1 s");
        assert_same_frames("after a seek", &got[from..], &all[25..]);
    }
}

fn plays_as_the_file_does(name: &str, transport: &str) {
    let title = title(name);
    let Served { url, file, .. } = &Served::new(title);
    let played = play(&["-rtsp_transport", transport], url, title.served);
    for ((stream, kind), copy) in title.served.iter().zip(&played) {
        let what = format!("{name} over {transport}, stream {stream} ({kind:?})");
        copy.assert_same_as(&what, file, *stream);
    }
}

fn plays_the_clip(transport: &str) {
    let server = Server::with_demo();
    let kinds = [(0, Kind::H264), (1, Kind::Aac)];
    let played = play(&["-rtsp_transport", transport], &server.demo_url(), &kinds);
    for (stream, copy) in [0, 1].into_iter().zip(&played) {
        copy.assert_same_as(&format!("clip over {transport}"), &demo_clip(), stream);
    }
}

/// What the player has of one stream.
enum Copy {
    /// Hash of each decoded frame.
    Frames(Vec<String>),
    /// Coded bytes, where FFmpeg decodes the same packets in another way than those of a file:
    /// MPEG audio goes to another of its decoders, Opus is always stereo over RTP (RFC 7587
    /// s4.1), AC-3 is cut anew by a parser, and PCM has no frames of its own.
    Bytes(Vec<u8>),
}

impl Copy {
    fn assert_same_as(&self, what: &str, file: &Path, stream: u32) {
        match self {
            Self::Frames(got) => assert_same_frames(what, got, &reference(file, stream)),
            Self::Bytes(got) => assert_same_bytes(what, got, &coded_bytes(file, stream)),
        }
    }
}

fn is_decoded(kind: Kind) -> bool {
    let is_pcm = matches!(kind, Kind::Pcmu | Kind::Pcma | Kind::L16 | Kind::L24);
    !(is_pcm || matches!(kind, Kind::Mp3 | Kind::Opus | Kind::Ac3 | Kind::Eac3))
}

#[test]
fn enhanced_ac_3_is_decoded_by_a_player_that_knows_the_name_of_ac_3_alone() {
    // Client rule C32. Frames of 2,560 bytes are fragmented.
    for transport in ["udp", "tcp"] {
        plays_as_the_file_does("eac3_mov", transport);
        let Served { url, file, .. } = &Served::new(title("eac3_mov"));
        let decoded = decoded_frames(&["-rtsp_transport", transport, "-i", url], 0);
        assert_eq!(decoded.len(), reference(file, 0).len());
    }
}

/// Plays all streams of `url` to the end.
fn play(transport: &[&str], url: &str, served: &[(u32, Kind)]) -> Vec<Copy> {
    play_as(transport, url, served, is_decoded)
}

fn play_as(
    transport: &[&str],
    url: &str,
    served: &[(u32, Kind)],
    is_decoded: impl Fn(Kind) -> bool,
) -> Vec<Copy> {
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let output = |place: usize| outputs.path().join(place.to_string());
    let mut args: Vec<String> = ["-hide_banner", "-loglevel", "error", "-nostdin"]
        .iter()
        .chain(transport)
        // Room for what comes while several players share two cores: loss is the server's to
        // cause, not the test's.
        .chain(&["-buffer_size", "8000000", "-flags2", "+skip_manual", "-i", url])
        .map(ToString::to_string)
        .collect();
    for (place, (_, kind)) in served.iter().enumerate() {
        let how =
            if is_decoded(*kind) { "-fps_mode passthrough -f framemd5" } else { "-c copy -f data" };
        let map = format!("-map 0:{place} {how} {}", output(place).display());
        args.extend(map.split(' ').map(ToOwned::to_owned));
    }
    run("ffmpeg", &args);
    let copy = |(place, (_, kind)): (usize, &(u32, Kind))| {
        let bytes = std::fs::read(output(place)).unwrap();
        if is_decoded(*kind) {
            Copy::Frames(hashes(&String::from_utf8(bytes).unwrap()))
        } else {
            Copy::Bytes(bytes)
        }
    };
    served.iter().enumerate().map(copy).collect()
}

fn reference(file: &Path, stream: u32) -> Vec<String> {
    let file = file.to_string_lossy().into_owned();
    let input = [&EVERY_SAMPLE[..], &["-i", &file]].concat();
    decoded_frames(&input, stream)
}

//! Titles by HLS, bit for bit.

use std::io::Write as _;

use super::served;
use crate::support::compare::{
    EVERY_SAMPLE, assert_same_bytes, assert_same_frames, coded_bytes, decoded_frames, hashes,
};
use crate::support::media::{Kind, title};
use crate::support::players::launch_to_the_end;
use crate::support::process::run;
use crate::support::server::{Options, Server};
use crate::support::{demo_clip, hls};

/// Coded bytes of a stream as FFmpeg gets them.
fn received(url: &str, stream: &str) -> Vec<u8> {
    let out = tempfile::NamedTempFile::new_in(crate::support::scratch()).unwrap();
    let to = out.path().to_str().unwrap();
    let args = ["-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-i", url, "-map", stream];
    run("ffmpeg", &[&args[..], &["-c", "copy", "-f", "data", to]].concat());
    std::fs::read(to).unwrap()
}

fn assert_ffmpeg_plays(name: &str) {
    let (_server, _folder, url) = served(name);
    let file = title(name).file();
    let path = file.to_str().unwrap();
    for (place, (stream, kind)) in (0..).zip(title(name).served) {
        match kind {
            Kind::H264 | Kind::H265 | Kind::Av1 => {
                let wanted = decoded_frames(&[&EVERY_SAMPLE[..], &["-i", path]].concat(), *stream);
                let input = ["-flags2", "+skip_manual", "-i", url.as_str()];
                assert_same_frames(name, &decoded_frames(&input, place), &wanted);
            }
            _ => {
                let got = received(&url, &format!("0:{place}"));
                assert_same_bytes(name, &got, &coded_bytes(&file, *stream));
            }
        }
    }
}

macro_rules! ffmpeg_plays {
    ($($name:ident)*) => {
        $(
            mod $name {
                #[test]
                fn is_played_by_ffmpeg_bit_for_bit() {
                    super::assert_ffmpeg_plays(stringify!($name));
                }
            }
        )*
    };
}

ffmpeg_plays! {
    h264_aac_faststart_mp4
    h264_aac_ten_seconds_mp4
    h264_aac_fragmented_mp4
    h264_aac_empty_edit_mp4
    h264_b_frames_mp4
    h264_open_gop_mp4
    h264_variable_frame_rate_mp4
    h264_baseline_in_band_parameter_sets_mp4
    h264_aac_hinted_mov
    h265_hvc1_mp4
    h265_hev1_mp4
    av1_mp4
    opus_mp4
    opus_mono_mp4
}

/// The languages of the title's sounds, as playlists name them, and which streams of the file they
/// are.
const SOUNDS: [(&str, u32); 3] = [("en", 1), ("de", 2), ("fr", 3)];

#[test]
fn each_of_several_sounds_is_played_by_ffmpeg_bit_for_bit() {
    let name = "h264_three_audio_tracks_mp4";
    let (_server, _folder, url) = served(name);
    let file = title(name).file();
    for (language, stream) in SOUNDS {
        let got = received(&url, &format!("0:a:m:language:{language}"));
        assert_same_bytes(language, &got, &coded_bytes(&file, stream));
    }
    // Unless it is told otherwise, FFmpeg takes the sound that is the default, which is English.
    assert_same_bytes("default", &received(&url, "0:a:0"), &coded_bytes(&file, 1));
    let input = ["-flags2", "+skip_manual", "-i", url.as_str()];
    let video = pictures(&input, "0:v");
    let wanted = [&EVERY_SAMPLE[..], &["-i", file.to_str().unwrap()]].concat();
    assert_same_frames("video", &video, &pictures(&wanted, "0:v"));
}

/// Hashes of all pictures that FFmpeg decodes from an input.
fn pictures(input: &[&str], map: &str) -> Vec<String> {
    let args = ["-hide_banner", "-loglevel", "error", "-nostdin"];
    let more = ["-map", map, "-fps_mode", "passthrough", "-f", "framemd5", "-"];
    hashes(&run("ffmpeg", &[&args[..], input, &more].concat()).stdout)
}

#[test]
fn gstreamer_plays_a_title_of_several_sounds_and_each_of_them() {
    let name = "h264_three_audio_tracks_mp4";
    let (_server, _folder, url) = served(name);
    let file = title(name).file();
    let source = |uri: &str| format!("uridecodebin3 uri={uri} caps=video/x-raw");
    let wanted = checksums(&source(&format!("file://{}", file.display())));
    // By itself: hlsdemux2 of GStreamer 1.22 may fail when a sound that it has begun to load is not
    // wanted.
    let list = url.replace("index.m3u8", "main.m3u8");
    let picture = format!("souphttpsrc location={list} ! hlsdemux ! qtdemux ! decodebin");
    assert_same_frames("video", &checksums(&picture), &wanted);
    for (place, (language, stream)) in SOUNDS.iter().enumerate() {
        let list = url.replace("index.m3u8", &format!("sound-{}.m3u8", place + 1));
        let out = tempfile::NamedTempFile::new_in(crate::support::scratch()).unwrap();
        let to = out.path().display();
        launch_to_the_end(&format!(
            "souphttpsrc location={list} ! hlsdemux ! qtdemux ! filesink location={to}"
        ));
        let got = std::fs::read(out.path()).unwrap();
        assert_same_bytes(language, &got, &coded_bytes(&file, *stream));
    }
    // The picture with the sound that GStreamer chooses, both to their ends.
    launch_to_the_end(&format!(
        "uridecodebin3 uri={url} name=d d. ! video/x-raw ! fakesink d. ! audio/x-raw ! fakesink"
    ));
}

/// A player that seeks loads the initialization and a segment of the middle, and nothing before it.
/// (FFmpeg 5.1 itself finds nothing behind a seek in fragmented MP4, its own included.)
#[test]
fn segment_is_decoded_alone_behind_the_initialization() {
    let server = Server::start(&Options { hls: "127.0.0.1:0", ..Options::default() });
    let get = |name: &str| hls::get(server.hls(), &format!("/demo/{name}")).body;
    let list = hls::check(std::str::from_utf8(&get("main.m3u8")).unwrap());
    let clip = demo_clip();
    let wanted = decoded_frames(&["-i", clip.to_str().unwrap()], 0);
    let init = get(&list.segments[0].map);
    for (place, segment) in list.segments.iter().enumerate().rev() {
        let mut file = tempfile::NamedTempFile::new_in(crate::support::scratch()).unwrap();
        file.write_all(&[init.as_slice(), &get(&segment.uri)].concat()).unwrap();
        let got = decoded_frames(&["-i", file.path().to_str().unwrap()], 0);
        let from = place * 100;
        assert_same_frames(&segment.uri, &got, &wanted[from..from + 100]);
    }
}

/// Checksums of all decoded pictures, as GStreamer gets them.
fn checksums(source: &str) -> Vec<String> {
    let pipeline = format!(
        "{source} ! videoconvert ! video/x-raw,format=I420 ! checksumsink hash=md5 sync=false"
    );
    let said = launch_to_the_end(&pipeline);
    let hashes = said.lines().filter_map(|line| {
        let (time, hash) = line.trim().split_once(' ')?;
        (time.starts_with("0:") && hash.len() == 32).then(|| hash.to_owned())
    });
    hashes.collect()
}

fn assert_gstreamer_plays(demuxer: &str) {
    let server = Server::start(&Options { hls: "127.0.0.1:0", ..Options::default() });
    let url = format!("http://{}/demo/index.m3u8", server.hls());
    let clip = demo_clip();
    let file = format!("filesrc location={} ! qtdemux ! h264parse ! avdec_h264", clip.display());
    let wanted = checksums(&file);
    let source = format!("souphttpsrc location={url} ! {demuxer} ! decodebin");
    assert_same_frames(demuxer, &checksums(&source), &wanted);
}

#[test]
fn gstreamer_plays_a_title_by_hlsdemux() {
    assert_gstreamer_plays("hlsdemux ! qtdemux ! h264parse");
}

#[test]
fn gstreamer_plays_a_title_by_hlsdemux2() {
    let server = Server::start(&Options { hls: "127.0.0.1:0", ..Options::default() });
    let url = format!("http://{}/demo/index.m3u8", server.hls());
    let clip = demo_clip();
    let file = format!("uridecodebin3 uri=file://{} caps=video/x-raw", clip.display());
    let source = format!("uridecodebin3 uri={url} caps=video/x-raw");
    assert_same_frames("uridecodebin3", &checksums(&source), &checksums(&file));
}

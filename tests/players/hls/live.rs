//! Live paths by HLS: what is published comes out bit for bit, from a key frame on, without a gap.

use crate::support::compare::{assert_same_frames, coded_bytes, decoded_frames};
use crate::support::http::metric;
use crate::support::media::title;
use crate::support::players::{FRAMES_A_GROUP, publish_file};
use crate::support::process::run;
use crate::support::server::{Options, Server};
use crate::support::{demo_clip, hls};

fn server() -> Server {
    Server::start(&Options { hls: "127.0.0.1:0", ..Options::default() })
}

/// FFmpeg reads so many pictures of a path; they are a part of the source's without a gap.
fn assert_ffmpeg_reads(name: &str, clip: &std::path::Path, count: usize) {
    let server = server();
    let _publisher = publish_file(clip, &server.url("live/a"), "tcp", &["-stream_loop", "3"]);
    crate::support::wait::until("the path is there", || {
        hls::get(server.hls(), "/live/a/index.m3u8").status == 200
    });
    let url = format!("http://{}/live/a/index.m3u8", server.hls());
    let frames = count.to_string();
    let args = ["-hide_banner", "-loglevel", "error", "-nostdin", "-live_start_index", "0", "-i"];
    let more = ["-map", "0:v", "-frames:v", &frames, "-fps_mode", "passthrough"];
    let args = [&args[..], &[&url], &more, &["-f", "framemd5", "-"]].concat();
    let got = crate::support::compare::hashes(&run("ffmpeg", &args).stdout);
    let once = decoded_frames(&["-i", clip.to_str().unwrap()], 0);
    let wanted = [once.as_slice(), &once, &once].concat();
    let first = got.first().expect("pictures");
    let at = wanted.iter().position(|hash| hash == first).expect("a picture of the clip");
    let wanted = &wanted[at..(at + got.len()).min(wanted.len())];
    assert_eq!(got.len(), count);
    assert_same_frames(name, &got, wanted);
}

#[test]
fn ffmpeg_reads_a_published_path_of_h264_and_aac() {
    assert_ffmpeg_reads("h264", &demo_clip(), 150);
}

#[test]
fn ffmpeg_reads_a_published_path_of_h265() {
    assert_ffmpeg_reads("h265", &title("h265_hvc1_mp4").file(), 60);
}

#[test]
fn ffmpeg_reads_a_published_path_with_b_frames() {
    assert_ffmpeg_reads("b-frames", &title("h264_b_frames_mp4").file(), 60);
}

#[test]
fn sound_comes_as_it_was_published() {
    let server = server();
    let clip = demo_clip();
    let _publisher = publish_file(&clip, &server.url("live/a"), "tcp", &["-stream_loop", "3"]);
    crate::support::wait::until("the path is there", || {
        hls::get(server.hls(), "/live/a/index.m3u8").status == 200
    });
    let url = format!("http://{}/live/a/index.m3u8", server.hls());
    let out = tempfile::NamedTempFile::new_in(crate::support::scratch()).unwrap();
    let to = out.path().to_str().unwrap();
    let args = ["-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-live_start_index", "0"];
    let more = ["-i", &url, "-t", "5", "-map", "0:a", "-c", "copy", "-f", "data", to];
    run("ffmpeg", &[&args[..], &more].concat());
    let got = std::fs::read(to).unwrap();
    let once = coded_bytes(&clip, 1);
    let wanted = [once.as_slice(), &once].concat();
    assert!(got.len() > 10_000, "{}", got.len());
    assert!(wanted.windows(got.len()).any(|part| part == got), "not a part of the clip's sound");
}

#[test]
fn each_of_several_sounds_comes_as_it_was_published() {
    let server = server();
    let file = title("h264_three_audio_tracks_mp4").file();
    let _publisher = publish_file(&file, &server.url("live/a"), "tcp", &["-stream_loop", "9"]);
    crate::support::wait::until("the path is there", || {
        hls::get(server.hls(), "/live/a/index.m3u8").status == 200
    });
    let url = format!("http://{}/live/a/index.m3u8", server.hls());
    let outs =
        [(); 3].map(|()| tempfile::NamedTempFile::new_in(crate::support::scratch()).unwrap());
    let args = ["-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-live_start_index", "0"];
    let mut args = [&args[..], &["-i", &url]].concat();
    let maps = ["0:a:0", "0:a:1", "0:a:2"];
    for (map, out) in maps.iter().zip(&outs) {
        let to = out.path().to_str().unwrap();
        args.extend(["-map", map, "-t", "5", "-c", "copy", "-f", "data", to]);
    }
    run("ffmpeg", &args);
    for (stream, out) in (1..).zip(&outs) {
        let (got, once) = (std::fs::read(out.path()).unwrap(), coded_bytes(&file, stream));
        let wanted = once.repeat(4);
        assert!(got.len() > once.len(), "{stream}: {} of {}", got.len(), once.len());
        let is_part = wanted.windows(got.len()).any(|part| part == got);
        assert!(is_part, "sound {stream} is not a part of what was published");
    }
}

#[test]
fn gstreamer_reads_a_published_path() {
    let server = server();
    let clip = demo_clip();
    let _publisher = publish_file(&clip, &server.url("live/a"), "tcp", &["-stream_loop", "3"]);
    crate::support::wait::until("the path is there", || {
        hls::get(server.hls(), "/live/a/index.m3u8").status == 200
    });
    let url = format!("http://{}/live/a/index.m3u8", server.hls());
    let pipeline = format!(
        "uridecodebin3 uri={url} caps=video/x-raw ! videoconvert ! video/x-raw,format=I420 ! \
         identity eos-after=100 ! checksumsink hash=md5 sync=false"
    );
    let said = crate::support::players::launch_to_the_end(&pipeline);
    let hash = |line: &str| {
        let (time, hash) = line.trim().split_once(' ')?;
        (time.starts_with("0:") && hash.len() == 32).then(|| hash.to_owned())
    };
    let got: Vec<String> = said.lines().filter_map(hash).collect();
    let once = decoded_frames(&["-i", clip.to_str().unwrap(), "-pix_fmt", "yuv420p"], 0);
    assert!(got.len() >= 99, "{}", got.len());
    // The end is made in the middle of a group, where the decoder still holds pictures back.
    assert!(skips(&got[..90], &once) <= 1, "a player that is late skips to a later segment once");
    for lost in ["frames_lost", "segments_evicted"] {
        assert_eq!(metric(server.admin, &format!("headend_hls_{lost}_total")), Some(0.0), "{lost}");
    }
}

/// How often a player of a clip that is sent over and over has gone on with another group than the
/// next one: whatever it has shown is the clip's, group for group.
fn skips(got: &[String], clip: &[String]) -> usize {
    let begins = |hash: &String| {
        let mut starts = (0..clip.len()).step_by(FRAMES_A_GROUP);
        starts.find(|at| clip[*at] == *hash)
    };
    let (mut at, mut skips) = (begins(&got[0]).expect("begins with a group of the clip"), 0);
    for (n, hash) in got.iter().enumerate().skip(1) {
        at = (at + 1) % clip.len();
        if clip[at] != *hash {
            at = begins(hash).unwrap_or_else(|| panic!("picture {n} is not the next one"));
            skips += 1;
        }
    }
    skips
}

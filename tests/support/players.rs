//! FFmpeg and GStreamer as children that publish, send and read, and the judgement of what they
//! have read of a path.
//!
//! ```text
//!  publish(), send() --> server --> read(), player() --> files --> assert_read_to_the_end()
//! ```
//! A reader of a path begins with a key frame of what is published and misses nothing from there
//! on; its sound is a part of what was published, without a gap.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::compare::{EVERY_SAMPLE, assert_same_frames, decoded_frames, hashes};
use super::demo_clip;
use super::process::{Kept, PLAYER_PATIENCE, run, run_any, wait_for};

/// Both the built-in clip and the clips of the live tests have a key frame each second.
pub(crate) const FRAMES_A_GROUP: usize = 25;

/// FFmpeg that says errors only.
pub(crate) fn ffmpeg() -> Command {
    quiet(Command::new("ffmpeg"))
}

/// FFmpeg that publishes a file at its own speed, with `input` in front of the file.
pub(crate) fn publish_file(file: &Path, url: &str, transport: &str, input: &[&str]) -> Kept {
    let output = ["-map", "0", "-c", "copy", "-f", "rtsp", "-rtsp_transport", transport, url];
    send_file(file, input, &output)
}

/// As `publish_file`, of the built-in clip.
pub(crate) fn publish(url: &str, transport: &str, input: &[&str]) -> Kept {
    publish_file(&demo_clip(), url, transport, input)
}

/// FFmpeg that reads a file at its own speed, with `input` in front of it; its outputs are to be
/// added.
pub(crate) fn sender(file: &Path, input: &[&str]) -> Command {
    let mut command = ffmpeg();
    command.arg("-re").args(input).arg("-i").arg(file);
    command
}

/// FFmpeg that sends a file at its own speed, to whatever `output` says.
pub(crate) fn send_file<S: AsRef<OsStr>>(file: &Path, input: &[&str], output: &[S]) -> Kept {
    Kept::start(sender(file, input).args(output))
}

/// FFmpeg that plays a URL; its outputs are to be added.
pub(crate) fn player(url: &str, transport: &str) -> Command {
    let mut command = ffmpeg();
    command.args(["-rtsp_transport", transport, "-buffer_size", "8000000"]);
    command.args(["-flags2", "+skip_manual", "-i", url]);
    command
}

/// Each picture once, in the ticks of its source: at a seam of two sources, two pictures may lie
/// less than a frame's time apart.
pub(crate) const PICTURES_IN_TICKS: [&str; 4] =
    ["-fps_mode", "passthrough", "-enc_time_base", "-1"];

/// FFmpeg that reads a path to its end: hashes of decoded pictures in `to.video`, sound as it came
/// in `to.audio`.
pub(crate) fn read(url: &str, transport: &str, to: &Path) -> Kept {
    let mut command = player(url, transport);
    command.args(["-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framemd5"]);
    command.arg(to.with_extension("video"));
    command.args(["-map", "0:a:0", "-c", "copy", "-f", "data"]).arg(to.with_extension("audio"));
    Kept::start(&mut command)
}

/// FFmpeg that reads so many pictures of a path, their hashes in `to` as they come, and what `more`
/// says.
pub(crate) fn read_frames<S: AsRef<OsStr>>(
    url: &str,
    transport: &str,
    count: usize,
    to: &Path,
    more: &[S],
) -> Kept {
    let mut command = player(url, transport);
    command.args(["-map", "0:v", "-fps_mode", "passthrough", "-frames:v", &count.to_string()]);
    command.args(["-flush_packets", "1", "-f", "framemd5"]).arg(to).args(more);
    Kept::start(&mut command)
}

/// A pipeline that runs until it ends, by a `gst-launch-1.0`; what that says goes to `log`.
pub(crate) fn launch_as(mut command: Command, pipeline: &str, log: &Path) -> Kept {
    command.args(pipeline.split_whitespace()).stdout(File::create(log).unwrap());
    Kept::start(&mut command)
}

/// A pipeline that runs until it ends; what GStreamer says goes to `log`.
pub(crate) fn launch(pipeline: &str, log: &Path) -> Kept {
    launch_as(Command::new("gst-launch-1.0"), pipeline, log)
}

/// Runs a pipeline until it ends by itself; returns what it printed.
///
/// Well ended is one whose sinks have all got the end of their stream, which no error came before.
/// The exit code says less: on its way out gst-launch pauses and closes rtspsrc at once, the two
/// race, and now and then the loser reports that its PAUSE could not be sent.
///
/// On a busy machine GStreamer 1.22 itself crashes once in some hundred runs, and its hlsdemux2
/// loses a race when it begins with several renditions, whichever server has the files: a pipeline
/// that was ended by SIGSEGV or by that is run again, a few times.
pub(crate) fn launch_to_the_end(pipeline: &str) -> String {
    // Without the option, a gst-launch that crashes waits for a debugger.
    let args: Vec<_> = ["--no-fault"].into_iter().chain(pipeline.split_whitespace()).collect();
    let run = || run_any("gst-launch-1.0", &args, PLAYER_PATIENCE);
    let mut ended = run();
    for _ in 0..PLAYER_TRIES {
        let has_crashed = ended.status.signal() == Some(libc::SIGSEGV);
        if !has_crashed && !ended.stderr.contains("hlsdemux2-0: Couldn't download fragments") {
            break;
        }
        println!("GStreamer has failed: {pipeline}\n{}", ended.stderr);
        ended = run();
    }
    let has_ended_well = ended.stdout.contains("Got EOS from element");
    assert!(has_ended_well, "{pipeline}\n{}\n{}", ended.stdout, ended.stderr);
    ended.stdout
}

/// Further runs of a pipeline that GStreamer itself has ended.
const PLAYER_TRIES: usize = 9;

/// Waits for a pipeline that `launch` has started: it has ended well, as `launch_to_the_end` says.
pub(crate) fn assert_launched_well(child: &mut Kept, log: &Path, what: &str) {
    let status = wait_for(&mut child.0, PLAYER_PATIENCE);
    let said = std::fs::read_to_string(log).unwrap();
    assert!(said.contains("Got EOS from element"), "{what}: {status:?}\n{said}");
}

/// A pipeline of GStreamer that receives the pictures of a URL into a file. `more`: properties of
/// rtspsrc.
pub(crate) fn receiver(url: &str, more: &str, to: &Path) -> String {
    format!(
        "rtspsrc location={url} {more} latency=1000 name=s s. ! rtph264depay ! \
         video/x-h264,stream-format=byte-stream,alignment=au ! identity single-segment=true ! \
         filesink location={} s. ! rtpmp4gdepay ! fakesink",
        to.display()
    )
}

/// Hashes of the pictures that GStreamer receives of a URL until its end, decoded by FFmpeg.
pub(crate) fn received(url: &str, more: &str) -> Vec<String> {
    let outputs = tempfile::tempdir_in(super::scratch()).unwrap();
    let to = outputs.path().join("video.h264");
    launch_to_the_end(&receiver(url, more, &to));
    decoded_frames(&["-f", "h264", "-i", to.to_str().unwrap()], 0)
}

/// Hashes of the pictures of the built-in clip, as a player decodes them.
pub(crate) fn clip_frames() -> Vec<String> {
    frames_of(&demo_clip())
}

/// Hashes of the pictures that a reader has written to a file.
pub(crate) fn frames_in(file: &Path) -> Vec<String> {
    hashes(&std::fs::read_to_string(file).unwrap())
}

/// Hashes of all pictures of a file.
pub(crate) fn frames_of(file: &Path) -> Vec<String> {
    decoded_frames(&[&EVERY_SAMPLE[..], &["-i", &file.to_string_lossy()]].concat(), 0)
}

/// Hashes of the pictures that `publish` sends with `-t seconds`.
pub(crate) fn published_frames(seconds: &str) -> Vec<String> {
    let cut = tempfile::Builder::new().suffix(".mp4").tempfile_in(super::scratch()).unwrap();
    let (clip, to) = (demo_clip(), cut.path().to_string_lossy().into_owned());
    let clip = clip.to_string_lossy();
    let quiet = ["-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-t", seconds];
    run("ffmpeg", &[&quiet[..], &["-i", &clip, "-c", "copy", &to]].concat());
    frames_of(cut.path())
}

/// The index among `all` of the first picture that was read: a key frame.
fn first_of(what: &str, got: &[String], all: &[String]) -> usize {
    let from = all.iter().position(|hash| Some(hash) == got.first());
    let from = from.unwrap_or_else(|| panic!("{what}: begins with a frame of the clip"));
    assert_eq!(from % FRAMES_A_GROUP, 0, "{what}: begins with a key frame");
    from
}

/// All pictures from a key frame to the end.
pub(crate) fn assert_read_to_the_end(what: &str, got: &[String], all: &[String]) {
    assert_same_frames(what, got, &all[first_of(what, got, all)..]);
}

/// Some pictures from a key frame on.
pub(crate) fn assert_read_from_a_key_frame(what: &str, got: &[String], all: &[String]) {
    let from = first_of(what, got, all);
    assert!(from + got.len() <= all.len(), "{what}: {} frames", got.len());
    assert_same_frames(what, got, &all[from..from + got.len()]);
}

/// A part of the sound that was published, more than one in `least_one_in` bytes of it.
pub(crate) fn assert_sound_without_a_gap(what: &str, got: &[u8], all: &[u8], least_one_in: usize) {
    assert!(got.len() > all.len() / least_one_in, "{what}: {} bytes of sound", got.len());
    let is_part = all.windows(got.len()).any(|part| part == got);
    assert!(is_part, "{what}: sound is what was published, without a gap");
}

fn quiet(mut command: Command) -> Command {
    command.args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"]).stdin(Stdio::null());
    command
}

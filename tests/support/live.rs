//! Live paths with real clients: FFmpeg publishes a file and reads a path.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::demo_clip;
use super::process::{PLAYER_PATIENCE, wait_for};
use super::rtsp::Client;
use super::server::Server;
use super::wait::until;

/// Publishes the clip at its own speed.
pub(crate) fn publish(url: &str, transport: &str, input: &[&str]) -> Child {
    publish_file(&demo_clip(), url, transport, input)
}

/// Publishes a file at its own speed.
pub(crate) fn publish_file(clip: &Path, url: &str, transport: &str, input: &[&str]) -> Child {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-loglevel", "error", "-nostdin", "-re"]).args(input);
    command.arg("-i").arg(clip).args([
        "-map",
        "0",
        "-c",
        "copy",
        "-f",
        "rtsp",
        "-rtsp_transport",
        transport,
    ]);
    command.arg(url).stdin(Stdio::null()).spawn().unwrap()
}

/// Reads a path to its end: hashes of decoded pictures, and sound as it came.
pub(crate) fn read(url: &str, transport: &str, to: &Path) -> Child {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-loglevel", "error", "-nostdin", "-rtsp_transport", transport]);
    command.args(["-buffer_size", "8000000", "-flags2", "+skip_manual", "-i", url]);
    command.args(["-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framemd5"]);
    command.arg(to.with_extension("video"));
    command.args(["-map", "0:a:0", "-c", "copy", "-f", "data"]).arg(to.with_extension("audio"));
    command.stdin(Stdio::null()).spawn().unwrap()
}

pub(crate) fn assert_ends_well(child: &mut Child, what: &str) {
    let status = wait_for(child, PLAYER_PATIENCE);
    assert!(status.is_some_and(|status| status.success()), "{what}: {status:?}");
}

pub(crate) fn describe(server: &Server, path: &str) -> u16 {
    let mut client = Client::connect(server.rtsp);
    client.request("DESCRIBE", &server.url(path), &[]).status
}

pub(crate) fn wait_until_described(server: &Server, path: &str) {
    until("the path is published", || describe(server, path) == 200);
}

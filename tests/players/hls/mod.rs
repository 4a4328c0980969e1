//! HLS: FFmpeg and GStreamer play titles and live paths, and what they decode is compared with the
//! source.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed, and says where"
)]

mod live;
mod titles;

use crate::support::folder_with;
use crate::support::media::title;
use crate::support::server::{Options, Server, percent_encoded};

/// A title of the matrix, served by HLS: server, folder, path of its playlist.
fn served(name: &str) -> (Server, tempfile::TempDir, String) {
    let file = title(name).file();
    let folder = folder_with(&[&file]);
    let options = Options { folder: Some(folder.path()), hls: "127.0.0.1:0", ..Options::default() };
    let server = Server::start(&options);
    let name = percent_encoded(file.file_name().unwrap().to_str().unwrap());
    let url = format!("http://{}/vod/{name}/index.m3u8", server.hls());
    (server, folder, url)
}

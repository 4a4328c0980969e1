//! What tests stand on: the server as a child, players, a raw client, media.
//!
//! ```text
//! server   the binary under test, started on free ports, ended by its own id
//! rtsp     a client that sends what a test tells it to, right or wrong
//! session  DESCRIBE, SETUP, PLAY and the packets that come of it
//! rtp      RTP and RTCP read back, written apart from the product so that it can disagree
//! media    the matrix: one file per codec and container feature, made by ffmpeg
//! boxes    surgery on MP4 boxes
//! camera   a camera that a test scripts
//! compare  frames and bytes of a player held against those of the file
//! login    users of a server, and answers to its challenges
//! live     live paths as clients and operators see them
//! players  FFmpeg and GStreamer as publishers and readers of paths
//! publish  a raw publisher, and a witness that must not be disturbed
//! reference  the samples of a file, as ffprobe reads them
//! reflect  a base, nodes and an origin, and a live path from node to node
//! baseline what a server had before strangers came, and whether that is so again
//! base     a base of distribution, a client of it, and a node that follows a script
//! network  a network namespace for one test
//! lab      hosts on a switch with limits of what they send and receive
//! delay    a cable that takes time
//! distribution  a base and nodes on the hosts of a lab
//! postgres a PostgreSQL server with a database for each test
//! process  real players with a time limit
//! secure   a server with TLS, and a client that says what a test wants over it
//! tunnel   RTSP over HTTP, byte by byte
//! takeover  servers that take over from one another, and a program between them
//! sandbox  a child that may not make a system call
//! http     the admin port
//! hls      HLS, and the rules of its playlists
//! browser  a real browser without a window
//! ```
//! Bound: every wait ends, by a deadline on a condition; no test sleeps for a fixed time.
//!
//! Each test program compiles it again. All four together are compiled and linked in six seconds on
//! two cores, most of that for the tests and the linker; a crate of its own would save two seconds
//! of them, and would not be told by cargo where the server and the scratch folder are.
#![allow(dead_code, reason = "each test program takes the part of it that it needs")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and says where"
)]

pub(crate) mod av1;
pub(crate) mod base;
pub(crate) mod baseline;
pub(crate) mod boxes;
pub(crate) mod browser;
pub(crate) mod camera;
pub(crate) mod compare;
pub(crate) mod delay;
pub(crate) mod distribution;
pub(crate) mod hls;
pub(crate) mod http;
pub(crate) mod lab;
pub(crate) mod live;
pub(crate) mod login;
pub(crate) mod media;
pub(crate) mod network;
pub(crate) mod players;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod publish;
pub(crate) mod reference;
pub(crate) mod reflect;
pub(crate) mod rtp;
pub(crate) mod rtsp;
pub(crate) mod sandbox;
pub(crate) mod sdp;
pub(crate) mod secure;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod takeover;
pub(crate) mod tunnel;
pub(crate) mod wait;
pub(crate) mod whep;

use std::path::{Path, PathBuf};

use media::Title;
use server::Server;

/// Where tests put what they make: inside `target`, so that it is kept between runs and gone with
/// `cargo clean`.
pub(crate) fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// The built-in clip as a file.
pub(crate) fn demo_clip() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/library/demo.mp4")
}

/// A folder of media that holds copies (hard links where possible) of `files`.
pub(crate) fn folder_with(files: &[&Path]) -> tempfile::TempDir {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    for file in files {
        let to = folder.path().join(file.file_name().unwrap());
        if std::fs::hard_link(file, &to).is_err() {
            std::fs::copy(file, &to).unwrap();
        }
    }
    folder
}

/// A title of the matrix, served from a folder that holds nothing else.
#[derive(Debug)]
pub(crate) struct Served {
    // Fields are dropped in this order: the server before its folder.
    pub(crate) server: Server,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) file: PathBuf,
    pub(crate) url: String,
}

impl Served {
    pub(crate) fn new(title: &Title) -> Self {
        let file = title.file();
        let folder = folder_with(&[&file]);
        let server = Server::with_folder(folder.path());
        let url = server.vod_url(file.file_name().unwrap().to_str().unwrap());
        Self { server, folder, file, url }
    }
}

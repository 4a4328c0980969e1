//! What players of today make of the server: FFmpeg and GStreamer play, publish and are pulled
//! from, and what they decode is compared with the source, frame by frame and byte by byte.
//!
//! Most tests last as long as their media.

#[path = "../support/mod.rs"]
mod support;

mod distribution;
mod drain;
mod hls;
mod images;
mod input;
mod interop;
mod live;
mod live_jobs;
mod login;
mod moves;
mod multicast;
mod peek;
mod pull;
mod retransmission;
mod secure;
mod send_path;
mod srtp;
mod takeover;
mod webdav;

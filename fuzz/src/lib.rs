//! Bodies of the fuzz targets: every parser of bytes that a stranger, a camera, a file, another
//! node or a disk gives.
//!
//! ```text
//! fuzz_targets/NAME.rs --scripts/fuzz.sh--> body(bytes) <--tests/replay.rs-- corpus/NAME/
//! ```
//! A body takes any bytes. It returns, or panics when one of these does not hold:
//! - a parser does not panic, and what it gives is bounded by what it was given;
//! - what was read, written and read again is the same;
//! - bytes in pieces, cut anywhere, give the same as all of them at once;
//! - the invariants that the header of the parser's module names.
//!
//! A new target is a body here, its line in [`TARGETS`], a file in `fuzz_targets/`, its lines in
//! `Cargo.toml` and at least one input in `corpus/`; `tests/replay.rs` compares these lists.
#![allow(clippy::expect_used, reason = "a body panics to tell of a fault: it is for that")]

pub mod access;
pub mod canary;
pub mod config;
pub mod depacketize;
pub mod dist;
pub mod hls;
pub mod http;
pub mod input;
pub mod live;
pub mod media;
pub mod packetize;
pub mod pki;
pub mod rtcp;
pub mod rtp;
pub mod rtsp;
pub mod sdp;
pub mod srtp;
pub mod store;
pub mod tunnel;
pub mod wire;

/// Takes any bytes, and panics when they show a fault.
pub type Body = fn(&[u8]);

/// Every target but [`canary`], by the name of its program and of its folder in `corpus/`.
pub const TARGETS: &[(&str, Body)] = &[
    ("access_authorization", access::authorization),
    ("access_jwt", access::jwt),
    ("access_login", access::login),
    ("config_file", config::file),
    ("config_values", config::values),
    ("dist_chain", dist::chain),
    ("dist_frames", dist::frames),
    ("dist_journal", dist::journal),
    ("dist_names", dist::names),
    ("dist_relay", dist::relay),
    ("dist_tokens", dist::tokens),
    ("dist_wire", wire::wire),
    ("hls_live", hls::live),
    ("hls_names", hls::names),
    ("http_peer", http::peer),
    ("http_upload", http::upload),
    ("live_sniff", live::sniff),
    ("live_source", live::source),
    ("media_hint", media::hint),
    ("media_open", media::open),
    ("packetize_audio", packetize::audio),
    ("packetize_av1", packetize::av1),
    ("packetize_h264", packetize::h264),
    ("packetize_h265", packetize::h265),
    ("packetize_jpeg", packetize::jpeg),
    ("packetize_video", packetize::video),
    ("pki_pem", pki::pem),
    ("rtcp_clock", rtcp::clock),
    ("rtcp_read", rtcp::read),
    ("rtcp_write", rtcp::write),
    ("rtp_cut", rtp::cut),
    ("rtp_depacketize", depacketize::depacketize),
    ("rtp_detect", rtp::detect),
    ("rtp_sequence", rtp::sequence),
    ("rtp_view", rtp::view),
    ("rtsp_headers", rtsp::headers),
    ("rtsp_range", rtsp::range),
    ("rtsp_reader", rtsp::reader),
    ("rtsp_transport", rtsp::transport),
    ("rtsp_uri", rtsp::uri),
    ("rtsp_write", rtsp::write),
    ("sdp_read", sdp::read),
    ("srtp_keys", srtp::keys),
    ("srtp_mikey", srtp::mikey),
    ("srtp_unprotect", srtp::unprotect),
    ("store_journal", store::journal),
    ("tunnel_framing", tunnel::framing),
];

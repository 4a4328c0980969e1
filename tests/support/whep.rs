//! WHEP as a client sees it: an offer as Chromium makes it, and requests with a body.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::demo_clip;
use super::hls::{Answer, ask_with};
use super::live::wait_until_described;
use super::players::publish_file;
use super::process::{Kept, run};
use super::server::Server;

/// What Chromium 140 offers for one video and one sound to be received, without codecs that do not
/// matter here.
pub(crate) const OFFER: &str = "v=0\r\n\
    o=- 4611731400430051336 2 IN IP4 127.0.0.1\r\n\
    s=-\r\n\
    t=0 0\r\n\
    a=group:BUNDLE 0 1\r\n\
    a=extmap-allow-mixed\r\n\
    a=msid-semantic: WMS\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 96 103 104\r\n\
    c=IN IP4 0.0.0.0\r\n\
    a=rtcp:9 IN IP4 0.0.0.0\r\n\
    a=ice-ufrag:4ZcD\r\n\
    a=ice-pwd:2/1muCWoOi3uLifh0NuRHlfl\r\n\
    a=ice-options:trickle\r\n\
    a=fingerprint:sha-256 75:74:5A:A6:A4:E5:52:F4:A7:67:4C:01:C7:EE:91:3F:21:3D:A2:E3:53:7B:6F:30:\
    86:F2:30:AA:65:FB:04:24\r\n\
    a=setup:actpass\r\n\
    a=mid:0\r\n\
    a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
    a=recvonly\r\n\
    a=rtcp-mux\r\n\
    a=rtcp-rsize\r\n\
    a=rtpmap:96 VP8/90000\r\n\
    a=rtpmap:103 H264/90000\r\n\
    a=rtcp-fb:103 ccm fir\r\n\
    a=rtcp-fb:103 nack\r\n\
    a=rtcp-fb:103 nack pli\r\n\
    a=fmtp:103 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
    a=rtpmap:104 rtx/90000\r\n\
    a=fmtp:104 apt=103\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
    c=IN IP4 0.0.0.0\r\n\
    a=rtcp:9 IN IP4 0.0.0.0\r\n\
    a=ice-ufrag:4ZcD\r\n\
    a=ice-pwd:2/1muCWoOi3uLifh0NuRHlfl\r\n\
    a=ice-options:trickle\r\n\
    a=fingerprint:sha-256 75:74:5A:A6:A4:E5:52:F4:A7:67:4C:01:C7:EE:91:3F:21:3D:A2:E3:53:7B:6F:30:\
    86:F2:30:AA:65:FB:04:24\r\n\
    a=setup:actpass\r\n\
    a=mid:1\r\n\
    a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
    a=recvonly\r\n\
    a=rtcp-mux\r\n\
    a=rtpmap:111 opus/48000/2\r\n\
    a=fmtp:111 minptime=10;useinbandfec=1\r\n";

/// POSTs an offer to `/<path>/whep`; `headers`: further lines that end with CRLF.
pub(crate) fn post(hls: SocketAddr, path: &str, headers: &str, offer: &str) -> Answer {
    let headers = format!("Content-Type: application/sdp\r\n{headers}");
    ask_with(hls, "POST", &format!("/{path}/whep"), &headers, offer)
}

/// The clip as a low-latency encoder would send it: no picture is shown later than it is decoded.
/// `sound` is FFmpeg's encoder.
fn low_latency_clip(sound: &str) -> PathBuf {
    let clip = demo_clip();
    let input = ["-i", clip.to_str().unwrap()];
    let video = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", "50"];
    let output = ["-crf", "18", "-c:a", sound, "-ar", "48000"];
    made(&format!("low_latency_{sound}.mp4"), &[&input[..], &video, &output].concat())
}

/// Publishes it at `live/a`, over and over.
pub(crate) fn publish_low_latency(server: &Server, sound: &str) -> Kept {
    publish_again_and_again(server, &low_latency_clip(sound))
}

/// Publishes a file at `live/a`, over and over.
pub(crate) fn publish_again_and_again(server: &Server, file: &Path) -> Kept {
    let publisher = publish_file(file, &server.url("live/a"), "tcp", &["-stream_loop", "-1"]);
    wait_until_described(server, "live/a");
    publisher
}

/// A file that `arguments` of FFmpeg make, once.
pub(crate) fn made(name: &str, arguments: &[&str]) -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let file = super::scratch().join(name);
    if !file.exists() {
        let part = file.with_extension("part");
        let ends = ["-f", "mp4", part.to_str().unwrap()];
        run("ffmpeg", &[&["-loglevel", "error", "-y"][..], arguments, &ends].concat());
        std::fs::rename(part, &file).unwrap();
    }
    file
}

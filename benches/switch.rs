//! How long an operator's switch takes, from the request to the first packet of the new source at a
//! reader, while both sources send.
//!
//! ```text
//!  publisher of --a--.
//!                    +--> server --path--> reader: time of the first packet of the other source
//!  publisher of --b--'      ^---- POST :switch ---- time of the request
//! ```
//! Each packet tells which source it is of. The publishers send a frame every 40 ms and a key frame
//! with every tenth. `scripts/switch.sh` starts the server, which needs `fallback` and `standby`.
//!
//! Bound: it ends after the switches asked for, or with the first that takes `PATIENCE`.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use clap::Parser;

/// What went wrong, for people.
type Failure = Box<dyn Error>;

/// Measures switches of a running server.
#[derive(Debug, Parser)]
#[command(name = "switch")]
struct Options {
    /// Address of RTSP; without it nothing is done
    #[arg(long, value_name = "IP:PORT")]
    rtsp: Option<SocketAddr>,
    /// Address of the API
    #[arg(long, default_value = "127.0.0.1:9997", value_name = "IP:PORT")]
    admin: SocketAddr,
    /// Path with fallbacks, whose own source is published
    #[arg(long, default_value = "live/a")]
    path: String,
    /// Path of its fallback
    #[arg(long, default_value = "live/b")]
    other: String,
    /// Switches of each kind
    #[arg(long, default_value_t = 100)]
    switches: u32,
    /// What cargo passes to benches; ignored
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let Some(rtsp) = options.rtsp else { return ExitCode::SUCCESS };
    let is_over = Arc::new(AtomicBool::new(false));
    let measured = measure(&options, rtsp, &is_over);
    is_over.store(true, Ordering::Relaxed);
    let mut out = std::io::stdout();
    let told = measured.and_then(|text| Ok(out.write_all(text.as_bytes())?));
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _nobody_reads = writeln!(std::io::stderr(), "switch: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(
    options: &Options,
    rtsp: SocketAddr,
    is_over: &Arc<AtomicBool>,
) -> Result<String, Failure> {
    for (origin, path) in [(0, &options.path), (1, &options.other)] {
        let stream = publish(rtsp, path)?;
        let is_over = Arc::clone(is_over);
        std::thread::spawn(move || send_frames(stream, origin, &is_over));
    }
    let (sender, packets) = channel();
    let stream = play(rtsp, &options.path)?;
    std::thread::spawn(move || read_packets(stream, &sender));
    let mut text = String::new();
    for at in ["now", "keyframe"] {
        let mut times = Vec::new();
        for number in 0..options.switches {
            let time = switch(options, &packets, number % 2 == 0, at)?;
            times.push(time.as_secs_f64() * 1e3);
            // The phase of the group of pictures differs each time.
            for _ in 0..6 + number % 11 {
                packets.recv_timeout(PATIENCE)?;
            }
        }
        times.sort_by(f64::total_cmp);
        let part = |per_cent: usize| times[(times.len() * per_cent / 100).min(times.len() - 1)];
        let (half, most, max) = (part(50), part(99), part(100));
        let budget = if at == "now" { NOW_MS } else { GROUP_MS };
        text += &format!(
            "{at:>8}  {} switches  p50 {half:.2} ms  p99 {most:.2} ms  max {max:.2} ms  \
             budget of p99 {budget} ms\n",
            times.len()
        );
    }
    Ok(text)
}

/// From the request to the first packet of the other source.
fn switch(
    options: &Options,
    packets: &Receiver<(Instant, u8)>,
    to_other: bool,
    at: &str,
) -> Result<Duration, Failure> {
    let body = format!(r#"{{"to":"{}","at":"{at}"}}"#, u8::from(to_other));
    let head = format!(
        "POST /v1/paths/{}:switch HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        options.path,
        options.admin,
        body.len()
    );
    let deadline = Instant::now() + PATIENCE;
    // Refused: the source has changed just now, or does not send yet.
    let begun = loop {
        let mut stream = TcpStream::connect(options.admin)?;
        stream.set_nodelay(true)?;
        while packets.try_recv().is_ok() {}
        let begun = Instant::now();
        stream.write_all(head.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if answer.starts_with("HTTP/1.1 200") {
            break begun;
        }
        if begun > deadline {
            return Err(answer.into());
        }
        std::thread::sleep(FRAME);
    };
    loop {
        let (came, origin) = packets.recv_timeout(PATIENCE)?;
        if origin == u8::from(to_other) {
            return Ok(came.saturating_duration_since(begun));
        }
        if came > deadline {
            return Err("the source does not change".into());
        }
    }
}

/// ANNOUNCE, SETUP and RECORD over TCP.
fn publish(rtsp: SocketAddr, path: &str) -> Result<TcpStream, Failure> {
    let mut stream = TcpStream::connect(rtsp)?;
    stream.set_nodelay(true)?;
    let url = format!("rtsp://{rtsp}/{path}");
    let sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
        a=rtpmap:96 H264/90000\r\n\
        a=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0LAHtk=,aMuD\r\n\
        a=control:streamid=0\r\n";
    ask(&mut stream, "ANNOUNCE", &url, "Content-Type: application/sdp\r\n", sdp)?;
    let transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1;mode=record\r\n";
    let id = ask(&mut stream, "SETUP", &format!("{url}/streamid=0"), transport, "")?;
    ask(&mut stream, "RECORD", &url, &format!("Session: {id}\r\n"), "")?;
    Ok(stream)
}

/// SETUP and PLAY over TCP, as soon as the path is there.
fn play(rtsp: SocketAddr, path: &str) -> Result<TcpStream, Failure> {
    let url = format!("rtsp://{rtsp}/{path}");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut stream = TcpStream::connect(rtsp)?;
        let transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
        match ask(&mut stream, "SETUP", &format!("{url}/trackID=0"), transport, "") {
            Ok(id) => {
                ask(&mut stream, "PLAY", &url, &format!("Session: {id}\r\n"), "")?;
                return Ok(stream);
            }
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_not_there_yet) => std::thread::sleep(FRAME),
        }
    }
}

/// A request; the session that the answer names, if any.
fn ask(
    stream: &mut TcpStream,
    method: &str,
    url: &str,
    headers: &str,
    body: &str,
) -> Result<String, Failure> {
    let length = body.len();
    write!(
        stream,
        "{method} {url} RTSP/1.0\r\nCSeq: 1\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head)?;
    if !head.starts_with("RTSP/1.0 200") {
        return Err(format!("{method} {url}: {head}").into());
    }
    let session = head.lines().find_map(|line| line.strip_prefix("Session: "));
    Ok(session.and_then(|id| id.split(';').next()).unwrap_or_default().to_owned())
}

/// A frame every 40 ms, in a packet that tells its source.
fn send_frames(mut stream: TcpStream, origin: u8, is_over: &AtomicBool) {
    let begun = Instant::now();
    let mut frame = 0_u32;
    while !is_over.load(Ordering::Relaxed) {
        let unit = if frame.is_multiple_of(GROUP) { 0x65 } else { 0x41 };
        let [.., high, low] = frame.to_be_bytes();
        let ts = frame.wrapping_mul(3_600).to_be_bytes();
        let ssrc = [0, 0, 1, origin];
        let packet = [&[0x80, 0xE0, high, low][..], &ts, &ssrc, &[unit, origin], &[7; 1_000]];
        let packet = packet.concat();
        let length = u16::try_from(packet.len()).unwrap_or(u16::MAX).to_be_bytes();
        let bytes = [&[b'$', 0, length[0], length[1]][..], &packet].concat();
        if stream.write_all(&bytes).is_err() {
            return;
        }
        frame += 1;
        let due = begun + FRAME * frame;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// Times of the pictures that come, each with its source.
fn read_packets(mut stream: TcpStream, to: &Sender<(Instant, u8)>) {
    let mut head = [0; 4];
    let mut packet = Vec::new();
    while stream.read_exact(&mut head).is_ok() {
        packet.resize(usize::from(u16::from_be_bytes([head[2], head[3]])), 0);
        if head[0] != b'$' || stream.read_exact(&mut packet).is_err() {
            return;
        }
        let is_picture = head[1] == 0 && packet.get(12).is_some_and(|unit| unit & 0x1f <= 5);
        if is_picture && to.send((Instant::now(), packet[13])).is_err() {
            return;
        }
    }
}

const FRAME: Duration = Duration::from_millis(40);
const GROUP: u32 = 10;
/// A group of pictures.
const GROUP_MS: u32 = 400;
/// What a switch to a source whose group is kept may take.
const NOW_MS: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(10);

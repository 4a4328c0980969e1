//! A camera that a test scripts: one track over TCP, G.711 or H.264, with or without a password,
//! that notes what it is asked.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use headend::access::{DigestAlgorithm, Guard, GuardConfig, Refused};

/// What the camera wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    Nothing,
    Basic,
    Digest,
}

/// What it says to a SETUP over UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Udp {
    /// That it comes over TCP.
    Overruled,
    /// 461.
    Refused,
    /// That it comes, and then nothing does.
    Lost,
}

/// What the camera sends every 20 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sends {
    /// Silence in G.711.
    Sound,
    /// H.264 whose parameter sets are in band only, in front of a key frame that comes as the 26th
    /// packet and then as every 25th.
    Picture,
}

/// See the module. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Camera {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    wants: Wants,
    udp: Udp,
    sends: Sends,
    requests: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

impl Camera {
    pub(crate) fn start(wants: Wants, udp: Udp) -> Self {
        Self::start_sending(Sends::Sound, wants, udp)
    }

    pub(crate) fn start_sending(sends: Sends, wants: Wants, udp: Udp) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, is_over) = (Mutex::default(), AtomicBool::new(false));
        let shared = Arc::new(Shared { wants, udp, sends, requests, is_over });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut connections = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                if of_thread.is_over.load(Ordering::SeqCst) {
                    break;
                }
                let shared = Arc::clone(&of_thread);
                connections.push(std::thread::spawn(move || serve(stream, &shared)));
            }
            for connection in connections {
                connection.join().unwrap();
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    /// First lines of all requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the camera has failed");
        }
    }
}

/// Serves a connection to its end. Reading with a limit of time is the clock of its packets.
fn serve(mut stream: TcpStream, shared: &Shared) {
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let digests: &[DigestAlgorithm] =
        if shared.wants == Wants::Digest { &[DigestAlgorithm::Md5] } else { &[] };
    let guard = Guard::new(GuardConfig { realm: "camera", digests, basic: true }, 7);
    let (mut received, mut block) = (Vec::new(), [0; 4_096]);
    let mut is_lost = false;
    let mut seq: Option<u16> = None;
    while !shared.is_over.load(Ordering::SeqCst) {
        match stream.read(&mut block) {
            Ok(0) => return,
            Ok(count) => received.extend_from_slice(&block[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
        while let Some(request) = take_request(&mut received) {
            let (answer, plays) = answer(&request, shared, &guard);
            is_lost |= answer.contains("server_port");
            seq = seq.or_else(|| (plays && !is_lost).then_some(0));
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
        if let Some(next) = seq {
            if stream.write_all(&frame(shared.sends, next)).is_err() {
                return;
            }
            seq = Some(next.wrapping_add(1));
        }
    }
}

/// The next request; frames of the other side are passed over.
fn take_request(received: &mut Vec<u8>) -> Option<String> {
    while let [b'$', _, high, low, ..] = *received.as_slice() {
        let bytes = 4 + usize::from(u16::from_be_bytes([high, low]));
        if received.len() < bytes {
            return None;
        }
        received.drain(..bytes);
    }
    let end = received.windows(4).position(|part| part == b"\r\n\r\n")? + 4;
    let request = received.drain(..end).collect();
    Some(String::from_utf8(request).unwrap())
}

fn answer(request: &str, shared: &Shared, guard: &Guard) -> (String, bool) {
    let first = request.lines().next().unwrap();
    let mut words = first.split(' ');
    let (method, url) = (words.next().unwrap(), words.next().unwrap());
    shared.requests.lock().unwrap().push(format!("{method} {url}"));
    let header = |name: &str| {
        let line = request.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.map(str::to_owned)
    };
    let cseq = header("CSeq").unwrap();
    let password_of = |user: &str| (user == "admin").then_some("p@ss:word");
    if shared.wants != Wants::Nothing && method != "OPTIONS" {
        let given = header("Authorization");
        if let Err(refused) = guard.check(given.as_deref(), method, url, password_of) {
            let challenges =
                guard.challenges(if given.is_some() { refused } else { Refused::Missing });
            let lines: String =
                challenges.iter().map(|line| format!("WWW-Authenticate: {line}\r\n")).collect();
            return (format!("RTSP/1.0 401 Unauthorized\r\nCSeq: {cseq}\r\n{lines}\r\n"), false);
        }
    }
    let (headers, body) = match method {
        "OPTIONS" => ("Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\n".to_owned(), ""),
        "DESCRIBE" => {
            let sdp = match shared.sends {
                Sends::Sound => SDP,
                Sends::Picture => PICTURE_SDP,
            };
            (format!("Content-Length: {}\r\n", sdp.len()), sdp)
        }
        "SETUP" => {
            let is_udp = header("Transport").unwrap().contains("client_port");
            let transport = match shared.udp {
                Udp::Refused if is_udp => {
                    return (format!("RTSP/1.0 461 Unsupported\r\nCSeq: {cseq}\r\n\r\n"), false);
                }
                Udp::Lost if is_udp => "RTP/AVP;unicast;server_port=9-10",
                Udp::Refused | Udp::Lost | Udp::Overruled => "RTP/AVP/TCP;unicast;interleaved=0-1",
            };
            (format!("Session: 12;timeout=6\r\nTransport: {transport}\r\n"), "")
        }
        _ => ("Session: 12\r\n".to_owned(), ""),
    };
    (format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n{headers}\r\n{body}"), method == "PLAY")
}

/// The packet of the next 20 ms, as an interleaved frame.
fn frame(sends: Sends, seq: u16) -> Vec<u8> {
    let (payload_type, clock_ticks, payload) = match sends {
        Sends::Sound => (0, 160, vec![0xff; 160]),
        Sends::Picture => (96, 1_800, picture(seq)),
    };
    let ts = u32::from(seq).wrapping_mul(clock_ticks).to_be_bytes();
    let [high, low] = seq.to_be_bytes();
    let length = u8::try_from(12 + payload.len()).unwrap();
    let prefix = [b'$', 0, 0, length];
    let header = [0x80, payload_type, high, low, ts[0], ts[1], ts[2], ts[3], 0, 0, 0, 9];
    [&prefix[..], &header, &payload].concat()
}

/// A slice, or a STAP-A of parameter sets and the slice of a key frame (RFC 6184 s5.7.1).
fn picture(seq: u16) -> Vec<u8> {
    if seq == 0 || !seq.is_multiple_of(25) {
        return vec![0x41, 0x9a, 0x02];
    }
    let (sps, pps, slice) =
        ([0x67, 0x42, 0xc0, 0x1e, 0xd9], [0x68, 0xcb, 0x83], [0x65, 0x88, 0x80]);
    [&[0x78, 0, 5][..], &sps, &[0, 3], &pps, &[0, 3], &slice].concat()
}

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=camera\r\nt=0 0\r\n\
    m=audio 0 RTP/AVP 0\r\na=control:track1\r\n";
const PICTURE_SDP: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=camera\r\nt=0 0\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n\
    a=control:track1\r\n";

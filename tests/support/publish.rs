//! A raw publisher: ANNOUNCE, SETUP, RECORD, and packets that the test makes up, right or wrong.
//! And a witness: a publisher and readers of another path, whom none of that may touch.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::rtp::assert_contiguous;
use super::rtsp::{Client, Response};
use super::server::Server;
use super::session::{Lower, Session, UdpPair};
use super::wait::{Deadline, PATIENCE, readable};

/// H.264 and G.711: payload types 96 and 0.
pub(crate) const PICTURES_AND_SOUND: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n\
    a=control:streamid=0\r\n\
    m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=control:streamid=1\r\n";

/// G.711 alone.
pub(crate) const SOUND: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n\
    m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=control:streamid=0\r\n";

/// One who publishes.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) client: Client,
    pub(crate) url: String,
    pub(crate) id: String,
    pub(crate) tracks: Vec<Track>,
}

/// One track of it.
#[derive(Debug)]
pub(crate) enum Track {
    /// Its sockets, and the server's two ports.
    Udp(UdpPair, [SocketAddr; 2]),
    /// Channel of RTP; RTCP has the next.
    Tcp(u8),
}

impl Publisher {
    /// Announces `sdp` at `url`, with `count` media, sets them up and records.
    pub(crate) fn start(server: &Server, path: &str, sdp: &str, lower: Lower) -> Self {
        Self::start_at(server.rtsp, &server.url(path), sdp, lower)
    }

    /// The same, at any address of the server.
    pub(crate) fn start_at(server: SocketAddr, url: &str, sdp: &str, lower: Lower) -> Self {
        let mut publisher = Self::announce_at(server, url, sdp);
        for track in 0..sdp.matches("m=").count() {
            publisher.setup(track, lower);
        }
        publisher.record().expect(200);
        publisher
    }

    /// ANNOUNCE alone.
    pub(crate) fn announce(server: &Server, path: &str, sdp: &str) -> Self {
        Self::announce_at(server.rtsp, &server.url(path), sdp)
    }

    fn announce_at(server: SocketAddr, url: &str, sdp: &str) -> Self {
        let mut client = Client::connect(server);
        announce(&mut client, url, sdp).expect(200);
        Self { client, url: url.to_owned(), id: String::new(), tracks: Vec::new() }
    }

    /// SETUP of a track whose control is `streamid=N`.
    pub(crate) fn setup(&mut self, track: usize, lower: Lower) {
        let (url, channel) = (self.track_url(track), u8::try_from(2 * track).unwrap());
        let local = self.client.stream().local_addr().unwrap();
        let pair = (lower == Lower::Udp).then(|| UdpPair::bind_beside(local));
        let transport = match &pair {
            Some(pair) => format!("{};mode=record", pair.transport()),
            None => format!(
                "RTP/AVP/TCP;unicast;interleaved={channel}-{};mode=record",
                u16::from(channel) + 1
            ),
        };
        let answer = self.try_setup(&url, &transport).expect(200);
        self.id = answer.session_id();
        self.tracks.push(match pair {
            None => Track::Tcp(channel),
            Some(pair) => {
                let ports = answer.transport("server_port").unwrap();
                let (rtp, rtcp) = ports.split_once('-').unwrap();
                let at = |port: &str| {
                    let mut server = self.client.stream().peer_addr().unwrap();
                    server.set_port(port.parse().unwrap());
                    server
                };
                Track::Udp(pair, [at(rtp), at(rtcp)])
            }
        });
    }

    pub(crate) fn try_setup(&mut self, url: &str, transport: &str) -> Response {
        let mut headers = vec![("Transport", transport)];
        if !self.id.is_empty() {
            headers.push(("Session", &self.id));
        }
        self.client.request("SETUP", url, &headers)
    }

    pub(crate) fn track_url(&self, track: usize) -> String {
        format!("{}/streamid={track}", self.url)
    }

    pub(crate) fn record(&mut self) -> Response {
        self.request("RECORD")
    }

    /// A request for its session.
    pub(crate) fn request(&mut self, method: &str) -> Response {
        let headers = [("Session", self.id.as_str())];
        self.client.request(method, &self.url, &headers)
    }

    /// Sends RTP of a track, or what claims to be.
    pub(crate) fn rtp(&mut self, track: usize, bytes: &[u8]) {
        self.send(track, false, bytes);
    }

    /// Sends RTCP of a track, or what claims to be.
    pub(crate) fn rtcp(&mut self, track: usize, bytes: &[u8]) {
        self.send(track, true, bytes);
    }

    fn send(&mut self, track: usize, is_rtcp: bool, bytes: &[u8]) {
        match &self.tracks[track] {
            Track::Udp(pair, to) => {
                let socket = if is_rtcp { &pair.rtcp } else { &pair.rtp };
                socket.send_to(bytes, to[usize::from(is_rtcp)]).unwrap();
            }
            Track::Tcp(channel) => {
                let channel = channel + u8::from(is_rtcp);
                self.client.send_raw(interleaved(channel, bytes));
            }
        }
    }

    /// The server's RTP and RTCP address of a track over UDP.
    pub(crate) fn server_ports(&self, track: usize) -> [SocketAddr; 2] {
        match &self.tracks[track] {
            Track::Udp(_, ports) => *ports,
            Track::Tcp(_) => panic!("not over UDP"),
        }
    }
}

/// ANNOUNCE of `sdp`.
pub(crate) fn announce(client: &mut Client, url: &str, sdp: &str) -> Response {
    let headers = [("Content-Type", "application/sdp")];
    client.request_with_body("ANNOUNCE", url, &headers, sdp)
}

/// RFC 2326 s10.12.
pub(crate) fn interleaved(channel: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[b'$', channel, length[0], length[1]], bytes].concat()
}

/// An RTP packet; the high bit of `payload_type` is the marker.
pub(crate) fn rtp(payload_type: u8, seq: u16, ts: u32, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let head = [0x80, payload_type];
    [&head[..], &seq.to_be_bytes(), &ts.to_be_bytes(), &ssrc.to_be_bytes(), payload].concat()
}

/// A sender report alone.
pub(crate) fn sender_report(ssrc: u32, ntp: u64, ts: u32) -> Vec<u8> {
    let head = [0x80, 200, 0, 6];
    let (ssrc, ts) = (ssrc.to_be_bytes(), ts.to_be_bytes());
    [&head[..], &ssrc, &ntp.to_be_bytes(), &ts, &[0; 8]].concat()
}

/// A publisher of sound on a path of its own with a reader over UDP and one over TCP: 200 packets a
/// second, in a thread, until it is asked what came.
#[derive(Debug)]
pub(crate) struct Witness {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    pub(crate) fn start(server: &Server) -> Self {
        let mut publisher = Publisher::start(server, "live/witness", SOUND, Lower::Tcp);
        let url = server.url("live/witness");
        publisher.rtp(0, &rtp(0, 0, 0, 7, &[0; 160]));
        let open = |lower| {
            let mut session = Session::open(server.rtsp, &url, lower);
            session.play(&[]);
            session
        };
        let readers = [open(Lower::Udp), open(Lower::Tcp)];
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = std::thread::spawn(move || run_witness(publisher, readers, &is_over));
        Self { stop, thread: Some(thread) }
    }

    /// Ends it.
    ///
    /// # Panics
    /// When one of its readers has missed a packet.
    pub(crate) fn assert_undisturbed(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().expect("the witness was disturbed");
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn run_witness(mut publisher: Publisher, mut readers: [Session; 2], stop: &AtomicBool) {
    let mut seq = 0_u16;
    while !stop.load(Ordering::Relaxed) || seq < WITNESS_PACKETS_MIN {
        seq = seq.wrapping_add(1);
        publisher.rtp(0, &rtp(0, seq, u32::from(seq) * 160, 7, &[0; 160]));
        let deadline = Deadline::after(Duration::from_millis(5));
        while !deadline.has_passed() {
            // What the publisher is told, and the readers' packets.
            let fds = [publisher.client.stream().as_fd(), readers[1].client.stream().as_fd()];
            let ready = readable(&fds, deadline);
            if ready[0] {
                assert!(publisher.client.fill(), "the witness was hung up on");
                while publisher.client.take().is_some() {}
            }
            if ready[1] {
                assert!(readers[1].client.fill(), "the witness' reader was hung up on");
            }
        }
        for reader in &mut readers {
            reader.drain();
        }
    }
    for reader in &mut readers {
        let is_last =
            |reader: &Session| reader.streams[0].packets.last().map(|p| p.seq) == Some(seq);
        let deadline = Deadline::after(PATIENCE);
        while !is_last(reader) {
            assert!(!deadline.has_passed(), "the last packet has not come");
            let mut fds = vec![reader.client.stream().as_fd()];
            let pair = matches!(reader.streams[0].path, super::session::Path::Udp(_));
            if pair {
                fds.push(reader.streams[0].udp().rtp.as_fd());
            }
            if readable(&fds, deadline)[0] {
                assert!(reader.client.fill(), "the witness' reader was hung up on");
            }
            reader.drain();
        }
        assert_contiguous(&reader.streams[0].packets);
    }
}

/// A test that is over at once is watched this long all the same.
const WITNESS_PACKETS_MIN: u16 = 50;

/// A socket on loopback that nobody has heard of.
pub(crate) fn stranger() -> UdpSocket {
    UdpSocket::bind(("127.0.0.1", 0)).unwrap()
}

//! A whole session of a raw client: DESCRIBE, SETUP of all tracks, PLAY, and what arrives.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use super::rtp::{Rtcp, Rtp, parse_compound};
use super::rtsp::{Client, Received, Response};
use super::sdp::{Media, Sdp};
use super::wait::{Deadline, readable};

/// Lower transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lower {
    Udp,
    /// With feedback: RTP/AVPF.
    UdpFeedback,
    Tcp,
}

/// A session with all its tracks set up.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) sdp: Sdp,
    /// Aggregate URL: `Content-Base` of DESCRIBE.
    pub(crate) base: String,
    pub(crate) id: String,
    pub(crate) streams: Vec<Stream>,
    /// The server has closed the connection; what came before that is still taken in.
    pub(crate) is_closed: bool,
}

/// One stream of a session and everything that came on it.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) media: Media,
    /// Control URL, absolute.
    pub(crate) url: String,
    pub(crate) setup: Response,
    pub(crate) path: Path,
    pub(crate) packets: Vec<Rtp>,
    pub(crate) reports: Vec<Rtcp>,
    /// Addresses that datagrams came from: of RTP, and of RTCP.
    pub(crate) senders: BTreeSet<(bool, SocketAddr)>,
}

/// Where a stream's packets come in.
#[derive(Debug)]
pub(crate) enum Path {
    Udp(UdpPair),
    Tcp { rtp: u8, rtcp: u8 },
}

/// An even port for RTP and the odd one above for RTCP (RFC 3550 s11).
#[derive(Debug)]
pub(crate) struct UdpPair {
    pub(crate) rtp: UdpSocket,
    pub(crate) rtcp: UdpSocket,
}

impl UdpPair {
    /// Binds a free pair on `ip`.
    pub(crate) fn bind(ip: IpAddr) -> Self {
        Self::bind_beside(SocketAddr::new(ip, 0))
    }

    /// Binds a free pair at the address of another socket, with its interface.
    pub(crate) fn bind_beside(other: SocketAddr) -> Self {
        let at = |port: u16| {
            let mut address = other;
            address.set_port(port);
            address
        };
        for _ in 0..1_000 {
            let rtp = UdpSocket::bind(at(0)).unwrap();
            let port = rtp.local_addr().unwrap().port();
            if port.is_multiple_of(2)
                && let Ok(rtcp) = UdpSocket::bind(at(port + 1))
            {
                for socket in [&rtp, &rtcp] {
                    socket.set_nonblocking(true).unwrap();
                    // Room for what comes while the test reads a response.
                    socket2::SockRef::from(socket).set_recv_buffer_size(8 << 20).unwrap();
                }
                return Self { rtp, rtcp };
            }
        }
        panic!("no free pair of UDP ports");
    }

    pub(crate) fn port(&self) -> u16 {
        self.rtp.local_addr().unwrap().port()
    }

    /// Transport header for this pair.
    pub(crate) fn transport(&self) -> String {
        format!("RTP/AVP;unicast;client_port={}-{}", self.port(), self.port() + 1)
    }
}

impl Session {
    /// Connects, describes `url` and sets up every track.
    pub(crate) fn open(server: SocketAddr, url: &str, lower: Lower) -> Self {
        Self::open_kinds(server, url, lower, &["video", "audio"])
    }

    /// As [`Self::open`], for tracks of these kinds only.
    pub(crate) fn open_kinds(server: SocketAddr, url: &str, lower: Lower, kinds: &[&str]) -> Self {
        let mut client = Client::connect(server);
        let (base, sdp) = describe(&mut client, url);
        let wanted = sdp.media.iter().filter(|media| kinds.contains(&media.kind.as_str()));
        let wanted: Vec<_> = wanted.cloned().collect();
        let (id, streams, is_closed) = (String::new(), Vec::new(), false);
        let mut session = Self { client, sdp, base, id, streams, is_closed };
        for media in wanted {
            session.setup(media, lower);
        }
        session
    }

    fn setup(&mut self, media: Media, lower: Lower) {
        let url = joined(&self.base, &media.control);
        let channel = u8::try_from(self.streams.len() * 2).unwrap();
        let path = match lower {
            Lower::Udp | Lower::UdpFeedback => {
                Path::Udp(UdpPair::bind_beside(self.client.stream().local_addr().unwrap()))
            }
            Lower::Tcp => Path::Tcp { rtp: channel, rtcp: channel + 1 },
        };
        let transport = match &path {
            Path::Udp(pair) if lower == Lower::UdpFeedback => {
                pair.transport().replace("RTP/AVP;", "RTP/AVPF;")
            }
            Path::Udp(pair) => pair.transport(),
            Path::Tcp { rtp, rtcp } => format!("RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp}"),
        };
        let id = self.id.clone();
        let mut headers = vec![("Transport", transport.as_str())];
        if !id.is_empty() {
            headers.push(("Session", &id));
        }
        let setup = self.client.request("SETUP", &url, &headers).expect(200);
        if let Path::Tcp { rtp, rtcp } = path {
            assert_eq!(setup.transport("interleaved"), Some(format!("{rtp}-{rtcp}").as_str()));
        }
        self.id = setup.session_id();
        let (packets, reports, senders) = (Vec::new(), Vec::new(), BTreeSet::new());
        self.streams.push(Stream { media, url, setup, path, packets, reports, senders });
    }

    /// A request on the aggregate URL inside the session.
    pub(crate) fn request(&mut self, method: &str, headers: &[(&str, &str)]) -> Response {
        let (base, id) = (self.base.clone(), self.id.clone());
        let mut all = vec![("Session", id.as_str())];
        all.extend_from_slice(headers);
        self.client.request(method, &base, &all)
    }

    /// PLAY with `headers`; must be accepted.
    pub(crate) fn play(&mut self, headers: &[(&str, &str)]) -> Response {
        self.request("PLAY", headers).expect(200)
    }

    /// The stream of the first track of `kind`.
    pub(crate) fn stream(&self, kind: &str) -> &Stream {
        self.streams.iter().find(|stream| stream.media.kind == kind).unwrap()
    }

    /// Receives until `done` holds or the deadline passes; says which (`true`: it holds).
    ///
    /// # Panics
    /// When the server closes the connection before that, or sends a response that nobody asked
    /// for.
    pub(crate) fn receive_until(
        &mut self,
        patience: Duration,
        mut done: impl FnMut(&[Stream]) -> bool,
    ) -> bool {
        let deadline = Deadline::after(patience);
        loop {
            self.drain();
            if done(&self.streams) {
                return true;
            }
            assert!(!self.is_closed, "the server closed the connection");
            if deadline.has_passed() {
                return false;
            }
            self.receive_once(deadline);
        }
    }

    /// Waits until something comes, or for the deadline, and takes it in.
    fn receive_once(&mut self, deadline: Deadline) {
        let mut fds = vec![self.client.stream().as_fd()];
        for stream in &self.streams {
            if let Path::Udp(pair) = &stream.path {
                fds.extend([pair.rtp.as_fd(), pair.rtcp.as_fd()]);
            }
        }
        let ready = readable(&fds, deadline);
        if ready[0] {
            self.is_closed = !self.client.fill();
        }
        self.drain();
    }

    /// Receives until each stream has said BYE.
    pub(crate) fn receive_until_bye(&mut self, patience: Duration) {
        assert!(
            self.receive_until(patience, |streams| streams.iter().all(Stream::has_ended)),
            "no BYE on every stream within {patience:?}: {:?}",
            self.streams.iter().map(|s| (s.packets.len(), s.has_ended())).collect::<Vec<_>>()
        );
    }

    /// Receives until the session has ended: by BYE on every stream or, over TCP, by the end of
    /// the connection, which is all that is left when a file ends in the middle of an interleaved
    /// frame.
    pub(crate) fn receive_until_ended(&mut self, patience: Duration) {
        let deadline = Deadline::after(patience);
        let is_interleaved = matches!(self.streams[0].path, Path::Tcp { .. });
        loop {
            let has_ended = self.streams.iter().all(Stream::has_ended);
            if has_ended || is_interleaved && self.is_closed {
                return;
            }
            assert!(!deadline.has_passed(), "the session goes on after {patience:?}");
            self.receive_once(deadline);
        }
    }

    /// Receives until each stream has at least `count` packets more than now.
    pub(crate) fn receive_packets(&mut self, count: usize, patience: Duration) {
        self.drain();
        let goals: Vec<_> = self.streams.iter().map(|s| s.packets.len() + count).collect();
        let reached = self.receive_until(patience, |streams| {
            streams.iter().zip(&goals).all(|(stream, goal)| stream.packets.len() >= *goal)
        });
        assert!(reached, "fewer than {count} packets on some stream within {patience:?}");
    }

    /// Takes in everything that has arrived.
    pub(crate) fn drain(&mut self) {
        while let Some(received) = self.client.take() {
            match received {
                Received::Frame(channel, data) => self.client.frames.push_back((channel, data)),
                other => panic!("unasked: {other:?}"),
            }
        }
        self.take_in_frames();
        for stream in &mut self.streams {
            stream.drain_udp();
        }
    }

    /// Takes in the interleaved frames that came before the last response, and no others.
    pub(crate) fn take_in_frames(&mut self) {
        while let Some((channel, data)) = self.client.frames.pop_front() {
            let of = |stream: &&mut Stream| match stream.path {
                Path::Tcp { rtp, rtcp } => channel == rtp || channel == rtcp,
                Path::Udp(_) => false,
            };
            let stream = self.streams.iter_mut().find(of).expect("a channel that was set up");
            let is_rtp = matches!(stream.path, Path::Tcp { rtp, .. } if rtp == channel);
            stream.take_in(is_rtp, &data);
        }
    }

    /// Forgets what came so far.
    pub(crate) fn forget(&mut self) {
        self.drain();
        for stream in &mut self.streams {
            stream.packets.clear();
            stream.reports.clear();
        }
    }
}

impl Stream {
    pub(crate) fn has_ended(&self) -> bool {
        self.reports.iter().any(|report| matches!(report, Rtcp::Bye { .. }))
    }

    /// SSRC that the Transport header announced (RFC 2326 s12.39: eight hexadecimal digits).
    pub(crate) fn announced_ssrc(&self) -> Option<u32> {
        self.setup.transport("ssrc").map(|hex| u32::from_str_radix(hex, 16).unwrap())
    }

    /// Address of the server's RTP port, and of its RTCP port.
    pub(crate) fn server_ports(&self) -> (u16, u16) {
        let ports = self.setup.transport("server_port").expect("server_port");
        let (rtp, rtcp) = ports.split_once('-').unwrap();
        (rtp.parse().unwrap(), rtcp.parse().unwrap())
    }

    pub(crate) fn udp(&self) -> &UdpPair {
        match &self.path {
            Path::Udp(pair) => pair,
            Path::Tcp { .. } => panic!("not over UDP"),
        }
    }

    fn drain_udp(&mut self) {
        let mut arrived = Vec::new();
        if let Path::Udp(pair) = &self.path {
            let mut block = [0; 65_536];
            for (socket, is_rtp) in [(&pair.rtp, true), (&pair.rtcp, false)] {
                while let Ok((bytes, from)) = socket.recv_from(&mut block) {
                    self.senders.insert((is_rtp, from));
                    arrived.push((is_rtp, block[..bytes].to_vec()));
                }
            }
        }
        for (is_rtp, data) in arrived {
            self.take_in(is_rtp, &data);
        }
    }

    fn take_in(&mut self, is_rtp: bool, data: &[u8]) {
        if is_rtp {
            self.packets.push(Rtp::parse(data));
        } else {
            self.reports.extend(parse_compound(data));
        }
    }
}

/// Content-Base and description of `url`.
pub(crate) fn describe(client: &mut Client, url: &str) -> (String, Sdp) {
    let response = client.request("DESCRIBE", url, &[("Accept", "application/sdp")]).expect(200);
    assert_eq!(response.header("Content-Type"), Some("application/sdp"));
    let base = response.header("Content-Base").expect("a Content-Base").to_owned();
    (base, Sdp::parse(&response.body))
}

/// `control` on top of `base`, glued as FFmpeg and live555 do it (client rule C4).
pub(crate) fn joined(base: &str, control: &str) -> String {
    if control.starts_with("rtsp://") {
        return control.to_owned();
    }
    let slash = if base.ends_with('/') { "" } else { "/" };
    format!("{base}{slash}{control}")
}

//! A path and viewers, who are str0m on the other side, on a network that is a list and in a time
//! that the test turns.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::media::{Direction, KeyframeRequestKind, MediaKind};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpPacket;
use str0m::{Candidate, Event, Input, Output, Rtc};

use super::*;
use crate::access::permit::Permit;
use crate::base::addresses::{AddressLimit, Addresses};
use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::time::Mono;
use crate::config::paths::PathTable;
use crate::live::core::batch::{Arrival, BatchBuilder, Generation, PacketBatch};
use crate::live::core::clock::ClockPoint;
use crate::live::core::description::{Description, LiveTrack};

mod leave;

const SPS: &[u8] = &[0x67, 0x64, 0xc0, 0x1e, 0xd9];
const PPS: &[u8] = &[0x68, 0xcb, 0x83];
const SERVER: &str = "192.0.2.1:8189";

/// Made once: a key takes a while in a test build.
static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate().unwrap();
    let made = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    Identity::new(made.der().to_vec(), key.serialize_der())
});

fn description(video: &str, audio: &str) -> Description {
    let mut sdp = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n".to_owned();
    if !video.is_empty() {
        sdp += &format!(
            "m=video 0 RTP/AVP 96\r\na=rtpmap:96 {video}\r\n\
             a=fmtp:96 packetization-mode=1;sprop-parameter-sets={},{}\r\n",
            STANDARD.encode(SPS),
            STANDARD.encode(PPS)
        );
    }
    if !audio.is_empty() {
        sdp += &format!("m=audio 0 RTP/AVP 97\r\na=rtpmap:97 {audio}\r\n");
    }
    let track = LiveTrack {
        clock_rate_hz: 90_000,
        payload_types: vec![96],
        needs_sync: true,
        identity: "".into(),
    };
    Description::new(sdp.into(), vec![track]).unwrap()
}

/// A packet of a path.
#[derive(Clone)]
struct Sent {
    track: u8,
    seq: u16,
    ts: u32,
    marker: bool,
    is_sync: bool,
    payload: Vec<u8>,
}

fn batch(generation: u32, received_ms: u64, packets: &[Sent]) -> PacketBatch {
    let mut builder = BatchBuilder::default();
    for packet in packets {
        let mut bytes = vec![0x80, u8::from(packet.marker) << 7 | (96 + packet.track)];
        bytes.extend_from_slice(&packet.seq.to_be_bytes());
        bytes.extend_from_slice(&packet.ts.to_be_bytes());
        bytes.extend_from_slice(&(generation * 10 + u32::from(packet.track)).to_be_bytes());
        bytes.extend_from_slice(&packet.payload);
        let arrival = Arrival {
            track: packet.track,
            ssrc: Ssrc(generation * 10 + u32::from(packet.track)),
            seq: SeqNo(packet.seq),
            ts: RtpTs(packet.ts),
            marker: packet.marker,
            header_bytes: 12,
            is_sync: packet.is_sync,
            bytes: &bytes,
        };
        builder.push(&arrival, Mono(received_ms * 1_000_000)).unwrap();
    }
    let point = ClockPoint { utc_ns: 1_700_000_000_000_000_000, ts: RtpTs(0) };
    builder.build(Generation(generation), |_| Some(point)).unwrap()
}

/// A picture of one packet; every 25th is a key frame.
fn picture(n: u16) -> Sent {
    let is_sync = n.is_multiple_of(25);
    let mut payload = vec![if is_sync { 0x65 } else { 0x41 }; 40];
    payload[1..3].copy_from_slice(&n.to_be_bytes());
    Sent { track: 0, seq: n, ts: u32::from(n) * 3_600, marker: true, is_sync, payload }
}

struct Client {
    rtc: Rtc,
    addr: SocketAddr,
    id: String,
    packets: Vec<RtpPacket>,
    /// Datagrams to the server: source, destination, bytes.
    sent: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    is_connected: bool,
    is_closed: bool,
}

struct Rig {
    whep: Whep,
    now: Instant,
    clients: Vec<Client>,
    path: Arc<str>,
    /// The configuration.
    table: Arc<PathTable>,
    /// Numbers of datagrams to clients that are lost, from 1.
    lost: HashSet<u64>,
    datagrams: u64,
}

fn whep(viewers_max: usize, per_address: u32) -> Whep {
    let limit = AddressLimit::share_of(64).with_remote(per_address);
    let addresses = Arc::new(Addresses::new(limit, 64));
    Whep::new(IDENTITY.clone(), Limits { viewers_max, addresses })
}

impl Rig {
    fn new(description: &Description, snapshot: &[Arc<PacketBatch>]) -> Self {
        let (mut whep, path): (_, Arc<str>) = (whep(8, 8), "live/a".into());
        whep.begin(&path, Generation(1), description, snapshot).unwrap();
        let (lost, datagrams, table) = (HashSet::new(), 0, Arc::default());
        Self { whep, now: Instant::now(), clients: Vec::new(), path, table, lost, datagrams }
    }

    /// A browser, its address, its offer, and what it is to accept the answer with.
    fn offer(&self, kinds: &[MediaKind], host: u8) -> (Rtc, SocketAddr, String, SdpPendingOffer) {
        let mut rtc = Rtc::builder()
            .set_crypto_provider(Arc::clone(&IDENTITY.provider))
            .set_dtls_cert(IDENTITY.certificate.clone())
            .set_rtp_mode(true)
            .build(self.now);
        let addr = SocketAddr::from(([198, 51, 100, host], 5_000));
        rtc.add_local_candidate(Candidate::host(addr, Protocol::Udp).unwrap());
        let mut api = rtc.sdp_api();
        for kind in kinds {
            api.add_media(*kind, Direction::RecvOnly, None, None, None);
        }
        let (offer, pending) = api.apply().unwrap();
        (rtc, addr, offer.to_sdp_string(), pending)
    }

    fn permit(&self, from: IpAddr) -> Permit {
        Permit::open(Arc::clone(&self.path), from, Arc::clone(&self.table))
    }

    fn take_wants_sync(&mut self) -> Vec<Arc<str>> {
        self.whep.take_wants_sync(self.now)
    }

    /// Datagrams that were nobody's, of all tests.
    fn strange(&self) -> u64 {
        crate::metrics::whep::WHEP.datagrams_strange.value()
    }

    fn open(&mut self, sdp: &str, from: IpAddr) -> Result<Opened, OfferError> {
        let candidates = [SERVER.parse().unwrap()];
        let offer = Offer { sdp, from, permit: self.permit(from), candidates: &candidates };
        self.whep.open(&Arc::clone(&self.path), offer, self.now, &mut |_| ())
    }

    /// A viewer who takes these.
    fn join(&mut self, kinds: &[MediaKind]) -> Opened {
        let host = u8::try_from(self.clients.len()).unwrap() + 1;
        let (mut rtc, addr, sdp, pending) = self.offer(kinds, host);
        let opened = self.open(&sdp, addr.ip()).unwrap();
        let answer = SdpAnswer::from_sdp_string(&opened.answer).unwrap();
        rtc.sdp_api().accept_answer(pending, answer).unwrap();
        let (id, packets) = (opened.id.clone(), Vec::new());
        let (sent, is_connected, is_closed) = (Vec::new(), false, false);
        self.clients.push(Client { rtc, addr, id, packets, sent, is_connected, is_closed });
        opened
    }

    /// Lets `ms` pass, and all datagrams go their way.
    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += Duration::from_millis(1);
            self.exchange(|whep, now, out| {
                whep.handle_timeout(now, out);
            });
            for client in &mut self.clients {
                client.rtc.handle_input(Input::Timeout(self.now)).unwrap();
            }
            self.exchange(|_, _, _| ());
        }
    }

    fn feed(&mut self, batch: &PacketBatch) {
        let path = Arc::clone(&self.path);
        self.exchange(|whep, now, out| whep.handle_batch(&path, batch, now, out));
    }

    /// Has the server do something, and carries datagrams until there are none.
    fn exchange(&mut self, act: impl FnOnce(&mut Whep, Instant, &mut Sink<'_>)) {
        let mut to_clients: Vec<(SocketAddr, SocketAddr, Vec<u8>)> = Vec::new();
        let now = self.now;
        act(&mut self.whep, now, &mut |sent| {
            to_clients.push((sent.from, sent.to, sent.bytes.to_vec()));
        });
        for _ in 0..64 {
            for (from, to, bytes) in std::mem::take(&mut to_clients) {
                self.datagrams += 1;
                if self.lost.remove(&self.datagrams) {
                    continue;
                }
                for client in self.clients.iter_mut().filter(|client| client.addr == to) {
                    let received = Receive::new(Protocol::Udp, from, to, &bytes).unwrap();
                    client.rtc.handle_input(Input::Receive(now, received)).unwrap();
                    client.poll();
                }
            }
            for client in &mut self.clients {
                client.poll();
                for (source, destination, bytes) in std::mem::take(&mut client.sent) {
                    self.whep.handle_datagram((source, destination), &bytes, now, &mut |sent| {
                        to_clients.push((sent.from, sent.to, sent.bytes.to_vec()));
                    });
                }
            }
            if to_clients.is_empty() {
                return;
            }
        }
        panic!("datagrams without end");
    }

    fn connect(&mut self) {
        for _ in 0..40 {
            self.run(50);
            if self.clients.iter().all(|client| client.is_connected) {
                return;
            }
        }
        panic!("ICE and DTLS do not come up");
    }

    /// Feeds pictures of 25 a second.
    fn pictures(&mut self, numbers: std::ops::Range<u16>) {
        for n in numbers {
            self.feed(&batch(1, u64::from(n) * 40, &[picture(n)]));
            self.run(40);
        }
    }
}

impl Client {
    /// Takes what str0m has to say.
    fn poll(&mut self) {
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(_) => return,
                Output::Transmit(sent) => {
                    self.sent.push((sent.source, sent.destination, sent.contents.to_vec()));
                }
                Output::Event(Event::Connected) => self.is_connected = true,
                Output::Event(Event::RtpPacket(packet)) => self.packets.push(packet),
                Output::Event(Event::Closed) => self.is_closed = true,
                Output::Event(_) => {}
            }
        }
    }

    fn payloads(&self) -> Vec<Vec<u8>> {
        self.packets.iter().map(|packet| packet.payload.to_vec()).collect()
    }

    fn numbers(&self) -> Vec<u64> {
        self.packets.iter().map(|packet| *packet.seq_no).collect()
    }
}

fn parameter_sets() -> Vec<u8> {
    let length = |set: &[u8]| u16::try_from(set.len()).unwrap().to_be_bytes();
    [&[0x78][..], &length(SPS), SPS, &length(PPS), PPS].concat()
}

const BOTH: [MediaKind; 2] = [MediaKind::Audio, MediaKind::Video];

#[test]
fn payloads_arrive_bit_for_bit_from_a_key_frame_on_with_its_parameter_sets() {
    let mut rig = Rig::new(&description("H264/90000", ""), &[]);
    let opened = rig.join(&BOTH);
    assert_eq!(opened.left_out, None);
    rig.connect();
    assert_eq!(rig.take_wants_sync(), [Arc::clone(&rig.path)], "nothing to begin with");
    rig.pictures(20..60);
    let client = &rig.clients[0];
    let mut expected = vec![parameter_sets()];
    for n in 25..60 {
        if n == 50 {
            expected.push(parameter_sets());
        }
        expected.push(picture(n).payload);
    }
    assert!(client.payloads() == expected, "{} packets", client.packets.len());
    assert!(client.numbers().windows(2).all(|two| two[1] == two[0] + 1));
    let times: Vec<u32> = client.packets.iter().map(|packet| packet.header.timestamp).collect();
    let steps: Vec<u32> = times.windows(2).map(|two| two[1].wrapping_sub(two[0])).collect();
    assert_eq!(steps.iter().filter(|step| **step == 3_600).count(), 34);
    assert_eq!(steps.iter().filter(|step| **step == 0).count(), 2, "sets have their picture's");
    assert!(
        client.packets[1..]
            .iter()
            .all(|packet| packet.header.marker != (packet.payload[0] == 0x78))
    );
}

#[test]
fn who_comes_gets_the_newest_group_at_once_and_then_the_present() {
    let mut rig = Rig::new(&description("H264/90000", ""), &[]);
    rig.pictures(0..24);
    rig.join(&[MediaKind::Video]);
    rig.connect();
    rig.run(200);
    let client = &rig.clients[0];
    let mut expected = vec![parameter_sets()];
    expected.extend((0..24).map(|n| picture(n).payload));
    assert!(client.payloads() == expected, "{} packets", client.packets.len());
    let time = |n: usize| client.packets[n].header.timestamp;
    assert_eq!(time(24).wrapping_sub(time(0)), 23 * 3_600 / 64);
    assert!((1..24).all(|n| time(n + 1).wrapping_sub(time(n)) > 0));
    rig.pictures(24..30);
    let client = &rig.clients[0];
    assert_eq!(client.packets.len(), 25 + 7);
    let (last, before) = (client.packets[31].header.timestamp, client.packets[30].header.timestamp);
    assert_eq!(last.wrapping_sub(before), 3_600);
    assert!(client.numbers().windows(2).all(|two| two[1] == two[0] + 1));
}

#[test]
fn path_with_sound_is_played_with_it_and_other_sound_is_named() {
    let mut rig = Rig::new(&description("H264/90000", "opus/48000/2"), &[]);
    rig.join(&BOTH);
    rig.connect();
    let sound = |n: u16| Sent {
        track: 1,
        seq: n,
        ts: u32::from(n) * 960,
        marker: false,
        is_sync: false,
        payload: vec![0xfc, u8::try_from(n % 256).unwrap(), 7],
    };
    for n in 0..60 {
        rig.feed(&batch(1, u64::from(n) * 20, &[picture(n), sound(n)]));
        rig.run(20);
    }
    let payloads = rig.clients[0].payloads();
    let sounds: Vec<_> = payloads.iter().filter(|payload| payload[0] == 0xfc).collect();
    assert!(sounds.len() >= 35, "{}", sounds.len());
    let first = sounds[0][1];
    assert!((first..).zip(&sounds).all(|(n, sound)| **sound == [0xfc, n, 7]));
    let mut rig = Rig::new(&description("H264/90000", "MPEG4-GENERIC/44100/2"), &[]);
    assert_eq!(rig.join(&BOTH).left_out.as_deref(), Some("AAC"));
}

#[test]
fn packet_that_fits_no_datagram_is_cut_and_becomes_the_same_picture() {
    let mut rig = Rig::new(&description("H264/90000", ""), &[]);
    rig.join(&[MediaKind::Video]);
    rig.connect();
    let mut large = picture(0);
    large.payload = (0..9_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    large.payload[0] = 0x65;
    rig.feed(&batch(1, 0, std::slice::from_ref(&large)));
    rig.run(50);
    let payloads = rig.clients[0].payloads();
    assert_eq!(payloads[0], parameter_sets());
    let mut whole = vec![large.payload[0]];
    for (place, piece) in payloads[1..].iter().enumerate() {
        assert!(piece.len() <= lane::PAYLOAD_BYTES_MAX);
        let is_last = place + 2 == payloads.len();
        assert_eq!(piece[0], 0x7c, "FU-A");
        assert_eq!(piece[1], 5 | u8::from(place == 0) << 7 | u8::from(is_last) << 6);
        whole.extend_from_slice(&piece[2..]);
    }
    assert_eq!(whole, large.payload);
    assert!(rig.clients[0].packets.last().unwrap().header.marker);
}

#[test]
fn lost_datagram_is_sent_again() {
    let mut rig = Rig::new(&description("H264/90000", ""), &[]);
    rig.join(&[MediaKind::Video]);
    rig.connect();
    rig.pictures(0..10);
    rig.lost = HashSet::from([rig.datagrams + 1]);
    rig.pictures(10..40);
    assert!(rig.lost.is_empty());
    let mut numbers = rig.clients[0].numbers();
    assert!(numbers.windows(2).any(|two| two[1] < two[0]), "it came late");
    numbers.sort_unstable();
    assert!(numbers.windows(2).all(|two| two[1] == two[0] + 1));
    assert_eq!(numbers.len(), 40 + 2);
}

#[test]
fn packet_that_the_source_lost_is_a_gap_and_a_late_one_fills_it() {
    let mut rig = Rig::new(&description("H264/90000", ""), &[]);
    rig.join(&[MediaKind::Video]);
    rig.connect();
    for n in [0, 1, 3, 2, 5, 5, 6] {
        rig.feed(&batch(1, u64::from(n) * 40, &[picture(n)]));
        rig.run(40);
    }
    let client = &rig.clients[0];
    let first = client.numbers()[0];
    let numbers: Vec<u64> = client.numbers().iter().map(|number| number - first).collect();
    assert_eq!(numbers, [0, 1, 2, 4, 3, 6, 7]);
}

#[test]
fn path_with_b_frames_is_refused_also_when_they_come_later() {
    let mut rig = Rig::new(&description("H264/90000", ""), &[]);
    rig.join(&[MediaKind::Video]);
    rig.connect();
    rig.pictures(0..30);
    assert!(rig.whep.is_watched("live/a"));
    // Each third picture is shown before the two that were sent before it.
    for n in 30..60_u16 {
        let shown = if n % 3 == 2 { n - 2 } else { n + 1 };
        let sent = Sent { ts: u32::from(shown) * 3_600, ..picture(n) };
        rig.feed(&batch(1, u64::from(n) * 40, &[sent]));
        rig.run(40);
    }
    assert!(rig.clients[0].is_closed && !rig.whep.is_watched("live/a"));
    let (_, addr, sdp, _) = rig.offer(&[MediaKind::Video], 9);
    assert_eq!(rig.open(&sdp, addr.ip()), Err(OfferError::NotSent(NotSent::Reordered)));
    let path = Arc::clone(&rig.path);
    let same = description("H264/90000", "");
    rig.exchange(|whep, now, out| whep.resume(&path, Generation(2), &same, now, out));
    assert!(rig.open(&sdp, addr.ip()).is_ok());
    rig.exchange(|whep, now, out| whep.end_path("live/a", now, out));
    assert_eq!(rig.whep.begin(&path, Generation(1), &same, &[]), Err(NotSent::Reordered));
    assert_eq!(rig.whep.begin(&path, Generation(3), &same, &[]), Ok(()));
}

/// A request of the first client, which anybody may send on from elsewhere.
fn request(rig: &mut Rig) -> (SocketAddr, Vec<u8>) {
    let client = &mut rig.clients[0];
    // A browser asks again and again.
    for _ in 0..200 {
        rig.now += Duration::from_millis(50);
        client.rtc.handle_input(Input::Timeout(rig.now)).unwrap();
        client.poll();
        let sent = std::mem::take(&mut client.sent);
        let found = sent.into_iter().find(|(_, _, bytes)| stun::local_name(bytes).is_some());
        if let Some((_, to, bytes)) = found {
            return (to, bytes);
        }
    }
    panic!("the client asks nothing");
}

/// A viewer can forge the address of somebody else in its own requests.
#[test]
fn nothing_but_requests_is_sent_to_an_address_that_does_not_answer() {
    let mut rig = Rig::new(&description("H264/90000", ""), &[]);
    rig.join(&[MediaKind::Video]);
    rig.connect();
    let elsewhere: SocketAddr = "203.0.113.66:666".parse().unwrap();
    let (to, asked) = request(&mut rig);
    rig.whep.handle_datagram((elsewhere, to), &asked, rig.now, &mut |_| ());
    let (mut to_viewer, mut strange) = (0, 0);
    for n in 25..125 {
        rig.now += Duration::from_millis(40);
        let path = Arc::clone(&rig.path);
        let mut count = |sent: Datagram<'_>| match sent.to == elsewhere {
            true => strange += usize::from(!stun::is_stun(sent.bytes)),
            false => to_viewer += 1,
        };
        let batch = batch(1, u64::from(n) * 40, &[picture(n)]);
        rig.whep.handle_batch(&path, &batch, rig.now, &mut count);
        rig.whep.handle_timeout(rig.now, &mut count);
    }
    assert_eq!(strange, 0);
    assert!(to_viewer >= 100, "{to_viewer}");
}

/// str0m keeps each address that a viewer's requests come from.
#[test]
fn viewer_has_few_addresses_and_takes_none_of_another_one() {
    let mut rig = Rig::new(&description("H264/90000", ""), &[]);
    rig.join(&[MediaKind::Video]);
    rig.join(&[MediaKind::Video]);
    rig.connect();
    let (to, asked) = request(&mut rig);
    let many = (1_000..1_040).map(|port| SocketAddr::from(([203, 0, 113, 5], port)));
    for from in std::iter::once(rig.clients[1].addr).chain(many) {
        rig.whep.handle_datagram((from, to), &asked, rig.now, &mut |_| ());
    }
    assert_eq!(rig.whep.addresses_of("live/a").into_iter().max(), Some(16));
    // What comes from the other one's address is the other one's.
    rig.lost = HashSet::from([rig.datagrams + 40]);
    rig.pictures(25..100);
    assert!(rig.lost.is_empty());
    let mut numbers = rig.clients[1].numbers();
    numbers.sort_unstable();
    assert!(numbers.len() >= 75 && numbers.windows(2).all(|two| two[1] == two[0] + 1));
}

/// str0m keeps each address that an answer names.
#[test]
fn answers_name_few_addresses_of_the_server() {
    let mut rig = Rig::new(&description("H264/90000", ""), &[]);
    rig.join(&[MediaKind::Video]);
    rig.connect();
    assert_eq!(rig.whep.mapped_of("live/a"), [1], "its own answers");
    let (client, to) = (rig.clients[0].addr, SERVER.parse().unwrap());
    let strange = rig.strange();
    for port in 0..100_u16 {
        let mut answer = vec![1, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42];
        answer.extend_from_slice(&[7; 12]);
        answer.extend_from_slice(&[0, 0x20, 0, 8, 0, 1]);
        answer.extend_from_slice(&port.to_be_bytes());
        answer.extend_from_slice(&[1, 2, 3, 4]);
        rig.whep.handle_datagram((client, to), &answer, rig.now, &mut |_| ());
    }
    assert_eq!(rig.whep.mapped_of("live/a"), [1], "without integrity they count for nothing");
    assert!(rig.strange() >= strange + 100);
    rig.whep.fill_mapped("live/a");
    // Now that there is no room, its real answers that name the known address still count.
    rig.run(60_000);
    assert!(rig.whep.is_watched("live/a"));
}

/// Who has seen a request of STUN go by cannot have datagrams sent elsewhere.
#[test]
fn request_without_the_password_of_the_session_is_nobodys() {
    let mut rig = Rig::new(&description("H264/90000", ""), &[]);
    rig.join(&[MediaKind::Video]);
    let client = &mut rig.clients[0];
    client.rtc.handle_input(Input::Timeout(rig.now)).unwrap();
    client.poll();
    let (source, to, mut request) = client.sent.remove(0);
    assert!(stun::local_name(&request).is_some());
    let elsewhere: SocketAddr = "203.0.113.66:666".parse().unwrap();
    let last = request.len() - 9;
    request[last] ^= 1;
    let mut answers = 0;
    for from in [elsewhere, source] {
        rig.whep.handle_datagram((from, to), &request, rig.now, &mut |_| answers += 1);
    }
    assert_eq!(answers, 0);
    request[last] ^= 1;
    rig.whep.handle_datagram((source, to), &request, rig.now, &mut |sent| {
        answers += 1;
        assert_eq!(sent.to, source);
    });
    assert!(answers > 0);
}

#[test]
fn browser_that_asks_for_a_key_frame_has_the_source_asked_twice_a_second_at_most() {
    let mut rig = Rig::new(&description("H264/90000", ""), &[]);
    rig.join(&[MediaKind::Video]);
    rig.connect();
    rig.take_wants_sync();
    rig.pictures(0..20);
    for _ in 0..3 {
        let client = &mut rig.clients[0];
        let mid = client.packets[0].header.ext_vals.mid.unwrap();
        let mut direct = client.rtc.direct_api();
        let stream = direct.stream_rx_by_mid(mid, None).unwrap();
        stream.request_keyframe(KeyframeRequestKind::Pli);
        rig.run(20);
    }
    assert_eq!(rig.take_wants_sync(), [Arc::clone(&rig.path)]);
    assert_eq!(rig.take_wants_sync(), [] as [Arc<str>; 0]);
    // The key frame that was asked for may be lost: another request is kept for the end of the half
    // second, and wakes the loop then.
    let client = &mut rig.clients[0];
    let mid = client.packets[0].header.ext_vals.mid.unwrap();
    let mut direct = client.rtc.direct_api();
    direct.stream_rx_by_mid(mid, None).unwrap().request_keyframe(KeyframeRequestKind::Pli);
    rig.run(20);
    assert_eq!(rig.take_wants_sync(), [] as [Arc<str>; 0], "it was asked just now");
    let due = rig.now + Duration::from_millis(480);
    assert!(rig.whep.next_timeout().is_some_and(|at| at <= due));
    rig.run(480);
    assert_eq!(rig.take_wants_sync(), [Arc::clone(&rig.path)]);
    rig.run(1_000);
    assert_eq!(rig.take_wants_sync(), [] as [Arc<str>; 0], "once");
}

#[test]
fn another_source_goes_on_with_its_first_key_frame_and_other_tracks_end_it() {
    let mut rig = Rig::new(&description("H264/90000", ""), &[]);
    rig.join(&[MediaKind::Video]);
    rig.connect();
    rig.pictures(0..10);
    let path = Arc::clone(&rig.path);
    rig.exchange(|whep, now, out| {
        whep.resume(&path, Generation(2), &description("H264/90000", ""), now, out);
    });
    assert_eq!(rig.take_wants_sync().len(), 1);
    for n in [40_020, 40_025, 40_026] {
        let is_sync = n % 25 == 0;
        let other = Sent { ts: u32::from(n) * 3_600 + 77, is_sync, ..picture(n) };
        rig.feed(&batch(1, 9_000, std::slice::from_ref(&other)));
        rig.feed(&batch(2, u64::from(n - 40_000) * 40, &[other]));
        rig.run(40);
    }
    let client = &rig.clients[0];
    let payloads = client.payloads();
    assert_eq!(payloads.len(), 11 + 3);
    assert_eq!(payloads[12..], [picture(40_025).payload, picture(40_026).payload]);
    assert!(client.numbers().windows(2).all(|two| two[1] == two[0] + 1));
    let time = |n: usize| client.packets[n].header.timestamp;
    let step = time(12).wrapping_sub(time(10));
    assert!((3_600..10 * 90_000).contains(&step), "{step}");
    rig.exchange(|whep, now, out| {
        whep.resume(&path, Generation(3), &description("H264/90000", "opus/48000/2"), now, out);
    });
    rig.run(100);
    assert!(rig.clients[0].is_closed && !rig.whep.has("live/a"));
}

#[test]
fn viewer_who_never_comes_or_goes_silent_leaves_its_place_to_others() {
    let mut rig = Rig::new(&description("H264/90000", ""), &[]);
    let (_, addr, sdp, _) = rig.offer(&[MediaKind::Video], 77);
    rig.open(&sdp, addr.ip()).unwrap();
    assert!(rig.whep.is_watched("live/a"));
    rig.run(14_000);
    assert!(rig.whep.is_watched("live/a"));
    rig.run(2_000);
    assert!(!rig.whep.is_watched("live/a") && rig.whep.next_timeout().is_none());
    for _ in 0..2 {
        rig.join(&[MediaKind::Video]);
    }
    rig.connect();
    let silent = rig.clients.remove(0);
    let id = silent.id;
    for n in 0..900 {
        rig.feed(&batch(1, u64::from(n) * 40, &[picture(n)]));
        rig.run(40);
    }
    assert_eq!(rig.clients[0].packets.len(), 900 + 36, "the other one has all");
    let now = rig.now;
    assert!(!rig.whep.close("live/a", &id, now, &mut |_| ()));
    assert!(rig.whep.is_watched("live/a"));
}

#[test]
fn session_ends_by_its_id_on_its_path_only_and_the_browser_is_told() {
    let mut rig = Rig::new(&description("H264/90000", ""), &[]);
    let id = rig.join(&[MediaKind::Video]).id;
    rig.connect();
    rig.exchange(|whep, now, out| {
        assert!(!whep.close("live/b", &id, now, out) && !whep.close("live/a", "0", now, out));
        assert!(whep.close("live/a", &id, now, out) && !whep.close("live/a", &id, now, out));
    });
    rig.run(100);
    assert!(rig.clients[0].is_closed && !rig.whep.is_watched("live/a"));
    rig.whep.forget("live/a");
    assert!(!rig.whep.has("live/a"));
}

#[test]
fn offer_that_cannot_be_answered_says_why() {
    let mut rig = Rig::new(&description("H264/90000", ""), &[]);
    let from = IpAddr::from([198, 51, 100, 1]);
    let (_, _, sound, _) = rig.offer(&[MediaKind::Audio], 1);
    assert_eq!(rig.open(&sound, from), Err(OfferError::NoCodec("H.264 video")));
    let (_, _, good, _) = rig.offer(&[MediaKind::Video], 1);
    let without_h264 = good.replace("H264", "H999");
    assert_eq!(rig.open(&without_h264, from), Err(OfferError::NoCodec("H.264 video")));
    let sends = good.replace("a=recvonly", "a=sendonly");
    assert_eq!(rig.open(&sends, from), Err(OfferError::NoCodec("H.264 video")));
    for bad in ["", "v=0", "no SDP", &good.replace("a=fingerprint", "a=finger")] {
        let refused = rig.open(bad, from).unwrap_err();
        let is_why = matches!(refused, OfferError::Syntax(_) | OfferError::Refused(_));
        assert!(is_why, "{bad}: {refused}");
    }
    let offer = |rig: &Rig| Offer { sdp: &good, from, permit: rig.permit(from), candidates: &[] };
    let nowhere = offer(&rig);
    let refused = rig.whep.open(&Arc::clone(&rig.path), nowhere, rig.now, &mut |_| ());
    assert_eq!(refused, Err(OfferError::NoCandidate));
    let nowhere = offer(&rig);
    let elsewhere = rig.whep.open(&"live/b".into(), nowhere, rig.now, &mut |_| ());
    assert_eq!(elsewhere, Err(OfferError::NoPath));
    let hevc = rig.whep.begin(&"live/b".into(), Generation(1), &description("H265/90000", ""), &[]);
    assert!(hevc.unwrap_err().to_string().contains("H265"));
    assert!(!rig.whep.is_watched("live/a"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// str0m panics on some offers: whoever makes it do so harms nobody else.
    #[test]
    fn changed_offers_and_any_datagrams_harm_no_other_viewer(
        at in 0_usize..4_000, byte in any::<u8>(), cut in 0_usize..4_000,
        datagram in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut rig = Rig::new(&description("H264/90000", ""), &[]);
        rig.join(&[MediaKind::Video]);
        rig.connect();
        let (_, addr, sdp, _) = rig.offer(&BOTH, 9);
        let mut bytes = sdp.into_bytes();
        let place = at % bytes.len();
        bytes[place] = byte & 0x7f;
        bytes.truncate(bytes.len() - cut % 200);
        let sdp = String::from_utf8(bytes).unwrap();
        if let Ok(opened) = rig.open(&sdp, addr.ip()) {
            prop_assert!(rig.whep.close("live/a", &opened.id, rig.now, &mut |_| ()));
        }
        let to = SERVER.parse().unwrap();
        // From a stranger, and from the address of a viewer.
        for from in [addr, rig.clients[0].addr] {
            rig.whep.handle_datagram((from, to), &datagram, rig.now, &mut |_| ());
        }
        rig.pictures(0..3);
        prop_assert_eq!(rig.clients[0].packets.len(), 4);
    }

    #[test]
    fn numbers_of_a_track_are_unique_whatever_order_packets_come_in(
        seqs in prop::collection::vec((0_u16..60, any::<bool>(), 1_usize..4_000), 1..120),
    ) {
        let mut stream = stream::Stream::new(
            Generation(1), &description("H264/90000", "")).unwrap();
        let mut out = Vec::new();
        for (seq, is_sync, bytes) in seqs {
            let mut sent = Sent { seq, is_sync, ..picture(1) };
            sent.payload = vec![0x65; bytes];
            stream.push(&batch(1, 0, &[sent]), &mut out);
        }
        let numbers: HashSet<u64> = out.iter().map(|packet| packet.number).collect();
        prop_assert_eq!(numbers.len(), out.len());
        prop_assert!(out.iter().all(|packet| packet.payload.len() <= lane::PAYLOAD_BYTES_MAX));
    }
}

//! Inputs without sockets: an owner's orders and datagrams come in; sockets to open and readers'
//! paths go out. One shard, which is the owner of every path.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::paths::{PathConfig, PathTable};
use crate::config::source::SourceAddress;
use crate::consumers::testing::{Rig, Room, config};
use crate::live::core::message::ToOwner;
use crate::live::core::registry::Effect;
use crate::sdp::read::read_session;

const PATH: &str = "live/a";
const SDP: &str = "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\n\
    m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\na=fmtp:96 packetization-mode=1\n\
    m=audio 5006 RTP/AVP 97\na=rtpmap:97 opus/48000/2\n";

/// A shard that is the owner of the path.
type Bench = Rig<Inputs>;

/// The sockets of inputs.
struct Inputs {
    /// Sockets that are open, by input.
    open: BTreeMap<u32, Vec<InputSocket>>,
    /// Result of opening sockets.
    refusal: Option<&'static str>,
}

impl Room for Inputs {
    fn act(bench: &mut Bench, action: Action) -> Option<Action> {
        match action {
            Action::OpenInput { number, sockets } => {
                let Rig { sessions, room, .. } = bench;
                let (cx, live) = (&mut sessions.cx, &mut sessions.live);
                match room.refusal {
                    Some(why) => {
                        live.sources.handle_input_opened(cx, &mut live.hub, number, Err(&why));
                    }
                    None => {
                        room.open.entry(number).or_default().extend(sockets);
                        live.sources.handle_input_opened(cx, &mut live.hub, number, Ok(()));
                    }
                }
            }
            Action::CloseInput(number) => {
                bench.open.remove(&number);
            }
            Action::Submit(_) => return Some(action),
            other => panic!("{other:?}"),
        }
        None
    }
}

impl Bench {
    fn new(source: &str) -> Self {
        let mut bench = Self::around(Inputs { open: BTreeMap::new(), refusal: None }, config());
        let source = SourceAddress::parse(source).unwrap();
        let named = Arc::new(PathConfig { source, ..PathConfig::default() });
        let mut table = PathTable::default();
        table.named.insert(PATH.to_owned(), named);
        bench.sessions.cx.configs = Arc::new(table);
        bench
    }

    /// The configuration wants the path always.
    fn order(&mut self) {
        let path: Arc<str> = PATH.into();
        let rules = self.sessions.cx.path_rules(&path);
        self.sessions
            .live
            .hub
            .requests
            .push(ToOwner { path, request: OwnerRequest::Open { rules } });
        self.settle();
    }

    fn read(&mut self, read: Result<&str, DescriptionFailure>) {
        let Task { owner, work, .. } = self.tasks.pop().unwrap();
        let TaskOwner::Input(number) = owner else { panic!("{owner:?}") };
        assert!(matches!(work, Work::ReadDescription { .. }));
        let read = read.map(|text| Box::new(read_session(text.as_bytes()).unwrap()));
        self.sessions.live.sources.handle_description(
            &mut self.sessions.cx,
            &mut self.sessions.live.hub,
            number,
            read,
        );
        self.settle();
    }

    fn datagram(&mut self, (track, is_rtcp): (u8, bool), from: u8, bytes: &[u8]) {
        let number = *self.open.keys().next().unwrap();
        let from = SocketAddr::from(([192, 0, 2, from], 5_000));
        self.sessions.live.handle_input_datagram(
            &mut self.sessions.cx,
            number,
            (track, is_rtcp),
            from,
            bytes,
        );
        self.sessions.live.feed_live(&mut self.sessions.cx);
        self.settle();
    }

    fn state(&self) -> Option<&'static str> {
        self.sessions.live.hub.registry.infos().first().map(|info| info.state)
    }

    fn addresses(&self) -> Vec<String> {
        let sockets = self.open.values().flatten();
        sockets.map(|socket| format!("{} {}", socket.to, socket.is_rtcp)).collect()
    }

    /// Packets taken, and packets dropped for their sender's address.
    fn counts(&self) -> (u64, u64) {
        let publisher = self.sessions.live.sources.publishers.values().next().unwrap();
        let counts = publisher.source.counts();
        (counts.packets, counts.dropped[SourceError::ForeignAddress.index()])
    }
}

fn rtp(payload_type: u8, seq: u16, ssrc: u8) -> Vec<u8> {
    let [high, low] = seq.to_be_bytes();
    [&[0x80, payload_type, high, low, 0, 0, low, 0, 0, 0, 0, ssrc][..], &[7; 160]].concat()
}

fn ts(first: u8) -> Vec<u8> {
    let mut bytes = vec![first; 7 * 188];
    bytes.iter_mut().step_by(188).for_each(|byte| *byte = 0x47);
    bytes
}

#[test]
fn transport_stream_is_claimed_when_it_comes_and_its_beginning_is_not_lost() {
    let mut bench = Bench::new("udp://127.0.0.1:5004");
    bench.order();
    assert_eq!(
        (bench.state(), bench.addresses()),
        (Some("starting"), vec!["127.0.0.1:5004 false".to_owned()])
    );
    bench.datagram((0, false), 1, &ts(1));
    assert_eq!(bench.state(), Some("live"));
    bench.datagram((0, false), 1, &ts(2));
    bench.datagram((0, false), 2, &ts(3));
    assert_eq!(bench.counts(), (2, 1), "of one sender, from its first packet on");
    assert_eq!(bench.addresses().len(), 1, "without RTP there is no RTCP");
}

#[test]
fn rtp_of_a_static_type_is_claimed_with_its_second_packet_and_reports_are_listened_to() {
    let mut bench = Bench::new("udp://239.1.2.3:5004");
    bench.order();
    bench.datagram((0, false), 1, &rtp(0, 9, 1));
    assert_eq!(bench.state(), Some("starting"));
    bench.datagram((0, false), 1, &rtp(0, 10, 1));
    assert_eq!((bench.state(), bench.counts()), (Some("live"), (2, 0)));
    assert_eq!(bench.addresses(), ["239.1.2.3:5004 false", "239.1.2.3:5005 true"]);
    let sdp = bench.sessions.live.sources.publishers.values().next().unwrap().source.description();
    assert!(sdp.sdp.contains("a=rtpmap:0 PCMU/8000"), "{}", sdp.sdp);
}

#[test]
fn dynamic_type_without_a_description_is_refused_and_tried_again() {
    let mut bench = Bench::new("udp://239.1.2.3:5004");
    bench.order();
    bench.datagram((0, false), 1, &rtp(96, 9, 1));
    bench.datagram((0, false), 1, &rtp(96, 10, 1));
    assert_eq!((bench.state(), bench.open.len()), (Some("failed"), 0));
    bench.jump(Duration::from_secs(2));
    assert_eq!(bench.open.len(), 1);
}

#[test]
fn socket_that_cannot_be_opened_is_tried_again() {
    let mut bench = Bench::new("udp://127.0.0.1:5004");
    bench.refusal = Some("taken");
    bench.order();
    assert_eq!((bench.state(), bench.open.len()), (Some("failed"), 0));
    bench.refusal = None;
    bench.jump(Duration::from_secs(2));
    bench.datagram((0, false), 1, &ts(1));
    assert_eq!(bench.state(), Some("live"));
}

#[test]
fn silent_source_is_lost_closed_and_opened_again() {
    let mut bench = Bench::new("udp://127.0.0.1:5004");
    bench.order();
    bench.datagram((0, false), 1, &ts(1));
    bench.jump(Duration::from_secs(9));
    assert_eq!(bench.state(), Some("live"));
    bench.jump(Duration::from_secs(1));
    assert_eq!((bench.state(), bench.open.len()), (Some("failed"), 0));
    assert!(bench.sessions.live.sources.publishers.is_empty());
    bench.jump(Duration::from_secs(2));
    assert_eq!(bench.open.len(), 1);
    bench.datagram((0, false), 9, &ts(1));
    assert_eq!(bench.state(), Some("live"));
}

#[test]
fn another_sender_takes_over_from_one_that_is_silent_with_a_stream_of_its_own() {
    let mut bench = Bench::new("udp://127.0.0.1:5004");
    bench.order();
    bench.datagram((0, false), 1, &ts(1));
    let ssrc = |bench: &Bench| {
        let publisher = bench.sessions.live.sources.publishers.values().next().unwrap();
        publisher.source.track(0).unwrap().ssrc()
    };
    let first = ssrc(&bench);
    bench.jump(Duration::from_secs(3));
    bench.datagram((0, false), 2, &ts(1));
    assert_eq!(bench.counts(), (2, 0));
    assert_ne!(ssrc(&bench), first);
}

#[test]
fn only_the_configured_sender_is_taken() {
    let mut bench = Bench::new("udp://127.0.0.1:5004?source=192.0.2.7");
    bench.order();
    bench.datagram((0, false), 1, &ts(1));
    assert_eq!(bench.state(), Some("starting"));
    bench.datagram((0, false), 7, &ts(1));
    assert_eq!(bench.state(), Some("live"));
}

#[test]
fn description_in_a_file_is_kept_and_claimed_when_one_of_its_tracks_comes() {
    let mut bench = Bench::new("file:cam.sdp");
    bench.order();
    let Work::ReadDescription { file } = &bench.tasks[0].work else { panic!() };
    assert_eq!(file, &PathBuf::from("cam.sdp"));
    bench.read(Ok(SDP));
    assert_eq!((bench.state(), bench.addresses().len()), (Some("starting"), 4));
    bench.datagram((1, false), 1, &rtp(96, 1, 1));
    bench.datagram((1, false), 1, b"no RTP");
    assert_eq!(bench.state(), Some("starting"), "that is not what was described");
    bench.datagram((1, false), 1, &rtp(97, 1, 1));
    bench.datagram((0, false), 1, &rtp(96, 1, 2));
    bench.datagram((0, false), 1, &rtp(99, 2, 2));
    assert_eq!((bench.state(), bench.counts()), (Some("live"), (2, 0)));
    let publisher = bench.sessions.live.sources.publishers.values().next().unwrap();
    let sdp = &publisher.source.description().sdp;
    for line in ["a=rtpmap:96 H264/90000", "a=fmtp:96 packetization-mode=1", "opus/48000/2"] {
        assert!(sdp.contains(line), "{sdp}");
    }
}

#[test]
fn description_that_cannot_be_used_is_read_again_later() {
    let mut bench = Bench::new("file:cam.sdp");
    bench.order();
    bench.read(Err(DescriptionFailure::Busy));
    assert_eq!((bench.state(), bench.tasks.len()), (Some("failed"), 0));
    bench.jump(Duration::from_secs(2));
    bench.read(Ok("v=0\nm=video 5004 RTP/SAVP 96\n"));
    assert_eq!(bench.open.len(), 0);
    bench.jump(Duration::from_secs(4));
    bench.read(Ok(SDP));
    assert_eq!(bench.open.len(), 1);
}

#[test]
fn order_to_stop_closes_an_input_in_each_of_its_states() {
    let path: Arc<str> = PATH.into();
    let stop = |bench: &mut Bench| {
        bench.sessions.live.hub.registry.out.push(Effect::StopPull(Arc::clone(&path)));
        bench.settle();
        assert_eq!((bench.open.len(), bench.sessions.live.sources.inputs.table.len()), (0, 0));
        assert!(bench.sessions.live.sources.publishers.is_empty());
    };
    let mut bench = Bench::new("udp://127.0.0.1:5004");
    bench.order();
    stop(&mut bench);
    let mut bench = Bench::new("udp://127.0.0.1:5004");
    bench.order();
    bench.datagram((0, false), 1, &ts(1));
    stop(&mut bench);
    let mut bench = Bench::new("file:cam.sdp");
    bench.order();
    stop(&mut bench);
    // What the worker has read is nobody's.
    bench.read(Ok(SDP));
    assert_eq!(bench.open.len(), 0);
}

#[test]
fn reports_are_taken_from_the_host_that_sends() {
    let mut bench = Bench::new("udp://127.0.0.1:5004");
    bench.order();
    bench.datagram((0, false), 1, &rtp(0, 9, 1));
    bench.datagram((0, false), 1, &rtp(0, 10, 1));
    let mut report = vec![0x80, 200, 0, 6];
    report.extend([0, 0, 0, 1, 0xe9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 2, 0, 0, 0, 9]);
    report.extend([0; 4]);
    bench.datagram((0, true), 2, &report);
    assert_eq!(bench.counts(), (2, 1));
    bench.datagram((0, true), 1, &report);
    bench.datagram((0, true), 1, b"nonsense");
    assert_eq!(bench.counts(), (2, 1));
    assert_eq!(bench.state(), Some("live"));
}

proptest! {
    #[test]
    fn arbitrary_datagrams_cause_no_panic(
        is_described in any::<bool>(),
        datagrams in prop::collection::vec(
            (0_u8..3, any::<bool>(), 0_u8..3, prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                any::<u8>().prop_map(ts),
                (any::<u8>(), any::<u16>()).prop_map(|(pt, seq)| rtp(pt, seq, 1)),
            ]),
            0..60,
        ),
    ) {
        let mut bench = match is_described {
            true => Bench::new("file:cam.sdp"),
            false => Bench::new("udp://127.0.0.1:5004"),
        };
        bench.order();
        if is_described {
            bench.read(Ok(SDP));
        }
        for (track, is_rtcp, from, bytes) in &datagrams {
            if bench.open.is_empty() {
                bench.jump(Duration::from_secs(31));
            }
            bench.datagram((*track, *is_rtcp), *from, bytes);
            prop_assert_eq!(bench.open.len(), bench.sessions.live.sources.inputs.table.len());
        }
    }
}

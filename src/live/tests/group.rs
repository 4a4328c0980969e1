//! Members of a path's group, and the packets that are sent to the group: without sockets.

use super::*;
use crate::base::carrier::Carrier;
use crate::base::ids::Ssrc;
use crate::live::core::groups::MulticastSettings;
use crate::rtcp::{self, SenderInfo};
use crate::session::action::GroupAction;
use crate::session::info::SessionInfo;

const TRACK: &str = "rtsp://h/live/a/trackID=0";
const MULTICAST: &str = "RTP/AVP;multicast";
const TWO_TRACKS: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n\
    m=audio 0 RTP/AVP 0\r\na=control:streamid=0\r\nm=audio 0 RTP/AVP 8\r\na=control:streamid=1\r\n";

impl Bench {
    pub(crate) fn act_for_group(&mut self, action: &GroupAction) {
        let done = match action {
            GroupAction::OpenPair(_) => {
                self.sessions.cx.sockets.add_pair_for(9_000, true);
                let Sessions { cx, live, .. } = &mut self.sessions;
                live.readers.start_groups(cx, &mut live.hub);
                "pair".to_owned()
            }
            GroupAction::Hear { group, tracks, .. } => format!("hear {} {tracks}", group.address),
            GroupAction::Leave(_) => "leave".to_owned(),
        };
        self.groups.push(done);
    }
}

/// A bench whose paths are sent to groups of four addresses.
fn bench() -> Bench {
    let mut bench = Bench::new();
    offer(&mut bench, 30);
    bench
}

fn offer(bench: &mut Bench, prefix: u8) {
    let range = (Ipv4Addr::new(239, 255, 0, 0), prefix);
    let settings = MulticastSettings { range, ..MulticastSettings::default() };
    bench.sessions.live.offer_groups(settings, ShardId(0)).unwrap();
}

/// SETUP on a connection of its own, which is the last part of the client's address as well.
fn setup(
    bench: &mut Bench,
    client: u8,
    (uri, transport): (&str, &str),
    id: Option<SessionId>,
) -> Response {
    let from = (u32::from(client), host(client, 40_001));
    let headers = [("Transport", transport)];
    bench.request(from, Method::Setup, uri, id, (&headers, "")).unwrap()
}

fn ask(bench: &mut Bench, client: u8, method: Method, id: SessionId) -> Response {
    let from = (u32::from(client), host(client, 40_001));
    bench.request(from, method, URL, Some(id), (&[], "")).unwrap()
}

/// A member that has sent PLAY.
fn member(bench: &mut Bench, client: u8) -> SessionId {
    let id = session_id(&setup(bench, client, (TRACK, MULTICAST), None));
    let played = ask(bench, client, Method::Play, id);
    assert_eq!(played.header_value("RTP-Info"), Some(&*format!("url={TRACK}")));
    id
}

fn group_of(bench: &Bench) -> Option<String> {
    bench.sessions.live.hub.registry.infos().first().and_then(|info| info.group.clone())
}

/// Packets sent to groups: the address of each stream with a run, and the run's packets.
fn sent(bench: &mut Bench) -> Vec<(SocketAddr, usize)> {
    for path in bench.sessions.live.hub.paths.iter() {
        assert!(path.readers().all(|(_, reader)| reader.carrier == Carrier::Multicast));
    }
    let runs = bench.pump(0);
    assert!(runs.iter().all(|run| run.way.0 == 1), "groups have a pair of their own");
    runs.iter().map(|run| (run.way.1, run.packets.len())).collect()
}

/// The sessions as shown; the publisher is a session, too.
fn readers(bench: &Bench) -> Vec<SessionInfo> {
    let mut infos = bench.sessions.infos();
    infos.retain(|info| info.role == "reader");
    infos
}

#[test]
fn sessions_of_a_path_share_one_group_that_closes_with_the_last_session() {
    let mut bench = bench();
    bench.publish();
    let first = setup(&mut bench, 5, (TRACK, MULTICAST), None);
    let expected = "RTP/AVP;multicast;destination=239.255.0.0;port=8002-8003;ttl=8";
    assert_eq!(first.header_value("Transport"), Some(expected));
    assert_eq!(group_of(&bench).as_deref(), Some("239.255.0.0"));
    let wish = "RTP/AVP/UDP;multicast;destination=239.9.9.9;port=5000-5001;ttl=200";
    let second = setup(&mut bench, 6, (TRACK, wish), None);
    assert_eq!(second.header_value("Transport"), Some(expected), "ours, not what it wished for");
    // A description with feedback names RTP/AVPF, and GStreamer repeats that.
    let fed_back = setup(&mut bench, 7, (TRACK, "RTP/AVPF;multicast"), None);
    assert_eq!(fed_back.header_value("Transport"), Some(&*expected.replace("AVP", "AVPF")));
    ask(&mut bench, 7, Method::Teardown, session_id(&fed_back));
    let infos = readers(&bench);
    assert_eq!(infos.len(), 2, "what the group is sent by is no session");
    assert!(infos.iter().all(|info| info.transport == "multicast"));
    ask(&mut bench, 5, Method::Teardown, session_id(&first));
    assert!(group_of(&bench).is_some());
    ask(&mut bench, 6, Method::Teardown, session_id(&second));
    assert_eq!(group_of(&bench), None);
    let mut done = std::mem::take(&mut bench.groups);
    done.sort();
    assert_eq!(done, ["hear 239.255.0.0 1", "leave", "no pair", "pair"]);
    assert!(bench.sessions.live.readers.table.is_empty());
}

#[test]
fn session_of_two_tracks_joins_once_and_each_has_its_ports() {
    let mut bench = bench();
    let from = (PUBLISHER, host(1, 40_000));
    let answer = bench.request(from, Method::Announce, URL, None, (&[], TWO_TRACKS)).unwrap();
    assert_eq!(answer.status().code(), 200);
    let first = setup(&mut bench, 5, (TRACK, MULTICAST), None);
    let id = session_id(&first);
    let second = setup(&mut bench, 5, ("rtsp://h/live/a/trackID=1", MULTICAST), Some(id));
    let told = second.header_value("Transport").unwrap();
    assert!(told.contains("destination=239.255.0.0;port=8004-8005"), "{told}");
    let mixed = "RTP/AVP;unicast;client_port=6000-6001";
    let answer = setup(&mut bench, 6, (TRACK, mixed), None);
    let unicast = session_id(&answer);
    let other = "rtsp://h/live/a/trackID=1";
    let answer = setup(&mut bench, 6, (other, MULTICAST), Some(unicast));
    assert_eq!(answer.status().code(), 461, "one transport each session");
    ask(&mut bench, 5, Method::Teardown, id);
    assert_eq!(group_of(&bench), None, "joined once, left once");
}

#[test]
fn each_path_has_its_own_group_and_the_next_transport_is_taken_without_a_free_group() {
    let mut bench = Bench::new();
    bench.publish();
    let answer = setup(&mut bench, 5, (TRACK, MULTICAST), None);
    assert_eq!(answer.status().code(), 461, "there is no multicast");
    let mut bench = Bench::new();
    offer(&mut bench, 32);
    bench.publish();
    let other = "rtsp://h/live/b";
    let from = (7, host(1, 40_007));
    let answer = bench.request(from, Method::Announce, other, None, (&[], SDP)).unwrap();
    assert_eq!(answer.status().code(), 200);
    let first = session_id(&setup(&mut bench, 5, (TRACK, MULTICAST), None));
    let track = "rtsp://h/live/b/trackID=0";
    let answer = setup(&mut bench, 6, (track, MULTICAST), None);
    assert_eq!(answer.status().code(), 461, "the only group is taken");
    let both = "RTP/AVP;multicast,RTP/AVP;unicast;client_port=6000-6001";
    let answer = setup(&mut bench, 6, (track, both), None);
    assert!(answer.header_value("Transport").unwrap().contains("unicast"));
    ask(&mut bench, 5, Method::Teardown, first);
    bench.pass(Duration::from_secs(2));
    let answer = setup(&mut bench, 8, (track, MULTICAST), None);
    assert_eq!(answer.status().code(), 200, "it is free again");
}

#[test]
fn packets_are_sent_once_to_the_group_and_not_to_members() {
    let mut bench = bench();
    bench.publish();
    bench.packet(host(1, 5_000), 1);
    for client in [5, 6, 7] {
        member(&mut bench, client);
    }
    sent(&mut bench);
    bench.packet(host(1, 5_000), 2);
    let to = SocketAddr::from(([239, 255, 0, 0], 8_002));
    assert_eq!(sent(&mut bench), [(to, 1)]);
    bench.pass(Duration::from_secs(3));
    let to = SocketAddr::from(([239, 255, 0, 0], 8_003));
    let reports = bench.datagrams.iter().filter(|(at, _)| *at == to).count();
    assert!((1..=4).contains(&reports), "{reports} sender reports to the group");
}

#[test]
fn member_is_kept_alive_by_its_own_reports_only() {
    let mut bench = bench();
    bench.publish();
    let [kept, lost] = [5, 6].map(|client| member(&mut bench, client));
    bench.packet(host(1, 5_000), 1);
    sent(&mut bench);
    let block = rtcp::ReportBlock {
        sender_ssrc: 3,
        ssrc: 9,
        fraction_lost: 64,
        cumulative_lost: 1,
        ext_highest_seq: 1,
        jitter: 0,
        lsr: 0,
        dlsr: 0,
    };
    let mut buffer = [0; rtcp::REPORT_BYTES_MAX];
    let mut compound = rtcp::CompoundWriter::new(&mut buffer);
    compound.receiver_report(Ssrc(3), &[block]).unwrap();
    compound.cname(Ssrc(3), "player").unwrap();
    let report = compound.as_bytes().to_vec();
    let mut ours = Vec::new();
    let info =
        SenderInfo { ntp: 1, rtp_ts: crate::base::ids::RtpTs(1), packet_count: 1, octet_count: 1 };
    rtcp::write_sender_report(&mut ours, Ssrc(9), &info, "us", None);
    for second in 0..65 {
        bench.packet(host(1, 5_000), 10 + second);
        // To the group, and to what its packets come from.
        match second % 2 {
            0 => bench.sessions.live.readers.handle_group_datagram(
                &mut bench.sessions.cx,
                &bench.sessions.live.hub,
                "live/a",
                host(5, 7_777),
                &report,
            ),
            _ => bench.sessions.handle_report_datagram(1, host(5, 7_777), &report),
        }
        bench.sessions.live.readers.handle_group_datagram(
            &mut bench.sessions.cx,
            &bench.sessions.live.hub,
            "live/a",
            host(6, 8_003),
            &ours,
        );
        bench.sessions.live.readers.handle_group_datagram(
            &mut bench.sessions.cx,
            &bench.sessions.live.hub,
            "live/a",
            host(77, 8_003),
            &report,
        );
        bench.pass(Duration::from_secs(1));
    }
    let infos = readers(&bench);
    assert_eq!(infos.len(), 1);
    assert_eq!(infos[0].id, kept.to_string());
    assert_eq!(infos[0].streams[0].fraction_lost, Some(0.25));
    assert_eq!(infos[0].streams[0].ssrc, "00000009");
    assert!(bench.sessions.cx.directory.find(lost).is_none());
    assert_eq!(bench.sessions.cx.cells.datagrams_unmatched.value(), 65, "of a stranger");
}

#[test]
fn members_end_with_their_path_and_the_group_with_them() {
    let mut bench = bench();
    bench.publish();
    member(&mut bench, 5);
    bench.packet(host(1, 5_000), 1);
    sent(&mut bench);
    bench.pass(Duration::from_secs(25));
    assert!(bench.sessions.live.sources.publishers.is_empty() && bench.sessions.infos().is_empty());
    assert_eq!(bench.hung_up, [PUBLISHER, 5]);
    assert!(bench.sessions.live.readers.table.is_empty());
    let bye = |(to, bytes): &&(SocketAddr, Vec<u8>)| {
        let is_bye = |packet| matches!(packet, Ok(rtcp::Packet::Bye(_)));
        *to == SocketAddr::from(([239, 255, 0, 0], 8_003)) && rtcp::packets(bytes).any(is_bye)
    };
    assert_eq!(bench.datagrams.iter().filter(bye).count(), 1);
    assert_eq!(bench.sessions.cx.sockets.group_pair(), None);
}

#[test]
fn multicast_sender_that_has_ended_is_restarted_within_a_second() {
    let mut bench = bench();
    bench.publish();
    member(&mut bench, 5);
    let sender = |bench: &Bench| {
        let mut readers = bench.sessions.live.readers.table.iter();
        readers.find(|(_, reader)| !reader.is_session()).map(|(place, _)| place)
    };
    let index = u32::try_from(sender(&bench).unwrap()).unwrap();
    bench.sessions.live.readers.end_reader(
        &mut bench.sessions.cx,
        &mut bench.sessions.live.hub,
        index,
        None,
    );
    bench.settle();
    assert_eq!(sender(&bench), None);
    bench.pass(Duration::from_millis(1_200));
    assert!(sender(&bench).is_some());
    bench.packet(host(1, 5_000), 1);
    assert_eq!(sent(&mut bench).len(), 1);
    assert_eq!(bench.groups.iter().filter(|what| *what == "pair").count(), 2);
}

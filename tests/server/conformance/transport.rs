//! The Transport header and what it leads to (RFC 2326 s12.39): what is accepted, what the answer
//! says, and that packets go where it says and nowhere else.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed, and says where"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use crate::support::http::sessions;
use crate::support::rtp::{Rtp, assert_contiguous};
use crate::support::rtsp::{Client, Response};
use crate::support::server::{Options, Server};
use crate::support::session::{Lower, Session, UdpPair, describe, joined};
use crate::support::wait::{PATIENCE, until};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A server, a connection, the aggregate URL and the URLs of the clip's two tracks.
fn described() -> (Server, Client, String, Vec<String>) {
    let server = Server::with_demo();
    let mut client = Client::connect(server.rtsp);
    let (base, sdp) = describe(&mut client, &server.demo_url());
    let tracks = sdp.media.iter().map(|media| joined(&base, &media.control)).collect();
    (server, client, base, tracks)
}

fn setup(client: &mut Client, track: &str, transport: &str) -> Response {
    client.request("SETUP", track, &[("Transport", transport)])
}

#[test]
fn answer_has_one_transport_of_the_kind_asked_for() {
    // Client rule C1.
    let (_server, mut client, _, tracks) = described();
    let pair = UdpPair::bind(LOCAL);
    let udp = setup(&mut client, &tracks[0], &pair.transport()).expect(200);
    assert!(!udp.header("Transport").unwrap().contains(','));
    assert!(udp.header("Transport").unwrap().starts_with("RTP/AVP;unicast;"), "{udp:?}");
    let ports = format!("{}-{}", pair.port(), pair.port() + 1);
    assert_eq!(udp.transport("client_port"), Some(ports.as_str()));
    let server_ports = udp.transport("server_port").unwrap();
    let (rtp, rtcp) = server_ports.split_once('-').unwrap();
    let (rtp, rtcp): (u16, u16) = (rtp.parse().unwrap(), rtcp.parse().unwrap());
    assert!(rtp % 2 == 0 && rtcp == rtp + 1, "an even and an odd port: {server_ports}");
    assert_eq!(udp.transport("ssrc").expect("an SSRC").len(), 8, "{udp:?}");

    let tcp = setup(&mut client, &tracks[1], "RTP/AVP/TCP;unicast;interleaved=0-1").expect(200);
    assert!(tcp.header("Transport").unwrap().starts_with("RTP/AVP/TCP;unicast;"), "{tcp:?}");
    assert_eq!(tcp.transport("interleaved"), Some("0-1"));
    assert_eq!(tcp.transport("server_port"), None);
}

#[test]
fn first_transport_of_a_list_that_is_served_is_taken() {
    let (_server, mut client, _, tracks) = described();
    let list = "RTP/AVP;multicast;port=9000-9001,RTP/SAVP;unicast;client_port=5000-5001,\
                RTP/AVP/TCP;unicast;interleaved=2-3,RTP/AVP;unicast;client_port=5000-5001";
    let response = setup(&mut client, &tracks[0], list).expect(200);
    assert_eq!(response.transport("interleaved"), Some("2-3"), "{response:?}");
    assert_eq!(response.list("Transport").len(), 1);
}

#[test]
fn sloppy_transports_of_the_field_are_understood() {
    let pair = UdpPair::bind(LOCAL);
    let ports = format!("client_port={}-{}", pair.port(), pair.port() + 1);
    for transport in [
        // Client rule C28: some leave out `unicast`, or name the default protocol.
        format!("RTP/AVP;{ports}"),
        format!("RTP/AVP/UDP;unicast;{ports}"),
        format!("rtp/avp;unicast;{ports}"),
        format!("RTP/AVP; unicast; {ports}; mode=play"),
        format!("RTP/AVP;unicast;{ports};mode=\"PLAY\""),
        format!("RTP/AVP;unicast;{ports};x-unknown=1;layers=1"),
        "RTP/AVP/TCP".to_owned(),
        "RTP/AVP/TCP;interleaved=4-5".to_owned(),
    ] {
        let (_server, mut client, _, tracks) = described();
        let response = setup(&mut client, &tracks[0], &transport);
        assert_eq!(response.status, 200, "{transport}: {response:?}");
    }
}

#[test]
fn setup_to_record_is_refused() {
    // Client rule C28: `receive` is an old name of `record`.
    for mode in ["record", "receive", "\"RECORD\""] {
        let (_server, mut client, _, tracks) = described();
        let transport = format!("RTP/AVP/TCP;unicast;interleaved=0-1;mode={mode}");
        let response = setup(&mut client, &tracks[0], &transport);
        assert!([405, 461].contains(&response.status), "{mode}: {response:?}");
    }
}

#[test]
fn interleaved_channels_are_chosen_by_the_server_when_the_client_names_none() {
    // Client rule C19: QuickTime.
    let (_server, mut client, base, tracks) = described();
    let first = setup(&mut client, &tracks[0], "RTP/AVP/TCP;unicast").expect(200);
    let id = first.session_id();
    let headers = [("Transport", "RTP/AVP/TCP;unicast"), ("Session", id.as_str())];
    let second = client.request("SETUP", &tracks[1], &headers).expect(200);
    let channels = [first, second].map(|r| r.transport("interleaved").unwrap().to_owned());
    assert_ne!(channels[0], channels[1]);
    client.request("PLAY", &base, &[("Session", &id)]).expect(200);
}

#[test]
fn interleaved_channels_that_the_client_names_are_used() {
    // Client rule C18: any numbers, not only 0-1.
    let (_server, mut client, base, tracks) = described();
    let response =
        setup(&mut client, &tracks[0], "RTP/AVP/TCP;unicast;interleaved=6-7").expect(200);
    assert_eq!(response.transport("interleaved"), Some("6-7"));
    let id = response.session_id();
    client.request("PLAY", &base, &[("Session", &id)]).expect(200);
    let server_frames =
        |client: &mut Client| client.frames.iter().any(|(channel, _)| *channel == 6);
    until("a packet on channel 6", || {
        client.request("OPTIONS", "*", &[]).expect(200);
        server_frames(&mut client)
    });
    assert!(client.frames.iter().all(|(channel, _)| [6, 7].contains(channel)));
}

#[test]
fn setup_with_the_headers_of_quicktime_does_not_start_to_play() {
    // Client rule C19: Range and x-playNow in SETUP mean auto-play to some; it is off here.
    let (server, mut client, base, tracks) = described();
    let headers = [
        ("Transport", "RTP/AVP/TCP;unicast"),
        ("Range", "npt=0-"),
        ("x-playNow", ""),
        ("x-retransmit", "our-retransmit"),
        ("x-dynamic-rate", "1"),
        ("x-transport-options", "late-tolerance=2.9"),
    ];
    let id = client.request("SETUP", &tracks[0], &headers).expect(200).session_id();
    assert_ne!(sessions(server.admin)[0]["state"], "playing");
    for _ in 0..10 {
        client.request("GET_PARAMETER", &base, &[("Session", &id)]).expect(200);
    }
    assert!(client.frames.is_empty());
}

#[test]
fn packets_carry_the_ssrc_type_and_ports_that_were_announced() {
    for lower in [Lower::Udp, Lower::Tcp] {
        let server = Server::with_demo();
        let mut session = Session::open(server.rtsp, &server.demo_url(), lower);
        session.play(&[]);
        session.receive_packets(20, PATIENCE);
        for stream in &session.streams {
            assert_contiguous(&stream.packets);
            for packet in &stream.packets {
                assert_eq!(Some(packet.ssrc), stream.announced_ssrc());
                assert_eq!(packet.payload_type, stream.media.payload_type);
                assert!(packet.payload.len() <= 1_400);
            }
        }
        let [a, b] = [0, 1].map(|i: usize| session.streams[i].announced_ssrc());
        assert_ne!(a, b, "each stream has an SSRC of its own");
    }
}

#[test]
fn udp_packets_come_from_the_ports_that_were_announced() {
    let server = Server::with_demo();
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    session.play(&[]);
    let (rtp, rtcp) = session.streams[0].server_ports();
    let pair = session.streams[0].udp();
    for (socket, port) in [(&pair.rtp, rtp), (&pair.rtcp, rtcp)] {
        let mut from = None;
        until("a packet", || {
            from = socket.recv_from(&mut [0; 2_048]).ok().map(|(_, from)| from);
            from.is_some()
        });
        assert_eq!(from.unwrap().port(), port);
        assert_eq!(from.unwrap().ip(), server.rtsp.ip());
    }
}

#[test]
fn streams_of_two_sessions_with_the_same_client_port_are_told_apart() {
    // DESIGN section 2: a client address is unique on a pair of server ports; its second use
    // opens another pair. Seen with several players behind one address, and with reused sockets.
    let (server, mut client, base, tracks) = described();
    let pair = UdpPair::bind(LOCAL);
    let responses: Vec<_> =
        (0..3).map(|_| setup(&mut client, &tracks[0], &pair.transport()).expect(200)).collect();
    let mut server_ports: Vec<_> =
        responses.iter().map(|r| r.transport("server_port").unwrap().to_owned()).collect();
    server_ports.sort();
    server_ports.dedup();
    assert_eq!(server_ports.len(), 3, "three pairs of server ports");
    for response in &responses {
        let id = response.session_id();
        client.request("PLAY", &base, &[("Session", &id)]).expect(200);
    }
    // Each stream comes from its own port, under its own SSRC, without gaps.
    let mut seen: Vec<(u16, Rtp)> = Vec::new();
    until("packets of all three", || {
        let mut block = [0; 2_048];
        while let Ok((bytes, from)) = pair.rtp.recv_from(&mut block) {
            seen.push((from.port(), Rtp::parse(&block[..bytes])));
        }
        responses.iter().all(|r| packets_of(&seen, r).len() >= 20)
    });
    for response in &responses {
        let packets = packets_of(&seen, response);
        assert_contiguous(&packets);
        let ssrc = u32::from_str_radix(response.transport("ssrc").unwrap(), 16).unwrap();
        assert!(packets.iter().all(|packet| packet.ssrc == ssrc));
    }
    drop(server);
}

/// Packets that came from the server port of `setup`.
fn packets_of(seen: &[(u16, Rtp)], setup: &Response) -> Vec<Rtp> {
    let ports = setup.transport("server_port").unwrap();
    let port: u16 = ports.split_once('-').unwrap().0.parse().unwrap();
    seen.iter().filter(|(from, _)| *from == port).map(|(_, packet)| packet.clone()).collect()
}

#[test]
fn media_is_never_sent_to_an_address_other_than_the_peers() {
    // DESIGN section 9: or a stranger makes the server flood a third party. 127.0.0.2 is another
    // address that this machine can listen on.
    let elsewhere = UdpPair::bind(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)));
    let (_server, mut client, base, tracks) = described();
    let ports = format!("client_port={}-{}", elsewhere.port(), elsewhere.port() + 1);
    let transport = format!("RTP/AVP;unicast;destination=127.0.0.2;{ports}");
    let response = setup(&mut client, &tracks[0], &transport);
    if response.status == 200 {
        // Ignoring the parameter is as good as refusing it, as long as it is not confirmed.
        assert_ne!(response.transport("destination"), Some("127.0.0.2"));
        let id = response.session_id();
        client.request("PLAY", &base, &[("Session", &id), ("Range", "npt=19-")]).expect(200);
        until("the session has ended", || {
            client.request("OPTIONS", "*", &[]).expect(200);
            sessions_are_not_playing(&_server)
        });
        assert!(elsewhere.rtp.recv_from(&mut [0; 2_048]).is_err(), "a packet went elsewhere");
    } else {
        assert!([403, 461].contains(&response.status), "{response:?}");
    }
    // The peer's own address may be named.
    let own = UdpPair::bind(LOCAL);
    let transport = format!("{};destination=127.0.0.1", own.transport());
    setup(&mut client, &tracks[0], &transport).expect(200);
}

fn sessions_are_not_playing(server: &Server) -> bool {
    sessions(server.admin).iter().all(|session| session["state"] != "playing")
}

#[test]
fn junk_packets_before_play_are_ignored() {
    // Client rule C21: rtspsrc opens NAT bindings like this; others send anything.
    let server = Server::with_demo();
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    for stream in &session.streams {
        let (rtp, rtcp) = stream.server_ports();
        for junk in [&b""[..], b"\0", b"\xce\xfa\xed\xfe", &[0x80; 200], &[0x81, 201, 0xff, 0xff]] {
            stream.udp().rtp.send_to(junk, (LOCAL, rtp)).unwrap();
            stream.udp().rtcp.send_to(junk, (LOCAL, rtcp)).unwrap();
        }
    }
    // And from a port that belongs to nobody.
    let (rtp, rtcp) = session.streams[0].server_ports();
    let stranger = UdpSocket::bind((LOCAL, 0)).unwrap();
    stranger.send_to(&[0; 1_400], (LOCAL, rtp)).unwrap();
    stranger.send_to(&[0x80; 1_400], (LOCAL, rtcp)).unwrap();
    session.play(&[]);
    session.receive_packets(20, PATIENCE);
}

#[test]
fn session_is_set_up_again_over_tcp_when_udp_stays_silent() {
    // Client rule C7: FFmpeg pauses, then sets up over TCP on the same connection, without a
    // Session header and without a TEARDOWN. The old session must be gone at once.
    let server = Server::with_demo();
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    session.play(&[]);
    session.request("PAUSE", &[]).expect(200);
    let urls: Vec<_> = session.streams.iter().map(|stream| stream.url.clone()).collect();
    let first = setup(&mut session.client, &urls[0], "RTP/AVP/TCP;unicast;interleaved=0-1");
    let id = first.expect(200).session_id();
    assert_ne!(id, session.id, "a fresh session");
    let headers = [("Transport", "RTP/AVP/TCP;unicast;interleaved=2-3"), ("Session", id.as_str())];
    session.client.request("SETUP", &urls[1], &headers).expect(200);
    let base = session.base.clone();
    session.client.request("PLAY", &base, &[("Session", &id)]).expect(200);
    let listed = sessions(server.admin);
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["transport"], "tcp");
}

#[test]
fn ipv6_serves_both_transports() {
    let server = Server::start(&Options { listen: "[::1]:0", ..Options::default() });
    assert_eq!(server.rtsp.ip(), IpAddr::V6(Ipv6Addr::LOCALHOST));
    for lower in [Lower::Udp, Lower::Tcp] {
        let mut session = Session::open(server.rtsp, &server.demo_url(), lower);
        let text = &session.sdp.text;
        // RFC 8866 s5.2, s5.7: the address type must be that of the session.
        assert!(text.contains("IN IP6 ") && !text.contains("IN IP4 "), "{text}");
        session.play(&[]);
        session.receive_packets(20, PATIENCE);
    }
}

#[test]
fn dual_stack_listener_serves_ipv4_clients() {
    let server = Server::start(&Options { listen: "[::]:0", ..Options::default() });
    let v4 = std::net::SocketAddr::new(LOCAL, server.rtsp.port());
    let url = format!("rtsp://{v4}/demo");
    for lower in [Lower::Udp, Lower::Tcp] {
        let mut session = Session::open(v4, &url, lower);
        session.play(&[]);
        session.receive_packets(20, PATIENCE);
    }
}

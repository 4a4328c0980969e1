//! Behaviours of `parse_transport`, and of what is written back.

use proptest::prelude::*;

use super::*;
use crate::rtsp::transport_answer::{TransportParameters, TransportReply};

fn one(text: &str) -> TransportOffer {
    let offers = parse_transport(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let [offer] = offers.as_slice() else { panic!("{offers:?}") };
    offer.clone()
}

/// What a player is answered.
fn answer(parameters: TransportParameters, ssrc: u32) -> String {
    TransportReply { profile: Profile::Avp, parameters, ssrc: Some(ssrc), mode: Mode::Play }.write()
}

#[test]
fn offers_of_known_players_are_read() {
    // FFmpeg, VLC, GStreamer, in this order.
    let udp = one("RTP/AVP/UDP;unicast;client_port=5000-5001");
    assert_eq!((udp.protocol, udp.client_port), (Lower::Udp, Some((5_000, 5_001))));
    assert!(udp.check(false).is_ok() && !udp.multicast);
    let tcp = one("RTP/AVP/TCP;unicast;interleaved=2-3");
    assert_eq!((tcp.protocol, tcp.interleaved), (Lower::Tcp, Some((2, 3))));
    let offers = parse_transport(
        "RTP/AVP;unicast;client_port=4588-4589;mode=\"PLAY\", RTP/AVP/TCP;interleaved=0-1",
    )
    .unwrap();
    let protocols: Vec<Lower> = offers.iter().map(|offer| offer.protocol).collect();
    assert_eq!(protocols, [Lower::Udp, Lower::Tcp]);
}

#[test]
fn missing_unicast_and_missing_channels_are_tolerated() {
    assert!(!one("RTP/AVP;client_port=5000-5001").multicast);
    let tcp = one("rtp/avp/tcp");
    assert_eq!((tcp.protocol, tcp.check(false), tcp.interleaved), (Lower::Tcp, Ok(()), None));
}

#[test]
fn single_port_or_channel_stands_for_a_pair() {
    assert_eq!(one("RTP/AVP;client_port=5000").client_port, Some((5_000, 5_001)));
    assert_eq!(one("RTP/AVP/TCP;interleaved=4").interleaved, Some((4, 5)));
}

#[test]
fn unsupported_specifications_stay_in_their_place() {
    let text = "RAW/RAW/UDP;client_port=x,RTP/AVPF;unicast,RTP/SAVP, ,RTP/AVP;mode=fly,RTP/AVP";
    let marks: Vec<bool> =
        parse_transport(text).unwrap().iter().map(|offer| offer.check(false).is_ok()).collect();
    assert_eq!(marks, [false, false, false, false, true]);
}

#[test]
fn mode_is_read_quoted_or_not_and_receive_is_record() {
    for (text, mode) in [
        ("mode=PLAY", Mode::Play),
        ("mode=\"play\"", Mode::Play),
        ("mode=record", Mode::Record),
        ("mode=\"receive\"", Mode::Record),
        ("mode=\"PLAY,RECORD\"", Mode::Play),
        ("append", Mode::Play),
    ] {
        assert_eq!(one(&format!("RTP/AVP;unicast;{text}")).mode, mode, "{text}");
    }
}

#[test]
fn offers_of_publishers_are_read() {
    // ffmpeg, over UDP and TCP.
    let offer = one("RTP/AVP/UDP;unicast;client_port=20000-20001;mode=record");
    assert_eq!((offer.mode, offer.check(false)), (Mode::Record, Ok(())));
    let offer = one("RTP/AVP/TCP;unicast;interleaved=0-1;mode=record");
    assert_eq!((offer.protocol, offer.mode), (Lower::Tcp, Mode::Record));
    // rtspclientsink publishes with feedback.
    let offer = one("RTP/AVPF/TCP;unicast;mode=\"RECORD\";interleaved=0-1");
    assert_eq!((offer.profile, offer.interleaved), (Profile::Avpf, Some((0, 1))));
    assert_eq!((offer.protocol, offer.mode), (Lower::Tcp, Mode::Record));
    assert_eq!((offer.check(true), offer.check(false)), (Ok(()), Err(NotCarried::Feedback)));
}

#[test]
fn what_is_not_carried_says_why() {
    for (text, why) in [
        ("RTP/SAVP;unicast;client_port=1-2", NotCarried::Secure),
        ("RTP/SAVPF/TCP", NotCarried::Secure),
        ("RAW/RAW/UDP", NotCarried::Protocol),
        ("RTP/AVP/SCTP", NotCarried::Protocol),
        ("x-real-rdt/tcp", NotCarried::Protocol),
        ("RTP/AVP;mode=dance", NotCarried::Mode),
    ] {
        let offer = one(text);
        assert_eq!((offer.check(true), offer.check(false)), (Err(why), Err(why)), "{text}");
    }
}

#[test]
fn group_port_and_ttl_are_wishes() {
    let offer = one("RTP/AVP;multicast;port=5004-5005;ttl=300");
    assert_eq!((offer.port, offer.ttl), (Some((5_004, 5_005)), None));
    assert_eq!(one("RTP/AVP;multicast;ttl=16").ttl, Some(16));
}

#[test]
fn multicast_destination_and_ssrc_are_read() {
    let offer = one("RTP/AVP;multicast;destination=239.0.0.1;ttl=16;ssrc= 0xDEADBEEF");
    assert!(offer.multicast);
    assert_eq!(offer.destination.as_deref(), Some("239.0.0.1"));
    assert_eq!(offer.ssrc, Some(0xdead_beef));
    assert_eq!(one("RTP/AVP;ssrc=123456789").ssrc, None);
    assert_eq!(one("RTP/AVP;destination").destination, None);
}

#[test]
fn unreadable_ports_and_channels_are_an_error() {
    for (text, parameter) in [
        ("RTP/AVP;client_port=x", "client_port"),
        ("RTP/AVP;client_port=", "client_port"),
        ("RTP/AVP;client_port=65535", "client_port"),
        ("RTP/AVP;client_port=65536-65537", "client_port"),
        ("RTP/AVP;client_port=0-1", "client_port"),
        ("RTP/AVP;client_port=+5-6", "client_port"),
        ("RTP/AVP/TCP;interleaved=255", "interleaved"),
        ("RTP/AVP/TCP;interleaved=255-256", "interleaved"),
    ] {
        let error = TransportError::BadParameter { index: 0, parameter };
        assert_eq!(parse_transport(text), Err(error), "{text}");
    }
    assert_eq!(parse_transport(" , "), Err(TransportError::Empty));
    let many = "RTP/AVP,".repeat(17);
    assert_eq!(parse_transport(&many), Err(TransportError::TooMany { limit_count: 16 }));
}

#[test]
fn answers_name_ports_channels_and_eight_digits_of_ssrc() {
    let unicast = |source| {
        let (client, server) = ((5_000, 5_001), Some((8_000, 8_001)));
        TransportParameters::Unicast { client, server, source }
    };
    assert_eq!(
        answer(unicast(None), 0xbeef),
        "RTP/AVP;unicast;client_port=5000-5001;server_port=8000-8001;ssrc=0000BEEF"
    );
    assert_eq!(
        answer(unicast(Some("2001:db8::1".parse().unwrap())), 1),
        "RTP/AVP;unicast;client_port=5000-5001;server_port=8000-8001;source=2001:db8::1;\
         ssrc=00000001"
    );
    assert_eq!(
        answer(TransportParameters::Interleaved { channels: (0, 1) }, u32::MAX),
        "RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=FFFFFFFF"
    );
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,80}") {
        let _ = parse_transport(&text);
    }

    #[test]
    fn near_misses_never_panic(
        text in "(RTP/AVP(/TCP|/UDP)?\
            (;(client_port|interleaved|ssrc|mode)=[0-9a-f\"x-]{0,7}){0,3},?){0,4}",
    ) {
        let _ = parse_transport(&text);
    }

    #[test]
    fn answers_read_back_as_offers(client: (u16, u16), channels: (u8, u8), ssrc: u32) {
        prop_assume!(client.0 > 0 && client.1 > 0);
        let server = Some((8_000, 8_001));
        let udp = TransportParameters::Unicast { client, server, source: None };
        let udp = one(&answer(udp, ssrc));
        prop_assert_eq!((udp.client_port, udp.ssrc), (Some(client), Some(ssrc)));
        let tcp = one(&answer(TransportParameters::Interleaved { channels }, ssrc));
        prop_assert_eq!((tcp.interleaved, tcp.ssrc), (Some(channels), Some(ssrc)));
    }
}

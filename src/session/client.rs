//! Facts about clients, from their requests.

use std::net::IpAddr;

use crate::rtsp::reader::Request;

/// Whether a `destination` is the peer. A zone in `destination` is one of the peer's own (RFC 4007
/// s11.2).
pub(crate) fn is_peer(destination: &str, peer: IpAddr) -> bool {
    let bare = destination.trim_start_matches('[').trim_end_matches(']');
    let bare = bare.split_once('%').map_or(bare, |(address, _zone)| address);
    bare.parse::<IpAddr>().is_ok_and(|ip| ip == peer)
}

/// Cuts a text of a client, such as `User-Agent`, to a length that is still useful.
pub(crate) fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// Whether a client knows `RTP/AVPF` in `m=` and uses it (client rule C22). GStreamer is the only
/// such client known, and `m=` names one profile: live555, and VLC with it, leaves such media out;
/// FFmpeg takes them but asks for RTP/AVP, and would take retransmissions for packets of its stream
/// (C10).
#[must_use]
pub fn takes_feedback(request: &Request) -> bool {
    request.header("User-Agent").is_some_and(|agent| agent.contains("GStreamer"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtsp::reader::Method;

    #[test]
    fn destination_is_the_peer_however_its_address_is_written() {
        let peer = "fe80::7".parse().unwrap();
        for same in ["fe80::7", "[fe80::7]", "fe80::7%eth0", "[fe80::7%3]", "FE80:0:0:0::7"] {
            assert!(is_peer(same, peer), "{same}");
        }
        for other in ["fe80::8", "[fe80::8%3]", "10.0.0.7", "", "%3"] {
            assert!(!is_peer(other, peer), "{other}");
        }
    }

    #[test]
    fn feedback_is_offered_to_clients_that_read_it() {
        for (agent, expected) in [
            (Some("GStreamer/1.22.0"), true),
            (Some("LibVLC/3.0.20 (LIVE555 Streaming Media v2016.11.28)"), false),
            (Some("Lavf60.16.100"), false),
            (None, false),
        ] {
            let headers: Vec<_> = agent.iter().map(|agent| ("User-Agent", *agent)).collect();
            let request =
                Request::new_for_test(Method::Describe, "rtsp://host/demo", &headers, b"");
            assert_eq!(takes_feedback(&request), expected, "{agent:?}");
        }
    }
}

//! Sockets of an input: by an address, or by a description (RFC 8866, RFC 4570).
//!
//! ```text
//!  udp://239.1.2.3:5004                      RTP or MPEG-TS at 5004; RTCP at 5005 when it is RTP
//!  c=IN IP4 239.1.2.3   m=video 5004 ..      RTP at 5004, RTCP at 5005 or where a=rtcp says
//!  a=source-filter: incl IN IP4 * 10.0.0.9   only from 10.0.0.9
//! ```
//! A host in `c=` is the receiver, which is the server. If the host is not the server, or is
//! missing, any address of the server is used. Sockets for RTCP are optional: without them sound
//! and video are synchronised by their time of arrival.
//! Bound: two sockets for each track.
#![deny(clippy::indexing_slicing)]

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::source::UdpSource;
use crate::sdp::publish::{AnnounceError, check_announced};
use crate::sdp::session::{MediaSdp, SessionSdp};
use crate::session::action::InputSocket;

/// Why a description names no sockets. Media indices begin with 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The media cannot be carried.
    #[error("the description cannot be served: {0}")]
    Media(#[from] AnnounceError),
    /// The media has no port: with RTSP, SETUP would settle the port.
    #[error("media {media_index} of the description has no port")]
    NoPort {
        /// Index of the media.
        media_index: usize,
    },
    /// Two media could not be told apart.
    #[error("media {media_index} of the description has the address and port of another")]
    SamePort {
        /// Index of the media.
        media_index: usize,
    },
}

/// The socket of an address.
pub(crate) fn plan_udp(source: &UdpSource) -> InputSocket {
    InputSocket {
        track: 0,
        is_rtcp: false,
        to: source.to,
        senders: source.sender.into_iter().collect(),
        interface: source.interface.clone(),
        may_widen: false,
    }
}

/// The socket for RTCP that belongs to one for RTP: the port above (RFC 3550 s11).
pub(crate) fn plan_rtcp(rtp: &InputSocket) -> Option<InputSocket> {
    let port = rtp.to.port().checked_add(1)?;
    let mut socket = InputSocket { is_rtcp: true, ..rtp.clone() };
    socket.to.set_port(port);
    Some(socket)
}

/// The sockets that a description asks for.
///
/// # Errors
/// See [`PlanError`].
pub(crate) fn plan_sdp(sdp: &SessionSdp) -> Result<Vec<InputSocket>, PlanError> {
    check_announced(sdp, false)?;
    let mut sockets: Vec<InputSocket> = Vec::new();
    let mut taken = HashSet::new();
    for (media_index, media) in sdp.medias().iter().enumerate() {
        let Ok(track) = u8::try_from(media_index) else { break };
        if media.port == 0 {
            return Err(PlanError::NoPort { media_index });
        }
        let ip = sdp.destination(media).map(|to| to.ip);
        let ip = ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let to = SocketAddr::new(ip, media.port);
        if !taken.insert(to) {
            return Err(PlanError::SamePort { media_index });
        }
        let senders =
            sdp.sources(media).into_iter().filter(|sender| sender.is_ipv4() == ip.is_ipv4());
        let rtp = InputSocket {
            track,
            is_rtcp: false,
            to,
            senders: senders.collect(),
            interface: None,
            may_widen: !ip.is_multicast(),
        };
        sockets.push(rtp);
    }
    // RTCP comes after all RTP: if ports follow each other without a gap, media go first.
    let rtcp: Vec<InputSocket> = sockets
        .iter()
        .zip(sdp.medias())
        .filter_map(|(rtp, media)| rtcp_of(rtp, media))
        .filter(|socket| taken.insert(socket.to))
        .collect();
    sockets.extend(rtcp);
    Ok(sockets)
}

/// The RTCP socket by `a=rtcp` (RFC 3605), or at the port above; none with RTCP on the RTP port
/// (RFC 5761).
fn rtcp_of(rtp: &InputSocket, media: &MediaSdp) -> Option<InputSocket> {
    if media.attribute("rtcp-mux").is_some() {
        return None;
    }
    let told = media.attribute("rtcp").and_then(|value| value.split_whitespace().next());
    match told.and_then(|port| port.parse::<u16>().ok()).filter(|port| *port != 0) {
        Some(port) => {
            let mut socket = InputSocket { is_rtcp: true, ..rtp.clone() };
            socket.to.set_port(port);
            Some(socket)
        }
        None => plan_rtcp(rtp),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::source::SourceAddress;
    use crate::sdp::read::read_session;

    fn planned(text: &str) -> Result<Vec<String>, PlanError> {
        let sockets = plan_sdp(&read_session(text.as_bytes()).unwrap())?;
        Ok(sockets.iter().map(shown).collect())
    }

    fn shown(socket: &InputSocket) -> String {
        let InputSocket { track, is_rtcp, to, senders, may_widen, .. } = socket;
        let kind = if *is_rtcp { "rtcp" } else { "rtp" };
        let wide = if *may_widen { " or any" } else { "" };
        format!("{track} {kind} {to} {senders:?}{wide}")
    }

    #[test]
    fn description_of_ffmpeg_names_our_addresses() {
        let text = "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\n\
            m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\nm=audio 5006 RTP/AVP 97\n";
        let wanted = [
            "0 rtp 127.0.0.1:5004 [] or any",
            "1 rtp 127.0.0.1:5006 [] or any",
            "0 rtcp 127.0.0.1:5005 [] or any",
            "1 rtcp 127.0.0.1:5007 [] or any",
        ];
        assert_eq!(planned(text).unwrap(), wanted);
    }

    #[test]
    fn groups_filters_and_ports_of_rtcp_are_taken_from_each_media() {
        let text = "v=0\nc=IN IP4 239.1.2.3/16\n\
            a=source-filter: incl IN IP4 * 192.0.2.9\n\
            m=video 5004 RTP/AVP 96\na=rtcp:6000\n\
            m=audio 5005 RTP/AVP 0\nc=IN IP4 232.1.1.1/16\n\
            a=source-filter: incl IN IP4 232.1.1.1 192.0.2.7 192.0.2.8\na=rtcp-mux\n\
            m=audio 5007 RTP/AVP 8\nc=IN IP6 ff15::1\n";
        let wanted = [
            "0 rtp 239.1.2.3:5004 [192.0.2.9]",
            "1 rtp 232.1.1.1:5005 [192.0.2.7, 192.0.2.8]",
            "2 rtp [ff15::1]:5007 []",
            "0 rtcp 239.1.2.3:6000 [192.0.2.9]",
            "2 rtcp [ff15::1]:5008 []",
        ];
        assert_eq!(planned(text).unwrap(), wanted);
    }

    #[test]
    fn ports_one_behind_the_other_are_for_media_and_nothing_is_any_address() {
        let text = "v=0\nm=video 5004 RTP/AVP 96\nm=audio 5005 RTP/AVP 97\n";
        let wanted = [
            "0 rtp 0.0.0.0:5004 [] or any",
            "1 rtp 0.0.0.0:5005 [] or any",
            "1 rtcp 0.0.0.0:5006 [] or any",
        ];
        assert_eq!(planned(text).unwrap(), wanted);
    }

    #[test]
    fn description_that_cannot_be_received_is_refused_with_its_reason() {
        let why = |media: &str| planned(&format!("v=0\n{media}\n")).unwrap_err().to_string();
        assert!(why("m=video 0 RTP/AVP 96").contains("media 0 of the description has no port"));
        assert!(why("m=video 5004 RTP/SAVP 96").contains("encrypted"));
        assert!(why("m=video 5004 udp 33").contains("media 0 is not RTP"));
        let same = "m=video 5004 RTP/AVP 96\nm=audio 5004 RTP/AVP 97";
        assert!(why(same).contains("media 1 of the description has the address and port"));
    }

    #[test]
    fn address_of_the_configuration_is_one_socket_and_rtcp_the_port_above() {
        let text = "udp://232.1.2.3:5004?source=192.0.2.9&interface=eth1";
        let Ok(SourceAddress::Udp(source)) = SourceAddress::parse(text) else { panic!() };
        let rtp = plan_udp(&source);
        assert_eq!(shown(&rtp), "0 rtp 232.1.2.3:5004 [192.0.2.9]");
        assert_eq!(rtp.interface.as_deref(), Some("eth1"));
        assert_eq!(shown(&plan_rtcp(&rtp).unwrap()), "0 rtcp 232.1.2.3:5005 [192.0.2.9]");
        let last = InputSocket { to: "10.0.0.1:65535".parse().unwrap(), ..rtp };
        assert_eq!(plan_rtcp(&last), None);
    }

    proptest! {
        #[test]
        fn any_description_is_planned_or_refused(text in "v=0\n(c=IN IP4 \\PC{0,15}\n)?\
            (m=video [0-9]{1,5} RTP/AVP 96\na=\\PC{0,30}\n){1,4}") {
            if let Ok(sdp) = read_session(text.as_bytes()) {
                let _ = plan_sdp(&sdp);
            }
        }
    }
}

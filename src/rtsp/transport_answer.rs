//! `Transport` header (RFC 2326 s12.39) of a response: what a server has chosen, written and read;
//! and what a client asks for.
//!
//! Leniency towards cameras (client rules, camera side): `server_port`, `ssrc` and `unicast` may
//! be missing, channels may differ from those that were asked for, an SSRC may have blanks or `0x`
//! in front, unreadable parameters are as if absent.
#![deny(clippy::indexing_slicing)]

use std::fmt::Write as _;
use std::net::IpAddr;

use super::transport::{
    Lower, Mode, Profile, parse_mode, parse_pair, parse_protocol, parse_ssrc, split_unquoted,
};

/// What a server has chosen, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportAnswer {
    /// Under RTP.
    pub protocol: Lower,
    /// Of RTP.
    pub profile: Profile,
    /// To a group.
    pub multicast: bool,
    /// Channels for RTP and RTCP.
    pub interleaved: Option<(u8, u8)>,
    /// Ports where the server sends from and receives reports.
    pub server_port: Option<(u16, u16)>,
    /// Ours, as the server has understood them.
    pub client_port: Option<(u16, u16)>,
    /// Ports of the group.
    pub port: Option<(u16, u16)>,
    /// Address that the packets come from.
    pub source: Option<IpAddr>,
    /// Address that the packets go to: the group.
    pub destination: Option<IpAddr>,
    /// Time to live of the group.
    pub ttl: Option<u8>,
    /// Of the stream.
    pub ssrc: Option<u32>,
    /// What the stream is for.
    pub mode: Option<Mode>,
}

/// Reads a `Transport` value of a response. `None` when it is empty; several specifications are
/// against the RFC, the first counts.
#[must_use]
pub fn parse_transport_answer(text: &str) -> Option<TransportAnswer> {
    let spec = split_unquoted(text, ',').find(|spec| !spec.is_empty())?;
    let mut parts = split_unquoted(spec, ';');
    let (profile, protocol) = parse_protocol(parts.next().unwrap_or_default());
    let mut answer = TransportAnswer {
        protocol,
        profile,
        multicast: false,
        interleaved: None,
        server_port: None,
        client_port: None,
        port: None,
        source: None,
        destination: None,
        ttl: None,
        ssrc: None,
        mode: None,
    };
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value = value.trim().trim_matches('"');
        let ports = || parse_pair(value, u16::MAX).filter(|(rtp, _)| *rtp > 0);
        // A zone is the server's own (RFC 4007 s11.2): it means nothing here.
        let bare = || value.split('%').next().unwrap_or_default();
        let address = || bare().trim_matches(['[', ']']).parse().ok();
        match name.trim().to_ascii_lowercase().as_str() {
            "multicast" => answer.multicast = true,
            "interleaved" => {
                let pair = parse_pair(value, u16::from(u8::MAX));
                answer.interleaved = pair.and_then(|(rtp, rtcp)| {
                    Some((u8::try_from(rtp).ok()?, u8::try_from(rtcp).ok()?))
                });
            }
            "server_port" => answer.server_port = ports(),
            "client_port" => answer.client_port = ports(),
            "port" => answer.port = ports(),
            "source" => answer.source = address(),
            "destination" => answer.destination = address(),
            "ttl" => answer.ttl = value.parse().ok(),
            "ssrc" => answer.ssrc = parse_ssrc(value),
            "mode" => answer.mode = parse_mode(value),
            _ => {}
        }
    }
    Some(answer)
}

/// What we have chosen, or (as a client) ask for: to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportReply {
    /// What the client asked for.
    pub profile: Profile,
    /// Lower transport, addresses and channels.
    pub parameters: TransportParameters,
    /// Of the stream that we send; not when we receive.
    pub ssrc: Option<u32>,
    /// `Record` is said, `Play` is what the RFC assumes.
    pub mode: Mode,
}

/// Parameters of a transport as a header tells them, to be written. What a session sends by is
/// `session::transport::Transport`: it has addresses where this has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportParameters {
    /// UDP to one client.
    Unicast {
        /// Its ports.
        client: (u16, u16),
        /// Ours; a client does not know them when it asks.
        server: Option<(u16, u16)>,
        /// Where the packets come from, when that is not the address of the RTSP connection.
        source: Option<IpAddr>,
    },
    /// Inside of the RTSP connection.
    Interleaved {
        /// Channels for RTP and RTCP.
        channels: (u8, u8),
    },
    /// UDP to a group.
    Multicast {
        /// The group; a client that asks lets the server choose.
        group: Option<IpAddr>,
        /// Its ports.
        port: Option<(u16, u16)>,
        /// Hops.
        ttl: Option<u8>,
        /// Where the packets come from.
        source: Option<IpAddr>,
    },
}

impl TransportReply {
    /// As a header value.
    #[must_use]
    pub fn write(&self) -> String {
        let profile = match self.profile {
            Profile::Avpf => "AVPF",
            Profile::Savp => "SAVP",
            Profile::Savpf => "SAVPF",
            Profile::Avp | Profile::Other => "AVP",
        };
        let mut text = format!("RTP/{profile}");
        // Writing to a String cannot fail.
        let pair = |text: &mut String, name: &str, pair: Option<(u16, u16)>| {
            let Some((rtp, rtcp)) = pair else { return };
            let _ = write!(text, ";{name}={rtp}-{rtcp}");
        };
        match self.parameters {
            TransportParameters::Unicast { client, server, source } => {
                text.push_str(";unicast");
                pair(&mut text, "client_port", Some(client));
                pair(&mut text, "server_port", server);
                if let Some(source) = source {
                    let _ = write!(text, ";source={source}");
                }
            }
            TransportParameters::Interleaved { channels: (rtp, rtcp) } => {
                let _ = write!(text, "/TCP;unicast;interleaved={rtp}-{rtcp}");
            }
            TransportParameters::Multicast { group, port, ttl, source } => {
                text.push_str(";multicast");
                if let Some(group) = group {
                    let _ = write!(text, ";destination={group}");
                }
                pair(&mut text, "port", port);
                if let Some(ttl) = ttl {
                    let _ = write!(text, ";ttl={ttl}");
                }
                if let Some(source) = source {
                    let _ = write!(text, ";source={source}");
                }
            }
        }
        if let Some(ssrc) = self.ssrc {
            let _ = write!(text, ";ssrc={ssrc:08X}");
        }
        if self.mode == Mode::Record {
            text.push_str(";mode=record");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rtsp::transport::parse_transport;

    #[test]
    fn source_is_read_without_its_zone() {
        for source in ["fe80::7", "[fe80::7]", "fe80::7%eth0", "[fe80::7%25eth0]"] {
            let answer = parse_transport_answer(&format!("RTP/AVP;unicast;source={source}"));
            assert_eq!(answer.unwrap().source, Some("fe80::7".parse().unwrap()), "{source}");
        }
    }

    #[test]
    fn answers_of_cameras_are_read() {
        let read = |text| parse_transport_answer(text).unwrap();
        let answer = read(
            "RTP/AVP/UDP;unicast;client_port=5000-5001;server_port=8208-8209;source=10.0.0.7;\
             ssrc= 0x1a2B;mode=\"play\"",
        );
        assert_eq!((answer.protocol, answer.profile), (Lower::Udp, Profile::Avp));
        assert_eq!(answer.client_port, Some((5_000, 5_001)));
        assert_eq!(answer.server_port, Some((8_208, 8_209)));
        assert_eq!(answer.source, Some("10.0.0.7".parse().unwrap()));
        assert_eq!((answer.ssrc, answer.mode), (Some(0x1a2b), Some(Mode::Play)));
        let answer = read("RTP/AVP/TCP;unicast;interleaved=4-5;ssrc=zz;source=camera");
        assert_eq!((answer.protocol, answer.interleaved), (Lower::Tcp, Some((4, 5))));
        assert_eq!((answer.ssrc, answer.source, answer.server_port), (None, None, None));
        let answer = read("RTP/AVP;multicast;destination=239.1.2.3;port=5004-5005;ttl=16");
        assert!(answer.multicast && answer.ttl == Some(16));
        assert_eq!(answer.destination, Some("239.1.2.3".parse().unwrap()));
        assert_eq!(answer.port, Some((5_004, 5_005)));
        assert_eq!(read("RTP/AVP;server_port=0").server_port, None);
        assert_eq!(read("RTP/SAVP").profile, Profile::Savp);
        assert_eq!(parse_transport_answer(" , "), None);
    }

    #[test]
    fn replies_name_their_parameters() {
        let reply = |parameters, mode| {
            TransportReply { profile: Profile::Avpf, parameters, ssrc: None, mode }.write()
        };
        let (client, server) = ((5_000, 5_001), Some((8_000, 8_001)));
        let parameters = TransportParameters::Unicast { client, server, source: None };
        let expected = "RTP/AVPF;unicast;client_port=5000-5001;server_port=8000-8001;mode=record";
        assert_eq!(reply(parameters, Mode::Record), expected);
        let parameters = TransportParameters::Interleaved { channels: (0, 1) };
        assert_eq!(reply(parameters, Mode::Play), "RTP/AVPF/TCP;unicast;interleaved=0-1");
        let group = Some("239.1.2.3".parse().unwrap());
        let (port, ttl, source) = (Some((5_004, 5_005)), Some(4), Some([10, 0, 0, 7].into()));
        let parameters = TransportParameters::Multicast { group, port, ttl, source };
        let expected =
            "RTP/AVPF;multicast;destination=239.1.2.3;port=5004-5005;ttl=4;source=10.0.0.7";
        assert_eq!(reply(parameters, Mode::Play), expected);
        let parameters =
            TransportParameters::Multicast { group: None, port: None, ttl: None, source: None };
        assert_eq!(reply(parameters, Mode::Play), "RTP/AVPF;multicast");
    }

    fn arb_parameters() -> impl Strategy<Value = TransportParameters> {
        let port = || (1u16.., 1u16..);
        let unicast =
            (port(), prop::option::of(port()), prop::option::of(any::<IpAddr>())).prop_map(
                |(client, server, source)| TransportParameters::Unicast { client, server, source },
            );
        let interleaved =
            any::<(u8, u8)>().prop_map(|channels| TransportParameters::Interleaved { channels });
        let group = || prop::option::of(any::<IpAddr>());
        let multicast = (group(), prop::option::of(port()), any::<Option<u8>>(), group()).prop_map(
            |(group, port, ttl, source)| TransportParameters::Multicast {
                group,
                port,
                ttl,
                source,
            },
        );
        prop_oneof![unicast, interleaved, multicast]
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "(RTP/AVP|;[a-z_]{1,11}=|\\PC){0,40}") {
            let _ = parse_transport_answer(&text);
        }

        #[test]
        fn every_reply_reads_back(parameters in arb_parameters(), ssrc: Option<u32>, avpf: bool, record: bool) {
            let profile = if avpf { Profile::Avpf } else { Profile::Avp };
            let mode = if record { Mode::Record } else { Mode::Play };
            let text = TransportReply { profile, parameters, ssrc, mode }.write();
            let answer = parse_transport_answer(&text).unwrap();
            prop_assert_eq!((answer.profile, answer.ssrc), (profile, ssrc));
            prop_assert_eq!(answer.mode.unwrap_or(Mode::Play), mode);
            match parameters {
                TransportParameters::Unicast { client, server, source } => {
                    prop_assert_eq!(answer.client_port, Some(client));
                    prop_assert_eq!(answer.server_port, server);
                    prop_assert_eq!(answer.source, source);
                }
                TransportParameters::Interleaved { channels } => {
                    prop_assert_eq!(answer.protocol, Lower::Tcp);
                    prop_assert_eq!(answer.interleaved, Some(channels));
                }
                TransportParameters::Multicast { group, port, ttl, source } => {
                    prop_assert!(answer.multicast);
                    prop_assert_eq!((answer.destination, answer.port), (group, port));
                    prop_assert_eq!((answer.ttl, answer.source), (ttl, source));
                }
            }
            // A server of ours understands it as a request too.
            let offers = parse_transport(&text).unwrap();
            prop_assert_eq!(offers.len(), 1);
            prop_assert!(offers.iter().all(|o| o.check(true).is_ok() && o.mode == mode));
        }
    }
}

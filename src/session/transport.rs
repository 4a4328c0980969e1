//! The transport of a stream's packets: chosen, placed and answered in SETUP (RFC 2326 s10.4,
//! s12.39).
//!
//! ```text
//!  Transport header --choose--> Chosen --Cx::place--> Transport --Cx::answer_setup--> 200
//!                     | 400 461            | 453, or another pair first
//! ```
//! A player of a title, a reader of a live path and its publisher are set up by these steps. What
//! differs between them is in `Situation`; tracks and states are the business of each.
//!
//! Invariants: one answer has one transport, the first one of the client's list that is served
//! (client rules C1, C20). All streams of a session have the same lower transport: the clock or the
//! connection paces a session, not both, and a publisher ends with its connection or is heard of by
//! its datagrams. Media is sent to the address of the RTSP peer only (DESIGN section 9).
//! Bounds: those of `session::sockets`, `live::core::demux` and `session::directory`.

use std::net::{IpAddr, SocketAddr};

use crate::base::carrier::{Carrier, Lower};
use crate::base::host::Host;
use crate::base::ids::{SessionId, ShardId, Ssrc};
use crate::live::core::demux::{DemuxError, Target};
use crate::live::core::groups::MulticastSettings;
use crate::poll::poll_table::EntryKey;
use crate::rtsp::response::Status;
use crate::rtsp::transport::{Mode, Profile, TransportOffer, parse_transport};
use crate::rtsp::transport_answer::{TransportParameters, TransportReply};
use crate::session::client::is_peer;
use crate::session::command::{Command, Executed};
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;
use crate::session::srtp::Keys;

/// The transport that SETUP settled for a stream. A header has its ports and channels in
/// [`TransportParameters`]; its kind alone is a [`Carrier`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// RTP/AVP over a shared pair of sockets.
    Udp {
        /// Index of the shard's pair.
        pair: u16,
        /// Destination of RTP.
        rtp: SocketAddr,
        /// Destination and origin of RTCP.
        rtcp: SocketAddr,
    },
    /// RTP/AVP/TCP: interleaved with the RTSP connection of the session.
    Tcp {
        /// Channel of RTP packets; RTCP uses the next one.
        channel: u8,
        /// Channel of RTCP packets.
        rtcp_channel: u8,
    },
    /// To a live path's multicast group, as one of its members: no packets are sent to the member.
    Group {
        /// Address of the group, with the port of RTP.
        rtp: SocketAddr,
        /// Address of the group, with the port of RTCP.
        rtcp: SocketAddr,
    },
}

/// Transports that the next stream of a session can have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation {
    /// `Play` for packets to the client, `Record` for packets of the client.
    pub mode: Mode,
    /// Address of the RTSP peer.
    pub peer: IpAddr,
    /// Transport of the session's streams; `None` before the first one.
    pub first: Option<Transport>,
    /// The command is on the connection that the session was made on, or makes the session.
    pub is_own_connection: bool,
    /// A stream of the session's own is served.
    pub serves_unicast: bool,
    /// Membership in a group is served.
    pub serves_group: bool,
    /// Ports of the client may be below 1024.
    pub low_ports: bool,
    /// What the SETUP has of keys of SRTP.
    pub keys: Keys,
    /// Streams without encryption are refused.
    pub srtp_required: bool,
}

/// The transport of a client's list that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// As asked for: the answer repeats it.
    pub profile: Profile,
    /// The packets are encrypted, whatever the profile is called.
    pub is_secure: bool,
    /// Direction of the packets.
    pub mode: Mode,
    /// Parameters as asked for.
    pub asked: Asked,
}

/// Parameters that a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Ports where the client receives RTP and RTCP; a publisher sends from these.
    Udp(u16, u16),
    /// Channels, if the client names some.
    Tcp(Option<(u8, u8)>),
    /// Any group: the answer has the server's.
    Group,
}

/// Stream of the packets or reports from a client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A stream of a player, by its index: reports.
    Player(SessionRef, u8),
    /// A track of a publisher: media, too.
    Publisher(Target),
}

/// Why a chosen transport has no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// The client's addresses are in use on every open pair, and another pair may be opened.
    NeedsPair,
    /// The connection has no channels left, or no pair may take the client's addresses.
    Full,
}

/// The first transport of a `Transport` header that is served in a situation.
///
/// # Errors
/// 461 without a header, or when nothing in it is served: players try another transport (client
/// rules C1, C13). 400 when the header cannot be read.
pub(crate) fn choose(header: Option<&str>, situation: &Situation) -> Result<Chosen, Status> {
    let offers = parse_transport(header.ok_or(Status::UnsupportedTransport)?);
    let offers = offers.map_err(|_| Status::BadRequest)?;
    let chosen = offers.iter().find_map(|offer| {
        let asked = situation.asked(&offer.unprotected())?;
        let is_secure = situation.encrypts(offer)?;
        let (profile, mode) = (offer.profile, situation.mode);
        (!is_secure || asked != Asked::Group).then_some(Chosen { profile, is_secure, mode, asked })
    });
    chosen.ok_or(Status::UnsupportedTransport)
}

impl Situation {
    /// Whether the packets of an offer are encrypted; `None` if it cannot be served.
    fn encrypts(&self, offer: &TransportOffer) -> Option<bool> {
        match (offer.profile.is_secure(), self.keys) {
            (true, Keys::Missing) => None,
            (true, Keys::Here | Keys::Described) | (false, Keys::Described) => Some(true),
            (false, Keys::Missing | Keys::Here) => (!self.srtp_required).then_some(false),
        }
    }

    /// The requested transport of an offer; `None` if it cannot be served.
    fn asked(&self, offer: &TransportOffer) -> Option<Asked> {
        // Publishers often leave `mode` out.
        let is_direction = self.mode == Mode::Record || offer.mode == Mode::Play;
        if offer.check(true).is_err() || !is_direction {
            return None;
        }
        if offer.multicast {
            let is_served = self.serves_group && offer.protocol == Lower::Udp;
            return is_served.then_some(Asked::Group);
        }
        let is_same = self.first.is_none_or(|first| first.lower() == offer.protocol);
        if !self.serves_unicast || !is_same {
            return None;
        }
        match offer.protocol {
            Lower::Udp => {
                let is_port = |port: u16| self.low_ports || port >= CLIENT_PORT_MIN;
                let ports = offer.client_port.filter(|(rtp, rtcp)| is_port(*rtp) && is_port(*rtcp));
                let (rtp, rtcp) = ports.filter(|ports| self.may_send_to(offer, *ports))?;
                Some(Asked::Udp(rtp, rtcp))
            }
            Lower::Tcp => self.is_own_connection.then_some(Asked::Tcp(offer.interleaved)),
        }
    }

    /// Whether media may be sent where an offer wants it. A publisher is sent none.
    fn may_send_to(&self, offer: &TransportOffer, (rtp, rtcp): (u16, u16)) -> bool {
        let is_peer = |to: &str| is_peer(to, self.peer);
        self.mode == Mode::Record
            || (rtp != rtcp && offer.destination.as_deref().is_none_or(is_peer))
    }
}

impl Chosen {
    /// How the packets will travel.
    pub(crate) fn carrier(&self) -> Carrier {
        match self.asked {
            Asked::Udp(..) => Carrier::Udp,
            Asked::Tcp(_) => Carrier::Tcp,
            Asked::Group => Carrier::Multicast,
        }
    }

    /// Whether the client wants lost packets again. Nothing is lost over TCP, and packets of a
    /// group are not sent again to one member. The SDP must have offered it: a client knows the
    /// profile only from there.
    pub(crate) fn wants_retransmission(&self) -> bool {
        matches!(self.profile, Profile::Avpf | Profile::Savpf) && self.carrier() == Carrier::Udp
    }
}

impl NoPlace {
    /// The result of the command.
    pub(crate) fn executed(self, command: Command) -> Executed {
        match self {
            Self::NeedsPair => Executed::NeedsPair(Box::new(command)),
            Self::Full => command.refuse(Status::NotEnoughBandwidth),
        }
    }
}

impl Transport {
    /// How the packets travel. A sender to a group has [`Transport::Udp`].
    #[must_use]
    pub fn carrier(self) -> Carrier {
        match self {
            Self::Udp { .. } => Carrier::Udp,
            Self::Tcp { .. } => Carrier::Tcp,
            Self::Group { .. } => Carrier::Multicast,
        }
    }

    /// The protocol under RTP.
    #[must_use]
    pub fn lower(self) -> Lower {
        match self {
            Self::Udp { .. } | Self::Group { .. } => Lower::Udp,
            Self::Tcp { .. } => Lower::Tcp,
        }
    }
}

impl Cx {
    /// Places a stream on a pair of sockets, or on channels of `connection`, the session's.
    ///
    /// # Errors
    /// See [`NoPlace`].
    pub(crate) fn place(
        &mut self,
        command: &Command,
        asked: Asked,
        owner: Owner,
        connection: Option<EntryKey>,
    ) -> Result<Transport, NoPlace> {
        match asked {
            Asked::Udp(rtp_port, rtcp_port) => {
                let host = Host::of(command.peer);
                let (rtp, rtcp) = (host.at(rtp_port), host.at(rtcp_port));
                let ids = self.ids_of(command);
                let pair = self.place_addresses(ids, (rtp, rtcp), owner)?;
                Ok(Transport::Udp { pair, rtp, rtcp })
            }
            Asked::Tcp(channels) => {
                let entry = command.reply_to.entry;
                let channels = self.directory.free_channels(entry, channels);
                let (channel, rtcp_channel) = channels.ok_or(NoPlace::Full)?;
                if let Some(entry) = connection {
                    let channels = (channel, rtcp_channel);
                    self.directory.take_channels(entry, channels, owner.session());
                }
                Ok(Transport::Tcp { channel, rtcp_channel })
            }
            // The path has chosen the group: there is nothing to place.
            Asked::Group => Err(NoPlace::Full),
        }
    }

    /// The first pair on which a client's addresses are free, of those for such ids.
    fn place_addresses(
        &mut self,
        ids: ShardId,
        (rtp, rtcp): (SocketAddr, SocketAddr),
        owner: Owner,
    ) -> Result<u16, NoPlace> {
        let ids = Some(ids).filter(|ids| *ids != self.shard);
        let mut refused = DemuxError::Taken;
        match owner {
            Owner::Player(session, stream) => {
                if let Some(pair) = self.sockets.place_for(ids, rtp, rtcp, (session, stream)) {
                    return Ok(pair);
                }
            }
            Owner::Publisher(target) => {
                for pair in self.sockets.places_for(ids) {
                    match self.demux.expect_both(pair, [rtp, rtcp], target) {
                        Ok(()) => return Ok(pair),
                        Err(error) => refused = error,
                    }
                }
            }
        }
        let may_open = refused == DemuxError::Taken && self.sockets.has_room();
        Err(if may_open { NoPlace::NeedsPair } else { NoPlace::Full })
    }

    /// The answer to a SETUP: the session and its one transport. `ssrc` is told where it is known
    /// before the first packet; `groups` are the settings of multicast.
    pub(crate) fn answer_setup(
        &self,
        command: &Command,
        id: SessionId,
        chosen: &Chosen,
        transport: Transport,
        ssrc: Option<Ssrc>,
        groups: Option<MulticastSettings>,
    ) -> Executed {
        let parameters = match transport {
            Transport::Udp { pair, rtp, rtcp } => TransportParameters::Unicast {
                client: (rtp.port(), rtcp.port()),
                server: self.sockets.ports(pair),
                source: None,
            },
            Transport::Tcp { channel, rtcp_channel } => {
                TransportParameters::Interleaved { channels: (channel, rtcp_channel) }
            }
            Transport::Group { rtp, rtcp } => TransportParameters::Multicast {
                group: Some(rtp.ip()),
                port: Some((rtp.port(), rtcp.port())),
                ttl: groups.map(|settings| settings.ttl),
                source: groups.and_then(|settings| settings.source).map(IpAddr::V4),
            },
        };
        let (profile, mode) = (chosen.profile, chosen.mode);
        let reply = TransportReply { profile, parameters, ssrc: ssrc.map(|ssrc| ssrc.0), mode };
        let response = command.response(Status::Ok).header("Session", self.session_header(id));
        Executed::Reply(response.header("Transport", reply.write()))
    }
}

/// Ports below belong to services of a host (RFC 6335 s6), which must not be sent media.
const CLIENT_PORT_MIN: u16 = 1_024;

impl Owner {
    fn session(self) -> SessionRef {
        match self {
            Self::Player(session, _) => session,
            Self::Publisher(target) => SessionRef::Publisher(target.source),
        }
    }
}

#[cfg(test)]
#[path = "transport_tests.rs"]
mod tests;

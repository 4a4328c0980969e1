//! The client of a session, and facts about clients from their requests.
//!
//! A player of a title and a reader of a live path own a [`Client`]. A publisher has the same data
//! piece by piece (`live::sources::publisher`): a camera or an input that feeds a path is none.
//! Invariant: a client is counted among the sessions of its address until it is dropped.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rand::Rng;

use crate::base::addresses::AddressPlace;
use crate::base::ids::{SessionId, ShardId};
use crate::base::random;
use crate::base::time::Mono;
use crate::poll::poll_table::EntryKey;
use crate::rtsp::reader::Request;
use crate::sdp::session::SessionSdp;
use crate::session::command::Command;
use crate::session::cx::Cx;
use crate::takeover::v1::ClientRecord;

/// The client of a session: see the module.
#[derive(Debug)]
pub struct Client {
    /// Id of the session.
    pub id: SessionId,
    /// The RTSP connection of the session's first SETUP, while open. `None` for a connection of
    /// another shard.
    pub connection: Option<EntryKey>,
    /// Remote address of that connection.
    pub peer: SocketAddr,
    /// `User-Agent`, cut.
    pub user_agent: Option<String>,
    /// Who the client has shown to be.
    pub user: Option<Arc<str>>,
    /// Time of the first SETUP.
    pub created: Mono,
    /// Time of the last sign of life.
    pub alive: Mono,
    /// Our name in RTCP: the same for all streams of the session, so that a player may synchronise
    /// the streams (RFC 3550 s6.5.1).
    pub cname: String,
    /// What a client of a line-up was told; `None` for a session that never changes its feed.
    pub told: Option<Box<Told>>,
    /// Count among the sessions of the client's address; `None` for a multicast sender.
    _admitted: Option<AddressPlace>,
}

/// What the client of a line-up's session was told. It holds for all feeds of the session.
#[derive(Debug)]
pub struct Told {
    /// The SDP.
    pub sdp: SessionSdp,
    /// Medium of each stream in `sdp`, in the order of the session's streams. Empty before the
    /// first change of the feed.
    pub medias: Vec<u8>,
}

impl Client {
    /// The client of a session that a command makes.
    pub(crate) fn new(cx: &Cx, command: &Command, admitted: AddressPlace) -> Self {
        let is_local = command.reply_to.shard == cx.shard;
        Self {
            connection: is_local.then_some(command.reply_to.entry),
            id: SessionId::new(cx.ids_of(command), random::rng().next_u64()),
            user_agent: command.request.header("User-Agent").map(clip),
            user: command.given.user.clone(),
            _admitted: Some(admitted),
            ..Self::nobody(cx, command.peer)
        }
    }

    /// As another process has told; it is on no connection yet. `None`: its id is none.
    pub(crate) fn resumed(cx: &Cx, record: ClientRecord) -> Option<Self> {
        Some(Self {
            id: SessionId::parse(&record.id)?,
            connection: None,
            peer: record.peer,
            user_agent: record.user_agent,
            user: record.user.map(Into::into),
            created: Mono(record.created_ns),
            alive: Mono(record.alive_ns),
            cname: record.cname,
            told: None,
            _admitted: Some(cx.config.addresses.admit(record.peer.ip(), 1)),
        })
    }

    /// For another process; without what is said of line-ups.
    pub(crate) fn record(&self) -> ClientRecord {
        ClientRecord {
            id: self.id.to_string(),
            peer: self.peer,
            user_agent: self.user_agent.clone(),
            user: self.user.as_deref().map(str::to_owned),
            created_ns: self.created.0,
            alive_ns: self.alive.0,
            cname: self.cname.clone(),
        }
    }

    /// In place of a client where the server sends of its own accord to `peer`, a group.
    pub(crate) fn nobody(cx: &Cx, peer: SocketAddr) -> Self {
        let mut rng = random::rng();
        Self {
            id: SessionId::new(cx.shard, rng.next_u64()),
            connection: None,
            peer,
            user_agent: None,
            user: None,
            created: cx.now,
            alive: cx.now,
            cname: format!("{:08x}@{}", rng.next_u32(), cx.config.host),
            told: None,
            _admitted: None,
        }
    }

    /// Whether a command comes by the connection that the session was made on. The shards use the
    /// same entry numbers, so the shard that the session is on is compared, too.
    pub(crate) fn is_on_connection_of(&self, command: &Command, shard: ShardId) -> bool {
        self.connection == Some(command.reply_to.entry) && shard == command.reply_to.shard
    }
}

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

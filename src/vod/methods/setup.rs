//! SETUP (RFC 2326 s10.4): a stream of a new session, or a further stream of a session.

use std::collections::VecDeque;
use std::sync::Arc;

use rand::{Rng, RngExt};

use crate::base::host::Host;
use crate::base::ids::{SeqNo, SessionId, Ssrc};
use crate::library::title::Title;
use crate::media::codec::MediaKind;
use crate::rtp::RtxStream;
use crate::rtsp::response::Status;
use crate::rtsp::transport::{Lower, Mode, Profile, TransportOffer, parse_transport};
use crate::rtsp::transport_answer::{TransportParameters, TransportReply};
use crate::rtsp::uri::base_url;
use crate::session::client::{clip, is_peer};
use crate::session::command::{Command, Executed};
use crate::session::cx::Cx;
use crate::session::directory::SessionKey;
use crate::session::directory::{SESSIONS_PER_CONNECTION_MAX, SessionRef};
use crate::session::outgoing::{Numbers, Outgoing, Own};
use crate::session::transport::Transport;
use crate::vod::playback::{Session, SessionTimers, State};
use crate::vod::retransmit::rtx_payload_type;
use crate::vod::stream::Stream;
use crate::vod::table::Players;
use crate::vod::thinning::{Level, Quality};

/// A SETUP request that can be served.
struct Wish {
    title: Arc<Title>,
    track_index: u8,
    offer: TransportOffer,
}

impl Players {
    pub(crate) fn setup(
        &mut self,
        cx: &mut Cx,
        command: Command,
        key: Option<SessionKey>,
    ) -> Executed {
        let wish = match self.wish(&command, key) {
            Ok(wish) => wish,
            Err(status) => return command.refuse(status),
        };
        let key = match key {
            Some(key) => key,
            None => match self.begin_session(cx, &command, &wish) {
                Ok(key) => key,
                Err(status) => return command.refuse(status),
            },
        };
        let stream_index = self.session(key).map_or(0, |session| session.streams.len());
        let owner = (SessionRef::Title(key), u8::try_from(stream_index).unwrap_or(u8::MAX));
        let transport = match wish.offer.protocol {
            Lower::Udp => match self.place_udp(cx, &command, &wish.offer, owner) {
                Ok(transport) => transport,
                Err(refused) => {
                    self.forget_if_empty(cx, key);
                    return match refused {
                        None if cx.sockets.has_room() => Executed::NeedsPair(Box::new(command)),
                        // The client address is in use on every pair.
                        None => command.refuse(Status::NotEnoughBandwidth),
                        Some(status) => command.refuse(status),
                    };
                }
            },
            Lower::Tcp => {
                match cx.directory.free_channels(command.waiter.entry, wish.offer.interleaved) {
                    Some((channel, rtcp_channel)) => Transport::Tcp { channel, rtcp_channel },
                    None => {
                        self.forget_if_empty(cx, key);
                        return command.refuse(Status::NotEnoughBandwidth);
                    }
                }
            }
        };
        self.add_stream(cx, &command, key, &wish, transport)
    }

    /// Checks a SETUP against the title, the session and the supported transports.
    fn wish(&self, command: &Command, key: Option<SessionKey>) -> Result<Wish, Status> {
        let session = key.and_then(|key| self.session(key));
        let title = match (session, &command.title) {
            (Some(session), _) => session.described.clone(),
            (None, Some(title)) => title.clone(),
            (None, None) => return Err(Status::NotFound),
        };
        if let Some(session) = session {
            if command.target.path.trim_end_matches('/') != title.url_path {
                // One session is one presentation.
                return Err(Status::AggregateOperationNotAllowed);
            }
            let is_exchanged = !Arc::ptr_eq(&session.title, &session.described);
            let is_open = matches!(session.state, State::Ready | State::Paused { .. });
            if is_exchanged || !is_open {
                // What feeds it now was chosen for the streams that it had then.
                return Err(Status::MethodNotValidInThisState);
            }
        }
        let track_index = match command.target.track {
            Some(track) if usize::from(track) < title.asset.tracks.len() => track,
            Some(_) => return Err(Status::NotFound),
            // Rule C4: with one track the request is unambiguous.
            None if title.asset.tracks.len() == 1 => 0,
            None => return Err(Status::AggregateOperationNotAllowed),
        };
        if session.is_some_and(|s| s.streams.iter().any(|st| st.track_index == track_index)) {
            return Err(Status::MethodNotValidInThisState);
        }
        let header = command.request.header("Transport").ok_or(Status::UnsupportedTransport)?;
        let offers = parse_transport(header).map_err(|_| Status::BadRequest)?;
        let offer = choose(offers, command, session).ok_or(Status::UnsupportedTransport)?;
        Ok(Wish { title, track_index, offer })
    }

    fn begin_session(
        &mut self,
        cx: &mut Cx,
        command: &Command,
        wish: &Wish,
    ) -> Result<SessionKey, Status> {
        self.replace_older(cx, command, wish);
        if cx.directory.of_connection(command.waiter.entry).len() >= SESSIONS_PER_CONNECTION_MAX {
            return Err(Status::NotEnoughBandwidth);
        }
        let _admitted = cx.admit_session(command.peer)?;
        let mut rng = rand::rng();
        let id = SessionId::new(cx.shard, rng.next_u64());
        let is_local = command.waiter.shard == cx.shard;
        let url = base_url(&command.request.uri);
        let session = Session {
            id,
            title: wish.title.clone(),
            described: wish.title.clone(),
            base_url: url.trim_end_matches('/').to_owned(),
            state: State::Ready,
            streams: Vec::with_capacity(2),
            connection: is_local.then_some(command.waiter.entry),
            peer: command.peer,
            _admitted,
            user_agent: command.request.header("User-Agent").map(clip),
            created: cx.now,
            alive: cx.now,
            liveness_due: cx.now,
            // Never the epoch number of an earlier session in the same place.
            epoch_count: rng.next_u32(),
            epoch: None,
            end: None,
            pause_point: None,
            timers: SessionTimers::default(),
            cname: format!("{:08x}@{}", rng.next_u32(), cx.config.host),
            held: VecDeque::new(),
            play_received: None,
        };
        let key = self.insert(cx, session);
        self.watch(cx, key, cx.now + cx.config.timeout);
        Ok(key)
    }

    /// Ends a session that the client replaces. Rule C7: FFmpeg, when no UDP arrives, sends PAUSE
    /// and sets up again over TCP on the same connection without TEARDOWN. The paused session is
    /// freed at once.
    fn replace_older(&mut self, cx: &mut Cx, command: &Command, wish: &Wish) {
        for session in cx.directory.of_connection(command.waiter.entry).to_vec() {
            let SessionRef::Title(key) = session else { continue };
            let is_left = self.session(key).is_some_and(|session| {
                matches!(session.state, State::Paused { .. })
                    && session.described.name == wish.title.name
                    && session.streams.iter().any(|s| s.track_index == wish.track_index)
            });
            if is_left && command.waiter.shard == cx.shard {
                self.remove(cx, key);
            }
        }
    }

    /// `Err(None)` when the client address is in use on every open pair.
    fn place_udp(
        &self,
        cx: &mut Cx,
        command: &Command,
        offer: &TransportOffer,
        owner: (SessionRef, u8),
    ) -> Result<Transport, Option<Status>> {
        let (rtp_port, rtcp_port) = offer.client_port.ok_or(Some(Status::UnsupportedTransport))?;
        let host = Host::of(command.peer);
        let (rtp, rtcp) = (host.at(rtp_port), host.at(rtcp_port));
        let pair = cx.sockets.place(rtp, rtcp, owner).ok_or(None)?;
        Ok(Transport::Udp { pair, rtp, rtcp })
    }

    fn add_stream(
        &mut self,
        cx: &mut Cx,
        command: &Command,
        key: SessionKey,
        wish: &Wish,
        transport: Transport,
    ) -> Executed {
        let mut rng = rand::rng();
        let ports = match transport {
            Transport::Udp { pair, .. } => cx.sockets.ports(pair),
            Transport::Tcp { .. } | Transport::Group { .. } => None,
        };
        let Some(session) = self.slab.get_mut(key.0 as usize) else {
            return command.refuse(Status::SessionNotFound);
        };
        let Some(track) = wish.title.asset.tracks.get(usize::from(wish.track_index)) else {
            return command.refuse(Status::NotFound);
        };
        let payload = (track.payload.payload_type, track.payload.clock_rate_hz);
        let ssrc = Ssrc(rng.next_u32());
        let control_url = command.request.uri.clone();
        let random = rng.next_u64();
        let numbers = Numbers::Own(Own::new(ssrc, random));
        let outgoing = Outgoing::new(payload, numbers, transport, control_url);
        let mut stream = Stream::new(wish.track_index, outgoing);
        let said = cx.configs.find(&wish.title.url_path).adapts_quality;
        if said.unwrap_or(cx.config.adapts_quality) && track.kind == MediaKind::Video {
            // Sound has a low bit rate and its gaps are heard: sound is never thinned.
            stream.quality = Some(Box::new(Quality::new(track.sync_gap())));
            cx.cells.quality_levels[Level::Full as usize].add(1);
        }
        let profile = wish.offer.profile;
        let is_udp = matches!(transport, Transport::Udp { .. });
        if cx.config.retransmits && profile == Profile::Avpf && is_udp {
            // The SDP must have offered retransmission: a client knows the profile only from there.
            let rtx = Ssrc(ssrc.0 ^ rng.random_range(1..u32::MAX));
            let payload_type = rtx_payload_type(track.payload.payload_type);
            let seq = SeqNo(rng.random());
            stream.outgoing.rtx = Some(RtxStream { payload_type, seq, ssrc: rtx });
            stream.resender = Some(Box::default());
        }
        session.streams.push(stream);
        if let (Transport::Tcp { channel, rtcp_channel }, Some(entry)) =
            (transport, session.connection)
        {
            let channels = (channel, rtcp_channel);
            cx.directory.take_channels(entry, channels, SessionRef::Title(key));
        }
        let parameters = match transport {
            Transport::Udp { rtp, rtcp, .. } => {
                let client = (rtp.port(), rtcp.port());
                TransportParameters::Unicast { client, server: ports, source: None }
            }
            Transport::Tcp { channel, rtcp_channel } => {
                TransportParameters::Interleaved { channels: (channel, rtcp_channel) }
            }
            // Titles have no multicast: `choose` never returns a group.
            Transport::Group { .. } => return command.refuse(Status::UnsupportedTransport),
        };
        let (ssrc, mode) = (Some(ssrc.0), Mode::Play);
        let transport = TransportReply { profile, parameters, ssrc, mode }.write();
        let session_header = self.session(key).map(|s| cx.session_header(s.id)).unwrap_or_default();
        let response = command.response(Status::Ok);
        let response = response.header("Session", session_header).header("Transport", transport);
        Executed::Reply(response)
    }

    fn forget_if_empty(&mut self, cx: &mut Cx, key: SessionKey) {
        if self.session(key).is_some_and(|session| session.streams.is_empty()) {
            self.remove(cx, key);
        }
    }
}

/// The first offer that can be served (RFC 2326 s12.39: in order of preference).
fn choose(
    offers: Vec<TransportOffer>,
    command: &Command,
    session: Option<&Session>,
) -> Option<TransportOffer> {
    offers.into_iter().find(|offer| {
        let is_ours = offer.check(true).is_ok() && !offer.multicast && offer.mode == Mode::Play;
        let fits = match offer.protocol {
            Lower::Udp => {
                let ports = offer.client_port.is_some_and(|(a, b)| a != 0 && b != 0 && a != b);
                // Media goes to the address of the RTSP peer only (DESIGN section 9).
                ports
                    && offer.destination.as_deref().is_none_or(|to| is_peer(to, command.peer.ip()))
            }
            // Packets are interleaved with the connection that the session was made on.
            // The shards use the same entry numbers, so the shard is compared, too.
            Lower::Tcp => session.is_none_or(|s| {
                s.connection == Some(command.waiter.entry) && s.id.shard() == command.waiter.shard
            }),
        };
        // One transport for each session: the clock or the connection paces a session, not both.
        let same = session.and_then(|s| s.streams.first()).is_none_or(|first| {
            matches!(first.outgoing.transport, Transport::Udp { .. })
                == (offer.protocol == Lower::Udp)
        });
        is_ours && fits && same
    })
}

//! DESCRIBE and SETUP of a live path (RFC 2326 s10.2, s10.4) by a reader.

use std::sync::Arc;

use rand::{Rng, RngExt};

use crate::base::carrier::Carrier;
use crate::base::host::Host;
use crate::base::ids::{SeqNo, SessionId, Ssrc};
use crate::base::names::Name;
use crate::base::wheel::Timer;
use crate::live::core::retransmit::rtx_payload_type;
use crate::live::hub::Hub;
use crate::live::multicast::member::{Delivery, group_transport};
use crate::live::readers::Readers;
use crate::live::readers::log::SkipsTold;
use crate::live::readers::reader::{LiveReader, LiveStream, ReaderState, payload};
use crate::rtp::RtxStream;
use crate::rtsp::response::Status;
use crate::rtsp::transport::{Lower, Mode, Profile, TransportOffer, parse_transport};
use crate::rtsp::transport_answer::TransportReply;
use crate::rtsp::uri::base_url;
use crate::session::client::clip;
use crate::session::client::is_peer;
use crate::session::client::takes_feedback;
use crate::session::command::{Command, Executed};
use crate::session::cx::Cx;
use crate::session::directory::{SESSIONS_PER_CONNECTION_MAX, SessionRef};
use crate::session::outgoing::{Numbers, Outgoing};
use crate::session::transport::Transport;

/// A SETUP request that can be served.
struct Wish {
    path: Arc<str>,
    track: u8,
    /// Payload type and clock rate.
    payload: (u8, u32),
    /// Payload type of retransmissions.
    rtx: Option<u8>,
    offer: TransportOffer,
}

impl Readers {
    /// Answers 200 with the path's description. The caller has checked that the client takes SDP.
    pub(crate) fn describe_live(&mut self, cx: &Cx, hub: &mut Hub, command: Command) -> Executed {
        let Name::Live(path) = command.target.name() else {
            return command.refuse(Status::NotFound);
        };
        let path: Arc<str> = path.into();
        let command = match self.want_path(cx, hub, &path, command) {
            Ok(command) => command,
            Err(executed) => return executed,
        };
        let command = match self.want_sets(cx, hub, &path, command) {
            Ok(command) => command,
            Err(executed) => return executed,
        };
        let Some(found) = hub.paths.path(&path) else {
            return command.refuse(Status::NotFound);
        };
        let text = found.description().text(cx.retransmits() && takes_feedback(&command.request));
        let response = command
            .response(Status::Ok)
            .header("Content-Base", base_url(&command.request.uri))
            .body("application/sdp", text.as_bytes().to_vec());
        Executed::Reply(response)
    }

    pub(crate) fn setup_reader(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        command: Command,
        index: Option<u32>,
    ) -> Executed {
        let path: Arc<str> = command.target.path.trim_end_matches('/').into();
        let command = match index {
            Some(_) => command,
            None if !matches!(command.target.name(), Name::Live(_)) => {
                return command.refuse(Status::NotFound);
            }
            None => match self.want_path(cx, hub, &path, command) {
                Ok(command) => command,
                Err(executed) => return executed,
            },
        };
        let wish = match self.reader_wish(cx, hub, &command, path, index) {
            Ok(wish) => wish,
            Err(status) => return command.refuse(status),
        };
        let (group, command) = match wish.offer.multicast {
            false => (None, command),
            true => match self.want_group(cx, hub, &wish.path, command) {
                Ok((group, command)) => (Some(group), command),
                Err(executed) => return executed,
            },
        };
        let is_new = index.is_none();
        let begun = index.map_or_else(|| self.begin_reader(cx, hub, &command, &wish), Ok);
        let index = match begun {
            Ok(index) => index,
            Err(status) => return command.refuse(status),
        };
        let placed = match wish.offer.protocol {
            _ if group.is_some() => group.map(|group| group_transport(group, wish.track)),
            Lower::Udp => self.place_reader(cx, &command, &wish.offer, index),
            Lower::Tcp => cx
                .directory
                .free_channels(command.waiter.entry, wish.offer.interleaved)
                .map(|(channel, rtcp_channel)| Transport::Tcp { channel, rtcp_channel }),
        };
        if let Some(transport) = placed {
            return self.add_reader_stream(cx, hub, &command, index, &wish, transport);
        }
        if is_new {
            self.end_reader(cx, hub, index, None);
        }
        if wish.offer.protocol == Lower::Udp && cx.sockets.has_room() {
            return Executed::NeedsPair(Box::new(command));
        }
        command.refuse(Status::NotEnoughBandwidth)
    }

    fn reader_wish(
        &self,
        cx: &Cx,
        hub: &Hub,
        command: &Command,
        path: Arc<str>,
        index: Option<u32>,
    ) -> Result<Wish, Status> {
        let reader = index.and_then(|index| self.table.get(index as usize));
        if let Some(reader) = reader {
            if reader.path != path {
                // One session is one presentation.
                return Err(Status::AggregateOperationNotAllowed);
            }
            if !matches!(reader.state, ReaderState::Ready | ReaderState::Paused) {
                return Err(Status::MethodNotValidInThisState);
            }
        }
        let found = hub.paths.path(&path).ok_or(Status::NotFound)?;
        let tracks = &found.description().tracks;
        let track = match command.target.track {
            Some(track) => track,
            // Rule C4: with one track the request is unambiguous.
            None if tracks.len() == 1 => 0,
            None => return Err(Status::AggregateOperationNotAllowed),
        };
        let spec = tracks.get(usize::from(track)).ok_or(Status::NotFound)?;
        if reader.is_some_and(|reader| reader.streams.iter().any(|s| s.track == track)) {
            return Err(Status::MethodNotValidInThisState);
        }
        let header = command.request.header("Transport").ok_or(Status::UnsupportedTransport)?;
        let offers = parse_transport(header).map_err(|_| Status::BadRequest)?;
        let offer = offers.into_iter().find(|offer| {
            is_served(offer, command, reader) || self.serves_group(hub, offer, &path, reader)
        });
        let offer = offer.ok_or(Status::UnsupportedTransport)?;
        // Packets of a group are not sent again to one member.
        let is_unicast = offer.protocol == Lower::Udp && !offer.multicast;
        let is_wanted = cx.retransmits() && is_unicast && offer.profile == Profile::Avpf;
        // The description must have offered retransmission: a client knows the profile only from
        // there.
        let rtx = rtx_payload_type(spec).filter(|_| is_wanted).map(|(number, _)| number);
        Ok(Wish { path, track, payload: payload(spec), rtx, offer })
    }

    fn begin_reader(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        command: &Command,
        wish: &Wish,
    ) -> Result<u32, Status> {
        self.replace_older_reader(cx, hub, command, wish);
        if cx.directory.of_connection(command.waiter.entry).len() >= SESSIONS_PER_CONNECTION_MAX {
            return Err(Status::NotEnoughBandwidth);
        }
        let admitted = cx.admit_session(command.peer)?;
        let place = self.table.vacant_key();
        let (carrier, delivery) = match wish.offer.protocol {
            _ if wish.offer.multicast => (Carrier::Multicast, Delivery::MulticastMember),
            Lower::Udp => (Carrier::Udp, Delivery::Unicast),
            Lower::Tcp => (Carrier::Tcp, Delivery::Unicast),
        };
        let path = hub.paths.path_mut(&wish.path).ok_or(Status::NotFound)?;
        let added = path.add_reader(place as u64, carrier);
        let key = added.map_err(|_| Status::NotEnoughBandwidth)?;
        let mut rng = rand::rng();
        let is_local = command.waiter.shard == cx.shard;
        let reader = LiveReader {
            id: SessionId::new(cx.shard, rng.next_u64()),
            path: Arc::clone(&wish.path),
            key,
            streams: Vec::with_capacity(2),
            connection: is_local.then_some(command.waiter.entry),
            delivery,
            state: ReaderState::Ready,
            peer: command.peer,
            _admitted: Some(admitted),
            user_agent: command.request.header("User-Agent").map(clip),
            created: cx.now,
            alive: cx.now,
            serial: hub.next_serial(),
            wakes: None,
            timer: Timer::NONE,
            report_due: cx.now,
            cname: format!("{:08x}@{}", rng.next_u32(), cx.config.host),
            skips_told: SkipsTold::default(),
        };
        hub.tally.enter(&wish.path);
        let (id, connection) = (reader.id, reader.connection);
        cx.count_player(reader.state.shown());
        let index = u32::try_from(self.table.insert(reader)).unwrap_or(u32::MAX);
        cx.directory.enter(id, connection, SessionRef::Reader(index));
        if delivery == Delivery::MulticastMember {
            self.enter_group(&wish.path, command.peer.ip(), index);
        }
        Ok(index)
    }

    /// Ends a reader that the client replaces. Rule C7: FFmpeg, when no UDP arrives, sends PAUSE
    /// and sets up again over TCP on the same connection without TEARDOWN.
    fn replace_older_reader(&mut self, cx: &mut Cx, hub: &mut Hub, command: &Command, wish: &Wish) {
        for session in cx.directory.of_connection(command.waiter.entry).to_vec() {
            let SessionRef::Reader(index) = session else { continue };
            let is_left = self.table.get(index as usize).is_some_and(|reader| {
                matches!(reader.state, ReaderState::Paused)
                    && reader.path == wish.path
                    && reader.streams.iter().any(|stream| stream.track == wish.track)
            });
            if is_left && command.waiter.shard == cx.shard {
                self.end_reader(cx, hub, index, None);
            }
        }
    }

    /// `None` when the client's address is in use on every open pair.
    fn place_reader(
        &self,
        cx: &mut Cx,
        command: &Command,
        offer: &TransportOffer,
        index: u32,
    ) -> Option<Transport> {
        let (rtp_port, rtcp_port) = offer.client_port?;
        let host = Host::of(command.peer);
        let (rtp, rtcp) = (host.at(rtp_port), host.at(rtcp_port));
        let streams = self.table.get(index as usize)?.streams.len();
        let owner = (SessionRef::Reader(index), u8::try_from(streams).unwrap_or(u8::MAX));
        let pair = cx.sockets.place(rtp, rtcp, owner)?;
        Some(Transport::Udp { pair, rtp, rtcp })
    }

    fn add_reader_stream(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        command: &Command,
        index: u32,
        wish: &Wish,
        transport: Transport,
    ) -> Executed {
        let Some(reader) = self.table.get_mut(index as usize) else {
            return command.refuse(Status::SessionNotFound);
        };
        let mut rng = rand::rng();
        let control_url = command.request.uri.clone();
        let mut outgoing =
            Outgoing::new(wish.payload, Numbers::Source(None), transport, control_url);
        outgoing.rtx = wish.rtx.map(|payload_type| {
            let (seq, ssrc) = (SeqNo(rng.random()), Ssrc(rng.next_u32()));
            RtxStream { payload_type, seq, ssrc }
        });
        reader.streams.push(LiveStream { track: wish.track, outgoing });
        let id = reader.id;
        if let (Transport::Tcp { channel, rtcp_channel }, Some(entry)) =
            (transport, reader.connection)
        {
            let channels = (channel, rtcp_channel);
            cx.directory.take_channels(entry, channels, SessionRef::Reader(index));
        }
        let found = hub.paths.path_mut(&wish.path);
        if found.is_none_or(|found| found.add_stream(reader.key, wish.track).is_err()) {
            // The path was here when the request was checked.
            self.end_reader(cx, hub, index, None);
            return command.refuse(Status::NotFound);
        }
        // The SSRC is the source's, and unknown before the first packet.
        let reply = TransportReply {
            profile: wish.offer.profile,
            parameters: hub.transport_parameters(cx, transport),
            ssrc: None,
            mode: Mode::Play,
        };
        let response = command.response(Status::Ok);
        let response = response.header("Session", cx.session_header(id));
        Executed::Reply(response.header("Transport", reply.write()))
    }
}

/// Whether an offer can be served to this session.
fn is_served(offer: &TransportOffer, command: &Command, reader: Option<&LiveReader>) -> bool {
    let is_ours = offer.check(true).is_ok() && !offer.multicast && offer.mode == Mode::Play;
    let fits = match offer.protocol {
        // Media goes to the address of the RTSP peer only (DESIGN section 9).
        Lower::Udp => {
            let to = offer.destination.as_deref();
            offer.client_port.is_some_and(|(a, b)| a != 0 && b != 0 && a != b)
                && to.is_none_or(|to| is_peer(to, command.peer.ip()))
        }
        Lower::Tcp => reader.is_none_or(|reader| {
            reader.connection == Some(command.waiter.entry)
                && reader.id.shard() == command.waiter.shard
        }),
    };
    let first = reader.and_then(|reader| reader.streams.first());
    let is_same = first.is_none_or(|first| {
        matches!(first.outgoing.transport, Transport::Udp { .. }) == (offer.protocol == Lower::Udp)
    });
    is_ours && fits && is_same && reader.is_none_or(|reader| reader.delivery == Delivery::Unicast)
}

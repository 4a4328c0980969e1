//! DESCRIBE and SETUP of a live path (RFC 2326 s10.2, s10.4) by a reader.
//!
//! Transport, places and answer are those of `session::transport`. A reader's own: both commands
//! are held until the path is there; multicast; the source numbers the streams, so the answer has
//! no SSRC; the path has a reader and its streams, too.

use std::sync::Arc;

use rand::{Rng, RngExt};

use crate::base::carrier::Carrier;
use crate::base::ids::{SeqNo, Ssrc};
use crate::base::names::Name;
use crate::base::random;
use crate::base::wheel::Timer;
use crate::live::core::path::PathError;
use crate::live::core::retransmit::rtx_payload_type;
use crate::live::hub::Hub;
use crate::live::multicast::member::{Delivery, group_transport};
use crate::live::readers::Readers;
use crate::live::readers::log::SkipsTold;
use crate::live::readers::reader::{LiveReader, LiveStream, ReaderState, destination, payload};
use crate::rtp::RtxStream;
use crate::rtsp::response::Status;
use crate::rtsp::transport::Mode;
use crate::rtsp::uri::base_url;
use crate::session::client::Client;
use crate::session::client::takes_feedback;
use crate::session::command::{Command, Executed};
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;
use crate::session::outgoing::{Numbers, Outgoing, low_half};
use crate::session::srtp::StreamKeys;
use crate::session::transport::{Asked, Chosen, NoPlace, Owner, Situation, Transport, choose};

/// A SETUP request that can be served.
struct Wish {
    path: Arc<str>,
    track: u8,
    /// Payload type and clock rate.
    payload: (u8, u32),
    /// Payload type of retransmissions.
    rtx: Option<u8>,
    chosen: Chosen,
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
        let (group, command) = match wish.chosen.asked {
            Asked::Udp(..) | Asked::Tcp(_) => (None, command),
            Asked::Group => match self.want_group(cx, hub, &wish.path, command) {
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
        let placed = match group {
            Some(group) => Ok(group_transport(group, wish.track)),
            None => self.place_reader(cx, &command, wish.chosen.asked, index),
        };
        match placed {
            Ok(transport) => self.add_reader_stream(cx, hub, &command, index, &wish, transport),
            Err(none) => {
                if is_new {
                    self.end_reader(cx, hub, index, None);
                }
                none.executed(command)
            }
        }
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
        let situation = Situation {
            mode: Mode::Play,
            peer: command.peer.ip(),
            first: reader.and_then(|r| r.streams.first()).map(|first| first.outgoing.transport),
            is_own_connection: reader
                .is_none_or(|r| r.client.is_on_connection_of(command, cx.shard)),
            serves_unicast: reader.is_none_or(|reader| reader.delivery == Delivery::Unicast),
            // All of a group see one channel.
            serves_group: !cx.path_config(&path).sets_before_key_frames
                && self.serves_group(hub, &path, reader),
            low_ports: cx.config.low_client_ports,
            keys: command.given.srtp.keys(),
            srtp_required: command.given.srtp.is_required,
        };
        let chosen = choose(command.request.header("Transport"), &situation)?;
        let is_wanted = cx.retransmits() && chosen.wants_retransmission();
        let rtx = rtx_payload_type(spec).filter(|_| is_wanted).map(|(number, _)| number);
        Ok(Wish { path, track, payload: payload(spec), rtx, chosen })
    }

    fn begin_reader(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        command: &Command,
        wish: &Wish,
    ) -> Result<u32, Status> {
        self.replace_older_reader(cx, hub, command, wish);
        let admitted = cx.admit_player(command)?;
        let place = self.table.vacant_key();
        let carrier = wish.chosen.carrier();
        let delivery = match carrier {
            Carrier::Udp | Carrier::Tcp => Delivery::Unicast,
            Carrier::Multicast => Delivery::MulticastMember,
        };
        let path = hub.paths.path_mut(&wish.path).ok_or(Status::NotFound)?;
        let added = path.add_reader(place as u64, carrier);
        let key = added.map_err(|_| Status::NotEnoughBandwidth)?;
        let reader = LiveReader {
            client: Client::new(cx, command, admitted),
            path: Arc::clone(&wish.path),
            key,
            streams: Vec::with_capacity(2),
            delivery,
            state: ReaderState::Ready,
            serial: hub.next_serial(),
            wakes: None,
            timer: Timer::NONE,
            report_due: cx.now,
            skips_told: SkipsTold::default(),
        };
        hub.tally.enter(&wish.path);
        let (id, connection) = (reader.client.id, reader.client.connection);
        cx.count_player(reader.state.shown());
        let index = u32::try_from(self.table.insert(reader)).unwrap_or(u32::MAX);
        cx.directory.enter(id, connection, SessionRef::Reader(index));
        if delivery == Delivery::MulticastMember {
            self.enter_group(&wish.path, command.peer.ip(), index);
        }
        Ok(index)
    }

    /// Ends the readers that the client has left behind: paused ones with this track.
    fn replace_older_reader(&mut self, cx: &mut Cx, hub: &mut Hub, command: &Command, wish: &Wish) {
        let left = cx.left_behind(command, |session| match session {
            SessionRef::Reader(index) => self
                .table
                .get(index as usize)
                .filter(|reader| {
                    matches!(reader.state, ReaderState::Paused)
                        && reader.path == wish.path
                        && reader.streams.iter().any(|stream| stream.track == wish.track)
                })
                .map(|_| index),
            SessionRef::Title(_) | SessionRef::Publisher(_) => None,
        });
        for index in left {
            self.end_reader(cx, hub, index, None);
        }
    }

    fn place_reader(
        &self,
        cx: &mut Cx,
        command: &Command,
        asked: Asked,
        index: u32,
    ) -> Result<Transport, NoPlace> {
        let reader = self.table.get(index as usize);
        let (streams, connection) =
            reader.map_or((0, None), |r| (r.streams.len(), r.client.connection));
        let stream_index = u8::try_from(streams).unwrap_or(u8::MAX);
        cx.place(command, asked, Owner::Player(SessionRef::Reader(index), stream_index), connection)
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
        let mut rng = random::rng();
        let control_url = command.request.uri.clone();
        let mut outgoing =
            Outgoing::new(wish.payload, Numbers::Source(None), transport, control_url);
        outgoing.rtx = wish.rtx.map(|payload_type| {
            let (seq, ssrc) = (low_half(SeqNo(rng.random())), Ssrc(rng.next_u32()));
            RtxStream { payload_type, seq, ssrc }
        });
        let keys = command.given.srtp.keys.as_deref().filter(|_| wish.chosen.is_secure);
        outgoing.srtp = keys.map(StreamKeys::stream);
        let srtp = outgoing.srtp.clone();
        reader.streams.push(LiveStream { track: wish.track, outgoing });
        let id = reader.client.id;
        let found = hub.paths.path_mut(&wish.path);
        let to = destination(transport);
        let added = found.map(|found| {
            let index = found.add_stream(reader.key, wish.track, to)?;
            found.set_srtp(reader.key, index, srtp);
            Ok::<_, PathError>(())
        });
        if !matches!(added, Some(Ok(()))) {
            // The path was here when the request was checked.
            self.end_reader(cx, hub, index, None);
            return command.refuse(Status::NotFound);
        }
        // The SSRC is the source's, and unknown before the first packet.
        cx.answer_setup(command, id, &wish.chosen, transport, None, hub.multicast)
    }
}

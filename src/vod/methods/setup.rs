//! SETUP (RFC 2326 s10.4): a stream of a new session, or a further stream of a session.
//!
//! Transport, places and answer are those of `session::transport`. A title's own: its streams are
//! numbered here, so the answer has an SSRC; video adapts to the route; a resender keeps marks.

use std::collections::VecDeque;
use std::sync::Arc;

use rand::{Rng, RngExt};

use crate::base::ids::{SeqNo, Ssrc};
use crate::base::random;
use crate::library::title::Title;
use crate::media::codec::MediaKind;
use crate::rtp::RtxStream;
use crate::rtsp::response::Status;
use crate::rtsp::transport::Mode;
use crate::session::client::Client;
use crate::session::command::{Command, Executed};
use crate::session::cx::Cx;
use crate::session::directory::{SessionKey, SessionRef};
use crate::session::outgoing::{Numbers, Outgoing, Own, low_half};
use crate::session::srtp::StreamKeys;
use crate::session::transport::{Chosen, Owner, Situation, Transport, choose};
use crate::vod::playback::{Session, SessionTimers, State};
use crate::vod::retransmit::rtx_payload_type;
use crate::vod::stream::Stream;
use crate::vod::table::Players;
use crate::vod::thinning::{Quality, ThinningLevel};

/// A SETUP request that can be served.
struct SetupRequest {
    title: Arc<Title>,
    track_index: u8,
    chosen: Chosen,
}

impl Players {
    pub(crate) fn setup(
        &mut self,
        cx: &mut Cx,
        command: Command,
        key: Option<SessionKey>,
    ) -> Executed {
        let request = match self.setup_request(cx, &command, key) {
            Ok(request) => request,
            Err(status) => return command.refuse(status),
        };
        let key = match key {
            Some(key) => key,
            None => match self.begin_session(cx, &command, &request) {
                Ok(key) => key,
                Err(status) => return command.refuse(status),
            },
        };
        let (stream_index, connection) =
            self.session(key).map_or((0, None), |s| (s.streams.len(), s.client.connection));
        let stream_index = u8::try_from(stream_index).unwrap_or(u8::MAX);
        let owner = Owner::Player(SessionRef::Title(key), stream_index);
        match cx.place(&command, request.chosen.asked, owner, connection) {
            Ok(transport) => self.add_stream(cx, &command, key, &request, transport),
            Err(none) => {
                self.forget_if_empty(cx, key);
                none.executed(command)
            }
        }
    }

    /// Checks a SETUP against the title, the session and the supported transports.
    fn setup_request(
        &self,
        cx: &Cx,
        command: &Command,
        key: Option<SessionKey>,
    ) -> Result<SetupRequest, Status> {
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
        let situation = Situation {
            mode: Mode::Play,
            peer: command.peer.ip(),
            first: session.and_then(|s| s.streams.first()).map(|first| first.outgoing.transport),
            is_own_connection: session.is_none_or(|s| s.client.is_on_connection_of(command)),
            serves_unicast: true,
            serves_group: false,
            low_ports: cx.config.low_client_ports,
            keys: command.given.srtp.keys(),
            srtp_required: command.given.srtp.is_required,
        };
        let chosen = choose(command.request.header("Transport"), &situation)?;
        Ok(SetupRequest { title, track_index, chosen })
    }

    fn begin_session(
        &mut self,
        cx: &mut Cx,
        command: &Command,
        request: &SetupRequest,
    ) -> Result<SessionKey, Status> {
        self.replace_older(cx, command, request);
        let admitted = cx.admit_player(command)?;
        let session = Session {
            client: Client::new(cx, command, admitted),
            title: request.title.clone(),
            described: request.title.clone(),
            state: State::Ready,
            streams: Vec::with_capacity(2),
            liveness_due: cx.now,
            // Never the epoch number of an earlier session in the same place.
            epoch_count: random::rng().next_u32(),
            epoch: None,
            end: None,
            pause_point: None,
            timers: SessionTimers::default(),
            held: VecDeque::new(),
            play_received: None,
        };
        let key = self.insert(cx, session);
        self.watch(cx, key, cx.now + cx.config.timeout);
        Ok(key)
    }

    /// Ends the sessions that the client has left behind: paused ones with this track.
    fn replace_older(&mut self, cx: &mut Cx, command: &Command, request: &SetupRequest) {
        let left = cx.left_behind(command, |session| match session {
            SessionRef::Title(key) => self
                .session(key)
                .filter(|session| {
                    matches!(session.state, State::Paused { .. })
                        && session.described.name == request.title.name
                        && session.streams.iter().any(|s| s.track_index == request.track_index)
                })
                .map(|_| key),
            SessionRef::Reader(_) | SessionRef::Publisher(_) => None,
        });
        for key in left {
            self.remove(cx, key);
        }
    }

    fn add_stream(
        &mut self,
        cx: &Cx,
        command: &Command,
        key: SessionKey,
        request: &SetupRequest,
        transport: Transport,
    ) -> Executed {
        let mut rng = random::rng();
        let Some(session) = self.slab.get_mut(key.0 as usize) else {
            return command.refuse(Status::SessionNotFound);
        };
        let Some(track) = request.title.asset.tracks.get(usize::from(request.track_index)) else {
            return command.refuse(Status::NotFound);
        };
        let payload = (track.payload.payload_type, track.payload.clock_rate_hz);
        let keys = command.given.srtp.keys.as_deref().filter(|_| request.chosen.is_secure);
        // Packets that are the same for many players may stand in memory once, in the clear: a
        // stream that is encrypted must not share.
        let is_udp = matches!(transport, Transport::Udp { .. });
        let is_shared = cx.config.uses_images && is_udp && keys.is_none();
        let (ssrc, random) = match is_shared {
            true => request.title.wire.of_track(request.track_index),
            false => (Ssrc(rng.next_u32()), rng.next_u64()),
        };
        let control_url = command.request.uri.clone();
        let mut own = Own::new(ssrc, random);
        if keys.is_some() {
            own = own.for_srtp();
        }
        let mut outgoing = Outgoing::new(payload, Numbers::Own(own), transport, control_url);
        outgoing.srtp = keys.map(StreamKeys::stream);
        let mut stream = Stream::new(request.track_index, outgoing);
        if is_shared {
            stream = stream.sharing();
        }
        let said = cx.configs.find(&request.title.url_path).adapts_quality;
        if said.unwrap_or(cx.config.adapts_quality) && track.kind == MediaKind::Video {
            // Sound has a low bit rate and its gaps are heard: sound is never thinned.
            stream.quality = Some(Box::new(Quality::new(track.sync_gap())));
            cx.cells.quality_levels[ThinningLevel::Full as usize].add(1);
        }
        if cx.retransmits() && request.chosen.wants_retransmission() {
            let rtx = Ssrc(ssrc.0 ^ rng.random_range(1..u32::MAX));
            let payload_type = rtx_payload_type(track.payload.payload_type);
            let seq = low_half(SeqNo(rng.random()));
            stream.outgoing.rtx = Some(RtxStream { payload_type, seq, ssrc: rtx });
            stream.resender = Some(Box::default());
        }
        session.streams.push(stream);
        cx.answer_setup(command, session.client.id, &request.chosen, transport, Some(ssrc), None)
    }

    fn forget_if_empty(&mut self, cx: &mut Cx, key: SessionKey) {
        if self.session(key).is_some_and(|session| session.streams.is_empty()) {
            self.remove(cx, key);
        }
    }
}

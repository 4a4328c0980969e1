//! ANNOUNCE, SETUP and RECORD of a publisher (RFC 2326 s10.3, s10.4, s10.11).
//!
//! ANNOUNCE is answered when the home has given the path. Whether the client may publish at all was
//! asked of `access::publish` before.

use std::sync::Arc;

use rand::Rng;

use crate::base::host::Host;
use crate::base::ids::SessionId;
use crate::base::names::Name;
use crate::live::core::demux::{DemuxError, Target};
use crate::live::core::latch::AddressLatch;
use crate::live::core::limits::PATHS_MAX;
use crate::live::core::message::{Ask, RefusedError, ToShard};
use crate::live::hub::Hub;
use crate::live::sources::Sources;
use crate::live::sources::announced::{Origin, description};
use crate::live::sources::publisher::{Claimant, Publisher, PublisherState, Way};
use crate::rtsp::response::{Response, Status};
use crate::rtsp::transport::{Lower, Mode, TransportOffer, parse_transport};
use crate::rtsp::transport_answer::TransportReply;
use crate::sdp::publish::{check_announced, media_of_setup};
use crate::sdp::read::read_session;
use crate::sdp::session::SessionSdp;
use crate::session::action::Action;
use crate::session::client::clip;
use crate::session::command::{Command, Executed};
use crate::session::cx::Cx;
use crate::session::directory::{SESSIONS_PER_CONNECTION_MAX, SessionRef};
use crate::session::transport::Transport;

impl Sources {
    /// The publisher of a SETUP without a session: some clients name the session from RECORD on
    /// only.
    pub(crate) fn publisher_of(&self, cx: &Cx, command: &Command) -> Option<u32> {
        let is_meant = |session: &SessionRef| match *session {
            SessionRef::Publisher(number) => {
                let publisher = self.publishers.get(&number)?;
                let media =
                    media_of_setup(&publisher.sdp, publisher.announce_uri()?, &command.request.uri);
                media.map(|_| number)
            }
            SessionRef::Reader(_) | SessionRef::Title(_) => None,
        };
        let is_ours = command.waiter.shard == cx.shard;
        let entry = command.waiter.entry;
        let sessions = if is_ours { cx.directory.of_connection(entry) } else { &[] };
        sessions.iter().find_map(is_meant)
    }

    pub(crate) fn announce(&mut self, cx: &mut Cx, hub: &mut Hub, command: &Command) -> Executed {
        let path = command.target.path.trim_end_matches('/');
        if let Err(status) = self.has_room(cx, command, path) {
            return command.refuse(status);
        }
        let sdp = match announced(command) {
            Ok(sdp) => sdp,
            Err(status) => return command.refuse(status),
        };
        let path: Arc<str> = path.into();
        let mut rng = rand::rng();
        let origin = Origin {
            local: command.local,
            session_id: u64::from(rng.next_u32()),
            version: cx.utc_ns.unsigned_abs() / 1_000_000_000,
        };
        let description = match description(&sdp, &path, origin) {
            Ok(description) => Arc::new(description),
            Err(error) => {
                tracing::info!(
                    code = "HE-I305", peer = %command.peer, %path, %error,
                    "ANNOUNCE refused: {error}"
                );
                return command.refuse(Status::UnsupportedMediaType);
            }
        };
        self.replace_publisher(cx, hub, command, &path);
        let _admitted = match cx.admit_session(command.peer) {
            Ok(place) => place,
            Err(status) => return command.refuse(status),
        };
        let number = hub.next_serial();
        let way = Way::Announced {
            id: SessionId::new(cx.shard, rng.next_u64()),
            uri: command.request.uri.clone(),
            user_agent: command.request.header("User-Agent").map(clip),
            _admitted,
        };
        let (waiter, peer) = (Some((command.waiter, command.request.cseq)), command.peer);
        let connection = Some(command.waiter.entry);
        let claimant = Claimant { way, waiter, sdp, origin, description, connection, peer };
        self.publishers.claim(cx, hub, number, &path, claimant);
        Executed::Later
    }

    /// Whether the path can be published to, and there is room for one more publisher.
    fn has_room(&self, cx: &Cx, command: &Command, path: &str) -> Result<(), Status> {
        if !matches!(Name::parse(path), Name::Live(_)) {
            // Titles have these names.
            return Err(Status::Forbidden);
        }
        if self.publishers.len() >= PATHS_MAX
            || cx.directory.of_connection(command.waiter.entry).len() >= SESSIONS_PER_CONNECTION_MAX
        {
            return Err(Status::NotEnoughBandwidth);
        }
        Ok(())
    }

    /// A second ANNOUNCE of a path on one connection describes it anew.
    fn replace_publisher(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        command: &Command,
        path: &Arc<str>,
    ) {
        for session in cx.directory.of_connection(command.waiter.entry).to_vec() {
            let SessionRef::Publisher(number) = session else { continue };
            let publisher = self.publishers.get(&number);
            if publisher.is_some_and(|publisher| publisher.source.path() == path) {
                self.end_publisher(cx, hub, number, "the path was announced again");
            }
        }
    }

    /// Handles a message of a home for a publisher.
    pub(crate) fn handle_source_note(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        path: &Arc<str>,
        note: ToShard,
    ) {
        match note {
            ToShard::Granted { number, generation } => {
                let Some(publisher) = self.publishers.get_mut(&number) else {
                    // The publisher has ended meanwhile.
                    hub.ask(path, Ask::Release { generation });
                    return;
                };
                let PublisherState::Claiming(waiter) = publisher.state else { return };
                publisher.state = PublisherState::Announced(generation);
                let Some((waiter, cseq)) = waiter else {
                    self.go_on_fetching(cx, hub, number);
                    return;
                };
                tracing::debug!(peer = %publisher.peer, %path, "a publisher has announced a path");
                cx.out.push(Action::Respond { waiter, response: Response::new(Status::Ok, cseq) });
            }
            ToShard::Refused { number, why } => {
                let Some(publisher) = self.publishers.get(&number) else { return };
                let PublisherState::Claiming(waiter) = publisher.state else { return };
                let Some((waiter, cseq)) = waiter else {
                    tracing::warn!(code = "HE-W302", %path, %why, "source rejected: {why}");
                    self.fetch_refused(cx, hub, number, why);
                    return;
                };
                let peer = publisher.peer;
                tracing::info!(code = "HE-I306", %peer, %path, %why, "ANNOUNCE refused: {why}");
                let status = match why {
                    RefusedError::TooManyPaths => Status::NotEnoughBandwidth,
                    RefusedError::Occupied
                    | RefusedError::NotPublished
                    | RefusedError::NoSource
                    | RefusedError::SourceSilent => Status::Forbidden,
                };
                cx.out.push(Action::Respond { waiter, response: Response::new(status, cseq) });
                self.forget_publisher(cx, hub, number);
            }
            ToShard::Evicted { number, is_overridden } => {
                let why = if is_overridden {
                    "the path was taken by another publisher"
                } else {
                    "the path has ended"
                };
                // The grant was lost, and the path with it.
                if !self.refuse_unanswered_claim(cx, hub, number) {
                    self.evict_publisher(cx, hub, number, why);
                }
            }
            ToShard::SyncWanted { number } => self.publishers.ask_for_sync(cx, number),
            // Messages for readers: `desk` and the paths of this shard handle them.
            ToShard::Subscribed { .. }
            | ToShard::NotThere(_)
            | ToShard::Batch(_)
            | ToShard::Lost
            | ToShard::Resumed { .. }
            | ToShard::Described { .. }
            | ToShard::Ended
            | ToShard::Joined { .. } => {}
        }
    }

    /// Answers an ANNOUNCE whose claim was not answered in time. False for a publisher whose
    /// ANNOUNCE has its answer.
    pub(crate) fn refuse_unanswered_claim(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        number: u32,
    ) -> bool {
        let Some(publisher) = self.publishers.get(&number) else { return false };
        let PublisherState::Claiming(Some((waiter, cseq))) = publisher.state else { return false };
        tracing::warn!(
            code = "HE-W303", peer = %publisher.peer, path = %publisher.source.path(),
            "ANNOUNCE refused: the shard that owns the path does not answer"
        );
        let response = Response::new(Status::ServiceUnavailable, cseq).header("Retry-After", "1");
        cx.out.push(Action::Respond { waiter, response });
        self.forget_publisher(cx, hub, number);
        true
    }

    pub(crate) fn setup_publisher(
        &mut self,
        cx: &mut Cx,
        hub: &Hub,
        command: Command,
        number: u32,
    ) -> Executed {
        let Some(publisher) = self.publishers.get(&number) else {
            return command.refuse(Status::SessionNotFound);
        };
        if !matches!(publisher.state, PublisherState::Announced(_)) {
            return command.refuse(Status::MethodNotValidInThisState);
        }
        let uri = &command.request.uri;
        let announced = publisher.announce_uri();
        let media = announced.and_then(|at| media_of_setup(&publisher.sdp, at, uri));
        let Some(media) = media else {
            return command.refuse(Status::NotFound);
        };
        if publisher.tracks.get(media).is_none_or(|track| track.transport.is_some()) {
            return command.refuse(Status::MethodNotValidInThisState);
        }
        let Ok(track) = u8::try_from(media) else { return command.refuse(Status::NotFound) };
        let Some(header) = command.request.header("Transport") else {
            return command.refuse(Status::UnsupportedTransport);
        };
        let Ok(offers) = parse_transport(header) else {
            return command.refuse(Status::BadRequest);
        };
        let is_same = |offer: &TransportOffer| fits(offer, publisher, &command);
        let Some(offer) = offers.into_iter().find(is_same) else {
            return command.refuse(Status::UnsupportedTransport);
        };
        let target = Target { source: number, track };
        let transport = match offer.protocol {
            Lower::Tcp => cx
                .directory
                .free_channels(command.waiter.entry, offer.interleaved)
                .map(|(channel, rtcp_channel)| Transport::Tcp { channel, rtcp_channel }),
            Lower::Udp => match expect_publisher(cx, &command, &offer, target) {
                Err(DemuxError::Taken) if cx.sockets.has_room() => {
                    return Executed::NeedsPair(Box::new(command));
                }
                placed => placed.ok(),
            },
        };
        match transport {
            Some(transport) => self.take_track(cx, hub, &command, target, &offer, transport),
            None => command.refuse(Status::NotEnoughBandwidth),
        }
    }

    fn take_track(
        &mut self,
        cx: &mut Cx,
        hub: &Hub,
        command: &Command,
        Target { source: number, track }: Target,
        offer: &TransportOffer,
        transport: Transport,
    ) -> Executed {
        let Some(publisher) = self.publishers.get_mut(&number) else {
            return command.refuse(Status::SessionNotFound);
        };
        let latch = match transport {
            Transport::Udp { rtp, .. } => AddressLatch::Expected(Host::of(rtp)),
            Transport::Tcp { .. } | Transport::Group { .. } => AddressLatch::Any,
        };
        publisher.source.set_up(track, latch, latch);
        if let Some(place) = publisher.tracks.get_mut(usize::from(track)) {
            place.transport = Some(transport);
        }
        if let (Transport::Tcp { channel, rtcp_channel }, Some(entry)) =
            (transport, publisher.connection)
        {
            let channels = (channel, rtcp_channel);
            cx.directory.take_channels(entry, channels, SessionRef::Publisher(number));
        }
        let Some(id) = publisher.id() else {
            return command.refuse(Status::SessionNotFound);
        };
        let parameters = hub.transport_parameters(cx, transport);
        let (profile, mode) = (offer.profile, Mode::Record);
        let transport = TransportReply { profile, parameters, ssrc: None, mode }.write();
        let response = command.response(Status::Ok);
        let response = response.header("Session", cx.session_header(id));
        Executed::Reply(response.header("Transport", transport))
    }

    pub(crate) fn record(
        &mut self,
        cx: &Cx,
        hub: &mut Hub,
        command: &Command,
        number: u32,
    ) -> Executed {
        let now = cx.now;
        let Some(publisher) = self.publishers.get_mut(&number) else {
            return command.refuse(Status::SessionNotFound);
        };
        let is_set_up = publisher.tracks.iter().any(|track| track.transport.is_some());
        match publisher.state {
            PublisherState::Announced(generation) if is_set_up => {
                publisher.source.grant(generation, now);
                publisher.state = PublisherState::Recording(generation);
                self.publishers.note_up(cx, hub, number);
                Executed::Reply(cx.answer(command))
            }
            PublisherState::Recording(_) => Executed::Reply(cx.answer(command)),
            PublisherState::Announced(_) | PublisherState::Claiming(_) => {
                command.refuse(Status::MethodNotValidInThisState)
            }
        }
    }
}

impl Sources {
    /// Handles PAUSE of a publisher that records (RFC 2326 s10.6): it keeps the path, and RECORD
    /// continues. GStreamer sends PAUSE before TEARDOWN.
    pub(crate) fn pause_publisher(
        &mut self,
        cx: &Cx,
        hub: &mut Hub,
        command: &Command,
        number: u32,
    ) -> Executed {
        let Some(publisher) = self.publishers.get_mut(&number) else {
            return command.refuse(Status::SessionNotFound);
        };
        let PublisherState::Recording(generation) = publisher.state else {
            return command.refuse(Status::MethodNotValidInThisState);
        };
        publisher.state = PublisherState::Announced(generation);
        let path = Arc::clone(publisher.source.path());
        tracing::info!(code = "HE-I308", peer = %publisher.peer, %path, "publishing paused");
        let mut batches = Vec::new();
        while let Some(batch) = publisher.source.finish() {
            batches.push(batch);
        }
        publisher.source.suspend();
        for batch in batches {
            hub.ask(&path, Ask::Feed { generation, batch });
        }
        Executed::Reply(cx.answer(command))
    }
}

/// The body of ANNOUNCE, read and checked.
fn announced(command: &Command) -> Result<SessionSdp, Status> {
    let request = &command.request;
    let kind = request.header("Content-Type").unwrap_or(SDP);
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(SDP)) {
        return Err(Status::UnsupportedMediaType);
    }
    let sdp = read_session(&request.body).map_err(|error| {
        let peer = command.peer;
        tracing::info!(code = "HE-I307", %peer, %error, "ANNOUNCE refused: invalid SDP: {error}");
        Status::BadRequest
    })?;
    check_announced(&sdp).map_err(|error| {
        let peer = command.peer;
        tracing::info!(code = "HE-I305", %peer, %error, "ANNOUNCE refused: {error}");
        Status::UnsupportedMediaType
    })?;
    Ok(sdp)
}

/// Whether a publisher's packets can come this way.
fn fits(offer: &TransportOffer, publisher: &Publisher, command: &Command) -> bool {
    let is_possible = match offer.protocol {
        Lower::Udp => offer.client_port.is_some(),
        Lower::Tcp => publisher.connection == Some(command.waiter.entry),
    };
    // One way for all: it ends with its connection, or is heard of by its datagrams.
    let first = publisher.tracks.iter().find_map(|track| track.transport);
    let is_same = first.is_none_or(|first| {
        matches!(first, Transport::Udp { .. }) == (offer.protocol == Lower::Udp)
    });
    offer.check(true).is_ok() && !offer.multicast && is_possible && is_same
}

/// The first pair on which the publisher's addresses are free.
fn expect_publisher(
    cx: &mut Cx,
    command: &Command,
    offer: &TransportOffer,
    target: Target,
) -> Result<Transport, DemuxError> {
    let (rtp_port, rtcp_port) = offer.client_port.unwrap_or_default();
    let host = Host::of(command.peer);
    let (rtp, rtcp) = (host.at(rtp_port), host.at(rtcp_port));
    let mut refused = DemuxError::Taken;
    for pair in cx.sockets.places() {
        match cx.demux.expect_both(pair, [rtp, rtcp], target) {
            Ok(()) => return Ok(Transport::Udp { pair, rtp, rtcp }),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

const SDP: &str = "application/sdp";

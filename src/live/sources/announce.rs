//! ANNOUNCE, SETUP and RECORD of a publisher (RFC 2326 s10.3, s10.4, s10.11).
//!
//! ANNOUNCE is answered when the owner has given the path. Whether the client may publish at all
//! was asked of `access` before. In SETUP, transport, places and answer are those of
//! `session::transport`. A publisher's own: its packets are told apart by their address
//! (`live::core::demux`); any mode means record; a `destination` means nothing.

use std::sync::Arc;

use rand::Rng;

use crate::base::addresses::AddressPlace;
use crate::base::host::Host;
use crate::base::ids::SessionId;
use crate::base::names::Name;
use crate::base::random;
use crate::live::core::demux::Target;
use crate::live::core::latch::AddressLatch;
use crate::live::core::limits::PATHS_MAX;
use crate::live::core::message::{Notification, OwnerRequest, RefusedError};
use crate::live::hub::Hub;
use crate::live::sources::Sources;
use crate::live::sources::announced::{Origin, description};
use crate::live::sources::publisher::{Claimant, Publisher, PublisherState, Way};
use crate::metrics::cells::{LIVE, Share};
use crate::poll::poll_table::EntryKey;
use crate::rtp::srtp::SrtpStream;
use crate::rtsp::response::{Response, Status};
use crate::rtsp::transport::Mode;
use crate::sdp::publish::{check_announced, media_of_setup};
use crate::sdp::read::read_session;
use crate::sdp::session::SessionSdp;
use crate::session::action::Action;
use crate::session::client::clip;
use crate::session::command::{Command, Executed};
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;
use crate::session::srtp::{Keys, StreamKeys, check_described_keys, described_key};
use crate::session::transport::{Chosen, Owner, Situation, Transport, choose};

impl Sources {
    /// The publisher of a SETUP without a session: some clients name the session from RECORD on
    /// only.
    pub(crate) fn publisher_of(&self, cx: &Cx, command: &Command) -> Option<u32> {
        let is_ours = command.reply_to.shard == cx.shard;
        let entry = Some(command.reply_to.entry).filter(|_| is_ours)?;
        self.publisher_on(cx, entry, &command.request.uri)
    }

    /// The same, by the connection and the URL.
    pub(crate) fn publisher_on(&self, cx: &Cx, entry: EntryKey, uri: &str) -> Option<u32> {
        let number_of = |session: &SessionRef| match *session {
            SessionRef::Publisher(number) => {
                let publisher = self.publishers.get(&number)?;
                let media = media_of_setup(&publisher.sdp, publisher.announce_uri()?, uri);
                media.map(|_| number)
            }
            SessionRef::Reader(_) | SessionRef::Title(_) => None,
        };
        cx.directory.of_connection(entry).iter().find_map(number_of)
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
        let path: Arc<str> = cx.configs.publish_path(path).into();
        let mut rng = random::rng();
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
        let admitted = match self.admit_publisher(cx, command) {
            Ok(places) => places,
            Err(status) => return command.refuse(status),
        };
        let number = hub.next_serial();
        let way = Way::Announced {
            id: SessionId::new(cx.shard, rng.next_u64()),
            uri: command.request.uri.clone(),
            user_agent: command.request.header("User-Agent").map(clip),
            user: command.given.user.clone(),
            _admitted: admitted,
            _counted: Share::new(&cx.cells, |cells| &cells.publishers, 1),
        };
        let (reply_to, peer) = (Some((command.reply_to, command.request.cseq)), command.peer);
        let connection = Some(command.reply_to.entry);
        let claimant = Claimant { way, reply_to, sdp, origin, description, connection, peer };
        self.publishers.claim(cx, hub, number, &path, claimant);
        Executed::Later
    }

    /// Whether the path can be published to, and there is room for one more publisher.
    fn has_room(&self, cx: &Cx, command: &Command, path: &str) -> Result<(), Status> {
        if !matches!(Name::parse(path), Name::Live(_)) {
            // Titles have these names.
            return Err(Status::Forbidden);
        }
        let count_max = cx.config.limits.publishers_max as u64;
        if self.publishers.len() >= PATHS_MAX
            || cx.cells.publishers.value() >= count_max
            || LIVE.is_over()
        {
            cx.cells.publishers_refused.add(1);
            return Err(Status::NotEnoughBandwidth);
        }
        if !cx.has_room_on_connection(command) {
            return Err(Status::NotEnoughBandwidth);
        }
        Ok(())
    }

    /// Takes places among the sessions of the client's address and among its publishers.
    fn admit_publisher(&self, cx: &mut Cx, command: &Command) -> Result<[AddressPlace; 2], Status> {
        let publisher = cx.config.shares.publishers.enter(command.peer.ip());
        let Ok(publisher) = publisher else {
            cx.cells.publishers_refused.add(1);
            return Err(Status::NotEnoughBandwidth);
        };
        Ok([publisher, cx.admit_session(command.peer)?])
    }

    /// A second ANNOUNCE of a path on one connection describes it anew.
    fn replace_publisher(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        command: &Command,
        path: &Arc<str>,
    ) {
        for session in cx.directory.of_connection(command.reply_to.entry).to_vec() {
            let SessionRef::Publisher(number) = session else { continue };
            let publisher = self.publishers.get(&number);
            if publisher.is_some_and(|publisher| publisher.source.path() == path) {
                self.end_publisher(cx, hub, number, "the path was announced again");
            }
        }
    }

    /// Handles a message of an owner for a publisher.
    pub(crate) fn handle_source_notification(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        path: &Arc<str>,
        notification: Notification,
    ) {
        match notification {
            Notification::Granted { number, generation } => {
                let Some(publisher) = self.publishers.get_mut(&number) else {
                    // The publisher has ended meanwhile.
                    hub.request(path, OwnerRequest::Release { generation });
                    return;
                };
                let PublisherState::Claiming(reply_to) = publisher.state else { return };
                publisher.state = PublisherState::Announced(generation);
                let Some((reply_to, cseq)) = reply_to else {
                    self.go_on_fetching(cx, hub, number);
                    return;
                };
                tracing::debug!(peer = %publisher.peer, %path, "a publisher has announced a path");
                cx.out
                    .push(Action::Respond { reply_to, response: Response::new(Status::Ok, cseq) });
            }
            Notification::Refused { number, why } => {
                let Some(publisher) = self.publishers.get(&number) else { return };
                let PublisherState::Claiming(reply_to) = publisher.state else { return };
                let Some((reply_to, cseq)) = reply_to else {
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
                cx.out.push(Action::Respond { reply_to, response: Response::new(status, cseq) });
                self.forget_publisher(cx, hub, number);
            }
            Notification::Evicted { number, is_overridden } => {
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
            Notification::SyncWanted { number } => {
                let publisher = self.publishers.get(&number);
                match publisher.and_then(Publisher::relayed_from) {
                    Some(from) => hub.request(from, OwnerRequest::WantSync),
                    None => self.publishers.ask_for_sync(cx, number),
                }
            }
            // Messages for readers: `front` and the paths of this shard handle them.
            Notification::Subscribed { .. }
            | Notification::NotThere(_)
            | Notification::Batch(_)
            | Notification::Lost
            | Notification::Resumed { .. }
            | Notification::Described { .. }
            | Notification::Ended
            | Notification::Joined { .. } => {}
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
        let PublisherState::Claiming(Some((reply_to, cseq))) = publisher.state else {
            return false;
        };
        tracing::warn!(
            code = "HE-W303", peer = %publisher.peer, path = %publisher.source.path(),
            "ANNOUNCE refused: the shard that owns the path does not answer"
        );
        let response = Response::new(Status::ServiceUnavailable, cseq).header("Retry-After", "1");
        cx.out.push(Action::Respond { reply_to, response });
        self.forget_publisher(cx, hub, number);
        true
    }

    pub(crate) fn setup_publisher(
        &mut self,
        cx: &mut Cx,
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
        let keys = publisher.keys_of(&command, media);
        let situation = Situation {
            mode: Mode::Record,
            peer: command.peer.ip(),
            first: publisher.tracks.iter().find_map(|track| track.transport),
            is_own_connection: command.reply_to.shard == cx.shard
                && publisher.connection == Some(command.reply_to.entry),
            serves_unicast: true,
            serves_group: false,
            low_ports: cx.config.low_client_ports,
            keys: if keys.is_some() { Keys::Here } else { Keys::Missing },
            srtp_required: command.given.srtp.is_required,
        };
        let chosen = match choose(command.request.header("Transport"), &situation) {
            Ok(chosen) => chosen,
            Err(status) => return command.refuse(status),
        };
        let (target, connection) = (Target { source: number, track }, publisher.connection);
        match cx.place(&command, chosen.asked, Owner::Publisher(target), connection) {
            Ok(transport) => {
                let srtp = keys.filter(|_| chosen.is_secure).map(|keys| keys.stream());
                self.take_track(cx, &command, target, &chosen, (transport, srtp))
            }
            Err(none) => none.executed(command),
        }
    }

    fn take_track(
        &mut self,
        cx: &Cx,
        command: &Command,
        Target { source: number, track }: Target,
        chosen: &Chosen,
        (transport, srtp): (Transport, Option<SrtpStream>),
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
            (place.transport, place.srtp) = (Some(transport), srtp);
        }
        let Some(id) = publisher.id() else {
            return command.refuse(Status::SessionNotFound);
        };
        cx.answer_setup(command, id, chosen, transport, None, None)
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
            hub.request(&path, OwnerRequest::Feed { generation, batch });
        }
        Executed::Reply(cx.answer(command))
    }
}

impl Publisher {
    /// Keys of a media: those of the SETUP, or the one of the description.
    fn keys_of(&self, command: &Command, media: usize) -> Option<StreamKeys> {
        let leave = &command.given.srtp;
        if let Some(keys) = &leave.keys {
            return Some(StreamKeys::clone(keys));
        }
        let media = self.sdp.medias().get(media).filter(|_| leave.is_served)?;
        // The description was checked in ANNOUNCE.
        described_key(media).ok().flatten().map(StreamKeys::of_described)
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
    check_announced(&sdp, command.given.srtp.is_served).map_err(|error| {
        let peer = command.peer;
        tracing::info!(code = "HE-I305", %peer, %error, "ANNOUNCE refused: {error}");
        Status::UnsupportedMediaType
    })?;
    check_described_keys(&sdp).map_err(|error| {
        let peer = command.peer;
        tracing::info!(code = "HE-I305", %peer, %error, "ANNOUNCE refused: {error}");
        Status::UnsupportedMediaType
    })?;
    Ok(sdp)
}

const SDP: &str = "application/sdp";

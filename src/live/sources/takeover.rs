//! Publishers that another process takes over.
//!
//! ```text
//!  old process: flush, record --> PublisherRecord --> take_in: new process, whose path is here
//!               abandon: it is another process's
//! ```
//! Sources that are fetched or made here are none of these: see `live::core::takeover`.
//! Invariant: a record changes nothing of its publisher, so it can go on. Bound: its tracks.

use std::sync::Arc;

use crate::base::host::Host;
use crate::base::ids::{SessionId, Ssrc};
use crate::base::time::Mono;
use crate::live::core::batch::Generation;
use crate::live::core::demux::{SocketName, Target};
use crate::live::core::message::OwnerRequest;
use crate::live::core::repeat::RequestRepeat;
use crate::live::core::source::Source;
use crate::live::core::takeover::TakenPath;
use crate::live::hub::Hub;
use crate::live::sources::announced::{Origin, PublisherTrack, format_of};
use crate::live::sources::publisher::{Publisher, PublisherState, Way};
use crate::live::sources::publishers::Publishers;
use crate::metrics::cells::Share;
use crate::poll::poll_table::EntryKey;
use crate::sdp::read::read_session;
use crate::sdp::session::{Protocol, SessionSdp};
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;
use crate::session::handover::MoveRefusal;
use crate::session::transport::Transport;
use crate::takeover::live::{PublisherRecord, PublisherTrackRecord};
use crate::takeover::v1::TransportRecord;

impl Publishers {
    /// Session of a client that publishes.
    #[must_use]
    pub fn id_of(&self, number: u32) -> Option<SessionId> {
        self.get(&number)?.id()
    }

    /// Transports of a publisher's tracks that are set up.
    #[must_use]
    pub fn transports_of(&self, number: u32) -> Vec<Transport> {
        let tracks = self.get(&number).map(|publisher| &publisher.tracks);
        tracks.into_iter().flatten().filter_map(|track| track.transport).collect()
    }

    /// Whether a publisher can be handed over.
    ///
    /// # Errors
    /// Why not.
    pub fn check_takeover(&self, cx: &Cx, number: u32) -> Result<(), MoveRefusal> {
        let publisher = self.get(&number).ok_or(MoveRefusal::NoSession)?;
        let id = publisher.id().ok_or(MoveRefusal::Publisher)?;
        if matches!(publisher.state, PublisherState::Claiming(_)) {
            return Err(MoveRefusal::Busy);
        }
        let is_secure = |protocol: &Protocol| matches!(protocol, Protocol::SecureRtp { .. });
        let has_keys = publisher.tracks.iter().any(|track| track.srtp.is_some())
            || publisher.sdp.medias().iter().any(|media| is_secure(&media.protocol));
        if has_keys {
            return Err(MoveRefusal::Srtp);
        }
        for track in &publisher.tracks {
            if let Some(Transport::Udp { pair, .. }) = track.transport {
                let home = cx.sockets.home_of(pair, cx.shard);
                if home.is_none_or(|(shard, _)| shard != cx.home_of(id)) {
                    return Err(MoveRefusal::SeveralHomes);
                }
            }
        }
        Ok(())
    }

    /// Feeds all that has come of a source, a frame that is not whole included.
    pub(crate) fn flush(&mut self, hub: &mut Hub, number: u32, now: Mono) {
        let Some(publisher) = self.get_mut(&number) else { return };
        if publisher.source.flush_due().is_some() {
            publisher.describe(hub, now);
        }
        let path = Arc::clone(publisher.source.path());
        while let Some(batch) = publisher.source.finish() {
            hub.request(&path, OwnerRequest::Feed { generation: batch.generation(), batch });
        }
    }

    /// For another process; `None` for what is not handed over. `pair_of` finds the place of a pair
    /// in the record of the shard.
    #[must_use]
    pub fn record(
        &self,
        number: u32,
        pair_of: &dyn Fn(u16) -> Option<u32>,
    ) -> Option<PublisherRecord> {
        let publisher = self.get(&number)?;
        let Way::Announced { id, uri, user_agent, user, .. } = &publisher.way else { return None };
        let tracks = (0_u8..).zip(&publisher.tracks).map(|(index, track)| {
            let mut record = track.record();
            record.transport = match track.transport {
                Some(transport) => Some(transport_record(transport, pair_of)?),
                None => None,
            };
            publisher.source.record_track(index, &mut record);
            Some(record)
        });
        Some(PublisherRecord {
            id: id.to_string(),
            path: publisher.source.path().to_string(),
            generation: publisher.generation()?.0,
            is_recording: publisher.is_recording(),
            uri: uri.clone(),
            peer: publisher.peer,
            user_agent: user_agent.clone(),
            user: user.as_deref().map(str::to_owned),
            sdp: publisher.sdp.text(),
            local: publisher.origin.local,
            sdp_session_id: publisher.origin.session_id,
            sdp_version: publisher.origin.version,
            alive_ns: publisher.alive.0,
            cname: publisher.cname.clone(),
            own_ssrc: publisher.own_ssrc.0,
            redescribed_ns: publisher.redescribed.map(|at| at.0),
            fed_since_ns: publisher.fed_since.map(|at| at.0),
            source: publisher.source.record(),
            tracks: tracks.collect::<Option<_>>()?,
        })
    }

    /// Takes in a publisher that another process has recorded.
    ///
    /// # Errors
    /// What does not fit.
    pub fn take_in(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        (taken, record): (&TakenPath, PublisherRecord),
        connection: Option<EntryKey>,
        pair_of: &dyn Fn(u32) -> Option<u16>,
    ) -> Result<(), &'static str> {
        let source = taken.source.filter(|source| source.shard == cx.shard);
        let source = source.ok_or("its path has another source")?;
        let id = SessionId::parse(&record.id).ok_or("it has no id")?;
        let sdp = read_session(record.sdp.as_bytes()).map_err(|_| "its description is none")?;
        let count = sdp.medias().len();
        let is_same = count == record.tracks.len() && count == taken.description.tracks.len();
        if !is_same || Generation(record.generation) != taken.generation {
            return Err("its path has other tracks");
        }
        let told = record.tracks.clone();
        let publisher = publisher_of(cx, (record, taken), (id, sdp), (connection, pair_of))?;
        hub.tally.enter(&taken.name);
        hub.use_up_serial(source.number);
        let session = SessionRef::Publisher(source.number);
        cx.directory.enter(id, connection, session);
        for ((index, track), told) in (0_u8..).zip(&publisher.tracks).zip(&told) {
            let target = Target { source: source.number, track: index };
            enter_track(cx, target, (track.transport, connection), told);
        }
        self.insert(source.number, publisher);
        Ok(())
    }

    /// Forgets a publisher that another process has: nobody is told.
    pub fn abandon(&mut self, cx: &mut Cx, hub: &mut Hub, number: u32) {
        drop(self.forget(cx, hub, number));
    }
}

type PairOf<'a> = &'a dyn Fn(u32) -> Option<u16>;

/// The publisher that another process has recorded.
fn publisher_of(
    cx: &Cx,
    (record, taken): (PublisherRecord, &TakenPath),
    (id, sdp): (SessionId, SessionSdp),
    (connection, pair_of): (Option<EntryKey>, PairOf<'_>),
) -> Result<Publisher, &'static str> {
    let (generation, own_ssrc) = (taken.generation, Ssrc(record.own_ssrc));
    let feeds = record.is_recording.then_some(generation);
    let of = (Arc::clone(&taken.name), Arc::clone(&taken.description));
    let mut source = Source::of_record(of, own_ssrc, feeds, &record.source);
    source.set_formats(sdp.medias().iter().map(format_of).collect());
    let mut tracks: Vec<PublisherTrack> = sdp.medias().iter().map(PublisherTrack::new).collect();
    for ((index, track), told) in (0_u8..).zip(&mut tracks).zip(&record.tracks) {
        track.take_in(told);
        let Some(transport) = &told.transport else { continue };
        let transport = transport_of(transport, pair_of).ok_or("its sockets are missing")?;
        track.transport = Some(cx.arrive_transport(id, transport));
        let host = match transport {
            Transport::Udp { rtp, .. } => Some(Host::of(rtp)),
            Transport::Tcp { .. } | Transport::Group { .. } => None,
        };
        source.take_track(index, host, told);
    }
    let ip = record.peer.ip();
    Ok(Publisher {
        way: Way::Announced {
            id,
            uri: record.uri,
            user_agent: record.user_agent,
            user: record.user.map(Into::into),
            _admitted: [cx.config.shares.publishers.admit(ip, 1), cx.config.addresses.admit(ip, 1)],
            _counted: Share::new(&cx.cells, |cells| &cells.publishers, 1),
        },
        source,
        state: match record.is_recording {
            true => PublisherState::Recording(generation),
            false => PublisherState::Announced(generation),
        },
        tracks,
        sdp,
        origin: Origin {
            local: record.local,
            session_id: record.sdp_session_id,
            version: record.sdp_version,
        },
        described: Arc::clone(&taken.description),
        repeat: RequestRepeat::new(cx.now),
        redescribed: record.redescribed_ns.map(Mono),
        fed_since: record.fed_since_ns.map(Mono),
        connection,
        peer: record.peer,
        alive: Mono(record.alive_ns),
        cname: record.cname,
        own_ssrc,
        is_unfed: false,
        byes: 0,
        all_said_bye: None,
    })
}

/// Registers where the packets of a track come from.
fn enter_track(
    cx: &mut Cx,
    target: Target,
    (transport, connection): (Option<Transport>, Option<EntryKey>),
    told: &PublisherTrackRecord,
) {
    match transport {
        Some(Transport::Udp { pair, rtp, rtcp }) => {
            for ((is_rtcp, announced), heard) in
                [(false, rtp), (true, rtcp)].into_iter().zip(told.heard_from)
            {
                let socket = SocketName { pair, is_rtcp };
                match heard {
                    Some(from) => cx.demux.enter_heard(socket, from, target),
                    // Nobody else is at a pair that has only come.
                    None => drop(cx.demux.expect(socket, announced, target)),
                }
            }
        }
        Some(Transport::Tcp { channel, rtcp_channel }) => {
            if let Some(entry) = connection {
                let session = SessionRef::Publisher(target.source);
                cx.directory.take_channels(entry, (channel, rtcp_channel), session);
            }
        }
        Some(Transport::Group { .. }) | None => {}
    }
}

fn transport_record(
    transport: Transport,
    pair_of: &dyn Fn(u16) -> Option<u32>,
) -> Option<TransportRecord> {
    match transport {
        Transport::Udp { pair, rtp, rtcp } => {
            Some(TransportRecord::Udp { pair: pair_of(pair)?, rtp, rtcp })
        }
        Transport::Tcp { channel, rtcp_channel } => {
            Some(TransportRecord::Tcp { channel, rtcp_channel })
        }
        Transport::Group { .. } => None,
    }
}

fn transport_of(
    record: &TransportRecord,
    pair_of: &dyn Fn(u32) -> Option<u16>,
) -> Option<Transport> {
    Some(match *record {
        TransportRecord::Udp { pair, rtp, rtcp } => {
            Transport::Udp { pair: pair_of(pair)?, rtp, rtcp }
        }
        TransportRecord::Tcp { channel, rtcp_channel } => Transport::Tcp { channel, rtcp_channel },
    })
}

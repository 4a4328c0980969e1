//! Sessions that listen to a path's group (RFC 2326 s12.39, `multicast`), and what a shard knows of
//! groups.
//!
//! ```text
//!  SETUP ;multicast --first of the shard--> JoinGroup --> home: opens the group (`group_sender`)
//!     | held <----------- Joined(group) ------------------'
//!     `--> 200 destination, port, ttl     last one ends --> LeaveGroup
//! ```
//! A shard joins once for all of its sessions. They are readers of the path that never play: its
//! end is theirs, and the packets are sent once, by the home. They live as those over UDP do, by
//! requests and reports; reports come to the group, so a shard listens there while it has sessions.
//!
//! What a member does with a command, in the words of the table in `live::readers`:
//!
//! | method | Ready | Playing | Paused |
//! |---|---|---|---|
//! | SETUP | 200 | 455 | 200 |
//! | PLAY | 200 Playing | 200 | 200 Playing |
//! | PAUSE | 455 | 200 Paused | 200 |
//! | TEARDOWN | 200 ends | 200 ends | 200 ends |
//! | GET_PARAMETER | 200 | 200 | 200 |
//! | SET_PARAMETER | 200 | 200 | 200 |
//! | OPTIONS | 200 | 200 | 200 |
//! | ANNOUNCE | 455 | 455 | 455 |
//! | RECORD | 455 | 455 | 455 |
//! | DESCRIBE | 455 | 455 | 455 |
//! | REDIRECT | 455 | 455 | 455 |
//! | another | 455 | 455 | 455 |
//!
//! Invariants: a shard that has joined leaves once, with its last session. An answer to an earlier
//! stay changes nothing. A home that has forgotten the shard may give another group: then the
//! sessions end, which were told the old one.
//! Bound: the sessions of a shard, and the commands that it holds. DESIGN section 5.9.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::base::ids::{ShardId, Ssrc};
use crate::base::time::Mono;
use crate::live::core::again::Again;
use crate::live::core::groups::{Group, GroupPool, MulticastError, MulticastSettings};
use crate::live::core::message::Ask;
use crate::live::core::registry::Registry;
use crate::live::desk::Live;
use crate::live::hub::Hub;
use crate::live::readers::Readers;
use crate::live::readers::held::refuse_to_hold;
use crate::live::readers::reader::{LiveReader, ReaderState};
use crate::rtcp::{self, Packet};
use crate::rtsp::response::{Response, Status};
use crate::rtsp::transport::{Lower, Mode, TransportOffer};
use crate::session::action::Action;
use crate::session::action::GroupAction;
use crate::session::command::{Command, Executed};
use crate::session::cx::Cx;
use crate::session::transport::Transport;

/// What a reader has to do with its path's group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cast {
    /// Nothing: it is sent its own stream.
    #[default]
    Own,
    /// It listens to the group.
    Member,
    /// It is the group: no session, but what the home sends by.
    Group,
}

/// All that a shard knows of groups.
#[derive(Debug, Default)]
pub struct Groups {
    /// Groups of paths that have their home here, which are sent to.
    pub(crate) open: HashMap<Arc<str>, OpenGroup>,
    /// Groups that sessions of this shard listen to.
    joined: HashMap<Arc<str>, Membership>,
    /// Of the newest membership.
    serial: u32,
}

/// A group that this shard sends to.
#[derive(Debug)]
pub(crate) struct OpenGroup {
    pub(crate) group: Group,
    /// What it is sent by, once that could be made.
    pub(crate) reader: Option<u32>,
}

#[derive(Debug)]
struct Membership {
    state: Joining,
    /// Tells its answers from those to an earlier one.
    serial: u32,
    /// When the home is asked again.
    again: Again,
    /// Sessions by the address of their client: reports are known by it.
    members: HashMap<IpAddr, Vec<u32>>,
}

#[derive(Debug)]
enum Joining {
    /// The home has not answered. Commands that wait.
    Asked(BTreeSet<u64>),
    Joined(Group),
    /// There is none; asked again for a SETUP of a second later.
    Refused,
}

impl Groups {
    /// The group of a path, if the shard has joined it.
    fn group(&self, path: &str) -> Option<Group> {
        match self.joined.get(path)?.state {
            Joining::Joined(group) => Some(group),
            Joining::Asked(_) | Joining::Refused => None,
        }
    }

    /// Whether the path's owner has not said that no group is free.
    fn may_join(&self, path: &str) -> bool {
        let is_refused = |known: &Membership| matches!(known.state, Joining::Refused);
        !self.joined.get(path).is_some_and(is_refused)
    }

    /// Somebody does not wait for the path's group any more.
    pub(crate) fn forget_waiter(&mut self, path: &str, waiter: u64) {
        if let Some(Membership { state: Joining::Asked(waiters), .. }) = self.joined.get_mut(path) {
            waiters.remove(&waiter);
        }
    }

    /// Paths whose homes have not answered for a while, or are to hear that the shard listens, with
    /// the serials of its memberships.
    pub(crate) fn due_joins(&mut self, now: Mono, is_renewal: bool) -> Vec<(Arc<str>, u32)> {
        let joined = self.joined.iter_mut();
        let due = joined.filter_map(|(path, known)| {
            let is_due = match known.state {
                Joining::Asked(_) => known.again.is_due(now),
                Joining::Joined(_) => is_renewal,
                Joining::Refused => false,
            };
            is_due.then(|| (Arc::clone(path), known.serial))
        });
        due.collect()
    }

    /// There is something to look after.
    pub(crate) fn has_work(&self) -> bool {
        !self.open.is_empty() || !self.joined.is_empty()
    }
}

impl Membership {
    fn new(now: Mono, serial: u32) -> Self {
        let state = Joining::Asked(BTreeSet::new());
        Self { state, serial, again: Again::new(now), members: HashMap::new() }
    }
}

/// How a member's track travels.
pub(crate) fn group_path(group: Group, track: u8) -> Transport {
    let (rtp, rtcp) = group.ports(track);
    let at = |port| SocketAddr::new(group.address.into(), port);
    Transport::Group { rtp: at(rtp), rtcp: at(rtcp) }
}

impl Live {
    /// Paths can be had by multicast from now on: before there are any.
    ///
    /// # Errors
    /// The range is none.
    pub fn offer_groups(
        &mut self,
        settings: MulticastSettings,
        shard: ShardId,
    ) -> Result<(), MulticastError> {
        let pool = GroupPool::of(&settings, shard, self.hub.shard_count)?;
        self.hub.registry = Registry::new(Some(pool));
        self.hub.multicast = Some(settings);
        Ok(())
    }
}

impl Readers {
    /// Whether an offer of multicast can be served, to this session. What it names of address and
    /// ports is a wish: it is told ours.
    pub(crate) fn serves_group(
        &self,
        hub: &Hub,
        offer: &TransportOffer,
        path: &str,
        reader: Option<&LiveReader>,
    ) -> bool {
        offer.multicast
            && offer.check(true).is_ok()
            && offer.protocol == Lower::Udp
            && offer.mode == Mode::Play
            && hub.multicast.is_some()
            && self.groups.may_join(path)
            && reader.is_none_or(|reader| reader.cast == Cast::Member)
    }

    /// The path's group; the command is kept until it is known.
    pub(crate) fn want_group(
        &mut self,
        cx: &Cx,
        hub: &mut Hub,
        path: &Arc<str>,
        command: Command,
    ) -> Result<(Group, Command), Executed> {
        if let Some(group) = self.groups.group(path) {
            return Ok((group, command));
        }
        if !self.held.has_room(path) {
            return Err(refuse_to_hold(cx, path, &command));
        }
        let now = cx.now;
        let is_new = !self.groups.joined.contains_key(path);
        let serial = self.groups.serial.wrapping_add(u32::from(is_new));
        self.groups.serial = serial;
        let known = self.groups.joined.entry(Arc::clone(path));
        let known = known.or_insert_with(|| Membership::new(now, serial));
        let Joining::Asked(waiters) = &mut known.state else {
            return Err(command.refuse(Status::UnsupportedTransport));
        };
        waiters.insert(self.held.hold(path, command, cx.shard));
        if is_new {
            hub.ask(path, Ask::JoinGroup { shard: cx.shard, serial });
        }
        Err(Executed::Later)
    }

    /// The home has answered.
    pub(crate) fn handle_joined(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        path: &Arc<str>,
        serial: u32,
        group: Option<Group>,
    ) {
        let known = self.groups.joined.get_mut(path);
        let Some(known) = known.filter(|known| known.serial == serial) else { return };
        match known.state {
            Joining::Asked(_) => {}
            Joining::Joined(old) if group != Some(old) => return self.drop_group(cx, hub, path),
            // Said again.
            Joining::Joined(_) | Joining::Refused => return,
        }
        let state = group.map_or(Joining::Refused, Joining::Joined);
        let Joining::Asked(waiters) = std::mem::replace(&mut known.state, state) else { return };
        if let Some(group) = group {
            let path = Arc::clone(path);
            let tracks = hub.paths.path(&path).map_or(0, |p| p.description().tracks.len());
            let tracks = u8::try_from(tracks).unwrap_or(u8::MAX);
            cx.out.push(Action::Group(GroupAction::Hear { path, group, tracks }));
        } else {
            tracing::warn!(%path, "no group is free: multicast is refused");
        }
        for waiter in waiters {
            self.resume(cx, waiter, false);
        }
    }

    /// The path's group is not what its members were told: they end, and the next one asks anew.
    fn drop_group(&mut self, cx: &mut Cx, hub: &mut Hub, path: &Arc<str>) {
        let Some(old) = self.groups.joined.remove(path) else { return };
        cx.out.push(Action::Group(GroupAction::Leave(Arc::clone(path))));
        hub.ask(path, Ask::LeaveGroup { shard: cx.shard });
        let members: Vec<u32> = old.members.into_values().flatten().collect();
        for member in &members {
            // Nobody says BYE there: their connections are closed.
            if let Some(reader) = self.table.get_mut(*member as usize) {
                reader.streams.iter_mut().for_each(|stream| stream.ssrc = None);
            }
        }
        self.dismiss_readers(cx, hub, members.into_iter(), "the group of its path is another one");
    }

    /// A session listens from now on.
    pub(crate) fn enter_group(&mut self, path: &str, peer: IpAddr, index: u32) {
        if let Some(known) = self.groups.joined.get_mut(path) {
            known.members.entry(peer).or_default().push(index);
        }
    }

    /// A session listens no more; with the last one the shard leaves.
    pub(crate) fn leave_group(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        path: &Arc<str>,
        peer: IpAddr,
        index: u32,
    ) {
        let Some(known) = self.groups.joined.get_mut(path) else { return };
        if let Some(indices) = known.members.get_mut(&peer) {
            indices.retain(|other| *other != index);
            if indices.is_empty() {
                known.members.remove(&peer);
            }
        }
        self.leave_if_unused(cx, hub, path);
    }

    fn leave_if_unused(&mut self, cx: &mut Cx, hub: &mut Hub, path: &Arc<str>) {
        let groups = &mut self.groups;
        let Some(known) = groups.joined.get(path).filter(|known| known.members.is_empty()) else {
            return;
        };
        match known.state {
            // The answer is on its way, and SETUPs wait for it.
            Joining::Asked(_) => return,
            Joining::Refused => {}
            Joining::Joined(_) => {
                cx.out.push(Action::Group(GroupAction::Leave(Arc::clone(path))));
                hub.ask(path, Ask::LeaveGroup { shard: cx.shard });
            }
        }
        self.groups.joined.remove(path);
    }

    /// Every second: groups that no SETUP came to use, and senders that could not be made.
    pub(crate) fn look_after_groups(&mut self, cx: &mut Cx, hub: &mut Hub) {
        let joined: Vec<Arc<str>> = self.groups.joined.keys().cloned().collect();
        for path in &joined {
            self.leave_if_unused(cx, hub, path);
        }
        self.start_groups(cx, hub);
    }

    /// PLAY of a member: the group is sent to already. What it will be sent first nobody knows, so
    /// `RTP-Info` names its streams only.
    pub(crate) fn play_member(
        &mut self,
        cx: &Cx,
        hub: &mut Hub,
        command: &Command,
        index: u32,
    ) -> Response {
        let response = cx.answer(command).header("Range", crate::live::readers::play::live_range());
        let Some(reader) = self.table.get(index as usize) else { return response };
        let path = Arc::clone(&reader.path);
        let urls = reader.streams.iter().map(|stream| format!("url={}", stream.control_url));
        let response = response.header("RTP-Info", urls.collect::<Vec<_>>().join(","));
        self.set_reader_state(cx, index, ReaderState::Playing);
        // It sees nothing before the next picture that needs no other.
        hub.ask(&path, Ask::WantSync);
        response
    }

    /// RTCP that came to a group's port.
    pub fn handle_group_datagram(
        &mut self,
        cx: &mut Cx,
        hub: &Hub,
        path: &str,
        from: SocketAddr,
        bytes: &[u8],
    ) {
        if is_report_of_receiver(bytes) {
            let known = self.groups.joined.get(path);
            let found = known.and_then(|known| known.members.get(&from.ip())).cloned();
            self.handle_reports_of(cx, hub, &found.unwrap_or_default(), bytes);
        }
    }

    /// RTCP from a member to the address that its packets come from.
    pub(crate) fn handle_member(&mut self, cx: &Cx, hub: &Hub, from: SocketAddr, bytes: &[u8]) {
        let known = self.groups.joined.values();
        let found: Vec<u32> =
            known.filter_map(|known| known.members.get(&from.ip())).flatten().copied().collect();
        self.handle_reports_of(cx, hub, &found, bytes);
    }

    /// All of them live; two players of one host cannot be told apart.
    fn handle_reports_of(&mut self, cx: &Cx, hub: &Hub, members: &[u32], bytes: &[u8]) {
        let Ok(feedback) = rtcp::parse(bytes) else {
            cx.cells.rtcp_malformed.add(1);
            return;
        };
        let now = cx.now;
        let Some(first) = members.first() else {
            cx.cells.datagrams_unmatched.add(1);
            return;
        };
        for index in members {
            if let Some(reader) = self.table.get_mut(*index as usize) {
                reader.alive = now;
            }
        }
        self.name_streams(hub, *first);
        self.handle_reader_report(cx, *first, &feedback);
    }

    /// What a member's streams are sent under: the home knows, and others by the newest packets,
    /// which have that SSRC until the path changes its source.
    fn name_streams(&mut self, hub: &Hub, index: u32) {
        let Some(reader) = self.table.get(index as usize) else { return };
        let Some(path) = hub.paths.path(&reader.path) else { return };
        let sender = self.groups.open.get(&reader.path).and_then(|open| open.reader);
        let sender = sender.and_then(|sender| self.table.get(sender as usize));
        let of_sender = |track: u8| {
            let mut streams = sender?.streams.iter();
            streams.find(|stream| stream.track == track)?.ssrc
        };
        let of_ring = |track: u8| {
            let no = path.ring().newest_with(track, path.ring().end_no())?;
            Some(path.ring().batch(no)?.runs_of(track).first()?.ssrc)
        };
        let tracks = reader.streams.iter().map(|stream| stream.track);
        let names: Vec<Option<Ssrc>> =
            tracks.map(|track| of_sender(track).or_else(|| of_ring(track))).collect();
        let Some(reader) = self.table.get_mut(index as usize) else { return };
        for (stream, name) in reader.streams.iter_mut().zip(names) {
            stream.ssrc = name;
        }
    }
}

/// Our own reports come back to us when a player of this host listens; they are a sender's.
fn is_report_of_receiver(bytes: &[u8]) -> bool {
    !matches!(rtcp::packets(bytes).next(), Some(Ok(Packet::SenderReport { .. })))
}

//! Sessions that listen to a path's group (RFC 2326 s12.39, `multicast`), and the memberships of a
//! shard.
//!
//! ```text
//!  SETUP ;multicast --first of the shard--> JoinGroup --> owner: opens the group (`group_sender`)
//!     | held <----------- Joined(group) ------------------'
//!     `--> 200 destination, port, ttl     last one ends --> LeaveGroup
//! ```
//! A shard joins once for all of its sessions. These sessions are readers of the path that never
//! play: they end with the path, and the owner sends the packets once. Requests and reports keep
//! them alive, as over UDP. Reports are sent to the group, so a shard with sessions listens to the
//! group.
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
//! stay changes nothing. An owner that has forgotten the shard may choose another group: then the
//! sessions that were told the old group end. Bound: the sessions of a shard, and the commands that
//! the shard holds. DESIGN section 5.9.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::base::ids::Ssrc;
use crate::base::time::Mono;
use crate::live::core::groups::Group;
use crate::live::core::message::OwnerRequest;
use crate::live::core::repeat::RequestRepeat;
use crate::live::hub::Hub;
use crate::live::readers::Readers;
use crate::live::readers::held::refuse_to_hold;
use crate::live::readers::reader::{LiveReader, ReaderState};
use crate::rtcp::{self, Packet};
use crate::rtsp::range::Range;
use crate::rtsp::response::{Response, Status};
use crate::session::action::Action;
use crate::session::action::GroupAction;
use crate::session::command::{Command, Executed};
use crate::session::cx::Cx;
use crate::session::outgoing::Numbers;
use crate::session::transport::Transport;

/// Delivery of a path to a reader. The protocol is `base::carrier::Carrier`, the addresses are
/// `session::transport::Transport`: a multicast sender has both, although it is no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// The reader gets a stream of its own.
    #[default]
    Unicast,
    /// The reader listens to the path's group.
    MulticastMember,
    /// The multicast sender of a path; it is not a session.
    MulticastSender,
}

/// The multicast groups of one shard.
#[derive(Debug, Default)]
pub struct Groups {
    /// Groups that this shard sends to: those of paths with their owner here.
    pub(crate) open: HashMap<Arc<str>, OpenGroup>,
    /// Groups that sessions of this shard listen to.
    joined: HashMap<Arc<str>, Membership>,
    /// Serial of the newest membership.
    serial: u32,
}

/// A group that this shard sends to.
#[derive(Debug)]
pub(crate) struct OpenGroup {
    pub(crate) group: Group,
    /// Reader that sends to the group, once there is one.
    pub(crate) reader: Option<u32>,
}

#[derive(Debug)]
struct Membership {
    state: Joining,
    /// Serial that tells answers for this membership from answers for an earlier one.
    serial: u32,
    /// When the request to the owner is repeated.
    repeat: RequestRepeat,
    /// Sessions by the address of their client, which identifies a report's sender.
    members: HashMap<IpAddr, Vec<u32>>,
}

#[derive(Debug)]
enum Joining {
    /// The owner has not answered; the waiting commands.
    Asked(BTreeSet<u64>),
    Joined(Group),
    /// No group is free; a SETUP asks again a second later.
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

    /// False when the owner has answered that no group is free.
    fn may_join(&self, path: &str) -> bool {
        let is_refused = |known: &Membership| matches!(known.state, Joining::Refused);
        !self.joined.get(path).is_some_and(is_refused)
    }

    /// A command does not wait for the path's group any more.
    pub(crate) fn forget_waiter(&mut self, path: &str, waiter: u64) {
        if let Some(Membership { state: Joining::Asked(waiters), .. }) = self.joined.get_mut(path) {
            waiters.remove(&waiter);
        }
    }

    /// Paths and serials of memberships for which `JoinGroup` is due: the owner has not answered
    /// for a while, or a renewal is due.
    pub(crate) fn due_joins(&mut self, now: Mono, is_renewal: bool) -> Vec<(Arc<str>, u32)> {
        let joined = self.joined.iter_mut();
        let due = joined.filter_map(|(path, known)| {
            let is_due = match known.state {
                Joining::Asked(_) => known.repeat.is_due(now),
                Joining::Joined(_) => is_renewal,
                Joining::Refused => false,
            };
            is_due.then(|| (Arc::clone(path), known.serial))
        });
        due.collect()
    }

    /// Whether there are groups to look after.
    pub(crate) fn has_work(&self) -> bool {
        !self.open.is_empty() || !self.joined.is_empty()
    }
}

impl Membership {
    fn new(now: Mono, serial: u32) -> Self {
        let state = Joining::Asked(BTreeSet::new());
        Self { state, serial, repeat: RequestRepeat::new(now), members: HashMap::new() }
    }
}

/// Transport of a member's track.
pub(crate) fn group_transport(group: Group, track: u8) -> Transport {
    let (rtp, rtcp) = group.ports(track);
    let at = |port| SocketAddr::new(group.address.into(), port);
    Transport::Group { rtp: at(rtp), rtcp: at(rtcp) }
}

impl Readers {
    /// Whether this session can be a member of the path's group.
    pub(crate) fn serves_group(&self, hub: &Hub, path: &str, reader: Option<&LiveReader>) -> bool {
        hub.multicast.is_some()
            && self.groups.may_join(path)
            && reader.is_none_or(|reader| reader.delivery == Delivery::MulticastMember)
    }

    /// The path's group; the command is held until the group is known.
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
            hub.request(path, OwnerRequest::JoinGroup { shard: cx.shard, serial });
        }
        Err(Executed::Later)
    }

    /// The owner has answered `JoinGroup`.
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
            // A repeated answer.
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
            tracing::warn!(code = "HE-W306", %path, "multicast refused: no group is free");
        }
        for waiter in waiters {
            self.resume(cx, waiter, false);
        }
    }

    /// The path has another group than its members were told: the members end, and new ones ask
    /// again.
    fn drop_group(&mut self, cx: &mut Cx, hub: &mut Hub, path: &Arc<str>) {
        let Some(old) = self.groups.joined.remove(path) else { return };
        cx.out.push(Action::Group(GroupAction::Leave(Arc::clone(path))));
        hub.request(path, OwnerRequest::LeaveGroup { shard: cx.shard });
        let members: Vec<u32> = old.members.into_values().flatten().collect();
        for member in &members {
            // A member's client gets no BYE: its connection is closed.
            if let Some(reader) = self.table.get_mut(*member as usize) {
                reader
                    .streams
                    .iter_mut()
                    .for_each(|stream| stream.outgoing.numbers = Numbers::Source(None));
            }
        }
        self.dismiss_readers(cx, hub, members.into_iter(), "the path has another multicast group");
    }

    /// A session listens to the group from now on.
    pub(crate) fn enter_group(&mut self, path: &str, peer: IpAddr, index: u32) {
        if let Some(known) = self.groups.joined.get_mut(path) {
            known.members.entry(peer).or_default().push(index);
        }
    }

    /// A session has stopped listening; after the last one the shard leaves the group.
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
            // The answer is on its way, and SETUP requests wait for it.
            Joining::Asked(_) => return,
            Joining::Refused => {}
            Joining::Joined(_) => {
                cx.out.push(Action::Group(GroupAction::Leave(Arc::clone(path))));
                hub.request(path, OwnerRequest::LeaveGroup { shard: cx.shard });
            }
        }
        self.groups.joined.remove(path);
    }

    /// Runs every second: leaves groups that no SETUP came to use, retries senders that failed.
    pub(crate) fn look_after_groups(&mut self, cx: &mut Cx, hub: &mut Hub) {
        let joined: Vec<Arc<str>> = self.groups.joined.keys().cloned().collect();
        for path in &joined {
            self.leave_if_unused(cx, hub, path);
        }
        self.start_groups(cx, hub);
    }

    /// Answers PLAY of a member: the group is being sent to already. The first packet that the
    /// member will receive is unknown, so `RTP-Info` names the streams only.
    pub(crate) fn play_member(
        &mut self,
        cx: &Cx,
        hub: &mut Hub,
        command: &Command,
        index: u32,
    ) -> Response {
        let response = cx.answer(command).header("Range", Range::FROM_NOW.to_string());
        let Some(reader) = self.table.get(index as usize) else { return response };
        let path = Arc::clone(&reader.path);
        let urls =
            reader.streams.iter().map(|stream| format!("url={}", stream.outgoing.control_url));
        let response = response.header("RTP-Info", urls.collect::<Vec<_>>().join(","));
        self.set_reader_state(cx, index, ReaderState::Playing);
        // The member shows nothing before the next key frame.
        hub.request(&path, OwnerRequest::WantSync);
        response
    }

    /// Takes RTCP that arrived at a group's port.
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

    /// Takes RTCP that a member sent to the address that its packets come from.
    pub(crate) fn handle_member(&mut self, cx: &Cx, hub: &Hub, from: SocketAddr, bytes: &[u8]) {
        let known = self.groups.joined.values();
        let found: Vec<u32> =
            known.filter_map(|known| known.members.get(&from.ip())).flatten().copied().collect();
        self.handle_reports_of(cx, hub, &found, bytes);
    }

    /// Keeps all these members alive: two players of one host cannot be told apart.
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
                reader.client.alive = now;
            }
        }
        self.name_streams(hub, *first);
        self.handle_reader_report(cx, *first, &feedback);
    }

    /// Sets the SSRCs of a member's streams. The owner's shard knows them from its sender. Other
    /// shards take them from the newest packets, which have these SSRCs until the path changes its
    /// source.
    fn name_streams(&mut self, hub: &Hub, index: u32) {
        let Some(reader) = self.table.get(index as usize) else { return };
        let Some(path) = hub.paths.path(&reader.path) else { return };
        let sender = self.groups.open.get(&reader.path).and_then(|open| open.reader);
        let sender = sender.and_then(|sender| self.table.get(sender as usize));
        let of_sender = |track: u8| {
            let mut streams = sender?.streams.iter();
            streams.find(|stream| stream.track == track)?.outgoing.ssrc()
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
            stream.outgoing.numbers = Numbers::Source(name);
        }
    }
}

/// Whether RTCP is a receiver's. With a player on this host the server receives its own reports,
/// which are sender reports.
fn is_report_of_receiver(bytes: &[u8]) -> bool {
    !matches!(rtcp::packets(bytes).next(), Some(Ok(Packet::SenderReport { .. })))
}

//! The multicast sender of a path: one more reader, whose streams go to the group's ports.
//!
//! ```text
//!  OpenGroup --> pair of sockets for groups? --no--> Action::OpenGroupPair --> again
//!                 `--yes--> path here? --no--> Subscribe --> again
//!                            `--yes--> reader: all tracks, from the next key frame on
//! ```
//! Players join at any time, so there is no instant start; the source is asked for a key frame when
//! a player joins. Invariant: an open group has one reader, or a retry follows every second.
//! Bound: `GROUPS_MAX` groups. DESIGN section 5.9.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::carrier::Carrier;
use crate::base::wheel::Timer;
use crate::live::core::groups::Group;
use crate::live::core::message::OwnerRequest;
use crate::live::core::path::ReaderKey;
use crate::live::core::paths::Wanted;
use crate::live::core::start::StartPolicy;
use crate::live::hub::Hub;
use crate::live::multicast::member::{Delivery, OpenGroup};
use crate::live::readers::Readers;
use crate::live::readers::log::SkipsTold;
use crate::live::readers::reader::{LiveReader, LiveStream, ReaderState, destination, payload};
use crate::session::action::Action;
use crate::session::action::GroupAction;
use crate::session::client::Client;
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;
use crate::session::outgoing::{Numbers, Outgoing};
use crate::session::transport::Transport;

impl Readers {
    /// Starts to send a path with its owner here to its group: the first shard has joined.
    pub(crate) fn open_group(&mut self, cx: &mut Cx, hub: &mut Hub, path: &Arc<str>, group: Group) {
        let address = group.address;
        tracing::info!(code = "HE-I312", %path, group = %address, "multicast group {address} opened");
        let old = self.groups.open.insert(Arc::clone(path), OpenGroup { group, reader: None });
        debug_assert!(old.is_none(), "a path has one group");
        self.start_groups(cx, hub);
    }

    /// Stops sending a path to its group: the last shard has left.
    pub(crate) fn close_group(&mut self, cx: &mut Cx, hub: &mut Hub, path: &Arc<str>) {
        let Some(open) = self.groups.open.remove(path) else { return };
        let address = open.group.address;
        tracing::info!(code = "HE-I313", %path, group = %address, "multicast group {address} closed");
        if let Some(index) = open.reader {
            self.end_reader(cx, hub, index, Some("nobody listens"));
        }
    }

    /// Starts the senders of open groups that have none.
    pub fn start_groups(&mut self, cx: &mut Cx, hub: &mut Hub) {
        let is_idle = |open: &OpenGroup| open.reader.is_none();
        let idle: Vec<Arc<str>> = {
            let open = self.groups.open.iter().filter(|(_, open)| is_idle(open));
            open.map(|(path, _)| Arc::clone(path)).collect()
        };
        for path in idle {
            self.start_group(cx, hub, &path);
        }
    }

    fn start_group(&mut self, cx: &mut Cx, hub: &mut Hub, path: &Arc<str>) {
        let Some(pair) = cx.sockets.group_pair() else {
            if let Some(settings) = hub.multicast {
                cx.out.push(Action::Group(GroupAction::OpenPair(settings)));
            }
            return;
        };
        let limits = cx.path_limits(path);
        match hub.paths.want(path, limits, NOBODY, cx.now) {
            Wanted::Here => self.begin_group(cx, hub, path, pair),
            Wanted::Request => {
                let rules = cx.path_rules(path);
                hub.request(path, OwnerRequest::Subscribe { shard: cx.shard, rules });
            }
            Wanted::Requested | Wanted::TooMany => {}
        }
    }

    fn begin_group(&mut self, cx: &mut Cx, hub: &mut Hub, path: &Arc<str>, pair: u16) {
        let now = cx.now;
        let place = self.table.vacant_key();
        let index = u32::try_from(place).unwrap_or(u32::MAX);
        let Some(found) = hub.paths.path_mut(path) else { return };
        let Some(open) = self.groups.open.get_mut(path) else { return };
        let Ok(key) = found.add_reader(place as u64, Carrier::Multicast) else { return };
        let tracks: Vec<(u8, u32)> = found.description().tracks.iter().map(payload).collect();
        let mut streams = Vec::with_capacity(tracks.len());
        for (track, payload) in (0..).zip(tracks) {
            let (rtp, rtcp) = open.group.ports(track);
            let at = |port| SocketAddr::new(open.group.address.into(), port);
            let (rtp, rtcp) = (at(rtp), at(rtcp));
            cx.sockets.place_group(rtp, rtcp, (SessionRef::Reader(index), track));
            let transport = Transport::Udp { pair, rtp, rtcp };
            if found.add_stream(key, track, destination(transport)).is_err() {
                continue;
            }
            let numbers = Numbers::Source(None);
            let outgoing = Outgoing::new(payload, numbers, transport, String::new());
            streams.push(LiveStream { track, outgoing });
        }
        found.prepare(key, StartPolicy::Live);
        found.play(key, now);
        open.reader = Some(index);
        let reader = new_sender(cx, hub, path, key, streams);
        self.table.insert(reader);
        hub.is_ready = true;
        hub.request(path, OwnerRequest::WantSync);
    }
}

fn new_sender(
    cx: &Cx,
    hub: &mut Hub,
    path: &Arc<str>,
    key: ReaderKey,
    streams: Vec<LiveStream>,
) -> LiveReader {
    let peer = streams.iter().find_map(|stream| match stream.outgoing.transport {
        Transport::Udp { rtp, .. } => Some(rtp),
        Transport::Tcp { .. } | Transport::Group { .. } => None,
    });
    LiveReader {
        client: Client::nobody(cx, peer.unwrap_or_else(|| SocketAddr::from(([0; 4], 0)))),
        skips_told: SkipsTold::default(),
        path: Arc::clone(path),
        key,
        streams,
        delivery: Delivery::MulticastSender,
        state: ReaderState::Playing,
        serial: hub.next_serial(),
        wakes: None,
        timer: Timer::NONE,
        report_due: cx.now,
    }
}

/// The waiter of a path that is wanted for a group: no command waits. No reader has this number.
const NOBODY: u64 = u64::MAX;

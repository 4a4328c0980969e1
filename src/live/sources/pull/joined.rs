//! Joins a pull client to its path, its connection and its packets.
//!
//! ```text
//!  owner --StartPull--> [client] --Connect, Write, HangUp--> shard --> camera's connection
//!    ^                    |  `--Claim--> publisher (`Way::Pulled`) <--packets-- both
//!    `----PullFailed------'
//! ```
//! A source and its client have one number. A connection is named by this number and the attempt,
//! so that events of an earlier connection are ignored.
//!
//! Over UDP no two tracks of one host may share a pair of ports: some servers, such as this one,
//! send all streams from one port, and only the client's address tells these streams apart
//! (reference 001). A pair is reserved for the host before SETUP; without a free pair one is
//! opened.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Bound;
use std::sync::Arc;

use rand::Rng;

use crate::base::host::Host;
use crate::base::ids::CameraName;
use crate::base::random;
use crate::live::core::demux::{SocketName, Target};
use crate::live::core::latch::AddressLatch;
use crate::live::core::limits::PATHS_MAX;
use crate::live::core::message::OwnerRequest;
use crate::live::hub::Hub;
use crate::live::sources::announced::{Origin, description};
use crate::live::sources::publisher::{Claimant, PublisherState, Way};
use crate::live::sources::publishers::Publishers;
use crate::live::sources::pull::{PullClient, PullError, PullOrder, PullPlan, PullWay};
use crate::live::sources::table::{OfPath, SourceTable};
use crate::poll::poll_table::EntryKey;
use crate::poll::task::{Task, TaskClass, TaskOwner, Work};
use crate::rtsp::transport::Lower;
use crate::sdp::session::SessionSdp;
use crate::session::action::Action;
use crate::session::cx::Cx;
use crate::session::transport::Transport;

/// A source that is being pulled.
#[derive(Debug)]
pub(crate) struct Pull {
    pub(crate) client: PullClient,
    path: Arc<str>,
    /// Number of the connection attempt.
    attempt: u32,
    connection: Option<EntryKey>,
    /// Remote and local address of the connection.
    peer: SocketAddr,
    local: IpAddr,
    /// Reserved pair of ports of each track.
    pairs: Vec<(u8, u16)>,
}

/// The pulled sources of one shard. What needs the publishers of the shard takes them as an
/// argument.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    /// By the number of their publisher.
    table: SourceTable<Pull>,
    /// Transport of each path that worked last.
    ways: HashMap<Arc<str>, Lower>,
}

impl OfPath for Pull {
    fn path(&self) -> &Arc<str> {
        &self.path
    }
}

impl Pulls {
    /// Starts to pull a camera for an owner on this shard.
    pub(crate) fn start(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        publishers: &mut Publishers,
        path: &Arc<str>,
        mut plan: PullPlan,
    ) {
        // The owner starts one client at a time; two would fight for the path.
        if let Some(number) = self.number_of(path) {
            self.stop(cx, hub, publishers, number);
        }
        plan.worked = self.ways.get(path).copied();
        tracing::debug!(%path, url = %plan.url, "a source is pulled");
        let number = hub.next_serial();
        let pull = Pull {
            client: PullClient::new(plan, cx.now),
            path: Arc::clone(path),
            attempt: 0,
            connection: None,
            peer: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            local: Ipv4Addr::LOCALHOST.into(),
            pairs: Vec::new(),
        };
        self.table.insert(number, pull);
        self.settle(cx, hub, publishers, number);
    }

    /// Number of the source that is pulled for a path.
    pub(crate) fn number_of(&self, path: &str) -> Option<u32> {
        self.table.number_of(path)
    }

    /// Numbers of sources beyond a bound, in order.
    pub(crate) fn range_from(&self, from: Bound<u32>) -> impl Iterator<Item = u32> {
        self.table.range_from(from)
    }

    /// Whether nothing is pulled.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Stops pulling a source that is not needed any more.
    pub(crate) fn stop(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        publishers: &mut Publishers,
        number: u32,
    ) {
        let Some(pull) = self.table.get(number) else { return };
        tracing::info!(code = "HE-I310", path = %pull.path, "pull stopped");
        self.end(cx, hub, publishers, number);
    }

    /// Stops all pulls, because the server stops.
    pub(crate) fn stop_all(&mut self, cx: &mut Cx, hub: &mut Hub, publishers: &mut Publishers) {
        let all: Vec<u32> = self.range_from(Bound::Unbounded).collect();
        for number in all {
            self.end(cx, hub, publishers, number);
        }
    }

    fn end(&mut self, cx: &mut Cx, hub: &mut Hub, publishers: &mut Publishers, number: u32) {
        self.tell(cx, hub, publishers, number, PullClient::stop);
        self.table.remove(number);
    }

    /// Whether an event of a connection belongs to the present attempt.
    pub(crate) fn is_current(&self, name: CameraName) -> bool {
        self.table.get(name.source).is_some_and(|pull| pull.attempt == name.attempt)
    }

    fn current_mut(&mut self, name: CameraName) -> Option<&mut Pull> {
        self.table.get_mut(name.source).filter(|pull| pull.attempt == name.attempt)
    }

    /// The connection has an entry in the poll table. False when it is not needed any more.
    pub(crate) fn handle_opened(&mut self, name: CameraName, entry: EntryKey) -> bool {
        let pull = self.current_mut(name);
        pull.map(|pull| pull.connection = Some(entry)).is_some()
    }

    /// Sets the local address of the connection.
    pub(crate) fn set_local(&mut self, name: CameraName, local: IpAddr) {
        if let Some(pull) = self.current_mut(name) {
            pull.local = local;
        }
    }

    /// Address of a camera.
    pub(crate) fn peer(&self, number: u32) -> Option<SocketAddr> {
        self.table.get(number).map(|pull| pull.peer)
    }

    /// Passes an event to a client, and carries out the client's orders.
    pub(crate) fn tell(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        publishers: &mut Publishers,
        number: u32,
        event: impl FnOnce(&mut PullClient),
    ) {
        let Some(pull) = self.table.get_mut(number) else { return };
        event(&mut pull.client);
        self.settle(cx, hub, publishers, number);
    }

    /// Checks a pull about once a second.
    pub(crate) fn look_after(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        publishers: &mut Publishers,
        number: u32,
    ) {
        let now = cx.now;
        let Some(pull) = self.table.get_mut(number) else { return };
        if let Some(publisher) = publishers.get_mut(&number) {
            if publisher.source.counts().packets > 0 {
                pull.client.handle_media();
                if let Some(way) = pull.client.worked()
                    && (self.ways.len() < PATHS_MAX || self.ways.contains_key(&pull.path))
                {
                    self.ways.insert(Arc::clone(&pull.path), way);
                }
            }
            if publisher.has_said_bye(now) {
                self.tell(cx, hub, publishers, number, |client| client.fail(PullError::Bye));
            }
        }
        self.tell(cx, hub, publishers, number, |client| client.handle_tick(now));
    }

    /// Carries out the orders of a client, in order.
    fn settle(&mut self, cx: &mut Cx, hub: &mut Hub, publishers: &mut Publishers, number: u32) {
        // Bounded: an order that is carried out at once moves the client on by a step.
        for _ in 0..SETTLE_ROUNDS_MAX {
            let Some(pull) = self.table.get_mut(number) else { return };
            let orders = std::mem::take(&mut pull.client.out);
            if orders.is_empty() {
                return;
            }
            for order in orders {
                self.apply(cx, hub, publishers, number, order);
            }
        }
    }

    fn apply(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        publishers: &mut Publishers,
        number: u32,
        order: PullOrder,
    ) {
        let Some(pull) = self.table.get_mut(number) else { return };
        match order {
            PullOrder::Resolve { host, zone } => {
                pull.attempt = pull.attempt.wrapping_add(1);
                let name = CameraName { source: number, attempt: pull.attempt };
                let (class, work) = (TaskClass::Control, Work::Resolve { host, zone });
                let task = Task { shard: cx.shard, owner: TaskOwner::Camera(name), class, work };
                cx.out.push(Action::Submit(task));
            }
            PullOrder::Connect(to) => {
                pull.attempt = pull.attempt.wrapping_add(1);
                (pull.peer, pull.connection) = (to, None);
                let camera = CameraName { source: number, attempt: pull.attempt };
                let tls = pull.client.security();
                cx.out.push(Action::Connect { camera, to, tls });
            }
            PullOrder::Send(bytes) => {
                if let Some(entry) = pull.connection {
                    cx.out.push(Action::Write { entry, bytes });
                }
            }
            PullOrder::Disconnect => {
                pull.attempt = pull.attempt.wrapping_add(1);
                let entry = pull.connection.take();
                cx.out.extend(entry.map(Action::HangUp));
                self.forget_connection(cx, hub, publishers, number);
            }
            PullOrder::Claim(sdp) => self.claim(cx, hub, publishers, number, *sdp),
            PullOrder::WantPorts(track) => self.find_ports(cx, number, track, true),
            PullOrder::SetUp { track, way } => self.set_up(cx, publishers, number, track, way),
            PullOrder::Begin => begin(cx, hub, publishers, number),
            PullOrder::Failed(error) => {
                let path = Arc::clone(&pull.path);
                if pull.client.worked().is_none() {
                    // The transport that worked may have stopped working.
                    self.ways.remove(&path);
                }
                self.table.remove(number);
                hub.request(&path, OwnerRequest::PullFailed { reason: error.to_string() });
            }
        }
    }

    /// Removes the publisher of a source together with its connection; its packets are fed before.
    fn forget_connection(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        publishers: &mut Publishers,
        number: u32,
    ) {
        if let Some(mut publisher) = publishers.forget(cx, hub, number)
            && let Some(generation) = publisher.generation()
        {
            let path = Arc::clone(publisher.source.path());
            while let Some(batch) = publisher.source.finish() {
                hub.request(&path, OwnerRequest::Feed { generation, batch });
            }
        }
        cx.demux.forget(number);
        let Some(pull) = self.table.get_mut(number) else { return };
        for (_, pair) in std::mem::take(&mut pull.pairs) {
            if pair != 0 {
                cx.close_unused_pair(pair);
            }
        }
    }

    fn claim(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        publishers: &mut Publishers,
        number: u32,
        sdp: SessionSdp,
    ) {
        let Some(pull) = self.table.get_mut(number) else { return };
        let mut rng = random::rng();
        let path = Arc::clone(&pull.path);
        let origin = Origin {
            local: pull.local,
            session_id: u64::from(rng.next_u32()),
            version: cx.utc_ns.unsigned_abs() / 1_000_000_000,
        };
        let description = match description(&sdp, &path, origin) {
            Ok(description) => Arc::new(description),
            Err(error) => {
                pull.client.fail(error.into());
                return;
            }
        };
        let (connection, peer) = (pull.connection, pull.peer);
        let (way, reply_to) = (Way::Pulled, None);
        let claimant = Claimant { way, reply_to, sdp, origin, description, connection, peer };
        publishers.claim(cx, hub, number, &path, claimant);
    }

    /// Reserves ports for a track; without a free pair one is opened.
    fn find_ports(&mut self, cx: &mut Cx, number: u32, track: u8, may_open: bool) {
        let Some(pull) = self.table.get_mut(number) else { return };
        let (host, target) = (Host::of(pull.peer), Target { source: number, track });
        let demux = &mut cx.demux;
        let free =
            cx.sockets.places_for(None).into_iter().find(|pair| !demux.uses_host(*pair, host));
        let Some(pair) = free else {
            if may_open && cx.sockets.has_room() {
                cx.out.push(Action::OpenPair { source: number, track });
            } else {
                let now = cx.now;
                pull.client.handle_ports(None, now);
            }
            return;
        };
        // The camera's port is not known yet: SETUP or the first packet tells it.
        let any = host.at(0);
        let reserved = demux.expect_both(pair, [any, any], target);
        pull.pairs.push((track, pair));
        let ports = reserved.ok().and_then(|()| cx.sockets.ports(pair));
        pull.client.handle_ports(ports, cx.now);
    }

    /// A new pair of sockets for a source is open, or could not be opened.
    pub(crate) fn handle_pair(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        publishers: &mut Publishers,
        number: u32,
        track: u8,
    ) {
        self.find_ports(cx, number, track, false);
        self.settle(cx, hub, publishers, number);
    }

    fn set_up(
        &mut self,
        cx: &mut Cx,
        publishers: &mut Publishers,
        number: u32,
        track: u8,
        way: PullWay,
    ) {
        let Some(pull) = self.table.get_mut(number) else { return };
        let reserved = pull.pairs.iter().find(|(of, _)| *of == track).map(|(_, pair)| *pair);
        let transport = match (way, reserved) {
            (PullWay::Tcp { channels: (channel, rtcp_channel) }, _) => {
                Transport::Tcp { channel, rtcp_channel }
            }
            (PullWay::Udp { server_port, source }, Some(pair)) => {
                let peer = Host::of(pull.peer);
                let (rtp_port, rtcp_port) = server_port.unwrap_or_default();
                let target = Target { source: number, track };
                let demux = &mut cx.demux;
                if server_port.is_some() {
                    demux.forget_track(target);
                }
                let other = source.map(|ip| peer.with_ip(ip)).filter(|source| *source != peer);
                for host in [Some(peer).filter(|_| server_port.is_some()), other] {
                    let Some(host) = host else { continue };
                    for (is_rtcp, port) in [(false, rtp_port), (true, rtcp_port)] {
                        let socket = SocketName { pair, is_rtcp };
                        // The host has no other expected track on this pair.
                        let _taken = demux.expect(socket, host.at(port), target);
                    }
                }
                Transport::Udp { pair, rtp: peer.at(rtp_port), rtcp: peer.at(rtcp_port) }
            }
            (PullWay::Udp { .. }, None) => {
                pull.client.fail(PullError::Transport);
                return;
            }
        };
        let Some(publisher) = publishers.get_mut(&number) else { return };
        // The demultiplexer has checked the address.
        publisher.source.set_up(track, AddressLatch::Any, AddressLatch::Any);
        if let Some(place) = publisher.tracks.get_mut(usize::from(track)) {
            place.transport = Some(transport);
        }
    }
}

/// Prepares for packets: opens NATs and firewalls on the server's side for them.
fn begin(cx: &mut Cx, hub: &mut Hub, publishers: &mut Publishers, number: u32) {
    let now = cx.now;
    let Some(publisher) = publishers.get_mut(&number) else { return };
    if let PublisherState::Announced(generation) = publisher.state {
        publisher.source.grant(generation, now);
        publisher.state = PublisherState::Recording(generation);
    }
    for transport in publisher.tracks.iter().filter_map(|track| track.transport) {
        if let Transport::Udp { pair, rtp, rtcp } = transport
            && rtp.port() != 0
        {
            cx.out.push(Action::PunchNat { pair, rtp, rtcp });
        }
    }
    publishers.note_up(cx, hub, number);
}

/// More steps than can follow one another without input from outside.
const SETTLE_ROUNDS_MAX: usize = 16;

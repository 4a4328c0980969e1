//! Joins a pull client to its path, its connection and its packets.
//!
//! ```text
//!  home --StartPull--> [client] --Connect, Write, HangUp--> shard --> camera's connection
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

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rand::Rng;

use crate::base::host::Host;
use crate::base::ids::CameraName;
use crate::live::core::demux::{SocketName, Target};
use crate::live::core::latch::AddressLatch;
use crate::live::core::limits::PATHS_MAX;
use crate::live::core::message::{Ask, RefusedError};
use crate::live::hub::Hub;
use crate::live::sources::Sources;
use crate::live::sources::announced::{Origin, description};
use crate::live::sources::publisher::{Claimant, PublisherState, Way};
use crate::live::sources::pull::{PullClient, PullError, PullOrder, PullPlan, PullWay};
use crate::poll::poll_table::EntryKey;
use crate::poll::task::{ResolveFailure, Task, TaskClass, TaskOwner, Work};
use crate::rtsp::reader::{ClientResponse, ParseError, Request};
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

impl Sources {
    /// Starts to pull a camera for a home on this shard.
    pub(crate) fn start_pull(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        path: &Arc<str>,
        mut plan: PullPlan,
    ) {
        // The home starts one client at a time; two would fight for the path.
        self.stop_pull(cx, hub, path);
        plan.worked = self.pull_ways.get(path).copied();
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
        self.pulls.insert(number, pull);
        self.settle_pull(cx, hub, number);
    }

    /// Stops pulling a path that is not needed any more.
    pub(crate) fn stop_pull(&mut self, cx: &mut Cx, hub: &mut Hub, path: &Arc<str>) {
        let found = self.pulls.iter().find(|(_, pull)| pull.path == *path);
        if let Some(number) = found.map(|(number, _)| *number) {
            tracing::info!(code = "HE-I310", %path, "pull stopped");
            self.end_pull(cx, hub, number);
        }
    }

    /// Stops all pulls, because the server stops.
    pub(crate) fn stop_pulls(&mut self, cx: &mut Cx, hub: &mut Hub) {
        for number in self.pulls.keys().copied().collect::<Vec<_>>() {
            self.end_pull(cx, hub, number);
        }
    }

    fn end_pull(&mut self, cx: &mut Cx, hub: &mut Hub, number: u32) {
        self.with_pull(cx, hub, number, PullClient::stop);
        self.pulls.remove(&number);
    }

    /// Passes an event to a client, and carries out the client's orders.
    pub(crate) fn with_pull(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        number: u32,
        tell: impl FnOnce(&mut PullClient),
    ) {
        let Some(pull) = self.pulls.get_mut(&number) else { return };
        tell(&mut pull.client);
        self.settle_pull(cx, hub, number);
    }

    fn with_camera(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        name: CameraName,
        tell: impl FnOnce(&mut PullClient),
    ) -> bool {
        let pull = self.pulls.get(&name.source);
        let is_known = pull.is_some_and(|pull| pull.attempt == name.attempt);
        if is_known {
            self.with_pull(cx, hub, name.source, tell);
        }
        is_known
    }

    /// The resolver has answered for a client.
    pub fn handle_resolved(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        name: CameraName,
        result: &Result<Vec<Host>, ResolveFailure>,
    ) {
        let (now, result) = (cx.now, result.as_deref());
        self.with_camera(cx, hub, name, |client| client.handle_resolved(result, now));
    }

    /// The connection to a camera has an entry in the poll table. False when it is not needed any
    /// more.
    pub fn handle_camera_opened(&mut self, name: CameraName, entry: EntryKey) -> bool {
        let Some(pull) = self.pulls.get_mut(&name.source) else { return false };
        if pull.attempt != name.attempt {
            return false;
        }
        pull.connection = Some(entry);
        true
    }

    /// The connection is established, with its local address, or has failed.
    pub fn handle_camera_connected(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        name: CameraName,
        result: Result<IpAddr, &str>,
    ) {
        let now = cx.now;
        match result {
            Ok(local) => {
                if let Some(pull) = self.pulls.get_mut(&name.source)
                    && pull.attempt == name.attempt
                {
                    pull.local = local;
                }
                self.with_camera(cx, hub, name, |client| client.handle_connected(now));
            }
            Err(why) => {
                self.with_camera(cx, hub, name, |client| client.handle_refused(why, now));
            }
        }
    }

    /// The camera has sent an answer.
    pub fn handle_camera_answer(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        name: CameraName,
        answer: &ClientResponse,
    ) {
        let now = cx.now;
        let pull = self.pulls.get(&name.source);
        if pull.is_some_and(|pull| pull.attempt == name.attempt)
            && let Some(publisher) = self.publishers.get_mut(&name.source)
        {
            publisher.source.handle_sign_of_life(now);
        }
        self.with_camera(cx, hub, name, |client| client.handle_answer(answer, now));
    }

    /// The camera has sent a request.
    pub fn handle_camera_request(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        name: CameraName,
        request: &Request,
    ) {
        let utc_s = cx.utc_ns.div_euclid(1_000_000_000);
        self.with_camera(cx, hub, name, |client| client.handle_request(request, utc_s));
    }

    /// Address of a camera.
    #[must_use]
    pub fn camera_address(&self, name: CameraName) -> Option<SocketAddr> {
        self.pulls.get(&name.source).map(|pull| pull.peer)
    }

    /// The camera has sent bytes that are not RTSP.
    pub fn handle_camera_garbage(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        name: CameraName,
        error: ParseError,
    ) {
        self.with_camera(cx, hub, name, |client| client.fail(PullError::Garbage(error)));
    }

    /// The connection has closed.
    pub fn handle_camera_closed(&mut self, cx: &mut Cx, hub: &mut Hub, name: CameraName) {
        let now = cx.now;
        self.with_camera(cx, hub, name, |client| client.handle_closed(now));
    }

    /// An interleaved packet has arrived on the connection of a camera.
    pub fn handle_camera_frame(
        &mut self,
        cx: &mut Cx,
        name: CameraName,
        channel: u8,
        bytes: &[u8],
    ) {
        let pull = self.pulls.get(&name.source);
        if pull.is_some_and(|pull| pull.attempt == name.attempt) {
            self.publishers.handle_frame(cx, name.source, channel, bytes);
        }
    }

    /// The home has granted the path.
    pub(crate) fn handle_pull_granted(&mut self, cx: &mut Cx, hub: &mut Hub, number: u32) {
        let now = cx.now;
        self.with_pull(cx, hub, number, |client| client.handle_granted(now));
    }

    /// The home has refused the path.
    pub(crate) fn handle_pull_refused(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        number: u32,
        why: RefusedError,
    ) {
        self.with_pull(cx, hub, number, |client| client.fail(PullError::NotGranted(why)));
    }

    /// The server has ended the source, as a rule because it is silent.
    pub(crate) fn handle_pull_dismissed(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        number: u32,
        why: &'static str,
    ) {
        self.with_pull(cx, hub, number, |client| client.fail(PullError::Ended(why)));
    }

    /// Checks a pull about once a second.
    pub(crate) fn look_after_pull(&mut self, cx: &mut Cx, hub: &mut Hub, number: u32) {
        let now = cx.now;
        let publisher = self.publishers.get(&number);
        if publisher.is_some_and(|publisher| publisher.source.counts().packets > 0)
            && let Some(pull) = self.pulls.get_mut(&number)
        {
            pull.client.handle_media();
            let way = pull.client.worked();
            if let Some(way) = way
                && (self.pull_ways.len() < PATHS_MAX || self.pull_ways.contains_key(&pull.path))
            {
                self.pull_ways.insert(Arc::clone(&pull.path), way);
            }
        }
        let publisher = self.publishers.get_mut(&number);
        if publisher.is_some_and(|publisher| publisher.has_said_bye(now)) {
            self.with_pull(cx, hub, number, |client| client.fail(PullError::Bye));
        }
        self.with_pull(cx, hub, number, |client| client.handle_tick(now));
    }

    /// Carries out the orders of a client, in order.
    fn settle_pull(&mut self, cx: &mut Cx, hub: &mut Hub, number: u32) {
        // Bounded: an order that is carried out at once moves the client on by a step.
        for _ in 0..SETTLE_ROUNDS_MAX {
            let Some(pull) = self.pulls.get_mut(&number) else { return };
            let orders = std::mem::take(&mut pull.client.out);
            if orders.is_empty() {
                return;
            }
            for order in orders {
                self.obey_pull(cx, hub, number, order);
            }
        }
    }

    fn obey_pull(&mut self, cx: &mut Cx, hub: &mut Hub, number: u32, order: PullOrder) {
        let Some(pull) = self.pulls.get_mut(&number) else { return };
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
                cx.out.push(Action::Connect { camera, to });
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
                self.forget_fetched(cx, hub, number);
            }
            PullOrder::Claim(sdp) => self.claim_pulled(cx, hub, number, *sdp),
            PullOrder::WantPorts(track) => self.find_pull_ports(cx, number, track, true),
            PullOrder::SetUp { track, way } => self.set_up_pulled(cx, number, track, way),
            PullOrder::Begin => self.begin_pulled(cx, hub, number),
            PullOrder::Failed(error) => {
                let path = Arc::clone(&pull.path);
                if pull.client.worked().is_none() {
                    // The transport that worked may have stopped working.
                    self.pull_ways.remove(&path);
                }
                self.pulls.remove(&number);
                hub.ask(&path, Ask::PullFailed { reason: error.to_string() });
            }
        }
    }

    /// Removes the publisher of a source together with its connection; its packets are fed before.
    fn forget_fetched(&mut self, cx: &mut Cx, hub: &mut Hub, number: u32) {
        if let Some(mut publisher) = self.forget_publisher(cx, hub, number)
            && let Some(generation) = publisher.generation()
        {
            let path = Arc::clone(publisher.source.path());
            while let Some(batch) = publisher.source.finish() {
                hub.ask(&path, Ask::Feed { generation, batch });
            }
        }
        cx.demux.forget(number);
        let Some(pull) = self.pulls.get_mut(&number) else { return };
        for (_, pair) in std::mem::take(&mut pull.pairs) {
            if pair != 0 {
                cx.close_unused_pair(pair);
            }
        }
    }

    fn claim_pulled(&mut self, cx: &mut Cx, hub: &mut Hub, number: u32, sdp: SessionSdp) {
        let Some(pull) = self.pulls.get_mut(&number) else { return };
        let mut rng = rand::rng();
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
        let (way, waiter) = (Way::Pulled, None);
        let claimant = Claimant { way, waiter, sdp, origin, description, connection, peer };
        self.publishers.claim(cx, hub, number, &path, claimant);
    }

    /// Reserves ports for a track; without a free pair one is opened.
    fn find_pull_ports(&mut self, cx: &mut Cx, number: u32, track: u8, may_open: bool) {
        let Some(pull) = self.pulls.get_mut(&number) else { return };
        let (host, target) = (Host::of(pull.peer), Target { source: number, track });
        let demux = &mut cx.demux;
        let free = cx.sockets.places().into_iter().find(|pair| !demux.uses_host(*pair, host));
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

    /// A new pair of sockets for a pulled source is open, or could not be opened.
    pub fn handle_pull_pair(&mut self, cx: &mut Cx, hub: &mut Hub, source: u32, track: u8) {
        self.find_pull_ports(cx, source, track, false);
        self.settle_pull(cx, hub, source);
    }

    fn set_up_pulled(&mut self, cx: &mut Cx, number: u32, track: u8, way: PullWay) {
        let Some(pull) = self.pulls.get_mut(&number) else { return };
        let reserved = pull.pairs.iter().find(|(of, _)| *of == track).map(|(_, pair)| *pair);
        let path = match (way, reserved) {
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
        let Some(publisher) = self.publishers.get_mut(&number) else { return };
        // The demultiplexer has checked the address.
        publisher.source.set_up(track, AddressLatch::Any, AddressLatch::Any);
        if let Some(place) = publisher.tracks.get_mut(usize::from(track)) {
            place.path = Some(path);
        }
    }

    /// Prepares for packets: opens NATs and firewalls on the server's side for them.
    fn begin_pulled(&mut self, cx: &mut Cx, hub: &mut Hub, number: u32) {
        let now = cx.now;
        let Some(publisher) = self.publishers.get_mut(&number) else { return };
        if let PublisherState::Announced(generation) = publisher.state {
            publisher.source.grant(generation, now);
            publisher.state = PublisherState::Recording(generation);
        }
        for path in publisher.tracks.iter().filter_map(|track| track.path) {
            if let Transport::Udp { pair, rtp, rtcp } = path
                && rtp.port() != 0
            {
                cx.out.push(Action::Knock { pair, rtp, rtcp });
            }
        }
        self.publishers.note_up(cx, hub, number);
    }
}

/// More steps than can follow one another without input from outside.
const SETTLE_ROUNDS_MAX: usize = 16;

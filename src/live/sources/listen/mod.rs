//! Sources that listen: RTP and MPEG-TS at an address of the server or from a multicast group.
//!
//! ```text
//!  udp://..   --open--> Sniffing --found-----------> Fed    RTP untouched, MPEG-TS packed into RTP
//!  file:..    --worker reads--> Described --RTP----> Fed
//!                    owner: "starting"                "live" | 10 s without packets: lost, again
//! ```
//! When the path is claimed, an input becomes a publisher with the same number, and ends with that
//! publisher. The path is claimed when packets arrive: until then readers wait and are told of no
//! tracks that nobody sends. The shard owns the sockets (`Action::OpenInput`).
//!
//! Invariants: an order to start ends in a claim or in `PullFailed`; while the sender of a track
//! sends, packets of other senders are dropped. Bounds: an input for each path with its owner here,
//! `LIVE_TRACKS_MAX` tracks for each, the datagrams that `sniff` keeps. DESIGN section 5.6.

pub mod plan;
mod senders;
pub mod sniff;
mod ts;

#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use rand::Rng;

use crate::base::ids::{SeqNo, Ssrc};
use crate::base::random;
use crate::config::source::UdpSource;
use crate::live::core::demux::Target;
use crate::live::core::description::{Description, DescriptionError};
use crate::live::core::message::OwnerRequest;
use crate::live::core::source::SourceError;
use crate::live::hub::Hub;
use crate::live::sources::announced::{Origin, description};
use crate::live::sources::listen::plan::{plan_rtcp, plan_sdp, plan_udp};
use crate::live::sources::listen::senders::{SenderLatch, SenderVerdict};
use crate::live::sources::listen::sniff::{Found, Sniffer};
use crate::live::sources::listen::ts::TsInput;
use crate::live::sources::publisher::{Claimant, Way};
use crate::live::sources::publishers::Publishers;
use crate::live::sources::table::{OfPath, SourceTable};
use crate::poll::task::{DescriptionFailure, Task, TaskClass, TaskOwner, Work};
use crate::rtp::RtpView;
use crate::sdp::session::SessionSdp;
use crate::session::action::Action;
use crate::session::action::InputSocket;
use crate::session::cx::Cx;

/// The inputs of one shard. What needs the publishers of the shard takes them as an argument.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    table: SourceTable<Input>,
    /// Inputs with an RTP packet that is being filled in this turn.
    filling: Vec<u32>,
}

/// A source that listens: see the module.
#[derive(Debug)]
struct Input {
    path: Arc<str>,
    state: State,
    /// By track: who may send.
    senders: Vec<SenderLatch>,
    /// The input is in `Inputs::filling`.
    is_filling: bool,
}

#[derive(Debug)]
enum State {
    /// A worker reads the description.
    Reading,
    /// Datagrams at the socket are examined.
    Sniffing(Box<Sniffer>, InputSocket),
    /// The description is known; no packet has arrived yet.
    Described(Box<SessionSdp>, Arc<Description>),
    /// The input is a publisher. With MPEG-TS: the packer into RTP, which is taken out while it
    /// runs.
    Fed(Option<Box<TsInput>>),
}

/// A datagram at a socket of an input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InputDatagram<'a> {
    /// The input and its track.
    pub(crate) target: Target,
    /// The socket is for RTCP.
    pub(crate) is_rtcp: bool,
    pub(crate) from: SocketAddr,
    pub(crate) bytes: &'a [u8],
}

impl OfPath for Input {
    fn path(&self) -> &Arc<str> {
        &self.path
    }
}

impl Inputs {
    /// Name of the path that an input feeds.
    pub(crate) fn path_of(&self, number: u32) -> Option<&Arc<str>> {
        self.table.get(number).map(|input| &input.path)
    }

    /// Starts an input at an address.
    pub(crate) fn start_udp(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        path: &Arc<str>,
        source: &UdpSource,
    ) {
        let socket = plan_udp(source);
        let senders = vec![SenderLatch::new(&socket)];
        let state = State::Sniffing(Box::default(), socket.clone());
        let number = self.enter(hub, path, state, senders);
        cx.out.push(Action::OpenInput { number, sockets: vec![socket] });
    }

    /// Starts an input by a description in a file; a worker reads the file.
    pub(crate) fn start_described(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        path: &Arc<str>,
        file: &Path,
    ) {
        let number = self.enter(hub, path, State::Reading, Vec::new());
        cx.out.push(Action::Submit(Task {
            shard: cx.shard,
            owner: TaskOwner::Input(number),
            class: TaskClass::Control,
            work: Work::ReadDescription { file: file.to_owned() },
        }));
    }

    /// Number of a path's input.
    pub(crate) fn number_of(&self, path: &str) -> Option<u32> {
        self.table.number_of(path)
    }

    /// Removes an input and closes its sockets.
    pub(crate) fn close(&mut self, cx: &mut Cx, number: u32) {
        if self.table.remove(number).is_some() {
            cx.out.push(Action::CloseInput(number));
        }
    }

    /// A worker has read a description. The description of an input that has ended is dropped.
    pub(crate) fn handle_description(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        number: u32,
        read: Result<Box<SessionSdp>, DescriptionFailure>,
    ) {
        let Some(input) = self.table.get(number) else { return };
        let path = Arc::clone(&input.path);
        let sdp = match read {
            Ok(sdp) => sdp,
            Err(error) => return self.fail(cx, hub, number, &error),
        };
        let sockets = match plan_sdp(&sdp) {
            Ok(sockets) => sockets,
            Err(error) => return self.fail(cx, hub, number, &error),
        };
        let described = match describe(cx, number, &path, &sdp) {
            Ok(described) => described,
            Err(error) => return self.fail(cx, hub, number, &error),
        };
        if let Some(input) = self.table.get_mut(number) {
            let rtp = sockets.iter().filter(|socket| !socket.is_rtcp);
            input.senders = rtp.map(SenderLatch::new).collect();
            input.state = State::Described(sdp, described);
        }
        cx.out.push(Action::OpenInput { number, sockets });
    }

    /// The shard has opened the requested sockets, or has failed to.
    pub(crate) fn handle_opened(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        number: u32,
        opened: Result<(), &dyn Display>,
    ) {
        if let Err(error) = opened {
            self.fail(cx, hub, number, error);
        }
    }

    /// Takes a datagram at a socket of an input. Returns the datagrams that need the path: the
    /// caller hands them over again when the claim of the path is answered.
    #[must_use]
    pub(crate) fn take_datagram(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        publishers: &mut Publishers,
        InputDatagram { target, is_rtcp, from, bytes }: InputDatagram<'_>,
    ) -> Vec<Box<[u8]>> {
        let (now, Target { source: number, track }) = (cx.now, target);
        let Some(input) = self.table.get_mut(number) else { return Vec::new() };
        let Some(sender) = input.senders.get_mut(usize::from(track)) else { return Vec::new() };
        if is_rtcp {
            match sender.admits_report(from) {
                true => publishers.handle_report(cx, target, None, bytes),
                false => refuse_sender(cx, publishers, number),
            }
            return Vec::new();
        }
        // The sender whose stream is recognised holds the track, not the first sender.
        let verdict = match &input.state {
            State::Fed(_) => sender.admit(from, now),
            State::Reading | State::Sniffing(..) | State::Described(..) => {
                if sender.may_send(from) { SenderVerdict::Same } else { SenderVerdict::Foreign }
            }
        };
        match &mut input.state {
            _ if verdict == SenderVerdict::Foreign => refuse_sender(cx, publishers, number),
            State::Reading => {}
            State::Sniffing(sniffer, _) => match sniffer.handle_datagram(from, bytes) {
                None => {}
                Some(Err(error)) => self.fail(cx, hub, number, &error),
                Some(Ok(found)) => {
                    return self.claim_found(cx, hub, publishers, number, from, found);
                }
            },
            State::Described(sdp, _) => {
                if is_described(sdp, track, bytes) {
                    self.claim_described(cx, hub, publishers, number);
                    return vec![bytes.into()];
                }
            }
            State::Fed(ts) => {
                if verdict == SenderVerdict::Begins
                    && let Some(ts) = ts
                {
                    ts.begin_anew(Ssrc(random::rng().next_u32()));
                }
                self.feed(cx, publishers, target, bytes);
            }
        }
        Vec::new()
    }

    /// Sends packets that are not full at the end of each turn, so that nothing waits for datagrams
    /// that may not come, while the datagrams of one turn still fill packets.
    pub(crate) fn flush(&mut self, cx: &Cx, publishers: &mut Publishers) {
        while let Some(number) = self.filling.pop() {
            let Some(mut ts) = self.take_ts(number) else { continue };
            let target = Target { source: number, track: 0 };
            ts.flush(|rtp| publishers.handle_packet(cx, target, None, rtp));
            self.put_ts_back(number, ts);
        }
    }

    fn enter(
        &mut self,
        hub: &mut Hub,
        path: &Arc<str>,
        state: State,
        senders: Vec<SenderLatch>,
    ) -> u32 {
        let number = hub.next_serial();
        let input = Input { path: Arc::clone(path), state, senders, is_filling: false };
        self.table.insert(number, input);
        number
    }

    /// Ends an input that cannot be received: the owner tries again after a while.
    fn fail(&mut self, cx: &mut Cx, hub: &mut Hub, number: u32, error: &dyn Display) {
        let Some(input) = self.table.get(number) else { return };
        let path = Arc::clone(&input.path);
        let source = &cx.path_config(&path).source;
        tracing::warn!(
            code = "HE-W304", %path, %source, %error,
            "source cannot be received: {error}"
        );
        self.close(cx, number);
        hub.request(&path, OwnerRequest::PullFailed { reason: error.to_string() });
    }

    /// Claims the path for the recognised stream. Returns the datagrams that arrived meanwhile.
    fn claim_found(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        publishers: &mut Publishers,
        number: u32,
        from: SocketAddr,
        found: Found,
    ) -> Vec<Box<[u8]>> {
        let Some(input) = self.table.get_mut(number) else { return Vec::new() };
        let mut rng = random::rng();
        let ts = match found {
            Found::Ts { stride } => {
                let seq = SeqNo((rng.next_u32() & 0xffff) as u16);
                let ssrc = Ssrc(rng.next_u32());
                Some(Box::new(TsInput::new(stride, ssrc, seq, rng.next_u32())))
            }
            Found::Rtp { .. } => None,
        };
        let is_rtp = ts.is_none();
        let State::Sniffing(sniffer, socket) = std::mem::replace(&mut input.state, State::Fed(ts))
        else {
            return Vec::new();
        };
        let path = Arc::clone(&input.path);
        let Some(sdp) = found.description() else { return Vec::new() };
        match describe(cx, number, &path, &sdp) {
            Ok(described) => {
                let claimant = claimant(cx, number, socket.to, sdp, described);
                self.claim(cx, hub, publishers, number, claimant);
            }
            Err(error) => {
                self.fail(cx, hub, number, &error);
                return Vec::new();
            }
        }
        if let Some(rtcp) = plan_rtcp(&socket).filter(|_| is_rtp) {
            cx.out.push(Action::OpenInput { number, sockets: vec![rtcp] });
        }
        sniffer.into_kept(from).collect()
    }

    /// Claims the path when a packet of the description's media arrives.
    fn claim_described(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        publishers: &mut Publishers,
        number: u32,
    ) {
        let Some(input) = self.table.get_mut(number) else { return };
        if let State::Described(sdp, described) =
            std::mem::replace(&mut input.state, State::Fed(None))
        {
            let to = sdp.medias().first().and_then(|media| {
                let to = sdp.destination(media)?;
                Some(SocketAddr::new(to.ip, media.port))
            });
            let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
            let claimant = claimant(cx, number, to.unwrap_or(any), *sdp, described);
            self.claim(cx, hub, publishers, number, claimant);
        }
    }

    /// Claims the path. Its owner is on this shard, so the owner answers at once.
    fn claim(
        &self,
        cx: &mut Cx,
        hub: &mut Hub,
        publishers: &mut Publishers,
        number: u32,
        claimant: Claimant,
    ) {
        let Some(input) = self.table.get(number) else { return };
        let (path, peer) = (&input.path, claimant.peer);
        tracing::info!(code = "HE-I309", %path, to = %peer, "source received at {peer}");
        publishers.claim(cx, hub, number, path, claimant);
    }

    /// Takes a datagram of the sender that holds the track.
    fn feed(&mut self, cx: &Cx, publishers: &mut Publishers, target: Target, bytes: &[u8]) {
        let (number, now) = (target.source, cx.now);
        let Some(mut ts) = self.take_ts(number) else {
            publishers.handle_packet(cx, target, None, bytes);
            return;
        };
        ts.handle_datagram(bytes, now, |rtp| publishers.handle_packet(cx, target, None, rtp));
        let is_filling = ts.is_filling();
        self.put_ts_back(number, ts);
        if is_filling {
            self.note_filling(number);
        }
    }

    fn take_ts(&mut self, number: u32) -> Option<Box<TsInput>> {
        match &mut self.table.get_mut(number)?.state {
            State::Fed(ts) => ts.take(),
            State::Reading | State::Sniffing(..) | State::Described(..) => None,
        }
    }

    fn put_ts_back(&mut self, number: u32, back: Box<TsInput>) {
        if let Some(input) = self.table.get_mut(number)
            && let State::Fed(ts) = &mut input.state
        {
            *ts = Some(back);
            input.is_filling = false;
        }
    }

    fn note_filling(&mut self, number: u32) {
        if let Some(input) = self.table.get_mut(number)
            && !std::mem::replace(&mut input.is_filling, true)
        {
            self.filling.push(number);
        }
    }
}

/// Counts a datagram of a sender that does not hold the track.
fn refuse_sender(cx: &Cx, publishers: &mut Publishers, number: u32) {
    match publishers.get_mut(&number) {
        Some(publisher) => publisher.source.count_dropped(SourceError::ForeignAddress),
        None => cx.cells.datagrams_unmatched.add(1),
    }
}

fn claimant(
    cx: &Cx,
    number: u32,
    peer: SocketAddr,
    sdp: SessionSdp,
    description: Arc<Description>,
) -> Claimant {
    let (origin, way) = (input_origin(cx, number), Way::Input);
    let (reply_to, connection) = (None, None);
    Claimant { way, reply_to, sdp, origin, description, connection, peer }
}

/// The origin of an input's descriptions: later descriptions have a later version.
fn input_origin(cx: &Cx, number: u32) -> Origin {
    Origin {
        local: Ipv4Addr::UNSPECIFIED.into(),
        session_id: u64::from(cx.shard.0) << 32 | u64::from(number),
        version: cx.utc_ns.unsigned_abs() / 1_000_000_000,
    }
}

fn describe(
    cx: &Cx,
    number: u32,
    path: &Arc<str>,
    sdp: &SessionSdp,
) -> Result<Arc<Description>, DescriptionError> {
    description(sdp, path, input_origin(cx, number)).map(Arc::new)
}

/// Whether a datagram is a packet of the described track.
fn is_described(sdp: &SessionSdp, track: u8, bytes: &[u8]) -> bool {
    let Ok(view) = RtpView::parse(bytes) else { return false };
    let media = sdp.medias().get(usize::from(track));
    media.is_some_and(|media| media.payload_types().any(|number| number == view.payload_type()))
}

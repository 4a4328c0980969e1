//! Opens every socket before anything is started, and says in one sentence which one it could not.
//!
//! A process that was killed keeps its ports until the kernel has closed its rings, some tenths of
//! a second after the process is gone. So a port that is taken while no process holds it is tried
//! again, for `CLOSING_MAX` in all.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::RunError;
use super::takeover::Inherited;
use super::takeover::inherited::{self, ADMIN, spelled};
use crate::base::host::Host;
use crate::config::Config;
use crate::consumers::rtsp_listener::Speaks;
use crate::host::holder::{Holder, Protocol, holder_of};
use crate::shard::sockets::{UdpPair, is_port_taken, listen_tcp, local_addr, udp_pair};

/// Ports that nobody has set: where the usual ones are taken, free ones are used instead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GivesWay {
    /// That of the API.
    pub admin: bool,
    /// Those of RTP and RTCP.
    pub rtp: bool,
    /// That of HLS.
    pub hls: bool,
    /// That of WebRTC.
    pub webrtc: bool,
}

/// Sockets of one shard.
#[derive(Debug)]
pub(super) struct ShardSockets {
    /// RTSP, RTSP over HTTP and RTSPS.
    pub(super) listeners: Vec<(Speaks, OwnedFd)>,
    /// RTP and RTCP.
    pub(super) pair: UdpPair,
}

/// All sockets of the appliance.
#[derive(Debug)]
pub(super) struct Sockets {
    /// Of each shard.
    pub(super) shards: Vec<ShardSockets>,
    /// HTTP.
    pub(super) admin: TcpListener,
    /// What the RTSP listeners are bound to.
    pub(super) rtsp_addrs: Vec<SocketAddr>,
    /// The same, of RTSPS listeners.
    pub(super) rtsps_addrs: Vec<SocketAddr>,
    /// The same, of listeners that are for tunnels over HTTP.
    pub(super) http_addrs: Vec<SocketAddr>,
    /// HLS, and what its listeners are bound to.
    pub(super) hls: (Vec<TcpListener>, Vec<SocketAddr>),
    /// WebRTC; none without HLS.
    pub(super) webrtc: Vec<UdpSocket>,
    /// RTP port of shard 0.
    pub(super) rtp_port: u16,
    /// Address of the RTP sockets.
    pub(super) pair_host: Host,
    /// For the banner: ports that are not the usual ones.
    pub(super) warnings: Vec<String>,
}

/// Opens what `config` asks for, for `shard_count` shards; what another process offers of it is
/// taken instead.
pub(super) fn open(
    config: &Config,
    shard_count: usize,
    gives_way: GivesWay,
    inherited: &mut Inherited,
) -> Result<Sockets, RunError> {
    let patience = Patience::new();
    let mut warnings = Vec::new();
    let admin = match inherited.take_listener(ADMIN, config.admin) {
        Some(admin) => admin,
        None => {
            inherited.check_free("admin", Protocol::Tcp, config.admin)?;
            open_admin(&patience, config.admin, gives_way.admin, &mut warnings)?
        }
    };
    let mut listeners: Listeners = (0..shard_count).map(|_| Vec::new()).collect();
    let mut open = |name, speaks, wanted: &[SocketAddr]| {
        open_listeners(&patience, (name, speaks), wanted, &mut listeners, inherited)
    };
    let rtsp_addrs = open("RTSP", Speaks::Rtsp, &config.listen)?;
    let http_addrs = open(HTTP, Speaks::Http, &config.http.listen)?;
    let wanted = config.tls.files().map_or(&[][..], |_| &config.tls.listen);
    let rtsps_addrs = open(RTSPS, Speaks::Tls, wanted)?;
    let pair_host = pair_host(&rtsp_addrs);
    let mut open_pairs = |first| {
        let pairs =
            (0..shard_count).map(|shard| open_pair(&patience, first, shard, pair_host, inherited));
        pairs.collect::<Result<Vec<_>, RunError>>()
    };
    let mut pairs = open_pairs(config.rtp_port);
    if let (Err(RunError::Listen(taken)), true) = (&pairs, gives_way.rtp)
        && let Ok(free) = open_pairs(0)
    {
        let port = free.first().map_or(0, |pair| pair.rtp_port);
        warnings.push(instead(taken, &pair_host.at(port)));
        pairs = Ok(free);
    }
    let pairs = pairs?;
    let hls = open_hls(&patience, &config.hls.listen, gives_way.hls, &mut warnings, inherited)?;
    let wanted = if hls.is_empty() { &[][..] } else { &config.webrtc.listen };
    let webrtc = open_webrtc(&patience, wanted, gives_way.webrtc, &mut warnings, inherited)?;
    let hls_addrs = hls.iter().filter_map(|hls| hls.local_addr().ok()).collect();
    let rtp_port = pairs.first().map_or(0, |pair| pair.rtp_port);
    let of_shard = |(listeners, pair)| ShardSockets { listeners, pair };
    let shards = listeners.into_iter().zip(pairs).map(of_shard).collect();
    Ok(Sockets {
        shards,
        admin,
        rtsp_addrs,
        rtsps_addrs,
        http_addrs,
        hls: (hls, hls_addrs),
        webrtc,
        rtp_port,
        pair_host,
        warnings,
    })
}

/// Listeners of each shard, and what clients speak there.
type Listeners = Vec<Vec<(Speaks, OwnedFd)>>;

/// Opens a listener for each shard on each of these addresses; returns what they are bound to.
fn open_listeners(
    patience: &Patience,
    (what, speaks): (&str, Speaks),
    wanted: &[SocketAddr],
    of_shards: &mut Listeners,
    inherited: &mut Inherited,
) -> Result<Vec<SocketAddr>, RunError> {
    let mut addrs = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        if let Some((bound, sockets)) = inherited.take_listeners(spelled(speaks), *wanted) {
            share_listeners(sockets, speaks, of_shards)
                .map_err(|error| refused(what, bound, &error))?;
            addrs.push(bound);
            continue;
        }
        inherited.check_free(what, Protocol::Tcp, *wanted)?;
        let bound = patience.open(what, *wanted, || bind_any(*wanted, probe))?;
        for listeners in of_shards.iter_mut() {
            let listener = listen_tcp(bound).map_err(|error| refused(what, bound, &error))?;
            listeners.push((speaks, listener));
        }
        addrs.push(bound);
    }
    Ok(addrs)
}

/// Gives each shard a listener of another process, and no listener to nobody: clients wait at each.
/// Shards that are more than listeners accept at one together.
fn share_listeners(
    sockets: Vec<OwnedFd>,
    speaks: Speaks,
    of_shards: &mut Listeners,
) -> io::Result<()> {
    let (shards, count) = (of_shards.len(), sockets.len());
    for (shard, listeners) in of_shards.iter_mut().enumerate().skip(count) {
        if let Some(socket) = sockets.get(shard % count.max(1)) {
            listeners.push((speaks, socket.try_clone()?));
        }
    }
    for (place, socket) in sockets.into_iter().enumerate() {
        if let Some(listeners) = of_shards.get_mut(place % shards.max(1)) {
            listeners.push((speaks, socket));
        }
    }
    Ok(())
}

/// The listener of the API.
fn open_admin(
    patience: &Patience,
    wanted: SocketAddr,
    gives_way: bool,
    warnings: &mut Vec<String>,
) -> Result<TcpListener, RunError> {
    open_or_free(patience, "admin", wanted, gives_way, warnings, TcpListener::bind)
}

/// Opens `wanted` by `bind`; where it gives way and is taken, the same address on a free port.
fn open_or_free<S: Bound>(
    patience: &Patience,
    what: &str,
    wanted: SocketAddr,
    gives_way: bool,
    warnings: &mut Vec<String>,
    bind: impl Fn(SocketAddr) -> io::Result<S>,
) -> Result<S, RunError> {
    let refused = match patience.open(what, wanted, || bind(wanted)) {
        Err(refused) if gives_way => refused,
        opened => return opened,
    };
    let free = bind(SocketAddr::new(wanted.ip(), 0)).and_then(|free| Ok((free.bound()?, free)));
    let Ok((addr, free)) = free else { return Err(refused) };
    warnings.push(instead(&refused.to_string(), &addr));
    Ok(free)
}

/// A socket that has an address.
trait Bound {
    fn bound(&self) -> io::Result<SocketAddr>;
}

impl Bound for TcpListener {
    fn bound(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

impl Bound for UdpSocket {
    fn bound(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

/// Binds `addr`; every address of IPv4 where the machine has no IPv6.
fn bind_any<S>(addr: SocketAddr, bind: impl Fn(SocketAddr) -> io::Result<S>) -> io::Result<S> {
    bind(addr).or_else(|error| match without_ipv6(addr, &error) {
        Some(v4) => bind(v4),
        None => Err(error),
    })
}

/// The listeners of HLS.
fn open_hls(
    patience: &Patience,
    wanted: &[SocketAddr],
    gives_way: bool,
    warnings: &mut Vec<String>,
    inherited: &mut Inherited,
) -> Result<Vec<TcpListener>, RunError> {
    let bind = |addr| bind_any(addr, |addr| listen_backlog(addr, HLS_BACKLOG));
    let open = |addr: &SocketAddr| match inherited.take_listener(inherited::HLS, *addr) {
        Some(listener) => Ok(listener),
        None => {
            inherited.check_free(HLS, Protocol::Tcp, *addr)?;
            open_or_free(patience, HLS, *addr, gives_way, warnings, bind)
        }
    };
    wanted.iter().map(open).collect()
}

/// The sockets of WebRTC.
fn open_webrtc(
    patience: &Patience,
    wanted: &[SocketAddr],
    gives_way: bool,
    warnings: &mut Vec<String>,
    inherited: &mut Inherited,
) -> Result<Vec<UdpSocket>, RunError> {
    let bind = |addr| bind_any(addr, bind_udp);
    let mut sockets = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        match inherited.take_listeners(inherited::WEBRTC, *wanted) {
            Some((_, taken)) => sockets.extend(taken.into_iter().map(UdpSocket::from)),
            None => {
                inherited.check_free(WEBRTC, Protocol::Udp, *wanted)?;
                sockets.push(open_or_free(patience, WEBRTC, *wanted, gives_way, warnings, bind)?);
            }
        }
    }
    Ok(sockets)
}

fn bind_udp(addr: SocketAddr) -> io::Result<UdpSocket> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A key picture goes to all viewers at once; the kernel gives what it allows.
    let _refused = socket.set_send_buffer_size(WEBRTC_BUFFER_BYTES);
    let _refused = socket.set_recv_buffer_size(WEBRTC_BUFFER_BYTES);
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

fn instead(taken: &str, addr: &SocketAddr) -> String {
    format!("{taken}; now it is {addr} (HE-W110)")
}

fn listen_backlog(addr: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// The listener of a base: the whole fleet may connect at once after a restart.
pub(super) fn open_base(wanted: SocketAddr) -> Result<TcpListener, RunError> {
    let listen = |addr| listen_backlog(addr, BASE_BACKLOG);
    Patience::new().open("base", wanted, || bind_any(wanted, listen))
}

/// Finds out whether an address can be had by us alone: shards share a port with SO_REUSEPORT, and
/// so would a second instance, which would take half of our clients without a word. A port of 0 is
/// chosen here.
fn probe(wanted: SocketAddr) -> io::Result<SocketAddr> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(wanted), Type::STREAM, Some(Protocol::TCP))?;
    if wanted.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Connections of an instance that has just ended do not keep the port.
    socket.set_reuse_address(true)?;
    socket.bind(&wanted.into())?;
    // Binding alone succeeds beside a listener that lets others in; listening does not.
    socket.listen(1)?;
    let port = local_addr(&socket)?.port();
    let mut bound = wanted;
    bound.set_port(port);
    Ok(bound)
}

/// What `[::]` means on a host that has no IPv6: every IPv4 address, which it includes anyway.
fn without_ipv6(wanted: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let is_everywhere = wanted.is_ipv6() && wanted.ip().is_unspecified();
    let lacks_ipv6 = matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL));
    let v4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), wanted.port());
    (is_everywhere && lacks_ipv6).then_some(v4)
}

/// The pair of a shard: two ports further than that of the shard before it.
fn open_pair(
    patience: &Patience,
    first: u16,
    shard: usize,
    host: Host,
    inherited: &mut Inherited,
) -> Result<UdpPair, RunError> {
    if first == 0 {
        if let Some(pair) = inherited.take_pair(shard, host, 0) {
            return Ok(pair);
        }
        return udp_pair(host, None).map_err(|error| refused("RTP", host.at(0), &error));
    }
    let port = u16::try_from(shard * 2).ok().and_then(|offset| first.checked_add(offset));
    let Some(port) = port else {
        return Err(RunError::Config(format!("no RTP port is left for shard {shard}")));
    };
    if let Some(pair) = inherited.take_pair(shard, host, port) {
        return Ok(pair);
    }
    let addr = host.at(port);
    for addr in [addr, host.at(port.saturating_add(1))] {
        inherited.check_free("RTP", Protocol::Udp, addr)?;
    }
    patience.open("RTP", addr, || udp_pair(host, Some(port)))
}

/// RTP leaves from the address that RTSP listens on; from any when there are several.
fn pair_host(rtsp_addrs: &[SocketAddr]) -> Host {
    match rtsp_addrs {
        [one] => Host::of(*one),
        several if several.iter().any(SocketAddr::is_ipv6) => {
            IpAddr::from(Ipv6Addr::UNSPECIFIED).into()
        }
        _ => IpAddr::from(Ipv4Addr::UNSPECIFIED).into(),
    }
}

/// Until when ports that no process holds are tried again.
struct Patience {
    until: Instant,
    /// Who holds a port, as `holder_of` says.
    holder_of: fn(Protocol, u16) -> Option<Holder>,
}

impl Patience {
    fn new() -> Self {
        Self { until: Instant::now() + CLOSING_MAX, holder_of }
    }

    /// Opens the socket `what` at `addr` as soon as the kernel lets go of its port.
    fn open<T>(
        &self,
        what: &str,
        addr: SocketAddr,
        mut open: impl FnMut() -> io::Result<T>,
    ) -> Result<T, RunError> {
        let holder = || (self.holder_of)(protocol_of(what), addr.port());
        loop {
            let error = match open() {
                Ok(socket) => return Ok(socket),
                Err(error) => error,
            };
            let is_closing =
                is_port_taken(&error) && Instant::now() < self.until && holder().is_none();
            if !is_closing {
                return Err(refused_by(what, addr, &error, holder));
            }
            std::thread::sleep(CLOSING_STEP);
        }
    }
}

fn protocol_of(what: &str) -> Protocol {
    if ["RTP", WEBRTC].contains(&what) { Protocol::Udp } else { Protocol::Tcp }
}

fn refused(what: &str, addr: SocketAddr, error: &io::Error) -> RunError {
    refused_by(what, addr, error, || holder_of(protocol_of(what), addr.port()))
}

fn refused_by(
    what: &str,
    addr: SocketAddr,
    error: &io::Error,
    holder: impl Fn() -> Option<Holder>,
) -> RunError {
    if is_port_taken(error) {
        let flag = match what {
            "admin" => "--admin",
            "RTP" => "--rtp-port",
            RTSPS => "rtsp.tls.listen",
            HTTP => "rtsp.http.listen",
            HLS => "hls.listen",
            WEBRTC => "webrtc.listen",
            _ => "--listen",
        };
        let holder = holder().map_or_else(
            || "a process that this user cannot see".to_owned(),
            |holder| holder.to_string(),
        );
        return RunError::Listen(format!(
            "{what} port {addr} is taken by {holder}; choose another one with {flag}"
        ));
    }
    RunError::Listen(format!("cannot open the {what} socket at {addr}: {error}"))
}

const RTSPS: &str = "RTSPS";
const HTTP: &str = "HTTP tunnel";
const HLS: &str = "HLS";
const WEBRTC: &str = "WebRTC";
/// Of the sockets of WebRTC, each way: 20 ms of 1.6 Gbit/s.
const WEBRTC_BUFFER_BYTES: usize = 4 << 20;
/// Connections that wait to be accepted; the kernel has a limit of its own (`somaxconn`).
const BASE_BACKLOG: i32 = 4_096;
/// Viewers of one event come at one moment.
const HLS_BACKLOG: i32 = 1_024;
/// How long the kernel may take to close the sockets of a process that was killed: 0.3 s were seen
/// on a busy machine.
const CLOSING_MAX: Duration = Duration::from_secs(2);
/// Between two attempts.
const CLOSING_STEP: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_without_ipv6_is_served_by_ipv4_when_every_address_was_meant() {
        let lacks = io::Error::from_raw_os_error(libc::EAFNOSUPPORT);
        let taken = io::Error::from_raw_os_error(libc::EADDRINUSE);
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(without_ipv6(addr("[::]:8554"), &lacks), Some(addr("0.0.0.0:8554")));
        assert_eq!(without_ipv6(addr("[::1]:8554"), &lacks), None);
        assert_eq!(without_ipv6(addr("0.0.0.0:8554"), &lacks), None);
        assert_eq!(without_ipv6(addr("[::]:8554"), &taken), None);
    }

    #[test]
    fn port_that_nobody_holds_is_tried_again_and_one_that_is_held_is_not() {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8_554));
        let taken = || io::Error::from_raw_os_error(libc::EADDRINUSE);
        let until = Instant::now() + Duration::from_secs(3_600);
        let holder_of = |_, port| (port == 8_554).then(|| Holder { pid: 7, name: "other".into() });
        let held = Patience { until, holder_of };
        let mut attempts = 0;
        let refused = held.open("RTSP", addr, || -> io::Result<()> {
            attempts += 1;
            Err(taken())
        });
        assert!(refused.unwrap_err().to_string().contains("by other (pid 7)"));
        assert_eq!(attempts, 1, "another program keeps its port");

        let free = Patience { until, holder_of: |_, _| None };
        let mut attempts = 0;
        let opened = free.open("RTSP", addr, || {
            attempts += 1;
            if attempts < 3 { Err(taken()) } else { Ok(()) }
        });
        assert!(opened.is_ok(), "{opened:?}");
        // Past its time it gives up, whatever the reason.
        let over = Patience { until: Instant::now(), ..free };
        let refused = over.open("RTSP", addr, || -> io::Result<()> { Err(taken()) });
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("a process that this user cannot see"), "{text}");
    }
}

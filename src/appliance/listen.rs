//! Opens every socket before anything is started, and says in one sentence which one it could not.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use super::RunError;
use crate::cli::doctor::holder::{Protocol, holder_of};
use crate::config::Config;
use crate::shard::sockets::{UdpPair, is_port_taken, listen_tcp, local_addr, udp_pair};

/// All sockets of the appliance.
#[derive(Debug)]
pub(super) struct Sockets {
    /// Of each shard: its RTSP listeners and its RTP/RTCP pair.
    pub(super) shards: Vec<(Vec<OwnedFd>, UdpPair)>,
    /// HTTP.
    pub(super) admin: TcpListener,
    /// What the RTSP listeners are bound to.
    pub(super) rtsp_addrs: Vec<SocketAddr>,
    /// RTP port of shard 0.
    pub(super) rtp_port: u16,
    /// Address of the RTP sockets.
    pub(super) pair_ip: IpAddr,
}

/// Opens what `config` asks for, for `shard_count` shards.
pub(super) fn open(config: &Config, shard_count: usize) -> Result<Sockets, RunError> {
    let admin = TcpListener::bind(config.admin).map_err(|e| refused("admin", config.admin, &e))?;
    let mut listeners: Vec<Vec<OwnedFd>> = (0..shard_count).map(|_| Vec::new()).collect();
    let mut rtsp_addrs = Vec::new();
    for wanted in &config.listen {
        let bound = probe(*wanted).or_else(|error| match without_ipv6(*wanted, &error) {
            Some(v4) => probe(v4),
            None => Err(error),
        });
        let bound = bound.map_err(|error| refused("RTSP", *wanted, &error))?;
        for listeners in &mut listeners {
            let listener = listen_tcp(bound).map_err(|error| refused("RTSP", bound, &error))?;
            listeners.push(listener);
        }
        rtsp_addrs.push(bound);
    }
    let pair_ip = pair_ip(&rtsp_addrs);
    let mut pairs = Vec::new();
    for shard in 0..shard_count {
        pairs.push(open_pair(config.rtp_port, shard, pair_ip)?);
    }
    let rtp_port = pairs.first().map_or(0, |pair| pair.rtp_port);
    let shards = listeners.into_iter().zip(pairs).collect();
    Ok(Sockets { shards, admin, rtsp_addrs, rtp_port, pair_ip })
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
    local_addr(&socket).map(|bound| SocketAddr::new(wanted.ip(), bound.port()))
}

/// What `[::]` means on a host that has no IPv6: every IPv4 address, which it includes anyway.
fn without_ipv6(wanted: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let is_everywhere = wanted.is_ipv6() && wanted.ip().is_unspecified();
    let lacks_ipv6 = matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL));
    let v4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), wanted.port());
    (is_everywhere && lacks_ipv6).then_some(v4)
}

/// The pair of a shard: two ports further than that of the shard before it.
fn open_pair(first: u16, shard: usize, ip: IpAddr) -> Result<UdpPair, RunError> {
    if first == 0 {
        return udp_pair(ip, None).map_err(|error| refused("RTP", SocketAddr::new(ip, 0), &error));
    }
    let port = u16::try_from(shard * 2).ok().and_then(|offset| first.checked_add(offset));
    let Some(port) = port else {
        return Err(RunError::Config(format!("no RTP port is left for shard {shard}")));
    };
    let addr = SocketAddr::new(ip, port);
    udp_pair(ip, Some(port)).map_err(|error| refused("RTP", addr, &error))
}

/// RTP leaves from the address that RTSP listens on; from any when there are several.
fn pair_ip(rtsp_addrs: &[SocketAddr]) -> IpAddr {
    match rtsp_addrs {
        [one] => one.ip(),
        several if several.iter().any(SocketAddr::is_ipv6) => Ipv6Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    }
}

fn refused(what: &str, addr: SocketAddr, error: &io::Error) -> RunError {
    if is_port_taken(error) {
        let flag = match what {
            "admin" => "--admin",
            "RTP" => "--rtp-port",
            _ => "--listen",
        };
        let protocol = if what == "RTP" { Protocol::Udp } else { Protocol::Tcp };
        let holder = holder_of(protocol, addr.port())
            .map_or_else(|| "another program".to_owned(), |holder| holder.to_string());
        return RunError::Listen(format!(
            "{what} port {addr} is taken by {holder}; choose another one with {flag}"
        ));
    }
    RunError::Listen(format!("cannot open the {what} socket at {addr}: {error}"))
}

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
}

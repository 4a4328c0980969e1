//! Whether the ports are free: by binding them for a moment.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use super::holder::{Holder, Protocol, holder_of};
use crate::base::host::Host;
use crate::config::Config;

/// One port and who stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) protocol: Protocol,
    pub(super) addr: SocketAddr,
    pub(super) state: PortState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PortState {
    Free,
    /// Someone else has it.
    Taken(Option<Holder>),
    /// It cannot be bound for another reason.
    Refused(String),
}

/// Ports that `headend serve` with this configuration would bind first.
pub(super) fn ports(config: &Config) -> Vec<Port> {
    let tcp = config.listen.iter().chain([&config.admin]).map(|addr| (Protocol::Tcp, *addr));
    let any = Host::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let host = config.listen.first().map_or(any, |listener| Host::of(*listener));
    let rtp = [config.rtp_port, config.rtp_port.saturating_add(1)]
        .into_iter()
        .filter(|_| config.rtp_port != 0)
        .map(|port| (Protocol::Udp, host.at(port)));
    let wanted = tcp.chain(rtp).filter(|(_, addr)| addr.port() != 0);
    wanted.map(|(protocol, addr)| Port { protocol, addr, state: state(protocol, addr) }).collect()
}

fn state(protocol: Protocol, addr: SocketAddr) -> PortState {
    let bind = |addr: SocketAddr| match protocol {
        Protocol::Tcp => TcpListener::bind(addr).map(drop),
        Protocol::Udp => UdpSocket::bind(addr).map(drop),
    };
    let bound = bind(addr).or_else(|error| match addr.ip() {
        // A machine without IPv6 serves IPv4 alone.
        IpAddr::V6(ip) if ip.is_unspecified() && is_family_missing(&error) => {
            bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), addr.port()))
        }
        _ => Err(error),
    });
    match bound {
        Ok(()) => PortState::Free,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            PortState::Taken(holder_of(protocol, addr.port()))
        }
        Err(error) => PortState::Refused(error.to_string()),
    }
}

fn is_family_missing(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EAFNOSUPPORT)
        || error.kind() == io::ErrorKind::AddrNotAvailable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_port_names_its_holder_and_port_zero_is_not_asked_for() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = Config {
            listen: vec![held.local_addr().unwrap()],
            admin: "127.0.0.1:0".parse().unwrap(),
            rtp_port: 0,
            ..Config::default()
        };
        let ports = ports(&config);
        let [port] = ports.as_slice() else { panic!("{ports:?}") };
        let PortState::Taken(Some(holder)) = &port.state else { panic!("{port:?}") };
        assert_eq!(holder.pid, std::process::id());
    }
}

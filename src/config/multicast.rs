//! Groups that live paths are sent to: which, on which ports, and how far.
//!
//! ```text
//!  rtsp.multicast.range = "239.255.0.0/16"     one group out of it for each path; off: none
//!  rtsp.multicast.rtp   = 8002                 RTP of the first track, RTCP behind it, and so on
//! ```
//! Invariant: the range is multicast (RFC 5771), and every track of a path has a pair of ports.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::value_error::ValueError;
use crate::base::limits::{GROUP_RANGE, GROUP_RTP_PORT, GROUP_TTL};

/// Group addresses, ports and TTL of multicast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MulticastConfig {
    /// First address and length of the prefix; `None`: nothing is sent to groups.
    pub range: Option<(Ipv4Addr, u8)>,
    /// RTP port of a path's first track.
    pub rtp_port: u16,
    /// How far packets go.
    pub ttl: u8,
    /// An address of the interface that they leave by; `None`: as the routes say.
    pub interface: Option<Ipv4Addr>,
}

impl Default for MulticastConfig {
    fn default() -> Self {
        let range = Some(GROUP_RANGE);
        Self { range, rtp_port: GROUP_RTP_PORT, ttl: GROUP_TTL, interface: None }
    }
}

impl MulticastConfig {
    pub(super) fn parse_range(text: &str) -> Result<Option<(Ipv4Addr, u8)>, ValueError> {
        if text == "off" {
            return Ok(None);
        }
        let net: Option<Ipv4Net> = text.parse().ok();
        let net = net.filter(|net| net.prefix_len() >= 4 && net.network().is_multicast());
        let net = net.ok_or_else(|| ValueError::Groups { text: text.to_owned() })?;
        Ok(Some((net.network(), net.prefix_len())))
    }

    pub(super) fn parse_interface(text: &str) -> Result<Option<Ipv4Addr>, ValueError> {
        if text == "auto" {
            return Ok(None);
        }
        let address: Option<Ipv4Addr> = text.parse().ok();
        let is_ours = |ip: &Ipv4Addr| !ip.is_unspecified() && !ip.is_multicast();
        let address = address.filter(is_ours);
        address.map(Some).ok_or_else(|| ValueError::Interface { text: text.to_owned() })
    }

    pub(super) fn check_port(port: u64) -> Result<u16, ValueError> {
        let port = u16::try_from(port).unwrap_or(u16::MAX);
        if port % 2 == 1 || port == 0 || port > PORT_MAX {
            return Err(ValueError::GroupPort { port, max: PORT_MAX });
        }
        Ok(port)
    }
}

/// With room above it for a pair of ports for each of 16 tracks, which is what a path has at most.
const PORT_MAX: u16 = u16::MAX - 33;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_are_not_multicast_and_ports_without_room_are_refused() {
        for good in ["239.255.0.0/16", "232.1.2.3/32", "224.0.0.0/4"] {
            assert!(MulticastConfig::parse_range(good).unwrap().is_some(), "{good}");
        }
        assert_eq!(MulticastConfig::parse_range("off"), Ok(None));
        for bad in ["10.0.0.0/8", "224.0.0.0/3", "239.255.0.0", "ff15::/16", ""] {
            assert!(MulticastConfig::parse_range(bad).is_err(), "{bad}");
        }
        assert_eq!(MulticastConfig::parse_interface("auto"), Ok(None));
        assert!(MulticastConfig::parse_interface("10.0.0.7").unwrap().is_some());
        for bad in ["eth0", "239.1.2.3", "0.0.0.0", "::1", ""] {
            assert!(MulticastConfig::parse_interface(bad).is_err(), "{bad}");
        }
        assert_eq!(MulticastConfig::check_port(8_002), Ok(8_002));
        for bad in [0, 8_003, 65_534, 70_000] {
            assert!(MulticastConfig::check_port(bad).is_err(), "{bad}");
        }
    }
}

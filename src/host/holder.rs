//! Who holds a port: the process behind a socket, as far as `/proc` tells this user.
//!
//! ```text
//! /proc/net/tcp: port -> inode      /proc/PID/fd/N -> "socket:[inode]"      /proc/PID/comm
//! ```
//! Bound: `LINKS_MAX` descriptors are looked at; a machine with more keeps its secret.

use std::fmt;
use std::fs;

use crate::base::text::printable;

/// Kind of socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// A listener.
    Tcp,
    /// A datagram socket.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", printable(&self.name), self.pid)
    }
}

/// The process that holds `port`; `None` when there is none, or another user's that `/proc` hides.
#[must_use]
pub fn holder_of(protocol: Protocol, port: u16) -> Option<Holder> {
    let inodes: Vec<u64> = ["", "6"]
        .iter()
        .filter_map(|family| fs::read_to_string(format!("/proc/net/{protocol}{family}")).ok())
        .flat_map(|table| inodes_of(&table, protocol, port))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let mut looked_at = 0;
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(links) = fs::read_dir(process.path().join("fd")) else { continue };
        for link in links.flatten() {
            looked_at += 1;
            if looked_at > LINKS_MAX {
                return None;
            }
            let Ok(target) = fs::read_link(link.path()) else { continue };
            if socket_inode(&target.to_string_lossy()).is_some_and(|inode| inodes.contains(&inode))
            {
                let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                return Some(Holder { pid, name: name.trim_end().to_owned() });
            }
        }
    }
    None
}

/// Inodes of the sockets in a table of `/proc/net` that hold `port`.
fn inodes_of(table: &str, protocol: Protocol, port: u16) -> Vec<u64> {
    let rows = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, row_port) = fields.get(1)?.rsplit_once(':')?;
        let is_port = u16::from_str_radix(row_port, 16).is_ok_and(|row_port| row_port == port);
        // A connection from our port does not hold it; a listener does.
        let is_holding = protocol == Protocol::Udp || fields.get(3) == Some(&TCP_LISTEN);
        let inode = fields.get(9)?.parse().ok()?;
        (is_port && is_holding).then_some(inode)
    });
    rows.collect()
}

fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// `TCP_LISTEN` as `/proc/net/tcp` writes it.
const TCP_LISTEN: &str = "0A";

/// A few hundred processes with a thousand descriptors each.
const LINKS_MAX: usize = 500_000;

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:270D 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 71001 1 0000000000000000 100 0 0 10 0
   1: 0100007F:270D 0100007F:C001 01 00000000:00000000 00:00000000 00000000  1000        0 71002 1 0000000000000000 20 4 30 10 -1
   2: cut
";

    #[test]
    fn listener_holds_a_port_and_its_connections_do_not() {
        assert_eq!(inodes_of(TCP, Protocol::Tcp, 9_997), [71_001]);
        assert!(inodes_of(TCP, Protocol::Tcp, 9_998).is_empty());
    }

    #[test]
    fn own_listener_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let holder = holder_of(Protocol::Tcp, port);
        assert_eq!(holder.map(|holder| holder.pid), Some(std::process::id()));
    }

    #[test]
    fn other_links_are_not_sockets() {
        assert_eq!(socket_inode("socket:[71001]"), Some(71_001));
        assert_eq!(socket_inode("pipe:[71001]"), None);
        assert_eq!(socket_inode("socket:[x]"), None);
    }
}

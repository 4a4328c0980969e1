//! The protocol under RTP, with its word in metrics, API and log.
//!
//! ```text
//!  Lower     udp  tcp              of a request or a send: datagrams, or a connection's bytes
//!  Carrier   udp  tcp  multicast   of a live reader or source: datagrams to it, or to a group
//! ```
//! Neither has addresses: `session::transport::Transport` has those of a stream that was set up.
//! Invariant: a value's number is the index of its word, and of its counters.

/// The lower transport of RFC 2326 s12.39. A group's datagrams are UDP, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lower {
    /// `RTP/AVP` or `RTP/AVP/UDP`: datagrams.
    Udp = 0,
    /// `RTP/AVP/TCP`: interleaved in the RTSP connection (RFC 2326 s10.12).
    Tcp = 1,
}

/// How the packets of a live reader or source travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// Datagrams from one to one.
    Udp = 0,
    /// Interleaved in the RTSP connection.
    Tcp = 1,
    /// Datagrams to a group.
    Multicast = 2,
}

impl Lower {
    /// Words of all values, by their numbers.
    pub const LABELS: [&str; 2] = ["udp", "tcp"];

    /// The word in metrics, API and log.
    #[must_use]
    pub const fn label(self) -> &'static str {
        Self::LABELS[self as usize]
    }
}

impl Carrier {
    /// Words of all values, by their numbers.
    pub const LABELS: [&str; 3] = ["udp", "tcp", "multicast"];

    /// The word in metrics, API and log.
    #[must_use]
    pub const fn label(self) -> &'static str {
        Self::LABELS[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_places_of_the_words() {
        assert_eq!([Lower::Udp, Lower::Tcp].map(Lower::label), Lower::LABELS);
        let carriers = [Carrier::Udp, Carrier::Tcp, Carrier::Multicast];
        assert_eq!(carriers.map(Carrier::label), Carrier::LABELS);
    }
}

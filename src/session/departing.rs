//! The addresses of a session that moves between shards.
//!
//! ```text
//!  home        pair 0 of its own: the address is in use, its owner is away
//!  elsewhere   a pair of sockets of the home, by which streams are sent; nothing is received there
//! ```
//! A client knows the ports of the shard on which it was set up. Other shards send by duplicates of
//! these sockets; what comes in is received at home and handed on (`session::handover`).
//! Invariant: an address is in use at home for as long as its session lives, wherever that is.

use crate::base::ids::SessionId;
use crate::poll::poll_table::EntryKey;
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;
use crate::session::handover::MoveRefusal;
use crate::session::outgoing::Outgoing;
use crate::session::transport::Transport;

impl Cx {
    /// Whether a stream can move with its session.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check_move(&self, id: SessionId, stream: &Outgoing) -> Result<(), MoveRefusal> {
        if stream.srtp.is_some() {
            return Err(MoveRefusal::Srtp);
        }
        match stream.transport {
            Transport::Tcp { .. } => Ok(()),
            Transport::Group { .. } => Err(MoveRefusal::Multicast),
            Transport::Udp { pair, .. } => {
                let home = self.sockets.home_of(pair, self.shard);
                let is_home = home.is_some_and(|(shard, _)| shard == self.home_of(id));
                if is_home { Ok(()) } else { Err(MoveRefusal::SeveralHomes) }
            }
        }
    }

    /// A stream leaves this shard. Returns its transport with the place of the pair at home.
    pub(crate) fn depart_transport(&mut self, id: SessionId, transport: Transport) -> Transport {
        let Transport::Udp { pair, rtp, rtcp } = transport else { return transport };
        let Some((shard, place)) = self.sockets.home_of(pair, self.shard) else {
            return transport;
        };
        if shard == self.shard {
            self.sockets.send_away(pair, rtcp, id);
        } else if self.sockets.release(pair, rtp, rtcp) {
            self.close_unused_pair(pair);
        }
        Transport::Udp { pair: place, rtp, rtcp }
    }

    /// A stream has come to this shard. Returns its transport with the place of the pair here.
    pub(crate) fn arrive_transport(&self, id: SessionId, transport: Transport) -> Transport {
        let Transport::Udp { pair, rtp, rtcp } = transport else { return transport };
        let home = self.home_of(id);
        let place = match home == self.shard {
            true => Some(pair),
            false => self.sockets.foreign((home, pair)),
        };
        // The shard has opened it before.
        debug_assert!(place.is_some(), "no pair {pair} of shard {}", home.0);
        Transport::Udp { pair: place.unwrap_or(u16::MAX), rtp, rtcp }
    }

    /// Registers the addresses and channels of a session that has come, and is in the directory.
    pub(crate) fn enter_transports(
        &mut self,
        id: SessionId,
        connection: Option<EntryKey>,
        session: SessionRef,
        transports: &[Transport],
    ) {
        for (index, transport) in (0_u8..).zip(transports) {
            match *transport {
                Transport::Udp { pair, rtp, rtcp } => {
                    self.sockets.enter(pair, rtp, rtcp, (session, index));
                }
                Transport::Tcp { channel, rtcp_channel } => {
                    if let Some(entry) = connection {
                        self.directory.take_channels(entry, (channel, rtcp_channel), session);
                    }
                }
                Transport::Group { .. } => {}
            }
        }
        if self.home_of(id) != self.shard {
            self.directory.note_guest(id);
        }
    }
}

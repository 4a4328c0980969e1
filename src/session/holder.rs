//! Whose a session is, and whether a command comes from there (RFC 2326 s15, s16).
//!
//! | command comes | session over UDP or of a group | interleaved session |
//! |---|---|---|
//! | on the connection that the session was made on | yes | yes |
//! | on another connection, from the same address | yes | 454 |
//! | from another address | 454 | 454 |
//! | from another address, by the same user, with `rtsp.session_roaming` | yes | 454 |
//!
//! An id is hard to guess, but it is written in logs and goes over networks in the clear. Whoever
//! has it learns nothing: 454 is the answer to an id that nobody has as well.

use std::net::IpAddr;

use crate::base::ids::ShardId;
use crate::session::client::Client;
use crate::session::command::{Command, ReplyTo};
use crate::session::transport::Transport;

/// Whose a session is.
#[derive(Debug)]
pub(crate) struct Holder<'a> {
    /// Address of the RTSP peer.
    pub(crate) peer: IpAddr,
    /// The connection that the session was made on, while it is open.
    pub(crate) connection: Option<ReplyTo>,
    /// Packets are interleaved with that connection.
    pub(crate) is_interleaved: bool,
    /// Who the client has shown to be.
    pub(crate) user: Option<&'a str>,
}

/// Who sends a request.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// Its connection.
    pub connection: ReplyTo,
    /// Its address.
    pub peer: IpAddr,
    /// Who it has shown to be, with this request.
    pub user: Option<&'a str>,
}

impl<'a> Holder<'a> {
    /// The holder of a player's or a reader's session, which is on this shard.
    pub(crate) fn of(
        client: &'a Client,
        shard: ShardId,
        mut transports: impl Iterator<Item = Transport>,
    ) -> Self {
        let connection = |entry| ReplyTo { shard, entry };
        Self {
            peer: client.peer.ip(),
            connection: client.connection.map(connection),
            is_interleaved: transports.any(|transport| matches!(transport, Transport::Tcp { .. })),
            user: client.user.as_deref(),
        }
    }

    /// Whether the session is also the sender's: see the module.
    pub(crate) fn is(&self, sender: &Sender<'_>, roams: bool) -> bool {
        if self.connection == Some(sender.connection) {
            return true;
        }
        let is_neighbour = self.peer.to_canonical() == sender.peer.to_canonical();
        let is_user = self.user.is_some() && self.user == sender.user;
        !self.is_interleaved && (is_neighbour || (roams && is_user))
    }
}

impl<'a> Sender<'a> {
    /// The sender of a command.
    #[must_use]
    pub fn of(command: &'a Command) -> Self {
        let (connection, peer) = (command.reply_to, command.peer.ip());
        Self { connection, peer, user: command.given.user.as_deref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::poll_table::EntryKey;

    fn connection(shard: u8, index: u32) -> ReplyTo {
        ReplyTo { shard: ShardId(shard), entry: EntryKey { index, generation: 1 } }
    }

    #[test]
    fn session_belongs_to_its_connection_its_address_or_its_user() {
        let peer: IpAddr = "192.0.2.1".parse().unwrap();
        let (own, other) = (connection(0, 1), connection(1, 1));
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        let stranger: IpAddr = "192.0.2.9".parse().unwrap();
        for (is_interleaved, from, at, user, roams, expected) in [
            (false, own, peer, None, false, true),
            (false, other, peer, None, false, true),
            (false, other, mapped, None, false, true),
            (false, other, stranger, None, false, false),
            (false, other, stranger, Some("ann"), false, false),
            (false, other, stranger, Some("ann"), true, true),
            (false, other, stranger, Some("bob"), true, false),
            (false, other, stranger, None, true, false),
            (true, own, peer, None, false, true),
            (true, other, peer, None, true, false),
            (true, other, stranger, Some("ann"), true, false),
        ] {
            let user_of = Some("ann");
            let holder = Holder { peer, connection: Some(own), is_interleaved, user: user_of };
            let sender = Sender { connection: from, peer: at, user };
            assert_eq!(holder.is(&sender, roams), expected, "{sender:?} {is_interleaved} {roams}");
        }
        let nobody = Holder { peer, connection: None, is_interleaved: false, user: None };
        let sender = Sender { connection: own, peer: stranger, user: None };
        assert!(!nobody.is(&sender, true), "no user is no user's");
    }
}

//! A session between two roles: what its client knows, without anything that feeds it.
//!
//! ```text
//!  Vod::take_out    --.                       .--> Vod::put_in
//!                      +--> MovingSession ---+
//!  Readers::take_out--'    client, streams    `--> Readers::put_in
//! ```
//! A session of a line-up is a player of a title or a reader of a live path, one after the other.
//! The client, transports, SSRCs, sequence numbers and RTP time go on. The session has its id,
//! sockets and channels all the time; the role that takes the session in renames their owner.
//!
//! Invariants: the first sequence number of the next feed is `Own::seq`; its first RTP time is not
//! below [`WireTime::next`] (`live::core::crossing`). Bound: the streams of one session.

use crate::base::time::Npt;
use crate::live::core::crossing::WireTime;
use crate::session::client::Client;
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;
use crate::session::outgoing::Outgoing;
use crate::session::transport::Transport;

/// A session without a feed: see the module.
#[derive(Debug)]
pub struct MovingSession {
    /// Client of the session.
    pub client: Client,
    /// The role that the session had.
    pub was: SessionRef,
    /// Streams in the order of their SETUPs.
    pub streams: Vec<MovingStream>,
    /// Position in the title that was left; `None` for a live path.
    pub left_at: Option<Npt>,
}

/// A stream without a feed.
#[derive(Debug)]
pub struct MovingStream {
    /// The wire identity. The server assigns its numbers.
    pub outgoing: Outgoing,
    /// RTP time of the stream; `None` if it has not been sent a packet.
    pub time: Option<WireTime>,
}

impl MovingSession {
    /// Registers the session under the role that has taken it in.
    pub fn rename(&self, cx: &mut Cx, to: SessionRef) {
        cx.directory.rename(self.client.id, self.client.connection, self.was, to);
        for (index, stream) in (0_u8..).zip(&self.streams) {
            if let Transport::Udp { pair, rtcp, .. } = stream.outgoing.transport {
                cx.sockets.rename(pair, rtcp, (to, index));
            }
        }
    }
}

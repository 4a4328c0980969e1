//! The first bytes of a connection, and its life as one half of a tunnel over HTTP.
//!
//! ```text
//!  Unknown --RTSP----------------------------> Rtsp
//!     |----GET--> Down: entered? -- 200 -----> RTSP out; in: what the POST's connection hands over
//!     `----POST-> Up: found? ----------------> decoded, handed over, one piece at a time
//! ```
//! `consumers::tunnel` has the picture of both halves.

use std::mem;

use super::RtspConnection;
use crate::base::ids::ShardId;
use crate::consumers::Context;
use crate::consumers::tunnel::base64::Decoder;
use crate::consumers::tunnel::head::{self, First, HeadError, TunnelHead};
use crate::consumers::tunnel::{Carries, Down, OPENED, TunnelMessage, Up, home_of, refusal};
use crate::metrics::cells::TUNNEL_REFUSALS;
use crate::poll::consumer::{Disposition, TunnelEvent, TunnelRefusal};
use crate::session::command::ReplyTo;

impl RtspConnection {
    /// Takes what the client has said. `Some`: there is nothing to be pumped.
    pub(super) fn take(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Option<Disposition> {
        match &mut self.carries {
            Carries::Rtsp => {
                self.read(bytes, cx);
                None
            }
            Carries::Unknown(_) => self.take_first(bytes, cx),
            Carries::Up(_) => Some(self.take_body(bytes, cx)),
            // A client has nothing to say there.
            Carries::Down(_) => Some(Disposition::Handled),
            Carries::Nothing => Some(Disposition::Close),
        }
    }

    fn take_first(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Option<Disposition> {
        let Carries::Unknown(first) = &mut self.carries else { return None };
        first.extend_from_slice(bytes);
        match head::classify(first) {
            First::Unclear => return Some(Disposition::Handled),
            First::Rtsp => {
                let first = mem::take(first);
                self.carries = Carries::Rtsp;
                self.read(&first, cx);
                return None;
            }
            First::Tls => {
                let fix = "rtsps:// is for the port of rtsp.tls.listen";
                tracing::info!(code = "HE-I606", peer = %self.peer, fix, "TLS on a port without");
                return Some(self.carry_nothing());
            }
            First::Http => {}
        }
        let (head, first) = match head::parse(first) {
            Ok(head) => (head, mem::take(first)),
            Err(HeadError::Incomplete) => return Some(Disposition::Handled),
            Err(HeadError::Malformed) => {
                return Some(self.refuse_tunnel(TunnelRefusal::Malformed, cx));
            }
        };
        let TunnelHead { is_post, cookie, bytes } = head;
        let (ip, place) = (self.peer.ip(), self.place_in(cx));
        let home = home_of(&cookie, cx.shard_count);
        self.heard = cx.sessions.cx.now;
        self.beginning.note_head();
        let message = if is_post {
            let early = first.get(bytes..).unwrap_or_default().to_vec();
            let (decoder, own) = (Decoder::default(), cookie.clone());
            let up = Up { cookie: own, down: None, decoder, early, is_in_flight: false };
            self.carries = Carries::Up(up);
            TunnelMessage::Find { cookie, ip, up: place }
        } else {
            let down = Down { cookie: cookie.clone(), up: None, owes: false };
            self.carries = Carries::Down(down);
            TunnelMessage::Enter { cookie, ip, down: place }
        };
        cx.tunnels.push((home, message));
        Some(Disposition::Wait)
    }

    /// Decodes a part of a POST's body, and hands it over.
    fn take_body(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Disposition {
        let from = self.place_in(cx);
        let Carries::Up(up) = &mut self.carries else { return Disposition::Close };
        let Some(down) = up.down else {
            // Nothing is received until the tunnel is found.
            up.early.extend_from_slice(bytes);
            return Disposition::Wait;
        };
        let mut decoded = Vec::new();
        if up.decoder.decode(bytes, &mut decoded).is_err() {
            cx.tunnels.push((down.shard, TunnelMessage::To(down.entry, TunnelEvent::Gone)));
            return self.refuse_tunnel(TunnelRefusal::Malformed, cx);
        }
        if decoded.is_empty() {
            return Disposition::Handled;
        }
        up.is_in_flight = true;
        let event = TunnelEvent::Bytes { from: (from.shard, from.entry), bytes: decoded };
        cx.tunnels.push((down.shard, TunnelMessage::To(down.entry, event)));
        Disposition::Wait
    }

    /// What the other half or a table of tunnels says. `None`: there is something to be pumped.
    pub(super) fn handle_tunnel(
        &mut self,
        event: TunnelEvent,
        cx: &mut Context<'_>,
    ) -> Option<Disposition> {
        let now = cx.sessions.cx.now;
        match (&mut self.carries, event) {
            (Carries::Down(_), TunnelEvent::Entered(Ok(()))) => {
                self.output.extend_from_slice(OPENED);
                Some(Disposition::Handled)
            }
            (Carries::Up(up), TunnelEvent::Found(Ok((shard, entry)))) => {
                up.down = Some(ReplyTo { shard, entry });
                self.beginning.note_tunnel();
                let early = mem::take(&mut up.early);
                Some(self.take_body(&early, cx))
            }
            (
                Carries::Down(_) | Carries::Up(_),
                TunnelEvent::Entered(Err(why)) | TunnelEvent::Found(Err(why)),
            ) => Some(self.refuse_tunnel(why, cx)),
            (Carries::Down(down), TunnelEvent::Bytes { from: (shard, entry), bytes }) => {
                let from = ReplyTo { shard, entry };
                if let Some(before) = down.up.replace(from).filter(|before| *before != from) {
                    // The client has made another POST: this one goes on.
                    let replaced = TunnelMessage::To(before.entry, TunnelEvent::Replaced);
                    cx.tunnels.push((before.shard, replaced));
                }
                down.owes = true;
                self.read(&bytes, cx);
                self.is_waiting().then_some(Disposition::Wait)
            }
            (Carries::Up(up), TunnelEvent::Taken) => {
                up.is_in_flight = false;
                self.heard = now;
                Some(Disposition::Handled)
            }
            (Carries::Up(_), TunnelEvent::Replaced) => Some(self.carry_nothing()),
            (Carries::Up(up), TunnelEvent::Gone) => {
                if let Some(down) = up.down {
                    // The table may not have been told, when an inbox was full.
                    let home = home_of(&up.cookie, cx.shard_count);
                    let leave = TunnelMessage::Leave { cookie: up.cookie.clone(), down };
                    cx.tunnels.push((home, leave));
                }
                Some(self.carry_nothing())
            }
            (Carries::Down(_), TunnelEvent::Gone) => Some(self.closing()),
            // For a connection that has another part by now.
            _ => Some(Disposition::Handled),
        }
    }

    /// Lets the POST's connection go on, once what came from it is worked through.
    pub(super) fn confirm(&mut self, disposition: &Disposition, cx: &mut Context<'_>) {
        let is_free = matches!(disposition, Disposition::Handled)
            && !self.is_waiting()
            && !self.is_congested();
        if let Carries::Down(down) = &mut self.carries
            && is_free
            && mem::take(&mut down.owes)
            && let Some(up) = down.up
        {
            cx.tunnels.push((up.shard, TunnelMessage::To(up.entry, TunnelEvent::Taken)));
        }
    }

    /// What others are told when the connection of a tunnel is closed.
    pub fn leave_tunnel(&mut self, shard: ShardId, count: u8) -> Vec<(ShardId, TunnelMessage)> {
        let down = ReplyTo { shard, entry: self.key };
        let Carries::Down(own) = mem::replace(&mut self.carries, Carries::Nothing) else {
            return Vec::new();
        };
        let home = home_of(&own.cookie, count);
        let up = own.up.map(|up| (up.shard, TunnelMessage::To(up.entry, TunnelEvent::Gone)));
        let leave = (home, TunnelMessage::Leave { cookie: own.cookie, down });
        up.into_iter().chain([leave]).collect()
    }

    /// The half of a tunnel that has no session of its own: an empty piece, to find out whether its
    /// other half is there. `None`: that one does not take what it was sent.
    #[must_use]
    pub fn knock(&mut self, shard: ShardId) -> Option<(ShardId, TunnelMessage)> {
        let from = (shard, self.key);
        let Carries::Up(up) = &mut self.carries else { return None };
        let down = up.down.filter(|_| !mem::replace(&mut up.is_in_flight, true))?;
        let event = TunnelEvent::Bytes { from, bytes: Vec::new() };
        Some((down.shard, TunnelMessage::To(down.entry, event)))
    }

    /// It is the half of a tunnel that has no session of its own.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.carries, Carries::Up(_))
    }

    fn place_in(&self, cx: &Context<'_>) -> ReplyTo {
        ReplyTo { shard: cx.shard, entry: self.key }
    }

    fn refuse_tunnel(&mut self, why: TunnelRefusal, cx: &Context<'_>) -> Disposition {
        cx.sessions.cx.cells.tunnels_refused[why as usize].add(1);
        let (peer, reason) = (self.peer, TUNNEL_REFUSALS[why as usize]);
        tracing::debug!(%peer, reason, "a tunnel over HTTP is refused");
        self.output.extend_from_slice(refusal(why));
        self.carry_nothing()
    }

    fn carry_nothing(&mut self) -> Disposition {
        self.carries = Carries::Nothing;
        self.closing()
    }
}

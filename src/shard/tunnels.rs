//! Messages of tunnels over HTTP, from and to other shards and this one.
//!
//! Those for this shard go through its inbox like all others, so no message is handled while
//! another one is. Bound: the inbox; a message that it does not take ends the connection that it
//! was for or from.

use super::inbox::Message;
use super::ring::kernel::Kernel;
use super::state::Shard;
use crate::base::ids::ShardId;
use crate::consumers::tunnel::TunnelMessage;
use crate::poll::consumer::{Event, TunnelEvent};
use crate::poll::poll_table::EntryKey;
use crate::session::command::ReplyTo;

impl<K: Kernel> Shard<K> {
    pub(super) fn post_tunnel(&mut self, shard: ShardId, message: TunnelMessage) {
        let Some(inbox) = self.poller.inbox(shard) else { return };
        let Err(message) = inbox.push(Message::Tunnel(Box::new(message))) else { return };
        self.cells.inbox_full.add(1);
        if let Message::Tunnel(message) = message
            && let Some(entry) = self.waits_for(&message)
        {
            self.dispatch(entry, Event::Tunnel(TunnelEvent::Gone));
        }
    }

    /// The connection of this shard that would wait for ever without the message.
    fn waits_for(&self, message: &TunnelMessage) -> Option<EntryKey> {
        let place = match message {
            TunnelMessage::Enter { down: place, .. } | TunnelMessage::Find { up: place, .. } => {
                *place
            }
            TunnelMessage::To(_, TunnelEvent::Bytes { from: (shard, entry), .. }) => {
                ReplyTo { shard: *shard, entry: *entry }
            }
            TunnelMessage::Leave { .. } | TunnelMessage::To(..) => return None,
        };
        (place.shard == self.id).then_some(place.entry)
    }

    pub(super) fn handle_tunnel(&mut self, message: TunnelMessage) {
        match message {
            TunnelMessage::Enter { cookie, ip, down } => {
                let entered = self.tunnels.enter(cookie, ip, down);
                let event = TunnelEvent::Entered(entered);
                self.post_tunnel(down.shard, TunnelMessage::To(down.entry, event));
            }
            TunnelMessage::Find { cookie, ip, up } => {
                let found = self.tunnels.find(&cookie, ip);
                let found = found.map(|down| (down.shard, down.entry));
                let event = TunnelEvent::Found(found);
                self.post_tunnel(up.shard, TunnelMessage::To(up.entry, event));
            }
            TunnelMessage::Leave { cookie, down } => self.tunnels.leave(&cookie, down),
            TunnelMessage::To(entry, event) => self.tell_half(entry, event),
        }
        self.cells.tunnels.set(self.tunnels.count() as u64);
        self.cells.tunnels_half_open.set(self.tunnels.half_open_count() as u64);
    }

    fn tell_half(&mut self, entry: EntryKey, event: TunnelEvent) {
        if self.net.entries.connection_mut(entry).is_some() {
            return self.dispatch(entry, Event::Tunnel(event));
        }
        if let TunnelEvent::Bytes { from: (shard, up), .. } = event {
            self.post_tunnel(shard, TunnelMessage::To(up, TunnelEvent::Gone));
        }
    }
}

//! Messages of tunnels over HTTP, from and to other shards and this one.
//!
//! Those for this shard go through its inbox like all others, so no message is handled while
//! another one is. Bound: the inbox; a message that it does not take ends the connection that it
//! was for or from. What frees a row waits until the inbox takes it, `LEAVES_MAX` of these at most.

use super::inbox::Message;
use super::places::Dropped;
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
        let Message::Tunnel(message) = message else { return };
        if let Some(entry) = self.waits_for(&message) {
            self.dispatch(entry, Event::Tunnel(TunnelEvent::Gone));
        } else if matches!(*message, TunnelMessage::Leave { .. }) && self.leaves.len() < LEAVES_MAX
        {
            self.leaves.push_back((shard, *message));
        }
    }

    /// Posts what inboxes did not take of rows that are to be freed.
    pub(super) fn post_leaves(&mut self) {
        for _ in 0..self.leaves.len() {
            let Some((shard, message)) = self.leaves.pop_front() else { return };
            // One that is refused again is behind all others.
            self.post_tunnel(shard, message);
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
                let mut ended = Vec::new();
                let entered = self.tunnels.enter(cookie, ip, down, &mut ended);
                for oldest in ended {
                    let max = self.sessions.cx.config.limits.half_open_tunnels_max;
                    self.note_dropped(Dropped::Tunnel, max);
                    let gone = TunnelMessage::To(oldest.entry, TunnelEvent::Gone);
                    self.post_tunnel(oldest.shard, gone);
                }
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

/// As many as a shard has tunnels by default, eight times.
const LEAVES_MAX: usize = 8_192;

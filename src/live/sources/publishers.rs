//! The publishers of a shard: claims of their paths, their packets on the way to the owners.
//!
//! ```text
//!  claim --Claim--> owner          packet --> unfed --end of the turn: Describe, Feed--> owner
//!    `--no answer--> due_requests          every 5 s: due_requests --Hold--> owner
//! ```
//! Invariants: a number is never used again, so a late message for a source that has ended finds
//! none. A publisher with packets that are not fed is in `unfed`, once.
//! Bound: `PATHS_MAX` publishers.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use rand::Rng;

use crate::base::ids::Ssrc;
use crate::base::random;
use crate::base::time::Mono;
use crate::live::core::latch::AddressLatch;
use crate::live::core::message::{OwnerRequest, SourceRef};
use crate::live::core::repeat::RequestRepeat;
use crate::live::core::source::Source;
use crate::live::hub::Hub;
use crate::live::sources::announced::{PublisherTrack, format_of};
use crate::live::sources::info::totals_of;
use crate::live::sources::publisher::{Claimant, Publisher, PublisherState, Way};
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;
use crate::session::transport::Transport;

/// All publishers of one shard: see the module.
#[derive(Debug, Default)]
pub struct Publishers {
    /// Sorted, because each turn looks at some of the publishers.
    by_number: BTreeMap<u32, Publisher>,
    /// Publishers with packets that are not fed yet.
    unfed: Vec<u32>,
    /// The packet of SRTP that was decrypted last; kept for its storage.
    pub(super) opened: Vec<u8>,
}

impl Publishers {
    /// Number of publishers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_number.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    pub(crate) fn get(&self, number: &u32) -> Option<&Publisher> {
        self.by_number.get(number)
    }

    pub(crate) fn get_mut(&mut self, number: &u32) -> Option<&mut Publisher> {
        self.by_number.get_mut(number)
    }

    /// All publishers, by number.
    pub fn values(&self) -> impl Iterator<Item = &Publisher> {
        self.by_number.values()
    }

    #[cfg(test)]
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut Publisher> {
        self.by_number.values_mut()
    }

    /// All numbers, in order.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.by_number.keys().copied().collect()
    }

    /// Publishers with numbers beyond a bound, in order.
    pub(crate) fn range_from(&self, from: Bound<u32>) -> impl Iterator<Item = (u32, &Publisher)> {
        let found = self.by_number.range((from, Bound::Unbounded));
        found.map(|(number, publisher)| (*number, publisher))
    }
}

impl Publishers {
    /// Asks the owner of a path for it, under a number that was not used before.
    pub(crate) fn claim(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        number: u32,
        path: &Arc<str>,
        claimant: Claimant,
    ) {
        let Claimant { way, reply_to, sdp, origin, description, connection, peer } = claimant;
        let mut rng = random::rng();
        let (now, own_ssrc) = (cx.now, Ssrc(rng.next_u32()));
        let (of_source, described) = (Arc::clone(path), Arc::clone(&description));
        let mut source = Source::new(of_source, described, own_ssrc, false, now);
        source.set_formats(sdp.medias().iter().map(format_of).collect());
        if matches!(way, Way::Input | Way::Relay { .. } | Way::Title { .. }) {
            for (track, _) in (0_u8..).zip(sdp.medias()) {
                // The input checks senders; reports come from another port. Others have none.
                source.set_up(track, AddressLatch::Any, AddressLatch::Any);
            }
        }
        let is_pulled = !matches!(way, Way::Announced { .. });
        let publisher = Publisher {
            way,
            source,
            state: PublisherState::Claiming(reply_to),
            tracks: sdp.medias().iter().map(PublisherTrack::new).collect(),
            sdp,
            origin,
            described: Arc::clone(&description),
            repeat: RequestRepeat::new(now),
            redescribed: None,
            fed_since: None,
            connection,
            peer,
            alive: now,
            cname: format!("{:08x}@{}", rng.next_u32(), cx.config.host),
            own_ssrc,
            is_unfed: false,
            byes: 0,
            all_said_bye: None,
        };
        // Before the first packet: see the invariant of `metrics::paths`.
        hub.tally.enter(path);
        if let Some(id) = publisher.id() {
            cx.directory.enter(id, connection, SessionRef::Publisher(number));
        }
        self.by_number.insert(number, publisher);
        let (source, rules) = (SourceRef { shard: cx.shard, number }, cx.path_rules(path));
        hub.request(path, OwnerRequest::Claim { source, description, is_pulled, rules });
    }

    /// Removes a publisher from all tables. Sockets of an input stay open.
    pub(crate) fn forget(&mut self, cx: &mut Cx, hub: &mut Hub, number: u32) -> Option<Publisher> {
        let publisher = self.by_number.remove(&number)?;
        hub.count_source_end(publisher.source.path(), &totals_of(&publisher));
        if let Some(id) = publisher.id() {
            cx.directory.leave(id, publisher.connection, SessionRef::Publisher(number));
        }
        cx.demux.forget(number);
        for track in &publisher.tracks {
            if let Some(Transport::Udp { pair, .. }) = track.transport
                && pair != 0
            {
                cx.close_unused_pair(pair);
            }
        }
        Some(publisher)
    }

    /// Adds a publisher that was made elsewhere, under a number that is not in use.
    pub(super) fn insert(&mut self, number: u32, publisher: Publisher) {
        self.by_number.insert(number, publisher);
    }

    /// A publisher has packets to feed.
    pub(crate) fn note_unfed(&mut self, number: u32) {
        self.unfed.push(number);
    }

    /// Whether a publisher has packets that are not fed.
    #[must_use]
    pub fn has_packets(&self) -> bool {
        let mut unfed = self.unfed.iter().filter_map(|number| self.by_number.get(number));
        unfed.any(|one| one.id().is_some() && one.source.flush_due().is_some())
    }

    /// When the next batch must not wait for further packets.
    pub(crate) fn next_flush(&self) -> Option<Mono> {
        let unfed = self.unfed.iter().filter_map(|number| self.by_number.get(number));
        unfed.filter_map(|publisher| publisher.source.flush_due()).min()
    }

    /// Feeds the packets of this turn to their paths.
    pub(crate) fn feed(&mut self, hub: &mut Hub, now: Mono) {
        // The storage is put back if nothing was added meanwhile, so that a turn allocates nothing.
        let mut unfed = std::mem::take(&mut self.unfed);
        for number in unfed.drain(..) {
            let Some(publisher) = self.by_number.get_mut(&number) else { continue };
            publisher.feed(hub, now);
            publisher.is_unfed = publisher.source.flush_due().is_some();
            if publisher.is_unfed {
                self.unfed.push(number);
            }
        }
        if self.unfed.is_empty() {
            self.unfed = unfed;
        }
    }

    /// Feeds what a publisher has for its path, before the end of the turn.
    pub(crate) fn feed_one(&mut self, hub: &mut Hub, number: u32, now: Mono) {
        if let Some(publisher) = self.by_number.get_mut(&number) {
            publisher.feed(hub, now);
        }
    }

    /// Messages to owners that are due: renewals of what is held, and claims without an answer.
    pub(crate) fn due_requests(
        &mut self,
        cx: &Cx,
        is_renewal: bool,
    ) -> Vec<(Arc<str>, OwnerRequest)> {
        let (mut renewals, mut claims) = (Vec::new(), Vec::new());
        for (number, publisher) in &mut self.by_number {
            let source = SourceRef { shard: cx.shard, number: *number };
            let path = Arc::clone(publisher.source.path());
            let description = Arc::clone(&publisher.described);
            let is_pulled = publisher.id().is_none();
            match publisher.state {
                PublisherState::Claiming(_) => {
                    if publisher.repeat.is_due(cx.now) {
                        let rules = cx.path_rules(&path);
                        claims.push((
                            path,
                            OwnerRequest::Claim { source, description, is_pulled, rules },
                        ));
                    }
                }
                PublisherState::Announced(generation) | PublisherState::Recording(generation) => {
                    if is_renewal && !is_pulled {
                        renewals
                            .push((path, OwnerRequest::Hold { source, generation, description }));
                    }
                }
            }
        }
        renewals.append(&mut claims);
        renewals
    }
}

impl Publisher {
    /// Tells the owner of the path a description that has changed.
    pub(super) fn describe(&mut self, hub: &mut Hub, now: Mono) {
        // What waits in the hub does not go along with a session that another process takes over.
        let may_wait = self.id().is_none();
        if (!hub.is_halted() || may_wait)
            && let Some(request) = self.poll_description(now)
        {
            let path = Arc::clone(self.source.path());
            hub.request(&path, request);
        }
    }

    fn feed(&mut self, hub: &mut Hub, now: Mono) {
        // The description goes before the frames that need it.
        self.describe(hub, now);
        let path = Arc::clone(self.source.path());
        while let Some(batch) = self.source.poll_batch(now) {
            hub.request(&path, OwnerRequest::Feed { generation: batch.generation(), batch });
        }
    }
}

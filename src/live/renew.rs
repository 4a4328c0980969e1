//! What is said again to homes on other shards: a message that an inbox did not take is lost.
//!
//! ```text
//!  Claim, Subscribe, JoinGroup --no answer--> again after 1 s, 2 s, .. 8 s
//!  every 5 s, of what is held: Hold, Listen, JoinGroup --> home: as it should be, or the note that
//!                                                          was lost, again
//!  packets of a path that is not here ------> Unsubscribe, again
//!  a home that hears nothing for 30 s ------> the publisher, or the member of a group, has gone
//! ```
//! Everything here means the same however often it is said; what is of another generation than the
//! present one changes nothing. Bound: a message for each path and publisher, each time.

use std::sync::Arc;

use crate::live::core::limits::RENEW_INTERVAL;
use crate::live::core::message::{Ask, SourceRef};
use crate::live::desk::Live;
use crate::live::sources::publisher::PublisherState;
use crate::session::cx::Cx;

impl Live {
    /// Every second.
    pub(crate) fn say_again(&mut self, cx: &Cx) {
        let (now, shard) = (cx.now, cx.shard);
        for path in self.hub.paths.unanswered(now) {
            let rules = cx.path_rules(&path);
            self.hub.ask(&path, Ask::Subscribe { shard, rules });
        }
        for path in self.hub.paths.strays() {
            self.hub.ask(&path, Ask::Unsubscribe { shard });
        }
        let is_renewal = now.since(self.hub.renewed) >= RENEW_INTERVAL;
        let mut asks = Vec::new();
        if is_renewal {
            self.hub.renewed = now;
            let held = self.hub.paths.held();
            asks.extend(held.map(|(path, generation, description)| {
                (path, Ask::Listen { shard, generation, description })
            }));
        }
        let mut unanswered = Vec::new();
        for (number, publisher) in &mut self.sources.publishers {
            let source = SourceRef { shard, number: *number };
            let path = Arc::clone(publisher.source.path());
            let description = Arc::clone(&publisher.described);
            let is_pulled = publisher.id().is_none();
            match publisher.state {
                PublisherState::Claiming(_) => {
                    if publisher.again.is_due(now) {
                        unanswered.push((path, source, description, is_pulled));
                    }
                }
                PublisherState::Announced(generation) | PublisherState::Recording(generation) => {
                    if is_renewal && !is_pulled {
                        asks.push((path, Ask::Hold { source, generation, description }));
                    }
                }
            }
        }
        for (path, source, description, is_pulled) in unanswered {
            let rules = cx.path_rules(&path);
            asks.push((path, Ask::Claim { source, description, is_pulled, rules }));
        }
        let joined = self.readers.groups.due_joins(now, is_renewal);
        asks.extend(
            joined.into_iter().map(|(path, serial)| (path, Ask::JoinGroup { shard, serial })),
        );
        for (path, ask) in asks {
            self.hub.ask(&path, ask);
        }
    }
}

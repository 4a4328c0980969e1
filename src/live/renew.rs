//! Repetition of messages to owners on other shards: a full inbox drops messages.
//!
//! ```text
//!  Claim, Subscribe, JoinGroup --no answer--> again after 1 s, 2 s, .. 8 s
//!  every 5 s, for all that is held: Hold, Listen, JoinGroup --> owner: no change, or repeats the
//!                                                               message that was lost
//!  packets of a path that is not here ------> Unsubscribe, again
//!  an owner without a renewal for 30 s -------> ends the publisher, or the membership of a group
//! ```
//! All these messages are idempotent; a message of a stale generation changes nothing. Bound: a
//! message for each path and publisher, each time.

use crate::live::core::limits::RENEW_INTERVAL;
use crate::live::core::message::OwnerRequest;
use crate::live::front::Live;
use crate::session::cx::Cx;

impl Live {
    /// Repeats messages that are due: to be called every second.
    pub(crate) fn say_again(&mut self, cx: &Cx) {
        let (now, shard) = (cx.now, cx.shard);
        for path in self.hub.paths.unanswered(now) {
            let rules = cx.path_rules(&path);
            self.hub.request(&path, OwnerRequest::Subscribe { shard, rules });
        }
        for path in self.hub.paths.strays() {
            self.hub.request(&path, OwnerRequest::Unsubscribe { shard });
        }
        let is_renewal = now.since(self.hub.renewed) >= RENEW_INTERVAL;
        let mut requests = Vec::new();
        if is_renewal {
            self.hub.renewed = now;
            let held = self.hub.paths.held();
            requests.extend(held.map(|(path, generation, description)| {
                (path, OwnerRequest::Listen { shard, generation, description })
            }));
        }
        requests.extend(self.sources.publishers.due_requests(cx, is_renewal));
        let joined = self.readers.groups.due_joins(now, is_renewal);
        requests.extend(
            joined
                .into_iter()
                .map(|(path, serial)| (path, OwnerRequest::JoinGroup { shard, serial })),
        );
        for (path, request) in requests {
            self.hub.request(&path, request);
        }
    }
}

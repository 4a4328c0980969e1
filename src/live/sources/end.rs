//! Ends of publishers: by the client, with the connection, by the owner, or from the server's side.
//!
//! Invariant: a publisher's last packets are fed before its path is released. DESIGN section 5.6.

use std::sync::Arc;

use crate::live::core::message::OwnerRequest;
use crate::live::hub::Hub;
use crate::live::sources::Sources;
use crate::live::sources::log::note_source_down;
use crate::live::sources::publisher::{Publisher, Way};
use crate::live::sources::pull::PullError;
use crate::session::cx::Cx;

impl Sources {
    /// Ends a publisher and releases its path.
    pub(crate) fn end_publisher(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        number: u32,
        why: &'static str,
    ) {
        let Some(mut publisher) = self.forget_publisher(cx, hub, number) else { return };
        let path = Arc::clone(publisher.source.path());
        note_source_down(&publisher, why);
        if let Some(generation) = publisher.generation() {
            while let Some(batch) = publisher.source.finish() {
                hub.request(&path, OwnerRequest::Feed { generation, batch });
            }
            if !publisher.is_pulled() {
                hub.request(&path, OwnerRequest::Release { generation });
            }
        }
        if publisher.is_pulled() {
            let error = PullError::Ended(why);
            self.pulls.tell(cx, hub, &mut self.publishers, number, |client| client.fail(error));
        }
    }

    /// Ends a publisher whose path the owner has taken away.
    pub(crate) fn evict_publisher(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        number: u32,
        why: &'static str,
    ) {
        let Some(publisher) = self.forget_publisher(cx, hub, number) else { return };
        note_source_down(&publisher, why);
        if publisher.is_pulled() {
            self.pulls.stop(cx, hub, &mut self.publishers, number);
        } else {
            cx.hang_up(publisher.connection);
        }
    }

    /// Ends a publisher from the server's side: its connection is closed.
    pub(crate) fn dismiss_publisher(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        number: u32,
        why: &'static str,
    ) {
        let publisher = self.publishers.get(&number);
        let connection = publisher.and_then(|publisher| publisher.connection);
        let is_pulled = publisher.is_some_and(Publisher::is_pulled);
        self.end_publisher(cx, hub, number, why);
        if !is_pulled {
            cx.hang_up(connection);
        }
    }

    /// Removes a publisher from all tables, and closes its sockets if it is an input.
    pub(crate) fn forget_publisher(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        number: u32,
    ) -> Option<Publisher> {
        let publisher = self.publishers.forget(cx, hub, number)?;
        if let Way::Input = publisher.way {
            self.inputs.close(cx, number);
        }
        Some(publisher)
    }
}

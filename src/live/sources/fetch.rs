//! Sources that we fetch: what a home orders, handed to those who can.
//!
//! ```text
//!  StartPull --configuration--> rtsp: a client   |   udp, file: sockets that listen
//!  both --Claim--> home --Granted--> packets --Feed-->   ...   Release | PullFailed
//! ```
//! Invariant: an order to start ends in a claim or in `PullFailed`. DESIGN section 5.6.

use std::sync::Arc;

use crate::config::source::SourceAddress;
use crate::live::core::message::{Ask, RefusedError};
use crate::live::hub::Hub;
use crate::live::sources::Sources;
use crate::live::sources::publisher::{Publisher, PublisherState, Way};
use crate::live::sources::pull::PullPlan;
use crate::session::cx::Cx;

impl Sources {
    /// A home here orders its source.
    pub(crate) fn start_fetch(&mut self, cx: &mut Cx, hub: &mut Hub, path: &Arc<str>) {
        if hub.is_stopping {
            return;
        }
        let config = Arc::clone(cx.path_config(path));
        match config.source {
            SourceAddress::Rtsp(ref url) => {
                let (url, transport) = (url.clone(), config.source_transport);
                self.start_pull(cx, hub, path, PullPlan { url, transport, worked: None });
            }
            SourceAddress::Udp(ref source) => self.start_udp_input(cx, hub, path, source),
            SourceAddress::Sdp(ref file) => self.start_described_input(cx, hub, path, file),
            SourceAddress::Publish => {
                let reason = "it is not fetched".to_owned();
                hub.ask(path, Ask::PullFailed { reason });
            }
        }
    }

    /// The path is a fetched source's: its packets may come.
    pub(crate) fn go_on_fetching(&mut self, cx: &mut Cx, hub: &mut Hub, number: u32) {
        let now = cx.now;
        let Some(publisher) = self.publishers.get_mut(&number) else { return };
        if let PublisherState::Announced(generation) = publisher.state {
            publisher.source.grant(generation, now);
            match publisher.way {
                // Its tracks are to be set up before: only then the transport is known.
                Way::Pulled => self.handle_pull_granted(cx, hub, number),
                Way::Announced { .. } | Way::Input => {
                    publisher.state = PublisherState::Recording(generation);
                    self.note_source_up(cx, hub, number);
                }
            }
        }
    }

    /// The path is not for what was fetched.
    pub(crate) fn fetch_refused(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        number: u32,
        why: RefusedError,
    ) {
        self.forget_publisher(cx, hub, number);
        self.handle_pull_refused(cx, hub, number, why);
    }

    /// A home here wants its source no more.
    pub(crate) fn stop_fetch(&mut self, cx: &mut Cx, hub: &mut Hub, path: &Arc<str>) {
        self.stop_pull(cx, hub, path);
        let is_it =
            |publisher: &Publisher| publisher.id().is_none() && publisher.source.path() == path;
        let found = self.publishers.iter().find(|(_, publisher)| is_it(publisher));
        if let Some(number) = found.map(|(number, _)| *number) {
            self.forget_publisher(cx, hub, number);
        }
        self.stop_input(cx, path);
    }
}

//! Sources that we fetch: what a home orders, handed to those who can.
//!
//! ```text
//!  StartPull --configuration--> rtsp: a client   |   udp, file: sockets that listen
//!  both --Claim--> home --Granted--> packets --Feed-->   ...   Release | PullFailed
//! ```
//! Invariant: an order to start ends in a claim or in `PullFailed`. DESIGN section 5.6.

use std::sync::Arc;

use super::publisher::{Publisher, PublisherState, Way};
use super::pull::PullPlan;
use crate::config::source::SourceAddress;
use crate::live::message::{Ask, RefusedError};
use crate::session::table::Sessions;

impl Sessions {
    /// A home here orders its source.
    pub(super) fn start_fetch(&mut self, path: &Arc<str>) {
        if self.live.is_stopping {
            return;
        }
        let config = Arc::clone(self.cx.path_config(path));
        match config.source {
            SourceAddress::Rtsp(ref url) => {
                let (url, transport) = (url.clone(), config.source_transport);
                self.start_pull(path, PullPlan { url, transport, worked: None });
            }
            SourceAddress::Udp(ref source) => self.start_udp_input(path, source),
            SourceAddress::Sdp(ref file) => self.start_described_input(path, file),
            SourceAddress::Publish => {
                let reason = "it is not fetched".to_owned();
                self.live.ask(path, Ask::PullFailed { reason });
            }
        }
    }

    /// The path is a fetched source's: its packets may come.
    pub(super) fn go_on_fetching(&mut self, number: u32) {
        let now = self.cx.now;
        let Some(publisher) = self.live.publishers.get_mut(&number) else { return };
        if let PublisherState::Announced(generation) = publisher.state {
            publisher.source.grant(generation, now);
            match publisher.way {
                // Its tracks are to be set up before: only then the transport is known.
                Way::Pulled => self.handle_pull_granted(number),
                Way::Announced { .. } | Way::Input => {
                    publisher.state = PublisherState::Recording(generation);
                    self.note_source_up(number);
                }
            }
        }
    }

    /// The path is not for what was fetched.
    pub(super) fn fetch_refused(&mut self, number: u32, why: RefusedError) {
        self.forget_publisher(number);
        self.handle_pull_refused(number, why);
    }

    /// A home here wants its source no more.
    pub(super) fn stop_fetch(&mut self, path: &Arc<str>) {
        self.stop_pull(path);
        let is_it =
            |publisher: &Publisher| publisher.id().is_none() && publisher.source.path() == path;
        let found = self.live.publishers.iter().find(|(_, publisher)| is_it(publisher));
        if let Some(number) = found.map(|(number, _)| *number) {
            self.forget_publisher(number);
        }
        self.stop_input(path);
    }
}

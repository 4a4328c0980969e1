//! Sources that the server fetches: starts and stops them for the owners of their paths.
//!
//! ```text
//!  StartPull --configuration--> rtsp: a client | udp, file: sockets that listen | vod: titles
//!  each --Claim--> owner --Granted--> packets --Feed-->   ...   Release | PullFailed
//! ```
//! Invariant: an order to start ends in a claim or in `PullFailed`. DESIGN section 5.6.

use std::fmt::Display;
use std::sync::Arc;

use crate::config::paths::SourceTransport;
use crate::config::source::SourceAddress;
use crate::live::core::message::{OwnerRequest, RefusedError};
use crate::live::hub::Hub;
use crate::live::sources::Sources;
use crate::live::sources::publisher::{PublisherState, Way};
use crate::live::sources::pull::{PullError, PullPlan};
use crate::poll::task::DescriptionFailure;
use crate::sdp::session::SessionSdp;
use crate::session::cx::Cx;

impl Sources {
    /// Starts the source of a path for its owner on this shard.
    pub(crate) fn start_fetch(&mut self, cx: &mut Cx, hub: &mut Hub, path: &Arc<str>) {
        if hub.is_stopping {
            return;
        }
        if !cx.configs.source_paths(path).is_empty() {
            return self.start_relay(cx, hub, path);
        }
        let config = Arc::clone(cx.path_config(path));
        if config.is_playlist() {
            return self.start_playlist(cx, hub, path);
        }
        match config.source {
            SourceAddress::Rtsp(ref url) => {
                let (url, tls) = (url.clone(), config.source_tls);
                let transport = match config.source_transport {
                    // What TLS is to protect does not go beside it unless that is wanted.
                    SourceTransport::Auto if url.is_secure => SourceTransport::Tcp,
                    said => said,
                };
                let capability = config.source_capability.as_ref().and_then(|shown| shown.now());
                let plan = PullPlan { url, transport, tls, worked: None, capability };
                self.pulls.start(cx, hub, &mut self.publishers, path, plan);
            }
            SourceAddress::Udp(ref source) => self.inputs.start_udp(cx, hub, path, source),
            SourceAddress::Sdp(ref file) => self.inputs.start_described(cx, hub, path, file),
            SourceAddress::Title(ref name) => self.start_title(cx, hub, path, name),
            SourceAddress::Publish => {
                let reason = "the path has no source to fetch".to_owned();
                hub.request(path, OwnerRequest::PullFailed { reason });
            }
        }
    }

    /// The owner has granted the path to a fetched source: packets may arrive.
    pub(crate) fn go_on_fetching(&mut self, cx: &mut Cx, hub: &mut Hub, number: u32) {
        let now = cx.now;
        let Some(publisher) = self.publishers.get_mut(&number) else { return };
        if let PublisherState::Announced(generation) = publisher.state {
            publisher.source.grant(generation, now);
            match publisher.way {
                // SETUP of the tracks comes first: only after SETUP the transport is known.
                Way::Pulled => {
                    let pulls = &mut self.pulls;
                    pulls.tell(cx, hub, &mut self.publishers, number, |client| {
                        client.handle_granted(now);
                    });
                }
                Way::Relay { relay, .. } => {
                    publisher.state = PublisherState::Recording(generation);
                    let path = Arc::clone(publisher.source.path());
                    hub.count_source_start(&path);
                    self.handle_relay_granted(relay);
                }
                Way::Title { .. } => {
                    publisher.state = PublisherState::Recording(generation);
                    self.publishers.note_up(cx, hub, number);
                    self.handle_titles_granted(cx, hub, number);
                }
                Way::Announced { .. } | Way::Input => {
                    publisher.state = PublisherState::Recording(generation);
                    self.publishers.note_up(cx, hub, number);
                }
            }
        }
    }

    /// The owner has refused the path to a fetched source.
    pub(crate) fn fetch_refused(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        number: u32,
        why: RefusedError,
    ) {
        self.refuse_relay(cx, hub, number, &why.to_string());
        self.refuse_titles(cx, hub, number, why.to_string());
        self.forget_publisher(cx, hub, number);
        let error = PullError::NotGranted(why);
        self.pulls.tell(cx, hub, &mut self.publishers, number, |client| client.fail(error));
    }

    /// A worker has read the description of an input.
    pub fn handle_description(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        number: u32,
        read: Result<Box<SessionSdp>, DescriptionFailure>,
    ) {
        self.inputs.handle_description(cx, hub, number, read);
    }

    /// The shard has opened the sockets of an input, or has failed to.
    pub fn handle_input_opened(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        number: u32,
        opened: Result<(), &dyn Display>,
    ) {
        self.inputs.handle_opened(cx, hub, number, opened);
    }

    /// Stops the source of a path for its owner on this shard.
    pub(crate) fn stop_fetch(&mut self, cx: &mut Cx, hub: &mut Hub, path: &Arc<str>) {
        self.stop_relay(cx, hub, path);
        self.stop_titles_of(cx, hub, path);
        if let Some(number) = self.pulls.number_of(path) {
            self.pulls.stop(cx, hub, &mut self.publishers, number);
            self.forget_publisher(cx, hub, number);
        }
        if let Some(number) = self.inputs.number_of(path) {
            self.forget_publisher(cx, hub, number);
            self.inputs.close(cx, number);
        }
    }
}

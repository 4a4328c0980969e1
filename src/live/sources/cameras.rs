//! Events of cameras that are pulled, on the way to their clients.
//!
//! ```text
//!  resolver, connection --name--> is it the present attempt? --yes--> `pull::joined`
//!  pair of sockets -----number-------------------------------------------^
//! ```
//! Invariant: an event of an earlier connection changes nothing.

use std::net::{IpAddr, SocketAddr};

use crate::base::host::Host;
use crate::base::ids::CameraName;
use crate::live::hub::Hub;
use crate::live::sources::Sources;
use crate::live::sources::pull::{PullClient, PullError};
use crate::poll::poll_table::EntryKey;
use crate::poll::task::ResolveFailure;
use crate::rtsp::reader::{ClientResponse, ParseError, Request};
use crate::session::cx::Cx;

impl Sources {
    fn with_camera(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        name: CameraName,
        event: impl FnOnce(&mut PullClient),
    ) {
        if self.pulls.is_current(name) {
            self.pulls.tell(cx, hub, &mut self.publishers, name.source, event);
        }
    }

    /// The resolver has answered for a client.
    pub fn handle_resolved(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        name: CameraName,
        result: &Result<Vec<Host>, ResolveFailure>,
    ) {
        let (now, result) = (cx.now, result.as_deref());
        self.with_camera(cx, hub, name, |client| client.handle_resolved(result, now));
    }

    /// The connection to a camera has an entry in the poll table. False when it is not needed any
    /// more.
    pub fn handle_camera_opened(&mut self, name: CameraName, entry: EntryKey) -> bool {
        self.pulls.handle_opened(name, entry)
    }

    /// The connection is established, with its local address, or has failed.
    pub fn handle_camera_connected(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        name: CameraName,
        result: Result<IpAddr, &str>,
    ) {
        let now = cx.now;
        match result {
            Ok(local) => {
                self.pulls.set_local(name, local);
                self.with_camera(cx, hub, name, |client| client.handle_connected(now));
            }
            Err(why) => {
                self.with_camera(cx, hub, name, |client| client.handle_refused(why, now));
            }
        }
    }

    /// The camera has sent an answer.
    pub fn handle_camera_answer(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        name: CameraName,
        answer: &ClientResponse,
    ) {
        let now = cx.now;
        if self.pulls.is_current(name)
            && let Some(publisher) = self.publishers.get_mut(&name.source)
        {
            publisher.source.handle_sign_of_life(now);
        }
        self.with_camera(cx, hub, name, |client| client.handle_answer(answer, now));
    }

    /// The camera has sent a request.
    pub fn handle_camera_request(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        name: CameraName,
        request: &Request,
    ) {
        let utc_s = cx.utc_ns.div_euclid(1_000_000_000);
        self.with_camera(cx, hub, name, |client| client.handle_request(request, utc_s));
    }

    /// Address of a camera.
    #[must_use]
    pub fn camera_address(&self, name: CameraName) -> Option<SocketAddr> {
        self.pulls.peer(name.source)
    }

    /// The camera has sent bytes that are not RTSP.
    pub fn handle_camera_garbage(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        name: CameraName,
        error: ParseError,
    ) {
        self.with_camera(cx, hub, name, |client| client.fail(PullError::Garbage(error)));
    }

    /// The connection has closed.
    pub fn handle_camera_closed(&mut self, cx: &mut Cx, hub: &mut Hub, name: CameraName) {
        let now = cx.now;
        self.with_camera(cx, hub, name, |client| client.handle_closed(now));
    }

    /// An interleaved packet has arrived on the connection of a camera.
    pub fn handle_camera_frame(
        &mut self,
        cx: &mut Cx,
        name: CameraName,
        channel: u8,
        bytes: &[u8],
    ) {
        if self.pulls.is_current(name) {
            self.publishers.handle_frame(cx, name.source, channel, bytes);
        }
    }

    /// A new pair of sockets for a pulled source is open, or could not be opened.
    pub fn handle_pull_pair(&mut self, cx: &mut Cx, hub: &mut Hub, source: u32, track: u8) {
        self.pulls.handle_pair(cx, hub, &mut self.publishers, source, track);
    }
}

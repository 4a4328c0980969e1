//! The channel of a line-up that a session begins with, as a connection looks for it.
//!
//! ```text
//!  DESCRIBE, SETUP --> First: which channel --> a path's answer, an opened title --> First
//! ```
//! What is asked, and which answer is the client's, is decided in `lineup::first`.
//! Bound: one request at a time, as the connection.

use std::sync::Arc;

use super::login::WaitsForLeave;
use super::{Flow, RtspConnection, Waiting, note_not_opened};
use crate::consumers::asked::Asked;
use crate::consumers::{Context, describe};
use crate::library::title::Title;
use crate::lineup::first::{First, Step};
use crate::poll::consumer::Disposition;
use crate::poll::task::OpenFailure;
use crate::rtsp::request::{Method, Request};
use crate::rtsp::response::{Response, Status};
use crate::rtsp::uri::Target;
use crate::session::command::{Given, Led};

/// A DESCRIBE or SETUP of a line-up that is led to one channel after the other.
#[derive(Debug)]
pub(super) struct WaitsForChannel {
    pub(super) request: Request,
    pub(super) target: Target,
    pub(super) asked: Asked,
    pub(super) first: First,
    pub(super) given: Given,
}

impl RtspConnection {
    /// The search for the channel that a request without a session goes to, if its path is a
    /// line-up.
    pub(super) fn first_channel(
        &self,
        request: &Request,
        path: &str,
        cx: &Context<'_>,
    ) -> Option<First> {
        let config = cx.sessions.cx.configs.lineup(path)?;
        let is_setup = request.method == Method::Setup;
        let described = self.described_channel.as_ref().filter(|(known, _)| **known == *path);
        let described = described.filter(|_| is_setup).map(|(_, number)| *number);
        First::new(path, &config.lineup, described, is_setup)
    }

    /// Asks one channel after the other, until one has to be waited for or all is answered.
    pub(super) fn find_channel(
        &mut self,
        mut waits: Box<WaitsForChannel>,
        cx: &mut Context<'_>,
    ) -> Flow {
        // Bounded: two questions to each channel that is tried.
        loop {
            let (path, is_look) = match waits.first.step() {
                Step::Open(name) => {
                    self.waiting = Waiting::Channel(waits);
                    return Flow::Submit(self.open_task(name, cx));
                }
                Step::Look(path) => (path, true),
                Step::Lead(path) => (path, false),
            };
            let target = Target { path, ..waits.target.clone() };
            let mut request = waits.request.clone();
            let led = match is_look {
                true => {
                    request.method = Method::Describe;
                    Led::Not
                }
                false => {
                    let (lineup, number) = waits.first.channel();
                    Led::ToChannel { lineup, number }
                }
            };
            let given = waits.given.clone();
            match self.execute(request, target, (None, given), (None, led), cx) {
                Flow::Answer(response) => match self.handle_channel(&mut waits, response) {
                    Some(response) => return Flow::Answer(response),
                    None => continue,
                },
                Flow::Wait => {
                    self.waiting = Waiting::Channel(waits);
                    return Flow::Held;
                }
                other @ (Flow::Submit(_) | Flow::Held) => return other,
            }
        }
    }

    /// A channel has answered. Returns the answer to the client, when that is it.
    pub(super) fn handle_channel(
        &mut self,
        waits: &mut WaitsForChannel,
        response: Response,
    ) -> Option<Response> {
        let is_ok = response.status() == Status::Ok;
        let channel = waits.first.channel();
        let answer = waits.first.handle_answer(response)?;
        if is_ok && waits.request.method == Method::Describe {
            self.described_channel = Some(channel);
        }
        Some(answer)
    }

    /// The title of a channel is open, or will not open.
    pub(super) fn handle_channel_title(
        &mut self,
        mut waits: Box<WaitsForChannel>,
        opened: Result<Arc<Title>, OpenFailure>,
        cx: &mut Context<'_>,
    ) -> Flow {
        let title = match opened {
            Ok(title) => title,
            Err(failure) => {
                note_not_opened(self.peer, &waits.request, &failure);
                let refused = describe::refusal(&waits.request, &failure);
                return match waits.first.handle_refused(refused) {
                    Some(response) => Flow::Answer(response),
                    None => self.find_channel(waits, cx),
                };
            }
        };
        waits.first.handle_open();
        let (lineup, number) = waits.first.channel();
        if waits.request.method == Method::Describe {
            self.described_channel = Some((lineup, number));
            let retransmits = cx.sessions.cx.retransmits();
            let local = self.local.ip();
            return Flow::Answer(describe::answer(&waits.request, &title, local, retransmits));
        }
        let WaitsForChannel { request, target, given, .. } = *waits;
        let led = Led::ToChannel { lineup, number };
        self.execute(request, target, (None, given), (Some(title), led), cx)
    }

    /// What becomes of a request that waited for a channel or for leave.
    pub(super) fn end_wait(&mut self, flow: Flow, asked: Asked, cx: &Context<'_>) -> Disposition {
        match flow {
            Flow::Answer(response) => {
                self.answer(response, &asked, cx);
                self.rest()
            }
            Flow::Submit(task) => Disposition::Submit(task),
            Flow::Wait => {
                self.waiting = Waiting::Answer(asked);
                Disposition::Wait
            }
            Flow::Held => Disposition::Wait,
        }
    }

    /// The request that waits for leave, if one does; it waits no more.
    pub(super) fn take_leave(&mut self) -> Option<Box<WaitsForLeave>> {
        match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            Waiting::Leave(waits) => Some(waits),
            other => {
                self.waiting = other;
                None
            }
        }
    }

    /// What waits for a channel, if anything does; it waits no more.
    pub(super) fn take_channel(&mut self) -> Option<Box<WaitsForChannel>> {
        match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            Waiting::Channel(waits) => Some(waits),
            other => {
                self.waiting = other;
                None
            }
        }
    }
}

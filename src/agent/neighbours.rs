//! What this node says to others for the base: orders that it hands on, questions.
//!
//! Invariant: a node is spoken to where the base says that it is, with TLS under the name that the
//! base knows it by. Bound: each request ends after `ANSWER_MAX`.

use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use tokio::sync::mpsc;

use super::Event;
use super::channel::Channel;
use crate::dist::ids::NodeName;
use crate::dist::relay::HandId;
use crate::dist::wire::relay::{Question, RelayBody, SignedAnswer};

/// Connections to other nodes of the base.
#[derive(Debug)]
pub(super) struct Neighbours {
    channel: Channel,
    events: mpsc::Sender<Event>,
}

impl Neighbours {
    pub(super) fn new(channel: Channel, events: mpsc::Sender<Event>) -> Self {
        Self { channel, events }
    }

    /// Hands orders on to a node.
    pub(super) fn hand(&self, hand: HandId, node: &NodeName, addr: &str, body: &RelayBody) {
        let request = self.post(node, addr, "relay").json(body);
        let events = self.events.clone();
        tokio::spawn(async move {
            let is_taken = answered(request).await.is_some();
            let _agent_ended = events.send(Event::Handed { hand, is_taken }).await;
        });
    }

    /// Asks a node how it is.
    pub(super) fn ask(&self, node: NodeName, addr: &str, query: u64, envelope: String) {
        let request = self.post(&node, addr, "question").json(&Question { envelope });
        let events = self.events.clone();
        tokio::spawn(async move {
            let answer = async { answered(request).await?.json::<SignedAnswer>().await.ok() };
            let answer = answer.await;
            let _agent_ended = events.send(Event::Neighbour { node, query, answer }).await;
        });
    }

    fn post(&self, node: &NodeName, addr: &str, what: &str) -> RequestBuilder {
        let root = self.channel.url_of(node, addr);
        self.channel.own().post(format!("{root}/peer/v1/{what}")).timeout(ANSWER_MAX)
    }
}

/// The answer, when it is none of a refusal.
async fn answered(request: RequestBuilder) -> Option<Response> {
    request.send().await.ok()?.error_for_status().ok()
}

/// As long as a part may be under way.
const ANSWER_MAX: Duration = Duration::from_secs(2);

//! Messages from node to node beside contents: orders that are handed on, questions for the base.
//!
//! ```text
//! Hand --latency--> handing: the other agent --answer, latency--> Handed      lost: no answer
//! AskNode --------> questioned -----------------------------------> Neighbour
//! ```
//! As in `agent::neighbours`, `agent::door` and `http::peer::hand`.

use headend::dist::ids::NodeName;
use headend::dist::keys::sign_answer;
use headend::dist::relay::{HandId, RelayError};
use headend::dist::wire::relay::RelayBody;

use crate::dice::S;
use crate::network::host_of;
use crate::world::{Event, World};

impl World {
    /// A node hands orders on.
    pub(crate) fn hand(&mut self, n: usize, hand: HandId, node: &NodeName, body: &RelayBody) {
        let Some(to) = self.nodes.iter().position(|known| known.name == *node) else { return };
        self.trace.note(self.now, "hand", n as u64, to as u64);
        let (number, count) = (body.number, body.entries.len());
        self.trace.say(self.now, || format!("n{n} hands {number} on to n{to}, for {count}"));
        let (run, body) = (self.nodes[n].runs, Box::new(self.wire(body)));
        if self.carries(n, to) {
            let wait = self.latency();
            self.after(wait, Event::Handing { to, from: n, run, hand, body });
        } else {
            self.after(ANSWER_MAX, Event::Handed { n, run, hand, is_taken: false });
        }
    }

    /// Orders are at another node.
    pub(crate) fn handing(
        &mut self,
        to: usize,
        (from, run): (usize, u64),
        hand: HandId,
        body: RelayBody,
    ) {
        let mut answer = Err(RelayError::Full);
        self.with_agent(to, |agent, now, out| answer = agent.handle_relay(body, now, out));
        let is_taken = answer.is_ok();
        self.trace.note(self.now, "handed", to as u64, u64::from(is_taken));
        let wait = if self.carries(to, from) { self.latency() } else { ANSWER_MAX };
        let is_taken = is_taken && wait < ANSWER_MAX;
        self.after(wait, Event::Handed { n: from, run, hand, is_taken });
    }

    /// A node asks another one how it is, for the base.
    pub(crate) fn ask_node(&mut self, n: usize, node: &NodeName, query: u64, envelope: String) {
        let Some(to) = self.nodes.iter().position(|known| known.name == *node) else { return };
        self.trace.note(self.now, "ask node", n as u64, to as u64);
        let run = self.nodes[n].runs;
        if self.carries(n, to) {
            let wait = self.latency();
            self.after(wait, Event::Questioned { to, from: n, run, query, envelope });
        } else {
            let node = node.clone();
            self.after(ANSWER_MAX, Event::Neighbour { n, run, node, query, answer: None });
        }
    }

    /// A question is at another node.
    pub(crate) fn questioned(
        &mut self,
        to: usize,
        (from, run): (usize, u64),
        query: u64,
        envelope: &str,
    ) {
        let mut alive = Err(RelayError::Full);
        self.with_agent(to, |agent, now, _| alive = agent.handle_question(envelope, now));
        let node = &self.nodes[to];
        let answer = alive.ok().map(|alive| sign_answer(&node.keys, &alive));
        let (node, is_carried) = (node.name.clone(), self.carries(to, from));
        let wait = if is_carried { self.latency() } else { ANSWER_MAX };
        let answer = answer.filter(|_| is_carried);
        self.after(wait, Event::Neighbour { n: from, run, node, query, answer });
    }

    /// Whether a message comes over.
    fn carries(&mut self, from: usize, to: usize) -> bool {
        let lost = self.faults.hands_lost;
        let is_lost = lost > 0 && self.dice.chance(lost);
        let (from, to) = (host_of(from), host_of(to));
        !is_lost && self.net.reaches(from, to) && !self.is_dark(to)
    }
}

/// As in `agent::neighbours`.
const ANSWER_MAX: u64 = 2 * S;

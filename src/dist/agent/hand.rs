//! Orders that come from node to node, and questions of the base to nodes that it does not reach.
//!
//! ```text
//! base, or a node --body--> Relay --Take--> orders, as if the base had said them --> Relayed
//!                                 `--Hand--> the next nodes
//! base --Ask--> this node --question--> another one --its own word--> Neighbour
//! ```
//! Invariants: orders of a job that was forgotten since have no effect; the base is told that they
//! are taken when the journal has them. Bound: `FORGOTTEN_MAX` jobs are remembered as forgotten.

use super::{Action, Agent, Held};
use crate::base::time::Mono;
use crate::dist::ids::{CommandId, CommandKey, JobId, NodeName};
use crate::dist::keys::VerifyKey;
use crate::dist::relay::{Answer, From, HandId, RelayAction, RelayError};
use crate::dist::wire::agent::{NodeOrder, Report};
use crate::dist::wire::relay::{Alive, RelayBody, RelayCounts, SignedAnswer};

impl Agent {
    /// The key of the base: without it no orders are taken from other nodes.
    pub fn set_base_key(&mut self, key: VerifyKey) {
        self.relay.set_key(key);
    }

    /// What was handed on since the start.
    #[must_use]
    pub fn relay_counts(&self) -> RelayCounts {
        self.relay.counts()
    }

    /// Another node hands orders on.
    ///
    /// # Errors
    /// They are not of this node's base, or not for it, or there is no room.
    pub fn handle_relay(
        &mut self,
        body: RelayBody,
        now: Mono,
        out: &mut Vec<Action>,
    ) -> Result<Answer, RelayError> {
        if self.is_full() {
            return Err(RelayError::Full);
        }
        let mut actions = Vec::new();
        let answer = self.relay.handle(body, From::Peer, now, &mut actions);
        self.follow_hands(actions, now, out);
        answer
    }

    /// A node has taken its part of the orders, or it has not.
    pub fn handle_handed(
        &mut self,
        hand: HandId,
        is_taken: bool,
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        let mut actions = Vec::new();
        self.relay.handle_handed(hand, is_taken, now, &mut actions);
        self.follow_hands(actions, now, out);
    }

    /// How this node is, for a node that asks for the base.
    ///
    /// # Errors
    /// The base has not asked this.
    pub fn handle_question(&self, envelope: &str, now: Mono) -> Result<Alive, RelayError> {
        let envelope = self.relay.open_question(envelope, now)?;
        let [NodeOrder::Query { query }] = envelope.orders[..] else {
            return Err(RelayError::Strange);
        };
        let open = u64::try_from(self.open_count).unwrap_or(u64::MAX);
        Ok(Alive { node: self.me.clone(), query, open, is_online: self.is_online })
    }

    /// What a node has answered that was asked for the base.
    pub fn handle_neighbour(&mut self, node: NodeName, query: u64, answer: Option<SignedAnswer>) {
        self.outbox.push(None, Report::Neighbour { node, query, answer });
    }

    /// The base hands orders on, the first of them to this node.
    pub(super) fn handle_base_relay(&mut self, body: RelayBody, now: Mono, out: &mut Vec<Action>) {
        let mut actions = Vec::new();
        // What is not taken the base says by itself, because it is not told of it.
        let _refused = self.relay.handle(body, From::Base, now, &mut actions);
        self.follow_hands(actions, now, out);
    }

    /// Lets time pass.
    pub(super) fn follow_relay(&mut self, now: Mono, out: &mut Vec<Action>) {
        let mut actions = Vec::new();
        self.relay.handle_time(now, &mut actions);
        self.follow_hands(actions, now, out);
    }

    /// Nothing of a job is needed any more.
    pub(super) fn note_forgotten(&mut self, job: JobId) {
        if self.forgotten.len() >= FORGOTTEN_MAX {
            self.forgotten.pop_front();
        }
        self.forgotten.push_back(job);
    }

    fn follow_hands(&mut self, actions: Vec<RelayAction>, now: Mono, out: &mut Vec<Action>) {
        for action in actions {
            match action {
                RelayAction::Hand { hand, node, addr, body } => {
                    out.push(Action::Hand { hand, node, addr, body });
                }
                RelayAction::Take { base, number, orders } => {
                    // A base of before is told nothing.
                    if self.handle_base(base) {
                        // Without a word of this node the base says them itself.
                        if self.take_relayed(orders, now, out) {
                            self.hold(Held::Report(None, Report::Relayed { number }));
                        }
                        // Where there was nothing to journal nothing is waited for.
                        self.handle_journaled(self.durable, out);
                    }
                }
            }
        }
    }

    /// False when a command is not taken, because the one in front of it in its job is not known
    /// here: bodies come by ways of different lengths, and commands of a job count in their order.
    fn take_relayed(&mut self, orders: Vec<NodeOrder>, now: Mono, out: &mut Vec<Action>) -> bool {
        let mut are_all_taken = true;
        for order in orders {
            let is_over = match &order {
                NodeOrder::Command { key, .. } => self.forgotten.contains(&key.job),
                NodeOrder::Terms { job, .. } | NodeOrder::Servers { job, .. } => {
                    self.forgotten.contains(job)
                }
                NodeOrder::Sources { .. } => false,
                // All others the base says itself.
                _ => true,
            };
            let is_early = matches!(&order, NodeOrder::Command { key, .. } if !self.is_next(*key));
            if is_over {
                continue;
            }
            if is_early {
                are_all_taken = false;
            } else {
                self.handle_order(order, now, out);
            }
        }
        are_all_taken
    }

    /// It is the first command of its job, or the one in front of it is known.
    fn is_next(&self, key: CommandKey) -> bool {
        let before = key.command.0.checked_sub(1).filter(|before| *before > 0);
        before.is_none_or(|before| {
            let before = CommandKey { command: CommandId(before), ..key };
            self.deliveries.contains_key(&before)
        })
    }
}

/// Jobs that end within the life of an envelope.
const FORGOTTEN_MAX: usize = 4_096;

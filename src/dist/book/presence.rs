//! A node comes, lives and goes: what follows from that for its deliveries, for plans and for
//! server lists.
//!
//! ```text
//! hello, reports --> heard --was down--> in all plans again, as a leaf; told all that is open
//! silent 15 s, a new start --> in no plan        retired --> what is open there fails
//! ```
//! Invariant: a node that is told all that is open is told what has ended, too.

use serde_json::json;

use crate::dist::book::Refusal;
use crate::dist::book::care::Care;
use crate::dist::book::effects::About;
use crate::dist::book::nodes::NodeId;
use crate::dist::book::options::ns;
use crate::dist::book::parts::Parts;
use crate::dist::book::relays;
use crate::dist::book::repair::Repair;
use crate::dist::book::terms::orders_for;
use crate::dist::ids::NodeName;
use crate::dist::node::NodeInput;
use crate::dist::rows::Change;
use crate::dist::wire::agent::{Hello, NodeOrder, Welcome};
use crate::dist::wire::job::{DeliveryState, NodeState};

/// By which token a node says hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HelloBy {
    /// The join token.
    Join,
    /// The token of this node.
    Node(NodeName),
}

/// A node, and all that its coming and going has to do with.
#[derive(Debug)]
pub(super) struct Presence<'a> {
    pub(super) parts: &'a mut Parts,
    pub(super) node: NodeId,
}

/// A node says that it is there.
///
/// # Errors
/// As [`super::nodes::Nodes::admit`].
pub(super) fn hello(parts: &mut Parts, hello: Hello, by: &HelloBy) -> Result<Welcome, Refusal> {
    let admission = parts.nodes.admit(&hello, by, &mut parts.fx)?;
    let mut presence = Presence { parts: &mut *parts, node: admission.id };
    presence.take_hello(hello, admission.is_new);
    Ok(Welcome {
        node_token: admission.token.map(|token| token.as_str().to_owned()),
        base_key: parts.keys.verify_key().to_string(),
        heartbeat_ms: ns(parts.options.timeouts.heartbeat) / 1_000_000,
    })
}

impl<'a> Presence<'a> {
    /// # Errors
    /// The node is unknown.
    pub(super) fn of(parts: &'a mut Parts, name: &NodeName) -> Result<Self, Refusal> {
        let node = parts.nodes.id_of(name).ok_or_else(|| Refusal::UnknownNode(name.clone()))?;
        Ok(Self { parts, node })
    }

    /// Does what an operator wants.
    ///
    /// # Errors
    /// The node is retired.
    pub(super) fn operate(&mut self, input: NodeInput) -> Result<(), Refusal> {
        if let Some(node) = self.parts.nodes.get_mut(self.node) {
            if !node.is_there() {
                return Err(Refusal::NodeRetired(node.row.name.clone()));
            }
            if input == NodeInput::Undrain {
                node.bad_units = 0;
            }
        }
        self.change(input);
        Ok(())
    }

    /// Takes an input of the node. False when it has no effect in the node's state.
    pub(super) fn change(&mut self, input: NodeInput) -> bool {
        let Some(state) = self.parts.nodes.step(self.node, input, &mut self.parts.fx) else {
            return false;
        };
        match state {
            NodeState::Active
            | NodeState::Suspect
            | NodeState::Draining
            | NodeState::Repairing
            | NodeState::Activating => self.parts.planner().serve(self.node),
            NodeState::Down | NodeState::FailedHw => self.parts.leave_all(self.node),
            NodeState::Quarantined => self.parts.planner().bar(self.node),
            NodeState::Retired => self.end(),
        }
        self.parts.live().serve(self.node);
        true
    }

    /// A sign of life. A node that was given up takes part again, as a leaf.
    pub(super) fn heard(&mut self) {
        let (now, was_live) = (self.parts.fx.now, self.parts.is_live(self.node));
        let Some(node) = self.parts.nodes.get_mut(self.node) else { return };
        node.heard_ns = now.mono_ns;
        node.row.heard_at_ns = now.utc_ns;
        self.change(NodeInput::Heard);
        if !was_live {
            self.parts.join_all(self.node);
            for order in self.open_orders() {
                self.parts.nodes.say(self.node, order, &mut self.parts.fx);
            }
        }
        Repair { parts: &mut *self.parts, node: self.node }.heard(false);
    }

    /// All that is open at the node: commands and sources, and what has ended meanwhile.
    pub(super) fn open_orders(&mut self) -> Vec<NodeOrder> {
        let now_ns = self.parts.fx.now.mono_ns;
        let open = self.parts.jobs.open_at(self.node);
        let Some(node) = self.parts.nodes.there_mut(self.node) else { return Vec::new() };
        node.took_ns = now_ns;
        let mut orders = Vec::with_capacity(node.ends.len() + open.len() * 2);
        for (said_ns, order) in &mut node.ends {
            *said_ns = Some(now_ns);
            orders.push(order.clone());
        }
        orders.extend(orders_for(self.parts, self.node));
        for key in open {
            relays::note_direct(self.parts, key, self.node);
            orders.extend(self.parts.command_orders(key, self.node));
        }
        let repair = Repair { parts: &mut *self.parts, node: self.node };
        orders.extend(repair.question());
        orders
    }

    /// Says commands again that the node has not taken, or may have let go of: what it withdrew by
    /// an order of before waits for another one.
    pub(super) fn say_pending(&mut self) {
        let now_ns = self.parts.fx.now.mono_ns;
        let Some(node) = self.parts.nodes.get_mut(self.node) else { return };
        node.took_ns = now_ns;
        for key in self.parts.jobs.open_at(self.node) {
            let state = self.parts.jobs.delivery(key, self.node).map(|delivery| delivery.state);
            if matches!(state, Some(DeliveryState::Pending | DeliveryState::RetryWait)) {
                self.parts.say_command(key, self.node);
            }
        }
    }

    fn take_hello(&mut self, hello: Hello, is_new: bool) {
        let (id, now) = (self.node, self.parts.fx.now);
        let skew_ms = hello.utc_ns.saturating_sub(now.utc_ns) / 1_000_000;
        let Some(greeting) = self.parts.nodes.greet(id, hello, now) else { return };
        if greeting.is_new_start {
            // Those behind it have other sources meanwhile: it takes part again as a leaf.
            self.parts.leave_all(id);
            for key in self.parts.jobs.open_at(id) {
                if let Some(delivery) = self.parts.jobs.delivery_mut(key, id) {
                    delivery.is_fresh = true;
                    delivery.rate = 0;
                }
            }
        }
        let Some(node) = self.parts.nodes.get(id) else { return };
        let row = &node.row;
        self.parts.fx.keep(Change::Node(row.clone()));
        let kind = if is_new { "node.joined" } else { "node.hello" };
        let detail = json!({
            "incarnation": row.incarnation,
            "addr": row.addr,
            "public_key": row.public_key,
            "skew_ms": skew_ms,
        });
        self.parts.fx.event(kind, About::node(&row.name), detail);
        self.heard();
        if greeting.is_new_start {
            Repair { parts: &mut *self.parts, node: id }.heard(true);
        }
        self.parts.join_all(id);
        if greeting.has_moved && !is_new {
            self.move_in_lists();
        }
    }

    /// The address of the node has changed: server lists of live jobs name the new one.
    fn move_in_lists(&mut self) {
        let Parts { jobs, nodes, fx, .. } = &mut *self.parts;
        let Some(node) = nodes.get(self.node) else { return };
        let mut moved = Vec::new();
        for job in jobs.all_mut().filter(|job| job.row.state.is_live()) {
            let place = job.places.get(&self.node);
            let Some(place) = place.copied() else { continue };
            let Some(server) = job.row.servers.get_mut(place) else { continue };
            server.addr.clone_from(&node.row.addr);
            job.row.list_version += 1;
            fx.keep(Change::Job(job.row.clone()));
            moved.push((job.row.id, place));
        }
        for (job, place) in moved {
            self.parts.say_neighbours(job, place);
        }
    }

    /// The node is none any more.
    fn end(&mut self) {
        self.parts.leave_all(self.node);
        if let Some(node) = self.parts.nodes.get_mut(self.node) {
            node.ends.clear();
            node.care = Care::default();
        }
        for key in self.parts.jobs.open_at(self.node) {
            self.parts.fail_at_retired(key, self.node);
            self.parts.settle(key.job);
        }
    }
}

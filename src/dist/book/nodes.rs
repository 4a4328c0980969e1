//! Nodes: how they join and say hello, and what operators do with them.
//!
//! Invariants: a name is that of one key for good, also when its node was retired; a node of an
//! older start than the last that was heard is not listened to.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::json;

use crate::dist::book::effects::About;
use crate::dist::book::options::ns;
use crate::dist::book::records::{Node, NodeId};
use crate::dist::book::{Book, HelloBy, Refusal};
use crate::dist::ids::{NodeName, Stamp};
use crate::dist::keys::VerifyKey;
use crate::dist::node::NodeInput;
use crate::dist::rows::{Change, NodeRow};
use crate::dist::token::{Token, token_hash};
use crate::dist::wire::agent::{Hello, NodeOrder, Welcome};
use crate::dist::wire::job::{NodeState, NodeView};

impl Book {
    /// A node says that it is there. `by` is the token that it showed.
    ///
    /// # Errors
    /// Key, address or labels are not valid; the name is that of another node; a later start of the
    /// node was heard; the node was retired; the base is full.
    pub fn hello(&mut self, hello: Hello, by: HelloBy, at: Stamp) -> Result<Welcome, Refusal> {
        self.fx.now = at;
        check_hello(&hello)?;
        let known = self.node_ids.get(&hello.node).copied();
        let token = match (known, &by) {
            (None, HelloBy::Join) => Some(self.join(&hello)?),
            (Some(id), HelloBy::Join) => Some(self.join_again(id, &hello)?),
            (Some(id), HelloBy::Node(name)) => {
                self.check_own_hello(id, name, &hello)?;
                None
            }
            (None, HelloBy::Node(name)) => {
                let token_of = name.clone();
                return Err(Refusal::WrongNode { token_of, said: hello.node });
            }
        };
        let Some(id) = self.node_ids.get(&hello.node).copied() else {
            return Err(Refusal::UnknownNode(hello.node));
        };
        self.take_hello(id, hello, token.is_some() && known.is_none());
        let heartbeat_ms = ns(self.options.timeouts.heartbeat) / 1_000_000;
        let base_key = self.keys.verify_key().to_string();
        let node_token = token.map(|token| token.as_str().to_owned());
        Ok(Welcome { node_token, base_key, heartbeat_ms })
    }

    /// The node of a token; `None` also for a node that was retired.
    #[must_use]
    pub fn node_of_token(&self, token: &str) -> Option<&NodeName> {
        let id = self.tokens.get(&token_hash(token))?;
        self.node_at(*id).filter(|node| node.is_there()).map(|node| &node.row.name)
    }

    /// All that is open at a node: commands and sources, and what has ended meanwhile. It is said
    /// when the node's stream of orders begins.
    pub fn open_orders(&mut self, node: &NodeName) -> Vec<NodeOrder> {
        let Some(id) = self.node_ids.get(node).copied() else { return Vec::new() };
        let now_ns = self.fx.now.mono_ns;
        let Some(record) = self.node_at_mut(id).filter(|node| node.is_there()) else {
            return Vec::new();
        };
        record.took_ns = now_ns;
        let mut orders = Vec::with_capacity(record.ends.len() + record.open.len() * 2);
        for (said_ns, order) in &mut record.ends {
            *said_ns = Some(now_ns);
            orders.push(order.clone());
        }
        for key in record.open.clone() {
            orders.extend(self.command_orders(key, id));
        }
        orders
    }

    /// All nodes, by name.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeView> {
        let mut views: Vec<_> = self.nodes.iter().map(view).collect();
        views.sort_unstable_by(|a, b| a.node.cmp(&b.node));
        views
    }

    /// One node.
    #[must_use]
    pub fn node(&self, name: &NodeName) -> Option<NodeView> {
        self.node_ids.get(name).and_then(|id| self.node_at(*id)).map(view)
    }

    /// The node gets no new jobs.
    ///
    /// # Errors
    /// The node is unknown or retired.
    pub fn drain_node(&mut self, name: &NodeName, at: Stamp) -> Result<NodeView, Refusal> {
        self.operate(name, NodeInput::Drain, at)
    }

    /// The node is as any other again. A quarantine ends too.
    ///
    /// # Errors
    /// The node is unknown or retired.
    pub fn undrain_node(&mut self, name: &NodeName, at: Stamp) -> Result<NodeView, Refusal> {
        self.operate(name, NodeInput::Undrain, at)
    }

    /// The node is none any more: what is open there fails, its token counts no longer.
    ///
    /// # Errors
    /// The node is unknown or retired.
    pub fn retire_node(&mut self, name: &NodeName, at: Stamp) -> Result<NodeView, Refusal> {
        self.operate(name, NodeInput::Retire, at)
    }

    fn operate(
        &mut self,
        name: &NodeName,
        input: NodeInput,
        at: Stamp,
    ) -> Result<NodeView, Refusal> {
        self.fx.now = at;
        let id = self.node_ids.get(name).copied();
        let id = id.ok_or_else(|| Refusal::UnknownNode(name.clone()))?;
        if self.node_at(id).is_some_and(|node| !node.is_there()) {
            return Err(Refusal::NodeRetired(name.clone()));
        }
        if input == NodeInput::Undrain
            && let Some(node) = self.node_at_mut(id)
        {
            node.bad_units = 0;
        }
        self.change_node(id, input);
        self.node(name).ok_or_else(|| Refusal::UnknownNode(name.clone()))
    }

    /// Takes an input of a node. False when it has no effect in the node's state.
    pub(super) fn change_node(&mut self, id: NodeId, input: NodeInput) -> bool {
        let Some(node) = self.node_at_mut(id) else { return false };
        let from = node.row.state;
        let Some(to) = from.next(input) else { return false };
        node.row.state = to;
        let (row, silent_ns) = (node.row.clone(), node.heard_ns);
        let silent_ms = self.fx.now.mono_ns.saturating_sub(silent_ns) / 1_000_000;
        let detail = match to {
            NodeState::Suspect | NodeState::Down => json!({"silent_ms": silent_ms}),
            NodeState::Active
            | NodeState::Draining
            | NodeState::Retired
            | NodeState::Quarantined => json!({}),
        };
        self.fx.event(&format!("node.{}", to.as_str()), About::node(&row.name), detail);
        self.fx.keep(Change::Node(row));
        match to {
            NodeState::Active | NodeState::Suspect | NodeState::Draining => self.serve_in_flows(id),
            NodeState::Down => self.leave_flows(id),
            NodeState::Quarantined => self.bar_from_flows(id),
            NodeState::Retired => self.end_node(id),
        }
        true
    }

    /// A sign of life. A node that was given up takes part again, as a leaf.
    pub(super) fn heard(&mut self, id: NodeId) {
        let (now, was_live) = (self.fx.now, self.is_live(id));
        let Some(node) = self.node_at_mut(id) else { return };
        node.heard_ns = now.mono_ns;
        node.row.heard_at_ns = now.utc_ns;
        let name = node.row.name.clone();
        self.change_node(id, NodeInput::Heard);
        if was_live {
            return;
        }
        self.join_flows(id);
        for order in self.open_orders(&name) {
            self.say(id, order);
        }
    }

    fn end_node(&mut self, id: NodeId) {
        self.leave_flows(id);
        let Some(node) = self.node_at_mut(id) else { return };
        node.ends.clear();
        let open = std::mem::take(&mut node.open);
        for key in open {
            self.fail_at_retired(key, id);
            self.settle(key.job);
        }
    }

    /// A node that nobody knows.
    fn join(&mut self, hello: &Hello) -> Result<Token, Refusal> {
        let max = self.options.limits.nodes;
        if self.nodes.len() >= max {
            return Err(Refusal::Full { what: "nodes", max });
        }
        let token = self.fx.new_token();
        let row = NodeRow {
            name: hello.node.clone(),
            state: NodeState::Active,
            token_hash: token.hash(),
            public_key: hello.public_key.clone(),
            addr: hello.addr.clone(),
            labels: BTreeMap::new(),
            incarnation: hello.incarnation,
            reports_taken: 0,
            up_rate_cap: None,
            down_rate_cap: None,
            up_rate_seen: 0,
            down_rate_seen: 0,
            heard_at_ns: self.fx.now.utc_ns,
        };
        self.add_node(row);
        Ok(token)
    }

    /// A node that joined, but has no token: it was killed before it could keep it. It shows that
    /// it is the same by its key, and gets a new token.
    fn join_again(&mut self, id: NodeId, hello: &Hello) -> Result<Token, Refusal> {
        let Some(node) = self.node_at(id) else {
            return Err(Refusal::UnknownNode(hello.node.clone()));
        };
        if !node.is_there() {
            return Err(Refusal::NodeRetired(hello.node.clone()));
        }
        if node.row.public_key != hello.public_key {
            return Err(Refusal::NodeExists(hello.node.clone()));
        }
        if hello.incarnation < node.row.incarnation {
            return Err(Refusal::StaleIncarnation(hello.node.clone()));
        }
        let token = self.fx.new_token();
        if let Some(node) = self.nodes.get_mut(id.index()) {
            self.tokens.remove(&node.row.token_hash);
            node.row.token_hash = token.hash();
            self.tokens.insert(token.hash(), id);
        }
        Ok(token)
    }

    fn check_own_hello(&self, id: NodeId, name: &NodeName, hello: &Hello) -> Result<(), Refusal> {
        if *name != hello.node {
            let (token_of, said) = (name.clone(), hello.node.clone());
            return Err(Refusal::WrongNode { token_of, said });
        }
        let Some(node) = self.node_at(id) else { return Err(Refusal::UnknownNode(name.clone())) };
        if !node.is_there() {
            return Err(Refusal::NodeRetired(name.clone()));
        }
        if node.row.public_key != hello.public_key {
            return Err(Refusal::KeyChanged(name.clone()));
        }
        if hello.incarnation < node.row.incarnation {
            return Err(Refusal::StaleIncarnation(name.clone()));
        }
        Ok(())
    }

    fn take_hello(&mut self, id: NodeId, hello: Hello, is_new: bool) {
        let now = self.fx.now;
        let site = self.site_of(&hello.labels);
        let Some(node) = self.node_at_mut(id) else { return };
        let is_new_start = hello.incarnation > node.row.incarnation;
        let has_moved = node.row.addr != hello.addr;
        if is_new_start {
            node.row.incarnation = hello.incarnation;
            node.row.reports_taken = 0;
        }
        node.row.addr = hello.addr;
        node.row.labels = hello.labels;
        node.row.up_rate_cap = hello.up_rate_cap;
        node.row.down_rate_cap = hello.down_rate_cap;
        node.row.heard_at_ns = now.utc_ns;
        node.free_bytes = hello.free_bytes;
        node.site = site;
        let (row, open) = (node.row.clone(), node.open.clone());
        if is_new_start {
            // Those behind it have other sources meanwhile: it takes part again as a leaf.
            self.leave_flows(id);
            for key in open {
                let job = self.jobs.get_mut(&key.job);
                if let Some(delivery) = job.and_then(|job| job.delivery_mut(key.command, id)) {
                    delivery.is_fresh = true;
                    delivery.rate = 0;
                }
            }
        }
        self.fx.keep(Change::Node(row.clone()));
        let kind = if is_new { "node.joined" } else { "node.hello" };
        let skew_ms = (hello.utc_ns.saturating_sub(now.utc_ns)) / 1_000_000;
        let detail = json!({
            "incarnation": row.incarnation,
            "addr": row.addr,
            "public_key": row.public_key,
            "skew_ms": skew_ms,
        });
        self.fx.event(kind, About::node(&row.name), detail);
        self.heard(id);
        self.join_flows(id);
        if has_moved && !is_new {
            self.move_in_lists(id);
        }
    }

    /// The address of a node has changed: server lists of live jobs name the new one.
    fn move_in_lists(&mut self, id: NodeId) {
        let Some(addr) = self.node_at(id).map(|node| node.row.addr.clone()) else { return };
        for job in self.jobs.values_mut().filter(|job| job.row.state.is_live()) {
            let Some(server) = job.places.get(&id).and_then(|at| job.row.servers.get_mut(*at))
            else {
                continue;
            };
            server.addr.clone_from(&addr);
            job.row.list_version += 1;
            self.fx.keep(Change::Job(job.row.clone()));
        }
    }

    pub(super) fn add_node(&mut self, row: NodeRow) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.node_ids.insert(row.name.clone(), id);
        if row.state != NodeState::Retired {
            self.tokens.insert(row.token_hash, id);
        }
        let site = self.site_of(&row.labels);
        let node = Node {
            key: row.public_key.parse().ok(),
            row,
            heard_ns: self.fx.now.mono_ns,
            free_bytes: 0,
            open: std::collections::BTreeSet::new(),
            flows: std::collections::BTreeSet::new(),
            ends: std::collections::VecDeque::new(),
            took_ns: self.fx.now.mono_ns,
            bad_units: 0,
            site,
        };
        self.nodes.push(node);
        id
    }

    fn site_of(&mut self, labels: &BTreeMap<String, String>) -> Option<u32> {
        let name = labels.get(SITE_LABEL)?;
        if let Some(site) = self.sites.get(name) {
            return Some(*site);
        }
        // Bound: nodes that come with ever new sites do not fill the memory.
        if self.sites.len() >= self.options.limits.nodes {
            return None;
        }
        let site = u32::try_from(self.sites.len()).ok()?;
        self.sites.insert(name.clone(), site);
        Some(site)
    }
}

fn check_hello(hello: &Hello) -> Result<(), Refusal> {
    if hello.public_key.parse::<VerifyKey>().is_err() {
        return Err(Refusal::BadKey);
    }
    let addr: Result<SocketAddr, _> = hello.addr.parse();
    if !addr.is_ok_and(|addr| !addr.ip().is_unspecified() && addr.port() != 0) {
        return Err(Refusal::BadAddr(hello.addr.chars().take(ADDR_SHOWN).collect()));
    }
    let is_label = |(name, value): (&String, &String)| {
        (1..=LABEL_BYTES_MAX).contains(&name.len())
            && value.len() <= VALUE_BYTES_MAX
            && !name.contains([',', '='])
            && !value.contains(',')
    };
    if hello.labels.len() > LABELS_MAX || !hello.labels.iter().all(is_label) {
        return Err(Refusal::BadLabels { max: LABELS_MAX });
    }
    Ok(())
}

fn view(node: &Node) -> NodeView {
    let row = &node.row;
    NodeView {
        node: row.name.clone(),
        state: row.state,
        public_key: row.public_key.clone(),
        addr: row.addr.clone(),
        labels: row.labels.clone(),
        up_rate_cap: row.up_rate_cap,
        down_rate_cap: row.down_rate_cap,
        free_bytes: node.free_bytes,
        heard_at_ns: row.heard_at_ns,
        open_deliveries: u64::try_from(node.open.len()).unwrap_or(u64::MAX),
    }
}

/// Nodes with the same value of this label are near each other.
const SITE_LABEL: &str = "site";
const LABELS_MAX: usize = 32;
const LABEL_BYTES_MAX: usize = 63;
const VALUE_BYTES_MAX: usize = 255;
const ADDR_SHOWN: usize = 64;

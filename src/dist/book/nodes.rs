//! All nodes: who they are, whether they live, and what they may not have heard.
//!
//! ```text
//! admit: no token of its own --join token--> new name, or the same key again --> a new token
//!                                            a token of its own  --same key--> that node
//! ```
//! Invariants: a name is that of one key for good, also when its node was retired; a node of an
//! older start than the last that was heard is not listened to; orders go to nodes that live.
//! Bounds: `max` nodes and sites; what is kept for a node that does not live is at most `ENDS_MAX`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;

use serde_json::json;

use crate::dist::book::care::Care;
use crate::dist::book::effects::{About, Effects};
use crate::dist::book::{HelloBy, Refusal};
use crate::dist::ids::{Digest, Incarnation, NodeName, Stamp};
use crate::dist::keys::VerifyKey;
use crate::dist::node::NodeInput;
use crate::dist::plan::MemberId;
use crate::dist::rows::{Change, NodeRow};
use crate::dist::token::{Token, token_hash};
use crate::dist::wire::agent::{Hello, NodeOrder};
use crate::dist::wire::job::{NodeState, NodeView};

/// Place of a node in the book. It stays for as long as the book lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeId(u32);

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) row: NodeRow,
    /// `None` for a row whose key cannot be read: no receipt of the node is taken.
    pub(super) key: Option<VerifyKey>,
    /// Last sign of life; the start of the book for a node that was not heard since.
    pub(super) heard_ns: u64,
    pub(super) free_bytes: u64,
    /// Ends that it may not know of, with the time at which they were said to it.
    pub(super) ends: VecDeque<(Option<u64>, NodeOrder)>,
    /// It last took a command, or was last told all of them.
    pub(super) took_ns: u64,
    /// Units of it that failed their hash.
    pub(super) bad_units: u32,
    /// What is done when it does not get on.
    pub(super) care: Care,
    pub(super) site: Option<u32>,
    /// Where it serves RTSP, `ip:port`: said with each hello.
    pub(super) rtsp: Option<String>,
    /// It lets others read live paths by capabilities: said with each hello.
    pub(super) takes_capability: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
    ids: HashMap<NodeName, NodeId>,
    /// Nodes that are not retired, by the hash of their token.
    tokens: HashMap<Digest, NodeId>,
    sites: HashMap<String, u32>,
    max: usize,
    /// A node that was not heard for this long does not live.
    down_ns: u64,
}

/// A node that may come in.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) id: NodeId,
    /// The token by which it comes from now on, when it needs a new one.
    pub(super) token: Option<Token>,
    /// Its name was not known before.
    pub(super) is_new: bool,
}

/// What a hello has changed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Greeting {
    /// The agent was started anew.
    pub(super) is_new_start: bool,
    /// The address is another one.
    pub(super) has_moved: bool,
}

impl NodeId {
    pub(super) fn member(self) -> MemberId {
        MemberId(self.0)
    }
}

impl From<MemberId> for NodeId {
    fn from(member: MemberId) -> Self {
        Self(member.0)
    }
}

impl Node {
    /// Not retired.
    pub(super) fn is_there(&self) -> bool {
        self.row.state != NodeState::Retired
    }

    /// It may be a source in new plans.
    pub(super) fn may_serve(&self) -> bool {
        self.row.state.may_serve() && self.bad_units < BAD_UNITS_MAX
    }

    /// Something has ended, which was said to it then, or not yet.
    pub(super) fn add_end(&mut self, said_ns: Option<u64>, order: NodeOrder) {
        if self.ends.len() >= ENDS_MAX {
            self.ends.pop_front();
        }
        self.ends.push_back((said_ns, order));
    }

    /// What had ended is wanted again: its end is not said any more.
    pub(super) fn drop_end(&mut self, order: &NodeOrder) {
        self.ends.retain(|(_, known)| known != order);
    }

    /// With so many open deliveries.
    pub(super) fn view(&self, open: usize) -> NodeView {
        let row = &self.row;
        NodeView {
            node: row.name.clone(),
            state: row.state,
            public_key: row.public_key.clone(),
            addr: row.addr.clone(),
            labels: row.labels.clone(),
            up_rate_cap: row.up_rate_cap,
            down_rate_cap: row.down_rate_cap,
            free_bytes: self.free_bytes,
            heard_at_ns: row.heard_at_ns,
            open_deliveries: u64::try_from(open).unwrap_or(u64::MAX),
            repair: self.care.view(),
        }
    }
}

impl Nodes {
    pub(super) fn new(max: usize, down_ns: u64) -> Self {
        Self {
            nodes: Vec::new(),
            ids: HashMap::new(),
            tokens: HashMap::new(),
            sites: HashMap::new(),
            max,
            down_ns,
        }
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(usize::try_from(id.0).ok()?)
    }

    pub(super) fn get_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(usize::try_from(id.0).ok()?)
    }

    /// A node that is not retired.
    pub(super) fn there_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.get_mut(id).filter(|node| node.is_there())
    }

    pub(super) fn id_of(&self, name: &NodeName) -> Option<NodeId> {
        self.ids.get(name).copied()
    }

    pub(super) fn name_of(&self, id: NodeId) -> Option<&NodeName> {
        self.get(id).map(|node| &node.row.name)
    }

    /// All of them, in the order in which they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        (0..).map(NodeId).zip(&self.nodes)
    }

    /// The node of a token; `None` also for a node that was retired.
    pub(super) fn of_token(&self, token: &str) -> Option<&NodeName> {
        let id = self.tokens.get(&token_hash(token))?;
        self.get(*id).filter(|node| node.is_there()).map(|node| &node.row.name)
    }

    /// Heard within the time after which a node is down.
    pub(super) fn is_live(&self, id: NodeId, now: Stamp) -> bool {
        self.get(id).is_some_and(|node| {
            let silent_ns = now.mono_ns.saturating_sub(node.heard_ns);
            node.is_there() && node.row.state != NodeState::Down && silent_ns < self.down_ns
        })
    }

    /// Tells a node that lives.
    pub(super) fn say(&self, id: NodeId, order: NodeOrder, fx: &mut Effects) {
        if let Some(name) = self.name_of(id).filter(|_| self.is_live(id, fx.now)) {
            fx.order(name.clone(), order);
        }
    }

    /// Tells a node that lives, and no other node on the way.
    pub(super) fn say_directly(&self, id: NodeId, order: NodeOrder, fx: &mut Effects) {
        if let Some(name) = self.name_of(id).filter(|_| self.is_live(id, fx.now)) {
            fx.order_directly(name.clone(), order);
        }
    }

    /// Tells a node that something has ended; again at its next hello, unless it lived on.
    pub(super) fn say_end(&mut self, id: NodeId, order: NodeOrder, fx: &mut Effects) {
        let said_ns = self.is_live(id, fx.now).then_some(fx.now.mono_ns);
        if let Some(node) = self.there_mut(id) {
            node.add_end(said_ns, order.clone());
            self.say(id, order, fx);
        }
    }

    /// Takes an input of a node. Gives its new state; `None` when it has no effect.
    pub(super) fn step(
        &mut self,
        id: NodeId,
        input: NodeInput,
        fx: &mut Effects,
    ) -> Option<NodeState> {
        let node = self.get_mut(id)?;
        let to = node.row.state.next(input)?;
        node.row.state = to;
        let silent_ms = fx.now.mono_ns.saturating_sub(node.heard_ns) / 1_000_000;
        let detail = match to {
            NodeState::Suspect | NodeState::Down => json!({"silent_ms": silent_ms}),
            NodeState::Active
            | NodeState::Draining
            | NodeState::Retired
            | NodeState::Quarantined
            | NodeState::Repairing
            | NodeState::Activating
            | NodeState::FailedHw => json!({}),
        };
        fx.event(&format!("node.{}", to.as_str()), About::node(&node.row.name), detail);
        fx.keep(Change::Node(node.row.clone()));
        Some(to)
    }

    /// Who says hello, by this token.
    ///
    /// # Errors
    /// Key, address or labels are not valid; the name is that of another node; a later start of the
    /// node was heard; the node was retired; there is no room.
    pub(super) fn admit(
        &mut self,
        hello: &Hello,
        by: &HelloBy,
        fx: &mut Effects,
    ) -> Result<Admission, Refusal> {
        check_hello(hello)?;
        match (self.id_of(&hello.node), by) {
            (None, HelloBy::Join) => self.join(hello, fx),
            (Some(id), HelloBy::Join) => self.join_again(id, hello, fx),
            (Some(id), HelloBy::Node(name)) => {
                self.check_own_hello(id, name, hello)?;
                Ok(Admission { id, token: None, is_new: false })
            }
            (None, HelloBy::Node(name)) => {
                Err(Refusal::WrongNode { token_of: name.clone(), said: hello.node.clone() })
            }
        }
    }

    /// A node that nobody knows.
    fn join(&mut self, hello: &Hello, fx: &mut Effects) -> Result<Admission, Refusal> {
        if self.nodes.len() >= self.max {
            return Err(Refusal::Full { what: "nodes", max: self.max });
        }
        let token = fx.new_token();
        let row = NodeRow {
            token_hash: token.hash(),
            public_key: hello.public_key.clone(),
            addr: hello.addr.clone(),
            incarnation: hello.incarnation,
            heard_at_ns: fx.now.utc_ns,
            ..unknown_row(hello.node.clone(), NodeState::Active)
        };
        let id = self.add(row, fx.now.mono_ns);
        Ok(Admission { id, token: Some(token), is_new: true })
    }

    /// A node that joined, but has no token: it was killed before it could keep it. It shows that
    /// it is the same by its key, and gets a new token.
    fn join_again(
        &mut self,
        id: NodeId,
        hello: &Hello,
        fx: &mut Effects,
    ) -> Result<Admission, Refusal> {
        let place = usize::try_from(id.0).ok().and_then(|at| self.nodes.get_mut(at));
        let Some(node) = place else { return Err(Refusal::UnknownNode(hello.node.clone())) };
        if !node.is_there() {
            return Err(Refusal::NodeRetired(hello.node.clone()));
        }
        if node.row.public_key != hello.public_key {
            return Err(Refusal::NodeExists(hello.node.clone()));
        }
        if hello.incarnation < node.row.incarnation {
            return Err(Refusal::StaleIncarnation(hello.node.clone()));
        }
        let token = fx.new_token();
        self.tokens.remove(&node.row.token_hash);
        node.row.token_hash = token.hash();
        self.tokens.insert(token.hash(), id);
        Ok(Admission { id, token: Some(token), is_new: false })
    }

    fn check_own_hello(&self, id: NodeId, name: &NodeName, hello: &Hello) -> Result<(), Refusal> {
        if *name != hello.node {
            let (token_of, said) = (name.clone(), hello.node.clone());
            return Err(Refusal::WrongNode { token_of, said });
        }
        let Some(node) = self.get(id) else { return Err(Refusal::UnknownNode(name.clone())) };
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

    /// Takes what a node says of itself.
    pub(super) fn greet(&mut self, id: NodeId, hello: Hello, now: Stamp) -> Option<Greeting> {
        let site = self.site_of(&hello.labels);
        let node = self.get_mut(id)?;
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
        (node.rtsp, node.takes_capability) = (hello.rtsp, hello.takes_capability);
        Some(Greeting { is_new_start, has_moved })
    }

    /// Adds a node of a name that is not there.
    pub(super) fn add(&mut self, row: NodeRow, now_ns: u64) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.ids.insert(row.name.clone(), id);
        if row.state != NodeState::Retired {
            self.tokens.insert(row.token_hash, id);
        }
        let site = self.site_of(&row.labels);
        let node = Node {
            key: row.public_key.parse().ok(),
            row,
            heard_ns: now_ns,
            free_bytes: 0,
            ends: VecDeque::new(),
            took_ns: now_ns,
            bad_units: 0,
            care: Care::default(),
            site,
            rtsp: None,
            takes_capability: false,
        };
        self.nodes.push(node);
        id
    }

    /// The node of this name, or a retired one in its place.
    pub(super) fn known_or_ghost(&mut self, name: &NodeName, now_ns: u64) -> NodeId {
        let known = self.id_of(name);
        known.unwrap_or_else(|| self.add(unknown_row(name.clone(), NodeState::Retired), now_ns))
    }

    fn site_of(&mut self, labels: &BTreeMap<String, String>) -> Option<u32> {
        let name = labels.get(SITE_LABEL)?;
        if let Some(site) = self.sites.get(name) {
            return Some(*site);
        }
        // Bound: nodes that come with ever new sites do not fill the memory.
        if self.sites.len() >= self.max {
            return None;
        }
        let site = u32::try_from(self.sites.len()).ok()?;
        self.sites.insert(name.clone(), site);
        Some(site)
    }
}

/// A node of which nothing is known but its name.
fn unknown_row(name: NodeName, state: NodeState) -> NodeRow {
    NodeRow {
        name,
        state,
        token_hash: Digest([0; 32]),
        public_key: String::new(),
        addr: String::new(),
        labels: BTreeMap::new(),
        incarnation: Incarnation(0),
        reports_taken: 0,
        up_rate_cap: None,
        down_rate_cap: None,
        up_rate_seen: 0,
        down_rate_seen: 0,
        heard_at_ns: 0,
    }
}

fn check_hello(hello: &Hello) -> Result<(), Refusal> {
    if hello.public_key.parse::<VerifyKey>().is_err() {
        return Err(Refusal::BadKey);
    }
    let is_addr = |text: &str| {
        let addr = text.parse::<SocketAddr>();
        addr.is_ok_and(|addr| !addr.ip().is_unspecified() && addr.port() != 0)
    };
    let mut addrs = std::iter::once(&hello.addr).chain(&hello.rtsp);
    if let Some(wrong) = addrs.find(|addr| !is_addr(addr)) {
        return Err(Refusal::BadAddr(wrong.chars().take(ADDR_SHOWN).collect()));
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

/// Units that fail their hash until their sender is no source any more.
pub(super) const BAD_UNITS_MAX: u32 = 2;
/// Ends (withdrawn commands, jobs to be forgotten) that are kept for a node that does not live.
const ENDS_MAX: usize = 4_096;
/// Nodes with the same value of this label are near each other.
const SITE_LABEL: &str = "site";
const LABELS_MAX: usize = 32;
const LABEL_BYTES_MAX: usize = 63;
const VALUE_BYTES_MAX: usize = 255;
const ADDR_SHOWN: usize = 64;

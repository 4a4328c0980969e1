//! The plan of one content: which node fetches it from whom.
//!
//! ```text
//! base (u0) --> a --> b --> c          equal links: a chain; every node sends what it gets
//!   |           `--> d                 an uplink of twice a downlink: two children
//!   `--> e --> f                       a fast base, or a chain as deep as the bound: another one
//! ```
//! Receivers are attached in the order of their uplinks, the fastest first. The next one goes to
//! the source that gives it most: the least of what is left of the source's uplink, of what comes
//! in at the source, and of the receiver's downlink. Equal sources are told apart by fewer
//! children, nodes before the base, the same site, less depth. A node that has everything sends as
//! the base does. Where no uplink is left, the receiver shares that of the source whose share is
//! largest, and its edge has no planned rate. An edge that does not connect is not planned for a
//! while.
//!
//! Invariants: edges make a tree, so that no node waits for itself; the planned rates of a source's
//! children are at most its uplink. Bounds: `CHILDREN_MAX` children with planned rates a source,
//! `depth_max` edges from the base; one attachment looks at `LOOKS_MAX` sources.
//! After Shastri (US 2002/0065918, paragraphs 69, 70) and Kumar and Ross (2006).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// A receiver, by the caller's number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u32);

/// A receiver that is to be planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receiver {
    /// Who.
    pub id: MemberId,
    /// Bytes per second that it can send.
    pub up: u64,
    /// Bytes per second that it can receive.
    pub down: u64,
    /// Place: those of the same one are preferred.
    pub site: Option<u32>,
    /// It has the whole content, and only sends.
    pub is_complete: bool,
    /// Others may fetch from it.
    pub may_serve: bool,
}

/// The plan of a content.
#[derive(Debug, Clone)]
pub struct Cascade {
    base: Sender,
    members: BTreeMap<MemberId, Member>,
    depth_max: u32,
    /// Senders with uplink left, by number of children: what they can give, and who.
    /// `None` is the base.
    free: Vec<BTreeSet<(u64, Option<MemberId>)>>,
    /// All senders by their share of one child more.
    shares: BTreeSet<(u64, Reverse<u32>, Option<MemberId>)>,
    /// Receivers with sources that they cannot connect to: no edge is planned between them.
    barred: BTreeSet<(MemberId, MemberId)>,
}

/// A member of a plan.
#[derive(Debug, Clone)]
struct Member {
    receiver: Receiver,
    sender: Sender,
    /// Where it fetches; `None` for a member that is complete.
    edge: Option<Edge>,
}

/// An edge of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// The source; `None` is the base.
    pub source: Option<MemberId>,
    /// Bytes per second for which it is planned; 0: what the source has left over.
    pub rate: u64,
}

/// What a member, or the base, can send.
#[derive(Debug, Clone)]
struct Sender {
    up: u64,
    /// What is left of `up`.
    left: u64,
    /// What comes in; no limit for who has everything.
    inflow: u64,
    children: Vec<MemberId>,
    /// Edges from the base, when it was attached.
    depth: u32,
    site: Option<u32>,
    may_serve: bool,
}

impl Cascade {
    /// A plan for `receivers`. `size`: bytes of the content, where they are known.
    #[must_use]
    pub fn new(base_up: u64, size: Option<u64>, receivers: &[Receiver]) -> Self {
        Self::without(base_up, size, receivers, BTreeSet::new())
    }

    /// A plan without the edges `barred`: receivers with sources that they cannot connect to.
    #[must_use]
    pub fn without(
        base_up: u64,
        size: Option<u64>,
        receivers: &[Receiver],
        barred: BTreeSet<(MemberId, MemberId)>,
    ) -> Self {
        let mut plan = Self::empty(base_up, size, barred);
        let mut order: Vec<_> = receivers.iter().collect();
        // Complete ones first: they send from the start.
        order.sort_by_key(|r| (!r.is_complete, Reverse(r.up), Reverse(r.down), r.id));
        for receiver in order {
            plan.attach(*receiver);
        }
        plan
    }

    fn empty(base_up: u64, size: Option<u64>, barred: BTreeSet<(MemberId, MemberId)>) -> Self {
        let base = Sender {
            up: base_up,
            left: base_up,
            inflow: u64::MAX,
            children: Vec::new(),
            depth: 0,
            site: None,
            may_serve: true,
        };
        let mut plan = Self {
            base,
            members: BTreeMap::new(),
            depth_max: depth_max(base_up, size),
            free: Vec::new(),
            shares: BTreeSet::new(),
            barred,
        };
        plan.list(None);
        plan
    }

    /// The same receivers, planned for what links may carry now. `receivers` are in any order; who
    /// was nearer to the base is planned first, because it has more. A receiver keeps its source
    /// where no other gives it more. Gives the plan, and those that have another source in it.
    #[must_use]
    pub fn anew(
        &self,
        base_up: u64,
        size: Option<u64>,
        receivers: &[Receiver],
    ) -> (Self, Vec<MemberId>) {
        let mut plan = Self::empty(base_up, size, self.barred.clone());
        let order = receivers.iter().map(|receiver| {
            let depth = if receiver.is_complete { 0 } else { self.depth(receiver.id) };
            ((!receiver.is_complete, depth, Reverse(receiver.up), receiver.id), receiver)
        });
        let mut order: Vec<_> = order.collect();
        order.sort_unstable_by_key(|(rank, _)| *rank);
        let mut moved = Vec::new();
        for (_, receiver) in order {
            plan.attach(*receiver);
            let (Some(before), Some(edge)) = (self.edge(receiver.id), plan.edge(receiver.id))
            else {
                continue;
            };
            if before.source == edge.source {
                continue;
            }
            plan.leave_source(receiver.id);
            let keeps = plan.given(before.source, receiver) >= plan.given(edge.source, receiver);
            plan.link(receiver.id, if keeps { before.source } else { edge.source });
            if !keeps {
                moved.push(receiver.id);
            }
        }
        (plan, moved)
    }

    /// Adds a receiver, or plans one anew that is there; its own children stay with it.
    pub fn attach(&mut self, receiver: Receiver) {
        self.leave_source(receiver.id);
        if let Some(member) = self.members.remove(&receiver.id) {
            self.unlist(Some(receiver.id), member.sender.place());
            let sender = Sender { may_serve: receiver.may_serve, ..member.sender };
            self.insert(receiver, sender);
        } else {
            let sender = Sender {
                up: receiver.up,
                left: receiver.up,
                inflow: 0,
                children: Vec::new(),
                depth: 0,
                site: receiver.site,
                may_serve: receiver.may_serve,
            };
            self.insert(receiver, sender);
        }
        if receiver.is_complete {
            self.complete(receiver.id);
        } else {
            let source = self.best_source(&receiver);
            self.link(receiver.id, source);
        }
    }

    /// The member has everything: its source is free of it, and it sends without waiting for bytes.
    pub fn complete(&mut self, id: MemberId) {
        self.leave_source(id);
        self.change(Some(id), |sender| {
            sender.inflow = u64::MAX;
            sender.depth = 0;
        });
        if let Some(member) = self.members.get_mut(&id) {
            member.receiver.is_complete = true;
        }
    }

    /// The member may, or may not any more, get further children. Those it has stay.
    pub fn set_may_serve(&mut self, id: MemberId, may_serve: bool) {
        self.change(Some(id), |sender| sender.may_serve = may_serve);
    }

    /// The member is no source any more: it becomes a leaf. Gives it and those that fetched from
    /// it: they have other sources.
    pub fn bar(&mut self, id: MemberId) -> Vec<MemberId> {
        let mut moved = self.give_up_children(id);
        let receiver = self.members.get(&id).map(|member| member.receiver);
        if let Some(receiver) = receiver.filter(|receiver| !receiver.is_complete) {
            let source = self.best_source(&receiver);
            self.link(id, source);
            moved.push(id);
        }
        moved
    }

    /// The member's links turned out to carry less: at most `up` and `down` bytes per second. Its
    /// children go on to others, and so does it when others share its source with it. Gives those
    /// that have another source.
    pub fn lower(&mut self, id: MemberId, up: u64, down: u64) -> Vec<MemberId> {
        let Some(known) = self.members.get(&id).map(|member| member.receiver) else {
            return Vec::new();
        };
        let edge = self.edge(id);
        let mut moved = self.give_up_children(id);
        let receiver = Receiver { up: known.up.min(up), down: known.down.min(down), ..known };
        if let Some(member) = self.members.get_mut(&id) {
            member.receiver = receiver;
        }
        self.change(Some(id), |sender| {
            (sender.up, sender.left) = (receiver.up, receiver.up);
            sender.may_serve = receiver.may_serve;
        });
        let Some(edge) = edge else { return moved };
        // What is planned for the others may be far from what they could take: nobody may have seen
        // that yet. So this source seems to have most left, and is not chosen again.
        let is_shared = self.sender(edge.source).is_some_and(|s| !s.children.is_empty());
        let source = if is_shared { self.last_source(&receiver, edge.source) } else { edge.source };
        self.link(id, source);
        if source != edge.source {
            moved.push(id);
        }
        moved
    }

    /// The member's links carry as much as this, which may be more than was known: then more is
    /// planned for its edges.
    pub fn raise(&mut self, id: MemberId, up: u64, down: u64) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let receiver = &mut member.receiver;
        let (more_up, more_down) = (up.saturating_sub(receiver.up), down > receiver.down);
        (receiver.up, receiver.down) = (receiver.up.max(up), receiver.down.max(down));
        if more_up > 0 {
            self.change(Some(id), |sender| {
                sender.up += more_up;
                sender.left += more_up;
            });
            self.plan_more(Some(id));
        }
        if let Some(edge) = self.edge(id).filter(|_| more_down) {
            self.plan_more(edge.source);
        }
    }

    /// Takes a member out. Its children go on to others; they are returned.
    pub fn remove(&mut self, id: MemberId) -> Vec<MemberId> {
        let moved = self.give_up_children(id);
        if let Some(member) = self.members.remove(&id) {
            self.unlist(Some(id), member.sender.place());
        }
        moved
    }

    /// Gives a member another source. False, and nothing changes, when the source is beneath the
    /// member, is the member itself, may not serve or is not there.
    pub fn move_to(&mut self, id: MemberId, source: Option<MemberId>) -> bool {
        let can_move = self.can_move(id, source);
        if can_move {
            self.leave_source(id);
            self.link(id, source);
        }
        can_move
    }

    /// Whether the member can have that source.
    #[must_use]
    pub fn can_move(&self, id: MemberId, source: Option<MemberId>) -> bool {
        let can_serve = self.sender(source).is_some_and(|sender| sender.may_serve);
        let is_receiver = self.members.get(&id).is_some_and(|m| !m.receiver.is_complete);
        can_serve && is_receiver && self.may_feed(source, id)
    }

    /// No further edge is planned between a receiver and a source, or again. One that is there
    /// stays: the receiver leaves it by itself.
    pub fn set_barred(&mut self, receiver: MemberId, source: MemberId, is_barred: bool) {
        if is_barred {
            self.barred.insert((receiver, source));
        } else {
            self.barred.remove(&(receiver, source));
        }
    }

    /// Where the member fetches; `None` when it is complete or no member.
    #[must_use]
    pub fn edge(&self, id: MemberId) -> Option<Edge> {
        self.members.get(&id)?.edge
    }

    /// Where the member is to fetch, in the order in which it tries: its source, the source of
    /// that, the source of that, the base.
    #[must_use]
    pub fn sources(&self, id: MemberId) -> Vec<Edge> {
        let mut list = Vec::with_capacity(SOURCES_MAX);
        let mut at = id;
        while let Some(edge) = self.edge(at).filter(|_| list.len() + 1 < SOURCES_MAX) {
            let Some(source) = edge.source else { break };
            // A source further up is a fallback: nothing is planned for it.
            list.push(if at == id { edge } else { Edge { rate: 0, ..edge } });
            at = source;
        }
        let rate = self.edge(id).filter(|edge| edge.source.is_none()).map_or(0, |edge| edge.rate);
        list.push(Edge { source: None, rate });
        list
    }

    /// Whether `id` takes part.
    #[must_use]
    pub fn contains(&self, id: MemberId) -> bool {
        self.members.contains_key(&id)
    }

    /// What is left of an uplink, bytes per second, when its children take so much, and not what is
    /// planned for them. `None` is the base.
    #[must_use]
    pub fn left_when(&self, id: Option<MemberId>, take: impl Fn(MemberId) -> u64) -> u64 {
        let Some(sender) = self.sender(id) else { return 0 };
        let taken = sender.children.iter().map(|child| take(*child));
        sender.up.saturating_sub(taken.fold(0, u64::saturating_add)).min(sender.left)
    }

    /// What is left of a member's uplink, bytes per second.
    #[must_use]
    pub fn left(&self, id: MemberId) -> u64 {
        self.members.get(&id).map_or(0, |member| member.sender.left)
    }

    /// Bytes per second that a member can receive.
    #[must_use]
    pub fn down(&self, id: MemberId) -> u64 {
        self.members.get(&id).map_or(0, |member| member.receiver.down)
    }

    /// What a member was planned as.
    #[must_use]
    pub fn receiver(&self, id: MemberId) -> Option<Receiver> {
        self.members.get(&id).map(|member| member.receiver)
    }

    /// Who fetches from the member.
    #[must_use]
    pub fn children(&self, id: MemberId) -> &[MemberId] {
        self.members.get(&id).map_or(&[], |member| &member.sender.children)
    }

    /// The same of the base, too.
    #[must_use]
    pub fn children_of(&self, id: Option<MemberId>) -> &[MemberId] {
        self.sender(id).map_or(&[], |sender| &sender.children)
    }

    /// Bytes per second that a member, or the base, can send.
    #[must_use]
    pub fn up_of(&self, id: Option<MemberId>) -> u64 {
        self.sender(id).map_or(0, |sender| sender.up)
    }

    /// Whether others may fetch from a member.
    #[must_use]
    pub fn may_serve(&self, id: Option<MemberId>) -> bool {
        self.sender(id).is_some_and(|sender| sender.may_serve)
    }

    /// Whether a source may give parts to a receiver: it is not behind it, and they connect.
    #[must_use]
    pub fn may_give(&self, source: Option<MemberId>, receiver: MemberId) -> bool {
        self.may_feed(source, receiver)
    }

    /// Whether the receiver cannot connect to the source, as far as is known.
    #[must_use]
    pub fn is_barred(&self, source: Option<MemberId>, receiver: MemberId) -> bool {
        source.is_some_and(|source| self.barred.contains(&(receiver, source)))
    }

    /// How many members there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// All members.
    pub fn members(&self) -> impl Iterator<Item = MemberId> {
        self.members.keys().copied()
    }

    /// Members that fetch, with their sources.
    pub fn edges(&self) -> impl Iterator<Item = (MemberId, Edge)> {
        self.members.iter().filter_map(|(id, member)| Some((*id, member.edge?)))
    }

    /// The source that gives `receiver` most.
    fn best_source(&self, receiver: &Receiver) -> Option<MemberId> {
        self.best_source_but(receiver, None)
    }

    /// The same, but not that one, unless there is no other.
    fn best_source_but(
        &self,
        receiver: &Receiver,
        not: Option<Option<MemberId>>,
    ) -> Option<MemberId> {
        let may_feed = |id: &Option<MemberId>| not != Some(*id) && self.may_feed(*id, receiver.id);
        let most = self.free.iter().filter_map(BTreeSet::last).map(|(gives, _)| *gives).max();
        let wanted = receiver.down.min(most.unwrap_or(0)).max(1);
        for senders in &self.free {
            let fitting = senders.range((wanted, None)..).take(LOOKS_MAX).map(|(_, id)| *id);
            let fitting = fitting.filter(&may_feed);
            let rank = |id: &Option<MemberId>| {
                let (site, depth) = self.sender(*id).map_or((None, 0), |s| (s.site, s.depth));
                // Among equals a node: what leaves the base is scarce for everybody.
                (id.is_none(), site.is_none() || site != receiver.site, depth, *id)
            };
            if let Some(best) = fitting.min_by_key(rank) {
                return best;
            }
        }
        let mut sharing = self.shares.iter().rev().take(LOOKS_MAX).map(|(_, _, id)| *id);
        sharing.find(may_feed).or(not).flatten()
    }

    /// The source that gives most to a receiver behind whom nobody waits, but not `left`: one with
    /// uplink left for sure, or, where that is far too little, one that feeds such receivers only.
    /// An uplink that has not been used yet is planned as a narrow one, and is more often than not
    /// as wide as the others.
    fn last_source(&self, receiver: &Receiver, left: Option<MemberId>) -> Option<MemberId> {
        let sure = self.sure_source(receiver, left);
        let best = sure.unwrap_or_else(|| self.best_source_but(receiver, Some(left)));
        let gives = self.sender(best).map_or(0, Sender::gives);
        let is_last = |child: &MemberId| self.children(*child).is_empty();
        let feeds_last = self.members.iter().filter(|(id, member)| {
            let Sender { children, may_serve, depth, .. } = &member.sender;
            let is_open = *may_serve && *depth < self.depth_max && children.len() < CHILDREN_MAX;
            let is_fit = is_open && !children.is_empty() && children.iter().all(is_last);
            is_fit && Some(**id) != left && self.may_feed(Some(**id), receiver.id)
        });
        let most = feeds_last.max_by_key(|(id, member)| (member.sender.share(), Reverse(**id)));
        let is_far_more =
            |(_, member): &(_, &Member)| member.sender.share() > gives.saturating_mul(FAR_MORE);
        let shared = most.filter(is_far_more);
        shared.map(|(id, _)| *id).or(best)
    }

    /// The source, but not that one, which gives a receiver most if each of its children takes as
    /// much as the fastest member can: what is planned for them may be far less than they take, as
    /// long as nobody has measured them.
    fn sure_source(&self, receiver: &Receiver, not: Option<MemberId>) -> Option<Option<MemberId>> {
        let most = self.members.values().map(|member| member.receiver.down).max().unwrap_or(0);
        let gives = |id: Option<MemberId>, sender: &Sender| {
            let is_open = sender.may_serve
                && sender.depth < self.depth_max
                && sender.children.len() < CHILDREN_MAX
                && id != not
                && self.may_feed(id, receiver.id);
            let left = if is_open { self.left_when(id, |_| most) } else { 0 };
            left.min(sender.inflow).min(receiver.down)
        };
        let nodes = self.members.iter().map(|(id, member)| (Some(*id), &member.sender));
        let all = nodes.chain([(None, &self.base)]).filter(|(id, _)| *id != Some(receiver.id));
        let all = all.map(|(id, sender)| {
            let is_near = sender.site.is_some() && sender.site == receiver.site;
            (gives(id, sender), id.is_some(), is_near, Reverse(sender.depth), Reverse(id))
        });
        let best = all.max().filter(|(gives, ..)| *gives > 0);
        best.map(|(.., Reverse(id))| id)
    }

    /// Whether an edge may be planned: it closes no circle, and it connects.
    fn may_feed(&self, source: Option<MemberId>, receiver: MemberId) -> bool {
        !self.is_barred(source, receiver) && !self.is_beneath(source, receiver)
    }

    /// What a source gives a receiver: as planned, or else as a share of what it has over.
    fn given(&self, source: Option<MemberId>, receiver: &Receiver) -> (u64, u64) {
        let sender = self.sender(source).filter(|sender| sender.may_serve);
        let Some(sender) = sender.filter(|sender| sender.depth < self.depth_max) else {
            return (0, 0);
        };
        let has_room = sender.children.len() < CHILDREN_MAX;
        let planned = if has_room { sender.gives().min(receiver.down) } else { 0 };
        if planned > 0 { (planned, 0) } else { (0, sender.share().min(receiver.down)) }
    }

    /// Edges between the base and a member.
    #[must_use]
    pub fn depth(&self, id: MemberId) -> usize {
        let mut at = self.edge(id);
        let mut depth = 0;
        while let Some(edge) = at {
            depth += 1;
            at = edge.source.and_then(|source| self.edge(source));
        }
        depth
    }

    /// Whether `below` is `above` or fetches from it, directly or through others.
    fn is_beneath(&self, below: Option<MemberId>, above: MemberId) -> bool {
        let mut at = below;
        while let Some(id) = at {
            if id == above {
                return true;
            }
            at = self.edge(id).and_then(|edge| edge.source);
        }
        false
    }

    /// Children of a member that sends no more: the first takes its place at its source, the others
    /// go where most is left. The member itself has no source then.
    fn give_up_children(&mut self, id: MemberId) -> Vec<MemberId> {
        self.set_may_serve(id, false);
        let children = self.members.get(&id).map(|m| m.sender.children.clone()).unwrap_or_default();
        let above = self.edge(id).and_then(|edge| edge.source);
        self.leave_source(id);
        for (place, child) in children.iter().enumerate() {
            let Some(receiver) = self.members.get(child).map(|member| member.receiver) else {
                continue;
            };
            self.leave_source(*child);
            let has_room = |sender: &Sender| sender.may_serve && sender.gives() > 0;
            let is_heir = place == 0 && self.sender(above).is_some_and(has_room);
            let source = if is_heir { above } else { self.best_source(&receiver) };
            self.link(*child, source);
        }
        children
    }

    fn link(&mut self, id: MemberId, source: Option<MemberId>) {
        let Some(down) = self.members.get(&id).map(|member| member.receiver.down) else { return };
        let Some(sender) = self.sender(source) else { return };
        let has_room = sender.children.len() < CHILDREN_MAX;
        let rate = if has_room { sender.left.min(sender.inflow).min(down) } else { 0 };
        let inflow = if rate > 0 { rate } else { sender.share().min(down) };
        let depth = sender.depth + 1;
        self.change(source, |sender| {
            sender.left -= rate;
            sender.children.push(id);
        });
        self.change(Some(id), |member| {
            member.inflow = inflow;
            member.depth = depth;
        });
        if let Some(member) = self.members.get_mut(&id) {
            member.edge = Some(Edge { source, rate });
        }
    }

    fn leave_source(&mut self, id: MemberId) {
        let Some(edge) = self.members.get_mut(&id).and_then(|member| member.edge.take()) else {
            return;
        };
        self.change(edge.source, |sender| {
            sender.left += edge.rate;
            sender.children.retain(|child| *child != id);
        });
        self.plan_more(edge.source);
    }

    /// What is left of a source's uplink goes to its children, as far as they can take it and the
    /// source gets it.
    fn plan_more(&mut self, source: Option<MemberId>) {
        let children = self.sender(source).map(|sender| sender.children.clone());
        for child in children.unwrap_or_default() {
            let (left, inflow) = self.sender(source).map_or((0, 0), |s| (s.left, s.inflow));
            let Some(member) = self.members.get_mut(&child) else { continue };
            let most = member.receiver.down.min(inflow);
            let Some(edge) = member.edge.as_mut() else { continue };
            let more = left.min(most.saturating_sub(edge.rate));
            edge.rate += more;
            let rate = edge.rate;
            self.change(source, |sender| sender.left -= more);
            self.change(Some(child), |sender| sender.inflow = rate.max(sender.inflow));
        }
    }

    fn insert(&mut self, receiver: Receiver, sender: Sender) {
        self.members.insert(receiver.id, Member { receiver, sender, edge: None });
        self.list(Some(receiver.id));
    }

    fn sender(&self, id: Option<MemberId>) -> Option<&Sender> {
        match id {
            None => Some(&self.base),
            Some(id) => self.members.get(&id).map(|member| &member.sender),
        }
    }

    /// Changes a sender, and its places in the lists with it.
    fn change(&mut self, id: Option<MemberId>, change: impl FnOnce(&mut Sender)) {
        let Some(before) = self.sender(id).map(Sender::place) else { return };
        self.unlist(id, before);
        let sender = match id {
            None => Some(&mut self.base),
            Some(id) => self.members.get_mut(&id).map(|member| &mut member.sender),
        };
        if let Some(sender) = sender {
            change(sender);
        }
        self.list(id);
    }

    fn list(&mut self, id: Option<MemberId>) {
        let Some(sender) = self.sender(id) else { return };
        if !sender.may_serve || sender.depth >= self.depth_max {
            return;
        }
        let Place { gives, children, share, depth } = sender.place();
        self.shares.insert((share, Reverse(depth), id));
        if gives > 0 && children < CHILDREN_MAX {
            if self.free.len() <= children {
                self.free.resize_with(children + 1, BTreeSet::new);
            }
            if let Some(senders) = self.free.get_mut(children) {
                senders.insert((gives, id));
            }
        }
    }

    fn unlist(&mut self, id: Option<MemberId>, before: Place) {
        self.shares.remove(&(before.share, Reverse(before.depth), id));
        if let Some(senders) = self.free.get_mut(before.children) {
            senders.remove(&(before.gives, id));
        }
    }
}

/// What a sender is listed by.
#[derive(Debug, Clone, Copy)]
struct Place {
    gives: u64,
    children: usize,
    share: u64,
    depth: u32,
}

impl Sender {
    fn place(&self) -> Place {
        let (gives, share) = (self.gives(), self.share());
        Place { gives, children: self.children.len(), share, depth: self.depth }
    }

    /// What one child more gets without taking from the others.
    fn gives(&self) -> u64 {
        self.left.min(self.inflow)
    }

    /// What one child more gets when all share alike.
    fn share(&self) -> u64 {
        let children = u64::try_from(self.children.len()).unwrap_or(u64::MAX);
        (self.up / children.saturating_add(1)).min(self.inflow)
    }
}

/// The least time, in nanoseconds, in which `size` bytes reach all of `receivers`, whoever sends to
/// whom (Kumar and Ross, 2006): no uplink and no downlink can do more.
#[must_use]
pub fn fluid_bound_ns(size: u64, base_up: u64, rates: impl Iterator<Item = (u64, u64)>) -> u64 {
    let (mut count, mut up, mut down) = (0_u128, u128::from(base_up), u64::MAX);
    for (receiver_up, receiver_down) in rates {
        count += 1;
        up += u128::from(receiver_up);
        down = down.min(receiver_down);
    }
    let bits = u128::from(size) * NS_PER_S;
    let over = |work: u128, rate: u128| work / rate.max(1);
    let bound = over(bits, u128::from(base_up)).max(over(bits, u128::from(down)));
    u64::try_from(bound.max(over(bits * count, up))).unwrap_or(u64::MAX)
}

/// Edges from the base at most: each adds one unit's time, and all of them may add a twentieth of
/// the whole.
fn depth_max(up: u64, size: Option<u64>) -> u32 {
    let Some(size) = size else { return DEPTH_UNKNOWN };
    let over_up = |bytes: u64| u128::from(bytes) * NS_PER_S / u128::from(up.max(1));
    let depth = over_up(size) / 20 / (over_up(UNIT_BYTES) + HALF_ROUND_TRIP_NS);
    u32::try_from(depth).unwrap_or(u32::MAX).clamp(DEPTH_MIN, DEPTH_MAX)
}

/// Streams that a sender has room for.
pub const CHILDREN_MAX: usize = 16;
/// Sources in a receiver's list, the base among them.
pub const SOURCES_MAX: usize = 4;
/// A shared uplink gives far more than one with room when it gives so many times as much.
const FAR_MORE: u64 = 4;
const LOOKS_MAX: usize = 32;
const UNIT_BYTES: u64 = 65_536;
/// Nothing is measured of the way between nodes: a few switches.
const HALF_ROUND_TRIP_NS: u128 = 1_000_000;
const DEPTH_MIN: u32 = 8;
const DEPTH_MAX: u32 = 1_000;
/// For a content whose size nobody has said: a chain for most fleets, still.
const DEPTH_UNKNOWN: u32 = 32;
const NS_PER_S: u128 = 1_000_000_000;

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

//! A book from the rows of a ledger.
//!
//! Rows are taken as they are. What they lack (a ledger that was mended by hand) is filled in: a
//! node that a job names and no row has counts as retired, a delivery without a row as pending.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::dist::book::answers::Answers;
use crate::dist::book::effects::Effects;
use crate::dist::book::options::ns;
use crate::dist::book::records::{
    Command, Content, Delivery, Job, NodeId, RateMeter, command_at, drop_put,
};
use crate::dist::book::{Book, BookOptions};
use crate::dist::ids::{CommandKey, Digest, Incarnation, NodeName, Stamp};
use crate::dist::keys::BaseKeys;
use crate::dist::rows::{DeliveryRow, NodeRow, Rows};
use crate::dist::wire::agent::NodeOrder;
use crate::dist::wire::job::{DeliveryState, JobState, NodeState, Totals};

impl Book {
    /// A book that goes on from these rows.
    #[must_use]
    pub fn new(rows: Rows, keys: BaseKeys, options: BookOptions, at: Stamp) -> Self {
        let answers = Answers::new(options.limits.answers);
        let mut book = Self {
            fx: Effects::new(options.seed, rows.last_event.as_ref(), at),
            options,
            keys,
            nodes: Vec::new(),
            node_ids: HashMap::new(),
            tokens: HashMap::new(),
            sites: HashMap::new(),
            jobs: BTreeMap::new(),
            job_refs: HashMap::new(),
            ended: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            contents: HashMap::new(),
            flowing: BTreeSet::new(),
            tended: None,
            deliveries: 0,
            counts: [0; DeliveryState::ALL.len()],
            answers,
            base_rate: RateMeter::default(),
            ticked_ns: at.mono_ns,
            swept_ns: at.mono_ns,
        };
        book.read(rows);
        book
    }

    fn read(&mut self, rows: Rows) {
        let Rows { jobs, mut commands, deliveries, nodes, contents, mut answers, last_event: _ } =
            rows;
        let heard: HashMap<NodeName, i64> =
            nodes.iter().map(|row| (row.name.clone(), row.heard_at_ns)).collect();
        for row in nodes {
            self.add_node(row);
        }
        for row in jobs {
            self.fx.saw_id(row.id.0);
            let names: Vec<_> = row.servers.iter().map(|server| server.node.clone()).collect();
            let targets = names.iter().map(|name| self.node_or_ghost(name)).collect();
            self.add_job(row, targets, None);
        }
        commands.sort_unstable_by_key(|row| row.key);
        for row in commands {
            let Some(job) = self.jobs.get_mut(&row.key.job) else { continue };
            // Numbers without a gap: one that is missing has made all behind it unusable.
            if command_at(job.commands.len()) != row.key.command {
                continue;
            }
            if let (Some(path), Some(_)) = (row.op.path(), row.content) {
                job.puts.insert(path.to_owned(), row.key.command);
            }
            let pending = |_: &NodeId| Delivery::pending(row.created_at_ns);
            let deliveries = job.targets.iter().map(pending).collect();
            self.deliveries += job.targets.len();
            job.commands.push(Command { row, totals: Totals::default(), deliveries });
        }
        for row in deliveries {
            self.read_delivery(row);
        }
        for row in contents {
            self.fx.saw_id(row.id.0);
            let is_whole = row.blake3.is_some();
            let content = Content {
                have: row.size.filter(|_| is_whole).unwrap_or(0),
                is_begun: is_whole,
                grew_ns: self.fx.now.mono_ns,
                flow: None,
                row,
            };
            self.contents.insert(content.row.id, content);
        }
        answers.sort_by_key(|row| row.at_ns);
        for row in answers {
            self.answers.remember(row);
        }
        self.count(&heard);
    }

    fn read_delivery(&mut self, row: DeliveryRow) {
        let node = self.node_ids.get(&row.node).copied();
        let source = row.source.and_then(|name| self.node_ids.get(&name)).copied();
        let job = self.jobs.get_mut(&row.key.job);
        let delivery =
            job.zip(node).and_then(|(job, node)| job.delivery_mut(row.key.command, node));
        if let Some(delivery) = delivery {
            *delivery = Delivery {
                state: row.state,
                offset: row.offset,
                is_fresh: true,
                rate: 0,
                source,
                switches: row.switches,
                attempts: row.attempts,
                reason: row.reason,
                detail: row.detail.map(String::into_boxed_str),
                receipt: row.receipt.map(Box::new),
                updated_at_ns: row.updated_at_ns,
                moved_ns: self.fx.now.mono_ns,
                grew_ns: self.fx.now.mono_ns,
            };
        }
    }

    /// Totals, what is open at each node, and what has ended while a node may not have listened.
    fn count(&mut self, heard: &HashMap<NodeName, i64>) {
        let mut ends: Vec<(i64, NodeId, NodeOrder)> = Vec::new();
        let mut open: Vec<(NodeId, CommandKey)> = Vec::new();
        let mut counts: HashMap<DeliveryState, i64> = HashMap::new();
        let (now_ns, kept_ns) = (self.fx.now.utc_ns, ns(self.options.timeouts.content_kept));
        for (id, job) in &mut self.jobs {
            let Job { row, targets, commands, totals, content_bytes, .. } = job;
            let contents = &self.contents;
            for (command, at) in commands.iter_mut().zip(0..) {
                let key = CommandKey { job: *id, command: command_at(at) };
                for (node, delivery) in targets.iter().zip(&command.deliveries) {
                    command.totals.add(delivery.state);
                    totals.add(delivery.state);
                    *counts.entry(delivery.state).or_default() += 1;
                    if delivery.state.is_open() {
                        open.push((*node, key));
                    } else if delivery.state == DeliveryState::Cancelled {
                        ends.push((delivery.updated_at_ns, *node, NodeOrder::Cancel { key }));
                    }
                }
                let content = command.row.content.and_then(|id| contents.get(&id));
                if let Some(content) = content {
                    let is_whole = content.row.blake3.is_some();
                    let size = content.row.size.filter(|_| is_whole).unwrap_or(0);
                    *content_bytes = content_bytes.saturating_add(size);
                }
                let is_abandoned = content.is_some_and(|content| content.row.is_abandoned);
                let is_withdrawn = command.totals.cancelled > 0 && command.totals.open() == 0;
                if is_abandoned || is_withdrawn {
                    job.undone += 1;
                    drop_put(&mut job.puts, &command.row);
                }
            }
            let Some(ended_at) = row.ended_at_ns else { continue };
            let age_ns = u64::try_from(now_ns.saturating_sub(ended_at)).unwrap_or(0);
            if row.state == JobState::Cancelled || age_ns >= kept_ns {
                // The base may have been stopped before it removed them.
                job.is_expired = true;
                let contents = commands.iter().filter_map(|command| command.row.content);
                contents.for_each(|content| self.fx.expire(content));
            }
            if matches!(row.state, JobState::Completed | JobState::Cancelled) {
                let forget = NodeOrder::Forget { job: *id };
                ends.extend(targets.iter().map(|node| (ended_at, *node, forget.clone())));
            }
        }
        for (state, count) in counts {
            self.count_deliveries(state, count);
        }
        for (id, key) in open {
            match self.node_at_mut(id).filter(|node| node.is_there()) {
                Some(node) => drop(node.open.insert(key)),
                None => self.fail_at_retired(key, id),
            }
        }
        let closing = self.jobs.iter().filter(|(_, job)| job.row.state == JobState::Closing);
        let closing: Vec<_> = closing.map(|(id, _)| *id).collect();
        closing.into_iter().for_each(|id| self.settle(id));
        ends.sort_by_key(|(at_ns, ..)| *at_ns);
        for (at_ns, id, order) in ends {
            let Some(node) = self.node_at_mut(id).filter(|node| node.is_there()) else { continue };
            let heard_ns = heard.get(&node.row.name).copied().unwrap_or(i64::MIN);
            if at_ns >= heard_ns.saturating_sub(ENDS_MARGIN_NS) {
                if node.ends.len() >= super::ENDS_MAX {
                    node.ends.pop_front();
                }
                node.ends.push_back((None, order));
            }
        }
    }

    /// The node of this name, or a retired one in its place.
    fn node_or_ghost(&mut self, name: &NodeName) -> NodeId {
        if let Some(id) = self.node_ids.get(name) {
            return *id;
        }
        self.add_node(NodeRow {
            name: name.clone(),
            state: NodeState::Retired,
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
        })
    }
}

/// What ended up to a minute before the last sign of life may not have come through.
const ENDS_MARGIN_NS: i64 = 60_000_000_000;

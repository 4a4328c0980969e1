//! The agent of a node: which command is next, what becomes of it, what the base is told.
//!
//! ```text
//! orders --> [journal] --> fetch (several at once) --> turn --> apply --> [journal] --> receipt
//!                            ^     |                                          |
//!                          links   '--- progress, switches ----> reports <----'
//! ```
//! Contents are fetched ahead; the media folder is changed in the order that the job wants
//! (`turns`). A report leaves when the journal holds what it says. [`stage`] has the table of
//! stages, [`crate::dist::fetch`] the choice of sources. Without the base the node goes on by what
//! it has journaled (`alone`), and looks for other sources among the nodes of the job (`survey`).
//! Sources that it cannot connect to are taken last for a while (`edges`). Orders for other nodes
//! are handed on (`hand`, [`crate::dist::relay`]).
//!
//! Invariants: an order that comes again has no second effect; a command that is completed stays
//! completed over restarts; verified bytes are never asked for again.
//! Bounds: `ACTIVE_MAX` contents come at once, `OPEN_MAX` with those whose sources are starved;
//! `COMMANDS_MAX` open commands, then [`Agent::is_full`]; `ENDED_MAX` ended ones are remembered.

mod alone;
mod care;
mod edges;
mod further;
mod hand;
mod limits;
pub mod live;
mod orders;
mod outbox;
pub mod paths;
mod replay;
pub mod stage;
mod steps;
mod survey;
mod turns;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use crate::base::time::Mono;
use crate::dist::fetch::{AskId, Fetch, LinkEvent, LinkId, Part};
use crate::dist::ids::{BaseEpoch, CommandKey, ContentId, Epoch, JobId, NodeName};
use crate::dist::journal::Record;
use crate::dist::reflect::LiveList;
use crate::dist::relay::{HandId, Relay};
use crate::dist::uplink::Share;
use crate::dist::wire::agent::{LiveTotals, NodeOrder, Report, ServerList, SignedReceipt, Source};
use crate::dist::wire::job::{Op, Order, Reason};
use crate::dist::wire::peer::{Alternative, ContentState};
use crate::dist::wire::relay::RelayBody;
use edges::Edges;
use limits::Limits;
use live::{Live, LiveAction};
use outbox::Outbox;
use stage::{Input, Stage};
use survey::Surveys;
use turns::Turns;

/// What the caller does, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Append to the journal; [`Agent::handle_journaled`] when it is durable.
    Journal(Record),
    /// Make place for a content; [`Agent::handle_reserved`].
    Reserve {
        /// Which.
        content: ContentId,
        /// Its size, where it is known.
        size: Option<u64>,
    },
    /// Open a connection to a source; [`Agent::handle_link`].
    Connect {
        /// Which content.
        content: ContentId,
        /// Number of the link.
        link: LinkId,
        /// To whom.
        source: Source,
        /// First byte that is wanted.
        from: u64,
        /// Not all from there on, but a part.
        part: Option<Part>,
        /// The source in use gives less than it gets, and is left for this one.
        is_slow: bool,
    },
    /// Take the bytes of a link from now on.
    Use {
        /// Which content.
        content: ContentId,
        /// Number of the link.
        link: LinkId,
    },
    /// Close a link.
    Close {
        /// Which content.
        content: ContentId,
        /// Number of the link.
        link: LinkId,
    },
    /// Ask a source how much it has; [`Agent::handle_state`].
    Ask {
        /// Which content.
        content: ContentId,
        /// Number of the question.
        ask: AskId,
        /// Whom.
        source: Source,
    },
    /// Remove what is there of a content that is not published, and forget one that is.
    Discard {
        /// Which.
        content: ContentId,
    },
    /// Make room: remove all contents but these.
    Collect {
        /// Contents that the agent knows.
        known: Vec<ContentId>,
    },
    /// Change the media folder; [`Agent::handle_applied`].
    Apply(Apply),
    /// A job may take this from now on.
    Limit {
        /// The job.
        job: JobId,
        /// Its part of the uplink, and bytes per second that this node may take of it; `None`:
        /// the job has ended.
        limit: Option<(Share, Option<u64>)>,
    },
    /// Hand orders on to another node; [`Agent::handle_handed`].
    Hand {
        /// Number of the part.
        hand: HandId,
        /// To whom.
        node: NodeName,
        /// Where it is.
        addr: String,
        /// The part.
        body: RelayBody,
    },
    /// Ask another node how it is; [`Agent::handle_neighbour`].
    AskNode {
        /// Whom.
        node: NodeName,
        /// Where it is.
        addr: String,
        /// Number of the question.
        query: u64,
        /// The question.
        envelope: String,
    },
    /// Open or close a live path; [`Agent::handle_live`].
    Live {
        /// The command.
        key: CommandKey,
        /// What it is to be.
        action: LiveAction,
    },
    /// Fetch bytes of the base; [`Agent::handle_probed`].
    Probe {
        /// Number of the probe.
        number: u64,
        /// How many.
        bytes: u64,
    },
    /// Say hello again; where `is_new_start`, as a new incarnation.
    HelloAgain {
        /// Numbers of reports begin anew.
        is_new_start: bool,
    },
}

/// A change of the media folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apply {
    /// The command.
    pub key: CommandKey,
    /// What is to be done.
    pub op: Op,
    /// The content of a put, all of it verified.
    pub content: Option<ContentId>,
    /// An attempt before may have changed the folder already.
    pub is_again: bool,
    /// From whom how many bytes came.
    pub via: BTreeMap<String, u64>,
    /// What came of a live path.
    pub live: Option<LiveTotals>,
}

/// Why something did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its stable name.
    pub reason: Reason,
    /// For people: path, error of the system.
    pub detail: String,
}

/// What there is of a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    /// Verified bytes.
    pub have: u64,
    /// Bytes ahead of those that are here, too, in pieces.
    pub here: Vec<Range<u64>>,
    /// That is all.
    pub is_whole: bool,
}

/// Commands of one node, from order to receipt.
#[derive(Debug)]
pub struct Agent {
    me: NodeName,
    deliveries: BTreeMap<CommandKey, Delivery>,
    contents: BTreeMap<ContentId, CommandKey>,
    /// Plans of contents that are not being fetched.
    plans: BTreeMap<ContentId, (Epoch, Vec<Source>)>,
    /// Further sources of contents, of the same plans.
    further: BTreeMap<ContentId, Vec<Source>>,
    /// Contents whose plan is not journaled as it is now.
    unnoted: BTreeSet<ContentId>,
    /// When plans were last journaled.
    plans_noted_at: Mono,
    /// Other nodes of jobs, with the version of the list.
    servers: BTreeMap<JobId, (u32, ServerList)>,
    surveys: Surveys,
    edges: Edges,
    relay: Relay,
    /// Jobs of which nothing was needed any more, the oldest first.
    forgotten: VecDeque<JobId>,
    turns: Turns,
    limits: Limits,
    outbox: Outbox,
    /// Puts that wait for room, the most urgent first.
    ready: BTreeSet<(Reverse<u8>, CommandKey)>,
    /// Puts that are reserving or fetching.
    fetching: BTreeSet<CommandKey>,
    /// Puts that have all bytes and wait for earlier commands.
    verified: BTreeSet<CommandKey>,
    retries: BTreeSet<(Mono, CommandKey)>,
    /// Ended commands, the oldest first.
    ended: VecDeque<CommandKey>,
    open_count: usize,
    records: u64,
    /// Records that are durable.
    durable: u64,
    /// What waits for a record to be durable.
    held: VecDeque<(u64, Held)>,
    is_online: bool,
    /// Greatest epoch of a base that has spoken.
    base_epoch: BaseEpoch,
    /// Number of the last order that began something anew.
    renewed: u64,
    /// Number of the last probe.
    probed: u64,
    progress_at: Mono,
    /// When the journal last noted where bytes come from.
    noted_at: Mono,
}

#[derive(Debug)]
enum Held {
    Report(Option<CommandKey>, Report),
    Apply(Apply),
}

#[derive(Debug)]
struct Delivery {
    sequence: Order,
    priority: u8,
    op: Op,
    content: Option<ContentId>,
    size: Option<u64>,
    stage: Stage,
    fetch: Option<Fetch>,
    /// Of a live command.
    live: Option<Box<Live>>,
    via: BTreeMap<String, u64>,
    attempts: u32,
    /// Verified bytes at the last attempt that counted.
    attempt_from: u64,
    /// Verified bytes as last reported.
    told: u64,
    /// Verified bytes when the journal last noted where they come from.
    noted: u64,
    retry_at: Option<Mono>,
    /// Why the last attempt failed.
    failure: Option<Reason>,
    /// Room was made for it once.
    has_collected: bool,
    is_again: bool,
    end: Option<Record>,
    /// The base has the last report about what was ordered or how it ended.
    is_taken: bool,
}

impl Agent {
    /// Begins what the journal left open: commands without a content.
    pub fn start(&mut self, now: Mono, out: &mut Vec<Action>) {
        let open = self.deliveries.iter().filter(|(_, known)| !known.stage.is_ended());
        for key in open.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.consider(key, now, out);
        }
        self.follow_limits(now, out);
    }

    /// The job of a content.
    #[must_use]
    pub fn job_of(&self, content: ContentId) -> Option<JobId> {
        self.contents.get(&content).map(|key| key.job)
    }

    /// No further command is to be read from the base for now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.open_count >= COMMANDS_MAX
    }

    /// Contents come, or are about to.
    #[must_use]
    pub fn is_fetching(&self) -> bool {
        !self.fetching.is_empty()
    }

    /// Whether the base can be reached: without it, failures to find a source do not count.
    pub fn handle_online(&mut self, is_online: bool) {
        self.is_online = is_online;
    }

    /// A base of this epoch speaks. False when a later one has spoken before: then nothing that it
    /// orders may be taken. Plans of the bases before a new one give way to its own, whatever their
    /// numbers. A base that does not say its epoch (0) is believed.
    pub fn handle_base(&mut self, epoch: BaseEpoch) -> bool {
        if epoch <= self.base_epoch {
            return epoch == self.base_epoch || epoch == BaseEpoch(0);
        }
        self.base_epoch = epoch;
        self.limits.handle_new_base();
        self.plans.values_mut().for_each(|(plan, _)| *plan = Epoch(0));
        let live = self.deliveries.values_mut().filter_map(|delivery| delivery.live.as_mut());
        live.for_each(|live| live.reflect.handle_new_base());
        for key in &self.fetching {
            let fetch = self.deliveries.get_mut(key).and_then(|delivery| delivery.fetch.as_mut());
            fetch.into_iter().for_each(Fetch::handle_new_base);
        }
        true
    }

    /// The base has said what time it is; 0 says nothing.
    pub fn handle_base_time(&mut self, utc_ns: i64, now: Mono, out: &mut Vec<Action>) {
        if utc_ns != 0 {
            self.relay.set_clock(utc_ns, now);
            self.limits.set_clock(utc_ns, now);
            self.follow_limits(now, out);
            self.begin(now, out);
        }
    }

    /// Takes an order; one that is known already has no second effect.
    pub fn handle_order(&mut self, order: NodeOrder, now: Mono, out: &mut Vec<Action>) {
        match order {
            NodeOrder::Command { key, sequence, priority, op, content, size } => {
                let record = Record::Command { key, sequence, priority, op, content, size };
                self.handle_command(key, record, now, out);
            }
            NodeOrder::Sources { content, epoch, sources, further } => {
                self.note_further(content, epoch, further);
                self.handle_sources(content, epoch, sources, now, out);
                self.use_further(content, now, out);
            }
            NodeOrder::Reflect { key, epoch, sources, capability } => {
                let list = LiveList { sources, capability };
                self.handle_reflect(key, (epoch, list), now, out);
            }
            NodeOrder::Finish { key } => self.handle_finish(key, now, out),
            NodeOrder::Cancel { key } => self.handle_cancel(key, now, out),
            NodeOrder::Terms { job, epoch, terms } => {
                if self.limits.take(job, epoch, &terms) {
                    self.journal(Record::Terms { job, terms }, out);
                }
                self.follow_limits(now, out);
            }
            NodeOrder::Servers { job, list_version, servers } => {
                self.handle_servers(job, list_version, servers, out);
            }
            NodeOrder::Relay { body } => self.handle_base_relay(body, now, out),
            NodeOrder::Ask { node, addr, query, envelope } => {
                out.push(Action::AskNode { node, addr, query, envelope });
            }
            NodeOrder::Forget { job } => self.handle_forget(job, now, out),
            NodeOrder::Query { query } => self.handle_query(query),
            NodeOrder::Renew { key, number } => self.handle_renew(key, number, now, out),
            NodeOrder::Restart { number } => self.handle_restart(number, now, out),
            // The same one again is under way, or was told.
            NodeOrder::Probe { number, bytes } if number > self.probed => {
                self.probed = number;
                out.push(Action::Probe { number, bytes });
            }
            NodeOrder::Probe { .. } => {}
            NodeOrder::HelloAgain => {
                self.outbox.renumber();
                out.push(Action::HelloAgain { is_new_start: true });
            }
            NodeOrder::Idle => {}
        }
        self.begin(now, out);
    }

    /// The first `records` records of this run are durable.
    pub fn handle_journaled(&mut self, records: u64, out: &mut Vec<Action>) {
        self.durable = self.durable.max(records);
        while let Some((_, held)) = self.held.pop_front_if(|(record, _)| *record <= records) {
            match held {
                Held::Report(key, report) => self.outbox.push(key, report),
                Held::Apply(apply) => out.push(Action::Apply(apply)),
            }
        }
    }

    /// There is place for a content, or not.
    pub fn handle_reserved(
        &mut self,
        content: ContentId,
        reserved: Result<Reserved, Failure>,
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        let Some((key, delivery)) = self.of_content(content) else { return };
        if delivery.stage != Stage::Reserving {
            return;
        }
        match reserved {
            Ok(Reserved { is_whole: true, .. }) => self.whole(key, now, out),
            Ok(Reserved { have, is_whole: false, here }) => {
                let size = delivery.size;
                self.move_on(key, Input::Reserved);
                if !self.limits.is_open(key.job) {
                    if let Some(delivery) = self.deliveries.get_mut(&key) {
                        delivery.told = have;
                    }
                    self.hold_back(key, out);
                    return self.begin(now, out);
                }
                let mut fetch = Fetch::new(self.me.clone(), have, size);
                fetch.set_capped(self.limits.has_rate(key.job));
                fetch.set_here(here);
                let mut actions = Vec::new();
                if let Some((epoch, sources)) = self.plans.get(&content) {
                    let sources = self.edges.in_order(sources, now);
                    fetch.handle_sources(*epoch, sources, now, &mut actions);
                }
                if let Some(delivery) = self.deliveries.get_mut(&key) {
                    (delivery.fetch, delivery.told) = (Some(fetch), have);
                }
                self.follow(key, content, actions, now, out);
                self.use_further(content, now, out);
            }
            Err(failure) => self.fail(key, failure, now, out),
        }
        self.begin(now, out);
    }

    /// Takes what happened on a link.
    pub fn handle_link(
        &mut self,
        content: ContentId,
        link: LinkId,
        event: LinkEvent,
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        match event {
            LinkEvent::FirstByte => self.edges.connected(content, link),
            LinkEvent::Unreachable => self.bar(content, link, now, out),
            _ => {}
        }
        self.with_fetch(content, now, out, |fetch, actions| {
            fetch.handle_link(link, event, now, actions);
        });
    }

    /// A source that has no room names others, before it is told that it is busy.
    pub fn handle_alternatives(
        &mut self,
        content: ContentId,
        link: LinkId,
        others: &[Alternative],
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        self.with_fetch(content, now, out, |fetch, _| fetch.handle_alternatives(link, others));
    }

    /// Takes the answer of a source that was asked.
    pub fn handle_state(
        &mut self,
        content: ContentId,
        ask: AskId,
        state: Option<&ContentState>,
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        if Surveys::is_own(ask) {
            return self.handle_survey(content, ask, state, now, out);
        }
        self.with_fetch(content, now, out, |fetch, actions| {
            fetch.handle_state(ask, state, now, actions);
        });
    }

    /// Bytes of a content cannot be written.
    pub fn handle_unwritable(
        &mut self,
        content: ContentId,
        failure: Failure,
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        let Some((key, delivery)) = self.of_content(content) else { return };
        if delivery.stage == Stage::Fetching {
            self.fail(key, failure, now, out);
            self.begin(now, out);
        }
    }

    /// Bytes of the base have reached the disk of this node, or not.
    pub fn handle_probed(&mut self, number: u64, probed: Result<(), String>) {
        self.outbox.push(None, Report::Probed { number, fault: probed.err() });
    }

    /// The media folder is changed, or not.
    pub fn handle_applied(
        &mut self,
        key: CommandKey,
        applied: Result<SignedReceipt, Failure>,
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        match applied {
            Ok(receipt) => {
                if self.move_on(key, Input::Applied) {
                    let report = Report::Completed { receipt: receipt.clone() };
                    self.end(key, Record::Completed { key, receipt }, report, now, out);
                }
            }
            Err(failure) => self.fail(key, failure, now, out),
        }
    }

    /// Lets time pass: to be called some times a second.
    pub fn handle_time(&mut self, now: Mono, out: &mut Vec<Action>) {
        self.follow_limits(now, out);
        for key in self.fetching.iter().copied().collect::<Vec<_>>() {
            let content = self.deliveries.get(&key).and_then(|delivery| delivery.content);
            if let Some(content) = content {
                self.with_fetch(content, now, out, |fetch, actions| {
                    fetch.handle_time(now, actions);
                });
            }
        }
        self.note_via(now, out);
        self.go_on_alone(now, out);
        self.follow_relay(now, out);
        self.note_live(now, out);
        while let Some((at, key)) = self.retries.first().copied().filter(|(at, _)| *at <= now) {
            self.retries.remove(&(at, key));
            self.move_on(key, Input::Due);
            self.consider(key, now, out);
        }
        self.begin(now, out);
    }

    /// The reports that are to be sent now: the number of the first, and the reports. The same
    /// again until [`Agent::handle_taken`].
    pub fn next_batch(&mut self, now: Mono) -> (u64, Vec<Report>) {
        if self.outbox.count() < PROGRESS_BEHIND_MAX && now.since(self.progress_at) >= PROGRESS {
            self.progress_at = now;
            for key in &self.fetching {
                let Some(delivery) = self.deliveries.get_mut(key) else { continue };
                let fetch = delivery.fetch.as_ref().map(|fetch| (fetch.have(), fetch.rate()));
                let Some((offset, rate)) = fetch.or_else(|| delivery.live_progress()) else {
                    continue;
                };
                if offset > delivery.told {
                    delivery.told = offset;
                    self.outbox.push(None, Report::Progress { key: *key, offset, rate });
                }
            }
        }
        self.outbox.next_batch()
    }

    /// Reports that the base has not taken.
    #[must_use]
    pub fn reports_open(&self) -> usize {
        self.outbox.count()
    }

    /// The base has the reports up to the number `taken`.
    pub fn handle_taken(&mut self, taken: u64, out: &mut Vec<Action>) {
        let deliveries = &mut self.deliveries;
        let is_known = self.outbox.handle_taken(taken, |key, report| {
            let Some(delivery) = deliveries.get_mut(&key) else { return };
            let is_last = matches!(report, Report::Received { .. }) != delivery.stage.is_ended();
            delivery.is_taken |= is_last;
        });
        if !is_known {
            self.outbox.renumber();
            out.push(Action::HelloAgain { is_new_start: true });
        }
    }

    /// Moves a command to its next stage; false when `input` has no effect.
    fn move_on(&mut self, key: CommandKey, input: Input) -> bool {
        let Some(delivery) = self.deliveries.get_mut(&key) else { return false };
        let Some(next) = delivery.stage.next(input) else { return false };
        delivery.stage = next;
        let sets = [
            (&mut self.fetching, matches!(next, Stage::Reserving | Stage::Fetching)),
            (&mut self.verified, next == Stage::Verified),
        ];
        for (set, is_in) in sets {
            if is_in {
                set.insert(key);
            } else {
                set.remove(&key);
            }
        }
        true
    }

    fn of_content(&self, content: ContentId) -> Option<(CommandKey, &Delivery)> {
        let key = *self.contents.get(&content)?;
        Some((key, self.deliveries.get(&key)?))
    }

    fn journal(&mut self, record: Record, out: &mut Vec<Action>) {
        self.records += 1;
        out.push(Action::Journal(record));
    }

    /// Holds something back until the last record is durable.
    fn hold(&mut self, held: Held) {
        self.held.push_back((self.records, held));
    }
}

/// Open commands: some hundred bytes each.
const COMMANDS_MAX: usize = 200_000;
/// Between two reports of progress.
const PROGRESS: Duration = Duration::from_secs(1);
/// Progress is not reported while more than so many reports wait.
const PROGRESS_BEHIND_MAX: usize = 64;

#[cfg(test)]
mod tests;

//! Live paths of a node: from the order to reflect one to the receipt for it.
//!
//! ```text
//! Command, Reflect --open--> reserving --Opened--> fetching: packets come, or none do (said)
//! pause, window closed --close--> waiting          Finish --close--> last look --> receipt
//! ```
//! From `Close` to `Closed` the path is neither opened nor given another list, and no receipt is
//! made: what comes meanwhile waits for that.
//! A live path takes no room of contents that come and waits for no other command. It has no end
//! of its own: [`NodeOrder::Finish`](crate::dist::wire::agent::NodeOrder::Finish) says that it has
//! had its time. One of which no packet ever came has failed.
//! Invariants: what the receipt says is what came, over restarts too, but for the last
//! `NOTE_EVERY` before a crash; a node that starts without its base goes on with the list that its
//! journal has.

use std::time::Duration;

use super::stage::{Input, Stage};
use super::{Action, Agent, Delivery, Failure};
use crate::base::time::Mono;
use crate::dist::ids::{CommandKey, Epoch};
use crate::dist::journal::Record;
use crate::dist::reflect::{LiveList, Reflect, ReflectAction, Sight, check_live};
use crate::dist::wire::agent::{Report, SwitchCause};
use crate::dist::wire::job::{Op, Reason};

/// What a live path is to be. A newer one takes the place of one that was not done yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveAction {
    /// It has these sources, in the order of preference.
    Open {
        /// Name.
        path: String,
        /// Its sources, and what is shown to those that are nodes.
        list: LiveList,
    },
    /// It is looked at once more, and ends.
    Close {
        /// Name.
        path: String,
    },
}

/// What happened to a live path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveEvent {
    /// It has sources, those of the last `Open` or will have them; or it has none.
    Opened(Result<(), Failure>),
    /// It was looked at.
    Seen(Sight),
    /// It has ended, and was like this.
    Closed(Option<Sight>),
}

/// A live command at its node.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) reflect: Reflect,
    /// The base has said that it has had its time.
    is_finishing: bool,
    noted_at: Mono,
    noted_bytes: u64,
}

impl Agent {
    /// Takes what happened to the live path of a command.
    pub fn handle_live(
        &mut self,
        key: CommandKey,
        event: LiveEvent,
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        match event {
            LiveEvent::Opened(Ok(())) => {
                if !self.move_on(key, Input::Reserved) {
                    return;
                }
                if self.is_finishing(key) {
                    self.close_live(key, out);
                } else if !self.limits.is_open(key.job) {
                    self.hold_back(key, out);
                }
            }
            LiveEvent::Opened(Err(failure)) => self.fail(key, failure, now, out),
            LiveEvent::Seen(sight) => {
                let stage = self.deliveries.get(&key).map(|delivery| delivery.stage);
                if stage == Some(Stage::Fetching) {
                    self.with_live(key, out, |live, actions| {
                        live.reflect.handle_sight(&sight, now, actions);
                    });
                }
            }
            LiveEvent::Closed(sight) => {
                let live = self.live_mut(key).filter(|live| live.reflect.is_closing());
                let Some(live) = live else { return };
                // Its reports would say what is not so any more.
                let mut unsaid = Vec::new();
                if let Some(sight) = sight {
                    live.reflect.handle_sight(&sight, now, &mut unsaid);
                }
                live.reflect.close();
                if self.is_finishing(key) {
                    self.finish_live(key, now, out);
                } else {
                    self.consider_live(key, now, out);
                }
            }
        }
    }

    /// The base says from whom a live path is reflected.
    pub(super) fn handle_reflect(
        &mut self,
        key: CommandKey,
        (epoch, list): (Epoch, LiveList),
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        let mut is_other = false;
        self.with_live(key, out, |live, actions| {
            is_other = live.reflect.handle_list(epoch, list.clone(), actions);
        });
        if is_other {
            let LiveList { sources, capability } = list;
            self.journal(Record::Reflect { key, sources, capability }, out);
            self.consider_live(key, now, out);
        }
    }

    /// The base says that a live path has had its time.
    pub(super) fn handle_finish(&mut self, key: CommandKey, now: Mono, out: &mut Vec<Action>) {
        let Some(live) = self.live_mut(key) else { return };
        live.is_finishing = true;
        if live.reflect.is_open() {
            self.close_live(key, out);
        } else {
            self.finish_live(key, now, out);
        }
    }

    /// Opens a live path that may be open, or ends one that has had its time.
    pub(super) fn consider_live(&mut self, key: CommandKey, now: Mono, out: &mut Vec<Action>) {
        let Some(delivery) = self.deliveries.get(&key) else { return };
        let Some(live) = delivery.live.as_deref() else { return };
        if delivery.stage != Stage::Waiting {
            return;
        }
        if live.reflect.is_closing() {
            return;
        }
        if live.is_finishing {
            return self.finish_live(key, now, out);
        }
        if let Op::Live { path, from } = &delivery.op
            && let Err(error) = check_live(path, from)
        {
            let failure = Failure { reason: Reason::PathConflict, detail: error.to_string() };
            return self.fail(key, failure, now, out);
        }
        if live.reflect.can_open() && self.limits.is_open(key.job) {
            self.move_on(key, Input::Begin);
            self.with_live(key, out, |live, actions| live.reflect.open(now, actions));
        }
    }

    /// Closes the live path of a command, if it is open. Its last look follows.
    pub(super) fn close_live(&mut self, key: CommandKey, out: &mut Vec<Action>) {
        let Some(delivery) = self.deliveries.get_mut(&key) else { return };
        if let (Op::Live { path, .. }, Some(live)) = (&delivery.op, delivery.live.as_mut())
            && live.reflect.begin_close()
        {
            out.push(Action::Live { key, action: LiveAction::Close { path: path.clone() } });
        }
    }

    /// Notes in the journal what has come of live paths, for the receipt of a node that is killed.
    pub(super) fn note_live(&mut self, now: Mono, out: &mut Vec<Action>) {
        for key in self.fetching.iter().copied().collect::<Vec<_>>() {
            let Some(live) = self.live_mut(key) else { continue };
            let bytes = live.reflect.bytes();
            if bytes == live.noted_bytes || now.since(live.noted_at) < NOTE_EVERY {
                continue;
            }
            (live.noted_at, live.noted_bytes) = (now, bytes);
            let (via, totals) = (live.reflect.via().clone(), live.reflect.totals());
            self.journal(Record::Reflected { key, via, totals }, out);
        }
    }

    /// The live path has been closed for good: the receipt, or a failure where nothing came.
    fn finish_live(&mut self, key: CommandKey, now: Mono, out: &mut Vec<Action>) {
        let stage = self.deliveries.get(&key).map(|delivery| delivery.stage);
        let is_under_way = matches!(
            stage,
            Some(Stage::Waiting | Stage::RetryWait | Stage::Reserving | Stage::Fetching)
        );
        let Some(live) = self.live_mut(key).filter(|_| is_under_way) else { return };
        if live.reflect.totals().packets == 0 {
            let detail = "no packet has come before the job was ended".to_owned();
            let reason = Reason::NoSource;
            if self.move_on(key, Input::GiveUp) {
                let record = Record::Failed { key, reason, detail: detail.clone() };
                let report = Report::Failed { key, reason, detail, is_final: true };
                self.end(key, record, report, now, out);
            }
            return;
        }
        self.move_on(key, Input::Due);
        self.move_on(key, Input::Whole);
        self.outbox.push(None, Report::Applying { key });
        self.apply(key, out);
    }

    fn is_finishing(&self, key: CommandKey) -> bool {
        let live = self.deliveries.get(&key).and_then(|delivery| delivery.live.as_deref());
        live.is_some_and(|live| live.is_finishing)
    }

    fn live_mut(&mut self, key: CommandKey) -> Option<&mut Live> {
        self.deliveries.get_mut(&key)?.live.as_deref_mut()
    }

    /// Runs `step` on a live path and does what it asks for.
    fn with_live(
        &mut self,
        key: CommandKey,
        out: &mut Vec<Action>,
        step: impl FnOnce(&mut Live, &mut Vec<ReflectAction>),
    ) {
        let Some(live) = self.live_mut(key) else { return };
        let mut actions = Vec::new();
        step(live, &mut actions);
        let offset = live.reflect.bytes();
        for action in actions {
            match action {
                ReflectAction::Open(list) => {
                    let op = self.deliveries.get(&key).map(|delivery| &delivery.op);
                    let Some(Op::Live { path, .. }) = op else { continue };
                    let action = LiveAction::Open { path: path.clone(), list };
                    out.push(Action::Live { key, action });
                }
                ReflectAction::Flows { source, cause } => {
                    self.note_failure(key, None);
                    let source = source.node;
                    let report = Report::Fetching { key, offset, source, cause, before: 0 };
                    self.outbox.push(None, report);
                }
                ReflectAction::Dry { detail } => {
                    let reason = Reason::NoSource;
                    self.note_failure(key, Some(reason));
                    let report = Report::Failed { key, reason, detail, is_final: false };
                    self.outbox.push(None, report);
                }
            }
        }
    }

    fn note_failure(&mut self, key: CommandKey, reason: Option<Reason>) {
        if let Some(delivery) = self.deliveries.get_mut(&key) {
            delivery.failure = reason;
        }
    }
}

impl Delivery {
    /// Bytes and rate of a live path that is open.
    pub(super) fn live_progress(&self) -> Option<(u64, u64)> {
        let live = self.live.as_ref().filter(|live| live.reflect.flows_from().is_some())?;
        Some((live.reflect.bytes(), live.reflect.rate()))
    }

    /// That packets come, and from whom.
    pub(super) fn live_flow(&self, key: CommandKey) -> Option<Report> {
        let live = self.live.as_ref()?;
        let source = live.reflect.flows_from()?.node.clone();
        let (offset, cause) = (live.reflect.bytes(), SwitchCause::First);
        Some(Report::Fetching { key, offset, source, cause, before: 0 })
    }

    /// As many records as make the same live path again.
    pub(super) fn live_records(&self, key: CommandKey) -> impl Iterator<Item = Record> {
        let live = self.live.as_ref().filter(|_| self.end.is_none());
        let reflect = live.map(|live| &live.reflect);
        let list = reflect.map(|reflect| reflect.list()).filter(|list| !list.sources.is_empty());
        let list = list.cloned().map(|LiveList { sources, capability }| Record::Reflect {
            key,
            sources,
            capability,
        });
        let came = reflect.filter(|reflect| reflect.bytes() > 0);
        let came = came.map(|reflect| {
            let (via, totals) = (reflect.via().clone(), reflect.totals());
            Record::Reflected { key, via, totals }
        });
        list.into_iter().chain(came)
    }
}

/// Between two notes of what has come.
const NOTE_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::base::secret::Secret;
    use crate::dist::ids::{CommandId, ContentId, JobId, NodeName};
    use crate::dist::terms::Terms;
    use crate::dist::wire::agent::{LiveSource, LiveTotals, NodeOrder, SignedReceipt};
    use crate::dist::wire::job::{Attributes, Order};

    /// An agent, and what it asked for: the journal is durable at once, paths open at once.
    struct Node {
        agent: Agent,
        now: Mono,
        journal: Vec<Record>,
        /// `open URL ..`, `close`, `apply`.
        done: Vec<String>,
        packets: u64,
        totals: Option<LiveTotals>,
        /// Its paths close when [`Node::closed`] says so.
        is_slow: bool,
    }

    fn key(command: u32) -> CommandKey {
        CommandKey { job: JobId(Uuid::nil()), command: CommandId(command) }
    }

    fn command(command: u32, op: Op, content: Option<ContentId>) -> NodeOrder {
        let (key, sequence) = (key(command), Order::Strict);
        NodeOrder::Command { key, sequence, priority: 0, op, content, size: None }
    }

    fn live(number: u32) -> NodeOrder {
        let (path, from) = ("live/x".to_owned(), "rtsp://o/x".to_owned());
        command(number, Op::Live { path, from }, None)
    }

    fn reflect(epoch: u64, urls: &[&str]) -> NodeOrder {
        let source =
            |url: &&str| LiveSource { node: None, url: (*url).to_owned(), takes_capability: false };
        let sources = urls.iter().map(source).collect();
        NodeOrder::Reflect { key: key(1), epoch: Epoch(epoch), sources, capability: None }
    }

    /// From a node and the origin behind it, with a capability.
    fn reflect_with(epoch: u64, capability: &str) -> NodeOrder {
        let source = |node: Option<&str>, url: &str| LiveSource {
            node: node.map(|node| NodeName::new(node).unwrap()),
            url: url.to_owned(),
            takes_capability: node.is_some(),
        };
        let sources = vec![source(Some("a"), "rtsp://a/x"), source(None, "rtsp://o/x")];
        let capability = Some(Secret::new(capability));
        NodeOrder::Reflect { key: key(1), epoch: Epoch(epoch), sources, capability }
    }

    fn paused(is_paused: bool, epoch: u64) -> NodeOrder {
        let terms = Terms { is_paused, ..Terms::default() };
        NodeOrder::Terms { job: JobId(Uuid::nil()), epoch: Epoch(epoch), terms }
    }

    impl Node {
        fn new(journal: Vec<Record>) -> Self {
            let mut agent = Agent::new(NodeName::new("n").unwrap(), journal.clone());
            let (now, mut out) = (Mono(1), Vec::new());
            agent.start(now, &mut out);
            let (done, packets, totals) = (Vec::new(), 0, None);
            let mut node = Self { agent, now, journal, done, packets, totals, is_slow: false };
            node.perform(out);
            node
        }

        fn order(&mut self, order: NodeOrder) {
            let mut out = Vec::new();
            self.agent.handle_order(order, self.now, &mut out);
            self.perform(out);
        }

        /// Seconds pass, in each of which so many packets come.
        fn pass(&mut self, seconds: u32, packets: u64) {
            for _ in 0..seconds {
                self.now = self.now + Duration::from_secs(1);
                self.packets += packets;
                let (event, mut out) = (LiveEvent::Seen(self.sight()), Vec::new());
                self.agent.handle_live(key(1), event, self.now, &mut out);
                self.agent.handle_time(self.now, &mut out);
                self.perform(out);
            }
        }

        fn sight(&self) -> Sight {
            let active = (self.packets > 0).then(|| "rtsp://a/x".to_owned());
            let (packets, bytes) = (self.packets, self.packets * 100);
            Sight { active, is_better: false, packets, bytes, reason: None }
        }

        fn perform(&mut self, out: Vec<Action>) {
            let mut waiting = std::collections::VecDeque::from(out);
            while let Some(action) = waiting.pop_front() {
                let mut more = Vec::new();
                match action {
                    Action::Journal(record) => {
                        self.journal.push(record);
                        self.agent.handle_journaled(u64::MAX, &mut more);
                    }
                    Action::Live { key, action: LiveAction::Open { list, .. } } => {
                        let word = |source: &LiveSource| match list.shown_to(source) {
                            Some(shown) => format!("{}+{}", source.url, shown.expose()),
                            None => source.url.clone(),
                        };
                        let words: Vec<String> = list.sources.iter().map(word).collect();
                        self.done.push(format!("open {}", words.join(" ")));
                        let opened = LiveEvent::Opened(Ok(()));
                        self.agent.handle_live(key, opened, self.now, &mut more);
                    }
                    Action::Live { key, action: LiveAction::Close { .. } } => {
                        self.done.push("close".to_owned());
                        if self.is_slow {
                            continue;
                        }
                        let closed = LiveEvent::Closed(Some(self.sight()));
                        self.packets = 0;
                        self.agent.handle_live(key, closed, self.now, &mut more);
                    }
                    Action::Apply(apply) => {
                        self.done.push(format!("apply {}", apply.key.command));
                        self.totals = apply.live;
                        let (receipt, signature) = (String::new(), String::new());
                        let receipt = SignedReceipt { receipt, signature };
                        self.agent.handle_applied(apply.key, Ok(receipt), self.now, &mut more);
                    }
                    _ => {}
                }
                waiting.extend(more);
            }
        }

        /// The last look was taken, and the path is gone.
        fn closed(&mut self) {
            let (event, mut out) = (LiveEvent::Closed(Some(self.sight())), Vec::new());
            self.packets = 0;
            self.agent.handle_live(key(1), event, self.now, &mut out);
            self.perform(out);
        }

        fn said(&mut self) -> Vec<String> {
            let (first, reports) = self.agent.next_batch(self.now);
            let taken = first + u64::try_from(reports.len()).unwrap() - 1;
            self.agent.handle_taken(taken, &mut Vec::new());
            let word = |report: &Report| match report {
                Report::Failed { is_final, .. } => format!("failed {is_final}"),
                other => {
                    let json = serde_json::to_value(other).unwrap();
                    json["report"].as_str().unwrap().to_owned()
                }
            };
            reports.iter().map(word).collect()
        }
    }

    #[test]
    fn path_is_opened_with_its_list_and_its_receipt_has_all_that_came() {
        let mut node = Node::new(Vec::new());
        node.order(live(1));
        assert_eq!(node.done, [""; 0], "nobody has said from where");
        node.order(reflect(1, &["rtsp://a/x", "rtsp://o/x"]));
        node.pass(3, 10);
        node.order(reflect(2, &["rtsp://a/x"]));
        assert_eq!(node.done, ["open rtsp://a/x rtsp://o/x", "open rtsp://a/x"]);
        assert_eq!(node.said(), ["received", "fetching", "progress"]);
        node.packets += 5;
        node.order(NodeOrder::Finish { key: key(1) });
        assert_eq!(node.done[2..], ["close", "apply 1"]);
        assert_eq!(node.totals.unwrap().packets, 35, "with those since the last look");
        assert_eq!(node.said(), ["applying", "completed"]);
        node.order(NodeOrder::Finish { key: key(1) });
        assert_eq!(node.done.len(), 4, "a second time has no effect");
    }

    #[test]
    fn node_that_starts_without_its_base_goes_on_with_list_and_sums_of_its_journal() {
        let mut node = Node::new(Vec::new());
        node.order(live(1));
        node.order(reflect(7, &["rtsp://a/x", "rtsp://o/x"]));
        node.pass(25, 10);
        for journal in [node.journal.clone(), node.agent.snapshot()] {
            let mut again = Node::new(journal);
            assert_eq!(again.done, ["open rtsp://a/x rtsp://o/x"]);
            again.pass(1, 10);
            again.order(live(1));
            again.order(reflect(1, &["rtsp://b/x"]));
            assert_eq!(again.done[1], "open rtsp://b/x rtsp://a/x", "the base plans anew");
            again.order(NodeOrder::Finish { key: key(1) });
            let packets = again.totals.unwrap().packets;
            assert!((200..=260).contains(&packets), "{packets}");
        }
    }

    #[test]
    fn capability_goes_to_nodes_of_the_list_is_renewed_and_is_kept_in_the_journal() {
        let mut node = Node::new(Vec::new());
        node.order(live(1));
        node.order(reflect_with(1, "hdl_1"));
        node.pass(3, 10);
        node.order(reflect_with(2, "hdl_2"));
        node.order(reflect_with(3, "hdl_2"));
        let opened = ["hdl_1", "hdl_2"].map(|shown| format!("open rtsp://a/x+{shown} rtsp://o/x"));
        assert_eq!(node.done, opened, "the origin is shown none");
        for journal in [node.journal.clone(), node.agent.snapshot()] {
            assert!(!format!("{journal:?}").contains("hdl_"));
            assert_eq!(Node::new(journal).done, opened[1..]);
        }
        let (_, reports) = node.agent.next_batch(node.now);
        assert!(!format!("{:?} {reports:?}", node.agent).contains("hdl_"));
    }

    #[test]
    fn path_of_which_nothing_came_fails_when_it_has_had_its_time() {
        for is_told in [true, false] {
            let mut node = Node::new(Vec::new());
            node.order(live(1));
            if is_told {
                node.order(reflect(1, &["rtsp://a/x"]));
                node.pass(9, 0);
            }
            node.said();
            node.order(NodeOrder::Finish { key: key(1) });
            assert_eq!(node.said(), ["failed true"]);
            assert_eq!(node.done.contains(&"close".to_owned()), is_told);
        }
    }

    #[test]
    fn path_is_closed_while_its_job_is_paused_and_for_good_when_it_is_withdrawn() {
        let mut node = Node::new(Vec::new());
        node.order(live(1));
        node.order(reflect(1, &["rtsp://a/x"]));
        node.pass(1, 10);
        node.order(paused(true, 1));
        assert_eq!(node.done, ["open rtsp://a/x", "close"]);
        node.pass(1, 0);
        node.order(paused(false, 2));
        assert_eq!(node.done[2..], ["open rtsp://a/x"]);
        node.order(NodeOrder::Cancel { key: key(1) });
        node.order(paused(true, 3));
        node.order(paused(false, 4));
        assert_eq!(node.done[3..], ["close"]);
        assert!(node.said().contains(&"cancelled".to_owned()));
    }

    /// A list with a renewed capability came between the order to close a path and its end: the
    /// path was opened behind it and stayed for good, also after its job.
    #[test]
    fn path_that_closes_stays_closed_whatever_comes_until_it_has() {
        let mut node = Node::new(Vec::new());
        node.is_slow = true;
        node.order(live(1));
        node.order(reflect_with(1, "hdl_1"));
        node.pass(2, 10);
        node.order(paused(true, 1));
        let opened = "open rtsp://a/x+hdl_1 rtsp://o/x";
        assert_eq!(node.done, [opened, "close"]);
        node.order(reflect_with(2, "hdl_2"));
        node.order(paused(false, 2));
        node.pass(1, 0);
        assert_eq!(node.done.len(), 2, "{:?}", node.done);
        node.closed();
        assert_eq!(node.done[2..], ["open rtsp://a/x+hdl_2 rtsp://o/x"]);
        node.pass(2, 10);
        node.order(paused(true, 3));
        node.packets += 5;
        node.order(NodeOrder::Finish { key: key(1) });
        node.order(reflect_with(3, "hdl_3"));
        assert_eq!(node.done[3..], ["close"], "no receipt of a path that is there");
        node.closed();
        assert_eq!(node.done[4..], ["apply 1"]);
        assert_eq!(node.totals.unwrap().packets, 45, "with those before the last look");
        node.closed();
        assert_eq!(node.done.len(), 5, "it has ended");
    }

    #[test]
    fn path_that_is_tried_again_is_opened_when_the_attempt_before_it_is_gone() {
        let mut node = Node::new(Vec::new());
        node.is_slow = true;
        node.order(live(1));
        node.order(reflect(1, &["rtsp://a/x"]));
        let failure = Failure { reason: Reason::Io, detail: "no".to_owned() };
        let (event, mut out) = (LiveEvent::Opened(Err(failure)), Vec::new());
        node.agent.handle_live(key(1), event, node.now, &mut out);
        node.perform(out);
        node.order(reflect(2, &["rtsp://b/x"]));
        node.pass(5, 0);
        assert_eq!(node.done, ["open rtsp://a/x", "close"]);
        node.closed();
        assert_eq!(node.done[2..], ["open rtsp://b/x"]);
    }

    #[test]
    fn live_path_holds_up_no_other_command_of_a_strict_job() {
        let mut node = Node::new(Vec::new());
        node.order(live(1));
        let attrs = Attributes::default();
        node.order(command(2, Op::Mkdir { path: "a".to_owned(), attrs }, None));
        assert_eq!(node.done, ["apply 2"]);
        node.order(reflect(1, &["rtsp://a/x"]));
        assert_eq!(node.done[1..], ["open rtsp://a/x"]);
    }

    #[test]
    fn path_that_cannot_be_opened_fails_and_one_that_may_be_later_is_tried_again() {
        let fail = |reason| {
            let mut node = Node::new(Vec::new());
            node.order(live(1));
            let mut out = Vec::new();
            node.agent.handle_order(reflect(1, &["rtsp://a/x"]), node.now, &mut out);
            let detail = "no".to_owned();
            let failed = LiveEvent::Opened(Err(Failure { reason, detail }));
            out.retain(|action| !matches!(action, Action::Live { .. }));
            node.agent.handle_live(key(1), failed, node.now, &mut out);
            node.perform(out);
            node.now = node.now + Duration::from_secs(5);
            let mut out = Vec::new();
            node.agent.handle_time(node.now, &mut out);
            node.perform(out);
            (node.said(), node.done)
        };
        let (said, done) = fail(Reason::PathConflict);
        assert_eq!(
            (said, done),
            (vec!["received".into(), "failed true".into()], vec!["close".into()])
        );
        let (said, done) = fail(Reason::Io);
        assert_eq!(said, ["received", "failed false"]);
        assert_eq!(done, ["close", "open rtsp://a/x"]);
    }
}

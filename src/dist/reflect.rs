//! A live path at a node, as part of a job: from whom it is reflected, and what came.
//!
//! ```text
//!            plan: n1, n2, origin                      what the server sees of the path
//!  Closed --open--> Open(n1, n2, origin) <--Sight: fed from n1, so many packets-- path
//!    ^                |  plan: n2, n3, origin --> n2, n3, origin, n1 until n2 feeds the path
//!    '--closed-- Closing <--close: a new list is kept for the next time
//!  packets come: flowing       none for DRY: dry, said with the reason; sources are tried on
//! ```
//! The path itself is one with a list of sources, like any other with `fallback`: its relay goes on
//! to the next source at a key frame. This is what the agent knows of it: the list that the path is
//! to have, the sums for the receipt, and what the base is told. With the list goes the capability
//! that is shown to nodes of it; another one counts for connections that are made from then on.
//!
//! Invariants: sums only grow, also over restarts; while packets come, a new list takes no source
//! away before another one feeds the path. Bound: `SOURCES_MAX` sources.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::secret::Secret;
use crate::base::time::Mono;
use crate::config::added_paths::{AddedNameError, SOURCES_MAX, check_added_name};
use crate::dist::ids::Epoch;
use crate::dist::wire::agent::{LiveSource, LiveTotals, SwitchCause};
use crate::rtsp::source_url::{SourceUrlError, parse_source_url};

/// Why a live path cannot be brought to nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LiveError {
    /// The name of the path.
    #[error("path: {0}")]
    Name(#[from] AddedNameError),
    /// The URL of the origin.
    #[error("from: {0}")]
    Url(#[from] SourceUrlError),
    /// TLS.
    #[error("from: rtsps:// is not supported: give an rtsp:// URL")]
    Secure,
    /// The ledger, events and reports keep it, and clients are shown it.
    #[error("from: the URL has a user or a password, which reports and events would show")]
    Secret,
    /// Longer than a URL should be.
    #[error("from: the URL has more than {URL_BYTES_MAX} bytes")]
    Long,
}

/// Checks the path and the origin of a live command.
///
/// # Errors
/// See [`LiveError`].
pub fn check_live(path: &str, from: &str) -> Result<(), LiveError> {
    check_added_name(path)?;
    if from.len() > URL_BYTES_MAX {
        return Err(LiveError::Long);
    }
    let url = parse_source_url(from)?;
    match url {
        _ if url.is_secure => Err(LiveError::Secure),
        _ if url.credentials.is_some() => Err(LiveError::Secret),
        _ => Ok(()),
    }
}

/// What the server sees of a path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// URL of the source that feeds it.
    pub active: Option<String>,
    /// The last change of the source was to a better one, not away from one that was lost.
    pub is_better: bool,
    /// Packets of the source of the path so far. Fewer than before: it was claimed anew.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Why nothing feeds it.
    pub reason: Option<String>,
}

/// From whom a path is reflected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveList {
    /// In the order of preference.
    pub sources: Vec<LiveSource>,
    /// What is shown to nodes that take it.
    pub capability: Option<Secret>,
}

impl LiveList {
    /// What is shown to a source of the list. The origin knows of no jobs.
    #[must_use]
    pub fn shown_to(&self, source: &LiveSource) -> Option<&Secret> {
        self.capability.as_ref().filter(|_| source.takes_capability && source.node.is_some())
    }
}

/// What follows from an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReflectAction {
    /// The path is to have this list of sources.
    Open(LiveList),
    /// The base is to know that packets come.
    Flows {
        /// From whom.
        source: LiveSource,
        /// Why from there.
        cause: SwitchCause,
    },
    /// The base is to know that none come.
    Dry {
        /// Why.
        detail: String,
    },
}

/// See the module.
#[derive(Debug, Default)]
pub struct Reflect {
    epoch: Epoch,
    /// The list of the base.
    list: LiveList,
    /// The list of the path; without sources while it is closed.
    opened: LiveList,
    /// The path was told to close, and has not said yet that it did.
    is_closing: bool,
    /// Who feeds the path.
    active: Option<LiveSource>,
    via: BTreeMap<String, u64>,
    totals: LiveTotals,
    /// Counters at the last look.
    last: (u64, u64),
    looked_at: Option<Mono>,
    /// When packets last came, or the path was opened.
    grew_at: Option<Mono>,
    /// Bytes per second.
    rate: u64,
    told: Told,
}

/// What the base was told last.
#[derive(Debug, Default, PartialEq, Eq)]
enum Told {
    #[default]
    Nothing,
    Flows(LiveSource),
    Dry {
        detail: String,
        at: Mono,
    },
}

impl Reflect {
    /// As it was when the journal last noted it.
    pub fn replay(&mut self, via: BTreeMap<String, u64>, totals: LiveTotals) {
        (self.via, self.totals) = (via, totals);
    }

    /// The list that the journal has.
    pub fn replay_list(&mut self, list: LiveList) {
        self.list = list;
    }

    /// Another base plans from now on, whatever its numbers.
    pub fn handle_new_base(&mut self) {
        self.epoch = Epoch(0);
    }

    /// The base has a list. True when it is another one.
    pub fn handle_list(
        &mut self,
        epoch: Epoch,
        mut list: LiveList,
        out: &mut Vec<ReflectAction>,
    ) -> bool {
        if epoch < self.epoch || list.sources.is_empty() {
            return false;
        }
        self.epoch = epoch;
        // One place is for the source that is to be left.
        list.sources.truncate(SOURCES_MAX - 1);
        if list == self.list {
            return false;
        }
        self.list = list;
        self.follow_list(out);
        true
    }

    /// The path is to be opened. No effect while there is no list.
    pub fn open(&mut self, now: Mono, out: &mut Vec<ReflectAction>) {
        if self.can_open() {
            (self.grew_at, self.looked_at, self.last) = (Some(now), None, (0, 0));
            self.opened = self.list.clone();
            out.push(ReflectAction::Open(self.opened.clone()));
        }
    }

    /// The path is to close, with a last look: true when it has to be told so.
    #[must_use]
    pub fn begin_close(&mut self) -> bool {
        self.is_open() && !std::mem::replace(&mut self.is_closing, true)
    }

    /// The path was told to close, and has not yet.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// The path is closed.
    pub fn close(&mut self) {
        (self.opened, self.is_closing) = (LiveList::default(), false);
        (self.active, self.looked_at, self.grew_at) = (None, None, None);
        (self.rate, self.told) = (0, Told::Nothing);
    }

    /// Takes what the server sees of the path.
    pub fn handle_sight(&mut self, sight: &Sight, now: Mono, out: &mut Vec<ReflectAction>) {
        if !self.is_open() {
            return;
        }
        let active = sight.active.as_ref();
        let active = active.and_then(|url| self.opened.sources.iter().find(|s| s.url == *url));
        let active = active.cloned();
        let bytes = self.count(sight, active.as_ref(), now);
        if let Some(active) = active.filter(|_| bytes > 0) {
            self.note_flow(active, sight.is_better, out);
        } else if bytes == 0 && self.is_dry(now) {
            self.tell_dry(sight, now, out);
        }
    }

    /// A list was given, and the path is closed.
    #[must_use]
    pub fn can_open(&self) -> bool {
        !self.is_open() && !self.list.sources.is_empty()
    }

    /// The path has a list of sources, also while it closes.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.opened.sources.is_empty()
    }

    /// Who feeds the path, while the base believes that packets come.
    #[must_use]
    pub fn flows_from(&self) -> Option<&LiveSource> {
        match &self.told {
            Told::Flows(source) => Some(source),
            Told::Nothing | Told::Dry { .. } => None,
        }
    }

    /// The base was told that nothing comes.
    #[must_use]
    pub fn is_told_dry(&self) -> bool {
        matches!(self.told, Told::Dry { .. })
    }

    /// The list of the base.
    #[must_use]
    pub fn list(&self) -> &LiveList {
        &self.list
    }

    /// Bytes so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.via.values().sum()
    }

    /// Bytes per second.
    #[must_use]
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// Bytes by source; `origin` is the origin.
    #[must_use]
    pub fn via(&self) -> &BTreeMap<String, u64> {
        &self.via
    }

    /// Sums for the receipt.
    #[must_use]
    pub fn totals(&self) -> LiveTotals {
        self.totals
    }

    /// The path gets the list of the base, with the source that feeds it behind, where that is in
    /// it no more: it goes when another one feeds the path. Nothing reopens a path that closes.
    fn follow_list(&mut self, out: &mut Vec<ReflectAction>) {
        if !self.is_open() || self.is_closing {
            return;
        }
        let mut list = self.list.clone();
        let is_known = |source: &LiveSource| self.list.sources.iter().any(|s| s.url == source.url);
        list.sources.extend(self.active.clone().filter(|source| !is_known(source)));
        if list != self.opened {
            self.opened.clone_from(&list);
            out.push(ReflectAction::Open(list));
        }
    }

    /// Counts what came since the last look. Gives its bytes.
    fn count(&mut self, sight: &Sight, active: Option<&LiveSource>, now: Mono) -> u64 {
        let (packets, bytes) = match self.last {
            (packets, _) if sight.packets < packets => (sight.packets, sight.bytes),
            (packets, bytes) => (sight.packets - packets, sight.bytes.saturating_sub(bytes)),
        };
        self.last = (sight.packets, sight.bytes);
        let past = self.looked_at.replace(now).map(|at| now.since(at));
        let past = past.unwrap_or_default().max(LEAST);
        let second_ns = 1_000_000_000_u128;
        let rate = u128::from(bytes) * second_ns / past.as_nanos().max(1);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        self.rate = if self.rate == 0 { rate } else { self.rate - self.rate / 4 + rate / 4 };
        if packets == 0 {
            return 0;
        }
        self.grew_at = Some(now);
        self.totals.packets = self.totals.packets.saturating_add(packets);
        let flow_ms = u64::try_from(past.as_millis()).unwrap_or(u64::MAX);
        self.totals.flow_ms = self.totals.flow_ms.saturating_add(flow_ms);
        let source = active.or(self.active.as_ref()).map_or(ORIGIN_NAME, name_of);
        *self.via.entry(source.to_owned()).or_default() += bytes.max(1);
        bytes.max(1)
    }

    fn note_flow(&mut self, active: LiveSource, is_better: bool, out: &mut Vec<ReflectAction>) {
        let before = self.active.replace(active.clone());
        let cause = match &before {
            None => SwitchCause::First,
            Some(before) if before.url == active.url => SwitchCause::First,
            Some(_) if is_better => SwitchCause::Plan,
            Some(_) => SwitchCause::Lost,
        };
        if cause != SwitchCause::First {
            self.totals.switches = self.totals.switches.saturating_add(1);
        }
        // The one that was to be left is left.
        self.follow_list(out);
        let is_told = self.flows_from().is_some_and(|told| told.url == active.url);
        if !is_told {
            self.told = Told::Flows(active.clone());
            out.push(ReflectAction::Flows { source: active, cause });
        }
    }

    fn is_dry(&self, now: Mono) -> bool {
        self.grew_at.is_none_or(|at| now.since(at) >= DRY)
    }

    fn tell_dry(&mut self, sight: &Sight, now: Mono, out: &mut Vec<ReflectAction>) {
        let detail = sight.reason.as_deref().unwrap_or("no packet comes from any source");
        let detail: String = detail.chars().take(DETAIL_CHARS_MAX).collect();
        let is_told = match &self.told {
            Told::Dry { detail: told, at } => {
                let past = now.since(*at);
                past < SAY_AGAIN && (*told == detail || past < SAY_OTHER)
            }
            Told::Nothing | Told::Flows(_) => false,
        };
        if !is_told {
            self.rate = 0;
            self.told = Told::Dry { detail: detail.clone(), at: now };
            out.push(ReflectAction::Dry { detail });
        }
    }
}

/// How a source is called in receipts.
fn name_of(source: &LiveSource) -> &str {
    source.node.as_ref().map_or(ORIGIN_NAME, |node| node.as_str())
}

/// How the origin of a live path is called where nodes are named.
pub const ORIGIN_NAME: &str = "origin";
/// Without packets for so long nothing comes: longer than a change of the source takes.
const DRY: Duration = Duration::from_secs(4);
/// The same reason is said again.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// Another reason is said.
const SAY_OTHER: Duration = Duration::from_secs(10);
/// Two looks are not nearer to each other.
const LEAST: Duration = Duration::from_millis(100);
const DETAIL_CHARS_MAX: usize = 300;
const URL_BYTES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dist::ids::NodeName;

    fn source(name: &str) -> LiveSource {
        let node = (name != ORIGIN_NAME).then(|| NodeName::new(name).unwrap());
        let takes_capability = node.is_some();
        LiveSource { node, url: format!("rtsp://{name}/live/x"), takes_capability }
    }

    fn list(names: &[&str]) -> Vec<LiveSource> {
        names.iter().map(|name| source(name)).collect()
    }

    /// A path, its time and its counters.
    struct Rig {
        reflect: Reflect,
        now: Mono,
        epoch: u64,
        packets: u64,
        out: Vec<ReflectAction>,
    }

    impl Rig {
        fn new(names: &[&str]) -> Self {
            let now = Mono(1) + Duration::from_secs(1);
            let (reflect, out) = (Reflect::default(), Vec::new());
            let mut rig = Self { reflect, now, epoch: 0, packets: 0, out };
            rig.plan(names);
            rig.reflect.open(rig.now, &mut rig.out);
            rig
        }

        fn plan(&mut self, names: &[&str]) {
            self.epoch += 1;
            self.plan_with(names, None);
        }

        fn plan_with(&mut self, names: &[&str], capability: Option<&str>) {
            let capability = capability.map(Secret::new);
            let list = LiveList { sources: list(names), capability };
            self.reflect.handle_list(Epoch(self.epoch), list, &mut self.out);
        }

        /// Half a second later so many packets of 100 bytes more have come from there.
        fn look(&mut self, active: Option<&str>, packets: u64) {
            self.packets += packets;
            let sight = Sight {
                active: active.map(|name| source(name).url),
                is_better: false,
                packets: self.packets,
                bytes: self.packets * 100,
                reason: active.is_none().then(|| "404 from n1".to_owned()),
            };
            self.see(&sight);
        }

        fn see(&mut self, sight: &Sight) {
            self.now = self.now + Duration::from_millis(500);
            self.reflect.handle_sight(sight, self.now, &mut self.out);
        }

        fn said(&mut self) -> Vec<String> {
            let say = |action: ReflectAction| match action {
                ReflectAction::Open(list) => {
                    let names: Vec<&str> = list.sources.iter().map(name_of).collect();
                    format!("open {}", names.join(" "))
                }
                ReflectAction::Flows { source, cause } => format!("{} {cause:?}", name_of(&source)),
                ReflectAction::Dry { detail } => format!("dry {detail}"),
            };
            self.out.drain(..).map(say).collect()
        }
    }

    #[test]
    fn first_packets_and_each_change_of_the_source_are_said_once() {
        let mut rig = Rig::new(&["a", "b", "origin"]);
        assert_eq!(rig.said(), ["open a b origin"]);
        rig.look(Some("a"), 10);
        rig.look(Some("a"), 10);
        assert_eq!(rig.said(), ["a First"]);
        rig.look(Some("b"), 5);
        assert_eq!(rig.said(), ["b Lost"]);
        assert_eq!(rig.reflect.totals().switches, 1);
        let via: Vec<_> = rig.reflect.via().iter().map(|(n, bytes)| (n.as_str(), *bytes)).collect();
        assert_eq!(via, [("a", 2_000), ("b", 500)]);
        assert_eq!((rig.reflect.bytes(), rig.reflect.totals().packets), (2_500, 25));
        assert_eq!(rig.reflect.totals().flow_ms, 1_100, "the first look counts as one of 100 ms");
    }

    #[test]
    fn source_that_feeds_the_path_stays_until_one_of_the_new_list_does() {
        let mut rig = Rig::new(&["a", "origin"]);
        rig.look(Some("a"), 10);
        rig.said();
        rig.plan(&["b", "origin"]);
        assert_eq!(rig.said(), ["open b origin a"]);
        rig.look(Some("a"), 10);
        assert_eq!(rig.said(), [""; 0]);
        rig.packets += 10;
        let url = source("b").url;
        let sight = Sight {
            active: Some(url),
            is_better: true,
            packets: 30,
            bytes: 3_000,
            ..Sight::default()
        };
        rig.see(&sight);
        assert_eq!(rig.said(), ["open b origin", "b Plan"]);
        rig.plan(&["b", "c", "origin"]);
        assert_eq!(rig.said(), ["open b c origin"]);
        rig.plan(&["b", "c", "origin"]);
        assert_eq!(rig.said(), [""; 0]);
    }

    #[test]
    fn path_without_packets_is_dry_with_the_reason_until_they_come_again() {
        let mut rig = Rig::new(&["a", "origin"]);
        rig.said();
        (0..7).for_each(|_| rig.look(None, 0));
        assert_eq!(rig.said(), [""; 0], "it may still come");
        (0..20).for_each(|_| rig.look(None, 0));
        assert_eq!(rig.said(), ["dry 404 from n1"]);
        assert!(rig.reflect.is_told_dry() && rig.reflect.flows_from().is_none());
        rig.look(Some("origin"), 3);
        assert_eq!(rig.said(), ["origin First"]);
        (0..130).for_each(|_| rig.look(None, 0));
        assert_eq!(rig.said(), ["dry 404 from n1", "dry 404 from n1"], "once a minute");
    }

    #[test]
    fn counters_that_begin_anew_are_added_to_what_came_before() {
        let mut rig = Rig::new(&["a"]);
        rig.look(Some("a"), 10);
        rig.packets = 0;
        rig.look(Some("a"), 4);
        assert_eq!((rig.reflect.totals().packets, rig.reflect.bytes()), (14, 1_400));
        rig.reflect.close();
        rig.packets = 0;
        rig.said();
        rig.look(Some("a"), 100);
        assert_eq!(rig.reflect.totals().packets, 14, "what is closed counts nothing");
        rig.reflect.open(rig.now, &mut rig.out);
        rig.packets = 0;
        rig.look(Some("a"), 1);
        assert_eq!(rig.said(), ["open a", "a First"]);
        assert_eq!(rig.reflect.totals().packets, 15);
    }

    #[test]
    fn path_that_closes_is_opened_by_no_list_and_with_the_newest_one_afterwards() {
        let mut rig = Rig::new(&["a", "origin"]);
        rig.look(Some("a"), 10);
        rig.said();
        assert!(rig.reflect.begin_close() && !rig.reflect.begin_close(), "said once");
        rig.plan_with(&["a", "origin"], Some("hdl_1"));
        rig.plan(&["b", "origin"]);
        rig.look(Some("a"), 10);
        assert_eq!(rig.said(), [""; 0]);
        assert!(rig.reflect.is_open() && !rig.reflect.can_open());
        rig.reflect.close();
        rig.reflect.open(rig.now, &mut rig.out);
        assert_eq!(rig.said(), ["open b origin"]);
        rig.reflect.close();
        assert!(!rig.reflect.begin_close(), "it is closed");
    }

    #[test]
    fn capability_is_shown_to_nodes_that_take_it_alone() {
        let mut sources = list(&["a", "b", "origin"]);
        sources[1].takes_capability = false;
        sources[2].takes_capability = true;
        let list = LiveList { sources, capability: Some(Secret::new("hdl_1")) };
        let shown = list.sources.iter().map(|source| list.shown_to(source).is_some());
        assert_eq!(shown.collect::<Vec<_>>(), [true, false, false]);
    }

    #[test]
    fn old_and_empty_lists_have_no_effect() {
        let mut rig = Rig::new(&["a"]);
        rig.epoch = 7;
        rig.plan(&["b"]);
        rig.said();
        let list = || LiveList { sources: list(&["c"]), capability: None };
        let old = rig.reflect.handle_list(Epoch(7), list(), &mut rig.out);
        let empty = rig.reflect.handle_list(Epoch(9), LiveList::default(), &mut rig.out);
        assert_eq!((old, empty, rig.said()), (false, false, vec![]));
        rig.reflect.handle_new_base();
        assert!(rig.reflect.handle_list(Epoch(1), list(), &mut rig.out));
    }

    #[test]
    fn another_capability_is_another_list_of_the_same_sources() {
        let mut rig = Rig::new(&["a", "origin"]);
        rig.look(Some("a"), 10);
        rig.said();
        rig.plan_with(&["a", "origin"], Some("hdl_1"));
        assert_eq!(rig.said(), ["open a origin"]);
        assert_eq!(rig.reflect.opened.capability, Some(Secret::new("hdl_1")));
        rig.plan_with(&["a", "origin"], Some("hdl_1"));
        assert_eq!(rig.said(), [""; 0]);
        rig.look(Some("a"), 10);
        assert_eq!(rig.said(), [""; 0], "nothing else has changed");
        assert!(!format!("{:?}", rig.reflect).contains("hdl_1"));
        // The source that is left and the new ones are shown the same.
        rig.plan_with(&["b", "origin"], Some("hdl_2"));
        assert_eq!(rig.said(), ["open b origin a"]);
        assert_eq!(rig.reflect.opened.capability, Some(Secret::new("hdl_2")));
    }

    #[test]
    fn live_commands_have_a_name_of_a_path_and_a_url_without_secrets() {
        for (path, from) in
            [("live/x", "rtsp://10.0.0.1:8554/live/y"), ("x", "rtsp://[::1]/a b%20")]
        {
            let is_good = !from.contains(' ');
            assert_eq!(check_live(path, from).is_ok(), is_good, "{path} {from}");
        }
        let bad = [
            ("../x", "rtsp://h/x"),
            ("live/../x", "rtsp://h/x"),
            ("vod/x", "rtsp://h/x"),
            ("live/x~3", "rtsp://h/x"),
            ("live/x", "http://h/x"),
            ("live/x", "rtsps://h/x"),
            ("live/x", "rtsp://"),
            ("live/x", "rtsp://user:secret@h/x"),
            ("live/x", ""),
        ];
        for (path, from) in bad {
            let error = check_live(path, from).unwrap_err().to_string();
            assert!(!error.contains("secret@"), "{error}");
        }
        let long = format!("rtsp://h/{}", "x".repeat(URL_BYTES_MAX));
        assert_eq!(check_live("live/x", &long), Err(LiveError::Long));
    }

    proptest! {
        #[test]
        fn sums_only_grow_and_the_source_that_feeds_stays_in_the_list(
            steps in prop::collection::vec((0_u8..4, 0_usize..4, 0_u64..20), 1..60),
        ) {
            let names = ["a", "b", "c", "origin"];
            let mut rig = Rig::new(&["a", "origin"]);
            let mut before = (0, 0);
            for (kind, at, packets) in steps {
                match kind {
                    0 => rig.plan(&[names[at], names[(at + 1) % 4]]),
                    1 => rig.packets = 0,
                    _ => rig.look(Some(names[at]), packets),
                }
                let sums = (rig.reflect.totals().packets, rig.reflect.bytes());
                prop_assert!(sums.0 >= before.0 && sums.1 >= before.1);
                before = sums;
                let (active, opened) = (rig.reflect.active.clone(), &rig.reflect.opened.sources);
                prop_assert!(active.is_none_or(|active| opened.contains(&active)));
                prop_assert!(opened.len() <= SOURCES_MAX);
            }
        }
    }
}

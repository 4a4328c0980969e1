//! Looking for a content among the other nodes of its job, when no source of its plan is left.
//!
//! ```text
//! sources used up --> ask others of the job for their state, some at once
//!                       `--> those with more than this node, the fullest first --> a plan
//! ```
//! The capability of a node counts at each node that has the content, so the base is not needed.
//! Invariant: who has no more than this node, or has its bytes from it, is not found. Bounds:
//! `OPEN_MAX` surveys at once, `ASKS_MAX` questions of each, and no server is asked twice in one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::base::time::Mono;
use crate::dist::fetch::AskId;
use crate::dist::ids::{ContentId, NodeName};
use crate::dist::wire::agent::Source;
use crate::dist::wire::peer::ContentState;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Surveys {
    open: BTreeMap<ContentId, Survey>,
    asks: u32,
}

#[derive(Debug)]
struct Survey {
    /// Verified bytes of this node.
    have: u64,
    waiting: VecDeque<Source>,
    asked: BTreeMap<AskId, (Source, Mono)>,
    found: Vec<(u64, Source)>,
}

/// A server that is to be asked for its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) ask: AskId,
    pub(super) source: Source,
}

/// What a survey of a content comes to: sources with more than this node, the fullest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) content: ContentId,
    pub(super) sources: Vec<Source>,
}

impl Surveys {
    /// Asks `candidates` who of them has more than `have` bytes of a content. No effect while they
    /// are asked, or too much is looked for.
    pub(super) fn begin(
        &mut self,
        content: ContentId,
        have: u64,
        candidates: Vec<Source>,
        now: Mono,
    ) -> Vec<Question> {
        if self.open.contains_key(&content) || self.open.len() >= OPEN_MAX || candidates.is_empty()
        {
            return Vec::new();
        }
        let waiting = candidates.into();
        let survey = Survey { have, waiting, asked: BTreeMap::new(), found: Vec::new() };
        self.open.insert(content, survey);
        self.ask(content, now)
    }

    /// Whether a question is one of a survey, and not of a fetch.
    pub(super) fn is_own(ask: AskId) -> bool {
        ask.0 & OWN != 0
    }

    /// Takes the answer of a server; `None`: there was none in time. Gives who is asked next.
    pub(super) fn answer(
        &mut self,
        content: ContentId,
        ask: AskId,
        state: Option<&ContentState>,
        (me, now): (&NodeName, Mono),
    ) -> Vec<Question> {
        let Some(survey) = self.open.get_mut(&content) else { return Vec::new() };
        let Some((source, _)) = survey.asked.remove(&ask) else { return Vec::new() };
        if let Some(state) = state {
            let is_whole = state.end.is_some_and(|end| end.size == state.have);
            let has_more = state.have > survey.have || is_whole;
            if has_more && !state.via.contains(me) {
                // Of two that have the same the whole one knows the end.
                survey.found.push((state.have.saturating_add(u64::from(is_whole)), source));
            }
        }
        self.ask(content, now)
    }

    /// Surveys that are over. Those whose servers do not answer end by this.
    pub(super) fn take_over(&mut self, now: Mono) -> Vec<Found> {
        for survey in self.open.values_mut() {
            let asked = survey.asked.len();
            survey.asked.retain(|_, (_, since)| now.since(*since) < ANSWER_MAX);
            if survey.asked.len() < asked {
                survey.waiting.clear();
            }
        }
        let is_over = |_: &ContentId, survey: &mut Survey| {
            let is_enough = survey.found.len() >= FOUND_MAX;
            survey.asked.is_empty() && (survey.waiting.is_empty() || is_enough)
        };
        let over = self.open.extract_if(.., is_over);
        let found = over.map(|(content, mut survey)| {
            survey.found.sort_by_key(|(have, _)| std::cmp::Reverse(*have));
            survey.found.truncate(FOUND_MAX);
            Found { content, sources: survey.found.into_iter().map(|(_, source)| source).collect() }
        });
        found.collect()
    }

    /// A content is not looked for any more.
    pub(super) fn end(&mut self, content: ContentId) {
        self.open.remove(&content);
    }

    fn ask(&mut self, content: ContentId, now: Mono) -> Vec<Question> {
        let Some(survey) = self.open.get_mut(&content) else { return Vec::new() };
        let mut questions = Vec::new();
        while survey.asked.len() < ASKS_MAX
            && survey.found.len() < FOUND_MAX
            && let Some(source) = survey.waiting.pop_front()
        {
            self.asks = self.asks.wrapping_add(1);
            let ask = AskId(self.asks | OWN);
            survey.asked.insert(ask, (source.clone(), now));
            questions.push(Question { ask, source });
        }
        questions
    }
}

/// Contents that are looked for at once.
const OPEN_MAX: usize = 16;
/// Servers that are asked at once for one of them.
const ASKS_MAX: usize = 8;
/// Sources that are enough.
const FOUND_MAX: usize = 3;
/// The caller's own limit comes first.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Numbers of questions that no fetch gives.
const OWN: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::dist::ids::Digest;
    use crate::dist::wire::peer::ContentEnd;

    const CONTENT: ContentId = ContentId(Uuid::nil());

    fn source(n: usize) -> Source {
        Source {
            node: NodeName::new(&format!("n{n}")).ok(),
            addr: String::new(),
            capability: "c".to_owned(),
            rate: 0,
            is_last_resort: false,
        }
    }

    fn state(have: u64, is_whole: bool, via: &[&str]) -> ContentState {
        let end = is_whole.then_some(ContentEnd { size: have, blake3: Digest([0; 32]) });
        let via = via.iter().map(|name| NodeName::new(name).unwrap()).collect();
        ContentState { have, end, via, rate: 0, is_held: false }
    }

    fn me() -> NodeName {
        NodeName::new("me").unwrap()
    }

    #[test]
    fn fullest_is_first_and_who_has_no_more_is_not_found() {
        let mut surveys = Surveys::default();
        let asked = surveys.begin(CONTENT, 10, (0..5).map(source).collect(), Mono(1));
        assert_eq!(asked.len(), 5);
        assert_eq!(surveys.begin(CONTENT, 10, vec![source(9)], Mono(1)), []);
        let states = [
            Some(state(20, false, &[])),
            Some(state(10, false, &[])),
            Some(state(30, true, &["me"])),
            None,
            Some(state(20, true, &["n7"])),
        ];
        for (question, state) in asked.iter().zip(&states) {
            assert!(Surveys::is_own(question.ask));
            assert_eq!(surveys.take_over(Mono(1)), []);
            surveys.answer(CONTENT, question.ask, state.as_ref(), (&me(), Mono(1)));
        }
        let found = Found { content: CONTENT, sources: vec![source(4), source(0)] };
        assert_eq!(surveys.take_over(Mono(1)), [found]);
        assert_eq!(surveys.take_over(Mono(1)), []);
    }

    proptest! {
        #[test]
        fn survey_asks_each_once_and_ends(
            haves in prop::collection::vec(prop::option::of(0_u64..4), 1..40),
        ) {
            let mut surveys = Surveys::default();
            let candidates = (0..haves.len()).map(source).collect();
            let mut open = surveys.begin(CONTENT, 2, candidates, Mono(1));
            let mut asked = Vec::new();
            while let Some(question) = open.pop() {
                prop_assert!(open.len() < ASKS_MAX);
                let n = (0..haves.len()).find(|n| source(*n) == question.source).unwrap();
                prop_assert!(!asked.contains(&n));
                asked.push(n);
                let state = haves[n].map(|have| state(have, false, &[]));
                let next = surveys.answer(CONTENT, question.ask, state.as_ref(), (&me(), Mono(1)));
                open.extend(next);
            }
            let found = surveys.take_over(Mono(1));
            prop_assert_eq!(found.len(), 1);
            let fuller = haves.iter().filter(|have| **have == Some(3)).count();
            prop_assert_eq!(found[0].sources.len(), fuller.min(FOUND_MAX));
        }
    }
}

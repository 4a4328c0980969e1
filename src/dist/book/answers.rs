//! Answers to requests with idempotency keys.
//!
//! Invariant: the order has an entry for each answer that is kept. Bound: `max` entries; the oldest
//! make room.

use std::collections::{HashMap, VecDeque};

use crate::dist::rows::AnswerRow;

/// See the module.
#[derive(Debug)]
pub(super) struct Answers {
    /// By client and key.
    answers: HashMap<String, HashMap<String, AnswerRow>>,
    /// Time, client and key, the oldest first.
    order: VecDeque<(i64, String, String)>,
    pub(super) max: usize,
}

impl Answers {
    pub(super) fn new(max: usize) -> Self {
        Self { answers: HashMap::new(), order: VecDeque::new(), max }
    }

    pub(super) fn get(&self, client: &str, idempotency_key: &str) -> Option<&AnswerRow> {
        self.answers.get(client)?.get(idempotency_key)
    }

    pub(super) fn remember(&mut self, row: AnswerRow) {
        while self.order.len() >= self.max.max(1) {
            self.forget_oldest();
        }
        let (client, key) = (row.client.clone(), row.idempotency_key.clone());
        self.order.push_back((row.at_ns, client.clone(), key.clone()));
        self.answers.entry(client).or_default().insert(key, row);
    }

    /// Forgets what was answered at such a time.
    pub(super) fn forget(&mut self, is_old: impl Fn(i64) -> bool) {
        while self.order.front().is_some_and(|(at_ns, ..)| is_old(*at_ns)) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((at_ns, client, key)) = self.order.pop_front() else { return };
        let Some(answers) = self.answers.get_mut(&client) else { return };
        // A later answer under the same key has its own entry.
        if answers.get(&key).is_some_and(|answer| answer.at_ns == at_ns) {
            answers.remove(&key);
        }
        if answers.is_empty() {
            self.answers.remove(&client);
        }
    }
}

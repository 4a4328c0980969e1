//! The hash chain of events: an entry that is changed, left out or put in between is found.
//!
//! ```text
//! hash(n) = BLAKE3(hash(n - 1) || BLAKE3(JSON of entry n without its hash))     hash(0) = 32 zeros
//! ```
//! So the chain can be checked by somebody who may not see all entries: the inner hash is enough.
//! The JSON is canonical: fields in the order of [`EventView`], names within `detail` in order of
//! their bytes, no white space. `detail` has whole numbers and texts, no fractions: a fraction that
//! is read and written again may differ in its last digit.
//! Invariant: sequence numbers of a chain have no gap.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dist::ids::{CommandId, Digest, JobId, NodeName};
use crate::dist::wire::job::EventView;

/// The end of a chain, to which entries are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHead {
    /// Number of the last entry; 0 before the first.
    pub seq: u64,
    /// Hash of the last entry; zeros before the first.
    pub hash: Digest,
}

/// An entry that does not follow from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Numbers have a gap or repeat.
    #[error("event {expected} is missing: event {found} comes instead")]
    Gap {
        /// The number that follows.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// The hash is not that of this entry behind the one before.
    #[error("event {seq} was changed, or one before it")]
    Changed {
        /// The entry.
        seq: u64,
    },
}

impl ChainHead {
    /// Before the first entry.
    pub const START: Self = Self { seq: 0, hash: Digest([0; 32]) };

    /// Behind this entry.
    #[must_use]
    pub fn behind(event: &EventView) -> Self {
        Self { seq: event.seq, hash: event.hash }
    }

    /// Numbers `event`, gives it its hash and goes behind it.
    pub fn append(&mut self, event: &mut EventView) {
        event.seq = self.seq + 1;
        event.hash = hash_behind(&self.hash, &body_hash(event));
        *self = Self::behind(event);
    }

    /// Checks that `event` follows, and goes behind it.
    ///
    /// # Errors
    /// `ChainError` when it does not; the head stays.
    pub fn check(&mut self, event: &EventView) -> Result<(), ChainError> {
        self.follow(event.seq, &body_hash(event), event.hash)
    }

    /// The same of an entry as it is shown.
    ///
    /// # Errors
    /// `ChainError` when it does not follow; the head stays.
    pub fn check_entry(&mut self, entry: &ChainEntry) -> Result<(), ChainError> {
        match entry {
            ChainEntry::Open(event) => self.check(event),
            ChainEntry::Sealed { seq, body, hash } => self.follow(*seq, body, *hash),
        }
    }

    fn follow(&mut self, seq: u64, body: &Digest, hash: Digest) -> Result<(), ChainError> {
        if seq != self.seq + 1 {
            return Err(ChainError::Gap { expected: self.seq + 1, found: seq });
        }
        if hash_behind(&self.hash, body) != hash {
            return Err(ChainError::Changed { seq });
        }
        *self = Self { seq, hash };
        Ok(())
    }
}

/// An entry of the chain as it is shown: whole, or sealed for those whom it does not concern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ChainEntry {
    /// All of it.
    Open(EventView),
    /// What the chain needs of it.
    Sealed {
        /// Place in the ledger.
        seq: u64,
        /// Hash of what it says, see [`body_hash`].
        body: Digest,
        /// BLAKE3 over the entry before and this one.
        hash: Digest,
    },
}

impl ChainEntry {
    /// The event without what it says.
    #[must_use]
    pub fn sealed(event: &EventView) -> Self {
        Self::Sealed { seq: event.seq, body: body_hash(event), hash: event.hash }
    }

    /// What it says, unless it is sealed.
    #[must_use]
    pub fn event(&self) -> Option<&EventView> {
        match self {
            Self::Open(event) => Some(event),
            Self::Sealed { .. } => None,
        }
    }

    /// Place in the ledger.
    #[must_use]
    pub fn seq(&self) -> u64 {
        match self {
            Self::Open(event) => event.seq,
            Self::Sealed { seq, .. } => *seq,
        }
    }
}

/// Checks entries as they are shown, as [`verify`] checks events.
///
/// # Errors
/// `ChainError` of the first entry that does not follow.
pub fn verify_entries<'a>(
    mut from: ChainHead,
    entries: impl IntoIterator<Item = &'a ChainEntry>,
) -> Result<ChainHead, ChainError> {
    for entry in entries {
        from.check_entry(entry)?;
    }
    Ok(from)
}

/// Checks a whole chain, or a part of one behind `from`. Gives its new end.
///
/// # Errors
/// `ChainError` of the first entry that does not follow.
pub fn verify<'a>(
    mut from: ChainHead,
    events: impl IntoIterator<Item = &'a EventView>,
) -> Result<ChainHead, ChainError> {
    for event in events {
        from.check(event)?;
    }
    Ok(from)
}

/// An [`EventView`] without its hash.
#[derive(Serialize)]
struct Body<'a> {
    seq: u64,
    at_ns: i64,
    job: Option<JobId>,
    command: Option<CommandId>,
    node: Option<&'a NodeName>,
    kind: &'a str,
}

/// The inner hash: that of the entry itself.
#[must_use]
pub fn body_hash(event: &EventView) -> Digest {
    let EventView { seq, at_ns, job, command, node, kind, detail, hash: _ } = event;
    let (seq, at_ns, job, command) = (*seq, *at_ns, *job, *command);
    let body = Body { seq, at_ns, job, command, node: node.as_ref(), kind };
    let mut text = serde_json::to_string(&body).unwrap_or_default();
    text.pop();
    text.push_str(",\"detail\":");
    write_canonical(detail, &mut text);
    text.push('}');
    Digest(*blake3::hash(text.as_bytes()).as_bytes())
}

fn hash_behind(before: &Digest, body: &Digest) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&before.0);
    hasher.update(&body.0);
    Digest(*hasher.finalize().as_bytes())
}

/// Names in order, whatever order the map of `serde_json` has.
fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&value.to_string());
        }
        Value::Array(values) => {
            text.push('[');
            for (place, value) in values.iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                write_canonical(value, text);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            text.push('{');
            for (place, (name, value)) in fields.into_iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write_canonical(value, text);
            }
            text.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn chain() -> Vec<EventView> {
        let mut head = ChainHead::START;
        let event = |at_ns| EventView {
            seq: 0,
            at_ns,
            job: Some(JobId(Uuid::from_u128(5))),
            command: (at_ns > 1).then_some(CommandId(1)),
            node: NodeName::new("a").ok(),
            kind: "delivery.received".to_owned(),
            detail: json!({"b": [1, {"z": "\"", "a": null}], "a": true}),
            hash: Digest([0; 32]),
        };
        let mut events: Vec<_> = (0..5).map(event).collect();
        events.iter_mut().for_each(|event| head.append(event));
        events
    }

    #[test]
    fn chain_is_verified_whole_in_parts_and_after_a_way_through_json() {
        let events = chain();
        let head = verify(ChainHead::START, &events).unwrap();
        assert_eq!(head, ChainHead::behind(&events[4]));
        assert_eq!(verify(ChainHead::behind(&events[1]), &events[2..]), Ok(head));
        let text = serde_json::to_string(&events).unwrap();
        let read: Vec<EventView> = serde_json::from_str(&text).unwrap();
        assert_eq!(verify(ChainHead::START, &read), Ok(head));
    }

    #[test]
    fn every_change_of_an_entry_is_found() {
        let changes: [fn(&mut EventView); 7] = [
            |e| e.at_ns += 1,
            |e| e.job = None,
            |e| e.command = Some(CommandId(9)),
            |e| e.node = NodeName::new("b").ok(),
            |e| e.kind.push('x'),
            |e| e.detail = json!({"b": [1, {"z": "\"", "a": null}], "a": false}),
            |e| e.hash.0[31] ^= 1,
        ];
        for change in changes {
            let mut events = chain();
            change(&mut events[2]);
            assert_eq!(verify(ChainHead::START, &events), Err(ChainError::Changed { seq: 3 }));
        }
    }

    #[test]
    fn entry_that_is_left_out_doubled_or_moved_is_found() {
        let mut events = chain();
        events.remove(2);
        let gap = ChainError::Gap { expected: 3, found: 4 };
        assert_eq!(verify(ChainHead::START, &events), Err(gap));
        let mut events = chain();
        events.swap(1, 2);
        let gap = ChainError::Gap { expected: 2, found: 3 };
        assert_eq!(verify(ChainHead::START, &events), Err(gap));
        let mut events = chain();
        events.insert(1, events[0].clone());
        let gap = ChainError::Gap { expected: 2, found: 1 };
        assert_eq!(verify(ChainHead::START, &events), Err(gap));
    }

    #[test]
    fn sealed_entry_says_nothing_and_is_checked_all_the_same() {
        let events = chain();
        let seal = |(place, event): (usize, &EventView)| match place % 2 {
            0 => ChainEntry::sealed(event),
            _ => ChainEntry::Open(event.clone()),
        };
        let entries: Vec<_> = events.iter().enumerate().map(seal).collect();
        let text = serde_json::to_string(&entries).unwrap();
        assert_eq!(text.matches("delivery.received").count(), 2);
        let mut read: Vec<ChainEntry> = serde_json::from_str(&text).unwrap();
        assert_eq!(read, entries);
        let end = Ok(ChainHead::behind(&events[4]));
        assert_eq!(verify_entries(ChainHead::START, &read), end);
        if let ChainEntry::Sealed { body, .. } = &mut read[2] {
            body.0[0] ^= 1;
        }
        let changed = Err(ChainError::Changed { seq: 3 });
        assert_eq!(verify_entries(ChainHead::START, &read), changed);
        read.remove(2);
        let gap = Err(ChainError::Gap { expected: 3, found: 4 });
        assert_eq!(verify_entries(ChainHead::START, &read), gap);
    }

    #[test]
    fn hash_of_an_entry_stays_the_same_from_version_to_version() {
        let events = chain();
        insta::assert_snapshot!(events[0].hash, @"a18313f64fd94d24f23fe8e913571256ea25bb82e71a884889d3ab7fbe0aacc2");
    }
}

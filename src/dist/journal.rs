//! The journal of a node: which commands it knows, and how they ended.
//!
//! ```text
//! 16 hexadecimal digits (start of the BLAKE3 of the rest), a space, JSON of a record, line feed
//! ```
//! Invariant: a record counts when its line is whole. What is behind the first line that is not is
//! cut: a process that was killed, or a machine that lost its power, wrote it and told nobody.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::secret::Secret;
use crate::dist::ids::{CommandKey, ContentId, JobId};
use crate::dist::terms::Terms;
use crate::dist::wire::agent::{LiveSource, LiveTotals, ServerList, SignedReceipt, Source};
use crate::dist::wire::job::{Op, Order, Reason};

/// An entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// The base has ordered a command.
    Command {
        /// Its name.
        key: CommandKey,
        /// Which commands of the job wait for others.
        sequence: Order,
        /// 0 to 9.
        priority: u8,
        /// What is to be done.
        op: Op,
        /// The content of a put.
        content: Option<ContentId>,
        /// Size of the content, where it is known.
        size: Option<u64>,
    },
    /// The media folder is about to be changed in a way that cannot be done twice.
    Applying {
        /// The command.
        key: CommandKey,
    },
    /// From whom how many bytes of a put have come. Not waited for.
    Via {
        /// The command.
        key: CommandKey,
        /// Bytes by source; `base` is the base.
        via: BTreeMap<String, u64>,
    },
    /// Done.
    Completed {
        /// The command.
        key: CommandKey,
        /// The proof.
        receipt: SignedReceipt,
    },
    /// Given up.
    Failed {
        /// The command.
        key: CommandKey,
        /// Why.
        reason: Reason,
        /// For people.
        detail: String,
    },
    /// Withdrawn.
    Cancelled {
        /// The command.
        key: CommandKey,
    },
    /// From whom a live path is reflected: what a node goes on with before its base is back.
    Reflect {
        /// The command.
        key: CommandKey,
        /// The list.
        sources: Vec<LiveSource>,
        /// What nodes of the list are shown.
        #[serde(
            default,
            with = "crate::dist::wire::secret",
            skip_serializing_if = "Option::is_none"
        )]
        capability: Option<Secret>,
    },
    /// What a node has reflected of a live path so far. Not waited for.
    Reflected {
        /// The command.
        key: CommandKey,
        /// Bytes by source; `origin` is the origin.
        via: BTreeMap<String, u64>,
        /// Sums.
        totals: LiveTotals,
    },
    /// What a job may take.
    Terms {
        /// The job.
        job: JobId,
        /// The terms.
        terms: Terms,
    },
    /// Where a content comes from, as the base has said last. Not waited for.
    Plan {
        /// The content.
        content: ContentId,
        /// Sources as a short list ([`crate::dist::wire::agent::short_list`]).
        sources: Vec<Source>,
    },
    /// Other nodes of a job.
    Servers {
        /// The job.
        job: JobId,
        /// Version of the list.
        list_version: u32,
        /// The servers.
        servers: ServerList,
    },
    /// Nothing of this job is needed any more.
    Forget {
        /// The job.
        job: JobId,
    },
}

/// What a journal holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Records, in order.
    pub records: Vec<Record>,
    /// Bytes of whole lines; what is behind them is to be cut.
    pub bytes: usize,
}

impl Record {
    /// Appends the record's line.
    pub fn write(&self, out: &mut Vec<u8>) {
        // A record is plain data with text keys: it has a JSON form.
        let json = serde_json::to_string(self).unwrap_or_default();
        out.extend_from_slice(check(json.as_bytes()).as_bytes());
        out.push(b' ');
        out.extend_from_slice(json.as_bytes());
        out.push(b'\n');
    }
}

/// Reads a journal as far as it is whole.
#[must_use]
pub fn replay(bytes: &[u8]) -> Replay {
    let mut replay = Replay::default();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(record) = read(line) else { break };
        replay.records.push(record);
        replay.bytes += line.len();
    }
    replay
}

fn read(line: &[u8]) -> Option<Record> {
    let line = line.strip_suffix(b"\n")?;
    let (sum, json) = line.split_at_checked(CHECK_DIGITS)?;
    let json = json.strip_prefix(b" ")?;
    if check(json).as_bytes() != sum {
        return None;
    }
    serde_json::from_slice(json).ok()
}

fn check(json: &[u8]) -> String {
    let mut hex = blake3::hash(json).to_hex().to_string();
    hex.truncate(CHECK_DIGITS);
    hex
}

const CHECK_DIGITS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::ids::{CommandId, NodeName};
    use crate::dist::wire::agent::Server;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn records() -> Vec<Record> {
        let job = JobId(Uuid::nil());
        let key = CommandKey { job, command: CommandId(1) };
        let receipt =
            SignedReceipt { receipt: "{\"a\":\"\\n\"}".to_owned(), signature: "AA".to_owned() };
        vec![
            Record::Command {
                key,
                sequence: Order::Prefix,
                priority: 5,
                op: Op::Delete { path: "a\nb".to_owned() },
                content: Some(ContentId(Uuid::nil())),
                size: Some(3),
            },
            Record::Applying { key },
            Record::Via { key, via: BTreeMap::from([("base".to_owned(), 7)]) },
            Record::Reflect {
                key,
                sources: vec![LiveSource {
                    node: None,
                    url: "rtsp://o/live/x".to_owned(),
                    takes_capability: false,
                }],
                capability: Some(Secret::new("hdl_a.b")),
            },
            Record::Reflected {
                key,
                via: BTreeMap::from([("origin".to_owned(), 7)]),
                totals: LiveTotals { packets: 1, flow_ms: 2, switches: 3 },
            },
            Record::Completed { key, receipt },
            Record::Failed { key, reason: Reason::NoSpace, detail: "full".to_owned() },
            Record::Cancelled { key },
            Record::Terms { job, terms: Terms::default() },
            Record::Plan { content: ContentId(Uuid::nil()), sources: vec![source()] },
            Record::Servers { job, list_version: 2, servers: vec![server()].into() },
            Record::Forget { job },
        ]
    }

    fn source() -> Source {
        Source {
            node: None,
            addr: "192.0.2.1:7".to_owned(),
            capability: "c".to_owned(),
            rate: 0,
            is_last_resort: false,
        }
    }

    fn server() -> Server {
        Server {
            index: 3,
            node: NodeName::new("edge-3").unwrap(),
            addr: "192.0.2.3:9996".to_owned(),
        }
    }

    fn written() -> Vec<u8> {
        let mut bytes = Vec::new();
        records().iter().for_each(|record| record.write(&mut bytes));
        bytes
    }

    #[test]
    fn journal_reads_what_it_writes() {
        let bytes = written();
        assert_eq!(replay(&bytes), Replay { records: records(), bytes: bytes.len() });
        assert_eq!(replay(&[]), Replay::default());
    }

    proptest! {
        #[test]
        fn journal_that_was_cut_anywhere_keeps_its_whole_lines(cut in 0_usize..2_000) {
            let bytes = written();
            let cut = cut.min(bytes.len());
            let whole = bytes[..cut].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let replay = replay(&bytes[..cut]);
            prop_assert_eq!(replay.bytes, whole);
            prop_assert_eq!(&replay.records[..], &records()[..replay.records.len()]);
        }

        #[test]
        fn journal_with_a_wrong_bit_ends_before_it(at in 0_usize..2_000, bit in 0_u8..8) {
            let mut bytes = written();
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= 1 << bit;
            let line = written()[..at].iter().filter(|byte| **byte == b'\n').count();
            let replay = replay(&bytes);
            prop_assert_eq!(&replay.records[..], &records()[..line]);
        }
    }
}

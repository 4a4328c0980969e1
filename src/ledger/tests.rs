//! What is written is read back, in one piece or not at all, from both databases.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use uuid::Uuid;

use super::kit::{Kept, Opened};
use super::*;
use crate::dist::chain::ChainHead;
use crate::dist::ids::{CommandId, CommandKey, ContentId, Digest, HookId, Incarnation, NodeName};
use crate::dist::rows::{
    AnswerRow, CareRow, CommandRow, ContentRow, DeliveryRow, HookRow, JobRow, NodeRow, WaitRow,
};
use crate::dist::window::Window;
use crate::dist::wire::agent::SignedReceipt;
use crate::dist::wire::hook::{HookState, Topic};
use crate::dist::wire::job::{
    Attributes, CarePhase, DeliveryState, JobState, Late, NodeState, Op, Order, Policy, Reason,
    RepairCause, ServerView,
};

fn job_id(n: u128) -> JobId {
    JobId(Uuid::from_u128(n))
}

fn key(job: u128, command: u32) -> CommandKey {
    CommandKey { job: job_id(job), command: CommandId(command) }
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn event(seq: u64, job: Option<u128>) -> EventView {
    EventView {
        seq,
        at_ns: 5,
        job: job.map(job_id),
        command: job.map(|_| CommandId(1)),
        node: Some(name("a")),
        kind: "delivery.completed".to_owned(),
        detail: json!({"size": u64::MAX, "path": "a/\u{e9}.mp4", "via": {"base": 1}}),
        hash: Digest([7; 32]),
    }
}

fn seqs(events: &[EventView]) -> Vec<u64> {
    events.iter().map(|event| event.seq).collect()
}

fn any_job() -> impl Strategy<Value = JobRow> {
    let states = prop::sample::select(vec![
        JobState::Requested,
        JobState::Denied,
        JobState::Open,
        JobState::Closing,
        JobState::Completed,
        JobState::CompletedWithFailures,
        JobState::Cancelled,
    ]);
    let order = prop::sample::select(vec![Order::Strict, Order::Prefix, Order::None]);
    let windows = ["mon-fri 22:00-06:00 Europe/Berlin", "01:00-02:00; 03:00-04:00 +02:00"];
    let windows = windows.map(|text| text.parse::<Window>().unwrap()).to_vec();
    let window = prop::option::of(prop::sample::select(windows));
    let rates = (any::<Option<u64>>(), any::<Option<u64>>());
    let policy = (order, any::<u8>(), rates, window, any::<bool>());
    let policy = policy.prop_map(|(order, priority, rates, window, paused)| Policy {
        order,
        priority,
        max_rate: rates.0,
        per_node_rate: rates.1,
        window,
        paused,
        late: Late::Deliver,
    });
    let texts = (any::<String>(), any::<Option<String>>());
    let times = (any::<i64>(), any::<Option<i64>>(), any::<Option<i64>>());
    let ratios = (prop::option::of(0.0..9.0), prop::option::of(0.0..9.0));
    (any::<u128>(), states, policy, texts, times, ratios, any::<u64>()).prop_map(
        |(id, state, policy, texts, times, ratios, up_rate)| JobRow {
            id: job_id(id),
            client: texts.0,
            client_ref: texts.1,
            state,
            servers: vec![ServerView { index: 0, node: name("a"), addr: String::new(), up_rate }],
            list_version: 3,
            policy: Policy {
                late: if up_rate % 2 == 0 { Late::Deliver } else { Late::Drop },
                ..policy
            },
            created_at_ns: times.0,
            deadline_ns: times.1,
            ended_at_ns: times.2,
            first_ended_at_ns: times.2.map(|at_ns| at_ns / 2),
            bound_ratio: ratios.0,
            base_egress_ratio: ratios.1,
        },
    )
}

fn any_op() -> impl Strategy<Value = Op> {
    let xattr = prop::collection::btree_map(any::<String>(), any::<Option<String>>(), 0..3);
    let attrs = (any::<Option<u32>>(), any::<Option<i64>>(), xattr);
    let attrs = attrs.prop_map(|(mode, mtime_ns, xattr)| Attributes { mode, mtime_ns, xattr });
    (0..7, any::<String>(), any::<String>(), attrs).prop_map(|(kind, path, to, attrs)| match kind {
        0 => Op::Put { path, attrs },
        1 => Op::Mkdir { path, attrs },
        2 => Op::Delete { path },
        3 => Op::Move { path, to },
        4 => Op::SetAttributes { path, attrs },
        5 => Op::Live { path, from: to },
        _ => Op::Query,
    })
}

fn any_delivery() -> impl Strategy<Value = DeliveryRow> {
    let states = prop::sample::select(vec![
        DeliveryState::Pending,
        DeliveryState::Received,
        DeliveryState::Fetching,
        DeliveryState::Applying,
        DeliveryState::RetryWait,
        DeliveryState::Completed,
        DeliveryState::Failed,
        DeliveryState::Cancelled,
    ]);
    let reasons = prop::sample::select(vec![
        Reason::NoSpace,
        Reason::Permission,
        Reason::PathConflict,
        Reason::Io,
        Reason::NoSource,
        Reason::BadHash,
        Reason::UploadAbandoned,
        Reason::Attempts,
        Reason::Deadline,
        Reason::NodeRetired,
        Reason::NodeFailed,
    ]);
    let texts = (any::<Option<String>>(), prop::option::of(any::<(String, String)>()));
    (states, prop::option::of(reasons), texts, any::<u64>(), any::<u32>(), any::<bool>()).prop_map(
        |(state, reason, (detail, receipt), offset, count, is_peer)| DeliveryRow {
            key: key(1, 2),
            node: name("n-1.x"),
            state,
            offset,
            source: is_peer.then(|| name("b")),
            switches: count,
            attempts: !count,
            reason,
            detail,
            receipt: receipt.map(|(receipt, signature)| SignedReceipt { receipt, signature }),
            updated_at_ns: -1,
        },
    )
}

fn any_node() -> impl Strategy<Value = NodeRow> {
    let states = prop::sample::select(vec![
        NodeState::Active,
        NodeState::Suspect,
        NodeState::Down,
        NodeState::Draining,
        NodeState::Retired,
        NodeState::Quarantined,
        NodeState::Repairing,
        NodeState::Activating,
        NodeState::FailedHw,
    ]);
    let labels = prop::collection::btree_map(any::<String>(), any::<String>(), 0..3);
    (states, labels, any::<[u8; 32]>(), any::<u64>(), any::<Option<u64>>()).prop_map(
        |(state, labels, hash, count, cap)| NodeRow {
            name: name("n-1.x"),
            state,
            token_hash: Digest(hash),
            public_key: "key".to_owned(),
            addr: "192.0.2.1:1".to_owned(),
            labels,
            incarnation: Incarnation(count),
            reports_taken: !count,
            up_rate_cap: cap,
            down_rate_cap: cap.map(|cap| !cap),
            up_rate_seen: count / 2,
            down_rate_seen: count / 3,
            heard_at_ns: i64::MAX,
        },
    )
}

fn any_content() -> impl Strategy<Value = ContentRow> {
    let digests = (any::<Option<[u8; 32]>>(), any::<Option<[u8; 32]>>());
    (any::<u128>(), any::<Option<u64>>(), digests, any::<Option<i64>>(), any::<bool>()).prop_map(
        |(id, size, (expected, blake3), ended_at_ns, is_abandoned)| ContentRow {
            id: ContentId(Uuid::from_u128(id)),
            key: key(3, u32::MAX),
            size,
            expected: expected.map(Digest),
            blake3: blake3.map(Digest),
            ended_at_ns,
            is_abandoned,
        },
    )
}

fn any_answer() -> impl Strategy<Value = AnswerRow> {
    (any::<[String; 3]>(), any::<u16>(), any::<[u8; 32]>()).prop_map(
        |([client, idempotency_key, body], status, request)| AnswerRow {
            client,
            idempotency_key,
            request: Digest(request),
            status,
            body,
            at_ns: 4,
        },
    )
}

fn any_hook() -> impl Strategy<Value = HookRow> {
    let states =
        prop::sample::select(vec![HookState::Active, HookState::Done, HookState::Disabled]);
    let secret = any::<bool>().prop_map(|has_one| {
        has_one.then(|| "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap())
    });
    let topics = prop::sample::subsequence(Topic::ALL.to_vec(), 0..=4);
    let texts = (any::<String>(), any::<Option<String>>(), any::<Option<String>>());
    let counts = (any::<[u64; 5]>(), any::<u32>(), any::<u32>());
    let times = (any::<[i64; 2]>(), any::<Option<i64>>());
    (states, secret, topics, texts, counts, times).prop_map(
        |(state, secret, topics, texts, (counts, hook, attempts), times)| HookRow {
            id: HookId { job: job_id(4), hook },
            url: texts.0,
            secret,
            topics,
            client_ref: texts.1,
            state,
            place: counts[0],
            newest: counts[1],
            pending: counts[2],
            waits_since_ns: times.0[0],
            delivered: counts[3],
            dropped: counts[4],
            attempts,
            due_at_ns: times.0[1],
            delivered_at_ns: times.1,
            last_error: texts.2,
        },
    )
}

fn any_care() -> impl Strategy<Value = CareRow> {
    let phases = prop::sample::select(vec![
        CarePhase::Well,
        CarePhase::Asked,
        CarePhase::Repairing,
        CarePhase::Activating,
        CarePhase::Failed,
    ]);
    let causes = prop::sample::select(vec![
        RepairCause::Unanswered,
        RepairCause::AppWedged,
        RepairCause::SourceBad,
        RepairCause::JournalBad,
        RepairCause::ProbeFailed,
        RepairCause::Operator,
    ]);
    let times = any::<(Option<i64>, Option<i64>)>();
    (phases, prop::option::of(causes), any::<u32>(), times).prop_map(
        |(phase, cause, count, (due_at_ns, expected_back_ns))| CareRow {
            node: name("n-1.x"),
            phase,
            cause,
            tries: count,
            extensions: !count,
            due_at_ns,
            expected_back_ns,
        },
    )
}

/// One row of each kind, with other rows of the same keys before.
#[derive(Debug, Clone)]
struct Sample {
    changes: Vec<Change>,
    expected: Rows,
}

fn any_sample() -> impl Strategy<Value = Sample> {
    let rows = (any_job(), any_op(), any_delivery(), any_node(), any_content(), any_answer());
    let rows = (rows, any_hook());
    (rows, any::<u64>(), any_care()).prop_map(|((rows, hook), incarnation, care)| {
        let (job, op, delivery, node, content, answer) = rows;
        let (until_ns, period_s, periods) = (job.created_at_ns, incarnation, care.tries);
        let wait = WaitRow { job: job.id, until_ns, period_s, periods };
        let command =
            CommandRow { key: key(1, 2), op, content: Some(content.id), created_at_ns: 9 };
        let old = NodeRow { incarnation: Incarnation(incarnation), ..node.clone() };
        let expected = Rows {
            jobs: vec![job.clone()],
            commands: vec![command.clone()],
            deliveries: vec![delivery.clone()],
            nodes: vec![node.clone()],
            contents: vec![content.clone()],
            hooks: vec![hook.clone()],
            answers: vec![answer.clone()],
            waits: vec![wait],
            cares: vec![care.clone()],
            trimmed: Some(ChainHead { seq: 1, hash: Digest([3; 32]) }),
            last_event: Some(event(2, None)),
        };
        let changes = vec![
            Change::Node(old),
            Change::Job(job),
            Change::Command(command),
            Change::Delivery(delivery),
            Change::Node(node),
            Change::Content(content),
            Change::Hook(HookRow { newest: 0, ..hook.clone() }),
            Change::Hook(hook),
            Change::Answer(answer),
            Change::Wait(WaitRow { periods: 0, ..wait }),
            Change::Wait(wait),
            Change::Care(care),
            Change::Event(event(1, Some(1))),
            Change::Event(event(2, None)),
            Change::Trim(ChainHead { seq: 1, hash: Digest([3; 32]) }),
        ];
        Sample { changes, expected }
    })
}

#[test]
fn rows_are_read_back_as_they_were_written() {
    let mut runner = TestRunner::new(Config::with_cases(64));
    for kept in Kept::all() {
        kept.open().close();
        let outcome = runner.run(&any_sample(), |Sample { changes, expected }| {
            for table in tables::TABLES {
                kept.sql(&format!("DELETE FROM {}", table.name));
            }
            let mut opened = kept.open();
            opened.ledger.commit(&changes).unwrap();
            opened.close();
            let opened = kept.open();
            prop_assert_eq!(&opened.rows, &expected);
            opened.close();
            Ok(())
        });
        outcome.unwrap();
    }
}

#[test]
fn transaction_that_fails_leaves_nothing() {
    for kept in Kept::all() {
        let Opened { mut ledger, rows, lease } = kept.open();
        assert_eq!(rows, Rows::default());
        let delivery = DeliveryRow::pending(job_id(1), CommandId(1), name("a"), 0);
        let delivery = Change::Delivery(delivery);
        ledger.commit(&[Change::Event(event(1, None))]).unwrap();
        // Events are only added.
        let error = ledger.commit(&[delivery.clone(), Change::Event(event(1, None))]).unwrap_err();
        assert!(!error.is_passing(), "{error}");
        Opened { ledger, rows, lease }.close();
        let Opened { mut ledger, rows, lease } = kept.open();
        assert_eq!((rows.deliveries.len(), &rows.last_event), (0, &Some(event(1, None))));
        ledger.commit(&[delivery, Change::Event(event(2, None))]).unwrap();
        ledger.fold().unwrap();
        Opened { ledger, rows, lease }.close();
        let opened = kept.open();
        assert_eq!(opened.rows.deliveries.len(), 1);
        opened.close();
    }
}

#[test]
fn row_that_is_written_twice_in_a_transaction_is_as_it_was_written_last() {
    for kept in Kept::all() {
        let mut opened = kept.open();
        let first = DeliveryRow::pending(job_id(1), CommandId(1), name("a"), 0);
        let other = DeliveryRow::pending(job_id(1), CommandId(1), name("b"), 0);
        let last = DeliveryRow { state: DeliveryState::Failed, ..first.clone() };
        let changes = [first, other.clone(), last.clone()].map(Change::Delivery);
        opened.ledger.commit(&changes).unwrap();
        opened.close();
        let opened = kept.open();
        let mut found = opened.rows.deliveries.clone();
        found.sort_by(|a, b| a.node.cmp(&b.node));
        assert_eq!(found, [last, other]);
        opened.close();
    }
}

#[test]
fn events_are_paged_by_number_and_job_beside_the_writer() {
    for kept in Kept::all() {
        let mut opened = kept.open();
        let mut reader = opened.ledger.reader().unwrap();
        assert_eq!(reader.events(None, 0, 10).unwrap(), []);
        let events = (1..=6).map(|seq| Change::Event(event(seq, Some(u128::from(seq % 2)))));
        opened.ledger.commit(&events.collect::<Vec<_>>()).unwrap();
        assert_eq!(seqs(&reader.events(None, 0, 4).unwrap()), [1, 2, 3, 4]);
        assert_eq!(seqs(&reader.events(None, 4, 4).unwrap()), [5, 6]);
        assert_eq!(seqs(&reader.events(Some(job_id(0)), 2, 9).unwrap()), [4, 6]);
        assert_eq!(seqs(&reader.events(Some(job_id(7)), 0, 9).unwrap()), [0; 0]);
        assert_eq!(seqs(&reader.events(None, u64::MAX, 9).unwrap()), [0; 0]);
        assert_eq!(reader.events(None, 0, 1).unwrap(), [event(1, Some(1))]);
        opened.close();
    }
}

#[test]
fn beginning_of_the_chain_goes_and_its_head_is_remembered() {
    for kept in Kept::all() {
        let mut opened = kept.open();
        let mut reader = opened.ledger.reader().unwrap();
        let events = (1..=6).map(|seq| Change::Event(event(seq, Some(u128::from(seq % 2)))));
        opened.ledger.commit(&events.collect::<Vec<_>>()).unwrap();
        let head = |seq| ChainHead { seq, hash: Digest([7; 32]) };
        opened.ledger.commit(&[Change::Trim(head(2))]).unwrap();
        let changes = [Change::Trim(head(4)), Change::Event(event(7, None))];
        opened.ledger.commit(&changes).unwrap();
        assert_eq!(seqs(&reader.events(None, 0, 9).unwrap()), [5, 6, 7]);
        assert_eq!(seqs(&reader.events(Some(job_id(1)), 0, 9).unwrap()), [5]);
        opened.close();
        let opened = kept.open();
        assert_eq!(opened.rows.trimmed, Some(head(4)));
        assert_eq!(opened.rows.last_event, Some(event(7, None)));
        opened.close();
    }
}

#[test]
fn jobs_that_are_not_long_over_are_found() {
    let mut runner = TestRunner::new(Config::with_cases(1));
    let job = any_job().new_tree(&mut runner).unwrap().current();
    for kept in Kept::all() {
        let mut opened = kept.open();
        let mut reader = opened.ledger.reader().unwrap();
        let ends = [(1, None), (2, Some(10)), (3, Some(20)), (4, Some(21))];
        let rows = ends.map(|(n, ended_at_ns)| {
            Change::Job(JobRow { id: job_id(n), ended_at_ns, ..job.clone() })
        });
        opened.ledger.commit(&rows).unwrap();
        let found: Vec<_> = reader.kept_jobs(20).unwrap().into_iter().collect();
        assert_eq!(found, [1, 3, 4].map(job_id));
        opened.close();
    }
}

#[test]
fn answers_are_kept_for_a_day() {
    for kept in Kept::all() {
        let mut opened = kept.open();
        let answer = |key: &str, hours: i64| {
            Change::Answer(AnswerRow {
                client: "a".to_owned(),
                idempotency_key: key.to_owned(),
                request: Digest([0; 32]),
                status: 201,
                body: String::new(),
                at_ns: hours * 3_600 * 1_000_000_000,
            })
        };
        opened.ledger.commit(&[answer("old", 0), answer("new", 2)]).unwrap();
        opened.ledger.commit(&[answer("newest", 25)]).unwrap();
        opened.close();
        let opened = kept.open();
        let answers = opened.rows.answers.iter();
        let keys: Vec<_> = answers.map(|answer| answer.idempotency_key.as_str()).collect();
        assert_eq!(keys, ["new", "newest"]);
        opened.close();
    }
}

#[test]
fn each_start_has_a_greater_epoch() {
    for kept in Kept::all() {
        let opened = kept.open();
        let first = opened.ledger.epoch();
        opened.close();
        let opened = kept.open();
        let second = opened.ledger.epoch();
        assert!(second > first && first.0 > 1_700_000_000, "{first:?} {second:?}");
        opened.close();
    }
}

#[test]
fn second_base_and_strange_files_are_refused() {
    let kept = Kept::File(tempfile::tempdir().unwrap());
    let opened = kept.open();
    assert!(matches!(kept.try_open(), Err(LedgerError::Held(_))));
    opened.close();
    kept.sql("PRAGMA user_version = 9");
    let error = kept.try_open().unwrap_err();
    assert!(matches!(error, LedgerError::Version { found: 9, .. }), "{error}");
    let text = kept.file().with_file_name("text.db");
    std::fs::write(
        &text,
        "no database at all, but long enough to have a header, is it not? ".repeat(9),
    )
    .unwrap();
    assert!(matches!(Ledger::open(&text), Err(LedgerError::Sqlite(_))));
    let other = kept.file().with_file_name("other.db");
    rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE x (y)").unwrap();
    assert!(matches!(Ledger::open(&other), Err(LedgerError::Version { found: 0, .. })));
}

/// What takes tables back to the second version.
const BACK_TO_2: &str = "
DROP TABLE webhook;
DROP TABLE wait;
DROP TABLE care;
DROP TABLE trimmed;
ALTER TABLE job DROP COLUMN late;
ALTER TABLE job DROP COLUMN first_ended_at_ns;
ALTER TABLE job DROP COLUMN per_node_rate;
ALTER TABLE job DROP COLUMN open_hours;
ALTER TABLE job DROP COLUMN is_paused;
";

#[test]
fn ledger_of_an_earlier_version_is_brought_up_to_date() {
    let older = |kept: &Kept| match kept {
        Kept::File(_) => vec![
            format!("{BACK_TO_2} DROP TABLE lease; PRAGMA user_version = 1"),
            format!("{BACK_TO_2} PRAGMA user_version = 2"),
        ],
        Kept::Database(_) => vec![format!("{BACK_TO_2} UPDATE lease SET version = 2")],
    };
    for kept in Kept::all() {
        let mut opened = kept.open();
        opened.ledger.commit(&[Change::Event(event(1, None))]).unwrap();
        opened.close();
        for (n, make_older) in (2..).zip(older(&kept)) {
            kept.sql(&make_older);
            let mut opened = kept.open();
            assert_eq!(opened.rows.last_event, Some(event(n - 1, None)));
            opened.ledger.commit(&[Change::Event(event(n, None))]).unwrap();
            opened.close();
        }
    }
}

#[test]
fn tables_of_the_second_version_get_wait_periods_and_the_first_end_of_jobs() {
    let mut runner = TestRunner::new(Config::with_cases(1));
    runner
        .run(&any_job(), |job| {
            for kept in Kept::all() {
                let mut opened = kept.open();
                opened.ledger.commit(&[Change::Job(job.clone())]).unwrap();
                opened.close();
                kept.sql(BACK_TO_2);
                kept.sql(match &kept {
                    Kept::File(_) => "PRAGMA user_version = 2",
                    Kept::Database(_) => "UPDATE lease SET version = 2",
                });
                let mut opened = kept.open();
                let mut expected = job.clone();
                let Policy { order, priority, max_rate, .. } = expected.policy;
                expected.policy = Policy { order, priority, max_rate, ..Policy::default() };
                expected.first_ended_at_ns = expected.ended_at_ns;
                prop_assert_eq!(&opened.rows.jobs, &vec![expected]);
                opened.ledger.commit(&[Change::Job(job.clone())]).unwrap();
                opened.close();
                let opened = kept.open();
                prop_assert_eq!(&opened.rows.jobs, &vec![job.clone()]);
                opened.close();
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn damaged_row_is_named_by_table_and_column() {
    for kept in Kept::all() {
        let mut opened = kept.open();
        let delivery = DeliveryRow::pending(job_id(1), CommandId(1), name("a"), 0);
        opened.ledger.commit(&[Change::Delivery(delivery)]).unwrap();
        opened.close();
        kept.sql("UPDATE delivery SET state = 'eaten'");
        let error = kept.try_open().unwrap_err();
        let LedgerError::Damaged { table: "delivery", column: 3, why } = error else {
            panic!("{error}");
        };
        assert!(why.contains("eaten"), "{why}");
    }
}

//! The lease and its fence: of bases that share a database one writes at a time.

use std::time::{Duration, Instant};

use crate::dist::ids::Digest;
use crate::dist::rows::Change;
use crate::dist::wire::job::EventView;
use crate::ledger::LedgerError;
use crate::ledger::kit::server::Server;
use crate::ledger::kit::{apart, held, lease, until};
use crate::ledger::lease::{Candidate, Lease, LeaseState, Tenure};

use super::{Database, Postgres};

fn event(seq: u64) -> Change {
    Change::Event(EventView {
        seq,
        at_ns: 1,
        job: None,
        command: None,
        node: None,
        kind: "test".to_owned(),
        detail: serde_json::Value::Null,
        hash: Digest([u8::try_from(seq).unwrap(); 32]),
    })
}

fn open(url: &str, tenure: &Tenure) -> Postgres {
    let database = Database::new(url, None).unwrap();
    apart(|| Postgres::open(&database, tenure)).unwrap().0
}

fn tenure_of(state: LeaseState) -> Tenure {
    match state {
        LeaseState::Held(tenure) => tenure,
        other => panic!("{other:?}"),
    }
}

fn is_held(state: &LeaseState) -> bool {
    matches!(state, LeaseState::Held(_))
}

fn events(server: &Server, url: &str) -> String {
    server.sql(url, "SELECT string_agg(seq::TEXT, ' ' ORDER BY seq) FROM event")
}

/// Has the lease run out, again and again, until the other base has it.
fn taken_by(other: &Lease, server: &Server, url: &str) -> Tenure {
    let begun = Instant::now();
    while !is_held(&other.state().borrow()) {
        assert!(begun.elapsed() < Duration::from_secs(60), "nobody takes the lease");
        server.sql(url, "UPDATE lease SET expires_at_ns = 0 WHERE addr = 'a:1'");
        std::thread::sleep(Duration::from_millis(20));
    }
    tenure_of(other.state().borrow().clone())
}

#[test]
fn second_base_stands_by_until_the_lease_is_given_back() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let (first, tenure) = held(&url, "a:1");
    let second = lease(&url, "b:1");
    let state = until(&second, |state| matches!(state, LeaseState::Standby { .. }));
    let LeaseState::Standby { active, epoch } = state else { panic!("{state:?}") };
    assert_eq!((active.as_str(), epoch), ("a:1", tenure.epoch()));
    assert!(tenure.is_held());
    first.end();
    assert!(tenure.is_over());
    let next = tenure_of(until(&second, is_held));
    assert!(next.epoch() > tenure.epoch());
    second.end();
}

#[test]
fn base_that_was_followed_commits_nothing_and_stands_by() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let (first, tenure) = held(&url, "a:1");
    let mut old = open(&url, &tenure);
    old.commit(&[event(1)]).unwrap();
    let second = lease(&url, "b:1");
    let next = taken_by(&second, server, &url);
    assert!(next.epoch() > tenure.epoch());
    // It may not know yet: the database refuses what it writes, and what it only reads is refused
    // with it.
    for changes in [vec![event(2)], vec![]] {
        let error = old.commit(&changes).unwrap_err();
        assert!(matches!(error, LedgerError::Lost(_)), "{error}");
    }
    assert!(tenure.is_over() && !old.is_held());
    let mut new = open(&url, &next);
    new.commit(&[event(2)]).unwrap();
    assert_eq!(events(server, &url), "1 2");
    first.wound_up(tenure.epoch());
    let state = until(&first, |state| matches!(state, LeaseState::Standby { .. }));
    assert!(matches!(&state, LeaseState::Standby { active, .. } if active == "b:1"), "{state:?}");
    second.end();
    let again = tenure_of(until(&first, is_held));
    assert!(again.epoch() > next.epoch());
    first.end();
}

#[test]
fn base_that_has_not_wound_up_takes_no_other_lease() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let (first, _tenure) = held(&url, "a:1");
    let second = lease(&url, "b:1");
    let _next = taken_by(&second, server, &url);
    until(&first, |state| matches!(state, LeaseState::Standby { .. }));
    second.end();
    let third = lease(&url, "c:1");
    until(&third, is_held);
    assert!(!is_held(&first.state().borrow()));
    third.end();
    first.end();
}

#[test]
fn transaction_of_a_base_that_was_stopped_within_it_does_not_hold_up_the_next() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let (first, tenure) = held(&url, "a:1");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let database = Database::new(&url, None).unwrap();
    let client = runtime.block_on(database.connect(&tenure.application())).unwrap();
    runtime.block_on(client.batch_execute("BEGIN")).unwrap();
    runtime.block_on(client.query_one(super::FENCE, &[])).unwrap();
    first.end();
    let begun = Instant::now();
    let second = lease(&url, "b:1");
    until(&second, is_held);
    // The server's own limit for a transaction that does nothing is longer.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(runtime.block_on(client.batch_execute("COMMIT")).is_err());
    second.end();
}

#[test]
fn commit_whose_answer_was_lost_is_there_once() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let (lease, tenure) = held(&url, "a:1");
    let mut ledger = open(&url, &tenure);
    ledger.commit(&[event(1), event(2)]).unwrap();
    assert!(!ledger.commit(&[event(1), event(2)]).unwrap_err().is_passing());
    ledger.is_doubtful = true;
    ledger.commit(&[event(1), event(2)]).unwrap();
    // One that did not arrive is written.
    ledger.is_doubtful = true;
    ledger.commit(&[event(3)]).unwrap();
    assert_eq!(events(server, &url), "1 2 3");
    lease.end();
}

#[test]
fn connection_that_is_lost_is_made_again() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let (lease, tenure) = held(&url, "a:1");
    let mut ledger = open(&url, &tenure);
    let mut reader = ledger.reader().unwrap();
    for seq in 1..=3 {
        let mut tries = 0;
        while let Err(error) = ledger.commit(&[event(seq)]) {
            tries += 1;
            assert!(error.is_passing() && tries < 3, "{error}");
        }
        let read = reader.events(None, 0, 9).or_else(|_| reader.events(None, 0, 9)).unwrap();
        assert_eq!(read.len() as u64, seq);
        let end = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE application_name = '{}'",
            tenure.application()
        );
        // The lease has a connection, too.
        assert_ne!(server.sql(&url, &end), "0");
    }
    assert!(tenure.is_held());
    lease.end();
}

#[test]
fn database_of_another_base_or_program_is_refused() {
    let Some(server) = Server::shared() else { return };
    let refusal = |url: &str, key: &str| {
        let candidate = Candidate { addr: "b:1".to_owned(), base_key: key.to_owned() };
        let lease = Lease::start(Database::new(url, None).unwrap(), candidate).unwrap();
        let state = until(&lease, |state| matches!(state, LeaseState::Refused(_)));
        let LeaseState::Refused(error) = state else { panic!("{state:?}") };
        lease.end();
        error.to_string()
    };
    let url = server.database();
    let (first, _tenure) = held(&url, "a:1");
    assert!(refusal(&url, "other").contains("another key"));
    first.end();
    server.sql(&url, "UPDATE lease SET version = 9");
    assert!(refusal(&url, "key").contains("this one has version 9"));
    let url = server.database();
    server.sql(&url, "CREATE TABLE job (id TEXT)");
    assert!(refusal(&url, "key").contains("another program"));
    let gone = url.replace("/t", "/gone");
    assert!(refusal(&gone, "key").contains("does not exist"));
}

#[test]
fn database_that_does_not_answer_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display().to_string().replace('/', "%2F");
    let lease = lease(&format!("postgres://headend@{place}/t"), "a:1");
    let state = until(
        &lease,
        |state| matches!(state, LeaseState::Unreachable(why) if why.contains("connecting")),
    );
    assert!(matches!(state, LeaseState::Unreachable(_)));
    lease.end();
}

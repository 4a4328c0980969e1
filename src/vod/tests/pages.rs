//! Lists of sessions, page by page.
//!
//! A list of 16,384 sessions was made in one turn, which held up the packets of all of them.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::base::ids::SessionId;
use crate::base::limits::SESSIONS_A_PAGE;
use crate::rtsp::request::Method;
use crate::vod::tests::{BASE, Bench, entry, session_id};

/// A session on a connection of its own.
fn open(bench: &mut Bench, connection: u32) -> SessionId {
    bench.sessions.cx.config.sessions_max = 20_000;
    let headers = [("Transport", "RTP/AVP/TCP;unicast")];
    let uri = format!("{BASE}/trackID=0");
    session_id(&bench.request(connection, Method::Setup, &uri, None, &headers).unwrap())
}

/// The ids of a page, and the start of the next one.
fn page(bench: &Bench, after: Option<SessionId>) -> (Vec<SessionId>, Option<SessionId>) {
    let page = bench.sessions.page(after);
    let ids = page.sessions.iter().map(|info| SessionId::parse(&info.id).unwrap());
    (ids.collect(), page.next)
}

#[test]
fn no_page_looks_at_more_than_its_bound_however_many_sessions_there_are() {
    let mut bench = Bench::new();
    let count = 16_384;
    let opened: BTreeSet<_> = (1..=count).map(|number| open(&mut bench, number)).collect();
    let (mut listed, mut after) = (Vec::new(), None);
    for _ in 0..count as usize / SESSIONS_A_PAGE {
        let (ids, next) = page(&bench, after);
        assert!(ids.len() <= SESSIONS_A_PAGE);
        listed.extend(ids);
        after = next;
    }
    assert_eq!(after, None);
    assert!(listed.iter().eq(&opened), "all, in order");
}

#[test]
fn session_is_shown_by_its_id_alone() {
    let mut bench = Bench::new();
    let id = open(&mut bench, 1);
    let shown = bench.sessions.session_info(id).unwrap();
    assert_eq!((shown.id, shown.transport), (id.to_string(), "tcp"));
    bench.sessions.handle_connection_closed(entry(1));
    assert!(bench.sessions.session_info(id).is_none());
    assert_eq!(page(&bench, None), (Vec::new(), None));
}

/// An event between two pages.
#[derive(Debug, Clone)]
enum Change {
    Open,
    /// One of the present sessions.
    Close(usize),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![Just(Change::Open), any::<usize>().prop_map(Change::Close)];
    prop::collection::vec(change, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn pages_list_each_lasting_session_exactly_once(
        count in 0..900_u32, rounds in prop::collection::vec(changes(), 8),
    ) {
        let mut bench = Bench::new();
        let mut there: Vec<(u32, SessionId)> =
            (1..=count).map(|number| (number, open(&mut bench, number))).collect();
        let mut stayed: BTreeSet<SessionId> = there.iter().map(|(_, id)| *id).collect();
        let (mut listed, mut after, mut newest) = (Vec::new(), None, count);
        for round in rounds.iter().chain(std::iter::repeat(&Vec::new())) {
            let (ids, next) = page(&bench, after);
            prop_assert!(ids.len() <= SESSIONS_A_PAGE);
            prop_assert!(ids.iter().all(|id| there.iter().any(|(_, known)| known == id)));
            listed.extend(ids);
            after = next;
            if after.is_none() {
                break;
            }
            for change in round {
                match change {
                    Change::Open => {
                        newest += 1;
                        there.push((newest, open(&mut bench, newest)));
                    }
                    Change::Close(which) if !there.is_empty() => {
                        let (connection, id) = there.swap_remove(which % there.len());
                        stayed.remove(&id);
                        bench.sessions.handle_connection_closed(entry(connection));
                    }
                    Change::Close(_) => {}
                }
            }
        }
        prop_assert!(listed.is_sorted_by(|a, b| a < b), "nobody twice");
        let listed: BTreeSet<SessionId> = listed.into_iter().collect();
        prop_assert!(stayed.is_subset(&listed), "nobody who stayed is missed");
    }
}

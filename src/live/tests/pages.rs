//! Lists of paths, page by page, and sums that follow the packets sent to readers.
//!
//! A scrape and a list of paths looked at all readers in one turn.

use super::*;
use crate::config::paths::PathTable;
use crate::live::core::info::{PathPart, PathsPlace};
use crate::live::front::Live;

/// Readers of the path, each on a connection of its own.
fn readers(bench: &mut Bench, numbers: std::ops::Range<u16>) {
    bench.sessions.cx.config.sessions_max = 20_000;
    for number in numbers {
        let [high, low] = number.to_be_bytes();
        let from = (reader_connection(number), SocketAddr::from(([127, 1, high, low], 40_001)));
        let transport = [("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1")];
        let uri = "rtsp://h/live/a/trackID=0";
        bench.request(from, Method::Setup, uri, None, (&transport, "")).unwrap();
    }
}

fn reader_connection(number: u16) -> u32 {
    READER + u32::from(number)
}

/// All pages; `between` runs after each page.
fn pages(bench: &mut Bench, mut between: impl FnMut(&mut Bench)) -> Vec<Vec<PathPart>> {
    let (mut pages, mut next) = (Vec::new(), Some(PathsPlace::default()));
    while let Some(from) = next {
        assert!(pages.len() < PAGES_MAX, "no end");
        let page = bench.sessions.live.paths_page(&bench.sessions.cx, None, from);
        pages.push(page.parts);
        next = page.next;
        between(bench);
    }
    pages
}

const PAGES_MAX: usize = 100;
/// Looks at readers in a page at most.
const ROOM: u64 = 1_024;

#[test]
fn readers_of_a_path_are_counted_over_pages_and_those_who_stay_are_counted_once() {
    let mut bench = Bench::new();
    bench.publish();
    readers(&mut bench, 0..3_000);
    let mut gone = 0..600;
    let mut come = 3_000..3_300;
    let pages = pages(&mut bench, |bench| {
        for number in gone.by_ref().take(150) {
            bench.sessions.handle_connection_closed(entry(reader_connection(number)));
        }
        for number in come.by_ref().take(50) {
            readers(bench, number..number + 1);
        }
        bench.settle();
    });
    let counts = pages.iter().map(|parts| parts.iter().map(|part| part.readers.tcp).sum::<u64>());
    assert!(counts.clone().all(|count| count <= ROOM), "of a page");
    let all: u64 = counts.sum();
    assert!(pages.len() > 2 && (2_400..=3_300).contains(&all), "{all} on {}", pages.len());
    let info = merge(pages.into_iter().flatten().collect()).pop().unwrap();
    assert_eq!((info.owner.state, info.source.is_some()), ("live", true));
}

#[test]
fn paths_that_are_configured_are_shown_once_over_pages() {
    let mut bench = Bench::new();
    let count = 3_000;
    let names = (0..count).map(|number| (format!("live/{number}"), Arc::default()));
    let configs = PathTable { named: names.collect(), ..PathTable::default() };
    bench.sessions.cx.configs = Arc::new(configs);
    let pages = pages(&mut bench, |_| {});
    assert!(pages.iter().all(|parts| parts.len() as u64 <= ROOM / 4), "of a page");
    let mut shown: Vec<_> = pages.iter().flatten().map(|part| &part.path).collect();
    assert_eq!(shown.len(), count);
    shown.sort_unstable();
    shown.dedup();
    assert_eq!(shown.len(), count);
    assert_eq!(
        bench.sessions.live.path_table(&bench.sessions.cx).owners,
        [0, 0, 0, 0, count as u64]
    );
}

#[test]
fn sessions_of_all_kinds_are_on_one_list() {
    let mut bench = Bench::new();
    let publisher = bench.publish();
    readers(&mut bench, 0..600);
    let infos = bench.sessions.infos();
    assert!(infos.is_sorted_by(|a, b| a.id < b.id));
    let publishers = infos.iter().filter(|info| info.role == "publisher");
    assert_eq!(publishers.map(|info| info.id.clone()).collect::<Vec<_>>(), [publisher.to_string()]);
    assert_eq!(infos.len(), 601);
    assert_eq!(bench.sessions.session_info(publisher).unwrap().role, "publisher");
}

#[test]
fn totals_of_a_reader_are_kept_when_one_of_its_streams_is_removed() {
    let mut bench = Bench::new();
    bench.publish();
    let setup = bench.reader(Method::Setup, "rtsp://h/live/a/trackID=0", None).unwrap();
    bench.packet(host(1, 5_000), 1);
    bench.reader(Method::Play, URL, Some(session_id(&setup))).unwrap();
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.pump(0).len(), 1);
    let Live { hub, readers, .. } = &mut bench.sessions.live;
    let (paths, readers) = (&mut hub.paths, &mut readers.table);
    let key = readers.iter().next().unwrap().1.key;
    let path = paths.path_mut("live/a").unwrap();
    assert_eq!(path.totals().packets_sent, [1, 0, 0]);
    path.remove_stream(key, 0);
    assert_eq!(path.totals(), &reader_totals(path.reader(key).unwrap()));
    let before = bench.sessions.live.path_table(&bench.sessions.cx);
    assert_eq!(before.numbers("live/a").unwrap().totals.packets_sent, [1, 0, 0]);
    bench.sessions.handle_connection_closed(entry(READER));
    bench.sessions.end_session(session_id(&setup), "test");
    let after = bench.sessions.live.path_table(&bench.sessions.cx);
    assert_eq!(after.numbers("live/a").unwrap().totals.packets_sent, [1, 0, 0]);
    assert_eq!(after.numbers("live/a").unwrap().readers, [0; 3]);
}

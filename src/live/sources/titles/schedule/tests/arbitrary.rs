//! Any list, any edits, any jumps of the clock: what always holds.

use proptest::prelude::*;

use super::super::edits::{InsertPlace, PlaylistEdit};
use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// Plays for so many seconds.
    Run(i64),
    /// The clock is set by so many seconds.
    Jump(i64),
    Insert(usize, usize, Option<i64>),
    Remove(usize),
    Skip,
    /// Whether a title can be played changes.
    Toggle(usize),
    /// The configuration's list becomes this one.
    Configure(Vec<(usize, Option<i64>)>),
}

const TITLES: [&str; 5] = ["a", "b", "c", "d", "e"];
const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"];

fn time() -> impl Strategy<Value = Option<i64>> {
    // Near midnight, near changes of the clock, and anywhere.
    prop_oneof![
        3 => Just(None),
        1 => prop::sample::select(vec![0, 60, 7_200, 9_000, 10_800, 86_399]).prop_map(Some),
        1 => (0_i64..86_400).prop_map(Some),
    ]
}

fn list() -> impl Strategy<Value = Vec<(usize, Option<i64>)>> {
    prop::collection::vec((0..TITLES.len(), time()), 1..7)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_i64..20_000).prop_map(Step::Run),
        2 => (-90_000_i64..90_000).prop_map(Step::Jump),
        1 => (-700_i64..700).prop_map(Step::Jump),
        2 => (0..TITLES.len(), 0_usize..9, time()).prop_map(|(title, at, time)| Step::Insert(title, at, time)),
        2 => (0_usize..9).prop_map(Step::Remove),
        2 => Just(Step::Skip),
        2 => (0..TITLES.len()).prop_map(Step::Toggle),
        1 => list().prop_map(Step::Configure),
    ]
}

fn clock_text(time_s: i64) -> String {
    format!("{:02}:{:02}:{:02}", time_s / 3_600, time_s / 60 % 60, time_s % 60)
}

/// A section with the first of the items that have the same time.
fn section(list: &[(usize, Option<i64>)], (loops, has_slate): (bool, bool)) -> String {
    let mut times = BTreeSet::new();
    let items = list.iter().filter(|(_, time)| time.is_none_or(|time| times.insert(time)));
    let items: Vec<String> = items
        .map(|(title, time)| match time {
            None => format!("\"{}\"", TITLES[*title]),
            Some(time) => {
                format!("{{ title = \"{}\", at = \"{}\" }}", TITLES[*title], clock_text(*time))
            }
        })
        .collect();
    let slate = if has_slate { "slate = \"s\"\n" } else { "" };
    format!("playlist = [{}]\nplaylist_loop = {loops}\n{slate}", items.join(", "))
}

fn local(section: &str, zone: &str) -> PathTable {
    let text = format!("[path.p]\n{section}\n");
    let loaded = config::load(Some(("f", &text)), [], &[]).unwrap();
    let mut table = (*loaded.config.paths).clone();
    table.zone.0 = TimeZone::get(zone).unwrap();
    table
}

fn apply(world: &mut World, step: &Step, (zone, form): (&str, (bool, bool))) {
    let numbers: Vec<u64> = world.schedule.entries.iter().map(|entry| entry.number).collect();
    match step {
        Step::Run(seconds) => {
            world.run_until(world.now_ns + seconds * NS_PER_S);
        }
        Step::Jump(seconds) => {
            world.now_ns += seconds * NS_PER_S;
            // A feed plays by a clock that does not jump.
            if let Some((_, end_ns)) = &mut world.playing {
                *end_ns += seconds * NS_PER_S;
            }
        }
        Step::Insert(title, at, time) => {
            let at_time = time.map(|time| DailyTime::parse(&clock_text(time)).unwrap());
            let item = PlaylistItem { title: TITLES[*title].into(), at: at_time };
            let place = InsertPlace::At(*at);
            let refused = world.schedule.edit(&PlaylistEdit::Insert { item, place }, world.now_ns);
            assert!(refused.is_ok() || *at > numbers.len() || time.is_some());
        }
        Step::Remove(at) => {
            let number = numbers.get(*at).copied().unwrap_or(0);
            let removed = world.schedule.edit(&PlaylistEdit::Remove { number }, world.now_ns);
            assert_eq!(removed.is_ok(), *at < numbers.len());
        }
        Step::Skip => {
            let _nothing_plays = world.schedule.edit(&PlaylistEdit::Skip, world.now_ns);
        }
        Step::Toggle(title) => {
            let title = TITLES[*title].to_owned();
            if !world.broken.remove(&title) {
                world.broken.insert(title);
            }
        }
        Step::Configure(list) => {
            let new = local(&section(list, form), zone);
            let pair = (&**world.table.find("p"), &**new.find("p"));
            world.schedule.configure(&new, pair, world.now_ns);
            world.table = Arc::new(new);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn schedule_holds_what_it_promises(
        first in list(),
        steps in prop::collection::vec(step(), 1..25),
        (zone, start_s) in (prop::sample::select(ZONES.to_vec()), 1_774_700_000_i64..1_774_900_000),
        form in (any::<bool>(), any::<bool>()),
        tells_lengths in any::<bool>(),
    ) {
        let table = local(&section(&first, form), zone);
        let mut world = World::new("playlist = [\"a\"]", "10:00:00");
        world.schedule = Schedule::of_path(&table, "p");
        (world.table, world.now_ns) = (Arc::new(table), start_s * NS_PER_S);
        world.tells_lengths = tells_lengths;
        world.lengths_s =
            [("a", 1_800), ("b", 600), ("c", 5), ("d", 7_200)].map(|(t, s)| (t.to_owned(), s)).into();
        for step in &steps {
            apply(&mut world, step, (zone, form));
            let schedule = &world.schedule;
            prop_assert!(schedule.place <= schedule.entries.len());
            prop_assert!(schedule.offered.len() <= OFFERED_MAX);
            let numbers: BTreeSet<u64> =
                schedule.entries.iter().map(|entry| entry.number).collect();
            prop_assert_eq!(numbers.len(), schedule.entries.len(), "numbers are used once");
            let times: Vec<_> = schedule.entries.iter().filter_map(|entry| entry.timed).collect();
            let moments: BTreeSet<_> = times.iter().map(|timed| timed.time).collect();
            prop_assert_eq!(moments.len(), times.len(), "no time twice");
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, ..ProptestConfig::default() })]

    #[test]
    fn without_edits_each_time_is_kept_and_no_title_is_tried_too_soon(
        list in list(),
        broken in prop::collection::btree_set(0..TITLES.len(), 0..3),
        (zone, start_s) in (prop::sample::select(ZONES.to_vec()), 1_774_700_000_i64..1_774_900_000),
        has_slate in any::<bool>(),
        tells_lengths in any::<bool>(),
    ) {
        let table = local(&section(&list, (true, has_slate)), zone);
        let zone = &table.zone.0;
        let start_ns = start_s * NS_PER_S;
        let end_ns = start_ns + 2 * 86_400 * NS_PER_S;
        let mut world = World::new("playlist = [\"a\"]", "10:00:00");
        world.schedule = Schedule::of_path(&table, "p");
        world.now_ns = start_ns;
        world.tells_lengths = tells_lengths;
        world.lengths_s =
            [("a", 1_800), ("b", 600), ("d", 7_200)].map(|(t, s)| (t.to_owned(), s)).into();
        world.broken = broken.iter().map(|title| TITLES[*title].to_owned()).collect();
        world.run_until(end_ns);
        let mut expected = Vec::new();
        for item in table.find("p").playlist.iter() {
            let Some(at) = item.at.filter(|_| !world.broken.contains(&*item.title)) else { continue };
            let mut moment = at.next_after(zone, start_ns - LATE_MAX_NS - 1);
            while let Some(time_ns) = moment.filter(|time_ns| *time_ns <= end_ns) {
                expected.push((time_ns, item.title.to_string()));
                moment = at.next_after(zone, time_ns);
            }
        }
        expected.sort();
        for (time_ns, title) in &expected {
            // Two times may fall on one moment where the clock is moved.
            let same = expected.iter().filter(|(other, _)| other == time_ns).count();
            let begun = world.log.iter().any(|(begun_ns, begun)| {
                let late_ns = begun_ns - (*time_ns).max(start_ns);
                begun == title && (-GAP_MIN_NS..=0).contains(&late_ns)
            });
            prop_assert!(begun || same > 1, "{} {title}: {:?}", shown(*time_ns), world.log);
        }
        for (index, (time_ns, title)) in world.failures.iter().enumerate() {
            let mut before = world.failures[..index].iter().rev();
            let last = before.find(|(_, other)| other == title);
            let entries = table.find("p").playlist.iter().filter(|item| *item.title == **title);
            let is_alone = entries.count() == 1;
            prop_assert!(!is_alone || last.is_none_or(|(at, _)| time_ns - at >= RETRY_AFTER_NS));
        }
    }
}

//! Lists, times and clocks, case by case.

use super::*;

/// A section of a path, when it begins, until when it plays, what begins.
type Case = (&'static str, &'static str, &'static str, &'static [&'static str]);

const DAY: &str = r#"playlist = ["a", "b", { title = "news", at = "20:15:00" }, "c",
    { title = "film", at = "20:30" }, "d"]"#;

const CASES: &[Case] = &[
    (r#"playlist = ["a"]"#, "10:00:00", "10:02:30", &["10:00:00 a", "10:01:00 a", "10:02:00 a"]),
    (
        r#"playlist = ["a", "b"]"#,
        "10:00:00",
        "10:03:00",
        &["10:00:00 a", "10:01:00 b", "10:02:00 a", "10:03:00 b"],
    ),
    // Behind the last timed title the list goes on at its beginning, until the next time.
    (
        DAY,
        "20:12:30",
        "20:17:30",
        &["20:12:30 d", "20:13:30 a", "20:14:30 b", "20:15:00 news", "20:16:00 c", "20:17:00 c"],
    ),
    // A block repeats until the next time.
    (
        DAY,
        "20:28:00",
        "20:33:30",
        &["20:28:00 c", "20:29:00 c", "20:30:00 film", "20:31:00 d", "20:32:00 a", "20:33:00 b"],
    ),
    // A timed title that should have begun just now does.
    (DAY, "20:15:20", "20:16:30", &["20:15:20 news", "20:16:20 c"]),
    // Midnight is no border.
    (
        r#"playlist = ["a", { title = "b", at = "00:00:00" }]"#,
        "23:58:30",
        "2026-11-30T00:02:00Z",
        &["23:58:30 a", "23:59:30 a", "00:00:00 b", "00:01:00 a", "00:02:00 a"],
    ),
    // Nothing is begun for less than a second.
    (
        r#"playlist = ["a", { title = "b", at = "10:01:00" }]"#,
        "2026-11-29T09:59:00.500Z",
        "10:01:10",
        &["09:59:00.5 a", "10:00:00.5 a", "10:01:00 b"],
    ),
    (
        r#"playlist = ["a", { title = "b", at = "10:01:00" }]"#,
        "2026-11-29T09:58:59.500Z",
        "10:01:10",
        &["09:58:59.5 a", "09:59:59.5 a", "10:00:59.5 b"],
    ),
    // Times alone: the slate between them, or the title again.
    (
        r#"playlist = [{ title = "a", at = "10:00" }, { title = "b", at = "10:02" }]
               slate = "s""#,
        "09:59:30",
        "10:04:10",
        &["09:59:30 s", "10:00:00 a", "10:01:00 s", "10:02:00 b", "10:03:00 s", "10:04:00 s"],
    ),
    (
        r#"playlist = [{ title = "a", at = "10:00" }, { title = "b", at = "10:02" }]"#,
        "09:59:30",
        "10:03:10",
        &["09:59:30 b", "10:00:00 a", "10:01:00 a", "10:02:00 b", "10:03:00 b"],
    ),
    // Once.
    (
        "playlist = [\"a\", \"b\"]\nplaylist_loop = false\nslate = \"s\"",
        "10:00:00",
        "10:03:10",
        &["10:00:00 a", "10:01:00 b", "10:02:00 s", "10:03:00 s"],
    ),
    (
        "playlist = [\"a\", { title = \"b\", at = \"10:03\" }, \"c\"]\nplaylist_loop = false",
        "10:00:00",
        "10:06:00",
        &["10:00:00 a", "10:03:00 b", "10:04:00 c"],
    ),
];

#[test]
fn titles_play_in_order_and_timed_ones_at_their_time() {
    for (section, from, until, expected) in CASES {
        for tells_lengths in [true, false] {
            let mut world = World::new(section, from);
            world.tells_lengths = tells_lengths;
            world.run(until);
            assert_eq!(world.begun(), *expected, "{section}\n{from} lengths: {tells_lengths}");
        }
    }
}

#[test]
fn list_that_has_ended_or_waits_says_so() {
    let ended = Idle::Nothing("the playlist has ended".to_owned());
    let mut world = World::new("playlist = [\"a\"]\nplaylist_loop = false", "10:00:00");
    assert_eq!((world.run("10:00:30"), world.run("10:02:00")), (None, Some(ended)));
    let section = "playlist = [{ title = \"a\", at = \"10:10\" }]\nplaylist_loop = false";
    let mut world = World::new(section, "10:00:00");
    assert_eq!(world.run("10:05:00"), Some(Idle::Until(utc_ns("10:09:30"))));
    assert_eq!(world.run("10:10:30"), None);
    assert_eq!(world.begun(), ["10:10:00 a"]);
}

#[test]
fn title_that_fails_is_passed_over_and_tried_again_later() {
    let mut world = World::new("playlist = [\"a\", \"x\", \"b\"]", "10:00:00")
        .with_lengths([("a", 3), ("b", 3)]);
    world.broken = ["x".to_owned()].into();
    world.run("10:00:20");
    let begun = ["00 a", "03 b", "06 a", "09 b", "12 a", "15 b", "18 a"];
    assert_eq!(world.begun(), begun.map(|text| format!("10:00:{text}")));
    let times: Vec<String> = world.failures.iter().map(|(at, _)| time_of(*at)).collect();
    assert_eq!(times, ["10:00:00", "10:00:12"], "not before ten seconds have passed");
    assert_eq!(world.states(), ["1 a Playing", "2 x Skipped", "3 b Next"]);
    world.broken.clear();
    world.run("10:00:31");
    assert_eq!(world.begun(), ["10:00:21 b", "10:00:24 a", "10:00:27 x"]);
}

#[test]
fn same_failure_is_news_once() {
    let table = table("playlist = [\"a\", \"b\"]");
    let mut schedule = Schedule::of_path(&table, "p");
    let mut fail = |now_ns: i64, reason: &str| {
        let Next::Play(upcoming) = schedule.next(now_ns) else { panic!("it waits") };
        schedule.handle_failed(upcoming.item, reason, now_ns)
    };
    let later = 20 * NS_PER_S;
    let news = [fail(0, "x"), fail(1, "y"), fail(later, "x"), fail(later + 1, "x")];
    assert_eq!(news, [true, true, false, true]);
    assert!(!schedule.handle_failed(ItemId(99), "x", later), "no such item");
}

#[test]
fn all_broken_list_shows_the_slate_and_ends_without_one() {
    let broken: BTreeSet<String> = ["a", "b"].map(str::to_owned).into();
    let mut world = World::new("playlist = [\"a\", \"b\"]\nslate = \"s\"", "10:00:00");
    world.broken.clone_from(&broken);
    world.run("10:01:30");
    assert_eq!(world.begun(), ["10:00:00 s", "10:01:00 s"]);
    world.broken.clear();
    world.run("10:02:30");
    assert_eq!(world.begun()[0], "10:01:40 a", "tried again, the slate makes way");
    let mut world = World::new("playlist = [\"a\", \"b\"]", "10:00:00");
    world.broken = broken;
    let reason = "no title can be played: a: no such title".to_owned();
    assert_eq!(world.run("10:00:05"), Some(Idle::Nothing(reason)));
    world.broken.clear();
    world.run("10:00:20");
    assert_eq!(world.begun(), ["10:00:10 a"]);
}

#[test]
fn slate_repeats_and_its_failure_is_told() {
    let mut schedule = Schedule::repeat("s");
    for now_ns in 0..3 {
        let Next::Play(upcoming) = schedule.next(now_ns) else { panic!("it waits") };
        assert_eq!((&*upcoming.title, upcoming.begins_utc_ns), ("s", None));
        schedule.handle_begun(upcoming.item, now_ns);
        assert_eq!((schedule.cut_at(), schedule.take_skip()), (None, false));
    }
    let Next::Play(upcoming) = schedule.next(3) else { panic!("it waits") };
    assert!(schedule.handle_failed(ItemId(3), "cut short", 3), "what plays; it is opened again");
    assert_eq!(schedule.next(3), Next::Play(upcoming.clone()));
    schedule.handle_failed(upcoming.item, "no such title", 3);
    assert_eq!(schedule.next(4), Next::Nothing("no such title".to_owned()));
}

#[test]
fn timed_title_that_is_missing_leaves_the_others_alone_and_comes_late_when_it_appears() {
    let section = "playlist = [\"a\", { title = \"x\", at = \"10:05\" }, \"b\"]";
    let mut world = World::new(section, "10:03:30");
    world.broken = ["x".to_owned()].into();
    world.run("10:05:04");
    world.broken.clear();
    world.run("10:06:20");
    assert_eq!(
        world.begun(),
        ["10:03:30 b", "10:04:30 a", "10:05:10 x", "10:06:10 b"],
        "and cuts what plays"
    );
    let mut world = World::new(section, "10:03:30");
    world.broken = ["x".to_owned()].into();
    world.run("10:08:00");
    assert!(world.begun().iter().all(|begun| !begun.contains('x')));
    assert_eq!(world.states(), ["1 a Next", "2 x Skipped", "3 b Playing"]);
    world.broken.clear();
    world.run("2026-11-30T10:05:30Z");
    assert_eq!(world.begun().last().unwrap(), "10:05:00 x", "the next day");
}

#[test]
fn clock_that_jumps_neither_repeats_times_nor_plays_those_that_have_passed() {
    let begin = || {
        let mut world = World::new(DAY, "20:14:00");
        world.run("20:15:30");
        assert_eq!(world.begun(), ["20:14:00 d", "20:15:00 news"]);
        world
    };
    // Back by a minute: the news have begun.
    let mut world = begin();
    world.now_ns = utc_ns("20:14:30");
    world.run("20:17:00");
    assert!(world.begun().iter().all(|begun| !begun.contains("news")));
    // Back by an hour: they come again.
    let mut world = begin();
    world.now_ns = utc_ns("19:15:00");
    world.run("20:15:30");
    assert_eq!(world.begun().last().unwrap(), "20:15:00 news");
    // Ahead, behind the film: what follows it.
    let mut world = begin();
    world.now_ns = utc_ns("21:00:00");
    world.run("21:02:30");
    assert_eq!(world.begun(), ["21:00:00 d", "21:01:00 a", "21:02:00 b"]);
    assert_eq!(world.states()[4], "5 film Skipped");
    // Ahead by a week.
    let mut world = begin();
    world.now_ns = utc_ns("2026-12-06T20:29:30Z");
    world.run("2026-12-06T20:31:30Z");
    assert_eq!(world.begun(), ["20:29:30 c", "20:30:00 film", "20:31:00 d"]);
}

#[test]
fn local_times_follow_the_clock_of_the_zone() {
    let text = "[path.p]\nplaylist = [\"a\", { title = \"x\", at = \"02:30\" }]\n";
    let mut table = (*config::load(Some(("f", text)), [], &[]).unwrap().config.paths).clone();
    table.zone.0 = TimeZone::get("Europe/Berlin").unwrap();
    for (from, until, expected) in [
        ("2026-03-28T00:00:00Z", "2026-03-30T12:00:00Z", ["01:30:00", "01:30:00", "00:30:00"]),
        ("2026-10-24T00:00:00Z", "2026-10-26T12:00:00Z", ["00:30:00", "00:30:00", "01:30:00"]),
    ] {
        let mut world = World::new("playlist = [\"a\"]", from).with_lengths([("a", 3_600)]);
        world.schedule = Schedule::of_path(&table, "p");
        world.run(until);
        let times: Vec<String> = world.begun();
        let times: Vec<&str> = times.iter().filter_map(|begun| begun.strip_suffix(" x")).collect();
        assert_eq!(times, expected);
    }
}

#[test]
fn title_that_ends_before_its_length_is_followed_at_once() {
    let mut world = World::new(DAY, "20:00:00").with_lengths([("d", 3_600)]);
    world.run("20:14:50");
    let (item, _) = world.playing.take().unwrap();
    world.schedule.handle_failed(item, "damaged", world.now_ns);
    world.run("20:15:10");
    assert_eq!(world.begun(), ["20:00:00 d", "20:14:50 a", "20:15:00 news"]);
}

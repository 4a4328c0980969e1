//! Edits while the list plays.

use super::super::edits::{EditError, InsertPlace, PlaylistEdit};
use super::*;

impl World {
    fn edit(&mut self, edit: PlaylistEdit) -> Result<u64, EditError> {
        self.schedule.edit(&edit, self.now_ns)
    }

    fn insert(&mut self, title: &str, place: InsertPlace) -> Result<u64, EditError> {
        self.edit(PlaylistEdit::Insert { item: item(title, None), place })
    }

    fn configure(&mut self, section: &str) {
        let new = table(section);
        let pair = (&**self.table.find("p"), &**new.find("p"));
        self.schedule.configure(&new, pair, self.now_ns);
        self.table = new;
    }
}

fn item(title: &str, at: Option<&str>) -> PlaylistItem {
    PlaylistItem { title: title.into(), at: at.map(|at| DailyTime::parse(at).unwrap()) }
}

fn begin(section: &str, until: &str) -> World {
    let mut world = World::new(section, "10:00:00");
    world.run(until);
    world.begun();
    world
}

#[test]
fn inserted_item_plays_where_it_was_put() {
    for (place, expected) in [
        (InsertPlace::Last, ["b", "c", "x", "a"]),
        (InsertPlace::After(1), ["x", "b", "c", "a"]),
        (InsertPlace::Before(2), ["x", "b", "c", "a"]),
        (InsertPlace::Before(1), ["b", "c", "x", "a"]),
        (InsertPlace::At(0), ["b", "c", "x", "a"]),
        (InsertPlace::At(2), ["b", "x", "c", "a"]),
        (InsertPlace::At(3), ["b", "c", "x", "a"]),
    ] {
        let mut world = begin("playlist = [\"a\", \"b\", \"c\"]", "10:00:30");
        assert_eq!(world.insert("x", place), Ok(4));
        world.run("10:04:30");
        let begun: Vec<String> = world.begun().iter().map(|begun| begun[9..].to_owned()).collect();
        assert_eq!(begun, expected, "{place:?}");
    }
}

#[test]
fn edit_that_cannot_be_is_refused_and_changes_nothing() {
    let mut world = begin("playlist = [\"a\", { title = \"b\", at = \"11:00\" }]", "10:00:30");
    let before = world.schedule.info(world.table.find("p"));
    let place = InsertPlace::Last;
    let twice = PlaylistEdit::Insert { item: item("x", Some("11:00:00")), place };
    let errors = [
        world.insert("x", InsertPlace::Before(9)),
        world.insert("x", InsertPlace::At(3)),
        world.edit(twice),
        world.edit(PlaylistEdit::Remove { number: 3 }),
    ];
    let errors = errors.map(|refused| refused.unwrap_err().to_string());
    assert_eq!(
        errors,
        [
            "the playlist has no item 9",
            "place 3 is behind the end of the playlist, which has 2 items",
            "item 2, b, begins at 11:00:00 already",
            "the playlist has no item 3",
        ]
    );
    assert_eq!(world.schedule.info(world.table.find("p")), before);
    for _ in 2..1_000 {
        world.insert("x", InsertPlace::Last).unwrap();
    }
    assert_eq!(world.insert("x", InsertPlace::Last), Err(EditError::Full { max: 1_000 }));
    let mut idle = World::new("playlist = [\"a\"]", "10:00:00");
    assert_eq!(idle.edit(PlaylistEdit::Skip), Err(EditError::NothingPlays));
}

#[test]
fn skip_and_removal_of_what_plays_have_the_next_one_begin_at_once() {
    for edit in [PlaylistEdit::Skip, PlaylistEdit::Remove { number: 1 }] {
        let mut world = begin("playlist = [\"a\", \"b\"]", "10:00:30");
        assert_eq!(world.edit(edit.clone()), Ok(1));
        world.run("10:02:00");
        let after = if edit == PlaylistEdit::Skip { "10:01:30 a" } else { "10:01:30 b" };
        assert_eq!(world.begun(), ["10:00:30 b", after], "{edit:?}");
    }
    let mut world = begin("playlist = [\"a\"]", "10:00:30");
    world.edit(PlaylistEdit::Skip).unwrap();
    world.run("10:00:40");
    assert_eq!(world.begun(), ["10:00:30 a"], "from its start");
    let mut world = begin("playlist = [\"a\", \"b\"]", "10:00:30");
    assert_eq!(world.edit(PlaylistEdit::Remove { number: 2 }), Ok(2));
    world.run("10:01:10");
    assert_eq!(world.begun(), ["10:01:00 a"]);
}

#[test]
fn empty_list_shows_the_slate_until_a_title_is_put_in() {
    let mut world = begin("playlist = [\"a\"]\nslate = \"s\"", "10:00:30");
    world.edit(PlaylistEdit::Remove { number: 1 }).unwrap();
    world.run("10:00:50");
    assert_eq!(world.begun(), ["10:00:30 s"]);
    assert_eq!(world.edit(PlaylistEdit::Skip), Err(EditError::NothingPlays));
    assert_eq!(world.insert("b", InsertPlace::Last), Ok(2));
    world.run("10:01:00");
    assert_eq!(world.begun(), ["10:00:50 b"]);
    let mut world = begin("playlist = [\"a\"]", "10:00:30");
    world.edit(PlaylistEdit::Remove { number: 1 }).unwrap();
    world.playing = None;
    assert_eq!(world.schedule.next(world.now_ns), Next::Nothing("the playlist is empty".into()));
}

#[test]
fn timed_item_that_is_put_in_comes_at_its_time() {
    let mut world = begin("playlist = [\"a\"]", "10:00:30");
    let place = InsertPlace::Last;
    let edit = PlaylistEdit::Insert { item: item("x", Some("10:01:20")), place };
    assert_eq!(world.edit(edit), Ok(2));
    world.run("10:03:00");
    assert_eq!(world.begun(), ["10:01:00 a", "10:01:20 x", "10:02:20 a"]);
}

#[test]
fn other_list_of_the_configuration_lets_what_plays_go_on_where_it_has_it() {
    let section = "playlist = [\"a\", \"b\", \"c\"]\nslate = \"s\"";
    let mut world = begin(section, "10:01:30");
    world.insert("x", InsertPlace::Last).unwrap();
    world.configure("playlist = [\"c\", \"b\", \"d\"]\nslate = \"s\"");
    assert!(!world.schedule.info(world.table.find("p")).edited, "edits are gone");
    assert_eq!(world.states(), ["3 c Waiting", "2 b Playing", "5 d Next"]);
    world.run("10:03:30");
    assert_eq!(world.begun(), ["10:02:00 d", "10:03:00 c"]);
    // It has another time now.
    world.configure("playlist = [\"d\", { title = \"c\", at = \"12:00\" }]\nslate = \"s\"");
    world.run("10:04:30");
    assert_eq!(world.begun(), ["10:04:00 d"]);
    // It is not in the list any more.
    world.configure("playlist = [\"e\", \"f\"]\nslate = \"s\"");
    world.run("10:05:00");
    assert_eq!(world.begun(), ["10:04:30 e"]);
    // The same list, other words: edits stay.
    world.insert("x", InsertPlace::At(1)).unwrap();
    world.configure("playlist = [\"e\", \"f\"]\nslate = \"t\"\nplaylist_loop = false");
    world.run("10:08:30");
    assert_eq!(world.begun(), ["10:05:30 x", "10:06:30 f", "10:07:30 t", "10:08:30 t"]);
}

#[test]
fn list_that_was_edited_before_the_last_start_is_taken_up() {
    let mut table = (*table("playlist = [\"a\"]")).clone();
    let items = vec![(7, item("x", None)), (3, item("a", Some("20:15")))];
    let edited = config::playlist::EditedPlaylist { items, last_number: 9 };
    table.edited_playlists.insert("p".to_owned(), edited);
    let mut schedule = Schedule::of_path(&table, "p");
    let info = schedule.info(table.find("p"));
    assert!(info.edited);
    let shown: Vec<_> = info.items.iter().map(|item| (item.item, &*item.title)).collect();
    assert_eq!((shown, info.last_number), (vec![(7, "x"), (3, "a")], 9));
    let place = InsertPlace::Last;
    let edit = PlaylistEdit::Insert { item: item("y", None), place };
    assert_eq!(schedule.edit(&edit, 0), Ok(10), "numbers are not used twice");
}

#[test]
fn info_is_shown_in_words_of_the_api() {
    let section = "playlist = [\"a\", { title = \"x\", at = \"20:15\" }, \"b\"]\nslate = \"s\"";
    let mut world = World::new(section, "10:00:00");
    world.broken = ["a".to_owned()].into();
    world.run("10:00:05");
    let info = world.schedule.info(world.table.find("p"));
    insta::assert_snapshot!(serde_json::to_string_pretty(&info).unwrap(), @r#"
    {
      "loop": true,
      "clock": "utc",
      "slate": "s",
      "edited": false,
      "revision": 0,
      "playing": {
        "item": 3,
        "title": "b",
        "since": "2026-11-29T10:00:00Z",
        "until": "2026-11-29T10:01:00Z"
      },
      "items": [
        {
          "item": 1,
          "title": "a",
          "at": null,
          "state": "skipped",
          "reason": "no such title",
          "begins": null
        },
        {
          "item": 2,
          "title": "x",
          "at": "20:15:00",
          "state": "waiting",
          "reason": null,
          "begins": "2026-11-29T20:15:00Z"
        },
        {
          "item": 3,
          "title": "b",
          "at": null,
          "state": "playing",
          "reason": null,
          "begins": null
        }
      ]
    }
    "#);
}

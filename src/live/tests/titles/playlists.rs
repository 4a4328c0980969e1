//! Paths that play a list of titles: order, edits, what happens with nothing to play.

use super::*;
use crate::config::playlist::PlaylistItem;
use crate::live::sources::titles::playlists::{PlaylistAnswer, PlaylistRefusal, PlaylistRequest};
use crate::live::sources::titles::schedule::edits::{EditError, InsertPlace, PlaylistEdit};

const LIST: &str = "[path.\"live/a\"]\nplaylist = [\"a.mp4\", \"x.mp4\", \"b.mp4\"]\n";

fn scene(text: &str) -> Scene {
    let titles = ["a.mp4", "b.mp4", "c.mp4"].map(|name| (name, testing::title(3)));
    Scene::new(text, &titles)
}

impl Scene {
    fn ask(&mut self, request: &PlaylistRequest) -> Result<PlaylistAnswer, PlaylistRefusal> {
        self.ask_of("live/a", request)
    }

    fn ask_of(
        &mut self,
        path: &str,
        request: &PlaylistRequest,
    ) -> Result<PlaylistAnswer, PlaylistRefusal> {
        let (live, cx) = (&mut self.bench.sessions.live, &mut self.bench.sessions.cx);
        let answer = live.ask_playlist(cx, path, request);
        self.work();
        answer
    }

    fn edit(&mut self, edit: PlaylistEdit) -> Result<Option<u64>, PlaylistRefusal> {
        self.ask(&PlaylistRequest::Edit(edit)).map(|answer| answer.item)
    }

    fn insert(&mut self, title: &str) -> Result<Option<u64>, PlaylistRefusal> {
        let item = PlaylistItem { title: title.into(), at: None };
        self.edit(PlaylistEdit::Insert { item, place: InsertPlace::Last })
    }

    /// The title that plays.
    fn plays(&self) -> Option<String> {
        let source = shown(&self.bench).0?.source?;
        source.title
    }
}

#[test]
fn titles_of_a_list_play_in_order_and_one_that_is_missing_is_passed_over() {
    let mut scene = scene(LIST);
    scene.read();
    let mut played = Vec::new();
    for _ in 0..130 {
        scene.run(SECOND / 10);
        played.extend(scene.plays().filter(|title| played.last() != Some(title)));
    }
    assert_eq!(played, ["vod/a.mp4", "vod/b.mp4"].repeat(3)[..played.len()]);
    assert!(played.len() >= 4, "{played:?}");
    assert!(scene.steps(1).iter().all(|step| *step == 960), "no seam in the sound");
    let list = scene.ask(&PlaylistRequest::Show).unwrap().info;
    assert_eq!(list.items[1].reason.as_deref(), Some("no such title"));
}

#[test]
fn edits_act_at_once_also_with_nothing_to_play() {
    let mut scene = scene("[path.\"live/a\"]\nplaylist = [\"a.mp4\", \"b.mp4\"]\n");
    scene.read();
    scene.run(SECOND);
    assert_eq!(scene.edit(PlaylistEdit::Skip), Ok(Some(1)));
    scene.run(SECOND / 2);
    assert_eq!(scene.plays().as_deref(), Some("vod/b.mp4"));
    assert_eq!(scene.edit(PlaylistEdit::Remove { number: 1 }), Ok(Some(1)));
    assert_eq!(scene.edit(PlaylistEdit::Remove { number: 2 }), Ok(Some(2)));
    scene.run(SECOND / 2);
    let empty = ("held".to_owned(), Some("the playlist is empty".to_owned()));
    assert_eq!(scene.state(), empty, "it does not play to its end");
    assert_eq!(scene.edit(PlaylistEdit::Skip), Err(EditError::NothingPlays.into()));
    assert_eq!(scene.insert("c.mp4"), Ok(Some(3)));
    scene.run(SECOND / 5);
    assert_eq!(scene.plays().as_deref(), Some("vod/c.mp4"), "the next try is not waited for");
}

#[test]
fn slate_makes_way_for_an_inserted_title_and_edits_outlive_a_rest_of_the_path() {
    let text = "[path.\"live/a\"]\nplaylist = [\"x.mp4\"]\nslate = \"b.mp4\"\non_demand = true\n\
                idle_close = \"1s\"\n";
    let mut scene = scene(text);
    assert!(scene.bench.reader(Method::Setup, "rtsp://h/live/a/trackID=0", None).is_none());
    scene.work();
    let id = session_id(&scene.bench.answer(READER).unwrap());
    scene.bench.reader(Method::Play, URL, Some(id));
    scene.run(SECOND);
    assert_eq!(scene.plays().as_deref(), Some("vod/b.mp4"));
    assert_eq!(scene.insert("a.mp4"), Ok(Some(2)));
    scene.run(SECOND / 2);
    assert_eq!(scene.plays().as_deref(), Some("vod/a.mp4"));
    assert!(scene.bench.sessions.end_session(id, "test"));
    scene.run(5 * SECOND);
    assert!(scene.is_idle());
    let list = scene.ask(&PlaylistRequest::Show).unwrap().info;
    assert_eq!((list.items.len(), list.playing, list.edited), (2, None, true));
    assert!(scene.is_idle(), "a question does not start it");
}

#[test]
fn what_has_no_playlist_is_told_from_what_is_not_there() {
    let mut scene = scene(&format!("{LIST}[path.\"live/b\"]\n"));
    let show = PlaylistRequest::Show;
    assert_eq!(scene.ask_of("live/b", &show), Err(PlaylistRefusal::NoPlaylist));
    assert_eq!(scene.ask_of("live/c", &show), Err(PlaylistRefusal::UnknownPath));
    assert_eq!(scene.ask_of("live/a", &show).unwrap().configured.len(), 3);
}

#[test]
fn reload_changes_the_list_of_a_path_that_plays_and_of_one_that_rests() {
    let mut scene = scene(LIST);
    scene.read();
    scene.run(SECOND);
    scene.insert("c.mp4").unwrap();
    scene.bench.configure("[path.\"live/a\"]\nplaylist = [\"c.mp4\", \"a.mp4\"]\n");
    scene.work();
    let list = scene.ask(&PlaylistRequest::Show).unwrap().info;
    let titles: Vec<&str> = list.items.iter().map(|item| &*item.title).collect();
    assert_eq!((titles, list.edited), (vec!["c.mp4", "a.mp4"], false));
    assert_eq!(scene.plays().as_deref(), Some("vod/a.mp4"), "it plays on");
    scene.run(3 * SECOND);
    assert_eq!(scene.plays().as_deref(), Some("vod/c.mp4"));
    scene.steps(1);
    // Another kind of source, and back: the list begins anew.
    scene.bench.configure("[path.\"live/a\"]\n");
    scene.work();
    assert!(scene.is_idle());
    scene.bench.configure(LIST);
    scene.work();
    assert!(!scene.is_idle());
    assert_eq!(scene.ask(&PlaylistRequest::Show).unwrap().info.items.len(), 3);
}

//! HLS from outside: who may, what is answered to right and wrong requests, and that a crowd costs
//! no more segments than one viewer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed, and says where"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use crate::support::hls::{
    Part, Playlist, SoundChoice, ask, assert_aligned, check, check_multivariant, get,
};
use crate::support::login::{basic, users};
use crate::support::media::title;
use crate::support::players::publish_file;
use crate::support::server::{Options, Server};
use crate::support::wait::{PATIENCE, until};
use crate::support::{demo_clip, folder_with, http};

const ON: Options<'static> = Options { hls: "127.0.0.1:0", ..Options::USUAL };

fn live(server: &Server, clip: &Path) -> crate::support::process::Kept {
    let publisher = publish_file(clip, &server.url("live/a"), "tcp", &["-stream_loop", "-1"]);
    until("the path is there", || get(server.hls(), "/live/a/index.m3u8").status == 200);
    publisher
}

/// The media playlist of a path.
fn playlist(hls: SocketAddr, path: &str) -> Playlist {
    let answer = get(hls, path);
    assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.header("content-type"), "application/vnd.apple.mpegurl");
    check(answer.text())
}

fn metric(server: &Server, name: &str) -> u64 {
    let (_, text) = http::get(server.admin, "/metrics");
    let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{name}"))
}

#[test]
fn title_has_playlists_that_keep_the_rules_and_names_everything_that_it_has() {
    let server = Server::start(&ON);
    let hls = server.hls();
    let multivariant = get(hls, "/demo/index.m3u8");
    let text = multivariant.text();
    for part in ["CODECS=\"avc1.", ",mp4a.40.2\"", "RESOLUTION=", "BANDWIDTH=", "main.m3u8"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let list = playlist(hls, "/demo/main.m3u8");
    assert!(list.is_ended && list.sequence == 0);
    assert!((list.seconds() - 20.0).abs() < 0.1, "{}", list.seconds());
    let init = get(hls, &format!("/demo/{}", list.segments[0].map));
    assert_eq!((init.status, &init.body[4..8]), (200, &b"ftyp"[..]));
    for segment in &list.segments {
        let answer = get(hls, &format!("/demo/{}", segment.uri));
        assert_eq!((answer.status, &answer.body[4..8]), (200, &b"moof"[..]));
        let kept = answer.header("cache-control");
        assert_eq!(kept, "public, max-age=31536000, immutable");
    }
}

/// Decode time at which a segment begins, in ticks.
fn begin_of(segment: &[u8]) -> u64 {
    let at = segment.windows(4).position(|four| four == b"tfdt").expect("a tfdt");
    // Version and flags, then the time in the bytes of its version.
    let (version, time) = (segment[at + 4], &segment[at + 8..]);
    if version == 1 {
        u64::from_be_bytes(*time.first_chunk().unwrap())
    } else {
        u64::from(u32::from_be_bytes(*time.first_chunk().unwrap()))
    }
}

#[test]
fn sounds_of_a_title_are_named_by_language_and_cut_where_its_video_is() {
    // 44.1 kHz is that of the second one.
    let scales = [("main", None), ("sound-1", Some(48_000.0)), ("sound-2", Some(44_100.0))];
    let made = ["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25:duration=15"];
    let sounds = "-f lavfi -i sine=frequency=440:sample_rate=48000:duration=15 \
                  -f lavfi -i sine=frequency=550:sample_rate=44100:duration=6 \
                  -map 0:v -map 1:a -map 2:a -c:v libx264 -preset ultrafast -g 40 -bf 2 -c:a aac \
                  -metadata:s:a:0 language=eng -metadata:s:a:1 language=ger";
    let sounds: Vec<_> = sounds.split_whitespace().collect();
    let file = crate::support::whep::made("two_sounds.mp4", &[&made[..], &sounds].concat());
    let folder = folder_with(&[&file]);
    let server = Server::start(&Options { folder: Some(folder.path()), ..ON });
    let hls = server.hls();
    let list = check_multivariant(get(hls, "/vod/two_sounds.mp4/index.m3u8").text());
    let known = |sound: &SoundChoice| {
        (sound.name.clone(), sound.language.clone().unwrap(), sound.uri.clone().unwrap())
    };
    let text = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    let wanted = [text("English", "en", "sound-1.m3u8"), text("Deutsch", "de", "sound-2.m3u8")];
    assert_eq!(list.sounds.iter().map(known).collect::<Vec<_>>(), wanted);
    assert_eq!((list.codecs.len(), list.uri.as_str()), (2, "main.m3u8"), "{:?}", list.codecs);
    let lists = scales.map(|(name, _)| playlist(hls, &format!("/vod/two_sounds.mp4/{name}.m3u8")));
    assert_aligned(&lists);
    let gaps: Vec<_> = lists[2].segments.iter().map(|segment| segment.is_gap).collect();
    assert!(!gaps[0] && !gaps[1] && gaps[2..].iter().all(|gap| *gap), "{gaps:?}");
    for ((_, scale), list) in scales.iter().zip(&lists) {
        let (mut end, mut first) = (0.0, None);
        for segment in &list.segments {
            let answer = get(hls, &format!("/vod/two_sounds.mp4/{}", segment.uri));
            assert_eq!((answer.status, &answer.body[4..8]), (200, &b"moof"[..]));
            let begin = begin_of(&answer.body);
            let begin = begin - *first.get_or_insert(begin);
            // The video's decode times are those of reordered pictures: it is what others go by.
            if let Some(scale) = scale.filter(|_| !segment.is_gap) {
                let seconds = begin as f64 / scale;
                assert!((seconds - end).abs() < 0.05, "{}: {seconds}, not {end}", segment.uri);
            }
            end += segment.duration;
        }
    }
    let far = get(hls, "/vod/two_sounds.mp4/sound-3.m3u8");
    assert_eq!(far.status, 404);
}

#[test]
fn part_of_a_segment_and_its_head_are_answered_as_a_cache_asks_for_them() {
    let server = Server::start(&ON);
    let hls = server.hls();
    let segment = format!("/demo/{}", playlist(hls, "/demo/main.m3u8").segments[1].uri);
    let whole = get(hls, &segment).body;
    for (range, expected) in [
        ("bytes=0-7", &whole[..8]),
        ("bytes=100-", &whole[100..]),
        ("bytes=-50", &whole[whole.len() - 50..]),
    ] {
        let answer = ask(hls, "GET", &segment, &format!("Range: {range}\r\n"));
        assert_eq!((answer.status, answer.body.as_slice()), (206, expected), "{range}");
        assert!(answer.header("content-range").ends_with(&format!("/{}", whole.len())));
    }
    let head = ask(hls, "HEAD", &segment, "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), whole.len().to_string());
    let behind = ask(hls, "GET", &segment, "Range: bytes=99999999-\r\n");
    assert_eq!(behind.status, 416);
    assert_eq!(ask(hls, "POST", &segment, "Content-Length: 0\r\n").status, 405);
}

#[test]
fn wrong_requests_get_a_sentence() {
    let files = [title("mjpeg_420_mov").file(), title("h264_pcm_sowt_mov").file()];
    let folder = folder_with(&[&files[0], &files[1]]);
    std::fs::write(folder.path().join("broken.mp4"), b"nothing").unwrap();
    let server = Server::start(&Options { folder: Some(folder.path()), ..ON });
    let hls = server.hls();
    let name = |place: usize| files[place].file_name().unwrap().to_str().unwrap().to_owned();
    let first = playlist(hls, "/demo/main.m3u8").segments[0].uri.clone();
    let other = first.replacen("main-", "main-0", 1);
    for (path, status, part) in [
        ("/".to_owned(), 404, "titles are at /vod/NAME/"),
        ("/vod/none.mp4/index.m3u8".to_owned(), 404, "no such title"),
        ("/live/none/index.m3u8".to_owned(), 404, "the path has no source"),
        ("/live/none/".to_owned(), 404, "<video"),
        ("/vod/none.mp4/".to_owned(), 404, "<video"),
        ("/vod/broken.mp4/index.m3u8".to_owned(), 415, "not playable"),
        (format!("/vod/{}/index.m3u8", name(0)), 415, "Motion JPEG, which browsers do not play"),
        ("/demo/main-0000000000000000-0.m4s".to_owned(), 404, "has been replaced"),
        (format!("/demo/{}", other.replace("-0.m4s", "-99.m4s")), 307, ""),
        ("/demo/sound-3.m3u8".to_owned(), 404, "no `sound-3.m3u8`"),
        ("/demo/%ff/index.m3u8".to_owned(), 400, "not UTF-8"),
        ("/vod/../../etc/passwd/index.m3u8".to_owned(), 404, ""),
    ] {
        let answer = get(hls, &path);
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, status, "{path}: {text}");
        assert!(text.contains(part), "{path}: {text}");
    }
    // A sound that browsers do not play is left out.
    let answer = get(hls, &format!("/vod/{}/index.m3u8", name(1)));
    assert!(answer.text().contains("CODECS=\"avc1."), "{}", answer.text());
    let page = get(hls, "/demo");
    assert_eq!((page.status, page.header("location")), (307, "/demo/"));
}

#[test]
fn pages_of_others_are_kept_out_unless_they_are_named() {
    let server = Server::start(&ON);
    let origin = "Origin: https://tv.example\r\n";
    let answer = ask(server.hls(), "GET", "/demo/index.m3u8", origin);
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, ""));
    let rebound = ask(server.hls(), "GET", "/demo/index.m3u8", "Host: evil.example\r\n");
    assert_eq!(rebound.status, 403);
    let config = "[hls]\nallow_origin = [\"https://tv.example\"]\nhosts = [\"tv.example\"]\n";
    let server = Server::start(&Options { config: Some(config), ..ON });
    let answer = ask(server.hls(), "GET", "/demo/index.m3u8", origin);
    assert_eq!(answer.header("access-control-allow-origin"), "https://tv.example");
    let preflight = ask(server.hls(), "OPTIONS", "/demo/index.m3u8", origin);
    assert_eq!(preflight.status, 204);
    assert!(preflight.header("access-control-allow-headers").contains("Range"));
    let other = ask(server.hls(), "GET", "/demo/index.m3u8", "Origin: https://evil.example\r\n");
    assert_eq!(other.header("access-control-allow-origin"), "");
    let named = ask(server.hls(), "GET", "/demo/index.m3u8", "Host: tv.example:8888\r\n");
    assert_eq!(named.status, 200);
}

#[test]
fn rules_of_a_path_hold_for_hls_as_for_rtsp() {
    let config = format!(
        "{}[path.\"demo\"]\nread = [\"user:ann\"]\n[path.\"live/a\"]\nread = [\"10.0.0.0/8\"]\n",
        users(&["ann", "bob"], false)
    );
    let server = Server::start(&Options { config: Some(&config), ..ON });
    let hls = server.hls();
    let bare = get(hls, "/demo/index.m3u8");
    assert_eq!(bare.status, 401);
    assert!(bare.header("www-authenticate").contains("realm=\"headend\""), "{:?}", bare.headers);
    let with = |name: &str, password: &str| {
        let header = format!("Authorization: {}\r\n", basic(name, password));
        ask(hls, "GET", "/demo/index.m3u8", &header)
    };
    let given = with("ann", "ann-secret");
    assert_eq!((given.status, given.header("cache-control")), (200, "private, max-age=5"));
    assert_eq!(with("bob", "bob-secret").status, 403);
    assert_eq!(with("ann", "wrong").status, 401);
    assert_eq!(get(hls, "/live/a/index.m3u8").status, 403);
    assert_eq!(get(hls, "/demo/").status, 401, "the page too");
}

#[test]
fn live_playlist_keeps_the_rules_from_one_state_to_the_next() {
    let server = Server::start(&ON);
    let hls = server.hls();
    let _publisher = live(&server, &demo_clip());
    let mut before = playlist(hls, "/live/a/main.m3u8");
    for _ in 0..16 {
        let last = before.sequence + before.segments.len() as u64;
        let part = before.open_parts.len();
        let now = playlist(hls, &format!("/live/a/main.m3u8?_HLS_msn={last}&_HLS_part={part}"));
        now.assert_follows(&before);
        let end = (now.sequence + now.segments.len() as u64, now.open_parts.len());
        assert!(end > (last, part), "it waits until there is more");
        before = now;
    }
    // The newest part, the hinted one, and the segment that they belong to.
    let newest = before.open_parts.last().or_else(|| before.segments.last().unwrap().parts.last());
    assert_eq!(get(hls, &format!("/live/a/{}", newest.unwrap().uri)).status, 200);
    let hinted = get(hls, &format!("/live/a/{}", before.hint.as_ref().unwrap()));
    assert_eq!((hinted.status, &hinted.body[4..8]), (200, &b"moof"[..]));
    let segment = before.segments.last().unwrap();
    let whole = get(hls, &format!("/live/a/{}", segment.uri)).body;
    let parts = segment.parts.iter().map(|part| get(hls, &format!("/live/a/{}", part.uri)).body);
    assert_eq!(whole, parts.collect::<Vec<_>>().concat());
    let other = segment.map.replace("-i0.mp4", "-i9.mp4");
    assert_ne!(other, segment.map);
    assert_eq!(get(hls, &format!("/live/a/{other}")).status, 404, "it is not waited for");
    let ahead = before.sequence + 9_999;
    let ahead = format!("_HLS_msn={ahead}");
    for (query, status) in [(&*ahead, 400), ("_HLS_part=1", 400), ("_HLS_msn=x", 400)] {
        assert_eq!(get(hls, &format!("/live/a/main.m3u8?{query}")).status, status, "{query}");
    }
}

#[test]
fn sounds_of_a_live_path_have_the_segments_and_parts_of_its_picture() {
    let server = Server::start(&ON);
    let hls = server.hls();
    let _publisher = live(&server, &title("h264_three_audio_tracks_mp4").file());
    let list = check_multivariant(get(hls, "/live/a/index.m3u8").text());
    let uris: Vec<_> = list.sounds.iter().filter_map(|sound| sound.uri.as_deref()).collect();
    assert_eq!(uris, ["sound-1.m3u8", "sound-2.m3u8", "sound-3.m3u8"]);
    assert_eq!(list.codecs.len(), 3, "{:?}", list.codecs);
    let next = playlist(hls, "/live/a/main.m3u8");
    let next = next.sequence + next.segments.len() as u64 + 1;
    // All are answered with the same state, or one that is a part further.
    let asked = format!("?_HLS_msn={next}&_HLS_part=0");
    let lists = ["main.m3u8"].iter().chain(&uris);
    let lists = lists.map(|name| playlist(hls, &format!("/live/a/{name}{asked}")));
    let lists: Vec<Playlist> = lists.collect();
    for list in &lists {
        let further = usize::try_from(list.sequence - lists[0].sequence).unwrap();
        for (one, main) in list.segments.iter().zip(lists[0].segments.iter().skip(further)) {
            let suffix = |uri: &str| uri.rsplit_once('-').unwrap().1.to_owned();
            assert_eq!(suffix(&one.uri), suffix(&main.uri));
            assert_eq!(one.duration, main.duration);
            let lengths = |of: &[Part]| of.iter().map(|part| part.duration).collect::<Vec<_>>();
            // Parts of old segments are not listed any more.
            let is_old = one.parts.is_empty() || main.parts.is_empty();
            assert!(is_old || lengths(&one.parts) == lengths(&main.parts), "{one:?} {main:?}");
        }
        let segment = list.segments.last().unwrap();
        let whole = get(hls, &format!("/live/a/{}", segment.uri)).body;
        let parts =
            segment.parts.iter().map(|part| get(hls, &format!("/live/a/{}", part.uri)).body);
        assert_eq!(whole, parts.collect::<Vec<_>>().concat());
    }
    assert_eq!(get(hls, "/live/a/sound-4.m3u8").status, 404);
}

/// A thousand viewers wait for the same part: it is made once, and all get it.
#[test]
fn crowd_on_one_live_path_gets_the_same_parts_which_are_made_once() {
    allow_descriptors();
    let config = "[hls]\nconnections_per_address_max = 4000\n";
    let server = Server::start(&Options { config: Some(config), open_files: Some(8_192), ..ON });
    let hls = server.hls();
    let _publisher = live(&server, &demo_clip());
    let list = playlist(hls, "/live/a/main.m3u8");
    let (parts, requests) =
        (metric(&server, "headend_hls_parts_total"), metric(&server, "headend_hls_requests_total"));
    let wanted = list.sequence + list.segments.len() as u64 + 1;
    let ask = format!(
        "GET /live/a/main.m3u8?_HLS_msn={wanted}&_HLS_part=0 HTTP/1.1\r\nHost: {hls}\r\n\
         Connection: close\r\n\r\n"
    );
    let crowd: Vec<TcpStream> = (0..VIEWERS)
        .map(|_| {
            let mut stream = TcpStream::connect_timeout(&hls, PATIENCE).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(ask.as_bytes()).unwrap();
            stream
        })
        .collect();
    let mut answers: Vec<String> = crowd
        .into_iter()
        .map(|mut stream| {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            body.to_owned()
        })
        .collect();
    assert!(answers.iter().all(|answer| check(answer).target > 0));
    answers.sort_unstable();
    answers.dedup();
    let made = metric(&server, "headend_hls_parts_total") - parts;
    let asked = metric(&server, "headend_hls_requests_total") - requests;
    assert!(asked >= VIEWERS, "{asked}");
    // As many as the path had in the meantime, whoever watched: two a second.
    assert!(made < 60, "{made} parts for {VIEWERS} viewers, {} states", answers.len());
}

/// A path is made into segments while somebody asks, and its source is left alone afterwards.
#[test]
fn path_that_nobody_watches_any_more_is_let_go() {
    let server = Server::start(&ON);
    let publisher = live(&server, &demo_clip());
    let watched = || {
        let limits = http::get_json(server.admin, "/v1/limits");
        let rows = http::list(limits);
        let row = rows.into_iter().find(|row| row["what"] == "hls_live_paths").unwrap();
        row["used"].as_u64().unwrap()
    };
    assert_eq!(watched(), 1);
    // One who leaves in the middle of his wait.
    let list = playlist(server.hls(), "/live/a/main.m3u8");
    let next = list.sequence + list.segments.len() as u64 + 1;
    let hls = server.hls();
    let ask = format!("GET /live/a/main.m3u8?_HLS_msn={next} HTTP/1.1\r\nHost: {hls}\r\n\r\n");
    let mut viewer = TcpStream::connect(hls).unwrap();
    viewer.write_all(ask.as_bytes()).unwrap();
    drop(viewer);
    crate::support::wait::until_within(PATIENCE * 2, "it is let go", || watched() == 0);
    // A cache may have answers that were given for numbers of the run before.
    until("it is watched again", || get(server.hls(), "/live/a/index.m3u8").status == 200);
    let again = playlist(server.hls(), "/live/a/main.m3u8");
    assert!(again.sequence > next, "{} is behind {next}", again.sequence);
    drop(publisher);
}

#[test]
fn publisher_that_goes_ends_the_playlist() {
    let config = "[path.\"live/a\"]\nhold = \"0s\"\n";
    let server = Server::start(&Options { config: Some(config), ..ON });
    let publisher = live(&server, &demo_clip());
    drop(publisher);
    until("the end is told", || {
        let answer = get(server.hls(), "/live/a/main.m3u8");
        answer.status == 200 && check(answer.text()).is_ended
    });
}

fn drain(server: &Server, order: &serde_json::Value) -> serde_json::Value {
    let (status, state) = http::post_json(server.admin, "/v1/drain", "", order);
    assert_eq!(status, 200, "{state}");
    state
}

#[test]
fn drained_server_sends_new_viewers_away_and_those_who_watch_at_the_deadline() {
    use serde_json::json;

    let server = Server::start(&ON);
    let hls = server.hls();
    let status = |path: &str| get(hls, path).status;
    let segment = format!("/demo/{}", playlist(hls, "/demo/main.m3u8").segments[0].uri);
    assert_eq!(status(&segment), 200);
    let state = drain(&server, &json!({}));
    assert_eq!((&state["state"], &state["hls"]), (&json!("draining"), &json!(true)), "{state}");
    for path in ["/demo/", "/demo/index.m3u8"] {
        let refused = get(hls, path);
        assert_eq!((refused.status, refused.header("retry-after")), (503, "60"), "{path}");
        assert_eq!(refused.header("cache-control"), "no-store");
    }
    assert_eq!((status("/demo/main.m3u8"), status(&segment)), (200, 200), "who watches goes on");
    drain(&server, &json!({ "redirect": ["rtsp://b.example", "http://b.example:8888"] }));
    let moved = get(hls, "/vod/a%20b.mp4/index.m3u8?token=x");
    let location = "http://b.example:8888/vod/a%20b.mp4/index.m3u8?token=x";
    assert_eq!((moved.status, moved.header("location")), (302, location));
    let turned_away = metric(&server, "headend_hls_turned_away_total");
    assert_eq!(turned_away, 3);
    http::post_json(server.admin, "/v1/undrain", "", &json!({}));
    assert_eq!(status("/demo/index.m3u8"), 200);
    let state = drain(&server, &json!({ "deadline_s": 0 }));
    assert_eq!((&state["state"], &state["hls"]), (&json!("drained"), &json!(false)), "{state}");
    assert_eq!((status("/demo/main.m3u8"), status(&segment)), (503, 503), "the deadline");
}

/// A connection of each viewer is one.
fn allow_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _refused = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

const VIEWERS: u64 = 1_000;

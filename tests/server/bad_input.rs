//! Files that lie, files that change while they play, requests that attack, paths that lead out.
//!
//! The rule in every case: the one who is at fault gets an error, and everybody else plays on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed, and says where"
)]

use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;

use crate::support;
use crate::support::boxes::{self, boxed, of_kind, with_u32};
use crate::support::http::sessions;
use crate::support::media::title;
use crate::support::process::PLAYER_PATIENCE;
use crate::support::rtp::assert_contiguous;
use crate::support::rtsp::Client;
use crate::support::server::{Server, percent_encoded};
use crate::support::session::{Lower, Session, describe};
use crate::support::wait::{PATIENCE, until};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(support::scratch()).unwrap()
}

/// Statuses that say: this title is not to be had, and trying again will not help.
const REFUSALS: [u16; 3] = [404, 415, 500];

/// Describes every file of `folder`. Whatever is in them, each gets an answer: a refusal or, where
/// the damage does not touch what DESCRIBE reads, a description. Then the server must be well.
fn describe_all(folder: &Path) -> Vec<(String, u16)> {
    let mut server = Server::with_folder(folder);
    let mut client = Client::connect(server.rtsp);
    let mut answers = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let response = client.request("DESCRIBE", &server.vod_url(&name), &[]);
        assert!(
            response.status == 200 || REFUSALS.contains(&response.status),
            "{name}: {response:?}"
        );
        answers.push((name, response.status));
    }
    server.assert_alive();
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
    answers.sort();
    answers
}

#[test]
fn file_cut_anywhere_is_refused_or_described_and_the_server_lives() {
    let folder = folder();
    for name in ["h264_aac_moov_last_mp4", "h264_aac_faststart_mp4", "h264_aac_fragmented_mp4"] {
        let file = std::fs::read(title(name).file()).unwrap();
        // Densely where boxes begin, sparsely inside of media data.
        let mut cuts: Vec<usize> = (0..64).collect();
        for found in boxes::all(&file) {
            let start = found.whole.start;
            cuts.extend([start, start + 4, start + 8, found.whole.end.saturating_sub(1)]);
        }
        cuts.extend((0..50).map(|i| file.len() * i / 50));
        cuts.sort_unstable();
        cuts.dedup();
        for cut in cuts.into_iter().filter(|cut| *cut < file.len()) {
            std::fs::write(folder.path().join(format!("{name}.{cut:08}.mp4")), &file[..cut])
                .unwrap();
        }
    }
    let answers = describe_all(folder.path());
    // Without its index, which comes last, the first file is nothing; the other two play up to
    // where they were cut, once the index is there.
    for (name, status) in &answers {
        if name.starts_with("h264_aac_moov_last_mp4") {
            assert_ne!(*status, 200, "{name}");
        }
    }
    assert!(answers.iter().any(|(name, s)| name.starts_with("h264_aac_frag") && *s == 200));
}

#[test]
fn file_with_lies_in_its_boxes_is_refused_or_described_and_the_server_lives() {
    let folder = folder();
    let write = |name: String, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    };
    for name in ["h264_aac_moov_last_mp4", "h264_aac_fragmented_mp4", "h264_aac_hinted_mov"] {
        let file = std::fs::read(title(name).file()).unwrap();
        for (i, found) in boxes::all(&file).into_iter().enumerate() {
            let kind: String = found.kind.iter().map(|b| char::from(*b)).collect();
            let kind = kind.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            // Sizes: to the end of the file, 64-bit, smaller than a header, huge.
            for size in [0, 1, 7, u32::MAX] {
                let lie = with_u32(&file, found.whole.start, size);
                write(format!("{name}.{i:03}.{kind}.size.{size}.mp4"), &lie);
            }
            // Counts, versions, flags and first entries of tables: the words of a full box.
            for word in 0..4 {
                let at = found.content.start + 4 * word;
                let is_leaf = !["moov", "trak", "mdia", "minf", "stbl", "mdat"].contains(&&*kind);
                if is_leaf && at + 4 <= found.content.end {
                    for value in [u32::MAX, 0x7fff_ffff, 0] {
                        let lie = with_u32(&file, at, value);
                        write(format!("{name}.{i:03}.{kind}.word{word}.{value:x}.mp4"), &lie);
                    }
                }
            }
        }
    }
    describe_all(folder.path());
}

#[test]
fn file_whose_samples_lie_past_its_end_is_not_played() {
    let folder = folder();
    let file = std::fs::read(title("h264_aac_moov_last_mp4").file()).unwrap();
    for (place, table) in of_kind(&file, b"stco").iter().enumerate() {
        let lie = with_u32(&file, table.content.start + 8, 0xffff_fff0);
        std::fs::write(folder.path().join(format!("offset{place}.mp4")), lie).unwrap();
    }
    for (place, table) in of_kind(&file, b"stsz").iter().enumerate() {
        let lie = with_u32(&file, table.content.start + 12, 0x7fff_ffff);
        std::fs::write(folder.path().join(format!("size{place}.mp4")), lie).unwrap();
    }
    for (name, status) in describe_all(folder.path()) {
        assert_ne!(status, 200, "{name}: a track that reaches past the end");
    }
}

#[test]
fn file_that_is_no_media_is_refused() {
    let folder = folder();
    let endless = boxed(b"free", &[0; 64]).repeat(20_000);
    // Boxes in boxes: as deep as a stack would have to be.
    let mut nested = boxed(b"trak", b"");
    for _ in 0..20_000 {
        nested = boxed(b"moov", &nested);
        nested.truncate(1 << 20);
    }
    let files: [(&str, &[u8]); 8] = [
        ("empty.mp4", b""),
        ("one_byte.mp4", b"\0"),
        ("text.mp4", b"not a film at all, but long enough to be read as a box header"),
        ("zeros.mp4", &[0; 100_000]),
        ("ones.mp4", &[0xff; 100_000]),
        ("header_alone.mp4", b"\0\0\0\x14ftypisom\0\0\0\0isom"),
        ("boxes_without_end.mp4", &endless),
        ("boxes_in_boxes.mp4", &nested),
    ];
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    for (name, status) in describe_all(folder.path()) {
        assert!([404, 415].contains(&status), "{name}: {status}");
    }
}

#[test]
fn title_without_a_single_track_that_can_be_served_is_refused() {
    // A codec without a payload format; and JPEG whose blocks are not in the order that RFC 2435
    // s4.1 has types for.
    for name in ["alac_alone_m4a", "mjpeg_422_of_ffmpeg_mov"] {
        let served = support::Served::new(title(name));
        let mut client = Client::connect(served.server.rtsp);
        let response = client.request("DESCRIBE", &served.url, &[]);
        assert!([404, 415].contains(&response.status), "{name}: {response:?}");
    }
}

/// Two sessions on a copy of the clip of ten seconds and one on another title; does `harm` to the
/// copy while all three play. The first two end with BYE, the third plays to its end.
fn harmed_while_playing(lower: Lower, harm: impl Fn(&Path)) {
    let folder = folder();
    let victim = folder.path().join("victim.mp4");
    std::fs::copy(title("h264_aac_ten_seconds_mp4").file(), &victim).unwrap();
    std::fs::copy(title("h264_aac_faststart_mp4").file(), folder.path().join("other.mp4")).unwrap();
    let mut server = Server::with_folder(folder.path());
    let (victim_url, other_url) = (server.vod_url("victim.mp4"), server.vod_url("other.mp4"));
    let mut first = Session::open(server.rtsp, &victim_url, lower);
    let mut second = Session::open(server.rtsp, &victim_url, Lower::Udp);
    let mut other = Session::open(server.rtsp, &other_url, lower);
    for session in [&mut first, &mut second, &mut other] {
        session.play(&[]);
        session.receive_packets(5, PATIENCE);
    }
    harm(&victim);
    first.receive_until_ended(PLAYER_PATIENCE);
    second.receive_until_ended(PLAYER_PATIENCE);
    other.receive_until_bye(PLAYER_PATIENCE);
    assert_contiguous(&other.stream("video").packets);
    assert_eq!(support::rtp::frames(&other.stream("video").packets).len(), 75);
    server.assert_alive();
    drop((first, second, other));
    until("descriptors of the file are closed", || {
        // Nobody plays it any more: at most the library's own handle is left, and that goes with
        // the cache.
        sessions(server.admin).iter().all(|session| session["state"] != "playing")
    });
    // Whoever comes next is served.
    describe(&mut Client::connect(server.rtsp), &server.demo_url());
}

#[test]
fn file_truncated_while_it_plays_ends_its_sessions_and_no_others() {
    for lower in [Lower::Tcp, Lower::Udp] {
        harmed_while_playing(lower, |victim| {
            std::fs::File::options().write(true).open(victim).unwrap().set_len(4_096).unwrap();
        });
    }
}

#[test]
fn file_emptied_while_it_plays_ends_its_sessions_and_no_others() {
    harmed_while_playing(Lower::Tcp, |victim| std::fs::write(victim, b"").unwrap());
}

#[test]
fn file_deleted_while_it_plays_ends_its_sessions_cleanly() {
    // Whether they end now or play what is open to its end: BYE comes, and nobody else notices.
    harmed_while_playing(Lower::Tcp, |victim| std::fs::remove_file(victim).unwrap());
}

#[test]
fn file_replaced_while_it_plays_ends_its_sessions_cleanly_and_the_new_one_is_served() {
    let other = title("aac_m4a").file();
    harmed_while_playing(Lower::Tcp, |victim| {
        let new = victim.with_extension("new");
        std::fs::copy(&other, &new).unwrap();
        std::fs::rename(&new, victim).unwrap();
    });
    let folder = folder();
    let path = folder.path().join("title.mp4");
    std::fs::copy(title("h264_aac_ten_seconds_mp4").file(), &path).unwrap();
    let server = Server::with_folder(folder.path());
    let url = server.vod_url("title.mp4");
    let before = describe(&mut Client::connect(server.rtsp), &url).1;
    assert_eq!(before.media.len(), 2);
    std::fs::copy(&other, path.with_extension("new")).unwrap();
    std::fs::rename(path.with_extension("new"), &path).unwrap();
    let after = describe(&mut Client::connect(server.rtsp), &url).1;
    assert_eq!(after.media.len(), 1, "{}", after.text);
}

#[test]
fn noise_on_the_rtsp_port_is_refused_without_effect_on_others() {
    let mut server = Server::with_demo();
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Tcp);
    session.play(&[]);
    let long_line = "A".repeat(100_000);
    let many_headers = "X: y\r\n".repeat(10_000);
    let url = server.demo_url();
    let noises: [Vec<u8>; 8] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20),
        vec![0; 10_000],
        vec![0xff; 10_000],
        long_line.clone().into_bytes(),
        format!("OPTIONS {long_line} RTSP/1.0\r\nCSeq: 1\r\n\r\n").into_bytes(),
        format!("OPTIONS {url} RTSP/1.0\r\nCSeq: 1\r\n{many_headers}\r\n").into_bytes(),
        format!("OPTIONS {url} RTSP/1.0\r\nCSeq: 1\r\nX: {long_line}\r\n\r\n").into_bytes(),
        b"\r\n".repeat(100_000),
    ];
    for noise in noises {
        let mut client = Client::connect(server.rtsp);
        // The server may close before all of it is out.
        let _cut_short = std::io::Write::write_all(&mut client.stream(), &noise);
        let _half = client.stream().shutdown(std::net::Shutdown::Write);
        client.assert_closed();
    }
    // HTTP that is no tunnel is answered in its own words.
    let client = Client::connect(server.rtsp);
    let mut stream = client.stream();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 400 "), "{answer}");
    // Connections that say nothing and go.
    for _ in 0..200 {
        drop(Client::connect(server.rtsp));
    }
    session.receive_packets(20, PATIENCE);
    assert_contiguous(&session.stream("video").packets);
    server.assert_alive();
}

#[test]
fn reader_that_stops_reading_is_ended_without_effect_on_others() {
    let served = support::Served::new(title("h264_frames_over_100_packets_mp4"));
    let demo = served.server.demo_url();
    let mut well = Session::open(served.server.rtsp, &demo, Lower::Udp);
    // Takes nothing: its window fills, and the server must neither wait for it nor keep it all.
    let mut stuck = Session::open(served.server.rtsp, &served.url, Lower::Tcp);
    socket2::SockRef::from(stuck.client.stream()).set_recv_buffer_size(4_096).unwrap();
    let (base, id) = (stuck.base.clone(), stuck.id.clone());
    let play = stuck.client.format("PLAY", &base, &[("Session", &id)], "");
    stuck.client.send_raw(play);
    well.play(&[("Range", "npt=15-")]);
    well.receive_until_bye(PATIENCE);
    assert_contiguous(&well.stream("video").packets);
    drop(stuck);
    until("its session is gone", || {
        sessions(served.server.admin).iter().all(|session| session["id"] != *id)
    });
}

/// A media folder with a film, and next to it a secret that must never be opened.
struct Trap {
    root: tempfile::TempDir,
    server: Server,
}

impl Trap {
    fn new() -> Self {
        let root = folder();
        let media = root.path().join("media");
        let secret = root.path().join("secret");
        std::fs::create_dir_all(media.join("inside")).unwrap();
        std::fs::create_dir_all(&secret).unwrap();
        let film = title("aac_m4a").file();
        for to in [media.join("film.m4a"), media.join("inside/film.m4a"), secret.join("film.m4a")] {
            std::fs::copy(&film, to).unwrap();
        }
        symlink(secret.join("film.m4a"), media.join("link_to_file.m4a")).unwrap();
        symlink("../secret/film.m4a", media.join("relative_link.m4a")).unwrap();
        symlink(&secret, media.join("link_to_folder")).unwrap();
        symlink("loop.m4a", media.join("loop.m4a")).unwrap();
        symlink("/dev/zero", media.join("device.m4a")).unwrap();
        symlink("/proc/self/mem", media.join("memory.m4a")).unwrap();
        symlink("inside/film.m4a", media.join("link_inside.m4a")).unwrap();
        let fifo = media.join("fifo.m4a");
        let made = support::process::run("mkfifo", &[fifo.to_string_lossy().into_owned()]);
        assert!(made.status.success());
        assert!(std::fs::metadata(&fifo).unwrap().file_type().is_fifo());
        let server = Server::with_folder(&media);
        Self { root, server }
    }

    /// Status of DESCRIBE for a path below `/vod/`, sent as it is.
    fn ask(&self, raw_path: &str) -> u16 {
        let url = self.server.url(&format!("vod/{raw_path}"));
        Client::connect(self.server.rtsp).request("DESCRIBE", &url, &[]).status
    }
}

#[test]
fn path_that_leads_out_of_the_media_folder_is_not_found_and_never_opened() {
    let trap = Trap::new();
    let absolute = trap.root.path().join("secret/film.m4a");
    let absolute = absolute.to_str().unwrap();
    let escapes = [
        "../secret/film.m4a",
        "inside/../../secret/film.m4a",
        "%2e%2e/secret/film.m4a",
        "%2E%2E%2Fsecret%2Ffilm.m4a",
        "..%2fsecret%2ffilm.m4a",
        "inside/..%2f..%2fsecret/film.m4a",
        "%252e%252e/secret/film.m4a",
        "..\\secret\\film.m4a",
        "..%5csecret%5cfilm.m4a",
        "./../secret/film.m4a",
        "//secret/film.m4a",
        "film.m4a%00.m4a",
        "film.m4a/",
        "film.m4a/..",
        "%c0%ae%c0%ae/secret/film.m4a",
        "%zz",
        "%",
        "",
        ".",
        "..",
        "inside",
        "link_to_file.m4a",
        "relative_link.m4a",
        "link_to_folder/film.m4a",
        "link_to_folder%2ffilm.m4a",
        "loop.m4a",
        "device.m4a",
        "memory.m4a",
        "fifo.m4a",
        "film.m4a%2f",
        absolute,
        &percent_encoded(absolute),
        &format!("/{}", absolute.trim_start_matches('/')),
        &"a/".repeat(2_000),
        &"x".repeat(3_000),
    ];
    for path in escapes {
        let status = trap.ask(path);
        // The film with a slash behind it may be the film (client rule C4), nothing else may be.
        let may_be_the_film = ["film.m4a/", "film.m4a%2f"].contains(&path);
        assert!(
            [400, 404].contains(&status) || may_be_the_film && status == 200,
            "{path}: {status}"
        );
        assert!(!trap.server.has_open("/secret/"), "{path}: the secret is open");
    }
    // A FIFO was not waited for: the server still answers, and serves what is its own.
    assert_eq!(trap.ask("film.m4a"), 200);
    assert_eq!(trap.ask("inside/film.m4a"), 200);
}

#[test]
fn list_of_titles_does_not_follow_links_out_or_wait_for_a_fifo() {
    let trap = Trap::new();
    let listed = support::http::list(support::http::get_json(trap.server.admin, "/v1/vod"));
    let text = serde_json::to_string(&listed).unwrap();
    for absent in ["secret", "link_to", "relative_link", "loop", "device", "memory", "fifo"] {
        assert!(!text.contains(absent), "{absent}: {text}");
    }
    assert!(text.contains("film.m4a") && text.contains("inside/film.m4a"), "{text}");
}

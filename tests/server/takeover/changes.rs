//! A takeover with another configuration than that of the server that runs, or in another place.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::assert_ended_well;
use crate::support::http::{get_json, post_json};
use crate::support::process::{Kept, run_command, wait_for};
use crate::support::rtsp::Client;
use crate::support::server::Server;
use crate::support::session::{Lower, Session};
use crate::support::takeover::{Between, Site, Talk};
use crate::support::wait::{PATIENCE, until};
use crate::support::{demo_clip, scratch};

/// Addresses of RTSP in a start-up text.
fn rtsp_addrs(banner: &str) -> BTreeSet<SocketAddr> {
    let all = banner.split("rtsp://").skip(1);
    all.filter_map(|rest| rest.split(['/', ' ', '\n', ',']).next()?.parse().ok()).collect()
}

fn take_over(site: &Site, words: &[&str]) -> Server {
    let files = tempfile::tempdir_in(scratch()).unwrap();
    let mut command = site.command("2", files.path());
    command.args(words);
    Server::run(command, files)
}

fn assert_plays_over_udp(server: SocketAddr) {
    let mut player = Session::open(server, &format!("rtsp://{server}/demo"), Lower::Udp);
    player.play(&[]);
    player.receive_packets(5, PATIENCE);
}

#[test]
fn players_at_an_address_that_was_added_are_sent_to_and_those_before_go_on() {
    let site = Site::new("");
    let mut old = site.start("2");
    let mut before = Session::open(old.rtsp, &old.demo_url(), Lower::Udp);
    before.play(&[]);
    before.receive_packets(2, PATIENCE);
    let has_ipv6 = UdpSocket::bind("[::1]:0").is_ok();
    if !has_ipv6 {
        println!("skipped in part: the machine has no IPv6");
    }
    let added = if has_ipv6 { "[::1]:0" } else { "127.0.0.2:0" };
    let new = take_over(&site, &["--takeover", "--listen", added]);
    assert_ended_well(&mut old);
    let addrs = rtsp_addrs(&new.banner);
    assert!(addrs.contains(&old.rtsp) && addrs.len() == 2, "{}", new.banner);
    // The pairs before are bound to 127.0.0.1, and reach nobody by the other address.
    before.receive_packets(3, PATIENCE);
    before.request("GET_PARAMETER", &[]).expect(200);
    for addr in addrs {
        assert_plays_over_udp(addr);
    }
    before.receive_packets(3, PATIENCE);
}

#[test]
fn port_that_is_to_have_other_addresses_is_refused_with_a_sentence() {
    let site = Site::new("");
    let mut old = site.start("1");
    let mut player = Session::open(old.rtsp, &old.demo_url(), Lower::Udp);
    player.play(&[]);
    player.receive_packets(2, PATIENCE);
    let everywhere = format!("0.0.0.0:{}", old.rtsp.port());
    let files = tempfile::tempdir_in(scratch()).unwrap();
    let inner = site.command("1", files.path());
    let mut command = Command::new(inner.get_program());
    let mut is_listen = false;
    for word in inner.get_args() {
        command.arg(if is_listen { everywhere.as_ref() } else { word });
        is_listen = word == "--listen";
    }
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command.arg("--takeover");
    let ended = run_command(&mut command, PATIENCE);
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    for part in [everywhere.as_str(), &old.rtsp.to_string(), "restart"] {
        assert!(ended.stderr.contains(part), "{part}: {ended:?}");
    }
    old.assert_alive();
    player.receive_packets(2, PATIENCE);
}

/// Passes on what is said until the new server wants the sessions; it has started everything then.
fn until_freeze(talk: &mut Talk) -> crate::support::takeover::Passed {
    for _ in 0..2 {
        let message = talk.hear().unwrap();
        talk.pass(&message).unwrap();
    }
    talk.hear().unwrap()
}

/// A new server that says what it says through `between`.
fn start_new(site: &Site, between: &Between) -> (Kept, tempfile::TempDir) {
    let files = tempfile::tempdir_in(scratch()).unwrap();
    let mut command = site.command("2", files.path());
    command.args(between.words()).stdout(Stdio::null());
    command.stderr(std::fs::File::create(files.path().join("stderr")).unwrap());
    (Kept::start(&mut command), files)
}

fn end(mut server: Kept) {
    kill_process(Pid::from_child(&server.0), Signal::TERM).unwrap();
    assert!(wait_for(&mut server.0, Duration::from_secs(20)).is_some());
}

/// The new configuration has another list, so edits of the one before do not count in it.
#[test]
fn takeover_that_fails_leaves_the_state_folder_as_it_was_and_one_that_does_not_clears_it() {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    for name in ["film.mp4", "other.mp4"] {
        std::fs::copy(demo_clip(), folder.path().join(name)).unwrap();
    }
    let with = |title: &str| {
        let mut site = Site::new(&format!("[path.linear]\nplaylist = [\"{title}\"]\n"));
        site.folder = Some(folder.path().to_owned());
        site
    };
    let site = with("film.mp4");
    let mut changed = with("other.mp4");
    let before = changed.state.path().display().to_string();
    changed.config = changed.config.replace(&before, &site.state.path().display().to_string());
    let (mut old, between) = (site.start("2"), Between::new());
    let list = get_json(old.admin, "/v1/paths/linear/playlist");
    let edit = json!({ "title": "film.mp4", "after": list["items"][0]["item"] });
    let path = "/v1/paths/linear/playlist:insert";
    let (status, answer) = post_json(old.admin, path, "", &edit);
    assert_eq!((status, &answer["kept"]), (200, &json!(true)), "{answer}");
    let kept = || files_in(&site.state.path().join("playlists"));
    let all = kept();
    assert_eq!(all.len(), 1, "{all:?}");

    let (mut new, _files) = start_new(&changed, &between);
    let mut talk = between.connect(&site);
    drop(until_freeze(&mut talk));
    assert_eq!(kept(), all, "it is not in force yet");
    drop(talk);
    let ended = wait_for(&mut new.0, PATIENCE).unwrap();
    assert_eq!(ended.code(), Some(2));
    assert_eq!(kept(), all, "it will never be");
    old.assert_alive();

    let (new, _files) = start_new(&changed, &between);
    let mut talk = between.connect(&site);
    let mut message = Some(until_freeze(&mut talk));
    while let Some(next) = message {
        talk.pass(&next).unwrap();
        message = talk.hear();
    }
    assert_ended_well(&mut old);
    until("edits of the list before are gone", || kept().is_empty());
    end(new);
}

/// Names and contents.
fn files_in(folder: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap())).collect()
}

/// The new server reads its file when it starts. Who has the one before read a newer file meanwhile
/// is told that it is in force.
#[test]
fn configuration_that_changes_while_the_new_server_starts_is_in_force() {
    let site = Site::new("");
    let (mut old, between) = (site.start("2"), Between::new());
    let (new, files) = start_new(&site, &between);
    let mut talk = between.connect(&site);
    let freeze = until_freeze(&mut talk);
    let newer = format!("{}[path.\"live/newer\"]\n", site.config);
    std::fs::write(files.path().join("headend.toml"), newer).unwrap();
    let mut message = Some(freeze);
    while let Some(next) = message {
        talk.pass(&next).unwrap();
        message = talk.hear();
    }
    assert_ended_well(&mut old);
    let log = || std::fs::read_to_string(files.path().join("stderr")).unwrap();
    until("the file is read again", || {
        log().lines().any(|line| line.contains("HE-I402") && line.contains("\"added\":1"))
    });
    end(new);
}

#[test]
fn socket_by_another_spelling_of_its_path_is_taken_over_too() {
    let site = Site::new("");
    let mut old = site.start("1");
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let link = folder.path().join("state");
    std::os::unix::fs::symlink(site.state.path(), &link).unwrap();
    let at = link.join("takeover").join("socket");
    let mut next = take_over(&site, &["--takeover", "--takeover-at", at.to_str().unwrap()]);
    assert_ended_well(&mut old);
    assert!(!next.banner.contains("HE-W124"), "{}", next.banner);
    let last = site.take_over("1", "--takeover");
    assert_ended_well(&mut next);
    Client::connect(last.rtsp).request("OPTIONS", "*", &[]).expect(200);
    assert!(site.socket().exists());
}

/// As from one container to the next: processes of one have no numbers in the other.
#[test]
fn server_in_another_namespace_of_processes_takes_over() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can make a namespace");
        return;
    }
    let site = Site::new("");
    let mut old = site.start("2");
    let mut player = Session::open(old.rtsp, &old.demo_url(), Lower::Udp);
    player.play(&[]);
    player.receive_packets(2, PATIENCE);
    let files = tempfile::tempdir_in(scratch()).unwrap();
    let inner = site.command("2", files.path());
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command.arg(inner.get_program()).args(inner.get_args()).arg("--takeover");
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let new = Server::run(command, files);
    assert_ended_well(&mut old);
    assert!(!new.banner.contains("HE-W127"), "{}", new.banner);
    player.receive_packets(3, PATIENCE);
    player.request("GET_PARAMETER", &[]).expect(200);
}

/// As a file that was overwritten in place, or a program that is stricter.
#[test]
fn title_that_does_not_open_is_named_and_its_players_end_only_if_that_is_wanted() {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let names = ["film.mp4", "other.mp4"];
    for name in names {
        std::fs::copy(demo_clip(), folder.path().join(name)).unwrap();
    }
    let wrong = folder.path().join("wrong");
    std::fs::write(&wrong, "no media").unwrap();
    let mut site = Site::new("");
    site.folder = Some(folder.path().to_owned());
    let (mut old, between) = (site.start("2"), Between::new());
    let mut players = names.map(|name| Session::open(old.rtsp, &old.vod_url(name), Lower::Tcp));
    for player in &mut players {
        player.play(&[]);
        player.receive_packets(2, PATIENCE);
    }
    let [_, at, socket] = between.words();
    // Passes the offer on, in which a title is no media.
    let offer_wrong = |how: &str| {
        let files = tempfile::tempdir_in(scratch()).unwrap();
        let mut command = site.command("2", files.path());
        command.args([how, at, socket]).stdout(Stdio::null());
        command.stderr(std::fs::File::create(files.path().join("stderr")).unwrap());
        let new = Kept::start(&mut command);
        let mut talk = between.connect(&site);
        let hello = talk.hear().unwrap();
        talk.pass(&hello).unwrap();
        let mut offer = talk.hear().unwrap();
        offer.replace_title(names[0], std::fs::File::open(&wrong).unwrap());
        talk.pass(&offer).unwrap();
        let mut message = talk.hear();
        while let Some(next) = message {
            // Who has refused is gone before it is answered.
            let _gone = talk.pass(&next);
            message = talk.hear();
        }
        (new, files)
    };
    let (mut new, files) = offer_wrong("--takeover");
    assert_eq!(wait_for(&mut new.0, PATIENCE).unwrap().code(), Some(2));
    let said = std::fs::read_to_string(files.path().join("stderr")).unwrap();
    for part in ["1 titles that are played do not open", names[0], "--takeover=drop"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    old.assert_alive();
    old.assert_logs(names[0]);
    for player in &mut players {
        player.receive_packets(2, PATIENCE);
    }
    let (new, _files) = offer_wrong("--takeover=drop");
    assert_ended_well(&mut old);
    assert!(old.log().contains("1 of a title that does not open"), "{}", old.log());
    assert_eq!(crate::support::http::sessions(old.admin).len(), 1);
    players[1].receive_until_bye(PATIENCE);
    players[0].receive_until_ended(PATIENCE);
    assert!(players[0].streams[0].packets.len() < players[1].streams[0].packets.len());
    for stream in players.iter().flat_map(|player| &player.streams) {
        crate::support::rtp::assert_contiguous(&stream.packets);
    }
    end(new);
}

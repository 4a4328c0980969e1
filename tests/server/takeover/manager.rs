//! A takeover as a service manager orders it, and one with another configuration.

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use headend::takeover::ToOld;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::json;

use super::assert_ended_well;
use crate::support::http::{get_json, post_json};
use crate::support::process::{Kept, run_command, wait_for};
use crate::support::rtsp::Client;
use crate::support::server::Server;
use crate::support::session::{Lower, Session};
use crate::support::takeover::{Between, Site};
use crate::support::wait::{Deadline, PATIENCE, readable, until};
use crate::support::{demo_clip, scratch};

/// A service manager that only hears.
struct Manager {
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir_in(scratch()).unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { _folder: folder, path, socket }
    }

    /// The main process of which it hears, from that process.
    fn hear(&self) -> i32 {
        let text = self.hear_text();
        let main = text.strip_prefix("READY=1\n").unwrap_or_else(|| panic!("{text}"));
        main_process(main)
    }

    fn hear_text(&self) -> String {
        let mut bytes = [0; 256];
        let len = self.socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }

    fn command(&self, site: &Site, files: &Path) -> Command {
        let mut command = site.command("2", files);
        command.env("NOTIFY_SOCKET", &self.path);
        command
    }
}

fn main_process(text: &str) -> i32 {
    let pid = text.trim_end().strip_prefix("MAINPID=");
    pid.and_then(|pid| pid.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

/// The manager would end the new server with it.
#[test]
fn main_process_of_a_unit_that_does_not_hear_it_is_not_taken_over() {
    let site = Site::new("");
    let files = tempfile::tempdir_in(scratch()).unwrap();
    let inner = site.command("1", files.path());
    let mut command = Command::new("sh");
    command.args(["-c", "SYSTEMD_EXEC_PID=$$ exec \"$0\" \"$@\""]);
    command.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command.env_remove("NOTIFY_SOCKET");
    let mut old = Server::run(command, files);
    let refused = site.refused("1");
    assert!(refused.contains("Type=notify"), "{refused}");
    old.assert_alive();
}

#[test]
fn reload_of_a_unit_ends_when_the_new_server_is_its_main_process() {
    let (site, manager) = (Site::new(""), Manager::new());
    let files = tempfile::tempdir_in(scratch()).unwrap();
    let mut old = Server::run(manager.command(&site, files.path()), files);
    assert_eq!(manager.hear(), old.pid().cast_signed());
    let mut player = Session::open(old.rtsp, &old.demo_url(), Lower::Udp);
    player.play(&[]);
    player.receive_packets(2, PATIENCE);
    let files = tempfile::tempdir_in(scratch()).unwrap();
    let mut reload = manager.command(&site, files.path());
    let ended = run_command(reload.args(["--takeover", "--background"]), PATIENCE);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let main = manager.hear();
    assert_ended_well(&mut old);
    // Of the old one, which is heard where NotifyAccess=main holds.
    assert_eq!(main_process(&manager.hear_text()), main);
    player.receive_packets(2, PATIENCE);
    Client::connect(old.rtsp).request("OPTIONS", "*", &[]).expect(200);
    let pid = Pid::from_raw(main).unwrap();
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    player.receive_until_bye(PATIENCE);
    assert!(readable(&[process.as_fd()], Deadline::after(PATIENCE))[0], "it ends");
}

/// It is the one that the manager watches: when it ended, the service would be taken for ended.
#[test]
fn server_before_is_there_until_the_service_manager_is_told_of_the_new_one() {
    let site = Site::new("");
    let mut old = site.start("2");
    let mut player = Session::open(old.rtsp, &old.demo_url(), Lower::Udp);
    player.play(&[]);
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let path = folder.path().join("notify");
    let files = tempfile::tempdir_in(scratch()).unwrap();
    let mut command = site.command("2", files.path());
    command.env("NOTIFY_SOCKET", &path).arg("--takeover");
    let new = Server::run(command, files);
    new.assert_logs("HE-W126");
    old.assert_logs("HE-I412");
    player.receive_packets(2, PATIENCE);
    old.assert_alive();
    let socket = UnixDatagram::bind(&path).unwrap();
    let manager = Manager { _folder: folder, path, socket };
    manager.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(manager.hear(), new.pid().cast_signed());
    assert_ended_well(&mut old);
    player.receive_packets(2, PATIENCE);
}

/// The reload has failed then, and nothing is to have changed.
#[test]
fn server_whose_command_is_killed_before_it_has_the_right_does_not_take_over() {
    let (site, between) = (Site::new(""), Between::new());
    let mut old = site.start("2");
    let files = tempfile::tempdir_in(scratch()).unwrap();
    let mut reload = site.command("2", files.path());
    reload.args(between.words()).arg("--background").stdout(std::process::Stdio::null());
    let mut reload = Kept::start(&mut reload);
    let mut talk = between.connect(&site);
    let mut message = talk.hear().unwrap();
    reload.kill();
    // Hello, Offer, Freeze, two records, Frozen.
    for _ in 0..6 {
        talk.pass(&message).unwrap();
        message = talk.hear().unwrap();
    }
    let ToOld::Refused { why } = message.of_new() else { panic!("{:?}", message.of_new()) };
    assert!(why.contains("the command that has started this program has ended"), "{why}");
    talk.pass(&message).unwrap();
    old.assert_logs("HE-W411");
    old.assert_alive();
    Client::connect(old.rtsp).request("OPTIONS", "*", &[]).expect(200);
}

/// A hook that reloads the unit does not fail because of players, or of a server that is too old.
#[test]
fn reload_of_a_unit_reads_the_configuration_again_where_nothing_can_be_taken_over() {
    let mut site = Site::new("");
    site.config = site.config.replace("[server]\n", "[server]\ntakeover = \"off\"\n");
    let mut old = site.start("1");
    let reload = |site: &Site, main: &str| {
        let files = tempfile::tempdir_in(scratch()).unwrap();
        let mut command = site.command("1", files.path());
        command.env("MAINPID", main).args(["--takeover=or-reload", "--background"]);
        run_command(&mut command, PATIENCE)
    };
    let pid = old.pid().to_string();
    let wrong = Site { config: "[server]\nnothing = 1\n".to_owned(), ..Site::new("") };
    let ended = reload(&wrong, &pid);
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    old.write_config(&format!("{}[path.\"live/newer\"]\n", site.config));
    let ended = reload(&site, &pid);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    for part in ["server.takeover is off", "HE-W128", "reads its configuration again"] {
        assert!(ended.stderr.contains(part), "{part}: {ended:?}");
    }
    old.assert_logs("HE-I402");
    assert_eq!(old.log().matches("HE-I402").count(), 1, "{}", old.log());
    assert!(!old.log().contains("HE-E403"), "nobody has asked it to read the wrong file");
    old.assert_alive();
    let ended = reload(&site, "");
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    assert!(ended.stderr.contains("MAINPID"), "{ended:?}");
    let alone = site.run("1", &["--takeover=or-reload"]);
    assert_eq!(alone.status.code(), Some(2), "{alone:?}");
    assert!(alone.stderr.contains("--background"), "{alone:?}");
}

#[test]
fn reload_that_fails_says_why_and_has_the_exit_code_of_the_server() {
    let site = Site::new("");
    let ended = site.run("1", &["--takeover", "--background"]);
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    assert!(ended.stderr.contains("no server to take over from"), "{ended:?}");
}

#[test]
fn server_takes_over_whose_socket_is_to_be_elsewhere_or_nowhere() {
    let site = Site::new("");
    let mut old = site.start("1");
    let first = site.socket();
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let second = folder.path().join("own").join("socket");
    let with = |site: &Site, key: &str| {
        let config = site.config.replace("[server]\n", &format!("[server]\n{key}\n"));
        Site { config, ..Site::new("") }
    };
    let take_over = |site: &Site, words: &[&str]| {
        let files = tempfile::tempdir_in(scratch()).unwrap();
        let mut command = site.command("1", files.path());
        command.args(words);
        Server::run(command, files)
    };
    // Elsewhere.
    let elsewhere = with(&site, &format!("takeover = \"{}\"", second.display()));
    let refused = elsewhere.refused("1");
    assert!(refused.contains("--takeover-at"), "{refused}");
    let at = ["--takeover", "--takeover-at", first.to_str().unwrap()];
    let mut next = take_over(&elsewhere, &at);
    assert_ended_well(&mut old);
    until("the socket before is gone", || !first.exists());
    assert!(second.exists());
    // Nowhere.
    let nowhere = with(&site, "takeover = \"off\"");
    let refused = nowhere.refused("1");
    assert!(refused.contains("server.takeover is off"), "{refused}");
    let last = take_over(&nowhere, &["--takeover", "--takeover-at", second.to_str().unwrap()]);
    assert_ended_well(&mut next);
    until("the socket before is gone", || !second.exists());
    Client::connect(last.rtsp).request("OPTIONS", "*", &[]).expect(200);
}

/// The new server reads its files when it starts, and the old one goes on for a while.
#[test]
fn edit_of_a_playlist_that_comes_while_the_new_server_starts_is_kept() {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    std::fs::copy(demo_clip(), folder.path().join("film.mp4")).unwrap();
    let mut site = Site::new("[path.linear]\nplaylist = [\"film.mp4\"]\n");
    site.folder = Some(folder.path().to_owned());
    let (mut old, between) = (site.start("2"), Between::new());
    let files = tempfile::tempdir_in(scratch()).unwrap();
    let mut command = site.command("2", files.path());
    command.args(between.words()).stdout(std::process::Stdio::null());
    let mut new = Kept::start(&mut command);
    let mut talk = between.connect(&site);
    let mut message = talk.hear();
    for _ in 0..2 {
        talk.pass(&message.unwrap()).unwrap();
        message = talk.hear();
    }
    let path = "/v1/paths/linear/playlist:insert";
    let list = get_json(old.admin, "/v1/paths/linear/playlist");
    let edit = json!({ "title": "film.mp4", "after": list["items"][0]["item"] });
    let (status, answer) = post_json(old.admin, path, "", &edit);
    assert_eq!((status, &answer["kept"]), (200, &json!(true)), "{answer}");
    while let Some(next) = message {
        talk.pass(&next).unwrap();
        message = talk.hear();
    }
    assert_ended_well(&mut old);
    let list = get_json(old.admin, "/v1/paths/linear/playlist");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2), "{list}");
    kill_process(Pid::from_child(&new.0), Signal::TERM).unwrap();
    assert!(wait_for(&mut new.0, Duration::from_secs(20)).is_some());
}

#[test]
fn server_that_may_not_have_as_many_descriptors_says_so_and_the_old_one_goes_on() {
    let site = Site::new("");
    let mut old = site.start("1");
    let mut clients: Vec<_> = (0..300).map(|_| Client::connect(old.rtsp)).collect();
    for client in &mut clients {
        client.request("OPTIONS", "*", &[]).expect(200);
    }
    let files = tempfile::tempdir_in(scratch()).unwrap();
    let allowed = site.command("1", files.path());
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 200 && exec \"$0\" \"$@\" --takeover"]);
    command.arg(allowed.get_program()).args(allowed.get_args());
    for (name, value) in allowed.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let ended = run_command(&mut command, PATIENCE);
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    assert!(ended.stderr.contains("ulimit -n"), "{ended:?}");
    old.assert_alive();
    for client in &mut clients {
        client.request("OPTIONS", "*", &[]).expect(200);
    }
}

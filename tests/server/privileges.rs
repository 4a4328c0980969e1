//! What a running server has given up: its user, capabilities, files and system calls, as the
//! kernel shows them and as clients and operators notice.
//!
//! What only root can show is skipped, with a line that says so, for any other user. Folders lie in
//! /tmp, because another user has to reach them.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and says where"
)]

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use super::priority::threads;
use crate::support::base::Base;
use crate::support::media::title;
use crate::support::process::{PLAYER_PATIENCE, run, run_command};
use crate::support::server::{Options, Server, binary, command};
use crate::support::session::{Lower, Session};
use crate::support::wait::{PATIENCE, until};
use crate::support::{demo_clip, http, scratch};

/// Number of `nobody` and of its group.
const NOBODY: u32 = 65_534;

fn is_root(what: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("skipped: {what} takes root");
    }
    is_root
}

/// A folder that every user may read.
fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    folder
}

/// The lines of `/proc/PID/status` of each thread, by the thread's name and number.
fn tasks(pid: u32) -> BTreeMap<String, BTreeMap<String, String>> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let lines = |text: String| {
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        pairs.map(|(key, value)| (key.to_owned(), words(value))).collect::<BTreeMap<_, _>>()
    };
    let status = |task: std::fs::DirEntry| {
        // A thread may end while they are read.
        let lines = lines(std::fs::read_to_string(task.path().join("status")).ok()?);
        Some((format!("{} {:?}", lines["Name"], task.file_name()), lines))
    };
    tasks.filter_map(|task| status(task.unwrap())).collect()
}

/// Every thread of the process has this user, this group alone, no capability and both locks.
fn assert_nothing_is_kept(pid: u32, user: u32) {
    let tasks = tasks(pid);
    assert!(tasks.len() >= 3, "{tasks:?}");
    let ids = [user; 4].map(|id| id.to_string()).join(" ");
    for (task, status) in &tasks {
        let has = |key: &str, value: &str| assert_eq!(status[key], value, "{key} of {task}");
        has("Uid", &ids);
        has("Gid", &ids);
        has("Groups", &user.to_string());
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            has(set, "0000000000000000");
        }
        has("NoNewPrivs", "1");
        has("Seccomp", "2");
    }
}

/// An address of this host on which nobody has port 554.
fn free_554() -> SocketAddr {
    let last = u8::try_from(std::process::id() % 250 + 1).unwrap();
    let mut addresses = (1..=250).map(|third| SocketAddr::from(([127, 54, third, last], 554)));
    addresses.find(|addr| std::net::TcpListener::bind(addr).is_ok()).unwrap()
}

/// A title of the matrix in a folder that every user may read; its name.
fn served_title(folder: &Path) -> String {
    let file = title("h264_aac_faststart_mp4").file();
    std::fs::copy(&file, folder.join("film.mp4")).unwrap();
    std::fs::set_permissions(folder.join("film.mp4"), Permissions::from_mode(0o644)).unwrap();
    "film.mp4".to_owned()
}

fn play_with_ffmpeg(url: &str, transport: &str) {
    let words = ["-v", "error", "-rtsp_transport", transport, "-i", url, "-f", "null", "-"];
    run("ffmpeg", &words);
}

#[test]
fn server_that_was_root_serves_on_port_554_as_nobody() {
    if !is_root("a change of the user") {
        return;
    }
    let (media, state) = (open_folder(), open_folder());
    let name = served_title(media.path());
    let kept = state.path().join("kept/here");
    let config = format!(
        "[server]\nuser = \"nobody\"\nstate_dir = \"{}\"\n\
         [path.linear]\nplaylist = [\"film.mp4\"]\n",
        kept.display()
    );
    let listen = free_554().to_string();
    let files = open_folder();
    let folder = Some(media.path());
    let options = Options { folder, listen: &listen, config: Some(&config), ..Options::default() };
    let server = Server::run(command(&options, files.path()), files);
    assert!(server.banner.contains("sandbox user nobody "), "{}", server.banner);
    assert_eq!(server.rtsp.port(), 554);
    assert_nothing_is_kept(server.pid(), NOBODY);
    play_with_ffmpeg(&server.vod_url(&name), "udp");
    play_with_ffmpeg(&server.vod_url(&name), "tcp");
    // An edit is kept in a folder that was made as root and given away.
    let list = http::get_json(server.admin, "/v1/paths/linear/playlist");
    let item = list["items"][0]["item"].as_u64().unwrap();
    let edit = format!("{{\"title\": \"film.mp4\", \"after\": {item}}}");
    let (status, answer) = http::post_text(server.admin, "/v1/paths/linear/playlist:insert", &edit);
    assert!((200..300).contains(&status), "{status} {answer}");
    let file = kept.join("playlists/linear.json");
    until("the edit is kept", || file.exists());
    for path in [&kept, &kept.join("playlists"), &file] {
        let found = path.metadata().unwrap();
        assert_eq!((found.uid(), found.gid()), (NOBODY, NOBODY), "{}", path.display());
    }
    assert!(http::metric(server.admin, "process_open_fds").unwrap() > 5.0);
    assert!(http::metric(server.admin, "process_start_time_seconds").unwrap() > 1.0);
    server.write_config(&format!("{config}[path.\"live/new\"]\n"));
    server.signal_hup();
    server.assert_logs("HE-I402");
    // Threads that have started since have nothing either.
    assert_nothing_is_kept(server.pid(), NOBODY);
}

/// A configuration file that leads out of its folder when it is read again, into the other one.
fn reload_through_a_link(landlock: &str) -> (Server, tempfile::TempDir) {
    let (elsewhere, files) = (open_folder(), open_folder());
    let target = elsewhere.path().join("other.toml");
    let config = format!("[server]\nlandlock = \"{landlock}\"\n");
    std::fs::write(&target, &config).unwrap();
    let options = Options { config: Some(&config), ..Options::default() };
    let server = Server::run(command(&options, files.path()), files);
    let file = server.files().join("headend.toml");
    std::fs::remove_file(&file).unwrap();
    symlink(&target, &file).unwrap();
    server.signal_hup();
    until("it has read, or not", || {
        let log = server.log();
        log.contains("HE-I402") || log.contains("HE-E403")
    });
    (server, elsewhere)
}

#[test]
fn file_outside_of_the_folders_of_the_start_is_refused_with_the_reason() {
    let (server, _elsewhere) = reload_through_a_link("auto");
    let available = headend::sandbox::available();
    if !matches!(available, headend::sandbox::Landlock::Enforced { .. }) {
        println!("skipped: landlock is {available} here");
        return;
    }
    assert!(server.banner.contains("landlock on"), "{}", server.banner);
    let log = server.log();
    assert!(log.contains("HE-E403") && log.contains("lies outside of the folders"), "{log}");
    assert!(log.contains("other.toml") && log.contains("restart headend"), "{log}");
    let (status, answer) = http::post(server.admin, "/v1/config:reload");
    assert!(status >= 400 && answer.contains("lies outside of the folders"), "{answer}");
}

#[test]
fn file_outside_is_read_again_without_landlock() {
    let (server, _elsewhere) = reload_through_a_link("off");
    assert!(server.banner.contains("landlock off (server.landlock)"), "{}", server.banner);
    assert!(server.log().contains("HE-I402"), "{}", server.log());
}

#[test]
fn file_that_is_replaced_in_its_folder_is_read_again() {
    let config = "[path.\"live/a\"]\n";
    let server = Server::start(&Options { config: Some(config), ..Options::default() });
    let new = server.files().join("headend.toml.new");
    std::fs::write(&new, "[path.\"live/b\"]\n").unwrap();
    std::fs::rename(&new, server.files().join("headend.toml")).unwrap();
    server.signal_hup();
    server.assert_logs("HE-I402");
}

#[test]
fn title_that_leads_out_of_the_media_folder_does_not_play() {
    let (media, elsewhere) = (open_folder(), open_folder());
    let outside = elsewhere.path().join("secret.mp4");
    std::fs::copy(demo_clip(), &outside).unwrap();
    std::fs::copy(demo_clip(), media.path().join("open.mp4")).unwrap();
    symlink(&outside, media.path().join("link.mp4")).unwrap();
    let server = Server::with_folder(media.path());
    let mut session = Session::open(server.rtsp, &server.vod_url("open.mp4"), Lower::Tcp);
    session.play(&[]);
    session.receive_packets(3, PATIENCE);
    let words = ["-v", "error", "-i", &server.vod_url("link.mp4"), "-f", "null", "-"];
    let refused = run_command(Command::new("ffmpeg").args(words), PLAYER_PATIENCE);
    assert!(!refused.status.success() && refused.stderr.contains("404"), "{}", refused.stderr);
    assert!(!server.has_open("secret.mp4"));
}

#[test]
fn server_that_was_not_root_keeps_its_user_and_says_so() {
    if !is_root("to become an ordinary user") {
        return;
    }
    let mut shell = Command::new("sh");
    // A user of its own: the kernel counts what a user's rings lock.
    let script = "exec 7<\"$0\" && exec setpriv --reuid=65531 --regid=65531 --clear-groups -- \
                  /proc/self/fd/7 \"$@\"";
    shell.args(["-c", script]).arg(binary()).args(["serve", "--listen", "127.0.0.1:0"]);
    shell.args(["--admin", "127.0.0.1:0", "--rtp-port", "0", "--shards", "1", "--workers", "1"]);
    let server = Server::run(shell, tempfile::tempdir_in(scratch()).unwrap());
    let line = "sandbox user 65531 (not root: nothing to give up)   landlock ";
    assert!(server.banner.contains(line), "{}", server.banner);
    for (task, status) in tasks(server.pid()) {
        assert_eq!((&*status["NoNewPrivs"], &*status["Seccomp"]), ("1", "2"), "{task}");
        assert_eq!(status["CapEff"], "0000000000000000", "{task}");
    }
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    session.play(&[]);
    session.receive_packets(3, PATIENCE);
}

#[test]
fn capability_for_low_ports_is_gone_when_they_are_bound() {
    if !is_root("to hand a capability to an ordinary user") {
        return;
    }
    let files = tempfile::tempdir_in(scratch()).unwrap();
    let mut shell = Command::new("sh");
    // As a service manager does: AmbientCapabilities=CAP_NET_BIND_SERVICE.
    let script = "exec 7<\"$0\" && exec setpriv --reuid=65530 --regid=65530 --clear-groups \
                  --inh-caps=-all,+net_bind_service --ambient-caps=+net_bind_service -- \
                  /proc/self/fd/7 \"$@\"";
    shell.args(["-c", script]).arg(binary()).args(["serve", "--listen"]);
    shell.arg(free_554().to_string()).args(["--admin", "127.0.0.1:0", "--rtp-port", "0"]);
    shell.args(["--shards", "1", "--workers", "1"]);
    let server = Server::run(shell, files);
    assert_eq!(server.rtsp.port(), 554);
    assert_nothing_is_kept_by_capabilities(server.pid());
}

#[test]
fn shards_get_their_priority_from_root_that_is_given_up() {
    if !is_root("a change of the user") {
        return;
    }
    if let Err(error) = headend::shard::priority::try_fifo(20) {
        println!("skipped: {error}");
        return;
    }
    let (limit, sets) = (getrlimit(Resource::Rtprio).maximum, capabilities(None).unwrap());
    let can_raise = sets.effective.contains(CapabilitySet::SYS_RESOURCE);
    if limit.is_some_and(|limit| limit < 20) && !can_raise {
        println!("skipped: this root may not raise RLIMIT_RTPRIO");
        return;
    }
    let config = "[server]\nuser = \"nobody\"\nshard_priority = \"fifo:20\"\n";
    let files = open_folder();
    let options = Options { config: Some(config), ..Options::default() };
    let server = Server::run(command(&options, files.path()), files);
    assert!(!server.banner.contains("HE-W104"), "{}", server.banner);
    let threads = threads(server.pid());
    let shard = threads.iter().find(|thread| thread.name == "shard-0").unwrap();
    assert_eq!((shard.policy, shard.priority), (1, 20), "{threads:?}");
    assert_nothing_is_kept(server.pid(), NOBODY);
}

fn assert_nothing_is_kept_by_capabilities(pid: u32) {
    for (task, status) in tasks(pid) {
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status[set], "0000000000000000", "{set} of {task}");
        }
    }
}

#[test]
fn filter_and_landlock_are_off_when_they_are_told_to_be() {
    let config = "[server]\nseccomp = \"off\"\nlandlock = \"off\"\n";
    let server = Server::start(&Options { config: Some(config), ..Options::default() });
    assert!(server.banner.contains("seccomp off (server.seccomp)"), "{}", server.banner);
    assert!(tasks(server.pid()).values().all(|status| status["Seccomp"] == "0"));
    let config = "[server]\nseccomp = \"log\"\n";
    let server = Server::start(&Options { config: Some(config), ..Options::default() });
    assert!(server.banner.contains("seccomp log ("), "{}", server.banner);
    assert!(tasks(server.pid()).values().all(|status| status["Seccomp"] == "2"));
}

/// What a start that fails says, and its exit code.
fn refusal(command: &mut Command) -> (Option<i32>, String) {
    let finished = run_command(command, PATIENCE);
    (finished.status.code(), finished.stderr)
}

#[test]
fn user_that_cannot_be_had_ends_the_start_with_a_sentence() {
    let start = |words: &[&str]| {
        let mut command = Command::new(binary());
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.args(["--rtp-port", "0"]).args(words);
        refusal(&mut command)
    };
    let (code, said) = start(&["--user", "no-such-user"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("there is no user `no-such-user` on this machine"), "{said}");
    let (code, said) = start(&["--user", "a:b:c"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--user: `a:b:c` is no user like"), "{said}");
    if !is_root("a change of the user") {
        return;
    }
    // Root's own folder, with something in it, is not given away.
    let state = open_folder();
    std::fs::write(state.path().join("mine"), "").unwrap();
    let folder = state.path().to_str().unwrap();
    let (code, said) = start(&["--user", "nobody", "--state", folder]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("user `nobody` cannot write into this folder"), "{said}");
    assert!(said.contains(&format!("sudo chown -R nobody {folder}")), "{said}");
    assert_eq!(state.path().metadata().unwrap().uid(), 0);
    let closed = tempfile::tempdir().unwrap();
    std::fs::set_permissions(closed.path(), Permissions::from_mode(0o700)).unwrap();
    let (code, said) = start(&["--user", "nobody", closed.path().to_str().unwrap()]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("user `nobody` cannot read this folder"), "{said}");
    let mut shell = Command::new("sh");
    let script = "exec 7<\"$0\" && exec setpriv --reuid=1 --regid=1 --clear-groups -- \
                  /proc/self/fd/7 serve --user nobody --listen 127.0.0.1:0 --admin 127.0.0.1:0";
    let (code, said) = refusal(shell.args(["-c", script]).arg(binary()));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("only root can become user `nobody`, and this process is"), "{said}");
}

/// Every file below `folder` is `user`'s.
fn assert_owned(folder: &Path, user: u32) {
    let mut folders = vec![folder.to_owned()];
    let mut count = 0;
    while let Some(next) = folders.pop() {
        assert!(count < 10_000);
        assert_eq!(next.symlink_metadata().unwrap().uid(), user, "{}", next.display());
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            // A file of the ledger may be gone by now.
            let Ok(found) = path.symlink_metadata() else { continue };
            assert_eq!(found.uid(), user, "{}", path.display());
            count += 1;
            if found.is_dir() {
                folders.push(path);
            }
        }
    }
    assert!(count > 2, "{} is empty", folder.display());
}

#[test]
fn base_and_node_keep_their_files_as_nobody_and_deliver() {
    if !is_root("a change of the user") {
        return;
    }
    let (home, media) = (open_folder(), open_folder());
    let (data, media) = (home.path().join("base"), media.path().join("made/titles"));
    let base = Base::start_with(&data, &["--user", "nobody"]);
    assert!(base.banner.contains("sandbox  user nobody "), "{}", base.banner);
    let mut command = Command::new(binary());
    command.args(["node", "--insecure", "--user", "nobody", "--base", &base.url(), "--name", "n"]);
    command.args(["--join", &base.join_token(), "--peer-listen", "127.0.0.1:0", "--media"]);
    command.arg(&media).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.args(["--rtp-port", "0", "--shards", "1", "--workers", "1"]);
    let node = Server::run(command, tempfile::tempdir_in(scratch()).unwrap());
    assert!(node.banner.contains("sandbox user nobody "), "{}", node.banner);
    let film = served_title(home.path());
    let mut push = Command::new(binary());
    push.args(["job", "push"]).arg(home.path().join(&film));
    push.args(["--base", &base.url(), "--token", &base.token("provider.token")]);
    let pushed = run_command(&mut push, PLAYER_PATIENCE);
    assert!(pushed.status.success(), "{}{}\n{}", pushed.stdout, pushed.stderr, base.log());
    play_with_ffmpeg(&node.vod_url(&film), "tcp");
    assert_nothing_is_kept(node.pid(), NOBODY);
    assert_nothing_is_kept(base.pid(), NOBODY);
    assert_owned(&media, NOBODY);
    assert_owned(&data, NOBODY);
    assert_eq!(data.metadata().unwrap().mode() & 0o777, 0o700, "it has the keys of the base");
}

#[test]
fn base_says_which_user_must_read_its_tokens() {
    if !is_root("a change of the user") {
        return;
    }
    let home = open_folder();
    let tokens = home.path().join("tokens");
    std::fs::write(&tokens, "hdp_0123456789abcdef0123456789abcdef\n").unwrap();
    std::fs::set_permissions(&tokens, Permissions::from_mode(0o600)).unwrap();
    let mut start = Command::new(binary());
    start.args(["base", "--insecure", "--listen", "127.0.0.1:0", "--user", "nobody", "--data"]);
    start.arg(home.path().join("base")).arg("--provider-token-file").arg(&tokens);
    let (code, said) = refusal(&mut start);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("tokens: Permission denied (os error 13): user `nobody` must be"),
        "{said}"
    );
}

#[test]
fn base_with_a_command_for_repairs_confines_nothing_but_its_user() {
    let home = tempfile::tempdir_in(scratch()).unwrap();
    let base = Base::start_with(&home.path().join("base"), &["--repair-hook", "true"]);
    let off = "landlock off (commands of --repair-hook are run)   seccomp off (commands of";
    assert!(base.banner.contains(off), "{}", base.banner);
    assert!(tasks(base.pid()).values().all(|status| status["NoNewPrivs"] == "0"));
}

//! The program as its operator meets it: start, stop, folder, ports, numbers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed, and says where"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support;
use crate::support::http::{get, get_json, list, metric, sessions};
use crate::support::media::title;
use crate::support::process::{run_any, run_command};
use crate::support::rtsp::Client;
use crate::support::sandbox::{forbid, forbid_where};
use crate::support::server::{Options, Server, binary, command, percent_encoded};
use crate::support::session::{Lower, Session, describe};
use crate::support::wait::{PATIENCE, until};
use crate::support::{demo_clip, scratch};

#[test]
fn banner_shows_urls_to_try_and_what_was_skipped() {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    std::fs::copy(title("aac_m4a").file(), folder.path().join("a b.m4a")).unwrap();
    let server = Server::with_folder(folder.path());
    assert!(server.banner.contains(&server.vod_url("a b.m4a")), "{}", server.banner);
    assert!(server.banner.contains("io_uring"), "{}", server.banner);
    let server = Server::with_demo();
    assert!(server.banner.contains(&server.demo_url()), "{}", server.banner);
}

#[test]
fn sigterm_says_bye_to_all_and_exits_with_0() {
    let mut server = Server::with_demo();
    let mut udp = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    let mut tcp = Session::open(server.rtsp, &server.demo_url(), Lower::Tcp);
    for session in [&mut udp, &mut tcp] {
        session.play(&[]);
        session.receive_packets(5, PATIENCE);
    }
    server.signal_term();
    udp.receive_until_bye(PATIENCE);
    tcp.receive_until_bye(PATIENCE);
    drop((udp, tcp));
    assert_eq!(server.wait(Duration::from_secs(10)).and_then(|status| status.code()), Some(0));
}

#[test]
fn sigterm_ends_an_idle_server_that_has_connections() {
    let mut server = Server::with_demo();
    let _silent = Client::connect(server.rtsp);
    let _paused = Session::open(server.rtsp, &server.demo_url(), Lower::Tcp);
    server.signal_term();
    assert_eq!(server.wait(Duration::from_secs(10)).and_then(|status| status.code()), Some(0));
}

/// Waits until the banner is there, and finds the address of the line `word`.
fn address_of(banner: &str, word: &str) -> Option<std::net::SocketAddr> {
    let line = banner.lines().find(|line| line.starts_with(word))?;
    line.split_once("://")?.1.split(['/', ' ']).next()?.parse().ok()
}

#[test]
fn unread_standard_error_blocks_neither_clients_nor_shutdown() {
    use std::io::{Read, Write};
    let (mut unread, mut full) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&full, true).unwrap();
    while full.write(&[b'\n'; 512]).is_ok() {}
    rustix::io::ioctl_fionbio(&full, false).unwrap();
    serves_and_ends_with_standard_error(full.into());
    let mut log = String::new();
    unread.read_to_string(&mut log).unwrap();
    assert_eq!(log.trim(), "", "nothing could be written");
}

#[test]
fn full_or_closed_standard_error_blocks_neither_clients_nor_shutdown() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    serves_and_ends_with_standard_error(full.into());
    serves_and_ends_with_standard_error(closed.into());
}

/// A client has more lines logged than may be in a second, for longer than a second.
fn serves_and_ends_with_standard_error(stderr: std::process::Stdio) {
    use std::io::Read;
    let files = tempfile::tempdir_in(scratch()).unwrap();
    let mut command = command(&Options::default(), files.path());
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(stderr).spawn().unwrap();
    drop(command);
    let mut banner = String::new();
    let mut stdout = child.stdout.take().unwrap();
    while !banner.contains("ready in") {
        let mut block = [0; 4_096];
        let bytes = stdout.read(&mut block).unwrap();
        assert!(bytes > 0, "the server has ended: {banner}");
        banner.push_str(std::str::from_utf8(&block[..bytes]).unwrap());
    }
    let rtsp = address_of(&banner, "rtsp").unwrap();
    let admin = address_of(&banner, "admin").unwrap();
    let mut client = Client::connect(rtsp);
    let begun = std::time::Instant::now();
    let mut number = 0;
    // Lines about lines left out come once a second.
    while number < 1_000 || begun.elapsed() < Duration::from_millis(2_500) {
        number += 1;
        let url = format!("rtsp://{rtsp}/vod/none{number}.mp4");
        client.request("DESCRIBE", &url, &[]).expect(404);
    }
    client.request("DESCRIBE", &format!("rtsp://{rtsp}/demo"), &[]).expect(200);
    assert!(metric(admin, "headend_log_lines_limited_total").unwrap() > 0.0);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = support::process::wait_for(&mut child, Duration::from_secs(10));
    let _gone = child.kill();
    assert_eq!(status.and_then(|status| status.code()), Some(0));
}

#[test]
fn lines_that_strangers_cause_are_limited_and_counted_in_the_log() {
    let mut server = Server::with_demo();
    let mut client = Client::connect(server.rtsp);
    for number in 0..1_000 {
        let url = server.url(&format!("vod/none{number}.mp4?token=s3cret"));
        let url = url.replace("rtsp://", "rtsp://me:s3cret@");
        client.request("DESCRIBE", &url, &[]).expect(404);
    }
    until("the log says how many lines were left out", || {
        server.log().contains("title not opened: ") && server.log().contains(" more like this")
    });
    let limited = metric(server.admin, "headend_log_lines_limited_total").unwrap();
    let lines = server.log().matches("\"failure\":").count();
    assert!(limited > 0.0 && lines < 1_000, "{lines} lines, {limited} left out");
    assert!(!server.log().contains("s3cret") && server.log().contains("token=..."));
    server.signal_term();
    assert_eq!(server.wait(Duration::from_secs(10)).and_then(|status| status.code()), Some(0));
    assert!(server.log().contains("SIGTERM"), "the last lines are written at the end");
}

#[test]
fn login_shells_limit_on_descriptors_is_enough_to_serve_with_a_warning() {
    let server = Server::start(&Options { open_files: Some(1_024), ..Options::default() });
    assert!(server.banner.contains("HE-W103"), "{}", server.banner);
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    session.play(&[]);
    session.receive_packets(5, PATIENCE);
}

#[test]
fn ordinary_user_with_the_memory_limit_of_a_container_is_served_with_a_warning() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root becomes another user");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let film = path.join("film.m4a");
    std::fs::copy(title("aac_m4a").file(), &film).unwrap();
    // Not in the page cache, so that workers read it from the disk.
    let file = std::fs::File::open(&film).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let options = Options { as_ordinary_user: true, folder: Some(path), ..Options::default() };
    let mut server = Server::start(&options);
    assert!(server.banner.contains("HE-W108"), "{}", server.banner);
    for url in [server.vod_url("film.m4a"), server.demo_url()] {
        let mut session = Session::open(server.rtsp, &url, Lower::Udp);
        session.play(&[]);
        session.receive_packets(5, PATIENCE);
    }
    server.signal_term();
    assert_eq!(server.wait(Duration::from_secs(10)).and_then(|status| status.code()), Some(0));
}

#[test]
fn port_in_use_is_reported_in_one_sentence_with_exit_code_2() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let demo = ["--admin", "127.0.0.1:0", "--rtp-port", "0", "--shards", "1", "--workers", "1"];
    let binary = binary();
    let ended = run_any(
        &binary.to_string_lossy(),
        &[&["serve", "--listen", &address], &demo[..]].concat(),
        PATIENCE,
    );
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    assert!(ended.stderr.contains(&address), "{ended:?}");
    assert_eq!(ended.stderr.trim_end().lines().count(), 1, "{ended:?}");
}

#[test]
fn server_that_was_killed_starts_again_on_the_same_port() {
    let mut server = Server::with_demo();
    let listen = server.rtsp.to_string();
    // Bounded: each round is one restart.
    for _ in 0..5 {
        // Rings with work under way are what the kernel takes its time to close.
        let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Tcp);
        session.play(&[]);
        session.receive_packets(5, PATIENCE);
        server.kill();
        server = Server::start(&Options { listen: &listen, ..Options::default() });
    }
    describe(&mut Client::connect(server.rtsp), &server.demo_url());
}

#[test]
fn hangup_without_a_configuration_file_changes_nothing() {
    let mut server = Server::with_demo();
    server.signal_hup();
    until("the log says why", || server.log().contains("HE-W403"));
    server.assert_alive();
}

#[test]
fn forbidden_io_uring_is_reported_in_one_sentence_with_exit_code_2() {
    let refusals = [
        (libc::SYS_io_uring_setup, libc::EPERM),
        (libc::SYS_io_uring_setup, libc::ENOSYS),
        (libc::SYS_io_uring_enter, libc::EPERM),
        (libc::SYS_io_uring_register, libc::EPERM),
    ];
    for (number, errno) in refusals {
        let files = tempfile::tempdir_in(scratch()).unwrap();
        let mut command = command(&Options::default(), files.path());
        forbid(&mut command, number, errno);
        let ended = run_command(&mut command, PATIENCE);
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        assert_eq!(ended.stderr.trim_end().lines().count(), 1, "{ended:?}");
        for word in ["io_uring is not available", "seccomp", "io_uring_setup"] {
            assert!(ended.stderr.contains(word), "{word}: {ended:?}");
        }
        assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    }
}

#[test]
fn ring_that_lacks_a_feature_or_gets_no_memory_ends_the_start_with_a_sentence() {
    let (setup, register) = (libc::SYS_io_uring_setup, libc::SYS_io_uring_register);
    // The ring that asks for what shards need has 8 entries. 13 registers files, 22 a ring of
    // buffers.
    let cases = [
        ((setup, (0, 8), libc::EINVAL), 2, "lacks deferred task work, which Linux 6.1 has"),
        ((register, (1, 13), libc::ENOMEM), 1, "no memory for its registered files"),
        ((register, (1, 22), libc::ENOMEM), 1, "no memory for its receive buffers"),
    ];
    for ((number, argument, errno), code, text) in cases {
        let files = tempfile::tempdir_in(scratch()).unwrap();
        let mut command = command(&Options::default(), files.path());
        forbid_where(&mut command, number, argument, errno);
        let ended = run_command(&mut command, PATIENCE);
        assert_eq!(ended.status.code(), Some(code), "{ended:?}");
        assert!(ended.stderr.contains(text), "{text}: {ended:?}");
        assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    }
}

#[test]
fn several_instances_run_side_by_side() {
    let servers: Vec<_> = (0..3).map(|_| Server::with_demo()).collect();
    for server in &servers {
        let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
        session.play(&[]);
        session.receive_packets(5, PATIENCE);
        assert_eq!(sessions(server.admin).len(), 1);
    }
}

#[test]
fn file_dropped_into_the_folder_is_playable_without_a_restart() {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let server = Server::with_folder(folder.path());
    let url = server.vod_url("new/film.m4a");
    let mut client = Client::connect(server.rtsp);
    client.request("DESCRIBE", &url, &[]).expect(404);
    std::fs::create_dir(folder.path().join("new")).unwrap();
    std::fs::copy(title("aac_m4a").file(), folder.path().join("new/film.m4a")).unwrap();
    let mut session = Session::open(server.rtsp, &url, Lower::Tcp);
    session.play(&[]);
    session.receive_packets(5, PATIENCE);
}

#[test]
fn folder_of_a_thousand_titles_is_not_read_before_it_is_asked_for() {
    // Ready at once because nothing is opened: no file of the folder has been read when the
    // server says `ready` (it counts what it opens; the clock is not asked).
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let film = title("aac_m4a").file();
    for i in 0..1_000 {
        let to = folder.path().join(format!("{i:04}.m4a"));
        std::fs::hard_link(&film, &to).or_else(|_| std::fs::copy(&film, &to).map(|_| ())).unwrap();
    }
    let server = Server::with_folder(folder.path());
    assert!(!server.has_open(".m4a"));
    assert_eq!(names_of_all_titles(&server).len(), 1_000);
    describe(&mut Client::connect(server.rtsp), &server.vod_url("0999.m4a"));
}

/// Every page of `GET /v1/vod`.
fn names_of_all_titles(server: &Server) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut path = "/v1/vod".to_owned();
    // Bounded by far more pages than there are.
    for _ in 0..1_000 {
        let page = get_json(server.admin, &path);
        let cursor = page["next_cursor"].as_str().map(percent_encoded);
        names.extend(list(page).iter().map(|title| title["name"].as_str().unwrap().to_owned()));
        let Some(cursor) = cursor else { return names };
        path = format!("/v1/vod?cursor={cursor}");
    }
    panic!("the pages do not end");
}

#[test]
fn metrics_follow_the_conventions_and_count_what_happens() {
    let server = Server::with_demo();
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    session.play(&[]);
    session.receive_packets(20, PATIENCE);
    Client::connect(server.rtsp).request("DESCRIBE", &server.url("nothing"), &[]).expect(404);
    let (_, text) = get(server.admin, "/metrics");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        assert!(name.starts_with("headend_") || name.starts_with("process_"), "{line}");
    }
    for name in
        ["headend_sessions", "headend_rtsp_requests_total", "headend_rtp_packets_sent_total"]
    {
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
    }
    let count = |name| metric(server.admin, name).unwrap_or_else(|| panic!("no {name}"));
    assert!(count("headend_sessions") >= 1.0);
    assert!(count("headend_rtp_packets_sent_total") >= 40.0);
    let not_found = text
        .lines()
        .find(|l| l.starts_with("headend_rtsp_requests_total") && l.contains("\"404\""))
        .expect("requests by method and code");
    assert!(not_found.contains("method=\"DESCRIBE\"") && not_found.ends_with(" 1"), "{not_found}");
}

#[test]
fn sessions_are_listed_with_what_an_operator_asks_for() {
    let server = Server::with_demo();
    assert!(sessions(server.admin).is_empty());
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    session.play(&[("Range", "npt=5-")]);
    session.receive_packets(20, PATIENCE);
    let listed = sessions(server.admin);
    let shown = &listed[0];
    assert_eq!(shown["id"], session.id);
    assert_eq!(shown["state"], "playing");
    assert_eq!(shown["transport"], "udp");
    assert!(shown["npt_s"].as_f64().unwrap() >= 5.0, "{shown}");
    let streams = shown["streams"].as_array().unwrap();
    assert_eq!(streams.len(), 2);
    for (shown, stream) in streams.iter().zip(&session.streams) {
        assert!(shown["packets_sent"].as_u64().unwrap() >= 20);
        let ssrc = format!("{:08x}", stream.announced_ssrc().unwrap());
        assert!(shown["ssrc"].as_str().unwrap().to_lowercase().ends_with(&ssrc), "{shown}");
    }
}

#[test]
fn health_is_answered_for_machines() {
    let server = Server::with_demo();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(server.admin, path).0, 200, "{path}");
    }
    assert_eq!(get(server.admin, "/nothing").0, 404);
}

#[test]
fn probe_shows_tracks_and_problems_of_a_file() {
    let binary = binary();
    let program = binary.to_string_lossy();
    let clip = demo_clip().to_string_lossy().into_owned();
    let good = run_any(&program, &["probe", &clip], PATIENCE);
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    for word in ["H264", "MPEG4-GENERIC"] {
        assert!(good.stdout.to_uppercase().contains(word), "{}", good.stdout);
    }
    let bad = scratch().join("probe_of_no_media.mp4");
    std::fs::write(&bad, b"no media").unwrap();
    let refused = run_any(&program, &["probe", &bad.to_string_lossy()], PATIENCE);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(!refused.stderr.is_empty() && !refused.stderr.contains("panicked"), "{refused:?}");
}

#[test]
fn doctor_ends_by_itself_and_names_each_check() {
    let binary = binary();
    let ended = run_any(&binary.to_string_lossy(), &["doctor"], PATIENCE);
    assert!(ended.status.code().is_some(), "{ended:?}");
    assert!(ended.stdout.contains("io_uring") && ended.stdout.contains("rmem_max"), "{ended:?}");
}

#[test]
fn configuration_with_an_unknown_key_is_refused_with_exit_code_2() {
    let files = tempfile::tempdir_in(scratch()).unwrap();
    let options =
        Options { config: Some("[rtsp]\nsession_timout = \"9s\"\n"), ..Options::default() };
    let output = command(&options, files.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    // With the key that was meant.
    assert!(text.contains("session_timout") && text.contains("session_timeout"), "{text}");
}

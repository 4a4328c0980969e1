//! Five hundred sessions of the built-in clip on one shard, and not one packet lost; then all else
//! that `headend-loadgen` can do to the server at once, and the counts of it.
//!
//! `headend-loadgen` counts what arrives by sequence number on every session. Losses are counted,
//! time is not: what lateness there was is printed for people and judged nowhere, because the
//! machine that runs the tests may be busy with anything.
//!
//! Every session plays to the end of the title, so that the tail is counted too: a player that
//! hangs up in the middle cannot tell a lost packet from one that was on its way.
//!
//! This file is a test program of its own so that cargo runs it beside no other test. Builds
//! without optimisation will do: what they hold, a release build holds with ease.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and says where"
)]

mod support;

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use support::process::{Kept, run_any, wait_for};
use support::server::{Options, Server, loadgen};
use support::wait::{PATIENCE, until, until_within};
use support::{demo_clip, folder_with, http};

fn five_hundred_sessions_lose_nothing(transport: &str) {
    let mut server = Server::with_demo();
    let url = server.demo_url();
    let args = ["-n", "500", "--transport", transport, "--to-end"];
    let report = run_any(
        &loadgen().to_string_lossy(),
        &[&args[..], &["--json", "--fail-on-loss", &url]].concat(),
        Duration::from_secs(120),
    );
    println!("{}", report.stdout);
    assert!(report.status.success(), "{}\n{}", report.stdout, report.stderr);
    let json: serde_json::Value = serde_json::from_str(&report.stdout).expect("a JSON report");
    // Zero lost of nothing would be no proof: all of them played, and packets came.
    assert_eq!(json["sessions"]["completed"], 500, "{json}");
    assert_eq!(json["total"]["lost"], 0, "{json}");
    let packets = json["total"]["packets"].as_u64().unwrap();
    // 500 pictures and 470 packets of sound, roughly, to each; and to each the same number.
    assert!(packets > 500 * 500 && packets.is_multiple_of(500), "{json}");
    server.assert_alive();
}

#[test]
fn five_hundred_udp_sessions_on_one_shard_lose_nothing() {
    five_hundred_sessions_lose_nothing("udp");
}

/// Titles, transports, seeks, drops, stalled readers and the page, in one run. What came depends on
/// the time it took; what was asked for does not.
#[test]
fn mix_of_seeks_and_stalled_readers_adds_up() {
    let clip = demo_clip();
    let folder = folder_with(&[&clip]);
    let mut server = Server::with_folder(folder.path());
    let page = folder.path().join("report.html");
    let (demo, file) = (format!("{}=3", server.demo_url()), server.vod_url("demo.mp4"));
    let (pid, page_path) = (server.pid().to_string(), page.to_string_lossy().into_owned());
    let steps = "play 300ms-600ms; pause 200ms; seek 0%-50%; play 300ms; jump 0s-5s; play 300ms; \
                 pause 100ms; repeat";
    let args = [
        ["--sessions", "32", "--transport", "udp=3,tcp=1", "--duration", "4s"],
        ["--script", steps, "--drop", "10%", "--seed", "7"],
        ["--stall", "2", "--stall-after", "1s", "--server-pid", &pid],
    ];
    let last = ["--json", "--fail-on-loss", "--html", &page_path, &demo, &file];
    let args = [args.concat(), last.to_vec()].concat();
    let report = run_any(&loadgen().to_string_lossy(), &args, Duration::from_secs(120));
    println!("{}", report.stdout);
    assert!(report.status.success(), "{}\n{}", report.stdout, report.stderr);
    let json: serde_json::Value = serde_json::from_str(&report.stdout).expect("a JSON report");
    let count = |path: &str| json.pointer(path).and_then(serde_json::Value::as_u64).expect("count");
    assert_eq!((count("/sessions/completed"), count("/sessions/stalled")), (32, 2), "{json}");
    let parts: Vec<u64> = (0..4).map(|part| count(&format!("/parts/{part}/sessions"))).collect();
    assert_eq!(parts, [18, 6, 6, 2], "three to one, and three to one of each");
    // Every seek landed where the server said, in numbers, time and source.
    for oddity in ["lost", "wrong_rtp_time", "wrong_ssrc", "changed_ssrc", "malformed", "silent"] {
        assert_eq!(count(&format!("/total/{oddity}")), 0, "{oddity}: {json}");
    }
    // Thirty of them go through the steps at least once.
    assert!(count("/acts/seeks") >= 60 && count("/acts/pauses") >= 60, "{json}");
    assert_eq!(count("/acts/skipped"), 0, "the clip has a length");
    assert!(count("/total/dropped") > 0 && count("/receiver_reports") > 0, "{json}");
    assert!(json.pointer("/server/cpu_seconds").is_some(), "{json}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.ends_with("</html>\n") && page.contains("id=\"plots\""), "a page with plots");
    server.assert_alive();
}

/// Two publishers of one path, and an operator who switches from one to the other at random.
#[test]
fn two_hundred_readers_lose_nothing_across_a_hundred_switches() {
    let config = "[path.\"live/a\"]\nfallback = [\"live/b\"]\nstandby = true\n\
        switch_interval = \"100ms\"\n";
    let mut server = Server::start(&Options { config: Some(config), ..Options::default() });
    let [path, other] = ["live/a", "live/b"].map(|path| server.url(path));
    let film = ["--bit-rate", "200k", "--gop", "6", "--duration", "1h"];
    let publish = |url: &str| {
        let mut command = Command::new(loadgen());
        Kept::start(command.args(film).args(["--publish", url]))
    };
    let _publishers = [publish(&path), publish(&other)];
    let failover = || http::get_json(server.admin, "/v1/paths/live/a")["failover"].clone();
    until("both send", || {
        let sources = failover();
        sources["sources"][0]["state"] == "active" && sources["sources"][1]["state"] == "standby"
    });
    let mut readers = Command::new(loadgen())
        .args(["-n", "200", "--transport", "udp=1,tcp=1", "--duration", "1h", "--json", &path])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let playing = || http::readers(server.admin).iter().filter(|s| s["state"] == "playing").count();
    until("two hundred readers", || playing() == 200);
    let (mut dice, mut done, mut changes) = (0x2545_F491_4F6C_DD1D_u64, 0, 0);
    until_within(Duration::from_secs(120), "a hundred switches", || {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (to, at) = (dice >> 33 & 1, if dice >> 40 & 1 == 0 { "now" } else { "keyframe" });
        let body = format!(r#"{{"to": "{to}", "at": "{at}"}}"#);
        let (status, text) = http::post_text(server.admin, "/v1/paths/live/a:switch", &body);
        assert!(matches!(status, 200 | 429), "{status}: {text}");
        done += u32::from(status == 200);
        changes += u32::from(text.contains("\"switched\":true"));
        changes >= 100
    });
    kill_process(Pid::from_child(&readers), Signal::INT).unwrap();
    let mut stdout = readers.stdout.take().unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stdout, &mut text).unwrap();
    assert!(wait_for(&mut readers, PATIENCE).is_some_and(|status| status.success()), "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).expect("a JSON report");
    for oddity in ["lost", "reordered", "duplicates", "changed_ssrc", "malformed", "silent"] {
        assert_eq!(json["total"][oddity], 0, "{oddity} in {changes} changes: {json}");
    }
    let packets = json["total"]["packets"].as_u64().unwrap();
    assert!(packets > 200 * 100, "{json}");
    let switches = http::metric(server.admin, "headend_handovers_total").unwrap();
    println!("{changes} changes of the source, {packets} packets");
    assert!(switches >= f64::from(changes), "{switches}");
    server.assert_alive();
}

#[test]
fn interrupted_run_says_goodbye_and_reports() {
    let mut server = Server::with_demo();
    let url = server.demo_url();
    let mut child = Command::new(loadgen())
        .args(["-n", "20", "--duration", "1h", "--json", &url])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("twenty sessions", || http::sessions(server.admin).len() == 20);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    // The report is a few pages: waiting first could fill the pipe, reading ends with the child.
    let mut stdout = child.stdout.take().unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stdout, &mut text).unwrap();
    let status = wait_for(&mut child, PATIENCE).expect("it ends by itself");
    assert!(status.success(), "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).expect("a JSON report");
    assert_eq!(json["is_interrupted"], true, "{json}");
    let ended = [&json["sessions"]["completed"], &json["sessions"]["cancelled"]];
    assert_eq!(ended.iter().filter_map(|n| n.as_u64()).sum::<u64>(), 20, "{json}");
    until("all TEARDOWNs", || http::sessions(server.admin).is_empty());
    server.assert_alive();
}

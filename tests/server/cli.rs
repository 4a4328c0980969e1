//! The program as a shell sees it: streams and exit codes.
//!
//! Every command here ends by itself; none of them serves.
#![expect(clippy::unwrap_used, reason = "a test whose program does not start has failed")]

use std::process::{Command, Output};

fn headend(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headend"));
    // Variables of whoever runs the tests are not part of them.
    command.args(words).env_clear().output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn version_and_help_go_to_standard_output() {
    let version = headend(&["--version"]);
    assert_eq!(stdout(&version), concat!("headend ", env!("CARGO_PKG_VERSION"), "\n"));
    let help = headend(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(stdout(&help).contains("Examples:\n  headend "));
}

#[test]
fn usage_errors_exit_with_2_and_say_why_on_standard_error() {
    let cases: [(&[&str], &str); 6] = [
        (&["--no-such-flag"], "--no-such-flag"),
        (&["/nonexistent/movies"], "/nonexistent/movies"),
        (&["--listen", "localhost"], "--listen: `localhost` is not an address"),
        (&["serve", "--shards", "3-1"], "--shards: the range 3-1 runs backwards"),
        (&["-c", "/nonexistent/headend.toml"], "/nonexistent/headend.toml: "),
        (&["probe", "/"], "/ is not a regular file"),
    ];
    for (words, why) in cases {
        let output = headend(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert_eq!(stdout(&output), "", "{words:?}");
        assert!(stderr(&output).contains(why), "{words:?}: {}", stderr(&output));
    }
}

#[test]
fn missing_file_is_a_failure_of_probe() {
    let output = headend(&["probe", "/nonexistent/film.mp4"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("headend: /nonexistent/film.mp4: "));
}

#[test]
fn configuration_is_checked_by_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("headend.toml");
    let path = path.to_str().unwrap();

    std::fs::write(path, headend(&["config", "default"]).stdout).unwrap();
    let good = headend(&["config", "check", "-c", path]);
    assert_eq!((good.status.code(), stdout(&good)), (Some(0), format!("{path}: ok\n")));

    std::fs::write(path, "[rtsp]\nlissten = []\n").unwrap();
    let bad = headend(&["config", "check", "-c", path]);
    assert_eq!(bad.status.code(), Some(2));
    let why = format!("{path}:2:1: unknown key `rtsp.lissten`; did you mean `rtsp.listen`?\n");
    assert_eq!(stderr(&bad), format!("headend: {why}"));
}

#[test]
fn paths_are_checked_and_shown_without_passwords() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("headend.toml");
    let path = path.to_str().unwrap();
    let source = "source = \"rtsp://user:s3cret@192.0.2.1/x\"\n";
    let text = format!("[path.\"live/a\"]\n{source}[path.b]\npublish = [\"any\"]\n");
    std::fs::write(path, text).unwrap();
    let checked = stdout(&headend(&["config", "check", "-c", path]));
    assert!(checked.contains("[warn] ") && checked.contains("HE-W106"), "{checked}");
    for shown in [&["config", "show", "-c", path][..], &["config", "show", "--json", "-c", path]] {
        let shown = stdout(&headend(shown));
        assert!(shown.contains("rtsp://192.0.2.1/x") && !shown.contains("s3cret"), "{shown}");
    }
    std::fs::write(path, "[path.b]\non_demand = true\n").unwrap();
    let refused = headend(&["config", "check", "-c", path]);
    assert_eq!(refused.status.code(), Some(2));
    let why = format!("{path}:2:13: path.\"b\".on_demand: means nothing here");
    assert!(stderr(&refused).contains(&why), "{}", stderr(&refused));
}

#[test]
fn variables_are_part_of_what_config_shows() {
    let output = Command::new(env!("CARGO_BIN_EXE_headend"))
        .args(["config", "show"])
        .env_clear()
        .env("HEADEND__RTSP__UDP__RTP", "6970")
        .output()
        .unwrap();
    assert!(stdout(&output).contains("\nudp.rtp = 6970  # env\n"));
}

#[test]
fn doctor_gives_every_finding_a_cause_and_a_fix() {
    let output = headend(&["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let failed = report["failed"].as_u64().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(failed > 0)));
    for check in report["checks"].as_array().unwrap() {
        let level = check["level"].as_str().unwrap();
        let is_finding = ["tip", "warn", "fail"].contains(&level);
        assert_eq!(check["fix"].is_string(), is_finding, "{check}");
        assert_eq!(check["cause"].is_string(), is_finding || level == "skip", "{check}");
    }
}

#[test]
fn fixes_of_doctor_are_a_script_that_a_shell_can_read() {
    let output = headend(&["doctor", "--fix-script"]);
    assert_eq!(output.status.code(), Some(0));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fix.sh");
    std::fs::write(&path, &output.stdout).unwrap();
    // Read, not run.
    let checked = Command::new("sh").arg("-n").arg(&path).output().unwrap();
    assert!(checked.status.success(), "{}", stderr(&checked));
    assert!(stdout(&output).starts_with("#!/bin/sh\n"));
}

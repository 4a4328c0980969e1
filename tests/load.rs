//! Five hundred sessions of the built-in clip on one shard, and not one packet lost.
//!
//! `headend-loadgen` counts what arrives by sequence number on every session. Losses are counted,
//! time is not: what lateness there was is printed for people and judged nowhere, because the
//! machine that runs the tests may be busy with anything.
//!
//! Every session plays to the end of the title, so that the tail is counted too: a player that
//! hangs up in the middle cannot tell a lost packet from one that was on its way.
//!
//! This file is a test binary of its own so that cargo runs it beside no other test. Builds without
//! optimisation will do: what they hold, a release build holds with ease.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and says where"
)]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use support::process::run_any;
use support::server::{Server, binary};

/// Next to the server's own binary: `cargo build --workspace` puts both there.
fn loadgen() -> PathBuf {
    let path = std::env::var_os("HEADEND_LOADGEN_BIN")
        .map_or_else(|| binary().with_file_name("headend-loadgen"), PathBuf::from);
    assert!(path.exists(), "{} is missing: cargo build --workspace", path.display());
    path
}

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

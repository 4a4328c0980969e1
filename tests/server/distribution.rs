//! A job brings contents to nodes, whose links are limited, and everything that can end does end in
//! the middle of it. No time is asserted: `scripts/distribution.sh` measures.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::Runtime;

use crate::support::distribution::{Distribution, Setup};
use crate::support::lab::Lab;
use crate::support::network::in_own_network;
use crate::support::process::{Kept, wait_for};
use crate::support::scratch;
use crate::support::wait::{PATIENCE, until_within};

/// A file of bytes that do not compress or repeat.
fn content(name: &str, bytes: usize) -> PathBuf {
    let path = scratch().join(name);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = (0..bytes.div_ceil(8)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    std::fs::write(&path, words.take(bytes).collect::<Vec<_>>()).unwrap();
    path
}

fn start(nodes: usize) -> Distribution {
    let headend = env!("CARGO_BIN_EXE_headend").as_ref();
    Distribution::start(headend, scratch(), nodes, RATE)
}

#[test]
fn content_reaches_four_nodes_and_leaves_the_base_once() {
    in_own_network(
        module_path!(),
        "content_reaches_four_nodes_and_leaves_the_base_once",
        "true",
        || {
            let content = content("cascade.bin", CONTENT_BYTES);
            let lab = start(4);
            let before = lab.lab.sent_bytes(0);
            lab.push(&[&content]);
            lab.assert_delivered(&content);
            let sent = lab.lab.sent_bytes(0) - before;
            // Headers of packets are 4.5 %.
            assert!(sent < (CONTENT_BYTES as u64) * 115 / 100, "{sent} bytes left the base");
        },
    );
}

#[test]
fn node_that_is_killed_goes_on_where_it_was() {
    in_own_network(module_path!(), "node_that_is_killed_goes_on_where_it_was", "true", || {
        let content = content("resume.bin", CONTENT_BYTES);
        let mut lab = start(3);
        let before: Vec<_> = (1..=3).map(|node| lab.lab.received_bytes(node)).collect();
        let mut push = lab.client_command(&["job", "push", content.to_str().unwrap()]);
        let mut push = Kept::start(&mut push);
        let half = before[1] + CONTENT_BYTES as u64 / 2;
        until_within(PATIENCE, "half of it", || lab.lab.received_bytes(2) > half);
        lab.kill_node(2);
        lab.start_node(2);
        let ended = wait_for(&mut push.0, PATIENCE * 4);
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
        lab.assert_delivered(&content);
        let received = lab.lab.received_bytes(2) - before[1];
        assert!(received < CONTENT_BYTES as u64 * 125 / 100, "{received} bytes came");
    });
}

#[test]
fn base_that_is_killed_completes_the_job_when_it_is_back() {
    in_own_network(
        module_path!(),
        "base_that_is_killed_completes_the_job_when_it_is_back",
        "true",
        || {
            let content = content("base.bin", CONTENT_BYTES);
            let mut lab = start(2);
            let pushed = lab.client(&["job", "push", "--detach", content.to_str().unwrap()]);
            assert!(pushed.status.success(), "{}", pushed.stderr);
            lab.kill_base();
            lab.start_base();
            until_event(&lab, "job.completed", None);
            lab.assert_delivered(&content);
        },
    );
}

#[test]
fn lost_node_holds_up_nobody_else() {
    in_own_network(module_path!(), "lost_node_holds_up_nobody_else", "true", || {
        let content = content("lost.bin", CONTENT_BYTES);
        let mut lab = start(3);
        let before = lab.lab.received_bytes(3);
        let pushed = lab.client(&["job", "push", "--detach", content.to_str().unwrap()]);
        assert!(pushed.status.success(), "{}", pushed.stderr);
        until_within(PATIENCE, "some of it", || lab.lab.received_bytes(3) > before + (1 << 20));
        lab.kill_node(1);
        until_event(&lab, "delivery.completed", Some(2));
        until_event(&lab, "delivery.completed", Some(3));
        lab.start_node(1);
        until_event(&lab, "delivery.completed", Some(1));
        lab.assert_delivered(&content);
    });
}

/// Waits for an event of the only job, at a node or at any.
fn until_event(lab: &Distribution, kind: &str, node: Option<usize>) {
    let (client, node) = (lab.api(), node.map(Distribution::name));
    let waiting = async {
        let jobs = client.found("/v1/jobs").await;
        let job = jobs["jobs"][0]["job_id"].as_str().unwrap();
        let is_there =
            |event: &Value| node.as_ref().is_none_or(|node| event["node"] == node.as_str());
        client.event(job, |event| event["kind"] == kind && is_there(event)).await
    };
    Runtime::new().unwrap().block_on(waiting);
}

#[test]
fn node_that_starts_while_the_base_is_away_completes_its_file() {
    in_own_network(
        module_path!(),
        "node_that_starts_while_the_base_is_away_completes_its_file",
        "true",
        || {
            let content = content("away.bin", CONTENT_BYTES / 3);
            let mut lab = start(3);
            let before = lab.lab.received_bytes(3);
            let words = ["job", "push", "--detach", content.to_str().unwrap()];
            // Some seconds for it, so that the plan is in the journal.
            let pushed = lab.client(&[&words[..], &["--node-rate", "16M"]].concat());
            assert!(pushed.status.success(), "{}", pushed.stderr);
            let half = before + CONTENT_BYTES as u64 / 6;
            until_within(PATIENCE, "half of it", || lab.lab.received_bytes(3) > half);
            lab.kill_node(3);
            until_event(&lab, "delivery.completed", Some(1));
            until_event(&lab, "delivery.completed", Some(2));
            lab.kill_base();
            lab.start_node(3);
            let file = lab.media(3).join("away.bin");
            until_within(PATIENCE, "it has all of it without the base", || file.exists());
            lab.assert_delivered(&content);
            lab.start_base();
            until_event(&lab, "job.completed", None);
        },
    );
}

#[test]
fn cables_of_the_lab_take_the_time_that_they_are_told() {
    in_own_network(
        module_path!(),
        "cables_of_the_lab_take_the_time_that_they_are_told",
        "true",
        || {
            let delay = Duration::from_millis(10);
            let _lab = Lab::build(1, RATE, delay);
            let nobody_listens = format!("{}:9", Lab::ip(0)).parse().unwrap();
            let began = Instant::now();
            let refused = TcpStream::connect_timeout(&nobody_listens, PATIENCE).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            assert!(began.elapsed() >= delay * 2, "{:?}", began.elapsed());
        },
    );
}

#[test]
fn orders_go_from_node_to_node_and_are_counted() {
    in_own_network(module_path!(), "orders_go_from_node_to_node_and_are_counted", "true", || {
        let files: Vec<_> = (0..20).map(|n| content(&format!("relay{n}.bin"), 70_000)).collect();
        let headend = env!("CARGO_BIN_EXE_headend").as_ref();
        let flags = ["--relay-from", "2"];
        let setup = Setup { rate: RATE, delay: Duration::ZERO, is_secure: true, flags: &flags };
        let lab = Distribution::start_with(headend, scratch(), 4, &setup);
        let counted = |line: &str| {
            let mut curl = lab.lab.command(0, "curl");
            curl.args(["-s", "-k", &format!("{}/metrics", lab.url())]);
            let text = String::from_utf8(curl.output().unwrap().stdout).unwrap();
            let found =
                text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
            found.unwrap_or(0)
        };
        // A node takes nothing by others before it has heard what time it is at the base; how often
        // it refused that comes with its next reports.
        let alone = ["first", "second", "last"].map(|name| content(name, 1_000));
        lab.push(&[&alone[0]]);
        lab.push(&[&alone[1]]);
        let refused = counted("ctp_relays_total{what=\"refused\"}");
        lab.push(&files.iter().map(PathBuf::as_path).collect::<Vec<_>>());
        files.iter().for_each(|file| lab.assert_delivered(file));
        lab.push(&[&alone[2]]);
        // Nodes count with their reports.
        until_within(PATIENCE, "a node has handed orders on", || {
            counted("ctp_relays_total{what=\"sent\"}") > 0_u64
        });
        assert!(counted("ctp_base_relays_total{what=\"sent\"}") > 0);
        assert!(counted("ctp_relays_total{what=\"taken\"}") > 0);
        assert_eq!(counted("ctp_relays_total{what=\"refused\"}"), refused);
    });
}

/// Bits per second of each link, both ways.
#[test]
fn rates_of_a_job_are_kept_by_the_base_and_each_node_that_passes_it_on() {
    in_own_network(
        module_path!(),
        "rates_of_a_job_are_kept_by_the_base_and_each_node_that_passes_it_on",
        "true",
        || {
            let content = content("rates.bin", CONTENT_BYTES / 8);
            let lab = start(3);
            let before: Vec<_> = (0..=3).map(|host| lab.lab.sent_bytes(host)).collect();
            let began = Instant::now();
            let words = ["job", "push", content.to_str().unwrap(), "--max-rate", "8M"];
            let ended = lab.client(&words);
            assert!(ended.status.success(), "{}\n{}", ended.stdout, ended.stderr);
            let took = began.elapsed().as_millis();
            lab.assert_delivered(&content);
            for (host, before) in before.iter().enumerate() {
                let sent = u128::from(lab.lab.sent_bytes(host) - before);
                // With headers of packets and reports, and what is saved up.
                let most = took * 1_000 * 115 / 100 + 300_000;
                assert!(sent <= most, "host {host} sent {sent} bytes in {took} ms");
            }
        },
    );
}

const RATE: u64 = 200_000_000;
const CONTENT_BYTES: usize = 24 << 20;

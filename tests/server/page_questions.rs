//! What the page for operators asks, and what it shows when nobody answers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::base::Base;
use crate::support::browser::Browser;
use crate::support::demo_clip;
use crate::support::http::{get, get_json, post_json};
use crate::support::postgres::Server as Postgres;
use crate::support::process::run_any;
use crate::support::scratch;
use crate::support::server::{Options, Server, binary};
use crate::support::wait::{PATIENCE, until};

/// The page's clock runs fifty times as fast; questions are noted, and those whose URL has `held`
/// are never answered.
const QUICK: &str = "
    const set = window.setTimeout.bind(window);
    window.setTimeout = (act, ms = 0, ...more) => set(act, ms / 50, ...more);
    window.asked = [];
    window.held = null;
    const ask = window.fetch.bind(window);
    window.fetch = (url, options) => {
      window.asked.push(String(url));
      if (window.held && String(url).includes(window.held)) return new Promise(() => {});
      return ask(url, options);
    };";
/// What a page does that is shown, or hidden.
const HIDE: &str =
    "(() => { Object.defineProperty(document, 'hidden', { get: () => true, configurable: true });
    document.dispatchEvent(new Event('visibilitychange')); })()";
const SHOW: &str = "(() => { delete document.hidden;
    document.dispatchEvent(new Event('visibilitychange')); })()";
/// Thirty times as long as between two questions of a list.
const LONG: &str = "new Promise((done) => setTimeout(done, 90_000))";

fn page(url: &str, is_quick: bool, token: Option<&str>) -> Browser {
    let mut browser = Browser::start(1_360, 860);
    if is_quick {
        browser.run_before_pages(QUICK);
    }
    if let Some(token) = token {
        browser.send_header("Authorization", &format!("Bearer {token}"));
    }
    browser.open(url);
    browser.until("document.querySelectorAll('#tabs a').length > 0");
    browser
}

fn state_is(state: &str) -> String {
    format!("document.getElementById('state').innerText === '{state}'")
}

fn asked(part: &str) -> String {
    format!("window.asked.filter((url) => url.includes('{part}')).length")
}

/// A server that hangs keeps its connections: the page showed its last numbers as live.
#[test]
fn server_that_hangs_is_shown_as_lost_until_it_goes_on() {
    let server = Server::with_demo();
    let mut browser = page(&format!("http://{}/", server.admin), false, None);
    browser.until(&state_is("live"));
    browser.until("getComputedStyle(document.querySelector('.tiles')).opacity === '1'");
    server.pause();
    browser.until(&state_is("no connection"));
    browser.until("getComputedStyle(document.querySelector('.tiles')).opacity < 1");
    server.wake();
    browser.until(&state_is("live"));
    browser.until("getComputedStyle(document.querySelector('.tiles')).opacity === '1'");
}

#[test]
fn page_that_nobody_sees_asks_nothing() {
    let server = Server::with_demo();
    let mut browser = page(&format!("http://{}/#sessions", server.admin), true, None);
    // A list, and the checks for the overview.
    for part in ["/v1/sessions", "/v1/limits"] {
        browser.until(&format!("{} >= 3", asked(part)));
    }
    browser.eval(HIDE);
    // What is under way is answered.
    browser.eval(LONG);
    browser.eval("window.asked.length = 0");
    browser.eval(LONG);
    assert_eq!(browser.eval("window.asked"), json!([]));
    assert_eq!(browser.eval(&state_is("paused")), true);
    browser.eval(SHOW);
    for part in ["/v1/sessions", "/v1/limits"] {
        browser.until(&format!("{} >= 3", asked(part)));
    }
}

#[test]
fn feeds_leave_connections_of_a_small_limit_to_questions() {
    let config = Some("[limits]\nadmin_connections_max = 4\n");
    let server = Server::start(&Options { config, ..Options::default() });
    let open = || {
        let mut stream = TcpStream::connect(server.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /v1/feed HTTP/1.1\r\nHost: {}\r\n\r\n", server.admin).unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        (stream, String::from_utf8_lossy(&head).into_owned())
    };
    let feeds = [open(), open()];
    assert!(feeds.iter().all(|(_, head)| head == "HTTP/1.1 200"), "{feeds:?}");
    let (status, text) = get(server.admin, "/v1/feed");
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("2 pages are open"), "{text}");
    let limits = get_json(server.admin, "/v1/limits");
    let rows = limits["limits"].as_array().unwrap();
    let row = rows.iter().find(|row| row["what"] == "dashboard_feeds").unwrap();
    assert_eq!((&row["limit"], &row["used"]), (&json!(2), &json!(2)));
}

/// A base with a node, which targets of jobs need.
fn base_with_node(folder: &Path) -> (Base, Server) {
    let base = Base::start(&folder.join("data"));
    let media = folder.join("media");
    std::fs::create_dir(&media).unwrap();
    let mut command = Command::new(binary());
    command.args(["node", "--insecure", "--base", &base.url(), "--join", &base.join_token()]);
    command.args(["--name", "edge-1", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.args(["--shards", "1", "--workers", "1"]).arg("--media").arg(media);
    let node = Server::run(command, tempfile::tempdir_in(scratch()).unwrap());
    (base, node)
}

#[test]
fn job_is_found_on_whatever_page_it_is_and_its_tree_is_asked_for_once_at_a_time() {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let (base, _node) = base_with_node(folder.path());
    let token = base.token("provider.token");
    let film = demo_clip();
    let push = ["job", "push", film.to_str().unwrap(), "--base", &base.url(), "--token", &token];
    let pushed = run_any(binary().to_str().unwrap(), &push, PATIENCE);
    assert!(pushed.status.success(), "{}", pushed.stderr);
    let headers = format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n");
    for number in 0..60 {
        let job = json!({ "client_ref": format!("film{number:02}"), "targets": "all" });
        let (status, answer) = post_json(base.addr, "/v1/jobs", &headers, &job);
        assert_eq!(status, 201, "{answer}");
    }
    let mut browser = page(&format!("{}/", base.url()), true, Some(&token));
    let rows = "document.querySelectorAll('tbody tr:not(.details)').length";
    let has = |text: &str| format!("document.querySelector('tbody')?.innerText.includes('{text}')");
    browser.until(&format!("{rows} === 50"));
    assert_eq!(browser.eval(&has("film58")), false, "it is on the second page");
    browser.click("document.querySelector('input[type=search]')");
    browser.type_text("FILM58");
    browser.until(&has("film58"));
    assert_eq!(browser.eval(rows), 1);
    // A tree that takes longer than until the next time.
    browser.eval("window.held = 'deliveries'");
    browser.click("document.querySelector('tbody button.link')");
    browser.until(&format!("{} === 1", asked("deliveries")));
    browser.eval("window.asked.length = 0");
    browser.until(&format!("{} >= 5", asked("/v1/jobs?")));
    assert_eq!(browser.eval(&asked("deliveries")), 0);
    // A base that hangs is shown as gone.
    browser.until(&state_is("active"));
    base.pause();
    browser.until(&state_is("no connection"));
    base.wake();
    browser.until(&state_is("active"));
}

#[test]
fn base_that_stands_by_says_so_and_leads_to_the_active_one_until_it_takes_over() {
    let Some(postgres) = Postgres::shared() else { return };
    let url = postgres.database();
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let start = || {
        let data = folder.path().join("data");
        Base::start_with(&data, &["--ledger", &url])
    };
    let mut first = start();
    let second = start();
    let token = second.token("provider.token");
    let mut browser = page(&format!("{}/", second.url()), false, Some(&token));
    browser.until(&state_is("stands by"));
    let link = browser.eval("document.querySelector('main a').href");
    assert_eq!(link, format!("{}/", first.url()));
    assert!(first.stop().is_some_and(|status| status.success()), "{}", first.log());
    until("it has taken over", || {
        let info: Option<Value> = serde_json::from_str(&get(second.addr, "/v1/info").1).ok();
        info.is_some_and(|info| info["role"] == "active")
    });
    browser.until(&state_is("active"));
    browser.until("[...document.querySelectorAll('#tabs a')].some((it) => it.hash === '#jobs')");
}

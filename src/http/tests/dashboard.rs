//! The page for operators, and what it asks of the API.

use super::*;

fn with(server: &Running, target: &str, headers: &str) -> Answer {
    let separator = if headers.is_empty() { "" } else { "\n" };
    server.request(&format!("GET {target}{separator}{headers}"))
}

#[test]
fn browser_gets_the_page_at_the_root_and_programs_get_json() {
    let server = Running::start(&Fake::new(Shard::Answers, true));
    let page = with(&server, "/", "Accept: text/html,*/*;q=0.8");
    assert_eq!(page.status, 200);
    assert!(page.body.starts_with("<!doctype html>"), "{}", page.body);
    for (name, part) in [
        ("content-type", "text/html"),
        ("content-security-policy", "default-src 'none'; script-src 'self'"),
        ("x-content-type-options", "nosniff"),
        ("vary", "accept"),
    ] {
        assert!(page.head.contains(&format!("{name}: {part}")), "{}", page.head);
    }
    assert!(server.request("GET /").json()["resources"].is_array());
    assert!(with(&server, "/", "Accept: */*").json()["resources"].is_array());
    assert_eq!(
        with(&server, "/v1/vod", "Accept: text/html").json()["titles"][0]["name"],
        "a b.mp4"
    );
}

#[test]
fn file_that_the_browser_has_is_not_sent_again() {
    let server = Running::start(&Fake::new(Shard::Answers, true));
    let file = with(&server, "/dashboard/app.js", "");
    assert_eq!(file.status, 200);
    let tag =
        file.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().trim().to_owned();
    let again = with(&server, "/dashboard/app.js", &format!("If-None-Match: {tag}"));
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    assert_eq!(with(&server, "/dashboard/app.js", "If-None-Match: \"x\"").status, 200);
    assert_eq!(with(&server, "/dashboard/none.js", "").status, 404);
}

#[test]
fn sessions_titles_and_paths_are_found_by_a_word_whatever_its_case() {
    let server = Running::start(&Fake::new(Shard::Answers, true));
    let ids = |query: &str| {
        let found = server.request(&format!("GET /v1/sessions?{query}")).json();
        found["sessions"].as_array().unwrap().iter().map(|s| s["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids("q=DEMO"), [id("0A"), id("1A")]);
    assert_eq!(ids("q=B.mp"), [id("0B")]);
    assert_eq!(ids("q=192.0.2.7&limit=1"), [id("0A")]);
    assert!(ids("q=nothing").is_empty());
    assert_eq!(ids("q=").len(), 4, "an empty word looks for nothing");
    let titles = server.request("GET /v1/vod?q=%20E.MP4%20").json();
    assert_eq!(
        (&titles["titles"][0]["name"], titles["titles"].as_array().unwrap().len()),
        (&"d/e.mp4".into(), 1)
    );
    let paths = |query: &str| server.request(&format!("GET /v1/paths?{query}")).json();
    assert_eq!(paths("q=LIVE/B&max_age_s=60")["paths"][0]["path"], "live/b");
    assert_eq!(paths("q=live&limit=2&max_age_s=60")["next_cursor"], "live/b");
    let long = "x".repeat(201);
    assert_eq!(server.request(&format!("GET /v1/sessions?q={long}")).status, 400);
}

#[test]
fn what_the_one_who_asks_may_do_is_told_and_warnings_come_newest_first() {
    let server = Running::start(&Fake::new(Shard::Answers, true));
    assert_eq!(server.request("GET /v1/info").json()["may"], "control");
    let read = with(&server, "/v1/info", "Authorization: Bearer hda_readreadreadread");
    assert_eq!(read.json()["may"], "read");
    let lines = server.request("GET /v1/log").json();
    assert_eq!(
        (&lines["lines"][0]["text"], &lines["lines"][0]["level"]),
        (&"newer".into(), &"warn".into())
    );
    assert_eq!(server.request("GET /v1/doctor").json()["checks"][0]["name"], "kernel");
}

#[test]
fn info_and_index_are_json() {
    let server = Running::start(&Fake::new(Shard::Answers, true));
    assert_eq!(server.request("GET /v1/info").json()["shards"], 2);
    assert!(server.request("GET /").json()["resources"].is_array());
}

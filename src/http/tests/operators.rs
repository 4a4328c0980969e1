//! Who may ask: tokens and their roles, proxies, and pages of other sites.

use super::*;

#[test]
fn proxy_needs_a_token_for_whoever_it_asks_and_roles_say_for_what() {
    let fake = Fake::new(Shard::Answers, true);
    let server = Running::start(&fake);
    let (read, control) = ("Bearer hda_readreadreadread", "Bearer hda_controlcontrol");
    let kick = "POST /v1/paths/live/b:kick";
    for forwarded in ["X-Forwarded-For: 192.0.2.7", "Forwarded: for=192.0.2.7", "Via: 1.1 x"] {
        let with = |line: &str, token: &str| {
            let authorization = match token {
                "" => String::new(),
                _ => format!("\r\nAuthorization: {token}"),
            };
            server.request(&format!("{line}\n{forwarded}{authorization}")).status
        };
        assert_eq!(with("GET /v1/sessions", ""), 401, "{forwarded}");
        assert_eq!(with("GET /healthz", ""), 200);
        assert_eq!(with("GET /metrics", read), 200);
        assert_eq!(with(kick, read), 403);
        assert_eq!(with(kick, control), 200);
    }
    let wrong = server.request("GET /metrics\nAuthorization: Bearer hda_wrongwrongwrong");
    assert!(wrong.is_problem(401) && wrong.head.contains("bearer realm"), "{}", wrong.head);
    // A token makes up for a name that strangers could have, and never for another page.
    let line = format!("GET /v1/sessions\nAuthorization: {read}");
    assert_eq!(server.request_as("headend.example", &line).status, 200);
    let foreign = server.request(&format!("{line}\r\nOrigin: http://evil.example"));
    assert!(foreign.is_problem(403));
}

#[test]
fn page_of_another_site_is_known_by_what_browsers_say_of_it() {
    let server = Running::start(&Fake::new(Shard::Answers, true));
    for (line, sent, status) in [
        ("GET /v1/sessions", "Sec-Fetch-Site: cross-site", 403),
        ("GET /v1/sessions", "Sec-Fetch-Site: same-site", 403),
        ("GET /v1/sessions", "Sec-Fetch-Site: same-origin", 200),
        ("GET /v1/sessions", "Sec-Fetch-Site: none", 200),
        (
            "GET /v1/sessions",
            "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document",
            200,
        ),
        (
            "POST /v1/paths/live/b:kick",
            "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document",
            403,
        ),
    ] {
        let answer = server.request(&format!("{line}\n{sent}"));
        assert_eq!(answer.status, status, "{line} {sent}");
        assert!(!answer.head.to_lowercase().contains("access-control-"), "{}", answer.head);
    }
}

#[test]
fn page_of_another_origin_may_not_end_a_path() {
    let fake = Fake::new(Shard::Answers, true);
    let server = Running::start(&fake);
    for origin in [
        "http://evil.example",
        "null",
        "https://evil.example",
        "https://test.evil.example",
        "http://test:9997",
        "https://test:8443",
        "https://test:80",
        "http://test:443",
        "https://evil@test",
        "https://test/",
        "ftp://test",
        "test",
        "",
    ] {
        let answer = server.request(&format!("POST /v1/paths/live/b:kick\nOrigin: {origin}"));
        assert!(answer.is_problem(403), "{origin}");
        let answer = server.request(&format!("POST /v1/config:reload\nOrigin: {origin}"));
        assert!(answer.is_problem(403), "{origin}");
    }
    assert!(fake.ended.lock().unwrap().is_empty());
    // By itself, or by a proxy that speaks TLS with the browser.
    for origin in ["http://test", "https://test", "http://test:80", "https://TEST:443"] {
        let own = server.request(&format!("POST /v1/paths/live/b:kick\nOrigin: {origin}"));
        assert_eq!(own.status, 200, "{origin}");
    }
    let by_port = |origin: &str| {
        let line = format!("POST /v1/paths/live/b:kick\nOrigin: {origin}");
        server.request_as("localhost:8443", &line).status
    };
    assert_eq!(by_port("https://localhost:8443"), 200);
    assert_eq!(by_port("https://localhost"), 403);
}

#[test]
fn page_of_another_origin_or_under_a_name_of_its_own_may_ask_nothing() {
    let fake = Fake::new(Shard::Answers, true);
    let server = Running::start(&fake);
    let lines = [
        "GET /",
        "GET /metrics",
        "GET /healthz",
        "GET /v1/sessions",
        "GET /v1/paths/live/b",
        "DELETE /v1/sessions/00AA",
        "POST /v1/paths/live/b:kick",
        "POST /v1/config:reload",
        "GET /nothing",
    ];
    for line in lines {
        for host in [
            "evil.example",
            "evil.example:9997",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "a@localhost",
            "",
            "[evil.example]",
        ] {
            assert!(server.request_as(host, line).is_problem(403), "{line} of {host}");
        }
        let foreign = server.request(&format!("{line}\nOrigin: http://evil.example"));
        assert!(foreign.is_problem(403), "{line}");
        let named = line.replacen(" /", " http://evil.example/", 1);
        assert!(server.request(&named).is_problem(403), "{named}");
    }
    assert!(fake.ended.lock().unwrap().is_empty());
    for host in [
        "127.0.0.1:9997",
        "192.0.2.7",
        "[::1]:9997",
        "[fe80::1]",
        "localhost:9997",
        "LOCALHOST",
        "headend:9997",
        "a.localhost",
    ] {
        assert_eq!(server.request_as(host, "GET /v1/sessions").status, 200, "{host}");
    }
}

//! The HTTP API: this machine without a token, others by roles; and the verbs that make users and
//! tokens.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::support::http::{get, get_with, post, post_json};
use crate::support::login::{basic, describe_as};
use crate::support::rtsp::Client;
use crate::support::server::{Options, Server, binary};

fn headend(words: &[&str], input: &str) -> Output {
    let mut command = Command::new(binary());
    command.args(words).env_clear().stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may not read it.
    let _unread = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A token for a role, and its line for the file.
fn token(role: &str) -> (String, String) {
    let made = headend(&["user", "token", "desk", "--role", role], "");
    let said = String::from_utf8(made.stderr.clone()).unwrap();
    let token = said.trim().strip_prefix("token of desk: ").unwrap().to_owned();
    let line = stdout(&made);
    assert!(!line.contains(&token), "{line}");
    (token, line)
}

#[test]
fn another_machine_needs_a_token_and_its_role_says_for_what() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    let ((read, of_read), (control, of_control)) = (token("read"), token("control"));
    std::fs::write(&file, of_read.replace("desk", "grafana") + &of_control).unwrap();
    let config = format!("[admin]\ntokens = {:?}\n", file.to_str().unwrap());
    let server = Server::start(&Options { config: Some(&config), ..Options::default() });
    // A proxy on this machine asks for others.
    let away = "X-Forwarded-For: 192.0.2.7\r\n";
    let with = |token: &str| format!("{away}Authorization: Bearer {token}\r\n");
    assert_eq!(get(server.admin, "/v1/sessions").0, 200);
    assert_eq!(get_with(server.admin, "/v1/sessions", away).0, 401);
    assert_eq!(get_with(server.admin, "/healthz", away).0, 200);
    assert_eq!(get_with(server.admin, "/metrics", &with(&read)).0, 200);
    let reload = |headers: &str| {
        post_json(server.admin, "/v1/config:reload", headers, &serde_json::json!({})).0
    };
    assert_eq!(reload(away), 401);
    assert_eq!(reload(&with(&read)), 403);
    assert_eq!(reload(&with(&control)), 200);
    // A token that is taken back counts no more, without a restart.
    std::fs::write(&file, of_control).unwrap();
    assert_eq!(post(server.admin, "/v1/config:reload").0, 200);
    assert_eq!(get_with(server.admin, "/metrics", &with(&read)).0, 401);
    std::fs::write(&file, "desk boss x\n").unwrap();
    let (status, why) = post(server.admin, "/v1/config:reload");
    assert!(status == 422 && why.contains("line 1"), "{why}");
    assert_eq!(get_with(server.admin, "/metrics", &with(&control)).0, 200, "the old ones stay");
    assert!(!server.log().contains(&read));
}

#[test]
fn verbs_show_the_token_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let (file, shown) = (folder.path().join("tokens"), folder.path().join("token"));
    let (control, line) = token("control");
    std::fs::write(&file, line).unwrap();
    std::fs::write(&shown, format!("{control}\n")).unwrap();
    let config = format!("[admin]\ntokens = {:?}\n", file.to_str().unwrap());
    let server = Server::start(&Options { config: Some(&config), ..Options::default() });
    let admin = server.admin.to_string();
    let list = |token: &str| headend(&["session", "ls", "--admin", &admin, "--token", token], "");
    assert_eq!(list(shown.to_str().unwrap()).status.code(), Some(0));
    std::fs::write(&shown, "hda_wrongwrongwrongwrong\n").unwrap();
    assert_eq!(list(shown.to_str().unwrap()).status.code(), Some(1));
    assert_eq!(list("/nonexistent/token").status.code(), Some(2));
}

#[test]
fn pages_of_other_origins_may_not_ask_even_this_machine() {
    let server = Server::with_demo();
    for headers in [
        "Origin: http://evil.example\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: cors\r\n",
    ] {
        assert_eq!(get_with(server.admin, "/v1/sessions", headers).0, 403, "{headers}");
    }
    assert_eq!(get_with(server.admin, "/v1/sessions", "Sec-Fetch-Site: none\r\n").0, 200);
}

#[test]
fn user_that_is_added_can_log_in_and_the_file_never_has_the_password() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("headend.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "# ours\n[rtsp]\nsession_timeout = \"30s\"\n").unwrap();
    stdout(&headend(&["user", "add", "ann", "--digest", "--write", path], "s3cret word\n"));
    let generated = headend(&["user", "add", "bob", "--digest", "--generate"], "");
    let printed = stdout(&generated);
    let said = String::from_utf8(generated.stderr).unwrap();
    let bob = said.trim().strip_prefix("password of bob: ").unwrap().to_owned();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("# ours\n") && !text.contains("s3cret"), "{text}");
    assert!(!printed.contains(&bob), "{printed}");
    let again = headend(&["user", "add", "ann", "--write", path], "x\n");
    assert_eq!(again.status.code(), Some(2), "{again:?}");
    for bad in ["a b", "a:b", ""] {
        assert_eq!(headend(&["user", "add", bad], "x\n").status.code(), Some(2), "{bad}");
    }
    assert_eq!(headend(&["user", "add", "eve"], "\n").status.code(), Some(2), "no password");
    let config = text + &printed;
    let server = Server::start(&Options { config: Some(&config), ..Options::default() });
    let mut client = Client::connect(server.rtsp);
    for (name, secret) in [("ann", "s3cret word"), ("bob", &bob)] {
        describe_as(&mut client, &server.demo_url(), &basic(name, secret)).expect(200);
    }
    std::fs::write(&file, config).unwrap();
    let shown = stdout(&headend(&["config", "show", "-c", path], ""));
    assert!(shown.contains("# [user.\"ann\"] has password, digest_md5, digest_sha256; not shown"));
    assert!(!shown.contains("argon2"), "{shown}");
}

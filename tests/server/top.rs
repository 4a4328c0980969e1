//! `headend top` on a terminal: a pseudo-terminal of `script`, with keys as a person presses them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed, and says where"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::http::{get_json, sessions};
use crate::support::process::{Kept, run_command, wait_for};
use crate::support::server::{Options, Server, binary};
use crate::support::session::{Lower, Session};
use crate::support::wait::{Deadline, PATIENCE, readable, until};

/// The program on a terminal of 140 columns and 32 lines.
struct Terminal {
    child: Kept,
    keys: ChildStdin,
    screen: ChildStdout,
    seen: String,
}

impl Terminal {
    fn start(server: &Server) -> Self {
        let program = binary();
        let line = format!(
            "stty cols 140 rows 32; exec {} top --admin {}",
            program.display(),
            server.admin
        );
        let mut command = Command::new("script");
        command.args(["-qfec", &line, "/dev/null"]).env("TERM", "xterm-256color");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child: Child = command.spawn().unwrap();
        let (keys, screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child: Kept(child), keys, screen, seen: String::new() }
    }

    /// The program: `script` has a shell that has become it.
    fn program(&self) -> Pid {
        let script = self.child.0.id();
        let children = format!("/proc/{script}/task/{script}/children");
        let children = std::fs::read_to_string(children).unwrap();
        Pid::from_raw(children.split_whitespace().next().unwrap().parse().unwrap()).unwrap()
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until `text` is drawn; what was drawn before does not count any more.
    fn until(&mut self, text: &str) {
        self.until_one(&[text]);
    }

    /// Waits until one of these is drawn, and says which.
    fn until_one(&mut self, texts: &[&str]) -> usize {
        let deadline = Deadline::after(PATIENCE);
        loop {
            for (which, text) in texts.iter().enumerate() {
                if let Some(end) = end_of(text, &self.seen) {
                    self.seen.drain(..end);
                    return which;
                }
            }
            let mut block = [0; 16_384];
            let is_readable = readable(&[self.screen.as_fd()], deadline)[0];
            let bytes = if is_readable { self.screen.read(&mut block).unwrap() } else { 0 };
            assert!(bytes > 0, "{texts:?} is not drawn: {}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&block[..bytes]));
        }
    }
}

/// Where `text` ends in what was drawn. Only what has changed is drawn: the cursor jumps across a
/// space that was there, and colours stand between words.
fn end_of(text: &str, seen: &str) -> Option<usize> {
    if text.starts_with('\u{1b}') {
        return seen.find(text).map(|at| at + text.len());
    }
    let (mut words, mut ends) = (String::new(), Vec::new());
    let mut rest = seen.char_indices();
    while let Some((at, letter)) = rest.next() {
        let shown = match letter {
            '\u{1b}' => {
                let last = rest.find(|(_, letter)| letter.is_ascii_alphabetic());
                last.filter(|(_, letter)| *letter == 'H').map(|(at, _)| (at, ' '))
            }
            letter => Some((at, letter)),
        };
        if let Some((at, letter)) = shown {
            words.push(letter);
            ends.resize(words.len(), at + letter.len_utf8());
        }
    }
    let at = words.find(text)?;
    ends.get(at + text.len() - 1).copied()
}

#[test]
fn terminal_shows_a_session_ends_it_after_a_yes_and_is_left_as_it_was() {
    let server = Server::with_demo();
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    session.play(&[]);
    session.receive_packets(5, PATIENCE);
    let id = sessions(server.admin)[0]["id"].as_str().unwrap().to_owned();
    let mut terminal = Terminal::start(&server);
    // Numbers of the feed.
    terminal.until("packets/s");
    terminal.press("2");
    terminal.until(&id);
    terminal.press("k");
    terminal.until("y yes, any other key no");
    terminal.press("n");
    terminal.until("q leave");
    assert_eq!(sessions(server.admin).len(), 1, "nothing was ended");
    terminal.press("k");
    terminal.until("y yes");
    terminal.press("y");
    session.receive_until_bye(PATIENCE);
    terminal.until("is ended");
    terminal.press("q");
    // Back from the alternate screen.
    terminal.until("\u{1b}[?1049l");
    let status = wait_for(&mut terminal.child.0, PATIENCE);
    assert_eq!(status.and_then(|status| status.code()), Some(0));
}

/// The signal that a terminal's Ctrl-C is, when another process sends it.
#[test]
fn terminal_is_left_as_it_was_by_every_signal_that_ends_the_program() {
    let server = Server::with_demo();
    for signal in [Signal::INT, Signal::QUIT, Signal::TERM, Signal::HUP] {
        let mut terminal = Terminal::start(&server);
        terminal.until("packets/s");
        kill_process(terminal.program(), signal).unwrap();
        terminal.until("\u{1b}[?1049l");
        let status = wait_for(&mut terminal.child.0, PATIENCE);
        assert_eq!(status.and_then(|status| status.code()), Some(0), "{signal:?}");
    }
}

/// It was shown as live for as long as its connection stood.
#[test]
fn server_that_hangs_is_not_shown_as_live() {
    let server = Server::with_demo();
    let mut terminal = Terminal::start(&server);
    terminal.until("live");
    terminal.until("packets/s");
    server.pause();
    terminal.until("broke off");
    server.wake();
    terminal.until("live");
    terminal.press("q");
    terminal.until("\u{1b}[?1049l");
}

#[test]
fn source_is_switched_and_session_tuned_in_a_terminal() {
    let config = "[path.\"live/b\"]\nsource = \"demo\"\n\
                  [path.\"live/main\"]\nsource = \"demo\"\nfallback = [\"live/b\"]\nstandby = true\n\
                  [path.\"tv\"]\nlineup = { 1 = \"live/main\", 2 = \"live/b\" }\n";
    let server = Server::start(&Options { config: Some(config), ..Options::default() });
    let failover = || get_json(server.admin, "/v1/paths/live/main")["failover"].clone();
    until("the other source stands by", || failover()["sources"][1]["state"] == "standby");
    let mut viewer = Session::open(server.rtsp, &server.url("tv"), Lower::Tcp);
    viewer.play(&[]);
    viewer.receive_packets(2, PATIENCE);
    let mut terminal = Terminal::start(&server);
    terminal.until("packets/s");
    // The row is found by its name.
    terminal.press("3");
    terminal.press("/main\r");
    terminal.until("live/main");
    // A source that has just changed stays for a few seconds.
    until("it is switched", || {
        terminal.press("s");
        terminal.until("another source for live/main");
        // The second source, at its next key frame.
        terminal.press("\u{1b}[B\u{1b}[B\r");
        terminal.until("y yes");
        terminal.press("y");
        terminal.until_one(&["is fed from live/b", "ask again in"]) == 0
    });
    until("it is switched", || failover()["active"] == "live/b");
    terminal.press("2");
    terminal.until(&viewer.id);
    terminal.press("t");
    terminal.until("channel for");
    terminal.press("2\r");
    terminal.until("to channel 2?");
    terminal.press("y");
    terminal.until("plays channel 2");
    let session = get_json(server.admin, &format!("/v1/sessions/{}", viewer.id));
    assert_eq!(session["channel"]["number"], 2, "{session}");
    terminal.press("q");
    terminal.until("\u{1b}[?1049l");
}

#[test]
fn without_a_terminal_numbers_are_lines_of_json_or_the_way_is_told() {
    let server = Server::with_demo();
    let admin = server.admin.to_string();
    let mut command = Command::new(binary());
    let told = run_command(command.args(["top", "--admin", &admin]).stdin(Stdio::null()), PATIENCE);
    assert_eq!(told.status.code(), Some(2));
    assert!(told.stderr.contains("--json prints a line"), "{}", told.stderr);
    let mut command = Command::new(binary());
    command.args(["top", "--json", "--admin", &admin]).stdout(Stdio::piped());
    let mut child = Kept::start(&mut command);
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let sample: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(sample["at_ms"].is_i64() && sample["cpu"].is_array(), "{sample}");
}

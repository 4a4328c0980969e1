//! `headend top` on a terminal: a pseudo-terminal of `script`, with keys as a person presses them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed, and says where"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::support::http::sessions;
use crate::support::process::{Kept, run_command, wait_for};
use crate::support::server::{Server, binary};
use crate::support::session::{Lower, Session};
use crate::support::wait::{Deadline, PATIENCE, readable};

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

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until `text` is drawn; what was drawn before does not count any more.
    fn until(&mut self, text: &str) {
        let deadline = Deadline::after(PATIENCE);
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let mut block = [0; 16_384];
            let is_readable = readable(&[self.screen.as_fd()], deadline)[0];
            let bytes = if is_readable { self.screen.read(&mut block).unwrap() } else { 0 };
            assert!(bytes > 0, "{text} is not drawn: {}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&block[..bytes]));
        }
    }
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

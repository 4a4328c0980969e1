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

use crate::support::hls::ask;
use crate::support::http::{get_json, sessions};
use crate::support::process::{Kept, run_command, wait_for};
use crate::support::publish::{PICTURES_AND_SOUND, Publisher};
use crate::support::server::{Options, Server, binary};
use crate::support::session::{Lower, Session};
use crate::support::wait::{Deadline, PATIENCE, readable, until};
use crate::support::whep::{OFFER, post};

/// The program on a terminal.
struct Terminal {
    child: Kept,
    keys: ChildStdin,
    output: ChildStdout,
    /// What was written and is not understood yet: the end of a sequence or letter is to come.
    unread: Vec<u8>,
    screen: Screen,
}

impl Terminal {
    fn start(server: &Server) -> Self {
        let program = binary();
        let line = format!(
            "stty cols {COLUMNS} rows {ROWS}; exec {} top --admin {}",
            program.display(),
            server.admin
        );
        let mut command = Command::new("script");
        command.args(["-qfec", &line, "/dev/null"]).env("TERM", "xterm-256color");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child: Child = command.spawn().unwrap();
        let (keys, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let screen = Screen::default();
        Self { child: Kept(child), keys, output, unread: Vec::new(), screen }
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

    /// Waits until `text` stands on a line of the screen.
    fn until(&mut self, text: &str) {
        self.until_one(&[text]);
    }

    /// Waits until one of these stands on a line of the screen, and says which.
    fn until_one(&mut self, texts: &[&str]) -> usize {
        let mut found = None;
        self.read_until(&format!("{texts:?}"), |screen| {
            found = texts.iter().position(|text| screen.has(text));
            found.is_some()
        });
        found.unwrap()
    }

    /// Waits until the screen is what it was before the program.
    fn until_left(&mut self) {
        self.read_until("the end", |screen| screen.is_left);
    }

    fn read_until(&mut self, what: &str, mut is_so: impl FnMut(&Screen) -> bool) {
        let deadline = Deadline::after(PATIENCE);
        while !is_so(&self.screen) {
            let mut block = [0; 16_384];
            let is_readable = readable(&[self.output.as_fd()], deadline)[0];
            let bytes = if is_readable { self.output.read(&mut block).unwrap() } else { 0 };
            assert!(bytes > 0, "{what} is not drawn:\n{}", self.screen.text());
            self.unread.extend_from_slice(&block[..bytes]);
            let taken = self.screen.take(&self.unread);
            self.unread.drain(..taken);
        }
    }
}

/// What a terminal shows: only cells that change are written, wherever they are.
struct Screen {
    cells: Vec<Vec<char>>,
    row: usize,
    column: usize,
    /// The program has left the alternate screen.
    is_left: bool,
}

impl Default for Screen {
    fn default() -> Self {
        Self { cells: vec![vec![' '; COLUMNS]; ROWS], row: 0, column: 0, is_left: false }
    }
}

impl Screen {
    fn text(&self) -> String {
        self.cells.iter().map(|line| line.iter().collect::<String>() + "\n").collect()
    }

    fn has(&self, text: &str) -> bool {
        self.cells.iter().any(|line| line.iter().collect::<String>().contains(text))
    }

    /// Takes what is written, and returns how many bytes of it are understood.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap(),
        };
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            let Some(sequence) = rest.strip_prefix("\u{1b}") else {
                self.write(letter);
                rest = &rest[letter.len_utf8()..];
                continue;
            };
            let is_control = sequence.starts_with('[');
            let end = match is_control {
                true => sequence.find(|letter: char| letter.is_ascii_alphabetic()),
                false => sequence.chars().next().map(|_| 0),
            };
            let Some(end) = end else { break };
            if is_control {
                self.control(&sequence[1..end], &sequence[end..=end]);
            }
            rest = &sequence[end + 1..];
        }
        text.len() - rest.len()
    }

    fn write(&mut self, letter: char) {
        match letter {
            '\r' => self.column = 0,
            '\n' => self.row += 1,
            letter => {
                let cell = self.cells.get_mut(self.row).and_then(|line| line.get_mut(self.column));
                cell.into_iter().for_each(|cell| *cell = letter);
                self.column += 1;
            }
        }
    }

    fn control(&mut self, numbers: &str, kind: &str) {
        match (kind, numbers) {
            ("H", _) => {
                let mut places = numbers.split(';').map(|n| n.parse().unwrap_or(1_usize) - 1);
                self.row = places.next().unwrap_or(0);
                self.column = places.next().unwrap_or(0);
            }
            ("J", "2") => self.cells.iter_mut().for_each(|line| line.fill(' ')),
            ("l", "?1049") => self.is_left = true,
            _ => {}
        }
    }
}

const COLUMNS: usize = 140;
const ROWS: usize = 32;

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
    terminal.until_left();
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
        terminal.until_left();
        let status = wait_for(&mut terminal.child.0, PATIENCE);
        assert_eq!(status.and_then(|status| status.code()), Some(0), "{signal:?}");
    }
}

/// It took a whole CPU for ever: what reads keys found the end of the terminal again and again.
#[test]
fn program_ends_when_its_terminal_is_gone() {
    let server = Server::with_demo();
    let mut terminal = Terminal::start(&server);
    terminal.until("packets/s");
    let program = terminal.program();
    terminal.child.0.kill().unwrap();
    terminal.child.0.wait().unwrap();
    // A process that has ended may stay as a zombie: nobody here is its parent.
    until("the program ends", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", program.as_raw_nonzero()));
        stat.map_or(true, |stat| stat.contains(") Z "))
    });
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
    terminal.until_left();
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
    terminal.until_left();
}

#[test]
fn viewer_by_webrtc_is_a_session_on_the_terminal_and_in_the_list() {
    let server = Server::start(&Options { hls: "127.0.0.1:0", ..Options::default() });
    let _publisher = Publisher::start(&server, "live/a", PICTURES_AND_SOUND, Lower::Tcp);
    let admin = server.admin.to_string();
    // A viewer who does not connect is ended after a while: what shows it is there first.
    let mut terminal = Terminal::start(&server);
    terminal.press("2");
    let opened = post(server.hls(), "live/a", "", OFFER);
    assert_eq!(opened.status, 201, "{}", opened.text());
    terminal.until("webrtc");
    terminal.press("q");
    terminal.until_left();
    assert_eq!(ask(server.hls(), "DELETE", opened.header("location"), "").status, 200);
    assert_eq!(post(server.hls(), "live/a", "", OFFER).status, 201);
    let mut command = Command::new(binary());
    let listed = run_command(command.args(["session", "ls", "--admin", &admin]), PATIENCE);
    assert!(listed.stdout.contains("webrtc"), "{}", listed.stdout);
    let all = sessions(server.admin);
    let id = all.iter().find(|row| row["transport"] == "webrtc").unwrap()["id"].clone();
    let mut command = Command::new(binary());
    let kick = ["session", "kick", id.as_str().unwrap(), "--admin", &admin];
    let kicked = run_command(command.args(kick), PATIENCE);
    assert!(kicked.stdout.contains("ended"), "{}", kicked.stderr);
    assert!(sessions(server.admin).iter().all(|row| row["id"] != id));
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

//! `headend top`: the page for operators in a terminal.
//!
//! ```text
//! keys ------------> screen (what is shown, what is asked) --> draw --> terminal
//! watch: feed, lists --^            `--Ask--> watch: list, kick, reload
//! ```
//! `screen` and `draw` are plain code; the terminal and the threads that ask the server are here
//! and in `watch`. The terminal is as it was when the program ends, by a key, a signal or a panic.
//! With `--json` nothing is drawn: each sample of the feed is a line.
//! Bounds: those of `watch` on what waits, `screen::SAMPLES_MAX` samples, `screen::ROWS_MAX` rows.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use super::super::args::RemoteArgs;
use super::super::{Exit, Failure};
use super::connect;
use screen::{Act, Screen};
use watch::{News, Watch};

mod draw;
mod screen;
mod watch;

/// Runs until the user leaves.
pub(super) fn run(
    args: &RemoteArgs,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    let client = Arc::new(connect(args, env)?);
    if args.json {
        return print_samples(&client, out);
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::usage(
            "headend top draws on a terminal; --json prints a line of numbers each second",
        ));
    }
    let info = watch::info(&client)?;
    let is_ended = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&is_ended))?;
    }
    let watch = Watch::start(client)?;
    let mut terminal = ratatui::try_init()?;
    let shown = show(&mut terminal, &watch, Screen::new(&info), &is_ended);
    ratatui::try_restore()?;
    shown.map(|()| Exit::Ok)
}

fn show(
    terminal: &mut DefaultTerminal,
    watch: &Watch,
    mut screen: Screen,
    is_ended: &AtomicBool,
) -> Result<(), Failure> {
    let mut asked: Option<Instant> = None;
    while !is_ended.load(Ordering::Relaxed) {
        while let Some(news) = watch.next() {
            screen.hear(news);
        }
        if asked.is_none_or(|at| at.elapsed() >= LIST_EVERY) {
            asked = Some(Instant::now());
            screen.wanted().into_iter().for_each(|ask| watch.ask(ask));
        }
        terminal.draw(|frame| draw::draw(frame, &screen))?;
        if !event::poll(REDRAW_EVERY)? {
            continue;
        }
        let Event::Key(key) = event::read()? else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        match screen.press(key) {
            Act::Quit => return Ok(()),
            Act::Stay => {}
            Act::Ask(ask) => watch.ask(ask),
            // What is shown now was not asked for yet.
            Act::List => asked = None,
        }
    }
    Ok(())
}

/// A line of JSON for each sample, the newest of the history first.
fn print_samples(client: &super::Client, out: &mut impl Write) -> Result<Exit, Failure> {
    let told = watch::read_feed(client, &mut |news| match news {
        News::Sample(sample) => {
            let written = writeln!(out, "{sample}").and_then(|()| out.flush());
            // Who reads has had enough.
            written.is_ok()
        }
        _ => true,
    });
    match told {
        Ok(()) => Ok(Exit::Ok),
        Err(failure) => Err(failure),
    }
}

/// Between two drawings, and at most until a key counts.
const REDRAW_EVERY: Duration = Duration::from_millis(200);
/// Between two questions for the list that is shown.
const LIST_EVERY: Duration = Duration::from_secs(2);

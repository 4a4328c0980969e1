//! `headend top`: the page for operators in a terminal.
//!
//! ```text
//! keys ------------> screen (what is shown, what is asked) --> draw --> terminal
//! watch: feed, lists --^            `--Ask--> watch: list, kick, switch, tune, reload
//! ```
//! `screen` and `draw` are plain code; the terminal and the threads that ask the server are here
//! and in `watch`. The terminal is as it was when the program ends, by a key, a signal or a panic.
//! With `--json` nothing is drawn: each sample of the feed is a line, while somebody reads.
//! Bounds: those of `watch` on what waits, `screen::SAMPLES_MAX` samples, `screen::ROWS_MAX` rows.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use rustix::event::{PollFd, PollFlags, Timespec};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

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
    for signal in [SIGTERM, SIGHUP, SIGINT, SIGQUIT] {
        signal_hook::flag::register(signal, Arc::clone(&is_ended))?;
    }
    let watch = Watch::start(client)?;
    let mut terminal = ratatui::try_init()?;
    let shown = show(&mut terminal, &watch, Screen::new(&info), &is_ended);
    let restored = ratatui::try_restore();
    let is_all_done = watch.finish();
    shown?;
    if !is_all_done {
        return Err(Failure::runtime("the server has not answered all that was confirmed"));
    }
    // A terminal that is gone is as it may be.
    match wait_for_input(Duration::ZERO)? {
        true => restored.map(|()| Exit::Ok).map_err(Failure::from),
        false => Ok(Exit::Ok),
    }
}

fn show(
    terminal: &mut DefaultTerminal,
    watch: &Watch,
    mut screen: Screen,
    is_ended: &AtomicBool,
) -> Result<(), Failure> {
    let mut asked: Option<Instant> = None;
    let mut wait = REDRAW_EVERY;
    while !is_ended.load(Ordering::Relaxed) {
        while let Some(news) = watch.next() {
            match news {
                News::Denied(why) => return Err(Failure::runtime(why)),
                news => screen.hear(news),
            }
        }
        if asked.is_none_or(|at| at.elapsed() >= LIST_EVERY) {
            asked = Some(Instant::now());
            screen.wanted().into_iter().for_each(|ask| watch.list(ask));
        }
        terminal.draw(|frame| draw::draw(frame, &screen))?;
        if !wait_for_input(wait)? {
            return Ok(());
        }
        // Keys that came together are read together, and asked for one by one.
        let has_key = event::poll(Duration::ZERO)?;
        wait = if has_key { Duration::ZERO } else { REDRAW_EVERY };
        if !has_key {
            continue;
        }
        let Event::Key(key) = event::read()? else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        match screen.press(key) {
            Act::Quit => return Ok(()),
            Act::Stay => {}
            Act::Ask(ask) => {
                if !watch.act(ask) {
                    screen.hear(News::Told(TOO_MUCH.to_owned()));
                }
            }
            // What is shown now was not asked for yet.
            Act::List => asked = None,
        }
    }
    Ok(())
}

/// Waits for a key, for at most `time`. False: the terminal is gone. crossterm reads the end of a
/// terminal again and again, whatever time it is given, so it is not asked then.
fn wait_for_input(time: Duration) -> io::Result<bool> {
    let stdin = io::stdin();
    let mut waited = [PollFd::new(&stdin, PollFlags::IN)];
    let time = Timespec::try_from(time).map_err(io::Error::other)?;
    match rustix::event::poll(&mut waited, Some(&time)) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(true),
        Err(error) => return Err(error.into()),
    }
    let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    Ok(!waited[0].revents().intersects(gone))
}

/// A line of JSON for each sample. A feed that the server ends, as it does after an hour, is
/// followed by another one, whose history has what was missed between the two.
fn print_samples(client: &super::Client, out: &mut impl Write) -> Result<Exit, Failure> {
    let mut newest: Option<i64> = None;
    loop {
        let (mut has_had_enough, mut is_new) = (false, false);
        watch::read_feed(client, watch::SILENCE, &mut |news| {
            let samples = match news {
                News::History(mut samples) if newest.is_some() => {
                    samples.retain(|sample| sample["at_ms"].as_i64() > newest);
                    samples
                }
                // The clock may have been set back.
                News::Sample(sample) => vec![sample],
                _ => Vec::new(),
            };
            for sample in samples {
                let at_ms = sample["at_ms"].as_i64();
                (newest, is_new) = (at_ms, true);
                has_had_enough |= writeln!(out, "{sample}").and_then(|()| out.flush()).is_err();
            }
            !has_had_enough
        })?;
        if has_had_enough {
            return Ok(Exit::Ok);
        }
        if !is_new {
            return Err(Failure::runtime("the server ends each feed at once"));
        }
    }
}

const TOO_MUCH: &str = "not done: too much is under way already; wait, and do it again";

/// Between two drawings, and at most until a key counts.
const REDRAW_EVERY: Duration = Duration::from_millis(200);
/// Between two questions for the list that is shown.
const LIST_EVERY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::{Scripted, serve};

    /// It ended with the first feed, after an hour.
    #[test]
    fn lines_go_on_when_a_feed_ends_and_none_is_missing_or_there_twice() {
        let feed = |history: &str, samples: &[i64]| {
            let at = |at_ms: &i64| format!("event: sample\ndata: {{\"at_ms\":{at_ms}}}\n\n");
            let samples: String = samples.iter().map(at).collect();
            let text = format!("event: history\ndata: {history}\n\n{samples}");
            Scripted::new("200 OK", text.leak())
        };
        let (addr, thread) = serve(vec![
            feed(r#"[{"at_ms":1}]"#, &[2, 3]),
            feed(r#"[{"at_ms":2},{"at_ms":3},{"at_ms":4}]"#, &[5]),
            feed(r#"[{"at_ms":5}]"#, &[]),
        ]);
        let client = super::super::Client::new(addr, None).unwrap();
        let mut out = Vec::new();
        let ended = print_samples(&client, &mut out).unwrap_err();
        assert!(ended.message.contains("at once"), "{ended}");
        let lines: Vec<String> = String::from_utf8(out).unwrap().lines().map(Into::into).collect();
        assert_eq!(lines, [2, 3, 4, 5].map(|at_ms| format!("{{\"at_ms\":{at_ms}}}")));
        assert_eq!(thread.join().unwrap().len(), 3);
    }
}

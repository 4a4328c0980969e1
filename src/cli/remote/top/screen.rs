//! What `headend top` shows, and what keys do to it.
//!
//! ```text
//! 1-4, Tab  another view    up, down  another row    /  a word to look for    q, Esc  leave
//! k  kick    s  switch: up, down, Enter    t  tune: digits, Enter    r  reload
//! y  yes, to a question      any other key: no
//! ```
//! Nothing is done to the server without a `y`. Bounds: [`SAMPLES_MAX`], [`ROWS_MAX`],
//! `WORD_CHARS_MAX`, `DIGITS_MAX`.

use std::collections::VecDeque;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::Value;

use super::super::super::printable;
use super::super::table;
use super::watch::{Ask, News};

/// What is shown below the first lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Overview,
    Sessions,
    Paths,
    Warnings,
}

/// All views, in the order of their keys.
pub(super) const VIEWS: [(View, &str); 4] = [
    (View::Overview, "Overview"),
    (View::Sessions, "Sessions"),
    (View::Paths, "Live paths"),
    (View::Warnings, "Warnings"),
];

/// What keys are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    Browse,
    /// They are letters of a word.
    Search,
    /// They choose one of these.
    Choose {
        title: String,
        choices: Vec<Choice>,
        selected: usize,
    },
    /// They are digits of a channel for a session.
    Number {
        session: String,
        peer: String,
        digits: String,
    },
    /// `y` has it done.
    Confirm {
        question: String,
        ask: Ask,
    },
}

/// What can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    /// What it is called.
    pub(super) label: String,
    question: String,
    ask: Ask,
}

/// What comes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    Stay,
    Quit,
    /// The list is to be asked for at once.
    List,
    Ask(Ask),
}

/// What is shown.
#[derive(Debug)]
pub(super) struct Screen {
    /// Host and version.
    pub(super) server: String,
    /// Why there is no feed; empty while there is one.
    pub(super) lost: String,
    pub(super) samples: VecDeque<Value>,
    pub(super) view: View,
    pub(super) rows: Vec<Value>,
    pub(super) has_more: bool,
    pub(super) selected: usize,
    pub(super) word: String,
    pub(super) mode: Mode,
    /// What became of the newest action.
    pub(super) message: String,
}

impl Screen {
    /// Before anything was heard but `info`.
    pub(super) fn new(info: &Value) -> Self {
        let (host, version) = (table::text(&info["host"]), table::text(&info["version"]));
        Self {
            server: format!("{host} {version}"),
            lost: "connecting".to_owned(),
            samples: VecDeque::new(),
            view: View::Overview,
            rows: Vec::new(),
            has_more: false,
            selected: 0,
            word: String::new(),
            mode: Mode::Browse,
            message: String::new(),
        }
    }

    /// The list that is shown, and warnings, which the overview counts.
    pub(super) fn wanted(&self) -> Option<Ask> {
        match self.view {
            View::Overview => None,
            View::Sessions => Some(Ask::Sessions(self.word.clone())),
            View::Paths => Some(Ask::Paths(self.word.clone())),
            View::Warnings => Some(Ask::Warnings),
        }
    }

    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::History(samples) => {
                self.samples = samples.into();
                self.lost.clear();
                self.forget_old();
            }
            News::Sample(sample) => {
                self.samples.push_back(sample);
                self.forget_old();
            }
            News::Lost(why) => self.lost = why,
            // An answer to what is not shown any more is too late.
            News::Rows(ask, rows, has_more) if Some(&ask) == self.wanted().as_ref() => {
                // The same row stays chosen, wherever it is now.
                let chosen = self.chosen();
                self.rows = rows;
                self.has_more = has_more;
                let again = chosen.and_then(|key| {
                    self.rows.iter().position(|row| key_of(row).as_ref() == Some(&key))
                });
                let last = self.rows.len().saturating_sub(1);
                self.selected = again.unwrap_or(self.selected).min(last);
            }
            News::Rows(..) => {}
            News::Told(what) | News::Denied(what) => self.message = what,
        }
    }

    fn forget_old(&mut self) {
        let spare = self.samples.len().saturating_sub(SAMPLES_MAX);
        self.samples.drain(..spare);
    }

    fn chosen(&self) -> Option<String> {
        self.rows.get(self.selected).and_then(key_of)
    }

    pub(super) fn press(&mut self, key: KeyEvent) -> Act {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Act::Quit;
        }
        match std::mem::replace(&mut self.mode, Mode::Browse) {
            Mode::Browse => self.browse(key.code),
            Mode::Search => self.search(key.code),
            Mode::Choose { title, choices, selected } => {
                self.choose(key.code, title, choices, selected)
            }
            Mode::Number { session, peer, digits } => {
                self.enter_number(key.code, session, peer, digits)
            }
            Mode::Confirm { ask, .. } if key.code == KeyCode::Char('y') => {
                "under way".clone_into(&mut self.message);
                Act::Ask(ask)
            }
            Mode::Confirm { .. } => Act::Stay,
        }
    }

    fn browse(&mut self, key: KeyCode) -> Act {
        self.message.clear();
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return Act::Quit,
            KeyCode::Char(digit @ '1'..='4') => {
                let place = usize::try_from(u32::from(digit) - u32::from('1')).unwrap_or_default();
                return self.go_to(place);
            }
            KeyCode::Tab => return self.go_to(self.place() + 1),
            KeyCode::BackTab => return self.go_to(self.place() + VIEWS.len() - 1),
            KeyCode::Down => self.selected += usize::from(self.selected + 1 < self.rows.len()),
            KeyCode::Up => self.selected = self.selected.saturating_sub(1),
            KeyCode::Home => self.selected = 0,
            KeyCode::End => self.selected = self.rows.len().saturating_sub(1),
            KeyCode::Char('/') if matches!(self.view, View::Sessions | View::Paths) => {
                self.mode = Mode::Search;
            }
            KeyCode::Char('k') => self.ask_to_kick(),
            KeyCode::Char('s') if self.view == View::Paths => self.ask_to_switch(),
            KeyCode::Char('t') if self.view == View::Sessions => self.ask_to_tune(),
            KeyCode::Char('r') => {
                let question = "read the configuration again?".to_owned();
                self.mode = Mode::Confirm { question, ask: Ask::Reload };
            }
            _ => {}
        }
        Act::Stay
    }

    fn search(&mut self, key: KeyCode) -> Act {
        self.mode = Mode::Search;
        match key {
            KeyCode::Enter => self.mode = Mode::Browse,
            KeyCode::Esc => {
                self.mode = Mode::Browse;
                self.word.clear();
            }
            KeyCode::Backspace => {
                self.word.pop();
            }
            KeyCode::Char(letter) if self.word.chars().count() < WORD_CHARS_MAX => {
                self.word.push(letter);
            }
            _ => return Act::Stay,
        }
        Act::List
    }

    fn ask_to_kick(&mut self) {
        let Some(key) = self.chosen() else { return };
        let row = &self.rows[self.selected];
        let (question, ask) = match self.view {
            View::Sessions => {
                let (path, peer) = (table::text(&row["path"]), table::text(&row["peer"]));
                (format!("kick {peer}, who has {path}?"), Ask::KickSession(key))
            }
            View::Paths => {
                let name = table::text(&row["path"]);
                (format!("end the source of {name} and all its readers?"), Ask::KickPath(key))
            }
            View::Overview | View::Warnings => return,
        };
        self.mode = Mode::Confirm { question, ask };
    }

    fn ask_to_switch(&mut self) {
        let Some(path) = self.chosen() else { return };
        let failover = &self.rows[self.selected]["failover"];
        let sources = failover["sources"].as_array().map(Vec::as_slice).unwrap_or_default();
        if sources.is_empty() {
            "this path has no other source".clone_into(&mut self.message);
            return;
        }
        let known = sources.iter().filter_map(|source| {
            let to = source["path"].as_str()?.to_owned();
            let [name, state] = ["name", "state"].map(|key| table::text(&source[key]));
            Some((format!("{name} ({}): {state}", printable(&to)), to))
        });
        let auto = ("the best that sends".to_owned(), "auto".to_owned());
        let shown = printable(&path);
        let mut choices = Vec::new();
        for (label, to) in known.chain([auto]) {
            for (at, when) in TIMES {
                let label = format!("{label}, {when}");
                let question = format!("feed {shown} from {label}?");
                let ask = Ask::Switch { path: path.clone(), to: to.clone(), at };
                choices.push(Choice { label, question, ask });
            }
        }
        let title = format!("another source for {shown}");
        self.mode = Mode::Choose { title, choices, selected: 0 };
    }

    fn choose(
        &mut self,
        key: KeyCode,
        title: String,
        mut choices: Vec<Choice>,
        selected: usize,
    ) -> Act {
        let last = choices.len().saturating_sub(1);
        let selected = match key {
            KeyCode::Down => (selected + 1).min(last),
            KeyCode::Up => selected.saturating_sub(1),
            KeyCode::Home => 0,
            KeyCode::End => last,
            KeyCode::Enter if selected <= last && !choices.is_empty() => {
                let Choice { question, ask, .. } = choices.swap_remove(selected);
                self.mode = Mode::Confirm { question, ask };
                return Act::Stay;
            }
            KeyCode::Esc | KeyCode::Char('q') => return Act::Stay,
            _ => selected,
        };
        self.mode = Mode::Choose { title, choices, selected };
        Act::Stay
    }

    fn ask_to_tune(&mut self) {
        let Some(session) = self.chosen() else { return };
        let row = &self.rows[self.selected];
        if !row["channel"].is_object() {
            "this session plays no channel of a line-up".clone_into(&mut self.message);
            return;
        }
        let (peer, digits) = (table::text(&row["peer"]), String::new());
        self.mode = Mode::Number { session, peer, digits };
    }

    fn enter_number(
        &mut self,
        key: KeyCode,
        session: String,
        peer: String,
        mut digits: String,
    ) -> Act {
        match key {
            KeyCode::Esc => return Act::Stay,
            KeyCode::Backspace => drop(digits.pop()),
            KeyCode::Char(digit @ '0'..='9') if digits.len() < DIGITS_MAX => digits.push(digit),
            KeyCode::Enter => {
                if let Some(channel) = digits.parse().ok().filter(|channel| *channel > 0) {
                    let question = format!("tune {peer} to channel {channel}?");
                    self.mode = Mode::Confirm { question, ask: Ask::Tune { session, channel } };
                    return Act::Stay;
                }
            }
            _ => {}
        }
        self.mode = Mode::Number { session, peer, digits };
        Act::Stay
    }

    /// Which of [`VIEWS`] is shown.
    pub(super) fn place(&self) -> usize {
        VIEWS.iter().position(|(view, _)| *view == self.view).unwrap_or_default()
    }

    fn go_to(&mut self, place: usize) -> Act {
        let (view, _) = VIEWS[place % VIEWS.len()];
        if view != self.view {
            self.view = view;
            self.rows.clear();
            self.has_more = false;
            self.selected = 0;
            self.word.clear();
        }
        Act::List
    }
}

/// Tells rows of a list apart. A line of the log has no name.
fn key_of(row: &Value) -> Option<String> {
    let name = row["id"].as_str().or_else(|| row["path"].as_str());
    let line = || Some(format!("{} {}", row["at_ms"].as_i64()?, row["text"].as_str()?));
    name.map(str::to_owned).or_else(line)
}

/// When a path is switched.
const TIMES: [(&str, &str); 2] =
    [("keyframe", "at its next key frame"), ("now", "now, from its newest key frame")];
/// Of the number of a channel, 1 to 999.
const DIGITS_MAX: usize = 3;

/// As many as the server keeps: five minutes.
pub(super) const SAMPLES_MAX: usize = 300;
/// Rows of a list: more than a terminal has lines.
pub(super) const ROWS_MAX: usize = 200;
/// Of a word that is looked for.
const WORD_CHARS_MAX: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn press(screen: &mut Screen, code: KeyCode) -> Act {
        screen.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn with_sessions() -> Screen {
        let mut screen = Screen::new(&json!({ "host": "vm", "version": "0.1.0" }));
        assert_eq!(press(&mut screen, KeyCode::Char('2')), Act::List);
        let row = |id: &str| json!({ "id": id, "path": "demo", "peer": "192.0.2.7:5000" });
        let rows = vec![row("A"), row("B"), row("C")];
        screen.hear(News::Rows(Ask::Sessions(String::new()), rows, false));
        screen
    }

    #[test]
    fn nothing_is_kicked_without_a_yes() {
        let mut screen = with_sessions();
        press(&mut screen, KeyCode::Down);
        for (key, act) in [
            (KeyCode::Char('n'), Act::Stay),
            (KeyCode::Enter, Act::Stay),
            (KeyCode::Esc, Act::Stay),
            (KeyCode::Char('y'), Act::Ask(Ask::KickSession("B".to_owned()))),
        ] {
            assert_eq!(press(&mut screen, KeyCode::Char('k')), Act::Stay);
            assert!(
                matches!(&screen.mode, Mode::Confirm { question, .. } if question.contains("192.0.2.7"))
            );
            assert_eq!(press(&mut screen, key), act);
            assert_eq!(screen.mode, Mode::Browse);
        }
        press(&mut screen, KeyCode::Char('1'));
        press(&mut screen, KeyCode::Char('k'));
        assert_eq!(screen.mode, Mode::Browse, "nothing is chosen in the overview");
    }

    #[test]
    fn source_is_chosen_confirmed_and_asked_for() {
        let mut screen = Screen::new(&json!({}));
        press(&mut screen, KeyCode::Char('3'));
        let source = |name: &str| json!({ "name": name, "path": name, "state": "good" });
        let failover = json!({ "sources": [source("live/a"), source("live/b")] });
        let rows = vec![json!({ "path": "tv", "failover": failover }), json!({ "path": "cam" })];
        screen.hear(News::Rows(Ask::Paths(String::new()), rows, false));
        press(&mut screen, KeyCode::Char('s'));
        let Mode::Choose { choices, .. } = &screen.mode else { panic!("{:?}", screen.mode) };
        assert_eq!(choices.len(), 6);
        assert_eq!(choices[2].label, "live/b (live/b): good, at its next key frame");
        for key in [KeyCode::Down, KeyCode::Down, KeyCode::Char('x')] {
            assert_eq!(press(&mut screen, key), Act::Stay);
        }
        assert_eq!(press(&mut screen, KeyCode::Enter), Act::Stay, "not without a yes");
        let asked = press(&mut screen, KeyCode::Char('y'));
        let switch = |to: &str, at| Ask::Switch { path: "tv".to_owned(), to: to.to_owned(), at };
        assert_eq!(asked, Act::Ask(switch("live/b", "keyframe")));
        press(&mut screen, KeyCode::Char('s'));
        press(&mut screen, KeyCode::End);
        press(&mut screen, KeyCode::Enter);
        assert_eq!(press(&mut screen, KeyCode::Char('y')), Act::Ask(switch("auto", "now")));
        press(&mut screen, KeyCode::Char('s'));
        assert_eq!(press(&mut screen, KeyCode::Esc), Act::Stay);
        assert_eq!(screen.mode, Mode::Browse);
        press(&mut screen, KeyCode::Down);
        press(&mut screen, KeyCode::Char('s'));
        assert_eq!((&screen.mode, screen.message.is_empty()), (&Mode::Browse, false));
    }

    #[test]
    fn channel_is_typed_confirmed_and_asked_for_where_there_is_a_line_up() {
        let mut screen = with_sessions();
        press(&mut screen, KeyCode::Char('t'));
        assert_eq!((&screen.mode, screen.message.is_empty()), (&Mode::Browse, false));
        let row = json!({ "id": "A", "peer": "192.0.2.7:5000", "channel": { "number": 1 } });
        screen.hear(News::Rows(Ask::Sessions(String::new()), vec![row], false));
        press(&mut screen, KeyCode::Char('t'));
        for key in ['q', '2', '0', '1', '9', 'k'] {
            assert_eq!(press(&mut screen, KeyCode::Char(key)), Act::Stay);
        }
        press(&mut screen, KeyCode::Backspace);
        press(&mut screen, KeyCode::Enter);
        assert!(
            matches!(&screen.mode, Mode::Confirm { question, .. } if question.contains("channel 20"))
        );
        let tune = Ask::Tune { session: "A".to_owned(), channel: 20 };
        assert_eq!(press(&mut screen, KeyCode::Char('y')), Act::Ask(tune));
        press(&mut screen, KeyCode::Char('t'));
        for key in [KeyCode::Char('0'), KeyCode::Enter] {
            press(&mut screen, key);
            assert!(matches!(screen.mode, Mode::Number { .. }), "there is no channel 0");
        }
        press(&mut screen, KeyCode::Esc);
        assert_eq!(screen.mode, Mode::Browse);
    }

    /// The first line was chosen again with each answer.
    #[test]
    fn warnings_are_scrolled_and_the_chosen_one_stays_chosen() {
        let mut screen = Screen::new(&json!({}));
        press(&mut screen, KeyCode::Char('4'));
        let line = |at_ms: i64| json!({ "at_ms": at_ms, "text": "x" });
        screen.hear(News::Rows(Ask::Warnings, vec![line(3), line(2), line(1)], false));
        press(&mut screen, KeyCode::Down);
        press(&mut screen, KeyCode::Down);
        screen.hear(News::Rows(Ask::Warnings, vec![line(3), line(2), line(1)], false));
        assert_eq!(screen.selected, 2);
        screen.hear(News::Rows(Ask::Warnings, vec![line(4), line(3), line(2), line(1)], false));
        assert_eq!(screen.selected, 3, "a newer one came");
        // Rows that have no names stay where they are.
        screen.hear(News::Rows(Ask::Warnings, vec![json!({}), json!({}), json!({})], false));
        assert_eq!(screen.selected, 2);
    }

    #[test]
    fn chosen_row_stays_chosen_when_rows_come_and_go_and_late_answers_are_dropped() {
        let mut screen = with_sessions();
        press(&mut screen, KeyCode::End);
        let row = |id: &str| json!({ "id": id });
        let of_sessions = || Ask::Sessions(String::new());
        screen.hear(News::Rows(of_sessions(), vec![row("0"), row("A"), row("C")], true));
        assert_eq!((screen.selected, screen.has_more), (2, true));
        screen.hear(News::Rows(of_sessions(), vec![row("C")], false));
        assert_eq!(screen.selected, 0);
        screen.hear(News::Rows(Ask::Paths(String::new()), Vec::new(), false));
        screen.hear(News::Rows(Ask::Sessions("x".to_owned()), Vec::new(), false));
        assert_eq!(screen.rows.len(), 1);
        screen.hear(News::Rows(of_sessions(), Vec::new(), false));
        assert_eq!(press(&mut screen, KeyCode::Down), Act::Stay);
        assert_eq!(screen.selected, 0);
    }

    #[test]
    fn letters_of_a_search_are_no_commands() {
        let mut screen = with_sessions();
        press(&mut screen, KeyCode::Char('/'));
        for letter in ['k', 'q', 'y', '1'] {
            assert_eq!(press(&mut screen, KeyCode::Char(letter)), Act::List);
        }
        assert_eq!(screen.wanted(), Some(Ask::Sessions("kqy1".to_owned())));
        press(&mut screen, KeyCode::Backspace);
        press(&mut screen, KeyCode::Enter);
        assert_eq!((screen.word.as_str(), &screen.mode), ("kqy", &Mode::Browse));
        let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(screen.press(ctrl_c), Act::Quit);
    }

    #[test]
    fn samples_are_those_of_the_last_minutes() {
        let mut screen = with_sessions();
        screen.hear(News::History((0..400).map(Value::from).collect()));
        screen.hear(News::Sample(Value::from(400)));
        assert_eq!(screen.samples.len(), SAMPLES_MAX);
        assert_eq!(screen.samples.back(), Some(&Value::from(400)));
        assert!(screen.lost.is_empty());
        screen.hear(News::Lost("gone".to_owned()));
        assert_eq!(screen.lost, "gone");
    }
}

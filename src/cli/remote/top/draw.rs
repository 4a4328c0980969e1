//! Draws a [`Screen`] on a terminal of any size.
//!
//! ```text
//! headend top  vm 0.1.0  live          server, state
//! 1 Overview  2 Sessions  ..           views
//! ..                                   figures and charts, or a table
//! q leave  / search  k kick            keys, or a question, or what became of the last one
//! ```
//! Colours are those of the terminal. What does not fit is left out, never squeezed.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph, Row, Table, TableState};
use serde_json::Value;

use super::super::{path, session, table};
use super::screen::{Choice, Mode, Screen, VIEWS, View};
use crate::base::short::short;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let [head, views, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(header(screen), head);
    frame.render_widget(tabs(screen), views);
    if let Mode::Choose { choices, selected, .. } = &screen.mode {
        draw_choices(frame, choices, *selected, body);
        frame.render_widget(footer(screen), foot);
        return;
    }
    match screen.view {
        View::Overview => overview(frame, screen, body),
        View::Sessions => rows(frame, screen, body, &session::HEADS, session::row),
        View::Paths => rows(frame, screen, body, &path::HEADS, path::row),
        View::Warnings => rows(frame, screen, body, &WARNING_HEADS, warning),
    }
    frame.render_widget(footer(screen), foot);
}

fn header(screen: &Screen) -> Line<'static> {
    let state = match screen.lost.as_str() {
        "" => Span::from("live").green(),
        why => Span::from(why.to_owned()).red(),
    };
    Line::from(vec![
        Span::from("headend top").bold(),
        Span::from(format!("  {}  ", screen.server)).dim(),
        state,
    ])
}

fn tabs(screen: &Screen) -> Line<'static> {
    let tab = |(place, (_, name)): (usize, &(View, &str))| {
        let text = format!(" {} {name} ", place + 1);
        if place == screen.place() { Span::from(text).reversed() } else { Span::from(text).dim() }
    };
    Line::from(VIEWS.iter().enumerate().map(tab).collect::<Vec<_>>())
}

fn footer(screen: &Screen) -> Line<'static> {
    match &screen.mode {
        Mode::Confirm { question, .. } => {
            Line::from(format!("{question} y yes, any other key no")).yellow().bold()
        }
        Mode::Search => Line::from(format!("/{}_  Enter: keep it, Esc: drop it", screen.word)),
        Mode::Choose { title, .. } => {
            Line::from(format!("{title}   up, down, Enter: this one, Esc: none")).yellow()
        }
        Mode::Number { peer, digits, .. } => {
            Line::from(format!("channel for {peer}: {digits}_  Enter: this one, Esc: none"))
                .yellow()
        }
        Mode::Browse if !screen.message.is_empty() => Line::from(screen.message.clone()).yellow(),
        Mode::Browse => {
            let word = match screen.word.as_str() {
                "" => String::new(),
                word => format!("   only those with \"{word}\""),
            };
            let more = if screen.has_more { "   there are more: search" } else { "" };
            let keys = match screen.view {
                View::Overview | View::Warnings => "q leave   Tab next view   r reload",
                View::Sessions => "q leave   Tab next view   / search   k kick   t tune   r reload",
                View::Paths => "q leave   Tab next view   / search   k kick   s switch   r reload",
            };
            Line::from(format!("{keys}{word}{more}")).dim()
        }
    }
}

/// One line of a chart: its name and its value in a sample.
type Curve = (String, Box<dyn Fn(&Value) -> Option<f64>>);

fn curve(name: &str, value: impl Fn(&Value) -> Option<f64> + 'static) -> Curve {
    (name.to_owned(), Box::new(value))
}

fn number(key: &'static str) -> impl Fn(&Value) -> Option<f64> {
    move |sample| sample[key].as_f64()
}

/// An entry of an array, times a factor.
fn entry(key: &'static str, index: usize, factor: f64) -> impl Fn(&Value) -> Option<f64> {
    move |sample| sample[key].get(index)?.as_f64().map(|value| value * factor)
}

/// The charts, as on the page for browsers.
fn charts(newest: &Value) -> Vec<(&'static str, Vec<Curve>)> {
    vec![
        (
            "sessions",
            vec![
                curve("all", number("sessions")),
                curve("playing", number("playing")),
                curve("webrtc", number("webrtc")),
                curve("hls", number("hls")),
            ],
        ),
        (
            "Mbit/s",
            vec![
                curve("udp", entry("bits_out", 0, 1e-6)),
                curve("tcp", entry("bits_out", 1, 1e-6)),
                curve("in", |sample| sample["bits_in"].as_f64().map(|bits| bits * 1e-6)),
            ],
        ),
        (
            "packets/s",
            vec![
                curve("udp", entry("packets_out", 0, 1.0)),
                curve("tcp", entry("packets_out", 1, 1.0)),
                curve("in", number("packets_in")),
            ],
        ),
        (
            "late, ms",
            vec![
                curve("p50", entry("late_ms", 0, 1.0)),
                curve("p99", entry("late_ms", 1, 1.0)),
                curve("p99.9", entry("late_ms", 2, 1.0)),
            ],
        ),
        ("CPU, %", cpu_curves(newest)),
        (
            "loss, %",
            vec![
                curve("mean", entry("lost_percent", 0, 1.0)),
                curve("p99", entry("lost_percent", 1, 1.0)),
            ],
        ),
    ]
}

fn cpu_curves(newest: &Value) -> Vec<Curve> {
    let shards = newest["cpu"].as_array().map_or(0, Vec::len);
    let mut curves = Vec::new();
    if shards <= SHARDS_SHOWN_MAX {
        let of = |shard| curve(&format!("s{shard}"), entry("cpu", shard, 1.0));
        curves.extend((0..shards).map(of));
    } else {
        curves.push(curve("busiest", |sample| {
            sample["cpu"].as_array()?.iter().filter_map(Value::as_f64).reduce(f64::max)
        }));
    }
    curves.push(curve("process", number("cpu_process")));
    curves
}

fn overview(frame: &mut Frame<'_>, screen: &Screen, area: Rect) {
    let Some(newest) = screen.samples.back() else {
        frame.render_widget(Paragraph::new("waiting for the first numbers").dim(), area);
        return;
    };
    let [figures, charts_area] =
        Layout::vertical([Constraint::Length(3), Constraint::Min(0)]).areas(area);
    draw_figures(frame, newest, figures);
    let charts = charts(newest);
    let columns = usize::from(charts_area.width / CHART_COLUMNS_MIN).clamp(1, 3);
    let lines = usize::from(charts_area.height / CHART_LINES_MIN).clamp(1, 6 / columns);
    let areas = Layout::vertical(vec![Constraint::Fill(1); lines]).split(charts_area);
    let mut charts = charts.into_iter();
    for line in areas.iter() {
        let places = Layout::horizontal(vec![Constraint::Fill(1); columns]).split(*line);
        for place in places.iter() {
            let Some((title, curves)) = charts.next() else { return };
            draw_chart(frame, screen, *place, title, &curves);
        }
    }
}

fn draw_figures(frame: &mut Frame<'_>, newest: &Value, area: Rect) {
    let count = |key: &str| table::count(&newest[key]).to_string();
    let sum = |key: &str| {
        newest[key].as_array().into_iter().flatten().filter_map(Value::as_f64).sum::<f64>()
    };
    let of = |list: &str, index: usize, unit: &str| {
        let value = newest[list].get(index).and_then(Value::as_f64);
        value.map_or_else(|| "-".to_owned(), |value| format!("{} {unit}", short(value)))
    };
    let rate = |bits: f64| table::bit_rate(whole(bits));
    let figures = [
        (count("sessions"), "sessions"),
        (count("publishers"), "publishers"),
        (rate(sum("bits_out")), "out"),
        (rate(newest["bits_in"].as_f64().unwrap_or_default()), "in"),
        (short(sum("packets_out")), "packets/s"),
        (of("late_ms", 1, "ms"), "p99 lateness"),
        (of("lost_percent", 0, "%"), "loss"),
        (format!("{}%", short(newest["cpu_process"].as_f64().unwrap_or_default())), "CPU"),
    ];
    let fit = usize::from(area.width / FIGURE_COLUMNS).max(1).min(figures.len());
    let places = Layout::horizontal(vec![Constraint::Fill(1); fit]).split(area);
    for ((value, what), place) in figures.into_iter().zip(places.iter()) {
        let text = vec![Line::from(value).bold(), Line::from(what).dim()];
        frame.render_widget(Paragraph::new(text), *place);
    }
}

fn draw_chart(frame: &mut Frame<'_>, screen: &Screen, area: Rect, title: &str, curves: &[Curve]) {
    let newest_ms = screen.samples.back().and_then(|s| s["at_ms"].as_f64()).unwrap_or_default();
    let points = |(_, value): &Curve| {
        let point = |s: &Value| Some(((s["at_ms"].as_f64()? - newest_ms) / 1e3, value(s)?));
        screen.samples.iter().filter_map(point).collect::<Vec<(f64, f64)>>()
    };
    let all: Vec<Vec<(f64, f64)>> = curves.iter().map(points).collect();
    let oldest_ms = screen.samples.front().and_then(|s| s["at_ms"].as_f64());
    let covered_s = (newest_ms - oldest_ms.unwrap_or(newest_ms)) / 1e3;
    let high = all.iter().flatten().map(|(_, value)| *value).fold(0.0, f64::max);
    let high = if high > 0.0 { high * 1.05 } else { 1.0 };
    let mut caption = vec![Span::from(format!(" {title} ")).bold()];
    let mut sets = Vec::new();
    for ((points, (name, _)), colour) in all.iter().zip(curves).zip(COLOURS.iter().cycle()) {
        let newest = points.last().map_or_else(|| "-".to_owned(), |(_, value)| short(*value));
        caption.push(Span::from(format!("{name} {newest} ")).fg(*colour));
        let set = Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line);
        sets.push(set.style(Style::new().fg(*colour)).data(points));
    }
    let labels = [Span::from("0").dim(), Span::from(short(high)).dim()];
    let chart = Chart::new(sets)
        .block(Block::new().title(Line::from(caption)))
        .legend_position(None)
        .x_axis(Axis::default().bounds([-covered_s.clamp(SPAN_S_MIN, SPAN_S_MAX), 0.0]))
        .y_axis(Axis::default().bounds([0.0, high]).labels(labels));
    frame.render_widget(chart, area);
}

fn rows(
    frame: &mut Frame<'_>,
    screen: &Screen,
    area: Rect,
    heads: &[&'static str],
    row: fn(&Value) -> Vec<String>,
) {
    if screen.rows.is_empty() {
        frame.render_widget(Paragraph::new("nothing to show").dim(), area);
        return;
    }
    let cells: Vec<Vec<String>> = screen.rows.iter().map(row).collect();
    let width = |column: usize| {
        let cells = cells.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).chain([heads[column].len()]).max();
        Constraint::Length(u16::try_from(widest.unwrap_or_default()).unwrap_or(u16::MAX).min(48))
    };
    let widths: Vec<Constraint> = (0..heads.len())
        .map(|column| if column + 1 == heads.len() { Constraint::Fill(1) } else { width(column) })
        .collect();
    let table = Table::new(cells.into_iter().map(Row::new), widths)
        .header(Row::new(heads.iter().copied()).style(Modifier::DIM))
        .row_highlight_style(Modifier::REVERSED)
        .column_spacing(2);
    let mut state = TableState::default().with_selected(screen.selected);
    frame.render_stateful_widget(table, area, &mut state);
}

fn draw_choices(frame: &mut Frame<'_>, choices: &[Choice], selected: usize, area: Rect) {
    let rows = choices.iter().map(|choice| Row::new([choice.label.clone()]));
    let table = Table::new(rows, [Constraint::Fill(1)]).row_highlight_style(Modifier::REVERSED);
    let mut state = TableState::default().with_selected(selected);
    frame.render_stateful_widget(table, area, &mut state);
}

const WARNING_HEADS: [&str; 3] = ["TIME", "CODE", "TEXT"];

fn warning(line: &Value) -> Vec<String> {
    let at = line["at_ms"].as_i64().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let at =
        at.map(|at| at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string());
    vec![at.unwrap_or_default(), table::text(&line["code"]), table::text(&line["text"])]
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what we want"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

/// Of lines in a chart.
const COLOURS: [Color; 5] = [Color::Blue, Color::Yellow, Color::Magenta, Color::Cyan, Color::Green];
/// More shards are shown by the busiest of them.
const SHARDS_SHOWN_MAX: usize = 4;
/// What a chart shows of a server that has just started.
const SPAN_S_MIN: f64 = 60.0;
/// What a chart shows.
const SPAN_S_MAX: f64 = 300.0;
/// A chart that is narrower shows nothing.
const CHART_COLUMNS_MIN: u16 = 36;
/// A chart that is lower shows nothing.
const CHART_LINES_MIN: u16 = 6;
/// Of a figure with its name.
const FIGURE_COLUMNS: u16 = 13;

#[cfg(test)]
mod tests {
    use super::super::watch::{Ask, News};
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
    use serde_json::json;

    fn drawn(screen: &Screen, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, screen)).unwrap();
        terminal.backend().to_string()
    }

    fn sample(at_ms: i64, late: Option<f64>) -> Value {
        let mut sample = json!({
            "at_ms": at_ms, "sessions": 12, "playing": 11, "publishers": 2, "connections": 12,
            "packets_out": [1_500.5, 0.0], "bits_out": [12_000_000.0, 0.0], "packets_in": 80.0,
            "bits_in": 900_000.0, "cpu": [12.5, 3.0], "cpu_process": 20.0,
        });
        if let Some(ms) = late {
            sample["late_ms"] = json!([0.4, ms, 9.0]);
        }
        sample
    }

    fn screen() -> Screen {
        let mut screen = Screen::new(&json!({ "host": "vm", "version": "0.1.0" }));
        screen.hear(News::History(vec![sample(1_000, None), sample(2_000, Some(2.25))]));
        screen
    }

    #[test]
    fn overview_has_figures_and_charts_with_their_newest_values() {
        let text = drawn(&screen(), 120, 34);
        for part in ["vm 0.1.0", "live", "12.0 Mb/s", "2.25 ms", "p99 2.25", "s1 3 ", "udp 1500"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        for title in ["sessions", "Mbit/s", "packets/s", "late, ms", "CPU, %", "loss, %"] {
            assert!(text.contains(title), "{title}: {text}");
        }
    }

    #[test]
    fn any_size_and_any_numbers_are_drawn() {
        let mut screen = screen();
        screen.hear(News::Sample(json!({ "at_ms": null, "cpu": "x", "late_ms": [1] })));
        screen.hear(News::Sample(json!(7)));
        for (width, height) in [(1, 1), (2, 40), (40, 2), (39, 9), (80, 24), (300, 100)] {
            for key in ['1', '2', '3', '4'] {
                screen.press(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE));
                let rows = vec![json!({}), json!({ "id": 3, "streams": 1 })];
                if let Some(ask) = screen.wanted() {
                    screen.hear(News::Rows(ask, rows, true));
                }
                drawn(&screen, width, height);
            }
        }
    }

    #[test]
    fn table_has_its_rows_the_question_and_no_control_characters() {
        let mut screen = screen();
        screen.press(KeyEvent::new(KeyCode::Char('2'), KeyModifiers::NONE));
        let rows = vec![json!({
            "id": "00AB", "role": "reader", "state": "playing", "path": "live/\u{1b}cam1",
            "peer": "192.0.2.9:5000", "transport": "udp", "age_s": 65.0, "streams": [],
        })];
        screen.hear(News::Rows(Ask::Sessions(String::new()), rows, true));
        let text = drawn(&screen, 120, 10);
        for part in ["00AB", "live/?cam1", "1m05s", "there are more"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        screen.press(KeyEvent::new(KeyCode::Char('k'), KeyModifiers::NONE));
        assert!(drawn(&screen, 120, 10).contains("kick 192.0.2.9:5000"));
    }
}

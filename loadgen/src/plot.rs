//! Plots as SVG text: lines over time, percentile curves, bars.
//!
//! ```text
//! Plot { x, series } --> <svg> with axes, grid, lines, and its points as data for the script
//! ```
//! Nothing is drawn by a script, so a page prints and shows without one; the script only reads the
//! points under the pointer. Colours are classes `c0` to `c4` of the page's style sheet.
//! Invariant: coordinates are finite and within the drawing, whatever the values are.
//! Bound: as many points as it is given.

use serde::Serialize;
use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;
/// Values this much larger than the middle ones ask for a logarithmic axis.
const LOG_RATIO: f64 = 40.0;

/// What runs along the bottom.
#[derive(Debug, Clone, PartialEq)]
pub enum Axis {
    /// Seconds, with the part that was measured.
    Time {
        /// Begin and end of the window.
        window: (f64, f64),
    },
    /// Parts of 1, each further nine as wide as the one before.
    Percentile,
    /// One bar for each of these.
    Classes(Vec<String>),
}

/// One line, or one row of bars.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// (x, y); for bars x is the place of the class.
    pub points: Vec<(f64, f64)>,
}

/// A plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// What it shows.
    pub title: &'static str,
    /// How to read it.
    pub note: &'static str,
    /// Unit of the values.
    pub unit: &'static str,
    /// Bottom axis.
    pub axis: Axis,
    /// What is drawn.
    pub series: Vec<Series>,
}

/// What the script of the page shows under the pointer.
#[derive(Debug, Serialize)]
struct Hover<'a> {
    unit: &'a str,
    rows: Vec<HoverRow<'a>>,
}

#[derive(Debug, Serialize)]
struct HoverRow<'a> {
    x: f64,
    label: String,
    name: &'a str,
    value: f64,
}

impl Plot {
    /// The figure: title, drawing, legend.
    #[must_use]
    pub fn figure(&self) -> String {
        let mut out = String::new();
        let (title, note) = (escaped(self.title), escaped(self.note));
        let unit = escaped(self.unit);
        let _ = write!(
            out,
            "<figure><figcaption><b>{title}</b> in {unit} <span>{note}</span></figcaption>"
        );
        if self.series.iter().all(|series| series.points.is_empty()) {
            out.push_str("<p class=\"none\">nothing was measured</p></figure>\n");
            return out;
        }
        self.draw(&mut out);
        if self.series.len() > 1 {
            out.push_str("<p class=\"legend\">");
            for (index, series) in self.series.iter().enumerate() {
                let name = escaped(&series.name);
                let _ = write!(out, "<span class=\"c{}\">{name}</span> ", index % 5);
            }
            out.push_str("</p>");
        }
        out.push_str("</figure>\n");
        out
    }

    fn draw(&self, out: &mut String) {
        let (x, y) = (self.x_scale(), self.y_scale());
        let hover = serde_json::to_string(&self.hover(&x)).unwrap_or_default();
        let _ = write!(
            out,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\" \
             data-hover=\"{}\">",
            escaped(self.title),
            escaped(&hover)
        );
        if let Axis::Time { window } = self.axis {
            let (from, to) = (x.place(window.0), x.place(window.1));
            let (width, height) = ((to - from).max(0.0), HEIGHT - TOP - BOTTOM);
            let _ = write!(
                out,
                "<rect class=\"window\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" \
                 height=\"{height:.1}\"/>"
            );
        }
        self.draw_grid(&x, &y, out);
        for (index, series) in self.series.iter().enumerate() {
            match self.axis {
                Axis::Classes(_) => draw_bars(series, &x, &y, out),
                Axis::Time { .. } | Axis::Percentile => draw_line(series, index, &x, &y, out),
            }
        }
        out.push_str("<line class=\"cursor\" y1=\"12\" y2=\"226\" x1=\"-9\" x2=\"-9\"/></svg>");
    }

    fn draw_grid(&self, x: &Scale, y: &Scale, out: &mut String) {
        for (value, label) in y.ticks.iter() {
            let at = y.place(*value);
            let (end, text) = (WIDTH - RIGHT, at + 4.0);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{end}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{text:.1}\" class=\"y\">{}</text>",
                LEFT - 6.0,
                escaped(label)
            );
        }
        for (value, label) in x.ticks.iter() {
            let (at, text) = (x.place(*value), HEIGHT - BOTTOM + 16.0);
            let _ = write!(
                out,
                "<text x=\"{at:.1}\" y=\"{text:.1}\" class=\"x\">{}</text>",
                escaped(label)
            );
        }
    }

    fn x_scale(&self) -> Scale {
        let span = (LEFT, WIDTH - RIGHT);
        let all = self.series.iter().flat_map(|series| &series.points).map(|&(x, _)| x);
        match &self.axis {
            Axis::Time { window } => {
                let end = all.chain([window.1]).fold(1.0, f64::max);
                let ticks = round_ticks(end, 8).into_iter().filter(|t| *t <= end);
                let ticks = ticks.map(|t| (t, format!("{} s", short(t))));
                Scale { low: 0.0, high: end, span, kind: Kind::Linear, ticks: ticks.collect() }
            }
            Axis::Percentile => {
                let finite = all.filter(|&x| x < 1.0).map(nines);
                // The largest value has no percentile: it ends the axis.
                let high = finite.fold(1.0, f64::max) + 0.25;
                let labels = ["0", "90%", "99%", "99.9%", "99.99%", "99.999%", "99.9999%"];
                let parts = [0.0, 0.9, 0.99, 0.999, 0.9999, 0.999_99, 0.999_999];
                let ticks = parts.into_iter().zip(labels).filter(|(part, _)| nines(*part) <= high);
                let ticks = ticks.map(|(part, label)| (part, label.to_owned())).collect();
                Scale { low: 0.0, high, span, kind: Kind::Nines, ticks }
            }
            Axis::Classes(names) => {
                let count = f64::from(u32::try_from(names.len()).unwrap_or(u32::MAX)).max(1.0);
                let ticks = (0u32..).map(f64::from).zip(names.iter().cloned()).collect();
                Scale { low: -0.5, high: count - 0.5, span, kind: Kind::Linear, ticks }
            }
        }
    }

    fn y_scale(&self) -> Scale {
        let span = (HEIGHT - BOTTOM, TOP);
        let all = self.series.iter().flat_map(|series| &series.points).map(|&(_, y)| y);
        let mut positive: Vec<f64> = all.filter(|y| y.is_finite() && *y > 0.0).collect();
        positive.sort_unstable_by(f64::total_cmp);
        let high = positive.last().copied().unwrap_or(1.0);
        let middle = positive.get(positive.len() / 2).copied().unwrap_or(high);
        let is_bars = matches!(self.axis, Axis::Classes(_));
        if is_bars || high / middle < LOG_RATIO {
            let ticks: Vec<f64> = round_ticks(high, 5);
            let top = ticks.last().copied().unwrap_or(high).max(high);
            let ticks = ticks.into_iter().map(|t| (t, short(t))).collect();
            return Scale { low: 0.0, high: top, span, kind: Kind::Linear, ticks };
        }
        let least = positive.get(positive.len() / 20).copied().unwrap_or(middle);
        let low = least.max(high / 1e6).log10().floor();
        let top = high.log10().ceil();
        let decades = (0..=12).map(|n| low + f64::from(n)).take_while(|decade| *decade <= top);
        let ticks = decades.map(|d| 10f64.powf(d)).map(|t| (t, short(t))).collect();
        Scale { low, high: top, span, kind: Kind::Log, ticks }
    }

    fn hover<'a>(&'a self, x: &Scale) -> Hover<'a> {
        let label = |at: f64| match &self.axis {
            Axis::Time { .. } => format!("{at:.1} s"),
            Axis::Percentile if at >= 1.0 => "largest".to_owned(),
            Axis::Percentile => format!("{:.5}%", at * 100.0),
            Axis::Classes(names) => {
                let named = (0u32..).map(f64::from).zip(names);
                named.filter(|(n, _)| (n - at).abs() < 0.5).map(|(_, name)| name.clone()).collect()
            }
        };
        let rows = self.series.iter().flat_map(|series| {
            series.points.iter().map(|&(at, value)| HoverRow {
                x: (x.place(at) * 10.0).round() / 10.0,
                label: label(at),
                name: &series.name,
                value: (value * 1e4).round() / 1e4,
            })
        });
        Hover { unit: self.unit, rows: rows.collect() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Linear,
    Log,
    Nines,
}

#[derive(Debug)]
struct Scale {
    low: f64,
    high: f64,
    span: (f64, f64),
    kind: Kind,
    /// (value, label)
    ticks: Vec<(f64, String)>,
}

impl Scale {
    /// Within the span, whatever `value` is.
    fn place(&self, value: f64) -> f64 {
        let value = match self.kind {
            Kind::Linear => value,
            Kind::Log => value.log10(),
            Kind::Nines if value >= 1.0 => self.high,
            Kind::Nines => nines(value),
        };
        let width = (self.high - self.low).max(f64::MIN_POSITIVE);
        let part = ((value - self.low) / width).clamp(0.0, 1.0);
        let part = if part.is_nan() { 0.0 } else { part };
        (self.span.1 - self.span.0).mul_add(part, self.span.0)
    }
}

fn draw_line(series: &Series, index: usize, x: &Scale, y: &Scale, out: &mut String) {
    let _ = write!(out, "<polyline class=\"line c{}\" points=\"", index % 5);
    for &(at, value) in &series.points {
        let _ = write!(out, "{:.1},{:.1} ", x.place(at), y.place(value));
    }
    out.push_str("\"/>");
    // A line of one point is no line.
    if let [(at, value)] = series.points.as_slice() {
        let (cx, cy) = (x.place(*at), y.place(*value));
        let _ =
            write!(out, "<circle class=\"c{}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\"/>", index % 5);
    }
}

fn draw_bars(series: &Series, x: &Scale, y: &Scale, out: &mut String) {
    for &(at, value) in &series.points {
        let (left, right) = (x.place(at - 0.4), x.place(at + 0.4));
        let (top, bottom) = (y.place(value), y.place(0.0));
        let (width, height) = (right - left, bottom - top);
        let _ = write!(
            out,
            "<rect class=\"bar\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\"/>"
        );
    }
}

/// How many nines a part has: 0.9 one, 0.99 two.
fn nines(part: f64) -> f64 {
    -(1.0 - part).max(1e-12).log10()
}

/// Round values from 0 to `high` or just above, about `count` of them.
fn round_ticks(high: f64, count: u32) -> Vec<f64> {
    let raw = high.clamp(1e-9, 1e15) / f64::from(count.max(1));
    let decade = 10f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * decade >= raw * 0.999);
    let step = factor.unwrap_or(10.0) * decade;
    let values = (0u32..100).map(|n| f64::from(n) * step);
    values.take_while(|value| *value < high + step * 0.999).collect()
}

/// A number with three digits and k, M or G.
#[must_use]
pub fn short(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, "G"),
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match scaled.abs() {
        v if v >= 100.0 || v == 0.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{scaled:.digits$}");
    let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// `text` as it may stand between tags and in quoted attributes.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plot(axis: Axis, points: Vec<(f64, f64)>) -> Plot {
        let series = vec![Series { name: "s".to_owned(), points }];
        Plot { title: "T", note: "n", unit: "ms", axis, series }
    }

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        let labels = |high| round_ticks(high, 5).into_iter().map(short).collect::<Vec<_>>();
        assert_eq!(labels(10.0), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(labels(0.7), ["0", "0.2", "0.4", "0.6", "0.8"]);
        assert_eq!(round_ticks(0.0, 5).first(), Some(&0.0));
        assert_eq!([short(0.0), short(0.25), short(12_500.0)], ["0", "0.25", "12.5k"]);
    }

    #[test]
    fn wide_range_of_values_gets_a_logarithmic_axis() {
        let flat = plot(Axis::Percentile, vec![(0.0, 1.0), (0.5, 2.0), (1.0, 3.0)]);
        assert_eq!(flat.y_scale().kind, Kind::Linear);
        let steep = plot(Axis::Percentile, vec![(0.0, 0.1), (0.5, 1.0), (1.0, 2_000.0)]);
        assert_eq!(steep.y_scale().kind, Kind::Log);
    }

    #[test]
    fn names_cannot_break_out_of_the_page() {
        let mut plot = plot(Axis::Classes(vec!["<b>".to_owned()]), vec![(0.0, 1.0)]);
        plot.series.push(Series { name: "\"><script>".to_owned(), points: Vec::new() });
        let text = plot.figure();
        assert!(!text.contains("<b><") && !text.contains("<script"), "{text}");
    }

    #[test]
    fn plot_of_nothing_says_so() {
        let text = plot(Axis::Percentile, Vec::new()).figure();
        assert!(text.contains("nothing was measured"), "{text}");
    }

    proptest! {
        #[test]
        fn any_values_stay_within_the_drawing(
            points in prop::collection::vec((any::<f64>(), any::<f64>()), 1..20),
            kind in 0..3,
        ) {
            let axis = match kind {
                0 => Axis::Time { window: (1.0, 2.0) },
                1 => Axis::Percentile,
                _ => Axis::Classes(vec!["a".to_owned()]),
            };
            let plot = plot(axis, points);
            let (x, y) = (plot.x_scale(), plot.y_scale());
            for &(at, value) in &plot.series[0].points {
                prop_assert!((LEFT..=WIDTH - RIGHT).contains(&x.place(at)));
                prop_assert!((TOP..=HEIGHT - BOTTOM).contains(&y.place(value)));
            }
            prop_assert!(!plot.figure().contains("NaN"));
        }
    }
}

//! The report as one page that needs nothing else: style, plots and data are in it.
//!
//! ```text
//! head: command, verdict tiles | plots | tables | host | the whole report as JSON
//! ```
//! Light or dark as the reader's system is. Plots are drawn by the script of the server's
//! dashboard, which is in the page; figures and tables are there without it. The JSON at the end is
//! what `--json` prints, so that a page that was kept can be read by programs years later.
//! Invariant: no text from outside gets in unescaped; nothing is loaded from anywhere.

use crate::plot::{Axis, Plot, Series, escaped, short};
use crate::report::{Curve, Report};
use crate::stats::Summary;
use std::fmt::Write;

/// Colours, and the looks of plots: those of the dashboard.
const PLOT_STYLE: &str = include_str!("../../src/http/dashboard/page/plots.css");
const STYLE: &str = include_str!("html.css");
/// Draws plots, here and on the dashboard.
const PLOT_SCRIPT: &str = include_str!("../../src/http/dashboard/page/plots.js");
const SCRIPT: &str = include_str!("html.js");

/// The page.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut out = String::new();
    let title = escaped(&report.urls.join(", "));
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>headend-loadgen: {title}</title>\n\
         <style>\n{PLOT_STYLE}{STYLE}</style></head><body>\n"
    );
    header(report, &mut out);
    tiles(report, &mut out);
    out.push_str(
        "<section class=\"plots\"><noscript>Plots need JavaScript.</noscript></section>\n",
    );
    tables(report, &mut out);
    let _ = writeln!(out, "<h2>As on the terminal</h2><pre>{}</pre>", escaped(&report.to_string()));
    // Within a script element only its end tag and comments mean anything.
    let data = |json: String| json.replace('<', "\\u003c");
    let json = data(report.to_json());
    let plots = data(serde_json::to_string(&plots(report)).unwrap_or_default());
    let _ = write!(
        out,
        "<script type=\"application/json\" id=\"report\">{json}</script>\n\
         <script type=\"application/json\" id=\"plots\">{plots}</script>\n\
         <script type=\"module\">\n{PLOT_SCRIPT}{SCRIPT}</script>\n</body></html>\n"
    );
    out
}

fn header(report: &Report, out: &mut String) {
    let host = &report.host;
    let gibibytes = short(megabytes(host.memory_bytes) / 1024.0);
    let _ = writeln!(
        out,
        "<header><h1>headend-loadgen {}</h1><code>{}</code><p>{}{} &middot; {} &middot; {} {} \
         &middot; {} CPUs &middot; {gibibytes} GiB</p></header>",
        escaped(report.version),
        escaped(&report.command),
        escaped(&report.started),
        if report.is_interrupted { " (interrupted)" } else { "" },
        escaped(&host.cpu),
        escaped(&host.kernel),
        escaped(&host.machine),
        host.cpus,
    );
}

/// The figures to look at first.
fn tiles(report: &Report, out: &mut String) {
    let (s, w) = (&report.sessions, &report.window);
    let late = report.media.values().map(|media| media.lateness);
    let worst = late.fold((0.0, 0.0), |(p99, p999): (f64, f64), summary| {
        (p99.max(summary.p99_ms), p999.max(summary.p999_ms))
    });
    out.push_str("<section class=\"tiles\">");
    let mut tile = |class: &str, value: String, what: &str| {
        let (value, what) = (escaped(&value), escaped(what));
        let _ = write!(out, "<div class=\"{class}\"><b>{value}</b><span>{what}</span></div>");
    };
    let class = |is_bad| if is_bad { "tile bad" } else { "tile good" };
    let sessions = format!("{} / {}", s.completed, s.asked);
    tile(class(s.failed > 0), sessions, "sessions did as asked");
    let (lost, silent) = (report.total.lost, report.total.silent);
    tile(class(lost + silent > 0), lost.to_string(), "packets lost");
    tile("tile", format!("{} ms", short(worst.0)), "p99 lateness");
    tile("tile", format!("{} ms", short(worst.1)), "p99.9 lateness");
    let added = report.media.values().filter_map(|media| Some(media.added?.p99_ms));
    if let Some(added) = added.reduce(f64::max) {
        tile("tile", format!("{} ms", short(added)), "p99 publisher to reader");
    }
    tile("tile", format!("{} ms", short(report.first_packet.p99_ms)), "p99 PLAY to packet");
    tile("tile", short(w.packets_per_s), "packets/s");
    tile("tile", short(w.mbit_per_s), "Mbit/s");
    if let Some(server) = &report.server {
        if let Some(us) = server.cpu.us_per_packet {
            tile("tile", format!("{us:.2} us"), "server CPU per packet");
        }
        tile("tile", format!("{:.1} %", server.cpu.core_percent), "of a core: server");
    }
    tile("tile", format!("{:.1} %", report.loadgen.core_percent), "of a core: this program");
    out.push_str("</section>\n");
}

fn plots(report: &Report) -> Vec<Plot> {
    let window = (report.window.begin_s, report.window.begin_s + report.window.seconds);
    let axis = Axis::Time { window };
    let over_time =
        |title, note, unit, series| Plot { title, note, unit, axis: axis.clone(), series };
    let late = |name: &str, value: fn(&crate::timeline::Late) -> f64| {
        let points = report.late.iter().map(|late| (late.at_s, value(late)));
        series(name, points.collect())
    };
    let moments = |name: &str, value: fn(&crate::history::Moment) -> Option<f64>| {
        let points = report.history.iter().filter_map(|m| Some((m.at_s, value(m)?)));
        series(name, points.collect())
    };
    let curves = |pick: fn(&Curve) -> bool| {
        let picked = report.curves.iter().filter(|curve| pick(curve));
        picked.map(|curve| series(&curve.name, curve.points.clone())).collect::<Vec<_>>()
    };
    let mut cpu = vec![moments("loadgen", |m| Some(m.loadgen_core_percent))];
    if report.server.is_some() {
        cpu.insert(0, moments("server", |m| m.server_core_percent));
    }
    let mut plots = vec![
        over_time(
            "Lateness over time",
            "by the second in which frames were due; shaded: the window of rates and CPU",
            "ms",
            vec![late("p50", |l| l.p50_ms), late("p99", |l| l.p99_ms), late("max", |l| l.max_ms)],
        ),
        Plot {
            title: "Lateness by percentile",
            note: "against each stream's own schedule; frames that never came included",
            unit: "ms",
            axis: Axis::Percentile,
            series: curves(|curve| curve.name.starts_with("late")),
        },
        over_time("CPU over time", "100 % is one core", "% of a core", cpu),
        over_time(
            "Packets over time",
            "RTP",
            "packets/s",
            vec![moments("packets/s", |m| Some(m.packets_per_s))],
        ),
        over_time(
            "Sessions playing",
            "the ramp, and who left early",
            "sessions",
            vec![moments("sessions", |m| Some(f64::from(u32::try_from(m.playing).unwrap_or(0))))],
        ),
        bursts(report),
        Plot {
            title: "PLAY to first packet",
            note: "and from a seek or resume to the first packet of it",
            unit: "ms",
            axis: Axis::Percentile,
            series: curves(|curve| curve.name.ends_with("to packet")),
        },
    ];
    if report.curves.iter().any(|curve| curve.name.starts_with("added")) {
        plots.push(Plot {
            title: "Publisher to reader",
            note: "from the publisher's send to the receipt, once readers are live",
            unit: "ms",
            axis: Axis::Percentile,
            series: curves(|curve| curve.name.starts_with("added")),
        });
    }
    if report.server.is_some() {
        let memory = moments("resident", |m| m.server_resident_bytes.map(megabytes));
        plots.push(over_time("Server memory", "resident", "MiB", vec![memory]));
    }
    plots
}

fn bursts(report: &Report) -> Plot {
    let all: u64 = report.bursts.iter().map(|class| class.packets).sum();
    let percent = |packets: u64| megabytes(packets) / megabytes(all.max(1)) * 100.0;
    let name = |least: usize, most: usize| {
        if least == most { least.to_string() } else { format!("{least}-{most}") }
    };
    let names = report.bursts.iter().map(|class| name(class.least, class.most));
    let values = report.bursts.iter().map(|class| percent(class.packets));
    Plot {
        title: "Back-to-back packets",
        note: "share of packets that came in a burst of this size to one client (gaps < 100 us)",
        unit: "% of packets",
        axis: Axis::Classes { names: names.collect() },
        series: vec![series("packets", (0u32..).map(f64::from).zip(values).collect())],
    }
}

fn tables(report: &Report, out: &mut String) {
    out.push_str(
        "<h2>Times in ms</h2><table><tr><th></th><th>count</th><th>p50</th><th>p90</th>\
         <th>p99</th><th>p99.9</th><th>max</th></tr>\n",
    );
    for (kind, media) in &report.media {
        row(&format!("late {}", kind.name()), &media.lateness, out);
    }
    for (kind, media) in &report.media {
        if let Some(added) = &media.added {
            row(&format!("added {}", kind.name()), added, out);
        }
    }
    row("PLAY to packet", &report.first_packet, out);
    if report.again_packet.count > 0 {
        row("seek to packet", &report.again_packet, out);
    }
    for (name, summary) in &report.answers {
        row(&format!("{name} answer"), summary, out);
    }
    out.push_str("</table>\n");
    if report.parts.len() > 1 {
        out.push_str(
            "<h2>Titles</h2><table><tr><th></th><th>transport</th><th>sessions</th>\
             <th>packets</th><th>lost</th></tr>\n",
        );
        for part in &report.parts {
            let (sessions, packets, lost) = (part.sessions, part.packets, part.lost);
            let (url, transport) = (escaped(&part.url), escaped(part.transport));
            let _ = writeln!(
                out,
                "<tr><td>{url}</td><td>{transport}</td><td>{sessions}</td><td>{packets}</td>\
                 <td>{lost}</td></tr>"
            );
        }
        out.push_str("</table>\n");
    }
}

fn row(name: &str, s: &Summary, out: &mut String) {
    let _ = writeln!(
        out,
        "<tr><td>{}</td><td>{}</td><td>{:.3}</td><td>{:.3}</td><td>{:.3}</td><td>{:.3}</td>\
         <td>{:.3}</td></tr>",
        escaped(name),
        s.count,
        s.p50_ms,
        s.p90_ms,
        s.p99_ms,
        s.p999_ms,
        s.max_ms
    );
}

fn series(name: &str, points: Vec<(f64, f64)>) -> Series {
    Series { name: name.to_owned(), points }
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Options;
    use crate::description::MediaKind;
    use crate::history::{History, Sample};
    use crate::report::Measured;
    use crate::stats::{Counts, Stats};
    use crate::time::Mono;
    use clap::Parser;
    use std::time::Duration;

    fn sample_report(url: &str) -> Report {
        let options = Options::try_parse_from(["x", url]).expect("options");
        let mut stats = Stats::default();
        let video = stats.kind_mut(MediaKind::Video);
        video.counts = Counts { streams: 1, packets: 10, ..Counts::default() };
        (1..100).for_each(|ms| video.lateness.record(Duration::from_millis(ms)));
        stats.timeline.record(Mono::from_ns(5), Duration::from_millis(3));
        let sample = |second: u64| Sample {
            at: Mono::from_ns(second * 1_000_000_000),
            packets: second * 100,
            ..Sample::default()
        };
        let mut history = History::starting_with(sample(0));
        (1..5).for_each(|second| history.push(sample(second)));
        let mut report = Report::new(&Measured {
            options: &options,
            stats: &stats,
            before: sample(0),
            window: (sample(1), sample(4)),
            last: sample(4),
            history: &history,
            started: "2026-01-02T03:04:05Z".to_owned(),
        });
        report.command = "x --script 'play <b>'".to_owned();
        report
    }

    #[test]
    fn page_is_whole_and_loads_nothing() {
        let text = page(&sample_report("rtsp://h/a"));
        assert!(text.ends_with("</html>\n"));
        let plots: serde_json::Value = serde_json::from_str(data(&text, "plots")).expect("JSON");
        assert_eq!(plots.as_array().map(Vec::len), Some(7));
        let text = text.replace("http://www.w3.org/2000/svg", "");
        for word in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!text.contains(word), "{word}");
        }
        assert!(text.contains("color-scheme: light dark"));
    }

    /// What stands in the script element of this name.
    fn data<'a>(text: &'a str, id: &str) -> &'a str {
        let (_, rest) = text.split_once(&format!("id=\"{id}\">")).expect("data");
        rest.split_once("</script>").expect("end").0
    }

    #[test]
    fn text_from_outside_stays_text_and_the_data_stay_json() {
        let text = page(&sample_report("rtsp://h/%3C/script><b>"));
        assert!(text.contains("play &lt;b&gt;") && !text.contains("<b>'"), "not escaped");
        let json: serde_json::Value = serde_json::from_str(data(&text, "report")).expect("JSON");
        assert_eq!(json["media"]["video"]["packets"], 10);
        assert_eq!(json["history"][0]["packets_per_s"], 100.0);
    }

    #[test]
    fn password_is_nowhere_on_the_page() {
        assert!(!page(&sample_report("rtsp://user:secret@h/a")).contains("secret"));
    }
}

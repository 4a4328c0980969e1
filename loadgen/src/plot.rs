//! Plots as data: lines over time, percentile curves, bars.
//!
//! ```text
//! Plot { axis, series } --JSON of the page--> plots.js --> <svg>
//! ```
//! The page draws them by the file that draws the plots of the server's dashboard,
//! `src/http/dashboard/page/plots.js`; it says what each field means. Numbers and texts of the page
//! itself are made here.
//! Bound: as many points as it is given.

use serde::Serialize;

pub use short_number::short;

// The server writes numbers the same way.
#[path = "../../src/base/short.rs"]
mod short_number;

/// What runs along the bottom.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Axis {
    /// Seconds, with the part that was measured.
    Time {
        /// Begin and end of the window.
        window: (f64, f64),
    },
    /// Parts of 1, each further nine as wide as the one before.
    Percentile,
    /// One bar for each of these.
    Classes {
        /// What stands below the bars.
        names: Vec<String>,
    },
}

/// One line, or one row of bars.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// (x, y); for bars x is the place of the class. What is not finite is a gap.
    pub points: Vec<(f64, f64)>,
}

/// A plot.
#[derive(Debug, Clone, PartialEq, Serialize)]
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

    #[test]
    fn text_cannot_break_out_of_the_page() {
        assert_eq!(escaped("<b a=\"'&"), "&lt;b a=&quot;&#39;&amp;");
    }

    #[test]
    fn plot_is_what_the_script_reads_and_what_is_not_finite_is_a_gap() {
        let series = Series { name: "s".to_owned(), points: vec![(0.0, 1.5), (0.5, f64::NAN)] };
        let axis = Axis::Time { window: (1.0, 2.0) };
        let plot = Plot { title: "T", note: "n", unit: "ms", axis, series: vec![series] };
        let text = serde_json::to_string(&plot).unwrap();
        assert_eq!(
            text,
            r#"{"title":"T","note":"n","unit":"ms","axis":{"kind":"time","window":[1.0,2.0]},"series":[{"name":"s","points":[[0.0,1.5],[0.5,null]]}]}"#
        );
        let classes = serde_json::to_value(Axis::Classes { names: vec!["1".to_owned()] }).unwrap();
        assert_eq!(classes["names"][0], "1");
    }
}

//! Which lines are kept, and what of them.

use tracing_subscriber::prelude::*;

use super::*;

#[test]
fn warnings_are_kept_with_their_code_and_fields_and_the_oldest_go() {
    let log = tracing_subscriber::registry().with(Remember);
    tracing::subscriber::with_default(log, || {
        tracing::info!(code = "HE-W401", "not kept");
        for number in 0..LINES_MAX + 3 {
            tracing::warn!(code = "HE-W401", number, who = "a b", "text {}", 1);
        }
    });
    let lines = RECENT.lines();
    let of_this = lines.iter().filter(|line| line.text.starts_with("text 1 number="));
    let of_this: Vec<&LogLine> = of_this.collect();
    let last = of_this.last().unwrap();
    assert_eq!((last.level, last.code.as_str()), ("warn", "HE-W401"));
    assert_eq!(last.text, format!("text 1 number={} who=\"a b\"", LINES_MAX + 2));
    assert!(lines.len() <= LINES_MAX && !of_this[0].text.contains("number=0 "));
    assert_eq!(RECENT.lines().len(), lines.len(), "asking takes nothing away");
}

//! Codes of log lines: operators search for them, so a code is written in one file only, says the
//! level of its line, and is in the README's table.
//!
//! ```text
//! tracing::warn!(code = "HE-W301", ..)  <-->  | `HE-W301` | a source failed ... |
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Rooms whose every line of level info, warn or error has a code.
const CODED_ROOMS: [&str; 3] = ["src/live/", "src/vod/", "src/session/"];

const LEVELS: [(&str, char); 3] = [("info", 'I'), ("warn", 'W'), ("error", 'E')];

/// One log line of the program.
struct LogLine {
    path: String,
    level: char,
    code: Option<String>,
}

#[test]
fn log_lines_of_sessions_have_a_code_of_their_level() {
    let lines = log_lines();
    assert!(lines.len() > 20, "found {} log lines", lines.len());
    for LogLine { path, level, code } in lines {
        if let Some(code) = code {
            assert_eq!(code.chars().nth(3), Some(level), "{path}: {code}");
            let number = code.get(4..).unwrap_or_default();
            assert!(number.len() == 3 && number.parse::<u16>().is_ok(), "{path}: {code}");
        } else {
            let is_coded = CODED_ROOMS.iter().any(|room| path.starts_with(room));
            assert!(!is_coded, "{path}: a line of level {level} without a code");
        }
    }
}

#[test]
fn code_of_a_log_line_is_written_in_one_file() {
    let mut files: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for LogLine { path, code, .. } in log_lines() {
        if let Some(code) = code {
            files.entry(code).or_default().insert(path);
        }
    }
    let shared: Vec<_> = files.iter().filter(|(_, paths)| paths.len() > 1).collect();
    assert!(shared.is_empty(), "{shared:?}");
}

#[test]
fn table_of_codes_has_each_code_once_and_no_other() {
    let written: BTreeSet<String> = log_lines().into_iter().filter_map(|line| line.code).collect();
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let rows: Vec<String> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `HE-"))
        .filter_map(|rest| rest.split('`').next())
        .map(|rest| format!("HE-{rest}"))
        .collect();
    let sorted: BTreeSet<String> = rows.iter().cloned().collect();
    assert_eq!(sorted.iter().collect::<Vec<_>>(), rows.iter().collect::<Vec<_>>(), "sorted, once");
    assert_eq!(written.difference(&sorted).collect::<Vec<_>>(), [""; 0], "not in the table");
    assert_eq!(sorted.difference(&written).collect::<Vec<_>>(), [""; 0], "not in the code");
}

/// The log lines of level info, warn and error under `src`.
fn log_lines() -> Vec<LogLine> {
    let mut files = Vec::new();
    collect(&root().join("src"), &mut files);
    let mut lines = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let path = file.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        for (name, level) in LEVELS {
            for call in text.split(&format!("tracing::{name}!(")).skip(1) {
                let code = arguments(call).split("code = \"").nth(1);
                let code = code.and_then(|rest| rest.split('"').next()).map(str::to_owned);
                lines.push(LogLine { path: path.clone(), level, code });
            }
        }
    }
    lines
}

/// The text up to the parenthesis that ends a call; those in string literals do not count.
fn arguments(call: &str) -> &str {
    let (mut depth, mut is_text, mut is_escaped) = (1, false, false);
    for (at, c) in call.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_text => is_escaped = true,
            '"' => is_text = !is_text,
            '(' if !is_text => depth += 1,
            ')' if !is_text => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return call.get(..at).unwrap();
        }
    }
    call
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|found| found == "rs") {
            files.push(path);
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

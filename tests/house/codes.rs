//! Codes of log lines and warnings: operators search for them, so a code is written in one file
//! only, says the level of its line, and is in the README's table.
//!
//! ```text
//! tracing::warn!(code = "HE-W301", ..)      a log line
//! warnings.once("HE-W606", ..)              one of `src/shard/warnings.rs`
//! "... is small for UDP (HE-W101)"          a sentence at start-up
//! code = "HE-W102"                          the same, in `tuning/host.toml`
//!                                           <-->  | `HE-W301` | a source failed ... |
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Files with log lines whose code is given to them: (file, how the argument begins).
const GIVEN: [(&str, &str); 2] =
    [("src/appliance/reload.rs", "code = code_of(warning),"), ("src/shard/warnings.rs", "code,")];

const LEVELS: [(&str, char); 3] = [("info", 'I'), ("warn", 'W'), ("error", 'E')];

/// One log line of the program.
struct LogLine {
    path: String,
    level: char,
    /// As written; `None` for a line without a code.
    code: Option<String>,
    /// The code is the caller's or the sentence's.
    is_given: bool,
}

#[test]
fn every_log_line_has_a_code_of_its_level() {
    let lines = log_lines();
    assert!(lines.len() > 70, "found {} log lines", lines.len());
    let given = lines.iter().filter(|line| line.is_given).count();
    assert_eq!(given, GIVEN.len(), "lines whose code is given");
    for LogLine { path, level, code, is_given } in lines {
        if let Some(code) = code {
            assert_eq!(code.chars().nth(3), Some(level), "{path}: {code}");
            assert!(is_code(&code), "{path}: {code}");
        } else {
            assert!(is_given, "{path}: a line of level {level} without a code");
        }
    }
}

#[test]
fn code_is_written_in_one_file() {
    let mut files: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (code, path) in written_codes() {
        files.entry(code).or_default().insert(path);
    }
    let shared: Vec<_> = files.iter().filter(|(_, paths)| paths.len() > 1).collect();
    assert!(shared.is_empty(), "{shared:?}");
}

#[test]
fn table_of_codes_has_each_code_once_and_no_other() {
    let written: BTreeSet<String> = written_codes().into_iter().map(|(code, _)| code).collect();
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

/// Every code, with the file that it is written in: of log lines, and of sentences at start-up.
fn written_codes() -> Vec<(String, String)> {
    let lines = log_lines().into_iter().filter_map(|line| Some((line.code?, line.path)));
    let mut codes: Vec<_> = lines.collect();
    for (path, text) in sources() {
        let sentences = program(&text).lines().filter(|line| !line.trim_start().starts_with("//"));
        for rest in sentences.flat_map(|line| line.split("(HE-").skip(1)) {
            let code = rest.split(')').next().map(|rest| format!("HE-{rest}")).unwrap();
            assert!(is_code(&code), "{path}: {code}");
            codes.push((code, path.clone()));
        }
    }
    let path = "tuning/host.toml";
    let host = std::fs::read_to_string(root().join(path)).unwrap();
    for line in host.lines().filter_map(|line| line.strip_prefix("code = ")) {
        codes.push((line.trim_matches('"').to_owned(), path.to_owned()));
    }
    codes
}

/// `HE-`, the level, three digits.
fn is_code(text: &str) -> bool {
    let level = text.strip_prefix("HE-").and_then(|rest| rest.chars().next());
    let is_level = LEVELS.iter().any(|(_, known)| level == Some(*known));
    let number = text.get(4..).unwrap_or_default();
    is_level && number.len() == 3 && number.bytes().all(|digit| digit.is_ascii_digit())
}

/// The log lines of level info, warn and error under `src`.
fn log_lines() -> Vec<LogLine> {
    let mut lines = Vec::new();
    for (path, text) in sources() {
        for (name, level) in LEVELS {
            for call in text.split(&format!("tracing::{name}!(")).skip(1) {
                let arguments = arguments(call).trim_start();
                let code = arguments.split("code = \"").nth(1);
                let code = code.and_then(|rest| rest.split('"').next()).map(str::to_owned);
                let is_given = GIVEN.iter().any(|(file, beginning)| {
                    path == *file && arguments.starts_with(beginning) && code.is_none()
                });
                lines.push(LogLine { path: path.clone(), level, code, is_given });
            }
        }
        for call in text.split("warnings.once(").skip(1) {
            let code = call.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
            let code = code.map(str::to_owned);
            lines.push(LogLine { path: path.clone(), level: 'W', code, is_given: false });
        }
    }
    lines
}

/// The program's files under `src` with their text; those that are tests apart.
fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    collect(&root().join("src"), &mut files);
    let text_of = |file: PathBuf| {
        let path = file.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        (path, std::fs::read_to_string(&file).unwrap())
    };
    let is_test = |path: &str| path.ends_with("tests.rs") || path.contains("/tests/");
    files.into_iter().map(text_of).filter(|(path, _)| !is_test(path)).collect()
}

/// The text of a file without the tests at its end.
fn program(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text)
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

//! What the documents say is there: files, tests, sections and rules, in both directions.
//!
//! ```text
//! src/DESIGN.md        paths it names exist          sections that comments cite exist
//! src/rtsp/CLIENTS.md  tests it names exist          rules that tests and comments cite exist
//! ```
//! Prose is nobody's business here, only names. Bound: `DEPTH_MAX` folders deep.

#![allow(clippy::unwrap_used, reason = "a repository that cannot be read has no documents")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Folders whose comments cite the documents.
const CITING: [&str; 7] = ["src", "loadgen", "fuzz", "tests", "benches", "tuning", "scripts"];
/// Deeper is a circle of links.
const DEPTH_MAX: usize = 12;

#[test]
fn paths_that_the_documents_name_exist() {
    let starts = CITING.map(|folder| format!("{folder}/"));
    let mut missing = Vec::new();
    for document in ["src/DESIGN.md", "src/rtsp/CLIENTS.md"] {
        let text = read(document);
        let named = quoted(&text).filter(|text| starts.iter().any(|start| text.starts_with(start)));
        missing.extend(named.filter(|path| !root().join(path).exists()).map(str::to_owned));
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn tests_that_prove_client_rules_exist() {
    let files = citing_files();
    let has = |name: &str| files.iter().any(|(_, text)| text.contains(&format!("fn {name}(")));
    let clients = read("src/rtsp/CLIENTS.md");
    let named: BTreeSet<_> = quoted(&clients).filter(|text| is_test_name(text)).collect();
    assert!(named.len() > 30, "only {} tests are named", named.len());
    let missing: Vec<_> = named.into_iter().filter(|name| !has(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn client_rules_that_are_cited_exist() {
    let clients = read("src/rtsp/CLIENTS.md");
    let mut broken = Vec::new();
    for (path, text) in citing_files() {
        for (number, line) in (1..).zip(text.lines()) {
            let cited = behind(line, "client rule ").chain(behind(line, "Client rule "));
            let rules = cited.map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next());
            for rule in rules.flatten().filter(|rule| !rule.is_empty()) {
                if !clients.contains(&format!("\n| {rule} |")) {
                    broken.push(format!("{path}:{number}: {rule}"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn sections_that_are_cited_exist() {
    let design = read("src/DESIGN.md");
    let mut broken = Vec::new();
    for (path, text) in citing_files() {
        for (number, line) in (1..).zip(text.lines()) {
            for section in behind(line, "DESIGN section ").filter_map(number_at_start) {
                if !has_section(&design, section) {
                    broken.push(format!("{path}:{number}: DESIGN section {section}"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// `6` is a heading, `6.3` item 3 of the list under it.
fn has_section(design: &str, section: &str) -> bool {
    let (chapter, item) = section.split_once('.').map_or((section, None), |(a, b)| (a, Some(b)));
    let Some(body) = design.split("\n## ").find(|body| body.starts_with(&format!("{chapter}. ")))
    else {
        return false;
    };
    item.is_none_or(|item| body.contains(&format!("\n{item}. ")))
}

/// `6.3, 6.4` -> `6.3`; `n` is no number.
fn number_at_start(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    Some(text[..end].trim_end_matches('.')).filter(|number| !number.is_empty())
}

fn behind<'a>(line: &'a str, words: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(words).map(|(at, _)| &line[at + words.len()..])
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Tests are called by what they prove, which takes more than three words.
fn is_test_name(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && text.matches('_').count() > 2
}

/// Files that may cite, with their text.
fn citing_files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for folder in CITING {
        walk(&root().join(folder), 0, &mut files);
    }
    assert!(files.len() > 100, "the walk found {} files only", files.len());
    files
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<(String, String)>) {
    assert!(depth <= DEPTH_MAX, "{} is too deep", folder.display());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("corpus") {
            walk(&path, depth + 1, files);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            files.push((path.strip_prefix(root()).unwrap().display().to_string(), text));
        }
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

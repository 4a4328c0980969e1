//! Rules of the house that no compiler checks. A rule that is not here is a wish.
//!
//! Lists of exceptions are ratchets: an entry that is no longer needed fails too, so they shrink.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed, and says where"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Files that may contain unsafe code: the ring, whose operations name memory that the kernel
/// writes later, and a few calls that no crate has a safe name for.
const UNSAFE_FILES: [&str; 31] = [
    "benches/floor/image.rs",
    "benches/floor/ring.rs",
    "benches/floor/send.rs",
    "benches/floor/tcp.rs",
    "benches/floor/udp.rs",
    "loadgen/src/net/udp.rs",
    "src/host/ethtool.rs",
    "src/host/gso.rs",
    "src/shard/ktls.rs",
    "src/shard/priority.rs",
    "src/shard/ring/buffers.rs",
    "src/shard/ring/connect.rs",
    "src/shard/ring/end.rs",
    "src/shard/ring/kernel.rs",
    "src/shard/ring/message.rs",
    "src/shard/ring/receive.rs",
    "src/shard/ring/run.rs",
    "src/shard/ring/stream.rs",
    "src/shard/ring/tests/runs.rs",
    "src/shard/ring/tests/scripted.rs",
    "src/shard/ring/uring.rs",
    "src/shard/sockets/membership.rs",
    "src/shard/sockets/peer_state.rs",
    "src/worker/read.rs",
    "tests/alone/allocations.rs",
    "tests/server/pages.rs",
    "tests/server/priority.rs",
    "tests/simulation/streaming/abi.rs",
    "tests/simulation/streaming/kernel.rs",
    "tests/support/delay.rs",
    "tests/support/sandbox.rs",
];

const FILE_LINES_MAX: usize = 800;
const LINE_COLUMNS_MAX: usize = 100;

/// One source file.
struct Source {
    /// From the root of the repository.
    path: String,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("run by cargo"))
}

/// All files with `extension` that belong to the project.
fn sources(extension: &str) -> Vec<Source> {
    let root = root();
    let mut files = Vec::new();
    for folder in ["src", "tests", "loadgen", "benches", "fuzz", "scripts", "tuning", ".ci"] {
        collect(&root.join(folder), &mut files);
    }
    let mut sources: Vec<_> = files
        .into_iter()
        .filter(|file| file.extension().is_some_and(|found| found == extension))
        .map(|file| Source {
            path: file.strip_prefix(&root).unwrap().to_string_lossy().into_owned(),
            text: std::fs::read_to_string(&file).unwrap(),
        })
        .collect();
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target" && name != "corpus") {
                collect(&path, files);
            }
        } else {
            files.push(path);
        }
    }
}

/// Fails with every offence at once.
fn assert_none(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}:\n{}", offences.join("\n"));
}

#[test]
fn every_file_says_first_what_it_is() {
    let silent = sources("rs").into_iter().filter(|source| !source.text.starts_with("//! "));
    assert_none("begin with a //! header", &silent.map(|s| s.path).collect::<Vec<_>>());
    let silent = sources("sh")
        .into_iter()
        .filter(|source| source.text.lines().nth(1).is_none_or(|line| !line.starts_with("# ")));
    assert_none("say under #! what it is", &silent.map(|s| s.path).collect::<Vec<_>>());
}

#[test]
fn files_are_short_and_comments_fit() {
    let mut offences = Vec::new();
    for source in sources("rs") {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            offences.push(format!("{}: {lines} lines, more than {FILE_LINES_MAX}", source.path));
        }
        for (number, line) in (1..).zip(source.text.lines()) {
            // rustfmt sees to code, and leaves comments alone.
            let is_comment = line.trim_start().starts_with("//");
            if is_comment && line.len() > LINE_COLUMNS_MAX {
                offences.push(format!("{}:{number}: {} columns", source.path, line.len()));
            }
        }
    }
    assert_none("split", &offences);
}

#[test]
fn text_is_ascii_and_finished() {
    // Pieced together, or this file would find itself.
    let unfinished = [concat!("FIX", "ME"), concat!("XX", "X:"), concat!("todo", "!(")];
    // Where this was built is nobody's business, and not there on other machines.
    let machine_paths = [concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/.")];
    let mut offences = Vec::new();
    for source in ["rs", "sh", "toml"].into_iter().flat_map(sources) {
        for (number, line) in (1..).zip(source.text.lines()) {
            let at = format!("{}:{number}", source.path);
            if !line.is_ascii() {
                offences.push(format!("{at}: not ASCII"));
            }
            for word in unfinished.iter().chain(&machine_paths) {
                if line.contains(word) {
                    offences.push(format!("{at}: {word}"));
                }
            }
        }
    }
    assert_none("clean up", &offences);
}

#[test]
fn unsafe_code_is_where_it_is_expected_and_nowhere_else() {
    let has_unsafe = |source: &Source| {
        source.text.lines().map(str::trim).filter(|line| !line.starts_with("//")).any(|line| {
            ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe trait"]
                .iter()
                .any(|word| line.contains(word) && !line.contains('"'))
        })
    };
    let found: BTreeSet<String> =
        sources("rs").iter().filter(|s| has_unsafe(s)).map(|s| s.path.clone()).collect();
    let expected: BTreeSet<String> = UNSAFE_FILES.iter().map(ToString::to_string).collect();
    assert_eq!(found, expected, "left: files with unsafe code; right: UNSAFE_FILES");
}

#[test]
fn every_file_is_part_of_the_program() {
    // A file that no `mod` names is not compiled, so nothing else would notice it. Programs of
    // cargo have no `mod`: `main.rs`, and files that lie in `tests/` itself.
    let sources = sources("rs");
    let mut offences = Vec::new();
    for source in &sources {
        let path = Path::new(&source.path);
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let trees = ["src/", "loadgen/src/", "fuzz/src/", "tests/"];
        let in_tree = trees.iter().any(|tree| source.path.starts_with(tree));
        let is_program =
            ["lib", "main"].contains(&stem) || path.parent() == Some(Path::new("tests"));
        if !in_tree || is_program {
            continue;
        }
        let (name, folder) = if stem == "mod" {
            let folder = path.parent().unwrap();
            (folder.file_name().unwrap().to_str().unwrap(), folder.parent().unwrap())
        } else {
            (stem, path.parent().unwrap())
        };
        let declared = sources.iter().any(|other| {
            Path::new(&other.path).starts_with(folder)
                && (other.text.contains(&format!("mod {name};"))
                    || other.text.contains(&format!("\"{}\"", path.file_name().unwrap().display())))
        }) || folder.with_extension("rs").to_str().is_some_and(|parent| {
            let declares =
                |s: &Source| s.path == parent && s.text.contains(&format!("mod {name};"));
            sources.iter().any(declares)
        });
        if !declared {
            offences.push(source.path.clone());
        }
    }
    assert_none("no `mod` names it", &offences);
}

#[test]
fn every_dependency_has_its_reason() {
    let mut offences = Vec::new();
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml", "loadgen/Cargo.toml"] {
        let text = std::fs::read_to_string(root().join(manifest)).unwrap();
        let mut is_dependency = false;
        for line in text.lines() {
            if line.starts_with('[') {
                is_dependency = line.ends_with("dependencies]");
            } else if is_dependency && line.contains(" = ") && !line.contains("# ") {
                offences.push(format!("{manifest}: {line}"));
            }
        }
    }
    assert_none("one line of reason", &offences);
}

#[test]
fn errors_name_their_module_and_tests_their_behaviour() {
    // A test is called what it proves: `test_1` proves nothing.
    let mut offences = Vec::new();
    for source in sources("rs") {
        let mut is_test = false;
        for (number, line) in (1..).zip(source.text.lines()) {
            let line = line.trim();
            if line == "#[test]" {
                is_test = true;
            } else if let Some(rest) = line.strip_prefix("fn ").filter(|_| is_test) {
                let name = rest.split('(').next().unwrap();
                if name.starts_with("test_") || !name.contains('_') {
                    offences.push(format!("{}:{number}: {name}", source.path));
                }
                is_test = false;
            }
        }
    }
    assert_none("condition and outcome in the name of a test", &offences);
}

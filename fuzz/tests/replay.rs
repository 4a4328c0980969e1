//! Replays the corpus of every fuzz target with the ordinary compiler, in seconds.
//!
//! ```text
//! corpus/NAME/HASH      what a fuzzer found worth keeping: reaches code that no other input does
//! corpus/NAME/found-..  showed a fault once
//! ```
//! Bounds: `INPUT_BYTES_MAX` an input and `CORPUS_BYTES_MAX` all of them, as they are committed.
#![allow(clippy::unwrap_used, reason = "a corpus that cannot be read is not replayed")]

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use headend_fuzz::{Body, TARGETS, canary::canary};

/// Inputs of a body in a folder that make it panic, by name.
fn failing(body: Body, folder: &Path) -> Vec<String> {
    let is_well = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap();
        catch_unwind(AssertUnwindSafe(|| body(&bytes))).is_ok()
    };
    inputs(folder)
        .into_iter()
        .filter(|path| !is_well(path))
        .map(|p| p.display().to_string())
        .collect()
}

fn inputs(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn every_input_of_the_corpus_is_taken_without_a_fault() {
    // Targets side by side: each is a thread's work of a second or less.
    let failed: Vec<String> = std::thread::scope(|scope| {
        let threads = TARGETS
            .iter()
            .map(|(name, body)| scope.spawn(move || failing(*body, &here("corpus").join(name))));
        let threads: Vec<_> = threads.collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "{failed:#?}");
}

/// The replay has to fail when a body does: the planted fault of the canary is one.
#[test]
fn input_that_makes_a_body_panic_is_told_by_its_name() {
    let failed = failing(canary, &here("tests/canary"));
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(failed[0].ends_with("tests/canary/fault"), "{failed:?}");
}

#[test]
fn targets_programs_and_corpora_have_the_same_names() {
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names.len(), TARGETS.len(), "a name is there twice");
    let manifest = fs::read_to_string(here("Cargo.toml")).unwrap();
    let mut programs = BTreeSet::new();
    for path in inputs(&here("fuzz_targets")) {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let line = format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"");
        assert!(manifest.contains(&line), "Cargo.toml lacks {name}");
        let options = text.lines().find_map(|line| line.strip_prefix("//! Options: ")).unwrap();
        for dictionary in options.split(' ').filter_map(|word| word.strip_prefix("-dict=fuzz/")) {
            assert!(here(dictionary).is_file(), "{name}: {dictionary} is not there");
        }
        programs.insert(name);
    }
    assert!(programs.remove("canary"));
    assert_eq!(programs, names, "left: fuzz_targets, right: TARGETS");
    let folders = inputs(&here("corpus")).into_iter();
    let folders: BTreeSet<String> =
        folders.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(folders, names, "left: corpus, right: TARGETS");
}

#[test]
fn corpus_is_small_and_no_target_is_without_inputs() {
    let mut all = 0;
    for (name, _) in TARGETS {
        let paths = inputs(&here("corpus").join(name));
        assert!(!paths.is_empty(), "{name} has no input");
        for path in paths {
            let bytes = fs::metadata(&path).unwrap().len();
            assert!(bytes <= INPUT_BYTES_MAX, "{} has {bytes} bytes", path.display());
            all += bytes;
        }
    }
    assert!(all <= CORPUS_BYTES_MAX, "{all} bytes: scripts/fuzz.sh --minimise");
}

const INPUT_BYTES_MAX: u64 = 80 << 10;
const CORPUS_BYTES_MAX: u64 = 3 << 20;

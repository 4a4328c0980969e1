//! Files of `/sys`: one value for each CPU or disk; those that differ are named together.

use super::super::Check;
use super::super::facts::Facts;
use super::super::tuning::Entry;

pub(super) fn judge(entry: &'static Entry, facts: &Facts) -> Vec<Check> {
    let files = facts.files.get(&entry.key).map_or(&[][..], Vec::as_slice);
    let name = name_of(&entry.key);
    if files.is_empty() {
        let why = match entry.key.contains("{media_disk}") {
            true => "no folder is configured (vod.root), or it is on no single disk",
            false => entry.absent.as_deref().unwrap_or_else(|| facts.machine.why_hidden()),
        };
        return vec![Check::skip(name, why)];
    }
    if name == LATENCY {
        return vec![idle_states(entry, facts, files)];
    }
    // `always [madvise] never` is a choice, and what stands in brackets is chosen.
    let chosen = |text: &str| {
        let inside = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        inside.map_or(text, |(word, _)| word).to_owned()
    };
    let values = files.iter().map(|(_, text)| chosen(text));
    let mut different: Vec<String> =
        values.clone().filter(|value| entry.is_met_by(value) == Some(false)).collect();
    different.sort_unstable();
    different.dedup();
    if different.is_empty() {
        let mut found: Vec<String> = values.collect();
        found.sort_unstable();
        found.dedup();
        return vec![Check::ok(name, found.join(", "))];
    }
    // With one file its path, with many the pattern, which a shell fills in.
    let path = match files {
        [(path, _)] => path,
        _ => &entry.key,
    };
    let fix = entry.fix(&[("path", path)]).unwrap_or_default();
    let check = Check::bad(entry.level(), name, different.join(", "), &entry.reason, &fix);
    vec![if fix.contains("| sudo tee ") { check.by_command() } else { check }]
}

/// Idle states that are deep and switched on, on the CPUs of shards.
fn idle_states(entry: &'static Entry, facts: &Facts, files: &[(String, String)]) -> Check {
    let shards = facts.place.as_ref().map_or(&[][..], |place| &place.shards);
    let is_shards = |path: &str| {
        let cpu = path.split('/').find_map(|part| part.strip_prefix("cpu")?.parse().ok());
        cpu.is_some_and(|cpu: usize| shards.contains(&cpu))
    };
    let of_shards = files.iter().filter(|(path, _)| is_shards(path));
    let is_deep = |(_, text): &&(String, String)| entry.is_met_by(text) == Some(false);
    let deep: Vec<&(String, String)> = of_shards.clone().filter(is_deep).collect();
    let most = |states: &mut dyn Iterator<Item = &(String, String)>| {
        states.filter_map(|(_, text)| text.parse::<u64>().ok()).max().unwrap_or(0)
    };
    if deep.is_empty() {
        return Check::ok(LATENCY, format!("{} us at most", most(&mut of_shards.into_iter())));
    }
    let found = format!("{} us", most(&mut deep.iter().copied()));
    let folders = deep.iter().filter_map(|(path, _)| path.strip_suffix("/latency"));
    let paths: Vec<String> = folders.map(|folder| format!("{folder}/disable")).collect();
    let fix = format!("echo 1 | sudo tee {}", paths.join(" "));
    Check::bad(entry.level(), LATENCY, found, &entry.reason, fix).by_command()
}

/// What a person calls it.
fn name_of(key: &str) -> &str {
    match key.rsplit('/').next().unwrap_or(key) {
        "scaling_governor" => "CPU governor",
        "latency" => LATENCY,
        "current_clocksource" => "clock source",
        "enabled" => "transparent huge pages",
        other => other,
    }
}

const LATENCY: &str = "wake-up from idle states";

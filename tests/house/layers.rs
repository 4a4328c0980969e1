//! The plan of the house as tests: which room may use which, and what is spoken of really is there.
//!
//! Stricter than the compiler, which takes any `use`. Each test prints every place that breaks its
//! rule. Exceptions are lists with reasons, and one that is no longer needed fails too: lists only
//! get shorter. Rules about single files (length, headers, names) are in `tidy.rs`.
//! Bounds: `FILES_MAX` files, `DEPTH_MAX` folders deep; anything else means a walk gone astray.
#![expect(clippy::unwrap_used, reason = "a repository that cannot be read is not tidy")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms of `src`, lowest layer first: a room uses lower layers only. `src/lib.rs` has the picture.
const LAYERS: &[&[&str]] = &[
    &["base"],
    &["mapped", "metrics", "takeover"],
    &["rtsp", "rtp", "rtcp", "media"],
    &["sdp", "library", "config"],
    &["access", "sandbox"],
    &["poll", "router", "live/core"],
    &["session", "dist", "hls", "whep"],
    &["vod", "live", "store", "ledger", "pki"],
    &["lineup"],
    &["consumers", "worker", "agent"],
    &["shard", "http", "host"],
    &["cli"],
    &["appliance"],
];

/// (file, room, reason): imports that go up.
const UPWARD: &[(&str, &str, &str)] = &[
    ("src/cli/base.rs", "appliance", "the verb that starts a base"),
    ("src/cli/serve.rs", "appliance", "the verb that starts the appliance"),
    ("src/cli/node.rs", "appliance", "the verb that starts a node"),
    ("src/vod/tests/mod.rs", "consumers", "tests on the rig of sessions"),
    ("src/live/tests.rs", "consumers", "tests on the rig of sessions"),
    ("src/lineup/service_tests.rs", "consumers", "tests on the rig of sessions"),
    ("src/lineup/tests/mod.rs", "consumers", "tests on the rig of sessions"),
    ("src/live/sources/listen/tests.rs", "consumers", "tests on the rig of sessions"),
    ("src/live/sources/pull/joined_tests.rs", "consumers", "tests on the rig of sessions"),
];

/// (folder, what it must not name): parts of one room that do not know each other.
const STRANGERS: &[(&str, &[&str])] = &[
    ("src/live/readers/", &["live::sources", "live::front"]),
    ("src/live/multicast/", &["live::sources", "live::front"]),
    ("src/live/sources/", &["live::readers", "live::multicast", "live::front"]),
    ("src/live/hub.rs", &["live::readers", "live::sources", "live::multicast", "live::front"]),
];

/// (crate, paths that may name it): what is replaceable has one address.
const ADDRESSES: &[(&str, &[&str])] = &[
    ("aes", &["src/rtp/srtp/", "src/whep/crypto.rs"]),
    ("argon2", &["src/access/"]),
    ("axum", &["src/http/"]),
    ("clap", &["src/cli/"]),
    ("clap_complete", &["src/cli/generate.rs"]),
    ("clap_mangen", &["src/cli/generate.rs"]),
    ("core_affinity", &["src/appliance/", "src/worker/executor.rs"]),
    ("ctr", &["src/rtp/srtp/", "src/whep/crypto.rs"]),
    ("dav_server", &["src/http/ctp/"]),
    ("dimpl", &["src/whep/crypto.rs"]),
    ("ed25519_dalek", &["src/dist/keys.rs"]),
    ("glommio", &["src/worker/"]),
    // ring has one of this name, too.
    ("hmac", &["src/rtp/srtp/", "src/dist/webhook/secret.rs", "src/whep/crypto.rs"]),
    ("http_auth", &["src/rtsp/auth.rs", "src/access/"]),
    ("indicatif", &["src/cli/jobs/"]),
    ("io_uring", &["src/shard/ring/", "src/host/ring.rs"]),
    ("ipnet", &["src/config/", "src/access/", "src/dist/webhook/"]),
    ("jsonwebtoken", &["src/access/"]),
    ("md5", &["src/access/", "src/http/ctp/"]),
    ("memmap2", &["src/mapped/"]),
    ("landlock", &["src/sandbox/files.rs"]),
    ("mp4_atom", &["src/media/"]),
    ("nix", &["src/appliance/takeover/wire.rs", "src/sandbox/account.rs"]),
    ("prometheus", &["src/metrics/", "src/http/admin/"]),
    ("ratatui", &["src/cli/remote/top/"]),
    ("regex", &["src/config/"]),
    ("rusqlite", &["src/ledger/"]),
    ("rcgen", &["src/pki/", "src/whep/tests.rs"]),
    (
        "reqwest",
        &[
            "src/agent/",
            "src/appliance/base/callbacks.rs",
            "src/appliance/gate/",
            "src/http/peer/tests.rs",
        ],
    ),
    (
        "rustls",
        &["src/pki/", "src/agent/", "src/http/server.rs", "src/appliance/node.rs", "src/cli/jobs/"],
    ),
    (
        "rustls_native_certs",
        &[
            "src/appliance/base/callbacks.rs",
            "src/appliance/certificates.rs",
            "src/appliance/gate/",
        ],
    ),
    ("rtcp_types", &["src/rtcp/"]),
    ("rtp_types", &["src/rtp/"]),
    ("rtsp_types", &["src/rtsp/"]),
    ("sdp_types", &["src/sdp/"]),
    ("seccompiler", &["src/sandbox/seccomp.rs", "src/shard/ring/tests/refusals.rs"]),
    ("quinn_udp", &["src/appliance/hls/datagrams.rs"]),
    ("str0m", &["src/whep/"]),
    ("subtle", &["src/access/", "src/dist/token.rs", "src/rtp/srtp/"]),
    (
        "tokio",
        &[
            "src/agent/",
            "src/http/",
            "src/appliance/",
            "src/ledger/",
            "src/store/",
            "src/worker/executor.rs",
        ],
    ),
    ("tokio_postgres", &["src/ledger/"]),
    ("tokio_rustls", &["src/http/server.rs"]),
    ("toml", &["src/config/", "src/cli/config_verb.rs", "src/host/tuning.rs"]),
    ("tracing_subscriber", &["src/cli/log.rs", "src/cli/log/"]),
    ("ureq", &["src/cli/remote/", "src/cli/jobs/"]),
    ("url", &["src/dist/webhook/"]),
    ("x509_parser", &["src/pki/"]),
    ("xml", &["src/http/ctp/"]),
    ("xmltree", &["src/http/ctp/"]),
];

/// Rooms, and parts of rooms, of plain code: no descriptor, clock or thread of their own.
const PLAIN: &[&str] = &[
    "base",
    "rtsp",
    "rtp",
    "rtcp",
    "sdp",
    "media",
    "poll",
    "live",
    "lineup",
    "access",
    "router",
    "session",
    "takeover",
    "vod",
    "consumers",
    "dist",
    "hls",
    "whep",
    "pki",
    "host/judge",
];

/// What plain code must not name.
const WORLDLY: &[&str] = &[
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "Instant::now",
    "SystemTime::now",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
];

/// (file, reason): plain code's tests that need the world.
const WORLDLY_FILES: &[(&str, &str)] = &[
    ("src/media/container/tests.rs", "makes its files with ffmpeg"),
    ("src/whep/tests.rs", "str0m wants a moment to begin with"),
];

/// Lines between an `unsafe` and its note at most: a note covers the statement it stands above.
const SAFETY_ABOVE_MAX: usize = 12;
/// More than there will be; fewer than a stray `target` or a home folder has.
const FILES_MAX: usize = 5_000;
/// Deeper is a circle of links.
const DEPTH_MAX: usize = 12;

/// A file that is tracked, as text.
struct File {
    /// From the root of the repository, with slashes.
    path: String,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Lines that are neither comments nor attributes, each with its number; a trailing comment is
    /// cut off.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        let is_aside = |line: &str| ["//", "#[", "#!["].iter().any(|mark| line.starts_with(mark));
        let lines = lines.filter(move |(_, line)| !is_aside(line.trim_start()));
        lines.map(|(i, line)| (i + 1, line.split(" // ").next().unwrap_or(line)))
    }
}

#[test]
fn rooms_use_lower_layers_only() {
    let mut broken = Vec::new();
    let mut used = BTreeSet::new();
    for file in rust_files() {
        let Some(room) = room_of(&file.path) else { continue };
        let Some(layer) = layer_of(room) else {
            broken.push(format!("{}: room `{room}` is in no layer", file.path));
            continue;
        };
        for (number, target) in file.code().flat_map(|(n, code)| rooms_named(code, n)) {
            // A name that is no room is an item of the crate's root; there are none today.
            let is_lower = layer_of(target).is_some_and(|other| other < layer);
            let exception = (file.path.as_str(), target);
            if let Some(known) = UPWARD.iter().find(|(path, to, _)| (*path, *to) == exception) {
                used.insert(known);
            } else if target != room && !is_lower {
                broken.push(format!("{}:{number}: `{room}` uses `{target}`", file.path));
            }
        }
    }
    let spare = UPWARD.iter().filter(|known| !used.contains(known));
    broken.extend(spare.map(|(path, to, _)| format!("{path} -> {to}: strike it off the list")));
    report(broken);
}

#[test]
fn strangers_within_a_room_do_not_name_each_other() {
    let mut broken = Vec::new();
    for (folder, others) in STRANGERS {
        let files: Vec<File> =
            rust_files().into_iter().filter(|file| file.path.starts_with(folder)).collect();
        assert!(!files.is_empty(), "{folder} is not there");
        for file in &files {
            for (number, code) in file.code() {
                let named = others.iter().filter(|other| has_word(code, other));
                broken.extend(named.map(|other| format!("{}:{number}: {other}", file.path)));
            }
        }
    }
    report(broken);
}

#[test]
fn every_room_is_in_the_map() {
    let src = root().join("src");
    let entries = fs::read_dir(&src).unwrap().map(|entry| entry.unwrap().path());
    let rooms = entries
        .filter(|path| path.is_dir())
        .filter_map(|path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned));
    let rooms: BTreeSet<String> = rooms.collect();
    let listed = LAYERS.concat().into_iter().filter(|room| !room.contains('/'));
    let listed: BTreeSet<String> = listed.map(str::to_owned).collect();
    assert_eq!(rooms, listed, "folders of src and the layers of this test");
    let map = fs::read_to_string(src.join("lib.rs")).unwrap();
    for (layer, rooms) in LAYERS.iter().enumerate() {
        let line = format!("//! {layer}  {}", rooms.join("  "));
        assert!(map.contains(&line), "src/lib.rs lacks the line: {line}");
    }
}

#[test]
fn crates_have_one_address() {
    let mut broken = Vec::new();
    for file in rust_files().iter().filter(|file| file.path.starts_with("src/")) {
        for (name, places) in ADDRESSES {
            if places.iter().any(|place| file.path.starts_with(place)) {
                continue;
            }
            let path = format!("{name}::");
            let lines = file.code().filter(|(_, code)| starts_a_word(code, &path));
            broken.extend(lines.map(|(n, _)| format!("{}:{n}: names {name}", file.path)));
        }
    }
    report(broken);
}

#[test]
fn plain_code_owns_no_file_clock_or_thread() {
    let mut broken = Vec::new();
    for file in rust_files() {
        let is_within = |part: &&str| file.path.starts_with(&format!("src/{part}/"));
        let is_plain = PLAIN.iter().any(is_within);
        if !is_plain || WORLDLY_FILES.iter().any(|(path, _)| *path == file.path) {
            continue;
        }
        for (number, code) in file.code() {
            let named = WORLDLY.iter().filter(|word| starts_a_word(code, word));
            broken.extend(named.map(|word| format!("{}:{number}: {word}", file.path)));
        }
    }
    report(broken);
}

#[test]
fn every_unsafe_says_why_it_is_sound() {
    let mut broken = Vec::new();
    for file in rust_files() {
        let lines: Vec<&str> = file.text.lines().collect();
        for (number, code) in file.code().filter(|(_, code)| has_word(code, "unsafe")) {
            // In quotes it is a word that a test looks for.
            if !code.contains('"') && !is_discharged(&lines, number - 1, code) {
                broken.push(format!("{}:{number}", file.path));
            }
        }
    }
    report(broken);
}

#[test]
fn documents_are_ascii_and_name_no_machine() {
    let homes = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let is_document = |path: &str| [".md", ".service", ".sh"].iter().any(|e| path.ends_with(e));
    let broken = files().into_iter().filter(|file| is_document(&file.path)).flat_map(|file| {
        let is_wrong =
            |line: &str| !line.is_ascii() || homes.iter().any(|home| line.contains(home));
        let lines = file.text.lines().enumerate().filter(|(_, line)| is_wrong(line));
        lines.map(|(i, line)| format!("{}:{}: {line}", file.path, i + 1)).collect::<Vec<_>>()
    });
    report(broken);
}

#[test]
fn readme_leads_to_files_that_exist() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let quoted = readme.split('`').skip(1).step_by(2);
    let paths = quoted.filter(|text| !text.contains([' ', '<', '*', ':']));
    let starts =
        ["src/", "tests/", "scripts/", "loadgen/", "tuning/", "benches/", "fuzz/", "LICENSE"];
    let paths = paths.filter(|text| starts.iter().any(|start| text.starts_with(start)));
    report(paths.filter(|path| !root().join(path).exists()).map(str::to_owned));
}

/// Fails with every line, or passes.
#[track_caller]
fn report(broken: impl IntoIterator<Item = String>) {
    let broken: Vec<String> = broken.into_iter().collect();
    assert!(broken.is_empty(), "{} places:\n{}", broken.len(), broken.join("\n"));
}

/// Whether a note discharges the `unsafe` on line `index` (from 0): above the statement, or, for a
/// duty passed on by `unsafe fn` or taken over by `unsafe impl`, in the words above the item.
fn is_discharged(lines: &[&str], index: usize, code: &str) -> bool {
    let above = lines[index.saturating_sub(SAFETY_ABOVE_MAX)..index].iter().rev();
    let is_item = code.contains("unsafe fn") || code.contains("unsafe impl");
    // A body's end is the border: a note above it belongs to something else.
    let mut near = above.take_while(|line| !matches!(line.trim_end(), "}" | "    }"));
    near.any(|line| line.contains("// SAFETY: ") || (is_item && line.contains("# Safety")))
        || (code.contains("unsafe fn") && lines.iter().any(|line| line.contains("unsafe impl")))
}

/// `src/shard/ring/run.rs` -> `shard`; nothing for files that stand above the layers. A room within
/// a room that has a layer of its own is named by both.
fn room_of(path: &str) -> Option<&str> {
    let path = path.strip_prefix("src/")?;
    let (room, _) = path.split_once('/')?;
    Some(inner_room(path, "/").unwrap_or(room))
}

/// The room within a room that a path leads to, if that has a layer of its own.
fn inner_room(path: &str, separator: &str) -> Option<&'static str> {
    let inner = LAYERS.iter().flat_map(|rooms| rooms.iter()).filter(|room| room.contains('/'));
    let leads_to = |room: &&&str| {
        let start = room.replace('/', separator);
        path.strip_prefix(&start).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
    };
    inner.copied().find(|room| leads_to(&room))
}

fn layer_of(room: &str) -> Option<usize> {
    LAYERS.iter().position(|rooms| rooms.contains(&room))
}

/// What stands behind each `crate::` of a line, with the line's number.
fn rooms_named(code: &str, number: usize) -> Vec<(usize, &str)> {
    let behind = code.match_indices("crate::").map(|(at, word)| &code[at + word.len()..]);
    let name = |rest: &'_ str| {
        rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len())
    };
    let room = |rest| inner_room(rest, "::").unwrap_or_else(|| &rest[..name(rest)]);
    behind.map(|rest| (number, room(rest))).collect()
}

fn has_word(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        !code[..at].ends_with(is_part) && !code[at + word.len()..].starts_with(is_part)
    })
}

/// Whether `path` occurs in `code` other than as the tail of a longer word.
fn starts_a_word(code: &str, path: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(path).any(|(at, _)| !code[..at].ends_with(is_part))
}

fn rust_files() -> Vec<File> {
    files().into_iter().filter(File::is_rust).collect()
}

/// Every text file of the repository, in order.
fn files() -> Vec<File> {
    let mut paths = Vec::new();
    walk(&root(), 0, &mut paths);
    assert!(paths.len() > 100, "the walk found {} files only", paths.len());
    paths.sort();
    let files = paths.into_iter().filter_map(|path| {
        // What is not UTF-8 is no text: the built-in clip.
        let text = fs::read_to_string(&path).ok()?;
        let path = path.strip_prefix(root()).unwrap().to_str()?.to_owned();
        Some(File { path, text })
    });
    files.collect()
}

fn walk(folder: &Path, depth: usize, paths: &mut Vec<PathBuf>) {
    assert!(depth <= DEPTH_MAX, "{} is too deep", folder.display());
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        // Built, fetched or recorded by tools.
        if ["target", ".git", "corpus"].iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if kind.is_dir() {
            walk(&path, depth + 1, paths);
        } else if kind.is_file() {
            paths.push(path);
        }
        assert!(paths.len() <= FILES_MAX, "more files than a repository has");
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

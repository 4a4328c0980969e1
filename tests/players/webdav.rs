//! curl, rclone and cadaver bring files to a base, as they are; `headend job push` beside them.
//!
//! The job has a node that is known and does not fetch: what is tested is the way to the base.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use headend::dist::keys::NodeKeys;
use serde_json::{Value, json};

use crate::support::base::Base;
use crate::support::process::{Finished, PLAYER_PATIENCE, run, run_command};
use crate::support::scratch;

/// A base, a job of it, and a folder for the files of a test.
struct Rig {
    _base: Base,
    url: String,
    job: String,
    folder: tempfile::TempDir,
    /// The certificate of the CA.
    ca: PathBuf,
}

impl Rig {
    /// With TLS.
    fn start() -> Self {
        Self::start_with(Base::start_secure)
    }

    /// Without.
    fn start_plain() -> Self {
        Self::start_with(Base::start_with)
    }

    fn start_with(start: fn(&Path, &[&str]) -> Base) -> Self {
        let folder = tempfile::tempdir_in(scratch()).unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        fs::write(at("provider"), format!("me {TOKEN}\n")).unwrap();
        fs::write(at("join"), format!("{JOIN}\n")).unwrap();
        let (provider, join) = (at("provider"), at("join"));
        let words = ["--provider-token-file", &provider, "--join-token-file", &join];
        let base = start(&folder.path().join("data"), &words);
        let hello = json!({
            "node": "n1", "incarnation": 1, "addr": "127.0.0.1:1", "free_bytes": 1_u64 << 40,
            "public_key": NodeKeys::from_bytes(&[1; 32]).verify_key().to_string(),
        });
        let post = |token: &str, path: &str, body: &Value| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(base.client_with(token).post(path, body)).1
        };
        let welcome = post(JOIN, "/agent/v1/hello", &hello);
        assert!(welcome["base_key"].is_string(), "{welcome}");
        let job = post(TOKEN, "/v1/jobs", &json!({ "targets": "all" }));
        let job = job["job_id"].as_str().unwrap_or_else(|| panic!("{job}")).to_owned();
        let (url, ca) = (base.url(), folder.path().join("data/ca.pem"));
        Self { _base: base, url, job, folder, ca }
    }

    /// A file of the test's folder.
    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn job_url(&self, path: &str) -> String {
        format!("{}/ctp/{}/{path}", self.url, self.job)
    }

    /// curl with the token as a password; asserts that the base does what it is asked.
    fn curl(&self, args: &[&str]) -> String {
        let user = format!("anyone:{TOKEN}");
        let mut all = vec!["-sS", "--fail-with-body", "-u", &user];
        if self.ca.exists() {
            all.extend(["--cacert", self.ca.to_str().unwrap()]);
        }
        all.extend(args);
        run("curl", &all).stdout
    }

    /// `headend VERBS..` with the base and the token in the environment.
    fn headend(&self, args: &[&str]) -> Finished {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headend"));
        command.args(args).env("HEADEND_BASE", &self.url).env("HEADEND_TOKEN", TOKEN);
        command.env("HEADEND_CA", &self.ca);
        run_command(&mut command, PLAYER_PATIENCE)
    }

    /// What a file of the job has.
    fn bytes(&self, path: &str) -> Vec<u8> {
        let out = self.folder.path().join("out");
        self.curl(&["-o", out.to_str().unwrap(), &self.job_url(path)]);
        fs::read(out).unwrap()
    }
}

fn film(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| u8::try_from(i * 31 % 251).unwrap()).collect()
}

fn set_modified(file: &Path, seconds: u64) {
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
}

const TOKEN: &str = "hdp_0123456789abcdef0123456789abcdef";
const JOIN: &str = "hdj_0123456789abcdef0123456789abcdef";

#[test]
fn curl_uploads_goes_on_at_an_offset_and_reads_ranges() {
    let base = Rig::start();
    let film = film(3_000_000);
    let file = base.file("film.mp4", &film);
    let (file, url) = (file.to_str().unwrap(), base.job_url("a/film.mp4"));
    base.curl(&["-T", file, &url]);
    assert_eq!(base.bytes("a/film.mp4"), film);
    assert_eq!(base.curl(&["-r", "0-0", &url]).len(), 1);
    // From a pipe: chunked, its length is not known.
    let script = format!(
        "cat {file} | curl -sS --fail --cacert {} -u x:{TOKEN} -T - {}",
        base.ca.display(),
        base.job_url("piped")
    );
    run("sh", &["-c", &script]);
    assert_eq!(base.bytes("piped"), film);
    // A part, as of an upload that broke off, then the rest.
    let part = base.file("part", &film[..1_000_000]);
    let url = base.job_url("resumed");
    let lines = ["Upload-Complete: ?0", "Upload-Length: 3000000"];
    base.curl(&["-H", lines[0], "-H", lines[1], "-T", part.to_str().unwrap(), &url]);
    let head = base.curl(&["-I", &url]).to_lowercase();
    assert!(head.contains("upload-offset: 1000000"), "{head}");
    base.curl(&["-C", "1000000", "-T", file, &url]);
    assert_eq!(base.bytes("resumed"), film);
    base.curl(&["-X", "MKCOL", &base.job_url("folder")]);
    base.curl(&["-X", "DELETE", &base.job_url("piped")]);
    let list = base.curl(&["-X", "PROPFIND", "-H", "Depth: 1", &base.job_url("")]);
    assert!(list.contains("/folder/<") && !list.contains("/piped<"), "{list}");
}

#[test]
fn rclone_copies_and_checks_by_time_and_hash() {
    let base = Rig::start();
    let source = base.folder.path().join("films");
    for (name, bytes) in [("one.mp4", 2_000_000), ("deep/er/two.mp4", 70_000), ("none", 0)] {
        let file = base.file(&format!("films/{name}"), &film(bytes));
        set_modified(&file, 1_700_000_000);
    }
    let password = run("rclone", &["obscure", TOKEN]).stdout;
    let rclone = |args: &[&str]| {
        let mut command = Command::new("rclone");
        command.args(args).args(["--webdav-vendor", "owncloud", "--webdav-user", "me"]);
        command.args(["--webdav-url", &base.job_url(""), "--webdav-pass", password.trim()]);
        command.args(["--config", "/dev/null", "--retries", "1", "--ca-cert"]).arg(&base.ca);
        let finished = run_command(&mut command, PLAYER_PATIENCE);
        assert!(finished.status.success(), "{args:?}: {}", finished.stderr);
        finished.stdout + &finished.stderr
    };
    let source = source.to_str().unwrap();
    rclone(&["copy", source, ":webdav:in"]);
    let list = rclone(&["lsl", ":webdav:in"]);
    assert!(list.contains("2000000 2023-11-14") && list.contains("deep/er/two.mp4"), "{list}");
    let checked = rclone(&["check", source, ":webdav:in"]);
    assert!(checked.contains("3 matching files") && !checked.contains("could not"), "{checked}");
    let again = rclone(&["copy", "-v", source, ":webdav:in"]);
    assert!(!again.contains("Copied"), "{again}");
    rclone(&["moveto", ":webdav:in/one.mp4", ":webdav:in/uno.mp4"]);
    assert_eq!(base.bytes("in/uno.mp4"), film(2_000_000));
    rclone(&["purge", ":webdav:in/deep"]);
    let shown = base.headend(&["job", "show", &base.job]).stdout;
    assert!(shown.contains("move") && shown.contains("in/one.mp4 to in/uno.mp4"), "{shown}");
}

#[test]
fn cadaver_walks_puts_moves_and_sets_properties() {
    // It asks a person whether to trust a CA that the system does not know.
    let base = Rig::start_plain();
    let file = base.file("film.mp4", &film(100_000));
    let home = base.folder.path();
    base.file(".netrc", format!("machine 127.0.0.1 login me password {TOKEN}\n").as_bytes());
    let script = format!(
        "open {}\nmkcol a\ncd a\nput {} film.mp4\nls\npropset film.mp4 mood calm\n\
         propget film.mp4 mood\ncopy film.mp4 copy.mp4\nmove film.mp4 b.mp4\nls\ndelete copy.mp4\nquit\n",
        base.job_url(""),
        file.display()
    );
    let script = base.file("script", script.as_bytes());
    let mut command = Command::new("cadaver");
    command.arg("-r").arg(&script).env("HOME", home);
    let finished = run_command(&mut command, PLAYER_PATIENCE);
    let told = finished.stdout + &finished.stderr;
    assert!(told.contains("calm"), "{told}");
    assert!(!told.contains("failed") && !told.contains("Could not"), "{told}");
    assert_eq!(base.bytes("a/b.mp4"), film(100_000));
}

#[test]
fn job_push_brings_files_and_folders_with_their_attributes() {
    let base = Rig::start();
    let one = base.file("shows/one.mp4", &film(2_500_000));
    base.file("shows/deep/two.mp4", &film(10));
    set_modified(&one, 1_700_000_000);
    let shows = base.folder.path().join("shows");
    let pushed =
        base.headend(&["job", "push", shows.to_str().unwrap(), "--detach", "--into", "in"]);
    assert!(pushed.status.success(), "{}{}", pushed.stdout, pushed.stderr);
    let job = pushed.stdout.split_whitespace().nth(1).unwrap().to_owned();
    let read = |path: &str| {
        let out = base.folder.path().join("out");
        let url = format!("{}/ctp/{job}/{path}", base.url);
        base.curl(&["-o", out.to_str().unwrap(), &url]);
        fs::read(out).unwrap()
    };
    assert_eq!(read("in/shows/one.mp4"), film(2_500_000));
    assert_eq!(read("in/shows/deep/two.mp4"), film(10));
    let shown = base.headend(&["job", "show", &job, "--json"]).stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let commands = shown["commands"].as_array().unwrap();
    let put = commands.iter().find(|command| command["path"] == "in/shows/one.mp4").unwrap();
    assert_eq!(put["attrs"]["mtime_ns"], 1_700_000_000_000_000_000_i64);
    assert_eq!(shown["job"]["state"], "closing");
    for verb in ["ls", "show", "query", "report", "verify"] {
        let args = if verb == "ls" { vec!["job", verb] } else { vec!["job", verb, &job] };
        let finished = base.headend(&args);
        assert!(finished.status.success(), "{verb}: {}{}", finished.stdout, finished.stderr);
    }
    let nodes = base.headend(&["node", "ls"]).stdout;
    assert!(nodes.contains("n1"), "{nodes}");
    // It is over: files do not go into it any more.
    let late = base.headend(&["job", "push", one.to_str().unwrap(), "--job", &job]);
    assert!(late.stderr.contains("takes no more files"), "{}", late.stderr);
    let cancelled = base.headend(&["job", "cancel", &job]).stdout;
    assert!(cancelled.contains("is cancelled"), "{cancelled}");
}

#[test]
fn job_push_says_in_one_sentence_what_is_wrong() {
    let base = Rig::start();
    let file = base.file("film.mp4", b"x");
    let file = file.to_str().unwrap();
    for (args, exit, words) in [
        (vec!["job", "push", "/nonexistent/film.mp4"], 1, "No such file"),
        (vec!["job", "push", file, "--to", "nobody"], 1, "refuses"),
        (vec!["job", "push", file, "--to", "site=north"], 1, "refuses"),
        (vec!["job", "push", file, "--token", "hdp_wrong-0123456789"], 1, "(token_unknown)"),
        (vec!["job", "push", file, "--base", "https://127.0.0.1:1"], 3, "no answer from the base"),
        (vec!["job", "show", "x"], 2, "not an id"),
    ] {
        let finished = base.headend(&args);
        assert_eq!(finished.status.code(), Some(exit), "{args:?}: {}", finished.stderr);
        assert!(finished.stderr.contains(words), "{args:?}: {}", finished.stderr);
        assert_eq!(finished.stderr.lines().count(), 1, "{args:?}: {}", finished.stderr);
    }
}

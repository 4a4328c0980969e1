//! What a package has beside the program: man pages, completions, configuration, units, the profile
//! of containers; and the package for Debian itself, made of the debug build.
//!
//! What takes a tool that is not there is skipped, with a line that says so.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and says where"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use headend::sandbox::profile;

use crate::support::process::{Finished, run, run_command};
use crate::support::sandbox::allow_only;
use crate::support::scratch;
use crate::support::server::{Options, Server, binary, command};
use crate::support::session::{Lower, Session};
use crate::support::wait::PATIENCE;

/// A package is compressed in this time on a slow machine.
const PACKING: Duration = Duration::from_secs(180);

fn has(tool: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {tool} >/dev/null")]).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        println!("skipped: no {tool} here (scripts/test-setup.sh installs it)");
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn assert_ok(finished: &Finished) {
    assert!(finished.status.success(), "{}\n{}", finished.stdout, finished.stderr);
}

/// `headend generate` into a folder of its own.
fn generated() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    run(binary().to_str().unwrap(), &["generate", folder.path().to_str().unwrap()]);
    folder
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_verb_has_a_man_page_that_formats_without_warnings() {
    let generated = generated();
    let pages = files(&generated.path().join("man"));
    let names: BTreeSet<_> =
        pages.iter().map(|page| page.file_name().unwrap().to_str().unwrap()).collect();
    for verb in ["", "-serve", "-base", "-node", "-doctor", "-config-check", "-job-push"] {
        assert!(names.contains(format!("headend{verb}.1").as_str()), "{verb}: {names:?}");
    }
    assert!(!names.contains("headend-generate.1"), "a hidden verb has none");
    if !has("man") {
        return;
    }
    for page in &pages {
        let mut man = Command::new("man");
        man.env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80").env("MANROFFSEQ", "");
        man.args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"]).arg(page);
        let formatted = run_command(&mut man, PATIENCE);
        assert_ok(&formatted);
        assert_eq!(formatted.stderr, "", "{}", page.display());
        assert!(formatted.stdout.len() > 500, "{} is empty", page.display());
    }
}

#[test]
fn completions_load_and_complete_a_verb() {
    let generated = generated();
    let folder = generated.path().join("completions");
    for file in ["headend.bash", "_headend", "headend.fish"] {
        assert!(folder.join(file).metadata().unwrap().len() > 1_000, "{file}");
    }
    let script = "set -eu; . \"$1\"; complete -p headend >/dev/null; \
                  COMP_WORDS=(headend se) COMP_CWORD=1; _headend headend se headend; \
                  printf '%s\\n' \"${COMPREPLY[@]}\"; \
                  COMP_WORDS=(headend serve --us) COMP_CWORD=2; _headend headend --us serve; \
                  printf '%s\\n' \"${COMPREPLY[@]}\"";
    let bash = folder.join("headend.bash");
    let completed = run("bash", &["-c", script, "bash", bash.to_str().unwrap()]);
    let words: BTreeSet<_> = completed.stdout.lines().collect();
    assert_eq!(words, ["serve", "session", "--user"].into(), "{}", completed.stderr);
}

#[test]
fn configuration_of_the_package_is_valid() {
    let file = root().join("tuning/headend.toml");
    let checked =
        run(binary().to_str().unwrap(), &["config", "check", "-c", file.to_str().unwrap()]);
    assert_eq!(checked.stdout, format!("{}: ok\n", file.display()), "without a warning");
}

/// `systemd-analyze security` gives points from 0 (confined) to 10; here in tenths.
#[test]
fn units_are_as_hardened_as_the_readme_says() {
    if !has("systemd-analyze") {
        return;
    }
    for (unit, tenths) in [("headend", 18), ("headend-node", 16), ("headend-base", 13)] {
        let file = root().join(format!("tuning/{unit}.service"));
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["security", "--no-pager", "--offline=true"]);
        analyze.arg(format!("--threshold={tenths}")).arg(&file);
        let analyzed = run_command(&mut analyze, PATIENCE);
        if analyzed.stderr.contains("unrecognized option") {
            println!("skipped: this systemd-analyze reads no file");
            return;
        }
        let last = analyzed.stdout.lines().last().unwrap_or_default();
        assert!(analyzed.status.success(), "{unit}: {last}\n{}", analyzed.stderr);
    }
}

#[test]
fn profile_of_containers_lets_the_server_run_and_nothing_else() {
    let text = std::fs::read_to_string(root().join("tuning/seccomp.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["defaultAction"], "SCMP_ACT_ERRNO");
    let rules = json["syscalls"].as_array().unwrap();
    let names = rules.iter().flat_map(|rule| {
        assert_eq!(rule["action"], "SCMP_ACT_ALLOW");
        rule["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap())
    });
    let known = profile::numbers();
    let numbers: Vec<_> = names.filter_map(|name| known.get(name).copied()).collect();
    assert!(numbers.len() > 150, "{} names of this architecture", numbers.len());
    let files = tempfile::tempdir_in(scratch()).unwrap();
    let mut served = command(&Options::default(), files.path());
    allow_only(&mut served, &numbers);
    let server = Server::run(served, files);
    for lower in [Lower::Udp, Lower::Tcp] {
        let mut session = Session::open(server.rtsp, &server.demo_url(), lower);
        session.play(&[]);
        session.receive_packets(5, PATIENCE);
    }
    let mut forbidden = Command::new("unshare");
    forbidden.args(["-U", "true"]);
    allow_only(&mut forbidden, &numbers);
    let refused = run_command(&mut forbidden, PATIENCE);
    assert!(!refused.status.success() && refused.stderr.contains("not permitted"), "{refused:?}");
}

/// Makes the package of the debug build; `None` without cargo-deb.
fn package(out: &Path) -> Option<PathBuf> {
    let is_there = Command::new("cargo").args(["deb", "--version"]).output();
    if !is_there.is_ok_and(|output| output.status.success()) {
        println!("skipped: no cargo-deb here (scripts/test-setup.sh installs it)");
        return None;
    }
    let target = binary().parent().and_then(Path::parent).unwrap().to_owned();
    let mut make = Command::new("scripts/package.sh");
    make.arg("deb").current_dir(root());
    make.env("PACKAGE_DEBUG", "1").env("PACKAGE_DIR", out).env("CARGO_TARGET_DIR", target);
    let made = run_command(&mut make, PACKING);
    assert_ok(&made);
    files(out).into_iter().find(|file| file.extension().is_some_and(|end| end == "deb"))
}

#[test]
fn package_for_debian_has_everything_and_its_program_runs() {
    if !has("dpkg-deb") {
        return;
    }
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let Some(package) = package(folder.path()) else { return };
    let package = package.to_str().unwrap();
    let listed = run("dpkg-deb", &["--contents", package]).stdout;
    for (mode, path) in [
        ("-rwxr-xr-x", "./usr/bin/headend\n"),
        ("-rw-r--r--", "./etc/headend/headend.toml\n"),
        ("-rw-r--r--", "./usr/lib/systemd/system/headend.service\n"),
        ("-rw-r--r--", "./usr/lib/systemd/system/headend-node.service\n"),
        ("-rw-r--r--", "./usr/lib/systemd/system/headend-base.service\n"),
        ("-rw-r--r--", "./usr/lib/sysusers.d/headend.conf\n"),
        ("-rw-r--r--", "./usr/lib/sysctl.d/60-headend.conf\n"),
        ("-rw-r--r--", "./usr/share/headend/seccomp.json\n"),
        ("-rw-r--r--", "./usr/share/man/man1/headend.1.gz\n"),
        ("-rw-r--r--", "./usr/share/man/man1/headend-job-push.1.gz\n"),
        ("-rw-r--r--", "./usr/share/bash-completion/completions/headend\n"),
        ("-rw-r--r--", "./usr/share/zsh/vendor-completions/_headend\n"),
        ("-rw-r--r--", "./usr/share/fish/vendor_completions.d/headend.fish\n"),
    ] {
        let found = listed.lines().find(|line| format!("{line}\n").ends_with(&format!(" {path}")));
        assert!(found.is_some_and(|line| line.starts_with(mode)), "{path}: {found:?}\n{listed}");
    }
    let field = |name: &str| run("dpkg-deb", &["--field", package, name]).stdout;
    assert_eq!(field("Package").trim(), "headend");
    assert!(field("Depends").contains("libc6"), "{}", field("Depends"));
    assert_eq!(
        run("dpkg-deb", &["--info", package, "conffiles"]).stdout,
        "/etc/headend/headend.toml\n"
    );
    for script in ["postinst", "prerm", "postrm"] {
        let text = run("dpkg-deb", &["--info", package, script]).stdout;
        run("sh", &["-n", "-c", &text]);
    }
    let scratch_root = folder.path().join("root");
    let unpacked = scratch_root.to_str().unwrap();
    run("dpkg-deb", &["-x", package, unpacked]);
    let program = scratch_root.join("usr/bin/headend");
    let program = program.to_str().unwrap();
    let version = run(program, &["--version"]).stdout;
    assert_eq!(version.trim(), format!("headend {}", env!("CARGO_PKG_VERSION")));
    let configuration = format!("{unpacked}/etc/headend/headend.toml");
    run(program, &["config", "check", "-c", &configuration]);
    if has("systemd-sysusers") {
        run("systemd-sysusers", &[&format!("--root={unpacked}"), "headend.conf"]);
        let users = std::fs::read_to_string(scratch_root.join("etc/passwd")).unwrap();
        for user in ["headend:", "headend-node:", "headend-base:"] {
            assert!(users.lines().any(|line| line.starts_with(user)), "{user} {users}");
        }
    }
}

//! What people use today, in the same lab: one content from host 0 to all others.
//!
//! curl and rsync fetch from the base, all at once. aria2 is BitTorrent: the base seeds, a tracker
//! (opentracker) runs beside it. mbuffer is a chain of plain copies without hashes, receipts or a
//! second source: what moving the bytes costs at least. Programs that are not installed are left
//! out, with a line. CPU is that of all processes of a rival.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::lab::Lab;
use crate::support::process::{Kept, wait_for};
use crate::support::wait::until_within;
use crate::{PATIENCE, Setting};

/// Runs all that are here.
pub(crate) fn run(setting: &Setting) {
    for (name, needs, fetch) in RIVALS {
        let missing = needs.iter().find(|program| !is_installed(program));
        if let Some(program) = missing {
            println!("B12  {name}: {program} is not installed");
            continue;
        }
        let lab = Lab::build(setting.nodes + 1, setting.rate, setting.delay);
        let (sent, cpu) = (lab.sent_bytes(0), cpu_of_children());
        let took = fetch(setting, &lab);
        let (sent, cpu) = (lab.sent_bytes(0) - sent, cpu_of_children() - cpu);
        #[expect(clippy::cast_precision_loss, reason = "ratios for people")]
        let (egress, gib) = (
            sent as f64 / setting.bytes as f64,
            setting.bytes as f64 * setting.nodes as f64 / f64::from(1 << 30),
        );
        println!(
            "B12  {name}, {} nodes: last {:.2} s = {:.2} x bound; base sent {egress:.3} x size; \
             {:.2} CPU s a GiB",
            setting.nodes,
            took.as_secs_f64(),
            took.as_secs_f64() / setting.bound().as_secs_f64(),
            cpu.as_secs_f64() / gib,
        );
    }
}

/// Name, programs, and what fetches: returns the time until the last node has all.
type Rival = (&'static str, &'static [&'static str], fn(&Setting, &Lab) -> Duration);
const RIVALS: &[Rival] = &[
    ("curl", &["curl", "python3"], curl),
    ("rsync", &["rsync"], rsync),
    ("aria2", &["aria2c", "opentracker", "mktorrent"], aria2),
    ("mbuffer", &["mbuffer", "ss"], mbuffer),
];

fn curl(setting: &Setting, lab: &Lab) -> Duration {
    let mut server = lab.command(0, "python3");
    server.args(["-m", "http.server", "8000", "--bind", &Lab::ip(0)]).current_dir(folder(setting));
    let _server = Kept::start(server.stdout(Stdio::null()).stderr(Stdio::null()));
    await_port(lab, 8_000);
    let url = format!("http://{}:8000/{}", Lab::ip(0), name(setting));
    fetch_all(setting, lab, |to| {
        let mut command = Command::new("curl");
        command.args(["-sf", "-o"]).arg(to.join("got")).arg(&url);
        command
    })
}

fn rsync(setting: &Setting, lab: &Lab) -> Duration {
    let config = setting.folder.join("rsyncd.conf");
    let text = format!("use chroot = no\n[c]\npath = {}\n", folder(setting).display());
    std::fs::write(&config, text).unwrap();
    let mut server = lab.command(0, "rsync");
    server.args(["--daemon", "--no-detach", "--port", "8730", "--config"]).arg(&config);
    let _server = Kept::start(server.stdout(Stdio::null()).stderr(Stdio::null()));
    await_port(lab, 8_730);
    let url = format!("rsync://{}:8730/c/{}", Lab::ip(0), name(setting));
    fetch_all(setting, lab, |to| {
        let mut command = Command::new("rsync");
        command.arg(&url).arg(to.join("got"));
        command
    })
}

fn aria2(setting: &Setting, lab: &Lab) -> Duration {
    let torrent = setting.folder.join("content.torrent");
    let _old = std::fs::remove_file(&torrent);
    let announce = format!("http://{}:6969/announce", Lab::ip(0));
    let mut make = Command::new("mktorrent");
    make.args(["-l", "18", "-a", &announce, "-o"]).arg(&torrent).arg(&setting.content);
    assert!(make.stdout(Stdio::null()).status().unwrap().success());
    let mut tracker = lab.command(0, "opentracker");
    // It serves contents of its list alone.
    let shown = Command::new("aria2c").arg("-S").arg(&torrent).output().unwrap().stdout;
    let shown = String::from_utf8(shown).unwrap();
    let hash = shown.lines().find_map(|line| line.strip_prefix("Info Hash: ")).unwrap();
    let list = setting.folder.join("contents");
    std::fs::write(&list, format!("{hash}\n")).unwrap();
    tracker.args(["-i", &Lab::ip(0), "-p", "6969", "-w"]).arg(&list);
    let _tracker = Kept::start(tracker.stdout(Stdio::null()).stderr(Stdio::null()));
    await_port(lab, 6_969);
    let options = |command: &mut Command, to: &Path| {
        command.args([
            "--quiet",
            "--enable-dht=false",
            "--bt-enable-lpd=false",
            "--seed-ratio=0.0",
        ]);
        command.args(["--file-allocation=none", "--bt-tracker-interval=2", "-d"]).arg(to);
        command.arg(&torrent);
    };
    let mut seed = lab.command(0, "aria2c");
    seed.arg("--check-integrity=true");
    options(&mut seed, folder(setting));
    let _seed = Kept::start(seed.stdout(Stdio::null()).stderr(Stdio::null()));
    let began = Instant::now();
    let mut peers = Vec::new();
    for node in 1..=setting.nodes {
        let to = setting.folder.join(format!("aria2-{node}"));
        std::fs::create_dir_all(&to).unwrap();
        let done = format!("touch {}", to.join("done").display());
        let hook = setting.folder.join(format!("aria2-{node}.sh"));
        std::fs::write(&hook, format!("#!/bin/sh\n{done}\n")).unwrap();
        Command::new("chmod").arg("+x").arg(&hook).status().unwrap();
        let mut command = lab.command(node, "aria2c");
        command.arg(format!("--on-bt-download-complete={}", hook.display()));
        options(&mut command, &to);
        peers.push(Kept::start(command.stdout(Stdio::null()).stderr(Stdio::null())));
    }
    until_within(PATIENCE, "all have it", || {
        (1..=setting.nodes).all(|node| setting.folder.join(format!("aria2-{node}/done")).exists())
    });
    began.elapsed()
}

/// Each node writes what comes and passes it on to the next.
fn mbuffer(setting: &Setting, lab: &Lab) -> Duration {
    let start = |host: usize, source: &[&str]| {
        let mut command = lab.command(host, "mbuffer");
        command.args(["-q", "-s", "64k", "-m", "8M"]).args(source);
        if host > 0 {
            let to = setting.folder.join(format!("mbuffer-{host}"));
            let _none = std::fs::remove_file(&to);
            command.arg("-o").arg(to);
        }
        if host < setting.nodes {
            command.args(["-O", &format!("{}:9000", Lab::ip(host + 1))]);
        }
        Kept::start(command.stdout(Stdio::null()).stderr(Stdio::null()))
    };
    let mut chain = Vec::new();
    // The last node first: each connects to the next at once, and takes one connection.
    for node in (1..=setting.nodes).rev() {
        chain.push(start(node, &["-I", "9000"]));
        until_within(PATIENCE, "the node listens", || {
            let mut ss = lab.command(node, "ss");
            let found = ss.args(["-Hltn", "sport = :9000"]).output();
            found.is_ok_and(|output| !output.stdout.is_empty())
        });
    }
    let began = Instant::now();
    chain.push(start(0, &["-i", setting.content.to_str().unwrap()]));
    for mut part in chain {
        let ended = wait_for(&mut part.0, PATIENCE);
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    }
    began.elapsed()
}

/// Of all children of this process that have ended.
fn cpu_of_children() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks: u64 =
        fields.split_whitespace().skip(13).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second())
}

/// Starts `command` on each node and waits for the last.
fn fetch_all(setting: &Setting, lab: &Lab, command: impl Fn(&Path) -> Command) -> Duration {
    let began = Instant::now();
    let fetches: Vec<_> = (1..=setting.nodes)
        .map(|node| {
            let to = setting.folder.join(format!("rival-{node}"));
            // What another one has fetched is not there.
            let _none = std::fs::remove_dir_all(&to);
            std::fs::create_dir_all(&to).unwrap();
            let plain = command(&to);
            let mut there = lab.command(node, plain.get_program());
            there.args(plain.get_args());
            Kept::start(&mut there)
        })
        .collect();
    for mut fetch in fetches {
        let ended = wait_for(&mut fetch.0, PATIENCE);
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    }
    began.elapsed()
}

fn await_port(lab: &Lab, port: u16) {
    let probe = format!("exec 3<>/dev/tcp/{}/{port}", Lab::ip(0));
    until_within(PATIENCE, "the server answers", || {
        let mut bash = lab.command(0, "bash");
        bash.args(["-c", &probe]).stderr(Stdio::null());
        bash.status().is_ok_and(|status| status.success())
    });
}

fn folder(setting: &Setting) -> &Path {
    setting.content.parent().unwrap()
}

fn name(setting: &Setting) -> &str {
    setting.content.file_name().unwrap().to_str().unwrap()
}

fn is_installed(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    found.is_ok_and(|output| output.status.success())
}

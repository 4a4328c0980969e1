//! A base and nodes as processes on the hosts of a [`Lab`]: host 0 is the base, with the client
//! beside it; hosts 1, 2, .. are nodes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::base::Client;
use super::lab::Lab;
use super::process::{Finished, Kept, run_command};
use super::wait::{PATIENCE, until_within};

/// The programs, and where their files are.
#[derive(Debug)]
pub(crate) struct Distribution {
    pub(crate) lab: Lab,
    headend: PathBuf,
    files: tempfile::TempDir,
    base: Option<Kept>,
    nodes: Vec<Option<Kept>>,
    /// CPU of processes that have been killed.
    cpu_before: Duration,
}

impl Distribution {
    /// Starts a base and `nodes` nodes, all links of `rate` bits per second, and waits until the
    /// base knows all of them. Files are made in `folder`.
    pub(crate) fn start(headend: &Path, folder: &Path, nodes: usize, rate: u64) -> Self {
        let files = tempfile::tempdir_in(folder).unwrap();
        std::fs::write(files.path().join("provider"), PROVIDER_TOKEN).unwrap();
        std::fs::write(files.path().join("join"), JOIN_TOKEN).unwrap();
        let mut started = Self {
            lab: Lab::build(nodes + 1, rate),
            headend: headend.to_owned(),
            files,
            base: None,
            nodes: (0..nodes).map(|_| None).collect(),
            cpu_before: Duration::ZERO,
        };
        started.start_base();
        (1..=nodes).for_each(|node| started.start_node(node));
        started.wait_until_active(nodes);
        started
    }

    /// Starts the base, the first time or again.
    pub(crate) fn start_base(&mut self) {
        let mut command = self.lab.command(0, &self.headend);
        command.arg("base").args(["--listen", &format!("{}:{PORT}", Lab::ip(0))]);
        command.arg("--data").arg(self.files.path().join("base"));
        command.arg("--provider-token-file").arg(self.files.path().join("provider"));
        command.arg("--join-token-file").arg(self.files.path().join("join"));
        self.base = Some(self.spawn(command, "base"));
        let mut probe = self.lab.command(0, "curl");
        probe.args(["-s", "-o", "/dev/null", &self.url()]);
        until_within(PATIENCE, "the base answers", || {
            probe.status().is_ok_and(|status| status.success())
        });
    }

    /// Starts a node (1, 2, ..), the first time or again.
    pub(crate) fn start_node(&mut self, node: usize) {
        let media = self.media(node);
        let mut command = self.lab.command(node, &self.headend);
        command.args(["node", "--base", &self.url(), "--join", JOIN_TOKEN]);
        command.arg("--media").arg(media).args(["--name", &Self::name(node)]);
        command.args(["--listen", &format!("{}:8554", Lab::ip(node))]);
        command.args(["--shards", "1", "--workers", "1"]);
        let child = self.spawn(command, &Self::name(node));
        self.nodes[node - 1] = Some(child);
    }

    fn spawn(&self, mut command: Command, name: &str) -> Kept {
        let mut log = std::fs::File::options();
        let log = log.create(true).append(true).open(self.log(name)).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Kept(command.stdin(Stdio::null()).spawn().unwrap())
    }

    /// Ends the base as a crash does.
    pub(crate) fn kill_base(&mut self) {
        let mut child = self.base.take().unwrap();
        self.cpu_before += cpu_of(child.0.id());
        child.kill();
    }

    /// Ends a node as a crash does.
    pub(crate) fn kill_node(&mut self, node: usize) {
        let mut child = self.nodes[node - 1].take().unwrap();
        self.cpu_before += cpu_of(child.0.id());
        child.kill();
    }

    /// CPU of the base and all nodes so far.
    pub(crate) fn cpu(&self) -> Duration {
        let running = self.base.iter().chain(self.nodes.iter().flatten());
        self.cpu_before + running.map(|child| cpu_of(child.0.id())).sum::<Duration>()
    }

    fn wait_until_active(&self, count: usize) {
        until_within(PATIENCE, "the base knows all nodes", || {
            let shown = self.client(&["node", "ls", "--json"]);
            let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap_or_default();
            let nodes = shown["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
            nodes.iter().filter(|node| node["state"] == "active").count() == count
        });
    }

    /// `headend ARGS --base URL --token TOKEN` on the host of the base, to its own end.
    pub(crate) fn client(&self, args: &[&str]) -> Finished {
        run_command(&mut self.client_command(args), PUSH_PATIENCE)
    }

    /// The same, not started yet.
    pub(crate) fn client_command(&self, args: &[&str]) -> Command {
        let mut command = self.lab.command(0, &self.headend);
        command.args(args).args(["--base", &self.url(), "--token", PROVIDER_TOKEN]);
        command
    }

    /// Pushes files to all nodes and waits until every one has them. Returns the time.
    pub(crate) fn push(&self, files: &[&Path]) -> Duration {
        let mut args = vec!["job", "push"];
        args.extend(files.iter().map(|file| file.to_str().unwrap()));
        let began = Instant::now();
        let ended = self.client(&args);
        assert!(ended.status.success(), "{}\n{}", ended.stdout, ended.stderr);
        began.elapsed()
    }

    /// The API of the base, for a client beside the lab.
    pub(crate) fn api(&self) -> Client {
        Client::new(self.address(), PROVIDER_TOKEN.to_owned())
    }

    /// Address of the base, for a test that asks it directly.
    pub(crate) fn address(&self) -> SocketAddr {
        format!("{}:{PORT}", Lab::ip(0)).parse().unwrap()
    }

    /// Line of a request that says who the client is.
    pub(crate) fn authorization() -> String {
        format!("Authorization: Bearer {PROVIDER_TOKEN}\r\n")
    }

    /// Media folder of a node.
    pub(crate) fn media(&self, node: usize) -> PathBuf {
        self.files.path().join(Self::name(node))
    }

    /// What a program said.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.files.path().join(format!("{name}.log"))
    }

    /// Name of a node.
    pub(crate) fn name(node: usize) -> String {
        format!("n{node}")
    }

    /// Address of the base.
    pub(crate) fn url(&self) -> String {
        format!("http://{}:{PORT}", Lab::ip(0))
    }

    /// Bytes of media that a node has received without being read by anybody: partial files.
    pub(crate) fn partial_bytes(&self, node: usize) -> u64 {
        let folder = self.media(node).join(".headend");
        walk(&folder).iter().filter_map(|file| std::fs::metadata(file).ok()).map(|m| m.len()).sum()
    }

    /// Asserts that all nodes have the bytes of `file` under its name.
    pub(crate) fn assert_delivered(&self, file: &Path) {
        let wanted = std::fs::read(file).unwrap();
        for node in 1..=self.nodes.len() {
            let path = self.media(node).join(file.file_name().unwrap());
            let got = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert!(got == wanted, "{}: other bytes", path.display());
        }
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(walk(&path)),
            path => found.push(path),
        }
    }
    found
}

/// User and system time of a process so far.
fn cpu_of(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second())
}

/// Tokens have no meaning of their own: files hold them.
const PROVIDER_TOKEN: &str = "hdp_cHJvdmlkZXItb2YtdGhlLWxhYi1wcm92aWRlci1vZi0";
const JOIN_TOKEN: &str = "hdj_am9pbi10b2tlbi1vZi10aGUtbGFiLWpvaW4tdG9rZW4";
/// Of the base.
const PORT: u16 = 7_000;
/// How long a whole job may take.
const PUSH_PATIENCE: Duration = Duration::from_secs(120);

//! A base and nodes as processes on the hosts of a [`Lab`]: host 0 is the base, with the client
//! beside it; hosts 1, 2, .. are nodes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::base::Client;
use super::lab::{GOODPUT, Lab};
use super::process::{Finished, Kept, run_command};
use super::wait::{PATIENCE, until_within};

/// The programs, and where their files are.
#[derive(Debug)]
pub(crate) struct Distribution {
    pub(crate) lab: Lab,
    headend: PathBuf,
    files: tempfile::TempDir,
    is_secure: bool,
    /// Of the base.
    flags: Vec<String>,
    /// Of each node.
    node_flags: Vec<Vec<String>>,
    base: Option<Kept>,
    nodes: Vec<Option<Kept>>,
    /// CPU of processes that have been killed.
    cpu_before: Duration,
}

/// Links between the hosts, and how the base is started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup<'a> {
    /// Upload and download limit of each host, bits per second.
    pub(crate) rate: u64,
    /// Of each cable, in each direction.
    pub(crate) delay: Duration,
    /// With TLS.
    pub(crate) is_secure: bool,
    /// Of the base.
    pub(crate) flags: &'a [&'a str],
}

impl Distribution {
    /// Starts a base and `nodes` nodes, all links of `rate` bits per second, and waits until the
    /// base knows all of them. Files are made in `folder`.
    pub(crate) fn start(headend: &Path, folder: &Path, nodes: usize, rate: u64) -> Self {
        let setup = Setup { rate, delay: Duration::ZERO, is_secure: true, flags: &[] };
        Self::start_with(headend, folder, nodes, &setup)
    }

    /// The same with links, transport and flags of the base.
    pub(crate) fn start_with(
        headend: &Path,
        folder: &Path,
        nodes: usize,
        setup: &Setup<'_>,
    ) -> Self {
        let mut built = Self::build(headend, folder, nodes, setup);
        built.start_all();
        built
    }

    /// The same where the uplinks of `slow` nodes (1, 2, ..) have a quarter of the rate, and base
    /// and nodes declare what their links carry.
    pub(crate) fn start_declared(
        headend: &Path,
        folder: &Path,
        nodes: usize,
        setup: &Setup<'_>,
        slow: &[usize],
    ) -> Self {
        // What TCP carries of a limit, and a little less: the queue is in the program then.
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate in kbit/s"
        )]
        let kbit = |bits: u64| format!("{}k", (bits as f64 * GOODPUT * 0.98 / 1_000.0) as u64);
        let mut built = Self::build(headend, folder, nodes, setup);
        built.flags.extend(["--up-rate".to_owned(), kbit(setup.rate)]);
        for node in 1..=nodes {
            let up = if slow.contains(&node) { setup.rate / 4 } else { setup.rate };
            if up < setup.rate {
                built.lab.set_rates(node, up, setup.rate);
            }
            let (up, down) = (kbit(up), kbit(setup.rate));
            built.node_flags[node - 1] =
                ["--up-rate".to_owned(), up, "--down-rate".to_owned(), down].into();
        }
        built.start_all();
        built
    }

    fn build(headend: &Path, folder: &Path, nodes: usize, setup: &Setup<'_>) -> Self {
        let files = tempfile::tempdir_in(folder).unwrap();
        Self {
            lab: Lab::build(nodes + 1, setup.rate, setup.delay),
            headend: headend.to_owned(),
            files,
            is_secure: setup.is_secure,
            flags: setup.flags.iter().map(|flag| (*flag).to_owned()).collect(),
            node_flags: vec![Vec::new(); nodes],
            base: None,
            nodes: (0..nodes).map(|_| None).collect(),
            cpu_before: Duration::ZERO,
        }
    }

    fn start_all(&mut self) {
        let nodes = self.nodes.len();
        self.start_base();
        (1..=nodes).for_each(|node| self.start_node(node));
        self.wait_until_active(nodes);
    }

    /// Starts the base, the first time or again.
    pub(crate) fn start_base(&mut self) {
        let mut command = self.lab.command(0, &self.headend);
        command.arg("base").args(["--listen", &format!("{}:{PORT}", Lab::ip(0))]);
        command.arg("--data").arg(self.files.path().join("base"));
        command.args((!self.is_secure).then_some("--insecure")).args(&self.flags);
        self.base = Some(self.spawn(command, "base"));
        let mut probe = self.lab.command(0, "curl");
        probe.args(["-s", "-k", "-o", "/dev/null", &self.url()]);
        until_within(PATIENCE, "the base answers", || {
            probe.status().is_ok_and(|status| status.success())
        });
    }

    /// Starts a node (1, 2, ..), the first time or again.
    pub(crate) fn start_node(&mut self, node: usize) {
        let media = self.media(node);
        let mut command = self.lab.command(node, &self.headend);
        command.args(["node", "--base", &self.url(), "--join", &self.token("join.token")]);
        command.args((!self.is_secure).then_some("--insecure"));
        command.arg("--media").arg(media).args(["--name", &Self::name(node)]);
        command.args(["--listen", &format!("{}:8554", Lab::ip(node))]);
        command.args(["--shards", "1", "--workers", "1"]).args(&self.node_flags[node - 1]);
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
        let token = self.token("provider.token");
        command.args(args).args(["--base", &self.url(), "--token", &token]);
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
        let addr: SocketAddr = format!("{}:{PORT}", Lab::ip(0)).parse().unwrap();
        let ca = self.files.path().join("base/ca.pem");
        Client::new(addr, self.token("provider.token"), self.is_secure.then_some(&ca))
    }

    /// A token that the base has made.
    fn token(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.files.path().join("base").join(name));
        text.unwrap().trim().to_owned()
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
        let scheme = if self.is_secure { "https" } else { "http" };
        format!("{scheme}://{}:{PORT}", Lab::ip(0))
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

/// Of the base.
const PORT: u16 = 7_000;
/// How long a whole job may take.
const PUSH_PATIENCE: Duration = Duration::from_secs(120);

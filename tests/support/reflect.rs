//! A base, nodes and an origin as processes on loopback, and a live path that goes from node to
//! node.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::base::{Base, Client};
use super::process::{Finished, run_command};
use super::scratch;
use super::server::{Options, Server, binary};
use super::wait::{Deadline, PATIENCE, until};

/// The processes.
#[derive(Debug)]
pub(crate) struct Reflection {
    runtime: Runtime,
    client: Client,
    base: Base,
    /// Has the path that jobs bring to nodes.
    pub(crate) origin: Server,
    nodes: Vec<Option<Server>>,
    files: tempfile::TempDir,
}

impl Reflection {
    /// Starts a base, an origin and nodes n1, n2, ..: one after the other, which is the order in
    /// which the base plans nodes that are alike.
    pub(crate) fn start(nodes: usize) -> Self {
        Self::start_with(&vec![""; nodes])
    }

    /// The same, with the text of a configuration file for each node.
    pub(crate) fn start_with(configs: &[&str]) -> Self {
        let files = tempfile::tempdir_in(scratch()).unwrap();
        let base = Base::start(&files.path().join("data"));
        let origin = Server::start(&Options { shards: "2", ..Options::default() });
        let runtime = Runtime::new().unwrap();
        let client = base.client();
        let nodes_none = configs.iter().map(|_| None).collect();
        let mut started = Self { runtime, client, base, origin, nodes: nodes_none, files };
        for (node, config) in (1..).zip(configs) {
            let file = started.files.path().join(format!("n{node}.toml"));
            std::fs::write(&file, config).unwrap();
            started.start_node(node, &["-c", file.to_str().unwrap()]);
        }
        started
    }

    /// Starts a node, the first time or again, and waits until the base has it.
    pub(crate) fn start_node(&mut self, node: usize, words: &[&str]) {
        let (name, media) = (format!("n{node}"), self.media(node));
        std::fs::create_dir_all(&media).unwrap();
        let mut command = Command::new(binary());
        // Secrets are to be in no line of the log, whoever reads how much of it.
        command.env("HEADEND_LOG", "info,headend=debug");
        command.args(["node", "--base", &self.base.url(), "--insecure"]);
        command.args(["--join", &self.base.join_token(), "--name", &name]);
        command.args(["--peer-listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"]);
        command.args(["--rtp-port", "0", "--admin", "127.0.0.1:0"]);
        command.args(["--shards", "2", "--workers", "1"]).args(words).arg("--media").arg(media);
        let server = Server::run(command, tempfile::tempdir_in(scratch()).unwrap());
        if self.nodes.len() < node {
            self.nodes.resize_with(node, || None);
        }
        self.nodes[node - 1] = Some(server);
        until("the base has the node", || {
            let nodes = self.get("/v1/nodes");
            let all = nodes["nodes"].as_array().cloned().unwrap_or_default();
            all.iter().any(|view| view["node"] == name && view["state"] == "active")
        });
    }

    pub(crate) fn node(&self, node: usize) -> &Server {
        self.nodes[node - 1].as_ref().unwrap()
    }

    /// Ends a node as a crash does.
    pub(crate) fn kill_node(&mut self, node: usize) {
        self.nodes[node - 1].take().unwrap().kill();
    }

    /// `headend WORDS` of a provider.
    pub(crate) fn headend(&self, words: &[&str]) -> Finished {
        let mut command = Command::new(binary());
        let token = self.base.token("provider.token");
        command.args(words).args(["--base", &self.base.url(), "--token", &token]);
        run_command(&mut command, PATIENCE)
    }

    /// A job that brings a path of the origin to all nodes: its id.
    pub(crate) fn job(&self, path: &str) -> String {
        let from = self.origin.url(path);
        let words = ["job", "live", path, "--from", &from, "--json"];
        let ran = self.headend(&words);
        assert!(ran.status.success(), "{}", ran.stderr);
        let said: Value = serde_json::from_str(&ran.stdout).unwrap();
        said["job"]["job_id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.runtime.block_on(self.client.found(path))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.runtime.block_on(self.client.post(path, body))
    }

    /// The only delivery of a job at a node.
    pub(crate) fn delivery(&self, job: &str, node: usize) -> Value {
        let answer = self.get(&format!("/v1/jobs/{job}/deliveries?node=n{node}"));
        answer["deliveries"][0].clone()
    }

    /// Waits until packets come at a node, from there.
    pub(crate) fn until_fed(&self, job: &str, node: usize, source: &str) {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let delivery = self.delivery(job, node);
            if delivery["state"] == "fetching" && delivery["source"] == source {
                return;
            }
            assert!(!deadline.has_passed(), "n{node} is not fed by {source}: {delivery}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Ends a job, and waits until it has ended; gives its report.
    pub(crate) fn end(&self, job: &str) -> Value {
        let (status, body) = self.post(&format!("/v1/jobs/{job}/end"), &json!({}));
        assert_eq!(status, 200, "{body}");
        until("the job has ended", || {
            let state = self.get(&format!("/v1/jobs/{job}"))["state"].clone();
            state != "open" && state != "closing"
        });
        self.get(&format!("/v1/jobs/{job}/report"))
    }

    /// The journal of a node.
    pub(crate) fn journal(&self, node: usize) -> String {
        let bytes = std::fs::read(self.media(node).join(".headend/journal")).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn media(&self, node: usize) -> PathBuf {
        self.files.path().join(format!("n{node}"))
    }
}

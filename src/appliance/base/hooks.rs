//! The operator's command that mends a node (`--repair-hook`): a power cycle, a restart of a unit.
//!
//! ```text
//! /bin/sh -c COMMAND    HEADEND_NODE, HEADEND_NODE_ADDR, HEADEND_REPAIR_CAUSE, HEADEND_REPAIR_TRY
//! ```
//! The base never waits for it: how it ended is told to the book, and is an event of the jobs that
//! the node holds up. Bounds: `RUNNING_MAX` commands run, others wait for them; one that runs for
//! `RUN_MAX` is killed, with all that it started in its process group.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::Semaphore;

use crate::dist::book::RepairHook;
use crate::ledger::clerk::Clerk;

/// Runs commands for nodes.
#[derive(Debug, Clone)]
pub(super) struct Hooks {
    command: Arc<str>,
    running: Arc<Semaphore>,
    clerk: Clerk,
}

impl Hooks {
    pub(super) fn new(command: &str, clerk: Clerk) -> Self {
        Self { command: command.into(), running: Arc::new(Semaphore::new(RUNNING_MAX)), clerk }
    }

    /// Runs the command for a node, and tells how it ended.
    pub(super) fn run(&self, hook: RepairHook) {
        let Self { command, running, clerk } = self.clone();
        tokio::spawn(async move {
            // Never closed.
            let _place = running.acquire().await;
            let asked = hook.clone();
            let ran = tokio::task::spawn_blocking(move || run(&command, &asked, RUN_MAX));
            let outcome = ran.await.unwrap_or_else(|error| error.to_string());
            let (node, number) = (&hook.node, hook.number);
            tracing::info!(code = "HE-I960", %node, number, outcome, "the repair hook has ended");
            let told = clerk.ask(move |book, at| book.repair_hook_ended(&hook, &outcome, at));
            if let Err(error) = told.await {
                tracing::warn!(code = "HE-W960", %error, "the end of a repair hook is no event");
            }
        });
    }
}

/// How the command ended, for people. Blocks.
fn run(command: &str, hook: &RepairHook, most: Duration) -> String {
    let cause = serde_json::to_string(&hook.cause).unwrap_or_default();
    let started = Command::new("/bin/sh")
        .args(["-c", command])
        .env("HEADEND_NODE", hook.node.as_str())
        .env("HEADEND_NODE_ADDR", &hook.addr)
        .env("HEADEND_REPAIR_CAUSE", cause.trim_matches('"'))
        .env("HEADEND_REPAIR_TRY", hook.number.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return format!("not started: {error}"),
    };
    match wait(&mut child, Instant::now() + most) {
        Ok(Some(status)) => shown(status),
        Ok(None) => {
            let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            let _gone = group.map(|group| kill_process_group(group, Signal::KILL));
            let _reaped = child.wait();
            format!("killed behind {} s", most.as_secs())
        }
        Err(error) => format!("lost: {error}"),
    }
}

/// The end of the child; `None` when the deadline comes first.
fn wait(child: &mut Child, deadline: Instant) -> std::io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn shown(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Commands that run at once.
const RUNNING_MAX: usize = 8;
/// A power cycle by a management card takes some seconds.
const RUN_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::ids::NodeName;
    use crate::dist::wire::job::RepairCause;

    fn hook() -> RepairHook {
        let node = NodeName::new("edge-1").unwrap();
        let addr = "192.0.2.1:9996".to_owned();
        RepairHook { node, addr, cause: RepairCause::Unanswered, number: 2 }
    }

    #[test]
    fn command_is_told_which_node_and_why() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("said");
        let names = "$HEADEND_NODE $HEADEND_NODE_ADDR $HEADEND_REPAIR_CAUSE $HEADEND_REPAIR_TRY";
        let command = format!("echo {names} > {}; exit 3", file.display());
        assert_eq!(run(&command, &hook(), RUN_MAX), "exit 3");
        let said = std::fs::read_to_string(file).unwrap();
        assert_eq!(said, "edge-1 192.0.2.1:9996 unanswered 2\n");
    }

    #[test]
    fn command_that_does_not_end_is_killed_with_what_it_started() {
        let begun = Instant::now();
        let outcome = run("sleep 600 & sleep 600", &hook(), Duration::from_millis(200));
        assert_eq!(outcome, "killed behind 0 s");
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}

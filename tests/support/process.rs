//! Real players as children: run to their own end, with a limit, ended by their own id past it.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::wait::{Deadline, readable};

/// How long a player may take over a few seconds of media, start and end included.
pub(crate) const PLAYER_PATIENCE: Duration = Duration::from_secs(90);

/// What a finished child left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `program` to its own end and asserts that it went well.
///
/// # Panics
/// When it did not end by itself within [`PLAYER_PATIENCE`], or ended with an error.
pub(crate) fn run<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Finished {
    let finished = run_any(program, args, PLAYER_PATIENCE);
    assert!(
        finished.status.success(),
        "{} failed with {}\n{}",
        shown(program, args),
        finished.status,
        finished.stderr
    );
    finished
}

/// Runs `program` to its own end, whatever its exit code.
///
/// # Panics
/// When it did not end by itself within `patience`.
pub(crate) fn run_any<S: AsRef<OsStr>>(program: &str, args: &[S], patience: Duration) -> Finished {
    run_command(Command::new(program).args(args), patience)
}

/// Runs `command` to its own end, whatever its exit code.
///
/// # Panics
/// When it did not end by itself within `patience`.
pub(crate) fn run_command(command: &mut Command, patience: Duration) -> Finished {
    // Files, not pipes: nobody has to read while the child writes.
    let files = tempfile::tempdir_in(super::scratch()).unwrap();
    let (out, err) = (files.path().join("stdout"), files.path().join("stderr"));
    command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    let mut child = Kept::start(command);
    let status = wait_for(&mut child.0, patience);
    let finished_or = |status| Finished { status, stdout: text(&out), stderr: text(&err) };
    match status {
        Some(status) => finished_or(status),
        None => panic!("{command:?} did not end by itself within {patience:?}\n{}", text(&err)),
    }
}

/// The exit status of `child`, `None` when it still runs after `patience`.
pub(crate) fn wait_for(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    // One that somebody has waited for has no id any more.
    if let Some(status) = child.try_wait().unwrap() {
        return Some(status);
    }
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).unwrap();
    let ended = readable(&[pidfd.as_fd()], Deadline::after(patience))[0];
    ended.then(|| child.wait().unwrap())
}

/// A child that does not outlive its test.
#[derive(Debug)]
pub(crate) struct Kept(pub(crate) Child);

impl Kept {
    /// Starts a command.
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|error| {
            panic!("{command:?}: {error} (scripts/test-setup.sh installs it)")
        }))
    }

    /// Waits for the child's own end, and asserts that it went well.
    pub(crate) fn assert_ends_well(&mut self, what: &str) {
        let status = wait_for(&mut self.0, PLAYER_PATIENCE);
        assert!(status.is_some_and(|status| status.success()), "{what}: {status:?}");
    }

    /// Kills the child at once.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Nothing to do for one that has ended and was waited for.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn shown<S: AsRef<OsStr>>(program: &str, args: &[S]) -> String {
    let args: Vec<_> = args.iter().map(|a| a.as_ref().to_string_lossy().into_owned()).collect();
    format!("{program} {}", args.join(" "))
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

//! A network of a test's own: its binary is run again in a namespace whose loopback has what the
//! test needs, so that nothing of it reaches the host, and tests beside it use the same addresses.
//! The same for file systems that a test mounts.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::process::{Kept, PLAYER_PATIENCE, run, run_command};
use super::wait::until;

/// Addresses of this machine that are not loopback's: 10.77.0.1 to 10.77.0.4.
pub(crate) const OTHER_HOSTS: &str =
    "for n in 1 2 3 4; do ip addr add 10.77.0.$n/24 dev lo || exit; done";

/// Runs `test`, which is the test called `name` of `module` (`module_path!()`), in a network of its
/// own. `setup` is what a shell does there first; loopback is up already.
pub(crate) fn in_own_network(module: &str, name: &str, setup: &str, test: impl FnOnce()) {
    in_own("-n", module, name, &format!("ip link set lo up && {setup}"), test);
}

/// The same for file systems: `setup` may mount what the test needs, which ends with the test.
pub(crate) fn in_own_mounts(module: &str, name: &str, setup: &str, test: impl FnOnce()) {
    in_own("-m", module, name, setup, test);
}

/// `kind` is the namespace, as `unshare` names it.
fn in_own(kind: &str, module: &str, name: &str, setup: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        test();
        return;
    }
    if Command::new("unshare").arg("--version").output().is_err() {
        println!("skipped: there is no unshare here");
        return;
    }
    let script = format!("{{ {setup}; }} || exit {NONE_HERE}; exec \"$0\" \"$@\"");
    let mut command = Command::new("unshare");
    command.args([kind, "sh", "-c", &script]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", &full_name(module, name), "--nocapture"]).env(INSIDE, "1");
    let ended = run_command(&mut command, PLAYER_PATIENCE * 2);
    println!("{}", ended.stdout);
    match (ended.status.success(), ended.status.code()) {
        (true, _) => assert!(ended.stdout.contains("1 passed"), "{name}: no such test"),
        // `unshare` itself ends with 1 when it may not; a test that has failed, with 101.
        (false, Some(NONE_HERE | 1)) => println!("skipped: no namespaces (unshare {kind}) here"),
        _ => panic!("in a namespace of its own: {}\n{}", ended.status, ended.stderr),
    }
}

/// What the harness calls the test `name` of `module`: the path inside the program.
pub(crate) fn full_name(module: &str, name: &str) -> String {
    let (_, inside) = module.split_once("::").unwrap();
    format!("{inside}::{name}")
}

/// Another host at the end of a cable: a namespace beside that of the test, which must be in a
/// network of its own. Each has the other as its default route.
#[derive(Debug)]
pub(crate) struct OtherHost {
    /// Keeps the namespace; it waits for input that never comes.
    keeper: Kept,
}

impl OtherHost {
    /// Where the test is.
    pub(crate) const HERE: &str = "10.77.0.1";
    /// Where the other host is.
    pub(crate) const THERE: &str = "10.77.0.2";
    /// Where the test is on the cable's link.
    pub(crate) const HERE_ON_LINK: &str = "fe80::77:1";
    /// Where the other host is on it.
    pub(crate) const THERE_ON_LINK: &str = "fe80::77:2";
    /// What both call their end of the cable.
    pub(crate) const INTERFACE: &str = "cable";

    pub(crate) fn connect() -> Self {
        let mut command = Command::new("unshare");
        command.args(["-n", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let other = Self { keeper: Kept(command.spawn().unwrap()) };
        let network = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net"));
        let pid = other.keeper.0.id().to_string();
        until("it has a network of its own", || {
            network(&pid).is_ok_and(|there| there != network("self").unwrap())
        });
        let cable = ["link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns"];
        run("ip", &[&cable[..], &[&pid]].concat());
        for (ip, on_link, gateway, is_there) in [
            (Self::HERE, Self::HERE_ON_LINK, Self::THERE, false),
            (Self::THERE, Self::THERE_ON_LINK, Self::HERE, true),
        ] {
            // Without IPv6 there is the rest; link-local addresses are usable at once.
            let script = format!(
                "ip addr add {ip}/24 dev cable && ip link set cable up && ip link set lo up \
                 && ip route add default via {gateway} \
                 && {{ ip addr add {on_link}/64 dev cable nodad || true; }}"
            );
            if is_there {
                run("nsenter", &["-t", &pid, "-n", "sh", "-c", &script]);
            } else {
                run("sh", &["-c", &script]);
            }
        }
        other
    }

    /// Does something there: sockets that it opens and programs that it starts are of the other
    /// host, whoever uses them later.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let network = File::open(format!("/proc/{}/ns/net", self.keeper.0.id())).unwrap();
        // The namespace is that of a thread.
        let on_thread = || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(network.as_fd(), kind).unwrap();
            work()
        };
        std::thread::scope(|scope| match scope.spawn(on_thread).join() {
            Ok(done) => done,
            Err(failed) => std::panic::resume_unwind(failed),
        })
    }

    /// A program that will run there.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.keeper.0.id().to_string(), "-n", program]);
        command
    }
}

/// Set where the test is already in its namespace.
const INSIDE: &str = "HEADEND_TEST_IN_OWN_NAMESPACE";
const NONE_HERE: i32 = 77;

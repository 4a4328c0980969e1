//! Hosts on a switch, each in a network namespace of its own, with limits of what they send and
//! receive. A test must be in a network of its own ([`super::network::in_own_network`]), where the
//! switch is; the test itself is a host without limits.
//!
//! ```text
//!  host eth0 --[TBF: upload]--> port p0, p1, .. of the bridge --[TBF: download]--> host
//! ```
//! With a delay, two TAP devices stand for each cable ([`super::delay`]): a bit takes the delay on
//! each cable in each direction, so a question from host to host and back crosses four.
//!
//! With the hosts goes the switch, so that another lab may follow in the same network.
//! Bound: `HOSTS_MAX`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::delay::DelayedCable;
use super::process::{Kept, run};
use super::wait::until;

/// The hosts.
#[derive(Debug)]
pub(crate) struct Lab {
    hosts: Vec<Kept>,
    /// Of hosts whose cables have a delay.
    cables: Vec<DelayedCable>,
}

impl Lab {
    /// `count` hosts, each with an upload and download limit of `rate` bits per second, and a cable
    /// that takes `delay`.
    pub(crate) fn build(count: usize, rate: u64, delay: Duration) -> Self {
        assert!((1..=HOSTS_MAX).contains(&count));
        let bridge = format!(
            "ip link add {BRIDGE} type bridge forward_delay 0 stp_state 0 mcast_snooping 0 \
             && ip addr add 10.78.0.254/24 dev {BRIDGE} && ip link set {BRIDGE} up \
             && ip link set lo up"
        );
        run("sh", &["-c", &bridge]);
        let mut lab = Self { hosts: Vec::new(), cables: Vec::new() };
        for host in 0..count {
            lab.add_host(host, delay);
            lab.set_rates(host, rate, rate);
        }
        lab
    }

    fn add_host(&mut self, host: usize, delay: Duration) {
        let mut command = Command::new("unshare");
        command.args(["-n", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let keeper = Kept(command.spawn().unwrap());
        let network = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net"));
        let pid = keeper.0.id().to_string();
        until("it has a network of its own", || {
            network(&pid).is_ok_and(|there| there != network("self").unwrap())
        });
        self.hosts.push(keeper);
        let cable = if delay.is_zero() {
            format!("ip link add eth0 netns {pid} type veth peer name p{host}")
        } else {
            self.cables.push(DelayedCable::connect([&format!("p{host}"), "far"], delay));
            format!("ip link set far netns {pid} name eth0")
        };
        run("sh", &["-c", &format!("{cable} && ip link set p{host} master {BRIDGE} up")]);
        let ip = Self::ip(host);
        let there = format!(
            "ip link set lo up && ip addr add {ip}/24 dev eth0 && ip link set eth0 up \
             && ip route add default dev eth0 && sysctl -qw net.ipv4.tcp_no_metrics_save=1"
        );
        run("nsenter", &["-t", &pid, "-n", "sh", "-c", &there]);
    }

    /// Address of a host.
    pub(crate) fn ip(host: usize) -> String {
        format!("10.78.0.{}", host + 1)
    }

    /// A program that will run on a host.
    pub(crate) fn command(&self, host: usize, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        let pid = self.hosts[host].0.id().to_string();
        command.args(["-t", &pid, "-n"]).arg(program.as_ref());
        command
    }

    /// Sets the limits of a host, bits per second.
    pub(crate) fn set_rates(&self, host: usize, up: u64, down: u64) {
        // A whole bundle of segmentation offload (64 KiB) has to fit, or the kernel cuts it by CPU.
        let tbf = |device: &str, rate: u64| {
            let burst = (rate / 8 / 500).max(80 << 10);
            format!(
                "tc qdisc replace dev {device} root handle 1: tbf rate {rate}bit burst {burst} \
                 latency 20ms"
            )
        };
        run("sh", &["-c", &tbf(&format!("p{host}"), down)]);
        let pid = self.hosts[host].0.id().to_string();
        run("nsenter", &["-t", &pid, "-n", "sh", "-c", &tbf("eth0", up)]);
    }

    /// Takes a host's cable out, or puts it in: nobody is told.
    pub(crate) fn set_connected(&self, host: usize, is_connected: bool) {
        let to = if is_connected { "up" } else { "down" };
        run("ip", &["link", "set", &format!("p{host}"), to]);
    }

    /// Bytes that a host has sent so far, headers included.
    pub(crate) fn sent_bytes(&self, host: usize) -> u64 {
        self.counter(host, "rx")
    }

    /// Bytes that a host has received so far, headers included.
    pub(crate) fn received_bytes(&self, host: usize) -> u64 {
        self.counter(host, "tx")
    }

    /// Of the port of the switch, which receives what the host sends.
    fn counter(&self, host: usize, direction: &str) -> u64 {
        let shown = run("ip", &["-j", "-s", "link", "show", &format!("p{host}")]).stdout;
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        shown[0]["stats64"][direction]["bytes"].as_u64().unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A network goes some time after its last process; its cable goes now.
        let ports = (0..self.hosts.len()).map(|host| format!("p{host}"));
        for device in ports.chain([BRIDGE.to_owned()]) {
            let mut command = Command::new("ip");
            command.args(["link", "del", &device]).stdin(Stdio::null()).stderr(Stdio::null());
            // One that a test took away itself is gone.
            let _gone = command.status();
        }
    }
}

/// Part of a limit in bits per second that is left for what TCP carries.
pub(crate) const GOODPUT: f64 = 1_448.0 / 1_514.0;
const BRIDGE: &str = "br0";
const HOSTS_MAX: usize = 32;

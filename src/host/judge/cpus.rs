//! Whose CPUs they are, and what else stands in no file: isolation, room beside shards, tracking.

use super::super::facts::Facts;
use super::super::tuning::Entry;
use super::super::{Check, Level};
use crate::config::cpus::show;

/// A word of the kernel's command line, held against what the kernel made of it.
pub(super) fn boot(entry: &'static Entry, facts: &Facts) -> Vec<Check> {
    let machine = &facts.machine;
    let Some(place) = &facts.place else {
        return vec![Check::skip(&entry.key, "the configuration names CPUs that are not there")];
    };
    let have = match entry.key.as_str() {
        "isolcpus" => &machine.isolated,
        "nohz_full" => &machine.tickless,
        _ => &machine.rcu_free,
    };
    let mut shards = place.shards.clone();
    shards.sort_unstable();
    shards.dedup();
    if shards.iter().all(|cpu| have.contains(cpu)) {
        return vec![Check::ok(&entry.key, show(have))];
    }
    let why = match () {
        () if machine.is_container => Some("the command line of the kernel is the host's"),
        () if machine.is_virtual => Some("in a virtual machine the host decides what else runs"),
        () if machine.online.iter().all(|cpu| shards.contains(cpu)) => {
            Some("every CPU has a shard, and one at least must be left to the rest")
        }
        () => None,
    };
    if let Some(why) = why {
        return vec![Check::skip(&entry.key, why)];
    }
    let found = if have.is_empty() { "none".to_owned() } else { show(have) };
    let word = format!("{}={}{}", entry.key, entry.value(), show(&shards));
    let fix = format!(
        "sudo grubby --update-kernel=ALL --args={word}   (Debian: add {word} to \
         GRUB_CMDLINE_LINUX in /etc/default/grub, then sudo update-grub), and boot again"
    );
    vec![Check::bad(entry.level(), &entry.key, found, &entry.reason, fix)]
}

/// Each has its own question.
pub(super) fn other(entry: &'static Entry, facts: &Facts) -> Vec<Check> {
    let check = match entry.key.as_str() {
        "a CPU beside the fifo shards" => room(entry, facts),
        "isolated CPUs" => isolated(entry, facts),
        "connection tracking of RTP" => tracking(entry, facts),
        other => Check::skip(other, "nothing that doctor knows"),
    };
    vec![check]
}

fn room(entry: &'static Entry, facts: &Facts) -> Check {
    let Some(place) = &facts.place else {
        return Check::skip(&entry.key, "the configuration names CPUs that are not there");
    };
    let online = &facts.machine.online;
    let free: Vec<usize> =
        online.iter().copied().filter(|cpu| !place.shards.contains(cpu)).collect();
    if !free.is_empty() {
        return Check::ok(&entry.key, format!("CPU {}", show(&free)));
    }
    let fix = match place.shards.len() {
        0 | 1 => "headend --shard-priority normal   (this machine has one CPU)".to_owned(),
        count => format!("headend --shards {}", count - 1),
    };
    Check::bad(Level::Warn, &entry.key, "none", &entry.reason, fix)
}

fn isolated(entry: &'static Entry, facts: &Facts) -> Check {
    let machine = &facts.machine;
    if machine.isolated.is_empty() {
        return Check::ok(&entry.key, "none");
    }
    let shut: Vec<usize> =
        machine.isolated.iter().copied().filter(|cpu| !machine.affinity.contains(cpu)).collect();
    if shut.is_empty() {
        return Check::ok(&entry.key, show(&machine.isolated));
    }
    let all = show(&machine.online);
    let fix = format!("taskset -c {all} headend ...   (systemd: CPUAffinity={all})");
    let found = format!("{} closed to this process", show(&shut));
    Check::bad(entry.level(), &entry.key, found, &entry.reason, fix)
}

/// Rules are not readable without privilege, so an exception for our ports is not seen.
fn tracking(entry: &'static Entry, facts: &Facts) -> Check {
    let Some(count) = &facts.tracked else { return Check::ok(&entry.key, "off") };
    let Some((first, last)) = facts.rtp_ports else {
        return Check::skip(&entry.key, "RTP has any free ports, which no rule can name");
    };
    let found =
        format!("on, {count} connections; rules for our ports are not to be seen from here");
    let chain = |name: &str, hook: &str, word: &str| {
        format!(
            "sudo nft 'add chain inet headend {name} {{ type filter hook {hook} priority raw; }}'; \
             sudo nft 'add rule inet headend {name} udp {word} {first}-{last} notrack'"
        )
    };
    let fix = format!(
        "sudo nft 'add table inet headend'; {}; {}",
        chain("rtp_in", "prerouting", "dport"),
        chain("rtp_out", "output", "sport")
    );
    Check::bad(entry.level(), &entry.key, found, &entry.reason, fix)
}

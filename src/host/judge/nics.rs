//! Network cards, one check for each card and entry.

use super::super::Check;
use super::super::ethtool::Size;
use super::super::facts::Facts;
use super::super::nic::Nic;
use super::super::tree::mask_of;
use super::super::tuning::Entry;
use crate::config::cpus::show;

pub(super) fn judge(entry: &'static Entry, facts: &Facts) -> Vec<Check> {
    if facts.nics.is_empty() {
        let why = match (facts.machine.is_container, facts.machine.is_virtual) {
            (true, _) => "no network card here: a container has the cards of its host",
            _ => "no network card that is up",
        };
        return vec![Check::skip(&entry.key, why)];
    }
    facts.nics.iter().map(|nic| card(entry, nic, facts)).collect()
}

fn card(entry: &'static Entry, nic: &Nic, facts: &Facts) -> Check {
    // Of several names of one offload the first.
    let short = entry.key.split('|').next().unwrap_or(&entry.key);
    let name = format!("{} {short}", nic.name);
    match entry.key.as_str() {
        "ring-tx" => size(entry, nic, name, nic.ring_tx, entry.number()),
        "ring-rx" => size(entry, nic, name, nic.ring_rx, entry.number()),
        "queues" => size(entry, nic, name, nic.queues, facts.shards()),
        "xps" => send_queues(entry, nic, name, facts),
        "irq" => interrupts(entry, nic, name, facts),
        "qdisc" => discipline(entry, nic, name),
        _ => offload(entry, nic, name),
    }
}

fn offload(entry: &'static Entry, nic: &Nic, name: String) -> Check {
    match nic.feature(&entry.key) {
        None => Check::skip(name, SILENT),
        Some(feature) if feature.is_on => Check::ok(name, driver(nic, "on")),
        Some(feature) if feature.can_change => {
            let fix = entry.fix(&[("nic", &nic.name)]).unwrap_or_default();
            Check::bad(entry.level(), name, driver(nic, "off"), &entry.reason, fix).by_command()
        }
        Some(_) => Check::skip(name, "this card or its driver cannot; the kernel does it instead"),
    }
}

/// A number of at least `wanted`, or as far as the card goes.
fn size(entry: &'static Entry, nic: &Nic, name: String, size: Option<Size>, wanted: u64) -> Check {
    let Some(size) = size.filter(|size| size.max > 0) else { return Check::skip(name, SILENT) };
    let found = format!("{} of {}", size.now, size.max);
    let reachable = wanted.min(u64::from(size.max));
    if u64::from(size.now) >= reachable {
        return Check::ok(name, found);
    }
    let value = reachable.to_string();
    let fix = entry.fix(&[("nic", &nic.name), ("value", &value)]).unwrap_or_default();
    Check::bad(entry.level(), name, found, &entry.reason, fix).by_command()
}

fn send_queues(entry: &'static Entry, nic: &Nic, name: String, facts: &Facts) -> Check {
    let Some(place) = &facts.place else { return Check::skip(name, NO_PLACE) };
    if nic.xps.len() < 2 {
        return Check::skip(name, "the card has one send queue, or does not show its maps");
    }
    let is_mapped = |cpu: &&usize| nic.xps.iter().any(|cpus| cpus.contains(cpu));
    let lost: Vec<usize> = place.shards.iter().filter(|cpu| !is_mapped(cpu)).copied().collect();
    if lost.is_empty() {
        return Check::ok(name, format!("{} queues, one for each shard's CPU", nic.xps.len()));
    }
    let found = format!("none for CPU {}", show(&lost));
    // Shards take queues in turn; with fewer queues than shards several share one.
    let queues = nic.xps.len();
    let commands = (0..queues.min(place.shards.len())).map(|queue| {
        let own: Vec<usize> = place.shards.iter().skip(queue).step_by(queues).copied().collect();
        let mask = mask_of(&own);
        format!("echo {mask} | sudo tee /sys/class/net/{}/queues/tx-{queue}/xps_cpus", nic.name)
    });
    let fix = commands.collect::<Vec<_>>().join("; ");
    Check::bad(entry.level(), name, found, &entry.reason, fix).by_command()
}

fn interrupts(entry: &'static Entry, nic: &Nic, name: String, facts: &Facts) -> Check {
    let Some(place) = &facts.place else { return Check::skip(name, NO_PLACE) };
    if nic.irqs.is_empty() {
        return Check::skip(name, SILENT);
    }
    let mut cpus: Vec<usize> = nic.irqs.iter().flat_map(|(_, cpus)| cpus).copied().collect();
    cpus.sort_unstable();
    cpus.dedup();
    let found = format!("{} interrupts on CPU {}", nic.irqs.len(), show(&cpus));
    let online = &facts.machine.online;
    let rest: Vec<usize> =
        online.iter().copied().filter(|cpu| !place.shards.contains(cpu)).collect();
    let in_the_way = |cpus: &[usize]| cpus.iter().any(|cpu| place.shards.contains(cpu));
    if facts.fifo.is_some() {
        let close: Vec<String> = nic
            .irqs
            .iter()
            .filter(|(_, cpus)| in_the_way(cpus))
            .map(|(irq, _)| irq.to_string())
            .collect();
        if rest.is_empty() {
            return Check::skip(name, "every CPU has a shard, so interrupts go to shards' CPUs");
        }
        if !close.is_empty() {
            let fix = format!(
                "for irq in {}; do echo {} | sudo tee /proc/irq/$irq/smp_affinity_list; done",
                close.join(" "),
                show(&rest)
            );
            return Check::bad(entry.level(), name, found, &entry.reason, fix).by_command();
        }
    } else if nic.irqs.len() > 2 && cpus.len() == 1 && online.len() > 1 {
        // Two are a single queue and the card's own messages: nothing to spread.
        let fix = "sudo systemctl enable --now irqbalance   (Debian: sudo apt install irqbalance)";
        return Check::bad(entry.level(), name, found, &entry.reason, fix);
    }
    Check::ok(name, found)
}

fn discipline(entry: &'static Entry, nic: &Nic, name: String) -> Check {
    let Some(kinds) = &nic.qdiscs else { return Check::skip(name, SILENT) };
    if kinds.is_empty() {
        return Check::skip(name, "the kernel shows no discipline of this card");
    }
    let found = kinds.join(", ");
    if kinds.iter().all(|kind| entry.is_met_by(kind) == Some(true)) {
        return Check::ok(name, found);
    }
    let shaping = kinds.iter().find(|kind| SHAPERS.contains(&kind.as_str()));
    // A single fq would be one lock for all queues; mq makes one of the default kind for each.
    let fix = match nic.has_mq {
        true => format!(
            "sudo sysctl -q -w net.core.default_qdisc=fq && sudo tc qdisc replace dev {} root mq",
            nic.name
        ),
        false => entry.fix(&[("nic", &nic.name)]).unwrap_or_default(),
    };
    let check = Check::bad(entry.level(), name, found, &entry.reason, fix);
    // Somebody has set this up; a script must not tear it down.
    if shaping.is_some() { check } else { check.by_command() }
}

/// With the driver, which tells a virtual card from a real one.
fn driver(nic: &Nic, state: &str) -> String {
    match &nic.driver {
        Some(driver) => format!("{state} ({driver})"),
        None => state.to_owned(),
    }
}

const SILENT: &str = "the card's driver does not say";
const NO_PLACE: &str = "the configuration names CPUs that are not there";
/// Disciplines that are there because a person wants a rate, an order or a fault.
const SHAPERS: [&str; 8] = ["htb", "hfsc", "tbf", "cake", "netem", "prio", "drr", "etf"];

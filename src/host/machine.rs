//! What kind of machine this is, and which of its CPUs are whose.
//!
//! A setting that cannot be seen is no fault where a hypervisor or a container hides it, so
//! doctor has to know where it runs. Told from `/proc` and `/sys`; nothing is run for it.

use rustix::thread::{CpuSet, sched_getaffinity};

use super::tree::{Tree, cpu_list};

/// The kind of machine, and the roles of its CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Machine {
    pub(super) is_virtual: bool,
    pub(super) is_container: bool,
    /// CPUs that are switched on.
    pub(super) online: Vec<usize>,
    /// CPUs that this process may use.
    pub(super) affinity: Vec<usize>,
    /// CPUs that the kernel puts no thread on by itself.
    pub(super) isolated: Vec<usize>,
    /// CPUs without a tick when one thread runs.
    pub(super) tickless: Vec<usize>,
    /// CPUs whose deferred freeing runs elsewhere.
    pub(super) rcu_free: Vec<usize>,
    pub(super) numa_nodes: usize,
}

impl Machine {
    pub(super) fn read(tree: &Tree) -> Self {
        let list = |path: &str| tree.read(path).map(|text| cpu_list(&text)).unwrap_or_default();
        let command_line = tree.read("/proc/cmdline").unwrap_or_default();
        let tickless = list("/sys/devices/system/cpu/nohz_full");
        let online = list("/sys/devices/system/cpu/online");
        let mut rcu_free = option(&command_line, "rcu_nocbs").map_or_else(Vec::new, |value| {
            if value == "all" { online.clone() } else { cpu_list(value) }
        });
        rcu_free.extend(&tickless);
        Self {
            is_virtual: is_virtual(tree),
            is_container: is_container(tree),
            online,
            affinity: affinity(),
            isolated: list("/sys/devices/system/cpu/isolated"),
            tickless,
            rcu_free,
            numa_nodes: tree.paths("/sys/devices/system/node/node*").len(),
        }
    }

    /// In words.
    pub(super) fn kind(&self) -> &'static str {
        match (self.is_container, self.is_virtual) {
            (false, false) => "bare metal",
            (false, true) => "virtual machine",
            (true, false) => "container",
            (true, true) => "container in a virtual machine",
        }
    }

    /// Why something that a host has is not to be seen here.
    pub(super) fn why_hidden(&self) -> &'static str {
        match (self.is_container, self.is_virtual) {
            (false, false) => "this kernel or this hardware does not have it",
            (false, true) => "not to be seen in a virtual machine; its host has it",
            (true, _) => "not to be seen in a container; its host has it",
        }
    }
}

/// Value of a word `name=value` of the kernel's command line.
fn option<'a>(command_line: &'a str, name: &str) -> Option<&'a str> {
    let mut words = command_line.split_whitespace().filter_map(|word| word.split_once('='));
    words.find_map(|(word, value)| (word == name).then_some(value))
}

fn affinity() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

fn is_virtual(tree: &Tree) -> bool {
    // x86 says so itself; elsewhere the firmware names its maker.
    let cpu = tree.read("/proc/cpuinfo").unwrap_or_default();
    let product = ["sys_vendor", "product_name"]
        .map(|name| tree.read(&format!("/sys/class/dmi/id/{name}")).unwrap_or_default());
    cpu.split(' ').any(|flag| flag == "hypervisor")
        || tree.has("/sys/hypervisor/type")
        || tree.has("/proc/device-tree/hypervisor")
        || product.iter().any(|text| HYPERVISORS.iter().any(|name| text.contains(name)))
}

fn is_container(tree: &Tree) -> bool {
    let marks = ["/.dockerenv", "/run/.containerenv", "/run/systemd/container"];
    let groups = tree.read("/proc/1/cgroup").unwrap_or_default();
    marks.iter().any(|mark| tree.has(mark))
        || ["docker", "kubepods", "lxc", "containerd"].iter().any(|name| groups.contains(name))
}

/// Makers of machines that are none.
const HYPERVISORS: [&str; 6] =
    ["QEMU", "KVM", "VMware", "VirtualBox", "Virtual Machine", "Google Compute Engine"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn machine(files: &[(&str, &str)]) -> Machine {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Machine::read(&Tree::at(root.path()))
    }

    #[test]
    fn machines_are_told_apart() {
        assert_eq!(machine(&[("proc/cpuinfo", "flags : fpu vme\n")]).kind(), "bare metal");
        let flags = ("proc/cpuinfo", "flags : fpu hypervisor lahf_lm\n");
        assert_eq!(machine(&[flags]).kind(), "virtual machine");
        let maker = ("sys/class/dmi/id/sys_vendor", "QEMU\n");
        assert_eq!(machine(&[maker]).kind(), "virtual machine");
        let mark = ("run/.containerenv", "");
        assert_eq!(machine(&[mark]).kind(), "container");
        assert_eq!(machine(&[mark, flags]).kind(), "container in a virtual machine");
    }

    #[test]
    fn tickless_cpus_need_no_word_about_rcu() {
        let machine = machine(&[
            ("proc/cmdline", "quiet rcu_nocbs=1 isolcpus=managed_irq,domain,1-3\n"),
            ("sys/devices/system/cpu/nohz_full", "2-3\n"),
            ("sys/devices/system/cpu/isolated", "1-3\n"),
            ("sys/devices/system/cpu/online", "0-3\n"),
        ]);
        assert_eq!(machine.rcu_free, [1, 2, 3]);
        assert_eq!((machine.isolated.len(), machine.online.len()), (3, 4));
    }
}

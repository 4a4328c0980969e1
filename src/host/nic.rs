//! Network cards with hardware behind them: what doctor wants to know of each.
//!
//! ```text
//! /sys/class/net/X/{device, queues}   ethtool   netlink   /proc/irq/N/*_affinity_list  -->  Nic
//! ```
//! Virtual devices (bridges, tunnels, veth) are not looked at: what is under them counts. Bounds:
//! `NICS_MAX` cards, `IRQS_MAX` interrupts of each.

use std::collections::BTreeMap;

use super::ethtool::{Card, Feature, Size};
use super::qdisc::qdiscs;
use super::tree::{Tree, cpu_list, cpu_mask, is_plain};

/// A card that is up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Nic {
    pub(super) name: String,
    pub(super) driver: Option<String>,
    /// `None` where the driver does not say; so with the next.
    pub(super) features: Option<BTreeMap<String, Feature>>,
    pub(super) ring_rx: Option<Size>,
    pub(super) ring_tx: Option<Size>,
    pub(super) queues: Option<Size>,
    /// CPUs that each send queue is for; empty where the card has only one.
    pub(super) xps: Vec<Vec<usize>>,
    /// Each interrupt with the CPUs that it goes to.
    pub(super) irqs: Vec<(u32, Vec<usize>)>,
    /// Disciplines that hold packets; those that only sort them into queues are left out.
    pub(super) qdiscs: Option<Vec<String>>,
    /// Each send queue has a discipline of its own.
    pub(super) has_mq: bool,
}

impl Nic {
    /// The cards of the machine that are up.
    pub(super) fn all(tree: &Tree) -> Vec<Self> {
        let disciplines = qdiscs().ok();
        let is_up = |name: &String| {
            let has_hardware = tree.has(&format!("/sys/class/net/{name}/device"));
            let state = tree.read(&format!("/sys/class/net/{name}/operstate"));
            has_hardware && is_plain(name) && state.as_deref() != Some("down")
        };
        let names = tree.names("/sys/class/net").into_iter().filter(is_up).take(NICS_MAX);
        names.map(|name| Self::read(tree, name, disciplines.as_deref())).collect()
    }

    fn read(tree: &Tree, name: String, disciplines: Option<&[(u32, String)]>) -> Self {
        let folder = format!("/sys/class/net/{name}");
        let card = Card::open(&name).ok();
        let rings = card.as_ref().and_then(|card| card.rings().ok()).unzip();
        let index = tree.read(&format!("{folder}/ifindex")).and_then(|text| text.parse().ok());
        let of_card = |all: &[(u32, String)]| {
            let own = all.iter().filter(|(card, _)| Some(*card) == index);
            let kinds = own.map(|(_, kind)| kind.clone());
            let mut kinds: Vec<String> = kinds.filter(|kind| !is_sorter(kind)).collect();
            kinds.sort_unstable();
            kinds.dedup();
            kinds
        };
        let mut all = disciplines.unwrap_or_default().iter();
        let has_mq = all.any(|(card, kind)| Some(*card) == index && kind == "mq");
        let masks = tree.paths(&format!("{folder}/queues/tx-*/xps_cpus"));
        let masks = masks.iter().filter_map(|path| cpu_mask(&tree.read(path)?));
        Self {
            driver: tree.link(&format!("{folder}/device/driver")),
            features: card.as_ref().and_then(|card| card.features().ok()),
            ring_rx: rings.0,
            ring_tx: rings.1,
            queues: card.as_ref().and_then(|card| card.queues().ok()),
            xps: masks.collect(),
            irqs: irqs(tree, &folder),
            qdiscs: disciplines.map(of_card),
            has_mq,
            name,
        }
    }

    /// Whether an offload is on and can be changed; of several names the first that is on counts,
    /// or else the first that can be switched on.
    pub(super) fn feature(&self, names: &str) -> Option<Feature> {
        let features = self.features.as_ref()?;
        let known = || names.split('|').filter_map(|name| features.get(name).copied());
        let on = known().find(|feature| feature.is_on);
        on.or_else(|| known().find(|feature| feature.can_change)).or_else(|| known().next())
    }
}

/// A virtio card's interrupts belong to the device above it.
fn irqs(tree: &Tree, folder: &str) -> Vec<(u32, Vec<usize>)> {
    let folders = [format!("{folder}/device/msi_irqs"), format!("{folder}/device/../msi_irqs")];
    let names = folders.iter().map(|folder| tree.names(folder)).find(|names| !names.is_empty());
    let numbers = names.unwrap_or_default().into_iter().filter_map(|name| name.parse().ok());
    let cpus = |irq: u32| {
        // What is in force, which may be one CPU of those that are allowed.
        let names = ["effective_affinity_list", "smp_affinity_list"];
        let lists = names.map(|name| tree.read(&format!("/proc/irq/{irq}/{name}")));
        let list = lists.into_iter().flatten().find(|list| !list.is_empty())?;
        Some((irq, cpu_list(&list)))
    };
    numbers.take(IRQS_MAX).filter_map(cpus).collect()
}

/// Disciplines that pass packets on, to one of their queues or to an action.
fn is_sorter(kind: &str) -> bool {
    ["mq", "mqprio", "ingress", "clsact"].contains(&kind)
}

/// More than a server has ports.
const NICS_MAX: usize = 32;
/// Two for each CPU of the largest machines.
const IRQS_MAX: usize = 2_048;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn card_with_hardware_is_read_and_a_bridge_is_not() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("sys/class/net/lan7/operstate", "up\n");
        write("sys/class/net/lan7/device/msi_irqs/40", "msix\n");
        write("sys/class/net/lan7/queues/tx-0/xps_cpus", "3\n");
        write("sys/class/net/lan7/queues/tx-1/xps_cpus", "c\n");
        write("sys/class/net/br0/operstate", "up\n");
        write("sys/class/net/lan8/operstate", "down\n");
        write("sys/class/net/lan8/device/vendor", "0x1\n");
        write("proc/irq/40/effective_affinity_list", "\n");
        write("proc/irq/40/smp_affinity_list", "2-3\n");
        let nics = Nic::all(&Tree::at(root.path()));
        let [nic] = nics.as_slice() else { panic!("{nics:?}") };
        assert_eq!((nic.name.as_str(), &nic.features), ("lan7", &None));
        assert_eq!(nic.xps, [vec![0, 1], vec![2, 3]]);
        assert_eq!(nic.irqs, [(40, vec![2, 3])]);
    }

    #[test]
    fn offload_with_two_names_is_on_when_one_of_them_is() {
        let on = Feature { is_on: true, can_change: false };
        let off = Feature { is_on: false, can_change: true };
        let features = BTreeMap::from([("a".to_owned(), off), ("b".to_owned(), on)]);
        let nic = Nic { features: Some(features), ..Nic::default() };
        assert_eq!(nic.feature("a|b"), Some(on));
        assert_eq!(nic.feature("x|a"), Some(off));
        assert_eq!(nic.feature("x"), None);
        assert_eq!(Nic::default().feature("a"), None);
    }
}

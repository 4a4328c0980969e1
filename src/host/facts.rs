//! Facts about this machine, read from the kernel as they are; none of them is judged here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;

use rustix::process::{Resource, getrlimit};

use super::gso;
use super::machine::Machine;
use super::nic::Nic;
use super::ports::{Port, ports};
use super::ring::RingReport;
use super::tree::Tree;
use super::tuning::TUNING;
use crate::config::cpus::{CPUS_MAX, Placement};
use crate::config::{Config, ShardPriority};
use crate::sandbox::{self, Account, Landlock};

/// Everything that is judged.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) kernel: String,
    pub(super) ring: RingFact,
    /// Error text when it cannot be used.
    pub(super) gso: Option<String>,
    pub(super) gro: Option<String>,
    /// `None` is without limit.
    pub(super) nofile: (Option<u64>, Option<u64>),
    pub(super) memlock_bytes_hard: Option<u64>,
    pub(super) poll_entries_max: u64,
    /// CPUs of shards and workers; `None` when the configuration names others than there are.
    pub(super) place: Option<Placement>,
    pub(super) machine: Machine,
    /// Texts of `/proc/sys` by key; what is not there is left out.
    pub(super) sysctls: BTreeMap<String, String>,
    /// Texts of `/sys` by the key of their entry, each with its path.
    pub(super) files: BTreeMap<String, Vec<(String, String)>>,
    pub(super) page_bytes: u64,
    /// Real-time priority that shards are to have, and why they would not get it.
    pub(super) fifo: Option<(u8, Option<String>)>,
    pub(super) nics: Vec<Nic>,
    /// Connections that the kernel tracks, when it does.
    pub(super) tracked: Option<String>,
    pub(super) ports: Vec<Port>,
    pub(super) landlock: Option<Landlock>,
    /// Words of `kernel.seccomp.actions_avail`; `None` where it is hidden.
    pub(super) seccomp: Option<String>,
    /// User that the server is to become, or why it cannot be.
    pub(super) user: Option<Result<String, String>>,
    /// UDP ports of RTP and RTCP, first and last.
    pub(super) rtp_ports: Option<(u16, u16)>,
    /// Where browsers find HLS and WebRTC; `None`: WebRTC is off.
    pub(super) browsers: Option<Browsers>,
}

/// Where browsers find the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Browsers {
    /// HLS is found on this machine alone: by a proxy.
    pub(super) is_hls_local: bool,
    /// So is WebRTC.
    pub(super) is_webrtc_local: bool,
    /// Browsers are told addresses of the configuration.
    pub(super) has_hosts: bool,
}

impl Browsers {
    fn of(config: &Config) -> Option<Self> {
        let (hls, webrtc) = (&config.hls.listen, &config.webrtc.listen);
        let is_local = |listen: &[SocketAddr]| listen.iter().all(|addr| addr.ip().is_loopback());
        (!hls.is_empty() && !webrtc.is_empty()).then(|| Self {
            is_hls_local: is_local(hls),
            is_webrtc_local: is_local(webrtc),
            has_hosts: !config.webrtc.hosts.is_empty(),
        })
    }
}

/// What asking for a ring came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RingFact {
    Works(RingReport),
    Refused { errno: i32, text: String },
}

impl Default for RingFact {
    fn default() -> Self {
        Self::Works(RingReport::default())
    }
}

impl Facts {
    /// Reads everything; what cannot be read is left out. `try_fifo` says whether a thread of this
    /// process may have a real-time priority.
    pub(super) fn gather<E: std::fmt::Display>(
        config: &Config,
        try_fifo: impl FnOnce(u8) -> Result<(), E>,
    ) -> Self {
        let tree = Tree::of_this_machine();
        let machine = Machine::read(&tree);
        let (shards, workers) = (&config.shards, &config.workers);
        let place = Placement::choose(shards, workers, &machine.affinity, CPUS_MAX).ok();
        let fifo = match config.shard_priority {
            ShardPriority::Normal => None,
            ShardPriority::Fifo(n) => Some((n, try_fifo(n).err().map(|error| error.to_string()))),
        };
        let nofile = getrlimit(Resource::Nofile);
        let sysctls = TUNING.sysctl.iter().map(|entry| &entry.key);
        Self {
            kernel: kernel_release(),
            ring: match RingReport::ask() {
                Ok(report) => RingFact::Works(report),
                Err(error) => RingFact::Refused {
                    errno: error.raw_os_error().unwrap_or_default(),
                    text: error.to_string(),
                },
            },
            gso: gso::segmentation().err().map(|error| error.to_string()),
            gro: gso::receive_offload().err().map(|error| error.to_string()),
            nofile: (nofile.current, nofile.maximum),
            memlock_bytes_hard: getrlimit(Resource::Memlock).maximum,
            poll_entries_max: config.poll_entries_max as u64,
            rtp_ports: rtp_ports(config, place.as_ref()),
            browsers: Browsers::of(config),
            place,
            machine,
            sysctls: sysctls.filter_map(|key| Some((key.clone(), tree.sysctl(key)?))).collect(),
            files: files(&tree, config),
            page_bytes: rustix::param::page_size() as u64,
            fifo,
            nics: Nic::all(&tree),
            tracked: tree.sysctl("net.netfilter.nf_conntrack_count"),
            ports: ports(config),
            landlock: Some(sandbox::available()),
            seccomp: tree.sysctl("kernel.seccomp.actions_avail"),
            user: config.confinement.user.as_ref().map(|user| match Account::find(user) {
                Ok(_) => Ok(user.to_string()),
                Err(error) => Err(error.to_string()),
            }),
        }
    }

    /// Shards that would run, one when that cannot be told.
    pub(super) fn shards(&self) -> u64 {
        self.place.as_ref().map_or(1, |place| place.shards.len() as u64)
    }

    /// Workers that would run.
    pub(super) fn workers(&self) -> u64 {
        self.place.as_ref().map_or(1, |place| place.workers.len() as u64)
    }
}

/// What the entries for files speak of. The disk is the one under the media folder.
fn files(tree: &Tree, config: &Config) -> BTreeMap<String, Vec<(String, String)>> {
    let root = config.media_root.as_ref().and_then(|root| std::fs::metadata(root).ok());
    let disk = root.and_then(|root| disk_of(tree, root.dev()));
    let read = |key: &str| {
        let pattern = match (key.contains(DISK), &disk) {
            (true, Some(disk)) => key.replace(DISK, disk),
            (true, None) => return Vec::new(),
            (false, _) => key.to_owned(),
        };
        let paths = tree.paths(&pattern).into_iter();
        paths.filter_map(|path| Some((path.clone(), tree.read(&path)?))).collect()
    };
    TUNING.file.iter().map(|entry| (entry.key.clone(), read(&entry.key))).collect()
}

/// `sda` for the device of `sda1`. Nothing for file systems that are on no disk, or on several.
fn disk_of(tree: &Tree, device: u64) -> Option<String> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let link = format!("/sys/dev/block/{major}:{minor}");
    let name = tree.link(&link)?;
    if !tree.has(&format!("{link}/partition")) {
        return Some(name);
    }
    tree.names("/sys/block").into_iter().find(|disk| tree.has(&format!("/sys/block/{disk}/{name}")))
}

/// Two ports for each shard, unless any free ones are taken.
fn rtp_ports(config: &Config, place: Option<&Placement>) -> Option<(u16, u16)> {
    let pairs = u16::try_from(place.map_or(1, |place| place.shards.len())).ok()?;
    let last = config.rtp_port.checked_add(pairs.checked_mul(2)?)?.checked_sub(1)?;
    (config.rtp_port != 0).then_some((config.rtp_port, last))
}

/// Release of the running kernel: `6.8.0-45-generic`.
#[must_use]
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Blank in a key: the disk under the media folder.
const DISK: &str = "{media_disk}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_of_a_partition_is_the_whole_disk() {
        let root = tempfile::tempdir().unwrap();
        let sys = |path: &str| root.path().join("sys").join(path);
        std::fs::create_dir_all(sys("block/vdb/vdb1")).unwrap();
        std::fs::write(sys("block/vdb/vdb1/partition"), "1").unwrap();
        std::fs::create_dir_all(sys("dev/block")).unwrap();
        std::os::unix::fs::symlink("../../block/vdb/vdb1", sys("dev/block/254:17")).unwrap();
        std::os::unix::fs::symlink("../../block/vdb", sys("dev/block/254:16")).unwrap();
        let tree = Tree::at(root.path());
        let device = |minor| rustix::fs::makedev(254, minor);
        assert_eq!(disk_of(&tree, device(17)).as_deref(), Some("vdb"));
        assert_eq!(disk_of(&tree, device(16)).as_deref(), Some("vdb"));
        assert_eq!(disk_of(&tree, device(1)), None);
    }

    #[test]
    fn rtp_takes_two_ports_a_shard() {
        let place = Placement { shards: vec![0, 1, 2], workers: vec![3] };
        let config = Config::default();
        assert_eq!(rtp_ports(&config, Some(&place)), Some((8_000, 8_005)));
        let any = Config { rtp_port: 0, ..Config::default() };
        assert_eq!(rtp_ports(&any, Some(&place)), None);
    }
}

//! Verdicts on machines that are described, not had.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Remedy;
use super::super::ethtool::{Feature, Size};
use super::super::holder::{Holder, Protocol};
use super::super::machine::Machine;
use super::super::nic::Nic;
use super::super::ring::RingReport;
use super::*;
use crate::config::cpus::Placement;

fn full_ring() -> RingReport {
    RingReport {
        defer_taskrun: true,
        multishot_recv: true,
        buffer_rings: true,
        send_zc: true,
        bundles: false,
    }
}

fn sysctls(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The files of an entry, whose key ends so.
fn file(end: &str, files: &[(&str, &str)]) -> (String, Vec<(String, String)>) {
    let entry = TUNING.file.iter().find(|entry| entry.key.ends_with(end)).unwrap();
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
    (entry.key.clone(), files.collect())
}

/// A server of bare metal with four CPUs and one card, as `tuning/host.toml` has it.
fn tuned() -> Facts {
    let on = Feature { is_on: true, can_change: true };
    let offloads = TUNING.nic.iter().map(|entry| entry.key.split('|').next().unwrap().to_owned());
    Facts {
        kernel: "6.8.0-45-generic".into(),
        ring: RingFact::Works(full_ring()),
        gso: None,
        gro: None,
        nofile: (Some(1_048_576), Some(1_048_576)),
        memlock_bytes_hard: None,
        poll_entries_max: 16_384,
        place: Some(Placement { shards: vec![1, 2, 3], workers: vec![0] }),
        machine: Machine {
            online: vec![0, 1, 2, 3],
            affinity: vec![0, 1, 2, 3],
            isolated: vec![1, 2, 3],
            tickless: vec![1, 2, 3],
            rcu_free: vec![1, 2, 3],
            numa_nodes: 2,
            ..Machine::default()
        },
        sysctls: TUNING.sysctl.iter().map(|entry| (entry.key.clone(), entry.value())).collect(),
        files: BTreeMap::from([
            file("governor", &[("/sys/cpu0/g", "performance"), ("/sys/cpu1/g", "performance")]),
            file("latency", &[("/sys/cpu1/s0/latency", "2"), ("/sys/cpu0/s1/latency", "900")]),
            file("clocksource", &[("/sys/clock", "tsc")]),
            file("enabled", &[("/sys/enabled", "always [madvise] never")]),
            file("read_ahead_kb", &[("/sys/block/sda/queue/read_ahead_kb", "2048")]),
        ]),
        page_bytes: 4_096,
        fifo: Some((10, None)),
        nics: vec![Nic {
            name: "lan0".into(),
            driver: Some("ice".into()),
            features: Some(offloads.map(|name| (name, on)).collect()),
            ring_rx: Some(Size { now: 2_048, max: 8_160 }),
            ring_tx: Some(Size { now: 512, max: 512 }),
            queues: Some(Size { now: 4, max: 16 }),
            xps: vec![vec![0], vec![1], vec![2], vec![3]],
            irqs: vec![(40, vec![0]), (41, vec![0]), (42, vec![0])],
            qdiscs: Some(vec!["fq".into()]),
            has_mq: true,
        }],
        tracked: None,
        ports: vec![Port {
            protocol: Protocol::Tcp,
            addr: "[::]:8554".parse().unwrap(),
            state: PortState::Free,
        }],
        landlock: Some(Landlock::Enforced { abi: 7 }),
        seccomp: Some("kill_process errno log allow".into()),
        user: Some(Ok("headend".into())),
        browsers: None,
        rtp_ports: Some((8_000, 8_005)),
    }
}

/// One line for each check: level, name, and what was found or why nothing was.
fn shown(facts: &Facts) -> String {
    let line = |check: &Check| {
        let text = if check.level == Level::Skip { check.cause.as_deref() } else { None };
        let level = format!("{:?}", check.level).to_lowercase();
        format!("{level:<5} {:<36} {}", check.name, text.unwrap_or(&check.found))
    };
    judge(facts).iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn tuned_machine_has_nothing_to_improve() {
    insta::assert_snapshot!(shown(&tuned()), @r"
    ok    machine                              bare metal
    ok    kernel                               6.8.0-45-generic
    ok    io_uring                             defer taskrun, send-zc, multishot recv, buffer rings
    ok    UDP GSO                              works
    ok    UDP GRO                              works
    ok    landlock                             ABI 7
    ok    seccomp                              filters can be set
    ok    server.user                          headend
    ok    open files (RLIMIT_NOFILE)           1048576
    ok    locked memory (RLIMIT_MEMLOCK)       unlimited
    ok    real-time priority (RLIMIT_RTPRIO)   SCHED_FIFO 10 is allowed
    ok    kernel.io_uring_disabled             0
    ok    net.core.wmem_max                    8388608
    ok    net.core.rmem_max                    8388608
    ok    net.ipv4.udp_mem                     16384 24576 32768
    ok    net.core.somaxconn                   1024
    ok    net.ipv4.tcp_max_syn_backlog         1024
    ok    net.ipv4.ip_local_port_range         32768 60999
    ok    net.ipv4.ip_local_reserved_ports     none
    ok    net.core.netdev_budget               600
    ok    net.core.netdev_budget_usecs         4000
    ok    net.core.default_qdisc               fq
    ok    net.ipv4.tcp_slow_start_after_idle   0
    ok    vm.swappiness                        10
    ok    vm.max_map_count                     65530
    ok    vm.nr_hugepages                      0
    ok    kernel.numa_balancing                0
    ok    kernel.sched_rt_runtime_us           950000
    ok    CPU governor                         performance
    ok    wake-up from idle states             2 us at most
    ok    clock source                         tsc
    ok    transparent huge pages               madvise
    ok    read_ahead_kb                        2048
    ok    lan0 tx-udp-segmentation             on (ice)
    ok    lan0 tx-scatter-gather               on (ice)
    ok    lan0 tx-checksum-ip-generic          on (ice)
    ok    lan0 tx-tcp-segmentation             on (ice)
    ok    lan0 rx-gro                          on (ice)
    ok    lan0 ring-tx                         512 of 512
    ok    lan0 ring-rx                         2048 of 8160
    ok    lan0 queues                          4 of 16
    ok    lan0 xps                             4 queues, one for each shard's CPU
    ok    lan0 irq                             3 interrupts on CPU 0
    ok    lan0 qdisc                           fq
    ok    isolcpus                             1-3
    ok    nohz_full                            1-3
    ok    rcu_nocbs                            1-3
    ok    a CPU beside the fifo shards         CPU 0
    ok    isolated CPUs                        1-3
    ok    connection tracking of RTP           off
    skip  power profile of the firmware        the firmware does not tell programs; look there if cores slow down with every setting right
    ok    tcp port                             [::]:8554 free
    ");
}

#[test]
fn every_entry_is_judged_or_says_why_not() {
    let bare = Facts {
        kernel: "6.8.0".into(),
        ring: RingFact::Works(full_ring()),
        page_bytes: 4_096,
        ..Facts::default()
    };
    for facts in [tuned(), neglected(), bare] {
        let checks = judge(&facts);
        let judged: BTreeSet<&str> = checks.iter().filter_map(|check| check.entry).collect();
        for (table, entry) in TUNING.all() {
            assert!(judged.contains(entry.key.as_str()), "{table} {}", entry.key);
        }
        for check in checks.iter().filter(|check| check.level == Level::Skip) {
            let cause = check.cause.as_deref().unwrap_or_default();
            assert!(!cause.contains("that doctor knows"), "{check:?}");
            assert!(cause.len() > 10 && check.fix.is_none(), "{check:?}");
        }
    }
}

#[test]
fn hidden_things_are_no_fault_in_a_container() {
    let machine = Machine { is_container: true, ..Machine::default() };
    let facts = Facts {
        kernel: "6.8.0".into(),
        ring: RingFact::Works(full_ring()),
        machine,
        ..Facts::default()
    };
    let checks = judge(&facts);
    let faults: Vec<_> = checks.iter().filter(|check| check.level > Level::Skip).collect();
    let limits = faults.iter().filter(|check| check.entry.is_none_or(|e| !e.contains("RLIMIT")));
    assert_eq!(limits.count(), 0, "{faults:?}");
    let text = shown(&facts);
    assert!(text.contains("a container has the cards of its host"), "{text}");
}

fn neglected_nic() -> Nic {
    let off = Feature { is_on: false, can_change: true };
    let cannot = Feature { is_on: false, can_change: false };
    Nic {
        name: "lan0".into(),
        features: Some(BTreeMap::from([
            ("tx-udp-segmentation".to_owned(), off),
            ("tx-checksum-ipv4".to_owned(), off),
            ("rx-gro".to_owned(), cannot),
        ])),
        ring_tx: Some(Size { now: 256, max: 512 }),
        ring_rx: None,
        queues: Some(Size { now: 1, max: 8 }),
        xps: vec![vec![], vec![0, 1]],
        irqs: vec![(40, vec![3]), (41, vec![4])],
        qdiscs: Some(vec!["pfifo_fast".into()]),
        ..Nic::default()
    }
}

/// Everything that can be wrong is.
fn neglected() -> Facts {
    let taken = |protocol, addr: &str, holder| Port {
        protocol,
        addr: addr.parse().unwrap(),
        state: PortState::Taken(holder),
    };
    Facts {
        kernel: "5.15.0".into(),
        ring: RingFact::Refused { errno: libc::EPERM, text: "Operation not permitted".into() },
        gso: Some("Protocol not available".into()),
        gro: Some("Protocol not available".into()),
        nofile: (Some(1_024), Some(4_096)),
        memlock_bytes_hard: Some(65_536),
        place: Some(Placement { shards: vec![0, 1, 2, 3], workers: vec![0, 1] }),
        machine: Machine {
            online: vec![0, 1, 2, 3, 4],
            affinity: vec![0, 1, 2, 3],
            isolated: vec![4],
            numa_nodes: 2,
            ..Machine::default()
        },
        sysctls: sysctls(&[
            ("kernel.io_uring_disabled", "2"),
            ("net.core.rmem_max", "212992"),
            ("net.core.wmem_max", "212992"),
            ("net.ipv4.udp_mem", "1000 2000 3000"),
            ("net.core.somaxconn", "128"),
            ("net.ipv4.ip_local_port_range", "1024 65535"),
            ("net.ipv4.ip_local_reserved_ports", "3000,9000-9999"),
            ("kernel.numa_balancing", "1"),
            ("kernel.sched_rt_runtime_us", "-1"),
            ("vm.swappiness", "60"),
        ]),
        files: BTreeMap::from([
            file("governor", &[("/sys/cpu0/g", "powersave"), ("/sys/cpu1/g", "performance")]),
            file("latency", &[("/s/cpu1/state0/latency", "2"), ("/s/cpu1/state3/latency", "133")]),
            file("clocksource", &[("/sys/clock", "hpet")]),
            file("enabled", &[("/sys/kernel/mm/thp/enabled", "[always] madvise never")]),
            file("read_ahead_kb", &[("/sys/block/sda/queue/read_ahead_kb", "128")]),
        ]),
        fifo: Some((10, Some("not allowed".into()))),
        nics: vec![neglected_nic()],
        tracked: Some("17".into()),
        landlock: Some(Landlock::Missing("this kernel is built without it".into())),
        seccomp: Some("kill_thread".into()),
        user: Some(Err("server.user: there is no user `headend` on this machine".into())),
        ports: vec![
            taken(Protocol::Tcp, "[::]:8554", Some(Holder { pid: 42, name: "other".into() })),
            taken(Protocol::Udp, "[::]:8000", None),
            Port {
                protocol: Protocol::Tcp,
                addr: "192.0.2.1:554".parse().unwrap(),
                state: PortState::Refused("Permission denied".into()),
            },
            taken(Protocol::Tcp, "127.0.0.1:9997", None),
        ],
        ..tuned()
    }
}

#[test]
fn every_lack_has_a_cause_and_a_command() {
    let facts = neglected();
    let checks = judge(&facts);
    for check in checks.iter().filter(|check| check.level > Level::Skip) {
        assert!(check.cause.is_some() && check.fix.is_some(), "{check:?}");
    }
    let bad = checks.iter().filter(|check| check.level > Level::Skip);
    let fixes = bad.map(|check| {
        let fix = check.fix.clone().unwrap_or_default();
        format!("{:?} {} {} -> {fix}", check.level, check.name, check.found)
    });
    insta::assert_snapshot!(fixes.collect::<Vec<_>>().join("\n"), @r#"
    Fail kernel 5.15.0 -> install a newer kernel, on Debian: sudo apt install linux-image-amd64
    Fail io_uring Operation not permitted -> sudo sysctl -w kernel.io_uring_disabled=0
    Warn UDP GSO Protocol not available -> install Linux 4.18 or newer
    Warn UDP GRO Protocol not available -> install Linux 5.0 or newer
    Tip landlock none (this kernel is built without it) -> a kernel with CONFIG_SECURITY_LANDLOCK=y, booted with lsm=landlock,...
    Tip seccomp no filters -> a kernel with CONFIG_SECCOMP_FILTER=y
    Fail server.user server.user: there is no user `headend` on this machine -> sudo useradd --system headend, and server.user = "headend"
    Warn open files (RLIMIT_NOFILE) 4096 -> sudo prlimit --pid $$ --nofile=66560   (systemd: LimitNOFILE=66560)
    Warn locked memory (RLIMIT_MEMLOCK) 64 KiB -> ulimit -l unlimited   (systemd: LimitMEMLOCK=infinity; docker: --ulimit memlock=-1)
    Warn real-time priority (RLIMIT_RTPRIO) SCHED_FIFO 10 is refused -> sudo setcap cap_sys_nice,cap_net_bind_service=+ep "$(command -v headend)"   (systemd: LimitRTPRIO=10 and RestrictRealtime=no, as in tuning/headend-fifo.conf)
    Warn kernel.io_uring_disabled 2 -> sudo sysctl -w kernel.io_uring_disabled=0
    Warn net.core.wmem_max 212992 -> sudo sysctl -w net.core.wmem_max=8388608
    Warn net.core.rmem_max 212992 -> sudo sysctl -w net.core.rmem_max=8388608
    Warn net.ipv4.udp_mem 1000 2000 3000 -> sudo sysctl -w net.ipv4.udp_mem="16384 24576 32768"
    Warn net.core.somaxconn 128 -> sudo sysctl -w net.core.somaxconn=1024
    Warn net.ipv4.ip_local_port_range 1024 65535 -> sudo sysctl -w net.ipv4.ip_local_reserved_ports=3000,9000-9999,8000,8554
    Tip vm.swappiness 60 -> sudo sysctl -w vm.swappiness=10
    Tip kernel.numa_balancing 1 -> sudo sysctl -w kernel.numa_balancing=0
    Warn kernel.sched_rt_runtime_us -1 -> sudo sysctl -w kernel.sched_rt_runtime_us=950000
    Warn CPU governor powersave -> echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor
    Tip wake-up from idle states 133 us -> echo 1 | sudo tee /s/cpu1/state3/disable
    Warn clock source hpet -> cat /sys/devices/system/clocksource/clocksource0/available_clocksource   (shows the choice)
    Tip transparent huge pages always -> echo madvise | sudo tee /sys/kernel/mm/thp/enabled
    Tip read_ahead_kb 128 -> echo 1024 | sudo tee /sys/block/sda/queue/read_ahead_kb
    Warn lan0 tx-udp-segmentation off -> sudo ethtool -K lan0 tx-udp-segmentation on
    Warn lan0 tx-checksum-ip-generic off -> sudo ethtool -K lan0 tx on
    Tip lan0 ring-tx 256 of 512 -> sudo ethtool -G lan0 tx 512
    Tip lan0 queues 1 of 8 -> sudo ethtool -L lan0 combined 4
    Tip lan0 xps none for CPU 2-3 -> echo 00000005 | sudo tee /sys/class/net/lan0/queues/tx-0/xps_cpus; echo 0000000a | sudo tee /sys/class/net/lan0/queues/tx-1/xps_cpus
    Tip lan0 irq 2 interrupts on CPU 3-4 -> for irq in 40; do echo 4 | sudo tee /proc/irq/$irq/smp_affinity_list; done
    Tip lan0 qdisc pfifo_fast -> sudo tc qdisc replace dev lan0 root fq
    Tip isolcpus 4 -> sudo grubby --update-kernel=ALL --args=isolcpus=managed_irq,domain,0-3   (Debian: add isolcpus=managed_irq,domain,0-3 to GRUB_CMDLINE_LINUX in /etc/default/grub, then sudo update-grub), and boot again
    Tip nohz_full none -> sudo grubby --update-kernel=ALL --args=nohz_full=0-3   (Debian: add nohz_full=0-3 to GRUB_CMDLINE_LINUX in /etc/default/grub, then sudo update-grub), and boot again
    Tip rcu_nocbs none -> sudo grubby --update-kernel=ALL --args=rcu_nocbs=0-3   (Debian: add rcu_nocbs=0-3 to GRUB_CMDLINE_LINUX in /etc/default/grub, then sudo update-grub), and boot again
    Tip isolated CPUs 4 closed to this process -> taskset -c 0-4 headend ...   (systemd: CPUAffinity=0-4)
    Tip connection tracking of RTP on, 17 connections; rules for our ports are not to be seen from here -> sudo nft 'add table inet headend'; sudo nft 'add chain inet headend rtp_in { type filter hook prerouting priority raw; }'; sudo nft 'add rule inet headend rtp_in udp dport 8000-8005 notrack'; sudo nft 'add chain inet headend rtp_out { type filter hook output priority raw; }'; sudo nft 'add rule inet headend rtp_out udp sport 8000-8005 notrack'
    Fail tcp port [::]:8554 taken -> stop it: kill 42; or choose another port
    Fail udp port [::]:8000 taken -> sudo ss -lunp 'sport = :8000'
    Fail tcp port 192.0.2.1:554 -> sudo setcap cap_net_bind_service=+ep "$(command -v headend)"
    Fail tcp port 127.0.0.1:9997 taken -> sudo ss -ltnp 'sport = :9997'
    "#);
}

#[test]
fn sysctls_of_fixes_are_keys_of_the_file() {
    for check in judge(&neglected()) {
        let Some(Remedy::Sysctl { key, .. }) = &check.remedy else { continue };
        assert!(TUNING.sysctl.iter().any(|entry| entry.key == *key), "{key}");
        assert!(check.fix.unwrap().starts_with(&format!("sudo sysctl -w {key}=")), "{key}");
    }
}

#[test]
fn rate_that_somebody_set_is_not_torn_down_by_a_script() {
    let shaped = Nic { qdiscs: Some(vec!["htb".into()]), ..neglected_nic() };
    let queues = Nic { has_mq: true, qdiscs: Some(vec!["fq_codel".into()]), ..neglected_nic() };
    let facts = Facts { nics: vec![shaped, queues], ..neglected() };
    let checks = judge(&facts);
    let of_qdisc: Vec<_> = checks.iter().filter(|check| check.entry == Some("qdisc")).collect();
    assert_eq!(of_qdisc[0].remedy, None);
    assert!(of_qdisc[1].fix.as_ref().unwrap().ends_with("replace dev lan0 root mq"));
}

#[test]
fn kernels_are_judged_by_version() {
    let cases = [
        ("6.1.0-13-amd64", Level::Ok),
        ("6.18.2", Level::Ok),
        ("6.0.19", Level::Fail),
        ("5.15.0-91-generic", Level::Fail),
        ("7.0.3", Level::Warn),
        ("7.1.0-rc4", Level::Warn),
        ("7.1.0", Level::Ok),
        ("7.1", Level::Ok),
        ("unknown", Level::Warn),
        ("", Level::Warn),
    ];
    for (release, level) in cases {
        assert_eq!(kernel(release).level, level, "{release}");
    }
}

#[test]
fn refused_ring_is_explained_by_what_refuses_it() {
    let fix = |errno, disabled| ring_refusal(errno, disabled).1;
    assert!(fix(libc::EPERM, Some("2")).contains("io_uring_disabled=0"));
    assert!(fix(libc::EPERM, Some("0")).contains("seccomp"));
    assert!(fix(libc::EPERM, None).contains("seccomp"));
    assert!(fix(libc::ENOSYS, None).contains("CONFIG_IO_URING"));
    assert!(fix(libc::ENOMEM, None).contains("ulimit -l"));
}

#[test]
fn old_ring_without_the_needed_features_fails() {
    let old = RingReport { defer_taskrun: false, ..full_ring() };
    assert_eq!(ring(&RingFact::Works(old), None).level, Level::Fail);
}

#[test]
fn sysctl_that_cannot_be_read_is_not_judged() {
    let odd = sysctls(&[("net.ipv4.udp_mem", "x"), ("net.ipv4.ip_local_port_range", "1")]);
    for sysctls in [BTreeMap::new(), odd] {
        let checks = judge(&Facts { sysctls, ..tuned() });
        assert!(checks.iter().all(|check| check.level <= Level::Skip), "{checks:?}");
    }
}

#[test]
fn browsers_that_are_told_an_address_of_no_use_are_a_finding() {
    let judged = |is_hls_local, is_webrtc_local, has_hosts| {
        let browsers = Some(Browsers { is_hls_local, is_webrtc_local, has_hosts });
        let checks = judge(&Facts { browsers, ..tuned() });
        checks.into_iter().find(|check| check.name == "webrtc").unwrap().level
    };
    assert_eq!(judged(false, false, false), Level::Ok);
    assert_eq!(judged(true, false, false), Level::Tip);
    assert_eq!(judged(true, false, true), Level::Ok);
    // The address of webrtc.hosts leads to no socket.
    assert_eq!(judged(false, true, true), Level::Warn);
    assert_eq!(judged(true, true, true), Level::Warn);
    assert_eq!(judged(true, true, false), Level::Tip);
    assert!(judge(&tuned()).iter().all(|check| check.name != "webrtc"), "it is off");
}

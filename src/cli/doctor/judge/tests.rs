//! Verdicts on machines that are described, not had.

use super::super::holder::{Holder, Protocol};
use super::super::print;
use super::super::ring::RingReport;
use super::*;

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn full_ring() -> RingReport {
    RingReport {
        defer_taskrun: true,
        multishot_recv: true,
        buffer_rings: true,
        send_zc: true,
        bundles: false,
    }
}

fn tuned() -> Facts {
    Facts {
        kernel: "6.8.0-45-generic".into(),
        ring: RingFact::Works(full_ring()),
        gso: None,
        gro: None,
        nofile: (Some(1_048_576), Some(1_048_576)),
        memlock_bytes: None,
        poll_entries_max: 16_384,
        shards: 4,
        workers: 4,
        sysctls: Sysctls {
            io_uring_disabled: text("0"),
            rmem_max: text("8388608"),
            wmem_max: text("8388608"),
            udp_mem: text("381894 509193 763788"),
            somaxconn: text("4096"),
            local_port_range: text("32768 60999"),
            local_reserved_ports: text(""),
        },
        page_bytes: 4_096,
        governor: text("performance"),
        ports: vec![Port {
            protocol: Protocol::Tcp,
            addr: "[::]:8554".parse().unwrap(),
            state: PortState::Free,
        }],
    }
}

fn shown(facts: &Facts) -> String {
    let mut out = Vec::new();
    print(&judge(facts), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn tuned_machine_has_nothing_to_improve() {
    insta::assert_snapshot!(shown(&tuned()), @r"
    ok    kernel                          6.8.0-45-generic
    ok    io_uring                        defer taskrun, send-zc, multishot recv, buffer rings
    ok    UDP GSO                         works
    ok    UDP GRO                         works
    ok    open files (RLIMIT_NOFILE)      1048576
    ok    locked memory (RLIMIT_MEMLOCK)  unlimited
    ok    net.core.rmem_max               8388608
    ok    net.core.wmem_max               8388608
    ok    net.ipv4.udp_mem                381894 509193 763788
    ok    net.core.somaxconn              4096
    ok    ephemeral ports                 32768-60999
    ok    CPU governor                    performance
    ok    tcp port                        [::]:8554 free
    ");
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
        gso: text("Protocol not available"),
        gro: text("Protocol not available"),
        nofile: (Some(1_024), Some(4_096)),
        memlock_bytes: Some(65_536),
        sysctls: Sysctls {
            io_uring_disabled: text("2"),
            rmem_max: text("212992"),
            wmem_max: text("212992"),
            udp_mem: text("1000 2000 3000"),
            somaxconn: text("128"),
            local_port_range: text("1024 65535"),
            local_reserved_ports: text("3000,9000-9999"),
        },
        governor: text("powersave"),
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
    for check in &checks {
        assert_ne!(check.level, Level::Ok, "{check:?}");
        assert!(check.cause.is_some() && check.fix.is_some(), "{check:?}");
    }
    insta::assert_snapshot!(shown(&facts), @r#"
    FAIL  kernel                          5.15.0
          why  rings with deferred task work need Linux 6.1
          fix  install a newer kernel, on Debian: sudo apt install linux-image-amd64
    FAIL  io_uring                        Operation not permitted
          why  kernel.io_uring_disabled forbids it
          fix  sudo sysctl -w kernel.io_uring_disabled=0
    warn  UDP GSO                         Protocol not available
          why  every packet costs a send of its own: about eight times the CPU time
          fix  install Linux 4.18 or newer
    warn  UDP GRO                         Protocol not available
          why  received datagrams come one by one
          fix  install Linux 5.0 or newer
    warn  open files (RLIMIT_NOFILE)      1024
          why  past 1024 connections new players are refused; 66560 would do
          fix  sudo prlimit --pid $$ --nofile=66560   (systemd: LimitNOFILE=66560)
    FAIL  locked memory (RLIMIT_MEMLOCK)  64 KiB
          why  4 workers want 512 KiB each
          fix  ulimit -l unlimited   (systemd: LimitMEMLOCK=infinity; docker: --ulimit memlock=-1)
    warn  net.core.rmem_max               212992
          why  is small for UDP (HE-W101)
          fix  sudo sysctl -w net.core.rmem_max=8388608
    warn  net.core.wmem_max               212992
          why  is small for UDP (HE-W102)
          fix  sudo sysctl -w net.core.wmem_max=8388608
    warn  net.ipv4.udp_mem                1000 2000 3000
          why  all UDP sockets share 11 MiB; past that packets are lost
          fix  sudo sysctl -w net.ipv4.udp_mem="16384 24576 32768"
    warn  net.core.somaxconn              128
          why  many players that connect at once are turned away
          fix  sudo sysctl -w net.core.somaxconn=1024
    warn  ephemeral ports                 1024-65535
          why  the range holds our ports 8000,8554: another program may get one first
          fix  sudo sysctl -w net.ipv4.ip_local_reserved_ports=3000,9000-9999,8000,8554
    warn  CPU governor                    powersave
          why  cores that slow down between packets wake up late
          fix  sudo cpupower frequency-set -g performance
    FAIL  tcp port                        [::]:8554 taken
          why  other (pid 42) has it
          fix  stop it: kill 42; or choose another port
    FAIL  udp port                        [::]:8000 taken
          why  a process of another user has it
          fix  sudo ss -lunp 'sport = :8000'
    FAIL  tcp port                        192.0.2.1:554
          why  Permission denied
          fix  sudo setcap cap_net_bind_service=+ep "$(command -v headend)"
    FAIL  tcp port                        127.0.0.1:9997 taken
          why  a process of another user has it
          fix  sudo ss -ltnp 'sport = :9997'
    "#);
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
    let facts = Facts { sysctls: Sysctls::default(), ..tuned() };
    assert!(judge(&facts).iter().all(|check| check.level == Level::Ok));
    let odd = Sysctls { udp_mem: text("x"), local_port_range: text("1"), ..Sysctls::default() };
    assert!(judge(&Facts { sysctls: odd, ..tuned() }).iter().all(|check| check.level == Level::Ok));
}

#[test]
fn reserved_port_ranges_are_read() {
    assert!(is_in_ranges("3000,8000-8015", 8_001));
    assert!(is_in_ranges("8554", 8_554));
    assert!(!is_in_ranges("", 0));
    assert!(!is_in_ranges("9-1,x-y", 5));
}

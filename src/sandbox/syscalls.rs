//! The system calls of a server that runs, by what it needs them for.
//!
//! ```text
//! serve = COMMON + WRITING      node, base = the same + PROVIDING
//! ```
//! Found by running the servers of all tests under strace; what glibc and musl call instead of one
//! another is there as well, and what other architectures have under another name (`OLD`).
//! Not here, because only a start needs it (`START`): rings are set up, users changed, programs
//! run, priorities of shards set. Calls whose arguments count have their rules in [`LIMITED`].

use std::ffi::c_long;

/// What the process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Serves a folder.
    Serve,
    /// The same, and contents are delivered into it.
    Node,
    /// The base of a distribution.
    Base,
}

/// Calls with the reason that they have in common.
pub(super) struct Calls {
    pub(super) why: &'static str,
    pub(super) calls: &'static [Call],
}

/// A system call of this architecture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// As `libc` names it: `SYS_read`.
    name: &'static str,
    pub(super) number: c_long,
}

impl Call {
    /// As the kernel names it.
    pub(super) fn name(self) -> &'static str {
        self.name.trim_start_matches("SYS_")
    }
}

/// A row: the reason, and names of calls.
macro_rules! calls {
    ($($why:literal: $($name:ident)+;)+) => {
        &[$(Calls {
            why: $why,
            calls: &[$(Call { name: stringify!($name), number: libc::$name }),+],
        }),+]
    };
}

/// Of every role.
pub(super) const COMMON: &[Calls] = calls! {
    "the rings of shards and workers; `SYS_io_uring_setup` is over when a server runs":
        SYS_io_uring_enter SYS_io_uring_register;
    "bytes of sockets, pipes and files":
        SYS_read SYS_write SYS_readv SYS_writev SYS_pread64 SYS_pwrite64 SYS_preadv SYS_pwritev
        SYS_preadv2 SYS_pwritev2 SYS_lseek SYS_sendfile SYS_splice SYS_copy_file_range;
    "descriptors":
        SYS_close SYS_close_range SYS_dup SYS_dup3 SYS_fcntl SYS_pipe2 SYS_eventfd2;
    "the control thread and runtimes of tokio wait":
        SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_ppoll SYS_pselect6
        SYS_timerfd_create SYS_timerfd_settime SYS_timerfd_gettime;
    "connections of players, to cameras, to name servers":
        SYS_socketpair SYS_bind SYS_connect SYS_listen SYS_accept SYS_accept4 SYS_shutdown
        SYS_getsockname SYS_getpeername SYS_getsockopt SYS_setsockopt
        SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_sendmmsg SYS_recvmmsg;
    "titles, configuration, time zones, /proc":
        SYS_openat SYS_openat2 SYS_fstat SYS_newfstatat SYS_statx SYS_statfs SYS_fstatfs
        SYS_getdents64 SYS_readlinkat SYS_faccessat SYS_faccessat2 SYS_getcwd SYS_fadvise64
        SYS_readahead;
    "media as maps, and the allocator":
        SYS_mmap SYS_munmap SYS_mprotect SYS_mremap SYS_madvise SYS_mincore SYS_brk SYS_membarrier
        SYS_mlock SYS_munlock SYS_memfd_create SYS_ftruncate;
    "threads that start, wait and end":
        SYS_set_robust_list SYS_get_robust_list SYS_set_tid_address SYS_rseq SYS_futex SYS_gettid
        SYS_sched_yield SYS_sched_getaffinity SYS_sched_setaffinity SYS_sched_getparam
        SYS_sched_getscheduler SYS_exit SYS_exit_group SYS_restart_syscall;
    "threads of a node's agent stand behind those that serve":
        SYS_setpriority SYS_getpriority;
    "signals, and the end by a panic in a panic":
        SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_rt_sigtimedwait
        SYS_sigaltstack SYS_tgkill SYS_getpid SYS_gettimeofday;
    "time":
        SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_nanosleep;
    "random numbers, and questions about this process and machine":
        SYS_getrandom SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getppid SYS_uname
        SYS_sysinfo SYS_prlimit64 SYS_getrusage SYS_times SYS_capget SYS_getcpu;
};

/// Of roles that keep something: edits of playlists, contents, the ledger.
pub(super) const WRITING: &[Calls] = calls! {
    "files that are made, replaced and removed":
        SYS_mkdirat SYS_unlinkat SYS_renameat2 SYS_linkat SYS_symlinkat SYS_umask
        SYS_fchmod SYS_fchmodat SYS_utimensat;
    "files that are whole on the disk before anyone is told":
        SYS_fsync SYS_fdatasync SYS_sync_file_range SYS_syncfs SYS_fallocate SYS_truncate;
    "one process has a folder":
        SYS_flock;
};

/// Of a node and a base.
pub(super) const PROVIDING: &[Calls] = calls! {
    "attributes of delivered files, set by WebDAV":
        SYS_setxattr SYS_lsetxattr SYS_fsetxattr SYS_getxattr SYS_lgetxattr SYS_fgetxattr
        SYS_listxattr SYS_llistxattr SYS_flistxattr SYS_removexattr SYS_lremovexattr
        SYS_fremovexattr;
    "SQLite gives a file to who has its folder, when root runs it":
        SYS_fchown;
};

/// The same under the names that only x86 has.
#[cfg(target_arch = "x86_64")]
pub(super) const OLD: &[Calls] = calls! {
    "older names of those that wait":
        SYS_poll SYS_select SYS_epoll_wait SYS_epoll_create SYS_eventfd SYS_pipe SYS_dup2;
    "older names of those that open and look":
        SYS_open SYS_stat SYS_lstat SYS_access SYS_readlink SYS_getdents;
    "older names of those that make and remove":
        SYS_mkdir SYS_rmdir SYS_unlink SYS_rename SYS_renameat SYS_link SYS_symlink SYS_chmod;
    "older names of questions":
        SYS_getrlimit SYS_time SYS_arch_prctl;
};

/// aarch64 has one older name.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const OLD: &[Calls] = calls! {
    "an older name of one that replaces": SYS_renameat;
};

/// What a start needs beside them, and what a container's runtime calls before it.
pub(super) const START: &[Calls] = calls! {
    "rings": SYS_io_uring_setup;
    "what is given up": SYS_landlock_create_ruleset SYS_landlock_add_rule
        SYS_landlock_restrict_self SYS_seccomp SYS_setgroups SYS_setresuid SYS_setresgid
        SYS_setuid SYS_setgid SYS_capset SYS_setrlimit SYS_fchownat SYS_kill;
    "threads, and priorities of shards": SYS_clone SYS_clone3 SYS_sched_setscheduler;
    "calls whose arguments the server's own filter limits": SYS_socket SYS_prctl SYS_ioctl;
    "the runtime starts the program": SYS_execve SYS_execveat SYS_chdir SYS_fchdir SYS_setsid
        SYS_wait4 SYS_waitid SYS_getpgid SYS_getsid SYS_setpgid SYS_getgroups SYS_getresuid
        SYS_getresgid SYS_setfsuid SYS_setfsgid SYS_tkill SYS_pidfd_open
        SYS_pidfd_send_signal SYS_sched_getattr SYS_get_mempolicy;
};

/// Calls that are allowed with some values of an argument: number, argument, values, reason.
pub(super) struct Limited {
    pub(super) number: c_long,
    pub(super) argument: u8,
    pub(super) values: &'static [u64],
    pub(super) why: &'static str,
}

/// See [`Limited`]. `clone` has a rule of its own: `NAMESPACES`.
pub(super) const LIMITED: &[Limited] = &[
    Limited {
        number: libc::SYS_socket,
        argument: 0,
        values: &[
            unsigned(libc::AF_INET),
            unsigned(libc::AF_INET6),
            unsigned(libc::AF_UNIX),
            unsigned(libc::AF_NETLINK),
        ],
        why: "the Internet, signals and service managers, and the interfaces that names lead to",
    },
    Limited {
        number: libc::SYS_prctl,
        argument: 0,
        values: &[
            unsigned(libc::PR_SET_NAME),
            unsigned(libc::PR_GET_NAME),
            PR_SET_VMA,
            PR_GET_AUXV,
        ],
        why: "threads and the allocator's memory have names; what the kernel says of the CPU",
    },
    Limited {
        number: libc::SYS_ioctl,
        argument: 1,
        values: REQUESTS,
        why: "sockets that do not wait, queues, interfaces by name and number, is it a terminal, \
              blocks of a disk; not TIOCSTI, which types for others",
    },
];

/// `clone` makes threads, and no namespaces: an unprivileged one opens much of the kernel.
pub(super) const NAMESPACES: u64 = 0x7e02_0000;

const fn unsigned(value: std::ffi::c_int) -> u64 {
    value.unsigned_abs() as u64
}

/// `linux/prctl.h`; glibc 2.41 and Rust name memory by it.
const PR_SET_VMA: u64 = 0x5356_4d41;
/// `linux/prctl.h`; rustix asks by it for what is in /proc/self/auxv.
const PR_GET_AUXV: u64 = 0x4155_5856;
/// Of `ioctl`. Numbers, because their type differs between C libraries: asm-generic/ioctls.h,
/// linux/sockios.h, linux/fs.h.
const REQUESTS: &[u64] = &[
    0x5401, // TCGETS
    0x5411, // TIOCOUTQ, SIOCOUTQ
    0x5413, // TIOCGWINSZ
    0x541b, // FIONREAD
    0x5421, // FIONBIO
    0x5450, // FIONCLEX
    0x5451, // FIOCLEX
    0x8910, // SIOCGIFNAME
    0x8933, // SIOCGIFINDEX
    0x1268, // BLKSSZGET
];

/// The groups of a role.
pub(super) fn of_role(role: Role) -> Vec<&'static Calls> {
    let providing: &[Calls] = match role {
        Role::Serve => &[],
        Role::Node | Role::Base => PROVIDING,
    };
    [COMMON, WRITING, OLD, providing].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn call_stands_in_one_group_with_one_reason() {
        let mut seen = BTreeSet::new();
        for group in of_role(Role::Base) {
            assert!(!group.why.is_empty());
            for call in group.calls {
                assert!(seen.insert(call.number), "{call:?} ({}) stands there twice", group.why);
            }
        }
        for Limited { number, why, values, .. } in LIMITED {
            assert!(!why.is_empty() && !values.is_empty());
            assert!(seen.insert(*number), "{number} is limited and allowed");
        }
        assert!(!seen.contains(&libc::SYS_clone) && !seen.contains(&libc::SYS_clone3));
    }

    #[test]
    fn calls_that_attackers_want_are_in_no_group() {
        let all: BTreeSet<_> = of_role(Role::Base)
            .iter()
            .flat_map(|group| group.calls)
            .map(|call| call.number)
            .collect();
        let wanted = [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_writev,
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_init_module,
            libc::SYS_kexec_load,
            libc::SYS_setuid,
            libc::SYS_io_uring_setup,
            libc::SYS_kill,
        ];
        assert_eq!(wanted.into_iter().filter(|call| all.contains(call)).count(), 0);
    }
}

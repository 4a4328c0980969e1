//! The seccomp filter: calls of [`super::syscalls`] are made, all others fail.
//!
//! ```text
//! call --allowed?--> made     no: EPERM (on) | made and logged by the kernel (log)
//! clone3 --> ENOSYS           glibc makes threads by clone then, whose arguments can be seen
//! ```
//! EPERM and not the end of the process: a call that a newer C library makes would end every
//! session of a server, and an attacker gains nothing by a call that fails.
//! In force on all threads at once; threads that start later have it by the one that starts them.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter_all_threads,
};

use super::syscalls::{LIMITED, NAMESPACES, Role, of_role};
use crate::config::confinement::SeccompMode;

/// Puts the list of a role in force on all threads; gives how many calls it has.
///
/// # Errors
/// The kernel has no seccomp, or a thread has a filter of its own: in words.
pub(super) fn enforce(mode: SeccompMode, role: Role) -> Result<usize, String> {
    let (rules, hidden) = (rules(role).map_err(words)?, hidden());
    let count = rules.len();
    let refused = match mode {
        SeccompMode::Log => SeccompAction::Log,
        SeccompMode::On | SeccompMode::Off => SeccompAction::Errno(errno(libc::EPERM)),
    };
    let list = program(rules, refused, SeccompAction::Allow)?;
    let enosys = SeccompAction::Errno(errno(libc::ENOSYS));
    let hide = program(hidden, SeccompAction::Allow, enosys)?;
    // Before the list, which does not allow to set a filter.
    apply_filter_all_threads(&hide).map_err(words)?;
    apply_filter_all_threads(&list).map_err(words)?;
    Ok(count)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn rules(role: Role) -> Result<Rules, seccompiler::BackendError> {
    let mut rules = Rules::new();
    for group in of_role(role) {
        tracing::debug!(why = group.why, calls = group.calls.len(), "system calls stay");
        rules.extend(group.calls.iter().map(|call| (call.number, Vec::new())));
    }
    for limited in LIMITED {
        tracing::debug!(why = limited.why, "a system call stays with some arguments");
        let rule = |value: &u64| {
            let (width, op) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq);
            let condition = SeccompCondition::new(limited.argument, width, op, *value)?;
            SeccompRule::new(vec![condition])
        };
        let values = limited.values.iter().map(rule).collect::<Result<_, _>>()?;
        rules.insert(limited.number, values);
    }
    let makes_none = SeccompCmpOp::MaskedEq(NAMESPACES);
    let clone = SeccompCondition::new(0, SeccompCmpArgLen::Qword, makes_none, 0)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![clone])?]);
    // Hidden by the other filter.
    rules.insert(libc::SYS_clone3, Vec::new());
    Ok(rules)
}

/// Its arguments are in memory, where no filter sees them.
fn hidden() -> Rules {
    Rules::from([(libc::SYS_clone3, Vec::new())])
}

fn program(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(words)?;
    let filter = SeccompFilter::new(rules, otherwise, matched, arch).map_err(words)?;
    filter.try_into().map_err(words)
}

fn errno(errno: i32) -> u32 {
    errno.unsigned_abs()
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a thread of its own, which ends with its filter.
    fn filtered<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let filtered = std::thread::spawn(move || {
            let enosys = SeccompAction::Errno(errno(libc::ENOSYS));
            let hide = program(hidden(), SeccompAction::Allow, enosys).unwrap();
            let refused = SeccompAction::Errno(errno(libc::EPERM));
            let list = program(rules(Role::Serve).unwrap(), refused, SeccompAction::Allow);
            seccompiler::apply_filter(&hide).unwrap();
            seccompiler::apply_filter(&list.unwrap()).unwrap();
            work()
        });
        filtered.join().unwrap()
    }

    #[test]
    fn thread_with_the_filter_serves_and_can_do_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let (read, threads, name, udp) = filtered(move || {
            std::fs::write(&path, "x").unwrap();
            let thread = std::thread::Builder::new().name("later".to_owned());
            let ran = thread.spawn(|| 7).map(|thread| thread.join().unwrap());
            let name = std::net::ToSocketAddrs::to_socket_addrs("localhost:1").map(|_| ());
            (std::fs::read(&path), ran, name, std::net::UdpSocket::bind("127.0.0.1:0"))
        });
        assert_eq!((read.unwrap(), threads.unwrap()), (b"x".to_vec(), 7));
        assert!(name.is_ok() && udp.is_ok(), "{name:?} {udp:?}");
        let refused = filtered(|| {
            use rustix::process::{Signal, getpid, kill_process};
            let program = std::process::Command::new("/bin/true").status().is_err();
            let privileges = rustix::thread::set_no_new_privs(true).err();
            (program, privileges, kill_process(getpid(), Signal::CONT).err())
        });
        let eperm = Some(rustix::io::Errno::PERM);
        assert_eq!(refused, (true, eperm, eperm), "no program, no prctl, no signal to a process");
    }

    #[test]
    fn filters_of_all_roles_are_short_enough_for_the_kernel() {
        for role in [Role::Serve, Role::Node, Role::Base] {
            let rules = rules(role).unwrap();
            assert!(rules.len() > 100, "{} calls", rules.len());
            let refused = SeccompAction::Errno(errno(libc::EPERM));
            let program = program(rules, refused, SeccompAction::Allow).unwrap();
            assert!(program.len() < 4_096, "{} instructions", program.len());
        }
    }
}

//! The seccomp profile of a container that headend runs in, as Docker and Podman read it.
//!
//! ```text
//! syscalls: START + those of all roles --to_json--> tuning/seccomp.json
//! ```
//! Their own default profile forbids io_uring. This one allows what the server calls, from its
//! start on, and what the runtime calls before it: less than theirs in all else. The server's own
//! filter follows when it runs. Invariant: the file in the repository is what `to_json` writes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::syscalls::{Call, Calls, Role, START, of_role};

/// The profile, as a file.
#[must_use]
pub fn to_json() -> String {
    let rule = |group: &Calls| {
        let names: BTreeSet<_> = group.calls.iter().map(|call| call.name()).collect();
        json!({ "comment": group.why, "names": names, "action": "SCMP_ACT_ALLOW" })
    };
    let rules: Vec<Value> = groups().into_iter().map(rule).collect();
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::EPERM,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": rules,
    });
    format!("{profile:#}\n")
}

/// Numbers of the calls that the profile allows, by their names, on this architecture.
#[must_use]
pub fn numbers() -> BTreeMap<&'static str, std::ffi::c_long> {
    let calls = groups().into_iter().flat_map(|group| group.calls);
    calls.map(|call: &Call| (call.name(), call.number)).collect()
}

fn groups() -> Vec<&'static Calls> {
    START.iter().chain(of_role(Role::Base)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of x86 alone stand in it.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn file_of_the_repository_is_what_the_lists_say() {
        let file = include_str!("../../tuning/seccomp.json");
        assert!(file == to_json(), "write it anew: headend generate DIR, DIR/seccomp.json");
    }

    #[test]
    fn call_is_allowed_by_one_rule() {
        let count: usize = groups().iter().map(|group| group.calls.len()).sum();
        assert_eq!(numbers().len(), count);
        for name in ["io_uring_setup", "io_uring_enter", "io_uring_register", "execve"] {
            assert!(numbers().contains_key(name), "{name}");
        }
        for name in ["ptrace", "mount", "unshare", "bpf", "keyctl", "init_module"] {
            assert!(!numbers().contains_key(name), "{name}");
        }
    }
}

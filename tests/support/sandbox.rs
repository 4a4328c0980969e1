//! A child whose sandbox forbids a system call, or all but some, as the seccomp profiles of
//! containers do.
#![allow(unsafe_code, reason = "prctl with a filter program, between fork and exec")]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Has `command` run where the system call `number` fails with `errno`.
pub(crate) fn forbid(command: &mut Command, number: libc::c_long, errno: i32) {
    let number = u32::try_from(number).unwrap();
    let fails = libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap();
    let filter = [
        // The number of the system call is the first word of what a filter is given.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number, 0, 1),
        instruction(libc::BPF_RET | libc::BPF_K, fails, 0, 0),
        instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    // SAFETY: `pre_exec` requires that the closure does only what is safe between fork and exec of
    // a process with threads. It makes two system calls and allocates nothing.
    unsafe { command.pre_exec(move || set_filter(&filter)) };
}

/// As `forbid`, where an argument of the call has this value: its place, and the value.
pub(crate) fn forbid_where(
    command: &mut Command,
    number: libc::c_long,
    (place, value): (u32, u32),
    errno: i32,
) {
    let number = u32::try_from(number).unwrap();
    let fails = libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap();
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equals = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let filter = [
        instruction(load, 0, 0, 0),
        instruction(equals, number, 0, 3),
        // Arguments are eight bytes each, behind the number, the architecture and an address.
        instruction(load, 16 + 8 * place, 0, 0),
        instruction(equals, value, 0, 1),
        instruction(libc::BPF_RET | libc::BPF_K, fails, 0, 0),
        instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    // SAFETY: as above: two system calls, and no allocation.
    unsafe { command.pre_exec(move || set_filter(&filter)) };
}

/// Has `command` run where all other system calls than these fail with EPERM.
pub(crate) fn allow_only(command: &mut Command, numbers: &[libc::c_long]) {
    let eperm = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EPERM).unwrap();
    let mut filter = vec![instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for number in numbers {
        let number = u32::try_from(*number).unwrap();
        filter.push(instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number, 0, 1));
        filter.push(instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0));
    }
    filter.push(instruction(libc::BPF_RET | libc::BPF_K, eperm, 0, 0));
    // SAFETY: as above: two system calls, and no allocation.
    unsafe { command.pre_exec(move || set_filter(&filter)) };
}

fn set_filter(filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).unwrap_or(0),
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: `prctl` reads `program` and the instructions that it points to, which live until the
    // end of this function, and keeps neither.
    let is_set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    if is_set { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k }
}

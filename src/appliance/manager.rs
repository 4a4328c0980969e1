//! The service manager is told that the server serves, and which process it is (sd_notify(3)).
//!
//! Without a service manager nothing happens. What becomes of a server that another program has
//! taken over from by hand, beside its unit, is told in a sentence ([`leaves_unit`]). One whose end
//! would be the end of the other program, too, is not taken over ([`keeps`]).

use std::{env, fs, io, process};

use sd_notify::NotifyState;

/// The process with this number serves. It says so itself, also where it takes over: so the unit
/// has `NotifyAccess=all`.
///
/// # Errors
/// The service manager does not hear it.
pub(super) fn serves(pid: u32) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Ready, NotifyState::MainPid(pid)])
}

/// The process with this number follows this one, which ends. This is the main process of its unit
/// so far, so it is heard whatever `NotifyAccess=` says. 0: the other one has no number here.
///
/// # Errors
/// The service manager does not hear it.
pub(super) fn is_followed_by(pid: i32) -> io::Result<()> {
    match u32::try_from(pid) {
        Ok(pid) if pid > 0 => sd_notify::notify(&[NotifyState::MainPid(pid)]),
        _ => Ok(()),
    }
}

/// The exit code after a signal, when another process has taken over and the service manager may
/// not know that yet: with a failure the service is started again (`Restart=on-failure`).
pub(super) fn code_of_the_parted() -> i32 {
    i32::from(env::var_os(NOTIFY_SOCKET).is_some())
}

/// A sentence, when the end of this process would be the end of one that has taken over from it.
/// `is_here`: that one has a number here.
pub(super) fn keeps(is_here: bool) -> Option<String> {
    let is_main = env::var("SYSTEMD_EXEC_PID").ok().and_then(|pid| pid.parse().ok());
    let is_heard = env::var_os(NOTIFY_SOCKET).is_some();
    keeper(process::id(), is_here, is_main == Some(process::id()), is_heard).map(str::to_owned)
}

fn keeper(own: u32, is_here: bool, is_main: bool, is_heard: bool) -> Option<&'static str> {
    if is_main && !is_heard {
        return Some(
            "the running server is the main process of a unit of systemd that does not listen to \
             it, and would end the new one with it: Type=notify and NotifyAccess=all are needed, \
             as in tuning/headend.service",
        );
    }
    (own == 1 && is_here).then_some(
        "the running server is the first process of its container, which ends with it: start the \
         new one in another container, or the server below an init (docker run --init)",
    )
}

/// A sentence, when this process takes over from one of a unit of systemd and does not belong to
/// that unit. `pid`: the other one.
pub(super) fn leaves_unit(pid: u32) -> Option<String> {
    let of = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup")).ok();
    let (old, new) = (of(&pid.to_string())?, of("self")?);
    let unit = left_unit(&old, &new)?;
    Some(format!(
        "the server of {unit} is taken over by a process that is not of that unit: systemd takes \
         the unit for ended, and does not watch this process; to stay in it take over by \
         `systemctl reload {unit}` (HE-W127)"
    ))
}

/// The service that the first of two processes belongs to, and the second one does not.
fn left_unit<'a>(old: &'a str, new: &str) -> Option<&'a str> {
    let of = |cgroups: &'a str| {
        let paths = cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        let mut names = paths.flat_map(|path| path.split('/'));
        names.find(|name| name.ends_with(".service") && !name.starts_with("user@"))
    };
    of(old).filter(|unit| !new.split(['/', '\n']).any(|name| name == *unit))
}

/// The variable with the socket of the service manager.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_whose_end_ends_everything_is_not_taken_over() {
        let why = keeper(7, true, true, false).unwrap();
        assert!(why.contains("Type=notify"), "{why}");
        assert_eq!(keeper(7, true, true, true), None, "it is told which process to watch");
        assert_eq!(keeper(7, true, false, false), None, "started by hand");
        let why = keeper(1, true, false, false).unwrap();
        assert!(why.contains("container"), "{why}");
        assert_eq!(keeper(1, false, false, false), None, "from one container to the next");
    }

    #[test]
    fn unit_that_is_left_is_named_and_one_that_stays_is_not() {
        let unit = "0::/system.slice/headend.service\n";
        let shell = "0::/user.slice/user-0.slice/session-1.scope\n";
        assert_eq!(left_unit(unit, shell), Some("headend.service"));
        assert_eq!(left_unit(unit, unit), None, "systemctl reload");
        assert_eq!(left_unit(shell, unit), None);
        assert_eq!(left_unit(shell, shell), None);
        assert_eq!(left_unit("0::/\n", "0::/\n"), None, "a container");
        let user = "0::/user.slice/user-1.slice/user@1.service/app.slice/headend.service\n";
        let other = "0::/user.slice/user-1.slice/user@1.service/app.slice/term.scope\n";
        assert_eq!(left_unit(user, other), Some("headend.service"));
        assert_eq!(left_unit(other, shell), None);
    }
}

//! The service manager is told that the server serves, and which process it is (sd_notify(3)).
//!
//! Without a service manager nothing happens. What becomes of a server that another program has
//! taken over from by hand, beside its unit, is told in a sentence ([`leaves_unit`]).

use std::{fs, io};

use sd_notify::NotifyState;

/// The process with this number serves. It says so itself, also where it takes over: so the unit
/// has `NotifyAccess=all`.
///
/// # Errors
/// The service manager does not hear it.
pub(super) fn serves(pid: u32) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Ready, NotifyState::MainPid(pid)])
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

#[cfg(test)]
mod tests {
    use super::*;

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

//! The user that the process becomes.
//!
//! ```text
//! "headend:media" --user database--> uid, gid, groups --setgroups, setresgid, setresuid--> ours
//! ```
//! With a group of its own it has that one and no other; without, those of the user database.
//! Invariant: after `become_it` the real, effective and saved user and group are the new ones, and
//! root cannot be had back.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User};

use super::{SandboxError, system};
use crate::config::confinement::AccountName;

/// A user of this machine.
#[derive(Debug, Clone)]
pub struct Account {
    /// As configured.
    name: String,
    uid: Uid,
    gid: Gid,
    /// Name in the user database, whose groups it gets.
    member: Option<CString>,
}

impl Account {
    /// Looks it up.
    ///
    /// # Errors
    /// There is no such user or group, or it is root.
    pub fn find(wanted: &AccountName) -> Result<Self, SandboxError> {
        let name = wanted.to_string();
        let looked = |error: nix::Error| system("the user database cannot be read", error);
        let number = id(&wanted.user);
        let known = match number {
            Some(number) => User::from_uid(Uid::from_raw(number)),
            None => User::from_name(&wanted.user),
        };
        let known = known.or_else(unless_missing).map_err(looked)?;
        let uid = match (number, &known) {
            (Some(number), _) => Uid::from_raw(number),
            (None, Some(user)) => user.uid,
            (None, None) => return Err(SandboxError::NoUser { user: wanted.user.clone() }),
        };
        if uid.is_root() {
            return Err(SandboxError::Root { user: wanted.user.clone() });
        }
        let (gid, member) = match (&wanted.group, known) {
            (Some(group), _) => (find_group(group)?, None),
            (None, Some(user)) => (user.gid, CString::new(user.name).ok()),
            (None, None) => return Err(SandboxError::GroupUnknown { user: wanted.user.clone() }),
        };
        Ok(Self { name, uid, gid, member })
    }

    /// As configured.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Numbers of user and group.
    pub(super) fn ids(&self) -> (u32, u32) {
        (self.uid.as_raw(), self.gid.as_raw())
    }

    /// Root can become it, and who is it already need not.
    pub(super) fn check_reachable(&self) -> Result<(), SandboxError> {
        let now = nix::unistd::geteuid();
        if now.is_root() || (now == self.uid && nix::unistd::getegid() == self.gid) {
            return Ok(());
        }
        Err(SandboxError::NotRoot { user: self.name.clone(), uid: now.as_raw() })
    }

    /// Gives root up, for all threads.
    pub(super) fn become_it(&self) -> Result<(), SandboxError> {
        let (uid, gid) = (self.uid, self.gid);
        match &self.member {
            Some(member) => nix::unistd::initgroups(member, gid),
            None => nix::unistd::setgroups(&[gid]),
        }
        .map_err(|error| system("the groups of server.user are refused", error))?;
        nix::unistd::setresgid(gid, gid, gid)
            .map_err(|error| system("the group of server.user is refused", error))?;
        nix::unistd::setresuid(uid, uid, uid)
            .map_err(|error| system("server.user is refused", error))?;
        let is_left = nix::unistd::getresuid()
            .is_ok_and(|now| now.real == uid && now.effective == uid && now.saved == uid);
        if !is_left || nix::unistd::setresuid(Uid::from_raw(0), uid, uid).is_ok() {
            let source = std::io::Error::other("root is still there");
            return Err(system("server.user is refused", source));
        }
        Ok(())
    }
}

fn find_group(name: &str) -> Result<Gid, SandboxError> {
    if let Some(number) = id(name) {
        return Ok(Gid::from_raw(number));
    }
    let found = Group::from_name(name).or_else(unless_missing);
    let found = found.map_err(|error| system("the group database cannot be read", error))?;
    found.map(|group| group.gid).ok_or_else(|| SandboxError::NoGroup { group: name.to_owned() })
}

/// A database that is not there, as in an empty container, knows nobody (getpwnam_r(3)).
fn unless_missing<T>(error: nix::Error) -> nix::Result<Option<T>> {
    if error == nix::Error::ENOENT { Ok(None) } else { Err(error) }
}

/// A number of a user or group; the largest one means "leave it" to the kernel.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str) -> Result<Account, String> {
        Account::find(&AccountName::parse(text).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn names_and_numbers_lead_to_the_same_account() {
        let by_name = find("nobody").unwrap();
        let (uid, gid) = by_name.ids();
        assert_eq!(find(&uid.to_string()).unwrap().ids(), (uid, gid));
        assert_eq!(find("nobody:12").unwrap().ids(), (uid, 12));
        assert_eq!(find("4711:4712").unwrap().ids(), (4_711, 4_712));
        assert!(by_name.member.is_some(), "it gets the groups of the database");
        assert!(find("nobody:12").unwrap().member.is_none(), "and that group alone otherwise");
    }

    #[test]
    fn accounts_that_cannot_be_are_refused_with_their_reason() {
        let texts = ["no-such-user", "nobody:no-such-group", "4711", "root", "0", "4294967295"];
        let sentences = texts.map(|text| find(text).unwrap_err());
        insta::assert_snapshot!(sentences.join("\n"), @r"
        server.user: there is no user `no-such-user` on this machine
        server.user: there is no group `no-such-group` on this machine
        server.user: the user database does not know 4711, nor a group for it; write 4711:GROUP
        server.user: `root` is root; name another user, or leave server.user out
        server.user: `0` is root; name another user, or leave server.user out
        server.user: there is no user `4294967295` on this machine
        ");
    }
}

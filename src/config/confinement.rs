//! What a server may do once it has its ports: as which user, with which files and system calls.
//!
//! ```text
//! server.user = "headend:media"     a name or a number, and a group; without one nothing changes
//! server.landlock = "auto"          auto | on | off
//! server.seccomp = "on"             on | log | off
//! ```
//! `sandbox` puts it in force. A base has the same as flags.

use std::fmt;

use super::value_error::ValueError;
use crate::base::mode::Mode;

/// What is given up after the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfinementConfig {
    /// User that the process becomes; `None`: it stays who it is.
    pub user: Option<AccountName>,
    /// Whether files are opened in known folders alone.
    pub landlock: Mode,
    /// What becomes of system calls that a server does not need.
    pub seccomp: SeccompMode,
}

impl Default for ConfinementConfig {
    fn default() -> Self {
        Self { user: None, landlock: Mode::Auto, seccomp: SeccompMode::On }
    }
}

impl ConfinementConfig {
    /// Nothing is given up: for a server inside of another program.
    #[must_use]
    pub fn none() -> Self {
        Self { user: None, landlock: Mode::Off, seccomp: SeccompMode::Off }
    }
}

/// A user, and perhaps a group, by name or number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountName {
    /// Name or number of the user.
    pub user: String,
    /// Name or number of the group; `None`: those of the user.
    pub group: Option<String>,
}

impl AccountName {
    /// Reads `USER` or `USER:GROUP`.
    ///
    /// # Errors
    /// A part is empty, or has a character that no name has.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let is_name = |part: &str| {
            let is_usual = |c: char| c.is_ascii_graphic() && !":/\\\"'".contains(c);
            !part.is_empty() && part.len() <= NAME_BYTES_MAX && part.chars().all(is_usual)
        };
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        if !is_name(user) || !group.is_none_or(is_name) {
            return Err(ValueError::Account { text: text.to_owned() });
        }
        Ok(Self { user: user.to_owned(), group: group.map(str::to_owned) })
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.user)?;
        self.group.as_ref().map_or(Ok(()), |group| write!(f, ":{group}"))
    }
}

/// What becomes of a system call that is not on the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeccompMode {
    /// It fails with EPERM.
    On,
    /// It is done, and the kernel logs it.
    Log,
    /// There is no list.
    Off,
}

impl SeccompMode {
    /// As the configuration spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        SECCOMP_MODES[self as usize]
    }

    /// Reads a word of [`SECCOMP_MODES`].
    ///
    /// # Errors
    /// Another word.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let modes = [Self::On, Self::Log, Self::Off];
        let found = modes.into_iter().find(|mode| mode.as_str() == text);
        let choices = SECCOMP_MODES;
        found.ok_or_else(|| ValueError::Choice { text: text.to_owned(), choices })
    }
}

/// In the order of [`SeccompMode`].
pub const SECCOMP_MODES: &[&str] = &["on", "log", "off"];
/// `LOGIN_NAME_MAX` of Linux.
const NAME_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_may_have_a_group_and_both_may_be_numbers() {
        for good in ["nobody", "headend:media", "65534:65534", "svc-a_b.c$"] {
            assert_eq!(AccountName::parse(good).unwrap().to_string(), good);
        }
        for bad in ["", ":media", "a:", "a:b:c", "a b", "../a", "a\u{e9}", "\"x\""] {
            assert!(AccountName::parse(bad).is_err(), "{bad}");
        }
        assert!(AccountName::parse(&"x".repeat(257)).is_err());
    }

    #[test]
    fn modes_read_as_they_are_shown() {
        for mode in [SeccompMode::On, SeccompMode::Log, SeccompMode::Off] {
            assert_eq!(SeccompMode::parse(mode.as_str()), Ok(mode));
        }
        assert!(SeccompMode::parse("kill").is_err());
    }
}

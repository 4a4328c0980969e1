//! Landlock: the kernel opens files for this process in known folders alone.
//!
//! ```text
//! Places --rules--> ruleset --restrict_self--> this thread, and all that it starts
//! ```
//! As much as the kernel can: `TESTED` is the newest interface that is asked for. No file can be
//! run, devices answer no ioctl, and signals go to this process alone. Ports are not restricted.

use std::fmt;

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, LandlockStatus, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
    path_beneath_rules,
};

use super::places::Places;

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Landlock {
    /// In force.
    Enforced {
        /// Version of the kernel's interface, as far as it is used.
        abi: i32,
    },
    /// It cannot be had: the reason.
    Missing(String),
    /// Nobody wants it: the reason.
    Off(&'static str),
}

impl fmt::Display for Landlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enforced { abi } => write!(f, "on (ABI {abi})"),
            Self::Missing(reason) => write!(f, "none ({reason})"),
            Self::Off(why) => write!(f, "off ({why})"),
        }
    }
}

/// Puts it in force for this thread and those that it starts.
pub(super) fn enforce(places: &Places) -> Landlock {
    restrict(places).unwrap_or_else(|error| Landlock::Missing(error.to_string()))
}

/// What this kernel has, found by restricting a thread that ends at once.
#[must_use]
pub fn available() -> Landlock {
    let asked = std::thread::spawn(|| enforce(&Places::default())).join();
    asked.unwrap_or_else(|_| Landlock::Missing("asking for it failed".to_owned()))
}

fn restrict(places: &Places) -> Result<Landlock, RulesetError> {
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let nothing_to_run = AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock;
    let devices = AccessFs::IoctlDev;
    let written = AccessFs::from_all(TESTED) & !(nothing_to_run | devices);
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(TESTED))?
        .scope(Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(places.to_read(), read))?
        .add_rules(path_beneath_rules(places.to_write(), written))?
        .restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
            Landlock::Missing("not enabled when this kernel was booted: lsm=landlock".to_owned())
        }
        (RulesetStatus::NotEnforced, _) => {
            Landlock::Missing("this kernel is built without it".to_owned())
        }
        (_, LandlockStatus::Available { effective_abi, .. }) => {
            Landlock::Enforced { abi: effective_abi.min(TESTED) as i32 }
        }
        (_, _) => Landlock::Enforced { abi: TESTED as i32 },
    })
}

/// Linux 6.15. What newer kernels can forbid is asked for when it was tried on one.
const TESTED: ABI = ABI::V7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_opens_files_of_its_places_and_no_others_and_the_next_thread_any() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = outside.path().join("secret");
        std::fs::write(&secret, "x").unwrap();
        let (folder, beyond) = (inside.path().to_owned(), secret.clone());
        let entered = std::thread::spawn(move || {
            let places = Places::default().and_delivered(&folder);
            let landlock = enforce(&places);
            let wrote = std::fs::write(folder.join("a"), "x");
            let moved = std::fs::rename(folder.join("a"), folder.join("b"));
            std::os::unix::fs::symlink(&beyond, folder.join("link")).unwrap();
            let read = std::fs::read(folder.join("link"));
            let hosts = std::fs::read("/etc/hosts").is_ok();
            let ran = std::process::Command::new("/bin/true").status();
            (landlock, wrote.is_ok(), moved.is_ok(), read, hosts, ran)
        });
        let (landlock, wrote, moved, read, hosts, ran) = entered.join().unwrap();
        assert!(wrote && moved && hosts, "{landlock}");
        assert!(std::fs::read(&secret).is_ok(), "this thread is free");
        match landlock {
            Landlock::Enforced { abi } => {
                assert!(abi >= 1);
                let denied = std::io::ErrorKind::PermissionDenied;
                assert_eq!(read.unwrap_err().kind(), denied, "through a link");
                assert_eq!(ran.unwrap_err().kind(), denied);
            }
            other => println!("skipped in part: landlock is {other} here"),
        }
    }
}

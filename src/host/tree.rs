//! `/proc` and `/sys` as texts, from a root that tests can move.
//!
//! ```text
//! read("/sys/block/sda/queue/read_ahead_kb") -> "128"
//! paths("/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor") -> cpu0, cpu1, ..
//! ```
//! Bounds: `TEXT_BYTES_MAX` of a file, `PATHS_MAX` paths of a pattern. What cannot be read is not
//! there: a container hides much, and doctor says so.

use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

/// Files of `/proc` and `/sys`.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    root: PathBuf,
}

impl Tree {
    /// This machine.
    pub(super) fn of_this_machine() -> Self {
        Self { root: PathBuf::from("/") }
    }

    #[cfg(test)]
    pub(super) fn at(root: &std::path::Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn full(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.full(path).exists()
    }

    /// A file's text without space around it; several fields are apart by one space each.
    pub(super) fn read(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::new();
        File::open(self.full(path)).ok()?.take(TEXT_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    pub(super) fn sysctl(&self, key: &str) -> Option<String> {
        self.read(&format!("/proc/sys/{}", key.replace('.', "/")))
    }

    /// Last part of what a link points to.
    pub(super) fn link(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.full(path)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// Names in a folder, in order.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.full(path)).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.take(PATHS_MAX).collect();
        names.sort_unstable_by_key(|name| (name.len(), name.clone()));
        names
    }

    /// Paths that are there and match; `*` stands for any part of one name.
    pub(super) fn paths(&self, pattern: &str) -> Vec<String> {
        let mut paths = vec![String::new()];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            let Some((before, after)) = part.split_once('*') else {
                for path in &mut paths {
                    path.push('/');
                    path.push_str(part);
                }
                continue;
            };
            let matches = |name: &String| {
                name.len() >= before.len() + after.len()
                    && name.starts_with(before)
                    && name.ends_with(after)
            };
            let deeper = paths.iter().flat_map(|path| {
                let names = self.names(path).into_iter().filter(matches);
                names.map(move |name| format!("{path}/{name}"))
            });
            paths = deeper.take(PATHS_MAX).collect();
        }
        paths.retain(|path| self.has(path));
        paths
    }
}

/// CPUs of a list as the kernel writes it: `0-3,8`. Nothing for what is no such list.
pub(super) fn cpu_list(text: &str) -> Vec<usize> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) else {
            continue;
        };
        cpus.extend((first..=last).take_while(|cpu| *cpu < CPU_NUMBERS));
    }
    cpus.sort_unstable();
    cpus.dedup();
    cpus
}

/// CPUs of a mask as the kernel writes it: `00000000,0000000f`, 32 to a group, the last ones first.
pub(super) fn cpu_mask(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for (group, digits) in text.trim().rsplit(',').enumerate() {
        let bits = u32::from_str_radix(digits, 16).ok()?;
        cpus.extend((0..32).filter(|bit| bits >> bit & 1 == 1).map(|bit| group * 32 + bit));
    }
    Some(cpus)
}

/// CPUs as a mask that the kernel reads.
pub(super) fn mask_of(cpus: &[usize]) -> String {
    let last = cpus.iter().max().map_or(0, |cpu| cpu / 32);
    let bits = |group: usize| {
        let own = cpus.iter().filter(|cpu| **cpu / 32 == group);
        own.fold(0u32, |bits, cpu| bits | 1 << (cpu % 32))
    };
    let groups: Vec<String> =
        (0..=last).rev().map(|group| format!("{:08x}", bits(group))).collect();
    groups.join(",")
}

/// Whether a name can stand in a command as it is: a card may be called almost anything.
pub(super) fn is_plain(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
    !name.is_empty() && !name.starts_with('-') && name.chars().all(is_plain)
}

/// `/proc/cpuinfo` of a machine with hundreds of CPUs is longer; its first CPU is enough.
const TEXT_BYTES_MAX: u64 = 64 << 10;
/// CPUs times their idle states on the largest machines.
const PATHS_MAX: usize = 8_192;
/// CPU numbers end below this (`NR_CPUS`).
const CPU_NUMBERS: usize = 8_192;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn star_stands_for_any_part_of_a_name() {
        let root = tempfile::tempdir().unwrap();
        for cpu in ["cpu0", "cpu10", "cpu2", "cpufreq"] {
            let folder = root.path().join("sys").join(cpu);
            fs::create_dir_all(&folder).unwrap();
            if cpu != "cpufreq" {
                fs::write(folder.join("governor"), " a\tb \n").unwrap();
            }
        }
        let tree = Tree::at(root.path());
        let paths = tree.paths("/sys/cpu*/governor");
        assert_eq!(paths, ["/sys/cpu0/governor", "/sys/cpu2/governor", "/sys/cpu10/governor"]);
        assert_eq!(tree.read("/sys/cpu0/governor").as_deref(), Some("a b"));
        assert_eq!(tree.paths("/sys/nothing/x"), Vec::<String>::new());
    }

    #[test]
    fn lists_and_masks_are_read_as_the_kernel_writes_them() {
        assert_eq!(cpu_list("0-2,8\n"), [0, 1, 2, 8]);
        assert_eq!(cpu_list("(null)"), [0usize; 0]);
        assert_eq!(cpu_mask("1,80000001"), Some(vec![0, 31, 32]));
        assert_eq!(cpu_mask("x"), None);
        assert_eq!(mask_of(&[0, 33]), "00000002,00000001");
    }

    #[test]
    fn names_with_a_shells_characters_are_not_plain() {
        assert!(is_plain("enp3s0f0np0") && is_plain("eth0.100") && is_plain("veth1@if2"));
        assert!(!is_plain("a;b") && !is_plain("$(x)") && !is_plain("-K") && !is_plain(""));
    }

    proptest! {
        #[test]
        fn masks_read_back(cpus in prop::collection::btree_set(0usize..4096, 0..20)) {
            let cpus: Vec<usize> = cpus.into_iter().collect();
            prop_assert_eq!(cpu_mask(&mask_of(&cpus)), Some(cpus));
        }

        #[test]
        fn any_text_is_a_list_or_none_without_panic(text in "[0-9,a-f-]{0,40}|\\PC{0,12}") {
            let _ = cpu_list(&text);
            let _ = cpu_mask(&text);
        }
    }
}

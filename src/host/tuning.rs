//! `tuning/host.toml` as data: what a host should be like, and why.
//!
//! The file is part of the program, so that doctor and the file cannot disagree. It is read once; a
//! test reads it too, so a mistake in it never reaches a user.

use std::sync::LazyLock;

use serde::Deserialize;

use super::Level;

/// All entries of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tuning {
    pub(super) sysctl: Vec<Entry>,
    pub(super) limit: Vec<Entry>,
    pub(super) file: Vec<Entry>,
    pub(super) nic: Vec<Entry>,
    pub(super) boot: Vec<Entry>,
    pub(super) other: Vec<Entry>,
}

/// One desired state.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) key: String,
    value: Value,
    pub(super) rule: Rule,
    #[serde(default)]
    pub(super) level: Advice,
    pub(super) when: Option<When>,
    pub(super) code: Option<String>,
    pub(super) absent: Option<String>,
    fix: Option<String>,
    pub(super) unseen: Option<String>,
    pub(super) reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Value {
    Number(i64),
    Text(String),
}

/// How a found value is held against the wanted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Rule {
    AtLeast,
    AtMost,
    Equal,
    OneOf,
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Advice {
    #[default]
    Warn,
    Tip,
}

/// On which hosts it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum When {
    Fifo,
    Numa,
}

impl Entry {
    pub(super) fn value(&self) -> String {
        match &self.value {
            Value::Number(number) => number.to_string(),
            Value::Text(text) => text.clone(),
        }
    }

    /// The value as a number; 0 where it is words.
    pub(super) fn number(&self) -> u64 {
        match &self.value {
            Value::Number(number) => u64::try_from(*number).unwrap_or_default(),
            Value::Text(_) => 0,
        }
    }

    pub(super) fn level(&self) -> Level {
        match self.level {
            Advice::Warn => Level::Warn,
            Advice::Tip => Level::Tip,
        }
    }

    /// Whether `found` will do. Fields that are numbers are compared one by one; `None` when they
    /// cannot be.
    pub(super) fn is_met_by(&self, found: &str) -> Option<bool> {
        let wanted = self.value();
        match self.rule {
            Rule::Equal => Some(found == wanted),
            Rule::OneOf => Some(wanted.split_whitespace().any(|word| word == found)),
            Rule::AtLeast | Rule::AtMost => {
                let (found, wanted) = (numbers(found)?, numbers(&wanted)?);
                let mut pairs = found.iter().zip(&wanted);
                let is_met = pairs.all(|(found, wanted)| match self.rule {
                    Rule::AtLeast => found >= wanted,
                    _ => found <= wanted,
                });
                (found.len() == wanted.len()).then_some(is_met)
            }
        }
    }

    /// The command with its blanks filled in, when the entry has one.
    pub(super) fn fix(&self, blanks: &[(&str, &str)]) -> Option<String> {
        let mut fix = self.fix.clone()?;
        for (blank, text) in blanks {
            fix = fix.replace(&format!("{{{blank}}}"), text);
        }
        Some(fix.replace("{value}", &self.value()))
    }
}

impl Tuning {
    /// Every entry, with the name of its table.
    #[cfg(test)]
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &Entry)> {
        let tables = [
            ("sysctl", &self.sysctl),
            ("limit", &self.limit),
            ("file", &self.file),
            ("nic", &self.nic),
            ("boot", &self.boot),
            ("other", &self.other),
        ];
        tables.into_iter().flat_map(|(table, entries)| entries.iter().map(move |e| (table, e)))
    }
}

/// The sysctl of this name.
pub(super) fn sysctl(key: &str) -> Option<&'static Entry> {
    TUNING.sysctl.iter().find(|entry| entry.key == key)
}

fn numbers(text: &str) -> Option<Vec<i64>> {
    let numbers = text.split_whitespace().map(|field| field.parse().ok());
    numbers.collect::<Option<Vec<i64>>>().filter(|numbers| !numbers.is_empty())
}

/// The file, read. It is part of the program; were it wrong, the tests below would not pass.
pub(super) static TUNING: LazyLock<Tuning> =
    LazyLock::new(|| toml::from_str(TEXT).unwrap_or_default());

const TEXT: &str = include_str!("../../tuning/host.toml");

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn file_is_read_and_each_entry_has_a_reason_and_a_key_of_its_own() {
        let tuning: Tuning = toml::from_str(TEXT).unwrap();
        let keys: BTreeSet<&str> = tuning.all().map(|(_, entry)| entry.key.as_str()).collect();
        assert_eq!(keys.len(), tuning.all().count());
        assert!(keys.len() > 40, "{}", keys.len());
        for (_, entry) in tuning.all() {
            assert!(entry.reason.len() > 30 && entry.reason.ends_with('.'), "{}", entry.key);
        }
    }

    #[test]
    fn blanks_of_fixes_are_ones_that_are_filled_in() {
        for (table, entry) in TUNING.all() {
            let fix = entry.fix(&[("path", "/p"), ("nic", "eth0")]).unwrap_or_default();
            assert!(!fix.contains(['{', '}']), "{table} {}: {fix}", entry.key);
        }
    }

    #[test]
    fn sysctls_that_are_wanted_exist_or_say_what_it_means_when_not() {
        for entry in &TUNING.sysctl {
            let path = format!("/proc/sys/{}", entry.key.replace('.', "/"));
            let exists = std::path::Path::new(&path).exists();
            assert!(exists || entry.absent.is_some(), "{} is no key of this kernel", entry.key);
        }
    }

    #[test]
    fn unit_grants_the_limits_that_are_wanted() {
        let unit = include_str!("../../tuning/headend.service");
        let fifo = include_str!("../../tuning/headend-fifo.conf");
        for entry in &TUNING.limit {
            let text = if entry.when == Some(When::Fifo) { fifo } else { unit };
            let line = entry.key.replace("RLIMIT_", "\nLimit") + "=" + &entry.value() + "\n";
            assert!(text.contains(&line), "{line}");
        }
        // The filter of RestrictRealtime= would refuse what LimitRTPRIO= grants.
        assert!(fifo.contains("\nRestrictRealtime=no\n"));
    }

    #[test]
    fn package_sets_the_sysctls_that_the_server_warns_of() {
        let drop_in = include_str!("../../tuning/headend.sysctl");
        let is_line = |line: &&str| !line.is_empty() && !line.starts_with('#');
        let set: Vec<String> = drop_in.lines().filter(is_line).map(str::to_owned).collect();
        let warned = TUNING.sysctl.iter().filter(|entry| entry.code.is_some());
        let mut wanted: Vec<_> =
            warned.map(|entry| format!("{} = {}", entry.key, entry.value())).collect();
        wanted.sort();
        assert_eq!(set, wanted);
    }

    #[test]
    fn several_numbers_are_compared_one_by_one() {
        let entry = sysctl("net.ipv4.udp_mem").unwrap();
        assert_eq!(entry.is_met_by("16384 24576 32768"), Some(true));
        assert_eq!(entry.is_met_by("16384 24575 32768"), Some(false));
        assert_eq!(entry.is_met_by("16384"), None, "another kernel's idea of it");
        assert_eq!(entry.is_met_by("x y z"), None);
    }
}

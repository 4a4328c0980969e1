//! The fixes as one shell script: printed, never run by this program.
//!
//! ```text
//! headend doctor --fix-script > fix.sh      read it, then: sudo sh fix.sh
//! ```
//! Sysctls go to a file of their own and last; the rest lasts until the next boot, and the script
//! may be run again at each. What a person has to decide stands in it as a comment.
//! Invariant: no text of the machine stands in a command unless its characters are plain; comments
//! are one line each.

use std::io::{self, Write};

use super::{Check, printable, wrap};
use crate::host::Remedy;

pub(super) fn write(checks: &[Check], out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{HEAD}")?;
    let lacking = || checks.iter().filter(|check| check.fix.is_some());
    for check in lacking() {
        if let Some(Remedy::Sysctl { key, value }) = &check.remedy {
            explain(check, out)?;
            writeln!(out, "lasting {key} {}", quoted(value))?;
        }
    }
    for check in lacking() {
        if let Some(Remedy::Command(command)) = &check.remedy {
            explain(check, out)?;
            writeln!(out, "{{ {command}; }} >/dev/null || failed=1")?;
        }
    }
    for check in lacking().filter(|check| check.remedy.is_none()) {
        explain(check, out)?;
        writeln!(out, "# by hand: {}", printable(check.fix.as_deref().unwrap_or_default()))?;
    }
    writeln!(out, "\nexit \"$failed\"")
}

/// What it is about, as it is, and why it should be otherwise.
fn explain(check: &Check, out: &mut impl Write) -> io::Result<()> {
    let cause = check.cause.as_deref().unwrap_or_default();
    writeln!(out, "\n# {}: {}", printable(&check.name), printable(&check.found))?;
    wrap(cause, "# ", "# ", out)
}

/// One word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

const HEAD: &str = r#"#!/bin/sh
# What `headend doctor` found to improve on this machine. Read it, then run it as root.
# Sysctls last: they are kept in /etc/sysctl.d/90-headend.conf. Everything else lasts until the next
# boot. Comments `by hand` are for you.
set -u
[ "$(id -u)" = 0 ] || { echo "run this as root: sudo sh $0" >&2; exit 1; }
file=/etc/sysctl.d/90-headend.conf
failed=0
# Root needs no sudo, and may not have it.
sudo() { "$@"; }
# Sets a sysctl now and at each boot.
lasting() {
    touch "$file" && sed -i "/^$1 *=/d" "$file" && echo "$1 = $2" >>"$file" || failed=1
    sysctl -q -w "$1=$2" || failed=1
}"#;

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;
    use std::process::{Command, Stdio};

    fn script(checks: &[Check]) -> String {
        let mut out = Vec::new();
        write(checks, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn sysctls_last_commands_run_and_the_rest_is_a_comment() {
        let bad = |name: &str, fix: &str| Check::bad(Level::Warn, name, "odd", "It is\nodd.", fix);
        let checks = [
            Check::ok("fine", "yes"),
            Check::skip("hidden", "nobody knows"),
            bad("buffers", "").by_sysctl("net.core.wmem_max", "1 2"),
            bad("eth0 ring", "sudo ethtool -G eth0 tx 1024").by_command(),
            bad("port", "kill 42"),
        ];
        let text = script(&checks);
        insta::assert_snapshot!(text.strip_prefix(HEAD).unwrap().trim(), @r#"
        # buffers: odd
        # It is?odd.
        lasting net.core.wmem_max '1 2'

        # eth0 ring: odd
        # It is?odd.
        { sudo ethtool -G eth0 tx 1024; } >/dev/null || failed=1

        # port: odd
        # It is?odd.
        # by hand: kill 42

        exit "$failed"
        "#);
        // Read by a shell, not run.
        let mut shell = Command::new("sh").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
        shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(shell.wait().unwrap().success(), "{text}");
    }

    #[test]
    fn quotes_cannot_end_a_word() {
        assert_eq!(quoted("a'b"), r"'a'\''b'");
    }
}

//! This machine: what it is like, and what a server lacks on it.
//!
//! ```text
//! kernel --tree, machine, nic, ring, ..--> Facts --judge--> Check {ok | skip | tip | warn | fail}
//!                                                    ^
//!                                             tuning/host.toml
//! ```
//! What a host should be like is data; a check that is not `ok` has its reason from there. Reading
//! and judging are apart: `judge` is plain code, tested on machines that are described. Nothing is
//! changed on the machine, and nothing is printed: `cli::doctor` shows what is found.
//! Bounds: those of `tree`, `holder` and `qdisc` on what is read.

use crate::config::Config;

mod certificate;
mod check;
mod ethtool;
mod facts;
pub mod gso;
pub mod holder;
mod judge;
mod machine;
mod nic;
mod ports;
mod qdisc;
pub mod ring;
mod tree;
mod tuning;

pub use check::{Check, Level, Remedy};
pub use facts::kernel_release;

use facts::Facts;
use tree::Tree;

/// Everything that is looked at, for a server with this configuration. `try_fifo` says whether a
/// thread of this process may have a real-time priority, `has_kernel_tls` whether the kernel has
/// TLS.
#[must_use]
pub fn examine<E: std::fmt::Display>(
    config: &Config,
    try_fifo: impl FnOnce(u8) -> Result<(), E>,
    has_kernel_tls: impl FnOnce() -> bool,
) -> Vec<Check> {
    let mut checks = judge::judge(&Facts::gather(config, try_fifo));
    checks.extend(certificate::check(config, has_kernel_tls));
    checks
}

/// Warnings about the machine for the start-up text: sentences with their fix.
#[must_use]
pub fn startup_warnings() -> Vec<String> {
    let tree = Tree::of_this_machine();
    let buffers = ["net.core.rmem_max", "net.core.wmem_max"];
    let entries = buffers.into_iter().filter_map(tuning::sysctl);
    let warning = |entry: &'static tuning::Entry| {
        let check = judge::sysctl(entry, &tree.sysctl(&entry.key)?);
        let (fix, code) = (check.fix?, entry.code.as_deref().unwrap_or_default());
        Some(format!("{} {} is small for UDP ({code}); run: {fix}", check.name, check.found))
    };
    entries.filter_map(warning).collect()
}

//! A simulation of distribution: a base and up to a thousand nodes on the product's own plain code,
//! in virtual time, over a virtual network, on virtual disks.
//!
//! ```text
//! seed --> Setup: nodes, jobs, faults --> World --steps in order of time--> Outcome, trace
//!                                          |  base: dist::book        node: dist::agent, fetch,
//!          clients --requests, bytes------>|        rows, commits           journal, units
//!          faults  --crash, cut, spoil ..->|        contents               media folder
//!                                          '--checks: each step, each second, at the end
//! ```
//! What decides is the product: [`headend::dist`]. What carries out is here, and does what the
//! edges do (`agent`, `store`, `http`, `ledger`): `contact` and `node` for the agent, `streams` for
//! peers, `hands` for orders that go from node to node, `shares` for what they may send, `base` for
//! the clerk, `upload` and `disk` for the store, `sink` for notifications and their receivers.
//!
//! Invariant: one seed gives one run, to the last step. A run that breaks a rule says how to run it
//! again. By hand: `scripts/simulate.sh SEEDS [FIRST]`; one seed is shown step by step.
//!
//! `scenarios` has the failures that the product answers, one test each; `waits` those that a base
//! finds by asking; `alone` those in which nodes have to help each other. Not there, because the
//! product does not have it yet, or not in plain code: bytes that rot on a disk, and the scrub that
//! finds them; the lease itself, by which a base takes over.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a run that cannot go on has broken a rule, and says which"
)]

mod alone;
mod base;
mod checks;
mod client;
mod contact;
mod dice;
mod disk;
mod due;
mod faults;
mod folder;
mod hands;
mod ledger;
mod network;
mod node;
mod policies;
mod runs;
mod scenarios;
mod seeds;
mod setup;
mod shares;
mod sink;
mod streaming;
mod streams;
mod stripes;
mod upload;
mod waits;
mod world;

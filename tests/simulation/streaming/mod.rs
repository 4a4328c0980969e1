//! A simulation of a whole streaming node: shards, workers and clients in virtual time.
//!
//! ```text
//! seed --> Setup: clients, acts, weather --> Node --events in order of time--> Outcome, trace
//!                                             |  shard: the product's turn, on `SimKernel`
//!          clients --bytes, datagrams-------->|  worker: the product's work, when it is let
//!                                             '--checks: what leaves, each turn, at the end
//! ```
//! The seam is `headend::shard::ring::kernel::Kernel`: everything below it is here, everything
//! above is the product, its ring included. Operations are those of io_uring's interface (`abi`).
//!
//! Invariant: one seed gives one run, to the last event. A run that breaks a rule says how to run
//! it again, and its last events. By hand: `scripts/simulate.sh node SEEDS [FIRST]`.
//!
//! Not there: sources that are pulled or listen, multicast, paths that titles feed, logins, TLS.

mod abi;
mod checks;
mod client;
mod edges;
mod kernel;
mod network;
mod node;
mod scenarios;
mod seeds;
mod sending;
mod setup;
mod takeovers;
mod wire;
mod workers;

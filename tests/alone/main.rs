//! Tests that others would disturb: crowds that lose nothing, and allocations that are counted.
//!
//! ```text
//! crowd      hundreds of readers in programs of their own: side by side with other crowds
//! *_no_alloc one at a time, and no crowd beside it: the allocator counts for the whole process
//! ```
//! Each test asks for its part of the machine first: [`shared`] or [`to_itself`].

#[path = "../support/mod.rs"]
mod support;

mod allocations;
mod crowd;
mod exchange_no_alloc;
mod live_no_alloc;
mod ring_no_alloc;
mod shard_no_alloc;

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::new(());

/// Waits until no test has the machine to itself; other shared ones may run.
fn shared() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until no other test runs; none does while the guard lives.
fn to_itself() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

//! The allocator of this program: counts what each thread asks for, and what shards ask for.
//!
//! A server that runs inside a test has its shards counted, and neither its other threads nor the
//! test's. Counts of shards are those of all servers in the process.
#![allow(unsafe_code, reason = "an allocator hands on to another one")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static OF_THREAD: Cell<u64> = const { Cell::new(0) };
}

static OF_SHARDS: AtomicU64 = AtomicU64::new(0);

/// Allocations of shards so far.
pub(crate) fn of_shards() -> u64 {
    OF_SHARDS.load(Ordering::Relaxed)
}

/// Allocations of the calling thread so far.
pub(crate) fn of_this_thread() -> u64 {
    OF_THREAD.get()
}

/// Counts an allocation of the calling thread, for the shards too if it is one.
fn count() {
    OF_THREAD.set(OF_THREAD.get() + 1);
    let mut name = [0_u8; 16];
    // SAFETY: PR_GET_NAME writes 16 bytes to where it is told.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    if name.starts_with(b"shard-") {
        OF_SHARDS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: everything is handed on to the system's allocator with the arguments as they came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the ones that `System` asks for.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, bytes) }
    }
}

//! The pieces by themselves: `cargo bench`, or `cargo bench -- packetize` for those named so.
//!
//! Each bench measures plain code on inputs like those of a busy server; nothing here opens a
//! socket or a ring. They show the shape of a cost and what it allocates, not whether the server is
//! fast: for that there is `loadgen/`.

mod film;
mod media;
mod paced;
mod wire;

/// Counts allocations beside the times.
#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

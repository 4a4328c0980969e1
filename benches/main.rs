//! The pieces by themselves: `cargo bench --bench pieces`, with a part of a name for some of them.
//!
//! ```text
//! open_film, find_sync      media.rs      index of an MP4 file
//! packetize_*               packetize.rs  samples to packets
//! pacer_*                   pacer.rs      a frame of each stream, without the system call
//! wheel_*, tuple_*          paced.rs      timing wheel; whose datagram is it
//! read_*, write_*, describe wire.rs       RTSP, SDP, RTP, RTCP
//! inbox_*                   inbox.rs      from thread to thread, with wakes
//! ```
//! Each measures the server's own code on inputs like those of a busy server; nothing here opens a
//! socket or a ring. They show the shape of a cost and what it allocates, not whether the server is
//! fast: for that there are `benches/floor` and `loadgen/`.

mod film;
mod inbox;
mod media;
mod paced;
mod pacer;
mod packetize;
mod title;
mod wire;

/// Counts allocations beside the times.
#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

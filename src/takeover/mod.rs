//! What one process tells another one that takes over from it: records of a fixed form, as JSON.
//!
//! ```text
//!  old process                                      new process
//!              <------------- Hello: versions it reads
//!  Offer: listeners, pairs, titles, right ------>   opens titles, makes shards
//!              <------------- Freeze
//!  Shard, Shard, .. (v1), Frozen --------------->   takes the sessions in; nothing is sent yet
//!                                                   takes the right (an eventfd)
//!  leaves      <------------- Taken                 goes on
//!  ends        <------------- Serves                everybody knows that it serves
//! ```
//! Descriptors go beside a message; records name them by their place in its list ([`v1::Fd`]). No
//! inner type of a room is in a record: rooms convert, so what they are may change.
//!
//! Invariants: a record that was ever written is read for ever; fields that are not known are
//! passed over, and those that were added later have a default; a version that is not known is
//! refused by a sentence before anything has moved. Bounds: `MESSAGE_BYTES_MAX`, `DESCRIPTORS_MAX`.

mod check;
pub mod exact;
pub mod frame;
pub mod live;
pub mod message;
#[cfg(test)]
mod tests;
pub mod v1;

pub use message::{Hello, Offer, Offered, ToNew, ToOld, WITHOUT_MAX};

/// Versions that this program reads and writes, the newest first.
pub const VERSIONS: &[u32] = &[1];

/// Bytes of a message at most: the sessions of one shard, with what their clients have not read.
pub const MESSAGE_BYTES_MAX: u32 = 1 << 30;

/// Descriptors of a message at most: as many as a process may have.
pub const DESCRIPTORS_MAX: u32 = 1 << 20;

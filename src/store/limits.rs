//! Sizes of the store, and where they come from.

/// Memory of a growing content: units that its children have read long before they leave the ring.
pub const RING_BYTES_MAX: usize = 8 << 20;
/// The same when so many contents grow that [`RINGS_BYTES_MAX`] is not enough for all.
pub const RING_BYTES_MIN: usize = 512 << 10;
/// Memory of all growing contents together.
pub const RINGS_BYTES_MAX: usize = 256 << 20;
/// Memory for whole contents that are still being asked for.
pub const CACHE_BYTES_MAX: usize = 64 << 20;
/// Verified bytes that are not written yet: half a ring, so that a slow disk holds up the source
/// and never the children.
pub const UNWRITTEN_BYTES_MAX: u64 = 4 << 20;
/// Bytes that are written in one go.
pub const WRITE_BYTES: u64 = 512 << 10;
/// Units that are written in one go at most.
pub const WRITE_UNITS_MAX: usize = 16;
/// Bytes between two syncs.
pub const SYNC_BYTES: u64 = 8 << 20;
/// Time between two syncs, milliseconds.
pub const SYNC_MS: u64 = 1_000;
/// Bytes that are hashed again after a restart.
pub const REHASH_BYTES_MAX: u64 = 16 << 20;
/// Bytes behind the newest that stay in the page cache.
pub const PAGES_BYTES_KEPT: u64 = 32 << 20;
/// Time for which a unit waits for others to be signed with, milliseconds. It is lost once, at the
/// base. At 25 MB/s ten units share a signature then, whose check costs a node as much as the
/// hashes of a unit.
pub const SIGN_WAIT_MS: u64 = 25;
/// Units that are read from the disk in one go.
pub const READ_UNITS_MAX: u64 = 4;
/// Contents that one commit of the file system takes.
pub const COMMIT_JOBS_MAX: usize = 128;
/// Removed contents whose ids are kept.
pub const REMOVED_KEPT: usize = 1_024;
/// Frames of hashes above which those of a whole content are left on the disk; fewer in tests,
/// whose contents are small.
pub const LOG_FRAMES_KEPT: usize = if cfg!(test) { 4 } else { 64 };

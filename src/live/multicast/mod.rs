//! Multicast groups of paths (RFC 2326 s12.39): their members and their senders.
//!
//! ```text
//!  member  sessions that listen, on every shard --JoinGroup--> owner of the path
//!  sender  the owner's shard: a reader of the path whose client is the group
//! ```
//! Bound: one group for each path; the sessions of a shard. DESIGN section 5.9.

pub mod member;
mod sender;

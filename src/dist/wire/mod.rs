//! What distribution says over HTTP, as JSON: each shape once, for both ends.
//!
//! [`job`], [`hook`], [`report`]: clients and the base. [`agent`]: the base and its nodes.
//! [`peer`]: a node and its source. [`relay`]: a node and the next one. Errors are problems
//! (RFC 9457) with a `reason` that does not change. Invariant: a field that an end does not know
//! is passed over; a new field has a default.

pub mod agent;
pub mod hook;
pub mod job;
pub mod peer;
pub mod relay;
pub mod report;
pub mod secret;

//! Live paths with raw clients on both sides, and as an operator sees them.

mod abuse;
mod failover;
mod operators;
mod packets;

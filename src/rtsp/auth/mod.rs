//! Basic (RFC 7617) and Digest (RFC 2069, 2617, 7616) authentication, on both sides.
//!
//! ```text
//! client  401 -> ClientAuth::handle_challenges -> authorize -> Authorization
//! server  Guard::challenges -> 401;  Authorization -> Guard::check -> Granted | Refused
//! ```
//! The client and the grammar of both headers are the `http-auth` crate's; it has no server,
//! so that is ours.
//! Invariant: secrets are compared in constant time and never shown by `Debug`.

mod client;
mod digest;
mod guard;

pub use client::{ClientAuth, ClientAuthError};
pub use digest::DigestAlgorithm;
pub use guard::{Guard, GuardConfig, Refused};

//! Who may do what.
//!
//! ```text
//! ANNOUNCE, address of the client --> publish (networks of a path) --> yes | no: 403
//! Authorization --> guard (Basic, Digest) --> name of the user | Refused: 401, challenges
//! ```
//! `consumers::rtsp_connection` asks once, before a request is executed; sessions do not ask again.
//! Clients are told apart by their address today; no server of ours asks for names yet, so `guard`
//! is used by the cameras of tests alone.
//!
//! How many connections and sessions an address may have is asked elsewhere: that answer counts
//! what there is (`base::addresses`, `session::admission`), it does not look at rules.
//! Invariant: secrets are compared in constant time, and no refusal tells which part was wrong.

mod digest;
mod guard;
pub mod publish;

pub use digest::DigestAlgorithm;
pub use guard::{Guard, GuardConfig, Refused};

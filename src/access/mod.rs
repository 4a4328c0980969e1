//! Who may do what.
//!
//! ```text
//! request --> path's list, address of the client --> rules: Open | Closed: 403 | Login
//!   Closed, Login, and a job has brought the path --> its capability, for reading: `question`
//!   Login --> Authorization, token in the query  --> shown  (none: 401, challenges of `guard`)
//!         --> Digest: checked in place, by `guard` and the hashes of the user
//!         --> the rest: `question` to a judge on another thread --> answer
//! ```
//! `consumers::rtsp_connection` asks once, before a request is executed; sessions do not ask again,
//! but those of viewers by WebRTC, who send no further requests.
//! | file | what is there |
//! |---|---|
//! | `rules` | what the address of a client says, by the list of a path |
//! | `publish` | whether a path can be published to at all |
//! | `steering` | which requests need the right to control |
//! | `shown` | credentials of a request, read |
//! | `guard`, `digest` | challenges, and answers to those of Digest |
//! | `question` | what is judged elsewhere, and the answers |
//! | `permit` | leave that is looked at again while it is used |
//! | `password` | hashes of passwords |
//! | `jwt` | tokens and the keys that have signed them |
//! | `webhook` | what a webhook is asked, and what its answers mean |
//! | `throttle` | how long the next login of an address waits |
//!
//! How many connections and sessions an address may have is asked elsewhere: that answer counts
//! what there is (`base::addresses`, `session::admission`), it does not look at rules.
//! Invariant: secrets are compared in constant time, and no refusal tells which part was wrong.

mod digest;
mod guard;
pub mod jwt;
pub mod password;
pub mod permit;
pub mod publish;
pub mod question;
pub mod rules;
pub mod shown;
pub mod steering;
pub mod throttle;
pub mod webhook;

pub use digest::DigestAlgorithm;
pub use guard::{Guard, GuardConfig, Refused};

//! Webhooks: a client that has left is called back.
//!
//! ```text
//! event of a job --topics--> Call --message--> headers and body --POST--> the client's receiver
//! ```
//! - [`secret`]: what a body is signed by. It is never shown.
//! - [`target`]: where a body may go: which URLs a base takes, to which addresses it connects.
//! - [`message`]: the body (CloudEvents 1.0, structured mode), and its signature (Standard
//!   Webhooks 1.0.0).
//!
//! Who keeps what is to be sent is [`crate::dist::book`]; who sends it is at the edge.
//! Invariant: an event has one id and one body for a receiver, however often it is sent.

pub mod message;
pub mod secret;
pub mod target;

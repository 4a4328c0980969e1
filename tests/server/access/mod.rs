//! Who may do what: logins, rules, sessions of others, tokens, webhooks, operators.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

mod hls;
mod login;
mod operators;
mod ownership;
mod rules;
mod tokens;
mod webhook;

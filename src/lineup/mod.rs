//! Line-ups: sessions that tune among live channels and titles.
//!
//! - [`tune`]: changes what a session plays, under one wire identity
//!
//! A session of a line-up is a reader of a live path or a player of a title, one after the other.
//! This room knows both roles; they do not know each other.

pub mod event;
pub mod remote;
pub mod tune;

#[cfg(test)]
mod tests;

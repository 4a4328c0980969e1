//! Line-ups: sessions that tune among live channels and titles.
//!
//! ```text
//!  RTSP: SET_PARAMETER, PLAY, PAUSE --.
//!  API: POST /v1/sessions/{id}/events-+--> Lineups --> remote: events in one order
//!                                           |   ^        |
//!             answers, when consumed <------'   |        +--> what plays: a reader or a player
//!                                               |        `--> tune: another feed for the session
//!                                               `---------------- outcomes
//! ```
//! A session of a line-up is in truth a reader of a channel's path or a player of a title, and
//! stays one session of the directory when that changes. This room keeps beside it what the
//! viewer's remote control needs, by the session's id, for as long as the session lasts.
//!
//! | room | what is there |
//! |---|---|
//! | `event` | events and outcomes, as clients and operators spell them |
//! | `remote` | one viewer's remote control: the order of events, and what they do |
//! | `parameters` | events in the bodies of RTSP requests |
//! | `requests` | who waits for outcomes; repeats |
//! | `first` | the channel that a session begins with |
//! | `room` | what plays in a session, and commands for it |
//! | `service` | the sessions of line-ups on one shard |
//! | `tune` | changes of a session's feed |
//!
//! Invariants: those of `remote` and `requests`. Bound: the sessions of the shard.

pub mod event;
pub(crate) mod first;
pub(crate) mod parameters;
pub mod remote;
pub mod requests;
pub(crate) mod room;
pub mod service;
#[cfg(test)]
mod service_tests;
#[cfg(test)]
mod tests;
pub mod tune;

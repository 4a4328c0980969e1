//! `headend-loadgen`: many sessions against any RTSP server, and what arrived.
//!
//! ```text
//! cli -> run::Run + slots, datagrams --- net: epoll, TCP, UDP, /proc   (edges)
//!            | bytes, datagrams, now        ^ bytes to send
//!            v                              |
//!        session::Session = client::RtspClient + [ stream::Stream ]   (sans-IO)
//!            | figures
//!            v
//!        stats::Stats, history -> report::Report -> report_text, JSON, html
//! ```
//! One thread reads for all sessions; a film that is published has a thread of its own (`publish`,
//! `net::publisher`). Nothing from `session` down owns a descriptor or reads a clock.

pub mod auth;
pub mod breaks;
pub mod bursts;
pub mod cli;
pub mod client;
pub mod datagrams;
pub mod description;
pub mod epoch;
pub mod failure;
pub mod headers;
pub mod history;
pub mod html;
pub mod interval;
pub mod jitter;
pub mod lateness;
pub mod mix;
pub mod net;
pub mod plot;
pub mod progress;
pub mod publish;
pub mod report;
pub mod report_text;
pub mod request;
pub mod rtcp;
pub mod run;
pub mod script;
pub mod sequence;
pub mod session;
pub mod slots;
pub mod stats;
pub mod stream;
pub mod targets;
pub mod time;
pub mod timeline;
pub mod wire;

//! The server from outside, over loopback: raw clients that say right and wrong, the operator's
//! side, and files and hosts that fail.
//!
//! Tests share this process and its scratch folder; each starts a server of its own.

#[path = "../support/mod.rs"]
mod support;

mod access;
mod amplification;
mod appliance;
mod bad_input;
mod base;
mod cli;
mod config_paths;
mod conformance;
mod dashboard;
mod distribution;
mod drain;
mod faults;
mod feedback;
mod hls;
mod limits;
mod lineup;
mod link_local;
mod live;
mod live_jobs;
mod moves;
mod node;
mod package;
mod page_questions;
mod pages;
mod player_page;
mod policies;
mod priority;
mod privileges;
mod quality;
mod repair;
mod retention;
mod rtsps;
mod shards;
mod srtp;
mod standby;
mod strangers;
mod takeover;
mod takeover_live;
mod tls;
mod top;
mod trick_modes;
mod tunnel;
mod webhooks;
mod whep;

//! headend: a streaming appliance for Linux.

#![cfg_attr(not(test), deny(unsafe_code))]

pub mod appliance;
pub mod base;
pub mod cli;
pub mod config;
pub mod consumers;
pub mod control;
pub mod library;
pub mod mapped;
pub mod media;
pub mod metrics;
pub mod poll;
pub mod rtcp;
pub mod rtp;
pub mod rtsp;
pub mod sdp;
pub mod session;
pub mod shard;
pub mod worker;

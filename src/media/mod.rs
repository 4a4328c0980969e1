//! Media formats: from the bytes of a container to packets that can be sent.
//!
//! ```text
//! file bytes --container--> Asset (tracks, sample index) --packetize--> PacketWindow
//! ```
//! All of it is plain code: bytes come in, reads are asked for, nothing here opens a file.

pub(crate) mod aac_config;
pub mod asset;
pub mod codec;
pub mod container;
pub mod exchange;
pub mod fmp4;
pub mod fmtp;
pub mod hint;
pub mod image;
pub mod index;
pub mod packetize;
pub mod pages;
pub mod payload_window;
pub mod pcm;
pub mod picture;
pub mod window;

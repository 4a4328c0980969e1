//! RTP (RFC 3550 s5): packets as they are written, read, counted and repaired.
//!
//! ```text
//! ours     write_header -> 12 bytes in front of each payload
//! theirs   RtpView::parse -> fields, payload
//!             `-> SequenceTracker, JitterMeter           what is lost, how uneven it comes
//!          header_mut -> SeqNo, RtpTs, Ssrc replaced     readers that crossed a switch
//! frames   depacketize                              access units as MP4 stores them
//! long     cut::Pieces                              what fits a datagram
//! repair   RtxHeader                                     RFC 4588
//! secret   srtp                                          RFC 3711, their keys
//! shared   WireBase                   numbers that all players of a title begin with
//! ```
//! Written by hand, as it is done for every packet in a caller's memory; checked against the
//! `rtp-types` crate in tests.
//! Invariant: no bytes of a peer panic, and nothing is allocated for a packet.

mod aac;
pub mod cut;
pub mod depacketize;
pub mod detect;
mod header;
mod jitter;

mod rtx;
mod sequence;
pub mod srtp;
mod view;
mod wire_base;

pub use aac::{AAC_ENCODING, aac_ticks};
pub use header::{
    HEADER_BYTES, header_mut, set_payload_type, set_seq, set_ssrc, set_ts, write_header,
};
pub use jitter::JitterMeter;
pub use rtx::{
    RTX_HEADER_BYTES, RtxPieces, RtxRefusal, RtxStream, rtx_payload_type, rtx_pieces,
    write_rtx_header,
};
pub use sequence::{Arrival, ExtSeq, Reception, SequenceTracker};
pub use view::{Extension, RtpError, RtpView, is_rtcp, payload_start};
pub use wire_base::WireBase;

//! Fragmented MP4 as browsers and HLS players take it (ISO 14496-12 s8.8, RFC 8216 s3.3).
//!
//! ```text
//! Codec --entry--> Decoder: sample entry, CODECS text --init_segment--> ftyp moov(mvex)
//! samples --fragment_head--> moof, head of mdat      the caller puts the samples' bytes behind it
//! ```
//! Times are those of the caller; a fragment says where it begins (`tfdt`), so every fragment can
//! be decoded behind the initialization alone.
//! Invariant: the head states exactly the bytes that follow it, in the order of its tracks.
//! Bound: `FRAGMENT_BYTES_MAX` of one fragment.

mod entry;
mod fragment;
mod init;

pub use entry::{Decoder, NotShown, name_of};
pub use fragment::{FRAGMENT_BYTES_MAX, FragmentError, FragmentSample, TrackRun, fragment_head};
pub use init::{InitTrack, init_segment};

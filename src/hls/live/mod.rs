//! A live path as parts and segments: built once, whatever the number of viewers.
//!
//! ```text
//! batches --track--> access units --timeline--> decode and presentation times
//!     --segmenter--> parts (moof, mdat) --window--> Snapshot: what can be had now
//! ```
//! | file | what is there |
//! |---|---|
//! | `track` | one RTP track: its codec, its access units |
//! | `timeline` | RTP times of all tracks on one timeline, decode times of reordered pictures |
//! | `segmenter` | access units into parts, parts into segments |
//! | `window` | the segments that are kept, and the playlists of them |
//! | `muxer` | all of it for one path |
//!
//! Plain code: batches come in, snapshots go out. Bounds: those of `window`, of one part, and of
//! `rtp::depacketize` for what is not yet complete.

mod muxer;
mod segmenter;
#[cfg(test)]
mod tests;
mod timeline;
mod track;
mod window;

pub use muxer::{Counts, Muxer};
pub use track::LiveError;
pub use window::{Snapshot, StoredFragment, StoredPart, StoredSegment};

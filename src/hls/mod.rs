//! HTTP Live Streaming (RFC 8216; its low-latency parts from draft-pantos-hls-rfc8216bis), without
//! HTTP: what is in playlists and segments.
//!
//! ```text
//! title  Asset --title--> cuts at sync samples, one initialization, segments as ranges of the file
//! live   batches --live--> access units -> parts -> segments, in a window that moves
//!            both --playlist--> text          names --resource--> what a request asks for
//! ```
//! A path has a rendition `main`: its video, with the sound where there is one only. Of several
//! sounds each is a rendition of its own (RFC 8216 s4.3.4.1), cut at the times of the video.
//! Segments are fragmented MP4 (`media::fmp4`).
//!
//! | file | what is there |
//! |---|---|
//! | `resource` | names of playlists, segments and parts in URLs |
//! | `playlist` | playlists as text |
//! | `sound` | a sound to choose: language and name |
//! | `title` | a title cut into segments, from its sample index |
//! | `live` | a live path as parts and segments |
//!
//! Plain code: no descriptor, clock or thread. Invariant: what is listed can be had, and a name is
//! never used for other bytes: names have the identity of the file, or of the run of a live path.

pub mod live;
pub mod playlist;
pub mod resource;
pub mod sound;
pub mod title;

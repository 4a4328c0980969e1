//! Live paths from publisher to reader, with the programs that people have on both sides.

mod clients;
mod fallback;
mod ffmpeg;
mod lineup;
mod playlist;
mod slate;

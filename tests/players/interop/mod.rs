//! Every title of the matrix, played whole by each player.

mod av1;
mod ffmpeg;
mod gstreamer;

//! What the workers ask of the media formats: a seam, so that the pool is tested without media.
//!
//! Both jobs are plain code that asks for ranges of the file and is given their bytes; the errors
//! are sentences by the time they get here, for a log line or a status text.

use crate::media::asset::{Asset, FileRange};
use crate::media::window::{PacketWindow, WindowKey};

/// Makes jobs.
pub(super) trait Formats: Send + Sync {
    /// A job that turns a file of `file_bytes` into an asset.
    fn open_job(&self, file_bytes: u64) -> Box<dyn OpenJob>;

    /// A job that builds one window of `asset`.
    fn window_job<'a>(
        &self,
        asset: &'a Asset,
        key: WindowKey,
    ) -> Result<Box<dyn WindowJob + 'a>, String>;
}

/// Parses a container.
pub(super) trait OpenJob {
    /// What to do next.
    fn step(&mut self) -> Result<OpenStep, String>;

    /// The bytes of the range that the last step asked for.
    fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), String>;
}

/// What an [`OpenJob`] wants.
#[derive(Debug)]
pub(super) enum OpenStep {
    /// Exactly this range of the file.
    Read { offset: u64, bytes: usize },
    /// Nothing more.
    Done(Box<Asset>),
}

/// Builds a window.
pub(super) trait WindowJob {
    /// The range to read next; `None` when the window can be finished.
    fn wanted(&self) -> Option<FileRange>;

    /// The bytes of the wanted range.
    fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), String>;

    /// The window.
    fn finish(self: Box<Self>) -> PacketWindow;
}

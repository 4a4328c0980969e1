//! The media formats as the workers use them: adapters, nothing else.

use super::formats::{Formats, OpenJob, OpenStep, WindowJob};
use crate::media::asset::{Asset, FileRange};
use crate::media::container::{Opener, Step};
use crate::media::packetize::job;
use crate::media::window::{PacketWindow, WindowKey};

/// The formats of `crate::media`.
#[derive(Debug)]
pub(super) struct Media;

impl Formats for Media {
    fn open_job(&self, file_bytes: u64) -> Box<dyn OpenJob> {
        Box::new(Opener::new(file_bytes))
    }

    fn window_job<'a>(
        &self,
        asset: &'a Asset,
        key: WindowKey,
    ) -> Result<Box<dyn WindowJob + 'a>, String> {
        match job::WindowJob::new(asset, key) {
            Ok(job) => Ok(Box::new(job)),
            Err(err) => Err(err.to_string()),
        }
    }
}

impl OpenJob for Opener {
    fn step(&mut self) -> Result<OpenStep, String> {
        match Self::step(self) {
            Ok(Step::Read { offset, bytes }) => Ok(OpenStep::Read { offset, bytes }),
            Ok(Step::Done(asset)) => playable(asset).map(OpenStep::Done),
            Err(err) => Err(err.to_string()),
        }
    }

    fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), String> {
        Self::handle_bytes(self, bytes).map_err(|err| err.to_string())
    }
}

impl WindowJob for job::WindowJob<'_> {
    fn wanted(&self) -> Option<FileRange> {
        Self::wanted(self)
    }

    fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), String> {
        Self::handle_bytes(self, bytes).map_err(|err| err.to_string())
    }

    fn finish(self: Box<Self>) -> PacketWindow {
        Self::finish(*self)
    }
}

/// A file without a track that can be played is none to be described.
fn playable(asset: Box<Asset>) -> Result<Box<Asset>, String> {
    if !asset.tracks.is_empty() {
        return Ok(asset);
    }
    let reasons: Vec<&str> = asset.left_out.iter().map(|track| track.reason.as_str()).collect();
    let reasons = if reasons.is_empty() { "it has no track".into() } else { reasons.join("; ") };
    Err(format!("no track can be played: {reasons}"))
}

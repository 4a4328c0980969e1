//! Neighbouring audio samples that will share a packet.
//!
//! Invariant: the samples follow each other in time without a gap and have the same duration (give
//! or take a tick: timescales of milliseconds round), so that a receiver may count the times of all
//! but the first.
//! Bound: [`BUNDLE_SAMPLES_MAX`] samples and [`BUNDLE_MS_MAX`] milliseconds, so that one lost
//! packet is a short gap and the first sample is not held back for long.

use super::Input;
use super::fragment::Unit;
use crate::media::window::{Frame, WindowBuilder};

/// Samples in one packet at most.
pub(super) const BUNDLE_SAMPLES_MAX: usize = 4;

/// Play time in one packet at most.
const BUNDLE_MS_MAX: i64 = 100;

/// Audio samples that share a packet.
#[derive(Debug)]
pub(super) struct Bundle {
    timescale: u32,
    bytes_max: usize,
    sample_header_bytes: usize,
    held: Vec<Held>,
    first: Option<Frame>,
    ticks: i64,
    next_dts: i64,
    duration: u32,
    bytes: usize,
}

/// A sample in the bundle: its place in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) offset: u64,
    pub(super) bytes: usize,
}

impl Bundle {
    /// A bundle of at most `bytes_max` bytes, of which each sample takes its own length and
    /// `sample_header_bytes`.
    pub(super) fn new(timescale: u32, bytes_max: usize, sample_header_bytes: usize) -> Self {
        Self {
            timescale,
            bytes_max,
            sample_header_bytes,
            held: Vec::with_capacity(BUNDLE_SAMPLES_MAX),
            first: None,
            ticks: 0,
            next_dts: 0,
            duration: 0,
            bytes: 0,
        }
    }

    /// Whether the sample may join those held.
    pub(super) fn has_room_for(&self, input: &Input<'_>) -> bool {
        let ticks = self.ticks.saturating_add(i64::from(input.sample.duration));
        let ticks_max = i64::from(self.timescale) * BUNDLE_MS_MAX / 1_000;
        self.first.is_none()
            || self.held.len() < BUNDLE_SAMPLES_MAX
                && self.next_dts == input.sample.dts
                && self.duration.abs_diff(input.sample.duration) <= 1
                && ticks <= ticks_max
                && self.bytes + self.sample_header_bytes + input.bytes.len() <= self.bytes_max
    }

    /// Holds the sample.
    pub(super) fn push(&mut self, input: &Input<'_>) {
        let duration = i64::from(input.sample.duration);
        if self.first.is_none() {
            self.first = Some(input.frame);
            self.duration = input.sample.duration;
        }
        self.held.push(Held { offset: input.sample.offset, bytes: input.bytes.len() });
        self.ticks = self.ticks.saturating_add(duration);
        self.next_dts = input.sample.dts.saturating_add(duration);
        self.bytes += self.sample_header_bytes + input.bytes.len();
    }

    /// Sends what is held as one packet and one frame; `push_header` writes what goes in front.
    pub(super) fn flush(
        &mut self,
        marker: bool,
        out: &mut WindowBuilder,
        push_header: impl FnOnce(&[Held], &mut WindowBuilder),
    ) {
        let Some(frame) = self.first.take() else { return };
        push_header(&self.held, out);
        for held in self.held.drain(..) {
            out.push_file(held.offset, held.bytes);
        }
        out.end_packet(marker);
        out.end_frame(frame);
        self.ticks = 0;
        self.bytes = 0;
    }
}

/// A sample as one unit of the file.
pub(super) fn whole<'a>(input: &Input<'a>) -> Unit<'a> {
    Unit::in_file(input.bytes, input.sample.offset)
}

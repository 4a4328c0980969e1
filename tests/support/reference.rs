//! What a file holds, sample by sample, as ffprobe reads it: an index made by somebody else.

use std::path::Path;

use super::process::run;

/// One sample; times in ticks of [`Track::timescale`], edit list applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) pts: i64,
    pub(crate) bytes: usize,
    pub(crate) is_sync: bool,
}

/// One track of a file.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) timescale: i64,
    /// In decode order.
    pub(crate) samples: Vec<Sample>,
}

impl Track {
    /// Stream `stream` of `file`.
    pub(crate) fn read(file: &Path, stream: u32) -> Self {
        let probed = run(
            "ffprobe",
            &[
                "-v",
                "error",
                "-select_streams",
                &stream.to_string(),
                "-show_entries",
                "stream=time_base:packet=pts,size,flags",
                "-of",
                "json",
                &file.to_string_lossy(),
            ],
        );
        let probed: serde_json::Value = serde_json::from_str(&probed.stdout).unwrap();
        let time_base = probed["streams"][0]["time_base"].as_str().unwrap();
        let timescale = time_base.strip_prefix("1/").unwrap().parse().unwrap();
        let sample = |packet: &serde_json::Value| Sample {
            pts: packet["pts"].as_i64().unwrap(),
            bytes: packet["size"].as_str().unwrap().parse().unwrap(),
            is_sync: packet["flags"].as_str().unwrap().starts_with('K'),
        };
        let samples = probed["packets"].as_array().unwrap().iter().map(sample).collect();
        Self { timescale, samples }
    }

    /// `pts` in ticks of an RTP clock, rounded to nearest.
    pub(crate) fn rtp_ticks(&self, pts: i64, clock_rate_hz: u32) -> i64 {
        let doubled = 2 * pts * i64::from(clock_rate_hz) + self.timescale;
        doubled.div_euclid(2 * self.timescale)
    }

    /// `pts` in seconds.
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    pub(crate) fn seconds(&self, pts: i64) -> f64 {
        pts as f64 / self.timescale as f64
    }

    /// Place of the last sync sample at or before `npt_s`.
    pub(crate) fn sync_at_or_before(&self, npt_s: f64) -> usize {
        let is_before = |sample: &Sample| sample.is_sync && self.seconds(sample.pts) <= npt_s;
        self.samples.iter().rposition(is_before).unwrap_or(0)
    }
}

//! Log lines about readers: one line each, with an event.
//!
//! ```text
//!  path live/cam1 reader skipped 512 packets (tcp_window)       code=HE-I304 event=reader.skipped
//! ```
//! A slow reader is reported at its first skip, and again after `SKIP_NOTE_INTERVAL` at the
//! earliest, with the sum of the skips in between. Readers that join and leave are logged at
//! `debug`.

use std::time::Duration;

use crate::base::time::Mono;
use crate::live::core::info::ReaderInfo;
use crate::live::core::reader::SkipCounts;
use crate::live::hub::Hub;
use crate::live::readers::Readers;
use crate::live::readers::reader::LiveReader;
use crate::metrics::paths::SKIPS;
use crate::session::cx::Cx;

/// Skips of a reader that the log has reported.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SkipsTold {
    counts: SkipCounts,
    at: Option<Mono>,
}

impl SkipsTold {
    /// Skips that were not reported yet, if a report is due.
    fn news(&mut self, counts: SkipCounts, now: Mono) -> Option<SkipCounts> {
        let is_early = self.at.is_some_and(|at| now.since(at) < SKIP_NOTE_INTERVAL);
        if is_early || counts.skips == self.counts.skips {
            return None;
        }
        let mut news = counts;
        for (count, told) in news.skips.iter_mut().zip(self.counts.skips) {
            *count -= told;
        }
        news.packets -= self.counts.packets;
        *self = Self { counts, at: Some(now) };
        Some(news)
    }

    /// Whether a skip was reported.
    #[cfg(test)]
    pub(crate) fn is_told(&self) -> bool {
        self.at.is_some()
    }
}

impl Readers {
    /// Logs the skips of a reader, unless they were just reported.
    pub(crate) fn note_skips(&mut self, cx: &Cx, hub: &Hub, index: u32) {
        let now = cx.now;
        let Some(reader) = self.table.get_mut(index as usize) else { return };
        let Some(path) = hub.paths.path(&reader.path) else { return };
        let Some(counts) = path.reader(reader.key).map(|reader| reader.skipped()) else { return };
        let Some(news) = reader.skips_told.news(counts, now) else { return };
        let lag_s = path.reader_info(reader.key).map_or(0.0, |info: ReaderInfo| info.lag_s);
        let reasons = SKIPS.iter().zip(news.skips).filter(|(_, count)| *count > 0);
        let reason = reasons.map(|(name, _)| *name).collect::<Vec<_>>().join("+");
        let (path, peer, session) = (&reader.path, reader.client.peer, reader.client.id);
        let (skips, packets) = (news.skips.iter().sum::<u64>(), news.packets);
        tracing::info!(
            code = "HE-I304", event = "reader.skipped", %path, %peer, %session, reason, skips,
            packets, lag_s,
            "path {path} reader skipped {packets} packets ({reason})"
        );
    }
}

/// Logs that a reader plays for the first time.
pub(crate) fn note_reader_joined(reader: &LiveReader) {
    let (path, peer, session) = (&reader.path, reader.client.peer, reader.client.id);
    let transport = if reader.is_interleaved() { "tcp" } else { "udp" };
    tracing::debug!(
        event = "reader.joined", %path, %peer, %session, transport,
        "path {path} reader joined over {transport}"
    );
}

/// Logs that a reader has ended.
pub(crate) fn note_reader_left(reader: &LiveReader, why: Option<&str>) {
    let (path, peer, session) = (&reader.path, reader.client.peer, reader.client.id);
    let reason = why.unwrap_or("connection closed");
    tracing::debug!(
        event = "reader.left", %path, %peer, %session, reason,
        "path {path} reader left: {reason}"
    );
}

/// A slow reader skips with every group of pictures.
const SKIP_NOTE_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_are_logged_at_once_and_then_summed_every_ten_seconds() {
        let mut told = SkipsTold::default();
        let counts = |skips, packets| SkipCounts { skips: [skips, 0, 0], packets };
        let at = |s: u64| Mono(s * 1_000_000_000);
        assert_eq!(told.news(counts(0, 3), at(0)), None, "waiting for a picture is no skip");
        assert_eq!(told.news(counts(1, 10), at(1)), Some(counts(1, 10)));
        assert_eq!(told.news(counts(2, 20), at(2)), None);
        assert_eq!(told.news(counts(5, 50), at(11)), Some(counts(4, 40)));
        assert_eq!(told.news(counts(5, 50), at(60)), None, "nothing new");
    }
}

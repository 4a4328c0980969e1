//! The end of all live sessions, when the server stops: publishers first, then readers, some of
//! them in each turn.
//!
//! Bound: readers with about `streams_max` streams at once.

use crate::live::front::Live;
use crate::live::sources::Sources;
use crate::session::cx::Cx;

impl Live {
    /// Ends all publishers, and readers with about `streams_max` streams in total. Returns the
    /// number of streams ended; 0 when none are left.
    pub fn end_live_sessions(
        &mut self,
        cx: &mut Cx,
        streams_max: usize,
        why: &'static str,
    ) -> usize {
        self.hub.is_stopping = true;
        self.sources.stop_relays(cx);
        self.sources.stop_titles(cx);
        let Sources { pulls, publishers, .. } = &mut self.sources;
        pulls.stop_all(cx, &mut self.hub, publishers);
        for number in self.sources.publishers.numbers() {
            self.sources.end_publisher(cx, &mut self.hub, number, why);
        }
        let readers = self.readers.table.iter();
        let readers = readers.map(|(index, reader)| (index, reader.streams.len().max(1)));
        let readers: Vec<(usize, usize)> = readers.take(streams_max).collect();
        let mut streams = 0;
        for (index, count) in readers {
            if streams >= streams_max {
                break;
            }
            streams += count;
            self.readers.end_reader(
                cx,
                &mut self.hub,
                u32::try_from(index).unwrap_or(u32::MAX),
                Some(why),
            );
        }
        streams
    }
}

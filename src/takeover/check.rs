//! What a record may say: a program of another version, or a broken one, is refused by a sentence
//! before anything of it counts.
//!
//! ```text
//!  record --check--> numbers that can be   (places in titles: where they are looked up)
//! ```

use super::exact::Exact;
use super::live::{
    ClockRecord, PathRecord, PublisherRecord, PublisherTrackRecord, ReaderRecord, ReceptionRecord,
    SourceRecord,
};
use super::v1::{
    ClientRecord, ConnectionRecord, EpochRecord, OutgoingRecord, SessionRecord, ShardRecord,
    StateRecord, TitleSessionRecord,
};

impl ShardRecord {
    /// Checks all numbers.
    ///
    /// # Errors
    /// A sentence: what cannot be, and of which session.
    pub fn check(&self) -> Result<(), String> {
        for session in self.units.iter().flat_map(|unit| &unit.sessions) {
            let checked = match session {
                SessionRecord::Title(title) => title.check(),
                SessionRecord::Reader(reader) => reader.check(),
                SessionRecord::Publisher(publisher) => publisher.check(),
            };
            checked.map_err(|what| {
                format!("the record of session {} cannot be: {what}", session.id())
            })?;
        }
        for unit in &self.units {
            let checked = unit.connection.as_ref().map_or(Ok(()), ConnectionRecord::check);
            checked.map_err(|what| format!("the record of a connection cannot be: {what}"))?;
        }
        for path in &self.paths {
            let checked = path.check();
            checked
                .map_err(|what| format!("the record of path {} cannot be: {what}", path.name))?;
        }
        check_times([self.frozen_ns].into_iter().chain(self.halted_ns))
            .map_err(|what| format!("the record cannot be: {what}"))
    }
}

impl ConnectionRecord {
    fn check(&self) -> Result<(), &'static str> {
        check_times([self.accepted_ns, self.heard_ns, self.served_ns])?;
        check_times(self.begun_ns)
    }
}

impl ClientRecord {
    fn check(&self) -> Result<(), &'static str> {
        check_times([self.created_ns, self.alive_ns])
    }
}

impl TitleSessionRecord {
    fn check(&self) -> Result<(), &'static str> {
        check_count(self.streams.len())?;
        self.client.check()?;
        check_times([self.liveness_ns, self.report_ns])?;
        check_times(self.play_received_ns)?;
        check_times(self.streams.iter().filter_map(|stream| stream.bye_ns))?;
        if let StateRecord::Paused { at_ns } = self.state {
            check_times([at_ns])?;
        }
        self.epoch.iter().try_for_each(EpochRecord::check)?;
        self.streams.iter().try_for_each(|stream| stream.rtp.check())
    }
}

impl PathRecord {
    fn check(&self) -> Result<(), &'static str> {
        check_count(self.description.tracks.len())?;
        if self.description.tracks.iter().any(|track| track.clock_rate_hz == 0) {
            return Err(CLOCK_STANDS);
        }
        if let Some(owner) = &self.owner {
            check_times(owner.hold_until_ns)?;
            check_figures([owner.batches])?;
        }
        check_times(self.blocks.iter().map(|block| block.received_ns))?;
        let spans = self.blocks.iter().flat_map(|block| &block.tracks);
        check_clocks(spans.filter_map(|span| span.clock))
    }
}

impl ReaderRecord {
    fn check(&self) -> Result<(), &'static str> {
        check_count(self.streams.len())?;
        self.client.check()?;
        let pace = &self.pace;
        check_times([self.report_ns, pace.wall_ns, pace.received_ns, pace.delay_ns])?;
        check_signed([self.delay_ns])?;
        check_figures(self.skips)?;
        check_figures([self.skipped, self.sent.0, self.sent.1])?;
        for stream in &self.streams {
            stream.rtp.check()?;
            check_times(stream.awaiting_from_ns)?;
            check_figures([stream.sent.0, stream.sent.1])?;
            check_times(stream.last_sent.map(|last| last.received_ns))?;
            check_clocks(stream.last_sent.and_then(|last| last.clock))?;
        }
        Ok(())
    }
}

impl PublisherRecord {
    fn check(&self) -> Result<(), &'static str> {
        check_count(self.tracks.len())?;
        check_times([self.alive_ns])?;
        check_times([self.redescribed_ns, self.fed_since_ns].into_iter().flatten())?;
        self.source.check()?;
        self.tracks.iter().try_for_each(PublisherTrackRecord::check)
    }
}

impl SourceRecord {
    fn check(&self) -> Result<(), &'static str> {
        check_times([self.packet_ns, self.sign_ns, self.reported_ns])?;
        check_times([self.began_ns, self.sync_asked_ns].into_iter().flatten())?;
        check_signed(self.clock_offset_ns)?;
        check_figures([self.packets, self.bytes, self.batches, self.sync_samples])?;
        check_figures(self.dropped.iter().copied())
    }
}

impl PublisherTrackRecord {
    fn check(&self) -> Result<(), &'static str> {
        check_clocks(self.clock)?;
        check_times(self.stream.map(|stream| stream.heard_ns))?;
        check_times(self.replaced.iter().flatten().map(|(_, heard_ns)| *heard_ns))?;
        check_figures([self.counts.0, self.counts.1])?;
        check_signed([self.lost_before])?;
        let Some(reception) = &self.reception else { return Ok(()) };
        let ReceptionRecord { received, expected_before, received_before, .. } = *reception;
        check_figures([received, expected_before, received_before])?;
        check_signed([reception.earlier_lost])?;
        check_times(reception.sender_report.map(|(_, came_ns)| came_ns))
    }
}

fn check_count(streams: usize) -> Result<(), &'static str> {
    if streams > STREAMS_MAX { Err("it has too many streams") } else { Ok(()) }
}

fn check_times(times: impl IntoIterator<Item = u64>) -> Result<(), &'static str> {
    match times.into_iter().any(|time| time > FIGURE_MAX) {
        true => Err("a time lies centuries ahead"),
        false => Ok(()),
    }
}

fn check_figures(figures: impl IntoIterator<Item = u64>) -> Result<(), &'static str> {
    match figures.into_iter().any(|figure| figure > FIGURE_MAX) {
        true => Err("nobody counts so far"),
        false => Ok(()),
    }
}

fn check_signed(figures: impl IntoIterator<Item = i64>) -> Result<(), &'static str> {
    check_figures(figures.into_iter().map(i64::unsigned_abs))
}

fn check_clocks(clocks: impl IntoIterator<Item = ClockRecord>) -> Result<(), &'static str> {
    check_signed(clocks.into_iter().map(|clock| clock.utc_ns))
}

impl EpochRecord {
    fn check(&self) -> Result<(), &'static str> {
        let Self { wall_ns, scale: Exact(scale), speed: Exact(speed), .. } = *self;
        if !scale.is_finite() || scale == 0.0 {
            return Err("its scale is no number, or 0");
        }
        if !speed.is_finite() || speed <= 0.0 {
            return Err("its speed is no number above 0");
        }
        check_times([wall_ns])
    }
}

impl OutgoingRecord {
    fn check(&self) -> Result<(), &'static str> {
        let Self { payload_type, clock_rate_hz, ref rtx, .. } = *self;
        if clock_rate_hz == 0 {
            return Err(CLOCK_STANDS);
        }
        let types = [Some(payload_type), rtx.map(|rtx| rtx.payload_type)];
        if types.into_iter().flatten().any(|payload_type| payload_type > 127) {
            return Err("there is no such payload type");
        }
        Ok(())
    }
}

const CLOCK_STANDS: &str = "the clock of a stream stands still";
/// More than any title or path has.
const STREAMS_MAX: usize = 255;
/// Nanoseconds of a clock, packets, bytes: what is added to them stays in the range.
const FIGURE_MAX: u64 = 1 << 61;

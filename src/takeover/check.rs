//! What a record may say: a program of another version, or a broken one, is refused by a sentence
//! before anything of it counts.
//!
//! ```text
//!  record --check--> numbers that can be   (places in titles: where they are looked up)
//! ```

use super::exact::Exact;
use super::live::{PathRecord, PublisherRecord, ReaderRecord};
use super::v1::{EpochRecord, OutgoingRecord, SessionRecord, ShardRecord, TitleSessionRecord};

impl ShardRecord {
    /// Checks the numbers of all sessions.
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
        let stands = |path: &&PathRecord| {
            path.description.tracks.iter().any(|track| track.clock_rate_hz == 0)
        };
        match self.paths.iter().find(stands) {
            Some(path) => {
                Err(format!("the record of path {} cannot be: {CLOCK_STANDS}", path.name))
            }
            None => Ok(()),
        }
    }
}

impl TitleSessionRecord {
    fn check(&self) -> Result<(), &'static str> {
        check_count(self.streams.len())?;
        check_times(&[self.liveness_ns, self.report_ns, self.client.alive_ns])?;
        self.epoch.iter().try_for_each(EpochRecord::check)?;
        self.streams.iter().try_for_each(|stream| stream.rtp.check())
    }
}

impl ReaderRecord {
    fn check(&self) -> Result<(), &'static str> {
        check_count(self.streams.len())?;
        let pace = &self.pace;
        let times = [pace.wall_ns, pace.received_ns, pace.delay_ns];
        check_times(&[self.report_ns, self.client.alive_ns])?;
        check_times(&times)?;
        self.streams.iter().try_for_each(|stream| stream.rtp.check())
    }
}

impl PublisherRecord {
    fn check(&self) -> Result<(), &'static str> {
        check_count(self.tracks.len())?;
        let source = &self.source;
        check_times(&[self.alive_ns, source.packet_ns, source.sign_ns, source.reported_ns])
    }
}

fn check_count(streams: usize) -> Result<(), &'static str> {
    if streams > STREAMS_MAX { Err("it has too many streams") } else { Ok(()) }
}

fn check_times(times: &[u64]) -> Result<(), &'static str> {
    match times.iter().any(|time| *time > TIME_MAX_NS) {
        true => Err("a time lies centuries ahead"),
        false => Ok(()),
    }
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
        check_times(&[wall_ns])
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
/// Of the monotonic clock: what is added to it stays a time.
const TIME_MAX_NS: u64 = 1 << 62;

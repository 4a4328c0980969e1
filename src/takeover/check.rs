//! What a record may say: a program of another version, or a broken one, is refused by a sentence
//! before anything of it counts.
//!
//! ```text
//!  record --check--> numbers that can be   (places in titles: where they are looked up)
//! ```

use super::exact::Exact;
use super::v1::{
    EpochRecord, OutgoingRecord, SessionRecord, ShardRecord, StreamRecord, TitleSessionRecord,
};

impl ShardRecord {
    /// Checks the numbers of all sessions.
    ///
    /// # Errors
    /// A sentence: what cannot be, and of which session.
    pub fn check(&self) -> Result<(), String> {
        for session in self.units.iter().flat_map(|unit| &unit.sessions) {
            match session {
                SessionRecord::Title(title) => title.check(),
            }?;
        }
        Ok(())
    }
}

impl TitleSessionRecord {
    fn check(&self) -> Result<(), String> {
        let id = &self.client.id;
        let wrong = |what: &str| Err(format!("the record of session {id} cannot be: {what}"));
        if self.streams.len() > STREAMS_MAX {
            return wrong("it has too many streams");
        }
        let times = [self.liveness_ns, self.report_ns, self.client.alive_ns];
        if times.iter().any(|time| *time > TIME_MAX_NS) {
            return wrong("a time lies centuries ahead");
        }
        let checks = self.epoch.iter().map(EpochRecord::check);
        let mut checks = checks.chain(self.streams.iter().map(StreamRecord::check));
        checks.find_map(Result::err).map_or(Ok(()), wrong)
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
        if wall_ns > TIME_MAX_NS { Err("a time lies centuries ahead") } else { Ok(()) }
    }
}

impl StreamRecord {
    fn check(&self) -> Result<(), &'static str> {
        let OutgoingRecord { payload_type, clock_rate_hz, ref rtx, .. } = self.rtp;
        if clock_rate_hz == 0 {
            return Err("the clock of a stream stands still");
        }
        let types = [Some(payload_type), rtx.map(|rtx| rtx.payload_type)];
        if types.into_iter().flatten().any(|payload_type| payload_type > 127) {
            return Err("there is no such payload type");
        }
        Ok(())
    }
}

/// More than any title has.
const STREAMS_MAX: usize = 255;
/// Of the monotonic clock: what is added to it stays a time.
const TIME_MAX_NS: u64 = 1 << 62;

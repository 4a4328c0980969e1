//! What a path carries: the SDP for readers and the tracks as fan-out has to know them.
//!
//! Made from an SDP by whoever reads it; here it is only compared: a source that comes back may go
//! on under its readers' feet when each track is what it was, because they were told nothing else.
//! There are two texts, as `m=` names one profile: readers that know RTP/AVPF get the second.
//! Bound: `LIVE_TRACKS_MAX` tracks.

use crate::live::core::limits::LIVE_TRACKS_MAX;

/// One track of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveTrack {
    /// RTP clock.
    pub clock_rate_hz: u32,
    /// Payload types that its packets may have.
    pub payload_types: Vec<u8>,
    /// A decoder can begin with some packets only, and it is known how to tell which. False for
    /// sound, and for what nobody here knows: then every packet will do.
    pub needs_sync: bool,
    /// All that a reader was told of the track and a decoder depends on, as text: media type,
    /// encoding, format parameters.
    pub identity: Box<str>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// For DESCRIBE, control attributes and all.
    pub sdp: Box<str>,
    /// The same with RTP/AVPF and retransmission, where that was made.
    pub feedback_sdp: Option<Box<str>>,
    /// In the order of the SDP.
    pub tracks: Vec<LiveTrack>,
    /// The texts lack parameter sets of a video track, and the source may still send them in band.
    /// A DESCRIBE waits for them, for a bounded time.
    pub awaits_sets: bool,
}

/// A description that no path can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptionError {
    /// Nothing to send.
    #[error("no tracks")]
    NoTracks,
    /// More than `LIVE_TRACKS_MAX`.
    #[error("{count} tracks are more than {max}")]
    TooManyTracks {
        /// How many.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// RTP time without a clock means nothing.
    #[error("track {track} has a clock of 0 Hz")]
    NoClock {
        /// Which.
        track: usize,
    },
}

impl Description {
    /// Checks what is relied on everywhere else.
    ///
    /// # Errors
    /// No tracks, too many, or one without a clock.
    pub fn new(sdp: Box<str>, tracks: Vec<LiveTrack>) -> Result<Self, DescriptionError> {
        let count = tracks.len();
        if count == 0 {
            return Err(DescriptionError::NoTracks);
        }
        if count > LIVE_TRACKS_MAX {
            return Err(DescriptionError::TooManyTracks { count, max: LIVE_TRACKS_MAX });
        }
        if let Some(track) = tracks.iter().position(|track| track.clock_rate_hz == 0) {
            return Err(DescriptionError::NoClock { track });
        }
        Ok(Self { sdp, feedback_sdp: None, tracks, awaits_sets: false })
    }

    /// Adds the text for readers that know RTP/AVPF.
    #[must_use]
    pub fn with_feedback(self, sdp: Box<str>) -> Self {
        Self { feedback_sdp: Some(sdp), ..self }
    }

    /// Says whether parameter sets are expected in band.
    #[must_use]
    pub fn with_awaits_sets(self, awaits_sets: bool) -> Self {
        Self { awaits_sets, ..self }
    }

    /// The text for a reader.
    #[must_use]
    pub fn text(&self, takes_feedback: bool) -> &str {
        let other = self.feedback_sdp.as_deref().filter(|_| takes_feedback);
        other.unwrap_or(&self.sdp)
    }

    /// Whether readers of one can go on with the other.
    #[must_use]
    pub fn continues(&self, other: &Self) -> bool {
        self.tracks == other.tracks
    }

    /// The track whose sync samples readers start and skip to.
    #[must_use]
    pub fn sync_track(&self) -> Option<u8> {
        let track = self.tracks.iter().position(|track| track.needs_sync)?;
        u8::try_from(track).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(identity: &str, needs_sync: bool) -> LiveTrack {
        let (clock_rate_hz, payload_types) = (90_000, vec![96]);
        LiveTrack { clock_rate_hz, payload_types, needs_sync, identity: identity.into() }
    }

    #[test]
    fn sources_with_the_same_tracks_continue_each_other_whatever_their_sdp_says_else() {
        let one = Description::new("o=1".into(), vec![track("video H264 sprop=A", true)]).unwrap();
        let same = Description::new("o=2".into(), vec![track("video H264 sprop=A", true)]).unwrap();
        let other =
            Description::new("o=1".into(), vec![track("video H264 sprop=B", true)]).unwrap();
        assert!(one.continues(&same));
        assert!(!one.continues(&other));
    }

    #[test]
    fn description_that_no_path_can_have_is_refused() {
        assert_eq!(Description::new("".into(), vec![]), Err(DescriptionError::NoTracks));
        let many = vec![track("a", false); LIVE_TRACKS_MAX + 1];
        let refused = Description::new("".into(), many);
        assert_eq!(refused, Err(DescriptionError::TooManyTracks { count: 17, max: 16 }));
        let stopped = LiveTrack { clock_rate_hz: 0, ..track("a", false) };
        let refused = Description::new("".into(), vec![track("a", true), stopped]);
        assert_eq!(refused, Err(DescriptionError::NoClock { track: 1 }));
    }

    #[test]
    fn reader_that_takes_feedback_gets_the_text_with_it_where_there_is_one() {
        let plain = Description::new("AVP".into(), vec![track("a", false)]).unwrap();
        assert_eq!((plain.text(false), plain.text(true)), ("AVP", "AVP"));
        let both = plain.with_feedback("AVPF".into());
        assert_eq!((both.text(false), both.text(true)), ("AVP", "AVPF"));
    }

    #[test]
    fn first_track_that_needs_sync_samples_is_the_one_to_start_by() {
        let tracks = vec![track("audio", false), track("video", true), track("video2", true)];
        assert_eq!(Description::new("".into(), tracks).unwrap().sync_track(), Some(1));
        let sound = Description::new("".into(), vec![track("audio", false)]).unwrap();
        assert_eq!(sound.sync_track(), None);
    }
}

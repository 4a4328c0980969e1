//! The description of a path: the SDP for readers, and the tracks as fan-out needs them.
//!
//! The reader of an SDP makes the description; this room only compares descriptions. A source that
//! comes back may continue for present readers when each track is unchanged, because readers were
//! told nothing else. There are two texts, as `m=` names one profile: readers that know RTP/AVPF
//! get the second text.
//! Bound: `LIVE_TRACKS_MAX` tracks.

use crate::live::core::limits::LIVE_TRACKS_MAX;

/// One track of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveTrack {
    /// Rate of the RTP clock.
    pub clock_rate_hz: u32,
    /// Payload types of the track's packets.
    pub payload_types: Vec<u8>,
    /// A decoder can start with key frames only, and the server can detect the track's key frames.
    /// False for sound, and for encodings that the server does not know: readers start anywhere.
    pub needs_sync: bool,
    /// Everything that a reader was told of the track and that a decoder depends on, as text: media
    /// type, encoding, format parameters.
    pub identity: Box<str>,
}

/// The description of a path: see the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// SDP for DESCRIBE, with control attributes.
    pub sdp: Box<str>,
    /// SDP for DESCRIBE with RTP/AVPF and retransmission, if any.
    pub feedback_sdp: Option<Box<str>>,
    /// Tracks in the order of the SDP.
    pub tracks: Vec<LiveTrack>,
    /// The texts lack parameter sets of a video track, and the source may still send these sets in
    /// band. A DESCRIBE waits for the sets, for a bounded time.
    pub awaits_sets: bool,
}

/// Why a description is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptionError {
    /// The description has no tracks to send.
    #[error("no tracks")]
    NoTracks,
    /// The description has more than `LIVE_TRACKS_MAX` tracks.
    #[error("{count} tracks are more than {max}")]
    TooManyTracks {
        /// Number of tracks.
        count: usize,
        /// `LIVE_TRACKS_MAX`.
        max: usize,
    },
    /// A track has a clock rate of 0: its RTP time has no meaning.
    #[error("track {track} has a clock of 0 Hz")]
    NoClock {
        /// Index of the track.
        track: usize,
    },
}

impl Description {
    /// Checks what all users of a description rely on.
    ///
    /// # Errors
    /// `NoTracks`, `TooManyTracks` or `NoClock`.
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

    /// The SDP for a reader.
    #[must_use]
    pub fn text(&self, takes_feedback: bool) -> &str {
        let other = self.feedback_sdp.as_deref().filter(|_| takes_feedback);
        other.unwrap_or(&self.sdp)
    }

    /// Whether readers of one description can continue with the other.
    #[must_use]
    pub fn continues(&self, other: &Self) -> bool {
        self.tracks == other.tracks
    }

    /// The track whose key frames readers start at and skip to.
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
    fn sources_with_equal_tracks_continue_each_other_whatever_else_is_in_their_sdp() {
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

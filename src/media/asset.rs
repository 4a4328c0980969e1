//! A title as the rest of the program sees it: tracks that can be played, and why others cannot.

use std::time::Duration;

use super::codec::{Codec, MediaKind, PayloadFormat};
use super::hint::HintTrack;
use super::index::SampleIndex;
use crate::base::time::Npt;

/// A recorded presentation, opened: immutable, shared by every session on it.
#[derive(Debug)]
pub struct Asset {
    /// Tracks that are offered, in the order of the file but for sound that is not enabled, which
    /// comes behind other sound; `trackID=N` counts them from 0.
    pub tracks: Vec<Track>,
    /// Tracks of the file that cannot be played, or are not part of the presentation.
    pub left_out: Vec<LeftOut>,
    /// Length of the longest playable track.
    pub duration: Npt,
    /// Name of the container for people: `mp4`, `mov`, `3gp`, `mp4 (fragmented)`.
    pub container: &'static str,
    /// Bytes of the media file when it was indexed.
    pub file_bytes: u64,
    /// `creation_time` of `mvhd` in nanoseconds since 1970, when it is set and plausible.
    pub created_utc_ns: Option<i64>,
    /// What of the file could not be honoured although it plays, for people.
    pub problems: Vec<String>,
}

/// One playable track.
#[derive(Debug)]
pub struct Track {
    /// `track_ID` in the file.
    pub id: u32,
    /// Audio or video.
    pub kind: MediaKind,
    /// Codec and decoder configuration. `None` for a hinted track whose codec we cannot name:
    /// its packets come from the hint track all the same.
    pub codec: Option<Codec>,
    /// Configurations of samples with another sample description, all for the same payload format:
    /// `SampleIndex::description` counts them from 1.
    pub other_codecs: Vec<Codec>,
    /// Sample entry's four characters, for people.
    pub fourcc: [u8; 4],
    /// Ticks a second of the times in `index`.
    pub timescale: u32,
    /// Language tag of `elng` (BCP 47), or the code of `mdhd` (ISO 639-2), when they name one.
    pub language: Option<Box<str>>,
    /// Width and height in pixels, for video.
    pub size_pixels: Option<(u16, u16)>,
    /// Samples in decode order, after the edit list. For a hinted track: of the media track.
    pub index: SampleIndex,
    /// Payload format for SDP and RTP.
    pub payload: PayloadFormat,
    /// The QuickTime hint track that packetizes this track, when the file has one.
    pub hint: Option<HintTrack>,
    /// Samples in one `WindowKind::All` window, about `limits::WINDOW_SECONDS` of them; at least 1.
    /// For a hinted track: hint samples.
    pub window_samples: u32,
    /// Presentation time just behind the last sample.
    pub end: Npt,
}

impl Track {
    /// The samples that windows are cut from and positions are looked up in: those of the hint
    /// track when there is one, the track's own otherwise.
    #[must_use]
    pub fn schedule(&self) -> &SampleIndex {
        self.hint.as_ref().map_or(&self.index, |hint| &hint.index)
    }

    /// The decoder configuration with that number, see `SampleIndex::description`.
    #[must_use]
    pub fn codec_of(&self, description: u16) -> Option<&Codec> {
        match usize::from(description).checked_sub(1) {
            None => self.codec.as_ref(),
            Some(place) => self.other_codecs.get(place),
        }
    }

    /// Mean time from one sync sample to the next.
    #[must_use]
    pub fn sync_gap(&self) -> Duration {
        let end_ns = u64::try_from(self.end.0).unwrap_or(0);
        Duration::from_nanos(end_ns / u64::from(self.schedule().sync_count().max(1)))
    }
}

/// A track that is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// `track_ID` in the file.
    pub id: u32,
    /// Sample entry's four characters, or the handler's when there is no entry.
    pub fourcc: [u8; 4],
    /// Why, for people.
    pub reason: String,
}

/// A range of bytes in the media file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRange {
    /// From the start of the file.
    pub offset: u64,
    /// Length.
    pub bytes: u32,
}

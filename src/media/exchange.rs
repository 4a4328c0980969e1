//! Whether one track may follow another under the same description.
//!
//! ```text
//!  told    H264/90000            MPEG4-GENERIC/48000/2; config=1190
//!  found   H264/90000, other sets    .. config=1190: may follow     .. config=1210: may not
//! ```
//! A receiver has the description of the first track and keeps it. Parameter sets in front of sync
//! samples replace the described ones; a configuration that only the description has cannot change.
//! The payload type may differ: the sender keeps the one that was told.

use super::asset::Track;
use super::codec::{Codec, MediaKind, PayloadFormat};

/// What a receiver depends on of a track.
#[derive(Debug, Clone, Copy)]
pub struct TrackForm<'a> {
    /// Audio or video.
    pub kind: MediaKind,
    /// Payload format as described.
    pub payload: &'a PayloadFormat,
    /// Packets bring the decoder's configuration.
    pub is_configured_in_band: bool,
}

impl Track {
    /// What a receiver depends on.
    #[must_use]
    pub fn form(&self) -> TrackForm<'_> {
        let is_configured_in_band =
            self.hint.is_none() && self.codec.as_ref().is_some_and(Codec::is_configured_in_band);
        TrackForm { kind: self.kind, payload: &self.payload, is_configured_in_band }
    }
}

/// Why a track may not follow another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {found} instead of {told}")]
pub struct TrackDiffers {
    /// Name of the parameter that differs.
    pub what: &'static str,
    /// Value in the description.
    pub told: String,
    /// Value of the track.
    pub found: String,
}

/// Checks that packets of `found` may follow under the description of `told`.
///
/// # Errors
/// The first parameter that differs.
pub fn check_exchange(told: TrackForm<'_>, found: TrackForm<'_>) -> Result<(), TrackDiffers> {
    let differs = |what, told: String, found: String| Err(TrackDiffers { what, told, found });
    let (a, b) = (told.payload, found.payload);
    if told.kind != found.kind {
        let name = |form: TrackForm<'_>| form.kind.as_str().to_owned();
        return differs("kind of media", name(told), name(found));
    }
    if !a.encoding_name.eq_ignore_ascii_case(&b.encoding_name) {
        return differs("payload format", a.encoding_name.clone(), b.encoding_name.clone());
    }
    if a.clock_rate_hz != b.clock_rate_hz {
        let (told, found) = (a.clock_rate_hz.to_string(), b.clock_rate_hz.to_string());
        return differs("clock rate", told, found);
    }
    if a.channels.unwrap_or(1) != b.channels.unwrap_or(1) {
        let count = |format: &PayloadFormat| format.channels.unwrap_or(1).to_string();
        return differs("number of channels", count(a), count(b));
    }
    let are_in_band = told.is_configured_in_band && found.is_configured_in_band;
    if a.fmtp != b.fmtp && !are_in_band {
        let text = |format: &PayloadFormat| format.fmtp.clone().unwrap_or_default();
        return differs("codec configuration", text(a), text(b));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::packetize::payload_format;

    fn refusal(told: &Codec, found: &Codec) -> Option<String> {
        let formats = [told, found].map(|codec| payload_format(codec, 0).unwrap());
        let [told, found] = [(told, &formats[0]), (found, &formats[1])].map(|(codec, payload)| {
            let kind = if *codec == Codec::Vp8 { MediaKind::Video } else { MediaKind::Audio };
            TrackForm { kind, payload, is_configured_in_band: codec.is_configured_in_band() }
        });
        check_exchange(told, found).err().map(|error| error.to_string())
    }

    #[test]
    fn track_may_follow_unless_the_description_is_wrong_for_it() {
        let aac = |config: &[u8], channels| Codec::Aac {
            config: config.to_vec(),
            sample_rate_hz: 48_000,
            channels,
        };
        let opus = Codec::Opus { channels: 2 };
        let refusals = [
            refusal(&opus, &opus),
            refusal(&aac(&[0x11, 0x90], 2), &aac(&[0x11, 0x90], 2)),
            refusal(&opus, &Codec::Vp8),
            refusal(&opus, &Codec::Ac3 { sample_rate_hz: 48_000, channels: 2 }),
            refusal(&aac(&[0x11, 0x90], 2), &aac(&[0x11, 0x88], 1)),
            refusal(&aac(&[0x11, 0x90], 2), &aac(&[0x2b, 0x11], 2)),
        ];
        let text = refusals.map(|refusal| refusal.unwrap_or_else(|| "may follow".to_owned()));
        insta::assert_snapshot!(text.join("\n"), @r"
        may follow
        may follow
        kind of media is video instead of audio
        payload format is ac3 instead of opus
        number of channels is 1 instead of 2
        codec configuration is streamtype=5;profile-level-id=1;mode=AAC-hbr;sizeLength=13;indexLength=3;indexDeltaLength=3;config=2B11 instead of streamtype=5;profile-level-id=1;mode=AAC-hbr;sizeLength=13;indexLength=3;indexDeltaLength=3;constantDuration=1024;config=1190
        ");
    }
}

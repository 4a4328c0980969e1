//! Playlists as text (RFC 8216 s4; tags for low latency: draft-pantos-hls-rfc8216bis s4.4).
//!
//! URIs are relative, and end with the caller's suffix: a token of the query that the playlist was
//! asked with, so that what it names is asked with the token too.
//! Invariants: durations of segments are differences of times rounded once, so their sum is exact
//! to the microsecond; no duration, rounded to seconds, is above the target duration (s4.3.3.1).

use std::fmt::Write as _;

use super::resource::{Rendition, Resource, Revision};
use super::sound::Sound;

/// A multivariant playlist with one variant.
#[derive(Debug, Clone, PartialEq)]
pub struct Multivariant {
    /// Peak and average rate of the variant's segments.
    pub rate: Rate,
    /// Text of `CODECS`, sounds of all renditions included.
    pub codecs: String,
    /// Width and height in pixels.
    pub size_pixels: Option<(u16, u16)>,
    /// Pictures a second.
    pub frame_rate: Option<f64>,
    /// The sounds to choose from, where there are several; the first one is played by default.
    pub sounds: Vec<Sound>,
    /// Seconds at which the timeline begins, when that is not 0.
    pub start_s: u64,
    /// Segments all begin with a sync sample.
    pub is_independent: bool,
    /// Tracks that are not shown, as sentences for people.
    pub left_out: Vec<String>,
}

/// Rates in bits a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate {
    /// Of the segment with most.
    pub peak: u64,
    /// Of all segments.
    pub average: u64,
}

/// A media playlist of a title.
#[derive(Debug)]
pub struct TitlePlaylist<'a> {
    /// Which rendition.
    pub rendition: Rendition,
    /// Of which file.
    pub revision: Revision,
    /// Times of the segments' ends in microseconds, from the beginning of the first one.
    pub ends_us: &'a [u64],
    /// Segments that have no samples: sound that begins behind the picture, or ends before it.
    pub gaps: Vec<bool>,
}

/// A segment of a live playlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveSegment<'a> {
    /// Media sequence number.
    pub number: u64,
    /// Length.
    pub duration_us: u64,
    /// Which initialization it needs.
    pub init: u32,
    /// The timeline or the configuration differs from the segment before.
    pub is_discontinuous: bool,
    /// UTC of its first sample in milliseconds since 1970.
    pub utc_ms: Option<i64>,
    /// Its parts; empty for a segment whose parts are not listed any more.
    pub parts: &'a [LivePart],
    /// It has no samples.
    pub is_gap: bool,
    /// It is complete.
    pub is_complete: bool,
}

/// A part of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LivePart {
    /// Length.
    pub duration_us: u64,
    /// It begins with a sync sample.
    pub is_independent: bool,
    /// It has no samples.
    pub is_gap: bool,
}

/// A media playlist of a live path.
#[derive(Debug)]
pub struct LivePlaylist<'a> {
    /// Which rendition.
    pub rendition: Rendition,
    /// Those beside it, which have the same segments and parts.
    pub others: &'a [Rendition],
    /// Of which run.
    pub revision: Revision,
    /// No segment is longer.
    pub target_s: u32,
    /// No part is longer.
    pub part_target_us: u64,
    /// Discontinuities before the first segment of the list.
    pub discontinuity_sequence: u64,
    /// Oldest first; the last one may be incomplete.
    pub segments: &'a [LiveSegment<'a>],
    /// Nothing follows.
    pub is_ended: bool,
}

impl Multivariant {
    /// The text; `suffix` goes behind each URI.
    #[must_use]
    pub fn text(&self, suffix: &str) -> String {
        let mut out = String::from("#EXTM3U\n#EXT-X-VERSION:9\n");
        if self.is_independent {
            out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        }
        if self.start_s > 0 {
            line(
                &mut out,
                format_args!(
                    "#EXT-X-SESSION-DATA:DATA-ID=\"headend.start\",VALUE=\"{}\"",
                    self.start_s
                ),
            );
        }
        if !self.left_out.is_empty() {
            let text = quotable(&self.left_out.join("; "));
            line(
                &mut out,
                format_args!("#EXT-X-SESSION-DATA:DATA-ID=\"headend.left-out\",VALUE=\"{text}\""),
            );
        }
        self.write_sounds(&mut out, suffix);
        let Rate { peak, average } = self.rate;
        let _infallible = write!(
            out,
            "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"{}\"",
            peak.max(1),
            average.max(1),
            self.codecs
        );
        if let Some((width, height)) = self.size_pixels {
            let _infallible = write!(out, ",RESOLUTION={width}x{height}");
        }
        if let Some(rate) = self.frame_rate.filter(|rate| rate.is_finite() && *rate > 0.0) {
            let _infallible = write!(out, ",FRAME-RATE={rate:.3}");
        }
        if !self.sounds.is_empty() {
            out.push_str(",AUDIO=\"sound\"");
        }
        line(&mut out, format_args!("\n{}{suffix}", Resource::Media(Rendition::MAIN)));
        out
    }

    /// RFC 8216 s4.3.4.1: no more than one of a language is chosen automatically, and all say how
    /// many channels they have.
    fn write_sounds(&self, out: &mut String, suffix: &str) {
        if self.sounds.is_empty() {
            return;
        }
        // `CODECS` is of all together; a player of ours wants to know it of each.
        let codecs: Vec<&str> = self.sounds.iter().map(|sound| sound.codecs.as_str()).collect();
        line(
            out,
            format_args!(
                "#EXT-X-SESSION-DATA:DATA-ID=\"headend.sounds\",VALUE=\"{}\"",
                codecs.join(",")
            ),
        );
        for (place, sound) in self.sounds.iter().enumerate() {
            let _infallible = write!(
                out,
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"sound\",NAME=\"{}\"",
                quotable(&sound.name)
            );
            if let Some(language) = &sound.language {
                let _infallible = write!(out, ",LANGUAGE=\"{language}\"");
            }
            let default = if place == 0 { "YES" } else { "NO" };
            // The default is chosen, whatever else is.
            let automatic = if place == 0 || sound.is_automatic { "YES" } else { "NO" };
            let _infallible = write!(out, ",DEFAULT={default},AUTOSELECT={automatic}");
            if let Some(channels) = sound.channels {
                let _infallible = write!(out, ",CHANNELS=\"{channels}\"");
            }
            if sound.rendition != Rendition::MAIN {
                let _infallible =
                    write!(out, ",URI=\"{}{suffix}\"", Resource::Media(sound.rendition));
            }
            out.push('\n');
        }
    }
}

impl TitlePlaylist<'_> {
    /// The text; `suffix` goes behind each URI.
    #[must_use]
    pub fn text(&self, suffix: &str) -> String {
        let Self { rendition, revision, ends_us, ref gaps } = *self;
        let durations = durations_us(ends_us);
        let target = durations.iter().copied().map(rounded_s).max().unwrap_or(0).max(1);
        let mut out = format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{target}\n#EXT-X-MEDIA-SEQUENCE:0\n\
             #EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-INDEPENDENT-SEGMENTS\n"
        );
        let init = Resource::Init { rendition, revision, number: 0 };
        line(&mut out, format_args!("#EXT-X-MAP:URI=\"{init}{suffix}\""));
        for (number, duration) in (0..).zip(durations) {
            let segment = Resource::Segment { rendition, revision, number };
            line(&mut out, format_args!("#EXTINF:{},", seconds(duration)));
            let place = usize::try_from(number).unwrap_or(usize::MAX);
            if gaps.get(place).is_some_and(|is_gap| *is_gap) {
                // rfc8216bis s4.4.4.7. Players that do not know the tag load a segment of nothing.
                out.push_str("#EXT-X-GAP\n");
            }
            line(&mut out, format_args!("{segment}{suffix}"));
        }
        out.push_str("#EXT-X-ENDLIST\n");
        out
    }
}

impl LivePlaylist<'_> {
    /// The text; `suffix` goes behind each URI.
    #[must_use]
    pub fn text(&self, suffix: &str) -> String {
        let Self { rendition, revision, target_s, part_target_us, segments, .. } = *self;
        let discontinuity_sequence = self.discontinuity_sequence;
        let first = segments.first().map_or(0, |segment| segment.number);
        let hold_back = seconds(part_target_us * PART_HOLD_BACK);
        let part_target = seconds(part_target_us);
        let mut out = format!(
            "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:{target_s}\n\
             #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={hold_back},HOLD-BACK={}\n\
             #EXT-X-PART-INF:PART-TARGET={part_target}\n#EXT-X-MEDIA-SEQUENCE:{first}\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:{discontinuity_sequence}\n",
            target_s * HOLD_BACK
        );
        let mut init = None;
        for segment in segments {
            if segment.is_discontinuous {
                out.push_str("#EXT-X-DISCONTINUITY\n");
            }
            if init.replace(segment.init) != Some(segment.init) {
                let map = Resource::Init { rendition, revision, number: segment.init };
                line(&mut out, format_args!("#EXT-X-MAP:URI=\"{map}{suffix}\""));
            }
            if let Some(utc) = segment.utc_ms.and_then(date_time) {
                line(&mut out, format_args!("#EXT-X-PROGRAM-DATE-TIME:{utc}"));
            }
            for (place, part) in (0..).zip(segment.parts) {
                let uri =
                    Resource::Part { rendition, revision, segment: segment.number, part: place };
                let _infallible = write!(
                    out,
                    "#EXT-X-PART:DURATION={},URI=\"{uri}{suffix}\"",
                    seconds(part.duration_us)
                );
                out.push_str(if part.is_independent { ",INDEPENDENT=YES" } else { "" });
                out.push_str(if part.is_gap { ",GAP=YES\n" } else { "\n" });
            }
            if segment.is_complete {
                let uri = Resource::Segment { rendition, revision, number: segment.number };
                let duration = seconds(segment.duration_us);
                let gap = if segment.is_gap { "#EXT-X-GAP\n" } else { "" };
                line(&mut out, format_args!("#EXTINF:{duration},\n{gap}{uri}{suffix}"));
            }
        }
        if self.is_ended {
            out.push_str("#EXT-X-ENDLIST\n");
        } else {
            let (segment, part) = self.next_part();
            let uri = Resource::Part { rendition, revision, segment, part };
            line(&mut out, format_args!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{uri}{suffix}\""));
            self.write_reports(&mut out, suffix);
        }
        out
    }

    /// How far the other renditions are (rfc8216bis s4.4.5.4): as far as this one.
    fn write_reports(&self, out: &mut String, suffix: &str) {
        let Some(last) = self.segments.last() else { return };
        for other in self.others {
            let uri = Resource::Media(*other);
            let number = last.number;
            let _infallible =
                write!(out, "#EXT-X-RENDITION-REPORT:URI=\"{uri}{suffix}\",LAST-MSN={number}");
            if let Some(part) = last.parts.len().checked_sub(1) {
                let _infallible = write!(out, ",LAST-PART={part}");
            }
            out.push('\n');
        }
    }

    /// Segment and place of the part that comes next.
    #[must_use]
    pub fn next_part(&self) -> (u64, u32) {
        match self.segments.last() {
            None => (0, 0),
            Some(last) if last.is_complete => (last.number + 1, 0),
            Some(last) => (last.number, u32::try_from(last.parts.len()).unwrap_or(u32::MAX)),
        }
    }
}

/// Lengths between times, the first from 0.
#[must_use]
pub fn durations_us(ends_us: &[u64]) -> Vec<u64> {
    let begins = std::iter::once(0).chain(ends_us.iter().copied());
    begins.zip(ends_us).map(|(begin, end)| end.saturating_sub(begin)).collect()
}

/// Seconds of a duration, rounded to the nearest (RFC 8216 s4.3.3.1).
#[must_use]
pub fn rounded_s(duration_us: u64) -> u64 {
    (duration_us + 500_000) / 1_000_000
}

fn seconds(duration_us: u64) -> String {
    format!("{}.{:06}", duration_us / 1_000_000, duration_us % 1_000_000)
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _infallible = out.write_fmt(text);
    out.push('\n');
}

fn date_time(utc_ms: i64) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(utc_ms).ok()?;
    Some(format!("{time:.3}"))
}

/// A quoted string has no quotation mark and no line break (RFC 8216 s4.2).
fn quotable(text: &str) -> String {
    text.chars().map(|c| if c == '"' || c.is_control() { '\'' } else { c }).collect()
}

/// Parts that a player stays behind the end; at least 2, and 3 are recommended (rfc8216bis
/// s4.4.3.8).
const PART_HOLD_BACK: u64 = 3;
/// Target durations that a player without parts stays behind the end; at least 3.
const HOLD_BACK: u32 = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn multivariant_playlist_tells_what_a_player_must_know_to_choose() {
        let sound = |number, name: &str, language: &str| Sound {
            rendition: Rendition(number),
            name: name.to_owned(),
            language: Some(language.to_owned()),
            channels: Some(2),
            codecs: "mp4a.40.2".to_owned(),
            is_automatic: number < 3,
        };
        let sounds = vec![sound(1, "English", "en"), sound(2, "a \"b\"", "de")];
        let playlist = Multivariant {
            rate: Rate { peak: 900_000, average: 700_000 },
            codecs: "avc1.64001F,mp4a.40.2".to_owned(),
            size_pixels: Some((1280, 720)),
            frame_rate: Some(25.0),
            sounds: [sounds, vec![sound(3, "English 2", "en")]].concat(),
            start_s: 1,
            is_independent: true,
            left_out: vec!["track 3 is AC-3".to_owned(), "track 4 is VP8".to_owned()],
        };
        insta::assert_snapshot!(playlist.text("?token=x"), @r#"
        #EXTM3U
        #EXT-X-VERSION:9
        #EXT-X-INDEPENDENT-SEGMENTS
        #EXT-X-SESSION-DATA:DATA-ID="headend.start",VALUE="1"
        #EXT-X-SESSION-DATA:DATA-ID="headend.left-out",VALUE="track 3 is AC-3; track 4 is VP8"
        #EXT-X-SESSION-DATA:DATA-ID="headend.sounds",VALUE="mp4a.40.2,mp4a.40.2,mp4a.40.2"
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="sound",NAME="English",LANGUAGE="en",DEFAULT=YES,AUTOSELECT=YES,CHANNELS="2",URI="sound-1.m3u8?token=x"
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="sound",NAME="a 'b'",LANGUAGE="de",DEFAULT=NO,AUTOSELECT=YES,CHANNELS="2",URI="sound-2.m3u8?token=x"
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="sound",NAME="English 2",LANGUAGE="en",DEFAULT=NO,AUTOSELECT=NO,CHANNELS="2",URI="sound-3.m3u8?token=x"
        #EXT-X-STREAM-INF:BANDWIDTH=900000,AVERAGE-BANDWIDTH=700000,CODECS="avc1.64001F,mp4a.40.2",RESOLUTION=1280x720,FRAME-RATE=25.000,AUDIO="sound"
        main.m3u8?token=x
        "#);
    }

    #[test]
    fn playlist_of_a_title_has_every_segment_and_an_end() {
        let playlist = TitlePlaylist {
            rendition: Rendition::MAIN,
            revision: Revision(0xab),
            ends_us: &[4_000_000, 8_004_321, 9_000_000],
            gaps: vec![false, false, true],
        };
        insta::assert_snapshot!(playlist.text(""), @r#"
        #EXTM3U
        #EXT-X-VERSION:7
        #EXT-X-TARGETDURATION:4
        #EXT-X-MEDIA-SEQUENCE:0
        #EXT-X-PLAYLIST-TYPE:VOD
        #EXT-X-INDEPENDENT-SEGMENTS
        #EXT-X-MAP:URI="main-00000000000000ab-i0.mp4"
        #EXTINF:4.000000,
        main-00000000000000ab-0.m4s
        #EXTINF:4.004321,
        main-00000000000000ab-1.m4s
        #EXTINF:0.995679,
        #EXT-X-GAP
        main-00000000000000ab-2.m4s
        #EXT-X-ENDLIST
        "#);
    }

    #[test]
    fn live_playlist_lists_parts_at_its_end_and_hints_at_the_next() {
        let part =
            |is_independent| LivePart { duration_us: 500_000, is_independent, is_gap: false };
        let parts = [part(true), part(false)];
        let segment = |number, is_complete, parts| LiveSegment {
            number,
            duration_us: 1_000_000,
            init: 1,
            is_discontinuous: number == 8,
            utc_ms: Some(0),
            parts,
            is_gap: false,
            is_complete,
        };
        let segments = [segment(7, true, &[]), segment(8, true, &parts), segment(9, false, &parts)];
        let mut playlist = LivePlaylist {
            rendition: Rendition::MAIN,
            others: &[],
            revision: Revision(1),
            target_s: 4,
            part_target_us: 500_000,
            discontinuity_sequence: 2,
            segments: &segments,
            is_ended: false,
        };
        assert_eq!(playlist.next_part(), (9, 2));
        insta::assert_snapshot!(playlist.text(""), @r#"
        #EXTM3U
        #EXT-X-VERSION:9
        #EXT-X-TARGETDURATION:4
        #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.500000,HOLD-BACK=12
        #EXT-X-PART-INF:PART-TARGET=0.500000
        #EXT-X-MEDIA-SEQUENCE:7
        #EXT-X-DISCONTINUITY-SEQUENCE:2
        #EXT-X-MAP:URI="main-0000000000000001-i1.mp4"
        #EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:00.000Z
        #EXTINF:1.000000,
        main-0000000000000001-7.m4s
        #EXT-X-DISCONTINUITY
        #EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:00.000Z
        #EXT-X-PART:DURATION=0.500000,URI="main-0000000000000001-8.0.m4s",INDEPENDENT=YES
        #EXT-X-PART:DURATION=0.500000,URI="main-0000000000000001-8.1.m4s"
        #EXTINF:1.000000,
        main-0000000000000001-8.m4s
        #EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:00.000Z
        #EXT-X-PART:DURATION=0.500000,URI="main-0000000000000001-9.0.m4s",INDEPENDENT=YES
        #EXT-X-PART:DURATION=0.500000,URI="main-0000000000000001-9.1.m4s"
        #EXT-X-PRELOAD-HINT:TYPE=PART,URI="main-0000000000000001-9.2.m4s"
        "#);
        playlist.is_ended = true;
        assert!(playlist.text("").ends_with("#EXT-X-ENDLIST\n"));
    }

    proptest! {
        #[test]
        fn durations_add_up_and_are_within_the_target(
            lengths in proptest::collection::vec(1_u64..30_000_000, 1..50),
        ) {
            let mut at = 0;
            let ends: Vec<u64> = lengths.iter().map(|us| { at += us; at }).collect();
            prop_assert_eq!(durations_us(&ends), lengths);
            let (rendition, revision) = (Rendition::MAIN, Revision(0));
            let text = TitlePlaylist { rendition, revision, ends_us: &ends, gaps: Vec::new() };
            let text = text.text("");
            let number = |tag: &str| -> Vec<f64> {
                text.lines().filter_map(|l| l.strip_prefix(tag)?.trim_end_matches(',').parse().ok()).collect()
            };
            let (target, listed) = (number("#EXT-X-TARGETDURATION:"), number("#EXTINF:"));
            prop_assert!(listed.iter().all(|duration| duration.round() <= target[0]));
            let sum: f64 = listed.iter().sum();
            prop_assert!((sum * 1e6 - at as f64).abs() < 1.0);
        }
    }
}

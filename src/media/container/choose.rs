//! Which of the tracks that could be played are offered, and in which order.
//!
//! ```text
//! pictures   stills beside a film, tracks outside the movie, tracks that are not enabled and
//!            alternates of another track are left out: players show every video they are offered
//! sound      tracks outside the movie are left out; those that are not enabled come last:
//!            players take the first, and a viewer may choose a language that muxers disable
//! ```
//! A rule counts only where it leaves a track of its kind: some muxers set no flag on any track.
//! Invariant: a kind that has a playable track keeps one.
//! ISO 14496-12 s8.3.2: flags and alternate group of `tkhd`.

use super::header::TrackHeader;
use crate::media::asset::Track;
use crate::media::codec::MediaKind;

/// What the choice looks at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) kind: MediaKind,
    pub(super) header: TrackHeader,
    /// Samples that are shown.
    samples: u32,
    /// Time from the first sample to the end of the last one.
    length_ns: i64,
}

impl Candidate {
    pub(super) fn of(track: &Track, header: TrackHeader) -> Self {
        let schedule = track.schedule();
        let first = schedule.sample(0).map_or(0, |sample| sample.pts);
        let first = crate::base::time::Npt::from_ticks(first, track.timescale);
        Self {
            kind: track.kind,
            header,
            samples: schedule.count(),
            length_ns: track.end.0.saturating_sub(first.0),
        }
    }

    /// A picture, or a handful of them that last no time to speak of beside `all_ns`.
    fn is_still(&self, all_ns: i64) -> bool {
        let is_short = self.length_ns <= all_ns / STILL_SHARE;
        self.samples == 1 || (self.samples <= STILLS_MAX && is_short)
    }
}

/// Why each candidate is left out; `None` for those that are offered.
pub(super) fn left_out(candidates: &[Candidate]) -> Vec<Option<&'static str>> {
    let mut reasons = vec![None; candidates.len()];
    let longest = |kind| {
        let of_kind = candidates.iter().filter(|c| c.kind == kind);
        of_kind.map(|c| c.length_ns).max().unwrap_or(0)
    };
    let (picture_ns, sound_ns) = (longest(MediaKind::Video), longest(MediaKind::Audio));
    let is_film = |c: &Candidate| c.kind == MediaKind::Video && !c.is_still(picture_ns);
    let has_film = candidates.iter().any(is_film);
    let drop = |reasons: &mut Vec<Option<&str>>, why, is_dropped: &dyn Fn(&Candidate) -> bool| {
        for (reason, _) in reasons.iter_mut().zip(candidates).filter(|(_, c)| is_dropped(c)) {
            reason.get_or_insert(why);
        }
    };
    // Without a film a picture stays when it is on the screen for a good part of the sound. A
    // cover is not: it would be one packet, and seeks would go to the only sync sample.
    drop(&mut reasons, STILL, &|c| {
        let is_cover = sound_ns > 0 && c.length_ns <= sound_ns / STILL_SHARE;
        c.kind == MediaKind::Video && (has_film || is_cover) && !is_film(c)
    });
    for kind in [MediaKind::Video, MediaKind::Audio] {
        let has = |reasons: &[Option<&str>], is_wanted: fn(TrackHeader) -> bool| {
            let mut left = reasons.iter().zip(candidates).filter(|(reason, _)| reason.is_none());
            left.any(|(_, c)| c.kind == kind && is_wanted(c.header))
        };
        if has(&reasons, TrackHeader::is_in_movie) {
            drop(&mut reasons, NOT_IN_MOVIE, &|c| c.kind == kind && !c.header.is_in_movie());
        }
        if kind == MediaKind::Video && has(&reasons, TrackHeader::is_enabled) {
            drop(&mut reasons, NOT_ENABLED, &|c| c.kind == kind && !c.header.is_enabled());
        }
    }
    let mut groups = Vec::new();
    for (reason, candidate) in reasons.iter_mut().zip(candidates) {
        let group = candidate.header.alternate_group;
        if reason.is_some() || candidate.kind != MediaKind::Video || group == 0 {
            continue;
        }
        if groups.contains(&group) {
            *reason = Some(ALTERNATE);
        }
        groups.push(group);
    }
    reasons
}

/// Order in which tracks are offered, as places in `candidates`: as in the file, but enabled sound
/// in front of sound that is not.
pub(super) fn order(candidates: &[Candidate]) -> Vec<usize> {
    let is_sound =
        |place: &usize| candidates.get(*place).is_some_and(|c| c.kind == MediaKind::Audio);
    let mut sound: Vec<usize> = (0..candidates.len()).filter(is_sound).collect();
    sound.sort_by_key(|place| candidates.get(*place).is_some_and(|c| !c.header.is_enabled()));
    let mut sound = sound.into_iter();
    let in_order = |place: usize| if is_sound(&place) { sound.next() } else { Some(place) };
    (0..candidates.len()).filter_map(in_order).collect()
}

const STILL: &str = "a still picture (cover) and not a film";
const NOT_IN_MOVIE: &str = "not part of the presentation (tkhd: not in movie)";
const NOT_ENABLED: &str = "not enabled (tkhd)";
const ALTERNATE: &str = "an alternate of a video track that is offered (tkhd)";

/// Covers of front, back and sleeve in one track.
const STILLS_MAX: u32 = 4;

/// A still lasts at most a tenth of what it stands beside.
const STILL_SHARE: i64 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: i64 = 1_000_000_000;

    /// A `tkhd` with these flags and this alternate group.
    fn header(flags: u32, group: u8) -> TrackHeader {
        let mut body = vec![0; 84];
        body[..4].copy_from_slice(&flags.to_be_bytes());
        body[15] = 1;
        body[35] = group;
        TrackHeader::read(&body).unwrap()
    }

    fn film(flags: u32) -> Candidate {
        let header = header(flags, 0);
        Candidate { kind: MediaKind::Video, header, samples: 100, length_ns: 4 * S }
    }

    fn cover(flags: u32) -> Candidate {
        Candidate { samples: 1, length_ns: 33_333, ..film(flags) }
    }

    fn sound(flags: u32) -> Candidate {
        Candidate { kind: MediaKind::Audio, ..film(flags) }
    }

    /// Places that are offered, in order.
    fn offered(candidates: &[Candidate]) -> Vec<usize> {
        let reasons = left_out(candidates);
        order(candidates).into_iter().filter(|place| reasons[*place].is_none()).collect()
    }

    #[test]
    fn cover_beside_a_film_is_left_out_whatever_its_flags() {
        for (cover_flags, film_flags) in [(3, 3), (3, 2), (2, 3), (0, 0), (7, 0), (1, 2)] {
            let [cover, film] = [cover(cover_flags), film(film_flags)];
            assert_eq!(offered(&[cover, film]), [1], "{cover_flags} {film_flags}");
            assert_eq!(offered(&[film, sound(3), cover]), [0, 1]);
        }
        let covers = Candidate { samples: 3, length_ns: S / 10, ..film(3) };
        assert_eq!(offered(&[covers, film(3)]), [1]);
        // One picture for a minute is still no film.
        let card = Candidate { samples: 1, length_ns: 60 * S, ..film(3) };
        assert_eq!(offered(&[card, film(3)]), [1]);
        // Four pictures for four seconds are one.
        let slow = Candidate { samples: 4, ..film(3) };
        assert_eq!(offered(&[slow, film(3)]), [0, 1]);
    }

    #[test]
    fn picture_without_a_film_is_shown_when_it_lasts() {
        assert_eq!(offered(&[cover(3)]), [0]);
        assert_eq!(offered(&[cover(3), sound(3)]), [1]);
        let card = Candidate { samples: 1, length_ns: 4 * S, ..film(3) };
        assert_eq!(offered(&[card, sound(3)]), [0, 1]);
    }

    #[test]
    fn video_that_is_not_enabled_is_left_out_beside_one_that_is() {
        assert_eq!(offered(&[film(2), film(3)]), [1]);
        assert_eq!(offered(&[film(3), film(2), film(3)]), [0, 2]);
        assert_eq!(left_out(&[film(2), film(3)]), [Some(NOT_ENABLED), None]);
    }

    #[test]
    fn flags_that_no_track_has_mean_nothing() {
        assert_eq!(offered(&[film(0), sound(0), sound(0)]), [0, 1, 2]);
        assert_eq!(offered(&[film(6), sound(6)]), [0, 1]);
        assert_eq!(offered(&[film(3), sound(2)]), [0, 1], "the only sound");
        assert_eq!(offered(&[film(2), sound(3)]), [0, 1], "the only picture");
    }

    #[test]
    fn enabled_sound_is_offered_first_and_other_languages_behind_it() {
        assert_eq!(offered(&[film(3), sound(2), sound(3), sound(2)]), [0, 2, 1, 3]);
        assert_eq!(offered(&[sound(2), film(3), sound(3)]), [2, 1, 0]);
    }

    #[test]
    fn tracks_of_the_preview_alone_are_left_out() {
        assert_eq!(offered(&[film(5), film(7), sound(5), sound(7)]), [1, 3]);
        assert_eq!(offered(&[film(5), sound(5)]), [0, 1], "a presentation that is all preview");
        assert_eq!(offered(&[film(1), sound(1)]), [0, 1]);
    }

    #[test]
    fn one_video_of_an_alternate_group_is_offered_and_all_its_sound() {
        let grouped = |mut candidate: Candidate, group| {
            candidate.header = header(3, group);
            candidate
        };
        let [a, b, c] = [(1), (2), (1)].map(|group| grouped(film(3), group));
        assert_eq!(offered(&[a, b, c]), [0, 1]);
        let disabled = Candidate { header: header(2, 1), ..film(2) };
        assert_eq!(offered(&[disabled, c]), [1]);
        assert_eq!(offered(&[grouped(sound(3), 1), grouped(sound(3), 1)]), [0, 1]);
    }

    proptest! {
        #[test]
        fn each_kind_that_can_be_played_keeps_a_track(
            parts in prop::collection::vec((any::<bool>(), 0u32..8, 0u8..3, 1u32..6, 0i64..9), 1..9)
        ) {
            let candidate = |(is_video, flags, group, samples, seconds)| Candidate {
                kind: if is_video { MediaKind::Video } else { MediaKind::Audio },
                header: header(flags, group),
                samples,
                length_ns: seconds * S,
            };
            let candidates: Vec<Candidate> = parts.into_iter().map(candidate).collect();
            let places = offered(&candidates);
            let has = |kind| candidates.iter().any(|c| c.kind == kind);
            let keeps = |kind| places.iter().any(|place| candidates[*place].kind == kind);
            prop_assert_eq!(has(MediaKind::Audio), keeps(MediaKind::Audio));
            // A cover beside sound may go; a film never does.
            let is_left = keeps(MediaKind::Video) || keeps(MediaKind::Audio);
            prop_assert!(is_left && (keeps(MediaKind::Video) <= has(MediaKind::Video)));
            let film = |c: &Candidate| c.kind == MediaKind::Video && c.samples > STILLS_MAX;
            prop_assert!(!candidates.iter().any(film) || keeps(MediaKind::Video));
        }
    }
}

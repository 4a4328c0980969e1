//! Requests for key frames on behalf of readers, and changes of a path's description.
//!
//! ```text
//!  reader lost a frame (PLI, FIR) --2 s apart--> owner --0.5 s apart--> source
//!  source sends other parameter sets --> new text --> owner --> shards that listen
//! ```
//! Invariant: a changed description keeps its tracks. Present readers continue, because the
//! parameter sets that they need come in band; new readers get the new description. DESIGN section
//! 5.8.

use std::sync::Arc;

use crate::base::time::Mono;
use crate::live::core::batch::Generation;
use crate::live::core::description::Description;
use crate::live::core::limits::LOSS_SYNC_INTERVAL;
use crate::live::core::path::LivePath;

impl LivePath {
    /// A reader has reported a lost frame. True when the source is to be asked for a key frame.
    pub fn wants_sync(&mut self, now: Mono) -> bool {
        let is_fresh = |asked: Mono| now.since(asked) < LOSS_SYNC_INTERVAL;
        if self.description().sync_track().is_none() || self.sync_wanted.is_some_and(is_fresh) {
            return false;
        }
        self.sync_wanted = Some(now);
        true
    }

    /// Whether a reader that starts now has to wait for a key frame.
    #[must_use]
    pub fn lacks_sync(&self) -> bool {
        self.description().sync_track().is_some() && self.ring().newest_start().is_none()
    }

    /// The source has changed the description of the same tracks. False when the source does not
    /// feed the path any more, or when the tracks differ.
    pub fn redescribe(&mut self, generation: Generation, description: Arc<Description>) -> bool {
        let continues_source =
            generation == self.generation && self.description.continues(&description);
        if continues_source {
            self.description = description;
        }
        continues_source
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::live::core::batch::BatchBuilder;
    use crate::live::core::batch::tests::{arrival, packet};
    use crate::live::core::description::LiveTrack;
    use crate::live::core::path::PathLimits;

    fn description(sdp: &str, identity: &str, needs_sync: bool) -> Arc<Description> {
        let (clock_rate_hz, payload_types) = (90_000, vec![96]);
        let identity = identity.into();
        let track = LiveTrack { clock_rate_hz, payload_types, needs_sync, identity };
        Arc::new(Description::new(sdp.into(), vec![track]).unwrap())
    }

    fn path(needs_sync: bool) -> LivePath {
        let of_source = (Generation(1), description("old", "a", needs_sync));
        LivePath::new("live/a".into(), of_source, Vec::new(), PathLimits::default(), Mono(0))
    }

    #[test]
    fn lost_pictures_make_one_request_in_two_seconds_and_lost_sound_none() {
        let (mut path, at) = (path(true), |ms| Mono(0) + Duration::from_millis(ms));
        let asked: Vec<bool> = [0, 1, 1_999, 2_000, 2_001].map(|ms| path.wants_sync(at(ms))).into();
        assert_eq!(asked, [true, false, false, true, false]);
        assert!(!self::path(false).wants_sync(at(0)));
    }

    #[test]
    fn path_lacks_a_key_frame_until_one_has_come() {
        let mut path = path(true);
        assert!(path.lacks_sync());
        let mut builder = BatchBuilder::default();
        builder.push(&arrival(&packet(1, 2, 3, 100), 0, true), Mono(0)).unwrap();
        path.push(Arc::new(builder.build(Generation(1), |_| None).unwrap()), Mono(0));
        assert!(!path.lacks_sync());
        assert!(!self::path(false).lacks_sync(), "sound begins anywhere");
    }

    #[test]
    fn description_is_replaced_by_its_own_source_and_with_the_same_tracks_only() {
        let mut path = path(true);
        assert!(!path.redescribe(Generation(0), description("new", "a", true)));
        assert!(!path.redescribe(Generation(1), description("new", "b", true)));
        assert_eq!(&*path.description().sdp, "old");
        assert!(path.redescribe(Generation(1), description("new", "a", true)));
        assert_eq!(&*path.description().sdp, "new");
    }
}

//! A server that is drained: what comes for a new session is sent to another server, or away.
//!
//! ```text
//!  drain --> DESCRIBE, SETUP, ANNOUNCE without a session: 302, Location; or 503, Retry-After
//!            page or multivariant playlist of HLS: likewise
//!            requests of sessions and viewers that are there: as ever
//!            at the deadline: sessions end as if an operator ended them, some a turn; live
//!            playlists end, and requests of viewers get 503
//!  undrain --> as before
//! ```
//! Sources that the server fetches itself go on: they are nobody's sessions.
//! Bound: `SESSIONS_ENDED_A_TURN`.

use std::time::Duration;

use crate::base::time::Mono;
use crate::config::redirect::Redirect;
use crate::metrics::cells::ShardCells;
use crate::rtsp::request::{Method, Request};
use crate::rtsp::response::{Response, Status};

/// What an operator has ordered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DrainOrder {
    /// Sessions that are left after this time are ended; `None`: they may stay.
    pub after: Option<Duration>,
    /// Where clients are sent.
    pub redirect: Redirect,
}

/// A shard that takes no new sessions.
#[derive(Debug, Clone)]
pub struct Drain {
    redirect: Redirect,
    deadline: Option<Mono>,
}

/// What a viewer that is turned away is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewerAway {
    /// To go on there.
    To(String),
    /// To come again after this time.
    Later(Duration),
}

impl Drain {
    /// Begins at `now`.
    #[must_use]
    pub fn new(order: DrainOrder, now: Mono) -> Self {
        let deadline = order.after.map(|after| now + after);
        Self { redirect: order.redirect, deadline }
    }

    /// When the sessions that are left end.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.deadline
    }

    /// Whether the time of sessions and viewers that were left is over.
    #[must_use]
    pub fn is_over(&self, now: Mono) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// The answer to a viewer's request for a path with its query. `begins`: viewers begin with
    /// such a request. `None`: it is answered as ever.
    #[must_use]
    pub fn turn_viewer_away(
        &self,
        path_and_query: &str,
        begins: bool,
        now: Mono,
    ) -> Option<ViewerAway> {
        if !begins && !self.is_over(now) {
            return None;
        }
        // One who has segments of this server finds none of the same names on another.
        let location = self.redirect.hls_location(path_and_query).filter(|_| begins);
        let later = || ViewerAway::Later(Duration::from_secs(self.retry_s(now)));
        Some(location.map_or_else(later, ViewerAway::To))
    }

    /// The answer to a request that may begin a session. `None`: it begins none.
    pub fn turn_away(
        &self,
        request: &Request,
        is_secure: bool,
        cells: &ShardCells,
        now: Mono,
    ) -> Option<Response> {
        if !matches!(request.method, Method::Describe | Method::Setup | Method::Announce) {
            return None;
        }
        let location = self.redirect.location(&request.uri, is_secure);
        let answer = if location.is_some() { REDIRECTED } else { REFUSED };
        cells.drain_answers[answer].add(1);
        Some(match location {
            Some(location) => {
                Response::new(Status::MovedTemporarily, request.cseq).header("Location", location)
            }
            None => Response::new(Status::ServiceUnavailable, request.cseq)
                .header("Retry-After", self.retry_s(now).to_string()),
        })
    }

    /// Seconds until it may be worth another try: the server may be there again, or a new one, once
    /// its last session has ended.
    fn retry_s(&self, now: Mono) -> u64 {
        let left = self.deadline.map_or(RETRY, |deadline| deadline.since(now));
        left.clamp(RETRY_MIN, RETRY).as_secs()
    }
}

/// Places in [`crate::metrics::cells::DRAIN_ANSWERS`].
const REDIRECTED: usize = 0;
const REFUSED: usize = 1;
/// Clients come again at least this often.
const RETRY: Duration = Duration::from_secs(60);
/// And no sooner than this.
const RETRY_MIN: Duration = Duration::from_secs(5);
/// Sessions ended in one turn at the deadline: each has a few BYEs, and the ring so many sends.
pub const SESSIONS_ENDED_A_TURN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Mono = Mono(1_000_000_000_000);

    fn answered(order: DrainOrder, method: Method, is_secure: bool) -> Option<(u16, String)> {
        let request = Request::new_for_test(method, "rtsp://a/vod/x.mp4?t=1", &[], b"");
        let cells = ShardCells::default();
        let response = Drain::new(order, NOW).turn_away(&request, is_secure, &cells, NOW)?;
        let counted: u64 = cells.drain_answers.iter().map(|cell| cell.value()).sum();
        assert_eq!(counted, 1);
        let header =
            response.header_value("Location").or_else(|| response.header_value("Retry-After"));
        Some((response.status().code(), header.unwrap_or_default().to_owned()))
    }

    #[test]
    fn request_for_a_new_session_is_redirected_or_refused_and_others_are_not() {
        let to = |url: &str| DrainOrder { after: None, redirect: Redirect::parse(&[url]).unwrap() };
        for method in [Method::Describe, Method::Setup, Method::Announce] {
            let moved = (302, "rtsp://b/vod/x.mp4?t=1".to_owned());
            assert_eq!(answered(to("rtsp://b"), method.clone(), false), Some(moved));
            let refused = Some((503, "60".to_owned()));
            assert_eq!(answered(to("rtsp://b"), method.clone(), true), refused);
            assert_eq!(answered(DrainOrder::default(), method, false), refused);
        }
        for method in [Method::Options, Method::Play, Method::Teardown, Method::GetParameter] {
            assert_eq!(answered(DrainOrder::default(), method, false), None);
        }
    }

    #[test]
    fn viewer_who_begins_is_turned_away_and_others_at_the_deadline() {
        let after = Some(Duration::from_secs(30));
        let redirect = Redirect::parse(&["http://b"]).unwrap();
        let drain = Drain::new(DrainOrder { after, redirect }, NOW);
        let later = |s| Some(ViewerAway::Later(Duration::from_secs(s)));
        let to = Some(ViewerAway::To("http://b/a/index.m3u8".to_owned()));
        let deadline = NOW + Duration::from_secs(30);
        for (begins, now, expected) in [
            (true, NOW, to.clone()),
            (false, NOW, None),
            (true, deadline, to),
            (false, deadline, later(5)),
        ] {
            assert_eq!(drain.turn_viewer_away("/a/index.m3u8", begins, now), expected);
        }
        let without = Drain::new(DrainOrder { after, ..DrainOrder::default() }, NOW);
        assert_eq!(without.turn_viewer_away("/a/", true, NOW), later(30));
    }

    #[test]
    fn client_comes_again_when_the_last_session_has_ended() {
        for (after_s, retry) in [(1, "5"), (30, "30"), (3_600, "60")] {
            let after = Some(Duration::from_secs(after_s));
            let order = DrainOrder { after, ..DrainOrder::default() };
            let answer = answered(order, Method::Describe, false);
            assert_eq!(answer, Some((503, retry.to_owned())));
        }
    }
}

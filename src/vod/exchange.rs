//! Exchanges the feed of a playing session for another title under the same wire identity.
//!
//! ```text
//!  NextFeed::new --wanted, handle_window--> windows at hand --Vod::exchange_feed--> playing
//!                                                               `--FeedError--> the old feed stays
//!
//!  old   ..[f 17][f 18]|                 wall clock and RTP time keep their mapping, so sender
//!  new                 |[sync 19][f 20]  reports agree before and after
//! ```
//! The next feed gets its windows while the old feed still plays. The exchange takes place between
//! two packets and allocates nothing. Runs that the old feed has handed to the socket are sent. A
//! run that the socket refuses gives its sequence numbers back, if the new feed has sent nothing.
//!
//! Invariants: sequence numbers go up by one. RTP time stays above all that was sent and follows
//! the wall clock. Each stream begins with a sync sample. A feed that differs from the SDP (codec,
//! payload format, clock rate, channels) is refused, and so is any feed once a stream has said BYE.
//! A refusal changes nothing.
//! Bound: one cursor for each stream.

use std::sync::Arc;

use crate::base::time::{Mono, Npt, rescale};
use crate::library::title::Title;
use crate::media::asset::Track;
use crate::media::codec::MediaKind;
use crate::media::exchange::{TrackDiffers, check_exchange};
use crate::media::window::{PacketWindow, WindowKey};
use crate::session::cx::Cx;
use crate::session::directory::{SessionKey, StreamRef};
use crate::vod::cursor::{Cursor, Next};
use crate::vod::epoch::Epoch;
use crate::vod::methods::play::{first_due, first_npt};
use crate::vod::playback::{Session, State};
use crate::vod::position::{self, Start, actual_start, is_sent};
use crate::vod::service::Vod;
use crate::vod::stream::Phase;

/// A title that is prepared to feed a session.
#[derive(Debug)]
pub struct NextFeed {
    pub(super) title: Arc<Title>,
    /// Position in `title` at which the feed begins.
    pub(super) npt: Npt,
    /// Scale for which the cursors were made.
    scale: f64,
    /// In the order of the session's streams.
    pub(super) streams: Vec<NextStream>,
    /// `npt` in RTP ticks, for each stream.
    pub(super) anchors: Vec<i64>,
}

#[derive(Debug)]
pub(super) struct NextStream {
    pub(super) track_index: u8,
    pub(super) is_video: bool,
    /// `None`: the scale mutes the stream, or the title has nothing for it.
    pub(super) cursor: Option<Cursor>,
}

/// Why a feed is refused. The session and the feed are as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// The session is gone or does not play.
    #[error("the session does not play")]
    NotPlaying,
    /// The title has too few tracks of a stream's kind.
    #[error("stream {stream}: the title has no {kind} track left")]
    NoTrack {
        /// Place of the stream in the session.
        stream: usize,
        /// Kind of media that the stream plays.
        kind: &'static str,
    },
    /// A track differs from the SDP that the client has.
    #[error("stream {stream}: {what} is {found}, and the client was told {told}")]
    Differs {
        /// Place of the stream in the session.
        stream: usize,
        /// Name of the parameter that differs.
        what: &'static str,
        /// Value in the SDP.
        told: String,
        /// Value in the title.
        found: String,
    },
    /// A stream has said BYE: its player has dropped the SSRC (RFC 3550 s6.6).
    #[error("stream {stream}: it has said BYE")]
    Ended {
        /// Place of the stream in the session.
        stream: usize,
    },
    /// A track has no sample at or after the position.
    #[error("stream {stream}: the title has nothing to send there")]
    Empty {
        /// Place of the stream in the session.
        stream: usize,
    },
    /// The scale or the streams of the session have changed since the feed was made.
    #[error("the session has changed since the feed was made ready")]
    Changed,
    /// The first window of a stream has not come yet.
    #[error("stream {stream}: its first window is not here yet")]
    NotHere {
        /// Place of the stream in the session.
        stream: usize,
    },
}

impl NextFeed {
    /// Makes cursors of `title` for all streams of a session, at the sync sample at or before
    /// `npt`.
    ///
    /// # Errors
    /// The session does not play, or the title does not fit its streams.
    pub fn new(session: &Session, title: &Arc<Title>, npt: Npt) -> Result<Self, FeedError> {
        let scale = session.epoch.ok_or(FeedError::NotPlaying)?.scale;
        let tracks = matching_tracks(session, title)?;
        let tracks: Vec<_> = tracks.into_iter().map(Some).collect();
        Self::of_tracks(title, &tracks, npt, scale)
    }

    /// Makes cursors of these tracks, in the order of a session's streams; `None` is a stream that
    /// the title has nothing for.
    ///
    /// # Errors
    /// A track is none of the title's, or has nothing to send.
    pub fn of_tracks(
        title: &Arc<Title>,
        tracks: &[Option<u8>],
        npt: Npt,
        scale: f64,
    ) -> Result<Self, FeedError> {
        let track_of = |index: u8| title.asset.tracks.get(usize::from(index));
        let npt = actual_start(tracks.iter().filter_map(|index| track_of((*index)?)), npt);
        let (mut streams, mut anchors) = (Vec::new(), Vec::new());
        for (stream, index) in tracks.iter().enumerate() {
            let Some(track_index) = *index else {
                anchors.push(0);
                streams.push(NextStream { track_index: u8::MAX, is_video: false, cursor: None });
                continue;
            };
            let track = track_of(track_index).ok_or(FeedError::Changed)?;
            let start = match is_sent(track, scale) {
                true => {
                    Some(position::start(track, npt, scale).ok_or(FeedError::Empty { stream })?)
                }
                false => None,
            };
            anchors.push(start.as_ref().map_or(0, |start| start.anchor_ticks));
            let cursor = start.map(|Start { cursor, .. }| cursor);
            let is_video = track.kind == MediaKind::Video;
            streams.push(NextStream { track_index, is_video, cursor });
        }
        Ok(Self { title: Arc::clone(title), npt, scale, streams, anchors })
    }

    /// The title.
    pub fn title(&self) -> Arc<Title> {
        Arc::clone(&self.title)
    }

    /// The first window of each stream; `None` for a stream without a feed.
    pub fn first_windows(&self) -> impl Iterator<Item = Option<WindowKey>> {
        self.streams.iter().map(|stream| {
            let cursor = stream.cursor.as_ref()?;
            let (track_index, kind) = (stream.track_index, cursor.kind());
            Some(WindowKey { track_index, kind, index: cursor.wanted()? })
        })
    }

    /// Whether the first frame of each stream can be sent.
    ///
    /// # Errors
    /// `NotHere` while a window is missing; `Empty` for a stream that ends before it begins.
    pub fn check_frames(&mut self, now: Mono) -> Result<(), FeedError> {
        for (stream, next) in self.streams.iter_mut().enumerate() {
            next.check_frame(stream, now)?;
        }
        Ok(())
    }

    /// Windows that the feed needs for the exchange or soon after, and does not have yet.
    pub fn wanted(&self) -> impl Iterator<Item = WindowKey> {
        self.streams.iter().filter_map(|stream| {
            let cursor = stream.cursor.as_ref()?;
            let (track_index, kind) = (stream.track_index, cursor.kind());
            Some(WindowKey { track_index, kind, index: cursor.wanted()? })
        })
    }

    /// Takes a window of the title.
    pub fn handle_window(&mut self, key: WindowKey, window: &Arc<PacketWindow>) {
        for stream in &mut self.streams {
            let cursor = stream.cursor.as_mut().filter(|cursor| cursor.kind() == key.kind);
            if let Some(cursor) = cursor.filter(|_| stream.track_index == key.track_index) {
                cursor.handle_window(key.index, Arc::clone(window));
            }
        }
    }

    /// Checks whether the exchange can take place at `now`.
    fn check(&mut self, session: &Session, scale: f64, now: Mono) -> Result<(), FeedError> {
        #[expect(clippy::float_cmp, reason = "the same value, or another PLAY has come")]
        if self.scale != scale || self.streams.len() != session.streams.len() {
            return Err(FeedError::Changed);
        }
        for (index, (next, stream)) in self.streams.iter_mut().zip(&session.streams).enumerate() {
            if stream.phase == Phase::Ended {
                return Err(FeedError::Ended { stream: index });
            }
            let told = session.described_track(stream).ok_or(FeedError::Changed)?;
            let track = self.title.asset.tracks.get(usize::from(next.track_index));
            check_track(index, told, track.ok_or(FeedError::Changed)?)?;
            next.check_frame(index, now)?;
        }
        Ok(())
    }
}

impl NextStream {
    fn check_frame(&mut self, stream: usize, now: Mono) -> Result<(), FeedError> {
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        match cursor.peek() {
            Next::Frame(_) if cursor.check_pages(now) => Ok(()),
            Next::Frame(_) | Next::Waiting => Err(FeedError::NotHere { stream }),
            Next::End => Err(FeedError::Empty { stream }),
        }
    }
}

impl Vod {
    /// Feeds a playing session from another title, from the next packet on. `next` is used up.
    ///
    /// # Errors
    /// The feed is refused; the old feed goes on.
    pub fn exchange_feed(
        &mut self,
        cx: &mut Cx,
        key: SessionKey,
        next: &mut NextFeed,
    ) -> Result<(), FeedError> {
        let now = cx.now;
        let session = self.players.slab.get_mut(key.0 as usize).ok_or(FeedError::NotPlaying)?;
        let (State::Playing, Some(old)) = (&session.state, session.epoch) else {
            return Err(FeedError::NotPlaying);
        };
        next.check(session, old.scale, now)?;
        let ended_epoch = session.epoch_count;
        session.end_epoch(&mut cx.wheel);
        std::mem::swap(&mut session.title, &mut next.title);
        session.end = None;
        for (stream, next) in session.streams.iter_mut().zip(&mut next.streams) {
            let is_video = next.is_video;
            stream.exchange(&mut next.track_index, &mut next.cursor, is_video, ended_epoch);
        }
        let npt = first_npt(session, next.npt, &mut next.anchors);
        let due_zero = first_due(session, npt, old.scale);
        let epoch = old.exchanged(self.stagger.next(now), npt, due_zero);
        let lacking_ns = lacking_ns(session, next, &old, &epoch);
        let epoch = epoch.put_off(lacking_ns.max(0));
        session.epoch = Some(epoch);
        let epoch_count = session.epoch_count;
        for (stream, anchor) in session.streams.iter_mut().zip(&next.anchors) {
            stream.begin_epoch(&epoch, *anchor, None);
        }
        for index in 0..next.streams.len() {
            let stream_index = u8::try_from(index).unwrap_or(u8::MAX);
            if self
                .players
                .stream_mut(key, index)
                .is_some_and(|stream| stream.feed.cursor.is_some())
            {
                self.request_windows(cx, key, stream_index);
                self.players.schedule(
                    cx,
                    StreamRef { session: key, stream_index, epoch_count },
                    epoch.wall,
                );
            }
        }
        // Its anchors are not those of the old cursors.
        next.streams.clear();
        self.players.wait_for_report(cx, key, now);
        Ok(())
    }
}

/// Playout time by which the first frames of the new feed are too early to follow what was sent.
/// `next` holds the cursors of the old feed.
fn lacking_ns(session: &mut Session, next: &mut NextFeed, old: &Epoch, epoch: &Epoch) -> i64 {
    let NextFeed { streams, anchors, .. } = next;
    let olds = streams.iter_mut().map(|next| next.cursor.as_mut());
    let all = session.streams.iter_mut().zip(olds).zip(anchors.iter());
    let lacking = all.filter_map(|((stream, old_cursor), anchor)| {
        let sent_ns = stream.playout_sent_ns(old);
        let gap_ns = match old_cursor.map(Cursor::peek) {
            Some(Next::Frame(frame)) => stream.playout_of(old, &frame) - sent_ns,
            Some(Next::Waiting | Next::End) | None => 0,
        };
        // In a reordered picture the next frame is shown before the last one.
        let gap_ns = if gap_ns > 0 { gap_ns.min(GAP_NS_MAX) } else { RTP_TIME_STEP_NS };
        let Next::Frame(first) = stream.feed.cursor.as_mut()?.peek() else { return None };
        let ticks = epoch.rtp_delta(&first, *anchor);
        let since_ns = rescale(ticks, stream.outgoing.clock_rate_hz, 1_000_000_000);
        let first_ns = epoch.playout_ns.saturating_add(since_ns);
        Some(sent_ns.saturating_add(gap_ns).saturating_sub(first_ns))
    });
    lacking.max().unwrap_or(0)
}

/// Chooses a track of `title` for each stream: the first one of its kind that agrees with the SDP
/// and feeds no other stream.
fn matching_tracks(session: &Session, title: &Title) -> Result<Vec<u8>, FeedError> {
    let mut taken: Vec<u8> = Vec::new();
    for (stream, of) in session.streams.iter().enumerate() {
        let told = session.described_track(of).ok_or(FeedError::Changed)?;
        let mut refused = FeedError::NoTrack { stream, kind: told.kind.as_str() };
        let mut found = None;
        for (index, track) in (0..=u8::MAX).zip(&title.asset.tracks) {
            if track.kind != told.kind || taken.contains(&index) {
                continue;
            }
            match check_track(stream, told, track) {
                Ok(()) => {
                    found = Some(index);
                    break;
                }
                // The first of its kind is the one that was meant.
                Err(error) if matches!(refused, FeedError::NoTrack { .. }) => refused = error,
                Err(_) => {}
            }
        }
        taken.push(found.ok_or(refused)?);
    }
    Ok(taken)
}

/// Checks that track `found` may feed a stream whose SDP was made from track `told`.
fn check_track(stream: usize, told: &Track, found: &Track) -> Result<(), FeedError> {
    check_exchange(told.form(), found.form()).map_err(|TrackDiffers { what, told, found }| {
        FeedError::Differs { stream, what, told, found }
    })
}

/// Step of RTP time after the last packet, where the duration of its frame is not known.
const RTP_TIME_STEP_NS: i64 = 40_000_000;
/// Longest time that the last frame of the old feed is shown.
const GAP_NS_MAX: i64 = 100_000_000;

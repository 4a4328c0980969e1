//! Exchanges the feed of a session that plays: another title, the same wire identity.
//!
//! ```text
//!  NextFeed::new --wanted, handle_window--> windows at hand --Vod::exchange_feed--> playing
//!                                                               `--FeedError--> the old feed stays
//!
//!  old   ..[f 17][f 18]|                 wall clock and RTP time keep their mapping, so sender
//!  new                 |[sync 19][f 20]  reports agree before and after
//! ```
//! The next feed is made ready beside the old one; the exchange itself falls between two packets
//! and allocates nothing. What the old feed has handed over is sent; a run of it that the socket
//! refuses gives its numbers back as long as the new feed has sent nothing.
//!
//! Invariants: sequence numbers go on by one; RTP time is above all that was sent and follows the
//! wall clock; a stream begins with a sync sample. A feed that the client was not told of (codec,
//! payload format, clock rate, channels) is refused, and nothing has changed. So is any feed once a
//! stream has said BYE.
//! Bound: a cursor each stream.

use std::sync::Arc;

use crate::base::time::{Mono, Npt, rescale};
use crate::library::title::Title;
use crate::media::asset::Track;
use crate::media::codec::{Codec, MediaKind, PayloadFormat};
use crate::media::window::{PacketWindow, WindowKey};
use crate::session::cx::Cx;
use crate::session::directory::{SessionKey, StreamRef};
use crate::vod::cursor::{Cursor, Next};
use crate::vod::epoch::Epoch;
use crate::vod::methods::play::{first_due, first_npt};
use crate::vod::playback::{Session, State};
use crate::vod::position::{self, Start, actual_start, is_sent};
use crate::vod::stream::Phase;
use crate::vod::table::Vod;

/// A title on its way to feed a session.
#[derive(Debug)]
pub struct NextFeed {
    title: Arc<Title>,
    /// Where it begins.
    npt: Npt,
    /// The scale that its cursors are for.
    scale: f64,
    /// Of each stream of the session, in their order.
    streams: Vec<NextStream>,
    /// Ticks of `npt`, of each stream.
    anchors: Vec<i64>,
}

#[derive(Debug)]
struct NextStream {
    track_index: u8,
    is_video: bool,
    /// `None` for a stream that the scale mutes.
    cursor: Option<Cursor>,
}

/// Why a feed is refused. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// There is no such session, or it does not play.
    #[error("the session does not play")]
    NotPlaying,
    /// The title has no track of the kind that a stream plays.
    #[error("stream {stream}: the title has no {kind} track left")]
    NoTrack {
        /// Stream of the session.
        stream: usize,
        /// What it plays.
        kind: &'static str,
    },
    /// A track is not what the client was told of the stream.
    #[error("stream {stream}: {what} is {found}, and the client was told {told}")]
    Differs {
        /// Stream of the session.
        stream: usize,
        /// What differs.
        what: &'static str,
        /// What the SDP said.
        told: String,
        /// What the title has.
        found: String,
    },
    /// A stream has said BYE: its player has dropped the SSRC (RFC 3550 s6.6).
    #[error("stream {stream}: it has said BYE")]
    Ended {
        /// Stream of the session.
        stream: usize,
    },
    /// A track has no sample to begin with.
    #[error("stream {stream}: the title has nothing to send there")]
    Empty {
        /// Stream of the session.
        stream: usize,
    },
    /// The feed is for another state of the session: its scale or its streams were changed since.
    #[error("the session has changed since the feed was made ready")]
    Changed,
    /// A first window is not at hand yet.
    #[error("stream {stream}: its first window is not here yet")]
    NotHere {
        /// Stream of the session.
        stream: usize,
    },
}

impl NextFeed {
    /// Cursors of `title` for all streams of a session, at the sync sample at or before `npt`.
    ///
    /// # Errors
    /// The title cannot feed the session.
    pub fn new(session: &Session, title: &Arc<Title>, npt: Npt) -> Result<Self, FeedError> {
        let scale = session.epoch.ok_or(FeedError::NotPlaying)?.scale;
        let tracks = matching_tracks(session, title)?;
        let found = tracks.iter().filter_map(|index| title.asset.tracks.get(usize::from(*index)));
        let npt = actual_start(found, npt);
        let (mut streams, mut anchors) = (Vec::new(), Vec::new());
        for (stream, track_index) in tracks.into_iter().enumerate() {
            let track = title.asset.tracks.get(usize::from(track_index));
            let track = track.ok_or(FeedError::Changed)?;
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

    /// The windows that are still to come before it can be exchanged, and soon after.
    pub fn wanted(&self) -> impl Iterator<Item = WindowKey> {
        self.streams.iter().filter_map(|stream| {
            let cursor = stream.cursor.as_ref()?;
            let (track_index, kind) = (stream.track_index, cursor.kind());
            Some(WindowKey { track_index, kind, index: cursor.wanted()? })
        })
    }

    /// A window of the title has come.
    pub fn handle_window(&mut self, key: WindowKey, window: &Arc<PacketWindow>) {
        for stream in &mut self.streams {
            let cursor = stream.cursor.as_mut().filter(|cursor| cursor.kind() == key.kind);
            if let Some(cursor) = cursor.filter(|_| stream.track_index == key.track_index) {
                cursor.handle_window(key.index, Arc::clone(window));
            }
        }
    }

    /// Whether it can be exchanged at `now`.
    fn check(&mut self, session: &Session, scale: f64, now: Mono) -> Result<(), FeedError> {
        #[expect(clippy::float_cmp, reason = "the same value, or another PLAY has come")]
        if self.scale != scale || self.streams.len() != session.streams.len() {
            return Err(FeedError::Changed);
        }
        for (index, (next, stream)) in self.streams.iter_mut().zip(&session.streams).enumerate() {
            if stream.phase == Phase::Ended {
                return Err(FeedError::Ended { stream: index });
            }
            let told = session.described(stream).ok_or(FeedError::Changed)?;
            let track = self.title.asset.tracks.get(usize::from(next.track_index));
            check_track(index, told, track.ok_or(FeedError::Changed)?)?;
            let Some(cursor) = &mut next.cursor else { continue };
            match cursor.peek() {
                Next::Frame(_) if cursor.check_pages(now) => {}
                Next::Frame(_) | Next::Waiting => return Err(FeedError::NotHere { stream: index }),
                Next::End => return Err(FeedError::Empty { stream: index }),
            }
        }
        Ok(())
    }
}

impl Vod {
    /// From the next packet on a session that plays is fed from another title, to its end. `next`
    /// is used up then.
    ///
    /// # Errors
    /// Why the old feed stays.
    pub fn exchange_feed(
        &mut self,
        cx: &mut Cx,
        key: SessionKey,
        next: &mut NextFeed,
    ) -> Result<(), FeedError> {
        let now = cx.now;
        let session = self.slab.get_mut(key.0 as usize).ok_or(FeedError::NotPlaying)?;
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
        let epoch = old.exchanged(self.starts.next(now), npt, due_zero);
        let lacking_ns = lacking_ns(session, next, &old, &epoch);
        let epoch = epoch.put_off(lacking_ns.max(0));
        session.epoch = Some(epoch);
        let epoch_count = session.epoch_count;
        for (stream, anchor) in session.streams.iter_mut().zip(&next.anchors) {
            stream.begin_epoch(&epoch, *anchor, None);
        }
        for index in 0..next.streams.len() {
            let stream_index = u8::try_from(index).unwrap_or(u8::MAX);
            if self.stream_mut(key, index).is_some_and(|stream| stream.feed.cursor.is_some()) {
                self.request_windows(cx, key, stream_index);
                self.schedule(
                    cx,
                    StreamRef { session: key, stream_index, epoch_count },
                    epoch.wall,
                );
            }
        }
        // Its anchors are not those of the old cursors.
        next.streams.clear();
        self.wait_for_report(cx, key, now);
        Ok(())
    }
}

/// By how much playout time the first frames of a feed come too early to follow what was sent.
/// `next` holds the cursors of the old feed already.
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

/// The track of `title` that feeds each stream: the first of its kind that is what the client was
/// told, and feeds no other.
fn matching_tracks(session: &Session, title: &Title) -> Result<Vec<u8>, FeedError> {
    let mut taken: Vec<u8> = Vec::new();
    for (stream, of) in session.streams.iter().enumerate() {
        let told = session.described(of).ok_or(FeedError::Changed)?;
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

/// Whether a track may feed a stream that the client was told of as `told`. Its payload type does
/// not matter: the stream keeps its own.
fn check_track(stream: usize, told: &Track, found: &Track) -> Result<(), FeedError> {
    let differs =
        |what, told: String, found: String| Err(FeedError::Differs { stream, what, told, found });
    let (a, b) = (&told.payload, &found.payload);
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
    // Another configuration comes with the sync sample, for codecs that carry theirs.
    let is_in_band = |track: &Track| {
        track.hint.is_none() && track.codec.as_ref().is_some_and(Codec::is_configured_in_band)
    };
    if a.fmtp != b.fmtp && !(is_in_band(told) && is_in_band(found)) {
        let text = |format: &PayloadFormat| format.fmtp.clone().unwrap_or_default();
        return differs("codec configuration", text(a), text(b));
    }
    Ok(())
}

/// After what was sent RTP time steps on by this, where the next frame tells nothing.
const RTP_TIME_STEP_NS: i64 = 40_000_000;
/// A frame that is shown for longer makes way.
const GAP_NS_MAX: i64 = 100_000_000;

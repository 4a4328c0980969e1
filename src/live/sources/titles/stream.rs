//! The RTP streams of a path that is fed by titles, and the tracks of titles that may feed them.
//!
//! ```text
//!  first title  video H264, audio AAC config=1190   makes the streams and the description
//!  next title   audio AAC config=1190, video H264   may follow, whatever the order of its tracks
//!               video H264                          may follow: the sound pauses
//!               video H265                          is skipped
//! ```
//! Invariants: SSRC, payload type and encoding of a stream never change; its sequence numbers go
//! up by one with each packet. Bound: `LIVE_TRACKS_MAX` streams.

use std::net::{IpAddr, Ipv4Addr};

use rand::Rng;

use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::random;
use crate::base::time::Npt;
use crate::library::title::Title;
use crate::live::core::limits::LIVE_TRACKS_MAX;
use crate::live::sources::titles::seam::Line;
use crate::media::asset::Track;
use crate::media::codec::{MediaKind, PayloadFormat};
use crate::media::exchange::{TrackForm, check_exchange};
use crate::sdp;
use crate::sdp::read::read_session;
use crate::sdp::session::SessionSdp;

/// One stream of the path.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) ssrc: Ssrc,
    seq: SeqNo,
    /// RTP time at the timeline's start.
    base: RtpTs,
    payload: PayloadFormat,
    is_configured_in_band: bool,
    pub(crate) line: Line,
    /// Tick of the frame that is being sent; `None` for one that is left out.
    ticks: Option<i64>,
    /// Track of the title that has made the stream.
    made_of: u8,
}

impl Stream {
    fn new(index: u8, track: &Track) -> Self {
        let mut rng = random::rng();
        let form = track.form();
        let [high, low, ..] = rng.next_u32().to_be_bytes();
        Self {
            ssrc: Ssrc(rng.next_u32()),
            seq: SeqNo(u16::from_be_bytes([high, low])),
            base: RtpTs(rng.next_u32()),
            payload: track.payload.clone(),
            is_configured_in_band: form.is_configured_in_band,
            line: Line::new(track.kind, track.payload.clock_rate_hz),
            ticks: None,
            made_of: index,
        }
    }

    fn form(&self) -> TrackForm<'_> {
        let (payload, is_configured_in_band) = (&self.payload, self.is_configured_in_band);
        TrackForm { kind: self.line.kind, payload, is_configured_in_band }
    }

    /// RTP time of a tick of the timeline.
    pub(crate) fn ts_of(&self, ticks: i64) -> RtpTs {
        self.base.offset_ticks(ticks)
    }

    /// A frame of the item whose zero lies at `zero` is to be sent.
    pub(crate) fn begin_frame(&mut self, zero: Npt, rtp_ticks: i64) {
        self.ticks = self.line.place(zero, rtp_ticks);
    }

    /// Writes the next packet of the frame. False when the frame is left out.
    pub(crate) fn write(&mut self, marker: bool, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(ticks) = self.ticks else { return false };
        out.clear();
        let marker = u8::from(marker) << 7;
        out.extend_from_slice(&[0x80, marker | self.payload.payload_type & 0x7f]);
        out.extend_from_slice(&self.seq.0.to_be_bytes());
        out.extend_from_slice(&self.ts_of(ticks).0.to_be_bytes());
        out.extend_from_slice(&self.ssrc.0.to_be_bytes());
        out.extend_from_slice(payload);
        self.seq = self.seq.plus(1);
        true
    }
}

/// Finds the tracks of a title that feed the streams: (stream, track) each. Without streams the
/// title makes them.
///
/// # Errors
/// Why the title cannot feed them.
pub(crate) fn match_tracks(
    streams: &mut Vec<Stream>,
    title: &Title,
) -> Result<Vec<(u8, u8)>, String> {
    let tracks = || (0_u8..).zip(&title.asset.tracks).filter(|(_, t)| t.schedule().count() > 0);
    if streams.is_empty() {
        let made = tracks().take(LIVE_TRACKS_MAX).map(|(index, track)| Stream::new(index, track));
        streams.extend(made);
        let matched = (0_u8..).zip(&*streams).map(|(stream, made)| (stream, made.made_of));
        let matched: Vec<_> = matched.collect();
        return if matched.is_empty() { Err("it has no track".to_owned()) } else { Ok(matched) };
    }
    let mut matched: Vec<(u8, u8)> = Vec::new();
    for (stream, told) in (0_u8..).zip(&*streams) {
        let kind = told.line.kind;
        let mut refused = None;
        let mut free = tracks().filter(|(index, track)| {
            track.kind == kind && !matched.iter().any(|(_, taken)| taken == index)
        });
        let found = free.find(|(_, track)| match check_exchange(told.form(), track.form()) {
            Ok(()) => true,
            Err(error) => {
                // The first of its kind is the one that was meant.
                refused.get_or_insert(error);
                false
            }
        });
        match (found, refused) {
            (Some((index, _)), _) => matched.push((stream, index)),
            (None, Some(error)) => return Err(format!("{} of it: {error}", kind.as_str())),
            (None, None) if kind == MediaKind::Video => return Err("it has no video".to_owned()),
            (None, None) => {}
        }
    }
    if matched.is_empty() {
        return Err("it has no track that the path has".to_owned());
    }
    Ok(matched)
}

/// The description of the streams, as a publisher would announce it: that of the title which has
/// made them.
///
/// # Errors
/// A description that cannot be.
pub(crate) fn session_of(streams: &[Stream], title: &Title) -> Result<SessionSdp, String> {
    let text = sdp::describe(&sdp::Description {
        asset: &title.asset,
        name: &title.url_path,
        session_id: 0,
        version: 0,
        origin: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        rtx: None,
        calls_eac3_ac3: false,
    });
    let mut session = read_session(text.as_bytes()).map_err(|error| error.to_string())?;
    let controls: Vec<String> =
        streams.iter().map(|stream| format!("trackID={}", stream.made_of)).collect();
    session.keep_medias(LIVE_TRACKS_MAX, |media| {
        media.control().is_some_and(|control| controls.iter().any(|known| known == control))
    });
    Ok(session)
}

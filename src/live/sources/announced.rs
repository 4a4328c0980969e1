//! The media of a publisher, and the description that readers get.
//!
//! ```text
//!  ANNOUNCE --SDP--> tracks, description ------------------> owner
//!  packets --peek--> key frame?
//!              `---> parameter sets --new--> description ---> owner, once a second at most
//! ```
//! Parameter sets in band that differ from the SDP's, or are missing there, replace the SDP's in
//! the text for new readers (RFC 6184 s8.2.1, RFC 7798 s7.1): a reader needs the sets before its
//! first packet. A description states whether sets are missing that may still arrive; that state
//! ends `SETS_WAIT` after the first packet. The tracks stay as announced, so a publisher that comes
//! back with the same SDP continues the path. Sets in a dropped packet are ignored.
//! Bounds: those of `ParameterSets`; `REDESCRIBE_INTERVAL`.

use std::net::IpAddr;
use std::sync::Arc;

use crate::base::time::Mono;
use crate::live::core::batch::Entry;
use crate::live::core::description::{Description, DescriptionError, LiveTrack};
use crate::live::core::limits::{REDESCRIBE_INTERVAL, RETRANSMIT_TIME, SETS_WAIT};
use crate::live::core::message::OwnerRequest;
use crate::live::core::retransmit::rtx_payload_type;
use crate::live::sources::publisher::Publisher;
use crate::rtp::RtpView;
use crate::rtp::detect::nal::SetKind;
use crate::rtp::detect::sets::ParameterSets;
use crate::rtp::detect::{DetectorFormat, KeyFrameDetector, PayloadContent};
use crate::rtp::srtp::SrtpStream;
use crate::sdp::live::{FmtpChange, LiveDescription, LiveMedia, RtxOffer, describe_live};
use crate::sdp::session::{MediaSdp, Protocol, SessionSdp};
use crate::session::transport::Transport;
use crate::takeover::exact::Bytes;
use crate::takeover::live::PublisherTrackRecord;

/// The parts of a publisher's descriptions that become `o=` and `s=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The server's address on the publisher's connection.
    pub(crate) local: IpAddr,
    /// Session id, the same in all descriptions of the publisher.
    pub(crate) session_id: u64,
    /// Version, which grows with each description.
    pub(crate) version: u64,
}

/// One media of a publisher.
#[derive(Debug)]
pub(crate) struct PublisherTrack {
    /// Transport of the packets; `None` before SETUP.
    pub(crate) transport: Option<Transport>,
    /// SRTP of the packets; `None`: they come in the clear.
    pub(crate) srtp: Option<SrtpStream>,
    payload_type: u8,
    detector: KeyFrameDetector,
    /// Result of the peek into the newest packet of the payload type.
    newest: PayloadContent,
    /// Parameter sets have arrived, and no frame since.
    has_fresh_sets: bool,
    /// Parameter sets in force: first the SDP's, then those in band.
    sets: ParameterSets,
    /// Parameter sets that readers were not told of.
    set_change: SetChange,
    /// Parameter sets in band differed from the SDP's.
    has_changed: bool,
    /// The kind of key frame request that the publisher's SDP offers.
    picture_request: Option<PictureRequest>,
}

/// Whether there are parameter sets that readers were not told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SetChange {
    /// Readers were told of all sets.
    No,
    /// There are new sets, and more may arrive before the frame that needs them.
    Coming,
    /// There are new sets, and they are complete: a frame has followed them.
    Here,
}

/// A request for a key frame (RFC 4585 s6.3.1, RFC 5104 s4.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PictureRequest {
    /// Picture loss indication (RFC 4585).
    Pli,
    /// Full intra request (RFC 5104).
    Fir {
        /// Sequence number of the request; each request has the next one.
        number: u8,
    },
}

impl PublisherTrack {
    pub(crate) fn new(media: &MediaSdp) -> Self {
        let payload_type = media.payload_types().next().unwrap_or(0);
        let format = format_of(media);
        Self {
            transport: None,
            srtp: None,
            payload_type,
            detector: KeyFrameDetector::new(format),
            newest: PayloadContent::default(),
            has_fresh_sets: false,
            sets: announced_sets(media, payload_type, format),
            set_change: SetChange::No,
            has_changed: false,
            picture_request: offered_request(media, payload_type),
        }
    }

    /// Whether readers can start at a packet. Parameter sets with an RTP time of their own belong
    /// to the frame after them: that frame is no second start.
    pub(crate) fn entry(&mut self, view: &RtpView<'_>) -> Entry {
        if view.payload_type() != self.payload_type {
            self.newest = PayloadContent::default();
            return Entry::Nothing;
        }
        self.newest = self.detector.detect(view.payload());
        let PayloadContent { picture, sync, sets, tables } = self.newest;
        if self.detector.format() == DetectorFormat::MpegTs {
            return match (tables, sync) {
                (true, true) => Entry::Start,
                (true, false) => Entry::Tables,
                (false, true) => Entry::Picture,
                (false, false) => Entry::Nothing,
            };
        }
        let is_behind_sets = self.has_fresh_sets;
        self.has_fresh_sets = (is_behind_sets || sets) && !picture;
        if (sync || sets) && !is_behind_sets { Entry::Start } else { Entry::Nothing }
    }

    /// Takes over the parameter sets of the packet of the last `entry`, because it was not dropped.
    pub(crate) fn learn(&mut self, view: &RtpView<'_>) {
        let PayloadContent { picture, sync, sets, .. } = self.newest;
        let may_have_sets = (sets || sync || !picture) && view.payload_type() == self.payload_type;
        if may_have_sets && self.sets.handle_payload(view.payload()) {
            self.set_change = SetChange::Coming;
        }
        if picture && self.set_change == SetChange::Coming && self.sets.is_complete() {
            (self.set_change, self.has_changed) = (SetChange::Here, true);
        }
    }

    /// The next request for a key frame; `None` when the publisher understands none.
    pub(crate) fn next_picture_request(&mut self) -> Option<PictureRequest> {
        let request = self.picture_request?;
        if let PictureRequest::Fir { number } = request {
            self.picture_request = Some(PictureRequest::Fir { number: number.wrapping_add(1) });
        }
        Some(request)
    }

    /// For another process: what is known of its content.
    pub(crate) fn record(&self) -> PublisherTrackRecord {
        let kinds = [SetKind::Vps, SetKind::Sps, SetKind::Pps];
        let sets = kinds.into_iter().flat_map(|kind| self.sets.of_kind(kind));
        PublisherTrackRecord {
            has_fresh_sets: self.has_fresh_sets,
            sets: sets.map(|set| Bytes(set.to_vec())).collect(),
            untold_sets: match self.set_change {
                SetChange::No => None,
                SetChange::Coming => Some(false),
                SetChange::Here => Some(true),
            },
            has_changed: self.has_changed,
            fir_number: match self.picture_request {
                Some(PictureRequest::Fir { number }) => number,
                Some(PictureRequest::Pli) | None => 0,
            },
            ..PublisherTrackRecord::default()
        }
    }

    /// Takes in what another process knew of its content.
    pub(crate) fn take_in(&mut self, record: &PublisherTrackRecord) {
        self.has_fresh_sets = record.has_fresh_sets;
        for set in &record.sets {
            self.sets.handle_payload(&set.0);
        }
        self.set_change = match record.untold_sets {
            None => SetChange::No,
            Some(false) => SetChange::Coming,
            Some(true) => SetChange::Here,
        };
        self.has_changed = record.has_changed;
        if let Some(PictureRequest::Fir { number }) = &mut self.picture_request {
            *number = record.fir_number;
        }
    }

    /// Whether a decoder needs parameter sets that neither the SDP nor any packet has had so far.
    fn lacks_sets(&self) -> bool {
        let has_sets =
            matches!(self.detector.format(), DetectorFormat::H264 | DetectorFormat::H265);
        has_sets && !self.sets.is_complete()
    }

    /// Format parameters in which the text must differ from the SDP.
    fn changes(&self) -> Vec<FmtpChange> {
        if !self.has_changed {
            return Vec::new();
        }
        let payload_type = self.payload_type;
        let change = |(name, value)| FmtpChange { payload_type, name, value };
        self.sets.fmtp().into_iter().map(change).collect()
    }
}

impl Publisher {
    /// A message to the owner with a new description: when readers were told of other parameter
    /// sets and the last change is a while ago, or when missing sets are not expected any more. To
    /// be called after packets have arrived, and then every second.
    pub(crate) fn poll_description(&mut self, now: Mono) -> Option<OwnerRequest> {
        let generation = self.generation()?;
        let since = *self.fed_since.get_or_insert(now);
        let may_await = now.since(since) < SETS_WAIT;
        let is_soon = |last: Mono| now.since(last) < REDESCRIBE_INTERVAL;
        let has_news = self.tracks.iter().any(|track| track.set_change == SetChange::Here)
            && !self.redescribed.is_some_and(is_soon);
        if !has_news && (may_await || !self.described.awaits_sets) {
            return None;
        }
        self.redescribed = Some(now);
        self.origin.version += 1;
        let changes: Vec<_> = self.tracks.iter().map(PublisherTrack::changes).collect();
        for track in &mut self.tracks {
            if track.set_change == SetChange::Here {
                track.set_change = SetChange::No;
            }
        }
        let description = describe(&self.sdp, self.source.path(), self.origin, |index| {
            changes.get(index).cloned().unwrap_or_default()
        });
        let awaits_sets = may_await && self.tracks.iter().any(PublisherTrack::lacks_sets);
        self.described = Arc::new(description.ok()?.with_awaits_sets(awaits_sets));
        Some(OwnerRequest::Describe { generation, description: Arc::clone(&self.described) })
    }
}

/// The description of `path` for readers, made from the announced media.
pub(crate) fn description(
    sdp: &SessionSdp,
    path: &str,
    origin: Origin,
) -> Result<Description, DescriptionError> {
    let lacks_sets = sdp.medias().iter().any(|media| PublisherTrack::new(media).lacks_sets());
    Ok(describe(sdp, path, origin, |_| Vec::new())?.with_awaits_sets(lacks_sets))
}

fn describe(
    sdp: &SessionSdp,
    path: &str,
    origin: Origin,
    changes: impl Fn(usize) -> Vec<FmtpChange>,
) -> Result<Description, DescriptionError> {
    let tracks: Vec<LiveTrack> = sdp.medias().iter().map(live_track).collect();
    let mut medias: Vec<LiveMedia> = (0..sdp.medias().len())
        .map(|source_index| LiveMedia {
            source_index,
            control: format!("trackID={source_index}"),
            fmtp: sdp
                .medias()
                .get(source_index)
                .and_then(mode_change)
                .into_iter()
                .chain(changes(source_index))
                .collect(),
            rtx: None,
        })
        .collect();
    let name = path.rsplit('/').next().unwrap_or(path);
    let Origin { local, session_id, version } = origin;
    let text = |medias: &[LiveMedia]| {
        let described =
            LiveDescription { source: sdp, name, session_id, version, origin: local, medias };
        describe_live(&described).into_boxed_str()
    };
    let plain = text(&medias);
    let time_ms = u32::try_from(RETRANSMIT_TIME.as_millis()).unwrap_or(u32::MAX);
    for ((live, media), track) in medias.iter_mut().zip(sdp.medias()).zip(&tracks) {
        // A player can wait for lost sound and frames; for other media that is unknown.
        let offered =
            rtx_payload_type(track).filter(|_| ["video", "audio"].contains(&&*media.kind));
        live.rtx = offered.map(|(payload_type, original)| {
            // PLI is offered only where the publisher can be asked for a key frame.
            let takes_pli = track.needs_sync && offered_request(media, original).is_some();
            RtxOffer { payload_type, time_ms, takes_pli }
        });
    }
    Ok(Description::new(plain, tracks)?.with_feedback(text(&medias)))
}

/// Offers packetization mode 1: packets that are too long for a datagram are cut into fragments,
/// and a reader need not take fragments in mode 0 (RFC 6184 s6.2). Packets of mode 0 are packets of
/// mode 1.
fn mode_change(media: &MediaSdp) -> Option<FmtpChange> {
    let payload_type = media.payload_types().next()?;
    let name = "packetization-mode";
    let is_single = match media.fmtp_parameter(payload_type, name) {
        Some(mode) => mode.trim() == "0",
        None => true,
    };
    let is_needed = is_single && format_of(media) == DetectorFormat::H264;
    is_needed.then(|| FmtpChange { payload_type, name, value: "1".to_owned() })
}

fn live_track(media: &MediaSdp) -> LiveTrack {
    let payload_types: Vec<u8> =
        media.payload_types().filter(|number| !media.is_rtx(*number)).collect();
    let first = payload_types.first().copied().unwrap_or(0);
    let encoding = media.encoding(first);
    let mut identity = format!("{} {encoding:?}", media.kind);
    for number in &payload_types {
        identity += &format!(" {number}:{}", media.fmtp(*number).unwrap_or_default());
    }
    LiveTrack {
        // A payload type that the description does not explain: the usual clock rate of video.
        clock_rate_hz: encoding.map_or(90_000, |encoding| encoding.clock_rate_hz),
        payload_types,
        needs_sync: media.kind == "video" && format_of(media) != DetectorFormat::Any,
        identity: identity.into(),
    }
}

pub(crate) fn format_of(media: &MediaSdp) -> DetectorFormat {
    let encoding = media.payload_types().next().and_then(|number| media.encoding(number));
    encoding
        .map_or(DetectorFormat::Any, |encoding| DetectorFormat::from_encoding_name(&encoding.name))
}

/// The parameter sets of the SDP: the same sets in band are no change.
fn announced_sets(media: &MediaSdp, payload_type: u8, format: DetectorFormat) -> ParameterSets {
    let mut sets = ParameterSets::new(format);
    for name in ["sprop-parameter-sets", "sprop-vps", "sprop-sps", "sprop-pps"] {
        sets.handle_sprop(media.fmtp_parameter(payload_type, name).unwrap_or_default());
    }
    sets
}

/// The kind of key frame request that the SDP offers. Feedback needs AVPF, and only the kinds in
/// `a=rtcp-fb` are understood. Without `a=rtcp-fb` every kind that suits the media may be sent
/// (RFC 4585 s4.2): `rtspclientsink` announces that way, and obeys PLI.
fn offered_request(media: &MediaSdp, payload_type: u8) -> Option<PictureRequest> {
    let has_feedback = matches!(
        media.protocol,
        Protocol::Rtp { feedback: true } | Protocol::SecureRtp { feedback: true }
    );
    if !has_feedback {
        return None;
    }
    let says_nothing = media.attributes("rtcp-fb").next().is_none();
    if says_nothing || media.has_feedback(payload_type, "nack pli") {
        return Some(PictureRequest::Pli);
    }
    let takes_fir = media.has_feedback(payload_type, "ccm fir");
    takes_fir.then_some(PictureRequest::Fir { number: 0 })
}

#[cfg(test)]
#[path = "announced_tests.rs"]
mod tests;

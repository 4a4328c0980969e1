//! One RTP track of a path: which codec it is, and its frames.
//!
//! Parameter sets come from the SDP and in band (`rtp::detect::sets`), the sequence header of AV1
//! from its key frames. A configuration that changes counts from the next key frame on.

use crate::base::ids::Ssrc;
use crate::live::core::clock::ClockPoint;
use crate::media::aac_config::{ConfigBits, channels};
use crate::media::codec::{Codec, MediaKind};
use crate::media::fmp4::{Decoder, NotShown};
use crate::media::packetize::au_duration_ticks;
use crate::rtp::RtpView;
use crate::rtp::depacketize::{AacFormat, Depacketizer, Frame, Packet, opus_ticks};
use crate::rtp::detect::DetectorFormat;
use crate::rtp::detect::nal::SetKind;
use crate::rtp::detect::sets::ParameterSets;
use crate::sdp::session::MediaSdp;

/// Why a live path cannot be shown in a browser.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// A track, with what is wrong with it.
    #[error("the {kind} of this path is {why}")]
    Track {
        /// `video` or `audio`.
        kind: &'static str,
        /// What is wrong.
        why: String,
    },
    /// There is none.
    #[error("this path has neither video nor audio")]
    Nothing,
    /// Its description cannot be read.
    #[error("the description of this path cannot be read")]
    Description,
}

/// A track that is shown.
#[derive(Debug)]
pub(super) struct Track {
    /// Place among the tracks of the path.
    pub(super) place: u8,
    pub(super) kind: MediaKind,
    /// As the description names it.
    pub(super) language: Option<String>,
    /// Ticks a second of RTP times.
    pub(super) clock_rate_hz: u32,
    /// Relation of its RTP time to the wall clock, as it was stated last.
    pub(super) clock: Option<ClockPoint>,
    payload_type: u8,
    ssrc: Option<Ssrc>,
    depacketizer: Depacketizer,
    format: Format,
    /// The configuration that segments have.
    pub(super) decoder: Option<Decoder>,
    codec: Option<Codec>,
    /// Sets or headers may have changed since the codec was made.
    is_changed: bool,
}

#[derive(Debug)]
enum Format {
    Nal(ParameterSets, DetectorFormat),
    Av1 { header: Vec<u8> },
    Aac { codec: Codec, frame_ticks: u32 },
    Opus { channels: u16 },
}

impl Track {
    /// A track of a description; the reason when a browser does not play it.
    pub(super) fn new(place: u8, media: &MediaSdp) -> Result<Self, LiveError> {
        let kind = if media.kind == "video" { MediaKind::Video } else { MediaKind::Audio };
        let refused = |why: String| LiveError::Track { kind: kind.as_str(), why };
        let payload_type = media.payload_types().next();
        let payload_type =
            payload_type.ok_or_else(|| refused("without a payload type".to_owned()))?;
        let encoding = media.encoding(payload_type);
        let encoding = encoding.ok_or_else(|| refused("of an unknown codec".to_owned()))?;
        if !CLOCK_RATES_HZ.contains(&encoding.clock_rate_hz) {
            let hz = encoding.clock_rate_hz;
            return Err(refused(format!(
                "on a clock of {hz} Hz, with which no frame can be placed"
            )));
        }
        let name = encoding.name.to_ascii_uppercase();
        let (depacketizer, format) = match name.as_str() {
            "H264" => {
                if media.fmtp_parameter(payload_type, "packetization-mode") == Some("2") {
                    return Err(refused("H.264 in interleaved mode".to_owned()));
                }
                (Depacketizer::h264(), Self::nal(media, payload_type, DetectorFormat::H264))
            }
            "H265" => (Depacketizer::h265(), Self::nal(media, payload_type, DetectorFormat::H265)),
            "AV1" => (Depacketizer::av1(), Format::Av1 { header: Vec::new() }),
            "MPEG4-GENERIC" => {
                let (aac, codec) = aac(media, payload_type, encoding.clock_rate_hz)
                    .ok_or_else(|| refused("AAC with parameters that cannot be read".to_owned()))?;
                let frame_ticks = aac.frame_ticks;
                (Depacketizer::aac(aac), Format::Aac { codec, frame_ticks })
            }
            "OPUS" => {
                let stereo = media.fmtp_parameter(payload_type, "sprop-stereo") != Some("0");
                (Depacketizer::opus(), Format::Opus { channels: if stereo { 2 } else { 1 } })
            }
            _ => {
                let name = encoding.name;
                return Err(refused(format!("{name}, which is not served to browsers")));
            }
        };
        Ok(Self {
            place,
            kind,
            language: media.attribute("lang").map(|tag| tag.trim().to_owned()),
            clock_rate_hz: encoding.clock_rate_hz,
            clock: None,
            payload_type,
            ssrc: None,
            depacketizer,
            format,
            decoder: None,
            codec: None,
            is_changed: true,
        })
    }

    fn nal(media: &MediaSdp, payload_type: u8, format: DetectorFormat) -> Format {
        let mut sets = ParameterSets::new(format);
        for name in ["sprop-parameter-sets", "sprop-vps", "sprop-sps", "sprop-pps"] {
            if let Some(value) = media.fmtp_parameter(payload_type, name) {
                sets.handle_sprop(value);
            }
        }
        Format::Nal(sets, format)
    }

    /// Takes a packet of the path; complete frames go to `out`.
    pub(super) fn push(&mut self, bytes: &[u8], is_sync: bool, out: &mut Vec<Frame>) {
        let Ok(view) = RtpView::parse(bytes) else { return };
        if view.payload_type() != self.payload_type {
            return;
        }
        if self.ssrc.replace(view.ssrc()).is_some_and(|before| before != view.ssrc()) {
            // Another stream follows under the same description.
            self.depacketizer.restart();
        }
        let payload = view.payload();
        if let Format::Nal(sets, _) = &mut self.format {
            self.is_changed |= sets.handle_payload(payload);
        }
        let (seq, ts, marker) = (view.seq(), view.ts(), view.marker());
        self.depacketizer.push(&Packet { seq, ts, marker, is_sync, payload }, out);
    }

    pub(super) fn take_lost(&mut self) -> u64 {
        self.depacketizer.take_lost()
    }

    /// Ticks of a frame, where its bytes or the description say so.
    pub(super) fn ticks_of(&self, frame: &Frame) -> Option<u32> {
        match &self.format {
            Format::Aac { frame_ticks, .. } => Some(*frame_ticks),
            Format::Opus { .. } => opus_ticks(&frame.bytes),
            Format::Nal(..) | Format::Av1 { .. } => None,
        }
    }

    /// Looks whether the configuration that a key frame needs differs from the present one, and
    /// takes it. False: it is the same, or it is not complete.
    ///
    /// # Errors
    /// A browser does not play it.
    pub(super) fn configure(&mut self, frame: &Frame) -> Result<bool, LiveError> {
        if let Format::Av1 { header } = &mut self.format
            && let Some(found) = sequence_header(&frame.bytes)
            && header.as_slice() != found
        {
            *header = found.to_vec();
            self.is_changed = true;
        }
        if !std::mem::take(&mut self.is_changed) {
            return Ok(false);
        }
        let Some(codec) = self.wanted_codec() else { return Ok(false) };
        if self.codec.as_ref() == Some(&codec) {
            return Ok(false);
        }
        let decoder = Decoder::new(&codec, None, 0).map_err(|why: NotShown| LiveError::Track {
            kind: self.kind.as_str(),
            why: why.to_string(),
        })?;
        (self.decoder, self.codec) = (Some(decoder), Some(codec));
        Ok(true)
    }

    fn wanted_codec(&self) -> Option<Codec> {
        match &self.format {
            Format::Nal(sets, format) => {
                if !sets.is_complete() {
                    return None;
                }
                let of = |kind| sets.of_kind(kind).map(<[u8]>::to_vec).collect::<Vec<_>>();
                let [vps, sps, pps] = [SetKind::Vps, SetKind::Sps, SetKind::Pps].map(of);
                Some(match format {
                    DetectorFormat::H265 => Codec::H265 { nal_length_bytes: 4, vps, sps, pps },
                    _ => Codec::H264 { nal_length_bytes: 4, sps, pps },
                })
            }
            Format::Av1 { header } if header.is_empty() => None,
            Format::Av1 { header } => {
                Some(Codec::Av1 { config_obus: header.clone(), profile: 0, level_idx: 0, tier: 0 })
            }
            Format::Aac { codec, .. } => Some(codec.clone()),
            Format::Opus { channels } => Some(Codec::Opus { channels: *channels }),
        }
    }
}

/// The sequence header OBU of a temporal unit whose OBUs have sizes.
fn sequence_header(unit: &[u8]) -> Option<&[u8]> {
    let mut rest = unit;
    for _ in 0..OBUS_MAX {
        let header = *rest.first()?;
        let mut at = 1 + usize::from(header >> 2 & 1);
        let mut bytes = 0_usize;
        for place in 0..8 {
            let byte = *rest.get(at)?;
            at += 1;
            bytes |= usize::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                break;
            }
        }
        let (obu, behind) = rest.split_at_checked(at.checked_add(bytes)?)?;
        if header >> 3 & 0xf == SEQUENCE_HEADER {
            return Some(obu);
        }
        rest = behind;
    }
    None
}

fn aac(media: &MediaSdp, payload_type: u8, clock_rate_hz: u32) -> Option<(AacFormat, Codec)> {
    let parameter = |name| media.fmtp_parameter(payload_type, name);
    let size = |name| parameter(name).map_or(Some(0), |text| text.parse().ok());
    let text = parameter("config")?;
    let pairs = text.as_bytes().chunks(2);
    let config: Option<Vec<u8>> =
        pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    let config = config?;
    let mut bits = ConfigBits::new(&config);
    bits.object_type()?;
    let core_rate_hz = bits.sample_rate_hz().filter(|hz| *hz > 0)?;
    let channels = media.encoding(payload_type)?.channels.or_else(|| channels(bits.take(4)?))?;
    // RFC 3640 s3.3.1: the clock is the rate that is put out; with SBR a frame is twice as long.
    let frame_ticks = au_duration_ticks(&config, clock_rate_hz)
        .or_else(|| u32::try_from(1_024 * u64::from(clock_rate_hz) / u64::from(core_rate_hz)).ok());
    let format = AacFormat {
        size_bits: size("sizelength")?,
        index_bits: size("indexlength")?,
        index_delta_bits: size("indexdeltalength")?,
        frame_ticks: frame_ticks?,
    };
    if format.size_bits == 0 || format.size_bits > 16 || format.index_bits > 16 {
        return None;
    }
    Some((format, Codec::Aac { config, sample_rate_hz: clock_rate_hz, channels }))
}

/// Clocks that tell frames apart and have room for pauses; RFCs say 90 kHz, or the rate of samples.
const CLOCK_RATES_HZ: std::ops::RangeInclusive<u32> = 1_000..=1_000_000;
const SEQUENCE_HEADER: u8 = 1;
/// OBUs of a unit that are looked at.
const OBUS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::read::read_session;

    /// Ticks of a frame and channels, by the lines behind `m=`.
    fn read(clock: &str, config: &str) -> Option<(u32, u16)> {
        let text = format!(
            "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 0 RTP/AVP 97\r\n\
             a=rtpmap:97 mpeg4-generic/{clock}\r\n\
             a=fmtp:97 mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config={config}\r\n"
        );
        let sdp = read_session(text.as_bytes()).unwrap();
        match Track::new(0, &sdp.medias()[0]).ok()?.format {
            Format::Aac { codec: Codec::Aac { channels, .. }, frame_ticks } => {
                Some((frame_ticks, channels))
            }
            _ => None,
        }
    }

    #[test]
    fn length_of_a_frame_of_aac_and_its_channels_follow_from_the_configuration() {
        assert_eq!(read("48000/2", "1190"), Some((1_024, 2)));
        assert_eq!(read("48000/2", "1194"), Some((960, 2)), "frames of 960 samples");
        assert_eq!(read("48000/2", "2B118800"), Some((2_048, 2)), "SBR");
        assert_eq!(read("48000", "11B8"), Some((1_024, 8)), "configuration 7");
        // The rate is written out: 48,000 Hz of LC, two channels.
        assert_eq!(read("48000/2", "17805DC010"), Some((1_024, 2)));
        for wrong in ["", "1", "zz", "17", "17FF"] {
            assert_eq!(read("48000/2", wrong), None, "{wrong}");
        }
    }
}

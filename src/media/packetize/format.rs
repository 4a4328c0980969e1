//! How each codec is announced: payload type, `a=rtpmap`, `a=fmtp`.
//!
//! Static payload types (RFC 3551 s6) only where rate and channels are the ones they stand for;
//! the others are 96 and up. Clients take sizes, rates and parameter sets from the media when the
//! fmtp text lacks them, so a configuration that cannot be read costs the parameter, not the track.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::aac::au_duration_ticks;
use super::nalu::PARAMETER_SETS_BYTES_MAX;
use crate::base::limits::RTP_PAYLOAD_BYTES_MAX;
use crate::media::codec::{Codec, PayloadFormat};
use crate::media::pcm::PcmLayout;

const PCMU: u8 = 0;
const PCMA: u8 = 8;
const L16_STEREO: u8 = 10;
const L16_MONO: u8 = 11;
const MPA: u8 = 14;
const JPEG: u8 = 26;
const DYNAMIC_FIRST: u8 = 96;
const DYNAMIC_COUNT: usize = 32;

/// RTP clock of video, and of MPEG audio.
const CLOCK_90_KHZ: u32 = 90_000;

/// How a track of `codec` is announced; `None` when it cannot be carried. `track_index` picks the
/// dynamic payload type (96 and up; numbers start over after 32 tracks, each m= line has its own).
#[must_use]
pub fn payload_format(codec: &Codec, track_index: usize) -> Option<PayloadFormat> {
    let dynamic = DYNAMIC_FIRST + u8::try_from(track_index % DYNAMIC_COUNT).unwrap_or(0);
    let video = |encoding_name: &str, fmtp: Option<String>| PayloadFormat {
        payload_type: dynamic,
        encoding_name: encoding_name.to_owned(),
        clock_rate_hz: CLOCK_90_KHZ,
        channels: None,
        fmtp,
    };
    match codec {
        Codec::H264 { sps, pps, .. } => Some(video("H264", Some(h264_fmtp(sps, pps)))),
        Codec::H265 { vps, sps, pps, .. } => Some(video("H265", h265_fmtp(vps, sps, pps))),
        Codec::Mpeg4Visual { config } => Some(video("MP4V-ES", Some(mpeg4_visual_fmtp(config)))),
        Codec::Mjpeg => Some(PayloadFormat { payload_type: JPEG, ..video("JPEG", None) }),
        Codec::Av1 { profile, level_idx, tier, .. } => {
            let fmtp = format!("profile={profile};level-idx={level_idx};tier={tier}");
            Some(video("AV1", Some(fmtp)))
        }
        Codec::Vp8 => Some(video("VP8", None)),
        Codec::Vp9 { profile } => Some(video("VP9", Some(format!("profile-id={profile}")))),
        Codec::Aac { config, sample_rate_hz, channels } => {
            aac(dynamic, config, *sample_rate_hz, *channels)
        }
        Codec::Opus { channels } => opus(dynamic, *channels),
        Codec::Mp3 { .. } => Some(PayloadFormat { payload_type: MPA, ..video("MPA", None) }),
        Codec::Pcmu { sample_rate_hz, channels } => {
            g711("PCMU", PCMU, dynamic, *sample_rate_hz, *channels)
        }
        Codec::Pcma { sample_rate_hz, channels } => {
            g711("PCMA", PCMA, dynamic, *sample_rate_hz, *channels)
        }
        Codec::Pcm { sample_rate_hz, channels, layout } => {
            linear(dynamic, *sample_rate_hz, *channels, *layout)
        }
        Codec::Ac3 { sample_rate_hz, channels } => {
            dolby("ac3", dynamic, *sample_rate_hz, *channels)
        }
        Codec::Eac3 { sample_rate_hz, channels } => {
            dolby("eac3", dynamic, *sample_rate_hz, *channels)
        }
    }
}

/// RFC 6184 s8.1.
fn h264_fmtp(sps: &[Vec<u8>], pps: &[Vec<u8>]) -> String {
    let mut fmtp = "packetization-mode=1".to_owned();
    if let Some([_, profile, constraints, level, ..]) = sps.first().map(Vec::as_slice) {
        fmtp += &format!(";profile-level-id={profile:02X}{constraints:02X}{level:02X}");
    }
    let sets = [base64_sets(sps), base64_sets(pps)];
    if let [Some(sps), Some(pps)] = sets {
        fmtp += &format!(";sprop-parameter-sets={sps},{pps}");
    }
    fmtp
}

/// RFC 7798 s7.1.
fn h265_fmtp(vps: &[Vec<u8>], sps: &[Vec<u8>], pps: &[Vec<u8>]) -> Option<String> {
    let named = [("sprop-vps", vps), ("sprop-sps", sps), ("sprop-pps", pps)];
    let parts: Vec<String> = named
        .into_iter()
        .filter_map(|(name, sets)| Some(format!("{name}={}", base64_sets(sets)?)))
        .collect();
    (!parts.is_empty()).then(|| parts.join(";"))
}

/// Parameter sets with commas between them; `None` when there are none or far too many.
fn base64_sets(sets: &[Vec<u8>]) -> Option<String> {
    let bytes = sets.iter().fold(0usize, |sum, set| sum.saturating_add(set.len()));
    let sets: Vec<String> =
        sets.iter().filter(|set| !set.is_empty()).map(|set| STANDARD.encode(set)).collect();
    (!sets.is_empty() && bytes <= PARAMETER_SETS_BYTES_MAX).then(|| sets.join(","))
}

/// RFC 6416 s7.1: `profile-level-id` is the byte behind the visual object sequence start code.
fn mpeg4_visual_fmtp(config: &[u8]) -> String {
    let level = match config {
        [0, 0, 1, 0xb0, level, ..] => *level,
        _ => 1,
    };
    let mut fmtp = format!("profile-level-id={level}");
    if !config.is_empty() && config.len() <= PARAMETER_SETS_BYTES_MAX {
        fmtp += &format!(";config={}", hex(config));
    }
    fmtp
}

/// RFC 3640 s4.1, s3.3.6. `constantDuration` lets a receiver time the second and later AUs of the
/// first packet (GStreamer guesses it from later packets otherwise).
fn aac(dynamic: u8, config: &[u8], rate_hz: u32, channels: u16) -> Option<PayloadFormat> {
    let mut fmtp = "streamtype=5;profile-level-id=1;mode=AAC-hbr;sizeLength=13;indexLength=3;\
                    indexDeltaLength=3"
        .to_owned();
    if let Some(ticks) = au_duration_ticks(config, rate_hz) {
        fmtp += &format!(";constantDuration={ticks}");
    }
    if !config.is_empty() {
        fmtp += &format!(";config={}", hex(config));
    }
    let is_usable = rate_hz > 0 && config.len() <= PARAMETER_SETS_BYTES_MAX;
    is_usable.then(|| PayloadFormat {
        payload_type: dynamic,
        encoding_name: "mpeg4-generic".to_owned(),
        clock_rate_hz: rate_hz,
        channels: Some(channels.max(1)),
        fmtp: Some(fmtp),
    })
}

/// RFC 7587 s7: always two channels and 48 kHz in the rtpmap. More than two channels have no
/// payload format.
fn opus(dynamic: u8, channels: u16) -> Option<PayloadFormat> {
    (channels <= 2).then(|| PayloadFormat {
        payload_type: dynamic,
        encoding_name: "opus".to_owned(),
        clock_rate_hz: 48_000,
        channels: Some(2),
        fmtp: (channels == 2).then(|| "sprop-stereo=1".to_owned()),
    })
}

/// RFC 3551 s4.5.14.
fn g711(
    name: &str,
    static_type: u8,
    dynamic: u8,
    rate_hz: u32,
    channels: u16,
) -> Option<PayloadFormat> {
    let is_static = rate_hz == 8_000 && channels == 1;
    (rate_hz > 0 && channels > 0).then(|| PayloadFormat {
        payload_type: if is_static { static_type } else { dynamic },
        encoding_name: name.to_owned(),
        clock_rate_hz: rate_hz,
        channels: (channels > 1).then_some(channels),
        fmtp: None,
    })
}

/// RFC 3551 s4.5.11 and its static types, RFC 3190 s6.
fn linear(dynamic: u8, rate_hz: u32, channels: u16, layout: PcmLayout) -> Option<PayloadFormat> {
    let is_short = layout.sent_bytes() == 2;
    let payload_type = match (is_short, rate_hz, channels) {
        (true, 44_100, 2) => L16_STEREO,
        (true, 44_100, 1) => L16_MONO,
        _ => dynamic,
    };
    let instant_bytes = usize::from(channels) * layout.sent_bytes();
    let is_usable = rate_hz > 0 && (1..=RTP_PAYLOAD_BYTES_MAX).contains(&instant_bytes);
    is_usable.then(|| PayloadFormat {
        payload_type,
        encoding_name: if is_short { "L16" } else { "L24" }.to_owned(),
        clock_rate_hz: rate_hz,
        channels: Some(channels),
        fmtp: None,
    })
}

/// RFC 4184 s5, RFC 4598 s5: the clock is the sampling rate.
fn dolby(name: &str, dynamic: u8, rate_hz: u32, channels: u16) -> Option<PayloadFormat> {
    (rate_hz > 0).then(|| PayloadFormat {
        payload_type: dynamic,
        encoding_name: name.to_owned(),
        clock_rate_hz: rate_hz,
        channels: Some(channels.max(1)),
        fmtp: None,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// As an SDP spells it.
    fn lines(codecs: &[Codec]) -> String {
        let mut text = String::new();
        for (track_index, codec) in codecs.iter().enumerate() {
            let Some(format) = payload_format(codec, track_index) else {
                text += "none\n";
                continue;
            };
            let PayloadFormat { payload_type, encoding_name, clock_rate_hz, .. } = &format;
            write!(text, "{payload_type} {encoding_name}/{clock_rate_hz}").unwrap();
            let channels = format.channels.map(|channels| format!("/{channels}"));
            writeln!(text, "{}", channels.unwrap_or_default()).unwrap();
            if let Some(fmtp) = &format.fmtp {
                writeln!(text, "   {fmtp}").unwrap();
            }
        }
        text
    }

    #[test]
    fn video_is_announced_by_its_rfc() {
        let text = lines(&[
            Codec::H264 {
                nal_length_bytes: 4,
                sps: vec![vec![0x67, 0x64, 0, 0x1f, 0xac]],
                pps: vec![vec![0x68, 0xee, 0x3c]],
            },
            Codec::H264 { nal_length_bytes: 4, sps: vec![], pps: vec![] },
            Codec::H265 {
                nal_length_bytes: 4,
                vps: vec![vec![0x40, 1]],
                sps: vec![vec![0x42, 1]],
                pps: vec![vec![0x44, 1], vec![0x44, 2]],
            },
            Codec::Mpeg4Visual { config: vec![0, 0, 1, 0xb0, 3, 0, 0, 1, 0x20] },
            Codec::Mjpeg,
            Codec::Av1 { config_obus: vec![], profile: 0, level_idx: 8, tier: 0 },
            Codec::Vp8,
            Codec::Vp9 { profile: 2 },
        ]);
        insta::assert_snapshot!(text, @r#"
        96 H264/90000
           packetization-mode=1;profile-level-id=64001F;sprop-parameter-sets=Z2QAH6w=,aO48
        97 H264/90000
           packetization-mode=1
        98 H265/90000
           sprop-vps=QAE=;sprop-sps=QgE=;sprop-pps=RAE=,RAI=
        99 MP4V-ES/90000
           profile-level-id=3;config=000001B00300000120
        26 JPEG/90000
        101 AV1/90000
           profile=0;level-idx=8;tier=0
        102 VP8/90000
        103 VP9/90000
           profile-id=2
        "#);
    }

    fn linear(bits: u32, sample_rate_hz: u32, channels: u16) -> Codec {
        let layout = PcmLayout::integer(bits, true, true).unwrap();
        Codec::Pcm { sample_rate_hz, channels, layout }
    }

    #[test]
    fn audio_is_announced_by_its_rfc() {
        let text = lines(&[
            Codec::Aac { config: vec![0x11, 0x90], sample_rate_hz: 48_000, channels: 2 },
            Codec::Opus { channels: 2 },
            Codec::Opus { channels: 1 },
            Codec::Opus { channels: 6 },
            Codec::Mp3 { sample_rate_hz: 44_100, channels: 2 },
            Codec::Pcmu { sample_rate_hz: 8_000, channels: 1 },
            Codec::Pcma { sample_rate_hz: 8_000, channels: 1 },
            Codec::Pcma { sample_rate_hz: 16_000, channels: 2 },
            Codec::Pcmu { sample_rate_hz: 8_000, channels: 0 },
            linear(16, 48_000, 2),
            linear(8, 44_100, 2),
            linear(16, 44_100, 1),
            linear(24, 44_100, 2),
            linear(32, 96_000, 6),
            linear(24, 48_000, 467),
            Codec::Ac3 { sample_rate_hz: 48_000, channels: 6 },
            Codec::Eac3 { sample_rate_hz: 44_100, channels: 2 },
        ]);
        insta::assert_snapshot!(text, @r#"
        96 mpeg4-generic/48000/2
           streamtype=5;profile-level-id=1;mode=AAC-hbr;sizeLength=13;indexLength=3;indexDeltaLength=3;constantDuration=1024;config=1190
        97 opus/48000/2
           sprop-stereo=1
        98 opus/48000/2
        none
        14 MPA/90000
        0 PCMU/8000
        8 PCMA/8000
        103 PCMA/16000/2
        none
        105 L16/48000/2
        10 L16/44100/2
        11 L16/44100/1
        108 L24/44100/2
        109 L24/96000/6
        none
        111 ac3/48000/6
        112 eac3/44100/2
        "#);
    }

    #[test]
    fn payload_types_stay_below_128() {
        assert_eq!(payload_format(&Codec::Vp8, 33).map(|format| format.payload_type), Some(97));
    }

    #[test]
    fn configuration_that_is_empty_gives_no_empty_parameter() {
        let empty = || vec![Vec::new(); 2];
        for codec in [
            Codec::H264 { nal_length_bytes: 4, sps: vec![], pps: vec![] },
            Codec::H264 { nal_length_bytes: 4, sps: empty(), pps: vec![vec![0x68]] },
            Codec::H265 { nal_length_bytes: 4, vps: vec![], sps: empty(), pps: vec![] },
            Codec::Mpeg4Visual { config: vec![] },
            Codec::Av1 { config_obus: vec![], profile: 0, level_idx: 0, tier: 0 },
            Codec::Vp9 { profile: 0 },
            Codec::Aac { config: vec![], sample_rate_hz: 48_000, channels: 2 },
            Codec::Opus { channels: 1 },
        ] {
            let format = payload_format(&codec, 0).unwrap();
            let fmtp = format.fmtp.unwrap_or_default();
            assert_eq!(crate::media::fmtp::without_empty(&fmtp), fmtp, "{codec:?}");
        }
    }
}

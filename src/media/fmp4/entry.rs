//! Codecs as sample entries and as text of `CODECS` (RFC 6381; ISO 14496-15 Annex E; AV1 in ISOBMFF
//! s5), for those that browsers play.

use mp4_atom::esds::{DecoderConfig, DecoderSpecific, EsDescriptor, SLConfig};
use mp4_atom::{
    Audio, Av01, Av1c, Avc1, Avcc, AvccExt, Codec as Entry, Dops, Esds, FixedPoint, Hvc1,
    HvcCArray, Hvcc, Mp4a, Opus, Visual,
};

use crate::media::aac_config::ConfigBits;
use crate::media::codec::{Codec, MediaKind};
use crate::media::picture::{read_av1, read_h264, read_h265};

/// A track's decoder configuration, ready for an initialization segment and a playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoder {
    /// Audio or video.
    pub kind: MediaKind,
    /// Text for `CODECS`: `avc1.64001F`.
    pub codecs: String,
    /// Width and height in pixels, for video.
    pub size_pixels: Option<(u16, u16)>,
    /// How many, for sound.
    pub channels: Option<u16>,
    /// Pictures that may be decoded before one that is shown earlier, where it is known.
    pub reorder_max: Option<u8>,
    pub(super) entry: Entry,
}

/// Why a track cannot be shown in a browser.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotShown {
    /// Browsers have no decoder for it.
    #[error("{codec}, which browsers do not play")]
    Codec {
        /// Name for people.
        codec: &'static str,
    },
    /// It is none of the codecs that are known.
    #[error("of an unknown codec")]
    Unknown,
    /// Its configuration cannot be read.
    #[error("{codec} with a configuration that cannot be read")]
    Broken {
        /// Name for people.
        codec: &'static str,
    },
    /// It needs more channels than the format has a place for.
    #[error("Opus with {channels} channels; 1 and 2 are served")]
    Channels {
        /// How many it has.
        channels: u16,
    },
    /// Its decoder configuration changes, which one initialization segment cannot say.
    #[error("{codec} whose configuration changes within the file")]
    Changes {
        /// Name for people.
        codec: &'static str,
    },
}

impl Decoder {
    /// The configuration of a codec. `size_pixels`: where the bitstream does not say it;
    /// `pre_skip`: samples of Opus at 48 kHz that a decoder drops first.
    ///
    /// # Errors
    /// See [`NotShown`].
    pub fn new(
        codec: &Codec,
        size_pixels: Option<(u16, u16)>,
        pre_skip: u16,
    ) -> Result<Self, NotShown> {
        let name = name_of(codec);
        let made = match codec {
            Codec::H264 { nal_length_bytes, sps, pps } => {
                h264(*nal_length_bytes, sps, pps, size_pixels)
            }
            Codec::H265 { nal_length_bytes, vps, sps, pps } => {
                h265(*nal_length_bytes, [vps, sps, pps], size_pixels)
            }
            Codec::Av1 { config_obus, .. } => av1(config_obus, size_pixels),
            Codec::Aac { config, sample_rate_hz, channels } => {
                aac(config, *sample_rate_hz, *channels)
            }
            Codec::Opus { channels: channels @ (1 | 2) } => Some(opus(*channels, pre_skip)),
            Codec::Opus { channels } => return Err(NotShown::Channels { channels: *channels }),
            _ => return Err(NotShown::Codec { codec: name }),
        };
        made.ok_or(NotShown::Broken { codec: name })
    }
}

/// Name of a codec for people.
#[must_use]
pub fn name_of(codec: &Codec) -> &'static str {
    match codec {
        Codec::H264 { .. } => "H.264",
        Codec::H265 { .. } => "H.265",
        Codec::Aac { .. } => "AAC",
        Codec::Opus { .. } => "Opus",
        Codec::Mp3 { .. } => "MPEG audio (MP3)",
        Codec::Pcmu { .. } => "G.711 mu-law",
        Codec::Pcma { .. } => "G.711 A-law",
        Codec::Pcm { .. } => "linear PCM",
        Codec::Ac3 { .. } => "AC-3",
        Codec::Eac3 { .. } => "E-AC-3",
        Codec::Mpeg4Visual { .. } => "MPEG-4 Visual",
        Codec::Mjpeg => "Motion JPEG",
        Codec::Av1 { .. } => "AV1",
        Codec::Vp8 => "VP8",
        Codec::Vp9 { .. } => "VP9",
    }
}

fn h264(
    length_size: u8,
    sps: &[Vec<u8>],
    pps: &[Vec<u8>],
    stated: Option<(u16, u16)>,
) -> Option<Decoder> {
    let first = sps.first()?;
    let read = read_h264(first);
    let [_, profile, compatibility, level] = *first.first_chunk::<4>()?;
    let size = read.and_then(|read| small(read.size_pixels)).or(stated)?;
    // ISO 14496-15 s5.3.3.1.2: these profiles have it.
    let ext = read.filter(|_| [100, 110, 122, 144].contains(&profile)).map(|read| AvccExt {
        chroma_format: read.format.chroma_format,
        bit_depth_luma: read.format.luma_bits,
        bit_depth_chroma: read.format.chroma_bits,
        sequence_parameter_sets_ext: Vec::new(),
    });
    let avcc = Avcc {
        configuration_version: 1,
        avc_profile_indication: profile,
        profile_compatibility: compatibility,
        avc_level_indication: level,
        length_size,
        sequence_parameter_sets: sps.to_vec(),
        picture_parameter_sets: pps.to_vec(),
        ext,
    };
    let visual = visual(size);
    Some(Decoder {
        kind: MediaKind::Video,
        codecs: format!("avc1.{profile:02X}{compatibility:02X}{level:02X}"),
        size_pixels: Some(size),
        channels: None,
        reorder_max: read.and_then(|read| match read.profile {
            // Baseline has no B-pictures.
            66 => Some(0),
            _ => read.reorder_max,
        }),
        entry: Entry::Avc1(Avc1 { visual, avcc, ..Avc1::default() }),
    })
}

fn h265(length_size: u8, sets: [&[Vec<u8>]; 3], stated: Option<(u16, u16)>) -> Option<Decoder> {
    let [vps, sps, pps] = sets;
    let read = read_h265(sps.first()?)?;
    let size = small(read.size_pixels).or(stated)?;
    let [first, c0, c1, c2, c3, constraints @ .., level] = read.profile_tier_level;
    let compatibility = [c0, c1, c2, c3];
    let (space, is_high, profile) = (first >> 6, first & 0x20 != 0, first & 0x1f);
    let array = |nal_unit_type, nalus: &[Vec<u8>]| HvcCArray {
        completeness: true,
        nal_unit_type,
        nalus: nalus.to_vec(),
    };
    let hvcc = Hvcc {
        configuration_version: 1,
        general_profile_space: space,
        general_tier_flag: is_high,
        general_profile_idc: profile,
        general_profile_compatibility_flags: compatibility,
        general_constraint_indicator_flags: constraints,
        general_level_idc: level,
        chroma_format_idc: read.format.chroma_format,
        bit_depth_luma_minus8: read.format.luma_bits.checked_sub(8)?,
        bit_depth_chroma_minus8: read.format.chroma_bits.checked_sub(8)?,
        num_temporal_layers: read.layers,
        temporal_id_nested: read.is_nested,
        length_size_minus_one: length_size.checked_sub(1)?,
        arrays: vec![array(32, vps), array(33, sps), array(34, pps)],
        ..Hvcc::default()
    };
    let space = ["", "A", "B", "C"].get(usize::from(space))?;
    let flags = u32::from_be_bytes(compatibility).reverse_bits();
    let tier = if is_high { 'H' } else { 'L' };
    let last = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let constraints: String =
        constraints.iter().take(last).map(|byte| format!(".{byte:X}")).collect();
    let visual = visual(size);
    Some(Decoder {
        kind: MediaKind::Video,
        codecs: format!("hvc1.{space}{profile}.{flags:X}.{tier}{level}{constraints}"),
        size_pixels: Some(size),
        channels: None,
        reorder_max: Some(read.reorder_max),
        entry: Entry::Hvc1(Hvc1 { visual, hvcc, ..Hvc1::default() }),
    })
}

fn av1(config_obus: &[u8], stated: Option<(u16, u16)>) -> Option<Decoder> {
    let read = read_av1(config_obus)?;
    let size = small(read.size_pixels).or(stated)?;
    let (chroma, depth) = (read.format.chroma_format, read.format.luma_bits);
    let av1c = Av1c {
        seq_profile: read.profile,
        seq_level_idx_0: read.level_idx,
        seq_tier_0: read.tier == 1,
        high_bitdepth: depth > 8,
        twelve_bit: depth == 12,
        monochrome: chroma == 0,
        chroma_subsampling_x: chroma != 3,
        chroma_subsampling_y: chroma < 2,
        chroma_sample_position: read.chroma_position,
        initial_presentation_delay: None,
        config_obus: config_obus.to_vec(),
    };
    let tier = if read.tier == 1 { 'H' } else { 'M' };
    let (profile, level) = (read.profile, read.level_idx);
    let visual = visual(size);
    Some(Decoder {
        kind: MediaKind::Video,
        codecs: format!("av01.{profile}.{level:02}{tier}.{depth:02}"),
        size_pixels: Some(size),
        channels: None,
        reorder_max: Some(0),
        entry: Entry::Av01(Av01 { visual, av1c, ..Av01::default() }),
    })
}

fn aac(config: &[u8], sample_rate_hz: u32, channels: u16) -> Option<Decoder> {
    let object_type = ConfigBits::new(config).object_type()?;
    let dec_config = DecoderConfig {
        object_type_indication: 0x40,
        stream_type: 5,
        dec_specific: Some(DecoderSpecific { raw: config.to_vec(), ..DecoderSpecific::default() }),
        ..DecoderConfig::default()
    };
    let es_desc =
        EsDescriptor { es_id: 1, dec_config, sl_config: SLConfig {}, ..EsDescriptor::default() };
    let audio = audio(sample_rate_hz, channels);
    Some(Decoder {
        kind: MediaKind::Audio,
        codecs: format!("mp4a.40.{object_type}"),
        size_pixels: None,
        channels: Some(channels),
        reorder_max: None,
        entry: Entry::Mp4a(Mp4a { audio, esds: Esds { es_desc }, btrt: None, taic: None }),
    })
}

fn opus(channels: u16, pre_skip: u16) -> Decoder {
    let dops = Dops {
        output_channel_count: if channels == 1 { 1 } else { 2 },
        pre_skip,
        input_sample_rate: OPUS_RATE_HZ,
        output_gain: 0,
        channel_mapping: None,
    };
    Decoder {
        kind: MediaKind::Audio,
        codecs: "opus".to_owned(),
        size_pixels: None,
        channels: Some(channels),
        reorder_max: None,
        entry: Entry::Opus(Opus { audio: audio(OPUS_RATE_HZ, channels), dops, btrt: None }),
    }
}

fn visual((width, height): (u16, u16)) -> Visual {
    Visual { data_reference_index: 1, width, height, ..Visual::default() }
}

fn audio(sample_rate_hz: u32, channel_count: u16) -> Audio {
    // Rates above 65,535 do not fit; decoders go by the configuration.
    let rate = u16::try_from(sample_rate_hz).unwrap_or(0);
    Audio {
        data_reference_index: 1,
        channel_count,
        sample_size: 16,
        sample_rate: FixedPoint::from(rate),
    }
}

fn small((width, height): (u32, u32)) -> Option<(u16, u16)> {
    let size = (u16::try_from(width).ok()?, u16::try_from(height).ok()?);
    (size.0 > 0 && size.1 > 0).then_some(size)
}

/// RFC 7845: the clock of Opus.
const OPUS_RATE_HZ: u32 = 48_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_are_named_as_browsers_know_them() {
        let sps = vec![
            66, 1, 1, 1, 96, 0, 0, 3, 0, 0, 3, 0, 0, 3, 0, 0, 3, 0, 120, 160, 2, 128, 128, 45, 31,
            229, 249, 36, 109, 158, 217,
        ];
        let set = |bytes: &[u8]| vec![bytes.to_vec()];
        let h265 = Codec::H265 {
            nal_length_bytes: 4,
            vps: set(&[64, 1]),
            sps: vec![sps],
            pps: set(&[68, 1]),
        };
        let h264 = Codec::H264 {
            nal_length_bytes: 4,
            sps: set(&[0x67, 0x42, 0xc0, 0x1e]),
            pps: set(&[0x68]),
        };
        let aac = Codec::Aac { config: vec![0x12, 0x10], sample_rate_hz: 44_100, channels: 2 };
        for (codec, expected) in [
            (h265, "hvc1.1.6.L120"),
            (h264, "avc1.42C01E"),
            (aac, "mp4a.40.2"),
            (Codec::Opus { channels: 2 }, "opus"),
        ] {
            let decoder = Decoder::new(&codec, Some((320, 240)), 0).unwrap();
            assert_eq!(decoder.codecs, expected);
        }
    }

    #[test]
    fn what_browsers_do_not_play_is_named_with_its_reason() {
        let refused = |codec: &Codec| Decoder::new(codec, None, 0).unwrap_err().to_string();
        assert_eq!(refused(&Codec::Mjpeg), "Motion JPEG, which browsers do not play");
        assert_eq!(
            refused(&Codec::Opus { channels: 6 }),
            "Opus with 6 channels; 1 and 2 are served"
        );
        let empty = Codec::H264 { nal_length_bytes: 4, sps: vec![], pps: vec![] };
        assert_eq!(refused(&empty), "H.264 with a configuration that cannot be read");
    }
}

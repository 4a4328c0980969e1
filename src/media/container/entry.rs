//! Sample descriptions: the sample entries of `stsd`, each to a [`Codec`].
//!
//! The fixed part of an entry is read here, because QuickTime's sound descriptions (versions 1
//! and 2, configuration inside `wave`) and its padding differ from the standard; the configuration
//! boxes go to the box crate one by one.
//!
//! Invariant: an entry that is not understood gives a reason, never an error of the whole file.
//! ISO 14496-12 s8.5.2, 14496-14 (esds), 14496-15 (avcC, hvcC); QuickTime "Sample Description".

use super::aac;
use super::boxes::{BoxRef, array_at, child, children, full_box, u16_at, u32_at};
use super::dolby::{read_dac3, read_dec3};
use super::error::FourCc;
use super::pcm::{PcmFields, pcm_layout};
use crate::base::limits;
use crate::media::codec::{Codec, MediaKind};
use mp4_atom::Atom;

/// What a sample entry says.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) fourcc: [u8; 4],
    /// Codec, or why there is none.
    pub(super) codec: Result<Codec, String>,
    pub(super) size_pixels: Option<(u16, u16)>,
    /// 1-based index into `dref`.
    pub(super) data_ref: u16,
}

/// Reads the entries of an `stsd` body, as far as they fit it and the limit.
pub(super) fn read_entries(stsd: &[u8], kind: Option<MediaKind>) -> Vec<Entry> {
    let Some((version, _, rest)) = full_box(stsd) else { return Vec::new() };
    let count = u32_at(rest, 0).unwrap_or(0) as usize;
    let entries = children(rest.get(4..).unwrap_or(&[]));
    let count = count.min(limits::DESCRIPTIONS_MAX);
    entries.take(count).map_while(|entry| read_entry(entry, version, kind)).collect()
}

fn read_entry(entry: BoxRef<'_>, version: u8, kind: Option<MediaKind>) -> Option<Entry> {
    let data_ref = u16_at(entry.body, 6)?;
    let mut out = Entry {
        fourcc: entry.kind,
        codec: Err(unsupported(entry.kind)),
        size_pixels: None,
        data_ref,
    };
    match kind {
        Some(MediaKind::Video) => {
            let size = u16_at(entry.body, 24).zip(u16_at(entry.body, 26));
            out.size_pixels = size.filter(|(w, h)| *w > 0 && *h > 0);
            out.codec = video_codec(entry.kind, entry.body.get(78..).unwrap_or(&[]));
        }
        Some(MediaKind::Audio) => {
            let sound = Sound::read(entry.body, version);
            out.codec = audio_codec(entry.kind, &sound);
        }
        None => {}
    }
    Some(out)
}

fn video_codec(fourcc: [u8; 4], boxes: &[u8]) -> Result<Codec, String> {
    match &fourcc {
        b"avc1" | b"avc3" | b"dva1" | b"dvav" => h264(boxes),
        b"hvc1" | b"hev1" | b"dvh1" | b"dvhe" => h265(boxes),
        b"mp4v" => match esds(boxes)? {
            (0x20, config) => Ok(Codec::Mpeg4Visual { config: config.unwrap_or_default() }),
            (0x6c, _) => Ok(Codec::Mjpeg),
            (object, _) => Err(format!("mp4v with object type {object:#04x} is not supported")),
        },
        b"jpeg" | b"mjpa" => Ok(Codec::Mjpeg),
        b"av01" => {
            let body = child(boxes, b"av1C").ok_or("av01 without av1C")?;
            let config = decode::<mp4_atom::Av1c>(body)?;
            Ok(Codec::Av1 {
                config_obus: config.config_obus,
                profile: config.seq_profile,
                level_idx: config.seq_level_idx_0,
                tier: u8::from(config.seq_tier_0),
            })
        }
        b"vp08" => Ok(Codec::Vp8),
        b"vp09" => {
            // Early writers used version 0 of vpcC; profile 0 is what everyone decodes.
            let config = child(boxes, b"vpcC").and_then(|b| decode::<mp4_atom::VpcC>(b).ok());
            Ok(Codec::Vp9 { profile: config.map_or(0, |c| c.profile) })
        }
        _ => Err(unsupported(fourcc)),
    }
}

fn h264(boxes: &[u8]) -> Result<Codec, String> {
    let body = child(boxes, b"avcC").ok_or("no avcC")?;
    // Some writers leave padding behind the parameter sets that the crate takes for extensions.
    let config =
        decode::<mp4_atom::Avcc>(body).or_else(|why| decode(avcc_core(body).ok_or(why)?))?;
    Ok(Codec::H264 {
        nal_length_bytes: nal_length(config.length_size)?,
        sps: config.sequence_parameter_sets,
        pps: config.picture_parameter_sets,
    })
}

/// The part of an `avcC` up to its last picture parameter set.
fn avcc_core(body: &[u8]) -> Option<&[u8]> {
    let mut at = 5;
    for mask in [0x1f, 0xff] {
        let count = *body.get(at)? & mask;
        at += 1;
        for _ in 0..count {
            at += 2 + usize::from(u16_at(body, at)?);
        }
    }
    body.get(..at)
}

fn h265(boxes: &[u8]) -> Result<Codec, String> {
    let config = decode::<mp4_atom::Hvcc>(child(boxes, b"hvcC").ok_or("no hvcC")?)?;
    let nal_length_bytes = nal_length(config.length_size_minus_one + 1)?;
    let (mut vps, mut sps, mut pps) = (Vec::new(), Vec::new(), Vec::new());
    for array in config.arrays {
        match array.nal_unit_type {
            32 => vps.extend(array.nalus),
            33 => sps.extend(array.nalus),
            34 => pps.extend(array.nalus),
            _ => {}
        }
    }
    Ok(Codec::H265 { nal_length_bytes, vps, sps, pps })
}

fn nal_length(bytes: u8) -> Result<u8, String> {
    match bytes {
        1 | 2 | 4 => Ok(bytes),
        _ => Err(format!("NAL units with {bytes}-byte lengths are not supported")),
    }
}

fn audio_codec(fourcc: [u8; 4], sound: &Sound<'_>) -> Result<Codec, String> {
    let Sound { channels, sample_rate_hz, .. } = *sound;
    match &fourcc {
        b"mp4a" => match esds(sound.boxes)? {
            (0x40 | 0x66..=0x68, Some(config)) => aac_codec(config, sound),
            (0x69 | 0x6b, _) => Ok(Codec::Mp3 { sample_rate_hz, channels }),
            (0x40 | 0x66..=0x68, None) => Err("mp4a without AudioSpecificConfig".to_owned()),
            (0xa5, _) => Ok(Codec::Ac3 { sample_rate_hz, channels }),
            (0xa6, _) => Ok(Codec::Eac3 { sample_rate_hz, channels }),
            (object, _) => Err(format!("mp4a with object type {object:#04x} is not supported")),
        },
        b".mp3" | b"ms\0U" => Ok(Codec::Mp3 { sample_rate_hz, channels }),
        b"Opus" => {
            let stated = child(sound.boxes, b"dOps").and_then(|b| b.get(1).copied());
            Ok(Codec::Opus { channels: stated.map_or(channels, u16::from) })
        }
        b"ulaw" => Ok(Codec::Pcmu { sample_rate_hz, channels }),
        b"alaw" => Ok(Codec::Pcma { sample_rate_hz, channels }),
        b"ac-3" | b"sac3" => {
            let said = sound.find(b"dac3").and_then(read_dac3);
            let (sample_rate_hz, channels) = said.unwrap_or((sample_rate_hz, channels));
            Ok(Codec::Ac3 { sample_rate_hz, channels })
        }
        b"ec-3" => {
            let said = sound.find(b"dec3").and_then(read_dec3);
            let (rate_hz, channels) = said.unwrap_or((None, channels));
            Ok(Codec::Eac3 { sample_rate_hz: rate_hz.unwrap_or(sample_rate_hz), channels })
        }
        _ => match pcm_layout(fourcc, sound.pcm_fields()) {
            Some(layout) => Ok(Codec::Pcm { sample_rate_hz, channels, layout: layout? }),
            None => Err(unsupported(fourcc)),
        },
    }
}

fn aac_codec(config: Vec<u8>, sound: &Sound<'_>) -> Result<Codec, String> {
    let read = aac::AudioConfig::read(&config).ok_or("AudioSpecificConfig is cut")?;
    Ok(Codec::Aac {
        sample_rate_hz: read.sample_rate_hz,
        channels: read.channels.unwrap_or(sound.channels),
        config,
    })
}

/// The sound description, standard or QuickTime.
struct Sound<'a> {
    channels: u16,
    sample_rate_hz: u32,
    /// Boxes behind the fixed part, those inside `wave` when there is one.
    boxes: &'a [u8],
    /// Boxes behind the fixed part.
    outer: &'a [u8],
    bits: u32,
    /// See [`PcmFields`].
    version_2: Option<(u32, u32)>,
}

impl<'a> Sound<'a> {
    fn read(body: &'a [u8], stsd_version: u8) -> Self {
        // The standard's version 1 entry (in a version 1 stsd) has no further fields.
        let version = if stsd_version == 0 { u16_at(body, 8).unwrap_or(0) } else { 0 };
        let (at, channels, rate) = match version {
            2 => {
                let rate = array_at(body, 32).map_or(0.0, f64::from_be_bytes);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "`as` saturates"
                )]
                (64, u32_at(body, 40).unwrap_or(0), rate as u32)
            }
            _ => {
                let channels = u32::from(u16_at(body, 16).unwrap_or(0));
                let at = if version == 1 { 44 } else { 28 };
                (at, channels, u32_at(body, 24).unwrap_or(0) >> 16)
            }
        };
        let boxes = body.get(at..).unwrap_or(&[]);
        // The standard's version 1 has the rate of fast sound in a box.
        let srat = child(boxes, b"srat").and_then(full_box).and_then(|(_, _, b)| u32_at(b, 0));
        let rate = srat.filter(|rate| *rate > 0).unwrap_or(rate);
        let is_2 = version == 2;
        let bits = if is_2 { u32_at(body, 48) } else { u16_at(body, 18).map(u32::from) };
        Self {
            channels: u16::try_from(channels).unwrap_or(u16::MAX).clamp(1, 255),
            sample_rate_hz: rate,
            boxes: child(boxes, b"wave").unwrap_or(boxes),
            outer: boxes,
            bits: bits.unwrap_or(0),
            version_2: u32_at(body, 52).zip(u32_at(body, 56)).filter(|_| is_2),
        }
    }

    /// A box of the entry, inside `wave` or beside it.
    fn find(&self, kind: &[u8; 4]) -> Option<&'a [u8]> {
        child(self.boxes, kind).or_else(|| child(self.outer, kind))
    }

    fn pcm_fields(&self) -> PcmFields<'a> {
        let Self { channels, bits, version_2, boxes, .. } = *self;
        PcmFields { bits, version_2, channels, boxes }
    }
}

/// Object type and decoder specific information of an `esds`. Walked here because files without
/// the SL descriptor, which nobody needs, are common.
fn esds(boxes: &[u8]) -> Result<(u8, Option<Vec<u8>>), String> {
    let read = || {
        let (_, _, rest) = full_box(child(boxes, b"esds")?)?;
        let es = descriptor(rest, 0x03)?;
        let flags = *es.get(2)?;
        let mut at = 3 + if flags & 0x80 == 0 { 0 } else { 2 };
        if flags & 0x40 != 0 {
            at += 1 + usize::from(*es.get(at)?);
        }
        at += if flags & 0x20 == 0 { 0 } else { 2 };
        let decoder = descriptor(es.get(at..)?, 0x04)?;
        let object = *decoder.first()?;
        let config = descriptor(decoder.get(13..).unwrap_or(&[]), 0x05);
        Some((object, config.filter(|c| !c.is_empty()).map(<[u8]>::to_vec)))
    };
    read().ok_or_else(|| "no usable esds".to_owned())
}

/// The body of the first descriptor with `tag` (ISO 14496-1 s8.3.3: length in 7-bit groups). One
/// that claims to go on behind its parent is cut there.
fn descriptor(mut bytes: &[u8], tag: u8) -> Option<&[u8]> {
    loop {
        let found = *bytes.first()?;
        let (mut size, mut at) = (0usize, 1);
        for _ in 0..4 {
            let byte = *bytes.get(at)?;
            at += 1;
            size = size << 7 | usize::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                break;
            }
        }
        let rest = bytes.get(at..)?;
        let body = rest.get(..size).unwrap_or(rest);
        if found == tag {
            return Some(body);
        }
        bytes = rest.get(size..)?;
    }
}

fn decode<T: Atom>(body: &[u8]) -> Result<T, String> {
    let mut rest = body;
    T::decode_body(&mut rest).map_err(|why| {
        let kind: [u8; 4] = T::KIND.into();
        format!("{} is broken: {why}", FourCc(kind))
    })
}

fn unsupported(fourcc: [u8; 4]) -> String {
    match &fourcc {
        b"encv" | b"enca" | b"drms" | b"drmi" => "encrypted".to_owned(),
        _ => format!("codec {} is not supported", FourCc(fourcc)),
    }
}

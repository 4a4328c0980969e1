//! The initialization segment: `ftyp` and a `moov` without samples.

use mp4_atom::{
    Dinf, Dref, DrefEntry, Encode, FixedPoint, FourCC, Ftyp, Hdlr, Mdhd, Mdia, Minf, Moov, Mvex,
    Mvhd, Smhd, Stbl, Stco, Stsd, Tkhd, Trak, Trex, Url, Vmhd,
};

use super::entry::Decoder;
use crate::media::codec::MediaKind;

/// A track of an initialization segment.
#[derive(Debug, Clone, Copy)]
pub struct InitTrack<'a> {
    /// `track_ID`, above 0.
    pub id: u32,
    /// Ticks a second of the fragments' times.
    pub timescale: u32,
    /// Its configuration.
    pub decoder: &'a Decoder,
    /// ISO 639-2, where it is known.
    pub language: Option<&'a str>,
}

/// The bytes of an initialization segment. `None` when a configuration has lengths that its boxes
/// cannot state.
#[must_use]
pub fn init_segment(tracks: &[InitTrack<'_>]) -> Option<Vec<u8>> {
    let four = FourCC::new;
    let ftyp = Ftyp {
        major_brand: four(b"iso6"),
        minor_version: 0,
        compatible_brands: vec![four(b"iso6"), four(b"mp41"), four(b"cmfc")],
    };
    let next = tracks.iter().map(|track| track.id).max()?.checked_add(1)?;
    let moov = Moov {
        mvhd: Mvhd {
            timescale: 1_000,
            rate: FixedPoint::from(1),
            volume: FixedPoint::from(1),
            next_track_id: next,
            ..Mvhd::default()
        },
        mvex: Some(Mvex {
            mehd: None,
            trex: tracks
                .iter()
                .map(|track| Trex {
                    track_id: track.id,
                    default_sample_description_index: 1,
                    ..Trex::default()
                })
                .collect(),
        }),
        trak: tracks.iter().map(trak).collect(),
        ..Moov::default()
    };
    let mut bytes = Vec::new();
    ftyp.encode(&mut bytes).ok()?;
    moov.encode(&mut bytes).ok()?;
    Some(bytes)
}

fn trak(track: &InitTrack<'_>) -> Trak {
    let InitTrack { id, timescale, decoder, language } = *track;
    let is_video = decoder.kind == MediaKind::Video;
    let (width, height) = decoder.size_pixels.unwrap_or_default();
    let (handler, name) = if is_video { (b"vide", "video") } else { (b"soun", "sound") };
    let language = language.filter(|code| code.len() == 3 && code.is_ascii()).unwrap_or("und");
    Trak {
        tkhd: Tkhd {
            track_id: id,
            enabled: true,
            in_movie: true,
            volume: FixedPoint::from(u8::from(!is_video)),
            width: FixedPoint::from(width),
            height: FixedPoint::from(height),
            ..Tkhd::default()
        },
        mdia: Mdia {
            mdhd: Mdhd { timescale, language: language.to_owned(), ..Mdhd::default() },
            hdlr: Hdlr { handler: FourCC::new(handler), name: name.to_owned() },
            minf: Minf {
                vmhd: is_video.then(Vmhd::default),
                smhd: (!is_video).then(Smhd::default),
                dinf: Dinf { dref: Dref { entries: vec![DrefEntry::Url(Url::default())] } },
                stbl: Stbl {
                    stsd: Stsd { codecs: vec![decoder.entry.clone()] },
                    stco: Some(Stco::default()),
                    ..Stbl::default()
                },
                ..Minf::default()
            },
        },
        ..Trak::default()
    }
}

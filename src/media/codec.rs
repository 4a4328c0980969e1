//! What a track is coded with: the decoder configuration from the sample description, kept in the
//! form that packetizers and SDP need.

use super::pcm::PcmLayout;

/// Codec of a track together with its decoder configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// `avc1`, `avc3`: parameter sets from `avcC` (raw NAL units, without start codes or lengths).
    H264 {
        /// Bytes of each length field in a sample: 1, 2 or 4.
        nal_length_bytes: u8,
        /// Sequence parameter sets.
        sps: Vec<Vec<u8>>,
        /// Picture parameter sets.
        pps: Vec<Vec<u8>>,
    },
    /// `hvc1`, `hev1`: parameter sets from `hvcC`.
    H265 {
        /// Bytes of each length field in a sample: 1, 2 or 4.
        nal_length_bytes: u8,
        /// Video parameter sets.
        vps: Vec<Vec<u8>>,
        /// Sequence parameter sets.
        sps: Vec<Vec<u8>>,
        /// Picture parameter sets.
        pps: Vec<Vec<u8>>,
    },
    /// `mp4a` with object type 0x40 (or 0x66-0x68): AudioSpecificConfig from `esds`.
    Aac {
        /// AudioSpecificConfig (ISO 14496-3 s1.6).
        config: Vec<u8>,
        /// Output sampling rate.
        sample_rate_hz: u32,
        /// Output channels.
        channels: u16,
    },
    /// `Opus`. The RTP clock is 48 kHz whatever the input rate was.
    Opus {
        /// Output channels.
        channels: u16,
    },
    /// `.mp3`, `mp4a` with object type 0x69 or 0x6b: MPEG-1 or MPEG-2 audio, layer 1 to 3.
    Mp3 {
        /// Sampling rate.
        sample_rate_hz: u32,
        /// Channels.
        channels: u16,
    },
    /// `ulaw`: G.711 mu-law, one byte a sample and channel.
    Pcmu {
        /// Sampling rate, 8,000 for the static payload type.
        sample_rate_hz: u32,
        /// Channels.
        channels: u16,
    },
    /// `alaw`: G.711 A-law.
    Pcma {
        /// Sampling rate, 8,000 for the static payload type.
        sample_rate_hz: u32,
        /// Channels.
        channels: u16,
    },
    /// `sowt`, `twos`, `lpcm`, `in24`, `ipcm` and their relatives: linear PCM, sent as L16 or L24.
    Pcm {
        /// Sampling rate.
        sample_rate_hz: u32,
        /// Channels.
        channels: u16,
        /// How the file stores a value.
        layout: PcmLayout,
    },
    /// `ac-3`, `mp4a` with object type 0xa5: AC-3.
    Ac3 {
        /// Sampling rate.
        sample_rate_hz: u32,
        /// Output channels.
        channels: u16,
    },
    /// `ec-3`, `mp4a` with object type 0xa6: E-AC-3.
    Eac3 {
        /// Sampling rate.
        sample_rate_hz: u32,
        /// Output channels.
        channels: u16,
    },
    /// `mp4v` with object type 0x20: MPEG-4 part 2.
    Mpeg4Visual {
        /// Visual object sequence, visual object and VOL headers from `esds`.
        config: Vec<u8>,
    },
    /// `jpeg`, `mjpa`, `mp4v` with object type 0x6c: one JPEG image a sample.
    Mjpeg,
    /// `av01`.
    Av1 {
        /// Low-overhead OBUs from `av1C` (a sequence header as a rule).
        config_obus: Vec<u8>,
        /// `seq_profile`.
        profile: u8,
        /// `seq_level_idx_0`.
        level_idx: u8,
        /// `seq_tier_0`.
        tier: u8,
    },
    /// `vp08`.
    Vp8,
    /// `vp09`.
    Vp9 {
        /// Profile from `vpcC`.
        profile: u8,
    },
}

impl Codec {
    /// A decoder learns another configuration of this codec from the packets themselves: from
    /// parameter sets and headers in front of samples, or because each sample states its own.
    #[must_use]
    pub fn is_configured_in_band(&self) -> bool {
        // RFC 3640 s4.1: the AudioSpecificConfig is in the SDP and nowhere else.
        !matches!(self, Self::Aac { .. })
    }

    /// Bytes in memory, those of its configuration included.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let of_sets = |sets: &[Vec<u8>]| sets.iter().map(|set| size_of_val(set) + set.len()).sum();
        let owned: usize = match self {
            Self::H264 { sps, pps, .. } => [sps, pps].map(|sets| of_sets(sets)).iter().sum(),
            Self::H265 { vps, sps, pps, .. } => {
                [vps, sps, pps].map(|sets| of_sets(sets)).iter().sum()
            }
            Self::Aac { config, .. } | Self::Mpeg4Visual { config } => config.len(),
            Self::Av1 { config_obus, .. } => config_obus.len(),
            Self::Opus { .. }
            | Self::Mp3 { .. }
            | Self::Pcmu { .. }
            | Self::Pcma { .. }
            | Self::Pcm { .. }
            | Self::Ac3 { .. }
            | Self::Eac3 { .. }
            | Self::Mjpeg
            | Self::Vp8
            | Self::Vp9 { .. } => 0,
        };
        size_of_val(self) + owned
    }
}

/// Media type of an m= line (RFC 8866 s5.14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// `m=audio`.
    Audio,
    /// `m=video`.
    Video,
}

impl MediaKind {
    /// As an m= line spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
        }
    }
}

/// How a track's packets are announced in SDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadFormat {
    /// RTP payload type: static where RFC 3551 gives one, otherwise 96 + the track's place.
    pub payload_type: u8,
    /// Encoding name of `a=rtpmap`.
    pub encoding_name: String,
    /// RTP clock.
    pub clock_rate_hz: u32,
    /// Channels of `a=rtpmap`, for audio that states them.
    pub channels: Option<u16>,
    /// Text of `a=fmtp` behind the payload type.
    pub fmtp: Option<String>,
}

//! AudioSpecificConfig (ISO 14496-3 s1.6.2.1): sampling rate and channels.
//!
//! The rate is the decoder's output rate where the configuration says so: with explicit SBR
//! signalling (object type 5 or 29 first, or the 0x2b7 extension behind the core configuration)
//! the extension's rate, otherwise the core's. RFC 3640 s4.1 wants the RTP clock to be the rate of
//! the output, and that is also what FFmpeg announces.

use crate::media::aac_config::ConfigBits;

/// What a stream's announcement needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AudioConfig {
    pub(super) sample_rate_hz: u32,
    /// `None` when the channels are described in a program config element.
    pub(super) channels: Option<u16>,
}

impl AudioConfig {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut bits = ConfigBits::new(bytes);
        let mut object = bits.object_type()?;
        let mut sample_rate_hz = bits.sample_rate_hz()?;
        let mut channels = channels(bits.take(4)?);
        if matches!(object, SBR | PS) {
            if object == PS && channels == Some(1) {
                channels = Some(2);
            }
            sample_rate_hz = bits.sample_rate_hz()?;
            object = bits.object_type()?;
        } else if let Some(rate) = extension_rate(bits) {
            sample_rate_hz = rate;
        }
        (object > 0 && sample_rate_hz > 0).then_some(Self { sample_rate_hz, channels })
    }
}

/// Backward compatible signalling: looks for the extension behind the core configuration, whose
/// length depends on the object type, bit by bit.
fn extension_rate(mut bits: ConfigBits<'_>) -> Option<u32> {
    while bits.left() > 15 {
        let mut ahead = bits.clone();
        if ahead.take(11)? == 0x2b7 {
            let object = ahead.object_type()?;
            let is_present = object == SBR && ahead.take(1)? == 1;
            return if is_present { ahead.sample_rate_hz().filter(|r| *r > 0) } else { None };
        }
        bits.take(1)?;
    }
    None
}

fn channels(config: u32) -> Option<u16> {
    match config {
        1..=6 => u16::try_from(config).ok(),
        7 | 12 | 14 => Some(8),
        11 => Some(7),
        13 => Some(24),
        _ => None,
    }
}

const SBR: u32 = 5;
const PS: u32 = 29;

#[cfg(test)]
mod tests {
    use super::AudioConfig;

    fn read(bytes: &[u8]) -> Option<(u32, Option<u16>)> {
        AudioConfig::read(bytes).map(|c| (c.sample_rate_hz, c.channels))
    }

    #[test]
    fn rate_is_the_decoders_output_rate() {
        // AAC-LC 48 kHz stereo; 44.1 kHz mono with the extension saying "no SBR".
        assert_eq!(read(&[0x11, 0x90]), Some((48_000, Some(2))));
        assert_eq!(read(&[0x12, 0x08, 0x56, 0xe5, 0x00]), Some((44_100, Some(1))));
        // Object type 5: 24 kHz core, 48 kHz output. Object type 29: mono becomes stereo.
        assert_eq!(read(&[0x2b, 0x11, 0x88, 0x00]), Some((48_000, Some(2))));
        assert_eq!(read(&[0xeb, 0x09, 0x88, 0x00]), Some((48_000, Some(2))));
        // Backward compatible signalling: 0x2b7, object type 5, present, 44.1 kHz.
        assert_eq!(read(&[0x13, 0x90, 0x56, 0xe5, 0xa0]), Some((44_100, Some(2))));
    }

    #[test]
    fn escape_rate_and_program_config_element_are_read() {
        // Index 15, then 24 bits of 37,800 Hz, channel configuration 0.
        assert_eq!(read(&[0x17, 0x80, 0x49, 0xd4, 0x00]), Some((37_800, None)));
    }

    #[test]
    fn cut_configuration_gives_nothing() {
        for cut in [&[][..], &[0x11], &[0xff], &[0x17, 0x80, 0x49], &[0x2b, 0x11]] {
            assert_eq!(read(cut), None, "{cut:02x?}");
        }
    }
}

//! AudioSpecificConfig (ISO 14496-3 s1.6.2.1): sampling rate and channels.
//!
//! The rate is the decoder's output rate where the configuration says so: with explicit SBR
//! signalling (object type 5 or 29 first, or the 0x2b7 extension behind the core configuration)
//! the extension's rate, otherwise the core's. RFC 3640 s4.1 wants the RTP clock to be the rate of
//! the output, and that is also what FFmpeg announces.

use crate::media::aac_config::{ConfigBits, channels};

/// What a stream's announcement needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AudioConfig {
    pub(super) sample_rate_hz: u32,
    /// `None` when neither the channel configuration nor a program config element tells them.
    pub(super) channels: Option<u16>,
}

impl AudioConfig {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut bits = ConfigBits::new(bytes);
        let mut object = bits.object_type()?;
        let mut sample_rate_hz = bits.sample_rate_hz()?;
        let configuration = bits.take(4)?;
        let mut channels = channels(configuration);
        let is_extended = matches!(object, SBR | PS);
        if is_extended {
            if object == PS && channels == Some(1) {
                channels = Some(2);
            }
            sample_rate_hz = bits.sample_rate_hz()?;
            object = bits.object_type()?;
        }
        if configuration == 0 && is_general(object) {
            channels = program_channels(bits.clone());
        }
        if let Some(rate) = (!is_extended).then(|| extension_rate(bits)).flatten() {
            sample_rate_hz = rate;
        }
        (object > 0 && sample_rate_hz > 0).then_some(Self { sample_rate_hz, channels })
    }
}

/// Object types whose configuration is a GASpecificConfig (s4.4.1).
fn is_general(object: u32) -> bool {
    matches!(object, 1..=4 | 6 | 7 | 17 | 19..=23)
}

/// Channels of the program config element in a GASpecificConfig (s4.4.1, s4.4.1.1): one for each
/// single element and low frequency effects, two for each pair.
fn program_channels(mut bits: ConfigBits<'_>) -> Option<u16> {
    bits.take(1)?; // frameLengthFlag
    if bits.take(1)? == 1 {
        bits.take(14)?; // coreCoderDelay
    }
    bits.take(1 + 4 + 2 + 4)?; // extensionFlag, element_instance_tag, object_type, index of the rate
    let main_elements = bits.take(4)? + bits.take(4)? + bits.take(4)?; // front, side, back
    let low_elements = bits.take(2)?;
    bits.take(3 + 4)?; // associated data and coupling elements
    for mixdown_bits in [4, 4, 3] {
        if bits.take(1)? == 1 {
            bits.take(mixdown_bits)?;
        }
    }
    let mut channels = low_elements;
    for _ in 0..main_elements {
        channels += 1 + bits.take(1)?; // is_cpe
        bits.take(4)?; // tag_select
    }
    u16::try_from(channels).ok().filter(|channels| *channels > 0)
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
    fn channels_of_a_program_config_element_are_counted() {
        let bits = |fields: &[(u32, usize)]| {
            let text: String =
                fields.iter().map(|(value, width)| format!("{value:0width$b}")).collect();
            let byte = |eight: &[u8]| {
                let eight = std::str::from_utf8(eight).unwrap();
                u8::from_str_radix(&format!("{eight:0<8}"), 2).unwrap()
            };
            text.as_bytes().chunks(8).map(byte).collect::<Vec<u8>>()
        };
        // AAC-LC, 48 kHz, configuration 0; no core coder.
        let head = [(2, 5), (3, 4), (0, 4), (0, 1), (0, 1), (0, 1)];
        let counts = |front, side, back, low| {
            [(0, 4), (1, 2), (3, 4), (front, 4), (side, 4), (back, 4), (low, 2), (1, 3), (1, 4)]
        };
        let (single, pair) = ((0, 5), (1 << 4, 5));
        // 5.1: centre, front pair, back pair, LFE; a mono and a matrix mixdown.
        let mixdown = [(1, 1), (5, 4), (0, 1), (1, 1), (6, 3)];
        let elements = [single, pair, pair, (0, 4)];
        let whole = [&head[..], &counts(2, 0, 1, 1), &mixdown, &elements].concat();
        assert_eq!(read(&bits(&whole)), Some((48_000, Some(6))));
        // One centre, behind a core coder delay.
        let head = [(2, 5), (3, 4), (0, 4), (0, 1), (1, 1), (77, 14), (0, 1)];
        let whole = [&head[..], &counts(1, 0, 0, 0), &[(0, 3)], &[single]].concat();
        assert_eq!(read(&bits(&whole)), Some((48_000, Some(1))));
        // SBR told first: the element is behind the core's object type.
        let head = [(5, 5), (6, 4), (0, 4), (3, 4), (2, 5), (0, 3)];
        let whole = [&head[..], &counts(0, 1, 1, 0), &[(0, 3)], &[pair, pair]].concat();
        assert_eq!(read(&bits(&whole)), Some((48_000, Some(4))));
        // Cut in its middle, and one without channels.
        assert_eq!(read(&bits(&whole)[..6]), Some((48_000, None)));
        let none = [&head[..], &counts(0, 0, 0, 0), &[(0, 3)]].concat();
        assert_eq!(read(&bits(&none)), Some((48_000, None)));
    }

    #[test]
    fn cut_configuration_gives_nothing() {
        for cut in [&[][..], &[0x11], &[0xff], &[0x17, 0x80, 0x49], &[0x2b, 0x11]] {
            assert_eq!(read(cut), None, "{cut:02x?}");
        }
    }
}

//! Reads the fields of an AudioSpecificConfig (ISO 14496-3 s1.6.2.1) bit by bit.
//!
//! The container reader (which rate is put out?), the packetizer and HLS (how long is an access
//! unit?) need parts of it. Bytes from a file or a peer: every read may find the end.

/// Bits, most significant first.
#[derive(Debug, Clone)]
pub(crate) struct ConfigBits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> ConfigBits<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bits that are left.
    pub(crate) fn left(&self) -> usize {
        (self.bytes.len() * 8).saturating_sub(self.at)
    }

    /// The next `count` bits (up to 24); `None` past the end.
    pub(crate) fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = *self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    /// `GetAudioObjectType()`.
    pub(crate) fn object_type(&mut self) -> Option<u32> {
        match self.take(5)? {
            31 => self.take(6).map(|low| 32 + low),
            object => Some(object),
        }
    }

    /// `samplingFrequencyIndex`, or the frequency that is written out; 0 for a reserved index.
    pub(crate) fn sample_rate_hz(&mut self) -> Option<u32> {
        match self.take(4)? {
            15 => self.take(24),
            index => Some(RATES_HZ.get(index as usize).copied().unwrap_or(0)),
        }
    }
}

/// Channels of a `channelConfiguration` (Table 1.19); `None`: it does not say.
pub(crate) fn channels(configuration: u32) -> Option<u16> {
    match configuration {
        1..=6 => u16::try_from(configuration).ok(),
        7 | 12 | 14 => Some(8),
        11 => Some(7),
        13 => Some(24),
        _ => None,
    }
}

/// Table 1.18.
const RATES_HZ: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];

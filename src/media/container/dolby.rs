//! `dac3` and `dec3`: rate and channels of AC-3 and E-AC-3 (ETSI TS 102 366 annex F).

use crate::media::aac_config::ConfigBits;

/// Sampling rate and channels of a `dac3` body; `None` when it is cut, or the rate is reserved.
pub(super) fn read_dac3(body: &[u8]) -> Option<(u32, u16)> {
    let mut bits = ConfigBits::new(body);
    let rate_hz = rate(bits.take(2)?)?;
    bits.take(5 + 3)?; // bsid, bsmod
    Some((rate_hz, channels(bits.take(3)?, bits.take(1)?)))
}

/// Of a `dec3` body: those of the first program, with the channels that its dependent substreams
/// add. `None` likewise; the rate is reserved for streams of half the usual rates.
pub(super) fn read_dec3(body: &[u8]) -> Option<(Option<u32>, u16)> {
    let mut bits = ConfigBits::new(body);
    bits.take(13 + 3)?; // data_rate, num_ind_sub
    let rate_hz = rate(bits.take(2)?);
    bits.take(5 + 1 + 1 + 3)?; // bsid, reserved, asvc, bsmod
    let own = channels(bits.take(3)?, bits.take(1)?);
    bits.take(3)?; // reserved
    let added = if bits.take(4)? > 0 { added_channels(bits.take(9)?) } else { 0 };
    Some((rate_hz, own + added))
}

fn rate(fscod: u32) -> Option<u32> {
    [48_000, 44_100, 32_000].get(fscod as usize).copied()
}

/// `acmod` and `lfeon`.
fn channels(acmod: u32, lfeon: u32) -> u16 {
    let full = [2, 1, 2, 3, 3, 4, 4, 5].get(acmod as usize).copied().unwrap_or(2);
    full + u16::from(lfeon == 1)
}

/// `chan_loc`, from the lowest bit on: Lc/Rc, Lrs/Rrs, Cs, Ts, Lsd/Rsd, Lw/Rw, Lvh/Rvh, Cvh, LFE2.
fn added_channels(chan_loc: u32) -> u16 {
    const COUNTS: [u16; 9] = [2, 2, 1, 1, 2, 2, 2, 1, 1];
    let added = COUNTS.iter().enumerate().filter(|(bit, _)| chan_loc >> bit & 1 == 1);
    added.map(|(_, count)| count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_channels_are_read() {
        // As FFmpeg writes them: 48 kHz stereo.
        assert_eq!(read_dac3(&[0x10, 0x11, 0x40]), Some((48_000, 2)));
        assert_eq!(read_dec3(&[0x06, 0x00, 0x20, 0x04, 0x00]), Some((Some(48_000), 2)));
        // 44.1 kHz, 3/2 and LFE.
        assert_eq!(read_dac3(&[0x50, 0x3d, 0xe0]), Some((44_100, 6)));
        assert_eq!(read_dac3(&[0xd0, 0x11, 0x40]), None, "reserved rate");
        // 5.1 and a dependent substream with Lrs/Rrs: 7.1.
        assert_eq!(read_dec3(&[0, 0, 0x20, 0x0f, 0x02, 0x02]), Some((Some(48_000), 8)));
        assert_eq!((read_dac3(&[]), read_dac3(&[0x10])), (None, None));
        assert_eq!((read_dec3(&[]), read_dec3(&[0, 0, 0x20])), (None, None));
    }
}

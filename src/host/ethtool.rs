//! What a network card can do and does: offloads, rings and queues, by the ioctls of ethtool.
//!
//! ```text
//! SIOCETHTOOL { name, -> [u32; n] }     n[0] is the command; the kernel fills in the rest
//! ```
//! Invariant: the buffer is as long as the command lets the kernel write, see [`Card::ask`].
//! Reading needs no privilege. Bound: `FEATURES_MAX`.
#![allow(unsafe_code, reason = "an ioctl that no safe wrapper at hand knows")]

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

/// An offload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Feature {
    pub(super) is_on: bool,
    pub(super) can_change: bool,
}

/// A number that can be set, and how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Size {
    pub(super) now: u32,
    pub(super) max: u32,
}

/// A card by its name.
pub(super) struct Card {
    socket: UdpSocket,
    name: [libc::c_char; libc::IFNAMSIZ],
}

impl Card {
    /// # Errors
    /// No socket can be had, or the name is no name of a card.
    pub(super) fn open(name: &str) -> io::Result<Self> {
        let mut chars = [0; libc::IFNAMSIZ];
        // The last byte stays 0: the kernel reads up to it.
        if name.len() >= chars.len() || name.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (to, byte) in chars.iter_mut().zip(name.bytes()) {
            *to = libc::c_char::from_ne_bytes([byte]);
        }
        // Any socket will do.
        Ok(Self { socket: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?, name: chars })
    }

    /// Offloads by the names that `ethtool -k` has for them.
    ///
    /// # Errors
    /// The driver does not say, or the kernel makes no sense.
    pub(super) fn features(&self) -> io::Result<BTreeMap<String, Feature>> {
        let mut info = [GSSET_INFO, 0, 1 << ETH_SS_FEATURES, 0, 0];
        self.ask(&mut info)?;
        let count = info[4] as usize;
        if info[2] == 0 || count == 0 || count > FEATURES_MAX {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // Filled up to `count` names: how many there are is a constant of the running kernel.
        let mut strings = vec![0; 3 + count * GSTRING_BYTES / 4];
        let said = u32::try_from(count).map_err(io::Error::other)?;
        strings[..3].copy_from_slice(&[GSTRINGS, ETH_SS_FEATURES, said]);
        self.ask(&mut strings)?;
        let words = count.div_ceil(32);
        let mut bits = vec![0; 2 + words * 4];
        bits[0] = GFEATURES;
        bits[1] = u32::try_from(words).map_err(io::Error::other)?;
        self.ask(&mut bits)?;
        Ok(named(&strings[3..], &bits[2..]))
    }

    /// Descriptors of the receive and of the send queues.
    ///
    /// # Errors
    /// The driver does not say.
    pub(super) fn rings(&self) -> io::Result<(Size, Size)> {
        let mut p = [0; 9];
        p[0] = GRINGPARAM;
        self.ask(&mut p)?;
        Ok((Size { now: p[5], max: p[1] }, Size { now: p[8], max: p[4] }))
    }

    /// Send queues: those of their own and those combined with receive queues.
    ///
    /// # Errors
    /// The driver does not say.
    pub(super) fn queues(&self) -> io::Result<Size> {
        let mut p = [0; 9];
        p[0] = GCHANNELS;
        self.ask(&mut p)?;
        let sum = |own: u32, combined: u32| own.saturating_add(combined);
        Ok(Size { now: sum(p[6], p[8]), max: sum(p[2], p[4]) })
    }

    /// The one way to the kernel. `words` begins with the command and is as long as what the
    /// command writes: `GSSET_INFO` one number for the one set asked for, `GSTRINGS` as many names
    /// as the set has, `GFEATURES` as many blocks as its second word says, the others their nine.
    fn ask(&self, words: &mut [u32]) -> io::Result<()> {
        let data = words.as_mut_ptr().cast();
        let mut request = libc::ifreq {
            ifr_name: self.name,
            ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: data },
        };
        // SAFETY: SIOCETHTOOL requires an open socket, an `ifreq` with a name that ends in 0 and a
        // pointer to a structure as long as its command says.
        // - `socket` is open as long as `self` is; `open` leaves the last byte of `name` 0.
        // - `words` is exclusively borrowed, and every caller makes it as long as documented above.
        // - the kernel keeps neither pointer.
        // Test: `loopback_tells_its_features`.
        let result = unsafe {
            libc::ioctl(
                self.socket.as_raw_fd(),
                libc::SIOCETHTOOL,
                std::ptr::from_mut(&mut request),
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Names, 32 bytes each, with their bits: blocks of 32 in (changeable, wanted, active, fixed).
fn named(strings: &[u32], bits: &[u32]) -> BTreeMap<String, Feature> {
    let name = |words: &[u32]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    };
    let feature = |index: usize| {
        let block = bits.chunks_exact(4).nth(index / 32)?;
        let has = |word: u32| word >> (index % 32) & 1 == 1;
        let can_change = has(block[0]) && !has(block[3]);
        Some(Feature { is_on: has(block[2]), can_change })
    };
    let names = strings.chunks_exact(GSTRING_BYTES / 4).enumerate();
    let all = names.filter_map(|(index, words)| Some((name(words), feature(index)?)));
    all.filter(|(name, _)| !name.is_empty()).collect()
}

// Commands and sets of <linux/ethtool.h>.
const GRINGPARAM: u32 = 0x10;
const GSTRINGS: u32 = 0x1b;
const GSSET_INFO: u32 = 0x37;
const GFEATURES: u32 = 0x3a;
const GCHANNELS: u32 = 0x3c;
const ETH_SS_FEATURES: u32 = 4;
const GSTRING_BYTES: usize = 32;
/// Kernels of today have some sixty.
const FEATURES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_tells_its_features() {
        let features = match Card::open("lo").and_then(|card| card.features()) {
            Ok(features) => features,
            Err(error) => {
                println!("skipped, no features of lo: {error}");
                return;
            }
        };
        assert!(features["tx-scatter-gather"].is_on, "{features:?}");
        assert!(features.contains_key("tx-udp-segmentation"), "{features:?}");
    }

    #[test]
    fn offloads_that_are_wanted_have_names_that_the_kernel_knows() {
        let Ok(features) = Card::open("lo").and_then(|card| card.features()) else {
            println!("skipped, no features of lo");
            return;
        };
        for entry in &crate::host::tuning::TUNING.nic {
            let names =
                entry.key.split('|').filter(|name| name.starts_with("tx-") || *name == "rx-gro");
            for name in names {
                assert!(features.contains_key(name), "{name} is no feature of this kernel");
            }
        }
    }

    #[test]
    fn card_that_is_not_there_is_an_error() {
        let card = Card::open("nosuchcard").unwrap();
        assert!(card.rings().is_err() && card.features().is_err() && card.queues().is_err());
        assert!(Card::open("").is_err());
        assert!(Card::open("a-name-that-is-too-long").is_err());
    }

    #[test]
    fn bits_belong_to_names_by_their_place() {
        let mut strings = vec![0u32; 40 * 8];
        for (index, text) in [(0, b"aaaa"), (1, b"bbbb"), (33, b"cccc")] {
            strings[index * 8] = u32::from_ne_bytes(*text);
        }
        let bits = [0b01, 0, 0b11, 0, 0b10, 0, 0b10, 0b10];
        let features = named(&strings, &bits);
        let expected = [
            ("aaaa", Feature { is_on: true, can_change: true }),
            ("bbbb", Feature { is_on: true, can_change: false }),
            ("cccc", Feature { is_on: true, can_change: false }),
        ];
        assert_eq!(features, expected.map(|(name, f)| (name.to_owned(), f)).into());
    }
}

//! How much memory images of packets may take.

use std::fmt;

use super::value::{in_range, parse_size, show_size};
use super::value_error::ValueError;

/// Memory for packets of titles that stand as they go on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ImageMemory {
    /// A small share of the machine's memory.
    #[default]
    Auto,
    /// There are no images.
    Off,
    /// So many bytes.
    Bytes(usize),
}

impl ImageMemory {
    /// Reads `auto`, `off`, or a size.
    ///
    /// # Errors
    /// Another word, or a size that is out of range.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            _ => {
                let wrong = || ValueError::Choice { text: text.to_owned(), choices: CHOICES };
                let bytes = in_range(parse_size(text).ok_or_else(wrong)?, BYTES_MIN, BYTES_MAX)?;
                usize::try_from(bytes).map(Self::Bytes).map_err(|_| wrong())
            }
        }
    }

    /// Bytes on a machine with so much memory.
    #[must_use]
    pub fn bytes(self, of_machine: u64) -> usize {
        match self {
            Self::Auto => {
                let share = (of_machine / AUTO_SHARE).clamp(AUTO_MIN, AUTO_MAX);
                usize::try_from(share).unwrap_or(0)
            }
            Self::Off => 0,
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl fmt::Display for ImageMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::Bytes(bytes) => f.write_str(&show_size(*bytes)),
        }
    }
}

const CHOICES: &[&str] = &["auto", "off", "a size such as 256MiB"];
const BYTES_MIN: u64 = 1 << 20;
const BYTES_MAX: u64 = 1 << 40;

/// One part in so many of the machine's memory. A window of 2 Mbit/s takes half a megabyte, and a
/// title that everybody watches has a few windows that several are in.
const AUTO_SHARE: u64 = 64;
const AUTO_MIN: u64 = 16 << 20;
const AUTO_MAX: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_and_size_are_read_and_shown_alike() {
        for (text, memory) in [
            ("auto", ImageMemory::Auto),
            ("off", ImageMemory::Off),
            ("256MiB", ImageMemory::Bytes(256 << 20)),
        ] {
            assert_eq!(ImageMemory::parse(text), Ok(memory));
            assert_eq!(memory.to_string(), text);
        }
        for text in ["", "on", "0", "1KiB", "2048GiB"] {
            assert!(ImageMemory::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn share_of_the_machine_is_small_and_has_bounds() {
        let auto = |of_machine| ImageMemory::Auto.bytes(of_machine);
        assert_eq!((auto(0), auto(32 << 30), auto(1 << 50)), (16 << 20, 512 << 20, 1 << 30));
        assert_eq!(ImageMemory::Off.bytes(32 << 30), 0);
        assert_eq!(ImageMemory::Bytes(5 << 20).bytes(32 << 30), 5 << 20);
    }
}

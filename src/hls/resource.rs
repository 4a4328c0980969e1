//! Names of resources below a path: `/<path>/<name>`.
//!
//! ```text
//! (empty)  player.js  player.css         the page
//! index.m3u8                             multivariant playlist
//! main.m3u8  sound-2.m3u8                media playlists
//! main-<revision>-i0.mp4                 initialization
//! main-<revision>-17.m4s                 segment 17
//! main-<revision>-17.3.m4s               its part 3
//! ```
//! A revision has hexadecimal digits: it tells the bytes of one file, or of one run of a live path,
//! from those of another under the same name, so caches keep them for ever.
#![deny(clippy::indexing_slicing)]

use std::fmt;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// The page with the player.
    Page,
    /// Its script.
    Script,
    /// Its style.
    Style,
    /// The multivariant playlist.
    Multivariant,
    /// A media playlist.
    Media(Rendition),
    /// An initialization segment.
    Init {
        /// Of which rendition.
        rendition: Rendition,
        /// Of which bytes.
        revision: Revision,
        /// Counts the initializations of a live path.
        number: u32,
    },
    /// A segment.
    Segment {
        /// Of which rendition.
        rendition: Rendition,
        /// Of which bytes.
        revision: Revision,
        /// Media sequence number.
        number: u64,
    },
    /// A part of a segment.
    Part {
        /// Of which rendition.
        rendition: Rendition,
        /// Of which bytes.
        revision: Revision,
        /// Media sequence number of its segment.
        segment: u64,
        /// Place in the segment, from 0.
        part: u32,
    },
}

/// A rendition of a path: 0 is `main`, others count the sounds beside it from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rendition(pub u16);

/// Tells bytes under the same name apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Revision(pub u64);

impl Rendition {
    /// The video, with its sound where there is one only; without a video the first sound.
    pub const MAIN: Self = Self(0);

    fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("sound-") {
            Some(number) => Some(Self(decimal(number)?)).filter(|rendition| rendition.0 > 0),
            None => (text == "main").then_some(Self::MAIN),
        }
    }
}

impl fmt::Display for Rendition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("main"),
            number => write!(f, "sound-{number}"),
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Resource {
    /// Reads a name; `None` for one that nothing has.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "" => return Some(Self::Page),
            "player.js" => return Some(Self::Script),
            "player.css" => return Some(Self::Style),
            "index.m3u8" => return Some(Self::Multivariant),
            _ => {}
        }
        let (stem, extension) = name.rsplit_once('.')?;
        if extension == "m3u8" {
            return Rendition::parse(stem).map(Self::Media);
        }
        let (rest, number) = stem.rsplit_once('-')?;
        let (rendition, revision) = rest.rsplit_once('-')?;
        let rendition = Rendition::parse(rendition)?;
        let is_hex = revision.len() == 16 && revision.bytes().all(is_lower_hex);
        let revision = u64::from_str_radix(revision, 16).ok().filter(|_| is_hex)?;
        let revision = Revision(revision);
        match (extension, number.split_once('.')) {
            ("mp4", None) => {
                let number = decimal(number.strip_prefix('i')?)?;
                Some(Self::Init { rendition, revision, number })
            }
            ("m4s", None) => Some(Self::Segment { rendition, revision, number: decimal(number)? }),
            ("m4s", Some((segment, part))) => {
                let (segment, part) = (decimal(segment)?, decimal(part)?);
                Some(Self::Part { rendition, revision, segment, part })
            }
            _ => None,
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Page => Ok(()),
            Self::Script => f.write_str("player.js"),
            Self::Style => f.write_str("player.css"),
            Self::Multivariant => f.write_str("index.m3u8"),
            Self::Media(rendition) => write!(f, "{rendition}.m3u8"),
            Self::Init { rendition, revision, number } => {
                write!(f, "{rendition}-{revision}-i{number}.mp4")
            }
            Self::Segment { rendition, revision, number } => {
                write!(f, "{rendition}-{revision}-{number}.m4s")
            }
            Self::Part { rendition, revision, segment, part } => {
                write!(f, "{rendition}-{revision}-{segment}.{part}.m4s")
            }
        }
    }
}

/// A number as it is written, and in no other way: a cache would keep the same bytes twice.
fn decimal<T: std::str::FromStr + ToString>(text: &str) -> Option<T> {
    text.parse::<T>().ok().filter(|number| number.to_string() == text)
}

fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_names_that_are_written_so_are_read() {
        for name in ["x", "main", "sound-0.m3u8", "sound-01.m3u8", "main-1-2.m4s", "main.mp4"] {
            assert_eq!(Resource::parse(name), None, "{name}");
        }
        for name in ["main-00000000000000aB-1.m4s", "main-00000000000000ab-+1.m4s"] {
            assert_eq!(Resource::parse(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_read_back(
            rendition: u16, revision: u64, number: u64, small: u32, kind in 0..8,
        ) {
            let (rendition, revision) = (Rendition(rendition), Revision(revision));
            let resource = match kind {
                0 => Resource::Page,
                1 => Resource::Script,
                2 => Resource::Style,
                3 => Resource::Multivariant,
                4 => Resource::Media(rendition),
                5 => Resource::Init { rendition, revision, number: small },
                6 => Resource::Segment { rendition, revision, number },
                _ => Resource::Part { rendition, revision, segment: number, part: small },
            };
            prop_assert_eq!(Resource::parse(&resource.to_string()), Some(resource));
        }

        #[test]
        fn arbitrary_names_never_panic(name in "(main|sound-|-|\\.|[0-9a-fi]|m4s|mp4|\\PC){0,12}") {
            let _read = Resource::parse(&name);
        }
    }
}

//! Channels of a line-up, as the configuration says them.
//!
//! ```text
//!  [path."tv"]
//!  lineup = { 101 = "live/news", 201 = "vod/film.mp4" }    rtsp://host/tv plays one of them
//!             number   live path   title, as URLs spell it
//! ```
//! Numbers are what viewers press. Their order is that of channel up and channel down.
//! Invariants: a number is 1 to 999 without zeros in front; a source stands behind one number.
//! Bound: `CHANNELS_MAX`, the numbers that there are.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::section::{PATTERN, REST};
use super::value_error::ValueError;
use crate::base::names::Name;

/// Channels of one path, by number: see the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lineup {
    channels: BTreeMap<u16, ChannelSource>,
}

/// What a channel plays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelSource {
    /// A live path of this server, by its name.
    Live(String),
    /// A title, by the path of its URL: `demo` or `vod/..`.
    Title(String),
}

/// Why an entry of `lineup` is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineupError {
    /// Not a channel number.
    #[error("`{text}` is no channel number: 1 to 999 without zeros in front")]
    Number {
        /// What was found.
        text: String,
    },
    /// An entry that is no text.
    #[error("a channel is the name of a live path or title, not of type {found}")]
    Kind {
        /// TOML's name of what was found.
        found: &'static str,
    },
    /// Neither a live path nor a title.
    #[error("`{text}` is neither a live path, such as \"live/news\", nor a title: demo, vod/..")]
    Form {
        /// What was found.
        text: String,
    },
    /// A source that has a number already.
    #[error("`{text}` is channel {number} already")]
    Twice {
        /// What was found.
        text: String,
        /// The first number.
        number: u16,
    },
    /// The path itself.
    #[error("`{text}` is this path itself")]
    Itself {
        /// What was found.
        text: String,
    },
    /// A path with channels of its own.
    #[error("`{text}` is a line-up itself: name its channels")]
    Lineup {
        /// What was found.
        text: String,
    },
    /// A path that was made for a channel or a source of another one.
    #[error("`{text}` is made for `{path}`: name that path, or what feeds it")]
    Made {
        /// What was found.
        text: String,
        /// The path that it was made for.
        path: String,
    },
    /// A path that nothing can ever feed.
    #[error("`{text}` is fed by nobody: [path.{section:?}] has no source and lets nobody publish")]
    Nobody {
        /// What was found.
        text: String,
        /// The section that says so.
        section: String,
    },
}

impl LineupError {
    /// Whether the number of the entry is wrong, and not what it names.
    #[must_use]
    pub fn is_of_number(&self) -> bool {
        matches!(self, Self::Number { .. })
    }
}

impl Lineup {
    /// Reads the entries, each a number and a name, in the order of the file.
    ///
    /// # Errors
    /// The first entry that cannot be.
    pub fn parse<'a>(
        entries: impl IntoIterator<Item = (&'a str, Result<&'a str, &'static str>)>,
    ) -> Result<Self, ValueError> {
        let mut lineup = Self::default();
        for (key, name) in entries {
            let refused = |problem: LineupError| ValueError::Lineup {
                key: key.to_owned(),
                problem: Box::new(problem),
            };
            let number = parse_channel(key)
                .ok_or_else(|| refused(LineupError::Number { text: key.to_owned() }))?;
            let name = name.map_err(|found| refused(LineupError::Kind { found }))?;
            let source = ChannelSource::parse(name).map_err(refused)?;
            if let Some((number, _)) = lineup.iter().find(|(_, known)| **known == source) {
                let text = source.name().to_owned();
                return Err(refused(LineupError::Twice { text, number }));
            }
            lineup.channels.insert(number, source);
        }
        Ok(lineup)
    }

    /// Whether there are no channels: the path is no line-up.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Number of channels.
    #[must_use]
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// A channel.
    #[must_use]
    pub fn get(&self, number: u16) -> Option<&ChannelSource> {
        self.channels.get(&number)
    }

    /// All channels, lowest number first.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &ChannelSource)> {
        self.channels.iter().map(|(number, source)| (*number, source))
    }

    /// The channel above a number, around the end.
    #[must_use]
    pub fn above(&self, number: u16) -> Option<u16> {
        let mut above = self.channels.range((Bound::Excluded(number), Bound::Unbounded));
        above.next().or_else(|| self.channels.first_key_value()).map(|(number, _)| *number)
    }

    /// The channel below a number, around the end.
    #[must_use]
    pub fn below(&self, number: u16) -> Option<u16> {
        let mut below = self.channels.range(..number);
        below.next_back().or_else(|| self.channels.last_key_value()).map(|(number, _)| *number)
    }
}

impl ChannelSource {
    /// Reads what an entry names.
    ///
    /// # Errors
    /// `Form`.
    fn parse(text: &str) -> Result<Self, LineupError> {
        let text = text.trim();
        match Name::parse(text) {
            Name::Clip | Name::Title(_) if !text.ends_with('/') && text != TITLES => {
                Ok(Self::Title(text.to_owned()))
            }
            // An address is no name: it is shown nowhere, because it may have a password.
            Name::Live(name)
                if name == text
                    && name != REST
                    && !name.starts_with(PATTERN)
                    && !name.contains([':', '?', '@']) =>
            {
                Ok(Self::Live(name.to_owned()))
            }
            _ => {
                let is_address = text.contains([':', '?', '@']);
                let text = if is_address { "..".to_owned() } else { text.to_owned() };
                Err(LineupError::Form { text })
            }
        }
    }

    /// As the configuration spells it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Live(name) | Self::Title(name) => name,
        }
    }

    /// Whether it is a recorded title.
    #[must_use]
    pub fn is_title(&self) -> bool {
        matches!(self, Self::Title(_))
    }
}

/// Reads a channel number as viewers and configurations write it: 1 to 999, no zeros in front.
#[must_use]
pub fn parse_channel(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    let number = text.parse().ok().filter(|_| is_number && text.len() <= DIGITS_MAX);
    number.filter(|number| (1..=CHANNELS_MAX).contains(number))
}

/// Below this path of a URL lie titles, and it is none.
const TITLES: &str = "vod/";
/// Digits of a channel number.
pub const DIGITS_MAX: usize = 3;
/// The greatest channel number.
pub const CHANNELS_MAX: u16 = 999;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(entries: &[(&str, &str)]) -> Result<Lineup, ValueError> {
        Lineup::parse(entries.iter().map(|(key, name)| (*key, Ok(*name))))
    }

    #[test]
    fn channels_are_in_the_order_of_their_numbers_and_up_and_down_go_around() {
        let lineup = parse(&[("201", "vod/a b.mp4"), ("7", "demo"), ("101", "live/news")]).unwrap();
        let names: Vec<_> = lineup.iter().map(|(number, of)| (number, of.name())).collect();
        assert_eq!(names, [(7, "demo"), (101, "live/news"), (201, "vod/a b.mp4")]);
        assert_eq!((lineup.len(), lineup.is_empty()), (3, false));
        for (at, above, below) in
            [(7, 101, 201), (101, 201, 7), (201, 7, 101), (150, 201, 101), (999, 7, 201)]
        {
            assert_eq!((lineup.above(at), lineup.below(at)), (Some(above), Some(below)), "{at}");
        }
        assert!(lineup.get(7).is_some_and(ChannelSource::is_title));
        assert!(!lineup.get(101).is_some_and(ChannelSource::is_title));
        let none = Lineup::default();
        assert_eq!((none.above(1), none.below(1), none.get(1)), (None, None, None));
    }

    #[test]
    fn what_is_no_channel_is_refused_with_the_reason_and_without_a_password() {
        let entries: [&[(&str, &str)]; 16] = [
            &[("0", "demo")],
            &[("007", "demo")],
            &[("1000", "demo")],
            &[("-1", "demo")],
            &[("news", "demo")],
            &[("", "demo")],
            &[("1", "")],
            &[("1", "vod")],
            &[("1", "vod/")],
            &[("1", "/live/a")],
            &[("1", "live//a")],
            &[("1", "*")],
            &[("1", "~^live")],
            &[("1", "rtsp://me:s3cret@cam/x")],
            &[("1", "live/a"), ("2", "live/a")],
            &[("1", "live/a"), ("1", "live/b"), ("3", "live/b")],
        ];
        let errors: Vec<_> =
            entries.iter().map(|entries| parse(entries).unwrap_err().to_string()).collect();
        insta::assert_snapshot!(errors.join("\n"), @r#"
        channel 0: `0` is no channel number: 1 to 999 without zeros in front
        channel 007: `007` is no channel number: 1 to 999 without zeros in front
        channel 1000: `1000` is no channel number: 1 to 999 without zeros in front
        channel -1: `-1` is no channel number: 1 to 999 without zeros in front
        channel news: `news` is no channel number: 1 to 999 without zeros in front
        channel : `` is no channel number: 1 to 999 without zeros in front
        channel 1: `` is neither a live path, such as "live/news", nor a title: demo, vod/..
        channel 1: `vod` is neither a live path, such as "live/news", nor a title: demo, vod/..
        channel 1: `vod/` is neither a live path, such as "live/news", nor a title: demo, vod/..
        channel 1: `/live/a` is neither a live path, such as "live/news", nor a title: demo, vod/..
        channel 1: `live//a` is neither a live path, such as "live/news", nor a title: demo, vod/..
        channel 1: `*` is neither a live path, such as "live/news", nor a title: demo, vod/..
        channel 1: `~^live` is neither a live path, such as "live/news", nor a title: demo, vod/..
        channel 1: `..` is neither a live path, such as "live/news", nor a title: demo, vod/..
        channel 2: `live/a` is channel 1 already
        channel 3: `live/b` is channel 1 already
        "#);
    }

    proptest::proptest! {
        #[test]
        fn any_entry_is_read_or_refused_without_panic(key in "[0-9a]{0,4}", name in "(vod/)?\\PC{0,12}") {
            if let Ok(lineup) = parse(&[(&key, &name)]) {
                let (number, source) = lineup.iter().next().unwrap();
                proptest::prop_assert_eq!(number.to_string(), key);
                proptest::prop_assert_eq!(ChannelSource::parse(source.name()), Ok(source.clone()));
            }
        }
    }
}

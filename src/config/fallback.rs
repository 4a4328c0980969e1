//! Sources that take over when a path's own source is gone, as the configuration says them.
//!
//! ```text
//!  fallback = ["rtsp://10.0.0.6/x", "live/b", "vod/slate.mp4"]    the best one first, behind the
//!              an address, as for `source`  |  another live path  |  a title     path's `source`
//! ```
//! Invariants: no entry is there twice, or is the path's own source, or the path itself. A text
//! that has one of `:?@` is an address: one with a misspelt scheme is never shown as a name,
//! because it may have a password. Bound: `FALLBACKS_MAX`.

use super::section::{PATTERN, REST};
use super::source::{SourceAddress, SourceAddressError, without_secret};
use crate::base::names::{Name, without_end};

/// One entry of `fallback`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FallbackSource {
    /// What is fetched for this path alone; never [`SourceAddress::Publish`].
    Address(SourceAddress),
    /// Another live path of this server, by its name.
    Path(String),
}

/// Why an entry of `fallback` is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FallbackError {
    /// None of the forms.
    #[error(
        "`{text}` is none of rtsp://.., udp://ADDRESS:PORT, file:NAME.sdp, and no name of a live \
         path or of a title"
    )]
    Form {
        /// What was found.
        text: String,
    },
    /// An address that cannot be.
    #[error(transparent)]
    Address(#[from] SourceAddressError),
    /// A word for the path's own source alone.
    #[error("`publish` is for `source`: name a path that is published to, such as \"live/b\"")]
    Publish,
    /// The path itself.
    #[error("`{text}` is this path itself")]
    Itself {
        /// What was found.
        text: String,
    },
    /// What `source` says.
    #[error("`{text}` is the path's `source` already")]
    Own {
        /// Without its password.
        text: String,
    },
    /// What an entry before it says.
    #[error("`{text}` is in the list already")]
    Twice {
        /// Without its password.
        text: String,
    },
    /// A source that the fallbacks of another path made.
    #[error("`{text}` is a source of `{path}`: name that path, or the address")]
    SourcePath {
        /// What was found.
        text: String,
        /// The path that it feeds.
        path: String,
    },
    /// A path with channels, or one that was made for a channel.
    #[error("`{text}` is of a line-up: name what feeds one of its channels")]
    Lineup {
        /// What was found.
        text: String,
    },
    /// A path that would feed itself over others.
    #[error("a path cannot feed itself: {}", shown_way(way))]
    Loop {
        /// From the path to itself.
        way: Vec<String>,
    },
}

impl FallbackSource {
    /// Reads an entry.
    ///
    /// # Errors
    /// See [`FallbackError`].
    pub fn parse(text: &str) -> Result<Self, FallbackError> {
        let text = text.trim();
        let form = || FallbackError::Form { text: without_secret(text) };
        match Name::parse(without_end(text)) {
            name if name.is_of_titles() => Ok(Self::Address(SourceAddress::parse(text)?)),
            _ if text.contains([':', '?', '@']) => match SourceAddress::parse(text) {
                Ok(address) => Ok(Self::Address(address)),
                Err(SourceAddressError::Form { .. }) => Err(form()),
                Err(error) => Err(error.into()),
            },
            Name::Live("publish") => Err(FallbackError::Publish),
            Name::Live(name) if name != REST && !name.starts_with(PATTERN) => {
                Ok(Self::Path(name.to_owned()))
            }
            _ => Err(form()),
        }
    }

    /// Whether it is fetched by RTSP.
    #[must_use]
    pub fn is_rtsp(&self) -> bool {
        matches!(self, Self::Address(SourceAddress::Rtsp(_)))
    }
}

impl std::fmt::Display for FallbackSource {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Path(name) => write!(f, "{name}"),
        }
    }
}

/// A loop in one line: of a long one the beginning and the end.
fn shown_way(way: &[String]) -> String {
    match (way, way.last()) {
        ([first @ .., _], Some(last)) if first.len() > WAY_NAMES_MAX => {
            format!("{} <- .. <- {last}", first[..WAY_NAMES_MAX].join(" <- "))
        }
        _ => way.join(" <- "),
    }
}

/// Paths of a loop that are shown.
const WAY_NAMES_MAX: usize = 4;
/// Entries of one list at most: the number of a source is one digit.
pub const FALLBACKS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source_paths::parse_fallbacks;
    use crate::config::value_error::ValueError;
    use proptest::prelude::*;

    #[test]
    fn entries_read_and_shown_are_the_same() {
        for text in [
            "rtsp://10.0.0.6/x",
            "udp://239.1.2.3:5004",
            "file:/etc/cam.sdp",
            "vod/a b.mp4",
            "demo",
        ] {
            let entry = FallbackSource::parse(text).unwrap();
            assert!(matches!(&entry, FallbackSource::Address(_)), "{text}");
            assert_eq!(
                (entry.to_string().as_str(), entry.is_rtsp()),
                (text, text.contains("rtsp"))
            );
        }
        for text in ["live/b", "b", "vodka/b", "live/hall 1", "a~0"] {
            let entry = FallbackSource::parse(text).unwrap();
            assert_eq!(entry, FallbackSource::Path(text.to_owned()));
            assert_eq!(entry.to_string(), text);
        }
        let shown = FallbackSource::parse(" rtsp://a:s3cret@cam/x ").unwrap().to_string();
        assert_eq!(shown, "rtsp://cam/x");
    }

    #[test]
    fn what_is_no_entry_is_refused_with_the_reason_and_without_a_password() {
        let texts = [
            "",
            "publish",
            "vod",
            "vod/../a.mp4",
            "/live/b",
            "live//b",
            "~^live/b",
            "*",
            "rtmp://cam/x",
            "me:s3cret@cam/x",
            "rtps://me:s3cret@cam/x",
            "cam/x?password=s3cret",
            "rtsp://",
            "udp://239.1.2.3",
        ];
        let refuse = |text: &str| FallbackSource::parse(text).unwrap_err().to_string();
        let errors = texts.map(refuse).join("\n");
        assert!(!errors.contains("s3cret"), "{errors}");
        insta::assert_snapshot!(errors, @r#"
        `` is none of rtsp://.., udp://ADDRESS:PORT, file:NAME.sdp, and no name of a live path or of a title
        `publish` is for `source`: name a path that is published to, such as "live/b"
        `vod` is no title: name one of the library as in URLs, such as vod/slate.mp4
        `vod/../a.mp4` is no title: name one of the library as in URLs, such as vod/slate.mp4
        `/live/b` is none of rtsp://.., udp://ADDRESS:PORT, file:NAME.sdp, and no name of a live path or of a title
        `live//b` is none of rtsp://.., udp://ADDRESS:PORT, file:NAME.sdp, and no name of a live path or of a title
        `~^live/b` is none of rtsp://.., udp://ADDRESS:PORT, file:NAME.sdp, and no name of a live path or of a title
        `*` is none of rtsp://.., udp://ADDRESS:PORT, file:NAME.sdp, and no name of a live path or of a title
        `rtmp://cam/x` is none of rtsp://.., udp://ADDRESS:PORT, file:NAME.sdp, and no name of a live path or of a title
        `...@cam/x` is none of rtsp://.., udp://ADDRESS:PORT, file:NAME.sdp, and no name of a live path or of a title
        `rtps://...@cam/x` is none of rtsp://.., udp://ADDRESS:PORT, file:NAME.sdp, and no name of a live path or of a title
        `cam/x?password=...` is none of rtsp://.., udp://ADDRESS:PORT, file:NAME.sdp, and no name of a live path or of a title
        source URL has no host
        `239.1.2.3` is not an address like 239.1.2.3:5004, 0.0.0.0:5004 or [ff15::1]:5004
        "#);
    }

    #[test]
    fn list_has_no_entry_twice_and_no_more_than_its_bound() {
        let refuse = |texts: &[&str]| parse_fallbacks(texts).unwrap_err();
        let twice = refuse(&["live/b", "rtsp://a:s3cret@cam/x", "rtsp://a:s3cret@cam/x"]);
        assert!(matches!(twice, ValueError::Fallback { place: 2, .. }));
        assert_eq!(twice.to_string(), "`rtsp://cam/x` is in the list already");
        let nine = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        assert_eq!(parse_fallbacks(&nine[..8]).unwrap().len(), FALLBACKS_MAX);
        assert_eq!(refuse(&nine), ValueError::TooMany { found: 9, max: 8 });
    }

    #[test]
    fn slashes_and_white_space_behind_a_name_are_no_part_of_it() {
        let named = |text: &str| FallbackSource::parse(text).map(|entry| entry.to_string()).ok();
        assert_eq!(named("vod/x.mp4 / "), Some("vod/x.mp4".to_owned()));
        assert_eq!(named("live/b /"), Some("live/b".to_owned()));
        assert_eq!((named("vod/ /"), named("vod /")), (None, None));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in "(udp://|file:|vod/)?\\PC{0,20}") {
            if let Ok(entry) = FallbackSource::parse(&text) {
                prop_assert_eq!(FallbackSource::parse(&entry.to_string()), Ok(entry));
            }
        }
    }
}

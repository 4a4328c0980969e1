//! Values of the configuration as people write them: durations, sizes, ports, addresses.
//!
//! Everything can be given as text, because variables and flags are text; TOML integers and lists
//! are taken where they read better.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::LogFormat;
use super::access::{HookUrl, JwksSource, Methods, OnFailure};
use super::access_list::AccessList;
use super::confinement::{AccountName, SeccompMode};
use super::cpus::CpuList;
use super::fallback::FallbackSource;
use super::image_memory::ImageMemory;
use super::lineup::Lineup;
use super::multicast::MulticastConfig;
use super::paths::{SourceTransport, StartConfig};
use super::playlist::{PlaylistClock, PlaylistItem, parse_playlist, parse_title};
use super::priority::ShardPriority;
use super::redirect::Redirect;
use super::secure::SrtpMode;
use super::source::{SourceAddress, SourceTls};
use super::source_paths::parse_fallbacks;
use super::takeover::TakeoverConfig;
use super::value_error::ValueError;
use crate::base::mode::Mode;

/// A value before it is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// From anywhere.
    Text(String),
    /// From a file.
    Integer(i64),
    /// From a file.
    Boolean(bool),
    /// From a file, or a flag that was given several times.
    List(Vec<String>),
    /// From a file: keys and texts in the order of the file. A value that is no text is TOML's name
    /// of its type.
    Table(Vec<(String, Result<String, &'static str>)>),
    /// From a file: a list with tables in it.
    Entries(Vec<ListEntry>),
}

/// An entry of a list that may have tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListEntry {
    /// One text.
    Text(String),
    /// Words in order, each with its text, or with TOML's name of another type.
    Table(Vec<(String, Result<String, &'static str>)>),
}

impl Setting {
    /// One text. An integer is taken as its digits, so that `timeout = 60` is refused with the
    /// words about durations and not with words about types.
    pub(super) fn text(&self) -> Result<Cow<'_, str>, ValueError> {
        match self {
            Self::Text(text) => Ok(Cow::Borrowed(text.trim())),
            Self::Integer(integer) => Ok(Cow::Owned(integer.to_string())),
            Self::Boolean(_) => Err(ValueError::Kind { found: "boolean" }),
            Self::List(_) | Self::Entries(_) => Err(ValueError::Kind { found: "array" }),
            Self::Table(_) => Err(ValueError::Kind { found: "table" }),
        }
    }

    /// Yes or no.
    pub(super) fn boolean(&self) -> Result<bool, ValueError> {
        let text = match self {
            Self::Boolean(is_so) => return Ok(*is_so),
            other => other.text()?,
        };
        text.parse().map_err(|_| ValueError::Boolean { text: text.into_owned() })
    }

    /// Texts; one text is split at commas.
    fn texts(&self) -> Result<Vec<&str>, ValueError> {
        match self {
            Self::Text(text) => {
                Ok(text.split(',').map(str::trim).filter(|text| !text.is_empty()).collect())
            }
            Self::List(texts) => Ok(texts.iter().map(|text| text.trim()).collect()),
            Self::Integer(_) => Err(ValueError::Kind { found: "integer" }),
            Self::Boolean(_) => Err(ValueError::Kind { found: "boolean" }),
            Self::Entries(_) => Err(ValueError::Kind { found: "array of tables" }),
            Self::Table(_) => Err(ValueError::Kind { found: "table" }),
        }
    }

    /// Texts and tables; one text is one entry: names of titles may have commas.
    pub(super) fn entries(&self) -> Result<Vec<ListEntry>, ValueError> {
        match self {
            Self::Text(text) => Ok(vec![ListEntry::Text(text.clone())]),
            Self::List(texts) => Ok(texts.iter().cloned().map(ListEntry::Text).collect()),
            Self::Entries(entries) => Ok(entries.clone()),
            Self::Integer(_) => Err(ValueError::Kind { found: "integer" }),
            Self::Boolean(_) => Err(ValueError::Kind { found: "boolean" }),
            Self::Table(_) => Err(ValueError::Kind { found: "table" }),
        }
    }

    /// Titles in order.
    pub(super) fn playlist(&self) -> Result<Arc<[PlaylistItem]>, ValueError> {
        parse_playlist(self)
    }

    /// One title, or `None` for an empty text.
    pub(super) fn title(&self) -> Result<Option<Arc<str>>, ValueError> {
        let text = self.text()?;
        if text.is_empty() {
            return Ok(None);
        }
        let refused = |problem| ValueError::Playlist { place: 0, problem };
        parse_title(&text).map(Some).map_err(refused)
    }

    pub(super) fn playlist_clock(&self) -> Result<PlaylistClock, ValueError> {
        self.word(&["local", "utc"], &[PlaylistClock::Local, PlaylistClock::Utc])
    }

    /// Who may do something.
    pub(super) fn access_list(&self) -> Result<AccessList, ValueError> {
        AccessList::parse(&self.texts()?)
    }

    pub(super) fn methods(&self) -> Result<Methods, ValueError> {
        self.word(METHODS, &[Methods::Auto, Methods::Basic, Methods::Digest])
    }

    pub(super) fn srtp_mode(&self) -> Result<SrtpMode, ValueError> {
        self.word(SRTP_MODES, &[SrtpMode::Off, SrtpMode::Optional, SrtpMode::Required])
    }

    pub(super) fn on_failure(&self) -> Result<OnFailure, ValueError> {
        self.word(ON_FAILURE, &[OnFailure::Deny, OnFailure::Allow])
    }

    /// A URL, or `None` for an empty text.
    pub(super) fn hook_url(&self) -> Result<Option<HookUrl>, ValueError> {
        let text = self.text()?;
        if text.is_empty() { Ok(None) } else { HookUrl::parse(&text).map(Some) }
    }

    /// Servers that clients are sent to.
    pub(super) fn redirect(&self) -> Result<Redirect, ValueError> {
        Redirect::parse(&self.texts()?)
    }

    /// Where another program may take over.
    pub(super) fn takeover(&self) -> Result<TakeoverConfig, ValueError> {
        TakeoverConfig::parse(&self.text()?)
    }

    /// Keys of tokens, or `None` for an empty text.
    pub(super) fn jwks(&self) -> Result<Option<JwksSource>, ValueError> {
        let text = self.text()?;
        if text.is_empty() { Ok(None) } else { JwksSource::parse(&text).map(Some) }
    }

    /// A word that must be there.
    pub(super) fn name(&self) -> Result<String, ValueError> {
        let text = self.text()?;
        if text.is_empty() { Err(ValueError::Empty) } else { Ok(text.into_owned()) }
    }

    /// A text, or `None` for an empty one.
    pub(super) fn text_or_none(&self) -> Result<Option<String>, ValueError> {
        Ok(Some(self.text()?.into_owned()).filter(|text| !text.is_empty()))
    }

    /// Where packets come from.
    pub(super) fn source(&self) -> Result<SourceAddress, ValueError> {
        Ok(SourceAddress::parse(&self.text()?)?)
    }

    /// Sources that take over. One text is one of them: URLs may have commas.
    pub(super) fn fallbacks(&self) -> Result<Vec<FallbackSource>, ValueError> {
        match self {
            Self::Text(text) => parse_fallbacks(&[text]),
            other => parse_fallbacks(&other.texts()?),
        }
    }

    /// Channels by their numbers.
    pub(super) fn lineup(&self) -> Result<Lineup, ValueError> {
        match self {
            Self::Table(entries) => Lineup::parse(entries.iter().map(|(key, name)| {
                let name = name.as_ref().map(String::as_str).map_err(|found| *found);
                (key.as_str(), name)
            })),
            other => {
                let found = match other {
                    Self::Integer(_) => "integer",
                    Self::Boolean(_) => "boolean",
                    Self::List(_) | Self::Entries(_) => "array",
                    Self::Text(_) | Self::Table(_) => "string",
                };
                Err(ValueError::Kind { found })
            }
        }
    }

    /// The value of one of a few words.
    pub(super) fn word<T: Copy>(
        &self,
        choices: &'static [&'static str],
        values: &[T],
    ) -> Result<T, ValueError> {
        let text = self.text()?;
        let found = choices.iter().zip(values).find(|(word, _)| **word == text.as_ref());
        let refused = || ValueError::Choice { text: text.clone().into_owned(), choices };
        found.map(|(_, value)| *value).ok_or_else(refused)
    }

    /// Addresses with ports; text is split at commas.
    pub(super) fn addresses(&self) -> Result<Vec<SocketAddr>, ValueError> {
        let texts = self.texts()?;
        match texts.len() {
            0 => Err(ValueError::Empty),
            found if found > ADDRESSES_MAX => {
                Err(ValueError::TooMany { found, max: ADDRESSES_MAX })
            }
            _ => texts.into_iter().map(address).collect(),
        }
    }

    /// Addresses with ports, or none.
    pub(super) fn addresses_or_none(&self) -> Result<Vec<SocketAddr>, ValueError> {
        if self.texts()?.is_empty() { Ok(Vec::new()) } else { self.addresses() }
    }

    /// Addresses with ports, or none for `off`.
    pub(super) fn addresses_or_off(&self) -> Result<Vec<SocketAddr>, ValueError> {
        if self.texts()? == ["off"] { Ok(Vec::new()) } else { self.addresses() }
    }

    /// Up to `ADDRESSES_MAX` words; text is split at commas.
    pub(super) fn names(&self) -> Result<Vec<String>, ValueError> {
        let texts = self.texts()?;
        if texts.len() > ADDRESSES_MAX {
            return Err(ValueError::TooMany { found: texts.len(), max: ADDRESSES_MAX });
        }
        Ok(texts.into_iter().map(str::to_owned).collect())
    }

    /// Up to `ADDRESSES_MAX` addresses without a port.
    pub(super) fn ips(&self) -> Result<Vec<IpAddr>, ValueError> {
        let ip = |text: String| text.parse().map_err(|_| ValueError::Ip { text });
        self.names()?.into_iter().map(ip).collect()
    }

    /// Who is believed at `rtsps://`.
    pub(super) fn source_tls(&self) -> Result<SourceTls, ValueError> {
        let text = self.text()?;
        let refused = || ValueError::SourceTls { text: text.clone().into_owned() };
        SourceTls::parse(&text).ok_or_else(refused)
    }

    /// One address with a port.
    pub(super) fn address(&self) -> Result<SocketAddr, ValueError> {
        address(&self.text()?)
    }

    /// A number in `min..=max`.
    pub(super) fn number(&self, min: u64, max: u64) -> Result<u64, ValueError> {
        let text = self.text()?;
        let value = text.replace('_', "").parse();
        in_range(value.map_err(|_| ValueError::Number { text: text.into_owned() })?, min, max)
    }

    /// A count in `min..=max`.
    pub(super) fn count(&self, min: u64, max: u64) -> Result<usize, ValueError> {
        let number = self.number(min, max)?;
        usize::try_from(number).map_err(|_| ValueError::Number { text: number.to_string() })
    }

    /// A count, or `None` for `auto`.
    pub(super) fn count_or_auto(&self) -> Result<Option<u32>, ValueError> {
        if self.text()? == "auto" {
            return Ok(None);
        }
        let count = self.number(1, 1 << 20)?;
        u32::try_from(count).map(Some).map_err(|_| ValueError::Number { text: count.to_string() })
    }

    /// An even port, or 0.
    pub(super) fn rtp_port(&self) -> Result<u16, ValueError> {
        let port = self.number(0, u64::from(u16::MAX))?;
        let port =
            u16::try_from(port).map_err(|_| ValueError::Number { text: port.to_string() })?;
        if port % 2 == 1 { Err(ValueError::OddPort { port }) } else { Ok(port) }
    }

    /// A duration with its unit.
    pub(super) fn duration(&self, min: Duration, max: Duration) -> Result<Duration, ValueError> {
        let text = self.text()?;
        let value = parse_duration(&text);
        let value = value.ok_or_else(|| ValueError::Duration { text: text.into_owned() })?;
        if value < min || value > max {
            return Err(ValueError::DurationRange { value, min, max });
        }
        Ok(value)
    }

    /// A duration with its unit; `auto` is `None`.
    pub(super) fn duration_or_auto(
        &self,
        min: Duration,
        max: Duration,
    ) -> Result<Option<Duration>, ValueError> {
        if self.text().is_ok_and(|text| text.as_ref() == "auto") {
            return Ok(None);
        }
        self.duration(min, max).map(Some)
    }

    /// A number of bytes with its unit.
    pub(super) fn size(&self, min: u64, max: u64) -> Result<usize, ValueError> {
        let text = self.text()?;
        let wrong = || ValueError::Size { text: text.clone().into_owned() };
        let value = in_range(parse_size(&text).ok_or_else(wrong)?, min, max)?;
        usize::try_from(value).map_err(|_| wrong())
    }

    /// Memory of images.
    pub(super) fn image_memory(&self) -> Result<ImageMemory, ValueError> {
        ImageMemory::parse(&self.text()?)
    }

    /// CPUs.
    pub(super) fn cpus(&self) -> Result<CpuList, ValueError> {
        match self {
            Self::Integer(count) => Ok(CpuList::parse(&count.to_string())?),
            Self::Text(text) => Ok(CpuList::parse(text)?),
            Self::Boolean(_) => Err(ValueError::Kind { found: "boolean" }),
            Self::List(_) | Self::Entries(_) => Err(ValueError::Kind { found: "array" }),
            Self::Table(_) => Err(ValueError::Kind { found: "table" }),
        }
    }

    /// How urgent the shards are to the kernel.
    pub(super) fn shard_priority(&self) -> Result<ShardPriority, ValueError> {
        ShardPriority::parse(&self.text()?)
    }

    /// A range of multicast groups, or `None` for `off`.
    pub(super) fn group_range(&self) -> Result<Option<(Ipv4Addr, u8)>, ValueError> {
        MulticastConfig::parse_range(&self.text()?)
    }

    /// A port with room for those of all tracks of a path.
    pub(super) fn group_port(&self) -> Result<u16, ValueError> {
        MulticastConfig::check_port(self.number(0, u64::from(u16::MAX))?)
    }

    pub(super) fn ttl(&self) -> Result<u8, ValueError> {
        self.number(1, u64::from(u8::MAX)).map(|ttl| u8::try_from(ttl).unwrap_or(u8::MAX))
    }

    /// Address of an interface, or `None` for `auto`.
    pub(super) fn interface(&self) -> Result<Option<Ipv4Addr>, ValueError> {
        MulticastConfig::parse_interface(&self.text()?)
    }

    /// A folder, or `None` for an empty text.
    pub(super) fn folder(&self) -> Result<Option<PathBuf>, ValueError> {
        // Not trimmed: a folder's name may end with a space.
        let Self::Text(text) = self else {
            return Err(ValueError::Kind { found: "integer, boolean or array" });
        };
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    }

    /// A user, or `None` for an empty text.
    pub(super) fn account(&self) -> Result<Option<AccountName>, ValueError> {
        let text = self.text()?;
        if text.is_empty() { Ok(None) } else { AccountName::parse(&text).map(Some) }
    }

    pub(super) fn seccomp(&self) -> Result<SeccompMode, ValueError> {
        SeccompMode::parse(&self.text()?)
    }

    pub(super) fn log_format(&self) -> Result<LogFormat, ValueError> {
        let formats = [LogFormat::Auto, LogFormat::Text, LogFormat::Json];
        self.word(&["auto", "text", "json"], &formats)
    }

    pub(super) fn source_transport(&self) -> Result<SourceTransport, ValueError> {
        use SourceTransport::{Auto, Tcp, Udp};
        self.word(TRANSPORTS, &[Auto, Udp, Tcp])
    }

    pub(super) fn start(&self) -> Result<StartConfig, ValueError> {
        self.word(STARTS, &[StartConfig::Gop, StartConfig::Live])
    }

    /// The same as `auto_or_off`, for what may be unset.
    pub(super) fn auto_off_or_unset(&self) -> Result<Option<bool>, ValueError> {
        self.auto_or_off().map(Some)
    }

    /// Whether it is `auto`.
    pub(super) fn auto_or_off(&self) -> Result<bool, ValueError> {
        self.word(&["auto", "off"], &[true, false])
    }

    pub(super) fn mode(&self) -> Result<Mode, ValueError> {
        self.word(&["auto", "on", "off"], &[Mode::Auto, Mode::On, Mode::Off])
    }
}

fn address(text: &str) -> Result<SocketAddr, ValueError> {
    text.parse().map_err(|_| ValueError::Address { text: text.to_owned() })
}

pub(super) fn in_range(value: u64, min: u64, max: u64) -> Result<u64, ValueError> {
    if (min..=max).contains(&value) {
        Ok(value)
    } else {
        Err(ValueError::Range { value, min, max })
    }
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim()))
}

/// `10s`; a number without a unit is refused, because half of the readers would guess wrong.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let ms_per_unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(ms_per_unit).map(Duration::from_millis)
}

/// `8MiB`.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let bytes_per_unit = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.checked_mul(bytes_per_unit)
}

/// The longest unit that shows a duration exactly.
pub(super) fn show_duration(value: Duration) -> String {
    let ms = value.as_millis();
    match ms {
        0 => "0s".to_owned(),
        _ if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        _ => format!("{ms}ms"),
    }
}

/// The longest unit that shows a size exactly.
pub(super) fn show_size(bytes: usize) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.iter().find(|(bits, _)| bytes > 0 && bytes.trailing_zeros() >= *bits);
    unit.map_or_else(|| format!("{bytes}B"), |(bits, unit)| format!("{}{unit}", bytes >> bits))
}

/// In the order of `SourceTransport`.
pub(super) const TRANSPORTS: &[&str] = &["auto", "udp", "tcp"];
/// In the order of `Methods`.
pub(super) const METHODS: &[&str] = &["auto", "basic", "digest"];
/// In the order of `OnFailure`.
pub(super) const ON_FAILURE: &[&str] = &["deny", "allow"];
/// As `SrtpMode` writes them.
const SRTP_MODES: &[&str] = &["off", "optional", "required"];
/// In the order of `StartConfig`.
pub(super) const STARTS: &[&str] = &["gop", "live"];
/// Listeners in one list: one for each address of a machine with many, times every shard.
const ADDRESSES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_need_a_unit() {
        let cases = [
            ("10s", Some(10_000)),
            ("500ms", Some(500)),
            ("5m", Some(300_000)),
            ("1h", Some(3_600_000)),
            ("10 s", Some(10_000)),
            ("10", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("18446744073709551615h", None),
            ("", None),
        ];
        for (text, ms) in cases {
            assert_eq!(parse_duration(text), ms.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn sizes_know_binary_and_decimal_units() {
        assert_eq!(parse_size("8MiB"), Some(8 << 20));
        assert_eq!(parse_size("8MB"), Some(8_000_000));
        assert_eq!(parse_size("8"), None);
        assert_eq!(parse_size("8mib"), None);
    }

    #[test]
    fn odd_rtp_port_is_refused_with_the_even_one() {
        let error = Setting::Integer(8_001).rtp_port().unwrap_err();
        insta::assert_snapshot!(error, @r"8001 is odd: RTP takes an even port and RTCP the next one; write 8000");
        assert_eq!(Setting::Text("0".into()).rtp_port(), Ok(0));
    }

    proptest! {
        #[test]
        fn shown_sizes_read_back(bytes in 0usize..1 << 40) {
            prop_assert_eq!(parse_size(&show_size(bytes)), Some(bytes as u64));
        }

        #[test]
        fn shown_durations_read_back(ms in 0u64..1 << 40) {
            let value = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&show_duration(value)), Some(value));
        }

        #[test]
        fn any_text_is_read_or_refused_without_panic(text in "\\PC{0,12}") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
        }
    }
}

//! What a viewer's remote control can say, and what became of it.
//!
//! ```text
//!  RTSP, HTTP --Input--> remote --Outcome--> RTSP, HTTP
//! ```
//! Words for both are here: the same in `text/parameters`, JSON and log lines.

use std::fmt;

use crate::base::time::Npt;
use crate::config::lineup::parse_channel;
use crate::rtsp::range::NptText;
use crate::rtsp::response::Status;

/// One key of a remote control, or what stands for several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A digit of a channel number, 0 to 9.
    Digit(u8),
    /// The channel with the next number.
    Up,
    /// The channel with the number before.
    Down,
    /// The channel before this one.
    Last,
    /// A channel number at once.
    Channel(u16),
    /// Goes on, at normal speed.
    Play,
    /// Stops the picture.
    Pause,
    /// A position in a title.
    Seek(Npt),
    /// Fast forward, a step faster with each press.
    Forward,
    /// Rewind, a step faster with each press.
    Rewind,
    /// The client's own PLAY.
    PlayRequest,
    /// The client's own PAUSE.
    PauseRequest,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A digit was taken; the digits of the number so far.
    Digits(String),
    /// The channel plays.
    Tuned(u16),
    /// The picture goes on at normal speed.
    Playing,
    /// The picture stands still.
    Paused,
    /// The title goes on from here.
    Sought(Npt),
    /// The title goes on at this many times its speed; negative: backwards.
    Scaled(i8),
    /// A client's own request was answered; the answer says more.
    Answered,
    /// Nothing has changed.
    Refused(Refusal),
}

/// Why nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The line-up has no such number.
    #[error("no channel {0}")]
    NoChannel(u16),
    /// There was no channel before this one.
    #[error("there was no other channel before")]
    NoLast,
    /// The path is no line-up any more.
    #[error("the path has no channels any more")]
    NoLineup,
    /// A live channel cannot be moved in.
    #[error("a live channel plays, and it has no positions")]
    OfTitles,
    /// The session must play first.
    #[error("the session does not play: PLAY comes first")]
    NotPlaying,
    /// A channel of other media than the client was told of.
    #[error(
        "channel {number} does not fit: the client was told {told}, and the channel has {found}"
    )]
    Unfit {
        /// The channel.
        number: u16,
        /// In the description that the client has.
        told: String,
        /// In the channel.
        found: String,
    },
    /// The channel's source cannot be had.
    #[error("channel {number} is not there: {reason}")]
    NotThere {
        /// The channel.
        number: u16,
        /// Why.
        reason: String,
    },
    /// The channel's source did not come in time.
    #[error("channel {0} did not start in time")]
    Late(u16),
    /// The server has too much to do.
    #[error("the server has too much to do; try again")]
    Busy,
    /// What plays has refused it.
    #[error("{} {}", .0.code(), .0.reason())]
    Status(Status),
    /// The session has ended before.
    #[error("the session has ended")]
    Ended,
}

impl Refusal {
    /// The status of an RTSP answer.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::NoChannel(_) | Self::NoLast | Self::NoLineup | Self::NotThere { .. } => {
                Status::NotFound
            }
            Self::OfTitles | Self::NotPlaying => Status::MethodNotValidInThisState,
            Self::Unfit { .. } => Status::ParameterNotUnderstood,
            Self::Late(_) => Status::GatewayTimeout,
            Self::Busy => Status::ServiceUnavailable,
            Self::Status(status) => *status,
            Self::Ended => Status::SessionNotFound,
        }
    }
}

/// Why a text is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// No parameter of this name can be set.
    #[error("no such parameter; there are key, channel and seek")]
    Name,
    /// No such key.
    #[error("no such key; there are 0 to 9, up, down, last, play, pause, forward and rewind")]
    Key,
    /// Not a channel number.
    #[error("no channel number: 1 to 999")]
    Channel,
    /// Not a position.
    #[error("no position: seconds like 90.5, or 0:01:30.5")]
    Position,
}

impl Input {
    /// Reads a parameter and its value.
    ///
    /// # Errors
    /// See [`InputError`].
    pub fn parse(name: &str, value: &str) -> Result<Self, InputError> {
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "key" => Self::of_key(value).ok_or(InputError::Key),
            "channel" => parse_channel(value).map(Self::Channel).ok_or(InputError::Channel),
            "seek" => position(value).map(Self::Seek).ok_or(InputError::Position),
            _ => Err(InputError::Name),
        }
    }

    fn of_key(word: &str) -> Option<Self> {
        if let [digit @ b'0'..=b'9'] = word.as_bytes() {
            return Some(Self::Digit(digit - b'0'));
        }
        Some(match word.to_ascii_lowercase().as_str() {
            "up" => Self::Up,
            "down" => Self::Down,
            "last" => Self::Last,
            "play" => Self::Play,
            "pause" => Self::Pause,
            "forward" => Self::Forward,
            "rewind" => Self::Rewind,
            _ => return None,
        })
    }

    /// Whether it is about channels, and not about what plays.
    #[must_use]
    pub fn is_of_tuner(self) -> bool {
        match self {
            Self::Digit(_) | Self::Up | Self::Down | Self::Last | Self::Channel(_) => true,
            Self::Play
            | Self::Pause
            | Self::Seek(_)
            | Self::Forward
            | Self::Rewind
            | Self::PlayRequest
            | Self::PauseRequest => false,
        }
    }
}

impl fmt::Display for Input {
    /// As `text/parameters` spell it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digit(digit) => write!(f, "key: {digit}"),
            Self::Up => f.write_str("key: up"),
            Self::Down => f.write_str("key: down"),
            Self::Last => f.write_str("key: last"),
            Self::Channel(number) => write!(f, "channel: {number}"),
            Self::Play => f.write_str("key: play"),
            Self::Pause => f.write_str("key: pause"),
            Self::Seek(npt) => write!(f, "seek: {}", NptText(*npt)),
            Self::Forward => f.write_str("key: forward"),
            Self::Rewind => f.write_str("key: rewind"),
            Self::PlayRequest => f.write_str("PLAY"),
            Self::PauseRequest => f.write_str("PAUSE"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digits(digits) => write!(f, "digits {digits}"),
            Self::Tuned(number) => write!(f, "tuned to {number}"),
            Self::Playing => f.write_str("playing"),
            Self::Paused => f.write_str("paused"),
            Self::Sought(npt) => write!(f, "playing from {}", NptText(*npt)),
            Self::Scaled(scale) => write!(f, "playing at {scale}x"),
            Self::Answered => f.write_str("answered"),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
        }
    }
}

/// Seconds, or hours, minutes and seconds (RFC 2326 s3.6), from zero on.
fn position(text: &str) -> Option<Npt> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.'));
    if !is_plain || text.len() > POSITION_BYTES_MAX {
        return None;
    }
    let parts: Vec<&str> = text.split(':').collect();
    let (whole, seconds) = match parts[..] {
        [seconds] => (0, seconds),
        [hours, minutes, seconds] => {
            let minutes: u64 = minutes.parse().ok().filter(|minutes| *minutes < 60)?;
            (hours.parse::<u64>().ok()? * 3_600 + minutes * 60, seconds)
        }
        _ => return None,
    };
    let seconds: f64 = seconds.parse().ok()?;
    if parts.len() > 1 && seconds >= 60.0 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "of ten digits at most")]
    let sum = whole as f64 + seconds;
    Some(Npt::from_secs_f64(sum))
}

/// Longer is no position of a title.
const POSITION_BYTES_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_and_shown_the_same() {
        for (name, value, shown) in [
            ("key", "2", "key: 2"),
            ("Key", " UP ", "key: up"),
            ("key", "rewind", "key: rewind"),
            ("channel", "201", "channel: 201"),
            ("seek", "90.5", "seek: 90.500"),
            ("seek", "0:01:30.5", "seek: 90.500"),
        ] {
            assert_eq!(Input::parse(name, value).unwrap().to_string(), shown);
        }
        for (name, value, error) in [
            ("key", "10", InputError::Key),
            ("key", "", InputError::Key),
            ("key", "menu", InputError::Key),
            ("channel", "0", InputError::Channel),
            ("channel", "1000", InputError::Channel),
            ("channel", "up", InputError::Channel),
            ("seek", "-1", InputError::Position),
            ("seek", "1:2", InputError::Position),
            ("seek", "0:61:00", InputError::Position),
            ("seek", "inf", InputError::Position),
            ("seek", ".", InputError::Position),
            ("volume", "3", InputError::Name),
        ] {
            assert_eq!(Input::parse(name, value), Err(error), "{name}: {value}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_parameter_is_read_or_refused_without_panic(name in "(key|channel|seek)", value in "\\PC{0,24}") {
            if let Ok(input) = Input::parse(&name, &value) {
                let (name, value) = input.to_string().split_once(": ").map(|(n, v)| (n.to_owned(), v.to_owned())).unwrap();
                proptest::prop_assert!(Input::parse(&name, &value).is_ok());
            }
        }
    }
}

//! Where another program may take over from a running server.

use std::fmt;
use std::path::{Path, PathBuf};

use super::value_error::ValueError;

/// The socket of takeovers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TakeoverConfig {
    /// In the state folder; without one there is none.
    #[default]
    Auto,
    /// There is none.
    Off,
    /// At this path.
    At(PathBuf),
}

impl TakeoverConfig {
    /// From the text of a setting.
    ///
    /// # Errors
    /// The path is not absolute.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            path if path.starts_with('/') => Ok(Self::At(PathBuf::from(path))),
            _ => Err(ValueError::Choice { text: text.to_owned(), choices: CHOICES }),
        }
    }

    /// Path of the socket, with the state folder; `None`: there is none.
    #[must_use]
    pub fn path(&self, state_dir: Option<&Path>) -> Option<PathBuf> {
        match self {
            Self::Auto => state_dir.map(|dir| dir.join(FOLDER).join(SOCKET)),
            Self::Off => None,
            Self::At(path) => Some(path.clone()),
        }
    }
}

impl fmt::Display for TakeoverConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::At(path) => path.display().fmt(f),
        }
    }
}

const CHOICES: &[&str] = &["auto", "off", "an absolute path"];
/// In the state folder: a folder that its user alone can enter.
const FOLDER: &str = "takeover";
const SOCKET: &str = "socket";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_is_in_the_state_folder_unless_another_path_is_set() {
        let state = Some(Path::new("/var/lib/headend"));
        let path = |text: &str| TakeoverConfig::parse(text).unwrap().path(state);
        assert_eq!(path("auto"), Some("/var/lib/headend/takeover/socket".into()));
        assert_eq!(path("off"), None);
        assert_eq!(path("/run/headend/t"), Some("/run/headend/t".into()));
        assert_eq!(TakeoverConfig::Auto.path(None), None);
        let error = TakeoverConfig::parse("run/t").unwrap_err().to_string();
        assert_eq!(error, "`run/t` is not one of auto, off, an absolute path");
    }
}

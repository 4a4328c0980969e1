//! Whether a path can be published to at all: not where the server feeds it.

use crate::config::paths::PathTable;
use crate::config::source::SourceAddress;

/// Why nobody may publish to a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied<'c> {
    /// The path has another source.
    #[error("the path's source is fetched")]
    Fetched {
        /// Which.
        address: &'c SourceAddress,
    },
    /// The path plays titles in order.
    #[error("the path plays titles")]
    Playlist,
    /// The path has channels, or was made for one.
    #[error("the path is a line-up")]
    Lineup,
}

/// Asks whether the live path of this name is fed by publishers.
///
/// # Errors
/// See [`Denied`].
pub fn is_published<'c>(paths: &'c PathTable, path: &str) -> Result<(), Denied<'c>> {
    let config = paths.find(path);
    if config.source.is_fetched() {
        return Err(Denied::Fetched { address: &config.source });
    }
    if config.is_playlist() {
        return Err(Denied::Playlist);
    }
    if paths.lineup(path).is_some() || paths.lineup_over(path).is_some() {
        return Err(Denied::Lineup);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// What feeds live/a by the paths of a file, where that is no publisher.
    fn fed_by(text: &str) -> Option<String> {
        let paths = config::load(Some(("f", text)), [], &[]).unwrap().config.paths;
        match is_published(&paths, "live/a") {
            Ok(()) => None,
            Err(Denied::Fetched { address }) => Some(address.to_string()),
            Err(Denied::Playlist) => Some("playlist".to_owned()),
            Err(Denied::Lineup) => Some("lineup".to_owned()),
        }
    }

    #[test]
    fn path_that_the_server_feeds_is_not_published_to() {
        let fetched = "[path.\"live/a\"]\nsource = \"rtsp://192.0.2.1/x\"\non_demand = true\n";
        assert_eq!(fed_by(fetched).as_deref(), Some("rtsp://192.0.2.1/x"));
        let listed =
            "[path.\"*\"]\npublish = [\"any\"]\n[path.\"live/a\"]\nplaylist = [\"a.mp4\"]\n";
        assert_eq!(fed_by(listed).as_deref(), Some("playlist"));
        assert_eq!(fed_by("[path.\"live/a\"]\npublish = []\n"), None);
    }
}

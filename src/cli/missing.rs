//! Titles that the configuration names and the library has not: warned about, never refused,
//! because files come and go.

use crate::config::Config;
use crate::config::paths::PathTable;
use crate::library::{CLIP_NAME, Library};

/// Sentences about titles of playlists that are not in the library, one for each path.
#[must_use]
pub fn warnings(paths: &PathTable, library: &Library) -> Vec<String> {
    let lists = paths.named.iter().filter(|(_, config)| config.is_playlist());
    let warning = |(path, config): (&String, &_)| warning(path, config, library);
    lists.filter_map(|(path, config)| warning((path, config))).collect()
}

/// The same, with the library that the configuration names. A folder that cannot be opened is not
/// reported here: the start of the server does.
#[must_use]
pub fn warnings_of(config: &Config) -> Vec<String> {
    let library = Library::new(config.media_root.clone());
    library.map_or_else(|_| Vec::new(), |library| warnings(&config.paths, &library))
}

/// Looks for a title by its name in the library.
///
/// # Errors
/// It cannot be opened: the reason.
pub fn find_title(library: &Library, name: &str) -> Result<(), String> {
    if name == CLIP_NAME {
        return Ok(());
    }
    library.identity_of(name).map(|_| ()).map_err(|error| error.to_string())
}

fn warning(
    path: &str,
    config: &crate::config::paths::PathConfig,
    library: &Library,
) -> Option<String> {
    let titles = config.playlist.iter().map(|item| &item.title).chain(&config.slate);
    let missing = titles.filter_map(|title| Some((title, find_title(library, title).err()?)));
    let missing: Vec<_> = missing.collect();
    let (title, reason) = missing.first()?;
    let more = match missing.len() {
        1 => String::new(),
        count => format!(", nor can {} more", count - 1),
    };
    Some(format!(
        "title {title} of the playlist of {path} cannot be played: {reason}{more}; it is skipped \
         until it can be (HE-W310)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn titles_that_are_not_there_are_named_with_their_path() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.mp4"), b"x").unwrap();
        let text = "[path.p]\nplaylist = [\"a.mp4\", \"demo\"]\n[path.q]\nplaylist = [\"b.mp4\", \
                    \"a.mp4\"]\nslate = \"s.mp4\"\n";
        let mut config = config::load(Some(("f", text)), [], &[]).unwrap().config;
        config.media_root = Some(folder.path().to_owned());
        insta::assert_snapshot!(warnings_of(&config).join("\n"), @"title b.mp4 of the playlist of q cannot be played: no such file, nor can 1 more; it is skipped until it can be (HE-W310)");
        config.media_root = Some(folder.path().join("none"));
        assert!(warnings_of(&config).is_empty());
    }
}

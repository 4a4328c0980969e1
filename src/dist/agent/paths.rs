//! Paths of commands: within the media folder, without hidden names, as the library serves them.

use crate::dist::wire::job::Op;

/// Folder of the agent within the media folder.
pub const OWN_FOLDER: &str = ".headend";

/// Whether the paths of a command lie in the media folder and have visible names only: hidden ones
/// are never served, and one of them is the agent's own.
///
/// # Errors
/// A sentence for people.
pub fn check_paths(op: &Op) -> Result<(), String> {
    let (path, to) = match op {
        Op::Put { path, .. }
        | Op::Mkdir { path, .. }
        | Op::Delete { path }
        | Op::SetAttributes { path, .. } => (Some(path), None),
        Op::Move { path, to } => (Some(path), Some(to)),
        // A live path is no file: `reflect` checks its name.
        Op::Query | Op::Live { .. } => (None, None),
    };
    for path in [path, to].into_iter().flatten() {
        let is_part =
            |part: &str| !part.is_empty() && !part.starts_with('.') && part.len() <= NAME_BYTES_MAX;
        let is_path =
            path.len() <= PATH_BYTES_MAX && !path.contains('\0') && path.split('/').all(is_part);
        if !is_path {
            return Err(format!("{path:?} is no path of visible names within the media folder"));
        }
    }
    Ok(())
}

/// Of Linux.
const NAME_BYTES_MAX: usize = 255;
/// Of Linux, with the final zero.
const PATH_BYTES_MAX: usize = 4_095;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_downwards_by_visible_names() {
        let long = "a/".repeat(2_048) + "b";
        let name = "n".repeat(256);
        let good = ["a", "a/b.mp4", "a b/\u{e9}", "a...", "a/b.headend"];
        let bad = [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "./a",
            "a\0",
            &long,
            &name,
            ".hidden",
            OWN_FOLDER,
            ".headend/journal",
            "a/.b/c",
        ];
        for (path, is_good) in good.map(|path| (path, true)).iter().chain(&bad.map(|p| (p, false)))
        {
            let op = Op::Delete { path: (*path).to_owned() };
            assert_eq!(check_paths(&op).is_ok(), *is_good, "{path:?}");
            let op = Op::Move { path: "a".to_owned(), to: (*path).to_owned() };
            assert_eq!(check_paths(&op).is_ok(), *is_good, "{path:?}");
        }
        assert_eq!(check_paths(&Op::Query), Ok(()));
    }
}

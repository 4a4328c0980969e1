//! Commands: what may be asked for, and the state that follows from the deliveries.
//!
//! ```text
//! New --a target begins--> InProgress --all completed--> Completed
//!                                     --all ended, one failed--> Failed
//!                                     --all ended, one withdrawn, none failed--> Cancelled
//! ```
//! A path is relative to the media folder: parts between `/`, none of them empty, `.`, `..` or
//! `.headend`, which is the agent's own folder.
//! Invariant: the state of a command is a function of its deliveries, so that it needs no row of
//! its own. Bounds: `PATH_BYTES_MAX`, `PART_BYTES_MAX`, `XATTRS_MAX`, `XATTR_BYTES_MAX`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::dist::ids::Digest;
use crate::dist::wire::job::{Attributes, CommandState, Op, Totals};

/// Why a path is none of the media folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing.
    #[error("the path is empty")]
    Empty,
    /// Longer than a file system takes.
    #[error(
        "the path is longer than {PATH_BYTES_MAX} bytes, or a part of it than {PART_BYTES_MAX}"
    )]
    TooLong,
    /// Starts with `/`.
    #[error("the path is absolute: it is to be relative to the media folder")]
    Absolute,
    /// A part is empty, `.` or `..`.
    #[error("the path has an empty part, '.' or '..'")]
    Part,
    /// A control character.
    #[error("the path has a control character")]
    Control,
    /// Leads into the agent's own folder.
    #[error("the path leads into .headend, the folder of the agent")]
    Reserved,
}

/// Why attributes cannot be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttributesError {
    /// More than permission bits.
    #[error("mode is {0:o} in octal: at most 7777 is expected")]
    Mode(u32),
    /// Not of the user's name space, or too long.
    #[error("an extended attribute is not of the user. name space, or its name is too long")]
    XattrName,
    /// Not base64, or too long.
    #[error("the value of an extended attribute is not base64, or too long")]
    XattrValue,
    /// More than there is room for.
    #[error("more than {XATTRS_MAX} extended attributes")]
    TooMany,
}

/// Checks a path of a command.
///
/// # Errors
/// `PathError` of the first rule that it breaks.
pub fn check_path(path: &str) -> Result<(), PathError> {
    if path.is_empty() {
        return Err(PathError::Empty);
    }
    if path.len() > PATH_BYTES_MAX || path.split('/').any(|part| part.len() > PART_BYTES_MAX) {
        return Err(PathError::TooLong);
    }
    if path.starts_with('/') {
        return Err(PathError::Absolute);
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(PathError::Part);
    }
    if path.chars().any(char::is_control) {
        return Err(PathError::Control);
    }
    if path.split('/').next() == Some(AGENT_FOLDER) {
        return Err(PathError::Reserved);
    }
    Ok(())
}

/// Checks attributes of a command.
///
/// # Errors
/// `AttributesError` of the first rule that they break.
pub fn check_attributes(attrs: &Attributes) -> Result<(), AttributesError> {
    let Attributes { mode, mtime_ns: _, xattr } = attrs;
    if let Some(mode) = mode.filter(|mode| *mode > MODE_MAX) {
        return Err(AttributesError::Mode(mode));
    }
    if xattr.len() > XATTRS_MAX {
        return Err(AttributesError::TooMany);
    }
    for (name, value) in xattr {
        let is_name = name.strip_prefix("user.").is_some_and(|rest| !rest.is_empty())
            && name.len() <= PART_BYTES_MAX
            && !name.contains('\0');
        if !is_name {
            return Err(AttributesError::XattrName);
        }
        let is_value = |value: &String| {
            STANDARD.decode(value).is_ok_and(|value| value.len() <= XATTR_BYTES_MAX)
        };
        if !value.as_ref().is_none_or(is_value) {
            return Err(AttributesError::XattrValue);
        }
    }
    Ok(())
}

/// BLAKE3 of the attributes' JSON: what a receipt says of them.
#[must_use]
pub fn attributes_digest(attrs: &Attributes) -> Digest {
    let json = serde_json::to_vec(attrs).unwrap_or_default();
    Digest(*blake3::hash(&json).as_bytes())
}

/// The state of a command with these deliveries.
#[must_use]
pub fn state_of(totals: &Totals) -> CommandState {
    let Totals { new, in_progress, completed, failed, cancelled } = *totals;
    match (new + in_progress, in_progress + completed + failed + cancelled) {
        (0, _) if failed > 0 => CommandState::Failed,
        (0, _) if cancelled > 0 => CommandState::Cancelled,
        (0, _) => CommandState::Completed,
        (_, 0) => CommandState::New,
        (_, _) => CommandState::InProgress,
    }
}

impl CommandState {
    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Op {
    /// The path that it is about; none for a query.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Put { path, .. }
            | Self::Mkdir { path, .. }
            | Self::Delete { path }
            | Self::Move { path, .. }
            | Self::SetAttributes { path, .. }
            | Self::Live { path, .. } => Some(path),
            Self::Query => None,
        }
    }

    /// The attributes that it sets.
    #[must_use]
    pub fn attributes(&self) -> Option<&Attributes> {
        match self {
            Self::Put { attrs, .. }
            | Self::Mkdir { attrs, .. }
            | Self::SetAttributes { attrs, .. } => Some(attrs),
            Self::Delete { .. } | Self::Move { .. } | Self::Query | Self::Live { .. } => None,
        }
    }

    /// It brings a live path and ends with its job.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Live { .. })
    }
}

/// Name of the folder, within the media folder, in which the agent keeps what is its own.
pub const AGENT_FOLDER: &str = ".headend";
/// Bytes of a path: what Linux takes, less room for the media folder's own.
pub const PATH_BYTES_MAX: usize = 3_072;
/// Bytes of a name in a folder, and of an extended attribute's name: what Linux takes.
pub const PART_BYTES_MAX: usize = 255;
/// Extended attributes of one command.
pub const XATTRS_MAX: usize = 64;
/// Bytes of an extended attribute's value: what ext4 has room for.
pub const XATTR_BYTES_MAX: usize = 4_000;
const MODE_MAX: u32 = 0o7777;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_the_media_folder_and_out_of_the_agents() {
        for good in ["a", "a/b.mp4", "a/.headend", "..a/b..", "\u{e4}/\u{1f3ac}", " a "] {
            assert_eq!(check_path(good), Ok(()), "{good}");
        }
        let bad = [
            ("", PathError::Empty),
            ("/a", PathError::Absolute),
            ("..", PathError::Part),
            ("a/../b", PathError::Part),
            ("a//b", PathError::Part),
            ("a/", PathError::Part),
            ("./a", PathError::Part),
            ("a\nb", PathError::Control),
            ("a\0b", PathError::Control),
            (".headend", PathError::Reserved),
            (".headend/key", PathError::Reserved),
        ];
        for (path, error) in bad {
            assert_eq!(check_path(path), Err(error), "{path:?}");
        }
        assert_eq!(check_path(&"a".repeat(256)), Err(PathError::TooLong));
        assert_eq!(check_path(&"a/".repeat(1_600)), Err(PathError::TooLong));
    }

    #[test]
    fn attributes_are_permission_bits_and_xattrs_of_the_user() {
        let mut attrs = Attributes { mode: Some(0o4755), ..Attributes::default() };
        attrs.xattr.insert("user.title".to_owned(), Some(STANDARD.encode("x")));
        attrs.xattr.insert("user.old".to_owned(), None);
        assert_eq!(check_attributes(&attrs), Ok(()));
        let too_wide = Attributes { mode: Some(0o10_000), ..Attributes::default() };
        assert_eq!(check_attributes(&too_wide), Err(AttributesError::Mode(0o10_000)));
        for (name, value, error) in [
            ("security.x", "", AttributesError::XattrName),
            ("user.", "", AttributesError::XattrName),
            ("user.x", "%", AttributesError::XattrValue),
        ] {
            let xattr = [(name.to_owned(), Some(value.to_owned()))].into();
            let attrs = Attributes { xattr, ..Attributes::default() };
            assert_eq!(check_attributes(&attrs), Err(error), "{name}");
        }
        let xattr = (0..65).map(|i| (format!("user.{i}"), None)).collect();
        let attrs = Attributes { xattr, ..Attributes::default() };
        assert_eq!(check_attributes(&attrs), Err(AttributesError::TooMany));
    }

    #[test]
    fn state_follows_from_the_deliveries() {
        let totals = |new, in_progress, completed, failed, cancelled| Totals {
            new,
            in_progress,
            completed,
            failed,
            cancelled,
        };
        for (totals, state) in [
            (totals(2, 0, 0, 0, 0), CommandState::New),
            (totals(1, 1, 0, 0, 0), CommandState::InProgress),
            (totals(1, 0, 1, 0, 0), CommandState::InProgress),
            (totals(1, 0, 0, 1, 0), CommandState::InProgress),
            (totals(0, 0, 2, 0, 0), CommandState::Completed),
            (totals(0, 0, 1, 1, 0), CommandState::Failed),
            (totals(0, 0, 0, 1, 1), CommandState::Failed),
            (totals(0, 0, 1, 0, 1), CommandState::Cancelled),
        ] {
            assert_eq!(state_of(&totals), state, "{totals:?}");
        }
    }
}

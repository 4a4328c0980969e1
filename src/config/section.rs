//! Names of sections of `[path]` that are no path.

/// The section for all others.
pub const REST: &str = "*";
/// How the name of a pattern begins.
pub(super) const PATTERN: char = '~';

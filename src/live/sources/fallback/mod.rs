//! Several sources of one path.
pub(crate) mod choice;

//! A text that is not to be shown: a password, a token, a hash that stands for one.
//!
//! Invariant: neither `Debug` nor any other way of printing shows it; [`Secret::expose`] is the
//! one way to its text, and easy to search for.

use std::fmt;

/// A text that cannot be printed by accident.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Secret(Box<str>);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever compares or sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Bytes of a key that cannot be printed by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Box<[u8]>);

impl SecretBytes {
    /// Hides bytes.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for whoever makes a cipher of them or sends them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(..)")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_not_printed() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)).matches("hunter2").count(), 0);
        assert_eq!(secret.expose(), "hunter2");
        let key = SecretBytes::new(*b"hunter2");
        assert_eq!(format!("{key:?}"), "SecretBytes(..)");
        assert_eq!(key.expose(), b"hunter2");
    }
}

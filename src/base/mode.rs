//! How a feature of the kernel is chosen that is not everywhere or not always of use.

/// Whether a feature of the kernel is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Where it works and pays.
    Auto,
    /// Always, and what refuses it is an error: for measurements.
    On,
    /// Never.
    Off,
}

impl Mode {
    /// As in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

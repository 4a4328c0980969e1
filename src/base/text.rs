//! Text of strangers, made safe for a terminal and for one line.

/// Text of a stranger (a file's name) without control characters, which would move the cursor of a
/// terminal or change its title.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

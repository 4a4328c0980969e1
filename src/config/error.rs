//! Why a configuration is refused, in one sentence that says where and what to write instead.

use super::value_error::ValueError;

/// An error of the configuration. Each one is a usage error: exit code 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: {reason}")]
    Unreadable {
        /// Its name.
        file: String,
        /// What the system says.
        reason: String,
    },
    /// The file is not TOML.
    #[error("{file}:{at}: {message}")]
    Syntax {
        /// Its name.
        file: String,
        /// Where.
        at: Position,
        /// What the parser says.
        message: String,
    },
    /// The file has a key that does not exist.
    #[error("{file}:{at}: unknown key `{key}`{}", suggestion(nearest.as_deref()))]
    UnknownKey {
        /// Its name.
        file: String,
        /// Where.
        at: Position,
        /// The whole key, with dots.
        key: String,
        /// The key most like it.
        nearest: Option<String>,
    },
    /// A value of the file is refused.
    #[error("{file}:{at}: {key}: {problem}")]
    Value {
        /// Its name.
        file: String,
        /// Where the value begins.
        at: Position,
        /// The whole key, with dots.
        key: String,
        /// Why.
        problem: ValueError,
    },
    /// A `HEADEND__*` variable stands for no key.
    #[error("environment: unknown variable {name}{}", suggestion(nearest.as_deref()))]
    UnknownVariable {
        /// Its name.
        name: String,
        /// The variable most like it.
        nearest: Option<String>,
    },
    /// The value of a variable is refused.
    #[error("environment: {name}: {problem}")]
    Variable {
        /// Its name.
        name: String,
        /// Why.
        problem: ValueError,
    },
    /// The value of a flag is refused.
    #[error("{flag}: {problem}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// Why.
        problem: ValueError,
    },
    /// A flag stands for a key that does not exist: a mistake of ours, told as one.
    #[error("{flag}: stands for no configuration key")]
    UnknownFlagKey {
        /// The flag.
        flag: &'static str,
    },
}

/// Line and column of a character, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column in characters.
    pub column: usize,
}

impl Position {
    /// Of the byte at `offset`; past the end it is the end.
    #[must_use]
    pub fn of(text: &str, offset: usize) -> Self {
        let before = text.char_indices().take_while(|(at, _)| *at < offset).map(|(_, c)| c);
        before.fold(Self { line: 1, column: 1 }, |at, c| match c {
            '\n' => Self { line: at.line + 1, column: 1 },
            _ => Self { column: at.column + 1, ..at },
        })
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; did you mean `{nearest}`?"))
}

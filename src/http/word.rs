//! A word by which a list is searched: `q=` of a query, whatever its case.
//!
//! Bound: `WORD_BYTES_MAX`.

use super::problem::Problem;

/// A word that is looked for.
#[derive(Debug)]
pub(super) struct Word(String);

impl Word {
    /// The `q` of a query; an empty one looks for nothing.
    pub(super) fn read(asked: Option<&String>) -> Result<Option<Self>, Problem> {
        let word = asked.map(|word| word.trim().to_lowercase()).unwrap_or_default();
        if word.len() > WORD_BYTES_MAX {
            return Err(Problem::bad_request(format!("q has more than {WORD_BYTES_MAX} bytes")));
        }
        Ok((!word.is_empty()).then_some(Self(word)))
    }

    /// Whether one of `texts` has it.
    pub(super) fn is_in<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> bool {
        texts.into_iter().any(|text| text.to_lowercase().contains(&self.0))
    }
}

/// Longer than a title's name as a person types it.
const WORD_BYTES_MAX: usize = 200;

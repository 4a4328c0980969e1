//! Values of rows as tables keep them: words for states, text for ids, signed numbers.
//!
//! Invariant: what is written is read back as the same value, and anything else is an error that
//! names the table and the column.

use serde::de::DeserializeOwned;
use serde::de::IntoDeserializer;
use serde::de::value::Error as WordError;
use serde::{Deserialize, Serialize};

use super::LedgerError;
use super::value::{FromValue, Record};

/// The columns of a row, taken one after the other.
pub(super) struct Columns<'r> {
    row: &'r dyn Record,
    table: &'static str,
    next: usize,
}

impl<'r> Columns<'r> {
    pub(super) fn new(row: &'r dyn Record, table: &'static str) -> Self {
        Self { row, table, next: 0 }
    }

    /// A number, a text, or none where the column may have none. Numbers without sign are kept
    /// bit for bit.
    pub(super) fn take<T: FromValue>(&mut self) -> Result<T, LedgerError> {
        let column = self.next;
        self.next += 1;
        let value = self.row.value(column).map_err(|why| self.damaged(column, why))?;
        T::from_value(value).ok_or_else(|| self.damaged(column, NO_SUCH_VALUE.to_owned()))
    }

    /// What a text of its own stands for: a state, an id, a name, a digest.
    pub(super) fn word<'de, T: Deserialize<'de>>(&mut self) -> Result<T, LedgerError> {
        let text: String = self.take()?;
        self.read_word(text)
    }

    /// The same, where there may be none.
    pub(super) fn word_if_any<'de, T: Deserialize<'de>>(
        &mut self,
    ) -> Result<Option<T>, LedgerError> {
        let text: Option<String> = self.take()?;
        text.map(|text| self.read_word(text)).transpose()
    }

    /// A value that is kept as JSON.
    pub(super) fn json<T: DeserializeOwned>(&mut self) -> Result<T, LedgerError> {
        let text: String = self.take()?;
        serde_json::from_str(&text).map_err(|error| self.damaged(self.next - 1, error.to_string()))
    }

    /// The column before is not what it must be.
    pub(super) fn wrong(&self, why: impl Into<String>) -> LedgerError {
        self.damaged(self.next.saturating_sub(1), why.into())
    }

    fn read_word<'de, T: Deserialize<'de>>(&self, text: String) -> Result<T, LedgerError> {
        let read = T::deserialize(IntoDeserializer::<WordError>::into_deserializer(text));
        read.map_err(|error| self.damaged(self.next - 1, error.to_string()))
    }

    fn damaged(&self, column: usize, why: String) -> LedgerError {
        LedgerError::Damaged { table: self.table, column, why }
    }
}

/// The word that a state or reason has in JSON.
///
/// # Errors
/// `LedgerError::Form` for what is no word: a fault of the program.
pub(super) fn word<T: Serialize>(value: &T) -> Result<String, LedgerError> {
    let text = serde_json::to_string(value)?;
    Ok(text.trim_matches('"').to_owned())
}

/// A value as JSON.
pub(super) fn json<T: Serialize>(value: &T) -> Result<String, LedgerError> {
    Ok(serde_json::to_string(value)?)
}

const NO_SUCH_VALUE: &str = "the value is of another kind or too great";

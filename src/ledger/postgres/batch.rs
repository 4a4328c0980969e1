//! Changes of one transaction as PostgreSQL is given them: for each table an array for each column.
//!
//! A row that is written several times is given once, as it was last: a statement must not write a
//! row twice. Events are given as they are.
//! PostgreSQL has no NUL in a text: [`ESCAPE`] and `0` stand for it, and two escapes for one.

use std::borrow::Cow;
use std::collections::HashMap;

use tokio_postgres::types::ToSql;

use crate::dist::rows::Change;
use crate::ledger::LedgerError;
use crate::ledger::tables::{Kind, Place, TABLES};
use crate::ledger::value::Value;
use crate::ledger::write;

/// Changes, by table.
pub(super) struct Batch<'c> {
    arrays: Vec<(Place, Vec<Array<'c>>)>,
    oldest_answer_ns: Option<i64>,
    trimmed: Option<i64>,
    last_event: Option<(i64, String)>,
}

type Array<'c> = Box<dyn ToSql + Sync + 'c>;

impl<'c> Batch<'c> {
    pub(super) fn new(changes: &'c [Change]) -> Result<Self, LedgerError> {
        let mut rows: [Rows<'c>; TABLES.len()] = Default::default();
        let (mut oldest_answer_ns, mut trimmed, mut last_event) = (None, None, None);
        for change in changes {
            match change {
                Change::Answer(row) => oldest_answer_ns = Some(write::oldest_answer_ns(row)),
                Change::Event(event) => {
                    last_event = Some((event.seq.cast_signed(), event.hash.to_string()));
                }
                Change::Trim(head) => trimmed = Some(head.seq.cast_signed()),
                _ => {}
            }
            let (place, values) = write::values(change)?;
            if let Some(rows) = rows.get_mut(place as usize) {
                rows.push(place, values);
            }
        }
        let arrays = rows.into_iter().filter_map(Rows::into_arrays).collect();
        Ok(Self { arrays, oldest_answer_ns, trimmed, last_event })
    }

    /// Tables with changes, and the parameters of the statement that writes them.
    pub(super) fn writes(&self) -> impl Iterator<Item = (Place, Vec<&(dyn ToSql + Sync)>)> {
        self.arrays.iter().map(|(place, arrays)| {
            let params = arrays.iter().map(|array| {
                let param: &(dyn ToSql + Sync) = array.as_ref();
                param
            });
            (*place, params.collect())
        })
    }

    /// Answers from before are removed.
    pub(super) fn oldest_answer_ns(&self) -> Option<i64> {
        self.oldest_answer_ns
    }

    /// Events up to this number are removed.
    pub(super) fn trimmed(&self) -> Option<i64> {
        self.trimmed
    }

    /// Number and hash of the last event.
    pub(super) fn last_event(&self) -> Option<(i64, &str)> {
        self.last_event.as_ref().map(|(seq, hash)| (*seq, hash.as_str()))
    }
}

/// Rows of a table.
#[derive(Default)]
struct Rows<'c> {
    place: Option<Place>,
    rows: Vec<Vec<Value<'c>>>,
    by_key: HashMap<String, usize>,
}

impl<'c> Rows<'c> {
    fn push(&mut self, place: Place, values: Vec<Value<'c>>) {
        self.place = Some(place);
        let table = place.table();
        if table.is_log {
            return self.rows.push(values);
        }
        let key = values.iter().take(table.key_len).map(|value| format!("{value:?}\0"));
        match self.by_key.entry(key.collect()) {
            std::collections::hash_map::Entry::Occupied(known) => {
                if let Some(row) = self.rows.get_mut(*known.get()) {
                    *row = values;
                }
            }
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(self.rows.len());
                self.rows.push(values);
            }
        }
    }

    fn into_arrays(self) -> Option<(Place, Vec<Array<'c>>)> {
        let place = self.place?;
        let kinds = place.table().columns.iter().map(|column| column.kind);
        let mut columns: Vec<Column<'c>> =
            kinds.map(|kind| Column::new(kind, self.rows.len())).collect();
        for row in self.rows {
            for (column, value) in columns.iter_mut().zip(row) {
                column.push(value);
            }
        }
        Some((place, columns.into_iter().map(Column::into_array).collect()))
    }
}

enum Column<'c> {
    Texts(Vec<Option<Cow<'c, str>>>),
    Integers(Vec<Option<i64>>),
    Reals(Vec<Option<f64>>),
}

impl<'c> Column<'c> {
    fn new(kind: Kind, len: usize) -> Self {
        match kind {
            Kind::Text => Self::Texts(Vec::with_capacity(len)),
            Kind::Integer => Self::Integers(Vec::with_capacity(len)),
            Kind::Real => Self::Reals(Vec::with_capacity(len)),
        }
    }

    /// A value of another kind is none: a column that must have one refuses it.
    fn push(&mut self, value: Value<'c>) {
        match (self, value) {
            (Self::Texts(texts), Value::Text(text)) => texts.push(Some(escaped(text))),
            (Self::Texts(texts), _) => texts.push(None),
            (Self::Integers(numbers), Value::Integer(number)) => numbers.push(Some(number)),
            (Self::Integers(numbers), _) => numbers.push(None),
            (Self::Reals(numbers), Value::Real(number)) => numbers.push(Some(number)),
            (Self::Reals(numbers), _) => numbers.push(None),
        }
    }

    fn into_array(self) -> Array<'c> {
        match self {
            Self::Texts(texts) => Box::new(texts),
            Self::Integers(numbers) => Box::new(numbers),
            Self::Reals(numbers) => Box::new(numbers),
        }
    }
}

/// A text without NUL.
fn escaped(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.contains(['\0', ESCAPE]) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\0' => out.extend([ESCAPE, '0']),
            ESCAPE => out.extend([ESCAPE, ESCAPE]),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The text that was escaped.
pub(super) fn unescaped(text: String) -> String {
    if !text.contains(ESCAPE) {
        return text;
    }
    let mut chars = text.chars();
    let mut out = String::with_capacity(text.len());
    while let Some(c) = chars.next() {
        out.push(match c {
            ESCAPE => match chars.next() {
                Some('0') => '\0',
                Some(other) => other,
                None => ESCAPE,
            },
            c => c,
        });
    }
    out
}

/// No character (Unicode 23.7): nobody writes it.
const ESCAPE: char = '\u{fffe}';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_with_nul_is_kept_without_one() {
        for text in ["", "a", "\0", "a\0b\u{fffe}0", "\u{fffe}", "\u{fffe}\0\u{fffe}\u{fffe}"] {
            let kept = escaped(text.into());
            assert!(!kept.contains('\0'), "{kept:?}");
            assert_eq!(unescaped(kept.into_owned()), text);
        }
    }
}

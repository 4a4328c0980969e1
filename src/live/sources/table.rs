//! Sources that the server fetches, by number and by path.
//!
//! ```text
//!  path --by_path--> number --by_number--> source
//! ```
//! Invariant: a source in the table is found by its number and, while it is the newest one of its
//! path, by its path. Bound: the paths with their owner on this shard.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

/// A source that is fetched for a path.
pub(crate) trait OfPath {
    /// Name of the path.
    fn path(&self) -> &Arc<str>;
}

/// Fetched sources of one kind: see the module.
#[derive(Debug)]
pub(crate) struct SourceTable<T> {
    /// Sorted, because each turn looks at some of the sources.
    by_number: BTreeMap<u32, T>,
    by_path: HashMap<Arc<str>, u32>,
}

impl<T> Default for SourceTable<T> {
    fn default() -> Self {
        Self { by_number: BTreeMap::new(), by_path: HashMap::new() }
    }
}

impl<T: OfPath> SourceTable<T> {
    /// Enters a source under a number that was not used before.
    pub(crate) fn insert(&mut self, number: u32, source: T) {
        self.by_path.insert(Arc::clone(source.path()), number);
        self.by_number.insert(number, source);
    }

    /// Removes a source.
    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let source = self.by_number.remove(&number)?;
        if self.by_path.get(source.path()) == Some(&number) {
            self.by_path.remove(source.path());
        }
        Some(source)
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.by_number.get(&number)
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.by_number.get_mut(&number)
    }

    /// Number of a path's source.
    pub(crate) fn number_of(&self, path: &str) -> Option<u32> {
        self.by_path.get(path).copied()
    }

    /// Numbers beyond a bound, in order.
    pub(crate) fn range_from(&self, from: Bound<u32>) -> impl Iterator<Item = u32> {
        self.by_number.range((from, Bound::Unbounded)).map(|(number, _)| *number)
    }

    /// Whether there are no sources.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    /// Number of sources.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.by_number.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl OfPath for Arc<str> {
        fn path(&self) -> &Arc<str> {
            self
        }
    }

    proptest! {
        /// Sources of a few paths begin and end in any order.
        #[test]
        fn newest_source_of_a_path_is_found_by_the_path_until_it_ends(
            events in prop::collection::vec((any::<bool>(), 0_u32..4, 0_u32..30), 0..60),
        ) {
            let mut table = SourceTable::default();
            let (mut model, mut next) = (BTreeMap::new(), 0);
            let mut newest: BTreeMap<u32, u32> = BTreeMap::new();
            for (is_begin, path, number) in events {
                if is_begin {
                    table.insert(next, Arc::<str>::from(path.to_string()));
                    model.insert(next, path);
                    newest.insert(path, next);
                    next += 1;
                } else {
                    let removed = table.remove(number).map(|path| path.to_string());
                    let expected = model.remove(&number);
                    prop_assert_eq!(removed, expected.map(|path| path.to_string()));
                }
                for path in 0..4 {
                    let alive = newest.get(&path).copied().filter(|n| model.contains_key(n));
                    prop_assert_eq!(table.number_of(&path.to_string()), alive);
                }
                let numbers: Vec<u32> = table.range_from(Bound::Unbounded).collect();
                prop_assert_eq!(numbers, model.keys().copied().collect::<Vec<_>>());
                prop_assert_eq!((table.len(), table.is_empty()), (model.len(), model.is_empty()));
            }
        }
    }
}

//! The table of one shard: one row per descriptor, with the consumer responsible for it.
//!
//! ```text
//!  Armed --event--> Suspended --Handled | Outcome | Answered--> Armed
//! ```
//! Invariant: an entry is Suspended from the moment its consumer is handed an event until the
//! consumer is done with it; a suspended entry's descriptor is not polled, so the peer's TCP
//! window closes by itself and its requests are answered in order (reference 001).
//! Bound: `entries_max` rows; a full table hands the consumer back.

use slab::Slab;

/// Names a row. The generation tells it from a later one in the same place, so that an outcome
/// which arrives after its connection has gone finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryKey {
    /// Place in the table.
    pub index: u32,
    /// Counts the rows ever inserted, modulo 2^24.
    pub generation: u32,
}

/// Whether the descriptor of an entry is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polling {
    /// The next event is reported.
    Armed,
    /// An event is being handled.
    Suspended,
}

/// Descriptors of one shard with their consumers.
#[derive(Debug)]
pub struct PollTable<C> {
    rows: Slab<Row<C>>,
    entries_max: usize,
    generation: u32,
    suspended_count: usize,
}

#[derive(Debug)]
struct Row<C> {
    generation: u32,
    polling: Polling,
    /// Away while the consumer itself runs.
    consumer: Option<C>,
}

impl<C> PollTable<C> {
    /// A table of at most `entries_max` rows.
    #[must_use]
    pub fn new(entries_max: usize) -> Self {
        Self { rows: Slab::new(), entries_max, generation: 0, suspended_count: 0 }
    }

    /// Registers a consumer, suspended until `enable_events`.
    ///
    /// # Errors
    /// Hands the consumer back when the table is full.
    pub fn register(&mut self, consumer: C) -> Result<EntryKey, C> {
        if self.rows.len() >= self.entries_max {
            return Err(consumer);
        }
        self.generation = (self.generation + 1) & GENERATION_MASK;
        let row = Row {
            generation: self.generation,
            polling: Polling::Suspended,
            consumer: Some(consumer),
        };
        self.suspended_count += 1;
        let index = u32::try_from(self.rows.insert(row)).unwrap_or(u32::MAX);
        Ok(EntryKey { index, generation: self.generation })
    }

    /// Removes a row; its consumer comes back unless it is running.
    pub fn unregister(&mut self, key: EntryKey) -> Option<C> {
        self.row(key)?;
        let row = self.rows.remove(key.index as usize);
        self.suspended_count -= usize::from(row.polling == Polling::Suspended);
        row.consumer
    }

    /// Resumes polling. False when the row is gone or was armed already.
    pub fn enable_events(&mut self, key: EntryKey) -> bool {
        self.set_polling(key, Polling::Armed)
    }

    /// Ceases polling. False when the row is gone or was suspended already.
    pub fn suspend(&mut self, key: EntryKey) -> bool {
        self.set_polling(key, Polling::Suspended)
    }

    /// Whether the descriptor of an entry is polled.
    #[must_use]
    pub fn polling(&self, key: EntryKey) -> Option<Polling> {
        self.row(key).map(|row| row.polling)
    }

    /// Takes the consumer out to run it; `put_back` ends that.
    pub fn take(&mut self, key: EntryKey) -> Option<C> {
        self.row_mut(key)?.consumer.take()
    }

    /// Ends `take`. The consumer comes back when its row has gone meanwhile.
    ///
    /// # Errors
    /// The consumer, when nothing is left to hold it.
    pub fn put_back(&mut self, key: EntryKey, consumer: C) -> Result<(), C> {
        match self.row_mut(key) {
            Some(row) => row.consumer = Some(consumer),
            None => return Err(consumer),
        }
        Ok(())
    }

    /// The consumer of a row, while it does not run.
    pub fn consumer_mut(&mut self, key: EntryKey) -> Option<&mut C> {
        self.row_mut(key)?.consumer.as_mut()
    }

    /// The key of the row at `index`, for completions that name only the place.
    #[must_use]
    pub fn key_at(&self, index: u32) -> Option<EntryKey> {
        let row = self.rows.get(index as usize)?;
        Some(EntryKey { index, generation: row.generation })
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = EntryKey> + '_ {
        self.rows.iter().map(|(index, row)| EntryKey {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            generation: row.generation,
        })
    }

    /// Rows at most.
    #[must_use]
    pub fn entries_max(&self) -> usize {
        self.entries_max
    }

    /// Rows.
    #[must_use]
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// Rows that are not polled.
    #[must_use]
    pub fn suspended_count(&self) -> usize {
        self.suspended_count
    }

    fn set_polling(&mut self, key: EntryKey, polling: Polling) -> bool {
        let Some(row) = self.row_mut(key) else { return false };
        if row.polling == polling {
            return false;
        }
        row.polling = polling;
        match polling {
            Polling::Armed => self.suspended_count -= 1,
            Polling::Suspended => self.suspended_count += 1,
        }
        true
    }

    fn row(&self, key: EntryKey) -> Option<&Row<C>> {
        self.rows.get(key.index as usize).filter(|row| row.generation == key.generation)
    }

    fn row_mut(&mut self, key: EntryKey) -> Option<&mut Row<C>> {
        self.rows.get_mut(key.index as usize).filter(|row| row.generation == key.generation)
    }
}

const GENERATION_MASK: u32 = 0x00ff_ffff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_table_hands_the_consumer_back() {
        let mut table = PollTable::new(1);
        let first = table.register('a').unwrap();
        assert_eq!(table.register('b'), Err('b'));
        assert_eq!(table.unregister(first), Some('a'));
        assert!(table.register('b').is_ok());
    }

    #[test]
    fn key_of_a_removed_row_finds_nothing_in_its_successor() {
        let mut table = PollTable::new(1);
        let old = table.register('a').unwrap();
        table.unregister(old);
        let new = table.register('b').unwrap();
        assert_eq!(old.index, new.index);
        assert!(table.consumer_mut(old).is_none());
        assert!(!table.enable_events(old));
        assert_eq!(table.key_at(new.index), Some(new));
    }

    #[test]
    fn entry_is_suspended_until_enabled_and_counted() {
        let mut table = PollTable::new(2);
        let key = table.register(()).unwrap();
        assert_eq!(table.suspended_count(), 1);
        assert!(table.enable_events(key));
        assert!(!table.enable_events(key));
        assert_eq!(table.suspended_count(), 0);
        assert!(table.suspend(key));
        table.unregister(key);
        assert_eq!((table.count(), table.suspended_count()), (0, 0));
    }
}

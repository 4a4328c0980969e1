//! Files that a disk gives back: the hashes of a content.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};

use headend::dist::ids::ContentId;
use headend::store::foreign::{JournalFacts, read_journal};

use crate::input::Input;

/// A journal of a content: no more units than it has hashes, frames that nobody signed do not
/// count, and one that was cut off says no more than the whole.
pub fn journal(data: &[u8]) {
    let mut input = Input::new(data);
    let is_signed = input.u8() & 1 == 0;
    let size = input.u64();
    let records = input.rest();
    let id = ContentId(uuid::Uuid::from_u128(1));
    let head = [b"HEUNITS1".as_slice(), id.0.as_bytes(), &size.to_be_bytes()].concat();
    let read =
        |records: &[u8]| with_file(&[&head, records], |file| read_journal(file, id, is_signed));
    let facts: JournalFacts = read(records).expect("a journal with its header");
    assert_eq!(facts.size, (size != u64::MAX).then_some(size));
    assert!(usize::try_from(facts.units).is_ok_and(|units| units <= records.len() / 32));
    assert!(is_signed || (facts.units, facts.is_whole) == (0, false));
    let cut = read(&records[..records.len() / 2]).expect("a journal with its header");
    assert!(cut.units <= facts.units, "{cut:?} of {facts:?}");
    assert!(
        with_file(&[records], |file| read_journal(file, id, true)).is_err()
            || records.starts_with(&head[..24])
    );
}

thread_local! {
    /// One file for all inputs: to make one costs more than to read it.
    static FILE: RefCell<File> = RefCell::new(memory_file());
}

fn memory_file() -> File {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    rustix::fs::memfd_create("fuzz", flags).expect("a file in memory").into()
}

fn with_file<T>(parts: &[&[u8]], read: impl FnOnce(&File) -> T) -> T {
    FILE.with_borrow_mut(|file| {
        file.set_len(0).expect("an empty file");
        file.seek(SeekFrom::Start(0)).expect("its start");
        parts.iter().for_each(|part| file.write_all(part).expect("room in memory"));
        read(file)
    })
}

//! Ranges of files that a buffer has places for, and the reads that fill them.
//!
//! ```text
//!  push: header, [place], bytes of the window, [place] ..  --fill--> as few preadv2 as they allow
//! ```
//! Media bytes of files are not touched through their map (invariant I6): they are read, as a rule
//! from the page cache, where workers have brought them seconds ago (invariant I16). A read that
//! the page cache cannot answer waits for the disk, as the kernel does in a send from the map; it
//! is counted.
//!
//! Invariant: places lie behind each other in the buffer. Bound: the buffer's.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use rustix::io::{ReadWriteFlags, preadv2};

use crate::library::title::Title;
use crate::media::window::{Packet, PacketWindow, Piece};
use crate::shard::ring::RangeOutside;

/// Places of a buffer that are to be filled.
#[derive(Debug, Default)]
pub(super) struct FileReads {
    reads: Vec<Read>,
    titles: Vec<Arc<Title>>,
}

/// A range of a file that the buffer has a place for.
#[derive(Debug, Clone, Copy)]
struct Read {
    /// Index in `FileReads::titles`.
    title: usize,
    offset: u64,
    /// Place in the buffer.
    at: usize,
    bytes: usize,
}

impl FileReads {
    pub(super) fn clear(&mut self) {
        self.reads.clear();
        self.titles.clear();
    }

    /// Appends the payload of a packet to a buffer: bytes of the window, and places.
    ///
    /// # Errors
    /// A piece lies outside of the file; buffer and places are as before.
    pub(super) fn push_pieces(
        &mut self,
        buffer: &mut Vec<u8>,
        (window, packet): (&PacketWindow, &Packet),
        title: &Arc<Title>,
    ) -> Result<(), RangeOutside> {
        let (bytes_before, reads_before) = (buffer.len(), self.reads.len());
        for piece in window.pieces(packet) {
            match *piece {
                Piece::Inline { offset, bytes } => {
                    buffer.extend_from_slice(window.inline_bytes(offset, bytes));
                }
                Piece::File { offset, bytes } => {
                    if title.map.kernel_address(offset, bytes).is_none() {
                        buffer.truncate(bytes_before);
                        self.reads.truncate(reads_before);
                        let file_bytes = title.map.file_bytes();
                        return Err(RangeOutside::File { offset, bytes, file_bytes });
                    }
                    self.push_place(buffer, title, offset, bytes.into());
                }
            }
        }
        Ok(())
    }

    fn push_place(&mut self, buffer: &mut Vec<u8>, title: &Arc<Title>, offset: u64, bytes: usize) {
        let is_same = |known: &Arc<Title>| Arc::ptr_eq(known, title);
        let place = self.titles.iter().rposition(is_same).unwrap_or_else(|| {
            self.titles.push(Arc::clone(title));
            self.titles.len() - 1
        });
        let at = buffer.len();
        buffer.resize(at + bytes, 0);
        self.reads.push(Read { title: place, offset, at, bytes });
    }

    /// Fills the places, of which none are left then. Ranges that lie behind each other in a file
    /// are one read.
    ///
    /// # Errors
    /// `InvalidData`: the file has become shorter since it was opened, as a send from the map
    /// reports it. Others as the system says.
    pub(super) fn fill(&mut self, buffer: &mut [u8], cold: &mut u64) -> io::Result<()> {
        let filled = self.fill_groups(buffer, cold);
        self.clear();
        filled
    }

    fn fill_groups(&self, buffer: &mut [u8], cold: &mut u64) -> io::Result<()> {
        let mut rest = self.reads.as_slice();
        while let Some(first) = rest.first() {
            let mut end = first.offset;
            let is_next = |read: &&Read| {
                let is_next = read.title == first.title && read.offset == end;
                end += read.bytes as u64;
                is_next
            };
            let count = rest.iter().take_while(is_next).take(VECTORS_MAX).count();
            let (group, others) = rest.split_at(count.max(1));
            if let Some(title) = self.titles.get(first.title) {
                read_group(&title.file, buffer, group, cold)?;
            }
            rest = others;
        }
        Ok(())
    }
}

/// Reads ranges that lie behind each other into their places of the buffer.
fn read_group(file: &File, buffer: &mut [u8], group: &[Read], cold: &mut u64) -> io::Result<()> {
    let Some(first) = group.first() else { return Ok(()) };
    let mut places = [(); VECTORS_MAX].map(|()| IoSliceMut::new(&mut []));
    let (mut rest, mut base, mut wanted) = (&mut *buffer, 0, 0);
    for (read, vector) in group.iter().zip(&mut places) {
        let (_, behind) = rest.split_at_mut(read.at - base);
        let (place, behind) = behind.split_at_mut(read.bytes);
        *vector = IoSliceMut::new(place);
        (rest, base, wanted) = (behind, read.at + read.bytes, wanted + read.bytes);
    }
    // Only what is in memory: an error or a part means that the disk has to be asked.
    let vectors = places.get_mut(..group.len()).unwrap_or_default();
    let read = preadv2(file, vectors, first.offset, ReadWriteFlags::NOWAIT);
    if read == Ok(wanted) {
        return Ok(());
    }
    *cold += 1;
    for read in group {
        let place = buffer.get_mut(read.at..read.at + read.bytes).unwrap_or_default();
        read_cold(file, place, read.offset)?;
    }
    Ok(())
}

fn read_cold(file: &File, place: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(place, offset).map_err(|error| match error.kind() {
        // What a send from the map reports.
        io::ErrorKind::UnexpectedEof => io::ErrorKind::InvalidData.into(),
        _ => error,
    })
}

/// The kernel takes 1,024 in one read; these lie on the stack.
const VECTORS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library::testing::title_with_bytes;
    use crate::media::window::{Frame, WindowBuilder};

    /// Pieces of a packet: bytes of the file at a place, or of the window.
    fn window(pieces: &[(Option<u64>, usize)]) -> PacketWindow {
        let mut builder = WindowBuilder::new();
        for (offset, bytes) in pieces {
            match offset {
                Some(offset) => builder.push_file(*offset, *bytes),
                None => builder.push_inline(&vec![0xee; *bytes]),
            }
        }
        builder.end_packet(true);
        builder.end_frame(Frame::SYNC);
        builder.finish()
    }

    #[test]
    fn places_get_the_bytes_of_their_files_and_neighbours_are_one_read() {
        let first: Vec<u8> = (0..9_000_u32).map(|at| (at ^ (at >> 7)).to_le_bytes()[0]).collect();
        let second: Vec<u8> = first.iter().map(|byte| !byte).collect();
        let titles = [title_with_bytes(&first), title_with_bytes(&second)];
        // Neighbours in the file, apart in the packet; more than one read takes; then one behind.
        let mut pieces: Vec<(Option<u64>, usize)> = Vec::new();
        for number in 0..100 {
            pieces.extend([(None, 3), (Some(number * 7), 7)]);
        }
        pieces.extend([(Some(8_000), 100), (Some(20), 1)]);
        let window = window(&pieces);
        let packet = &window.all_packets()[0];
        let (mut reads, mut buffer, mut cold) = (FileReads::default(), vec![1; 5], 0);
        let mut expected = buffer.clone();
        for (title, bytes) in titles.iter().zip([&first, &second]) {
            reads.push_pieces(&mut buffer, (&window, packet), title).unwrap();
            for (offset, count) in &pieces {
                match offset {
                    Some(offset) => {
                        let at = usize::try_from(*offset).unwrap();
                        expected.extend(&bytes[at..at + count]);
                    }
                    None => expected.extend(vec![0xee; *count]),
                }
            }
        }
        reads.fill(&mut buffer, &mut cold).unwrap();
        assert!(buffer == expected);
        assert_eq!(cold, 0, "the files are in memory");
        assert!(reads.reads.is_empty() && reads.titles.is_empty(), "no title is held");
        // The file has ended.
        titles[0].file.set_len(0).unwrap();
        reads.push_pieces(&mut buffer, (&window, packet), &titles[0]).unwrap();
        let failed = reads.fill(&mut buffer, &mut cold).unwrap_err();
        assert_eq!((failed.kind(), cold), (io::ErrorKind::InvalidData, 1));
        assert!(reads.reads.is_empty() && reads.titles.is_empty());
    }
}

//! Surgery on MP4 boxes (ISO 14496-12 s4.2): for files that no muxer writes on request, and for
//! files that no muxer should write.

use std::ops::Range;

/// Boxes that hold boxes, as far as surgery needs to look.
const CONTAINERS: [&[u8; 4]; 8] =
    [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf"];

/// A box inside a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) kind: [u8; 4],
    /// Header and content.
    pub(crate) whole: Range<usize>,
    pub(crate) content: Range<usize>,
}

/// Every box of `file`, outer before inner, in the order of the file. Well-formed files only.
pub(crate) fn all(file: &[u8]) -> Vec<Found> {
    let mut found = Vec::new();
    walk(file, 0..file.len(), &mut found);
    found
}

/// The boxes of `kind`.
pub(crate) fn of_kind(file: &[u8], kind: &[u8; 4]) -> Vec<Found> {
    all(file).into_iter().filter(|found| &found.kind == kind).collect()
}

fn walk(file: &[u8], range: Range<usize>, found: &mut Vec<Found>) {
    let mut at = range.start;
    while at + 8 <= range.end {
        let kind: [u8; 4] = file[at + 4..at + 8].try_into().unwrap();
        let (header, size) = match u32_at(file, at) {
            0 => (8, range.end - at),
            1 => (16, usize::try_from(u64_at(file, at + 8)).unwrap()),
            size => (8, size as usize),
        };
        assert!(size >= header && at + size <= range.end, "box at {at}");
        let content = at + header..at + size;
        found.push(Found { kind, whole: at..at + size, content: content.clone() });
        if CONTAINERS.contains(&&kind) {
            walk(file, content, found);
        }
        at += size;
    }
}

/// Turns each 32-bit chunk offset table into a 64-bit one. `moov` must be behind `mdat`.
pub(crate) fn stco_to_co64(file: &[u8]) -> Vec<u8> {
    let moov = of_kind(file, b"moov").remove(0);
    let mdat = of_kind(file, b"mdat").remove(0);
    assert!(mdat.whole.start < moov.whole.start, "offsets would move");
    let widened = rebuild(&file[moov.whole.clone()], &mut |kind, content| {
        (kind == b"stco").then(|| {
            let mut wide = content[..8].to_vec();
            for entry in content[8..].chunks_exact(4) {
                wide.extend([0; 4]);
                wide.extend(entry);
            }
            (*b"co64", wide)
        })
    });
    [&file[..moov.whole.start], &widened, &file[moov.whole.end..]].concat()
}

/// One track with the samples of `one` and behind them those of `two`, each with its own sample
/// description. Both have one video track without edits that matter, and `moov` behind `mdat`.
pub(crate) fn joined(one: &[u8], two: &[u8]) -> Vec<u8> {
    let content = |file: &[u8], kind: &[u8; 4]| {
        let found = of_kind(file, kind).remove(0).content;
        file[found].to_vec()
    };
    // Version, flags and count in front of the entries; `stsz` has a size for all as well.
    let words =
        |bytes: &[u8]| -> Vec<u32> { (0..bytes.len() / 4).map(|i| u32_at(bytes, i * 4)).collect() };
    let entries =
        |file: &[u8], kind: &[u8; 4], from: usize| words(&content(file, kind))[from..].to_vec();
    let samples = u32::try_from(entries(one, b"stsz", 3).len()).unwrap();
    let chunks = u32::try_from(entries(one, b"stco", 2).len()).unwrap();
    let (moov, mdat) = (of_kind(one, b"moov").remove(0), of_kind(two, b"mdat").remove(0));
    let moved = |at: u32| at + u32::try_from(moov.whole.start - mdat.whole.start).unwrap();
    let mut replace = |kind: &[u8; 4], own: &[u8]| {
        let width = match kind {
            b"edts" => return Some((*b"free", Vec::new())),
            b"stsd" => {
                let both = [&own[8..], &content(two, kind)[8..]].concat();
                return Some((*kind, [&[0, 0, 0, 0, 0, 0, 0, 2][..], &both].concat()));
            }
            b"stts" => 2,
            b"stsc" => 3,
            b"stss" | b"stco" | b"stsz" => 1,
            _ => return None,
        };
        let head = if kind == b"stsz" { 3 } else { 2 };
        let mut all = words(own)[head..].to_vec();
        for entry in entries(two, kind, head).chunks(width) {
            all.extend(match (kind, entry) {
                (b"stss", [number]) => vec![number + samples],
                (b"stco", [at]) => vec![moved(*at)],
                (b"stsc", [first, count, _]) => vec![first + chunks, *count, 2],
                _ => entry.to_vec(),
            });
        }
        let count = u32::try_from(all.len() / width).unwrap();
        let table = [&[0, 0, count][3 - head..], &all].concat();
        Some((*kind, table.iter().flat_map(|word| word.to_be_bytes()).collect()))
    };
    let moov_of_both = rebuild(&one[moov.whole.clone()], &mut replace);
    [&one[..moov.whole.start], &two[mdat.whole], &moov_of_both].concat()
}

/// The file with the configuration box `kind` (`avcC`, `hvcC`) that ends in `end` where parameter
/// sets were, and with the second sample entry in place of the first.
pub(crate) fn without_parameter_sets(
    file: &[u8],
    entry: [[u8; 4]; 2],
    kind: &[u8; 4],
    end: &[u8],
) -> Vec<u8> {
    let mut out = file.to_vec();
    let find = |what: &[u8; 4]| file.windows(4).position(|word| word == what).unwrap();
    let at = find(kind) - 4;
    let bytes = u32_at(file, at) as usize;
    let mut body = file[at + 8..at + bytes].to_vec();
    body.truncate(if kind == b"avcC" { 5 } else { 22 });
    body.extend(end);
    let left = vec![0; bytes - 16 - body.len()];
    out.splice(at..at + bytes, [boxed(kind, &body), boxed(b"free", &left)].concat());
    let at = find(&entry[0]);
    out[at..at + 4].copy_from_slice(&entry[1]);
    out
}

/// Given kind and content of a box: what to write instead, if anything else.
type Replace<'a> = dyn FnMut(&[u8; 4], &[u8]) -> Option<([u8; 4], Vec<u8>)> + 'a;

/// The boxes in `bytes` again, with those replaced for which `replace` has something else.
fn rebuild(bytes: &[u8], replace: &mut Replace<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at + 8 <= bytes.len() {
        let size = u32_at(bytes, at) as usize;
        let kind: [u8; 4] = bytes[at + 4..at + 8].try_into().unwrap();
        let content = &bytes[at + 8..at + size];
        let (kind, content) = replace(&kind, content).unwrap_or_else(|| {
            let is_container = CONTAINERS.contains(&&kind);
            (kind, if is_container { rebuild(content, replace) } else { content.to_vec() })
        });
        out.extend(boxed(&kind, &content));
        at += size;
    }
    out
}

/// A box of `kind` around `content`.
pub(crate) fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len() + 8).unwrap();
    [&size.to_be_bytes(), kind.as_slice(), content].concat()
}

/// `file` with the 32-bit word at `at` overwritten.
pub(crate) fn with_u32(file: &[u8], at: usize, value: u32) -> Vec<u8> {
    let mut out = file.to_vec();
    out[at..at + 4].copy_from_slice(&value.to_be_bytes());
    out
}

/// Big-endian word at `at`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

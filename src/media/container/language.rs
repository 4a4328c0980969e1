//! Language of a track: `elng`, or else the code in `mdhd`.
//!
//! ISO 14496-12 s8.4.6 (`elng`: an RFC 5646 tag), s8.4.2 (`mdhd`: three packed letters); QuickTime
//! "Language Code Values" (numbers below 1,024 in `mdhd`).

use super::boxes::{child, full_box, u16_at};

/// The language that a media box names; `None` for none, and for `und`.
pub(super) fn language(mdia: &[u8]) -> Option<Box<str>> {
    let extended = child(mdia, b"elng").and_then(extended);
    extended.or_else(|| packed(child(mdia, b"mdhd")?)).filter(|tag| &**tag != "und")
}

fn extended(elng: &[u8]) -> Option<Box<str>> {
    let (_, _, rest) = full_box(elng)?;
    let tag = rest.split(|byte| *byte == 0).next()?;
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-';
    let is_tag = (2..=TAG_BYTES_MAX).contains(&tag.len()) && tag.iter().all(is_part);
    is_tag.then(|| tag.iter().copied().map(char::from).collect())
}

fn packed(mdhd: &[u8]) -> Option<Box<str>> {
    let (version, _, rest) = full_box(mdhd)?;
    let code = u16_at(rest, if version == 1 { 28 } else { 16 })?;
    if code < MACINTOSH_END {
        return macintosh(code).map(Box::from);
    }
    let letters = [10, 5, 0].map(|shift| (code >> shift & 0x1f) + 0x60);
    let letter = |code: u16| u8::try_from(code).ok().filter(u8::is_ascii_lowercase);
    letters
        .into_iter()
        .map(|code| letter(code).map(char::from))
        .collect::<Option<String>>()
        .map(Into::into)
}

/// QuickTime's numbers of the commonest languages. 0 is English, and what writers without an
/// opinion leave: it names none.
fn macintosh(code: u16) -> Option<&'static str> {
    Some(match code {
        1 => "fra",
        2 => "deu",
        3 => "ita",
        4 => "nld",
        5 => "swe",
        6 => "spa",
        7 => "dan",
        8 => "por",
        9 => "nor",
        10 => "heb",
        11 => "jpn",
        12 => "ara",
        13 => "fin",
        14 => "ell",
        17 => "tur",
        19 | 33 => "zho",
        23 => "kor",
        25 => "pol",
        26 => "hun",
        32 => "rus",
        38 => "ces",
        _ => return None,
    })
}

/// Codes from here on are packed letters.
const MACINTOSH_END: u16 = 0x400;

/// RFC 5646 s4.4.1 asks for room for 35 characters.
const TAG_BYTES_MAX: usize = 35;

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(body.len() + 8).unwrap().to_be_bytes();
        [&size, &kind[..], body].concat()
    }

    fn mdhd(version: u8, code: u16) -> Vec<u8> {
        let mut body = vec![0; if version == 1 { 32 } else { 20 }];
        body[0] = version;
        body.extend(code.to_be_bytes());
        body.extend([0, 0]);
        boxed(b"mdhd", &body)
    }

    fn elng(tag: &[u8]) -> Vec<u8> {
        boxed(b"elng", &[&[0; 4], tag].concat())
    }

    #[test]
    fn code_of_mdhd_is_letters_or_a_number_of_quicktime() {
        for version in [0, 1] {
            assert_eq!(language(&mdhd(version, 0x15c7)).as_deref(), Some("eng"));
            assert_eq!(language(&mdhd(version, 0x55c4)), None, "und");
        }
        assert_eq!(language(&mdhd(0, 2)).as_deref(), Some("deu"));
        for code in [0, 500, 0x7fff, 0x400] {
            assert_eq!(language(&mdhd(0, code)), None, "{code:#x}");
        }
        assert_eq!(language(&[]), None);
        assert_eq!(language(&boxed(b"mdhd", &[0; 18])), None);
    }

    #[test]
    fn tag_of_elng_is_more_exact_than_the_code() {
        let both = |tag: &[u8]| language(&[mdhd(0, 0x15c7), elng(tag)].concat());
        assert_eq!(both(b"en-GB\0").as_deref(), Some("en-GB"));
        assert_eq!(both(b"zh-Hant").as_deref(), Some("zh-Hant"));
        assert_eq!(both(b"und\0"), None);
        for bad in [&b""[..], b"\0", b"x\r\na=y\0", &[b'a'; 36]] {
            assert_eq!(both(bad).as_deref(), Some("eng"), "{bad:?}");
        }
    }
}

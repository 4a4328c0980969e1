//! RTSP over HTTP: the first bytes of a connection, and the body of its POST.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use headend::consumers::tunnel::base64::{Decoder, NotBase64};
use headend::consumers::tunnel::head::{First, HeadError, classify, parse};

use crate::input::Input;

/// First bytes, which tell the same however many of them have come; a head, which is whole at the
/// same byte; and a body, cut anywhere, which decodes to what another decoder says.
pub fn framing(data: &[u8]) {
    let mut input = Input::new(data);
    if input.u8().is_multiple_of(2) {
        first(input.rest());
    } else {
        let cut = usize::from(input.u8());
        body(input.rest(), cut);
    }
}

fn first(bytes: &[u8]) {
    let whole = classify(bytes);
    for end in 0..bytes.len().min(8) {
        let look = classify(&bytes[..end]);
        assert!(look == First::Unclear || look == whole, "{look:?} at {end}, then {whole:?}");
    }
    let Ok(head) = parse(bytes) else { return };
    assert!(head.bytes <= bytes.len(), "a head of {} bytes", head.bytes);
    assert!((8..=128).contains(&head.cookie.len()), "{}", head.cookie);
    assert_eq!(parse(&bytes[..head.bytes]).as_ref(), Ok(&head), "without what follows");
    let cut = parse(&bytes[..head.bytes - 1]);
    assert_eq!(cut, Err(HeadError::Incomplete), "without its last byte");
}

fn body(bytes: &[u8], cut: usize) {
    let decode = |pieces: [&[u8]; 2]| -> Result<Vec<u8>, NotBase64> {
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.decode(piece, &mut out)?;
        }
        Ok(out)
    };
    let whole = decode([bytes, b""]);
    let (left, right) = bytes.split_at(cut.min(bytes.len()));
    assert_eq!(decode([left, right]), whole, "cut at {cut}");
    let Ok(decoded) = whole else { return };
    let characters: Vec<u8> =
        bytes.iter().copied().filter(|byte| !b"\r\n \t".contains(byte)).collect();
    let groups = characters.chunks_exact(4).map(|group| OTHER.decode(group));
    let expected: Result<Vec<Vec<u8>>, _> = groups.collect();
    assert_eq!(Ok(decoded), expected.map(|groups| groups.concat()));
}

/// A second opinion, which does not mind bits behind the last byte.
const OTHER: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

//! Base64 (RFC 4648 s4) of requests one behind the other, in pieces of any length.
//!
//! Each request is encoded by itself: behind its padding the next one begins. Line ends and blanks
//! between characters mean nothing. Bound: three characters wait for the fourth.

/// Decodes a body.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bits of the group so far.
    bits: u32,
    /// Characters of the group so far, padding included.
    characters: u8,
    padding: u8,
}

/// A character that is none of base64, or padding in a wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotBase64;

impl Decoder {
    /// Appends what `bytes` decode to.
    ///
    /// # Errors
    /// [`NotBase64`]; what came before it is appended.
    pub fn decode(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), NotBase64> {
        out.reserve(bytes.len() / 4 * 3 + 3);
        for byte in bytes {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'\r' | b'\n' | b' ' | b'\t' => continue,
                b'=' if self.characters >= 2 => {
                    self.padding += 1;
                    0
                }
                _ => return Err(NotBase64),
            };
            if self.padding > 0 && *byte != b'=' {
                return Err(NotBase64);
            }
            self.bits = self.bits << 6 | u32::from(value);
            self.characters += 1;
            if self.characters == 4 {
                let [_, decoded @ ..] = self.bits.to_be_bytes();
                let count = decoded.len() - usize::from(self.padding);
                out.extend_from_slice(decoded.get(..count).unwrap_or_default());
                *self = Self::default();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::base64::Engine as _;
    use ::base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    fn decoded(pieces: &[&[u8]]) -> Result<Vec<u8>, NotBase64> {
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.decode(piece, &mut out)?;
        }
        Ok(out)
    }

    #[test]
    fn requests_behind_each_other_are_decoded_at_whatever_byte_they_are_cut() {
        let requests = ["OPTIONS * RTSP/1.0\r\n\r\n", "a", "ab", "abc", "PLAY"];
        let body: String = requests.iter().map(|request| STANDARD.encode(request)).collect();
        let body = body + "\r\n";
        for cut in 0..=body.len() {
            let (first, second) = body.as_bytes().split_at(cut);
            assert_eq!(decoded(&[first, second]).unwrap(), requests.concat().as_bytes(), "{cut}");
        }
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for body in ["=", "a=", "ab=c", "abc==", "a*cd", "abcd\0", "ab==="] {
            assert_eq!(decoded(&[body.as_bytes()]), Err(NotBase64), "{body:?}");
        }
        assert_eq!(decoded(&[b"YQ"]).unwrap(), b"", "the rest of the group may come");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(bytes: Vec<Vec<u8>>, step in 1_usize..9) {
            let body: String = bytes.iter().map(|bytes| STANDARD.encode(bytes)).collect();
            let pieces: Vec<&[u8]> = body.as_bytes().chunks(step).collect();
            prop_assert_eq!(decoded(&pieces).unwrap(), bytes.concat());
        }
    }
}

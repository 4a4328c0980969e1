//! Cuts the bytes of an RTSP connection into messages and interleaved frames.
//!
//! ```text
//! bytes --> '$' channel length payload  --> Item::Interleaved
//!       --> anything else               --> Item::Message
//! ```
//! RFC 2326 s10.12. Empty lines between messages are skipped, as servers send them.
//! Invariant: splitting the same bytes at other places gives the same items.
//! Bound: a message that is still unfinished after [`MESSAGE_BYTES_MAX`] bytes is an error.

use rtsp_types::{Message, ParseError};

/// Largest RTSP message taken from a server, body included.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;
const FRAME_HEADER_BYTES: usize = 4;

/// One unit of an RTSP connection.
#[derive(Debug)]
pub enum Item<'a> {
    /// RTP or RTCP on an interleaved channel.
    Interleaved {
        /// Channel id.
        channel: u8,
        /// The packet.
        payload: &'a [u8],
    },
    /// A response, or a request of the server.
    Message(Message<Vec<u8>>),
}

/// The connection does not speak RTSP, or framing was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes of the server are not RTSP")]
pub struct WireError;

/// The first item of `buffer` and the bytes it took; `None` means: read more.
pub fn next_item(buffer: &[u8]) -> Result<Option<(Item<'_>, usize)>, WireError> {
    let blank = buffer.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let (_, bytes) = buffer.split_at(blank);
    match bytes {
        [] => Ok(None),
        [b'$', channel, high, low, rest @ ..] => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let Some(payload) = rest.get(..length) else { return Ok(None) };
            let taken = blank + FRAME_HEADER_BYTES + length;
            Ok(Some((Item::Interleaved { channel: *channel, payload }, taken)))
        }
        [b'$', ..] => Ok(None),
        _ => match Message::<Vec<u8>>::parse(bytes) {
            Ok((message, taken)) => Ok(Some((Item::Message(message), blank + taken))),
            Err(ParseError::Incomplete(_)) if bytes.len() <= MESSAGE_BYTES_MAX => Ok(None),
            Err(ParseError::Incomplete(_) | ParseError::Error) => Err(WireError),
        },
    }
}

/// Appends `payload` as an interleaved frame; a payload over 65,535 bytes is not a frame.
pub fn push_interleaved(out: &mut Vec<u8>, channel: u8, payload: &[u8]) {
    let Ok(length) = u16::try_from(payload.len()) else { return };
    out.push(b'$');
    out.push(channel);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Vec<u8> {
        let mut bytes = b"\r\nRTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 3\r\n\r\nabc".to_vec();
        push_interleaved(&mut bytes, 2, b"packet");
        bytes.extend_from_slice(b"OPTIONS * RTSP/1.0\r\nCSeq: 9\r\n\r\n");
        push_interleaved(&mut bytes, 3, b"");
        bytes
    }

    fn names(chunks: &[&[u8]]) -> Vec<String> {
        let (mut held, mut names) = (Vec::new(), Vec::new());
        for chunk in chunks {
            held.extend_from_slice(chunk);
            while let Some((item, taken)) = next_item(&held).expect("sample is valid") {
                names.push(match item {
                    Item::Interleaved { channel, payload } => format!("{channel}:{payload:?}"),
                    Item::Message(message) => format!("{message:?}"),
                });
                held.drain(..taken);
            }
        }
        assert!(held.is_empty());
        names
    }

    #[test]
    fn mixed_connection_is_cut_into_its_four_items() {
        assert_eq!(names(&[&sample()]).len(), 4);
    }

    #[test]
    fn bytes_that_are_not_rtsp_are_refused() {
        assert!(next_item(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn endless_message_is_refused_at_the_bound() {
        let mut bytes = b"RTSP/1.0 200 OK\r\nX: ".to_vec();
        bytes.resize(MESSAGE_BYTES_MAX + 1, b'a');
        assert!(next_item(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn split_at_any_byte_gives_the_same_items(at in 0..sample().len()) {
            let bytes = sample();
            let (left, right) = bytes.split_at(at);
            prop_assert_eq!(names(&[left, right]), names(&[&bytes]));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(0u8.., 0..200)) {
            if let Ok(Some((_, taken))) = next_item(&bytes) {
                prop_assert!(taken <= bytes.len());
            }
        }
    }
}

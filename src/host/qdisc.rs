//! Queueing disciplines of cards, asked of the kernel by netlink: `/sys` does not have them.
//!
//! ```text
//! RTM_GETQDISC, dump --> RTM_NEWQDISC { tcmsg { card, .. }, TCA_KIND "fq_codel", .. } .. DONE
//! ```
//! Bounds: `READS_MAX` datagrams of `READ_BYTES`; the kernel answers at once or not at all.

use std::io;
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

/// (index of a card, name of a discipline), in the order of the kernel.
///
/// # Errors
/// No netlink here, or no answer.
pub(super) fn qdiscs() -> io::Result<Vec<(u32, String)>> {
    let family = AddressFamily::NETLINK;
    let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(1)))?;
    sendto(&socket, &request(), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut found = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    for _ in 0..READS_MAX {
        let (bytes, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        if parse(&buffer[..bytes], &mut found)? {
            return Ok(found);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// Header, and a `tcmsg` of zeros: all cards.
fn request() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + TCMSG_BYTES);
    let length = u32::try_from(HEADER_BYTES + TCMSG_BYTES).unwrap_or_default();
    bytes.extend(length.to_ne_bytes());
    bytes.extend(RTM_GETQDISC.to_ne_bytes());
    bytes.extend(REQUEST_DUMP.to_ne_bytes());
    bytes.resize(HEADER_BYTES + TCMSG_BYTES, 0);
    bytes
}

/// Messages of one datagram; true when the last one was among them.
fn parse(mut bytes: &[u8], found: &mut Vec<(u32, String)>) -> io::Result<bool> {
    // Ends because each pass takes at least a header.
    while let (Some(length), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
        let length = length as usize;
        let message = bytes.get(HEADER_BYTES..length).ok_or(io::ErrorKind::InvalidData)?;
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => return Err(io::ErrorKind::Unsupported.into()),
            RTM_NEWQDISC => {
                let name = message.get(TCMSG_BYTES..).and_then(kind_of);
                found.extend(u32_at(message, 4).zip(name));
            }
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The text of the attribute `TCA_KIND`.
fn kind_of(mut attributes: &[u8]) -> Option<String> {
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let value = attributes.get(4..length)?;
        if u16_at(attributes, 2)? == TCA_KIND {
            let text = value.split(|byte| *byte == 0).next()?;
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

// <linux/netlink.h>, <linux/rtnetlink.h>.
const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// NLM_F_REQUEST, NLM_F_DUMP.
const REQUEST_DUMP: u16 = 0x301;
const TCA_KIND: u16 = 1;
const HEADER_BYTES: usize = 16;
const TCMSG_BYTES: usize = 20;
/// The kernel fills at most 32 KiB at once.
const READ_BYTES: usize = 64 << 10;
/// A card has a discipline for each queue, and there may be thousands.
const READS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u16, card: u32, attributes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER_BYTES + TCMSG_BYTES + attributes.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(HEADER_BYTES + 4, 0);
        bytes.extend(card.to_ne_bytes());
        bytes.resize(HEADER_BYTES + TCMSG_BYTES, 0);
        bytes.extend(attributes);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn kinds_are_read_up_to_the_end_of_the_dump() {
        let attributes = [attribute(7, b"abc"), attribute(TCA_KIND, b"fq_codel\0")].concat();
        let mut bytes = message(RTM_NEWQDISC, 2, &attributes);
        bytes.extend(message(RTM_NEWQDISC, 3, &attribute(TCA_KIND, b"fq\0")));
        let mut found = Vec::new();
        assert!(!parse(&bytes, &mut found).unwrap());
        assert_eq!(found, [(2, "fq_codel".to_owned()), (3, "fq".to_owned())]);
        assert!(parse(&message(NLMSG_DONE, 0, &[]), &mut found).unwrap());
        assert!(parse(&message(NLMSG_ERROR, 0, &[]), &mut found).is_err());
    }

    #[test]
    fn kernel_answers_with_a_discipline_for_each_card_or_not_at_all() {
        match qdiscs() {
            Ok(found) => assert!(found.iter().all(|(card, name)| *card > 0 && !name.is_empty())),
            Err(error) => println!("skipped, no netlink: {error}"),
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            length in 0u32..80,
        ) {
            let _ = parse(&bytes, &mut Vec::new());
            let bytes = [&length.to_ne_bytes()[..], &RTM_NEWQDISC.to_ne_bytes(), &bytes].concat();
            let _ = parse(&bytes, &mut Vec::new());
        }
    }
}

//! For whom a STUN request is (RFC 8489, RFC 8445 s7.2.2): the name in front of the colon of its
//! USERNAME, which the answer gave to one viewer.
//!
//! Only that is read here; str0m checks the whole message and its integrity.
#![deny(clippy::indexing_slicing)]

/// The name that was given to the viewer, of a binding request; `None`: it is none.
pub(super) fn local_name(datagram: &[u8]) -> Option<&str> {
    let name = attributes(datagram, BINDING_REQUEST)?.find(|(kind, _)| *kind == USERNAME)?.1;
    std::str::from_utf8(name).ok()?.split_once(':').map(|(local, _remote)| local)
}

/// Whether a datagram says that a binding request has come.
pub(super) fn is_answer(datagram: &[u8]) -> bool {
    attributes(datagram, BINDING_SUCCESS).is_some()
}

/// The address that such an answer has in its only XOR-MAPPED-ADDRESS (RFC 8489 s14.2), as it was
/// sent: with the bits of the cookie, which are the same in all.
pub(super) fn mapped(datagram: &[u8]) -> Option<Mapped> {
    let mut found = attributes(datagram, BINDING_SUCCESS)?.filter(|(kind, _)| *kind == MAPPED);
    let (_, value) = found.next().filter(|_| found.next().is_none())?;
    let [_, family, port_high, port_low, address @ ..] = value else { return None };
    let mut bytes = [0; 16];
    match (family, address.len()) {
        (1, 4) => bytes.get_mut(..4)?.copy_from_slice(address),
        (2, 16) => {
            let number = datagram.get(4..HEADER_BYTES)?;
            let plain = address.iter().zip(number).map(|(byte, other)| byte ^ other);
            bytes.iter_mut().zip(plain).for_each(|(byte, plain)| *byte = plain);
        }
        _ => return None,
    }
    Some((*family, [*port_high, *port_low], bytes))
}

/// Attributes of a message of this kind; `None`: it is none.
fn attributes(datagram: &[u8], kind: [u8; 2]) -> Option<impl Iterator<Item = ([u8; 2], &[u8])>> {
    let (header, mut rest) = datagram.split_first_chunk::<HEADER_BYTES>()?;
    let [kind_high, kind_low, _, _, cookie @ .., _, _, _, _, _, _, _, _, _, _, _, _] = header;
    if [*kind_high, *kind_low] != kind || *cookie != MAGIC_COOKIE {
        return None;
    }
    // Each attribute takes four bytes at least.
    Some(std::iter::from_fn(move || {
        let (head, behind) = rest.split_first_chunk::<4>()?;
        let [kind_high, kind_low, length_high, length_low] = *head;
        let length = usize::from(u16::from_be_bytes([length_high, length_low]));
        let value = behind.get(..length)?;
        rest = behind.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(([kind_high, kind_low], value))
    }))
}

/// Whether a datagram is STUN rather than DTLS, RTP or RTCP (RFC 7983 s7).
pub(super) fn is_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| *first < 4)
}

const HEADER_BYTES: usize = 20;
const BINDING_REQUEST: [u8; 2] = [0, 1];
const BINDING_SUCCESS: [u8; 2] = [1, 1];
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const USERNAME: [u8; 2] = [0, 6];
const MAPPED: [u8; 2] = [0, 0x20];

/// Family, port and address.
pub(super) type Mapped = (u8, [u8; 2], [u8; 16]);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(attributes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
        [&BINDING_REQUEST[..], &length, &MAGIC_COOKIE, &[7; 12], attributes].concat()
    }

    #[test]
    fn name_is_found_behind_other_attributes() {
        let user = [&[0, 6, 0, 9][..], b"abcd:wxyz", &[0; 3]].concat();
        let priority = [0, 0x24, 0, 4, 1, 2, 3, 4];
        assert_eq!(local_name(&request(&user)), Some("abcd"));
        assert_eq!(local_name(&request(&[&priority[..], &user].concat())), Some("abcd"));
        assert_eq!(local_name(&request(&priority)), None);
        let cut_off = user.get(..8).unwrap();
        assert_eq!(local_name(&request(cut_off)), None);
        let mut response = request(&user);
        *response.first_mut().unwrap() = 1;
        assert_eq!(local_name(&response), None);
        assert!(is_stun(&response) && !is_stun(&[22, 254]) && !is_stun(&[]));
    }

    #[test]
    fn address_of_an_answer_is_the_same_whatever_its_number() {
        let answer = |number: u8, family: u8, address: &[u8]| {
            let length = u8::try_from(address.len() + 4).unwrap();
            let head = [0, 0x20, 0, length, 0, family, 0x21, 0x12 ^ 7];
            let mut bytes = [request(&head), address.to_vec()].concat();
            bytes.get_mut(..2).unwrap().copy_from_slice(&BINDING_SUCCESS);
            bytes.get_mut(8..20).unwrap().fill(number);
            bytes
        };
        let v4 = answer(7, 1, &[1, 2, 3, 4]);
        assert!(is_answer(&v4) && mapped(&v4).is_some());
        assert_eq!(mapped(&v4), mapped(&answer(9, 1, &[1, 2, 3, 4])));
        assert_ne!(mapped(&v4), mapped(&answer(7, 1, &[1, 2, 3, 5])));
        let v6 = |number: u8| [&MAGIC_COOKIE[..], &[number; 12]].concat();
        assert_eq!(mapped(&answer(7, 2, &v6(7))), mapped(&answer(9, 2, &v6(9))));
        let twice = [v4.clone(), v4.get(20..).unwrap().to_vec()].concat();
        assert_eq!((mapped(&twice), mapped(&request(&[]))), (None, None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _name = local_name(&request(&bytes));
            let _name = local_name(&bytes);
            let _mapped = mapped(&[&[1, 1, 0, 0][..], &MAGIC_COOKIE, &[7; 12], &bytes].concat());
        }
    }
}

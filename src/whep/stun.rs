//! For whom a STUN request is (RFC 8489, RFC 8445 s7.2.2): the name in front of the colon of its
//! USERNAME, which the answer gave to one viewer.
//!
//! Only that is read here; str0m checks the whole message and its integrity.
#![deny(clippy::indexing_slicing)]

/// The name that was given to the viewer, of a binding request; `None`: it is none.
pub(super) fn local_name(datagram: &[u8]) -> Option<&str> {
    let (header, mut rest) = datagram.split_first_chunk::<HEADER_BYTES>()?;
    let [kind_high, kind_low, _, _, cookie @ .., _, _, _, _, _, _, _, _, _, _, _, _] = header;
    if [*kind_high, *kind_low] != BINDING_REQUEST || *cookie != MAGIC_COOKIE {
        return None;
    }
    // Each attribute takes four bytes at least.
    while let Some((head, behind)) = rest.split_first_chunk::<4>() {
        let [kind_high, kind_low, length_high, length_low] = *head;
        let length = usize::from(u16::from_be_bytes([length_high, length_low]));
        if [kind_high, kind_low] == USERNAME {
            let name = std::str::from_utf8(behind.get(..length)?).ok()?;
            return name.split_once(':').map(|(local, _remote)| local);
        }
        rest = behind.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// Whether a datagram is STUN rather than DTLS, RTP or RTCP (RFC 7983 s7).
pub(super) fn is_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| *first < 4)
}

const HEADER_BYTES: usize = 20;
const BINDING_REQUEST: [u8; 2] = [0, 1];
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const USERNAME: [u8; 2] = [0, 6];

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

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _name = local_name(&request(&bytes));
            let _name = local_name(&bytes);
        }
    }
}

//! Vectors of RFC 3711 and RFC 7714, of libsrtp, and properties of both directions.

use proptest::prelude::*;

use super::keys::PacketId;
use super::*;
use crate::base::ids::{SeqNo, Ssrc};

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn key(suite: Suite) -> MasterKey {
    let bytes = hex("e1f97a0d3e018be0d64fa32c06de4139 0ec675ad498afeebb6960b3aabe6");
    MasterKey::from_bytes(suite, &bytes[..suite.master_bytes()]).unwrap()
}

//= test RFC 3711 B.3
#[test]
fn keys_are_derived_as_in_the_rfc() {
    let mut out = [0; 16];
    let key = key(Suite::AesCm128Sha1Tag80);
    key.derive(0, &mut out);
    assert_eq!(out[..], hex("C61E7A93744F39EE10734AFE3FF7A087"));
    let mut out = [0; 14];
    key.derive(2, &mut out);
    assert_eq!(out[..], hex("30CBBC08863D8C85D49DB34A9AE1"));
    let mut out = [0; 20];
    key.derive(1, &mut out);
    assert_eq!(out[..], hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
}

//= test RFC 3711 B.2
#[test]
fn keystream_is_that_of_the_rfc() {
    let mut bytes = [0; 48];
    let aes = <aes::Aes128Enc as aes::cipher::KeyInit>::new_from_slice(&hex(
        "2B7E151628AED2A6ABF7158809CF4F3C",
    ));
    let salt = hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").try_into().unwrap();
    let iv = keys::cm_iv(&salt, PacketId { ssrc: 0, index: 0 });
    keys::apply_keystream(&aes.unwrap(), &iv, &mut bytes);
    let expected = "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB \
                    41E95B3BB0A2E8DD477901E4FCA894C0";
    assert_eq!(bytes[..], hex(expected));
}

#[test]
fn packets_are_those_of_libsrtp() {
    let mut sender = Sender::new(&key(Suite::AesCm128Sha1Tag80));
    let mut rtp = hex("800f1234decafbadcafebabe abababababababababababababababab");
    let plain = rtp.clone();
    sender.protect_rtp(&mut rtp, 0).unwrap();
    let expected = "800f1234decafbadcafebabe 4e55dc4ce79978d88ca4d215949d2402 \
                    b78d6acc99ea179b8dbb";
    assert_eq!(rtp, hex(expected));
    let mut receiver = Receiver::new(&key(Suite::AesCm128Sha1Tag80), &[]);
    let bytes = receiver.unprotect_rtp(&mut rtp).unwrap();
    assert_eq!(rtp[..bytes], plain);

    let mut rtcp = hex("81c8000bcafebabe abababababababababababababababab");
    sender.protect_rtcp(&mut rtcp.clone()).unwrap();
    sender.protect_rtcp(&mut rtcp).unwrap();
    let expected = "81c8000bcafebabe 7128035be487b9bdbef89041f977a5a8 80000001 \
                    993e08cd54d6c1230798";
    assert_eq!(rtcp, hex(expected));
}

//= test RFC 7714 s16.1.1
#[test]
fn rtp_of_gcm_is_that_of_the_rfc() {
    let key = keys::gcm(&hex("000102030405060708090a0b0c0d0e0f"), "Quid pro quo");
    let mut packet =
        hex("8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 \
         696e2070 61727465 73207472 6573");
    let plain = packet.clone();
    let id = PacketId { ssrc: 0x5501_a0b2, index: 0xf17b };
    let tag = key.seal(&mut packet, 12, id, [0; 4], false).unwrap();
    packet.extend_from_slice(&tag[..16]);
    let expected = "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 \
                    0d294e6f 42a5f47a 51c7d19b 36de3adf 8833 899d7f27 beb16a91 52cf765e e4390cce";
    assert_eq!(packet, hex(expected));
    let end = packet.len() - 16;
    assert!(key.open(&mut packet, 12..end, id, [0; 4], false));
    assert_eq!(packet[..end], plain);
}

//= test RFC 7714 s17.1
#[test]
fn rtcp_of_gcm_is_that_of_the_rfc() {
    let key = keys::gcm(&hex("000102030405060708090a0b0c0d0e0f"), "Quid pro quo");
    let mut packet =
        hex("81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 deadbeef \
         deadbeef deadbeef deadbeef deadbeef");
    let id = PacketId { ssrc: 0x4d61_7273, index: 0x5d4 };
    let tag = key.seal(&mut packet, 8, id, 0x8000_05d4_u32.to_be_bytes(), true).unwrap();
    packet.extend_from_slice(&tag[..16]);
    let expected = "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d \
                    c676a5f1 730d6fda 4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 \
                    45d9eade";
    assert_eq!(packet, hex(expected));
}

fn packet(seq: u16, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend(seq.to_be_bytes());
    packet.extend([0, 0, 0, 1]);
    packet.extend(ssrc.to_be_bytes());
    packet.extend(payload);
    packet
}

#[test]
fn number_is_encrypted_once_unless_it_was_not_sent() {
    let mut sender = Sender::new(&key(Suite::Aes128Gcm));
    let protect = |sender: &mut Sender, seq| sender.protect_rtp(&mut packet(seq, 7, b"x"), 0);
    for seq in [65_534, 65_535, 0, 1] {
        protect(&mut sender, seq).unwrap();
    }
    assert_eq!(protect(&mut sender, 0), Err(ProtectError::Repeated { seq: 0 }));
    assert_eq!(sender.roc(Ssrc(7)), 1);
    assert!(sender.rewind(Ssrc(7), SeqNo(65_535)));
    assert_eq!(sender.roc(Ssrc(7)), 0);
    assert_eq!(protect(&mut sender, 65_534), Err(ProtectError::Repeated { seq: 65_534 }));
    for seq in [65_535, 0] {
        protect(&mut sender, seq).unwrap();
    }
    // A jump back that no wrap explains is not sent under numbers that were used.
    assert_eq!(protect(&mut sender, 40_000), Err(ProtectError::Repeated { seq: 40_000 }));
}

#[test]
fn packet_from_before_the_first_one_does_not_move_the_rollover_counter() {
    let suite = Suite::Aes128Gcm;
    let (mut sender, mut receiver) = (Sender::new(&key(suite)), Receiver::new(&key(suite), &[]));
    let mut first = packet(2, 7, b"x");
    sender.protect_rtp(&mut first, 0).unwrap();
    receiver.unprotect_rtp(&mut first).unwrap();
    for seq in [65_535, 40_000] {
        let late = sender.protect_rtp(&mut packet(seq, 7, b"x"), 0);
        assert_eq!(late, Err(ProtectError::BeforeFirst { seq }));
    }
    for seq in [1, 3] {
        let mut next = packet(seq, 7, b"x");
        sender.protect_rtp(&mut next, 0).unwrap();
        assert_eq!(receiver.unprotect_rtp(&mut next), Ok(13), "{seq}");
    }
    assert_eq!(sender.roc(Ssrc(7)), 0);
}

/// What a stream does with its numbers, and what its socket says later.
#[derive(Debug, Clone)]
enum Step {
    /// A run of packets is handed to the kernel.
    Run { packets: u16 },
    /// A run of other packets is begun, and handed to nobody.
    Given { packets: u16 },
    /// A packet with a lower number.
    Late { behind: u16 },
    /// The oldest run in flight was sent, or refused.
    Result { is_refused: bool },
    /// Other packets follow.
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..40_u16).prop_map(|packets| Step::Run { packets }),
        1 => (1..40_u16).prop_map(|packets| Step::Given { packets }),
        1 => (1..200_u16).prop_map(|behind| Step::Late { behind }),
        4 => any::<bool>().prop_map(|is_refused| Step::Result { is_refused }),
        1 => Just(Step::Close),
    ]
}

/// A stream as `session::outgoing` and `live::core::reader` have one, with all that was handed to
/// the kernel: any of it may have left, whatever the kernel says later.
struct Owner {
    sender: Sender,
    /// Index of the first and of the next packet.
    first: u64,
    next: u64,
    /// Packets of the run that begins at an index are those from a place on, since the last close.
    place: u32,
    closes: u32,
    in_flight: std::collections::VecDeque<(u64, u32, u32)>,
    handed: std::collections::BTreeMap<u64, Vec<u8>>,
}

impl Owner {
    /// Encrypts a packet; whether it was encrypted under the index that it is to have.
    fn protect(&mut self, index: u64, payload: &str) -> Result<Vec<u8>, ProtectError> {
        let mut bytes = packet((index & 0xffff) as u16, 7, payload.as_bytes());
        self.sender.protect_rtp(&mut bytes, 0)?;
        let told = [(Ssrc(7), u32::try_from(index >> 16).unwrap())];
        let mut receiver = Receiver::new(&key(Suite::Aes128Gcm), &told);
        receiver.unprotect_rtp(&mut bytes.clone()).unwrap();
        Ok(bytes)
    }

    fn hand_over(&mut self, index: u64, sealed: Vec<u8>) {
        let known = self.handed.entry(index).or_insert_with(|| sealed.clone());
        assert_eq!(*known, sealed, "two packets have the index {index}");
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Run { packets } => {
                self.in_flight.push_back((self.next, self.place, self.closes));
                for _ in 0..packets {
                    let payload = format!("{}/{}", self.closes, self.place);
                    let sealed = self.protect(self.next, &payload).unwrap();
                    self.hand_over(self.next, sealed);
                    (self.next, self.place) = (self.next + 1, self.place + 1);
                }
            }
            Step::Given { packets } => {
                let before = self.sender.marks(Ssrc(7));
                for index in self.next..self.next + u64::from(packets) {
                    self.protect(index, "given to nobody").unwrap();
                }
                self.sender.restore(&before);
            }
            Step::Late { behind } => {
                let index = self.next.saturating_sub(behind.into());
                if index >= self.first && index < self.next {
                    let payload = format!("late {}/{}/{behind}", self.closes, self.place);
                    if let Ok(sealed) = self.protect(index, &payload) {
                        self.hand_over(index, sealed);
                    }
                }
            }
            Step::Result { is_refused } => {
                let Some((index, place, closes)) = self.in_flight.pop_front() else { return };
                let seq = SeqNo((index & 0xffff) as u16);
                let is_back = is_refused
                    && index < self.next
                    && match index == self.first {
                        true => self.sender.restart(Ssrc(7)),
                        false => self.sender.rewind(Ssrc(7), seq),
                    };
                if is_back {
                    assert_eq!(closes, self.closes, "its packets are not sent any more");
                    (self.next, self.place) = (index, place);
                }
            }
            Step::Close => {
                if let Some(next) = self.sender.close(Ssrc(7)) {
                    let skipped = next.0.wrapping_sub((self.next & 0xffff) as u16);
                    self.next += u64::from(skipped);
                }
                self.closes += 1;
            }
        }
    }
}

proptest! {
    //= test RFC 3711 s9.1
    #[test]
    fn no_index_that_may_have_left_is_given_to_another_packet(
        first in 65_000_u64..65_600, steps in prop::collection::vec(step(), 1..120)
    ) {
        let mut owner = Owner {
            sender: Sender::new(&key(Suite::Aes128Gcm)),
            first: first.min(65_535),
            next: first.min(65_535),
            place: 0,
            closes: 0,
            in_flight: Default::default(),
            handed: Default::default(),
        };
        for step in &steps {
            owner.step(step);
        }
    }
}

#[test]
fn context_has_so_many_sources() {
    let mut sender = Sender::new(&key(Suite::AesCm128Sha1Tag80));
    for ssrc in 0..8 {
        sender.protect_rtp(&mut packet(1, ssrc, b"x"), 0).unwrap();
    }
    let ninth = sender.protect_rtp(&mut packet(1, 8, b"x"), 0);
    assert_eq!(ninth, Err(ProtectError::TooManySources));
    assert!(sender.protect_rtp(&mut packet(2, 7, b"x"), 0).is_ok());
}

#[test]
fn forged_and_repeated_packets_are_refused() {
    for suite in Suite::ALL {
        let (mut sender, mut receiver) =
            (Sender::new(&key(suite)), Receiver::new(&key(suite), &[]));
        let mut sealed = packet(1, 7, b"payload");
        sender.protect_rtp(&mut sealed, 0).unwrap();
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            assert!(receiver.unprotect_rtp(&mut forged).is_err(), "{suite:?} {at}");
        }
        assert_eq!(receiver.unprotect_rtp(&mut sealed.clone()), Ok(12 + 7), "{suite:?}");
        let again = receiver.unprotect_rtp(&mut sealed);
        assert_eq!(again, Err(UnprotectError::Replayed), "{suite:?}");

        let mut report = packet(1, 7, b"");
        report[1] = 201;
        let plain = report.clone();
        sender.protect_rtcp(&mut report).unwrap();
        for at in 0..report.len() {
            let mut forged = report.clone();
            forged[at] ^= 1;
            assert!(receiver.unprotect_rtcp(&mut forged).is_err(), "{suite:?} {at}");
        }
        let mut once = report.clone();
        let bytes = receiver.unprotect_rtcp(&mut once).unwrap();
        assert_eq!(once[..bytes], plain);
        let again = receiver.unprotect_rtcp(&mut report);
        assert_eq!(again, Err(UnprotectError::Replayed), "{suite:?}");
    }
}

#[test]
fn told_rollover_counter_is_where_a_receiver_begins() {
    let suite = Suite::AesCm128Sha1Tag80;
    let mut sender = Sender::new(&key(suite));
    for seq in [65_535, 0] {
        sender.protect_rtp(&mut packet(seq, 7, b"x"), 0).unwrap();
    }
    let mut late = packet(1, 7, b"x");
    sender.protect_rtp(&mut late, 0).unwrap();
    let mut receiver = Receiver::new(&key(suite), &[]);
    assert_eq!(receiver.unprotect_rtp(&mut late.clone()), Err(UnprotectError::Forged));
    let mut receiver = Receiver::new(&key(suite), &[(Ssrc(7), sender.roc(Ssrc(7)))]);
    assert_eq!(receiver.unprotect_rtp(&mut late), Ok(13));
}

proptest! {
    #[test]
    fn what_is_sealed_is_opened_whatever_the_network_does(
        suite in prop::sample::select(&Suite::ALL[..]), start: u16,
        sent in prop::collection::vec((0u16..300, prop::collection::vec(any::<u8>(), 0..60)), 1..80),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        csrcs in 0u8..4, extension in prop::option::of(0u8..3), before in 0usize..9,
    ) {
        let (mut sender, mut receiver) = (Sender::new(&key(suite)), Receiver::new(&key(suite), &[]));
        let (mut seq, mut packets) = (start, Vec::new());
        for (step, payload) in sent {
            let mut plain = packet(seq, 9, &[]);
            plain[0] |= csrcs;
            plain.extend(vec![3; usize::from(csrcs) * 4]);
            if let Some(words) = extension {
                plain[0] |= 0x10;
                plain.extend([0xbe, 0xde, 0, words]);
                plain.extend(vec![4; usize::from(words) * 4]);
            }
            let clear = plain.len();
            plain.extend(&payload);
            // Behind other bytes of a buffer.
            let mut bytes = vec![0xee; before];
            bytes.extend(&plain);
            sender.protect_rtp(&mut bytes, before).unwrap();
            let sealed = bytes.split_off(before);
            prop_assert_eq!(bytes, vec![0xee; before]);
            prop_assert_eq!(&sealed[..clear], &plain[..clear]);
            prop_assert_eq!(sealed.len(), plain.len() + suite.rtp_tag_bytes());
            packets.push((plain, sealed));
            seq = seq.wrapping_add(step + 1);
        }
        // Neighbours change places; the first one stays, since it shows the counter.
        if packets.len() > 2 {
            for at in order {
                let at = at.index(packets.len() - 2) + 1;
                packets.swap(at, at + 1);
            }
        }
        let mut highest = 0;
        for (plain, mut sealed) in packets {
            let ahead = u16::from_be_bytes([plain[2], plain[3]]).wrapping_sub(start);
            match receiver.unprotect_rtp(&mut sealed) {
                Ok(bytes) => prop_assert_eq!(&sealed[..bytes], &plain[..]),
                // Overtaken by more than the window.
                Err(UnprotectError::Replayed) => prop_assert!(highest >= ahead + 128),
                Err(error) => prop_assert!(false, "{}", error),
            }
            highest = highest.max(ahead);
        }
    }

    #[test]
    fn no_bytes_panic(
        suite in prop::sample::select(&Suite::ALL[..]),
        bytes in prop::collection::vec(any::<u8>(), 0..80)
    ) {
        let mut receiver = Receiver::new(&key(suite), &[]);
        prop_assert!(receiver.unprotect_rtp(&mut bytes.clone()).is_err());
        prop_assert!(receiver.unprotect_rtcp(&mut bytes.clone()).is_err());
        let mut sender = Sender::new(&key(suite));
        let _ = sender.protect_rtp(&mut bytes.clone(), 0);
        let _ = sender.protect_rtcp(&mut { bytes });
    }
}

//! SRTP: what clients send encrypted, and the messages and texts that carry keys.

use headend::base::ids::Ssrc;
use headend::rtp::srtp::mikey::{self, Uniques};
use headend::rtp::srtp::{MasterKey, Receiver, Sender, Suite, sdes};
use headend::rtsp::key_mgmt::{
    parse_key_mgmt, parse_key_mgmt_attribute, write_key_mgmt, write_key_mgmt_attribute,
};

use crate::input::{Input, text};

/// A MIKEY message: what is read, written and read again is the same, in the header, too.
pub fn mikey(data: &[u8]) {
    let Ok(read) = mikey::parse(data) else { return };
    assert!(read.sources.len() <= 16);
    let uniques = Uniques { bundle: 1, ntp: 2, random: [3; 16] };
    let written = mikey::write(&read.key, &read.sources, &uniques);
    assert_eq!(mikey::parse(&written).as_ref(), Ok(&read));
    let header = write_key_mgmt("rtsps://h/a", &written);
    assert_eq!(parse_key_mgmt(&header).as_deref(), Ok(written.as_slice()));
    let attribute = write_key_mgmt_attribute(&written);
    assert_eq!(parse_key_mgmt_attribute(&attribute).as_deref(), Ok(written.as_slice()));
}

/// A value of `a=crypto`, of `a=key-mgmt` and of `KeyMgmt`: a key that is read is written and read
/// again.
pub fn keys(data: &[u8]) {
    let text = text(data);
    let _ = (parse_key_mgmt(&text), parse_key_mgmt_attribute(&text));
    let Ok(key) = sdes::parse(&text) else { return };
    assert!(!format!("{key:?}").contains(&sdes::write(1, &key)));
    assert_eq!(sdes::parse(&sdes::write(1, &key)), Ok(key));
}

/// Packets from the network, among packets that were sent: only those come out, each once.
pub fn unprotect(data: &[u8]) {
    let mut input = Input::new(data);
    let suite = Suite::ALL[usize::from(input.u8()) % Suite::ALL.len()];
    let seed = [input.u8(); 30];
    let key = MasterKey::from_bytes(suite, &seed[..suite.master_bytes()]).expect("a key");
    let mut sender = Sender::new(&key);
    let mut receiver = Receiver::new(&key, &[(Ssrc(1), 0)]);
    let (mut sent, mut received) = (Vec::new(), Vec::new());
    // Bounded by the input: each round takes two bytes of it at least.
    while !input.is_empty() {
        let (is_rtcp, changes) = (input.u8() & 1 == 1, input.u8());
        let plain = input.short().to_vec();
        let mut sealed = plain.clone();
        let is_sealed = match is_rtcp {
            true => sender.protect_rtcp(&mut sealed).is_ok(),
            false => sender.protect_rtp(&mut sealed, 0).is_ok(),
        };
        if is_sealed && !is_rtcp {
            assert_eq!(sealed.len(), plain.len() + suite.rtp_tag_bytes());
        }
        if is_sealed {
            sent.push(plain);
        }
        if changes > 0
            && let Some(byte) = sealed.get_mut(usize::from(changes) - 1)
        {
            *byte ^= 1;
        }
        for _ in 0..2 {
            let mut packet = sealed.clone();
            let opened = match is_rtcp {
                true => receiver.unprotect_rtcp(&mut packet),
                false => receiver.unprotect_rtp(&mut packet),
            };
            if let Ok(bytes) = opened {
                received.push(packet[..bytes].to_vec());
            }
        }
    }
    // Each was sent, and comes no more often than it was sent.
    for packet in received {
        let place = sent.iter().position(|plain| *plain == packet);
        sent.remove(place.expect("it was sent, and did not come before"));
    }
}

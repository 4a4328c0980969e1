//! Distribution: frames of contents, journals, tokens, envelopes, and the names in them.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use bytes::Bytes;
use headend::base::time::Mono;
use headend::dist::chain::{ChainHead, verify};
use headend::dist::command::check_path;
use headend::dist::ids::{BaseEpoch, ContentId, Digest, JobId, NodeName};
use headend::dist::journal::replay;
use headend::dist::keys::{BaseKeys, VerifyKey};
use headend::dist::quota::{Quota, count};
use headend::dist::reflect::check_live;
use headend::dist::relay::{From as Sender, Relay, RelayAction};
use headend::dist::token::{Token, split_token, with_fingerprint};
use headend::dist::units::{Accepted, FRAME_BYTES_MAX, Frame, FrameReader, UnitVerifier};
use headend::dist::webhook::target::{AllowedNetwork, AllowedNetworks, Target};
use headend::dist::window::Window;
use headend::dist::wire::agent::NodeOrder;
use headend::dist::wire::job::EventView;
use headend::dist::wire::peer::Capability;
use headend::dist::wire::relay::{ENTRIES_MAX, Envelope, RelayBody, RelayEntry};

use crate::input::{Input, pieces, text};

/// The keys of a base that has signed what a body signs itself.
static BASE: LazyLock<BaseKeys> = LazyLock::new(|| BaseKeys::from_bytes(&[7; 32]));

/// A stream of frames: the same however it is cut, as long as what came, and nothing is accepted
/// of it that no base has signed.
pub fn frames(data: &[u8]) {
    let mut input = Input::new(data);
    let seed = input.u8();
    let stream = input.rest();
    let whole = read_frames([stream].into_iter());
    assert_eq!(whole, read_frames(pieces(stream, seed)), "cut by {seed}");
    assert_eq!(whole, read_frames(pieces(stream, 0)), "cut into bytes");
    let (whole, _) = whole;
    let again: Vec<u8> = whole.iter().flat_map(|frame| frame.encoded().to_vec()).collect();
    assert!(stream.starts_with(&again), "frames are passed on as they came");
    let content = ContentId(uuid::Uuid::from_u128(1));
    let mut strict = UnitVerifier::new(content);
    let mut trusting = UnitVerifier::new(content);
    let key = BASE.verify_key();
    for frame in &whole {
        assert!(frame.encoded().len() <= FRAME_BYTES_MAX);
        match frame {
            Frame::Hashes(hashes) => {
                let held = hashes.hashes().count();
                assert!((1..=16).contains(&held));
                assert_eq!(hashes.hash_of(hashes.first()), hashes.hashes().next());
                // No content has so many units that there is no number behind the last.
                if let Some(end) = hashes.first().checked_add(held as u64) {
                    assert_eq!((hashes.end(), hashes.hash_of(end)), (end, None));
                }
            }
            Frame::Unit(unit) => {
                assert!((1..=64 << 10).contains(&unit.bytes().len()));
                assert_eq!(unit.payload(), unit.bytes());
            }
            Frame::End(end) => assert_eq!(end.encoded()[5..13], end.end().size.to_be_bytes()),
        }
        let accepted = strict.handle(frame, |message, signature| key.verify(message, signature));
        assert!(accepted.is_err(), "{accepted:?} of a stranger");
        let before = trusting.have();
        match trusting.handle(frame, |_, _| true) {
            Ok(Accepted::Unit) => assert!(trusting.have() > before),
            Ok(Accepted::End(end)) => assert_eq!((end.size, trusting.end()), (before, Some(end))),
            Ok(Accepted::Hashes | Accepted::Known) | Err(_) => assert_eq!(trusting.have(), before),
        }
    }
    assert_eq!((strict.have(), strict.end()), (0, None));
}

fn read_frames<'a>(parts: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<String>) {
    let mut reader = FrameReader::new();
    let mut frames = Vec::new();
    for part in parts {
        reader.push(Bytes::copy_from_slice(part));
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error.to_string())),
            }
        }
    }
    (frames, None)
}

/// The journal of a node: whole records from the front, which read back when they are written;
/// and lines with a right check and any JSON.
pub fn journal(data: &[u8]) {
    let found = replay(data);
    assert!(found.bytes <= data.len());
    assert_eq!(replay(&data[..found.bytes]).records, found.records);
    let mut checked = Vec::new();
    for line in data.split(|byte| *byte == b'\n') {
        let mut hex = blake3::hash(line).to_hex().to_string();
        hex.truncate(16);
        checked.extend([hex.as_bytes(), b" ", line, b"\n"].concat());
    }
    for bytes in [data, &checked] {
        let found = replay(bytes);
        let mut written = Vec::new();
        found.records.iter().for_each(|record| record.write(&mut written));
        let again = replay(&written);
        assert_eq!((&again.records, again.bytes), (&found.records, written.len()));
        // A last line that was cut off is as if it were not there.
        if let Some(shorter) = written.len().checked_sub(1) {
            assert_eq!(replay(&written[..shorter]).records.len() + 1, found.records.len());
        }
    }
}

/// Names, ids and tokens as texts: what is taken reads back as it is written.
pub fn names(data: &[u8]) {
    let text = text(data);
    if let Ok(name) = NodeName::new(&text) {
        assert!((1..=63).contains(&name.as_str().len()) && name.as_str() == text);
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text.to_ascii_lowercase());
    }
    if let Ok(job) = text.parse::<JobId>() {
        assert_eq!(job.to_string().parse(), Ok(job));
    }
    if let Ok(key) = text.parse::<VerifyKey>() {
        assert_eq!(
            key.to_string().parse::<VerifyKey>().map(|key| *key.as_bytes()),
            Ok(*key.as_bytes())
        );
    }
    let (secret, fingerprint) = split_token(&text);
    assert!(text.starts_with(secret));
    if let Some(fingerprint) = fingerprint {
        assert_eq!(
            split_token(&with_fingerprint(secret, &fingerprint)),
            (secret, Some(fingerprint))
        );
    }
    if let Ok(token) = Token::parse(&text) {
        assert_eq!(token.as_str(), secret);
        assert!((16..=512).contains(&token.as_str().len()));
    }
    if let Ok(quota) = text.parse::<Quota>() {
        assert_eq!(quota.to_string().parse(), Ok(quota));
    }
    assert!(count(&text).is_none_or(|number| count(&number.to_string()) == Some(number)));
    if check_path(&text).is_ok() {
        let parts: Vec<&str> = text.split('/').collect();
        assert!(parts.iter().all(|part| !part.is_empty() && !matches!(*part, "." | "..")));
        assert!(!text.contains('\0') && text.len() <= 3_072 && parts[0] != ".headend");
    }
    let _ = check_live("live/a", &text);
    if let Ok(window) = text.parse::<Window>() {
        assert_eq!(
            window.to_string().parse::<Window>().map(|w| w.to_string()),
            Ok(window.to_string())
        );
    }
    if let Ok(target) = Target::parse(&text, &AllowedNetworks::default()) {
        let again =
            Target::parse(target.url(), &AllowedNetworks::default()).expect("a URL of ours");
        assert_eq!(again.url(), target.url());
        assert!(!target.authority().contains('@'));
    }
    if let Ok(network) = text.parse::<AllowedNetwork>() {
        assert!(!format!("{network:?}").is_empty());
    }
}

/// Capabilities and envelopes: of any JSON that the base has signed, and of a stranger's text. A
/// signature for one of them does not count for the other.
pub fn tokens(data: &[u8]) {
    let key = BASE.verify_key();
    let shown = text(data);
    assert_eq!(key.open_capability(&shown), None, "{shown} is not signed");
    assert!(key.open_envelope(&shown).is_none(), "{shown} is not signed");
    if let Ok(capability) = serde_json::from_slice::<Capability>(data) {
        let token = BASE.seal_capability(&capability);
        assert!(key.open_envelope(&token).is_none(), "a capability is no envelope");
        assert_eq!(key.open_capability(&damaged(&token, data.len())), None);
        // A name of a node is short, so every capability of a base fits.
        assert_eq!(key.open_capability(&token).as_ref(), Some(&capability));
        let now = capability.expires_s;
        assert_eq!(key.admit(&token, capability.content, now).as_ref(), Ok(&capability));
        assert!(key.admit(&token, ContentId(uuid::Uuid::max()), now).is_err());
    }
    if let Ok(envelope) = serde_json::from_slice::<Envelope>(data) {
        let token = BASE.seal_envelope(&envelope);
        assert_eq!(key.open_capability(&token), None, "an envelope is no capability");
        assert!(key.open_envelope(&damaged(&token, data.len())).is_none());
        assert_eq!(key.open_envelope(&token), Some(envelope));
    }
}

/// The token with another character at a place.
fn damaged(token: &str, place: usize) -> String {
    let at = place % token.len();
    let other = if token[at..].starts_with('A') { "B" } else { "A" };
    [&token[..at], other, &token[at + 1..]].concat()
}

/// A body that another node brings: any JSON, and one whose first envelope is signed for this
/// node. Orders of one number are taken once, and each entry is handed on at most once.
pub fn relay(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    let json = input.rest();
    let me = NodeName::new("n1").expect("a name");
    let mut relay = Relay::new(me.clone());
    relay.set_key(BASE.verify_key());
    let (now, at_ns) = (Mono(1_000_000_000), 1_700_000_000_000_000_000_i64);
    if flags & 1 != 0 {
        relay.set_clock(at_ns, now);
    }
    let from = if flags & 2 != 0 { Sender::Base } else { Sender::Peer };
    let mut out = Vec::new();
    let Ok(mut body) = serde_json::from_slice::<RelayBody>(json) else { return };
    assert!(relay.handle(body.clone(), from, now, &mut out).is_err(), "{body:?} of a stranger");
    assert!(out.is_empty());
    let sealed = |number: u64, node: &NodeName, body: &RelayBody| {
        let common = Digest(*blake3::hash(body.common.as_bytes()).as_bytes());
        let addr = "127.0.0.1:1".to_owned();
        let (node, orders) = (node.clone(), vec![NodeOrder::Idle]);
        let base = BaseEpoch(1);
        BASE.seal_envelope(&Envelope { node, addr, base, number, at_ns, common, orders })
    };
    // Each second entry is one of the base's.
    for (place, entry) in (0_u64..).zip(&mut body.entries.clone()) {
        if place % 2 == u64::from(flags >> 2 & 1) {
            let name = NodeName::new(&format!("n{}", entry.index)).expect("a name");
            let index = usize::try_from(place).unwrap_or(0);
            body.entries[index].envelope = sealed(body.number, &name, &body);
        }
    }
    let own = RelayEntry { index: 0, envelope: sealed(body.number, &me, &body) };
    body.entries.insert(0, own);
    let taken = relay.handle(body.clone(), from, now, &mut out);
    let mut handed = BTreeSet::new();
    for action in &out {
        match action {
            RelayAction::Hand { body: part, .. } => {
                assert_eq!((part.number, &part.common), (body.number, &body.common));
                for entry in &part.entries {
                    assert!(handed.insert(entry.index), "{} twice", entry.index);
                }
            }
            RelayAction::Take { number, .. } => assert_eq!(*number, body.number),
        }
    }
    assert_eq!(taken.is_ok(), out.iter().any(|action| matches!(action, RelayAction::Take { .. })));
    assert!(handed.len() < body.entries.len().min(ENTRIES_MAX + 1) || out.is_empty());
    if taken.is_ok() {
        let count = out.len();
        let again = relay.handle(body, from, now, &mut out);
        assert!(again.is_ok() && out.len() == count, "taken twice");
    }
    relay.handle_time(Mono(now.0 + 10_000_000_000), &mut out);
    assert!(out.len() <= 2 * ENTRIES_MAX);
}

/// Events of a job as a client has them: any list of them is refused or is a chain, and a chain
/// of theirs counts until one of them is changed.
pub fn chain(data: &[u8]) {
    let Ok(mut events) = serde_json::from_slice::<Vec<EventView>>(data) else { return };
    let _ = verify(ChainHead::START, &events);
    let mut head = ChainHead::START;
    for event in &mut events {
        head.append(event);
    }
    let Some(last) = events.last().map(ChainHead::behind) else { return };
    assert_eq!(verify(ChainHead::START, &events), Ok(last));
    let text = serde_json::to_vec(&events).expect("events as JSON");
    let read: Vec<EventView> = serde_json::from_slice(&text).expect("events of ours");
    // A fraction may differ in its last digit: the header of `dist::chain` says so.
    if !data.contains(&b'.') && !data.contains(&b'e') && !data.contains(&b'E') {
        assert_eq!(verify(ChainHead::START, &read), Ok(last));
    }
    let place = data.len() % events.len();
    events[place].kind.push('x');
    assert!(verify(ChainHead::START, &events).is_err(), "a change was not found");
}

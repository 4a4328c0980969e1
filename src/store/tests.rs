//! Contents from a base to nodes, over restarts, bad sources and full disks.

mod ahead;
mod publish;
mod restart;

use std::path::{Path, PathBuf};
use std::pin::pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::dist::ids::Digest;
use crate::dist::units::{Frame, FrameReader, UNIT_BYTES, UNIT_LEN, UnitFrame};
use crate::dist::wire::job::Attributes;

const ID: ContentId = ContentId(Uuid::from_u128(0x17));

fn keys() -> BaseKeys {
    BaseKeys::from_bytes(&[3; 32])
}

/// A folder for a base and one for each node.
struct Lab {
    dir: TempDir,
}

impl Lab {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn base(&self) -> Store {
        Store::open(&self.dir.path().join("base"), StoreKey::Signs(keys())).unwrap().0
    }

    fn node(&self, name: &str) -> (Store, Vec<Recovered>) {
        let dir = self.media(name).join(".headend/contents");
        Store::open(&dir, StoreKey::Verifies(keys().verify_key())).unwrap()
    }

    fn media(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn bytes_of(len: usize, seed: u64) -> Bytes {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

/// Uploads in pieces that fit nothing.
async fn upload(content: &Arc<Content>, bytes: &Bytes) {
    for piece in bytes.chunks(50_001) {
        content.append(Bytes::copy_from_slice(piece)).await.unwrap();
    }
}

/// A whole content at the base.
async fn made(base: &Store, id: ContentId, bytes: &Bytes) -> Arc<Content> {
    let content = base.create(id, Some(bytes.len() as u64)).unwrap();
    upload(&content, bytes).await;
    let end = content.finish().await.unwrap();
    assert_eq!(end.size, bytes.len() as u64);
    assert_eq!(end.blake3, Digest(*blake3::hash(bytes).as_bytes()));
    content
}

/// Frames of a stream until `count` came or it ends.
async fn frames(
    stream: impl Stream<Item = io::Result<Bytes>>,
    count: usize,
) -> io::Result<Vec<Frame>> {
    let (mut reader, mut found) = (FrameReader::new(), Vec::new());
    let mut stream = pin!(stream);
    while found.len() < count
        && let Some(piece) = stream.next().await
    {
        reader.push(piece?);
        while let Some(frame) = reader.next_frame().unwrap() {
            found.push(frame);
        }
    }
    Ok(found)
}

/// Copies from one store to another until the end.
async fn fetch(from: &Arc<Content>, to: &Arc<Content>) -> ContentEnd {
    for frame in frames(from.frames(to.have()), usize::MAX).await.unwrap() {
        if let Appended::End(end) = to.append_frame(frame).await.unwrap() {
            return end;
        }
    }
    panic!("the stream has no end frame");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_of_any_size_passes_from_base_to_node_to_node_bit_for_bit() {
    let lab = Lab::new();
    let (base, (first, _), (second, _)) = (lab.base(), lab.node("a"), lab.node("b"));
    let sizes = [0, 1, UNIT_LEN - 1, UNIT_LEN, UNIT_LEN + 1, 1_300_000, 12 << 20];
    for (number, size) in (1..).zip(sizes) {
        let id = ContentId(Uuid::from_u128(number));
        let bytes = bytes_of(size, 1);
        let source = made(&base, id, &bytes).await;
        let relay = first.create(id, Some(size as u64)).unwrap();
        let end = fetch(&source, &relay).await;
        assert_eq!(Some(end), source.end());
        let last = second.create(id, None).unwrap();
        assert_eq!(fetch(&relay, &last).await, end);
        for (content, name) in [(&relay, "a"), (&last, "b")] {
            let path = format!("films/{number}/title.mp4");
            content.publish(&lab.media(name), &path, &Attributes::default()).await.unwrap();
            assert_eq!(std::fs::read(lab.media(name).join(path)).unwrap(), bytes, "{size}");
            assert!(content.is_published());
            assert_eq!(content.read(0..size as u64).await.unwrap(), bytes);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unit_is_passed_on_while_the_upload_goes_on() {
    let lab = Lab::new();
    let (base, (node, _)) = (lab.base(), lab.node("a"));
    let bytes = bytes_of(3 * UNIT_LEN + 7, 2);
    let (source, relay) = (base.create(ID, None).unwrap(), node.create(ID, None).unwrap());
    source.append(bytes.slice(..UNIT_LEN + 5)).await.unwrap();
    // A frame of hashes and a unit, then the stream waits.
    for frame in frames(source.frames(0), 2).await.unwrap() {
        relay.append_frame(frame).await.unwrap();
    }
    assert_eq!(relay.have(), UNIT_BYTES);
    assert_eq!((source.have(), source.accepted()), (UNIT_BYTES, UNIT_BYTES + 5));
    assert_eq!(source.tail().await, (UNIT_BYTES, bytes.slice(UNIT_LEN..UNIT_LEN + 5)));
    let rest = {
        let (source, bytes) = (Arc::clone(&source), bytes.clone());
        tokio::spawn(async move {
            source.append_at(UNIT_BYTES + 5, bytes.slice(UNIT_LEN + 5..)).await.unwrap();
            source.finish().await.unwrap()
        })
    };
    let end = fetch(&source, &relay).await;
    assert_eq!(end, rest.await.unwrap());
    assert_eq!(relay.read(5..bytes.len() as u64).await.unwrap(), bytes.slice(5..));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_reads_nothing_holds_up_nobody_and_gets_all_later() {
    let lab = Lab::new();
    let (base, (node, _)) = (lab.base(), lab.node("a"));
    let bytes = bytes_of(24 << 20, 3);
    let source = base.create(ID, None).unwrap();
    source.append(bytes.slice(..UNIT_LEN)).await.unwrap();
    let mut slow = Box::pin(source.frames(0));
    let first = slow.next().await.unwrap().unwrap();
    upload(&source, &bytes.slice(UNIT_LEN..)).await;
    source.finish().await.unwrap();
    assert!(source.lock_ring_bytes() <= limits::RING_BYTES_MAX);
    let relay = node.create(ID, None).unwrap();
    let rest = futures_util::stream::once(async { Ok(first) }).chain(slow);
    for frame in frames(rest, usize::MAX).await.unwrap() {
        relay.append_frame(frame).await.unwrap();
    }
    assert_eq!(relay.end(), source.end());
}

#[tokio::test]
async fn bad_unit_is_refused_and_another_source_goes_on_behind_the_last_good_one() {
    let lab = Lab::new();
    let (base, (node, _)) = (lab.base(), lab.node("a"));
    let bytes = bytes_of(2 * UNIT_LEN + 9, 4);
    let source = base.create(ID, None).unwrap();
    // In one piece: one frame has the hashes of all units.
    source.append(bytes.clone()).await.unwrap();
    source.finish().await.unwrap();
    let relay = node.create(ID, None).unwrap();
    let good = frames(source.frames(0), 2).await.unwrap();
    for frame in &good {
        relay.append_frame(frame.clone()).await.unwrap();
    }
    let mut damaged = bytes.slice(UNIT_LEN..2 * UNIT_LEN).to_vec();
    damaged[77] ^= 1;
    let bad = Frame::Unit(UnitFrame::new(1, &damaged));
    assert_eq!(relay.append_frame(bad).await, Err(StoreError::BadUnit { unit: 1 }));
    assert_eq!(relay.have(), UNIT_BYTES);
    // What is there already has no effect.
    assert_eq!(relay.append_frame(good[1].clone()).await, Ok(Appended::Known));
    fetch(&source, &relay).await;
    assert_eq!(relay.read(0..bytes.len() as u64).await.unwrap(), bytes);
}

#[tokio::test]
async fn frames_signed_by_another_base_are_refused() {
    let lab = Lab::new();
    let dir = lab.media("a");
    let other = StoreKey::Verifies(BaseKeys::from_bytes(&[4; 32]).verify_key());
    let (node, _) = Store::open(&dir, other).unwrap();
    let source = made(&lab.base(), ID, &bytes_of(10, 5)).await;
    let relay = node.create(ID, None).unwrap();
    let frame = frames(source.frames(0), 1).await.unwrap().remove(0);
    assert_eq!(relay.append_frame(frame).await, Err(StoreError::BadSignature));
}

#[tokio::test]
async fn upload_that_is_not_what_was_announced_is_refused_and_no_node_sees_its_end() {
    let lab = Lab::new();
    let base = lab.base();
    let content = base.create(ID, Some(10)).unwrap();
    assert_eq!(content.append_at(1, bytes_of(1, 0)).await, Err(StoreError::Offset { have: 0 }));
    let too_long = content.append(bytes_of(11, 0)).await;
    assert_eq!(too_long, Err(StoreError::TooLong { size: 10 }));
    content.append(bytes_of(9, 0)).await.unwrap();
    assert_eq!(content.finish().await, Err(StoreError::TooShort { have: 9, size: 10 }));
    content.append(bytes_of(1, 0)).await.unwrap();
    let expected = Digest([0; 32]);
    let ended = content.finish_as(Some(expected)).await;
    assert!(matches!(ended, Err(StoreError::BadHash { .. })), "{ended:?}");
    assert_eq!(content.end(), None);
    assert!(matches!(content.append(bytes_of(1, 0)).await, Err(StoreError::BadHash { .. })));
    base.remove(ID).unwrap();
    let again = made(&base, ID, &bytes_of(10, 0)).await;
    assert_eq!(again.append(bytes_of(1, 0)).await, Err(StoreError::Ended));
    assert_eq!(again.finish().await.ok(), again.end());
    assert!(again.finish_as(Some(expected)).await.is_err());
}

#[tokio::test]
async fn content_that_the_disk_does_not_hold_is_refused_at_once() {
    let lab = Lab::new();
    let (base, (node, _)) = (lab.base(), lab.node("a"));
    for store in [&base, &node] {
        assert_eq!(store.create(ID, Some(1 << 60)).err(), Some(StoreError::NoSpace));
        assert!(store.get(ID).is_none());
        store.create(ID, Some(1 << 20)).unwrap();
    }
}

#[tokio::test]
async fn removed_content_ends_its_streams_and_its_files_are_gone() {
    let lab = Lab::new();
    let base = lab.base();
    let content = base.create(ID, Some(2 << 20)).unwrap();
    content.append(bytes_of(1 << 20, 6)).await.unwrap();
    let stream = {
        let content = Arc::clone(&content);
        tokio::spawn(async move { frames(content.frames(0), usize::MAX).await })
    };
    tokio::task::yield_now().await;
    base.remove(ID).unwrap();
    assert_eq!(stream.await.unwrap().unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(content.append(bytes_of(1, 0)).await, Err(StoreError::Removed));
    assert!(base.get(ID).is_none() && base.was_removed(ID));
    drop(content);
    assert_eq!(files_in(&lab.dir.path().join("base")), [""; 0]);
}

#[tokio::test]
async fn content_is_waited_for_until_it_is_made() {
    let lab = Lab::new();
    let base = lab.base();
    assert!(base.wait_for(ID, Duration::from_millis(1)).await.is_none());
    let waits = {
        let base = base.clone();
        tokio::spawn(async move { base.wait_for(ID, Duration::from_secs(60)).await })
    };
    tokio::task::yield_now().await;
    base.create(ID, None).unwrap();
    assert!(!base.was_removed(ID));
    assert_eq!(waits.await.unwrap().unwrap().id(), ID);
}

#[tokio::test]
async fn damaged_file_of_a_content_is_never_sent() {
    let lab = Lab::new();
    let bytes = bytes_of(3 * UNIT_LEN, 7);
    made(&lab.base(), ID, &bytes).await;
    let path = lab.dir.path().join(format!("base/{ID}.data"));
    let mut stored = std::fs::read(&path).unwrap();
    stored[UNIT_LEN + 1] ^= 0x80;
    std::fs::write(&path, stored).unwrap();
    // After a restart nothing of it is in memory.
    let content = lab.base().get(ID).unwrap();
    let error = frames(content.frames(0), usize::MAX).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let good = content.read(0..UNIT_BYTES).await.unwrap();
    assert_eq!(good, bytes.slice(..UNIT_LEN));
}

fn files_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

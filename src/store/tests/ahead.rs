//! Parts of a content that come ahead of what is in front of them.

use super::*;

/// Frames of units from `from` on, up to `to`.
async fn part(source: &Arc<Content>, from: u64, to: u64) -> Vec<Frame> {
    let stream = source.frames_until(from * UNIT_BYTES, to * UNIT_BYTES);
    let frames = frames(stream, usize::MAX).await.unwrap();
    assert!(matches!(frames.last(), Some(Frame::Unit(unit)) if unit.number() + 1 == to));
    frames
}

async fn take(relay: &Arc<Content>, frames: Vec<Frame>) {
    for frame in frames {
        relay.append_part(frame).await.unwrap();
    }
}

/// Until what is ahead is on the disk.
async fn written(lab: &Lab, end: u64) {
    let data = lab.media("a").join(format!(".headend/contents/{ID}.data"));
    let is_there = || std::fs::metadata(&data).is_ok_and(|data| data.len() >= end * UNIT_BYTES);
    let began = std::time::Instant::now();
    while !is_there() {
        assert!(began.elapsed() < Duration::from_secs(10), "units ahead are not written");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_in_any_order_make_a_content_that_others_see_from_its_start() {
    let lab = Lab::new();
    let bytes = bytes_of((9 << 20) + 11, 1);
    let source = made(&lab.base(), ID, &bytes).await;
    let (node, _) = lab.node("a");
    let relay = node.create(ID, source.size()).unwrap();
    take(&relay, part(&source, 100, 145).await).await;
    let ahead = 100 << 16..bytes.len() as u64;
    assert_eq!((relay.have(), relay.ranges_ahead().as_slice()), (0, [ahead].as_slice()));
    take(&relay, part(&source, 30, 60).await).await;
    take(&relay, part(&source, 0, 30).await).await;
    assert_eq!(relay.have(), 60 << 16);
    assert_eq!(relay.read(0..60 << 16).await.unwrap(), bytes.slice(..60 << 16));
    // A child has it while the parent has a gap.
    let (second, _) = lab.node("b");
    let child = second.create(ID, source.size()).unwrap();
    for frame in frames(relay.frames(0), 50).await.unwrap() {
        child.append_frame(frame).await.unwrap();
    }
    take(&relay, part(&source, 55, 100).await).await;
    assert_eq!((relay.have(), relay.ranges_ahead()), (bytes.len() as u64, vec![]));
    let end = frames(source.frames(bytes.len() as u64), usize::MAX).await.unwrap();
    for frame in end {
        relay.append_part(frame).await.unwrap();
    }
    assert_eq!(relay.end(), source.end());
    assert_eq!(Some(fetch(&relay, &child).await), source.end());
    relay.publish(&lab.media("a"), "t.mp4", &Attributes::default()).await.unwrap();
    assert_eq!(std::fs::read(lab.media("a").join("t.mp4")).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_killed_with_parts_ahead_of_a_gap_has_them_after_its_restart() {
    let lab = Lab::new();
    let bytes = bytes_of((9 << 20) + 11, 2);
    let source = made(&lab.base(), ID, &bytes).await;
    {
        let (node, _) = lab.node("a");
        let relay = node.create(ID, source.size()).unwrap();
        for frame in frames(source.frames(0), 20).await.unwrap() {
            relay.append_frame(frame).await.unwrap();
        }
        relay.sync().await.unwrap();
        take(&relay, part(&source, 40, 60).await).await;
        take(&relay, part(&source, 80, 90).await).await;
        written(&lab, 90).await;
        // The record of hashes follows the bytes.
        relay.sync().await.unwrap();
    }
    for _ in 0..2 {
        let (node, recovered) = lab.node("a");
        let relay = node.get(ID).unwrap();
        let have = recovered[0].have;
        assert!(have >= 16 << 16, "{have}");
        let ahead = relay.ranges_ahead();
        assert!(!ahead.is_empty() && ahead.iter().all(|range| range.start >= 40 << 16));
    }
    // One of them is spoilt on the disk: it is fetched again.
    let data = lab.media("a").join(format!(".headend/contents/{ID}.data"));
    let file = std::fs::File::options().write(true).open(&data).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 99], 50 << 16).unwrap();
    let (node, _) = lab.node("a");
    let relay = node.get(ID).unwrap();
    assert!(relay.ranges_ahead().iter().all(|range| !range.contains(&(50 << 16))));
    let from = relay.have() / UNIT_BYTES;
    take(&relay, part(&source, from, 145).await).await;
    assert_eq!(relay.have(), bytes.len() as u64);
    assert_eq!(relay.read(0..bytes.len() as u64).await.unwrap(), bytes);
    fetch(&source, &relay).await;
    assert_eq!(relay.end(), source.end());
}

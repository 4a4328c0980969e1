//! What is left of contents after a process was killed, and after power was lost.

use std::os::unix::fs::FileExt as _;

use super::*;

/// A store is dropped as a process is killed: nothing is told to it.
async fn part_at_node(lab: &Lab, source: &Arc<Content>, count: usize) -> u64 {
    let (node, _) = lab.node("a");
    let relay = node.create(ID, source.size()).unwrap();
    for frame in frames(source.frames(0), count).await.unwrap() {
        relay.append_frame(frame).await.unwrap();
    }
    relay.sync().await.unwrap();
    relay.have()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_goes_on_at_its_offset_after_a_restart() {
    let lab = Lab::new();
    let bytes = bytes_of((5 << 20) + 11, 1);
    let source = made(&lab.base(), ID, &bytes).await;
    let had = part_at_node(&lab, &source, 60).await;
    assert!(had > 3 << 20, "{had}");
    let (node, recovered) = lab.node("a");
    let expected = Recovered { id: ID, have: had, accepted: had, end: None, is_published: false };
    assert_eq!(recovered, [expected]);
    let relay = node.get(ID).unwrap();
    assert_eq!(relay.read(0..had).await.unwrap(), bytes.slice(..usize::try_from(had).unwrap()));
    fetch(&source, &relay).await;
    relay.publish(&lab.media("a"), "t.mp4", &Attributes::default()).await.unwrap();
    assert_eq!(std::fs::read(lab.media("a").join("t.mp4")).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_a_loss_of_power_damaged_are_cut_off_and_fetched_again() {
    let lab = Lab::new();
    let bytes = bytes_of((5 << 20) + 11, 2);
    let source = made(&lab.base(), ID, &bytes).await;
    let had = part_at_node(&lab, &source, 60).await;
    let data = lab.media("a").join(format!(".headend/contents/{ID}.data"));
    let file = std::fs::File::options().write(true).open(&data).unwrap();
    file.write_all_at(&[0; 4096], 40 * UNIT_BYTES).unwrap();
    let (node, recovered) = lab.node("a");
    assert_eq!(recovered[0].have, 40 * UNIT_BYTES, "of {had}");
    let relay = node.get(ID).unwrap();
    fetch(&source, &relay).await;
    assert_eq!(relay.read(0..bytes.len() as u64).await.unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn journal_that_ends_anywhere_never_claims_what_is_not_there() {
    let lab = Lab::new();
    let bytes = bytes_of((2 << 20) + 11, 3);
    let source = made(&lab.base(), ID, &bytes).await;
    let had = part_at_node(&lab, &source, 30).await;
    let folder = lab.media("a").join(".headend/contents");
    let [data, units] = ["data", "units"].map(|kind| folder.join(format!("{ID}.{kind}")));
    let (whole_data, whole_units) = (std::fs::read(&data).unwrap(), std::fs::read(&units).unwrap());
    for len in (0..=whole_units.len()).step_by(97) {
        std::fs::write(&data, &whole_data).unwrap();
        std::fs::write(&units, &whole_units[..len]).unwrap();
        let (node, recovered) = lab.node("a");
        let have = recovered.first().map_or(0, |content| content.have);
        assert!(have <= had, "{have} of {had} with {len} bytes of the journal");
        if let Some(relay) = node.get(ID) {
            let end = usize::try_from(have).unwrap();
            assert_eq!(relay.read(0..have).await.unwrap(), bytes.slice(..end), "{len}");
        } else {
            assert_eq!(files_in(&folder), [""; 0], "{len}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parked_upload_goes_on_at_the_byte_after_a_restart_of_the_base() {
    let lab = Lab::new();
    let bytes = bytes_of((2 << 20) + 11, 4);
    let parked = (1 << 20) + 1_234;
    {
        let content = lab.base().create(ID, Some(bytes.len() as u64)).unwrap();
        upload(&content, &bytes.slice(..parked)).await;
        content.sync().await.unwrap();
        assert_eq!(content.synced(), parked as u64);
    }
    let (base, recovered) =
        Store::open(&lab.dir.path().join("base"), StoreKey::Signs(keys())).unwrap();
    assert_eq!((recovered[0].accepted, recovered[0].have), (parked as u64, 1 << 20));
    let content = base.get(ID).unwrap();
    upload(&content, &bytes.slice(parked..)).await;
    let end = content.finish().await.unwrap();
    assert_eq!(end.blake3, Digest(*blake3::hash(&bytes).as_bytes()));
    let (node, _) = lab.node("a");
    let relay = node.create(ID, None).unwrap();
    assert_eq!(fetch(&content, &relay).await, end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn base_signs_units_again_whose_bytes_were_lost() {
    let lab = Lab::new();
    let bytes = bytes_of(40 * UNIT_LEN, 5);
    {
        let content = lab.base().create(ID, None).unwrap();
        upload(&content, &bytes.slice(..20 * UNIT_LEN)).await;
        content.sync().await.unwrap();
    }
    let data = lab.dir.path().join(format!("base/{ID}.data"));
    std::fs::File::options().write(true).open(&data).unwrap().set_len(5 * UNIT_BYTES + 3).unwrap();
    let base = lab.base();
    let content = base.get(ID).unwrap();
    assert_eq!((content.have(), content.accepted()), (5 * UNIT_BYTES, 5 * UNIT_BYTES));
    // Other bytes than before: what was signed before must not be seen any more.
    let other = bytes_of(40 * UNIT_LEN, 6).slice(5 * UNIT_LEN..);
    upload(&content, &other).await;
    let end = content.finish().await.unwrap();
    let (node, _) = lab.node("a");
    let relay = node.create(ID, None).unwrap();
    assert_eq!(fetch(&content, &relay).await, end);
    let expected = [&bytes[..5 * UNIT_LEN], &other[..]].concat();
    assert_eq!(relay.read(0..end.size).await.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_contents_are_served_after_a_restart_wherever_they_are() {
    let lab = Lab::new();
    let bytes = bytes_of((6 << 20) + 1, 7);
    let source = made(&lab.base(), ID, &bytes).await;
    {
        let (node, _) = lab.node("a");
        let relay = node.create(ID, source.size()).unwrap();
        fetch(&source, &relay).await;
        relay.publish(&lab.media("a"), "x/t.mp4", &Attributes::default()).await.unwrap();
    }
    let (base, (node, recovered)) = (lab.base(), lab.node("a"));
    assert_eq!(recovered[0].end, source.end());
    assert!(recovered[0].is_published);
    let (second, _) = lab.node("b");
    for from in [base.get(ID).unwrap(), node.get(ID).unwrap()] {
        let to = second.create(ID, None).unwrap();
        assert_eq!(Some(fetch(&from, &to).await), source.end());
        second.remove(ID).unwrap();
    }
    // A file that was replaced is not the content any more.
    std::fs::write(lab.media("a").join("y"), "other").unwrap();
    std::fs::rename(lab.media("a").join("y"), lab.media("a").join("x/t.mp4")).unwrap();
    let stale = node.get(ID).unwrap();
    assert!(frames(stale.frames(0), usize::MAX).await.is_err());
    let (_, recovered) = lab.node("a");
    assert_eq!(recovered, []);
    assert_eq!(std::fs::read(lab.media("a").join("x/t.mp4")).unwrap(), b"other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_content_of_a_node_that_is_not_published_leaves_nothing() {
    let lab = Lab::new();
    let source = made(&lab.base(), ID, &bytes_of(1_000, 8)).await;
    {
        let (node, _) = lab.node("a");
        let relay = node.create(ID, source.size()).unwrap();
        fetch(&source, &relay).await;
    }
    assert_eq!(lab.node("a").1, []);
    assert_eq!(files_in(&lab.media("a").join(".headend/contents")), [""; 0]);
}

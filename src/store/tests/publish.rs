//! Names, folders and attributes of published contents.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::dist::wire::job::Reason;

async fn whole_at_node(lab: &Lab, bytes: &Bytes) -> Arc<Content> {
    let source = made(&lab.base(), ID, bytes).await;
    let (node, _) = lab.node("a");
    let relay = node.create(ID, source.size()).unwrap();
    fetch(&source, &relay).await;
    relay
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attributes_are_set_before_the_file_has_its_name() {
    let lab = Lab::new();
    let content = whole_at_node(&lab, &bytes_of(5_000, 1)).await;
    let attrs = Attributes {
        mode: Some(0o640),
        mtime_ns: Some(-1_500_000_001),
        xattr: [("user.title".to_owned(), Some(STANDARD.encode("\u{e9}")))].into(),
    };
    content.publish(&lab.media("a"), "one/two/t.mp4", &attrs).await.unwrap();
    let path = lab.media("a").join("one/two/t.mp4");
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (-2, 499_999_999));
    assert_eq!(xattr::get(&path, "user.title").unwrap().unwrap(), "\u{e9}".as_bytes());
    // The same once more has no effect; another name is refused.
    content.publish(&lab.media("a"), "one/two/t.mp4", &attrs).await.unwrap();
    let again = content.publish(&lab.media("a"), "other.mp4", &attrs).await.unwrap_err();
    assert_eq!(again.reason(), Reason::PathConflict);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn name_that_leads_out_or_is_taken_by_a_folder_is_refused_and_another_may_follow() {
    let lab = Lab::new();
    let content = whole_at_node(&lab, &bytes_of(5_000, 2)).await;
    let media = lab.media("a");
    std::fs::create_dir(media.join("folder")).unwrap();
    std::fs::write(media.join("file"), "plain").unwrap();
    symlink(lab.dir.path(), media.join("out")).unwrap();
    let long = "x".repeat(256);
    let bad = [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../x",
        "a/../x",
        "a//x",
        "./x",
        "x/",
        ".headend/x",
        ".x",
        "folder",
        "file/x",
        "out/x",
        "a\0b",
        &long,
    ];
    for path in bad {
        let error = content.publish(&media, path, &Attributes::default()).await.unwrap_err();
        assert_eq!(error.reason(), Reason::PathConflict, "{path:?}: {error}");
        assert!(!content.is_published());
    }
    for (name, value) in [("trusted.x", "AAAA"), ("user.x", "%")] {
        let xattr = [(name.to_owned(), Some(value.to_owned()))].into();
        let attrs = Attributes { xattr, ..Attributes::default() };
        let error = content.publish(&media, "t.mp4", &attrs).await.unwrap_err();
        assert!(matches!(error, PublishError::Attribute { .. }), "{error}");
    }
    assert!(!media.join("t.mp4").exists());
    // A file of that name is replaced.
    content.publish(&media, "file", &Attributes::default()).await.unwrap();
    assert_eq!(std::fs::metadata(media.join("file")).unwrap().len(), 5_000);
}

#[tokio::test]
async fn content_that_is_not_whole_gets_no_name() {
    let lab = Lab::new();
    let source = made(&lab.base(), ID, &bytes_of(3 * UNIT_LEN, 3)).await;
    let (node, _) = lab.node("a");
    let relay = node.create(ID, None).unwrap();
    for frame in frames(source.frames(0), 2).await.unwrap() {
        relay.append_frame(frame).await.unwrap();
    }
    let error = relay.publish(&lab.media("a"), "t.mp4", &Attributes::default()).await.unwrap_err();
    assert!(matches!(error, PublishError::NotWhole), "{error}");
    assert!(!lab.media("a").join("t.mp4").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_contents_are_published_together() {
    let lab = Lab::new();
    let (base, (node, _)) = (lab.base(), lab.node("a"));
    let mut jobs = Vec::new();
    for number in 0..200_u128 {
        let (base, node, media) = (base.clone(), node.clone(), lab.media("a"));
        jobs.push(tokio::spawn(async move {
            let id = ContentId(Uuid::from_u128(number));
            let bytes = bytes_of(2_000 + usize::try_from(number).unwrap(), 4);
            let source = made(&base, id, &bytes).await;
            let relay = node.create(id, source.size()).unwrap();
            fetch(&source, &relay).await;
            let path = format!("d{}/{number}", number % 7);
            relay.publish(&media, &path, &Attributes::default()).await.unwrap();
            assert_eq!(std::fs::read(media.join(path)).unwrap(), bytes);
        }));
    }
    for job in jobs {
        job.await.unwrap();
    }
    assert_eq!(files_in(&lab.media("a").join(".headend/contents")), [""; 0]);
}

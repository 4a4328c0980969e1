//! The pool with the real formats: the built-in clip, whole and damaged.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::{Pool, PoolConfig};
use crate::access::question::nobody;
use crate::base::ids::{RtpTs, SeqNo, ShardId, Ssrc};
use crate::library::Library;
use crate::library::title::Title;
use crate::media::image::ImageNumbers;
use crate::media::packetize::job::window_count;
use crate::media::payload_window::PayloadWindow;
use crate::media::window::{PacketWindow, Piece, WindowKey, WindowKind};
use crate::poll::task::{
    DescriptionFailure, OpenFailure, Outcome, Task, TaskClass, TaskDone, TaskOwner, WindowFailure,
    Work,
};

struct Bench {
    pool: Pool,
    answers: Receiver<TaskDone>,
}

impl Bench {
    fn new(library: Library) -> Self {
        let config = PoolConfig {
            cpus: vec![None, None],
            queue_max: 1_000,
            window_cache_bytes: 16 << 20,
            image_bytes: 8 << 20,
            titles_max: 8,
            titles_open_max: 16,
            concurrency_per_worker: 32,
        };
        let (inbox, answers) = channel();
        let deliver = Arc::new(move |_, done| {
            let _ = inbox.send(done);
        });
        Self { pool: Pool::start(config, Arc::new(library), deliver, nobody()).unwrap(), answers }
    }

    fn ask(&self, work: Work) -> Outcome {
        let task = Task {
            shard: ShardId(0),
            owner: TaskOwner::Window(0),
            class: TaskClass::Control,
            work,
        };
        self.pool.queue().submit(task).unwrap();
        self.answers.recv_timeout(Duration::from_secs(60)).unwrap().outcome
    }

    fn open(&self, name: Option<&str>) -> Result<Arc<Title>, OpenFailure> {
        match self.ask(Work::Open { name: name.map(str::to_owned) }) {
            Outcome::Opened(result) => result,
            other => panic!("{other:?} for a title"),
        }
    }

    /// Every window of the title.
    fn windows(&self, title: &Arc<Title>) -> Vec<Result<Arc<PacketWindow>, WindowFailure>> {
        let mut windows = Vec::new();
        for (track_index, track) in (0_u8..).zip(&title.asset.tracks) {
            for kind in [WindowKind::All, WindowKind::Sync] {
                for index in 0..window_count(track, kind) {
                    let key = WindowKey { track_index, kind, index };
                    let title = Arc::clone(title);
                    match self.ask(Work::Window { title, key }) {
                        Outcome::Window(result) => windows.push(result),
                        other => panic!("{other:?} for a window"),
                    }
                }
            }
        }
        windows
    }

    /// Every window of the title with the bytes of its packets.
    fn payloads(&self, title: &Arc<Title>) -> Vec<Result<Box<PayloadWindow>, WindowFailure>> {
        let mut windows = Vec::new();
        for (track_index, track) in (0_u8..).zip(&title.asset.tracks) {
            for index in 0..window_count(track, WindowKind::All) {
                let key = WindowKey { track_index, kind: WindowKind::All, index };
                let title = Arc::clone(title);
                match self.ask(Work::WindowBytes { title, key }) {
                    Outcome::WindowBytes(result) => windows.push(result),
                    other => panic!("{other:?} for a window with bytes"),
                }
            }
        }
        windows
    }

    fn describe(&self, file: &Path) -> Result<usize, DescriptionFailure> {
        match self.ask(Work::ReadDescription { file: file.to_owned() }) {
            Outcome::Described(result) => result.map(|sdp| sdp.medias().len()),
            other => panic!("{other:?} for a description"),
        }
    }
}

#[test]
fn description_of_a_live_source_is_read_or_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(Library::new(None).unwrap());
    let file = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &str| std::fs::write(file(name), text).unwrap();
    write("cam.sdp", "v=0\r\nm=video 5004 RTP/AVP 96\r\n");
    write("text.sdp", "hello\n");
    write("empty.sdp", "");
    write("long.sdp", &"a=x\n".repeat(100_000));
    assert_eq!(bench.describe(&file("cam.sdp")), Ok(1));
    let why = |path: &Path| bench.describe(path).unwrap_err().to_string();
    for (name, wanted) in [
        ("none.sdp", "cannot be read: No such file"),
        ("text.sdp", "is no session description (SDP): line 1: not a session description"),
        ("empty.sdp", "no m= line"),
        ("long.sdp", "description of 400000 bytes, at most"),
    ] {
        let why = why(&file(name));
        assert!(why.contains(name) && why.contains(wanted), "{why}");
    }
    for path in [folder.path(), Path::new("/dev/zero")] {
        assert!(why(path).contains("not a regular file"), "{}", why(path));
    }
}

#[test]
fn built_in_clip_opens_and_every_window_of_it_is_built() {
    let bench = Bench::new(Library::new(None).unwrap());
    let title = bench.open(None).unwrap();
    assert_eq!(title.asset.tracks.len(), 2, "{:?}", title.asset.left_out);
    let windows = bench.windows(&title);
    assert!(windows.len() >= 8);
    for window in windows {
        let window = window.unwrap();
        assert!(!window.frames().is_empty());
    }
    assert_eq!(bench.pool.counts().panics.value(), 0);
    bench.pool.stop();
}

/// Payload of each packet, gathered from the file by the window's pieces.
fn gathered(title: &Title, window: &PacketWindow) -> Vec<(bool, Vec<u8>)> {
    let packet = |packet: &crate::media::window::Packet| {
        let mut payload = Vec::new();
        for piece in window.pieces(packet) {
            match *piece {
                Piece::Inline { offset, bytes } => {
                    payload.extend_from_slice(window.inline_bytes(offset, bytes));
                }
                Piece::File { offset, bytes } => {
                    let mut part = vec![0; bytes.into()];
                    std::os::unix::fs::FileExt::read_exact_at(&title.file, &mut part, offset)
                        .unwrap();
                    payload.append(&mut part);
                }
            }
        }
        (packet.marker, payload)
    };
    window.all_packets().iter().map(packet).collect()
}

#[test]
fn windows_with_bytes_are_the_windows_and_the_bytes_that_they_refer_to() {
    let bench = Bench::new(Library::new(None).unwrap());
    let title = bench.open(None).unwrap();
    let plain = bench.windows(&title);
    let all = plain.iter().map(|window| window.as_ref().unwrap());
    let payloads = bench.payloads(&title);
    assert!(payloads.len() >= 4);
    for window in payloads {
        let window = window.unwrap();
        let same = all.clone().find(|plain| plain.frames() == window.frames()).unwrap();
        let packets = window.frames().iter().flat_map(|frame| {
            (0..frame.packet_count).map(|place| window.packet(frame, place).unwrap())
        });
        let packets: Vec<_> = packets.map(|(marker, bytes)| (marker, bytes.to_vec())).collect();
        assert_eq!(packets, gathered(&title, same));
    }
    let key = WindowKey { track_index: 0, kind: WindowKind::All, index: 999 };
    let outcome = bench.ask(Work::WindowBytes { title, key });
    assert!(matches!(outcome, Outcome::WindowBytes(Err(WindowFailure::Corrupt(_)))));
    bench.pool.stop();
}

#[test]
fn budget_of_images_counts_all_memory_of_an_image() {
    let bench = Bench::new(Library::new(None).unwrap());
    let title = bench.open(None).unwrap();
    let window = bench.windows(&title).remove(0).unwrap();
    let (ssrc, first_seq, ts_zero) = (Ssrc(1), SeqNo(1), RtpTs(1));
    let numbers = ImageNumbers { ssrc, payload_type: 96, first_seq, ts_zero };
    let outcome = bench.ask(Work::Image { title, window: Arc::clone(&window), numbers });
    assert!(matches!(outcome, Outcome::Image(Ok(()))), "{outcome:?}");
    let memory_bytes = window.image().load().as_ref().unwrap().memory_bytes();
    let payload_bytes: usize =
        window.all_packets().iter().map(|packet| usize::from(packet.payload_bytes)).sum();
    assert!(memory_bytes > payload_bytes + 20 * window.all_packets().len());
    assert_eq!(bench.pool.counts().images_bytes.value(), memory_bytes as u64);
    bench.pool.stop();
}

#[test]
fn title_that_has_changed_gives_no_window_with_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (clip, identity) = Library::new(None).unwrap().open_clip().unwrap();
    let mut content = vec![0; usize::try_from(identity.bytes).unwrap()];
    std::os::unix::fs::FileExt::read_exact_at(&clip, &mut content, 0).unwrap();
    let file = folder.path().join("a.mp4");
    std::fs::write(&file, &content).unwrap();
    let bench = Bench::new(Library::new(Some(folder.path().into())).unwrap());
    let title = bench.open(Some("a.mp4")).unwrap();
    assert!(bench.payloads(&title).iter().all(Result::is_ok));
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(1_000).unwrap();
    let changed = |result: &Result<_, _>| matches!(result, Err(WindowFailure::FileChanged));
    assert!(bench.payloads(&title).iter().all(changed), "cut short");
    std::fs::remove_file(&file).unwrap();
    assert!(bench.payloads(&title).iter().all(changed), "gone");
    bench.pool.stop();
}

#[test]
fn clip_cut_or_damaged_anywhere_is_an_answer_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::new(Some(folder.path().into())).unwrap();
    let (clip, identity) = Library::new(None).unwrap().open_clip().unwrap();
    let mut content = vec![0; usize::try_from(identity.bytes).unwrap()];
    std::os::unix::fs::FileExt::read_exact_at(&clip, &mut content, 0).unwrap();
    let bench = Bench::new(library);
    let mut opened = 0;
    for round in 0..60_usize {
        let mut bad = content.clone();
        if round % 2 == 0 {
            bad.truncate(content.len() * round / 60);
        } else {
            // The first bytes hold the index or its place; damage them more densely.
            let at = (round * round * 7) % bad.len().min(20_000);
            bad[at..(at + 4).min(content.len())].fill(0xff);
        }
        let name = format!("{round}.mp4");
        std::fs::write(folder.path().join(&name), bad).unwrap();
        if let Ok(title) = bench.open(Some(&name)) {
            opened += 1;
            let _ = bench.windows(&title);
        }
    }
    assert!(opened > 0);
    assert_eq!(bench.pool.counts().panics.value(), 0);
}

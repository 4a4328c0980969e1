//! Which of two processes goes on, whatever happens at whatever byte: their shards are stood in
//! for.
//!
//! A shard of the old process sends unless it was frozen and not resumed; one of the new process
//! sends when it has begun.

use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, PidfdFlags, Resource, getrlimit, pidfd_open};

use super::door::Door;
use super::giver::{Became, Giver, Held, Kept, tell_until};
use super::right::Right;
use super::taker::{Claim, make_room_for_descriptors};
use super::wire::{Wire, WireError};
use super::*;
use crate::consumers::takeover::LeftBehind;
use crate::shard::inbox::Message;
use crate::shard::takeover::{Given, TakeoverMessage};
use crate::takeover::frame::Head;
use crate::takeover::v1::{Fd, ShardRecord, TitleRecord};
use crate::takeover::{Hello, Offer, ToNew, ToOld};

/// Threads in the place of shards.
struct Shards {
    poller: Arc<Poller<Inbox>>,
    told: Arc<Mutex<Vec<&'static str>>>,
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Shards {
    fn new() -> Self {
        let inboxes: Vec<_> = (0..2).map(|_| Arc::new(Inbox::new(1).unwrap())).collect();
        let (told, ends) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let start = |(shard, inbox): (u8, &Arc<Inbox>)| {
            let (inbox, told) = (Arc::clone(inbox), Arc::clone(&told));
            let ends: Arc<AtomicBool> = Arc::clone(&ends);
            thread::spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    match inbox.pop_message() {
                        Some(Message::Takeover(message)) => handle(shard, *message, &told),
                        Some(_) => {}
                        None => thread::sleep(Duration::from_micros(50)),
                    }
                }
            })
        };
        let threads = (0..).zip(&inboxes).map(start).collect();
        Self { poller: Arc::new(Poller::new(inboxes)), told, ends, threads }
    }

    /// What all of them were told by now, in their order.
    fn told(&self) -> Vec<&'static str> {
        let mut seen = std::mem::take(&mut *lock(&self.told));
        // Both are told the same.
        let all = seen.clone();
        seen.dedup();
        for what in &seen {
            assert_eq!(all.iter().filter(|one| one == &what).count() % 2, 0, "{all:?}");
        }
        seen
    }

    /// Waits until both were told this.
    fn wait_for(&self, what: &str) {
        let is_told = || lock(&self.told).iter().filter(|one| **one == what).count() == 2;
        for _ in 0..10_000 {
            if is_told() {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("{what} did not come: {:?}", self.told());
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn handle(shard: u8, message: TakeoverMessage, told: &Mutex<Vec<&'static str>>) {
    match message {
        TakeoverMessage::Titles { answer } => answer(Vec::new()),
        TakeoverMessage::Pairs { answer } => answer(Ok(Vec::new())),
        TakeoverMessage::Packets { answer } | TakeoverMessage::Halt { answer } => answer(Ok(())),
        TakeoverMessage::Pass { answer } => answer(()),
        TakeoverMessage::Quiet { answer } => answer(Ok(LeftBehind::default())),
        TakeoverMessage::Freeze { answer } => {
            lock(told).push("freeze");
            answer(Ok(Given { record: record(shard), files: Vec::new() }));
        }
        TakeoverMessage::Without { .. } => {}
        TakeoverMessage::Resume => lock(told).push("resume"),
        TakeoverMessage::Leave => lock(told).push("leave"),
        TakeoverMessage::Open { answer, titles } if titles.is_empty() => answer(Vec::new()),
        // From a disk that hangs.
        TakeoverMessage::Open { answer, .. } => std::mem::forget(answer),
        TakeoverMessage::Take { answer, .. } => answer(Ok(1)),
        TakeoverMessage::Begin { .. } => lock(told).push("begin"),
    }
}

fn record(shard: u8) -> ShardRecord {
    ShardRecord { shard, ..ShardRecord::default() }
}

/// The old process, whose folder goes with it.
struct Old {
    shards: Shards,
    giver: Giver,
    is_told_to_end: watch::Receiver<bool>,
    _folder: tempfile::TempDir,
}

impl Old {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let door = Door::open(&folder.path().join("own").join("socket")).unwrap();
        let shards = Shards::new();
        let (poller, (stop, is_told_to_end)) = (Arc::clone(&shards.poller), watch::channel(false));
        let (end, opening) = (End::default(), Opening::new(true));
        // The process that tests run in is not to end.
        end.reach();
        let parting = Parting::default();
        parting.know();
        let giver = Giver { door, kept: Kept::default(), poller, stop, end, opening, parting };
        Self { shards, giver, is_told_to_end, _folder: folder }
    }

    /// Whether its ports of HTTP are served.
    fn accepts(&self) -> bool {
        *self.giver.opening.watch().borrow() && !*self.is_told_to_end.borrow()
    }

    /// Serves a new process that does this, and is gone then.
    fn serve<T: Send>(&self, new: impl FnOnce(UnixStream) -> T + Send) -> (Became, T) {
        let (own, its) = UnixStream::pair().unwrap();
        thread::scope(|scope| {
            let new = scope.spawn(|| new(its));
            let became = self.giver.serve(Wire::new(own));
            (became, new.join().unwrap())
        })
    }
}

fn bytes_of(message: &impl serde::Serialize) -> Vec<u8> {
    let body = serde_json::to_vec(message).unwrap();
    let head = Head { bytes: u32::try_from(body.len()).unwrap(), descriptors: 0, is_apart: false };
    [&head.to_bytes()[..], &body].concat()
}

fn soon() -> Instant {
    within(Duration::from_secs(10))
}

fn offer_of(stream: &UnixStream) -> (Offer, Vec<OwnedFd>) {
    match Wire::new(stream.try_clone().unwrap()).receive::<ToNew>(soon()) {
        Ok((ToNew::Offer(offer), files)) => (offer, files),
        other => panic!("{other:?}"),
    }
}

/// The right to go on, as it came with an offer.
fn right_of(stream: &UnixStream) -> Right {
    let (offer, mut files) = offer_of(stream);
    Right::of(files.swap_remove(offer.right.0 as usize))
}

/// The same one.
fn twin(right: &Right) -> Right {
    Right::of(right.as_fd().try_clone_to_owned().unwrap())
}

/// All that a new process says until it goes on.
fn words() -> [Vec<u8>; 3] {
    let hello = ToOld::Hello(Hello::new("test", false));
    [bytes_of(&hello), bytes_of(&ToOld::Freeze), bytes_of(&ToOld::Taken)]
}

#[test]
fn old_process_goes_on_when_the_new_one_is_gone_after_any_byte_without_having_begun() {
    let (old, words) = (Old::new(), words());
    let asks = words[0].len() + words[1].len();
    let words = words.concat();
    for cut in 0..=words.len() {
        let (became, ()) = old.serve(|mut new| {
            // What it says is in the socket before it is waited for.
            new.write_all(&words[..cut]).unwrap();
            if cut >= asks {
                // Not before its shards are asked.
                old.shards.wait_for("freeze");
            }
            drop(new);
        });
        assert!(matches!(became, Became::Resumed(_)), "cut at byte {cut}: {became:?}");
        if cut >= asks {
            old.shards.wait_for("resume");
            assert_eq!(old.shards.told(), ["freeze", "resume"], "cut at byte {cut}");
        }
        assert_eq!(old.shards.told(), [""; 0], "cut at byte {cut}");
    }
}

/// How far a new process comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Frozen,
    Right,
    Taken,
    Serves,
}

#[test]
fn old_process_goes_on_until_the_right_is_taken_and_never_after_that() {
    thread::scope(|scope| {
        for step in [Step::Frozen, Step::Right, Step::Taken, Step::Serves] {
            for is_silent in [false, true] {
                scope.spawn(move || come_as_far_as(step, is_silent));
            }
        }
    });
}

/// A new process that dies then, or is stopped until the old one has decided without it.
fn come_as_far_as(step: Step, is_silent: bool) {
    let old = Old::new();
    let (became, right) = old.serve(|mut new| {
        let [hello, freeze, taken] = words();
        new.write_all(&[hello, freeze].concat()).unwrap();
        let right = right_of(&new);
        old.shards.wait_for("freeze");
        if step >= Step::Right {
            assert!(right.take());
        }
        if step >= Step::Taken {
            new.write_all(&taken).unwrap();
        }
        if step >= Step::Serves {
            new.write_all(&bytes_of(&ToOld::Serves { has_socket: true })).unwrap();
        }
        if is_silent {
            old.shards.wait_for(if step == Step::Frozen { "resume" } else { "leave" });
        }
        right
    });
    let what = format!("{step:?}, silent: {is_silent}");
    let goes_on = step == Step::Frozen;
    match step {
        Step::Frozen => assert!(matches!(became, Became::Resumed(_)), "{what}: {became:?}"),
        Step::Right | Step::Taken => assert_eq!(became, Became::Abandoned, "{what}"),
        Step::Serves => assert_eq!(became, Became::Left, "{what}"),
    }
    let last = if goes_on { "resume" } else { "leave" };
    old.shards.wait_for(last);
    assert_eq!(old.shards.told(), ["freeze", last], "{what}");
    assert_eq!((old.accepts(), old.giver.parting.has_begun()), (goes_on, !goes_on), "{what}");
    let ends_well = matches!(became, Became::Resumed(_) | Became::Left);
    assert_eq!(old.giver.parting.wait().is_ok(), ends_well, "{what}");
    // One that was stopped finds that, and ends.
    assert!(!right.take(), "{what}");
}

#[test]
fn old_process_accepts_nothing_and_is_there_until_the_new_one_serves() {
    let old = Old::new();
    let (became, ()) = old.serve(|mut new| {
        let [hello, freeze, taken] = words();
        new.write_all(&[hello, freeze].concat()).unwrap();
        let right = right_of(&new);
        old.shards.wait_for("freeze");
        assert!(!old.accepts() && !old.giver.parting.has_begun());
        assert!(right.take());
        new.write_all(&taken).unwrap();
        old.shards.wait_for("leave");
        assert!(!old.accepts());
        thread::scope(|scope| {
            let ends = scope.spawn(|| old.giver.parting.wait());
            thread::sleep(Duration::from_millis(20));
            assert!(!ends.is_finished(), "the service manager is not told yet");
            new.write_all(&bytes_of(&ToOld::Serves { has_socket: false })).unwrap();
            ends.join().unwrap().unwrap();
        });
    });
    assert_eq!(became, Became::Left);
}

#[test]
fn old_process_goes_on_when_the_new_one_refuses_or_says_something_else() {
    let old = Old::new();
    let refused = ToOld::Refused { why: "as it is".to_owned() };
    for last in [bytes_of(&refused), bytes_of(&ToOld::Freeze), b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
        let [hello, freeze, _] = words();
        let (became, why) = old.serve(|mut new| {
            new.write_all(&[hello, freeze, last].concat()).unwrap();
            let mut wire = Wire::new(new);
            loop {
                match wire.receive::<ToNew>(soon()) {
                    Ok((ToNew::Refused { why }, _)) => return why,
                    Ok(_) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        assert_eq!(became, Became::Resumed(why));
        old.shards.wait_for("resume");
        assert_eq!(old.shards.told(), ["freeze", "resume"]);
    }
}

#[test]
fn new_process_whose_hello_cannot_be_read_is_told_so() {
    let old = Old::new();
    let (became, told) = old.serve(|new| {
        new.shutdown(std::net::Shutdown::Write).unwrap();
        Wire::new(new).receive::<ToNew>(soon())
    });
    let Ok((ToNew::Refused { why }, _)) = told else { panic!("{told:?}") };
    assert_eq!(became, Became::Resumed(why));
}

#[test]
fn viewers_that_no_shard_knows_are_told_before_anything_stops() {
    let mut old = Old::new();
    old.giver.kept.browsers = Some(|| 2);
    let [hello, freeze, _] = words();
    let (_, why) = old.serve(|mut new| {
        new.write_all(&[hello, freeze].concat()).unwrap();
        let mut wire = Wire::new(new);
        loop {
            match wire.receive::<ToNew>(soon()) {
                Ok((ToNew::Refused { why }, _)) => return why,
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    assert!(why.contains("2 sessions") && why.contains("2 by WebRTC"), "{why}");
    old.shards.wait_for("resume");
    assert_eq!(old.shards.told(), ["resume"]);
}

#[test]
fn right_that_both_take_at_one_moment_is_taken_by_one_of_them() {
    let mut goes = [0; 2];
    for round in 0..2_000_u32 {
        let right = Right::new().unwrap();
        let (theirs, start) = (twin(&right), Arc::new(Barrier::new(2)));
        let starts = Arc::clone(&start);
        let new = thread::spawn(move || {
            starts.wait();
            theirs.take()
        });
        start.wait();
        if round % 2 == 0 {
            thread::yield_now();
        }
        let (old, new) = (right.take(), new.join().unwrap());
        assert!(new != old, "round {round}: new {new}, old {old}");
        goes[usize::from(new)] += 1;
    }
    println!("the old one {}, the new one {} times", goes[0], goes[1]);
}

/// The new process has everything at the very moment at which the old one gives it up.
#[test]
fn word_and_deadline_at_one_moment_leave_one_that_goes_on() {
    let around =
        |step: u32| TAKE_MAX - Duration::from_millis(3) + Duration::from_micros(500) * step;
    let times = (0..12).map(around).chain([Duration::ZERO, 2 * TAKE_MAX]);
    let went = [AtomicBool::new(false), AtomicBool::new(false)];
    thread::scope(|scope| {
        for (step, time) in times.enumerate() {
            let went = &went;
            scope.spawn(move || {
                let (old, new) = (Old::new(), Shards::new());
                let (became, begun) = old.serve(|stream| {
                    let claim = Claim::of(stream, Path::new("/nowhere"), false).unwrap();
                    let last = || {
                        thread::sleep(time);
                        Ok(())
                    };
                    let over = claim.take(&new.poller, &[8_000, 8_002], last).ok()?;
                    over.begin(&new.poller).unwrap().serves();
                    Some(())
                });
                let told = if begun.is_some() {
                    new.wait_for("begin");
                    assert_eq!(became, Became::Left, "step {step}");
                    ["freeze", "leave"]
                } else {
                    assert!(matches!(became, Became::Resumed(_)), "step {step}: {became:?}");
                    ["freeze", "resume"]
                };
                old.shards.wait_for(told[1]);
                assert_eq!(old.shards.told(), told, "step {step}");
                assert_eq!(new.told().len(), usize::from(begun.is_some()), "step {step}");
                went[usize::from(begun.is_some())].store(true, Ordering::Relaxed);
            });
        }
    });
    assert!(went.iter().all(|it| it.load(Ordering::Relaxed)), "each goes on at times: {went:?}");
}

#[test]
fn shards_are_told_what_is_right_when_the_thread_of_a_takeover_breaks() {
    for is_taken in [false, true] {
        let (old, right) = (Old::new(), Right::new().unwrap());
        thread::scope(|scope| {
            let broken = scope.spawn(|| {
                let _held = Held::new(&old.giver, &right);
                assert!(!is_taken || twin(&right).take());
                panic!("as the test wants it");
            });
            assert!(broken.join().is_err());
        });
        old.shards.wait_for(if is_taken { "leave" } else { "resume" });
        assert_eq!(old.giver.parting.has_begun(), is_taken);
        assert_eq!(old.accepts(), !is_taken);
    }
}

/// The thread goes on, and a later takeover takes place.
#[test]
fn fault_of_the_program_before_the_right_is_taken_ends_that_takeover_alone() {
    let mut old = Old::new();
    old.giver.kept.browsers = Some(|| panic!("as the test wants it"));
    let [hello, freeze, _] = words();
    let said = [hello, freeze].concat();
    let (became, ()) = old.serve(|mut new| {
        new.write_all(&said).unwrap();
        offer_of(&new);
        assert!(matches!(Wire::new(new).receive::<ToNew>(soon()), Err(WireError::Ended)));
    });
    assert!(matches!(&became, Became::Resumed(why) if why.contains("a fault")), "{became:?}");
    old.shards.wait_for("resume");
    assert!(old.accepts() && old.shards.told() == ["resume"]);
}

#[test]
fn old_process_whose_thread_breaks_when_the_right_is_gone_waits_for_the_new_one_all_the_same() {
    static IS_TAKEN: AtomicBool = AtomicBool::new(false);
    let mut old = Old::new();
    old.giver.kept.browsers = Some(|| {
        for _ in 0..10_000 {
            if IS_TAKEN.load(Ordering::Relaxed) {
                panic!("as the test wants it");
            }
            thread::sleep(Duration::from_millis(1));
        }
        0
    });
    let [hello, freeze, _] = words();
    let (became, ()) = old.serve(|mut new| {
        new.write_all(&[hello, freeze].concat()).unwrap();
        assert!(right_of(&new).take());
        IS_TAKEN.store(true, Ordering::Relaxed);
        old.shards.wait_for("leave");
        new.write_all(&bytes_of(&ToOld::Serves { has_socket: false })).unwrap();
    });
    assert_eq!((became, old.shards.told()), (Became::Left, vec!["leave"]));
}

/// It may serve, and a service manager that was not told of it would end it with the old one.
#[test]
fn old_process_is_there_until_the_new_one_has_ended_though_their_connection_has() {
    let old = Old::new();
    let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
    let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
    let hello = Hello { process: Some(Fd(0)), ..Hello::new("test", false) };
    let (became, ()) = old.serve(|stream| {
        let mut wire = Wire::new(stream.try_clone().unwrap());
        wire.send(&ToOld::Hello(hello), &[process.as_fd()], soon()).unwrap();
        let right = right_of(&stream);
        wire.send(&ToOld::Freeze, &[], soon()).unwrap();
        old.shards.wait_for("freeze");
        assert!(right.take());
        drop((wire, stream));
        old.shards.wait_for("leave");
        thread::scope(|scope| {
            let ends = scope.spawn(|| old.giver.parting.wait());
            thread::sleep(Duration::from_millis(20));
            assert!(!ends.is_finished(), "it is there");
            child.kill().unwrap();
            ends.join().unwrap().unwrap_err();
        });
        child.wait().unwrap();
    });
    assert_eq!(became, Became::Abandoned);
}

/// A shard hangs, and its inbox is full.
#[test]
fn old_process_that_goes_on_accepts_again_before_all_of_its_shards_have_heard_it() {
    let inbox = Arc::new(Inbox::new(1).unwrap());
    while inbox.push(Message::Stop).is_ok() {}
    let mut old = Old::new();
    old.giver.poller = Arc::new(Poller::new(vec![Arc::clone(&inbox)]));
    old.giver.opening.pause();
    let right = Right::new().unwrap();
    thread::scope(|scope| {
        let ends = scope.spawn(|| drop(Held::new(&old.giver, &right)));
        for _ in 0..10_000 {
            if old.accepts() {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        assert!(old.accepts() && !ends.is_finished());
        // Bounded by the messages of the inbox.
        while !ends.is_finished() {
            drop(inbox.pop_message());
        }
        ends.join().unwrap();
    });
    assert!(!right.take(), "this process has it");
}

/// The same.
#[test]
fn old_process_serves_nobody_any_more_whose_shard_does_not_hear_that_it_leaves() {
    let inbox = Arc::new(Inbox::new(1).unwrap());
    while inbox.push(Message::Stop).is_ok() {}
    let mut old = Old::new();
    old.giver.poller = Arc::new(Poller::new(vec![Arc::clone(&inbox)]));
    let right = Right::new().unwrap();
    assert!(twin(&right).take());
    thread::scope(|scope| {
        let ends = scope.spawn(|| Held::new(&old.giver, &right).end());
        for _ in 0..10_000 {
            if *old.is_told_to_end.borrow() {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        assert!(!old.accepts() && old.giver.parting.has_begun());
        // Before the time for a shard is over.
        while !ends.is_finished() {
            drop(inbox.pop_message());
        }
        assert!(!ends.join().unwrap());
    });
}

#[test]
fn full_inbox_is_told_again_until_it_has_room() {
    let inbox = Arc::new(Inbox::new(1).unwrap());
    let poller = Poller::new(vec![Arc::clone(&inbox)]);
    while inbox.push(Message::Stop).is_ok() {}
    let resume = || TakeoverMessage::Resume;
    assert_eq!(tell_until(&poller, resume, within(Duration::from_millis(5))), Err(0));
    let reads = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        std::iter::from_fn(|| inbox.pop_message()).filter(is_resume).count()
            + (0..1_000)
                .map(|_| {
                    thread::sleep(Duration::from_millis(1));
                    inbox.pop_message()
                })
                .find_map(|message| message.filter(is_resume))
                .map_or(0, |_| 1)
    });
    assert_eq!(tell_until(&poller, resume, soon()), Ok(()));
    assert_eq!(reads.join().unwrap(), 1);
}

fn is_resume(message: &Message) -> bool {
    matches!(message, Message::Takeover(one) if matches!(**one, TakeoverMessage::Resume))
}

/// What an old process tells after its offer.
fn records() -> Vec<u8> {
    let shard = |number| bytes_of(&ToNew::Shard(Box::new(record(number))));
    [shard(0), shard(1), bytes_of(&ToNew::Frozen)].concat()
}

/// What an old process offers, beside the right.
fn offer(titles: Vec<TitleRecord>) -> Offer {
    let (listeners, pairs, program) = (Vec::new(), Vec::new(), String::new());
    Offer { version: 1, program, listeners, pairs, titles, right: Fd(0), process: None, pid: 0 }
}

/// A new process that takes over from an old one which does this with its end and the right, once
/// it was asked.
fn take(old: impl FnOnce(UnixStream, &Right) + Send) -> (Result<usize, String>, Vec<&'static str>) {
    let shards = Shards::new();
    let (own, its) = UnixStream::pair().unwrap();
    let right = Right::new().unwrap();
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            let mut wire = Wire::new(its.try_clone().unwrap());
            assert!(matches!(wire.receive::<ToOld>(soon()), Ok((ToOld::Hello(_), _))));
            wire.send(&ToNew::Offer(offer(Vec::new())), &[right.as_fd()], soon()).unwrap();
            assert!(matches!(wire.receive::<ToOld>(soon()), Ok((ToOld::Freeze, _))));
            drop(wire);
            old(its, &right);
        });
        let claim = Claim::of(own, Path::new("/nowhere"), false)?;
        let over = claim.take(&shards.poller, &[8_000, 8_002], || Ok(()))?;
        assert!(!right.take(), "it has the right before anything begins");
        let begun = over.begin(&shards.poller).unwrap();
        let sessions = begun.over().sessions;
        begun.serves();
        Ok(sessions)
    });
    if result.is_ok() {
        shards.wait_for("begin");
    }
    (result, shards.told())
}

#[test]
fn new_process_does_not_begin_before_it_has_everything_and_needs_nobody_then() {
    let records = records();
    for cut in 0..=records.len() {
        let (result, told) = take(|mut old, _| {
            old.write_all(&records[..cut]).unwrap();
            drop(old);
        });
        if cut < records.len() {
            assert!(result.is_err(), "cut at byte {cut}");
            assert_eq!(told, [""; 0], "cut at byte {cut}");
        } else {
            assert_eq!((result, told), (Ok(2), vec!["begin"]), "nobody else goes on");
        }
    }
}

#[test]
fn new_process_says_that_it_goes_on_and_then_that_it_serves() {
    let (result, told) = take(|mut old, _| {
        old.write_all(&records()).unwrap();
        let mut wire = Wire::new(old);
        assert_eq!(wire.receive::<ToOld>(soon()).unwrap().0, ToOld::Taken);
        let serves = ToOld::Serves { has_socket: true };
        assert_eq!(wire.receive::<ToOld>(soon()).unwrap().0, serves);
        assert!(matches!(wire.receive::<ToOld>(soon()), Err(WireError::Ended)));
    });
    assert_eq!((result, told), (Ok(2), vec!["begin"]));
}

#[test]
fn new_process_does_not_begin_when_the_old_one_has_the_right() {
    let late = ToNew::Refused { why: "too late".to_owned() };
    for (said, why) in [(bytes_of(&late), "too late"), (Vec::new(), "has ended")] {
        let (result, told) = take(|mut old, right| {
            assert!(right.take());
            old.write_all(&[records(), said].concat()).unwrap();
        });
        assert!(result.as_ref().is_err_and(|told| told.contains(why)), "{result:?}");
        assert_eq!(told, [""; 0]);
    }
}

/// It has all ports of the old one, which another server is to have.
#[test]
fn new_process_that_is_not_ready_yet_ends_when_the_old_one_is_gone() {
    let shards = Shards::new();
    let (own, its) = UnixStream::pair().unwrap();
    let right = Right::new().unwrap();
    let refused = thread::scope(|scope| {
        scope.spawn(|| {
            let mut wire = Wire::new(its);
            assert!(matches!(wire.receive::<ToOld>(soon()), Ok((ToOld::Hello(_), _))));
            let title = TitleRecord { name: None, file: Fd(1), wire: 0 };
            let file = tempfile::tempfile().unwrap();
            let files: [BorrowedFd<'_>; 2] = [right.as_fd(), file.as_fd()];
            wire.send(&ToNew::Offer(offer(vec![title])), &files, soon()).unwrap();
        });
        let mut claim = Claim::of(own, Path::new("/nowhere"), false).unwrap();
        let checked = (0..10_000).find_map(|_| {
            thread::sleep(Duration::from_millis(1));
            claim.check().err()
        });
        assert_eq!(checked.as_deref(), Some("the running server has ended"));
        claim.take(&shards.poller, &[8_000, 8_002], || Ok(())).unwrap_err()
    });
    // Its title never opens.
    assert_eq!(refused, "the running server has ended");
    assert!(right.take(), "nobody has it");
}

#[test]
fn both_sides_together_hand_over_once() {
    let (old, new) = (Old::new(), Shards::new());
    for _ in 0..20 {
        let (became, over) = old.serve(|stream| {
            let claim = Claim::of(stream, Path::new("/nowhere"), false).unwrap();
            let over = claim.take(&new.poller, &[8_000, 8_002], || Ok(())).unwrap();
            let begun = over.begin(&new.poller).unwrap();
            new.wait_for("begin");
            let over = begun.over();
            begun.serves();
            over
        });
        assert_eq!((became, over.sessions), (Became::Left, 2));
        old.shards.wait_for("leave");
        assert_eq!((old.shards.told(), new.told()), (vec!["freeze", "leave"], vec!["begin"]));
    }
}

#[test]
fn last_thing_that_fails_leaves_the_old_process_as_it_was() {
    let (old, new) = (Old::new(), Shards::new());
    let (became, refused) = old.serve(|stream| {
        let claim = Claim::of(stream, Path::new("/nowhere"), false).unwrap();
        claim.take(&new.poller, &[8_000, 8_002], || Err("it broke".to_owned())).unwrap_err()
    });
    assert_eq!((became, refused.as_str()), (Became::Resumed("it broke".to_owned()), "it broke"));
    old.shards.wait_for("resume");
    assert_eq!((old.shards.told(), new.told()), (vec!["freeze", "resume"], vec![]));
}

#[test]
fn table_of_descriptors_is_as_large_as_it_may_become() {
    make_room_for_descriptors(3_000);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    assert!(size.trim().parse::<u64>().unwrap() >= limit.min(3_000), "{size}");
    // More than the limit.
    make_room_for_descriptors(usize::MAX);
}

#[test]
fn wire_whose_other_end_is_gone_is_closed_and_tells_what_was_said_before() {
    let (own, its) = UnixStream::pair().unwrap();
    let (mut old, mut new) = (Wire::new(own), Wire::new(its));
    new.send(&ToOld::Freeze, &[], soon()).unwrap();
    assert!(!old.is_closed());
    drop(new);
    assert!(old.is_closed());
    assert_eq!(old.receive::<ToOld>(soon()).unwrap().0, ToOld::Freeze);
    assert!(matches!(old.receive::<ToOld>(soon()), Err(WireError::Ended)));
}

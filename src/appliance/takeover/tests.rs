//! Which of two processes goes on, whatever happens at whatever byte: their shards are stood in
//! for.
//!
//! A shard of the old process sends unless it was frozen and not resumed; one of the new process
//! sends when it has begun.

use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{PidfdFlags, Resource, getrlimit, pidfd_open};

use super::door::Door;
use super::giver::{Became, Giver, Held, Kept, await_taken, tell_until};
use super::taker::{Claim, make_room_for_descriptors};
use super::wire::{Wire, WireError};
use super::*;
use crate::consumers::takeover::LeftBehind;
use crate::shard::inbox::Message;
use crate::shard::takeover::{Given, TakeoverMessage};
use crate::takeover::frame::Head;
use crate::takeover::v1::{Fd, ShardRecord};
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
        TakeoverMessage::Resume => lock(told).push("resume"),
        TakeoverMessage::Leave => lock(told).push("leave"),
        TakeoverMessage::Open { answer, .. } => answer(Vec::new()),
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
    _folder: tempfile::TempDir,
}

impl Old {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let door = Door::open(&folder.path().join("own").join("socket")).unwrap();
        let shards = Shards::new();
        let (poller, (stop, _)) = (Arc::clone(&shards.poller), watch::channel(false));
        let (end, opening) = (End::default(), Opening::new(true));
        // The process that tests run in is not to end.
        end.reach();
        let giver = Giver { door, kept: Kept::default(), poller, stop, end, opening };
        Self { shards, giver, _folder: folder }
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

fn begin(offer: &Offer, files: &[OwnedFd]) {
    let begun = &files[offer.begun.unwrap().0 as usize];
    rustix::io::write(begun, &1_u64.to_ne_bytes()).unwrap();
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

#[test]
fn old_process_leaves_when_the_new_one_has_begun_and_not_before() {
    let old = Old::new();
    for dies_at_once in [true, false] {
        let (became, new) = old.serve(|mut new| {
            new.write_all(&words().concat()).unwrap();
            let (offer, files) = offer_of(&new);
            old.shards.wait_for("freeze");
            thread::sleep(Duration::from_millis(20));
            assert_eq!(lock(&old.shards.told).len(), 2, "it waits for the begin");
            begin(&offer, &files);
            (!dies_at_once).then_some(new)
        });
        assert_eq!(became, Became::Left);
        old.shards.wait_for("leave");
        assert_eq!(old.shards.told(), ["freeze", "leave"]);
        drop(new);
    }
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

/// The word and the deadline of the other side at the same moment: the writer's success is what the
/// reader has seen.
#[test]
fn word_and_deadline_at_one_moment_leave_one_that_goes_on() {
    let mut goes = [0; 2];
    for round in 0..600_u64 {
        let (own, its) = UnixStream::pair().unwrap();
        let new = thread::spawn(move || {
            let mut wire = Wire::new(its);
            thread::sleep(Duration::from_micros(round % 20 * 50));
            wire.send(&ToOld::Taken, &[], soon()).is_ok()
        });
        let old = await_taken(&mut Wire::new(own), within(Duration::from_micros(450)));
        let (new, old) = (new.join().unwrap(), old.is_err());
        assert!(new != old, "round {round}: new {new}, old {old}");
        goes[usize::from(new)] += 1;
    }
    println!("the old one {}, the new one {} times", goes[0], goes[1]);
}

#[test]
fn shards_go_on_when_the_thread_of_a_takeover_breaks() {
    let shards = Shards::new();
    let poller = Arc::clone(&shards.poller);
    let broken = thread::spawn(move || {
        let _held = Held { poller: &poller, are_left: false };
        panic!("as the test wants it");
    });
    assert!(broken.join().is_err());
    shards.wait_for("resume");
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

/// A new process that takes over from an old one which does this with its end, once it was asked.
/// `process` is the old one.
fn take(
    process: Option<BorrowedFd<'_>>,
    old: impl FnOnce(UnixStream) + Send,
) -> (Result<bool, String>, Vec<&'static str>) {
    let shards = Shards::new();
    let (own, its) = UnixStream::pair().unwrap();
    let begun = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
    let is_told = |begun: &OwnedFd| rustix::io::read(begun, &mut [0; 8]).is_ok();
    let result = thread::scope(|scope| {
        let begun = begun.as_fd();
        scope.spawn(move || {
            let mut wire = Wire::new(its.try_clone().unwrap());
            assert!(matches!(wire.receive::<ToOld>(soon()), Ok((ToOld::Hello(_), _))));
            let mut files = vec![begun];
            files.extend(process);
            let offer = Offer {
                version: 1,
                program: String::new(),
                listeners: Vec::new(),
                pairs: Vec::new(),
                titles: Vec::new(),
                begun: Some(Fd(0)),
                process: process.map(|_| Fd(1)),
                pid: 0,
            };
            wire.send(&ToNew::Offer(offer), &files, soon()).unwrap();
            assert!(matches!(wire.receive::<ToOld>(soon()), Ok((ToOld::Freeze, _))));
            old(its);
        });
        let claim = Claim::of(own, Path::new("/nowhere"), false)?;
        let over = claim.take(&shards.poller, &[8_000, 8_002], || Ok(()))?;
        let over = over.begin(&shards.poller).unwrap();
        assert!(!is_told(&begun.try_clone_to_owned().unwrap()), "not confirmed yet");
        Ok(over.confirm().sessions == 2)
    });
    if result.is_ok() {
        shards.wait_for("begin");
    }
    assert_eq!(is_told(&begun), result.is_ok(), "the old one leaves when the new one has begun");
    (result, shards.told())
}

#[test]
fn new_process_does_not_begin_when_the_old_one_is_cut_off_after_any_byte() {
    let records = records();
    for cut in 0..=records.len() {
        // It may live, for all that is known.
        let (result, told) = take(None, |mut old| {
            old.write_all(&records[..cut]).unwrap();
            drop(old);
        });
        assert!(result.is_err(), "cut at byte {cut}");
        assert_eq!(told, [""; 0], "cut at byte {cut}");
    }
}

#[test]
fn new_process_begins_when_the_old_one_has_died_with_everything_told() {
    let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let (result, told) = take(Some(process.as_fd()), |mut old| {
        old.write_all(&records()).unwrap();
        drop(old);
        child.kill().unwrap();
        child.wait().unwrap();
    });
    assert_eq!((result, told), (Ok(true), vec!["begin"]));
}

#[test]
fn new_process_begins_when_its_word_is_taken_and_not_when_it_is_refused_or_late() {
    let (result, told) = take(None, |mut old| {
        old.write_all(&records()).unwrap();
        let taken = Wire::new(old.try_clone().unwrap()).receive::<ToOld>(soon());
        assert_eq!(taken.unwrap().0, ToOld::Taken);
    });
    assert_eq!((result, told), (Ok(true), vec!["begin"]));
    let late = ToNew::Refused { why: "too late".to_owned() };
    let (result, told) = take(None, |mut old| {
        old.shutdown(std::net::Shutdown::Read).unwrap();
        old.write_all(&records()).unwrap();
        old.write_all(&bytes_of(&late)).unwrap();
    });
    assert!(result.as_ref().is_err_and(|why| why.contains("too late")), "{result:?}");
    assert_eq!(told, [""; 0]);
}

#[test]
fn both_sides_together_hand_over_once() {
    let (old, new) = (Old::new(), Shards::new());
    for _ in 0..20 {
        let (became, over) = old.serve(|stream| {
            let claim = Claim::of(stream, Path::new("/nowhere"), false).unwrap();
            let over = claim.take(&new.poller, &[8_000, 8_002], || Ok(())).unwrap();
            let over = over.begin(&new.poller).unwrap();
            new.wait_for("begin");
            assert!(!lock(&old.shards.told).contains(&"leave"));
            over.confirm()
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
fn wire_that_was_closed_for_reading_tells_an_end() {
    let (own, its) = UnixStream::pair().unwrap();
    let mut old = Wire::new(own);
    old.close_for_reading();
    assert!(matches!(old.receive::<ToOld>(soon()), Err(WireError::Ended)));
    let never = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
    assert!(!old.is_closed(Duration::ZERO, never.as_fd()), "the other one may write no more");
    drop(its);
    assert!(old.is_closed(Duration::ZERO, never.as_fd()));
}

//! How outcomes and messages reach a shard from another thread, and what waking it costs.

#![expect(clippy::expect_used, reason = "without descriptors nothing is measured")]

use std::os::fd::OwnedFd;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use headend::media::window::{PacketWindow, WindowBuilder};
use headend::poll::task::{Outcome, TaskDone, TaskOwner};
use headend::shard::inbox::{Inbox, Message};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A window's outcome goes in and comes out; nobody sleeps, nobody contends.
#[divan::bench]
fn inbox_outcome_in_and_out(bencher: Bencher<'_, '_>) {
    let (inbox, window) = (inbox(), window());
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        inbox.deliver(done(1, &window));
        inbox.pop_outcome()
    });
}

/// A message goes in and comes out.
#[divan::bench]
fn inbox_message_in_and_out(bencher: Bencher<'_, '_>) {
    let inbox = inbox();
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        inbox.push(Message::Stop).expect("room");
        inbox.pop_message()
    });
}

/// What a turn pays to look into an empty inbox before it sleeps.
#[divan::bench]
fn inbox_empty_turn(bencher: Bencher<'_, '_>) {
    let inbox = inbox();
    bencher.bench_local(|| {
        let may_sleep = inbox.announce_sleep();
        inbox.announce_awake();
        (may_sleep, inbox.pop_outcome().is_none(), inbox.pop_message().is_none())
    });
}

/// The first item after a sleep was announced: with the system call that wakes.
#[divan::bench]
fn inbox_outcome_with_wake(bencher: Bencher<'_, '_>) {
    let (inbox, window) = (inbox(), window());
    let wake = inbox.wake_fd().expect("a descriptor");
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        assert!(inbox.announce_sleep(), "it is empty");
        inbox.deliver(done(1, &window));
        rustix::io::read(&wake, &mut [0; 8]).expect("it was woken");
        inbox.pop_outcome()
    });
}

/// Another thread is asked, and answers with so many outcomes; both sleep when they have nothing to
/// do. With one outcome this is two wakes and four switches of threads.
#[divan::bench(args = [1, 100, 1_000])]
fn inbox_outcomes_from_other_thread(bencher: Bencher<'_, '_>, count: u32) {
    let (shard, worker) = (Arc::new(inbox()), Arc::new(inbox()));
    let answers = std::thread::spawn({
        let (shard, worker, window) = (shard.clone(), worker.clone(), window());
        move || {
            let wake = worker.wake_fd().expect("a descriptor");
            // Ends with the request for none.
            loop {
                let asked = number(&next(&worker, &wake));
                if asked == 0 {
                    break;
                }
                (1..=asked).for_each(|ticket| shard.deliver(done(ticket, &window)));
            }
        }
    });
    let (empty, wake) = (window(), shard.wake_fd().expect("a descriptor"));
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        worker.deliver(done(count, &empty));
        for ticket in 1..=count {
            assert_eq!(number(&next(&shard, &wake)), ticket);
        }
    });
    worker.deliver(done(0, &empty));
    answers.join().expect("the other thread has ended");
}

/// The next outcome; sleeps until there is one, as a shard does.
fn next(inbox: &Inbox, wake: &OwnedFd) -> TaskDone {
    loop {
        if let Some(done) = inbox.pop_outcome() {
            return done;
        }
        if inbox.announce_sleep() {
            let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
            let woken = poll(&mut [PollFd::new(wake, PollFlags::IN)], Some(&limit));
            assert_eq!(woken, Ok(1), "nothing came for ten seconds");
            rustix::io::read(wake, &mut [0; 8]).expect("it was woken");
            inbox.announce_awake();
        }
    }
}

fn inbox() -> Inbox {
    Inbox::new(4_096).expect("an eventfd")
}

fn window() -> Arc<PacketWindow> {
    Arc::new(WindowBuilder::new().finish())
}

/// The number that `done` was given.
fn number(done: &TaskDone) -> u32 {
    let TaskOwner::Window(number) = done.owner else { panic!("{:?} has no number", done.owner) };
    number
}

fn done(number: u32, window: &Arc<PacketWindow>) -> TaskDone {
    TaskDone { owner: TaskOwner::Window(number), outcome: Outcome::Window(Ok(Arc::clone(window))) }
}

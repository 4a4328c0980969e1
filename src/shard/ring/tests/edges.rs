//! What real kernels rarely do: they cancel by themselves, have no memory, take no operations, end
//! what should go on, and never give a send's memory back. DESIGN section 6.13 has the table.

use std::net::SocketAddr;

use io_uring::opcode;

use super::super::key::{Arm, Op};
use super::scripted::{MORE, NOTICE, Scripted, any_file, ring_on, scripted};
use super::*;

const COPIED: u32 = opcode::SendMsg::CODE as u32;
const UNCOPIED: u32 = opcode::SendMsgZc::CODE as u32;
const CLIENT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 5_004);

/// Names of the operations in the kernel.
fn running(ring: &Ring<Scripted>) -> Vec<Op> {
    ring.uring.running().into_iter().map(|(op, _)| op).collect()
}

/// Starts a send of some bytes, without a copy.
fn send(ring: &mut Ring<Scripted>, slot: FileSlot, bytes: usize) {
    let mut send = ring.start_stream_send(slot, 7).unwrap();
    assert!(send.push_bytes(&vec![1; bytes]));
    send.submit();
    ring.enter(Some(0)).unwrap();
}

fn start_run(ring: &mut Ring<Scripted>, slot: FileSlot, token: u32) {
    let (title, window) = (title(&pattern(900)), window(&[100; 2]));
    let mut run = ring.start_run(slot, CLIENT, token).unwrap();
    for packet in window.packets(&window.frames()[0]) {
        assert!(run.try_packet(&header(0), &window, packet, &title).unwrap());
    }
    run.submit(true);
}

#[test]
fn way_that_the_kernel_cancels_is_armed_again_after_a_pause_and_nobody_is_told() {
    for arm in Arm::ALL {
        let mut ring = scripted();
        let slot = any_file(&mut ring);
        match arm {
            Arm::Accept => ring.arm_accept(slot, 1),
            Arm::Receive => ring.arm_receive(slot, 1),
            Arm::Datagrams => ring.arm_datagrams(slot, 1),
            Arm::Wake => ring.arm_wake(slot, 1),
        }
        ring.enter(Some(0)).unwrap();
        ring.uring.complete(Op::Arm(arm), -libc::ECANCELED, 0);
        assert!(ring.next_completion().is_none(), "{arm:?}");
        // Other threads may wait for the shard to hear them.
        let has_pause = arm != Arm::Wake;
        let stats = ring.stats();
        assert_eq!((stats.cancelled, stats.pauses), (1, has_pause.into()), "{arm:?}");
        ring.uring.pass_ms(99);
        ring.enter(Some(0)).unwrap();
        assert_eq!(running(&ring).is_empty(), has_pause, "{arm:?} is armed before its time");
        ring.uring.pass_ms(1);
        ring.enter(Some(0)).unwrap();
        assert_eq!(running(&ring), [Op::Arm(arm)]);
        // As asked for, it is no edge.
        ring.remove(slot);
        ring.enter(Some(0)).unwrap();
        ring.uring.complete(Op::Arm(arm), -libc::ECANCELED, 0);
        ring.uring.complete(Op::Cancel, 1, 0);
        assert!(ring.next_completion().is_none());
        assert_eq!(ring.stats().cancelled, 1, "{arm:?}");
        assert!(any_file(&mut ring) != slot, "the place is free");
    }
}

/// Then a takeover waited in vain for it, and did not take place.
#[test]
fn end_of_a_way_or_a_send_that_the_kernel_refuses_is_asked_for_again_after_a_pause() {
    for errno in [libc::ENOMEM, libc::ECANCELED] {
        let mut ring = scripted();
        let slot = any_file(&mut ring);
        ring.arm_receive(slot, 1);
        send(&mut ring, slot, 100);
        ring.end_receive(slot);
        ring.end_send(slot);
        ring.enter(Some(0)).unwrap();
        let both = [Op::Arm(Arm::Receive), Op::Stream];
        assert_eq!(running(&ring), [both[0], both[1], Op::Cancel, Op::Cancel]);
        for _ in 0..2 {
            ring.uring.complete(Op::Cancel, -errno, 0);
            assert!(ring.next_completion().is_none());
        }
        ring.uring.pass_ms(99);
        ring.enter(Some(0)).unwrap();
        assert_eq!(running(&ring), both);
        ring.uring.pass_ms(1);
        ring.enter(Some(0)).unwrap();
        assert!(running(&ring).len() >= 4, "{:?}", running(&ring));
        assert!(running(&ring)[2..].iter().all(|op| *op == Op::Cancel));
        assert!(ring.is_receiving(slot));
        ring.uring.complete(Op::Arm(Arm::Receive), -libc::ECANCELED, 0);
        assert!(ring.next_completion().is_none());
        assert!(!ring.is_receiving(slot));
    }
}

#[test]
fn wait_ends_when_a_pause_does() {
    for absolute_waits in [true, false] {
        let mut kernel = Scripted::new();
        kernel.features.absolute_waits = absolute_waits;
        let mut ring = ring_on(kernel).unwrap();
        let slot = any_file(&mut ring);
        ring.arm_wake(slot, 0);
        ring.enter(Some(0)).unwrap();
        ring.uring.complete(Op::Arm(Arm::Wake), -libc::ENOMEM, 0);
        assert!(ring.next_completion().is_none());
        let now = ring.uring.now();
        let due = now + Duration::from_millis(100);
        ring.enter(None).unwrap();
        assert_eq!(ring.uring.waits.last(), Some(&(1, Wait::For(Some(100_000_000)))));
        ring.enter_until(now, now + Duration::from_secs(9)).unwrap();
        let expected = if absolute_waits { Wait::Until(due) } else { Wait::For(Some(100_000_000)) };
        assert_eq!(ring.uring.waits.last(), Some(&(1, expected)));
        ring.enter_until(now, now + Duration::from_millis(1)).unwrap();
        let expected = if absolute_waits {
            Wait::Until(now + Duration::from_millis(1))
        } else {
            Wait::For(Some(1_000_000))
        };
        assert_eq!(ring.uring.waits.last(), Some(&(1, expected)));
    }
}

#[test]
fn connection_outlives_a_receive_for_which_the_kernel_has_no_memory_or_buffer() {
    let mut ring = scripted();
    let slot = any_file(&mut ring);
    ring.arm_receive(slot, 1);
    ring.enter(Some(0)).unwrap();
    ring.uring.complete(Op::Arm(Arm::Receive), -libc::ENOBUFS, 0);
    assert!(ring.next_completion().is_none());
    assert_eq!((ring.stats().buffer_shortages, ring.stats().pauses), (1, 0));
    for errno in [libc::ENOMEM, libc::EAGAIN, libc::EINTR] {
        ring.enter(Some(0)).unwrap();
        assert_eq!(running(&ring), [Op::Arm(Arm::Receive)], "armed again");
        ring.uring.complete(Op::Arm(Arm::Receive), -errno, 0);
        assert!(ring.next_completion().is_none());
        ring.uring.pass_ms(100);
    }
    assert_eq!(ring.stats().pauses, 2, "a signal needs none");
    ring.enter(Some(0)).unwrap();
    ring.uring.complete(Op::Arm(Arm::Receive), -libc::ECONNRESET, 0);
    let reset = ring.next_completion();
    assert!(matches!(reset, Some(Completion::Received { token: 1, result: Err(_) })), "{reset:?}");
}

#[test]
fn many_times_armed_way_that_ends_without_an_error_is_armed_again_at_once() {
    let mut ring = scripted();
    let slot = any_file(&mut ring);
    ring.arm_accept(slot, 1);
    ring.arm_datagrams(slot, 2);
    ring.enter(Some(0)).unwrap();
    let connection: i32 = {
        use std::os::fd::IntoRawFd as _;
        File::open("/dev/null").unwrap().into_raw_fd()
    };
    ring.uring.complete(Op::Arm(Arm::Accept), connection, 0);
    ring.uring.complete(Op::Arm(Arm::Datagrams), -libc::ENOBUFS, 0);
    let accepted = ring.next_completion();
    assert!(matches!(accepted, Some(Completion::Accepted { token: 1, result: Ok(_) })));
    assert!(ring.next_completion().is_none());
    ring.enter(Some(0)).unwrap();
    assert_eq!(running(&ring), [Op::Arm(Arm::Accept), Op::Arm(Arm::Datagrams)]);
    assert_eq!((ring.stats().pauses, ring.stats().buffer_shortages), (0, 1));
}

#[test]
fn send_of_which_the_kernel_took_nothing_is_queued_again_and_the_caller_hears_of_its_end() {
    for errno in [libc::ECANCELED, libc::EAGAIN, libc::EINTR] {
        let mut ring = scripted();
        let slot = any_file(&mut ring);
        send(&mut ring, slot, 20_000);
        ring.uring.complete(Op::Stream, -errno, 0);
        assert!(ring.next_completion().is_none());
        assert!(ring.start_stream_send(slot, 0).is_none(), "it is still in flight");
        ring.uring.pass_ms(100);
        ring.enter(Some(0)).unwrap();
        assert_eq!(ring.uring.running(), [(Op::Stream, UNCOPIED)]);
        ring.uring.complete(Op::Stream, 20_000, 0);
        let sent = ring.next_completion();
        assert!(matches!(sent, Some(Completion::StreamSent { token: 7, result: Ok(20_000) })));
        assert_eq!(ring.stream_send_count(), 0);
        assert_eq!(ring.stats().cancelled, u64::from(errno == libc::ECANCELED));
    }
}

#[test]
fn send_without_a_copy_is_made_again_once_for_each_time_that_the_kernel_took_nothing() {
    let mut ring = scripted();
    let slot = any_file(&mut ring);
    send(&mut ring, slot, 20_000);
    for _ in 0..3 {
        ring.uring.complete(Op::Stream, -libc::ECANCELED, MORE);
        assert!(ring.next_completion().is_none());
        ring.uring.complete(Op::Stream, 0, NOTICE);
        assert!(ring.next_completion().is_none());
        ring.enter(Some(0)).unwrap();
        assert_eq!(ring.uring.running(), [], "not before its pause is over");
        ring.uring.pass_ms(100);
        ring.enter(Some(0)).unwrap();
        assert_eq!(ring.uring.running(), [(Op::Stream, UNCOPIED)]);
    }
    ring.uring.complete(Op::Stream, 20_000, MORE);
    let sent = ring.next_completion();
    assert!(matches!(sent, Some(Completion::StreamSent { result: Ok(20_000), .. })), "{sent:?}");
    ring.uring.complete(Op::Stream, 0, NOTICE);
    assert!(ring.next_completion().is_none());
    ring.uring.pass_ms(100);
    ring.enter(Some(0)).unwrap();
    assert_eq!(ring.uring.running(), [], "what was sent is not sent again");
    assert_eq!((ring.stream_send_count(), ring.zerocopy.awaited()), (0, 0));
}

#[test]
fn send_that_waits_to_be_queued_again_ends_with_its_connection() {
    let mut ring = scripted();
    let slot = any_file(&mut ring);
    send(&mut ring, slot, 100);
    ring.uring.complete(Op::Stream, -libc::ECANCELED, 0);
    assert!(ring.next_completion().is_none());
    ring.remove(slot);
    let next = any_file(&mut ring);
    assert_eq!(next.index(), slot.index(), "nothing holds the place");
    ring.uring.pass_ms(100);
    ring.enter(Some(0)).unwrap();
    assert!(running(&ring).is_empty(), "nothing is sent to the next connection");
    assert_eq!(ring.stream_send_count(), 0);
}

#[test]
fn send_that_has_failed_ends_as_before() {
    let mut ring = scripted();
    let slot = any_file(&mut ring);
    for (result, kind) in [
        (-libc::EPIPE, std::io::ErrorKind::BrokenPipe),
        (40, std::io::ErrorKind::WriteZero),
        (-libc::EFAULT, std::io::ErrorKind::InvalidData),
    ] {
        send(&mut ring, slot, 100);
        ring.uring.complete(Op::Stream, result, 0);
        let Some(Completion::StreamSent { result: Err(error), .. }) = ring.next_completion() else {
            panic!("{result}: the caller is told")
        };
        assert_eq!(error.kind(), kind);
    }
}

/// Kernels that account such sends against the limit on locked memory refuse them with ENOMEM.
#[test]
fn send_that_the_kernel_does_not_take_without_a_copy_is_sent_with_one() {
    for (errno, has_notice) in [(libc::ENOMEM, false), (libc::EINVAL, true)] {
        let mut ring = scripted();
        let slot = any_file(&mut ring);
        send(&mut ring, slot, 20_000);
        assert_eq!(ring.uring.running(), [(Op::Stream, UNCOPIED)]);
        if has_notice {
            ring.uring.complete(Op::Stream, -errno, MORE);
            assert!(ring.next_completion().is_none());
            ring.uring.complete(Op::Stream, 0, NOTICE);
        } else {
            ring.uring.complete(Op::Stream, -errno, 0);
        }
        assert!(ring.next_completion().is_none());
        ring.uring.pass_ms(100);
        ring.enter(Some(0)).unwrap();
        assert_eq!(ring.uring.running(), [(Op::Stream, COPIED)]);
        ring.uring.complete(Op::Stream, 20_000, 0);
        let sent = ring.next_completion();
        assert!(
            matches!(sent, Some(Completion::StreamSent { result: Ok(20_000), .. })),
            "{sent:?}"
        );
        assert_eq!(ring.stats().zerocopy.refused, [0, 1]);
        assert_eq!((ring.stream_send_count(), ring.zerocopy.awaited()), (0, 0));
        send(&mut ring, slot, 20_000);
        assert_eq!(ring.uring.running(), [(Op::Stream, COPIED)], "from then on");
    }
}

#[test]
fn run_that_the_kernel_does_not_take_without_a_copy_is_built_again_and_copied() {
    let mut ring = scripted();
    let slot = any_file(&mut ring);
    for (errno, code) in [(libc::EINVAL, UNCOPIED), (0, COPIED)] {
        start_run(&mut ring, slot, 3);
        ring.enter(Some(0)).unwrap();
        assert_eq!(ring.uring.running(), [(Op::Run, code)]);
        let result = if errno == 0 { 224 } else { -errno };
        ring.uring.complete(Op::Run, result, 0);
        let expected = if errno == 0 { Ok(()) } else { Err(SendFailure::Again) };
        let Some(Completion::RunSent { result, .. }) = ring.next_completion() else { panic!() };
        assert_eq!(result, expected);
    }
    let stats = ring.stats();
    assert_eq!(
        (stats.zerocopy.refused, stats.gso_refusals),
        ([1, 0], 0),
        "not segmentation's fault"
    );
}

#[test]
fn cancelled_run_or_connect_is_reported_to_who_can_begin_it_again() {
    let mut ring = scripted();
    let slot = any_file(&mut ring);
    start_run(&mut ring, slot, 3);
    assert!(ring.start_connect(slot, CLIENT, 4));
    ring.enter(Some(0)).unwrap();
    ring.uring.complete(Op::Run, -libc::ECANCELED, 0);
    ring.uring.complete(Op::Connect, -libc::ECANCELED, 0);
    let run = ring.next_completion();
    let cancelled = Err(SendFailure::Cancelled);
    assert!(
        matches!(run, Some(Completion::RunSent { token: 3, result, .. }) if result == cancelled)
    );
    let connect = ring.next_completion();
    assert!(matches!(connect, Some(Completion::Connected { token: 4, result: Err(_) })));
    assert_eq!(ring.stats().cancelled, 1);
}

#[test]
fn notice_that_never_comes_keeps_its_memory_for_ever_and_delays_nothing_else() {
    let mut ring = scripted();
    let slot = any_file(&mut ring);
    let title = title(&pattern(60_000));
    let window = window(&[1_000; 20]);
    let mut send = ring.start_stream_send(slot, 1).unwrap();
    for packet in window.packets(&window.frames()[0]) {
        assert!(send.push_packet(0, &header(0), &window, packet, &title).unwrap());
    }
    let bytes = i32::try_from(send.bytes()).unwrap();
    send.submit();
    ring.enter(Some(0)).unwrap();
    ring.uring.complete(Op::Stream, bytes, MORE);
    assert!(matches!(ring.next_completion(), Some(Completion::StreamSent { result: Ok(_), .. })));
    ring.remove(slot);
    assert_eq!(any_file(&mut ring).index(), slot.index(), "the connection is closed all the same");
    assert_eq!((ring.zerocopy.awaited(), ring.stream_send_count()), (1, 1));
    drop(ring);
    assert_eq!(Arc::strong_count(&title), 2, "what the kernel may read is not freed");
}

#[test]
fn cancel_that_the_kernel_has_no_memory_for_is_tried_again() {
    for (result, is_again) in [(-libc::ENOMEM, true), (-libc::ENOENT, false), (0, false)] {
        let mut ring = scripted();
        let slot = any_file(&mut ring);
        ring.arm_receive(slot, 1);
        ring.enter(Some(0)).unwrap();
        ring.remove(slot);
        ring.enter(Some(0)).unwrap();
        ring.uring.complete(Op::Cancel, result, 0);
        assert!(ring.next_completion().is_none());
        ring.uring.pass_ms(100);
        ring.enter(Some(0)).unwrap();
        assert_eq!(running(&ring).contains(&Op::Cancel), is_again, "{result}");
        ring.uring.complete(Op::Arm(Arm::Receive), -libc::ECANCELED, 0);
        if is_again {
            ring.uring.complete(Op::Cancel, 1, 0);
        }
        assert!(ring.next_completion().is_none());
        assert_eq!(any_file(&mut ring).index(), slot.index(), "the file is closed at last");
    }
}

#[test]
fn file_that_the_kernel_does_not_let_go_of_is_closed_later_and_its_place_not_used_before() {
    let mut ring = scripted();
    let slot = any_file(&mut ring);
    ring.uring.unregister_fails.set(Some(libc::ENOMEM));
    ring.remove(slot);
    let other = any_file(&mut ring);
    assert_ne!(other.index(), slot.index());
    ring.uring.unregister_fails.set(None);
    ring.uring.pass_ms(100);
    ring.enter(Some(0)).unwrap();
    assert_eq!(ring.stats().pauses, 1);
    assert_eq!(any_file(&mut ring).index(), slot.index());
}

#[test]
fn descriptor_that_the_kernel_does_not_register_is_handed_back() {
    let mut ring = scripted();
    ring.uring.register_fails.set(Some(libc::ENOMEM));
    let file = File::open("/dev/null").unwrap();
    let (file, error) = ring.install(file.into()).unwrap_err();
    assert!(error.to_string().starts_with("cannot register a descriptor"), "{error}");
    ring.uring.register_fails.set(None);
    assert_eq!(ring.install(file).unwrap().index(), 0, "no place is lost");
}

#[test]
fn ring_without_its_buffers_is_not_made_and_says_what_is_short() {
    for group in [STREAM_GROUP, DATAGRAM_GROUP] {
        let mut kernel = Scripted::new();
        kernel.buffers_fail = Some((group, libc::ENOMEM));
        let text = ring_on(kernel).unwrap_err().to_string();
        assert!(text.contains("memory for its receive buffers"), "{text}");
        assert!(text.contains("ulimit -l"), "{text}");
        let mut kernel = Scripted::new();
        kernel.buffers_fail = Some((group, libc::EINVAL));
        let text = ring_on(kernel).unwrap_err().to_string();
        assert!(text.contains("cannot register 2 receive buffers"), "{text}");
    }
}

#[test]
fn operations_that_the_kernel_does_not_take_stay_in_order_and_hold_no_turn_back() {
    let mut ring = scripted();
    let slot = any_file(&mut ring);
    (1..=3).for_each(|token| start_run(&mut ring, slot, token));
    ring.uring.takes = 1;
    ring.enter(Some(0)).unwrap();
    assert!(!ring.has_unsent_runs(), "a turn does not wait for what the kernel does not take");
    let is_none = ring.start_run(slot, CLIENT, 4).is_none();
    assert!(is_none && !ring.has_free_run(), "when one of them fails it would overtake it");
    ring.uring.takes = usize::MAX;
    ring.enter(Some(0)).unwrap();
    start_run(&mut ring, slot, 4);
    ring.enter(Some(0)).unwrap();
    assert!(ring.has_unsent_runs());
    for token in 1..=4 {
        ring.uring.complete(Op::Run, 224, 0);
        let sent = ring.next_completion();
        assert!(matches!(sent, Some(Completion::RunSent { token: sent, .. }) if sent == token));
    }
    assert_eq!(ring.stats().refusals, 1);
}

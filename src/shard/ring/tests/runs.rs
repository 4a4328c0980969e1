//! Runs of datagrams: what arrives, in which order, and what failures leave behind.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::process::Command;

use super::*;

pub(super) fn sender(ring: &mut Ring, address: &str) -> FileSlot {
    ring.install(UdpSocket::bind(address).unwrap().into()).unwrap()
}

/// Submits all packets of `window` as one chain of runs, numbered from `token`.
pub(super) fn send_chain(
    ring: &mut Ring,
    from: FileSlot,
    to: SocketAddr,
    token: u32,
    window: &Arc<PacketWindow>,
    title: &Arc<Title>,
) -> u32 {
    let packets = window.packets(&window.frames()[0]);
    let mut next = 0;
    let mut runs = 0;
    while next < packets.len() {
        let mut run = ring.start_run(from, to, token + runs).unwrap();
        while next < packets.len()
            && run.try_packet(&header(next), window, &packets[next], title).unwrap()
        {
            next += 1;
        }
        assert!(run.packet_count() > 0);
        run.submit(next < packets.len());
        runs += 1;
    }
    runs
}

pub(super) fn results(completions: Vec<Completion>) -> Vec<(u32, u16, Result<(), SendFailure>)> {
    let result = |completion| match completion {
        Completion::RunSent { token, packets, result } => (token, packets, result),
        other => panic!("{other:?}"),
    };
    completions.into_iter().map(result).collect()
}

#[test]
fn run_arrives_as_equal_datagrams_in_order() {
    let Some(mut ring) = ring() else { return };
    let client = receiver("127.0.0.1:0");
    let from = sender(&mut ring, "127.0.0.1:0");
    let sizes = [[1_400; 15].as_slice(), &[700]].concat();
    let file = pattern(30_000);
    let (title, window) = (title(&file), window(&sizes));
    let runs = send_chain(&mut ring, from, client.local_addr().unwrap(), 7, &window, &title);
    assert_eq!(runs, 1);
    assert_eq!(results(reap(&mut ring, 1)), [(7, 16, Ok(()))]);
    for packet in expected(&sizes, &file) {
        assert_eq!(receive(&client), packet);
    }
    assert!(has_nothing_more(&client));
}

#[test]
fn dual_stack_socket_reaches_v4_and_v6_clients() {
    let Some(mut ring) = ring() else { return };
    let Ok(v6) = UdpSocket::bind("[::1]:0") else {
        println!("skipped: no IPv6 here");
        return;
    };
    v6.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let v4 = receiver("127.0.0.1:0");
    let pair = crate::shard::sockets::udp_pair(IpAddr::from(Ipv6Addr::UNSPECIFIED), None).unwrap();
    let from = ring.install(pair.rtp).unwrap();
    let sizes = [1_000, 1_000, 10];
    let file = pattern(4_000);
    let (title, window) = (title(&file), window(&sizes));
    for client in [&v4, &v6] {
        let family = crate::shard::sockets::Family::V6;
        let to = crate::shard::sockets::to_socket_address(client.local_addr().unwrap(), family);
        send_chain(&mut ring, from, to, 0, &window, &title);
        assert_eq!(results(reap(&mut ring, 1)), [(0, 3, Ok(()))]);
        for packet in expected(&sizes, &file) {
            assert_eq!(receive(client), packet);
        }
    }
}

#[test]
fn packet_that_breaks_the_shape_of_a_run_starts_another() {
    let Some(mut ring) = ring() else { return };
    let client = receiver("127.0.0.1:0");
    let from = sender(&mut ring, "127.0.0.1:0");
    let title = title(&pattern(60_000));
    // Larger than the first; behind a tail; the 17th.
    for (sizes, runs) in [
        ([800, 801].as_slice(), vec![1, 1]),
        (&[800, 700, 700], vec![2, 1]),
        (&[800; 17], vec![16, 1]),
        (&[800; 33], vec![16, 16, 1]),
    ] {
        let to = client.local_addr().unwrap();
        let count = send_chain(&mut ring, from, to, 0, &window(sizes), &title);
        let sent: Vec<u16> =
            results(reap(&mut ring, count as usize)).iter().map(|sent| sent.1).collect();
        assert_eq!(sent, runs);
        for packet in expected(sizes, &pattern(60_000)) {
            assert_eq!(receive(&client), packet);
        }
    }
}

#[test]
fn without_segmentation_each_run_is_one_packet_and_order_is_kept() {
    let Some(mut ring) = ring_with(|config| config.gso = Mode::Off) else { return };
    let client = receiver("127.0.0.1:0");
    let from = sender(&mut ring, "127.0.0.1:0");
    let sizes = [1_200; 40];
    let file = pattern(60_000);
    let to = client.local_addr().unwrap();
    assert_eq!(send_chain(&mut ring, from, to, 0, &window(&sizes), &title(&file)), 40);
    assert_eq!(results(reap(&mut ring, 40)).len(), 40);
    for packet in expected(&sizes, &file) {
        assert_eq!(receive(&client), packet);
    }
}

#[test]
fn chains_longer_than_the_submission_queue_in_total_keep_their_order() {
    let Some(mut ring) = ring_with(|config| config.sq_entries = 8) else { return };
    let clients: Vec<UdpSocket> = (0..9).map(|_| receiver("127.0.0.1:0")).collect();
    let from = sender(&mut ring, "127.0.0.1:0");
    let sizes = [600; 80];
    let file = pattern(60_000);
    let (title, window) = (title(&file), window(&sizes));
    for client in &clients {
        let to = client.local_addr().unwrap();
        assert_eq!(send_chain(&mut ring, from, to, 0, &window, &title), 5);
    }
    // More than the completion queue holds, too: the kernel keeps the rest.
    let sent = results(reap(&mut ring, 45));
    assert!(sent.iter().all(|sent| sent.2.is_ok()));
    for client in &clients {
        for packet in expected(&sizes, &file) {
            assert_eq!(receive(client), packet);
        }
    }
}

#[test]
fn one_enter_finishes_the_chains_of_all_clients() {
    let Some(mut ring) = ring() else { return };
    let clients: Vec<UdpSocket> = (0..10).map(|_| receiver("127.0.0.1:0")).collect();
    let from = sender(&mut ring, "127.0.0.1:0");
    let (title, window) = (title(&pattern(60_000)), window(&[600; 80]));
    for client in &clients {
        send_chain(&mut ring, from, client.local_addr().unwrap(), 0, &window, &title);
    }
    let enters = ring.stats().enters;
    ring.enter(Some(0)).unwrap();
    assert_eq!(ring.stats().enters - enters, 1);
    let sent = results(std::iter::from_fn(|| ring.next_completion()).collect());
    assert_eq!(sent.len(), 50);
    assert!(sent.iter().all(|sent| sent.2.is_ok()));
}

#[test]
fn sends_that_succeed_do_not_end_the_wait() {
    let Some(mut ring) = ring() else { return };
    let client = receiver("127.0.0.1:0");
    let from = sender(&mut ring, "127.0.0.1:0");
    let (title, window) = (title(&pattern(900)), window(&[100; 3]));
    send_chain(&mut ring, from, client.local_addr().unwrap(), 0, &window, &title);
    let before = std::time::Instant::now();
    ring.enter(Some(1_000_000)).unwrap();
    assert!(before.elapsed() >= Duration::from_millis(1), "one enter a turn");
    assert_eq!(results(reap(&mut ring, 1)), [(0, 3, Ok(()))]);
}

#[test]
fn chain_of_more_runs_than_one_submission_holds_is_refused() {
    let Some(mut ring) = ring_with(|config| {
        config.sq_entries = 8;
        config.gso = Mode::Off;
    }) else {
        return;
    };
    let client = receiver("127.0.0.1:0");
    let to = client.local_addr().unwrap();
    let from = sender(&mut ring, "127.0.0.1:0");
    let (title, window) = (title(&pattern(100)), window(&[10]));
    let packet = window.packets(&window.frames()[0])[0];
    for number in 0..8 {
        let mut run = ring.start_run(from, to, 0).unwrap();
        assert!(run.try_packet(&header(number), &window, &packet, &title).unwrap());
        run.submit(true);
    }
    assert!(ring.start_run(from, to, 0).is_none(), "next turn");
    let other = SocketAddr::new(to.ip(), 9);
    assert!(ring.start_run(from, other, 0).is_some(), "another client is not concerned");
    assert_eq!(results(reap(&mut ring, 8)).len(), 8);
    assert!(ring.start_run(from, to, 0).is_some());
}

#[test]
fn failed_run_cancels_those_linked_behind_it_only() {
    let Some(mut ring) = ring_with(|config| config.gso = Mode::Off) else { return };
    let (client, other) = (receiver("127.0.0.1:0"), receiver("127.0.0.1:0"));
    let (to, to_other) = (client.local_addr().unwrap(), other.local_addr().unwrap());
    let from = sender(&mut ring, "127.0.0.1:0");
    let (whole, cut) = (title(&pattern(9_000)), title(&pattern(9_000)));
    cut.file.set_len(0).unwrap();
    let window = window(&[100]);
    let packet = window.packets(&window.frames()[0])[0];
    let send = |ring: &mut Ring, to, token: u32, title, linked| {
        let mut run = ring.start_run(from, to, token).unwrap();
        assert!(run.try_packet(&header(token as usize), &window, &packet, title).unwrap());
        run.submit(linked);
    };
    send(&mut ring, to, 0, &whole, true);
    send(&mut ring, to, 1, &cut, true);
    send(&mut ring, to, 2, &whole, true);
    send(&mut ring, to, 3, &whole, true);
    // The last link names no successor: the next run goes to someone else.
    send(&mut ring, to_other, 4, &cut, false);
    send(&mut ring, to_other, 5, &whole, true);
    let mut sent = results(reap(&mut ring, 6));
    sent.sort_by_key(|sent| sent.0);
    let sent: Vec<_> = sent.into_iter().map(|sent| sent.2).collect();
    let fault = Err(SendFailure::Fault);
    let cancelled = Err(SendFailure::Cancelled);
    assert_eq!(sent, [Ok(()), fault, cancelled, cancelled, fault, Ok(())]);
    assert_eq!(receive(&client)[..12], header(0));
    assert!(has_nothing_more(&client));
    assert_eq!(receive(&other)[..12], header(5));
}

#[test]
fn truncated_file_fails_the_run_only() {
    let Some(mut ring) = ring() else { return };
    let client = receiver("127.0.0.1:0");
    let to = client.local_addr().unwrap();
    let from = sender(&mut ring, "127.0.0.1:0");
    let file = pattern(20_000);
    let (cut, whole) = (title(&file), title(&file));
    let sizes = [1_400; 8];
    let window = window(&sizes);
    send_chain(&mut ring, from, to, 1, &window, &cut);
    cut.file.set_len(0).unwrap();
    send_chain(&mut ring, from, to, 2, &window, &whole);
    let sent = results(reap(&mut ring, 2));
    assert_eq!(sent, [(1, 8, Err(SendFailure::Fault)), (2, 8, Ok(()))]);
    for packet in expected(&sizes, &file) {
        assert_eq!(receive(&client), packet);
    }
}

#[test]
fn map_is_held_until_the_run_has_completed() {
    let Some(mut ring) = ring() else { return };
    let client = receiver("127.0.0.1:0");
    let from = sender(&mut ring, "127.0.0.1:0");
    let (title, window) = (title(&pattern(9_000)), window(&[1_000; 5]));
    send_chain(&mut ring, from, client.local_addr().unwrap(), 0, &window, &title);
    assert_eq!(Arc::strong_count(&title), 2, "once a run, not once a packet");
    assert_eq!(Arc::strong_count(&window), 1, "inline bytes are copied");
    ring.enter(Some(0)).unwrap();
    assert_eq!(Arc::strong_count(&title), 2, "done, but not reaped");
    assert!(ring.next_completion().is_some());
    assert_eq!(Arc::strong_count(&title), 1);
}

#[test]
fn dropped_run_sends_nothing_and_frees_its_slot() {
    let Some(mut ring) = ring_with(|config| config.run_slots = 1) else { return };
    let from = sender(&mut ring, "127.0.0.1:0");
    let client = receiver("127.0.0.1:0");
    let to = client.local_addr().unwrap();
    let (title, window) = (title(&pattern(100)), window(&[50]));
    let packet = window.packets(&window.frames()[0])[0];
    for submits in [false, true] {
        let mut run = ring.start_run(from, to, 0).unwrap();
        assert!(run.try_packet(&header(0), &window, &packet, &title).unwrap());
        if submits {
            run.submit(false);
        } else {
            drop(run);
        }
        assert_eq!(Arc::strong_count(&title), 1 + usize::from(submits));
    }
    assert!(ring.start_run(from, to, 0).is_none(), "the only slot is in flight");
    assert_eq!(reap(&mut ring, 1).len(), 1);
    assert!(ring.start_run(from, to, 0).is_some());
}

#[test]
fn packet_outside_the_file_is_an_error_and_leaves_the_run_as_it_was() {
    let Some(mut ring) = ring() else { return };
    let client = receiver("127.0.0.1:0");
    let from = sender(&mut ring, "127.0.0.1:0");
    let file = pattern(150);
    let (title, window) = (title(&file), window(&[100, 100]));
    let packets = window.packets(&window.frames()[0]);
    let mut run = ring.start_run(from, client.local_addr().unwrap(), 0).unwrap();
    assert!(run.try_packet(&header(0), &window, &packets[0], &title).unwrap());
    let outside = run.try_packet(&header(1), &window, &packets[1], &title).unwrap_err();
    assert_eq!(outside, RangeOutside::File { offset: 98, bytes: 98, file_bytes: 150 });
    assert_eq!(run.packet_count(), 1);
    run.submit(false);
    assert_eq!(results(reap(&mut ring, 1)), [(0, 1, Ok(()))]);
    assert_eq!(receive(&client), expected(&[100], &file)[0]);
}

#[test]
fn packet_of_too_many_pieces_is_an_error_not_an_endless_retry() {
    let Some(mut ring) = ring() else { return };
    let from = sender(&mut ring, "127.0.0.1:0");
    let mut builder = WindowBuilder::new();
    for piece in 0..200 {
        builder.push_file(piece * 2, 1);
    }
    builder.end_packet(true);
    let (title, window) = (title(&pattern(400)), finish(builder));
    let packet = window.packets(&window.frames()[0])[0];
    let mut run = ring.start_run(from, "127.0.0.1:9".parse().unwrap(), 0).unwrap();
    let error = run.try_packet(&header(0), &window, &packet, &title).unwrap_err();
    assert_eq!(error, RangeOutside::TooLarge { piece_count: 200, payload_bytes: 200 });
}

#[test]
fn route_that_refuses_segmentation_gets_single_packets_from_then_on() {
    let Some(mut ring) = ring() else { return };
    let from = sender(&mut ring, "127.0.0.1:0");
    let (title, window) = (title(&pattern(900)), window(&[100; 3]));
    // Port 0 is refused with EINVAL, as a run by some drivers is.
    let nowhere: SocketAddr = "127.0.0.1:0".parse().unwrap();
    assert_eq!(send_chain(&mut ring, from, nowhere, 0, &window, &title), 1);
    assert_eq!(results(reap(&mut ring, 1)), [(0, 3, Err(SendFailure::Again))]);
    assert_eq!(ring.stats().gso_refusals, 1);
    assert_eq!(send_chain(&mut ring, from, nowhere, 0, &window, &title), 3);
    let sent = results(reap(&mut ring, 3));
    assert_eq!(sent[0], (0, 1, Err(SendFailure::Other(libc::EINVAL))));
    assert_eq!(sent[1], (1, 1, Err(SendFailure::Cancelled)));
}

#[test]
fn datagram_is_copied_and_only_its_failure_is_reported() {
    let Some(mut ring) = ring() else { return };
    let client = receiver("127.0.0.1:0");
    let from = sender(&mut ring, "127.0.0.1:0");
    let report = vec![0x81; 100];
    assert!(ring.send_datagram(from, client.local_addr().unwrap(), &report, 1));
    assert!(ring.send_datagram(from, "127.0.0.1:0".parse().unwrap(), &report, 2));
    drop(report);
    let sent = results(reap(&mut ring, 1));
    assert_eq!(sent, [(2, 0, Err(SendFailure::Other(libc::EINVAL)))]);
    assert_eq!(receive(&client), [0x81; 100]);
}

/// Loopback takes everything at once, so a full socket needs a neighbour that does not answer: its
/// packets wait in the kernel and count against the sender. That takes a network of our own.
#[test]
fn full_socket_answers_again_and_nothing_overtakes() {
    let outcome = std::thread::spawn(|| {
        // SAFETY: unshare of the network concerns this thread only, which ends with the test; no
        // memory or descriptor table is unshared.
        let unshared = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
        let ip = |arguments: &str| {
            let status = Command::new("ip").args(arguments.split(' ')).status();
            status.is_ok_and(|status| status.success())
        };
        let is_ready = unshared
            && ip("link add v0 type veth peer name v1")
            && ip("addr add 10.99.0.1/24 dev v0")
            && ip("link set v1 up")
            && ip("link set v0 up");
        if !is_ready {
            println!("skipped: no network namespace with veth here");
            return;
        }
        let Some(mut ring) = ring() else { return };
        let socket = UdpSocket::bind("10.99.0.1:0").unwrap();
        rustix::net::sockopt::set_socket_send_buffer_size(&socket, 1).unwrap();
        let from = ring.install(socket.into()).unwrap();
        let (title, window) = (title(&pattern(60_000)), window(&[1_200; 40]));
        let to = "10.99.0.2:5004".parse().unwrap();
        let runs = send_chain(&mut ring, from, to, 0, &window, &title);
        let sent = results(reap(&mut ring, runs as usize));
        let sent: Vec<_> = sent.into_iter().map(|sent| sent.2).collect();
        assert_eq!(
            sent,
            [Ok(()), Err(SendFailure::Again), Err(SendFailure::Cancelled)],
            "the first fills the socket"
        );
        assert_eq!(Arc::strong_count(&title), 1);
    });
    outcome.join().unwrap();
}

#[test]
fn long_inline_pieces_are_sent_from_their_window_and_held_until_the_run_has_completed() {
    let Some(mut ring) = ring() else { return };
    let client = receiver("127.0.0.1:0");
    let from = sender(&mut ring, "127.0.0.1:0");
    let (title, bytes) = (title(&pattern(10)), pattern(5_600));
    let mut builder = WindowBuilder::new();
    for part in bytes.chunks(1_400) {
        builder.push_inline(part);
        builder.end_packet(false);
    }
    let window = finish(builder);
    send_chain(&mut ring, from, client.local_addr().unwrap(), 0, &window, &title);
    let block = Arc::downgrade(window.inline_block());
    assert_eq!(block.strong_count(), 2, "once a run, not once a packet");
    assert_eq!(Arc::strong_count(&title), 1, "nothing is taken from the file");
    drop(window);
    assert_eq!(results(reap(&mut ring, 1)), [(0, 4, Ok(()))]);
    assert_eq!(block.strong_count(), 0);
    for (number, part) in bytes.chunks(1_400).enumerate() {
        assert_eq!(receive(&client), [&header(number)[..], part].concat());
    }
}

//! Sends without a copy: their memory belongs to the kernel until its notice.

use std::io::Read;
use std::net::{TcpListener, TcpStream};

use super::runs::{send_chain, sender};
use super::*;
use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::media::image::{ImageJob, ImageNumbers};
use crate::rtp::write_header;

/// A ring that sends everything without a copy, where the kernel knows how.
fn zerocopy_ring() -> Option<Ring> {
    let ring = ring_with(|config| config.zerocopy = Mode::On)?;
    if ring.zerocopy.mode() == Mode::Off {
        println!("skipped: the kernel has no sends without a copy");
        return None;
    }
    Some(ring)
}

/// A connection whose reader takes little while it does not read, and whose sender takes much.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 8_192).unwrap();
    let server = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let client = listener.accept().unwrap().0;
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    rustix::net::sockopt::set_socket_send_buffer_size(&server, 1 << 20).unwrap();
    (server, client)
}

fn sent_bytes(completions: Vec<Completion>) -> u32 {
    match completions.into_iter().next() {
        Some(Completion::StreamSent { result: Ok(bytes), .. }) => bytes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn memory_of_a_send_without_a_copy_is_not_used_again_before_its_notice() {
    let Some(mut ring) = zerocopy_ring() else { return };
    let (server, mut client) = connection();
    let slot = ring.install(server.into()).unwrap();
    let title = title(&pattern(60_000));
    let mut wanted = Vec::new();
    // All three are under way before a byte of the second can leave: the reader's window is full.
    for round in 1..=3_u8 {
        let mut send = ring.start_stream_send(slot, u32::from(round)).unwrap();
        let reply = vec![round; 50_000];
        assert!(send.push_bytes(&reply));
        let window = window(&[1_000; 20]);
        for packet in window.packets(&window.frames()[0]) {
            assert!(send.push_packet(0, &[round; 12], &window, packet, &title).unwrap());
            wanted.push((round, packet.payload_bytes));
        }
        let bytes = u32::try_from(send.bytes()).unwrap();
        send.submit();
        assert_eq!(sent_bytes(reap(&mut ring, 1)), bytes);
    }
    let awaited = ring.zerocopy.awaited();
    assert!(awaited >= 2, "the kernel still has the memory of {awaited} sends");
    assert_eq!(ring.memory.streams.in_use(), awaited as usize, "none of it is free");
    assert_eq!(Arc::strong_count(&title), 1 + awaited as usize, "and their maps are held");

    for round in 1..=3_u8 {
        let mut reply = vec![0; 50_000];
        client.read_exact(&mut reply).unwrap();
        assert!(reply.iter().all(|byte| *byte == round), "the reply of round {round} is as it was");
        for _ in 0..20 {
            let mut packet = [0; 4 + 12 + 1_000];
            client.read_exact(&mut packet).unwrap();
            assert_eq!(packet[4..16], [round; 12]);
        }
    }
    assert!(settle(&mut ring).is_empty(), "a notice is not reported");
    assert_eq!((ring.zerocopy.awaited(), ring.memory.streams.in_use()), (0, 0));
    assert_eq!(Arc::strong_count(&title), 1);
    let stats = ring.stats().zerocopy;
    assert_eq!(stats.sent[1] + stats.copied[1], 3, "{stats:?}");
}

#[test]
fn run_without_a_copy_arrives_and_its_notice_frees_the_slot() {
    let Some(mut ring) = zerocopy_ring() else { return };
    let client = receiver("127.0.0.1:0");
    let from = sender(&mut ring, "127.0.0.1:0");
    let (file, sizes) = (pattern(9_000), [1_000; 5]);
    let (title, window) = (title(&file), window(&sizes));
    for round in 0..3 {
        send_chain(&mut ring, from, client.local_addr().unwrap(), round, &window, &title);
        assert_eq!(reap(&mut ring, 1).len(), 1, "one report a run");
        for packet in expected(&sizes, &file) {
            assert_eq!(receive(&client), packet);
        }
    }
    settle(&mut ring);
    assert_eq!(ring.zerocopy.awaited(), 0);
    assert_eq!(Arc::strong_count(&title), 1);
    let stats = ring.stats().zerocopy;
    assert_eq!(stats.sent[0] + stats.copied[0], 3, "{stats:?}");
}

#[test]
fn image_is_held_until_the_notice_of_its_run() {
    let Some(mut ring) = zerocopy_ring() else { return };
    let client = receiver("127.0.0.1:0");
    let from = sender(&mut ring, "127.0.0.1:0");
    let (sizes, file) = ([1_000; 5], pattern(9_000));
    let window = window(&sizes);
    let (ssrc, first_seq, ts_zero) = (Ssrc(7), SeqNo(9), RtpTs(5));
    let numbers = ImageNumbers { ssrc, payload_type: 96, first_seq, ts_zero };
    let mut job = ImageJob::new(&window, numbers, write_header, Mono(0)).unwrap();
    for part in job.parts().to_vec() {
        job.fill(part, &file[usize::try_from(part.offset).unwrap()..]);
    }
    let image = Arc::new(job.finish());
    let part = image.run(0, usize::MAX).unwrap();
    for round in 0..3 {
        let mut run = ring.start_run(from, client.local_addr().unwrap(), round).unwrap();
        assert!(run.set_image(&image, &part));
        assert!(!run.set_image(&image, &part), "it is the whole run");
        run.submit(false);
        assert_eq!(Arc::strong_count(&image), 2, "held from now on");
        assert_eq!(reap(&mut ring, 1).len(), 1, "one report a run");
        let held = ring.zerocopy.awaited() as usize;
        assert_eq!(Arc::strong_count(&image), 1 + held, "as long as the notice is awaited");
        for packet in image.bytes_of(&part).unwrap().chunks(part.segment_bytes.into()) {
            assert_eq!(receive(&client), packet);
        }
        settle(&mut ring);
    }
    assert_eq!(ring.zerocopy.awaited(), 0);
    assert_eq!(Arc::strong_count(&image), 1);
    let stats = ring.stats().zerocopy;
    assert_eq!(stats.sent[0] + stats.copied[0], 3, "{stats:?}");
}

#[test]
fn run_without_a_copy_to_nowhere_fails_and_frees_its_slot() {
    let Some(mut ring) = zerocopy_ring() else { return };
    let from = sender(&mut ring, "127.0.0.1:0");
    let (title, window) = (title(&pattern(9_000)), window(&[1_000; 5]));
    title.file.set_len(0).unwrap();
    send_chain(&mut ring, from, "127.0.0.1:9".parse().unwrap(), 1, &window, &title);
    let reaped = reap(&mut ring, 1);
    let fault = Err(SendFailure::Fault);
    assert!(matches!(&reaped[..], [Completion::RunSent { result, .. }] if *result == fault));
    settle(&mut ring);
    assert_eq!(ring.zerocopy.awaited(), 0);
    assert_eq!(Arc::strong_count(&title), 1);
}

#[test]
fn connection_that_closes_before_the_notice_gives_its_memory_back() {
    let Some(mut ring) = zerocopy_ring() else { return };
    let (server, client) = connection();
    let slot = ring.install(server.into()).unwrap();
    let title = title(&pattern(100));
    let mut send = ring.start_stream_send(slot, 1).unwrap();
    assert!(send.push_bytes(&[7; 200_000]));
    send.submit();
    assert_eq!(sent_bytes(reap(&mut ring, 1)), 200_000);
    ring.remove(slot);
    drop(client);
    settle(&mut ring);
    assert_eq!((ring.zerocopy.awaited(), ring.memory.streams.in_use()), (0, 0));
    assert_eq!(Arc::strong_count(&title), 1);
}

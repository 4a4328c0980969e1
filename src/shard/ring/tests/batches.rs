//! Packets of live paths: whole runs as one range, single ones with headers of their own.

use super::runs::sender;
use super::*;
use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::time::Mono;
use crate::live::core::batch::{Arrival, BatchBuilder, Generation, PacketBatch};
use crate::rtp::{RtpView, RtxStream, rtx_pieces};

/// A batch with a packet for each of `sizes`, headers included, and those packets.
fn batch(sizes: &[usize]) -> (Arc<PacketBatch>, Vec<Vec<u8>>) {
    let mut builder = BatchBuilder::default();
    let mut packets = Vec::new();
    for (number, size) in sizes.iter().enumerate() {
        let bytes = [header(number).as_slice(), &pattern(size - 12)].concat();
        let arrival = Arrival {
            track: 0,
            ssrc: Ssrc(0xcafe_f00d),
            seq: SeqNo(u16::try_from(number).unwrap()),
            ts: RtpTs(1),
            marker: false,
            header_bytes: 12,
            is_sync: false,
            bytes: &bytes,
        };
        builder.push(&arrival, Mono(0)).unwrap();
        packets.push(bytes);
    }
    (Arc::new(builder.build(Generation(1), |_| None).unwrap()), packets)
}

fn sent(completions: &[Completion]) -> Vec<u16> {
    let packets = |completion: &Completion| match completion {
        Completion::RunSent { packets, result: Ok(()), .. } => *packets,
        other => panic!("{other:?}"),
    };
    completions.iter().map(packets).collect()
}

#[test]
fn run_of_a_batch_is_one_range_and_arrives_as_its_packets() {
    let Some(mut ring) = ring() else { return };
    let client = receiver("127.0.0.1:0");
    let from = sender(&mut ring, "127.0.0.1:0");
    let (batch, packets) = batch(&[1_200, 1_200, 1_200, 300]);
    let range = batch.runs_of(0)[0];
    let mut run = ring.start_run(from, client.local_addr().unwrap(), 3).unwrap();
    assert!(run.set_range(&batch, &range));
    assert_eq!(run.packet_count(), 4);
    assert!(!run.set_range(&batch, &range), "it is full");
    run.submit(false);
    assert_eq!(sent(&reap(&mut ring, 1)), [4]);
    for packet in packets {
        assert_eq!(receive(&client), packet);
    }
    assert!(has_nothing_more(&client));
}

#[test]
fn packets_of_a_batch_are_sent_with_other_headers() {
    let Some(mut ring) = ring() else { return };
    let client = receiver("127.0.0.1:0");
    let from = sender(&mut ring, "127.0.0.1:0");
    let (batch, packets) = batch(&[700, 700, 100, 700]);
    let mut sizes = Vec::new();
    for range in batch.runs_of(0) {
        let mut run = ring.start_run(from, client.local_addr().unwrap(), 0).unwrap();
        for packet in batch.packets_of(range) {
            assert!(run.try_live_packet(&header(900), &batch, packet));
        }
        sizes.push(run.packet_count());
        run.submit(false);
    }
    assert_eq!(sent(&reap(&mut ring, sizes.len())), sizes);
    for packet in packets {
        assert_eq!(receive(&client), [header(900).as_slice(), &packet[12..]].concat());
    }
}

#[test]
fn route_without_segmentation_takes_packets_singly_and_no_range() {
    let Some(mut ring) = ring_with(|config| config.gso = Mode::Off) else { return };
    let client = receiver("127.0.0.1:0");
    let from = sender(&mut ring, "127.0.0.1:0");
    let (batch, _) = batch(&[700, 700]);
    let range = batch.runs_of(0)[0];
    let mut run = ring.start_run(from, client.local_addr().unwrap(), 0).unwrap();
    assert!(!run.set_range(&batch, &range));
    let [first, second] = batch.packets_of(&range) else { panic!("two packets") };
    assert!(run.try_live_packet(&header(0), &batch, first));
    assert!(!run.try_live_packet(&header(1), &batch, second));
    run.submit(false);
    assert_eq!(sent(&reap(&mut ring, 1)), [1]);
}

#[test]
fn batch_is_held_until_the_run_has_completed() {
    let Some(mut ring) = ring() else { return };
    let client = receiver("127.0.0.1:0");
    let from = sender(&mut ring, "127.0.0.1:0");
    let (batch, _) = batch(&[700, 700]);
    let range = batch.runs_of(0)[0];
    let mut run = ring.start_run(from, client.local_addr().unwrap(), 0).unwrap();
    assert!(run.set_range(&batch, &range));
    run.submit(false);
    assert_eq!(Arc::strong_count(&batch), 2);
    ring.enter(Some(0)).unwrap();
    assert_eq!(Arc::strong_count(&batch), 2, "done, but not reaped");
    assert!(ring.next_completion().is_some());
    assert_eq!(Arc::strong_count(&batch), 1);
}

//= test RFC 4588 s4
#[test]
fn packet_of_a_batch_is_sent_again_with_its_number_in_front_of_the_payload() {
    let Some(mut ring) = ring() else { return };
    let client = receiver("127.0.0.1:0");
    let from = sender(&mut ring, "127.0.0.1:0");
    let (batch, packets) = batch(&[700, 300]);
    let packet = batch.packets_of(&batch.runs_of(0)[0])[1];
    let rtx = RtxStream { payload_type: 127, seq: SeqNo(9), ssrc: Ssrc(8) };
    let pieces = rtx_pieces(&RtpView::parse(&packets[1]).unwrap(), rtx);
    let mut run = ring.start_run(from, client.local_addr().unwrap(), 0).unwrap();
    assert!(run.set_retransmission(&pieces, &batch, &packet));
    assert!(!run.set_retransmission(&pieces, &batch, &packet), "it is full");
    assert_eq!(run.packet_count(), 1);
    run.submit(false);
    assert_eq!(Arc::strong_count(&batch), 2);
    assert_eq!(sent(&reap(&mut ring, 1)), [1]);
    let expected = [&pieces.fixed[..], &[0, 1], &packets[1][12..]].concat();
    assert_eq!(receive(&client), expected);
    assert_eq!(Arc::strong_count(&batch), 1);
}

#[test]
fn interleaved_packets_of_a_batch_are_framed() {
    let Some(mut ring) = ring() else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let slot = ring.install(listener.accept().unwrap().0.into()).unwrap();
    let (batch, packets) = batch(&[500, 20]);
    let mut send = ring.start_stream_send(slot, 1).unwrap();
    let mut expected = Vec::new();
    for (packet, bytes) in batch.packets_of(&batch.runs_of(0)[0]).iter().zip(&packets) {
        assert!(send.push_live_packet(6, &header(5), &batch, packet));
        let [high, low] = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        expected.extend([b'$', 6, high, low]);
        expected.extend([header(5).as_slice(), &bytes[12..]].concat());
    }
    send.submit();
    assert_eq!(Arc::strong_count(&batch), 2);
    assert_eq!(reap(&mut ring, 1).len(), 1);
    assert_eq!(Arc::strong_count(&batch), 1);
    let mut received = vec![0; expected.len()];
    std::io::Read::read_exact(&mut client, &mut received).unwrap();
    assert_eq!(received, expected);
}

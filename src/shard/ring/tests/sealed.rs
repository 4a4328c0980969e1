//! Encrypted runs: what arrives, which numbers stay unused, and the share of a turn.

use super::runs::{results, sender};
use super::*;
use crate::base::limits::SRTP_BYTES_A_TURN;
use crate::metrics::cells::ShardCells;
use crate::rtp::srtp::{MasterKey, SrtpStream, Suite};
use crate::shard::send::srtp::SrtpShare;
use crate::vod::pump::SendError;

/// Both directions of a stream have one key here.
fn stream(suite: Suite) -> SrtpStream {
    let key = MasterKey::from_bytes(suite, &[3; 30][..suite.master_bytes()]).unwrap();
    SrtpStream::new(&key, &key, &[])
}

/// Adds the packets of a window from `first` on; the number of those that fit.
fn fill(
    seal: &mut crate::shard::send::srtp::RunSeal<'_>,
    run: &mut Run<'_>,
    (window, title): (&Arc<PacketWindow>, &Arc<Title>),
) -> Result<usize, RangeOutside> {
    let mut count = 0;
    for (number, packet) in window.packets(&window.frames()[0]).iter().enumerate() {
        if !seal.try_packet(run, &header(number), (window, packet), title)? {
            break;
        }
        count += 1;
    }
    Ok(count)
}

#[test]
fn encrypted_run_arrives_as_datagrams_and_its_buffer_is_used_again() {
    let Some(mut ring) = ring() else { return };
    let client = receiver("127.0.0.1:0");
    let from = sender(&mut ring, "127.0.0.1:0");
    let to = client.local_addr().unwrap();
    let sizes = [[1_400; 15].as_slice(), &[700]].concat();
    let file = pattern(30_000);
    let (title, window) = (title(&file), window(&sizes));
    let (mut share, mut buffers) = (SrtpShare::new(Arc::default()), Vec::new());
    for suite in Suite::ALL {
        let srtp = stream(suite);
        let mut seal = share.start(&srtp).unwrap();
        let mut run = ring.start_run(from, to, 7).unwrap();
        assert_eq!(fill(&mut seal, &mut run, (&window, &title)).unwrap(), 16);
        buffers.push(run.sealed_mut().as_ptr().addr());
        seal.note_submitted();
        run.submit(false);
        assert_eq!(results(reap(&mut ring, 1)), [(7, 16, Ok(()))]);
        for packet in expected(&sizes, &file) {
            let mut sealed = receive(&client);
            assert_eq!(sealed.len(), packet.len() + srtp.rtp_tag_bytes());
            assert_ne!(sealed[12..packet.len()], packet[12..]);
            let opened = srtp.unprotect_rtp(&mut sealed).unwrap();
            assert_eq!(sealed[..opened], packet);
        }
    }
    assert!(has_nothing_more(&client));
    assert!(buffers.iter().all(|buffer| *buffer == buffers[0]), "{buffers:?}");
}

#[test]
fn numbers_of_a_run_that_is_not_submitted_are_used_again_and_no_others() {
    let Some(mut ring) = ring() else { return };
    let client = receiver("127.0.0.1:0");
    let from = sender(&mut ring, "127.0.0.1:0");
    let to = client.local_addr().unwrap();
    let (title, window) = (title(&pattern(4_000)), window(&[500, 500, 10]));
    let (srtp, cells) = (stream(Suite::Aes128Gcm), Arc::<ShardCells>::default());
    let mut share = SrtpShare::new(Arc::clone(&cells));
    for is_submitted in [false, false, true] {
        let mut seal = share.start(&srtp).unwrap();
        let mut run = ring.start_run(from, to, 7).unwrap();
        assert_eq!(fill(&mut seal, &mut run, (&window, &title)).unwrap(), 3);
        if is_submitted {
            seal.note_submitted();
            run.submit(false);
        }
    }
    assert_eq!(results(reap(&mut ring, 1)), [(7, 3, Ok(()))]);
    let mut seal = share.start(&srtp).unwrap();
    let mut run = ring.start_run(from, to, 7).unwrap();
    let refused = fill(&mut seal, &mut run, (&window, &title));
    assert!(matches!(refused, Err(RangeOutside::NotEncrypted)), "{refused:?}");
    assert_eq!((run.packet_count(), cells.srtp_packets_dropped.value()), (0, 1));
    // Of a live path such a packet is left out, and the others go on.
    assert!(seal.try_pieces(&mut run, &[&header(1), b"again"]));
    assert!(seal.try_pieces(&mut run, &[&header(3), b"next"]));
    assert_eq!((run.packet_count(), seal.left_out()), (1, 1));
}

#[test]
fn truncated_file_ends_the_run_and_leaves_its_number_unused() {
    let Some(mut ring) = ring() else { return };
    let from = sender(&mut ring, "127.0.0.1:0");
    let to = receiver("127.0.0.1:0").local_addr().unwrap();
    let (title, window) = (title(&pattern(4_000)), window(&[500]));
    let (srtp, mut share) = (stream(Suite::AesCm128Sha1Tag80), SrtpShare::new(Arc::default()));
    title.file.set_len(100).unwrap();
    let mut seal = share.start(&srtp).unwrap();
    let mut run = ring.start_run(from, to, 7).unwrap();
    let refused = fill(&mut seal, &mut run, (&window, &title));
    assert_eq!(refused, Err(RangeOutside::Truncated));
    assert!(refused.is_err_and(|error| error.is_truncation()));
    assert!(seal.try_pieces(&mut run, &[&header(0), b"first"]) && seal.left_out() == 0);
}

#[test]
fn turn_encrypts_its_share_and_no_more() {
    let Some(mut ring) = ring() else { return };
    let from = sender(&mut ring, "127.0.0.1:0");
    let to = receiver("127.0.0.1:0").local_addr().unwrap();
    let (srtp, cells) = (stream(Suite::AesCm128Sha1Tag32), Arc::<ShardCells>::default());
    let mut share = SrtpShare::new(Arc::clone(&cells));
    let (payload, mut number) = ([7; 1_300], 0);
    while let Some(mut seal) = share.start(&srtp) {
        let mut run = ring.start_run(from, to, 7).unwrap();
        while seal.try_pieces(&mut run, &[&header(number), &payload]) {
            number += 1;
        }
        seal.note_submitted();
    }
    let bytes = number * (12 + payload.len() + 4);
    // The last run may go beyond it.
    assert!((SRTP_BYTES_A_TURN..SRTP_BYTES_A_TURN + (24 << 10)).contains(&bytes), "{bytes}");
    assert_eq!(cells.srtp_bytes_encrypted.value(), bytes as u64);
    assert_eq!(cells.srtp_waits.value(), 1);
    share.begin_turn();
    assert!(share.start(&srtp).is_some());
}

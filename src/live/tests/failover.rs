//! Fail-over at its edges: connections that close, chains, sources of one encoder, sound, requests
//! of readers, changed configurations.

use super::fallback::{Encoder, SETS_A, SETS_B, Scene, Seen, ms, sdp};
use super::*;
use crate::rtcp::{self, CompoundWriter, Packet};
use crate::session::outgoing::Numbers;

const STANDBY: &str = "[path.\"live/a\"]\nfallback = [\"live/b\"]\nstandby = true\n\
    return_after = \"2s\"\nswitch_interval = \"500ms\"\n";

#[test]
fn closed_connection_of_the_publisher_is_a_loss_at_once() {
    let mut scene = Scene::new(STANDBY);
    scene.a.begin(&mut scene.bench, &sdp(SETS_A));
    scene.b.begin(&mut scene.bench, &sdp(SETS_B));
    scene.run(ms(3_000));
    scene.read();
    scene.run(ms(200));
    scene.bench.sessions.handle_connection_closed(entry(11));
    scene.a.id = None;
    let now = scene.bench.sessions.cx.now;
    scene.bench.turn(now + Duration::from_micros(10));
    scene.look();
    assert_eq!(scene.order().last().unwrap(), &(12, vec![7, 8, 5]), "within the turn");
    scene.assert_continuous();
}

#[test]
fn path_with_fallbacks_is_a_fallback_and_key_frames_are_asked_of_the_source_behind_both() {
    let text = format!(
        "{STANDBY}[path.\"live/b\"]\nfallback = [\"live/c\"]\nreturn_after = \"1s\"\n\
         switch_interval = \"500ms\"\n"
    );
    let mut scene = Scene::new(&text);
    let feedback = |sdp: String| sdp.replace("RTP/AVP ", "RTP/AVPF ");
    let mut c = Encoder::new("live/c", 13, 5_200);
    c.begin(&mut scene.bench, &feedback(sdp(SETS_A)));
    for _ in 0..75 {
        c.send(&mut scene.bench);
        scene.run(ms(40));
    }
    scene.read();
    for _ in 0..25 {
        c.send(&mut scene.bench);
        scene.run(ms(40));
    }
    assert_eq!(scene.order().iter().map(|(of, _)| *of).collect::<Vec<_>>(), [13]);
    // PLI of the reader of `live/a`.
    for (_, reader) in &mut scene.bench.sessions.live.readers.table {
        reader.streams[0].outgoing.numbers = Numbers::Source(Some(Ssrc(9)));
    }
    scene.bench.datagrams.clear();
    let mut buffer = [0; 256];
    let mut out = CompoundWriter::new(&mut buffer);
    out.pli(Ssrc(1), Ssrc(9)).unwrap();
    scene.bench.sessions.handle_report_datagram(0, host(3, 6_001), out.as_bytes());
    scene.bench.settle();
    let asked = |(to, bytes): &(SocketAddr, Vec<u8>)| {
        *to == host(1, 5_201)
            && rtcp::packets(bytes).any(|p| matches!(p, Ok(Packet::Pli { .. } | Packet::Fir(_))))
    };
    assert_eq!(scene.bench.datagrams.iter().filter(|sent| asked(sent)).count(), 1);

    // The own source of the path between comes, and then that of the path itself.
    scene.b.begin(&mut scene.bench, &sdp(SETS_B));
    for _ in 0..75 {
        c.send(&mut scene.bench);
        scene.run(ms(40));
    }
    scene.a.begin(&mut scene.bench, &sdp(SETS_A));
    for _ in 0..100 {
        c.send(&mut scene.bench);
        scene.run(ms(40));
    }
    assert_eq!(scene.order().iter().map(|(of, _)| *of).collect::<Vec<_>>(), [13, 12, 11]);
    scene.assert_continuous();
}

/// 1+1: both publishers send what one encoder makes.
#[test]
fn two_publishers_of_one_encoder_with_the_same_numbers_are_one_stream_over_a_switch() {
    let mut scene = Scene::new(STANDBY);
    for encoder in [&mut scene.a, &mut scene.b] {
        encoder.begin(&mut scene.bench, &sdp(SETS_A));
        (encoder.ssrc, encoder.seq) = (77, 65_500);
    }
    scene.run(ms(3_000));
    scene.read();
    scene.run(ms(1_000));
    scene.a.end(&mut scene.bench);
    scene.run(ms(2_000));
    let (seq, frame) = (scene.b.seq, scene.b.frame);
    scene.a.begin(&mut scene.bench, &sdp(SETS_A));
    (scene.a.ssrc, scene.a.seq, scene.a.frame) = (77, seq, frame);
    scene.run(ms(5_000));
    assert_eq!(scene.order().iter().map(|(of, _)| *of).collect::<Vec<_>>(), [11, 12, 11]);
    scene.assert_continuous();
}

#[test]
fn sound_and_picture_stay_together_over_switches() {
    let with_sound =
        |sets: &str| format!("{}m=audio 0 RTP/AVP 0\r\na=control:streamid=1\r\n", sdp(sets));
    let mut scene = Scene::new(STANDBY);
    scene.a.begin(&mut scene.bench, &with_sound(SETS_A));
    scene.b.begin(&mut scene.bench, &with_sound(SETS_B));
    scene.run(ms(2_600));
    scene.read();
    scene.run(ms(1_010));
    scene.a.end(&mut scene.bench);
    scene.run(ms(2_000));
    scene.a.begin(&mut scene.bench, &with_sound(SETS_A));
    scene.a.frame = 10_000;
    scene.run(ms(5_000));
    assert_eq!(scene.order().iter().map(|(of, _)| *of).collect::<Vec<_>>(), [11, 12, 11]);
    // A frame and the sound of its time have the same mark, which is unique.
    let mut apart = Vec::new();
    for sound in &scene.sounds {
        let its = |seen: &&Seen| seen.unit() < 6 && seen.payload[1..] == sound.payload[1..4];
        let Some(picture) = scene.seen.iter().find(its) else { continue };
        let picture_ms = picture.ts.wrapping_sub(scene.seen[0].ts) / 90;
        let sound_ms = sound.ts.wrapping_sub(scene.sounds[0].ts) / 8;
        apart.push(picture_ms.cast_signed() - sound_ms.cast_signed());
    }
    assert!(apart.len() > 150, "{}", apart.len());
    let (least, most) = (apart.iter().min().unwrap(), apart.iter().max().unwrap());
    assert!(most - least <= 40, "{least} ms to {most} ms");
    let numbers = |pair: &[Seen]| pair[1].seq == pair[0].seq.wrapping_add(1);
    assert!(scene.sounds.windows(2).all(numbers));
    scene.assert_continuous();
}

#[test]
fn reader_goes_on_when_the_list_of_fallbacks_changes_under_it() {
    let text = STANDBY.replace("standby = true\n", "");
    let mut scene = Scene::new(&text);
    scene.b.begin(&mut scene.bench, &sdp(SETS_B));
    scene.run(ms(3_000));
    scene.read();
    scene.run(ms(1_000));
    let mut c = Encoder::new("live/c", 13, 5_200);
    c.begin(&mut scene.bench, &sdp(SETS_A));
    scene.bench.configure(&text.replace("\"live/b\"", "\"live/c\""));
    scene.seen.clear();
    for _ in 0..75 {
        c.send(&mut scene.bench);
        scene.run(ms(40));
    }
    assert_eq!(scene.order().iter().map(|(of, _)| *of).collect::<Vec<_>>(), [13]);
    assert_eq!(scene.bench.sessions.live.readers.table.len(), 1);
    scene.assert_continuous();
    // A longer list leaves the source in use: no packet is missed or comes again.
    scene.bench.configure(&text.replace("\"live/b\"", "\"live/c\", \"live/b\""));
    scene.look();
    scene.seen.clear();
    for _ in 0..75 {
        c.send(&mut scene.bench);
        scene.run(ms(40));
    }
    assert_eq!(shown(&scene.bench).0.unwrap().failover.unwrap().sources.len(), 3);
    assert_eq!(scene.order().last().unwrap().0, 13);
    let frames = scene.seen.iter().filter(|seen| matches!(seen.unit(), 1 | 5));
    let frames: Vec<u16> =
        frames.map(|seen| u16::from_be_bytes([seen.payload[2], seen.payload[3]])).collect();
    assert!(
        frames.len() > 70 && frames.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{frames:?}"
    );
    assert_eq!(scene.bench.sessions.live.readers.table.len(), 1);
    scene.assert_continuous();
}

/// As of a path whose camera is down.
#[test]
fn describe_of_a_path_none_of_whose_sources_is_there_is_answered() {
    for more in ["", "on_demand = true\n"] {
        let mut bench = Bench::configured(&format!("{STANDBY}{more}"));
        bench.pass(ms(3_000));
        for round in 0..2 {
            let at_once = bench.reader(Method::Describe, URL, None);
            assert!(at_once.is_none(), "{more} {round}: a source may come");
            bench.pass(ms(9_000));
            assert!(bench.answer(READER).is_none());
            bench.pass(ms(2_000));
            let answer = bench.answer(READER).unwrap();
            assert_eq!(answer.status().code(), 404, "{more} {round}");
        }
        // And served as soon as one is there.
        assert!(bench.reader(Method::Describe, URL, None).is_none());
        let mut source = Encoder::new("live/b", 12, 5_100);
        source.begin(&mut bench, &sdp(SETS_A));
        for _ in 0..100 {
            source.send(&mut bench);
            bench.pass(ms(40));
        }
        assert_eq!(bench.answer(READER).unwrap().status().code(), 200, "{more}");
    }
}

#[test]
fn packets_are_counted_as_received_once_on_the_path_of_their_source() {
    let mut scene = Scene::new(STANDBY);
    scene.a.begin(&mut scene.bench, &sdp(SETS_A));
    scene.run(ms(2_000));
    let mut table = scene.bench.sessions.live.path_table(&scene.bench.sessions.cx);
    let [fed, source] = ["live/a", "live/a~0"].map(|path| table.numbers_mut(path).totals);
    assert_eq!((fed.packets_received, fed.bytes_received, source.packets_relayed), (0, 0, 0));
    assert!(source.packets_received >= 49 && fed.packets_relayed >= source.packets_received - 2);
    assert_eq!(scene.bench.cells.source_packets_received.value(), source.packets_received);
}

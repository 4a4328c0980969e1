//! Streams that send out of one image, and those that leave it.

use std::time::Duration;

use crate::base::ids::{SeqNo, SessionId};
use crate::media::image::STREAMS_MIN;
use crate::rtsp::request::Method;
use crate::vod::tests::{BASE, Bench, Sent, rtp_info, session_id};
use crate::vod::thinning::ThinningLevel;

const SECOND: Duration = Duration::from_secs(1);
const PLAYERS: u16 = STREAMS_MIN as u16 + 2;

/// Players of the video that begin together, with what their PLAY was answered.
fn together(bench: &mut Bench) -> Vec<(SessionId, (u16, u32))> {
    let sessions = (0..PLAYERS).map(|player| {
        let answer = bench.setup_from(u32::from(player) + 1, 5_000 + 2 * player);
        session_id(&answer)
    });
    let sessions: Vec<_> = sessions.collect();
    let play = |id: SessionId| (id, rtp_info(&bench.play(id, &[]).unwrap())[0]);
    sessions.into_iter().map(play).collect()
}

fn sent_to(bench: &Bench, id: SessionId) -> Vec<Sent> {
    let key = bench.key(id);
    bench.sent.iter().copied().filter(|sent| sent.session == key).collect()
}

fn of_images(bench: &Bench, id: SessionId) -> u32 {
    let key = bench.key(id);
    let of_session = bench.image_packets.iter().filter(|(session, _)| *session == key);
    of_session.map(|(_, packets)| u32::from(*packets)).sum()
}

/// Frames follow each other in the film, and their numbers and times as they should.
fn assert_without_a_gap(sent: &[Sent], (seq, ts): (u16, u32)) {
    let (mut next_seq, first) = (seq, sent[0].frame.rtp_ticks);
    for pair in sent.windows(2) {
        assert_eq!(pair[1].frame.sample_index, pair[0].frame.sample_index + 1);
    }
    for sent in sent {
        assert_eq!(sent.first_seq, next_seq);
        assert_eq!(u32::from(sent.packets), sent.frame.packet_count);
        let ticks = u32::try_from(sent.frame.rtp_ticks - first).unwrap();
        assert_eq!(sent.ts, ts.wrapping_add(ticks));
        next_seq = next_seq.wrapping_add(sent.packets);
    }
}

#[test]
fn players_that_begin_alike_send_nearly_all_out_of_images_and_as_alone() {
    let mut bench = Bench::new();
    let players = together(&mut bench);
    bench.run_for(6 * SECOND);
    for (id, info) in &players {
        let sent = sent_to(&bench, *id);
        assert_eq!(*info, players[0].1, "RTP-Info is the same for all");
        assert_without_a_gap(&sent, *info);
        let (all, of_images) =
            (sent.iter().map(|s| u32::from(s.packets)).sum::<u32>(), of_images(&bench, *id));
        assert!(of_images * 10 > all * 8, "{of_images} of {all}");
        let own = bench.session(*id).streams[0].outgoing.sent();
        assert_eq!(own.packets, u64::from(all), "sender reports count them");
    }
}

#[test]
fn too_few_players_and_players_without_images_gather_their_packets() {
    let mut bench = Bench::new();
    let id = session_id(&bench.setup_from(1, 5_000));
    bench.play(id, &[]).unwrap();
    bench.run_for(5 * SECOND);
    assert_eq!(of_images(&bench, id), 0);

    let mut bench = Bench::new();
    bench.sessions.cx.config.uses_images = false;
    let players = together(&mut bench);
    bench.run_for(5 * SECOND);
    for (id, info) in &players {
        assert_without_a_gap(&sent_to(&bench, *id), *info);
        assert_eq!(of_images(&bench, *id), 0);
    }
    assert_ne!(players[0].1, players[1].1, "their numbers are their own");
}

#[test]
fn player_that_seeks_goes_on_with_its_numbers_and_never_sends_out_of_images_again() {
    let mut bench = Bench::new();
    let players = together(&mut bench);
    bench.run_for(3 * SECOND);
    let id = players[1].0;
    let before = sent_to(&bench, id);
    let answer = bench.play(id, &[("Range", "npt=8-")]).unwrap();
    let (seq, ts) = rtp_info(&answer)[0];
    let last = before.last().unwrap();
    assert_eq!(seq, last.first_seq.wrapping_add(last.packets), "RFC 2326 appendix B");
    let of_images_before = of_images(&bench, id);
    bench.run_for(3 * SECOND);
    let after = sent_to(&bench, id).split_off(before.len());
    assert_without_a_gap(&after, (seq, ts));
    assert_eq!(of_images(&bench, id), of_images_before);
    assert!(of_images(&bench, players[0].0) > of_images_before, "the others go on");
}

#[test]
fn player_that_pauses_or_is_thinned_leaves_the_image_without_a_gap() {
    let mut bench = Bench::new();
    let players = together(&mut bench);
    bench.run_for(3 * SECOND);
    let (paused, thinned) = (players[0].0, players[1].0);
    bench.pause(paused);
    let key = bench.key(thinned);
    let stream = bench.sessions.vod.players.stream_mut(key, 0).unwrap();
    stream.set_level(ThinningLevel::Reference);
    let before = [paused, thinned].map(|id| (sent_to(&bench, id).len(), of_images(&bench, id)));
    bench.run_for(SECOND);
    bench.play(paused, &[]).unwrap();
    bench.run_for(2 * SECOND);
    for (id, (count, images)) in [paused, thinned].into_iter().zip(before) {
        let sent = sent_to(&bench, id);
        assert!(sent.len() > count + 20);
        for pair in sent.windows(2) {
            assert_eq!(pair[1].first_seq, pair[0].first_seq.wrapping_add(pair[0].packets));
        }
        assert_eq!(of_images(&bench, id), images);
    }
}

#[test]
fn packet_out_of_an_image_is_found_when_it_was_lost() {
    let mut bench = Bench::new();
    let mut players = Vec::new();
    for player in 0..PLAYERS {
        let port = 5_000 + 2 * player;
        let transport = format!("RTP/AVPF;unicast;client_port={port}-{}", port + 1);
        let (uri, headers) = (format!("{BASE}/trackID=0"), [("Transport", transport.as_str())]);
        let connection = u32::from(player) + 1;
        let answer = bench.request(connection, Method::Setup, &uri, None, &headers).unwrap();
        players.push(session_id(&answer));
    }
    for id in &players {
        bench.play(*id, &[]).unwrap();
    }
    bench.run_for(3 * SECOND);
    let id = players[2];
    assert!(of_images(&bench, id) > 0);
    let last = sent_to(&bench, id).pop().unwrap();
    let (key, now) = (bench.key(id), bench.sessions.cx.now);
    let stream = bench.sessions.vod.players.stream_mut(key, 0).unwrap();
    let again = stream.handle_nack(SeqNo(last.first_seq.wrapping_add(1)), now).unwrap();
    assert_eq!(again.ts.0, last.ts);
    assert_eq!(*again.packet, again.window.packets(&last.frame)[1]);
}

#[test]
fn run_of_an_image_that_the_socket_refuses_is_sent_again() {
    let mut bench = Bench::new();
    bench.room.refuses_run = |number| number % 7 == 3;
    let players = together(&mut bench);
    bench.run_for(5 * SECOND);
    for (id, info) in &players {
        assert!(of_images(&bench, *id) > 0);
        assert_without_a_gap(&sent_to(&bench, *id), *info);
    }
}

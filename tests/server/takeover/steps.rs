//! Two real servers, one of which is killed or told to stop at each step of a takeover: the other
//! one serves, and its players miss nothing.
//!
//! A step is a message: it was heard and not passed on, or passed on and not read.

use std::process::Command;
use std::time::Duration;

use headend::takeover::ToOld;
use rustix::process::{Pid, Signal, kill_process};

use super::{assert_ended_well, assert_same_title, witness};
use crate::support::process::{Kept, wait_for};
use crate::support::rtsp::Client;
use crate::support::scratch;
use crate::support::server::Server;
use crate::support::session::{Lower, Session};
use crate::support::takeover::{Between, Site, Speaker, Talk};
use crate::support::wait::PATIENCE;

/// Hello, Offer, Freeze, two records, Frozen. `Taken` and `Serves` follow.
pub(super) const STEPS: usize = 6;
/// The first step at which the new server has handlers for signals: it has started everything.
const FREEZE: usize = 2;

pub(super) fn signal(child: &Kept, signal: Signal) {
    kill_process(Pid::from_child(&child.0), signal).unwrap();
}

/// A new server that says what it says through `between`.
pub(super) fn start_new(site: &Site, between: &Between) -> (Kept, tempfile::TempDir) {
    let files = tempfile::tempdir_in(scratch()).unwrap();
    let mut command: Command = site.command("2", files.path());
    command.args(between.words()).stdout(std::process::Stdio::null());
    command.stderr(std::fs::File::create(files.path().join("stderr")).unwrap());
    (Kept::start(&mut command), files)
}

pub(super) fn players(server: &Server) -> [Session; 2] {
    let mut players =
        [Lower::Udp, Lower::Tcp].map(|to| Session::open(server.rtsp, &server.demo_url(), to));
    for player in &mut players {
        player.play(&[]);
        player.receive_packets(2, PATIENCE);
    }
    players
}

pub(super) fn assert_served(server: &mut Server, players: &mut [Session]) {
    server.assert_alive();
    for player in players {
        player.receive_packets(1, PATIENCE);
        player.request("GET_PARAMETER", &[]).expect(200);
    }
    Client::connect(server.rtsp).request("OPTIONS", "*", &[]).expect(200);
}

pub(super) fn assert_whole(players: &mut [Session], all: &Session) {
    for player in players {
        player.receive_until_bye(PATIENCE);
        for (stream, of_all) in player.streams.iter().zip(&all.streams) {
            assert_same_title(&stream.media.kind, &stream.packets, &of_all.packets);
            assert_eq!(stream.packets.len(), of_all.packets.len(), "{}", stream.media.kind);
        }
    }
}

/// Passes messages on until that of a step has come, which is returned.
pub(super) fn talk_until(talk: &mut Talk, step: usize) -> crate::support::takeover::Passed {
    for _ in 0..step {
        let message = talk.hear().unwrap();
        talk.pass(&message).unwrap();
    }
    talk.hear().unwrap()
}

#[test]
fn new_server_that_is_killed_at_any_step_leaves_the_old_one_as_it_was() {
    let all = witness();
    let (site, between) = (Site::new(""), Between::new());
    let mut old = site.start("2");
    let mut players = players(&old);
    for step in 0..STEPS {
        for is_passed in [false, true] {
            let (mut new, _files) = start_new(&site, &between);
            let mut talk = between.connect(&site);
            let message = talk_until(&mut talk, step);
            if is_passed {
                // It does not read it any more.
                signal(&new, Signal::STOP);
                talk.pass(&message).unwrap();
            }
            new.kill();
            drop(talk);
            println!("killed at step {step}, passed on: {is_passed}");
            assert_served(&mut old, &mut players);
        }
    }
    assert_whole(&mut players, &all);
}

#[test]
fn new_server_that_is_told_to_stop_at_any_step_ends_and_the_old_one_serves_on() {
    let all = witness();
    let (site, between) = (Site::new(""), Between::new());
    let mut old = site.start("2");
    let mut players = players(&old);
    for step in 0..STEPS {
        let (mut new, _files) = start_new(&site, &between);
        let mut talk = between.connect(&site);
        let message = talk_until(&mut talk, step);
        signal(&new, Signal::TERM);
        let status = wait_for(&mut new.0, PATIENCE).unwrap();
        if step >= FREEZE {
            assert_eq!(status.code(), Some(0), "step {step}");
        }
        drop((message, talk));
        println!("told to stop at step {step}: {status}");
        assert_served(&mut old, &mut players);
    }
    assert_whole(&mut players, &all);
}

#[test]
fn old_server_that_is_killed_before_it_has_told_all_is_named_by_the_new_one() {
    // Offer, Freeze, a record.
    for step in [1, 2, 3] {
        let (site, between) = (Site::new(""), Between::new());
        let mut old = site.start("2");
        let (mut new, files) = start_new(&site, &between);
        let mut talk = between.connect(&site);
        let message = talk_until(&mut talk, step);
        old.kill();
        drop((message, talk));
        let status = wait_for(&mut new.0, PATIENCE).unwrap();
        let said = std::fs::read_to_string(files.path().join("stderr")).unwrap();
        assert_eq!(status.code(), Some(2), "step {step}: {said}");
        assert!(said.contains("has ended") || said.contains("does not answer"), "{said}");
    }
}

/// The new server has everything, and finds that nobody is left to be told.
#[test]
fn old_server_that_is_killed_when_it_has_told_all_is_followed_by_the_new_one() {
    let all = witness();
    let (site, between) = (Site::new(""), Between::new());
    let mut old = site.start("2");
    let (rtsp, mut players) = (old.rtsp, players(&old));
    let (mut new, _files) = start_new(&site, &between);
    let mut talk = between.connect(&site);
    let frozen = talk_until(&mut talk, STEPS - 1);
    old.kill();
    talk.pass(&frozen).unwrap();
    drop(talk);
    for player in &mut players {
        player.receive_packets(1, PATIENCE);
        player.request("GET_PARAMETER", &[]).expect(200);
    }
    Client::connect(rtsp).request("OPTIONS", "*", &[]).expect(200);
    assert_whole(&mut players, &all);
    signal(&new, Signal::TERM);
    assert_eq!(wait_for(&mut new.0, PATIENCE).unwrap().code(), Some(0));
}

#[test]
fn old_server_that_is_told_to_stop_ends_well_whoever_serves_then() {
    let all = witness();
    for step in [FREEZE, STEPS - 1] {
        let (site, between) = (Site::new(""), Between::new());
        let mut old = site.start("2");
        let mut players = players(&old);
        let (mut new, files) = start_new(&site, &between);
        let mut talk = between.connect(&site);
        let mut message = talk_until(&mut talk, step);
        old.signal_term();
        if step == FREEZE {
            // It has said BYE by the time that it is asked.
            for player in &mut players {
                player.receive_until_bye(PATIENCE);
            }
        }
        loop {
            let passed = talk.pass(&message);
            match passed.ok().and_then(|()| talk.hear()) {
                Some(next) => message = next,
                None => break,
            }
        }
        assert_ended_well(&mut old);
        let ended =
            wait_for(&mut new.0, Duration::from_millis(if step == FREEZE { 9_000 } else { 0 }));
        let said = std::fs::read_to_string(files.path().join("stderr")).unwrap();
        if step == FREEZE {
            assert_eq!(ended.and_then(|status| status.code()), Some(2), "{said}");
            continue;
        }
        assert_eq!(ended, None, "{said}");
        assert_whole(&mut players, &all);
        signal(&new, Signal::TERM);
        assert_eq!(wait_for(&mut new.0, PATIENCE).unwrap().code(), Some(0));
    }
}

/// Hello is the new server's; what follows it is heard from the right side.
#[test]
fn program_between_passes_a_whole_takeover_on() {
    let (site, between) = (Site::new(""), Between::new());
    let mut old = site.start("2");
    let mut players = players(&old);
    let (mut new, _files) = start_new(&site, &between);
    let mut talk = between.connect(&site);
    let taken = talk_until(&mut talk, STEPS);
    assert_eq!((taken.to, taken.of_new()), (Speaker::Old, ToOld::Taken));
    talk.pass(&taken).unwrap();
    let serves = talk.hear().unwrap();
    assert_eq!(serves.of_new(), ToOld::Serves { has_socket: false }, "that of the program between");
    talk.pass(&serves).unwrap();
    assert_ended_well(&mut old);
    drop(talk);
    for player in &mut players {
        player.receive_packets(1, PATIENCE);
    }
    signal(&new, Signal::TERM);
    assert_eq!(wait_for(&mut new.0, PATIENCE).unwrap().code(), Some(0));
}

//! A server that is killed, stopped or not heard around the moment at which another one takes the
//! right to go on: never do both send, and never does neither for long.
//!
//! The table of steps that no process can be stopped at is in `appliance::takeover::tests`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use headend::takeover::ToOld;
use rustix::process::Signal;

use super::steps::{STEPS, assert_served, assert_whole, players, signal, start_new, talk_until};
use super::{Peer, assert_ended_well, witness};
use crate::support::process::wait_for;
use crate::support::rtp::assert_contiguous;
use crate::support::rtsp::Client;
use crate::support::server::Server;
use crate::support::session::Session;
use crate::support::takeover::{Between, Site};
use crate::support::wait::{PATIENCE, until};

/// The old server sends nothing any more, and cannot know what the other one has sent.
fn assert_abandoned(old: &mut Server, players: &mut [Session]) {
    let status = old.wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(1), "a supervisor starts it again: {}", old.log());
    old.assert_logs("HE-E416");
    for player in players {
        player.drain();
        for stream in &player.streams {
            assert_contiguous(&stream.packets);
        }
    }
}

fn log_of(files: &Path) -> String {
    std::fs::read_to_string(files.join("stderr")).unwrap()
}

#[test]
fn new_server_that_is_killed_when_it_has_the_right_ends_the_old_one_with_a_failure() {
    for passed in 0..=2 {
        let (site, between) = (Site::new(""), Between::new());
        let mut old = site.start("2");
        let mut players = players(&old);
        let (mut new, _files) = start_new(&site, &between);
        let mut talk = between.connect(&site);
        // Taken, or Serves.
        let mut message = talk_until(&mut talk, STEPS);
        if passed > 0 {
            talk.pass(&message).unwrap();
            message = talk.hear().unwrap();
        }
        if passed > 1 {
            // The service manager is not told yet, as far as the old server knows.
            old.assert_logs("HE-I412");
        }
        new.kill();
        drop((message, talk));
        println!("killed when {passed} of its words were heard");
        assert_abandoned(&mut old, &mut players);
    }
}

#[test]
fn program_that_takes_the_right_and_dies_or_is_silent_leaves_nobody_that_sends() {
    for (says_so, is_silent) in [(false, false), (false, true), (true, false), (true, true)] {
        let site = Site::new("");
        let mut old = site.start("2");
        let mut players = players(&old);
        let mut peer = Peer::connect(&site);
        peer.hear_all();
        assert!(peer.take_right());
        for player in &mut players {
            player.drain();
        }
        if says_so {
            peer.say(&ToOld::Taken).unwrap();
        }
        if is_silent {
            old.assert_logs("HE-W415");
            assert_eq!(old.wait(std::time::Duration::ZERO), None, "it waits");
        }
        let seen: usize = players.iter().map(|it| it.streams[0].packets.len()).sum();
        drop(peer);
        println!("it says so: {says_so}, it is silent: {is_silent}");
        assert_abandoned(&mut old, &mut players);
        let now: usize = players.iter().map(|it| it.streams[0].packets.len()).sum();
        assert_eq!(seen, now, "nobody has the right and is there");
    }
}

#[test]
fn new_server_that_is_stopped_before_the_right_is_done_without_and_ends_when_it_is_woken() {
    let all = witness();
    let (site, between) = (Site::new(""), Between::new());
    let mut old = site.start("2");
    let mut players = players(&old);
    for is_stopped in [true, false] {
        let (mut new, files) = start_new(&site, &between);
        let mut talk = between.connect(&site);
        let frozen = talk_until(&mut talk, STEPS - 1);
        // It does not read it, or nobody passes it on.
        if is_stopped {
            signal(&new, Signal::STOP);
            talk.pass(&frozen).unwrap();
        }
        assert_served(&mut old, &mut players);
        if is_stopped {
            signal(&new, Signal::CONT);
        }
        drop(talk);
        let status = wait_for(&mut new.0, PATIENCE).unwrap();
        let said = log_of(files.path());
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(said.contains("has ended") || said.contains("in time"), "{said}");
        assert_served(&mut old, &mut players);
    }
    assert_whole(&mut players, &all);
}

/// Whatever the old server hears of it, and how late.
#[test]
fn new_server_that_is_stopped_when_it_has_the_right_goes_on_when_it_is_woken() {
    let all = witness();
    let (site, between) = (Site::new(""), Between::new());
    let mut old = site.start("2");
    let mut players = players(&old);
    let (mut new, _files) = start_new(&site, &between);
    let mut talk = between.connect(&site);
    let taken = talk_until(&mut talk, STEPS);
    signal(&new, Signal::STOP);
    // It finds that by itself.
    old.assert_logs("HE-I412");
    old.assert_logs("HE-W415");
    signal(&new, Signal::CONT);
    talk.pass(&taken).unwrap();
    let serves = talk.hear().unwrap();
    for player in &mut players {
        player.receive_packets(1, PATIENCE);
        player.request("GET_PARAMETER", &[]).expect(200);
    }
    old.assert_alive();
    talk.pass(&serves).unwrap();
    assert_ended_well(&mut old);
    assert_whole(&mut players, &all);
    signal(&new, Signal::TERM);
    assert_eq!(wait_for(&mut new.0, PATIENCE).unwrap().code(), Some(0));
}

#[test]
fn new_server_that_is_not_heard_serves_and_the_old_one_is_there_until_it_is_told_to_stop() {
    let all = witness();
    let (site, between) = (Site::new(""), Between::new());
    let mut old = site.start("2");
    let mut players = players(&old);
    let (mut new, _files) = start_new(&site, &between);
    let mut talk = between.connect(&site);
    let _taken = talk_until(&mut talk, STEPS);
    let _serves = talk.hear().unwrap();
    old.assert_logs("HE-W415");
    for player in &mut players {
        player.receive_packets(1, PATIENCE);
        player.request("GET_PARAMETER", &[]).expect(200);
    }
    // The new one's port.
    old.assert_alive();
    until("every connection is the new server's", || {
        let mut clients: Vec<_> = (0..8).map(|_| Client::connect(old.rtsp)).collect();
        clients.iter_mut().all(|it| it.request("OPTIONS", "*", &[]).status == 200)
    });
    old.signal_term();
    assert_ended_well(&mut old);
    assert_whole(&mut players, &all);
    signal(&new, Signal::TERM);
    assert_eq!(wait_for(&mut new.0, PATIENCE).unwrap().code(), Some(0));
}

/// It waits in the backlog, as one of RTSP does.
#[test]
fn connection_to_the_api_that_comes_before_the_right_is_taken_is_answered_by_who_goes_on() {
    let (site, between) = (Site::new(""), Between::new());
    let mut old = site.start("2");
    let mut players = players(&old);
    let (mut new, _files) = start_new(&site, &between);
    let mut talk = between.connect(&site);
    let mut message = talk_until(&mut talk, STEPS - 1);
    let mut asks = TcpStream::connect(old.admin).unwrap();
    asks.set_read_timeout(Some(PATIENCE)).unwrap();
    let host = old.admin;
    write!(asks, "GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    // Frozen, Taken, Serves.
    for is_last in [false, false, true] {
        talk.pass(&message).unwrap();
        if !is_last {
            message = talk.hear().unwrap();
        }
    }
    let mut answer = String::new();
    asks.read_to_string(&mut answer).unwrap();
    let taken = answer.lines().find(|line| line.starts_with("headend_takeover_gap_seconds_count"));
    assert!(taken.is_some_and(|line| line.ends_with(" 2")), "it has taken two over: {answer}");
    assert_ended_well(&mut old);
    for player in &mut players {
        player.receive_packets(1, PATIENCE);
    }
    signal(&new, Signal::TERM);
    assert_eq!(wait_for(&mut new.0, PATIENCE).unwrap().code(), Some(0));
}

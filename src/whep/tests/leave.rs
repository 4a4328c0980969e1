//! Viewers whose leave is over, whom operators end, and those who make room for others.

use super::*;
use crate::access::question::{Allowed, Answer, Question};
use crate::access::rules::{UserSet, Ways};
use crate::access::shown::Shown;
use crate::base::ids::SessionId;
use crate::base::secret::Secret;
use crate::config;

fn table(read: &str) -> Arc<PathTable> {
    let text = format!("[path.\"live/a\"]\nread = {read}\n");
    config::load(Some(("f", &text)), [], &[]).unwrap().config.paths
}

/// A round of looks.
fn look_at_all(
    whep: &mut Whep,
    (table, now_s): (&Arc<PathTable>, i64),
    now: Instant,
    out: &mut Sink<'_>,
) -> Vec<Asked> {
    let mut asked = Vec::new();
    whep.begin_looks();
    while whep.has_looks() {
        asked.extend(whep.look_after(table, now_s, now, out));
    }
    asked
}

/// Opens a session of somebody who has shown a token, which counts until second 100.
fn open_by_token(rig: &mut Rig, (sdp, from): (&str, IpAddr), tokens: &Arc<PathTable>) {
    let question = Question {
        action: config::access::Action::Read,
        path: "live/a".into(),
        protocol: "hls",
        peer: from,
        user_agent: Some("browser".to_owned()),
        shown: Shown::Nothing,
        token: Some(Secret::new("token")),
        query: None,
        ways: Ways { users: UserSet::Nobody, jwt: true, webhook: false },
        job: None,
        access: Arc::clone(&tokens.access),
    };
    let permit = Permit::new(question, allowed(100), (Arc::clone(tokens), 0));
    let candidates = [SERVER.parse().unwrap()];
    let offer = Offer { sdp, from, permit, candidates: &candidates };
    let path = Arc::clone(&rig.path);
    rig.whep.open(&path, offer, rig.now, &mut |_| ()).unwrap();
}

fn allowed(until_s: i64) -> Allowed {
    Allowed { user: Some("ann".into()), until_s: Some(until_s), ..Allowed::default() }
}

fn sessions(rig: &Rig) -> Vec<SessionId> {
    rig.whep.viewers(None, 100, rig.now).into_iter().map(|viewer| viewer.session).collect()
}

#[test]
fn viewer_whom_the_rules_do_not_let_watch_any_more_is_ended_and_others_go_on() {
    let mut rig = Rig::new(&description("H264/90000", ""), &[]);
    rig.join(&[MediaKind::Video]);
    rig.join(&[MediaKind::Video]);
    rig.connect();
    let look = |rig: &mut Rig, table: &Arc<PathTable>| {
        rig.exchange(|whep, now, out| {
            assert!(look_at_all(whep, (table, 0), now, out).is_empty());
        });
        rig.run(100);
        [rig.clients[0].is_closed, rig.clients[1].is_closed]
    };
    let same = Arc::clone(&rig.table);
    assert_eq!(look(&mut rig, &same), [false, false]);
    assert_eq!(look(&mut rig, &table("[\"any\"]")), [false, false]);
    assert_eq!(look(&mut rig, &table("[\"198.51.100.2\"]")), [true, false]);
    assert_eq!(sessions(&rig).len(), 1);
    assert_eq!(look(&mut rig, &table("[\"users\"]")), [true, true], "it has shown no name");
    rig.take_wants_sync();
    assert!(!rig.whep.is_watched("live/a") && rig.whep.next_timeout().is_none());
}

#[test]
fn viewer_whose_token_expires_is_asked_about_once_and_ended_when_it_counts_no_more() {
    let mut rig = Rig::new(&description("H264/90000", ""), &[]);
    let (_, addr, sdp, _) = rig.offer(&[MediaKind::Video], 1);
    let tokens = table("[\"jwt\"]");
    open_by_token(&mut rig, (&sdp, addr.ip()), &tokens);
    let viewer = rig.whep.viewers(None, 10, rig.now).remove(0);
    assert_eq!(
        (viewer.user.as_deref(), viewer.user_agent.as_deref()),
        (Some("ann"), Some("browser"))
    );
    let now = rig.now;
    let look = |whep: &mut Whep, s| look_at_all(whep, (&tokens, s), now, &mut |_| ());
    assert!(look(&mut rig.whep, 99).is_empty());
    let asked = look(&mut rig.whep, 100);
    assert_eq!((asked.len(), asked[0].session), (1, viewer.session));
    assert!(look(&mut rig.whep, 101).is_empty(), "it is asked already");
    let judge = |whep: &mut Whep, answer, s| {
        whep.handle_judged(viewer.session, answer, (&tokens, s), now, &mut |_| ());
        whep.is_watched("live/a")
    };
    assert!(judge(&mut rig.whep, Answer::Allowed(allowed(200)), 102));
    assert!(look(&mut rig.whep, 199).is_empty());
    assert_eq!(look(&mut rig.whep, 200).len(), 1);
    assert!(!judge(&mut rig.whep, Answer::Wrong, 201));
    assert!(!judge(&mut rig.whep, Answer::Wrong, 202), "nobody is there");
}

#[test]
fn operator_ends_a_session_by_its_own_id_and_sees_what_it_was_sent() {
    let mut rig = Rig::new(&description("H264/90000", "opus/48000/2"), &[]);
    rig.join(&BOTH);
    rig.connect();
    rig.pictures(0..200);
    let viewer = rig.whep.viewers(None, 10, rig.now).remove(0);
    assert!(viewer.is_connected && viewer.addr == Some(rig.clients[0].addr));
    let encodings: Vec<_> = viewer.tracks.iter().map(|track| track.encoding).collect();
    assert_eq!(encodings, ["H264", "opus"]);
    assert_eq!(viewer.tracks[0].packets, 200 + 8);
    assert_eq!(viewer.tracks[1].packets, 0);
    let sent = rig.clients[0].packets[0].header.ssrc;
    assert_eq!(viewer.tracks[0].ssrc, *sent);
    let report = viewer.tracks[0].report.expect("the browser has reported");
    assert_eq!(report.packets_lost, Some(0));
    assert_ne!(viewer.session.to_string(), rig.clients[0].id[..16].to_uppercase());
    let (other, now) = (SessionId::new(crate::poll::poller::GUEST, 7), rig.now);
    assert!(!rig.whep.kick(other, now, &mut |_| ()));
    rig.exchange(|whep, now, out| assert!(whep.kick(viewer.session, now, out)));
    rig.run(100);
    assert!(rig.clients[0].is_closed && rig.whep.viewer(viewer.session, rig.now).is_none());
}

#[test]
fn list_of_viewers_goes_on_behind_an_id() {
    let mut rig = Rig::new(&description("H264/90000", ""), &[]);
    for host in 1..6 {
        let (_, addr, sdp, _) = rig.offer(&[MediaKind::Video], host);
        rig.open(&sdp, addr.ip()).unwrap();
    }
    let all = sessions(&rig);
    assert!(all.len() == 5 && all.is_sorted());
    let page = rig.whep.viewers(Some(all[1]), 2, rig.now);
    assert_eq!(page.iter().map(|viewer| viewer.session).collect::<Vec<_>>(), all[2..4]);
}

/// Offers alone held all places for 15 s.
#[test]
fn viewers_who_do_not_connect_make_room_for_those_who_come() {
    let mut rig = Rig::new(&description("H264/90000", ""), &[]);
    rig.whep = whep(40, 64);
    rig.whep.begin(&rig.path, Generation(1), &description("H264/90000", ""), &[]).unwrap();
    rig.join(&[MediaKind::Video]);
    rig.connect();
    let (_, _, sdp, _) = rig.offer(&[MediaKind::Video], 1);
    let open = |rig: &mut Rig, host: u8| rig.open(&sdp, IpAddr::from([198, 51, 100, host]));
    let crowded = Err(OfferError::Crowded);
    // One address has few places for those who are not connected. Nobody gives way at first.
    let connected = sessions(&rig)[0];
    for _ in 0..16 {
        open(&mut rig, 9).unwrap();
    }
    assert_eq!(open(&mut rig, 9), crowded);
    // Then its own oldest go.
    let before = sessions(&rig);
    rig.now += places::FIRST;
    for _ in 0..16 {
        open(&mut rig, 9).unwrap();
    }
    assert_eq!(open(&mut rig, 9), crowded);
    let after = sessions(&rig);
    assert_eq!((before.len(), after.len()), (1 + 16, 1 + 16));
    assert_eq!(before.iter().filter(|session| after.contains(session)).count(), 1);
    // All places are taken: the oldest go, whoever they are, but never who is connected.
    rig.now += places::FIRST;
    for host in 10..10 + 23 + 16 {
        open(&mut rig, host).unwrap();
    }
    assert_eq!(open(&mut rig, 100), crowded);
    let left = sessions(&rig);
    assert_eq!((left.len(), left.contains(&connected)), (40, true));
    rig.pictures(0..5);
    assert_eq!(rig.clients[0].packets.len(), 6);
}

#[test]
fn viewers_who_are_connected_keep_their_places() {
    let mut rig = Rig::new(&description("H264/90000", ""), &[]);
    let begin = |rig: &mut Rig, viewers_max, per_address| {
        rig.whep = whep(viewers_max, per_address);
        rig.clients.clear();
        let of = description("H264/90000", "");
        rig.whep.begin(&rig.path, Generation(1), &of, &[]).unwrap();
    };
    begin(&mut rig, 2, 8);
    for _ in 0..2 {
        rig.join(&[MediaKind::Video]);
    }
    rig.connect();
    let (_, _, sdp, _) = rig.offer(&[MediaKind::Video], 1);
    let refused = rig.open(&sdp, IpAddr::from([198, 51, 100, 77]));
    assert_eq!(refused, Err(OfferError::TooMany { max: 2 }));
    begin(&mut rig, 8, 1);
    rig.join(&[MediaKind::Video]);
    rig.connect();
    let same = rig.clients[0].addr.ip();
    assert_eq!(rig.open(&sdp, same), Err(OfferError::AddressFull));
    let other = IpAddr::from([198, 51, 100, 77]);
    assert!(rig.open(&sdp, other).is_ok());
    assert_eq!(rig.open(&sdp, other), Err(OfferError::Crowded));
    rig.now += places::FIRST;
    assert!(rig.open(&sdp, other).is_ok(), "the one before has not connected");
    assert_eq!(sessions(&rig).len(), 2);
}

#[test]
fn many_who_are_due_at_once_are_driven_in_parts() {
    let mut rig = Rig::new(&description("H264/90000", ""), &[]);
    rig.whep = whep(200, 200);
    rig.whep.begin(&rig.path, Generation(1), &description("H264/90000", ""), &[]).unwrap();
    let (_, _, sdp, _) = rig.offer(&[MediaKind::Video], 1);
    for host in 0..150 {
        rig.open(&sdp, IpAddr::from([198, 51, 100, host])).unwrap();
    }
    let late = rig.now + viewer::CONNECT_MAX;
    let mut left = || {
        let is_rest = rig.whep.handle_timeout(late, &mut |_| ());
        (is_rest, rig.whep.viewers(None, 200, late).len())
    };
    assert_eq!([left(), left(), left()], [(true, 86), (true, 22), (false, 0)]);
}

/// Sixteen were asked about again and again while nobody could answer, and the others never.
#[test]
fn whoever_has_waited_longest_is_asked_about_next() {
    let mut rig = Rig::new(&description("H264/90000", ""), &[]);
    rig.whep = whep(64, 64);
    rig.whep.begin(&rig.path, Generation(1), &description("H264/90000", ""), &[]).unwrap();
    let (_, _, sdp, _) = rig.offer(&[MediaKind::Video], 1);
    let tokens = table("[\"jwt\"]");
    for host in 0..40 {
        open_by_token(&mut rig, (&sdp, [198, 51, 100, host].into()), &tokens);
    }
    let now = rig.now;
    let mut rounds = Vec::new();
    for s in 100..105 {
        let asked = look_at_all(&mut rig.whep, (&tokens, s), now, &mut |_| ());
        let asked: Vec<_> = asked.into_iter().map(|asked| asked.session).collect();
        for session in &asked {
            let answer = Answer::Unavailable;
            rig.whep.handle_judged(*session, answer, (&tokens, s), now, &mut |_| ());
        }
        rounds.push(asked);
    }
    assert!(rounds.iter().all(|asked| asked.len() == 16));
    let asked: Vec<_> = rounds.concat();
    let all = sessions(&rig);
    assert_eq!(asked, [&all[..], &all[..]].concat(), "in turn");
    // Who is over is ended in the same round, however many wait to be asked about; a few a turn.
    let closed = table("[\"10.0.0.0/8\"]");
    rig.whep.begin_looks();
    let mut left = || {
        assert!(rig.whep.look_after(&closed, 105, now, &mut |_| ()).is_empty());
        rig.whep.viewers(None, 64, now).len()
    };
    assert_eq!([left(), left()], [8, 0]);
    assert!(!rig.whep.has_looks());
}

/// Each such offer ended a stranger who was about to connect.
#[test]
fn newcomer_who_is_refused_ends_nobody() {
    let mut rig = Rig::new(&description("H264/90000", ""), &[]);
    rig.whep = whep(2, 1);
    rig.whep.begin(&rig.path, Generation(1), &description("H264/90000", ""), &[]).unwrap();
    rig.join(&[MediaKind::Video]);
    rig.connect();
    let full = rig.clients[0].addr.ip();
    let (_, _, sdp, _) = rig.offer(&[MediaKind::Video], 1);
    rig.open(&sdp, [198, 51, 100, 77].into()).unwrap();
    rig.now += places::FIRST;
    let all = sessions(&rig);
    assert_eq!(rig.open(&sdp, full), Err(OfferError::AddressFull));
    for bad in ["v=0".to_owned(), "no SDP".to_owned(), sdp.replace("H264", "H999")] {
        let refused = rig.open(&bad, [198, 51, 100, 78].into()).unwrap_err();
        assert_ne!(refused, OfferError::Crowded, "{bad}");
        assert_eq!(sessions(&rig), all, "{refused}");
    }
    rig.open(&sdp, [198, 51, 100, 78].into()).unwrap();
    assert_eq!(sessions(&rig).iter().filter(|session| all.contains(session)).count(), 1);
}

#[test]
fn address_that_may_have_more_viewers_may_have_more_who_connect() {
    for (per_address, expected) in [(64, 16), (400, 100)] {
        let limit = AddressLimit::share_of(1_024).with_remote(per_address);
        let places = places::Places::new(1_024, Arc::new(Addresses::new(limit, 1_024)));
        let from = IpAddr::from([198, 51, 100, 1]);
        let taken: Vec<_> = std::iter::from_fn(|| places.enter(from)).take(1_000).collect();
        assert_eq!(taken.len(), expected);
    }
}

//! What becomes of a path that is watched: refused, ended, begun again. Times are given.

use std::net::UdpSocket;
use std::sync::Mutex;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::*;
use crate::access::permit::Permit;
use crate::access::throttle::Throttle;
use crate::appliance::hls::viewers::OfferAnswer;
use crate::base::addresses::Addresses;
use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::time::Mono;
use crate::http::hls::{OfferAsked, Reached, Watchers};
use crate::live::core::batch::{Arrival, BatchBuilder};
use crate::live::core::description::LiveTrack;
use crate::session::draining::DrainOrder;
use crate::whep::Limits;
use crate::worker::TaskQueue;

const PATH: &str = "live/a";

/// The loop, its owner of paths, and the time.
struct Bench {
    live: Live,
    owner: Arc<Inbox>,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self::with(Viewers::off())
    }

    /// With WebRTC, in a runtime.
    fn with_webrtc() -> Self {
        let limits = Limits { viewers_max: 64, addresses: Addresses::sharing(64) };
        let sockets = vec![UdpSocket::bind("127.0.0.1:0").unwrap()];
        let identity = crate::appliance::hls::identity().unwrap();
        let mut viewers = Viewers::new(identity, limits, (sockets, Vec::new()));
        viewers.open().unwrap();
        Self::with(viewers)
    }

    fn with(viewers: Viewers) -> Self {
        let owner = Arc::new(Inbox::new(1).unwrap());
        let poller = Arc::new(Poller::new(vec![Arc::clone(&owner)]));
        let front = Arc::new(Front {
            queue: Arc::new(TaskQueue::new(1, 0).unwrap()),
            throttle: Arc::new(Throttle::default()),
            paths: ArcSwap::default(),
            waiting: Mutex::default(),
            drain: ArcSwapOption::empty(),
            asks: mpsc::channel(1).0,
            watchers: Watchers::default(),
        });
        let live = Live::new(&HlsConfig::default(), poller, front, viewers);
        Self { live, owner, now: Instant::now() }
    }

    fn ask(&mut self) -> oneshot::Receiver<LiveAnswer> {
        let (answer, receiver) = oneshot::channel();
        self.live.handle_asked(PATH, answer, self.now);
        receiver
    }

    /// Offers a session, from this address.
    fn offer(&mut self, from: [u8; 4]) -> oneshot::Receiver<OfferAnswer> {
        let (from, path) = (from.into(), PATH.to_owned());
        let permit = Permit::open(PATH.into(), from, self.live.front.paths());
        let reached = Reached::At([127, 0, 0, 1].into());
        let offer = OfferAsked { path, sdp: "v=0".to_owned(), from, reached, permit };
        let (answer, receiver) = oneshot::channel();
        self.live.handle_offer(OfferWaiter { offer, answer, place: None }, self.now);
        receiver
    }

    /// Asks for a path whose state is known.
    fn ask_now(&mut self) -> LiveAnswer {
        self.ask().try_recv().expect("an answer at once")
    }

    fn tell(&mut self, notification: Notification) {
        let message = LiveMessage::ToShard { path: PATH.into(), notification };
        self.live.handle_live(message, self.now);
    }

    fn subscribed(&mut self, encoding: &str) {
        let (generation, description) = (Generation(1), description(encoding));
        self.tell(Notification::Subscribed { generation, description, snapshot: Vec::new() });
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.live.handle_tick(self.now);
    }

    /// What the owner has been asked since the last time.
    fn requests(&self) -> Vec<&'static str> {
        let messages = std::iter::from_fn(|| self.owner.pop_live());
        let request = |message| match message {
            LiveMessage::ToOwner(ToOwner { request, .. }) => match request {
                OwnerRequest::Subscribe { .. } => "subscribe",
                OwnerRequest::Unsubscribe { .. } => "unsubscribe",
                OwnerRequest::WantSync => "want sync",
                OwnerRequest::Listen { .. } => "listen",
                other => panic!("{other:?}"),
            },
            LiveMessage::ToShard { .. } => panic!("a guest owns no path"),
        };
        messages.map(request).collect()
    }

    /// A picture, as a batch.
    fn picture(&mut self, seq: u16, ts: u32, is_sync: bool) {
        let mut bytes = vec![0x80, 0x80 | 96];
        bytes.extend_from_slice(&seq.to_be_bytes());
        bytes.extend_from_slice(&ts.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 9, if is_sync { 0x65 } else { 0x41 }, 1, 2]);
        let (seq, ts, ssrc, header_bytes) = (SeqNo(seq), RtpTs(ts), Ssrc(9), 12);
        let (track, marker, bytes) = (0, true, &bytes);
        let arrival = Arrival { track, ssrc, seq, ts, marker, header_bytes, is_sync, bytes };
        let mut builder = BatchBuilder::default();
        builder.push(&arrival, Mono(0)).unwrap();
        let batch = builder.build(Generation(1), |_| None).unwrap();
        self.tell(Notification::Batch(Arc::new(batch)));
    }
}

fn description(encoding: &str) -> Arc<Description> {
    let sdp = format!(
        "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
         a=rtpmap:96 {encoding}/90000\r\na=fmtp:96 packetization-mode=1;sprop-parameter-sets={SETS}\r\n"
    );
    let (clock_rate_hz, payload_types, identity) = (90_000, vec![96], "video".into());
    let track = LiveTrack { clock_rate_hz, payload_types, needs_sync: true, identity };
    Arc::new(Description::new(sdp.into(), vec![track]).unwrap())
}

/// SPS and PPS.
const SETS: &str = "J2QAKqwkjAeAIn5cBEAAAAMAQAAAHjigAAtxsAAW43ve4D4RCKc=,KN68sA==";

#[test]
fn path_that_was_refused_is_let_go_and_tried_again_after_a_while() {
    let mut bench = Bench::new();
    let mut waiter = bench.ask();
    assert_eq!(bench.requests(), ["subscribe"]);
    bench.subscribed("MP2T");
    let refusal = waiter.try_recv().unwrap().unwrap_err();
    assert!(matches!(refusal, LiveRefusal::NotShown(_)), "{refusal}");
    assert_eq!(bench.requests(), ["unsubscribe"]);
    bench.pass(Duration::from_secs(4));
    assert!(bench.ask_now().is_err());
    assert_eq!(bench.requests(), [""; 0]);
    // Somebody goes on asking, and the camera has been set to another codec.
    bench.now += Duration::from_secs(1);
    let mut waiter = bench.ask();
    assert_eq!(bench.requests(), ["subscribe"]);
    bench.subscribed("H264");
    let snapshots = waiter.try_recv().unwrap().unwrap();
    for n in 0..120 {
        bench.picture(n, u32::from(n) * 3_600, n.is_multiple_of(25));
    }
    let snapshot = snapshots.borrow();
    assert!(snapshot.is_playable() && !snapshot.is_ended());
}

#[test]
fn path_that_has_ended_is_told_so_for_a_while_and_then_begins_anew() {
    let mut bench = Bench::new();
    let _waiter = bench.ask();
    bench.subscribed("H264");
    let first = bench.ask_now().unwrap().borrow().revision();
    bench.tell(Notification::Ended);
    // What was under way does not begin it again.
    bench.subscribed("H264");
    let (generation, description) = (Generation(2), description("H264"));
    bench.tell(Notification::Resumed { generation, description });
    assert!(bench.ask_now().unwrap().borrow().is_ended());
    bench.requests();
    bench.now += Duration::from_secs(10);
    let mut waiter = bench.ask();
    assert_eq!(bench.requests(), ["subscribe"]);
    bench.subscribed("H264");
    let snapshots = waiter.try_recv().unwrap().unwrap();
    let snapshot = snapshots.borrow();
    assert!(!snapshot.is_ended() && snapshot.revision() != first);
}

#[test]
fn requests_that_wait_for_the_owner_are_answered_by_whatever_it_tells() {
    let mut bench = Bench::new();
    let mut waiter = bench.ask();
    let (generation, description) = (Generation(1), description("H264"));
    bench.tell(Notification::Resumed { generation, description });
    assert!(waiter.try_recv().unwrap().is_ok(), "a source has come");
    let mut bench = Bench::new();
    let mut waiter = bench.ask();
    bench.tell(Notification::Ended);
    let refusal = waiter.try_recv().unwrap().unwrap_err();
    assert_eq!(refusal, LiveRefusal::Refused(RefusedError::NoSource), "it has gone");
}

#[test]
fn source_that_begins_or_has_paused_is_asked_for_a_key_frame_once() {
    let mut bench = Bench::new();
    let _waiter = bench.ask();
    bench.subscribed("H264");
    assert_eq!(bench.requests(), ["subscribe", "want sync"]);
    bench.picture(0, 0, true);
    bench.picture(1, 3_600, false);
    bench.picture(2, 7_200, false);
    // Behind a pause of twenty seconds.
    bench.picture(3, 1_800_000, false);
    bench.picture(4, 1_803_600, false);
    assert_eq!(bench.requests(), ["want sync"]);
}

#[test]
fn paths_that_are_watched_at_the_deadline_of_a_drain_end() {
    let mut bench = Bench::new();
    let mut waiter = bench.ask();
    bench.subscribed("H264");
    let snapshots = waiter.try_recv().unwrap().unwrap();
    let drain = |after| {
        let order = DrainOrder { after, ..DrainOrder::default() };
        Message::Drain { order: Some(order), done: Box::new(|| {}) }
    };
    bench.live.handle_message(drain(None));
    bench.live.handle_message(drain(Some(Duration::from_secs(3_600))));
    bench.pass(TICK);
    assert!(!snapshots.borrow().is_ended(), "the deadline has not come");
    bench.requests();
    bench.live.handle_message(drain(Some(Duration::ZERO)));
    bench.pass(TICK);
    assert!(snapshots.borrow().is_ended());
    assert_eq!(bench.requests(), ["unsubscribe"]);
}

#[test]
fn path_that_nobody_asks_for_is_let_go() {
    let mut bench = Bench::new();
    drop(bench.ask());
    bench.subscribed("H264");
    bench.requests();
    bench.pass(IDLE - TICK);
    assert_eq!(bench.requests(), ["listen"]);
    bench.pass(TICK);
    assert_eq!(bench.requests(), ["unsubscribe"]);
    assert!(bench.live.paths.is_empty());
}

#[test]
fn segments_of_a_later_run_have_higher_numbers() {
    let bench = Bench::new();
    let first = |utc_s| bench.live.muxer(utc_s).snapshot().next_part();
    assert_eq!(first(1_577_836_800 + 200_000_000), (200_000_000, 0));
    assert_eq!(first(0), (0, 0), "a clock that has not been set");
    let now = Timestamp::now().as_second();
    assert!(first(now + 60) > first(now), "the server has been restarted");
}

/// An offer took the last seconds away from those who watched by HLS.
#[tokio::test]
async fn path_that_has_ended_stays_for_hls_until_an_offer_finds_a_new_source() {
    let mut bench = Bench::with_webrtc();
    let _waiter = bench.ask();
    bench.subscribed("H264");
    let first = bench.ask_now().unwrap().borrow().revision();
    bench.tell(Notification::Ended);
    bench.requests();
    let mut offer = bench.offer([192, 0, 2, 1]);
    assert_eq!(bench.requests(), ["subscribe"]);
    assert!(offer.try_recv().is_err(), "it waits for the owner");
    assert!(bench.ask_now().unwrap().borrow().is_ended());
    bench.pass(TICK);
    assert_eq!(bench.requests(), ["subscribe"], "the question may have been lost");
    bench.tell(Notification::NotThere(RefusedError::NoSource));
    let refusal = offer.try_recv().unwrap().unwrap_err();
    assert_eq!(refusal, LiveRefusal::from(RefusedError::NoSource).into());
    let snapshots = bench.ask_now().unwrap();
    assert!(snapshots.borrow().is_ended() && snapshots.borrow().revision() == first);
    // Another one asks until there is a source, also when nobody plays the end any more.
    let mut offer = bench.offer([192, 0, 2, 1]);
    drop(snapshots);
    bench.pass(ENDED_KEPT);
    assert_eq!(bench.requests(), ["subscribe"; 2]);
    let mut waiter = bench.ask();
    bench.requests();
    bench.subscribed("H264");
    let snapshots = waiter.try_recv().unwrap().unwrap();
    assert!(!snapshots.borrow().is_ended() && snapshots.borrow().revision() != first);
    bench.live.viewers.work();
    let refusal = offer.try_recv().unwrap().unwrap_err().to_string();
    assert!(refusal.contains("offer cannot be"), "it was read: {refusal}");
}

#[tokio::test]
async fn new_source_takes_the_place_of_what_has_ended() {
    let mut bench = Bench::with_webrtc();
    let _waiter = bench.ask();
    bench.subscribed("H264");
    bench.tell(Notification::Ended);
    let mut offer = bench.offer([192, 0, 2, 1]);
    bench.subscribed("H264");
    bench.live.viewers.work();
    assert!(offer.try_recv().unwrap().is_err(), "it was read");
    bench.requests();
    let mut waiter = bench.ask();
    assert_eq!(bench.requests(), ["subscribe"], "segments begin anew");
    bench.subscribed("H264");
    assert!(!waiter.try_recv().unwrap().unwrap().borrow().is_ended());
}

#[tokio::test]
async fn offers_of_one_address_leave_room_for_those_of_others() {
    let mut bench = Bench::with_webrtc();
    let mut offers: Vec<_> = (0..40).map(|_| bench.offer([192, 0, 2, 1])).collect();
    let refused = offers.iter_mut().filter_map(|offer| offer.try_recv().ok());
    let refused: Vec<_> = refused.map(Result::unwrap_err).collect();
    assert!(refused.len() == 8 && refused.iter().all(|why| *why == OfferError::Crowded.into()));
    let mut other = bench.offer([192, 0, 2, 2]);
    assert!(other.try_recv().is_err(), "it waits");
    bench.tell(Notification::NotThere(RefusedError::NoSource));
    assert_ne!(other.try_recv().unwrap().unwrap_err(), OfferError::Crowded.into());
    assert!(bench.offer([192, 0, 2, 1]).try_recv().is_err(), "places are free again");
}

/// A session takes the thread of all viewers milliseconds, whatever becomes of it.
#[tokio::test]
async fn address_that_makes_offers_again_and_again_is_let_through_now_and_then() {
    let mut bench = Bench::with_webrtc();
    let mut refused = 0;
    for _ in 0..20 {
        let offers: Vec<_> = (0..10).map(|_| bench.offer([192, 0, 2, 1])).collect();
        bench.tell(Notification::NotThere(RefusedError::NoSource));
        let answers = offers.into_iter().map(|mut offer| offer.try_recv().unwrap().unwrap_err());
        refused += answers.filter(|why| *why == OfferError::TooOften.into()).count();
    }
    assert!((100..=136).contains(&refused), "{refused} of 200");
    assert!(bench.offer([192, 0, 2, 2]).try_recv().is_err(), "another one waits for the path");
}

//! The uplink under streams that come and go: nobody starves, weights hold, no cap is exceeded, and
//! no time is lost.

use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const PIECE: u64 = 65_536;
const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;
const RATE: u64 = 10 << 20;

fn job(n: u128) -> JobId {
    JobId(Uuid::from_u128(n))
}

/// Streams that ask again so many nanoseconds after each piece, in virtual time.
struct Rig {
    uplink: Uplink,
    now: u64,
    /// When streams ask next: time, stream.
    due: std::collections::BTreeSet<(u64, usize)>,
    /// Job, bytes of a piece, pause.
    streams: Vec<(u128, u64, u64)>,
    asked: BTreeMap<PieceId, usize>,
    /// Time, stream, bytes.
    sent: Vec<(u64, usize, u64)>,
}

impl Rig {
    fn new(rate: Option<u64>, streams: &[(u128, u64, u64)]) -> Self {
        Self {
            uplink: Uplink::new(rate),
            now: S,
            due: (0..streams.len()).map(|stream| (S, stream)).collect(),
            streams: streams.to_vec(),
            asked: BTreeMap::new(),
            sent: Vec::new(),
        }
    }

    fn share(&mut self, n: u128, weight: u32, max_rate: Option<u64>, is_open: bool) {
        let share = Share { weight, max_rate, is_open };
        self.uplink.set_share(job(n), Some(share), self.now);
    }

    fn run(&mut self, until: u64) {
        loop {
            while let Some((at, stream)) =
                self.due.first().copied().filter(|(at, _)| *at <= self.now)
            {
                self.due.remove(&(at, stream));
                let (of, bytes, _) = self.streams[stream];
                let ask = self.uplink.ask(Some(job(of)), bytes, Rank::Child);
                self.asked.insert(ask, stream);
            }
            let wake = match self.uplink.next(self.now) {
                Next::Go(ask) => {
                    let stream = self.asked.remove(&ask).unwrap();
                    let (_, bytes, pause) = self.streams[stream];
                    self.sent.push((self.now, stream, bytes));
                    self.due.insert((self.now + pause, stream));
                    continue;
                }
                Next::At(at) => {
                    assert!(at > self.now, "a time that has passed");
                    at
                }
                Next::Nobody => u64::MAX,
            };
            let asks = self.due.first().map_or(u64::MAX, |(at, _)| *at);
            let next = wake.min(asks);
            if next > until {
                self.now = until;
                return;
            }
            self.now = next;
        }
    }

    fn bytes_of(&self, n: u128) -> u64 {
        self.sent.iter().filter(|(_, stream, _)| self.streams[*stream].0 == n).map(|s| s.2).sum()
    }

    fn all(&self) -> u64 {
        self.sent.iter().map(|sent| sent.2).sum()
    }

    /// Never more than the rate, the burst and a piece, from any piece to any later one.
    fn keeps_to(&self, rate: u64, is_counted: impl Fn(usize) -> bool) {
        let sent: Vec<_> = self.sent.iter().filter(|(_, stream, _)| is_counted(*stream)).collect();
        let piece = sent.iter().map(|sent| sent.2).max().unwrap_or(0);
        // Billionths of bytes above the rate, since the last time at which there were none.
        let (mut above, mut before) = (0_i128, sent.first().map_or(0, |sent| sent.0));
        let most = i128::from(rate) * i128::from(BURST_NS) + i128::from(piece * S);
        for (at, _, bytes) in sent {
            let passed = i128::from(rate) * i128::from(at - before);
            above = (above - passed).max(0) + i128::from(*bytes) * i128::from(S);
            before = *at;
            assert!(above <= most, "{above} of {most} at {at}");
        }
    }
}

#[test]
fn two_jobs_share_by_their_weights_and_the_streams_of_one_alike() {
    // One stream of weight 10, four of weight 1; each asks again a millisecond after its piece.
    let streams = [(1, PIECE, MS), (2, PIECE, MS), (2, PIECE, MS), (2, PIECE, MS), (2, PIECE, MS)];
    let mut rig = Rig::new(Some(RATE), &streams);
    rig.share(1, 10, None, true);
    rig.share(2, 1, None, true);
    rig.run(61 * S);
    let ratio = rig.bytes_of(1) as f64 / rig.bytes_of(2) as f64;
    assert!((9.7..=10.3).contains(&ratio), "{ratio}");
    let each = |stream| rig.sent.iter().filter(|sent| sent.1 == stream).count();
    let counts: Vec<_> = (1..5).map(each).collect();
    assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
    rig.keeps_to(RATE, |_| true);
}

#[test]
fn what_a_job_leaves_over_others_take_and_it_saves_up_nothing() {
    let mut rig = Rig::new(Some(RATE), &[(1, PIECE, MS), (2, PIECE, MS)]);
    rig.share(1, 9, Some(RATE / 10), true);
    rig.share(2, 1, None, true);
    rig.run(11 * S);
    let (one, all) = (rig.bytes_of(1), rig.all());
    assert!(one.abs_diff(RATE) < RATE / 20 && all.abs_diff(10 * RATE) < RATE / 5, "{one} {all}");
    rig.keeps_to(RATE / 10, |stream| stream == 0);
    // Its cap is lifted: it has nine tenths, not all that it could not have before.
    rig.share(1, 9, None, true);
    rig.run(21 * S);
    let more = rig.bytes_of(1) - one;
    assert!(more.abs_diff(9 * RATE) < RATE / 3, "{more}");
}

#[test]
fn closed_job_sends_nothing_until_it_opens() {
    let mut rig = Rig::new(None, &[(1, PIECE, MS)]);
    rig.share(1, 1, None, false);
    rig.run(5 * S);
    assert!(rig.sent.is_empty() && rig.uplink.waiting() == 1);
    rig.share(1, 1, None, true);
    rig.run(6 * S);
    assert!(rig.bytes_of(1) > 900 * PIECE);
}

#[test]
fn piece_that_is_withdrawn_costs_nothing_and_nothing_is_kept_of_its_job() {
    let mut uplink = Uplink::new(Some(RATE));
    let first = uplink.ask(Some(job(1)), PIECE, Rank::Child);
    let second = uplink.ask(None, PIECE, Rank::Child);
    uplink.withdraw(first);
    assert_eq!(uplink.next(S), Next::Go(second));
    uplink.withdraw(second);
    assert_eq!((uplink.next(S), uplink.waiting()), (Next::Nobody, 0));
    assert!(uplink.jobs.len() <= 1);
}

#[test]
fn rate_that_rises_is_not_held_up_by_what_was_taken_before() {
    let mut bucket = Bucket::new(Some(1));
    bucket.take(1 << 30, S);
    bucket.set_rate(Some(RATE), S);
    assert_eq!(bucket.free_ns(), S + BURST_NS);
    assert_eq!(Bucket::new(Some(0)).rate(), Some(1));
}

#[test]
fn rate_that_is_said_again_forgives_nothing() {
    let mut bucket = Bucket::new(Some(RATE));
    bucket.take(RATE * 3, S);
    let free_ns = bucket.free_ns();
    bucket.set_rate(Some(RATE), S);
    assert_eq!(bucket.free_ns(), free_ns);
}

#[test]
fn jobs_that_come_and_go_leave_no_trace_beyond_the_bound() {
    let mut uplink = Uplink::new(None);
    for n in 0..2 * CLASSES_MAX as u128 {
        uplink.ask(Some(job(n)), PIECE, Rank::Child);
        assert!(matches!(uplink.next(S), Next::Go(_)));
    }
    assert!(uplink.jobs.len() <= CLASSES_MAX + 1, "{}", uplink.jobs.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Streams of up to five jobs that ask at once again: each job has its part of the rate, the
    /// link is never idle, and each stream has its turn.
    #[test]
    fn weights_hold_no_stream_starves_and_no_time_is_lost(
        weights in proptest::collection::vec(1_u32..=10, 1..=5),
        streams in proptest::collection::vec((0_usize..5, 1_u64..=4), 5..20),
    ) {
        let count = weights.len();
        // Each job has a stream at least.
        let each = (0..count).map(|n| (n as u128, PIECE, 100));
        let more = streams.iter().map(|(n, units)| ((n % count) as u128, units * PIECE / 4, 100));
        let streams: Vec<_> = each.chain(more).collect();
        let mut rig = Rig::new(Some(RATE), &streams);
        for (n, weight) in weights.iter().enumerate() {
            rig.share(n as u128, *weight, None, true);
        }
        rig.run(41 * S);
        rig.keeps_to(RATE, |_| true);
        let all = rig.all();
        prop_assert!(all + 2 * PIECE >= 40 * RATE, "{all}");
        let sum: u32 = weights.iter().sum();
        for (n, weight) in weights.iter().enumerate() {
            let (part, has) = (all as f64 * f64::from(*weight) / f64::from(sum), rig.bytes_of(n as u128));
            let off = (has as f64 - part).abs() / part;
            prop_assert!(off < 0.05, "job {n}: {has} of {part}");
        }
        for stream in 0..streams.len() {
            prop_assert!(rig.sent.iter().any(|sent| sent.1 == stream), "{stream} starves");
        }
    }

    /// Whatever the caps: no job is above its own, all together are not above that of the link, and
    /// what the jobs may have and the link can carry is carried.
    #[test]
    fn caps_are_kept_and_used(
        jobs in proptest::collection::vec((1_u32..=10, 1_u64..=40), 1..=6),
    ) {
        let streams: Vec<_> = (0..jobs.len() as u128).map(|n| (n, PIECE / 4, 100)).collect();
        let mut rig = Rig::new(Some(RATE), &streams);
        for (n, (weight, cap)) in jobs.iter().enumerate() {
            rig.share(n as u128, *weight, Some(cap * RATE / 20), true);
        }
        rig.run(21 * S);
        rig.keeps_to(RATE, |_| true);
        for (n, (_, cap)) in jobs.iter().enumerate() {
            rig.keeps_to(cap * RATE / 20, |stream| stream == n);
        }
        let wanted = jobs.iter().map(|(_, cap)| cap * RATE / 20).sum::<u64>().min(RATE) * 20;
        prop_assert!(rig.all() + wanted / 20 >= wanted, "{} of {wanted}", rig.all());
    }
}

#[test]
fn piece_of_a_part_leaves_when_no_other_piece_of_any_job_could() {
    let mut uplink = Uplink::new(Some(RATE));
    let spare = uplink.ask(Some(job(1)), PIECE, Rank::Spare);
    let child = uplink.ask(Some(job(1)), PIECE, Rank::Child);
    let other = uplink.ask(Some(job(2)), PIECE, Rank::Child);
    let withdrawn = uplink.ask(Some(job(2)), PIECE, Rank::Spare);
    uplink.withdraw(withdrawn);
    let mut left = Vec::new();
    let mut now = S;
    while left.len() < 3 {
        match uplink.next(now) {
            Next::Go(piece) => left.push(piece),
            Next::At(at) => now = at,
            Next::Nobody => panic!("pieces wait"),
        }
    }
    assert_eq!(left, [child, other, spare]);
    assert_eq!((uplink.next(now + S), uplink.waiting()), (Next::Nobody, 0));
}

proptest! {
    #[test]
    fn no_child_waits_longer_for_the_sake_of_a_part(
        ranks in prop::collection::vec((0_u8..3, any::<bool>(), 1_u64..4), 1..60),
    ) {
        let mut uplink = Uplink::new(Some(RATE));
        let mut alone = Uplink::new(Some(RATE));
        let (mut children, mut now) = (BTreeMap::new(), S);
        for (of, is_spare, ms) in ranks {
            now += ms * MS;
            let rank = if is_spare { Rank::Spare } else { Rank::Child };
            let piece = uplink.ask(Some(job(of.into())), PIECE, rank);
            if !is_spare {
                children.insert(piece, alone.ask(Some(job(of.into())), PIECE, Rank::Child));
            }
            while let Next::Go(piece) = uplink.next(now) {
                children.remove(&piece);
            }
            while matches!(alone.next(now), Next::Go(_)) {}
            // What an idle uplink saves up may be used up; a piece that leaves is not taken back.
            let burst = usize::try_from(RATE * BURST_NS / S / PIECE).unwrap();
            prop_assert!(children.len() <= alone.waiting() + burst + 1);
        }
    }
}

//! Who may send next: one uplink, split among jobs by weight.
//!
//! ```text
//! streams: ask(job, bytes) --> wait by job, first come first --next(now)--> Go: the piece leaves
//!                                                                     `--> At: nobody before then
//! ```
//! A stream asks for one piece at a time. Of the jobs that wait, are open and have not spent their
//! own rate, the one with the least virtual time is next; a piece moves its job's virtual time on
//! by bytes over weight (start-time fair queueing, Goyal et al. 1996). A deficit round robin would
//! take the turn of a job away in the moment in which its only stream is sending.
//!
//! Pieces of parts for nodes that have another source ([`Rank::Spare`]) leave when no other piece
//! of any job could: the children of a source lose nothing to them.
//!
//! Invariants: in any time `t` no more than `rate * (t + BURST_NS) + a piece` leaves, of all jobs
//! and of one with a rate; an uplink with bytes to spare and a job that may send is never idle; a
//! job that did not wait saves up nothing. Without a rate pieces leave at once, and what splits the
//! link is TCP. Bound: the caller's number of streams.

use std::collections::{BTreeMap, VecDeque};

use crate::dist::ids::JobId;

/// Bytes that pass at a rate.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    rate: Option<u64>,
    /// When all that was taken has passed.
    paid_ns: u64,
}

/// A piece that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceId(u64);

/// Which pieces go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// Of a child.
    Child,
    /// Of a part for a node that has another source: what is left over.
    Spare,
}

/// See the module.
#[derive(Debug)]
pub struct Uplink {
    link: Bucket,
    jobs: BTreeMap<Option<JobId>, Class>,
    /// By piece, the job whose it is.
    asks: BTreeMap<PieceId, (Option<JobId>, Rank)>,
    last_ask: u64,
    /// Virtual time of the piece that left last.
    virtual_time: u128,
}

/// A job's part of an uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Bytes are split among jobs that wait in proportion to this; 1 at least.
    pub weight: u32,
    /// Bytes per second at most.
    pub max_rate: Option<u64>,
    /// Bytes may leave.
    pub is_open: bool,
}

/// What [`Uplink::next`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// This piece leaves now.
    Go(PieceId),
    /// No piece leaves before this time, unless something changes.
    At(u64),
    /// No piece waits that could leave.
    Nobody,
}

/// What waits of a job, and what it has had.
#[derive(Debug)]
struct Class {
    share: Share,
    /// Somebody has said what its share is.
    is_known: bool,
    bucket: Bucket,
    waiting: VecDeque<(PieceId, u64)>,
    /// The same of parts for nodes with another source.
    spare: VecDeque<(PieceId, u64)>,
    /// Virtual time at which its next piece starts.
    start: u128,
}

impl Bucket {
    /// Without a rate everything passes. A rate of nothing counts as one byte a second: it would
    /// hold up streams for ever.
    #[must_use]
    pub fn new(rate: Option<u64>) -> Self {
        Self { rate: rate.map(|rate| rate.max(1)), paid_ns: 0 }
    }

    /// Bytes per second.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        self.rate
    }

    /// Changes the rate for what is taken from now on. What was taken at a lower rate does not hold
    /// up what follows. The rate of now changes nothing.
    pub fn set_rate(&mut self, rate: Option<u64>, now_ns: u64) {
        let rate = rate.map(|rate| rate.max(1));
        if self.rate == rate {
            return;
        }
        self.rate = rate;
        self.paid_ns = self.paid_ns.min(now_ns.saturating_add(BURST_NS));
    }

    /// When the next bytes may pass.
    #[must_use]
    pub fn free_ns(&self) -> u64 {
        if self.rate.is_some() { self.paid_ns } else { 0 }
    }

    /// `bytes` are taken.
    pub fn take(&mut self, bytes: u64, now_ns: u64) {
        let Some(rate) = self.rate else { return };
        let took_ns = (u128::from(bytes) * NS_PER_S).div_ceil(u128::from(rate));
        let start_ns = self.paid_ns.max(now_ns.saturating_sub(BURST_NS));
        self.paid_ns = start_ns.saturating_add(u64::try_from(took_ns).unwrap_or(u64::MAX));
    }
}

impl Uplink {
    /// Bytes per second; `None`: any number.
    #[must_use]
    pub fn new(rate: Option<u64>) -> Self {
        Self {
            link: Bucket::new(rate),
            jobs: BTreeMap::new(),
            asks: BTreeMap::new(),
            last_ask: 0,
            virtual_time: 0,
        }
    }

    /// Bytes per second of all jobs.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        self.link.rate()
    }

    /// Changes the rate of all jobs.
    pub fn set_rate(&mut self, rate: Option<u64>, now_ns: u64) {
        self.link.set_rate(rate, now_ns);
    }

    /// Says what a job's part is; `None`: the job has ended.
    pub fn set_share(&mut self, job: JobId, share: Option<Share>, now_ns: u64) {
        let class = self.class(Some(job));
        class.is_known = share.is_some();
        class.share = share.unwrap_or_default();
        if class.bucket.rate() != class.share.max_rate {
            class.bucket.set_rate(class.share.max_rate, now_ns);
        }
        self.tidy(Some(job));
    }

    /// A stream has a piece of a job to send; `None` for one of which no job is known.
    pub fn ask(&mut self, job: Option<JobId>, bytes: u64, rank: Rank) -> PieceId {
        self.last_ask += 1;
        let id = PieceId(self.last_ask);
        let virtual_time = self.virtual_time;
        let class = self.class(job);
        if class.waits_for_nothing() {
            class.start = class.start.max(virtual_time);
        }
        class.queue(rank).push_back((id, bytes));
        self.asks.insert(id, (job, rank));
        id
    }

    /// A piece is not to be sent any more. No effect on one that has left.
    pub fn withdraw(&mut self, id: PieceId) {
        let Some((job, rank)) = self.asks.remove(&id) else { return };
        self.class(job).queue(rank).retain(|(ask, _)| *ask != id);
        self.tidy(job);
    }

    /// The piece that leaves at `now_ns`, if one does. To be asked again until none does.
    pub fn next(&mut self, now_ns: u64) -> Next {
        let waiting = self.jobs.iter().filter(|(_, class)| class.may_send());
        let free_ns = self.link.free_ns();
        let mut first: Option<(Rank, u128, Option<JobId>)> = None;
        let mut soonest: Option<u64> = None;
        for (job, class) in waiting {
            let at_ns = class.bucket.free_ns().max(free_ns);
            if at_ns > now_ns {
                soonest = Some(soonest.map_or(at_ns, |soonest| soonest.min(at_ns)));
            } else if first
                .is_none_or(|(rank, start, _)| (class.rank(), class.start) < (rank, start))
            {
                first = Some((class.rank(), class.start, *job));
            }
        }
        let Some((rank, start, job)) = first else {
            return soonest.map_or(Next::Nobody, Next::At);
        };
        let class = self.class(job);
        let Some((id, bytes)) = class.queue(rank).pop_front() else { return Next::Nobody };
        class.bucket.take(bytes, now_ns);
        class.start = start + u128::from(bytes) * SCALE / u128::from(class.share.weight.max(1));
        self.link.take(bytes, now_ns);
        self.virtual_time = self.virtual_time.max(start);
        self.asks.remove(&id);
        self.tidy(job);
        Next::Go(id)
    }

    /// Whether pieces of a job wait because the job is closed or has spent its own rate, and not
    /// for the link.
    #[must_use]
    pub fn holds(&self, job: Option<JobId>, now_ns: u64) -> bool {
        let class = self.jobs.get(&job).filter(|class| !class.waits_for_nothing());
        class.is_some_and(|class| {
            !class.share.is_open || class.bucket.free_ns() > self.link.free_ns().max(now_ns)
        })
    }

    /// Pieces that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.asks.len()
    }

    fn class(&mut self, job: Option<JobId>) -> &mut Class {
        let start = self.virtual_time;
        self.jobs.entry(job).or_insert_with(|| Class {
            share: Share::default(),
            is_known: false,
            bucket: Bucket::new(None),
            waiting: VecDeque::new(),
            spare: VecDeque::new(),
            start,
        })
    }

    /// Lets go of a job of which nothing is said and nothing waits, once what it had does not count
    /// any more, or there are many of them.
    fn tidy(&mut self, job: Option<JobId>) {
        let is_any = self.jobs.len() > CLASSES_MAX;
        let virtual_time = self.virtual_time;
        let is_over = |class: &Class| {
            let is_even = class.start <= virtual_time;
            !class.is_known && class.waits_for_nothing() && (is_even || is_any)
        };
        if self.jobs.get(&job).is_some_and(is_over) {
            self.jobs.remove(&job);
        }
    }
}

impl Default for Share {
    /// Of a job about which nothing was said.
    fn default() -> Self {
        Self { weight: weight_of(0), max_rate: None, is_open: true }
    }
}

/// A priority of 9 has ten times the bytes of a priority of 0.
#[must_use]
pub fn weight_of(priority: u8) -> u32 {
    u32::from(priority) + 1
}

impl Class {
    fn may_send(&self) -> bool {
        self.share.is_open && !self.waits_for_nothing()
    }

    fn waits_for_nothing(&self) -> bool {
        self.waiting.is_empty() && self.spare.is_empty()
    }

    /// Of its next piece.
    fn rank(&self) -> Rank {
        if self.waiting.is_empty() { Rank::Spare } else { Rank::Child }
    }

    fn queue(&mut self, rank: Rank) -> &mut VecDeque<(PieceId, u64)> {
        match rank {
            Rank::Child => &mut self.waiting,
            Rank::Spare => &mut self.spare,
        }
    }
}

/// Time for which bytes may be saved up.
pub const BURST_NS: u64 = 50_000_000;
const NS_PER_S: u128 = 1_000_000_000;
/// Of virtual time: bytes over a weight of up to 10 leave no rest that counts.
const SCALE: u128 = 1_000;
/// Jobs of which nothing is said, and nothing waits now, are forgotten beyond this.
const CLASSES_MAX: usize = 4_096;

#[cfg(test)]
mod tests;

//! What hosts may send and take of a job: the product's uplink and buckets, in virtual time.
//!
//! ```text
//! stream has a frame --> Uplink of its source --Go--> the network      At(t) --> looked at then
//! frame at a node --> Bucket of its job --> taken, or told as held
//! ```
//! Checked where bytes leave and are taken, by the policy in the ledger and nothing else: no job is
//! above a rate of it, and none sends while its window is closed.

use std::collections::BTreeMap;

use headend::dist::ids::JobId;
use headend::dist::uplink::{BURST_NS, Bucket, Next, PieceId, Rank, Share, Uplink};

use crate::dice::S;
use crate::network::{BASE, Host, host_of};
use crate::streams::{StreamId, Streams};
use crate::world::{Event, World};

/// Uplinks of hosts, and what jobs may take at nodes.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    uplinks: BTreeMap<Host, Uplink>,
    asked: BTreeMap<(Host, PieceId), StreamId>,
    /// When uplinks are looked at next.
    due: BTreeMap<Host, u64>,
    buckets: BTreeMap<(Host, JobId), Bucket>,
    /// Billionths of bytes above a rate of a policy: when they were counted, and how many.
    above: BTreeMap<(Host, JobId, End), (u64, u128)>,
    /// Rates of the policies, and when they became these.
    rates: BTreeMap<JobId, (Rates, u64)>,
    /// When each host last heard orders of the base.
    pub(crate) heard: BTreeMap<Host, u64>,
    /// Bytes by host and job, since the start of the run.
    pub(crate) sent: BTreeMap<(Host, JobId), u64>,
}

/// Of a job at each source, and at each node.
type Rates = (Option<u64>, Option<u64>);

/// Which end of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Source,
    Node,
}

impl Streams {
    /// The process of a host is gone, with all that it knew.
    pub(crate) fn drop_uplink(&mut self, host: Host) {
        let shares = &mut self.shares;
        shares.uplinks.remove(&host);
        shares.asked.retain(|(of, _), _| *of != host);
        shares.buckets.retain(|(of, _), _| *of != host);
        shares.above.retain(|(of, ..), _| *of != host);
        for stream in self.all.values_mut().filter(|stream| stream.source == host) {
            stream.ask = None;
        }
    }

    /// A stream does not send what it asked for.
    pub(crate) fn withdraw(&mut self, source: Host, ask: PieceId) {
        self.shares.asked.remove(&(source, ask));
        if let Some(uplink) = self.shares.uplinks.get_mut(&source) {
            uplink.withdraw(ask);
        }
    }
}

impl World {
    /// A job's part of the uplink of a host.
    pub(crate) fn share_uplink(&mut self, host: Host, job: JobId, share: Option<Share>) {
        let now = self.now;
        if share.is_none() {
            // Whoever hears of a job anew begins to count anew.
            self.streams.shares.above.retain(|(of, known, _), _| (*of, *known) != (host, job));
        }
        self.uplink(host).set_share(job, share, now);
        self.uplink_goes(host);
    }

    /// What a node may send and take of a job.
    pub(crate) fn limit_job(&mut self, n: usize, job: JobId, limit: Option<(Share, Option<u64>)>) {
        let (host, now) = (host_of(n), self.now);
        self.share_uplink(host, job, limit.map(|(share, _)| share));
        let rate = limit.and_then(|(_, rate)| rate);
        let bucket = self.streams.shares.buckets.entry((host, job));
        bucket.or_insert_with(|| Bucket::new(rate)).set_rate(rate, now);
    }

    /// A stream has so many bytes to send.
    pub(crate) fn ask_uplink(&mut self, id: StreamId, source: Host, bytes: u64) {
        let Some(stream) = self.streams.all.get(&id) else { return };
        // The base gives what its plan says.
        let is_left_over = stream.is_spare() && source != BASE;
        let rank = if is_left_over { Rank::Spare } else { Rank::Child };
        let job = stream.job;
        let ask = self.uplink(source).ask(job, bytes, rank);
        self.streams.shares.asked.insert((source, ask), id);
        if let Some(stream) = self.streams.all.get_mut(&id) {
            stream.ask = Some(ask);
        }
        self.uplink_goes(source);
    }

    /// What may leave a host leaves it.
    pub(crate) fn uplink_goes(&mut self, host: Host) {
        loop {
            let now = self.now;
            match self.uplink(host).next(now) {
                Next::Go(ask) => {
                    let id = self.streams.shares.asked.remove(&(host, ask));
                    if let Some(id) = id {
                        self.send(id);
                    }
                }
                Next::At(at) => {
                    let due = self.streams.shares.due.entry(host).or_insert(u64::MAX);
                    if at < *due {
                        *due = at;
                        self.at(at, Event::Uplink(host));
                    }
                    return;
                }
                Next::Nobody => return,
            }
        }
    }

    /// An uplink is looked at.
    pub(crate) fn uplink_due(&mut self, host: Host) {
        if self.streams.shares.due.get(&host).is_some_and(|due| *due <= self.now) {
            self.streams.shares.due.remove(&host);
        }
        if self.is_up(host) {
            self.uplink_goes(host);
        }
    }

    /// Whether the policy of a job lets its streams wait at a host.
    pub(crate) fn holds(&self, host: Host, job: Option<JobId>) -> bool {
        let uplink = self.streams.shares.uplinks.get(&host);
        uplink.is_some_and(|uplink| uplink.holds(job, self.now))
    }

    /// When a node may take the next bytes of a job.
    pub(crate) fn may_take_at(&self, n: usize, job: Option<JobId>) -> u64 {
        let bucket = job.and_then(|job| self.streams.shares.buckets.get(&(host_of(n), job)));
        bucket.map_or(0, Bucket::free_ns)
    }

    /// A node takes bytes of a job.
    pub(crate) fn take(&mut self, n: usize, job: Option<JobId>, bytes: u64) {
        let (host, now) = (host_of(n), self.now);
        let Some(job) = job else { return };
        if let Some(bucket) = self.streams.shares.buckets.get_mut(&(host, job)) {
            bucket.take(bytes, now);
        }
        self.check_rate(host, job, bytes, End::Node);
    }

    /// Bytes of a job leave a host: what its policy says of that.
    pub(crate) fn check_policy(&mut self, host: Host, job: JobId, bytes: u64) {
        *self.streams.shares.sent.entry((host, job)).or_default() += bytes;
        self.check_rate(host, job, bytes, End::Source);
        let utc_ns = self.utc_ns(BASE);
        let row = self.base.ledger.jobs.get(&job);
        let Some(row) = row.filter(|row| row.state.is_live()) else { return };
        let Some(window) = row.policy.window.as_ref().filter(|_| !self.watch.is_reordered) else {
            return;
        };
        let closed_ns = utc_ns - i64::try_from(CLOSED_SLACK).unwrap_or(0);
        let hours = window.hours(closed_ns);
        let is_closed =
            !hours.is_open && hours.next_change_ns(closed_ns).is_none_or(|at| at > utc_ns);
        assert!(!is_closed, "host {host} sends of job {job}, whose window is closed");
    }

    /// Policies have become those of the ledger.
    pub(crate) fn note_rates(&mut self) {
        let Shares { above, rates, .. } = &mut self.streams.shares;
        for (job, row) in &self.base.ledger.jobs {
            let found = (row.policy.max_rate, row.policy.per_node_rate);
            let (known, since) = rates.entry(*job).or_insert((found, 0));
            if *known != found {
                (*known, *since) = (found, self.now);
                above.retain(|(_, of, _), _| of != job);
            }
        }
    }

    fn check_rate(&mut self, host: Host, job: JobId, bytes: u64, end: End) {
        // What is withdrawn may still be under way without its terms.
        let row = self.base.ledger.jobs.get(&job);
        let Some(row) = row.filter(|row| row.state.is_live()) else { return };
        let policy = &row.policy;
        let rate = if end == End::Source { policy.max_rate } else { policy.per_node_rate };
        let now = self.now;
        let Shares { above, rates, heard, .. } = &mut self.streams.shares;
        let since = rates.get(&job).map_or(0, |(_, since)| *since);
        let Some(rate) = rate.filter(|_| !self.watch.is_reordered) else { return };
        // Whoever has not heard of a change yet keeps to the rates of before. Nodes hand it on to
        // each other; who has not got it so is told by the base, in front of what follows.
        let heard_at = heard.get(&host).copied().unwrap_or(0);
        let is_told_by = if since == 0 { 0 } else { since + HANDED_ON_WITHIN };
        if host != BASE && heard_at < is_told_by {
            return;
        }
        let (since, count) = above.get(&(host, job, end)).copied().unwrap_or((now, 0));
        let passed = u128::from(rate) * u128::from(now - since);
        let count = count.saturating_sub(passed) + u128::from(bytes * S);
        above.insert((host, job, end), (now, count));
        let most = u128::from(rate * BURST_NS + FRAME_MAX * S);
        let bytes = count / u128::from(S);
        assert!(count <= most, "{end:?} {host}: {bytes} bytes of job {job} above {rate} a second");
    }

    fn uplink(&mut self, host: Host) -> &mut Uplink {
        let rate = match host {
            BASE => self.setup.base_up_rate,
            host => self.nodes[host - 1].up_rate,
        };
        self.streams.shares.uplinks.entry(host).or_insert_with(|| Uplink::new(rate))
    }
}

/// What has not come from another node by then, the base has said itself.
const HANDED_ON_WITHIN: u64 = 4 * S;
/// A unit with its header.
const FRAME_MAX: u64 = 65_536 + 13;
/// A node hears the time of the base with an answer that a slow ledger holds up.
const CLOSED_SLACK: u64 = 5 * S;

//! What links carry: the rate that somebody declared, or the best that was seen.

/// The base's own link.
#[derive(Debug)]
pub(super) struct BaseLink {
    /// Bytes per second that it may send.
    cap: Option<u64>,
    meter: RateMeter,
}

/// Best second of sending.
#[derive(Debug, Default)]
struct RateMeter {
    since_ns: u64,
    bytes: u64,
    best: u64,
}

/// Bytes per second that a node's links were last found to carry at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlowLinks {
    pub(super) up: u64,
    pub(super) down: u64,
    pub(super) since_ns: u64,
}

impl SlowLinks {
    /// Nothing was found.
    pub(super) const NONE: Self = Self { up: u64::MAX, down: u64::MAX, since_ns: 0 };

    /// What still counts of it: a link may be well again.
    pub(super) fn at(self, now_ns: u64) -> Self {
        let is_old = now_ns.saturating_sub(self.since_ns) >= SLOW_NS;
        if is_old { Self::NONE } else { self }
    }
}

impl BaseLink {
    pub(super) fn new(cap: Option<u64>) -> Self {
        Self { cap, meter: RateMeter::default() }
    }

    pub(super) fn set_cap(&mut self, cap: Option<u64>) {
        self.cap = cap;
    }

    /// `bytes` were sent.
    pub(super) fn sent(&mut self, bytes: u64, now_ns: u64) {
        self.meter.add(bytes, now_ns);
    }

    /// Bytes per second that plans of a job with this limit count on.
    pub(super) fn planned(&self, limit: Option<u64>) -> u64 {
        planned_rate(self.cap, self.meter.best).min(limit.unwrap_or(u64::MAX))
    }

    /// Bytes per second, when they are known.
    pub(super) fn known(&self) -> Option<u64> {
        known_rate(self.cap, self.meter.best)
    }
}

impl RateMeter {
    fn add(&mut self, bytes: u64, now_ns: u64) {
        let past_ns = now_ns.saturating_sub(self.since_ns);
        if past_ns >= NS_PER_S {
            let rate = u128::from(self.bytes) * u128::from(NS_PER_S) / u128::from(past_ns);
            self.best = self.best.max(u64::try_from(rate).unwrap_or(u64::MAX));
            (self.since_ns, self.bytes) = (now_ns, 0);
        }
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// A cap that was declared counts; without one, nine tenths of the best second, but never less than
/// what is assumed of everybody: a second in which little was to be sent says nothing of the link.
pub(super) fn planned_rate(cap: Option<u64>, seen: u64) -> u64 {
    cap.unwrap_or_else(|| RATE_UNKNOWN.max(seen - seen / 10))
}

/// Whether [`planned_rate`] is not what is assumed of everybody.
pub(super) fn is_planned_by_what_is_known(cap: Option<u64>, seen: u64) -> bool {
    cap.is_some() || seen - seen / 10 > RATE_UNKNOWN
}

/// What was declared, or seen.
pub(super) fn known_rate(cap: Option<u64>, seen: u64) -> Option<u64> {
    cap.or_else(|| Some(seen).filter(|seen| *seen > 0))
}

/// For so long a link that was found to be slow is planned as such.
const SLOW_NS: u64 = 120 * NS_PER_S;
/// Bytes per second that a link is planned with when nobody has said or seen more: 50 Mbit/s.
const RATE_UNKNOWN: u64 = 6_250_000;
pub(super) const NS_PER_S: u64 = 1_000_000_000;

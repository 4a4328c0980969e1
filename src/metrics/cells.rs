//! What shards and workers write.
//!
//! ```text
//! shard thread:  load, add, store     control thread at scrape:  load
//! ```
//! Invariant: only the owning shard's thread writes its [`ShardCells`], so `Counter` needs no
//! read-modify-write instruction. Workers share [`WorkerCells`]; those cells do.
//! Bound: fixed size, made once at start-up. Counters wrap at 2^64.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use super::histogram::{Bursts, Lateness, LossRatio};
use super::requests::Requests;
use crate::base::time::Mono;

/// A number that only grows, written by one thread.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds `n`. Only the owning thread may call this: two writers would lose counts.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The number now, from any thread.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down, written by one thread.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Replaces the number.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Replaces the number by a larger one.
    pub fn raise_to(&self, value: u64) {
        if value > self.value() {
            self.set(value);
        }
    }

    /// Adds `n`; for the one thread that writes.
    pub fn add(&self, n: u64) {
        self.set(self.value().wrapping_add(n));
    }

    /// Takes `n` away; for the one thread that writes.
    pub fn sub(&self, n: u64) {
        self.set(self.value().wrapping_sub(n));
    }

    /// The number now, from any thread.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one owner adds to a gauge of its shard, until it is dropped.
#[derive(Debug)]
pub struct Share {
    cells: Arc<ShardCells>,
    gauge: fn(&ShardCells) -> &Gauge,
    amount: u64,
}

impl Share {
    /// Adds `amount`. The owner lives and dies on the thread that writes the gauge.
    #[must_use]
    pub fn new(cells: &Arc<ShardCells>, gauge: fn(&ShardCells) -> &Gauge, amount: u64) -> Self {
        gauge(cells).add(amount);
        Self { cells: Arc::clone(cells), gauge, amount }
    }

    /// Changes what it adds.
    pub fn set(&mut self, amount: u64) {
        let gauge = (self.gauge)(&self.cells);
        gauge.set(gauge.value().wrapping_sub(self.amount).wrapping_add(amount));
        self.amount = amount;
    }

    /// What it adds.
    #[must_use]
    pub fn amount(&self) -> u64 {
        self.amount
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// A number that only grows, written by several threads.
#[derive(Debug, Default)]
pub struct SharedCounter(AtomicU64);

impl SharedCounter {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Numbers about the log, which is one for the process.
#[derive(Debug, Default)]
pub struct LogCells {
    /// Lines that nobody took from the process in time.
    pub lines_lost: SharedCounter,
    /// Lines left out because there were too many of their kind.
    pub lines_limited: SharedCounter,
    /// The most lines of one kind in one second so far.
    pub lines_in_a_second: SharedGauge,
}

/// Numbers about the log of this process.
pub static LOG: LogCells = LogCells {
    lines_lost: SharedCounter(AtomicU64::new(0)),
    lines_limited: SharedCounter(AtomicU64::new(0)),
    lines_in_a_second: SharedGauge(AtomicU64::new(0)),
};

/// Numbers about packets of live paths in memory.
#[derive(Debug)]
pub struct LiveCells {
    /// Their bytes, bookkeeping included.
    pub bytes: SharedGauge,
    /// How many they may be.
    pub bytes_max: SharedGauge,
}

impl LiveCells {
    /// Whether there are more than there may be.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.bytes.value() > self.bytes_max.value()
    }
}

/// Packets of live paths in this process; without limit until one is set.
pub static LIVE: LiveCells = LiveCells {
    bytes: SharedGauge(AtomicU64::new(0)),
    bytes_max: SharedGauge(AtomicU64::new(u64::MAX >> 1)),
};

/// Numbers about the connections to one of the ports for HTTP.
#[derive(Debug)]
pub struct HttpCells {
    /// Open connections.
    pub connections: SharedGauge,
    /// Connections refused because a limit was reached.
    pub connections_refused: SharedCounter,
    /// Connections ended because their request did not come in time.
    pub requests_timed_out: SharedCounter,
}

impl HttpCells {
    const fn new() -> Self {
        Self {
            connections: SharedGauge(AtomicU64::new(0)),
            connections_refused: SharedCounter(AtomicU64::new(0)),
            requests_timed_out: SharedCounter(AtomicU64::new(0)),
        }
    }
}

/// Numbers about the HTTP API.
#[derive(Debug)]
pub struct AdminCells {
    /// Its connections.
    pub http: HttpCells,
    /// Feeds of the dashboard that are open.
    pub feeds: SharedGauge,
    /// Feeds of the dashboard refused because there were too many.
    pub feeds_refused: SharedCounter,
    /// Feeds of the dashboard ended because their page did not read.
    pub feeds_dropped: SharedCounter,
}

/// The HTTP API of this process.
pub static ADMIN: AdminCells = AdminCells {
    http: HttpCells::new(),
    feeds: SharedGauge(AtomicU64::new(0)),
    feeds_refused: SharedCounter(AtomicU64::new(0)),
    feeds_dropped: SharedCounter(AtomicU64::new(0)),
};

/// HLS of this process.
pub static HLS: HlsCells = HlsCells {
    http: HttpCells::new(),
    requests: SharedCounter(AtomicU64::new(0)),
    logins_failed: SharedCounter(AtomicU64::new(0)),
    sent_bytes: SharedCounter(AtomicU64::new(0)),
    live_paths: SharedGauge(AtomicU64::new(0)),
    live_bytes: SharedGauge(AtomicU64::new(0)),
    parts: SharedCounter(AtomicU64::new(0)),
    frames_lost: SharedCounter(AtomicU64::new(0)),
    segments_evicted: SharedCounter(AtomicU64::new(0)),
    turned_away: SharedCounter(AtomicU64::new(0)),
    seen_ns: SharedGauge(AtomicU64::new(0)),
    viewers: SharedGauge(AtomicU64::new(0)),
};

/// Numbers about HLS, which is one for the process.
#[derive(Debug)]
pub struct HlsCells {
    /// Its connections.
    pub http: HttpCells,
    /// Requests.
    pub requests: SharedCounter,
    /// Logins that were wrong.
    pub logins_failed: SharedCounter,
    /// Bytes of playlists, segments and parts that were given to connections.
    pub sent_bytes: SharedCounter,
    /// Live paths that are made into segments.
    pub live_paths: SharedGauge,
    /// Memory of their segments.
    pub live_bytes: SharedGauge,
    /// Parts that were made.
    pub parts: SharedCounter,
    /// Frames of live paths that were left out because packets of them are missing.
    pub frames_lost: SharedCounter,
    /// Segments that were dropped early because a path's memory was full.
    pub segments_evicted: SharedCounter,
    /// Requests that were redirected or refused because the server is drained.
    pub turned_away: SharedCounter,
    /// Time of the shards' clock at which a viewer was answered last; 0: there was none.
    pub seen_ns: SharedGauge,
    /// Clients that have asked for a playlist, a segment or a part within half a minute.
    pub viewers: SharedGauge,
}

/// When the certificate of the RTSPS port expires.
#[derive(Debug)]
pub struct CertificateCell(AtomicI64);

/// The certificate of this process.
pub static CERTIFICATE: CertificateCell = CertificateCell(AtomicI64::new(i64::MIN));

impl CertificateCell {
    /// UTC seconds from which on it does not count; `None`: there is none.
    pub fn set_not_after(&self, not_after_s: Option<i64>) {
        self.0.store(not_after_s.unwrap_or(i64::MIN), Relaxed);
    }

    /// Seconds for which it still counts; 0 when it does not, or there is none.
    #[must_use]
    pub fn seconds_left(&self, now_s: i64) -> u64 {
        u64::try_from(self.0.load(Relaxed).saturating_sub(now_s)).unwrap_or(0)
    }
}

/// A number that goes up and down, written by several threads.
#[derive(Debug, Default)]
pub struct SharedGauge(AtomicU64);

impl SharedGauge {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Replaces the number.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Replaces the number by a larger one.
    pub fn raise_to(&self, value: u64) {
        self.0.fetch_max(value, Relaxed);
    }

    /// Takes `n` away. A reader that comes between a late `add` and an early `sub` is shown zero.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn value(&self) -> u64 {
        let value = self.0.load(Relaxed);
        if value > u64::MAX / 2 { 0 } else { value }
    }
}

/// Names of the states that `ShardCells::sessions` counts, by index.
pub const SESSION_STATES: [&str; 3] = ["ready", "playing", "paused"];

/// Names of the levels that `ShardCells::quality_levels` counts, by index.
pub const QUALITY_LEVELS: [&str; 3] = ["full", "reference", "sync"];

/// Names of the causes that `ShardCells::quality_changes` counts, by index.
pub const QUALITY_CAUSES: [&str; 3] = ["loss", "lag", "clean"];

/// Names of the reasons that `ShardCells::rtx_refused` counts, by index.
pub const RTX_REFUSALS: [&str; 5] = ["unknown", "repeated", "rate", "cold", "busy"];

/// Names of the reasons that `ShardCells::srtp_refused` counts, by index.
pub const SRTP_REFUSALS: [&str; 4] = ["malformed", "forged", "replayed", "sources"];

/// Names of the causes that `ShardCells::handovers` counts, by index.
pub const HANDOVER_CAUSES: [&str; 4] = ["start", "lost", "better", "operator"];

/// Names of the reasons that `ShardCells::tls_handshakes_failed` counts, by index.
pub const TLS_FAILURES: [&str; 8] =
    ["plain", "alert", "certificate", "incompatible", "protocol", "timeout", "closed", "limit"];

/// Names of the reasons that `ShardCells::tunnels_refused` counts, by index.
pub const TUNNEL_REFUSALS: [&str; 5] = ["unknown", "taken", "full", "off", "malformed"];

/// Names of the answers that `ShardCells::drain_answers` counts, by index.
pub const DRAIN_ANSWERS: [&str; 2] = ["redirect", "retry"];

/// Names of who encrypts, by index: `ShardCells::tls_connections`.
pub const TLS_WAYS: [&str; 2] = ["user", "kernel"];

/// The cells of one shard. A shard keeps them in an `Arc` of its own, aligned so that no two
/// shards write to the same cache line (128 bytes: line pairs are fetched together).
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ShardCells {
    /// RTP packets handed to the kernel, by [`crate::base::carrier::Lower`].
    pub rtp_packets_sent: [Counter; 2],
    /// Their payload without RTP headers.
    pub rtp_payload_bytes_sent: [Counter; 2],
    /// RTP packets that were taken from sources of live paths.
    pub source_packets_received: Counter,
    /// Their bytes, headers included.
    pub source_bytes_received: Counter,
    /// Packets of sources that were not taken.
    pub source_packets_dropped: Counter,
    /// Times that reading went on behind bytes that were no frame and no message.
    pub framing_resyncs: Counter,
    /// Completed send operations that carried RTP.
    pub send_calls: [Counter; 2],
    /// Packets that left as a segment of a longer UDP send (GSO).
    pub gso_segments: Counter,
    /// RTP packets that left out of images.
    pub image_packets: Counter,
    /// Segmented sends that a route refused.
    pub gso_refusals: Counter,
    /// Sends whose bytes the kernel took without a copy, by [`crate::base::carrier::Lower`].
    pub send_zerocopy: [Counter; 2],
    /// Sends whose bytes it copied although it was asked not to.
    pub send_zerocopy_copied: [Counter; 2],
    /// Sends without a copy that it refused.
    pub send_zerocopy_refused: [Counter; 2],
    /// Sends that met a full socket buffer (EAGAIN) and were tried again.
    pub send_again: Counter,
    /// Sends that failed for good.
    pub send_errors: Counter,
    /// How long after their due time packets were handed to the kernel.
    pub send_lateness: Lateness,
    /// Packets of one UDP stream in one turn.
    pub send_burst: Bursts,
    /// Compound RTCP packets sent.
    pub rtcp_packets_sent: Counter,
    /// Of these, packets that were given up because there was no room to send them.
    pub rtcp_packets_dropped: Counter,
    /// Receiver report blocks that named one of our streams.
    pub rtcp_reports_received: Counter,
    /// Datagrams or interleaved packets that are not RTCP (RFC 3550 appendix A.2).
    pub rtcp_malformed: Counter,
    /// Datagrams from a client tuple that belongs to no stream.
    pub datagrams_unmatched: Counter,
    /// Datagrams that no buffer held.
    pub datagrams_oversized: Counter,
    /// Datagrams that came faster than the shard takes them.
    pub datagrams_dropped: Counter,
    /// Turns that began to send before the sends of the turn before had ended.
    pub turns_with_unsent_runs: Counter,
    /// Sessions by [`SESSION_STATES`].
    pub sessions: [Gauge; 3],
    /// Sessions of all kinds.
    pub sessions_counted: Gauge,
    /// Open RTSP connections.
    pub connections: Gauge,
    /// Connections closed at accept because a limit was reached.
    pub connections_refused: Counter,
    /// Connections refused because their address has as many as one may have.
    pub connections_refused_address: Counter,
    /// Connections that have not made a request.
    pub half_open: Gauge,
    /// Of these, connections ended because there were too many.
    pub half_open_dropped: Counter,
    /// Connections ended because their request did not come in time.
    pub requests_timed_out: Counter,
    /// Bytes of unfinished requests.
    pub request_bytes_held: Gauge,
    /// Connections ended because unfinished requests take too much memory.
    pub requests_not_held: Counter,
    /// The longest request line and headers so far, in bytes.
    pub head_bytes_seen: Gauge,
    /// The longest body of a request so far, in bytes.
    pub body_bytes_seen: Gauge,
    /// The longest time so far until a request was whole, in milliseconds.
    pub request_ms_seen: Gauge,
    /// Handshakes of TLS that are under way.
    pub tls_handshakes_open: Gauge,
    /// Handshakes of TLS that ended well.
    pub tls_handshakes: Counter,
    /// Handshakes of TLS that failed, by [`TLS_FAILURES`].
    pub tls_handshakes_failed: [Counter; TLS_FAILURES.len()],
    /// Connections with TLS, by [`TLS_WAYS`].
    pub tls_connections: [Gauge; TLS_WAYS.len()],
    /// Bytes that shards encrypted.
    pub tls_bytes_encrypted: Counter,
    /// Reads of media for encryption that may have waited for a disk.
    pub tls_reads_cold: Counter,
    /// RTP packets encrypted by SRTP.
    pub srtp_packets_encrypted: Counter,
    /// Their bytes.
    pub srtp_bytes_encrypted: Counter,
    /// Packets that could not be encrypted, and were not sent.
    pub srtp_packets_dropped: Counter,
    /// Sends of SRTP that waited for the next turn, because a turn encrypts so much.
    pub srtp_waits: Counter,
    /// Packets of clients that SRTP refused, by [`SRTP_REFUSALS`].
    pub srtp_refused: [Counter; SRTP_REFUSALS.len()],
    /// Tunnels over HTTP whose cookies the shard knows.
    pub tunnels: Gauge,
    /// Of these, tunnels that lack their second connection.
    pub tunnels_half_open: Gauge,
    /// Tunnels refused, by [`TUNNEL_REFUSALS`].
    pub tunnels_refused: [Counter; TUNNEL_REFUSALS.len()],
    /// Sessions, by connections, that have come from other shards.
    pub moves: Counter,
    /// Moves of sessions that did not take place.
    pub moves_refused: Counter,
    /// Sessions whose home the shard is, and that are elsewhere or on their way.
    pub sessions_away: Gauge,
    /// Nanoseconds of CPU that the thread of the shard has used.
    pub busy_ns: Gauge,
    /// 1 while the shard takes no new sessions, because an operator drains it.
    pub draining: Gauge,
    /// Requests for new sessions that were turned away meanwhile, by [`DRAIN_ANSWERS`].
    pub drain_answers: [Counter; DRAIN_ANSWERS.len()],
    /// Sessions refused because there are as many as a shard may have.
    pub sessions_refused: Counter,
    /// Sessions refused because their address has as many as one may have.
    pub sessions_refused_address: Counter,
    /// Publishers that have announced a path.
    pub publishers: Gauge,
    /// Publishers refused because there are as many as there may be, or no memory for packets.
    pub publishers_refused: Counter,
    /// Logins with a wrong name, password or token.
    pub logins_failed: Counter,
    /// Logins that had to wait, or were refused, because their address had failed often.
    pub logins_slowed: Counter,
    /// Logins that could not be judged: too many wait, or a webhook or its keys did not answer.
    pub logins_unanswered: Counter,
    /// Requests refused because the configuration does not allow them.
    pub requests_forbidden: Counter,
    /// Requests for live paths refused because too many wait.
    pub commands_not_held: Counter,
    /// Rows of the PollTable in use.
    pub poll_entries: Gauge,
    /// Rows whose polling is suspended while a task runs.
    pub poll_entries_suspended: Gauge,
    /// Tasks handed to the workers.
    pub tasks_submitted: Counter,
    /// Tasks that the full queue handed back.
    pub tasks_refused: Counter,
    /// Turns of the shard's loop.
    pub turns: Counter,
    /// `io_uring_enter` calls.
    pub uring_enters: Counter,
    /// `io_uring_enter` calls after which the completion queue was full.
    pub uring_overflows: Counter,
    /// Times that the kernel took no operation.
    pub uring_refusals: Counter,
    /// Operations other than sends of datagrams that the kernel has cancelled.
    pub uring_cancelled: Counter,
    /// Receives that found no buffer and were armed again.
    pub uring_buffer_shortages: Counter,
    /// Operations put off for lack of descriptors or memory.
    pub uring_pauses: Counter,
    /// Messages that did not fit another shard's inbox.
    pub inbox_full: Counter,
    /// Sessions reaped because their client fell silent.
    pub sessions_timed_out: Counter,
    /// Sessions ended by an error of the title or the socket.
    pub sessions_failed: Counter,
    /// Panics caught while an event was handled; each ended one session.
    pub panics: Counter,
    /// RTSP requests answered.
    pub requests: Requests,
    /// From a complete request to its answer in the socket.
    pub request_duration: Lateness,
    /// From a PLAY request to the first packet of the session.
    pub first_packet_delay: Lateness,
    /// Interarrival jitter of receiver reports.
    pub reported_jitter: Lateness,
    /// Fraction lost of receiver reports.
    pub reported_loss_ratio: LossRatio,
    /// Interleaved sessions that skipped ahead because their client reads too slowly.
    pub lag_skips: Counter,
    /// Times that a stream was due and its packet window was not there yet.
    pub window_waits: Counter,
    /// Pictures sent by [`QUALITY_LEVELS`].
    pub quality_levels: [Gauge; 3],
    /// Changes of a picture's level by [`QUALITY_CAUSES`].
    pub quality_changes: [Counter; 3],
    /// Packets that players asked for again.
    pub nacks_received: Counter,
    /// Packets sent again.
    pub rtx_packets_sent: Counter,
    /// Packets not sent again, by [`RTX_REFUSALS`].
    pub rtx_refused: [Counter; 5],
    /// Lost pictures that readers of live paths told of.
    pub picture_requests_received: Counter,
    /// Times that a source was asked for a key picture.
    pub picture_requests_sent: Counter,
    /// Switches of paths with fallbacks to another source, by [`HANDOVER_CAUSES`].
    pub handovers: [Counter; HANDOVER_CAUSES.len()],
    /// Times between the last packet of one source and the first of the next.
    pub handover_gap: Lateness,
    /// Of each session that was taken over from another process: how long nothing was sent.
    pub takeover_gap: Lateness,
}

impl ShardCells {
    /// One more RTSP request answered; see [`super::requests::method_index`].
    pub fn count_request(&self, method_index: usize, status_code: u16) {
        self.requests.count(method_index, status_code);
    }

    /// Counts how late packets are that were due at `due_at`.
    pub fn observe_lateness(&self, now: Mono, due_at: Mono) {
        self.send_lateness.observe_ns(ns_between(due_at, now));
    }

    /// Counts how long a PLAY waited for its first packet.
    pub fn observe_first_packet(&self, now: Mono, play_received: Mono) {
        self.first_packet_delay.observe_ns(ns_between(play_received, now));
    }
}

fn ns_between(earlier: Mono, later: Mono) -> u64 {
    u64::try_from(later.since(earlier).as_nanos()).unwrap_or(u64::MAX)
}

/// Index of the cells that are kept apart by what a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskKind {
    /// A title was opened.
    Open = 0,
    /// A window was built or found.
    Window = 1,
    /// The addresses of a host were looked for.
    Resolve = 2,
    /// The description of a live source was read.
    Describe = 3,
    /// Somebody was found out to be let in, or not.
    Judge = 4,
    /// An image of a window was made.
    Image = 5,
}

/// Names of the kinds of task, by index.
pub const TASK_KINDS: [&str; 6] = ["open", "window", "resolve", "describe", "judge", "image"];

/// The cells of the worker pool, written by all of its threads.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerCells {
    /// Tasks finished, by [`TaskKind`], whatever became of them.
    pub tasks_done: [SharedCounter; TASK_KINDS.len()],
    /// Of these, tasks that ended with a failure.
    pub tasks_failed: [SharedCounter; TASK_KINDS.len()],
    /// Tasks that wait.
    pub queue_depth: SharedGauge,
    /// Packet windows kept.
    pub windows_cached: SharedGauge,
    /// Memory that they take.
    pub windows_cached_bytes: SharedGauge,
    /// Packet windows built.
    pub windows_built: SharedCounter,
    /// Windows that were asked for and were there.
    pub windows_hit: SharedCounter,
    /// Windows that were there and whose pages were seen to again.
    pub windows_renewed: SharedCounter,
    /// Images of windows in memory.
    pub images: SharedGauge,
    /// Memory that they take.
    pub images_bytes: SharedGauge,
    /// Images made.
    pub images_made: SharedCounter,
    /// Images that were wanted and not made: no room, as a rule.
    pub images_refused: SharedCounter,
    /// Titles kept open.
    pub titles_open: SharedGauge,
    /// Titles that were not opened because as many as allowed are played.
    pub titles_refused: SharedCounter,
    /// Bytes of media files read or paged in.
    pub read_bytes: SharedCounter,
    /// Reads of media files that had to wait for a disk.
    pub reads_cold: SharedCounter,
    /// Tasks that wait for a disk.
    pub tasks_cold: SharedGauge,
    /// Tasks that panicked; each was answered with a failure.
    pub panics: SharedCounter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_do_not_share_a_cache_line() {
        assert_eq!(align_of::<ShardCells>(), 128);
        assert_eq!(size_of::<ShardCells>() % 128, 0);
    }

    #[test]
    fn gauge_that_was_lowered_first_reads_as_zero() {
        let gauge = SharedGauge::default();
        gauge.sub(1);
        assert_eq!(gauge.value(), 0);
        gauge.add(3);
        assert_eq!(gauge.value(), 2);
    }

    #[test]
    fn share_of_a_gauge_goes_with_its_owner() {
        let cells = Arc::<ShardCells>::default();
        let one = Share::new(&cells, |cells| &cells.half_open, 1);
        let mut other = Share::new(&cells, |cells| &cells.half_open, 5);
        other.set(2);
        assert_eq!((cells.half_open.value(), other.amount()), (3, 2));
        drop(one);
        assert_eq!(cells.half_open.value(), 2);
        drop(other);
        assert_eq!(cells.half_open.value(), 0);
    }

    #[test]
    fn counters_wrap_instead_of_panicking() {
        let counter = Counter::default();
        counter.add(u64::MAX);
        counter.add(2);
        assert_eq!(counter.value(), 1);
    }

    #[test]
    fn indices_name_what_they_count() {
        assert_eq!(TASK_KINDS[TaskKind::Window as usize], "window");
    }
}

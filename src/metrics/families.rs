//! The table of metrics: one row for each name, with its help text and where its number is.
//!
//! Names follow the Prometheus naming guide: prefix `headend_`, base units, `_total` on counters.
//! Label values come from fixed lists (`shard` is at most 255, the width of a shard's number).

use prometheus::proto::MetricType;

use super::cells::{
    AdminCells, Counter, DRAIN_ANSWERS, HANDOVER_CAUSES, HlsCells, LogCells, QUALITY_CAUSES,
    QUALITY_LEVELS, RTX_REFUSALS, SESSION_STATES, SRTP_REFUSALS, ShardCells, SharedCounter,
    TASK_KINDS, TLS_FAILURES, TLS_WAYS, TUNNEL_REFUSALS, WorkerCells,
};
use super::histogram::HistogramValue;
use super::hls::HLS_FAMILIES;
use super::limits::LimitState;
use super::whep::{WHEP_FAMILIES, WhepCells};
use crate::base::carrier::Lower;

/// One metric.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) read: Read,
}

/// Labels of a family that has one sample for each value of a fixed list.
pub(super) struct Labels {
    /// Names of all labels; the last one is that of the list.
    pub(super) names: &'static [&'static str],
    /// The list.
    pub(super) values: &'static [&'static str],
}

/// Where a metric's samples come from, and thereby which labels they have.
pub(super) enum Read {
    /// `{version, kernel, backend}`, always 1.
    BuildInfo,
    /// 1 when the appliance serves.
    Ready,
    /// Counter `{shard}`.
    Shard(fn(&ShardCells) -> &Counter),
    /// Gauge `{shard}`.
    ShardGauge(fn(&ShardCells) -> u64),
    /// Counter `{shard}`: major page faults of the shard's thread, as the kernel counts them.
    ShardMajorFaults,
    /// Counter or gauge `{shard, ..}`: the number at a place of the list.
    ShardList(MetricType, Labels, fn(&ShardCells, usize) -> u64),
    /// Histogram `{shard}`.
    ShardHistogram(fn(&ShardCells) -> HistogramValue),
    /// Histogram without labels: the sum of all shards'.
    SumHistogram(fn(&ShardCells) -> HistogramValue),
    /// Counter `{method, code}`: the sum of all shards'.
    Requests,
    /// Counter `{op}`.
    WorkerOps(fn(&WorkerCells) -> &[SharedCounter; TASK_KINDS.len()]),
    /// Counter without labels.
    Worker(fn(&WorkerCells) -> &SharedCounter),
    /// Gauge without labels: the certificate of the process.
    CertificateLeft,
    /// Counter without labels.
    Log(fn(&LogCells) -> &SharedCounter),
    /// Gauge without labels.
    WorkerGauge(fn(&WorkerCells) -> u64),
    /// Gauge `{shard, what}`: all limits on what strangers can grow.
    Limits(fn(&LimitState) -> u64),
    /// Counter without labels.
    Admin(fn(&AdminCells) -> &SharedCounter),
    /// Counter without labels.
    Hls(fn(&HlsCells) -> &SharedCounter),
    /// Counter without labels.
    Whep(fn(&WhepCells) -> &SharedCounter),
}

impl Read {
    pub(super) fn kind(&self) -> MetricType {
        match self {
            Self::ShardList(kind, ..) => *kind,
            Self::BuildInfo
            | Self::Ready
            | Self::CertificateLeft
            | Self::ShardGauge(_)
            | Self::Limits(_)
            | Self::WorkerGauge(_) => MetricType::GAUGE,
            Self::ShardHistogram(_) | Self::SumHistogram(_) => MetricType::HISTOGRAM,
            Self::Shard(_)
            | Self::ShardMajorFaults
            | Self::Requests
            | Self::WorkerOps(_)
            | Self::Worker(_)
            | Self::Admin(_)
            | Self::Hls(_)
            | Self::Whep(_)
            | Self::Log(_) => MetricType::COUNTER,
        }
    }

    pub(super) fn label_names(&self) -> &'static [&'static str] {
        match self {
            Self::BuildInfo => &["backend", "kernel", "version"],
            Self::Shard(_)
            | Self::ShardGauge(_)
            | Self::ShardMajorFaults
            | Self::ShardHistogram(_) => &["shard"],
            Self::ShardList(_, labels, _) => labels.names,
            Self::Requests => &["code", "method"],
            Self::WorkerOps(_) => &["op"],
            Self::Limits(_) => &["shard", "what"],
            Self::Ready
            | Self::CertificateLeft
            | Self::SumHistogram(_)
            | Self::Worker(_)
            | Self::Admin(_)
            | Self::Hls(_)
            | Self::Whep(_)
            | Self::Log(_)
            | Self::WorkerGauge(_) => &[],
        }
    }
}

/// Every metric of the appliance itself but those of single paths, which are in
/// [`super::path_families`]; `process_*` are in [`super::process`].
pub(super) fn families() -> impl Iterator<Item = &'static Family> {
    FAMILIES.iter().chain(HLS_FAMILIES).chain(WHEP_FAMILIES)
}

static FAMILIES: &[Family] = &[
    row("headend_build_info", "What is running; always 1.", Read::BuildInfo),
    row("headend_ready", "1 when the appliance answers players.", Read::Ready),
    // Limits on what strangers can grow.
    row(
        "headend_limit",
        "How much there may be of what strangers can grow.",
        Read::Limits(|l| l.limit),
    ),
    row("headend_limit_used", "How much there is of what has a limit.", Read::Limits(|l| l.used)),
    row(
        "headend_admin_connections_refused_total",
        "Connections to the HTTP API refused because a limit was reached.",
        Read::Admin(|admin| &admin.http.connections_refused),
    ),
    row(
        "headend_admin_requests_timed_out_total",
        "Connections to the HTTP API ended because their request did not come in time.",
        Read::Admin(|admin| &admin.http.requests_timed_out),
    ),
    row(
        "headend_admin_feeds_refused_total",
        "Feeds of the dashboard refused because as many were open as there may be.",
        Read::Admin(|admin| &admin.feeds_refused),
    ),
    row(
        "headend_admin_feeds_dropped_total",
        "Feeds of the dashboard ended because their page did not read.",
        Read::Admin(|admin| &admin.feeds_dropped),
    ),
    // Sessions and connections.
    row(
        "headend_sessions",
        "RTSP sessions.",
        Read::ShardList(
            MetricType::GAUGE,
            Labels { names: &["shard", "state"], values: &SESSION_STATES },
            |s, state| s.sessions[state].value(),
        ),
    ),
    row(
        "headend_sessions_timed_out_total",
        "Sessions reaped because their client fell silent.",
        Read::Shard(|s| &s.sessions_timed_out),
    ),
    row(
        "headend_sessions_failed_total",
        "Sessions ended by an error of their title or socket.",
        Read::Shard(|s| &s.sessions_failed),
    ),
    row(
        "headend_rtsp_connections",
        "Open RTSP connections.",
        Read::ShardGauge(|s| s.connections.value()),
    ),
    row(
        "headend_rtsp_connections_refused_total",
        "Connections closed at accept because a limit was reached.",
        Read::Shard(|s| &s.connections_refused),
    ),
    row(
        "headend_rtsp_connections_refused_address_total",
        "Connections refused because their address has too many.",
        Read::Shard(|s| &s.connections_refused_address),
    ),
    row(
        "headend_rtsp_half_open_dropped_total",
        "Connections without a request that made room for a new one.",
        Read::Shard(|s| &s.half_open_dropped),
    ),
    row(
        "headend_rtsp_requests_timed_out_total",
        "Connections ended because their request did not come in time.",
        Read::Shard(|s| &s.requests_timed_out),
    ),
    row(
        "headend_rtsp_requests_not_held_total",
        "Connections ended because unfinished requests take too much memory.",
        Read::Shard(|s| &s.requests_not_held),
    ),
    row(
        "headend_rtsp_tls_connections",
        "RTSP connections with TLS, by who encrypts: the shard (user) or the kernel.",
        Read::ShardList(
            MetricType::GAUGE,
            Labels { names: &["shard", "way"], values: &TLS_WAYS },
            |s, way| s.tls_connections[way].value(),
        ),
    ),
    row(
        "headend_rtsp_tls_handshakes_open",
        "Handshakes of TLS under way.",
        Read::ShardGauge(|s| s.tls_handshakes_open.value()),
    ),
    row(
        "headend_rtsp_tls_handshakes_total",
        "Handshakes of TLS that ended well.",
        Read::Shard(|s| &s.tls_handshakes),
    ),
    row(
        "headend_rtsp_tls_handshakes_failed_total",
        "Handshakes of TLS that failed, by the reason.",
        Read::ShardList(
            MetricType::COUNTER,
            Labels { names: &["shard", "reason"], values: &TLS_FAILURES },
            |s, reason| s.tls_handshakes_failed[reason].value(),
        ),
    ),
    row(
        "headend_rtsp_tls_encrypted_bytes_total",
        "Bytes that the shard has encrypted.",
        Read::Shard(|s| &s.tls_bytes_encrypted),
    ),
    row(
        "headend_rtsp_tls_cold_reads_total",
        "Reads of media for encryption that were not answered by the page cache alone.",
        Read::Shard(|s| &s.tls_reads_cold),
    ),
    row(
        "headend_srtp_packets_encrypted_total",
        "RTP packets that were encrypted by SRTP.",
        Read::Shard(|s| &s.srtp_packets_encrypted),
    ),
    row(
        "headend_srtp_encrypted_bytes_total",
        "Bytes of these packets, with their tags.",
        Read::Shard(|s| &s.srtp_bytes_encrypted),
    ),
    row(
        "headend_srtp_packets_dropped_total",
        "Packets that could not be encrypted and were not sent.",
        Read::Shard(|s| &s.srtp_packets_dropped),
    ),
    row(
        "headend_srtp_waits_total",
        "Sends of SRTP that waited, because a turn encrypts only so much.",
        Read::Shard(|s| &s.srtp_waits),
    ),
    row(
        "headend_srtp_refused_total",
        "Packets of clients that are not what SRTP says they should be, by reason.",
        Read::ShardList(
            MetricType::COUNTER,
            Labels { names: &["shard", "reason"], values: &SRTP_REFUSALS },
            |s, reason| s.srtp_refused[reason].value(),
        ),
    ),
    row(
        "headend_rtsp_tls_certificate_seconds_left",
        "Seconds until the certificate expires; 0 when it has, or there is none.",
        Read::CertificateLeft,
    ),
    row(
        "headend_rtsp_tunnels",
        "Tunnels of RTSP over HTTP.",
        Read::ShardGauge(|s| s.tunnels.value()),
    ),
    row(
        "headend_rtsp_tunnels_refused_total",
        "Tunnels of RTSP over HTTP that were refused, by the reason.",
        Read::ShardList(
            MetricType::COUNTER,
            Labels { names: &["shard", "reason"], values: &TUNNEL_REFUSALS },
            |s, reason| s.tunnels_refused[reason].value(),
        ),
    ),
    row(
        "headend_session_moves_total",
        "Connections with sessions, or sessions without one, that have come from another shard.",
        Read::Shard(|s| &s.moves),
    ),
    row(
        "headend_session_moves_refused_total",
        "Moves of sessions between shards that did not take place.",
        Read::Shard(|s| &s.moves_refused),
    ),
    row(
        "headend_sessions_away",
        "Sessions that were set up on the shard and are on another one.",
        Read::ShardGauge(|s| s.sessions_away.value()),
    ),
    row(
        "headend_draining",
        "1 while an operator drains the server: no new sessions.",
        Read::ShardGauge(|s| s.draining.value()),
    ),
    row(
        "headend_drain_answers_total",
        "Requests for new sessions that a drained server turned away, by its answer.",
        Read::ShardList(
            MetricType::COUNTER,
            Labels { names: &["shard", "answer"], values: &DRAIN_ANSWERS },
            |s, answer| s.drain_answers[answer].value(),
        ),
    ),
    row(
        "headend_sessions_refused_total",
        "Sessions refused because the shard is full.",
        Read::Shard(|s| &s.sessions_refused),
    ),
    row(
        "headend_sessions_refused_address_total",
        "Sessions refused because their address has too many.",
        Read::Shard(|s| &s.sessions_refused_address),
    ),
    row(
        "headend_publishers_refused_total",
        "Publishers refused because there are too many, or too many packets in memory.",
        Read::Shard(|s| &s.publishers_refused),
    ),
    row(
        "headend_logins_failed_total",
        "Logins with a wrong name, password or token.",
        Read::Shard(|s| &s.logins_failed),
    ),
    row(
        "headend_logins_slowed_total",
        "Logins that waited or were refused because their address had failed often.",
        Read::Shard(|s| &s.logins_slowed),
    ),
    row(
        "headend_logins_unanswered_total",
        "Logins that could not be judged: too many wait, or nobody answered.",
        Read::Shard(|s| &s.logins_unanswered),
    ),
    row(
        "headend_rtsp_requests_forbidden_total",
        "Requests refused because the configuration does not allow them.",
        Read::Shard(|s| &s.requests_forbidden),
    ),
    row(
        "headend_live_requests_refused_total",
        "Requests for live paths refused because too many wait.",
        Read::Shard(|s| &s.commands_not_held),
    ),
    row("headend_rtsp_requests_total", "RTSP requests answered.", Read::Requests),
    row(
        "headend_rtsp_request_duration_seconds",
        "From a complete RTSP request to its answer.",
        Read::SumHistogram(|s| s.request_duration.read()),
    ),
    row(
        "headend_first_packet_delay_seconds",
        "From PLAY to the first RTP packet of the session.",
        Read::SumHistogram(|s| s.first_packet_delay.read()),
    ),
    // Quality of recorded pictures.
    row(
        "headend_quality_streams",
        "Pictures being sent, by level.",
        Read::ShardList(
            MetricType::GAUGE,
            Labels { names: &["shard", "level"], values: &QUALITY_LEVELS },
            |s, level| s.quality_levels[level].value(),
        ),
    ),
    row(
        "headend_quality_changes_total",
        "Changes of a picture's level, by cause.",
        Read::ShardList(
            MetricType::COUNTER,
            Labels { names: &["shard", "cause"], values: &QUALITY_CAUSES },
            |s, cause| s.quality_changes[cause].value(),
        ),
    ),
    // Retransmission (RFC 4585, RFC 4588).
    row(
        "headend_nack_received_total",
        "Lost packets that players asked for again.",
        Read::Shard(|s| &s.nacks_received),
    ),
    row(
        "headend_rtx_packets_sent_total",
        "Lost packets sent again.",
        Read::Shard(|s| &s.rtx_packets_sent),
    ),
    row(
        "headend_rtx_refused_total",
        "Packets asked for and not sent again, by reason.",
        Read::ShardList(
            MetricType::COUNTER,
            Labels { names: &["shard", "reason"], values: &RTX_REFUSALS },
            |s, reason| s.rtx_refused[reason].value(),
        ),
    ),
    row(
        "headend_picture_requests_received_total",
        "Lost pictures that readers of live paths told of (PLI, FIR).",
        Read::Shard(|s| &s.picture_requests_received),
    ),
    row(
        "headend_picture_requests_sent_total",
        "Times that a publisher was asked for a key picture (PLI, FIR).",
        Read::Shard(|s| &s.picture_requests_sent),
    ),
    // Paths with fallbacks.
    row(
        "headend_handovers_total",
        "Switches of live paths to another of their sources, by cause.",
        Read::ShardList(
            MetricType::COUNTER,
            Labels { names: &["shard", "cause"], values: &HANDOVER_CAUSES },
            |s, cause| s.handovers[cause].value(),
        ),
    ),
    row(
        "headend_handover_gap_seconds",
        "Time between the last packet of one source and the first of the next.",
        Read::SumHistogram(|s| s.handover_gap.read()),
    ),
    row(
        "headend_takeover_gap_seconds",
        "Of sessions taken over from another process: time in which neither process sent.",
        Read::SumHistogram(|s| s.takeover_gap.read()),
    ),
    // Receiving.
    row(
        "headend_source_packets_received_total",
        "RTP packets that were taken from sources of live paths.",
        Read::Shard(|s| &s.source_packets_received),
    ),
    row(
        "headend_source_bytes_received_total",
        "RTP packets that were taken from sources of live paths, in bytes with their headers.",
        Read::Shard(|s| &s.source_bytes_received),
    ),
    row(
        "headend_source_packets_dropped_total",
        "Packets of sources of live paths that were not taken.",
        Read::Shard(|s| &s.source_packets_dropped),
    ),
    row(
        "headend_framing_resyncs_total",
        "Times that bytes between interleaved frames of a source were passed over.",
        Read::Shard(|s| &s.framing_resyncs),
    ),
    // Sending.
    row(
        "headend_rtp_packets_sent_total",
        "RTP packets handed to the kernel.",
        by_transport(|s, transport| s.rtp_packets_sent[transport].value()),
    ),
    row(
        "headend_rtp_payload_bytes_sent_total",
        "RTP payload handed to the kernel, without headers.",
        by_transport(|s, transport| s.rtp_payload_bytes_sent[transport].value()),
    ),
    row(
        "headend_send_calls_total",
        "Completed send operations that carried RTP.",
        by_transport(|s, transport| s.send_calls[transport].value()),
    ),
    row(
        "headend_gso_segments_total",
        "RTP packets that left as a segment of a longer UDP send.",
        Read::Shard(|s| &s.gso_segments),
    ),
    row(
        "headend_rtp_image_packets_sent_total",
        "RTP packets that left as they stand in an image, one piece of memory a send.",
        Read::Shard(|s| &s.image_packets),
    ),
    row(
        "headend_gso_refusals_total",
        "Segmented sends that a route refused.",
        Read::Shard(|s| &s.gso_refusals),
    ),
    row(
        "headend_send_zerocopy_total",
        "Sends whose bytes the kernel took without a copy.",
        by_transport(|s, transport| s.send_zerocopy[transport].value()),
    ),
    row(
        "headend_send_zerocopy_copied_total",
        "Sends without a copy that the kernel copied after all.",
        by_transport(|s, transport| s.send_zerocopy_copied[transport].value()),
    ),
    row(
        "headend_send_zerocopy_refused_total",
        "Sends without a copy that the kernel refused; they were sent with one.",
        by_transport(|s, transport| s.send_zerocopy_refused[transport].value()),
    ),
    row(
        "headend_send_again_total",
        "Sends that met a full socket buffer and were tried again.",
        Read::Shard(|s| &s.send_again),
    ),
    row(
        "headend_send_errors_total",
        "Sends that failed for good.",
        Read::Shard(|s| &s.send_errors),
    ),
    row(
        "headend_send_lateness_seconds",
        "How long after their due time RTP packets were handed to the kernel.",
        Read::ShardHistogram(|s| s.send_lateness.read()),
    ),
    row(
        "headend_send_burst_packets",
        "Packets of one UDP stream that were handed to the kernel in one turn.",
        Read::ShardHistogram(|s| s.send_burst.read()),
    ),
    row(
        "headend_lag_skips_total",
        "Skips to a sync sample of interleaved sessions whose client reads too slowly.",
        Read::Shard(|s| &s.lag_skips),
    ),
    row(
        "headend_window_waits_total",
        "Times that a stream was due and its packet window was not there yet.",
        Read::Shard(|s| &s.window_waits),
    ),
    // RTCP.
    row(
        "headend_rtcp_packets_sent_total",
        "Compound RTCP packets sent.",
        Read::Shard(|s| &s.rtcp_packets_sent),
    ),
    row(
        "headend_rtcp_packets_dropped_total",
        "Compound RTCP packets given up because they could not be sent.",
        Read::Shard(|s| &s.rtcp_packets_dropped),
    ),
    row(
        "headend_rtcp_reports_received_total",
        "Receiver report blocks about our streams.",
        Read::Shard(|s| &s.rtcp_reports_received),
    ),
    row(
        "headend_rtcp_malformed_total",
        "Packets on an RTCP port or channel that are not RTCP.",
        Read::Shard(|s| &s.rtcp_malformed),
    ),
    row(
        "headend_datagrams_unmatched_total",
        "Datagrams from an address that belongs to no stream.",
        Read::Shard(|s| &s.datagrams_unmatched),
    ),
    row(
        "headend_datagrams_oversized_total",
        "Datagrams dropped for their length: longer than 2 KiB.",
        Read::Shard(|s| &s.datagrams_oversized),
    ),
    row(
        "headend_datagrams_dropped_total",
        "Datagrams dropped because they came faster than the shard takes them.",
        Read::Shard(|s| &s.datagrams_dropped),
    ),
    row(
        "headend_turns_with_unsent_runs_total",
        "Turns that began to send before the sends of the turn before had ended.",
        Read::Shard(|s| &s.turns_with_unsent_runs),
    ),
    row(
        "headend_rtcp_reported_jitter_seconds",
        "Interarrival jitter in receiver reports.",
        Read::SumHistogram(|s| s.reported_jitter.read()),
    ),
    row(
        "headend_rtcp_reported_loss_ratio",
        "Fraction of packets lost in receiver reports.",
        Read::SumHistogram(|s| s.reported_loss_ratio.read()),
    ),
    // The frame: PollTable, tasks, ring.
    row(
        "headend_poll_table_entries",
        "Rows of the PollTable in use.",
        Read::ShardGauge(|s| s.poll_entries.value()),
    ),
    row(
        "headend_pollsuspend_sockets",
        "Rows of the PollTable that wait for their task.",
        Read::ShardGauge(|s| s.poll_entries_suspended.value()),
    ),
    row(
        "headend_tasks_submitted_total",
        "Tasks handed to the workers.",
        Read::Shard(|s| &s.tasks_submitted),
    ),
    row(
        "headend_tasks_refused_total",
        "Tasks that the full queue handed back.",
        Read::Shard(|s| &s.tasks_refused),
    ),
    row(
        "headend_shard_major_faults_total",
        "Times that a shard stood still to read a page from the disk.",
        Read::ShardMajorFaults,
    ),
    row("headend_shard_turns_total", "Turns of the shard's loop.", Read::Shard(|s| &s.turns)),
    row("headend_uring_enters_total", "io_uring_enter calls.", Read::Shard(|s| &s.uring_enters)),
    row(
        "headend_uring_overflows_total",
        "io_uring_enter calls after which the completion queue was full.",
        Read::Shard(|s| &s.uring_overflows),
    ),
    row(
        "headend_uring_refusals_total",
        "Times that the kernel took no operation, for lack of memory.",
        Read::Shard(|s| &s.uring_refusals),
    ),
    row(
        "headend_uring_cancelled_total",
        "Operations that the kernel has cancelled by itself; they were begun again.",
        Read::Shard(|s| &s.uring_cancelled),
    ),
    row(
        "headend_uring_buffer_shortages_total",
        "Receives that found no free buffer and were begun again.",
        Read::Shard(|s| &s.uring_buffer_shortages),
    ),
    row(
        "headend_uring_pauses_total",
        "Operations put off for lack of descriptors or memory.",
        Read::Shard(|s| &s.uring_pauses),
    ),
    row(
        "headend_inbox_full_total",
        "Messages that did not fit another shard's inbox.",
        Read::Shard(|s| &s.inbox_full),
    ),
    row(
        "headend_panics_total",
        "Panics caught while an event was handled; each ended one session.",
        Read::Shard(|s| &s.panics),
    ),
    // Workers.
    row("headend_tasks_done_total", "Tasks finished.", Read::WorkerOps(|w| &w.tasks_done)),
    row(
        "headend_tasks_failed_total",
        "Tasks that ended with a failure.",
        Read::WorkerOps(|w| &w.tasks_failed),
    ),
    row(
        "headend_task_queue_depth",
        "Tasks that wait.",
        Read::WorkerGauge(|w| w.queue_depth.value()),
    ),
    row(
        "headend_windows_cached",
        "Packet windows kept.",
        Read::WorkerGauge(|w| w.windows_cached.value()),
    ),
    row(
        "headend_windows_cached_bytes",
        "Memory taken by packet windows.",
        Read::WorkerGauge(|w| w.windows_cached_bytes.value()),
    ),
    row("headend_windows_built_total", "Packet windows built.", Read::Worker(|w| &w.windows_built)),
    row(
        "headend_windows_hit_total",
        "Packet windows that were asked for and were there.",
        Read::Worker(|w| &w.windows_hit),
    ),
    row(
        "headend_windows_renewed_total",
        "Packet windows that were there and whose pages were seen to again.",
        Read::Worker(|w| &w.windows_renewed),
    ),
    row(
        "headend_images",
        "Windows whose packets stand in memory as on the wire.",
        Read::WorkerGauge(|w| w.images.value()),
    ),
    row(
        "headend_images_bytes",
        "Memory taken by them.",
        Read::WorkerGauge(|w| w.images_bytes.value()),
    ),
    row("headend_images_made_total", "Images made.", Read::Worker(|w| &w.images_made)),
    row(
        "headend_images_refused_total",
        "Images that were wanted and not made; as a rule all that there is room for are in use.",
        Read::Worker(|w| &w.images_refused),
    ),
    row("headend_titles_open", "Titles kept open.", Read::WorkerGauge(|w| w.titles_open.value())),
    row(
        "headend_titles_refused_total",
        "Titles that were not opened because as many as descriptors allow are played.",
        Read::Worker(|w| &w.titles_refused),
    ),
    row(
        "headend_media_read_bytes_total",
        "Bytes of media files read or paged in.",
        Read::Worker(|w| &w.read_bytes),
    ),
    row(
        "headend_media_cold_reads_total",
        "Reads of media files that had to wait for a disk.",
        Read::Worker(|w| &w.reads_cold),
    ),
    row(
        "headend_tasks_waiting_for_disk",
        "Tasks that wait for a disk.",
        Read::WorkerGauge(|w| w.tasks_cold.value()),
    ),
    // The log.
    row(
        "headend_log_lines_lost_total",
        "Log lines lost because standard error was not read in time.",
        Read::Log(|log| &log.lines_lost),
    ),
    row(
        "headend_log_lines_limited_total",
        "Log lines left out because there were too many of their kind.",
        Read::Log(|log| &log.lines_limited),
    ),
];

pub(super) const fn row(name: &'static str, help: &'static str, read: Read) -> Family {
    Family { name, help, read }
}

/// Counter `{shard, transport}`.
const fn by_transport(read: fn(&ShardCells, usize) -> u64) -> Read {
    let labels = Labels { names: &["shard", "transport"], values: &Lower::LABELS };
    Read::ShardList(MetricType::COUNTER, labels, read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_guide() {
        for family in families() {
            let (name, kind) = (family.name, family.read.kind());
            assert!(name.starts_with("headend_"), "{name}");
            assert!(family.help.ends_with('.'), "{name}");
            assert_eq!(kind == MetricType::COUNTER, name.ends_with("_total"), "{name}");
            if kind == MetricType::HISTOGRAM {
                let units = ["_seconds", "_ratio", "_packets"];
                assert!(units.iter().any(|unit| name.ends_with(unit)), "{name}");
            }
            let is_unit = |word: &str| ["ms", "us", "ns"].contains(&word);
            assert!(!name.split('_').any(is_unit), "{name}");
        }
    }
}

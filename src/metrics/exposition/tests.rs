//! The exposition as a scraper reads it.

use std::sync::Arc;

use super::*;
use crate::metrics::cells::{TaskKind, TransportKind};
use crate::metrics::requests::method_index;

fn exposition(shards: &[Arc<ShardCells>], workers: &Arc<WorkerCells>) -> Exposition {
    let set = CellSet { shards: shards.to_vec(), workers: workers.clone(), ready: true };
    let build =
        BuildInfo { version: "0.1.0".into(), kernel: "6.8.0".into(), backend: "uring".into() };
    Exposition::new(build, move || set.clone()).unwrap()
}

fn two_shards() -> (Vec<Arc<ShardCells>>, Arc<WorkerCells>) {
    (vec![Arc::default(), Arc::default()], Arc::default())
}

/// Lines of `text` about the metric `name`.
fn about(text: &str, name: &str) -> String {
    let lines = text.lines().filter(|line| {
        let rest = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ");
        rest.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{', '_']))
    });
    lines.fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn every_name_has_help_type_and_a_sample_from_the_first_scrape() {
    let (shards, workers) = two_shards();
    let text = exposition(&shards, &workers).text().unwrap();
    for family in FAMILIES {
        let name = family.name;
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        let is_sample = |line: &str| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ', '_']))
        };
        assert!(text.lines().any(is_sample), "{name}");
    }
    for metric in PROCESS {
        assert!(text.contains(&format!("# TYPE {} ", metric.name)), "{}", metric.name);
    }
}

#[test]
fn names_and_types_are_the_documented_ones() {
    let (shards, workers) = two_shards();
    let text = exposition(&shards, &workers).text().unwrap();
    let types: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    insta::assert_snapshot!(types.join("\n"), @r"
    headend_build_info gauge
    headend_datagrams_unmatched_total counter
    headend_first_packet_delay_seconds histogram
    headend_gso_refusals_total counter
    headend_gso_segments_total counter
    headend_inbox_full_total counter
    headend_lag_skips_total counter
    headend_media_cold_reads_total counter
    headend_media_read_bytes_total counter
    headend_nack_received_total counter
    headend_panics_total counter
    headend_picture_requests_received_total counter
    headend_picture_requests_sent_total counter
    headend_poll_table_entries gauge
    headend_pollsuspend_sockets gauge
    headend_quality_changes_total counter
    headend_quality_streams gauge
    headend_ready gauge
    headend_rtcp_malformed_total counter
    headend_rtcp_packets_sent_total counter
    headend_rtcp_reported_jitter_seconds histogram
    headend_rtcp_reported_loss_ratio histogram
    headend_rtcp_reports_received_total counter
    headend_rtp_packets_sent_total counter
    headend_rtp_payload_bytes_sent_total counter
    headend_rtsp_connections gauge
    headend_rtsp_connections_refused_total counter
    headend_rtsp_request_duration_seconds histogram
    headend_rtsp_requests_total counter
    headend_rtx_packets_sent_total counter
    headend_rtx_refused_total counter
    headend_send_again_total counter
    headend_send_burst_packets histogram
    headend_send_calls_total counter
    headend_send_errors_total counter
    headend_send_lateness_seconds histogram
    headend_send_zerocopy_copied_total counter
    headend_send_zerocopy_total counter
    headend_sessions gauge
    headend_sessions_failed_total counter
    headend_sessions_timed_out_total counter
    headend_shard_major_faults_total counter
    headend_shard_turns_total counter
    headend_task_queue_depth gauge
    headend_tasks_done_total counter
    headend_tasks_failed_total counter
    headend_tasks_refused_total counter
    headend_tasks_submitted_total counter
    headend_tasks_waiting_for_disk gauge
    headend_titles_open gauge
    headend_uring_enters_total counter
    headend_window_waits_total counter
    headend_windows_built_total counter
    headend_windows_cached gauge
    headend_windows_cached_bytes gauge
    headend_windows_hit_total counter
    headend_windows_renewed_total counter
    process_cpu_seconds_total counter
    process_max_fds gauge
    process_open_fds gauge
    process_resident_memory_bytes gauge
    process_start_time_seconds gauge
    process_threads gauge
    process_virtual_memory_bytes gauge
    ");
}

#[test]
fn shards_are_told_apart_and_transports_too() {
    let (shards, workers) = two_shards();
    shards[0].rtp_packets_sent[TransportKind::Udp as usize].add(7);
    shards[1].rtp_packets_sent[TransportKind::Tcp as usize].add(5);
    shards[1].sessions[1].set(3);
    workers.tasks_done[TaskKind::Window as usize].add(9);
    let text = exposition(&shards, &workers).text().unwrap();
    let families =
        ["headend_rtp_packets_sent_total", "headend_sessions", "headend_tasks_done_total"];
    let shown: Vec<_> = families.iter().map(|name| about(&text, name)).collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    # HELP headend_rtp_packets_sent_total RTP packets handed to the kernel.
    # TYPE headend_rtp_packets_sent_total counter
    headend_rtp_packets_sent_total{shard="0",transport="tcp"} 0
    headend_rtp_packets_sent_total{shard="0",transport="udp"} 7
    headend_rtp_packets_sent_total{shard="1",transport="tcp"} 5
    headend_rtp_packets_sent_total{shard="1",transport="udp"} 0

    # HELP headend_sessions RTSP sessions.
    # TYPE headend_sessions gauge
    headend_sessions{shard="0",state="paused"} 0
    headend_sessions{shard="0",state="playing"} 0
    headend_sessions{shard="0",state="ready"} 0
    headend_sessions{shard="1",state="paused"} 0
    headend_sessions{shard="1",state="playing"} 3
    headend_sessions{shard="1",state="ready"} 0
    # HELP headend_sessions_failed_total Sessions ended by an error of their title or socket.
    # TYPE headend_sessions_failed_total counter
    headend_sessions_failed_total{shard="0"} 0
    headend_sessions_failed_total{shard="1"} 0
    # HELP headend_sessions_timed_out_total Sessions reaped because their client fell silent.
    # TYPE headend_sessions_timed_out_total counter
    headend_sessions_timed_out_total{shard="0"} 0
    headend_sessions_timed_out_total{shard="1"} 0

    # HELP headend_tasks_done_total Tasks finished.
    # TYPE headend_tasks_done_total counter
    headend_tasks_done_total{op="describe"} 0
    headend_tasks_done_total{op="open"} 0
    headend_tasks_done_total{op="resolve"} 0
    headend_tasks_done_total{op="window"} 9
    "#);
}

#[test]
fn requests_of_all_shards_are_summed_by_method_and_code() {
    let (shards, workers) = two_shards();
    for shard in &shards {
        shard.count_request(method_index("PLAY"), 200);
        shard.count_request(method_index("SETUP"), 461);
        shard.count_request(method_index("FLY"), 299);
    }
    let text = exposition(&shards, &workers).text().unwrap();
    insta::assert_snapshot!(about(&text, "headend_rtsp_requests_total"), @r#"
    # HELP headend_rtsp_requests_total RTSP requests answered.
    # TYPE headend_rtsp_requests_total counter
    headend_rtsp_requests_total{code="200",method="ANNOUNCE"} 0
    headend_rtsp_requests_total{code="200",method="DESCRIBE"} 0
    headend_rtsp_requests_total{code="200",method="GET_PARAMETER"} 0
    headend_rtsp_requests_total{code="200",method="OPTIONS"} 0
    headend_rtsp_requests_total{code="200",method="PAUSE"} 0
    headend_rtsp_requests_total{code="200",method="PLAY"} 2
    headend_rtsp_requests_total{code="200",method="RECORD"} 0
    headend_rtsp_requests_total{code="200",method="REDIRECT"} 0
    headend_rtsp_requests_total{code="200",method="SETUP"} 0
    headend_rtsp_requests_total{code="200",method="SET_PARAMETER"} 0
    headend_rtsp_requests_total{code="200",method="TEARDOWN"} 0
    headend_rtsp_requests_total{code="200",method="other"} 0
    headend_rtsp_requests_total{code="461",method="SETUP"} 2
    headend_rtsp_requests_total{code="other",method="other"} 2
    "#);
}

#[test]
fn histograms_are_cumulative_in_seconds() {
    let (shards, workers) = two_shards();
    shards[0].request_duration.observe_ns(150_000);
    shards[1].request_duration.observe_ns(4_000_000);
    shards[1].request_duration.observe_ns(60_000_000_000);
    let text = exposition(&shards, &workers).text().unwrap();
    insta::assert_snapshot!(about(&text, "headend_rtsp_request_duration_seconds"), @r#"
    # HELP headend_rtsp_request_duration_seconds From a complete RTSP request to its answer.
    # TYPE headend_rtsp_request_duration_seconds histogram
    headend_rtsp_request_duration_seconds_bucket{le="0.0001"} 0
    headend_rtsp_request_duration_seconds_bucket{le="0.0002"} 1
    headend_rtsp_request_duration_seconds_bucket{le="0.0005"} 1
    headend_rtsp_request_duration_seconds_bucket{le="0.001"} 1
    headend_rtsp_request_duration_seconds_bucket{le="0.002"} 1
    headend_rtsp_request_duration_seconds_bucket{le="0.003"} 1
    headend_rtsp_request_duration_seconds_bucket{le="0.005"} 2
    headend_rtsp_request_duration_seconds_bucket{le="0.008"} 2
    headend_rtsp_request_duration_seconds_bucket{le="0.01"} 2
    headend_rtsp_request_duration_seconds_bucket{le="0.02"} 2
    headend_rtsp_request_duration_seconds_bucket{le="0.05"} 2
    headend_rtsp_request_duration_seconds_bucket{le="0.1"} 2
    headend_rtsp_request_duration_seconds_bucket{le="0.2"} 2
    headend_rtsp_request_duration_seconds_bucket{le="0.5"} 2
    headend_rtsp_request_duration_seconds_bucket{le="1"} 2
    headend_rtsp_request_duration_seconds_bucket{le="2"} 2
    headend_rtsp_request_duration_seconds_bucket{le="5"} 2
    headend_rtsp_request_duration_seconds_bucket{le="10"} 2
    headend_rtsp_request_duration_seconds_bucket{le="+Inf"} 3
    headend_rtsp_request_duration_seconds_sum 60.00415
    headend_rtsp_request_duration_seconds_count 3
    "#);
}

#[test]
fn build_info_carries_what_runs() {
    let (shards, workers) = two_shards();
    let text = exposition(&shards, &workers).text().unwrap();
    insta::assert_snapshot!(about(&text, "headend_build_info"), @r#"
    # HELP headend_build_info What is running; always 1.
    # TYPE headend_build_info gauge
    headend_build_info{backend="uring",kernel="6.8.0",version="0.1.0"} 1
    "#);
}

//! The exposition as a scraper reads it.

use std::sync::Arc;

use super::*;
use crate::base::carrier::Lower;
use crate::metrics::cells::TaskKind;
use crate::metrics::limits::Used;
use crate::metrics::path_families::{PATH_FAMILIES, PATHS};
use crate::metrics::paths::{PATHS_NAMED_MAX, PathTallies};
use crate::metrics::requests::method_index;

fn exposition(shards: &[Arc<ShardCells>], workers: &Arc<WorkerCells>) -> Exposition {
    let used = Used::Shard(|cells| cells.half_open.value());
    let row = Limit { what: "half_open_connections", key: "limits.half_open_max", max: 9, used };
    let process = Limit { what: "x", key: "", max: 2, used: Used::Process(Box::new(|| 1)) };
    let limits = Arc::from([row, process]);
    let set = CellSet { shards: shards.to_vec(), workers: workers.clone(), ready: true, limits };
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
    let text = exposition(&shards, &workers).text(Vec::new()).unwrap();
    for family in families() {
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
    for name in PATH_FAMILIES.iter().map(|family| family.name).chain([PATHS.0]) {
        let about = about(&text, name);
        assert!(
            about.starts_with(&format!("# HELP {name} ")) && about.lines().count() > 2,
            "{name}"
        );
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a line for each name")]
fn names_and_types_are_the_documented_ones() {
    let (shards, workers) = two_shards();
    let text = exposition(&shards, &workers).text(Vec::new()).unwrap();
    let types: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    insta::assert_snapshot!(types.join("\n"), @r"
    headend_admin_connections_refused_total counter
    headend_admin_feeds_dropped_total counter
    headend_admin_feeds_refused_total counter
    headend_admin_requests_timed_out_total counter
    headend_build_info gauge
    headend_datagrams_dropped_total counter
    headend_datagrams_oversized_total counter
    headend_datagrams_unmatched_total counter
    headend_drain_answers_total counter
    headend_draining gauge
    headend_first_packet_delay_seconds histogram
    headend_framing_resyncs_total counter
    headend_gso_refusals_total counter
    headend_gso_segments_total counter
    headend_handover_gap_seconds histogram
    headend_handovers_total counter
    headend_hls_connections_refused_total counter
    headend_hls_frames_lost_total counter
    headend_hls_logins_failed_total counter
    headend_hls_parts_total counter
    headend_hls_requests_timed_out_total counter
    headend_hls_requests_total counter
    headend_hls_segments_evicted_total counter
    headend_hls_sent_bytes_total counter
    headend_hls_turned_away_total counter
    headend_images gauge
    headend_images_bytes gauge
    headend_images_made_total counter
    headend_images_refused_total counter
    headend_inbox_full_total counter
    headend_lag_skips_total counter
    headend_limit gauge
    headend_limit_used gauge
    headend_live_requests_refused_total counter
    headend_log_lines_limited_total counter
    headend_log_lines_lost_total counter
    headend_logins_failed_total counter
    headend_logins_slowed_total counter
    headend_logins_unanswered_total counter
    headend_media_cold_reads_total counter
    headend_media_read_bytes_total counter
    headend_nack_received_total counter
    headend_panics_total counter
    headend_path_reader_skips_total counter
    headend_path_readers gauge
    headend_path_received_bytes_total counter
    headend_path_sent_bytes_total counter
    headend_path_sent_packets_total counter
    headend_path_skipped_packets_total counter
    headend_paths gauge
    headend_picture_requests_received_total counter
    headend_picture_requests_sent_total counter
    headend_poll_table_entries gauge
    headend_pollsuspend_sockets gauge
    headend_publishers_refused_total counter
    headend_quality_changes_total counter
    headend_quality_streams gauge
    headend_ready gauge
    headend_rtcp_malformed_total counter
    headend_rtcp_packets_dropped_total counter
    headend_rtcp_packets_sent_total counter
    headend_rtcp_reported_jitter_seconds histogram
    headend_rtcp_reported_loss_ratio histogram
    headend_rtcp_reports_received_total counter
    headend_rtp_image_packets_sent_total counter
    headend_rtp_packets_dropped_total counter
    headend_rtp_packets_lost_total counter
    headend_rtp_packets_received_total counter
    headend_rtp_packets_relayed_total counter
    headend_rtp_packets_sent_total counter
    headend_rtp_payload_bytes_sent_total counter
    headend_rtsp_connections gauge
    headend_rtsp_connections_refused_address_total counter
    headend_rtsp_connections_refused_total counter
    headend_rtsp_half_open_dropped_total counter
    headend_rtsp_request_duration_seconds histogram
    headend_rtsp_requests_forbidden_total counter
    headend_rtsp_requests_not_held_total counter
    headend_rtsp_requests_timed_out_total counter
    headend_rtsp_requests_total counter
    headend_rtsp_tls_certificate_seconds_left gauge
    headend_rtsp_tls_cold_reads_total counter
    headend_rtsp_tls_connections gauge
    headend_rtsp_tls_encrypted_bytes_total counter
    headend_rtsp_tls_handshakes_failed_total counter
    headend_rtsp_tls_handshakes_open gauge
    headend_rtsp_tls_handshakes_total counter
    headend_rtsp_tunnels gauge
    headend_rtsp_tunnels_refused_total counter
    headend_rtx_packets_sent_total counter
    headend_rtx_refused_total counter
    headend_send_again_total counter
    headend_send_burst_packets histogram
    headend_send_calls_total counter
    headend_send_errors_total counter
    headend_send_lateness_seconds histogram
    headend_send_zerocopy_copied_total counter
    headend_send_zerocopy_refused_total counter
    headend_send_zerocopy_total counter
    headend_session_moves_refused_total counter
    headend_session_moves_total counter
    headend_sessions gauge
    headend_sessions_away gauge
    headend_sessions_failed_total counter
    headend_sessions_refused_address_total counter
    headend_sessions_refused_total counter
    headend_sessions_timed_out_total counter
    headend_shard_major_faults_total counter
    headend_shard_turns_total counter
    headend_source_bytes_received_total counter
    headend_source_packets_dropped_total counter
    headend_source_packets_received_total counter
    headend_source_starts_total counter
    headend_source_up gauge
    headend_srtp_encrypted_bytes_total counter
    headend_srtp_packets_dropped_total counter
    headend_srtp_packets_encrypted_total counter
    headend_srtp_refused_total counter
    headend_srtp_waits_total counter
    headend_takeover_gap_seconds histogram
    headend_task_queue_depth gauge
    headend_tasks_done_total counter
    headend_tasks_failed_total counter
    headend_tasks_refused_total counter
    headend_tasks_submitted_total counter
    headend_tasks_waiting_for_disk gauge
    headend_titles_open gauge
    headend_titles_refused_total counter
    headend_turns_with_unsent_runs_total counter
    headend_uring_buffer_shortages_total counter
    headend_uring_cancelled_total counter
    headend_uring_enters_total counter
    headend_uring_overflows_total counter
    headend_uring_pauses_total counter
    headend_uring_refusals_total counter
    headend_whep_datagrams_strange_total counter
    headend_whep_datagrams_unsent_total counter
    headend_whep_gave_way_total counter
    headend_whep_keyframe_requests_total counter
    headend_whep_not_connected_total counter
    headend_whep_packets_left_out_total counter
    headend_whep_panics_total counter
    headend_whep_rtp_packets_sent_total counter
    headend_whep_rtp_payload_bytes_sent_total counter
    headend_whep_sessions_total counter
    headend_whep_skips_total counter
    headend_whep_viewers_refused_total counter
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
    shards[0].rtp_packets_sent[Lower::Udp as usize].add(7);
    shards[1].rtp_packets_sent[Lower::Tcp as usize].add(5);
    shards[1].sessions[1].set(3);
    workers.tasks_done[TaskKind::Window as usize].add(9);
    let text = exposition(&shards, &workers).text(Vec::new()).unwrap();
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
    # HELP headend_sessions_away Sessions that were set up on the shard and are on another one.
    # TYPE headend_sessions_away gauge
    headend_sessions_away{shard="0"} 0
    headend_sessions_away{shard="1"} 0
    # HELP headend_sessions_failed_total Sessions ended by an error of their title or socket.
    # TYPE headend_sessions_failed_total counter
    headend_sessions_failed_total{shard="0"} 0
    headend_sessions_failed_total{shard="1"} 0
    # HELP headend_sessions_refused_address_total Sessions refused because their address has too many.
    # TYPE headend_sessions_refused_address_total counter
    headend_sessions_refused_address_total{shard="0"} 0
    headend_sessions_refused_address_total{shard="1"} 0
    # HELP headend_sessions_refused_total Sessions refused because the shard is full.
    # TYPE headend_sessions_refused_total counter
    headend_sessions_refused_total{shard="0"} 0
    headend_sessions_refused_total{shard="1"} 0
    # HELP headend_sessions_timed_out_total Sessions reaped because their client fell silent.
    # TYPE headend_sessions_timed_out_total counter
    headend_sessions_timed_out_total{shard="0"} 0
    headend_sessions_timed_out_total{shard="1"} 0

    # HELP headend_tasks_done_total Tasks finished.
    # TYPE headend_tasks_done_total counter
    headend_tasks_done_total{op="describe"} 0
    headend_tasks_done_total{op="image"} 0
    headend_tasks_done_total{op="judge"} 0
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
    let text = exposition(&shards, &workers).text(Vec::new()).unwrap();
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
    let text = exposition(&shards, &workers).text(Vec::new()).unwrap();
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
    let text = exposition(&shards, &workers).text(Vec::new()).unwrap();
    insta::assert_snapshot!(about(&text, "headend_build_info"), @r#"
    # HELP headend_build_info What is running; always 1.
    # TYPE headend_build_info gauge
    headend_build_info{backend="uring",kernel="6.8.0",version="0.1.0"} 1
    "#);
}

fn table(path: &str, received: u64, lost: u64) -> PathTallies {
    let mut table = PathTallies::default();
    table.enter(&path.into());
    let numbers = table.numbers_mut(path);
    (numbers.totals.packets_received, numbers.totals.packets_lost) = (received, lost);
    (numbers.sources, numbers.readers) = (1, [2, 0, 0]);
    table.owners = [1, 0, 0, 0, 0];
    table
}

#[test]
fn paths_of_all_shards_are_summed_by_name() {
    let (shards, workers) = two_shards();
    let mut other = table("live/a", 0, 0);
    other.numbers_mut("live/a").sources = 0;
    other.numbers_mut("live/a").totals.skips = [3, 0, 1];
    let tables = vec![Some(table("live/a", 70, 0)), Some(other)];
    let text = exposition(&shards, &workers).text(tables).unwrap();
    let families = ["headend_paths", "headend_path_readers", "headend_path_reader_skips_total"];
    let mut shown: Vec<_> = families.iter().map(|name| about(&text, name)).collect();
    shown.push(about(&text, "headend_rtp_packets_received_total"));
    shown.push(about(&text, "headend_rtp_packets_lost_total"));
    insta::assert_snapshot!(shown.join("\n"), @r#"
    # HELP headend_paths Live paths, by state.
    # TYPE headend_paths gauge
    headend_paths{state="live"} 2
    headend_paths{state="held"} 0
    headend_paths{state="starting"} 0
    headend_paths{state="failed"} 0
    headend_paths{state="idle"} 0

    # HELP headend_path_readers Readers of a path.
    # TYPE headend_path_readers gauge
    headend_path_readers{path="live/a",transport="udp"} 4
    headend_path_readers{path="live/a",transport="tcp"} 0
    headend_path_readers{path="live/a",transport="multicast"} 0
    headend_path_readers{path="other",transport="udp"} 0
    headend_path_readers{path="other",transport="tcp"} 0
    headend_path_readers{path="other",transport="multicast"} 0

    # HELP headend_path_reader_skips_total Skips of late readers to a newer sync sample.
    # TYPE headend_path_reader_skips_total counter
    headend_path_reader_skips_total{path="live/a",reason="tcp_window"} 3
    headend_path_reader_skips_total{path="live/a",reason="lag_budget"} 0
    headend_path_reader_skips_total{path="live/a",reason="evicted"} 1
    headend_path_reader_skips_total{path="other",reason="tcp_window"} 0
    headend_path_reader_skips_total{path="other",reason="lag_budget"} 0
    headend_path_reader_skips_total{path="other",reason="evicted"} 0

    # HELP headend_rtp_packets_received_total RTP packets that were taken from sources.
    # TYPE headend_rtp_packets_received_total counter
    headend_rtp_packets_received_total{path="live/a"} 70
    headend_rtp_packets_received_total{path="other"} 0

    # HELP headend_rtp_packets_lost_total RTP packets that did not come, by their sequence numbers.
    # TYPE headend_rtp_packets_lost_total counter
    headend_rtp_packets_lost_total{path="live/a",dir="in"} 0
    headend_rtp_packets_lost_total{path="other",dir="in"} 0
    "#);
}

#[test]
fn sums_of_paths_do_not_go_back_when_a_shard_is_silent_or_a_lost_packet_comes_late() {
    let (shards, workers) = two_shards();
    let exposition = exposition(&shards, &workers);
    let lines = |tables| {
        let text = exposition.text(tables).unwrap();
        ["received", "lost"].map(|what| {
            let about = about(&text, &format!("headend_rtp_packets_{what}_total"));
            let line = about.lines().find(|line| line.contains("path=\"live/a\"")).unwrap();
            line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
        })
    };
    assert_eq!(lines(vec![Some(table("live/a", 5, 2)), Some(table("live/a", 1, 0))]), [6, 2]);
    assert_eq!(lines(vec![None, Some(table("live/a", 2, 0))]), [7, 2]);
    assert_eq!(lines(vec![Some(table("live/a", 9, 1)), None]), [11, 2]);
}

#[test]
fn paths_beyond_the_bound_are_shown_as_other() {
    let (shards, workers) = two_shards();
    let exposition = exposition(&shards, &workers);
    let names = |first: usize| {
        let mut table = PathTallies::default();
        for n in first..first + PATHS_NAMED_MAX {
            let path: Arc<str> = format!("live/{n:04}").into();
            table.enter(&path);
            table.numbers_mut(&path).totals.source_starts += 1;
        }
        table
    };
    let starts = |tables| {
        let text = exposition.text(tables).unwrap();
        let about = about(&text, "headend_source_starts_total");
        let other = about.lines().find(|line| line.contains("path=\"other\"")).unwrap();
        (about.lines().count() - 2, other.rsplit(' ').next().unwrap().to_owned())
    };
    assert_eq!(starts(vec![Some(names(0)), None]), (201, "0".to_owned()));
    // The second shard's come later: the first 200 keep their names.
    assert_eq!(starts(vec![None, Some(names(150))]), (201, "150".to_owned()));
}

#[test]
fn limits_have_a_sample_for_each_shard_or_one_for_the_process() {
    let (shards, workers) = two_shards();
    shards[1].half_open.set(4);
    let text = exposition(&shards, &workers).text(Vec::new()).unwrap();
    let of = |name: &str, shard: &str, what: &str| {
        let start = format!("{name}{{shard=\"{shard}\",what=\"{what}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.map(str::to_owned).unwrap_or_else(|| panic!("{start}: {}", about(&text, name)))
    };
    assert_eq!(of("headend_limit_used", "0", "half_open_connections"), "0");
    assert_eq!(of("headend_limit_used", "1", "half_open_connections"), "4");
    assert_eq!(of("headend_limit", "1", "half_open_connections"), "9");
    assert_eq!(of("headend_limit_used", "all", "x"), "1");
    assert_eq!(of("headend_limit", "all", "x"), "2");
}

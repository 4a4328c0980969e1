//! The configuration of a path, as publishers and readers see it.

use super::*;
use crate::config::paths::PathTable;
use crate::config::{self, ConfigError};
use crate::live::config::rules;
use crate::live::core::path::PathLimits;

/// The paths of a file.
fn table(text: &str) -> Arc<PathTable> {
    let loaded: Result<_, ConfigError> = config::load(Some(("f", text)), [], &[]);
    loaded.unwrap().config.paths
}

impl Bench {
    pub(crate) fn configured(text: &str) -> Self {
        let mut bench = Self::new();
        bench.configure(text);
        bench
    }

    pub(crate) fn configure(&mut self, text: &str) {
        self.sessions.live.configure_paths(&mut self.sessions.cx, table(text));
        self.settle();
    }

    /// SETUP and PLAY of the reader; true when PLAY was answered at once.
    fn play(&mut self) -> SessionId {
        let setup = self.reader(Method::Setup, "rtsp://h/live/a/trackID=0", None).unwrap();
        let id = session_id(&setup);
        let played = self.reader(Method::Play, URL, Some(id));
        assert!(played.is_none_or(|answer| answer.status().code() == 200));
        id
    }

    fn limits(&self) -> PathLimits {
        self.sessions.cx.path_limits("live/a")
    }
}

#[test]
fn second_publisher_takes_over_a_path_with_override() {
    let mut bench = Bench::configured("[path.\"live/a\"]\noverride = true\n");
    bench.publish();
    bench.packet(host(1, 5_000), 1);
    assert_eq!(bench.announce(9, host(4, 40_009)), 200);
    assert_eq!(bench.hung_up, [PUBLISHER], "the first one is told by the end of its connection");
    assert_eq!(bench.sessions.live.sources.publishers.len(), 1);
}

#[test]
fn override_for_all_paths_does_not_apply_to_fetched_paths() {
    let text = "[path.\"*\"]\noverride = true\n[path.b]\nsource = \"rtsp://192.0.2.1/x\"\n";
    let bench = Bench::configured(text);
    assert!(bench.sessions.cx.path_rules("live/a").may_override);
    assert!(!bench.sessions.cx.path_rules("b").may_override);
}

#[test]
fn readers_wait_for_the_hold_time_of_their_path() {
    let mut bench = Bench::configured("[path.\"live/a\"]\nhold = \"2s\"\n");
    let id = bench.publish();
    bench.packet(host(1, 5_000), 1);
    bench.play();
    assert!(bench.sessions.end_session(id, "test"));
    bench.settle();
    bench.pass(Duration::from_millis(1_500));
    assert_eq!(bench.sessions.live.readers.table.len(), 1);
    bench.pass(Duration::from_secs(1));
    assert!(bench.sessions.live.readers.table.is_empty());
}

/// Publishes a key frame of H.264 in one packet.
fn publish_picture(bench: &mut Bench) {
    let from = (PUBLISHER, host(1, 40_000));
    let sdp = SDP.replace("audio 0 RTP/AVP 0", "video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000");
    bench.request(from, Method::Announce, URL, None, (&[], &sdp)).unwrap();
    let transport = [("Transport", "RTP/AVP/UDP;unicast;client_port=5000-5001;mode=record")];
    let uri = "rtsp://h/live/a/streamid=0";
    let setup = bench.request(from, Method::Setup, uri, None, (&transport, "")).unwrap();
    let id = Some(session_id(&setup));
    let recorded = bench.request(from, Method::Record, URL, id, (&[], "")).unwrap();
    assert_eq!(recorded.status().code(), 200);
    let mut packet = rtp(1);
    (packet[1], packet[12]) = (0x80 | 96, 0x65);
    bench.sessions.live.sources.handle_rtp_datagram(
        &mut bench.sessions.cx,
        0,
        host(1, 5_000),
        &packet,
    );
    bench.sessions.live.feed_live(&mut bench.sessions.cx);
    bench.settle();
}

#[test]
fn reader_begins_at_the_configured_start_of_its_path() {
    for (start, is_answered) in [("gop", true), ("live", false)] {
        let mut bench = Bench::configured(&format!("[path.\"live/a\"]\nstart = \"{start}\"\n"));
        publish_picture(&mut bench);
        let setup = bench.reader(Method::Setup, "rtsp://h/live/a/trackID=0", None).unwrap();
        let played = bench.reader(Method::Play, URL, Some(session_id(&setup)));
        let info = played.map(|answer| answer.header_value("RTP-Info").unwrap().to_owned());
        // `live` waits for the next key frame.
        assert_eq!(info.is_some_and(|info| info.contains("seq=1;")), is_answered, "{start}");
    }
}

#[test]
fn reader_beyond_readers_max_of_its_path_is_refused() {
    let mut bench = Bench::configured("[path.\"live/a\"]\nreaders_max = 1\n");
    bench.publish();
    bench.play();
    let transport = [("Transport", "RTP/AVP;unicast;client_port=7000-7001")];
    let from = (8, host(5, 40_005));
    let uri = "rtsp://h/live/a/trackID=0";
    let setup = |bench: &mut Bench| {
        let answer = bench.request(from, Method::Setup, uri, None, (&transport, ""));
        answer.unwrap().status().code()
    };
    assert_eq!(setup(&mut bench), 453);
    bench.configure("[path.\"live/a\"]\nreaders_max = 2\n");
    assert_eq!(setup(&mut bench), 200, "the path is here, and allows it now");
}

#[test]
fn lag_budget_and_buffer_are_those_of_the_path() {
    let text = "[path.\"live/a\"]\nlag_budget = \"5s\"\nbuffer = \"1MiB\"\n";
    let bench = Bench::configured(text);
    let limits = bench.limits();
    assert_eq!(limits.lag_budget, Duration::from_secs(5));
    assert_eq!(limits.ring.bytes_max, 1 << 20);
    assert_eq!(limits.ring.history, Duration::from_secs(10), "late readers find their packets");
    assert_eq!(
        *bench.sessions.cx.path_rules("live/a"),
        rules(bench.sessions.cx.path_config("live/a"))
    );
    assert_eq!(bench.sessions.cx.path_rules("live/a").ring, limits.ring);
    assert_eq!(bench.sessions.cx.path_limits("live/b"), PathLimits::default());
}

#[test]
fn on_demand_source_ends_after_its_own_idle_time() {
    for (idle_s, linger_s, home_s) in [(2, 2, 0), (10, 10, 0), (60, 10, 50)] {
        let source = "source = \"rtsp://cam/1\"\non_demand = true\n";
        let text = format!("[path.\"live/a\"]\n{source}idle_close = \"{idle_s}s\"\n");
        let bench = Bench::configured(&text);
        assert_eq!(bench.limits().linger, Duration::from_secs(linger_s));
        let rules = bench.sessions.cx.path_rules("live/a");
        assert_eq!(rules.idle_close, Duration::from_secs(home_s));
    }
}

#[test]
fn reload_without_changes_of_a_path_does_not_disturb_its_readers() {
    let mut bench = Bench::configured("[path.\"live/b\"]\nhold = \"1s\"\n");
    bench.publish();
    bench.packet(host(1, 5_000), 1);
    bench.play();
    bench.configure("[path.\"live/b\"]\nsource = \"rtsp://192.0.2.1/x\"\n");
    bench.packet(host(1, 5_000), 2);
    assert!(bench.hung_up.is_empty());
    let publishers = &bench.sessions.live.sources.publishers;
    let packets: u64 = publishers.values().map(|p| p.source.counts().packets).sum();
    assert_eq!(packets, 2);
    let end = bench.sessions.live.hub.paths.path("live/a").map(|path| path.ring().end_no());
    assert_eq!(end, Some(2), "its batches reach the reader");
}

#[test]
fn new_source_url_ends_a_publisher_and_a_new_publish_list_does_not() {
    let mut bench = Bench::new();
    bench.publish();
    bench.configure("[path.\"live/a\"]\npublish = []\n");
    assert!(bench.hung_up.is_empty(), "who publishes goes on");
    bench.configure("[path.\"live/a\"]\nsource = \"rtsp://192.0.2.1/x\"\non_demand = true\n");
    assert_eq!(bench.hung_up, [PUBLISHER]);
    assert!(bench.sessions.live.sources.publishers.is_empty());
}

#[test]
fn permanent_fetched_path_is_opened_at_its_owner_when_configured() {
    let text = "[path.\"live/a\"]\nsource = \"rtsp://192.0.2.1/x\"\n";
    let mut bench = Bench::configured(text);
    let count = |bench: &Bench| bench.sessions.live.hub.registry.count();
    assert_eq!(count(&bench), 1);
    bench.configure(text);
    assert_eq!(count(&bench), 1);
    bench.configure("");
    assert_eq!(count(&bench), 0, "nothing fetches it, nobody reads it");
}

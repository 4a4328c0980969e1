//! Precedence, and the words of every refusal.

use super::*;
use crate::config::hls::HlsConfig;
use crate::config::image_memory::ImageMemory;
use crate::config::webrtc::WebrtcConfig;

fn load_file(text: &str) -> Result<Loaded, ConfigError> {
    load(Some(("headend.toml", text)), [], &[])
}

fn env(name: &str, value: &str) -> [(String, String); 1] {
    [(name.to_owned(), value.to_owned())]
}

fn flag(key: &'static str, flag: &'static str, value: &str) -> FlagSetting {
    FlagSetting { key, flag, value: Setting::Text(value.to_owned()) }
}

#[test]
fn nothing_given_means_defaults() {
    let loaded = load(None, [], &[]).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.origin("rtsp.listen"), Origin::Default);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a line for each key")]
fn file_sets_every_key() {
    let text = r#"
        [server]
        shards = "0-3,8"
        workers = 2
        shard_priority = "fifo:20"
        log = "json"
        state_dir = "/var/lib/headend"
        redirect = ["rtsp://b:8554/", "rtsps://b"]
        rebalance = "auto"
        takeover = "/run/headend/takeover"
        user = "headend:media"
        landlock = "off"
        seccomp = "log"
        poll_entries_max = 1000
        task_queue_max = 64
        gso = "off"
        zerocopy = "on"
        [rtsp]
        listen = ["[::1]:554", "127.0.0.1:8554"]
        udp = { rtp = 6970 }
        multicast = { range = "239.1.2.0/24", rtp = 9000, ttl = 3, interface = "10.0.0.7" }
        session_timeout = "90s"
        sessions_per_address_max = 500
        connections_per_address_max = "auto"
        retransmission = "off"
        session_roaming = true
        low_client_ports = true
        srtp = "required"
        tls = { certificate = "c.pem", key = "k.pem", listen = "[::1]:322", plain_media = true }
        http = { listen = ["[::]:80"], tunnels_max = 9 }
        [auth]
        methods = "basic"
        webhook_timeout = "1s"
        [vod]
        root = "/srv/movies"
        window_cache = "8MiB"
        lag_budget = "5s"
        quality = "off"
        image_memory = "64MiB"
        [limits]
        half_open_max = 100
        request_timeout = "3s"
        request_head = "8KiB"
        request_body = "4KiB"
        requests_held = "2MiB"
        tls_handshakes_max = 10
        half_open_tunnels_max = 11
        publishers_max = 0
        live_memory = "16MiB"
        titles_open_max = 12
        log_lines_max = 13
        admin_connections_max = 14
        admin_connections_per_address_max = 15
        peer_connections_max = 116
        peer_connections_per_address_max = 17
        peer_handshakes_max = 18
        [metrics]
        listen = "127.0.0.1:0"
        [hls]
        listen = "off"
        allow_origin = ["https://tv.example"]
        hosts = "tv.example"
        connections_max = 16
        connections_per_address_max = 17
        paths_max = 18
        path_memory = "19MiB"
        [webrtc]
        listen = "off"
        hosts = "203.0.113.7"
        viewers_max = 20
        viewers_per_address_max = 21
    "#;
    let loaded = load_file(text).unwrap();
    let paths = Arc::clone(&loaded.config.paths);
    assert_eq!(paths.access.auth, loaded.config.auth, "in force by the table of paths");
    let expected = Config {
        listen: vec!["[::1]:554".parse().unwrap(), "127.0.0.1:8554".parse().unwrap()],
        admin: "127.0.0.1:0".parse().unwrap(),
        admin_tokens: None,
        rtp_port: 6_970,
        multicast: MulticastConfig {
            range: Some(("239.1.2.0".parse().unwrap(), 24)),
            rtp_port: 9_000,
            ttl: 3,
            interface: Some("10.0.0.7".parse().unwrap()),
        },
        tls: TlsConfig {
            listen: vec!["[::1]:322".parse().unwrap()],
            certificate: Some("c.pem".into()),
            key: Some("k.pem".into()),
            plain_media: true,
            by_kernel: false,
        },
        srtp: SrtpMode::Required,
        http: HttpConfig { listen: vec!["[::]:80".parse().unwrap()], tunnels_max: 9 },
        hls: HlsConfig {
            listen: Vec::new(),
            allow_origin: vec!["https://tv.example".to_owned()],
            hosts: vec!["tv.example".to_owned()],
            connections_max: 16,
            connections_per_address_max: Some(17),
            paths_max: 18,
            path_bytes_max: 19 << 20,
        },
        webrtc: WebrtcConfig {
            listen: Vec::new(),
            hosts: vec!["203.0.113.7".parse().unwrap()],
            viewers_max: 20,
            viewers_per_address_max: Some(21),
        },
        shards: CpuList::Cpus(vec![0, 1, 2, 3, 8]),
        workers: CpuList::Count(2),
        shard_priority: ShardPriority::Fifo(20),
        media_root: Some("/srv/movies".into()),
        redirect: Redirect::parse(&["rtsp://b:8554", "rtsps://b"]).unwrap(),
        rebalances: true,
        takeover: TakeoverConfig::At("/run/headend/takeover".into()),
        session_timeout: Duration::from_secs(90),
        sessions_max: 16_384,
        sessions_per_address_max: Some(500),
        connections_per_address_max: None,
        poll_entries_max: 1_000,
        window_cache_bytes: 8 << 20,
        image_memory: ImageMemory::Bytes(64 << 20),
        lag_budget: Duration::from_secs(5),
        adapts_quality: false,
        retransmits: false,
        task_queue_max: 64,
        limits: LimitsConfig {
            half_open_max: 100,
            request_timeout: Duration::from_secs(3),
            head_bytes_max: 8 << 10,
            body_bytes_max: 4 << 10,
            held_bytes_max: 2 << 20,
            handshakes_max: 10,
            half_open_tunnels_max: 11,
            publishers_max: 0,
            live_bytes_max: 16 << 20,
            titles_open_max: Some(12),
            log_lines_max: 13,
            admin_connections_max: 14,
            admin_connections_per_address_max: 15,
            peer_connections_max: 116,
            peer_connections_per_address_max: 17,
            peer_handshakes_max: 18,
        },
        state_dir: Some("/var/lib/headend".into()),
        confinement: ConfinementConfig {
            user: Some(confinement::AccountName::parse("headend:media").unwrap()),
            landlock: Mode::Off,
            seccomp: confinement::SeccompMode::Log,
        },
        file: None,
        log: LogFormat::Json,
        gso: Mode::Off,
        zerocopy: Mode::On,
        session_roaming: true,
        low_client_ports: true,
        auth: AuthConfig {
            methods: access::Methods::Basic,
            webhook_timeout: Duration::from_secs(1),
            ..AuthConfig::default()
        },
        paths,
    };
    assert_eq!(loaded.config, expected);
}

#[test]
fn flag_beats_variable_beats_file_beats_default() {
    let file = "[rtsp]\nsession_timeout = \"10s\"\nudp = { rtp = 10 }\n[vod]\nroot = \"a\"";
    let env = [
        ("HEADEND__RTSP__SESSION_TIMEOUT".to_owned(), "20s".to_owned()),
        ("HEADEND__RTSP__UDP__RTP".to_owned(), "20".to_owned()),
        ("HEADEND_LOG".to_owned(), "debug".to_owned()),
        ("PATH".to_owned(), "/bin".to_owned()),
    ];
    let flags = [flag("rtsp.udp.rtp", "--rtp-port", "30")];
    let loaded = load(Some(("f", file)), env, &flags).unwrap();
    assert_eq!(loaded.config.media_root, Some("a".into()));
    assert_eq!(loaded.config.session_timeout, Duration::from_secs(20));
    assert_eq!(loaded.config.rtp_port, 30);
    assert_eq!(loaded.origin("vod.root"), Origin::File);
    assert_eq!(loaded.origin("rtsp.session_timeout"), Origin::Env);
    assert_eq!(loaded.origin("rtsp.udp.rtp"), Origin::Flag);
}

#[test]
fn listen_variable_takes_several_addresses() {
    let loaded = load(None, env("HEADEND__RTSP__LISTEN", "127.0.0.1:1, [::1]:2"), &[]).unwrap();
    assert_eq!(loaded.config.listen.len(), 2);
}

#[test]
fn refusals_of_a_file_say_where_and_what_instead() {
    let texts = [
        "[rtsp]\nlisten = [\"[::]:8554\"\n",
        "[rtsp]\nlissten = []\n",
        "[rstp]\nlisten = []\n",
        "listen = []\n",
        "colour = 1\n",
        "[rtsp.udp]\nrtp = 8000\nrtcp = 8001\n",
        "[rtsp]\nlisten = []\n",
        "[rtsp]\nlisten = [\"localhost\"]\n",
        "[rtsp]\nlisten = [8554]\n",
        "rtsp = true\n",
        "[rtsp]\nsession_timeout = 60\n",
        "[rtsp]\nsession_timeout = \"1ms\"\n",
        "[rtsp]\nudp = { rtp = 70000 }\n",
        "[rtsp]\nudp = { rtp = -2 }\n",
        "[vod]\nwindow_cache = \"8\"\n",
        "[vod]\nroot = 1\n",
        "[server]\nshards = \"3-1\"\n",
        "[server]\nlog = \"xml\"\n",
        "[server]\npoll_entries_max = 1\n",
        "[admin]\nlisten = \"127.0.0.1:1\"\n[metrics]\nlisten = \"127.0.0.1:2\"\n",
    ];
    let errors: Vec<_> = texts.iter().map(|t| load_file(t).unwrap_err().to_string()).collect();
    insta::assert_snapshot!(errors.join("\n"), @r"
    headend.toml:2:22: unclosed array, expected `]`
    headend.toml:2:1: unknown key `rtsp.lissten`; did you mean `rtsp.listen`?
    headend.toml:1:2: unknown key `rstp`; did you mean `rtsp`?
    headend.toml:1:1: unknown key `listen`; did you mean `rtsp.listen`?
    headend.toml:1:1: unknown key `colour`
    headend.toml:3:1: unknown key `rtsp.udp.rtcp`; did you mean `rtsp.udp.rtp`?
    headend.toml:2:10: rtsp.listen: needs at least one value
    headend.toml:2:10: rtsp.listen: `localhost` is not an address like `0.0.0.0:8554`, `[::]:8554` or `127.0.0.1:0`
    headend.toml:2:10: rtsp.listen: cannot be of type integer; `headend config default` shows how it is written
    headend.toml:1:8: rtsp: cannot be of type boolean; `headend config default` shows how it is written
    headend.toml:2:19: rtsp.session_timeout: `60` is not a duration like `500ms`, `10s`, `5m` or `1h`
    headend.toml:2:19: rtsp.session_timeout: 1ms is not in 1s to 3600s
    headend.toml:2:15: rtsp.udp.rtp: 70000 is not in 0 to 65535
    headend.toml:2:15: rtsp.udp.rtp: `-2` is not a whole number
    headend.toml:2:16: vod.window_cache: `8` is not a size like `512KiB`, `8MiB` or `1GiB`
    headend.toml:2:8: vod.root: cannot be of type integer, boolean or array; `headend config default` shows how it is written
    headend.toml:2:10: server.shards: the range 3-1 runs backwards
    headend.toml:2:7: server.log: `xml` is not one of auto, text, json
    headend.toml:2:20: server.poll_entries_max: 1 is not in 64 to 1048576
    headend.toml:4:10: metrics.listen: contradicts admin.listen, which means the same
    ");
}

#[test]
fn refusals_outside_of_a_file_name_their_source() {
    let errors = [
        load(None, env("HEADEND__RTSP__LISTN", "x"), &[]).unwrap_err(),
        load(None, env("HEADEND__QWERTY", "x"), &[]).unwrap_err(),
        load(None, env("HEADEND__RTSP__UDP__RTP", "x"), &[]).unwrap_err(),
        load(None, [], &[flag("rtsp.udp.rtp", "--rtp-port", "8001")]).unwrap_err(),
    ];
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(errors.join("\n"), @r"
    environment: unknown variable HEADEND__RTSP__LISTN; did you mean `HEADEND__RTSP__LISTEN`?
    environment: unknown variable HEADEND__QWERTY
    environment: HEADEND__RTSP__UDP__RTP: `x` is not a whole number
    --rtp-port: 8001 is odd: RTP takes an even port and RTCP the next one; write 8000
    ");
}

#[test]
fn admin_and_metrics_may_agree_and_a_later_source_may_override() {
    let both = "[admin]\nlisten = \"127.0.0.1:1\"\n[metrics]\nlisten = \"127.0.0.1:1\"\n";
    assert!(load_file(both).is_ok());
    let loaded =
        load(Some(("f", both)), [], &[flag("admin.listen", "--admin", "127.0.0.1:3")]).unwrap();
    assert_eq!(loaded.config.admin.port(), 3);
}

#[test]
fn admin_api_beyond_this_machine_is_warned_about() {
    assert!(Config::default().warnings().is_empty());
    let config = Config { admin: "0.0.0.0:9997".parse().unwrap(), ..Config::default() };
    insta::assert_snapshot!(config.warnings().join("\n"), @r"the admin API on 0.0.0.0:9997 answers this machine alone, because there are no tokens for others; set admin.tokens, or use --admin 127.0.0.1:9997 (HE-W109)");
    let config = Config { admin_tokens: Some("tokens".into()), ..config };
    assert!(config.warnings().is_empty());
}

#[test]
fn path_that_everyone_may_publish_to_is_warned_about() {
    let text = "[path.\"live/a\"]\npublish = [\"any\"]\n[path.b]\npublish = [\"::/0\"]\n";
    let config = load_file(text).unwrap().config;
    insta::assert_snapshot!(config.warnings().join("\n"), @r#"everyone who reaches the RTSP port may publish to [path."b"] and 1 more; unless that is meant, name networks: publish = ["10.0.0.0/8"] (HE-W106)"#);
}

#[test]
fn keys_that_count_from_the_next_start_on_are_named() {
    let old = load_file("[vod]\nroot = \"a\"\n").unwrap().config;
    let new =
        load_file("[rtsp]\nlisten = [\"[::1]:0\"]\n[path.a]\nhold = \"1s\"\n").unwrap().config;
    assert_eq!(old.changed_keys(&new), ["rtsp.listen", "vod.root"]);
    assert!(old.changed_keys(&old).is_empty());
}

#[test]
fn shown_defaults_read_back_as_defaults() {
    let config = Config::default();
    for key in KEYS {
        let Some(shown) = (key.show)(&config) else { continue };
        let text = format!("{} = {shown}", key.name);
        assert_eq!(load_file(&text).unwrap().config, config, "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn any_file_is_read_or_refused_without_panic(text in "[\\[\\]a-z.=\"{}0-9 \n]{0,60}") {
        let _ = load_file(&text);
    }
}

//! Sections of `[path]`: what they inherit, which wins, and the words of every refusal.

use std::time::Duration;

use super::super::source::SourceAddress;
use super::super::{Config, Loaded, load};
use super::*;

fn load_file(text: &str) -> Result<Loaded, ConfigError> {
    load(Some(("f", text)), [], &[])
}

fn paths(text: &str) -> Arc<PathTable> {
    load_file(text).unwrap().config.paths
}

#[test]
fn section_sets_every_key() {
    let paths = paths(
        r#"
        [path."live/cam1"]
        source = "rtsp://me:pw@cam/1"
        source_transport = "tcp"
        on_demand = true
        idle_close = "30s"
        source_timeout = "500ms"
        fallback = [" rtsp://me:pw@cam/2 ", "live/studio"]
        standby = true
        return_after = "0s"
        switch_interval = "500ms"
        hold = "3s"
        start = "live"
        lag_budget = "500ms"
        buffer = "64MiB"
        readers_max = 7
        [path."live/studio"]
        override = true
        publish = ["10.0.0.0/8", "::1"]
        [path."vod/films/x.mp4"]
        quality = "off"
    "#,
    );
    let cam = paths.find("live/cam1");
    assert!(matches!(&cam.source, SourceAddress::Rtsp(url) if url.host == "cam"));
    assert_eq!(cam.source_transport, super::super::paths::SourceTransport::Tcp);
    assert_eq!(cam.start, super::super::paths::StartConfig::Live);
    assert!(cam.on_demand && !cam.may_override);
    assert_eq!(
        cam.fallback.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["rtsp://cam/2", "live/studio"]
    );
    let half_second = Duration::from_millis(500);
    assert_eq!((cam.source_timeout, cam.switch_interval), (Some(half_second), half_second));
    assert!(cam.standby && cam.return_after.is_zero());
    let (idle_close, hold) = (Duration::from_secs(30), Duration::from_secs(3));
    assert_eq!((cam.idle_close, cam.hold), (idle_close, hold));
    assert_eq!(cam.lag_budget, Duration::from_millis(500));
    assert_eq!((cam.ring_bytes, cam.readers_max), (64 << 20, 7));
    let studio = paths.find("live/studio");
    assert!(studio.may_override);
    assert_eq!(studio.publish.texts(), ["10.0.0.0/8", "::1"]);
    assert_eq!(paths.find("vod/films/x.mp4").adapts_quality, Some(false));
    assert_eq!(paths.find("vod/films/y.mp4").adapts_quality, None);
    assert_eq!(**paths.find("other"), PathConfig::default());
}

#[test]
fn named_paths_and_patterns_inherit_from_the_star_wherever_it_stands() {
    let paths = paths(
        r#"
        [path."b"]
        hold = "2s"
        [path."~^c/"]
        start = "live"
        [path."~^c"]
        hold = "5s"
        [path."*"]
        hold = "9s"
        lag_budget = "1s"
        on_demand = true
    "#,
    );
    for (path, hold_s) in [("b", 2), ("c/x", 9), ("cam", 5), ("other", 9)] {
        let config = paths.find(path);
        assert_eq!(config.hold.as_secs(), hold_s, "{path}");
        assert_eq!(config.lag_budget.as_secs(), 1, "{path}");
        assert!(config.on_demand, "for those of them that are fetched: {path}");
    }
}

#[test]
fn refusals_say_where_and_what_instead() {
    let texts = [
        "[path.\"live/a\"]\nsorce = \"publish\"\n",
        "[paths.\"live/a\"]\nsource = \"publish\"\n",
        "[path.live.a]\nsource = \"publish\"\n",
        "[path]\nhold = \"1s\"\n",
        "path = 1\n",
        "[path.\"/live/a\"]\n",
        "[path.\"~a(\"]\n",
        "[path.a]\non_demand = \"maybe\"\n",
        "[path.a]\non_demand = true\n",
        "[path.a]\non_demand = true\nsource = \"udp://239.1.2.3:5004\"\nsource_transport = \"udp\"\n",
        "[path.a]\nsource = \"rtsp://cam/1\"\noverride = true\n",
        "[path.a]\nsource = \"rtsp://cam/1\"\npublish = []\n",
        "[path.a]\nsource = \"rtsp://cam/1\"\nidle_close = \"1s\"\n",
        "[path.a]\nsource = \"rtps://me:secret@cam/1\"\n",
        "[path.a]\npublish = [\"everybody\"]\n",
        "[path.a]\nstart = \"now\"\n",
        "[path.a]\nlag_budget = \"1ms\"\n",
        "[path.a]\nbuffer = 8\n",
        "[path.a]\nhold = true\n",
        "[path.a]\nquality = \"off\"\n",
        "[path.\"*\"]\nsource = \"rtsp://cam/1\"\n",
        "[path.\"~x\"]\nsource = \"rtsp://cam/1\"\n",
        "[path.\"vod/a.mp4\"]\nhold = \"1s\"\n",
        "[path.a]\nhold = \"1s\"\n[path.a]\nhold = \"1s\"\n",
    ];
    let errors: Vec<_> = texts.iter().map(|t| load_file(t).unwrap_err().to_string()).collect();
    insta::assert_snapshot!(errors.join("\n"), @r#"
    f:2:1: unknown key `path."live/a".sorce`; did you mean `source`?
    f:1:2: unknown key `paths`; did you mean `path`?
    f:1:12: unknown key `path."live".a`; did you mean `[path."live/a"]`?
    f:2:8: path."hold": cannot be of type string; `headend config default` shows how it is written
    f:1:8: path: cannot be of type integer; `headend config default` shows how it is written
    f:1:7: path."/live/a": `/live/a` is no name of a path: parts between single slashes, 255 bytes at most
    f:1:7: path."~a(": not a regular expression: unclosed group
    f:2:13: path."a".on_demand: `maybe` is neither true nor false
    f:2:13: path."a".on_demand: means nothing here: it is for paths whose source is fetched
    f:4:20: path."a".source_transport: means nothing here: it is for rtsp:// sources
    f:3:12: path."a".override: means nothing here: it is for paths that are published to
    f:3:11: path."a".publish: means nothing here: it is for paths that are published to
    f:3:14: path."a".idle_close: means nothing here: it is for sources with on_demand = true
    f:2:10: path."a".source: `rtps://...@cam/1` is none of publish, rtsp://.., udp://ADDRESS:PORT, file:NAME.sdp, vod/TITLE
    f:2:11: path."a".publish: `everybody` is none of loopback, private, any, 10.0.0.0/8, users, user:NAME, user:NAME@10.0.0.0/8, jwt, webhook
    f:2:9: path."a".start: `now` is not one of gop, live
    f:2:14: path."a".lag_budget: 1ms is not in 100ms to 60s
    f:2:10: path."a".buffer: `8` is not a size like `512KiB`, `8MiB` or `1GiB`
    f:2:8: path."a".hold: cannot be of type boolean; `headend config default` shows how it is written
    f:2:11: path."a".quality: means nothing here: it is for titles: demo, vod/..
    f:2:10: path."*".source: a source that is fetched feeds one path: set it where that path is named
    f:2:10: path."~x".source: a source that is fetched feeds one path: set it where that path is named
    f:2:8: path."vod/a.mp4".hold: is for live paths; of a title `quality`, `read` and `control` can be set
    f:3:7: duplicate key
    "#);
}

#[test]
fn refusals_of_fallbacks_say_which_entry_of_the_list() {
    let texts = [
        "[path.a]\nsource_timeout = \"499ms\"\n",
        "[path.a]\nstandby = true\n",
        "[path.a]\nreturn_after = \"1s\"\nfallback = []\n",
        "[path.a]\nreturn_after = \"11m\"\nfallback = [\"b\"]\n",
        "[path.a]\nswitch_interval = \"0s\"\nfallback = [\"b\"]\n",
        "[path.a]\nfallback = true\n",
        "[path.a]\nfallback = [1]\n",
        "[path.a]\nfallback = [\"b\", \"vod/..\"]\n",
        "[path.a]\nfallback = [\n  \"b\",\n  \"publish\",\n]\n",
        "[path.a]\nfallback = [\"b\", \"c\", \"b\"]\n",
        "[path.a]\nfallback = \"rtps://me:secret@cam/1\"\n",
        "[path.a]\nfallback = [\"rtsp://me:secret@cam/1\"]\nsource = \"rtsp://me:secret@cam/1\"\n",
        "[path.a]\nfallback = [\"b\", \"c\", \"d\", \"e\", \"f\", \"g\", \"h\", \"i\", \"j\"]\n",
        "[path.a]\nfallback = [\"b\"]\nsource = \"rtsp://cam/1\"\npublish = []\n",
        "[path.\"*\"]\nfallback = [\"b\"]\n",
        "[path.\"~x\"]\nfallback = []\n",
        "[path.\"vod/a.mp4\"]\nfallback = [\"b\"]\n",
    ];
    let errors: Vec<_> = texts.iter().map(|t| load_file(t).unwrap_err().to_string()).collect();
    insta::assert_snapshot!(errors.join("\n"), @r#"
    f:2:18: path."a".source_timeout: 499ms is not in 500ms to 86400s
    f:2:11: path."a".standby: means nothing here: it is for paths with `fallback`
    f:2:16: path."a".return_after: means nothing here: it is for paths with `fallback`
    f:2:16: path."a".return_after: 660s is not in 0ns to 600s
    f:2:19: path."a".switch_interval: 0ns is not in 100ms to 600s
    f:2:12: path."a".fallback: cannot be of type boolean; `headend config default` shows how it is written
    f:2:12: path."a".fallback: cannot be of type integer; `headend config default` shows how it is written
    f:2:18: path."a".fallback: `vod/..` is no title: name one of the library as in URLs, such as vod/slate.mp4
    f:4:3: path."a".fallback: `publish` is for `source`: name a path that is published to, such as "live/b"
    f:2:23: path."a".fallback: `b` is in the list already
    f:2:12: path."a".fallback: `rtps://...@cam/1` is none of rtsp://.., udp://ADDRESS:PORT, file:NAME.sdp, and no name of a live path or of a title
    f:2:13: path."a".fallback: `rtsp://cam/1` is the path's `source` already
    f:2:12: path."a".fallback: 9 values are more than the 8 allowed
    f:4:11: path."a".publish: means nothing here: it is for paths that are published to
    f:2:12: path."*".fallback: names the sources of one path: set it where that path is named
    f:2:12: path."~x".fallback: names the sources of one path: set it where that path is named
    f:2:12: path."vod/a.mp4".fallback: is for live paths; of a title `quality`, `read` and `control` can be set
    "#);
}

#[test]
fn paths_and_patterns_beyond_their_number_are_refused() {
    let many = |count: usize, prefix: &str| -> String {
        (0..count).map(|n| format!("[path.\"{prefix}{n}\"]\n")).collect()
    };
    assert_eq!(paths(&many(4_096, "a")).named.len(), 4_096);
    let error = load_file(&many(4_097, "a")).unwrap_err().to_string();
    assert!(error.starts_with("f:4097:7: path.\"a4096\": 4097 values"), "{error}");
    assert!(load_file(&many(64, "~")).is_ok());
    assert!(load_file(&many(65, "~")).is_err());
}

#[test]
fn wrong_words_about_paths_leave_variables_to_the_table_of_keys() {
    let env = [("HEADEND__PATH__X__HOLD".to_owned(), "1s".to_owned())];
    assert!(load(None, env, &[]).is_err());
    assert_eq!(load(None, [], &[]).unwrap().config, Config::default());
}

proptest::proptest! {
    #[test]
    fn any_section_is_read_or_refused_without_panic(
        name in "[~*a-z/.(\\[]{0,8}",
        body in "(source|hold|publish|on_demand|fallback|lineup) = [\\[\\]{}=a-z:/.,~@\"0-9 ]{0,20}",
    ) {
        let _ = load_file(&format!("[path.\"{name}\"]\n{body}\n"));
    }
}

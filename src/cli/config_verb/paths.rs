//! What `config default` and `config show` say of single paths.
//!
//! Passwords in sources are not shown: what `config show` prints is for eyes and tickets.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{key_json, write_key, write_key_default};
use crate::config::Loaded;
use crate::config::fallback::FallbackSource;
use crate::config::key::{Key, quoted};
use crate::config::keys::PATH_KEYS;
use crate::config::paths::{PathConfig, PathTable};
use crate::config::section::REST;
use crate::config::source::SourceAddress;

/// The section for all paths with its defaults, and examples of the others.
pub(super) fn write_default(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\n# Paths: channels that are published or fetched, and titles. A name beats a")?;
    writeln!(
        out,
        "# pattern, and the first pattern that matches beats the next. \"*\" is for all"
    )?;
    writeln!(out, "# others, and the default of every key that their own section leaves out.")?;
    writeln!(out, "[path.{}]", quoted(REST))?;
    let config = PathConfig::default();
    for key in PATH_KEYS {
        write_key_default(key, &config, out)?;
    }
    out.write_all(EXAMPLES.as_bytes())
}

/// Sections that show what can be said; `config default` has them as comments.
const EXAMPLES: &str = r#"
# A camera that is fetched when somebody wants to see it.
# [path."live/door"]
# source = "rtsp://user:password@10.0.0.5/stream1"
# source_transport = "tcp"
# on_demand = true
# idle_close = "30s"

# A channel that comes as RTP or MPEG-TS from one sender to a multicast group.
# [path."live/news"]
# source = "udp://232.1.2.3:5004?source=10.0.0.9&interface=eth1"

# A studio that may publish from its own network, and take the path from a forgotten encoder.
# [path."live/studio"]
# publish = ["10.1.0.0/16", "2001:db8:1::/48"]
# override = true
# hold = "1m"

# A channel whose encoder has a spare; when both are gone, a title of the library plays.
# [path."live/channel"]
# publish = ["10.1.0.0/16"]
# fallback = ["live/spare", "vod/slate.mp4"]
# standby = true

# A channel of titles, one after the other; the news come at their time.
# [path."linear"]
# playlist = ["a.mp4", "b.mp4", { title = "news.mp4", at = "20:15:00" }]
# slate = "slate.mp4"

# A line-up: rtsp://HOST/tv plays one of its channels, and viewers change it in their session.
# [path."tv"]
# lineup = { 101 = "live/news", 201 = "vod/film.mp4" }

# All halls: a regular expression behind ~, found anywhere in the name unless ^ and $ say more.
# [path."~^live/hall[0-9]+$"]
# publish = ["private"]
# start = "live"
# readers_max = 500

# Of a title: its picture is never thinned.
# [path."vod/films/big film.mp4"]
# quality = "off"
"#;

/// What counts of every section of the file, and for all others, each value with who set it.
pub(super) fn write_shown(loaded: &Loaded, out: &mut impl Write) -> io::Result<()> {
    for (name, config) in sections(loaded) {
        writeln!(out, "\n[path.{}]", quoted(name))?;
        for key in keys_of(name, config) {
            let mut origin = origin(loaded, name, key).to_owned();
            if hides_password(key, config) {
                origin.push_str("; user and password not shown");
            }
            write_key(key, config, &origin, out)?;
        }
    }
    Ok(())
}

/// The same for programs.
pub(super) fn json(loaded: &Loaded) -> Vec<Value> {
    let section = |(name, config): (&str, &PathConfig)| {
        let keys = keys_of(name, config);
        let keys = keys.map(|key| key_json(key, config, origin(loaded, name, key)));
        json!({ "path": name, "keys": keys.collect::<Vec<_>>() })
    };
    sections(loaded).map(section).collect()
}

/// All sections; that for all others comes first, and is there in any case.
fn sections(loaded: &Loaded) -> impl Iterator<Item = (&str, &PathConfig)> {
    let paths = &*loaded.config.paths;
    let others = loaded.paths.iter().map(|section| &*section.name).filter(|name| *name != REST);
    std::iter::once(REST).chain(others).filter_map(|name| Some((name, config_of(paths, name)?)))
}

fn config_of<'a>(paths: &'a PathTable, section: &str) -> Option<&'a PathConfig> {
    if section == REST {
        return Some(&paths.others);
    }
    match section.strip_prefix('~') {
        Some(text) => paths.patterns.iter().find(|p| p.text() == text).map(|p| &*p.config),
        None => paths.named.get(section).map(|config| &**config),
    }
}

/// Keys that say something in a section.
fn keys_of(section: &str, config: &PathConfig) -> impl Iterator<Item = &'static Key<PathConfig>> {
    PATH_KEYS.iter().filter(move |key| key.check(section, config).is_ok())
}

fn origin(loaded: &Loaded, section: &str, key: &Key<PathConfig>) -> &'static str {
    let sets = |name: &str| {
        loaded.paths.iter().any(|known| known.name == name && known.set.contains(key.name))
    };
    match () {
        () if sets(section) => "file",
        () if section != REST && sets(REST) => "path.\"*\"",
        () => "default",
    }
}

fn hides_password(key: &Key<PathConfig>, config: &PathConfig) -> bool {
    let has_password = |source: &SourceAddress| matches!(source, SourceAddress::Rtsp(url) if url.credentials.is_some());
    match key.name {
        "source" => has_password(&config.source),
        "fallback" => config
            .fallback
            .iter()
            .any(|entry| matches!(entry, FallbackSource::Address(source) if has_password(source))),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config;

    const FILE: &str = r#"
        [path."live/door"]
        source = "rtsp://user:s3cret@10.0.0.5/stream1"
        on_demand = true
        [path."live/studio"]
        fallback = ["live/hall1", "rtsp://user:s3cret@10.0.0.6/x"]
        return_after = "0s"
        [path."*"]
        hold = "3s"
        standby = true
        publish = ["any"]
        [path."~^live/hall"]
        override = true
        [path."vod/a b.mp4"]
        quality = "off"
    "#;

    fn written_default() -> String {
        let mut out = Vec::new();
        write_default(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn shown(loaded: &Loaded) -> String {
        let mut out = Vec::new();
        write_shown(loaded, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a line for each key")]
    fn shown_paths_name_the_origin_of_values_and_no_password() {
        let loaded = config::load(Some(("f", FILE)), [], &[]).unwrap();
        let text = shown(&loaded);
        insta::assert_snapshot!(text, @r#"

        [path."*"]
        source = "publish"  # default
        source_transport = "auto"  # default
        source_tls = "verify"  # default
        on_demand = false  # default
        idle_close = "10s"  # default
        source_timeout = "auto"  # default
        fallback = []  # default
        standby = true  # file
        return_after = "5s"  # default
        switch_interval = "2s"  # default
        playlist = []  # default
        playlist_loop = true  # default
        playlist_clock = "local"  # default
        # slate is not set
        lineup = {}  # default
        lineup_digit_timeout = "1500ms"  # default
        hold = "3s"  # file
        publish = ["any"]  # file
        read = "auto"  # default
        control = ["any"]  # default
        override = false  # default
        start = "gop"  # default
        lag_budget = "2s"  # default
        buffer = "32MiB"  # default
        readers_max = 16384  # default
        # quality is not set

        [path."live/door"]
        source = "rtsp://10.0.0.5/stream1"  # file; user and password not shown
        source_transport = "auto"  # default
        source_tls = "verify"  # default
        on_demand = true  # file
        idle_close = "10s"  # default
        source_timeout = "auto"  # default
        fallback = []  # default
        hold = "3s"  # path."*"
        read = "auto"  # default
        control = ["any"]  # default
        start = "gop"  # default
        lag_budget = "2s"  # default
        buffer = "32MiB"  # default
        readers_max = 16384  # default

        [path."live/studio"]
        source = "publish"  # default
        source_transport = "auto"  # default
        source_tls = "verify"  # default
        on_demand = false  # default
        source_timeout = "auto"  # default
        fallback = ["live/hall1", "rtsp://10.0.0.6/x"]  # file; user and password not shown
        standby = true  # path."*"
        return_after = "0s"  # file
        switch_interval = "2s"  # default
        hold = "3s"  # path."*"
        publish = ["any"]  # path."*"
        read = "auto"  # default
        control = ["any"]  # default
        override = false  # default
        start = "gop"  # default
        lag_budget = "2s"  # default
        buffer = "32MiB"  # default
        readers_max = 16384  # default

        [path."~^live/hall"]
        source = "publish"  # default
        source_timeout = "auto"  # default
        hold = "3s"  # path."*"
        publish = ["any"]  # path."*"
        read = "auto"  # default
        control = ["any"]  # default
        override = true  # file
        start = "gop"  # default
        lag_budget = "2s"  # default
        buffer = "32MiB"  # default
        readers_max = 16384  # default
        # quality is not set

        [path."vod/a b.mp4"]
        read = "auto"  # default
        control = ["any"]  # default
        quality = "off"  # file
        "#);
    }

    #[test]
    fn shown_path_that_plays_titles_has_its_list_and_reads_back() {
        let file = r#"
            [path."linear"]
            playlist = ["a.mp4", { title = "b.mp4", at = "20:15" }]
            slate = "vod/s.mp4"
        "#;
        let loaded = config::load(Some(("f", file)), [], &[]).unwrap();
        let text = shown(&loaded);
        let (_rest, linear) = text.split_once("\n\n[").unwrap();
        insta::assert_snapshot!(linear, @r#"
        path."linear"]
        on_demand = false  # default
        source_timeout = "auto"  # default
        fallback = []  # default
        playlist = ["a.mp4", { title = "b.mp4", at = "20:15:00" }]  # file
        playlist_loop = true  # default
        playlist_clock = "local"  # default
        slate = "s.mp4"  # file
        hold = "10s"  # default
        read = "auto"  # default
        control = ["any"]  # default
        start = "gop"  # default
        lag_budget = "2s"  # default
        buffer = "32MiB"  # default
        readers_max = 16384  # default
        "#);
        let again = config::load(Some(("shown", &text)), [], &[]).unwrap();
        assert_eq!(again.config.paths, loaded.config.paths);
    }

    #[test]
    fn shown_paths_read_back_as_what_they_are_without_passwords() {
        let text = shown(&config::load(Some(("f", FILE)), [], &[]).unwrap());
        let again = config::load(Some(("shown", &text)), [], &[]).unwrap();
        let without = config::load(Some(("f", &FILE.replace("user:s3cret@", ""))), [], &[]);
        let (again, without) = (again.config.paths, without.unwrap().config.paths);
        for path in ["live/door", "live/studio", "live/hall1", "vod/a b.mp4", "other"] {
            let shown = |paths: &PathTable| -> Vec<_> {
                let config = paths.find(path).clone();
                keys_of(path, &config).map(|key| (key.name, (key.show)(&config))).collect()
            };
            assert_eq!(shown(&again), shown(&without), "{path}");
        }
    }

    #[test]
    fn default_file_documents_every_key_of_a_path() {
        let text = written_default();
        let (keys, _examples) = text.split_once("\n# A camera").unwrap();
        insta::assert_snapshot!(keys, @r##"

        # Paths: channels that are published or fetched, and titles. A name beats a
        # pattern, and the first pattern that matches beats the next. "*" is for all
        # others, and the default of every key that their own section leaves out.
        [path."*"]
        # publish, rtsp://USER:PASSWORD@HOST/.., udp://ADDRESS:PORT, file:NAME.sdp, vod/TITLE
        source = "publish"
        # how an rtsp:// source sends: auto (UDP, else TCP), udp, tcp
        source_transport = "auto"
        # who is believed at rtsps://: verify (this machine's CAs), sha256:FINGERPRINT, off
        source_tls = "verify"
        # true: a source is fetched when a player wants it; false: always
        on_demand = false
        # a source on demand is closed so long after its last player, 1s to 24h
        idle_close = "10s"
        # a source silent for so long is gone, 500ms to 24h; auto: 10s, open TCP counts
        source_timeout = "auto"
        # up to 8 sources that take over from it, best first: as above, or live paths
        fallback = []
        # true: the next source is kept connected, so that it takes over at once
        standby = false
        # a better source takes over when it has been good for so long, up to 10m
        return_after = "5s"
        # least time between two changes of the source, 100ms to 10m
        switch_interval = "2s"
        # titles that play in order: names, { title = .., at = "20:15:00" }; no `source`
        playlist = []
        # true: the list begins again behind its last title; false: it plays once
        playlist_loop = true
        # whose time `at` is: local (the time zone of this host), utc
        playlist_clock = "local"
        # title that is shown while no title of the list can play
        # slate = "..."
        # channels of a session: { 101 = "live/news", 201 = "vod/film.mp4" }, 1 to 999
        lineup = {}
        # a number is complete so long after its last digit, or with the third, 100ms to 10s
        lineup_digit_timeout = "1500ms"
        # players wait so long for a source that has gone, up to 1h
        hold = "10s"
        # who may publish: auto (loopback; users once there are any), or a list as of `read`
        publish = "auto"
        # who may read: auto (any; users once there are any), or a list; [] is nobody
        read = "auto"
        # who of those may pause, seek, change rate or channel: a list as of `read`
        control = ["any"]
        # true: a second publisher takes the path from the first; false: it is refused
        override = false
        # where players begin: gop (newest key frame, at once), live (the next one)
        start = "gop"
        # a player so late skips to the newest key frame, 100ms to 1m
        lag_budget = "2s"
        # memory for the newest pictures and late players, once a shard, 1MiB to 4GiB
        buffer = "32MiB"
        # players of the path on one shard, 1 to 1048576
        readers_max = 16384
        # of a title such as "vod/a.mp4": auto or off instead of what vod.quality says
        # quality = "..."
        "##);
    }

    #[test]
    fn default_file_has_examples_of_sections() {
        let text = written_default();
        let (_keys, examples) = text.split_once("\n# A camera").unwrap();
        insta::assert_snapshot!(examples, @r##"
         that is fetched when somebody wants to see it.
        # [path."live/door"]
        # source = "rtsp://user:password@10.0.0.5/stream1"
        # source_transport = "tcp"
        # on_demand = true
        # idle_close = "30s"

        # A channel that comes as RTP or MPEG-TS from one sender to a multicast group.
        # [path."live/news"]
        # source = "udp://232.1.2.3:5004?source=10.0.0.9&interface=eth1"

        # A studio that may publish from its own network, and take the path from a forgotten encoder.
        # [path."live/studio"]
        # publish = ["10.1.0.0/16", "2001:db8:1::/48"]
        # override = true
        # hold = "1m"

        # A channel whose encoder has a spare; when both are gone, a title of the library plays.
        # [path."live/channel"]
        # publish = ["10.1.0.0/16"]
        # fallback = ["live/spare", "vod/slate.mp4"]
        # standby = true

        # A channel of titles, one after the other; the news come at their time.
        # [path."linear"]
        # playlist = ["a.mp4", "b.mp4", { title = "news.mp4", at = "20:15:00" }]
        # slate = "slate.mp4"

        # A line-up: rtsp://HOST/tv plays one of its channels, and viewers change it in their session.
        # [path."tv"]
        # lineup = { 101 = "live/news", 201 = "vod/film.mp4" }

        # All halls: a regular expression behind ~, found anywhere in the name unless ^ and $ say more.
        # [path."~^live/hall[0-9]+$"]
        # publish = ["private"]
        # start = "live"
        # readers_max = 500

        # Of a title: its picture is never thinned.
        # [path."vod/films/big film.mp4"]
        # quality = "off"
        "##);
    }

    #[test]
    fn json_has_sections_with_typed_values_and_no_password() {
        let loaded = config::load(Some(("f", FILE)), [], &[]).unwrap();
        let paths = json(&loaded);
        assert_eq!(paths[1]["path"], "live/door");
        assert_eq!(paths[1]["keys"][0]["value"], "rtsp://10.0.0.5/stream1");
        assert!(!format!("{paths:?}").contains("s3cret"));
        let on_demand = &paths[1]["keys"][3];
        assert_eq!((&on_demand["key"], &on_demand["value"]), (&json!("on_demand"), &json!(true)));
    }

    #[test]
    fn examples_of_the_default_file_are_right() {
        let text: String = EXAMPLES
            .lines()
            .filter_map(|line| line.strip_prefix("# "))
            .filter(|line| line.starts_with('[') || line.contains(" = "))
            .map(|line| format!("{line}\n"))
            .collect();
        let paths = config::load(Some(("examples", &text)), [], &[]).unwrap().config.paths;
        assert_eq!(
            (paths.named.len(), paths.patterns.len()),
            (10, 1),
            "two are sources of live/channel, and one is a channel of tv"
        );
        assert!(paths.find("live/door").on_demand && paths.find("live/studio").may_override);
        let sources = ["live/channel~0", "live/spare", "live/channel~2"].map(Arc::from);
        assert_eq!(paths.source_paths("live/channel"), sources);
    }
}

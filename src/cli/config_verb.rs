//! `headend config check|default|show|reload`.

mod paths;
mod users;

use std::io::{self, Write};

use serde_json::{Value, json};

use super::args::{ConfigVerb, load};
use super::{Exit, Failure, missing, remote};
use crate::config::key::Key;
use crate::config::keys::KEYS;
use crate::config::{Config, Loaded, env_name};

pub(super) fn run(verb: &ConfigVerb, out: &mut impl Write) -> Result<Exit, Failure> {
    match verb {
        ConfigVerb::Check(args) => {
            let loaded = load(args.config.as_ref(), std::env::vars_os(), &[])?;
            let name = args.config.as_ref().map_or_else(
                || "environment and defaults".to_owned(),
                |path| path.display().to_string(),
            );
            let missing = missing::warnings_of(&loaded.config);
            for warning in loaded.config.warnings().into_iter().chain(missing) {
                writeln!(out, "[warn] {warning}")?;
            }
            writeln!(out, "{name}: ok")?;
        }
        ConfigVerb::Default => write_default(out)?,
        ConfigVerb::Show(args) => {
            let loaded = load(args.config.as_ref(), std::env::vars_os(), &[])?;
            if args.json { write_json(&loaded, out)? } else { write_shown(&loaded, out)? }
        }
        ConfigVerb::Reload(args) => return remote::run_reload(args, std::env::vars_os(), out),
    }
    Ok(Exit::Ok)
}

/// A file that sets every key to its default.
fn write_default(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "# Every key of headend with its default. Unknown keys are errors.")?;
    writeln!(out, "# A variable beats the file: {}=...", env_name("rtsp.listen"))?;
    let config = Config::default();
    let mut section = "";
    for key in KEYS {
        enter_section(key, &mut section, out)?;
        write_key_default(key, &config, out)?;
    }
    paths::write_default(out)?;
    users::write_default(out)
}

/// The values that count, each with who set it; reads back as a file.
fn write_shown(loaded: &Loaded, out: &mut impl Write) -> io::Result<()> {
    let mut section = "";
    for key in KEYS.iter().filter(|key| key.same_as.is_none()) {
        enter_section(key, &mut section, out)?;
        write_key(key, &loaded.config, loaded.origin(key.name).as_str(), out)?;
    }
    paths::write_shown(loaded, out)?;
    users::write_shown(loaded, out)
}

fn write_json(loaded: &Loaded, out: &mut impl Write) -> io::Result<()> {
    let keys = KEYS.iter().filter(|key| key.same_as.is_none());
    let keys = keys.map(|key| key_json(key, &loaded.config, loaded.origin(key.name).as_str()));
    let (keys, paths) = (keys.collect::<Vec<_>>(), paths::json(loaded));
    let users = users::json(loaded);
    writeln!(out, "{:#}", json!({ "keys": keys, "paths": paths, "users": users }))
}

/// A key with its help and its default; as a comment where it need not or cannot be set.
fn write_key_default<C>(key: &Key<C>, config: &C, out: &mut impl Write) -> io::Result<()> {
    let name = key.short_name();
    writeln!(out, "# {}", key.help)?;
    if !key.why.is_empty() {
        writeln!(out, "# why: {}", key.why)?;
    }
    match (key.show)(config) {
        Some(value) if key.same_as.is_none() => writeln!(out, "{name} = {value}"),
        Some(value) => writeln!(out, "# {name} = {value}"),
        None => writeln!(out, "# {name} = \"...\""),
    }
}

/// A key with its value and who set it.
fn write_key<C>(key: &Key<C>, config: &C, origin: &str, out: &mut impl Write) -> io::Result<()> {
    let name = key.short_name();
    match (key.show)(config) {
        Some(value) => writeln!(out, "{name} = {value}  # {origin}"),
        None => writeln!(out, "# {name} is not set"),
    }
}

/// The same for programs.
fn key_json<C>(key: &Key<C>, config: &C, origin: &str) -> Value {
    let value = (key.show)(config).and_then(|text| json_value(&text));
    json!({ "key": key.name, "value": value, "origin": origin })
}

/// One value of TOML, read by the parser that reads the file.
fn json_value(text: &str) -> Option<Value> {
    let table: toml::Table = toml::from_str(&format!("value = {text}")).ok()?;
    serde_json::to_value(table.get("value")?).ok()
}

/// Writes the section's head when a new one begins.
fn enter_section(
    key: &Key<Config>,
    section: &mut &'static str,
    out: &mut impl Write,
) -> io::Result<()> {
    let head = key.name.split_once('.').map_or("", |(head, _)| head);
    if head != *section {
        let gap = if section.is_empty() { "" } else { "\n" };
        writeln!(out, "{gap}[{head}]")?;
        *section = head;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn written(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a line for each key")]
    fn default_file_documents_every_key_and_reads_back_as_the_defaults() {
        let text = written(write_default);
        let loaded = config::load(Some(("default", &text)), [], &[]).unwrap();
        assert_eq!(loaded.config, Config::default());
        let (keys, _paths) = text.split_once("\n# Paths:").unwrap();
        insta::assert_snapshot!(keys, @r#"
        # Every key of headend with its default. Unknown keys are errors.
        # A variable beats the file: HEADEND__RTSP__LISTEN=...
        [server]
        # CPUs that serve players: auto, a count (1-255), or CPUs like 0-3,8 or cpu:1
        shards = "auto"
        # CPUs that read files: auto, a count (1-255), or CPUs like 0-3,8 or cpu:1
        workers = "auto"
        # normal, or fifo:N (1-98, fifo alone is 10): shards before all normal threads
        shard_priority = "normal"
        # connections, sockets and streams that one shard can hold, 64 to 1048576
        # why: 4,096 players over UDP and as many over TCP of each core, with room for as many strangers
        poll_entries_max = 16384
        # tasks that may wait for a worker, 16 to 1048576
        # why: a quarter of a shard's players may ask at one moment; a full queue is answered with 503
        task_queue_max = 4096
        # form of the log: auto (text on a terminal, json otherwise), text, json
        log = "auto"
        # folder that keeps edits of playlists; without one they end with the server
        # state_dir = "..."
        # servers that clients are sent to while this one is drained: rtsp://HOST:PORT, rtsps://.., http://.. for HLS
        redirect = []
        # sessions move from a shard that is much busier than another: auto (a few at a time), off
        rebalance = "off"
        # socket by which `headend serve --takeover` takes over: auto (in state_dir), off, or a path
        takeover = "auto"
        # user that the server becomes when it has its ports: NAME, NAME:GROUP, or numbers
        # user = "..."
        # files are opened in the server's own folders alone: auto (where it can be had), on, off
        landlock = "auto"
        # system calls that a server does not need: on (they fail), log (by the kernel), off
        seccomp = "on"
        # UDP segmentation offload: auto (until a route refuses it), on, off
        gso = "auto"
        # sends without a copy: auto (where it pays and works), on, off
        zerocopy = "auto"

        [rtsp]
        # addresses of RTSP listeners, 1 to 64; [::] takes IPv4 as well; port 0 = any free
        listen = ["[::]:8554"]
        # a session whose client was silent for so long is ended, 1s to 1h
        session_timeout = "60s"
        # sessions that one shard can hold, 1 to 1048576
        # why: as many as rows: a session over TCP needs a row of its own
        sessions_max = 16384
        # sessions of one IPv4 address or IPv6 /64 of another host: auto (a quarter), or count
        # why: a quarter serves a hotel behind one address, and it takes four strangers to lock all out
        sessions_per_address_max = "auto"
        # RTSP connections of one address of another host: auto (a quarter of all), or count
        # why: as of sessions; this host (proxies speak for many) and an IPv6 /48 have three quarters
        connections_per_address_max = "auto"
        # true: a user may go on with a session from another address, with the same password
        session_roaming = false
        # true: UDP ports of clients may be below 1024
        low_client_ports = false
        # packets that UDP players lost: auto (sent again when asked by RTP/AVPF), off
        retransmission = "auto"
        # media encrypted for RTSPS clients: off, optional (for URLs with ?srtp), required
        srtp = "optional"
        # UDP port of RTP, even; RTCP takes the next; two more for each shard; 0 = any free
        udp.rtp = 8000
        # groups that live paths are sent to, one each, when a player asks for it; off = none
        multicast.range = "239.255.0.0/16"
        # RTP port of a group's first track, even; RTCP is the next one, two more each track
        multicast.rtp = 8002
        # routers that packets to groups may pass, 1 to 255
        multicast.ttl = 8
        # an IPv4 address of the interface that groups are reached by; auto = by the routes
        multicast.interface = "auto"
        # addresses of RTSPS listeners, 1 to 64, once there is a certificate
        tls.listen = ["[::]:8322"]
        # file of the certificate (PEM), with those that lead to its CA; none: no RTSPS
        # tls.certificate = "..."
        # file of its private key (PEM); without one the key is in the certificate's file
        # tls.key = "..."
        # true: RTSPS clients may have media by UDP, unencrypted; false: 461, TCP alone
        tls.plain_media = false
        # off (shards encrypt), or auto: the kernel does, where it has TLS and the client 1.3
        tls.kernel = "off"
        # further ports for RTSP over HTTP, up to 64; every RTSP port takes tunnels
        http.listen = []
        # tunnels over HTTP on one shard, 0 to 1048576; 0 = none at all
        # why: a tunnel has two connections: an eighth of the rows
        http.tunnels_max = 1024

        [hls]
        # addresses of HLS and its page, http://HOST:8888/PATH/, 1 to 64; off = no HLS
        listen = ["[::]:8888"]
        # origins whose pages may read HLS (CORS): https://HOST, up to 64; * = all
        allow_origin = []
        # names of this server in URLs of HLS, beside addresses and local names; * = any
        hosts = []
        # connections of HLS, 4 to 1048576; then 503
        # why: a viewer has one or two: a thousand with as many again, 64 KiB each
        connections_max = 4096
        # connections of one address of another host: auto (a quarter of all), or count
        # why: as of RTSP; a CDN has a few addresses
        connections_per_address_max = "auto"
        # live paths that are made into segments at once, 1 to 65536; then 503
        # why: 64 paths of 64 MiB are 4 GiB at the very worst; 4 Mbit/s take 16 MiB each
        paths_max = 64
        # memory for the segments of one live path, 4MiB to 4GiB; the oldest go first
        # why: sixteen seconds listed and sixteen kept, of 16 Mbit/s
        path_memory = "64MiB"

        [webrtc]
        # UDP addresses of WebRTC (WHEP at http://HOST:8888/PATH/whep), 1 to 64; off = no WebRTC
        listen = ["[::]:8189"]
        # IP addresses that browsers send to, up to 64; none = the one that they reached HLS by
        hosts = []
        # viewers by WebRTC at once, 1 to 65536; then 503
        # why: each has packets of its own: 256 of 4 Mbit/s are 1 Gbit/s
        viewers_max = 256
        # viewers by WebRTC of one address of another host: auto (a quarter of all), or count
        # why: a quarter serves an office behind one address
        viewers_per_address_max = "auto"

        [vod]
        # folder that is served under /vod; without one the built-in clip is
        # root = "..."
        # over TCP: skip to a sync sample when so late, up to 1h; 0s = never, lose nothing
        lag_budget = "0s"
        # memory for packet windows, 1MiB to 1024GiB
        # why: about 30 KiB a window of two seconds: all that 4,000 different films are playing, twice
        window_cache = "256MiB"
        # memory for packets as on the wire, shared by players: auto (a 64th), off, 1MiB to 1024GiB
        image_memory = "auto"
        # pictures for players whose way loses packets: auto (thinned), off (always full)
        quality = "auto"

        [limits]
        # connections without a request on one shard, 16 to 1048576; one more ends the oldest
        # why: a quarter of the rows: players ask within a round trip, so others are strangers
        half_open_max = 4096
        # for the first request, and for one that has begun, 1s to 1m; then 408
        # why: thrice what a lossy mobile link needs for a request of a few segments
        request_timeout = "10s"
        # bytes of request line and headers, 2KiB to 1MiB; more is 431
        # why: four tokens of 8 KiB, as web servers take; players send a tenth of one
        request_head = "32KiB"
        # bytes of the body of a request, 1KiB to 1MiB; more is 413
        # why: an SDP of sixteen tracks with parameter sets is below 16 KiB
        request_body = "64KiB"
        # memory for unfinished requests on one shard, 1MiB to 1024GiB; an address a quarter; then 503
        # why: 16 KiB for each of 4,096 half-open connections
        requests_held = "64MiB"
        # handshakes of TLS under way on one shard, 1 to 1048576; one more ends the oldest
        # why: up to a millisecond of CPU each: as many are done in a quarter of a second
        tls_handshakes_max = 256
        # tunnels over HTTP on one shard that lack their second connection; one more ends the oldest
        # why: a quarter of the tunnels: the second connection comes within a round trip
        half_open_tunnels_max = 256
        # publishers on one shard, 0 to 1048576, an address a quarter; one more gets 453
        # why: as many as paths can have their owner on a shard
        publishers_max = 4096
        # packets of live paths in memory, 16MiB to 1024GiB; beyond, ANNOUNCE gets 453
        # why: 32 paths that fill their buffers, or 500 of 4 Mbit/s with four seconds each
        live_memory = "1GiB"
        # titles open at once: auto (as descriptors allow, to 16384), 1 to 1048576; then 503
        # why: each has a descriptor; a shard plays as many as it has sessions
        titles_open_max = "auto"
        # log lines of one kind a second, 1 to 1048576; others are counted
        # why: a person reads fewer, and thirty kinds at once make 1,500 lines a second
        log_lines_max = 50
        # connections to the HTTP API, 4 to 65536; other machines have three quarters, then 503
        # why: a few scrapers, dashboards and scripts; programs of this host always get in
        admin_connections_max = 64
        # connections of one other machine to the HTTP API, 1 to 65536; then 503
        # why: a browser keeps six; a quarter of all, as of players
        admin_connections_per_address_max = 16
        # connections to a node's port for contents, 64 to 1048576; others wait to be accepted
        # why: thousands of nodes, each with a few
        peer_connections_max = 16384
        # of these, connections of one other IPv4 address or IPv6 /64, 1 to 1048576; then closed
        # why: a site of nodes behind one address has half
        peer_connections_per_address_max = 8192
        # of these, handshakes of TLS, 1 to 65536; an address has a quarter, then its oldest ends
        # why: half a millisecond of CPU each: as many are done in a quarter of a second
        peer_handshakes_max = 512

        [auth]
        # challenges for users: auto (digest where all can answer it, and basic), basic, digest
        methods = "auto"
        # file or URL of the keys that tokens (JWT) are signed with; without one none counts
        # jwks = "..."
        # claim of a token that has its permissions: [{ action = .., path = .. }]
        jwt_claim = "headend_permissions"
        # `iss` that a token must have
        # jwt_issuer = "..."
        # `aud` that a token must have
        # jwt_audience = "..."
        # URL that is asked (POST, JSON) whether a client may read; 2xx is yes
        # on_read = "..."
        # the same, whether a client may publish
        # on_publish = "..."
        # an answer of the webhook is waited for so long, 100ms to 1m
        webhook_timeout = "5s"
        # an answer counts so long for the same question, up to 1h
        webhook_cache = "10s"
        # without an answer a client is refused (deny) or let in (allow)
        webhook_failure = "deny"

        [admin]
        # address of the HTTP API and of /metrics; port 0 = any free
        listen = "127.0.0.1:9997"
        # file of tokens for other machines: lines of NAME read|control TOKEN [EXPIRES]
        # tokens = "..."

        [metrics]
        # the same as admin.listen: there is one port
        # listen = "127.0.0.1:9997"
        "#);
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a line for each key")]
    fn shown_values_name_their_origin_and_read_back() {
        let file = "[vod]\nroot = \"/a \\\"b\\\"\"\n[rtsp]\nudp = { rtp = 0 }\n";
        let env = [("HEADEND__SERVER__SHARDS".to_owned(), "cpu:1".to_owned())];
        let loaded = config::load(Some(("f", file)), env, &[]).unwrap();
        let text = written(|out| write_shown(&loaded, out));
        insta::assert_snapshot!(text, @r#"
        [server]
        shards = "cpu:1"  # env
        workers = "auto"  # default
        shard_priority = "normal"  # default
        poll_entries_max = 16384  # default
        task_queue_max = 4096  # default
        log = "auto"  # default
        # state_dir is not set
        redirect = []  # default
        rebalance = "off"  # default
        takeover = "auto"  # default
        # user is not set
        landlock = "auto"  # default
        seccomp = "on"  # default
        gso = "auto"  # default
        zerocopy = "auto"  # default

        [rtsp]
        listen = ["[::]:8554"]  # default
        session_timeout = "60s"  # default
        sessions_max = 16384  # default
        sessions_per_address_max = "auto"  # default
        connections_per_address_max = "auto"  # default
        session_roaming = false  # default
        low_client_ports = false  # default
        retransmission = "auto"  # default
        srtp = "optional"  # default
        udp.rtp = 0  # file
        multicast.range = "239.255.0.0/16"  # default
        multicast.rtp = 8002  # default
        multicast.ttl = 8  # default
        multicast.interface = "auto"  # default
        tls.listen = ["[::]:8322"]  # default
        # tls.certificate is not set
        # tls.key is not set
        tls.plain_media = false  # default
        tls.kernel = "off"  # default
        http.listen = []  # default
        http.tunnels_max = 1024  # default

        [hls]
        listen = ["[::]:8888"]  # default
        allow_origin = []  # default
        hosts = []  # default
        connections_max = 4096  # default
        connections_per_address_max = "auto"  # default
        paths_max = 64  # default
        path_memory = "64MiB"  # default

        [webrtc]
        listen = ["[::]:8189"]  # default
        hosts = []  # default
        viewers_max = 256  # default
        viewers_per_address_max = "auto"  # default

        [vod]
        root = '/a "b"'  # file
        lag_budget = "0s"  # default
        window_cache = "256MiB"  # default
        image_memory = "auto"  # default
        quality = "auto"  # default

        [limits]
        half_open_max = 4096  # default
        request_timeout = "10s"  # default
        request_head = "32KiB"  # default
        request_body = "64KiB"  # default
        requests_held = "64MiB"  # default
        tls_handshakes_max = 256  # default
        half_open_tunnels_max = 256  # default
        publishers_max = 4096  # default
        live_memory = "1GiB"  # default
        titles_open_max = "auto"  # default
        log_lines_max = 50  # default
        admin_connections_max = 64  # default
        admin_connections_per_address_max = 16  # default
        peer_connections_max = 16384  # default
        peer_connections_per_address_max = 8192  # default
        peer_handshakes_max = 512  # default

        [auth]
        methods = "auto"  # default
        # jwks is not set
        jwt_claim = "headend_permissions"  # default
        # jwt_issuer is not set
        # jwt_audience is not set
        # on_read is not set
        # on_publish is not set
        webhook_timeout = "5s"  # default
        webhook_cache = "10s"  # default
        webhook_failure = "deny"  # default

        [admin]
        listen = "127.0.0.1:9997"  # default
        # tokens is not set

        [path."*"]
        source = "publish"  # default
        source_transport = "auto"  # default
        source_tls = "verify"  # default
        on_demand = false  # default
        idle_close = "10s"  # default
        source_timeout = "auto"  # default
        fallback = []  # default
        standby = false  # default
        return_after = "5s"  # default
        switch_interval = "2s"  # default
        playlist = []  # default
        playlist_loop = true  # default
        playlist_clock = "local"  # default
        # slate is not set
        lineup = {}  # default
        lineup_digit_timeout = "1500ms"  # default
        hold = "10s"  # default
        publish = "auto"  # default
        read = "auto"  # default
        control = ["any"]  # default
        override = false  # default
        start = "gop"  # default
        lag_budget = "2s"  # default
        buffer = "32MiB"  # default
        readers_max = 16384  # default
        # quality is not set
        "#);
        let again = config::load(Some(("shown", &text)), [], &[]).unwrap();
        assert_eq!(again.config, loaded.config);
    }

    #[test]
    fn json_has_typed_values() {
        let loaded = config::load(None, [], &[]).unwrap();
        let text = written(|out| write_json(&loaded, out));
        let json: Value = serde_json::from_str(&text).unwrap();
        let value = |key: &str| {
            let keys = json["keys"].as_array().unwrap();
            keys.iter().find(|entry| entry["key"] == key).unwrap()["value"].clone()
        };
        assert_eq!(value("rtsp.udp.rtp"), 8_000);
        assert_eq!(value("rtsp.listen"), json!(["[::]:8554"]));
        assert_eq!(value("vod.root"), json!(null));
    }
}

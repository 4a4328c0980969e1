//! `headend path ls|show|kick|switch`.

use std::ffi::OsString;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::super::args::PathVerb;
use super::super::urls::encode_path;
use super::super::{Exit, Failure, printable};
use super::client::{Answer, Client};
use super::{connect, playlist, table, write_json};

pub(super) fn run(
    verb: &PathVerb,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    match verb {
        PathVerb::Ls(args) => {
            let paths = connect(args, env)?.list("/v1/paths", "", "paths")?;
            if args.json {
                write_json(&json!({ "paths": paths }), out)?;
            } else {
                write_list(&paths, out)?;
            }
        }
        PathVerb::Show(args) => {
            let client = connect(&args.remote, env)?;
            let path = found(&client, &args.name, client.get(&url(&args.name))?)?;
            if args.remote.json { write_json(&path, out)? } else { write_one(&path, out)? }
        }
        PathVerb::Kick(args) => {
            let client = connect(&args.remote, env)?;
            let answer = client.post(&format!("{}:kick", url(&args.name)))?;
            let path = found(&client, &args.name, answer)?;
            if args.remote.json {
                write_json(&path, out)?;
            } else {
                let (name, readers) = (table::text(&path["path"]), &path["readers"]);
                let readers: u64 = WAYS.iter().map(|way| table::count(&readers[way])).sum();
                let source = source(&path["source"]);
                writeln!(out, "{name}: ended ({source}; {readers} readers)")?;
            }
        }
        PathVerb::Playlist { verb } => return playlist::run(verb, env, out),
        PathVerb::Switch(args) => {
            let client = connect(&args.remote, env)?;
            let body = json!({ "to": args.to, "at": args.at.label() });
            let done = match client.post_json(&format!("{}:switch", url(&args.name)), &[], &body)? {
                Answer::Found(done) => done,
                Answer::Missing(why) => return Err(Failure::runtime(why)),
            };
            if args.remote.json { write_json(&done, out)? } else { write_switch(&done, out)? }
        }
    }
    Ok(Exit::Ok)
}

fn write_switch(done: &Value, out: &mut impl Write) -> io::Result<()> {
    let [name, from, to] = ["path", "from", "to"].map(|key| table::text(&done[key]));
    let gap = done["gap_ms"].as_u64().map_or_else(String::new, |ms| format!(", {ms} ms apart"));
    match (done["switched"] == true, done["to"].is_null()) {
        (true, _) => writeln!(out, "{name}: fed from {to} instead of {from}{gap}")?,
        (false, true) => writeln!(out, "{name}: none of its sources sends")?,
        (false, false) => writeln!(out, "{name}: is fed from {to}")?,
    }
    match done["pinned_until"].as_str() {
        Some(until) => writeln!(out, "it stays until {}", printable(until)),
        None => writeln!(out, "the best source feeds it, as without an operator"),
    }
}

pub(super) fn url(name: &str) -> String {
    format!("/v1/paths/{}", encode_path(name))
}

/// The path, or a sentence with those that there are.
pub(super) fn found(client: &Client, name: &str, answer: Answer) -> Result<Value, Failure> {
    match answer {
        Answer::Found(path) => Ok(path),
        Answer::Missing(_) => {
            let paths = client.list("/v1/paths", "", "paths")?;
            let names: Vec<String> = paths.iter().map(|path| table::text(&path["path"])).collect();
            Err(Failure::runtime(no_path(&printable(name), &names)))
        }
    }
}

fn no_path(name: &str, names: &[String]) -> String {
    let shown = names.iter().take(NAMES_SHOWN_MAX).cloned().collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => format!("no path `{name}`; there are none"),
        count if count > NAMES_SHOWN_MAX => {
            let more = count - NAMES_SHOWN_MAX;
            format!("no path `{name}`; there are {shown} and {more} more: headend path ls")
        }
        1 => format!("no path `{name}`; there is {shown}"),
        _ => format!("no path `{name}`; there are {shown}"),
    }
}

fn write_list(paths: &[Value], out: &mut impl Write) -> io::Result<()> {
    if paths.is_empty() {
        return writeln!(out, "no live paths");
    }
    let rows: Vec<Vec<String>> = paths.iter().map(row).collect();
    table::write(&HEADS, &rows, out)
}

/// Of a list of paths.
pub(super) const HEADS: [&str; 8] =
    ["PATH", "STATE", "SOURCE", "TRACKS", "RATE", "READERS", "LAG MAX", "UP"];

/// A path in a list, below [`HEADS`].
pub(super) fn row(path: &Value) -> Vec<String> {
    let (from, readers) = (&path["source"], &path["readers"]);
    let tracks = from["tracks"].as_array().into_iter().flatten();
    let tracks: Vec<String> = tracks.map(|track| table::text(&track["encoding"])).collect();
    vec![
        table::text(&path["path"]),
        table::text(&path["state"]),
        source(from) + &standing(&path["failover"]).unwrap_or_default(),
        if tracks.is_empty() { "-".to_owned() } else { tracks.join("+") },
        table::bit_rate(table::count(&from["bits_per_s"])),
        readers_by_way(readers),
        table::seconds(&readers["lag_s_max"]),
        table::age(&from["age_s"]),
    ]
}

/// `2 of 3 good, pinned` of the sources of a path with fallbacks.
fn standing(failover: &Value) -> Option<String> {
    let sources = failover["sources"].as_array()?;
    let is_good =
        |source: &&Value| matches!(source["state"].as_str(), Some("active" | "standby" | "good"));
    let pinned = if failover["pinned"].is_null() { "" } else { ", pinned" };
    let good = sources.iter().filter(is_good).count();
    Some(format!(" ({good} of {} good{pinned})", sources.len()))
}

fn write_failover(failover: &Value, out: &mut impl Write) -> io::Result<()> {
    let Some(sources) = failover["sources"].as_array() else { return Ok(()) };
    let rows = sources.iter().map(|source| {
        let is_pinned = !failover["pinned"].is_null() && failover["pinned"] == source["path"];
        let state = table::text(&source["state"]);
        vec![
            table::count(&source["place"]).to_string(),
            table::text(&source["name"]),
            table::text(&source["path"]),
            if is_pinned { format!("{state}, pinned") } else { state },
            table::age(&source["age_s"]),
            table::text(&source["reason"]),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    table::write(&["#", "SOURCE", "PATH", "STATE", "FOR", "REASON"], &rows, out)?;
    let last = &failover["last_switch"];
    if last.is_null() {
        return Ok(());
    }
    let [from, to, cause, at] = ["from", "to", "cause", "at"].map(|key| table::text(&last[key]));
    let gap = last["gap_ms"].as_u64().map_or_else(String::new, |ms| format!(", {ms} ms apart"));
    let age = table::age(&last["age_s"]);
    writeln!(out, "switched {from} to {to} ({cause}) at {at} ({age} ago){gap}")
}

/// `publish 192.0.2.3:5000 tcp`.
fn source(source: &Value) -> String {
    if source.is_null() {
        return "no source".to_owned();
    }
    let from = if source["url"].is_null() { &source["peer"] } else { &source["url"] };
    let words = [&source["kind"], from, &source["transport"]];
    words.map(table::text).join(" ")
}

/// Ways that readers have.
const WAYS: [&str; 5] = ["udp", "tcp", "multicast", "webrtc", "hls"];

fn readers_by_way(readers: &Value) -> String {
    let ways = WAYS.iter().filter(|way| table::count(&readers[**way]) > 0);
    let ways: Vec<String> =
        ways.map(|way| format!("{} {way}", table::count(&readers[*way]))).collect();
    if ways.is_empty() { "0".to_owned() } else { ways.join(", ") }
}

fn write_one(path: &Value, out: &mut impl Write) -> io::Result<()> {
    let (from, readers) = (&path["source"], &path["readers"]);
    writeln!(out, "{}   {}", table::text(&path["path"]), table::text(&path["state"]))?;
    writeln!(out, "source   {}", source(from))?;
    if let Some(title) = from["title"].as_str() {
        let at = table::seconds(&from["position_s"]);
        writeln!(out, "         plays {} at {at}", printable(title))?;
    }
    if !from.is_null() {
        let (rate, since) = (table::bit_rate(table::count(&from["bits_per_s"])), &from["since"]);
        let (age, client) = (table::age(&from["age_s"]), table::text(&from["user_agent"]));
        writeln!(out, "         since {} ({age})   {rate}   client {client}", table::text(since))?;
        let (packets, bytes) = (table::count(&from["packets"]), table::count(&from["bytes"]));
        let (lost, dropped) = (&from["packets_lost"], table::counts(&from["packets_dropped"]));
        let bytes = table::bytes(bytes);
        writeln!(out, "         {packets} packets, {bytes}, {lost} lost; not taken: {dropped}")?;
        let (syncs, gop) = (table::count(&from["sync_samples"]), table::seconds(&from["gop_s"]));
        writeln!(out, "         {syncs} sync samples, a group of pictures takes {gop}")?;
        write_tracks(from, out)?;
    }
    if let Some(reason) = path["reason"].as_str() {
        let (tries, wait) = (table::count(&path["failed_tries"]), &path["retry_after_s"]);
        let again = wait.as_u64().map_or_else(String::new, |s| format!("; the next {s}s after it"));
        writeln!(out, "         try {tries} failed: {}{again}", printable(reason))?;
    }
    write_failover(&path["failover"], out)?;
    let channels = path["channels"].as_object().into_iter().flatten();
    let channels: Vec<String> =
        channels.map(|(number, viewers)| format!("{number}: {}", table::count(viewers))).collect();
    if !channels.is_empty() {
        writeln!(out, "channels {} (sessions of each)", channels.join(", "))?;
    }
    let picture = if path["has_cached_picture"] == true { "with" } else { "without" };
    let kept = table::bytes(table::count(&path["kept_bytes"]));
    writeln!(out, "kept     {kept}, {picture} a picture for instant start")?;
    let (max, sum) = (table::seconds(&readers["lag_s_max"]), table::seconds(&readers["lag_s_sum"]));
    let ways = readers_by_way(readers);
    writeln!(out, "readers  {ways}   lag at most {max}, all together {sum}")?;
    let (skips, packets) = (table::counts(&path["skips"]), table::count(&path["packets_skipped"]));
    writeln!(out, "skips    {skips} ({packets} packets)")?;
    writeln!(out, "sent     {} packets", table::counts(&path["packets_sent"]))
}

fn write_tracks(source: &Value, out: &mut impl Write) -> io::Result<()> {
    let rows = source["tracks"].as_array().into_iter().flatten().map(|track| {
        let encoding = table::text(&track["encoding"]);
        let number = |key: &str| track[key].as_i64().map_or_else(|| "-".into(), |n| n.to_string());
        vec![
            format!("#{}", number("track")),
            table::text(&track["media"]),
            format!("{encoding}/{}", number("clock_rate_hz")),
            number("payload_type"),
            table::text(&track["ssrc"]),
            number("packets"),
            table::bytes(table::count(&track["bytes"])),
            number("packets_lost"),
            track["jitter_s"].as_f64().map_or_else(|| "-".into(), |s| format!("{:.1}ms", s * 1e3)),
            table::seconds(&track["last_packet_age_s"]),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let heads = [
        "TRACK", "MEDIA", "ENCODING", "PT", "SSRC", "PACKETS", "BYTES", "LOST", "JITTER", "NEWEST",
    ];
    table::write(&heads, &rows, out)
}

/// What fits a line or two.
const NAMES_SHOWN_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> Value {
        json!({
            "path": "live/cam1", "state": "live", "kept_bytes": 2_097_152,
            "has_cached_picture": true, "packets_skipped": 512,
            "skips": { "tcp_window": 2, "lag_budget": 0, "evicted": 0 },
            "packets_sent": { "udp": 70, "tcp": 30, "multicast": 0 },
            "readers": { "udp": 8, "tcp": 0, "multicast": 0, "webrtc": 2, "hls": 0,
                "lag_s_sum": 1.5, "lag_s_max": 1.25 },
            "source": {
                "kind": "publish", "peer": "192.0.2.3:40000", "transport": "tcp", "url": null,
                "user_agent": "Lavf61", "since": "2026-01-02T03:04:05Z", "age_s": 125.0,
                "bits_per_s": 3_849_000, "packets": 1_000, "bytes": 1_048_576, "packets_lost": 3,
                "packets_dropped": { "foreign_ssrc": 7, "behind": 0 }, "sync_samples": 12,
                "gop_s": 2.0,
                "tracks": [
                    { "track": 0, "media": "video", "encoding": "H264", "clock_rate_hz": 90_000,
                      "payload_type": 96, "ssrc": "0000002A", "packets": 900, "bytes": 1_000_000,
                      "packets_lost": 3, "jitter_s": 0.0021, "last_packet_age_s": 0.01 },
                    { "track": 1, "media": "audio", "encoding": "", "clock_rate_hz": 48_000,
                      "payload_type": null, "ssrc": null, "packets": 0, "bytes": 0,
                      "packets_lost": 0, "jitter_s": null, "last_packet_age_s": null },
                ],
            },
        })
    }

    fn written(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn list_has_a_line_for_each_path() {
        let idle = json!({
            "path": "live/\u{1b}cam2", "state": "idle", "source": null,
            "readers": { "udp": 0, "tcp": 0, "multicast": 0, "lag_s_max": 0.0 },
        });
        insta::assert_snapshot!(written(|out| write_list(&[path(), idle], out)), @r"
        PATH        STATE  SOURCE                       TRACKS  RATE      READERS          LAG MAX  UP
        live/cam1   live   publish 192.0.2.3:40000 tcp  H264+-  3.8 Mb/s  8 udp, 2 webrtc  1.25s    2m05s
        live/?cam2  idle   no source                    -       0 b/s     0                0.00s    -
        ");
        assert_eq!(written(|out| write_list(&[], out)), "no live paths\n");
    }

    #[test]
    fn one_path_is_told_with_its_tracks() {
        insta::assert_snapshot!(written(|out| write_one(&path(), out)), @r"
        live/cam1   live
        source   publish 192.0.2.3:40000 tcp
                 since 2026-01-02T03:04:05Z (2m05s)   3.8 Mb/s   client Lavf61
                 1000 packets, 1.0 MiB, 3 lost; not taken: 7 foreign_ssrc
                 12 sync samples, a group of pictures takes 2.00s
        TRACK  MEDIA  ENCODING    PT  SSRC      PACKETS  BYTES      LOST  JITTER  NEWEST
        #0     video  H264/90000  96  0000002A  900      976.5 KiB  3     2.1ms   0.01s
        #1     audio  -/48000     -   -         0        0 B        0     -       -
        kept     2.0 MiB, with a picture for instant start
        readers  8 udp, 2 webrtc   lag at most 1.25s, all together 1.50s
        skips    2 tcp_window (512 packets)
        sent     30 tcp, 70 udp packets
        ");
    }

    #[test]
    fn path_that_a_title_feeds_is_told_with_the_title_and_the_position() {
        let mut path = path();
        path["source"]["kind"] = "title".into();
        path["source"]["title"] = "vod/slate\u{1b}.mp4".into();
        path["source"]["position_s"] = 12.5.into();
        let told = written(|out| write_one(&path, out));
        let line = told.lines().nth(2).unwrap();
        assert_eq!(line, "         plays vod/slate?.mp4 at 12.50s");
    }

    #[test]
    fn sources_of_a_path_with_fallbacks_are_told_with_their_states_and_the_last_switch() {
        let source = |place: u64, name: &str, state: &str, reason: Value| {
            json!({ "place": place, "name": name, "path": format!("live/a~{place}"),
                "state": state, "reason": reason, "since": null, "age_s": 65.0 })
        };
        let failover = json!({
            "active": "live/a~1", "pinned": "live/a~1",
            "last_switch": { "from": "live/a~0", "to": "live/a~1", "cause": "operator",
                "gap_ms": 12, "at": "2026-01-02T03:04:05Z", "age_s": 5.0 },
            "sources": [
                source(0, "publish", "good", Value::Null),
                source(1, "rtsp://cam/1", "active", Value::Null),
                source(2, "rtsp://cam/\u{1b}2", "down", json!("no packets for 2s")),
            ],
        });
        insta::assert_snapshot!(written(|out| write_failover(&failover, out)), @r"
        #  SOURCE         PATH      STATE           FOR    REASON
        0  publish        live/a~0  good            1m05s  -
        1  rtsp://cam/1   live/a~1  active, pinned  1m05s  -
        2  rtsp://cam/?2  live/a~2  down            1m05s  no packets for 2s
        switched live/a~0 to live/a~1 (operator) at 2026-01-02T03:04:05Z (5s ago), 12 ms apart
        ");
        let path = json!({ "path": "live/a", "state": "live", "failover": failover,
            "source": { "kind": "fallback", "url": "live/a~1" }, "readers": {} });
        assert_eq!(row(&path)[2], "fallback live/a~1 - (2 of 3 good, pinned)");
        assert_eq!(written(|out| write_failover(&Value::Null, out)), "");
    }

    #[test]
    fn switch_is_told_with_its_gap_and_what_ends_it() {
        let done = json!({ "path": "live/a", "from": "live/a~0", "to": "live/b", "switched": true,
            "gap_ms": 40, "pinned": true, "pinned_until": "another switch" });
        let told = written(|out| write_switch(&done, out));
        let first = "live/a: fed from live/b instead of live/a~0, 40 ms apart\n";
        assert_eq!(told, format!("{first}it stays until another switch\n"));
        let kept = json!({ "path": "live/a", "from": "live/b", "to": "live/b", "switched": false,
            "gap_ms": null, "pinned": false, "pinned_until": null });
        let told = written(|out| write_switch(&kept, out));
        assert!(told.starts_with("live/a: is fed from live/b\nthe best source"), "{told}");
    }

    #[test]
    fn path_whose_source_fails_is_told_with_the_reason() {
        let failed = json!({
            "path": "live/cam1", "state": "failed", "source": null, "reason": "401\u{1b}",
            "failed_tries": 3, "retry_after_s": 4,
        });
        let told = written(|out| write_one(&failed, out));
        let line = told.lines().nth(2).unwrap();
        assert_eq!(line, "         try 3 failed: 401?; the next 4s after it");
    }

    #[test]
    fn path_that_is_not_there_is_answered_with_those_that_are() {
        let names: Vec<String> = (0..10).map(|n| format!("live/{n}")).collect();
        assert_eq!(no_path("x", &[]), "no path `x`; there are none");
        assert_eq!(no_path("x", &names[..1]), "no path `x`; there is live/0");
        assert_eq!(no_path("x", &names[..2]), "no path `x`; there are live/0, live/1");
        assert!(no_path("x", &names).ends_with("live/7 and 2 more: headend path ls"));
    }
}

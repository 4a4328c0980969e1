//! `headend session ls|show|kick|move|keys|tune`.

use std::ffi::OsString;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::super::args::{OnceArgs, SessionVerb};
use super::super::urls::encode_path;
use super::super::{Exit, Failure, printable};
use super::client::{Answer, Client};
use super::{connect, table, write_json};
use crate::lineup::event::Input;

pub(super) fn run(
    verb: &SessionVerb,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    match verb {
        SessionVerb::Ls(args) => {
            let path = args.path.as_ref().map(|path| format!("path={}&", encode_path(path)));
            let query = path.unwrap_or_default();
            let sessions = connect(&args.remote, env)?.list("/v1/sessions", &query, "sessions")?;
            if args.remote.json {
                write_json(&json!({ "sessions": sessions }), out)?;
            } else {
                write_list(&sessions, out)?;
            }
        }
        SessionVerb::Show(args) => {
            let session = found(&args.id, connect(&args.remote, env)?.get(&url(&args.id))?)?;
            if args.remote.json { write_json(&session, out)? } else { write_one(&session, out)? }
        }
        SessionVerb::Kick(args) => {
            let answer = found(&args.id, connect(&args.remote, env)?.delete(&url(&args.id))?)?;
            if args.remote.json {
                write_json(&answer, out)?;
            } else {
                writeln!(out, "{}: ended", table::text(&answer["id"]))?;
            }
        }
        SessionVerb::Move(args) => {
            let order = json!({ "shard": args.shard });
            let path = format!("{}/move", url(&args.id));
            let client = connect(&args.remote, env)?;
            let answer = found(&args.id, client.post_json(&path, &[], &order)?)?;
            if args.remote.json {
                write_json(&answer, out)?;
            } else {
                let (id, shard) = (table::text(&answer["id"]), table::count(&answer["shard"]));
                writeln!(out, "{id}: on shard {shard}")?;
            }
        }
        SessionVerb::Keys(args) => {
            let events = args.keys.iter().map(|key| event("key", key)).collect::<Result<_, _>>()?;
            let client = connect(&args.remote, env)?;
            send(&client, &args.id, events, &args.once, args.remote.json, out)?;
        }
        SessionVerb::Tune(args) => {
            let events = vec![event("channel", &args.channel)?];
            let client = connect(&args.remote, env)?;
            send(&client, &args.id, events, &args.once, args.remote.json, out)?;
        }
    }
    Ok(Exit::Ok)
}

/// An event as the API takes it.
fn event(name: &str, value: &str) -> Result<Value, Failure> {
    match Input::parse(name, value) {
        Ok(_) => Ok(json!({ name: value })),
        Err(error) => Err(Failure::usage(format!("`{}`: {error}", printable(value)))),
    }
}

/// Sends events, and shows their outcomes.
fn send(
    client: &Client,
    id: &str,
    events: Vec<Value>,
    once: &OnceArgs,
    is_json: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let key = once.idempotency_key.as_ref().map(|key| ("Idempotency-Key", key.as_str()));
    let headers: Vec<(&str, &str)> = key.into_iter().collect();
    let path = format!("{}/events", url(id));
    let done = match client.post_json(&path, &headers, &json!({ "events": events }))? {
        Answer::Found(done) => done,
        Answer::Missing(why) => return Err(Failure::runtime(why)),
    };
    if is_json {
        write_json(&done, out)?;
    } else {
        write_outcomes(&done, out)?;
    }
    Ok(())
}

fn write_outcomes(done: &Value, out: &mut impl Write) -> io::Result<()> {
    let outcomes = done["outcomes"].as_array().into_iter().flatten();
    for outcome in outcomes {
        let (event, what) = (table::text(&outcome["event"]), table::text(&outcome["outcome"]));
        writeln!(out, "{event:<14}{what}")?;
    }
    writeln!(out, "channel {}", table::count(&done["channel"]))
}

/// Where a session is in the API.
pub(super) fn url(id: &str) -> String {
    format!("/v1/sessions/{}", encode_path(id))
}

fn found(id: &str, answer: Answer) -> Result<Value, Failure> {
    match answer {
        Answer::Found(session) => Ok(session),
        Answer::Missing(_) => {
            let id = printable(id);
            Err(Failure::runtime(format!("no session `{id}`; headend session ls shows them")))
        }
    }
}

fn write_list(sessions: &[Value], out: &mut impl Write) -> io::Result<()> {
    if sessions.is_empty() {
        return writeln!(out, "no sessions");
    }
    let rows: Vec<Vec<String>> = sessions.iter().map(row).collect();
    table::write(&HEADS, &rows, out)
}

/// Of a list of sessions.
pub(super) const HEADS: [&str; 10] =
    ["ID", "ROLE", "STATE", "PATH", "PEER", "WAY", "AGE", "LOSS", "LAG", "CLIENT"];

/// A session in a list, below [`HEADS`].
pub(super) fn row(session: &Value) -> Vec<String> {
    vec![
        table::text(&session["id"]),
        table::text(&session["role"]),
        table::text(&session["state"]),
        path_of(session),
        table::text(&session["peer"]),
        table::text(&session["transport"]),
        table::age(&session["age_s"]),
        loss(session),
        table::seconds(&session["reader"]["lag_s"]),
        table::text(&session["user_agent"]),
    ]
}

/// With the channel of a line-up's session: `tv 201`.
fn path_of(session: &Value) -> String {
    let path = table::text(&session["path"]);
    let number = session["channel"]["number"].as_u64();
    number.map_or_else(|| path.clone(), |number| format!("{path} {number}"))
}

/// The worst of the newest reports.
fn loss(session: &Value) -> String {
    let streams = session["streams"].as_array().into_iter().flatten();
    let worst = streams.filter_map(|stream| stream["fraction_lost"].as_f64()).reduce(f64::max);
    worst.map_or_else(|| "-".to_owned(), |lost| format!("{:.1}%", lost * 100.0))
}

fn write_one(session: &Value, out: &mut impl Write) -> io::Result<()> {
    let text = |key: &str| table::text(&session[key]);
    writeln!(out, "{}   {} of {}, {}", text("id"), text("role"), text("path"), text("state"))?;
    // A viewer by WebRTC is on none.
    let shard = session["shard"].as_u64().map_or_else(|| "-".to_owned(), |n| n.to_string());
    let age = table::age(&session["age_s"]);
    let (peer, way, client) = (text("peer"), text("transport"), text("user_agent"));
    writeln!(out, "peer     {peer} {way}   for {age}   shard {shard}   client {client}")?;
    let channel = &session["channel"];
    if !channel.is_null() {
        let (number, source) = (table::count(&channel["number"]), table::text(&channel["source"]));
        let tuning = channel["tuning_to"].as_u64();
        let tuning = tuning.map_or_else(String::new, |number| format!("   tuning to {number}"));
        let waiting = table::count(&channel["events_waiting"]);
        writeln!(out, "channel  {number} {source}{tuning}   {waiting} keys waiting")?;
    }
    let reader = &session["reader"];
    if !reader.is_null() {
        let (lag, skipped) = (table::seconds(&reader["lag_s"]), &reader["packets_skipped"]);
        let skips = json!({
            "tcp_window": reader["skips_tcp_window"],
            "lag_budget": reader["skips_lag_budget"],
            "evicted": reader["skips_evicted"],
        });
        let skips = table::counts(&skips);
        writeln!(out, "live     lag {lag}   skips {skips} ({} packets)", table::count(skipped))?;
    }
    let source = &session["source"];
    if !source.is_null() {
        let rate = table::bit_rate(table::count(&source["bits_per_s"]));
        let (packets, lost) = (table::count(&source["packets"]), &source["packets_lost"]);
        let dropped = table::counts(&source["packets_dropped"]);
        writeln!(out, "sends    {rate}   {packets} packets, {lost} lost; not taken: {dropped}")?;
    }
    let rows = session["streams"].as_array().into_iter().flatten().map(|stream| {
        let of = |key: &str| stream[key].as_i64().map_or_else(|| "-".into(), |n| n.to_string());
        let percent = |lost: f64| format!("{:.1}%", lost * 100.0);
        let ms = |key: &str| {
            stream[key].as_f64().map_or_else(|| "-".to_owned(), |s| format!("{:.1}ms", s * 1e3))
        };
        vec![
            format!("#{}", of("track")),
            table::text(&stream["ssrc"]),
            of("packets_sent"),
            table::bytes(table::count(&stream["payload_bytes_sent"])),
            stream["fraction_lost"].as_f64().map_or_else(|| "-".to_owned(), percent),
            of("packets_lost"),
            ms("jitter_s"),
            ms("round_trip_s"),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    let heads = ["TRACK", "SSRC", "PACKETS", "BYTES", "LOSS", "LOST", "JITTER", "ROUND TRIP"];
    table::write(&heads, &rows, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> Value {
        json!({
            "id": "00AB", "role": "reader", "state": "playing", "path": "live/cam1",
            "peer": "192.0.2.9:5000", "transport": "udp", "age_s": 65.0, "shard": 1,
            "user_agent": null,
            "reader": { "lag_s": 0.125, "packets_skipped": 9, "skips_tcp_window": 0,
                "skips_lag_budget": 1, "skips_evicted": 0 },
            "streams": [
                { "track": 0, "ssrc": "0000002A", "packets_sent": 7, "payload_bytes_sent": 7_000,
                  "fraction_lost": 0.25, "packets_lost": 3, "jitter_s": 0.002,
                  "round_trip_s": null },
                { "track": 1, "ssrc": "", "packets_sent": 0, "payload_bytes_sent": 0,
                  "fraction_lost": null, "packets_lost": null, "jitter_s": null,
                  "round_trip_s": null },
            ],
        })
    }

    fn publisher() -> Value {
        json!({
            "id": "01CD", "role": "publisher", "state": "recording", "path": "live/cam1",
            "peer": "192.0.2.3:40000", "transport": "tcp", "age_s": 3.0, "shard": 0,
            "user_agent": "Lavf61", "streams": [],
            "source": { "bits_per_s": 1_000_000, "packets": 10, "packets_lost": 0,
                "packets_dropped": {} },
        })
    }

    fn browser() -> Value {
        let mut browser = reader();
        (browser["transport"], browser["shard"]) = (json!("webrtc"), Value::Null);
        (browser["user_agent"], browser["reader"]) = (json!("Mozilla/5.0"), Value::Null);
        browser["streams"] = json!([]);
        browser
    }

    fn viewer() -> Value {
        let channel = json!({ "lineup": "tv", "number": 201, "source": "vod/film.mp4",
            "tuning_to": 101, "events_waiting": 2 });
        let mut viewer = reader();
        (viewer["path"], viewer["channel"], viewer["reader"]) = (json!("tv"), channel, Value::Null);
        viewer["streams"] = json!([]);
        viewer
    }

    fn written(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn list_has_readers_and_publishers() {
        insta::assert_snapshot!(written(|out| write_list(&[reader(), publisher()], out)), @r"
        ID    ROLE       STATE      PATH       PEER             WAY  AGE    LOSS   LAG    CLIENT
        00AB  reader     playing    live/cam1  192.0.2.9:5000   udp  1m05s  25.0%  0.12s  -
        01CD  publisher  recording  live/cam1  192.0.2.3:40000  tcp  3s     -      -      Lavf61
        ");
        assert_eq!(written(|out| write_list(&[], out)), "no sessions\n");
    }

    #[test]
    fn viewer_of_a_line_up_is_told_with_the_channel() {
        insta::assert_snapshot!(written(|out| write_one(&viewer(), out)), @r"
        00AB   reader of tv, playing
        peer     192.0.2.9:5000 udp   for 1m05s   shard 1   client -
        channel  201 vod/film.mp4   tuning to 101   2 keys waiting
        ");
        assert!(written(|out| write_list(&[viewer()], out)).contains("  tv 201  "));
    }

    #[test]
    fn viewer_by_webrtc_is_told_without_a_shard() {
        insta::assert_snapshot!(written(|out| write_one(&browser(), out)), @r"
        00AB   reader of live/cam1, playing
        peer     192.0.2.9:5000 webrtc   for 1m05s   shard -   client Mozilla/5.0
        ");
    }

    #[test]
    fn outcomes_are_told_one_a_line_and_words_that_are_no_events_are_usage_failures() {
        let done = json!({ "channel": 201, "outcomes": [
            { "event": "key: 2", "outcome": "digits 2", "refused": false },
            { "event": "channel: 201", "outcome": "tuned to 201", "refused": false },
        ] });
        insta::assert_snapshot!(written(|out| write_outcomes(&done, out)), @r"
        key: 2        digits 2
        channel: 201  tuned to 201
        channel 201
        ");
        assert_eq!(event("key", "up"), Ok(json!({ "key": "up" })));
        for (name, word) in [("key", "201"), ("key", "menu"), ("channel", "0")] {
            assert_eq!(event(name, word).unwrap_err().exit, Exit::Usage, "{word}");
        }
    }

    #[test]
    fn session_is_told_with_its_streams_or_its_source() {
        insta::assert_snapshot!(written(|out| write_one(&reader(), out)), @r"
        00AB   reader of live/cam1, playing
        peer     192.0.2.9:5000 udp   for 1m05s   shard 1   client -
        live     lag 0.12s   skips 1 lag_budget (9 packets)
        TRACK  SSRC      PACKETS  BYTES    LOSS   LOST  JITTER  ROUND TRIP
        #0     0000002A  7        6.8 KiB  25.0%  3     2.0ms   -
        #1     -         0        0 B      -      -     -       -
        ");
        insta::assert_snapshot!(written(|out| write_one(&publisher(), out)), @r"
        01CD   publisher of live/cam1, recording
        peer     192.0.2.3:40000 tcp   for 3s   shard 0   client Lavf61
        sends    1.0 Mb/s   10 packets, 0 lost; not taken: none
        ");
    }
}

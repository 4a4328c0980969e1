//! `headend drain` and `headend undrain`: the server takes no new sessions, or takes them again.

use std::ffi::OsString;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::super::args::{DrainArgs, RemoteArgs};
use super::super::{Exit, Failure, printable};
use super::client::Answer;
use super::{connect, table, write_json};
use crate::config::redirect::Redirect;
use crate::config::value::parse_duration;

pub(super) fn drain(
    args: &DrainArgs,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    let order = order(args)?;
    show(connect(&args.remote, env)?.post_json("/v1/drain", &[], &order)?, args.remote.json, out)
}

pub(super) fn undrain(
    args: &RemoteArgs,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    show(connect(args, env)?.post("/v1/undrain")?, args.json, out)
}

/// The order as the API takes it.
fn order(args: &DrainArgs) -> Result<Value, Failure> {
    let mut order = json!({ "exit": args.exit });
    if let Some(deadline) = &args.deadline {
        let after = parse_duration(deadline).ok_or_else(|| {
            let text = printable(deadline);
            Failure::usage(format!("--deadline: `{text}` is not a duration like `30s` or `10m`"))
        })?;
        order["deadline_s"] = after.as_secs_f64().ceil().into();
    }
    if !args.redirect.is_empty() {
        Redirect::parse(&args.redirect)
            .map_err(|error| Failure::usage(format!("--redirect: {error}")))?;
        order["redirect"] = args.redirect.clone().into();
    }
    Ok(order)
}

fn show(answer: Answer, is_json: bool, out: &mut impl Write) -> Result<Exit, Failure> {
    match answer {
        Answer::Found(state) if is_json => write_json(&state, out)?,
        Answer::Found(state) => write_state(&state, out)?,
        Answer::Missing(why) => return Err(Failure::runtime(why)),
    }
    Ok(Exit::Ok)
}

fn write_state(state: &Value, out: &mut impl Write) -> io::Result<()> {
    let mut left = match table::count(&state["sessions"]) {
        1 => "1 session is left".to_owned(),
        count => format!("{count} sessions are left"),
    };
    if state["hls"] == true {
        left += ", and viewers by HLS or WebRTC";
    }
    if state["state"] == "serving" {
        return writeln!(out, "the server takes new sessions");
    }
    writeln!(out, "the server takes no new sessions; {left}")?;
    if let Some(deadline_s) = state["deadline_s"].as_u64() {
        writeln!(out, "they are ended in {deadline_s} s")?;
    }
    for url in state["redirect"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        writeln!(out, "clients are sent to {}", printable(url))?;
    }
    if state["exit"] == true {
        writeln!(out, "the server ends when none is left")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(deadline: Option<&str>, redirect: &[&str], exit: bool) -> DrainArgs {
        DrainArgs {
            deadline: deadline.map(str::to_owned),
            redirect: redirect.iter().map(|url| (*url).to_owned()).collect(),
            exit,
            remote: RemoteArgs::default(),
        }
    }

    #[test]
    fn words_become_an_order_and_wrong_ones_are_usage_failures() {
        assert_eq!(order(&args(None, &[], false)), Ok(json!({ "exit": false })));
        let expected =
            json!({ "exit": true, "deadline_s": 600.0, "redirect": ["rtsp://b", "rtsps://b"] });
        assert_eq!(order(&args(Some("10m"), &["rtsp://b", "rtsps://b"], true)), Ok(expected));
        for (deadline, redirect) in
            [(Some("soon"), "rtsp://b"), (None, "ftp://b"), (Some("5"), "rtsp://b")]
        {
            let failure = order(&args(deadline, &[redirect], false)).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{failure}");
        }
    }

    #[test]
    fn state_is_told_in_sentences() {
        let mut out = Vec::new();
        let state = json!({ "state": "draining", "sessions": 2, "hls": true, "deadline_s": 600,
            "redirect": ["rtsp://b:8554"], "exit": true });
        write_state(&state, &mut out).unwrap();
        let state = json!({ "state": "drained", "sessions": 0, "deadline_s": null,
            "redirect": [], "exit": false });
        write_state(&state, &mut out).unwrap();
        write_state(&json!({ "state": "serving", "sessions": 1 }), &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r"
        the server takes no new sessions; 2 sessions are left, and viewers by HLS or WebRTC
        they are ended in 600 s
        clients are sent to rtsp://b:8554
        the server ends when none is left
        the server takes no new sessions; 0 sessions are left
        the server takes new sessions
        ");
    }
}

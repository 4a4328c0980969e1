//! `headend config reload`: the server reads its file again, and tells what that did.

use std::ffi::OsString;
use std::io::{self, Write};

use serde_json::Value;

use super::super::args::RemoteArgs;
use super::super::{Exit, Failure, printable};
use super::client::Answer;
use super::{connect, write_json};

pub(super) fn reload(
    args: &RemoteArgs,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    let report = match connect(args, env)?.post("/v1/config:reload")? {
        Answer::Found(report) => report,
        Answer::Missing(why) => return Err(Failure::runtime(why)),
    };
    if args.json {
        write_json(&report, out)?
    } else {
        write_report(&report, out)?
    }
    Ok(Exit::Ok)
}

fn write_report(report: &Value, out: &mut impl Write) -> io::Result<()> {
    for (key, what) in WORDS {
        for text in report[key].as_array().into_iter().flatten().filter_map(Value::as_str) {
            writeln!(out, "{what} {}", printable(text))?;
        }
    }
    if report["others_changed"] == true {
        writeln!(out, "changed       paths without a section of their own")?;
    }
    writeln!(out, "the configuration was read again")
}

/// (key of the report, how it is told).
const WORDS: [(&str, &str); 5] = [
    ("added", "added        "),
    ("changed", "changed      "),
    ("removed", "removed      "),
    ("needs_restart", "needs restart"),
    ("warnings", "warning      "),
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn report_is_a_line_for_each_thing_that_changed() {
        let report = json!({
            "added": ["live/a"], "changed": ["live/\u{1b}b"], "removed": [],
            "needs_restart": ["rtsp.listen"], "warnings": ["open"], "others_changed": true,
        });
        let mut out = Vec::new();
        write_report(&report, &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r"
        added         live/a
        changed       live/?b
        needs restart rtsp.listen
        warning       open
        changed       paths without a section of their own
        the configuration was read again
        ");
    }
}

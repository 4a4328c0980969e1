//! `headend limits`: limits on what strangers can grow, the fullest first.

use std::ffi::OsString;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::super::args::RemoteArgs;
use super::super::{Exit, Failure};
use super::{connect, table, write_json};

pub(super) fn run(
    args: &RemoteArgs,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    let limits = connect(args, env)?.list("/v1/limits", "", "limits")?;
    if args.json {
        write_json(&json!({ "limits": limits }), out)?;
    } else {
        write_table(limits, out)?;
    }
    Ok(Exit::Ok)
}

fn write_table(mut limits: Vec<Value>, out: &mut impl Write) -> io::Result<()> {
    let per_mille = |limit: &Value| {
        let (used, max) = (table::count(&limit["used"]), table::count(&limit["limit"]));
        u128::from(used) * 1_000 / u128::from(max.max(1))
    };
    limits.sort_by_key(|limit| std::cmp::Reverse(per_mille(limit)));
    let row = |limit: &Value| {
        let thousandths = per_mille(limit);
        vec![
            table::text(&limit["what"]),
            limit["shard"].as_u64().map_or_else(|| "all".to_owned(), |shard| shard.to_string()),
            table::count(&limit["used"]).to_string(),
            table::count(&limit["limit"]).to_string(),
            format!("{}.{}%", thousandths / 10, thousandths % 10),
            table::text(&limit["key"]),
        ]
    };
    let rows: Vec<_> = limits.iter().map(row).collect();
    table::write(&["WHAT", "SHARD", "USED", "LIMIT", "FULL", "KEY"], &rows, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fullest_limit_comes_first() {
        let limits = vec![
            json!({ "what": "sessions", "shard": 1, "used": 3, "limit": 16_384, "key": "rtsp.sessions_max" }),
            json!({ "what": "descriptors", "used": 512, "limit": 1_024, "key": "" }),
        ];
        let mut out = Vec::new();
        write_table(limits, &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r"
        WHAT         SHARD  USED  LIMIT  FULL   KEY
        descriptors  all    512   1024   50.0%  -
        sessions     1      3     16384  0.0%   rtsp.sessions_max
        ");
    }
}

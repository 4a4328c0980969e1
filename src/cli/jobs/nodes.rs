//! `headend node drain|undrain|repair`.

use std::io::Write;

use serde_json::json;

use super::super::args::job::{AskArgs, NodeDrainArgs, NodeNameArgs};
use super::super::urls::encode_path;
use super::super::{Exit, Failure};
use super::base::{Base, key, word};
use super::write_json;
use crate::dist::wire::job::{NodePatch, NodeView};

/// `node drain`. The time at which the node is back is said first: who is told that it is away is
/// told that too.
pub(super) fn drain(
    args: &NodeDrainArgs,
    base: &Base,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    if let Some(back) = &args.back {
        let expected_back = Some(back.clone()).filter(|back| back != "none");
        let path = format!("/v1/nodes/{}", encode_path(&args.node));
        let _expected: NodeView = base.patch(&path, &key(), &NodePatch { expected_back })?;
    }
    let node = post("drain", &args.node, base)?;
    tell(&node, &args.base, out)
}

/// `node undrain`, `node repair`.
pub(super) fn act(
    verb: &str,
    args: &NodeNameArgs,
    base: &Base,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    tell(&post(verb, &args.node, base)?, &args.base, out)
}

fn post(verb: &str, node: &str, base: &Base) -> Result<NodeView, Failure> {
    let path = format!("/v1/nodes/{}/{verb}", encode_path(node));
    Ok(base.post(&path, &key(), &json!({}))?)
}

fn tell(node: &NodeView, args: &AskArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    if args.json {
        write_json(node, out)?;
    } else {
        let (state, open) = (word(node.state), node.open_deliveries);
        writeln!(out, "node {} is {state}: {open} deliveries open", node.node)?;
    }
    Ok(Exit::Ok)
}

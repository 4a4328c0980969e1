//! What is valid in a request, whatever the job.

use crate::base::secrets::shown_url;
use crate::dist::book::Refusal;
use crate::dist::book::nodes::{Node, NodeId, Nodes};
use crate::dist::command::{check_attributes, check_path};
use crate::dist::ids::NodeName;
use crate::dist::reflect::check_live;
use crate::dist::webhook::target::{AllowedNetworks, Target};
use crate::dist::wire::hook::NotifyRequest;
use crate::dist::wire::job::{CommandRequest, NodeState, Op, Policy, Targets};

/// Checks a client's own name of a job.
pub(super) fn check_ref(name: &str) -> Result<(), Refusal> {
    let (bytes, max) = (name.len(), CLIENT_REF_BYTES_MAX);
    if (1..=max).contains(&bytes) { Ok(()) } else { Err(Refusal::BadClientRef { bytes, max }) }
}

/// Checks how a job is to be done.
pub(super) fn check_policy(policy: &Policy) -> Result<(), Refusal> {
    if policy.priority > PRIORITY_MAX {
        return Err(Refusal::BadPriority(policy.priority));
    }
    let rates = [("max_rate", policy.max_rate), ("per_node_rate", policy.per_node_rate)];
    let low = rates.into_iter().find(|(_, rate)| rate.is_some_and(|rate| rate < RATE_MIN));
    match low.and_then(|(name, rate)| Some((name, rate?))) {
        Some((name, rate)) => Err(Refusal::BadRate { name, rate, min: RATE_MIN }),
        None => Ok(()),
    }
}

/// Checks who is to be called back. Gives their URLs in normal form.
pub(super) fn check_notify(
    notify: &[NotifyRequest],
    allowed: &AllowedNetworks,
) -> Result<Vec<String>, Refusal> {
    let is_told = notify.iter().all(|request| !request.events.is_empty());
    if notify.len() > NOTIFY_MAX || !is_told {
        return Err(Refusal::BadNotifyList { max: NOTIFY_MAX });
    }
    let urls = notify.iter().map(|NotifyRequest { url, .. }| {
        let wrong = |why| {
            let url = shown_url(url).chars().take(URL_SHOWN).collect();
            Refusal::BadNotify { url, why }
        };
        Target::parse(url, allowed).map(|target| target.url().to_owned()).map_err(wrong)
    });
    urls.collect()
}

/// Nodes that targets mean, each once, in the order of their names or of the list: as many as a
/// job may have, and one at least.
pub(super) fn resolve(nodes: &Nodes, targets: &Targets) -> Result<Vec<NodeId>, Refusal> {
    let found = match targets {
        Targets::All => fitting(nodes, |_| true),
        Targets::Nodes(names) => named(nodes, names)?,
        Targets::Selector(text) => {
            let labels = parse_selector(text)?;
            fitting(nodes, |node| {
                labels.iter().all(|(name, value)| {
                    node.row.labels.get(*name).map(String::as_str) == Some(*value)
                })
            })
        }
    };
    let (count, max) = (found.len(), TARGETS_MAX);
    match count {
        0 => Err(Refusal::NoTargets),
        count if count > max => Err(Refusal::TooManyTargets { count, max }),
        _ => Ok(found),
    }
}

/// Nodes of this list.
fn named(nodes: &Nodes, names: &[NodeName]) -> Result<Vec<NodeId>, Refusal> {
    let (mut found, mut seen) = (Vec::new(), std::collections::HashSet::new());
    for name in names {
        let id = nodes.id_of(name).ok_or_else(|| Refusal::UnknownNode(name.clone()))?;
        let state = nodes.get(id).map_or(NodeState::Retired, |node| node.row.state);
        if !state.takes_jobs() {
            return Err(Refusal::NodeUnavailable { node: name.clone(), state });
        }
        if seen.insert(id) {
            found.push(id);
        }
    }
    Ok(found)
}

/// Nodes that take jobs and are like this, by name.
fn fitting(nodes: &Nodes, fits: impl Fn(&Node) -> bool) -> Vec<NodeId> {
    let fitting = nodes.iter().filter(|(_, node)| node.row.state.takes_jobs() && fits(node));
    let mut fitting: Vec<_> = fitting.map(|(id, node)| (&node.row.name, id)).collect();
    fitting.sort_unstable();
    fitting.into_iter().map(|(_, id)| id).collect()
}

/// `site=north,tier=edge`.
fn parse_selector(text: &str) -> Result<Vec<(&str, &str)>, Refusal> {
    let pairs = text.split(',').map(|pair| {
        let pair = pair.trim().split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        pair.filter(|(name, _)| !name.is_empty())
    });
    let pairs: Option<Vec<_>> = pairs.collect();
    pairs.ok_or_else(|| Refusal::BadSelector(text.chars().take(SELECTOR_SHOWN).collect()))
}

/// Checks paths and attributes.
pub(super) fn check_op(op: &Op) -> Result<(), Refusal> {
    if let Op::Live { path, from } = op {
        return check_live(path, from).map_err(Refusal::BadLive);
    }
    let bad_path = |path: &str| {
        check_path(path).map_err(|error| Refusal::BadPath { path: path.to_owned(), error })
    };
    op.path().map_or(Ok(()), bad_path)?;
    op.attributes().map_or(Ok(()), check_attributes).map_err(Refusal::BadAttributes)?;
    if let Op::Move { path, to } = op {
        bad_path(to)?;
        let beneath = to.strip_prefix(path.as_str());
        if beneath.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            return Err(Refusal::MoveIntoItself(path.clone()));
        }
    }
    Ok(())
}

/// Checks what is said of a content.
pub(super) fn check_content(request: &CommandRequest, size_max: u64) -> Result<(), Refusal> {
    let CommandRequest { op, size, blake3 } = request;
    if !matches!(op, Op::Put { .. }) && (size.is_some() || blake3.is_some()) {
        return Err(Refusal::NoContent);
    }
    match size {
        Some(size) if *size > size_max => Err(Refusal::TooLarge { size: *size, max: size_max }),
        None | Some(_) => Ok(()),
    }
}

/// A client and those whom it serves.
const NOTIFY_MAX: usize = 8;
const URL_SHOWN: usize = 200;
const PRIORITY_MAX: u8 = 9;
/// A unit in six seconds: behind a slower source nodes would look for another one.
const RATE_MIN: u64 = 10_000;
/// A name for people and scripts.
const CLIENT_REF_BYTES_MAX: usize = 256;
/// Nodes of a job: the scale that the base is made for.
const TARGETS_MAX: usize = 20_000;
const SELECTOR_SHOWN: usize = 64;

//! Rows into values of columns, in the order of the tables. A row is written whole, in place of the
//! one with the same key; events are only added.

use super::LedgerError;
use super::columns::{json, word};
use super::tables::Place;
use super::value::Value;
use crate::dist::chain::ChainHead;
use crate::dist::ids::{CommandKey, HookId};
use crate::dist::rows::{
    AnswerRow, CareRow, Change, CommandRow, ContentRow, DeliveryRow, HookRow, JobRow, NodeRow,
    WaitRow,
};
use crate::dist::webhook::secret::Secret;
use crate::dist::wire::job::{Attributes, EventView, Op, Policy};

/// The table of a change, and what its row has there.
pub(super) fn values(change: &Change) -> Result<(Place, Vec<Value<'_>>), LedgerError> {
    Ok(match change {
        Change::Job(row) => (Place::Job, job(row)?),
        Change::Command(row) => (Place::Command, command(row)?),
        Change::Delivery(row) => (Place::Delivery, delivery(row)?),
        Change::Node(row) => (Place::Node, node(row)?),
        Change::Content(row) => (Place::Content, content(row)),
        Change::Event(event) => (Place::Event, add_event(event)?),
        Change::Answer(row) => (Place::Answer, answer(row)),
        Change::Hook(row) => (Place::Webhook, webhook(row)?),
        Change::Wait(row) => (Place::Wait, wait(row)),
        Change::Care(row) => (Place::Care, care(row)?),
        Change::Trim(head) => (Place::Trim, trim(head)),
    })
}

/// Answers from before go when this one comes: they are older than a day.
pub(super) fn oldest_answer_ns(row: &AnswerRow) -> i64 {
    row.at_ns.saturating_sub(ANSWERS_KEPT_NS)
}

fn job(row: &JobRow) -> Result<Vec<Value<'_>>, LedgerError> {
    let JobRow { id, client, client_ref, state, servers, list_version, policy, .. } = row;
    let Policy { order, priority, max_rate, per_node_rate, window, paused, late } = policy;
    let first_ended_at_ns = row.first_ended_at_ns;
    let JobRow { created_at_ns, deadline_ns, ended_at_ns, bound_ratio, base_egress_ratio, .. } =
        row;
    Ok(vec![
        id.to_string().into(),
        client.into(),
        client_ref.as_ref().into(),
        word(state)?.into(),
        json(servers)?.into(),
        (*list_version).into(),
        word(order)?.into(),
        (*priority).into(),
        (*max_rate).into(),
        (*created_at_ns).into(),
        (*deadline_ns).into(),
        (*ended_at_ns).into(),
        (*bound_ratio).into(),
        (*base_egress_ratio).into(),
        word(late)?.into(),
        first_ended_at_ns.into(),
        (*per_node_rate).into(),
        window.as_ref().map(ToString::to_string).into(),
        (*paused).into(),
    ])
}

fn command(row: &CommandRow) -> Result<Vec<Value<'_>>, LedgerError> {
    let CommandRow { key: CommandKey { job, command }, op, content, created_at_ns } = row;
    let Operation { name, path, to, attrs } = Operation::of(op);
    Ok(vec![
        job.to_string().into(),
        command.0.into(),
        name.into(),
        path.into(),
        to.into(),
        attrs.map(json).transpose()?.into(),
        content.map(|content| content.to_string()).into(),
        (*created_at_ns).into(),
    ])
}

/// The columns of an operation.
struct Operation<'o> {
    name: &'static str,
    path: Option<&'o str>,
    to: Option<&'o str>,
    attrs: Option<&'o Attributes>,
}

impl<'o> Operation<'o> {
    fn of(op: &'o Op) -> Self {
        let (name, path, to, attrs) = match op {
            Op::Put { path, attrs } => ("put", Some(path), None, Some(attrs)),
            Op::Mkdir { path, attrs } => ("mkdir", Some(path), None, Some(attrs)),
            Op::Delete { path } => ("delete", Some(path), None, None),
            Op::Move { path, to } => ("move", Some(path), Some(to), None),
            Op::SetAttributes { path, attrs } => ("set_attributes", Some(path), None, Some(attrs)),
            Op::Query => ("query", None, None, None),
            Op::Live { path, from } => ("live", Some(path), Some(from), None),
        };
        Self { name, path: path.map(String::as_str), to: to.map(String::as_str), attrs }
    }
}

fn delivery(row: &DeliveryRow) -> Result<Vec<Value<'_>>, LedgerError> {
    let DeliveryRow { key: CommandKey { job, command }, node, state, offset, source, .. } = row;
    let DeliveryRow { switches, attempts, reason, detail, receipt, updated_at_ns, .. } = row;
    Ok(vec![
        job.to_string().into(),
        command.0.into(),
        node.as_str().into(),
        word(state)?.into(),
        (*offset).into(),
        source.as_ref().map(|source| source.as_str()).into(),
        (*switches).into(),
        (*attempts).into(),
        reason.as_ref().map(word).transpose()?.into(),
        detail.as_ref().into(),
        receipt.as_ref().map(|signed| &signed.receipt).into(),
        receipt.as_ref().map(|signed| &signed.signature).into(),
        (*updated_at_ns).into(),
    ])
}

fn node(row: &NodeRow) -> Result<Vec<Value<'_>>, LedgerError> {
    let NodeRow { name, state, token_hash, public_key, addr, labels, incarnation, .. } = row;
    let NodeRow { reports_taken, up_rate_cap, down_rate_cap, .. } = row;
    let NodeRow { up_rate_seen, down_rate_seen, heard_at_ns, .. } = row;
    Ok(vec![
        name.as_str().into(),
        word(state)?.into(),
        token_hash.to_string().into(),
        public_key.into(),
        addr.into(),
        json(labels)?.into(),
        incarnation.0.into(),
        (*reports_taken).into(),
        (*up_rate_cap).into(),
        (*down_rate_cap).into(),
        (*up_rate_seen).into(),
        (*down_rate_seen).into(),
        (*heard_at_ns).into(),
    ])
}

fn content(row: &ContentRow) -> Vec<Value<'_>> {
    let ContentRow { id, key, size, expected, blake3, ended_at_ns, is_abandoned } = row;
    vec![
        id.to_string().into(),
        key.job.to_string().into(),
        key.command.0.into(),
        (*size).into(),
        expected.map(|digest| digest.to_string()).into(),
        blake3.map(|digest| digest.to_string()).into(),
        (*ended_at_ns).into(),
        (*is_abandoned).into(),
    ]
}

fn add_event(event: &EventView) -> Result<Vec<Value<'_>>, LedgerError> {
    let EventView { seq, at_ns, job, command, node, kind, detail, hash } = event;
    Ok(vec![
        (*seq).into(),
        (*at_ns).into(),
        job.map(|job| job.to_string()).into(),
        command.map(|command| command.0).into(),
        node.as_ref().map(|node| node.as_str()).into(),
        kind.into(),
        json(detail)?.into(),
        hash.to_string().into(),
    ])
}

fn answer(row: &AnswerRow) -> Vec<Value<'_>> {
    let AnswerRow { client, idempotency_key, request, status, body, at_ns } = row;
    vec![
        client.into(),
        idempotency_key.into(),
        request.to_string().into(),
        (*status).into(),
        body.into(),
        (*at_ns).into(),
    ]
}

fn webhook(row: &HookRow) -> Result<Vec<Value<'_>>, LedgerError> {
    let HookRow { id: HookId { job, hook }, url, secret, topics, client_ref, state, .. } = row;
    let HookRow { place, newest, pending, waits_since_ns, delivered, dropped, .. } = row;
    let HookRow { attempts, due_at_ns, delivered_at_ns, last_error, .. } = row;
    Ok(vec![
        job.to_string().into(),
        (*hook).into(),
        url.into(),
        secret.as_ref().map(Secret::reveal).into(),
        json(topics)?.into(),
        client_ref.as_ref().into(),
        word(state)?.into(),
        (*place).into(),
        (*newest).into(),
        (*pending).into(),
        (*waits_since_ns).into(),
        (*delivered).into(),
        (*dropped).into(),
        (*attempts).into(),
        (*due_at_ns).into(),
        (*delivered_at_ns).into(),
        last_error.as_ref().into(),
    ])
}

fn wait(row: &WaitRow) -> Vec<Value<'_>> {
    let WaitRow { job, until_ns, period_s, periods } = row;
    vec![job.to_string().into(), (*until_ns).into(), (*period_s).into(), (*periods).into()]
}

fn trim(ChainHead { seq, hash }: &ChainHead) -> Vec<Value<'_>> {
    vec![1_u32.into(), (*seq).into(), hash.to_string().into()]
}

fn care(row: &CareRow) -> Result<Vec<Value<'_>>, LedgerError> {
    let CareRow { node, phase, cause, tries, extensions, due_at_ns, expected_back_ns } = row;
    Ok(vec![
        node.as_str().into(),
        word(phase)?.into(),
        cause.as_ref().map(word).transpose()?.into(),
        (*tries).into(),
        (*extensions).into(),
        (*due_at_ns).into(),
        (*expected_back_ns).into(),
    ])
}

/// A day: longer than a client goes on asking.
const ANSWERS_KEPT_NS: i64 = 24 * 3_600 * 1_000_000_000;

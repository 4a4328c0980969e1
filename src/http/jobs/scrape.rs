//! `GET /metrics` of a base: cells are read, the book is asked for what it has of each state.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;

use super::{Shared, problem};
use crate::dist::book::{Book, HookNumbers, RelayNumbers};
use crate::dist::wire::job::{DeliveryState, NodeState};
use crate::http::clerk::ask;
use crate::http::problem::Problem;
use crate::metrics::distribution::{DistributionGauges, WebhookGauges, text};
use crate::metrics::exposition::CONTENT_TYPE;

pub(super) async fn metrics(State(jobs): Shared) -> Result<impl IntoResponse, Problem> {
    let clerk = &jobs.clerk;
    let mut gauges = ask(clerk, |book, _| gauges_of(book)).await?;
    gauges.order_streams = u64::try_from(clerk.listening_nodes()).unwrap_or(u64::MAX);
    gauges.order_overflows = clerk.order_overflows();
    gauges.epoch = jobs.epoch.0;
    let text = text(&clerk.cells(), &jobs.cells, &gauges).map_err(|error| {
        problem(StatusCode::INTERNAL_SERVER_ERROR, "metrics", error.to_string())
    })?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}

fn gauges_of(book: &Book) -> DistributionGauges {
    let nodes = book.nodes();
    let count = |state| nodes.iter().filter(|node| node.state == state).count();
    let nodes = NodeState::ALL
        .map(|state| (state.as_str(), u64::try_from(count(state)).unwrap_or(u64::MAX)));
    let deliveries = DeliveryState::ALL.iter().zip(book.delivery_counts());
    let deliveries = deliveries.map(|(state, count)| (state.as_str(), count));
    DistributionGauges {
        deliveries: deliveries.collect(),
        nodes: nodes.to_vec(),
        limited_jobs: book.limited_jobs().to_vec(),
        relays: relays(book.relay_numbers()),
        webhooks: webhooks(book.hook_numbers()),
        ..Default::default()
    }
}

fn relays(numbers: RelayNumbers) -> [(&'static str, u64); 3] {
    let RelayNumbers { sent, taken, stepped_in, open: _ } = numbers;
    [("sent", sent), ("taken", taken), ("stepped_in", stepped_in)]
}

fn webhooks(numbers: HookNumbers) -> WebhookGauges {
    let HookNumbers { pending, open, lag_ns, delivered, failed, dropped, disabled } = numbers;
    let lag_seconds = lag_ns / 1_000_000_000;
    WebhookGauges { pending, open, lag_seconds, delivered, failed, dropped, disabled }
}

//! The base: its jobs, commands, deliveries, nodes and contents, and what is to be done next.
//!
//! ```text
//! clients: request_job, command, end_job ..  --+          +--> views: answers
//! uploads: upload_grew, upload_ended ..      --+--> Book --+--> take_changes: rows and events
//! nodes:   hello, reports                    --+          +--> take_orders: to nodes that live
//! time:    tick                              --'          |--> take_expired: contents to remove
//! attempts: called_back                      --'          '--> take_calls: who is called back
//! ```
//! Whoever drives a book makes the changes durable before answers and orders leave. A book that is
//! made from the rows of a ledger goes on where the one before stopped: what was open is open, and
//! [`Book::open_orders`] says it again to each node.
//!
//! Parts, each with its own invariant: `jobs` (and `records`), `nodes`, `contents`, `flows`,
//! `answers`, `hooks` (and `notify`), `tenants`, `terms` (what jobs may take, and when), `relays`
//! (orders that nodes hand on), and `effects`, what goes out. `parts` has them together and says
//! what a change of a delivery or a job has to do with all of them; `planner` plans contents,
//! `live` live paths. Who acts on them: `requests` (a client), `uploads` (an upload), `reports` (a
//! node that reports), `presence` (a node that comes and goes), `time` (the second hand), `wait`
//! (periods of jobs), `repair` (a node that does not get on, by its `care`), `restore` (rows).
//! `views` answers. `front` is the book itself: what it can be asked, in sentences that name who
//! acts.
//!
//! Invariants: a refused request has no effect; a report or order that comes twice has no second
//! effect; totals are those of the deliveries; a put is completed by a verified receipt with the
//! hash that the base has itself. Bounds: [`Limits`]; orders are only made for nodes that live.

mod answers;
mod care;
mod checks;
mod contents;
mod effects;
mod filter;
mod flows;
mod front;
mod further;
mod hooks;
mod jobs;
mod link;
mod live;
mod measure;
mod nodes;
mod notify;
mod options;
mod parts;
mod planner;
mod presence;
mod records;
mod refusal;
mod relays;
mod repair;
mod reports;
mod requests;
mod restore;
mod tenants;
mod terms;
#[cfg(test)]
mod tests;
mod time;
mod uploads;
mod views;
mod wait;

pub use crate::dist::book::effects::RepairHook;
pub use crate::dist::book::filter::{DeliveryFilter, PAGE_DEFAULT, PAGE_MAX};
pub use crate::dist::book::front::Book;
pub use crate::dist::book::hooks::{Attempt, HookNumbers, HookReport, first_and_stale};
pub use crate::dist::book::options::{BookOptions, Limits, RELAY_FROM, Timeouts};
pub use crate::dist::book::presence::HelloBy;
pub use crate::dist::book::refusal::Refusal;
pub use crate::dist::book::relays::RelayNumbers;

//! Distribution: jobs that bring contents from a base server to node servers (Shastri,
//! US 2002/0065918), as plain code.
//!
//! ```text
//! client --requests--> Book (base) --orders--> Agent (node) --fetches--> Units of a source
//!    ^                  |    ^                   |   |                    (base or node)
//!    '-- views, events -'    '----- reports -----'   '-- published in the media folder
//!              changes -> ledger
//! ```
//! - [`ids`]: identities. [`wire`]: what goes over HTTP as JSON. [`rows`]: what the ledger keeps.
//! - [`book`]: the base. [`job`], [`command`], [`delivery`], [`node`]: its states. [`plan`]: who
//!   fetches from whom. [`keys`], [`token`]: secrets. [`chain`]: events that cannot be changed.
//! - [`quota`]: how much of a base a client may use.
//! - [`webhook`]: how a client that has left is called back.
//! - [`window`], [`terms`]: when a job may take how much. [`uplink`]: who may send next.
//!   [`fanout`]: how many nodes a source feeds. [`level`]: who takes parts from several at once.
//! - [`reflect`]: a live path at a node, as part of a job.
//! - [`probe`]: what a node that is back fetches first.
//! - [`recovery`]: what a start of the base makes of its disk. [`retention`]: which events go.
//! - `agent`, `fetch`: a node: which command is next, which source a content comes from.
//! - [`relay`]: how orders go on from node to node.
//! - `units`: the bytes of a content, verified by BLAKE3 in units of 64 KiB.
//!
//! Invariants: time, bytes and outcomes come in, actions go out; no clock, socket, file or thread
//! is in here. A content grows from its start without a gap, and only verified bytes are passed on;
//! what several sources bring ahead of a gap waits until that is closed.

pub mod agent;
pub mod book;
pub mod chain;
pub mod command;
pub mod delivery;
pub mod fanout;
pub mod fetch;
pub mod ids;
pub mod job;
pub mod journal;
pub mod keys;
pub mod level;
pub mod node;
pub mod plan;
pub mod probe;
pub mod quota;
pub mod recovery;
pub mod reflect;
pub mod relay;
pub mod retention;
pub mod rows;
pub mod terms;
pub mod token;
pub mod units;
pub mod uplink;
pub mod webhook;
pub mod window;
pub mod wire;

//! PollTable, consumers and tasks (Srikantan et al., reference 001): who is told of which event,
//! and what becomes of it.
//!
//! ```text
//!  completion --PollTable row--> PollEventConsumer::create_task --+--> Handled: row armed again
//!                                      ^                          +--> Submit(Task): row suspended
//!                                      |                          |            | TaskQueue
//!                                      +----- Event::Outcome <----+------------+
//! ```
//! | reference 001 | here |
//! |---|---|
//! | Poller | [`poller::Poller`] |
//! | PollTable | [`poll_table::PollTable`] |
//! | PollEventConsumer, CreateTask() | [`consumer::PollEventConsumer::create_task`] |
//! | Task | [`task::Task`] |
//! | TaskQueue and its pool | `worker` |

pub mod consumer;
pub mod poll_table;
pub mod poller;
pub mod task;

//! Does one task of a worker: each kind of work has a file.
//!
//! ```text
//!  Work::Open, Adopt      open          Work::Window            window
//!  Work::Resolve          resolve       Work::WindowBytes       window_bytes
//!  Work::ReadDescription  description   Work::Image             image
//!  Work::Judge            `access::question`
//! ```
//! Invariant: the task is answered once, also when its work panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use super::engine::Engine;
use super::lanes::Lanes;
use super::reply::Reply;
use super::{description, image, open, resolve, window, window_bytes};
use crate::poll::task::{Outcome, Task, Work};

/// Does a task. Whatever happens inside, the task is answered: a panic drops its reply.
pub(super) async fn run(engine: &Engine, lanes: &Lanes, task: Task) {
    let reply = Reply::new(&engine.desk, &task);
    let work = async {
        match task.work {
            Work::Open { name } => open::open(engine, lanes, name, reply).await,
            Work::Adopt(adopted) => open::adopt(engine, lanes, &adopted, reply).await,
            Work::Resolve { host, zone } => {
                resolve::resolve(&engine.resolving, host, zone, reply);
            }
            Work::Window { title, key } => {
                window::window(engine, lanes, &title, key, reply).await;
            }
            Work::WindowBytes { title, key } => {
                window_bytes::window_bytes(engine, lanes, &title, key, reply).await;
            }
            Work::Image { title, window, numbers } => {
                image::image(engine, lanes, &title, &window, numbers, reply).await;
            }
            Work::Judge(question) => {
                // It has threads of its own: a hash takes longer than a worker may compute.
                (engine.judge)(
                    *question,
                    Box::new(move |answer| reply.send(Outcome::Judged(answer))),
                );
            }
            Work::ReadDescription { file } => {
                description::read(engine, lanes, file, reply).await;
            }
        }
    };
    let mut work = pin!(work);
    // Nothing of the work is touched after a panic; what is shared is behind locks that are
    // held for single, complete changes.
    let caught = std::future::poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        polled.map_or(Poll::Ready(false), |poll| poll.map(|()| true))
    });
    if !caught.await {
        engine.counts().panics.add(1);
        tracing::error!(
            code = "HE-E704",
            "a task panicked in a worker; it was answered with a failure"
        );
    }
}

//! The packet windows of a shard: windows that are here, requested windows, and their waiters.
//!
//! ```text
//!            request                       answer
//! (nothing) --------> Asked, with waiters --------> Here --pages age--> asked again at a request
//! ```
//! Invariants: a window is requested from the workers once, however many streams of the shard want
//! it; no window is handed out whose pages a worker has not seen in memory lately (`media::pages`).
//! Bound: an entry lives while a stream waits for its window or holds it; dead entries are swept
//! when they outnumber the live ones.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use slab::Slab;

use crate::base::time::Mono;
use crate::library::title::{FileIdentity, Title};
use crate::media::pages::Pages;
use crate::media::window::{PacketWindow, WindowKey};
use crate::session::directory::StreamRef;

/// Answer to a request.
#[derive(Debug)]
pub enum WindowAnswer {
    /// The window is here.
    Here(Arc<PacketWindow>),
    /// The window has been requested: the waiter is told when the window arrives.
    Requested,
    /// The caller requests the window from a worker, with this number on the task.
    Request(u32),
}

/// All windows of one shard: see the module.
#[derive(Debug)]
pub struct WindowCache {
    entries: HashMap<(FileIdentity, WindowKey), Entry>,
    /// Requested windows, by the number on their task.
    asked: Slab<(FileIdentity, WindowKey)>,
    /// Emptied lists of waiters, for reuse.
    spare: Vec<Vec<StreamRef>>,
    sweep_at: usize,
}

#[derive(Debug)]
enum Entry {
    Here(Weak<PacketWindow>),
    Asked(Vec<StreamRef>),
}

impl Default for WindowCache {
    fn default() -> Self {
        Self {
            entries: HashMap::with_capacity(2 * SWEEP_MIN),
            asked: Slab::new(),
            spare: Vec::new(),
            sweep_at: 0,
        }
    }
}

impl WindowCache {
    /// Looks for a window of `title` that can be sent from at `now` and for a while.
    pub fn request(
        &mut self,
        title: &Title,
        key: WindowKey,
        waiter: StreamRef,
        now: Mono,
    ) -> WindowAnswer {
        let name = (title.identity, key);
        match self.entries.get_mut(&name) {
            Some(Entry::Here(window)) => {
                let is_warm = |window: &Arc<PacketWindow>| window.pages(now) <= Pages::Warm;
                if let Some(window) = window.upgrade().filter(is_warm) {
                    return WindowAnswer::Here(window);
                }
            }
            Some(Entry::Asked(waiters)) => {
                push_waiter(waiters, waiter);
                return WindowAnswer::Requested;
            }
            None => {}
        }
        self.sweep();
        let mut waiters = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(WAITERS_USUAL));
        waiters.push(waiter);
        self.entries.insert(name, Entry::Asked(waiters));
        WindowAnswer::Request(u32::try_from(self.asked.insert(name)).unwrap_or(u32::MAX))
    }

    /// A worker has answered (`None` when the window could not be built, or the queue refused the
    /// task). Returns the window's key and its waiters: `give_back` takes the list.
    pub fn handle_answer(
        &mut self,
        number: u32,
        window: Option<&Arc<PacketWindow>>,
    ) -> Option<(WindowKey, Vec<StreamRef>)> {
        let name = self.asked.try_remove(number as usize)?;
        let waiters = match self.entries.remove(&name) {
            Some(Entry::Asked(waiters)) => waiters,
            Some(Entry::Here(_)) | None => Vec::new(),
        };
        if let Some(window) = window {
            self.entries.insert(name, Entry::Here(Arc::downgrade(window)));
        }
        Some((name.1, waiters))
    }

    /// Takes back the list of `handle_answer` after all its waiters were told.
    pub fn give_back(&mut self, mut waiters: Vec<StreamRef>) {
        if waiters.capacity() > 0 && self.spare.len() < SPARE_MAX {
            waiters.clear();
            self.spare.push(waiters);
        }
    }

    /// Number of windows that are being built for this shard.
    #[must_use]
    pub fn asked_count(&self) -> usize {
        self.asked.len()
    }

    fn sweep(&mut self) {
        if self.entries.len() < self.sweep_at.max(SWEEP_MIN) {
            return;
        }
        self.entries.retain(|_, entry| match entry {
            Entry::Here(window) => window.strong_count() > 0,
            Entry::Asked(_) => true,
        });
        self.sweep_at = self.entries.len() * 2;
    }
}

/// Adds a waiter. Before the list grows, streams that wait in it for earlier epochs are removed:
/// the list holds at most twice as many waiters as there are streams, however often clients seek.
fn push_waiter(waiters: &mut Vec<StreamRef>, waiter: StreamRef) {
    if waiters.len() == waiters.capacity() {
        let mut seen = HashSet::with_capacity(waiters.len());
        waiters.reverse();
        waiters.retain(|other| seen.insert((other.session, other.stream_index)));
        waiters.reverse();
        // At least half of the list is free: the next pass comes after as many waiters as are
        // present.
        if waiters.len() * 2 > waiters.capacity() {
            waiters.reserve_exact(waiters.len());
        }
    }
    waiters.push(waiter);
}

/// Below this many entries a sweep frees less than it costs.
const SWEEP_MIN: usize = 256;
/// Streams that wait for one window, with few viewers of a title at a time.
const WAITERS_USUAL: usize = 8;
/// Windows that are usually under way at once.
const SPARE_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::directory::SessionKey;

    #[test]
    fn list_of_waiting_streams_is_scanned_only_after_as_many_seeks_as_it_has_streams() {
        let waiter = |session, epoch_count| StreamRef {
            session: SessionKey(session),
            stream_index: 0,
            epoch_count,
        };
        let mut waiters = Vec::new();
        (0..1_024).for_each(|session| push_waiter(&mut waiters, waiter(session, 1)));
        let mut passes = 0;
        for epoch in 2..20_000 {
            let before = waiters.len();
            push_waiter(&mut waiters, waiter(7, epoch));
            passes += usize::from(waiters.len() <= before);
            assert!(waiters.len() <= 2 * 1_024 + 1);
        }
        assert!(passes <= 20_000 / 1_000, "{passes}");
        assert_eq!(waiters.last(), Some(&waiter(7, 19_999)));
    }
}

//! The images of windows that are in memory, and their budget.
//!
//! ```text
//! reserve(bytes) --> make it --> put(window, image)          in use: on its window, in sends
//!    |  no stream has entered its window for a while,        retired: taken off its window
//!    |  or others need the room                              freed: when nobody has it any more
//!    `-- no room: everything in the budget is in use
//! ```
//! An image is kept here as long as anybody has it, so that its memory is given back by a worker:
//! it takes tens of microseconds, which a shard is not to spend in the midst of its sends. While
//! images are kept, one task of the workers sweeps them (`serve`): they go when viewing stops, too.
//!
//! Invariants: images in memory, those that are being made and those that were retired take no more
//! than the budget; one that a stream entered lately is not retired.
//! Bound: the budget; one image a window.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::base::time::Mono;
use crate::media::image::PacketImage;
use crate::media::window::PacketWindow;

/// See the module.
#[derive(Debug)]
pub(super) struct Images {
    bytes_max: usize,
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    kept: Vec<Kept>,
    /// What `kept` takes, and what is reserved.
    bytes: usize,
    /// A task sweeps.
    is_swept: bool,
}

#[derive(Debug)]
struct Kept {
    image: Arc<PacketImage>,
    window: Weak<PacketWindow>,
    bytes: usize,
    is_retired: bool,
}

/// Room for an image that is being made. It is given back unless the image is put.
#[derive(Debug)]
pub(super) struct Room<'a> {
    images: &'a Images,
    bytes: usize,
}

impl Images {
    /// A shelf for so many bytes; 0: there are no images.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, shelf: Mutex::default() }
    }

    /// Room for an image of so many bytes, for which idle images are retired. `None`: all that is
    /// there is in use.
    pub(super) fn reserve(&self, bytes: usize, now: Mono) -> Option<Room<'_>> {
        let (has_room, gone) = {
            let mut shelf = self.lock();
            let mut gone = shelf.sweep(now);
            let room = self.bytes_max.saturating_sub(bytes);
            if bytes <= self.bytes_max && shelf.bytes > room {
                gone.extend(shelf.retire_idle(room, now));
            }
            let has_room = bytes <= self.bytes_max && shelf.bytes <= room;
            if has_room {
                shelf.bytes += bytes;
            }
            (has_room, gone)
        };
        // Unmapping takes its time.
        drop(gone);
        has_room.then(|| Room { images: self, bytes })
    }

    /// Whether the caller is to call [`Self::sweep`] from now on: there are images, and nobody
    /// does.
    pub(super) fn begin_sweeping(&self) -> bool {
        let mut shelf = self.lock();
        !shelf.kept.is_empty() && !std::mem::replace(&mut shelf.is_swept, true)
    }

    /// Gives back what nobody uses. False: nothing is kept any more, and sweeping ends.
    pub(super) fn sweep(&self, now: Mono) -> bool {
        let (gone, goes_on) = {
            let mut shelf = self.lock();
            let gone = shelf.sweep(now);
            shelf.is_swept &= !shelf.kept.is_empty();
            (gone, !shelf.kept.is_empty())
        };
        // Unmapping takes its time.
        drop(gone);
        goes_on
    }

    /// Images kept, and the memory that they take with those that are being made.
    pub(super) fn gauges(&self) -> (usize, usize) {
        let shelf = self.lock();
        (shelf.kept.len(), shelf.bytes)
    }

    /// A panic while the lock is held leaves at worst bytes that nobody gives back.
    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room<'_> {
    /// Gives a window its image. One that the window had before is retired. False: that one is in
    /// use, and stays.
    pub(super) fn put(mut self, window: &Arc<PacketWindow>, image: PacketImage, now: Mono) -> bool {
        let image = Arc::new(image);
        let weak = Arc::downgrade(window);
        let mut shelf = self.images.lock();
        for other in shelf.kept.iter_mut().filter(|kept| kept.window.ptr_eq(&weak)) {
            if !other.is_retired && other.image.is_in_use(now) {
                return false;
            }
            other.is_retired = true;
        }
        window.image().store(Some(Arc::clone(&image)));
        let bytes = std::mem::take(&mut self.bytes);
        shelf.kept.push(Kept { image, window: weak, bytes, is_retired: false });
        true
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.images.lock().bytes -= self.bytes;
        }
    }
}

impl Shelf {
    /// Retires what nobody has entered for long, and takes out what nobody has any more.
    fn sweep(&mut self, now: Mono) -> Vec<Kept> {
        for kept in self.kept.iter_mut().filter(|kept| !kept.is_retired) {
            if kept.window.strong_count() == 0 || kept.image.idle_s(now) > IDLE_S {
                kept.retire();
            }
        }
        self.take_free()
    }

    /// Retires what was entered longest ago until `room` bytes are left, and takes out what nobody
    /// has any more.
    fn retire_idle(&mut self, room: usize, now: Mono) -> Vec<Kept> {
        let mut idle: Vec<usize> = (0..self.kept.len())
            .filter(|at| {
                let kept = &self.kept[*at];
                !kept.is_retired && !kept.image.is_in_use(now)
            })
            .collect();
        idle.sort_by_key(|at| std::cmp::Reverse(self.kept[*at].image.idle_s(now)));
        let mut left = self.bytes;
        for at in idle {
            if left <= room {
                break;
            }
            left -= self.kept[at].bytes;
            self.kept[at].retire();
        }
        self.take_free()
    }

    fn take_free(&mut self) -> Vec<Kept> {
        let is_free = |kept: &mut Kept| kept.is_retired && Arc::strong_count(&kept.image) == 1;
        let free: Vec<Kept> = self.kept.extract_if(.., is_free).collect();
        self.bytes -= free.iter().map(|kept| kept.bytes).sum::<usize>();
        free
    }
}

impl Kept {
    /// Takes the image off its window; sends that have it go on.
    fn retire(&mut self) {
        self.is_retired = true;
        if let Some(window) = self.window.upgrade() {
            window.image().store(None);
        }
    }
}

/// Without a need for room, one more viewer may be close behind.
const IDLE_S: u64 = 10;

#[cfg(test)]
#[path = "images_tests.rs"]
pub(super) mod tests;

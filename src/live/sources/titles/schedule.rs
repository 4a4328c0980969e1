//! What a path that is fed by titles plays, and in which order.
//!
//! ```text
//!  next --Play(item 0)--> prepared --begun--> next --Play(item 1)--> ..
//!                            `--failed--> next --another item, or Nothing(reason)
//! ```
//! Invariants: an item is one playing of one title, and its number is never used again; the answer
//! of `next` changes only when the schedule was told something. Bound: one title.

use std::sync::Arc;

use crate::base::names::{CLIP_NAME, LIBRARY_PATH};

/// The order of titles on a path: see the module. Wall-clock times are nanoseconds since 1970.
#[derive(Debug)]
pub(crate) struct Schedule {
    title: Arc<str>,
    /// The item that has not begun yet.
    pending: ItemId,
    /// Why the pending item cannot be played.
    failure: Option<String>,
}

/// One playing of a title; never used twice in the life of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ItemId(pub(crate) u64);

/// An item that is to be played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upcoming {
    /// The item.
    pub(crate) item: ItemId,
    /// Path in the library, without `vod/`; [`CLIP_NAME`] is the
    /// built-in clip.
    pub(crate) title: Arc<str>,
    /// When it is to begin; `None`: when the one before it ends.
    pub(crate) begins_utc_ns: Option<i64>,
}

impl Upcoming {
    /// Path of the title in URLs.
    pub(crate) fn url(&self) -> String {
        match &*self.title {
            CLIP_NAME => CLIP_NAME.to_owned(),
            name => format!("{LIBRARY_PATH}{name}"),
        }
    }
}

/// What follows the item that plays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// This item.
    Play(Upcoming),
    /// Nothing before this time: ask again then.
    #[expect(dead_code, reason = "of schedules with start times")]
    WaitUntil(i64),
    /// Nothing can be played, for this reason.
    Nothing(String),
}

#[expect(
    clippy::needless_pass_by_ref_mut,
    reason = "schedules of more than one title change when they are asked or told"
)]
impl Schedule {
    /// One title again and again: a slate.
    pub(crate) fn repeat(title: &str) -> Self {
        Self { title: title.into(), pending: ItemId(0), failure: None }
    }

    /// The item to prepare behind the one that plays, or the first one. To be asked again after
    /// each `handle_begun`, `handle_failed` and edit.
    pub(crate) fn next(&mut self, _utc_ns: i64) -> Next {
        match &self.failure {
            Some(reason) => Next::Nothing(reason.clone()),
            None => Next::Play(Upcoming {
                item: self.pending,
                title: Arc::clone(&self.title),
                begins_utc_ns: None,
            }),
        }
    }

    /// Packets of the item have begun to go out.
    pub(crate) fn handle_begun(&mut self, item: ItemId, _utc_ns: i64) {
        if item == self.pending {
            (self.pending, self.failure) = (ItemId(item.0 + 1), None);
        }
    }

    /// The item cannot be played, or not to its end: it is skipped. A title that has begun is
    /// opened anew, because its file may have been replaced.
    pub(crate) fn handle_failed(&mut self, item: ItemId, reason: &str, _utc_ns: i64) {
        if item == self.pending {
            self.failure = Some(reason.to_owned());
        }
    }

    /// The item has ended, and nothing has begun behind it.
    pub(crate) fn handle_ended(&mut self, _item: ItemId, _utc_ns: i64) {}

    /// How long the item plays: known when its title is open.
    pub(crate) fn handle_length(&mut self, _item: ItemId, _length_ns: i64) {}

    /// When the item that plays is cut because another one has a start time; `None`: it plays to
    /// its end.
    pub(crate) fn cut_at(&self) -> Option<i64> {
        None
    }

    /// When the answers may change by themselves: ask `next` again then.
    pub(crate) fn revise_at(&self) -> Option<i64> {
        None
    }

    /// True once after an edit that changes what plays now.
    pub(crate) fn take_skip(&mut self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slate_is_repeated_until_it_cannot_be_begun() {
        let mut schedule = Schedule::repeat("slate.mp4");
        let play = |item| {
            let title = "slate.mp4".into();
            Next::Play(Upcoming { item: ItemId(item), title, begins_utc_ns: None })
        };
        assert_eq!((schedule.next(0), schedule.next(1)), (play(0), play(0)));
        schedule.handle_begun(ItemId(0), 2);
        assert_eq!(schedule.next(3), play(1));
        schedule.handle_failed(ItemId(0), "cut short", 4);
        assert_eq!(schedule.next(5), play(1), "its file may have been replaced");
        schedule.handle_failed(ItemId(1), "no such title", 6);
        assert_eq!(schedule.next(7), Next::Nothing("no such title".to_owned()));
        assert_eq!((schedule.cut_at(), schedule.revise_at()), (None, None));
        assert!(!schedule.take_skip());
    }
}

//! What follows in a schedule, by its list, its times and the clock: `settle` after each event.

use std::sync::Arc;

use super::{
    CLOCK_STEP_NS, Choice, Entry, GAP_MIN_NS, LATE_MAX_NS, LEAD_NS, Schedule, WAIT_MIN_NS, What,
    is_ready,
};

impl Schedule {
    /// Brings everything up to date with the clock: the choice, the cut, the next revision.
    pub(super) fn settle(&mut self, now_ns: i64) -> Choice {
        self.follow_clock(now_ns);
        let timed = self.next_timed(now_ns);
        let choice = self.choose(now_ns, timed);
        self.chosen = match &choice {
            Choice::Play { what, .. } => Some(*what),
            Choice::WaitUntil(_) | Choice::Nothing(_) => None,
        };
        self.cut_ns = self.cut(now_ns, timed, &choice);
        self.revise_ns = self.revision_after(now_ns, &choice);
        choice
    }

    /// Starts where the day is, forgets a future that a clock set back has left, and passes over
    /// times that nothing was played for.
    fn follow_clock(&mut self, now_ns: i64) {
        match self.done_until_ns {
            None => {
                self.start(now_ns);
            }
            Some(done) if now_ns < done.saturating_sub(CLOCK_STEP_NS) => {
                self.set_done_until(now_ns);
            }
            Some(_) => {}
        }
        let late_ns = now_ns.saturating_sub(LATE_MAX_NS);
        // Bounded: each round passes over the times of an item at least.
        for _ in 0..=self.entries.len() {
            let is_missed = |entry: &&Entry| entry.next_ns() < late_ns;
            let missed = self.entries.iter().filter(is_missed).max_by_key(|entry| entry.next_ns());
            let Some(missed) = missed else { return };
            let (number, time_ns) = (missed.number, self.last_time_of(missed, late_ns));
            for entry in &mut self.entries {
                if entry.next_ns() < late_ns {
                    entry.missed_ns = Some(entry.next_ns());
                }
            }
            let index = self.index_of(number).filter(|index| self.entries[*index].broken.is_none());
            // What follows it would be on now; behind one that failed the list goes on as before.
            if let Some(index) = index {
                self.place = index + 1;
            }
            self.pass_times(time_ns);
        }
    }

    fn start(&mut self, now_ns: i64) {
        let from_ns = now_ns.saturating_sub(LATE_MAX_NS);
        self.set_done_until(from_ns);
        if !self.loops {
            return;
        }
        let last = |(index, entry): (usize, &Entry)| {
            let moment = entry.timed?.time.last_until(&self.zone, from_ns)?;
            Some((moment, index))
        };
        if let Some((_, index)) = self.entries.iter().enumerate().filter_map(last).max() {
            self.place = index + 1;
        }
    }

    /// Of a time that has passed, perhaps for days: its last one.
    fn last_time_of(&self, entry: &Entry, late_ns: i64) -> i64 {
        let last = entry.timed.and_then(|timed| timed.time.last_until(&self.zone, late_ns));
        last.unwrap_or(late_ns).max(entry.next_ns())
    }

    /// Times until then are over.
    pub(super) fn pass_times(&mut self, time_ns: i64) {
        let done = self.done_until_ns.unwrap_or(time_ns).max(time_ns);
        self.done_until_ns = Some(done);
        for entry in &mut self.entries {
            if entry.next_ns() <= done {
                entry.find_next(&self.zone, done);
            }
        }
    }

    pub(super) fn set_done_until(&mut self, done_ns: i64) {
        self.done_until_ns = Some(done_ns);
        for entry in &mut self.entries {
            entry.find_next(&self.zone, done_ns);
        }
    }

    /// The first item whose time comes, of those that can play.
    fn next_timed(&self, now_ns: i64) -> Option<usize> {
        let first = if self.loops { 0 } else { self.place.min(self.entries.len()) };
        let timed = self.entries[first..].iter().enumerate();
        let timed = timed.filter(|(_, entry)| entry.timed.is_some() && entry.next_ns() < i64::MAX);
        let ready = timed.filter(|(_, entry)| is_ready(entry.broken.as_ref(), now_ns));
        ready.min_by_key(|(_, entry)| entry.next_ns()).map(|(index, _)| first + index)
    }

    /// When what plays ends, or now; `None`: nobody knows.
    fn free_ns(&self, now_ns: i64) -> Option<i64> {
        match &self.playing {
            Some(playing) if !playing.is_skipped => {
                Some(playing.begun_ns.saturating_add(playing.length_ns?).max(now_ns))
            }
            _ => Some(now_ns),
        }
    }

    fn choose(&self, now_ns: i64, timed: Option<usize>) -> Choice {
        let Some(timed) = timed else { return self.choose_untimed(now_ns) };
        let entry = &self.entries[timed];
        let time_ns = entry.next_ns();
        let gap_ns = self.free_ns(now_ns).map(|free_ns| time_ns.saturating_sub(free_ns));
        let has_gap = gap_ns.is_some_and(|gap_ns| gap_ns >= GAP_MIN_NS);
        let is_early = now_ns < time_ns.saturating_sub(LEAD_NS);
        if has_gap || is_early {
            match self.choose_untimed(now_ns) {
                Choice::WaitUntil(_) | Choice::Nothing(_) if !is_early => {}
                other => return other,
            }
        }
        // A title that ends a moment before is followed at once.
        let is_at_once = gap_ns.is_some_and(|gap_ns| gap_ns > 0) && !has_gap;
        let begins_ns = (!is_at_once).then_some(time_ns);
        let (what, title) = (What::Entry(entry.number), Arc::clone(&entry.title));
        Choice::Play { what, title, begins_ns, time_ns: Some(time_ns) }
    }

    /// What plays until the next time.
    fn choose_untimed(&self, now_ns: i64) -> Choice {
        let play = |what, title: &Arc<str>| Choice::Play {
            what,
            title: Arc::clone(title),
            begins_ns: None,
            time_ns: None,
        };
        let (block, head) = self.block();
        let is_ready_at = |index: &&usize| is_ready(self.entries[**index].broken.as_ref(), now_ns);
        if let Some(index) = block.iter().find(is_ready_at) {
            let entry = &self.entries[*index];
            return play(What::Entry(entry.number), &entry.title);
        }
        let slate = self.slate.as_ref();
        if let Some(slate) = slate.filter(|slate| is_ready(slate.broken.as_ref(), now_ns)) {
            return play(What::Slate, &slate.title);
        }
        let head = head.map(|index| &self.entries[index]);
        if let Some(head) = head.filter(|head| is_ready(head.broken.as_ref(), now_ns)) {
            return play(What::Entry(head.number), &head.title);
        }
        self.choose_silence(now_ns)
    }

    fn choose_silence(&self, now_ns: i64) -> Choice {
        let first = if self.loops { 0 } else { self.place.min(self.entries.len()) };
        let times = self.entries[first..].iter().filter(|entry| entry.timed.is_some());
        let times = times.map(|entry| entry.preparation_ns()).filter(|time_ns| *time_ns < i64::MAX);
        match times.min() {
            Some(time_ns) => Choice::WaitUntil(time_ns.max(now_ns.saturating_add(WAIT_MIN_NS))),
            None => Choice::Nothing(self.why_nothing(first)),
        }
    }

    fn why_nothing(&self, first: usize) -> String {
        let failed = self.entries[first..].iter().find_map(|entry| {
            let broken = entry.broken.as_ref()?;
            Some((&entry.title, &broken.reason))
        });
        let slate = self.slate.as_ref().and_then(|slate| {
            let broken = slate.broken.as_ref()?;
            Some((&slate.title, &broken.reason))
        });
        match failed.or(slate) {
            Some((_slate, reason)) if self.entries.is_empty() => reason.to_string(),
            Some((title, reason)) => format!("no title can be played: {title}: {reason}"),
            None if self.entries.is_empty() => "the playlist is empty".to_owned(),
            None => "the playlist has ended".to_owned(),
        }
    }

    /// Titles without a time that may follow, in order; and the timed title that may be repeated.
    fn block(&self) -> (Vec<usize>, Option<usize>) {
        let count = self.entries.len();
        let is_untimed = |index: &usize| self.entries[*index].timed.is_none();
        if !self.loops {
            return ((self.place.min(count)..count).take_while(is_untimed).collect(), None);
        }
        let place = if self.place < count { self.place } else { 0 };
        let ahead = (0..count).map(|step| (place + step) % count);
        let mut block: Vec<usize> = ahead.take_while(is_untimed).collect();
        if block.len() == count {
            return (block, None);
        }
        let behind = || (1..=count).map(|step| (place + count - step) % count);
        let again: Vec<usize> = behind().take_while(is_untimed).collect();
        block.extend(again.into_iter().rev());
        (block, behind().find(|index| !is_untimed(index)))
    }

    fn cut(&self, now_ns: i64, timed: Option<usize>, choice: &Choice) -> Option<i64> {
        let playing = self.playing.as_ref()?;
        let time_ns = timed.map(|index| self.entries[index].next_ns());
        let end_ns = self.free_ns(now_ns);
        let time_ns = time_ns.filter(|time_ns| end_ns.is_none_or(|end_ns| end_ns >= *time_ns));
        // The slate makes way as soon as a title is opened.
        let offered = self.offered.back().filter(|offered| offered.length_ns.is_some());
        let is_opened = matches!((choice, offered), (Choice::Play { what, .. }, Some(offered))
            if offered.what == *what && *what != What::Slate && offered.upcoming.begins_utc_ns.is_none());
        let now = (playing.what == What::Slate && is_opened).then_some(playing.begun_ns);
        time_ns.into_iter().chain(now).min()
    }

    /// When the choice may be another one although nothing happens.
    fn revision_after(&self, now_ns: i64, choice: &Choice) -> Option<i64> {
        let is_filled = self.playing.as_ref().is_none_or(|playing| playing.what == What::Slate)
            || !matches!(choice, Choice::Play { what: What::Entry(_), .. });
        let times = self.entries.iter().filter_map(|entry| match entry.timed {
            Some(_) => Some(entry.preparation_ns()),
            None if is_filled => entry.broken.as_ref().map(|broken| broken.retry_ns),
            None => None,
        });
        let missed =
            self.entries.iter().map(|entry| entry.next_ns().saturating_add(LATE_MAX_NS + 1));
        times
            .chain(missed)
            .filter(|time_ns| (now_ns.saturating_add(1)..i64::MAX).contains(time_ns))
            .min()
    }

    pub(super) fn index_of(&self, number: u64) -> Option<usize> {
        self.entries.iter().position(|entry| entry.number == number)
    }
}

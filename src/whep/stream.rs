//! A path that viewers watch: its packets as all of them get them, and the newest group of pictures
//! for those who come.
//!
//! ```text
//! batch --lanes--> packets --> viewers, at once
//!                     `------> group: from the newest start on, for who comes next
//! ```
//! Invariant: the group begins with a start, or is empty. Bounds: `GROUP_PACKETS_MAX`,
//! `GROUP_BYTES_MAX`; a longer group is dropped, and viewers wait for the next start.

use std::time::{Duration, Instant};

use crate::base::ids::RtpTs;
use crate::live::core::batch::{Generation, PacketBatch};
use crate::live::core::clock::ticks_between;
use crate::live::core::description::Description;
use crate::whep::format::{Formats, NotSent};
use crate::whep::lane::{Lane, Packet};

/// Whether pictures are sent in the order in which they are shown.
#[derive(Debug, Default)]
struct Order {
    /// Number of the newest packet.
    number: u64,
    /// RTP time of the picture before, and the latest so far.
    times: Option<(RtpTs, RtpTs)>,
    pictures: u32,
    /// Pictures that are shown before one that was sent earlier.
    backward: u32,
}

/// A path: see the module.
#[derive(Debug)]
pub(super) struct Stream {
    generation: Generation,
    formats: Formats,
    video: Option<Lane>,
    audio: Option<Lane>,
    group: Vec<Packet>,
    group_bytes: usize,
    order: Order,
    /// When a start was asked for.
    sync_asked: Option<Instant>,
    /// When it is to be asked for.
    sync_due: Option<Instant>,
}

impl Stream {
    /// A path with what it has kept.
    ///
    /// # Errors
    /// WebRTC has no codec for it.
    pub(super) fn new(generation: Generation, description: &Description) -> Result<Self, NotSent> {
        let formats = Formats::new(description)?;
        let video = formats.video.clone().map(|(format, sets)| Lane::new(format, Some(sets)));
        let audio = formats.audio.clone().map(|format| Lane::new(format, None));
        Ok(Self {
            generation,
            formats,
            video,
            audio,
            group: Vec::new(),
            group_bytes: 0,
            order: Order::default(),
            sync_asked: None,
            sync_due: None,
        })
    }

    /// Another source feeds the path. False: viewers cannot go on with it.
    pub(super) fn resume(&mut self, generation: Generation, description: &Description) -> bool {
        let Ok(formats) = Formats::new(description) else { return false };
        if !self.formats.continues(&formats) {
            return false;
        }
        if let (Some(lane), Some((format, sets))) = (&mut self.video, &formats.video) {
            lane.go_on(format.clone(), Some(sets.clone()));
        }
        if let (Some(lane), Some(format)) = (&mut self.audio, &formats.audio) {
            lane.go_on(format.clone(), None);
        }
        (self.generation, self.formats) = (generation, formats);
        self.order = Order::default();
        self.drop_group();
        true
    }

    /// Number of the source.
    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// Adds the packets that viewers get of a batch.
    pub(super) fn push(&mut self, batch: &PacketBatch, out: &mut Vec<Packet>) {
        if batch.generation() != self.generation {
            return;
        }
        let from = out.len();
        for lane in [&mut self.video, &mut self.audio].into_iter().flatten() {
            lane.push(batch, out);
        }
        self.keep(out.get(from..).unwrap_or_default());
    }

    fn keep(&mut self, fresh: &[Packet]) {
        for packet in fresh {
            if packet.is_audio {
                // Sound begins with the present.
                continue;
            }
            self.order.note(packet);
            if packet.is_start {
                self.group.clear();
                self.group_bytes = 0;
            } else if self.group.is_empty() {
                continue;
            }
            self.group_bytes += packet.payload.len();
            self.group.push(packet.clone());
        }
        if self.group.len() > GROUP_PACKETS_MAX || self.group_bytes > GROUP_BYTES_MAX {
            self.drop_group();
        }
    }

    fn drop_group(&mut self) {
        self.group = Vec::new();
        self.group_bytes = 0;
    }

    /// Packets that somebody who comes now begins with.
    pub(super) fn group(&self) -> &[Packet] {
        &self.group
    }

    /// What is sent.
    pub(super) fn formats(&self) -> &Formats {
        &self.formats
    }

    /// Whether pictures are sent in another order than they are shown in: browsers show few of them
    /// by WebRTC, and ask for key frames all the time.
    pub(super) fn is_reordered(&self) -> bool {
        self.order.backward >= BACKWARD_MIN
    }

    /// A viewer needs a start. The source is not asked more often than `SYNC_INTERVAL`: who comes
    /// within it has it asked at its end, for the key frame that was asked for may be lost.
    pub(super) fn want_sync(&mut self, now: Instant) {
        let next = self.sync_asked.map_or(now, |asked| (asked + SYNC_INTERVAL).max(now));
        self.sync_due.get_or_insert(next);
    }

    /// When the source is to be asked.
    pub(super) fn sync_due(&self) -> Option<Instant> {
        self.sync_due
    }

    /// Whether the source is to be asked now.
    pub(super) fn take_wants_sync(&mut self, now: Instant) -> bool {
        if self.sync_due.is_none_or(|due| due > now) {
            return false;
        }
        (self.sync_asked, self.sync_due) = (Some(now), None);
        true
    }

    /// Packets left out since the last call: they came twice or too late, or could not be cut.
    pub(super) fn take_left_out(&mut self) -> u64 {
        let lanes = [&mut self.video, &mut self.audio].into_iter().flatten();
        lanes.map(|lane| std::mem::take(&mut lane.left_out)).sum()
    }
}

impl Order {
    fn note(&mut self, packet: &Packet) {
        // A packet that came late says nothing.
        if packet.number < self.number {
            return;
        }
        self.number = packet.number;
        let Some((before, latest)) = &mut self.times else {
            self.times = Some((packet.ts, packet.ts));
            return;
        };
        if *before == packet.ts || self.backward >= BACKWARD_MIN {
            return;
        }
        *before = packet.ts;
        let ticks = ticks_between(*latest, packet.ts);
        if (-SECOND_TICKS..0).contains(&ticks) {
            self.backward += 1;
        } else {
            *latest = packet.ts;
        }
        self.pictures += 1;
        if self.pictures == PICTURES_JUDGED && self.backward < BACKWARD_MIN {
            // A clock that was set now and then makes no B-frames.
            (self.pictures, self.backward) = (0, 0);
        }
    }
}

/// Of so many pictures, so many are shown before one that was sent earlier: B-frames.
const PICTURES_JUDGED: u32 = 64;
const BACKWARD_MIN: u32 = 3;
const SECOND_TICKS: i32 = 90_000;
/// Packets of a group: ten seconds of 10 Mbit/s.
const GROUP_PACKETS_MAX: usize = 10_240;
/// Bytes of them.
const GROUP_BYTES_MAX: usize = 12 << 20;
/// Between two requests for a key frame: a source makes one in a fraction of this.
const SYNC_INTERVAL: Duration = Duration::from_millis(500);

//! What a shard does for each frame besides the system call: wheel, cursor, time stamps, headers.
//!
//! ```text
//! wheel -> stream: what is due? -> runs: mark, RTP header and cursor for each packet
//!   ^                                                     |
//!   +------------------- when is the next? <--------------+
//! ```
//! It is `vod::pump` that sends, into a sink that keeps nothing: the gather into the ring's
//! memory is left out, and all windows are at hand.

#![expect(clippy::expect_used, reason = "an input that is refused measures nothing")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use headend::base::ids::Ssrc;
use headend::base::sink::RunSink;
use headend::base::time::{Mono, Npt};
use headend::base::wheel::{SLOT_NS, Wheel};
use headend::library;
use headend::media::window::{Packet, PacketWindow, WindowKind};
use headend::metrics::cells::ShardCells;
use headend::rtp::HEADER_BYTES;
use headend::rtp::srtp::SrtpStream;
use headend::session::directory::SessionKey;
use headend::session::directory::StreamRef;
use headend::session::outgoing::{Numbers, Outgoing, Own};
use headend::session::transport::Transport;
use headend::vod::cursor::Cursor;
use headend::vod::epoch::Epoch;
use headend::vod::pump::{Pumped, Pumping, TitleRun, TitleSink};
use headend::vod::stream::{Due, RunMark, Stream};

use crate::title::Title;

/// 40 ms of that many streams of 2 Mbit/s at 25 pictures a second: a frame of each. Items are
/// packets.
#[divan::bench(args = [100, 1_000, 10_000])]
fn pacer_frame_time_of_streams(bencher: Bencher<'_, '_>, streams: u32) {
    let mut pacer = Pacer::new(streams);
    // Two seconds: every wheel slot and every stream has been touched, and the average is known.
    let packets: usize = (0..50).map(|_| pacer.frame_time()).sum();
    bencher.counter(ItemsCount::new(packets / 50)).bench_local(|| pacer.frame_time());
}

/// What a stream has next, asked when nothing is due.
#[divan::bench]
fn pacer_asks_a_stream_that_waits(bencher: Bencher<'_, '_>) {
    let mut pacer = Pacer::new(1);
    let (stream, epoch) = pacer.streams.first_mut().expect("a stream");
    let before = Mono(0);
    bencher.bench_local(|| {
        let due = stream.due(epoch, None, black_box(before));
        assert!(matches!(due, Due::At(_)), "the film has frames");
        due
    });
}

struct Pacer {
    title: Arc<library::title::Title>,
    cells: ShardCells,
    sink: NoSockets,
    windows: Vec<Arc<PacketWindow>>,
    streams: Vec<(Stream, Epoch)>,
    wheel: Wheel<u32>,
    now: Mono,
    due: Vec<u32>,
}

impl Pacer {
    fn new(stream_count: u32) -> Self {
        let title = Title::h264(2, SECONDS);
        let window = |index| {
            let window = title.window(index);
            // In memory, and for as long as this measures.
            window.mark_pages_seen(Mono(u64::MAX));
            Arc::new(window)
        };
        let windows = (0..SECONDS / 2).map(window).collect();
        let now = Mono(1_000_000_000);
        let mut pacer = Self {
            title: title.opened(),
            cells: ShardCells::default(),
            sink: NoSockets { packets: 0 },
            windows,
            streams: Vec::new(),
            wheel: Wheel::new(now),
            now,
            due: Vec::new(),
        };
        for number in 0..stream_count {
            // Spread over a frame's time, as clients are that came one after the other.
            let start = now.offset_ns(i64::from(number) * FRAME_NS / i64::from(stream_count));
            let client = SocketAddr::from(([10, 0, 0, 1], 5_000));
            let path = Transport::Udp { pair: 0, rtp: client, rtcp: client };
            let random = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let url = String::from("trackID=0");
            let numbers = Numbers::Own(Own::new(Ssrc(number), random));
            let outgoing = Outgoing::new((96, 90_000), numbers, path, url);
            let mut stream = Stream::new(0, outgoing);
            let epoch = begin(&mut stream, &pacer.windows, start);
            pacer.streams.push((stream, epoch));
            pacer.wheel.insert(start, number);
        }
        pacer
    }

    /// The turns of 40 ms; packets sent.
    fn frame_time(&mut self) -> usize {
        let before = self.sink.packets;
        for _ in 0..FRAME_NS.unsigned_abs() / SLOT_NS {
            self.now = Mono(self.now.0 + SLOT_NS);
            let mut due = std::mem::take(&mut self.due);
            self.wheel.expire(self.now, &mut due);
            for number in due.drain(..) {
                self.pump(number);
            }
            self.due = due;
        }
        self.sink.packets - before
    }

    fn pump(&mut self, number: u32) {
        let Self { title, cells, sink, windows, streams, now, .. } = self;
        let (stream, epoch) = &mut streams[number as usize];
        let (at, end) =
            (StreamRef { session: SessionKey(0), stream_index: 0, epoch_count: 1 }, None);
        let next = loop {
            let play_received = &mut None;
            let pumping = Pumping { at, stream, epoch, end, title, play_received };
            match pumping.send_due(cells, *now, (), sink) {
                Pumped::Until(Due::Waiting) => {
                    supply(stream.feed.cursor.as_mut().expect("a cursor"), windows);
                }
                Pumped::Until(Due::At(due)) => {
                    if let Some(cursor) = &mut stream.feed.cursor {
                        supply(cursor, windows);
                    }
                    break due;
                }
                // Once more from the start, behind the last frame.
                Pumped::Until(Due::End) => {
                    let start = now.offset_ns(FRAME_NS);
                    *epoch = begin(stream, windows, start);
                    break start;
                }
                Pumped::Part | Pumped::Until(Due::Now { .. }) => break now.offset_ns(1),
                Pumped::Broken => unreachable!("this sink takes every packet"),
            }
        };
        self.wheel.insert(next, number);
    }
}

/// Takes every run and keeps nothing of it.
struct NoSockets {
    packets: usize,
}

/// A run of at most 16 packets.
struct NoRun<'a> {
    sink: &'a mut NoSockets,
    packets: usize,
}

impl RunSink for NoSockets {
    type Way = ();

    fn way_to(&self, _: u16, _: SocketAddr) -> Option<()> {
        Some(())
    }

    fn has_free_run(&self) -> bool {
        true
    }
}

impl TitleSink for NoSockets {
    type Error = Infallible;
    type Run<'a> = NoRun<'a>;

    fn start_title_run(&mut self, (): (), _: Option<&SrtpStream>) -> Option<NoRun<'_>> {
        Some(NoRun { sink: self, packets: 0 })
    }
}

impl TitleRun for NoRun<'_> {
    type Error = Infallible;

    fn try_packet(
        &mut self,
        header: &[u8; HEADER_BYTES],
        _: &PacketWindow,
        packet: &Packet,
        _: &Arc<library::title::Title>,
    ) -> Result<bool, Infallible> {
        black_box((header, packet));
        self.packets += 1;
        Ok(self.packets <= 16)
    }

    fn submit(self, mark: RunMark) {
        self.sink.packets += usize::from(black_box(mark).packets);
    }
}

/// From the first frame on, at `start`.
fn begin(stream: &mut Stream, windows: &[Arc<PacketWindow>], start: Mono) -> Epoch {
    let count = u32::try_from(windows.len()).expect("a short film");
    let mut cursor = Cursor::new(WindowKind::All, false, count, 0, 0);
    supply(&mut cursor, windows);
    let (npt, due_zero) = (Npt::ZERO, Npt::ZERO);
    let epoch = Epoch { wall: start, npt, due_zero, scale: 1.0, speed: 1.0, playout_ns: 0 };
    stream.seek(cursor, None);
    stream.begin_epoch(&epoch, 0, None);
    epoch
}

/// Answers what a cursor asks for.
fn supply(cursor: &mut Cursor, windows: &[Arc<PacketWindow>]) {
    while let Some(index) = cursor.wanted() {
        cursor.handle_window(index, Arc::clone(&windows[index as usize]));
    }
}

/// Length of the film.
const SECONDS: u32 = 20;
/// 25 frames a second.
const FRAME_NS: i64 = 40_000_000;

//! What a shard does for each frame besides the system call: wheel, cursor, time stamps, headers.
//!
//! ```text
//! wheel -> stream: what is due? -> runs: mark, RTP header and cursor for each packet
//!   ^                                                     |
//!   +------------------- when is the next? <--------------+
//! ```
//! The steps are those of `shard::udp_pump`, on the real streams, cursors, epochs and windows; only
//! the gather into the ring's memory is left out, and all windows are at hand.

#![expect(clippy::expect_used, reason = "an input that is refused measures nothing")]

use std::net::SocketAddr;
use std::sync::Arc;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use headend::base::ids::Ssrc;
use headend::base::time::{Mono, Npt};
use headend::base::wheel::{SLOT_NS, Wheel};
use headend::media::window::{Frame, PacketWindow, WindowKind};
use headend::rtp::{HEADER_BYTES, write_header};
use headend::session::cursor::Cursor;
use headend::session::desk::Waiter;
use headend::session::epoch::Epoch;
use headend::session::stream::{Due, Path, Stream};
use headend::session::table::SessionKey;

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
        let mut pacer =
            Self { windows, streams: Vec::new(), wheel: Wheel::new(now), now, due: Vec::new() };
        for number in 0..stream_count {
            // Spread over a frame's time, as clients are that came one after the other.
            let start = now.offset_ns(i64::from(number) * FRAME_NS / i64::from(stream_count));
            let client = SocketAddr::from(([10, 0, 0, 1], 5_000));
            let path = Path::Udp { pair: 0, rtp: client, rtcp: client };
            let random = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let url = String::from("trackID=0");
            let mut stream = Stream::new(0, (96, 90_000), path, url, Ssrc(number), random);
            let epoch = begin(&mut stream, &pacer.windows, start);
            pacer.streams.push((stream, epoch));
            pacer.wheel.insert(start, number);
        }
        pacer
    }

    /// The turns of 40 ms; packets sent.
    fn frame_time(&mut self) -> usize {
        let mut packets = 0;
        for _ in 0..FRAME_NS.unsigned_abs() / SLOT_NS {
            self.now = Mono(self.now.0 + SLOT_NS);
            let mut due = std::mem::take(&mut self.due);
            self.wheel.expire(self.now, &mut due);
            for number in due.drain(..) {
                packets += self.pump(number);
            }
            self.due = due;
        }
        packets
    }

    fn pump(&mut self, number: u32) -> usize {
        let mut packets = 0;
        loop {
            let (stream, epoch) = &mut self.streams[number as usize];
            match stream.due(epoch, None, self.now) {
                Due::Now { frame, .. } => packets += send(stream, epoch, &frame),
                Due::At(at) => {
                    if let Some(cursor) = &mut stream.cursor {
                        supply(cursor, &self.windows);
                    }
                    self.wheel.insert(at, number);
                    return packets;
                }
                Due::Waiting => {
                    supply(stream.cursor.as_mut().expect("a cursor"), &self.windows);
                }
                // Once more from the start, behind the last frame.
                Due::End => {
                    let start = self.now.offset_ns(FRAME_NS);
                    *epoch = begin(stream, &self.windows, start);
                    self.wheel.insert(start, number);
                    return packets;
                }
            }
        }
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

/// The headers of a frame, in runs of at most 16.
fn send(stream: &mut Stream, epoch: &Epoch, frame: &Frame) -> usize {
    let at = Waiter { session: SessionKey(0), stream_index: 0, epoch_count: 1 };
    let ts = stream.stamp(epoch, frame);
    let packet_count = frame.packet_count as usize;
    let mut sent = 0;
    while sent < packet_count {
        let (window, first) = stream.window().expect("the window of a frame that is due");
        let mut seq = stream.next_seq();
        let (mut packets, mut payload_bytes) = (0, 0);
        for packet in window.packets(frame).iter().skip(first).take(16) {
            let mut header = [0; HEADER_BYTES];
            let marker = packet.marker;
            write_header(&mut header, marker, stream.payload_type, seq, ts, stream.ssrc);
            seq = seq.plus(1);
            packets += 1;
            payload_bytes += u32::from(packet.payload_bytes);
            black_box(header);
        }
        sent += usize::from(packets);
        black_box(stream.take_run(at, packets, payload_bytes).expect("a place"));
    }
    stream.finish_frame();
    packet_count
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

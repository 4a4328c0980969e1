//! What a shard does for each packet and report besides sending: the wheel, and whose address it
//! is.

#![expect(clippy::expect_used, reason = "an input that is refused measures nothing")]

use std::net::SocketAddr;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use headend::base::time::Mono;
use headend::base::wheel::{SLOT_NS, Wheel};
use headend::session::action::TimerKey;
use headend::session::directory::{SessionKey, SessionRef};
use headend::session::sockets::SharedSockets;

/// 40 ms of streams with 25 frames a second: each comes out once and goes in again.
#[divan::bench(args = [100, 1_000, 10_000])]
fn wheel_expires_and_takes_back(bencher: Bencher<'_, '_>, streams: u32) {
    let mut now = Mono(1_000_000_000);
    let mut wheel = Wheel::new(now);
    for stream in 0..streams {
        wheel.insert(now.offset_ns(i64::from(stream) * FRAME_NS / i64::from(streams)), key(stream));
    }
    let mut due = Vec::new();
    let mut frame_time = || {
        let mut count = 0;
        for _ in 0..FRAME_NS.unsigned_abs() / SLOT_NS {
            now = Mono(now.0 + SLOT_NS);
            wheel.expire(now, &mut due);
            count += due.len();
            for key in due.drain(..) {
                wheel.insert(now.offset_ns(FRAME_NS), key);
            }
        }
        count
    };
    // Ten seconds: every slot has been used twice and is as large as it will be.
    for _ in 0..250 {
        frame_time();
    }
    bencher.counter(ItemsCount::new(streams)).bench_local(frame_time);
}

/// The wait of a turn: when is the next frame due.
#[divan::bench(args = [1, 10_000])]
fn wheel_says_when(bencher: Bencher<'_, '_>, streams: u32) {
    let now = Mono(1_000_000_000);
    let mut wheel = Wheel::new(now);
    for stream in 1..=streams {
        wheel.insert(now.offset_ns(i64::from(stream) * FRAME_NS / i64::from(streams)), key(stream));
    }
    bencher.bench(|| black_box(&wheel).next_due());
}

/// The stream of a receiver report, by the client's address.
#[divan::bench(args = [100, 1_000, 10_000])]
fn tuple_finds_its_stream(bencher: Bencher<'_, '_>, clients: u32) {
    let mut sockets = SharedSockets::default();
    let pair = sockets.add_pair(8_000).expect("room for a pair");
    for client in 0..clients {
        let owner = (SessionRef::Title(SessionKey(client)), 0);
        sockets.place(address(client, 5_000), address(client, 5_001), owner).expect("a free tuple");
    }
    let froms: Vec<SocketAddr> =
        (0..clients).map(|i| address(i.wrapping_mul(7_919) % clients, 5_001)).collect();
    bencher.counter(ItemsCount::new(clients)).bench(|| {
        froms.iter().filter(|from| black_box(&sockets).find(pair, **from).is_some()).count()
    });
}

fn key(stream: u32) -> TimerKey {
    let session = SessionKey(stream);
    TimerKey::Stream { session, stream_index: 0, epoch_count: 1, timer_count: 1 }
}

/// Clients of 10.0.0.0/8, one each.
fn address(client: u32, port: u16) -> SocketAddr {
    let [_, a, b, c] = client.to_be_bytes();
    SocketAddr::from(([10, a, b, c], port))
}

/// 25 frames a second.
const FRAME_NS: i64 = 40_000_000;

//! From samples to packets: the part of a window task that no disk is in.
//!
//! Items are packets. Bytes would say nothing: only the heads of units are looked at.

use divan::Bencher;
use divan::counter::ItemsCount;

use crate::title::{Title, packet_count};

/// A window of two seconds; Mbit/s of the video.
#[divan::bench(args = [1, 8, 40])]
fn packetize_h264_window_of_mbit(bencher: Bencher<'_, '_>, mbit_per_s: u32) {
    packetize(bencher, &Title::h264(mbit_per_s, 4));
}

/// A window of two seconds; Mbit/s of the video.
#[divan::bench(args = [1, 8, 40])]
fn packetize_h265_window_of_mbit(bencher: Bencher<'_, '_>, mbit_per_s: u32) {
    packetize(bencher, &Title::h265(mbit_per_s, 4));
}

/// A window of two seconds; kbit/s of the sound. Small units share packets.
#[divan::bench(args = [64, 128, 320])]
fn packetize_aac_window_of_kbit(bencher: Bencher<'_, '_>, kbit_per_s: u32) {
    packetize(bencher, &Title::aac(kbit_per_s, 4));
}

/// A window of two seconds; kbit/s of the sound.
#[divan::bench(args = [32, 128])]
fn packetize_opus_window_of_kbit(bencher: Bencher<'_, '_>, kbit_per_s: u32) {
    packetize(bencher, &Title::opus(kbit_per_s, 4));
}

fn packetize(bencher: Bencher<'_, '_>, title: &Title) {
    let packets = packet_count(&title.window(1));
    bencher.counter(ItemsCount::new(packets)).bench(|| title.window(1));
}

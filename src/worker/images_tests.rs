//! The budget of images: who gets room, who gives it back and when.

use super::*;
use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::media::image::{ImageJob, ImageNumbers};
use crate::media::window::{Frame, WindowBuilder};
use crate::rtp::write_header;

pub(in crate::worker) fn window() -> Arc<PacketWindow> {
    let mut builder = WindowBuilder::new();
    builder.push_inline(&[1; 88]);
    builder.end_packet(true);
    builder.end_frame(Frame::SYNC);
    Arc::new(builder.finish())
}

/// Of 100 bytes.
fn image(window: &PacketWindow, now: Mono) -> PacketImage {
    let (ssrc, first_seq, ts_zero) = (Ssrc(1), SeqNo(1), RtpTs(1));
    let numbers = ImageNumbers { ssrc, payload_type: 96, first_seq, ts_zero };
    ImageJob::new(window, numbers, write_header, now).unwrap().finish()
}

/// Makes an image for a window, if there is room and the window has none in use. Whether it has it.
pub(in crate::worker) fn give(images: &Images, window: &Arc<PacketWindow>, now: Mono) -> bool {
    let room = images.reserve(100, now);
    room.is_some_and(|room| room.put(window, image(window, now), now))
}

fn has_image(window: &PacketWindow) -> bool {
    window.image().load().is_some()
}

const fn at(second: u64) -> Mono {
    Mono(second * 1_000_000_000)
}

#[test]
fn images_stay_in_the_budget_and_those_in_use_keep_their_place() {
    let images = Images::new(250);
    let windows = [window(), window(), window()];
    assert!(give(&images, &windows[0], at(1)) && give(&images, &windows[1], at(2)));
    assert!(!give(&images, &windows[2], at(3)), "both were entered lately");
    assert_eq!(images.gauges(), (2, 200));
    // Longest ago goes first.
    windows[0].image().load().as_ref().unwrap().note_entered(at(5));
    assert!(give(&images, &windows[2], at(7)));
    assert_eq!(windows.each_ref().map(|window| has_image(window)), [true, false, true]);
    assert_eq!(images.gauges(), (2, 200));
}

#[test]
fn memory_of_an_image_is_not_free_before_the_last_send_has_let_go_of_it() {
    let images = Images::new(100);
    let (first, second) = (window(), window());
    assert!(give(&images, &first, at(1)));
    let in_a_send = first.image().load().clone().unwrap();
    assert!(!give(&images, &second, at(60)), "it is retired, and the kernel still has it");
    assert!(!has_image(&first));
    assert_eq!(in_a_send.bytes_of(&in_a_send.run(0, 1).unwrap()).unwrap()[12..], [1; 88]);
    assert_eq!(images.gauges(), (1, 100));
    drop(in_a_send);
    assert!(give(&images, &second, at(60)));
    assert_eq!(images.gauges(), (1, 100));
}

#[test]
fn image_goes_with_its_window_and_by_itself_when_nobody_enters() {
    let images = Images::new(1_000);
    let (gone, left) = (window(), window());
    assert!(give(&images, &gone, at(1)) && give(&images, &left, at(1)));
    drop(gone);
    drop(images.reserve(100, at(2)));
    assert_eq!(images.gauges(), (1, 100), "room that nobody used is given back");
    drop(images.reserve(100, at(30)));
    assert_eq!(images.gauges(), (0, 0));
    assert!(!has_image(&left));
}

#[test]
fn one_sweeps_as_long_as_there_is_something_to_sweep() {
    let images = Images::new(1_000);
    assert!(!images.begin_sweeping(), "nothing is there");
    let window = window();
    assert!(give(&images, &window, at(1)));
    assert!(images.begin_sweeping());
    assert!(!images.begin_sweeping(), "another does");
    assert!(images.sweep(at(5)), "it was entered lately");
    let in_a_send = window.image().load().clone();
    assert!(images.sweep(at(30)), "it is retired, and the kernel still has it");
    drop(in_a_send);
    assert!(!images.sweep(at(30)));
    assert!(give(&images, &window, at(31)));
    assert!(images.begin_sweeping(), "the one before has ended");
}

#[test]
fn window_that_gets_a_second_image_gives_the_first_one_back_unless_it_is_in_use() {
    let images = Images::new(1_000);
    let window = window();
    assert!(give(&images, &window, at(1)));
    let first = window.image().load().as_ref().map(Arc::as_ptr);
    assert!(!give(&images, &window, at(4)));
    assert_eq!(window.image().load().as_ref().map(Arc::as_ptr), first);
    assert_eq!(images.gauges(), (1, 100), "the room for the second is given back");
    assert!(give(&images, &window, at(6)));
    assert!(has_image(&window));
    drop(images.reserve(100, at(6)));
    assert_eq!(images.gauges(), (1, 100));
    assert!(has_image(&window), "the second one");
}

#[test]
fn without_memory_there_is_no_image() {
    assert!(Images::new(0).reserve(100, at(1)).is_none());
    assert!(Images::new(99).reserve(100, at(1)).is_none());
}

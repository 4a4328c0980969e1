//! From a file's tables to an index, and from a time to a place in it.

#![expect(clippy::expect_used, reason = "an input that does not open measures nothing")]

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use headend::base::time::Npt;

use crate::film::Film;

/// Index of a whole film from bytes in memory: the disk is not measured.
#[divan::bench(args = [1, 3], sample_count = 20)]
fn open_film_of_hours(bencher: Bencher<'_, '_>, hours: u32) {
    let film = Film::of_seconds(hours * 3_600);
    let asset = film.open().expect("the film opens");
    assert_eq!(asset.tracks.len(), 2, "{:?}", asset.left_out);
    bencher
        .counter(BytesCount::new(film.header_bytes()))
        .bench(|| film.open().expect("the film opens"));
}

/// The sample that a seek leads to, in a film of three hours.
#[divan::bench]
fn find_sync_sample(bencher: Bencher<'_, '_>) {
    let asset = Film::of_seconds(3 * 3_600).open().expect("the film opens");
    let track = asset.tracks.first().expect("a video track");
    let at = Npt::from_secs_f64(7_000.5);
    bencher.bench(|| track.schedule().sync_at_or_before(black_box(at), track.timescale));
}

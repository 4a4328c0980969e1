//! HLS: names in URLs, and live paths from packets to playlists.

use std::collections::BTreeMap;

use headend::base::ids::{RtpTs, SeqNo, Ssrc};
use headend::base::time::Mono;
use headend::hls::live::{Muxer, Snapshot, StoredFragment};
use headend::hls::resource::{Rendition, Resource, Revision};
use headend::live::core::batch::{Arrival, BatchBuilder, Generation};
use headend::live::core::clock::ClockPoint;
use headend::live::core::description::{Description, LiveTrack};

use crate::input::{Input, text};

/// The last piece of a path in a URL: what is read is written in the same way, and in no other.
pub fn names(data: &[u8]) {
    let name = text(data);
    let Some(resource) = Resource::parse(&name) else { return };
    assert_eq!(resource.to_string(), name);
}

/// Packets of a picture and sound under some description: playlists state no less than segments and
/// parts have, numbers go on, a name has the same bytes for ever, and memory is bounded.
pub fn live(data: &[u8]) {
    let mut input = Input::new(data);
    let Some(description) = description(input.u8(), input.short()) else { return };
    let mut muxer = Muxer::new(Revision(1), MEMORY_BYTES_MAX).numbered_from(7);
    let mut generation = Generation(1);
    if muxer.begin(generation, &description).is_err() {
        return;
    }
    let mut watched = Watched { sequence: 7, ..Watched::default() };
    let (mut seqs, mut times, mut off_ms) = ([0_u16; 2], [0_u32; 2], 0);
    while !input.is_empty() {
        let (what, step) = (input.u8(), input.u8());
        let track = usize::from(what & 1);
        seqs[track] = seqs[track].wrapping_add(1 + u16::from(what & 0x42 == 0x42));
        // Now and then a long way, there or back.
        let ticks = u32::from(step) * if what & 4 == 0 { 100 } else { 1 << 24 };
        times[track] = times[track].wrapping_add(ticks);
        if what & 0x20 != 0 {
            off_ms += i64::from(step) - 128;
        }
        if what & 0xc0 == 0xc0 && step == 0 {
            generation = Generation(generation.0 + 1);
            let _shown = muxer.begin(generation, &description);
        }
        let packet = (seqs[track], times[track], what & 8 != 0, what & 0x10 != 0);
        let mut builder = BatchBuilder::default();
        if !push(&mut builder, track, packet, input.short()) {
            continue;
        }
        let utc_ns = 1_700_000_000_000_000_000 + off_ms * 1_000_000;
        let clock = |_| Some(ClockPoint { utc_ns, ts: RtpTs(0) });
        let batch = builder.build(generation, clock).expect("a batch of one packet");
        match muxer.handle_batch(&batch) {
            Ok(true) => watched.look(&muxer),
            Ok(false) => {}
            Err(_) => break,
        }
    }
    muxer.end();
    watched.look(&muxer);
    assert!(muxer.snapshot().is_ended());
}

fn push(
    builder: &mut BatchBuilder,
    track: usize,
    (seq, ts, marker, is_sync): (u16, u32, bool, bool),
    payload: &[u8],
) -> bool {
    let number = if track == 0 { 96 } else { 97 };
    let mut bytes = vec![0x80, u8::from(marker) << 7 | number];
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(&ts.to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, number]);
    bytes.extend_from_slice(payload);
    let (track, ssrc) = (u8::from(track == 1), Ssrc(number.into()));
    let (seq, ts, header_bytes, bytes) = (SeqNo(seq), RtpTs(ts), 12, &bytes[..]);
    let arrival = Arrival { track, ssrc, seq, ts, marker, header_bytes, is_sync, bytes };
    builder.push(&arrival, Mono(0)).is_ok()
}

/// What was seen of a path so far.
#[derive(Default)]
struct Watched {
    sequence: u64,
    /// By segment and part.
    parts: BTreeMap<(u64, u32), Vec<StoredFragment>>,
    segment_bytes_max: usize,
}

impl Watched {
    fn look(&mut self, muxer: &Muxer) {
        let snapshot = muxer.snapshot();
        let playlist = snapshot.playlist(Rendition::MAIN, "");
        let playlist = std::str::from_utf8(&playlist).expect("text");
        if snapshot.target_s() > 0 {
            self.check_text(playlist, &snapshot);
        }
        for number in self.sequence.saturating_sub(128)..=snapshot.next_part().0 {
            let Some(segment) = snapshot.segment(number) else { continue };
            self.segment_bytes_max = self.segment_bytes_max.max(segment.bytes());
            for (place, part) in (0..).zip(&segment.parts) {
                let now = &part.fragments;
                let known = self.parts.entry((number, place)).or_insert_with(|| now.clone());
                assert_eq!(known, now, "part {number}.{place} has other bytes");
            }
        }
        assert!(muxer.memory_bytes() <= MEMORY_BYTES_MAX.max(self.segment_bytes_max));
    }

    fn check_text(&mut self, playlist: &str, snapshot: &Snapshot) {
        let values = |tag: &str| -> Vec<f64> {
            let lines = playlist.lines().filter_map(|line| line.strip_prefix(tag));
            let numbers = lines.map(|value| value.split(',').next().unwrap_or_default());
            numbers.map(|number| number.parse().expect("a number")).collect()
        };
        let target = f64::from(snapshot.target_s());
        assert_eq!(values("#EXT-X-TARGETDURATION:"), [target]);
        let part_target = values("#EXT-X-PART-INF:PART-TARGET=")[0];
        for seconds in values("#EXTINF:") {
            assert!(seconds.round() <= target && seconds > 0.0, "{playlist}");
        }
        for seconds in values("#EXT-X-PART:DURATION=") {
            assert!(seconds <= part_target, "{playlist}");
        }
        let sequence = playlist.lines().find_map(|l| l.strip_prefix("#EXT-X-MEDIA-SEQUENCE:"));
        let sequence: u64 = sequence.and_then(|text| text.parse().ok()).expect("a number");
        let has_segments = playlist.contains("#EXT-X-MAP");
        assert!(!has_segments || sequence >= self.sequence, "{sequence} < {}", self.sequence);
        self.sequence = self.sequence.max(sequence);
    }
}

/// One of a few descriptions, or whatever follows.
fn description(which: u8, text: &[u8]) -> Option<Description> {
    let video = match which % 5 {
        0 => H264,
        1 => "a=rtpmap:96 H265/90000\r\n",
        2 => "a=rtpmap:96 AV1/90000\r\n",
        3 => return made(SOUND_ALONE.to_owned()),
        _ => return made(format!("{HEAD}{}", crate::input::text(text))),
    };
    let sound = if which & 0x80 == 0 { OPUS } else { AAC };
    made(format!("{HEAD}m=video 0 RTP/AVP 96\r\n{video}{sound}"))
}

fn made(sdp: String) -> Option<Description> {
    let track = |clock_rate_hz, number| LiveTrack {
        clock_rate_hz,
        payload_types: vec![number],
        needs_sync: number == 96,
        identity: "".into(),
    };
    Description::new(sdp.into(), vec![track(90_000, 96), track(48_000, 97)]).ok()
}

const HEAD: &str = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";
const H264: &str = "a=rtpmap:96 H264/90000\r\n\
    a=fmtp:96 packetization-mode=1;sprop-parameter-sets=\
    J2QAKqwkjAeAIn5cBEAAAAMAQAAAHjigAAtxsAAW43ve4D4RCKc=,KN68sA==\r\n";
const OPUS: &str = "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 opus/48000/2\r\n";
const AAC: &str = "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 mpeg4-generic/48000/2\r\n\
    a=fmtp:97 mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config=1190\r\n";
/// The picture is of a kind that nothing is known of, so that the sound is the reference.
const SOUND_ALONE: &str = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
    m=application 0 RTP/AVP 96\r\nm=audio 0 RTP/AVP 97\r\na=rtpmap:97 opus/48000/2\r\n";
const MEMORY_BYTES_MAX: usize = 4_096;

//! Positions and rates: what is sent after PLAY with Range, Scale and Speed, after PAUSE and after
//! a seek, packet by packet (RFC 2326 s10.5, s10.6, s12.29, s12.33-35).
//!
//! ```text
//! ffprobe's samples of the file      RTP packets -> frames
//!        pts  ------------ must be ----------->  rtptime + (pts - start) * clock / Scale
//! ```
//! One clip of ten seconds with a key frame each second serves most of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed, and says where"
)]

use std::time::Duration;

use crate::support::http::sessions;
use crate::support::media::title;
use crate::support::process::PLAYER_PATIENCE;
use crate::support::reference::Track;
use crate::support::rtp::{Rtcp, Rtp, aac_units, assert_contiguous, frames, ticks_between};
use crate::support::rtsp::{Response, RtpInfo};
use crate::support::session::{Lower, Session, Stream};
use crate::support::wait::{PATIENCE, until};
use crate::support::{Served, server};

const BOTH: [Lower; 2] = [Lower::Udp, Lower::Tcp];

/// A session on the clip of ten seconds, and what the file holds.
struct Clip {
    served: Served,
    session: Session,
    video: Track,
    audio: Track,
}

impl Clip {
    fn open(lower: Lower) -> Self {
        let served = Served::new(title("h264_aac_ten_seconds_mp4"));
        let session = Session::open(served.server.rtsp, &served.url, lower);
        let video = Track::read(&served.file, 0);
        let audio = Track::read(&served.file, 1);
        Self { served, session, video, audio }
    }

    fn video_packets(&self) -> &[Rtp] {
        &self.session.stream("video").packets
    }

    /// Plays until every stream has ended, or the server has stopped sending by itself.
    fn receive_all(&mut self) {
        let admin = self.served.server.admin;
        let id = self.session.id.clone();
        until("the range is played", || {
            self.session.drain();
            let ended = self.session.streams.iter().all(Stream::has_ended);
            let listed = sessions(admin);
            let state = listed.iter().find(|s| s["id"] == *id).map(|s| s["state"].clone());
            ended || state.is_none_or(|state| state != "playing")
        });
        self.session.receive_until(Duration::from_millis(300), |_| false);
    }
}

#[test]
fn whole_clip_is_sent_with_each_samples_own_time() {
    for lower in BOTH {
        let mut clip = Clip::open(lower);
        let reply = clip.session.play(&[("Range", "npt=8-")]);
        clip.session.receive_until_bye(PLAYER_PATIENCE);
        let from = clip.video.sync_at_or_before(8.0);
        assert_video(&clip, &reply, from, clip.video.samples.len(), 1.0);
        assert_audio(&clip, &reply, 8.0);
    }
}

#[test]
fn play_from_the_start_sends_the_encoders_priming_too() {
    // RTP carries every sample; that the first ones are not to be heard is told by their times,
    // which lie before the one that RTP-Info gives for npt=0.
    let mut clip = Clip::open(Lower::Tcp);
    let reply = clip.session.play(&[("Range", "npt=0-1")]);
    clip.receive_all();
    assert_audio(&clip, &reply, 0.0);
    let first = &clip.session.stream("audio").packets[0];
    let wanted = clip.audio.samples[0].pts;
    assert!(wanted < 0, "the encoder put priming in front");
    let info = info_of(&reply, clip.session.stream("audio"));
    assert_eq!(ticks_between(info.rtptime, first.timestamp), wanted);
}

#[test]
fn rtp_info_names_the_first_packet_after_play() {
    for lower in BOTH {
        for range in ["npt=0-", "npt=3.3-", "npt=9-"] {
            let mut clip = Clip::open(lower);
            let reply = clip.session.play(&[("Range", range)]);
            clip.session.receive_packets(3, PATIENCE);
            for stream in &clip.session.streams {
                let info = info_of(&reply, stream);
                assert_eq!(stream.packets[0].seq, info.seq, "{range} {}", stream.media.kind);
                assert_ne!(info.rtptime, 0, "FFmpeg takes 0 for absent (client rule C6)");
                assert_contiguous(&stream.packets);
            }
        }
    }
}

#[test]
fn seek_starts_at_the_sync_sample_at_or_before_the_wanted_time() {
    for (npt, starts_at) in [("0.0", 0.0), ("2.999", 2.0), ("3.0", 3.0), ("6.52", 6.0)] {
        let mut clip = Clip::open(Lower::Tcp);
        let reply = clip.session.play(&[("Range", &format!("npt={npt}-"))]);
        clip.session.receive_packets(10, PATIENCE);
        let (start, end) = reply.npt();
        // The reply says where it really starts, which is what RTP-Info refers to.
        assert!(start <= npt.parse().unwrap(), "{reply:?}");
        assert!(start >= starts_at - 0.001, "{reply:?}");
        assert!(end.is_none_or(|end| (end - 10.0).abs() < 0.1), "{reply:?}");
        let from = clip.video.sync_at_or_before(starts_at);
        let frames = frames(clip.video_packets()).len();
        // The last frame may not be whole yet.
        assert_video(&clip, &reply, from, from + frames - 1, 1.0);
    }
}

#[test]
fn seek_while_playing_sends_nothing_of_the_old_position_after_the_reply() {
    // Old packets that come after the answer are what users of other servers complain about.
    let mut clip = Clip::open(Lower::Tcp);
    clip.session.play(&[("Range", "npt=1-")]);
    clip.session.receive_packets(20, PATIENCE);
    let reply = clip.session.play(&[("Range", "npt=7-")]);
    // Over TCP the order on the wire is the order in which it was sent: what came before the
    // reply is old, what comes after it is new.
    clip.session.take_in_frames();
    let before: Vec<_> = clip.session.streams.iter().map(|s| s.packets.len()).collect();
    clip.session.receive_packets(20, PATIENCE);
    for (stream, before) in clip.session.streams.iter().zip(before) {
        let info = info_of(&reply, stream);
        assert_eq!(stream.packets[before].seq, info.seq, "{}", stream.media.kind);
        // One run of sequence numbers over the seek: the reader sees no loss.
        assert_contiguous(&stream.packets);
    }
}

#[test]
fn seek_by_pause_and_play_as_ffmpeg_and_vlc_do_it() {
    // Client rules C6 and C15.
    for lower in BOTH {
        let mut clip = Clip::open(lower);
        clip.session.play(&[]);
        clip.session.receive_packets(10, PATIENCE);
        clip.session.request("PAUSE", &[]).expect(200);
        clip.session.forget();
        let reply = clip.session.play(&[("Range", "npt=5.000-")]);
        clip.session.receive_packets(20, PATIENCE);
        let from = clip.video.sync_at_or_before(5.0);
        let frames = frames(clip.video_packets()).len();
        assert_video(&clip, &reply, from, from + frames - 1, 1.0);
    }
}

#[test]
fn pause_stops_the_packets_and_play_without_range_goes_on_where_it_stopped() {
    for lower in BOTH {
        let mut clip = Clip::open(lower);
        let first = clip.session.play(&[]);
        clip.session.receive_packets(30, PATIENCE);
        clip.session.request("PAUSE", &[]).expect(200);
        clip.session.drain();
        // Twenty round trips later still nothing has come.
        let before: Vec<_> = clip.session.streams.iter().map(|s| s.packets.len()).collect();
        for _ in 0..20 {
            clip.session.request("OPTIONS", &[]).expect(200);
        }
        clip.session.drain();
        let after: Vec<_> = clip.session.streams.iter().map(|s| s.packets.len()).collect();
        assert_eq!(before, after, "packets after PAUSE over {lower:?}");

        let second = clip.session.play(&[]);
        clip.session.receive_packets(30, PATIENCE);
        for (stream, before) in clip.session.streams.iter().zip(&before) {
            assert_contiguous(&stream.packets);
            assert_eq!(stream.packets[*before].seq, info_of(&second, stream).seq);
        }
        // The frames of both halves are those of the file, each once, each at its own time.
        let (start, _) = second.npt();
        let at = frames(&clip.video_packets()[..before[0]]).len();
        let all = frames(clip.video_packets()).len();
        assert_frames(&clip, &first, &clip.video_packets()[..before[0]], 0..at, 1.0);
        assert_frames(&clip, &second, &clip.video_packets()[before[0]..], at..all - 1, 1.0);
        assert!(start > 0.0, "{second:?}");
    }
}

#[test]
fn play_without_range_while_playing_changes_nothing() {
    // Some clients send PLAY as a sign of life.
    let mut clip = Clip::open(Lower::Tcp);
    let first = clip.session.play(&[]);
    clip.session.receive_packets(10, PATIENCE);
    clip.session.play(&[]);
    clip.session.receive_packets(10, PATIENCE);
    let all = frames(clip.video_packets()).len();
    assert_contiguous(clip.video_packets());
    assert_frames(&clip, &first, clip.video_packets(), 0..all - 1, 1.0);
}

#[test]
fn range_with_an_end_stops_there_and_can_be_played_again() {
    let mut clip = Clip::open(Lower::Tcp);
    let reply = clip.session.play(&[("Range", "npt=2-4")]);
    assert!((reply.npt().1.unwrap() - 4.0).abs() < 0.05, "{reply:?}");
    clip.receive_all();
    let last = clip.video_packets().last().unwrap();
    let info = info_of(&reply, clip.session.stream("video"));
    let ticks = ticks_between(info.rtptime, last.timestamp);
    assert!(ticks < 2 * 90_000, "nothing at or past the end is sent: {ticks}");
    let count = frames(clip.video_packets()).len();
    // Two seconds of 25 pictures; those decoded early for the sake of others may come on top.
    assert!((49..=53).contains(&count), "{count}");

    clip.session.forget();
    let reply = clip.session.play(&[("Range", "npt=9-")]);
    clip.session.receive_packets(5, PATIENCE);
    assert_eq!(clip.video_packets()[0].seq, info_of(&reply, clip.session.stream("video")).seq);
}

#[test]
fn scale_2_sends_every_sample_in_half_the_time() {
    for lower in BOTH {
        let mut clip = Clip::open(lower);
        let reply = clip.session.play(&[("Range", "npt=4-"), ("Scale", "2")]);
        assert_eq!(scale(&reply), 2.0);
        clip.session.receive_until_bye(PLAYER_PATIENCE);
        let from = clip.video.sync_at_or_before(4.0);
        assert_video(&clip, &reply, from, clip.video.samples.len(), 2.0);
    }
}

#[test]
fn scale_8_sends_sync_samples_alone() {
    let mut clip = Clip::open(Lower::Tcp);
    let reply = clip.session.play(&[("Range", "npt=0-"), ("Scale", "8")]);
    assert_eq!(scale(&reply), 8.0);
    clip.session.receive_until_bye(PLAYER_PATIENCE);
    let wanted: Vec<_> = clip.video.samples.iter().filter(|s| s.is_sync).map(|s| s.pts).collect();
    assert_eq!(positions(&clip, &reply, 8.0), wanted);
    assert_contiguous(clip.video_packets());
}

#[test]
fn scale_minus_1_sends_sync_samples_backwards_to_the_start() {
    for lower in BOTH {
        let mut clip = Clip::open(lower);
        let reply = clip.session.play(&[("Range", "npt=5.5-0"), ("Scale", "-1")]);
        assert_eq!(scale(&reply), -1.0);
        clip.session.receive_until_bye(PLAYER_PATIENCE);
        let sync = clip.video.samples.iter().filter(|s| s.is_sync);
        let mut wanted: Vec<_> = sync.map(|s| s.pts).collect();
        wanted.retain(|pts| clip.video.seconds(*pts) <= 5.5);
        wanted.reverse();
        assert_eq!(positions(&clip, &reply, -1.0), wanted);
        // Time on the wire goes forward even though the film goes back.
        for pair in frames(clip.video_packets()).windows(2) {
            assert!(ticks_between(pair[0][0].timestamp, pair[1][0].timestamp) > 0);
        }
        assert_contiguous(clip.video_packets());
    }
}

#[test]
fn scale_without_range_while_playing_goes_on_from_here_at_the_new_rate() {
    // Client rule C15: VLC changes the rate like this, and reports failure unless the reply has the
    // new Scale.
    let mut clip = Clip::open(Lower::Tcp);
    clip.session.play(&[("Range", "npt=0-")]);
    clip.session.receive_packets(40, PATIENCE);
    let reply = clip.session.play(&[("Scale", "2.0")]);
    assert_eq!(scale(&reply), 2.0);
    clip.session.receive_until_bye(PLAYER_PATIENCE);
    assert_contiguous(clip.video_packets());
    let sizes: Vec<usize> = clip.video.samples.iter().map(|s| s.bytes).collect();
    assert_eq!(frames(clip.video_packets()).len(), sizes.len(), "no frame twice, none left out");
}

#[test]
fn scale_out_of_range_is_answered_with_the_nearest_that_is_served() {
    // RFC 2326 s12.34: the server may choose another value and says which.
    for (asked, served) in [("100", 16.0), ("-100", -16.0)] {
        let mut clip = Clip::open(Lower::Tcp);
        let reply = clip.session.play(&[("Range", "npt=5-"), ("Scale", asked)]);
        assert_eq!(scale(&reply), served);
    }
}

#[test]
fn speed_2_delivers_the_same_packets_ahead_of_time() {
    // RFC 2326 s12.35: bandwidth, not time on the wire. Judged against a session of normal speed
    // beside it, so by order and not by the clock.
    let served = Served::new(title("h264_aac_ten_seconds_mp4"));
    let mut slow = Session::open(served.server.rtsp, &served.url, Lower::Tcp);
    let mut fast = Session::open(served.server.rtsp, &served.url, Lower::Tcp);
    slow.play(&[("Range", "npt=2-")]);
    let reply = fast.play(&[("Range", "npt=2-"), ("Speed", "2")]);
    assert_eq!(reply.header("Speed").unwrap().parse::<f64>().unwrap(), 2.0);
    fast.receive_until_bye(PLAYER_PATIENCE);
    slow.drain();
    assert!(!slow.streams.iter().any(Stream::has_ended), "the normal one is still playing");
    slow.receive_until_bye(PLAYER_PATIENCE);
    for (slow, fast) in slow.streams.iter().zip(&fast.streams) {
        let times = |s: &Stream| -> Vec<i64> {
            s.packets.iter().map(|p| ticks_between(s.packets[0].timestamp, p.timestamp)).collect()
        };
        assert_eq!(times(slow), times(fast), "{}", slow.media.kind);
    }
}

#[test]
fn smpte_range_is_a_position_too() {
    let mut clip = Clip::open(Lower::Tcp);
    let reply = clip.session.play(&[("Range", "smpte-25=0:00:03:00-")]);
    clip.session.receive_packets(5, PATIENCE);
    let from = clip.video.sync_at_or_before(3.0);
    assert_eq!(first_frame_bytes(&clip), clip.video.samples[from].bytes, "{reply:?}");
}

#[test]
fn clock_range_is_a_position_in_a_title_that_knows_its_date() {
    let served = Served::new(title("h264_created_2020_mp4"));
    let mut session = Session::open(served.server.rtsp, &served.url, Lower::Tcp);
    session.play(&[("Range", "clock=20200101T000001Z-")]);
    session.receive_packets(5, PATIENCE);
    let video = Track::read(&served.file, 0);
    let from = video.sync_at_or_before(1.0);
    let first = frames(&session.streams[0].packets)[0].to_vec();
    assert_eq!(h264_sample_bytes(&first), video.samples[from].bytes);
}

#[test]
fn both_streams_tell_the_same_time_by_sender_reports() {
    // Lip sync: a player maps RTP time to wall time by the SR of each stream (RFC 3550 s6.4.1),
    // so the same position must map to the same wall time in both.
    let server = server::Server::with_demo();
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    let reply = session.play(&[("Range", "npt=3-")]);
    let has_report = |stream: &Stream| {
        stream.reports.iter().any(|report| matches!(report, Rtcp::SenderReport { .. }))
    };
    assert!(
        session.receive_until(PATIENCE, |streams| streams.iter().all(has_report)),
        "a sender report on each stream"
    );
    let wall: Vec<f64> =
        session.streams.iter().map(|stream| wall_time_of_start(stream, &reply)).collect();
    assert!((wall[0] - wall[1]).abs() < 0.002, "{wall:?}");
    // And both reports come from one source of names (RFC 3550 s6.5.1).
    let names: Vec<_> = session.streams.iter().map(cname).collect();
    assert!(names[0].is_some() && names[0] == names[1], "{names:?}");
}

/// Wall time, in seconds, of the position that RTP-Info gives, by the stream's first SR.
#[expect(clippy::cast_precision_loss, reason = "microseconds are enough")]
fn wall_time_of_start(stream: &Stream, reply: &Response) -> f64 {
    let info = info_of(reply, stream);
    let report = stream.reports.iter().find_map(|report| match report {
        Rtcp::SenderReport { ntp, timestamp, .. } => Some((*ntp, *timestamp)),
        _ => None,
    });
    let (ntp, timestamp) = report.unwrap();
    let ticks = ticks_between(info.rtptime, timestamp) as f64;
    ntp as f64 / 2_f64.powi(32) - ticks / f64::from(stream.media.clock_rate_hz)
}

fn cname(stream: &Stream) -> Option<String> {
    stream.reports.iter().find_map(|report| match report {
        Rtcp::SourceDescription { cname, .. } => cname.clone(),
        _ => None,
    })
}

fn scale(reply: &Response) -> f64 {
    reply.header("Scale").expect("a Scale header").parse().unwrap()
}

fn info_of(reply: &Response, stream: &Stream) -> RtpInfo {
    let found = reply.rtp_info().into_iter().find(|info| info.url == stream.url);
    found.unwrap_or_else(|| panic!("no RTP-Info with exactly {} in {reply:?}", stream.url))
}

/// The video that arrived is the samples `from..to` of the file, at the times that `reply` implies.
fn assert_video(clip: &Clip, reply: &Response, from: usize, to: usize, scale: f64) {
    assert_frames(clip, reply, clip.video_packets(), from..to, scale);
}

fn assert_frames(
    clip: &Clip,
    reply: &Response,
    packets: &[Rtp],
    samples: std::ops::Range<usize>,
    scale: f64,
) {
    assert_contiguous(packets);
    let info = info_of(reply, clip.session.stream("video"));
    let start_ticks = start_ticks(reply);
    let frames = frames(packets);
    for (i, sample) in clip.video.samples[samples.clone()].iter().enumerate() {
        let frame = frames.get(i).unwrap_or_else(|| panic!("only {i} frames of {samples:?}"));
        let place = samples.start + i;
        assert!(frame.last().unwrap().marker, "sample {place} ends with the marker");
        assert_eq!(h264_sample_bytes(frame), sample.bytes, "bytes of sample {place}");
        let wanted = scaled(clip.video.rtp_ticks(sample.pts, 90_000) - start_ticks, scale);
        let got = ticks_between(info.rtptime, frame[0].timestamp);
        // One tick for the rounding of Range to milliseconds or microseconds is not enough for a
        // reply with three decimals: half a millisecond is 45 ticks.
        assert!((got - wanted).abs() <= 45, "time of sample {place}: {got}, not {wanted}");
        let since_first = sample.pts - clip.video.samples[samples.start].pts;
        let wanted = scaled(clip.video.rtp_ticks(since_first, 90_000), scale);
        let got = ticks_between(frames[0][0].timestamp, frame[0].timestamp);
        // Exact at normal speed; one tick of rounding where a distance is divided.
        let slack = i64::from(scale != 1.0);
        assert!((got - wanted).abs() <= slack, "sample {place}: {got} ticks in, not {wanted}");
    }
}

/// The audio that arrived begins with the samples at `npt_s`, each at its own time, none left out.
fn assert_audio(clip: &Clip, reply: &Response, npt_s: f64) {
    let stream = clip.session.stream("audio");
    assert_contiguous(&stream.packets);
    let info = info_of(reply, stream);
    let rate = stream.media.clock_rate_hz;
    let start = reply.npt().0;
    let units: Vec<(u32, Vec<Vec<u8>>)> =
        stream.packets.iter().map(|p| (p.timestamp, aac_units(&p.payload))).collect();
    let first_bytes: Vec<usize> = units.iter().flat_map(|(_, u)| u.iter().map(Vec::len)).collect();
    let all: Vec<usize> = clip.audio.samples.iter().map(|s| s.bytes).collect();
    let first = clip
        .audio
        .samples
        .iter()
        .rposition(|s| clip.audio.seconds(s.pts) <= start.min(npt_s))
        .unwrap_or(0);
    // Where the audio begins is the server's choice within a frame; then everything follows.
    let begins = (first.saturating_sub(1)..first + 2)
        .find(|at| all[*at..].starts_with(&first_bytes[..first_bytes.len().min(8)]))
        .expect("audio begins at the start of the range");
    assert!(all[begins..].starts_with(&first_bytes), "an access unit is missing");
    let mut at = begins;
    for (timestamp, units) in &units {
        let wanted = clip.audio.rtp_ticks(clip.audio.samples[at].pts, rate);
        let got = ticks_between(info.rtptime, *timestamp) + in_ticks(start, rate);
        assert!((got - wanted).abs() <= i64::from(rate / 1_000), "AU {at}: {got}, not {wanted}");
        at += units.len();
    }
}

/// Positions in the file, in ticks of its timescale, of the frames that arrived.
fn positions(clip: &Clip, reply: &Response, scale: f64) -> Vec<i64> {
    let info = info_of(reply, clip.session.stream("video"));
    let position = |frame: &&[Rtp]| {
        let ticks = ticks_between(info.rtptime, frame[0].timestamp);
        let at = start_ticks(reply) + unscaled(ticks, scale);
        let nearest = clip
            .video
            .samples
            .iter()
            .min_by_key(|s| (clip.video.rtp_ticks(s.pts, 90_000) - at).abs())
            .unwrap();
        assert_eq!(h264_sample_bytes(frame), nearest.bytes, "frame at {at}");
        nearest.pts
    };
    frames(clip.video_packets()).iter().map(position).collect()
}

fn first_frame_bytes(clip: &Clip) -> usize {
    h264_sample_bytes(frames(clip.video_packets())[0])
}

/// Length of the MP4 sample whose NAL units `frame` carries (RFC 6184): each with a length of four
/// bytes in the file. Parameter sets that the server puts in front of a key frame are not of it;
/// these files have none inside.
fn h264_sample_bytes(frame: &[Rtp]) -> usize {
    const SPS: u8 = 7;
    const PPS: u8 = 8;
    let of_nal = |kind: u8, bytes: usize| if matches!(kind, SPS | PPS) { 0 } else { 4 + bytes };
    frame
        .iter()
        .map(|packet| match packet.payload[0] & 0x1f {
            // STAP-A: 16-bit sizes.
            24 => {
                let (mut rest, mut sum) = (&packet.payload[1..], 0);
                while rest.len() > 2 {
                    let bytes = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
                    sum += of_nal(rest[2] & 0x1f, bytes);
                    rest = &rest[2 + bytes..];
                }
                sum
            }
            // FU-A: the first fragment stands for the NAL header and the length field.
            28 if packet.payload[1] & 0x80 != 0 => 5 + packet.payload.len() - 2,
            28 => packet.payload.len() - 2,
            kind => of_nal(kind, packet.payload.len()),
        })
        .sum()
}

fn start_ticks(reply: &Response) -> i64 {
    in_ticks(reply.npt().0, 90_000)
}

#[expect(clippy::cast_possible_truncation, reason = "small numbers")]
fn in_ticks(seconds: f64, clock_rate_hz: u32) -> i64 {
    (seconds * f64::from(clock_rate_hz)).round() as i64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "small numbers")]
fn scaled(ticks: i64, scale: f64) -> i64 {
    (ticks as f64 / scale).round() as i64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "small numbers")]
fn unscaled(ticks: i64, scale: f64) -> i64 {
    (ticks as f64 * scale).round() as i64
}

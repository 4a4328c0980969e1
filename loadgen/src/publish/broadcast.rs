//! What is to be sent when: pictures, sound, and the reports that tell how their times belong.
//!
//! ```text
//! picture n at n / frame rate, sound n at n * 20 ms, a report on each track every 5 s
//! ```
//! Invariants: nothing is due before its time; whoever comes late sends all that has become due, in
//! order. Bound: one picture and one packet are held.

use super::FilmOptions;
use super::film::{Film, Picture};
use super::packets::Track;
use super::stamp;
use crate::rtcp;
use crate::time::Mono;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rand::RngExt;
use std::fmt::Write;
use std::time::Duration;

const VIDEO_HZ: u32 = 90_000;
const VIDEO_TYPE: u8 = 96;
const SOUND_HZ: u32 = 8_000;
/// PCMU (RFC 3551 s6).
const SOUND_TYPE: u8 = 0;
const SOUND_NS: u64 = 20_000_000;
const SOUND_TICKS: u64 = 160;
const NS_PER_S: u64 = 1_000_000_000;
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Something to send.
#[derive(Debug)]
pub enum Out<'a> {
    /// An RTP packet of a track; its stamp is to have so many bytes behind it.
    Rtp(usize, &'a mut Vec<u8>, usize),
    /// A compound RTCP packet of a track.
    Rtcp(usize, &'a [u8]),
}

/// See the module.
#[derive(Debug)]
pub struct Broadcast {
    film: Film,
    frame_rate: u64,
    /// Video, then sound if there is any.
    tracks: Vec<Track>,
    started: Mono,
    pictures: u64,
    sounds: u64,
    report_due: Mono,
    late_max: Duration,
    picture: Picture,
    packet: Vec<u8>,
}

impl Broadcast {
    /// A film that begins when it is started.
    #[must_use]
    pub fn new(options: &FilmOptions, rng: &mut impl RngExt) -> Self {
        let film = Film::new(options.bit_rate, options.frame_rate, options.gop, options.key_ratio);
        let mut track = |payload_type, hz| {
            Track::new(payload_type, hz, rng.random(), rng.random(), rng.random())
        };
        let mut tracks = vec![track(VIDEO_TYPE, VIDEO_HZ)];
        if options.sound {
            tracks.push(track(SOUND_TYPE, SOUND_HZ));
        }
        let now = Mono::from_ns(0);
        Self {
            film,
            frame_rate: u64::from(options.frame_rate.max(1)),
            tracks,
            started: now,
            pictures: 0,
            sounds: 0,
            report_due: now,
            late_max: Duration::ZERO,
            picture: Picture::default(),
            packet: Vec::new(),
        }
    }

    /// What ANNOUNCE says of it (RFC 4566, RFC 6184 s8.2.1).
    #[must_use]
    pub fn description(&self) -> String {
        let (sps, pps) = (self.film.sps(), self.film.pps());
        let profile =
            sps.get(1..4).unwrap_or_default().iter().fold(String::new(), |mut text, b| {
                let _ = write!(text, "{b:02X}");
                text
            });
        let sets = [sps, pps].map(|set| BASE64_STANDARD.encode(set)).join(",");
        let mut sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=headend-loadgen\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
             m=video 0 RTP/AVP {VIDEO_TYPE}\r\na=rtpmap:{VIDEO_TYPE} H264/{VIDEO_HZ}\r\n\
             a=fmtp:{VIDEO_TYPE} packetization-mode=1;profile-level-id={profile};\
             sprop-parameter-sets={sets}\r\na=control:trackID=0\r\n"
        );
        if self.tracks.len() > 1 {
            let _ = write!(
                sdp,
                "m=audio 0 RTP/AVP {SOUND_TYPE}\r\na=rtpmap:{SOUND_TYPE} PCMU/{SOUND_HZ}\r\n\
                 a=control:trackID=1\r\n"
            );
        }
        sdp
    }

    /// The tracks, in the order of the description.
    #[must_use]
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// Width and height in samples.
    #[must_use]
    pub const fn size(&self) -> (u32, u32) {
        self.film.size()
    }

    /// Pictures sent, and how late the latest of them was.
    #[must_use]
    pub const fn pictures(&self) -> (u64, Duration) {
        (self.pictures, self.late_max)
    }

    /// RECORD is answered.
    pub const fn start(&mut self, now: Mono) {
        (self.started, self.report_due) = (now, now);
    }

    /// When something is due.
    #[must_use]
    pub fn next_due(&self) -> Mono {
        let picture = self.due_of(self.pictures * NS_PER_S / self.frame_rate);
        let sound = self.due_of(self.sounds * SOUND_NS);
        let media = if self.tracks.len() > 1 { picture.min(sound) } else { picture };
        media.min(self.report_due)
    }

    /// Hands out all that is due at `now`, which is `utc_ns` since 1970.
    pub fn send_due(&mut self, now: Mono, utc_ns: u64, send: &mut impl FnMut(Out<'_>)) {
        // First: they say how to read the times that follow.
        if self.report_due <= now {
            self.report_due = now.after(REPORT_INTERVAL);
            self.report(now, utc_ns, send);
        }
        // Bounded: each round sends something, and what is due ends with `now`.
        loop {
            let picture = self.due_of(self.pictures * NS_PER_S / self.frame_rate);
            let sound = self.due_of(self.sounds * SOUND_NS);
            let has_sound = self.tracks.len() > 1 && sound <= now;
            if has_sound && sound <= picture {
                self.send_sound(send);
            } else if picture <= now {
                self.late_max = self.late_max.max(now.since(picture));
                self.send_picture(send);
            } else if has_sound {
                self.send_sound(send);
            } else {
                return;
            }
        }
    }

    fn due_of(&self, ns: u64) -> Mono {
        self.started.after(Duration::from_nanos(ns))
    }

    fn send_picture(&mut self, send: &mut impl FnMut(Out<'_>)) {
        let Self { film, tracks, picture, packet, pictures, frame_rate, .. } = self;
        let Some(track) = tracks.first_mut() else { return };
        film.make(*pictures, picture);
        let ts = track.ts(*pictures * u64::from(VIDEO_HZ) / *frame_rate);
        *pictures += 1;
        track.split(picture, ts, packet, |packet, behind| send(Out::Rtp(0, packet, behind)));
    }

    fn send_sound(&mut self, send: &mut impl FnMut(Out<'_>)) {
        let Some(track) = self.tracks.get_mut(1) else { return };
        let ts = track.ts(self.sounds * SOUND_TICKS);
        self.sounds += 1;
        track.sound(ts, &mut self.packet);
        send(Out::Rtp(1, &mut self.packet, stamp::BEHIND[0]));
    }

    fn report(&self, now: Mono, utc_ns: u64, send: &mut impl FnMut(Out<'_>)) {
        let since_ns = now.as_ns().saturating_sub(self.started.as_ns());
        for (index, track) in self.tracks.iter().enumerate() {
            let hz = u64::from(track.clock_rate_hz);
            let ticks = since_ns / NS_PER_S * hz + since_ns % NS_PER_S * hz / NS_PER_S;
            let sent = (track.packets, track.octets);
            let report = rtcp::sender_report(track.ssrc, utc_ns, track.ts(ticks), sent);
            send(Out::Rtcp(index, &report));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Options;
    use crate::description::description_from;
    use clap::Parser;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use rtp_types::RtpPacket;
    use rtsp_types::Url;

    fn broadcast(more: &[&str]) -> Broadcast {
        let line = [&["x", "--publish", "rtsp://h/live/a"], more].concat();
        let options = Options::try_parse_from(line).unwrap();
        Broadcast::new(&options.film, &mut SmallRng::seed_from_u64(1))
    }

    #[test]
    fn description_is_read_by_our_own_reader() {
        let url = Url::parse("rtsp://h/live/a").unwrap();
        let of = |more: &[&str]| description_from(broadcast(more).description().as_bytes(), &url);
        let controls = of(&["--sound"]).unwrap().tracks;
        let controls: Vec<_> = controls.iter().map(|track| track.control.as_str()).collect();
        assert_eq!(controls, ["rtsp://h/live/a/trackID=0", "rtsp://h/live/a/trackID=1"]);
        assert_eq!(of(&[]).unwrap().tracks.len(), 1);
    }

    #[test]
    fn a_second_has_its_pictures_and_sounds_in_order_and_nothing_comes_early() {
        let mut broadcast = broadcast(&["--sound", "--frame-rate", "25"]);
        let start = Mono::from_ns(5_000_000_000);
        broadcast.start(start);
        let mut sent = [0_u64; 2];
        let (mut reports, mut markers) = (0, 0);
        for ms in 0..1_000 {
            let now = start.after(Duration::from_millis(ms));
            let is_due = broadcast.next_due() <= now;
            let mut count = 0;
            broadcast.send_due(now, 7, &mut |out| {
                count += 1;
                match out {
                    Out::Rtp(track, packet, _) => {
                        let parsed = RtpPacket::parse(packet).unwrap();
                        markers += u64::from(parsed.marker_bit());
                        sent[track] += 1;
                    }
                    Out::Rtcp(..) => reports += 1,
                }
            });
            assert_eq!(count > 0, is_due, "at {ms} ms");
        }
        assert_eq!((sent[1], markers, reports), (50, 25, 2));
        assert_eq!(broadcast.pictures(), (25, Duration::ZERO));
        // Four frames late: all of them, in one go.
        broadcast.send_due(start.after(Duration::from_millis(1_160)), 7, &mut |_| {});
        assert_eq!(broadcast.pictures(), (30, Duration::from_millis(160)));
    }
}

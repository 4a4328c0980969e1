//! Readers that take a session in, and sessions that leave their path for another feed.
//!
//! ```text
//!  look --> Looking: a reader of the new path, primed under no session --is_found--> put_in
//!                `--drop_looking                              take_out --^ of the old feed
//! ```
//! Invariant: a looking reader is sent nothing, and the owner of its number is no session: whatever
//! happens to the path ends no session.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;

use crate::base::carrier::Carrier;
use crate::base::random;
use crate::base::time::Mono;
use crate::base::wheel::Timer;
use crate::live::core::clock::{ClockPoint, PLAUSIBLE_NS};
use crate::live::core::crossing::WireTime;
use crate::live::core::entering::Entering;
use crate::live::core::message::OwnerRequest;
use crate::live::core::path::{PathError, ReaderKey};
use crate::live::core::reader::ReaderStream;
use crate::live::core::ring::BatchRing;
use crate::live::core::source::ArrivalTime;
use crate::live::core::start::StartPolicy;
use crate::live::hub::Hub;
use crate::live::multicast::member::Delivery;
use crate::live::readers::Readers;
use crate::live::readers::log::SkipsTold;
use crate::live::readers::reader::{LiveReader, LiveStream, ReaderState, destination};
use crate::rtp::{AAC_ENCODING, aac_ticks};
use crate::sdp::session::MediaSdp;
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;
use crate::session::moving::{MovingSession, MovingStream};
use crate::session::outgoing::{Numbers, Outgoing, Own, Sent};

/// A reader that looks for its first packets on behalf of a session.
#[derive(Debug)]
pub struct Looking {
    path: Arc<str>,
    key: ReaderKey,
    streams: Vec<LookingStream>,
    /// When the first packet of all video was known.
    video_since: Option<Mono>,
}

/// A stream of the session, as the path feeds it.
#[derive(Debug, Clone, Copy)]
pub struct LookingStream {
    /// Track of the path; `None`: the path has nothing for the stream.
    pub track: Option<u8>,
    /// A payload type of the path, and what the client was told instead; `None`: the same.
    pub payload_type: Option<(u8, u8)>,
}

/// What a looking reader has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The session can move.
    Ready,
    /// First packets are still to come.
    Waiting,
    /// The path has gone.
    Gone,
}

impl Readers {
    /// Makes a reader of a path that is here, for a session with these transports.
    pub fn look(
        &self,
        hub: &mut Hub,
        path: &Arc<str>,
        outgoing: &[&Outgoing],
        streams: Vec<LookingStream>,
    ) -> Result<Looking, PathError> {
        let found = hub.paths.path_mut(path).ok_or(PathError::NoReader)?;
        let carrier = outgoing.first().map_or(Carrier::Udp, |first| first.transport.carrier());
        let key = found.add_reader(NO_SESSION, carrier)?;
        for (outgoing, stream) in outgoing.iter().zip(&streams) {
            let to = destination(outgoing.transport);
            let added = match stream.track {
                Some(track) => found.add_stream(key, track, to),
                None => found.add_silent_stream(key, outgoing.clock_rate_hz, to),
            };
            match added {
                Ok(index) => found.set_srtp(key, index, outgoing.srtp.clone()),
                Err(error) => {
                    found.remove_reader(key);
                    return Err(error);
                }
            }
        }
        let has_start = found.ring().newest_start().is_some();
        found.prepare(key, StartPolicy::Gop);
        if !has_start {
            hub.request(path, OwnerRequest::WantSync);
        }
        Ok(Looking { path: Arc::clone(path), key, streams, video_since: None })
    }

    /// Whether the first packets are known: of all video, and of sound for as long as that is worth
    /// waiting for.
    pub fn is_found(&self, cx: &Cx, hub: &mut Hub, looking: &mut Looking) -> Found {
        let Some(path) = hub.paths.path_of(looking.key) else { return Found::Gone };
        let Some(reader) = path.reader(looking.key) else { return Found::Gone };
        let needs_sync: Vec<bool> = reader.streams.iter().map(|s| s.needs_sync).collect();
        let starts = path.starts(looking.key);
        let wanted = looking.streams.iter().zip(needs_sync).zip(&starts);
        let (mut lacks_video, mut lacks_sound, mut has_any) = (false, false, false);
        for ((stream, needs_sync), start) in wanted {
            has_any |= start.is_some();
            let lacks = stream.track.is_some() && start.is_none();
            lacks_video |= lacks && needs_sync;
            lacks_sound |= lacks && !needs_sync;
        }
        if lacks_video || !has_any {
            return Found::Waiting;
        }
        let since = *looking.video_since.get_or_insert(cx.now);
        let has_waited = cx.now.since(since) >= SOUND_WAIT_MAX;
        if lacks_sound && !has_waited { Found::Waiting } else { Found::Ready }
    }

    /// The session does not move: the reader is removed.
    pub fn drop_looking(hub: &mut Hub, looking: &Looking) {
        if let Some(path) = hub.paths.path_of(looking.key) {
            path.remove_reader(looking.key);
        }
    }

    /// Whether a session can leave its path now: it plays or is paused, with packets of its own.
    pub fn can_leave(&self, index: u32) -> bool {
        self.table.get(index as usize).is_some_and(|reader| {
            let is_under_way = matches!(reader.state, ReaderState::Playing | ReaderState::Paused);
            is_under_way && reader.delivery == Delivery::Unicast
        })
    }

    /// Takes a session from its path. Packets that the kernel has are sent; packets that it refuses
    /// later are lost.
    pub fn take_out(&mut self, cx: &mut Cx, hub: &mut Hub, index: u32) -> Option<MovingSession> {
        let reader = self.table.try_remove(index as usize)?;
        cx.wheel.cancel(reader.timer);
        self.backlog.forget_start(&reader.path, index);
        cx.uncount_player(reader.state.shown());
        let told = reader.client.told.as_deref();
        let path = hub.paths.path_of(reader.key);
        let steps: Vec<i64> = (0..reader.streams.len())
            .map(|index| {
                let place = path.as_ref()?.reader(reader.key)?.streams.get(index)?;
                let media = *told?.medias.get(index)?;
                last_ticks(
                    path.as_ref()?.ring(),
                    place,
                    told?.sdp.medias().get(usize::from(media))?,
                )
            })
            .map(Option::unwrap_or_default)
            .collect();
        let left = path.and_then(|path| path.remove_reader(reader.key));
        if let Some(left) = &left {
            hub.count_reader_end(&reader.path, left);
        }
        let (places, delay_ns) =
            left.map_or_else(Default::default, |left| (left.streams, left.delay_ns));
        let mut places = places.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
        let streams = reader.streams.into_iter().zip(steps).map(|(stream, step_ticks)| {
            let place = places.next().flatten();
            moving_stream(cx, stream, place.as_ref(), (delay_ns, step_ticks))
        });
        Some(MovingSession {
            streams: streams.collect(),
            client: reader.client,
            was: SessionRef::Reader(index),
            left_at: None,
        })
    }

    /// Takes a session in, which plays from the packets that were found.
    pub fn put_in(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        mut moving: MovingSession,
        looking: Looking,
    ) -> u32 {
        let now = cx.now;
        // The socket may have refused packets of the feed before, or refuses them later.
        for stream in &mut moving.streams {
            stream.outgoing.follow_with_others();
        }
        let place = self.table.vacant_key();
        let index = u32::try_from(place).unwrap_or(u32::MAX);
        moving.rename(cx, SessionRef::Reader(index));
        let entering = moving.streams.iter().zip(&looking.streams).map(|(stream, looking)| {
            let (own, time) = (stream.outgoing.own()?, stream.time?);
            let sent = (own.sent.packets, own.sent.payload_bytes);
            let (ssrc, seq, payload_type) = (own.ssrc, own.seq, looking.payload_type);
            Some(Entering { ssrc, seq, time, payload_type, sent })
        });
        let entering: Vec<_> = entering.collect();
        let at = ArrivalTime { now, utc_ns: cx.utc_ns };
        if let Some(path) = hub.paths.path_of(looking.key) {
            path.enter(looking.key, place as u64, &entering, at);
        }
        let streams = moving.streams.into_iter().zip(&looking.streams);
        let streams = streams.map(|(MovingStream { mut outgoing, time }, looking)| {
            let ssrc = outgoing.own().filter(|_| time.is_some()).map(|own| own.ssrc);
            outgoing.numbers = Numbers::Source(ssrc);
            LiveStream { track: looking.track.unwrap_or(u8::MAX), outgoing }
        });
        let reader = LiveReader {
            streams: streams.collect(),
            client: moving.client,
            path: Arc::clone(&looking.path),
            key: looking.key,
            delivery: Delivery::Unicast,
            state: ReaderState::Playing,
            serial: hub.next_serial(),
            wakes: None,
            timer: Timer::NONE,
            report_due: now,
            skips_told: SkipsTold::default(),
        };
        hub.tally.enter(&looking.path);
        cx.count_player(reader.state.shown());
        self.table.insert(reader);
        hub.paths.queue(looking.key);
        hub.is_ready = true;
        // Reports of all streams at once: players keep sound and picture together by them.
        self.wake_reader(cx, index, now);
        index
    }
}

impl Looking {
    /// Name of the path.
    pub fn path(&self) -> &Arc<str> {
        &self.path
    }
}

/// A stream without its feed. `place` is what its path's reader knew of it; the reader was
/// `delay_ns` behind its source. The last packet lasts `step_ticks`, or less than `STEP_MS`.
fn moving_stream(
    cx: &Cx,
    stream: LiveStream,
    place: Option<&ReaderStream>,
    (delay_ns, step_ticks): (i64, i64),
) -> MovingStream {
    let mut outgoing = stream.outgoing;
    let last_sent = place.and_then(|place| place.cursor.last_sent.as_ref());
    let known = outgoing.ssrc().zip(last_sent.zip(place));
    let Some((ssrc, (last_sent, place))) = known else {
        let mut rng = random::rng();
        let own = Own::new(crate::base::ids::Ssrc(rng.random()), rng.random());
        let is_encrypted = outgoing.srtp.is_some();
        outgoing.numbers = Numbers::Own(if is_encrypted { own.for_srtp() } else { own });
        return MovingStream { outgoing, time: None };
    };
    let (packets, payload_bytes) = place.sent_before;
    let sent = Sent {
        packets: packets + place.packets_sent,
        payload_bytes: payload_bytes + place.payload_bytes_sent,
    };
    let (hz, ts_zero) = (outgoing.clock_rate_hz, last_sent.ts);
    outgoing.numbers = Numbers::Own(Own { ssrc, seq: last_sent.seq.plus(1), ts_zero, sent });
    let ago_ns = i64::try_from(cx.now.since(last_sent.received).as_nanos()).unwrap_or(i64::MAX);
    let by_arrival = ClockPoint { utc_ns: cx.utc_ns.saturating_sub(ago_ns), ts: last_sent.ts };
    let by_clock = last_sent
        .clock
        .map(|clock| ClockPoint { utc_ns: clock.utc_ns, ts: last_sent.rewrite.map_ts(clock.ts) });
    // A source may keep a clock that has nothing to do with the server's.
    let is_plausible = |line: &ClockPoint| {
        let utc_ns = line.utc_ns_of(last_sent.ts, hz);
        utc_ns.abs_diff(by_arrival.utc_ns) <= PLAUSIBLE_NS
    };
    let captured = by_clock.filter(is_plausible).unwrap_or(by_arrival);
    let line = ClockPoint { utc_ns: captured.utc_ns.saturating_add(delay_ns), ts: captured.ts };
    let next = last_sent.ts.offset_ticks(step_ticks.max(i64::from(hz) * STEP_MS / 1_000));
    MovingStream { outgoing, time: Some(WireTime { next, line }) }
}

/// Ticks of the sound in the last packet that a stream was sent, for AAC, of which a packet has
/// several frames. `None`: another encoding.
fn last_ticks(ring: &BatchRing, place: &ReaderStream, media: &MediaSdp) -> Option<i64> {
    let encoding = media.encoding(media.payload_types().next()?)?;
    if !encoding.name.eq_ignore_ascii_case(AAC_ENCODING) {
        return None;
    }
    let last_sent = place.cursor.last_sent?;
    let seq = last_sent.rewrite.source_seq(last_sent.seq);
    let found = ring.find(place.track, place.is_datagram, seq, 0)?;
    let bytes = found.batch.packet_bytes(&found.packet);
    aac_ticks(bytes.get(usize::from(found.packet.header_bytes)..)?)
}

/// Owner of looking readers: no session has this number.
const NO_SESSION: u64 = u64::MAX;
/// Wait for sound when the picture is there.
const SOUND_WAIT_MAX: Duration = Duration::from_millis(300);
/// Time from the last packet of a feed to the first of the next: a picture at 25 a second, or two
/// frames of sound.
const STEP_MS: i64 = 40;

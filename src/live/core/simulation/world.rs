//! The world of the simulation: a camera, its source, the owner, two shards.

use std::sync::Arc;

use crate::base::carrier::Carrier;
use crate::base::ids::{RtpTs, SeqNo, ShardId, Ssrc};
use crate::base::sink::testing::SinkRecorder;
use crate::base::time::Mono;
use crate::live::core::batch::Generation;
use crate::live::core::description::{Description, LiveTrack};
use crate::live::core::latch::AddressLatch;
use crate::live::core::message::{Notification, OwnerRequest, PathRules, SourceRef, ToOwner};
use crate::live::core::path::{LivePath, PathLimits};
use crate::live::core::paths::{LivePaths, PathEffect, Wanted};
use crate::live::core::pump::{self, Left, LivePump, LiveRunMark};
use crate::live::core::registry::{Effect, Registry};
use crate::live::core::simulation::player::{Got, Manner, Player};
use crate::live::core::source::{ArrivalTime, RtpFields, Source};
use crate::live::core::start::StartPolicy;
use crate::metrics::cells::ShardCells;

pub(crate) const PATH: &str = "live/cam1";
pub(crate) const VIDEO_HZ: u32 = 90_000;
pub(crate) const SOUND_HZ: u32 = 48_000;
pub(crate) const RATES: [u32; 2] = [VIDEO_HZ, SOUND_HZ];
pub(crate) const UTC_NS: i64 = 1_700_000_000_000_000_000;

/// Chance, from a seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// A camera's own numbers.
pub(crate) struct Camera {
    pub(crate) source: Source,
    pub(crate) ssrcs: [u32; 2],
    pub(crate) seqs: [u16; 2],
    pub(crate) ts_zero: [u32; 2],
    pub(crate) born_ms: u64,
}

pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) ms: u64,
    pub(crate) camera: Option<Camera>,
    pub(crate) registry: Registry,
    /// Paths that each shard listens to.
    pub(crate) paths: [LivePaths; 2],
    pub(crate) sockets: [SinkRecorder<LiveRunMark, Got>; 2],
    pub(crate) cells: ShardCells,
    pub(crate) players: Vec<Player>,
    pub(crate) ids: [u64; 2],
    pub(crate) loss_one_in: u64,
    pub(crate) limits: PathLimits,
    pub(crate) sources: u32,
    pub(crate) ended: bool,
    /// The camera has stopped, and all messages are delivered.
    is_over: bool,
    /// Packets of each track that were lost before they reached the server.
    pub(crate) lost: [Vec<u64>; 2],
}

pub(crate) fn description() -> Arc<Description> {
    let track = |clock_rate_hz, payload_type, needs_sync, identity: &str| LiveTrack {
        clock_rate_hz,
        payload_types: vec![payload_type],
        needs_sync,
        identity: identity.into(),
    };
    let tracks = vec![track(VIDEO_HZ, 96, true, "video"), track(SOUND_HZ, 97, false, "audio")];
    Arc::new(Description::new("v=0".into(), tracks).unwrap())
}

impl World {
    pub(crate) fn new(seed: u64, loss_one_in: u64, limits: PathLimits) -> Self {
        Self {
            dice: Dice(seed | 1),
            ms: 1_000,
            camera: None,
            registry: Registry::new(None),
            paths: [LivePaths::default(), LivePaths::default()],
            sockets: [false, true]
                .map(|is_plain| SinkRecorder { is_plain, ..SinkRecorder::default() }),
            cells: ShardCells::default(),
            players: Vec::new(),
            ids: [0, 0],
            loss_one_in,
            limits,
            sources: 0,
            ended: false,
            is_over: false,
            lost: [Vec::new(), Vec::new()],
        }
    }

    pub(crate) fn now(&self) -> Mono {
        Mono(self.ms * 1_000_000)
    }

    pub(crate) fn at(&self) -> ArrivalTime {
        ArrivalTime {
            now: self.now(),
            utc_ns: UTC_NS + i64::try_from(self.ms).unwrap() * 1_000_000,
        }
    }

    pub(crate) fn tell_owner(&mut self, request: OwnerRequest) {
        let now = self.now();
        self.registry.handle(ToOwner { path: PATH.into(), request }, now);
        self.settle();
    }

    pub(crate) fn settle(&mut self) {
        for effect in std::mem::take(&mut self.registry.out) {
            match effect {
                Effect::Notify { shard, notification, .. } => {
                    self.told(usize::from(shard.0), notification)
                }
                Effect::Timer(..) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) fn told(&mut self, shard: usize, notification: Notification) {
        let now = self.now();
        match notification {
            Notification::Granted { generation, .. } => {
                self.camera.as_mut().unwrap().source.grant(generation, now);
            }
            notification @ (Notification::Subscribed { .. } | Notification::Resumed { .. }) => {
                let told = self.paths[shard].handle(&PATH.into(), notification, now);
                assert!(matches!(told, PathEffect::Answer { refused: None, .. }), "{told:?}");
            }
            notification @ Notification::Batch(_) => {
                self.paths[shard].handle(&PATH.into(), notification, now);
            }
            Notification::Lost => {}
            Notification::Ended => self.ended = true,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn start_camera(&mut self) {
        let now = self.now();
        let mut source = Source::new(PATH.into(), description(), Ssrc(9), false, now);
        for track in 0..2 {
            source.set_up(track, AddressLatch::Any, AddressLatch::Any);
        }
        let mut random = || u32::try_from(self.dice.roll(1 << 32)).unwrap();
        let (ssrcs, ts_zero) = ([random(), random()], [random(), random()]);
        let seqs = [random(), random()].map(|n| u16::try_from(n & 0xffff).unwrap());
        self.camera = Some(Camera { source, ssrcs, seqs, ts_zero, born_ms: self.ms });
        self.sources += 1;
        self.tell_owner(OwnerRequest::Claim {
            source: SourceRef { shard: ShardId(0), number: self.sources },
            description: description(),
            is_pulled: false,
            rules: Arc::new(PathRules::default()),
        });
    }

    pub(crate) fn kill_camera(&mut self) {
        let mut camera = self.camera.take().unwrap();
        let generation = camera.source.generation().unwrap();
        while let Some(batch) = camera.source.finish() {
            self.tell_owner(OwnerRequest::Feed { generation, batch });
        }
        self.tell_owner(OwnerRequest::Release { generation });
    }

    /// Packets that the camera makes in a millisecond, and their way to the source.
    pub(crate) fn film(&mut self) {
        let at = self.at();
        if self.is_over {
            return self.feed();
        }
        let Some(camera) = &mut self.camera else { return };
        let age = self.ms - camera.born_ms;
        let ticks = |hz: u32| u32::try_from((age * u64::from(hz) / 1_000) & 0xffff_ffff).unwrap();
        let mut frames = Vec::new();
        if age.is_multiple_of(40) {
            // A group of pictures takes a second; a camera may begin in the middle of one.
            let is_key = (age / 40 + 10).is_multiple_of(25);
            frames.push((0, if is_key { 40 } else { 3 }, is_key));
        }
        if age.is_multiple_of(20) {
            frames.push((1, 1, false));
        }
        for (track, count, is_key) in frames {
            let ts = camera.ts_zero[track].wrapping_add(ticks(RATES[track]));
            for packet in 0..count {
                let id = self.ids[track];
                let seq = camera.seqs[track];
                self.ids[track] += 1;
                camera.seqs[track] = seq.wrapping_add(1);
                // The first packet of a key frame comes: else there is no sync sample at all.
                if self.dice.roll(self.loss_one_in) == 0 && packet > 0 {
                    self.lost[track].push(id);
                    continue;
                }
                let is_last = packet + 1 == count;
                let len = if is_last { 300 } else { 1_200 };
                let bytes = named_packet(id, is_key, len, (seq, ts, camera.ssrcs[track]));
                let fields = RtpFields {
                    payload_type: if track == 0 { 96 } else { 97 },
                    seq: SeqNo(seq),
                    ts: RtpTs(ts),
                    ssrc: Ssrc(camera.ssrcs[track]),
                    marker: is_last,
                    header_bytes: 12,
                };
                let index = u8::try_from(track).unwrap();
                camera.source.handle_rtp(index, None, &fields, is_key, &bytes, at).unwrap();
            }
        }
        self.feed();
    }

    pub(crate) fn feed(&mut self) {
        let now = self.now();
        while let Some(camera) = &mut self.camera {
            let generation: Generation = camera.source.generation().unwrap();
            let Some(batch) = camera.source.poll_batch(now) else { return };
            self.tell_owner(OwnerRequest::Feed { generation, batch });
        }
    }

    /// A player joins on a shard.
    pub(crate) fn join(&mut self, shard: usize, manner: Manner, policy: StartPolicy) -> bool {
        let now = self.now();
        match self.paths[shard].want(&PATH.into(), self.limits, 0, now) {
            Wanted::Here => {}
            Wanted::Request => {
                let at = ShardId(u8::try_from(shard).unwrap());
                self.tell_owner(OwnerRequest::Subscribe {
                    shard: at,
                    rules: Arc::new(PathRules::default()),
                });
            }
            other => panic!("{other:?}"),
        }
        let Some(path) = self.paths[shard].path_mut(PATH) else { return false };
        let carrier = match manner {
            Manner::Good | Manner::Refusing(_) => Carrier::Udp,
            Manner::Slow(_) | Manner::Stalled(..) => Carrier::Tcp,
        };
        let place = self.players.len();
        let key = path.add_reader(place as u64, carrier).unwrap();
        for track in 0..2 {
            let to = Player::to(place, manner, track);
            assert_eq!(path.add_stream(key, track, to), Ok(track));
        }
        path.prepare(key, policy);
        self.players.push(Player {
            shard,
            key,
            manner,
            starts: Vec::new(),
            got: [Vec::new(), Vec::new()],
            timer_ms: None,
            credit: 0,
            pauses: 0,
            joined_ms: self.ms,
        });
        true
    }

    pub(crate) fn turn(&mut self) {
        self.film();
        let (now, ms) = (self.now(), self.ms);
        for player in &mut self.players {
            let Some(path) = self.paths[player.shard].path_mut(PATH) else { continue };
            player.begin(path, now, ms);
            if player.timer_ms.is_some_and(|due| due <= ms) {
                player.timer_ms = None;
                path.queue(player.key);
            }
        }
        for shard in 0..2 {
            self.pump(shard);
        }
        self.ms += 1;
    }

    /// A shard's part of the turn.
    fn pump(&mut self, shard: usize) {
        let now = self.now();
        let Self { paths, players, sockets, cells, dice, .. } = self;
        let (paths, sockets) = (&mut paths[shard], &mut sockets[shard]);
        let mut left = Left::default();
        paths.list_all();
        LivePump::new(sockets, cells, &mut left, now).pump(paths);
        for (name, due) in left.wakes {
            players[usize::try_from(name).unwrap()].wake(due);
        }
        for name in left.interleaved {
            players[usize::try_from(name).unwrap()].feed(paths, cells, now);
        }
        // As the ring does it: one that is refused cancels those that are linked behind it.
        let mut refused = None;
        for run in sockets.runs.drain(..) {
            let (place, stream) = (usize::from(run.way.0), run.way.1.port());
            assert_eq!(u16::from(run.mark.stream_index()), stream);
            let player = &mut players[place];
            let is_cancelled = refused == Some(run.way);
            let is_refused =
                matches!(player.manner, Manner::Refusing(one_in) if dice.roll(one_in) == 0);
            if is_refused || is_cancelled {
                refused = Some(run.way);
                assert_eq!(pump::deny(paths, &run.mark), Some(place as u64));
                let due = pump::put_back(paths, &run.mark, now);
                assert_eq!(due.is_none(), is_cancelled, "it went back with the first");
                due.into_iter().for_each(|due| player.wake(due));
            } else {
                refused = None;
                player.got[usize::from(stream)].extend(run.packets);
            }
        }
    }

    /// The path as a shard has it.
    pub(crate) fn path(&self, shard: usize) -> &LivePath {
        self.paths[shard].path(PATH).unwrap()
    }

    pub(crate) fn pause(&mut self, player: usize) {
        let Some(player) = self.players.get_mut(player) else { return };
        if let Some(path) = self.paths[player.shard].path_mut(PATH) {
            path.pause(player.key);
        }
    }

    /// PLAY after a pause.
    pub(crate) fn play(&mut self, player: usize) {
        let ms = self.ms;
        let Some(player) = self.players.get_mut(player) else { return };
        let Some(path) = self.paths[player.shard].path_mut(PATH) else { return };
        path.prepare(player.key, StartPolicy::Gop);
        (player.joined_ms, player.pauses) = (ms, player.pauses + 1);
    }

    /// The newest packet of a track that arrived.
    pub(crate) fn newest(&self, track: usize) -> Option<u64> {
        (0..self.ids[track]).rev().find(|id| !self.lost[track].contains(id))
    }

    /// Delivers the packets that were made.
    pub(crate) fn drain(&mut self) {
        self.is_over = true;
        self.run(10);
    }

    pub(crate) fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.turn();
        }
    }
}

/// A packet with its name in its payload.
pub(crate) fn named_packet(
    id: u64,
    is_sync: bool,
    len: usize,
    (seq, ts, ssrc): (u16, u32, u32),
) -> Vec<u8> {
    let mut bytes = crate::live::core::batch::tests::packet(seq, ts, ssrc, len);
    bytes[12..20].copy_from_slice(&id.to_be_bytes());
    bytes[20] = u8::from(is_sync);
    bytes
}

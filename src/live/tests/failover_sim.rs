//! A simulation of fail-over: two shards, three sources of a path, a reader on each shard.
//!
//! ```text
//!  encoders of live/a, live/b, live/c --packets--> shards 0 and 1 --messages, some lost--> relay
//!  seed: deaths, silence, returns, switches by an operator, lost messages, between any two turns
//! ```
//! Checked of what the readers are sent: no number is missing or comes twice, and time never goes
//! back. Checked of what the shard of the path's owner has for them: the same, the first picture
//! behind a change of the source is a key frame, and two changes are `switch_interval` apart. (The
//! other shard may miss what was sent before a lost message is repeated.) At the end all sources
//! send, and the best one feeds the path. One seed is one run:
//!
//! ```text
//!  HEADEND_SIM_SEED=7 cargo test --lib failover_sim
//! ```

use super::fallback::{SETS_A, sdp};
use super::*;
use crate::base::time::Mono;
use crate::live::core::failover::{SwitchReply, SwitchRequest, SwitchTo, Timing};
use crate::live::core::message::{LiveMessage, owner_of};

const TEXT: &str = "[path.\"live/a\"]\nfallback = [\"live/b\", \"live/c\"]\nreturn_after = \"1s\"\n\
    switch_interval = \"400ms\"\nsource_timeout = \"600ms\"\nhold = \"100s\"\nstandby = true\n";
const PATHS: [&str; 3] = ["live/a", "live/b", "live/c"];
const INTERVAL: Duration = Duration::from_millis(400);
const FRAME: Duration = Duration::from_millis(40);
const GROUP: u32 = 8;

/// Chance, from a seed (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, count: u64) -> u64 {
        self.roll() % count
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn place(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).unwrap()
    }
}

/// A publisher of one of the paths.
struct Encoder {
    path: usize,
    shard: usize,
    connection: u32,
    id: Option<SessionId>,
    /// Connected, and nothing comes from it.
    is_silent: bool,
    life: u8,
    seq: u16,
    ts: u32,
    frame: u32,
}

/// A packet as a shard has it for readers.
#[derive(Debug, Clone, Copy)]
struct Seen {
    seq: u16,
    ts: u32,
    ssrc: u32,
    unit: u8,
    /// Path of the encoder, and its life.
    origin: (u8, u8),
}

/// What is known of the readers of one shard.
#[derive(Default)]
struct Witness {
    cursor: u64,
    last: Option<Seen>,
    picture: Option<Seen>,
    switched: Option<Mono>,
    switches: usize,
    pictures: usize,
    /// Number and time of the packet that the reader was sent last.
    sent: Option<(u16, u32)>,
    sent_count: usize,
    session: Option<SessionId>,
}

struct World {
    seed: u64,
    dice: Dice,
    shards: Vec<Bench>,
    encoders: Vec<Encoder>,
    witnesses: Vec<Witness>,
    answers: Vec<std::sync::mpsc::Receiver<crate::live::core::failover::SwitchResult>>,
    /// Messages without packets are lost now.
    loses: bool,
    lost: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut shards: Vec<Bench> = (0..2).map(|_| Bench::new()).collect();
        for (number, bench) in (0..).zip(&mut shards) {
            bench.sessions.cx.shard = ShardId(number);
            bench.sessions.live.hub.shard_count = 2;
            bench.configure(TEXT);
        }
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let encoder = |path| Encoder {
            path,
            shard: dice.place(2),
            connection: 20 + u32::try_from(path).unwrap(),
            id: None,
            is_silent: false,
            life: 0,
            seq: u16::try_from(dice.below(1 << 16)).unwrap(),
            ts: 0,
            frame: 0,
        };
        let encoders = (0..PATHS.len()).map(encoder).collect();
        let (witnesses, answers) = ((0..2).map(|_| Witness::default()).collect(), Vec::new());
        Self { seed, dice, shards, encoders, witnesses, answers, loses: false, lost: 0 }
    }

    fn request(
        &mut self,
        (shard, connection): (usize, u32),
        method: Method,
        uri: &str,
        id: Option<SessionId>,
        content: (&[(&str, &str)], &str),
    ) -> Option<Response> {
        let client = Client {
            shard: ShardId(u8::try_from(shard).unwrap()),
            connection,
            peer: host(9, 40_000 + u16::try_from(connection).unwrap()),
        };
        let answer = self.shards[shard].send(client, method, uri, id, content);
        let is_mine = |(to, _): &(u32, Response)| *to == connection;
        // The owner is on the other shard: the answer comes with its messages.
        for _ in 0..4 {
            if answer.is_some() || self.shards[shard].answers.iter().any(is_mine) {
                break;
            }
            self.carry();
        }
        answer.or_else(|| {
            let place = self.shards[shard].answers.iter().position(is_mine)?;
            Some(self.shards[shard].answers.remove(place).1)
        })
    }

    /// Carries the messages between the shards.
    fn carry(&mut self) {
        for from in 0..2 {
            for (to, message) in std::mem::take(&mut self.shards[from].sessions.live.hub.outbox) {
                if self.loses && !message.is_packets() && self.dice.one_in(3) {
                    self.lost += 1;
                    continue;
                }
                let Sessions { live, cx, .. } = &mut self.shards[usize::from(to.0)].sessions;
                let message: LiveMessage = message;
                live.handle_live_message(cx, message);
            }
        }
        for bench in &mut self.shards {
            bench.settle();
        }
    }

    fn begin(&mut self, place: usize) {
        let Encoder { shard, id, .. } = self.encoders[place];
        let is_known = |id: SessionId| self.shards[shard].sessions.session_info(id).is_some();
        // The server may have ended one that was silent.
        self.encoders[place].id = id.filter(|id| is_known(*id));
        // Each try over a connection of its own: an answer may come late.
        self.encoders[place].connection += 10;
        let Encoder { path, shard, connection, id: None, .. } = self.encoders[place] else {
            self.encoders[place].is_silent = false;
            return;
        };
        let (from, url) = ((shard, connection), format!("rtsp://h/{}", PATHS[path]));
        let sdp = sdp(SETS_A);
        let announced = self.request(from, Method::Announce, &url, None, (&[], &sdp));
        if announced.is_none_or(|answer| answer.status().code() != 200) {
            // A message was lost, or the owner does not know yet that the one before has gone.
            self.shards[shard].sessions.handle_connection_closed(entry(connection));
            self.shards[shard].settle();
            return;
        }
        let port = 5_000 + 10 * u16::try_from(path).unwrap();
        let transport = format!("RTP/AVP/UDP;unicast;client_port={port}-{};mode=record", port + 1);
        let headers = [("Transport", transport.as_str())];
        let track = format!("{url}/streamid=0");
        let setup = self.request(from, Method::Setup, &track, None, (&headers, "")).unwrap();
        assert_eq!(setup.status().code(), 200, "seed {}: {setup:?} {}", self.seed, PATHS[path]);
        let id = Some(session_id(&setup));
        let recorded = self.request(from, Method::Record, &url, id, (&[], "")).unwrap();
        assert_eq!(recorded.status().code(), 200, "seed {}", self.seed);
        let start = u32::try_from(self.dice.below(1 << 32)).unwrap();
        let encoder = &mut self.encoders[place];
        encoder.life += 1;
        (encoder.id, encoder.is_silent) = (id, false);
        (encoder.ts, encoder.frame) = (start, 0);
    }

    fn end(&mut self, place: usize) {
        let Some(id) = self.encoders[place].id.take() else { return };
        let bench = &mut self.shards[self.encoders[place].shard];
        // An owner without news of it may have ended it.
        let _ = bench.sessions.end_session(id, "test");
        bench.settle();
    }

    fn send(&mut self, place: usize) {
        let encoder = &mut self.encoders[place];
        if encoder.id.is_none() {
            return;
        }
        encoder.ts = encoder.ts.wrapping_add(3_600);
        let (ts, seq, life) = (encoder.ts, encoder.seq, encoder.life);
        let unit = if encoder.frame.is_multiple_of(GROUP) { 0x65 } else { 0x41 };
        encoder.frame += 1;
        if encoder.is_silent {
            return;
        }
        encoder.seq = seq.wrapping_add(1);
        let ssrc = 1_000 * (u32::try_from(place).unwrap() + 1) + u32::from(life);
        let origin = u8::try_from(place).unwrap();
        let head = [&[0x80, 0x80 | 96][..], &seq.to_be_bytes(), &ts.to_be_bytes()].concat();
        let bytes = [&head[..], &ssrc.to_be_bytes(), &[unit, origin, life, 7]].concat();
        let from = host(9, 5_000 + 10 * u16::try_from(encoder.path).unwrap());
        let Sessions { live, cx, .. } = &mut self.shards[encoder.shard].sessions;
        live.sources.handle_rtp_datagram(cx, 0, from, &bytes);
    }

    fn switch(&mut self) {
        let to = match self.dice.below(4) {
            3 => SwitchTo::Auto,
            place => SwitchTo::Source(place.to_string()),
        };
        let timing = if self.dice.one_in(2) { Timing::Now } else { Timing::NextKeyFrame };
        let (answer, receiver) = std::sync::mpsc::channel();
        let reply = SwitchReply::new(move |result| drop(answer.send(result)));
        let owner = usize::from(owner_of(PATHS[0], 2).0);
        let Sessions { live, cx, .. } = &mut self.shards[owner].sessions;
        live.switch_path(cx, PATHS[0], SwitchRequest { to, timing }, reply);
        self.answers.push(receiver);
    }

    /// Something may happen: called between any two turns.
    fn event(&mut self) {
        let place = self.dice.place(PATHS.len());
        match self.dice.below(120) {
            0..=1 => self.end(place),
            2 => self.encoders[place].is_silent = true,
            3..=7 => self.begin(place),
            8..=10 => self.switch(),
            11 => self.loses = self.dice.one_in(3),
            _ => {}
        }
    }

    fn turn(&mut self) {
        for shard in 0..2 {
            let now = self.shards[shard].sessions.cx.now + FRAME;
            self.shards[shard].turn(now);
            self.carry();
            self.check_ring(shard);
            self.check_reader(shard);
        }
    }

    /// A frame's time.
    fn frame(&mut self, is_eventful: bool) {
        for place in 0..PATHS.len() {
            self.send(place);
            if is_eventful {
                self.event();
            }
        }
        self.turn();
    }

    fn read(&mut self) {
        let transport = [("Transport", "RTP/AVP;unicast;client_port=6000-6001")];
        for shard in 0..2 {
            let uri = "rtsp://h/live/a/trackID=0";
            let setup = self.request((shard, 2), Method::Setup, uri, None, (&transport, ""));
            let setup = setup.unwrap();
            assert_eq!(setup.status().code(), 200, "seed {}: shard {shard}", self.seed);
            let id = session_id(&setup);
            self.request((shard, 2), Method::Play, URL, Some(id), (&[], ""));
            self.witnesses[shard].session = Some(id);
        }
    }

    /// Signs of life of the readers.
    fn keep_alive(&mut self) {
        for shard in 0..2 {
            let id = self.witnesses[shard].session;
            self.request((shard, 2), Method::GetParameter, URL, id, (&[], ""));
        }
    }

    /// Looks at the packets that a shard has for its readers.
    fn check_ring(&mut self, shard: usize) {
        let (seed, now) = (self.seed, self.shards[shard].sessions.cx.now);
        let is_owner = usize::from(owner_of(PATHS[0], 2).0) == shard;
        let witness = &mut self.witnesses[shard];
        let Some(path) = self.shards[shard].sessions.live.hub.paths.path(PATHS[0]) else { return };
        let ring = path.ring();
        witness.cursor = witness.cursor.max(ring.first_no());
        while let Some(batch) = ring.batch(witness.cursor) {
            witness.cursor += 1;
            for packet in batch.runs_of(0).iter().flat_map(|run| batch.packets_of(run)) {
                let bytes = batch.packet_bytes(packet);
                let word =
                    |from: usize| u32::from_be_bytes(bytes[from..from + 4].try_into().unwrap());
                let seen = Seen {
                    seq: u16::from_be_bytes([bytes[2], bytes[3]]),
                    ts: word(4),
                    ssrc: word(8),
                    unit: bytes[12] & 0x1f,
                    origin: (bytes[13], bytes[14]),
                };
                if is_owner {
                    witness.note(seen, now, seed);
                } else if matches!(seen.unit, 1 | 5) {
                    (witness.picture, witness.pictures) = (Some(seen), witness.pictures + 1);
                }
            }
        }
    }

    /// Looks at the packets that the reader of a shard is sent.
    fn check_reader(&mut self, shard: usize) {
        let seed = self.seed;
        let runs = self.shards[shard].pump(usize::MAX);
        let witness = &mut self.witnesses[shard];
        for header in runs.iter().flat_map(|run| &run.packets) {
            let seq = u16::from_be_bytes([header[2], header[3]]);
            let ts = u32::from_be_bytes(header[4..8].try_into().unwrap());
            if let Some((before, earlier)) = witness.sent {
                assert_eq!(seq, before.wrapping_add(1), "seed {seed}: reader {shard}");
                let ahead = ts.wrapping_sub(earlier).cast_signed();
                assert!(ahead >= 0, "seed {seed}: reader {shard}: {ahead}");
            }
            witness.sent = Some((seq, ts));
            witness.sent_count += 1;
        }
        self.shards[shard].datagrams.clear();
    }
}

impl Witness {
    fn note(&mut self, seen: Seen, now: Mono, seed: u64) {
        if let Some(last) = self.last {
            assert_eq!(seen.ssrc, last.ssrc, "seed {seed}");
            assert_eq!(seen.seq, last.seq.wrapping_add(1), "seed {seed}: {last:?} {seen:?}");
            let ahead = seen.ts.wrapping_sub(last.ts).cast_signed();
            assert!(ahead >= 0, "seed {seed}: {last:?} {seen:?}");
        }
        self.last = Some(seen);
        if !matches!(seen.unit, 1 | 5) {
            return;
        }
        self.pictures += 1;
        if let Some(before) = self.picture.filter(|before| before.origin != seen.origin) {
            assert_eq!(seen.unit, 5, "seed {seed}: {before:?} {seen:?}");
            if before.origin.0 != seen.origin.0 {
                let early = self.switched.is_some_and(|at| now.since(at) < INTERVAL);
                assert!(!early, "seed {seed}: {before:?} {seen:?} too soon");
                (self.switched, self.switches) = (Some(now), self.switches + 1);
            }
        }
        self.picture = Some(seen);
    }
}

/// Plays a seed; the number of changes of the source, and of messages that were lost.
fn play(seed: u64) -> (usize, usize) {
    let mut world = World::new(seed);
    for place in 0..PATHS.len() {
        world.begin(place);
    }
    for _ in 0..50 {
        world.frame(false);
    }
    world.read();
    for _ in 0..500 {
        world.frame(true);
    }
    world.keep_alive();
    // All send again, and no operator has chosen.
    world.loses = false;
    world.switch();
    let mut before = Vec::new();
    // An owner that did not hear of the end of a publisher keeps the path for it for 30 s.
    for turn in 0..1_600 {
        if turn == 1_200 {
            before.extend(world.witnesses.iter().map(|witness| witness.pictures));
        }
        if turn % 25 == 0 {
            (0..PATHS.len()).for_each(|place| world.begin(place));
            world.keep_alive();
        }
        if turn == 0 {
            let owner = usize::from(owner_of(PATHS[0], 2).0);
            let Sessions { live, cx, .. } = &mut world.shards[owner].sessions;
            let request = SwitchRequest { to: SwitchTo::Auto, timing: Timing::Now };
            live.switch_path(cx, PATHS[0], request, SwitchReply::new(|_| {}));
        }
        world.frame(false);
    }
    for (number, answer) in world.answers.iter().enumerate() {
        let answers = answer.try_iter().count();
        assert_eq!(answers, 1, "seed {seed}: switch {number}");
    }
    for (shard, witness) in world.witnesses.iter().enumerate() {
        let picture = witness.picture.unwrap();
        assert_eq!(picture.origin.0, 0, "seed {seed}: shard {shard} ends with {picture:?}");
        let late = witness.pictures - before[shard];
        assert!(late > 380, "seed {seed}: {late} pictures of the last 400 on shard {shard}");
        assert!(witness.sent_count > 400, "seed {seed}: {} sent", witness.sent_count);
        let readers = &world.shards[shard].sessions.live.readers.table;
        assert_eq!(readers.len(), 1, "seed {seed}: the reader is still there");
    }
    (world.witnesses.iter().map(|witness| witness.switches).sum(), world.lost)
}

#[test]
fn readers_see_one_stream_whatever_happens_to_sources_and_messages() {
    let seeds = match option_env!("HEADEND_SIM_SEED").and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..=seed,
        None => 1..=12_u64,
    };
    let (mut switches, mut lost) = (0, 0);
    for seed in seeds {
        let (changes, messages) = play(seed);
        (switches, lost) = (switches + changes, lost + messages);
    }
    assert!(switches > 10 && lost > 10, "{switches} switches, {lost} messages lost");
}

#[test]
fn one_seed_is_one_run() {
    assert_eq!(play(3), play(3));
}

//! What a seed draws: shards, clients with their acts, the weather.

use super::client::{ACTS_MAX_NS, Act, End, Kind, Plan, SOUND, SOUND_AND_PICTURES};
use super::edges::Edges;
use super::network::Weather;
use super::node::{Room, Setup};
use crate::dice::{Dice, MS, S};

impl Weather {
    /// Nothing is lost, late or broken.
    pub(crate) fn fair() -> Self {
        Self {
            loss: 0,
            twice: 0,
            delay_us: (100, 300),
            again: 0,
            unreachable: 0,
            no_descriptor: 0,
            preempted: 0,
            frozen: 0,
            jumps: false,
            edges: Edges::NONE,
            slow: 0,
            failing: 0,
            short: 0,
            panicking: 0,
        }
    }

    /// No datagram is lost, or overtakes one that was sent some milliseconds before it.
    pub(crate) fn keeps_datagrams(&self) -> bool {
        self.loss == 0 && self.twice == 0 && self.delay_us.1 < 5_000
    }

    fn drawn(dice: &mut Dice) -> Self {
        let mut weather = Self::fair();
        if dice.chance(600) {
            weather.loss = dice.pick(&[0, 10, 100]);
            weather.twice = dice.pick(&[0, 20]);
            weather.delay_us = dice.pick(&[(100, 300), (1_000, 30_000), (20_000, 200_000)]);
        }
        if dice.chance(400) {
            weather.again = dice.pick(&[5, 50, 200]);
            weather.unreachable = dice.pick(&[0, 5, 50]);
            weather.no_descriptor = dice.pick(&[0, 200]);
            weather.preempted = dice.pick(&[0, 50]);
            weather.frozen = dice.pick(&[0, 0, 3]);
            weather.jumps = dice.chance(500);
        }
        if dice.chance(300) {
            weather.edges = Edges::drawn(dice);
        }
        if dice.chance(350) {
            weather.slow = dice.pick(&[20, 200]);
        }
        if dice.chance(200) {
            weather.failing = dice.pick(&[0, 40]);
            weather.short = dice.pick(&[0, 40]);
            weather.panicking = dice.pick(&[0, 40]);
        }
        weather
    }
}

impl Setup {
    /// The run of a seed.
    pub(crate) fn drawn(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x6e6f_6465);
        let weather = Weather::drawn(&mut dice);
        let shards = dice.pick(&[1, 2, 2, 3]);
        // Now and then more than the tables take.
        let count = if dice.chance(30) { dice.between(15, 30) } else { dice.between(1, 5) };
        let is_live = dice.chance(400);
        let clients: Vec<Plan> = (0..count).map(|_| drawn_plan(&mut dice, is_live)).collect();
        let operators = if dice.chance(250) { 3 } else { 0 };
        let stops_early = dice.chance(100).then(|| dice.ms(300, 4_000));
        let mut room = Room::USUAL;
        if dice.chance(300) {
            room = Room {
                runs: dice.pick(&[2, 4, 16]),
                buffers: dice.pick(&[1, 2, 8]),
                tasks: dice.pick(&[1, 2, 6]),
            };
        }
        Self {
            seed,
            shards,
            clients,
            weather,
            room,
            operators,
            stops_early,
            takeovers: Vec::new(),
            takeovers_fail: 0,
            has_fixed_ports: false,
            leaves: LEAVES_NS,
        }
    }

    /// The run of a seed in which processes with any number of shards take over from each other.
    pub(crate) fn with_takeovers(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x7461_6b65);
        let mut setup = Self::drawn(seed);
        setup.stops_early = None;
        setup.shards = 1 + dice.index(4);
        let count = dice.between(1, 4);
        setup.takeovers = (0..count)
            .map(|number| (dice.ms(200, 900) + 900 * number * MS, 1 + dice.index(4)))
            .collect();
        setup.takeovers_fail = 300;
        setup.has_fixed_ports = dice.chance(500);
        // What cannot be handed over is there now and then: then nothing is.
        if dice.chance(800) {
            setup.clients.retain(|plan| plan.path != "tv");
        }
        while setup.clients.len() < 3 {
            let (is_tcp, begins) = (dice.chance(450), dice.ms(1, 900));
            let acts = drawn_acts(&mut dice, "demo", is_tcp);
            let has_feedback = dice.chance(500);
            let ports = dice.chance(400).then_some(19_000);
            let host = 1;
            setup.clients.push(Plan {
                acts,
                is_tcp,
                begins,
                has_feedback,
                ports,
                host,
                ..player()
            });
        }
        if dice.chance(600) {
            setup.clients.extend(drawn_broadcast(&mut dice));
        }
        setup
    }

    /// One player of the clip on one shard, and nothing goes wrong.
    pub(crate) fn one_player(is_tcp: bool, acts: Vec<Act>) -> Self {
        let plan = Plan { acts, is_tcp, ..player() };
        Self {
            seed: 1,
            shards: 1,
            clients: vec![plan],
            weather: Weather::fair(),
            room: Room::USUAL,
            operators: 0,
            stops_early: None,
            takeovers: Vec::new(),
            takeovers_fail: 0,
            has_fixed_ports: false,
            leaves: LEAVES_NS,
        }
    }
}

/// A player of the clip over UDP that waits a second and ends in order.
pub(crate) fn player() -> Plan {
    Plan {
        kind: Kind::Player,
        path: "demo",
        sdp: SOUND,
        returns: 0,
        ports: None,
        is_tcp: false,
        has_feedback: false,
        begins: MS,
        acts: vec![Act::Wait(1_000)],
        end: End::Teardown,
        host: 1,
    }
}

fn drawn_plan(dice: &mut Dice, is_live: bool) -> Plan {
    let begins = dice.ms(1, 1_500);
    let kind = match dice.index(12) {
        0 => Kind::Stranger,
        1..=4 if is_live => Kind::Publisher,
        _ => Kind::Player,
    };
    let reads_live = is_live && dice.chance(600);
    let of_titles = dice.pick(&["demo", "demo", "vod/film.mp4", "tv"]);
    let path = if kind == Kind::Publisher || reads_live { "live/a" } else { of_titles };
    let is_tcp = dice.chance(450);
    let has_feedback = kind == Kind::Player && dice.chance(250);
    let acts = match kind {
        Kind::Publisher => vec![Act::Wait(0); 1 + dice.index(3)],
        Kind::Player | Kind::Stranger => drawn_acts(dice, path, is_tcp),
    };
    let end = dice.pick(&[End::Teardown, End::Teardown, End::Close, End::Vanish, End::Silence]);
    let host = u8::try_from(1 + dice.index(4)).expect("few");
    let sdp = dice.pick(&[SOUND, SOUND_AND_PICTURES]);
    let ports = (kind == Kind::Player && dice.chance(250)).then_some(19_000);
    let returns = dice.pick(&[0, 0, 1, 2]);
    Plan { kind, path, sdp, is_tcp, has_feedback, begins, acts, end, returns, ports, host }
}

/// A publisher that sends for some seconds, with readers.
fn drawn_broadcast(dice: &mut Dice) -> Vec<Plan> {
    let publisher = Plan {
        kind: Kind::Publisher,
        path: "live/a",
        sdp: dice.pick(&[SOUND, SOUND_AND_PICTURES]),
        is_tcp: dice.chance(500),
        begins: dice.ms(1, 300),
        acts: vec![Act::Wait(0); 2 + dice.index(4)],
        host: 5,
        ..player()
    };
    let mut plans = vec![publisher];
    for _ in 0..dice.between(1, 4) {
        let (is_tcp, begins) = (dice.chance(500), dice.ms(200, 1_200));
        let mut acts = drawn_acts(dice, "live/a", is_tcp);
        acts.push(Act::Wait(dice.between(0, 3_000)));
        let (has_feedback, host) = (dice.chance(300), 6);
        plans.push(Plan { path: "live/a", is_tcp, has_feedback, begins, acts, host, ..player() });
    }
    plans
}

fn drawn_acts(dice: &mut Dice, path: &str, is_tcp: bool) -> Vec<Act> {
    let is_title = !path.starts_with("live/");
    let mut acts = Vec::new();
    for _ in 0..dice.between(1, 7) {
        acts.push(Act::Wait(dice.between(0, 400)));
        if path == "tv" && dice.chance(500) {
            acts.push(Act::Tune(dice.pick(&[1, 2, 2, 3])));
            continue;
        }
        acts.push(match dice.index(12) {
            0 => Act::Pause,
            1 | 2 => Act::Resume,
            3 | 4 if is_title => Act::Seek(dice.between(0, 21_000) as f64 / 1_000.0),
            5 if is_title => Act::Scale(dice.pick(&[0.5, 2.0, 4.0, -2.0, 1.0])),
            6 if is_title => Act::Pipeline,
            7 => Act::PauseElsewhere,
            8 if is_tcp => Act::Deaf(dice.between(100, 2_500)),
            9 => Act::Report(dice.pick(&[0, 10, 120])),
            10 => Act::Nack(1),
            _ => Act::KeepAlive,
        });
    }
    acts
}

/// Clients have done what they wanted by then, as a rule.
const LEAVES_NS: u64 = ACTS_MAX_NS;

const _: () = assert!(LEAVES_NS >= S);

//! A path whose owner is on another shard: in whatever order SETUP requests, the owner's answers
//! and time come, members are told the group that the owner sends to.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::live::core::description::{Description, LiveTrack};
use crate::live::core::groups::{GroupPool, MulticastSettings};
use crate::live::core::message::{
    LiveMessage, Notification, OwnerRequest, SourceRef, ToOwner, owner_of,
};
use crate::live::core::registry::{Effect, Registry};
use crate::session::transport::Transport;

#[derive(Debug, Clone, Copy)]
enum Step {
    Setup,
    /// The oldest member leaves.
    Leave,
    /// Time passes until a renewal.
    Pass,
    AskArrives,
    AnswerArrives,
    /// Time passes until the lease is over.
    HomeForgets,
}

struct World {
    bench: Bench,
    owner: Registry,
    path: Arc<str>,
    requests: VecDeque<ToOwner>,
    notes: VecDeque<Notification>,
    /// The client of the next SETUP.
    client: u8,
}

const OWN: ShardId = ShardId(1);

impl World {
    fn new() -> Self {
        let mut bench = Bench::new();
        bench.sessions.cx.shard = OWN;
        bench.sessions.live.hub.shard_count = 2;
        let range = (Ipv4Addr::new(239, 255, 0, 0), 24);
        let settings = MulticastSettings { range, ..MulticastSettings::default() };
        bench.sessions.live.offer_groups(settings, OWN).unwrap();
        let name = (0..).map(|n| format!("live/{n}")).find(|name| owner_of(name, 2) == ShardId(0));
        let groups = GroupPool::new(range, (8_002, 8), ShardId(0), 2).unwrap();
        let mut world = Self {
            bench,
            owner: Registry::new(Some(groups)),
            path: name.unwrap().into(),
            requests: VecDeque::new(),
            notes: VecDeque::new(),
            client: 10,
        };
        let track = LiveTrack {
            clock_rate_hz: 8_000,
            payload_types: vec![0],
            needs_sync: false,
            identity: "a".into(),
        };
        let description = Arc::new(Description::new(SDP.into(), vec![track]).unwrap());
        let (source, rules) = (SourceRef { shard: ShardId(0), number: 1 }, Arc::default());
        world.tell(OwnerRequest::Claim { source, description, is_pulled: false, rules });
        world
    }

    /// Passes messages to the owner, and keeps the owner's messages to the shard.
    fn tell(&mut self, request: OwnerRequest) {
        let path = Arc::clone(&self.path);
        self.owner.handle(ToOwner { path, request }, self.bench.sessions.cx.now);
        for effect in self.owner.out.drain(..) {
            if let Effect::Notify { shard: OWN, notification, .. } = effect {
                self.notes.push_back(notification);
            }
        }
    }

    fn settle(&mut self) {
        self.bench.settle();
        for (_, message) in std::mem::take(&mut self.bench.sessions.live.hub.outbox) {
            if let LiveMessage::ToOwner(message) = message {
                self.requests.push_back(message);
            }
        }
    }

    fn members(&self) -> Vec<(SessionId, Ipv4Addr)> {
        let readers = self.bench.sessions.live.readers.table.iter();
        let group = |path| match path {
            Transport::Group { rtp: SocketAddr::V4(rtp), .. } => *rtp.ip(),
            other => panic!("{other:?}"),
        };
        readers
            .map(|(_, reader)| (reader.client.id, group(reader.streams[0].outgoing.transport)))
            .collect()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Setup => {
                let uri = format!("rtsp://h/{}/trackID=0", self.path);
                let from = (u32::from(self.client), host(self.client, 40_001));
                let transport = [("Transport", "RTP/AVP;multicast")];
                self.client += 1;
                self.bench.request(from, Method::Setup, &uri, None, (&transport, ""));
            }
            Step::Leave => {
                if let Some((id, _)) = self.members().first() {
                    let uri = format!("rtsp://h/{}", self.path);
                    let from = (9, host(9, 40_001));
                    self.bench.request(from, Method::Teardown, &uri, Some(*id), (&[], ""));
                }
            }
            Step::Pass => self.bench.pass(Duration::from_secs(6)),
            Step::AskArrives => {
                if let Some(message) = self.requests.pop_front() {
                    self.tell(message.request);
                }
            }
            Step::AnswerArrives => {
                if let Some(notification) = self.notes.pop_front() {
                    let path = Arc::clone(&self.path);
                    let Sessions { cx, live, .. } = &mut self.bench.sessions;
                    live.handle_live_message(cx, LiveMessage::ToShard { path, notification });
                }
            }
            Step::HomeForgets => self.tell(OwnerRequest::LeaveGroup { shard: OWN }),
        }
        self.settle();
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Setup),
        3 => Just(Step::Leave),
        2 => Just(Step::Pass),
        6 => Just(Step::AskArrives),
        6 => Just(Step::AnswerArrives),
        1 => Just(Step::HomeForgets),
    ]
}

proptest! {
    #[test]
    fn members_are_answered_with_the_group_of_the_paths_owner(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        // A renewal, and everything arrives.
        world.step(Step::Pass);
        for _ in 0..200 {
            world.step(Step::AskArrives);
            world.step(Step::AnswerArrives);
        }
        prop_assert!(world.requests.is_empty() && world.notes.is_empty());
        let sent_to = world.owner.infos().first().and_then(|info| info.group.clone());
        for (id, told) in world.members() {
            prop_assert_eq!(Some(told.to_string()), sent_to.clone(), "{:?}", id);
        }
    }
}

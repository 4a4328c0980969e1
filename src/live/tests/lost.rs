//! Three shards with lost messages between them: an owner, publishers and readers elsewhere.
//! Whichever messages are lost, the path is passed on and read in the end, and nothing is left
//! behind.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::live::core::message::{LiveMessage, owner_of};

struct Net {
    shards: Vec<Sessions>,
    wire: VecDeque<(usize, LiveMessage)>,
    answers: Vec<(usize, u32, Response)>,
    /// Number of control messages so far.
    sent: usize,
    /// Numbers of the messages that are lost.
    lost: Box<dyn Fn(usize) -> bool>,
    has_lost: bool,
    uri: String,
    seq: u16,
}

const HOME: usize = 0;
const FIRST: usize = 1;
const SECOND: usize = 2;

impl Net {
    fn new(lost: impl Fn(usize) -> bool + 'static) -> Self {
        let path = (0..).map(|n| format!("live/{n}")).find(|path| owner_of(path, 3) == ShardId(0));
        let shard = |number: u8| {
            let mut sessions = Bench::new().sessions;
            sessions.cx.shard = ShardId(number);
            sessions.live.hub.shard_count = 3;
            sessions
        };
        Self {
            shards: (0..3).map(shard).collect(),
            wire: VecDeque::new(),
            answers: Vec::new(),
            sent: 0,
            lost: Box::new(lost),
            has_lost: false,
            uri: format!("rtsp://h/{}", path.unwrap()),
            seq: 0,
        }
    }

    fn path(&self) -> &str {
        self.uri.strip_prefix("rtsp://h/").unwrap()
    }

    /// Delivers messages and carries out actions.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            for at in 0..self.shards.len() {
                let Sessions { cx, live, .. } = &mut self.shards[at];
                live.settle_live(cx);
                for action in std::mem::take(&mut self.shards[at].cx.out) {
                    match action {
                        Action::Respond { reply_to, response } => {
                            self.answers.push((at, reply_to.entry.index, response));
                        }
                        Action::Execute(command) => self.execute(at, *command),
                        _ => {}
                    }
                }
                for (to, message) in std::mem::take(&mut self.shards[at].live.hub.outbox) {
                    let is_control = !message.is_packets();
                    self.sent += usize::from(is_control);
                    if is_control && (self.lost)(self.sent) {
                        self.has_lost = true;
                    } else {
                        self.wire.push_back((usize::from(to.0), message));
                    }
                }
            }
            let Some((to, message)) = self.wire.pop_front() else { return };
            let Sessions { cx, live, .. } = &mut self.shards[to];
            live.handle_live_message(cx, message);
        }
        panic!("the shards talk without end");
    }

    fn execute(&mut self, at: usize, command: Command) {
        let entry = command.reply_to.entry.index;
        match self.shards[at].execute(command) {
            Executed::Reply(response) => self.answers.push((at, entry, response)),
            Executed::Later => {}
            Executed::NeedsPair(_) => panic!("one pair is enough"),
        }
    }

    /// Lets a second pass; publishers on these shards may send packets.
    fn second(&mut self, publisher: Option<usize>) {
        for _ in 0..4 {
            if let Some(at) = publisher {
                self.seq = self.seq.wrapping_add(1);
                let Sessions { cx, live, .. } = &mut self.shards[at];
                live.sources.handle_rtp_datagram(cx, 0, host(1, 5_000), &rtp(self.seq));
            }
            let mut due = Vec::new();
            for shard in &mut self.shards {
                shard.cx.now = shard.cx.now + Duration::from_millis(250);
                shard.cx.wheel.expire(shard.cx.now, &mut due);
                due.drain(..).for_each(|key| shard.handle_timer(key));
                shard.live.feed_live(&mut shard.cx);
            }
            self.settle();
        }
    }

    /// A request and its answer, which may come late.
    fn ask(
        &mut self,
        at: usize,
        connection: u32,
        method: &Method,
        (uri, session): (&str, Option<SessionId>),
        publisher: Option<usize>,
    ) -> Response {
        let port = if matches!(connection, 1 | 2) { 5_000 } else { 6_000 + 2 * connection };
        let transport = format!("RTP/AVP/UDP;unicast;client_port={port}-{}", port + 1);
        let shard = self.shards[at].cx.shard;
        let client = Client { shard, connection, peer: host(1, 40_000) };
        let headers = [("Transport", transport.as_str())];
        let command = command(client, method.clone(), uri, session, (&headers, SDP));
        self.execute(at, command);
        self.settle();
        for _ in 0..SECONDS_MAX {
            let is_answer =
                |(to, entry, _): &(usize, u32, Response)| (*to, *entry) == (at, connection);
            if let Some(place) = self.answers.iter().position(is_answer) {
                return self.answers.remove(place).2;
            }
            self.second(publisher);
        }
        panic!("{method:?} on shard {at} is not answered");
    }

    /// Repeats a request until it is granted.
    fn insist(
        &mut self,
        at: usize,
        connection: u32,
        method: &Method,
        uri: &str,
        publisher: Option<usize>,
    ) -> Response {
        for _ in 0..SECONDS_MAX {
            let answer = self.ask(at, connection, method, (uri, None), publisher);
            if answer.status() == Status::Ok {
                return answer;
            }
            self.second(publisher);
        }
        panic!("{method:?} on shard {at} is refused for good");
    }

    /// ANNOUNCE, SETUP, RECORD.
    fn publish(&mut self, at: usize, connection: u32) -> SessionId {
        let uri = self.uri.clone();
        self.insist(at, connection, &Method::Announce, &uri, None);
        let track = format!("{uri}/streamid=0");
        let setup = self.ask(at, connection, &Method::Setup, (&track, None), None);
        let id = session_id(&setup);
        let answer = self.ask(at, connection, &Method::Record, (&uri, Some(id)), None);
        assert_eq!(answer.status(), Status::Ok);
        id
    }

    /// SETUP and PLAY.
    fn read(&mut self, at: usize, connection: u32, publisher: usize) -> SessionId {
        let uri = self.uri.clone();
        let track = format!("{uri}/trackID=0");
        let setup = self.insist(at, connection, &Method::Setup, &track, Some(publisher));
        let id = session_id(&setup);
        self.ask(at, connection, &Method::Play, (&uri, Some(id)), Some(publisher));
        id
    }

    fn leave(&mut self, at: usize, connection: u32, id: SessionId) {
        let uri = self.uri.clone();
        self.ask(at, connection, &Method::Teardown, (&uri, Some(id)), None);
    }

    /// Whether a session on a shard gets packets in the end. The session may have ended instead,
    /// but not if every message has arrived.
    fn is_settled(&mut self, at: usize, reader: SessionId, publisher: usize) -> bool {
        let path = self.path().to_owned();
        let end =
            |net: &Self| net.shards[at].live.hub.paths.path(&path).map(|path| path.ring().end_no());
        (0..SECONDS_MAX).any(|_| {
            let before = end(self);
            self.second(Some(publisher));
            let is_gone = self.shards[at].cx.directory.find(reader).is_none();
            if is_gone { self.has_lost } else { before.is_some() && end(self) > before }
        })
    }
}

/// The last of 80 lost messages is repeated after 8 s at most, as is each before it.
const SECONDS_MAX: usize = 80 * 8 + 60;

/// One source publishes and leaves, another takes the path, readers come and go. Returns the number
/// of control messages.
fn live(lost: impl Fn(usize) -> bool + 'static) -> usize {
    let mut net = Net::new(lost);
    let one = net.publish(FIRST, 1);
    let reader = net.read(SECOND, 3, FIRST);
    (0..3).for_each(|_| net.second(Some(FIRST)));
    net.leave(FIRST, 1, one);
    let two = net.publish(SECOND, 2);
    let other = net.read(FIRST, 4, SECOND);
    (0..8).for_each(|_| net.second(Some(SECOND)));
    let path = net.path().to_owned();
    let owner = net.shards[HOME].live.hub.registry.info(&path).unwrap();
    assert_eq!((owner.state, owner.source_shard), ("live", Some(2)));
    assert!(net.is_settled(FIRST, other, SECOND), "who reads on the other shard");
    assert!(net.is_settled(SECOND, reader, SECOND), "who has read from the beginning");
    net.leave(SECOND, 3, reader);
    net.leave(FIRST, 4, other);
    net.leave(SECOND, 2, two);
    (0..120).for_each(|_| net.second(None));
    for shard in &net.shards {
        assert_eq!((shard.cx.session_count(), shard.live.readers.held.len()), (0, 0));
        assert_eq!(shard.live.hub.registry.count(), 0, "nobody needs a path");
        assert!(!shard.live.hub.paths.has_work());
    }
    net.sent
}

#[test]
fn loss_of_any_one_message_between_shards_is_repaired() {
    let sent = live(|_| false);
    assert!(sent > 20, "{sent}");
    for at in 1..=sent {
        live(move |number| number == at);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn loss_of_many_messages_between_shards_is_repaired(
        lost in prop::collection::vec(prop::bool::weighted(0.3), 80),
    ) {
        live(move |number| lost.get(number).copied().unwrap_or(false));
    }
}

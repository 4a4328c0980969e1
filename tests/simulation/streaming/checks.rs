//! What must hold in every run, looked at where the shards' bytes leave for the network.
//!
//! ```text
//!  send on a connection --> answers: each once, in order, in time    frames --.
//!  datagrams ---------------------------------------------------------------> packets of streams
//! ```
//! | rule | looked at |
//! |---|---|
//! | a request is answered once, in order, and in time | each answer; each look |
//! | numbers of a stream have no gap; the first after PLAY is the one of RTP-Info | each packet |
//! | RTP time follows the clock: no packet before its time; sound never goes back | each packet |
//! | nothing after the answer to PAUSE and TEARDOWN, nor after BYE | each packet |
//! | a stream that plays gets packets, of a live path while somebody publishes there | each look |
//! | what is published comes to readers without a gap, unless they are late | each packet |
//! | the server hangs up on nobody who plays or publishes | each close |
//! | queues keep their bounds; entries are not suspended for long | each look: `world` |
//! | a shard neither sleeps on work nor spins without | each event: `world` |
//! | nothing is left when all have gone | at the end: `world` |

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use super::network::ConnId;
use super::wire::{Answer, Made, Part, Parts, Rtp, at_port, has_bye};
use crate::dice::{MS, S};

/// What was asked, and what the answer says of it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) cseq: u32,
    pub(crate) method: Method,
    pub(crate) session: Option<String>,
    pub(crate) at: u64,
    /// Asks for another rate: then streams may be silent for long.
    pub(crate) is_scaled: bool,
    /// Of SETUP: its URL, the stream's clock rate, and whether packets may be sent again.
    pub(crate) track: Option<Track>,
}

/// A track that is set up.
#[derive(Debug, Clone)]
pub(crate) struct Track {
    pub(crate) url: String,
    pub(crate) rate: u32,
    /// Of a title, whose times are known.
    pub(crate) is_title: bool,
    /// The server makes the packets, of a title or a line-up of titles.
    pub(crate) is_own: bool,
    pub(crate) has_feedback: bool,
    pub(crate) is_published: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Setup,
    Play,
    Pause,
    Teardown,
    /// SET_PARAMETER: a line-up that tunes plays.
    Tune,
    Record,
    Other,
}

/// All that is watched.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    talks: BTreeMap<ConnId, Talk>,
    sessions: BTreeMap<String, Session>,
    /// By the server's RTP port and the client's: clients behind one NAT may have the same.
    by_address: BTreeMap<(u16, SocketAddr), (String, usize)>,
    by_channel: BTreeMap<(ConnId, u8), (String, usize)>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// The longest time that a disk or worker of this run takes.
    pub(crate) patience: u64,
    /// Publishers' packets arrive whole and in order.
    pub(crate) is_live_whole: bool,
    /// When each packet was published.
    published: BTreeMap<(Made, bool), u64>,
    /// When each run of a publisher began to send, and when it last did.
    feeds: BTreeMap<u32, (u64, u64)>,
    /// The server is stopping, or operators end sessions: those may end of themselves.
    pub(crate) is_rough: bool,
}

#[derive(Debug, Default)]
struct Talk {
    from: Option<SocketAddr>,
    asked: VecDeque<Asked>,
    parts: Parts,
    /// Since when the client reads, and cannot be the reason that something is late.
    reads_since: Option<u64>,
    has_left: bool,
    /// The client sends what is no request: answers cannot be told.
    is_garbled: bool,
    /// Its newest request.
    heard: u64,
}

#[derive(Debug)]
struct Session {
    conn: ConnId,
    streams: Vec<Stream>,
    state: State,
    /// PLAYs that are asked for and not answered.
    plays: u32,
    /// PAUSEs and TEARDOWNs likewise.
    stops: u32,
    /// Nobody can say when a packet must come.
    is_unsteady: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Playing,
    Over,
}

#[derive(Debug)]
struct Stream {
    track: Track,
    ssrc: Option<u32>,
    /// Where its RTCP goes to.
    last: Option<u16>,
    /// Packets that the socket refused: they are sent again, or are lost with their numbers.
    refused: u16,
    epoch: Option<Epoch>,
    newest_ts: Option<u32>,
    last_at: u64,
    has_bye: bool,
    is_interleaved: bool,
    /// The newest packet of a publisher that was sent.
    made: Option<Made>,
    /// The next packet is the next one that was published.
    follows: bool,
    /// Packets before the answer to a PLAY that is waited for.
    early: Vec<(u64, Rtp)>,
}

/// What the answer to a PLAY says of a stream.
#[derive(Debug, Clone, Copy)]
struct Epoch {
    at: u64,
    ts: Option<u32>,
}

impl Watch {
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(crate) fn connection(&mut self, conn: ConnId, from: SocketAddr, now: u64) {
        let talk = self.talks.entry(conn).or_default();
        (talk.from, talk.reads_since) = (Some(from), Some(now));
    }

    pub(crate) fn connection_left(&mut self, conn: ConnId) {
        if let Some(talk) = self.talks.get_mut(&conn) {
            talk.has_left = true;
            talk.asked.clear();
        }
    }

    /// The server closes a connection.
    ///
    /// # Panics
    /// Its client plays or publishes, and has not been silent.
    pub(crate) fn closed_by_server(&mut self, conn: ConnId, now: u64) {
        let talk = self
            .talks
            .get(&conn)
            .filter(|talk| !talk.has_left && !talk.is_garbled && talk.reads_since.is_some());
        // Where a check has failed, shards are dropped with all their connections.
        let is_smooth = !self.is_rough && !std::thread::panicking();
        if let Some(talk) = talk.filter(|_| is_smooth) {
            let fed = self.feeds.values().map(|(_, last)| *last).max().unwrap_or(0);
            for (id, session) in self.sessions.iter().filter(|(_, session)| session.conn == conn) {
                let is_published = session.streams.iter().any(|s| s.track.is_published);
                let sign = if is_published { talk.heard.max(fed) } else { talk.heard };
                let is_still = session.state == State::Playing && session.stops == 0;
                let has_bye = session.streams.iter().any(|stream| stream.has_bye);
                assert!(
                    !is_still || has_bye || session.is_unsteady || now - sign > SILENT_NS,
                    "the server closes connection {conn} while session {id} is under way"
                );
            }
        }
        self.connection_left(conn);
    }

    /// A publisher sends a packet.
    pub(crate) fn published(&mut self, made: Made, is_sound: bool, now: u64) {
        self.published.insert((made, is_sound), now);
        self.feeds.entry(made.run).or_insert((now, now)).1 = now;
    }

    pub(crate) fn connection_reads(&mut self, conn: ConnId, reads: bool, now: u64) {
        if let Some(talk) = self.talks.get_mut(&conn) {
            talk.reads_since = reads.then_some(now);
        }
    }

    pub(crate) fn garbled(&mut self, conn: ConnId) {
        if let Some(talk) = self.talks.get_mut(&conn) {
            talk.is_garbled = true;
            talk.asked.clear();
        }
    }

    pub(crate) fn request(&mut self, conn: ConnId, asked: Asked) {
        if let Some(session) = asked.session.as_ref().and_then(|id| self.sessions.get_mut(id)) {
            match asked.method {
                Method::Play | Method::Tune => session.plays += 1,
                Method::Pause | Method::Teardown => session.stops += 1,
                Method::Setup | Method::Record | Method::Other => {}
            }
        }
        let talk = self.talks.entry(conn).or_default();
        talk.heard = asked.at;
        if !talk.has_left && !talk.is_garbled {
            talk.asked.push_back(asked);
        }
    }

    /// Bytes that a shard sends on a connection.
    pub(crate) fn stream(&mut self, now: u64, conn: ConnId, bytes: &[u8]) {
        let talk = self.talks.entry(conn).or_default();
        if talk.is_garbled {
            // Answers to HTTP may be among them.
            return self.count("answer.garbled");
        }
        let mut parts = std::mem::take(&mut talk.parts);
        parts.push(bytes);
        while let Some(part) = parts.next() {
            match part {
                Part::Answer(answer) => self.answer(now, conn, &answer),
                Part::Frame(channel, bytes) => self.frame(now, (conn, channel), &bytes),
            }
        }
        self.talks.entry(conn).or_default().parts = parts;
    }

    fn answer(&mut self, now: u64, conn: ConnId, answer: &Answer) {
        self.count("answer");
        let talk = self.talks.entry(conn).or_default();
        if talk.has_left {
            return;
        }
        let Some(asked) = talk.asked.pop_front() else {
            panic!("connection {conn} gets an answer to nothing: {answer:?}");
        };
        assert_eq!(
            answer.cseq,
            Some(asked.cseq),
            "connection {conn}: the answer {answer:?} is not the one to {asked:?}"
        );
        let from = talk.from;
        let is_ok = answer.status == 200;
        self.count(if is_ok { "answer.ok" } else { "answer.refused" });
        if let Some(session) = asked.session.as_ref().and_then(|id| self.sessions.get_mut(id)) {
            match asked.method {
                Method::Play | Method::Tune => session.plays -= 1,
                Method::Pause | Method::Teardown => session.stops -= 1,
                Method::Setup | Method::Record | Method::Other => {}
            }
            // A session over TCP is not shown to other connections.
            if answer.status == 454 && session.conn == conn {
                session.state = State::Over;
            }
        }
        if !is_ok {
            return;
        }
        match asked.method {
            Method::Setup => self.set_up(conn, from, &asked, answer),
            Method::Play => self.played(now, &asked, answer),
            Method::Tune => self.tuned(now, &asked, answer),
            Method::Pause => self.set_state(&asked, State::Ready),
            Method::Teardown => self.set_state(&asked, State::Over),
            Method::Record => self.set_state(&asked, State::Playing),
            Method::Other => {}
        }
    }

    fn set_up(&mut self, conn: ConnId, from: Option<SocketAddr>, asked: &Asked, answer: &Answer) {
        let (Some(id), Some(track)) = (answer.session(), asked.track.clone()) else {
            panic!("SETUP is answered without a session: {answer:?}");
        };
        let ssrc = answer.transport("ssrc").and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let session = self.sessions.entry(id.to_owned()).or_insert_with(|| Session {
            conn,
            streams: Vec::new(),
            state: State::Ready,
            plays: 0,
            stops: 0,
            is_unsteady: false,
        });
        let place = (id.to_owned(), session.streams.len());
        session.streams.push(Stream {
            track,
            ssrc,
            last: None,
            refused: 0,
            epoch: None,
            newest_ts: None,
            last_at: 0,
            has_bye: false,
            made: None,
            follows: false,
            is_interleaved: answer.transport("interleaved").is_some(),
            early: Vec::new(),
        });
        if let Some(channels) = answer.transport("interleaved") {
            let channel = channels.split('-').next().and_then(|text| text.parse().ok());
            self.by_channel.insert((conn, channel.expect("a channel")), place);
        } else if let (Some(ports), Some(from)) = (answer.transport("client_port"), from) {
            let first = |ports: &str| ports.split('-').next().and_then(|text| text.parse().ok());
            let server = answer.transport("server_port").and_then(first).expect("a port");
            let to = at_port(from, first(ports).expect("a port"));
            self.by_address.insert((server, to), place);
        }
    }

    fn played(&mut self, now: u64, asked: &Asked, answer: &Answer) {
        let Some(session) = asked.session.as_ref().and_then(|id| self.sessions.get_mut(id)) else {
            return;
        };
        session.state = State::Playing;
        session.is_unsteady |= asked.is_scaled;
        let is_last = session.plays == 0;
        for (url, seq, ts) in answer.rtp_info() {
            let Some(stream) = session.streams.iter_mut().find(|s| s.track.url == url) else {
                panic!("RTP-Info has {url}, which was not set up: {answer:?}");
            };
            let early = stream.early.clone();
            if is_last {
                stream.early.clear();
            }
            if let Some(seq) = seq.filter(|_| stream.track.is_title && is_last) {
                let next = stream.last.map(|last| last.wrapping_add(1));
                let is_among = early.iter().any(|(_, rtp)| rtp.seq == seq);
                let is_next = next.is_none_or(|next| seq.wrapping_sub(next) <= stream.refused);
                assert!(
                    is_next || is_among,
                    "RTP-Info says that {url} goes on at {seq}, but it does at {next:?}"
                );
                if !is_among {
                    (stream.last, stream.refused) = (Some(seq.wrapping_sub(1)), 0);
                }
            }
            let of_new = |(at, rtp): &(u64, Rtp)| {
                let is_new = seq.is_some_and(|seq| rtp.seq.wrapping_sub(seq) < 1 << 15);
                is_new.then_some(*at)
            };
            // An answer may wait for the frames before it on its connection: the clock of its
            // streams may run since the request.
            let known = if stream.is_interleaved { asked.at } else { now };
            let at = early.iter().find_map(of_new).unwrap_or(known).min(known);
            stream.epoch = Some(Epoch { at, ts });
            stream.has_bye = false;
            stream.last_at = now;
        }
        // It may begin elsewhere.
        session.streams.iter_mut().for_each(|stream| stream.follows = false);
        self.count("played");
    }

    fn tuned(&mut self, now: u64, asked: &Asked, answer: &Answer) {
        let session = asked.session.as_ref().and_then(|id| self.sessions.get_mut(id));
        let Some(session) = session.filter(|_| answer.body.contains("tuned to")) else { return };
        session.state = State::Playing;
        for stream in &mut session.streams {
            (stream.epoch, stream.has_bye, stream.last_at) = (None, false, now);
            stream.early.clear();
        }
        self.count("tuned");
    }

    /// An operator tunes a session of a line-up: what it plays from now on, its client did not ask
    /// for.
    pub(crate) fn tuned_by_operator(&mut self, id: &str) {
        let session = self.sessions.get_mut(id);
        let is_tv = |session: &&mut Session| session.streams.iter().any(|s| !s.track.is_title);
        if let Some(session) = session.filter(is_tv) {
            session.plays += 1;
            self.count("operator.tuned");
        }
    }

    fn set_state(&mut self, asked: &Asked, state: State) {
        let Some(session) = asked.session.as_ref().and_then(|id| self.sessions.get_mut(id)) else {
            return;
        };
        session.state = state;
        self.count(match state {
            State::Over => "torn down",
            State::Ready => "paused",
            State::Playing => "recorded",
        });
    }

    fn frame(&mut self, now: u64, (conn, channel): (ConnId, u8), bytes: &[u8]) {
        let even = channel & !1;
        let Some((id, index)) = self.by_channel.get(&(conn, even)).cloned() else {
            panic!("connection {conn} gets a frame on channel {channel}, which nobody set up");
        };
        if channel == even {
            self.packet(now, &id, index, bytes);
        } else if has_bye(bytes) {
            self.bye(&id, index);
        }
    }

    /// A datagram that a shard sends.
    pub(crate) fn datagram(&mut self, now: u64, port: u16, to: SocketAddr, bytes: &[u8]) {
        let even = at_port(to, to.port() & !1);
        let Some((id, index)) = self.by_address.get(&(port & !1, even)).cloned() else {
            panic!("a datagram to {to}, which nobody set up");
        };
        if to == even {
            self.packet(now, &id, index, bytes);
        } else if has_bye(bytes) {
            self.bye(&id, index);
        }
    }

    /// A shard's datagrams that the socket refused.
    pub(crate) fn refused(&mut self, port: u16, to: SocketAddr, count: usize) {
        self.count("send.refused");
        let (even, is_rtcp) = (at_port(to, to.port() & !1), to != at_port(to, to.port() & !1));
        let Some((id, index)) = self.by_address.get(&(port & !1, even)).cloned() else { return };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if is_rtcp {
            // It may have been the BYE, which is said once.
            session.is_unsteady = true;
        } else {
            session.streams[index].refused += u16::try_from(count).expect("a run");
        }
    }

    fn bye(&mut self, id: &str, index: usize) {
        self.count("bye");
        if let Some(session) = self.sessions.get_mut(id) {
            session.streams[index].has_bye = true;
        }
    }

    fn packet(&mut self, now: u64, id: &str, index: usize, bytes: &[u8]) {
        let rtp = Rtp::read(bytes).expect("what is sent as RTP is RTP");
        let session = self.sessions.get_mut(id).expect("a session of a stream");
        let waits = session.plays > 0;
        let (state, stops) = (session.state, session.stops);
        let stream = &mut session.streams[index];
        let what = format!("session {id}, {}: {rtp:?}", stream.track.url);
        if stream.ssrc.is_some_and(|ssrc| ssrc != rtp.ssrc) {
            assert!(stream.track.has_feedback, "{what} has a foreign SSRC");
            return self.count("packet.again");
        }
        assert!(!stream.track.is_published, "{what} goes to a publisher");
        assert!(state != State::Over || waits, "{what} is sent after the session's end");
        assert!(
            state == State::Playing || waits,
            "{what} is sent although the session does not play (stops asked: {stops})"
        );
        assert!(!stream.has_bye || waits, "{what} is sent after BYE");
        let is_whole = stream.track.is_own || self.is_live_whole;
        let refused = stream.refused;
        stream.follows &= refused == 0 && !waits;
        if let Some(last) = stream.last.filter(|_| is_whole) {
            let step = rtp.seq.wrapping_sub(last);
            let is_next = (1..=1 + refused).contains(&step);
            assert!(is_next, "{what} comes after {last}, and {refused} were refused");
        }
        (stream.last, stream.refused) = (Some(rtp.seq), 0);
        stream.last_at = now;
        if waits {
            stream.early.push((now, rtp));
        } else {
            stream.check_time(now, &rtp, &what);
        }
        if !stream.track.is_own {
            if self.is_live_whole {
                let published = |made| self.published.get(&made).copied();
                stream.check_made(now, bytes, &what, published);
            }
            stream.follows = !waits;
            return self.count("packet.live");
        }
        self.count("packet");
    }

    /// Looks for what has not come in time.
    pub(crate) fn look(&self, now: u64) {
        for (conn, talk) in &self.talks {
            let (Some(asked), Some(reads)) = (talk.asked.front(), talk.reads_since) else {
                continue;
            };
            let waited = now.saturating_sub(asked.at.max(reads));
            assert!(
                talk.has_left || waited < self.patience + ANSWER_NS,
                "connection {conn} waits for the answer to {asked:?} for {} ms",
                waited / MS
            );
        }
        for (id, session) in &self.sessions {
            let talk = self.talks.get(&session.conn);
            let is_even = !session.is_unsteady;
            let is_here = talk.is_some_and(|talk| !talk.has_left && talk.reads_since.is_some());
            let is_still = session.state == State::Playing && session.plays + session.stops == 0;
            if !is_here || !is_still || !is_even || self.is_rough {
                continue;
            }
            let reads = talk.and_then(|talk| talk.reads_since).unwrap_or(now);
            let is_fed = |track: &Track| !track.is_own && !track.is_published;
            for stream in session.streams.iter().filter(|s| !s.has_bye) {
                let fed_since = match &stream.track {
                    track if track.is_title => 0,
                    track if is_fed(track) => self.fed_since(now).unwrap_or(now),
                    _ => now,
                };
                let since = now.saturating_sub(stream.last_at.max(reads).max(fed_since));
                assert!(
                    since < self.patience + SILENCE_NS || stream.epoch.is_none(),
                    "session {id}, {}: plays, and nothing came for {} ms",
                    stream.track.url,
                    since / MS
                );
            }
        }
    }

    /// Since when one publisher sends, with none before it that readers may have waited for.
    fn fed_since(&self, now: u64) -> Option<u64> {
        let lasts = |(_, last): &&(u64, u64)| now - last < STEP_NS;
        self.feeds.values().filter(lasts).map(|(began, _)| *began).max()
    }

    /// Requests that were never answered, of connections whose clients are there.
    pub(crate) fn unanswered(&self) -> Vec<&Asked> {
        let here = self.talks.values().filter(|talk| !talk.has_left && !talk.is_garbled);
        here.flat_map(|talk| &talk.asked).collect()
    }
}

impl Stream {
    /// A reader is sent a publisher's packets in their order, each once. One that is late for the
    /// next one, or was refused some, goes on with a later one.
    fn check_made(
        &mut self,
        now: u64,
        packet: &[u8],
        what: &str,
        published: impl Fn((Made, bool)) -> Option<u64>,
    ) {
        let made = Made::read(packet).expect("what was published");
        if let Some(before) = self.made.filter(|before| before.run == made.run) {
            assert!(made.number > before.number, "{what} is {made:?} and comes after {before:?}");
            let next = Made { number: before.number + 1, ..made };
            let is_sound = self.track.rate != VIDEO_HZ;
            if let Some(at) = published((next, is_sound)).filter(|_| self.follows && next != made) {
                let ms = (now - at) / MS;
                assert!(
                    now - at > LATE_NS,
                    "{what} is {made:?} and comes after {before:?}: {next:?} of {ms} ms before is \
                     missing"
                );
            }
        }
        self.made = Some(made);
    }

    fn check_time(&mut self, now: u64, rtp: &Rtp, what: &str) {
        let Track { rate, is_title, .. } = self.track;
        if !is_title {
            return;
        }
        if let Some(Epoch { at, ts: Some(ts) }) = self.epoch {
            let ticks = i64::from(rtp.ts.wrapping_sub(ts).cast_signed());
            let shown = ticks * 1_000_000_000 / i64::from(rate.max(1));
            let passed = i64::try_from(now - at).expect("a short run");
            let ahead = if rate == VIDEO_HZ { AHEAD_VIDEO_NS } else { AHEAD_SOUND_NS };
            assert!(
                shown <= passed + ahead,
                "{what} is sent {} ms after the answer, and is due after {} ms",
                passed / 1_000_000,
                shown / 1_000_000
            );
        }
        let newest = self.newest_ts.unwrap_or(rtp.ts);
        let step = i64::from(rtp.ts.wrapping_sub(newest).cast_signed());
        let back = if rate == VIDEO_HZ { -i64::from(rate) / 2 } else { 0 };
        assert!(step >= back, "{what} goes back from {newest}");
        self.newest_ts = Some(if step > 0 { rtp.ts } else { newest });
    }
}

const VIDEO_HZ: u32 = 90_000;
/// Frames are sent in the order of decoding: a picture may be shown a few pictures later.
const AHEAD_VIDEO_NS: i64 = 250_000_000;
const AHEAD_SOUND_NS: i64 = 60_000_000;
/// An answer that waits for nothing but the shard.
const ANSWER_NS: u64 = 3 * S;
const SILENCE_NS: u64 = 3 * S;
/// Clients that say nothing for so long may be taken for gone.
const SILENT_NS: u64 = 5 * S;
/// Publishers send more often.
const STEP_NS: u64 = 100 * MS;
/// A reader that is later skips: less than its budget, because the pictures that it has not got are
/// what makes a skip.
const LATE_NS: u64 = 900 * MS;

//! Which shard of the new process gets what the shards of the old one have told.
//!
//! ```text
//!  ids of sessions --home among the new shards--> unit, its pairs, datagrams of these
//! ```
//! Each process has as many shards as it likes. A session goes to the home of its id, where
//! commands by other connections look for it; its connection and its pairs of sockets go along. A
//! pair may be a shard's first one already.
//! Invariant: a pair has one home, and so have the sessions of a connection: whoever records them
//! sees to that (`session::sockets`), and it is checked here. Bound: what was recorded.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{Taken, TakenUnit};
use crate::base::ids::{SessionId, ShardId};
use crate::library::title::Title;
use crate::shard::sockets::UdpPair;
use crate::takeover::v1::{
    Fd, PairRecord, SessionRecord, ShardRecord, TransportRecord, UnitRecord,
};

/// What each shard gets.
#[derive(Debug)]
pub struct Shares {
    of: Vec<Taken>,
    /// Port of RTP of the first pair of each shard.
    first: Vec<u16>,
    /// Homes of pairs that sessions use, by their ports of RTP.
    homes: HashMap<u16, ShardId>,
    /// Port of RTP, whether it came to RTCP, sender, bytes.
    datagrams: Vec<(u16, bool, SocketAddr, Vec<u8>)>,
}

/// Descriptors of a message, each of which is taken once.
#[derive(Debug)]
pub struct Files(Vec<Option<OwnedFd>>);

impl Files {
    /// In the order of the message.
    #[must_use]
    pub fn new(files: Vec<OwnedFd>) -> Self {
        Self(files.into_iter().map(Some).collect())
    }

    /// Takes a descriptor out.
    ///
    /// # Errors
    /// A sentence: it is not there, or was taken.
    pub fn take(&mut self, fd: Fd) -> Result<OwnedFd, String> {
        let place = self.0.get_mut(fd.0 as usize).and_then(Option::take);
        place.ok_or_else(|| "a record names a descriptor that is not there".to_owned())
    }
}

impl Shares {
    /// For as many shards as there are ports of first pairs.
    #[must_use]
    pub fn new(first: &[u16]) -> Self {
        Self {
            of: first.iter().map(|_| Taken::default()).collect(),
            first: first.to_vec(),
            homes: HashMap::new(),
            datagrams: Vec::new(),
        }
    }

    /// Adds what a shard has told. `titles` are those of its record, open.
    ///
    /// # Errors
    /// A sentence: something does not fit.
    pub fn add(
        &mut self,
        record: ShardRecord,
        files: &mut Files,
        titles: &Arc<[Arc<Title>]>,
    ) -> Result<(), String> {
        let ShardRecord { shard, pairs, units, datagrams, .. } = record;
        let ports: Arc<[u16]> = pairs.iter().map(|pair| pair.rtp_port).collect();
        let mut wanted: HashMap<u32, ShardId> = HashMap::new();
        for record in units {
            let ids = ids_of(&record)?;
            let home = self.home_of(ids.unwrap_or(ShardId(shard)));
            for pair in pairs_of(&record) {
                let port = ports.get(pair as usize).ok_or("a record names a pair in vain")?;
                if self.claim(*port, home)? {
                    wanted.insert(pair, ids.unwrap_or(home));
                }
            }
            let socket = match &record.connection {
                Some(connection) => Some(files.take(connection.socket)?),
                None => None,
            };
            let (titles, ports) = (Arc::clone(titles), Arc::clone(&ports));
            let unit = TakenUnit { record, socket, titles, ports };
            self.share(home)?.units.push(unit);
        }
        for (at, PairRecord { rtp_port, rtp, rtcp, .. }) in (0_u32..).zip(pairs) {
            let (rtp, rtcp) = (files.take(rtp)?, files.take(rtcp)?);
            if let Some(ids) = wanted.get(&at).copied() {
                let home = self.home_of(ids);
                self.share(home)?.pairs.push((ids, UdpPair { rtp, rtcp, rtp_port }));
            }
        }
        for one in datagrams {
            let port = ports.get(one.pair as usize).ok_or("a record names a pair in vain")?;
            self.datagrams.push((*port, one.is_rtcp, one.from, one.bytes.0));
        }
        Ok(())
    }

    /// What each shard gets, when all have told.
    #[must_use]
    pub fn finish(mut self) -> Vec<Taken> {
        for datagram in self.datagrams {
            // What came to a pair that no session uses is for nobody.
            if let Some(home) = self.homes.get(&datagram.0)
                && let Some(share) = self.of.get_mut(usize::from(home.0))
            {
                share.datagrams.push(datagram);
            }
        }
        self.of
    }

    /// Notes the home of a pair. True: it is on its way from now on.
    fn claim(&mut self, port: u16, home: ShardId) -> Result<bool, String> {
        let first = self.first.iter().position(|first| *first == port);
        let is_elsewhere = first.is_some_and(|place| place != usize::from(home.0));
        let before = self.homes.insert(port, home);
        if is_elsewhere || before.is_some_and(|before| before != home) {
            return Err(format!(
                "sessions of two shards use port {port} of RTP: have rtp_port and the number of \
                 shards as the running server has them"
            ));
        }
        Ok(first.is_none() && before.is_none())
    }

    fn share(&mut self, shard: ShardId) -> Result<&mut Taken, String> {
        self.of.get_mut(usize::from(shard.0)).ok_or_else(|| "there is no shard".to_owned())
    }

    fn home_of(&self, ids: ShardId) -> ShardId {
        let count = u8::try_from(self.of.len()).unwrap_or(u8::MAX);
        SessionId::new(ids, 0).home(count)
    }
}

/// The shard in the ids of the sessions of a unit; `None`: it has none.
fn ids_of(unit: &UnitRecord) -> Result<Option<ShardId>, String> {
    let mut all = None;
    for session in &unit.sessions {
        let id = SessionId::parse(session.id()).ok_or("a session has no id")?;
        if all.is_some_and(|ids| ids != id.shard()) {
            return Err("a connection has sessions of two shards".to_owned());
        }
        all = Some(id.shard());
    }
    Ok(all)
}

/// Pairs that the sessions of a unit send by, by their places in the record.
fn pairs_of(unit: &UnitRecord) -> impl Iterator<Item = u32> {
    let transports = unit.sessions.iter().flat_map(SessionRecord::transports);
    transports.filter_map(|transport| match transport {
        TransportRecord::Udp { pair, .. } => Some(*pair),
        TransportRecord::Tcp { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::takeover::exact::Bytes;
    use crate::takeover::v1::{
        ClientRecord, DatagramRecord, FeedRecord, LevelRecord, NumbersRecord, OutgoingRecord,
        PhaseRecord, StateRecord, StreamRecord, TitleSessionRecord,
    };

    fn session(ids: u8, pair: Option<u32>) -> SessionRecord {
        let peer: SocketAddr = "192.0.2.7:5000".parse().unwrap();
        let transport = match pair {
            Some(pair) => TransportRecord::Udp { pair, rtp: peer, rtcp: peer },
            None => TransportRecord::Tcp { channel: 0, rtcp_channel: 1 },
        };
        let stream = StreamRecord {
            phase: PhaseRecord::Idle,
            track: 0,
            level: LevelRecord::Full,
            shares: false,
            feed: FeedRecord {
                track: 0,
                ts_epoch: 0,
                from_sample: None,
                anchor_ticks: 0,
                ticks_max: 0,
                skip_before_ns: None,
                place: None,
            },
            rtp: OutgoingRecord {
                payload_type: 96,
                clock_rate_hz: 90_000,
                numbers: NumbersRecord::Source { ssrc: None },
                transport,
                rtx: None,
                report: None,
                control_url: String::new(),
            },
            quality: None,
            bye_ns: None,
            history: None,
        };
        SessionRecord::Title(Box::new(TitleSessionRecord {
            client: ClientRecord {
                id: SessionId::new(ShardId(ids), 7 << 8).to_string(),
                peer,
                user_agent: None,
                user: None,
                created_ns: 0,
                alive_ns: 0,
                cname: String::new(),
            },
            title: 0,
            described: 0,
            state: StateRecord::Ready,
            streams: vec![stream],
            liveness_ns: 0,
            epoch: None,
            end_ns: None,
            pause_point_ns: None,
            report_ns: 0,
            play_received_ns: None,
        }))
    }

    fn unit(sessions: Vec<SessionRecord>) -> UnitRecord {
        UnitRecord { connection: None, sessions }
    }

    /// A record of a shard with pairs at these ports, and a datagram to each of them.
    fn record(shard: u8, ports: &[u16], units: Vec<UnitRecord>) -> (ShardRecord, Files) {
        let pairs = ports.iter().zip((0..).step_by(2)).map(|(rtp_port, fd)| PairRecord {
            shard,
            rtp_port: *rtp_port,
            rtp: Fd(fd),
            rtcp: Fd(fd + 1),
        });
        let datagrams = (0..).zip(ports).map(|(pair, _)| DatagramRecord {
            pair,
            is_rtcp: true,
            from: "192.0.2.7:5001".parse().unwrap(),
            bytes: Bytes(vec![shard]),
        });
        let (pairs, datagrams) = (pairs.collect(), datagrams.collect());
        let record = ShardRecord { shard, pairs, units, datagrams, ..ShardRecord::default() };
        let files = ports
            .iter()
            .flat_map(|_| [(); 2])
            .map(|()| OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
        (record, Files::new(files.collect()))
    }

    fn shared(first: &[u16], records: Vec<(ShardRecord, Files)>) -> Result<Vec<Taken>, String> {
        let mut shares = Shares::new(first);
        for (record, mut files) in records {
            shares.add(record, &mut files, &Vec::new().into())?;
        }
        Ok(shares.finish())
    }

    /// Units, ports of pairs with their ids, ports of datagrams.
    fn summary(taken: &Taken) -> (usize, Vec<(u8, u16)>, Vec<u16>) {
        let pairs = taken.pairs.iter().map(|(ids, pair)| (ids.0, pair.rtp_port)).collect();
        let mut datagrams: Vec<u16> = taken.datagrams.iter().map(|one| one.0).collect();
        datagrams.sort_unstable();
        (taken.units.len(), pairs, datagrams)
    }

    /// The second shard's session is on the only one, and its pair is not that one's first.
    #[test]
    fn pair_goes_to_the_home_of_its_sessions_and_not_to_that_of_who_had_it() {
        let units = || vec![unit(vec![session(0, Some(0))]), unit(vec![session(1, Some(1))])];
        let told = || vec![record(0, &[8_000, 8_002], units())];
        let of = |first: &[u16]| -> Vec<_> {
            shared(first, told()).unwrap().iter().map(summary).collect()
        };
        let fixed = of(&[8_000, 8_002]);
        assert_eq!(fixed, [(1, vec![], vec![8_000]), (1, vec![], vec![8_002])]);
        let free = of(&[9_000, 9_002, 9_004]);
        let first = (1, vec![(0, 8_000)], vec![8_000]);
        let second = (1, vec![(1, 8_002)], vec![8_002]);
        assert_eq!(free, [first, second, (0, vec![], vec![])]);
        let one = of(&[8_000]);
        assert_eq!(one, [(2, vec![(1, 8_002)], vec![8_000, 8_002])]);
    }

    /// A session that was moved sends by its home's pair; datagrams come in there.
    #[test]
    fn pair_of_two_records_comes_once_and_one_without_sessions_not_at_all() {
        let told = vec![
            record(0, &[8_000, 8_006], vec![]),
            record(1, &[8_000], vec![unit(vec![session(0, Some(0))]), unit(vec![])]),
        ];
        let taken = shared(&[9_000, 9_002], told).unwrap();
        let first = (1, vec![(0, 8_000)], vec![8_000, 8_000]);
        assert_eq!(taken.iter().map(summary).collect::<Vec<_>>(), [first, (1, vec![], vec![])]);
    }

    #[test]
    fn what_has_no_single_home_is_refused_with_a_sentence() {
        let mixed = vec![unit(vec![session(0, None), session(1, None)])];
        let why = shared(&[8_000, 8_002], vec![record(0, &[], mixed)]).unwrap_err();
        assert!(why.contains("sessions of two shards"), "{why}");
        let both = vec![unit(vec![session(0, Some(0))]), unit(vec![session(1, Some(0))])];
        let why = shared(&[9_000, 9_002], vec![record(0, &[8_000], both)]).unwrap_err();
        assert!(why.contains("port 8000") && why.contains("rtp_port"), "{why}");
        // The configuration begins at another port.
        let shifted = vec![unit(vec![session(1, Some(0))])];
        let why = shared(&[8_002, 8_004], vec![record(0, &[8_002], shifted)]).unwrap_err();
        assert!(why.contains("port 8002"), "{why}");
        let vain = vec![unit(vec![session(0, Some(3))])];
        assert!(shared(&[8_000], vec![record(0, &[], vain)]).is_err());
    }
}

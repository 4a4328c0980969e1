//! Which shard of the new process gets what the shards of the old one have told.
//!
//! ```text
//!  ids of sessions --home among the new shards--> unit, its pairs, datagrams of these
//! ```
//! Each process has as many shards as it likes. A session goes to the home of its id, where commands
//! by other connections look for it; its connection and its pairs of sockets go along. A pair may
//! be a shard's first one already.
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
    for SessionRecord::Title(session) in &unit.sessions {
        let id = SessionId::parse(&session.client.id).ok_or("a session has no id")?;
        if all.is_some_and(|ids| ids != id.shard()) {
            return Err("a connection has sessions of two shards".to_owned());
        }
        all = Some(id.shard());
    }
    Ok(all)
}

/// Pairs that the sessions of a unit send by, by their places in the record.
fn pairs_of(unit: &UnitRecord) -> impl Iterator<Item = u32> {
    let streams = unit.sessions.iter().flat_map(|SessionRecord::Title(session)| &session.streams);
    streams.filter_map(|stream| match stream.rtp.transport {
        TransportRecord::Udp { pair, .. } => Some(pair),
        TransportRecord::Tcp { .. } => None,
    })
}

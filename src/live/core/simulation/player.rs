//! The players of the simulation, and the checks of their packets.

use std::net::Ipv4Addr;

use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::sink::Gathered;
use crate::base::sink::testing::FrameRecorder;
use crate::base::time::Mono;
use crate::live::core::batch::{LivePacket, PacketBatch};
use crate::live::core::clock::ticks_between;
use crate::live::core::path::{LivePath, ReaderKey};
use crate::live::core::paths::LivePaths;
use crate::live::core::pump::{self, Fed};
use crate::live::core::reader::FeedState;
use crate::live::core::reader::To;
use crate::live::core::start::StreamStart;
use crate::live::core::testing::Received;
use crate::metrics::cells::ShardCells;
use crate::rtp::HEADER_BYTES;

/// Behaviour of a player.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// The player takes everything.
    Good,
    /// The player's socket refuses one run in so many.
    Refusing(u64),
    /// The player takes so many bytes a millisecond.
    Slow(usize),
    /// The player takes nothing in this period.
    Stalled(u64, u64),
}

/// A packet as a player gets it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Got {
    /// Name of the packet: the number of packets of its track that were made before, lost ones too.
    pub(crate) id: u64,
    pub(crate) seq: SeqNo,
    pub(crate) ts: RtpTs,
    pub(crate) ssrc: Ssrc,
    pub(crate) is_sync: bool,
    pub(crate) is_untouched: bool,
}

/// Parses a packet as a player does.
impl Received for Got {
    fn new(header: &[u8; HEADER_BYTES], batch: &PacketBatch, packet: &LivePacket) -> Self {
        let bytes = batch.packet_bytes(packet);
        let be32 = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
        Self {
            id: u64::from_be_bytes(bytes[12..20].try_into().unwrap()),
            seq: SeqNo(u16::from_be_bytes([header[2], header[3]])),
            ts: RtpTs(be32(4)),
            ssrc: Ssrc(be32(8)),
            is_sync: bytes[20] == 1,
            is_untouched: header[..] == bytes[..HEADER_BYTES],
        }
    }
}

pub(crate) struct Player {
    pub(crate) shard: usize,
    pub(crate) key: ReaderKey,
    pub(crate) manner: Manner,
    pub(crate) starts: Vec<Option<StreamStart>>,
    pub(crate) got: [Vec<Got>; 2],
    pub(crate) timer_ms: Option<u64>,
    pub(crate) credit: usize,
    pub(crate) pauses: u64,
    pub(crate) joined_ms: u64,
}

impl Player {
    /// PLAY is answered when everything is known, or after a second.
    pub(crate) fn begin(&mut self, path: &mut LivePath, now: Mono, ms: u64) {
        let reader = path.reader(self.key).unwrap();
        if !matches!(reader.state(), FeedState::Primed(_)) {
            return;
        }
        let starts = path.starts(self.key);
        if starts.iter().all(Option::is_some) || ms >= self.joined_ms + 1_000 {
            self.starts = starts;
            path.play(self.key, now);
        }
    }

    /// Destination of a stream's packets.
    pub(crate) fn to(place: usize, manner: Manner, stream_index: u8) -> To {
        if matches!(manner, Manner::Slow(_) | Manner::Stalled(..)) {
            return To::Channel(stream_index);
        }
        // A player's streams have a port each.
        let client = (Ipv4Addr::LOCALHOST, u16::from(stream_index)).into();
        To::Datagrams { pair: u16::try_from(place).unwrap(), client }
    }

    /// Packets are due over TCP.
    pub(crate) fn feed(&mut self, paths: &mut LivePaths, cells: &ShardCells, now: Mono) {
        let ms = now.0 / 1_000_000;
        match self.manner {
            Manner::Slow(bytes) => self.credit = (self.credit + bytes).min(bytes * 20 + 3_000),
            Manner::Stalled(from, to) => {
                self.credit = if (from..to).contains(&ms) { 0 } else { usize::MAX };
            }
            Manner::Good | Manner::Refusing(_) => panic!("over UDP"),
        }
        let mut connection = FrameRecorder::with_credit(self.credit);
        let mut gathered = Gathered::default();
        let (at, mut note) = ((cells, now), |_| {});
        match pump::gather(paths, self.key, at, &mut connection, &mut gathered, &mut note) {
            Fed::Until(Some(due)) => self.wake(due),
            Fed::Until(None) => {}
            Fed::NoRoom => self.wake(Mono((ms + 1) * 1_000_000)),
        }
        assert_eq!(gathered.packets, connection.packets.len() as u64);
        self.credit = connection.credit;
        for (channel, got) in connection.packets {
            self.got[usize::from(channel)].push(got);
        }
    }

    /// Looks at the player again at `due`.
    pub(crate) fn wake(&mut self, due: Mono) {
        let ms = due.0.div_ceil(1_000_000);
        self.timer_ms = Some(self.timer_ms.map_or(ms, |other| other.min(ms)));
    }

    /// Checks the packets. Returns the number of breaks.
    pub(crate) fn check(&self, stream: usize) -> u64 {
        let got = &self.got[stream];
        let name = format!("{:?} on shard {}, stream {stream}", self.manner, self.shard);
        let Some(first) = got.first() else { return 0 };
        assert!(stream == 1 || first.is_sync, "{name} begins with {first:?}");
        if let Some(Some(start)) = self.starts.get(stream).filter(|_| self.pauses == 0) {
            assert_eq!(start.seq, first.seq, "{name}: RTP-Info");
            let lead = ticks_between(start.rtptime, first.ts);
            // More when it has skipped before it sent anything.
            assert!(lead >= -1, "{name}: {lead}");
        } else if self.starts.get(stream).is_some_and(Option::is_none)
            // Who reads nothing may have skipped before anything was sent: that is a break.
            && !matches!(self.manner, Manner::Stalled(..))
        {
            assert!(first.is_untouched, "{name}: {first:?}");
        }
        let mut breaks = 0;
        for pair in got.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            assert!(b.id > a.id, "{name}: {a:?} {b:?}");
            assert_eq!(a.ssrc, b.ssrc, "{name}");
            assert!(ticks_between(a.ts, b.ts) >= 0, "{name}: {a:?} {b:?}");
            let step = u64::from(b.seq.0.wrapping_sub(a.seq.0));
            if step != b.id - a.id {
                assert_eq!(step, 1, "{name}: {a:?} {b:?}");
                assert!(stream == 1 || b.is_sync, "{name}: {a:?} {b:?}");
                breaks += 1;
            }
        }
        breaks
    }
}

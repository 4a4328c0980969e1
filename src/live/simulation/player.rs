//! The players of the simulation, and what is checked of what they got.

use super::super::batch::{LivePacket, PacketBatch};
use super::super::clock::ticks_between;
use super::super::path::{LivePath, Next, ReaderKey};
use super::super::reader::ReaderState;
use super::super::start::StreamStart;
use super::super::switch::Mapping;
use super::world::Dice;
use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::time::Mono;

/// What a player does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Takes everything.
    Good,
    /// Its socket refuses one run in so many.
    Refusing(u64),
    /// Takes so many bytes a millisecond.
    Slow(usize),
    /// Takes nothing from here to there.
    Stalled(u64, u64),
}

/// A packet as a player gets it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Got {
    /// The packet's own name: counts all packets of its track that were made, lost ones too.
    pub(super) id: u64,
    pub(super) seq: SeqNo,
    pub(super) ts: RtpTs,
    pub(super) ssrc: Ssrc,
    pub(super) is_sync: bool,
    pub(super) is_untouched: bool,
}

pub(super) struct Player {
    pub(super) shard: usize,
    pub(super) key: ReaderKey,
    pub(super) manner: Manner,
    pub(super) starts: Vec<Option<StreamStart>>,
    pub(super) got: [Vec<Got>; 2],
    pub(super) timer_ms: Option<u64>,
    pub(super) credit: usize,
    pub(super) pauses: u64,
    pub(super) joined_ms: u64,
}

impl Player {
    /// PLAY is answered when everything is known, or after a second.
    pub(super) fn begin(&mut self, path: &mut LivePath, now: Mono, ms: u64) {
        let reader = path.reader(self.key).unwrap();
        if !matches!(reader.state(), ReaderState::Primed(_)) {
            return;
        }
        let starts = path.starts(self.key);
        if starts.iter().all(Option::is_some) || ms >= self.joined_ms + 1_000 {
            self.starts = starts;
            path.play(self.key, now);
        }
    }

    pub(super) fn pump(&mut self, path: &mut LivePath, dice: &mut Dice, now: Mono, ms: u64) {
        match self.manner {
            Manner::Good => self.pump_udp(path, None, now, ms),
            Manner::Refusing(one_in) => self.pump_udp(path, Some((dice, one_in)), now, ms),
            Manner::Slow(bytes) => {
                self.credit = (self.credit + bytes).min(bytes * 20 + 3_000);
                self.pump_tcp(path, now, ms);
            }
            Manner::Stalled(from, to) => {
                self.credit = if (from..to).contains(&ms) { 0 } else { usize::MAX };
                self.pump_tcp(path, now, ms);
            }
        }
    }

    pub(super) fn pump_udp(
        &mut self,
        path: &mut LivePath,
        mut dice: Option<(&mut Dice, u64)>,
        now: Mono,
        ms: u64,
    ) {
        for stream in 0..2_u8 {
            let (mut budget, mut runs) = (BURST, Vec::new());
            loop {
                let due = match path.next(self.key, stream, now) {
                    Next::Run(due) if budget > 0 => due,
                    Next::Run(_) => {
                        self.wake(ms + 2);
                        break;
                    }
                    Next::At(at) => {
                        self.wake(at.0.div_ceil(1_000_000));
                        break;
                    }
                    Next::Waiting | Next::Idle => break,
                };
                assert!(due.due <= now);
                let packets = &due.batch.packets_of(&due.run)[usize::from(due.skip_packets)..];
                let taken = packets.len().min(budget);
                let sent: Vec<Got> =
                    packets[..taken].iter().map(|p| got(due.batch, p, &due.mapping)).collect();
                budget -= taken;
                let count = u16::try_from(taken).unwrap();
                runs.push((path.take(self.key, stream, count).unwrap(), sent));
            }
            // As the ring does it: one that is refused cancels those that are linked behind it.
            let refused =
                runs.iter().position(|_| dice.as_mut().is_some_and(|(d, n)| d.roll(*n) == 0));
            for (place, (mark, sent)) in runs.into_iter().enumerate() {
                if refused.is_none_or(|refused| place < refused) {
                    path.confirm(self.key, &mark);
                    self.got[usize::from(stream)].extend(sent);
                } else {
                    assert_eq!(path.rewind(self.key, &mark), Some(place) == refused);
                    self.wake(ms + 2);
                }
            }
        }
    }

    pub(super) fn pump_tcp(&mut self, path: &mut LivePath, now: Mono, ms: u64) {
        let mut is_blocked = [false; 2];
        for stream in [1_u8, 0] {
            while let Next::Run(due) = path.next(self.key, stream, now) {
                if self.credit < 1_500 {
                    is_blocked[usize::from(stream)] = true;
                    break;
                }
                let packet = due.batch.packets_of(&due.run)[usize::from(due.skip_packets)];
                let sent = got(due.batch, &packet, &due.mapping);
                let mark = path.take(self.key, stream, 1).unwrap();
                path.confirm(self.key, &mark);
                self.credit -= usize::from(packet.bytes);
                self.got[usize::from(stream)].push(sent);
            }
            if let Next::At(at) = path.next(self.key, stream, now) {
                self.wake(at.0.div_ceil(1_000_000));
            }
        }
        if is_blocked.contains(&true) {
            self.wake(ms + 1);
        }
    }

    pub(super) fn wake(&mut self, ms: u64) {
        self.timer_ms = Some(self.timer_ms.map_or(ms, |other| other.min(ms)));
    }

    /// Returns how often a stream went on behind a break.
    pub(super) fn check(&self, stream: usize) -> u64 {
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

/// What a player makes of the bytes that it is sent.
pub(super) fn got(batch: &PacketBatch, packet: &LivePacket, mapping: &Mapping) -> Got {
    let bytes = batch.packet_bytes(packet);
    let header = mapping.header(batch, packet);
    let is_untouched = header[..] == bytes[..12];
    assert!(is_untouched || !mapping.is_untouched());
    let be32 = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
    Got {
        id: u64::from_be_bytes(bytes[12..20].try_into().unwrap()),
        seq: SeqNo(u16::from_be_bytes([header[2], header[3]])),
        ts: RtpTs(be32(4)),
        ssrc: Ssrc(be32(8)),
        is_sync: bytes[20] == 1,
        is_untouched,
    }
}

/// Packets of a stream in a turn at most.
const BURST: usize = 32;

//! Identities as types: a session id is not an SSRC is not a sequence number.

use std::fmt;

/// Which shard: its place in the list of shards, not its CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u8);

/// RTSP session identifier (RFC 2326 s3.4). The top byte is the shard that owns the session, the
/// other 56 bits are random, so a stranger does not guess it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

impl SessionId {
    /// `random` must come from a generator that cannot be predicted from outside.
    #[must_use]
    pub fn new(shard: ShardId, random: u64) -> Self {
        Self(u64::from(shard.0) << 56 | random >> 8)
    }

    /// The shard that has made the session.
    #[must_use]
    pub fn shard(self) -> ShardId {
        ShardId(self.0.to_be_bytes()[0])
    }

    /// The home of the session among `count` shards: the shard of its id. Where there are fewer, as
    /// may be when another process has taken it over, the remainder.
    #[must_use]
    pub fn home(self, count: u8) -> ShardId {
        ShardId(self.shard().0 % count.max(1))
    }

    /// Reads what `Display` wrote: sixteen hexadecimal digits. Clients are told the id without
    /// dashes because some cut it there (client rule C3).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        hex.then(|| u64::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

/// Synchronisation source (RFC 3550 s3): names one RTP stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ssrc(pub u32);

/// RTP sequence number as on the wire (RFC 3550 s5.1): wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeqNo(pub u16);

impl SeqNo {
    /// The number `count` packets later.
    #[must_use]
    pub fn plus(self, count: u16) -> Self {
        Self(self.0.wrapping_add(count))
    }
}

/// RTP timestamp as on the wire (RFC 3550 s5.1): wraps, in units of the stream's clock rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RtpTs(pub u32);

impl RtpTs {
    /// Moved by a signed number of clock ticks, modulo 2^32.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "modulo 2^32")]
    pub fn offset_ticks(self, ticks: i64) -> Self {
        Self(self.0.wrapping_add(ticks as u32))
    }
}

/// Names a connection to a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CameraName {
    /// Number of the source.
    pub source: u32,
    /// Which of its attempts.
    pub attempt: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_id_carries_its_shard_and_reads_back() {
        let id = SessionId::new(ShardId(3), 0x0123_4567_89ab_cdef);
        assert_eq!(id.shard(), ShardId(3));
        assert_eq!(id.to_string(), "030123456789ABCD");
        assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        for bad in ["", "0301", "+30123456789ABCD", "030123456789ABCDE", "03012345-789ABCD"] {
            assert_eq!(SessionId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn rtp_timestamp_wraps_both_ways() {
        assert_eq!(RtpTs(u32::MAX).offset_ticks(2), RtpTs(1));
        assert_eq!(RtpTs(1).offset_ticks(-2), RtpTs(u32::MAX));
    }
}

//! Identities of distribution as types.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A job of a client (reference 002: job id). Ids made later are greater (UUID version 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub Uuid);

/// A command of a job: its place in the job's queue, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommandId(pub u32);

/// Bytes on their way, before their hash is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContentId(pub Uuid);

/// A command at a node: what a delivery is named by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CommandKey {
    /// The job.
    pub job: JobId,
    /// The command of the job.
    pub command: CommandId,
}

/// A notification of a job: its place in the request, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HookId {
    /// The job.
    pub job: JobId,
    /// The notification of the job.
    pub hook: u32,
}

/// Generation of the plan: a node obeys the highest that it has seen.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// Epoch of a base: each base that takes over a ledger has a greater one than all before. What a
/// base of a lower epoch orders is void. 0 is a base that does not say.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct BaseEpoch(pub u64);

/// Start of a node's agent: greater at each start (UTC nanoseconds).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

/// Name of a node: 1 to 63 of `a-z 0-9 . _ -`, a letter or digit first. It is its identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

/// BLAKE3 of a whole content; as text 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

/// Time at the base: the monotonic clock for waits, UTC for what people and other hosts see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Nanoseconds of the monotonic clock.
    pub mono_ns: u64,
    /// Nanoseconds since 1970.
    pub utc_ns: i64,
}

/// Text is no id of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a UUID.
    #[error("not an id: a UUID is expected")]
    Uuid,
    /// Not a node name.
    #[error("not a node name: 1 to 63 of a-z, 0-9, '.', '_' and '-', a letter or digit first")]
    NodeName,
    /// Not a digest.
    #[error("not a BLAKE3 digest: 64 hexadecimal digits are expected")]
    Digest,
}

impl NodeName {
    /// # Errors
    /// `IdError::NodeName` for any other form.
    pub fn new(name: &str) -> Result<Self, IdError> {
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let is_valid = (1..=NODE_NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|b| is_plain(b) || matches!(b, b'.' | b'_' | b'-'))
            && name.bytes().next().is_some_and(is_plain);
        if is_valid { Ok(Self(name.to_owned())) } else { Err(IdError::NodeName) }
    }

    /// The name as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for JobId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Uuid::parse_str(text).map(Self).map_err(|_| IdError::Uuid)
    }
}

impl FromStr for ContentId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Uuid::parse_str(text).map(Self).map_err(|_| IdError::Uuid)
    }
}

impl FromStr for Digest {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return Err(IdError::Digest);
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(bytes.chunks_exact(2)) {
            let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
            let (Some(high), Some(low)) =
                (pair.first().and_then(digit), pair.get(1).and_then(digit))
            else {
                return Err(IdError::Digest);
            };
            *byte = high << 4 | low;
        }
        Ok(Self(digest))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for NodeName {
    type Error = IdError;

    fn try_from(name: String) -> Result<Self, IdError> {
        Self::new(&name)
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

impl TryFrom<String> for Digest {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

const NODE_NAME_BYTES_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_nodes_are_short_and_plain() {
        for good in ["a", "edge-1.north", "0_0"] {
            assert_eq!(NodeName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", ".a", "A", "a b", "a/b", "\u{e9}", &"a".repeat(64)] {
            assert_eq!(NodeName::new(bad), Err(IdError::NodeName), "{bad:?}");
        }
    }

    #[test]
    fn digest_reads_what_it_writes() {
        let digest = Digest(std::array::from_fn(|i| u8::try_from(i * 7).unwrap()));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for bad in ["", "00", &"g".repeat(64), &"0".repeat(63), &"\u{e9}".repeat(32)] {
            assert_eq!(bad.parse::<Digest>(), Err(IdError::Digest), "{bad:?}");
        }
    }
}

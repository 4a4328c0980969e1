//! Names of operations in flight, packed into the 64 bits that the kernel returns.
//!
//! ```text
//! | 63..40 zero | 39..32 op | 31..0 index of the file, run, stream or connect slot |
//! ```
//! Invariant: an index is not used for something else before its op has completed, so a key needs
//! no generation.

/// Name of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OpKey {
    pub(super) op: Op,
    /// Index of the file; of `Run`, `Stream` and `Connect` that of their slot.
    pub(super) index: u32,
}

/// Kind of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    /// Waits for something to arrive.
    Arm(Arm),
    /// Sends datagrams.
    Run,
    /// Sends on a TCP connection.
    Stream,
    /// Connects to another host.
    Connect,
    /// Cancels all operations on a file, or all operations of the ring.
    Cancel,
}

/// The ways in which a file can be armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arm {
    /// Multishot accept.
    Accept,
    /// One-shot receive on a connection.
    Receive,
    /// Multishot receive of datagrams.
    Datagrams,
    /// Read of an eventfd.
    Wake,
}

impl OpKey {
    pub(super) fn new(op: Op, index: u32) -> Self {
        Self { op, index }
    }

    pub(super) fn as_user_data(self) -> u64 {
        let code: u8 = match self.op {
            Op::Arm(arm) => arm.code(),
            Op::Run => RUN,
            Op::Stream => STREAM,
            Op::Connect => CONNECT,
            Op::Cancel => CANCEL,
        };
        u64::from(code) << 32 | u64::from(self.index)
    }

    /// `None` for a number that this module did not make.
    pub(super) fn from_user_data(user_data: u64) -> Option<Self> {
        let index = u32::try_from(user_data & u64::from(u32::MAX)).ok()?;
        let op = match u8::try_from(user_data >> 32).ok()? {
            RUN => Op::Run,
            STREAM => Op::Stream,
            CONNECT => Op::Connect,
            CANCEL => Op::Cancel,
            code => Op::Arm(Arm::from_code(code)?),
        };
        Some(Self { op, index })
    }
}

impl Arm {
    /// All ways, in the order of `place`.
    pub(super) const ALL: [Self; 4] = [Self::Accept, Self::Receive, Self::Datagrams, Self::Wake];

    /// Index in the arrays that files have of ways.
    pub(super) fn place(self) -> usize {
        match self {
            Self::Accept => 0,
            Self::Receive => 1,
            Self::Datagrams => 2,
            Self::Wake => 3,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Accept => 1,
            Self::Receive => 2,
            Self::Datagrams => 3,
            Self::Wake => 4,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|arm| arm.code() == code)
    }
}

const RUN: u8 = 0x21;
const STREAM: u8 = 0x22;
const CANCEL: u8 = 0x23;
const CONNECT: u8 = 0x24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_reads_back_and_others_are_refused() {
        let arms = Arm::ALL.into_iter().map(Op::Arm);
        for op in arms.chain([Op::Run, Op::Stream, Op::Connect, Op::Cancel]) {
            for index in [0, 7, u32::MAX] {
                let key = OpKey::new(op, index);
                assert_eq!(OpKey::from_user_data(key.as_user_data()), Some(key));
            }
        }
        for other in [0, 5 << 32, 0x11 << 32, 0x25 << 32, 1 << 40, u64::MAX] {
            assert_eq!(OpKey::from_user_data(other), None, "{other:#x}");
        }
    }

    #[test]
    fn places_follow_the_order_of_all() {
        let places: Vec<usize> = Arm::ALL.into_iter().map(Arm::place).collect();
        assert_eq!(places, [0, 1, 2, 3]);
    }
}

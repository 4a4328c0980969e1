//! What a fetch is told, and what it asks for.

use std::time::Duration;

use crate::dist::ids::NodeName;
use crate::dist::wire::agent::{Source, SwitchCause};
use crate::dist::wire::job::Reason;

/// A connection to a source, numbered within a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u32);

/// A question to a source, numbered within a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u32);

/// A node; `None` is the base.
pub type Peer = Option<NodeName>;

/// A part of a content that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The byte behind it; `None`: to the end of the content.
    pub to: Option<u64>,
    /// A further source gives it: what its own children leave over.
    pub is_spare: bool,
}

/// What happened on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkEvent {
    /// The first frame is there. It is not taken before [`FetchAction::Use`].
    FirstByte,
    /// Bytes were added: verified ones, or ones ahead of a gap that agree with their hashes.
    Grew {
        /// Verified bytes in all.
        have: u64,
        /// Bytes of this link since the last event.
        bytes: u64,
        /// The byte behind the last one of this link, whether it was new or not.
        at: u64,
    },
    /// The part is here: nothing more comes on this link.
    Done,
    /// The source does not have all of the part that it was asked for.
    Behind {
        /// What it has.
        have: u64,
    },
    /// Bytes are there, and a cap of this node lets them wait: the source is not to blame.
    Held,
    /// All bytes are there and the whole is verified.
    Whole,
    /// The connection ended early.
    Lost,
    /// The connection could not be made.
    Unreachable,
    /// The source has no room.
    Busy {
        /// When it may be asked again.
        retry_after: Duration,
    },
    /// The source does not know the content: it may have heard of it later than this node.
    NotYet,
    /// The source does not take the capability, or has removed the content.
    Refused,
    /// A unit, or the signature of its hash, is wrong.
    BadUnit {
        /// Which, from 0.
        unit: u64,
    },
}

/// What the caller does, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchAction {
    /// Open a link.
    Connect {
        /// Its number.
        link: LinkId,
        /// To whom.
        source: Source,
        /// First byte that is wanted.
        from: u64,
        /// Not all from there on, but a part.
        part: Option<Part>,
        /// The source in use gives less than it gets, and is left for this one.
        is_slow: bool,
    },
    /// Take the bytes of this link. Of links without a part no other one is open when this is done.
    Use {
        /// Which.
        link: LinkId,
    },
    /// Close a link; nothing of it counts any more.
    Close {
        /// Which.
        link: LinkId,
    },
    /// Ask a source for its [`ContentState`](crate::dist::wire::peer::ContentState).
    Ask {
        /// Number of the question.
        ask: AskId,
        /// Whom.
        source: Source,
    },
    /// Bytes come from another source than before.
    Switched {
        /// From whom.
        source: Peer,
        /// Why.
        cause: SwitchCause,
        /// Bytes per second that came from the one before.
        before: u64,
    },
    /// Bytes come from these further sources beside the one of before; none: from that one alone.
    Further {
        /// Who, in the order of their names.
        sources: Vec<Peer>,
    },
    /// A source sent a unit that fails its hash.
    BadUnit {
        /// Who.
        source: Peer,
        /// Which.
        unit: u64,
    },
    /// No source is left: this fetch is over, and another one may begin after a pause.
    GaveUp(GaveUp),
    /// All bytes are there.
    Whole,
}

/// Why no source is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GaveUp {
    /// For the report.
    pub reason: Reason,
    /// A source is only busy: it may be asked again then.
    pub busy: Option<Duration>,
    /// A source does not take its capability: the base is to be asked for new ones.
    pub is_refused: bool,
}

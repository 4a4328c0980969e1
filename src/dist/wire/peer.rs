//! How a content goes from a source to the next node.
//!
//! ```text
//! GET /peer/v1/contents/{content}/units?from=OFFSET     Authorization: Bearer CAPABILITY
//!                                       &leaves=NODE&slow=true&port=PORT&to=OFFSET&spare=true
//!   -> 200 application/vnd.headend.units: frames, for as long as the content grows
//!   -> 401 403 404, 503 with Retry-After and NoRoom: take another source
//!   -> 409 with Behind: not all of the part that is asked for is here
//! GET /peer/v1/contents/{content}/state               -> ContentState
//! GET /peer/v1/contents/{content}                     -> the bytes, with Range, of a whole content
//! ```
//! A frame is its kind (1 byte), its length (4 bytes, big-endian) and as many bytes:
//! ```text
//! 1 hashes  first unit (8), then 32 bytes for each unit (1 to 16), then Ed25519 of content id,
//!           "H", first unit and hashes (64): signed by the base
//! 2 unit    number of the unit (8), then its bytes: 65,536, fewer for the last
//! 3 end     size (8), BLAKE3 of the content (32), Ed25519 of content id, "E", size and hash (64)
//! ```
//! With `to` a part is asked for: the frames end behind the unit with the byte before it. A source
//! that does not know `to` sends on, and is left there. With `spare` who asks has another source
//! for the rest: it gets what the source does not need for its own children, and only bytes that
//! the source has.
//!
//! A unit follows the frame with its hash. The hash of a unit is the chaining value of its subtree,
//! so that all of them together give the BLAKE3 of the content.

use serde::{Deserialize, Serialize};

use crate::dist::ids::{CommandKey, ContentId, Digest, JobId, NodeName};

/// Media type of frames.
pub const UNITS_TYPE: &str = "application/vnd.headend.units";

/// `GET /peer/v1/contents/{content}/state`: how a receiver tells a starved source from a dead one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentState {
    /// Verified bytes.
    pub have: u64,
    /// Size and hash, once the end is known.
    pub end: Option<ContentEnd>,
    /// From whom it comes, the nearest first: a receiver that finds itself here looks elsewhere.
    pub via: Vec<NodeName>,
    /// Bytes per second that come in.
    pub rate: u64,
    /// The stream to who asks has bytes that wait for the rate or the window of their job: it is
    /// slow on purpose.
    #[serde(default)]
    pub is_held: bool,
}

/// What a source that has no room for another stream says, in its problem details.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoRoom {
    /// Nodes that have more of the content than who asked, the best first.
    #[serde(default)]
    pub alternatives: Vec<Alternative>,
}

/// What a source says that does not have all of a part, in its problem details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// Verified bytes.
    pub have: u64,
}

/// Another source of a content. The capability that a node has counts there, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alternative {
    /// Its name.
    pub node: NodeName,
    /// Address, `ip:port`.
    pub addr: String,
}

/// Size and hash of a whole content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentEnd {
    /// Bytes.
    pub size: u64,
    /// BLAKE3.
    pub blake3: Digest,
}

/// The right of a node to fetch a content. As a token: base64url of its JSON, a dot, base64url of
/// the base's Ed25519 signature of the JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// The content.
    pub content: ContentId,
    /// Who may fetch it.
    pub node: NodeName,
    /// UTC seconds until which it counts; a source allows five minutes more.
    pub expires_s: i64,
    /// The job of the content: a source splits its uplink among jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
}

/// The right of a node to reflect a live path of a job from the job's other nodes. As a token:
/// `hdl_`, base64url of its JSON, a dot, base64url of the base's Ed25519 signature of
/// `headend live capability`, a line feed and the JSON. It is shown in each RTSP request as
/// `Authorization: Bearer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveCapability {
    /// The command that brings the path.
    pub key: CommandKey,
    /// The path, at whatever node of the job.
    pub path: String,
    /// Who may read it.
    pub node: NodeName,
    /// UTC seconds until which it counts; a node allows five minutes more.
    pub expires_s: i64,
}

//! Keys of SRTP on their way from a connection to the streams of a session.
//!
//! ```text
//!  connection: a=crypto, a=key-mgmt, KeyMgmt --SrtpLeave--> SETUP --> StreamKeys --> SrtpStream
//! ```
//! A connection tells keys over TLS only, and each key to one SETUP only.
//! Invariant: no two streams that the server sends have the same key.

use crate::base::ids::Ssrc;
use crate::metrics::cells::ShardCells;
use crate::rtp::srtp::mikey::{self, Mikey, MikeyError};
use crate::rtp::srtp::sdes::{self, SdesError};
use crate::rtp::srtp::{MasterKey, SrtpStream, UnprotectError};
use crate::rtsp::key_mgmt::{KeyMgmtError, parse_key_mgmt_attribute};
use crate::sdp::session::MediaSdp;

/// What a connection allows a request to do with SRTP.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SrtpLeave {
    /// Keys may be told on the connection.
    pub is_served: bool,
    /// Streams without encryption are refused.
    pub is_required: bool,
    /// Keys of the stream that a SETUP asks for.
    pub keys: Option<Box<StreamKeys>>,
}

/// Keys of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamKeys {
    /// Key of what the server sends.
    pub ours: MasterKey,
    /// Key of what the client sends.
    pub theirs: MasterKey,
    /// Rollover counters that the client has told.
    pub rocs: Vec<(Ssrc, u32)>,
    /// The server's description had a key of what it sends: the client expects encryption, also if
    /// it asks for RTP/AVP as FFmpeg does (client rule C10).
    pub is_in_our_description: bool,
}

/// What a SETUP has of keys: what the choice of a transport needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// None: RTP/SAVP cannot be served.
    Missing,
    /// RTP/SAVP can be served.
    Here,
    /// Every transport is encrypted.
    Described,
}

/// Why the keys of a publisher's description cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DescribedKeyError {
    #[error("{0}")]
    Sdes(#[from] SdesError),
    #[error("{0}")]
    KeyMgmt(#[from] KeyMgmtError),
    #[error("{0}")]
    Mikey(#[from] MikeyError),
}

impl SrtpLeave {
    /// What the choice of a transport needs to know.
    pub(crate) fn keys(&self) -> Keys {
        match &self.keys {
            None => Keys::Missing,
            Some(keys) if keys.is_in_our_description => Keys::Described,
            Some(_) => Keys::Here,
        }
    }
}

impl StreamKeys {
    /// Keys of a publisher whose only key is in its description: both directions have it.
    pub(crate) fn of_described(key: Mikey) -> Self {
        let Mikey { key, sources } = key;
        Self { ours: key.clone(), theirs: key, rocs: sources, is_in_our_description: false }
    }

    /// The state of a stream with these keys.
    #[must_use]
    pub fn stream(&self) -> SrtpStream {
        SrtpStream::new(&self.ours, &self.theirs, &self.rocs)
    }
}

/// The key of a media in a publisher's description: the first one that is carried. `None`: none is
/// there.
pub(crate) fn described_key(media: &MediaSdp) -> Result<Option<Mikey>, DescribedKeyError> {
    let by_mikey = media.attributes("key-mgmt").map(|value| {
        let message = parse_key_mgmt_attribute(value)?;
        Ok(mikey::parse(&message)?)
    });
    let by_sdes = media.attributes("crypto").map(|value| {
        let key = sdes::parse(value)?;
        Ok(Mikey { key, sources: Vec::new() })
    });
    let mut first_error = None;
    for key in by_mikey.chain(by_sdes) {
        match key {
            Ok(key) => return Ok(Some(key)),
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    first_error.map_or(Ok(None), Err)
}

/// Counts a packet that SRTP has refused.
pub(crate) fn count_refused(cells: &ShardCells, error: UnprotectError) {
    let reason = match error {
        UnprotectError::Forged => 1,
        UnprotectError::Replayed => 2,
        UnprotectError::TooManySources => 3,
        UnprotectError::Malformed => 0,
    };
    if let Some(count) = cells.srtp_refused.get(reason) {
        count.add(1);
    }
}

/// Decrypts RTCP into `place`. `None`: the packet is refused, and counted.
pub(crate) fn open_rtcp<'a>(
    cells: &ShardCells,
    srtp: &SrtpStream,
    bytes: &[u8],
    place: &'a mut Vec<u8>,
) -> Option<&'a [u8]> {
    place.clear();
    place.extend_from_slice(bytes);
    match srtp.unprotect_rtcp(place) {
        Ok(end) => place.get(..end),
        Err(error) => {
            count_refused(cells, error);
            None
        }
    }
}

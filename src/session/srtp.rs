//! Keys of SRTP on their way from a connection to the streams of a session.
//!
//! ```text
//!  connection: a=crypto, a=key-mgmt, KeyMgmt -SrtpPermission-> SETUP -> StreamKeys -> SrtpStream
//! ```
//! A connection tells keys over TLS only, and each key to one SETUP only.
//! Invariant: no two streams of a session that the server sends have the same key. No two sessions
//! share one that the server has made; a publisher may announce its key again, and the server's
//! reports to it have another SSRC at random then.

use crate::base::ids::Ssrc;
use crate::metrics::cells::ShardCells;
use crate::rtp::srtp::mikey::{self, Mikey, MikeyError};
use crate::rtp::srtp::sdes::{self, SdesError};
use crate::rtp::srtp::{MasterKey, SrtpStream, UnprotectError};
use crate::rtsp::key_mgmt::{KeyMgmtError, parse_key_mgmt_attribute};
use crate::sdp::session::{MediaSdp, SessionSdp};

/// What a connection allows a request to do with SRTP.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SrtpPermission {
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

/// Why a packet is refused, in the order of `SRTP_REFUSALS`.
#[derive(Debug, Clone, Copy)]
enum Reason {
    Malformed,
    Forged,
    Replayed,
    Sources,
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
    /// What the server sends to both would have the same key, too.
    #[error("two streams have the same SRTP key")]
    Shared,
}

impl SrtpPermission {
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

/// Checks the keys of all medias in a publisher's description.
pub(crate) fn check_described_keys(sdp: &SessionSdp) -> Result<(), DescribedKeyError> {
    let mut known: Vec<MasterKey> = Vec::new();
    for media in sdp.medias() {
        let Some(Mikey { key, .. }) = described_key(media)? else { continue };
        if known.iter().any(|known| known.has_key_of(&key)) {
            return Err(DescribedKeyError::Shared);
        }
        known.push(key);
    }
    Ok(())
}

/// Counts a packet that SRTP has refused.
pub(crate) fn count_refused(cells: &ShardCells, error: UnprotectError) {
    let reason = match error {
        UnprotectError::Malformed => Reason::Malformed,
        UnprotectError::Forged => Reason::Forged,
        UnprotectError::Replayed => Reason::Replayed,
        UnprotectError::TooManySources => Reason::Sources,
    };
    cells.srtp_refused[reason as usize].add(1);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::srtp::Suite;
    use crate::sdp::read::read_session;

    #[test]
    fn publisher_has_a_key_for_each_stream() {
        let key = |first: u8, suite: Suite| {
            let bytes = [&[first; 16][..], &[9; 14]].concat();
            MasterKey::from_bytes(suite, &bytes[..suite.master_bytes()]).unwrap()
        };
        let check = |video: &MasterKey, audio: &MasterKey| {
            let text = format!(
                "v=0\r\nm=video 0 RTP/SAVP 96\r\na=rtpmap:96 H264/90000\r\na=crypto:{}\r\n\
                 m=audio 0 RTP/SAVP 0\r\na=crypto:{}\r\n\
                 m=audio 0 RTP/AVP 0\r\nm=audio 0 RTP/AVP 0\r\n",
                sdes::write(1, video),
                sdes::write(1, audio)
            );
            check_described_keys(&read_session(text.as_bytes()).unwrap())
        };
        let first = key(1, Suite::AesCm128Sha1Tag80);
        assert_eq!(check(&first, &key(2, Suite::AesCm128Sha1Tag80)), Ok(()));
        assert_eq!(check(&first, &first), Err(DescribedKeyError::Shared));
        let same = key(1, Suite::AesCm128Sha1Tag32);
        assert_eq!(check(&first, &same), Err(DescribedKeyError::Shared), "by another suite");
    }
}

//! The messages of a takeover.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::VERSIONS;
use super::v1::{Fd, PairRecord, ShardRecord, TitleRecord};

/// Titles that one [`ToOld::Without`] can name.
pub const WITHOUT_MAX: usize = 4_096;

/// What the new process says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToOld {
    /// It wants to take over.
    Hello(Hello),
    /// Titles that do not open there, so that their players cannot be taken over. Said before
    /// `Freeze`, if there are some and they may end.
    Without {
        /// Places in [`Offer::titles`].
        titles: Vec<u32>,
    },
    /// It is ready: the sessions are to be handed over.
    Freeze,
    /// It has taken everything in, and the right to go on ([`Offer::right`]): it goes on from here.
    Taken,
    /// It serves, and everybody knows that: the old process may end.
    Serves {
        /// It listens for the next one at the socket that was offered.
        has_socket: bool,
    },
    /// It does not go on.
    Refused {
        /// A sentence.
        why: String,
    },
}

/// What the old process says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToNew {
    /// What there is to be taken over.
    Offer(Offer),
    /// What one shard hands over.
    Shard(Box<ShardRecord>),
    /// All shards have told theirs.
    Frozen,
    /// It goes on itself.
    Refused {
        /// A sentence.
        why: String,
    },
}

/// The new process introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Versions of records that it reads.
    pub versions: Vec<u32>,
    /// Its own version, to be shown.
    #[serde(default)]
    pub program: String,
    /// Sessions that cannot be handed over may be ended.
    #[serde(default)]
    pub may_end: bool,
    /// The process itself, as a pidfd.
    #[serde(default)]
    pub process: Option<Fd>,
}

/// What there is to be taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Version of the records that follow.
    pub version: u32,
    /// Version of the old process, to be shown.
    #[serde(default)]
    pub program: String,
    /// Listening sockets.
    #[serde(default)]
    pub listeners: Vec<Offered>,
    /// The pairs of UDP sockets of all shards, each with the shard in the ids of its sessions: the
    /// first of a shard comes before its others.
    #[serde(default)]
    pub pairs: Vec<PairRecord>,
    /// Titles that are played.
    #[serde(default)]
    pub titles: Vec<TitleRecord>,
    /// The right to go on: an eventfd that counts one. The process that reads that goes on, and the
    /// other one never does.
    pub right: Fd,
    /// The old process, as a pidfd.
    #[serde(default)]
    pub process: Option<Fd>,
    /// Its number, where it counts its processes: that of somebody else in another container.
    #[serde(default)]
    pub pid: u32,
}

/// A listening socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// What clients speak there: `rtsp`, `rtsps`, `http` (tunnels), `admin`, `hls`,
    /// `webrtc` (datagrams), `takeover`.
    pub speaks: String,
    /// Address; `None` for `takeover`.
    #[serde(default)]
    pub addr: Option<SocketAddr>,
    /// The socket.
    pub socket: Fd,
}

impl Hello {
    /// Of this program.
    #[must_use]
    pub fn new(program: &str, may_end: bool) -> Self {
        Self { versions: VERSIONS.to_vec(), program: program.to_owned(), may_end, process: None }
    }

    /// The newest version that both processes know.
    ///
    /// # Errors
    /// A sentence: there is none.
    pub fn common_version(&self) -> Result<u32, String> {
        let common = VERSIONS.iter().copied().find(|own| self.versions.contains(own));
        common.ok_or_else(|| {
            format!(
                "the new program reads versions {:?} of the records of a takeover, and the one \
                 that runs writes {VERSIONS:?}; stop it and start the new one",
                self.versions
            )
        })
    }
}

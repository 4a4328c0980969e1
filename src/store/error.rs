//! Why a content cannot be taken, and why it cannot be published.

use std::io;

use rustix::io::Errno;

use crate::dist::ids::Digest;
use crate::dist::units::UnitError;
use crate::dist::wire::job::Reason;

/// A content does not take what it is given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk is full.
    #[error("no space left on the disk")]
    NoSpace,
    /// Another error of the file system.
    #[error("{text}")]
    Io {
        /// Kind.
        kind: io::ErrorKind,
        /// For people.
        text: String,
    },
    /// More bytes than were announced.
    #[error("more than the {size} bytes that were announced")]
    TooLong {
        /// Announced.
        size: u64,
    },
    /// The end comes before the last byte.
    #[error("{have} bytes of the {size} that were announced")]
    TooShort {
        /// Taken.
        have: u64,
        /// Announced.
        size: u64,
    },
    /// Bytes are not the next.
    #[error("the next byte is that at {have}")]
    Offset {
        /// Bytes so far.
        have: u64,
    },
    /// The content has its end.
    #[error("the content has ended")]
    Ended,
    /// The content was removed.
    #[error("the content was removed")]
    Removed,
    /// Not the bytes that were announced. The content is spoilt.
    #[error("BLAKE3 of the content is {found}, announced was {expected}")]
    BadHash {
        /// Announced.
        expected: Digest,
        /// Of the bytes.
        found: Digest,
    },
    /// A unit fails its hash.
    #[error("unit {unit} fails its hash")]
    BadUnit {
        /// Number, from 0.
        unit: u64,
    },
    /// The base did not sign this.
    #[error("a frame is not signed by the base")]
    BadSignature,
    /// Frames of a source break their order, or the end does not fit.
    #[error(transparent)]
    Frames(UnitError),
    /// Bytes at a node, or frames at the base.
    #[error("a base takes bytes, a node takes frames")]
    OtherSide,
}

/// A content does not get its name.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Bytes are missing.
    #[error("the content is not whole")]
    NotWhole,
    /// Not a path within the media folder.
    #[error("'{path}' is no path within the media folder")]
    BadPath {
        /// As given.
        path: String,
    },
    /// Something else is in the way.
    #[error("'{path}': {what}")]
    Conflict {
        /// As given.
        path: String,
        /// For people.
        what: &'static str,
    },
    /// An attribute cannot be kept.
    #[error("attribute '{name}': {source}")]
    Attribute {
        /// `mode`, `mtime`, or name of an extended attribute.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// Another error of the file system.
    #[error("'{path}': {source}")]
    Io {
        /// As given.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The content's bytes could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl StoreError {
    /// The reason as reports have it.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::NoSpace => Reason::NoSpace,
            Self::Io { kind: io::ErrorKind::PermissionDenied, .. } => Reason::Permission,
            Self::BadHash { .. } | Self::BadUnit { .. } | Self::BadSignature | Self::Frames(_) => {
                Reason::BadHash
            }
            Self::Io { .. }
            | Self::TooLong { .. }
            | Self::TooShort { .. }
            | Self::Offset { .. }
            | Self::Ended
            | Self::Removed
            | Self::OtherSide => Reason::Io,
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        if is_no_space(&error) {
            return Self::NoSpace;
        }
        Self::Io { kind: error.kind(), text: error.to_string() }
    }
}

impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::NoSpace => io::ErrorKind::StorageFull,
            StoreError::Io { kind, .. } => *kind,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl From<UnitError> for StoreError {
    fn from(error: UnitError) -> Self {
        match error {
            UnitError::BadUnit { unit } => Self::BadUnit { unit },
            UnitError::BadSignature => Self::BadSignature,
            UnitError::Gap { .. }
            | UnitError::NoHash { .. }
            | UnitError::TooFar { .. }
            | UnitError::TooManyHashes
            | UnitError::BehindLast
            | UnitError::BadEnd { .. } => Self::Frames(error),
        }
    }
}

impl PublishError {
    /// The reason as reports have it.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotWhole => Reason::Io,
            Self::BadPath { .. } | Self::Conflict { .. } => Reason::PathConflict,
            Self::Attribute { source, .. } | Self::Io { source, .. } => reason_of(source),
            Self::Store(error) => error.reason(),
        }
    }

    /// True when the same attempt may do later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self.reason(), Reason::Io)
    }
}

/// The reason of an error of the file system.
#[must_use]
pub(super) fn reason_of(error: &io::Error) -> Reason {
    match error.kind() {
        _ if is_no_space(error) => Reason::NoSpace,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Reason::Permission,
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::DirectoryNotEmpty
        | io::ErrorKind::InvalidFilename
        | io::ErrorKind::CrossesDevices => Reason::PathConflict,
        _ => Reason::Io,
    }
}

fn is_no_space(error: &io::Error) -> bool {
    let full = [Errno::NOSPC, Errno::DQUOT, Errno::FBIG].map(|errno| errno.raw_os_error());
    error.raw_os_error().is_some_and(|errno| full.contains(&errno))
        || error.kind() == io::ErrorKind::StorageFull
}

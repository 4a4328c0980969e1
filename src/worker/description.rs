//! Work::ReadDescription: the SDP file of a live source.
//!
//! The configuration names it, so it may lie anywhere; still it is looked at before it is opened:
//! opening a FIFO or a tape can block (invariant I1).
//! Bound: `SDP_BYTES_MAX`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use super::engine::Engine;
use super::lanes::Lanes;
use super::reply::Reply;
use crate::library::title::FileIdentity;
use crate::poll::task::{DescriptionFailure, Outcome};
use crate::sandbox;
use crate::sdp::read::{SDP_BYTES_MAX, SdpError, read_session};
use crate::sdp::session::SessionSdp;

/// Reads it, and answers.
pub(super) async fn read(engine: &Engine, lanes: &Lanes, file: PathBuf, reply: Reply) {
    let outcome = read_file(engine, lanes, &file).await;
    reply.send(Outcome::Described(outcome));
}

async fn read_file(
    engine: &Engine,
    lanes: &Lanes,
    file: &Path,
) -> Result<Box<SessionSdp>, DescriptionFailure> {
    let unreadable = |why: &dyn std::fmt::Display| DescriptionFailure::Unreadable {
        file: file.to_owned(),
        why: why.to_string(),
    };
    let wrong = |why: SdpError| DescriptionFailure::Sdp { file: file.to_owned(), why };
    let opened = open(file).map_err(|error| unreadable(&sandbox::why(file, &error)))?;
    let identity = FileIdentity::of(&opened).map_err(|error| unreadable(&error))?;
    let have_bytes = usize::try_from(identity.bytes).unwrap_or(usize::MAX);
    if have_bytes > SDP_BYTES_MAX {
        return Err(wrong(SdpError::TooLong { have_bytes, limit_bytes: SDP_BYTES_MAX }));
    }
    let reader = engine.reader(lanes, &opened, identity);
    let bytes = reader.read(0, have_bytes).await;
    reader.close().await;
    let bytes = bytes.map_err(|error| unreadable(&error))?;
    read_session(&bytes).map(Box::new).map_err(wrong)
}

/// Opens a regular file and nothing else.
fn open(file: &Path) -> io::Result<File> {
    let is_regular =
        |stat: &rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let not_regular = || io::Error::other("not a regular file");
    let seen = rustix::fs::open(file, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if !is_regular(&rustix::fs::fstat(&seen)?) {
        return Err(not_regular());
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(file, flags, Mode::empty())?;
    // Another one may have taken its name meanwhile.
    if !is_regular(&rustix::fs::fstat(&opened)?) {
        return Err(not_regular());
    }
    Ok(File::from(opened))
}

//! The built-in clip: what is served when no folder is given.
//!
//! It lives in a sealed memory file, so that workers read it and shards map it like any other
//! title. Invariant: once made, its bytes and length never change (the seals see to it), so it is
//! exempt from the check whether the file still is what was opened.

use std::fs::File;
use std::io::{self, Write as _};

use rustix::fs::{MemfdFlags, SealFlags};

use super::title::FileIdentity;

/// The built-in clip as a file in memory.
#[derive(Debug)]
pub(super) struct Clip {
    file: File,
    identity: FileIdentity,
}

impl Clip {
    pub(super) fn new() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(rustix::fs::memfd_create("headend-clip", flags)?);
        file.write_all(CLIP_BYTES)?;
        // FUTURE_WRITE and not WRITE: before Linux 6.7 a file sealed with WRITE cannot be mapped
        // shared, not even for reading.
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        let identity = super::resolve::identity(&rustix::fs::fstat(&file)?);
        Ok(Self { file, identity })
    }

    pub(super) fn open(&self) -> io::Result<(File, FileIdentity)> {
        Ok((self.file.try_clone()?, self.identity))
    }
}

const CLIP_BYTES: &[u8] = include_bytes!("demo.mp4");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapped::MappedFile;

    #[test]
    fn clip_is_mapped_and_cannot_be_changed() {
        let clip = Clip::new().unwrap();
        let (mut file, identity) = clip.open().unwrap();
        assert_eq!(identity.bytes, CLIP_BYTES.len() as u64);
        assert_eq!(MappedFile::new(&file).unwrap().file_bytes(), identity.bytes);
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(0).is_err());
    }
}

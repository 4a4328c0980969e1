//! Servers that take over from one another, and a program between two of them that passes on what
//! they say, message by message.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use headend::takeover::frame::{HEAD_BYTES, Head};
use headend::takeover::{ToNew, ToOld};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tempfile::TempDir;

use super::process::{Finished, run_command};
use super::scratch;
use super::server::{Options, Server, command};
use super::wait::PATIENCE;

/// A server with a folder for its state, and those that take over from it.
pub(crate) struct Site {
    pub(crate) state: TempDir,
    pub(crate) config: String,
    pub(crate) folder: Option<PathBuf>,
    /// `--rtp-port`.
    pub(crate) rtp_port: String,
}

impl Site {
    pub(crate) fn new(more: &str) -> Self {
        let state = tempfile::tempdir_in(scratch()).unwrap();
        let config = format!(
            "[server]\nstate_dir = \"{}\"\n[vod]\nquality = \"off\"\n[path.\"live/a\"]\n{more}",
            state.path().display()
        );
        Self { state, config, folder: None, rtp_port: "0".to_owned() }
    }

    pub(crate) fn command(&self, shards: &str, files: &Path) -> Command {
        let (folder, config) = (self.folder.as_deref(), Some(self.config.as_str()));
        let rtp_port = &self.rtp_port;
        command(&Options { shards, config, folder, rtp_port, ..Options::default() }, files)
    }

    pub(crate) fn start(&self, shards: &str) -> Server {
        let files = tempfile::tempdir_in(scratch()).unwrap();
        Server::run(self.command(shards, files.path()), files)
    }

    /// A server that takes over; `how` is the flag.
    pub(crate) fn take_over(&self, shards: &str, how: &str) -> Server {
        let files = tempfile::tempdir_in(scratch()).unwrap();
        let mut command = self.command(shards, files.path());
        command.arg(how);
        Server::run(command, files)
    }

    /// What a server says that does not take over.
    pub(crate) fn refused(&self, shards: &str) -> String {
        let ended = self.run(shards, &["--takeover"]);
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        ended.stderr
    }

    /// A server with more words, which ends by itself.
    pub(crate) fn run(&self, shards: &str, words: &[&str]) -> Finished {
        let files = tempfile::tempdir_in(scratch()).unwrap();
        run_command(self.command(shards, files.path()).args(words), PATIENCE)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.state.path().join("takeover").join("socket")
    }
}

/// A program between an old and a new server. The descriptors that it passes on are theirs.
pub(crate) struct Between {
    _folder: TempDir,
    path: PathBuf,
    listener: UnixListener,
}

impl Between {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir_in(scratch()).unwrap();
        let path = folder.path().join("between");
        let listener = UnixListener::bind(&path).unwrap();
        Self { _folder: folder, path, listener }
    }

    /// Words for the new server.
    pub(crate) fn words(&self) -> [&str; 3] {
        ["--takeover", "--takeover-at", self.path.to_str().unwrap()]
    }

    /// Connects the next new server that comes with the old one of a site.
    pub(crate) fn connect(&self, site: &Site) -> Talk {
        let (new, _) = self.listener.accept().unwrap();
        let old = UnixStream::connect(site.socket()).unwrap();
        for stream in [&new, &old] {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        Talk { new, old, speaker: Speaker::New }
    }
}

/// Who speaks next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaker {
    New,
    Old,
}

/// What two servers say.
pub(crate) struct Talk {
    pub(crate) new: UnixStream,
    pub(crate) old: UnixStream,
    speaker: Speaker,
}

/// A message with its descriptors.
pub(crate) struct Passed {
    bytes: Vec<u8>,
    files: Vec<OwnedFd>,
    pub(crate) to: Speaker,
}

impl Passed {
    /// What the new server says.
    pub(crate) fn of_new(&self) -> ToOld {
        serde_json::from_slice(&self.bytes[HEAD_BYTES..]).unwrap()
    }
}

impl Talk {
    /// The next message, which is not passed on yet; `None`: who is to speak has ended.
    pub(crate) fn hear(&mut self) -> Option<Passed> {
        let from = match self.speaker {
            Speaker::New => &self.new,
            Speaker::Old => &self.old,
        };
        let (bytes, files) = read_message(from)?;
        let to = match self.speaker {
            Speaker::New => Speaker::Old,
            Speaker::Old => Speaker::New,
        };
        // Hello, Offer, Without or not, Freeze, Shard.., Frozen, Taken, Serves.
        let body = &bytes[HEAD_BYTES..];
        let goes_on = match self.speaker {
            Speaker::New => {
                let said = serde_json::from_slice(body);
                matches!(said, Ok(ToOld::Taken | ToOld::Without { .. }))
            }
            Speaker::Old => matches!(serde_json::from_slice(body), Ok(ToNew::Shard(_))),
        };
        if !goes_on {
            self.speaker = to;
        }
        Some(Passed { bytes, files, to })
    }

    /// Passes a message on.
    ///
    /// # Errors
    /// Who is to hear it has ended.
    pub(crate) fn pass(&self, message: &Passed) -> std::io::Result<()> {
        let to = match message.to {
            Speaker::New => &self.new,
            Speaker::Old => &self.old,
        };
        write_message(to, message)
    }
}

impl Passed {
    /// Puts another file in the place of a title of the offer.
    pub(crate) fn replace_title(&mut self, name: &str, file: std::fs::File) {
        let offer = serde_json::from_slice(&self.bytes[HEAD_BYTES..]).unwrap();
        let ToNew::Offer(offer) = offer else { panic!("{offer:?}") };
        let mut titles = offer.titles.iter();
        let title = titles.find(|title| title.name.as_deref() == Some(name)).unwrap();
        self.files[title.file.0 as usize] = file.into();
    }
}

/// A message with its descriptors; `None`: the other end is closed.
pub(crate) fn read_message(mut from: &UnixStream) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; HEAD_BYTES];
    from.read_exact(&mut bytes).ok()?;
    let head = Head::from_bytes(bytes[..].try_into().unwrap()).unwrap();
    assert!(!head.is_apart, "there is little to tell in these tests");
    bytes.resize(HEAD_BYTES + head.bytes as usize, 0);
    from.read_exact(&mut bytes[HEAD_BYTES..]).ok()?;
    let mut files = Vec::new();
    while files.len() < head.descriptors as usize {
        let mut space = [std::mem::MaybeUninit::uninit(); SPACE];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let mut slices = [std::io::IoSliceMut::new(&mut byte)];
        recvmsg(from, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC).ok()?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                files.extend(rights);
            }
        }
    }
    Some((bytes, files))
}

fn write_message(mut to: &UnixStream, message: &Passed) -> std::io::Result<()> {
    to.write_all(&message.bytes)?;
    for piece in message.files.chunks(PIECE) {
        let borrowed: Vec<_> = piece.iter().map(|file| file.as_fd()).collect();
        let mut space = [std::mem::MaybeUninit::uninit(); SPACE];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)));
        let byte = [std::io::IoSlice::new(b"F")];
        sendmsg(to, &byte, &mut ancillary, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

const PIECE: usize = headend::takeover::frame::DESCRIPTORS_A_PIECE;
const SPACE: usize = rustix::cmsg_space!(ScmRights(PIECE));

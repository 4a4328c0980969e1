//! Work that a shard hands to the worker pool, and what comes back.
//!
//! reference 001: Task objects are placed on a FIFO TaskQueue and executed by pool threads; when
//! one completes, polling of the descriptor it was made for is resumed.

use std::path::PathBuf;
use std::sync::Arc;

use super::poll_table::EntryKey;
use crate::access::question::{Answer, Question};
use crate::base::host::Host;
use crate::base::ids::{CameraName, ShardId};
use crate::library::title::{Adopted, Title};
use crate::media::image::{ImageError, ImageNumbers};
use crate::media::payload_window::PayloadWindow;
use crate::media::window::{PacketWindow, WindowKey};
use crate::sdp::read::SdpError;
use crate::sdp::session::SessionSdp;

/// A unit of work.
#[derive(Debug, Clone)]
pub struct Task {
    /// Where the outcome goes.
    pub shard: ShardId,
    /// What the shard does it for, returned with the outcome.
    pub owner: TaskOwner,
    /// Which queue it waits in.
    pub class: TaskClass,
    /// What to do.
    pub work: Work,
}

/// What a task is done for, on its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskOwner {
    /// A request on this connection, which waits for a title or for leave.
    Connection(EntryKey),
    /// Streams that wait for a window, by the number of their request.
    Window(u32),
    /// Streams that go on without it.
    Image,
    /// An attempt to pull from a camera, which needs its address.
    Camera(CameraName),
    /// An input that is described by a file, by the number of its source.
    Input(u32),
    /// A change of what a session plays, by its number, and the stream that the task is for.
    Tuning {
        /// Number of the change.
        number: u32,
        /// Stream of the session.
        stream: u8,
    },
    /// A request of the guest (`Poller::with_guest`), by its number.
    Guest(u32),
    /// Sessions of another process, by the place of their title.
    Takeover(u32),
    /// A path that is fed by titles.
    Titles {
        /// Number of the feed.
        feed: u32,
        /// Number of its request.
        request: u32,
    },
}

#[cfg(test)]
impl TaskOwner {
    /// An owner with a number, and back.
    pub(crate) fn numbered(number: u64) -> Self {
        Self::Window(u32::try_from(number).expect("a small number"))
    }

    pub(crate) fn number(self) -> u64 {
        let Self::Window(number) = self else { panic!("{self:?} has no number") };
        number.into()
    }
}

/// Tasks of a class are FIFO; a lower class waits for a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskClass {
    /// A client waits for the answer to a command.
    Control,
    /// A stream will need it soon.
    Prefetch,
    /// Nobody waits.
    Bulk,
}

/// What a worker does.
#[derive(Debug, Clone)]
pub enum Work {
    /// Opens (or finds open) a title of the library by its percent-decoded name.
    Open {
        /// Path inside the library; empty for none. `None` stands for the built-in clip.
        name: Option<String>,
    },
    /// Opens (or finds open) a title whose file another process has open.
    Adopt(Arc<Adopted>),
    /// Finds the addresses of a host.
    Resolve {
        /// Its name, or a link-local address.
        host: String,
        /// Name or number of the interface that the address is reached by.
        zone: Option<String>,
    },
    /// Builds (or finds built) a window, and brings its bytes into the page cache.
    Window {
        /// Of which title.
        title: Arc<Title>,
        /// Which window.
        key: WindowKey,
    },
    /// Builds a window and reads the bytes of its packets.
    WindowBytes {
        /// Of which title.
        title: Arc<Title>,
        /// Which window.
        key: WindowKey,
    },
    /// Puts the packets of a window into memory as they go on the wire.
    Image {
        /// Of which title.
        title: Arc<Title>,
        /// Which window. It gets the image.
        window: Arc<PacketWindow>,
        /// What the headers say.
        numbers: ImageNumbers,
    },
    /// Finds out whether a client may do what it requests.
    Judge(Box<Question>),
    /// Reads the description of a live source.
    ReadDescription {
        /// By its own name, not one of the library: the configuration names it.
        file: PathBuf,
    },
}

/// A finished task.
#[derive(Debug)]
pub struct TaskDone {
    /// As in the task.
    pub owner: TaskOwner,
    /// What became of it.
    pub outcome: Outcome,
}

/// What a worker found.
#[derive(Debug)]
pub enum Outcome {
    /// Of `Work::Open` and `Work::Adopt`.
    Opened(Result<Arc<Title>, OpenFailure>),
    /// Of `Work::Resolve`.
    Resolved(Result<Vec<Host>, ResolveFailure>),
    /// Of `Work::Window`.
    Window(Result<Arc<PacketWindow>, WindowFailure>),
    /// Of `Work::WindowBytes`.
    WindowBytes(Result<Box<PayloadWindow>, WindowFailure>),
    /// Of `Work::Image`.
    Image(Result<(), ImageFailure>),
    /// Of `Work::Judge`.
    Judged(Answer),
    /// Of `Work::ReadDescription`.
    Described(Result<Box<SessionSdp>, DescriptionFailure>),
}

/// Why a file gives no description of a live source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptionFailure {
    /// It cannot be read.
    #[error("{} cannot be read: {why}", file.display())]
    Unreadable {
        /// As configured.
        file: PathBuf,
        /// What the system says.
        why: String,
    },
    /// It is no description.
    #[error("{} is no session description (SDP): {why}", file.display())]
    Sdp {
        /// As configured.
        file: PathBuf,
        /// Where, and what.
        why: SdpError,
    },
    /// Nobody had time to read it.
    #[error("no worker is free to read the description")]
    Busy,
}

/// Why a title does not open; the edge maps it to an RTSP status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenFailure {
    /// No such file, not a regular file, or outside the media root: all 404, so that a stranger
    /// learns nothing about the file system.
    #[error("no such title")]
    NotFound,
    /// The file is there, but is not playable media: 415.
    #[error("{0}")]
    Unplayable(String),
    /// The server cannot read it now (permissions, descriptors, disk): 503.
    #[error("{0}")]
    Unavailable(String),
}

/// Why a host has no addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveFailure {
    /// As the system says it.
    #[error("the name of its host is not found: {0}")]
    Name(String),
    /// This host has no such interface, or has it no longer.
    #[error("this host has no network interface {zone}, which the URL of the source names")]
    Interface {
        /// Its name or number.
        zone: String,
    },
}

/// Why a window has no image; its packets are gathered as ever.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageFailure {
    /// Images in use take all memory that is given to them.
    #[error("images in use take all their memory (vod.image_memory)")]
    NoRoom,
    /// Other streams send from the image that the window has.
    #[error("the window has an image that is in use")]
    InUse,
    /// See there.
    #[error("{0}")]
    Image(#[from] ImageError),
    /// Its payload cannot be read.
    #[error("{0}")]
    Window(#[from] WindowFailure),
    /// Nobody had time for it.
    #[error("no worker is free to make an image")]
    Busy,
}

/// Why a window cannot be built: ends the sessions that need it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WindowFailure {
    /// The file was truncated, replaced or deleted since it was opened.
    #[error("the file changed while it was playing")]
    FileChanged,
    /// The bytes are not what the index promised.
    #[error("{0}")]
    Corrupt(String),
    /// Reading failed.
    #[error("{0}")]
    Unreadable(String),
}

//! One file on its way to the base: whole, or on from where it broke off.
//!
//! ```text
//! PUT --cut off--> HEAD --Upload-Offset--> PATCH --cut off--> HEAD ..   --> hash compared
//! ```
//! Invariants: a file counts as sent only when the base has the hash of the bytes that were read
//! here, and the file did not change meanwhile. Without progress it is given up after
//! `GIVE_UP_AFTER`.
//! Bound: `READ_BYTES` of a file in memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use ureq::SendBody;
use ureq::http::HeaderMap;

use super::super::printable;
use super::super::urls::encode_path;
use super::base::{Base, BaseError, GIVE_UP_AFTER, WAIT_MAX, WAIT_MIN};
use super::files::Item;
use crate::dist::ids::{CommandId, JobId};

/// Why the base does not have a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    /// It cannot be read here.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It was written while it was sent.
    #[error("{path} changed while it was pushed (file_changed)")]
    Changed {
        /// Which.
        path: String,
        /// Its put, as far as it is known.
        command: Option<CommandId>,
    },
    /// The base has other bytes.
    #[error("{path}: the base has other bytes than were sent (bad_hash)")]
    OtherBytes {
        /// Which.
        path: String,
        /// Its put.
        command: CommandId,
    },
    /// The base.
    #[error("{path}: {source}")]
    Base {
        /// Which.
        path: String,
        /// Why.
        source: BaseError,
    },
    /// Another file failed for good.
    #[error("{path} was not sent")]
    Stopped {
        /// Which.
        path: String,
    },
}

impl UploadError {
    /// The put that is to be withdrawn.
    pub(super) fn command(&self) -> Option<CommandId> {
        match self {
            Self::Changed { command, .. } => *command,
            Self::OtherBytes { command, .. } => Some(*command),
            Self::File { .. } | Self::Base { .. } | Self::Stopped { .. } => None,
        }
    }
}

/// What uploads share.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Bytes that went out, of all files.
    pub(super) sent: AtomicU64,
    /// Uploads end as soon as they can.
    pub(super) is_stopped: AtomicBool,
}

/// How far the base says that an upload is.
struct Offset {
    bytes: u64,
    command: CommandId,
    blake3: Option<String>,
    is_complete: bool,
}

/// Sends a file. Gives its put.
pub(super) fn send(
    base: &Base,
    job: JobId,
    item: &Item,
    progress: &Progress,
) -> Result<CommandId, UploadError> {
    let path = || printable(&item.path);
    let unreadable = |source| UploadError::File { path: path(), source };
    let changed = |command| UploadError::Changed { path: path(), command };
    let failed = |source| UploadError::Base { path: path(), source };
    let mut file = File::open(&item.file).map_err(unreadable)?;
    let before = file.metadata().map_err(unreadable)?;
    let size = item.size.unwrap_or(0);
    let place = format!("/ctp/{job}/{}", encode_path(&item.path));
    let (mut offset, mut best, mut since) = (None, 0, Instant::now());
    let mut wait = WAIT_MIN;
    let mut whole = None;
    let known = loop {
        let from = offset.unwrap_or(0);
        file.seek(SeekFrom::Start(from)).map_err(unreadable)?;
        let hasher = blake3::Hasher::new();
        let mut body = Counted { file: &file, left: size - from, progress, sent: 0, hasher };
        let sent = with(base, &place, |url| request(base, url, item, offset, &mut body));
        let uncounted = body.sent;
        let error = match sent {
            Ok(known) if known.is_complete => {
                // What went out in one go was hashed on its way.
                whole = (offset.is_none() && body.left == 0).then(|| body.hasher.finalize());
                break known;
            }
            Ok(known) => return Err(changed(Some(known.command))),
            Err(error) => error,
        };
        // It is sent again, at least in part.
        progress.sent.fetch_sub(uncounted, Ordering::Relaxed);
        if file.metadata().map_err(unreadable)?.len() != size {
            let known = with(base, &place, |url| head(base, url)).ok().flatten();
            return Err(changed(known.map(|known| known.command)));
        }
        let expected = match &error {
            BaseError::Refused { status: 409, expected_offset, .. } => *expected_offset,
            _ => None,
        };
        if !error.may_pass() && expected.is_none() || since.elapsed() > GIVE_UP_AFTER {
            return Err(failed(error));
        }
        if progress.is_stopped.load(Ordering::Relaxed) {
            return Err(UploadError::Stopped { path: path() });
        }
        std::thread::sleep(wait);
        wait = (wait * 2).min(WAIT_MAX);
        match with(base, &place, |url| head(base, url)) {
            Ok(Some(known)) if known.is_complete => break known,
            Ok(Some(known)) => {
                if known.bytes > best {
                    (best, since, wait) = (known.bytes, Instant::now(), WAIT_MIN);
                }
                // Bytes that came before this run are sent too.
                progress.sent.fetch_add(known.bytes.saturating_sub(from), Ordering::Relaxed);
                offset = Some(known.bytes.min(size));
            }
            // Nothing of it is there.
            Ok(None) => offset = None,
            Err(error) if error.may_pass() => {}
            Err(error) => return Err(failed(error)),
        }
    };
    let after = file.metadata().map_err(unreadable)?;
    let times = |metadata: &std::fs::Metadata| (metadata.mtime(), metadata.mtime_nsec());
    if after.len() != size || before.len() != size || times(&before) != times(&after) {
        return Err(changed(Some(known.command)));
    }
    let hash = match whole {
        Some(hash) => hash,
        None => hash(&mut file, size).map_err(unreadable)?,
    };
    if known.blake3.as_deref() != Some(hash.to_hex().as_str()) {
        return Err(UploadError::OtherBytes { path: path(), command: known.command });
    }
    Ok(known.command)
}

/// Asks the base for a file, and the next one the next time where this one does not answer as the
/// base.
fn with<T>(
    base: &Base,
    place: &str,
    ask: impl FnOnce(&str) -> Result<T, BaseError>,
) -> Result<T, BaseError> {
    let url = base.url(place);
    let answer = ask(&url);
    if answer.as_ref().is_err_and(BaseError::is_elsewhere) {
        base.turn_from(&url);
    }
    answer
}

/// PUT of the whole file, or PATCH of the rest.
fn request(
    base: &Base,
    url: &str,
    item: &Item,
    from: Option<u64>,
    body: &mut Counted<'_>,
) -> Result<Offset, BaseError> {
    let left = body.left;
    let request = match from {
        None => {
            let attrs = serde_json::to_string(&item.attrs).unwrap_or_default();
            base.agent().put(url).header("headend-attributes", ascii(&attrs))
        }
        Some(from) => base
            .agent()
            .patch(url)
            .header("content-type", "application/partial-upload")
            .header("upload-offset", from)
            .header("upload-complete", "?1"),
    };
    let request = base.allowed(request).header("content-length", left);
    // A refusal is heard before a large body is sent in vain.
    let request = match left > EXPECT_ABOVE {
        true => request.header("expect", "100-continue"),
        false => request,
    };
    let answer = request.send(SendBody::from_reader(body));
    let headers = answer.as_ref().map(|answer| answer.headers().clone()).unwrap_or_default();
    base.read(answer)?;
    offset(base, &headers)
}

/// How far the base is with a file; `None`: it has nothing of it.
fn head(base: &Base, url: &str) -> Result<Option<Offset>, BaseError> {
    let answer = base.allowed(base.agent().head(url)).call();
    let answer = answer.map_err(|error| base.unreachable(&error))?;
    match answer.status().as_u16() {
        200..300 => offset(base, answer.headers()).map(Some),
        404 => Ok(None),
        // An answer to HEAD has no body that says why.
        status => Err(BaseError::Refused {
            status,
            reason: format!("http_{status}"),
            detail: "it does not say how far the upload is".to_owned(),
            expected_offset: None,
        }),
    }
}

fn offset(base: &Base, headers: &HeaderMap) -> Result<Offset, BaseError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let stranger = || BaseError::Stranger { root: base.url(""), status: 200 };
    let number = |name: &str| text(name).and_then(|word| word.parse().ok()).ok_or_else(stranger);
    let command = u32::try_from(number("headend-command")?).map_err(|_| stranger())?;
    Ok(Offset {
        bytes: number("upload-offset")?,
        command: CommandId(command),
        blake3: text("headend-blake3").map(str::to_owned),
        is_complete: text("upload-complete") == Some("?1"),
    })
}

/// BLAKE3 of the first `size` bytes.
fn hash(file: &mut File, size: u64) -> io::Result<blake3::Hash> {
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut left = size;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(READ_BYTES).min(READ_BYTES);
        let have = file.read(&mut buffer[..want])?;
        if have == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hasher.update(&buffer[..have]);
        left -= u64::try_from(have).unwrap_or(0);
    }
    Ok(hasher.finalize())
}

/// JSON with escapes for what a header cannot carry.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut units = [0; 2];
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let escapes = c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}"));
            out.extend(escapes);
        }
    }
    out
}

/// The bytes of a file that are left, counted and hashed as they go out.
struct Counted<'a> {
    file: &'a File,
    left: u64,
    progress: &'a Progress,
    sent: u64,
    hasher: blake3::Hasher,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.progress.is_stopped.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let have = self.file.read(&mut buffer[..want])?;
        if have == 0 && want > 0 {
            // Shorter than it was.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.hasher.update(&buffer[..have]);
        let have_bytes = u64::try_from(have).unwrap_or(0);
        self.left -= have_bytes;
        self.sent += have_bytes;
        self.progress.sent.fetch_add(have_bytes, Ordering::Relaxed);
        Ok(have)
    }
}

/// A round trip pays for a body that takes longer.
const EXPECT_ABOVE: u64 = 1 << 20;
const READ_BYTES: usize = 256 << 10;

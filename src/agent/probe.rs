//! Shows that bytes of the base reach the disk of this node: fetched, written, synced, read back.
//!
//! Bounds: `PROBE_MAX` bytes in memory, twice; `FETCH_MAX` for them to come.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use super::bases::Bases;
use crate::dist::probe;

/// Fetches the probe of this number, and keeps it in `folder` for a moment.
///
/// # Errors
/// What went wrong, for people.
pub(super) async fn run(
    bases: &Bases,
    token: &str,
    folder: &Path,
    (number, bytes): (u64, u64),
) -> Result<(), String> {
    let fetched = timeout(FETCH_MAX, bases.probe(number, bytes, token)).await;
    let fetched = fetched.map_err(|_| format!("not there within {} s", FETCH_MAX.as_secs()))?;
    let fetched = fetched.map_err(|error| error.to_string())?;
    let path = folder.join("probe");
    let checked = tokio::task::spawn_blocking(move || {
        let expected = probe::bytes(number, bytes);
        if fetched[..] != expected[..] {
            return Err(format!("{} bytes came, which are not those of it", fetched.len()));
        }
        let back = write_and_read(&path, &expected);
        // Where it cannot be removed the next one takes its place.
        let _stays = fs::remove_file(&path);
        match back {
            Ok(back) if back == expected => Ok(()),
            Ok(_) => Err(format!("{}: other bytes are read than were written", path.display())),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    });
    checked.await.map_err(|error| error.to_string())?
}

fn write_and_read(path: &Path, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::read(path)
}

/// Shorter than the base waits for the report.
const FETCH_MAX: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::super::base::{Base, BaseUrl};
    use super::super::channel::Channel;
    use super::super::testing::{Scripted, serve};
    use super::*;
    use crate::dist::ids::BaseEpoch;

    fn bases(answers: Vec<Scripted>) -> Bases {
        let (addr, _) = serve(answers);
        let url = BaseUrl::parse(&format!("http://{addr}"), false).unwrap();
        Bases::new(Base::new(Channel::plain().unwrap(), url), [], BaseEpoch(0))
    }

    #[tokio::test]
    async fn probe_fails_on_other_bytes_a_refusal_and_a_folder_that_takes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = Scripted::new("403 Forbidden", r#"{"detail": "not yours"}"#);
        let bases = bases(vec![
            Scripted::new("200 OK", "other bytes"),
            refusal,
            Scripted::new("200 OK", ""),
            Scripted::new("200 OK", ""),
        ]);
        let probe = |folder, bytes| run(&bases, "t", folder, (7, bytes));
        assert!(probe(folder.path(), 11).await.unwrap_err().contains("11 bytes came"));
        assert!(probe(folder.path(), 11).await.unwrap_err().contains("not yours"));
        assert_eq!(probe(folder.path(), 0).await, Ok(()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
        let gone = folder.path().join("gone");
        assert!(probe(&gone, 0).await.unwrap_err().contains("gone/probe"));
    }
}

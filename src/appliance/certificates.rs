//! The certificate of the RTSPS port while the server runs, and the CAs that verify cameras.
//!
//! ```text
//!  start, SIGHUP, reload, a look every `LOOK_INTERVAL` --> files --read--> every shard
//!                                                           `-- wrong: the one before stays
//! ```
//! A look reads files only when they have changed and rest since the look before: certificate and
//! key are written one after the other. Invariant: what cannot be used replaces nothing. Bound:
//! `FILE_BYTES_MAX` of a file.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::reload::push_patiently;
use crate::config::Config;
use crate::config::paths::PathTable;
use crate::config::source::{SourceAddress, SourceTls};
use crate::metrics::cells::CERTIFICATE;
use crate::pki::camera::CameraRoots;
use crate::pki::serving::ServerIdentity;
use crate::poll::poller::Poller;
use crate::shard::TlsSettings;
use crate::shard::inbox::{Inbox, Message};
use crate::shard::ktls;

/// Reads certificate and key, and tells the shards.
#[derive(Debug)]
pub(super) struct Certificates {
    /// Of certificate and key; `None`: there is no RTSPS.
    files: Option<[PathBuf; 2]>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Files that were read last.
    read: Option<Stamps>,
    /// Files at the last look.
    seen: Option<Stamps>,
    identity: Option<ServerIdentity>,
    /// The kernel has TLS, and is to encrypt.
    by_kernel: bool,
    /// CAs of this machine, once a source needs them.
    roots: Option<CameraRoots>,
    /// When somebody was told last that the certificate expires.
    complained_s: i64,
}

/// What a file that is written again changes.
type Stamps = [Option<(SystemTime, u64)>; 2];

impl Certificates {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// One sentence about a file that cannot be used.
    pub(super) fn open(config: &Config) -> Result<Self, String> {
        let files = config.tls.files();
        let files = files.map(|(certificate, key)| [certificate.to_owned(), key.to_owned()]);
        let by_kernel = config.tls.by_kernel && ktls::is_available();
        let mut state = State { by_kernel, ..State::default() };
        if let Some(files) = &files {
            state.read = Some(stamps(files));
            let identity = read(files)?;
            CERTIFICATE.set_not_after(Some(identity.not_after_s));
            state.complained_s = now_s();
            state.identity = Some(identity);
        }
        state.find_roots(&config.paths);
        Ok(Self { files, state: Mutex::new(state) })
    }

    /// What shards begin with.
    pub(super) fn settings(&self) -> TlsSettings {
        self.lock().settings()
    }

    /// A sentence for the start about a kernel that does not encrypt although that is wanted.
    pub(super) fn kernel_warning(&self, config: &Config) -> Option<String> {
        let is_missing = self.files.is_some() && config.tls.by_kernel && !self.lock().by_kernel;
        is_missing.then(|| {
            "this kernel has no TLS: shards encrypt what goes over RTSPS; run: sudo modprobe tls \
             (HE-W117)"
                .to_owned()
        })
    }

    /// A sentence for the start about a certificate that does not count, or not for long.
    pub(super) fn warning(&self) -> Option<String> {
        let complaint = self.lock().identity.as_ref()?.complaint(now_s())?;
        let file = self.files.as_ref()?[0].display();
        Some(format!("the certificate {file} {complaint}; clients refuse it then (HE-W116)"))
    }

    /// Reads the files again if they have changed and are not being written.
    pub(super) fn look(&self, poller: &Poller<Inbox>) {
        let Some(files) = &self.files else { return };
        let mut state = self.lock();
        let now = stamps(files);
        let is_at_rest = state.seen.replace(now) == Some(now);
        if is_at_rest && state.read != Some(now) {
            state.read_again(files, poller);
        }
        state.complain(&files[0]);
    }

    /// Reads the files again, as an operator wants it, and the CAs that a new source needs.
    pub(super) fn reload(&self, paths: Option<&PathTable>, poller: &Poller<Inbox>) {
        let mut state = self.lock();
        let has_new_roots = paths.is_some_and(|paths| state.find_roots(paths));
        match &self.files {
            Some(files) => state.read_again(files, poller),
            None if has_new_roots => state.tell(poller),
            None => {}
        }
    }

    /// Whether there are files to be read again.
    pub(super) fn has_files(&self) -> bool {
        self.files.is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn settings(&self) -> TlsSettings {
        TlsSettings {
            server: self.identity.as_ref().map(|identity| identity.tls.clone()),
            roots: self.roots.clone().unwrap_or_default(),
            by_kernel: self.by_kernel,
        }
    }

    fn read_again(&mut self, files: &[PathBuf; 2], poller: &Poller<Inbox>) {
        self.read = Some(stamps(files));
        let identity = match read(files) {
            Ok(identity) => identity,
            Err(error) => {
                let fix = "mend the files; they are read again when they change";
                tracing::warn!(code = "HE-W406", %error, fix, "the certificate in use stays");
                return;
            }
        };
        let (sha256, not_after_s) = (identity.fingerprint.clone(), identity.not_after_s);
        CERTIFICATE.set_not_after(Some(not_after_s));
        self.identity = Some(identity);
        self.complained_s = 0;
        self.tell(poller);
        let file = files[0].display();
        tracing::info!(code = "HE-I403", %file, sha256, not_after_s, "the certificate was read");
    }

    fn tell(&self, poller: &Poller<Inbox>) {
        for inbox in poller.inboxes() {
            // A shard that does not read its inbox is ended by its watchdog.
            let _hangs = push_patiently(inbox, Message::Tls(self.settings()));
        }
    }

    fn complain(&mut self, file: &Path) {
        let now = now_s();
        let Some(why) = self.identity.as_ref().and_then(|identity| identity.complaint(now)) else {
            return;
        };
        if now - self.complained_s >= COMPLAINT_INTERVAL_S {
            self.complained_s = now;
            let (file, fix) = (file.display(), "put a new certificate into the file");
            tracing::warn!(code = "HE-W407", %file, %why, fix, "the certificate of RTSPS expires");
        }
    }

    /// Reads the CAs of this machine if a source is verified by them. True: they were not there
    /// before.
    fn find_roots(&mut self, paths: &PathTable) -> bool {
        let is_verified = |source: &SourceAddress, tls| {
            tls == SourceTls::Verify && matches!(source, SourceAddress::Rtsp(url) if url.is_secure)
        };
        let mut sections = paths.named.values();
        let is_needed = sections.any(|path| is_verified(&path.source, path.source_tls));
        if !is_needed || self.roots.is_some() {
            return false;
        }
        self.roots = Some(CameraRoots::new(rustls_native_certs::load_native_certs().certs));
        true
    }
}

/// Looks at the files again and again, until its runtime ends.
pub(super) async fn watch(certificates: Arc<Certificates>, poller: Arc<Poller<Inbox>>) {
    if certificates.files.is_none() {
        return;
    }
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let (certificates, poller) = (Arc::clone(&certificates), Arc::clone(&poller));
        let look = tokio::task::spawn_blocking(move || certificates.look(&poller));
        // A panic in one look is no reason to look no more.
        let _panicked = look.await;
    }
}

fn read(files: &[PathBuf; 2]) -> Result<ServerIdentity, String> {
    let [certificate, key] = files;
    let texts = (read_text(certificate)?, read_text(key)?);
    ServerIdentity::read(&texts.0, &texts.1)
        .map_err(|error| format!("{} with {}: {error}", certificate.display(), key.display()))
}

fn read_text(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read =
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text)
}

fn stamps(files: &[PathBuf; 2]) -> Stamps {
    let stamp = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    [stamp(&files[0]), stamp(&files[1])]
}

fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Soon enough for whoever renews certificates; a look is two calls.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Once a day.
const COMPLAINT_INTERVAL_S: i64 = 24 * 3_600;
/// A chain of ten takes a fiftieth of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pki::serving::SelfSigned;

    fn make(folder: &Path, days: u64) -> String {
        let life = Duration::from_secs(days * 24 * 3_600);
        let made = SelfSigned::make(["localhost"], now_s(), life).unwrap();
        std::fs::write(folder.join("cert.pem"), &made.certificate).unwrap();
        std::fs::write(folder.join("key.pem"), &made.key).unwrap();
        made.fingerprint
    }

    fn config(folder: &Path) -> Config {
        let mut config = Config::default();
        config.tls.certificate = Some(folder.join("cert.pem"));
        config.tls.key = Some(folder.join("key.pem"));
        config
    }

    fn poller() -> Poller<Inbox> {
        Poller::new(vec![Arc::new(Inbox::new(1).unwrap()), Arc::new(Inbox::new(1).unwrap())])
    }

    fn told(poller: &Poller<Inbox>) -> usize {
        poller.inboxes().map(|inbox| std::iter::from_fn(|| inbox.pop_message()).count()).sum()
    }

    #[test]
    fn files_that_change_are_read_when_they_rest_and_wrong_ones_replace_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (poller, first) = (poller(), make(folder.path(), 300));
        let certificates = Certificates::open(&config(folder.path())).unwrap();
        let shown = || certificates.lock().identity.as_ref().unwrap().fingerprint.clone();
        assert_eq!((shown(), certificates.warning()), (first.clone(), None));
        certificates.look(&poller);
        certificates.look(&poller);
        assert_eq!(told(&poller), 0, "nothing has changed");
        std::fs::write(folder.path().join("key.pem"), "half of a key").unwrap();
        certificates.look(&poller);
        certificates.look(&poller);
        assert_eq!((shown(), told(&poller)), (first, 0), "the one before stays");
        let second = make(folder.path(), 3);
        certificates.look(&poller);
        assert_eq!(told(&poller), 0, "it may be written still");
        certificates.look(&poller);
        assert_eq!((shown(), told(&poller)), (second.clone(), 2));
        let warning = certificates.warning().unwrap();
        assert!(warning.contains("cert.pem expires in"), "{warning}");
        certificates.reload(None, &poller);
        assert_eq!((shown(), told(&poller)), (second, 2), "as the operator wants it");
    }

    #[test]
    fn file_that_cannot_be_used_at_the_start_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = |config: &Config| Certificates::open(config).unwrap_err();
        assert!(error(&config(folder.path())).contains("cert.pem: No such file"));
        make(folder.path(), 1);
        let mut swapped = config(folder.path());
        swapped.tls.key = swapped.tls.certificate.clone();
        assert!(error(&swapped).ends_with("no private key (PEM) is in it"));
        let none = Certificates::open(&Config::default()).unwrap();
        assert!(none.settings().server.is_none());
    }

    #[test]
    fn authorities_of_this_machine_are_read_when_a_source_needs_them() {
        let table = |text: &str| crate::config::load(Some(("f", text)), [], &[]).unwrap().config;
        let pinned = "[path.a]\nsource = \"rtsps://cam/x\"\nsource_tls = \"off\"\n";
        let certificates = Certificates::open(&table(pinned)).unwrap();
        assert!(certificates.lock().roots.is_none());
        let poller = poller();
        let verified = table("[path.a]\nsource = \"rtsps://cam/x\"\n");
        certificates.reload(Some(&verified.paths), &poller);
        assert!(certificates.lock().roots.is_some());
        assert_eq!(told(&poller), 2);
    }
}

//! The folder of a base: its ledger, its contents, its keys and its tokens.
//!
//! ```text
//! DIR/ledger.db  contents/  events/  base.key  provider.token  join.token
//!     ca.key     private key and certificate of the CA: without it a base has another CA
//!     ca.pem     the certificate alone, for clients; made again when it is lost
//! ```
//! Invariant: a secret that is made is on the disk, whole, before it is used, and only its owner
//! may read it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::super::RunError;
use crate::dist::ids::Digest;
use crate::dist::keys::BaseKeys;
use crate::dist::token::{Fingerprint, Token, TokenKind, split_token, with_fingerprint};
use crate::http::jobs::auth::{Provider, read_providers};
use crate::pki::authority::Authority;
use crate::sandbox;

/// The folder.
#[derive(Debug)]
pub(super) struct DataDir(PathBuf);

/// Tokens as they were read, or made.
#[derive(Debug)]
pub(super) struct Tokens {
    /// Of clients.
    pub(super) providers: Vec<Provider>,
    /// BLAKE3 of the one by which nodes join.
    pub(super) join: Digest,
    /// For the banner.
    pub(super) told: Vec<Told>,
    /// For the banner: files that others can read.
    pub(super) warnings: Vec<String>,
}

/// A file of tokens.
#[derive(Debug)]
pub(super) struct Told {
    /// What they are for.
    pub(super) what: &'static str,
    /// Where it is.
    pub(super) path: PathBuf,
    /// The token, with the fingerprint, when it was made now.
    pub(super) made: Option<String>,
    /// The first token has the fingerprint of the CA, or there is none.
    pub(super) is_pinned: bool,
}

impl DataDir {
    /// Makes the folder when it is not there.
    pub(super) fn open(path: &Path) -> Result<Self, RunError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| wrong(path, &error.to_string()))?;
        Ok(Self(path.to_owned()))
    }

    pub(super) fn ledger(&self) -> PathBuf {
        self.0.join("ledger.db")
    }

    /// Files of events that the ledger does not keep any more.
    pub(super) fn events(&self) -> PathBuf {
        self.0.join("events")
    }

    pub(super) fn contents(&self) -> PathBuf {
        self.0.join("contents")
    }

    /// The key of the base, which is made at its first start.
    pub(super) fn keys(&self) -> Result<BaseKeys, RunError> {
        let path = self.0.join("base.key");
        let (text, _) = read_or_make(&path, || Digest(rand::random()).to_string())?;
        let secret: Digest = text.trim().parse().map_err(|_| {
            wrong(
                &path,
                "64 hexadecimal digits are expected; without its key a base is another one",
            )
        })?;
        Ok(BaseKeys::from_bytes(&secret.0))
    }

    /// The CA of the base, which is made at its first start with TLS.
    pub(super) fn authority(&self) -> Result<Authority, RunError> {
        let path = self.0.join("ca.key");
        if !path.exists() {
            let made = Authority::generate(Timestamp::now().as_second());
            let made = made.map_err(|error| wrong(&path, &error.to_string()))?;
            write_unless_there(&path, made.to_secret_pem().trim_end())?;
        }
        let authority = Authority::from_secret_pem(&read(&path)?).map_err(|error| {
            let fix = "restore it, or remove it: nodes and clients need new tokens of a new CA";
            wrong(&path, &format!("{error}; {fix}"))
        })?;
        let copy = self.0.join("ca.pem");
        let pem = authority.certificate_pem().trim_end();
        if copy.exists() && read(&copy)?.trim_end() != pem {
            fs::remove_file(&copy).map_err(|error| wrong(&copy, &error.to_string()))?;
        }
        if !copy.exists() {
            write_unless_there(&copy, pem)?;
        }
        Ok(authority)
    }

    /// Where the certificate of the CA is.
    pub(super) fn ca_file(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    /// Tokens of clients and nodes, from these files or from those of the folder. Those that are
    /// made have this fingerprint.
    pub(super) fn tokens(
        &self,
        provider_file: Option<&Path>,
        join_file: Option<&Path>,
        fingerprint: Option<Fingerprint>,
    ) -> Result<Tokens, RunError> {
        let mut tokens = Tokens {
            providers: Vec::new(),
            join: Digest([0; 32]),
            told: Vec::new(),
            warnings: Vec::new(),
        };
        let (path, text) = self.token(
            "provider token",
            provider_file,
            "provider.token",
            TokenKind::Provider,
            fingerprint,
            &mut tokens,
        )?;
        tokens.providers =
            read_providers(&text).map_err(|error| wrong(&path, &error.to_string()))?;
        if tokens.providers.is_empty() {
            return Err(wrong(&path, "there is no token in it, so no client could ask"));
        }
        let (path, text) = self.token(
            "join token",
            join_file,
            "join.token",
            TokenKind::Join,
            fingerprint,
            &mut tokens,
        )?;
        let join = Token::parse(text.trim()).map_err(|error| wrong(&path, &error.to_string()))?;
        tokens.join = join.hash();
        if tokens.providers.iter().any(|provider| provider.hash == tokens.join) {
            return Err(wrong(&path, "the join token must not be that of a client"));
        }
        Ok(tokens)
    }

    /// The text of a file of tokens. One that the operator names is not made.
    fn token(
        &self,
        what: &'static str,
        named: Option<&Path>,
        name: &str,
        kind: TokenKind,
        fingerprint: Option<Fingerprint>,
        tokens: &mut Tokens,
    ) -> Result<(PathBuf, String), RunError> {
        let (path, text, made) = match named {
            Some(path) => (path.to_owned(), read(path)?, None),
            None => {
                let path = self.0.join(name);
                let secret = Token::random(kind);
                let token = match &fingerprint {
                    Some(fingerprint) => with_fingerprint(secret.as_str(), fingerprint),
                    None => secret.as_str().to_owned(),
                };
                let (text, is_made) = read_or_make(&path, || token.clone())?;
                (path, text, is_made.then_some(token))
            }
        };
        let is_open = fs::metadata(&path).is_ok_and(|found| found.mode() & 0o077 != 0);
        if is_open {
            let shown = path.display();
            tokens
                .warnings
                .push(format!("{shown} can be read by others; chmod 600 {shown} (HE-W934)"));
        }
        let words = || text.split_whitespace().map(|word| split_token(word).1);
        let is_pinned = fingerprint.is_none() || words().any(|found| found == fingerprint);
        tokens.told.push(Told { what, path: path.clone(), made, is_pinned });
        Ok((path, text))
    }
}

/// The text of a file, and whether it was made now.
fn read_or_make(path: &Path, make: impl FnOnce() -> String) -> Result<(String, bool), RunError> {
    if path.exists() {
        return Ok((read(path)?, false));
    }
    let text = make();
    match write_secret(path, &text) {
        Ok(()) => Ok((text, true)),
        // Another base with the same folder starts at the same time.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok((read(path)?, false)),
        Err(error) => Err(wrong(path, &error.to_string())),
    }
}

/// Another base with the same folder may start at the same time: what is there first stays.
fn write_unless_there(path: &Path, text: &str) -> Result<(), RunError> {
    match write_secret(path, text) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        written => written.map_err(|error| wrong(path, &error.to_string())),
    }
}

fn read(path: &Path) -> Result<String, RunError> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        let length = File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
        if u64::try_from(length).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
            return Err(ErrorKind::FileTooLarge.into());
        }
        Ok(text)
    };
    read().map_err(|error| wrong(path, &sandbox::why(path, &error)))
}

/// Written aside and given its name when it is whole: a start that was broken off leaves no half
/// secret. `AlreadyExists` when another process was faster.
fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let aside = path.with_extension(format!("new-{:08x}", rand::random::<u32>()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    let named = fs::hard_link(&aside, path);
    fs::remove_file(&aside)?;
    named?;
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    File::open(folder)?.sync_all()
}

fn wrong(path: &Path, why: &str) -> RunError {
    RunError::Config(format!("{}: {why}", path.display()))
}

/// A thousand tokens with their names.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn first_start_makes_secrets_for_its_owner_and_the_next_one_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/data");
        let data = DataDir::open(&path).unwrap();
        let fingerprint = Some(data.authority().unwrap().fingerprint());
        let (keys, tokens) = (data.keys().unwrap(), data.tokens(None, None, fingerprint).unwrap());
        for told in &tokens.told {
            let made = split_token(told.made.as_ref().unwrap());
            assert!(made.1 == fingerprint && told.is_pinned && mode(&told.path) == 0o600);
        }
        assert_eq!(mode(&path), 0o700);
        for file in ["base.key", "ca.key", "ca.pem"] {
            assert_eq!(mode(&path.join(file)), 0o600, "{file}");
        }
        let data = DataDir::open(&path).unwrap();
        fs::remove_file(path.join("ca.pem")).unwrap();
        assert_eq!(Some(data.authority().unwrap().fingerprint()), fingerprint);
        assert!(data.ca_file().exists());
        let again = data.tokens(None, None, fingerprint).unwrap();
        assert!(again.told.iter().all(|told| told.made.is_none() && told.is_pinned));
        assert_eq!((again.providers, again.join), (tokens.providers, tokens.join));
        assert_eq!(data.keys().unwrap().verify_key(), keys.verify_key());
    }

    #[test]
    fn bases_that_start_at_the_same_time_have_the_same_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let start = || {
            let data = DataDir::open(dir.path()).unwrap();
            let ca = data.authority().unwrap().fingerprint();
            let (keys, tokens) = (data.keys().unwrap(), data.tokens(None, None, Some(ca)).unwrap());
            (keys.verify_key(), ca, tokens.providers, tokens.join)
        };
        let started: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(started.iter().all(|one| *one == started[0]));
        let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        assert_eq!(names, ["base.key", "ca.key", "ca.pem", "join.token", "provider.token"]);
    }

    #[test]
    fn files_that_are_named_must_be_there_and_right() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let file = dir.path().join("tokens");
        let refused = |text: Option<&str>| {
            if let Some(text) = text {
                fs::write(&file, text).unwrap();
            }
            let error = data.tokens(Some(&file), None, None).unwrap_err();
            assert!(error.is_usage());
            error.to_string()
        };
        assert!(refused(None).contains("tokens: "));
        assert!(refused(Some("# none")).contains("no token in it"));
        assert!(refused(Some("a b c d")).contains("line 1"));
        fs::write(&file, "news hdp_0123456789abcdef\n").unwrap();
        let other = Some(Fingerprint([1; 32]));
        let tokens = data.tokens(Some(&file), None, other).unwrap();
        assert!(!tokens.told[0].is_pinned && tokens.told[1].is_pinned);
        assert_eq!(tokens.providers[0].name, "news");
        assert!(tokens.warnings[0].contains("chmod 600"), "{:?}", tokens.warnings);
        let join = dir.path().join("join");
        fs::write(&join, "hdp_0123456789abcdef").unwrap();
        let error = data.tokens(Some(&file), Some(&join), None).unwrap_err();
        assert!(error.to_string().contains("must not be that of a client"), "{error}");
    }

    #[test]
    fn damaged_key_is_refused_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        fs::write(dir.path().join("base.key"), "half").unwrap();
        assert!(data.keys().unwrap_err().is_usage());
        assert_eq!(fs::read(dir.path().join("base.key")).unwrap(), b"half");
        fs::write(dir.path().join("ca.key"), "half").unwrap();
        let error = data.authority().unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("restore it"), "{error}");
        assert_eq!(fs::read(dir.path().join("ca.key")).unwrap(), b"half");
    }
}

//! `headend cert self-signed`: certificate and key for the RTSPS port, signed by themselves.
//!
//! ```text
//! headend cert self-signed --host cam.example --out /etc/headend   -> cert.pem, key.pem (0600)
//! ```
//! What to write into the configuration, and what clients may pin, goes to standard output.
//! Invariant: files that are there are not replaced unless that is asked for, and the key is never
//! readable by others, not for a moment.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::args::{CertVerb, SelfSignedArgs};
use super::urls::Routes;
use super::{Exit, Failure};
use crate::config::key::quoted;
use crate::pki::serving::SelfSigned;

pub(super) fn run(verb: &CertVerb, out: &mut impl Write) -> Result<Exit, Failure> {
    let CertVerb::SelfSigned(args) = verb;
    self_signed(args, out)?;
    Ok(Exit::Ok)
}

fn self_signed(args: &SelfSignedArgs, out: &mut impl Write) -> Result<(), Failure> {
    let names = if args.host.is_empty() { own_names() } else { args.host.clone() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let life = Duration::from_secs(u64::from(args.days) * 24 * 3_600);
    let made = SelfSigned::make(&names, now_s, life);
    let made = made.map_err(|error| Failure::usage(error.to_string()))?;
    let (certificate, key) = (args.out.join("cert.pem"), args.out.join("key.pem"));
    fs::create_dir_all(&args.out)
        .map_err(|error| Failure::runtime(format!("{}: {error}", args.out.display())))?;
    if !args.force
        && let Some(there) = [&certificate, &key].into_iter().find(|path| path.exists())
    {
        let there = there.display();
        return Err(Failure::usage(format!("{there} is there already; --force replaces it")));
    }
    // The key first: a server that looks at both files finds a pair a moment later.
    write(&key, &made.key, KEY_MODE)?;
    write(&certificate, &made.certificate, CERTIFICATE_MODE)?;
    let path = |path: &Path| quoted(&path.display().to_string());
    writeln!(out, "# for {}, {} days", names.join(", "), args.days)?;
    writeln!(out, "# pinned by clients: sha256:{}", made.fingerprint)?;
    writeln!(out, "[rtsp.tls]\ncertificate = {}\nkey = {}", path(&certificate), path(&key))?;
    Ok(())
}

/// Writes a file beside its place and moves it there, so that no reader finds half of it.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::runtime(format!("{}: {error}", path.display()));
    let beside = path.with_extension("pem.new");
    // A file of an attempt that was cut off may have another mode.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside);
    let written = file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&beside, path)).map_err(failed)
}

/// What this machine is called, and its addresses.
fn own_names() -> Vec<String> {
    let mut names = vec!["localhost".to_owned()];
    let own = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let is_name = !own.is_empty()
        && own.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    if is_name && own != "localhost" {
        names.push(own);
    }
    let routes = Routes::discover();
    names.extend(routes.v4.map(|ip| ip.to_string()));
    names.extend(routes.v6.map(|ip| ip.to_string()));
    names.extend(["127.0.0.1", "::1"].map(str::to_owned));
    names
}

/// For the server alone.
const KEY_MODE: u32 = 0o600;
/// For everyone.
const CERTIFICATE_MODE: u32 = 0o644;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config;
    use crate::pki::serving::ServerIdentity;

    fn args(folder: &Path, host: &[&str]) -> SelfSignedArgs {
        let host = host.iter().map(|name| (*name).to_owned()).collect();
        SelfSignedArgs { host, out: folder.join("tls"), days: 30, force: false }
    }

    #[test]
    fn files_are_a_pair_and_what_is_printed_is_a_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let mut out = Vec::new();
        self_signed(&args(folder.path(), &["cam.lan", "10.0.0.7"]), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let config = config::load(Some(("f", &text)), [], &[]).unwrap().config;
        let (certificate, key) = config.tls.files().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(certificate), mode(key)), (0o644, 0o600));
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        let identity = ServerIdentity::read(&read(certificate), &read(key)).unwrap();
        assert!(text.contains(&identity.fingerprint), "{text}");
        let again = self_signed(&args(folder.path(), &[]), &mut Vec::new()).unwrap_err();
        assert!(again.message.ends_with("is there already; --force replaces it"));
        let forced = SelfSignedArgs { force: true, ..args(folder.path(), &[]) };
        self_signed(&forced, &mut Vec::new()).unwrap();
        assert_eq!(mode(key), 0o600);
        let wrong = SelfSignedArgs { force: true, ..args(folder.path(), &["a b"]) };
        assert_eq!(self_signed(&wrong, &mut Vec::new()).unwrap_err().exit, Exit::Usage);
    }
}

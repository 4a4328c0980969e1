//! `headend user add|token`: hashes of passwords, and tokens, for the files of a server.
//!
//! ```text
//! printf %s PASSWORD | headend user add ann     -> [user."ann"] ..
//! headend user token grafana --role read        -> its line; the token itself on standard error
//! ```
//! Lines for files go to standard output, secrets to standard error: `>>` puts into a file what
//! belongs there. On a terminal the password is asked for, and not shown.
//! Bound: `PASSWORD_BYTES_MAX`.

use std::fs::{self, File};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::Rng;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::args::{UserAddArgs, UserTokenArgs, UserVerb};
use super::{Exit, Failure, log};
use crate::access::password::{Hashes, hash};
use crate::base::secret::Secret;
use crate::config::access::is_user_name;
use crate::config::key::quoted;
use crate::config::{self, FILE_BYTES_MAX};
use crate::dist::token::{Token, TokenKind};
use crate::http::operators::{Role, token_line};

pub(super) fn run(verb: &UserVerb, out: &mut impl Write) -> Result<Exit, Failure> {
    match verb {
        UserVerb::Add(args) => add(args, out)?,
        UserVerb::Token(args) => token(args, out)?,
    }
    Ok(Exit::Ok)
}

fn add(args: &UserAddArgs, out: &mut impl Write) -> Result<(), Failure> {
    let UserAddArgs { name, digest, generate, write } = args;
    if !is_user_name(name) {
        return Err(Failure::usage(format!(
            "`{}` is no name of a user: 1 to 64 ASCII characters without : , @ \" \\ and space",
            super::printable(name)
        )));
    }
    let password = if *generate { generated() } else { read_password(io::stdin().lock())? };
    let mut salt = [0; 16];
    rand::rng().fill_bytes(&mut salt);
    let hashes = hash(name, password.expose(), salt);
    let hashes = hashes.map_err(|error| Failure::usage(error.to_string()))?;
    let lines = section(name, &hashes, *digest);
    match write {
        Some(file) => write_to(file, &lines)?,
        None => out.write_all(lines.as_bytes())?,
    }
    if *generate {
        log::last_words(&format!("password of {name}: {}\n", password.expose()));
    }
    Ok(())
}

fn token(args: &UserTokenArgs, out: &mut impl Write) -> Result<(), Failure> {
    let role = match args.role {
        super::args::TokenRole::Read => Role::Read,
        super::args::TokenRole::Control => Role::Control,
    };
    let is_word =
        !args.name.is_empty() && args.name.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if !is_word || args.name.len() > 64 {
        return Err(Failure::usage("a name is one word of at most 64 ASCII characters, without #"));
    }
    let token = Token::random(TokenKind::Operator);
    writeln!(out, "{}", token_line(&args.name, role, &token))?;
    log::last_words(&format!("token of {}: {}\n", args.name, token.as_str()));
    Ok(())
}

/// The lines of a user.
fn section(name: &str, hashes: &Hashes, has_digest: bool) -> String {
    let mut lines = format!("[user.{}]\npassword = {}\n", quoted(name), quoted(&hashes.password));
    if has_digest {
        lines += &format!("digest_md5 = {}\n", quoted(&hashes.digest_md5));
        lines += &format!("digest_sha256 = {}\n", quoted(&hashes.digest_sha256));
    }
    lines
}

/// Adds lines to a file that is a configuration before and after.
fn write_to(path: &Path, lines: &str) -> Result<(), Failure> {
    let name = path.display().to_string();
    let unreadable = |error: io::Error| Failure::usage(format!("{name}: {error}"));
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => {
            file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
            config::load(Some((&name, &text)), [], &[])?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unreadable(error)),
    }
    let gap = match text.as_str() {
        "" => "",
        text if text.ends_with('\n') => "\n",
        _ => "\n\n",
    };
    let whole = format!("{text}{gap}{lines}");
    config::load(Some((&name, &whole)), [], &[])?;
    // Whole or not at all: a server may read it at any time.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let beside = folder.unwrap_or_else(|| Path::new("."));
    let fresh = beside.join(format!(".headend-user-{:016x}", rand::rng().next_u64()));
    let written = (|| {
        let mut file = File::options().write(true).create_new(true).open(&fresh)?;
        if let Ok(known) = fs::metadata(path) {
            file.set_permissions(known.permissions())?;
        } else {
            use std::os::unix::fs::PermissionsExt as _;
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
        }
        file.write_all(whole.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    })();
    written.map_err(|error: io::Error| {
        let _not_there = fs::remove_file(&fresh);
        Failure::runtime(format!("{name}: {error}"))
    })
}

/// 128 random bits.
fn generated() -> Secret {
    let mut random = [0; 16];
    rand::rng().fill_bytes(&mut random);
    Secret::new(URL_SAFE_NO_PAD.encode(random))
}

/// The first line of the input. A terminal is asked twice, without an echo.
fn read_password(mut input: impl BufRead) -> Result<Secret, Failure> {
    if !io::stdin().is_terminal() {
        return line_of(&mut input);
    }
    let quiet = Quiet::new()?;
    log::last_words("password: ");
    let first = line_of(&mut input)?;
    log::last_words("\nagain: ");
    let second = line_of(&mut input)?;
    log::last_words("\n");
    drop(quiet);
    if first == second { Ok(first) } else { Err(Failure::usage("the two are not the same")) }
}

fn line_of(input: &mut impl BufRead) -> Result<Secret, Failure> {
    let mut line = Vec::new();
    input.take(PASSWORD_BYTES_MAX + 2).read_until(b'\n', &mut line)?;
    let line = line.strip_suffix(b"\n").unwrap_or(&line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line).map_err(|_| Failure::usage("a password is UTF-8"))?;
    if text.is_empty() || line.len() as u64 > PASSWORD_BYTES_MAX || text.contains('\0') {
        return Err(Failure::usage("a password has 1 to 256 bytes, in one line"));
    }
    Ok(Secret::new(text))
}

/// A terminal that does not show what is typed, until this is dropped.
struct Quiet(rustix::termios::Termios);

impl Quiet {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes &= !LocalModes::ECHO;
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // There is nothing else to be done about it.
        let _gone = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// Longer is a mistake, such as a file.
const PASSWORD_BYTES_MAX: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes() -> Hashes {
        hash("ann", "s3cret", [3; 16]).unwrap()
    }

    #[test]
    fn lines_are_those_of_a_configuration() {
        for has_digest in [false, true] {
            let lines = section("ann", &hashes(), has_digest);
            let loaded = config::load(Some(("f", &lines)), [], &[]).unwrap();
            let access = &loaded.config.paths.access;
            assert!(access.users.contains_key("ann"));
            assert_eq!(access.has_digest(), has_digest);
        }
    }

    #[test]
    fn user_is_added_to_a_file_once_and_the_rest_of_it_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("headend.toml");
        let lines = section("ann", &hashes(), false);
        write_to(&path, &lines).unwrap();
        fs::write(&path, "# ours\n[path.a]\nread = [\"any\"]").unwrap();
        write_to(&path, &lines).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# ours\n[path.a]\nread = [\"any\"]\n\n[user."), "{text}");
        let twice = write_to(&path, &lines).unwrap_err();
        assert_eq!(twice.exit, Exit::Usage);
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "as it was");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn password_is_the_first_line_and_not_every_line_is_one() {
        let read = |text: &[u8]| line_of(&mut io::Cursor::new(text.to_vec()));
        assert_eq!(read(b"s3 cret\r\nx").unwrap().expose(), "s3 cret");
        assert_eq!(read(b"s3cret").unwrap().expose(), "s3cret");
        for bad in [&b""[..], b"\n", b"\xff\n", &[b'x'; 257], b"a\0b\n"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert_ne!(generated(), generated());
    }
}

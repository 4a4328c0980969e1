//! A PostgreSQL server of the tests' own, with a database for each test.
//!
//! ```text
//! shell: postgres & cat (until the test program ends); kill -QUIT its own postgres; rm the folder
//!           '--what it says--> log, and the test program, which waits until it is ready
//! ```
//! It listens on a Unix socket in a temporary folder only, runs as another user where the tests run
//! as root (PostgreSQL refuses root), and ends with the test program, however that ends.
//! Where PostgreSQL is not installed, tests say so and have nothing to do.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "each test program uses its own part; one that cannot go on has failed, and says where"
)]

use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    /// Its programs.
    bin: PathBuf,
    folder: PathBuf,
    /// The shell; its input ends with this program, and the server with that.
    _keeper: Child,
    databases: AtomicU32,
}

impl Server {
    /// The server of this test program, which is started for the first test that needs one; `None`
    /// where PostgreSQL is not installed.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SERVER: OnceLock<Option<Server>> = OnceLock::new();
        let server = SERVER.get_or_init(|| programs().map(|bin| Self::start(bin, &["fsync=off"])));
        if server.is_none() {
            println!("skipped: PostgreSQL is not installed (scripts/test-setup.sh installs it)");
        }
        server.as_ref()
    }

    /// Starts a server with these settings in the folder for temporary files.
    pub(crate) fn start(bin: PathBuf, settings: &[&str]) -> Self {
        Self::start_in(&std::env::temp_dir(), bin, settings)
    }

    /// Starts a server with these settings; its files are in a new folder of `parent`.
    pub(crate) fn start_in(parent: &Path, bin: PathBuf, settings: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("headend-pg").tempdir_in(parent);
        let folder = folder.unwrap().keep();
        let user = user();
        if let Some((uid, gid)) = user {
            chown(&folder, Some(uid), Some(gid)).unwrap();
        }
        let data = folder.join("data");
        let mut initdb = Command::new(bin.join("initdb"));
        initdb.args(["--username=headend", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
        initdb.args(["--no-sync", "--no-instructions", "-D"]).arg(&data).current_dir(&folder);
        as_user(&mut initdb, user);
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(&folder).arg(bin.join("postgres"));
        for setting in settings {
            keeper.args(["-c", setting]);
        }
        keeper.current_dir(&folder).stdin(Stdio::piped());
        keeper.stdout(Stdio::piped()).stderr(Stdio::null());
        as_user(&mut keeper, user);
        let mut keeper = keeper.spawn().unwrap();
        let said = wait_until_ready(keeper.stdout.take().unwrap());
        let log = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert_eq!(said, Ok(()), "{}", log());
        Self { bin, folder, _keeper: keeper, databases: AtomicU32::new(0) }
    }

    /// URL of a new database.
    pub(crate) fn database(&self) -> String {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        let folder = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://headend@{folder}/{name}")
    }

    /// What `psql` prints for a statement in the database of this URL or name.
    pub(crate) fn sql(&self, database: &str, statement: &str) -> String {
        self.try_sql(database, statement).unwrap_or_else(|error| panic!("{statement}: {error}"))
    }

    fn try_sql(&self, database: &str, statement: &str) -> Result<String, String> {
        let name = database.rsplit('/').next().unwrap_or(database);
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "headend", "-d", name]);
        psql.arg("-h").arg(&self.folder).args(["-c", statement]).stdin(Stdio::null());
        let done = psql.output().map_err(|error| error.to_string())?;
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).into_owned());
        }
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }
}

/// Reads what the server says: it must not wait for a reader, now or later.
fn wait_until_ready(said: ChildStdout) -> Result<(), RecvTimeoutError> {
    let (ready, is_ready) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(said).lines().map_while(Result::ok) {
            if line.contains("ready to accept connections") {
                // Only the first is waited for.
                let _gone = ready.send(());
            }
        }
    });
    is_ready.recv_timeout(START_MAX)
}

/// Where the programs of the newest PostgreSQL are: Debian keeps them off the path.
pub(crate) fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok();
    let installed = versions.into_iter().flatten().filter_map(io::Result::ok);
    let version = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()).unwrap_or(0)
    };
    let newest = installed.map(|entry| entry.path()).max_by_key(version);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        newest.map(|path| path.join("bin")).into_iter().chain(std::env::split_paths(&path));
    folders.into_iter().find(|folder| {
        ["initdb", "postgres", "psql"].iter().all(|name| folder.join(name).is_file())
    })
}

/// User and group that the server runs as, where this program is root.
fn user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let ids = |wanted: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(wanted))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(ids("postgres").or_else(|| ids("nobody")).expect("a user postgres or nobody"))
}

fn as_user(command: &mut Command, user: Option<(u32, u32)>) {
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
}

/// Folder, program, settings.
const KEEPER: &str = r#"
trap '' INT TERM HUP
folder=$1; postgres=$2; shift 2
mkfifo "$folder/said"
tee "$folder/log" <"$folder/said" &
"$postgres" -D "$folder/data" -k "$folder" -c listen_addresses= "$@" >"$folder/said" 2>&1 &
server=$!
exec >/dev/null
cat
kill -QUIT "$server"
wait "$server"
cd /
rm -rf "$folder"
"#;
const START_MAX: Duration = Duration::from_secs(60);

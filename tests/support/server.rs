//! The server under test: a child on free ports, up when it says `ready`, ended by its own id.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::process::wait_for;
use super::wait::{Deadline, PATIENCE, readable};

/// How to start the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options<'a> {
    /// Folder to serve; the built-in clip is served in any case.
    pub(crate) folder: Option<&'a Path>,
    /// `--listen`.
    pub(crate) listen: &'a str,
    /// `--admin`.
    pub(crate) admin: &'a str,
    /// `--shards`.
    pub(crate) shards: &'a str,
    /// Text of a configuration file for `-c`.
    pub(crate) config: Option<&'a str>,
    /// `ulimit -n`, hard and soft.
    pub(crate) open_files: Option<u32>,
    /// Without CAP_SYS_NICE and RLIMIT_RTPRIO, which root has otherwise.
    pub(crate) without_realtime: bool,
    /// As an ordinary user, who may lock 64 KiB of memory.
    pub(crate) as_ordinary_user: bool,
    /// `--rtp-port`.
    pub(crate) rtp_port: &'a str,
    /// `hls.listen`.
    pub(crate) hls: &'a str,
    /// `webrtc.listen`, which counts with HLS only.
    pub(crate) webrtc: &'a str,
}

impl Options<'static> {
    /// Of a server with the built-in clip, on free ports and one shard.
    pub(crate) const USUAL: Self = Self {
        folder: None,
        listen: "127.0.0.1:0",
        admin: "127.0.0.1:0",
        shards: "1",
        config: None,
        open_files: None,
        without_realtime: false,
        as_ordinary_user: false,
        rtp_port: "0",
        hls: "off",
        webrtc: "127.0.0.1:0",
    };
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options::USUAL
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    stdout: ChildStdout,
    /// What it printed until it was ready.
    pub(crate) banner: String,
    pub(crate) rtsp: SocketAddr,
    pub(crate) admin: SocketAddr,
    files: tempfile::TempDir,
}

impl Server {
    /// Serves `folder`.
    pub(crate) fn with_folder(folder: &Path) -> Self {
        Self::start(&Options { folder: Some(folder), ..Options::default() })
    }

    /// Serves the built-in clip alone.
    pub(crate) fn with_demo() -> Self {
        Self::start(&Options::default())
    }

    /// Starts and waits until it is ready.
    pub(crate) fn start(options: &Options<'_>) -> Self {
        let files = tempfile::tempdir_in(super::scratch()).unwrap();
        let command = command(options, files.path());
        Self::run(command, files)
    }

    /// Starts a command that serves and waits until it is ready; its log is in `files`.
    pub(crate) fn run(mut command: Command, files: tempfile::TempDir) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(File::create(files.path().join("stderr")).unwrap());
        let mut child = command.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let banner = read_banner(&mut stdout, &mut child, &files.path().join("stderr"));
        let rtsp = address_in(&banner, "rtsp", "rtsp://");
        let admin = address_in(&banner, "admin", "http://");
        Self { child, stdout, banner, rtsp, admin, files }
    }

    /// Address of the RTSPS port.
    pub(crate) fn rtsps(&self) -> SocketAddr {
        address_in(&self.banner, "rtsps", "rtsps://")
    }

    /// Address of HLS.
    pub(crate) fn hls(&self) -> SocketAddr {
        address_in(&self.banner, "hls", "http://")
    }

    /// Address of the port for tunnels over HTTP.
    pub(crate) fn tunnels(&self) -> SocketAddr {
        address_in(&self.banner, "tunnel", "http://")
    }

    /// `rtsp://HOST:PORT/demo`.
    pub(crate) fn demo_url(&self) -> String {
        self.url("demo")
    }

    /// URL of a file of the folder; `path` is as it is on disk.
    pub(crate) fn vod_url(&self, path: &str) -> String {
        let encoded: Vec<_> = path.split('/').map(percent_encoded).collect();
        self.url(&format!("vod/{}", encoded.join("/")))
    }

    /// URL of `path`, which is used as it is.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("rtsp://{}/{path}", self.rtsp)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Folder of its configuration file and its log.
    pub(crate) fn files(&self) -> &Path {
        self.files.path()
    }

    /// Descriptors it has open.
    pub(crate) fn open_descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Files it has open whose path contains `part`.
    pub(crate) fn has_open(&self, part: &str) -> bool {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .any(|target| target.to_string_lossy().contains(part))
    }

    /// Still there, and still answering.
    pub(crate) fn assert_alive(&mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "the server has ended");
        let (status, _) = super::http::get(self.admin, "/metrics");
        assert_eq!(status, 200);
    }

    /// Asks it to stop, as a service manager does.
    pub(crate) fn signal_term(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Stops it where it is, as a machine that hangs.
    pub(crate) fn pause(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    /// Has it go on.
    pub(crate) fn wake(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    /// Ends it as a crash does, and waits until its process is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to read its configuration again.
    pub(crate) fn signal_hup(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }

    /// Puts another text into the file that it was started with.
    pub(crate) fn write_config(&self, text: &str) {
        std::fs::write(self.files.path().join("headend.toml"), text).unwrap();
    }

    /// Its exit status, `None` when it still runs after `patience`.
    pub(crate) fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        wait_for(&mut self.child, patience)
    }

    /// Waits until the log says `text`: lines are written by a thread of their own.
    pub(crate) fn assert_logs(&self, text: &str) {
        super::wait::until(&format!("the log says {text:?}"), || self.log().contains(text));
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        let bytes = std::fs::read(self.files.path().join("stderr")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            let _gone = kill_process(Pid::from_child(&self.child), Signal::TERM);
            if wait_for(&mut self.child, Duration::from_secs(8)).is_none() {
                let _gone = self.child.kill();
                let _reaped = self.child.wait();
            }
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(60)..];
            println!("--- banner\n{}--- end of its log\n{}", self.banner, tail.join("\n"));
        }
    }
}

/// The command line for `options`, with its configuration file in `files`.
pub(crate) fn command(options: &Options<'_>, files: &Path) -> Command {
    let mut command = match options.open_files {
        Some(limit) => {
            let mut shell = Command::new("sh");
            let script = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
            shell.args(["-c", &script]).arg(binary());
            shell
        }
        None if options.without_realtime => {
            let mut shell = Command::new("sh");
            let script = "ulimit -r 0 && exec setpriv --bounding-set=-sys_nice -- \"$0\" \"$@\"";
            shell.args(["-c", script]).arg(binary());
            shell
        }
        None if options.as_ordinary_user => {
            let mut shell = Command::new("sh");
            // Opened by root: the user need not reach the folder that the binary is in. Not nobody,
            // whom other tests are: the kernel counts what all rings of a user lock.
            let script = "ulimit -l 64 && exec 7<\"$0\" && exec setpriv --reuid=65532 --regid=65532 \
                          --clear-groups --inh-caps=-all --bounding-set=-all -- \
                          /proc/self/fd/7 \"$@\"";
            shell.args(["-c", script]).arg(binary());
            shell
        }
        None => Command::new(binary()),
    };
    command.arg("serve");
    if let Some(folder) = options.folder {
        command.arg(folder);
    }
    if let Some(text) = options.config {
        let path = files.join("headend.toml");
        std::fs::write(&path, text).unwrap();
        command.arg("-c").arg(path);
    }
    command.args(["--listen", options.listen, "--admin", options.admin]);
    command.args(["--rtp-port", options.rtp_port]);
    command.args(["--shards", options.shards, "--workers", "1"]);
    command.env("HEADEND__HLS__LISTEN", options.hls);
    command.env("HEADEND__WEBRTC__LISTEN", options.webrtc);
    command
}

/// The binary that cargo built for these tests, or `HEADEND_BIN` to judge another build.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("HEADEND_BIN")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_headend")), PathBuf::from)
}

/// Next to the server's own binary: `cargo build --workspace` puts both there.
pub(crate) fn loadgen() -> PathBuf {
    let path = std::env::var_os("HEADEND_LOADGEN_BIN")
        .map_or_else(|| binary().with_file_name("headend-loadgen"), PathBuf::from);
    assert!(path.exists(), "{} is missing: cargo build --workspace", path.display());
    path
}

/// Percent-encodes one segment of a path (RFC 3986 s3.3), everything but the unreserved.
pub(crate) fn percent_encoded(segment: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").unwrap();
        }
    }
    out
}

fn read_banner(stdout: &mut ChildStdout, child: &mut Child, stderr: &Path) -> String {
    let deadline = Deadline::after(PATIENCE);
    let mut banner = String::new();
    while !banner.lines().any(|line| line.starts_with("ready")) || !banner.ends_with('\n') {
        let readable = readable(&[stdout.as_fd()], deadline)[0];
        let mut block = [0; 4096];
        let bytes = if readable { stdout.read(&mut block).unwrap() } else { 0 };
        if bytes == 0 {
            let _ended = child.kill();
            let status = child.wait();
            let log = std::fs::read_to_string(stderr).unwrap_or_default();
            panic!("the server did not become ready ({status:?})\n{banner}\n{log}");
        }
        banner.push_str(&String::from_utf8_lossy(&block[..bytes]));
    }
    banner
}

/// Address in the first line of `banner` that begins with `word` and holds `scheme`.
fn address_in(banner: &str, word: &str, scheme: &str) -> SocketAddr {
    banner
        .lines()
        .filter(|line| line.starts_with(word))
        .find_map(|line| line.split_once(scheme))
        .and_then(|(_, rest)| rest.split(['/', ' ']).next()?.parse().ok())
        .unwrap_or_else(|| panic!("no {scheme}IP:PORT in a line `{word} ..` of:\n{banner}"))
}

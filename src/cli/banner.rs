//! The text at start-up: what runs, what was skipped and why, and which lines to copy.
//!
//! Invariant: a line that begins with `rtsp` holds `rtsp://HOST:PORT/` and the one that begins with
//! `admin` holds `http://HOST:PORT/`, with the ports that were really bound: scripts read them.
//! Bound: `SKIPPED_MAX` lines about skipped files, whatever the folder holds.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use super::printable;
use super::urls::{Routes, encode_path, inward, rtsp_url};
use crate::config::cpus;

/// What there is to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    /// Version of headend.
    pub version: String,
    /// Kernel release.
    pub kernel: String,
    /// io_uring features found, for people.
    pub ring_features: Vec<String>,
    /// Whether the kernel cuts long UDP sends into packets.
    pub gso: bool,
    /// CPU of each shard.
    pub shard_cpus: Vec<usize>,
    /// CPU of each worker.
    pub worker_cpus: Vec<usize>,
    /// The library; without one the built-in clip is served.
    pub media: Option<MediaSummary>,
    /// Addresses that RTSP listeners are bound to.
    pub rtsp_addrs: Vec<SocketAddr>,
    /// The same, of RTSPS.
    pub rtsps_addrs: Vec<SocketAddr>,
    /// The same, of ports for tunnels over HTTP.
    pub http_addrs: Vec<SocketAddr>,
    /// The same, of HLS.
    pub hls_addrs: Vec<SocketAddr>,
    /// RTP port of shard 0; RTCP has the next one.
    pub rtp_port: u16,
    /// Address that the admin listener is bound to.
    pub admin: SocketAddr,
    /// What the process has given up, on one line.
    pub sandbox: String,
    /// Paths to try, percent-decoded: `vod/big film.mp4`.
    pub example_paths: Vec<String>,
    /// Whole sentences, each with its code and its fix.
    pub warnings: Vec<String>,
    /// Milliseconds from the start of the process.
    pub ready_in_ms: u64,
}

/// What a first look at the library found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaSummary {
    /// The folder, as the user wrote it.
    pub root: PathBuf,
    /// Media files found.
    pub titles: usize,
    /// How many there are of each kind: `("mp4", 10)`.
    pub by_kind: Vec<(String, usize)>,
    /// Files that cannot be played, and why.
    pub skipped: Vec<(String, String)>,
    /// More skipped files than `skipped` names.
    pub more_skipped: usize,
    /// Whether the whole folder was seen; otherwise the look ended early.
    pub complete: bool,
}

impl Startup {
    /// Writes the text.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        self.print_with(Routes::discover(), out)
    }

    /// Has the text written to standard output, and does not wait for who reads it.
    pub fn print_aside(&self) {
        let mut text = Vec::new();
        match self.print(&mut text) {
            Ok(()) => super::log::print_aside(text),
            Err(error) => {
                tracing::warn!(code = "HE-W801", %error, "the start-up text cannot be made")
            }
        }
    }

    /// The same for programs, as `GET /v1/info` shows it.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let routes = Routes::discover();
        let told = |scheme: &str, addrs: &[SocketAddr]| {
            let urls = outward(routes, addrs).into_iter().map(|addr| format!("{scheme}://{addr}/"));
            urls.collect::<Vec<_>>()
        };
        let first = self.rtsp_addrs.first().copied();
        let media = self.media.as_ref();
        serde_json::json!({
            "kernel": self.kernel,
            "ring_features": self.ring_features,
            "gso": self.gso,
            "shard_cpus": self.shard_cpus,
            "worker_cpus": self.worker_cpus,
            "titles": media.map(|media| media.titles),
            "all_titles_counted": media.map(|media| media.complete),
            "sandbox": self.sandbox,
            "rtsp": told("rtsp", &self.rtsp_addrs),
            "rtsps": told("rtsps", &self.rtsps_addrs),
            "tunnel": told("http", &self.http_addrs),
            "rtp_port": self.rtp_port,
            "admin": format!("http://{}/", inward(self.admin)),
            "try": first.map(|bound| self.examples(bound, routes.outward(bound))),
            "publish": first.and_then(publishing),
            "warnings": self.warnings,
            "ready_in_ms": self.ready_in_ms,
        })
    }

    fn print_with(&self, routes: Routes, out: &mut impl Write) -> io::Result<()> {
        self.print_machine(out)?;
        for warning in &self.warnings {
            writeln!(out, "[warn] {}", printable(warning))?;
        }
        writeln!(out, "sandbox {}", printable(&self.sandbox))?;
        self.print_media(out)?;
        let told = outward(routes, &self.rtsp_addrs);
        for addr in &told {
            let url = rtsp_url(*addr, "");
            let rtcp = self.rtp_port.saturating_add(1);
            writeln!(out, "rtsp    {url:<34} udp rtp {} rtcp {rtcp}", self.rtp_port)?;
        }
        for (what, scheme, addrs) in
            [("rtsps", "rtsps", &self.rtsps_addrs), ("tunnel", "http", &self.http_addrs)]
        {
            for addr in outward(routes, addrs) {
                writeln!(out, "{what:<7} {scheme}://{addr}/")?;
            }
        }
        self.print_pages(routes, out)?;
        let admin = inward(self.admin);
        writeln!(out, "admin   http://{admin}/   metrics /metrics   sessions /v1/sessions")?;
        if let (Some(bound), Some(outward)) = (self.rtsp_addrs.first(), told.first()) {
            let words = ["try it"].into_iter().chain(std::iter::repeat(""));
            for (word, line) in words.zip(self.examples(*bound, *outward)) {
                writeln!(out, "{word:<7} {line}")?;
            }
            if let Some(line) = publishing(*bound) {
                writeln!(out, "publish {line}")?;
            }
        }
        writeln!(out, "ready in {} ms", self.ready_in_ms)?;
        out.flush()
    }

    /// Where browsers find a picture: the page of the first example.
    fn print_pages(&self, routes: Routes, out: &mut impl Write) -> io::Result<()> {
        let example =
            self.example_paths.first().map_or_else(|| "PATH".to_owned(), |path| encode_path(path));
        let mut told = Vec::new();
        for addr in self.hls_addrs.iter().map(|addr| routes.outward(*addr)) {
            if !told.contains(&addr) {
                writeln!(out, "hls     http://{addr}/{example}/   in a browser")?;
                told.push(addr);
            }
        }
        Ok(())
    }

    fn print_machine(&self, out: &mut impl Write) -> io::Result<()> {
        let ring = if self.ring_features.is_empty() {
            "no features".to_owned()
        } else {
            self.ring_features.join(", ")
        };
        let gso = if self.gso { "yes" } else { "no" };
        writeln!(
            out,
            "headend {}  kernel {}  io_uring: {ring}   GSO {gso}  {}  {}",
            self.version,
            self.kernel,
            threads(&self.shard_cpus, "shard"),
            threads(&self.worker_cpus, "worker"),
        )
    }

    fn print_media(&self, out: &mut impl Write) -> io::Result<()> {
        let Some(media) = &self.media else {
            return writeln!(out, "media   built-in clip   to serve a folder: headend ./movies");
        };
        let root = printable(&media.root.to_string_lossy());
        let more = if media.complete { "" } else { "+" };
        let noun = if media.titles == 1 && media.complete { "title" } else { "titles" };
        write!(out, "media   {root}   {}{more} {noun}", media.titles)?;
        if !media.by_kind.is_empty() {
            let kinds: Vec<_> =
                media.by_kind.iter().map(|(k, count)| format!("{count} {k}")).collect();
            write!(out, " ({})", printable(&kinds.join(", ")))?;
        }
        let skipped = media.skipped.len() + media.more_skipped;
        if skipped > 0 {
            write!(out, "   {skipped} skipped")?;
        }
        if !media.complete {
            write!(out, "   (more are found while serving)")?;
        }
        writeln!(out)?;
        for (name, reason) in media.skipped.iter().take(SKIPPED_MAX) {
            let (name, reason) = (printable(name), printable(reason));
            writeln!(out, "        skipped: {name} \"{reason}\" (HE-E210)")?;
        }
        let unnamed = skipped - media.skipped.len().min(SKIPPED_MAX);
        if unnamed > 0 {
            writeln!(out, "        skipped: {unnamed} more, see /v1/vod")?;
        }
        Ok(())
    }

    /// Lines to try. `bound` is a listener's own address, `outward` what other machines call it.
    fn examples(&self, bound: SocketAddr, outward: SocketAddr) -> Vec<String> {
        match (&self.media, self.example_paths.first()) {
            (None, path) => {
                let path = path.map_or("demo", String::as_str);
                let (here, there) = (inward(bound), outward);
                let mut lines = vec![format!("ffplay {}", rtsp_url(here, path))];
                if here != there {
                    lines.push(format!("vlc {}", rtsp_url(there, path)));
                }
                lines
            }
            (Some(_), Some(path)) => {
                let url = rtsp_url(outward, path);
                let first = [format!("ffplay -rtsp_transport tcp {url}"), format!("vlc {url}")];
                let others = self.example_paths.iter().skip(1).take(EXAMPLES_MAX);
                first.into_iter().chain(others.map(|path| rtsp_url(outward, path))).collect()
            }
            (Some(media), None) => {
                let root = printable(&media.root.to_string_lossy());
                let url = rtsp_url(outward, "vod/");
                vec![format!("copy a film into {root} and play {url}NAME")]
            }
        }
    }
}

/// What other machines call these addresses, each once.
fn outward(routes: Routes, addrs: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut told = Vec::new();
    for addr in addrs.iter().map(|addr| routes.outward(*addr)) {
        if !told.contains(&addr) {
            told.push(addr);
        }
    }
    told
}

/// How to feed a live path. From this machine: others may not, unless they are allowed to.
fn publishing(bound: SocketAddr) -> Option<String> {
    let here = inward(bound);
    let url = rtsp_url(here, "live/cam1");
    here.ip().is_loopback().then(|| format!("ffmpeg -re -i in.mp4 -c copy -f rtsp {url}"))
}

/// `8 shards (0-7)`.
fn threads(on_cpus: &[usize], noun: &str) -> String {
    let count = on_cpus.len();
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural} ({})", cpus::show(on_cpus))
}

/// Enough to see a pattern; `/v1/vod` has them all.
const SKIPPED_MAX: usize = 5;

/// Examples beyond the first one.
const EXAMPLES_MAX: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn startup() -> Startup {
        Startup {
            version: "0.1.0".into(),
            kernel: "6.8.0".into(),
            ring_features: vec!["send-zc".into(), "multishot recv".into()],
            gso: true,
            shard_cpus: vec![0, 1, 2, 3],
            worker_cpus: vec![1],
            media: None,
            rtsp_addrs: vec!["[::]:8554".parse().unwrap()],
            rtsps_addrs: Vec::new(),
            http_addrs: Vec::new(),
            hls_addrs: Vec::new(),
            rtp_port: 8_000,
            admin: "127.0.0.1:9997".parse().unwrap(),
            sandbox: "user headend   landlock on (ABI 7)   seccomp on (180 calls)".into(),
            example_paths: vec!["demo".into()],
            warnings: Vec::new(),
            ready_in_ms: 41,
        }
    }

    fn printed(startup: &Startup) -> String {
        let routes = Routes { v4: Some(Ipv4Addr::new(192, 0, 2, 10)), v6: None };
        let mut out = Vec::new();
        startup.print_with(routes, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn folder_is_summed_up_with_lines_to_copy() {
        let media = MediaSummary {
            root: "./movies".into(),
            titles: 12,
            by_kind: vec![("mp4".into(), 10), ("mov".into(), 2)],
            skipped: vec![("bad.mp4".into(), "no moov box".into())],
            more_skipped: 0,
            complete: true,
        };
        let startup = Startup {
            media: Some(media),
            example_paths: vec!["vod/big film.mp4".into(), "vod/d/\u{e9}.mov".into()],
            warnings: vec![
                "net.core.rmem_max 212992 is small for UDP; run: \
                 sudo sysctl -w net.core.rmem_max=8388608   (HE-W101)"
                    .into(),
            ],
            ..startup()
        };
        insta::assert_snapshot!(printed(&startup), @r#"
        headend 0.1.0  kernel 6.8.0  io_uring: send-zc, multishot recv   GSO yes  4 shards (0-3)  1 worker (1)
        [warn] net.core.rmem_max 212992 is small for UDP; run: sudo sysctl -w net.core.rmem_max=8388608   (HE-W101)
        sandbox user headend   landlock on (ABI 7)   seccomp on (180 calls)
        media   ./movies   12 titles (10 mp4, 2 mov)   1 skipped
                skipped: bad.mp4 "no moov box" (HE-E210)
        rtsp    rtsp://192.0.2.10:8554/            udp rtp 8000 rtcp 8001
        admin   http://127.0.0.1:9997/   metrics /metrics   sessions /v1/sessions
        try it  ffplay -rtsp_transport tcp rtsp://192.0.2.10:8554/vod/big%20film.mp4
                vlc rtsp://192.0.2.10:8554/vod/big%20film.mp4
                rtsp://192.0.2.10:8554/vod/d/%C3%A9.mov
        publish ffmpeg -re -i in.mp4 -c copy -f rtsp rtsp://127.0.0.1:8554/live/cam1
        ready in 41 ms
        "#);
    }

    #[test]
    fn built_in_clip_is_offered_to_this_machine_first() {
        insta::assert_snapshot!(printed(&startup()), @r"
        headend 0.1.0  kernel 6.8.0  io_uring: send-zc, multishot recv   GSO yes  4 shards (0-3)  1 worker (1)
        sandbox user headend   landlock on (ABI 7)   seccomp on (180 calls)
        media   built-in clip   to serve a folder: headend ./movies
        rtsp    rtsp://192.0.2.10:8554/            udp rtp 8000 rtcp 8001
        admin   http://127.0.0.1:9997/   metrics /metrics   sessions /v1/sessions
        try it  ffplay rtsp://127.0.0.1:8554/demo
                vlc rtsp://192.0.2.10:8554/demo
        publish ffmpeg -re -i in.mp4 -c copy -f rtsp rtsp://127.0.0.1:8554/live/cam1
        ready in 41 ms
        ");
    }

    #[test]
    fn bound_ports_stand_in_the_lines_that_scripts_read() {
        let startup = Startup {
            rtsp_addrs: vec!["127.0.0.1:40001".parse().unwrap(), "[::1]:40002".parse().unwrap()],
            rtsps_addrs: Vec::new(),
            http_addrs: Vec::new(),
            hls_addrs: Vec::new(),
            admin: "127.0.0.1:40003".parse().unwrap(),
            rtp_port: 40_004,
            ..startup()
        };
        let text = printed(&startup);
        let lines = |word: &str| -> Vec<_> {
            text.lines().filter(|line| line.starts_with(word)).map(str::to_owned).collect()
        };
        assert_eq!(lines("rtsp").len(), 2);
        assert!(lines("rtsp")[0].contains(" rtsp://127.0.0.1:40001/ "));
        assert!(lines("rtsp")[0].contains("udp rtp 40004 rtcp 40005"));
        assert!(lines("rtsp")[1].contains(" rtsp://[::1]:40002/ "));
        assert!(lines("admin")[0].contains(" http://127.0.0.1:40003/ "));
        assert!(lines("try it")[0].ends_with("ffplay rtsp://127.0.0.1:40001/demo"));
    }

    #[test]
    fn listeners_with_the_same_url_are_told_once() {
        let startup = Startup {
            rtsp_addrs: vec!["[::]:8554".parse().unwrap(), "0.0.0.0:8554".parse().unwrap()],
            rtsps_addrs: Vec::new(),
            http_addrs: Vec::new(),
            hls_addrs: Vec::new(),
            ..startup()
        };
        assert_eq!(printed(&startup).matches("\nrtsp ").count(), 1);
    }

    #[test]
    fn many_skipped_files_take_few_lines_and_cannot_move_the_cursor() {
        let skipped = (0..7).map(|i| (format!("{i}\u{1b}[2J.mp4"), "bad\nbox".into())).collect();
        let media = MediaSummary {
            root: "m".into(),
            titles: 1_000,
            by_kind: Vec::new(),
            skipped,
            more_skipped: 40,
            complete: false,
        };
        let startup = Startup { media: Some(media), example_paths: Vec::new(), ..startup() };
        insta::assert_snapshot!(printed(&startup), @r#"
        headend 0.1.0  kernel 6.8.0  io_uring: send-zc, multishot recv   GSO yes  4 shards (0-3)  1 worker (1)
        sandbox user headend   landlock on (ABI 7)   seccomp on (180 calls)
        media   m   1000+ titles   47 skipped   (more are found while serving)
                skipped: 0?[2J.mp4 "bad?box" (HE-E210)
                skipped: 1?[2J.mp4 "bad?box" (HE-E210)
                skipped: 2?[2J.mp4 "bad?box" (HE-E210)
                skipped: 3?[2J.mp4 "bad?box" (HE-E210)
                skipped: 4?[2J.mp4 "bad?box" (HE-E210)
                skipped: 42 more, see /v1/vod
        rtsp    rtsp://192.0.2.10:8554/            udp rtp 8000 rtcp 8001
        admin   http://127.0.0.1:9997/   metrics /metrics   sessions /v1/sessions
        try it  copy a film into m and play rtsp://192.0.2.10:8554/vod/NAME
        publish ffmpeg -re -i in.mp4 -c copy -f rtsp rtsp://127.0.0.1:8554/live/cam1
        ready in 41 ms
        "#);
    }
}

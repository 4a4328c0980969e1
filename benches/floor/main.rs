//! The floor under the server: the same bursts on the same path, and nothing else.
//!
//! ```text
//!  film -> Shape: frames, runs, packets (the server's own packet windows)
//!             |
//!          pace: a wheel of 2 ms, clients that start one after the other
//!             |
//!          Sender: sendmsg, or io_uring in batches
//!             |      udp: runs with UDP_SEGMENT; tcp: one gather-send a frame and connection
//!             v
//!          drain (a child process that receives as headend-loadgen does)
//! ```
//! No RTSP, no sessions, no reports. What a server spends on top of this is its own; the aim is in
//! DESIGN section 10. `scripts/floor.sh` runs both in turn, and this program reads the reports of
//! all rounds (`--rounds`); it also prints the points of `scripts/curve.sh` (`--curve`). On
//! loopback the kernel's work of receiving is charged to whoever sends, here as there.
//!
//! Invariant: a send has the packets that the server would put into it, header for header.
//! Bound: it ends after the ramp and the seconds asked for.

mod curve;
mod drain;
mod gather;
mod image;
mod live;
mod pace;
mod report;
mod ring;
mod rounds;
mod send;
mod shape;
mod table;
mod tcp;
mod udp;

use std::error::Error;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use image::ImageMemory;
use live::LiveShape;
use pace::Load;
use report::Report;
use send::{Transport, Way};
use shape::Shape;

/// What went wrong, for people.
pub(crate) type Failure = Box<dyn Error>;

/// Sends what a server would send, without the server.
#[derive(Debug, Parser)]
#[command(name = "floor")]
struct Options {
    /// Media file whose packets are sent; without it nothing is done
    #[arg(long, value_name = "FILE")]
    film: Option<PathBuf>,
    /// Clients: addresses from 127.64.0.1 on
    #[arg(short = 'n', long, default_value_t = 1_000, value_name = "N")]
    clients: u32,
    /// Sends a made-up film as a live path does, each picture to all clients at once; what it is
    /// like as for `headend-loadgen --publish`, such as --live=--bit-rate=4M
    #[arg(long, value_name = "OPTION", num_args = 0..=1, require_equals = true,
          default_missing_value = "", conflicts_with = "film")]
    live: Vec<String>,
    /// How long to measure after every client has been started
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    seconds: u32,
    /// Clients started per second
    #[arg(long, default_value_t = 200, value_name = "RATE",
          value_parser = clap::value_parser!(u32).range(1..))]
    ramp: u32,
    /// What carries the packets
    #[arg(long, value_enum, default_value = "udp", value_name = "TRANSPORT")]
    transport: Transport,
    /// How sends reach the kernel; several are run one after the other
    #[arg(long, value_enum, default_value = "sendmsg", value_name = "WAY")]
    via: Vec<Way>,
    /// Memory of the packets for `--via image` and `--via image-zc`
    #[arg(long, value_enum, default_value = "anonymous", value_name = "KIND")]
    image_memory: ImageMemory,
    /// Sends UDP to clients at this address, from port 8000 and without a receiver: into a network
    /// that drops it
    #[arg(long, value_name = "ADDRESS", conflicts_with = "live")]
    away: Option<Ipv4Addr>,
    /// CPU that sends
    #[arg(long, value_name = "CPU")]
    cpu: Option<usize>,
    /// CPU that receives
    #[arg(long, value_name = "CPU")]
    drain_cpu: Option<usize>,
    /// Report of `headend-loadgen --json` on a server that was given the same load
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    /// Writes the figures there as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Sends nothing: prints what the reports of several rounds say together
    #[arg(long, value_name = "DIR", conflicts_with = "film")]
    rounds: Option<PathBuf>,
    /// Sends nothing: prints the points of a curve over numbers of sessions
    #[arg(long, value_name = "DIR", conflicts_with = "film")]
    curve: Option<PathBuf>,
    /// The receiving side: started by the sending one
    #[arg(long, hide = true, value_name = "TRACKS")]
    drain_udp: Option<usize>,
    /// The receiving side of TCP
    #[arg(long, hide = true, value_name = "PORTxCLIENTS")]
    drain_tcp: Option<String>,
    /// What cargo says to benches.
    #[arg(long, hide = true)]
    bench: bool,
    /// Names of benches; they mean others.
    #[arg(hide = true)]
    filter: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "floor: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    if let Some(tracks) = options.drain_udp {
        pin(options.drain_cpu)?;
        return drain::receive_udp(tracks);
    }
    if let Some(what) = &options.drain_tcp {
        pin(options.drain_cpu)?;
        raise_descriptor_limit();
        return drain::receive_tcp(what);
    }
    if let Some(folder) = &options.rounds {
        let is_live = !options.live.is_empty();
        return Ok(write!(out, "{}", rounds::Rounds::read(folder, is_live)?)?);
    }
    if let Some(folder) = &options.curve {
        return Ok(write!(out, "{}", curve::Curve::read(folder)?)?);
    }
    if !options.live.is_empty() {
        return send_live(options, &mut out);
    }
    let Some(film) = &options.film else {
        let hint = "floor: nothing to send; name a --film, or run scripts/floor.sh";
        return Ok(writeln!(out, "{hint}")?);
    };
    let load = Load { clients: options.clients, seconds: options.seconds, ramp: options.ramp };
    let server = options.server.as_ref().map(|path| Report::read_server(path)).transpose()?;
    pin(options.cpu)?;
    raise_descriptor_limit();
    let mut found = Vec::with_capacity(options.via.len());
    for way in &options.via {
        if way.is_image() && options.transport == Transport::Tcp {
            return Err("images are sent over UDP".into());
        }
        let shape = Shape::of_film(film, way.is_image().then_some(options.image_memory))?;
        load.check(&shape)?;
        let kind = (options.transport, *way);
        found.push(pace::run(&shape, load, kind, options.away, options.drain_cpu)?);
    }
    if let Some(path) = &options.json {
        std::fs::write(path, report::floor_json(&found))?;
    }
    Ok(write!(out, "{}", table::Table { load, found: &found, server })?)
}

/// A live path, every way that was asked for.
fn send_live(options: &Options, out: &mut impl Write) -> Result<(), Failure> {
    let words: Vec<String> = options.live.iter().filter(|word| !word.is_empty()).cloned().collect();
    let load = Load { clients: options.clients, seconds: options.seconds, ramp: options.ramp };
    let server = options.server.as_ref().map(|path| Report::read_server(path)).transpose()?;
    pin(options.cpu)?;
    raise_descriptor_limit();
    let mut found = Vec::with_capacity(options.via.len());
    for way in &options.via {
        if way.is_image() {
            return Err("a live path's packets stand in memory as on the wire anyway".into());
        }
        let mut shape = LiveShape::new(&words, options.transport)?;
        let kind = (options.transport, *way);
        found.push(live::run(&mut shape, load, kind, options.drain_cpu)?);
    }
    if let Some(path) = &options.json {
        std::fs::write(path, report::floor_json(&found))?;
    }
    Ok(write!(out, "{}", table::Table { load, found: &found, server })?)
}

/// A connection for each client: takes what the system allows.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Keeps this process on one CPU.
fn pin(cpu: Option<usize>) -> Result<(), Failure> {
    let Some(cpu) = cpu else { return Ok(()) };
    let mut set = rustix::thread::CpuSet::new();
    if cpu >= rustix::thread::CpuSet::MAX_CPU {
        return Err(format!("there is no CPU {cpu}").into());
    }
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set)
        .map_err(|error| format!("CPU {cpu} cannot be used: {error}").into())
}

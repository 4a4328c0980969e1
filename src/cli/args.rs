//! The grammar of the command line.
//!
//! `headend DIR` is `headend serve DIR`: a word that is no verb is the folder. A folder that is
//! named like a verb is written `./probe`. Values of flags are read by `config`, so that a flag, a
//! variable and a line in the file take the same words and are refused with the same ones.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod base;
mod cert;
mod drain;
pub mod job;
mod moves;
mod node;
mod server;
mod user;

pub use base::BaseArgs;
pub use cert::{CertVerb, SelfSignedArgs};
pub use drain::DrainArgs;
pub use moves::SessionMoveArgs;
pub use node::{NodeArgs, NodeStartArgs};
pub use server::ServerArgs;
pub use user::{TokenRole, UserAddArgs, UserTokenArgs, UserVerb};

use super::Failure;
use crate::base::rate::Rate;
use crate::config::value::Setting;
use crate::config::{self, FILE_BYTES_MAX, FlagSetting, Loaded};
use crate::dist::window::{RateSchedule, Window};
use crate::sandbox;
use job::JobVerb;

/// Arguments of the command line.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(
    name = "headend",
    version,
    about = "A streaming appliance: recorded media over RTSP, RTP and RTCP",
    help_template = TEMPLATE,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
)]
pub struct Cli {
    /// The verb; without one it is `serve`.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Of `serve`, when there is no verb.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// Verbs.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Serve a folder of media files, or a built-in clip (what `headend DIR` does)
    Serve(ServeArgs),
    /// Run the base of a distribution: jobs of clients in, contents out to nodes
    Base(BaseArgs),
    /// Run a node: serve a folder to which a base delivers contents
    Node(Box<NodeArgs>),
    /// Show what is in a media file and how it would be sent
    Probe(ProbeArgs),
    /// Check this machine, and print the command that fixes what it lacks
    Doctor(DoctorArgs),
    /// Check, explain and show the configuration
    Config {
        /// What to do with it.
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// Make a certificate for RTSP over TLS
    Cert {
        /// What to make.
        #[command(subcommand)]
        verb: CertVerb,
    },
    /// Make passwords and tokens for the configuration
    User {
        /// What to make.
        #[command(subcommand)]
        verb: UserVerb,
    },
    /// Show live paths of a running server, end one, switch its source
    Path {
        /// What to do with them.
        #[command(subcommand)]
        verb: PathVerb,
    },
    /// Show sessions of a running server, end one, and press keys for its viewer
    Session {
        /// What to do with them.
        #[command(subcommand)]
        verb: SessionVerb,
    },
    /// Have a running server take no new sessions: 503, or 302 to another server
    Drain(DrainArgs),
    /// Have a drained server take new sessions again
    Undrain(RemoteArgs),
    /// Show the limits of a running server, and how much of each is used
    Limits(RemoteArgs),
    /// Watch a running server: live numbers, sessions, live paths, warnings of its log
    Top(RemoteArgs),
    /// Bring files to nodes by a base, and show and change such jobs
    Job {
        /// What to do with them.
        #[command(subcommand)]
        verb: JobVerb,
    },
    /// Write man pages, completions of shells and the seccomp profile of containers
    #[command(hide = true)]
    Generate(GenerateArgs),
}

/// A rate by time of day, of `--up-rate` and `--up-window`.
pub(super) fn schedule(usual: Option<Rate>, windows: &[(Window, Rate)]) -> RateSchedule {
    let windows = windows.iter().map(|(window, rate)| (window.clone(), rate.bytes_per_s()));
    RateSchedule::new(usual.map(Rate::bytes_per_s), windows.collect())
}

/// Words behind `serve`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
pub struct ServeArgs {
    /// Folder to serve, with its subfolders, at /vod/; without one a built-in clip is at /demo
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Take over from the running server: its ports, connections and sessions. Where some cannot
    /// be handed over it goes on, or with `drop` they end; with `or-reload`, for ExecReload= of a
    /// unit, it goes on and reads its configuration again
    #[arg(
        long,
        value_name = "whole|drop|or-reload",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "whole"
    )]
    pub takeover: Option<TakeoverMode>,
    /// The socket of the running server, where server.takeover is another one now
    #[arg(long, value_name = "PATH", requires = "takeover")]
    pub takeover_at: Option<PathBuf>,
    /// End when the new server serves, which runs on in the background: for ExecReload= of a unit
    #[arg(long, requires = "takeover")]
    pub background: bool,
    /// The standard input is the socket of a program that waits
    #[arg(long, requires = "takeover", hide = true)]
    pub tells_starter: bool,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// What becomes of sessions that cannot be handed over to another program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TakeoverMode {
    /// The running server goes on.
    Whole,
    /// They end.
    Drop,
    /// The running server goes on, and reads its configuration again: whatever the reason is why
    /// nothing is taken over.
    OrReload,
}

/// Words behind `generate`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct GenerateArgs {
    /// Folder that gets the files; it is made when it is not there
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// Words behind `probe`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ProbeArgs {
    /// Media file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Words behind `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DoctorArgs {
    /// Configuration file (TOML) that says which ports, CPUs and folder will be used
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print a shell script of all fixes; nothing is changed by this program
    #[arg(long, conflicts_with = "json")]
    pub fix_script: bool,
}

/// Verbs behind `config`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ConfigVerb {
    /// Say whether a configuration is valid: exit code 0, or 2 with line and column
    Check(ConfigArgs),
    /// Print every key with its default, as a file to start from
    Default,
    /// Print the values that count, and where each comes from
    Show(ShowArgs),
    /// Have a running server read its file again: only paths that changed are touched
    Reload(RemoteArgs),
}

/// Words behind `config check`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ConfigArgs {
    /// Configuration file (TOML)
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Words behind `config show`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ShowArgs {
    /// Configuration file (TOML)
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Verbs behind `path`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum PathVerb {
    /// List live paths: state, source, tracks, bit rate, readers
    Ls(RemoteArgs),
    /// Show one path: its source, each track, what is kept, readers and their skips
    Show(PathNameArgs),
    /// End a path's source and readers; what is fetched is fetched again
    Kick(PathNameArgs),
    /// Feed a path from another of its sources; it stays until another switch or its loss
    Switch(PathSwitchArgs),
    /// Show and edit the playlist of a path
    Playlist {
        /// What to do with it.
        #[command(subcommand)]
        verb: PlaylistVerb,
    },
}

/// Verbs behind `path playlist`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum PlaylistVerb {
    /// List the items in order, each with its number, its time and what becomes of it
    Ls(PathNameArgs),
    /// Put a title into the list; without a place, behind all others
    Insert(PlaylistInsertArgs),
    /// Have the next title begin at once
    Skip(PathNameArgs),
    /// Take an item out of the list; if it plays, the next one begins at once
    Remove(PlaylistItemArgs),
}

/// Words behind `path playlist insert`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PlaylistInsertArgs {
    /// Name of the path, like live/linear
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Title, by its path inside the folder of titles
    #[arg(value_name = "TITLE")]
    pub title: String,
    /// In front of the item with this number
    #[arg(long, value_name = "ITEM", group = "where")]
    pub before: Option<u64>,
    /// Behind the item with this number
    #[arg(long, value_name = "ITEM", group = "where")]
    pub after: Option<u64>,
    /// With so many items in front of it: 0 is the first place
    #[arg(long, value_name = "PLACE", group = "where")]
    pub place: Option<usize>,
    /// Time of day at which it begins, by the path's `playlist_clock`
    #[arg(long, value_name = "HH:MM:SS")]
    pub at: Option<String>,
    /// The server.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Words behind `path playlist remove`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PlaylistItemArgs {
    /// Name of the path, like live/linear
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Number of the item, as `ls` shows it
    #[arg(value_name = "ITEM")]
    pub item: u64,
    /// The server.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Verbs behind `session`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum SessionVerb {
    /// List sessions: players and publishers
    Ls(SessionsArgs),
    /// Show one session with its streams
    Show(SessionIdArgs),
    /// End a session; its player gets BYE
    Kick(SessionIdArgs),
    /// Move a session to another shard, with all on its connection; its player notices nothing
    Move(SessionMoveArgs),
    /// Press a viewer's keys: 0 to 9, up, down, last, play, pause, forward, rewind
    Keys(SessionKeysArgs),
    /// Tune a session of a line-up to a channel
    Tune(SessionTuneArgs),
}

/// Where a running server is, and how to show what it says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
pub struct RemoteArgs {
    /// Address of the server's HTTP API [default: that of the configuration, 127.0.0.1:9997]
    #[arg(long, value_name = "IP:PORT")]
    pub admin: Option<String>,
    /// Configuration file (TOML) that names the address
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// File with the token that a server on another machine wants
    /// [default: of the environment, HEADEND_ADMIN_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub token: Option<PathBuf>,
    /// Print JSON as the server sends it
    #[arg(long)]
    pub json: bool,
}

/// Words behind `path show` and `path kick`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PathNameArgs {
    /// Name of the path, like live/cam1
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The server.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Words behind `path switch`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PathSwitchArgs {
    /// Name of the path, like live/cam1
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The source: as the configuration names it, its path (live/cam1~1), its place in the order,
    /// or auto: the best one, as without an operator
    #[arg(long, value_name = "SRC")]
    pub to: String,
    /// Where it begins: at its next key frame, or now, at its newest one
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub at: SwitchAt,
    /// The server.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Where a source begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum SwitchAt {
    /// At its next key frame.
    #[default]
    #[value(name = "keyframe")]
    KeyFrame,
    /// At its newest key frame, at once.
    Now,
}

impl SwitchAt {
    /// As the API takes it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::KeyFrame => "keyframe",
            Self::Now => "now",
        }
    }
}

/// Words behind `session ls`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SessionsArgs {
    /// Only sessions of this path
    #[arg(long, value_name = "NAME")]
    pub path: Option<String>,
    /// The server.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Words behind `session show` and `session kick`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SessionIdArgs {
    /// Id of the session
    #[arg(value_name = "ID")]
    pub id: String,
    /// The server.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Words behind `session keys`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SessionKeysArgs {
    /// Id of the session
    #[arg(value_name = "ID")]
    pub id: String,
    /// Keys, in their order
    #[arg(value_name = "KEY", required = true)]
    pub keys: Vec<String>,
    /// How it is sent.
    #[command(flatten)]
    pub once: OnceArgs,
    /// The server.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Words behind `session tune`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SessionTuneArgs {
    /// Id of the session
    #[arg(value_name = "ID")]
    pub id: String,
    /// Number of the channel
    #[arg(value_name = "CHANNEL")]
    pub channel: String,
    /// How it is sent.
    #[command(flatten)]
    pub once: OnceArgs,
    /// The server.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Whether a command may be given again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
pub struct OnceArgs {
    /// A second command with the same key does nothing, and shows what the first one did
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

impl RemoteArgs {
    /// Where the server's API is: by the flag, the environment, the file, or the default.
    ///
    /// # Errors
    /// A usage failure that names what is wrong.
    pub fn address(
        &self,
        env: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<SocketAddr, Failure> {
        let flag = self.admin.clone().map(|admin| FlagSetting {
            key: "admin.listen",
            flag: "--admin",
            value: Setting::Text(admin),
        });
        let flags: Vec<FlagSetting> = flag.into_iter().collect();
        Ok(load(self.config.as_ref(), env, &flags)?.config.admin)
    }
}

impl ServeArgs {
    /// The configuration that these words, the file they name and the environment add up to.
    ///
    /// # Errors
    /// A usage failure that names what is wrong.
    pub fn load(
        &self,
        env: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Loaded, Failure> {
        self.server.load(self.dir.as_deref(), env)
    }
}

/// Reads the file, if there is one, and puts everything together.
pub(super) fn load(
    file: Option<&PathBuf>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    flags: &[FlagSetting],
) -> Result<Loaded, Failure> {
    // Variables that are not UTF-8 are not ours.
    let env = env
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let Some(path) = file else { return Ok(config::load(None, env, flags)?) };
    let name = path.display().to_string();
    let text = read_file(path).map_err(|error| config::ConfigError::Unreadable {
        file: name.clone(),
        reason: sandbox::why(path, &error),
    })?;
    let mut loaded = config::load(Some((&name, &text)), env, flags)?;
    loaded.config.file = Some(path.clone());
    Ok(loaded)
}

fn read_file(path: &PathBuf) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    let bytes = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if u64::try_from(bytes).is_ok_and(|bytes| bytes > FILE_BYTES_MAX) {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

/// Examples first: most people look for a line to copy.
const TEMPLATE: &str = "\
{name} {version}: {about}

Examples:
  headend                              serve the built-in clip at rtsp://127.0.0.1:8554/demo
  headend ./movies                     serve a folder at rtsp://HOST:8554/vod/
  headend ./movies --listen [::]:554 --shards 0-3 --workers 4,5
  headend probe film.mp4               what is in a file, and how it would be sent
  headend doctor                       what this machine lacks, and the fix
  headend path ls                      live paths of the running server: source, readers, lag
  headend session ls --path live/cam1  who plays it, with loss and lag
  headend job push ./movies --watch    send a folder to all nodes of a base
  headend config default > headend.toml && headend -c headend.toml

{usage-heading} {usage}

{all-args}

A folder that is named like a verb is written with its path: headend ./probe
Configuration: flag > environment (HEADEND__RTSP__LISTEN) > file > default.
Exit codes: 0 ok, 1 failed while running, 2 usage, configuration or a taken port, 3 not reachable.
";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    fn serve(line: &str) -> ServeArgs {
        let cli = parse(line).unwrap();
        match cli.command {
            None => cli.serve,
            Some(Command::Serve(args)) => args,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn word_that_is_no_verb_is_the_folder() {
        for line in ["headend movies", "headend serve movies"] {
            assert_eq!(serve(line).dir, Some("movies".into()), "{line}");
        }
        assert_eq!(serve("headend").dir, None);
        assert_eq!(serve("headend serve").dir, None);
        assert_eq!(serve("headend ./probe").dir, Some("./probe".into()));
        assert_eq!(serve("headend serve probe").dir, Some("probe".into()));
    }

    #[test]
    fn flags_stand_before_or_behind_the_folder() {
        let lines = [
            "headend movies --listen 127.0.0.1:0 --listen [::1]:0 --rtp-port 0 --shards 0-1",
            "headend --listen 127.0.0.1:0 --listen=[::1]:0 --rtp-port=0 --shards 0-1 movies",
            "headend serve --shards 0-1 movies --listen 127.0.0.1:0 --listen [::1]:0 --rtp-port 0",
        ];
        for line in lines {
            let args = serve(line);
            assert_eq!(args.dir, Some("movies".into()), "{line}");
            let config = args.load([]).unwrap().config;
            assert_eq!(config.listen.len(), 2, "{line}");
            assert_eq!(config.rtp_port, 0, "{line}");
            assert_eq!(config.shards, config::CpuList::Cpus(vec![0, 1]), "{line}");
        }
    }

    #[test]
    fn verbs_take_their_words() {
        let cases = [
            (
                "headend probe a.mp4 --json",
                Command::Probe(ProbeArgs { file: "a.mp4".into(), json: true }),
            ),
            (
                "headend doctor --fix-script",
                Command::Doctor(DoctorArgs { config: None, json: false, fix_script: true }),
            ),
            (
                "headend path kick live/cam1 --admin 127.0.0.1:1",
                Command::Path {
                    verb: PathVerb::Kick(PathNameArgs {
                        name: "live/cam1".to_owned(),
                        remote: RemoteArgs {
                            admin: Some("127.0.0.1:1".to_owned()),
                            ..RemoteArgs::default()
                        },
                    }),
                },
            ),
            (
                "headend path switch live/a --to live/a~1 --at now",
                Command::Path {
                    verb: PathVerb::Switch(PathSwitchArgs {
                        name: "live/a".to_owned(),
                        to: "live/a~1".to_owned(),
                        at: SwitchAt::Now,
                        remote: RemoteArgs::default(),
                    }),
                },
            ),
            (
                "headend session ls --json --path live/cam1",
                Command::Session {
                    verb: SessionVerb::Ls(SessionsArgs {
                        path: Some("live/cam1".to_owned()),
                        remote: RemoteArgs { json: true, ..RemoteArgs::default() },
                    }),
                },
            ),
            ("headend config default", Command::Config { verb: ConfigVerb::Default }),
            (
                "headend config check -c a.toml",
                Command::Config {
                    verb: ConfigVerb::Check(ConfigArgs { config: Some("a.toml".into()) }),
                },
            ),
        ];
        for (line, command) in cases {
            assert_eq!(parse(line).unwrap().command, Some(command), "{line}");
        }
    }

    #[test]
    fn words_of_the_unit_are_understood() {
        let unit = include_str!("../../tuning/headend.service");
        let words_of = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        let started = serve(words_of("ExecStart=/usr/bin/"));
        let reload = serve(words_of("ExecReload=/usr/bin/"));
        assert_eq!(reload.takeover, Some(TakeoverMode::OrReload));
        assert!(reload.background);
        let as_started = ServeArgs { takeover: None, background: false, ..reload };
        assert_eq!(as_started, started, "it serves what the server before has served");
    }

    #[test]
    fn wrong_words_are_usage_errors() {
        let lines = [
            "headend a b",
            "headend --listen",
            "headend --port 1",
            "headend probe",
            "headend config",
            "headend config edit",
            "headend path",
            "headend path show",
            "headend path switch live/a",
            "headend path switch live/a --to b --at once",
            "headend session kick",
            "headend path ls x",
            "headend a doctor",
            "headend doctor --json --fix-script",
        ];
        for line in lines {
            let error = parse(line).unwrap_err();
            assert!(error.use_stderr() && error.exit_code() == 2, "{line}");
        }
    }

    #[test]
    fn version_and_help_are_not_errors() {
        for line in ["headend --version", "headend -V", "headend --help", "headend probe --help"] {
            assert!(!parse(line).unwrap_err().use_stderr(), "{line}");
        }
    }

    #[test]
    fn help_shows_examples_before_flags() {
        let help = Cli::command().render_help().to_string();
        let at = |text: &str| help.find(text).unwrap();
        assert!(at("Examples:") < at("Usage:"));
        assert!(at("headend ./movies") < at("--listen <IP:PORT>"));
    }

    #[test]
    fn wrong_value_names_its_flag_and_is_a_usage_failure() {
        let failure = serve("headend --rtp-port 8001").load([]).unwrap_err();
        assert_eq!(failure.exit, super::super::Exit::Usage);
        assert!(failure.message.starts_with("--rtp-port: 8001 is odd"), "{failure}");
    }

    #[test]
    fn address_of_the_server_is_flag_before_environment_before_default() {
        let env = || [(OsString::from("HEADEND__ADMIN__LISTEN"), OsString::from("127.0.0.1:7"))];
        let args = |admin: Option<&str>| RemoteArgs {
            admin: admin.map(str::to_owned),
            ..RemoteArgs::default()
        };
        let port = |args: RemoteArgs| args.address(env()).unwrap().port();
        assert_eq!(port(args(Some("127.0.0.1:8"))), 8);
        assert_eq!(port(args(None)), 7);
        assert_eq!(args(None).address([]).unwrap().port(), 9_997);
        let failure = args(Some("localhost")).address([]).unwrap_err();
        assert!(failure.message.starts_with("--admin: "), "{failure}");
    }

    #[test]
    fn missing_configuration_file_is_a_usage_failure() {
        let failure = serve("headend -c /nonexistent/headend.toml").load([]).unwrap_err();
        assert_eq!(failure.exit, super::super::Exit::Usage);
        assert!(failure.message.starts_with("/nonexistent/headend.toml: "), "{failure}");
    }
}

//! `headend [serve] [DIR]`: configuration in, appliance running.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use super::args::{ServeArgs, ServerArgs, TakeoverMode};
use super::{Exit, Failure, log};
use crate::appliance::{
    self, EarlyHangup, GivesWay, ReadAgain, Starter, TakeoverAsk, start_in_background,
};
use crate::config::{Config, Origin};

/// Runs until the appliance stops.
pub(super) fn run(args: &ServeArgs) -> Result<Exit, Failure> {
    if args.background {
        return run_in_background(args);
    }
    if args.takeover == Some(TakeoverMode::OrReload) && !args.tells_starter {
        return Err(Failure::usage("--takeover=or-reload goes with --background"));
    }
    let early = EarlyHangup::watch()?;
    let loaded = args.load(std::env::vars_os())?;
    // A second server on one machine serves pages all the same, elsewhere.
    let is_default = |key| loaded.origin(key) == Origin::Default;
    let (hls, webrtc) = (is_default("hls.listen"), is_default("webrtc.listen"));
    let gives_way = GivesWay { hls, webrtc, ..GivesWay::default() };
    let config = loaded.config;
    if let Some(root) = &config.media_root {
        check_root(root)?;
    }
    let _flush = log::init(config.log, &config.limits)?;
    let read_again = read_again(&args.server, args.dir.as_deref());
    run_appliance((config, gives_way), read_again, early, takeover_ask(args)?)
}

/// Reads the configuration again, where there is a file to read.
pub(super) fn read_again(server: &ServerArgs, root: Option<&Path>) -> Option<ReadAgain> {
    server.config.as_ref()?;
    let (server, root) = (server.clone(), root.map(Path::to_owned));
    Some(Box::new(move || {
        let loaded = server.load(root.as_deref(), std::env::vars_os());
        loaded.map(|loaded| loaded.config).map_err(|failure| failure.message)
    }))
}

/// A wrong folder is most often a verb with a typing error, or a file that was to be probed.
pub(super) fn check_root(root: &Path) -> Result<(), Failure> {
    let shown = root.display();
    match std::fs::metadata(root) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Failure::usage(format!(
            "{shown} is not a folder; serve the folder it is in, or look into it with: \
             headend probe {shown}"
        ))),
        Err(error) => Err(Failure::usage(format!(
            "{shown}: {error}; DIR is a folder of media files; verbs are \
             serve, node, probe, doctor, config, path and session"
        ))),
    }
}

/// The one place where the command line meets the appliance.
fn run_appliance(
    (config, gives_way): (Config, GivesWay),
    read_again: Option<ReadAgain>,
    early: EarlyHangup,
    ask: Option<TakeoverAsk>,
) -> Result<Exit, Failure> {
    match appliance::run(config, gives_way, read_again, early, ask) {
        Ok(()) => Ok(Exit::Ok),
        Err(error) if error.is_usage() => Err(Failure::usage(error.to_string())),
        Err(error) => Err(Failure::runtime(error.to_string())),
    }
}

/// What `--takeover` and what belongs to it ask for.
fn takeover_ask(args: &ServeArgs) -> Result<Option<TakeoverAsk>, Failure> {
    let Some(mode) = args.takeover else { return Ok(None) };
    let starter = args.tells_starter.then(Starter::from_stdin).transpose()?;
    let (may_end, at) = (mode == TakeoverMode::Drop, args.takeover_at.clone());
    Ok(Some(TakeoverAsk { may_end, at, starter }))
}

/// Starts the same program again, and ends when that one serves or has ended.
fn run_in_background(args: &ServeArgs) -> Result<Exit, Failure> {
    // A wrong file ends this before anybody is asked anything.
    let config = args.load(std::env::vars_os())?.config;
    let _flush = log::init(config.log, &config.limits)?;
    let mut command = Command::new("/proc/self/exe");
    command.args(words_of_child(std::env::args_os().skip(1)));
    // What went wrong it has said itself.
    match start_in_background(&mut command)? {
        None => Ok(Exit::Ok),
        Some(_) if args.takeover == Some(TakeoverMode::OrReload) => {
            reload_instead(std::env::var_os("MAINPID").as_deref())
        }
        Some(code) if code == Exit::Usage as i32 => Ok(Exit::Usage),
        Some(_) => Ok(Exit::Runtime),
    }
}

/// The words of this program with that for its child, in the place of the one that is for this one:
/// the last words may be no flags any more.
fn words_of_child(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.collect();
    if let Some(word) = words.iter_mut().find(|word| *word == "--background") {
        *word = "--tells-starter".into();
    }
    words
}

/// Has the server that runs read its configuration again: what `systemctl reload` is for where
/// nothing can be taken over. `main` is its number, as systemd tells the command of a reload.
fn reload_instead(main: Option<&OsStr>) -> Result<Exit, Failure> {
    let number = main.and_then(OsStr::to_str).and_then(|number| number.parse::<i32>().ok());
    let Some(server) = number.filter(|number| *number > 0).and_then(Pid::from_raw) else {
        return Err(Failure::usage(
            "--takeover=or-reload is for ExecReload= of a unit: MAINPID does not say which server \
             is to read its configuration again",
        ));
    };
    let pid = server.as_raw_nonzero().get();
    kill_process(server, Signal::HUP).map_err(|error| {
        Failure::runtime(format!(
            "nothing was taken over, and the server {pid} cannot be told to read its configuration \
             again: {error}"
        ))
    })?;
    tracing::warn!(
        code = "HE-W128",
        pid,
        fix = "where a new program or other keys are to count: systemctl restart",
        "nothing was taken over, for the reason above: the server that runs goes on, and reads its \
         configuration again instead"
    );
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_for_the_child_stands_where_flags_are_read() {
        let of = |line: &str| {
            let words = words_of_child(line.split(' ').map(OsString::from));
            words.join(OsStr::new(" ")).into_string().unwrap()
        };
        let told = "serve --takeover --tells-starter -- --background";
        assert_eq!(of("serve --takeover --background -- --background"), told);
        assert_eq!(of("--background --takeover"), "--tells-starter --takeover");
    }

    #[test]
    fn reload_without_a_server_to_reload_is_a_failure_with_a_sentence() {
        for nobody in [None, Some(""), Some("0"), Some("-1"), Some("x"), Some("99999999999")] {
            let failure = reload_instead(nobody.map(OsStr::new)).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{nobody:?}");
            assert!(failure.message.contains("MAINPID"), "{failure}");
        }
        let mut ended = Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let failure = reload_instead(Some(OsStr::new(&ended.id().to_string()))).unwrap_err();
        assert_eq!(failure.exit, Exit::Runtime);
        assert!(failure.message.contains("nothing was taken over"), "{failure}");
    }

    #[test]
    fn folder_that_is_missing_or_a_file_is_a_usage_failure() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.mp4");
        std::fs::write(&file, b"x").unwrap();
        assert_eq!(check_root(dir.path()), Ok(()));
        let failure = check_root(&file).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("headend probe "), "{failure}");
        assert_eq!(check_root(&dir.path().join("none")).unwrap_err().exit, Exit::Usage);
    }
}
